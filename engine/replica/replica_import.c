/* State on its way in and out: what a shard's node has stored, when the log does not reach back to
 * where this replica is; and copies of this replica's views for others. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/replica/feed_client.h"
#include "engine/replica/import.h"
#include "engine/replica/replica_internal.h"

enum {
    IMPORT_LOOK_MS = 100,
    IMPORT_PAUSE_MS_MIN = 100, IMPORT_PAUSE_MS_MAX = 5000,
    IMPORT_SHARE_MS_MIN = 10, IMPORT_SHARE_MS_MAX = 2000 /* of the applier's thread, at a time */
};

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
        if (import_fetch(feed, shard, cluster_id, import->path, r->import_with,
                         &import->index, error, sizeof error) != 0)
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
        bool met = atomic_load(&r->shards_count) != 0;
        for (uint32_t shard = 0; met && shard < SHARDS_MAX; shard++) {
            struct replica_shard *s = &r->shards[shard];
            if (atomic_load(&s->import_from) == 0 || atomic_load(&r->stopping)) continue;
            if (clock_mono_ms() < atomic_load(&s->import_again_ms)) continue;
            atomic_store(&s->importing, true);
            fetch(r, shard);
        }
        feed_pause(IMPORT_LOOK_MS, r->import_with);
    }
    return NULL;
}

static void import_leave(struct replica *r) {
    if (r->import_steps) applier_import_end(r->import_steps);
    if (r->import) unlink(r->import->path);
    free(r->import);
    r->import = NULL;
    r->import_steps = NULL;
    r->import_waits = false;
}

static void import_finish(struct replica *r) {
    const struct replica_import *import = r->import;
    struct replica_shard *s = &r->shards[import->shard];
    log_info("shard %u: imported up to entry %llu", import->shard,
             (unsigned long long)import->index);
    import_succeeded(r, import->shard);
    replica_note_positions(r);
    atomic_store(&s->partial, false);
    atomic_store(&s->importing, false);
    follower_restart(r->follower, import->shard, import->index + 1);
    query_server_committed(r->queries);
}

/* The next one that was fetched. False: there is none. */
static bool import_next(struct replica *r) {
    pthread_mutex_lock(&r->lock);
    r->import = r->imports;
    if (r->import) r->imports = r->import->next;
    pthread_mutex_unlock(&r->lock);
    r->import_left_ms = clock_mono_ms();
    return r->import != NULL;
}

static enum applier_outcome import_step(struct replica *r, enum applier_import_state *state,
                                        char *error, size_t error_bytes) {
    *state = APPLIER_IMPORT_GOES_ON;
    if (r->import_steps) return applier_import_step(r->import_steps, state, error, error_bytes);
    return applier_import_begin(r->applier, r->import->shard, r->import->path, r->import->index,
                                &r->import_steps, error, error_bytes);
}

/* It and the other shards' batches share the thread: while those take little, it gets little at a
 * time; while they take long, they are behind themselves, and it gets as much. */
int64_t replica_take_imports(struct replica *r) {
    char error[512] = "";
    if (!r->import && !import_next(r)) return -1;
    int64_t began_ms = clock_mono_ms(), share_ms = began_ms - r->import_left_ms;
    if (share_ms < IMPORT_SHARE_MS_MIN) share_ms = IMPORT_SHARE_MS_MIN;
    if (share_ms > IMPORT_SHARE_MS_MAX) share_ms = IMPORT_SHARE_MS_MAX;
    enum applier_import_state state;
    enum applier_outcome outcome;
    do {
        outcome = import_step(r, &state, error, sizeof error);
        r->import_left_ms = clock_mono_ms();
    } while (outcome == APPLIER_TAKEN && state == APPLIER_IMPORT_GOES_ON &&
             !applier_is_full(r->applier) && r->import_left_ms - began_ms < share_ms);
    r->import_waits = outcome == APPLIER_TAKEN && state == APPLIER_IMPORT_WAITS;
    if (r->import_waits) atomic_store(&r->write_now, true);
    if (outcome == APPLIER_TAKEN && state != APPLIER_IMPORT_DONE) return r->import_waits ? -1 : 0;
    if (outcome == APPLIER_TAKEN) {
        import_finish(r);
    } else {
        import_failed(r, r->import->shard, error);
        atomic_store(&r->shards[r->import->shard].import_from, 1); /* fetched again */
    }
    import_leave(r);
    return 0;
}

void replica_drop_imports(struct replica *r) {
    do import_leave(r);
    while (import_next(r));
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
    int code = replica_wait_written(r, stop);
    if (code == RESULT_DISK_FULL)
        snprintf(error, error_bytes, "this replica has no room for its own views, on disk or in "
                                     "their map: make some there, or ask another one");
    if (code != RESULT_OK) return code;
    int rc = view_store_copy(r->store, path, stop);
    if (rc == ECANCELED) return RESULT_SHUTTING_DOWN;
    if (rc == 0) rc = view_copy_open(&copy, path);
    if (rc != 0) {
        snprintf(error, error_bytes, "no copy of the views: %s", mdb_strerror(rc));
        return rc == ENOSPC ? RESULT_DISK_FULL : RESULT_STORAGE_FAILED;
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
