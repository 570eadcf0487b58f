#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/histogram.h"

static struct histogram h, other;

static void an_empty_one_says_zero(void **state) {
    histogram_reset(&h);
    assert_int_equal(histogram_count(&h), 0);
    assert_int_equal(histogram_percentile_ns(&h, 99000), 0);
    assert_int_equal(histogram_mean_ns(&h), 0);
}

/* 1..100,000 once each: every percentile is known, and must be met within 1/32. */
static void percentiles_of_a_known_row(void **state) {
    histogram_reset(&h);
    for (int64_t i = 1; i <= 100000; i++) histogram_record(&h, i);
    assert_int_equal(histogram_count(&h), 100000);
    assert_int_equal(histogram_mean_ns(&h), 50000);
    static const uint32_t ranks[] = {1, 100, 5000, 50000, 90000, 99000, 99900, 99990, 100000};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
        uint64_t exact = ranks[i], got = histogram_percentile_ns(&h, ranks[i]);
        assert_true(got >= exact);
        assert_true(got <= exact + exact / 32 + 1);
    }
    assert_int_equal(histogram_percentile_ns(&h, 100000), 100000);
}

static void the_edges_of_the_range(void **state) {
    histogram_reset(&h);
    histogram_record(&h, -5);
    assert_int_equal(histogram_percentile_ns(&h, 100000), 0);
    histogram_record(&h, INT64_MAX);
    assert_int_equal(histogram_count(&h), 2);
    assert_int_equal(histogram_percentile_ns(&h, 50000), 0);
    /* Above the range: the last bucket, whose upper edge is all that is known. */
    assert_true(histogram_percentile_ns(&h, 100000) >= (1ULL << HISTOGRAM_POWERS) - 1);
}

static void sums_of_two(void **state) {
    histogram_reset(&h);
    histogram_reset(&other);
    for (int i = 0; i < 99; i++) histogram_record(&h, 1000);
    histogram_record(&other, 9000000);
    histogram_add(&h, &other);
    assert_int_equal(histogram_count(&h), 100);
    assert_true(histogram_percentile_ns(&h, 99000) <= 1031);
    assert_int_equal(histogram_percentile_ns(&h, 100000), 9000000);
}

static void recorded_alone_is_recorded_the_same(void **state) {
    histogram_reset(&h);
    histogram_reset(&other);
    for (int64_t i = -3; i < 5000; i++) {
        histogram_record(&h, i * i * i);
        histogram_record_alone(&other, i * i * i);
    }
    assert_memory_equal(&h, &other, sizeof h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_says_zero),
        cmocka_unit_test(percentiles_of_a_known_row),
        cmocka_unit_test(the_edges_of_the_range),
        cmocka_unit_test(sums_of_two),
        cmocka_unit_test(recorded_alone_is_recorded_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
