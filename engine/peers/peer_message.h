/* The envelope of all that travels between two nodes:
 *
 *   [1, cluster, from, to, kind, body]
 *     1          version of the envelope
 *     cluster    bin 16: the cluster id. A node of another cluster is not listened to
 *     from, to   uint: numbers of nodes
 *     kind       uint, enum peer_kind
 *     body       one msgpack value, by kind
 *
 * Pure; any thread. */
#ifndef JUMUN_PEERS_PEER_MESSAGE_H
#define JUMUN_PEERS_PEER_MESSAGE_H

#include "engine/base/bytes.h"
#include "engine/wire/msgpack_writer.h"

enum peer_kind {
    PEER_CONSENSUS = 1,       /* between two replicas of a group: consensus_codec.h */
    PEER_COURIER = 2,         /* between two shards: engine/courier/envelope.h */
    PEER_HELLO = 3,           /* who is there and leads what: hello.h */
    PEER_SNAPSHOT_FIRST = 4,  /* of a state on its way, on a socket of its own ... */
    PEER_SNAPSHOT_LAST = 7,   /* ... header, chunk, acknowledgement, refusal */
    PEER_CLUSTER_FIRST = 8    /* from here on: what the cluster document's keeper makes of it */
};

enum { PEER_MESSAGE_VERSION = 1, PEER_MESSAGE_HEAD_BYTES_MAX = 1 + 1 + 18 + 5 + 5 + 5 };

struct peer_message {
    struct id128 cluster;
    uint32_t from, to;
    uint32_t kind;
    struct bytes body;        /* a view; not checked to be one value */
};

/* Writes all but the body. */
void peer_message_write_head(struct msgpack_writer *w, const struct peer_message *m);

/* Reads it. False for anything but a whole envelope of this version. */
bool peer_message_read(const void *data, size_t bytes, struct peer_message *m);

/* 32 hex digits -> 16 bytes. False for anything else. */
bool peer_cluster_of(const char *hex, struct id128 *cluster);

#endif
