/* Keeps the newest cluster document of a node: learns it, writes it to disk (cluster_cache.h), and
 * has it made true.
 *
 *   the meta group's leader   asks its own shard for the document several times a second
 *   every other node          is told versions by the hellos of its peers, and asks whoever has a
 *                             newer one
 *
 * So a document reaches all nodes within some hundred milliseconds, also those that the meta group
 * cannot reach, and no command ever waits for it. The founders of a cluster have their first
 * document from whoever formed it; whoever leads the meta group first puts it there. Whoever leads
 * it when an epoch has begun has the stores move to its shards (CLUSTER_MOVE_STORES).
 *
 * Messages between nodes (kinds of engine/peers/peer_message.h, from PEER_CLUSTER_FIRST on):
 *   CLUSTER_KIND_ASK       uint: the version that the asking node has
 *   CLUSTER_KIND_DOCUMENT  the document (engine/wire/cluster_encode.h) */
#ifndef JUMUN_CLUSTER_CLUSTER_KEEPER_H
#define JUMUN_CLUSTER_CLUSTER_KEEPER_H

#include "engine/base/bytes.h"
#include "engine/cluster/cluster_cache.h"
#include "engine/node/topology.h"
#include "engine/router/local_shards.h"

struct cluster_keeper;

enum { CLUSTER_KIND_ASK = 8, CLUSTER_KIND_DOCUMENT = 9 };

struct cluster_keeper_options {
    const char *directory;            /* of the node's data; outlives the keeper */
    struct local_shards *shards;      /* where the meta group's replica is found, if it is here */
    /* Makes a topology true. Takes it over (malloc'ed) when it returns 0; else there is a sentence
     * in error and it is tried again a second later. On the keeper's thread; may take its time. */
    int (*apply)(void *arg, struct cluster_topology *topology, char *error, size_t error_bytes);
    /* Sends to another node; false = lost. Must not block. */
    bool (*send)(void *arg, uint32_t node, uint32_t kind, struct bytes body);
    /* The time that the node decides by, Unix ms; NULL = the machine's. */
    int64_t (*now_ms)(void *arg);
    void *arg;
};

/* `cache` is copied: what the disk has, and what is made true already. NULL without memory. */
struct cluster_keeper *cluster_keeper_new(const struct cluster_keeper_options *options,
                                          const struct cluster_cache *cache);

/* Starts its thread. 0, or -1 with a sentence in error. */
int cluster_keeper_start(struct cluster_keeper *keeper, char *error, size_t error_bytes);

/* Another node has said that it has this version. Any thread; does not block. */
void cluster_keeper_hello(struct cluster_keeper *keeper, uint32_t from, uint64_t version);

/* A message of one of the kinds above. Any thread; does not wait for a disk. */
void cluster_keeper_received(struct cluster_keeper *keeper, uint32_t from, uint32_t kind,
                             struct bytes body);

/* The newest document, encoded and malloc'ed; NULL without memory. Any thread. */
void *cluster_keeper_encode(struct cluster_keeper *keeper, uint32_t *bytes);

/* Ends and joins the thread; while the shards are there. */
void cluster_keeper_stop(struct cluster_keeper *keeper);

/* Frees a stopped one; once the shards are closed, for one may still answer a question of it. */
void cluster_keeper_free(struct cluster_keeper *keeper);

#endif
