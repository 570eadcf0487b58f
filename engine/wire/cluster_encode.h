/* The cluster document as msgpack: the answer to CLUSTER_GET, what nodes give each other, and what
 * a node keeps on disk.
 *
 *   {"version": 12, "cluster_id": bin 16, "node_last": 4, "replicas": 3, "stores_shards": 6,
 *    "nodes":  [[node, "state", "peer address", "client address"], ...],
 *    "epochs": [[from_ms, shards], ...],
 *    "shards": [[shard, "state", preferred node, newest incarnation, [server, ...],
 *                [first server, ...]], ...]}
 *
 * "level" and "generation" are there where they are not 0. Server ids hold the node in their low 32
 * bits. A reader skips keys that it does not know. */
#ifndef JUMUN_WIRE_CLUSTER_ENCODE_H
#define JUMUN_WIRE_CLUSTER_ENCODE_H

#include "actors/cluster/cluster.h"
#include "engine/wire/msgpack_writer.h"

/* Bytes that any document fits. */
enum { CLUSTER_ENCODED_BYTES_MAX =
           256 + NODES_MAX * (16 + 2 * (ENDPOINT_BYTES_MAX + 3)) + EPOCHS_MAX * 16 +
           (SHARDS_MAX + 1) * (32 + 2 * REPLICAS_MAX * 9) };

void cluster_encode(struct msgpack_writer *writer, uint64_t version,
                    const struct cluster_document *document);

/* One record each, as in the lists above. */
void cluster_encode_member(struct msgpack_writer *writer, const struct cluster_member *member);
void cluster_encode_epoch(struct msgpack_writer *writer, const struct cluster_epoch *epoch);
void cluster_encode_shard(struct msgpack_writer *writer, const struct cluster_shard *shard);

/* Reads what cluster_encode() wrote. NULL, or what is wrong with it, cluster_document_fault()
 * included; then *document is worth nothing. */
const char *cluster_decode(const void *data, size_t bytes, uint64_t *version,
                           struct cluster_document *document);

#endif
