/* A replica whose shards' logs have lost their beginning: what it does until it has their states,
 * and what it goes on doing meanwhile. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/replica/replica_config.h"
#include "engine/replica/replica_internal.h"
#include "tests/unit/replica/feed_world.h"

enum { PATIENCE_MS = 60000, ENTRIES = 2000, LOST = 1 };

static const char address[] = "inproc://replica-import";
static const char cluster_id[] = "0123456789abcdef0123456789abcdef";
static char directory[64], snapshots[80];
static struct feed_world world;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "/tmp/jumun-import-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(snapshots, sizeof snapshots, "%s/snapshots", directory);
    feed_world_init(&world, cluster_id, address, 17, ENTRIES);
    return 0;
}

static int tear_down(void **state) {
    feed_world_fini(&world);
    return nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct replica *replica_open(void) {
    char error[512] = "";
    static unsigned sockets;
    struct replica_config config;
    replica_config_defaults(&config);
    snprintf(config.data, sizeof config.data, "%s/replica", directory);
    snprintf(config.nodes, sizeof config.nodes, "feed:%s", address);
    snprintf(config.listen, sizeof config.listen, "inproc://importing-replica-%u", sockets++);
    snprintf(config.notify_listen, sizeof config.notify_listen, "none");
    config.map_bytes = 1u << 30;
    config.heartbeat_ms = 20;
    struct replica *r = replica_start(&config, error, sizeof error);
    if (!r) fail_msg("%s", error);
    return r;
}

static void await_caught_up(struct replica *r) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (!replica_is_caught_up(r)) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
}

static void make_damaged(struct feed_world *w, uint32_t shard, const char *path) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("this is no state", file);
    fclose(file);
}

/* A node's copy cannot be taken: each one costs the node something. */
static void an_import_that_fails_is_not_begun_anew_at_once(void **state) {
    atomic_store(&world.make_state, make_damaged);
    feed_world_forget(&world, LOST);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    const struct feed_world_shard *s = &world.shards[LOST];
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&s->copies) < 3) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
    int64_t began_ms = clock_mono_ms();
    while (clock_mono_ms() < began_ms + 3000) usleep(10000);
    /* Behind pauses of 0.4, 0.8 and 1.6 s, and not of 0.1 s. */
    assert_in_range(atomic_load(&s->copies), 4, 8);
    assert_in_range(atomic_load(&r->shards[LOST].import_failures), 3, 8);
    pthread_mutex_lock(&r->lock);
    assert_non_null(strstr(r->shards[LOST].import_why, "incoming-1"));
    pthread_mutex_unlock(&r->lock);
    /* When it can be taken, it is, and all is forgotten. */
    atomic_store(&world.make_state, feed_world_write_state);
    await_caught_up(r);
    assert_int_equal(atomic_load(&r->shards[LOST].import_failures), 0);
    assert_string_equal(r->shards[LOST].import_why, "");
    assert_false(replica_is_partial(r));
    replica_stop(r, false);
}

static void await_fresh(struct replica *r, uint32_t shard) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&r->shards[shard].fresh_ms) == 0) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
}

/* A cluster that shrinks has more shards than it spreads new orders over: so many that are up to
 * date do not make up for one that is not. */
static void it_is_ready_when_every_shard_is_up_to_date(void **state) {
    atomic_store(&world.shards[0].unknown, true);
    feed_world_up(&world, 1, NULL);
    struct replica *r = replica_open();
    await_fresh(r, 1);
    await_fresh(r, 2);
    assert_int_equal(atomic_load(&r->shards_count), 1);
    assert_false(replica_is_caught_up(r));
    atomic_store(&world.shards[0].unknown, false);
    await_caught_up(r);
    assert_true(atomic_load(&r->shards[0].fresh_ms) != 0);
    replica_stop(r, false);
}

/* One that was retired and that no node has any more is not waited for. */
static void a_retired_shard_is_not_waited_for(void **state) {
    static const uint8_t active[SHARDS_MAX / 8] = {3};
    atomic_store(&world.shards[2].unknown, true);
    feed_world_up(&world, 2, NULL);
    struct replica *r = replica_open();
    await_fresh(r, 0);
    await_fresh(r, 1);
    assert_false(replica_is_caught_up(r));
    feed_remove(world.feed, 2);
    feed_set_active(world.feed, active);
    await_caught_up(r);
    assert_true(atomic_load(&r->shards[2].retired));
    replica_stop(r, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_import_that_fails_is_not_begun_anew_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(it_is_ready_when_every_shard_is_up_to_date, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_retired_shard_is_not_waited_for, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("replica_import", tests, NULL, NULL);
}
