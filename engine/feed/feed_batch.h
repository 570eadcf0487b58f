/* The payload of one answer to a PULL, read from the log; and the look-up of a time. No sockets.
 *
 * Any thread that may read the storage; nothing is shared between two batches. */
#ifndef JUMUN_FEED_BATCH_H
#define JUMUN_FEED_BATCH_H

#include "engine/wire/feed_decode.h"
#include "engine/wire/msgpack_writer.h"
#include "persistence/storage.h"

/* Room that a batch needs at most, whatever is asked for. */
#define FEED_BATCH_ROOM_BYTES ((size_t)MESSAGE_BYTES_MAX)

enum feed_batch_outcome {
    FEED_BATCH_DONE,           /* `next` is behind what was read; the payload may be empty */
    FEED_BATCH_TOO_LARGE,      /* the entry at `next` does not fit an answer in this form */
    FEED_BATCH_UNREADABLE      /* `error` says why the entry at `next` could not be read */
};

struct feed_batch {
    uint64_t next;             /* the index to go on with */
    size_t bytes;              /* of the payload, as msgpack, at the buffer's start */
    uint32_t entries, events;
    uint64_t log_bytes;        /* of the entries' payloads, whatever of them is in the answer */
    char error[256];
};

/* Reads entries request->from..last and writes them in the request's form into `buffer`, which has
 * FEED_BATCH_ROOM_BYTES. */
enum feed_batch_outcome feed_batch_read(struct storage *storage, const struct feed_request *request,
                                        uint64_t last, uint8_t *buffer, struct feed_batch *batch);

/* The first index in [first, last] whose entry was decided at time_ms or later; last + 1 = none.
 * False with a sentence when the log cannot be read. */
bool feed_locate(struct storage *storage, uint64_t first, uint64_t last, int64_t time_ms,
                 uint64_t *index, char *error, size_t error_bytes);

#endif
