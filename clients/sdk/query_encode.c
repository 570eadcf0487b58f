#include "clients/sdk/query_encode.h"

#include "actors/order/order.h"
#include "engine/limits.h"
#include "engine/wire/query_protocol.h"

_Static_assert((int)JUMUN_GET_ORDER == QUERY_GET && (int)JUMUN_MULTI_GET == QUERY_MULTI_GET &&
                   (int)JUMUN_BY_REF == QUERY_BY_REF &&
                   (int)JUMUN_CUSTOMER_ORDERS == QUERY_CUSTOMER_ORDERS &&
                   (int)JUMUN_STORE_BOARD == QUERY_STORE_BOARD &&
                   (int)JUMUN_STATE_ORDERS == QUERY_STATE_ORDERS &&
                   (int)JUMUN_COUNTERS == QUERY_COUNTERS && (int)JUMUN_CHANGES == QUERY_WATCH &&
                   (int)JUMUN_EXPORT == QUERY_EXPORT,
               "the numbers are those of the wire");

static const char *const state_names[] = {
    [ORDER_AWAITED] = "awaited", [ORDER_PLACED] = "placed", [ORDER_PAID] = "paid",
    [ORDER_ACCEPTED] = "accepted", [ORDER_READY] = "ready", [ORDER_PICKED_UP] = "picked_up",
    [ORDER_DELIVERED] = "delivered", [ORDER_COMPLETED] = "completed",
    [ORDER_REJECTED] = "rejected", [ORDER_CANCELLED] = "cancelled", [ORDER_EXPIRED] = "expired"};

enum { STATE_NAMES = sizeof state_names / sizeof state_names[0] };

int jumun_state_number(const char *name) {
    for (int i = 0; i < STATE_NAMES; i++)
        if (state_names[i] && name && strcmp(state_names[i], name) == 0) return i;
    return 0;
}

const char *jumun_state_name(int number) {
    return number > 0 && number < STATE_NAMES && state_names[number] ? state_names[number] : "?";
}

/* -- faults ------------------------------------------------------------------------------------ */

static const char *fault_of_subject(const jumun_query *q, size_t bytes_max) {
    if (!q->subject || !*q->subject) return "the subject is missing";
    return strlen(q->subject) > bytes_max ? "the subject is too long" : NULL;
}

static const char *fault_of_kind(const jumun_query *q) {
    switch (q->kind) {
    case JUMUN_GET_ORDER: case JUMUN_REPLICA_PING: case JUMUN_REPLICA_MAP:
    case JUMUN_REPLICA_STATUS: return NULL;
    case JUMUN_MULTI_GET:
        return q->keys && q->keys_count > 0 && q->keys_count <= QUERY_KEYS_MAX
                   ? NULL : "a query has 1 to 1,024 keys";
    case JUMUN_STATE_ORDERS: return q->states_count == 1 ? NULL : "exactly one state is needed";
    case JUMUN_COUNTERS:
        if (q->bucket_ms != 60000 && q->bucket_ms != 86400000)
            return "bucket_ms is 60,000 or 86,400,000";
        return q->subject && strlen(q->subject) > ID_TEXT_BYTES_MAX ? "the subject is too long"
                                                                    : NULL;
    case JUMUN_CHANGES: return fault_of_subject(q, 9 + ID_TEXT_BYTES_MAX);
    case JUMUN_BY_REF: return fault_of_subject(q, EXTERNAL_REF_BYTES_MAX);
    case JUMUN_EXPORT: return NULL;
    case JUMUN_CUSTOMER_ORDERS: case JUMUN_STORE_BOARD:
        return fault_of_subject(q, ID_TEXT_BYTES_MAX);
    }
    return "there is no such kind of query";
}

const char *query_encode_fault(const jumun_query *q) {
    if (q->limit > QUERY_ROWS_MAX) return "limit is over 1,000";
    if (q->fields_count > QUERY_FIELDS_MAX) return "more than 64 fields";
    if (q->states_count > 16) return "more than 16 states";
    if (q->cursor_bytes > QUERY_CURSOR_BYTES_MAX) return "the cursor is too long";
    if (q->since_count > SHARDS_MAX || q->demand.at_least_count > SHARDS_MAX)
        return "more than 256 tokens";
    for (uint32_t i = 0; i < q->demand.at_least_count; i++)
        if (q->demand.at_least[i].shard >= SHARDS_MAX && q->demand.at_least[i].shard != SHARD_META)
            return "at_least: no shard has a number over 255";
    for (uint32_t i = 0; i < q->states_count; i++)
        if (q->states[i] < ORDER_AWAITED || q->states[i] > ORDER_EXPIRED)
            return "a state is a number from 1 (awaited) to 11 (expired)";
    for (uint32_t i = 0; i < q->fields_count; i++)
        if (!q->fields[i] || strlen(q->fields[i]) > ID_TEXT_BYTES_MAX)
            return "a field's name is missing or too long";
    return fault_of_kind(q);
}

/* -- bytes ------------------------------------------------------------------------------------- */

size_t query_encode_bytes_max(const jumun_query *q) {
    return 256 + (q->subject ? strlen(q->subject) : 0) + 16 * (size_t)q->keys_count +
           (size_t)q->fields_count * (ID_TEXT_BYTES_MAX + MSGPACK_HEADER_BYTES_MAX) +
           q->cursor_bytes + query_encode_tail_bytes_max(q->since_count);
}

static void put_tokens(struct msgpack_writer *w, const jumun_token *tokens, uint32_t count) {
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) {
        msgpack_write_array(w, 2);
        msgpack_write_uint(w, tokens[i].shard);
        msgpack_write_uint(w, tokens[i].index);
    }
}

static void put_fields(struct msgpack_writer *w, const jumun_query *q) {
    if (q->fields_count == 0) {
        msgpack_write_nil(w);
        return;
    }
    msgpack_write_array(w, q->fields_count);
    for (uint32_t i = 0; i < q->fields_count; i++) msgpack_write_text(w, q->fields[i]);
}

static void put_states(struct msgpack_writer *w, const jumun_query *q) {
    if (q->states_count == 0) {
        msgpack_write_nil(w);
        return;
    }
    msgpack_write_array(w, q->states_count);
    for (uint32_t i = 0; i < q->states_count; i++) msgpack_write_uint(w, q->states[i]);
}

static void put_range(struct msgpack_writer *w, const jumun_query *q) {
    if (q->has_from) msgpack_write_int(w, q->from_ms);
    else msgpack_write_nil(w);
    if (q->has_to) msgpack_write_int(w, q->to_ms);
    else msgpack_write_nil(w);
}

static void put_limit(struct msgpack_writer *w, const jumun_query *q) {
    if (q->limit) msgpack_write_uint(w, q->limit);
    else msgpack_write_nil(w);
}

static void put_page(struct msgpack_writer *w, const jumun_query *q) {
    put_limit(w, q);
    if (q->cursor && q->cursor_bytes) msgpack_write_bin(w, q->cursor, q->cursor_bytes);
    else msgpack_write_nil(w);
}

static void put_keys(struct msgpack_writer *w, const jumun_query *q) {
    msgpack_write_bin(w, q->keys, 16 * q->keys_count);
}

static void put_since(struct msgpack_writer *w, const jumun_query *q) {
    if (q->has_since) put_tokens(w, q->since, q->since_count);
    else msgpack_write_nil(w);
}

void query_encode(struct msgpack_writer *w, const jumun_query *q) {
    static const uint8_t sizes[] = {[JUMUN_MULTI_GET - 200] = 3, [JUMUN_BY_REF - 200] = 5,
                                    [JUMUN_CUSTOMER_ORDERS - 200] = 5,
                                    [JUMUN_STORE_BOARD - 200] = 6, [JUMUN_STATE_ORDERS - 200] = 7,
                                    [JUMUN_COUNTERS - 200] = 8, [JUMUN_CHANGES - 200] = 5,
                                    [JUMUN_EXPORT - 200] = 5};
    uint32_t size = q->kind >= JUMUN_MULTI_GET ? sizes[q->kind - 200]
                    : q->kind == JUMUN_GET_ORDER ? 3 : 1;
    msgpack_write_array(w, size);
    msgpack_write_uint(w, q->kind);
    switch (q->kind) {
    case JUMUN_GET_ORDER: msgpack_write_bin(w, q->order.bytes, 16); put_fields(w, q); break;
    case JUMUN_MULTI_GET: put_keys(w, q); put_fields(w, q); break;
    case JUMUN_STORE_BOARD:
        msgpack_write_text(w, q->subject);
        put_states(w, q);
        put_fields(w, q);
        put_page(w, q);
        break;
    case JUMUN_STATE_ORDERS:
        msgpack_write_uint(w, q->states[0]);
        put_range(w, q);
        put_fields(w, q);
        put_page(w, q);
        break;
    case JUMUN_COUNTERS:
        msgpack_write_uint(w, q->bucket_ms);
        put_range(w, q);
        msgpack_write_text(w, q->subject ? q->subject : "");
        put_states(w, q);
        put_page(w, q);
        break;
    case JUMUN_CHANGES:
        msgpack_write_text(w, q->subject);
        put_since(w, q);
        put_fields(w, q);
        put_limit(w, q);
        break;
    case JUMUN_EXPORT:
        msgpack_write_uint(w, q->snapshot);
        put_fields(w, q);
        put_page(w, q);
        break;
    case JUMUN_BY_REF: case JUMUN_CUSTOMER_ORDERS:
        msgpack_write_text(w, q->subject);
        put_fields(w, q);
        put_page(w, q);
        break;
    default: break;
    }
}

void query_encode_head(struct msgpack_writer *w, uint32_t wait_ms, uint32_t count) {
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, PROTOCOL_VERSION);
    msgpack_write_int(w, -(int64_t)wait_ms);
    msgpack_write_array(w, count);
}

size_t query_encode_tail_bytes_max(uint32_t tokens_count) {
    return 32 + (size_t)tokens_count * (1 + 2 * MSGPACK_INT_BYTES_MAX);
}

void query_encode_tail(struct msgpack_writer *w, const jumun_token *tokens, uint32_t count,
                       int64_t max_age_ms) {
    if (count) put_tokens(w, tokens, count);
    else msgpack_write_nil(w);
    if (max_age_ms >= 0) msgpack_write_int(w, max_age_ms);
    else msgpack_write_nil(w);
}
