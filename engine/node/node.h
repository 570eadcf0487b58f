/* A node: shards with their threads and storages, the courier between them, the history reader, and
 * the endpoints in front. One process may hold several (tests do). */
#ifndef JUMUN_NODE_NODE_H
#define JUMUN_NODE_NODE_H

#include <pthread.h>

#include "engine/base/node_clock.h"
#include "engine/courier/courier.h"
#include "engine/ingress/ingress.h"
#include "engine/node/config.h"
#include "engine/node/history_reader.h"
#include "engine/node/identity.h"
#include "engine/node/node_feed.h"
#include "engine/router/shard_map.h"
#include "engine/shard/shard_thread.h"
#include "persistence/storage.h"

struct node {
    struct config config;
    struct identity identity;
    int lock_fd;                       /* of the data directory; -1 = none */
    struct node_clock clock;
    int64_t started_ms, started_mono_ms;
    int64_t window_mono_ms;            /* when the latency window was turned; node_tick()'s */
    struct shard_map map;
    struct ingress *ingress;
    struct node_courier *courier;
    struct history_reader *history;
    struct feed *feed;                 /* NULL = none */
    atomic_bool draining;
    uint32_t shards_count;
    struct storage *storages[SHARDS_MAX];
    struct shard_thread *threads[SHARDS_MAX];
    struct shard *shards[SHARDS_MAX];
    pthread_mutex_t status_mutex;      /* one STATUS at a time: guards `status_scratch` */
    struct shard_stats status_scratch;
};

/* Opens everything and begins to serve; commands are decided once node_state() says ready. Returns
 * EXIT_DONE with a malloc'ed *node; or the exit code that fits, with a sentence in error, and then
 * nothing is left open. */
int node_start(struct node **node, const struct config *config, char *error, size_t error_bytes);

enum node_state { NODE_RECOVERING, NODE_READY, NODE_DAMAGED };

/* NODE_READY: every shard has recovered and takes commands. NODE_DAMAGED: a shard's log or state is
 * damaged (*shard says which, and the log what); its commands are refused. */
enum node_state node_state(struct node *node, uint32_t *shard);

/* Answers SHUTTING_DOWN from now on, lets the shards finish and store what they have, closes
 * everything and frees. Waits at most `patience_ms` for the shards: what is not stored by then is
 * in the log, and the next start takes longer. `exiting`: the process ends right after this; the
 * sockets are left to the kernel (see ingress_close()) and the node is not freed. */
void node_stop(struct node *node, int64_t patience_ms, bool exiting);

/* Housekeeping that wants doing every second or so: turns of the latency window. */
void node_tick(struct node *node);

/* node_status.c: the answer to STATUS; malloc'ed msgpack, NULL without memory. Any thread. `node`
 * is a void pointer to fit ingress_options. */
void *node_status(void *node, uint32_t *bytes);

#endif
