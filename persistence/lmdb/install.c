/* Another replica's state in the place of this one's, and the log behind it, as one step:
 *
 *   1. The file goes into the new directory state.<marker>.new/, synced.     crash: thrown away
 *   2. One transaction of the vote's environment writes the gap's row:       <- here it happens
 *      records kept + 1 to the marker are not stored.
 *   3. Segments that begin in the gap or behind it are renamed to .trash;    crash: done at open
 *      the rows of the segment before it that reach into it are deleted.
 *   4. state/ is renamed to .trash, state.<marker>.new/ to state/.           crash: done at open
 *
 * An install is committed and not finished exactly when there is a state.<marker>.new/ whose marker
 * is the end of the newest gap: markers of installs only grow. Nothing is appended before it is
 * finished, so whatever lies behind the gap until then is older than it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/directory.h"
#include "engine/base/log.h"
#include "persistence/lmdb/internal.h"

static void install_path(const struct storage_lmdb *s, uint64_t marker, char path[]) {
    snprintf(path, LMDB_PATH_BYTES_MAX, "%s/state.%020llu.new", s->directory,
             (unsigned long long)marker);
}

static void install_rename(const char *from, const char *to) {
    if (rename(from, to) != 0) lmdb_fatal(errno, "%s cannot be renamed to %s", from, to);
}

static void install_sync_directory(const struct storage_lmdb *s) {
    int rc = directory_sync(s->directory);
    if (rc != 0) lmdb_fatal(rc, "%s cannot be synced", s->directory);
}

/* Away with it, durably; the bytes go later. */
static void install_throw_away(struct storage_lmdb *s, const char *path) {
    char trash[LMDB_PATH_BYTES_MAX + 64];
    snprintf(trash, sizeof trash, "%s.%lld.trash", path, (long long)clock_unix_ms());
    install_rename(path, trash);
    install_sync_directory(s);
}

bool install_is_open(struct storage_lmdb *s) {
    char path[LMDB_PATH_BYTES_MAX + 256];
    uint64_t floor = gaps_floor(&s->segments);
    bool open = false;
    DIR *d = opendir(s->directory);
    if (!d) return false;
    for (struct dirent *entry; (entry = readdir(d));) {
        unsigned long long marker;
        int end = 0;
        if (sscanf(entry->d_name, "state.%20llu.new%n", &marker, &end) != 1 || end == 0 ||
            entry->d_name[end] != 0) {
            continue;
        }
        if (marker == floor) {
            open = true;
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", s->directory, entry->d_name);
        install_throw_away(s, path);
    }
    closedir(d);
    if (open) log_warn("shard %u: an install of a state at %llu was cut short: it is finished now",
                       s->shard, (unsigned long long)floor);
    return open;
}

void install_finish(struct storage_lmdb *s) {
    char fresh[LMDB_PATH_BYTES_MAX], state[LMDB_PATH_BYTES_MAX];
    install_path(s, gaps_floor(&s->segments), fresh);
    snprintf(state, sizeof state, "%s/state", s->directory);
    if (access(state, F_OK) == 0) {
        install_throw_away(s, state);
        storage_fault(s, STORAGE_POINT_INSTALL_ASIDE);
    }
    install_rename(fresh, state);
    install_sync_directory(s);
    storage_fault(s, STORAGE_POINT_INSTALL_SWITCHED);
}

/* -- up to the commit: everything can be taken back ----------------------------------------- */

static int install_sync_file(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno;
    int rc = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return rc;
}

static void install_take_back(const char *path, const char *fresh, const char *file) {
    if (access(file, F_OK) == 0 && rename(file, path) != 0) {
        log_warn("%s cannot be renamed back to %s: %s", file, path, strerror(errno));
    }
    if (access(fresh, F_OK) == 0) lmdb_remove_directory(fresh);
}

/* 0 or a code; nothing changed then. */
static int install_commit(struct storage_lmdb *s, const char *path, uint64_t kept,
                          uint64_t marker) {
    char fresh[LMDB_PATH_BYTES_MAX], file[LMDB_PATH_BYTES_MAX + 16];
    install_path(s, marker, fresh);
    snprintf(file, sizeof file, "%s/data.mdb", fresh);
    int rc = lmdb_make_directory(fresh);
    if (rc == 0 && rename(path, file) != 0) rc = errno;
    if (rc == 0) rc = install_sync_file(file);
    if (rc == 0) rc = directory_sync(fresh);
    if (rc == 0) rc = directory_sync(s->directory);
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_INSTALL_READY);
    if (rc == 0) rc = gaps_commit(s, kept, marker);
    if (rc != 0) install_take_back(path, fresh, file);
    return rc;
}

/* The newest record that is stored, committed, and what consensus says it is: a queued append that
 * truncates is not waited for. */
static uint64_t install_kept(struct storage_lmdb *s, uint64_t committed_index) {
    uint64_t first, last, queued_min = log_writer_queued_min(s);
    segments_range(s, &first, &last);
    uint64_t kept = committed_index < last ? committed_index : last;
    return queued_min <= kept ? queued_min - 1 : kept;
}

static int install_check(struct storage_lmdb *s, const char *path, uint64_t committed_index,
                         uint64_t *marker, char *error, size_t error_bytes) {
    struct storage_meta meta = {0}, own = {0};
    if (state_file_marker(s, path, &meta, error, error_bytes) != 0) return -1;
    if (state_meta(s, &own, error, error_bytes) != 0) return -1;
    *marker = meta.applied_index;
    uint64_t floor = gaps_floor(&s->segments);
    if (*marker > committed_index && *marker > own.applied_index && committed_index >= floor &&
        committed_index >= own.applied_index) {
        return 0;
    }
    return lmdb_error(error, error_bytes,
                      "%s: its state reflects record %llu, committed here is %llu, stored %llu: it "
                      "is not newer", path, (unsigned long long)*marker,
                      (unsigned long long)committed_index, (unsigned long long)own.applied_index);
}

/* -- behind the commit: everything has to be done ------------------------------------------- */

static void install_stop_threads(struct storage_lmdb *s) {
    log_writer_discard(s);
    loader_stop(s);
    checkpoint_stop(s);
    exports_end(s);
}

static void install_start_threads(struct storage_lmdb *s) {
    completions_reset(s);
    atomic_store(&s->exports.stop, false);
    int rc = checkpoint_start(s);
    if (rc == 0) rc = loader_start(s);
    if (rc == 0) rc = log_writer_start(s);
    if (rc != 0) lmdb_fatal(rc, "%s: no thread", s->directory);
    checkpoint_trash_waits(s);
}

/* gaps_lock held. */
static int install_run(struct storage_lmdb *s, const char *path, uint64_t committed_index,
                       char *error, size_t error_bytes) {
    uint64_t marker;
    pthread_mutex_lock(&s->checkpoints.lock);
    require(s->checkpoints.in_flight == 0);
    pthread_mutex_unlock(&s->checkpoints.lock);
    if (install_check(s, path, committed_index, &marker, error, error_bytes) != 0) return -1;
    if (!log_journal_settle(s)) {
        return lmdb_error(error, error_bytes, "%s cannot be installed in %s: there is no room for "
                          "what is in its journal", path, s->directory);
    }
    uint64_t kept = install_kept(s, committed_index);
    int rc = install_commit(s, path, kept, marker);
    if (rc != 0) {
        return lmdb_error(error, error_bytes, "%s cannot be installed in %s: %s", path,
                          s->directory, mdb_strerror(rc));
    }
    storage_fault(s, STORAGE_POINT_INSTALL_COMMITTED);
    install_stop_threads(s);
    /* What goes now may have been the newest. */
    reached_index(s, marker);
    segments_start_anew(s);
    lmdb_env_close(&s->state);
    install_finish(s);
    state_reopen(s);
    int warm = vote_warm_up(s);
    if (warm != 0) {
        log_warn("%s: %s; a vote may need room that a full disk does not have", s->vote.path,
                 mdb_strerror(warm));
    }
    install_start_threads(s);
    log_info("shard %u: a state at record %llu is installed, records %llu to %llu are a gap",
             s->shard, (unsigned long long)marker, (unsigned long long)kept + 1,
             (unsigned long long)marker);
    return 0;
}

int install_state(struct storage *base, const char *path, uint64_t committed_index, char *error,
                  size_t error_bytes) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    pthread_mutex_lock(&s->gaps_lock);
    int rc = install_run(s, path, committed_index, error, error_bytes);
    pthread_mutex_unlock(&s->gaps_lock);
    return rc;
}
