/* Export, check and install where LMDB can fail: a process that dies at each step, a disk without
 * room, files that are damaged, another process that reads. */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/limits.h"
#include "storage_install_fixture.h"

enum { DIED = 41 };

struct fault_plan {
    enum storage_lmdb_point point;
    int code;                      /* to fail with; 0 = the process ends there */
    unsigned skip;                 /* so many times first */
};

static int plan_fault(void *arg, enum storage_lmdb_point point) {
    struct fault_plan *plan = arg;
    if (point != plan->point) return 0;
    if (plan->skip > 0) {
        plan->skip--;
        return 0;
    }
    if (plan->code == 0) _exit(DIED);
    return plan->code;
}

/* A follower with many small segments: 60 records, 30 committed, a checkpoint at 20. Closed. */
static void follower_make(struct fixture *f) {
    f->options.segment_bytes_max = 65536;
    fixture_open(f);
    vote(f, 100);
    for (uint64_t i = 1; i <= 60; i += 4) fixture_append(f, i, i + 3, 1, 5000, 1000);
    struct draft *d = draft_new(20);
    draft_put(d, ACTOR_ORDER, fixture_key(100, 1), 300, 'o')->new_deadline_ms = 77;
    draft_do(f, d);
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_true(stats.segments >= 5);
    fixture_close(f);
}

static void expect_old(struct fixture *f) {
    expect_log(f, 1, 60);
    expect_gap(f, 0, 0, 0);
    fixture_expect(f, 1, 60, 1);
    expect_actor(f, ACTOR_ORDER, fixture_key(100, 1), 300, 'o');
}

static void expect_new_at(struct fixture *f, uint64_t marker) {
    expect_installed(f, marker, 'n');
    expect_log(f, marker + 1, marker);
    expect_gap(f, 1, 31, marker);
    fixture_expect(f, 1, 30, 1);
    expect_unread(f, 30, 31, "gap");
}

static void expect_new(struct fixture *f) { expect_new_at(f, 80); }

/* In another process: opens and installs, and dies at the point. */
static void child_dies(struct fixture *f, struct fault_plan *plan, bool installs) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct storage_lmdb_options options = f->options;
        options.fault = plan_fault;
        options.fault_arg = plan;
        char error[512];
        struct storage *s = storage_lmdb_open(&options, error, sizeof error);
        if (s && installs) s->ops->install_state(s, file_path(f, "in"), 30, error, sizeof error);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), DIED);
}

struct step { enum storage_lmdb_point point; unsigned skip; bool happened; };

static void die_at(const struct step *step, uint64_t marker) {
    void *inner;
    assert_int_equal(fixture_setup(&inner), 0);
    struct fixture *f = inner;
    follower_make(f);
    make_file(f, file_path(f, "in"), marker, 'n');
    child_dies(f, &(struct fault_plan){.point = step->point, .skip = step->skip}, true);
    fixture_open(f);
    if (!step->happened) {
        expect_old(f);
        make_file(f, file_path(f, "in"), marker, 'n');
        assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    }
    for (int opens = 0; opens < 2; opens++, fixture_reopen(f)) {
        expect_new_at(f, marker);
        assert_int_equal(fixture_count_files(f, ".new"), 0);
    }
    f->appended_sequence = 0;
    fixture_append(f, marker + 1, marker + 10, 2, 5000, 2000);
    fixture_reopen(f);
    expect_log(f, marker + 1, marker + 10);
    fixture_expect(f, marker + 1, marker + 10, 2);
    fixture_teardown(&inner);
}

static void a_death_at_any_step_is_all_or_nothing(void **state) {
    static const struct step steps[] = {
        {STORAGE_POINT_INSTALL_READY, 0, false},    {STORAGE_POINT_INSTALL_COMMIT, 0, false},
        {STORAGE_POINT_INSTALL_COMMITTED, 0, true}, {STORAGE_POINT_SEGMENT_DROPPED, 0, true},
        {STORAGE_POINT_SEGMENT_DROPPED, 1, true},   {STORAGE_POINT_INSTALL_CUT, 0, true},
        {STORAGE_POINT_INSTALL_ASIDE, 0, true},     {STORAGE_POINT_INSTALL_SWITCHED, 0, true},
    };
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        die_at(&steps[i], 80);
        die_at(&steps[i], 45); /* the tail that goes, of other leaders, reaches behind the marker */
    }
}

/* What finishes an install at the next open may die as well. */
static void a_death_while_it_is_finished_is_finished_too(void **state) {
    struct fixture *f = *state;
    follower_make(f);
    make_file(f, file_path(f, "in"), 80, 'n');
    child_dies(f, &(struct fault_plan){.point = STORAGE_POINT_INSTALL_COMMITTED}, true);
    child_dies(f, &(struct fault_plan){.point = STORAGE_POINT_INSTALL_CUT}, false);
    child_dies(f, &(struct fault_plan){.point = STORAGE_POINT_INSTALL_ASIDE}, false);
    child_dies(f, &(struct fault_plan){.point = STORAGE_POINT_INSTALL_SWITCHED}, false);
    fixture_open(f);
    expect_new(f);
}

/* -- no room --------------------------------------------------------------------------------- */

static void without_room_nothing_changes(void **state) {
    struct fixture *f = *state;
    static const enum storage_lmdb_point points[] = {STORAGE_POINT_INSTALL_READY,
                                                     STORAGE_POINT_INSTALL_COMMIT};
    struct fault_plan plan = {.code = ENOSPC};
    follower_make(f);
    make_file(f, file_path(f, "in"), 80, 'n');
    f->options.fault = plan_fault;
    f->options.fault_arg = &plan;
    fixture_open(f);
    for (unsigned i = 0; i < 2; i++) {
        plan.point = points[i];
        assert_int_equal(install(f, file_path(f, "in"), 30), -1);
        assert_non_null(strstr(f->error, "No space"));
        expect_old(f);
        assert_int_equal(fixture_count_files(f, ".new"), 0);
        assert_int_equal(access(file_path(f, "in"), F_OK), 0);
    }
    f->appended_sequence = 0;
    fixture_append(f, 61, 64, 1, 100, 1000);
    plan.point = 0;
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    expect_new(f);
}

/* The uncommitted tail stays in the file when deleting it needs room; nobody reads it. */
static void without_room_a_void_tail_stays_and_is_not_read(void **state) {
    struct fixture *f = *state;
    struct fault_plan plan = {.point = STORAGE_POINT_INSTALL_CUT, .code = ENOSPC};
    follower_make(f);
    make_file(f, file_path(f, "in"), 80, 'n');
    f->options.fault = plan_fault;
    f->options.fault_arg = &plan;
    fixture_open(f);
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    expect_new(f);
    fixture_append(f, 81, 84, 2, 100, 1000);
    for (int i = 0; i < 2; i++) {
        fixture_reopen(f);
        expect_log(f, 81, 84);
        expect_unread(f, 1, 84, "gap");
        fixture_expect(f, 1, 30, 1);
        fixture_expect(f, 81, 84, 2);
        plan.point = 0; /* then there is room */
    }
}

static void an_export_without_room_leaves_no_file(void **state) {
    struct fixture *f = *state;
    struct fault_plan plan = {.point = STORAGE_POINT_EXPORT_COMMIT, .code = ENOSPC};
    struct storage_meta *meta = calloc(1, sizeof *meta);
    f->options.fault = plan_fault;
    f->options.fault_arg = &plan;
    follower_open(f);
    assert_int_equal(f->storage->ops->export_state(f->storage, file_path(f, "out"), NULL, meta,
                                                   f->error, sizeof f->error), -1);
    assert_non_null(strstr(f->error, "No space"));
    assert_int_equal(fixture_count_files(f, "out"), 0);
    plan.point = 0;
    f->options.room_floor_bytes = UINT64_MAX / 4;
    fixture_reopen(f);
    assert_int_equal(f->storage->ops->export_state(f->storage, file_path(f, "out"), NULL, meta,
                                                   f->error, sizeof f->error), -1);
    assert_non_null(strstr(f->error, "No space"));
    assert_int_equal(fixture_count_files(f, "out"), 0);
    free(meta);
}

/* -- damage ---------------------------------------------------------------------------------- */

static int check(struct fixture *f, const char *path) {
    struct storage_meta *meta = calloc(1, sizeof *meta);
    int rc = f->storage->ops->check_state(f->storage, path, meta, f->error, sizeof f->error);
    assert_true(rc == -1 || meta->applied_index == 60);
    free(meta);
    return rc;
}

static void damaged_files_are_refused(void **state) {
    struct fixture *f = *state;
    struct stat st;
    fixture_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(check(f, file_path(f, "in")), 0);
    int fd = open(file_path(f, "in"), O_RDWR);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *whole = malloc((size_t)st.st_size);
    assert_int_equal(pread(fd, whole, (size_t)st.st_size, 0), st.st_size);
    /* Every byte that holds what the 90,000 bytes of an order are made of. */
    unsigned refused = 0;
    for (off_t at = 0; at < st.st_size; at += 1009) {
        uint8_t wrong = whole[at] ^ 0x10;
        if (whole[at] != 'n') continue;
        assert_int_equal(pwrite(fd, &wrong, 1, at), 1);
        refused += check(f, file_path(f, "in")) == -1;
        assert_int_equal(pwrite(fd, whole + at, 1, at), 1);
    }
    assert_true(refused > 50);
    assert_int_equal(check(f, file_path(f, "in")), 0);
    for (off_t bytes = st.st_size - 4096; bytes >= 0; bytes -= 4096) {
        assert_int_equal(ftruncate(fd, bytes), 0);
        assert_int_equal(check(f, file_path(f, "in")), -1);
        assert_int_equal(install(f, file_path(f, "in"), 0), -1);
    }
    free(whole);
    close(fd);
    expect_log(f, 0, 0);
}

static void a_missing_row_is_found(void **state) {
    struct fixture *f = *state;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi orders;
    struct id128 id = fixture_key(7000, 1);
    MDB_val key = {16, id.bytes};
    fixture_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 8), 0);
    assert_int_equal(mdb_env_open(env, file_path(f, "in"), MDB_NOSUBDIR | MDB_NOLOCK, 0640), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "orders", 0, &orders), 0);
    assert_int_equal(mdb_del(txn, orders, &key, NULL), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_int_equal(check(f, file_path(f, "in")), -1);
    assert_non_null(strstr(f->error, "missing"));
}

static void what_is_not_for_here_is_refused(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    struct storage_meta *meta = calloc(1, sizeof *meta);
    assert_int_equal(storage_lmdb_check(4, file_path(f, "in"), meta, f->error, sizeof f->error),
                     -1);
    assert_non_null(strstr(f->error, "shard 3"));
    free(meta);
    assert_int_equal(install(f, file_path(f, "in"), 60), -1);
    assert_non_null(strstr(f->error, "not newer"));
    assert_int_equal(install(f, file_path(f, "none"), 30), -1);
    FILE *text = fopen(file_path(f, "text"), "w");
    for (int i = 0; i < 2000; i++) fputs("no state at all\n", text);
    fclose(text);
    assert_int_equal(check(f, file_path(f, "text")), -1);
    expect_log(f, 1, 40);
}

/* A state from before the install, put back by hand, does not fit the log any more. */
static void an_older_state_is_refused(void **state) {
    struct fixture *f = *state;
    char error[512], from[300], to[300];
    follower_open(f);
    fixture_close(f);
    snprintf(from, sizeof from, "cp -r %s/state %s/kept", f->directory, f->directory);
    assert_int_equal(system(from), 0);
    fixture_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    fixture_close(f);
    snprintf(from, sizeof from, "%s/state", f->directory);
    fixture_remove_tree(from);
    snprintf(from, sizeof from, "%s/kept", f->directory);
    snprintf(to, sizeof to, "%s/state", f->directory);
    assert_int_equal(rename(from, to), 0);
    fixture_open(f);
    struct storage_meta *meta = calloc(1, sizeof *meta);
    assert_int_equal(f->storage->ops->load_meta(f->storage, meta, error, sizeof error), -1);
    assert_non_null(strstr(error, "older"));
    free(meta);
}

static void many_gaps_are_bounded(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    uint64_t marker = 60, committed = 30;
    for (int i = 0; i < STORAGE_GAPS_MAX + 5; i++) {
        make_file(f, file_path(f, "in"), marker, 'n');
        assert_int_equal(install(f, file_path(f, "in"), committed), 0);
        fixture_append(f, marker + 1, marker + 4, 5, 64, 2000);
        committed = marker + 2;
        marker += 10;
    }
    struct storage_stats stats;
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        f->storage->ops->stats(f->storage, &stats);
        assert_int_equal(stats.gaps, STORAGE_GAPS_MAX);
        assert_int_equal(stats.gap_last, marker - 10);
        fixture_expect(f, 1, 30, 1);
        expect_unread(f, 61, 61, "gap"); /* given up: between the oldest gaps */
        fixture_expect(f, marker - 19, marker - 18, 5);
        fixture_expect(f, marker - 9, marker - 6, 5);
    }
}

/* -- another process ------------------------------------------------------------------------- */

/* `jumun backup`: reads the directory while its owner goes on, and the state's map grows. */
static void another_process_exports_a_living_state(void **state) {
    struct fixture *f = *state;
    int ready[2];
    f->options.state_map_bytes = 1 << 20;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char byte, error[512] = "", path[300];
        struct storage_meta *meta = calloc(1, sizeof *meta);
        if (read(ready[0], &byte, 1) != 1) _exit(2);
        for (int i = 0; i < 30; i++) {
            snprintf(path, sizeof path, "%s/backup", f->directory);
            if (storage_lmdb_export(f->directory, 3, path, NULL, meta, error, sizeof error) != 0 ||
                storage_lmdb_check(3, path, meta, error, sizeof error) != 0 ||
                meta->orders_count == 0 || meta->orders_count != meta->applied_index) {
                fprintf(stderr, "%s\n", error);
                _exit(3);
            }
        }
        _exit(0);
    }
    fixture_open(f);
    vote(f, 9);
    fixture_append(f, 1, 400, 1, 64, 1000);
    int status = -1;
    for (uint64_t i = 1; i <= 400; i++) {
        struct draft *d = draft_new(i);
        draft_put(d, ACTOR_ORDER, fixture_key(i, i), 20000, 'x');
        draft_do(f, d);
        if (i == 1) assert_int_equal(write(ready[1], "x", 1), 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(ready[0]);
    close(ready[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_death_at_any_step_is_all_or_nothing),
        cmocka_unit_test_setup_teardown(a_death_while_it_is_finished_is_finished_too,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(without_room_nothing_changes, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(without_room_a_void_tail_stays_and_is_not_read,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(an_export_without_room_leaves_no_file, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(damaged_files_are_refused, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_missing_row_is_found, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_for_here_is_refused, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(an_older_state_is_refused, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(many_gaps_are_bounded, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(another_process_exports_a_living_state, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
