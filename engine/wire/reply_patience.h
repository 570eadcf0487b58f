/* How long a reply may wait for the client that asked for it: what keeps one connection that asks
 * and does not read from holding all contexts of an endpoint.
 *
 * Per connection the replies that wait are counted. Up to a share of the contexts each waits for
 * REPLY_WAIT_MS, beyond it for REPLY_WAIT_SHORT_MS. A connection on which one waited in vain is
 * deaf: from then on a reply that cannot leave at once is given up, until it has read most of what
 * waits for it. So it holds the endpoint for a second and its share for ten, however much it asks,
 * and a client that reads a burst of thousands within a second loses nothing.
 *
 * A deaf connection is closed once nothing comes in on it any more, and not before: nng 1.5.2 may
 * never free a connection that is closed while it receives (see socket_close.h).
 *
 * Connections are told apart by their number modulo REPLY_PEERS. Two that share a place share the
 * count, and never the deafness. Any thread; a few relaxed atomics per message. */
#ifndef JUMUN_WIRE_REPLY_PATIENCE_H
#define JUMUN_WIRE_REPLY_PATIENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/clock.h"
#include "engine/limits.h"

#define REPLY_QUIET_NS 1000000000LL  /* nothing came in for so long: nothing is being received */

struct reply_peer {
    _Alignas(64) atomic_uint waiting;   /* replies handed to the transport, and not taken yet */
    atomic_uint deaf;                   /* which connection is; 0 = none */
    _Atomic int64_t heard_ns;           /* when a request came in last */
};

struct reply_patience {
    uint32_t share;                     /* so many of one connection may wait long */
    struct reply_peer peers[REPLY_PEERS];
};

static inline struct reply_peer *reply_patience_peer(struct reply_patience *p, uint32_t pipe) {
    return &p->peers[pipe % REPLY_PEERS];
}

/* A request came in on the connection. Times are clock_mono_ns(). */
static inline void reply_patience_heard(struct reply_patience *p, uint32_t pipe, int64_t now_ns) {
    atomic_store_explicit(&reply_patience_peer(p, pipe)->heard_ns, now_ns, memory_order_relaxed);
}

/* Before a reply is handed to the transport: for how many ms it may wait; 0 = not at all. */
static inline int32_t reply_patience_begin(struct reply_patience *p, uint32_t pipe) {
    struct reply_peer *peer = reply_patience_peer(p, pipe);
    uint32_t before = atomic_fetch_add_explicit(&peer->waiting, 1, memory_order_relaxed);
    if (atomic_load_explicit(&peer->deaf, memory_order_relaxed) == pipe) return 0;
    return before < p->share ? REPLY_WAIT_MS : REPLY_WAIT_SHORT_MS;
}

/* The transport took the reply, or lost it otherwise than by waiting. */
static inline void reply_patience_sent(struct reply_patience *p, uint32_t pipe) {
    struct reply_peer *peer = reply_patience_peer(p, pipe);
    uint32_t left = atomic_fetch_sub_explicit(&peer->waiting, 1, memory_order_relaxed) - 1;
    uint32_t deaf = atomic_load_explicit(&peer->deaf, memory_order_relaxed);
    if (deaf == pipe && left <= p->share / 2)
        atomic_compare_exchange_strong_explicit(&peer->deaf, &deaf, 0, memory_order_relaxed,
                                                memory_order_relaxed);
}

/* The reply waited for as long as it may. Whether its connection is to be closed. */
static inline bool reply_patience_over(struct reply_patience *p, uint32_t pipe, int64_t now_ns) {
    struct reply_peer *peer = reply_patience_peer(p, pipe);
    atomic_fetch_sub_explicit(&peer->waiting, 1, memory_order_relaxed);
    atomic_store_explicit(&peer->deaf, pipe, memory_order_relaxed);
    int64_t heard_ns = atomic_load_explicit(&peer->heard_ns, memory_order_relaxed);
    return now_ns - heard_ns >= REPLY_QUIET_NS;
}

/* The same for who replies over nng: reply_patience_begin(), and until when a reply that is given
 * up has not waited ... */
static inline int32_t reply_patience_wait(struct reply_patience *p, uint32_t pipe,
                                          int64_t *until_ns) {
    int32_t wait_ms = reply_patience_begin(p, pipe);
    *until_ns = clock_mono_ns() + wait_ms * 750000LL; /* nng counts in ms, and roughly */
    return wait_ms;
}

/* ... and how it ended. Whether its connection is to be closed: it may connect again when it can
 * read. */
static inline bool reply_patience_end(struct reply_patience *p, uint32_t pipe, bool timed_out,
                                      int64_t until_ns) {
    int64_t now_ns;
    /* nng 1.5.2, which expires many at a time, may do so to one that has begun just then. */
    if (timed_out && (now_ns = clock_mono_ns()) >= until_ns)
        return reply_patience_over(p, pipe, now_ns);
    reply_patience_sent(p, pipe);
    return false;
}

#endif
