/* How far the logs of a running node are settled: committed by their groups, so that no later
 * leader takes anything of it back, and on this node's disk. Nothing in the directory tells that,
 * but the node does, in its answer to STATUS (docs/protocol.md).
 *
 * Which node runs on a directory, the directory tells: its file `lock` has the node's endpoint and
 * a random number of that very run, which the node tells too. */
#ifndef JUMUN_REPLAY_SETTLED_H
#define JUMUN_REPLAY_SETTLED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/limits.h"

struct settled {
    char run[CLUSTER_ID_BYTES];        /* 32 hex digits; "" = not told: an older version */
    char cluster_id[CLUSTER_ID_BYTES];
    uint64_t node_id;                  /* 0 = not told */
    struct settled_shard {
        bool here;                     /* a replica of it runs there, and tells */
        uint64_t index, term;          /* of the newest settled entry; 0 = none is known yet */
        uint64_t unsettled;            /* so many more are committed, and not on that disk yet */
    } shards[SHARDS_MAX];
};

/* What a reply to STATUS tells; from untrusted bytes, no allocation. False: it is none. */
bool settled_decode(const void *reply, size_t bytes, struct settled *settled);

/* Asks the node at `url`. 0, or -1 with a sentence. Waits some seconds at most. */
int settled_ask(const char *url, struct settled *settled, char *error, size_t error_bytes);

/* Who runs on a data directory, or was the last one that did. False: it is not told. */
bool settled_runs_on(const char *directory, char run[CLUSTER_ID_BYTES],
                     char endpoint[ENDPOINT_BYTES_MAX]);

#endif
