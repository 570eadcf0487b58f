/* The numbers that a batch of events adds under keys, gathered in memory until the batch
 * ends: a store's busy minute is one row, however many events counted in it. One thread. */
#ifndef JUMUN_REPLICA_SUMS_H
#define JUMUN_REPLICA_SUMS_H

#include "engine/replica/view.h"

/* One key. `key` is an offset into the keys; see sums_key(). */
struct sums_entry {
    uint64_t hash;
    uint32_t key, key_bytes;
    int64_t numbers[VIEW_NUMBERS];
};

struct sums {
    struct sums_entry *entries; /* in order of arrival */
    uint32_t count, capacity;
    uint32_t *slots;           /* position + 1; a power of two of them, at most half in use */
    uint32_t slots_count;
    uint8_t *keys;
    uint32_t keys_bytes, keys_capacity;
};

/* All zero is empty. Adds the numbers; false = no memory, and nothing was added. */
bool sums_add(struct sums *sums, const struct view_sum *sum);

static inline const uint8_t *sums_key(const struct sums *sums, const struct sums_entry *e) {
    return sums->keys + e->key;
}

void sums_clear(struct sums *sums); /* keeps its memory */
void sums_fini(struct sums *sums);

#endif
