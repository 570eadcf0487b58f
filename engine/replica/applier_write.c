/* A frozen table -> one transaction, sorted by key: neighbours in a tree are written one behind the
 * other, and a page is found and copied once. */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/prefetch.h"
#include "engine/replica/applier_internal.h"

enum { WRITE_AHEAD = 8 }; /* orders whose memory is asked for before they are written */

static int by_prefix(const uint64_t *x, const uint64_t *y) {
    if (x[0] != y[0]) return x[0] < y[0] ? -1 : 1;
    if (x[1] != y[1]) return x[1] < y[1] ? -1 : 1;
    return 0;
}

/* -- orders ---------------------------------------------------------------------------------- */

static int by_order_key(const void *a, const void *b) {
    const struct applier_sorted *x = a, *y = b;
    return by_prefix(x->prefix, y->prefix);
}

static bool sort_orders(struct applier_disk *d, const struct overlay *t) {
    if (t->orders_count > d->sorted_capacity) {
        struct applier_sorted *sorted = realloc(d->sorted, t->orders_count * sizeof *sorted);
        if (!sorted) return false;
        d->sorted = sorted;
        d->sorted_capacity = t->orders_count;
    }
    uint32_t n = 0;
    for (const struct overlay_order *o = atomic_load(&t->orders); o; o = o->next) {
        d->sorted[n++] = (struct applier_sorted){
            {view_get_u64(o->key.bytes), view_get_u64(o->key.bytes + 8)}, o};
    }
    require(n == t->orders_count);
    if (n > 1) qsort(d->sorted, n, sizeof *d->sorted, by_order_key);
    return true;
}

/* `append`: it goes behind all that there are. A page is left full then, not half full. */
static int put_order(struct applier *a, MDB_cursor *cursor, const struct overlay_order *o,
                     bool append) {
    const struct overlay_version *v = atomic_load_explicit(&o->newest, memory_order_relaxed);
    const struct actor *block = overlay_block(v);
    MDB_val key = view_val(o->key.bytes, 16), value;
    if (block->flags & ACTOR_RETIRED) {
        if (!o->was_there) return 0;
        int rc = mdb_del(a->disk.txn, a->store->orders, &key, NULL);
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    const struct view_order_row head = {v->shard, 0};
    value.mv_size = sizeof head + block->bytes;
    int rc = mdb_cursor_put(cursor, &key, &value, MDB_RESERVE | (append ? MDB_APPEND : 0));
    if (rc != 0) return rc;
    memcpy(value.mv_data, &head, sizeof head);
    memcpy((uint8_t *)value.mv_data + sizeof head, block, block->bytes);
    a->disk.stats.orders_written++;
    return 0;
}

/* -- index rows ------------------------------------------------------------------------------ */

static bool add_op(struct applier_disk *a, struct applier_ops *ops, const uint8_t *key,
                   uint32_t key_bytes, bool put) {
    if (ops->count == ops->capacity) {
        uint32_t capacity = ops->capacity ? ops->capacity * 2 : 4096;
        struct applier_op *list = realloc(ops->list, capacity * sizeof *list);
        if (!list) return false;
        ops->list = list;
        ops->capacity = capacity;
    }
    if (a->keys_capacity - a->keys_bytes < VIEW_KEY_BYTES_MAX + 17) {
        size_t capacity = a->keys_capacity ? a->keys_capacity * 2 : 1u << 18;
        uint8_t *keys = realloc(a->keys, capacity);
        if (!keys) return false;
        a->keys = keys;
        a->keys_capacity = capacity;
    }
    uint8_t first[32] = {0};
    memcpy(first, key, key_bytes < sizeof first ? key_bytes : sizeof first);
    ops->list[ops->count++] =
        (struct applier_op){{view_get_u64(first), view_get_u64(first + 8), view_get_u64(first + 16),
                             view_get_u64(first + 24)},
                            a->keys_bytes, (uint16_t)key_bytes, put};
    memcpy(a->keys + a->keys_bytes, key, key_bytes);
    a->keys_bytes += key_bytes;
    return true;
}

static int by_op_key(const void *a, const void *b, void *keys) {
    const struct applier_op *x = a, *y = b;
    int rc = by_prefix(x->prefix, y->prefix);
    if (rc == 0) rc = by_prefix(x->prefix + 2, y->prefix + 2);
    if (rc != 0) return rc;
    uint32_t size = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
    rc = memcmp((uint8_t *)keys + x->key, (uint8_t *)keys + y->key, size);
    if (rc != 0) return rc;
    return x->key_bytes < y->key_bytes ? -1 : x->key_bytes > y->key_bytes;
}

static int apply_ops(struct applier_disk *a, const struct applier_ops *ops, MDB_dbi table) {
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(a->txn, table, &cursor);
    if (rc != 0) return rc;
    for (uint32_t i = 0; i < ops->count && rc == 0; i++) {
        const struct applier_op *op = &ops->list[i];
        MDB_val key = view_val(a->keys + op->key, op->key_bytes), value = view_val("", 0);
        if (op->put) {
            rc = mdb_cursor_put(cursor, &key, &value, 0);
            a->stats.rows_put++;
            continue;
        }
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET);
        if (rc == 0) rc = mdb_cursor_del(cursor, 0);
        else if (rc == MDB_NOTFOUND) rc = 0;
        a->stats.rows_deleted++;
    }
    mdb_cursor_close(cursor);
    return rc;
}

/* The order as its rows have it: what never changes stands in the block, the rest was noted. */
static void order_before(const struct overlay_order *o, const struct view_order *now,
                         struct view_order *before) {
    *before = *now;
    before->exists = o->was_placed;
    before->open = o->was_open;
    before->state = o->was_state;
    before->last_index = o->was_last_index;
}

static bool collect_ops(struct applier *a, const struct overlay_order *o) {
    const struct overlay_version *version = atomic_load_explicit(&o->newest, memory_order_relaxed);
    uint8_t old_key[VIEW_KEY_BYTES_MAX], new_key[VIEW_KEY_BYTES_MAX];
    struct view_order now, before;
    view_order_of(overlay_block(version), version->shard, &now);
    order_before(o, &now, &before);
    for (int v = 0; v < VIEWS_COUNT; v++) {
        if (!views[v].key || !(o->events & views[v].events)) continue;
        uint32_t old_bytes = views[v].key(&before, old_key);
        uint32_t new_bytes = views[v].key(&now, new_key);
        if (old_bytes == new_bytes && memcmp(old_key, new_key, old_bytes) == 0) continue;
        if (old_bytes != 0 && !add_op(&a->disk, &a->disk.ops[v], old_key, old_bytes, false))
            return false;
        if (new_bytes != 0 && !add_op(&a->disk, &a->disk.ops[v], new_key, new_bytes, true))
            return false;
    }
    return true;
}

static void ask_memory(const struct applier_disk *d, uint32_t i, uint32_t count) {
    if (i + WRITE_AHEAD < count) prefetch_read(d->sorted[i + WRITE_AHEAD].order);
    if (i + WRITE_AHEAD / 2 >= count) return;
    const uint8_t *block = (const void *)atomic_load_explicit(
        &d->sorted[i + WRITE_AHEAD / 2].order->newest, memory_order_relaxed);
    for (int line = 0; line < 6; line++) prefetch_read(block + 64 * line);
}

/* Writes the orders, and collects what becomes of their rows: a block is looked at once. */
static int write_orders(struct applier *a, uint32_t count) {
    struct applier_disk *d = &a->disk;
    MDB_cursor *cursor;
    for (int v = 0; v < VIEWS_COUNT; v++) d->ops[v].count = 0;
    d->keys_bytes = 0;
    int rc = mdb_cursor_open(d->txn, a->store->orders, &cursor);
    if (rc != 0) return rc;
    MDB_val newest = {0, NULL};
    struct id128 last = {{0}};
    if (mdb_cursor_get(cursor, &newest, &(MDB_val){0}, MDB_LAST) == 0 && newest.mv_size == 16)
        memcpy(last.bytes, newest.mv_data, 16);
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        ask_memory(d, i, count);
        /* They come by key: once one lies behind the newest, so do all that follow. */
        bool append = memcmp(d->sorted[i].order->key.bytes, last.bytes, 16) > 0;
        rc = put_order(a, cursor, d->sorted[i].order, append);
        if (rc == 0 && !collect_ops(a, d->sorted[i].order)) rc = ENOMEM;
    }
    mdb_cursor_close(cursor);
    return rc;
}

static int write_index(struct applier *a, enum view_number v) {
    struct applier_ops *ops = &a->disk.ops[v];
    const struct view_table *t = &a->store->tables[v];
    if (ops->count == 0) return 0;
    qsort_r(ops->list, ops->count, sizeof *ops->list, by_op_key, a->disk.keys);
    int rc = 0;
    if (t->generation != 0) rc = apply_ops(&a->disk, ops, t->sides[t->generation % 2]);
    if (rc == 0 && t->building)
        rc = apply_ops(&a->disk, ops, t->sides[(t->generation + 1) % 2]);
    return rc;
}

/* -- sums -------------------------------------------------------------------------------------- */

static int add_numbers(struct applier_disk *d, MDB_dbi table, const uint8_t *name,
                       uint32_t name_bytes, const int64_t more[VIEW_NUMBERS]) {
    int64_t numbers[VIEW_NUMBERS];
    MDB_val key = view_val(name, name_bytes), value;
    memcpy(numbers, more, sizeof numbers);
    int rc = mdb_get(d->txn, table, &key, &value);
    if (rc == 0 && value.mv_size == sizeof numbers) {
        int64_t stored[VIEW_NUMBERS];
        memcpy(stored, value.mv_data, sizeof stored);
        for (int n = 0; n < VIEW_NUMBERS; n++) numbers[n] = view_add(numbers[n], stored[n]);
    }
    if (rc != 0 && rc != MDB_NOTFOUND) return rc;
    value = view_val(numbers, sizeof numbers);
    d->stats.rows_put++;
    return mdb_put(d->txn, table, &key, &value, 0);
}

static int write_sums(struct applier *a, enum view_number v, const struct overlay *from) {
    const struct view_table *t = &a->store->tables[v];
    struct sums *rolled = &a->disk.rolled;
    MDB_dbi table = t->sides[t->generation % 2];
    int rc = 0;
    if (t->generation == 0) return 0;
    sums_clear(rolled);
    const struct overlay_sum *e = atomic_load(&from->sums[v]);
    for (; e && rc == 0; e = e->next) {
        struct view_sum sum = {.key_bytes = e->key_bytes}, coarser;
        memcpy(sum.key, e->key, sum.key_bytes);
        memcpy(sum.numbers, atomic_load(&e->newest)->numbers, sizeof sum.numbers);
        for (uint32_t n = 0; views[v].roll_up && views[v].roll_up(&sum, n, &coarser); n++) {
            if (!sums_add(rolled, &coarser)) return ENOMEM;
        }
        rc = add_numbers(&a->disk, table, sum.key, sum.key_bytes, sum.numbers);
    }
    for (uint32_t i = 0; i < rolled->count && rc == 0; i++)
        rc = add_numbers(&a->disk, table, sums_key(rolled, &rolled->entries[i]),
                         rolled->entries[i].key_bytes, rolled->entries[i].numbers);
    return rc;
}

/* -- the transaction --------------------------------------------------------------------------- */

/* 0 or a code: the table goes into the open transaction. */
static int applier_write_table(struct applier *a, const struct overlay *t) {
    if (!sort_orders(&a->disk, t)) return ENOMEM;
    int rc = write_orders(a, t->orders_count);
    for (int v = 0; v < VIEWS_COUNT && rc == 0; v++) {
        if (views[v].key) rc = write_index(a, (enum view_number)v);
        else rc = write_sums(a, (enum view_number)v, t);
    }
    if (rc == 0)
        rc = view_put_positions(a->store, a->disk.txn, t->positions, t->positions_count);
    if (rc == 0) rc = view_put_overlay(a->store, a->disk.txn, t->id);
    return rc;
}

/* *put: it stays to be put again until the transaction is on disk. */
static int put_cluster_id(struct applier *a, bool *put) {
    char cluster_id[sizeof a->cluster_id];
    pthread_mutex_lock(&a->lock);
    memcpy(cluster_id, a->cluster_id, sizeof cluster_id);
    pthread_mutex_unlock(&a->lock);
    *put = cluster_id[0] != 0;
    return *put ? view_put_cluster_id(a->store, a->disk.txn, cluster_id) : 0;
}

/* What a transaction that came to nothing began or finished has not happened. */
static void take_back(struct applier *a, const uint32_t generations[VIEWS_COUNT]) {
    for (int v = 0; v < VIEWS_COUNT; v++) {
        struct applier_scan *scan = &a->disk.scans[v];
        struct view_table *t = &a->store->tables[v];
        if (scan->running || t->generation != generations[v])
            *scan = (struct applier_scan){.wanted = true};
        t->generation = generations[v];
        t->building = false;
    }
}

static enum applier_outcome write_frozen(struct applier *a, const struct overlay *frozen) {
    uint32_t generations[VIEWS_COUNT];
    struct applier_disk *d = &a->disk;
    int64_t began_ns = clock_mono_ns();
    for (int v = 0; v < VIEWS_COUNT; v++) generations[v] = a->store->tables[v].generation;
    for (uint32_t i = 0; frozen && i < frozen->positions_count; i++) {
        if (frozen->positions[i].time_ms > d->newest_ms)
            d->newest_ms = frozen->positions[i].time_ms;
    }
    d->txn = view_write_begin(a->store);
    bool identified;
    int rc = put_cluster_id(a, &identified);
    if (rc == 0 && frozen) rc = applier_write_table(a, frozen);
    if (rc == 0) rc = applier_build(a);
    if (rc == 0) rc = applier_prune(a);
    if (rc == 0) rc = view_write_commit(a->store, d->txn);
    else view_write_abort(a->store, d->txn);
    d->txn = NULL;
    if (rc != 0) {
        take_back(a, generations);
        return rc == ENOMEM ? APPLIER_NO_MEMORY : APPLIER_NO_ROOM;
    }
    if (frozen) view_thaw(a->store);
    d->stats.transactions++;
    d->stats.write_ns += (uint64_t)(clock_mono_ns() - began_ns);
    pthread_mutex_lock(&a->lock);
    if (identified) a->cluster_id[0] = 0;
    a->disk_stats = d->stats;
    pthread_mutex_unlock(&a->lock);
    return APPLIER_TAKEN;
}

static bool has_work(struct applier *a) {
    pthread_mutex_lock(&a->lock);
    bool work = a->cluster_id[0] != 0;
    pthread_mutex_unlock(&a->lock);
    return work || view_frozen(a->store) || applier_is_building(a);
}

bool applier_has_work(struct applier *a) {
    pthread_mutex_lock(&a->disk_lock);
    bool work = has_work(a);
    pthread_mutex_unlock(&a->disk_lock);
    return work;
}

enum applier_outcome applier_write(struct applier *a) {
    enum applier_outcome outcome = APPLIER_TAKEN;
    pthread_mutex_lock(&a->disk_lock);
    if (has_work(a)) outcome = write_frozen(a, view_frozen(a->store));
    pthread_mutex_unlock(&a->disk_lock);
    return outcome;
}

enum applier_outcome applier_settle(struct applier *a) {
    enum applier_outcome outcome = applier_write(a);
    if (outcome != APPLIER_TAKEN || !a->store->active->published) return outcome;
    return applier_freeze(a) ? applier_write(a) : APPLIER_NO_MEMORY;
}

void applier_rebuild(struct applier *a, enum view_number view) {
    pthread_mutex_lock(&a->disk_lock);
    if (views[view].key && !a->disk.scans[view].running) a->disk.scans[view].wanted = true;
    pthread_mutex_unlock(&a->disk_lock);
}
