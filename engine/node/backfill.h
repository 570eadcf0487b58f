/* Fills the gaps in the histories of a node's replicas: where a peer's stored state was installed
 * in the place of records, these are fetched from the feed of a node that has them (its RECORDS
 * form), piece by piece from the gap's front, and put into the log (storage_ops.fill).
 *
 * One thread for all replicas but that of the meta group, which no feed serves. It has time: a
 * piece is small, and between two of them it waits as long as the bound says, which is an eighth
 * while the logs of this node have anything to write. What has been filled stays filled, so it can
 * be cut short at any moment.
 *
 * A gap stays when all other replicas say that they have its front no more (retention, or a gap of
 * their own; they are asked again now and then), unless nothing is stored in front of it here:
 * then it is filled from the oldest record on that anybody has. One that is older as a whole than
 * this node keeps its log is left alone. */
#ifndef JUMUN_NODE_BACKFILL_H
#define JUMUN_NODE_BACKFILL_H

#include <stdbool.h>

#include "engine/limits.h"
#include "persistence/storage.h"

struct backfill;
struct tls_options;

struct backfill_options {
    const char *cluster_id;       /* whose feeds are believed; outlives it */
    const struct tls_options *tls;
    uint64_t bytes_per_second;    /* bound; 0 = CATCH_UP_BYTES_PER_SECOND */
    int64_t retention_ms;         /* of this node's log */
    int64_t look_ms;              /* between two looks for gaps; 0 = a second */
    int64_t retry_ms;             /* before somebody is asked again who had nothing; 0 = a minute */
    /* The general endpoints of the other nodes that have a replica of a shard, at most `max`;
     * returns how many. On its thread, which holds no replica then: may wait. */
    uint32_t (*peers)(void *arg, uint32_t shard, char (*endpoints)[ENDPOINT_BYTES_MAX],
                      uint32_t max);
    void *arg;
};

/* Starts the thread. NULL with a sentence in error. */
struct backfill *backfill_start(const struct backfill_options *options, char *error,
                                size_t error_bytes);

/* A replica of this node is there. Any thread. */
void backfill_add(struct backfill *b, uint32_t shard, struct storage *storage);

/* It is about to be closed: on return its storage is not touched any more. Waits for a piece that
 * is being written. Harmless for one that was never added. Any thread. */
void backfill_forget(struct backfill *b, uint32_t shard);

/* Ends what is under way, joins and frees. */
void backfill_stop(struct backfill *b);

#endif
