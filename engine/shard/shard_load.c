/* Actors that are not in memory: loading them without waiting, and letting them leave again. */
#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"
#include "engine/wire/routing.h"

/* An actor whose deadline lies nearer than this stays in memory; the listing of stored deadlines
 * always reaches further than half of it. */
enum { TIMER_HORIZON_MS = 10 * 60000, TIMER_LOAD_MAX = 4096, VISITORS_MAX = 1024,
       CLOCK_STEPS_MAX = 64 };

/* False for a key born after every order that is stored but not in memory: then it is in memory or
 * does not exist, and no load is needed. That is the case of nearly every place. */
bool shard_may_be_stored(const struct shard *s, const struct id128 *key) {
    return routing_birth_ms(key) <= s->unloaded_birth_max_ms;
}

uint32_t shard_start_load(struct shard *s, const struct id128 *key) {
    if (s->parked_free == 0 || s->loads_waiting + 1 >= STORAGE_LOADS_MAX) return SLOT_NONE;
    uint32_t n = actor_table_add(&s->table, ACTOR_ORDER, key, sizeof(struct actor));
    if (n == SLOT_NONE) return SLOT_NONE;
    actor_table_slot(&s->table, n)->flags = SLOT_LOADING;
    s->options.storage->ops->load(s->options.storage, ACTOR_ORDER, key);
    s->loads_waiting++;
    s->stats.loads++;
    return n;
}

bool shard_park(struct shard *s, uint32_t slot, struct request_part *part, uint32_t position) {
    uint32_t p = s->parked_free;
    if (p == 0) return false;
    s->parked_free = s->parked[p].next;
    s->parked[p] = (struct parked){.part = part, .position = position, .tail = p};
    struct slot *sl = actor_table_slot(&s->table, slot);
    if (sl->next == 0) {
        sl->next = p;
    } else {
        struct parked *head = &s->parked[sl->next];
        s->parked[head->tail].next = p;
        head->tail = p;
    }
    s->parked_count++;
    return true;
}

struct parked shard_unpark(struct shard *s, struct slot *slot) {
    uint32_t p = slot->next;
    struct parked parked = s->parked[p];
    slot->next = parked.next;
    if (parked.next) s->parked[parked.next].tail = parked.tail;
    s->parked[p].part = NULL;
    s->parked[p].next = s->parked_free;
    s->parked_free = p;
    s->parked_count--;
    return parked;
}

static void remember_loaded(struct shard *s, uint32_t slot) {
    if (s->loaded_count == s->loaded_capacity) {
        uint32_t wanted = s->loaded_capacity ? s->loaded_capacity * 2 : 256;
        uint32_t *loaded = realloc(s->loaded, wanted * sizeof *loaded);
        require(loaded != NULL);
        s->loaded = loaded;
        s->loaded_capacity = wanted;
    }
    s->loaded[s->loaded_count++] = slot;
}

/* What cannot be had fails the commands that wait for it, with the reason, and nothing else. */
static void fail_parked(struct shard *s, struct slot *slot, uint16_t code) {
    while (slot->next != 0) {
        struct parked parked = shard_unpark(s, slot);
        struct request *request = parked.part->request;
        struct result *r = &request->results[parked.position];
        *r = (struct result){.code = code, .shard = s->options.id,
                             .retry_after_ms = code == RESULT_OUT_OF_MEMORY ? 100 : 0};
        parked.part->put_off |= code == RESULT_OUT_OF_MEMORY;
        shard_count_result(s, &request->commands[parked.position], r);
        if (--parked.part->left == 0) shard_gate_part(s, parked.part);
    }
}

uint32_t shard_fail_loaded(struct shard *s) {
    uint32_t waited = s->parked_count;
    for (uint32_t i = 0; i < s->loaded_count; i++)
        fail_parked(s, actor_table_slot(&s->table, s->loaded[i]), RESULT_STORAGE_FAILED);
    s->loaded_count = 0;
    return waited - s->parked_count;
}

void shard_on_loaded(struct shard *s, const struct storage_event *event) {
    bool serves = s->phase == SHARD_SERVING; /* else asked for by a leader that is none any more */
    if (!serves || event->actor_kind == ACTOR_MESSAGE) {
        require(s->loads_waiting > 0);
        s->loads_waiting--;
        if (serves) shard_on_message_loaded(s, event);
        if (event->block) s->options.storage->ops->release_block(s->options.storage, event->block);
        return;
    }
    uint32_t n = actor_table_find(&s->table, ACTOR_ORDER, &event->key);
    require(n != SLOT_NONE);
    struct slot *slot = actor_table_slot(&s->table, n);
    require(slot->flags & SLOT_LOADING && s->loads_waiting > 0);
    s->loads_waiting--;
    uint16_t failed = 0;
    if (!event->ok || s->failed) failed = RESULT_STORAGE_FAILED;
    else if (event->block && !order_is_well_formed(event->block, event->block_bytes))
        failed = RESULT_STORAGE_FAILED;
    else if (event->block && (!timer_heap_reserve(&s->timers) ||
                              !actor_table_fill(&s->table, slot, event->block, event->block_bytes)))
        failed = RESULT_OUT_OF_MEMORY;
    if (event->block) s->options.storage->ops->release_block(s->options.storage, event->block);
    if (failed) {
        fail_parked(s, slot, failed);
        actor_table_remove(&s->table, n);
        /* Its deadline is in memory no more than it is: all stored ones are listed again. */
        if (failed == RESULT_OUT_OF_MEMORY) s->timers_loaded_to_ms = 0;
        return;
    }
    if (slot->block->version != 0) {
        slot->stored_deadline_ms = shard_timer_row(slot->block);
        if (slot->block->flags & ACTOR_RETIRED) shard_mark_dirty(s, n, s->applied_index + 1);
        timer_heap_set(&s->timers, n, slot->block->next_deadline_ms);
        if (s->visitors_count == VISITORS_MAX) {
            uint32_t oldest = s->visitors[s->visitors_head];
            s->visitors_head = (s->visitors_head + 1) % VISITORS_MAX;
            s->visitors_count--;
            shard_evict_if_idle(s, oldest);
        }
        s->visitors[(s->visitors_head + s->visitors_count++) % VISITORS_MAX] = n;
    }
    remember_loaded(s, n);
}

static bool may_leave(const struct shard *s, const struct slot *slot) {
    const struct actor *a = slot->block;
    if (!a || a->kind != ACTOR_ORDER || a->version == 0) return false;
    if (slot->flags & (SLOT_DIRTY | SLOT_FLUSHING | SLOT_LOADING)) return false;
    return a->next_deadline_ms == 0 || a->next_deadline_ms >= s->timers_loaded_to_ms;
}

static void evict(struct shard *s, uint32_t number) {
    struct slot *slot = actor_table_slot(&s->table, number);
    int64_t birth = routing_birth_ms(&slot->block->key);
    if (birth > s->unloaded_birth_max_ms) s->unloaded_birth_max_ms = birth;
    timer_heap_set(&s->timers, number, 0);
    actor_table_remove(&s->table, number);
    s->stats.evictions++;
}

/* A closed order whose snapshot is stored leaves memory. `number` may be stale: then nothing. */
void shard_evict_if_idle(struct shard *s, uint32_t number) {
    struct slot *slot = actor_table_slot(&s->table, number);
    if (may_leave(s, slot) && (slot->block->flags & ACTOR_CLOSED)) evict(s, number);
}

/* Over the bound of memory, open orders that are stored leave too, one hand round the slots. */
void shard_evict_under_pressure(struct shard *s) {
    if (s->options.memory_bytes_max == 0) return;
    for (uint32_t step = 0; step < CLOCK_STEPS_MAX; step++) {
        if (s->memory.actor_bytes <= s->options.memory_bytes_max) return;
        if (++s->clock_hand >= s->table.slots_used) s->clock_hand = 1;
        if (s->clock_hand >= s->table.slots_used) return;
        if (may_leave(s, actor_table_slot(&s->table, s->clock_hand))) evict(s, s->clock_hand);
    }
}

/* Asks for the stored deadlines of the next stretch of time. Everything due before
 * timers_loaded_to_ms is in memory or on its way. */
void shard_timers_load(struct shard *s) {
    if (s->timers_loading || s->timers_loaded_to_ms >= s->now_ms + TIMER_HORIZON_MS / 2) return;
    s->timers_loading = true;
    /* Set at once: an order that leaves memory from now on has its deadline behind the stretch. */
    s->timers_from_ms = s->timers_loaded_to_ms;
    s->timers_loaded_to_ms = s->now_ms + TIMER_HORIZON_MS;
    s->options.storage->ops->load_timers(s->options.storage, s->timers_from_ms,
                                         s->timers_loaded_to_ms, TIMER_LOAD_MAX);
}

void shard_on_timer_loaded(struct shard *s, const struct storage_event *event) {
    if (s->phase != SHARD_SERVING) {
        if (!event->ok) s->timers_loading = false;
        return;
    }
    if (!event->ok) { /* the end, or a pause at deadline_ms */
        s->timers_loading = false;
        if (event->damaged) {
            log_error("shard %u: the stored deadlines (shard-%u/state, table timers) are damaged: "
                      "orders that are not in memory would miss theirs, so nothing is served",
                      s->options.id, s->options.id);
            shard_fail(s);
            return;
        }
        if (event->deadline_ms < s->timers_loaded_to_ms) {
            s->timers_loading = true;
            s->options.storage->ops->load_timers(s->options.storage, event->deadline_ms,
                                                 s->timers_loaded_to_ms, TIMER_LOAD_MAX);
        }
        return;
    }
    if (actor_table_find(&s->table, ACTOR_ORDER, &event->key) != SLOT_NONE) return;
    /* A listing is only cut between two milliseconds, and any number of orders may share one (the
     * log's time stands still while the clock is behind it). What is too much for the storage's
     * queue, beside the loads of parked commands, is left for the next listing. */
    bool room = s->loads_waiting < STORAGE_LOADS_MAX - PARKED_COMMANDS_MAX - 1;
    if (!room || shard_start_load(s, &event->key) == SLOT_NONE)
        s->timers_loaded_to_ms = s->timers_from_ms; /* listed again from there in a later round */
}
