/* Fields of an order by name: for queries that ask for a few of them. The names are those of the
 * map that order_encode() writes, and so are the values. Nothing allocates; any thread. */
#ifndef JUMUN_WIRE_ORDER_FIELDS_H
#define JUMUN_WIRE_ORDER_FIELDS_H

#include "actors/order/order.h"
#include "engine/wire/msgpack_writer.h"

/* X(name): in the order of the map. */
#define ORDER_FIELDS(X)                                                                            \
    X(key) X(version) X(last_index) X(state) X(fulfilment) X(payment_timing) X(currency) X(store)  \
    X(customer) X(rider) X(group) X(external_ref) X(attributes) X(end_reason) X(ended_by)          \
    X(lines_total) X(fees) X(discounts) X(total) X(authorised) X(captured) X(refunded)             \
    X(refund_owed) X(placed_ms) X(updated_ms) X(ready_estimate_ms) X(payment_deadline_ms)          \
    X(acceptance_deadline_ms) X(auto_complete_ms) X(refund_deadline_ms) X(retention_deadline_ms)   \
    X(held_deadline_ms) X(commands_count) X(held_count) X(notes_count) X(lines) X(payments)

enum order_field {
#define X(name) ORDER_FIELD_##name,
    ORDER_FIELDS(X)
#undef X
    ORDER_FIELDS_COUNT
};

/* The field of this name; -1 = an order has none. */
int order_field_of(struct bytes name);

/* Writes an array of these fields' values, in this order. What does not fit sets
 * writer->overflow. Its size is bounded by order_encode_bytes_max() when no field comes twice. */
void order_fields_encode(struct msgpack_writer *writer, const struct actor *order,
                         const uint8_t *fields, uint32_t count);

#endif
