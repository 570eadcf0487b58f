/* Results -> bytes for a client. docs/protocol.md shows every shape. Nothing allocates, nothing is
 * freed; any thread. */
#ifndef JUMUN_WIRE_REPLY_ENCODE_H
#define JUMUN_WIRE_REPLY_ENCODE_H

#include "engine/shard/request.h"
#include "engine/wire/msgpack_writer.h"

enum { REPLY_REFUSED_BYTES_MAX = 160 }; /* of reply_encode_refused() */

/* Tells where the leader of a shard is, for NOT_LEADER: its endpoint, at most ENDPOINT_BYTES_MAX
 * bytes with the NUL. `node`: the one that leads as the shard says; 0 = it does not know. False =
 * not known. */
struct reply_hints {
    bool (*leader)(void *arg, uint32_t shard, uint32_t node, char *endpoint);
    void *arg;
};

/* Upper bound of what reply_encode() writes for these results; at most MESSAGE_BYTES_MAX. */
size_t reply_bytes_max(const struct result *results, uint32_t count);

/* Writes the reply to a message whose commands were answered one by one. `capacity` is at least
 * reply_bytes_max(). Returns the bytes used.
 *
 * A value that finds no more room in the message is left out, and its result is MESSAGE_TOO_LARGE:
 * the client asks again for less. RESULT_VALUE_MSGPACK is copied as it is: it must be one value.
 * RESULT_VALUE_RESULT is copied in the place of the whole result. `hints` may be NULL. */
size_t reply_encode(const struct result *results, uint32_t count, const struct reply_hints *hints,
                    void *buffer, size_t capacity);

/* Writes the reply to a message that was refused as a whole. `capacity` is at least
 * REPLY_REFUSED_BYTES_MAX. Returns the bytes used. */
size_t reply_encode_refused(enum result_code code, void *buffer, size_t capacity);

#endif
