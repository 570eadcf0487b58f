/* Rollover, truncation over segments, retention, and crashes in the middle of each. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage_fixture.h"

/* Segments of about twelve records: each append of ten may begin a new one. */
static void small_segments(struct fixture *f) {
    f->options.segment_bytes_max = 140000;
}

/* Records 1..60 of term 1 in segments that begin with 1, 11, 21, 31, 41, 51; times 1000, ... */
static void fill(struct fixture *f) {
    for (uint64_t part = 0; part < 6; part++) {
        fixture_append(f, 10 * part + 1, 10 * part + 10, 1, 5000, 1000 * ((int64_t)part + 1));
    }
    assert_int_equal(fixture_count_files(f, "log-"), 6);
}

static struct storage_stats stats_of(struct fixture *f) {
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    return stats;
}

static void segments_roll_by_size(void **state) {
    struct fixture *f = *state;
    small_segments(f);
    fixture_open(f);
    fill(f);
    fixture_expect(f, 1, 60, 1);
    fixture_reopen(f);
    fixture_expect(f, 1, 60, 1);
    assert_true(stats_of(f).segments == 6);
    assert_true(stats_of(f).log_bytes >= 60 * 5000);
    fixture_append(f, 61, 61, 1, 100, 9000);
    fixture_reopen(f);
    fixture_expect(f, 1, 61, 1);
    assert_true(stats_of(f).segments == 6);
}

static void segments_roll_by_age(void **state) {
    struct fixture *f = *state;
    f->options.segment_ms_max = 1000;
    fixture_open(f);
    fixture_append(f, 1, 5, 1, 100, 10000);
    fixture_append(f, 6, 10, 1, 100, 10999);
    assert_true(stats_of(f).segments == 1);
    fixture_append(f, 11, 15, 1, 100, 11000);
    assert_true(stats_of(f).segments == 2);
    fixture_reopen(f);
    /* The age of the newest segment is known again. */
    fixture_append(f, 16, 20, 1, 100, 11999);
    assert_true(stats_of(f).segments == 2);
    fixture_append(f, 21, 25, 1, 100, 12000);
    assert_true(stats_of(f).segments == 3);
    fixture_expect(f, 1, 25, 1);
}

/* More segments than are kept open, read in an order that closes and opens them all the time. */
static void many_segments_are_read_in_any_order(void **state) {
    struct fixture *f = *state;
    f->options.segment_ms_max = 1;
    fixture_open(f);
    for (uint64_t i = 1; i <= 60; i++) fixture_append(f, i, i, 1, 100, (int64_t)i * 10);
    assert_true(stats_of(f).segments == 60);
    for (uint64_t i = 0; i < 300; i++) {
        uint64_t index = i * 37 % 60 + 1;
        fixture_expect(f, index, index, 1);
    }
    fixture_expect(f, 1, 60, 1);
}

static void truncation_over_segments(void **state) {
    struct fixture *f = *state;
    small_segments(f);
    fixture_open(f);
    fill(f);
    fixture_append(f, 25, 27, 2, 5000, 9000);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        fixture_expect(f, 1, 24, 1);
        fixture_expect(f, 25, 27, 2);
        assert_true(stats_of(f).log_last == 27);
        assert_true(stats_of(f).segments == 3);
    }
    /* From the first record of a segment on, and everything. */
    fixture_append(f, 21, 21, 3, 5000, 9000);
    fixture_expect(f, 21, 21, 3);
    fixture_append(f, 1, 1, 4, 5000, 9000);
    fixture_reopen(f);
    fixture_expect(f, 1, 1, 4);
    assert_true(stats_of(f).log_first == 1 && stats_of(f).log_last == 1);
}

static void retention_drops_whole_old_segments(void **state) {
    struct fixture *f = *state;
    small_segments(f);
    fixture_open(f);
    fill(f);
    /* By index only two may go, although four are old enough. */
    f->storage->ops->retain(f->storage, 29, 4500);
    fixture_append(f, 61, 61, 1, 100, 9000);
    assert_true(stats_of(f).log_first == 21);
    /* By age only one more. */
    f->storage->ops->retain(f->storage, 1000, 3001);
    fixture_append(f, 62, 62, 1, 100, 9000);
    assert_true(stats_of(f).log_first == 31);
    /* Never the one being written. */
    f->storage->ops->retain(f->storage, 1000, 1000000);
    fixture_append(f, 63, 63, 1, 100, 9000);
    assert_true(stats_of(f).segments == 1);
    assert_true(stats_of(f).log_first == 51);
    fixture_expect(f, 51, 63, 1);
    assert_int_equal(f->storage->ops->read(f->storage, 50, 50, NULL, NULL, f->error,
                                           sizeof f->error), -1);
    fixture_reopen(f);
    fixture_expect(f, 51, 63, 1);
    assert_int_equal(fixture_count_files(f, "log-"), 1);
}

struct slow_visit { struct fixture *f; unsigned visited; };

/* Inside of a read: the segment under it is dropped. */
static bool retain_while_reading(void *arg, const struct record_header *h, const void *payload) {
    struct slow_visit *v = arg;
    assert_true(fixture_is_sound(h, payload));
    if (v->visited++ == 0) {
        v->f->storage->ops->retain(v->f->storage, 1000, 1000000);
        fixture_append(v->f, 61, 61, 1, 100, 9000);
        assert_true(stats_of(v->f).log_first == 51);
    }
    return h->index < 10;
}

static void reader_keeps_its_segment(void **state) {
    struct fixture *f = *state;
    struct slow_visit v = {.f = f};
    small_segments(f);
    fixture_open(f);
    fill(f);
    assert_int_equal(f->storage->ops->read(f->storage, 1, 60, retain_while_reading, &v, f->error,
                                           sizeof f->error), 1);
    assert_int_equal(v.visited, 10);
}

static void hole_is_refused(void **state) {
    struct fixture *f = *state;
    char path[256];
    small_segments(f);
    fixture_open(f);
    fill(f);
    fixture_close(f);
    snprintf(path, sizeof path, "%s/log-%020d", f->directory, 31);
    fixture_remove_tree(path);
    assert_null(storage_lmdb_open(&f->options, f->error, sizeof f->error));
    assert_non_null(strstr(f->error, "the log has a hole: log-00000000000000000021 ends with "
                                     "record 30, the next segment begins with 41"));
}

static void segment_of_another_log_is_refused(void **state) {
    struct fixture *f = *state;
    char from[256], to[256];
    small_segments(f);
    fixture_open(f);
    fill(f);
    fixture_close(f);
    snprintf(from, sizeof from, "%s/log-%020d", f->directory, 21);
    snprintf(to, sizeof to, "%s/log-%020d", f->directory, 31);
    fixture_remove_tree(to);
    assert_int_equal(rename(from, to), 0);
    assert_null(storage_lmdb_open(&f->options, f->error, sizeof f->error));
    assert_non_null(strstr(f->error, "log-00000000000000000031 begins with record 21"));
}

/* A damaged old segment costs its own records and nothing else. */
static void damaged_old_segment_is_named(void **state) {
    struct fixture *f = *state;
    char path[300], junk[8192];
    small_segments(f);
    fixture_open(f);
    fill(f);
    fixture_close(f);
    snprintf(path, sizeof path, "%s/log-%020d/data.mdb", f->directory, 21);
    memset(junk, 0x77, sizeof junk);
    int fd = open(path, O_WRONLY);
    assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
    close(fd);
    fixture_open(f);
    fixture_expect(f, 1, 20, 1);
    fixture_expect(f, 31, 60, 1);
    assert_int_equal(f->storage->ops->read(f->storage, 21, 21, NULL, NULL, f->error,
                                           sizeof f->error), -1);
    assert_non_null(strstr(f->error, "log-00000000000000000021: record 21 cannot be read"));
    fixture_close(f);
    snprintf(path, sizeof path, "%s/log-%020d/data.mdb", f->directory, 51);
    fd = open(path, O_WRONLY);
    assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
    close(fd);
    assert_null(storage_lmdb_open(&f->options, f->error, sizeof f->error));
    assert_non_null(strstr(f->error, "the newest log segment cannot be opened"));
}

/* What a crash while a segment was being made may leave, in all stages. */
static void half_made_segment_is_thrown_away(void **state) {
    struct fixture *f = *state;
    char path[256], file[300];
    small_segments(f);
    fixture_open(f);
    fill(f);
    for (int bytes = -1; bytes <= 8192; bytes = bytes < 0 ? 0 : bytes + 1024) {
        fixture_close(f);
        snprintf(path, sizeof path, "%s/log-%020d", f->directory, 61);
        assert_int_equal(mkdir(path, 0700), 0);
        snprintf(file, sizeof file, "%s/data.mdb", path);
        if (bytes >= 0) {
            int fd = open(file, O_WRONLY | O_CREAT, 0600);
            assert_int_equal(ftruncate(fd, bytes), 0);
            close(fd);
        }
        fixture_open(f);
        fixture_expect(f, 1, 60, 1);
        assert_int_equal(fixture_count_files(f, "log-"), 6);
    }
    fixture_append(f, 61, 75, 1, 5000, 9000);
    fixture_expect(f, 1, 75, 1);
}

struct crash { enum storage_lmdb_point point; int after; };

static int crash_there(void *arg, enum storage_lmdb_point point) {
    struct crash *crash = arg;
    if (point == crash->point && crash->after-- == 0) _exit(7);
    return 0;
}

/* Runs `last_append` in a child that dies at the point. */
static void crash_while(struct fixture *f, struct crash crash, uint64_t first, uint64_t last) {
    fixture_close(f);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        f->options.fault = crash_there;
        f->options.fault_arg = &crash;
        f->storage = storage_lmdb_open(&f->options, f->error, sizeof f->error);
        if (!f->storage) _exit(1);
        f->storage->ops->append(f->storage, fixture_records(first, last, 2, 5000, 9000));
        for (;;) pause();
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    fixture_open(f);
}

/* After a crash at any step of a truncation the log is a prefix of the old one. */
static void crash_in_a_truncation(void **state) {
    struct fixture *f = *state;
    small_segments(f);
    fixture_open(f);
    fill(f);
    crash_while(f, (struct crash){STORAGE_POINT_SEGMENT_DROPPED, 0}, 25, 26);
    assert_true(stats_of(f).log_last == 50);
    fixture_expect(f, 1, 50, 1);
    crash_while(f, (struct crash){STORAGE_POINT_SEGMENT_DROPPED, 1}, 25, 26);
    assert_true(stats_of(f).log_last == 30);
    fixture_expect(f, 1, 30, 1);
    crash_while(f, (struct crash){STORAGE_POINT_LOG_COMMIT, 0}, 25, 26);
    assert_true(stats_of(f).log_last == 30);
    fixture_expect(f, 1, 30, 1);
    fixture_append(f, 25, 26, 2, 5000, 9000);
    fixture_expect(f, 1, 24, 1);
    fixture_expect(f, 25, 26, 2);
}

static void crash_in_a_rollover(void **state) {
    struct fixture *f = *state;
    small_segments(f);
    fixture_open(f);
    fill(f);
    crash_while(f, (struct crash){STORAGE_POINT_SEGMENT_CREATED, 0}, 61, 70);
    fixture_expect(f, 1, 60, 1);
    assert_int_equal(fixture_count_files(f, "log-"), 6);
    crash_while(f, (struct crash){STORAGE_POINT_LOG_COMMIT, 0}, 61, 70);
    fixture_expect(f, 1, 60, 1);
    assert_int_equal(fixture_count_files(f, "log-"), 6);
    fixture_append(f, 61, 70, 2, 5000, 9000);
    fixture_expect(f, 1, 60, 1);
    fixture_expect(f, 61, 70, 2);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(segments_roll_by_size),
        TEST(segments_roll_by_age),
        TEST(many_segments_are_read_in_any_order),
        TEST(truncation_over_segments),
        TEST(retention_drops_whole_old_segments),
        TEST(reader_keeps_its_segment),
        TEST(hole_is_refused),
        TEST(segment_of_another_log_is_refused),
        TEST(damaged_old_segment_is_named),
        TEST(half_made_segment_is_thrown_away),
        TEST(crash_in_a_truncation),
        TEST(crash_in_a_rollover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
