/* One batch of records becomes one LMDB transaction: truncation, append, sync. */
#include <fcntl.h>

#include "engine/base/check.h"
#include "persistence/lmdb/internal.h"

/* Makes the active segment the one that the batch belongs into. */
static int log_commit_choose(struct storage_lmdb *s, const struct log_batch *batch,
                             bool *truncates) {
    struct segments *all = &s->segments;
    uint64_t first = batch->first->header.index;
    *truncates = false;
    if (!all->active) return segments_add(s, first);
    const struct segment *g = all->active;
    require(first <= g->last + 1);
    if (first <= g->last) {
        *truncates = true;
        return segments_truncate(s, first);
    }
    if (g->last < g->first) return 0;
    bool large = g->used_bytes + batch->bytes > s->segment_bytes_max;
    bool old = g->first_ms != 0 && batch->newest_ms - g->first_ms >= s->segment_ms_max;
    return large || old ? segments_add(s, first) : 0;
}

int log_rows_delete(MDB_cursor *cursor, uint64_t first) {
    MDB_val key, value;
    int rc;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST)) == 0) {
        if (storage_from_be64(key.mv_data) < first) return 0;
        rc = mdb_cursor_del(cursor, 0);
        if (rc != 0) return rc;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int log_commit_put(MDB_cursor *cursor, struct record *r, bool sealed) {
    uint8_t index_be[8];
    size_t bytes = sizeof r->header + r->header.payload_bytes;
    storage_be64(index_be, r->header.index);
    MDB_val key = storage_val(index_be, 8), value = {bytes, NULL};
    if (!sealed) record_seal(&r->header, r->payload);
    int rc = mdb_cursor_put(cursor, &key, &value, MDB_APPEND | MDB_RESERVE);
    if (rc == 0) memcpy(value.mv_data, &r->header, bytes);
    return rc;
}

static int log_commit_fill(MDB_txn *txn, const struct log_batch *batch, bool truncates) {
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, 1, &cursor);
    if (rc != 0) return rc;
    if (truncates) rc = log_rows_delete(cursor, batch->first->header.index);
    struct record *r = batch->first;
    for (uint32_t i = 0; rc == 0 && i < batch->count; i++, r = r->next) {
        rc = log_commit_put(cursor, r, batch->sealed);
    }
    mdb_cursor_close(cursor);
    return rc;
}

/* What was appended long ago has been read by those who follow the log. Its pages leave the cache,
 * so that what comes next is written into the same memory again: otherwise a log takes all memory
 * there is, first touched page by page (which costs more than the copy, above all in a virtual
 * machine), before the kernel begins to look for what it can do without. Who reads it later gets it
 * from the disk. */
static void log_let_go(const struct storage_lmdb *s, struct segment *g) {
    uint64_t kept = s->let_go ? 0 : LOG_CACHED_BYTES;
    int fd;
    if (g->used_bytes < g->let_go_bytes + kept + LOG_LET_GO_BYTES) return;
    uint64_t upto = g->used_bytes - kept;
    if (s->let_go) {
        lmdb_env_let_go(&g->env, upto);
    } else if (mdb_env_get_fd(g->env.mdb, &fd) == 0) {
        /* A hint: without effect nothing is wrong. What is mapped stays: readers may be there. */
        (void)posix_fadvise(fd, (off_t)g->let_go_bytes, (off_t)(upto - g->let_go_bytes),
                            POSIX_FADV_DONTNEED);
    }
    g->let_go_bytes = upto;
}

int log_commit(struct storage_lmdb *s, const struct log_batch *batch) {
    bool truncates;
    int rc = log_commit_choose(s, batch, &truncates);
    if (rc != 0) return rc;
    struct lmdb_env *env = &s->segments.active->env;
    /* Each record may begin a page of its own; the rest is the way from root to leaf. */
    lmdb_env_reserve(env, batch->bytes + (batch->count + 64ULL) * 2 * env->page_bytes);
    MDB_txn *txn;
    rc = mdb_txn_begin(env->mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = log_commit_fill(txn, batch, truncates);
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_LOG_COMMIT);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = mdb_txn_commit(txn);
    if (rc != 0) return rc;
    segments_grown(s, batch->first->header.index + batch->count - 1, batch->oldest_ms,
                   batch->newest_ms);
    /* Before anybody hears of the first records of a segment. */
    reached_index(s, s->segments.active->first);
    log_let_go(s, s->segments.active);
    return 0;
}
