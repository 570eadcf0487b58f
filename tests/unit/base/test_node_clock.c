#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>

#include "engine/base/node_clock.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
#define YEAR (365 * 86400 * SECOND)
#define START (1800000000 * SECOND)

/* Lets `passed_ns` pass in steps of `step_ns`, the wall clock being off by `off_ns`. */
static void pass(struct node_clock_time *t, int64_t passed_ns, int64_t step_ns, int64_t off_ns) {
    int64_t end_ns = t->boot_ns + passed_ns;
    while (t->boot_ns < end_ns) {
        int64_t before_ns = t->unix_ns, boot_ns = t->boot_ns + step_ns;
        node_clock_time_step(t, START + boot_ns + off_ns, boot_ns);
        assert_true(t->boot_ns == boot_ns);
        assert_true(t->unix_ns - before_ns >= step_ns / 2);
        assert_true(t->unix_ns - before_ns <= step_ns + step_ns / 10);
    }
}

static int64_t off(const struct node_clock_time *t) { return t->unix_ns - START - t->boot_ns; }

static void test_a_jump_is_refused_and_forgotten(void **state) {
    (void)state;
    const int64_t jumps[] = {YEAR, -YEAR, 61 * SECOND, -61 * SECOND};
    for (int i = 0; i < 4; i++) {
        struct node_clock_time t;
        node_clock_time_init(&t, START, 0);
        pass(&t, 10 * SECOND, SECOND, 0);
        pass(&t, 3600 * SECOND, SECOND, jumps[i]);
        assert_true(off(&t) == 0);
        assert_true(t.refused_ns == jumps[i]);
        pass(&t, SECOND, SECOND, 0);
        assert_true(t.refused_ns == 0 && off(&t) == 0);
    }
}

static void test_a_small_difference_is_followed_gradually(void **state) {
    (void)state;
    const int64_t steps[] = {1000, MS, SECOND};
    for (int i = 0; i < 3; i++) {
        struct node_clock_time t;
        int64_t scale = steps[i] < MS ? 1000 : 1;
        node_clock_time_init(&t, START, 0);
        int64_t ahead = 60 * SECOND / scale;
        pass(&t, 5 * ahead, steps[i], ahead);
        assert_true(off(&t) == ahead / 2);
        pass(&t, 5 * ahead, steps[i], ahead);
        assert_true(off(&t) == ahead && t.refused_ns == 0);
        pass(&t, ahead, steps[i], 0);
        assert_true(off(&t) == ahead / 2);
        pass(&t, ahead, steps[i], 0);
        assert_true(off(&t) == 0 && t.refused_ns == 0);
    }
}

static void test_a_suspended_machine_loses_no_time(void **state) {
    (void)state;
    struct node_clock_time t;
    node_clock_time_init(&t, START, 0);
    pass(&t, 8 * 3600 * SECOND, 8 * 3600 * SECOND, 0);
    assert_true(off(&t) == 0 && t.refused_ns == 0);
}

static void test_an_older_reading_does_nothing(void **state) {
    (void)state;
    struct node_clock_time t;
    node_clock_time_init(&t, START, 100 * SECOND);
    struct node_clock_time before = t;
    node_clock_time_step(&t, START + YEAR, 100 * SECOND);
    node_clock_time_step(&t, START + YEAR, 99 * SECOND);
    assert_memory_equal(&t, &before, sizeof t);
}

static void *ask_often(void *arg) {
    struct node_clock *clock = arg;
    int64_t last_ms = 0;
    for (int i = 0; i < 20000; i++) {
        int64_t now_ms = node_clock_ms(clock);
        if (now_ms < last_ms) return clock;
        last_ms = now_ms;
    }
    return NULL;
}

static void test_no_thread_sees_it_go_back(void **state) {
    (void)state;
    struct node_clock clock;
    pthread_t threads[4];
    node_clock_init(&clock);
    int64_t start_ms = node_clock_ms(&clock);
    assert_true(start_ms > 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &clock), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_true(node_clock_ms(&clock) >= start_ms);
}

/* The reading of a year ahead that was there all along: told once, and not believed. */
static void test_the_node_goes_on_from_what_it_knew(void **state) {
    (void)state;
    struct node_clock clock;
    node_clock_init(&clock);
    clock.time.unix_ns -= YEAR; /* as if the wall clock had jumped since */
    atomic_store(&clock.unix_ms, clock.time.unix_ns / MS);
    int64_t before_ms = clock.time.unix_ns / MS;
    atomic_store(&clock.boot_ms, 0);
    clock.time.boot_ns -= 5 * MS;
    int64_t now_ms = node_clock_ms(&clock);
    assert_true(now_ms >= before_ms + 5);
    assert_true(now_ms < before_ms + YEAR / MS / 2);
    assert_true(node_clock_refused_ms(&clock) > YEAR / MS / 2);
    clock.time.unix_ns += YEAR; /* set right */
    atomic_store(&clock.boot_ms, 0);
    clock.time.boot_ns -= 5 * MS;
    assert_true(node_clock_ms(&clock) > before_ms + YEAR / MS / 2);
    assert_int_equal(node_clock_refused_ms(&clock), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_jump_is_refused_and_forgotten),
        cmocka_unit_test(test_a_small_difference_is_followed_gradually),
        cmocka_unit_test(test_a_suspended_machine_loses_no_time),
        cmocka_unit_test(test_an_older_reading_does_nothing),
        cmocka_unit_test(test_no_thread_sees_it_go_back),
        cmocka_unit_test(test_the_node_goes_on_from_what_it_knew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
