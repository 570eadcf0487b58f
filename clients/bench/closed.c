/* Closed loops: a fixed number of commands in flight; each answer brings the next command. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/bench/bench.h"

/* One point of the series. */
static void bench_sample(struct bench *b) {
    if (b->series_count == b->series_capacity) {
        uint32_t wanted = b->series_capacity ? b->series_capacity * 2 : 1024;
        void *series = realloc(b->series, wanted * sizeof *b->series);
        if (!series) return;
        b->series = series;
        b->series_capacity = wanted;
    }
    b->series[b->series_count].at_s = (double)(bench_now_ns() - b->begin_ns) / 1e9;
    b->series[b->series_count++].done = bench_done(b);
}

static void progress(const struct bench *b, double passed, double of, uint64_t rate) {
    if (b->options.quiet || b->options.json) return;
    fprintf(stderr, "\r  %3.0f %%  %9llu commands/s  ", 100 * passed / of,
            (unsigned long long)rate);
    if (passed >= of) fputc('\n', stderr);
    fflush(stderr);
}

static void bench_wait(struct bench *b, double seconds) {
    int64_t begin = bench_now_ns(), last = begin;
    uint64_t last_done = bench_done(b);
    bool measuring = atomic_load(&b->measuring);
    for (;;) {
        int64_t now = bench_now_ns();
        double passed = (double)(now - begin) / 1e9;
        if (measuring) bench_sample(b);
        if (now - last >= 500000000 || passed >= seconds) {
            uint64_t done = bench_done(b);
            uint64_t rate = (uint64_t)((double)(done - last_done) * 1e9 / (double)(now - last + 1));
            if (measuring) progress(b, passed < seconds ? passed : seconds, seconds, rate);
            last = now;
            last_done = done;
        }
        if (passed >= seconds) return;
        struct timespec pause = {0, 100000000};
        double left = seconds - passed;
        if (left < 0.1) pause.tv_nsec = (long)(left * 1e9);
        nanosleep(&pause, NULL);
    }
}

void bench_measure(struct bench *b) {
    bench_wait(b, b->options.warmup_seconds);
    b->begin_ns = bench_now_ns();
    atomic_store(&b->measuring, true);
    bench_wait(b, b->options.seconds);
    atomic_store(&b->measuring, false);
    b->end_ns = bench_now_ns();
    atomic_store(&b->stop, true);
}

static void wait_for_lanes(struct bench *b) {
    while (atomic_load(&b->lanes_running) > 0) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
}

static void lane_submit(struct bench_lane *lane, int64_t now_ns);

static void on_answer(void *arg, const jumun_result *result, const void *value, size_t bytes) {
    (void)value;
    (void)bytes;
    struct bench_lane *lane = arg;
    int64_t now_ns = bench_now_ns();
    bench_take_result(lane, result, now_ns);
    lane_submit(lane, now_ns);
}

/* One look at the clock for an answer and for the command that follows it at once. */
static void lane_submit(struct bench_lane *lane, int64_t now_ns) {
    struct bench *b = lane->bench;
    if (!atomic_load_explicit(&b->stop, memory_order_relaxed)) {
        jumun_command command;
        bench_next_command(lane, &command);
        lane->sent_ns = now_ns;
        int code = jumun_submit(b->client, &command, on_answer, lane);
        if (code == JUMUN_OK) return;
        atomic_fetch_add(&b->by_code[code], 1);
        atomic_fetch_add(&b->failed, 1);
    }
    atomic_fetch_sub(&b->lanes_running, 1);
}

int bench_run_batch(struct bench *b) {
    atomic_store(&b->stop, false);
    atomic_store(&b->lanes_running, b->lanes_count);
    for (uint32_t l = 0; l < b->lanes_count; l++) lane_submit(bench_lane_at(b, l), bench_now_ns());
    bench_measure(b);
    wait_for_lanes(b);
    return 0;
}

static void *caller(void *arg) {
    struct bench_lane *lane = arg;
    struct bench *b = lane->bench;
    while (!atomic_load_explicit(&b->stop, memory_order_relaxed)) {
        jumun_command command;
        jumun_result result;
        void *value = NULL;
        size_t bytes;
        bench_next_command(lane, &command);
        lane->sent_ns = bench_now_ns();
        jumun_call(b->client, &command, &result, &value, &bytes);
        bench_take_result(lane, &result, bench_now_ns());
        free(value);
    }
    return NULL;
}

int bench_run_callers(struct bench *b) {
    pthread_t *threads = calloc(b->lanes_count, sizeof *threads);
    if (!threads) return 1;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    for (uint32_t l = 0; l < b->lanes_count; l++)
        if (pthread_create(&threads[l], &attributes, caller, bench_lane_at(b, l)) != 0) {
            fprintf(stderr, "jumun-bench: cannot start %u threads\n", b->lanes_count);
            exit(1);
        }
    pthread_attr_destroy(&attributes);
    bench_measure(b);
    for (uint32_t l = 0; l < b->lanes_count; l++) pthread_join(threads[l], NULL);
    free(threads);
    return 0;
}

/* -- filling the node with live orders first ------------------------------------------------- */

struct prefill {
    struct bench *b;
    atomic_ullong left, done, failed;
    atomic_uint running;
};

struct prefill_lane { struct bench_lane lane; struct prefill *p; bench_order order; };

static void prefill_next(struct prefill_lane *pl);

static void on_prefilled(void *arg, const jumun_result *result, const void *value, size_t bytes) {
    (void)value;
    (void)bytes;
    struct prefill_lane *pl = arg;
    if (result->code == JUMUN_OK) atomic_fetch_add(&pl->p->done, 1);
    else atomic_fetch_add(&pl->p->failed, 1);
    pl->order &= ~(uint32_t)BENCH_STEP_MASK;
    prefill_next(pl);
}

static void prefill_next(struct prefill_lane *pl) {
    struct prefill *p = pl->p;
    uint64_t left = atomic_load(&p->left);
    while (left > 0 && !atomic_compare_exchange_weak(&p->left, &left, left - 1)) {}
    if (left > 0) {
        jumun_command command;
        bench_next_command(&pl->lane, &command);
        /* They are to stay: no deadline within the run. */
        command.place.payment_timeout_ms = 24LL * 3600000;
        if (jumun_submit(p->b->client, &command, on_prefilled, pl) == JUMUN_OK) return;
        atomic_fetch_add(&p->failed, 1);
    }
    atomic_fetch_sub(&p->running, 1);
}

int bench_prefill(struct bench *b) {
    enum { PREFILL_LANES = 2048 };
    if (b->options.prefill == 0) return 0;
    struct prefill p = {.b = b, .left = b->options.prefill, .running = PREFILL_LANES};
    struct prefill_lane *lanes = aligned_alloc(64, PREFILL_LANES * sizeof *lanes);
    if (!lanes) return 1;
    int64_t begin = bench_now_ns();
    for (uint32_t i = 0; i < PREFILL_LANES; i++) {
        jumun_key seed = jumun_key_new();
        lanes[i] = (struct prefill_lane){.p = &p};
        lanes[i].lane = (struct bench_lane){.bench = b, .orders = &lanes[i].order,
                                            .orders_count = 1};
        memcpy(&lanes[i].lane.random, seed.bytes + 8, 8);
        prefill_next(&lanes[i]);
    }
    while (atomic_load(&p.running) > 0) {
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
        if (!b->options.quiet && !b->options.json)
            fprintf(stderr, "\r  placed %llu of %llu orders ",
                    (unsigned long long)atomic_load(&p.done),
                    (unsigned long long)b->options.prefill);
    }
    double seconds = (double)(bench_now_ns() - begin) / 1e9;
    if (!b->options.json)
        fprintf(stderr, "\r  placed %llu orders in %.1f s (%.0f/s), %llu failed\n",
                (unsigned long long)atomic_load(&p.done), seconds,
                (double)atomic_load(&p.done) / seconds, (unsigned long long)atomic_load(&p.failed));
    int failed = atomic_load(&p.failed) != 0;
    free(lanes);
    return failed;
}
