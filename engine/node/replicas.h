/* The replicas that a node runs: storage, thread and shard of each, started and stopped while the
 * node runs. One control thread at a time calls these; who only uses a shard enters it through
 * n->local (engine/router/local_shards.h). */
#ifndef JUMUN_NODE_REPLICAS_H
#define JUMUN_NODE_REPLICAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/node/topology.h"
#include "engine/router/local_shards.h"

struct node;

/* What is asked for of one replica. */
struct replica_wanted {
    uint32_t shard;
    uint64_t server_id;
    const uint64_t *first_servers;    /* see shard_options; NULL and 0 = a group of one, or joins */
    uint32_t first_servers_count;
    bool placed_alone;                /* see shard_options */
};

/* Starts replicas side by side and puts them where they are found. EXIT_DONE, or an exit code with
 * a sentence in error; then those stay that were found already, and the others may be tried
 * again. */
int replicas_start(struct node *n, const struct replica_wanted *wanted, uint32_t count,
                   char *error, size_t error_bytes);

/* Takes one out, lets it finish for a while, and closes it. Nothing happens where there is none. */
void replicas_stop(struct node *n, uint32_t shard);

/* The end of the node, in two steps: all threads, then all storages. Nothing is offered to the
 * shards any more in the first, nothing reads the storages any more in the second. */
void replicas_stop_threads(struct node *n);
void replicas_close_storages(struct node *n);

/* Where the replica lies in the directory `data`: shard-<n> or meta, and behind it the number of
 * earlier replicas of this group on this node, if any. */
void replicas_directory(const char *data, uint32_t shard, uint64_t server_id, char *out,
                        size_t out_bytes);

#endif
