/* One address with what is known about its health. */
#ifndef JUMUN_SDK_ENDPOINT_H
#define JUMUN_SDK_ENDPOINT_H

#include "clients/sdk/circuit_breaker.h"
#include "clients/sdk/connection.h"
#include "clients/sdk/jumun.h"
#include "clients/sdk/sdk_clock.h"
#include "engine/limits.h"

enum { ENDPOINT_ADDRESSES_BYTES = 256 };

/* What answers at an address, as far as it is known; PEER_FEED: a node's feed, which takes neither
 * commands nor questions. */
enum endpoint_peer { PEER_UNKNOWN, PEER_REPLICA, PEER_NODE, PEER_FEED };
#define PEER_FEED_TEXT "a node's feed answers there (--feed-listen), not for clients"

/* Whether commands may be for it. */
static inline bool peer_may_be_node(int peer) { return peer == PEER_UNKNOWN || peer == PEER_NODE; }
/* Whether questions may be. */
static inline bool peer_may_be_replica(int peer) {
    return peer == PEER_UNKNOWN || peer == PEER_REPLICA;
}

struct endpoint {
    struct connection connection;
    struct circuit_breaker breaker;
    _Atomic int64_t mute_until_ns; /* it leaves requests without an answer; 0 = it does not */
    _Atomic int64_t foreign_until_ns; /* it said that it is of another cluster; 0 = it did not */
    atomic_int peer;               /* enum endpoint_peer: what answered to a client's commands */
    char addresses[ENDPOINT_ADDRESSES_BYTES];
};
/* Passed over for so long: whoever is there may be replaced by one of ours. */
#define ENDPOINT_FOREIGN_NS 1000000000LL
/* How often endpoints are looked at. */
#define ENDPOINT_LOOK_NS 250000000LL

/* Whether one of the comma-separated addresses has not the form of one: then a sentence is in
 * `error`, which names it and tells the form. */
bool endpoint_addresses_are_bad(const char *addresses, char *error, size_t error_bytes);

/* Starts dialling `address` and returns at once; on_change as for connection_open(). 0, or an nng
 * error number with a sentence that names the address. `options` has its defaults filled in. */
int endpoint_new(struct endpoint **endpoint, const char *address, const jumun_options *options,
                 void (*on_change)(void *arg, bool up), void *arg, char *error,
                 size_t error_bytes);

/* Dials it anew if it has been away for long: see connection_redial(). To be called now and then by
 * one thread; `options` as for endpoint_new(). */
void endpoint_look(struct endpoint *endpoint, const jumun_options *options, int64_t now_ns);

/* It answered, whatever it was. Any thread. */
static inline void endpoint_answered(struct endpoint *e) {
    circuit_breaker_success(&e->breaker);
    if (atomic_load_explicit(&e->mute_until_ns, memory_order_relaxed) != 0)
        atomic_store_explicit(&e->mute_until_ns, 0, memory_order_relaxed);
}

/* It said that it is of another cluster than the client's. Any thread. */
static inline void endpoint_set_foreign(struct endpoint *e, int64_t now_ns) {
    atomic_store_explicit(&e->foreign_until_ns, now_ns + ENDPOINT_FOREIGN_NS,
                          memory_order_relaxed);
}

static inline void endpoint_clear_foreign(struct endpoint *e) {
    atomic_store_explicit(&e->foreign_until_ns, 0, memory_order_relaxed);
}

static inline bool endpoint_is_foreign(struct endpoint *e) {
    int64_t until_ns = atomic_load_explicit(&e->foreign_until_ns, memory_order_relaxed);
    return until_ns != 0 && clock_coarse_ns() < until_ns;
}

/* No exchange may use it any more. Not from a callback. */
void endpoint_delete(struct endpoint *endpoint);

#endif
