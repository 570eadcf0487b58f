/* counters: [1 minute, 2 day][number of the minute or day since 1970][store, "" = all][state]
 * [currency] -> orders that came into the state, their totals, money captured, money refunded.
 *
 * Into `placed` an order comes once, when it is placed: also one that has nothing to be paid and so
 * is `paid` from the beginning, which counts in both; and not again when a change of its lines
 * makes one that was paid wait for money once more.
 *
 * The time comes first: writes gather in the present bucket, and old buckets are dropped from the
 * front. Money of different currencies is never added up. Days are UTC's. */
#include "engine/replica/view.h"

enum { COUNTERS_MINUTE = 1, COUNTERS_DAY = 2, MINUTE_MS = 60000, DAY_MS = 86400000 };

static uint32_t counters_key(uint8_t grain, uint32_t bucket, struct bytes store, uint8_t state,
                             const char *currency, uint8_t *out) {
    uint8_t *at = view_put_u32(view_put_u8(out, grain), bucket);
    at = view_put_u8(view_put_text(at, store), state);
    memcpy(at, currency, 3);
    return (uint32_t)(at + 3 - out);
}

bool view_counters_count(const struct view_event *e, uint32_t i, struct view_sum *sum) {
    bool placing = e->placed && i == 0;
    bool entered = placing || (e->entered && e->state != ORDER_PLACED);
    bool money = !placing && (e->captured != 0 || e->refunded != 0);
    if (e->store.size == 0 || i > e->placed || (!entered && !money)) return false;
    sum->key_bytes = counters_key(COUNTERS_MINUTE, (uint32_t)(e->time_ms / MINUTE_MS), e->store,
                                  placing ? ORDER_PLACED : e->state, e->currency, sum->key);
    sum->numbers[0] = entered;
    sum->numbers[1] = entered ? e->total : 0;
    sum->numbers[2] = money ? e->captured : 0;
    sum->numbers[3] = money ? e->refunded : 0;
    return true;
}

bool view_counters_roll_up(const struct view_sum *sum, uint32_t i, struct view_sum *coarser) {
    struct view_counters_row row;
    if (i >= 3 || !view_counters_read(bytes_of(sum->key, sum->key_bytes), &row)) return false;
    static const struct bytes all = {"", 0};
    uint8_t grain = i == 0 ? COUNTERS_MINUTE : COUNTERS_DAY;
    coarser->key_bytes = counters_key(
        grain, (uint32_t)(row.start_ms / (i == 0 ? MINUTE_MS : DAY_MS)), i == 1 ? row.store : all,
        row.state, row.currency, coarser->key);
    memcpy(coarser->numbers, sum->numbers, sizeof sum->numbers);
    return true;
}

uint32_t view_counters_prefix(uint32_t bucket_ms, int64_t time_ms, uint8_t *out) {
    int64_t bucket = time_ms < 0 ? 0 : time_ms / bucket_ms;
    if (bucket > UINT32_MAX) bucket = UINT32_MAX;
    out = view_put_u8(out, bucket_ms == MINUTE_MS ? COUNTERS_MINUTE : COUNTERS_DAY);
    view_put_u32(out, (uint32_t)bucket);
    return 5;
}

bool view_counters_read(struct bytes key, struct view_counters_row *row) {
    const uint8_t *at = key.data;
    if (key.size < 10 || (at[0] != COUNTERS_MINUTE && at[0] != COUNTERS_DAY)) return false;
    if (key.size != 10u + at[5]) return false;
    row->bucket_ms = at[0] == COUNTERS_MINUTE ? MINUTE_MS : DAY_MS;
    row->start_ms = (int64_t)view_get_u32(at + 1) * row->bucket_ms;
    row->store = bytes_of(at + 6, at[5]);
    row->state = at[6 + at[5]];
    memcpy(row->currency, at + 7 + at[5], 3);
    return true;
}
