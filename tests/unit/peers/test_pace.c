/* The pace of followers that lag, beside running traffic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/peers/pace.h"

enum { MIB = 1 << 20 };

/* Seconds of traffic to two followers, looked at five times a second. Returns the last rate. */
static uint64_t run(struct pace *pace, int64_t *now_ms, int seconds, uint64_t bytes_per_second) {
    uint64_t rate = 0;
    for (int i = 0; i < 5 * seconds; i++) {
        *now_ms += 200;
        pace_note(pace, 2, bytes_per_second / 5);
        pace_note(pace, 3, bytes_per_second / 10); /* it lags */
        rate = pace_rate(pace, *now_ms);
    }
    return rate;
}

static void an_idle_node_sends_as_fast_as_allowed(void **state) {
    struct pace pace = {.bound = 32 * MIB};
    int64_t now_ms = 1;
    assert_int_equal(pace_rate(&pace, now_ms), 32 * MIB);
    assert_int_equal(run(&pace, &now_ms, 5, 0), 32 * MIB);
    assert_int_equal(run(&pace, &now_ms, 5, MIB), 32 * MIB);
}

static void a_busy_one_sends_a_quarter_more_than_it_writes(void **state) {
    struct pace pace = {.bound = 32 * MIB};
    int64_t now_ms = 1;
    uint64_t rate;
    pace_rate(&pace, now_ms);
    rate = run(&pace, &now_ms, 10, 8 * MIB);
    assert_in_range(rate, 10 * MIB - MIB / 8, 10 * MIB);
    rate = run(&pace, &now_ms, 10, 3 * MIB); /* never too little to get anywhere */
    assert_int_equal(rate, 4 * MIB);
    rate = run(&pace, &now_ms, 20, 100 * MIB); /* whatever the bound: or it would fall behind */
    assert_in_range(rate, 124 * MIB, 125 * MIB);
    rate = run(&pace, &now_ms, 10, 0);
    assert_int_equal(rate, 32 * MIB);
}

/* A machine that has too much to do for a moment writes nothing either. */
static void traffic_that_stands_still_is_not_overrun(void **state) {
    struct pace pace = {.bound = 32 * MIB};
    int64_t now_ms = 1;
    pace_rate(&pace, now_ms);
    uint64_t before = run(&pace, &now_ms, 10, 4 * MIB), rate = run(&pace, &now_ms, 2, 0);
    assert_in_range(rate, before * 3 / 4, 2 * before);
    rate = run(&pace, &now_ms, 1, 4 * MIB); /* and at once it holds back again */
    assert_in_range(rate, 4 * MIB, before);
    assert_int_equal(run(&pace, &now_ms, 20, 0), 32 * MIB);
}

static void looks_in_between_change_nothing(void **state) {
    struct pace pace = {.bound = 32 * MIB};
    int64_t now_ms = 1;
    pace_rate(&pace, now_ms);
    uint64_t rate = run(&pace, &now_ms, 10, 8 * MIB);
    pace_note(&pace, 2, 50 * MIB);
    for (int i = 0; i < 100; i++) assert_int_equal(pace_rate(&pace, now_ms + i), rate);
}

static void several_that_lag_come_nearer_together(void **state) {
    struct pace pace = {.bound = 32 * MIB};
    int64_t now_ms = 1;
    pace_rate(&pace, now_ms);
    uint64_t rate = run(&pace, &now_ms, 10, 8 * MIB);
    assert_true(pace_of_all(&pace, rate, 0) == rate && pace_of_all(&pace, rate, 1) == rate);
    assert_true(pace_of_all(&pace, rate, 2) > 2 * 8 * MIB);
    assert_int_equal(pace_of_all(&pace, rate, 2), 2 * rate);
    assert_int_equal(pace_of_all(&pace, rate, 4), 4 * rate);
    run(&pace, &now_ms, 20, 0);
    assert_int_equal(pace_of_all(&pace, 32 * MIB, 4), 32 * MIB);
    assert_int_equal(pace_of_all(&(struct pace){.bound = 0}, 0, 3), 0);
}

static void without_a_bound_there_is_none(void **state) {
    struct pace pace = {.bound = 0};
    int64_t now_ms = 1;
    pace_rate(&pace, now_ms);
    assert_int_equal(run(&pace, &now_ms, 5, 8 * MIB), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_node_sends_as_fast_as_allowed),
        cmocka_unit_test(a_busy_one_sends_a_quarter_more_than_it_writes),
        cmocka_unit_test(traffic_that_stands_still_is_not_overrun),
        cmocka_unit_test(looks_in_between_change_nothing),
        cmocka_unit_test(several_that_lag_come_nearer_together),
        cmocka_unit_test(without_a_bound_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
