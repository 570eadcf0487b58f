/* Memory of one shard: the general allocator (jemalloc in the programs), with the shard's count of
 * what its actors hold and a place where tests make the n-th allocation fail. One thread. */
#ifndef JUMUN_SHARD_MEMORY_H
#define JUMUN_SHARD_MEMORY_H

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"

enum { SHARD_MEMORY_MOVES_BYTES = 8192 };

struct shard_memory {
    uint64_t actor_bytes;    /* of all actor blocks, the allocator's rounding included */
    uint64_t table_bytes;    /* slots, index, timers, dirty list */
    uint64_t fail_countdown; /* tests: the allocation that brings it to 0 fails; 0 = off */
};

static inline bool shard_memory_fails(struct shard_memory *m) {
    return m->fail_countdown != 0 && --m->fail_countdown == 0;
}

/* Like realloc; NULL without memory (then the old block is untouched). *capacity gets what is
 * usable, and `*count` is kept in step. */
static inline void *shard_memory_resize(struct shard_memory *m, uint64_t *count, void *block,
                                        size_t bytes, size_t *capacity) {
    if (shard_memory_fails(m)) return NULL;
    size_t before = block ? malloc_usable_size(block) : 0;
    void *p = realloc(block, bytes);
    if (!p) return NULL;
    *capacity = malloc_usable_size(p);
    *count += *capacity - before;
    return p;
}

static inline void shard_memory_free(uint64_t *count, void *block) {
    if (!block) return;
    *count -= malloc_usable_size(block);
    free(block);
}

/* The same for the blocks of actors, whose owner knows their capacity: asking the allocator what a
 * block holds is a wait for memory of its own, and every command may ask. */
static inline void *shard_memory_resize_block(struct shard_memory *m, void *block,
                                              size_t capacity_before, size_t bytes,
                                              size_t *capacity) {
    if (shard_memory_fails(m)) return NULL;
    /* A small block never grows where it is, and realloc would look up what it is first. */
    bool moves = block && capacity_before <= SHARD_MEMORY_MOVES_BYTES;
    void *p = moves ? malloc(bytes) : realloc(block, bytes);
    if (!p) return NULL;
    if (moves) {
        memcpy(p, block, capacity_before < bytes ? capacity_before : bytes);
        memory_block_free(block, capacity_before);
    }
    *capacity = memory_block_capacity(p, bytes);
    m->actor_bytes += *capacity - capacity_before;
    return p;
}

static inline void shard_memory_free_block(struct shard_memory *m, void *block, size_t capacity) {
    if (!block) return;
    m->actor_bytes -= capacity;
    memory_block_free(block, capacity);
}

#endif
