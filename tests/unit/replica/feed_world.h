/* A node that is nothing but its feed: the shards of a random history on simulated disks. What is
 * committed, what the logs still hold, and what a copy of a shard's state is, a test says. */
#ifndef JUMUN_TESTS_FEED_WORLD_H
#define JUMUN_TESTS_FEED_WORLD_H

#include <stdatomic.h>

#include "engine/feed/feed.h"
#include "tests/unit/replica/history_world.h"
#include "tests/world/storage_memory.h"

struct feed_world;

/* Writes a copy of the shard's state, as of the end of its history, to the new file. */
typedef void feed_world_state(struct feed_world *world, uint32_t shard, const char *path);

struct feed_world_shard {
    struct feed_world *world;
    uint32_t shard;
    struct storage_memory *disk;
    struct storage *storage;
    struct storage_ops ops;
    atomic_ullong committed;
    atomic_bool unknown;           /* whether that is all that there is */
    atomic_uint copies;            /* of its state that were made */
    atomic_ullong state_index;     /* that these are of at least; 0 = the end of the history */
};

struct feed_world {
    const char *cluster_id, *address;
    struct history history;
    struct feed_world_shard shards[HISTORY_SHARDS];
    _Atomic(feed_world_state *) make_state; /* NULL: there are no copies */
    struct feed *feed;             /* NULL = it is down */
};

/* All of the history is in the logs, and committed. */
void feed_world_init(struct feed_world *world, const char *cluster_id, const char *address,
                     uint64_t seed, uint32_t entries);
void feed_world_fini(struct feed_world *world);

/* The shard's log has lost its beginning. */
void feed_world_forget(struct feed_world *world, uint32_t shard);

/* Begins and ends to serve; `snapshots` is a directory for copies, NULL = there are none. */
void feed_world_up(struct feed_world *world, uint32_t shards_count, const char *snapshots);
void feed_world_down(struct feed_world *world);

/* Makes the file that a node's copy of the shard's state is: its orders that live, as the whole
 * history leaves them, and those that ended behind `state_index`. */
feed_world_state feed_world_write_state;

#endif
