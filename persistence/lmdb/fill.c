/* Filling a gap in the history with what a peer has of it, piece by piece from the gap's front:
 *
 *   1. The records are committed into the segment in front of the gap, or, when that is full (or
 *      there is none), into a new one that begins in the gap. They are void, as whatever reaches
 *      into a gap is: nobody reads them.                                    crash: deleted at open
 *   2. One transaction of the vote's environment has the gap's row begin behind them, or takes it
 *      away: from here on they are history.
 *   3. The same in memory.
 *
 * So the directory is at any time what an install could have left that kept more, or none at all;
 * a program that knows nothing of filling opens it like any other. */
#include <errno.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "persistence/lmdb/internal.h"

/* One piece on its way. */
struct fill {
    struct storage_lmdb *s;
    struct log_gap gap;
    uint64_t first, next;      /* of the piece; `next` is behind it, once it is checked */
    uint64_t term, term_max;   /* of the newest record so far; of the log behind the gap */
    bool opens;                /* nothing is stored in front of the gap */
    const uint8_t *records;
    size_t bytes;              /* of `records`; once checked without what is behind the gap */
    int64_t oldest_ms, newest_ms;
    struct segment *segment;   /* that it goes into */
    bool fresh;                /* which begins with it, and is in no list yet */
    char *error;
    size_t error_bytes;
};

/* Whether nothing is stored in front of it. */
static bool gap_opens(const struct segments *all, const struct log_gap *gap) {
    return all->count == 0 || all->list[0]->first > gap->first;
}

bool fill_gap(struct storage *base, uint32_t position, struct storage_gap *gap) {
    struct segments *all = &((struct storage_lmdb *)base)->segments;
    bool found = false;
    pthread_mutex_lock(&all->lock);
    if (position < all->gaps_count) {
        const struct log_gap *g = &all->gaps[all->gaps_count - 1 - position];
        found = !gaps_is_past(all, g);
        *gap = (struct storage_gap){g->first, g->last, gap_opens(all, g), g->installed_ms};
    }
    pthread_mutex_unlock(&all->lock);
    return found;
}

/* -- what is to be filled with ---------------------------------------------------------------- */

static enum storage_filled fill_moot(struct fill *p) {
    lmdb_error(p->error, p->error_bytes, "%s: no gap that can be filled begins with record %llu",
               p->s->directory, (unsigned long long)p->first);
    return STORAGE_FILL_MOOT;
}

/* Which gap the piece begins. Retention leaves what is beside that, until fill_end(). */
static bool fill_find(struct fill *p) {
    struct segments *all = &p->s->segments;
    pthread_mutex_lock(&all->lock);
    const struct log_gap *gap = gaps_find(all, p->first);
    if (gap && gaps_is_past(all, gap)) gap = NULL;
    if (gap) p->gap = *gap;
    p->opens = gap && gap_opens(all, gap);
    bool found = gap && (gap->first == p->first || p->opens);
    if (found) all->filling = *gap;
    pthread_mutex_unlock(&all->lock);
    return found;
}

static void fill_end(struct fill *p) {
    pthread_mutex_lock(&p->s->segments.lock);
    p->s->segments.filling = (struct log_gap){0};
    pthread_mutex_unlock(&p->s->segments.lock);
}

static bool fill_visit_term(void *arg, const struct record_header *record, const void *payload) {
    (void)payload;
    *(uint64_t *)arg = record->term;
    return true;
}

/* Terms of what stands in front of the gap and behind it. */
static bool fill_bounds(struct fill *p) {
    struct storage *base = &p->s->base;
    struct storage_meta meta = {0};
    uint64_t before = p->gap.first - 1, behind = p->gap.last + 1;
    if (!p->opens &&
        log_read(base, before, before, fill_visit_term, &p->term, p->error, p->error_bytes) < 0)
        return false;
    if (log_read(base, behind, behind, fill_visit_term, &p->term_max, NULL, 0) == 0) return true;
    /* Nothing is there yet, or it cannot be read: then the stored state's, which is not older. */
    if (state_meta(p->s, &meta, p->error, p->error_bytes) != 0) return false;
    p->term_max = meta.applied_term;
    return true;
}

/* The record at `data`: what is wrong with it; NULL = nothing, and *size is its own. */
static const char *fill_record_fault(struct fill *p, const uint8_t *data, size_t left,
                                     size_t *size) {
    struct record_header header;
    struct entry_header entry;
    if (left < sizeof header) return "it is cut short";
    memcpy(&header, data, sizeof header);
    if (header.payload_bytes > left - sizeof header) return "it is cut short";
    *size = sizeof header + header.payload_bytes;
    const char *fault = record_fault(data, *size, p->next);
    if (fault) return fault;
    if (header.term < p->term) return "its term is older than that of the record before it";
    if (header.term > p->term_max) return "its term is newer than that of the log behind the gap";
    p->term = header.term;
    if (header.type != RECORD_EVENTS || header.payload_bytes < sizeof entry) return NULL;
    memcpy(&entry, data + sizeof header, sizeof entry);
    if (entry.shard != p->s->shard) return "it belongs to another shard";
    if (p->oldest_ms == 0) p->oldest_ms = entry.time_ms;
    p->newest_ms = entry.time_ms;
    return NULL;
}

static bool fill_check(struct fill *p) {
    size_t at = 0, size = 0;
    while (at < p->bytes && p->next <= p->gap.last) {
        const char *fault = fill_record_fault(p, p->records + at, p->bytes - at, &size);
        if (fault) {
            lmdb_error(p->error, p->error_bytes, "%s: record %llu of a peer does not go into the "
                       "gap: %s", p->s->directory, (unsigned long long)p->next, fault);
            return false;
        }
        at += (size + 7) / 8 * 8;
        p->next++;
    }
    p->bytes = at < p->bytes ? at : p->bytes;
    return true;
}

/* -- where it goes ---------------------------------------------------------------------------- */

/* Whether the segment in front of the gap joins and has room. */
static bool fill_fits(struct fill *p, const struct segment *g) {
    struct segments *all = &p->s->segments;
    pthread_mutex_lock(&all->lock);
    bool large = g->used_bytes + p->bytes > p->s->segment_bytes_max;
    bool old = g->first_ms != 0 && p->newest_ms - g->first_ms >= p->s->segment_ms_max;
    bool joins = g->last + 1 == p->first;
    pthread_mutex_unlock(&all->lock);
    return joins && !large && !old;
}

/* 0 or a code. */
static int fill_choose(struct fill *p) {
    struct segment *g = p->opens ? NULL : segment_acquire(p->s, p->first - 1, NULL, 0);
    int rc = 0;
    if (!p->opens && !g) return ENOMEM; /* fill_bounds() has read it: later, then */
    if (g && fill_fits(p, g)) {
        p->segment = g;
        return 0;
    }
    /* Its void rows, if there are any, have to go before the gap does: to the next open they would
     * be its end, which nothing joins. */
    if (g) {
        rc = segment_delete_from(p->s, g, p->first);
        segment_release(p->s, g);
    }
    if (rc != 0) return rc;
    p->fresh = true;
    p->segment = segment_make(p->s, p->first, &rc);
    return rc;
}

static int fill_put(struct fill *p, MDB_cursor *cursor) {
    uint8_t index_be[8];
    size_t at = 0;
    /* What an uncommitted tail, or a try before this one, left there is void. */
    int rc = log_rows_delete(cursor, p->first);
    for (uint64_t index = p->first; rc == 0 && index < p->next; index++) {
        struct record_header header;
        memcpy(&header, p->records + at, sizeof header);
        size_t size = sizeof header + header.payload_bytes;
        storage_be64(index_be, index);
        MDB_val key = storage_val(index_be, 8), value = storage_val(p->records + at, size);
        rc = mdb_cursor_put(cursor, &key, &value, MDB_APPEND);
        at += (size + 7) / 8 * 8;
    }
    return rc;
}

/* Step 1. 0 or a code. */
static int fill_commit(struct fill *p) {
    struct lmdb_env *env = &p->segment->env;
    MDB_txn *txn;
    MDB_cursor *cursor;
    /* As log_commit() reckons. */
    lmdb_env_reserve(env, p->bytes + (p->next - p->first + 64) * 2 * env->page_bytes);
    int rc = mdb_txn_begin(env->mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = mdb_cursor_open(txn, 1, &cursor);
    if (rc == 0) {
        rc = fill_put(p, cursor);
        mdb_cursor_close(cursor);
    }
    if (rc == 0) rc = storage_fault(p->s, STORAGE_POINT_FILL_COMMIT);
    if (rc == 0) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    if (rc == MDB_MAP_FULL)
        lmdb_env_reserve(env, env->map_bytes - lmdb_env_used_bytes(env) + p->bytes);
    return rc;
}

/* Step 3. */
static void fill_apply(struct fill *p) {
    struct segments *all = &p->s->segments;
    struct segment *g = p->segment;
    uint64_t used = lmdb_env_used_bytes(&g->env);
    pthread_mutex_lock(&all->lock);
    g->last = p->next - 1;
    if (g->first_ms == 0) g->first_ms = p->oldest_ms;
    if (p->newest_ms != 0) g->newest_ms = p->newest_ms;
    g->used_bytes = used;
    uint32_t i = 0;
    while (all->gaps[i].first != p->gap.first) i++;
    if (p->next <= p->gap.last) {
        all->gaps[i].first = p->next;
    } else {
        all->gaps_count--;
        memmove(&all->gaps[i], &all->gaps[i + 1], (all->gaps_count - i) * sizeof all->gaps[0]);
    }
    if (p->fresh) segments_insert(all, g);
    pthread_mutex_unlock(&all->lock);
}

static void fill_leave(struct fill *p, bool done) {
    if (!p->fresh) segment_release(p->s, p->segment);
    else if (!done) segment_abandon(p->s, p->segment);
}

static int fill_write(struct fill *p) {
    if (lmdb_free_bytes(p->s->directory) / 2 < p->s->room_floor_bytes + p->bytes) return ENOSPC;
    int rc = fill_choose(p);
    if (!p->segment) return rc;
    rc = fill_commit(p);
    if (rc == 0) storage_fault(p->s, STORAGE_POINT_FILL_COMMITTED);
    if (rc == 0) rc = gaps_shrink(p->s, &p->gap, p->next);
    if (rc == 0) {
        storage_fault(p->s, STORAGE_POINT_FILL_DONE);
        fill_apply(p);
    }
    fill_leave(p, rc == 0);
    return rc;
}

/* Behind fill_find(). */
static enum storage_filled fill_run(struct fill *p) {
    struct storage_lmdb *s = p->s;
    if (!fill_bounds(p) || !fill_check(p)) return STORAGE_FILL_REFUSED;
    int rc = fill_write(p);
    if (rc != 0 && !lmdb_is_room(rc))
        lmdb_fatal(rc, "%s: records %llu to %llu, which fill a gap, cannot be written",
                   s->directory, (unsigned long long)p->first, (unsigned long long)p->next - 1);
    if (rc != 0) {
        lmdb_error(p->error, p->error_bytes, "%s: no room to fill the gap from record %llu on: %s",
                   s->directory, (unsigned long long)p->first, mdb_strerror(rc));
        return STORAGE_FILL_NO_ROOM;
    }
    atomic_fetch_add_explicit(&s->filled_records, p->next - p->first, memory_order_relaxed);
    if (p->next > p->gap.last)
        log_info("shard %u: the gap in the history up to record %llu is filled", s->shard,
                 (unsigned long long)p->gap.last);
    return STORAGE_FILLED;
}

enum storage_filled fill_records(struct storage *base, const void *records, size_t bytes,
                                 char *error, size_t error_bytes) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct record_header header;
    if (bytes < sizeof header) {
        lmdb_error(error, error_bytes, "%s: what a peer sent is no record", s->directory);
        return STORAGE_FILL_REFUSED;
    }
    memcpy(&header, records, sizeof header);
    struct fill p = {.s = s, .first = header.index, .next = header.index, .records = records,
                     .bytes = bytes, .error = error, .error_bytes = error_bytes};
    pthread_mutex_lock(&s->gaps_lock);
    bool found = fill_find(&p);
    enum storage_filled outcome = found ? fill_run(&p) : fill_moot(&p);
    if (found) fill_end(&p);
    pthread_mutex_unlock(&s->gaps_lock);
    return outcome;
}
