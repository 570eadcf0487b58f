/* Tokens: the newest index of each shard that somebody has seen. Only grows, until it is cleared.
 * Any thread; a zeroed one is empty. Shards beyond SHARDS_MAX (the group of the cluster document)
 * have no place: no view shows them. */
#ifndef JUMUN_SDK_TOKEN_SET_H
#define JUMUN_SDK_TOKEN_SET_H

#include <stdatomic.h>
#include <stdint.h>

#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"
#include "engine/limits.h"

struct token_set {
    atomic_uint shards_end;            /* above the highest shard that has a token */
    _Atomic uint64_t index[SHARDS_MAX];
};

static inline void token_set_raise(struct token_set *set, uint32_t shard, uint64_t index) {
    if (shard >= SHARDS_MAX) return;
    uint64_t before = atomic_load_explicit(&set->index[shard], memory_order_relaxed);
    while (before < index &&
           !atomic_compare_exchange_weak_explicit(&set->index[shard], &before, index,
                                                  memory_order_release, memory_order_relaxed)) {
    }
    unsigned end = atomic_load_explicit(&set->shards_end, memory_order_relaxed);
    while (index > 0 && end <= shard &&
           !atomic_compare_exchange_weak(&set->shards_end, &end, shard + 1)) {
    }
}

/* Forgets all. */
static inline void token_set_clear(struct token_set *set) {
    for (uint32_t shard = 0; shard < SHARDS_MAX; shard++) atomic_store(&set->index[shard], 0);
    atomic_store(&set->shards_end, 0);
}

static inline uint64_t token_set_at(const struct token_set *set, uint32_t shard) {
    return shard < SHARDS_MAX ? atomic_load_explicit(&set->index[shard], memory_order_acquire) : 0;
}

/* Writes those of both that are not 0, the larger one of each shard; `other` may be NULL. Returns
 * their number, at most SHARDS_MAX. */
static inline uint32_t token_set_list(const struct token_set *set, const struct token_set *other,
                                      jumun_token tokens[SHARDS_MAX]) {
    uint32_t count = 0, end = atomic_load(&set->shards_end);
    if (other && atomic_load(&other->shards_end) > end) end = atomic_load(&other->shards_end);
    for (uint32_t shard = 0; shard < end; shard++) {
        uint64_t index = token_set_at(set, shard);
        if (other && token_set_at(other, shard) > index) index = token_set_at(other, shard);
        if (index > 0) tokens[count++] = (jumun_token){shard, index};
    }
    return count;
}

#endif
