/* Start-up: stored state first, then the log behind it, by the same apply as everywhere. */
#include <inttypes.h>
#include <stdio.h>

#include "actors/message_event.h"
#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

enum { REPLAY_BYTES_PER_ROUND = 4 << 20, CLOCK_BEHIND_MS = 60000 };

static bool load_cursor(void *arg, const struct checkpoint_cursor *c) {
    struct shard *s = arg;
    unsigned p;
    if (strcmp(c->name, "stores") == 0 && c->bytes == 16) {
        memcpy(&s->stores_index, c->value, 8);
        memcpy(&s->last_time_ms, c->value + 8, 8);
    } else if (strcmp(c->name, "totals.0") == 0 && c->bytes == 64) {
        memcpy(s->totals, c->value, 64);
    } else if (strcmp(c->name, "totals.1") == 0 && c->bytes == 64) {
        memcpy(s->totals + 8, c->value, 64);
    } else if (sscanf(c->name, "peer.%u", &p) == 1 && p < s->options.shards_count &&
               c->bytes == 40) {
        uint64_t v[5];
        memcpy(v, c->value, sizeof v);
        struct outbox_peer *peer = &s->outbox.peers[p];
        peer->acknowledged = peer->sent = v[0];
        peer->sequence_last = v[1];
        peer->seen = v[2];
        peer->seen_index = v[4];
        /* Messages that were not acknowledged are read from the log again. */
        if (v[3] && (s->replay_index == 0 || v[3] < s->replay_index)) s->replay_index = v[3];
    } else {
        log_error("shard %u: unknown cursor \"%.24s\" in the state", s->options.id, c->name);
        return false;
    }
    return true;
}

static bool load_store(void *arg, const void *block, uint32_t bytes) {
    struct shard *s = arg;
    const struct actor *a = block;
    if (!store_is_well_formed(block, bytes)) {
        log_error("shard %u: a stored store or board note is malformed", s->options.id);
        return false;
    }
    uint32_t n = actor_table_add(&s->table, a->kind, &a->key, bytes);
    if (n == SLOT_NONE ||
        !actor_table_fill(&s->table, actor_table_slot(&s->table, n), block, bytes))
        return false;
    if (a->kind == ACTOR_BOARD && a->state == STORE_IS_PAUSED) s->paused_stores++;
    return true;
}

struct start_entries {
    struct consensus_entry *entries;
    uint64_t count, capacity;
    bool no_memory;
};

static bool collect_entry(void *arg, const struct record_header *h, const void *payload) {
    struct start_entries *c = arg;
    if (c->count == c->capacity) {
        uint64_t wanted = c->capacity ? c->capacity * 2 : 4096;
        struct consensus_entry *entries = realloc(c->entries, wanted * sizeof *entries);
        if (!entries) {
            c->no_memory = true;
            return false;
        }
        c->entries = entries;
        c->capacity = wanted;
    }
    struct consensus_entry *e = &c->entries[c->count++];
    *e = (struct consensus_entry){h->term, h->type, NULL, 0};
    if (h->type != RECORD_CONFIGURATION) return true;
    void *copy = malloc(h->payload_bytes);
    if (!copy) {
        c->no_memory = true;
        return false;
    }
    memcpy(copy, payload, h->payload_bytes);
    e->payload = copy;
    e->payload_bytes = h->payload_bytes;
    return true;
}

static bool start_consensus(struct shard *s, const struct storage_meta *meta, char *error,
                            size_t error_bytes) {
    struct start_entries c = {0};
    uint64_t first = meta->applied_index + 1;
    if (meta->log_last >= first) {
        int rv = s->options.storage->ops->read(s->options.storage, first, meta->log_last,
                                               collect_entry, &c, error, error_bytes);
        if (rv == 1) snprintf(error, error_bytes, "no memory for the list of log entries");
        if (rv != 0) goto done;
    }
    struct consensus_start start = {
        .term = meta->term, .voted_for = meta->voted_for,
        .marker_index = meta->applied_index, .marker_term = meta->applied_term,
        .configuration_index = meta->configuration_index,
        .configuration = meta->configuration, .configuration_bytes = meta->configuration_bytes,
        .first_index = first, .entries = c.entries, .entries_count = c.count,
        .now_ms = s->mono_ms};
    struct consensus_update update = {0};
    if (consensus_start(s->consensus, &start, &update, error, error_bytes) == 0) {
        error[0] = 0;
        s->phase = SHARD_RECOVERING;
        shard_take_update(s, &update);
    }
done:
    for (uint64_t i = 0; i < c.count; i++) free((void *)(uintptr_t)c.entries[i].payload);
    free(c.entries);
    return s->phase == SHARD_RECOVERING;
}

/* A new shard: the group's first record, alone in the log, makes this node its only voter. */
static bool bootstrap(struct shard *s, char *error, size_t error_bytes) {
    const char *address = "self";
    struct record *record = consensus_bootstrap_record(&s->options.server_id, &address, 1);
    if (!record) {
        snprintf(error, error_bytes, "no memory for the first record");
        return false;
    }
    s->options.storage->ops->save_vote(s->options.storage, 1, 0);
    s->options.storage->ops->append(s->options.storage, record);
    s->phase = SHARD_BOOTSTRAPPING;
    return true;
}

bool shard_recovery_begin(struct shard *s, char *error, size_t error_bytes) {
    struct storage *storage = s->options.storage;
    struct storage_meta *meta = calloc(1, sizeof *meta);
    bool ok = false;
    error[0] = 0;
    s->recovery_started_ms = s->mono_ms;
    if (!meta) {
        snprintf(error, error_bytes, "no memory");
        return false;
    }
    if (storage->ops->load_meta(storage, meta, error, error_bytes) != 0) goto done;
    if (meta->log_last == 0 && meta->applied_index == 0) {
        ok = bootstrap(s, error, error_bytes);
        goto done;
    }
    if (storage->ops->visit_cursors(storage, load_cursor, s, error, error_bytes) != 0 ||
        storage->ops->visit_actors(storage, ACTOR_STORE, load_store, s, error, error_bytes) != 0 ||
        storage->ops->visit_actors(storage, ACTOR_BOARD, load_store, s, error, error_bytes) != 0) {
        if (!error[0]) snprintf(error, error_bytes, "the stored state cannot be read");
        goto done;
    }
    s->checkpoint_index = s->applied_index = s->commit_index = meta->applied_index;
    s->checkpoint_term = meta->applied_term;
    s->unloaded_birth_max_ms = meta->orders_birth_max_ms;
    if (s->replay_index == 0 || s->replay_index > meta->applied_index + 1)
        s->replay_index = meta->applied_index + 1;
    if (s->replay_index < meta->log_first) s->replay_index = meta->log_first;
    ok = start_consensus(s, meta, error, error_bytes);
done:
    free(meta);
    return ok;
}

/* The slot of an order that an event to be replayed belongs to, loaded from the state if need
 * be. */
static bool replay_slot(struct shard *s, const struct event *e, uint32_t *slot) {
    *slot = actor_table_find(&s->table, ACTOR_ORDER, &e->subject);
    if (*slot != SLOT_NONE || !shard_may_be_stored(s, &e->subject)) return true;
    char error[256] = "";
    void *block;
    uint32_t bytes;
    struct storage *storage = s->options.storage;
    if (storage->ops->read_actor(storage, ACTOR_ORDER, &e->subject, &block, &bytes, error,
                                 sizeof error) != 0) {
        log_error("shard %u: %s", s->options.id, error);
        return false;
    }
    if (!block) return true;
    bool ok = order_is_well_formed(block, bytes) && timer_heap_reserve(&s->timers);
    if (ok) *slot = actor_table_add(&s->table, ACTOR_ORDER, &e->subject, bytes);
    ok = ok && *slot != SLOT_NONE;
    if (ok) {
        struct slot *sl = actor_table_slot(&s->table, *slot);
        memcpy(sl->block, block, bytes);
        sl->stored_deadline_ms = shard_timer_row(sl->block);
        timer_heap_set(&s->timers, *slot, sl->block->next_deadline_ms);
        /* When its snapshot is ahead of all that is replayed, nothing else would ever look at it
         * again: stored once more, it leaves memory, and a retired one the disk as well. */
        if (sl->block->flags & (ACTOR_CLOSED | ACTOR_RETIRED))
            shard_mark_dirty(s, *slot, s->applied_index + 1);
    }
    storage->ops->release_block(storage, block);
    return ok;
}

struct replay {
    struct shard *s;
    uint64_t bytes;
    const char *fault;           /* NULL = none */
};

static const char *replay_actor_event(struct shard *s, const struct event *e,
                                      const struct apply_context *context) {
    enum actor_kind kind = shard_actor_kind(e->kind);
    bool order = kind == ACTOR_ORDER;
    if (!kind || !(order ? order_event_is_well_formed(e) : store_event_is_well_formed(e)))
        return "an event does not have the shape of its kind";
    uint32_t slot;
    if (order) {
        if (!replay_slot(s, e, &slot)) return "an order that it concerns cannot be loaded";
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
    if (!shard_make_room(s, kind, &slot, (const uint8_t *)e, e->bytes)) return "no memory for it";
    shard_apply_event(s, slot, e, context);
    return NULL;
}

static const char *replay_event(struct shard *s, const struct event *e,
                                const struct apply_context *context) {
    if (e->kind != EVENT_MESSAGE_SENT && e->kind != EVENT_MESSAGE_SEEN)
        return context->index > s->checkpoint_index ? replay_actor_event(s, e, context) : NULL;
    if (!message_event_is_well_formed(e)) return "a message does not have its shape";
    const struct message_event *m = event_payload(e);
    if (m->peer >= s->options.shards_count) return "a message names a shard that does not exist";
    if (e->kind == EVENT_MESSAGE_SENT)
        return outbox_note_sent(&s->outbox, e, context->index) ? NULL : "no memory for a message";
    if (context->index <= s->stores_index) return NULL;
    return shard_apply_message(s, e, context) ? NULL : "a message cannot be applied";
}

/* Takes the next events of an entry and asks memory for all their orders at once: see
 * actor_table_prefetch(). Returns how many. */
static uint32_t replay_gather(struct shard *s, const void *events, uint32_t size, uint32_t *offset,
                              const struct event *gathered[ACTOR_TABLE_PREFETCH_MAX]) {
    const struct id128 *keys[ACTOR_TABLE_PREFETCH_MAX];
    uint32_t count = 0;
    const struct event *e;
    while (count < ACTOR_TABLE_PREFETCH_MAX && (e = event_next(events, size, offset))) {
        gathered[count] = e;
        keys[count++] = &e->subject;
    }
    actor_table_prefetch(&s->table, keys, count);
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

static bool replay_record(void *arg, const struct record_header *h, const void *payload) {
    struct replay *r = arg;
    struct shard *s = r->s;
    r->bytes += sizeof *h + h->payload_bytes;
    if (h->type == RECORD_CONFIGURATION && h->index > s->checkpoint_index) {
        struct consensus_update update = {0};
        consensus_configuration_committed(s->consensus, h, payload, s->mono_ms, &update);
        shard_take_update(s, &update);
    }
    if (h->type == RECORD_EVENTS) r->fault = replay_entry(s, h, payload);
    if (r->fault) return false;
    s->replay_index = h->index + 1;
    if (h->index > s->applied_index) s->applied_index = h->index;
    return r->bytes < REPLAY_BYTES_PER_ROUND;
}

static void replay_some(struct shard *s) {
    struct replay r = {.s = s};
    char error[256] = "";
    uint64_t last = s->commit_index;
    int rv = s->options.storage->ops->read(s->options.storage, s->replay_index, last, replay_record,
                                           &r, error, sizeof error);
    if (rv == -1) log_error("shard %u: %s", s->options.id, error);
    if (r.fault)
        log_error("shard %u: log entry %" PRIu64 ": %s", s->options.id, s->replay_index, r.fault);
    /* A log that cannot be applied is never served in part: the operator decides. */
    if (rv == -1 || r.fault) shard_fail(s);
}

uint32_t shard_recover(struct shard *s) {
    if (s->phase != SHARD_RECOVERING || s->failed) return 0;
    if (s->replay_index <= s->commit_index) {
        replay_some(s);
        return 1;
    }
    if (!s->ready) return 0;
    s->phase = SHARD_SERVING;
    s->stores_index = 0; /* from here on every event counts */
    s->stats.recovery_ms = s->mono_ms - s->recovery_started_ms;
    if (s->now_ms + CLOCK_BEHIND_MS < s->last_time_ms)
        log_warn("shard %u: the clock says %" PRId64 ", the log's newest time is %" PRId64
                 " (Unix ms): the log's time stands still until the clock has passed it",
                 s->options.id, s->now_ms, s->last_time_ms);
    shard_publish(s);
    return 1;
}
