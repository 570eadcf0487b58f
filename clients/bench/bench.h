/* jumun-bench: the load generator. What its files share.
 *
 *   main.c      options, the order of a run
 *   workload.c  orders at their stages of life; which command comes next; checking of answers
 *   closed.c    closed loops: batches (asynchronous), concurrent single callers, reads
 *   open.c      open loop: a fixed rate, latency measured from the intended moment
 *   queries.c   queries to replicas
 *   report.c    text, JSON, plot */
#ifndef JUMUN_BENCH_H
#define JUMUN_BENCH_H

#include <stdatomic.h>
#include <stdio.h>

#include "clients/sdk/jumun.h"
#include "engine/base/histogram.h"

enum bench_mode {
    BENCH_BATCH = 1,
    BENCH_CALLERS = 2,
    BENCH_READS = 3,
    BENCH_OPEN = 4,
    BENCH_QUERIES = 5
};

/* The life of an order, as the load plays it. */
enum { LIFE_STEPS = 6 }; /* place, pay, accept, assign_rider, pick_up, deliver */

enum { BENCH_STRIPES = 128 };

struct bench_options {
    const char *endpoint;
    enum bench_mode mode;
    uint32_t batch;              /* commands a message at most */
    uint32_t in_flight;          /* messages, all shards together */
    uint32_t callers;            /* threads with one command at a time each */
    uint32_t live_orders;
    uint32_t stores;
    uint32_t lines;
    uint64_t rate;               /* open loop, commands/s */
    uint32_t timeout_ms, queue;
    double seconds, warmup_seconds;
    uint64_t prefill;            /* orders placed first and left alive */
    bool patient;                /* see jumund --patient */
    bool async;                  /* mode callers: callbacks instead of threads */
    bool json, quiet;
    const char *replicas;        /* mode queries: addresses, comma-separated */
    const char *query, *fields;  /* and what is asked; fields NULL = whole orders */
    const char *plot;            /* PNG to write with gnuplot; NULL = none */
};

/* One order of the load: in the low bits its next step (0 = place), above when it was born, in
 * milliseconds after the load began. Its key, store and rider follow from that and from where it
 * stands, so that thousands of orders fit into the cache: every line of memory that an answer has
 * to wait for would be measured as the engine's. */
typedef uint32_t bench_order;
enum { BENCH_STEP_BITS = 3, BENCH_STEP_MASK = (1 << BENCH_STEP_BITS) - 1 };

/* A lane owns several orders and plays them in turn, one command at a time. Its orders lie right
 * behind it, for the same reason. */
struct bench_lane {
    _Alignas(64) struct bench *bench;
    bench_order *orders;
    int64_t sent_ns;             /* or the intended moment, in the open loop */
    uint64_t random;
    uint32_t orders_count;
    uint32_t current;            /* the order whose command is in flight */
    uint32_t upcoming;           /* the one after that: on its way from memory already */
    bench_order before;          /* what `current` was when its command was made */
};

struct bench {
    struct bench_options options;
    jumun_client *client;
    uint8_t *lanes;              /* see bench_lane_at() */
    size_t lane_bytes;
    uint32_t lanes_count;
    uint64_t seed;               /* of all keys */
    int64_t born_ms;             /* the moment that orders' births are counted from, Unix time */
    atomic_bool stop, measuring;
    atomic_uint lanes_running;
    atomic_ullong refused, wrong, failed, overloaded, queue_full;
    atomic_ullong by_code[1100];
    /* Of accepted commands. Each thread records into a stripe of its own (those beyond the last
     * share that one), or the counting would cost more than what is counted; main() adds them up
     * when the load is over. */
    struct { _Alignas(64) struct histogram h; } stripes[BENCH_STRIPES];
    struct histogram latency;
    int64_t begin_ns, end_ns;
    struct { double at_s; uint64_t done; } *series; /* once per 100 ms, for the plot */
    uint32_t series_count, series_capacity;
};

/* -- workload.c */
bool bench_workload_init(struct bench *b, uint32_t lanes_count);
void bench_workload_fini(struct bench *b);
static inline struct bench_lane *bench_lane_at(const struct bench *b, uint32_t number) {
    return (struct bench_lane *)(void *)(b->lanes + number * b->lane_bytes);
}
/* Fills the lane's next command; its texts live as long as the process. The order stays where it
 * is, and so does the lane: keys follow from the address. */
void bench_next_command(struct bench_lane *lane, jumun_command *command);
/* Takes the answer to the lane's command: checks, counts, moves the order on. The order after the
 * next one is picked here, so that it comes from memory meanwhile. */
void bench_take_result(struct bench_lane *lane, const jumun_result *result, int64_t now_ns);
int64_t bench_now_ns(void);
uint64_t bench_done(const struct bench *b); /* commands accepted so far */

/* -- closed.c, open.c: return 0, or 1 with a sentence on stderr */
int bench_prefill(struct bench *b);
int bench_run_batch(struct bench *b);
int bench_run_callers(struct bench *b);
int bench_run_open(struct bench *b);
int bench_run_queries(struct bench *b); /* or 3: no replica answered */
bool bench_query_is_known(const char *name);
/* Warms up, measures, and tells the load to stop. */
void bench_measure(struct bench *b);
/* Calls `send` at the asked rate with the moment at which each command should leave, late ones in
 * bursts, until the load is to stop. */
void bench_pace(const struct bench *b, void (*send)(void *arg, int64_t intended_ns), void *arg);

/* -- report.c */
void bench_report(const struct bench *b, FILE *out);
int bench_plot(const struct bench *b);

#endif
