/* The follower: pulls the entries of all shards from the feeds of one or several nodes, checks them
 * and hands them on in order. A shard is one lane: one pull on its way, the next one as soon as the
 * answer is there. A node that fails, lags away or lacks the shard is left for the next one; a
 * position is the same everywhere. All nodes are asked side by side what they have: dead ones hold
 * up nobody.
 *
 * Only what is of the cluster that is followed is taken: each answer says whose it is, as another
 * cluster's node may come to stand at the same address and number its entries likewise. Such a node
 * counts as not reached.
 *
 * What is handed on and not taken yet is bounded per lane (FOLLOWER_LANE_BYTES_MAX): then the lane
 * pauses, and the log waits on the nodes' disks. */
#ifndef JUMUN_REPLICA_FOLLOWER_H
#define JUMUN_REPLICA_FOLLOWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/commit_times.h"
#include "engine/limits.h"

#define FOLLOWER_LANE_BYTES_MAX (8u << 20)
enum { FOLLOWER_SOURCES_MAX = 16 };

struct follower;

/* Entries first..next-1 of a shard, checked: whole, gap-free, every checksum right. Empty when the
 * node only says that there is nothing new. */
struct follower_batch {
    struct follower_batch *link; /* for whoever queues it */
    uint32_t shard;
    uint64_t first, next;
    uint64_t commit;           /* newest that the node could give: next > commit = up to date */
    int64_t received_ms;       /* monotonic */
    int64_t late_ms;           /* by the node's clock: from the decision of the newest entry in it
                                  to its sending; 0 when it is empty */
    /* When its entries became committed at the node, by that one's clock; oldest first. */
    struct commit_moment moments[FEED_MOMENTS_MAX];
    uint32_t moments_count;
    size_t bytes;
    _Alignas(8) uint8_t records[]; /* each padded to 8 bytes */
};

struct follower_options {
    const char *nodes;         /* comma-separated: see feed_discover() */
    uint32_t heartbeat_ms;     /* a pull that finds nothing comes back after so long; 0 = 100 */
    /* The cluster that is followed; "" = any, the first one met. Others are refused. */
    char cluster_id[CLUSTER_ID_BYTES];
    /* Where a shard that was just heard of begins; 0 = it stands until follower_restart(). */
    uint64_t (*next)(void *arg, uint32_t shard);
    /* Takes over the batch, to be given back by follower_consumed(). Threads of nng; one at a time
     * for a shard. */
    void (*offer)(void *arg, struct follower_batch *batch);
    /* No node's log has the shard's next entry any more, of those that answer; one can be followed
     * from `from`. The lane stands until follower_restart(). */
    void (*import_required)(void *arg, uint32_t shard, uint64_t from);
    /* What follows here: threads of the follower, one call at a time.
     * A node answered; shards that nobody told of before have lanes now. */
    void (*identified)(void *arg, const char *cluster_id, uint32_t shards_count);
    /* The same, whenever one did: shards that exist no more, as far as it knows, and that no node
     * has. */
    void (*retired)(void *arg, const bool retired[SHARDS_MAX]);
    /* The same: shards that exist, as far as anybody told; before anything of them is offered. */
    void (*existing)(void *arg, const bool existing[SHARDS_MAX]);
    void *arg;
};

struct follower_stats {
    uint32_t lanes, lanes_standing; /* standing: an import is required, or damaged */
    uint64_t batches, bytes, heartbeats;
    uint64_t failures;         /* pulls that failed, and times that a node did not answer */
    char source[256];          /* the feed that the first lane follows; "" = none now */
};

/* How it goes with one of the nodes that it was given. */
struct follower_source {
    char node[ENDPOINT_BYTES_MAX]; /* as it was given */
    char feed[ENDPOINT_BYTES_MAX]; /* "" = it has never said */
    bool reached;              /* it answered when it was asked last, and is of our cluster */
    uint64_t failures;         /* times that it did not */
    char why[512];             /* a sentence, when it is not reached; "" = not asked yet */
};

/* Where a shard comes from. */
struct follower_lane {
    char node[ENDPOINT_BYTES_MAX]; /* whose feed it follows, as it was given; "" = nobody's now */
    uint64_t failures;         /* pulls that failed */
    char why[512];             /* which node refused the last one, its sentence; "" = none did since
                                  entries came */
};

/* Begins to follow. NULL with a sentence in error. */
struct follower *follower_start(const struct follower_options *options, char *error,
                                size_t error_bytes);

/* The batch is done with: frees it, and lets its lane go on. Any thread. */
void follower_consumed(struct follower *follower, struct follower_batch *batch);

/* The lane begins anew at `next`: after an import, or after a batch that could not be taken. What
 * it had handed on and is not consumed yet is still to be consumed. Any thread but an offer's. */
void follower_restart(struct follower *follower, uint32_t shard, uint64_t next);
/* The lane stands: what came last cannot be applied. */
void follower_stand(struct follower *follower, uint32_t shard);

/* The feed of the `attempt`-th node (0, 1, ...) that has the shard; "" = there are no more. */
void follower_feed(struct follower *follower, uint32_t shard, uint32_t attempt, char *feed,
                   size_t feed_bytes);

void follower_stats(struct follower *follower, struct follower_stats *stats);
/* False: there are no more; `number` counts from 0. */
bool follower_source(struct follower *follower, uint32_t number, struct follower_source *source);
/* All "" and 0 for a shard that nobody told of. */
void follower_lane(struct follower *follower, uint32_t shard, struct follower_lane *lane);

/* Ends all lanes; no callback comes afterwards. Batches that were handed on stay the taker's, to be
 * freed with free(). */
void follower_stop(struct follower *follower);

#endif
