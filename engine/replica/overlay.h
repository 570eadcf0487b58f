/* What changed since the disk was last written: a table in memory, put together by one thread and
 * read by any number of others without a lock, that answers together with the disk.
 *
 * Each publication of the writer has a number, and each order that changed in it gets a version
 * with that number; older versions stay. A reader remembers the number that was the newest when it
 * began, and passes over what is newer: it sees one moment, whatever is put meanwhile. A version
 * that no reader can reach any more, because all that there are began after the next one, gives its
 * memory to later ones; everything else stays until the rows are on disk and the table is dropped
 * whole.
 *
 * Index rows are not kept here. What an index is made of besides an order's state never changes
 * (its store, its customer, its reference), so orders are chained by these, and a reader makes the
 * rows of the few orders that it looks for. Sums are kept as what is to be added to the disk's.
 *
 * Writer: one thread, or none. Readers: any thread, as long as they hold the table. */
#ifndef JUMUN_REPLICA_OVERLAY_H
#define JUMUN_REPLICA_OVERLAY_H

#include <stdatomic.h>

#include "engine/replica/fold.h"
#include "engine/replica/sums.h"

struct overlay_order;
struct view_position;

/* An order as one publication left it. It never changes. */
struct overlay_version {
    const struct overlay_version *older;
    struct overlay_order *order;
    uint64_t number;               /* of the publication */
    uint32_t shard;
    _Alignas(8) uint8_t block[];   /* struct actor, with its texts and lists */
};

/* Orders that came into a state since the table was begun, in the order in which they did. One that
 * left it and came back stands there twice. */
enum { OVERLAY_SHELF_ORDERS = 58 };
struct overlay_shelf {
    _Atomic(struct overlay_shelf *) next;
    atomic_ullong first_ms, last_ms; /* of the times they were placed */
    /* Since this publication none of them is in the state; UINT64_MAX = some are. */
    atomic_ullong left;
    atomic_uint count;
    uint32_t there;                /* in the state now. The writer's */
    const struct overlay_order *orders[OVERLAY_SHELF_ORDERS];
};

/* How orders are chained; see struct overlay_group. */
enum overlay_chain { OVERLAY_STORE, OVERLAY_CUSTOMER, OVERLAY_REF, OVERLAY_CHAINS };

/* An order that changed. Links and names are set before others can see them. */
struct overlay_order {
    struct id128 key;
    _Atomic(const struct overlay_version *) newest;
    struct overlay_order *next;    /* of all, the latest first */
    struct overlay_order *chained[OVERLAY_CHAINS];
    uint32_t hashes[OVERLAY_CHAINS];
    /* The writer's: placed, so it is chained; the shelf of its state, NULL = none; how much room
     * the newest version's block has, in steps of its size class. */
    struct overlay_shelf *shelf;
    bool named;
    uint8_t state;
    uint16_t steps;
    /* As the disk has it, for the thread that writes it there. */
    uint64_t was_last_index, events; /* bit = enum event_kind */
    uint8_t was_state;
    bool was_there, was_placed, was_open;
};

/* Numbers to be added under a key, as one publication left them. */
struct overlay_number {
    struct overlay_number *older;
    uint64_t number;
    int64_t numbers[VIEW_NUMBERS];
};
struct overlay_sum {
    struct overlay_sum *next;
    _Atomic(const struct overlay_number *) newest;
    uint64_t hash;
    uint32_t key_bytes;
    uint8_t key[];
};

/* A version that has a newer one since publication `number`. */
struct overlay_retired { struct overlay_version *version; uint64_t number; uint32_t steps; };

struct overlay_slots { uint32_t capacity; _Atomic(struct overlay_order *) slots[]; };

enum { OVERLAY_BUCKETS = 16384, OVERLAY_STATES = 16, OVERLAY_SIZES = 64 };

struct overlay {
    uint64_t id;                   /* counts up; the disk remembers the last one that it has */
    uint32_t holders;              /* guarded by whoever hands it out (view_store.h) */
    bool published;                /* something of it can be seen. The writer's */
    int64_t began_ms;              /* monotonic, of the first publication. The writer's */
    uint32_t orders_count, sums_count, sums_capacity;
    uint64_t bytes;                /* taken, about */
    const struct view_position *positions; /* of the newest publication. The writer's */
    uint32_t positions_count;
    _Atomic(struct overlay_slots *) slots;
    _Atomic(struct overlay_order *) orders;
    _Atomic(struct overlay_order *) chains[OVERLAY_CHAINS][OVERLAY_BUCKETS];
    _Atomic(struct overlay_shelf *) states[OVERLAY_STATES];
    struct overlay_shelf *shelves[OVERLAY_STATES]; /* the last of each state. The writer's */
    _Atomic(struct overlay_sum *) sums[VIEWS_COUNT];
    struct overlay_sum **sum_slots; /* the writer's */
    struct overlay_chunk *chunks;
    uint8_t *at, *end;             /* free room */
    uint8_t *spare, *spare_end;    /* what comes then; NULL = nothing */
    struct overlay_retired *retired; /* a ring, by number; retired_capacity is a power of two */
    uint32_t retired_first, retired_count, retired_capacity;
    struct { struct overlay_version **list; uint32_t count, capacity; } unused[OVERLAY_SIZES];
    uint64_t oldest;               /* no reader looks behind this publication */
};

/* NULL without memory. `orders`: so many are expected; more may come. */
struct overlay *overlay_new(uint64_t id, uint32_t orders);
void overlay_free(struct overlay *overlay);

/* -- the writer -------------------------------------------------------------------------------- */

/* Room for a publication: after it, nothing of these sizes can fail. No reader is left that began
 * before publication `oldest`. False without memory. */
bool overlay_reserve(struct overlay *overlay, uint32_t orders, uint64_t blocks_bytes,
                     uint32_t sums, uint64_t extra_bytes, uint64_t oldest);
/* The order as it is now; seen by readers from publication `number` on. */
void overlay_put(struct overlay *overlay, struct fold_order *order, uint64_t number);
/* Asks memory for what overlay_put() will look at: first this, later that. */
void overlay_prefetch(const struct overlay *overlay, const struct fold_order *first,
                      const struct fold_order *later);
void overlay_add(struct overlay *overlay, enum view_number view, const struct sums *sums,
                 const struct sums_entry *entry, uint64_t number);
/* Memory that lives as long as the table, out of what was reserved. */
void *overlay_take(struct overlay *overlay, size_t bytes);

/* -- readers ----------------------------------------------------------------------------------- */

/* The order as of a publication; NULL = it had not changed since the disk. */
const struct overlay_version *overlay_find(const struct overlay *overlay, const struct id128 *key,
                                           uint64_t number);
const struct overlay_number *overlay_number_at(const struct overlay_sum *sum, uint64_t number);

static inline const struct actor *overlay_block(const struct overlay_version *version) {
    return (const struct actor *)(const void *)version->block;
}

/* Some of the orders: all of them, those in a state, or those of a store, customer or reference. */
struct overlay_group {
    enum { OVERLAY_ALL, OVERLAY_IN_STATE, OVERLAY_OF } by;
    enum overlay_chain chain;
    struct bytes text;
    uint8_t state;
    /* IN_STATE: those placed before the first or behind the last time need not be visited; `visit`
     * may move the last one while it is called. NULL = they have no end. */
    uint64_t first_ms;
    const uint64_t *last_ms;
};

/* Calls `visit` for each order of the group as of a publication, in no order, some of them perhaps
 * twice, until it says false. Returns whether it never did. */
bool overlay_each(const struct overlay *overlay, const struct overlay_group *group, uint64_t number,
                  bool (*visit)(void *arg, const struct overlay_version *version), void *arg);

#endif
