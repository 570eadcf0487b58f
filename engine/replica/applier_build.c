/* Housekeeping inside the transactions of the applier: views that are being built beside those that
 * answer, and counters that have grown old. A slice at a time, so that no transaction is long. */
#include "engine/replica/applier_internal.h"

enum { BUILD_SLICE_ORDERS = 4096, PRUNE_SLICE_ROWS = 4096, PRUNE_EVERY_MS = 60000 };

static int build_row(struct applier *a, enum view_number v, MDB_dbi green, MDB_val stored) {
    struct view_order_row head;
    struct view_order order;
    uint8_t row[VIEW_KEY_BYTES_MAX];
    if (stored.mv_size <= sizeof head || stored.mv_size > sizeof head + ACTOR_BYTES_MAX) return 0;
    memcpy(a->disk.row, stored.mv_data, stored.mv_size);
    memcpy(&head, a->disk.row, sizeof head);
    const void *block = a->disk.row + sizeof head;
    view_order_of(block, head.shard, &order);
    MDB_val key = view_val(row, views[v].key(&order, row)), value = view_val("", 0);
    if (key.mv_size == 0) return 0;
    a->disk.stats.rows_put++;
    return mdb_put(a->disk.txn, green, &key, &value, 0);
}

/* The stored orders, a slice further. What changes meanwhile is put by the flush as well; to put
 * the same row twice does no harm. */
static int build_slice(struct applier *a, enum view_number v) {
    struct applier_scan *scan = &a->disk.scans[v];
    const struct view_table *t = &a->store->tables[v];
    MDB_dbi green = t->sides[(t->generation + 1) % 2];
    MDB_cursor *cursor;
    MDB_val key = view_val(scan->after.bytes, 16), value;
    int rc = mdb_cursor_open(a->disk.txn, a->store->orders, &cursor);
    if (rc != 0) return rc;
    rc = mdb_cursor_get(cursor, &key, &value, scan->first ? MDB_FIRST : MDB_SET_RANGE);
    if (rc == 0 && !scan->first && memcmp(key.mv_data, scan->after.bytes, 16) == 0)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    uint32_t orders = 0;
    while (rc == 0 && orders < BUILD_SLICE_ORDERS) {
        memcpy(scan->after.bytes, key.mv_data, 16);
        scan->first = false;
        orders++;
        scan->orders++;
        rc = build_row(a, v, green, value);
        if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (rc != MDB_NOTFOUND) return rc;
    /* Not those that were looked at: what came meanwhile was put by the flush. */
    MDB_stat stat;
    if (mdb_stat(a->disk.txn, a->store->orders, &stat) == 0)
        a->disk.built_orders[v] = stat.ms_entries;
    *scan = (struct applier_scan){.wanted = false};
    return view_green_switch(a->store, a->disk.txn, v);
}

int applier_build(struct applier *a) {
    int rc = 0;
    for (int v = 0; v < VIEWS_COUNT && rc == 0; v++) {
        struct applier_scan *scan = &a->disk.scans[v];
        if (scan->wanted && !scan->running) {
            rc = view_green_begin(a->store, a->disk.txn, (enum view_number)v);
            *scan = (struct applier_scan){.running = true, .first = true};
        }
        if (rc == 0 && scan->running) rc = build_slice(a, (enum view_number)v);
    }
    return rc;
}

void applier_builds(struct applier *a, struct applier_build builds[VIEWS_COUNT]) {
    pthread_mutex_lock(&a->disk_lock);
    for (int v = 0; v < VIEWS_COUNT; v++) {
        const struct applier_scan *scan = &a->disk.scans[v];
        builds[v] = (struct applier_build){.building = scan->wanted || scan->running,
                                           .orders_done = scan->orders,
                                           .orders_built = a->disk.built_orders[v],
                                           .generation = a->store->tables[v].generation};
    }
    pthread_mutex_unlock(&a->disk_lock);
}

bool applier_is_building(const struct applier *a) {
    for (int v = 0; v < VIEWS_COUNT; v++) {
        if (a->disk.scans[v].wanted || a->disk.scans[v].running) return true;
    }
    return false;
}

int applier_prune(struct applier *a) {
    int64_t before_ms = a->disk.newest_ms - a->options.minutes_kept_ms;
    if (before_ms <= 0 || a->disk.newest_ms - a->disk.pruned_ms < PRUNE_EVERY_MS) return 0;
    const struct view_table *t = &a->store->tables[VIEW_COUNTERS];
    MDB_cursor *cursor;
    MDB_val key, value;
    uint32_t rows = 0;
    int rc = mdb_cursor_open(a->disk.txn, t->sides[t->generation % 2], &cursor);
    if (rc != 0) return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == 0 && rows < PRUNE_SLICE_ROWS) {
        struct view_counters_row row;
        if (!view_counters_read(bytes_of(key.mv_data, key.mv_size), &row)) break;
        if (row.bucket_ms != 60000 || row.start_ms >= before_ms) break;
        rc = mdb_cursor_del(cursor, 0);
        rows++;
        a->disk.stats.rows_deleted++;
        if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (rows < PRUNE_SLICE_ROWS) a->disk.pruned_ms = a->disk.newest_ms;
    return rc == MDB_NOTFOUND ? 0 : rc;
}
