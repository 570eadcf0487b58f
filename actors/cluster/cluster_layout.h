/* The block of the cluster document:
 *
 *   struct cluster | command records (newest last) */
#ifndef JUMUN_ACTORS_CLUSTER_CLUSTER_LAYOUT_H
#define JUMUN_ACTORS_CLUSTER_CLUSTER_LAYOUT_H

#include "actors/cluster/cluster.h"
#include "actors/cluster/cluster_event.h"

enum {
    CLUSTER_SCHEMA = 1,
    CLUSTER_STATE_FORMED = 1,
    CLUSTER_COMMANDS_MAX = 64   /* the newest ids, which covers every retry under way */
};

struct cluster_command_record {
    struct id128 id;
    uint32_t version;          /* the answer's */
    uint8_t kind;              /* enum command_kind */
    uint8_t spare[3];          /* 0 */
};
static_assert(sizeof(struct cluster_command_record) == 24, "cluster command records are frozen");

struct cluster {
    struct actor actor;
    struct cluster_document document;
    uint32_t commands_count;
    uint32_t spare;            /* 0 */
};
static_assert(sizeof(struct cluster) ==
                  48 + 40 + NODES_MAX * 520 + EPOCHS_MAX * 16 + (SHARDS_MAX + 1) * 128 + 8,
              "the cluster document's fixed part is frozen");
static_assert(sizeof(struct cluster) +
                      CLUSTER_COMMANDS_MAX * sizeof(struct cluster_command_record) <=
                  ACTOR_BYTES_MAX,
              "the document fits a block");

static inline const struct cluster *cluster_of(const struct actor *actor) {
    return (const struct cluster *)(const void *)actor;
}
static inline uint32_t cluster_bytes_of_sections(const struct cluster *c) {
    return (uint32_t)(sizeof *c + c->commands_count * sizeof(struct cluster_command_record));
}
static inline const struct cluster_command_record *cluster_records(const struct cluster *c) {
    return (const struct cluster_command_record *)(const void *)(c + 1);
}

#endif
