/* The one world of a test program: its shards serve when a test begins, on disks that take their
 * time. Each test has it anew. */
#ifndef JUMUN_TEST_SERVED_WORLD_H
#define JUMUN_TEST_SERVED_WORLD_H

#include "tests/unit/shard/shard_world.h"

static const struct storage_memory_options disk = {.seed = 11, .append_ms_max = 4,
                                                   .checkpoint_ms_max = 6, .load_ms_max = 3};

static struct world world;
static inline int setup(void **state) {
    (void)state;
    world_open(&world, &disk);
    world_run(&world, 50);
    return 0;
}
static inline int teardown(void **state) { (void)state; world_close(&world); return 0; }

static inline struct shard_stats stats_of(uint32_t shard) {
    struct shard_stats stats;
    world_run(&world, 30);
    shard_stats(world.shards[shard], &stats);
    return stats;
}

#endif
