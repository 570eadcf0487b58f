/* Reading records back, from any thread: short transactions, every record checked. */
#include <stdio.h>
#include <stdlib.h>

#include "persistence/lmdb/internal.h"

/* Where LMDB keeps a small value is only 2-byte aligned; visitors read events in place. No small
 * value is larger than half of the largest page. */
struct log_scratch { uint64_t words[16384 / 8]; };

struct log_slice {
    struct segment *segment;
    uint64_t next, last;       /* to be visited */
    bool (*visit)(void *arg, const struct record_header *record, const void *payload);
    void *arg;
    struct log_scratch *scratch;
    char *error;
    size_t error_bytes;
};

static int log_read_fault(const struct log_slice *slice, const char *fault) {
    return lmdb_error(slice->error, slice->error_bytes, "%s: record %llu is damaged: %s",
                      slice->segment->env.path, (unsigned long long)slice->next, fault);
}

/* 0 visited, 1 visitor said stop, -1 fault. */
static int log_read_one(const struct log_slice *slice, MDB_val key, MDB_val value) {
    if (key.mv_size != 8 || storage_from_be64(key.mv_data) != slice->next) {
        return log_read_fault(slice, "it is missing");
    }
    if (value.mv_size > sizeof(struct record_header) + LOG_BATCH_BYTES_MAX) {
        return log_read_fault(slice, "longer than any record may be");
    }
    const void *data = value.mv_data;
    if ((uintptr_t)data % 8 != 0) {
        if (value.mv_size > sizeof *slice->scratch) {
            return log_read_fault(slice, "a large value lies where only small ones can");
        }
        memcpy(slice->scratch, data, value.mv_size);
        data = slice->scratch;
    }
    const char *fault = record_fault(data, value.mv_size, slice->next);
    if (fault) return log_read_fault(slice, fault);
    const struct record_header *header = data;
    return slice->visit(slice->arg, header, header + 1) ? 0 : 1;
}

/* One transaction's worth. Moves slice->next. */
static int log_read_slice(struct log_slice *slice) {
    struct lmdb_env *env = &slice->segment->env;
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    uint8_t index_be[8];
    storage_be64(index_be, slice->next);
    MDB_val key = storage_val(index_be, 8), value;
    int rc = lmdb_env_read_begin(env, &txn);
    if (rc != 0) return log_read_fault(slice, mdb_strerror(rc));
    int outcome = 0;
    rc = mdb_cursor_open(txn, 1, &cursor);
    if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_KEY);
    uint64_t records = 0, bytes = 0;
    while (rc == 0) {
        outcome = log_read_one(slice, key, value);
        if (outcome < 0) break;
        slice->next++;
        bytes += value.mv_size;
        if (outcome != 0 || slice->next > slice->last) break;
        if (++records >= LOG_READ_RECORDS_MAX || bytes >= LOG_READ_BYTES_MAX) break;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    /* The end of this transaction's view: the next one looks at the next record itself. */
    if (rc == MDB_NOTFOUND && records > 0) rc = 0;
    if (rc != 0) {
        outcome = log_read_fault(slice, rc == MDB_NOTFOUND ? "it is missing" : mdb_strerror(rc));
    }
    if (cursor) mdb_cursor_close(cursor);
    lmdb_env_read_end(env, txn);
    return outcome;
}

/* What a segment's file holds behind its end, as of a tail that an install gave up, is not to be
 * read. */
static uint64_t log_gapless_last(struct storage_lmdb *s, const struct segment *g, uint64_t first,
                                 uint64_t last) {
    pthread_mutex_lock(&s->segments.lock);
    const struct log_gap *gap = gaps_behind(&s->segments, first);
    if (gap && gap->first <= last) last = gap->first - 1;
    if (g->last < last) last = g->last;
    pthread_mutex_unlock(&s->segments.lock);
    return last;
}

enum { LOG_TAIL_RECORDS = 64 };

/* Those that were taken out of the tail; gives them back. */
static int log_read_held(struct log_slice *slice, struct record **held, uint32_t count) {
    int outcome = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (outcome == 0 && !slice->visit(slice->arg, &held[i]->header, held[i]->payload))
            outcome = 1;
        record_release(held[i]);
    }
    slice->next += count;
    return outcome;
}

static int log_read_segment(struct storage_lmdb *s, struct log_slice *slice, uint64_t last) {
    slice->segment = segment_acquire(s, slice->next, slice->error, slice->error_bytes);
    if (!slice->segment) return -1;
    slice->last = log_gapless_last(s, slice->segment, slice->next, last);
    int rc = log_read_slice(slice);
    segment_release(s, slice->segment);
    return rc;
}

int log_read(struct storage *base, uint64_t first, uint64_t last,
             bool (*visit)(void *arg, const struct record_header *record, const void *payload),
             void *arg, char *error, size_t error_bytes) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct log_scratch scratch;
    struct log_slice slice = {.next = first, .visit = visit, .arg = arg, .scratch = &scratch,
                              .error = error, .error_bytes = error_bytes};
    while (slice.next <= last) {
        struct record *held[LOG_TAIL_RECORDS];
        struct log_tail_range tail;
        uint64_t left = last - slice.next + 1, upto = last;
        uint32_t max = left < LOG_TAIL_RECORDS ? (uint32_t)left : LOG_TAIL_RECORDS;
        uint32_t n = log_tail_take(&s->tail, slice.next, held, max, &tail);
        if (n == 0 && tail.count > 0) {
            if (slice.next >= tail.first) {
                return lmdb_error(error, error_bytes, "%s: record %llu is not stored (the log ends "
                                  "with %llu)", s->directory, (unsigned long long)slice.next,
                                  (unsigned long long)(tail.first + tail.count - 1));
            }
            if (upto >= tail.first) upto = tail.first - 1;
        }
        int rc = n > 0 ? log_read_held(&slice, held, n) : log_read_segment(s, &slice, upto);
        if (rc != 0) return rc;
    }
    return 0;
}
