/* Orders, index rows and sums of a batch -> the transaction, sorted by key: neighbours in a tree
 * are written one behind the other, and a page is found and copied once. */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/replica/applier_internal.h"

enum { FLUSH_AHEAD = 8 }; /* orders whose memory is asked for before they are written */

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

static bool sort_orders(struct applier *a, uint32_t count) {
    if (count > a->sorted_capacity) {
        struct applier_sorted *sorted = realloc(a->sorted, count * 2 * sizeof *sorted);
        if (!sorted) return false;
        a->sorted = sorted;
        a->sorted_capacity = count * 2;
    }
    uint32_t n = 0;
    for (struct fold_order *o = fold_dirty(a->fold); o; o = o->next_dirty) {
        a->sorted[n++] = (struct applier_sorted){
            {view_get_u64(o->key.bytes), view_get_u64(o->key.bytes + 8)}, o};
    }
    require(n == count);
    if (count > 1) qsort(a->sorted, count, sizeof *a->sorted, by_order_key);
    return true;
}

static int put_order(struct applier *a, MDB_cursor *cursor, const struct fold_order *o) {
    MDB_val key = view_val(o->key.bytes, 16), value;
    if (o->block->flags & ACTOR_RETIRED) {
        if (!o->was_there) return 0;
        int rc = mdb_del(a->txn, a->store->orders, &key, NULL);
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    const struct view_order_row head = {o->shard, 0};
    value.mv_size = sizeof head + o->block->bytes;
    int rc = mdb_cursor_put(cursor, &key, &value, MDB_RESERVE);
    if (rc != 0) return rc;
    memcpy(value.mv_data, &head, sizeof head);
    memcpy((uint8_t *)value.mv_data + sizeof head, o->block, o->block->bytes);
    a->stats.orders_written++;
    return 0;
}

/* -- index rows ------------------------------------------------------------------------------ */

static bool add_op(struct applier *a, struct applier_ops *ops, const uint8_t *key,
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
    uint8_t first[16] = {0};
    memcpy(first, key, key_bytes < 16 ? key_bytes : 16);
    ops->list[ops->count++] =
        (struct applier_op){{view_get_u64(first), view_get_u64(first + 8)}, a->keys_bytes,
                            (uint16_t)key_bytes, put};
    memcpy(a->keys + a->keys_bytes, key, key_bytes);
    a->keys_bytes += key_bytes;
    return true;
}

static int by_op_key(const void *a, const void *b, void *keys) {
    const struct applier_op *x = a, *y = b;
    int rc = by_prefix(x->prefix, y->prefix);
    if (rc != 0) return rc;
    uint32_t size = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
    rc = memcmp((uint8_t *)keys + x->key, (uint8_t *)keys + y->key, size);
    if (rc != 0) return rc;
    return x->key_bytes < y->key_bytes ? -1 : x->key_bytes > y->key_bytes;
}

static int apply_ops(struct applier *a, const struct applier_ops *ops, MDB_dbi table) {
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
static void order_before(const struct fold_order *o, const struct view_order *now,
                         struct view_order *before) {
    *before = *now;
    before->exists = o->was_placed;
    before->open = o->was_open;
    before->state = o->was_state;
    before->last_index = o->was_last_index;
}

static bool collect_ops(struct applier *a, const struct fold_order *o) {
    uint8_t old_key[VIEW_KEY_BYTES_MAX], new_key[VIEW_KEY_BYTES_MAX];
    struct view_order now, before;
    view_order_of(o->block, o->shard, &now);
    order_before(o, &now, &before);
    for (int v = 0; v < VIEWS_COUNT; v++) {
        if (!views[v].key || !(o->events & views[v].events)) continue;
        uint32_t old_bytes = views[v].key(&before, old_key);
        uint32_t new_bytes = views[v].key(&now, new_key);
        if (old_bytes == new_bytes && memcmp(old_key, new_key, old_bytes) == 0) continue;
        if (old_bytes != 0 && !add_op(a, &a->ops[v], old_key, old_bytes, false)) return false;
        if (new_bytes != 0 && !add_op(a, &a->ops[v], new_key, new_bytes, true)) return false;
    }
    return true;
}

/* Writes the orders, and collects what becomes of their rows: a block is looked at once. */
static int flush_orders(struct applier *a, uint32_t count) {
    MDB_cursor *cursor;
    for (int v = 0; v < VIEWS_COUNT; v++) a->ops[v].count = 0;
    a->keys_bytes = 0;
    int rc = mdb_cursor_open(a->txn, a->store->orders, &cursor);
    if (rc != 0) return rc;
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        if (i + FLUSH_AHEAD < count) __builtin_prefetch(a->sorted[i + FLUSH_AHEAD].order);
        if (i + FLUSH_AHEAD / 2 < count) {
            const uint8_t *block = (void *)a->sorted[i + FLUSH_AHEAD / 2].order->block;
            for (int line = 0; line < 5; line++) __builtin_prefetch(block + 64 * line);
        }
        rc = put_order(a, cursor, a->sorted[i].order);
        if (rc == 0 && !collect_ops(a, a->sorted[i].order)) rc = ENOMEM;
    }
    mdb_cursor_close(cursor);
    return rc;
}

static int flush_index(struct applier *a, enum view_number v) {
    struct applier_ops *ops = &a->ops[v];
    const struct view_table *t = &a->store->tables[v];
    if (ops->count == 0) return 0;
    qsort_r(ops->list, ops->count, sizeof *ops->list, by_op_key, a->keys);
    int rc = 0;
    if (t->generation != 0) rc = apply_ops(a, ops, t->sides[t->generation % 2]);
    if (rc == 0 && t->building) rc = apply_ops(a, ops, t->sides[(t->generation + 1) % 2]);
    return rc;
}

/* -- sums -------------------------------------------------------------------------------------- */

static int add_numbers(struct applier *a, MDB_dbi table, const struct sums *sums) {
    int rc = 0;
    for (uint32_t i = 0; i < sums->count && rc == 0; i++) {
        const struct sums_entry *e = &sums->entries[i];
        int64_t numbers[VIEW_NUMBERS];
        MDB_val key = view_val(sums_key(sums, e), e->key_bytes), value;
        memcpy(numbers, e->numbers, sizeof numbers);
        rc = mdb_get(a->txn, table, &key, &value);
        if (rc == 0 && value.mv_size == sizeof numbers) {
            int64_t stored[VIEW_NUMBERS];
            memcpy(stored, value.mv_data, sizeof stored);
            for (int n = 0; n < VIEW_NUMBERS; n++) numbers[n] += stored[n];
        }
        if (rc != 0 && rc != MDB_NOTFOUND) return rc;
        value = view_val(numbers, sizeof numbers);
        rc = mdb_put(a->txn, table, &key, &value, 0);
        a->stats.rows_put++;
    }
    return rc;
}

static int flush_sums(struct applier *a, enum view_number v) {
    struct sums *fine = &a->sums[v];
    const struct view_table *t = &a->store->tables[v];
    if (fine->count == 0 || t->generation == 0) return 0;
    sums_clear(&a->rolled);
    for (uint32_t i = 0; i < fine->count; i++) {
        struct view_sum sum = {.key_bytes = fine->entries[i].key_bytes}, coarser;
        memcpy(sum.key, sums_key(fine, &fine->entries[i]), sum.key_bytes);
        memcpy(sum.numbers, fine->entries[i].numbers, sizeof sum.numbers);
        for (uint32_t n = 0; views[v].roll_up && views[v].roll_up(&sum, n, &coarser); n++) {
            if (!sums_add(&a->rolled, &coarser)) return ENOMEM;
        }
    }
    int rc = add_numbers(a, t->sides[t->generation % 2], fine);
    return rc == 0 ? add_numbers(a, t->sides[t->generation % 2], &a->rolled) : rc;
}

int applier_flush(struct applier *a) {
    uint32_t count = fold_dirty_count(a->fold);
    if (!sort_orders(a, count)) return ENOMEM;
    int rc = flush_orders(a, count);
    for (int v = 0; v < VIEWS_COUNT && rc == 0; v++) {
        if (views[v].key) rc = flush_index(a, (enum view_number)v);
        else rc = flush_sums(a, (enum view_number)v);
    }
    return rc;
}
