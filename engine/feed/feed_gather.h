/* Whether a pull at the log's end waits a moment for more.
 *
 * An answer costs the node the same, whatever is in it: ten microseconds of threads that wake
 * each other. A shard that writes much would be asked again for each few of its entries; there,
 * pulls wait until some have gathered. Where little is written nobody waits: the change that
 * somebody watches for is on its way at once.
 *
 * No clock: time comes in, in monotonic milliseconds. One writer: the thread of the shard. */
#ifndef JUMUN_FEED_GATHER_H
#define JUMUN_FEED_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/limits.h"

struct feed_gather {
    uint64_t head;             /* behind the furthest entry that was given to anybody */
    int64_t since_ms;          /* begin of the span that is being counted */
    uint64_t bytes;            /* given to the first who asked for them, in it */
    uint64_t bytes_per_ms;     /* of the span before */
};

/* Entries from..next-1, of `bytes` in the log, were given to somebody. */
static inline void feed_gather_gave(struct feed_gather *g, uint64_t from, uint64_t next,
                                    uint64_t bytes, int64_t now_ms) {
    if (next > g->head && next > from) {
        uint64_t fresh = from >= g->head ? next - from : next - g->head;
        g->bytes += bytes * fresh / (next - from);
        g->head = next;
    }
    if (now_ms - g->since_ms < FEED_GATHER_SPAN_MS) return;
    g->bytes_per_ms = g->bytes / (uint64_t)(now_ms - g->since_ms);
    g->bytes = 0;
    g->since_ms = now_ms;
}

/* Whether the pull from `from`, asked for at asked_ms, is to wait although there is something. Who
 * is behind what others have is given it at once. */
static inline bool feed_gather_waits(const struct feed_gather *g, uint64_t from, int64_t asked_ms,
                                     int64_t now_ms) {
    return g->bytes_per_ms >= FEED_GATHER_BYTES_PER_MS && from >= g->head &&
           now_ms - asked_ms < FEED_GATHER_MS;
}

#endif
