/* The list of log segments: which directories there are, which index each begins with, how they
 * join, and how they come and go.
 *
 * What a crash may leave, and why no old tail can ever be read behind a new one:
 *   - rollover: the directory of the new segment is durable before its first transaction. Crash in
 *     between: an empty segment, thrown away at the next open.
 *   - truncation across segments: the newer segments go first, newest first, each rename durable
 *     before the next step; only then the older segment is cut and appended to in one transaction.
 *     Crash in between: the log is a shorter prefix of the old log, never old records behind new.
 *   - retention: oldest first, each rename durable before the next.
 *   - an installed state: the gap's row is durable first (install.c); what begins in the gap or
 *     behind it is older than the install as long as that is unfinished, and goes. Rows of the last
 *     segment in front of the gap that reach into it are void, deleted or not.
 *   - a gap that is filled: the records are durable first, as rows that reach into it or in a
 *     segment that begins in it (fill.c); void until its row has shrunk, and treated like those.
 * So the segments always join, or a gap joins them, and open() refuses a directory in which they do
 * not. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/directory.h"
#include "engine/base/log.h"
#include "persistence/lmdb/internal.h"

enum { SEGMENT_EDGE_RECORDS = 64 }; /* looked at from an end for one that carries a time */

static void segment_path(const struct storage_lmdb *s, uint64_t first, char path[]) {
    snprintf(path, LMDB_PATH_BYTES_MAX, "%s/log-%020llu", s->directory,
             (unsigned long long)first);
}

static uint64_t segment_map_bytes(const struct storage_lmdb *s) { return s->log_map_bytes; }

/* What one end of a segment says: its outermost index and term, and the outermost entry time. */
struct segment_edge { uint64_t index, term; int64_t time_ms; };

static int segment_edge_read(MDB_txn *txn, MDB_cursor_op outermost, MDB_cursor_op inward,
                             struct segment_edge *edge) {
    MDB_cursor *cursor;
    MDB_val key, value;
    *edge = (struct segment_edge){0};
    int rc = mdb_cursor_open(txn, 1, &cursor);
    if (rc != 0) return rc;
    rc = mdb_cursor_get(cursor, &key, &value, outermost);
    for (int i = 0; rc == 0 && i < SEGMENT_EDGE_RECORDS && edge->time_ms == 0; i++) {
        if (key.mv_size != 8) {
            rc = MDB_CORRUPTED;
            break;
        }
        uint64_t index = storage_from_be64(key.mv_data);
        if (i == 0) edge->index = index;
        /* A damaged record is named when it is read; here it only has nothing to say. */
        if (value.mv_size <= LOG_BATCH_BYTES_MAX &&
            !record_fault(value.mv_data, value.mv_size, index)) {
            struct record_header header;
            memcpy(&header, value.mv_data, sizeof header);
            if (i == 0) edge->term = header.term;
            if (header.type == RECORD_EVENTS &&
                header.payload_bytes >= sizeof(struct entry_header)) {
                struct entry_header entry;
                memcpy(&entry, (uint8_t *)value.mv_data + sizeof header, sizeof entry);
                edge->time_ms = entry.time_ms;
            }
        }
        rc = mdb_cursor_get(cursor, &key, &value, inward);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Opens the segment's environment and reads both ends. On failure it is closed again. */
static int segment_examine(struct storage_lmdb *s, struct segment *g, struct segment_edge *oldest,
                           struct segment_edge *newest) {
    char path[LMDB_PATH_BYTES_MAX];
    segment_path(s, g->first, path);
    int rc = lmdb_env_open(&g->env, path, segment_map_bytes(s), 0);
    if (rc != 0) return rc;
    MDB_txn *txn;
    MDB_dbi main_table;
    rc = lmdb_env_read_begin(&g->env, &txn);
    if (rc == 0) {
        rc = mdb_dbi_open(txn, NULL, 0, &main_table);
        require(implies(rc == 0, main_table == 1));
        if (rc == 0) rc = segment_edge_read(txn, MDB_FIRST, MDB_NEXT, oldest);
        if (rc == 0) rc = segment_edge_read(txn, MDB_LAST, MDB_PREV, newest);
        lmdb_env_read_end(&g->env, txn);
    }
    if (rc != 0) {
        lmdb_env_close(&g->env);
        return rc;
    }
    g->last = newest->index > 0 ? newest->index : g->first - 1;
    g->first_ms = oldest->time_ms;
    g->newest_ms = newest->time_ms;
    g->used_bytes = lmdb_env_used_bytes(&g->env);
    return 0;
}

/* Sees to room in the list for one more of the writer's and one of the filler's. False without
 * memory. */
static bool segments_reserve(struct storage_lmdb *s) {
    struct segments *all = &s->segments;
    struct segment **list = NULL;
    uint32_t room = 0;
    for (;;) {
        pthread_mutex_lock(&all->lock);
        uint32_t wanted = all->count + 2;
        if (wanted <= all->capacity || wanted <= room) break;
        pthread_mutex_unlock(&all->lock);
        free(list);
        room = wanted < 64 ? 64 : wanted * 2;
        list = storage_allocate(s, room * sizeof *list);
        if (!list) return false;
    }
    if (room > all->capacity) {
        if (all->count > 0) memcpy(list, all->list, all->count * sizeof *list);
        struct segment **old = all->list;
        all->list = list;
        all->capacity = room;
        list = old;
    }
    pthread_mutex_unlock(&all->lock);
    free(list);
    return true;
}

/* Room for one more in the list and the struct for it; NULL without memory. */
static struct segment *segment_new(struct storage_lmdb *s, uint64_t first) {
    if (!segments_reserve(s)) return NULL;
    struct segment *g = storage_allocate(s, sizeof *g);
    if (!g) return NULL;
    memset(g, 0, sizeof *g);
    g->first = first;
    g->last = first - 1;
    return g;
}

/* The directory gets a name that is no segment's, durably; what is deleted later is only bytes. */
static void segment_rename_away(struct storage_lmdb *s, uint64_t first, uint64_t tick) {
    char path[LMDB_PATH_BYTES_MAX], trash[LMDB_PATH_BYTES_MAX + 32];
    segment_path(s, first, path);
    snprintf(trash, sizeof trash, "%s.%llu.trash", path, (unsigned long long)tick);
    if (rename(path, trash) != 0) lmdb_fatal(errno, "%s cannot be renamed", path);
    int rc = directory_sync(s->directory);
    if (rc != 0) lmdb_fatal(rc, "%s cannot be synced", s->directory);
}

static void segment_free(struct segment *g) {
    require(g->users == 0);
    lmdb_env_close(&g->env);
    free(g);
}

/* -- open ----------------------------------------------------------------------------------- */

static int segment_compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The first indices that the directory names tell, sorted; malloc'ed. */
static int segments_scan(struct storage_lmdb *s, uint64_t **firsts, uint32_t *count, char *error,
                         size_t error_bytes) {
    uint32_t capacity = 0;
    *firsts = NULL;
    *count = 0;
    DIR *d = opendir(s->directory);
    if (!d) return lmdb_error(error, error_bytes, "%s: %s", s->directory, strerror(errno));
    for (struct dirent *entry; (entry = readdir(d));) {
        unsigned long long first;
        int end = 0;
        if (strlen(entry->d_name) != 24) continue;
        if (sscanf(entry->d_name, "log-%20llu%n", &first, &end) != 1 || end != 24) continue;
        if (*count == capacity) {
            capacity = capacity > 0 ? capacity * 2 : 64;
            uint64_t *grown = realloc(*firsts, capacity * sizeof *grown);
            if (!grown) {
                closedir(d);
                return lmdb_error(error, error_bytes, "%s: no memory", s->directory);
            }
            *firsts = grown;
        }
        (*firsts)[(*count)++] = first;
    }
    closedir(d);
    if (*count > 0) qsort(*firsts, *count, sizeof **firsts, segment_compare);
    return 0;
}

/* Does `g` join the segment before it? -1 with a sentence. */
static int segment_check(struct storage_lmdb *s, const struct segment *g,
                         const struct segment_edge *oldest, uint64_t before_term, char *error,
                         size_t error_bytes) {
    struct segments *all = &s->segments;
    unsigned long long first = g->first;
    if (oldest->index != g->first) {
        return lmdb_error(error, error_bytes, "%s/log-%020llu begins with record %llu",
                          s->directory, first, (unsigned long long)oldest->index);
    }
    if (all->count == 0) return 0;
    const struct segment *before = all->list[all->count - 1];
    const struct log_gap *gap = gaps_find(all, g->first - 1);
    bool over_gap = gap && gap->last + 1 == g->first && gap->first == before->last + 1;
    if (!before->damaged && before->last + 1 != g->first && !over_gap) {
        return lmdb_error(error, error_bytes,
                          "%s: the log has a hole: log-%020llu ends with record %llu, the next "
                          "segment begins with %llu; put the missing segment back",
                          s->directory, (unsigned long long)before->first,
                          (unsigned long long)before->last, first);
    }
    if (oldest->term > 0 && before_term > oldest->term) {
        return lmdb_error(error, error_bytes,
                          "%s/log-%020llu begins with term %llu, the records before it are of "
                          "term %llu: it belongs to another log",
                          s->directory, first, (unsigned long long)oldest->term,
                          (unsigned long long)before_term);
    }
    return 0;
}

/* The gap between the newest segment of the list and one that begins with `first`; NULL = none. */
static const struct log_gap *segments_join(const struct segments *all, uint64_t first) {
    const struct log_gap *gap = gaps_find(all, first - 1);
    return gap && gap->first > all->list[all->count - 1]->first ? gap : NULL;
}

int segment_delete_from(struct storage_lmdb *s, struct segment *g, uint64_t first) {
    struct lmdb_env *env = &g->env;
    MDB_txn *txn;
    MDB_cursor *cursor;
    lmdb_env_reserve(env, 64ULL * env->page_bytes);
    int rc = mdb_txn_begin(env->mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = mdb_cursor_open(txn, 1, &cursor);
    if (rc == 0) {
        rc = log_rows_delete(cursor, first);
        mdb_cursor_close(cursor);
    }
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_INSTALL_CUT);
    if (rc == 0) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    /* For the next try. */
    if (rc == MDB_MAP_FULL)
        lmdb_env_reserve(env, env->map_bytes - lmdb_env_used_bytes(env) + 64ULL * env->page_bytes);
    return rc;
}

/* What the open segment holds from `first` on is void. Its rows are deleted for the sake of who
 * reads the file without knowing of gaps; where that needs room that is not there, they stay. */
static void segment_cut(struct storage_lmdb *s, struct segment *g, uint64_t first) {
    int rc = segment_delete_from(s, g, first);
    if (rc != 0 && !lmdb_is_room(rc)) lmdb_fatal(rc, "%s cannot be cut", g->env.path);
    if (rc != 0) log_warn("%s: no room to delete the records from %llu on, which nobody reads",
                          g->env.path, (unsigned long long)first);
    pthread_mutex_lock(&s->segments.lock);
    g->last = first - 1;
    pthread_mutex_unlock(&s->segments.lock);
}

/* Examines one directory and puts it into the list, or away when a crash left it empty. */
static int segments_open_one(struct storage_lmdb *s, uint64_t first, bool becomes_active,
                             uint64_t *term, char *error, size_t error_bytes) {
    struct segments *all = &s->segments;
    struct segment_edge oldest = {0}, newest = {0};
    struct segment *g = segment_new(s, first);
    if (!g) return lmdb_error(error, error_bytes, "%s: no memory", s->directory);
    int rc = segment_examine(s, g, &oldest, &newest);
    if (rc != 0 && becomes_active) {
        free(g);
        return lmdb_error(error, error_bytes, "%s/log-%020llu: the newest log segment cannot be "
                          "opened: %s", s->directory, (unsigned long long)first, mdb_strerror(rc));
    }
    if (rc != 0) {
        log_error("%s/log-%020llu cannot be opened: %s; its records cannot be read", s->directory,
                  (unsigned long long)first, mdb_strerror(rc));
        g->damaged = true;
        *term = 0;
    } else if (newest.index == 0) {
        segment_free(g);
        segment_rename_away(s, first, all->tick++);
        return 0;
    } else {
        if (all->count > 0 && segments_join(all, first)) *term = 0;
        if (segment_check(s, g, &oldest, *term, error, error_bytes) != 0) {
            segment_free(g);
            return -1;
        }
        *term = newest.term;
        const struct log_gap *gap = gaps_behind(all, first);
        if (gap && gap->first <= g->last) segment_cut(s, g, gap->first);
    }
    if (all->count > 0 && all->list[all->count - 1]->damaged) {
        const struct log_gap *gap = segments_join(all, first);
        all->list[all->count - 1]->last = (gap ? gap->first : first) - 1;
    }
    if (!becomes_active) lmdb_env_close(&g->env);
    all->list[all->count++] = g;
    return 0;
}

/* Takes what begins in a gap out of the names, away; with `unfinished` what begins behind the
 * newest one too. */
static void segments_open_gaps(struct storage_lmdb *s, bool unfinished, uint64_t *firsts,
                               uint32_t *count) {
    struct segments *all = &s->segments;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++) {
        bool behind = unfinished && firsts[i] > gaps_floor(all);
        if (behind || gaps_find(all, firsts[i])) segment_rename_away(s, firsts[i], all->tick++);
        else firsts[kept++] = firsts[i];
    }
    *count = kept;
}

int segments_open(struct storage_lmdb *s, bool unfinished, char *error, size_t error_bytes) {
    struct segments *all = &s->segments;
    uint64_t *firsts, term = 0, floor = gaps_floor(all);
    uint32_t count;
    segments_empty_trash(s);
    int rc = segments_scan(s, &firsts, &count, error, error_bytes);
    if (rc == 0) segments_open_gaps(s, unfinished, firsts, &count);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        rc = segments_open_one(s, firsts[i], i + 1 == count && firsts[i] > floor, &term, error,
                               error_bytes);
    }
    free(firsts);
    struct segment *newest = rc == 0 && all->count > 0 ? all->list[all->count - 1] : NULL;
    if (newest && newest->first > floor) {
        if (newest->damaged) {
            return lmdb_error(error, error_bytes, "%s/log-%020llu: the newest log segment cannot "
                              "be opened", s->directory, (unsigned long long)newest->first);
        }
        all->active = segment_acquire(s, newest->last, error, error_bytes);
        if (!all->active) rc = -1;
    } else if (newest && newest->damaged) {
        newest->last = gaps_behind(all, newest->first)->first - 1;
    }
    segments_empty_trash(s);
    return rc;
}

void segments_close(struct storage_lmdb *s) {
    struct segments *all = &s->segments;
    if (all->active) segment_release(s, all->active);
    all->active = NULL;
    for (uint32_t i = 0; i < all->count; i++) segment_free(all->list[i]);
    free(all->list);
    all->list = NULL;
    all->count = 0;
}

/* -- readers -------------------------------------------------------------------------------- */

/* Closes the segment that has been idle longest when too many are open. all->lock held. */
static void segments_close_idle(struct segments *all) {
    uint32_t open = 0;
    struct segment *idle = NULL;
    for (uint32_t i = 0; i < all->count; i++) {
        struct segment *g = all->list[i];
        if (!g->env.mdb) continue;
        open++;
        if (g->users == 0 && (!idle || g->used_at < idle->used_at)) idle = g;
    }
    if (open >= LOG_SEGMENTS_OPEN_MAX && idle) lmdb_env_close(&idle->env);
}

/* all->lock held. NULL when no segment can hold `index`. */
static struct segment *segments_find(struct segments *all, uint64_t index) {
    uint32_t low = 0, high = all->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (all->list[middle]->last < index) low = middle + 1;
        else high = middle;
    }
    if (low == all->count || all->list[low]->first > index) return NULL;
    return all->list[low];
}

bool segments_closed(struct storage_lmdb *s, uint64_t index, uint64_t *first, uint64_t *last) {
    struct segments *all = &s->segments;
    bool found = false;
    pthread_mutex_lock(&all->lock);
    for (uint32_t i = 0; i + 1 < all->count && !found; i++) {
        const struct segment *g = all->list[i];
        found = g->last >= index && g->last >= g->first;
        *first = g->first;
        *last = g->last;
    }
    pthread_mutex_unlock(&all->lock);
    return found;
}

static int segment_reopen(struct storage_lmdb *s, struct segment *g) {
    char path[LMDB_PATH_BYTES_MAX];
    MDB_txn *txn;
    MDB_dbi main_table;
    segments_close_idle(&s->segments);
    segment_path(s, g->first, path);
    int rc = lmdb_env_open(&g->env, path, g->used_bytes, 0);
    if (rc == 0) rc = lmdb_env_read_begin(&g->env, &txn);
    if (rc != 0) return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &main_table);
    lmdb_env_read_end(&g->env, txn);
    return rc;
}

struct segment *segment_acquire(struct storage_lmdb *s, uint64_t index, char *error,
                                size_t error_bytes) {
    struct segments *all = &s->segments;
    pthread_mutex_lock(&all->lock);
    const struct log_gap *gap = gaps_find(all, index);
    struct segment *g = gap ? NULL : segments_find(all, index);
    int rc = 0;
    if (gap) {
        lmdb_error(error, error_bytes, "%s: record %llu is in a gap of the history: records %llu "
                   "to %llu were never stored here, a state from another replica stands for them",
                   s->directory, (unsigned long long)index, (unsigned long long)gap->first,
                   (unsigned long long)gap->last);
    } else if (!g) {
        bool any = all->count > 0;
        lmdb_error(error, error_bytes, "%s: record %llu is not stored (stored are %llu to %llu)",
                   s->directory, (unsigned long long)index,
                   any ? (unsigned long long)all->list[0]->first : 0ULL,
                   any ? (unsigned long long)all->list[all->count - 1]->last : 0ULL);
    } else if (!g->env.mdb && (rc = g->damaged ? MDB_INVALID : segment_reopen(s, g)) != 0) {
        lmdb_env_close(&g->env);
        lmdb_error(error, error_bytes, "%s/log-%020llu: record %llu cannot be read: %s",
                   s->directory, (unsigned long long)g->first, (unsigned long long)index,
                   mdb_strerror(rc));
        g = NULL;
    }
    if (g) {
        g->users++;
        g->used_at = ++all->tick;
    }
    pthread_mutex_unlock(&all->lock);
    return g;
}

void segment_release(struct storage_lmdb *s, struct segment *g) {
    pthread_mutex_lock(&s->segments.lock);
    require(g->users > 0);
    bool unused = --g->users == 0 && g->dropped;
    pthread_mutex_unlock(&s->segments.lock);
    if (unused) segment_free(g);
}

/* all->lock held. */
static void segments_usable(const struct segments *all, uint64_t *first, uint64_t *last) {
    uint64_t floor = gaps_floor(all);
    uint32_t at = 0;
    while (at < all->count && all->list[at]->first <= floor) at++;
    *first = at < all->count ? all->list[at]->first : floor + 1;
    *last = at < all->count ? all->list[all->count - 1]->last : floor;
    if (floor == 0 && *last < *first) *first = *last = 0;
}

/* What is in the tail is stored too, and nothing behind it is. Looked at before the segments: what
 * leaves it meanwhile is found in them. */
static void segments_add_tail(const struct log_tail_range *tail, uint64_t *first, uint64_t *last) {
    if (tail->count == 0) return;
    if (*first == 0) *first = tail->first;
    *last = tail->first + tail->count - 1;
}

void segments_range(struct storage_lmdb *s, uint64_t *first, uint64_t *last) {
    struct log_tail_range tail = log_tail_range(&s->tail);
    pthread_mutex_lock(&s->segments.lock);
    segments_usable(&s->segments, first, last);
    pthread_mutex_unlock(&s->segments.lock);
    segments_add_tail(&tail, first, last);
}

void segments_measure(struct storage_lmdb *s, struct storage_stats *stats) {
    struct segments *all = &s->segments;
    struct log_tail_range tail = log_tail_range(&s->tail);
    pthread_mutex_lock(&all->lock);
    stats->segments = all->count;
    for (uint32_t i = 0; i < all->count; i++) stats->log_bytes += all->list[i]->used_bytes;
    segments_usable(all, &stats->log_first, &stats->log_last);
    if (stats->log_last > 0 && all->count > 0) stats->log_first = all->list[0]->first;
    for (uint32_t i = 0; i < all->gaps_count; i++) {
        const struct log_gap *gap = &all->gaps[i];
        if (gaps_is_past(all, gap)) continue;
        stats->gaps++;
        stats->gap_records += gap->last - gap->first + 1;
        stats->gap_first = gap->first;
        stats->gap_last = gap->last;
    }
    pthread_mutex_unlock(&all->lock);
    segments_add_tail(&tail, &stats->log_first, &stats->log_last);
}

/* -- the writer ----------------------------------------------------------------------------- */

static int segment_create(struct storage_lmdb *s, struct segment *g) {
    char path[LMDB_PATH_BYTES_MAX];
    struct segment_edge oldest, newest;
    segment_path(s, g->first, path);
    int rc = lmdb_make_directory(path);
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_SEGMENT_CREATED);
    if (rc == 0) rc = segment_examine(s, g, &oldest, &newest);
    require(implies(rc == 0, g->last == g->first - 1));
    return rc;
}

struct segment *segment_make(struct storage_lmdb *s, uint64_t first, int *code) {
    /* Those that were made one after the other stay open behind their last record. */
    pthread_mutex_lock(&s->segments.lock);
    segments_close_idle(&s->segments);
    pthread_mutex_unlock(&s->segments.lock);
    struct segment *g = segment_new(s, first);
    *code = g ? segment_create(s, g) : ENOMEM;
    if (*code == 0) return g;
    if (g) segment_free(g);
    return NULL;
}

void segment_abandon(struct storage_lmdb *s, struct segment *g) {
    pthread_mutex_lock(&s->segments.lock);
    uint64_t tick = ++s->segments.tick;
    pthread_mutex_unlock(&s->segments.lock);
    segment_rename_away(s, g->first, tick);
    segment_free(g);
    checkpoint_trash_waits(s);
}

void segments_insert(struct segments *all, struct segment *g) {
    uint32_t at = all->count++;
    require(at < all->capacity);
    for (; at > 0 && all->list[at - 1]->first > g->first; at--) all->list[at] = all->list[at - 1];
    require(at == 0 || all->list[at - 1]->last < g->first);
    all->list[at] = g;
}

int segments_add(struct storage_lmdb *s, uint64_t first) {
    struct segments *all = &s->segments;
    int rc;
    struct segment *g = segment_make(s, first, &rc);
    if (!g) return rc;
    g->users = 1;
    pthread_mutex_lock(&all->lock);
    require(all->count == 0 || all->list[all->count - 1]->last + 1 == first ||
            gaps_floor(all) + 1 == first);
    segments_insert(all, g);
    pthread_mutex_unlock(&all->lock);
    if (all->active) segment_release(s, all->active);
    all->active = g;
    return 0;
}

/* Takes the segment out of the list; nobody finds it any more. It is the caller's, to be thrown
 * away. all->lock held. [writer] */
static void segments_unlink(struct segments *all, struct segment *g) {
    uint32_t position = 0;
    while (all->list[position] != g) position++;
    all->count--;
    memmove(all->list + position, all->list + position + 1,
            (all->count - position) * sizeof *all->list);
    g->dropped = true;
    g->users++;
}

static void segments_throw_away(struct storage_lmdb *s, struct segment *g) {
    pthread_mutex_lock(&s->segments.lock);
    uint64_t tick = ++s->segments.tick;
    pthread_mutex_unlock(&s->segments.lock);
    segment_rename_away(s, g->first, tick);
    segment_release(s, g);
    checkpoint_trash_waits(s);
}

/* Takes the segment out of the list and its directory away. [writer] */
static void segments_drop(struct storage_lmdb *s, struct segment *g) {
    pthread_mutex_lock(&s->segments.lock);
    segments_unlink(&s->segments, g);
    pthread_mutex_unlock(&s->segments.lock);
    segments_throw_away(s, g);
}

/* The newest segment, if it goes with all from `index` on; else NULL and where the log ends then.
 * The oldest behind the gaps, as they were at the first look (*oldest 0), never goes: a gap that is
 * filled meanwhile changes nothing. */
static struct segment *segments_newest(struct segments *all, uint64_t index, uint64_t *oldest,
                                       uint64_t *last) {
    pthread_mutex_lock(&all->lock);
    require(all->count > 0 && index >= all->list[0]->first);
    if (*oldest == 0) *oldest = gaps_floor(all) + 1;
    struct segment *g = all->list[all->count - 1];
    bool goes = all->count > 1 && g->first >= index && g->first != *oldest;
    *last = g->last;
    pthread_mutex_unlock(&all->lock);
    return goes ? g : NULL;
}

int segments_truncate(struct storage_lmdb *s, uint64_t index) {
    struct segments *all = &s->segments;
    char error[256];
    uint64_t oldest = 0, last;
    for (;;) {
        struct segment *newest = segments_newest(all, index, &oldest, &last);
        if (!newest) break;
        if (all->active) segment_release(s, all->active);
        all->active = NULL;
        if (s->reached >= index) reached_index(s, index - 1);
        segments_drop(s, newest);
        storage_fault(s, STORAGE_POINT_SEGMENT_DROPPED);
    }
    if (all->active) return 0;
    all->active = segment_acquire(s, last, error, sizeof error);
    if (!all->active) lmdb_fatal(MDB_CORRUPTED, "%s", error);
    return 0;
}

void segments_start_anew(struct storage_lmdb *s) {
    struct segments *all = &s->segments;
    char error[256];
    const struct log_gap *gap = &all->gaps[all->gaps_count - 1];
    if (all->active) segment_release(s, all->active);
    all->active = NULL;
    for (uint32_t i = all->count; i > 0; i--) {
        struct segment *dropped = all->list[i - 1];
        if (dropped->first < gap->first && !gaps_find(all, dropped->first)) continue;
        segments_drop(s, dropped);
        storage_fault(s, STORAGE_POINT_SEGMENT_DROPPED);
    }
    if (all->count == 0 || all->list[all->count - 1]->last < gap->first) return;
    struct segment *g = segment_acquire(s, gap->first - 1, error, sizeof error);
    /* Of a damaged segment nothing can be read in any case. */
    if (!g) {
        all->list[all->count - 1]->last = gap->first - 1;
        return;
    }
    segment_cut(s, g, gap->first);
    segment_release(s, g);
}

void segments_grown(struct storage_lmdb *s, uint64_t last, int64_t oldest_ms, int64_t newest_ms) {
    struct segments *all = &s->segments;
    struct segment *g = all->active;
    uint64_t used = lmdb_env_used_bytes(&g->env);
    pthread_mutex_lock(&all->lock);
    g->last = last;
    if (g->first_ms == 0) g->first_ms = oldest_ms;
    if (newest_ms != 0) g->newest_ms = newest_ms;
    g->used_bytes = used;
    pthread_mutex_unlock(&all->lock);
}

/* Whether it lies beside a gap that is being filled: what goes in there has to join it. all->lock
 * held. */
static bool segment_is_needed(const struct segments *all, const struct segment *g) {
    const struct log_gap *gap = &all->filling;
    return gap->last != 0 && (g->last + 1 == gap->first || g->first == gap->last + 1);
}

/* The oldest segment, out of the list already, if it is past its retention and can go; else NULL.
 */
static struct segment *segments_take_oldest(struct segments *all, uint64_t upto_index,
                                            int64_t before_ms) {
    struct segment *oldest = NULL;
    pthread_mutex_lock(&all->lock);
    struct segment *g = all->count > 1 ? all->list[0] : NULL;
    if (g && !segment_is_needed(all, g)) {
        /* One that says no time is as old as the oldest of the next at most. */
        int64_t newest_ms = g->newest_ms != 0 ? g->newest_ms : all->list[1]->newest_ms;
        if (g->last <= upto_index && newest_ms < before_ms) oldest = g;
    }
    if (oldest) segments_unlink(all, oldest);
    pthread_mutex_unlock(&all->lock);
    return oldest;
}

void segments_retain(struct storage_lmdb *s, uint64_t upto_index, int64_t before_ms) {
    struct segments *all = &s->segments;
    for (struct segment *g; (g = segments_take_oldest(all, upto_index, before_ms));) {
        log_info("shard %u: records %llu to %llu are past their retention and dropped", s->shard,
                 (unsigned long long)g->first, (unsigned long long)g->last);
        segments_throw_away(s, g);
    }
}

void segments_empty_trash(struct storage_lmdb *s) {
    DIR *d = opendir(s->directory);
    if (!d) return;
    for (struct dirent *entry; (entry = readdir(d));) {
        size_t n = strlen(entry->d_name);
        if (n < 6 || strcmp(entry->d_name + n - 6, ".trash") != 0) continue;
        char path[LMDB_PATH_BYTES_MAX + 256];
        snprintf(path, sizeof path, "%s/%s", s->directory, entry->d_name);
        int rc = lmdb_remove_directory(path);
        if (rc != 0) log_warn("%s cannot be deleted: %s", path, strerror(rc));
    }
    closedir(d);
}
