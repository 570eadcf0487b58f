/* A replica whose shards' logs have lost their beginning: what it does until it has their states,
 * and what it goes on doing meanwhile. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "engine/base/clock.h"
#include "engine/replica/feed_client.h"
#include "engine/replica/replica_config.h"
#include "engine/replica/replica_internal.h"
#include "engine/wire/msgpack_reader.h"
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

static uint64_t map_bytes = 1u << 30; /* of the views */

static const char *also = "";         /* another node that it is told of */

static struct replica *replica_open(void) {
    char error[512] = "";
    static unsigned sockets;
    struct replica_config config;
    replica_config_defaults(&config);
    snprintf(config.data, sizeof config.data, "%s/replica", directory);
    snprintf(config.nodes, sizeof config.nodes, "feed:%s%s", address, also);
    snprintf(config.listen, sizeof config.listen, "inproc://importing-replica-%u", sockets++);
    snprintf(config.notify_listen, sizeof config.notify_listen, "none");
    config.map_bytes = map_bytes;
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
    int64_t began_ms = clock_mono_ms(), until_ms = began_ms + PATIENCE_MS;
    struct replica *r = replica_open();
    const struct feed_world_shard *s = &world.shards[LOST];
    while (atomic_load(&s->copies) < 6) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
    /* Behind pauses of 0.1, 0.2, 0.4, 0.8 and 1.6 s, and not of 0.1 s each. */
    assert_true(clock_mono_ms() - began_ms >= 3000);
    assert_true(atomic_load(&r->shards[LOST].import_failures) >= 5);
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

/* -- other shards meanwhile -- */

/* Each order so many times, under keys that no other one has: it takes a while to take in. */
enum { MANY = 150 };
static void make_large(struct feed_world *w, uint32_t shard, const char *path) {
    struct history *h = &w->history;
    uint32_t count = h->orders_count;
    struct history_order *real = h->orders;
    h->orders = calloc((size_t)count * MANY, sizeof *h->orders);
    assert_non_null(h->orders);
    h->orders_count = 0;
    for (uint32_t i = 0; i < count * MANY; i++) {
        struct history_order o = real[i % count];
        if (!o.block || o.shard != shard) continue;
        struct actor *block = malloc(o.block->bytes);
        assert_non_null(block);
        memcpy(block, o.block, o.block->bytes);
        if (i >= count) memcpy(block->key.bytes, &i, sizeof i);
        o.block = block;
        o.key = block->key;
        h->orders[h->orders_count++] = o;
    }
    feed_world_write_state(w, shard, path);
    for (uint32_t i = 0; i < h->orders_count; i++) free(h->orders[i].block);
    free(h->orders);
    h->orders = real;
    h->orders_count = count;
}

static void await_index(struct replica *r, uint32_t shard, uint64_t index) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&r->shards[shard].index) < index) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(500);
    }
}

/* What is seen of other shards while the state of one is taken in. */
static void other_shards_go_on_during_an_import(void **state) {
    atomic_store(&world.make_state, make_large);
    atomic_store(&world.shards[0].committed, 10);
    feed_world_forget(&world, LOST);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    await_index(r, 0, 10);
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS, longest_ms = 0;
    while (atomic_load(&world.shards[LOST].copies) == 0) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(100);
    }
    int64_t began_ms = clock_mono_ms();
    for (uint64_t index = 11; atomic_load(&r->shards[LOST].importing); index++) {
        int64_t asked_ms = clock_mono_ms();
        assert_true(index <= world.history.logs[0].last);
        atomic_store(&world.shards[0].committed, index);
        await_index(r, 0, index);
        usleep(2000);
        if (clock_mono_ms() - asked_ms > longest_ms) longest_ms = clock_mono_ms() - asked_ms;
    }
    int64_t took_ms = clock_mono_ms() - began_ms;
    print_message("the import took %lld ms, another shard's entry at most %lld ms\n",
                  (long long)took_ms, (long long)longest_ms);
    assert_true(longest_ms < took_ms / 5);
    await_caught_up(r);
    assert_false(replica_is_partial(r));
    replica_stop(r, false);
}

/* All orders are as the whole history leaves them. */
static void check_orders(struct replica *r) {
    struct view_read read;
    assert_true(view_read_begin(r->store, &read));
    for (uint32_t i = 0; i < world.history.orders_count; i++) {
        const struct history_order *o = &world.history.orders[i];
        struct bytes block;
        uint32_t shard;
        bool lives = o->block && !(o->block->flags & ACTOR_RETIRED);
        assert_int_equal(view_order_get(r->store, &read, &o->key, &block, &shard), lives);
        if (!lives) continue;
        assert_int_equal(shard, o->shard);
        assert_int_equal(block.size, o->block->bytes);
        assert_memory_equal(block.data, o->block, block.size);
    }
    view_read_end(r->store, &read);
}

/* The flags of an answer to a question for the counters by day. */
static uint64_t counters_flags(struct replica *r) {
    uint8_t bytes[64];
    char error[512] = "";
    struct msgpack_writer w;
    struct msgpack_reader reader;
    nng_msg *reply;
    uint32_t items;
    uint64_t numbers[7] = {0};
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_nil(&w);
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, QUERY_COUNTERS);
    msgpack_write_uint(&w, 86400000);
    if (feed_ask(replica_endpoint(r), bytes, msgpack_writer_size(&w), PATIENCE_MS, NULL, &reply,
                 error, sizeof error) != 0)
        fail_msg("%s", error);
    msgpack_reader_init(&reader, nng_msg_body(reply), nng_msg_len(reply));
    assert_int_equal(msgpack_read_array(&reader, &items), MSGPACK_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(msgpack_read_uint(&reader, &numbers[i]), MSGPACK_OK);
    assert_int_equal(msgpack_read_array(&reader, &items), MSGPACK_OK);
    assert_int_equal(msgpack_read_array(&reader, &items), MSGPACK_OK);
    for (int i = 2; i < 7; i++)
        assert_int_equal(msgpack_read_uint(&reader, &numbers[i]), MSGPACK_OK);
    assert_int_equal(numbers[1], RESULT_OK);
    assert_int_equal(numbers[2], RESULT_OK);
    nng_msg_free(reply);
    return numbers[6];
}

/* Orders that it had, and that ended in the stretch that is lost, go; the rest is as it would be
 * without an import. Entries of the other shards come all the while. */
static void an_import_leaves_what_a_whole_log_would(void **state) {
    atomic_store(&world.make_state, feed_world_write_state);
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++)
        atomic_store(&world.shards[i].committed, world.history.logs[i].last / 2);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    await_caught_up(r);
    assert_int_equal(counters_flags(r), 0);
    feed_world_down(&world);
    replica_stop(r, false);
    feed_world_forget(&world, LOST);
    atomic_store(&world.shards[LOST].committed, world.history.logs[LOST].last);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    r = replica_open();
    for (uint64_t more = 1; more <= world.history.logs[0].last; more++) {
        for (uint32_t i = 0; i < HISTORY_SHARDS; i++) {
            struct feed_world_shard *s = &world.shards[i];
            if (atomic_load(&s->committed) < world.history.logs[i].last)
                atomic_fetch_add(&s->committed, 1);
        }
        usleep(500);
    }
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++) await_index(r, i, world.history.logs[i].last);
    await_caught_up(r);
    assert_int_equal(atomic_load(&world.shards[LOST].copies), 1);
    check_orders(r);
    assert_int_equal(counters_flags(r), RESULT_FLAG_UNCOUNTED);
    replica_stop(r, false);
}

static void await_whole(struct replica *r) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (replica_is_partial(r)) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++) await_index(r, i, world.history.logs[i].last);
    await_caught_up(r);
}

/* Orders that ended behind the index of the state are ended in it: what the log brings of them is
 * known. */
static void a_state_may_be_ahead_of_its_index(void **state) {
    struct feed_world_shard *s = &world.shards[LOST];
    uint64_t half = world.history.logs[LOST].last / 2;
    atomic_store(&world.make_state, feed_world_write_state);
    atomic_store(&s->state_index, half + 20);
    s->ops.retain(s->storage, half, INT64_MAX);
    storage_memory_advance(s->disk, 100000);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    await_whole(r);
    assert_int_equal(atomic_load(&s->copies), 1);
    check_orders(r);
    replica_stop(r, false);
}

/* Half of the history is in the views, and the replica down. */
static void begin_with_half(void) {
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++)
        atomic_store(&world.shards[i].committed, world.history.logs[i].last / 2);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    await_caught_up(r);
    feed_world_down(&world);
    replica_stop(r, false);
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++)
        atomic_store(&world.shards[i].committed, world.history.logs[i].last);
}

/* What a kill in the middle of an import leaves: orders that are newer than their position. */
static void cut_an_import_short(void) {
    char error[512] = "", path[96], views_path[96];
    struct applier_import *import;
    enum applier_import_state state;
    snprintf(path, sizeof path, "%s/state", directory);
    snprintf(views_path, sizeof views_path, "%s/replica/views", directory);
    feed_world_write_state(&world, LOST, path);
    const struct view_store_options stored = {.directory = views_path, .map_bytes = map_bytes};
    struct view_store *store = view_store_open(&stored, error, sizeof error);
    if (!store) fail_msg("%s", error);
    const struct applier_options options = {.store = store};
    struct applier *a = applier_new(&options, error, sizeof error);
    if (!a) fail_msg("%s", error);
    assert_int_equal(applier_import_begin(a, LOST, path, world.history.logs[LOST].last, &import,
                                          error, sizeof error), APPLIER_TAKEN);
    assert_int_equal(applier_import_step(import, &state, error, sizeof error), APPLIER_TAKEN);
    assert_int_equal(state, APPLIER_IMPORT_GOES_ON);
    applier_import_end(import);
    assert_int_equal(applier_settle(a), APPLIER_TAKEN);
    applier_free(a);
    view_store_close(store);
}

/* Its log is there again, at a node that was away: the shard does not go on with it before its
 * orders are whole, nor does a log that goes on faster than states are made keep them from that. */
static void an_import_that_was_cut_short_comes_first(void **state) {
    atomic_store(&world.make_state, feed_world_write_state);
    begin_with_half();
    cut_an_import_short();
    atomic_store(&world.shards[LOST].state_index, world.history.logs[LOST].last / 2 + 20);
    struct replica *r = replica_open();
    usleep(300000);
    assert_int_equal(atomic_load(&r->shards[LOST].import_failures), 0); /* nobody was met yet */
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    await_whole(r);
    assert_int_equal(atomic_load(&world.shards[LOST].copies), 1);
    check_orders(r);
    replica_stop(r, false);
}

/* ... and is not asked for twice, when the log turns out not to reach back while it is done. */
static void an_import_that_was_cut_short_is_begun_anew_once(void **state) {
    atomic_store(&world.make_state, make_large);
    begin_with_half();
    cut_an_import_short();
    feed_world_forget(&world, LOST);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    also = ",feed:inproc://nobody-is-there"; /* known after a second */
    struct replica *r = replica_open();
    also = "";
    await_whole(r);
    int64_t until_ms = clock_mono_ms() + 1500;
    while (clock_mono_ms() < until_ms) usleep(10000);
    assert_false(replica_is_partial(r));
    assert_int_equal(atomic_load(&world.shards[LOST].copies), 1);
    assert_false(atomic_load(&r->shards[LOST].importing));
    replica_stop(r, false);
}

/* One that is being built, and is imported: it is whole then, also when nothing more comes. */
static void an_imported_shard_is_not_being_built(void **state) {
    struct feed_world_shard *s = &world.shards[LOST];
    atomic_store(&world.make_state, feed_world_write_state);
    atomic_store(&s->committed, world.history.logs[LOST].last / 2);
    atomic_store(&s->unknown, true);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    await_index(r, LOST, world.history.logs[LOST].last / 2);
    assert_true(atomic_load(&r->shards[LOST].building));
    int64_t time_ms = atomic_load(&r->shards[LOST].time_ms);
    feed_world_down(&world);
    feed_world_forget(&world, LOST);
    atomic_store(&s->committed, world.history.logs[LOST].last);
    atomic_store(&s->unknown, false);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    await_whole(r);
    assert_int_equal(atomic_load(&s->copies), 1);
    assert_false(atomic_load(&r->shards[LOST].building));
    assert_true(atomic_load(&r->shards[LOST].time_ms) > time_ms);
    replica_stop(r, false);
}

/* On the disk there are those orders and no others. */
static void check_count(void) {
    char error[512] = "", path[96];
    uint64_t living = 0;
    MDB_stat stat;
    struct view_read read;
    for (uint32_t i = 0; i < world.history.orders_count; i++) {
        const struct actor *block = world.history.orders[i].block;
        living += block && !(block->flags & ACTOR_RETIRED);
    }
    snprintf(path, sizeof path, "%s/replica/views", directory);
    const struct view_store_options stored = {.directory = path, .map_bytes = map_bytes};
    struct view_store *store = view_store_open(&stored, error, sizeof error);
    if (!store) fail_msg("%s", error);
    assert_true(view_read_begin(store, &read));
    assert_int_equal(mdb_stat(read.txn, store->orders, &stat), 0);
    view_read_end(store, &read);
    view_store_close(store);
    assert_int_equal(stat.ms_entries, living);
}

static uint32_t copies_made(void) {
    uint32_t copies = 0;
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++) copies += atomic_load(&world.shards[i].copies);
    return copies;
}

/* Shards that the views on the disk, which are not open, have not got whole. */
static uint32_t lacking(void) {
    char error[512] = "", path[96];
    struct view_position positions[HISTORY_SHARDS];
    uint32_t count = 0;
    struct view_read read;
    const void *rows;
    snprintf(path, sizeof path, "%s/replica/views", directory);
    const struct view_store_options stored = {.directory = path, .map_bytes = map_bytes};
    struct view_store *store = view_store_open(&stored, error, sizeof error);
    if (!store) fail_msg("%s", error);
    assert_true(view_read_begin(store, &read));
    assert_int_equal(view_positions(store, &read, &rows), HISTORY_SHARDS);
    memcpy(positions, rows, sizeof positions);
    view_read_end(store, &read);
    view_store_close(store);
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++)
        count += positions[i].index < world.history.logs[positions[i].shard].last;
    return count;
}

/* All shards at once, and an orderly end in the middle of it: each is whole in the end, also what
 * was taken in before. */
static void imports_of_all_shards_outlive_a_stop(void **state) {
    atomic_store(&world.make_state, make_large);
    begin_with_half();
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++) feed_world_forget(&world, i);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    bool whole = false; /* a busy machine came too late for the middle */
    for (uint32_t stops = 0; stops < 3 && !whole; stops++) {
        struct replica *r = replica_open();
        int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
        uint32_t before = copies_made();
        /* With the second one the first one is being taken in, if there are two left. */
        while (copies_made() < before + 2 && !replica_is_caught_up(r)) {
            assert_true(clock_mono_ms() < until_ms);
            usleep(1000);
        }
        usleep(20000 * stops);
        whole = replica_is_caught_up(r);
        replica_stop(r, false);
    }
    feed_world_down(&world); /* what is being made for who is gone is made then */
    uint32_t wanted = lacking();
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++) atomic_store(&world.shards[i].copies, 0);
    atomic_store(&world.make_state, feed_world_write_state);
    struct replica *r = replica_open();
    await_whole(r);
    assert_int_equal(copies_made(), wanted);
    check_orders(r);
    replica_stop(r, false);
    check_count();
}

/* Its last pages are not there, as its heads say. */
static void make_torn(struct feed_world *w, uint32_t shard, const char *path) {
    uint64_t last_page;
    feed_world_write_state(w, shard, path);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    for (long head = 0; head < 2; head++) {
        long at = head * 4096 + 16 + 24 + 2 * 48;
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        assert_int_equal(fread(&last_page, sizeof last_page, 1, file), 1);
        if (last_page < 16) continue; /* of before the one transaction */
        last_page -= 6;
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        assert_int_equal(fwrite(&last_page, sizeof last_page, 1, file), 1);
    }
    fclose(file);
}

/* A state whose orders cannot all be read is none: those that it seems to lack stay. */
static void a_torn_state_is_not_taken_for_a_whole_one(void **state) {
    atomic_store(&world.make_state, make_torn);
    begin_with_half();
    feed_world_forget(&world, LOST);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&r->shards[LOST].import_failures) < 2) {
        assert_true(clock_mono_ms() < until_ms && !replica_is_caught_up(r));
        usleep(1000);
    }
    assert_true(replica_is_partial(r));
    atomic_store(&world.make_state, feed_world_write_state);
    await_whole(r);
    check_orders(r);
    replica_stop(r, false);
}

/* A copy is of what the disk has: who asks for one is told that there is no room, and does not wait
 * until somebody makes some. */
static void a_full_disk_is_told_to_who_asks_for_a_copy(void **state) {
    static const uint8_t begin[] = {0x93, FEED_VERSION, 0xcd, FEED_SNAPSHOT_BEGIN >> 8,
                                    FEED_SNAPSHOT_BEGIN & 255, 0xc0};
    char error[512] = "";
    nng_msg *reply;
    struct feed_reply p;
    feed_world_up(&world, HISTORY_SHARDS, NULL);
    map_bytes = 256 << 10;
    struct replica *r = replica_open();
    map_bytes = 1u << 30;
    await_caught_up(r);
    if (feed_ask(replica_endpoint(r), begin, sizeof begin, 10000, NULL, &reply, error,
                 sizeof error) != 0)
        fail_msg("%s", error);
    assert_true(feed_reply_decode(nng_msg_body(reply), nng_msg_len(reply), FEED_SNAPSHOT_BEGIN,
                                  FEED_RECORDS, &p));
    assert_int_equal(p.code, RESULT_DISK_FULL);
    assert_non_null(memmem(p.sentence.data, p.sentence.size, "no room", 7));
    assert_true(atomic_load(&r->no_room));
    nng_msg_free(reply);
    replica_stop(r, false);
}

/* How often the thread of that name has gone to sleep. */
static uint64_t sleeps_of(const char *thread) {
    char path[64], line[128];
    uint64_t sleeps = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (const struct dirent *d; (d = readdir(tasks));) {
        bool it = false;
        snprintf(path, sizeof path, "/proc/self/task/%.20s/status", d->d_name);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            char name[32];
            unsigned long long count;
            if (sscanf(line, "Name: %31s", name) == 1) it = strcmp(name, thread) == 0;
            if (it && sscanf(line, "voluntary_ctxt_switches: %llu", &count) == 1) sleeps = count;
        }
        if (file) fclose(file);
    }
    closedir(tasks);
    return sleeps;
}

/* A disk that is slow is not asked over and over whether it is done. */
static void an_import_waits_for_the_disk_quietly(void **state) {
    atomic_store(&world.make_state, feed_world_write_state);
    feed_world_forget(&world, LOST);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    MDB_txn *txn = view_write_begin(r->store); /* nobody else writes meanwhile */
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&world.shards[LOST].copies) == 0) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
    usleep(3000000); /* it has been fetched, and is taken in up to where it waits */
    feed_world_down(&world);
    usleep(500000);
    uint64_t before = sleeps_of("applier");
    assert_true(before > 0);
    int64_t began_ms = clock_mono_ms();
    usleep(1000000);
    uint64_t sleeps = sleeps_of("applier") - before;
    int64_t took_ms = clock_mono_ms() - began_ms;
    print_message("woke up %llu times in %lld ms\n", (unsigned long long)sleeps,
                  (long long)took_ms);
    assert_true(sleeps < 50 * (uint64_t)took_ms / 1000);
    assert_true(atomic_load(&r->shards[LOST].importing));
    view_write_abort(r->store, txn);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    await_whole(r);
    check_orders(r);
    replica_stop(r, false);
}

/* It waits for a node that takes its time to make a state: an end does not wait for that one. */
static atomic_bool being_made, may_be_made;

static void make_in_its_own_time(struct feed_world *w, uint32_t shard, const char *path) {
    atomic_store(&being_made, true);
    while (!atomic_load(&may_be_made)) usleep(1000);
    feed_world_write_state(w, shard, path);
}

static void a_stop_does_not_wait_for_a_state(void **state) {
    atomic_store(&being_made, false);
    atomic_store(&may_be_made, false);
    atomic_store(&world.make_state, make_in_its_own_time);
    feed_world_forget(&world, LOST);
    feed_world_up(&world, HISTORY_SHARDS, snapshots);
    struct replica *r = replica_open();
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (!atomic_load(&being_made)) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
    int64_t began_ms = clock_mono_ms();
    replica_stop(r, false);
    int64_t took_ms = clock_mono_ms() - began_ms;
    print_message("stopped after %lld ms\n", (long long)took_ms);
    atomic_store(&may_be_made, true);
    assert_true(took_ms < 60000); /* the wait for a state is twice as long */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_import_that_fails_is_not_begun_anew_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(it_is_ready_when_every_shard_is_up_to_date, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_retired_shard_is_not_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_shards_go_on_during_an_import, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_is_told_to_who_asks_for_a_copy, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_import_leaves_what_a_whole_log_would, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_state_may_be_ahead_of_its_index, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_import_that_was_cut_short_comes_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_import_that_was_cut_short_is_begun_anew_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_imported_shard_is_not_being_built, set_up, tear_down),
        cmocka_unit_test_setup_teardown(imports_of_all_shards_outlive_a_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_does_not_wait_for_a_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_import_waits_for_the_disk_quietly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_torn_state_is_not_taken_for_a_whole_one, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("replica_import", tests, NULL, NULL);
}
