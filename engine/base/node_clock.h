/* The Unix time that a node decides by. The log's time never goes back, so one wrong reading of the
 * wall clock, far ahead, would be there for good: every deadline fired, every new key refused.
 *
 * Time is therefore the start's wall time plus what CLOCK_BOOTTIME (which counts a suspended
 * machine's time) says has passed. A wall clock that differs by up to NODE_CLOCK_FOLLOW_MS is
 * followed a little at a time, never backwards; one that differs by more is refused, with a line in
 * the log when that begins and when it ends. The start believes the wall clock: there is nothing
 * else to go by. */
#ifndef JUMUN_BASE_NODE_CLOCK_H
#define JUMUN_BASE_NODE_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    NODE_CLOCK_FOLLOW_MS = 60000,
    NODE_CLOCK_FASTER_PART = 10, /* ahead by at most 1/10 of the time that passes */
    NODE_CLOCK_SLOWER_PART = 2   /* at least half of it */
};

/* The rule, apart from the clocks. Nanoseconds. */
struct node_clock_time {
    int64_t unix_ns;      /* what the node takes for the time */
    int64_t boot_ns;      /* when that was */
    int64_t refused_ns;   /* what the wall clock is ahead (or, negative, behind); 0 = followed */
};

void node_clock_time_init(struct node_clock_time *time, int64_t wall_ns, int64_t boot_ns);

/* Takes readings of the wall clock and of CLOCK_BOOTTIME. One that is older than the last does
 * nothing: threads may come in another order than they read the clocks in. */
void node_clock_time_step(struct node_clock_time *time, int64_t wall_ns, int64_t boot_ns);

/* One for the whole node; lives as long as anybody asks it. */
struct node_clock {
    atomic_flag stepping;              /* held by the thread that brings it up to date */
    struct node_clock_time time;       /* its */
    atomic_llong unix_ms, boot_ms, refused_ms;
};

void node_clock_init(struct node_clock *clock);

/* Milliseconds since 1970; never less than any thread got before. Any thread; waits for none. */
int64_t node_clock_ms(struct node_clock *clock);

/* By how much the wall clock was ahead of (negative: behind) the node's time when last looked at,
 * while it is refused; else 0. Any thread. */
int64_t node_clock_refused_ms(struct node_clock *clock);

#endif
