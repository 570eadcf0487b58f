/* All actors that a shard has in memory: key -> slot -> block.
 *
 * The index is open addressing with 8 bytes an entry (slot number and hash tag), grown by moving a
 * few entries with each insertion, so that no insertion pauses for a whole rehash. Slots live in
 * chunks and never move; blocks are single allocations of the allocator's size classes. One thread.
 *
 * An actor's identity is (kind, key): keys of stores and of board notes are hashes under different
 * prefixes, so the key alone tells them apart; the kind is checked all the same. */
#ifndef JUMUN_SHARD_ACTOR_TABLE_H
#define JUMUN_SHARD_ACTOR_TABLE_H

#include "actors/actor.h"
#include "engine/shard/shard_memory.h"

enum slot_flags {
    SLOT_DIRTY = 1,     /* changed since it was last copied into a checkpoint; stands in a list */
    SLOT_FLUSHING = 2,  /* copied into the checkpoint that is on its way */
    SLOT_LOADING = 4    /* `block` is only a head with the key: the answer of a load is awaited */
};

struct slot {
    struct actor *block;     /* NULL = free slot */
    int64_t stored_deadline_ms; /* the row that stands for it in the timers table; 0 = none */
    uint32_t capacity;       /* usable bytes of block */
    uint32_t timer_position; /* in the timer heap, 1-based; 0 = none */
    uint32_t flags;          /* enum slot_flags */
    uint32_t next;           /* free list, or the first parked command while SLOT_LOADING */
};

enum { SLOT_NONE = 0, SLOT_CHUNK = 4096 };

struct actor_index {
    struct { uint32_t tag, slot; } *entries; /* slot 0 = empty */
    uint64_t mask;                           /* entries - 1; 0 with entries NULL */
    uint64_t used;
};

struct actor_table {
    struct shard_memory *memory;
    struct slot **chunks;    /* slot n: chunks[n / SLOT_CHUNK][n % SLOT_CHUNK]; 0 is unused */
    uint32_t chunks_count, chunks_capacity;
    uint32_t slots_used;     /* high-water mark */
    uint32_t free_slot;      /* head of the free list; 0 = empty */
    struct actor_index index, old; /* `old` is being moved into `index` */
    uint64_t old_position;
    uint64_t count[ACTOR_CLUSTER + 1];       /* by enum actor_kind, placeholders included */
};

/* False without memory. */
bool actor_table_init(struct actor_table *t, struct shard_memory *memory);
void actor_table_fini(struct actor_table *t);

static inline struct slot *actor_table_slot(const struct actor_table *t, uint32_t number) {
    return &t->chunks[number / SLOT_CHUNK][number % SLOT_CHUNK];
}

/* The slot's number, or SLOT_NONE. */
uint32_t actor_table_find(const struct actor_table *t, uint8_t kind, const struct id128 *key);

/* Brings what a later find of these keys will touch towards the cache, one level after the other
 * for all of them: with a million orders each find is otherwise three waits for memory in a row.
 * At most ACTOR_TABLE_PREFETCH_MAX keys. `slots` gets what each find will most likely give, in the
 * order of the keys; NULL = nothing. */
enum { ACTOR_TABLE_PREFETCH_MAX = 64 };
void actor_table_prefetch(const struct actor_table *t, const struct id128 *const *keys,
                          uint32_t count, const struct slot **slots);

/* The first of these levels alone, for a key whose slot is known and is about to be removed. */
void actor_table_prefetch_index(const struct actor_table *t, const struct id128 *key);

/* A new slot with a zeroed block of at least `bytes` that holds kind and key (bytes = head only).
 * The key must not be there. SLOT_NONE without memory. */
uint32_t actor_table_add(struct actor_table *t, uint8_t kind, const struct id128 *key,
                         uint32_t bytes);

/* Sees to room for `bytes`; new room is zeroed. False without memory (nothing changed). */
bool actor_table_reserve(struct actor_table *t, struct slot *slot, uint32_t bytes);

/* Gives a slot that only holds a key a copy of `block`. False without memory. */
bool actor_table_fill(struct actor_table *t, struct slot *slot, const void *block, uint32_t bytes);

/* Frees block and slot. The slot must be in no list. */
void actor_table_remove(struct actor_table *t, uint32_t number);

#endif
