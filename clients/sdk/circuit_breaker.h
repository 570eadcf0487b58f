/* Stops calls to an endpoint that failed many times in a row, so that its callers get their answer
 * at once instead of after a timeout, and the endpoint is left to recover.
 *
 *   closed --failures in a row reach the limit--> open --open_ms--> one call may probe --+
 *      ^------------------------- an answer ------------------------------------|        |
 *                                             open (again for open_ms) <-- failure ------+
 *
 * Any answer of the engine is a success, a refusal included. Any thread. */
#ifndef JUMUN_SDK_CIRCUIT_BREAKER_H
#define JUMUN_SDK_CIRCUIT_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct circuit_breaker {
    _Atomic uint32_t failures;     /* in a row */
    _Atomic int64_t open_until_ns; /* 0 = closed; from then on one call may probe */
    uint32_t failures_max;
    int64_t open_ns;
};

void circuit_breaker_init(struct circuit_breaker *b, uint32_t failures_max, int64_t open_ns);

/* Whether a new call may go. While open, one call is let through per open_ns, as a probe. */
bool circuit_breaker_admit(struct circuit_breaker *b, int64_t now_ns);

static inline bool circuit_breaker_is_closed(const struct circuit_breaker *b) {
    return atomic_load_explicit(&b->open_until_ns, memory_order_relaxed) == 0;
}

void circuit_breaker_success(struct circuit_breaker *b);
/* True if this failure opened the circuit. */
bool circuit_breaker_failure(struct circuit_breaker *b, int64_t now_ns);
/* Something changed for the better (a connection stands): the next call may probe. */
void circuit_breaker_allow_probe(struct circuit_breaker *b);

#endif
