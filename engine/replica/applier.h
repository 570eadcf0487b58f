/* The applier: committed records -> rows, one transaction for all batches that wait.
 *
 *   applier_begin, applier_take (one or more), applier_commit (or applier_abort)
 *
 * Each event counts exactly once: records at or below a shard's position are skipped, one behind
 * the next is refused, and the positions change in the transaction of the rows. An event whose
 * order has it already (it came with an import) changes nothing.
 *
 * One thread. No sockets, no clock: the real replica and the tests drive the same code. */
#ifndef JUMUN_REPLICA_APPLIER_H
#define JUMUN_REPLICA_APPLIER_H

#include "engine/replica/fold.h"
#include "engine/replica/view_store.h"
#include "persistence/record.h"

struct applier;

struct applier_options {
    struct view_store *store;
    uint64_t memory_bytes;         /* of orders kept between transactions; 0 = 256 MiB */
    int64_t minutes_kept_ms;       /* of counters by minute; 0 = 8 days */
    /* After each commit: once, then for each order that changed (the order and its block are valid
     * during the call). NULL = nobody asks. */
    void (*committed)(void *arg);
    void (*changed)(void *arg, const struct fold_order *order);
    void *changed_arg;
};

/* What a batch came to. */
enum applier_outcome {
    APPLIER_TAKEN,
    APPLIER_GAP,                   /* it begins behind what is next: entries are missing */
    APPLIER_DAMAGED,               /* an event does not fit its order: see the sentence */
    APPLIER_NO_MEMORY,
    APPLIER_NO_ROOM                /* disk or map are full */
};

struct applier_stats {
    uint64_t transactions, entries, events, known, orders_written, rows_put, rows_deleted;
    uint64_t orders_read;          /* from the disk, because they were not in memory */
    uint64_t memory_bytes;
    uint64_t flush_ns, fold_ns;    /* summed */
};

/* Reads the positions. NULL with a sentence in error. */
struct applier *applier_new(const struct applier_options *options, char *error,
                            size_t error_bytes);
void applier_free(struct applier *applier);

/* The positions as of the last commit, or with what was taken since; sorted by shard. */
uint32_t applier_positions(const struct applier *applier, const struct view_position **positions);
/* What is next of a shard: 1 for one that it has never met. */
uint64_t applier_next(const struct applier *applier, uint32_t shard);

void applier_begin(struct applier *applier);

/* Whose logs these are: goes into the open transaction when the views do not know it yet. */
void applier_identify(struct applier *applier, const char *cluster_id);

/* Takes records that lie one behind the other, each padded to 8 bytes, 8-byte aligned, and checked
 * already. APPLIER_TAKEN, or why not: then the transaction must be aborted. */
enum applier_outcome applier_take(struct applier *applier, uint32_t shard, const void *records,
                                  size_t bytes, char *error, size_t error_bytes);

/* Events taken since applier_begin(). */
uint64_t applier_taken(const struct applier *applier);

/* Writes everything. APPLIER_TAKEN or APPLIER_NO_ROOM, APPLIER_NO_MEMORY: then nothing was written
 * and memory is as it was before applier_begin(). */
enum applier_outcome applier_commit(struct applier *applier);
void applier_abort(struct applier *applier);

/* Brings a shard to where a node's stored state is: `path` is a file that SNAPSHOT_BEGIN of its
 * feed made, of the shard's entries up to `index` at least. Orders are put, orders that it has not
 * got any more go, and the position is set; sums count from what the file does not hold on. In
 * several transactions: until the last one the shard is marked as being imported
 * (applier_is_importing()), and an end in between begins again. No transaction is open.
 * APPLIER_TAKEN, or why not, with a sentence. */
enum applier_outcome applier_import(struct applier *applier, uint32_t shard, const char *path,
                                    uint64_t index, char *error, size_t error_bytes);
bool applier_is_importing(const struct applier *applier, uint32_t shard);

/* Begins to build an index anew beside the one that answers; a slice with each commit. */
void applier_rebuild(struct applier *applier, enum view_number view);
/* Whether views are being built: commit now and then, even with nothing to take. */
bool applier_is_building(const struct applier *applier);

void applier_stats(const struct applier *applier, struct applier_stats *stats);

#endif
