/* A log as a tool reads it: whole, growing, shrinking, with holes, and with every page damaged. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "persistence/lmdb/journal.h"
#include "persistence/log_source.h"
#include "tests/unit/persistence/storage_fixture.h"

enum { PAYLOAD = 600, SEGMENT_BYTES = 1 << 16 };

static int setup(void **state) {
    int rc = fixture_setup(state);
    struct fixture *f = *state;
    f->options.segment_bytes_max = SEGMENT_BYTES;
    fixture_open(f);
    return rc;
}

static struct log_source *source_of(struct fixture *f) {
    struct log_source *s = log_source_open(f->directory, f->error, sizeof f->error);
    if (!s) fail_msg("%s", f->error);
    return s;
}

/* Reads first..last; every record must be the fixture's. Returns how many came. */
static uint64_t read_sound(struct log_source *s, uint64_t first, uint64_t last) {
    struct log_item item;
    enum log_step step;
    uint64_t next = first;
    struct log_cursor *c = log_cursor_open(s, first, last, true);
    while ((step = log_cursor_next(c, &item)) != LOG_END) {
        assert_int_equal(step, LOG_RECORD);
        assert_int_equal(item.index, next);
        assert_true(fixture_is_sound(item.header, item.payload));
        next++;
    }
    log_cursor_close(c);
    return next - first;
}

static void test_whole_and_growing(void **state) {
    struct fixture *f = *state;
    const struct log_source_segment *list;
    uint64_t first, last;
    for (uint64_t i = 1; i <= 400; i += 10) {
        fixture_append(f, i, i + 9, 1, PAYLOAD, (int64_t)(1000 * i));
    }
    struct log_source *s = source_of(f);
    log_source_range(s, &first, &last);
    assert_int_equal(first, 1);
    assert_int_equal(last, 400);
    assert_true(log_source_segments(s, &list) > 3);
    assert_int_equal(read_sound(s, 1, 400), 400);
    assert_int_equal(read_sound(s, 37, 42), 6);
    assert_int_equal(read_sound(s, 399, UINT64_MAX), 2);

    /* A cursor at the end does not see what comes later; a refresh does. */
    struct log_cursor *c = log_cursor_open(s, 400, 500, true);
    struct log_item item;
    assert_int_equal(log_cursor_next(c, &item), LOG_RECORD);
    for (uint64_t i = 401; i <= 600; i += 10) {
        fixture_append(f, i, i + 9, 1, PAYLOAD, (int64_t)(1000 * i));
    }
    log_cursor_close(c);
    assert_int_equal(log_source_refresh(s, f->error, sizeof f->error), 0);
    assert_int_equal(read_sound(s, 1, UINT64_MAX), 600);
    log_source_close(s);
}

static void test_times(void **state) {
    struct fixture *f = *state;
    for (uint64_t i = 1; i <= 300; i += 10) {
        fixture_append(f, i, i + 9, 1, PAYLOAD, (int64_t)(1000 * (i / 10 + 1)));
    }
    struct log_source *s = source_of(f);
    /* Ten records a second, the first ones in second 1. */
    assert_int_equal(log_source_index_at(s, 999), 0);
    assert_int_equal(log_source_index_at(s, 1000), 10);
    assert_int_equal(log_source_index_at(s, 1999), 10);
    assert_int_equal(log_source_index_at(s, 15000), 150);
    assert_int_equal(log_source_index_at(s, 30000), 300);
    assert_int_equal(log_source_index_at(s, 99999999), 300);
    log_source_close(s);
}

/* A segment that goes while it is read is no fault; one that was never there is. */
static void test_dropped_and_missing(void **state) {
    struct fixture *f = *state;
    const struct log_source_segment *list;
    char path[256], away[280];
    for (uint64_t i = 1; i <= 400; i += 10) fixture_append(f, i, i + 9, 1, PAYLOAD, 1000);
    struct log_source *s = source_of(f);
    struct log_item item;
    uint32_t count = log_source_segments(s, &list);
    assert_true(count > 3);
    uint64_t second = list[1].first, third = list[2].first;
    snprintf(path, sizeof path, "%s/%s", f->directory, list[1].name);
    snprintf(away, sizeof away, "%s.1.trash", path);
    struct log_cursor *c = log_cursor_open(s, 1, 400, true);
    assert_int_equal(rename(path, away), 0);
    uint64_t next = 1;
    while (next < second) {
        assert_int_equal(log_cursor_next(c, &item), LOG_RECORD);
        next++;
    }
    assert_int_equal(log_cursor_next(c, &item), LOG_DROPPED);
    assert_int_equal(item.index, second);
    assert_int_equal(item.upto, third - 1);
    assert_int_equal(log_cursor_next(c, &item), LOG_RECORD);
    assert_int_equal(item.index, third);
    log_cursor_close(c);

    assert_int_equal(log_source_refresh(s, f->error, sizeof f->error), 0);
    c = log_cursor_open(s, 1, 400, true);
    uint64_t records = 0, missing = 0;
    enum log_step step;
    while ((step = log_cursor_next(c, &item)) != LOG_END) {
        if (step == LOG_RECORD) records++;
        if (step != LOG_FAULT) continue;
        assert_int_equal(item.fault, LOG_FAULT_MISSING);
        assert_int_equal(item.index, second);
        assert_int_equal(item.upto, third - 1);
        missing += item.upto - item.index + 1;
    }
    assert_int_equal(records + missing, 400);
    log_cursor_close(c);
    log_source_close(s);
    assert_int_equal(rename(away, path), 0);
}

/* One byte of each page at a time: no page's damage ends the process or hands out a wrong byte, and
 * what is not lost is read all the same. */
static void test_every_page_damaged(void **state) {
    struct fixture *f = *state;
    const struct log_source_segment *list;
    char path[300];
    struct stat st;
    for (uint64_t i = 1; i <= 60; i += 10) fixture_append(f, i, i + 9, 1, PAYLOAD, 1000);
    fixture_append(f, 61, 61, 1, 3 * 4096, 1000); /* a value on pages of its own */
    fixture_close(f);
    struct log_source *s = source_of(f);
    log_source_segments(s, &list);
    snprintf(path, sizeof path, "%s/%s/data.mdb", f->directory, list[0].name);
    log_source_close(s);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    static const uint16_t places[] = {0,  3,  8,  10,  11,   12,   14,  16,
                                      17, 18, 40, 700, 1500, 2900, 4000};
    for (off_t page = 0; page < st.st_size / 4096; page++) {
        for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
            uint8_t was, is;
            off_t at = page * 4096 + places[p];
            assert_int_equal(pread(fd, &was, 1, at), 1);
            is = was ^ (uint8_t)(1u << (unsigned)(page + (off_t)p) % 8);
            assert_int_equal(pwrite(fd, &is, 1, at), 1);
            s = log_source_open(f->directory, f->error, sizeof f->error);
            struct log_cursor *c = s ? log_cursor_open(s, 1, 61, true) : NULL;
            struct log_item item;
            enum log_step step;
            uint32_t steps = 0;
            while (c && (step = log_cursor_next(c, &item)) != LOG_END) {
                assert_true(steps++ < 1000);
                if (step == LOG_RECORD) assert_true(fixture_is_sound(item.header, item.payload));
                else assert_true(item.what[0] != 0);
            }
            log_cursor_close(c);
            log_source_close(s);
            assert_int_equal(pwrite(fd, &was, 1, at), 1);
        }
    }
    close(fd);
    s = source_of(f);
    assert_int_equal(read_sound(s, 1, UINT64_MAX), 61);
    log_source_close(s);
    fixture_open(f);
}

/* Whether the segment says that it was cut; the log's end stays where it was, so that what is
 * missing is named. Nothing is said when only pages that nobody used are gone. */
static bool cut_is_named(struct log_source *s, off_t size) {
    const struct log_source_segment *list;
    uint64_t first, last;
    assert_int_equal(log_source_segments(s, &list), 1);
    if (size >= 4096) {
        assert_true(list[0].fault == LOG_FAULT_CUT || list[0].fault == 0);
        assert_false(list[0].unborn);
    } else { /* as a crash may leave it */
        assert_int_equal(list[0].fault, LOG_FAULT_SEGMENT);
        assert_true(list[0].unborn);
    }
    assert_true((list[0].what[0] != 0) == (list[0].fault != 0));
    /* Up to the older of the two commits that its first pages tell of. */
    log_source_range(s, &first, &last);
    if (size >= 2 * 4096) assert_int_equal(last, 60);
    return list[0].fault != 0;
}

/* Cut at every page: the rest is read, what is lost is named. */
static void test_cut(void **state) {
    struct fixture *f = *state;
    const struct log_source_segment *list;
    char path[300];
    struct stat st;
    fixture_close(f);
    f->options.segment_bytes_max = 64 * SEGMENT_BYTES;
    fixture_open(f);
    for (uint64_t i = 1; i <= 60; i += 10) fixture_append(f, i, i + 9, 1, PAYLOAD, 1000);
    fixture_close(f);
    struct log_source *s = source_of(f);
    log_source_segments(s, &list);
    snprintf(path, sizeof path, "%s/%s/data.mdb", f->directory, list[0].name);
    log_source_close(s);
    assert_int_equal(stat(path, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    for (off_t size = 0; size < st.st_size; size += 4096) {
        assert_int_equal(ftruncate(fd, size), 0);
        s = log_source_open(f->directory, f->error, sizeof f->error);
        assert_non_null(s);
        bool named = cut_is_named(s, size);
        if (size < st.st_size / 2) assert_true(named);
        struct log_cursor *c = s ? log_cursor_open(s, 1, 60, true) : NULL;
        struct log_item item;
        enum log_step step;
        uint64_t records = 0, faults = 0;
        while (c && (step = log_cursor_next(c, &item)) != LOG_END) {
            if (step == LOG_RECORD) records++;
            else faults++;
        }
        assert_true(records == 60 || named);
        assert_true(records == 60 || faults > 0 || size < 2 * 4096);
        log_cursor_close(c);
        log_source_close(s);
        assert_int_equal(pwrite(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    }
    s = source_of(f);
    log_source_segments(s, &list);
    assert_int_equal(list[0].fault, 0);
    log_source_close(s);
    close(fd);
    free(bytes);
    fixture_open(f);
}

/* Pages that were freed at the very end and never written are no loss: after each of many commits
 * that take away what others brought, the segments are whole. */
static void test_no_false_cut(void **state) {
    struct fixture *f = *state;
    const struct log_source_segment *list;
    uint64_t newest = 0;
    for (uint64_t i = 1; i <= 40; i++) {
        uint64_t first = newest > 3 ? newest - 2 : newest + 1;
        fixture_append(f, first, first + 7, i, (uint32_t)(200 + i % 7 * 900), 1000);
        newest = first + 7;
        fixture_close(f);
        struct log_source *s = source_of(f);
        uint32_t count = log_source_segments(s, &list);
        for (uint32_t n = 0; n < count; n++) assert_int_equal(list[n].fault, 0);
        assert_int_equal(read_sound(s, 1, UINT64_MAX), newest);
        log_source_close(s);
        fixture_open(f);
    }
}

/* Records of somebody else's journal, which leave a gap, end nothing: it is left out. */
static void test_foreign_journal(void **state) {
    struct fixture *f = *state;
    static const atomic_bool go_on;
    struct journal journal;
    struct record *records;
    char path[300];
    fixture_append(f, 1, 20, 1, PAYLOAD, 1000);
    fixture_close(f);
    snprintf(path, sizeof path, "%s/journal", f->directory);
    unlink(path);
    assert_int_equal(journal_make(path, 7, 64 * JOURNAL_BLOCK, &go_on), 0);
    assert_int_equal(journal_open(&journal, path, 7, &records, f->error, sizeof f->error), 0);
    records = fixture_records(21, 22, 1, PAYLOAD, 1000);
    records->next->header.index = 25;
    for (struct record *r = records; r; r = r->next) record_seal(&r->header, r->payload);
    assert_int_equal(journal_write(&journal, records, 2, 0), 0);
    journal_close(&journal);
    for (struct record *next; records; records = next) {
        next = records->next;
        record_release(records);
    }
    struct log_source *s = source_of(f);
    assert_int_equal(read_sound(s, 1, UINT64_MAX), 20);
    log_source_close(s);
    unlink(path);
    fixture_open(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole_and_growing, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_times, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_dropped_and_missing, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_every_page_damaged, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_cut, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_false_cut, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_foreign_journal, setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
