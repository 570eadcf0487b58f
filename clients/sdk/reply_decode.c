#include "clients/sdk/reply_decode.h"

#include <string.h>

#include "actors/result_codes.h"
#include "clients/sdk/endpoint.h"
#include "engine/wire/protocol.h"

enum {
    REPLY_FIELDS_OF_REPLICA = 5,   /* it tells tokens too: engine/wire/query_protocol.h */
    REPLY_FIELDS_MAX = 5           /* behind a refusal's sentence a feed has a detail, and whose it
                                      is: engine/wire/feed_protocol.h */
};
enum { REPLY_CODE_MAX = 999 }; /* from 1000 on the numbers are the library's own */

static enum reply_kind reply_refuse(struct reply *reply, int code, const char *sentence) {
    reply->code = code;
    reply->sentence = sentence;
    reply->sentence_bytes = (uint32_t)strlen(sentence);
    return REPLY_REFUSED;
}

enum reply_kind reply_open(struct reply *reply, const void *data, size_t bytes) {
    *reply = (struct reply){0};
    msgpack_reader_init(&reply->at, data, bytes);
    uint32_t fields;
    uint64_t version, code;
    if (msgpack_read_array(&reply->at, &fields) != MSGPACK_OK || fields < 3 ||
        fields > REPLY_FIELDS_MAX ||
        msgpack_read_uint(&reply->at, &version) != MSGPACK_OK || version != PROTOCOL_VERSION ||
        msgpack_read_uint_upto(&reply->at, REPLY_CODE_MAX, &code) != MSGPACK_OK)
        return REPLY_GARBAGE;
    if (fields > 3 && code != RESULT_OK)
        return reply_refuse(reply, JUMUN_BAD_REPLY, PEER_FEED_TEXT);
    if (fields == REPLY_FIELDS_OF_REPLICA)
        return reply_refuse(reply, RESULT_READ_ONLY, "this is a query replica: ask a node");
    if (fields != 3) return REPLY_GARBAGE;
    reply->code = (int)code;
    if (code == RESULT_OK)
        return msgpack_read_array(&reply->at, &reply->count) == MSGPACK_OK ? REPLY_RESULTS
                                                                           : REPLY_GARBAGE;
    if (msgpack_read_str(&reply->at, &reply->sentence, &reply->sentence_bytes) != MSGPACK_OK)
        return REPLY_GARBAGE;
    return REPLY_REFUSED;
}

void reply_set_detail(jumun_result *result, const void *text, uint32_t bytes) {
    const uint8_t *p = text;
    size_t n = bytes;
    if (n >= sizeof result->detail) {
        n = sizeof result->detail - 1;
        while (n > 0 && (p[n] & 0xc0) == 0x80) n--;
    }
    if (n > 0) memcpy(result->detail, p, n);
    result->detail[n] = '\0';
}

/* What follows the flags: the value of a read, or the sentence, retry_after_ms and the leader's
 * endpoint of a refusal. */
static bool reply_tail(struct reply *reply, uint32_t fields, jumun_result *result,
                       const void **value, size_t *value_bytes) {
    struct msgpack_reader *r = &reply->at;
    if (result->code == RESULT_OK || result->code == RESULT_HELD) {
        if (fields > 6) return false;
        const uint8_t *start = r->at;
        if (msgpack_skip(r) != MSGPACK_OK) return false;
        if (*start == 0xc0) return true; /* nil: no value */
        *value = start;
        *value_bytes = (size_t)(r->at - start);
        return true;
    }
    const void *text = NULL;
    uint32_t bytes = 0;
    if (!msgpack_take_nil(r) && msgpack_read_str(r, &text, &bytes) != MSGPACK_OK) return false;
    reply_set_detail(result, text, bytes);
    uint64_t retry = 0;
    if (fields > 6 && !msgpack_take_nil(r) &&
        msgpack_read_uint_upto(r, UINT32_MAX, &retry) != MSGPACK_OK)
        return false;
    result->retry_after_ms = (uint32_t)retry;
    if (fields < 8 || msgpack_take_nil(r)) return true;
    return msgpack_read_str(r, &reply->leader, &reply->leader_bytes) == MSGPACK_OK;
}

bool reply_next(struct reply *reply, jumun_result *result, const void **value,
                size_t *value_bytes) {
    struct msgpack_reader *r = &reply->at;
    uint32_t fields;
    uint64_t code, version, shard, index, flags = 0;
    *value = NULL;
    *value_bytes = 0;
    reply->leader_bytes = 0;
    if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields < 4 || fields > 8 ||
        msgpack_read_uint_upto(r, REPLY_CODE_MAX, &code) != MSGPACK_OK ||
        msgpack_read_uint_upto(r, UINT32_MAX, &version) != MSGPACK_OK ||
        msgpack_read_uint_upto(r, UINT32_MAX, &shard) != MSGPACK_OK ||
        msgpack_read_uint(r, &index) != MSGPACK_OK ||
        (fields > 4 && msgpack_read_uint(r, &flags) != MSGPACK_OK))
        return false;
    result->code = (int)code;
    result->version = (uint32_t)version;
    result->shard = (uint32_t)shard;
    result->index = index;
    result->repeated = (flags & RESULT_FLAG_REPEATED) != 0;
    result->retry_after_ms = 0;
    result->detail[0] = '\0';
    return fields < 6 || reply_tail(reply, fields, result, value, value_bytes);
}
