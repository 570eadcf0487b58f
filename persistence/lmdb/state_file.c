/* A state as one file: written row by row from one read transaction of a living state, each row
 * checked on the way; and checked as a whole before somebody installs it.
 *
 * The file is an LMDB environment without a directory. Its table `meta` has a row more than a
 * state's: how many rows there are and a digest of all of them, so that one that is missing is
 * found as well as one that is damaged. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* the streaming state on the stack */
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/directory.h"
#include "engine/base/hex.h"
#include "persistence/lmdb/internal.h"

static const char export_key[] = "export";

/* -- who reads the state for long ------------------------------------------------------------ */

void exports_init(struct exports *x) {
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->changed, NULL);
}

void exports_fini(struct exports *x) {
    pthread_cond_destroy(&x->changed);
    pthread_mutex_destroy(&x->lock);
}

static bool exports_enter(struct exports *x) {
    pthread_mutex_lock(&x->lock);
    while (x->growing && !atomic_load(&x->stop)) pthread_cond_wait(&x->changed, &x->lock);
    bool may = !atomic_load(&x->stop);
    if (may) x->running++;
    pthread_mutex_unlock(&x->lock);
    return may;
}

bool exports_try(struct storage_lmdb *s) {
    struct exports *x = &s->exports;
    pthread_mutex_lock(&x->lock);
    bool may = !x->growing && !atomic_load(&x->stop);
    if (may) x->running++;
    pthread_mutex_unlock(&x->lock);
    return may;
}

void exports_leave(struct exports *x) {
    pthread_mutex_lock(&x->lock);
    x->running--;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
}

void exports_end(struct storage_lmdb *s) {
    struct exports *x = &s->exports;
    pthread_mutex_lock(&x->lock);
    atomic_store(&x->stop, true);
    pthread_cond_broadcast(&x->changed);
    while (x->running > 0) pthread_cond_wait(&x->changed, &x->lock);
    pthread_mutex_unlock(&x->lock);
}

void exports_wait_to_grow(struct storage_lmdb *s) {
    struct exports *x = &s->exports;
    pthread_mutex_lock(&x->lock);
    x->growing = true;
    while (x->running > 0) pthread_cond_wait(&x->changed, &x->lock);
    pthread_mutex_unlock(&x->lock);
}

void exports_grown(struct storage_lmdb *s) {
    struct exports *x = &s->exports;
    pthread_mutex_lock(&x->lock);
    x->growing = false;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
}

/* -- rows ------------------------------------------------------------------------------------ */

static const char *row_fault(int table, MDB_val key, MDB_val value) {
    struct checkpoint_cursor cursor;
    if (table == STATE_CURSORS) return state_cursor_fault(key, value, &cursor);
    if (table == STATE_TIMERS) {
        if (key.mv_size != sizeof(struct timer_row) || value.mv_size != 1) return "wrong length";
        return state_table_of(*(const uint8_t *)value.mv_data) < 0 ? "of no kind of actor" : NULL;
    }
    if (key.mv_size != 16) return "its key is not 16 bytes";
    return state_snapshot_fault(value, state_row_kind(table, value), key.mv_data);
}

struct rows {
    struct storage_lmdb *s;        /* whose `state` is read */
    MDB_txn *txn;
    XXH3_state_t digest;           /* lengths, key and value of each row, tables in their order */
    uint64_t count;
    int (*each)(struct rows *rows, int table, MDB_val key, MDB_val value); /* 0 or a code; may be
                                                                              NULL */
    void *arg;
    char *error;
    size_t error_bytes;
};

static int rows_fault(const struct rows *rows, int table, MDB_val key, const char *fault) {
    char hex[2 * 24 + 1];
    hex_format(key.mv_data, key.mv_size < 24 ? key.mv_size : 24, hex);
    return lmdb_error(rows->error, rows->error_bytes, "%s: row %s of %s is damaged: %s",
                      rows->s->state.path, hex, state_table_names[table], fault);
}

/* 0, or -1 with a sentence. */
static int rows_walk_table(struct rows *rows, int table) {
    MDB_cursor *cursor;
    MDB_val key = {0}, value;
    int outcome = 0, rc = mdb_cursor_open(rows->txn, rows->s->state_tables[table], &cursor);
    if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    else cursor = NULL;
    while (rc == 0 && outcome == 0) {
        const char *fault = row_fault(table, key, value);
        if (fault) {
            outcome = rows_fault(rows, table, key, fault);
            break;
        }
        uint32_t sizes[2] = {(uint32_t)key.mv_size, (uint32_t)value.mv_size};
        XXH3_64bits_update(&rows->digest, sizes, sizeof sizes);
        XXH3_64bits_update(&rows->digest, key.mv_data, key.mv_size);
        XXH3_64bits_update(&rows->digest, value.mv_data, value.mv_size);
        rows->count++;
        if (rows->each && rows->each(rows, table, key, value) != 0) outcome = -1;
        if (outcome == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (rc != 0 && rc != MDB_NOTFOUND) {
        outcome = lmdb_error(rows->error, rows->error_bytes, "%s/%s: %s", rows->s->state.path,
                             state_table_names[table], mdb_strerror(rc));
    }
    if (cursor) mdb_cursor_close(cursor);
    return outcome;
}

static int rows_walk(struct rows *rows) {
    XXH3_64bits_reset(&rows->digest);
    rows->count = 0;
    int rc = 0;
    for (int table = 0; rc == 0 && table < STATE_META; table++) rc = rows_walk_table(rows, table);
    return rc;
}

/* -- export ---------------------------------------------------------------------------------- */

struct export {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi tables[STATE_TABLES];
    uint64_t txn_bytes, unsynced_bytes;
    const char *path;
    const atomic_bool *stop;
    struct storage_lmdb *s;
};

static bool export_stopped(const struct export *x) {
    return (x->stop && atomic_load(x->stop)) || atomic_load(&x->s->exports.stop);
}

/* The rows so far go to the file; the last commit syncs all. A code. */
static int export_commit(struct export *x) {
    int rc = storage_fault(x->s, STORAGE_POINT_EXPORT_COMMIT);
    if (rc == 0 && lmdb_free_bytes(x->path) < x->s->room_floor_bytes + x->txn_bytes) {
        rc = ENOSPC;
    }
    if (rc != 0) return rc;
    rc = mdb_txn_commit(x->txn);
    x->txn = NULL;
    x->unsynced_bytes += x->txn_bytes;
    x->txn_bytes = 0;
    if (rc != 0 || x->unsynced_bytes < STORAGE_EXPORT_SYNC_BYTES) return rc;
    /* Else the kernel saves all of it up, and the log's next sync waits behind it. */
    x->unsynced_bytes = 0;
    return mdb_env_sync(x->env, 1);
}

static int export_failed(const struct rows *rows, int rc) {
    const struct export *x = rows->arg;
    return lmdb_error(rows->error, rows->error_bytes, "%s cannot be written: %s", x->path,
                      rc == ECANCELED ? "stopped" : mdb_strerror(rc));
}

static int export_row(struct rows *rows, int table, MDB_val key, MDB_val value) {
    struct export *x = rows->arg;
    int rc = mdb_put(x->txn, x->tables[table], &key, &value, MDB_APPEND);
    x->txn_bytes += key.mv_size + value.mv_size + 64;
    if (rc == 0 && rows->count % 64 == 0 && export_stopped(x)) rc = ECANCELED;
    if (rc == 0 && x->txn_bytes >= STORAGE_EXPORT_BYTES) {
        rc = export_commit(x);
        if (rc == 0) rc = mdb_txn_begin(x->env, NULL, 0, &x->txn);
    }
    return rc == 0 ? 0 : export_failed(rows, rc);
}

static int export_open(struct export *x) {
    unlink(x->path);
    int rc = mdb_env_create(&x->env);
    if (rc != 0) return rc;
    rc = mdb_env_set_maxdbs(x->env, STATE_TABLES);
    /* A bound, not a size: the file only gets as large as what is put into it. */
    uint64_t map_bytes = 4 * x->s->state.map_bytes + (64u << 20);
    if (rc == 0) rc = mdb_env_set_mapsize(x->env, (size_t)map_bytes);
    if (rc == 0) rc = mdb_env_open(x->env, x->path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0640);
    if (rc == 0) rc = mdb_txn_begin(x->env, NULL, 0, &x->txn);
    for (int i = 0; rc == 0 && i < STATE_TABLES; i++) {
        rc = mdb_dbi_open(x->txn, state_table_names[i], MDB_CREATE, &x->tables[i]);
    }
    return rc;
}

/* Identity, marker, and what all rows add up to. A code. */
static int export_meta(struct export *x, struct rows *rows) {
    MDB_val key = storage_val(STATE_MARKER_KEY, sizeof STATE_MARKER_KEY - 1), value;
    int rc = identity_put(x->s, x->txn, x->tables[STATE_META], STORAGE_FORMAT);
    int found = mdb_get(rows->txn, x->s->state_tables[STATE_META], &key, &value);
    if (rc == 0 && found == 0) rc = mdb_put(x->txn, x->tables[STATE_META], &key, &value, 0);
    else if (rc == 0 && found != MDB_NOTFOUND) rc = found;
    struct export_row row = {.rows = rows->count, .digest = XXH3_64bits_digest(&rows->digest),
                             .exported_ms = clock_unix_ms()};
    row.checksum = XXH3_64bits(&row.rows, sizeof row - sizeof row.checksum);
    key = storage_val(export_key, sizeof export_key - 1);
    value = storage_val(&row, sizeof row);
    if (rc == 0) rc = mdb_put(x->txn, x->tables[STATE_META], &key, &value, 0);
    return rc;
}

/* To the disk, with all pages that its head speaks of. A code. */
static int export_sync(struct export *x) {
    MDB_envinfo info;
    MDB_stat stat;
    struct stat st;
    int fd;
    int rc = mdb_env_sync(x->env, 1);
    if (rc == 0) rc = mdb_env_get_fd(x->env, &fd);
    if (rc == 0) rc = mdb_env_info(x->env, &info);
    if (rc == 0) rc = mdb_env_stat(x->env, &stat);
    if (rc != 0) return rc;
    off_t wanted = (off_t)(info.me_last_pgno + 1) * stat.ms_psize;
    if (fstat(fd, &st) != 0) return errno;
    if (st.st_size < wanted && ftruncate(fd, wanted) != 0) return errno;
    return fsync(fd) == 0 ? 0 : errno;
}

/* Writes the file under the name it is given. 0, or -1 with a sentence. */
static int export_write(struct export *x, struct storage_meta *meta, char *error,
                        size_t error_bytes) {
    struct rows rows = {.s = x->s, .each = export_row, .arg = x, .error = error,
                        .error_bytes = error_bytes};
    int outcome = 0, rc = export_open(x);
    if (rc == 0 && export_stopped(x)) rc = ECANCELED;
    if (rc == 0) rc = lmdb_env_read_begin(&x->s->state, &rows.txn);
    if (rc == 0) {
        memset(meta, 0, sizeof *meta);
        rc = state_meta_of(x->s, rows.txn, meta);
        if (rc == 0) outcome = rows_walk(&rows);
        if (rc == 0 && outcome == 0) rc = export_meta(x, &rows);
        lmdb_env_read_end(&x->s->state, rows.txn);
    }
    if (rc == 0 && outcome == 0) rc = export_commit(x);
    if (rc == 0 && outcome == 0) rc = export_sync(x);
    if (x->txn) mdb_txn_abort(x->txn);
    if (x->env) mdb_env_close(x->env);
    return rc == 0 ? outcome : export_failed(&rows, rc);
}

static int export_parent_sync(const char *path) {
    char parent[LMDB_PATH_BYTES_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path + 1) : 1,
             slash ? path : ".");
    return directory_sync(parent);
}

/* Beside its name first, so that a file under its name is always whole. */
static int export_to(struct storage_lmdb *s, const char *path, const atomic_bool *stop,
                     struct storage_meta *meta, char *error, size_t error_bytes) {
    char part[LMDB_PATH_BYTES_MAX];
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part) {
        return lmdb_error(error, error_bytes, "%s: the path is too long", path);
    }
    struct export x = {.path = part, .stop = stop, .s = s};
    int outcome = export_write(&x, meta, error, error_bytes);
    if (outcome == 0) {
        int rc = rename(part, path) == 0 ? export_parent_sync(path) : errno;
        if (rc != 0) {
            outcome = lmdb_error(error, error_bytes, "%s cannot be written: %s", path,
                                 strerror(rc));
        }
    }
    if (outcome != 0) unlink(part);
    return outcome;
}

int state_export(struct storage *base, const char *path, const atomic_bool *stop,
                 struct storage_meta *meta, char *error, size_t error_bytes) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    if (!exports_enter(&s->exports)) {
        return lmdb_error(error, error_bytes, "%s cannot be written: the state is being replaced",
                          path);
    }
    int outcome = export_to(s, path, stop, meta, error, error_bytes);
    exports_leave(&s->exports);
    return outcome;
}

/* -- a state that only is looked at ------------------------------------------------------------ */

/* A storage of which only `state` is open, to be read; NULL with a sentence. */
static struct storage_lmdb *view_open(uint32_t shard, const char *path, unsigned flags, char *error,
                                      size_t error_bytes) {
    struct storage_lmdb *s = calloc(1, sizeof *s);
    MDB_txn *txn = NULL;
    bool fresh = false, refused = false;
    int rc = s ? lmdb_env_open_readonly(&s->state, path, flags, STATE_TABLES) : ENOMEM;
    if (rc == 0) {
        s->shard = shard;
        rc = lmdb_env_read_begin(&s->state, &txn);
        if (rc == 0) {
            rc = state_open_tables(s, txn, 0);
            if (rc == 0) {
                uint32_t format = STORAGE_FORMAT;
                refused = identity_check(s, txn, s->state_tables[STATE_META], path, &format, &fresh,
                                         error, error_bytes) != 0;
                if (fresh) rc = MDB_NOTFOUND;
            }
            /* The handles of tables opened in a read become the environment's when it commits. */
            if (rc == 0 && !refused) rc = lmdb_env_read_commit(&s->state, txn);
            else lmdb_env_read_end(&s->state, txn);
        }
    }
    if (rc == 0 && !refused) return s;
    if (!refused) {
        lmdb_error(error, error_bytes, "%s: %s", path,
                   rc == MDB_NOTFOUND ? "it is no state of Jumun" : mdb_strerror(rc));
    }
    if (s) lmdb_env_close(&s->state);
    free(s);
    return NULL;
}

static void view_close(struct storage_lmdb *s) {
    lmdb_env_close(&s->state);
    free(s);
}

/* What the file says of all its rows. NULL, or what is wrong. */
static const char *export_row_get(struct storage_lmdb *s, MDB_txn *txn, struct export_row *row) {
    MDB_val key = storage_val(export_key, sizeof export_key - 1), value;
    int rc = mdb_get(txn, s->state_tables[STATE_META], &key, &value);
    if (rc != 0 || value.mv_size != sizeof *row) return "it was not exported as a whole";
    memcpy(row, value.mv_data, sizeof *row);
    if (row->checksum != XXH3_64bits(&row->rows, sizeof *row - sizeof row->checksum))
        return "its row `export` is damaged: checksum does not match";
    return NULL;
}

static bool export_row_tells(const struct export_row *row, const struct rows *rows) {
    return row->rows == rows->count && row->digest == XXH3_64bits_digest(&rows->digest);
}

static int check_export_row(struct rows *rows, const char *path) {
    struct export_row row;
    const char *fault = export_row_get(rows->s, rows->txn, &row);
    if (!fault && !export_row_tells(&row, rows))
        fault = "rows are missing or not those that were exported";
    return fault ? lmdb_error(rows->error, rows->error_bytes, "%s: %s", path, fault) : 0;
}

int storage_lmdb_check(uint32_t shard, const char *path, struct storage_meta *meta, char *error,
                       size_t error_bytes) {
    struct storage_lmdb *s =
        view_open(shard, path, MDB_NOSUBDIR | MDB_NOLOCK, error, error_bytes);
    if (!s) return -1;
    struct rows rows = {.s = s, .error = error, .error_bytes = error_bytes};
    int outcome = -1, rc = lmdb_env_read_begin(&s->state, &rows.txn);
    if (rc == 0) {
        memset(meta, 0, sizeof *meta);
        rc = state_meta_of(s, rows.txn, meta);
        if (rc == 0) outcome = rows_walk(&rows);
        if (rc == 0 && outcome == 0) outcome = check_export_row(&rows, path);
        lmdb_env_read_end(&s->state, rows.txn);
    }
    if (rc != 0) lmdb_error(error, error_bytes, "%s: %s", path, mdb_strerror(rc));
    view_close(s);
    return outcome;
}

int state_check(struct storage *base, const char *path, struct storage_meta *meta, char *error,
                size_t error_bytes) {
    return storage_lmdb_check(((struct storage_lmdb *)base)->shard, path, meta, error, error_bytes);
}

int storage_lmdb_same_rows(struct storage *base, const char *path, bool *same, char *error,
                           size_t error_bytes) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct rows rows = {.s = s, .error = error, .error_bytes = error_bytes};
    struct export_row row;
    MDB_txn *txn;
    const char *fault = NULL;
    struct storage_lmdb *view =
        view_open(s->shard, path, MDB_NOSUBDIR | MDB_NOLOCK, error, error_bytes);
    if (!view) return -1;
    int outcome = 0, rc = lmdb_env_read_begin(&view->state, &txn);
    if (rc == 0) {
        fault = export_row_get(view, txn, &row);
        lmdb_env_read_end(&view->state, txn);
    }
    view_close(view);
    if (rc == 0 && !fault) rc = lmdb_env_read_begin(&s->state, &rows.txn);
    if (rc != 0 || fault)
        return lmdb_error(error, error_bytes, "%s: %s", path, fault ? fault : mdb_strerror(rc));
    outcome = rows_walk(&rows);
    lmdb_env_read_end(&s->state, rows.txn);
    *same = outcome == 0 && export_row_tells(&row, &rows);
    return outcome;
}

int state_file_marker(struct storage_lmdb *s, const char *path, struct storage_meta *meta,
                      char *error, size_t error_bytes) {
    struct storage_lmdb *view =
        view_open(s->shard, path, MDB_NOSUBDIR | MDB_NOLOCK, error, error_bytes);
    if (!view) return -1;
    int rc = state_meta(view, meta, error, error_bytes);
    view_close(view);
    return rc;
}

int storage_lmdb_export(const char *directory, uint32_t shard, const char *path,
                        const atomic_bool *stop, struct storage_meta *meta, char *error,
                        size_t error_bytes) {
    char state[LMDB_PATH_BYTES_MAX];
    if (snprintf(state, sizeof state, "%s/state", directory) >= STORAGE_DIRECTORY_BYTES_MAX) {
        return lmdb_error(error, error_bytes, "%s: the path is too long", directory);
    }
    struct storage_lmdb *s = view_open(shard, state, 0, error, error_bytes);
    if (!s) return -1;
    snprintf(s->directory, sizeof s->directory, "%s", directory);
    s->room_floor_bytes = STORAGE_ROOM_FLOOR_BYTES;
    int outcome = export_to(s, path, stop, meta, error, error_bytes);
    view_close(s);
    return outcome;
}
