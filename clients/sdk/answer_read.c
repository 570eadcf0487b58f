/* Reading what an answer carries: rows, orders, counters. */
#include "clients/sdk/order_decode.h"
#include "clients/sdk/query_reply.h"

/* The cursor in front of the first row; *count = 0 when the value has none. JUMUN_CHANGES has its
 * rows inside. */
static struct msgpack_reader rows_of(const jumun_answer *answer, uint32_t *count) {
    struct msgpack_reader r, inner;
    uint32_t items;
    *count = 0;
    msgpack_reader_init(&r, answer->value ? answer->value : "", answer->value_bytes);
    if (msgpack_read_array(&r, &items) != MSGPACK_OK) return r;
    inner = r;
    uint32_t rows;
    if (answer->changes && items >= 3 && msgpack_read_array(&inner, &rows) == MSGPACK_OK) {
        *count = rows;
        return inner;
    }
    *count = answer->changes ? 0 : items;
    return r;
}

uint32_t jumun_answer_rows(const jumun_answer *answer) {
    uint32_t count;
    rows_of(answer, &count);
    return count;
}

const void *jumun_answer_row(const jumun_answer *answer, uint32_t i, size_t *bytes) {
    uint32_t count;
    struct msgpack_reader r = rows_of(answer, &count);
    *bytes = 0;
    if (i >= count) return NULL;
    for (uint32_t at = 0; at <= i; at++) {
        const uint8_t *row = r.at;
        if (msgpack_skip(&r) != MSGPACK_OK) return NULL;
        *bytes = (size_t)(r.at - row);
        if (at == i) return row;
    }
    return NULL;
}

int jumun_answer_order(const jumun_answer *answer, uint32_t i, jumun_order **order) {
    struct msgpack_reader r;
    size_t bytes = answer->value_bytes;
    const void *row = answer->value;
    *order = NULL;
    msgpack_reader_init(&r, row ? row : "", bytes);
    if (msgpack_peek(&r) == MSGPACK_TYPE_MAP) { /* of a get */
        if (i > 0) return JUMUN_ORDER_NOT_FOUND;
    } else {
        row = jumun_answer_row(answer, i, &bytes);
    }
    if (!row) return JUMUN_ORDER_NOT_FOUND;
    msgpack_reader_init(&r, row, bytes);
    if (msgpack_peek(&r) == MSGPACK_TYPE_NIL) return JUMUN_ORDER_NOT_FOUND;
    return order_decode(row, bytes, order);
}

static bool read_text(struct msgpack_reader *r, char *text, uint32_t bytes_max) {
    const void *data;
    uint32_t bytes;
    if (msgpack_read_str(r, &data, &bytes) != MSGPACK_OK || bytes >= bytes_max) return false;
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    return true;
}

int jumun_answer_counter(const jumun_answer *answer, uint32_t i, jumun_counter *counter) {
    size_t bytes;
    uint32_t fields;
    uint64_t state;
    struct msgpack_reader r;
    const void *row = jumun_answer_row(answer, i, &bytes);
    *counter = (jumun_counter){0};
    if (!row) return JUMUN_ORDER_NOT_FOUND;
    msgpack_reader_init(&r, row, bytes);
    if (msgpack_read_array(&r, &fields) != MSGPACK_OK || fields < 8 ||
        msgpack_read_int(&r, &counter->start_ms) != MSGPACK_OK ||
        !read_text(&r, counter->store, sizeof counter->store) ||
        msgpack_read_uint_upto(&r, 15, &state) != MSGPACK_OK ||
        !read_text(&r, counter->currency, sizeof counter->currency) ||
        msgpack_read_int(&r, &counter->orders) != MSGPACK_OK ||
        msgpack_read_int(&r, &counter->total) != MSGPACK_OK ||
        msgpack_read_int(&r, &counter->captured) != MSGPACK_OK ||
        msgpack_read_int(&r, &counter->refunded) != MSGPACK_OK)
        return JUMUN_BAD_REPLY;
    counter->state = (int)state;
    return JUMUN_OK;
}
