#include "engine/wire/reply_encode.h"

#include "engine/base/check.h"
#include "engine/limits.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/event_encode.h"
#include "engine/wire/order_encode.h"
#include "engine/wire/protocol.h"
#include "engine/wire/store_encode.h"

enum {
    REPLY_HEAD_BYTES_MAX = 8,
    RESULT_DONE_BYTES_MAX = 1 + 3 + 5 + 5 + 9 + 1,    /* code, version, shard, index, flags */
    RESULT_REFUSED_BYTES_MAX = RESULT_DONE_BYTES_MAX + 128 + 5, /* sentence, retry after */
    RESULT_HINTED_BYTES_MAX = RESULT_REFUSED_BYTES_MAX + 3 + ENDPOINT_BYTES_MAX /* leader's place */
};
static_assert(REPLY_HEAD_BYTES_MAX + BATCH_COMMANDS_MAX * RESULT_HINTED_BYTES_MAX <
                  MESSAGE_BYTES_MAX,
              "the results of a largest batch fit a message, if not their values");

/* The longest sentence must fit its share; sizeof counts a NUL and there is one byte of header. */
#define X(name, number, text) \
    static_assert(sizeof(text) + 2 <= 128, "the sentence of " #name " is too long");
RESULT_CODES(X)
#undef X

/* Of NOT_LEADER, where nobody is known to lead. */
static const char reply_no_leader[] =
    "no node is known to lead the shard now: that takes a majority of its replicas";
static_assert(sizeof reply_no_leader <= 96, "as long as a sentence of a code may be");

static bool reply_is_done(const struct result *r) {
    return r->code == RESULT_OK || r->code == RESULT_HELD;
}

static bool reply_has_value(const struct result *r) {
    return r->value_kind != RESULT_VALUE_NONE && r->value != NULL;
}

/* The item at `*at` of a history, and moves behind it; NULL at the end. */
static const struct event *reply_history_next(const struct result *r, uint32_t *at,
                                              struct history_item *item) {
    if (r->value_bytes - *at < sizeof *item + sizeof(struct event)) return NULL;
    memcpy(item, (const uint8_t *)r->value + *at, sizeof *item);
    *at += (uint32_t)sizeof *item;
    return event_next(r->value, r->value_bytes, at);
}

static size_t reply_value_bytes_max(const struct result *r) {
    switch (r->value_kind) {
    case RESULT_VALUE_ORDER: return order_encode_bytes_max(r->value);
    case RESULT_VALUE_STORE: return store_encode_bytes_max(r->value);
    case RESULT_VALUE_MSGPACK: case RESULT_VALUE_RESULT: return r->value_bytes;
    case RESULT_VALUE_CLUSTER: return CLUSTER_ENCODED_BYTES_MAX;
    case RESULT_VALUE_HISTORY: {
        size_t bytes = MSGPACK_HEADER_BYTES_MAX;
        struct history_item item;
        const struct event *e;
        for (uint32_t at = 0; (e = reply_history_next(r, &at, &item)) != NULL;)
            bytes += event_encode_bytes_max(e);
        return bytes;
    }
    default: return 0;
    }
}

static void reply_encode_history(struct msgpack_writer *w, const struct result *r) {
    struct history_item item;
    const struct event *e;
    uint32_t count = 0;
    for (uint32_t at = 0; reply_history_next(r, &at, &item) != NULL;) count++;
    msgpack_write_array(w, count);
    for (uint32_t at = 0; (e = reply_history_next(r, &at, &item)) != NULL;)
        event_encode(w, item.index, item.time_ms, e);
}

static void reply_encode_cluster(struct msgpack_writer *w, const struct actor *cluster) {
    cluster_encode(w, cluster->version, cluster_document_of(cluster));
}

static void reply_encode_value(struct msgpack_writer *w, const struct result *r) {
    switch (r->value_kind) {
    case RESULT_VALUE_ORDER: order_encode(w, r->value); break;
    case RESULT_VALUE_STORE: store_encode(w, r->value); break;
    case RESULT_VALUE_HISTORY: reply_encode_history(w, r); break;
    case RESULT_VALUE_CLUSTER: reply_encode_cluster(w, r->value); break;
    case RESULT_VALUE_MSGPACK: case RESULT_VALUE_RESULT:
        msgpack_write_raw(w, r->value, r->value_bytes);
        break;
    default: msgpack_write_nil(w); break;
    }
}

static inline void reply_encode_head(struct msgpack_writer *w, uint32_t fields, uint32_t code,
                                     const struct result *r) {
    msgpack_write_array(w, fields);
    msgpack_write_uint(w, code);
    msgpack_write_uint(w, r->version);
    msgpack_write_uint(w, r->shard);
    msgpack_write_uint(w, r->index);
    if (fields > 4) msgpack_write_uint(w, r->flags & RESULT_FLAG_REPEATED);
}

static void reply_encode_refusal(struct msgpack_writer *w, uint32_t code, const struct result *r,
                                 const char *leader, const char *sentence) {
    reply_encode_head(w, leader ? 8 : 7, code, r);
    msgpack_write_text(w, sentence ? sentence : result_code_text(code));
    msgpack_write_uint(w, r->retry_after_ms);
    if (leader) msgpack_write_text(w, leader);
}

static void reply_encode_not_leader(struct msgpack_writer *w, const struct result *r,
                                    const struct reply_hints *hints) {
    char endpoint[ENDPOINT_BYTES_MAX];
    bool known = hints && hints->leader(hints->arg, r->shard, r->leader_node, endpoint);
    reply_encode_refusal(w, r->code, r, known ? endpoint : NULL,
                         known || r->leader_node != 0 ? NULL : reply_no_leader);
}

/* What a result needs at least; a value comes on top, if there is room. */
static size_t reply_bytes_least(const struct result *r) {
    if (r->code == RESULT_NOT_LEADER) return RESULT_HINTED_BYTES_MAX;
    return reply_is_done(r) && !reply_has_value(r) ? RESULT_DONE_BYTES_MAX
                                                   : RESULT_REFUSED_BYTES_MAX;
}

/* `reserve` bytes at the end of the buffer belong to the results that follow. */
static void reply_encode_with_value(struct msgpack_writer *w, const struct result *r,
                                    size_t reserve) {
    size_t before = msgpack_writer_size(w);
    uint8_t *end = w->end;
    w->end -= reserve;
    if (r->value_kind != RESULT_VALUE_RESULT) reply_encode_head(w, 6, r->code, r);
    reply_encode_value(w, r);
    bool fits = msgpack_writer_ok(w);
    w->end = end;
    if (fits) return;
    msgpack_writer_rewind(w, before);
    reply_encode_refusal(w, RESULT_MESSAGE_TOO_LARGE, r, NULL, NULL);
}

size_t reply_bytes_max(const struct result *results, uint32_t count) {
    size_t bytes = REPLY_HEAD_BYTES_MAX;
    for (uint32_t i = 0; i < count; i++) {
        bytes += reply_bytes_least(&results[i]);
        if (reply_is_done(&results[i]) && reply_has_value(&results[i]))
            bytes += reply_value_bytes_max(&results[i]);
    }
    return bytes < MESSAGE_BYTES_MAX ? bytes : MESSAGE_BYTES_MAX;
}

size_t reply_encode(const struct result *results, uint32_t count, const struct reply_hints *hints,
                    void *buffer, size_t capacity) {
    struct msgpack_writer w;
    msgpack_writer_init(&w, buffer, capacity);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_uint(&w, RESULT_OK);
    msgpack_write_array(&w, count);
    size_t reserve = 0;
    for (uint32_t i = 0; i < count; i++) reserve += reply_bytes_least(&results[i]);
    for (uint32_t i = 0; i < count; i++) {
        const struct result *r = &results[i];
        reserve -= reply_bytes_least(r);
        if (r->code == RESULT_NOT_LEADER) reply_encode_not_leader(&w, r, hints);
        else if (!reply_is_done(r)) reply_encode_refusal(&w, r->code, r, NULL, NULL);
        else if (reply_has_value(r)) reply_encode_with_value(&w, r, reserve);
        else reply_encode_head(&w, r->flags & RESULT_FLAG_REPEATED ? 5 : 4, r->code, r);
    }
    require(msgpack_writer_ok(&w));
    return msgpack_writer_size(&w);
}

size_t reply_encode_refused(enum result_code code, void *buffer, size_t capacity) {
    struct msgpack_writer w;
    msgpack_writer_init(&w, buffer, capacity);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_uint(&w, code);
    msgpack_write_text(&w, result_code_text(code));
    require(msgpack_writer_ok(&w));
    return msgpack_writer_size(&w);
}
