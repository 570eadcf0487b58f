/* A shard map that many read while newer ones take its place and the older are freed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/router/map_place.h"
#include "engine/router/shard_map.h"

enum { READERS = 4, MAPS = 2000 };

struct reading {
    struct map_place place;
    atomic_bool stop;
    atomic_ulong reads, wrong;
};

static void *read_on(void *arg) {
    struct reading *r = arg;
    uint64_t newest = 0;
    while (!atomic_load(&r->stop)) {
        unsigned side;
        const struct shard_map *map = map_place_enter(&r->place, &side);
        /* A freed one is overwritten first: both ends of the struct must be of one moment. */
        bool sound = map->version == (uint64_t)map->epochs[0].from_ms && map->version >= newest;
        newest = map->version;
        map_place_leave(&r->place, side);
        atomic_fetch_add(sound ? &r->reads : &r->wrong, 1);
    }
    return NULL;
}

static struct shard_map *new_map(uint64_t version) {
    struct shard_map *map = calloc(1, sizeof *map);
    assert_non_null(map);
    map->version = version;
    map->epochs[0].from_ms = (int64_t)version;
    return map;
}

static void nobody_reads_what_was_replaced(void **state) {
    struct reading r = {.stop = false};
    pthread_t threads[READERS];
    map_place_init(&r.place, new_map(1));
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &r), 0);
    for (uint64_t version = 2; version <= MAPS || atomic_load(&r.reads) < MAPS; version++) {
        struct shard_map *older = map_place_own(&r.place);
        map_place_put(&r.place, new_map(version));
        memset(older, 0xa5, sizeof *older);
        older->version = 0;
        free(older);
    }
    atomic_store(&r.stop, true);
    for (int i = 0; i < READERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r.wrong), 0);
    assert_true(atomic_load(&r.reads) >= MAPS);
    free(map_place_own(&r.place));
}

static void readers_are_counted(void **state) {
    struct map_place place;
    struct shard_map *first = new_map(1), *second = new_map(2);
    unsigned side, other;
    map_place_init(&place, first);
    assert_ptr_equal(map_place_enter(&place, &side), first);
    map_place_leave(&place, side);
    map_place_put(&place, second);
    assert_ptr_equal(map_place_enter(&place, &side), second);
    assert_ptr_equal(map_place_enter(&place, &other), second);
    assert_int_equal(atomic_load(&place.readers[side & 1]), 2);
    map_place_leave(&place, other);
    map_place_leave(&place, side);
    assert_int_equal(atomic_load(&place.readers[0]) + atomic_load(&place.readers[1]), 0);
    free(first);
    free(second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_are_counted),
        cmocka_unit_test(nobody_reads_what_was_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
