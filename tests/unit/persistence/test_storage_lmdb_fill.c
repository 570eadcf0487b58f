/* Gaps that are filled, where LMDB can fail: a process that dies at each step, a disk without room,
 * records that are not the right ones, installs and retention in between, threads beside it. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage_install_fixture.h"

enum { DIED = 41 };

struct fault_plan {
    enum storage_lmdb_point point;
    int code;                      /* to fail with; 0 = the process ends there */
};

static int plan_fault(void *arg, enum storage_lmdb_point point) {
    const struct fault_plan *plan = arg;
    if (point != plan->point) return 0;
    if (plan->code == 0) _exit(DIED);
    return plan->code;
}

/* 30 committed records of term 1, a gap from 31 to 60, and `behind` more of term 8. */
static void gap_make(struct fixture *f, uint64_t behind) {
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    if (behind > 0) fixture_append(f, 61, 60 + behind, 8, 64, 2000);
}

static void expect_next_gap(struct fixture *f, uint32_t position, uint64_t first, uint64_t last,
                            bool opens) {
    struct storage_gap gap;
    assert_true(f->storage->ops->gap(f->storage, position, &gap));
    assert_int_equal(gap.first, first);
    assert_int_equal(gap.last, last);
    assert_int_equal(gap.opens, opens);
    assert_true(gap.installed_ms > 0);
}

static void expect_no_gap(struct fixture *f) {
    struct storage_gap gap;
    assert_false(f->storage->ops->gap(f->storage, 0, &gap));
    expect_gap(f, 0, 0, 0);
}

/* All is there as if there had never been a gap. */
static void expect_whole(struct fixture *f, uint64_t last) {
    expect_no_gap(f);
    expect_log(f, 1, last);
    fixture_expect(f, 1, 30, 1);
    fixture_expect(f, 31, 60, 2);
    if (last > 60) fixture_expect(f, 61, last, 8);
}

static void the_records_become_history(void **state) {
    struct fixture *f = *state;
    gap_make(f, 10);
    expect_next_gap(f, 0, 31, 60, false);
    assert_int_equal(fill(f, 31, 45, 2, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_gap(f, 1, 46, 60);
        expect_log(f, 61, 70);
        fixture_expect(f, 31, 45, 2);
        expect_unread(f, 40, 46, "gap");
    }
    /* What a peer sends of the log behind it is left out. */
    assert_int_equal(fill(f, 46, 70, 2, 64), STORAGE_FILLED);
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_int_equal(stats.filled_records, 15);
    assert_int_equal(stats.log_first, 1);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 70);
    /* The log goes on behind it, truncations down to the gap's old end included. */
    fixture_append(f, 61, 64, 8, 64, 2000);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 64);
    expect_installed(f, 60, 'n');
}

/* Nothing was appended behind the installed state so far. */
static void a_log_without_an_end_is_filled(void **state) {
    struct fixture *f = *state;
    gap_make(f, 0);
    assert_int_equal(fill(f, 31, 60, 2, 64), STORAGE_FILLED);
    expect_whole(f, 60);
    fixture_append(f, 61, 65, 8, 64, 2000);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 65);
}

static void a_segment_that_is_full_is_followed_by_another(void **state) {
    struct fixture *f = *state;
    f->options.segment_bytes_max = 65536;
    gap_make(f, 10);
    struct storage_stats before, after;
    f->storage->ops->stats(f->storage, &before);
    for (uint64_t i = 31; i <= 60; i += 5)
        assert_int_equal(fill(f, i, i + 4, 2, 9000), STORAGE_FILLED);
    f->storage->ops->stats(f->storage, &after);
    assert_true(after.segments >= before.segments + 4);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 70);
    /* Back over the boundary to what was filled: that stays. */
    fixture_append(f, 61, 61, 8, 64, 2000);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 61);
}

/* -- a process that dies ---------------------------------------------------------------------- */

static void child_dies(struct fixture *f, enum storage_lmdb_point point, uint64_t first,
                       uint64_t last, uint32_t payload_bytes) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fault_plan plan = {.point = point};
        struct storage_lmdb_options options = f->options;
        options.fault = plan_fault;
        options.fault_arg = &plan;
        f->storage = storage_lmdb_open(&options, f->error, sizeof f->error);
        if (f->storage) fill(f, first, last, 2, payload_bytes);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), DIED);
}

/* Into the segment in front (small records) and into new ones (large ones), in the middle of the
 * gap and at its end. */
static void a_death_at_any_step_is_all_or_nothing(void **state) {
    static const struct { enum storage_lmdb_point point; bool happened; } steps[] = {
        {STORAGE_POINT_FILL_COMMIT, false}, {STORAGE_POINT_FILL_COMMITTED, false},
        {STORAGE_POINT_FILL_SHRINK, false}, {STORAGE_POINT_FILL_DONE, true}};
    static const uint32_t payloads[] = {64, 20000};
    for (unsigned i = 0; i < 16; i++) {
        unsigned step = i / 4;
        uint32_t payload = payloads[i % 2];
        uint64_t last = i / 2 % 2 ? 60 : 40;
        void *inner;
        assert_int_equal(fixture_setup(&inner), 0);
        struct fixture *f = inner;
        f->options.segment_bytes_max = 262144;
        gap_make(f, 10);
        fixture_close(f);
        child_dies(f, steps[step].point, 31, last, payload);
        for (int opens = 0; opens < 2; opens++) {
            fixture_open(f);
            if (!steps[step].happened) expect_gap(f, 1, 31, 60);
            else if (last < 60) expect_gap(f, 1, 41, 60);
            else expect_whole(f, 70);
            if (!steps[step].happened) expect_unread(f, 30, 31, "gap");
            fixture_expect(f, 1, 30, 1);
            fixture_expect(f, 61, 70, 8);
            fixture_close(f);
        }
        fixture_open(f);
        struct storage_gap gap;
        if (f->storage->ops->gap(f->storage, 0, &gap))
            assert_int_equal(fill(f, gap.first, 60, 2, payload), STORAGE_FILLED);
        for (int opens = 0; opens < 2; opens++, fixture_reopen(f)) expect_whole(f, 70);
        fixture_teardown(&inner);
    }
}

/* -- no room ---------------------------------------------------------------------------------- */

static void without_room_it_is_tried_again(void **state) {
    static const enum storage_lmdb_point points[] = {
        STORAGE_POINT_FILL_COMMIT, STORAGE_POINT_FILL_SHRINK, STORAGE_POINT_SEGMENT_CREATED};
    struct fixture *f = *state;
    struct fault_plan plan = {.code = ENOSPC};
    f->options.segment_bytes_max = 262144;
    f->options.fault = plan_fault;
    f->options.fault_arg = &plan;
    gap_make(f, 10);
    uint64_t next = 31;
    for (unsigned i = 0; i < 6; i++) {
        /* The second half goes into new segments. */
        uint32_t payload = i < 3 ? 64 : 100000;
        plan.point = points[i % 3];
        if (i == 2) continue; /* no segment is made for a small piece */
        assert_int_equal(fill(f, next, next + 1, 2, payload), STORAGE_FILL_NO_ROOM);
        assert_non_null(strstr(f->error, "No space"));
        expect_gap(f, 1, next, 60);
        expect_unread(f, next - 1, next, "gap");
        if (i % 2) fixture_reopen(f);
        plan.point = 0;
        assert_int_equal(fill(f, next, next + 1, 2, payload), STORAGE_FILLED);
        next += 2;
    }
    f->options.room_floor_bytes = UINT64_MAX / 4;
    fixture_reopen(f);
    assert_int_equal(fill(f, next, 60, 2, 64), STORAGE_FILL_NO_ROOM);
    f->options.room_floor_bytes = 0;
    fixture_reopen(f);
    assert_int_equal(fill(f, next, 60, 2, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 70);
}

/* The uncommitted tail could not be deleted; the records that belong there take its place. */
static void a_void_tail_is_replaced(void **state) {
    struct fixture *f = *state;
    struct fault_plan plan = {.point = STORAGE_POINT_INSTALL_CUT, .code = ENOSPC};
    f->options.fault = plan_fault;
    f->options.fault_arg = &plan;
    gap_make(f, 10);
    expect_unread(f, 31, 31, "gap");
    assert_int_equal(fill(f, 31, 34, 2, 64), STORAGE_FILLED);
    fixture_expect(f, 31, 34, 2);
    fixture_reopen(f);
    assert_int_equal(fill(f, 35, 60, 2, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 70);
}

static bool visit_stored(void *arg, const struct record_header *h, const void *payload) {
    uint64_t *next = arg;
    assert_int_equal(h->index, (*next)++);
    assert_int_equal(h->term, h->index <= 30 ? 1 : 2);
    return fixture_is_sound(h, payload);
}

/* Rows of the segment in front of the gap stay void when the next piece begins another. */
static void expect_no_void_rows(struct fixture *f) {
    assert_int_equal(fill(f, 31, 33, 2, 100000), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        uint64_t next = 20;
        expect_gap(f, 1, 34, 60);
        assert_true(f->storage->ops->read(f->storage, 20, 40, visit_stored, &next, f->error,
                                          sizeof f->error) < 0);
        assert_non_null(strstr(f->error, "record 34 is in a gap"));
        assert_int_equal(next, 34);
    }
    assert_int_equal(fill(f, 34, 60, 2, 100000), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 70);
}

/* A fill of 31..last fails at that point, and the rest is filled as if it had never been tried. */
static void expect_failed_try(struct fixture *f, enum storage_lmdb_point point, uint64_t last,
                              size_t payload_bytes) {
    struct fault_plan plan = {.point = point, .code = ENOSPC};
    f->options.segment_bytes_max = 262144;
    f->options.fault = plan_fault;
    f->options.fault_arg = &plan;
    gap_make(f, 10);
    assert_int_equal(fill(f, 31, last, 2, payload_bytes), STORAGE_FILL_NO_ROOM);
    assert_non_null(strstr(f->error, "No space"));
    expect_gap(f, 1, 31, 60);
    plan.point = 0;
    expect_no_void_rows(f);
}

static void a_void_tail_goes_before_the_next_segment(void **state) {
    expect_failed_try(*state, STORAGE_POINT_INSTALL_CUT, 33, 100000);
}

static void a_try_that_failed_goes_before_the_next_segment(void **state) {
    expect_failed_try(*state, STORAGE_POINT_FILL_SHRINK, 40, 64);
}

/* -- records that are not the right ones ------------------------------------------------------ */

static void expect_refused(struct fixture *f, const void *records, size_t bytes, const char *part) {
    assert_int_equal(f->storage->ops->fill(f->storage, records, bytes, f->error, sizeof f->error),
                     STORAGE_FILL_REFUSED);
    if (!strstr(f->error, part)) fail_msg("\"%s\" does not say \"%s\"", f->error, part);
    expect_gap(f, 1, 31, 60);
}

static void what_does_not_belong_there_is_refused(void **state) {
    struct fixture *f = *state;
    size_t bytes, each;
    gap_make(f, 0);
    uint8_t *records = packed(31, 35, 2, 64, 1500, &bytes);
    each = bytes / 5;
    for (size_t at = 8; at < each; at += 5) { /* any byte but the checksum's of the third */
        records[2 * each + at] ^= 0x40;
        assert_int_equal(f->storage->ops->fill(f->storage, records, bytes, f->error,
                                               sizeof f->error), STORAGE_FILL_REFUSED);
        assert_non_null(strstr(f->error, "record 33"));
        records[2 * each + at] ^= 0x40;
    }
    expect_refused(f, records, 4 * each + 40, "cut short");
    expect_refused(f, records, 8, "no record");
    memmove(records + each, records + 2 * each, 3 * each); /* 31, 33, 34, 35 */
    expect_refused(f, records, 4 * each, "index");
    free(records);
    assert_int_equal(fill(f, 31, 35, 8, 64), STORAGE_FILL_REFUSED); /* the state is of term 7 */
    assert_non_null(strstr(f->error, "newer"));
    assert_int_equal(fill(f, 32, 35, 2, 64), STORAGE_FILL_MOOT);
    assert_int_equal(fill(f, 30, 35, 2, 64), STORAGE_FILL_MOOT);
    assert_int_equal(fill(f, 61, 65, 2, 64), STORAGE_FILL_MOOT);
    assert_int_equal(fill(f, 31, 35, 5, 64), STORAGE_FILLED);
    assert_int_equal(fill(f, 36, 37, 4, 64), STORAGE_FILL_REFUSED);
    assert_non_null(strstr(f->error, "older"));
    /* Another shard's. */
    struct record *r = fixture_record(36, 5, 64, 1500);
    ((struct entry_header *)(void *)r->payload)->shard = 4;
    record_seal(&r->header, r->payload);
    assert_int_equal(f->storage->ops->fill(f->storage, &r->header, sizeof r->header + 64, f->error,
                                           sizeof f->error), STORAGE_FILL_REFUSED);
    assert_non_null(strstr(f->error, "another shard"));
    record_release(r);
    fixture_reopen(f);
    expect_gap(f, 1, 36, 60);
    /* The record behind the gap bounds the terms, once there is one. */
    fixture_append(f, 61, 62, 7, 64, 2000);
    assert_int_equal(fill(f, 36, 60, 8, 64), STORAGE_FILL_REFUSED);
    assert_int_equal(fill(f, 36, 60, 7, 64), STORAGE_FILLED);
    expect_log(f, 1, 62);
}

/* -- installs and retention in between -------------------------------------------------------- */

static void an_install_lengthens_the_gap(void **state) {
    struct fixture *f = *state;
    gap_make(f, 0);
    assert_int_equal(fill(f, 31, 40, 2, 64), STORAGE_FILLED);
    make_file(f, file_path(f, "in"), 80, 'm');
    assert_int_equal(install(f, file_path(f, "in"), 60), 0);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_installed(f, 80, 'm');
        expect_gap(f, 1, 41, 80);
        fixture_expect(f, 31, 40, 2);
    }
    assert_int_equal(fill(f, 41, 80, 3, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_no_gap(f);
        expect_log(f, 1, 80);
        fixture_expect(f, 41, 80, 3);
    }
    /* And one that finds no gap any more begins a new one. */
    fixture_append(f, 81, 90, 9, 64, 2000);
    make_file(f, file_path(f, "in"), 120, 'l');
    assert_int_equal(install(f, file_path(f, "in"), 85), 0);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_gap(f, 1, 86, 120);
        expect_log(f, 121, 120);
        fixture_expect(f, 1, 30, 1);
        fixture_expect(f, 81, 85, 9);
    }
}

static void several_gaps_are_filled_in_any_order(void **state) {
    for (int newest_first = 0; newest_first < 2; newest_first++) {
        void *inner;
        assert_int_equal(fixture_setup(&inner), 0);
        struct fixture *f = inner;
        gap_make(f, 10);
        make_file(f, file_path(f, "in"), 120, 'l');
        assert_int_equal(install(f, file_path(f, "in"), 70), 0);
        fixture_append(f, 121, 125, 13, 64, 2000);
        expect_next_gap(f, 0, 71, 120, false);
        expect_next_gap(f, 1, 31, 60, false);
        if (newest_first) assert_int_equal(fill(f, 71, 120, 9, 64), STORAGE_FILLED);
        else assert_int_equal(fill(f, 31, 60, 2, 64), STORAGE_FILLED);
        expect_gap(f, 1, newest_first ? 31 : 71, newest_first ? 60 : 120);
        expect_log(f, newest_first ? 61 : 121, 125);
        if (newest_first) assert_int_equal(fill(f, 31, 60, 9, 64), STORAGE_FILL_REFUSED);
        if (newest_first) assert_int_equal(fill(f, 31, 60, 2, 64), STORAGE_FILLED);
        else assert_int_equal(fill(f, 71, 120, 9, 64), STORAGE_FILLED);
        for (int i = 0; i < 2; i++, fixture_reopen(f)) {
            expect_no_gap(f);
            expect_log(f, 1, 125);
            fixture_expect(f, 31, 60, 2);
            fixture_expect(f, 61, 70, 8);
            fixture_expect(f, 71, 120, 9);
            fixture_expect(f, 121, 125, 13);
        }
        fixture_teardown(&inner);
    }
}

/* Nothing lies in front of a gap any more, or never did: history may begin anywhere inside. */
static void a_gap_at_the_beginning_is_opened(void **state) {
    struct fixture *f = *state;
    gap_make(f, 0);
    fixture_append(f, 61, 70, 8, 64, 500000);
    assert_int_equal(fill(f, 45, 50, 2, 64), STORAGE_FILL_MOOT);
    f->storage->ops->retain(f->storage, 60, 400000);
    wait_dropped(f, 61);
    expect_next_gap(f, 0, 31, 60, true);
    assert_int_equal(fill(f, 30, 50, 2, 64), STORAGE_FILL_MOOT);
    assert_int_equal(fill(f, 45, 50, 2, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_gap(f, 1, 51, 60);
        expect_next_gap(f, 0, 51, 60, false);
        fixture_expect(f, 45, 50, 2);
        expect_unread(f, 44, 44, "stored are 45");
    }
    assert_int_equal(fill(f, 51, 60, 2, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_no_gap(f);
        expect_log(f, 45, 70);
        fixture_expect(f, 45, 60, 2);
        fixture_expect(f, 61, 70, 8);
    }
}

/* What it lacked is past its retention as well: nothing is to be fetched, and nobody is told. */
static void a_gap_that_retention_has_passed_is_none(void **state) {
    struct fixture *f = *state;
    f->options.segment_bytes_max = 65536;
    gap_make(f, 0);
    fixture_append(f, 61, 128, 8, 2000, 2000);
    fixture_append(f, 129, 200, 8, 2000, 500000);
    expect_gap(f, 1, 31, 60);
    f->storage->ops->retain(f->storage, 128, 400000);
    wait_dropped(f, 62);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_no_gap(f);
    make_file(f, file_path(f, "newer"), 240, 'm');
    assert_int_equal(install(f, file_path(f, "newer"), 200), 0);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_gap(f, 1, 201, 240);
}

/* Retention that comes in the middle of a piece. */
struct retain_plan { struct fixture *f; uint64_t next; enum storage_lmdb_point point; };

static int plan_retain(void *arg, enum storage_lmdb_point point) {
    struct retain_plan *plan = arg;
    if (point != plan->point || plan->next == 0) return 0;
    plan->f->storage->ops->retain(plan->f->storage, 200, 400000);
    /* The writer has seen to it when the second is there. */
    for (int i = 0; i < 2; i++, plan->next++)
        fixture_append(plan->f, plan->next, plan->next, 8, 64, 500000);
    return 0;
}

/* A piece joins what it was meant for, into the segment in front (small records) or a new one. */
static void expect_retention_waits(enum storage_lmdb_point point, uint32_t payload, bool opens) {
    void *inner;
    assert_int_equal(fixture_setup(&inner), 0);
    struct fixture *f = inner;
    struct retain_plan plan = {.f = f, .point = point};
    f->options.segment_bytes_max = 65536;
    f->options.fault = plan_retain;
    f->options.fault_arg = &plan;
    gap_make(f, 0);
    fixture_append(f, 61, 128, 8, 2000, 2000);
    fixture_append(f, 129, 200, 8, 2000, 500000);
    if (opens) { /* nothing in front */
        f->storage->ops->retain(f->storage, 60, 400000);
        wait_dropped(f, 61);
    }
    plan.next = 201;
    assert_int_equal(fill(f, 31, 40, 2, payload), STORAGE_FILLED);
    assert_int_equal(plan.next, 203); /* it came */
    plan.next = 0;
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_next_gap(f, 0, 41, 60, false);
        fixture_expect(f, 31, 40, 2);
        fixture_expect(f, 61, 202, 8);
    }
    assert_int_equal(fill(f, 41, 60, 2, payload), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_no_gap(f);
        expect_log(f, opens ? 31 : 1, 202);
        fixture_expect(f, 31, 60, 2);
    }
    fixture_teardown(&inner);
}

/* At each step between the locks that it takes. */
static void retention_waits_for_a_piece(void **state) {
    static const enum storage_lmdb_point points[] = {
        STORAGE_POINT_FILL_COMMIT, STORAGE_POINT_FILL_COMMITTED, STORAGE_POINT_FILL_SHRINK,
        STORAGE_POINT_FILL_DONE};
    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        expect_retention_waits(points[i], 64, false);
        expect_retention_waits(points[i], 20000, true);
    }
}

static void a_new_disk_is_filled_from_the_first_record(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    vote(f, 100);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 0), 0);
    expect_next_gap(f, 0, 1, 60, true);
    assert_int_equal(fill(f, 1, 30, 1, 64), STORAGE_FILLED);
    fixture_append(f, 61, 70, 8, 64, 2000);
    assert_int_equal(fill(f, 31, 60, 2, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 70);
}

/* -- threads ---------------------------------------------------------------------------------- */

struct filler { struct fixture *f; enum storage_filled outcome; };

static void *filler_run(void *arg) {
    struct filler *k = arg;
    k->outcome = STORAGE_FILLED;
    for (uint64_t i = 31; i <= 60 && k->outcome == STORAGE_FILLED; i++)
        k->outcome = fill(k->f, i, i, 2, 9000);
    return NULL;
}

static bool visit_some(void *arg, const struct record_header *h, const void *payload) {
    (void)arg;
    return fixture_is_sound(h, payload);
}

static void the_log_goes_on_meanwhile(void **state) {
    struct fixture *f = *state;
    f->options.segment_bytes_max = 65536;
    gap_make(f, 1);
    struct fixture copy = *f; /* of its own: error */
    struct filler k = {.f = &copy};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, filler_run, &k), 0);
    char error[256];
    for (uint64_t i = 62; i < 140; i++) {
        fixture_append(f, i, i + 4, 8, 9000, 2000);
        f->storage->ops->read(f->storage, 25, 70, visit_some, NULL, error, sizeof error);
        f->storage->ops->retain(f->storage, 60, 10);
        vote(f, 100 + i);
    }
    fixture_append(f, 61, 63, 8, 64, 2000);
    pthread_join(thread, NULL);
    assert_int_equal(k.outcome, STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_whole(f, 63);
}

/* A state that comes while pieces do: each is there or is not, and none behind it. */
static void an_install_waits_for_a_piece(void **state) {
    struct fixture *f = *state;
    gap_make(f, 0);
    make_file(f, file_path(f, "in"), 80, 'm');
    struct fixture copy = *f;
    struct filler k = {.f = &copy};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, filler_run, &k), 0);
    usleep(2000);
    assert_int_equal(install(f, file_path(f, "in"), 60), 0);
    pthread_join(thread, NULL);
    assert_true(k.outcome == STORAGE_FILLED || k.outcome == STORAGE_FILL_MOOT);
    expect_installed(f, 80, 'm');
    struct storage_gap gap;
    assert_true(f->storage->ops->gap(f->storage, 0, &gap));
    assert_int_equal(gap.last, 80);
    if (gap.first > 31) fixture_expect(f, 31, gap.first - 1, 2);
    expect_unread(f, gap.first, gap.first, "gap");
    assert_int_equal(fill(f, gap.first, 80, 3, 64), STORAGE_FILLED);
    fixture_reopen(f);
    expect_no_gap(f);
    expect_log(f, 1, 80);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_records_become_history),
        TEST(a_log_without_an_end_is_filled),
        TEST(a_segment_that_is_full_is_followed_by_another),
        TEST(a_death_at_any_step_is_all_or_nothing),
        TEST(without_room_it_is_tried_again),
        TEST(a_void_tail_is_replaced),
        TEST(a_void_tail_goes_before_the_next_segment),
        TEST(a_try_that_failed_goes_before_the_next_segment),
        TEST(what_does_not_belong_there_is_refused),
        TEST(an_install_lengthens_the_gap),
        TEST(several_gaps_are_filled_in_any_order),
        TEST(a_gap_at_the_beginning_is_opened),
        TEST(a_gap_that_retention_has_passed_is_none),
        TEST(retention_waits_for_a_piece),
        TEST(a_new_disk_is_filled_from_the_first_record),
        TEST(the_log_goes_on_meanwhile),
        TEST(an_install_waits_for_a_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
