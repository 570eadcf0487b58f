/* The envelope of a message between two shards, as it travels over nng:
 *
 *   [from, to, sequence, kind, payload]
 *     from, to, sequence   uint
 *     kind                 1 message, 2 acknowledgement
 *     payload              bin: actors/store/store.h; empty for an acknowledgement
 *
 * For example shard 0 tells shard 1 with its 7th message to it: 95 00 01 07 01 c4 05 92 01 ...
 * Pure; any thread. */
#ifndef JUMUN_COURIER_ENVELOPE_H
#define JUMUN_COURIER_ENVELOPE_H

#include <stdbool.h>

#include "engine/base/bytes.h"

enum envelope_kind { ENVELOPE_MESSAGE = 1, ENVELOPE_ACKNOWLEDGEMENT = 2 };

struct envelope {
    uint32_t from, to;      /* shards */
    uint8_t kind;           /* enum envelope_kind */
    uint64_t sequence;      /* of the message; of an acknowledgement: everything up to it */
    struct bytes payload;   /* borrowed */
};

/* Bytes that envelope_encode() needs at most. */
size_t envelope_bytes_max(const struct envelope *envelope);

/* Writes it. Returns the bytes used; 0 if `capacity` is too small. */
size_t envelope_encode(const struct envelope *envelope, void *out, size_t capacity);

/* Reads it; the payload is a view into `data`. False for anything but one whole envelope of a known
 * kind. */
bool envelope_decode(const void *data, size_t bytes, struct envelope *envelope);

#endif
