#include "clients/sdk/query_reply.h"

#include <stdlib.h>

#include "actors/result_codes.h"
#include "engine/wire/query_protocol.h"

enum { REPLY_CODE_MAX = 999, REPLY_AGE_UNKNOWN = 0x7fffffff };

static bool read_token(struct msgpack_reader *r, uint32_t fields_wanted, jumun_token *token) {
    uint32_t fields;
    uint64_t shard;
    if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields != fields_wanted ||
        msgpack_read_uint_upto(r, UINT16_MAX, &shard) != MSGPACK_OK ||
        msgpack_read_uint(r, &token->index) != MSGPACK_OK)
        return false;
    token->shard = (uint32_t)shard;
    return true;
}

static bool read_tokens(struct query_reply *reply, struct msgpack_reader *r) {
    uint32_t count;
    uint64_t age;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count > SHARDS_MAX) return false;
    reply->tokens_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!read_token(r, 3, &reply->tokens[i]) || msgpack_read_uint(r, &age) != MSGPACK_OK)
            return false;
        reply->ages[i] = age >= REPLY_AGE_UNKNOWN ? UINT32_MAX : (uint32_t)age;
    }
    return true;
}

static bool read_missing(struct query_reply *reply, struct msgpack_reader *r) {
    uint32_t count;
    uint64_t shard;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count > SHARDS_MAX) return false;
    reply->missing_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (msgpack_read_uint_upto(r, UINT16_MAX, &shard) != MSGPACK_OK) return false;
        reply->missing[i] = (uint32_t)shard;
    }
    return true;
}

enum query_reply_kind query_reply_open(struct query_reply *reply, const void *data, size_t bytes) {
    struct msgpack_reader r;
    uint32_t fields;
    uint64_t version, code;
    reply->count = reply->tokens_count = reply->missing_count = reply->sentence_bytes = 0;
    reply->sentence = NULL;
    msgpack_reader_init(&r, data, bytes);
    if (msgpack_read_array(&r, &fields) != MSGPACK_OK || fields < 3 ||
        msgpack_read_uint(&r, &version) != MSGPACK_OK || version != PROTOCOL_VERSION ||
        msgpack_read_uint_upto(&r, REPLY_CODE_MAX, &code) != MSGPACK_OK)
        return QUERY_REPLY_GARBAGE;
    reply->code = (int)code;
    if (code != RESULT_OK) {
        if (msgpack_read_str(&r, &reply->sentence, &reply->sentence_bytes) != MSGPACK_OK)
            return QUERY_REPLY_GARBAGE;
        /* It has a detail behind the sentence: engine/wire/feed_protocol.h. */
        return fields > 3 ? QUERY_REPLY_OF_FEED : QUERY_REPLY_REFUSED;
    }
    if (fields < 5 || msgpack_read_array(&r, &reply->count) != MSGPACK_OK)
        return QUERY_REPLY_GARBAGE;
    reply->at = r;
    for (uint32_t i = 0; i < reply->count; i++)
        if (msgpack_skip(&r) != MSGPACK_OK) return QUERY_REPLY_GARBAGE;
    reply->at.end = r.at;
    return read_tokens(reply, &r) && read_missing(reply, &r) ? QUERY_REPLY_RESULTS
                                                             : QUERY_REPLY_GARBAGE;
}

static bool read_value(struct msgpack_reader *r, uint32_t fields, struct query_result *result) {
    const uint8_t *start = r->at;
    if (msgpack_skip(r) != MSGPACK_OK) return false;
    result->value = start;
    result->value_bytes = (size_t)(r->at - start);
    if (fields < 7 || msgpack_take_nil(r)) return true;
    return msgpack_read_bin(r, &result->cursor, &result->cursor_bytes) == MSGPACK_OK &&
           result->cursor_bytes <= QUERY_CURSOR_BYTES_MAX;
}

static bool read_refusal(struct msgpack_reader *r, uint32_t fields, struct query_result *result) {
    uint64_t retry = 0;
    if (!msgpack_take_nil(r) &&
        msgpack_read_str(r, &result->sentence, &result->sentence_bytes) != MSGPACK_OK)
        return false;
    if (fields > 6 && !msgpack_take_nil(r) &&
        msgpack_read_uint_upto(r, UINT32_MAX, &retry) != MSGPACK_OK)
        return false;
    result->retry_after_ms = (uint32_t)retry;
    return true;
}

bool query_reply_next(struct query_reply *reply, struct query_result *result) {
    struct msgpack_reader *r = &reply->at, behind = *r;
    uint32_t fields;
    uint64_t code, version, shard, flags;
    *result = (struct query_result){0};
    if (msgpack_skip(&behind) != MSGPACK_OK) return false;
    if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields < 6 ||
        msgpack_read_uint_upto(r, REPLY_CODE_MAX, &code) != MSGPACK_OK ||
        msgpack_read_uint_upto(r, UINT32_MAX, &version) != MSGPACK_OK ||
        msgpack_read_uint_upto(r, UINT32_MAX, &shard) != MSGPACK_OK ||
        msgpack_read_uint(r, &result->index) != MSGPACK_OK ||
        msgpack_read_uint(r, &flags) != MSGPACK_OK)
        return false;
    result->code = (int)code;
    result->version = (uint32_t)version;
    result->shard = (uint32_t)shard;
    result->partial = (flags & RESULT_FLAG_PARTIAL) != 0;
    result->uncounted = (flags & RESULT_FLAG_UNCOUNTED) != 0;
    bool ok = code == RESULT_OK ? read_value(r, fields, result) : read_refusal(r, fields, result);
    *r = behind;
    return ok;
}

uint32_t query_reply_age(const struct query_reply *reply, uint32_t shard) {
    uint32_t oldest = 0;
    bool any = false;
    for (uint32_t i = 0; i < reply->tokens_count; i++) {
        if (shard != UINT32_MAX && reply->tokens[i].shard != shard) continue;
        if (reply->ages[i] > oldest) oldest = reply->ages[i];
        any = true;
    }
    return any ? oldest : UINT32_MAX;
}

bool query_reply_has(const struct query_reply *reply, const jumun_token *token) {
    for (uint32_t i = 0; i < reply->tokens_count; i++)
        if (reply->tokens[i].shard == token->shard) return reply->tokens[i].index >= token->index;
    return token->index == 0;
}

bool query_reply_knows(const struct query_reply *reply, uint32_t shard) {
    for (uint32_t i = 0; i < reply->tokens_count; i++)
        if (reply->tokens[i].shard == shard) return true;
    return false;
}

bool query_reply_lacks(const struct query_reply *reply, uint32_t shard) {
    for (uint32_t i = 0; i < reply->missing_count; i++)
        if (reply->missing[i] == shard) return true;
    return false;
}

bool query_changes_read(const void *value, size_t bytes, struct query_changes *changes) {
    struct msgpack_reader r;
    uint32_t fields, count;
    msgpack_reader_init(&r, value, bytes);
    if (msgpack_read_array(&r, &fields) != MSGPACK_OK || fields < 3) return false;
    struct msgpack_reader rows = r;
    if (msgpack_skip(&r) != MSGPACK_OK) return false;
    changes->rows = rows.at;
    changes->rows_bytes = (size_t)(r.at - rows.at);
    if (msgpack_read_array(&rows, &changes->rows_count) != MSGPACK_OK ||
        msgpack_read_array(&r, &count) != MSGPACK_OK || count > SHARDS_MAX)
        return false;
    changes->tokens_count = count;
    for (uint32_t i = 0; i < count; i++)
        if (!read_token(&r, 2, &changes->tokens[i])) return false;
    return msgpack_read_bool(&r, &changes->complete) == MSGPACK_OK;
}
