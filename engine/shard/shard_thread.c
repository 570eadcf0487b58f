#include "engine/shard/shard_thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/doorbell.h"
#include "engine/base/memory.h"

enum { SHARD_THREAD_SLEEP_MS_MAX = 1000 };

enum { OPENING = 0, OPEN = 1, OPEN_FAILED = 2 };

struct shard_thread {
    _Alignas(64) struct doorbell bell;
    _Alignas(64) struct shard_thread_options options;
    pthread_t thread;
    struct shard *shard;           /* set before `opened` */
    pthread_mutex_t mutex;         /* guards opened and error until the shard is open */
    pthread_cond_t changed;
    int opened;
    char error[512];
    atomic_bool drain, drained, stop;
    atomic_ullong rounds, sleeps, wakes;
};

void shard_thread_wake(void *arg) {
    struct shard_thread *t = arg;
    if (doorbell_ring(&t->bell)) atomic_fetch_add_explicit(&t->wakes, 1, memory_order_relaxed);
}

/* Looks for a wake for as long as the options say. True when one came. */
static bool shard_thread_spin(struct shard_thread *t) {
    if (t->options.spin_ns == 0) return false;
    int64_t until = clock_mono_ns() + t->options.spin_ns;
    do {
        for (int i = 0; i < 64; i++) {
            if (doorbell_is_rung(&t->bell)) return true;
            __builtin_ia32_pause();
        }
    } while (clock_mono_ns() < until);
    return false;
}

static void shard_thread_sleep(struct shard_thread *t, int64_t next_ms) {
    if (shard_thread_spin(t)) return;
    int64_t timeout_ms = next_ms - clock_mono_ms();
    if (timeout_ms <= 0) return;
    if (timeout_ms > SHARD_THREAD_SLEEP_MS_MAX) timeout_ms = SHARD_THREAD_SLEEP_MS_MAX;
    if (doorbell_sleep(&t->bell, timeout_ms))
        atomic_fetch_add_explicit(&t->sleeps, 1, memory_order_relaxed);
}

static void shard_thread_loop(struct shard_thread *t) {
    bool draining = false;
    while (!atomic_load_explicit(&t->stop, memory_order_acquire)) {
        doorbell_hear(&t->bell);
        if (!draining && atomic_load_explicit(&t->drain, memory_order_acquire)) {
            draining = true;
            shard_drain(t->shard);
        }
        int64_t next_ms = INT64_MAX;
        uint32_t worked = shard_work(t->shard, node_clock_ms(t->options.clock),
                                     clock_mono_ms(), &next_ms);
        atomic_fetch_add_explicit(&t->rounds, 1, memory_order_relaxed);
        if (draining) /* for now: messages of shards that still drain come in */
            atomic_store_explicit(&t->drained, shard_is_drained(t->shard), memory_order_release);
        if (worked == 0) shard_thread_sleep(t, next_ms);
    }
}

/* A drained shard may have begun another checkpoint (messages of shards that still drain come in),
 * and one that ran out of patience is in the midst of it. Closed at once, it would free what the
 * storage is writing: rows of freed memory with checksums that match. */
static void shard_thread_settle(struct shard_thread *t) {
    for (;;) {
        doorbell_hear(&t->bell);
        if (shard_settle(t->shard)) return;
        doorbell_sleep(&t->bell, SHARD_THREAD_SLEEP_MS_MAX);
    }
}

static void shard_thread_pin(const struct shard_thread *t) {
    char name[16];
    snprintf(name, sizeof name, "shard-%u", t->options.shard.id);
    pthread_setname_np(pthread_self(), name);
    if (t->options.cpu < 0) return;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((unsigned)t->options.cpu, &cpus);
    /* A core that went away costs speed and nothing else. */
    (void)pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
}

static void *shard_thread_main(void *arg) {
    struct shard_thread *t = arg;
    shard_thread_pin(t);
    memory_own_arena();
    char error[sizeof t->error] = "";
    t->options.shard.storage->wake_arg = t;
    t->options.shard.storage->wake = shard_thread_wake;
    struct shard *shard = shard_open(&t->options.shard, node_clock_ms(t->options.clock),
                                     clock_mono_ms(), error, sizeof error);
    if (shard) shard_on_wake(shard, shard_thread_wake, t);
    pthread_mutex_lock(&t->mutex);
    t->shard = shard;
    memcpy(t->error, error, sizeof error);
    t->opened = shard ? OPEN : OPEN_FAILED;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    if (!shard) {
        atomic_store_explicit(&t->drained, true, memory_order_release);
        return NULL;
    }
    shard_thread_loop(t);
    shard_thread_settle(t);
    shard_close(shard);
    return NULL;
}

struct shard_thread *shard_thread_start(const struct shard_thread_options *options, char *error,
                                        size_t error_bytes) {
    struct shard_thread *t = aligned_alloc(64, (sizeof *t + 63) / 64 * 64);
    if (!t) {
        snprintf(error, error_bytes, "no memory for the thread of shard %u", options->shard.id);
        return NULL;
    }
    memset(t, 0, sizeof *t);
    t->options = *options;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->changed, NULL);
    int rc = pthread_create(&t->thread, NULL, shard_thread_main, t);
    if (rc == 0) return t;
    snprintf(error, error_bytes, "cannot start the thread of shard %u: %s", options->shard.id,
             strerror(rc));
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    free(t);
    return NULL;
}

struct shard *shard_thread_await(struct shard_thread *t, char *error, size_t error_bytes) {
    pthread_mutex_lock(&t->mutex);
    while (t->opened == OPENING) pthread_cond_wait(&t->changed, &t->mutex);
    struct shard *shard = t->shard;
    pthread_mutex_unlock(&t->mutex);
    if (!shard) snprintf(error, error_bytes, "%s", t->error);
    return shard;
}

void shard_thread_drain(struct shard_thread *t) {
    atomic_store_explicit(&t->drain, true, memory_order_release);
    shard_thread_wake(t);
}

bool shard_thread_is_drained(const struct shard_thread *t) {
    return atomic_load_explicit(&t->drained, memory_order_acquire);
}

void shard_thread_stop(struct shard_thread *t) {
    atomic_store_explicit(&t->stop, true, memory_order_release);
    shard_thread_wake(t);
    int rc = pthread_join(t->thread, NULL);
    require(rc == 0);
}

void shard_thread_free(struct shard_thread *t) {
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

void shard_thread_stats(const struct shard_thread *t, struct shard_thread_stats *stats) {
    stats->rounds = atomic_load_explicit(&t->rounds, memory_order_relaxed);
    stats->sleeps = atomic_load_explicit(&t->sleeps, memory_order_relaxed);
    stats->wakes = atomic_load_explicit(&t->wakes, memory_order_relaxed);
}
