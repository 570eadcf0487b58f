#include "persistence/lmdb/env.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/directory.h"
#include "engine/base/log.h"
#include "engine/limits.h"

static const uint64_t lmdb_map_unit = 1u << 20;

static uint64_t lmdb_round_map(uint64_t bytes) {
    return (bytes + lmdb_map_unit - 1) / lmdb_map_unit * lmdb_map_unit;
}

/* A file that was cut would end the process with SIGBUS when its lost pages are read through the
 * map. Zeros in their place are found like any other damage: by page flags and by checksums. LMDB
 * may also leave a never-written page at the very end, which is no damage; both are repaired so. */
static int lmdb_env_fill_cut(struct lmdb_env *e) {
    MDB_envinfo info;
    mdb_env_info(e->mdb, &info);
    uint64_t wanted = (uint64_t)(info.me_last_pgno + 1) * e->page_bytes;
    int fd;
    struct stat st;
    int rc = mdb_env_get_fd(e->mdb, &fd);
    if (rc != 0) return rc;
    if (fstat(fd, &st) != 0) return errno;
    if ((uint64_t)st.st_size >= wanted) return 0;
    log_warn("%s/data.mdb has %lld bytes of %llu: filled up with zeros, damage will be named",
             e->path, (long long)st.st_size, (unsigned long long)wanted);
    return ftruncate(fd, (off_t)wanted) == 0 ? 0 : errno;
}

/* A crash while an environment was being made may leave meta pages short or never written (zeros).
 * Nothing was ever committed into it then: no data page is written before both meta pages are
 * synced. Such a file is made anew. */
static void lmdb_env_clear_unborn(const char *path) {
    char file[LMDB_PATH_BYTES_MAX + 16];
    snprintf(file, sizeof file, "%s/data.mdb", path);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *metas = calloc(3, page);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && metas) {
        ssize_t got = pread(fd, metas, 2 * page + 1, 0);
        /* The third page stays zeros: what an unwritten one looks like. */
        bool unwritten = memcmp(metas, metas + 2 * page, page) == 0 ||
                         memcmp(metas + page, metas + 2 * page, page) == 0;
        if (got >= 0 && (size_t)got <= 2 * page && ((size_t)got < 2 * page || unwritten)) {
            unlink(file);
        }
    }
    if (fd >= 0) close(fd);
    free(metas);
}

static int lmdb_env_start(struct lmdb_env *e, uint64_t map_bytes, unsigned databases_max) {
    MDB_stat stat;
    MDB_envinfo info;
    int dead;
    int rc = mdb_env_set_maxreaders(e->mdb, STORAGE_READERS_MAX);
    if (rc == 0 && databases_max > 0) rc = mdb_env_set_maxdbs(e->mdb, databases_max);
    if (rc == 0) rc = mdb_env_set_mapsize(e->mdb, lmdb_round_map(map_bytes));
    /* MDB_NOTLS ties a reader slot to its transaction: threads come and go, slots do not. */
    if (rc == 0) rc = mdb_env_open(e->mdb, e->path, MDB_NOTLS, 0640);
    if (rc == 0) rc = mdb_env_stat(e->mdb, &stat);
    if (rc == 0) rc = mdb_env_info(e->mdb, &info);
    if (rc != 0) return rc;
    e->page_bytes = stat.ms_psize;
    e->map_bytes = info.me_mapsize;
    mdb_reader_check(e->mdb, &dead);
    if (info.me_last_txnid > 0) return lmdb_env_fill_cut(e);
    rc = mdb_env_sync(e->mdb, 1);
    return rc == 0 ? directory_sync(e->path) : rc;
}

static void lmdb_env_init_lock(struct lmdb_env *e) {
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* Else a stream of readers could keep growth out for ever. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&e->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
}

int lmdb_env_open(struct lmdb_env *e, const char *path, uint64_t map_bytes,
                  unsigned databases_max) {
    require(strlen(path) < sizeof e->path);
    *e = (struct lmdb_env){.page_bytes = 0};
    memcpy(e->path, path, strlen(path) + 1);
    lmdb_env_clear_unborn(path);
    int rc = mdb_env_create(&e->mdb);
    if (rc != 0) {
        e->mdb = NULL;
        return rc;
    }
    rc = lmdb_env_start(e, map_bytes, databases_max);
    if (rc != 0) {
        mdb_env_close(e->mdb);
        e->mdb = NULL;
        return rc;
    }
    lmdb_env_init_lock(e);
    return 0;
}

static int lmdb_env_start_readonly(struct lmdb_env *e, unsigned flags, unsigned databases_max) {
    MDB_stat stat;
    MDB_envinfo info;
    struct stat st;
    int fd;
    int rc = mdb_env_set_maxdbs(e->mdb, databases_max);
    if (rc == 0) rc = mdb_env_set_maxreaders(e->mdb, STORAGE_READERS_MAX);
    if (rc == 0) rc = mdb_env_open(e->mdb, e->path, flags | MDB_RDONLY | MDB_NOTLS, 0640);
    if (rc == 0) rc = mdb_env_stat(e->mdb, &stat);
    if (rc == 0) rc = mdb_env_info(e->mdb, &info);
    if (rc == 0) rc = mdb_env_get_fd(e->mdb, &fd);
    if (rc != 0) return rc;
    if (fstat(fd, &st) != 0) return errno;
    e->page_bytes = stat.ms_psize;
    e->map_bytes = info.me_mapsize;
    if (!(flags & MDB_NOSUBDIR)) return 0; /* whoever writes to it sees to its end */
    /* Reading a page that is not there would be a signal. */
    uint64_t wanted = (uint64_t)(info.me_last_pgno + 1) * e->page_bytes;
    return (uint64_t)st.st_size < wanted ? MDB_CORRUPTED : 0;
}

int lmdb_env_open_readonly(struct lmdb_env *e, const char *path, unsigned flags,
                           unsigned databases_max) {
    require(strlen(path) < sizeof e->path);
    *e = (struct lmdb_env){.page_bytes = 0};
    memcpy(e->path, path, strlen(path) + 1);
    int rc = mdb_env_create(&e->mdb);
    if (rc != 0) {
        e->mdb = NULL;
        return rc;
    }
    rc = lmdb_env_start_readonly(e, flags, databases_max);
    if (rc != 0) {
        mdb_env_close(e->mdb);
        e->mdb = NULL;
        return rc;
    }
    lmdb_env_init_lock(e);
    return 0;
}

void lmdb_env_close(struct lmdb_env *e) {
    if (!e->mdb) return;
    mdb_env_close(e->mdb);
    e->mdb = NULL;
    pthread_rwlock_destroy(&e->lock);
}

int lmdb_env_read_begin(struct lmdb_env *e, MDB_txn **txn) {
    pthread_rwlock_rdlock(&e->lock);
    int rc = mdb_txn_begin(e->mdb, NULL, MDB_RDONLY, txn);
    if (rc == MDB_MAP_RESIZED) {
        /* Only where another process is the writer; nothing in this one reads yet. */
        rc = mdb_env_set_mapsize(e->mdb, 0);
        if (rc == 0) rc = mdb_txn_begin(e->mdb, NULL, MDB_RDONLY, txn);
    }
    if (rc != 0) pthread_rwlock_unlock(&e->lock);
    return rc;
}

void lmdb_env_read_end(struct lmdb_env *e, MDB_txn *txn) {
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&e->lock);
}

int lmdb_env_read_commit(struct lmdb_env *e, MDB_txn *txn) {
    int rc = mdb_txn_commit(txn);
    pthread_rwlock_unlock(&e->lock);
    return rc;
}

uint64_t lmdb_env_used_bytes(const struct lmdb_env *e) {
    MDB_envinfo info;
    mdb_env_info(e->mdb, &info);
    return (uint64_t)(info.me_last_pgno + 1) * e->page_bytes;
}

bool lmdb_env_must_grow(const struct lmdb_env *e, uint64_t more) {
    return lmdb_env_used_bytes(e) + more > e->map_bytes;
}

void lmdb_env_reserve(struct lmdb_env *e, uint64_t more) {
    uint64_t wanted = lmdb_env_used_bytes(e) + more;
    if (wanted <= e->map_bytes) return;
    uint64_t grown = lmdb_round_map(wanted + wanted / 2);
    pthread_rwlock_wrlock(&e->lock);
    int rc = mdb_env_set_mapsize(e->mdb, grown);
    pthread_rwlock_unlock(&e->lock);
    /* The old map is gone by then: there is nothing to go on with. */
    if (rc != 0) lmdb_fatal(rc, "%s: no map of %llu bytes", e->path, (unsigned long long)grown);
    e->map_bytes = grown;
}

/* LMDB does not tell where its map begins, but every page of a tree begins with its own number.
 * NULL when there is none yet. */
static uint8_t *lmdb_env_map(const struct lmdb_env *e, MDB_txn *txn) {
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t number;
    if (mdb_cursor_open(txn, 1, &cursor) != 0) return NULL;
    /* The newest rows: what leads there is in memory already. */
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    mdb_cursor_close(cursor);
    if (rc != 0) return NULL;
    uint8_t *page = (uint8_t *)key.mv_data - (uintptr_t)key.mv_data % e->page_bytes;
    memcpy(&number, page, sizeof number);
    return number * e->page_bytes < e->map_bytes ? page - number * e->page_bytes : NULL;
}

void lmdb_env_let_go(struct lmdb_env *e, uint64_t upto) {
    MDB_txn *txn;
    int fd;
    /* The two meta pages are looked at all the time: each time anew they would bring others in. */
    uint64_t from = 2ULL * e->page_bytes;
    upto -= upto % e->page_bytes;
    if (from >= upto || mdb_env_get_fd(e->mdb, &fd) != 0) return;
    /* A file of another machine may have larger pages, and its map then begins anywhere. */
    if (e->page_bytes == sysconf(_SC_PAGESIZE) && lmdb_env_read_begin(e, &txn) == 0) {
        uint8_t *map = lmdb_env_map(e, txn);
        /* First: what is mapped stays in the cache. */
        if (map) madvise(map + from, upto - from, MADV_DONTNEED);
        lmdb_env_read_end(e, txn);
    }
    (void)posix_fadvise(fd, (off_t)from, (off_t)(upto - from), POSIX_FADV_DONTNEED);
}

bool lmdb_is_room(int code) {
    return code == ENOSPC || code == EDQUOT || code == ENOMEM || code == MDB_MAP_FULL;
}

uint64_t lmdb_free_bytes(const char *path) {
    struct statvfs fs;
    if (statvfs(path, &fs) != 0) return UINT64_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

int lmdb_make_directory(const char *path) {
    if (mkdir(path, 0750) != 0 && errno != EEXIST) return errno;
    char parent[LMDB_PATH_BYTES_MAX];
    snprintf(parent, sizeof parent, "%s/..", path);
    return directory_sync(parent);
}

int lmdb_remove_directory(const char *path) {
    DIR *d = opendir(path);
    if (!d) return errno;
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(d));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (unlinkat(dirfd(d), entry->d_name, 0) != 0) rc = errno;
    }
    closedir(d);
    if (rc == 0 && rmdir(path) != 0) rc = errno;
    return rc;
}

int lmdb_error(char *error, size_t error_bytes, const char *format, ...) {
    if (!error || error_bytes == 0) return -1;
    va_list args;
    va_start(args, format);
    vsnprintf(error, error_bytes, format, args);
    va_end(args);
    return -1;
}

void lmdb_fatal(int code, const char *format, ...) {
    char what[768];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    log_error("%s: %s; the process ends, its restart recovers from the disk", what,
              mdb_strerror(code));
    abort();
}
