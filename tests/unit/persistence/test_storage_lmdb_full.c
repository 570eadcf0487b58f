/* No room: told once, waited out, nothing lost. Any other failure: the process ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "storage_fixture.h"

/* Fails a point from now on, until it is told to stop. */
struct failing { enum storage_lmdb_point point; int error; int left; };

static int fail_some(void *arg, enum storage_lmdb_point point) {
    struct failing *failing = arg;
    if (point != failing->point || __atomic_load_n(&failing->left, __ATOMIC_SEQ_CST) == 0) return 0;
    __atomic_fetch_sub(&failing->left, 1, __ATOMIC_SEQ_CST);
    return failing->error;
}

static void set_failing(struct fixture *f, struct failing *failing) {
    f->options.fault = fail_some;
    f->options.fault_arg = failing;
}

static bool log_is_full(struct fixture *f) {
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    return stats.full;
}

static void full_log_waits_and_goes_on(void **state) {
    struct fixture *f = *state;
    int errors[] = {ENOSPC, EDQUOT, ENOMEM};
    struct failing failing = {STORAGE_POINT_LOG_COMMIT, 0, 0};
    set_failing(f, &failing);
    fixture_open(f);
    uint64_t index = 1, sequence = 0;
    for (unsigned i = 0; i < 3; i++) {
        failing.error = errors[i];
        __atomic_store_n(&failing.left, 1000000, __ATOMIC_SEQ_CST);
        for (int k = 0; k < 5; k++, index++) {
            sequence = f->storage->ops->append(f->storage, fixture_record(index, 1, 3000, 1000));
        }
        fixture_wait(f, &f->full, i + 1);
        assert_true(f->appended_index < index - 1);
        assert_true(log_is_full(f));
        assert_int_equal(f->room, i);
        __atomic_store_n(&failing.left, 0, __ATOMIC_SEQ_CST);
        fixture_wait(f, &f->room, i + 1);
        fixture_wait64(f, &f->appended_sequence, sequence);
        assert_true(f->appended_index == index - 1);
        assert_false(log_is_full(f));
        assert_int_equal(f->full, i + 1);
    }
    fixture_expect(f, 1, index - 1, 1);
}

/* The segment cannot be made; the next try makes it. */
static void full_disk_at_a_rollover(void **state) {
    struct fixture *f = *state;
    struct failing failing = {STORAGE_POINT_SEGMENT_CREATED, ENOSPC, 0};
    set_failing(f, &failing);
    f->options.segment_bytes_max = 1 << 16;
    fixture_open(f);
    fixture_append(f, 1, 10, 1, 5000, 1000);
    __atomic_store_n(&failing.left, 2, __ATOMIC_SEQ_CST);
    fixture_append(f, 11, 20, 1, 5000, 1000);
    fixture_wait(f, &f->room, f->full);
    assert_int_equal(failing.left, 0);
    fixture_reopen(f);
    fixture_expect(f, 1, 20, 1);
    assert_int_equal(fixture_count_files(f, "log-"), 2);
}

static void floor_stops_appends_and_checkpoints(void **state) {
    struct fixture *f = *state;
    f->options.room_floor_bytes = 1ULL << 60;
    fixture_open(f);
    f->storage->ops->append(f->storage, fixture_record(1, 1, 3000, 1000));
    fixture_wait(f, &f->full, 1);
    struct checkpoint checkpoint = {.applied_index = 0};
    f->storage->ops->checkpoint(f->storage, &checkpoint);
    fixture_wait(f, &f->checkpoints_failed, 1);
    assert_true(f->appended_index == 0);
    /* Closing does not wait for ever; what was never acknowledged is given up. */
    fixture_close(f);
    f->options.room_floor_bytes = 1;
    fixture_open(f);
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_true(stats.log_last == 0);
    assert_true(stats.room_bytes > 0);
}

static void checkpoint_without_room_comes_back(void **state) {
    struct fixture *f = *state;
    struct failing failing = {STORAGE_POINT_STATE_COMMIT, ENOSPC, 1};
    set_failing(f, &failing);
    fixture_open(f);
    struct id128 key = fixture_key(1, 1);
    uint8_t *block = fixture_block(ACTOR_ORDER, &key, 100, 'x');
    struct checkpoint_item item = {.key = key, .kind = ACTOR_ORDER, .bytes = 100};
    struct checkpoint checkpoint = {.items = &item, .items_count = 1, .blocks = block,
                                    .blocks_bytes = 104};
    f->storage->ops->checkpoint(f->storage, &checkpoint);
    fixture_wait(f, &f->checkpoints_failed, 1);
    f->storage->ops->checkpoint(f->storage, &checkpoint);
    fixture_wait(f, &f->checkpointed, 1);
    assert_int_equal(f->checkpoints_failed, 1);
    free(block);
}

/* Its text is the caller's. */
static char *told_on_stderr(FILE *file, int stderr_saved) {
    char *text = calloc(1, 8192);
    assert_non_null(text);
    assert_true(dup2(stderr_saved, STDERR_FILENO) >= 0);
    close(stderr_saved);
    rewind(file);
    assert_true(fread(text, 1, 8191, file) > 0);
    fclose(file);
    return text;
}

/* It is tried again every second for as long as the disk is full: the log says it once. */
static void lack_of_room_for_checkpoints_is_told_once(void **state) {
    struct fixture *f = *state;
    struct failing failing = {STORAGE_POINT_STATE_COMMIT, ENOSPC, 5};
    struct checkpoint checkpoint = {.applied_index = 0};
    FILE *file = tmpfile();
    assert_non_null(file);
    set_failing(f, &failing);
    fixture_open(f);
    int stderr_saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    for (unsigned i = 1; i <= 5; i++) {
        f->storage->ops->checkpoint(f->storage, &checkpoint);
        fixture_wait(f, &f->checkpoints_failed, i);
    }
    for (unsigned i = 1; i <= 2; i++) {
        f->storage->ops->checkpoint(f->storage, &checkpoint);
        fixture_wait(f, &f->checkpointed, i);
    }
    char *text = told_on_stderr(file, stderr_saved);
    char *told = strstr(text, "no room for a checkpoint");
    assert_non_null(told);
    assert_null(strstr(told + 1, "no room for a checkpoint"));
    told = strstr(told, "there is room for checkpoints again");
    assert_non_null(told);
    assert_null(strstr(told + 1, "there is room for checkpoints again"));
    free(text);
}

/* Retention is what may make room, so it is done while appends wait. */
static void retention_works_while_full(void **state) {
    struct fixture *f = *state;
    struct failing failing = {STORAGE_POINT_LOG_COMMIT, ENOSPC, 0};
    struct storage_stats stats = {0};
    set_failing(f, &failing);
    f->options.segment_bytes_max = 1 << 16;
    fixture_open(f);
    fixture_append(f, 1, 10, 1, 5000, 1000);
    fixture_append(f, 11, 20, 1, 5000, 2000);
    __atomic_store_n(&failing.left, 1000000, __ATOMIC_SEQ_CST);
    f->storage->ops->append(f->storage, fixture_record(21, 1, 100, 3000));
    fixture_wait(f, &f->full, 1);
    f->storage->ops->retain(f->storage, 10, 1500);
    for (int64_t until_ms = clock_mono_ms() + 60000; stats.log_first != 11;) {
        assert_true(clock_mono_ms() < until_ms);
        f->storage->ops->stats(f->storage, &stats);
    }
    assert_true(log_is_full(f));
    __atomic_store_n(&failing.left, 0, __ATOMIC_SEQ_CST);
    fixture_wait64(f, &f->appended_index, 21);
    fixture_expect(f, 11, 21, 1);
}

/* A real file system that runs full: LMDB itself meets ENOSPC in the middle of a transaction. */
static void real_full_disk(void **state) {
    struct fixture *f = *state;
    char path[300], ballast[512];
    snprintf(path, sizeof path, "%s/mnt", f->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    if (mount("none", path, "tmpfs", 0, "size=8m") != 0) {
        print_message("no right to mount a tmpfs: not run\n");
        skip();
    }
    f->options.directory = path;
    f->options.segment_bytes_max = 1 << 20;
    f->options.batch_bytes_max = 150000; /* so that the disk is filled to the brim */
    snprintf(ballast, sizeof ballast, "%s/ballast", path);
    int fd = open(ballast, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 3 << 20), 0);
    close(fd);
    fixture_open(f);
    uint64_t index = 1, sequence = 0;
    /* 100 * 60 KiB: more than there is, less than without ballast. */
    for (; index <= 100; index++) {
        sequence = f->storage->ops->append(f->storage, fixture_record(index, 1, 60000, 1000));
    }
    fixture_wait(f, &f->full, 1);
    uint64_t durable = f->appended_index;
    assert_true(durable < 100);
    if (durable > 0) fixture_expect(f, 1, durable, 1);
    struct id128 key = fixture_key(1, 1);
    uint8_t *block = fixture_block(ACTOR_ORDER, &key, 1 << 20, 'x');
    struct checkpoint_item item = {.key = key, .kind = ACTOR_ORDER, .bytes = 1 << 20};
    struct checkpoint checkpoint = {.items = &item, .items_count = 1, .blocks = block,
                                    .blocks_bytes = 1 << 20};
    f->storage->ops->checkpoint(f->storage, &checkpoint);
    fixture_wait(f, &f->checkpoints_failed, 1);
    free(block);
    assert_int_equal(unlink(ballast), 0);
    fixture_wait(f, &f->room, 1);
    fixture_wait64(f, &f->appended_sequence, sequence);
    fixture_expect(f, 1, 100, 1);
    fixture_reopen(f);
    fixture_expect(f, 1, 100, 1);
    fixture_close(f);
    assert_int_equal(umount(path), 0);
}

static int unmount_and_teardown(void **state) {
    struct fixture *f = *state;
    char path[300];
    fixture_close(f);
    snprintf(path, sizeof path, "%s/mnt", f->directory);
    umount2(path, MNT_DETACH);
    return fixture_teardown(state);
}

/* Does `work` in a child in which `point` fails with EIO; the child must end by abort(). */
static void expect_abort(struct fixture *f, enum storage_lmdb_point point,
                         void (*work)(struct fixture *f)) {
    struct failing failing = {point, EIO, 1000000};
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        set_failing(f, &failing);
        f->storage = storage_lmdb_open(&f->options, f->error, sizeof f->error);
        if (!f->storage) _exit(1);
        work(f);
        for (int i = 0; i < 6000; i++) usleep(10000);
        _exit(2);
    }
    fixture_await_end(child, SIGABRT, 0);
}

static void work_append(struct fixture *f) {
    f->storage->ops->append(f->storage, fixture_record(11, 1, 100, 1000));
}

static void work_checkpoint(struct fixture *f) {
    static struct checkpoint checkpoint;
    f->storage->ops->checkpoint(f->storage, &checkpoint);
}

static void work_vote(struct fixture *f) { f->storage->ops->save_vote(f->storage, 9, 1); }

static void failed_write_ends_the_process(void **state) {
    struct fixture *f = *state;
    struct storage_meta meta;
    fixture_open(f);
    fixture_append(f, 1, 10, 1, 100, 1000);
    f->storage->ops->save_vote(f->storage, 3, 1);
    fixture_close(f);
    expect_abort(f, STORAGE_POINT_LOG_COMMIT, work_append);
    expect_abort(f, STORAGE_POINT_STATE_COMMIT, work_checkpoint);
    expect_abort(f, STORAGE_POINT_VOTE_COMMIT, work_vote);
    fixture_open(f);
    fixture_expect(f, 1, 10, 1);
    assert_int_equal(f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error), 0);
    assert_true(meta.log_last == 10 && meta.term == 3 && meta.voted_for == 1);
}

/* Each allocation that fails is made again later; nothing is lost. */
static void failing_allocations_are_waited_out(void **state) {
    struct fixture *f = *state;
    struct failing failing = {STORAGE_POINT_ALLOCATE, ENOMEM, 0};
    set_failing(f, &failing);
    f->options.segment_ms_max = 1;
    fixture_open(f);
    for (uint64_t i = 1; i <= 5; i++) {
        __atomic_store_n(&failing.left, 1, __ATOMIC_SEQ_CST);
        fixture_append(f, i, i, 1, 100, 1000 * (int64_t)i);
        assert_int_equal(failing.left, 0);
    }
    fixture_expect(f, 1, 5, 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(full_log_waits_and_goes_on),
        TEST(full_disk_at_a_rollover),
        TEST(floor_stops_appends_and_checkpoints),
        TEST(checkpoint_without_room_comes_back),
        TEST(lack_of_room_for_checkpoints_is_told_once),
        TEST(retention_works_while_full),
        cmocka_unit_test_setup_teardown(real_full_disk, fixture_setup, unmount_and_teardown),
        TEST(failed_write_ends_the_process),
        TEST(failing_allocations_are_waited_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
