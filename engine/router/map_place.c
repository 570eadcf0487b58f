#include "engine/router/map_place.h"

#include <sched.h>

/* Readers that come count themselves on the other side from here on, so those of this one only get
 * fewer. */
static void map_place_empty(struct map_place *p) {
    unsigned side = atomic_fetch_add(&p->side, 1) & 1;
    while (atomic_load(&p->readers[side]) != 0) sched_yield();
}

/* Both sides: a reader may have looked at the side long ago, and count himself on either one. Who
 * does so after the store sees the new map. */
void map_place_put(struct map_place *p, struct shard_map *map) {
    atomic_store(&p->map, map);
    map_place_empty(p);
    map_place_empty(p);
}
