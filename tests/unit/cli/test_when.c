/* Times and durations as people write them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/when.h"

static const int64_t now_ms = 1795244026731; /* 2026-11-21T06:53:46.731Z, a Saturday */

static void in_zone(const char *zone) {
    setenv("TZ", zone, 1);
    tzset();
}

static void a_duration_has_a_unit(void **state) {
    (void)state;
    int64_t ms;
    assert_true(when_parse_span("500ms", &ms) && ms == 500);
    assert_true(when_parse_span("15s", &ms) && ms == 15000);
    assert_true(when_parse_span("10m", &ms) && ms == 600000);
    assert_true(when_parse_span("10min", &ms) && ms == 600000);
    assert_true(when_parse_span("30d", &ms) && ms == 30LL * 86400000);
    assert_true(when_parse_span("0", &ms) && ms == 0);
    static const char *const bad[] = {"90", "5 s", "-5s", "s", "", "5S", "9223372036854775807d",
                                      "9223372036854775808ms"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (when_parse_span(bad[i], &ms)) fail_msg("\"%s\" was taken", bad[i]);
    char error[WHEN_ERROR_BYTES];
    assert_string_equal(when_span_fault("90", error), "\"90\" has no unit: 90ms or 90s?");
    assert_non_null(strstr(when_span_fault("5 s", error), "not a duration"));
}

static void times_are_read(void **state) {
    (void)state;
    static const struct { const char *text; int64_t ms; } times[] = {
        {"2026-11-21T06:00:00Z", 1795240800000},      {"2026-11-21t06:00:00z", 1795240800000},
        {"2026-11-21T06:00Z", 1795240800000},         {"2026-11-21 06:00:00", 1795208400000},
        {"2026-11-21T06:00:00.5Z", 1795240800500},    {"2026-11-21T06:00:00,25Z", 1795240800250},
        {"2026-11-21T06:00:00.123456789Z", 1795240800123},
        {"2026-11-21T06:00:00+09:00", 1795208400000}, {"2026-11-21T06:00:00+0900", 1795208400000},
        {"2026-11-21T06:00:00 +09", 1795208400000},   {"2026-11-21T06:00:00.007-01:30",
                                                       1795246200007},
        {"2026-11-21", 1795186800000},                {"2026-11-21Z", 1795219200000},
        {"2024-02-29T00:00:00Z", 1709164800000},      {"1774353600000", 1774353600000},
        {"@17", 17},                                  {"10m", now_ms - 600000},
        {"-10m", now_ms - 600000},                    {"now", now_ms},
        {"06:30", 1795210200000},                     {"06:30:15.5", 1795210215500},
        {"06:30Z", 1795242600000}};
    in_zone("UTC-9"); /* POSIX counts the other way: nine hours east */
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        int64_t ms = 0;
        char error[WHEN_ERROR_BYTES];
        if (!when_parse(times[i].text, now_ms, &ms, error)) fail_msg("%s", error);
        if (ms != times[i].ms) fail_msg("%s: %lld", times[i].text, (long long)ms);
    }
}

/* 06:30Z is of the day that it is in UTC, whatever day it is here. */
static void a_time_of_day_is_of_its_own_zone(void **state) {
    (void)state;
    int64_t ms = 0;
    char error[WHEN_ERROR_BYTES];
    in_zone("UTC+12");
    assert_true(when_parse("06:30Z", now_ms, &ms, error));
    assert_int_equal(ms, 1795242600000);
    assert_true(when_parse("06:30", now_ms, &ms, error)); /* still the 20th */
    assert_int_equal(ms, 1795199400000);
}

static void nonsense_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {
        "", "x", "5", "90", "99999999999", "-90", "@", "@x", "2026-13-01", "2026-02-29",
        "2100-02-29", "2026-04-31", "2026-11-21T", "2026-11-21T24:00", "2026-11-21T06",
        "2026-11-21T06:00:61", "2026-11-21T06:00:00.", "2026-11-21T06:00:00+9",
        "2026-11-21T06:00:00+24:00", "2026-11-21T06:00:00Zx", "26-11-21", "6:30", "06:60",
        "2026-11-21T06:00:00+09:00Z", "20261121", "99999999999999999999"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int64_t ms;
        char error[WHEN_ERROR_BYTES] = "";
        if (when_parse(texts[i], now_ms, &ms, error)) fail_msg("\"%s\" was taken", texts[i]);
        assert_true(error[0] != 0);
    }
    int64_t ms;
    char error[WHEN_ERROR_BYTES];
    assert_false(when_parse("90", now_ms, &ms, error));
    assert_non_null(strstr(error, "90ms or 90s"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_duration_has_a_unit),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(a_time_of_day_is_of_its_own_zone),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
