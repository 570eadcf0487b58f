/* Several nodes: calls find the leader of their shard, however it moves. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "actors/result_codes.h"
#include "tests/unit/sdk/fake_engine.h"

/* What a node of the test does; filled before it starts. Scripts run one at a time per node. */
struct node {
    struct fake_engine *engine;
    int code;                /* 0 = done */
    const char *leader;      /* told with a refusal */
    uint32_t refusals;       /* so often; then all is done */
    uint32_t seen;
    jumun_key ids[8];
};

static void scripted(void *arg, struct fake_message *m) {
    struct node *n = arg;
    if (n->seen < 8) n->ids[n->seen] = m->commands[0].id;
    if (n->seen++ >= n->refusals) return;
    for (uint32_t i = 0; i < m->count; i++) m->codes[i] = n->code;
    m->leader = n->leader;
}

static void start(struct node *n, const char *name) {
    n->engine = fake_engine_start(name, 1, scripted, n);
}

static jumun_client *open_client(const char *endpoints, const jumun_options *options) {
    char error[128] = "";
    jumun_client *c = jumun_open(endpoints, options, error, sizeof error);
    assert_string_equal(error, "");
    return c;
}

static int ready(jumun_client *c, jumun_result *r) {
    jumun_key key = jumun_key_new();
    return jumun_mark_ready(c, &key, NULL, r);
}

static void test_the_hint_of_a_refusal_is_followed(void **state) {
    struct node a = {.code = RESULT_NOT_LEADER, .leader = "inproc://l1b-0", .refusals = UINT32_MAX};
    struct node b = {0};
    start(&a, "l1a");
    start(&b, "l1b");
    jumun_client *c = open_client("inproc://l1a", NULL);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_true(a.seen >= 1);
    assert_int_equal(b.seen, 1);
    assert_memory_equal(&a.ids[a.seen - 1], &b.ids[0], sizeof(jumun_key)); /* the same command */
    jumun_close(c);
    fake_engine_stop(a.engine);
    fake_engine_stop(b.engine);
}

static void test_a_map_that_moved_leads_to_the_new_place(void **state) {
    struct node a = {.code = RESULT_NOT_LEADER, .refusals = UINT32_MAX};
    struct node b = {0};
    start(&a, "l2a");
    start(&b, "l2b");
    fake_engine_move_shard(a.engine, 0, "inproc://l2b-0");
    jumun_client *c = open_client("inproc://l2a", NULL);
    jumun_result r;
    for (int i = 0; i < 20; i++) assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_int_equal(b.seen, 20);
    jumun_close(c);
    fake_engine_stop(a.engine);
    fake_engine_stop(b.engine);
}

static void test_a_node_that_is_away_does_not_matter(void **state) {
    struct node b = {0};
    start(&b, "l3b");
    jumun_client *c = open_client("inproc://l3-is-not-there,inproc://l3b", NULL);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_int_equal(jumun_ping(c, 5000), JUMUN_OK);
    jumun_close(c);
    fake_engine_stop(b.engine);
}

/* No attempt ends by its own time here: only the suspicion can help. */
static void test_a_node_that_hangs_is_left(void **state) {
    struct node a = {0}, b = {0};
    jumun_options options = {.timeout_ms = 60000, .attempt_timeout_ms = 60000};
    start(&a, "l4a");
    start(&b, "l4b");
    jumun_client *c = open_client("inproc://l4a,inproc://l4b", &options);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_int_equal(a.seen, 1);
    fake_engine_freeze(a.engine);
    assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_int_equal(b.seen, 1);
    assert_memory_equal(&a.ids[a.seen - 1], &b.ids[0], sizeof(jumun_key));
    jumun_close(c);
    fake_engine_stop(a.engine);
    fake_engine_stop(b.engine);
}

/* It answers, and knows of no leader, however often it is asked. */
static void test_a_node_that_is_cut_off_is_left(void **state) {
    struct node a = {.code = RESULT_NOT_LEADER, .refusals = UINT32_MAX}, b = {0};
    jumun_options options = {.timeout_ms = 20000};
    start(&a, "l8a");
    start(&b, "l8b");
    fake_engine_move_shard(a.engine, 0, "");
    jumun_client *c = open_client("inproc://l8a,inproc://l8b", &options);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_true(a.seen >= 1);
    assert_int_equal(b.seen, 1);
    assert_memory_equal(&a.ids[0], &b.ids[0], sizeof(jumun_key));
    jumun_close(c);
    fake_engine_stop(a.engine);
    fake_engine_stop(b.engine);
}

static void test_lost_leadership_is_asked_again_under_the_same_id(void **state) {
    struct node a = {.code = RESULT_LEADERSHIP_LOST, .refusals = 2};
    start(&a, "l5a");
    jumun_client *c = open_client("inproc://l5a", NULL);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_int_equal(a.seen, 3);
    assert_memory_equal(&a.ids[0], &a.ids[2], sizeof(jumun_key));
    assert_memory_equal(&r.id, &a.ids[0], sizeof(jumun_key));
    jumun_close(c);
    fake_engine_stop(a.engine);
}

static void test_lost_leadership_to_the_end_leaves_the_outcome_open(void **state) {
    struct node a = {.code = RESULT_LEADERSHIP_LOST, .refusals = UINT32_MAX};
    jumun_options options = {.timeout_ms = 200};
    start(&a, "l6a");
    jumun_client *c = open_client("inproc://l6a", &options);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OUTCOME_UNKNOWN);
    assert_true(a.seen > 1);
    jumun_command get = {.kind = JUMUN_GET, .order = jumun_key_new()};
    assert_int_equal(jumun_call(c, &get, &r, NULL, NULL), RESULT_LEADERSHIP_LOST); /* no doubt */
    jumun_close(c);
    fake_engine_stop(a.engine);
}

static void test_two_nodes_that_name_each_other_end_in_time(void **state) {
    struct node a = {.code = RESULT_NOT_LEADER, .leader = "inproc://l7b-0", .refusals = UINT32_MAX};
    struct node b = {.code = RESULT_NOT_LEADER, .leader = "inproc://l7a-0", .refusals = UINT32_MAX};
    jumun_options options = {.timeout_ms = 300};
    start(&a, "l7a");
    start(&b, "l7b");
    jumun_client *c = open_client("inproc://l7a,inproc://l7b", &options);
    jumun_result r;
    assert_int_equal(ready(c, &r), RESULT_NOT_LEADER);
    assert_true(a.seen + b.seen > 2);
    assert_true(a.seen + b.seen < 300); /* not as fast as they can */
    jumun_close(c);
    fake_engine_stop(a.engine);
    fake_engine_stop(b.engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_hint_of_a_refusal_is_followed),
        cmocka_unit_test(test_a_map_that_moved_leads_to_the_new_place),
        cmocka_unit_test(test_a_node_that_is_away_does_not_matter),
        cmocka_unit_test(test_a_node_that_hangs_is_left),
        cmocka_unit_test(test_a_node_that_is_cut_off_is_left),
        cmocka_unit_test(test_lost_leadership_is_asked_again_under_the_same_id),
        cmocka_unit_test(test_lost_leadership_to_the_end_leaves_the_outcome_open),
        cmocka_unit_test(test_two_nodes_that_name_each_other_end_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
