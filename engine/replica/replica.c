#include "engine/replica/replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/data_directory.h"
#include "engine/base/log.h"
#include "engine/replica/replica_internal.h"
#include "engine/wire/tls.h"

enum { REPLICA_PATIENCE_MS = 2000 };

/* -- what the parts ask of each other ---------------------------------------------------------- */

static void on_batch(void *arg, struct follower_batch *batch) {
    struct replica *r = arg;
    batch->link = NULL;
    pthread_mutex_lock(&r->lock);
    *r->last = batch;
    r->last = &batch->link;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

uint64_t replica_next(void *arg, uint32_t shard) {
    struct replica *r = arg;
    const void *rows;
    uint64_t next = 1;
    struct view_read read;
    if (!view_read_begin(r->store, &read)) return 1;
    uint32_t count = view_positions(r->store, &read, &rows);
    for (uint32_t i = 0; i < count; i++) {
        struct view_position p;
        memcpy(&p, (const uint8_t *)rows + i * sizeof p, sizeof p);
        if (p.shard == shard) next = p.index + 1;
    }
    view_read_end(r->store, &read);
    return next;
}

/* An import that was cut short comes first: its orders are partly newer than the position, and a
 * log that goes on faster than states are made would keep ahead of all of them. */
static uint64_t follow_from(void *arg, uint32_t shard) {
    struct replica *r = arg;
    return atomic_load(&r->shards[shard].partial) ? 0 : replica_next(r, shard);
}

static void on_import_required(void *arg, uint32_t shard, uint64_t from) {
    struct replica *r = arg;
    atomic_store(&r->shards[shard].import_from, from);
    if (!atomic_exchange(&r->shards[shard].partial, true))
        log_warn("shard %u: the log has no entry %llu any more, it goes on from %llu: its state is "
                 "fetched from a node (import_required)", shard,
                 (unsigned long long)replica_next(r, shard), (unsigned long long)from);
}

static void on_identified(void *arg, const char *cluster_id, uint32_t shards_count) {
    struct replica *r = arg;
    pthread_mutex_lock(&r->lock);
    snprintf(r->cluster_id, sizeof r->cluster_id, "%s", cluster_id);
    pthread_mutex_unlock(&r->lock);
    if (atomic_exchange(&r->shards_count, shards_count) == 0)
        log_info("following cluster %s, %u shards", cluster_id, shards_count);
}

static void on_retired(void *arg, const bool retired[SHARDS_MAX]) {
    struct replica *r = arg;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) atomic_store(&r->shards[i].retired, retired[i]);
}

static void on_existing(void *arg, const bool existing[SHARDS_MAX]) {
    struct replica *r = arg;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) atomic_store(&r->shards[i].existing, existing[i]);
}

static void on_feed_request(void *arg, struct responder_slot *slot,
                            const struct feed_request *request) {
    struct replica *r = arg;
    feed_copies_offer(r->snapshots, slot, request);
}

static bool on_snapshot_hold(void *arg, uint64_t id, char *path, size_t path_bytes) {
    struct replica *r = arg;
    return feed_copies_hold(r->snapshots, id, path, path_bytes);
}

static void on_snapshot_release(void *arg, uint64_t id) {
    struct replica *r = arg;
    feed_copies_release(r->snapshots, id);
}

static void on_committed(void *arg) {
    struct replica *r = arg;
    query_server_advance(r->queries);
}

static void on_changed(void *arg, const struct fold_order *order) {
    struct replica *r = arg;
    query_server_changed(r->queries, order);
    if (!r->notifier || !notifier_is_heard(r->notifier)) return;
    struct view_order o;
    view_order_of(order->block, order->shard, &o);
    const struct notice notice = {.key = order->key,
                                  .index = o.last_index,
                                  .shard = order->shard,
                                  .version = order->block->version,
                                  .kind = order->newest_kind,
                                  .state = o.state,
                                  .store = o.store,
                                  .customer = o.customer};
    notifier_send(r->notifier, &notice);
}

static uint32_t age_ms(void *arg, uint32_t shard) {
    struct replica *r = arg;
    const struct replica_shard *s = &r->shards[shard];
    int64_t fresh_ms = atomic_load(&s->fresh_ms);
    /* Nothing comes any more: what is here is all there is, unless some was known to be missing. */
    if (atomic_load(&s->retired) && atomic_load(&s->index) >= atomic_load(&s->commit)) return 0;
    if (fresh_ms == 0) return ANSWER_AGE_UNKNOWN;
    int64_t age = clock_mono_ms() - fresh_ms;
    return age < 0 ? 0 : age > ANSWER_AGE_UNKNOWN ? ANSWER_AGE_UNKNOWN : (uint32_t)age;
}

static bool is_partial(void *arg, uint32_t shard) {
    struct replica *r = arg;
    return shard < SHARDS_MAX && atomic_load(&r->shards[shard].partial);
}

static bool is_existing(void *arg, uint32_t shard) {
    struct replica *r = arg;
    return atomic_load(&r->shards[shard].existing);
}

bool replica_is_partial(struct replica *r) {
    struct view_read read;
    const void *rows;
    bool whole[SHARDS_MAX] = {false}, partial = false;
    if (!view_read_begin(r->store, &read)) return true;
    uint32_t count = view_positions(r->store, &read, &rows);
    for (uint32_t i = 0; i < count; i++) {
        struct view_position p;
        memcpy(&p, (const uint8_t *)rows + i * sizeof p, sizeof p);
        if (p.shard < SHARDS_MAX) whole[p.shard] = p.lacks == VIEW_WHOLE;
        partial = partial || p.lacks != VIEW_WHOLE;
    }
    view_read_end(r->store, &read);
    for (uint32_t i = 0; i < SHARDS_MAX; i++)
        partial = partial || is_partial(r, i) || (is_existing(r, i) && !whole[i]);
    return partial || count == 0;
}

/* -- life -------------------------------------------------------------------------------------- */

/* "tcp://host:7500" -> "tcp://host:7501"; port 0 stays 0. */
static void notify_address(const struct replica_config *c, char out[ENDPOINT_BYTES_MAX]) {
    const char *colon = strrchr(c->listen, ':');
    if (c->notify_listen[0]) {
        snprintf(out, ENDPOINT_BYTES_MAX, "%s", c->notify_listen);
    } else if ((strncmp(c->listen, "tcp", 3) == 0 || tls_is_wanted(c->listen)) && colon) {
        long port = strtol(colon + 1, NULL, 10);
        snprintf(out, ENDPOINT_BYTES_MAX, "%.*s:%ld", (int)(colon - c->listen), c->listen,
                 port == 0 || port >= 65535 ? 0 : port + 1);
    } else {
        snprintf(out, ENDPOINT_BYTES_MAX, "%.240s-notify", c->listen);
    }
}

static bool open_sockets(struct replica *r, char *error, size_t error_bytes) {
    char notify[ENDPOINT_BYTES_MAX];
    const struct query_server_options options = {
        .listen = r->config.listen,
        .contexts = r->config.contexts,
        .source = {.store = r->store, .age_ms = age_ms, .status = replica_status,
                   .shard_map = replica_shard_map, .is_partial = is_partial,
                   .is_existing = is_existing, .rebuild = replica_rebuild,
                   .snapshot_hold = on_snapshot_hold, .snapshot_release = on_snapshot_release,
                   .arg = r},
        .feed_request = on_feed_request};
    r->queries = query_server_open(&options, error, error_bytes);
    if (!r->queries) return false;
    notify_address(&r->config, notify);
    if (strcmp(notify, "none") == 0) return true;
    r->notifier = notifier_open(notify, tls_of_environment(), error, error_bytes);
    return r->notifier != NULL;
}

static bool start_threads(struct replica *r, char *error, size_t error_bytes) {
    struct follower_options options = {.nodes = r->config.nodes,
                                       .heartbeat_ms = r->config.heartbeat_ms,
                                       .next = follow_from,
                                       .offer = on_batch,
                                       .import_required = on_import_required,
                                       .identified = on_identified,
                                       .retired = on_retired,
                                       .existing = on_existing,
                                       .arg = r};
    snprintf(options.cluster_id, sizeof options.cluster_id, "%s", r->store->cluster_id);
    r->follower = follower_start(&options, error, error_bytes);
    if (!r->follower) return false;
    int rc = pthread_create(&r->thread, NULL, replica_apply_main, r);
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot start the applier: %s", strerror(rc));
        return false;
    }
    r->thread_started = true;
    rc = pthread_create(&r->writer, NULL, replica_write_main, r);
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot start the writer: %s", strerror(rc));
        return false;
    }
    r->writer_started = true;
    rc = nng_aio_alloc(&r->import_with, NULL, NULL) == 0 ? 0 : ENOMEM;
    if (rc == 0) rc = pthread_create(&r->importer, NULL, replica_import_main, r);
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot start the importer: %s", strerror(rc));
        return false;
    }
    r->importer_started = true;
    return query_server_start(r->queries, error, error_bytes);
}

static bool open_views(struct replica *r, char *error, size_t error_bytes) {
    char directory[1100];
    if (data_directory_is_refused(r->config.data, DATA_DIRECTORY_REPLICA, error, error_bytes))
        return false;
    if (mkdir(r->config.data, 0750) != 0 && access(r->config.data, W_OK) != 0) {
        snprintf(error, error_bytes, "%s: it cannot be made or written to", r->config.data);
        return false;
    }
    snprintf(directory, sizeof directory, "%.1000s/views", r->config.data);
    const struct view_store_options store = {.directory = directory,
                                             .map_bytes = r->config.map_bytes,
                                             .synced = r->config.synced,
                                             .lock_fd = r->config.views_lock_fd};
    r->store = view_store_open(&store, error, error_bytes);
    if (!r->store) return false;
    /* Behind the views, whose lock says that no other replica is here: it clears the directory. */
    snprintf(directory, sizeof directory, "%.1000s/snapshots", r->config.data);
    const struct feed_copies_options snapshots = {.directory = directory,
                                                .make = replica_make_snapshot, .arg = r};
    r->snapshots = feed_copies_start(&snapshots, error, error_bytes);
    if (!r->snapshots) return false;
    snprintf(r->cluster_id, sizeof r->cluster_id, "%s", r->store->cluster_id);
    const struct applier_options applier = {.store = r->store,
                                            .memory_bytes = r->config.memory_bytes,
                                            .committed = on_committed,
                                            .changed = on_changed,
                                            .changed_arg = r};
    r->applier = applier_new(&applier, error, error_bytes);
    for (uint32_t shard = 0; r->applier && shard < SHARDS_MAX; shard++) {
        /* An import that was cut short begins again. */
        enum view_lack lacks = applier_lacks(r->applier, shard);
        bool importing = lacks == VIEW_IMPORTING;
        atomic_store(&r->shards[shard].building, lacks == VIEW_BUILDING);
        atomic_store(&r->shards[shard].partial, importing);
        atomic_store(&r->shards[shard].import_from, importing ? 1 : 0);
    }
    if (r->applier) replica_note_builds(r);
    return r->applier != NULL;
}

struct replica *replica_start(const struct replica_config *config, char *error,
                              size_t error_bytes) {
    struct replica *r = calloc(1, sizeof *r);
    if (!r) {
        snprintf(error, error_bytes, "no memory for the replica");
        return NULL;
    }
    r->config = *config;
    r->started_ms = clock_unix_ms();
    r->started_mono_ms = clock_mono_ms();
    r->last = &r->first;
    pthread_condattr_t attr;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_mutex_init(&r->write_lock, NULL);
    pthread_cond_init(&r->write_wake, &attr);
    pthread_cond_init(&r->written, &attr);
    pthread_condattr_destroy(&attr);
    if (open_views(r, error, error_bytes) && open_sockets(r, error, error_bytes) &&
        start_threads(r, error, error_bytes))
        return r;
    replica_stop(r, false);
    return NULL;
}

const char *replica_endpoint(const struct replica *r) { return query_server_endpoint(r->queries); }

const char *replica_notify_endpoint(const struct replica *r) {
    return r->notifier ? notifier_endpoint(r->notifier) : "";
}

bool replica_is_caught_up(const struct replica *r) {
    uint32_t shards = atomic_load(&r->shards_count), fresh = 0;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        if (!atomic_load(&r->shards[i].existing)) continue;
        if (atomic_load(&r->shards[i].fresh_ms) == 0) return false;
        fresh++;
    }
    return shards != 0 && fresh >= shards;
}

void replica_stop(struct replica *r, bool exiting) {
    atomic_store(&r->stopping, true);
    nng_aio_stop(r->import_with);
    if (r->queries) query_server_stop(r->queries);
    if (r->thread_started) {
        pthread_mutex_lock(&r->lock);
        r->stop = true;
        pthread_cond_signal(&r->wake);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    if (r->writer_started) {
        pthread_mutex_lock(&r->write_lock);
        r->write_stop = true;
        pthread_cond_signal(&r->write_wake);
        pthread_mutex_unlock(&r->write_lock);
        pthread_join(r->writer, NULL);
    }
    if (r->applier && applier_settle(r->applier) != APPLIER_TAKEN)
        log_warn("%s: not everything could be written: it is read again", r->config.data);
    if (r->importer_started) pthread_join(r->importer, NULL);
    nng_aio_free(r->import_with);
    replica_drop_imports(r);
    if (r->follower) follower_stop(r->follower);
    if (r->snapshots) feed_copies_stop(r->snapshots);
    if (r->queries) query_server_halt(r->queries, REPLICA_PATIENCE_MS);
    for (struct follower_batch *b = r->first, *next; b; b = next) {
        next = b->link;
        free(b);
    }
    if (exiting) {
        /* Queries may still be in the views: what has to be on disk is there after this. */
        if (r->applier) applier_free(r->applier);
        if (r->store) view_store_settle(r->store);
        return;
    }
    if (r->queries) query_server_close(r->queries);
    if (r->snapshots) feed_copies_free(r->snapshots);
    if (r->notifier) notifier_close(r->notifier);
    if (r->applier) applier_free(r->applier);
    if (r->store) view_store_close(r->store);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->write_lock);
    pthread_cond_destroy(&r->write_wake);
    pthread_cond_destroy(&r->written);
    free(r);
}
