/* Random histories of orders over several shards, as records of their logs; and the plainest fold
 * of them that there is, to judge views by. One thread. */
#ifndef JUMUN_TESTS_HISTORY_WORLD_H
#define JUMUN_TESTS_HISTORY_WORLD_H

#include "engine/replica/view_store.h"
#include "persistence/record.h"

enum { HISTORY_SHARDS = 3 };

/* A shard's log: records one behind the other, padded to 8 bytes. */
struct history_log {
    uint8_t *bytes;
    size_t used, room;
    size_t *offsets;           /* of record i + 1; offsets[last] = used */
    uint64_t last, offsets_room;
};

struct history_order { struct id128 key; uint32_t shard; struct actor *block; };

struct history {
    uint64_t random;
    int64_t now_ms;
    uint64_t ids;
    struct history_log logs[HISTORY_SHARDS];
    struct history_order *orders;
    uint32_t orders_count, orders_room;
    uint8_t *entry;            /* room for one */
};

void history_init(struct history *h, uint64_t seed);
void history_fini(struct history *h);
uint32_t history_random(struct history *h, uint32_t below);

/* Adds so many entries, of random commands on new and old orders; time passes by itself, sometimes
 * days of it. Barriers and events of other kinds lie between them. */
void history_grow(struct history *h, uint32_t entries);

/* Records first..last of a shard. */
const void *history_records(const struct history *h, uint32_t shard, uint64_t first, uint64_t last,
                            size_t *bytes);
/* Records 1..last of a shard, linked, as a storage appends them, which takes them over. */
struct record *history_appendable(const struct history *h, uint32_t shard, uint64_t last);

/* Folds the logs up to `positions` (an index for each shard) from scratch, and fails the test
 * unless the orders and all views hold exactly what follows from that. */
void history_check(const struct history *h, const uint64_t positions[HISTORY_SHARDS],
                   struct view_store *store);
/* The same of a moment that somebody holds on to. */
void history_check_read(const struct history *h, const uint64_t positions[HISTORY_SHARDS],
                        struct view_store *store, const struct view_read *read);

#endif
