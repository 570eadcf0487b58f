/* Who belongs to a group and who leads it: placements, hand-overs, catching up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/shard/group_orders.h"

static const struct group_setup calm = {
    .disk = {.seed = 31, .append_ms_max = 3, .checkpoint_ms_max = 5, .load_ms_max = 2},
    .network = {.seed = 5}, .checkpoint_age_ms = 300, .trailing_entries = 8};

static struct group_world world;
static struct group_orders done;
static struct shard_placement placement;

static int setup(void **state) {
    (void)state;
    done.count = 0;
    placement = (struct shard_placement){.version = 0};
    group_open(&world, &calm);
    group_await_leader(&world, 0);
    group_await_leader(&world, 1);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    group_close(&world);
    return 0;
}

static uint64_t server(uint32_t node) { return consensus_server_id(node + 1, 0); }

/* Tells every replica that is up; three nodes unless `c` is the last. */
static void place(uint32_t a, uint32_t b, uint32_t c) {
    placement.version++;
    placement.count = 3;
    placement.servers[0] = server(a);
    placement.servers[1] = server(b);
    placement.servers[2] = server(c);
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++)
        for (uint32_t s = 0; s < GROUP_SHARDS; s++)
            if (group_shard(&world, n, s)) shard_place(group_shard(&world, n, s), &placement);
}

static bool is_as_placed(uint32_t shard) {
    int leader = group_leader(&world, shard);
    if (leader < 0) return false;
    struct consensus_group g;
    consensus_group(group_shard(&world, (uint32_t)leader, shard)->consensus, world.mono_ms, &g);
    if (g.count != placement.count) return false;
    for (uint32_t i = 0; i < placement.count; i++) {
        bool votes = false;
        for (uint32_t k = 0; k < g.count; k++)
            votes |= g.servers[k].id == placement.servers[i] &&
                     g.servers[k].role == CONSENSUS_VOTER;
        if (!votes) return false;
    }
    return consensus_open_change(group_shard(&world, (uint32_t)leader, shard)->consensus) == 0;
}

/* As its leader sees it; UINT32_MAX = there is none. */
static uint32_t voters_of(uint32_t shard) {
    int leader = group_leader(&world, shard);
    if (leader < 0) return UINT32_MAX;
    struct consensus_group g;
    consensus_group(group_shard(&world, (uint32_t)leader, shard)->consensus, world.mono_ms, &g);
    uint32_t voters = 0;
    for (uint32_t i = 0; i < g.count; i++) voters += g.servers[i].role == CONSENSUS_VOTER;
    return voters;
}

/* The groups have at least so many voters all the while. */
static void await_placement(uint32_t voters_min) {
    for (int i = 0; i < 30000; i++) {
        if (is_as_placed(0) && is_as_placed(1)) return;
        for (uint32_t shard = 0; shard < GROUP_SHARDS; shard++)
            assert_true(voters_of(shard) >= voters_min);
        group_run(&world, 1);
    }
    group_print(&world);
    fail_msg("the group does not become what it shall be");
}

static void await_lead(uint32_t node) {
    for (int i = 0; i < 30000; i++) {
        if (group_leader(&world, 0) == (int)node && group_leader(&world, 1) == (int)node) return;
        group_run(&world, 1);
    }
    group_print(&world);
    fail_msg("node %u does not lead", node);
}

static void test_a_group_moves_to_other_nodes(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 20);
    group_start_node(w, 3);
    group_start_node(w, 4);
    place(0, 3, 4);
    await_placement(0);
    orders_place_some(w, &done, 10);
    group_crash_node(w, 1);
    group_crash_node(w, 2);
    group_crash_node(w, 0);
    w->nodes = 5; /* whom the leader has to be known to */
    orders_place_some(w, &done, 10);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

/* M9: who lives keeps its vote until another one has got it. */
static void test_what_lives_is_replaced_by_adding_first(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 20);
    group_start_node(w, 3);
    group_start_node(w, 4);
    place(0, 3, 4);
    await_placement(3);
    orders_assert(w, &done);
}

static void test_a_dead_replica_is_replaced(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 20);
    group_crash_node(w, 1);
    group_start_node(w, 4);
    place(0, 2, 4);
    await_placement(0);
    group_crash_node(w, 0); /* two of the three that are left */
    orders_place_some(w, &done, 10);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

/* The leader's own place is elsewhere: it hands over, and is removed by the next one. */
static void test_a_leader_that_shall_not_belong_goes(void **state) {
    (void)state;
    struct group_world *w = &world;
    uint32_t leader = group_await_leader(w, 0);
    group_start_node(w, 3);
    place((leader + 1) % 3, (leader + 2) % 3, 3);
    orders_place_some(w, &done, 20);
    await_placement(0);
    assert_int_not_equal(group_await_leader(w, 0), leader);
    group_crash_node(w, leader);
    orders_place_some(w, &done, 10);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

static void test_the_preferred_node_leads(void **state) {
    (void)state;
    struct group_world *w = &world;
    for (uint32_t node = 0; node < 3; node++) {
        placement.preferred = server(node);
        place(0, 1, 2);
        await_lead(node);
        orders_place_some(w, &done, 4);
        placement.drained[0] = server(node); /* the wish gives way */
        placement.drained_count = 1;
        place(0, 1, 2);
        for (int i = 0; i < 20000 && group_leader(w, 0) == (int)node; i++) group_run(w, 1);
        assert_int_not_equal(group_await_leader(w, 0), node);
        placement.drained_count = 0;
    }
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

/* Node 1 leads, as it shall, and there are orders. */
static void let_the_preferred_lead(void) {
    placement.preferred = server(1);
    place(0, 1, 2);
    await_lead(1);
    orders_place_some(&world, &done, 10);
}

/* Turns would wait for one that has only just come back. */
static void test_the_preferred_node_keeps_up_first(void **state) {
    (void)state;
    struct group_world *w = &world;
    let_the_preferred_lead();
    group_crash_node(w, 1);
    orders_place_some(w, &done, 40);
    uint32_t leader = group_await_leader(w, 0);
    uint64_t transfers = group_shard(w, leader, 0)->stats.transfers;
    group_start_node(w, 1);
    for (int i = 0; i < 2000; i++) {
        group_run(w, 1);
        assert_int_equal(group_leader(w, 0), leader);
        assert_int_equal(group_shard(w, leader, 0)->steward.target, 0);
    }
    await_lead(1);
    assert_int_equal(group_shard(w, leader, 0)->stats.transfers, transfers + 1);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

static void test_a_node_that_stops_hands_over_first(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 10);
    uint32_t leader = group_await_leader(w, 0);
    struct shard *s = group_shard(w, leader, 0);
    uint64_t term = consensus_term(s->consensus);
    shard_hand_over(s);
    for (int i = 0; i < 1000 && group_leader(w, 0) == (int)leader; i++) group_run(w, 1);
    assert_int_not_equal(group_await_leader(w, 0), leader);
    assert_int_equal(consensus_term(s->consensus), term + 1); /* elected at once */
    shard_drain(s);
    for (int i = 0; i < 5000 && !shard_is_drained(s); i++) group_run(w, 1);
    assert_true(shard_is_drained(s));
    orders_assert(w, &done);
}

/* As long as it is there it is not given back what it gave away, although it is preferred; once it
 * has been away it is. */
static void test_who_stops_is_left_alone(void **state) {
    (void)state;
    struct group_world *w = &world;
    let_the_preferred_lead();
    uint64_t transfers = 0;
    shard_hand_over(group_shard(w, 1, 0));
    for (int i = 0; i < 1000 && group_leader(w, 0) == 1; i++) group_run(w, 1);
    uint32_t leader = group_await_leader(w, 0);
    assert_int_not_equal(leader, 1);
    for (int i = 0; i < 6000; i++) {
        group_run(w, 1);
        assert_int_equal(group_leader(w, 0), leader);
    }
    transfers = group_shard(w, leader, 0)->stats.transfers;
    group_crash_node(w, 1);
    orders_place_some(w, &done, 4);
    group_run(w, 1000);
    group_start_node(w, 1);
    shard_place(group_shard(w, 1, 0), &placement);
    shard_place(group_shard(w, 1, 1), &placement);
    int64_t serves_since = group_shard(w, leader, 0)->serving_since_ms;
    await_lead(1);
    /* Of the world's clock: not only when the time of those who stay is over. */
    assert_true(group_shard(w, leader, 0)->mono_ms - serves_since < 14000);
    assert_int_equal(group_shard(w, leader, 0)->stats.transfers, transfers + 1);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

/* Nothing is lost, and nothing waits for longer than the hand-over takes. */
static void test_a_hand_over_under_load(void **state) {
    (void)state;
    struct group_world *w = &world;
    static struct ask asks[600];
    struct command commands[600];
    uint32_t before = group_await_leader(w, 0), changes = 0;
    for (uint32_t i = 0; i < 600; i++) {
        uint32_t leader = group_await_leader(w, 0);
        changes += leader != before;
        before = leader;
        commands[i] = world_place(&w->names, world_key(&w->names, 0), "s1");
        assert_true(group_offer(w, leader, &asks[i], &commands[i]));
        if (i % 150 == 50) shard_hand_over(group_shard(w, leader, 0));
        group_run(w, 1);
    }
    group_run(w, 2000);
    for (uint32_t i = 0; i < 600; i++) {
        assert_true(asks[i].answered);
        if (asks[i].result.code == RESULT_OK) {
            done.keys[done.count] = commands[i].subject;
            done.versions[done.count++] = asks[i].result.version;
        } else {
            assert_int_equal(asks[i].result.code, RESULT_NOT_LEADER); /* all decided is committed */
        }
    }
    assert_true(done.count > 500);
    assert_int_equal(changes, 4);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

static void test_a_leader_without_room_hands_over(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 10);
    uint32_t leader = group_await_leader(w, 0);
    storage_memory_set_full(w->replicas[leader][0].disk, true);
    struct ask ask;
    struct command c = world_place(&w->names, world_key(&w->names, 0), "s1");
    assert_true(group_offer(w, leader, &ask, &c));
    group_run(w, 500);
    assert_true(ask.answered); /* the two others have it on disk */
    assert_int_equal(ask.result.code, RESULT_OK);
    done.keys[done.count] = c.subject;
    done.versions[done.count++] = ask.result.version;
    for (int i = 0; i < 8000 && group_leader(w, 0) == (int)leader; i++) group_run(w, 1);
    assert_int_not_equal(group_await_leader(w, 0), leader);
    orders_place_some(w, &done, 10);
    storage_memory_set_full(w->replicas[leader][0].disk, false);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

/* What is to be written is nowhere: nobody else could lead, and no turn waits for it. */
static void test_a_leader_stays_where_no_disk_has_room(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 10);
    uint32_t leader = group_await_leader(w, 0);
    for (uint32_t n = 0; n < 3; n++) storage_memory_set_full(w->replicas[n][0].disk, true);
    static struct ask ask, read;
    struct command c = world_place(&w->names, world_key(&w->names, 0), "s1");
    assert_true(group_offer(w, leader, &ask, &c));
    placement.preferred = server((leader + 1) % 3);
    place(0, 1, 2);
    for (int i = 0; i < 12000; i++) {
        group_run(w, 1);
        assert_int_equal(group_shard(w, leader, 0)->steward.target, 0);
    }
    assert_false(ask.answered);
    assert_int_equal(group_leader(w, 0), leader);
    struct command get = {0};
    for (uint32_t i = 0; i < done.count; i++) {
        get = world_command(&w->names, COMMAND_GET, done.keys[i]);
        if (group_shard_of(w, &get) == 0) break;
    }
    assert_int_equal(group_shard_of(w, &get), 0);
    assert_true(group_offer(w, leader, &read, &get));
    group_run(w, 500);
    assert_true(read.answered);
    assert_int_equal(read.result.code, RESULT_OK);
    for (uint32_t n = 0; n < 3; n++) storage_memory_set_full(w->replicas[n][0].disk, false);
    group_run(w, 2000);
    assert_true(ask.answered);
    assert_int_equal(ask.result.code, RESULT_OK);
    done.keys[done.count] = c.subject;
    done.versions[done.count++] = ask.result.version;
    orders_place_some(w, &done, 10);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

/* It leads, and its own barrier finds no room: nobody serves meanwhile. */
static void test_a_lead_that_cannot_begin_goes_back_at_once(void **state) {
    (void)state;
    struct group_world *w = &world;
    uint32_t full = group_await_leader(w, 0), giver = (full + 1) % 3;
    placement.drained[placement.drained_count++] = server((full + 2) % 3);
    place(0, 1, 2);
    group_run(w, 100);
    shard_hand_over(group_shard(w, full, 0));
    for (int i = 0; i < 5000 && group_leader(w, 0) != (int)giver; i++) group_run(w, 1);
    assert_int_equal(group_leader(w, 0), giver);
    storage_memory_set_full(w->replicas[full][0].disk, true);
    shard_hand_over(group_shard(w, giver, 0));
    for (int i = 0; i < 5000 && group_leader(w, 0) == (int)giver; i++) group_run(w, 1);
    group_run(w, 6000);
    assert_int_equal(group_leader(w, 0), giver);
    storage_memory_set_full(w->replicas[full][0].disk, false);
    orders_place_some(w, &done, 4);
    orders_assert(w, &done);
}

/* It is a few entries behind, and stays so: turns do not stop for it, again and again. */
static void test_a_preferred_node_without_room_is_left_alone(void **state) {
    (void)state;
    struct group_world *w = &world;
    placement.preferred = server(1);
    place(0, 1, 2);
    await_lead(1);
    storage_memory_set_full(w->replicas[1][0].disk, true);
    struct ask ask;
    struct command c = world_place(&w->names, world_key(&w->names, 0), "s1");
    assert_true(group_offer(w, 1, &ask, &c));
    for (int i = 0; i < 8000 && group_leader(w, 0) == 1; i++) group_run(w, 1);
    uint32_t leader = group_await_leader(w, 0), stopped = 0;
    assert_int_not_equal(leader, 1);
    for (int i = 0; i < 3; i++) orders_place(w, &done, 0, "s1");
    for (int i = 0; i < 60000; i++) {
        group_run(w, 1);
        stopped += group_shard(w, leader, 0)->steward.target != 0;
    }
    assert_int_equal(group_leader(w, 0), leader);
    assert_int_equal(stopped, 0);
    storage_memory_set_full(w->replicas[1][0].disk, false);
    await_lead(1);
    orders_assert(w, &done);
}

static uint64_t transfers_of(uint32_t shard) {
    uint64_t sum = 0;
    for (uint32_t n = 0; n < 3; n++) sum += group_shard(&world, n, shard)->stats.transfers;
    return sum;
}

/* What is to be written has all been written, so that nobody knows whose disk has room: one try is
 * made at once, the next one after a while, and not with the one that the lead came from. */
static void test_a_lead_does_not_go_round_full_disks(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 10);
    uint32_t first = group_await_leader(w, 0);
    uint64_t before = transfers_of(0);
    for (uint32_t n = 0; n < 3; n++) group_shard(w, n, 0)->disk_full = true;
    group_run(w, 30000);
    assert_int_equal(transfers_of(0) - before, 1);
    uint32_t second = group_await_leader(w, 0), third = 3 - first - second;
    assert_int_not_equal(second, first);
    group_shard(w, third, 0)->disk_full = false;
    group_run(w, 300000);
    assert_int_equal(group_await_leader(w, 0), third);
    assert_int_equal(transfers_of(0) - before, 2);
    for (uint32_t n = 0; n < 3; n++) group_shard(w, n, 0)->disk_full = false;
    orders_place_some(w, &done, 10);
    orders_assert(w, &done);
}

static void test_who_lags_too_far_is_sent_the_state(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 20);
    uint32_t node = (group_await_leader(w, 0) + 1) % 3;
    group_crash_node(w, node);
    for (int i = 0; i < 10; i++) {
        orders_place_some(w, &done, 8);
        group_run(w, 700);
    }
    assert_int_equal(w->snapshots, 0);
    group_start_node(w, node);
    orders_place_some(w, &done, 8);
    orders_assert_stores(w, &done);
    assert_true(w->snapshots >= 2);
    assert_true(group_shard(w, node, 0)->stats.snapshots_installed > 0);
    /* It is as good as any other: from disk too, and as the leader. */
    group_crash_node(w, node);
    group_start_node(w, node);
    placement.preferred = server(node);
    place(0, 1, 2);
    await_lead(node);
    orders_assert(w, &done);
    for (uint32_t n = 0; n < done.count; n += 7) { /* some of it lies in the gap of its log */
        struct command c = world_command(&w->names, COMMAND_HISTORY, done.keys[n]);
        assert_int_equal(group_ask(w, &c).code, RESULT_OK);
    }
    orders_place_some(w, &done, 8);
    orders_assert_stores(w, &done);
}

/* There is no room for the state: the replica waits, and then goes on. */
static void test_a_state_waits_for_room(void **state) {
    (void)state;
    struct group_world *w = &world;
    uint32_t node = (group_await_leader(w, 0) + 1) % 3;
    group_crash_node(w, node);
    for (int i = 0; i < 10; i++) {
        orders_place_some(w, &done, 8);
        group_run(w, 700);
    }
    group_start_node(w, node);
    storage_memory_set_full(w->replicas[node][0].disk, true);
    group_run(w, 5000);
    orders_place_some(w, &done, 8);
    storage_memory_set_full(w->replicas[node][0].disk, false);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_group_moves_to_other_nodes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_lives_is_replaced_by_adding_first, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_dead_replica_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_leader_that_shall_not_belong_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_preferred_node_leads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_preferred_node_keeps_up_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_stops_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_node_that_stops_hands_over_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_hand_over_under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_leader_without_room_hands_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_leader_stays_where_no_disk_has_room, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_lead_that_cannot_begin_goes_back_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_preferred_node_without_room_is_left_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_lead_does_not_go_round_full_disks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_lags_too_far_is_sent_the_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_state_waits_for_room, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
