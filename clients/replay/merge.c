#include "clients/replay/merge.h"

#include <stdlib.h>

struct merge_lane {
    struct log_cursor *cursor;
    struct log_item item;
    enum log_step step;
    int64_t time_ms;           /* of the step; records without a time go with the one before */
};

struct merge {
    uint32_t count;
    int32_t taken;             /* the lane whose step is out; -1 = none */
    struct merge_lane lanes[SHARDS_MAX];
};

static void lane_step(struct merge_lane *lane) {
    lane->step = log_cursor_next(lane->cursor, &lane->item);
    if (lane->step == LOG_RECORD && lane->item.header->type == RECORD_EVENTS &&
        lane->item.header->payload_bytes >= sizeof(struct entry_header)) {
        lane->time_ms = ((const struct entry_header *)lane->item.payload)->time_ms;
    }
}

struct merge *merge_open(struct replay *r, const uint64_t from[], const uint64_t upto[]) {
    struct merge *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->taken = -1;
    for (uint32_t i = 0; i < r->source.count; i++) {
        m->lanes[i].cursor =
            log_cursor_open(r->source.shards[i].log, from[i] + 1, upto[i], true);
        if (!m->lanes[i].cursor) {
            merge_close(m);
            return NULL;
        }
        m->count++;
        lane_step(&m->lanes[i]);
    }
    return m;
}

void merge_close(struct merge *m) {
    if (!m) return;
    for (uint32_t i = 0; i < m->count; i++) log_cursor_close(m->lanes[i].cursor);
    free(m);
}

enum log_step merge_next(struct merge *m, uint32_t *shard, struct log_item *item) {
    if (m->taken >= 0) lane_step(&m->lanes[m->taken]);
    m->taken = -1;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct merge_lane *lane = &m->lanes[i];
        if (lane->step == LOG_END) continue;
        if (m->taken < 0 || lane->time_ms < m->lanes[m->taken].time_ms) m->taken = (int32_t)i;
    }
    if (m->taken < 0) return LOG_END;
    *shard = (uint32_t)m->taken;
    *item = m->lanes[m->taken].item;
    return m->lanes[m->taken].step;
}
