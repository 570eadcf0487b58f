/* The actors of a fold by key, for more of them than fit into memory: some 10 bytes an actor, its
 * block only while there is room for it. Blocks that were not used for longest go to an unnamed
 * file in the scratch directory and come back when their actor is asked for; what a block that
 * changed left there is used again.
 *
 * One thread. A pointer to a block is good until the next fold_table_trim(). */
#ifndef JUMUN_REPLAY_FOLD_TABLE_H
#define JUMUN_REPLAY_FOLD_TABLE_H

#include "actors/actor.h"

enum fold_block_flags {
    FOLD_REFERENCED = 1,   /* used since the sweep last came by */
    FOLD_BROKEN = 2,       /* an event of it was at fault: only its head goes on */
    FOLD_UNKNOWN = 4,      /* it began before the log does: only its head is known */
    FOLD_MARKED = 8        /* in fold_table_each() only: fold_table_mark() was called for it */
};

/* An actor in memory. `actor` is what it is on every node; the rest is the fold's own. */
struct fold_block {
    int64_t entered_ms;    /* time of the event that brought it into its state */
    uint64_t spilled_at;   /* where the file has it as it is (the table's own); 0 = nowhere */
    uint32_t capacity;     /* bytes that fit into `actor` */
    uint32_t flags;
    struct actor actor;    /* its block, beginning with the head */
};

struct fold_table;

/* `memory_bytes_max` bounds blocks and those 10 bytes each together, as far as the latter leave
 * room: a quarter is for blocks in any case; 0 = no bound. `scratch` is a directory; used only when
 * the bound is reached. NULL without memory. */
struct fold_table *fold_table_open(uint64_t memory_bytes_max, const char *scratch);
void fold_table_close(struct fold_table *table);

/* NULL: no such actor, or (fold_table_error) its block cannot be read back. */
struct fold_block *fold_table_get(struct fold_table *table, const struct id128 *key);
/* A zeroed block with room for `bytes`, for a key that is not there. NULL without memory. */
struct fold_block *fold_table_add(struct fold_table *table, const struct id128 *key,
                                  uint32_t bytes);
/* The block with room for `bytes`; it may move. What is behind actor.bytes is zero. NULL without
 * memory (the old one stays). */
struct fold_block *fold_table_reserve(struct fold_table *table, struct fold_block *block,
                                      uint32_t bytes);
/* The block is about to change within its room: what the file has of it counts no more. */
void fold_table_change(struct fold_table *table, struct fold_block *block);
void fold_table_remove(struct fold_table *table, const struct id128 *key);

/* Notes that the actor was met elsewhere. False = there is none of that key. */
bool fold_table_mark(struct fold_table *table, const struct id128 *key);

/* Memory is far. Who knows what will be asked for next takes each step for some dozens of actors
 * before the next step for any: their waits then hide each other. The table may change in between,
 * and steps may be left out. */
struct fold_hint {
    uint64_t hash;
    uint64_t entry;            /* what stood in `slot`; 0 = nothing was found */
    uint32_t slot;             /* of the hash's part */
};
void fold_table_foresee(const struct fold_table *table, const struct id128 *key,
                        struct fold_hint *hint);
void fold_table_foresee_entry(const struct fold_table *table, const struct fold_hint *hint);
void fold_table_foresee_block(const struct fold_table *table, struct fold_hint *hint);
/* fold_table_get(), first where the actor was foreseen. */
struct fold_block *fold_table_get_foreseen(struct fold_table *table, const struct id128 *key,
                                           const struct fold_hint *hint);

/* Moves blocks out until the bound holds. */
void fold_table_trim(struct fold_table *table);

uint64_t fold_table_count(const struct fold_table *table);
uint64_t fold_table_spilled(const struct fold_table *table); /* blocks written to the file */
uint64_t fold_table_scratch(const struct fold_table *table); /* bytes of the file */
/* "" or the sentence of the first failure of the scratch file. */
const char *fold_table_error(const struct fold_table *table);

/* Visits all actors, in no order; false stops. Blocks are only lent for the visit. */
bool fold_table_each(struct fold_table *table,
                     bool (*visit)(void *arg, const struct fold_block *block), void *arg);

#endif
