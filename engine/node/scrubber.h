/* Looks for damage on this node's disk: what lies there and is seldom read (closed segments of the
 * logs, the stored states) is read back, each thing once in a period, and what is not as it was
 * written is told in the log and counted, while other copies of it are still good. Nothing is
 * repaired or deleted.
 *
 * One thread for all replicas, the meta group's too, that gives way to all others. It reads small
 * pieces at the rate that has it done in a period, within bounds; then it rests until the period is
 * over. Where it begins is left to chance, so that a node that is restarted often does not look at
 * the same things again and again. */
#ifndef JUMUN_NODE_SCRUBBER_H
#define JUMUN_NODE_SCRUBBER_H

#include <stdbool.h>

#include "persistence/storage.h"

struct scrubber;

struct scrubber_options {
    int64_t period_ms;            /* not 0 */
    uint32_t seed;                /* of where it begins */
    bool clustered;               /* for what the log advises */
};

/* Of the node, since its start. */
struct scrubber_stats {
    int64_t period_ms;            /* 0 = it does not look */
    uint64_t rounds;              /* everything was looked at so many times */
    int64_t round_ms;             /* Unix time when the last of them ended; 0 = none did */
    uint64_t bytes;               /* read for it */
    uint64_t postponed;           /* pieces, for lack of memory or descriptors */
};

/* Of a shard: what this look, or the last whole one, has found. */
struct scrubber_damages {
    uint64_t count;               /* at least so many */
    struct storage_damage first;  /* if there is any */
};

/* Starts the thread. NULL with a sentence in error. */
struct scrubber *scrubber_start(const struct scrubber_options *options, char *error,
                                size_t error_bytes);

/* As backfill.h has them. Any thread. */
void scrubber_add(struct scrubber *b, uint32_t shard, struct storage *storage);
void scrubber_forget(struct scrubber *b, uint32_t shard);

/* Any thread. `b` may be NULL: nothing is looked for. */
void scrubber_stats(struct scrubber *b, struct scrubber_stats *stats);
void scrubber_damages(struct scrubber *b, uint32_t shard, struct scrubber_damages *damages);

/* Ends what is under way, joins and frees. */
void scrubber_stop(struct scrubber *b);

#endif
