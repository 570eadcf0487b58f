#include "clients/sdk/drain_rate.h"

static void rate_set(struct drain_rate *r, uint64_t per_second) {
    uint32_t set = per_second > UINT32_MAX ? UINT32_MAX : (uint32_t)per_second;
    atomic_store_explicit(&r->per_second, set, memory_order_relaxed);
}

/* A window is over in which `sample` a second ended. */
static void rate_take(struct drain_rate *r, int64_t now_ns, uint64_t sample) {
    uint32_t known = atomic_load_explicit(&r->per_second, memory_order_relaxed);
    if (r->backlogged) {
        r->backlogged_ns = now_ns;
        uint64_t next = known ? (known + sample) / 2 : sample;
        rate_set(r, next ? next : 1);
    } else if (known && now_ns - r->backlogged_ns > DRAIN_RATE_FORGET_NS) {
        rate_set(r, 0);
    } else if (known && sample > known) {
        rate_set(r, sample); /* it can take as much at least */
    }
}

void drain_rate_look(struct drain_rate *r, int64_t now_ns, uint64_t ended, bool backlogged) {
    if (r->begun_ns != 0) {
        r->backlogged &= backlogged;
        if (now_ns - r->begun_ns < DRAIN_RATE_WINDOW_NS || ended == r->ended_before) return;
        uint64_t took_ns = (uint64_t)(now_ns - r->begun_ns);
        rate_take(r, now_ns, (ended - r->ended_before) * 1000000000 / took_ns);
    }
    r->begun_ns = now_ns;
    r->ended_before = ended;
    r->backlogged = backlogged;
}

void drain_rate_forget(struct drain_rate *r) {
    r->begun_ns = 0;
    if (atomic_load_explicit(&r->per_second, memory_order_relaxed)) rate_set(r, 0);
}
