#include "engine/wire/order_encode.h"

#include "engine/wire/msgpack_pairs.h"

enum {
    ORDER_ENCODE_FIXED_BYTES = 2048,  /* all keys, numbers and headers; the test counts them */
    ORDER_ENCODE_LINE_BYTES = 1 + 3 * MSGPACK_INT_BYTES_MAX + 2 * MSGPACK_HEADER_BYTES_MAX,
    ORDER_ENCODE_PAYMENT_BYTES = 1 + MSGPACK_INT_BYTES_MAX + 2 * MSGPACK_HEADER_BYTES_MAX + 16,
    ORDER_ENCODE_PAIRS = 37
};

const char *payment_state_name(uint32_t state) {
    switch (state) {
    case PAYMENT_AUTHORISED: return "authorised";
    case PAYMENT_CAPTURED: return "captured";
    case PAYMENT_FAILED: return "failed";
    case PAYMENT_VOIDED: return "voided";
    default: return "unknown";
    }
}

size_t order_encode_bytes_max(const struct actor *order) {
    struct order_view v;
    order_view(order, &v);
    size_t bytes = ORDER_ENCODE_FIXED_BYTES + v.store.size + v.customer.size + v.rider.size +
                   v.group.size + v.external_ref.size + v.attributes.size + v.end_reason.size;
    struct order_line_view line;
    for (uint32_t i = 0, cursor = 0; i < v.lines_count; i++) {
        order_view_line(order, i, &cursor, &line);
        bytes += ORDER_ENCODE_LINE_BYTES + line.sku.size + line.name.size;
    }
    struct order_payment_view payment;
    for (uint32_t i = 0, cursor = 0; i < v.payments_count; i++) {
        order_view_payment(order, i, &cursor, &payment);
        bytes += ORDER_ENCODE_PAYMENT_BYTES + payment.method.size + payment.reference.size;
    }
    return bytes;
}

void order_encode_lines(struct msgpack_writer *w, const struct actor *order, uint32_t count) {
    msgpack_write_array(w, count);
    struct order_line_view line;
    for (uint32_t i = 0, cursor = 0; i < count; i++) {
        order_view_line(order, i, &cursor, &line);
        msgpack_write_array(w, line.name.size != 0 ? 5 : 4);
        msgpack_write_str(w, line.sku.data, line.sku.size);
        msgpack_write_int(w, line.quantity);
        msgpack_write_int(w, line.cancelled);
        msgpack_write_int(w, line.unit_price);
        if (line.name.size != 0) msgpack_write_str(w, line.name.data, line.name.size);
    }
}

void order_encode_payments(struct msgpack_writer *w, const struct actor *order, uint32_t count) {
    msgpack_write_array(w, count);
    struct order_payment_view payment;
    for (uint32_t i = 0, cursor = 0; i < count; i++) {
        order_view_payment(order, i, &cursor, &payment);
        msgpack_write_array(w, 4);
        msgpack_write_str(w, payment.method.data, payment.method.size);
        msgpack_write_str(w, payment.reference.data, payment.reference.size);
        msgpack_write_int(w, payment.amount);
        msgpack_write_text(w, payment_state_name(payment.state));
    }
}

void order_encode(struct msgpack_writer *w, const struct actor *order) {
    struct order_view v;
    order_view(order, &v);
    msgpack_write_map(w, ORDER_ENCODE_PAIRS);
    msgpack_write_text(w, "key");
    msgpack_write_bin(w, v.key.bytes, 16);
    msgpack_pair_uint(w, "version", v.version);
    msgpack_pair_uint(w, "last_index", v.last_index);
    msgpack_pair_text(w, "state", order_state_name(v.state));
    msgpack_pair_uint(w, "fulfilment", v.fulfilment);
    msgpack_pair_uint(w, "payment_timing", v.payment_timing);
    msgpack_pair_str(w, "currency", bytes_of(v.currency, strnlen(v.currency, 3)));
    msgpack_pair_str(w, "store", v.store);
    msgpack_pair_str(w, "customer", v.customer);
    msgpack_pair_str(w, "rider", v.rider);
    msgpack_pair_str(w, "group", v.group);
    msgpack_pair_str(w, "external_ref", v.external_ref);
    msgpack_pair_bin(w, "attributes", v.attributes);
    msgpack_pair_str(w, "end_reason", v.end_reason);
    msgpack_pair_uint(w, "ended_by", v.ended_by);
    msgpack_pair_int(w, "lines_total", v.lines_total);
    msgpack_pair_int(w, "fees", v.fees);
    msgpack_pair_int(w, "discounts", v.discounts);
    msgpack_pair_int(w, "total", v.total);
    msgpack_pair_int(w, "authorised", v.authorised);
    msgpack_pair_int(w, "captured", v.captured);
    msgpack_pair_int(w, "refunded", v.refunded);
    msgpack_pair_int(w, "refund_owed", v.refund_owed);
    msgpack_pair_int(w, "placed_ms", v.placed_ms);
    msgpack_pair_int(w, "updated_ms", v.updated_ms);
    msgpack_pair_int(w, "ready_estimate_ms", v.ready_estimate_ms);
    msgpack_pair_int(w, "payment_deadline_ms", v.payment_deadline_ms);
    msgpack_pair_int(w, "acceptance_deadline_ms", v.acceptance_deadline_ms);
    msgpack_pair_int(w, "auto_complete_ms", v.auto_complete_ms);
    msgpack_pair_int(w, "refund_deadline_ms", v.refund_deadline_ms);
    msgpack_pair_int(w, "retention_deadline_ms", v.retention_deadline_ms);
    msgpack_pair_int(w, "held_deadline_ms", v.held_deadline_ms);
    msgpack_pair_uint(w, "commands_count", v.commands_count);
    msgpack_pair_uint(w, "held_count", v.held_count);
    msgpack_pair_uint(w, "notes_count", v.notes_count);
    msgpack_write_text(w, "lines");
    order_encode_lines(w, order, v.lines_count);
    msgpack_write_text(w, "payments");
    order_encode_payments(w, order, v.payments_count);
}
