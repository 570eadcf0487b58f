/* The disk of the views: what it says of itself, and copies of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/replica/view_store.h"

static char directory[64];
static uint32_t syncs;         /* of data */
static char word[64];          /* that the directory told of itself at the last one */

static void read_word(char out[64]) {
    char path[128];
    snprintf(path, sizeof path, "%s/boot", directory);
    memset(out, 0, 64);
    FILE *file = fopen(path, "r");
    if (!file) return;
    if (!fgets(out, 64, file)) out[0] = 0;
    fclose(file);
}

/* In the place of the C library's, for LMDB. */
int fdatasync(int fd) {
    syncs++;
    read_word(word);
    return (int)syscall(SYS_fdatasync, fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "/tmp/jumun-view-store-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) { return nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static struct view_store *store_open(bool synced) {
    char error[512] = "";
    const struct view_store_options options = {.directory = directory, .map_bytes = 1u << 30,
                                               .synced = synced};
    struct view_store *s = view_store_open(&options, error, sizeof error);
    if (!s) fail_msg("%s", error);
    return s;
}

static void store_write(struct view_store *s, uint64_t index) {
    const struct view_position position = {.shard = 1, .index = index};
    MDB_txn *txn = view_write_begin(s);
    assert_int_equal(view_put_positions(s, txn, &position, 1), 0);
    assert_int_equal(view_write_commit(s, txn), 0);
}

/* A process that did not sync was killed: its pages are in the page cache alone. Whoever finds
 * "synced" after a power cut takes them as they are. */
static void it_does_not_say_synced_of_what_is_not(void **state) {
    char now[64];
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        store_write(store_open(false), 7);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    read_word(now);
    assert_string_not_equal(now, "synced");
    syncs = 0;
    struct view_store *s = store_open(true);
    assert_true(syncs > 0);
    assert_string_equal(word, now);
    read_word(now);
    assert_string_equal(now, "synced");
    view_store_close(s);
    read_word(now);
    assert_string_equal(now, "synced");
    s = store_open(false);
    read_word(now);
    assert_string_not_equal(now, "synced");
    view_store_close(s);
    read_word(now);
    assert_string_equal(now, "closed");
}

/* A process that ends does not wait for a copy of all its views. */
static void a_copy_can_be_ended(void **state) {
    char path[128];
    atomic_bool stop = true;
    struct view_copy copy;
    struct view_position position;
    struct view_store *s = store_open(false);
    store_write(s, 9);
    snprintf(path, sizeof path, "%s/copy", directory);
    assert_int_equal(view_store_copy(s, path, &stop), ECANCELED);
    assert_int_not_equal(access(path, F_OK), 0);
    atomic_store(&stop, false);
    assert_int_equal(view_store_copy(s, path, &stop), 0);
    assert_int_equal(view_copy_open(&copy, path), 0);
    assert_int_equal(view_copy_positions(&copy, &position, 1), 1);
    assert_int_equal(position.index, 9);
    view_copy_close(&copy);
    view_store_close(s);
}

/* More than the pipe holds that it goes through: LMDB writes when that is closed, whatever the
 * program thinks of the signal. */
static void a_large_copy_can_be_ended(void **state) {
    char path[128];
    static uint8_t row[3000];
    atomic_bool stop = true;
    struct view_store *s = store_open(false);
    MDB_txn *txn = view_write_begin(s);
    for (uint32_t i = 0; i < 6000; i++) {
        uint8_t name[16] = {(uint8_t)(i >> 8), (uint8_t)i};
        MDB_val key = view_val(name, sizeof name), value = view_val(row, sizeof row);
        assert_int_equal(mdb_put(txn, s->orders, &key, &value, 0), 0);
    }
    assert_int_equal(view_write_commit(s, txn), 0);
    snprintf(path, sizeof path, "%s/copy", directory);
    for (int ignored = 0; ignored < 2; ignored++) {
        signal(SIGPIPE, ignored ? SIG_IGN : SIG_DFL);
        for (int i = 0; i < 50; i++) {
            assert_int_equal(view_store_copy(s, path, &stop), ECANCELED);
            assert_int_not_equal(access(path, F_OK), 0);
        }
    }
    signal(SIGPIPE, SIG_DFL);
    int fd = dup(0);
    assert_true(fd >= 0 && fd < 20); /* none was left open */
    close(fd);
    view_store_close(s);
}

/* As if the counters' rows had been of another layout. */
static void age_counters(struct view_store *s) {
    const uint32_t row[2] = {views[VIEW_COUNTERS].layout + 1, 1};
    MDB_val key = view_val("view/counters", 13), value = view_val(row, sizeof row);
    MDB_txn *txn = view_write_begin(s);
    assert_int_equal(mdb_put(txn, s->meta, &key, &value, 0), 0);
    assert_int_equal(view_write_commit(s, txn), 0);
}

/* Numbers cannot be made of orders: the answers are to say so. */
static void counters_of_another_layout_count_from_now(void **state) {
    static const struct view_position before[] = {
        {.shard = 0, .index = 0, .counted_from = 1, .lacks = VIEW_BUILDING},
        {.shard = 1, .index = 41, .counted_from = 1},
        {.shard = 4, .index = 50, .counted_from = 60}}; /* what it imported was ahead */
    static const uint64_t counted_from[] = {1, 42, 60};
    struct view_position after[3];
    struct view_read read;
    const void *rows;
    struct view_store *s = store_open(false);
    MDB_txn *txn = view_write_begin(s);
    assert_int_equal(view_put_positions(s, txn, before, 3), 0);
    assert_int_equal(view_write_commit(s, txn), 0);
    for (int aged = 0; aged < 2; aged++) {
        if (aged) age_counters(s);
        view_store_close(s);
        s = store_open(false);
        assert_true(view_read_begin(s, &read));
        assert_int_equal(view_positions(s, &read, &rows), 3);
        memcpy(after, rows, sizeof after);
        view_read_end(s, &read);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(after[i].shard, before[i].shard);
            assert_int_equal(after[i].index, before[i].index);
            assert_int_equal(after[i].lacks, before[i].lacks);
            assert_int_equal(after[i].counted_from,
                             aged ? counted_from[i] : before[i].counted_from);
        }
    }
    view_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_does_not_say_synced_of_what_is_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counters_of_another_layout_count_from_now, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_copy_can_be_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_large_copy_can_be_ended, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("view_store", tests, NULL, NULL);
}
