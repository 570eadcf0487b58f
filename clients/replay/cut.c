#include "clients/replay/cut.h"

#include <stdio.h>
#include <stdlib.h>

struct cut_message { uint64_t index, sequence; uint32_t peer; bool sent; };

/* The messages of one shard's log up to its cut. */
struct cut_lane {
    struct cut_message *messages;
    uint64_t count, capacity;
    bool begun_late;           /* read from a later record than 1: older messages are not known */
};

struct cut_run { struct cut *cut; struct cut_lane lanes[SHARDS_MAX]; };

static bool lane_add(struct cut_lane *lane, struct cut_message message) {
    if (lane->count == lane->capacity) {
        uint64_t capacity = lane->capacity ? lane->capacity * 2 : 4096;
        struct cut_message *messages = realloc(lane->messages, capacity * sizeof *messages);
        if (!messages) return false;
        lane->messages = messages;
        lane->capacity = capacity;
    }
    lane->messages[lane->count++] = message;
    return true;
}

/* Only near its end can a cut have to move: what is older is kept as the newest number by peer. */
enum { CUT_MESSAGES_KEPT = 1 << 20 };

static void lane_forget(struct cut_lane *lane, struct cut_shard *shard) {
    uint64_t half = lane->count / 2;
    for (uint64_t i = 0; i < half; i++) {
        const struct cut_message *m = &lane->messages[i];
        if (m->sent) shard->sent[m->peer] = m->sequence;
        else shard->seen[m->peer] = m->sequence;
    }
    memmove(lane->messages, lane->messages + half, (lane->count - half) * sizeof *lane->messages);
    lane->count -= half;
}

static bool lane_record(struct cut_lane *lane, struct cut_shard *shard,
                        const struct log_item *item) {
    uint32_t offset = 0;
    const struct event *e;
    if (item->header->type != RECORD_EVENTS ||
        item->header->payload_bytes < sizeof(struct entry_header)) {
        return true;
    }
    const uint8_t *events = (const uint8_t *)item->payload + sizeof(struct entry_header);
    uint32_t size = item->header->payload_bytes - (uint32_t)sizeof(struct entry_header);
    while ((e = event_next(events, size, &offset))) {
        bool sent = e->kind == EVENT_MESSAGE_SENT;
        if ((!sent && e->kind != EVENT_MESSAGE_SEEN) || !message_event_is_well_formed(e)) continue;
        const struct message_event *m = event_payload(e);
        if (m->sequence == 0 || m->peer >= SHARDS_MAX) continue;
        if (lane->count == CUT_MESSAGES_KEPT) lane_forget(lane, shard);
        if (!lane_add(lane, (struct cut_message){item->index, m->sequence, m->peer, sent})) {
            return false;
        }
    }
    return true;
}

static bool lane_floor_cursor(void *arg, const struct state_source_row *row) {
    struct cut_shard *floor = arg;
    char name[32];
    unsigned peer;
    uint64_t v[5] = {0};
    if (row->fault) return true; /* whoever folds from it names it */
    snprintf(name, sizeof name, "%.*s", (int)row->key_bytes, (const char *)row->key);
    memcpy(v, row->value, row->value_bytes < sizeof v ? row->value_bytes : sizeof v);
    if (sscanf(name, "peer.%u", &peer) == 1 && peer < SHARDS_MAX) {
        floor->sent[peer] = v[1];
        floor->seen[peer] = v[2];
    }
    return true;
}

/* What was said before a log begins that does not reach back to record 1: its stored state tells.
 * Where the log has messages of a pair, it is they that count. */
static void lane_floor(const struct source_shard *shard, struct cut_shard *cut) {
    const char *path = shard->base[0] ? shard->base : shard->state;
    if (!replay_log_is_cut(shard) || !*path) return;
    struct state_source *state = state_source_open(path, NULL, 0);
    if (state) {
        state_source_visit(state, STATE_SOURCE_CURSORS, true, lane_floor_cursor, cut, NULL, 0);
    }
    state_source_close(state);
}

static int lane_read(struct replay_work *work, uint32_t i) {
    struct cut_run *run = work->arg;
    const struct source_shard *shard = &work->replay->source.shards[i];
    struct log_item item;
    enum log_step step;
    uint64_t first, last, steps = 0;
    log_source_range(shard->log, &first, &last);
    if (run->cut->growing) {
        if (first <= run->cut->shards[i].after) first = run->cut->shards[i].after + 1;
        run->lanes[i].begun_late = first > 1;
    } else {
        lane_floor(shard, &run->cut->shards[i]);
        last = run->cut->shards[i].index;
    }
    struct log_cursor *c = log_cursor_open(shard->log, first, last, true);
    int status = c ? REPLAY_DONE : REPLAY_FAILED;
    while (c && status == REPLAY_DONE && (step = log_cursor_next(c, &item)) != LOG_END) {
        if (step == LOG_FAULT) {
            replay_error(work->replay, "shard %u, record %llu: %s", shard->number,
                         (unsigned long long)item.index, item.what);
            status = REPLAY_FAILED;
        } else if (step == LOG_RECORD &&
                   !lane_record(&run->lanes[i], &run->cut->shards[i], &item)) {
            status = REPLAY_FAILED;
        }
        if (++steps % 256 == 0 && !replay_progress(work, 256)) status = REPLAY_STOPPED;
    }
    log_cursor_close(c);
    return status;
}

/* The newest number of a peer's messages up to the cut. */
static uint64_t lane_newest(const struct cut_run *run, uint32_t i, uint32_t peer, bool sent) {
    const struct cut_shard *shard = &run->cut->shards[i];
    const struct cut_lane *lane = &run->lanes[i];
    for (uint64_t n = lane->count; n-- > 0;) {
        const struct cut_message *m = &lane->messages[n];
        if (m->index <= shard->index && m->peer == peer && m->sent == sent) return m->sequence;
    }
    uint64_t older = sent ? shard->sent[peer] : shard->seen[peer];
    if (!sent || older > 0 || !lane->begun_late) return older;
    for (uint64_t n = 0; n < lane->count; n++) {
        const struct cut_message *m = &lane->messages[n];
        if (m->sent && m->peer == peer) return m->sequence - 1;
    }
    return UINT64_MAX; /* nothing was sent since: all that was seen had been sent before */
}

/* The record before the one in which shard i saw a message of `peer` above `sequence`. */
static uint64_t lane_before(const struct cut_run *run, uint32_t i, uint32_t peer,
                            uint64_t sequence) {
    const struct cut_lane *lane = &run->lanes[i];
    for (uint64_t n = 0; n < lane->count; n++) {
        const struct cut_message *m = &lane->messages[n];
        if (!m->sent && m->peer == peer && m->sequence > sequence) return m->index - 1;
    }
    return 0;
}

/* One round: true when a cut moved. */
static bool cut_lower(struct replay *r, struct cut_run *run) {
    bool moved = false;
    for (uint32_t i = 0; i < run->cut->count; i++) {
        for (uint32_t j = 0; j < run->cut->count; j++) {
            uint32_t me = r->source.shards[i].number, peer = r->source.shards[j].number;
            if (i == j) continue;
            uint64_t sent = lane_newest(run, j, me, true), seen = lane_newest(run, i, peer, false);
            if (seen <= sent) continue;
            run->cut->shards[i].index = lane_before(run, i, peer, sent);
            moved = true;
        }
    }
    return moved;
}

int cut_settle(struct replay *r, struct cut *cut) {
    struct cut_run *run = calloc(1, sizeof *run);
    uint64_t total = 0;
    if (!run) return REPLAY_FAILED;
    run->cut = cut;
    for (uint32_t i = 0; i < cut->count; i++) total += cut->shards[i].index;
    int status = replay_run(r, cut->count, "looking for the cut", "records", total, lane_read, run);
    while (status == REPLAY_DONE && cut_lower(r, run)) {
    }
    for (uint32_t i = 0; status == REPLAY_DONE && i < cut->count; i++) {
        struct cut_shard settled = {.index = cut->shards[i].index};
        for (uint32_t j = 0; j < cut->count; j++) {
            uint32_t peer = r->source.shards[j].number;
            settled.sent[peer] = lane_newest(run, i, peer, true);
            settled.seen[peer] = lane_newest(run, i, peer, false);
        }
        cut->shards[i] = settled;
    }
    for (uint32_t i = 0; i < cut->count; i++) free(run->lanes[i].messages);
    free(run);
    return status;
}
