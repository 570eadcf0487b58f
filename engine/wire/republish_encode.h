/* The message that carries republished events to a subscriber (engine/wire/feed_protocol.h).
 * Header-only; any thread. */
#ifndef JUMUN_WIRE_REPUBLISH_ENCODE_H
#define JUMUN_WIRE_REPUBLISH_ENCODE_H

#include "engine/base/bytes.h"
#include "engine/wire/feed_protocol.h"
#include "engine/wire/msgpack_writer.h"

enum { REPUBLISH_HEAD_BYTES_MAX = 64 };

/* Everything before the events: `events` maps follow, as a history shows them, with "shard" and
 * "republished" in front. */
static inline void republish_encode_head(struct msgpack_writer *w, const struct id128 *stream,
                                         uint64_t number, uint32_t events) {
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, FEED_REPUBLISHED);
    msgpack_write_bin(w, stream->bytes, sizeof stream->bytes);
    msgpack_write_uint(w, number);
    msgpack_write_array(w, events);
}

#endif
