/* Which shard owns a key or a store: the one rule that engine and clients share.
 *
 * An order's key carries all that routing needs: the birth time picks the epoch, a hash of the ten
 * random bytes picks the shard among that epoch's. Stores are hashed by id over a number of shards
 * of their own, that of the first epoch until they are moved.
 * The hash is FNV-1a 64 (http://www.isthe.com/chongo/tech/comp/fnv/), so that a client in any
 * language has it in three lines. */
#ifndef JUMUN_WIRE_ROUTING_H
#define JUMUN_WIRE_ROUTING_H

#include "engine/base/bytes.h"

static inline uint64_t routing_hash(const void *data, size_t size) {
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < size; i++) h = (h ^ p[i]) * 0x100000001b3ULL;
    return h;
}

/* Birth time of a key, Unix ms. */
static inline int64_t routing_birth_ms(const struct id128 *key) {
    int64_t ms = 0;
    for (int i = 0; i < 6; i++) ms = (ms << 8) | key->bytes[i];
    return ms;
}

/* A stretch of time with one number of shards. Epochs are sorted by from_ms; the first is 0. */
struct routing_epoch {
    int64_t from_ms;
    uint32_t shards_count;
};

static inline uint32_t routing_shard_of_key(const struct routing_epoch *epochs, uint32_t count,
                                            const struct id128 *key) {
    int64_t birth = routing_birth_ms(key);
    uint32_t e = count - 1;
    while (e > 0 && epochs[e].from_ms > birth) e--;
    return (uint32_t)(routing_hash(key->bytes + 6, 10) % epochs[e].shards_count);
}

/* `stores_shards`: the number of shards over which stores are spread. */
static inline uint32_t routing_shard_of_store(uint32_t stores_shards, struct bytes store) {
    return (uint32_t)(routing_hash(store.data, store.size) % stores_shards);
}

#endif
