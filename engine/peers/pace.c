#include "engine/peers/pace.h"

#include <stdbool.h>

enum { PACE_LOOK_MS = 200, PACE_IDLE_PART = 16, PACE_LEAST_PART = 8, PACE_GROWTH_PART = 16 };

void pace_note(struct pace *pace, uint32_t node, uint64_t bytes) {
    /* Two nodes that share a place count as one: what is sent is only overrated. */
    atomic_fetch_add_explicit(&pace->bytes[node % NODES_MAX], bytes, memory_order_relaxed);
}

/* Little else goes on. */
static bool pace_is_idle(const struct pace *pace) {
    return pace->running < pace->bound / PACE_IDLE_PART;
}

/* What the followers may be sent by what the leaders write now. */
static uint64_t pace_wanted(const struct pace *pace) {
    uint64_t bound = pace->bound, rate = pace->running + pace->running / 4;
    if (bound == 0 || pace_is_idle(pace)) return bound;
    /* Also beyond the bound: with less than what is written nobody would ever come near. */
    return rate < bound / PACE_LEAST_PART ? bound / PACE_LEAST_PART : rate;
}

/* Every follower is sent the same, so the one that is sent most tells what is written. (One that
 * lags is sent less: what it lacks comes from the log.) */
static void pace_look(struct pace *pace, int64_t mono_ms) {
    int64_t passed_ms = mono_ms - pace->looked_ms;
    if (pace->looked_ms != 0 && passed_ms < PACE_LOOK_MS) return;
    uint64_t most = 0;
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        uint64_t now = atomic_load_explicit(&pace->bytes[i], memory_order_relaxed);
        if (now - pace->before[i] > most) most = now - pace->before[i];
        pace->before[i] = now;
    }
    if (pace->looked_ms != 0)
        pace->running = (3 * pace->running + most * 1000 / (uint64_t)passed_ms) / 4;
    uint64_t wanted = pace_wanted(pace);
    /* Traffic that stands still for a moment, because the machine has too much to do, is not
     * traffic that has ended. */
    uint64_t most_now = pace->given + pace->given / PACE_GROWTH_PART;
    pace->given = pace->looked_ms == 0 || wanted < most_now ? wanted : most_now;
    pace->looked_ms = mono_ms;
}

uint64_t pace_rate(struct pace *pace, int64_t mono_ms) {
    pace_look(pace, mono_ms);
    return pace->given;
}

uint64_t pace_of_all(const struct pace *pace, uint64_t rate, uint32_t followers) {
    if (followers <= 1 || pace->bound == 0) return rate;
    bool over = rate >= pace->bound / followers;
    return over && pace_is_idle(pace) ? pace->bound : rate * followers;
}
