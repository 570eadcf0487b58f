/* Counters: buckets of time that hold the store, or all stores together. */
#include <stdlib.h>

#include "engine/replica/answer_internal.h"

/* The disk's rows, and what memory adds to them. */
struct counting {
    struct answering *a;
    const struct query *query;
    struct sums recent;
    const struct sums_entry **sorted; /* of `recent`, by key */
    uint32_t next;             /* of these */
    uint32_t rows;
    bool more;
    uint8_t last[VIEW_KEY_BYTES_MAX];
    uint32_t last_bytes;
};

static void write_row(struct answering *a, const struct view_counters_row *row,
                      const int64_t numbers[VIEW_NUMBERS]) {
    msgpack_write_array(&a->w, 4 + VIEW_NUMBERS);
    msgpack_write_int(&a->w, row->start_ms);
    msgpack_write_str(&a->w, row->store.data, row->store.size);
    msgpack_write_uint(&a->w, row->state);
    msgpack_write_str(&a->w, row->currency, (uint32_t)strnlen(row->currency, 3));
    for (int i = 0; i < VIEW_NUMBERS; i++) msgpack_write_int(&a->w, numbers[i]);
}

/* False: the page is full. */
static bool add_row(struct counting *c, struct bytes key, const int64_t numbers[VIEW_NUMBERS]) {
    struct answering *a = c->a;
    struct view_counters_row row;
    if (!view_counters_read(key, &row)) return true;
    if (c->query->states && !(c->query->states >> row.state & 1)) return true;
    size_t mark = msgpack_writer_size(&a->w);
    bool full = c->rows == c->query->limit;
    if (!full) write_row(a, &row, numbers);
    bool fits = !full && msgpack_writer_ok(&a->w) &&
                (size_t)(a->w.end - a->w.at) >= VIEW_KEY_BYTES_MAX + MSGPACK_HEADER_BYTES_MAX;
    if (!fits) {
        if (c->rows > 0) msgpack_writer_rewind(&a->w, mark);
        else a->w.overflow = true;
        c->more = true;
        return false;
    }
    c->rows++;
    memcpy(c->last, key.data, key.size);
    c->last_bytes = key.size;
    return true;
}

static int compare(struct bytes a, struct bytes b) {
    int rc = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return rc ? rc : (a.size > b.size) - (a.size < b.size);
}

static struct bytes recent_key(const struct counting *c, uint32_t i) {
    return bytes_of(sums_key(&c->recent, c->sorted[i]), c->sorted[i]->key_bytes);
}

/* Rows that are in memory only, up to a key of the disk's (size 0: all that are left). */
static bool add_recent(struct counting *c, struct bytes before) {
    while (c->next < c->recent.count) {
        struct bytes key = recent_key(c, c->next);
        if (before.size != 0 && compare(key, before) >= 0) break;
        if (!add_row(c, key, c->sorted[c->next]->numbers)) return false;
        c->next++;
    }
    return true;
}

/* A row of the disk, with what memory adds to it. */
static bool add_stored(struct counting *c, struct bytes key, MDB_val value) {
    int64_t numbers[VIEW_NUMBERS] = {0};
    if (value.mv_size == sizeof numbers) memcpy(numbers, value.mv_data, sizeof numbers);
    if (!add_recent(c, key)) return false;
    if (c->next < c->recent.count && compare(recent_key(c, c->next), key) == 0) {
        for (int i = 0; i < VIEW_NUMBERS; i++)
            numbers[i] = view_add(numbers[i], c->sorted[c->next]->numbers[i]);
        c->next++;
    }
    return add_row(c, key, numbers);
}

/* Where the next row of the store may be: in the bucket of `key`, or in the one behind it. */
static uint32_t seek_key(const struct query *q, int64_t bucket_start_ms, uint8_t *out) {
    uint32_t prefix = view_counters_prefix(q->bucket_ms, bucket_start_ms, out);
    return (uint32_t)(view_put_text(out + prefix, q->subject) - out);
}

static void count_rows(struct counting *c, MDB_cursor *cursor) {
    const struct query *q = c->query;
    uint8_t seek[VIEW_KEY_BYTES_MAX];
    uint32_t seek_bytes = seek_key(q, q->from_ms, seek);
    MDB_val key = view_val(seek, seek_bytes), value;
    if (q->cursor.size != 0) key = view_val(q->cursor.data, q->cursor.size);
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc == 0 && q->cursor.size != 0 && key.mv_size == q->cursor.size &&
        memcmp(key.mv_data, q->cursor.data, key.mv_size) == 0)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    while (rc == 0) {
        struct view_counters_row row;
        struct bytes found = bytes_of(key.mv_data, key.mv_size);
        if (!view_counters_read(found, &row)) break;
        if (row.bucket_ms != q->bucket_ms || row.start_ms >= q->to_ms) break;
        if (bytes_equal(row.store, q->subject)) {
            if (!add_stored(c, found, value)) return;
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
            continue;
        }
        /* Another store's: ours is further on in this bucket, or in a later one. */
        seek_bytes = seek_key(q, row.start_ms, seek);
        size_t size = key.mv_size < seek_bytes ? key.mv_size : seek_bytes;
        if (memcmp(key.mv_data, seek, size) >= 0)
            seek_bytes = seek_key(q, row.start_ms + q->bucket_ms, seek);
        key = view_val(seek, seek_bytes);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    }
    add_recent(c, bytes_of("", 0));
}

static bool is_wanted(void *arg, struct bytes key) {
    const struct counting *c = arg;
    const struct query *q = c->query;
    struct view_counters_row row;
    uint8_t seek[VIEW_KEY_BYTES_MAX];
    if (!view_counters_read(key, &row) || row.bucket_ms != q->bucket_ms ||
        row.start_ms >= q->to_ms || !bytes_equal(row.store, q->subject))
        return false;
    if (q->cursor.size != 0) return compare(key, q->cursor) > 0;
    return compare(key, bytes_of(seek, seek_key(q, q->from_ms, seek))) >= 0;
}

static int by_key(const void *a, const void *b, void *arg) {
    const struct sums_entry *const *x = a, *const *y = b;
    const struct sums *s = arg;
    return compare(bytes_of(sums_key(s, *x), (*x)->key_bytes),
                   bytes_of(sums_key(s, *y), (*y)->key_bytes));
}

/* False without memory. */
static bool sort_recent(struct counting *c) {
    if (!view_sums_recent(c->a->source->store, &c->a->read, VIEW_COUNTERS, is_wanted, c,
                          &c->recent))
        return false;
    if (c->recent.count == 0) return true;
    c->sorted = malloc(c->recent.count * sizeof *c->sorted);
    if (!c->sorted) return false;
    for (uint32_t i = 0; i < c->recent.count; i++) c->sorted[i] = &c->recent.entries[i];
    qsort_r(c->sorted, c->recent.count, sizeof *c->sorted, by_key, &c->recent);
    return true;
}

/* A shard that came, or went on, with a stored state: that tells of no events. */
static bool lacks_past(const struct answering *a) {
    for (uint32_t i = 0; i < a->positions_count; i++)
        if (a->positions[i].counted_from > 1) return true;
    return false;
}

static void write_rows(struct counting *c, MDB_cursor *cursor) {
    struct answering *a = c->a;
    size_t start = msgpack_writer_size(&a->w);
    answering_head(a, 0, 0, 0, true, lacks_past(a) ? RESULT_FLAG_UNCOUNTED : 0);
    size_t head = msgpack_writer_size(&a->w);
    msgpack_writer_tagged_(&a->w, 0xdc, 0, 2);
    count_rows(c, cursor);
    if (!msgpack_writer_ok(&a->w)) return;
    a->w.start[head + 1] = (uint8_t)(c->rows >> 8);
    a->w.start[head + 2] = (uint8_t)c->rows;
    if (c->more) msgpack_write_bin(&a->w, c->last, c->last_bytes);
    else a->w.start[start] = 0x96; /* no cursor */
}

void answer_counters(struct answering *a, const struct query *q) {
    struct counting c = {.a = a, .query = q};
    struct view_counters_row row;
    MDB_cursor *cursor;
    MDB_dbi table;
    if (!view_table_of(a->source->store, &a->read, VIEW_COUNTERS, &table)) {
        answering_refuse(a, RESULT_VIEW_NOT_READY, 0, 0, 1000);
        return;
    }
    if (q->cursor.size != 0 && (!view_counters_read(q->cursor, &row) ||
                                row.bucket_ms != q->bucket_ms ||
                                !bytes_equal(row.store, q->subject))) {
        answering_refuse(a, RESULT_CURSOR_INVALID, 0, 0, 0);
        return;
    }
    if (mdb_cursor_open(a->read.txn, table, &cursor) != 0) {
        answering_refuse(a, RESULT_STORAGE_FAILED, 0, 0, 0);
        return;
    }
    if (sort_recent(&c)) write_rows(&c, cursor);
    else answering_refuse(a, RESULT_OUT_OF_MEMORY, 0, 0, 50);
    mdb_cursor_close(cursor);
    free(c.sorted);
    sums_fini(&c.recent);
}
