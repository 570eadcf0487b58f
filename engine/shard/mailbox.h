/* The way into a shard: a bounded queue with many producers and one consumer.
 *
 * Lock-free: producers push onto a stack with one compare-and-swap, the consumer takes the whole
 * stack at once and turns it round, so order is first in, first out per producer and overall by the
 * moment of the push. Bounds are counted in commands and bytes before the push; a full mailbox is
 * an answer, never a wait. */
#ifndef JUMUN_SHARD_MAILBOX_H
#define JUMUN_SHARD_MAILBOX_H

#include <stdalign.h>

#include "engine/shard/request.h"

struct mailbox {
    alignas(64) _Atomic(struct request_part *) top; /* producers */
    atomic_uint commands;        /* taken, not yet given back by mailbox_consumed() */
    atomic_ullong bytes;
    atomic_ullong refused;       /* commands that found it full */
    atomic_uint admit_max;       /* bound of `commands` now, <= commands_max */
    uint32_t commands_max;
    uint64_t bytes_max;
    alignas(64) struct request_part *taken; /* consumer: first in order; linked by next */
};

void mailbox_init(struct mailbox *m, uint32_t commands_max, uint64_t bytes_max);

/* Any thread. False = full, nothing was taken. */
bool mailbox_push(struct mailbox *m, struct request_part *part);

/* Lowers the bound to `commands`, or lifts it up to what mailbox_init() said. */
void mailbox_admit(struct mailbox *m, uint32_t commands);

/* Consumer: the oldest part, or NULL. It stays counted until mailbox_consumed(): the shard calls
 * that when the part is answered, so that the bound holds for all that is under way. */
struct request_part *mailbox_peek(struct mailbox *m);
struct request_part *mailbox_take(struct mailbox *m);
void mailbox_consumed(struct mailbox *m, uint32_t commands, uint64_t bytes);

static inline uint32_t mailbox_commands(const struct mailbox *m) {
    return atomic_load_explicit(&((struct mailbox *)(uintptr_t)m)->commands, memory_order_relaxed);
}

#endif
