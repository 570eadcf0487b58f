#include "engine/base/commit_times.h"

#include <string.h>

uint32_t commit_times_read(const struct commit_times *t, uint64_t from, uint64_t last,
                           struct commit_moment *moments, uint32_t max) {
    uint64_t count = atomic_load_explicit(&t->count, memory_order_acquire), at = count;
    uint32_t n = 0;
    if (max == 0 || from > last) return 0;
    /* From the newest back, into the end of the room. */
    while (at > 0 && n < max) {
        uint64_t i = --at % COMMIT_TIMES_KEPT;
        struct commit_moment m = {
            .last = atomic_load_explicit(&t->ring[i].last, memory_order_relaxed),
            .ms = atomic_load_explicit(&t->ring[i].ms, memory_order_relaxed)};
        atomic_thread_fence(memory_order_acquire);
        /* It was overwritten meanwhile, or is being. */
        if (atomic_load_explicit(&t->count, memory_order_relaxed) - at >= COMMIT_TIMES_KEPT) break;
        if (m.last < from) {
            /* All of before: so it is known what the next one covers. */
            memmove(moments, moments + max - n, n * sizeof *moments);
            return n;
        }
        /* Of several behind all that is asked for, the first one covers it. */
        if (n > 0 && m.last >= last) moments[max - n] = m;
        else moments[max - ++n] = m;
    }
    memmove(moments, moments + max - n, n * sizeof *moments);
    /* Who knows how much of what the oldest one covers was committed before it. */
    if (n > 0) moments[0].ms = 0;
    return n;
}
