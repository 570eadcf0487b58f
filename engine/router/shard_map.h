/* The shard map of a node: the epochs that say which shard owns a key, the endpoints of this node,
 * one for each shard, and those of the other nodes. Never changed once it is read by others: a
 * newer one takes its place. Any thread. */
#ifndef JUMUN_ROUTER_SHARD_MAP_H
#define JUMUN_ROUTER_SHARD_MAP_H

#include <stdbool.h>

#include "actors/command.h"
#include "engine/limits.h"
#include "engine/router/leaders.h"
#include "engine/wire/routing.h"

struct shard_map {
    struct routing_epoch epochs[EPOCHS_MAX];
    uint32_t epochs_count;
    uint32_t shards_count;                                 /* most of any epoch */
    uint32_t stores_shards;                                /* that stores are spread over */
    uint8_t retired[SHARDS_MAX / 8];                       /* bit n: shard n has stopped for good,
                                                              no order of it is alive */
    char cluster_id[CLUSTER_ID_BYTES];                     /* "" = not told */
    char ancestors[ANCESTORS_MAX][CLUSTER_ID_BYTES];       /* clusters that went over into it */
    uint32_t ancestors_count;
    uint64_t version;                                      /* grows with what a client must know */
    uint32_t node;                                         /* own number */
    uint32_t nodes_count;                                  /* 0 = a node alone */
    struct shard_map_node {
        uint32_t node;
        char endpoint[ENDPOINT_BYTES_MAX];                 /* general one, as clients reach it */
    } nodes[NODES_MAX];
    char endpoint[ENDPOINT_BYTES_MAX];                     /* the general one */
    char shard_endpoints[SHARDS_MAX][ENDPOINT_BYTES_MAX];
    char feed_endpoint[ENDPOINT_BYTES_MAX];                /* of this node's feed; "" = none */
    char notify_endpoint[ENDPOINT_BYTES_MAX];              /* of its notifications; "" = none */
};

/* One epoch from the beginning of time with `shards_count` shards; no endpoints yet. */
void shard_map_init(struct shard_map *map, uint32_t shards_count);

static inline bool shard_map_is_retired(const struct shard_map *map, uint32_t shard) {
    return shard < SHARDS_MAX && (map->retired[shard / 8] >> (shard % 8) & 1);
}

/* The shard that decides the command: by key, by store id for the commands of stores, SHARD_META
 * for those of the cluster. Not for malformed commands and those of the node. */
uint32_t shard_map_route(const struct shard_map *map, const struct command *command);

/* The endpoint of a shard at a node of the cluster. False when the map does not know the node. */
bool shard_map_endpoint_at(const struct shard_map *map, uint32_t node, uint32_t shard,
                           char out[ENDPOINT_BYTES_MAX]);

/* The general endpoint of a node of the cluster; NULL = not known. */
const char *shard_map_node_endpoint(const struct shard_map *map, uint32_t node);

/* Writes the answer to SHARD_MAP (engine/wire/protocol.h): malloc'ed msgpack, *bytes long. NULL
 * without memory. */
void *shard_map_encode(const struct shard_map *map, const struct leaders *leaders,
                       uint32_t *bytes);

/* The endpoint of a shard that belongs to the general endpoint `base`: for "tcp://host:port" the
 * port + 1 + shard (port 0 stays 0: any free one), for other transports base-shard-<n>. False when
 * it would be no valid address: the sentence is in error. */
bool shard_map_endpoint_of(const char *base, uint32_t shard, char *out, size_t out_bytes,
                           char *error, size_t error_bytes);

#endif
