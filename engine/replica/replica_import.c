/* State on its way in and out: what a shard's node has stored, when the log does not reach back to
 * where this replica is; and copies of this replica's views for others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/replica/import.h"
#include "engine/replica/replica_internal.h"

enum { IMPORT_LOOK_MS = 100, IMPORT_PAUSE_MS_MIN = 100, IMPORT_PAUSE_MS_MAX = 5000 };

/* -- in ---------------------------------------------------------------------------------------- */

/* What fails may go on failing for hours, and each attempt costs a node a copy: they come further
 * and further apart, and the log has each reason once. */
static void import_failed(struct replica *r, uint32_t shard, const char *why) {
    struct replica_shard *s = &r->shards[shard];
    int64_t pause_ms = IMPORT_PAUSE_MS_MIN;
    if (atomic_load(&r->stopping)) return;
    uint32_t failures = atomic_fetch_add(&s->import_failures, 1);
    while (failures-- > 0 && pause_ms < IMPORT_PAUSE_MS_MAX) pause_ms *= 2;
    if (pause_ms > IMPORT_PAUSE_MS_MAX) pause_ms = IMPORT_PAUSE_MS_MAX;
    atomic_store(&s->import_again_ms, clock_mono_ms() + pause_ms);
    pthread_mutex_lock(&r->lock);
    bool told = strcmp(s->import_why, why) == 0;
    snprintf(s->import_why, sizeof s->import_why, "%s", why);
    pthread_mutex_unlock(&r->lock);
    if (!told)
        log_error("shard %u: no import: %s: tried again, every %d s in the end", shard, why,
                  IMPORT_PAUSE_MS_MAX / 1000);
}

static void import_succeeded(struct replica *r, uint32_t shard) {
    struct replica_shard *s = &r->shards[shard];
    atomic_store(&s->import_failures, 0);
    pthread_mutex_lock(&r->lock);
    s->import_why[0] = 0;
    pthread_mutex_unlock(&r->lock);
}

/* Fetches the shard's state from one of its nodes, and sends it to the applier. */
static void fetch(struct replica *r, uint32_t shard) {
    char feed[ENDPOINT_BYTES_MAX], error[512] = "no node has it";
    struct replica_import *import = calloc(1, sizeof *import);
    if (!import) return;
    char cluster_id[sizeof r->cluster_id];
    pthread_mutex_lock(&r->lock);
    memcpy(cluster_id, r->cluster_id, sizeof cluster_id);
    pthread_mutex_unlock(&r->lock);
    import->shard = shard;
    snprintf(import->path, sizeof import->path, "%s/incoming-%u", r->config.data, shard);
    for (uint32_t attempt = 0; !atomic_load(&r->stopping); attempt++) {
        follower_feed(r->follower, shard, attempt, feed, sizeof feed);
        if (feed[0] == 0) break;
        if (atomic_load(&r->shards[shard].import_failures) == 0)
            log_info("shard %u: fetching its state from %s", shard, feed);
        if (import_fetch(feed, shard, cluster_id, import->path, &r->stopping, &import->index,
                         error, sizeof error) != 0)
            continue;
        if (import->index + 1 < replica_next(r, shard)) { /* it lags: another one may not */
            snprintf(error, sizeof error, "%s: its state is of entry %llu, which is older than "
                     "what is here", feed, (unsigned long long)import->index);
            unlink(import->path);
            continue;
        }
        /* Before the applier has it: when that fails at once, it asks for another one. */
        atomic_store(&r->shards[shard].import_from, 0);
        pthread_mutex_lock(&r->lock);
        import->next = r->imports;
        r->imports = import;
        pthread_cond_signal(&r->wake);
        pthread_mutex_unlock(&r->lock);
        return;
    }
    import_failed(r, shard, error);
    free(import);
}

void *replica_import_main(void *arg) {
    struct replica *r = arg;
    pthread_setname_np(pthread_self(), "importer");
    while (!atomic_load(&r->stopping)) {
        for (uint32_t shard = 0; shard < SHARDS_MAX; shard++) {
            struct replica_shard *s = &r->shards[shard];
            if (atomic_load(&s->import_from) == 0 || atomic_load(&r->stopping)) continue;
            if (clock_mono_ms() < atomic_load(&s->import_again_ms)) continue;
            atomic_store(&s->importing, true);
            fetch(r, shard);
        }
        usleep(IMPORT_LOOK_MS * 1000);
    }
    return NULL;
}

static void take(struct replica *r, const struct replica_import *import) {
    char error[512] = "";
    struct replica_shard *s = &r->shards[import->shard];
    enum applier_outcome outcome = applier_import(r->applier, import->shard, import->path,
                                                  import->index, error, sizeof error);
    unlink(import->path);
    if (outcome == APPLIER_TAKEN) {
        log_info("shard %u: imported up to entry %llu", import->shard,
                 (unsigned long long)import->index);
        import_succeeded(r, import->shard);
        atomic_store(&s->partial, false);
        atomic_store(&s->importing, false);
        atomic_store(&s->index, import->index);
        follower_restart(r->follower, import->shard, import->index + 1);
        query_server_committed(r->queries);
    } else {
        import_failed(r, import->shard, error);
        atomic_store(&s->import_from, 1); /* fetched again */
    }
}

bool replica_take_imports(struct replica *r) {
    pthread_mutex_lock(&r->lock);
    struct replica_import *imports = r->imports;
    r->imports = NULL;
    pthread_mutex_unlock(&r->lock);
    bool any = imports != NULL;
    for (struct replica_import *next; imports; imports = next) {
        next = imports->next;
        take(r, imports);
        free(imports);
    }
    return any;
}

/* -- out --------------------------------------------------------------------------------------- */

int replica_make_snapshot(void *arg, uint32_t shard, const char *path, const atomic_bool *stop,
                          struct feed_copy_tokens *tokens, char *error, size_t error_bytes) {
    struct replica *r = arg;
    struct view_copy copy;
    struct view_position positions[SHARDS_MAX];
    if (shard != UINT32_MAX) return RESULT_SHARD_NOT_HERE; /* all views, or none */
    if (replica_is_partial(r)) {
        snprintf(error, error_bytes, "this replica has not got all shards yet: ask again later, "
                                     "or another one");
        return RESULT_NOT_READY;
    }
    if (!replica_wait_written(r, stop)) return RESULT_SHUTTING_DOWN;
    int rc = view_store_copy(r->store, path);
    if (rc == 0) rc = view_copy_open(&copy, path);
    if (rc != 0) {
        snprintf(error, error_bytes, "no copy of the views: %s", mdb_strerror(rc));
        return RESULT_STORAGE_FAILED;
    }
    tokens->count = view_copy_positions(&copy, positions, SHARDS_MAX);
    for (uint32_t i = 0; i < tokens->count; i++)
        tokens->tokens[i] = (struct query_token){positions[i].shard, positions[i].index};
    view_copy_close(&copy);
    pthread_mutex_lock(&r->lock);
    memcpy(tokens->cluster_id, r->cluster_id, sizeof tokens->cluster_id);
    pthread_mutex_unlock(&r->lock);
    return RESULT_OK;
}
