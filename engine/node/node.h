/* A node: shards with their threads and storages, the courier between them, the history reader, the
 * way to other nodes, and the endpoints in front. One process may hold several (tests do).
 *
 *   node.c           start, stop, housekeeping
 *   node_cluster.c   in a cluster: what a topology says is done
 *   replicas.c       storages and threads of the shards
 *   node_feed.c      the feed
 *   backfill.c       gaps in the histories, filled from other nodes
 *   scrubber.c       what lies on the disk, read back
 *   node_status.c    the answer to STATUS */
#ifndef JUMUN_NODE_NODE_H
#define JUMUN_NODE_NODE_H

#include <pthread.h>

#include "engine/base/node_clock.h"
#include "engine/cluster/cluster_keeper.h"
#include "engine/courier/courier.h"
#include "engine/ingress/ingress.h"
#include "engine/node/backfill.h"
#include "engine/node/config.h"
#include "engine/node/history_reader.h"
#include "engine/node/identity.h"
#include "engine/node/node_feed.h"
#include "engine/node/replicas.h"
#include "engine/node/scrubber.h"
#include "engine/node/topology.h"
#include "engine/peers/node_peers.h"
#include "engine/router/shard_map.h"
#include "engine/shard/shard_thread.h"
#include "persistence/storage.h"

struct node {
    struct config config;
    struct identity identity;
    int lock_fd;                       /* of the data directory; -1 = none */
    char run[CLUSTER_ID_BYTES];        /* of this process, as the lock tells; random */
    struct node_clock clock;
    int64_t started_ms, started_mono_ms;
    int64_t window_mono_ms;            /* when the latency window was turned; node_tick()'s */
    struct shard_map map;              /* the first one; its endpoints are those of the sockets */
    struct shard_map_newer {           /* the one that took its place, and behind it those whose
                                          taking failed half way, for ingress_set_map() */
        struct shard_map_newer *older;
        struct shard_map map;
    } *maps;
    struct ingress *ingress;
    struct node_courier *courier;
    struct history_reader *history;
    struct feed *feed;                 /* NULL = none */
    struct scrubber *scrubber;         /* NULL = --scrub-period 0 */
    atomic_bool draining;
    atomic_uint shards_count;          /* that the newest orders are spread over */
    struct shard_view view;            /* for shards that start; version 0 = none: a node that
                                          always was alone */
    struct local_shards local;         /* the replicas' shards, for whoever uses them */
    uint64_t server_ids[LOCAL_SHARDS_SLOTS];       /* these by local_shards_slot(); replicas.c */
    uint64_t first_servers[LOCAL_SHARDS_SLOTS][CONSENSUS_SERVERS_MAX];
    struct storage *storages[LOCAL_SHARDS_SLOTS];
    struct shard_thread *threads[LOCAL_SHARDS_SLOTS];

    /* In a cluster that a document describes; else NULL. */
    struct cluster_cache *cluster_cache;   /* as at the start */
    struct cluster_keeper *keeper;

    /* In a cluster; else NULL and unused. */
    struct node_peers *peers;
    struct backfill *backfill;
    struct leaders leaders;
    struct tls_options tls;
    pthread_mutex_t topology_mutex;    /* guards `topology` and the coming and going of replicas,
                                          which wait for nng's threads: never taken on those */
    atomic_ullong topology_version;    /* of `topology`, for those; 0 = none yet */
    atomic_uint topology_level;        /* the same */
    struct cluster_topology *topology; /* as applied last */
    atomic_bool unplaced[LOCAL_SHARDS_SLOTS];      /* it runs here, the topology has it elsewhere */
    int64_t leaderless_since_ms[LOCAL_SHARDS_SLOTS]; /* of those: see letting_go.h */
    atomic_bool must_stop;             /* another process has this node's place */
    char must_stop_because[512];

    pthread_mutex_t status_mutex;      /* one STATUS at a time: guards `status_scratch` */
    struct shard_stats status_scratch;
};

/* Opens everything and begins to serve; commands are decided once node_state() says ready. Returns
 * EXIT_DONE with a malloc'ed *node; or the exit code that fits, with a sentence in error, and then
 * nothing is left open. With config->cluster the topology comes from that file. */
int node_start(struct node **node, const struct config *config, char *error, size_t error_bytes);

/* node_cluster.c. Makes true what the topology says, as far as it is this node's work: knows the
 * nodes, routes by the epochs, starts replicas that it shall have, tells all of them where their
 * group shall be. A replica that it shall not have any more stays until the group has let go of it.
 * Takes the topology over (malloc'ed) unless it fails. An older version than the last changes
 * nothing. Any thread. EXIT_DONE, or an exit code with a sentence in error. */
int node_apply(struct node *node, struct cluster_topology *topology, char *error,
               size_t error_bytes);

/* node_cluster.c: reads the directory's cluster document and makes the first topology of it; there
 * is none: *topology NULL. An exit code, with a sentence in error. */
int node_cluster_read(struct node *node, struct cluster_topology **topology, char *error,
                      size_t error_bytes);

/* The answer to CLUSTER_DOCUMENT; fits ingress_options. Any thread. */
void *node_cluster_document(void *node, uint32_t *bytes);

/* Frees a list of them. */
void node_free_maps(struct shard_map_newer *maps);

/* Inside: what node_start(), node_tick() and node_stop() do in a cluster only. */
struct node_courier_options node_courier_options_of(struct node *node);
int node_cluster_open(struct node *node, struct cluster_topology *topology, char *error,
                      size_t error_bytes);
int node_cluster_start(struct node *node, struct cluster_topology *topology, char *error,
                       size_t error_bytes);
void node_cluster_tick(struct node *node);
void node_cluster_hand_over(struct node *node);

/* The cores that this process may use, in order. Returns their number, at least 1. */
uint32_t node_cpus(int *cpus, uint32_t max);

enum node_state { NODE_RECOVERING, NODE_READY, NODE_DAMAGED };

/* NODE_READY: every shard that belongs here has recovered, and takes commands or follows one that
 * does.
 * NODE_DAMAGED: a shard's log or state is
 * damaged (*shard says which, and the log what); its commands are refused. */
enum node_state node_state(struct node *node, uint32_t *shard);

/* What the shard in this slot counts, into status_scratch; false = none runs there. With the
 * status_mutex. */
bool node_shard_stats(struct node *node, uint32_t slot);

/* Logs which shards keep node_state() at NODE_RECOVERING, and how many other nodes are heard. */
void node_tell_lacking(struct node *node);

/* Answers SHUTTING_DOWN from now on, lets the shards finish and store what they have, closes
 * everything and frees. Waits at most `patience_ms` for the shards: what is not stored by then is
 * in the log, and the next start takes longer. `exiting`: the process ends right after this; the
 * sockets are left to the kernel (see ingress_close()) and the node is not freed. */
void node_stop(struct node *node, int64_t patience_ms, bool exiting);

/* Housekeeping that wants doing every second or so: turns of the latency window. */
void node_tick(struct node *node);

/* node_status.c: the answer to STATUS; malloc'ed msgpack, NULL without memory. Any thread. `node`
 * is a void pointer to fit ingress_options. */
void *node_status(void *node, uint32_t *bytes);

#endif
