/* Events -> actors: the same code for a turn at the leader and for a replay. */
#include "engine/shard/shard_internal.h"

enum actor_kind shard_actor_kind(uint8_t event_kind) {
    if (event_kind >= 1 && event_kind <= 63) return ACTOR_ORDER;
    if (event_kind >= 64 && event_kind <= 79) return ACTOR_STORE;
    if (event_kind >= 100 && event_kind <= 109) return ACTOR_CLUSTER;
    return 0;
}

enum actor_kind shard_command_kind(uint8_t command_kind) {
    if (command_is_for_cluster(command_kind)) return ACTOR_CLUSTER;
    bool store = command_kind >= COMMAND_STORE_PAUSE && command_kind <= COMMAND_STORE_GET;
    return store ? ACTOR_STORE : ACTOR_ORDER;
}

bool shard_event_is_well_formed(const struct event *e) {
    switch (shard_actor_kind(e->kind)) {
    case ACTOR_ORDER: return order_event_is_well_formed(e);
    case ACTOR_STORE: return store_event_is_well_formed(e);
    case ACTOR_CLUSTER: return cluster_event_is_well_formed(e);
    default: return false;
    }
}

static uint32_t event_bytes_after(enum actor_kind kind, const struct actor *a,
                                  const struct event *e) {
    if (kind == ACTOR_CLUSTER) return cluster_bytes_after(a, e);
    return kind == ACTOR_ORDER ? order_bytes_after(a, e) : store_bytes_after(a, e);
}

static bool ring_grow(struct shard *s) {
    struct dirty_ring *r = &s->dirty;
    uint32_t wanted = r->capacity ? r->capacity * 2 : 4096;
    size_t usable;
    struct dirty *items = shard_memory_resize(&s->memory, &s->memory.table_bytes, NULL,
                                              (size_t)wanted * sizeof *items, &usable);
    if (!items) return false;
    for (uint32_t i = 0; i < r->count; i++)
        items[i] = r->items[(r->head + i) & (r->capacity - 1)];
    shard_memory_free(&s->memory.table_bytes, r->items);
    *r = (struct dirty_ring){items, 0, r->count, wanted};
    return true;
}

bool shard_make_room(struct shard *s, enum actor_kind kind, uint32_t *slot, const uint8_t *events,
                     uint32_t bytes) {
    const struct actor *before =
        *slot == SLOT_NONE ? NULL : actor_table_slot(&s->table, *slot)->block;
    if (before && before->version == 0) before = NULL; /* a block that was only reserved */
    /* Growth of each event on top of what is there now: an upper bound for all of them together. */
    uint64_t now = before ? before->bytes : 0, wanted = now;
    uint32_t offset = 0;
    const struct event *e, *first = NULL;
    while ((e = event_next(events, bytes, &offset))) {
        uint32_t after = event_bytes_after(kind, before, e);
        if (!first) first = e;
        if (after > now) wanted += after - now;
    }
    if (!first) return true;
    if (wanted > ACTOR_BYTES_MAX || !timer_heap_reserve(&s->timers)) return false;
    if (s->dirty.count == s->dirty.capacity && !ring_grow(s)) return false;
    if (*slot == SLOT_NONE) {
        *slot = actor_table_add(&s->table, (uint8_t)kind, &first->subject, (uint32_t)wanted);
        return *slot != SLOT_NONE;
    }
    return actor_table_reserve(&s->table, actor_table_slot(&s->table, *slot), (uint32_t)wanted);
}

void shard_count_states(struct shard *s, const struct event *e) {
    if (e->state_before && e->state_before < SHARD_STATES_MAX) s->totals[e->state_before]--;
    if (e->kind != EVENT_ORDER_RETIRED && e->state_after < SHARD_STATES_MAX)
        s->totals[e->state_after]++;
}

void shard_apply_event(struct shard *s, uint32_t slot, const struct event *e,
                       const struct apply_context *context) {
    struct slot *sl = actor_table_slot(&s->table, slot);
    struct actor *a = sl->block;
    if (a->version == 0) memset(a, 0, sl->capacity); /* the contract: zeroed for the first event */
    require(e->version == a->version + 1);
    enum actor_kind kind = shard_actor_kind(e->kind);
    if (kind == ACTOR_ORDER) {
        order_apply(a, e, context);
        if (context->index > s->stores_index) shard_count_states(s, e);
        if (s->phase == SHARD_SERVING || (s->phase == SHARD_FOLLOWING && s->alone))
            timer_heap_set(&s->timers, slot, a->next_deadline_ms);
        else s->timers_lag |= s->phase == SHARD_FOLLOWING;
    } else if (kind == ACTOR_STORE) {
        store_apply(a, e, context);
    } else {
        cluster_apply(a, e, context);
    }
    require(a->bytes <= sl->capacity && a->version == e->version);
    require(a->last_index == context->index);
    shard_mark_dirty(s, slot, context->index);
    s->stats.events++;
}

static void mark_store_dirty(struct shard *s, uint32_t slot) {
    if (s->dirty_stores_count == s->dirty_stores_capacity) {
        uint32_t wanted = s->dirty_stores_capacity ? s->dirty_stores_capacity * 2 : 256;
        uint32_t *slots = realloc(s->dirty_stores, wanted * sizeof *slots);
        require(slots != NULL); /* the event is decided: only the log can bring it back */
        s->dirty_stores = slots;
        s->dirty_stores_capacity = wanted;
    }
    s->dirty_stores[s->dirty_stores_count++] = slot;
}

void shard_mark_dirty(struct shard *s, uint32_t slot, uint64_t index) {
    struct slot *sl = actor_table_slot(&s->table, slot);
    if (sl->flags & SLOT_DIRTY) return;
    sl->flags |= SLOT_DIRTY;
    if (sl->block->kind != ACTOR_ORDER) {
        mark_store_dirty(s, slot);
        return;
    }
    struct dirty_ring *r = &s->dirty;
    if (r->count == r->capacity) require(ring_grow(s));
    r->items[(r->head + r->count++) & (r->capacity - 1)] =
        (struct dirty){index, s->mono_ms, slot};
}
