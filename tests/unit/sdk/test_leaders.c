/* Several nodes: calls find the leader of their shard, however it moves. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "tests/unit/sdk/fake_calls.h"
#include "tests/unit/sdk/fake_engine.h"

/* What a node of the test does; filled before it starts. Scripts run one at a time per node, beside
 * the test: what it wrote is read when nothing is under way, or when its engine has stopped. */
struct node {
    struct fake_engine *engine;
    int code;                /* 0 = done */
    const char *leader;      /* told with a refusal */
    uint32_t refusals;       /* so often; then all is done */
    atomic_uint seen;
    jumun_key ids[8];        /* of the first messages */
    jumun_key last;
};

static void scripted(void *arg, struct fake_message *m) {
    struct node *n = arg;
    uint32_t seen = atomic_fetch_add(&n->seen, 1);
    n->last = m->commands[0].id;
    if (seen < 8) n->ids[seen] = n->last;
    if (seen >= n->refusals) return;
    for (uint32_t i = 0; i < m->count; i++) m->codes[i] = n->code;
    m->leader = n->leader;
}

static void start(struct node *n, const char *name) {
    n->engine = fake_engine_start(name, 1, scripted, n);
}

/* Also before what it wrote is read. */
static void stop(struct node *n) {
    if (n->engine) fake_engine_stop(n->engine);
    n->engine = NULL;
}

static void test_the_hint_of_a_refusal_is_followed(void **state) {
    struct node a = {.code = RESULT_NOT_LEADER, .leader = "inproc://l1b-0", .refusals = UINT32_MAX};
    struct node b = {0};
    start(&a, "l1a");
    start(&b, "l1b");
    jumun_client *c = open_client("inproc://l1a", &patient);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    jumun_close(c);
    stop(&a);
    stop(&b);
    assert_true(a.seen >= 1);
    assert_int_equal(b.seen, 1);
    assert_memory_equal(&a.last, &b.ids[0], sizeof(jumun_key)); /* the same command */
}

static void test_a_map_that_moved_leads_to_the_new_place(void **state) {
    struct node a = {.code = RESULT_NOT_LEADER, .refusals = UINT32_MAX};
    struct node b = {0};
    start(&a, "l2a");
    start(&b, "l2b");
    fake_engine_move_shard(a.engine, 0, "inproc://l2b-0");
    jumun_client *c = open_client("inproc://l2a", &patient);
    jumun_result r;
    for (int i = 0; i < 20; i++) assert_int_equal(ready(c, &r), JUMUN_OK);
    jumun_close(c);
    stop(&a);
    stop(&b);
    assert_int_equal(b.seen, 20);
}

static void test_a_node_that_is_away_does_not_matter(void **state) {
    struct node b = {0};
    start(&b, "l3b");
    jumun_client *c = open_client("inproc://l3-is-not-there,inproc://l3b", &patient);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_int_equal(jumun_ping(c, 60000), JUMUN_OK);
    jumun_close(c);
    stop(&b);
}

/* No attempt ends by its own time here: only the suspicion can help. The second node starts late:
 * whichever is there first serves. */
static void test_a_node_that_hangs_is_left(void **state) {
    struct node a = {0}, b = {0};
    start(&a, "l4a");
    jumun_client *c = open_client("inproc://l4a,inproc://l4b", &patient);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    assert_int_equal(a.seen, 1);
    fake_engine_freeze(a.engine);
    start(&b, "l4b");
    assert_int_equal(ready(c, &r), JUMUN_OK);
    jumun_close(c);
    stop(&a);
    stop(&b);
    assert_true(a.seen >= 2);
    assert_int_equal(b.seen, 1);
    assert_memory_equal(&a.last, &b.ids[0], sizeof(jumun_key));
}

static void on_end(void *arg, const jumun_result *result, const void *value, size_t value_bytes) {
    (void)value;
    (void)value_bytes;
    atomic_store((atomic_int *)arg, result->code);
}

/* It answers, and knows of no leader, however often it is asked. The other one starts when the
 * first was asked. */
static void test_a_node_that_is_cut_off_is_left(void **state) {
    struct node a = {.code = RESULT_NOT_LEADER, .refusals = UINT32_MAX}, b = {0};
    start(&a, "l8a");
    fake_engine_move_shard(a.engine, 0, "");
    jumun_client *c = open_client("inproc://l8a,inproc://l8b", &patient);
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new()};
    atomic_int code = -1;
    assert_int_equal(jumun_submit(c, &command, on_end, &code), JUMUN_OK);
    assert_true(fake_engine_await_messages(a.engine, 1));
    start(&b, "l8b");
    assert_true(fake_engine_await_messages(b.engine, 1));
    for (int i = 0; i < 60000 && atomic_load(&code) == -1; i++) usleep(1000);
    assert_int_equal(atomic_load(&code), JUMUN_OK);
    jumun_close(c);
    stop(&a);
    stop(&b);
    assert_true(a.seen >= 1);
    assert_int_equal(b.seen, 1);
    assert_memory_equal(&a.ids[0], &b.ids[0], sizeof(jumun_key));
}

static void test_lost_leadership_is_asked_again_under_the_same_id(void **state) {
    struct node a = {.code = RESULT_LEADERSHIP_LOST, .refusals = 2};
    start(&a, "l5a");
    jumun_client *c = open_client("inproc://l5a", &patient);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    jumun_close(c);
    stop(&a);
    assert_int_equal(a.seen, 3);
    assert_memory_equal(&a.ids[0], &a.ids[2], sizeof(jumun_key));
    assert_memory_equal(&r.id, &a.ids[0], sizeof(jumun_key));
}

/* A call that had not even its first answer in its time has another end: then with more time. */
static void test_lost_leadership_to_the_end_leaves_the_outcome_open(void **state) {
    struct node a = {.code = RESULT_LEADERSHIP_LOST, .refusals = UINT32_MAX};
    start(&a, "l6a");
    jumun_client *c = open_client("inproc://l6a", &patient);
    int code = 0;
    for (uint32_t ms = 200; a.seen < 2 && ms <= 60000; ms *= 2) {
        code = ready_within(c, ms);
        assert_true(code == JUMUN_OUTCOME_UNKNOWN || code == JUMUN_NOT_SENT);
    }
    assert_int_equal(code, JUMUN_OUTCOME_UNKNOWN);
    for (uint32_t ms = 200; code != RESULT_LEADERSHIP_LOST && ms <= 60000; ms *= 2) {
        jumun_command get = {.kind = JUMUN_GET, .order = jumun_key_new(),
                             .options = {.timeout_ms = ms}};
        code = jumun_call(c, &get, NULL, NULL, NULL);
    }
    assert_int_equal(code, RESULT_LEADERSHIP_LOST); /* no doubt: it only reads */
    jumun_close(c);
    stop(&a);
}

static void test_two_nodes_that_name_each_other_end_in_time(void **state) {
    struct node a = {.code = RESULT_NOT_LEADER, .leader = "inproc://l7b-0", .refusals = UINT32_MAX};
    struct node b = {.code = RESULT_NOT_LEADER, .leader = "inproc://l7a-0", .refusals = UINT32_MAX};
    start(&a, "l7a");
    start(&b, "l7b");
    jumun_client *c = open_client("inproc://l7a,inproc://l7b", &patient);
    int code = 0;
    uint32_t all_ms = 0;
    for (uint32_t ms = 300; code != RESULT_NOT_LEADER && ms <= 60000; ms *= 2) {
        code = ready_within(c, ms);
        assert_int_not_equal(code, JUMUN_OK);
        all_ms += ms;
    }
    assert_int_equal(code, RESULT_NOT_LEADER);
    jumun_close(c);
    stop(&a);
    stop(&b);
    assert_true(a.seen + b.seen > 2);
    assert_true(a.seen + b.seen < all_ms); /* not as fast as they can */
}

/* A leader that hangs is followed, at its address, by an empty node that waits for a cluster: which
 * knows nothing of what the first one may have done. */
struct emptied { atomic_uint seen; atomic_bool waits; };

static void hang_then_wait(void *arg, struct fake_message *m) {
    struct emptied *n = arg;
    if (!atomic_load(&n->waits)) m->action = FAKE_DROP;
    for (uint32_t i = 0; i < m->count; i++) m->codes[i] = RESULT_CLUSTER_NOT_FORMED;
    atomic_fetch_add(&n->seen, 1);
}

static void test_a_node_that_waits_for_a_cluster_refuses_for_itself_alone(void **state) {
    static const jumun_options options = {.timeout_ms = 120000, .attempt_timeout_ms = 500};
    struct emptied a = {0};
    struct node b = {0};
    struct fake_engine *first = fake_engine_start("l9a", 1, hang_then_wait, &a);
    jumun_client *c = open_client("inproc://l9a,inproc://l9b", &options);
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new()};
    atomic_int code = -1;
    assert_int_equal(jumun_submit(c, &command, on_end, &code), JUMUN_OK);
    assert_true(fake_engine_await_messages(first, 1));
    fake_engine_move_shard(first, 0, "");
    atomic_store(&a.waits, true);
    assert_true(fake_engine_await_messages(first, 3));
    assert_int_equal(atomic_load(&code), -1);
    start(&b, "l9b");
    for (int i = 0; i < 60000 && atomic_load(&code) == -1; i++) usleep(1000);
    assert_int_equal(atomic_load(&code), JUMUN_OK);
    jumun_close(c);
    fake_engine_stop(first);
    stop(&b);
    assert_true(b.seen >= 1);
    assert_memory_equal(&b.ids[0], &b.last, sizeof(jumun_key));
}

/* It is never "refused" once an attempt got no answer, and it is when all of them did. */
static void test_a_node_that_waits_to_the_end_leaves_the_outcome_open(void **state) {
    for (int doubt = 0; doubt <= 1; doubt++) {
        struct emptied a = {.waits = !doubt};
        const char *name = doubt ? "l10a" : "l10b";
        char address[32];
        snprintf(address, sizeof address, "inproc://%s", name);
        struct fake_engine *only = fake_engine_start(name, 1, hang_then_wait, &a);
        jumun_client *c =
            open_client(address, &(jumun_options){.attempt_timeout_ms = doubt ? 500 : 120000});
        int ends = -1;
        /* With more time when it had not even come as far as this in its time, or when its time
         * was over in the midst of an attempt. */
        for (uint32_t ms = 2000; ms <= 64000; ms *= 2) {
            jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new(),
                                     .options = {.timeout_ms = ms}};
            atomic_int code = -1;
            uint32_t before = atomic_load(&a.seen);
            atomic_store(&a.waits, !doubt);
            assert_int_equal(jumun_submit(c, &command, on_end, &code), JUMUN_OK);
            for (int i = 0; i < 120000 && atomic_load(&code) == -1; i++) {
                if (atomic_load(&a.seen) > before) atomic_store(&a.waits, true);
                usleep(1000);
            }
            ends = atomic_load(&code);
            if (atomic_load(&a.seen) >= before + 2 &&
                (doubt || ends == RESULT_CLUSTER_NOT_FORMED))
                break;
        }
        assert_int_equal(ends, doubt ? JUMUN_OUTCOME_UNKNOWN : RESULT_CLUSTER_NOT_FORMED);
        jumun_close(c);
        fake_engine_stop(only);
    }
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
        cmocka_unit_test(test_a_node_that_waits_for_a_cluster_refuses_for_itself_alone),
        cmocka_unit_test(test_a_node_that_waits_to_the_end_leaves_the_outcome_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
