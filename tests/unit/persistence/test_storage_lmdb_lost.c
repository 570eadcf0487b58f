/* Files that are gone while the vote is there: what was acknowledged may have been in them, so the
 * directory is refused, unless nothing can be missing. */
#include <errno.h>
#include <lmdb.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage_install_fixture.h"

enum { BLOCK = 4096, BLOCKS = 64, DIED = 41 };

/* What the storage's threads meet; shared with a child. */
static struct gate {
    enum storage_lmdb_point dies; /* the process ends there ... */
    int skip;                     /* ... once it has been there so often */
    atomic_bool made, no_room, hold;
} *gate;

static int at_point(void *arg, enum storage_lmdb_point point) {
    (void)arg;
    if (point == gate->dies && gate->skip-- == 0) _exit(DIED);
    if (point == STORAGE_POINT_JOURNAL_MADE) atomic_store(&gate->made, true);
    if (point == STORAGE_POINT_JOURNAL_WRITE && atomic_load(&gate->no_room)) return ENOSPC;
    while (point == STORAGE_POINT_LOG_COMMIT && atomic_load(&gate->hold))
        fixture_nap();
    return 0;
}

static int setup(void **state) {
    if (fixture_setup(state) != 0) return -1;
    struct fixture *f = *state;
    gate = fixture_share(sizeof *gate);
    f->options.fault = at_point;
    f->options.segment_bytes_max = 140000; /* twelve records of 5000 bytes, as they are filled */
    return 0;
}

static int teardown(void **state) {
    int rc = fixture_teardown(state);
    munmap(gate, sizeof *gate);
    return rc;
}

static void lose(const struct fixture *f, const char *name) {
    fixture_remove_tree(file_path(f, name));
}

static void lose_segment(const struct fixture *f, uint64_t first) {
    char name[32];
    snprintf(name, sizeof name, "log-%020llu", (unsigned long long)first);
    lose(f, name);
}

static void expect_refused(struct fixture *f, const char *why) {
    for (int i = 0; i < 2; i++) {
        f->error[0] = 0;
        struct storage *s = storage_lmdb_open(&f->options, f->error, sizeof f->error);
        if (s) s->ops->close(s);
        assert_null(s);
        assert_non_null(strstr(f->error, f->directory));
        if (!strstr(f->error, why)) fail_msg("\"%s\" does not say \"%s\"", f->error, why);
    }
}

/* Records 1..60 in segments that begin with 1, 11, 21, 31, 41, 51; no checkpoint. */
static void fill_segments(struct fixture *f) {
    fixture_open(f);
    vote(f, 3);
    for (uint64_t i = 1; i <= 60; i += 10) fixture_append(f, i, i + 9, 1, 5000, 1000);
    assert_int_equal(fixture_count_files(f, "log-"), 6);
}

static void checkpoint(struct fixture *f, uint64_t applied_index) {
    draft_do(f, draft_new(applied_index));
}

/* In a child that then dies, or that the gate lets die before. */
static void in_child(struct fixture *f, void (*work)(struct fixture *f), bool killed) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        f->appended_sequence = 0;
        fixture_open(f);
        work(f);
        if (killed) kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    fixture_await_end(child, killed ? SIGKILL : 0, DIED);
    gate->dies = 0;
    atomic_store(&gate->hold, false);
}

/* -- the vote's environment, as other programs may leave it ------------------------------- */

static void vote_change(const struct fixture *f, int (*change)(MDB_txn *txn, MDB_dbi table)) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, file_path(f, "vote"), 0, 0640), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &table), 0);
    assert_int_equal(change(txn, table), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static char row_name[] = "reached";

/* As before there was such a row. */
static int remove_row(MDB_txn *txn, MDB_dbi table) {
    MDB_val key = {sizeof row_name - 1, row_name};
    return mdb_del(txn, table, &key, NULL);
}

/* As a version does that does not know of it. */
static int write_beside_it(MDB_txn *txn, MDB_dbi table) {
    char name[] = "other";
    MDB_val key = {sizeof name - 1, name};
    return mdb_put(txn, table, &key, &key, 0);
}

static int damage_row(MDB_txn *txn, MDB_dbi table) {
    MDB_val key = {sizeof row_name - 1, row_name}, value;
    uint8_t row[32];
    int rc = mdb_get(txn, table, &key, &value);
    if (rc != 0) return rc;
    memcpy(row, value.mv_data, sizeof row);
    row[20] ^= 1;
    value.mv_data = row;
    return mdb_put(txn, table, &key, &value, 0);
}

/* -- the log ------------------------------------------------------------------------------ */

static void a_log_and_a_state_that_are_gone_are_missed(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    vote(f, 3);
    fixture_append(f, 1, 5, 3, 100, 1000);
    fixture_close(f);
    lose_segment(f, 1);
    lose(f, "state");
    expect_refused(f, "there were records up to 1 at least, and no log is left");
    assert_non_null(strstr(f->error, "jumun cluster replace"));
}

static void a_log_that_is_gone_is_missed_whatever_the_state_has(void **state) {
    struct fixture *f = *state;
    for (uint64_t applied = 0; applied <= 4; applied += 4) {
        fixture_open(f);
        fixture_append(f, 1, 5, 3, 100, 1000);
        checkpoint(f, applied);
        fixture_close(f);
        lose_segment(f, 1);
        expect_refused(f, "no log is left");
        fixture_remove_tree(f->directory);
        f->appended_sequence = 0;
    }
}

static void who_never_had_a_log_needs_none(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    vote(f, 9);
    for (int i = 0; i < 3; i++) fixture_reopen(f);
    fixture_append(f, 1, 5, 3, 100, 1000);
    fixture_reopen(f);
    fixture_expect(f, 1, 5, 3);
}

static void a_newest_segment_that_is_gone_is_missed(void **state) {
    struct fixture *f = *state;
    fill_segments(f);
    checkpoint(f, 45);
    fixture_close(f);
    lose_segment(f, 51);
    expect_refused(f, "there were records up to 51 at least, and the log ends with 50: the newest "
                      "log segments are missing");
    lose_segment(f, 41);
    expect_refused(f, "the log ends with 40");
}

/* An elder segment alone is a hole, or retention; the end is there. */
static void segments_that_retention_drops_are_not_missed(void **state) {
    struct fixture *f = *state;
    fill_segments(f);
    f->storage->ops->retain(f->storage, 50, 1000000);
    fixture_append(f, 61, 61, 1, 100, 2000);
    wait_dropped(f, 51);
    fixture_reopen(f);
    fixture_expect(f, 51, 61, 1);
}

static void a_segment_that_is_truncated_is_not_missed(void **state) {
    struct fixture *f = *state;
    fill_segments(f);
    fixture_append(f, 35, 36, 2, 5000, 2000);
    fixture_reopen(f);
    fixture_expect(f, 35, 36, 2);
    fixture_append(f, 31, 31, 3, 5000, 2000);
    fixture_reopen(f);
    fixture_expect(f, 31, 31, 3);
    fixture_append(f, 1, 1, 4, 5000, 2000);
    fixture_reopen(f);
    fixture_expect(f, 1, 1, 4);
    fixture_close(f);
    lose_segment(f, 1);
    expect_refused(f, "no log is left");
}

static void work_truncate(struct fixture *f) {
    f->storage->ops->append(f->storage, fixture_records(35, 36, 2, 5000, 9000));
}

static void work_roll_over(struct fixture *f) {
    f->storage->ops->append(f->storage, fixture_records(61, 75, 1, 5000, 9000));
}

/* Each step leaves a row that says what is there, or less. */
static void a_death_between_row_and_segment_leaves_a_sound_directory(void **state) {
    static const struct { enum storage_lmdb_point point; int skip; bool truncates; } steps[] = {
        {STORAGE_POINT_REACHED_COMMIT, 0, true}, {STORAGE_POINT_SEGMENT_DROPPED, 0, true},
        {STORAGE_POINT_SEGMENT_DROPPED, 1, true}, {STORAGE_POINT_LOG_COMMIT, 0, true},
        {STORAGE_POINT_REACHED_COMMIT, 1, true},
        {STORAGE_POINT_SEGMENT_CREATED, 0, false}, {STORAGE_POINT_LOG_COMMIT, 0, false},
        {STORAGE_POINT_REACHED_COMMIT, 0, false},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        void *inner;
        assert_int_equal(setup(&inner), 0);
        struct fixture *f = inner;
        fill_segments(f);
        fixture_close(f);
        gate->dies = steps[i].point;
        gate->skip = steps[i].skip;
        in_child(f, steps[i].truncates ? work_truncate : work_roll_over, false);
        fixture_open(f);
        struct storage_meta *meta = fixture_meta(f);
        fixture_expect(f, 1, meta->log_last < 34 ? meta->log_last : 34, 1);
        free(meta);
        assert_int_equal(teardown(&inner), 0);
    }
}

/* -- an installed state ------------------------------------------------------------------- */

/* The uncommitted end, which goes, may reach behind the state. */
static void an_install_takes_the_end_away(void **state) {
    struct fixture *f = *state;
    fill_segments(f);
    make_file(f, file_path(f, "in"), 45, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) expect_log(f, 46, 45);
    f->appended_sequence = 0;
    fixture_append(f, 46, 50, 2, 5000, 2000);
    fixture_close(f);
    lose_segment(f, 46);
    expect_refused(f, "up to 46 at least, and the log ends with 45");
}

static void work_install(struct fixture *f) {
    install(f, file_path(f, "in"), 30);
}

static void an_install_that_is_finished_later_does_too(void **state) {
    static const enum storage_lmdb_point points[] = {
        STORAGE_POINT_INSTALL_COMMITTED, STORAGE_POINT_REACHED_COMMIT,
        STORAGE_POINT_SEGMENT_DROPPED, STORAGE_POINT_INSTALL_ASIDE,
        STORAGE_POINT_INSTALL_SWITCHED};
    (void)state;
    for (unsigned i = 0; i < sizeof points / sizeof *points; i++) {
        void *inner;
        assert_int_equal(setup(&inner), 0);
        struct fixture *f = inner;
        fill_segments(f);
        fixture_close(f);
        make_file(f, file_path(f, "in"), 45, 'n');
        gate->dies = points[i];
        in_child(f, work_install, false);
        fixture_open(f);
        for (int opens = 0; opens < 2; opens++, fixture_reopen(f)) expect_log(f, 46, 45);
        assert_int_equal(teardown(&inner), 0);
    }
}

/* -- the journal -------------------------------------------------------------------------- */

/* The records take it into use. */
static void open_with_journal_and_append(struct fixture *f, uint64_t from, uint64_t to) {
    f->options.journal_bytes = BLOCKS * BLOCK;
    fixture_open(f);
    fixture_await(&gate->made);
    fixture_append(f, from, to, 1, 300, 7);
}

static void open_with_journal(struct fixture *f) { open_with_journal_and_append(f, 1, 5); }

/* A journal with records 61..65 behind the segments' 1..60, closed in order. */
static void fill_segments_and_journal(struct fixture *f) {
    fill_segments(f);
    fixture_close(f);
    f->appended_sequence = 0;
    open_with_journal_and_append(f, 61, 65);
    fixture_close(f);
}

static void work_append(struct fixture *f) { fixture_append(f, 6, 10, 1, 300, 7); }
static void work_truncate_in_journal(struct fixture *f) {
    fixture_append(f, 35, 36, 2, 300, 9000);
}

static void work_go_on(struct fixture *f) { fixture_append(f, 8, 10, 1, 300, 7); }

/* What is told and in the journal alone. */
static void acknowledge_and_die(struct fixture *f) {
    atomic_store(&gate->hold, true);
    in_child(f, work_append, true);
}

static void a_journal_that_is_gone_is_missed(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_close(f);
    acknowledge_and_die(f);
    char kept[300];
    snprintf(kept, sizeof kept, "%s", file_path(f, "kept"));
    assert_int_equal(rename(file_path(f, "journal"), kept), 0);
    expect_refused(f, "journal is missing, and the directory was not closed in order");
    assert_int_equal(rename(kept, file_path(f, "journal")), 0);
    fixture_open(f);
    fixture_expect(f, 1, 10, 1);
}

static void after_an_orderly_end_it_is_not_needed(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_close(f);
    assert_int_equal(unlink(file_path(f, "journal")), 0);
    gate->dies = STORAGE_POINT_LOG_COMMIT; /* there is none yet, or it holds nothing */
    in_child(f, work_append, false);
    unlink(file_path(f, "journal.new"));
    f->appended_sequence = 0;
    fixture_open(f);
    fixture_expect(f, 1, 5, 1);
}

static void one_that_was_removed_for_lack_of_room_is_not_missed(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_close(f);
    atomic_store(&gate->no_room, true);
    in_child(f, work_append, true);
    assert_int_equal(fixture_count_files(f, "journal"), 0);
    fixture_open(f);
    fixture_expect(f, 1, 10, 1);
}

static void another_journal_is_noticed(void **state) {
    struct fixture *f = *state;
    char other[300];
    open_with_journal(f);
    fixture_close(f);
    snprintf(other, sizeof other, "%s", file_path(f, "other"));
    assert_int_equal(rename(file_path(f, "journal"), other), 0);
    atomic_store(&gate->made, false);
    fixture_open(f);
    fixture_await(&gate->made);
    fixture_append(f, 6, 7, 1, 300, 7);
    fixture_close(f);
    in_child(f, work_go_on, true);
    assert_int_equal(rename(other, file_path(f, "journal")), 0);
    expect_refused(f, "journal is another one than was written to");
}

static void a_journal_without_its_log_is_refused(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_close(f);
    acknowledge_and_die(f);
    lose_segment(f, 1);
    expect_refused(f, "begins with record 6, but the log ends with record 0");
}

static void a_newest_segment_is_missed_beside_a_journal_too(void **state) {
    struct fixture *f = *state;
    fill_segments_and_journal(f);
    lose_segment(f, 51);
    expect_refused(f, "there were records up to 51 at least, and the log ends with 50");
}

/* It shortens the log before a segment is dropped. */
static void a_truncation_in_the_journal_alone_is_not_taken_for_a_loss(void **state) {
    struct fixture *f = *state;
    fill_segments_and_journal(f);
    atomic_store(&gate->hold, true);
    in_child(f, work_truncate_in_journal, true);
    assert_int_equal(fixture_count_files(f, "log-"), 6);
    fixture_open(f);
    fixture_expect(f, 35, 36, 2);
    fixture_expect(f, 1, 34, 1);
}

/* -- other versions ----------------------------------------------------------------------- */

static void a_directory_from_before_is_taken_as_it_is(void **state) {
    struct fixture *f = *state;
    fill_segments(f);
    checkpoint(f, 20);
    fixture_close(f);
    vote_change(f, remove_row);
    lose_segment(f, 51);
    fixture_open(f); /* nobody can know */
    fixture_expect(f, 1, 50, 1);
    fixture_close(f);
    lose_segment(f, 41);
    expect_refused(f, "there were records up to 41 at least");
}

static void without_the_row_the_state_still_misses_the_log(void **state) {
    struct fixture *f = *state;
    struct storage_meta meta;
    fixture_open(f);
    fixture_append(f, 1, 25, 1, 100, 1000);
    checkpoint(f, 20);
    fixture_close(f);
    vote_change(f, remove_row);
    lose_segment(f, 1);
    fixture_open(f);
    assert_int_equal(f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error), -1);
    assert_non_null(strstr(f->error, "the state reflects record 20, but the log ends with 0"));
}

/* A version that does not know of the row may truncate, and do without the journal. */
static void behind_an_older_version_only_the_beginning_counts(void **state) {
    struct fixture *f = *state;
    fill_segments(f);
    fixture_close(f);
    vote_change(f, write_beside_it);
    lose_segment(f, 51);
    fixture_open(f);
    fixture_expect(f, 1, 50, 1);
    fixture_close(f);
    vote_change(f, write_beside_it);
    for (uint64_t i = 1; i <= 41; i += 10) lose_segment(f, i);
    expect_refused(f, "no log is left");
}

static void an_older_version_may_have_removed_the_journal(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_close(f);
    in_child(f, work_append, true);
    assert_int_equal(unlink(file_path(f, "journal")), 0);
    vote_change(f, write_beside_it);
    f->appended_sequence = 0;
    fixture_open(f);
    fixture_expect(f, 1, 5, 1);
}

static void a_damaged_row_is_named(void **state) {
    struct fixture *f = *state;
    fill_segments(f);
    fixture_close(f);
    vote_change(f, damage_row);
    expect_refused(f, "vote: how far the log has come cannot be read");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_log_and_a_state_that_are_gone_are_missed),
        TEST(a_log_that_is_gone_is_missed_whatever_the_state_has),
        TEST(who_never_had_a_log_needs_none),
        TEST(a_newest_segment_that_is_gone_is_missed),
        TEST(segments_that_retention_drops_are_not_missed),
        TEST(a_segment_that_is_truncated_is_not_missed),
        cmocka_unit_test(a_death_between_row_and_segment_leaves_a_sound_directory),
        TEST(an_install_takes_the_end_away),
        cmocka_unit_test(an_install_that_is_finished_later_does_too),
        TEST(a_journal_that_is_gone_is_missed),
        TEST(after_an_orderly_end_it_is_not_needed),
        TEST(one_that_was_removed_for_lack_of_room_is_not_missed),
        TEST(another_journal_is_noticed),
        TEST(a_journal_without_its_log_is_refused),
        TEST(a_newest_segment_is_missed_beside_a_journal_too),
        TEST(a_truncation_in_the_journal_alone_is_not_taken_for_a_loss),
        TEST(a_directory_from_before_is_taken_as_it_is),
        TEST(without_the_row_the_state_still_misses_the_log),
        TEST(behind_an_older_version_only_the_beginning_counts),
        TEST(an_older_version_may_have_removed_the_journal),
        TEST(a_damaged_row_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
