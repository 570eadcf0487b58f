/* Which lane a call belongs to: the shard map as the node tells it, fetched at the start and again
 * when an answer shows that it is out of date.
 *
 * Until the first map is there, calls wait here in their order of arrival. From then on a call
 * finds its lane without a lock: maps are never changed, only replaced, and live until the client
 * is closed. A shard keeps its lane for life, whatever endpoint it moves to, so that the order of
 * calls survives a move. */
#ifndef JUMUN_SDK_SHARD_ROUTER_H
#define JUMUN_SDK_SHARD_ROUTER_H

#include "clients/sdk/batcher.h"
#include "engine/limits.h"
#include "engine/wire/routing.h"

enum { SHARD_MAP_EPOCHS_MAX = 64, SHARD_MAP_ADDRESS_BYTES = 256 };

/* The map as it came. */
struct shard_map {
    struct shard_map *older;   /* replaced by this one */
    uint32_t epochs_count, shards_count, stores_shards;
    struct routing_epoch epochs[SHARD_MAP_EPOCHS_MAX];
    char addresses[SHARDS_MAX][SHARD_MAP_ADDRESS_BYTES]; /* "" = not told, or no leader */
    char cluster_id[CLUSTER_ID_BYTES];                   /* "" = not told */
    uint32_t ancestors_count;                            /* clusters that went over into it */
    char ancestors[ANCESTORS_MAX][CLUSTER_ID_BYTES];
    uint32_t nodes_count;
    char nodes[NODES_MAX][SHARD_MAP_ADDRESS_BYTES];      /* general endpoints */
};

/* "tcp://0.0.0.0:7401" -> "tcp://<host of asked>:7401": a node does not know under which name it is
 * reached. Other addresses are copied as they are. */
void shard_map_set_address(char out[SHARD_MAP_ADDRESS_BYTES], const char *address, uint32_t size,
                           const char *asked);

/* Reads the answer to SHARD_MAP. A host of "0.0.0.0" or "*" becomes that of `asked`, the general
 * endpoint's first address. NULL or a sentence that says what is wrong. Untrusted input. */
const char *shard_map_decode(const void *value, size_t bytes, const char *asked,
                             struct shard_map *map);

struct shard_router {
    struct lane_shared *shared;
    struct shard_map *_Atomic map;   /* NULL = not known yet */
    struct lane *_Atomic lanes[SHARDS_MAX];
    atomic_uint lanes_count;
    pthread_mutex_t mutex;           /* the rest */
    struct call_list unrouted;
    struct endpoint *endpoints[2 * SHARDS_MAX];
    uint32_t endpoints_count;
    void (*on_change)(void *arg, bool up); /* for the connections that it opens */
    void *arg;
};

void shard_router_init(struct shard_router *r, struct lane_shared *shared,
                       void (*on_change)(void *arg, bool up), void *arg);
/* Ends what waits with JUMUN_CLOSED; deletes lanes, then connections. See lane_delete(). */
void shard_router_fini(struct shard_router *r);

enum shard_router_end {
    SHARD_ROUTER_INSTALLED,
    SHARD_ROUTER_UNUSABLE,     /* not a map, or no memory for it */
    SHARD_ROUTER_FOREIGN       /* of a cluster that the client's has not gone over into */
};

/* Takes the map in that `asked` told; NULL stands for "this node has no map": then all goes to the
 * general endpoint. Consumes it. A thread of nng. */
enum shard_router_end shard_router_install(struct shard_router *r, struct shard_map *map);

/* The id of the cluster that the client works with: that of the first map; "" = not known yet. From
 * then on messages name it, so that no other one's node does what is meant for it, whoever comes to
 * stand at an address. It changes only to a cluster that this one went over into, as that one's
 * nodes tell. Any thread. */
void shard_router_cluster(struct shard_router *r, char id[CLUSTER_ID_BYTES]);

/* lane_has_room() and lane_retry_after_ms() of the lane that such a call goes to. Any thread. */
bool shard_router_has_room(struct shard_router *r, const struct call_route *route,
                           uint32_t patience_ms);
uint32_t shard_router_retry_after_ms(struct shard_router *r, const struct call_route *route,
                                     uint32_t patience_ms);

/* For a call that there is room for. Admits it and hands it to its lane, or keeps it until there is
 * a map. JUMUN_OK, or why the call was not taken. Any thread. */
int shard_router_push(struct shard_router *r, struct call *call, int64_t now_ns);

/* Ends kept calls whose time is over, runs the lanes' clocks. True if anything is open. */
bool shard_router_on_tick(struct shard_router *r, int64_t now_ns);

/* endpoint_look() at those of all shards. The clock's thread. */
void shard_router_look(struct shard_router *router, int64_t now_ns);

/* lane_on_pace() of all lanes; true if it is worth looking again soon. */
bool shard_router_on_pace(struct shard_router *r);

/* Lets all lanes look for work: a connection came. */
void shard_router_run(struct shard_router *r);

#endif
