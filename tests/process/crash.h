/* The crash test: a loaded node is killed at random moments, and every answer that it ever gave is
 * held against what it knows afterwards.
 *
 * Each worker owns its orders and asks one thing at a time, so that it knows what each order must
 * look like. What it sent is noted with its fate:
 *   DONE      acknowledged: its events must stand in the history, once and whole
 *   REFUSED   by a rule, or certainly not done: nothing of it may stand there
 *   UNKNOWN   no answer: whole or absent; asked again under its id it must be done, once
 */
#ifndef JUMUN_TESTS_CRASH_H
#define JUMUN_TESTS_CRASH_H

#include <pthread.h>
#include <stdatomic.h>

#include "clients/sdk/jumun.h"
#include "engine/base/prng.h"
#include "tests/process/answers.h"
#include "tests/process/node_process.h"

enum {
    CRASH_WORKERS_MAX = 64,
    CRASH_ORDERS_MAX = 4096,    /* per worker */
    CRASH_SENT_MAX = 24,        /* commands of one order */
    CRASH_STORES = 5
};

enum crash_fate { FATE_UNKNOWN, FATE_DONE, FATE_REFUSED };

struct crash_sent {
    jumun_key id;
    uint8_t fate;               /* enum crash_fate */
    uint8_t step;               /* what it was: enum crash_step */
    uint32_t version;           /* DONE: as acknowledged */
    uint64_t index;
    int code;
};

struct crash_order {
    jumun_key key;
    uint8_t store;
    uint8_t steps_wanted;       /* left alone after that many steps of its life */
    uint8_t steps_done;
    bool cancelled, finished;
    uint8_t sent_count;
    struct crash_sent sent[CRASH_SENT_MAX];
};

struct crash_world {
    jumun_client *patient;      /* retries over a restart by itself */
    jumun_client *hasty;        /* gives up soon: many unknown outcomes */
    atomic_bool stop;           /* workers: come to an end */
    atomic_uint failures;
    atomic_ulong done, refused, unknown, unknown_found, judged;
};

struct crash_worker {
    struct crash_world *world;
    struct prng prng;
    pthread_t thread;
    uint32_t orders_count, judge_from; /* orders before judge_from are finished and judged */
    struct crash_order *orders;        /* CRASH_ORDERS_MAX */
};

/* Thread bodies; the argument is a struct crash_worker. */
void *crash_load(void *worker);
void *crash_judge(void *worker);  /* resolves what is unknown, then judges; the node is up */

/* One command of an order's life, sent under `sent->id`; fills fate, version, index, code. */
void crash_send(struct crash_worker *w, struct crash_order *o, struct crash_sent *sent,
                jumun_client *client);

/* The state that the order must be in, by its name in answers. */
const char *crash_state_wanted(const struct crash_order *o);
bool crash_is_open(const struct crash_order *o); /* its store counts it as open */
bool crash_is_placed(const struct crash_order *o);

const char *crash_store_name(uint32_t store);

/* Notes and prints a broken promise. */
void crash_report(struct crash_worker *w, const struct crash_order *o, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
