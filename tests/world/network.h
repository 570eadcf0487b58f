/* The simulated network between the nodes of a cluster, and between clients and nodes, under a
 * virtual clock and a seed. It carries opaque loads; what they are, the caller knows.
 *
 * Endpoints are small numbers. A load is lost, doubled, late or overtaken as the options say; a
 * link may be cut, each direction by itself; an endpoint may be held (a frozen process: what comes
 * waits, as in a socket's buffer) or forgotten (a process that died: half of what was under way to
 * it is gone with its sockets, the rest finds whoever listens there next). Nothing moves by itself:
 * network_advance() delivers what is due. One thread. */
#ifndef JUMUN_TEST_NETWORK_H
#define JUMUN_TEST_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

enum { NETWORK_ENDPOINTS_MAX = 16 };

struct network;

/* Begins every load: what a caller sends is a struct of its own with this first. Shared by the
 * copies of a doubled one; `drop` is called when the last one is gone. */
struct network_load {
    uint32_t kind; /* the caller's */
    uint32_t refs; /* the network's */
    void (*drop)(struct network_load *load);
};

/* Chances per 10,000. */
struct network_options {
    uint64_t seed;
    uint32_t loss, doubled, late;
    int64_t latency_ms_max; /* of every load: 0..max */
    int64_t late_ms_max;    /* more, of those that are late */
    bool cut_loses_all;     /* else what was sent over a cut link may come once it is whole */
};

struct network_counters {
    uint64_t sent, delivered, lost, doubled, late, cut, held, forgotten;
};

/* A load has arrived. The callee copies what it keeps. */
typedef void network_deliver(void *arg, uint32_t from, uint32_t to,
                             const struct network_load *load);

struct network *network_new(const struct network_options *options, network_deliver *deliver,
                            void *arg);
void network_free(struct network *network);

/* Sends, and takes the load over. `surely`: not doubled, and not lost by mere chance (what carries
 * it numbers its pieces); a cut link loses it all the same. */
void network_send(struct network *network, uint32_t from, uint32_t to, struct network_load *load,
                  bool surely);

void network_cut(struct network *network, uint32_t from, uint32_t to, int64_t until_ms);
bool network_is_cut(const struct network *network, uint32_t from, uint32_t to);
void network_hold(struct network *network, uint32_t endpoint, int64_t until_ms);
void network_forget(struct network *network, uint32_t endpoint);

/* From now on nothing is lost, doubled or late, every link is whole, and nobody is held. */
void network_calm(struct network *network);

void network_advance(struct network *network, int64_t now_ms);
int64_t network_next_ms(const struct network *network); /* INT64_MAX = nothing is under way */
struct network_counters network_counters(const struct network *network);

#endif
