#include "clients/sdk/circuit_breaker.h"

void circuit_breaker_init(struct circuit_breaker *b, uint32_t failures_max, int64_t open_ns) {
    atomic_init(&b->failures, 0);
    atomic_init(&b->open_until_ns, 0);
    b->failures_max = failures_max;
    b->open_ns = open_ns;
}

bool circuit_breaker_admit(struct circuit_breaker *b, int64_t now_ns) {
    int64_t until = atomic_load_explicit(&b->open_until_ns, memory_order_relaxed);
    if (until == 0) return true;
    if (now_ns < until) return false;
    /* Whoever moves the time on is the probe. */
    return atomic_compare_exchange_strong(&b->open_until_ns, &until, now_ns + b->open_ns) ||
           until == 0;
}

void circuit_breaker_success(struct circuit_breaker *b) {
    if (atomic_load_explicit(&b->failures, memory_order_relaxed) != 0)
        atomic_store(&b->failures, 0);
    if (atomic_load_explicit(&b->open_until_ns, memory_order_relaxed) != 0)
        atomic_store(&b->open_until_ns, 0);
}

bool circuit_breaker_failure(struct circuit_breaker *b, int64_t now_ns) {
    uint32_t failures = atomic_fetch_add(&b->failures, 1) + 1;
    if (failures < b->failures_max) return false;
    return atomic_exchange(&b->open_until_ns, now_ns + b->open_ns) == 0;
}

void circuit_breaker_allow_probe(struct circuit_breaker *b) {
    int64_t until = atomic_load(&b->open_until_ns);
    if (until != 0) atomic_compare_exchange_strong(&b->open_until_ns, &until, 1);
}
