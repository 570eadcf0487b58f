/* The messages in flight of a lane: their begin, their end, their time. Part of the batcher. */
#ifndef JUMUN_SDK_BATCHER_SLOTS_H
#define JUMUN_SDK_BATCHER_SLOTS_H

#include "clients/sdk/batcher.h"

/* Makes lane->slots and lane->free_slots. False for lack of memory (slots_fini() cleans up). */
bool slots_init(struct lane *lane);
/* Gives what is in flight until shared->settle_until_ns to be answered, aborts it, waits for the
 * ends, frees. shared->closing is set. */
void slots_fini(struct lane *lane);

/* Sends the slot's calls, `bytes` together. The role's holder. */
void slot_begin(struct slot *slot, struct endpoint *endpoint, size_t bytes, int64_t now_ns);

/* Aborts attempts that took too long, ends calls in flight whose own time is over. Any thread. */
void slots_expire(struct lane *lane, int64_t now_ns);

/* Tells the breaker; counts its openings. */
void slots_endpoint_failed(struct lane *lane, struct endpoint *endpoint, int64_t now_ns);

#endif
