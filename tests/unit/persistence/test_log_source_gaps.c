/* A reader beside a node whose history gets a gap, or loses one, at the very moment when the reader
 * looks: between its two looks at the gap, before and behind the list of segments in between. */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "persistence/log_source.h"
#include "storage_install_fixture.h"

enum { PAYLOAD = 9000, LOOKS_MAX = 6 };

/* The directory is read through these; see meson.build. What is planned happens once, and to who
 * looks: threads of the storage read directories as well. */
static struct {
    void (*happens)(struct fixture *f);
    pthread_t looker;
    struct fixture *f;
    unsigned count;                /* of readings still to go before it */
    bool behind;                   /* it happens once the directory has been read, else before */
    bool done;
} plan;

DIR *__real_opendir(const char *name);
int __real_closedir(DIR *d);
DIR *__wrap_opendir(const char *name);
int __wrap_closedir(DIR *d);

static void plan_do(bool behind) {
    if (!pthread_equal(pthread_self(), plan.looker)) return;
    if (!plan.happens || plan.behind != behind || plan.count-- > 0) return;
    void (*happens)(struct fixture *f) = plan.happens;
    plan.happens = NULL;
    plan.done = true;
    happens(plan.f);
}

DIR *__wrap_opendir(const char *name) {
    plan_do(false);
    return __real_opendir(name);
}

int __wrap_closedir(DIR *d) {
    int rc = __real_closedir(d);
    plan_do(true);
    return rc;
}

/* -- what happens ------------------------------------------------------------------------------ */

static void gap_closes(struct fixture *f) {
    assert_int_equal(fill(f, 31, 45, 2, PAYLOAD), STORAGE_FILLED);
    assert_int_equal(fill(f, 46, 60, 2, PAYLOAD), STORAGE_FILLED);
}

static void gap_shrinks(struct fixture *f) {
    assert_int_equal(fill(f, 31, 45, 2, PAYLOAD), STORAGE_FILLED);
}

static void gap_comes(struct fixture *f) {
    assert_int_equal(install(f, file_path(f, "newer"), 90), 0);
    fixture_append(f, 121, 130, 9, PAYLOAD, 2000);
}

static void gap_closes_and_another_comes(struct fixture *f) {
    gap_closes(f);
    gap_comes(f);
}

/* -- what the reader sees ---------------------------------------------------------------------- */

/* 30 records, a gap from 31 to 60, and those up to 90. */
static void world_open(struct fixture *f) {
    f->options.segment_bytes_max = 65536;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    make_file(f, file_path(f, "newer"), 120, 'm');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    fixture_append(f, 61, 90, 8, PAYLOAD, 2000);
}

/* All that it tells is there, one behind the other. A step may say that something was dropped. */
static void expect_sound(struct log_source *s) {
    uint64_t first, last, next;
    struct log_item item;
    enum log_step step;
    log_source_range(s, &first, &last);
    next = first;
    struct log_cursor *c = log_cursor_open(s, first, last, true);
    while ((step = log_cursor_next(c, &item)) != LOG_END) {
        if (step == LOG_FAULT) fail_msg("records %d to %d: %s", (int)first, (int)last, item.what);
        assert_int_equal(item.index, next);
        next = item.upto + 1;
        if (step == LOG_RECORD) assert_true(fixture_is_sound(item.header, item.payload));
    }
    assert_int_equal(next, last + 1);
    log_cursor_close(c);
}

/* It opens the log, or looks at it again, while that happens; and looks once more. */
static void look(void (*happens)(struct fixture *f), bool again, uint64_t before, uint64_t first,
                 uint64_t last) {
    for (unsigned i = 0; i < 2 * LOOKS_MAX; i++) {
        void *state;
        uint64_t from, upto;
        struct log_source *s = NULL;
        assert_int_equal(fixture_setup(&state), 0);
        struct fixture *f = state;
        world_open(f);
        if (again) s = log_source_open(f->directory, f->error, sizeof f->error);
        plan.f = f;
        plan.count = i / 2;
        plan.behind = i % 2;
        plan.done = false;
        plan.happens = happens;
        if (!again) s = log_source_open(f->directory, f->error, sizeof f->error);
        else assert_int_equal(log_source_refresh(s, f->error, sizeof f->error), 0);
        assert_non_null(s);
        bool done = plan.done;
        plan.happens = NULL;
        log_source_range(s, &from, &upto);
        assert_true((from == before && upto == 90) || (done && from == first && upto == last));
        expect_sound(s);
        if (done) {
            assert_int_equal(log_source_refresh(s, f->error, sizeof f->error), 0);
            log_source_range(s, &from, &upto);
            assert_int_equal(from, first);
            assert_int_equal(upto, last);
            expect_sound(s);
        }
        log_source_close(s);
        fixture_teardown(&state);
        if (!done) {
            assert_true(i >= 4); /* it looks at the directory twice at least */
            return;
        }
    }
    fail_msg("it looks at the directory more often than this test knows");
}

static void a_gap_that_closes(void **state) {
    (void)state;
    look(gap_closes, false, 61, 1, 90);
    look(gap_closes, true, 61, 1, 90);
}

static void a_gap_that_shrinks(void **state) {
    (void)state;
    look(gap_shrinks, false, 61, 61, 90);
    look(gap_shrinks, true, 61, 61, 90);
}

static void a_gap_that_comes(void **state) {
    (void)state;
    look(gap_comes, false, 61, 121, 130);
    look(gap_comes, true, 61, 121, 130);
}

static void a_gap_that_closes_before_another_comes(void **state) {
    (void)state;
    look(gap_closes_and_another_comes, false, 61, 121, 130);
    look(gap_closes_and_another_comes, true, 61, 121, 130);
}

/* A cursor in a segment that was closed for good when it came there. An install makes that one the
 * end in front of a gap, and what fills the gap goes into it. */
static void a_closed_segment_that_is_filled_up(void **state) {
    for (uint64_t at = 1; at <= 29; at += 4) {
        assert_int_equal(fixture_setup(state), 0);
        struct fixture *f = *state;
        struct log_item item;
        enum log_step step;
        uint64_t next = 1;
        f->options.segment_bytes_max = 1 << 18;
        fixture_open(f);
        vote(f, 100);
        fixture_append(f, 1, 30, 1, 600, 1000);
        fixture_append(f, 31, 40, 1, 25000, 1000); /* it does not go into the first any more */
        make_file(f, file_path(f, "in"), 60, 'n');
        struct log_source *s = log_source_open(f->directory, f->error, sizeof f->error);
        const struct log_source_segment *list;
        assert_int_equal(log_source_segments(s, &list), 2);
        struct log_cursor *c = log_cursor_open(s, 1, 30, true);
        for (; next < at; next++) assert_int_equal(log_cursor_next(c, &item), LOG_RECORD);
        assert_int_equal(install(f, file_path(f, "in"), 30), 0);
        for (uint64_t i = 31; i <= 60; i++)
            assert_int_equal(fill(f, i, i, 2, 300), STORAGE_FILLED);
        struct log_source *after = log_source_open(f->directory, f->error, sizeof f->error);
        assert_int_equal(log_source_segments(after, &list), 1);
        log_source_close(after);
        while ((step = log_cursor_next(c, &item)) != LOG_END) {
            if (step == LOG_FAULT) fail_msg("at %d: %d: %s", (int)at, (int)next, item.what);
            assert_int_equal(step, LOG_RECORD);
            assert_int_equal(item.index, next++);
            assert_true(fixture_is_sound(item.header, item.payload));
        }
        assert_int_equal(next, 31);
        log_cursor_close(c);
        log_source_close(s);
        fixture_teardown(state);
    }
}

int main(int argc, char **argv) {
    plan.looker = pthread_self();
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gap_that_closes),
        cmocka_unit_test(a_gap_that_shrinks),
        cmocka_unit_test(a_gap_that_comes),
        cmocka_unit_test(a_gap_that_closes_before_another_comes),
        cmocka_unit_test(a_closed_segment_that_is_filled_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
