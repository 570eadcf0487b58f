#include "engine/peers/clock_skew.h"

bool clock_skew_note(struct clock_skew *s, int64_t theirs_ms, int64_t ours_ms, int64_t mono_ms) {
    s->known = theirs_ms > 0 && ours_ms > 0;
    s->ahead_ms = s->known ? theirs_ms - ours_ms : 0;
    if (s->ahead_ms <= CLOCK_SKEW_MS_MAX && s->ahead_ms >= -CLOCK_SKEW_MS_MAX) {
        s->off_since_ms = 0;
        return false;
    }
    if (s->off_since_ms == 0) s->off_since_ms = mono_ms;
    if (!clock_skew_lasts(s, mono_ms)) return false;
    if (s->told_ms != 0 && mono_ms - s->told_ms < CLOCK_SKEW_TELL_MS) return false;
    s->told_ms = mono_ms;
    return true;
}
