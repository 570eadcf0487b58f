/* Deadlines of the actors in memory: a 4-ary heap of (deadline, slot), 16 bytes each; the slot
 * knows its place in the heap, so a deadline moves or goes in O(log n). One thread.
 *
 * A deadline that moves to later, or ends, is only noted: nearly every command of an order moves
 * its deadline, and each move in the heap writes to slots of other orders, which are waits for
 * memory. The entry moves when it comes to the top, at its old time: once instead of each time. */
#ifndef JUMUN_SHARD_TIMER_HEAP_H
#define JUMUN_SHARD_TIMER_HEAP_H

#include "engine/shard/actor_table.h"

struct timer_heap {
    struct actor_table *table;
    struct timer_entry {
        int64_t deadline_ms;   /* by which it stands in the heap: no later than the slot's own */
        uint32_t slot;
        uint32_t later_ms;     /* the slot's own is so much later; TIMER_ENDED = it has none */
    } *entries;                /* 1-based */
    uint32_t count, capacity;
    uint32_t ended;            /* entries whose slots have no deadline any more */
};

#define TIMER_ENDED UINT32_MAX

void timer_heap_init(struct timer_heap *h, struct actor_table *table);
void timer_heap_fini(struct timer_heap *h);

/* Room for one more entry; false without memory. timer_heap_set() cannot fail after it. */
bool timer_heap_reserve(struct timer_heap *h);

/* The deadlines of all orders in the table at once, into a heap that is empty: much less work than
 * to set each one, and to move it with every event. False without memory (nothing changed). */
bool timer_heap_build(struct timer_heap *h);

/* Sets, moves or (deadline 0) ends the deadline of a slot. */
void timer_heap_set(struct timer_heap *h, uint32_t slot, int64_t deadline_ms);

/* Takes the slot out, so that it may be given back. */
void timer_heap_remove(struct timer_heap *h, uint32_t slot);

/* Asks for the slot's entry, for a timer_heap_set() that is about to come. */
static inline void timer_heap_prefetch(const struct timer_heap *h, uint32_t slot) {
    uint32_t position = slot == SLOT_NONE ? 0 : actor_table_slot(h->table, slot)->timer_position;
    if (position != 0) __builtin_prefetch(&h->entries[position], 1);
}

/* The earliest deadline, 0 = none; *slot gets whose. */
int64_t timer_heap_first(struct timer_heap *h, uint32_t *slot);

/* How many slots have a deadline. */
static inline uint32_t timer_heap_count(const struct timer_heap *h) { return h->count - h->ended; }

#endif
