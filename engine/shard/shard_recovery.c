/* The log behind the stored state, by the same apply as everywhere: at the start, after forgetting,
 * and for as long as the replica follows. */
#include <inttypes.h>

#include "actors/message_event.h"
#include "engine/base/log.h"
#include "engine/base/prefetch.h"
#include "engine/shard/shard_internal.h"

enum {
    REPLAY_BYTES_PER_ROUND = 4 << 20,
    REPLAY_REST_PART = 1,        /* rests so many times as long as it worked, where others lead */
    REPLAY_REST_MS_MAX = 20,     /* however long the machine had stood still */
    CLOCK_BEHIND_MS = 60000,
    NO_MEMORY_RETRY_MS = 1000,
    STALE_TIMERS_PER_ROUND = 32768, /* some milliseconds: heartbeats go out in between */
    STALE_TIMERS_AHEAD = 8
};

static const char no_memory[] = "no memory for it";

/* The slot of an order that an event to be replayed belongs to, loaded from the state if need
 * be. NULL, or what is wrong. */
static const char *replay_slot(struct shard *s, const struct event *e, uint32_t *slot) {
    *slot = actor_table_find(&s->table, ACTOR_ORDER, &e->subject);
    if (*slot != SLOT_NONE || !shard_may_be_stored(s, &e->subject)) return NULL;
    char error[256] = "";
    void *block;
    uint32_t bytes;
    struct storage *storage = s->options.storage;
    if (storage->ops->read_actor(storage, ACTOR_ORDER, &e->subject, &block, &bytes, error,
                                 sizeof error) != 0) {
        log_error("shard %u: %s", s->options.id, error);
        return "an order that it concerns cannot be loaded";
    }
    s->replay_loads++;
    if (!block) return NULL;
    bool whole = order_is_well_formed(block, bytes), ok = whole && timer_heap_reserve(&s->timers);
    if (ok) *slot = actor_table_add(&s->table, ACTOR_ORDER, &e->subject, bytes);
    ok = ok && *slot != SLOT_NONE;
    if (ok) {
        struct slot *sl = actor_table_slot(&s->table, *slot);
        memcpy(sl->block, block, bytes);
        sl->stored_deadline_ms = shard_timer_row(sl->block);
        if (s->phase != SHARD_RECOVERING)
            timer_heap_set(&s->timers, *slot, sl->block->next_deadline_ms);
        /* When its snapshot is ahead of all that is replayed, nothing else would ever look at it
         * again: stored once more, it leaves memory, and a retired one the disk as well. */
        if (sl->block->flags & (ACTOR_CLOSED | ACTOR_RETIRED))
            shard_mark_dirty(s, *slot, s->applied_index + 1);
    }
    storage->ops->release_block(storage, block);
    if (!whole) return "an order that it concerns is stored malformed";
    return ok ? NULL : no_memory;
}

struct replay {
    struct shard *s;
    uint64_t bytes, bytes_max;
    uint64_t last;
    const char *fault;           /* NULL = none */
};

static const char *replay_actor_event(struct shard *s, const struct event *e,
                                      const struct apply_context *context) {
    enum actor_kind kind = shard_actor_kind(e->kind);
    bool order = kind == ACTOR_ORDER;
    if (!shard_event_is_well_formed(e))
        return "an event does not have the shape of its kind";
    uint32_t slot;
    if (order) {
        const char *fault = replay_slot(s, e, &slot);
        if (fault) return fault;
    } else {
        if (context->index <= s->stores_index) return NULL;
        slot = actor_table_find(&s->table, (uint8_t)kind, &e->subject);
    }
    const struct actor *a = shard_actor(s, slot);
    uint32_t version = a ? a->version : 0;
    if (order && e->version <= version) { /* the snapshot has it already; the totals may not */
        if (context->index > s->stores_index) shard_count_states(s, e);
        return NULL;
    }
    if (e->version != version + 1) return "an event's version does not follow its order's version";
    if (!shard_make_room(s, kind, &slot, (const uint8_t *)e, e->bytes)) return no_memory;
    shard_apply_event(s, slot, e, context);
    return NULL;
}

static const char *replay_event(struct shard *s, const struct event *e,
                                const struct apply_context *context) {
    if (e->kind == EVENT_SHARDS_KNOWN) {
        if (!shards_known_is_well_formed(e)) return "what is known of the shards has no such shape";
        if (context->index > s->stores_index) shard_apply_known(s, e);
        return NULL;
    }
    if (e->kind < EVENT_MESSAGE_SENT || e->kind > EVENT_MESSAGE_ACKNOWLEDGED)
        return context->index > s->checkpoint_index ? replay_actor_event(s, e, context) : NULL;
    if (!message_event_is_well_formed(e)) return "a message does not have its shape";
    const struct message_event *m = event_payload(e);
    if (m->peer >= SHARDS_MAX) return "a message names a shard that does not exist";
    if (e->kind == EVENT_MESSAGE_SENT) {
        if (!outbox_note_sent(&s->outbox, e, context->index)) return no_memory;
        if (context->index > s->stores_index) shard_apply_sent(s, e, context->index);
        return NULL;
    }
    if (e->kind == EVENT_MESSAGE_ACKNOWLEDGED) {
        outbox_note_acknowledged(&s->outbox, m->peer, m->sequence);
        return NULL;
    }
    if (context->index <= s->stores_index) return NULL;
    if (shard_apply_message(s, e, context)) return NULL;
    return s->no_memory ? no_memory : "a message cannot be applied";
}

/* Takes the next events of an entry and asks memory for all their orders at once: see
 * actor_table_prefetch(). Returns how many. */
static uint32_t replay_gather(struct shard *s, const void *events, uint32_t size, uint32_t *offset,
                              const struct event *gathered[ACTOR_TABLE_PREFETCH_MAX]) {
    const struct id128 *keys[ACTOR_TABLE_PREFETCH_MAX];
    const struct slot *slots[ACTOR_TABLE_PREFETCH_MAX];
    uint32_t count = 0;
    const struct event *e;
    while (count < ACTOR_TABLE_PREFETCH_MAX && (e = event_next(events, size, offset))) {
        gathered[count] = e;
        keys[count++] = &e->subject;
    }
    actor_table_prefetch(&s->table, keys, count, slots);
    return count;
}

static const char *replay_entry(struct shard *s, const struct record_header *h,
                                const void *payload) {
    const struct entry_header *entry = payload;
    if (h->payload_bytes < sizeof *entry) return "it is too short for an entry";
    struct apply_context context = {h->index, entry->time_ms};
    if (entry->time_ms > s->last_time_ms) s->last_time_ms = entry->time_ms;
    uint32_t offset = 0, size = h->payload_bytes - (uint32_t)sizeof *entry, count = 0, n;
    const struct event *events[ACTOR_TABLE_PREFETCH_MAX];
    while ((n = replay_gather(s, entry + 1, size, &offset, events)) > 0) {
        for (uint32_t i = 0; i < n; i++) {
            const char *fault = replay_event(s, events[i], &context);
            if (fault) return fault;
        }
        count += n;
    }
    s->stats.recovery_events += count;
    if (offset != size || count != entry->events_count)
        return "its events do not add up to what its header says";
    return NULL;
}

static void replay_configuration(struct shard *s, const struct record_header *h,
                                 const void *payload) {
    struct consensus_update update = {0};
    consensus_configuration_committed(s->consensus, h, payload, s->mono_ms, &update);
    shard_take_update(s, &update);
    shard_look_at_group(s);
}

/* True while the round has room for more. */
static bool replay_record(void *arg, const struct record_header *h, const void *payload) {
    struct replay *r = arg;
    struct shard *s = r->s;
    r->bytes += sizeof *h + h->payload_bytes;
    if (h->type == RECORD_CONFIGURATION && h->index > s->checkpoint_index)
        replay_configuration(s, h, payload);
    if (h->type == RECORD_EVENTS) r->fault = replay_entry(s, h, payload);
    if (r->fault) return false;
    s->replay_index = h->index + 1;
    if (h->index > s->applied_index) s->applied_index = h->index;
    return r->bytes < r->bytes_max && (s->alone || s->replay_loads < FOLLOW_LOADS_PER_ROUND);
}

/* What came from the leader is still in memory as a rule. */
static bool replay_memory(struct replay *r) {
    struct shard *s = r->s;
    bool more = true;
    while (more && s->replay_index <= r->last) {
        struct record *record =
            (struct record *)(uintptr_t)consensus_record(s->consensus, s->replay_index);
        if (!record) return true;
        record_hold(record);
        more = replay_record(r, &record->header, record->payload);
        record_release(record);
    }
    return false;
}

/* Everything that is stored leaves memory, and it begins again; a log that a lone server cannot
 * apply is never served in part: the operator decides. */
static void replay_lacks_memory(struct shard *s) {
    if (s->alone) shard_fail(s);
    else shard_forget_after(s, NO_MEMORY_RETRY_MS);
}

static void replay_some(struct shard *s, uint64_t last) {
    struct replay r = {.s = s, .last = last,
                       .bytes_max = s->alone ? REPLAY_BYTES_PER_ROUND : FOLLOW_BYTES_PER_ROUND};
    char error[256] = "";
    int rv = 0;
    s->replay_loads = 0;
    if (replay_memory(&r))
        rv = s->options.storage->ops->read(s->options.storage, s->replay_index, last,
                                           replay_record, &r, error, sizeof error);
    if (rv == -1) log_error("shard %u: %s", s->options.id, error);
    if (r.fault)
        log_error("shard %u: log entry %" PRIu64 ": %s", s->options.id, s->replay_index, r.fault);
    if (r.fault == no_memory) replay_lacks_memory(s);
    else if (rv == -1 || r.fault) shard_fail(s);
}

/* While it follows no deadline is looked at, and moving each one with every event is a good part of
 * the work. So a deadline is set when its order is stored, and whoever begins to lead sets those of
 * all orders that have changed since they were stored. */
uint32_t shard_set_stale_timers(struct shard *s) {
    const struct dirty_ring *r = &s->dirty;
    uint32_t done = 0;
    require(s->timers_stale <= r->count);
    for (; s->timers_stale > 0 && done < STALE_TIMERS_PER_ROUND; done++) {
        uint32_t slot = r->items[(r->head + --s->timers_stale) & (r->capacity - 1)].slot;
        if (s->timers_stale >= STALE_TIMERS_AHEAD) {
            uint32_t at = r->head + s->timers_stale - STALE_TIMERS_AHEAD;
            uint32_t ahead = r->items[at & (r->capacity - 1)].slot;
            prefetch_read(actor_table_slot(&s->table, ahead)->block);
        }
        const struct actor *a = actor_table_slot(&s->table, slot)->block;
        timer_heap_set(&s->timers, slot, a->next_deadline_ms);
    }
    return done;
}

static void serve(struct shard *s) {
    require(s->applied_index == s->commit_index);
    s->phase = SHARD_SERVING;
    s->serving_term = consensus_term(s->consensus);
    s->serving_since_ms = s->mono_ms;
    s->deposed = false;
    s->gathering_since_ms = 0;
    s->stores_index = 0; /* from here on every event counts */
    s->timers_stale = s->timers_lag ? s->dirty.count : 0;
    s->timers_lag = false;
    if (s->alone) s->stats.recovery_ms = s->mono_ms - s->recovery_started_ms;
    else log_info("shard %u: leads and serves, term %" PRIu64, s->options.id, s->serving_term);
    if (s->now_ms + CLOCK_BEHIND_MS < s->last_time_ms)
        log_warn("shard %u: the clock says %" PRId64 ", the log's newest time is %" PRId64
                 " (Unix ms): the log's time stands still until the clock has passed it",
                 s->options.id, s->now_ms, s->last_time_ms);
    s->published_ms = 0;
    shard_publish(s);
}

/* While somebody else leads nobody waits for a replica that recovers, and the processor that it
 * recovers with is the one that running traffic needs. A round took as long as it is since it
 * began. */
static bool replay_rests(struct shard *s) {
    uint64_t leader = consensus_leader(s->consensus);
    if (s->phase != SHARD_RECOVERING || leader == 0 || leader == s->options.server_id)
        return false;
    if (s->replayed_ms != 0) {
        int64_t rest_ms = REPLAY_REST_PART * (s->mono_ms - s->replayed_ms);
        s->replay_rest_ms = s->mono_ms + (rest_ms < REPLAY_REST_MS_MAX ? rest_ms
                                                                       : REPLAY_REST_MS_MAX);
        s->replayed_ms = 0;
    }
    return s->mono_ms < s->replay_rest_ms;
}

uint32_t shard_recover(struct shard *s, int64_t *next_ms) {
    if ((s->phase != SHARD_RECOVERING && s->phase != SHARD_FOLLOWING) || s->failed) return 0;
    uint64_t settled = shard_settled_index(s);
    if (s->replay_index <= settled && replay_rests(s)) {
        if (s->replay_rest_ms < *next_ms) *next_ms = s->replay_rest_ms;
        return 0;
    }
    if (s->replay_index <= settled) {
        replay_some(s, settled);
        s->replayed_ms = s->mono_ms;
        return 1;
    }
    if (s->phase == SHARD_RECOVERING) {
        /* Stores, cursors and totals reflect an entry that may lie ahead of all that is known to be
         * committed: until it has come, memory is not of one moment. */
        if (s->applied_index < s->stores_index) return 0;
        /* Not before: while the log is applied, a deadline would move with every event. */
        if (!timer_heap_build(&s->timers)) {
            log_error("shard %u: %s: the deadlines", s->options.id, no_memory);
            replay_lacks_memory(s);
            return 0;
        }
        s->phase = SHARD_FOLLOWING;
        s->stats.recovery_ms = s->mono_ms - s->recovery_started_ms;
        s->published_ms = 0;
        shard_publish(s);
    }
    if (!s->ready || settled < s->commit_index) return 0;
    serve(s);
    return 1;
}
