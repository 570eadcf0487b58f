#include "persistence/lmdb/storage_lmdb.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "persistence/lmdb/internal.h"

void *storage_allocate(struct storage_lmdb *s, size_t bytes) {
    return storage_fault(s, STORAGE_POINT_ALLOCATE) != 0 ? NULL : malloc(bytes);
}

int storage_thread_start(pthread_t *thread, const char *name, uint32_t shard,
                         void *(*run)(void *), void *arg) {
    sigset_t all, before;
    char full_name[16];
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) return rc;
    snprintf(full_name, sizeof full_name, "%s-%u", name, shard);
    pthread_setname_np(*thread, full_name);
    return 0;
}

static int storage_load_meta(struct storage *base, struct storage_meta *meta, char *error,
                             size_t error_bytes) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    memset(meta, 0, sizeof *meta);
    if (vote_meta(s, &meta->term, &meta->voted_for, error, error_bytes) != 0) return -1;
    if (state_meta(s, meta, error, error_bytes) != 0) return -1;
    segments_range(s, &meta->log_first, &meta->log_last);
    pthread_mutex_lock(&s->segments.lock);
    uint64_t floor = gaps_floor(&s->segments);
    pthread_mutex_unlock(&s->segments.lock);
    if (meta->applied_index < floor) {
        return lmdb_error(error, error_bytes,
                          "%s: the state reflects record %llu, but the log that follows begins "
                          "with %llu: the state is older than the one that was installed; put the "
                          "newer one back", s->directory, (unsigned long long)meta->applied_index,
                          (unsigned long long)meta->log_first);
    }
    if (meta->applied_index > meta->log_last) {
        return lmdb_error(error, error_bytes,
                          "%s: the state reflects record %llu, but the log ends with %llu: the "
                          "newest log segments are missing; put them back",
                          s->directory, (unsigned long long)meta->applied_index,
                          (unsigned long long)meta->log_last);
    }
    return 0;
}

static int storage_read_actor(struct storage *base, uint8_t actor_kind, const struct id128 *key,
                              void **block, uint32_t *bytes, char *error, size_t error_bytes) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    int rc = state_read_block(s, actor_kind, key, block, bytes, error, error_bytes);
    if (rc == ENOMEM) return lmdb_error(error, error_bytes, "%s: no memory", s->directory);
    return rc;
}

static void storage_release_block(struct storage *base, void *block) { free(block); }

static void storage_get_stats(struct storage *base, struct storage_stats *stats) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct log_writer *w = &s->log;
    *stats = (struct storage_stats){
        .commits = atomic_load(&w->commits),
        .commit_bytes = atomic_load(&w->commit_bytes),
        .commit_ns = atomic_load(&w->commit_ns),
        .commit_ns_max = atomic_load(&w->commit_ns_max),
        .appends_waiting = atomic_load(&w->waiting),
        .appends_waiting_bytes = atomic_load(&w->waiting_bytes),
        .checkpoints = atomic_load(&s->checkpoints.checkpoints),
        .checkpoint_items = atomic_load(&s->checkpoints.items),
        .loads = atomic_load(&s->loader.loads),
        .filled_records = atomic_load(&s->filled_records),
        .state_bytes = atomic_load(&s->checkpoints.state_bytes),
        .room_bytes = lmdb_free_bytes(s->directory),
    };
    segments_measure(s, stats);
    pthread_mutex_lock(&s->done.lock);
    stats->full = s->done.full;
    pthread_mutex_unlock(&s->done.lock);
}

static void storage_free(struct storage_lmdb *s) {
    segments_close(s);
    lmdb_env_close(&s->state);
    lmdb_env_close(&s->vote);
    journal_close(&s->journal.file);
    log_tail_fini(&s->tail);
    while (s->log.head) { /* out of the journal, and its threads never began */
        struct record *r = s->log.head;
        s->log.head = r->next;
        record_release(r);
    }
    completions_fini(&s->done);
    exports_fini(&s->exports);
    free(s->loader.queue);
    pthread_cond_destroy(&s->log.wake);
    pthread_cond_destroy(&s->log.applied);
    pthread_cond_destroy(&s->journal.wake);
    pthread_cond_destroy(&s->checkpoints.wake);
    pthread_cond_destroy(&s->loader.wake);
    pthread_mutex_destroy(&s->log.lock);
    pthread_mutex_destroy(&s->checkpoints.lock);
    pthread_mutex_destroy(&s->loader.lock);
    pthread_mutex_destroy(&s->segments.lock);
    pthread_mutex_destroy(&s->gaps_lock);
    if (s->lock_fd >= 0) close(s->lock_fd);
    free(s);
}

static void storage_close(struct storage *base) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    exports_end(s);
    log_writer_stop(s);
    checkpoint_stop(s);
    loader_stop(s);
    /* Where it fails, an older program refuses what it could have read. */
    bool whole = !s->journal.file.open || (s->journal.file.clear && !s->journal.broken);
    if (whole) vote_set_format(s, STORAGE_FORMAT);
    storage_free(s);
}

static const struct storage_ops storage_lmdb_ops = {
    .load_meta = storage_load_meta,
    .read = log_read,
    .visit_actors = state_visit_actors,
    .visit_cursors = state_visit_cursors,
    .read_actor = storage_read_actor,
    .release_block = storage_release_block,
    .save_vote = vote_save,
    .append = log_writer_append,
    .checkpoint = checkpoint_queue,
    .load = loader_load,
    .load_timers = loader_load_timers,
    .poll = completions_poll,
    .retain = log_writer_retain,
    .export_state = state_export,
    .check_state = state_check,
    .install_state = install_state,
    .gap = fill_gap,
    .fill = fill_records,
    .scrub = scrub_piece,
    .stats = storage_get_stats,
    .close = storage_close,
};

/* -- open ----------------------------------------------------------------------------------- */

static struct storage_lmdb *storage_new(const struct storage_lmdb_options *o) {
    struct storage_lmdb *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->base.ops = &storage_lmdb_ops;
    snprintf(s->directory, sizeof s->directory, "%s", o->directory);
    s->shard = o->shard;
    s->segment_bytes_max = o->segment_bytes_max ? o->segment_bytes_max : SEGMENT_BYTES_MAX;
    s->segment_ms_max = o->segment_ms_max ? o->segment_ms_max : SEGMENT_MS_MAX;
    s->batch_bytes_max = o->batch_bytes_max ? o->batch_bytes_max : LOG_BATCH_BYTES_MAX;
    s->log_map_bytes = o->log_map_bytes ? o->log_map_bytes
                                        : s->segment_bytes_max + 4ULL * LOG_BATCH_BYTES_MAX;
    s->state_map_bytes = o->state_map_bytes ? o->state_map_bytes : 1ULL << 30;
    s->room_floor_bytes = o->room_floor_bytes ? o->room_floor_bytes : STORAGE_ROOM_FLOOR_BYTES;
    s->journal_bytes = o->journal_bytes / JOURNAL_BLOCK * JOURNAL_BLOCK;
    s->let_go = o->let_go;
    s->fault = o->fault;
    s->fault_arg = o->fault_arg;
    s->lock_fd = -1;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->log.wake, &monotonic);
    pthread_cond_init(&s->log.applied, NULL);
    pthread_cond_init(&s->journal.wake, NULL);
    pthread_cond_init(&s->checkpoints.wake, &monotonic);
    pthread_cond_init(&s->loader.wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->log.lock, NULL);
    pthread_mutex_init(&s->checkpoints.lock, NULL);
    pthread_mutex_init(&s->loader.lock, NULL);
    pthread_mutex_init(&s->segments.lock, NULL);
    pthread_mutex_init(&s->gaps_lock, NULL);
    log_tail_init(&s->tail);
    completions_init(&s->done);
    exports_init(&s->exports);
    /* Pages that are never queued into are never touched. */
    s->loader.queue = malloc(STORAGE_LOADS_MAX * sizeof *s->loader.queue);
    if (s->loader.queue) return s;
    storage_free(s);
    return NULL;
}

enum { STORAGE_LOCK_TRIES = 10 };

/* One process has one directory; the lock goes with the process, however it ends. */
static int storage_lock(struct storage_lmdb *s, char *error, size_t error_bytes) {
    char path[LMDB_PATH_BYTES_MAX];
    require(snprintf(path, sizeof path, "%s/LOCK", s->directory) < (int)sizeof path);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (s->lock_fd < 0) return lmdb_error(error, error_bytes, "%s: %s", path, strerror(errno));
    /* A tool that asks whether the directory is in use holds the lock for a moment. */
    for (int i = 0; i < STORAGE_LOCK_TRIES; i++) {
        if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0) return 0;
        if (errno != EWOULDBLOCK) break;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    if (errno != EWOULDBLOCK) {
        return lmdb_error(error, error_bytes, "%s: %s", path, strerror(errno));
    }
    return lmdb_error(error, error_bytes,
                      "%s is open in another process; end that one first (a directory serves one "
                      "process at a time)", s->directory);
}

static int storage_open_parts(struct storage_lmdb *s, char *error, size_t error_bytes) {
    int rc = lmdb_make_directory(s->directory);
    if (rc != 0) {
        return lmdb_error(error, error_bytes, "%s cannot be made: %s", s->directory, strerror(rc));
    }
    if (storage_lock(s, error, error_bytes) != 0) return -1;
    bool fresh;
    if (vote_open(s, &fresh, error, error_bytes) != 0) return -1;
    if (gaps_load(s, error, error_bytes) != 0) return -1;
    bool unfinished = install_is_open(s);
    if (segments_open(s, unfinished, error, error_bytes) != 0) return -1;
    if (log_journal_open(s, error, error_bytes) != 0) return -1;
    uint64_t first, last;
    segments_range(s, &first, &last);
    if (fresh && last > 0) {
        return lmdb_error(error, error_bytes,
                          "%s/vote is lost, but there is a log: a node that forgot its vote could "
                          "vote twice in one term; put the directory back", s->directory);
    }
    if (fresh && vote_create(s, error, error_bytes) != 0) return -1;
    if (reached_open(s, unfinished, error, error_bytes) != 0) return -1;
    /* Said before the first frame is written, and taken back when the journal is empty. */
    bool journal = s->journal_bytes > 0 || s->journal.file.open;
    rc = vote_set_format(s, journal ? STORAGE_FORMAT_JOURNAL : STORAGE_FORMAT);
    if (rc != 0) return lmdb_error(error, error_bytes, "%s: %s", s->vote.path, mdb_strerror(rc));
    if (unfinished) install_finish(s);
    return state_open(s, first <= 1, error, error_bytes);
}

static int storage_start_threads(struct storage_lmdb *s, char *error, size_t error_bytes) {
    int rc = checkpoint_start(s);
    if (rc == 0) {
        rc = loader_start(s);
        if (rc == 0) {
            rc = log_writer_start(s);
            if (rc == 0) return 0;
            loader_stop(s);
        }
        checkpoint_stop(s);
    }
    return lmdb_error(error, error_bytes, "%s: no thread: %s", s->directory, strerror(rc));
}

struct storage *storage_lmdb_open(const struct storage_lmdb_options *options, char *error,
                                  size_t error_bytes) {
    if (strlen(options->directory) >= STORAGE_DIRECTORY_BYTES_MAX) {
        lmdb_error(error, error_bytes, "%s: the path is too long", options->directory);
        return NULL;
    }
    struct storage_lmdb *s = storage_new(options);
    if (!s) {
        lmdb_error(error, error_bytes, "%s: no memory", options->directory);
        return NULL;
    }
    if (storage_open_parts(s, error, error_bytes) != 0 ||
        storage_start_threads(s, error, error_bytes) != 0) {
        storage_free(s);
        return NULL;
    }
    return &s->base;
}
