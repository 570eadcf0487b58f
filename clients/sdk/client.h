/* The client: what jumun_open() makes. */
#ifndef JUMUN_SDK_CLIENT_H
#define JUMUN_SDK_CLIENT_H

#include "clients/sdk/shard_router.h"

struct jumun_client {
    struct lane_shared shared;
    struct lane *node_lane;        /* for commands to the node itself */
    struct shard_router router;

    /* The clock: a thread that looks at the lanes every LANE_TICK_NS, and sleeps when all is
     * idle. */
    pthread_t clock;
    _Alignas(64) _Atomic uint32_t clock_asleep; /* a futex */
    atomic_bool map_fetching;
    int64_t looked_ns;             /* the clock's own: when endpoints were looked at */
    int64_t map_fetched_ns;        /* the clock's own: when the last fetch began */
    struct endpoint *_Atomic map_asked; /* the node that it went to */
    int64_t alone_since_ns;        /* the fetch's own: when the first node said that it is alone */
};

#endif
