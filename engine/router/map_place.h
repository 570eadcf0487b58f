/* Where the shard map in force lies: many read it at any time, now and then a newer one takes its
 * place, and the older one can be freed once nobody is inside any more. Reading never blocks.
 *
 *   unsigned side;
 *   const struct shard_map *map = map_place_enter(&place, &side);
 *   ... for the length of one call that does not wait ...
 *   map_place_leave(&place, side);
 */
#ifndef JUMUN_ROUTER_MAP_PLACE_H
#define JUMUN_ROUTER_MAP_PLACE_H

#include <stdatomic.h>

struct shard_map;

struct map_place {
    _Atomic(struct shard_map *) map;
    atomic_uint side;              /* where readers count themselves now: its lowest bit */
    atomic_uint readers[2];
};

static inline void map_place_init(struct map_place *p, struct shard_map *map) {
    atomic_init(&p->map, map);
    atomic_init(&p->side, 0);
    atomic_init(&p->readers[0], 0);
    atomic_init(&p->readers[1], 0);
}

/* Any thread. */
static inline const struct shard_map *map_place_enter(struct map_place *p, unsigned *side) {
    *side = atomic_load(&p->side) & 1;
    atomic_fetch_add(&p->readers[*side], 1);
    return atomic_load(&p->map);
}

static inline void map_place_leave(struct map_place *p, unsigned side) {
    atomic_fetch_sub_explicit(&p->readers[side], 1, memory_order_release);
}

/* For the one thread that also puts; others may not look at it after the next put. */
static inline struct shard_map *map_place_own(struct map_place *p) {
    return atomic_load(&p->map);
}

/* Puts a newer one there and waits until nobody reads the one before. One thread at a time. */
void map_place_put(struct map_place *p, struct shard_map *map);

#endif
