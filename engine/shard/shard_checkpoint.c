/* The dirty list -> background state transactions.
 *
 * A checkpoint is fuzzy: each order is copied at its own moment, a few per round, so nothing ever
 * pauses. Replay makes it exact again: an event whose version an order already has is skipped.
 * Stores, board notes, cursors and totals are copied together when the checkpoint is closed, so
 * they reflect one entry (the cursor "stores"). Copies may hold what is not committed yet;
 * therefore a checkpoint is handed over only when everything that it may reflect is committed. */
#include <stdio.h>

#include "engine/base/prefetch.h"
#include "engine/shard/shard_internal.h"

enum {
    COPY_BYTES_PER_ROUND = 256 << 10,
    CHECKPOINT_ITEMS_MAX = 32768,
    RETRY_MS = 1000,
    ALLOWED_MS_MAX = 500,        /* what was not copied in so long is not made up for */
    ALLOWED_LOOK_MS = 20,
    RELEASE_AHEAD = 12,
    LEADER_AGE_SLOPE = 3 /* of a new lead: a third more than what changes is stored meanwhile */
};

bool shard_checkpoint_reserve(struct checkpoint_work *w, uint32_t bytes) {
    if (w->data.items_count == w->items_capacity) {
        uint32_t wanted = w->items_capacity ? w->items_capacity * 2 : 1024;
        struct checkpoint_item *items = realloc(w->data.items, wanted * sizeof *items);
        if (!items) return false;
        w->data.items = items;
        uint32_t *slots = realloc(w->slots, wanted * sizeof *slots);
        if (!slots) return false;
        w->slots = slots;
        w->items_capacity = wanted;
    }
    if (w->data.blocks_bytes + bytes > w->blocks_capacity) {
        uint32_t wanted = w->blocks_capacity ? w->blocks_capacity : 1u << 20;
        while (wanted < w->data.blocks_bytes + bytes) wanted *= 2;
        uint8_t *blocks = realloc(w->data.blocks, wanted);
        if (!blocks) return false;
        w->data.blocks = blocks;
        w->blocks_capacity = wanted;
    }
    return true;
}

/* Copies one actor. False without memory: it stays dirty. */
static bool checkpoint_copy(struct shard *s, uint32_t number) {
    struct checkpoint_work *w = &s->checkpoint;
    struct slot *slot = actor_table_slot(&s->table, number);
    const struct actor *a = slot->block;
    uint32_t padded = (a->bytes + 7) & ~7u;
    if (!shard_checkpoint_reserve(w, padded)) return false;
    /* A snapshot may go only when no restart can replay an event of its order any more: while the
     * marker is behind, the order is stored once more and looked at again after this checkpoint. Of
     * a store no event is replayed that a checkpoint has. */
    bool remove = a->flags & ACTOR_RETIRED &&
                  (a->kind != ACTOR_ORDER || a->last_index <= s->checkpoint_index);
    struct checkpoint_item *item = &w->data.items[w->data.items_count];
    *item = (struct checkpoint_item){
        .key = a->key, .kind = a->kind, .remove = remove,
        .old_deadline_ms = slot->stored_deadline_ms,
        .new_deadline_ms = remove ? 0 : shard_timer_row(a),
        .bytes = a->bytes, .offset = w->data.blocks_bytes};
    memcpy(w->data.blocks + w->data.blocks_bytes, a, a->bytes);
    memset(w->data.blocks + w->data.blocks_bytes + a->bytes, 0, padded - a->bytes);
    w->data.blocks_bytes += padded;
    w->slots[w->data.items_count++] = number;
    /* An order may change again and be copied twice into one checkpoint: the second copy replaces
     * the row that the first one puts. */
    slot->stored_deadline_ms = item->new_deadline_ms;
    slot->flags = (slot->flags & ~(uint32_t)SLOT_DIRTY) | SLOT_FLUSHING;
    if (a->last_index > w->copy_index) w->copy_index = a->last_index;
    return true;
}

/* How long a changed order settles. An order that changes again in the meantime is stored once for
 * both, so patience saves most of the work; it costs a restart the replay of as much more log.
 * Where others lead or take the lead, nobody waits for that restart. A leader whose lead is lost
 * begins again from what is stored, and is to be one that can lead again soon. */
static int64_t checkpoint_age_ms(const struct shard *s) {
    if (s->draining) return 0;
    if (!s->options.peers || s->alone) return s->options.checkpoint_age_ms;
    /* Only what is stored can leave memory. */
    uint64_t bound = s->options.memory_bytes_max;
    if (bound != 0 && s->memory.actor_bytes > bound) return s->options.checkpoint_age_ms;
    int64_t leader_ms = s->options.checkpoint_age_ms * CHECKPOINT_LEADER_AGES;
    int64_t age_ms = s->options.checkpoint_age_ms * CHECKPOINT_FOLLOWER_AGES;
    if (s->phase != SHARD_SERVING) return age_ms;
    /* What a follower had put off for itself is not all due in the moment in which it leads. */
    age_ms -= (s->mono_ms - s->serving_since_ms) / LEADER_AGE_SLOPE;
    return age_ms > leader_ms ? age_ms : leader_ms;
}

/* How many orders may be copied now. Whoever waits `age` for each order stores, as time goes by, as
 * many a second as wait for it, divided by the age. What comes due at one moment, because a restart
 * had replayed it at one moment or because this replica leads from now on and waits no longer than
 * a leader does, is stored no faster, and not all at once beside running traffic. Nor at a quarter
 * of that speed when most of it is done: it comes to an end. Where the age is not drawn out for
 * others' sake nothing is held back. */
static uint32_t checkpoint_allowed(struct shard *s, int64_t age_ms) {
    struct checkpoint_work *w = &s->checkpoint;
    const struct dirty_ring *r = &s->dirty;
    if (age_ms <= s->options.checkpoint_age_ms) return UINT32_MAX;
    const struct dirty *oldest = r->count > 0 ? &r->items[r->head & (r->capacity - 1)] : NULL;
    bool due = oldest && oldest->since_ms + age_ms <= s->mono_ms;
    if (!due || r->count > w->allowed_of) w->allowed_of = r->count;
    int64_t passed_ms = s->mono_ms - w->allowed_ms;
    if (passed_ms <= 0) return w->allowed;
    w->allowed_ms = s->mono_ms;
    if (passed_ms > ALLOWED_MS_MAX) passed_ms = ALLOWED_MS_MAX;
    uint64_t waiting = r->count > w->allowed_of / 4 ? r->count : w->allowed_of / 4;
    uint64_t most = waiting * ALLOWED_MS_MAX / (uint64_t)age_ms + 1;
    w->allowed_parts += waiting * (uint64_t)passed_ms;
    w->allowed += (uint32_t)(w->allowed_parts / (uint64_t)age_ms);
    w->allowed_parts %= (uint64_t)age_ms;
    if (w->allowed > most) w->allowed = (uint32_t)most;
    return w->allowed;
}

/* See shard_set_stale_timers(). */
static void checkpoint_set_timer(struct shard *s, uint32_t slot) {
    timer_heap_set(&s->timers, slot, actor_table_slot(&s->table, slot)->block->next_deadline_ms);
    if (s->timers_stale > 0) s->timers_stale--;
}

static uint32_t checkpoint_fill(struct shard *s, int64_t *next_ms) {
    struct checkpoint_work *w = &s->checkpoint;
    struct dirty_ring *r = &s->dirty;
    int64_t age = checkpoint_age_ms(s);
    uint32_t begin = w->data.blocks_bytes, copied = 0, allowed = checkpoint_allowed(s, age);
    while (r->count > 0 && w->data.items_count < CHECKPOINT_ITEMS_MAX &&
           w->data.blocks_bytes < CHECKPOINT_BYTES_MAX &&
           w->data.blocks_bytes - begin < COPY_BYTES_PER_ROUND) {
        struct dirty *d = &r->items[r->head & (r->capacity - 1)];
        if (d->since_ms + age > s->mono_ms) {
            if (d->since_ms + age < *next_ms) *next_ms = d->since_ms + age;
            break;
        }
        if (copied == allowed) {
            if (s->mono_ms + ALLOWED_LOOK_MS < *next_ms) *next_ms = s->mono_ms + ALLOWED_LOOK_MS;
            break;
        }
        if (r->count > 8) {
            uint32_t ahead = r->items[(r->head + 8) & (r->capacity - 1)].slot;
            const char *block = (const char *)actor_table_slot(&s->table, ahead)->block;
            for (uint32_t at = 0; at < 512; at += 64) prefetch_read(block + at);
        }
        if (!checkpoint_copy(s, d->slot)) break;
        if (s->timers_lag || s->timers_stale > 0) checkpoint_set_timer(s, d->slot);
        r->head = (r->head + 1) & (r->capacity - 1);
        r->count--;
        copied++;
    }
    if (allowed != UINT32_MAX) w->allowed -= copied;
    return copied;
}

void shard_cursor_put(struct checkpoint_work *w, const char *name, const void *value,
                      uint32_t bytes) {
    require(w->data.cursors_count < SHARD_CURSORS_MAX);
    struct checkpoint_cursor *c = &w->cursors[w->data.cursors_count++];
    *c = (struct checkpoint_cursor){.bytes = bytes};
    snprintf(c->name, sizeof c->name, "%s", name);
    memcpy(c->value, value, bytes);
}

/* Closes the checkpoint: everything that must be of one moment is copied now. */
static bool checkpoint_close(struct shard *s) {
    struct checkpoint_work *w = &s->checkpoint;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->dirty_stores_count; i++)
        if (!checkpoint_copy(s, s->dirty_stores[i])) s->dirty_stores[kept++] = s->dirty_stores[i];
    s->dirty_stores_count = kept;
    /* Without memory: their cursors must not move; later. */
    if (kept > 0 || !shard_store_messages(s)) return false;
    /* The newest entry's time too: the log's time must not go back when the clock did. */
    uint64_t stores[2] = {s->applied_index, (uint64_t)s->last_time_ms};
    w->data.cursors = w->cursors;
    w->data.cursors_count = 0;
    shard_cursor_put(w, "stores", stores, sizeof stores);
    shard_cursor_put(w, "totals.0", s->totals, 8 * sizeof *s->totals);
    shard_cursor_put(w, "totals.1", s->totals + 8, 8 * sizeof *s->totals);
    shard_growth_put(s);
    for (uint32_t p = 0; p < s->outbox.peers_count; p++) {
        const struct outbox_peer *peer = &s->outbox.peers[p];
        uint64_t grow[3] = {peer->boards_asked, peer->stores_asked,
                            (uint64_t)peer->owes | (uint64_t)peer->awaits << 2};
        uint64_t value[5] = {peer->acknowledged, peer->sequence_last, peer->seen,
                             outbox_oldest_index(&s->outbox, p), peer->seen_index};
        char name[24];
        snprintf(name, sizeof name, "peer.%u", p);
        shard_cursor_put(w, name, value, sizeof value);
        if (s->growth.spread.version == 0) continue;
        snprintf(name, sizeof name, "grow.%u", p);
        shard_cursor_put(w, name, grow, sizeof grow);
    }
    s->checkpoint_acknowledged = s->outbox.acknowledged;
    w->copy_index = s->applied_index;
    /* Every order changed at or before the marker is in this or an earlier checkpoint. */
    struct dirty_ring *r = &s->dirty;
    uint64_t marker = r->count ? r->items[r->head & (r->capacity - 1)].index - 1 : s->applied_index;
    if (marker < s->checkpoint_index) marker = s->checkpoint_index;
    w->data.applied_index = marker;
    w->phase = CHECKPOINT_WAITS_FOR_COMMIT;
    return true;
}

static void checkpoint_hand_over(struct shard *s) {
    struct checkpoint_work *w = &s->checkpoint;
    w->data.applied_term = consensus_term_of(s->consensus, w->data.applied_index);
    if (w->data.applied_term == 0) w->data.applied_term = s->checkpoint_term;
    const uint8_t *configuration = NULL;
    bool known = consensus_marker_configuration(s->consensus, w->data.applied_index,
                                                &w->data.configuration_index, &configuration,
                                                &w->data.configuration_bytes);
    require(known); /* the marker never goes back */
    require(w->data.configuration_bytes <= sizeof((struct storage_meta *)0)->configuration);
    memcpy(w->configuration, configuration, w->data.configuration_bytes);
    w->data.configuration = w->configuration;
    w->data.owner = s;
    w->phase = CHECKPOINT_WRITING;
    s->options.storage->ops->checkpoint(s->options.storage, &w->data);
}

/* Something is worth a checkpoint: settled orders, changed stores, moved cursors, or a marker that
 * lags. */
static bool checkpoint_is_due(const struct shard *s) {
    if (s->checkpoint.data.items_count > 0 || s->dirty_stores_count > 0) return true;
    if (s->outbox.acknowledged != s->checkpoint_acknowledged) return true;
    if (shard_messages_press(s)) return true;
    return s->dirty.count == 0 && s->applied_index > s->checkpoint_index;
}

uint32_t shard_checkpoint(struct shard *s, int64_t *next_ms) {
    struct checkpoint_work *w = &s->checkpoint;
    uint32_t done = 0;
    if (w->phase == CHECKPOINT_WAITS_FOR_ROOM && s->mono_ms >= w->retry_ms) {
        w->phase = CHECKPOINT_WRITING;
        s->options.storage->ops->checkpoint(s->options.storage, &w->data);
        return 1;
    }
    if (w->phase == CHECKPOINT_WAITS_FOR_ROOM && w->retry_ms < *next_ms) *next_ms = w->retry_ms;
    if (w->phase <= CHECKPOINT_FILLING && !s->disk_full) {
        w->phase = CHECKPOINT_FILLING;
        done = checkpoint_fill(s, next_ms);
        int64_t age = checkpoint_age_ms(s);
        bool full = w->data.blocks_bytes >= CHECKPOINT_BYTES_MAX ||
                    w->data.items_count >= CHECKPOINT_ITEMS_MAX || shard_messages_press(s);
        bool settled = s->mono_ms - s->checkpoint_closed_ms >= age;
        if ((full || (settled && done == 0)) && checkpoint_is_due(s)) {
            s->checkpoint_closed_ms = s->mono_ms;
            if (checkpoint_close(s)) done++;
        } else if (checkpoint_is_due(s) && s->checkpoint_closed_ms + age < *next_ms) {
            *next_ms = s->checkpoint_closed_ms + age;
        }
    }
    if (w->phase == CHECKPOINT_WAITS_FOR_COMMIT && shard_settled_index(s) >= w->copy_index) {
        checkpoint_hand_over(s);
        done++;
    }
    return done;
}

/* Nobody has touched these orders for seconds: asks for what is looked at of the one at `ahead`,
 * and, once that is here, of one before it for what its leaving will touch. */
static void release_prefetch(const struct shard *s, uint32_t ahead) {
    const struct checkpoint_work *w = &s->checkpoint;
    if (ahead < w->data.items_count) {
        prefetch_read(w->data.blocks + w->data.items[ahead].offset);
        if (w->slots[ahead] != SLOT_NONE)
            prefetch_write(actor_table_slot(&s->table, w->slots[ahead]));
    }
    uint32_t near = ahead - RELEASE_AHEAD / 2;
    if (near >= w->data.items_count || w->slots[near] == SLOT_NONE) return;
    const struct checkpoint_item *item = &w->data.items[near];
    const struct actor *copy = (const struct actor *)(w->data.blocks + item->offset);
    const struct slot *slot = actor_table_slot(&s->table, w->slots[near]);
    if (!item->remove && !(copy->flags & ACTOR_CLOSED)) return;
    prefetch_read(slot->block);
    actor_table_prefetch_index(&s->table, &copy->key);
    timer_heap_prefetch(&s->timers, &slot, 1);
}

/* Of most of them nothing is to be done but to note in the slot that the copy is on the disk:
 * whether there is more says the copy, as long as the order has not changed since; what has changed
 * comes again. */
static void checkpoint_release(struct shard *s) {
    struct checkpoint_work *w = &s->checkpoint;
    for (uint32_t i = 0; i < w->data.items_count; i++) {
        const struct checkpoint_item *item = &w->data.items[i];
        const struct actor *copy = (const struct actor *)(w->data.blocks + item->offset);
        release_prefetch(s, i + RELEASE_AHEAD);
        if (w->slots[i] == SLOT_NONE) continue;
        struct slot *slot = actor_table_slot(&s->table, w->slots[i]);
        slot->flags &= ~(uint32_t)SLOT_FLUSHING;
        if (slot->flags & SLOT_DIRTY || !slot->block) continue;
        if (item->remove && slot->flags & SLOT_LOADING) {
            /* It was loaded before it had left, and commands wait for their turn at it: it leaves
             * once more when they have had it. */
            shard_mark_dirty(s, w->slots[i], s->applied_index + 1);
        } else if (item->remove) {
            timer_heap_set(&s->timers, w->slots[i], 0);
            actor_table_remove(&s->table, w->slots[i]);
        } else if (copy->flags & ACTOR_RETIRED) {
            shard_mark_dirty(s, w->slots[i], s->applied_index + 1);
        } else if (copy->flags & ACTOR_CLOSED) {
            shard_evict_if_idle(s, w->slots[i]);
        }
    }
}

void shard_on_checkpointed(struct shard *s, const struct storage_event *event) {
    struct checkpoint_work *w = &s->checkpoint;
    require(event->checkpoint == &w->data && w->phase == CHECKPOINT_WRITING);
    if (!event->ok) { /* no room: the copies stay good, they are handed over again */
        w->phase = CHECKPOINT_WAITS_FOR_ROOM;
        w->retry_ms = s->mono_ms + RETRY_MS;
        return;
    }
    if (s->phase != SHARD_FORGETTING) {
        checkpoint_release(s);
        outbox_let_go(&s->outbox);
    }
    s->checkpoint_index = w->data.applied_index;
    s->checkpoint_term = w->data.applied_term;
    w->data.items_count = 0;
    w->data.blocks_bytes = 0;
    w->copy_index = 0;
    w->phase = CHECKPOINT_IDLE;
    struct consensus_update update = {0};
    consensus_checkpointed(s->consensus, s->checkpoint_index, shard_trail_kept(s), s->mono_ms,
                           &update);
    shard_take_update(s, &update);
}

bool shard_checkpoint_is_clean(const struct shard *s) {
    return s->checkpoint.phase <= CHECKPOINT_FILLING && s->checkpoint.data.items_count == 0 &&
           s->dirty.count == 0 && s->dirty_stores_count == 0 &&
           s->outbox.acknowledged == s->checkpoint_acknowledged &&
           s->checkpoint_index >= s->applied_index;
}
