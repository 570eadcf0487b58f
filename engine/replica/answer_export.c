/* EXPORT: all orders of a snapshot, by key, a page at a time. The snapshot is a copy of the views
 * as they were at one moment; the cursor is an order's key. */
#include "engine/replica/answer_internal.h"

static void export_rows(struct answering *a, const struct query *q, struct view_copy *copy) {
    MDB_cursor *cursor;
    MDB_val key = view_val(q->cursor.data, q->cursor.size), value;
    uint32_t rows = 0;
    uint8_t last[16];
    bool more = false;
    if (mdb_cursor_open(copy->txn, copy->orders, &cursor) != 0) {
        answering_refuse(a, RESULT_STORAGE_FAILED, 0, 0, 0);
        return;
    }
    size_t start = msgpack_writer_size(&a->w);
    answering_head(a, 0, 0, 0, true, 0);
    size_t head = msgpack_writer_size(&a->w);
    msgpack_writer_tagged_(&a->w, 0xdc, 0, 2);
    bool resumed = q->cursor.size == 16;
    int rc = mdb_cursor_get(cursor, &key, &value, resumed ? MDB_SET_RANGE : MDB_FIRST);
    if (rc == 0 && resumed && memcmp(key.mv_data, q->cursor.data, 16) == 0)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (value.mv_size <= sizeof(struct view_order_row) || key.mv_size != 16) continue;
        size_t bytes = value.mv_size - sizeof(struct view_order_row);
        if (bytes > ACTOR_BYTES_MAX) continue;
        size_t mark = msgpack_writer_size(&a->w);
        more = rows == q->limit;
        if (more) break;
        memcpy(a->block, (uint8_t *)value.mv_data + sizeof(struct view_order_row), bytes);
        answering_row(a, q, (const struct actor *)(const void *)a->block);
        more = !msgpack_writer_ok(&a->w) || (size_t)(a->w.end - a->w.at) < 32;
        if (more && rows > 0) msgpack_writer_rewind(&a->w, mark);
        else if (more) a->w.overflow = true;
        if (more) break;
        rows++;
        memcpy(last, key.mv_data, 16);
    }
    mdb_cursor_close(cursor);
    if (!msgpack_writer_ok(&a->w)) return;
    a->w.start[head + 1] = (uint8_t)(rows >> 8);
    a->w.start[head + 2] = (uint8_t)rows;
    if (more) msgpack_write_bin(&a->w, last, 16);
    else a->w.start[start] = 0x96; /* no cursor */
}

void answer_export(struct answering *a, const struct query *q) {
    const struct answer_source *source = a->source;
    struct view_copy copy;
    char path[1200];
    uint64_t id = q->snapshot;
    if (q->cursor.size != 0 && q->cursor.size != 16) {
        answering_refuse(a, RESULT_CURSOR_INVALID, 0, 0, 0);
        return;
    }
    if (!source->snapshot_hold || !source->snapshot_hold(source->arg, id, path, sizeof path)) {
        answering_refuse(a, RESULT_SNAPSHOT_GONE, 0, 0, 0);
        return;
    }
    if (view_copy_open(&copy, path) != 0) {
        answering_refuse(a, RESULT_STORAGE_FAILED, 0, 0, 0);
    } else {
        export_rows(a, q, &copy);
        view_copy_close(&copy);
    }
    source->snapshot_release(source->arg, id);
}
