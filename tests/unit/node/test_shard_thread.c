/* A shard's thread and a real storage: how they part. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/shard/shard_thread.h"
#include "persistence/lmdb/storage_lmdb.h"

static char directory[64];
static atomic_int checkpoints_begun, checkpoints_left;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "/tmp/jumun-thread-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) {
    return nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The checkpoint thread dwells in the midst of its work. */
static int dwell(void *arg, enum storage_lmdb_point point) {
    if (point != STORAGE_POINT_STATE_COMMIT) return 0;
    atomic_store(&checkpoints_begun, 1);
    usleep(100000);
    atomic_store(&checkpoints_left, 1);
    return 0;
}

static void no_send(struct courier *c, uint32_t from, uint32_t to, uint64_t sequence,
                    struct bytes payload) {}
static void no_acknowledge(struct courier *c, uint32_t from, uint32_t to, uint64_t sequence) {}

static void stop_waits_for_the_checkpoint_that_is_being_written(void **state) {
    char error[512] = "";
    struct courier courier = {no_send, no_acknowledge};
    const struct storage_lmdb_options disk = {.directory = directory, .fault = dwell,
                                              .room_floor_bytes = 1};
    struct storage *storage = storage_lmdb_open(&disk, error, sizeof error);
    if (!storage) fail_msg("%s", error);
    struct node_clock clock;
    node_clock_init(&clock);
    const struct shard_thread_options options = {
        .clock = &clock,
        .cpu = -1,
        .shard = {.shards_count = 1, .server_id = 1, .storage = storage, .courier = &courier,
                  .checkpoint_age_ms = 1}};
    struct shard_thread *thread = shard_thread_start(&options, error, sizeof error);
    if (!thread || !shard_thread_await(thread, error, sizeof error)) fail_msg("%s", error);
    /* The first one comes by itself: its marker goes behind the records of the start. */
    while (!atomic_load(&checkpoints_begun)) usleep(1000);
    shard_thread_stop(thread);
    assert_int_equal(atomic_load(&checkpoints_left), 1);
    storage->ops->close(storage);
    shard_thread_free(thread);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stop_waits_for_the_checkpoint_that_is_being_written,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
