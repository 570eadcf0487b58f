/* What a replica says about itself. docs/replicas.md has the table. */
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/replica/replica_internal.h"
#include "engine/wire/msgpack_pairs.h"

/* A map whose number of pairs is known at its end. */
struct counted_map { size_t head; uint32_t pairs; };

static struct counted_map map_begin(struct msgpack_writer *w) {
    struct counted_map map = {msgpack_writer_size(w), 0};
    msgpack_writer_tagged_(w, 0xde, 0, 2);
    return map;
}

static void map_end(struct msgpack_writer *w, const struct counted_map *map) {
    if (!msgpack_writer_ok(w)) return;
    w->start[map->head + 1] = (uint8_t)(map->pairs >> 8);
    w->start[map->head + 2] = (uint8_t)map->pairs;
}

static void put_uint(struct msgpack_writer *w, struct counted_map *m, const char *name,
                     uint64_t value) {
    m->pairs++;
    msgpack_pair_uint(w, name, value);
}

static void put_text(struct msgpack_writer *w, struct counted_map *m, const char *name,
                     const char *value) {
    m->pairs++;
    msgpack_pair_text(w, name, value);
}

static struct counted_map put_map(struct msgpack_writer *w, struct counted_map *m,
                                  const char *name) {
    m->pairs++;
    msgpack_write_text(w, name);
    return map_begin(w);
}

static void put_bool(struct msgpack_writer *w, struct counted_map *m, const char *name,
                     bool value) {
    m->pairs++;
    msgpack_pair_bool(w, name, value);
}

static void put_histogram(struct msgpack_writer *w, struct counted_map *m, const char *name,
                          const struct histogram *h) {
    struct counted_map map = put_map(w, m, name);
    put_uint(w, &map, "count", histogram_count(h));
    put_uint(w, &map, "p50", histogram_percentile_ns(h, 50000) / 1000);
    put_uint(w, &map, "p90", histogram_percentile_ns(h, 90000) / 1000);
    put_uint(w, &map, "p99", histogram_percentile_ns(h, 99000) / 1000);
    put_uint(w, &map, "p999", histogram_percentile_ns(h, 99900) / 1000);
    put_uint(w, &map, "max", atomic_load(&h->max_ns) / 1000);
    map_end(w, &map);
}

static void put_shard(struct replica *r, struct msgpack_writer *w, uint32_t shard,
                      uint64_t counted_from) {
    const struct replica_shard *s = &r->shards[shard];
    int64_t fresh_ms = atomic_load(&s->fresh_ms);
    uint64_t import_from = atomic_load(&s->import_from);
    struct follower_lane lane;
    bool building = atomic_load(&s->building);
    struct counted_map map = map_begin(w);
    put_uint(w, &map, "shard", shard);
    put_uint(w, &map, "index", atomic_load(&s->index));
    put_uint(w, &map, "commit", atomic_load(&s->commit));
    uint64_t index = atomic_load(&s->index), commit = atomic_load(&s->commit);
    put_uint(w, &map, "lag_entries", commit > index ? commit - index : 0);
    bool ended = atomic_load(&s->retired) && index >= commit;
    put_uint(w, &map, "age_ms", ended           ? 0
                                : fresh_ms == 0 ? ANSWER_AGE_UNKNOWN
                                                : (uint64_t)(clock_mono_ms() - fresh_ms));
    put_bool(w, &map, "retired", atomic_load(&s->retired));
    put_uint(w, &map, "time_ms", (uint64_t)atomic_load(&s->time_ms));
    put_bool(w, &map, "partial", atomic_load(&s->partial) || building);
    put_bool(w, &map, "building", building);
    put_bool(w, &map, "importing", import_from != 0 || atomic_load(&s->importing));
    put_uint(w, &map, "counted_from", counted_from);
    put_uint(w, &map, "import_from", import_from);
    put_uint(w, &map, "import_failures", atomic_load(&s->import_failures));
    char import_why[sizeof s->import_why];
    pthread_mutex_lock(&r->lock);
    memcpy(import_why, s->import_why, sizeof import_why);
    pthread_mutex_unlock(&r->lock);
    put_text(w, &map, "import_why", import_why);
    follower_lane(r->follower, shard, &lane);
    put_text(w, &map, "node", lane.node);
    put_uint(w, &map, "failures", lane.failures);
    put_text(w, &map, "why", lane.why);
    map_end(w, &map);
}

static uint32_t followed(const struct replica *r, uint32_t *shards) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        const struct replica_shard *s = &r->shards[i];
        if (atomic_load(&s->followed) || atomic_load(&s->partial) || atomic_load(&s->existing))
            shards[count++] = i;
    }
    return count;
}

/* By shard; 1 where nothing is known to lack. */
static void counted_from(struct replica *r, uint64_t from[SHARDS_MAX]) {
    const void *rows;
    struct view_read read;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) from[i] = 1;
    if (!view_read_begin(r->store, &read)) return;
    uint32_t count = view_positions(r->store, &read, &rows);
    for (uint32_t i = 0; i < count; i++) {
        struct view_position p;
        memcpy(&p, (const uint8_t *)rows + i * sizeof p, sizeof p);
        if (p.shard < SHARDS_MAX) from[p.shard] = p.counted_from;
    }
    view_read_end(r->store, &read);
}

static void put_shards(struct replica *r, struct msgpack_writer *w, struct counted_map *m) {
    uint32_t shards[SHARDS_MAX], count = followed(r, shards);
    uint64_t from[SHARDS_MAX];
    counted_from(r, from);
    m->pairs++;
    msgpack_write_text(w, "shards");
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++)
        put_shard(r, w, shards[i], from[shards[i]]);
}

static void put_applier(struct replica *r, struct msgpack_writer *w, struct counted_map *m) {
    struct applier_stats s;
    pthread_mutex_lock(&r->lock);
    s = r->applier_stats;
    pthread_mutex_unlock(&r->lock);
    struct counted_map map = put_map(w, m, "applier");
    put_uint(w, &map, "publications", s.publications);
    put_uint(w, &map, "transactions", s.disk.transactions);
    put_uint(w, &map, "entries", s.entries);
    put_uint(w, &map, "events", s.events);
    put_uint(w, &map, "known_events", s.known);
    put_uint(w, &map, "orders_written", s.disk.orders_written);
    put_uint(w, &map, "orders_read", s.orders_read);
    put_uint(w, &map, "rows_put", s.disk.rows_put);
    put_uint(w, &map, "rows_deleted", s.disk.rows_deleted);
    put_uint(w, &map, "memory_bytes", s.memory_bytes);
    put_uint(w, &map, "unwritten_bytes", s.unwritten_bytes);
    put_uint(w, &map, "fold_us", s.fold_ns / 1000);
    put_uint(w, &map, "publish_us", s.publish_ns / 1000);
    put_uint(w, &map, "write_us", s.disk.write_ns / 1000);
    map_end(w, &map);
}

static void put_queries(struct replica *r, struct msgpack_writer *w, struct counted_map *m) {
    struct query_server_stats s;
    query_server_stats(r->queries, &s);
    struct counted_map map = put_map(w, m, "queries");
    put_uint(w, &map, "messages", s.messages);
    put_uint(w, &map, "queries", s.queries);
    put_uint(w, &map, "refused", s.refused);
    put_uint(w, &map, "replies_dropped", s.replies_dropped);
    put_uint(w, &map, "bytes_in", s.bytes_in);
    put_uint(w, &map, "bytes_out", s.bytes_out);
    put_uint(w, &map, "in_flight", s.in_flight);
    put_uint(w, &map, "parked", s.parked);
    put_uint(w, &map, "parked_bytes", s.parked_bytes);
    put_uint(w, &map, "watchers", s.watchers);
    put_uint(w, &map, "subscribers", r->notifier ? notifier_subscribers(r->notifier) : 0);
    put_uint(w, &map, "waited", s.waited);
    put_uint(w, &map, "not_reached", s.not_reached);
    map_end(w, &map);
    put_histogram(w, m, "latency_us", query_server_latency(r->queries));
}

static void put_follower(struct replica *r, struct msgpack_writer *w, struct counted_map *m) {
    struct follower_stats s;
    follower_stats(r->follower, &s);
    struct counted_map map = put_map(w, m, "follower");
    put_text(w, &map, "source", s.source);
    put_uint(w, &map, "lanes", s.lanes);
    put_uint(w, &map, "lanes_standing", s.lanes_standing);
    put_uint(w, &map, "batches", s.batches);
    put_uint(w, &map, "bytes", s.bytes);
    put_uint(w, &map, "heartbeats", s.heartbeats);
    put_uint(w, &map, "failures", s.failures);
    map_end(w, &map);
}

static void put_sources(struct replica *r, struct msgpack_writer *w, struct counted_map *m) {
    struct follower_source s;
    uint32_t count = 0;
    while (follower_source(r->follower, count, &s)) count++;
    m->pairs++;
    msgpack_write_text(w, "sources");
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) {
        struct counted_map map = map_begin(w);
        follower_source(r->follower, i, &s);
        put_text(w, &map, "node", s.node);
        put_text(w, &map, "feed", s.feed);
        put_bool(w, &map, "reached", s.reached);
        put_uint(w, &map, "failures", s.failures);
        put_text(w, &map, "why", s.why);
        map_end(w, &map);
    }
}

static uint64_t table_bytes(const MDB_stat *stat) {
    return (uint64_t)stat->ms_psize *
           (stat->ms_branch_pages + stat->ms_leaf_pages + stat->ms_overflow_pages);
}

/* Rows, and bytes, of all tables at one moment. */
static void put_views(struct replica *r, struct msgpack_writer *w, struct counted_map *m) {
    struct view_read read;
    MDB_stat stats[VIEWS_COUNT + 1] = {0};
    bool known[VIEWS_COUNT + 1] = {false};
    MDB_dbi table;
    if (view_read_begin(r->store, &read)) {
        for (int v = 0; v < VIEWS_COUNT; v++)
            known[v] = view_table_of(r->store, &read, (enum view_number)v, &table) &&
                       mdb_stat(read.txn, table, &stats[v]) == 0;
        known[VIEWS_COUNT] = mdb_stat(read.txn, r->store->orders, &stats[VIEWS_COUNT]) == 0;
        view_read_end(r->store, &read);
    }
    for (int what = 0; what < 2; what++) {
        struct counted_map map = put_map(w, m, what == 0 ? "views" : "view_bytes");
        for (int i = 0; i <= VIEWS_COUNT; i++) {
            int v = i == 0 ? VIEWS_COUNT : i - 1; /* `orders` first */
            if (known[v])
                put_uint(w, &map, v == VIEWS_COUNT ? "orders" : views[v].name,
                         what == 0 ? stats[v].ms_entries : table_bytes(&stats[v]));
        }
        map_end(w, &map);
    }
}

static void put_builds(struct replica *r, struct msgpack_writer *w, struct counted_map *m) {
    struct counted_map generations = put_map(w, m, "generations");
    for (int v = 0; v < VIEWS_COUNT; v++)
        if (views[v].key)
            put_uint(w, &generations, views[v].name, atomic_load(&r->builds[v].generation));
    map_end(w, &generations);
    struct counted_map building = put_map(w, m, "building");
    for (int v = 0; v < VIEWS_COUNT; v++)
        if (atomic_load(&r->builds[v].building))
            put_uint(w, &building, views[v].name, atomic_load(&r->builds[v].orders_done));
    map_end(w, &building);
    struct counted_map built = put_map(w, m, "built");
    for (int v = 0; v < VIEWS_COUNT; v++)
        if (atomic_load(&r->builds[v].orders_built) != 0)
            put_uint(w, &built, views[v].name, atomic_load(&r->builds[v].orders_built));
    map_end(w, &built);
}

/* 0 = not known. */
static uint64_t disk_free_bytes(const struct replica *r) {
    struct statvfs disk;
    if (statvfs(r->config.data, &disk) != 0) return 0;
    return (uint64_t)disk.f_bavail * disk.f_frsize;
}

void replica_status(void *arg, struct msgpack_writer *w) {
    struct replica *r = arg;
    struct counted_map map = map_begin(w);
    struct memory_stats memory;
    memory_stats(&memory);
    put_text(w, &map, "version", JUMUN_VERSION);
    put_bool(w, &map, "replica", true);
    pthread_mutex_lock(&r->lock);
    put_text(w, &map, "cluster_id", r->cluster_id);
    pthread_mutex_unlock(&r->lock);
    put_uint(w, &map, "pid", (uint64_t)getpid());
    put_text(w, &map, "endpoint", replica_endpoint(r));
    put_text(w, &map, "notify", replica_notify_endpoint(r));
    put_text(w, &map, "nodes", r->config.nodes);
    put_text(w, &map, "data", r->config.data);
    put_uint(w, &map, "shards_count", atomic_load(&r->shards_count));
    put_uint(w, &map, "started_ms", (uint64_t)r->started_ms);
    put_uint(w, &map, "now_ms", (uint64_t)clock_unix_ms());
    put_uint(w, &map, "uptime_ms", (uint64_t)(clock_mono_ms() - r->started_mono_ms));
    put_bool(w, &map, "caught_up", replica_is_caught_up(r));
    put_bool(w, &map, "no_room", atomic_load(&r->no_room));
    put_histogram(w, &map, "lag_us", &r->lag);
    put_histogram(w, &map, "commit_lag_us", &r->commit_lag);
    put_queries(r, w, &map);
    put_applier(r, w, &map);
    put_follower(r, w, &map);
    put_sources(r, w, &map);
    put_views(r, w, &map);
    put_builds(r, w, &map);
    put_uint(w, &map, "store_bytes", view_store_bytes(r->store));
    put_uint(w, &map, "disk_free_bytes", disk_free_bytes(r));
    put_uint(w, &map, "process_bytes", memory.process_bytes);
    put_shards(r, w, &map);
    map_end(w, &map);
}

void replica_shard_map(void *arg, struct msgpack_writer *w) {
    struct replica *r = arg;
    uint32_t shards[SHARDS_MAX], count = followed(r, shards);
    char cluster_id[sizeof r->cluster_id];
    pthread_mutex_lock(&r->lock);
    memcpy(cluster_id, r->cluster_id, sizeof cluster_id);
    pthread_mutex_unlock(&r->lock);
    msgpack_write_map(w, 4);
    msgpack_pair_bool(w, "replica", true);
    msgpack_pair_text(w, "cluster_id", cluster_id);
    msgpack_pair_text(w, "notify", replica_notify_endpoint(r));
    msgpack_write_text(w, "shards");
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) msgpack_write_uint(w, shards[i]);
}
