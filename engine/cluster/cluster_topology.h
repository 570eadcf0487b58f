/* The cluster document as one node's topology (engine/node/topology.h): what it has to make true.
 * */
#ifndef JUMUN_CLUSTER_CLUSTER_TOPOLOGY_H
#define JUMUN_CLUSTER_CLUSTER_TOPOLOGY_H

#include "actors/cluster/cluster.h"
#include "engine/node/topology.h"

/* Fills *topology as node `node` sees the document. Retired shards are not in it. A removed node
 * is, as long as nobody else has its addresses: it may lead a group that is about to let go of it.
 * */
void cluster_topology_fill(struct cluster_topology *topology, uint64_t version,
                           const struct cluster_document *document, uint32_t node);

/* Whether this program can work at a document's level. False with a sentence that says what to
 * do. */
bool cluster_level_is_right(uint8_t level, char *error, size_t error_bytes);

#endif
