/* How fast a lane's commands end: what is learned from, and what is not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "clients/sdk/drain_rate.h"

#define TICK_NS 5000000LL

/* A lane that ends `per_tick` commands a tick, for so many ticks. */
struct lane_model { struct drain_rate rate; int64_t now_ns; uint64_t ended; };

static struct lane_model model_new(void) { return (struct lane_model){.now_ns = 1000000000}; }

static uint32_t run(struct lane_model *m, uint32_t ticks, uint64_t per_tick, bool backlogged) {
    for (uint32_t i = 0; i < ticks; i++) {
        m->now_ns += TICK_NS;
        m->ended += per_tick;
        drain_rate_look(&m->rate, m->now_ns, m->ended, backlogged);
    }
    return atomic_load(&m->rate.per_second);
}

static void test_what_waits_tells_the_rate(void **state) {
    struct lane_model m = model_new();
    assert_int_equal(run(&m, 3, 100, true), 0); /* no window is over yet */
    assert_int_equal(run(&m, 8, 100, true), 20000);
    assert_int_equal(drain_rate_ms(&m.rate, 10000), 500);
    assert_in_range(run(&m, 40, 50, true), 10000, 10100);
    assert_in_range(run(&m, 40, 200, true), 39900, 40000);
}

static void test_little_offered_says_nothing(void **state) {
    struct lane_model m = model_new();
    assert_int_equal(run(&m, 1000, 1, false), 0);
    assert_int_equal(drain_rate_ms(&m.rate, 1000000), 0);
    /* One look without a backlog is enough. */
    for (int i = 0; i < 100; i++) {
        run(&m, 3, 100, true);
        assert_int_equal(run(&m, 1, 100, false), 0);
    }
}

static void test_more_than_known_is_believed_without_a_backlog(void **state) {
    struct lane_model m = model_new();
    run(&m, 20, 10, true);
    assert_int_equal(atomic_load(&m.rate.per_second), 2000);
    assert_int_equal(run(&m, 20, 100, false), 20000);
    assert_int_equal(run(&m, 20, 1, false), 20000);
}

static void test_what_nothing_waited_for_is_forgotten(void **state) {
    struct lane_model m = model_new();
    run(&m, 20, 100, true);
    assert_int_equal(run(&m, 190, 1, false), 20000);
    assert_int_equal(run(&m, 30, 1, false), 0);
    run(&m, 20, 100, true);
    drain_rate_forget(&m.rate);
    assert_int_equal(atomic_load(&m.rate.per_second), 0);
    assert_int_equal(run(&m, 4, 100, true), 0);
    assert_int_equal(run(&m, 4, 100, true), 20000);
}

/* Ten seconds without an answer, and then as before: that is a pause, not a slow engine. */
static void test_a_pause_is_no_rate(void **state) {
    struct lane_model m = model_new();
    run(&m, 40, 100, true);
    assert_in_range(run(&m, 2000, 0, true), 15000, 20000);
    assert_in_range(run(&m, 4, 100, true), 7500, 10100);
    assert_in_range(run(&m, 40, 100, true), 19900, 20000);
}

static void test_a_rate_is_never_none(void **state) {
    struct lane_model m = model_new();
    run(&m, 1, 0, true);
    m.now_ns += 3000000000;
    assert_int_equal(run(&m, 1, 1, true), 1);
    assert_int_equal(drain_rate_ms(&m.rate, 7), 7000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_waits_tells_the_rate),
        cmocka_unit_test(test_little_offered_says_nothing),
        cmocka_unit_test(test_more_than_known_is_believed_without_a_backlog),
        cmocka_unit_test(test_what_nothing_waited_for_is_forgotten),
        cmocka_unit_test(test_a_pause_is_no_rate),
        cmocka_unit_test(test_a_rate_is_never_none),
    };
    return cmocka_run_group_tests_name("sdk_drain_rate", tests, NULL, NULL);
}
