#include "engine/shard/timer_heap.h"

#include "engine/base/prefetch.h"

enum { HEAP_WAYS = 4, HEAP_BUILD_AHEAD = 16 };

void timer_heap_init(struct timer_heap *h, struct actor_table *table) {
    *h = (struct timer_heap){.table = table};
}

void timer_heap_fini(struct timer_heap *h) {
    shard_memory_free(&h->table->memory->table_bytes, h->entries);
    *h = (struct timer_heap){0};
}

/* Room for `count` entries in all. */
static bool heap_grow(struct timer_heap *h, uint64_t count) {
    uint64_t wanted = h->capacity ? h->capacity : 1024;
    size_t capacity;
    while (count + 1 > wanted) wanted *= 2;
    if (wanted == h->capacity) return true;
    require(wanted <= UINT32_MAX);
    struct timer_entry *entries =
        shard_memory_resize(h->table->memory, &h->table->memory->table_bytes, h->entries,
                            wanted * sizeof *entries, &capacity);
    if (!entries) return false;
    h->entries = entries;
    h->capacity = (uint32_t)wanted;
    return true;
}

bool timer_heap_reserve(struct timer_heap *h) {
    return heap_grow(h, h->table->count[ACTOR_ORDER] + 1);
}

static void heap_place(struct timer_heap *h, uint32_t position, struct timer_entry entry) {
    h->entries[position] = entry;
    actor_table_slot(h->table, entry.slot)->timer_position = position;
}

static uint32_t heap_parent(uint32_t position) { return (position + HEAP_WAYS - 2) / HEAP_WAYS; }

static uint32_t heap_first_child(uint32_t position) { return (position - 1) * HEAP_WAYS + 2; }

static void heap_up(struct timer_heap *h, uint32_t position, struct timer_entry entry) {
    while (position > 1) {
        uint32_t parent = heap_parent(position);
        if (h->entries[parent].deadline_ms <= entry.deadline_ms) break;
        heap_place(h, position, h->entries[parent]);
        position = parent;
    }
    heap_place(h, position, entry);
}

static void heap_down(struct timer_heap *h, uint32_t position, struct timer_entry entry) {
    for (;;) {
        uint32_t child = heap_first_child(position), best = 0;
        for (uint32_t c = child; c < child + HEAP_WAYS && c <= h->count; c++)
            if (!best || h->entries[c].deadline_ms < h->entries[best].deadline_ms) best = c;
        if (!best || h->entries[best].deadline_ms >= entry.deadline_ms) break;
        heap_place(h, position, h->entries[best]);
        position = best;
    }
    heap_place(h, position, entry);
}

bool timer_heap_build(struct timer_heap *h) {
    struct actor_table *t = h->table;
    require(h->count == 0);
    if (!heap_grow(h, t->count[ACTOR_ORDER])) return false;
    for (uint32_t n = 1; n < t->slots_used; n++) {
        if (n + HEAP_BUILD_AHEAD < t->slots_used) {
            const struct slot *ahead = actor_table_slot(t, n + HEAP_BUILD_AHEAD);
            if (ahead->block) prefetch_read(ahead->block);
        }
        const struct actor *a = actor_table_slot(t, n)->block;
        if (!a || a->kind != ACTOR_ORDER || a->next_deadline_ms == 0) continue;
        h->count++;
        heap_place(h, h->count, (struct timer_entry){a->next_deadline_ms, n});
    }
    if (h->count < 2) return true;
    for (uint32_t p = heap_parent(h->count); p >= 1; p--) heap_down(h, p, h->entries[p]);
    return true;
}

void timer_heap_prefetch(const struct timer_heap *h, const struct slot *const *slots,
                         uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t position = slots[i] ? slots[i]->timer_position : 0;
        if (position == 0) continue;
        prefetch_write(&h->entries[position]);
        prefetch_read(&h->entries[heap_parent(position)]);
        uint32_t child = heap_first_child(position);
        if (child > h->count) continue;
        prefetch_read(&h->entries[child]);
        prefetch_read(&h->entries[child + HEAP_WAYS - 1]);
    }
}

void timer_heap_set(struct timer_heap *h, uint32_t slot, int64_t deadline_ms) {
    struct slot *s = actor_table_slot(h->table, slot);
    uint32_t position = s->timer_position;
    if (position != 0) {
        if (h->entries[position].deadline_ms == deadline_ms) return;
        if (deadline_ms != 0) {
            bool earlier = deadline_ms < h->entries[position].deadline_ms;
            struct timer_entry moved = {deadline_ms, slot};
            if (earlier) heap_up(h, position, moved);
            else heap_down(h, position, moved);
            return;
        }
        s->timer_position = 0;
        struct timer_entry last = h->entries[h->count--];
        if (position > h->count) return;
        if (position > 1 && last.deadline_ms < h->entries[heap_parent(position)].deadline_ms)
            heap_up(h, position, last);
        else
            heap_down(h, position, last);
        return;
    }
    if (deadline_ms == 0) return;
    require(h->count + 1 < h->capacity);
    heap_up(h, ++h->count, (struct timer_entry){deadline_ms, slot});
}

int64_t timer_heap_first(const struct timer_heap *h, uint32_t *slot) {
    if (h->count == 0) return 0;
    *slot = h->entries[1].slot;
    return h->entries[1].deadline_ms;
}
