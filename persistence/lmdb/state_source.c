/* See persistence/state_source.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/directory.h"
#include "persistence/lmdb/internal.h"
#include "persistence/lmdb/state_source_internal.h"

enum { STATE_VIEW_ROWS_MAX = 1024, STATE_SCRATCH_BYTES = 1 << 16,
       /* A page that is touched may bring its neighbours into the map, if they are cached. */
       STATE_PAGE_TOUCHES_BYTES = 64 << 10, STATE_TOUCHED_BYTES_MAX = 32 << 20 };

struct state_source {
    char directory[PAGE_TREE_PATH_BYTES_MAX];
    MDB_env *env;              /* NULL = not a live node's */
    bool borrowed;             /* it is somebody else's to close */
    struct page_tree tree;
    bool held;
    uint64_t *scratch;         /* an aligned block */
    size_t scratch_bytes;
};

static const struct { const char *name; uint8_t kind; } state_tables[] = {
    [STATE_SOURCE_ORDERS] = {"orders", ACTOR_ORDER},
    [STATE_SOURCE_STORES] = {"stores", ACTOR_STORE},
    [STATE_SOURCE_BOARDS] = {"boards", ACTOR_BOARD},
    [STATE_SOURCE_MESSAGES] = {"boards", ACTOR_MESSAGE},
    [STATE_SOURCE_CLUSTER] = {"cluster", ACTOR_CLUSTER},
    [STATE_SOURCE_TIMERS] = {"timers", 0},
    [STATE_SOURCE_CURSORS] = {"cursors", 0}};

static struct state_source *source_new(const char *directory, char *error, size_t error_bytes) {
    struct state_source *s = calloc(1, sizeof *s);
    if (s) s->scratch = malloc(s->scratch_bytes = STATE_SCRATCH_BYTES);
    if (s && s->scratch) {
        snprintf(s->directory, sizeof s->directory, "%s", directory);
        return s;
    }
    free(s);
    errno = ENOMEM;
    lmdb_error(error, error_bytes, "%s: no memory", directory);
    return NULL;
}

static struct state_source *source_open_tree(struct state_source *s, struct page_probe *probe,
                                             char *error, size_t error_bytes) {
    if (page_tree_open(&s->tree, s->directory, s->env, probe, false, error, error_bytes) == 0) {
        page_tree_unpin(&s->tree);
        return s;
    }
    int code = errno;
    state_source_close(s);
    errno = code;
    return NULL;
}

struct state_source *state_source_open(const char *directory, char *error, size_t error_bytes) {
    char lock[PAGE_TREE_PATH_BYTES_MAX + 16];
    struct state_source *s = source_new(directory, error, error_bytes);
    if (!s) return NULL;
    snprintf(lock, sizeof lock, "%s/lock.mdb", s->directory);
    if (access(lock, F_OK) == 0) s->env = page_env_open(s->directory);
    return source_open_tree(s, NULL, error, error_bytes);
}

struct state_source *state_source_open_within(const char *directory, MDB_env *env,
                                              struct page_probe *probe, char *error,
                                              size_t error_bytes) {
    struct state_source *s = source_new(directory, error, error_bytes);
    if (!s) return NULL;
    s->env = env;
    s->borrowed = true;
    return source_open_tree(s, probe, error, error_bytes);
}

void state_source_close(struct state_source *s) {
    if (!s) return;
    page_tree_close(&s->tree);
    if (s->env && !s->borrowed) mdb_env_close(s->env);
    free(s->scratch);
    free(s);
}

/* The shard's LOCK is held by flock(): the kernel's list tells without a lock of one's own, which
 * could keep a node from its start. */
bool state_source_is_live(const struct state_source *s) {
    char path[PAGE_TREE_PATH_BYTES_MAX + 16], line[256], wanted[64];
    struct stat st;
    bool held = false;
    snprintf(path, sizeof path, "%s/../LOCK", s->directory);
    if (!s->env || stat(path, &st) != 0) return false;
    FILE *locks = fopen("/proc/locks", "r");
    if (!locks) return true; /* not to be known: as if it were */
    snprintf(wanted, sizeof wanted, ":%llu ", (unsigned long long)st.st_ino);
    while (!held && fgets(line, sizeof line, locks)) {
        held = strstr(line, "FLOCK") && strstr(line, wanted);
    }
    fclose(locks);
    return held;
}

uint64_t state_source_bytes(const struct state_source *s) { return s->tree.bytes; }

const char *state_source_directory(const struct state_source *s) { return s->directory; }

static int source_view(struct state_source *s, char *error, size_t error_bytes) {
    if (s->held && s->tree.txn) return 0;
    return page_tree_pin(&s->tree, error, error_bytes);
}

void state_source_hold(struct state_source *s) {
    page_tree_pin(&s->tree, NULL, 0);
    s->held = true;
}

void state_source_release(struct state_source *s) {
    s->held = false;
    page_tree_unpin(&s->tree);
    page_tree_forget(&s->tree);
}

static void source_view_end(struct state_source *s) {
    if (!s->held) page_tree_unpin(&s->tree);
    if (s->tree.touched_bytes >= STATE_TOUCHED_BYTES_MAX) page_tree_forget(&s->tree);
}

/* -- rows ----------------------------------------------------------------------------------- */

static bool table_find(struct state_source *s, uint64_t root, const void *key, uint32_t key_bytes,
                       struct page_row *row) {
    struct page_cursor c;
    page_cursor_seek(&c, &s->tree, root, key, key_bytes);
    s->tree.touched_bytes += c.pages * STATE_PAGE_TOUCHES_BYTES;
    return page_cursor_next(&c, row) == 1 && row->key_bytes == key_bytes &&
           memcmp(row->key, key, key_bytes) == 0;
}

static const char *marker_fault(const struct page_row *row, struct state_source_marker *m) {
    struct marker_row marker;
    if (row->value_bytes < sizeof marker) return "cut short";
    memcpy(&marker, row->value, sizeof marker);
    if (marker.configuration_bytes > sizeof m->configuration ||
        row->value_bytes != sizeof marker + marker.configuration_bytes) {
        return "its length does not match";
    }
    if (marker.checksum != XXH3_64bits(row->value + 8, row->value_bytes - 8)) {
        return "checksum does not match";
    }
    m->found = true;
    m->applied_index = marker.applied_index;
    m->applied_term = marker.applied_term;
    m->configuration_index = marker.configuration_index;
    m->configuration_bytes = marker.configuration_bytes;
    memcpy(m->configuration, row->value + sizeof marker, marker.configuration_bytes);
    return NULL;
}

int state_source_read_marker(struct state_source *s, struct state_source_marker *m, char *error,
                             size_t error_bytes) {
    struct page_row row;
    struct identity_row identity;
    uint64_t root;
    *m = (struct state_source_marker){.found = false};
    if (source_view(s, error, error_bytes) != 0) return -1;
    const char *fault = page_tree_table(&s->tree, "meta", &root) ? NULL : "the table meta is lost";
    if (!fault && !table_find(s, root, "identity", 8, &row)) fault = "the identity is lost";
    if (!fault) {
        memcpy(&identity, row.value, row.value_bytes < sizeof identity ? 0 : sizeof identity);
        if (row.value_bytes != sizeof identity || memcmp(identity.magic, "JUMUNDIR", 8) != 0) {
            fault = "the identity is damaged";
        } else if (identity.format != STORAGE_FORMAT) {
            fault = "of a format that this version does not know";
        }
        m->shard = identity.shard;
    }
    if (!fault && table_find(s, root, "marker", 6, &row) && marker_fault(&row, m)) {
        fault = "the marker is damaged";
    }
    source_view_end(s);
    return fault ? lmdb_error(error, error_bytes, "%s: %s", s->directory, fault) : 0;
}

/* An actor's block, checked, at an aligned place. */
static void row_actor(struct state_source *s, uint8_t kind, const struct page_row *row,
                      struct state_source_row *out) {
    size_t head = sizeof(struct snapshot_header);
    if (row->key_bytes != 16) {
        out->fault = "its key is not 16 bytes";
        return;
    }
    out->fault = state_snapshot_fault(storage_val(row->value, row->value_bytes), kind, row->key);
    if (out->fault) return;
    out->value_bytes = (uint32_t)(row->value_bytes - head);
    if (out->value_bytes > s->scratch_bytes) {
        free(s->scratch);
        s->scratch_bytes = (out->value_bytes + 4095u) & ~(size_t)4095;
        s->scratch = malloc(s->scratch_bytes);
        if (!s->scratch) {
            s->scratch_bytes = 0;
            out->fault = "no memory to read it";
            out->passing = true;
            return;
        }
    }
    memcpy(s->scratch, row->value + head, out->value_bytes);
    out->value = s->scratch;
}

static void row_cursor(const struct page_row *row, struct state_source_row *out) {
    struct checkpoint_cursor c = {.bytes = 0};
    uint64_t checksum;
    if (row->key_bytes > sizeof c.name || row->value_bytes < 8 ||
        row->value_bytes > 8 + sizeof c.value) {
        out->fault = "its length is wrong";
        return;
    }
    memcpy(c.name, row->key, row->key_bytes);
    memcpy(&checksum, row->value, 8);
    c.bytes = (uint32_t)(row->value_bytes - 8);
    memcpy(c.value, row->value + 8, c.bytes);
    if (checksum != state_cursor_checksum(&c)) {
        out->fault = "checksum does not match";
        return;
    }
    out->value = row->value + 8;
    out->value_bytes = c.bytes;
}

static struct state_source_row source_row(struct state_source *s, enum state_source_table table,
                                          const struct page_row *row) {
    struct state_source_row out = {.key = row->key, .key_bytes = row->key_bytes,
                                   .offset = row->offset};
    if (state_tables[table].kind != 0) {
        row_actor(s, state_tables[table].kind, row, &out);
    } else if (table == STATE_SOURCE_CURSORS) {
        row_cursor(row, &out);
    } else if (row->key_bytes != sizeof(struct timer_row) || row->value_bytes != 1) {
        out.fault = "its length is wrong";
    } else {
        out.value = row->value;
        out.value_bytes = 1;
    }
    return out;
}

/* Messages of the outbox lie among the board notes. What is damaged counts as a note. */
static bool row_is_of_another(enum state_source_table table, const struct page_row *row) {
    if (table != STATE_SOURCE_BOARDS && table != STATE_SOURCE_MESSAGES) return false;
    MDB_val value = storage_val(row->value, row->value_bytes);
    bool message = row->key_bytes == 16 && state_row_kind(STATE_BOARDS, value) == ACTOR_MESSAGE &&
                   state_snapshot_fault(value, ACTOR_MESSAGE, row->key) == NULL;
    return message != (table == STATE_SOURCE_MESSAGES);
}

/* Never back: a damaged key may stand anywhere. */
static void walk_to(struct state_walk *w, const struct page_row *row) {
    uint32_t least = row->key_bytes < w->last_key_bytes ? row->key_bytes : w->last_key_bytes;
    int order = memcmp(row->key, w->last_key, least);
    if (row->key_bytes > sizeof w->last_key || order < 0) return;
    if (order == 0 && row->key_bytes <= w->last_key_bytes) return;
    memcpy(w->last_key, row->key, row->key_bytes);
    w->last_key_bytes = row->key_bytes;
}

/* One view's worth: true = there is more. */
static bool visit_slice(struct state_source *s, enum state_source_table table, uint64_t root,
                        uint32_t rows_max, struct state_walk *w,
                        bool (*visit)(void *arg, const struct state_source_row *row), void *arg) {
    struct page_cursor c;
    struct page_row row;
    int step;
    uint64_t pages = 0;
    page_cursor_seek(&c, &s->tree, root, w->last_key, w->last_key_bytes);
    for (uint32_t rows = 0; rows < rows_max; rows++) {
        step = page_cursor_next(&c, &row);
        if (step == 0) return false;
        struct state_source_row out = {.offset = c.fault.offset, .fault = c.fault.what};
        if (step > 0) {
            if (w->last_key_bytes != 0 && row.key_bytes == w->last_key_bytes &&
                memcmp(row.key, w->last_key, row.key_bytes) == 0) {
                continue;
            }
            walk_to(w, &row);
            if (row_is_of_another(table, &row)) continue;
            out = source_row(s, table, &row);
            s->tree.touched_bytes += (c.pages - pages) * STATE_PAGE_TOUCHES_BYTES +
                                     (row.value_bytes >= 4096 ? row.value_bytes : 0);
            pages = c.pages;
            /* What is given back comes again when it is touched: pointers stay good. */
            if (s->tree.touched_bytes >= STATE_TOUCHED_BYTES_MAX) page_tree_forget(&s->tree);
        }
        if (!visit(arg, &out)) {
            w->stopped = true;
            return false;
        }
        if (step < 0 && rows + 1 >= rows_max) rows--; /* a lost page is no place to go on from */
    }
    return true;
}

int state_source_visit_some(struct state_source *s, enum state_source_table table,
                            uint32_t rows_max, struct state_walk *w,
                            bool (*visit)(void *arg, const struct state_source_row *row),
                            void *arg, char *error, size_t error_bytes) {
    uint64_t root;
    w->stopped = false;
    if (source_view(s, error, error_bytes) != 0) return -1;
    if (!page_tree_table(&s->tree, state_tables[table].name, &root)) {
        source_view_end(s);
        errno = 0;
        return lmdb_error(error, error_bytes, "%s: the table %s is lost", s->directory,
                          state_tables[table].name);
    }
    bool more = visit_slice(s, table, root, rows_max, w, visit, arg);
    source_view_end(s);
    return more || w->stopped;
}

int state_source_visit(struct state_source *s, enum state_source_table table, bool one_view,
                       bool (*visit)(void *arg, const struct state_source_row *row), void *arg,
                       char *error, size_t error_bytes) {
    struct state_walk w = {.last_key_bytes = 0};
    uint32_t rows_max = one_view || s->held || !s->env ? UINT32_MAX : STATE_VIEW_ROWS_MAX;
    int more;
    do {
        more = state_source_visit_some(s, table, rows_max, &w, visit, arg, error, error_bytes);
    } while (more == 1 && !w.stopped);
    return more < 0 ? -1 : 0;
}

void *state_source_get(struct state_source *s, enum state_source_table table,
                       const struct id128 *key, uint32_t *bytes, const char **fault) {
    struct page_row row;
    uint64_t root;
    void *block = NULL;
    *fault = NULL;
    if (source_view(s, NULL, 0) != 0) return NULL;
    if (page_tree_table(&s->tree, state_tables[table].name, &root) &&
        table_find(s, root, key->bytes, 16, &row)) {
        struct state_source_row out = source_row(s, table, &row);
        *fault = out.fault;
        if (out.value && (block = malloc(out.value_bytes))) {
            memcpy(block, out.value, out.value_bytes);
            *bytes = out.value_bytes;
        }
    }
    source_view_end(s);
    return block;
}

int state_source_copy(const char *from, const char *to, char *error, size_t error_bytes) {
    MDB_env *env = page_env_open(from);
    if (!env) return lmdb_error(error, error_bytes, "%s cannot be opened", from);
    int rc = mdb_env_copy2(env, to, MDB_CP_COMPACT);
    mdb_env_close(env);
    if (rc == 0) rc = directory_sync(to);
    if (rc == 0) return 0;
    return lmdb_error(error, error_bytes, "%s cannot be copied to %s: %s", from, to,
                      mdb_strerror(rc));
}
