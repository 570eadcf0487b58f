/* The level of a cluster, in a program that can work at two (tests/process/next_program.c). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "actors/order/order_event.h"
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

static uint16_t raise_level(uint8_t level, const uint32_t *nodes, uint32_t count) {
    struct command c = cluster_world_command(&world, COMMAND_CLUSTER_RAISE_LEVEL);
    c.cluster = (struct command_cluster){.level = level, .supporting = nodes,
                                         .supporting_count = count};
    return cluster_world_run(&world, &c).code;
}

static uint8_t level(void) { return cluster_world_document(&world)->level; }

static void every_node_has_to_be_named(void **unused) {
    static const uint32_t nodes[] = {1, 2, 3, 4};
    assert_int_equal(raise_level(2, nodes, 3), RESULT_CLUSTER_NOT_FORMED);
    cluster_world_formed(&world, 3, 2, 3);
    assert_int_equal(level(), 0);
    assert_int_equal(raise_level(2, nodes, 0), RESULT_CLUSTER_LEVEL_UNSUPPORTED);
    assert_int_equal(raise_level(2, nodes, 2), RESULT_CLUSTER_LEVEL_UNSUPPORTED);
    assert_int_equal(raise_level(2, nodes + 1, 3), RESULT_CLUSTER_LEVEL_UNSUPPORTED);
    assert_int_equal(raise_level(3, nodes, 3), RESULT_CLUSTER_LEVEL_UNSUPPORTED);
    assert_int_equal(raise_level(1, nodes, 3), RESULT_CLUSTER_NOTHING_TO_DO);
    assert_int_equal(raise_level(0, nodes, 3), RESULT_CLUSTER_NOTHING_TO_DO);
    assert_int_equal(level(), 0);
    assert_int_equal(raise_level(2, nodes, 4), RESULT_OK); /* one too many does no harm */
    assert_int_equal(level(), 2);
    assert_int_equal(raise_level(2, nodes, 3), RESULT_CLUSTER_NOTHING_TO_DO);
    assert_int_equal(raise_level(1, nodes, 3), RESULT_CLUSTER_NOTHING_TO_DO); /* never sinks */
}

static void removed_nodes_do_not_count(void **unused) {
    static const uint32_t nodes[] = {2, 3, 4};
    cluster_world_formed(&world, 4, 2, 3);
    struct command c = cluster_world_command(&world, COMMAND_CLUSTER_REMOVE_NODE);
    c.cluster = (struct command_cluster){.node = 1};
    assert_int_equal(cluster_world_run(&world, &c).code, RESULT_OK);
    assert_int_equal(raise_level(2, nodes, 3), RESULT_OK);
    assert_int_equal(level(), 2);
    /* It stays what it is, whatever else changes. */
    c = cluster_world_command(&world, COMMAND_CLUSTER_DRAIN);
    c.cluster = (struct command_cluster){.node = 2};
    assert_int_equal(cluster_world_run(&world, &c).code, RESULT_OK);
    assert_int_equal(level(), 2);
}

static void a_cluster_may_begin_above_the_first(void **unused) {
    struct command form = cluster_world_form(&world, 3, 2, 3);
    form.cluster.level = 2;
    assert_int_equal(cluster_world_run(&world, &form).code, RESULT_OK);
    assert_int_equal(level(), 2);
}

/* What was there before the cluster had levels is at the first one. */
static void events_are_written_by_the_level(void **unused) {
    assert_int_equal(order_event_schema(0), 1);
    assert_int_equal(order_event_schema(1), 1);
    assert_int_equal(order_event_schema(2), 2);
    assert_true(order_event_schema_is_known(1) && order_event_schema_is_known(2));
    assert_false(order_event_schema_is_known(0) || order_event_schema_is_known(3));
    assert_true(program_can(0) && program_can(1) && program_can(2));
    assert_false(program_can(3) || program_can(1000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_node_has_to_be_named, setup, teardown),
        cmocka_unit_test_setup_teardown(removed_nodes_do_not_count, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cluster_may_begin_above_the_first, setup, teardown),
        cmocka_unit_test(events_are_written_by_the_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
