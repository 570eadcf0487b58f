/* Clocks of nodes compared: what is told, and how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/peers/clock_skew.h"

enum { NOW_MS = 1700000000 };      /* Unix, be it in 1970 */

static void what_lasts_is_told_once_in_a_while(void **state) {
    struct clock_skew s = {0};
    int64_t mono_ms = 1000;
    (void)state;
    assert_false(clock_skew_note(&s, NOW_MS + 300000, NOW_MS, mono_ms));
    assert_true(s.known);
    assert_int_equal(s.ahead_ms, 300000);
    assert_false(clock_skew_note(&s, NOW_MS + 300000, NOW_MS, mono_ms + CLOCK_SKEW_LASTS_MS - 1));
    mono_ms += CLOCK_SKEW_LASTS_MS;
    assert_true(clock_skew_note(&s, NOW_MS + 300000, NOW_MS, mono_ms));
    assert_false(clock_skew_note(&s, NOW_MS + 300000, NOW_MS, mono_ms + CLOCK_SKEW_TELL_MS - 1));
    assert_true(clock_skew_note(&s, NOW_MS - 300000, NOW_MS, mono_ms + CLOCK_SKEW_TELL_MS));
    assert_int_equal(s.ahead_ms, -300000);
}

static void what_is_late_once_is_not_told(void **state) {
    struct clock_skew s = {0};
    (void)state;
    for (int64_t mono_ms = 1; mono_ms < 60000; mono_ms += CLOCK_SKEW_LASTS_MS) {
        assert_false(clock_skew_note(&s, NOW_MS - 9000, NOW_MS, mono_ms));
        assert_false(clock_skew_note(&s, NOW_MS - CLOCK_SKEW_MS_MAX, NOW_MS, mono_ms + 1));
        assert_false(clock_skew_note(&s, NOW_MS + CLOCK_SKEW_MS_MAX, NOW_MS, mono_ms + 2));
    }
}

static void an_older_program_tells_no_time(void **state) {
    struct clock_skew s = {0};
    (void)state;
    for (int64_t mono_ms = 1; mono_ms < 60000; mono_ms += 1000)
        assert_false(clock_skew_note(&s, 0, NOW_MS, mono_ms));
    assert_false(s.known);
    assert_int_equal(s.ahead_ms, 0);
    assert_false(clock_skew_note(&s, INT64_MIN, NOW_MS, 70000));
    assert_false(s.known);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lasts_is_told_once_in_a_while),
        cmocka_unit_test(what_is_late_once_is_not_told),
        cmocka_unit_test(an_older_program_tells_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
