/* The library's clocks. The coarse ones cost a few nanoseconds and are good to 4 ms, which is what
 * deadlines need. Any thread. */
#ifndef JUMUN_SDK_CLOCK_H
#define JUMUN_SDK_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_coarse_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t clock_coarse_unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#endif
