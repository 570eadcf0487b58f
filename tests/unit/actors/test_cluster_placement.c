/* Where replicas and leads go: balanced, the same every time, and no more moved than it takes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "actors/cluster/cluster_placement.h"
#include "engine/base/prng.h"
#include "tests/unit/actors/cluster_world.h"

static struct cluster_world world;

static int setup(void **unused) {
    cluster_world_init(&world);
    return 0;
}
static int teardown(void **unused) {
    cluster_world_fini(&world);
    return 0;
}

static uint32_t load(const struct cluster_document *d, uint32_t node, bool lead) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->shards_count; i++) {
        if (d->shards[i].state != CLUSTER_SHARD_ACTIVE) continue;
        if (lead ? d->shards[i].preferred == node : cluster_server_on(&d->shards[i], node) != 0)
            count++;
    }
    return count;
}

/* The difference between the active node with the most and the one with the least. */
static uint32_t spread(const struct cluster_document *d, bool lead) {
    uint32_t most = 0, least = UINT32_MAX;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (d->nodes[i].state != CLUSTER_MEMBER_ACTIVE) continue;
        uint32_t n = load(d, d->nodes[i].node, lead);
        if (n > most) most = n;
        if (n < least) least = n;
    }
    return most - least;
}

static void a_new_cluster_is_even(void **unused) {
    for (uint32_t nodes = 3; nodes <= 12; nodes++) {
        for (uint32_t shards = 1; shards <= 20; shards++) {
            setup(NULL);
            cluster_world_formed(&world, nodes, shards, nodes >= 5 && shards % 2 ? 5 : 3);
            const struct cluster_document *d = cluster_world_document(&world);
            assert_true(spread(d, false) <= 1);
            assert_true(spread(d, true) <= 1);
            /* The meta group is on the first nodes. */
            const struct cluster_shard *meta = cluster_shard_find(d, SHARD_META);
            for (uint32_t i = 0; i < meta->servers_count; i++)
                assert_int_equal(meta->servers[i], i + 1);
            teardown(NULL);
        }
    }
}

static void three_nodes_share_three_shards(void **unused) {
    cluster_world_formed(&world, 3, 2, 3);
    const struct cluster_document *d = cluster_world_document(&world);
    assert_int_equal(d->shards[2].shard, SHARD_META);
    assert_int_equal(d->shards[2].preferred, 1);
    assert_int_equal(d->shards[0].preferred, 2);
    assert_int_equal(d->shards[1].preferred, 3);
}

/* As many replicas move to new nodes as they lack, and none between old ones. */
static void balancing_moves_no_more_than_it_takes(void **unused) {
    cluster_world_formed(&world, 3, 11, 3);
    for (uint32_t n = 4; n <= 6; n++) {
        struct command add = cluster_world_command(&world, COMMAND_CLUSTER_ADD_NODE);
        add.cluster.peer = cluster_world_peer(n);
        add.cluster.client = cluster_world_client(n);
        assert_int_equal(cluster_world_run(&world, &add).code, RESULT_OK);
    }
    struct cluster_document before = *cluster_world_document(&world);
    struct command balance = cluster_world_command(&world, COMMAND_CLUSTER_BALANCE);
    assert_int_equal(cluster_world_run(&world, &balance).code, RESULT_OK);
    const struct cluster_document *d = cluster_world_document(&world);
    assert_int_equal(spread(d, false), 0); /* 36 replicas on 6 nodes */
    assert_int_equal(spread(d, true), 0);
    uint32_t moved = 0;
    for (uint32_t i = 0; i < d->shards_count; i++)
        for (uint32_t node = 1; node <= 3; node++)
            if (cluster_server_on(&before.shards[i], node) &&
                !cluster_server_on(&d->shards[i], node))
                moved++;
    assert_int_equal(moved, 18);
    balance = cluster_world_command(&world, COMMAND_CLUSTER_BALANCE);
    assert_int_equal(cluster_world_run(&world, &balance).code, RESULT_CLUSTER_NOTHING_TO_DO);
}

/* Node 1 leads too many, node 3 too few, and they share no shard: the lead goes over node 2. */
static void leads_go_over_other_nodes(void **unused) {
    struct cluster_document d = {.nodes_count = 4, .node_last = 4, .shards_count = 4};
    for (uint32_t i = 0; i < 4; i++) {
        d.nodes[i] = (struct cluster_member){.node = i + 1, .state = CLUSTER_MEMBER_ACTIVE};
        d.shards[i] = (struct cluster_shard){.shard = i, .state = CLUSTER_SHARD_ACTIVE,
                                             .preferred = i < 3 ? 1 : 2, .servers_count = 3};
        const uint64_t servers[2][3] = {{1, 2, 4}, {2, 3, 4}};
        memcpy(d.shards[i].servers, servers[i < 3 ? 0 : 1], sizeof servers[0]);
    }
    d.nodes[3].state = CLUSTER_MEMBER_DRAINING; /* gets none */
    assert_int_equal(cluster_balance_leads(&d), 2);
    assert_int_equal(load(&d, 1, true), 2);
    assert_int_equal(load(&d, 2, true), 1);
    assert_int_equal(load(&d, 3, true), 1);
    assert_int_equal(cluster_balance_leads(&d), 0);
}

static void a_move_gives_an_id_that_never_was(void **unused) {
    struct cluster_shard s = {.servers_count = 3, .servers = {1, 2, 3}, .preferred = 2};
    cluster_move_replica(&s, 2, 9);
    assert_int_equal(s.servers[2], 1ULL << 32 | 9);
    assert_int_equal(s.preferred, 9);
    cluster_move_replica(&s, 9, 2);
    assert_int_equal(s.servers[1], 2ULL << 32 | 2);
    assert_int_equal(s.servers[2], 3);
    assert_int_equal(s.incarnation_last, 2);
}

/* Whatever was moved by hand before: afterwards it is as even as it can be, and no node has two
 * replicas of a shard. */
static void any_cluster_can_be_evened_out(void **unused) {
    struct prng prng;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        setup(NULL);
        prng_seed(&prng, seed);
        uint32_t nodes = 4 + prng_below(&prng, 6);
        cluster_world_formed(&world, nodes, 1 + prng_below(&prng, 24), 3);
        for (uint32_t i = 0; i < 60; i++) {
            struct command move = cluster_world_command(&world, COMMAND_CLUSTER_MOVE_REPLICA);
            move.cluster.shard = prng_below(&prng, 24);
            move.cluster.node = 1 + prng_below(&prng, nodes);
            move.cluster.to = 1 + prng_below(&prng, 3); /* all to a few */
            cluster_world_run(&world, &move);
        }
        struct command balance = cluster_world_command(&world, COMMAND_CLUSTER_BALANCE);
        cluster_world_run(&world, &balance);
        assert_true(spread(cluster_world_document(&world), false) <= 1);
        assert_true(spread(cluster_world_document(&world), true) <= 2);
        teardown(NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_cluster_is_even),
        cmocka_unit_test_setup_teardown(three_nodes_share_three_shards, setup, teardown),
        cmocka_unit_test_setup_teardown(balancing_moves_no_more_than_it_takes, setup, teardown),
        cmocka_unit_test(leads_go_over_other_nodes),
        cmocka_unit_test(a_move_gives_an_id_that_never_was),
        cmocka_unit_test(any_cluster_can_be_evened_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
