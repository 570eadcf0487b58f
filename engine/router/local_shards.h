/* The shards that this node runs a replica of, by number. They may come and go while the node runs:
 * whoever touches one enters it first and leaves it again, and a shard that is taken out is only
 * gone once everybody has left. Entering never blocks; nobody stays inside longer than for one call
 * of a function that does not block. Any thread. */
#ifndef JUMUN_ROUTER_LOCAL_SHARDS_H
#define JUMUN_ROUTER_LOCAL_SHARDS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/limits.h"

struct shard;

enum { LOCAL_SHARDS_SLOTS = SHARDS_MAX + 1, LOCAL_SHARDS_NONE = UINT32_MAX };

struct local_shards {
    struct local_shard {
        _Alignas(64) _Atomic(struct shard *) shard; /* NULL = not here */
        atomic_uint users;
    } slots[LOCAL_SHARDS_SLOTS];                    /* the last one is the meta group's */
};

/* The place of a shard's number in arrays of LOCAL_SHARDS_SLOTS; LOCAL_SHARDS_NONE = no number. */
static inline uint32_t local_shards_slot(uint32_t shard) {
    if (shard < SHARDS_MAX) return shard;
    return shard == SHARD_META ? SHARDS_MAX : LOCAL_SHARDS_NONE;
}
static inline uint32_t local_shards_number(uint32_t slot) {
    return slot < SHARDS_MAX ? slot : SHARD_META;
}

/* The shard, to be left with local_shards_leave(); NULL = not here, nothing to leave. */
static inline struct shard *local_shards_enter(struct local_shards *t, uint32_t shard) {
    uint32_t slot = local_shards_slot(shard);
    if (slot == LOCAL_SHARDS_NONE) return NULL;
    /* Both in one total order with the store and the look of take_out: either it sees us inside, or
     * we see that the shard is gone. */
    atomic_fetch_add(&t->slots[slot].users, 1);
    struct shard *s = atomic_load(&t->slots[slot].shard);
    if (!s) atomic_fetch_sub(&t->slots[slot].users, 1);
    return s;
}

static inline void local_shards_leave(struct local_shards *t, uint32_t shard) {
    atomic_fetch_sub(&t->slots[local_shards_slot(shard)].users, 1);
}

/* Puts a shard in; the place was empty. */
void local_shards_put(struct local_shards *t, uint32_t shard, struct shard *s);

/* Takes it out, and waits until nobody is inside any more. */
void local_shards_take_out(struct local_shards *t, uint32_t shard);

#endif
