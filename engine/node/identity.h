/* Who a data directory belongs to: the file `node.json` in it, written once.
 *
 *   {"format": 1, "cluster_id": "5d2f...", "node_id": 1, "shards": 2, "created_ms": 1774353600000,
 *    "clustered": false}
 *
 * The number of shards is part of it: the keys of stored orders are spread by it; in a cluster it
 * is only the one that the directory was made with. `clustered`: whether its groups have replicas
 * on other nodes; where it is missing they have not.
 *
 * The directory of a node alone whose logs come from a cluster also has
 *
 *   "epochs": [[0, 2], [1774353600000, 3]], "stores_shards": 2, "generation": 1
 *
 * as the cluster's document had them, its generation one higher (jumun cluster recover; restore
 * and rebuild of jumun-replay, from what the logs tell): a cluster that is formed from it goes on
 * with them. One without a generation (an older jumun-replay made it) is a node alone for good: it
 * does not know how far its logs have come.
 *
 *   "ancestors": ["0f3a...", ...]
 *
 * are the clusters that went over into this one (jumun cluster recover), the last one first: who
 * has worked with one of them may go on with this one, and with no other that comes to stand at its
 * address. Also of the node of a cluster that was formed from such a directory. */
#ifndef JUMUN_NODE_IDENTITY_H
#define JUMUN_NODE_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/limits.h"
#include "engine/wire/routing.h"

enum { IDENTITY_FORMAT = 1 };

struct identity {
    char cluster_id[CLUSTER_ID_BYTES]; /* 32 hex digits */
    uint64_t node_id;
    uint32_t shards;
    int64_t created_ms;
    bool clustered;
    struct routing_epoch epochs[EPOCHS_MAX]; /* of a node alone: sorted, the first from 0 */
    uint32_t epochs_count;     /* 0 = one, of `shards` */
    uint32_t stores_shards;    /* with epochs: stores are spread over so many */
    uint8_t generation;        /* of the cluster document to come; 0 = its logs know of none */
    char ancestors[ANCESTORS_MAX][CLUSTER_ID_BYTES]; /* the newest first */
    uint32_t ancestors_count;  /* older ones than the last are forgotten */
};

/* A new one, of random digits; false, with errno, where there are none. */
bool identity_make_cluster_id(char cluster_id[CLUSTER_ID_BYTES]);

/* Writes into the lock of a held directory which process holds it: `run`, a random number like a
 * cluster id that is the process's own, and where it serves. So whoever works on the directory
 * finds the node that does, and that node can say that it is the one. Stays when the process ends;
 * the next one empties it. False, with errno, when it cannot be written. */
bool identity_tell_run(int lock_fd, const char *run, const char *endpoint);

/* Reads who a directory belongs to, without a lock: 1 read, 0 there is nobody yet, -1 with a
 * sentence in error. */
int identity_peek(const char *directory, struct identity *identity, char *error,
                  size_t error_bytes);

/* Makes `directory` when it is not there and locks it, whoever it belongs to. The descriptor that
 * holds the lock, or -1 with a sentence. */
int identity_hold(const char *directory, char *error, size_t error_bytes);

/* Writes who a held directory belongs to from now on. 0, or -1 with a sentence: then it is as it
 * was. */
int identity_become(const char *directory, const struct identity *identity, char *error,
                 size_t error_bytes);

/* Makes `directory` when it is not there, locks it against a second process, and reads who it is;
 * an empty one becomes what `wanted` says (created_ms is filled in, and the cluster id when it is
 * empty).
 *
 * wanted->node_id and wanted->shards: 0 = as it is; default_shards is for a new directory then.
 * wanted->clustered: the directory of a node of the cluster wanted->cluster_id.
 * Returns the descriptor that holds the lock, to be closed at the end; -1 with a sentence in error
 * when the directory cannot be used or was made otherwise than wanted. */
int identity_open(const char *directory, const struct identity *wanted, uint32_t default_shards,
                  struct identity *identity, char *error, size_t error_bytes);

#endif
