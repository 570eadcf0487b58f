/* Plays a plan through the library: many orders at once, each order's commands one after another,
 * the next one when the answer to the last is there. */
#ifndef JUMUN_DEMO_PLAY_H
#define JUMUN_DEMO_PLAY_H

#include <pthread.h>
#include <signal.h>

#include "clients/cli/progress.h"
#include "clients/demo/plan.h"
#include "engine/base/histogram.h"

enum { PLAY_CODES = 1100, PLAY_KINDS = 32, PLAY_SHARDS = 256 };

struct play;

/* One order while it is played. The lists and flags are under the lock; `play` and `key` never
 * change; `current` and `sent_ns` belong to whoever made the order busy. */
struct play_order {
    struct play *play;
    jumun_key key;
    uint32_t current;          /* the step in flight */
    uint32_t first, last;      /* steps that wait for it: position + 1, chained; 0 = none */
    bool busy;
    bool lost;                 /* its place was refused: what follows makes no sense */
    uint32_t version;          /* the highest that was acknowledged; 0 = none */
    uint64_t sent_ns;
};

struct play {
    const struct plan *plan;
    jumun_client *client;
    uint32_t in_flight_max;    /* commands sent or waiting for their order's answer */
    struct progress progress;
    const char *half_file;     /* made when half of the steps have been sent; NULL = none */

    struct play_order *orders;
    uint32_t *next;            /* per step: the chain of its order */
    uint32_t *again;           /* steps that the client's queue had no room for */
    uint32_t again_count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t outstanding;
    uint64_t unanswered;       /* no connection, outcome unknown */

    /* results; final once play_run() has returned */
    uint64_t answered, skipped, refused, held;
    uint64_t counts[PLAN_ORIGINS][PLAY_KINDS][PLAY_CODES];
    char details[PLAY_CODES][96];
    struct histogram latency;
    uint64_t acknowledged_ns[PLAY_SHARDS]; /* by shard: when it last acknowledged a command */
    uint64_t pause_ns[PLAY_SHARDS];        /* the longest time between two of them */
    double seconds;
    bool stopped;              /* by the signal or for lack of answers */
};

/* NULL without memory. */
struct play *play_new(const struct plan *plan, jumun_client *client, uint32_t in_flight_max);
void play_delete(struct play *play);

/* Returns when every step is answered. `stop`: set by a signal handler to end early. `out`: where
 * the progress goes; NULL = nowhere. */
void play_run(struct play *play, const volatile sig_atomic_t *stop, FILE *out, bool color);

#endif
