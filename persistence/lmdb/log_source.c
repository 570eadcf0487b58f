/* What a log consists of: the list of its segments, what each holds, and the tail that is only in
 * the journal; a refresh looks for them anew. log_cursor.c reads them. See
 * persistence/log_source.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "persistence/lmdb/log_source_internal.h"

enum {
    SOURCE_NAME_CHARACTERS = 24,   /* "log-" and 20 digits */
    SOURCE_TIME_RECORDS = 64,      /* looked at for one that carries a time */
    SOURCE_TAIL_TRIES = 5
};

/* -- the tail ------------------------------------------------------------------------------- */

static void source_tail_cut(struct source_tail *t, uint64_t from) {
    while (t->count > 0 && t->first + t->count > from) record_release(t->records[--t->count]);
}

void lmdb_source_tail_release(struct source_tail *t) {
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1) return;
    source_tail_cut(t, 0);
    free(t->records);
    free(t);
}

/* Whether a node has the directory open: its journal changes while it is read. */
static bool source_is_in_use(const struct lmdb_source *s) {
    char path[PAGE_TREE_PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%.980s/LOCK", s->directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool used = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return used;
}

/* The log's end as the records of the journal, done in order, make it. Takes them over. NULL with
 * a sentence: also when they leave a gap, as those of somebody else's journal may. */
static struct source_tail *source_tail_new(struct record *records, char *error,
                                           size_t error_bytes) {
    uint64_t capacity = 0;
    snprintf(error, error_bytes, "no memory");
    for (struct record *r = records; r; r = r->next) capacity++;
    struct source_tail *t = calloc(1, sizeof *t);
    if (t) t->records = malloc((capacity + 1) * sizeof(struct record *));
    if (t) atomic_init(&t->refs, 1);
    bool ok = t && t->records;
    while (records) {
        struct record *r = records;
        records = r->next;
        if (!ok) {
            record_release(r);
            continue;
        }
        source_tail_cut(t, r->header.index);
        if (t->count == 0) t->first = r->header.index;
        ok = r->header.index == t->first + t->count;
        if (ok) {
            t->records[t->count++] = r;
            continue;
        }
        snprintf(error, error_bytes, "record %" PRIu64 " follows on %" PRIu64, r->header.index,
                 t->first + t->count - 1);
        record_release(r);
    }
    if (ok && t->count > 0) return t;
    lmdb_source_tail_release(t);
    return NULL;
}

static void source_read_tail(struct lmdb_source *s) {
    char path[PAGE_TREE_PATH_BYTES_MAX], error[256];
    struct record *records;
    lmdb_source_tail_release(s->tail);
    s->tail = NULL;
    if (s->single) return;
    snprintf(path, sizeof path, "%.980s/journal", s->directory);
    int rc = -1;
    /* Room that a live node used again between two blocks looks like damage. */
    for (int i = 0; rc < 0 && i < SOURCE_TAIL_TRIES; i++)
        rc = journal_read(path, JOURNAL_ANY_SHARD, &records, error, sizeof error);
    if (rc < 0 && !source_is_in_use(s)) log_warn("%s", error);
    if (rc != 0 || !records) return;
    s->tail = source_tail_new(records, error, sizeof error);
    if (!s->tail) log_warn("%s: %s: it is left out", path, error);
}

/* Whether the segments hold the very same record: the log in them has come as far as there, for two
 * logs of a group that share a record's index and term share all in front of it. */
static bool source_holds(struct lmdb_source *s, const struct record *r) {
    struct record_header header = {0};
    struct page_cursor c;
    struct page_tree tree;
    struct page_row row;
    uint8_t key[8];
    uint32_t i = s->count;
    while (i > 0 && s->list[i - 1].first > r->header.index) i--;
    if (i == 0 || lmdb_source_open_tree(s, &s->list[i - 1], &tree, false, NULL, 0) != 0)
        return false;
    storage_be64(key, r->header.index);
    page_cursor_seek(&c, &tree, tree.root, key, sizeof key);
    if (page_cursor_next(&c, &row) == 1 && row.value_bytes >= sizeof header)
        memcpy(&header, row.value, sizeof header);
    page_tree_close(&tree);
    return memcmp(&header, &r->header, sizeof header) == 0;
}

/* One that does not join what is in the segments says nothing about them. */
static void source_join_tail(struct lmdb_source *s) {
    const struct source_tail *t = s->tail;
    if (!t) return;
    bool used = source_is_in_use(s);
    uint64_t end = t->first + t->count - 1;
    /* It is in there by now. What else stands there is truncated by the journal, in which a log
     * that goes back ends before them. */
    if (end <= s->last && used && source_holds(s, t->records[t->count - 1])) {
        lmdb_source_tail_release(s->tail);
        s->tail = NULL;
        return;
    }
    if (t->first > s->last + 1 || t->first < s->first) {
        log_warn("%s/journal begins with record %" PRIu64 ", the segments hold %" PRIu64 " to %"
                 PRIu64 ": it is left out", s->directory, t->first, s->first, s->last);
        lmdb_source_tail_release(s->tail);
        s->tail = NULL;
        return;
    }
    s->tail->is_end = !used;
    /* What begins behind it will be written anew: a kill may have left it unborn. */
    while (s->count > 0 && s->list[s->count - 1].first >= t->first && t->is_end)
        s->bytes -= s->list[--s->count].bytes;
    if (s->first == 0) s->first = t->first;
    s->last = end;
}

/* -- the list ------------------------------------------------------------------------------- */

static bool source_name_first(const char *name, uint64_t *first) {
    int end = 0;
    unsigned long long n;
    if (strlen(name) != SOURCE_NAME_CHARACTERS) return false;
    if (sscanf(name, "log-%20llu%n", &n, &end) != 1 || end != SOURCE_NAME_CHARACTERS) return false;
    *first = n;
    return true;
}

void lmdb_source_path(const struct lmdb_source *s, const struct log_source_segment *g,
                      char path[PAGE_TREE_PATH_BYTES_MAX]) {
    if (s->single) snprintf(path, PAGE_TREE_PATH_BYTES_MAX, "%s", s->directory);
    else snprintf(path, PAGE_TREE_PATH_BYTES_MAX, "%.980s/%s", s->directory, g->name);
}

static bool source_add(struct lmdb_source *s, uint64_t first, const char *name) {
    if (s->count == s->capacity) {
        uint32_t capacity = s->capacity ? s->capacity * 2 : 64;
        struct log_source_segment *list = realloc(s->list, capacity * sizeof *list);
        if (!list) return false;
        s->list = list;
        s->capacity = capacity;
    }
    struct log_source_segment *g = &s->list[s->count++];
    *g = (struct log_source_segment){.first = first};
    snprintf(g->name, sizeof g->name, "%s", name);
    return true;
}

static int source_compare(const void *a, const void *b) {
    const struct log_source_segment *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

static int source_scan(struct lmdb_source *s, char *error, size_t error_bytes) {
    uint64_t first;
    const char *name = strrchr(s->directory, '/');
    name = name ? name + 1 : s->directory;
    s->count = 0;
    s->single = source_name_first(name, &first);
    if (s->single) {
        if (source_add(s, first, name)) return 0;
        return lmdb_error(error, error_bytes, "%s: no memory", s->directory);
    }
    DIR *d = opendir(s->directory);
    if (!d) return lmdb_error(error, error_bytes, "%s: %s", s->directory, strerror(errno));
    bool memory = true;
    for (struct dirent *entry; memory && (entry = readdir(d));) {
        if (source_name_first(entry->d_name, &first)) memory = source_add(s, first, entry->d_name);
    }
    closedir(d);
    if (!memory) return lmdb_error(error, error_bytes, "%s: no memory", s->directory);
    if (s->count > 0) qsort(s->list, s->count, sizeof *s->list, source_compare);
    return 0;
}

/* Only a directory that a node has (or had) open has a table of readers. */
static MDB_env *source_env(struct lmdb_source *s, const struct log_source_segment *g,
                           const char *path) {
    MDB_env *env = NULL;
    char lock[PAGE_TREE_PATH_BYTES_MAX + 16];
    snprintf(lock, sizeof lock, "%s/lock.mdb", path);
    pthread_mutex_lock(&s->lock);
    uint32_t i = 0;
    while (i < s->envs_count && s->envs[i].first != g->first) i++;
    if (i < s->envs_count) {
        env = s->envs[i].env;
    } else if (g->is_newest && access(lock, F_OK) == 0) {
        struct source_env *envs = realloc(s->envs, (s->envs_count + 1) * sizeof *envs);
        if (envs) s->envs = envs;
        env = envs ? page_env_open(path) : NULL;
        if (env) s->envs[s->envs_count++] = (struct source_env){g->first, env};
    }
    pthread_mutex_unlock(&s->lock);
    return env;
}

int lmdb_source_open_tree(struct lmdb_source *s, const struct log_source_segment *g,
                          struct page_tree *tree, bool sequential, char *error,
                          size_t error_bytes) {
    char path[PAGE_TREE_PATH_BYTES_MAX];
    lmdb_source_path(s, g, path);
    return page_tree_open(tree, path, source_env(s, g, path), s->probe, sequential, error,
                          error_bytes);
}

int64_t lmdb_source_row_time(const struct page_row *row) {
    struct record_header header;
    struct entry_header entry;
    if (row->key_bytes != 8 || row->value_bytes < sizeof header + sizeof entry) return 0;
    memcpy(&header, row->value, sizeof header);
    memcpy(&entry, row->value + sizeof header, sizeof entry);
    return header.type == RECORD_EVENTS ? entry.time_ms : 0;
}

/* A segment that cannot be opened. Before both meta pages are synced nothing is ever committed into
 * one, so that a file as short as they are may be what a crash left. */
static void source_cannot_look(struct lmdb_source *s, struct log_source_segment *g,
                               const char *error) {
    char path[PAGE_TREE_PATH_BYTES_MAX], file[PAGE_TREE_PATH_BYTES_MAX + 16];
    struct stat st = {.st_size = 0};
    lmdb_source_path(s, g, path);
    snprintf(file, sizeof file, "%s/data.mdb", path);
    if (access(path, F_OK) != 0) return; /* retention took it */
    g->unborn = stat(file, &st) != 0 || st.st_size <= 2 * sysconf(_SC_PAGESIZE);
    g->bytes = (uint64_t)st.st_size;
    g->fault = LOG_FAULT_SEGMENT;
    snprintf(g->what, sizeof g->what, "%s", error);
    /* At least the record that it is named after was in it. */
    if (g->is_newest && !g->unborn) g->last = g->first;
}

static void source_look_for_cut(struct log_source_segment *g, struct page_tree *tree) {
    if (page_tree_lost(tree) == 0) return;
    g->fault = LOG_FAULT_CUT;
    snprintf(g->what, sizeof g->what, "its file was cut: it has %" PRIu64 " bytes of %" PRIu64,
             tree->bytes, tree->pages_told * tree->page_bytes);
}

/* The last index of the newest segment when the way to its end is damaged: it has no gap, so that
 * the number of its rows tells. What is left of it, where that cannot be. */
static void source_look_for_end(struct log_source_segment *g, struct page_tree *tree) {
    enum { ROW_BYTES_MIN = 8 + 8 + (int)sizeof(struct record_header) };
    struct page_cursor c;
    struct page_row row;
    if (tree->rows <= tree->pages_told * tree->page_bytes / ROW_BYTES_MIN &&
        g->first + tree->rows > g->first) {
        g->last = g->first + tree->rows - 1;
        return;
    }
    page_cursor_seek(&c, tree, tree->root, NULL, 0);
    for (int step; (step = page_cursor_next(&c, &row)) != 0;) {
        if (step == 1 && row.key_bytes == 8) g->last = storage_from_be64(row.key);
    }
}

/* First entry time and, of the newest, the last index. What cannot be read is left as it is: the
 * cursor will name it. */
static void source_look_into(struct lmdb_source *s, struct log_source_segment *g) {
    struct page_tree tree;
    struct page_cursor c;
    struct page_row row;
    char error[sizeof g->what] = "";
    if (lmdb_source_open_tree(s, g, &tree, false, error, sizeof error) != 0) {
        source_cannot_look(s, g, error);
        return;
    }
    g->bytes = tree.bytes;
    source_look_for_cut(g, &tree);
    page_cursor_seek(&c, &tree, tree.root, NULL, 0);
    for (int i = 0; i < SOURCE_TIME_RECORDS && g->first_ms == 0; i++) {
        int step = page_cursor_next(&c, &row);
        if (step == 0) break;
        if (step > 0) g->first_ms = lmdb_source_row_time(&row);
    }
    if (g->is_newest) {
        page_cursor_seek_last(&c, &tree, tree.root);
        if (page_cursor_next(&c, &row) == 1 && row.key_bytes == 8) {
            g->last = storage_from_be64(row.key);
        } else {
            source_look_for_end(g, &tree);
        }
    }
    page_tree_close(&tree);
}

/* A gap that closes while the segments are looked for counts as it was: the list may lack its last
 * ones. One that comes has the list made anew, for it may hold what that has ended. */
static int source_scan_gap(struct lmdb_source *s, uint64_t *end, char *error, size_t error_bytes) {
    uint64_t behind = s->single ? 0 : gaps_end_in(s->directory);
    do {
        *end = behind;
        if (source_scan(s, error, error_bytes) != 0) return -1;
        behind = s->single ? 0 : gaps_end_in(s->directory);
    } while (behind > *end);
    return 0;
}

/* What lies in front of a gap does not go on behind it. */
static void source_drop_front(struct lmdb_source *s, uint64_t gap_end) {
    uint32_t front = 0;
    while (front < s->count && s->list[front].first <= gap_end) front++;
    memmove(s->list, s->list + front, (s->count - front) * sizeof *s->list);
    s->count -= front;
}

/* What is there and may not be read is no damage, and nothing is told without it: a part of a log
 * would look like all of it. */
static int source_check_rights(struct lmdb_source *s, char *error, size_t error_bytes) {
    char path[PAGE_TREE_PATH_BYTES_MAX], file[PAGE_TREE_PATH_BYTES_MAX + 16];
    for (uint32_t i = 0; i <= s->count; i++) {
        if (i < s->count) {
            lmdb_source_path(s, &s->list[i], path);
            snprintf(file, sizeof file, "%s/data.mdb", path);
        } else {
            snprintf(file, sizeof file, "%.980s/journal", s->directory);
        }
        if (faccessat(AT_FDCWD, file, R_OK, AT_EACCESS) != 0 && errno == EACCES) {
            return lmdb_error(error, error_bytes, "%s: %s", file, strerror(errno));
        }
    }
    return 0;
}

static int source_refresh(struct log_source *source, char *error, size_t error_bytes) {
    struct lmdb_source *s = (struct lmdb_source *)(void *)source;
    if (source_scan(s, error, error_bytes) != 0 ||
        source_check_rights(s, error, error_bytes) != 0) {
        return -1;
    }
    /* Before the segments: what a node that starts now takes out of it is in them. */
    source_read_tail(s);
    uint64_t gap_end;
    if (source_scan_gap(s, &gap_end, error, error_bytes) != 0) return -1;
    s->first = s->last = s->bytes = 0;
    if (gap_end != 0) {
        source_drop_front(s, gap_end);
        s->first = gap_end + 1;
        s->last = gap_end;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        struct log_source_segment *g = &s->list[i];
        g->is_newest = i + 1 == s->count;
        g->last = g->is_newest ? g->first - 1 : s->list[i + 1].first - 1;
        source_look_into(s, g);
        s->bytes += g->bytes;
    }
    /* A newest one that is still empty says nothing. */
    if (s->count > 0 && s->list[s->count - 1].last >= s->list[0].first) {
        s->first = s->list[0].first;
        s->last = s->list[s->count - 1].last;
    }
    source_join_tail(s);
    return 0;
}

static void source_close(struct log_source *source) {
    struct lmdb_source *s = (struct lmdb_source *)(void *)source;
    for (uint32_t i = 0; i < s->envs_count; i++) mdb_env_close(s->envs[i].env);
    lmdb_source_tail_release(s->tail);
    pthread_mutex_destroy(&s->lock);
    free(s->envs);
    free(s->list);
    free(s);
}

static const char *source_directory(const struct log_source *source) {
    return ((const struct lmdb_source *)(const void *)source)->directory;
}

static uint32_t source_segments(const struct log_source *source,
                                const struct log_source_segment **list) {
    const struct lmdb_source *s = (const struct lmdb_source *)(const void *)source;
    *list = s->list;
    return s->count;
}

static void source_range(const struct log_source *source, uint64_t *first, uint64_t *last) {
    const struct lmdb_source *s = (const struct lmdb_source *)(const void *)source;
    *first = s->first;
    *last = s->last;
}

static uint64_t source_bytes(const struct log_source *source) {
    return ((const struct lmdb_source *)(const void *)source)->bytes;
}

/* What cannot be read is a fault, told by the cursor that meets it. */
static const char *source_failure(const struct log_source *source) {
    (void)source;
    return NULL;
}

/* -- life ----------------------------------------------------------------------------------- */

static const struct log_source_ops lmdb_source_ops = {
    .close = source_close, .refresh = source_refresh, .directory = source_directory,
    .segments = source_segments, .range = source_range, .bytes = source_bytes,
    .index_at = lmdb_source_index_at, .failure = source_failure, .cursor_open = lmdb_cursor_open,
    .cursor_close = lmdb_cursor_close, .cursor_next = lmdb_cursor_next,
    .cursor_seek = lmdb_cursor_seek};

struct log_source *log_source_open(const char *directory, char *error, size_t error_bytes) {
    if (strlen(directory) + 64 >= LMDB_PATH_BYTES_MAX) {
        lmdb_error(error, error_bytes, "%.200s...: the path is too long", directory);
        return NULL;
    }
    struct lmdb_source *s = calloc(1, sizeof *s);
    if (!s) {
        lmdb_error(error, error_bytes, "%s: no memory", directory);
        return NULL;
    }
    s->base.ops = &lmdb_source_ops;
    pthread_mutex_init(&s->lock, NULL);
    snprintf(s->directory, sizeof s->directory, "%s", directory);
    for (size_t n = strlen(s->directory); n > 1 && s->directory[n - 1] == '/';) {
        s->directory[--n] = 0;
    }
    if (source_refresh(&s->base, error, error_bytes) == 0) return &s->base;
    source_close(&s->base);
    return NULL;
}
