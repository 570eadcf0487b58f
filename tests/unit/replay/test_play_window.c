/* How far a play is acknowledged, when answers come in any order or not at all. */
#include "clients/replay/play_window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/limits.h"

static uint64_t reached[SHARDS_MAX];

static struct play_window *window_new(uint32_t capacity) {
    for (uint32_t i = 0; i < SHARDS_MAX; i++) reached[i] = 0;
    struct play_window *w = play_window_open(capacity, reached);
    assert_non_null(w);
    return w;
}

static void test_a_record_counts_when_all_of_it_is_answered(void **state) {
    (void)state;
    struct play_window *w = window_new(8);
    uint64_t a = play_window_send(w, 0), b = play_window_send(w, 0);
    play_window_end(w, 0, 7);
    play_window_answer(w, b, true);
    assert_int_equal(reached[0], 0);
    play_window_answer(w, a, true);
    assert_int_equal(reached[0], 7);
    play_window_end(w, 0, 8); /* nothing in it was sent */
    assert_int_equal(reached[0], 8);
    play_window_close(w);
}

static void test_a_lost_command_holds_its_shard_alone(void **state) {
    (void)state;
    struct play_window *w = window_new(8);
    uint64_t a = play_window_send(w, 0);
    play_window_end(w, 0, 3);
    uint64_t b = play_window_send(w, 1);
    play_window_end(w, 1, 4);
    play_window_answer(w, b, true);
    assert_int_equal(reached[1], 0); /* what was sent before it is not settled */
    play_window_answer(w, a, false);
    assert_int_equal(reached[0], 0);
    assert_int_equal(reached[1], 4);
    play_window_end(w, 0, 5);
    assert_int_equal(reached[0], 0);
    play_window_close(w);
}

static void test_it_is_full_until_the_oldest_is_answered(void **state) {
    (void)state;
    struct play_window *w = window_new(3);
    for (uint64_t round = 1; round <= 10; round++) {
        uint64_t a = play_window_send(w, 2), b = play_window_send(w, 2);
        play_window_end(w, 2, round);
        assert_true(play_window_is_full(w));
        play_window_answer(w, b, true);
        assert_true(play_window_is_full(w));
        play_window_answer(w, a, true);
        assert_false(play_window_is_full(w));
        assert_int_equal(reached[2], round);
    }
    play_window_close(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_record_counts_when_all_of_it_is_answered),
        cmocka_unit_test(test_a_lost_command_holds_its_shard_alone),
        cmocka_unit_test(test_it_is_full_until_the_oldest_is_answered)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
