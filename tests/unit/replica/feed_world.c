#include "tests/unit/replica/feed_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static struct feed_world_shard *shard_of_ops(struct storage *s);

/* As docs/formats.md has it. */
struct stored_header { uint64_t checksum; uint32_t bytes; uint16_t format; uint8_t kind, spare; };

static int export_state(struct storage *s, const char *path, const atomic_bool *stop,
                        struct storage_meta *meta, char *error, size_t error_bytes) {
    struct feed_world_shard *shard = shard_of_ops(s);
    feed_world_state *make = atomic_load(&shard->world->make_state);
    if (make) make(shard->world, shard->shard, path);
    atomic_fetch_add(&shard->copies, 1);
    if (!make) {
        snprintf(error, error_bytes, "no copies here");
        return -1;
    }
    memset(meta, 0, sizeof *meta);
    uint64_t index = atomic_load(&shard->state_index);
    meta->applied_index = index ? index : shard->world->history.logs[shard->shard].last;
    return 0;
}

/* The disk's operations are a copy in the shard: where they lie tells whose they are. */
static struct feed_world_shard *shard_of_ops(struct storage *s) {
    return (struct feed_world_shard *)((uintptr_t)s->ops - offsetof(struct feed_world_shard, ops));
}

static void shard_init(struct feed_world *w, uint32_t number, uint64_t seed) {
    const struct storage_memory_options options = {.seed = seed, .shard = number,
                                                   .segment_records = 64};
    struct feed_world_shard *s = &w->shards[number];
    s->world = w;
    s->shard = number;
    s->disk = storage_memory_new(&options);
    s->storage = storage_memory_open(s->disk);
    uint64_t last = w->history.logs[number].last;
    s->storage->ops->append(s->storage, history_appendable(&w->history, number, last));
    storage_memory_advance(s->disk, 1);
    s->ops = *s->storage->ops;
    s->ops.export_state = export_state;
    s->storage->ops = &s->ops;
    atomic_store(&s->committed, last);
}

void feed_world_init(struct feed_world *w, const char *cluster_id, const char *address,
                     uint64_t seed, uint32_t entries) {
    memset(w, 0, sizeof *w);
    w->cluster_id = cluster_id;
    w->address = address;
    history_init(&w->history, seed);
    history_grow(&w->history, entries);
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++) shard_init(w, i, seed + i);
}

void feed_world_fini(struct feed_world *w) {
    if (w->feed) feed_world_down(w);
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++) {
        w->shards[i].storage->ops->close(w->shards[i].storage);
        storage_memory_free(w->shards[i].disk);
    }
    history_fini(&w->history);
}

void feed_world_forget(struct feed_world *w, uint32_t shard) {
    struct storage_stats stats;
    struct feed_world_shard *s = &w->shards[shard];
    s->ops.retain(s->storage, w->history.logs[shard].last, INT64_MAX);
    storage_memory_advance(s->disk, 100000);
    s->ops.stats(s->storage, &stats);
    assert_true(stats.log_first > 1);
}

static uint64_t commit_index(void *arg) {
    return atomic_load(&((struct feed_world_shard *)arg)->committed);
}

static bool commit_known(void *arg) {
    return !atomic_load(&((struct feed_world_shard *)arg)->unknown);
}

void feed_world_up(struct feed_world *w, uint32_t shards_count, const char *snapshots) {
    char error[256] = "";
    const struct feed_options options = {.listen = w->address, .cluster_id = w->cluster_id,
                                         .node_id = 1, .shards_count = shards_count,
                                         .snapshots = snapshots};
    w->feed = feed_open(&options, error, sizeof error);
    if (!w->feed) fail_msg("%s", error);
    for (uint32_t i = 0; i < HISTORY_SHARDS; i++) {
        const struct feed_source source = {.storage = w->shards[i].storage,
                                           .commit_index = commit_index, .arg = &w->shards[i],
                                           .commit_known = commit_known};
        feed_add(w->feed, i, &source);
    }
    assert_true(feed_start(w->feed, error, sizeof error));
}

void feed_world_down(struct feed_world *w) {
    feed_stop(w->feed);
    feed_close(w->feed);
    w->feed = NULL;
}

static void put_order(MDB_txn *txn, MDB_dbi table, const struct history_order *o) {
    struct stored_header head = {.bytes = o->block->bytes, .kind = o->block->kind};
    size_t size = sizeof head + head.bytes;
    uint8_t *row = malloc(size);
    MDB_val key = {16, (void *)(uintptr_t)o->key.bytes}, value = {size, row};
    assert_non_null(row);
    memcpy(row, &head, sizeof head);
    memcpy(row + sizeof head, o->block, head.bytes);
    head.checksum = XXH3_64bits(row + 8, size - 8);
    memcpy(row, &head.checksum, sizeof head.checksum);
    assert_int_equal(mdb_put(txn, table, &key, &value, 0), 0);
    free(row);
}

void feed_world_write_state(struct feed_world *w, uint32_t shard, const char *path) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 2), 0);
    assert_int_equal(mdb_env_set_mapsize(env, 1u << 30), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "orders", MDB_CREATE, &table), 0);
    uint64_t index = atomic_load(&w->shards[shard].state_index);
    for (uint32_t i = 0; i < w->history.orders_count; i++) {
        const struct history_order *o = &w->history.orders[i];
        if (o->shard != shard || !o->block) continue;
        bool stays = index != 0 && o->block->last_index > index;
        if (stays || !(o->block->flags & ACTOR_RETIRED)) put_order(txn, table, o);
    }
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}
