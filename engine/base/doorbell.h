/* Wakes one sleeping thread, at the price of a system call only when it does sleep.
 *
 *   RUNNING --ring--> RUNG --hear, before a look for work--> RUNNING
 *   RUNNING --nothing to do--> SLEEPING --ring + futex--> RUNG
 *
 * A ring between the look for work and the sleep leaves RUNG behind, so no work is slept over. All
 * zero is a doorbell that was not rung. */
#ifndef JUMUN_BASE_DOORBELL_H
#define JUMUN_BASE_DOORBELL_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DOORBELL_RUNNING = 0, DOORBELL_RUNG = 1, DOORBELL_SLEEPING = 2 };

struct doorbell {
    atomic_uint state;
};

/* After the work was put where the thread will find it. Any thread; never blocks. True when the
 * thread slept and was woken. */
static inline bool doorbell_ring(struct doorbell *d) {
    /* An exchange, not a look first: it orders what was offered before what the thread will see. */
    if (atomic_exchange(&d->state, DOORBELL_RUNG) != DOORBELL_SLEEPING) return false;
    syscall(SYS_futex, &d->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return true;
}

/* The thread: takes note of all rings so far, and then looks for work. */
static inline void doorbell_hear(struct doorbell *d) {
    atomic_exchange(&d->state, DOORBELL_RUNNING);
}

static inline bool doorbell_is_rung(struct doorbell *d) {
    return atomic_load_explicit(&d->state, memory_order_acquire) == DOORBELL_RUNG;
}

/* The thread: sleeps until a ring, at most timeout_ms (< 0: for ever); may wake early. False when
 * it was rung already and did not sleep. */
static inline bool doorbell_sleep(struct doorbell *d, int64_t timeout_ms) {
    const struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    unsigned running = DOORBELL_RUNNING;
    if (!atomic_compare_exchange_strong(&d->state, &running, DOORBELL_SLEEPING)) return false;
    syscall(SYS_futex, &d->state, FUTEX_WAIT_PRIVATE, DOORBELL_SLEEPING,
            timeout_ms < 0 ? NULL : &timeout, NULL, 0);
    return true;
}

#endif
