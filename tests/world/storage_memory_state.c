/* The simulated disk's state: checkpoints, actors, timer rows. */
#include "engine/limits.h"
#include "engine/wire/routing.h"
#include "tests/world/storage_memory_private.h"

struct memory_actor **actor_find(const struct storage_memory *d, uint8_t kind,
                                 const struct id128 *key) {
    uint64_t bucket = routing_hash(key->bytes, 16) % MEMORY_BUCKETS;
    struct memory_actor **link = (struct memory_actor **)(uintptr_t)&d->buckets[bucket];
    while (*link != NULL && ((*link)->kind != kind || !id128_equal(&(*link)->key, key))) {
        link = &(*link)->next;
    }
    return link;
}

static void actor_store(struct storage_memory *d, const struct checkpoint *c,
                        const struct checkpoint_item *item) {
    struct memory_actor **link = actor_find(d, item->kind, &item->key), *a = *link;
    int64_t stands = a != NULL ? a->deadline_ms : 0;
    if (item->old_deadline_ms != stands) {
        disk_fault(d,
                   "a checkpoint replaces the deadline row %ld by %ld, but %ld stands; actor kind "
                   "%u, %s, number %u",
                   (long)item->old_deadline_ms, (long)item->new_deadline_ms, (long)stands,
                   item->kind, item->remove ? "removed" : "kept",
                   item->key.bytes[14] * 256u + item->key.bytes[15]);
    }
    if (item->remove) {
        if (a == NULL) return;
        *link = a->next;
        free(a->block);
        free(a);
        return;
    }
    if (a == NULL) {
        a = calloc(1, sizeof *a);
        require(a != NULL);
        a->key = item->key;
        a->kind = item->kind;
        *link = a;
    }
    a->block = realloc(a->block, item->bytes);
    require(a->block != NULL);
    memcpy(a->block, c->blocks + item->offset, item->bytes);
    a->bytes = item->bytes;
    a->deadline_ms = item->new_deadline_ms;
    a->damaged = false;
}

void checkpoint_make_durable(struct storage_memory *d, const struct checkpoint *c) {
    for (uint32_t i = 0; i < c->items_count && !d->options.loses_checkpoints; i++) {
        actor_store(d, c, &c->items[i]);
    }
    for (uint32_t i = 0; i < c->cursors_count; i++) {
        uint32_t at = 0;
        while (at < d->cursors_count &&
               strncmp(d->cursors[at].name, c->cursors[i].name, sizeof c->cursors[i].name) != 0) {
            at++;
        }
        if (at == d->cursors_count) {
            d->cursors = realloc(d->cursors, ++d->cursors_count * sizeof *d->cursors);
            require(d->cursors != NULL);
        }
        d->cursors[at] = c->cursors[i];
    }
    struct memory_marker *m = &d->marker;
    if (c->applied_index < m->applied_index) disk_fault(d, "the marker goes back");
    m->applied_index = c->applied_index;
    m->applied_term = c->applied_term;
    m->configuration_index = c->configuration_index;
    m->configuration_bytes = c->configuration_bytes;
    if (c->configuration_bytes > 0) {
        memcpy(m->configuration, c->configuration, c->configuration_bytes);
    }
    d->counters.checkpoints++;
}

/* A snapshot must not reflect what a crash could still take back. */
static void checkpoint_check(struct storage_memory *d, const struct checkpoint *c) {
    if (c->applied_index > log_last(d)) {
        disk_fault(d, "a marker at %lu is handed over, but %lu is durable",
                   (unsigned long)c->applied_index, (unsigned long)log_last(d));
    }
    if (c->configuration_index > c->applied_index) {
        disk_fault(d, "a marker's configuration is newer than the marker");
    }
    for (uint32_t i = 0; i < c->items_count; i++) {
        const struct checkpoint_item *item = &c->items[i];
        const struct actor *a = (const void *)(c->blocks + item->offset);
        if (item->remove && item->bytes == 0) continue;
        if (item->offset % 8 != 0 || (uint64_t)item->offset + item->bytes > c->blocks_bytes ||
            a->bytes != item->bytes || !id128_equal(&a->key, &item->key)) {
            disk_fault(d, "a checkpoint's item does not fit its block");
        } else if (a->last_index > log_last(d)) {
            disk_fault(d, "a snapshot reflects %lu, but %lu is durable",
                       (unsigned long)a->last_index, (unsigned long)log_last(d));
        }
    }
}

void memory_checkpoint(struct storage *s, struct checkpoint *checkpoint) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    if (d->checkpoint != NULL) disk_fault(d, "two checkpoints at a time");
    checkpoint_check(d, checkpoint);
    d->checkpoint = checkpoint;
    d->checkpoint_due_ms = d->now_ms + disk_delay(d, d->options.checkpoint_ms_max);
}

void checkpoint_finish(struct storage_memory *d) {
    struct checkpoint *c = d->checkpoint;
    bool ok = !d->full;
    if (!disk_operation(d)) return;
    d->checkpoint = NULL;
    if (ok) checkpoint_make_durable(d, c);
    disk_tell(d, (struct storage_event){.kind = STORAGE_CHECKPOINTED, .ok = ok, .checkpoint = c});
}

void memory_load(struct storage *s, uint8_t actor_kind, const struct id128 *key) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    /* The real one ends the process then. */
    if (d->loads_waiting++ >= STORAGE_LOADS_MAX) disk_fault(d, "too many loads at a time");
    struct memory_load *load = calloc(1, sizeof *load);
    require(load != NULL);
    load->due_ms = d->now_ms + disk_delay(d, d->options.load_ms_max);
    load->key = *key;
    load->kind = actor_kind;
    *d->loads_tail = load;
    d->loads_tail = &load->next;
    d->counters.loads++;
}

void *block_copy(const struct memory_actor *a) {
    void *copy = malloc(a->bytes);
    require(copy != NULL);
    memcpy(copy, a->block, a->bytes);
    return copy;
}

void load_finish(struct storage_memory *d, const struct memory_load *load) {
    const struct memory_actor *a = *actor_find(d, load->kind, &load->key);
    struct storage_event event = {.kind = STORAGE_LOADED,
                                  .ok = a == NULL || !a->damaged,
                                  .actor_kind = load->kind,
                                  .key = load->key};
    d->told_damaged |= a != NULL && a->damaged;
    if (a != NULL && !a->damaged) {
        event.block = block_copy(a);
        event.block_bytes = a->bytes;
    }
    if (d->crashed) {
        free(event.block);
        return;
    }
    disk_tell(d, event);
}

struct timer_row {
    int64_t deadline_ms;
    struct id128 key;
    uint8_t kind;
};

static int timer_row_compare(const void *a, const void *b) {
    const struct timer_row *x = a, *y = b;
    if (x->deadline_ms != y->deadline_ms) return x->deadline_ms < y->deadline_ms ? -1 : 1;
    return memcmp(x->key.bytes, y->key.bytes, 16);
}

void memory_load_timers(struct storage *s, int64_t from_ms, int64_t to_ms, uint32_t max) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    if (d->timers_damaged) {
        disk_tell(d, (struct storage_event){.kind = STORAGE_TIMER_LOADED, .damaged = true,
                                            .deadline_ms = to_ms});
        return;
    }
    struct timer_row *rows = NULL;
    uint32_t count = 0, capacity = 0;
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        for (const struct memory_actor *a = d->buckets[b]; a != NULL; a = a->next) {
            if (a->deadline_ms == 0 || a->deadline_ms < from_ms || a->deadline_ms >= to_ms)
                continue;
            if (count == capacity) {
                capacity = capacity ? 2 * capacity : 256;
                rows = realloc(rows, capacity * sizeof *rows);
                require(rows != NULL);
            }
            rows[count++] = (struct timer_row){a->deadline_ms, a->key, a->kind};
        }
    }
    if (count > 0) qsort(rows, count, sizeof *rows, timer_row_compare);
    uint32_t told = 0;
    /* Never cut between equal deadlines: the next listing begins at a deadline. */
    while (told < count && (told < max || rows[told].deadline_ms == rows[told - 1].deadline_ms)) {
        disk_tell(d, (struct storage_event){.kind = STORAGE_TIMER_LOADED,
                                            .ok = true,
                                            .actor_kind = rows[told].kind,
                                            .key = rows[told].key,
                                            .deadline_ms = rows[told].deadline_ms});
        told++;
    }
    disk_tell(d,
              (struct storage_event){.kind = STORAGE_TIMER_LOADED,
                                     .ok = false,
                                     .deadline_ms = told < count ? rows[told].deadline_ms : to_ms});
    free(rows);
}
