/* The cluster document: who the nodes are, where each shard's replicas shall be, and how many
 * shards the keys of which time are spread over. It is an actor like any other, alone in the meta
 * group's shard (SHARD_META), so it is replicated, recovered and asked again under the same id by
 * the code that does so for orders.
 *
 * The document says what SHALL be. The leader of each group goes there one safe step at a time
 * (engine/shard), and running traffic needs no document: every node keeps the newest one it saw
 * (engine/cluster). Its version is the actor's; a newer one replaces an older one as a whole.
 *
 * Invariants, of every document (cluster_document_fault() names the one that is broken):
 *   nodes     sorted by number, each number and address once; numbers never return
 *   shards    0, 1, 2, ... and SHARD_META last; each has 1 or at least 3 servers, odd, no node
 *             twice, none on a removed node (unless retired); server ids never return
 *   preferred a node with a replica of the shard
 *   epochs    sorted, the first from 0, each over shards that exist and are not retired
 *
 * Pure: see actors/actor.h. */
#ifndef JUMUN_ACTORS_CLUSTER_CLUSTER_H
#define JUMUN_ACTORS_CLUSTER_CLUSTER_H

#include "actors/actor.h"
#include "engine/limits.h"

enum cluster_member_state {
    CLUSTER_MEMBER_ACTIVE = 1,
    CLUSTER_MEMBER_DRAINING = 2,  /* keeps its replicas, leads none: before maintenance */
    CLUSTER_MEMBER_REMOVED = 3    /* for ever; listed so that it is told when it comes back */
};

enum cluster_shard_state {
    CLUSTER_SHARD_ACTIVE = 1,
    CLUSTER_SHARD_RETIRED = 2   /* no key of it is alive: its replicas do not run; growth may need
                                   it again, so its number keeps servers and data */
};

struct cluster_member {
    uint32_t node;
    uint8_t state;                    /* enum cluster_member_state */
    uint8_t spare[3];                 /* 0 */
    char peer[ENDPOINT_BYTES_MAX];    /* nng address for other nodes; zeros behind the text */
    char client[ENDPOINT_BYTES_MAX];  /* the general endpoint for clients */
};

/* The same as struct routing_epoch (engine/wire/routing.h), which actors/ does not know. */
struct cluster_epoch {
    int64_t from_ms;                  /* birth time of the first key that it is for */
    uint32_t shards_count;
    uint32_t spare;                   /* 0 */
};

struct cluster_shard {
    uint32_t shard;
    uint32_t preferred;               /* the node that shall lead while it can */
    uint32_t incarnation_last;        /* newest one given to a server; the first ones have 0 */
    uint8_t state;                    /* enum cluster_shard_state */
    uint8_t servers_count;
    uint8_t first_count;              /* 0 = founded from data that was there before the cluster */
    uint8_t spare;                    /* 0 */
    uint64_t servers[REPLICAS_MAX];   /* where it shall be: incarnation << 32 | node; sorted by
                                         node; 0 behind the last */
    uint64_t first[REPLICAS_MAX];     /* what an empty storage of one of them begins with */
};

struct cluster_document {
    struct id128 cluster_id;
    uint32_t node_last;               /* newest number given to a node */
    uint32_t stores_shards;           /* stores are spread over shards 0 .. this - 1 */
    uint16_t nodes_count, epochs_count, shards_count;
    uint8_t replicas;                 /* of each shard: 3, 5 or 7 */
    uint8_t level;                    /* what is written to logs (engine/base/program.h); 0 = the
                                         first. Never sinks */
    uint8_t generation;               /* how often the shards' logs have outlived a cluster whose
                                         majority was lost; see cluster_view_version() */
    uint8_t spare[3];                 /* 0 */
    struct cluster_member nodes[NODES_MAX];
    struct cluster_epoch epochs[EPOCHS_MAX];
    struct cluster_shard shards[SHARDS_MAX + 1];
};

/* -- the actor ----------------------------------------------------------------------------------
 * One actor, one key. `cluster` may be NULL: not formed yet. */
struct id128 cluster_key(void);
struct decision cluster_decide(const struct actor *cluster, const struct command *command,
                               const struct decide_context *context, struct event_sink *sink);
uint32_t cluster_bytes_after(const struct actor *cluster, const struct event *event);
void cluster_apply(struct actor *cluster, const struct event *event,
                   const struct apply_context *context);
bool cluster_is_well_formed(const void *block, uint32_t bytes);
bool cluster_event_is_well_formed(const struct event *event);

/* The document inside the block; moves with it. */
const struct cluster_document *cluster_document_of(const struct actor *cluster);

/* -- looking at a document --------------------------------------------------------------------- */

/* NULL, or the first broken invariant as a sentence. Reads nothing outside the struct, whatever its
 * counts say: for documents from disk and from peers. */
const char *cluster_document_fault(const struct cluster_document *document);

/* NULL = no such node / shard. */
const struct cluster_member *cluster_member_find(const struct cluster_document *document,
                                             uint32_t node);
const struct cluster_shard *cluster_shard_find(const struct cluster_document *document,
                                               uint32_t shard);
/* The server id of the shard's replica on `node`; 0 = none shall be there. */
uint64_t cluster_server_on(const struct cluster_shard *shard, uint32_t node);

/* Whether no key that an order may still live under belongs to the shard: each epoch that spreads
 * over it has ended CLUSTER_SHARD_LIFETIME_MS ago, and no store lives there. */
bool cluster_shard_is_over(const struct cluster_document *document, uint32_t shard,
                           int64_t now_ms);

/* How many shards the epoch that has begun spreads its keys over. Of a formed document. */
uint32_t cluster_shards_begun(const struct cluster_document *document, int64_t now_ms);

/* "active", "draining", "removed"; "retired". "unknown" outside. Never NULL. */
const char *cluster_member_state_name(uint8_t state);
const char *cluster_shard_state_name(uint8_t state);

/* What shards go by is in their logs under this number, and only a higher one counts there. A
 * cluster that was formed from what is left of another one begins at version 1 of its document
 * again; its shards' logs are the old ones, and its generation is higher. Version 0 is that of the
 * node alone between the two. */
static inline uint64_t cluster_view_version(uint8_t generation, uint64_t version) {
    return (uint64_t)generation << 32 | version;
}

static inline uint32_t cluster_server_node(uint64_t server) { return (uint32_t)server; }

#endif
