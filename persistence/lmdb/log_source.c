/* The list of segments, and cursors over them. See persistence/log_source.h. */
#include "persistence/log_source_ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "engine/limits.h"
#include "persistence/lmdb/internal.h"
#include "persistence/lmdb/page_tree.h"

enum {
    SOURCE_NAME_CHARACTERS = 24,   /* "log-" and 20 digits */
    SOURCE_TIME_RECORDS = 64       /* looked at for one that carries a time */
};
/* What a cursor may have touched before the kernel gets it back, and how long a view may last. */
static const uint64_t source_touched_bytes_max = 16u << 20;
enum { SOURCE_VIEW_RECORDS_MAX = 8192, SOURCE_TAIL_TRIES = 5 };

struct source_env {            /* a segment that the node may be writing */
    uint64_t first;
    MDB_env *env;
};

/* What is in the journal and not yet in a segment: the end of the log, in front of which the
 * segments count. */
struct source_tail {
    atomic_uint refs;          /* the source's, and its cursors' */
    bool is_end;               /* no node goes on behind it: what lies there is truncated */
    uint64_t first, count;
    struct record **records;
};

struct lmdb_source {
    struct log_source base;
    char directory[LMDB_PATH_BYTES_MAX];
    bool single;               /* `directory` is a segment, not a shard's */
    struct log_source_segment *list;
    uint32_t count, capacity;
    uint64_t first, last, bytes;
    pthread_mutex_t lock;      /* guards envs: one environment is opened once per process */
    struct source_env *envs;
    uint32_t envs_count;
    struct source_tail *tail;  /* NULL = none */
};

struct lmdb_cursor {
    struct log_cursor base;
    struct lmdb_source *source;
    struct source_tail *tail;
    struct log_source_segment *list; /* its own copy */
    uint32_t count, position;
    uint64_t next, last;
    bool checked, open, ended;
    struct page_tree tree;
    struct page_cursor cursor;
    uint32_t view_records;
    uint64_t *scratch;         /* an aligned copy of a record; grows */
    size_t scratch_bytes;
};

/* -- the tail ------------------------------------------------------------------------------- */

static void source_tail_cut(struct source_tail *t, uint64_t from) {
    while (t->count > 0 && t->first + t->count > from) record_release(t->records[--t->count]);
}

static void source_tail_release(struct source_tail *t) {
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
    source_tail_release(t);
    return NULL;
}

static void source_read_tail(struct lmdb_source *s) {
    char path[PAGE_TREE_PATH_BYTES_MAX], error[256];
    struct record *records;
    source_tail_release(s->tail);
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

/* One that does not join what is in the segments says nothing about them. */
static void source_join_tail(struct lmdb_source *s) {
    const struct source_tail *t = s->tail;
    if (!t) return;
    if (t->first + t->count - 1 <= s->last && source_is_in_use(s)) { /* it is in there by now */
        source_tail_release(s->tail);
        s->tail = NULL;
        return;
    }
    if (t->first > s->last + 1 || t->first < s->first) {
        log_warn("%s/journal begins with record %" PRIu64 ", the segments hold %" PRIu64 " to %"
                 PRIu64 ": it is left out", s->directory, t->first, s->first, s->last);
        source_tail_release(s->tail);
        s->tail = NULL;
        return;
    }
    s->tail->is_end = !source_is_in_use(s);
    /* What begins behind it will be written anew: a kill may have left it unborn. */
    while (s->count > 0 && s->list[s->count - 1].first >= t->first && t->is_end)
        s->bytes -= s->list[--s->count].bytes;
    if (s->first == 0) s->first = t->first;
    s->last = t->first + t->count - 1;
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

static void source_path(const struct lmdb_source *s, const struct log_source_segment *g,
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

static int source_open_tree(struct lmdb_source *s, const struct log_source_segment *g,
                            struct page_tree *tree, bool sequential, char *error,
                            size_t error_bytes) {
    char path[PAGE_TREE_PATH_BYTES_MAX];
    source_path(s, g, path);
    return page_tree_open(tree, path, source_env(s, g, path), sequential, error, error_bytes);
}

/* The time of an entry; 0 when the record is not a sound entry. */
static int64_t row_time(const struct page_row *row) {
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
    source_path(s, g, path);
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
    if (source_open_tree(s, g, &tree, false, error, sizeof error) != 0) {
        source_cannot_look(s, g, error);
        return;
    }
    g->bytes = tree.bytes;
    source_look_for_cut(g, &tree);
    page_cursor_seek(&c, &tree, tree.root, NULL, 0);
    for (int i = 0; i < SOURCE_TIME_RECORDS && g->first_ms == 0; i++) {
        int step = page_cursor_next(&c, &row);
        if (step == 0) break;
        if (step > 0) g->first_ms = row_time(&row);
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
            source_path(s, &s->list[i], path);
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
    source_tail_release(s->tail);
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

/* -- cursors -------------------------------------------------------------------------------- */

static void cursor_leave(struct lmdb_cursor *c) {
    if (c->open) page_tree_close(&c->tree);
    c->open = false;
}

static void cursor_close(struct log_cursor *cursor) {
    struct lmdb_cursor *c = (struct lmdb_cursor *)(void *)cursor;
    cursor_leave(c);
    source_tail_release(c->tail);
    free(c->scratch);
    free(c->list);
    free(c);
}

static void cursor_place(struct lmdb_cursor *c) {
    uint8_t key[8];
    storage_be64(key, c->next);
    page_cursor_seek(&c->cursor, &c->tree, c->tree.root, key, sizeof key);
    c->view_records = 0;
}

static void cursor_seek(struct log_cursor *cursor, uint64_t first, uint64_t last) {
    struct lmdb_cursor *c = (struct lmdb_cursor *)(void *)cursor;
    uint32_t position = 0;
    while (position + 1 < c->count && c->list[position + 1].first <= first) position++;
    if (position != c->position) cursor_leave(c);
    c->position = position;
    c->next = first;
    c->last = last;
    c->ended = c->count == 0 || first > last ||
               (c->tail && c->tail->is_end && first >= c->tail->first + c->tail->count);
    if (!c->ended && c->next < c->list[position].first) c->next = c->list[position].first;
    if (c->open) {
        if (c->tree.env && page_tree_pin(&c->tree, NULL, 0) != 0) cursor_leave(c);
        else cursor_place(c);
    }
}

static struct log_cursor *cursor_open(struct log_source *source, uint64_t first, uint64_t last,
                                      bool checked) {
    struct lmdb_source *s = (struct lmdb_source *)(void *)source;
    struct lmdb_cursor *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->list = malloc((s->count + 1) * sizeof *c->list);
    if (!c->list) {
        free(c);
        return NULL;
    }
    if (s->count > 0) memcpy(c->list, s->list, s->count * sizeof *c->list);
    c->base.ops = s->base.ops;
    c->count = s->count;
    c->source = s;
    c->tail = s->tail;
    if (c->tail) atomic_fetch_add(&c->tail->refs, 1);
    c->checked = checked;
    c->tree.fd = -1;
    cursor_seek(&c->base, first, last);
    return &c->base;
}

static enum log_step cursor_fault(struct lmdb_cursor *c, struct log_item *item, uint8_t kind,
                                  uint64_t from, uint64_t upto, const char *what) {
    const struct log_source_segment *g = &c->list[c->position];
    *item = (struct log_item){.index = from, .upto = upto, .segment = g->name,
                              .offset = item->offset, .fault = kind};
    snprintf(item->what, sizeof item->what, "%s", what);
    return LOG_FAULT;
}

/* The directory is gone: taken by retention, or never copied? The list of now tells. */
static enum log_step cursor_cannot_open(struct lmdb_cursor *c, struct log_item *item,
                                        const char *error) {
    const struct log_source_segment *g = &c->list[c->position];
    uint64_t from = c->next, upto = g->last < c->last ? g->last : c->last;
    char path[PAGE_TREE_PATH_BYTES_MAX];
    source_path(c->source, g, path);
    bool gone = access(path, F_OK) != 0 && errno == ENOENT;
    *item = (struct log_item){.offset = 0};
    cursor_fault(c, item, LOG_FAULT_SEGMENT, from, upto, error);
    c->next = upto + 1;
    c->position++;
    return gone ? LOG_DROPPED : LOG_FAULT;
}

/* Behind the end of a segment (or of the part wanted). */
static enum log_step cursor_segment_end(struct lmdb_cursor *c, struct log_item *item) {
    const struct log_source_segment *g = &c->list[c->position];
    uint64_t upto = g->last < c->last ? g->last : c->last, from = c->next;
    bool missing = from <= upto;
    char what[128];
    if (missing) {
        item->offset = 0;
        snprintf(what, sizeof what, "records %" PRIu64 " to %" PRIu64 " are missing: the segment "
                 "ends before them", from, upto);
        cursor_fault(c, item, LOG_FAULT_MISSING, from, upto, what);
        c->next = upto + 1;
    }
    cursor_leave(c);
    c->position++;
    c->ended = c->position >= c->count || c->next > c->last;
    return missing ? LOG_FAULT : LOG_RECORD;
}

/* A copy at an 8-byte boundary, when the record does not lie at one. NULL without memory. */
static const void *cursor_align(struct lmdb_cursor *c, const struct page_row *row) {
    if ((uintptr_t)row->value % 8 == 0) return row->value;
    if (row->value_bytes > c->scratch_bytes) {
        free(c->scratch);
        c->scratch_bytes = (row->value_bytes + 4095) & ~(size_t)4095;
        c->scratch = malloc(c->scratch_bytes);
        if (!c->scratch) {
            c->scratch_bytes = 0;
            return NULL;
        }
    }
    memcpy(c->scratch, row->value, row->value_bytes);
    return c->scratch;
}

static const char *shape_fault(const void *data, uint64_t bytes, uint64_t index) {
    const struct record_header *h = data;
    if (bytes < sizeof *h || bytes - sizeof *h != h->payload_bytes) return "cut short";
    return h->index != index ? "holds another index" : NULL;
}

static enum log_step cursor_record(struct lmdb_cursor *c, const struct page_row *row,
                                   struct log_item *item) {
    uint64_t index = c->next++;
    const void *data = NULL;
    const char *fault = "longer than any record may be";
    item->offset = row->offset;
    if (row->value_bytes <= sizeof(struct record_header) + LOG_BATCH_BYTES_MAX) {
        data = cursor_align(c, row);
        fault = !data ? "no memory to read it"
                : c->checked ? record_fault(data, row->value_bytes, index)
                             : shape_fault(data, row->value_bytes, index);
    }
    if (fault) {
        char what[160];
        uint64_t says = 0;
        if (data && row->value_bytes >= sizeof(struct record_header)) {
            says = ((const struct record_header *)data)->index;
        }
        snprintf(what, sizeof what, says != index && says != 0 ? "%s (it says %" PRIu64 ")" : "%s",
                 fault, says);
        return cursor_fault(c, item, LOG_FAULT_DAMAGED, index, index, what);
    }
    item->index = item->upto = index;
    item->segment = c->list[c->position].name;
    item->header = data;
    item->payload = item->header + 1;
    return LOG_RECORD;
}

/* A page is lost: what stood on it shows only by the index that comes next. */
static enum log_step cursor_page_fault(struct lmdb_cursor *c, struct log_item *item) {
    char what[128];
    snprintf(what, sizeof what, "page %" PRIu64 " %s", c->cursor.fault.page, c->cursor.fault.what);
    item->offset = c->cursor.fault.offset;
    return cursor_fault(c, item, LOG_FAULT_PAGE, c->next, c->next, what);
}

/* The row that came next does not have the index that was to come. */
static enum log_step cursor_gap(struct lmdb_cursor *c, const struct page_row *row,
                                struct log_item *item) {
    char what[128];
    item->offset = row->offset;
    if (row->key_bytes != 8) {
        return cursor_fault(c, item, LOG_FAULT_ORDER, c->next, c->next,
                            "a row's key is not an index of 8 bytes");
    }
    uint64_t index = storage_from_be64(row->key), from = c->next;
    if (index < from) {
        snprintf(what, sizeof what, "record %" PRIu64 " stands behind record %" PRIu64, index,
                 from - 1);
        return cursor_fault(c, item, LOG_FAULT_ORDER, index, index, what);
    }
    if (index - 1 == from) snprintf(what, sizeof what, "record %" PRIu64 " is missing", from);
    else snprintf(what, sizeof what, "records %" PRIu64 " to %" PRIu64 " are missing", from,
                  index - 1);
    c->next = index;
    /* The row itself comes with the next step. */
    if (c->cursor.depth > 0) c->cursor.level[c->cursor.depth - 1].slot--;
    return cursor_fault(c, item, LOG_FAULT_MISSING, from, index - 1, what);
}

/* A closed segment is written after all when an install has made it the one in front of a gap that
 * is filled: pages that were read without a view may be used anew. True when that may be why
 * something is not as it should be: then the cursor goes on in what is there now. */
static bool cursor_is_overtaken(struct lmdb_cursor *c) {
    if (c->tree.env || !page_tree_is_overtaken(&c->tree)) return false;
    if (page_tree_pin(&c->tree, NULL, 0) != 0) cursor_leave(c);
    else cursor_place(c);
    return true;
}

static enum log_step cursor_step(struct lmdb_cursor *c, struct log_item *item) {
    struct page_row row;
    uint64_t index = c->next;
    if (c->view_records >= SOURCE_VIEW_RECORDS_MAX ||
        c->tree.touched_bytes >= source_touched_bytes_max) {
        page_tree_forget(&c->tree);
        if (c->tree.env && page_tree_pin(&c->tree, NULL, 0) != 0) cursor_leave(c);
        else if (c->tree.env) cursor_place(c);
        c->view_records = 0;
        if (!c->open) return LOG_RECORD;
    }
    int step = page_cursor_next(&c->cursor, &row);
    bool joins = step == 1 && row.key_bytes == 8 && storage_from_be64(row.key) == index;
    if (!joins && cursor_is_overtaken(c)) return LOG_RECORD;
    if (step == 0) return cursor_segment_end(c, item);
    if (step < 0) return cursor_page_fault(c, item);
    c->view_records++;
    c->tree.touched_bytes += row.value_bytes;
    if (!joins) return cursor_gap(c, &row, item);
    enum log_step met = cursor_record(c, &row, item);
    if (met != LOG_FAULT) return met;
    c->next = index;
    if (cursor_is_overtaken(c)) return LOG_RECORD;
    c->next = index + 1;
    return met;
}

/* True when the record that comes next is in the tail: it was checked when that was read. */
static bool cursor_take_tail(struct lmdb_cursor *c, struct log_item *item) {
    const struct source_tail *t = c->tail;
    if (!t || c->next > c->last || c->next < t->first || c->next >= t->first + t->count)
        return false;
    const struct record *r = t->records[c->next - t->first];
    item->index = item->upto = c->next++;
    item->segment = "journal";
    item->header = &r->header;
    item->payload = r->payload;
    if (c->next < t->first + t->count) return true;
    if (t->is_end) c->ended = true;
    cursor_leave(c);           /* it stands where the tail began */
    return true;
}

static enum log_step cursor_next(struct log_cursor *cursor, struct log_item *item) {
    struct lmdb_cursor *c = (struct lmdb_cursor *)(void *)cursor;
    char error[160];
    for (;;) {
        item->header = NULL;
        item->offset = 0;
        if (cursor_take_tail(c, item)) return LOG_RECORD;
        if (c->ended || c->next > c->last || c->position >= c->count) return LOG_END;
        if (!c->open) {
            const struct log_source_segment *g = &c->list[c->position];
            if (c->next < g->first) c->next = g->first;
            if (c->next > c->last) return LOG_END;
            if (source_open_tree(c->source, g, &c->tree, true, error, sizeof error) != 0) {
                return cursor_cannot_open(c, item, error);
            }
            c->open = true;
            cursor_place(c);
        }
        enum log_step step = cursor_step(c, item);
        if (step != LOG_RECORD || item->header) return step;
    }
}

/* -- times ---------------------------------------------------------------------------------- */

/* Time of the first entry at or behind `index` in a segment; INT64_MAX = none. */
static int64_t tree_time_from(struct page_tree *tree, uint64_t index, uint64_t upto) {
    struct page_cursor c;
    struct page_row row;
    uint8_t key[8];
    storage_be64(key, index);
    page_cursor_seek(&c, tree, tree->root, key, sizeof key);
    for (;;) {
        int step = page_cursor_next(&c, &row);
        if (step == 0) return INT64_MAX;
        if (step < 0) continue;
        if (row.key_bytes == 8 && storage_from_be64(row.key) > upto) return INT64_MAX;
        int64_t time_ms = row_time(&row);
        if (time_ms != 0) return time_ms;
    }
}

/* The newest record of the tail whose entry is not younger; 0 = it has none. */
static uint64_t tail_index_at(const struct source_tail *t, int64_t time_ms) {
    for (uint64_t i = t ? t->count : 0; i > 0; i--) {
        const struct record *r = t->records[i - 1];
        struct entry_header entry;
        if (r->header.type != RECORD_EVENTS || r->header.payload_bytes < sizeof entry) continue;
        memcpy(&entry, r->payload, sizeof entry);
        if (entry.time_ms <= time_ms) return r->header.index;
    }
    return 0;
}

static uint64_t segments_index_at(struct lmdb_source *s, int64_t time_ms) {
    uint32_t i = s->count;
    while (i > 0 && (s->list[i - 1].first_ms == 0 || s->list[i - 1].first_ms > time_ms)) i--;
    if (i == 0) return 0;
    const struct log_source_segment *g = &s->list[i - 1];
    struct page_tree tree;
    uint64_t low = g->first, high = g->last; /* the answer lies in [first - 1, last] */
    if (source_open_tree(s, g, &tree, false, NULL, 0) != 0) return g->first - 1;
    while (low <= high && high >= g->first) {
        uint64_t middle = low + (high - low) / 2;
        if (tree_time_from(&tree, middle, g->last) <= time_ms) low = middle + 1;
        else high = middle - 1;
    }
    page_tree_close(&tree);
    return low - 1;
}

static uint64_t source_index_at(struct log_source *source, int64_t time_ms) {
    struct lmdb_source *s = (struct lmdb_source *)(void *)source;
    uint64_t in_tail = tail_index_at(s->tail, time_ms);
    if (in_tail != 0) return in_tail;
    uint64_t index = segments_index_at(s, time_ms);
    return s->tail && index >= s->tail->first ? s->tail->first - 1 : index;
}

/* -- life ----------------------------------------------------------------------------------- */

static const struct log_source_ops lmdb_source_ops = {
    .close = source_close, .refresh = source_refresh, .directory = source_directory,
    .segments = source_segments, .range = source_range, .bytes = source_bytes,
    .index_at = source_index_at, .failure = source_failure, .cursor_open = cursor_open,
    .cursor_close = cursor_close, .cursor_next = cursor_next, .cursor_seek = cursor_seek};

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
