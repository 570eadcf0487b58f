#include "engine/replica/view_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/directory.h"
#include "engine/base/log.h"

enum {
    VIEW_STORE_FORMAT = 1,
    VIEW_STORE_READERS_MAX = 1024,
    VIEW_BOOT_BYTES = 37,      /* of the kernel's boot id, with its end */
    VIEW_TABLES_MAX = 2 * VIEWS_COUNT + 2,
    PUMP_BYTES = 1 << 20
};
static const uint64_t view_store_map_bytes = 256ull << 30;

static int fault(char *error, size_t error_bytes, const char *path, const char *what) {
    snprintf(error, error_bytes, "%s: %s", path, what);
    return -1;
}

/* -- which boot of the machine wrote it -------------------------------------------------------- */

static void boot_now(char out[VIEW_BOOT_BYTES]) {
    memset(out, 0, VIEW_BOOT_BYTES);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t got = read(fd, out, VIEW_BOOT_BYTES - 1);
    if (got < VIEW_BOOT_BYTES - 1) out[0] = 0;
    close(fd);
}

/* Written and synced before the first transaction, so that no unsynced page is without it. */
static int boot_write(const char *directory, const char *word) {
    char path[1100], fresh[1110];
    snprintf(path, sizeof path, "%s/boot", directory);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) return errno;
    size_t size = strlen(word);
    int rc = write(fd, word, size) == (ssize_t)size && fsync(fd) == 0 ? 0 : errno;
    close(fd);
    if (rc == 0 && rename(fresh, path) != 0) rc = errno;
    return rc == 0 ? directory_sync(directory) : rc;
}

/* Whether the pages are all there: on the disk, because it was closed in good order, or synced; or
 * at least in the page cache, having been written under this boot. */
enum boot_trust { BOOT_DISTRUSTED, BOOT_CACHED, BOOT_DURABLE };
static enum boot_trust boot_trust(const char *directory) {
    char path[1100], word[64] = "", now[VIEW_BOOT_BYTES];
    snprintf(path, sizeof path, "%s/boot", directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return BOOT_DISTRUSTED;
    ssize_t got = read(fd, word, sizeof word - 1);
    close(fd);
    if (got < 0) return BOOT_DISTRUSTED;
    boot_now(now);
    if (strcmp(word, "closed") == 0 || strcmp(word, "synced") == 0) return BOOT_DURABLE;
    return now[0] != 0 && strcmp(word, now) == 0 ? BOOT_CACHED : BOOT_DISTRUSTED;
}

static void distrust(const char *directory) {
    char path[1100];
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    bool there = false;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        if (unlink(path) == 0) there = true;
    }
    if (there)
        log_warn("%s: the machine went down without closing it: the views are built anew",
                 directory);
}

/* -- open ------------------------------------------------------------------------------------- */

/* In `meta` under "view/<name>". */
struct view_meta_row { uint32_t layout, generation; };
/* In `meta` under "identity". */
struct view_identity_row { char magic[8]; uint32_t format, spare; char cluster_id[40]; };

static size_t meta_view_name(enum view_number v, char name[64]) {
    return (size_t)snprintf(name, 64, "view/%s", views[v].name);
}

static int meta_put_view(struct view_store *s, MDB_txn *txn, enum view_number v) {
    char name[64];
    struct view_meta_row row = {views[v].layout, s->tables[v].generation};
    MDB_val key = view_val(name, meta_view_name(v, name)), value = view_val(&row, sizeof row);
    return mdb_put(txn, s->meta, &key, &value, 0);
}

/* False: never built, or by another layout. */
static bool meta_get_view(struct view_store *s, MDB_txn *txn, enum view_number v,
                          struct view_meta_row *row) {
    char name[64];
    MDB_val key = view_val(name, meta_view_name(v, name)), value;
    if (mdb_get(txn, s->meta, &key, &value) != 0 || value.mv_size != sizeof *row) return false;
    memcpy(row, value.mv_data, sizeof *row);
    return row->generation != 0 && row->layout == views[v].layout;
}

/* Numbers cannot be made of orders: what has happened until now is in none. */
static int count_from_now(struct view_store *s, MDB_txn *txn) {
    struct view_position positions[SHARDS_MAX];
    const void *rows;
    uint32_t count = view_disk_positions(s, txn, &rows);
    if (count == 0 || count > SHARDS_MAX) return 0;
    memcpy(positions, rows, count * sizeof *positions);
    for (uint32_t i = 0; i < count; i++) {
        struct view_position *p = &positions[i];
        if (p->counted_from <= p->index) p->counted_from = p->index + 1;
    }
    return view_put_positions(s, txn, positions, count);
}

/* A view of this layout is taken as it is; one that is new or of another layout starts empty, and
 * is complete at once only where there are no orders yet. */
static int open_view(struct view_store *s, MDB_txn *txn, enum view_number v, bool empty) {
    struct view_meta_row row;
    struct view_table *t = &s->tables[v];
    int rc = 0;
    for (int side = 0; side < 2 && rc == 0; side++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%d", views[v].name, side);
        rc = mdb_dbi_open(txn, name, MDB_CREATE, &t->sides[side]);
    }
    if (rc != 0) return rc;
    t->generation = meta_get_view(s, txn, v, &row) ? row.generation : 0;
    if (t->generation != 0) return 0;
    if (!empty && views[v].key) return meta_put_view(s, txn, v);
    for (int side = 0; side < 2 && rc == 0; side++) rc = mdb_drop(txn, t->sides[side], 0);
    t->generation = 1;
    if (rc == 0 && !views[v].key) rc = count_from_now(s, txn);
    return rc == 0 ? meta_put_view(s, txn, v) : rc;
}

static int open_identity(struct view_store *s, MDB_txn *txn, char *error, size_t error_bytes) {
    struct view_identity_row row = {.magic = {'J', 'U', 'M', 'U', 'N', 'V', 'W', 'S'},
                                    .format = VIEW_STORE_FORMAT};
    MDB_val key = view_val("identity", 8), value;
    int rc = mdb_get(txn, s->meta, &key, &value);
    if (rc == MDB_NOTFOUND) {
        value = view_val(&row, sizeof row);
        return mdb_put(txn, s->meta, &key, &value, 0);
    }
    if (rc != 0) return rc;
    struct view_identity_row found = {.format = 0};
    if (value.mv_size == sizeof found) memcpy(&found, value.mv_data, sizeof found);
    if (memcmp(found.magic, row.magic, 8) != 0)
        return fault(error, error_bytes, s->directory, "it holds something else than views");
    if (found.format != VIEW_STORE_FORMAT)
        return fault(error, error_bytes, s->directory, "it was made by another version");
    memcpy(s->cluster_id, found.cluster_id, CLUSTER_ID_BYTES - 1);
    return 0;
}

static int open_tables(struct view_store *s, char *error, size_t error_bytes) {
    MDB_txn *txn;
    MDB_stat orders;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &s->meta);
    if (rc == 0) rc = mdb_dbi_open(txn, "orders", MDB_CREATE, &s->orders);
    if (rc == 0) rc = mdb_stat(txn, s->orders, &orders);
    if (rc == 0) rc = open_identity(s, txn, error, error_bytes);
    const void *positions;
    bool empty =
        rc == 0 && orders.ms_entries == 0 && view_disk_positions(s, txn, &positions) == 0;
    for (int v = 0; v < VIEWS_COUNT && rc == 0; v++)
        rc = open_view(s, txn, (enum view_number)v, empty);
    if (rc == 0) s->active = overlay_new(view_disk_overlay(s, txn) + 1, 0);
    if (rc == 0 && s->active) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc == 0 ? ENOMEM : rc;
}

static int open_environment(struct view_store *s, char *error, size_t error_bytes) {
    int dead;
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (s->synced ? 0 : MDB_NOSYNC);
    int rc = mdb_env_create(&s->env);
    if (rc != 0) return rc;
    rc = mdb_env_set_maxreaders(s->env, VIEW_STORE_READERS_MAX);
    if (rc == 0) rc = mdb_env_set_maxdbs(s->env, VIEW_TABLES_MAX);
    if (rc == 0) rc = mdb_env_set_mapsize(s->env, s->map_bytes);
    if (rc == 0) rc = mdb_env_open(s->env, s->directory, flags, 0640);
    if (rc == 0) rc = mdb_reader_check(s->env, &dead);
    return rc == 0 ? open_tables(s, error, error_bytes) : rc;
}

/* Whether the file that was locked still has its name: an unlock may have come between. */
static bool lock_is_named(int fd, const char *path) {
    struct stat locked, named;
    return fstat(fd, &locked) == 0 && stat(path, &named) == 0 && locked.st_ino == named.st_ino;
}

int view_store_lock(const char *directory, char *error, size_t error_bytes) {
    char path[1100];
    snprintf(path, sizeof path, "%.1024s/lock", directory);
    for (;;) {
        if (mkdir(directory, 0750) != 0 && errno != EEXIST)
            return fault(error, error_bytes, directory, strerror(errno));
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
        if (fd < 0) return fault(error, error_bytes, path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            close(fd);
            return fault(error, error_bytes, directory, "another replica uses this directory");
        }
        if (lock_is_named(fd, path)) return fd;
        close(fd);
    }
}

void view_store_unlock(const char *directory, int lock_fd) {
    char path[1100];
    snprintf(path, sizeof path, "%.1024s/data.mdb", directory);
    if (access(path, F_OK) != 0) {
        snprintf(path, sizeof path, "%.1024s/lock", directory);
        unlink(path);
        rmdir(directory);
    }
    close(lock_fd);
}

static void store_free(struct view_store *s) {
    if (s->active) overlay_free(s->active);
    if (s->frozen) overlay_free(s->frozen);
    if (s->env) mdb_env_close(s->env);
    if (s->lock_fd >= 0) close(s->lock_fd);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

struct view_store *view_store_open(const struct view_store_options *options, char *error,
                                   size_t error_bytes) {
    struct view_store *s = calloc(1, sizeof *s);
    if (!s) {
        fault(error, error_bytes, options->directory, "no memory");
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->lock_fd = options->lock_fd ? options->lock_fd : -1;
    s->synced = options->synced;
    s->map_bytes = options->map_bytes ? options->map_bytes : view_store_map_bytes;
    if ((size_t)snprintf(s->directory, sizeof s->directory, "%s", options->directory) >=
        sizeof s->directory) {
        fault(error, error_bytes, options->directory, "the name is too long");
        store_free(s);
        return NULL;
    }
    if (s->lock_fd < 0) s->lock_fd = view_store_lock(s->directory, error, error_bytes);
    if (s->lock_fd < 0) {
        store_free(s);
        return NULL;
    }
    enum boot_trust trust = boot_trust(s->directory);
    if (trust == BOOT_DISTRUSTED) distrust(s->directory);
    char now[VIEW_BOOT_BYTES];
    boot_now(now);
    error[0] = 0;
    /* What a run that did not sync has left is synced first, and then said to be. */
    bool durable = s->synced && trust == BOOT_DURABLE;
    int rc = boot_write(s->directory, durable ? "synced" : now);
    if (rc == 0) rc = open_environment(s, error, error_bytes);
    if (rc == 0 && s->synced && !durable) rc = mdb_env_sync(s->env, 1);
    if (rc == 0 && s->synced && !durable) rc = boot_write(s->directory, "synced");
    if (rc == 0) return s;
    if (error[0] == 0) fault(error, error_bytes, s->directory, mdb_strerror(rc));
    store_free(s);
    return NULL;
}

void view_store_settle(struct view_store *s) {
    if (mdb_env_sync(s->env, 1) == 0) boot_write(s->directory, s->synced ? "synced" : "closed");
}

void view_store_close(struct view_store *s) {
    for (uint32_t i = 0; i < s->idle_count; i++) mdb_txn_abort(s->idle[i]);
    view_store_settle(s);
    store_free(s);
}

/* -- reading: see view_read.c ------------------------------------------------------------------ */

uint32_t view_disk_positions(struct view_store *s, MDB_txn *txn, const void **positions) {
    MDB_val key = view_val("positions", 9), value;
    if (mdb_get(txn, s->meta, &key, &value) != 0) return 0;
    *positions = value.mv_data;
    return (uint32_t)(value.mv_size / sizeof(struct view_position));
}

bool view_table_of(struct view_store *s, const struct view_read *read, enum view_number view,
                   MDB_dbi *table) {
    struct view_meta_row row;
    if (!meta_get_view(s, read->txn, view, &row)) return false;
    *table = s->tables[view].sides[row.generation % 2];
    return true;
}

uint64_t view_store_bytes(struct view_store *s) {
    MDB_envinfo info;
    MDB_stat stat;
    if (mdb_env_info(s->env, &info) != 0 || mdb_env_stat(s->env, &stat) != 0) return 0;
    return (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
}

/* -- writing ----------------------------------------------------------------------------------- */

MDB_txn *view_write_begin(struct view_store *s) {
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc == 0) return txn;
    log_error("%s: no transaction: %s", s->directory, mdb_strerror(rc));
    require(rc == 0);
    return NULL;
}

int view_write_commit(struct view_store *s, MDB_txn *txn) { return mdb_txn_commit(txn); }

void view_write_abort(struct view_store *s, MDB_txn *txn) { mdb_txn_abort(txn); }

int view_put_positions(struct view_store *s, MDB_txn *txn, const struct view_position *positions,
                       uint32_t count) {
    MDB_val key = view_val("positions", 9), value = view_val(positions, count * sizeof *positions);
    return mdb_put(txn, s->meta, &key, &value, 0);
}

int view_put_overlay(struct view_store *s, MDB_txn *txn, uint64_t id) {
    MDB_val key = view_val("overlay", 7), value = view_val(&id, sizeof id);
    return mdb_put(txn, s->meta, &key, &value, 0);
}

uint64_t view_disk_overlay(struct view_store *s, MDB_txn *txn) {
    MDB_val key = view_val("overlay", 7), value;
    uint64_t id = 0;
    if (mdb_get(txn, s->meta, &key, &value) == 0 && value.mv_size == sizeof id)
        memcpy(&id, value.mv_data, sizeof id);
    return id;
}

int view_put_cluster_id(struct view_store *s, MDB_txn *txn, const char *cluster_id) {
    struct view_identity_row row = {.magic = {'J', 'U', 'M', 'U', 'N', 'V', 'W', 'S'},
                                    .format = VIEW_STORE_FORMAT};
    snprintf(row.cluster_id, sizeof row.cluster_id, "%s", cluster_id);
    snprintf(s->cluster_id, sizeof s->cluster_id, "%s", cluster_id);
    MDB_val key = view_val("identity", 8), value = view_val(&row, sizeof row);
    return mdb_put(txn, s->meta, &key, &value, 0);
}

int view_green_begin(struct view_store *s, MDB_txn *txn, enum view_number v) {
    struct view_table *t = &s->tables[v];
    int rc = mdb_drop(txn, t->sides[(t->generation + 1) % 2], 0);
    if (rc == 0) t->building = true;
    return rc;
}

int view_green_switch(struct view_store *s, MDB_txn *txn, enum view_number v) {
    struct view_table *t = &s->tables[v];
    require(t->building);
    int rc = mdb_drop(txn, t->sides[t->generation % 2], 0);
    t->generation++;
    t->building = false;
    return rc == 0 ? meta_put_view(s, txn, v) : rc;
}

/* -- copies ------------------------------------------------------------------------------------ */

/* LMDB cannot be told to end a copy: it writes into a pipe, whose other end can. */
struct pump { int from, to, rc; const atomic_bool *stop; };

static int pump_write(int fd, const uint8_t *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        data += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static void *pump_main(void *arg) {
    struct pump *p = arg;
    uint8_t *buffer = malloc(PUMP_BYTES);
    if (!buffer) p->rc = ENOMEM;
    while (p->rc == 0) {
        ssize_t n = read(p->from, buffer, PUMP_BYTES);
        if (n == 0) break;
        if (n < 0) p->rc = errno == EINTR ? 0 : errno;
        else if (p->stop && atomic_load(p->stop)) p->rc = ECANCELED;
        else p->rc = pump_write(p->to, buffer, (size_t)n);
    }
    free(buffer);
    close(p->from); /* who writes still is told by it, and ends */
    return NULL;
}

static int copy_into(struct view_store *s, int fd, const atomic_bool *stop) {
    int ends[2];
    pthread_t thread;
    if (pipe2(ends, O_CLOEXEC) != 0) return errno;
    fcntl(ends[1], F_SETPIPE_SZ, PUMP_BYTES); /* where it may not be, it is slower */
    struct pump pump = {.from = ends[0], .to = fd, .stop = stop};
    int rc = pthread_create(&thread, NULL, pump_main, &pump);
    if (rc != 0) {
        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    rc = mdb_env_copyfd2(s->env, ends[1], MDB_CP_COMPACT);
    close(ends[1]);
    pthread_join(thread, NULL);
    return pump.rc != 0 ? pump.rc : rc;
}

int view_store_copy(struct view_store *s, const char *path, const atomic_bool *stop) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0) return errno;
    int rc = copy_into(s, fd, stop);
    if (close(fd) != 0 && rc == 0) rc = errno;
    if (rc != 0) unlink(path);
    return rc;
}

int view_copy_open(struct view_copy *c, const char *path) {
    *c = (struct view_copy){.env = NULL};
    int rc = mdb_env_create(&c->env);
    if (rc != 0) return rc;
    rc = mdb_env_set_maxdbs(c->env, VIEW_TABLES_MAX);
    /* Without LMDB's lock file: nobody writes to it, and a process may open it more than once. */
    if (rc == 0)
        rc = mdb_env_open(c->env, path, MDB_RDONLY | MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS, 0640);
    if (rc == 0) rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &c->txn);
    if (rc == 0) rc = mdb_dbi_open(c->txn, "orders", 0, &c->orders);
    if (rc == 0) rc = mdb_dbi_open(c->txn, "meta", 0, &c->meta);
    if (rc != 0) view_copy_close(c);
    return rc;
}

void view_copy_close(struct view_copy *c) {
    if (c->txn) mdb_txn_abort(c->txn);
    if (c->env) mdb_env_close(c->env);
    *c = (struct view_copy){.env = NULL};
}

uint32_t view_copy_positions(struct view_copy *c, struct view_position *positions, uint32_t max) {
    MDB_val key = view_val("positions", 9), value;
    if (mdb_get(c->txn, c->meta, &key, &value) != 0) return 0;
    uint32_t count = (uint32_t)(value.mv_size / sizeof *positions);
    if (count > max) count = max;
    memcpy(positions, value.mv_data, count * sizeof *positions);
    return count;
}

static int sync_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    int rc = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return rc;
}

int view_store_adopt(const char *directory, const char *path, char *error, size_t error_bytes) {
    struct view_copy copy;
    struct view_position position;
    char place[1100];
    snprintf(place, sizeof place, "%s/data.mdb", directory);
    if (access(place, F_OK) == 0)
        return fault(error, error_bytes, directory, "there are views already");
    int rc = view_copy_open(&copy, path);
    if (rc != 0) return fault(error, error_bytes, path, mdb_strerror(rc));
    uint32_t positions = view_copy_positions(&copy, &position, 1);
    view_copy_close(&copy);
    if (positions == 0) return fault(error, error_bytes, path, "it holds no views");
    if (mkdir(directory, 0750) != 0 && errno != EEXIST)
        return fault(error, error_bytes, directory, strerror(errno));
    rc = sync_file(path);
    if (rc == 0 && rename(path, place) != 0) rc = errno;
    if (rc == 0) rc = boot_write(directory, "closed");
    return rc == 0 ? 0 : fault(error, error_bytes, directory, strerror(rc));
}
