/* More shards than at the start: a new one is told what is paused, stores stay where they are. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "tests/unit/shard/shard_world.h"

static struct world *w;

/* Shard 0 knows of itself alone at first, and is the home of all stores. */
static int setup(void **unused) {
    const struct storage_memory_options disk = {.seed = 3};
    w = calloc(1, sizeof *w);
    assert_non_null(w);
    world_open(w, &disk);
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) shard_spread(w->shards[s], 1, 1);
    world_run(w, 1000);
    return 0;
}
static int teardown(void **unused) {
    world_close(w);
    free(w);
    return 0;
}

static struct result ask_store(uint8_t kind, const char *store) {
    struct command c = world_store_command(w, kind, store);
    assert_int_equal(world_shard_of(&c), 0);
    return world_ask(w, &c);
}

static uint16_t place_on(uint32_t shard, const char *store) {
    struct command c = world_place(w, world_key(w, shard), store);
    return world_ask(w, &c).code;
}

static void grow(void) {
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) shard_spread(w->shards[s], 2, 1);
}

static void a_new_shard_learns_what_is_paused(void **unused) {
    char store[16], other[16];
    world_store(w, 0, store);
    world_store(w, 0, other);
    assert_int_equal(ask_store(COMMAND_STORE_PAUSE, store).code, RESULT_OK);
    world_run(w, 2000);
    assert_int_equal(place_on(0, store), RESULT_STORE_PAUSED);
    assert_int_equal(place_on(1, store), RESULT_OK); /* it knows of nothing yet */
    grow();
    world_run(w, 2000);
    assert_int_equal(place_on(1, store), RESULT_STORE_PAUSED);
    assert_int_equal(place_on(1, other), RESULT_OK);
    assert_int_equal(ask_store(COMMAND_STORE_RESUME, store).code, RESULT_OK);
    world_run(w, 2000);
    assert_int_equal(place_on(1, store), RESULT_OK);
}

static void a_crash_in_between_loses_nothing(void **unused) {
    char store[16];
    world_store(w, 0, store);
    assert_int_equal(ask_store(COMMAND_STORE_PAUSE, store).code, RESULT_OK);
    w->courier_is_down = true;
    grow();
    world_run(w, 2000);
    world_crash(w);
    w->courier_is_down = false;
    world_start(w); /* with the number of shards that it has now */
    grow();
    world_run(w, 5000);
    assert_int_equal(place_on(1, store), RESULT_STORE_PAUSED);
}

static void stores_stay_and_count_orders_of_new_shards(void **unused) {
    struct shard_stats stats;
    grow();
    world_run(w, 1000);
    /* Half of these would live on shard 1 if stores were spread anew. */
    for (int i = 0; i < 20; i++) {
        char store[16];
        snprintf(store, sizeof store, "any-%d", i);
        assert_int_equal(place_on(1, store), RESULT_OK);
    }
    world_run(w, 5000);
    shard_stats(w->shards[0], &stats);
    assert_int_equal(stats.stores_in_memory, 20);
    shard_stats(w->shards[1], &stats);
    assert_int_equal(stats.stores_in_memory, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_shard_learns_what_is_paused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_crash_in_between_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(stores_stay_and_count_orders_of_new_shards, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
