/* What a client knows of how long answers take: a smoothed value, and a bound that 95 of 100 stay
 * below. Both follow changes within some dozen samples and take no memory. The holder's lock. */
#ifndef JUMUN_SDK_LATENCY_H
#define JUMUN_SDK_LATENCY_H

#include <stdint.h>

/* 0 = nothing measured yet. One eighth of each sample. */
static inline int64_t latency_smooth(int64_t smoothed_ns, int64_t sample_ns) {
    if (smoothed_ns == 0) return sample_ns > 0 ? sample_ns : 1;
    int64_t next = smoothed_ns + (sample_ns - smoothed_ns) / 8;
    return next > 0 ? next : 1;
}

/* Goes up by 19 steps for a sample above it, down by one for a sample below: it rests where one in
 * twenty is above. A step is 1/256 of it. */
static inline int64_t latency_p95(int64_t p95_ns, int64_t sample_ns) {
    if (p95_ns == 0) return sample_ns > 0 ? 2 * sample_ns : 1;
    int64_t step = p95_ns / 256 + 1;
    int64_t next = sample_ns > p95_ns ? p95_ns + 19 * step : p95_ns - step;
    return next > 0 ? next : 1;
}

#endif
