#include "engine/shard/timer_heap.h"

enum { HEAP_WAYS = 4 };

void timer_heap_init(struct timer_heap *h, struct actor_table *table) {
    *h = (struct timer_heap){.table = table};
}

void timer_heap_fini(struct timer_heap *h) {
    shard_memory_free(&h->table->memory->table_bytes, h->entries);
    *h = (struct timer_heap){0};
}

bool timer_heap_reserve(struct timer_heap *h) {
    if (h->count + 2 <= h->capacity) return true;
    uint32_t wanted = h->capacity ? h->capacity * 2 : 1024;
    size_t capacity;
    struct timer_entry *entries =
        shard_memory_resize(h->table->memory, &h->table->memory->table_bytes, h->entries,
                            wanted * sizeof *entries, &capacity);
    if (!entries) return false;
    h->entries = entries;
    h->capacity = wanted;
    return true;
}

static void heap_place(struct timer_heap *h, uint32_t position, struct timer_entry entry) {
    h->entries[position] = entry;
    actor_table_slot(h->table, entry.slot)->timer_position = position;
}

static uint32_t heap_parent(uint32_t position) { return (position + HEAP_WAYS - 2) / HEAP_WAYS; }

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
        uint32_t child = (position - 1) * HEAP_WAYS + 2, best = 0;
        for (uint32_t c = child; c < child + HEAP_WAYS && c <= h->count; c++)
            if (!best || h->entries[c].deadline_ms < h->entries[best].deadline_ms) best = c;
        if (!best || h->entries[best].deadline_ms >= entry.deadline_ms) break;
        heap_place(h, position, h->entries[best]);
        position = best;
    }
    heap_place(h, position, entry);
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
