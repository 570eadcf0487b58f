/* Many callers that share a few live orders, and everything that they asked and were answered.
 *
 * Patient callers wait over a failover, hasty ones give up soon and so produce unknown outcomes,
 * half of which are asked again under their id. Direct readers ask one node each, at its own shard
 * endpoints, without the library: a leader that has been replaced and does not know it would answer
 * them from a stale state. The judge holds all of it against the orders' histories
 * (cluster_history.h) and the stores' counts. */
#ifndef JUMUN_TESTS_CLUSTER_LOAD_H
#define JUMUN_TESTS_CLUSTER_LOAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/base/prng.h"
#include "tests/process/cluster_nodes.h"
#include "tests/process/cluster_history.h"

enum {
    LOAD_WORKERS_MAX = 64, LOAD_ORDERS_MAX = 8192, LOAD_LIVE_MAX = 64, LOAD_STORES = 4,
    LOAD_CALLS_MAX = 1 << 17    /* of one caller; then it ends */
};

struct load_order {
    jumun_key key;
    uint8_t store;
    atomic_bool is_placed;      /* somebody knows that it is */
    atomic_uint version_seen, steps_done, calls;
};

struct load_caller {
    struct load *load;
    struct prng prng;
    pthread_t thread;
    int node;                   /* direct readers: the one that they ask; 0 = a caller */
    bool is_hasty;
    struct history_call *calls; /* LOAD_CALLS_MAX */
    uint32_t calls_count;
};

struct load_options {
    uint32_t callers;           /* every fourth is hasty, unless all_patient */
    uint32_t live_orders;
    bool all_patient;
    uint64_t seed;
};

struct load {
    struct load_options options;
    struct cluster *cluster;
    jumun_client *patient, *hasty;
    struct load_order *orders;  /* LOAD_ORDERS_MAX */
    atomic_uint orders_count, live[LOAD_LIVE_MAX];
    struct load_caller callers[LOAD_WORKERS_MAX + LINKS_NODES_MAX];
    uint32_t callers_count;
    atomic_bool stop;
    bool is_running;
    int64_t began_ns;
    atomic_ulong done, reads, refused, unknown, turned_away, direct_reads;
    atomic_ulong by_shard[CLUSTER_SHARDS_MAX]; /* acknowledged commands */
    atomic_int last_trouble;    /* code of the last answer that was no answer by a rule */
    int64_t stores_open[LOAD_STORES], stores_placed[LOAD_STORES]; /* from earlier judgements */
    unsigned faults;
};

void load_open(struct load *load, struct cluster *cluster, const struct load_options *options);
void load_close(struct load *load);

void load_start(struct load *load);
void load_stop(struct load *load);

/* Waits until each shard of the mask has acknowledged `count` more commands. */
void load_await_progress(struct load *load, uint32_t shards, unsigned count);

/* All nodes are up and joined, the load has stopped: judges every call since the last judgement and
 * forgets them. Returns the number of faults so far; each is printed. */
unsigned load_judge(struct load *load);

/* One line on stdout: what was asked so far. */
void load_print(const struct load *load, const char *what);

/* -- for the parts of the load ----------------------------------------------------------------- */

/* The body of a direct reader's thread; the argument is a struct load_caller. */
void *load_read_directly(void *caller);

/* Gives all callers fresh orders. */
void load_renew(struct load *load);

struct load_order *load_pick(struct load_caller *c);
int64_t load_now_ns(void);

/* Room for the next call, begun now; NULL when there is none left. */
struct history_call *load_begin(struct load_caller *c, const struct load_order *o);

const char *load_store_name(uint32_t store);

#endif
