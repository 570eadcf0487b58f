/* The payload of CLUSTER_CHANGED (actors/event.h has its header): the records of the document that
 * are new or different, as they are afterwards; the event's cause_kind tells which command it was.
 * Frozen, little endian, 8-byte aligned.
 *
 *   struct cluster_changed | nodes | epochs (all of them, if any changed) | shards */
#ifndef JUMUN_ACTORS_CLUSTER_CLUSTER_EVENT_H
#define JUMUN_ACTORS_CLUSTER_CLUSTER_EVENT_H

#include "actors/cluster/cluster.h"

enum { CLUSTER_EVENT_SCHEMA = 1 };

struct cluster_changed {
    struct id128 cluster_id;
    uint32_t node_last;
    uint32_t stores_shards;
    uint16_t nodes_count;    /* records behind this struct; 0 = none changed */
    uint16_t epochs_count;   /* 0 = unchanged */
    uint16_t shards_count;
    uint8_t replicas;
    uint8_t level;           /* as in the document */
    uint32_t node_gone;      /* left the full list for another; 0 = none */
    uint8_t generation;      /* as in the document */
    uint8_t spare[3];        /* 0 */
};
static_assert(sizeof(struct cluster_changed) == 40, "cluster_changed is frozen");
static_assert(sizeof(struct cluster_member) == 8 + 2 * ENDPOINT_BYTES_MAX &&
                  sizeof(struct cluster_member) == 520,
              "a node's record is frozen");
static_assert(sizeof(struct cluster_epoch) == 16, "an epoch's record is frozen");
static_assert(sizeof(struct cluster_shard) == 128, "a shard's record is frozen");
static_assert(sizeof(struct cluster_changed) + NODES_MAX * sizeof(struct cluster_member) +
                      EPOCHS_MAX * sizeof(struct cluster_epoch) +
                      (SHARDS_MAX + 1) * sizeof(struct cluster_shard) + 1024 <=
                  EVENT_BYTES_MAX,
              "the whole document fits one event");

static inline const struct cluster_member *cluster_changed_nodes(const struct cluster_changed *c) {
    return (const struct cluster_member *)(const void *)(c + 1);
}
static inline const struct cluster_epoch *cluster_changed_epochs(const struct cluster_changed *c) {
    return (const struct cluster_epoch *)(const void *)(cluster_changed_nodes(c) + c->nodes_count);
}
static inline const struct cluster_shard *cluster_changed_shards(const struct cluster_changed *c) {
    return (const struct cluster_shard *)(const void *)(cluster_changed_epochs(c) +
                                                        c->epochs_count);
}
static inline uint32_t cluster_changed_bytes(const struct cluster_changed *c) {
    return (uint32_t)(sizeof *c + c->nodes_count * sizeof(struct cluster_member) +
                      c->epochs_count * sizeof(struct cluster_epoch) +
                      c->shards_count * sizeof(struct cluster_shard));
}

#endif
