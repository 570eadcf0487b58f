#include "engine/base/histogram.h"

static uint32_t histogram_bucket(uint64_t ns) {
    const uint32_t steps = 1u << HISTOGRAM_STEP_BITS;
    if (ns < steps) return (uint32_t)ns;
    uint32_t power = 63 - (uint32_t)__builtin_clzll(ns);
    if (power >= HISTOGRAM_POWERS) return HISTOGRAM_BUCKETS - 1;
    uint32_t step = (uint32_t)(ns >> (power - HISTOGRAM_STEP_BITS)) & (steps - 1);
    return ((power - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS) + step;
}

/* Largest value that falls into the bucket. */
static uint64_t histogram_upper(uint32_t bucket) {
    const uint32_t steps = 1u << HISTOGRAM_STEP_BITS;
    if (bucket < steps) return bucket;
    uint32_t shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
    return ((uint64_t)(steps + (bucket & (steps - 1)) + 1) << shift) - 1;
}

void histogram_reset(struct histogram *h) {
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        atomic_store_explicit(&h->counts[i], 0, memory_order_relaxed);
    atomic_store_explicit(&h->max_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&h->sum_ns, 0, memory_order_relaxed);
}

static void histogram_raise_max(struct histogram *h, unsigned long long ns) {
    unsigned long long max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
    while (ns > max && !atomic_compare_exchange_weak_explicit(
                           &h->max_ns, &max, ns, memory_order_relaxed, memory_order_relaxed))
        ;
}

void histogram_record(struct histogram *h, int64_t ns) {
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;
    atomic_fetch_add_explicit(&h->counts[histogram_bucket(value)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_ns, value, memory_order_relaxed);
    histogram_raise_max(h, value);
}

static void histogram_raise(atomic_ullong *sum, unsigned long long by) {
    unsigned long long before = atomic_load_explicit(sum, memory_order_relaxed);
    atomic_store_explicit(sum, before + by, memory_order_relaxed);
}

void histogram_record_alone(struct histogram *h, int64_t ns) {
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;
    histogram_raise(&h->counts[histogram_bucket(value)], 1);
    histogram_raise(&h->sum_ns, value);
    if (value > atomic_load_explicit(&h->max_ns, memory_order_relaxed))
        atomic_store_explicit(&h->max_ns, value, memory_order_relaxed);
}

void histogram_add(struct histogram *h, const struct histogram *other) {
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        unsigned long long n = atomic_load_explicit(&other->counts[i], memory_order_relaxed);
        if (n) atomic_fetch_add_explicit(&h->counts[i], n, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&h->sum_ns,
                              atomic_load_explicit(&other->sum_ns, memory_order_relaxed),
                              memory_order_relaxed);
    histogram_raise_max(h, atomic_load_explicit(&other->max_ns, memory_order_relaxed));
}

uint64_t histogram_count(const struct histogram *h) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
    return count;
}

uint64_t histogram_mean_ns(const struct histogram *h) {
    uint64_t count = histogram_count(h);
    return count ? atomic_load_explicit(&h->sum_ns, memory_order_relaxed) / count : 0;
}

uint64_t histogram_percentile_ns(const struct histogram *h, uint32_t of_100000) {
    uint64_t count = histogram_count(h);
    if (count == 0) return 0;
    uint64_t rank = (count * of_100000 + 99999) / 100000;
    if (rank == 0) rank = 1;
    uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t here = atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        if (here >= rank) return histogram_upper(i) < max ? histogram_upper(i) : max;
        rank -= here;
    }
    return max;
}
