/* A histogram of durations with a relative error below 1/32 from 1 ns to more than an hour, in a
 * fixed 9 KiB: 32 linear steps in each power of two.
 *
 * Counts are atomic: any thread may record while another reads. A read during records sees each of
 * them or not, which is good enough for percentiles. */
#ifndef JUMUN_BASE_HISTOGRAM_H
#define JUMUN_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    HISTOGRAM_STEP_BITS = 5,                      /* 32 steps per power of two */
    HISTOGRAM_POWERS = 42,                        /* up to 2^42 ns = 73 minutes; above: the last */
    HISTOGRAM_BUCKETS = (HISTOGRAM_POWERS - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS
};

struct histogram {
    atomic_ullong counts[HISTOGRAM_BUCKETS];
    atomic_ullong max_ns;
    atomic_ullong sum_ns;
};

/* All zero is an empty histogram; this makes a used one empty again. */
void histogram_reset(struct histogram *h);

/* Negative durations count as 0. */
void histogram_record(struct histogram *h, int64_t ns);

/* The same where no other thread ever records into `h`: without locked instructions, which would
 * wait for every write to memory that is still under way. */
void histogram_record_alone(struct histogram *h, int64_t ns);

/* Adds the counts of `other` to `h`. */
void histogram_add(struct histogram *h, const struct histogram *other);

uint64_t histogram_count(const struct histogram *h);

/* Mean in ns; 0 when empty. */
uint64_t histogram_mean_ns(const struct histogram *h);

/* The duration that `of_100000` of 100,000 records do not exceed (p99.9 = 99900): upper
 * edge of its bucket, at most the maximum. 0 when empty. */
uint64_t histogram_percentile_ns(const struct histogram *h, uint32_t of_100000);

#endif
