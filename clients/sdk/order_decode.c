#include "clients/sdk/order_decode.h"

#include <stdlib.h>

#include "engine/limits.h"
#include "engine/wire/msgpack_reader.h"

/* The same walk runs twice: first with no room, to count what is needed, then to fill it. */
struct order_sink {
    struct msgpack_reader r;
    jumun_order *order;          /* filled in both walks; its pointers only in the second */
    jumun_order_line *lines;     /* NULL = counting */
    jumun_order_payment *payments;
    uint8_t *room;               /* for texts and attributes */
    size_t room_bytes;           /* used so far */
};

enum field_type { FIELD_KEY, FIELD_UINT32, FIELD_UINT64, FIELD_INT64, FIELD_ENUM, FIELD_TEXT,
                  FIELD_CURRENCY, FIELD_ATTRIBUTES, FIELD_LINES, FIELD_PAYMENTS };

struct field {
    const char *name;
    enum field_type type;
    size_t offset;
};

#define FIELD(name, type) {#name, type, offsetof(jumun_order, name)}

static const struct field order_fields[] = {
    FIELD(key, FIELD_KEY), FIELD(version, FIELD_UINT32), FIELD(last_index, FIELD_UINT64),
    FIELD(state, FIELD_TEXT), FIELD(fulfilment, FIELD_ENUM), FIELD(payment_timing, FIELD_ENUM),
    FIELD(currency, FIELD_CURRENCY), FIELD(store, FIELD_TEXT), FIELD(customer, FIELD_TEXT),
    FIELD(rider, FIELD_TEXT), FIELD(group, FIELD_TEXT), FIELD(external_ref, FIELD_TEXT),
    FIELD(end_reason, FIELD_TEXT), FIELD(ended_by, FIELD_ENUM),
    FIELD(attributes, FIELD_ATTRIBUTES), FIELD(lines_total, FIELD_INT64),
    FIELD(fees, FIELD_INT64), FIELD(discounts, FIELD_INT64), FIELD(total, FIELD_INT64),
    FIELD(authorised, FIELD_INT64), FIELD(captured, FIELD_INT64), FIELD(refunded, FIELD_INT64),
    FIELD(refund_owed, FIELD_INT64), FIELD(placed_ms, FIELD_INT64),
    FIELD(updated_ms, FIELD_INT64), FIELD(ready_estimate_ms, FIELD_INT64),
    FIELD(payment_deadline_ms, FIELD_INT64), FIELD(acceptance_deadline_ms, FIELD_INT64),
    FIELD(auto_complete_ms, FIELD_INT64), FIELD(refund_deadline_ms, FIELD_INT64),
    FIELD(retention_deadline_ms, FIELD_INT64), FIELD(held_deadline_ms, FIELD_INT64),
    FIELD(lines, FIELD_LINES), FIELD(payments, FIELD_PAYMENTS),
    FIELD(commands_count, FIELD_UINT32), FIELD(held_count, FIELD_UINT32),
    FIELD(notes_count, FIELD_UINT32),
};

_Static_assert(sizeof(jumun_fulfilment) == 4 && sizeof(jumun_payment_timing) == 4 &&
                       sizeof(jumun_party) == 4,
               "enums are read as 32 bits");

/* Copies into the room; while counting only counts, and gives something that is never looked at. */
static void *sink_store(struct order_sink *s, const void *data, uint32_t bytes) {
    uint8_t *at = s->lines ? s->room + s->room_bytes : NULL;
    if (at) {
        if (bytes) memcpy(at, data, bytes);
        at[bytes] = '\0';
    }
    s->room_bytes += (size_t)bytes + 1;
    return at;
}

static bool sink_text(struct order_sink *s, const char **text) {
    const void *data = "";
    uint32_t bytes = 0;
    if (!msgpack_take_nil(&s->r) && msgpack_read_str(&s->r, &data, &bytes) != MSGPACK_OK)
        return false;
    *text = sink_store(s, data, bytes);
    return true;
}

static bool sink_skip(struct order_sink *s, uint32_t count) {
    while (count-- > 0)
        if (msgpack_skip(&s->r) != MSGPACK_OK) return false;
    return true;
}

/* [[sku, quantity, cancelled, unit_price, name?], ...] */
static bool sink_lines(struct order_sink *s) {
    uint32_t count, fields;
    if (msgpack_read_array(&s->r, &count) != MSGPACK_OK || count > ORDER_LINES_MAX) return false;
    if (s->order->lines_count) return false; /* twice */
    s->order->lines_count = count;
    for (uint32_t i = 0; i < count; i++) {
        jumun_order_line scratch, *line = s->lines ? &s->lines[i] : &scratch;
        if (msgpack_read_array(&s->r, &fields) != MSGPACK_OK || fields < 4 ||
            !sink_text(s, &line->sku) || msgpack_read_int(&s->r, &line->quantity) != MSGPACK_OK ||
            msgpack_read_int(&s->r, &line->cancelled) != MSGPACK_OK ||
            msgpack_read_int(&s->r, &line->unit_price) != MSGPACK_OK)
            return false;
        if (fields == 4) line->name = sink_store(s, "", 0);
        else if (!sink_text(s, &line->name) || !sink_skip(s, fields - 5)) return false;
    }
    return true;
}

/* [[method, reference, amount, state], ...] */
static bool sink_payments(struct order_sink *s) {
    uint32_t count, fields;
    if (msgpack_read_array(&s->r, &count) != MSGPACK_OK || count > ORDER_PAYMENTS_MAX) return false;
    if (s->order->payments_count) return false; /* twice */
    s->order->payments_count = count;
    for (uint32_t i = 0; i < count; i++) {
        jumun_order_payment scratch, *part = s->lines ? &s->payments[i] : &scratch;
        if (msgpack_read_array(&s->r, &fields) != MSGPACK_OK || fields < 4 ||
            !sink_text(s, &part->method) || !sink_text(s, &part->reference) ||
            msgpack_read_int(&s->r, &part->amount) != MSGPACK_OK ||
            !sink_text(s, &part->state) || !sink_skip(s, fields - 4))
            return false;
    }
    return true;
}

static bool sink_bytes(struct order_sink *s, const struct field *f, void *at) {
    const void *data;
    uint32_t bytes;
    switch (f->type) {
    case FIELD_KEY:
        if (msgpack_read_bin(&s->r, &data, &bytes) != MSGPACK_OK || bytes != 16) return false;
        memcpy(at, data, 16);
        return true;
    case FIELD_CURRENCY:
        if (msgpack_take_nil(&s->r)) return true;
        if (msgpack_read_str(&s->r, &data, &bytes) != MSGPACK_OK || bytes > 3) return false;
        memcpy(at, data, bytes);
        ((char *)at)[bytes] = '\0';
        return true;
    default:
        if (msgpack_take_nil(&s->r)) return true;
        if (msgpack_read_bin(&s->r, &data, &bytes) != MSGPACK_OK) return false;
        s->order->attributes = sink_store(s, data, bytes);
        s->order->attributes_bytes = bytes;
        return true;
    }
}

static bool sink_field(struct order_sink *s, const struct field *f) {
    void *at = (uint8_t *)s->order + f->offset;
    uint64_t number;
    switch (f->type) {
    case FIELD_UINT32: case FIELD_ENUM:
        if (msgpack_take_nil(&s->r)) return true;
        if (msgpack_read_uint_upto(&s->r, f->type == FIELD_ENUM ? 255 : UINT32_MAX, &number) !=
            MSGPACK_OK)
            return false;
        *(uint32_t *)at = (uint32_t)number;
        return true;
    case FIELD_UINT64:
        return msgpack_take_nil(&s->r) || msgpack_read_uint(&s->r, at) == MSGPACK_OK;
    case FIELD_INT64:
        return msgpack_take_nil(&s->r) || msgpack_read_int(&s->r, at) == MSGPACK_OK;
    case FIELD_TEXT: return sink_text(s, at);
    case FIELD_LINES: return sink_lines(s);
    case FIELD_PAYMENTS: return sink_payments(s);
    default: return sink_bytes(s, f, at);
    }
}

static const struct field *field_named(const void *name, uint32_t bytes) {
    for (size_t i = 0; i < sizeof order_fields / sizeof order_fields[0]; i++)
        if (strlen(order_fields[i].name) == bytes &&
            memcmp(order_fields[i].name, name, bytes) == 0)
            return &order_fields[i];
    return NULL;
}

static bool sink_walk(struct order_sink *s, const void *value, size_t bytes) {
    uint32_t pairs, name_bytes;
    const void *name;
    msgpack_reader_init(&s->r, value, bytes);
    if (msgpack_read_map(&s->r, &pairs) != MSGPACK_OK) return false;
    for (uint32_t i = 0; i < pairs; i++) {
        if (msgpack_read_str(&s->r, &name, &name_bytes) != MSGPACK_OK) return false;
        const struct field *f = field_named(name, name_bytes);
        if (f ? !sink_field(s, f) : msgpack_skip(&s->r) != MSGPACK_OK) return false;
    }
    return true;
}

int order_decode(const void *value, size_t bytes, jumun_order **out) {
    *out = NULL;
    jumun_order counted = {0};
    struct order_sink s = {.order = &counted};
    if (!value || !sink_walk(&s, value, bytes)) return JUMUN_BAD_REPLY;

    size_t lines_bytes = (counted.lines_count + 1) * sizeof(jumun_order_line);
    size_t payments_bytes = counted.payments_count * sizeof(jumun_order_payment);
    jumun_order *order = calloc(1, sizeof *order + lines_bytes + payments_bytes + s.room_bytes);
    if (!order) return JUMUN_NO_MEMORY;
    struct order_sink fill = {.order = order, .lines = (jumun_order_line *)(order + 1)};
    fill.payments = (jumun_order_payment *)((uint8_t *)fill.lines + lines_bytes);
    fill.room = (uint8_t *)fill.payments + payments_bytes;
    const char **texts[] = {&order->state, &order->store, &order->customer, &order->rider,
                            &order->group, &order->external_ref, &order->end_reason};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) *texts[i] = "";
    sink_walk(&fill, value, bytes);
    order->lines = fill.lines;
    order->payments = fill.payments;
    *out = order;
    return JUMUN_OK;
}

void jumun_order_free(jumun_order *order) { free(order); }

int jumun_get(jumun_client *client, const jumun_key *key, const jumun_options_command *options,
              jumun_order **order, jumun_result *result) {
    jumun_command get = {.kind = JUMUN_GET, .order = *key};
    jumun_result own;
    void *value = NULL;
    size_t bytes = 0;
    if (options) get.options = *options;
    if (!result) result = &own;
    *order = NULL;
    if (jumun_call(client, &get, result, &value, &bytes) == JUMUN_OK)
        result->code = order_decode(value, bytes, order);
    free(value);
    return result->code;
}
