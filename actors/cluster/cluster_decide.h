/* The steps of cluster_decide(), by what they change. Each changes `next`, a copy of the document
 * (all zero before it is formed), to what it shall be, and returns RESULT_OK; or a refusal, and
 * then `next` is worth nothing. For the files of this folder only. */
#ifndef JUMUN_ACTORS_CLUSTER_CLUSTER_DECIDE_H
#define JUMUN_ACTORS_CLUSTER_CLUSTER_DECIDE_H

#include "actors/cluster/cluster_layout.h"
#include "actors/cluster/cluster_placement.h"

/* cluster_decide_nodes.c */
uint16_t cluster_form(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_add_node(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_remove_node(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_replace_node(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_readdress_node(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_drain(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_undrain(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_move(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_raise_level(struct cluster_document *next, const struct command_cluster *c);
uint16_t cluster_prefer(struct cluster_document *next, const struct command_cluster *c);

/* cluster_decide_epochs.c. `now_ms`: the turn's */
uint16_t cluster_grow(struct cluster_document *next, const struct command_cluster *c,
                      int64_t now_ms);
uint16_t cluster_cancel_grow(struct cluster_document *next, int64_t now_ms);
uint16_t cluster_retire(struct cluster_document *next, const struct command_cluster *c,
                        int64_t now_ms);
uint16_t cluster_move_stores(struct cluster_document *next, int64_t now_ms);

static inline struct cluster_member *cluster_member_in(struct cluster_document *next,
                                                       uint32_t node) {
    return (struct cluster_member *)(uintptr_t)cluster_member_find(next, node);
}
static inline struct cluster_shard *cluster_shard_in(struct cluster_document *next,
                                                     uint32_t shard) {
    return (struct cluster_shard *)(uintptr_t)cluster_shard_find(next, shard);
}

#endif
