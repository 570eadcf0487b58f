/* Three replicas of two shards: one log, one answer, whoever leads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/base/prng.h"
#include "tests/unit/shard/group_orders.h"

static const struct group_setup calm = {
    .disk = {.seed = 21, .append_ms_max = 3, .checkpoint_ms_max = 5, .load_ms_max = 2},
    .network = {.seed = 3, .latency_ms_max = 2}};
static const struct group_setup rough = {
    .disk = {.seed = 22, .append_ms_max = 6, .checkpoint_ms_max = 9, .load_ms_max = 4},
    .network = {.seed = 4, .loss = 500, .doubled = 300, .late = 300, .latency_ms_max = 4,
                .late_ms_max = 60},
    .checkpoint_age_ms = 200};

static struct group_world world;
static struct group_orders done;

static void open_world(const struct group_setup *setup) {
    done.count = 0;
    group_open(&world, setup);
}

static void test_three_replicas_hold_the_same(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm);
    orders_place_some(w, &done, 60);
    for (uint32_t n = 0; n < 60; n += 2) orders_change(w, &done, n);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
    group_close(w);
}

static void test_a_follower_names_the_leader(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm);
    uint32_t leader = group_await_leader(w, 0);
    group_run(w, 200);
    struct ask ask;
    struct command place = world_place(&w->names, world_key(&w->names, 0), "s1");
    assert_true(group_offer(w, (leader + 1) % 3, &ask, &place));
    group_run(w, 1);
    assert_true(ask.answered);
    assert_int_equal(ask.result.code, RESULT_NOT_LEADER);
    assert_int_equal(ask.result.leader_node, leader + 1);
    group_close(w);
}

/* Its figures tell so though nothing comes any more, and nothing is left to do. */
static void test_the_last_one_left_names_no_leader(void **state) {
    (void)state;
    struct group_world *w = &world;
    struct shard_stats stats;
    open_world(&calm);
    uint32_t leader = group_await_leader(w, 0), last = (leader + 1) % 3;
    group_run(w, 60000);
    shard_stats(group_shard(w, last, 0), &stats);
    assert_true(stats.leader != 0);
    group_crash_node(w, leader);
    group_crash_node(w, (leader + 2) % 3);
    group_run(w, 2000);
    shard_stats(group_shard(w, last, 0), &stats);
    assert_int_equal(stats.leader, 0);
    assert_int_equal(stats.role, CONSENSUS_CANDIDATE);
    group_close(w);
}

static void test_another_leads_when_the_leader_dies(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm);
    for (int round = 0; round < 6; round++) {
        orders_place_some(w, &done, 10);
        for (uint32_t n = 0; n < done.count; n += 3) orders_change(w, &done, n);
        uint32_t leader = group_await_leader(w, (uint32_t)round % 2);
        group_crash_node(w, leader);
        orders_place_some(w, &done, 10);
        orders_assert(w, &done);
        group_start_node(w, leader);
    }
    orders_assert_stores(w, &done);
    group_close(w);
}

/* What a follower lacks that was away is left to who keeps to a pace, though it is all in memory
 * still; only the end comes from there. Nobody waits for it meanwhile. */
static void test_who_was_away_is_not_hurried(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm);
    orders_place_some(w, &done, 10);
    uint32_t away = (group_await_leader(w, 0) + 1) % 3;
    if (away == group_await_leader(w, 1)) away = (away + 1) % 3;
    group_crash_node(w, away);
    orders_place_some(w, &done, 8 * FOLLOWER_FAR_ENTRIES);
    w->from_memory[away] = w->from_log[away] = 0;
    group_start_node(w, away);
    assert_null(group_difference(w, 0));
    assert_null(group_difference(w, 1));
    assert_true(w->from_log[away] >= 4 * FOLLOWER_FAR_ENTRIES);
    assert_true(w->from_memory[away] > 0);
    assert_true(w->from_memory[away] < w->from_log[away]);
    orders_place_some(w, &done, 10);
    orders_assert(w, &done);
    group_close(w);
}

/* A voter that the group needs for its commits is not far from them, however much it lacks. */
static void test_who_is_needed_is_hurried(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm);
    orders_place_some(w, &done, 10);
    uint32_t leader = group_await_leader(w, 0);
    orders_place_some(w, &done, 10);
    for (uint32_t node = 0; node < 3; node++) w->from_log[node] = 0;
    group_crash_node(w, (leader + 1) % 3);
    orders_place_some(w, &done, 4 * FOLLOWER_FAR_ENTRIES);
    assert_int_equal(w->from_log[(leader + 2) % 3], 0);
    orders_assert(w, &done);
    group_close(w);
}

/* What a restart has replayed at one moment is due at one moment. It is stored bit by bit, while
 * others lead, and all of it in the end. */
static void test_what_was_replayed_is_not_stored_at_once(void **state) {
    (void)state;
    struct group_world *w = &world;
    struct group_setup setup = calm;
    setup.checkpoint_age_ms = 400; /* 6 s for a follower */
    open_world(&setup);
    uint32_t node = (group_await_leader(w, 0) + 1) % 3;
    orders_place_some(w, &done, 300);
    group_crash_node(w, node);
    group_start_node(w, node);
    assert_null(group_difference(w, 0));
    uint32_t waiting = group_shard(w, node, 0)->dirty.count;
    assert_true(waiting > 60);
    group_run(w, 7000);
    uint32_t left = group_shard(w, node, 0)->dirty.count;
    assert_true(left > waiting / 4 && left < waiting);
    group_run(w, 24000);
    assert_int_equal(group_shard(w, node, 0)->dirty.count, 0);
    orders_assert(w, &done);
    group_close(w);
}

/* All that waits at a leader that is cut off is answered, and nothing acknowledged is lost. */
static void test_a_leader_that_is_cut_off_forgets(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm);
    orders_place_some(w, &done, 20);
    for (int round = 0; round < 4; round++) {
        uint32_t leader = group_await_leader(w, 0);
        struct ask asks[8], read;
        struct command commands[8];
        group_cut_node(w, leader, 3000);
        for (int i = 0; i < 8; i++) {
            commands[i] = world_place(&w->names, world_key(&w->names, 0), "s1");
            assert_true(group_offer(w, leader, &asks[i], &commands[i]));
            group_run(w, 5);
        }
        struct command get = world_command(&w->names, COMMAND_GET, done.keys[0]);
        if (world_shard_of(&get) != 0) get.subject = done.keys[1];
        assert_int_equal(world_shard_of(&get), 0);
        assert_true(group_offer(w, leader, &read, &get));
        group_run(w, 100);
        assert_false(read.answered); /* it cannot know whether it still leads */
        group_run(w, 1500);
        assert_true(read.answered);
        assert_int_equal(read.result.code, RESULT_NOT_LEADER);
        for (int i = 0; i < 8; i++) {
            assert_true(asks[i].answered);
            assert_int_equal(asks[i].result.code, RESULT_LEADERSHIP_LOST);
        }
        assert_int_not_equal(group_await_leader(w, 0), leader);
        for (int i = 0; i < 8; i++) { /* the same ids, at the new one */
            struct result r = group_ask(w, &commands[i]);
            assert_int_equal(r.code, RESULT_OK);
            done.keys[done.count] = commands[i].subject;
            done.versions[done.count++] = r.version;
        }
        group_run(w, 2500);
        assert_int_equal(group_shard(w, leader, 0)->phase, SHARD_FOLLOWING);
    }
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
    group_close(w);
}

/* Loss, doubling, overtaking, cuts and crashes, and work all the while. */
static void run_rough(uint64_t seed, uint32_t nodes) {
    struct group_world *w = &world;
    struct group_setup setup = rough;
    struct prng prng;
    setup.nodes = nodes;
    setup.disk.seed += seed * 1000;
    setup.network.seed += seed;
    if (seed % 2) setup.trailing_entries = 4; /* whoever lags needs the whole state */
    prng_seed(&prng, seed);
    open_world(&setup);
    int down = -1;
    for (int round = 0; round < 40; round++) {
        orders_place_some(w, &done, 4);
        orders_change(w, &done, (uint32_t)prng_below(&prng, done.count));
        uint32_t node = (uint32_t)prng_below(&prng, nodes);
        if (down >= 0 && prng_chance(&prng, 1, 2)) {
            group_start_node(w, (uint32_t)down);
            down = -1;
        } else if (down < 0 && prng_chance(&prng, 1, 4)) {
            group_crash_node(w, node);
            down = (int)node;
        } else if (down < 0 && prng_chance(&prng, 1, 3)) {
            group_cut_node(w, node, (int64_t)prng_between(&prng, 10, 1500));
        }
        group_run(w, (int64_t)prng_between(&prng, 0, 400));
    }
    network_calm(w->network);
    if (down >= 0) group_start_node(w, (uint32_t)down);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
    group_close(w);
}

static uint64_t seed_first = 1, seed_last = 20;

static void test_nothing_is_lost_in_a_rough_world(void **state) {
    (void)state;
    for (uint64_t seed = seed_first; seed <= seed_last; seed++) {
        if (seed_first != 1) print_message("seed %u\n", (unsigned)seed);
        run_rough(seed, seed % 3 ? 3 : 5);
    }
}

/* With two numbers: only the rough world, these seeds. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_lost_in_a_rough_world),
        cmocka_unit_test(test_three_replicas_hold_the_same),
        cmocka_unit_test(test_a_follower_names_the_leader),
        cmocka_unit_test(test_the_last_one_left_names_no_leader),
        cmocka_unit_test(test_another_leads_when_the_leader_dies),
        cmocka_unit_test(test_a_leader_that_is_cut_off_forgets),
        cmocka_unit_test(test_who_was_away_is_not_hurried),
        cmocka_unit_test(test_who_is_needed_is_hurried),
        cmocka_unit_test(test_what_was_replayed_is_not_stored_at_once),
    };
    if (argc == 3) {
        const struct CMUnitTest one[] = {cmocka_unit_test(test_nothing_is_lost_in_a_rough_world)};
        seed_first = (uint64_t)atoi(argv[1]);
        seed_last = (uint64_t)atoi(argv[2]);
        return cmocka_run_group_tests(one, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
