/* Copies of stored state, made on demand and given out in chunks (SNAPSHOT_* of
 * engine/wire/feed_protocol.h): by the feed of a node for one shard, by a replica for all its
 * views. One thread makes them, reads them, and answers; it holds back to a bounded rate, so that
 * nobody else's disk suffers. A copy lives in a file until it is ended, or was not asked for a
 * while, or the process ends: a reader resumes by offset. Of FEED_COPIES_MAX copies the one that
 * was not asked for the longest makes room for a new one, once that is some time ago; until then
 * the answer is OVERLOADED, with the time. */
#ifndef JUMUN_FEED_FEED_COPIES_H
#define JUMUN_FEED_FEED_COPIES_H

#include <stdatomic.h>

#include "engine/feed/responder.h"
#include "engine/limits.h"
#include "engine/wire/feed_decode.h"
#include "engine/wire/query_decode.h"

enum { FEED_COPIES_MAX = 4, FEED_COPY_CHUNK_BYTES = 1 << 20 };

struct feed_copies;

/* What a copy reflects. */
struct feed_copy_tokens {
    uint32_t count;
    struct query_token tokens[256];
    char cluster_id[CLUSTER_ID_BYTES]; /* whose it is; "" = not told */
};

struct feed_copies_options {
    const char *directory;         /* for the files; made; what lies there is removed */
    uint64_t bytes_per_second;     /* of chunks; 0 = 256 MiB */
    int64_t idle_ms;               /* a copy that nobody reads goes after it; 0 = 5 minutes */
    int64_t spare_ms;              /* ... and makes room for a new one after it; 0 = 30 s */
    /* Makes the copy of `shard` (UINT32_MAX = of everything) as the new file `path`. 0 with
     * *tokens, or the result code that refuses it, with a sentence in error. On the snapshots'
     * thread; `stop` ends it early. */
    int (*make)(void *arg, uint32_t shard, const char *path, const atomic_bool *stop,
                struct feed_copy_tokens *tokens, char *error, size_t error_bytes);
    void *arg;
};

/* NULL with a sentence in error. */
struct feed_copies *feed_copies_start(const struct feed_copies_options *options, char *error,
                                  size_t error_bytes);

/* Takes over a SNAPSHOT_* request; answers it later. Any thread; never blocks. */
void feed_copies_offer(struct feed_copies *copies, struct responder_slot *slot,
                       const struct feed_request *request);

/* The file of a copy, for who reads it in place; it stays until feed_copies_release(). False =
 * there is no such copy. Any thread. */
bool feed_copies_hold(struct feed_copies *copies, uint64_t id, char *path, size_t path_bytes);
void feed_copies_release(struct feed_copies *copies, uint64_t id);

/* Ends the thread: what waits and what still comes is answered SHUTTING_DOWN. */
void feed_copies_stop(struct feed_copies *copies);
/* Removes the files and frees; it must have been stopped, and nobody may call it any more. */
void feed_copies_free(struct feed_copies *copies);

#endif
