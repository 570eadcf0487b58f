#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/base/commit_times.h"

enum { MOMENTS = 32 };

static struct commit_times times;
static struct commit_moment found[MOMENTS];

static void begin(void) { times = (struct commit_times){0}; }

static void nothing_was_noted(void **state) {
    begin();
    assert_int_equal(commit_times_read(&times, 1, 10, found, MOMENTS), 0);
}

static void each_entry_has_its_moment(void **state) {
    begin();
    commit_times_note(&times, 10, 1000);
    commit_times_note(&times, 12, 1001);
    commit_times_note(&times, 13, 1001); /* of the same moment */
    commit_times_note(&times, 20, 1005);
    commit_times_note(&times, 30, 1009);
    assert_int_equal(commit_times_read(&times, 12, 18, found, MOMENTS), 2);
    assert_int_equal(found[0].last, 13);
    assert_int_equal(found[0].ms, 1001);
    assert_int_equal(found[1].last, 20);
    assert_int_equal(found[1].ms, 1005);
    /* Who knows since when the first ten were committed when the first moment was noted. */
    assert_int_equal(commit_times_read(&times, 9, 11, found, MOMENTS), 2);
    assert_int_equal(found[0].last, 10);
    assert_int_equal(found[0].ms, 0);
    assert_int_equal(found[1].ms, 1001);
    /* Less room than there are: the newest, and of the first of them the time is not known. */
    assert_int_equal(commit_times_read(&times, 9, 30, found, 2), 2);
    assert_int_equal(found[0].last, 20);
    assert_int_equal(found[0].ms, 0);
    assert_int_equal(found[1].last, 30);
    assert_int_equal(found[1].ms, 1009);
    assert_int_equal(commit_times_read(&times, 31, 40, found, MOMENTS), 0);
    assert_int_equal(commit_times_read(&times, 5, 4, found, MOMENTS), 0);
}

static void old_moments_go(void **state) {
    begin();
    for (uint64_t i = 1; i <= 5000; i++) commit_times_note(&times, i, (int64_t)(100000 + i));
    assert_int_equal(commit_times_read(&times, 4999, 5000, found, MOMENTS), 2);
    assert_int_equal(found[0].ms, 104999);
    assert_int_equal(found[1].ms, 105000);
    uint32_t n = commit_times_read(&times, 1, 3900, found, MOMENTS);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(found[i].ms, 0);
}

static atomic_bool done;

/* Entry n is committed at 1000 + n: whoever reads sees that, or that it is not known. */
static void *note(void *arg) {
    for (uint64_t i = 1; i <= 400000; i++) commit_times_note(&times, i, (int64_t)(1000 + i));
    atomic_store(&done, true);
    return NULL;
}

static void readers_see_what_was_noted(void **state) {
    pthread_t writer;
    uint64_t known = 0;
    begin();
    assert_int_equal(pthread_create(&writer, NULL, note, NULL), 0);
    for (bool last = false; !last;) {
        last = atomic_load(&done);
        uint64_t count = atomic_load(&times.count);
        uint64_t from = count > 900 ? count - 900 : 1;
        uint32_t n = commit_times_read(&times, from, from + 20, found, MOMENTS);
        for (uint32_t i = 0; i < n; i++) {
            if (found[i].ms == 0) continue;
            assert_int_equal(found[i].ms, 1000 + found[i].last);
            known++;
        }
    }
    pthread_join(writer, NULL);
    assert_true(known > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_was_noted),
        cmocka_unit_test(each_entry_has_its_moment),
        cmocka_unit_test(old_moments_go),
        cmocka_unit_test(readers_see_what_was_noted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
