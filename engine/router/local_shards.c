#include "engine/router/local_shards.h"

#include <sched.h>

#include "engine/base/check.h"

void local_shards_put(struct local_shards *t, uint32_t shard, struct shard *s) {
    uint32_t slot = local_shards_slot(shard);
    require(slot != LOCAL_SHARDS_NONE && s != NULL);
    struct shard *before = atomic_exchange(&t->slots[slot].shard, s);
    require(before == NULL);
}

void local_shards_take_out(struct local_shards *t, uint32_t shard) {
    uint32_t slot = local_shards_slot(shard);
    require(slot != LOCAL_SHARDS_NONE);
    atomic_store(&t->slots[slot].shard, NULL);
    while (atomic_load(&t->slots[slot].users) != 0) sched_yield();
}
