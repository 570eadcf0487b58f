/* Where everything of a cluster is, as one node sees it: from this a node knows which replicas it
 * runs, where its peers listen, and where clients are sent. Written by whoever knows (the file
 * given with --cluster, later the cluster document), read by node_apply(). Plain data.
 *
 * The file (JSON; the same one for all nodes, which differ by --node-id):
 *
 *   {"cluster_id": "0123456789abcdef0123456789abcdef", "version": 1, "shards": 6, "replicas": 3,
 *    "nodes": [{"node": 1, "peers": "tcp://10.0.0.1:7300", "clients": "tcp://10.0.0.1:7400"}, ...],
 *    "groups": [{"shard": 0, "nodes": [1, 2, 3], "preferred": 1}, ...]}
 *
 * `version` (default 1), `replicas` (default 3, or 1 for a single node), `level` (default 1: what
 * may be written to logs, engine/base/program.h; nobody raises it but who edits the file, with all
 * nodes on a version that can) and `groups` may be left out: the groups are then dealt round over
 * the nodes in the order of the list. A peer endpoint takes its port and the next (snapshots). */
#ifndef JUMUN_NODE_TOPOLOGY_H
#define JUMUN_NODE_TOPOLOGY_H

#include "engine/limits.h"
#include "engine/shard/peers.h"
#include "engine/wire/routing.h"

enum { TOPOLOGY_GROUPS_MAX = SHARDS_MAX + 1 }; /* all shards and the meta group */

struct cluster_node {
    uint32_t node;                              /* number, 1..2^32-1 */
    char peer_endpoint[ENDPOINT_BYTES_MAX];     /* for other nodes */
    char client_endpoint[ENDPOINT_BYTES_MAX];   /* the general one, as clients reach it */
};

struct cluster_group {
    uint32_t shard;                             /* or SHARD_META */
    struct shard_placement placement;           /* servers: of all replicas, this node's or not */
    /* The servers that the group began with. A replica with an empty storage that is not among
     * them joins a running group and learns all from its leader. */
    uint32_t first_servers_count;
    uint64_t first_servers[CONSENSUS_SERVERS_MAX];
};

struct cluster_topology {
    uint64_t version;                           /* of the cluster document; only grows */
    uint64_t view_version;                      /* what shards know it by: see
                                                   cluster_view_version() */
    char cluster_id[CLUSTER_ID_BYTES];          /* 32 hex digits */
    uint32_t node;                              /* this one's number */
    uint32_t nodes_count, epochs_count, groups_count;
    uint8_t level;                              /* of the cluster; 0 = the first */
    uint32_t stores_shards;                     /* stores are spread over; 0 = newest epoch's */
    struct cluster_node nodes[NODES_MAX];
    struct routing_epoch epochs[EPOCHS_MAX];    /* sorted, the first from 0 */
    struct cluster_group groups[TOPOLOGY_GROUPS_MAX];
};

/* Reads and checks a file for node number `node`. NULL with a sentence in error; free() it. */
struct cluster_topology *topology_read(const char *path, uint32_t node, char *error,
                                       size_t error_bytes);

/* What is wrong with a topology: false with a sentence. Among others: a node or a shard named
 * twice, a server twice in a group, two voters, a group on an unknown node, this node not in it. */
bool topology_check(const struct cluster_topology *topology, char *error, size_t error_bytes);

/* The most shards of any epoch. */
uint32_t topology_shards_count(const struct cluster_topology *topology);

/* NULL when there is none. */
const struct cluster_node *topology_node(const struct cluster_topology *topology, uint32_t node);
const struct cluster_group *topology_group(const struct cluster_topology *topology,
                                           uint32_t shard);

/* The server id of this node's replica in the group; 0 = it has none. */
uint64_t topology_own_server(const struct cluster_topology *topology,
                             const struct cluster_group *group);

#endif
