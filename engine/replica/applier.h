/* The applier: committed records -> what can be read, in two steps.
 *
 *   applier_begin, applier_take (one or more), applier_commit (or applier_abort)
 *       all batches that wait become one publication in memory, to be read at once
 *   applier_freeze, then applier_write
 *       what was published since the last time becomes rows on disk, in one transaction
 *
 * The first step costs an order's memory, the second one pages of many trees: many publications
 * share a transaction, and of all that happened to an order in between only the end is written.
 *
 * Each event counts exactly once: records at or below a shard's position are skipped, one behind
 * the next is refused, and the positions change with the publication, and in the transaction of
 * the rows. A kill takes what is not written; it comes again from the log, from the disk's
 * positions on. An event whose order has it already (it came with an import) changes nothing.
 *
 * Two threads: applier_write() is one's, everything else the other's. No sockets: the real replica
 * and the tests drive the same code. */
#ifndef JUMUN_REPLICA_APPLIER_H
#define JUMUN_REPLICA_APPLIER_H

#include "engine/replica/fold.h"
#include "engine/replica/view_store.h"
#include "persistence/record.h"

struct applier;

struct applier_options {
    struct view_store *store;
    uint64_t memory_bytes;         /* of orders kept between publications; 0 = 256 MiB */
    uint64_t unwritten_bytes;      /* of publications that the disk has not got; 0 = half of it */
    int64_t minutes_kept_ms;       /* of counters by minute; 0 = 8 days */
    /* After each publication: once, then for each order that changed (the order and its block are
     * valid during the call). NULL = nobody asks. */
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
    uint64_t entries, events, known, publications;
    uint64_t orders_read;          /* from the disk, because they were not in memory */
    uint64_t memory_bytes, unwritten_bytes;
    uint64_t fold_ns, publish_ns;  /* summed */
    struct applier_disk_stats {
        uint64_t transactions, orders_written, rows_put, rows_deleted, write_ns;
    } disk;
};

/* Reads the positions. NULL with a sentence in error. */
struct applier *applier_new(const struct applier_options *options, char *error,
                            size_t error_bytes);
void applier_free(struct applier *applier);

/* The positions as of the last publication, or with what was taken since; sorted by shard. */
uint32_t applier_positions(const struct applier *applier, const struct view_position **positions);
/* What is next of a shard: 1 for one that it has never met. */
uint64_t applier_next(const struct applier *applier, uint32_t shard);

/* False: no reader slot, no memory; try again. */
bool applier_begin(struct applier *applier);

/* Whose logs these are: goes to the disk with the next transaction when the views do not know it
 * yet. */
void applier_identify(struct applier *applier, const char *cluster_id);

/* Takes records that lie one behind the other, each padded to 8 bytes, 8-byte aligned, and checked
 * already. APPLIER_TAKEN, or why not: then what was begun must be aborted. */
enum applier_outcome applier_take(struct applier *applier, uint32_t shard, const void *records,
                                  size_t bytes, char *error, size_t error_bytes);

/* With what was taken since applier_begin() the shard is up to date: if it was being built from
 * nothing, it is whole from the publication on. */
void applier_up_to_date(struct applier *applier, uint32_t shard);

/* When the entries were decided that were taken since applier_begin(): so many of a shard at a
 * time; if there were very many times, the last ones are said to be older than they are. */
struct applier_time { uint32_t shard, entries; int64_t time_ms; };
uint32_t applier_times(const struct applier *applier, const struct applier_time **times);

/* Events taken since applier_begin(), and the bytes of the orders that they changed. */
uint64_t applier_taken(const struct applier *applier);
uint64_t applier_taken_bytes(const struct applier *applier);

/* Publishes everything. APPLIER_TAKEN or APPLIER_NO_MEMORY: then nothing was published and memory
 * is as it was before applier_begin(). */
enum applier_outcome applier_commit(struct applier *applier);
void applier_abort(struct applier *applier);

/* Bytes of publications that are not being written yet, and how long ago the first one was made;
 * 0 bytes = there are none. */
uint64_t applier_unwritten(const struct applier *applier, int64_t *age_ms);
/* Bytes of orders that the next publication should not go far beyond. */
uint64_t applier_room(const struct applier *applier);
/* As much as there may be: to be frozen before more is taken. */
bool applier_is_full(const struct applier *applier);
/* Hands what is published to applier_write(). False: there is nothing, it has some still, or there
 * is no memory. */
bool applier_freeze(struct applier *applier);

/* Writes what is frozen, and a slice of what there is to keep house. APPLIER_TAKEN or
 * APPLIER_NO_ROOM, APPLIER_NO_MEMORY: then nothing was written, and it is to be called again. */
enum applier_outcome applier_write(struct applier *applier);
/* Whether applier_write() has anything to do. */
bool applier_has_work(struct applier *applier);

/* Everything that is published goes to the disk, on this thread; the same outcomes. */
enum applier_outcome applier_settle(struct applier *applier);

/* Brings a shard to where a node's stored state is: `path` is a file that SNAPSHOT_BEGIN of its
 * feed made, of the shard's entries up to `index` at least. Orders are put, orders that it has not
 * got any more go, and the position is set; sums count from what the file does not hold on. In
 * steps, each a publication of its own, of a bounded number of orders: in between, and only there,
 * records of other shards may be taken, but none of this one. Until the last step the shard is
 * marked as being imported (applier_lacks()), and an end in between begins again; so does a step
 * that fails, after which nothing but the end may follow. Nothing is begun when these are called.
 * APPLIER_TAKEN, or why not, with a sentence. */
struct applier_import;
enum applier_import_state {
    APPLIER_IMPORT_GOES_ON,
    APPLIER_IMPORT_WAITS,          /* until applier_write() has written what was published */
    APPLIER_IMPORT_DONE
};
enum applier_outcome applier_import_begin(struct applier *applier, uint32_t shard,
                                          const char *path, uint64_t index,
                                          struct applier_import **import, char *error,
                                          size_t error_bytes);
enum applier_outcome applier_import_step(struct applier_import *import,
                                         enum applier_import_state *state, char *error,
                                         size_t error_bytes);
void applier_import_end(struct applier_import *import);
/* Why rows of the shard may be missing; VIEW_BUILDING for one that it has never met. */
enum view_lack applier_lacks(const struct applier *applier, uint32_t shard);

/* Begins to build an index anew beside the one that answers; a slice with each applier_write(). Any
 * thread, but it may have to wait for a transaction. */
void applier_rebuild(struct applier *applier, enum view_number view);
/* How that goes: `generation` grows when a view has been built and answers, 0 = none does yet.
 * orders_built: that there were in the transaction that switched to it, 0 = none did since the
 * start. applier_write()'s thread. */
struct applier_build { bool building; uint64_t orders_done, orders_built, generation; };
void applier_builds(struct applier *applier, struct applier_build builds[VIEWS_COUNT]);

void applier_stats(struct applier *applier, struct applier_stats *stats);

#endif
