/* A node that waits for its cluster: it serves nothing yet, and listens on the address that clients
 * will find it at for `jumun cluster form`, `join` or `replace` (waiting_message.h). One thread,
 * one message after the other. */
#ifndef JUMUN_CLUSTER_WAITING_H
#define JUMUN_CLUSTER_WAITING_H

#include "engine/cluster/cluster_cache.h"
#include "engine/wire/routing.h"

struct waiting_options {
    const struct tls_options *tls;     /* for tls+tcp://; NULL = none */
    const char *listen, *peer_listen;  /* addresses; peers are only told of the second one */
    /* Who the directory belonged to before; 0 and "" = an empty one. */
    uint64_t node;
    const char *cluster_id;
    uint32_t shards;
    /* How its orders and stores were spread, where its logs come from a cluster; count 0 = one
     * epoch of all its shards. The generation is that of the document to come. */
    const struct routing_epoch *epochs;
    uint32_t epochs_count, stores_shards;
    uint8_t generation;

    /* Looked at several times a second: true = give up. */
    bool (*stopped)(void *arg);
    /* The node belongs to the document's cluster under the cache's number from now on: everything
     * for that is durable when it returns. 0, or -1 with a sentence in error. */
    int (*adopt)(void *arg, const struct cluster_cache *cache, char *error, size_t error_bytes);
    /* The stored state of a shard: fills *bytes of at most `capacity` from `offset` and says how
     * many there are in all; -1 with a sentence. */
    int (*seed_read)(void *arg, uint32_t shard, uint64_t offset, void *buffer, uint32_t capacity,
                     uint32_t *bytes, uint64_t *total, char *error, size_t error_bytes);
    int (*seed_write)(void *arg, uint32_t shard, uint64_t offset, uint64_t total,
                      struct bytes data, char *error, size_t error_bytes);
    void *arg;
};

enum { WAITING_SEED_BYTES_MAX = 1 << 20 };   /* of one seed read */

/* Listens until the node is adopted (0) or told to stop (1); -1 with a sentence in error when it
 * cannot listen. `ready` is called once it listens, with the address that it really has. */
int waiting_run(const struct waiting_options *options, void (*ready)(void *arg, const char *listen),
                char *error, size_t error_bytes);

#endif
