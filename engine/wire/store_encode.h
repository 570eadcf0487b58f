/* A store as msgpack: replies, replicas, tools. docs/protocol.md shows the map. Any thread that may
 * read the block. */
#ifndef JUMUN_WIRE_STORE_ENCODE_H
#define JUMUN_WIRE_STORE_ENCODE_H

#include "actors/store/store.h"
#include "engine/wire/msgpack_writer.h"

/* Upper bound of what store_encode() writes. */
size_t store_encode_bytes_max(const struct actor *store);

/* Writes the store as one map: {"id", "paused", "pause_reason", "open_orders", "placed_orders",
 * "version", "last_index"}. What does not fit sets writer->overflow. */
void store_encode(struct msgpack_writer *writer, const struct actor *store);

#endif
