/* The thread that encodes and sends replies, so that a shard's thread only hands them over: sending
 * is system calls, and waiting for nng's locks. One for the node: a reply costs it about 100 ns a
 * command. (Measured against sending on the shards' own threads, see docs/performance.md: 12 % less
 * work for them, 3 % less for the node at 128 commands a message.) */
#ifndef JUMUN_EGRESS_EGRESS_H
#define JUMUN_EGRESS_EGRESS_H

#include <stddef.h>

struct egress;

/* Part of whatever is sent; for the queue's own use. */
struct egress_item {
    struct egress_item *next;
};

/* Starts the thread, which calls `send` for each item, in the order of the offers. NULL with a
 * sentence in error. */
struct egress *egress_start(void (*send)(struct egress_item *item), char *error,
                            size_t error_bytes);

/* Hands an item over. Any thread; never blocks, never fails: the items are those of messages that
 * were taken in, and those are bounded. */
void egress_offer(struct egress *egress, struct egress_item *item);

/* Sends what was offered, then joins and frees. */
void egress_stop(struct egress *egress);

#endif
