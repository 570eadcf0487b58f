/* A replica: a follower that pulls the logs, an applier that writes the views, a query server that
 * answers from them, and a notifier that tells what has become visible. One process may hold
 * several (tests do).
 *
 *   follower (threads of nng) --batches--> applier's thread --commits--> query server, notifier */
#ifndef JUMUN_REPLICA_REPLICA_H
#define JUMUN_REPLICA_REPLICA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/base/histogram.h"
#include "engine/limits.h"

struct replica;

struct replica_config {
    char data[1024];                  /* directory */
    char nodes[2048];                 /* general endpoints, comma-separated */
    char from[2048];                  /* replicas to take the views of when there are none; "" */
    char listen[ENDPOINT_BYTES_MAX];  /* of the queries */
    char notify_listen[ENDPOINT_BYTES_MAX]; /* "" = by `listen`; "none" */
    uint32_t contexts;                /* 0 = the query server's default */
    uint32_t heartbeat_ms;            /* 0 = the follower's default */
    uint64_t memory_bytes;            /* of orders kept by the applier; 0 = its default */
    uint64_t map_bytes;               /* 0 = the view store's default */
    bool synced;                      /* every transaction durable at once */
    int nice;                         /* of the applier once it has caught up; 0 = as it is */
    int log_level;
    int ready_fd;
    atomic_int views_lock_fd;         /* bootstrap_run() has it, also while another thread gives up;
                                         0 = opening the views takes it */
};

/* Opens everything and begins to follow and to answer; `from` is for bootstrap_run() before that.
 * NULL with a sentence in error. */
struct replica *replica_start(const struct replica_config *config, char *error,
                              size_t error_bytes);

const char *replica_endpoint(const struct replica *replica);
const char *replica_notify_endpoint(const struct replica *replica); /* "" = none */

/* Whether it has met its cluster and every shard that exists, also one that new orders do not go to
 * any more, has been up to date at least once since the start. Any thread. */
bool replica_is_caught_up(const struct replica *replica);

/* Stops following, finishes the transaction at hand, closes. `exiting`: the process ends right
 * after this; the sockets are left to the kernel and the replica is not freed. */
void replica_stop(struct replica *replica, bool exiting);

#endif
