/* The inside of node_peers, shared by node_peers.c (messages) and greeting.c (hellos, silence). */
#ifndef JUMUN_PEERS_NODE_PEERS_PRIVATE_H
#define JUMUN_PEERS_NODE_PEERS_PRIVATE_H

#include <pthread.h>

#include "engine/base/doorbell.h"
#include "engine/peers/clock_skew.h"
#include "engine/peers/node_peers.h"
#include "engine/peers/pace.h"
#include "engine/peers/snapshots.h"

/* What is known of another node from its hellos. */
struct peer_seen {
    uint32_t node;                 /* 0 = free */
    uint64_t instance, document;
    int64_t heard_ms;              /* monotonic; of the newest hello */
    int64_t heard_us_ms;           /* monotonic: when it had last heard this node, as it says */
    int64_t dialled_ms;            /* monotonic: when it was last given up and dialled anew */
    bool silent;                   /* nobody is sent there */
    bool back;                     /* heard after a silence, or it has started anew */
    char endpoint[ENDPOINT_BYTES_MAX];
    char version[32];
    uint8_t level_min, level_max;  /* that it can work at; 0 = not heard */
    struct clock_skew clock;
};

struct node_peers {
    struct peers interface;        /* first: the callbacks come back here */
    struct node_peers_options options;
    char client_endpoint[ENDPOINT_BYTES_MAX];
    struct transport *messages, *snapshots;
    struct catch_up *catch_up;
    struct snapshots *states;
    struct pace pace;              /* of both; looked at by the greeter */
    uint64_t instance;             /* of this run */
    int64_t started_ms;            /* Unix */
    atomic_ullong document;
    atomic_bool stopping, self_heard, duplicate_told;
    atomic_ullong hellos_sent, hellos_received, unwanted, refused, redials;

    pthread_mutex_t nodes_mutex;   /* who changes connections, for which it waits for nng's threads:
                                      never taken on one of those. Before seen_mutex */
    uint32_t nodes_count;          /* changed with both mutexes held, read with one of them */
    uint32_t nodes[NODES_MAX];     /* this one included */

    pthread_mutex_t seen_mutex;    /* guards `seen` */
    struct peer_seen seen[NODES_MAX];

    struct hello incoming;         /* of the one thread that receives */
    struct hello outgoing;         /* of the greeter */
    int64_t duplicate_logged_ms;   /* of the one that receives */
    pthread_t greeter;
    bool greeter_runs;
    struct doorbell bell;          /* something changed that a hello tells */
};

static inline void node_peers_count(atomic_ullong *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* -- greeting.c */
void greeting_init(struct node_peers *p);
int greeting_start(struct node_peers *p);     /* 0 or an error number */
void greeting_stop(struct node_peers *p);
void greeting_received(struct node_peers *p, uint32_t from, struct bytes body);

#endif
