/* State on its way in and out: what a shard's node has stored, when the log does not reach back to
 * where this replica is; and copies of this replica's views for others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "engine/replica/import.h"
#include "engine/replica/replica_internal.h"

enum { IMPORT_LOOK_MS = 100, IMPORT_AGAIN_MS = 2000 };

/* -- in ---------------------------------------------------------------------------------------- */

/* Fetches the shard's state from one of its nodes. True: it is on its way to the applier. */
static bool fetch(struct replica *r, uint32_t shard) {
    char feed[ENDPOINT_BYTES_MAX], error[512] = "no node has it";
    struct replica_import *import = calloc(1, sizeof *import);
    if (!import) return false;
    char cluster_id[sizeof r->cluster_id];
    pthread_mutex_lock(&r->lock);
    memcpy(cluster_id, r->cluster_id, sizeof cluster_id);
    pthread_mutex_unlock(&r->lock);
    import->shard = shard;
    snprintf(import->path, sizeof import->path, "%s/incoming-%u", r->config.data, shard);
    for (uint32_t attempt = 0; !atomic_load(&r->stopping); attempt++) {
        follower_feed(r->follower, shard, attempt, feed, sizeof feed);
        if (feed[0] == 0) break;
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
        pthread_mutex_lock(&r->lock);
        import->next = r->imports;
        r->imports = import;
        pthread_cond_signal(&r->wake);
        pthread_mutex_unlock(&r->lock);
        return true;
    }
    log_warn("shard %u: no import: %s", shard, error);
    free(import);
    return false;
}

void *replica_import_main(void *arg) {
    struct replica *r = arg;
    pthread_setname_np(pthread_self(), "importer");
    while (!atomic_load(&r->stopping)) {
        bool failed = false;
        for (uint32_t shard = 0; shard < SHARDS_MAX; shard++) {
            uint64_t from = atomic_load(&r->shards[shard].import_from);
            if (from == 0 || atomic_load(&r->stopping)) continue;
            atomic_store(&r->shards[shard].importing, true);
            if (fetch(r, shard)) atomic_store(&r->shards[shard].import_from, 0);
            else failed = true;
        }
        for (int i = 0; i < (failed ? IMPORT_AGAIN_MS : IMPORT_LOOK_MS) / IMPORT_LOOK_MS; i++) {
            if (!atomic_load(&r->stopping)) usleep(IMPORT_LOOK_MS * 1000);
        }
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
        atomic_store(&s->partial, false);
        atomic_store(&s->importing, false);
        atomic_store(&s->index, import->index);
        follower_restart(r->follower, import->shard, import->index + 1);
        query_server_committed(r->queries);
    } else {
        log_error("shard %u: %s", import->shard, error);
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
