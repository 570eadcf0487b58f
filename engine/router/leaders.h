/* Who leads which shard, as far as this node knows: told by its own replicas and by the hellos of
 * other nodes. Only a guide: what it says may be a moment old, and whoever follows it is told by
 * the node that he comes to. Reading never blocks; any thread. */
#ifndef JUMUN_ROUTER_LEADERS_H
#define JUMUN_ROUTER_LEADERS_H

#include <pthread.h>
#include <stdbool.h>

#include "engine/router/local_shards.h"

struct leaders {
    pthread_mutex_t mutex;         /* guards the terms, and who writes */
    atomic_ullong changes;         /* grows with each change of a route */
    struct leader {
        uint64_t term, server;     /* server 0 = none known in that term */
        bool confirmed;            /* the server has said itself that it leads */
        atomic_ullong route;       /* node << 1 | ready */
    } shards[LOCAL_SHARDS_SLOTS];
};

struct leader_route {
    uint32_t node;                 /* 0 = none known */
    bool ready;                    /* it takes commands, as far as it has said so */
};

void leaders_init(struct leaders *l);
void leaders_fini(struct leaders *l);

/* Node `speaker` says that `server` leads the shard in `term` (0: that it knows of nobody). What is
 * older than what is known changes nothing. Once a leader has spoken for itself, nobody else is
 * believed in its term: that it is ready, or that it leads no more. True when a route changed. */
bool leaders_note(struct leaders *l, uint32_t speaker, uint32_t shard, uint64_t term,
                  uint64_t server, bool ready);

/* The node is gone or silent: nobody is sent there until it is heard of again. True when a route
 * changed. */
bool leaders_forget_node(struct leaders *l, uint32_t node);

/* This node has a replica of the shard no longer: what that one said goes with it. One that was
 * taken out of its group may have counted terms on by itself, which its group never comes to:
 * nobody that leads there would be believed. True when a route changed. */
bool leaders_forget_shard(struct leaders *l, uint32_t shard);

static inline struct leader_route leaders_route(const struct leaders *l, uint32_t shard) {
    uint32_t slot = local_shards_slot(shard);
    if (slot == LOCAL_SHARDS_NONE) return (struct leader_route){0, false};
    uint64_t route = atomic_load_explicit(&l->shards[slot].route, memory_order_relaxed);
    return (struct leader_route){(uint32_t)(route >> 1), route & 1};
}

/* The whole of what is known of one shard. */
struct leader_known { uint64_t term, server; bool ready; };
struct leader_known leaders_known(struct leaders *l, uint32_t shard);

#endif
