#include "engine/base/node_clock.h"

#include <time.h>

#include "engine/base/log.h"

static int64_t node_clock_read_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void node_clock_time_init(struct node_clock_time *time, int64_t wall_ns, int64_t boot_ns) {
    *time = (struct node_clock_time){.unix_ns = wall_ns, .boot_ns = boot_ns};
}

void node_clock_time_step(struct node_clock_time *time, int64_t wall_ns, int64_t boot_ns) {
    const int64_t follow_ns = NODE_CLOCK_FOLLOW_MS * INT64_C(1000000);
    int64_t passed_ns = boot_ns - time->boot_ns;
    if (passed_ns <= 0) return;
    time->boot_ns = boot_ns;
    time->unix_ns += passed_ns;
    int64_t ahead_ns = wall_ns - time->unix_ns;
    bool refused = ahead_ns > follow_ns || ahead_ns < -follow_ns;
    time->refused_ns = refused ? ahead_ns : 0;
    if (refused) return;
    int64_t most_ns = passed_ns / NODE_CLOCK_FASTER_PART;
    int64_t least_ns = -(passed_ns / NODE_CLOCK_SLOWER_PART);
    time->unix_ns += ahead_ns > most_ns ? most_ns : ahead_ns < least_ns ? least_ns : ahead_ns;
}

void node_clock_init(struct node_clock *clock) {
    *clock = (struct node_clock){.stepping = ATOMIC_FLAG_INIT};
    node_clock_time_init(&clock->time, node_clock_read_ns(CLOCK_REALTIME),
                         node_clock_read_ns(CLOCK_BOOTTIME));
    atomic_init(&clock->unix_ms, clock->time.unix_ns / 1000000);
    atomic_init(&clock->boot_ms, clock->time.boot_ns / 1000000);
    atomic_init(&clock->refused_ms, 0);
}

static void node_clock_tell(int64_t before_ms, int64_t now_ms) {
    if (before_ms == 0 && now_ms != 0)
        log_warn("the clock jumped: it is %lld ms %s of the time that has passed since the start, "
                 "and is not followed until it is set right or the node is started again",
                 (long long)(now_ms < 0 ? -now_ms : now_ms), now_ms < 0 ? "behind" : "ahead");
    if (before_ms != 0 && now_ms == 0) log_warn("the clock is right again, and followed");
}

int64_t node_clock_ms(struct node_clock *clock) {
    int64_t boot_ns = node_clock_read_ns(CLOCK_BOOTTIME);
    /* Once a millisecond somebody looks at the clocks; whoever comes meanwhile takes the last time,
     * which is at most that old. */
    if (atomic_load_explicit(&clock->boot_ms, memory_order_relaxed) != boot_ns / 1000000 &&
        !atomic_flag_test_and_set_explicit(&clock->stepping, memory_order_acquire)) {
        struct node_clock_time *time = &clock->time;
        int64_t before_ms = atomic_load_explicit(&clock->refused_ms, memory_order_relaxed);
        node_clock_time_step(time, node_clock_read_ns(CLOCK_REALTIME), boot_ns);
        /* Refused is never less than the bound, so never 0 in milliseconds. */
        int64_t refused_ms = time->refused_ns / 1000000;
        atomic_store_explicit(&clock->refused_ms, refused_ms, memory_order_relaxed);
        atomic_store_explicit(&clock->unix_ms, time->unix_ns / 1000000, memory_order_relaxed);
        atomic_store_explicit(&clock->boot_ms, time->boot_ns / 1000000, memory_order_relaxed);
        atomic_flag_clear_explicit(&clock->stepping, memory_order_release);
        if ((before_ms == 0) != (refused_ms == 0)) node_clock_tell(before_ms, refused_ms);
    }
    return atomic_load_explicit(&clock->unix_ms, memory_order_relaxed);
}

int64_t node_clock_refused_ms(struct node_clock *clock) {
    return atomic_load_explicit(&clock->refused_ms, memory_order_relaxed);
}
