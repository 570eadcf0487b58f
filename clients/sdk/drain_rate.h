/* How fast a lane's commands end, as far as that says what the engine can take: only while commands
 * wait. A client that offers little ends little, and that says nothing. Nor does a pause: while
 * nothing ends at all, another node may be about to lead, and what was known stands until something
 * ends.
 *
 * One thread looks (the client's clock), any thread asks. */
#ifndef JUMUN_SDK_DRAIN_RATE_H
#define JUMUN_SDK_DRAIN_RATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DRAIN_RATE_WINDOW_NS 20000000LL /* and until something has ended in it */
/* Nothing waited for so long: what was measured then holds no more. */
#define DRAIN_RATE_FORGET_NS 1000000000LL

struct drain_rate {
    _Atomic uint32_t per_second; /* commands; 0 = not known */
    /* the thread that looks */
    int64_t begun_ns;            /* of the window; 0 = none */
    int64_t backlogged_ns;       /* the last window through which commands waited ended then */
    uint64_t ended_before;       /* of the window */
    bool backlogged;             /* at every look of the window */
};

/* Some milliseconds after the last look: `ended` commands have ended so far; `backlogged`: many
 * wait. */
void drain_rate_look(struct drain_rate *r, int64_t now_ns, uint64_t ended, bool backlogged);
/* Nothing is open any more. */
void drain_rate_forget(struct drain_rate *r);

/* How long it takes until so many have ended, in milliseconds; 0 = not known, or below one. */
static inline uint64_t drain_rate_ms(const struct drain_rate *r, uint64_t commands) {
    uint32_t per_second = atomic_load_explicit(&r->per_second, memory_order_relaxed);
    return per_second ? commands * 1000 / per_second : 0;
}

#endif
