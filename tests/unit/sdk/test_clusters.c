/* Which cluster a client works with: it is told by the first map, messages name it, and no other
 * one's node does what is meant for it, whoever comes to stand at an address. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "actors/result_codes.h"
#include "engine/base/clock.h"
#include "tests/unit/sdk/fake_calls.h"
#include "tests/unit/sdk/fake_engine.h"

#define OURS "11111111111111111111111111111111"
#define THEIRS "22222222222222222222222222222222"

enum { CALLS = 50 };

static void count(void *arg, struct fake_message *m) {
    if (arg) atomic_fetch_add((atomic_uint *)arg, m->count);
}

static struct fake_engine *start(const char *name, const char *cluster, atomic_uint *seen) {
    struct fake_engine *e = fake_engine_start(name, 1, count, seen);
    fake_engine_be_of(e, cluster);
    return e;
}

/* A client that has met our cluster at that name, where nobody is any more. */
static jumun_client *left_alone(const char *name, const jumun_options *options) {
    char url[64];
    jumun_result r;
    snprintf(url, sizeof url, "inproc://%s", name);
    struct fake_engine *e = start(name, OURS, NULL);
    jumun_client *c = open_client(url, options);
    assert_int_equal(ready(c, &r), JUMUN_OK);
    fake_engine_stop(e);
    return c;
}

/* What a call ends with that had the time to be sent, however busy the machine is. */
static int ready_in_time(jumun_client *c, uint32_t ms) {
    int code = JUMUN_NOT_SENT;
    for (; (code == JUMUN_NOT_SENT || code == JUMUN_CIRCUIT_OPEN) && ms <= 60000; ms *= 2)
        code = ready_within(c, ms);
    return code;
}

/* A member's disk is not there when it starts again, so that it is a node alone with nothing. */
static void test_an_empty_node_at_a_members_address_gets_nothing(void **state) {
    atomic_uint a_seen = 0, b_seen = 0;
    struct fake_engine *a = start("w1a", OURS, &a_seen), *b = start("w1b", OURS, &b_seen);
    jumun_client *c = open_client("inproc://w1a,inproc://w1b", &patient);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    fake_engine_stop(a);
    unsigned before = a_seen;
    a = start("w1a", THEIRS, &a_seen);
    for (int i = 0; i < CALLS; i++) assert_int_equal(ready(c, &r), JUMUN_OK);
    jumun_close(c);
    assert_int_equal(a_seen, before);
    assert_true(b_seen >= CALLS);
    fake_engine_stop(a);
    fake_engine_stop(b);
}

static void drop(void *arg, struct fake_message *m) {
    (void)arg;
    m->action = FAKE_DROP;
}

/* The end is certain unless an attempt at one of ours was left without an answer. */
static void test_where_all_are_of_another_cluster_nothing_is_done(void **state) {
    for (int doubt = 0; doubt < 2; doubt++) {
        const jumun_options o = {.timeout_ms = 120000, .attempt_timeout_ms = doubt ? 100 : 120000};
        atomic_uint seen = 0;
        jumun_client *c = left_alone("w2", &o);
        struct fake_engine *e;
        if (doubt) {
            e = fake_engine_start("w2", 1, drop, NULL);
            fake_engine_be_of(e, OURS);
            assert_int_equal(ready_in_time(c, 500), JUMUN_OUTCOME_UNKNOWN);
            fake_engine_stop(e);
        }
        e = start("w2", THEIRS, &seen);
        int code = ready_in_time(c, 3000);
        assert_int_equal(code, JUMUN_WRONG_CLUSTER);
        assert_string_equal(jumun_result_name(code), "wrong_cluster");
        assert_true(fake_engine_wrong_clusters(e) > 0);
        jumun_close(c);
        assert_int_equal(seen, 0);
        fake_engine_stop(e);
    }
}

/* A client that nobody uses asks from time to time whether it is still so, and not all the time. */
static void test_a_client_among_strangers_is_quiet(void **state) {
    jumun_client *c = left_alone("w6", &patient);
    jumun_client_stats before, after;
    struct fake_engine *e = start("w6", THEIRS, NULL);
    assert_int_equal(ready_in_time(c, 500), JUMUN_WRONG_CLUSTER);
    jumun_stats(c, &before);
    int64_t began_ns = clock_mono_ns();
    for (int i = 0; i < 60; i++) {
        nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
        jumun_stats(c, &after);
        if (after.messages > before.messages) break;
    }
    int64_t seconds = (clock_mono_ns() - began_ns) / 1000000000 + 1;
    assert_in_range(after.messages - before.messages, 1, 4 * seconds);
    jumun_close(c);
    fake_engine_stop(e);
}

/* jumun cluster recover: what goes on without the lost majority is another cluster, at the same
 * address. It tells which one it was. */
static void test_a_client_follows_its_cluster_into_the_next_one(void **state) {
    atomic_uint seen = 0;
    jumun_client *c = left_alone("w3", &patient);
    jumun_result r;
    struct fake_engine *e = fake_engine_start("w3", 1, count, &seen);
    fake_engine_descend_from(e, OURS);
    fake_engine_be_of(e, THEIRS);
    for (int i = 0; i < CALLS; i++) assert_int_equal(ready(c, &r), JUMUN_OK);
    fake_engine_stop(e);
    unsigned there = seen;
    assert_true(there >= CALLS);
    /* There is no way back: the first one's node, started again by mistake, gets nothing. */
    e = start("w3", OURS, &seen);
    assert_int_equal(ready_in_time(c, 2000), JUMUN_WRONG_CLUSTER);
    jumun_close(c);
    assert_int_equal(seen, there);
    fake_engine_stop(e);
}

/* The first map decides, so a node that says it is alone is not believed before the others were
 * asked. */
static void test_a_cluster_goes_before_a_node_alone(void **state) {
    for (int i = 0; i < 6; i++) {
        atomic_uint alone_seen = 0, seen = 0;
        struct fake_engine *alone = fake_engine_start("w4a", 1, count, &alone_seen);
        struct fake_engine *member = start("w4b", OURS, &seen);
        jumun_client *c = open_client(i % 2 ? "inproc://w4a,inproc://w4b"
                                            : "inproc://w4b,inproc://w4a", &patient);
        jumun_result r;
        assert_int_equal(ready(c, &r), JUMUN_OK);
        jumun_close(c);
        fake_engine_stop(alone);
        fake_engine_stop(member);
        assert_int_equal(alone_seen, 0);
        assert_int_equal(seen, 1);
    }
}

static void test_a_node_alone_is_believed_where_there_is_no_other(void **state) {
    atomic_uint seen = 0;
    struct fake_engine *e = fake_engine_start("w5", 1, count, &seen);
    jumun_client *c = open_client("inproc://w5-is-not-there,inproc://w5", &patient);
    jumun_result r;
    assert_int_equal(ready(c, &r), JUMUN_OK);
    jumun_close(c);
    fake_engine_stop(e);
    assert_int_equal(seen, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_node_at_a_members_address_gets_nothing),
        cmocka_unit_test(test_where_all_are_of_another_cluster_nothing_is_done),
        cmocka_unit_test(test_a_client_among_strangers_is_quiet),
        cmocka_unit_test(test_a_client_follows_its_cluster_into_the_next_one),
        cmocka_unit_test(test_a_cluster_goes_before_a_node_alone),
        cmocka_unit_test(test_a_node_alone_is_believed_where_there_is_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
