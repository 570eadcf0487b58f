#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/text.h"

static void test_money_follows_the_currency(void **state) {
    (void)state;
    char b[TEXT_BYTES];
    assert_string_equal(text_money(b, 9500, "KRW"), "9,500 KRW");
    assert_string_equal(text_money(b, 13912, "GBP"), "139.12 GBP");
    assert_string_equal(text_money(b, -5, "USD"), "-0.05 USD");
    assert_string_equal(text_money(b, 1234567, "KWD"), "1,234.567 KWD");
    assert_string_equal(text_money(b, 100, "ABC"), "1.00 ABC");
    assert_string_equal(text_money(b, 0, "JPY"), "0 JPY");
    assert_string_equal(text_money(b, 250, NULL), "2.50");
    assert_string_equal(text_money(b, INT64_MIN, "KRW"), "-9,223,372,036,854,775,808 KRW");
}

/* "W K" stands inside the table's text: only whole words are codes. */
static void test_currency_is_a_whole_word(void **state) {
    (void)state;
    assert_int_equal(text_currency_exponent("W K"), 2);
    assert_int_equal(text_currency_exponent(""), 2);
    assert_int_equal(text_currency_exponent(NULL), 2);
    assert_int_equal(text_currency_exponent("VND"), 0);
}

static void test_counts_and_sizes(void **state) {
    (void)state;
    char b[TEXT_BYTES];
    assert_string_equal(text_count(b, 0), "0");
    assert_string_equal(text_count(b, 999), "999");
    assert_string_equal(text_count(b, 1000), "1,000");
    assert_string_equal(text_count(b, UINT64_MAX), "18,446,744,073,709,551,615");
    assert_string_equal(text_size(b, 0), "0 B");
    assert_string_equal(text_size(b, 1536), "1.5 KiB");
    assert_string_equal(text_size(b, 3ull << 30), "3.0 GiB");
}

static void test_spans_and_moments(void **state) {
    (void)state;
    char b[TEXT_BYTES];
    assert_string_equal(text_span(b, 350), "350 ms");
    assert_string_equal(text_span(b, 4 * 60000), "4 min");
    assert_string_equal(text_span(b, 125 * 60000), "2 h 5 min");
    assert_string_equal(text_span(b, 30LL * 86400000), "30 d");
    assert_string_equal(text_span(b, 31LL * 86400000 - 1), "31 d");
    assert_string_equal(text_span(b, 14 * 60000 + 29999), "14 min");
    assert_string_equal(text_span(b, 60 * 60000 - 1), "1 h");
    assert_string_equal(text_span(b, 10 * 86400000LL - 1), "9 d 23 h");
    assert_string_equal(text_relative(b, 5000, 1000), "in 4 s");
    assert_string_equal(text_relative(b, 1000, 241000), "4 min ago");
    assert_string_equal(text_relative(b, 7, 7), "now");
}

static void test_latencies_have_three_digits(void **state) {
    (void)state;
    char b[TEXT_BYTES];
    assert_string_equal(text_latency(b, 850), "850 ns");
    assert_string_equal(text_latency(b, 12345), "12.3 us");
    assert_string_equal(text_latency(b, 1234567), "1.23 ms");
    assert_string_equal(text_latency(b, 999900), "1.00 ms");
    assert_string_equal(text_latency(b, 2.5e9), "2.50 s");
}

static void test_time_is_local(void **state) {
    (void)state;
    char b[TEXT_BYTES];
    setenv("TZ", "UTC-9", 1); /* POSIX counts the other way: nine hours east */
    tzset();
    assert_string_equal(text_time(b, 1291191960123), "2010-12-01 17:26:00.123");
    assert_string_equal(text_time(b, 0), "-");
}

static void test_width_counts_columns(void **state) {
    (void)state;
    assert_int_equal(text_width("abc"), 3);
    assert_int_equal(text_width("주문"), 4);
    assert_int_equal(text_width("é"), 1);
    assert_int_equal(text_width("e\xcc\x81"), 1);
    assert_int_equal(text_width("\xff"), 1);
}

static void test_foreign_text_cannot_steer_the_terminal(void **state) {
    (void)state;
    char b[32];
    assert_string_equal(text_printable(b, sizeof b, "a\x1b[2Jb", 6), "a?[2Jb");
    assert_string_equal(text_printable(b, sizeof b, "x\xc2\x9bz", 4), "x?z");   /* C1 */
    assert_string_equal(text_printable(b, sizeof b, "\xe2\x80\xae" "a", 4), "?a"); /* override */
    assert_string_equal(text_printable(b, sizeof b, "\xffok", 3), "?ok");
    assert_string_equal(text_printable(b, sizeof b, "주문", 6), "주문");
    assert_string_equal(text_printable(b, 5, "주문", 6), "주"); /* never half a character */
}

static void test_numbers_are_whole_strings(void **state) {
    (void)state;
    int64_t n;
    assert_true(text_parse_int64("9223372036854775807", &n) && n == INT64_MAX);
    assert_true(text_parse_int64("-12", &n) && n == -12);
    static const char *const bad[] = {"", "12x", " 12", "+5", "9223372036854775808", "95.00", "-"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(text_parse_int64(bad[i], &n));
    }
    assert_false(text_parse_int64(NULL, &n));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_money_follows_the_currency),
        cmocka_unit_test(test_currency_is_a_whole_word),
        cmocka_unit_test(test_counts_and_sizes),
        cmocka_unit_test(test_spans_and_moments),
        cmocka_unit_test(test_latencies_have_three_digits),
        cmocka_unit_test(test_time_is_local),
        cmocka_unit_test(test_width_counts_columns),
        cmocka_unit_test(test_foreign_text_cannot_steer_the_terminal),
        cmocka_unit_test(test_numbers_are_whole_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
