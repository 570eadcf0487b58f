/* When which index of a log was committed, as one thread noted it and any others look it up: a ring
 * of the last moments, without locks. It tells readers how old what they show is; nothing depends
 * on it. */
#ifndef JUMUN_BASE_COMMIT_TIMES_H
#define JUMUN_BASE_COMMIT_TIMES_H

#include <stdatomic.h>
#include <stdint.h>

enum { COMMIT_TIMES_KEPT = 1024 }; /* moments: more than a second's, at one a millisecond */

/* All entries up to `last` that no earlier moment has were committed at `ms` (Unix); 0 = it is not
 * known any more. */
struct commit_moment { uint64_t last; int64_t ms; };

/* All zero: nothing was noted yet. */
struct commit_times {
    atomic_ullong count;       /* moments ever noted */
    struct { atomic_ullong last; atomic_llong ms; } ring[COMMIT_TIMES_KEPT];
};

/* One thread. `last` never goes back. */
static inline void commit_times_note(struct commit_times *t, uint64_t last, int64_t ms) {
    uint64_t count = atomic_load_explicit(&t->count, memory_order_relaxed);
    uint64_t newest = (count + COMMIT_TIMES_KEPT - 1) % COMMIT_TIMES_KEPT;
    if (count != 0 && atomic_load_explicit(&t->ring[newest].ms, memory_order_relaxed) == ms) {
        atomic_store_explicit(&t->ring[newest].last, last, memory_order_relaxed);
        return;
    }
    /* In front of the count: who still looks at the moment that goes sees by the count that it may
     * be gone: neither store may come before that of the count so far. */
    uint64_t at = count % COMMIT_TIMES_KEPT;
    atomic_store_explicit(&t->ring[at].last, last, memory_order_release);
    atomic_store_explicit(&t->ring[at].ms, ms, memory_order_release);
    atomic_store_explicit(&t->count, count + 1, memory_order_release);
}

/* Any thread: the moments that entries from..last became committed in, oldest first, at most `max`
 * (the newest ones). What comes before the first is not known. Returns their number. */
uint32_t commit_times_read(const struct commit_times *times, uint64_t from, uint64_t last,
                           struct commit_moment *moments, uint32_t max);

#endif
