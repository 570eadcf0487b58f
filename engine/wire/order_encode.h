/* An order as msgpack, for whoever shows one: replies, replicas, tools. docs/protocol.md shows the
 * map. Nothing allocates; any thread that may read the block. */
#ifndef JUMUN_WIRE_ORDER_ENCODE_H
#define JUMUN_WIRE_ORDER_ENCODE_H

#include "actors/order/order.h"
#include "engine/wire/msgpack_writer.h"

/* Upper bound of what order_encode() writes. */
size_t order_encode_bytes_max(const struct actor *order);

/* Writes the order as one map: the fields of struct order_view by name and in its order, then
 * "lines" and "payments". Every key is always there; "" stands for a text that is not set, 0 for a
 * time or a number that is not set. What does not fit sets writer->overflow. */
void order_encode(struct msgpack_writer *writer, const struct actor *order);

/* The order's lists alone, as in the map; `count` is that of its view. */
void order_encode_lines(struct msgpack_writer *writer, const struct actor *order, uint32_t count);
void order_encode_payments(struct msgpack_writer *writer, const struct actor *order,
                           uint32_t count);

/* "authorised", "captured", "failed", "voided"; "unknown" outside enum payment_state. */
const char *payment_state_name(uint32_t state);

#endif
