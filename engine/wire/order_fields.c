#include "engine/wire/order_fields.h"

#include "engine/wire/order_encode.h"

static const char *const order_field_names[] = {
#define X(name) #name,
    ORDER_FIELDS(X)
#undef X
};

int order_field_of(struct bytes name) {
    for (int i = 0; i < ORDER_FIELDS_COUNT; i++) {
        if (bytes_equal(name, bytes_of_text(order_field_names[i]))) return i;
    }
    return -1;
}

static void write_text(struct msgpack_writer *w, struct bytes text) {
    msgpack_write_str(w, text.data, text.size);
}

static void write_texts(struct msgpack_writer *w, const struct order_view *v, uint8_t field) {
    switch (field) {
    case ORDER_FIELD_key: msgpack_write_bin(w, v->key.bytes, 16); break;
    case ORDER_FIELD_state: msgpack_write_text(w, order_state_name(v->state)); break;
    case ORDER_FIELD_currency:
        msgpack_write_str(w, v->currency, (uint32_t)strnlen(v->currency, 3));
        break;
    case ORDER_FIELD_store: write_text(w, v->store); break;
    case ORDER_FIELD_customer: write_text(w, v->customer); break;
    case ORDER_FIELD_rider: write_text(w, v->rider); break;
    case ORDER_FIELD_group: write_text(w, v->group); break;
    case ORDER_FIELD_external_ref: write_text(w, v->external_ref); break;
    case ORDER_FIELD_attributes:
        msgpack_write_bin(w, v->attributes.data, v->attributes.size);
        break;
    case ORDER_FIELD_end_reason: write_text(w, v->end_reason); break;
    default: impossible("all fields are numbers, texts or lists");
    }
}

/* False when the field is no number. */
static bool number_of(const struct order_view *v, uint8_t field, int64_t *value) {
    switch (field) {
    case ORDER_FIELD_version: *value = v->version; return true;
    case ORDER_FIELD_last_index: *value = (int64_t)v->last_index; return true;
    case ORDER_FIELD_fulfilment: *value = v->fulfilment; return true;
    case ORDER_FIELD_payment_timing: *value = v->payment_timing; return true;
    case ORDER_FIELD_ended_by: *value = v->ended_by; return true;
    case ORDER_FIELD_lines_total: *value = v->lines_total; return true;
    case ORDER_FIELD_fees: *value = v->fees; return true;
    case ORDER_FIELD_discounts: *value = v->discounts; return true;
    case ORDER_FIELD_total: *value = v->total; return true;
    case ORDER_FIELD_authorised: *value = v->authorised; return true;
    case ORDER_FIELD_captured: *value = v->captured; return true;
    case ORDER_FIELD_refunded: *value = v->refunded; return true;
    case ORDER_FIELD_refund_owed: *value = v->refund_owed; return true;
    case ORDER_FIELD_placed_ms: *value = v->placed_ms; return true;
    case ORDER_FIELD_updated_ms: *value = v->updated_ms; return true;
    case ORDER_FIELD_ready_estimate_ms: *value = v->ready_estimate_ms; return true;
    case ORDER_FIELD_payment_deadline_ms: *value = v->payment_deadline_ms; return true;
    case ORDER_FIELD_acceptance_deadline_ms: *value = v->acceptance_deadline_ms; return true;
    case ORDER_FIELD_auto_complete_ms: *value = v->auto_complete_ms; return true;
    case ORDER_FIELD_refund_deadline_ms: *value = v->refund_deadline_ms; return true;
    case ORDER_FIELD_retention_deadline_ms: *value = v->retention_deadline_ms; return true;
    case ORDER_FIELD_held_deadline_ms: *value = v->held_deadline_ms; return true;
    case ORDER_FIELD_commands_count: *value = v->commands_count; return true;
    case ORDER_FIELD_held_count: *value = v->held_count; return true;
    case ORDER_FIELD_notes_count: *value = v->notes_count; return true;
    default: return false;
    }
}

void order_fields_encode(struct msgpack_writer *w, const struct actor *order,
                         const uint8_t *fields, uint32_t count) {
    struct order_view v;
    int64_t number;
    order_view(order, &v);
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) {
        if (number_of(&v, fields[i], &number)) msgpack_write_int(w, number);
        else if (fields[i] == ORDER_FIELD_lines) order_encode_lines(w, order, v.lines_count);
        else if (fields[i] == ORDER_FIELD_payments)
            order_encode_payments(w, order, v.payments_count);
        else write_texts(w, &v, fields[i]);
    }
}
