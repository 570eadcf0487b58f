/* What the files of the applier share. */
#ifndef JUMUN_REPLICA_APPLIER_INTERNAL_H
#define JUMUN_REPLICA_APPLIER_INTERNAL_H

#include "engine/limits.h"
#include "engine/replica/applier.h"
#include "engine/replica/sums.h"

/* A row to be put or deleted. */
struct applier_op {
    uint64_t prefix[4];        /* the key's first 32 bytes, to sort by */
    size_t key;                /* offset into applier.keys */
    uint16_t key_bytes;
    bool put;
};
struct applier_ops { struct applier_op *list; uint32_t count, capacity; };

/* An order that changed, with its key to sort by. */
struct applier_sorted { uint64_t prefix[2]; const struct overlay_order *order; };

/* An index that is being built: the slice goes on behind this order. */
struct applier_scan {
    bool wanted, running, first;
    struct id128 after;
    uint64_t orders;           /* looked at */
};

/* What writes the disk; one thread at a time. */
struct applier_disk {
    MDB_txn *txn;              /* NULL = none open */
    int64_t newest_ms, pruned_ms;
    struct applier_ops ops[VIEWS_COUNT];
    uint8_t *keys;             /* of all ops */
    size_t keys_bytes, keys_capacity;
    struct applier_sorted *sorted;
    uint32_t sorted_capacity;
    struct sums rolled;
    uint8_t *row;              /* room for the largest order with its head */
    struct applier_scan scans[VIEWS_COUNT];
    uint64_t built_orders[VIEWS_COUNT]; /* there were when an index was last switched to */
    struct applier_disk_stats stats;
};

enum { APPLIER_TIMES_MAX = 256 };

struct applier {
    struct applier_options options;
    struct view_store *store;
    struct fold *fold;
    struct sums sums[VIEWS_COUNT]; /* of what was taken since applier_begin() */
    struct fold_order **dirty; /* those that changed, while they are published */
    uint32_t dirty_capacity;
    bool begun;
    struct view_read read;     /* while it is begun: where orders come from */
    struct view_position positions[SHARDS_MAX], published[SHARDS_MAX];
    uint32_t positions_count, published_count;
    uint64_t taken;
    struct applier_time times[APPLIER_TIMES_MAX];
    uint32_t times_count;
    bool identified;           /* it was looked whether the disk knows the cluster */
    struct applier_stats stats;
    pthread_mutex_t disk_lock; /* guards `disk` */
    struct applier_disk disk;
    pthread_mutex_t lock;      /* guards what is below; short */
    struct applier_disk_stats disk_stats; /* as of the last transaction */
    char cluster_id[CLUSTER_ID_BYTES]; /* "" = not known, or the disk knows it */
};

/* The shard's position, a new one if there was none; the order of a key, from memory or disk, NULL
 * without memory. (applier.c) */
struct view_position *applier_position_of(struct applier *applier, uint32_t shard);
struct fold_order *applier_order_of(struct applier *applier, const struct id128 *key,
                                    uint32_t shard);

/* 0 or a code: the next slice of each index that is being built. (applier_build.c) */
int applier_build(struct applier *applier);
bool applier_is_building(const struct applier *applier);

/* 0 or a code: old rows of counters go. (applier_build.c) */
int applier_prune(struct applier *applier);

#endif
