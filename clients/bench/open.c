/* Open loop: commands leave at a fixed rate whether or not answers come, and each latency counts
 * from the moment at which the command should have left, so a stall is seen by every command that
 * it delayed (no coordinated omission). */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "clients/bench/bench.h"
#include "engine/base/priority.h"

/* Whoever sends in the real world has a machine of its own: what leaves late here, for want of a
 * processor that the node took, would be measured as the node's latency. Where permitted. */
enum { PACER_NICE = -10 };

/* Lanes that are idle: a stack under a lock; the pacer takes, answers give back. */
struct open_loop {
    pthread_mutex_t lock;
    struct bench_lane **idle;
    uint32_t idle_count;
};

static struct open_loop loop = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lane_idle(struct bench_lane *lane) {
    pthread_mutex_lock(&loop.lock);
    loop.idle[loop.idle_count++] = lane;
    pthread_mutex_unlock(&loop.lock);
}

static struct bench_lane *lane_take(void) {
    pthread_mutex_lock(&loop.lock);
    struct bench_lane *lane = loop.idle_count ? loop.idle[--loop.idle_count] : NULL;
    pthread_mutex_unlock(&loop.lock);
    return lane;
}

static void on_answer(void *arg, const jumun_result *result, const void *value, size_t bytes) {
    (void)value;
    (void)bytes;
    struct bench_lane *lane = arg;
    bench_take_result(lane, result, bench_now_ns());
    lane_idle(lane);
}

static void send_one(void *arg, int64_t intended_ns) {
    struct bench *b = arg;
    struct bench_lane *lane = lane_take();
    bool measuring = atomic_load(&b->measuring);
    if (!lane) { /* more commands are unanswered than there are orders: they count as not taken */
        if (measuring) atomic_fetch_add(&b->queue_full, 1);
        return;
    }
    jumun_command command;
    bench_next_command(lane, &command);
    lane->sent_ns = intended_ns;
    int code = jumun_submit(b->client, &command, on_answer, lane);
    if (code == JUMUN_OK) return;
    if (measuring) atomic_fetch_add(&b->queue_full, 1);
    lane_idle(lane);
}

void bench_pace(const struct bench *b, void (*send)(void *arg, int64_t intended_ns), void *arg) {
    enum { BURST_MAX = 1024 };
    const struct timespec pause = {0, 50000};
    int64_t begin = bench_now_ns();
    uint64_t sent = 0;
    double gap_ns = 1e9 / (double)b->options.rate;
    while (!atomic_load_explicit(&b->stop, memory_order_relaxed)) {
        /* The first one is due at the beginning itself. */
        uint64_t due = (uint64_t)((double)(bench_now_ns() - begin) / gap_ns) + 1;
        for (uint32_t burst = 0; sent < due && burst < BURST_MAX; burst++, sent++)
            send(arg, begin + (int64_t)((double)sent * gap_ns));
        if (sent >= due) nanosleep(&pause, NULL);
    }
}

static void *pace(void *arg) {
    priority_prompt();
    (void)priority_set(PACER_NICE);
    bench_pace(arg, send_one, arg);
    return NULL;
}

int bench_run_open(struct bench *b) {
    loop.idle = calloc(b->lanes_count, sizeof *loop.idle);
    if (!loop.idle) return 1;
    for (uint32_t l = 0; l < b->lanes_count; l++) lane_idle(bench_lane_at(b, l));
    pthread_t pacer;
    if (pthread_create(&pacer, NULL, pace, b) != 0) return 1;
    bench_measure(b);
    pthread_join(pacer, NULL);
    /* The answers still on their way find their lanes alive: the client is closed first. */
    jumun_close(b->client);
    b->client = NULL;
    free(loop.idle);
    loop.idle = NULL;
    return 0;
}
