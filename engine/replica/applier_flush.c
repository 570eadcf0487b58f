/* Orders, index rows and sums of a batch -> the transaction, sorted by key: neighbours in a tree
 * are written one behind the other, and a page is found and copied once. */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/replica/applier_internal.h"

/* -- orders ------------------------------------------------------------------------------------ */

static int by_order_key(const void *a, const void *b) {
    const struct fold_order *x = *(struct fold_order *const *)a;
    const struct fold_order *y = *(struct fold_order *const *)b;
    uint64_t p = view_get_u64(x->key.bytes), q = view_get_u64(y->key.bytes);
    if (p != q) return p < q ? -1 : 1;
    return memcmp(x->key.bytes + 8, y->key.bytes + 8, 8);
}

static bool sort_orders(struct applier *a, uint32_t count) {
    if (count > a->sorted_capacity) {
        struct fold_order **sorted = realloc(a->sorted, count * 2 * sizeof *sorted);
        if (!sorted) return false;
        a->sorted = sorted;
        a->sorted_capacity = count * 2;
    }
    uint32_t n = 0;
    for (struct fold_order *o = fold_dirty(a->fold); o; o = o->next_dirty) a->sorted[n++] = o;
    require(n == count);
    qsort(a->sorted, count, sizeof *a->sorted, by_order_key);
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

static int flush_orders(struct applier *a, uint32_t count) {
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(a->txn, a->store->orders, &cursor);
    if (rc != 0) return rc;
    for (uint32_t i = 0; i < count && rc == 0; i++) rc = put_order(a, cursor, a->sorted[i]);
    mdb_cursor_close(cursor);
    return rc;
}

/* -- index rows -------------------------------------------------------------------------------- */

static bool add_op(struct applier *a, const uint8_t *key, uint32_t key_bytes, bool put) {
    if (a->ops_count == a->ops_capacity) {
        uint32_t capacity = a->ops_capacity ? a->ops_capacity * 2 : 4096;
        struct applier_op *ops = realloc(a->ops, capacity * sizeof *ops);
        if (!ops) return false;
        a->ops = ops;
        a->ops_capacity = capacity;
    }
    if (a->keys_capacity - a->keys_bytes < VIEW_KEY_BYTES_MAX + 9) {
        size_t capacity = a->keys_capacity ? a->keys_capacity * 2 : 1u << 18;
        uint8_t *keys = realloc(a->keys, capacity);
        if (!keys) return false;
        a->keys = keys;
        a->keys_capacity = capacity;
    }
    uint8_t first[8] = {0};
    memcpy(first, key, key_bytes < 8 ? key_bytes : 8);
    a->ops[a->ops_count++] =
        (struct applier_op){view_get_u64(first), (uint32_t)a->keys_bytes, key_bytes, put};
    memcpy(a->keys + a->keys_bytes, key, key_bytes);
    a->keys_bytes += key_bytes;
    return true;
}

static int by_op_key(const void *a, const void *b, void *keys) {
    const struct applier_op *x = a, *y = b;
    if (x->prefix != y->prefix) return x->prefix < y->prefix ? -1 : 1;
    uint32_t size = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
    int rc = memcmp((uint8_t *)keys + x->key, (uint8_t *)keys + y->key, size);
    if (rc != 0) return rc;
    return x->key_bytes < y->key_bytes ? -1 : x->key_bytes > y->key_bytes;
}

static int apply_ops(struct applier *a, MDB_dbi table) {
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(a->txn, table, &cursor);
    if (rc != 0) return rc;
    for (uint32_t i = 0; i < a->ops_count && rc == 0; i++) {
        const struct applier_op *op = &a->ops[i];
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

static int flush_index(struct applier *a, enum view_number v, uint32_t count) {
    uint8_t old_key[VIEW_KEY_BYTES_MAX], new_key[VIEW_KEY_BYTES_MAX];
    struct view_order now, before;
    a->ops_count = 0;
    a->keys_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct fold_order *o = a->sorted[i];
        if (!(o->events & views[v].events)) continue;
        view_order_of(o->block, o->shard, &now);
        order_before(o, &now, &before);
        uint32_t old_bytes = views[v].key(&before, old_key);
        uint32_t new_bytes = views[v].key(&now, new_key);
        if (old_bytes == new_bytes && memcmp(old_key, new_key, old_bytes) == 0) continue;
        if (old_bytes != 0 && !add_op(a, old_key, old_bytes, false)) return ENOMEM;
        if (new_bytes != 0 && !add_op(a, new_key, new_bytes, true)) return ENOMEM;
    }
    if (a->ops_count == 0) return 0;
    qsort_r(a->ops, a->ops_count, sizeof *a->ops, by_op_key, a->keys);
    const struct view_table *t = &a->store->tables[v];
    int rc = 0;
    if (t->generation != 0) rc = apply_ops(a, t->sides[t->generation % 2]);
    if (rc == 0 && t->building) rc = apply_ops(a, t->sides[(t->generation + 1) % 2]);
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
        if (views[v].key) rc = flush_index(a, (enum view_number)v, count);
        else rc = flush_sums(a, (enum view_number)v);
    }
    return rc;
}
