/* The orders that the applier is at work on, in memory: events are folded into them one by one, and
 * at the end of a batch each order that changed is published once. That is what makes a batch
 * cheap: everything behind it sees orders, not events.
 *
 * Orders stay for the next batch in two halves, young and old: a touched order is young; when the
 * young half is full, the old half is dropped and the young one becomes the old. What is dropped is
 * freed a little with each batch, so that none waits for it. One thread. */
#ifndef JUMUN_REPLICA_FOLD_H
#define JUMUN_REPLICA_FOLD_H

#include "engine/replica/view.h"

struct fold;

/* An order in memory. Blocks and pointers are good until fold_clean(). */
struct fold_order {
    struct id128 key;
    struct actor *block;       /* NULL = there is no such order (yet) */
    uint32_t capacity;         /* of the block */
    uint32_t dirty_bytes;      /* of the block in what fold_dirty_bytes() says */
    uint32_t shard;
    bool dirty;
    uint8_t newest_kind;       /* of the events in this batch */
    uint8_t was_state;         /* before this batch: what the rows stand for */
    bool was_there;            /* a row in `orders` */
    bool was_placed, was_open;
    uint64_t was_last_index;
    uint64_t events;           /* kinds in this batch; bit = enum event_kind */
    struct fold_order *next_dirty;
    void *recent;              /* its place in the table in memory `recent_id`, for who fills it */
    uint64_t recent_id;        /* 0 = in none */
};

/* `bytes_max` bounds the blocks that are kept between batches. NULL without memory. */
struct fold *fold_new(uint64_t bytes_max);
void fold_free(struct fold *fold);

/* Ask memory for what fold_find() will look at; in this order, with other work in between. */
void fold_prefetch_slot(const struct fold *fold, const struct id128 *key);
void fold_prefetch_order(const struct fold *fold, const struct id128 *key);
void fold_prefetch_block(const struct fold *fold, const struct id128 *key);

/* The order, if it is in memory; NULL = it has to be put. */
struct fold_order *fold_find(struct fold *fold, const struct id128 *key);

/* Puts an order as the disk has it: `block` is copied, and may be unaligned; size 0 = there is
 * none. NULL without memory. */
struct fold_order *fold_put(struct fold *fold, const struct id128 *key, uint32_t shard,
                            struct bytes block);

enum fold_outcome {
    FOLD_APPLIED,
    FOLD_KNOWN,                /* the block has it already: nothing was done */
    FOLD_GAP,                  /* events before it are missing */
    FOLD_MALFORMED,
    FOLD_NO_MEMORY
};

/* Applies an event of `order`. On FOLD_APPLIED *counted (if a view wants it) says what it means for
 * sums; its texts point into the block. */
enum fold_outcome fold_apply(struct fold *fold, struct fold_order *order, const struct event *event,
                             uint32_t shard, uint64_t index, int64_t time_ms,
                             struct view_event *counted);

/* Puts `block` (8-byte aligned, well-formed) in the place of the order as it is; an order that is
 * as new already stays. FOLD_APPLIED, FOLD_KNOWN or FOLD_NO_MEMORY. */
enum fold_outcome fold_replace(struct fold *fold, struct fold_order *order, uint32_t shard,
                               const struct actor *block);
/* The order goes, as if it had been retired. It has a block. */
void fold_remove(struct fold *fold, struct fold_order *order);

/* The orders that changed since the last fold_clean(), linked by next_dirty, in no order. */
struct fold_order *fold_dirty(struct fold *fold);
uint32_t fold_dirty_count(const struct fold *fold);
uint64_t fold_dirty_bytes(const struct fold *fold); /* of their blocks */

/* What changed is written: it is what the disk has from now on. May drop orders from memory. */
void fold_clean(struct fold *fold);

/* Forgets everything (a batch failed: what was published is behind what memory believes). */
void fold_forget(struct fold *fold);

uint64_t fold_bytes(const struct fold *fold);

#endif
