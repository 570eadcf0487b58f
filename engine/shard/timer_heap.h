/* Deadlines of the actors in memory: a 4-ary heap of (deadline, slot), 16 bytes each; the slot
 * knows its place in the heap, so a deadline moves or goes in O(log n). One thread. */
#ifndef JUMUN_SHARD_TIMER_HEAP_H
#define JUMUN_SHARD_TIMER_HEAP_H

#include "engine/shard/actor_table.h"

struct timer_heap {
    struct actor_table *table;
    struct timer_entry { int64_t deadline_ms; uint32_t slot; } *entries; /* 1-based */
    uint32_t count, capacity;
};

void timer_heap_init(struct timer_heap *h, struct actor_table *table);
void timer_heap_fini(struct timer_heap *h);

/* Room for the deadlines of all orders in the table and of one more; false without memory.
 * timer_heap_set() cannot fail after it, whenever the deadlines are set. */
bool timer_heap_reserve(struct timer_heap *h);

/* The deadlines of all orders in the table at once, into a heap that is empty: much less work than
 * to set each one, and to move it with every event. False without memory (nothing changed). */
bool timer_heap_build(struct timer_heap *h);

/* Brings the entries of these slots (NULL = none) towards the cache: nearly every command moves its
 * order's deadline, and the entry is looked at first. */
void timer_heap_prefetch(const struct timer_heap *h, const struct slot *const *slots,
                         uint32_t count);

/* Sets, moves or (deadline 0) removes the deadline of a slot. */
void timer_heap_set(struct timer_heap *h, uint32_t slot, int64_t deadline_ms);

/* The earliest deadline, 0 = none; *slot gets whose. */
int64_t timer_heap_first(const struct timer_heap *h, uint32_t *slot);

#endif
