/* Where replicas and leaders go: pure, deterministic (ties go to the lower number), balanced, and
 * moving no more than it takes. All functions change `document` in place and keep its invariants;
 * the sorting of a shard's servers is theirs too.
 *
 * The load of a node is the number of replicas of active shards that it shall have, the meta
 * group's included; its lead is the number of shards that prefer it. Only active nodes get replicas
 * and leads. */
#ifndef JUMUN_ACTORS_CLUSTER_CLUSTER_PLACEMENT_H
#define JUMUN_ACTORS_CLUSTER_CLUSTER_PLACEMENT_H

#include "actors/cluster/cluster.h"

/* Gives a shard without servers `document->replicas` of them, on the nodes with the least load, and
 * the node that prefers the fewest. False, and nothing changed: too few active nodes. `founding`:
 * the servers are its first ones. */
bool cluster_place_shard(struct cluster_document *document, struct cluster_shard *shard,
                         bool founding);

/* Puts the replica of `from` on `to`, which has none: a new server id. A preferred node goes with
 * it. */
void cluster_move_replica(struct cluster_shard *shard, uint32_t from, uint32_t to);

/* The active node with the least load that has no replica of the shard; 0 = none. */
uint32_t cluster_pick_node(const struct cluster_document *document,
                           const struct cluster_shard *shard);

/* Moves replicas of active shards (not the meta group's) from nodes with much load to nodes with
 * little, one at a time, until they differ by one at most. Returns how many moved. */
uint32_t cluster_balance_replicas(struct cluster_document *document);

/* Changes preferred nodes until the leads of no two active nodes differ by more than one, or no
 * change can bring them nearer. Returns how many shards changed. The leads of draining nodes stay
 * theirs: they come back. */
uint32_t cluster_balance_leads(struct cluster_document *document);

#endif
