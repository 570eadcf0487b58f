/* How far the clock of another node is from this one's, by the time in its hellos.
 *
 * A hello that was long on its way makes its sender look behind: only a difference that lasts is
 * told. Pure; one thread at a time. */
#ifndef JUMUN_PEERS_CLOCK_SKEW_H
#define JUMUN_PEERS_CLOCK_SKEW_H

#include <stdbool.h>
#include <stdint.h>

enum {
    CLOCK_SKEW_MS_MAX = 5000,      /* more is a fault of one of the two */
    CLOCK_SKEW_LASTS_MS = 2000,    /* before it is told */
    CLOCK_SKEW_TELL_MS = 600000    /* between two times that it is */
};

/* Of one node. Zeroed at first. */
struct clock_skew {
    bool known;                    /* its hellos have a time */
    int64_t ahead_ms;              /* negative: behind */
    int64_t off_since_ms;          /* monotonic; 0 = no more than allowed */
    int64_t told_ms;               /* monotonic; 0 = never */
};

/* Whether the clocks are known to be too far apart, and have been for a while. */
static inline bool clock_skew_lasts(const struct clock_skew *skew, int64_t mono_ms) {
    return skew->off_since_ms != 0 && mono_ms - skew->off_since_ms >= CLOCK_SKEW_LASTS_MS;
}

/* A hello of the time `theirs_ms` (0 = of a program that tells none) came when it was `ours_ms`
 * here, both Unix. True: it is to be told. */
bool clock_skew_note(struct clock_skew *skew, int64_t theirs_ms, int64_t ours_ms, int64_t mono_ms);

#endif
