/* A document as one node's topology. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engine/cluster/cluster_topology.h"
#include "tests/unit/cluster/cluster_documents.h"

static struct cluster_document d;
static struct cluster_topology t;

static int setup(void **unused) {
    cluster_document_example(&d);
    return 0;
}

static void everything_is_in_it(void **unused) {
    cluster_topology_fill(&t, 9, &d, 2);
    assert_int_equal(t.version, 9);
    assert_int_equal(t.node, 2);
    assert_string_equal(t.cluster_id, "c1000000000000000000000000000007");
    assert_int_equal(t.nodes_count, 3);
    assert_string_equal(t.nodes[1].peer_endpoint, "tcp://10.0.0.2:7300");
    assert_string_equal(t.nodes[1].client_endpoint, "tcp://10.0.0.2:7400");
    assert_int_equal(t.epochs_count, 1);
    assert_int_equal(t.epochs[0].shards_count, 2);
    assert_int_equal(t.stores_shards, 2);
    assert_int_equal(t.groups_count, 3);
    assert_int_equal(t.groups[2].shard, SHARD_META);
    assert_int_equal(t.groups[1].placement.count, 3);
    assert_int_equal(t.groups[1].placement.version, 9);
    assert_int_equal(t.groups[1].placement.preferred, 2);
    assert_int_equal(t.groups[1].first_servers_count, 3);
    assert_int_equal(t.groups[1].placement.drained_count, 0);
}

static void draining_nodes_do_not_lead(void **unused) {
    d.nodes[0].state = CLUSTER_MEMBER_DRAINING;
    cluster_topology_fill(&t, 9, &d, 2);
    assert_int_equal(t.groups[0].placement.drained_count, 1);
    assert_int_equal(t.groups[0].placement.drained[0], 1);
}

static void retired_shards_do_not_run(void **unused) {
    d.epochs[0].shards_count = d.stores_shards = 1;
    d.shards[1].state = CLUSTER_SHARD_RETIRED;
    assert_null(cluster_document_fault(&d));
    cluster_topology_fill(&t, 9, &d, 2);
    assert_int_equal(t.groups_count, 2);
    assert_int_equal(t.groups[1].shard, SHARD_META);
}

/* It may lead a group that is about to let go of it; but its address may have gone to another. */
static void removed_nodes_stay_until_their_address_goes_on(void **unused) {
    d.nodes_count = (uint16_t)(d.node_last = 4);
    d.nodes[3] = d.nodes[2];
    d.nodes[3].node = 4;
    d.nodes[3].peer[11] = d.nodes[3].client[11] = '9';
    d.nodes[2].state = CLUSTER_MEMBER_REMOVED;
    for (uint32_t i = 0; i < 3; i++) {
        d.shards[i].servers[2] = 1ULL << 32 | 4;
        d.shards[i].incarnation_last = 1;
        if (d.shards[i].preferred == 3) d.shards[i].preferred = 4;
    }
    assert_null(cluster_document_fault(&d));
    cluster_topology_fill(&t, 9, &d, 3);
    assert_int_equal(t.nodes_count, 4);
    memcpy(d.nodes[3].peer, d.nodes[2].peer, sizeof d.nodes[3].peer);
    assert_null(cluster_document_fault(&d));
    cluster_topology_fill(&t, 9, &d, 2);
    assert_int_equal(t.nodes_count, 3);
    assert_int_equal(t.nodes[2].node, 4);
}

/* The shards' logs know the versions of the cluster that is lost. */
static void what_was_formed_from_what_is_left_is_newer(void **unused) {
    cluster_topology_fill(&t, UINT32_MAX, &d, 2);
    assert_int_equal(t.view_version, UINT32_MAX);
    uint64_t lost = t.view_version;
    for (uint32_t times = 1; times <= UINT8_MAX; times++) {
        d.generation = (uint8_t)times;
        uint64_t alone = cluster_view_version(d.generation, 0);
        assert_true(alone > lost);
        cluster_topology_fill(&t, 1, &d, 2);
        assert_int_equal(t.version, 1);
        assert_true(t.view_version > alone);
        cluster_topology_fill(&t, UINT32_MAX, &d, 2);
        lost = t.view_version;
    }
    assert_true(lost <= INT64_MAX); /* else its event is not well formed */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everything_is_in_it, setup),
        cmocka_unit_test_setup(draining_nodes_do_not_lead, setup),
        cmocka_unit_test_setup(retired_shards_do_not_run, setup),
        cmocka_unit_test_setup(removed_nodes_stay_until_their_address_goes_on, setup),
        cmocka_unit_test_setup(what_was_formed_from_what_is_left_is_newer, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
