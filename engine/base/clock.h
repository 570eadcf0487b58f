/* The two clocks: Unix time for what people and logs see, monotonic time for intervals. Any thread.
 * Rules (actors/) and the shard never call these: time is handed to them. */
#ifndef JUMUN_BASE_CLOCK_H
#define JUMUN_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_mono_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t clock_mono_ms(void) { return clock_mono_ns() / 1000000; }

/* Milliseconds since 1970; may jump when somebody sets the clock. */
static inline int64_t clock_unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#endif
