/* Groups of replicas on simulated disks and a simulated network, under a virtual clock, in one
 * thread: a few nodes, each with a replica of every shard. */
#ifndef JUMUN_TEST_GROUP_WORLD_H
#define JUMUN_TEST_GROUP_WORLD_H

#include "tests/unit/shard/shard_world.h"
#include "tests/world/network.h"

enum { GROUP_NODES_MAX = 5, GROUP_SHARDS = WORLD_SHARDS, GROUP_SHARDS_MAX = 4 };

struct group_world;

/* What replicas of a shard said is settled: whoever says so of an index, it is of one term for
 * ever. The newest GROUP_SETTLED of them. */
enum { GROUP_SETTLED = 4096 };
struct group_settled { uint64_t index, term; };

/* One replica: what its shard is given of the world. */
struct replica {
    struct peers peers;          /* first: the shard's handle */
    struct courier courier;
    struct group_world *world;
    uint32_t node, id;           /* of the node, from 0; of the shard */
    uint64_t server_id;
    struct storage_memory *disk;
    struct storage *storage;
    struct shard *shard;         /* NULL = its node is down */
    uint64_t leader, term;       /* as told by the shard */
    bool ready;
    bool wants_snapshot[GROUP_NODES_MAX]; /* of this one, as leader: asked for, by node */
    uint64_t settled;            /* index that it told last */
};

struct group_world {
    struct world names;          /* only makes keys, ids and commands */
    uint32_t nodes;              /* those that the groups begin with */
    struct replica replicas[GROUP_NODES_MAX][GROUP_SHARDS_MAX];
    uint32_t shards;             /* that run */
    struct shard_view view;      /* of the cluster document; version 0 = there is none */
    struct storage_memory_files *files;
    struct storage_memory_options disk_options;
    struct network *network;
    struct shard_options options;
    int64_t mono_ms, now_ms;
    int64_t clock_off_ms[GROUP_NODES_MAX]; /* of a node's Unix clock */
    bool up[GROUP_NODES_MAX];
    bool frozen[GROUP_NODES_MAX]; /* its shards get no time; what comes for them waits */
    struct group_settled settled[GROUP_SHARDS_MAX][GROUP_SETTLED]; /* by index */
    uint64_t snapshots;          /* sent */
    uint64_t from_memory[GROUP_NODES_MAX]; /* entries sent, by receiver; those that the sender's */
    uint64_t from_log[GROUP_NODES_MAX];    /* log is read for */
    bool no_snapshots;
};

struct group_setup {
    uint32_t nodes;              /* 0 = 3 */
    uint32_t shards;             /* 0 = GROUP_SHARDS, and no cluster document tells of them */
    struct storage_memory_options disk;
    struct network_options network;
    uint32_t trailing_entries;
    int64_t checkpoint_age_ms;
};

void group_open(struct group_world *w, const struct group_setup *setup);
void group_close(struct group_world *w);         /* judges the disks */
void group_start_node(struct group_world *w, uint32_t node);
void group_crash_node(struct group_world *w, uint32_t node);
void group_cut_node(struct group_world *w, uint32_t node, int64_t ms); /* both ways, from all */
void group_run(struct group_world *w, int64_t ms);

/* The node whose replica serves, of several the one of the newest term; -1 = none. */
int group_leader(const struct group_world *w, uint32_t shard);
/* Runs until there is one (at most 20 s) that all others that are up know of. */
uint32_t group_await_leader(struct group_world *w, uint32_t shard);
struct shard *group_shard(struct group_world *w, uint32_t node, uint32_t shard);
uint32_t group_shard_of(const struct group_world *w, const struct command *command);

/* What commands to the cluster document do, in a world whose setup gives `shards`. */
void group_grow(struct group_world *w, uint32_t shards, int64_t from_ms);
void group_move_stores(struct group_world *w);  /* to the shards of the newest epoch */
void group_retire(struct group_world *w, uint32_t shard);
/* The node learns the newest one; if it is up, it does so within a second by itself too. */
void group_tell(struct group_world *w, uint32_t node);

bool group_offer(struct group_world *w, uint32_t node, struct ask *ask,
                 const struct command *command);
/* Asks whoever leads, again and again under the same id, as a client does. */
struct result group_ask(struct group_world *w, const struct command *command);

void group_print(const struct group_world *w); /* for whoever looks for a fault */

/* Runs until all replicas that are up have applied the same log (at most 20 s) and compares what
 * they have in memory. NULL, or what differs. */
const char *group_difference(struct group_world *w, uint32_t shard);

#endif
