/* A node's stored state of one shard -> rows. The file is the state environment of
 * docs/formats.md: table `orders`, key -> snapshot header and block. Its blocks may be newer than
 * its marker; the log from the marker on brings the rest, and what an order has already is
 * skipped. */
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "actors/order/order.h"
#include "engine/replica/applier_internal.h"

enum { IMPORT_TRANSACTION_ORDERS = 20000 };

/* The header of a stored snapshot, as docs/formats.md has it. */
struct stored_header { uint64_t checksum; uint32_t bytes; uint16_t format; uint8_t kind, spare; };

struct import {
    struct applier *a;
    uint32_t shard;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi orders;
    uint64_t newest_index;
    int64_t newest_ms;
    uint8_t *block;                /* ACTOR_BYTES_MAX, aligned */
    const char *path;
    char *error;
    size_t error_bytes;
};

static enum applier_outcome failed(struct import *m, enum applier_outcome outcome,
                                   const char *what) {
    snprintf(m->error, m->error_bytes, "%s: %s", m->path, what);
    return outcome;
}

static int import_open(struct import *m) {
    int rc = mdb_env_create(&m->env);
    if (rc == 0) rc = mdb_env_set_maxdbs(m->env, 16);
    if (rc == 0)
        rc = mdb_env_open(m->env, m->path, MDB_RDONLY | MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS,
                          0640);
    if (rc == 0) rc = mdb_txn_begin(m->env, NULL, MDB_RDONLY, &m->txn);
    if (rc == 0) rc = mdb_dbi_open(m->txn, "orders", 0, &m->orders);
    return rc;
}

static void import_close(struct import *m) {
    if (m->txn) mdb_txn_abort(m->txn);
    if (m->env) mdb_env_close(m->env);
    free(m->block);
}

/* Puts what was taken so far on disk and begins the next transaction. */
static enum applier_outcome import_commit(struct import *m, bool begin) {
    enum applier_outcome outcome = applier_commit(m->a);
    if (outcome == APPLIER_TAKEN) outcome = applier_settle(m->a);
    if (outcome == APPLIER_TAKEN && begin && !applier_begin(m->a)) outcome = APPLIER_NO_MEMORY;
    return outcome == APPLIER_TAKEN ? outcome : failed(m, outcome, "no room for its orders");
}

/* The block of a row, checked and aligned; NULL = damaged. */
static const struct actor *import_block(struct import *m, MDB_val value) {
    struct stored_header head;
    if (value.mv_size <= sizeof head || value.mv_size - sizeof head > ACTOR_BYTES_MAX) return NULL;
    memcpy(&head, value.mv_data, sizeof head);
    const uint8_t *data = value.mv_data;
    if (XXH3_64bits(data + 8, value.mv_size - 8) != head.checksum) return NULL;
    if (head.bytes != value.mv_size - sizeof head) return NULL;
    memcpy(m->block, data + sizeof head, head.bytes);
    return order_is_well_formed(m->block, head.bytes) ? (const void *)m->block : NULL;
}

static enum applier_outcome put_orders(struct import *m) {
    MDB_cursor *cursor;
    MDB_val key, value;
    enum applier_outcome outcome = APPLIER_TAKEN;
    uint32_t count = 0;
    int rc = mdb_cursor_open(m->txn, m->orders, &cursor);
    if (rc != 0) return failed(m, APPLIER_DAMAGED, mdb_strerror(rc));
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == 0 && outcome == APPLIER_TAKEN;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        const struct actor *block = import_block(m, value);
        if (!block) {
            outcome = failed(m, APPLIER_DAMAGED, "an order of it is damaged");
            break;
        }
        struct order_view v;
        order_view(block, &v);
        if (v.last_index > m->newest_index) m->newest_index = v.last_index;
        if (v.updated_ms > m->newest_ms) m->newest_ms = v.updated_ms;
        struct fold_order *o = applier_order_of(m->a, &block->key, m->shard);
        if (!o || fold_replace(m->a->fold, o, m->shard, block) == FOLD_NO_MEMORY)
            outcome = failed(m, APPLIER_NO_MEMORY, "no memory");
        else if (++count % IMPORT_TRANSACTION_ORDERS == 0)
            outcome = import_commit(m, true);
    }
    mdb_cursor_close(cursor);
    return outcome;
}

/* Orders of the shard that the node has not got any more: they ended in the stretch of the log that
 * is missing here. */
static enum applier_outcome remove_others(struct import *m) {
    struct id128 after = {{0}};
    bool first = true, more = true;
    enum applier_outcome outcome = APPLIER_TAKEN;
    while (more && outcome == APPLIER_TAKEN) {
        MDB_cursor *cursor;
        MDB_val key = view_val(after.bytes, 16), value, unused;
        uint32_t looked = 0;
        int rc = mdb_cursor_open(m->a->read.txn, m->a->store->orders, &cursor);
        if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, first ? MDB_FIRST : MDB_SET_RANGE);
        if (rc == 0 && !first && memcmp(key.mv_data, after.bytes, 16) == 0)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        for (; rc == 0 && looked < IMPORT_TRANSACTION_ORDERS;
             rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
            struct view_order_row row = {UINT32_MAX, 0};
            looked++;
            first = false;
            memcpy(after.bytes, key.mv_data, 16);
            if (value.mv_size > sizeof row) memcpy(&row, value.mv_data, sizeof row);
            if (row.shard != m->shard) continue;
            if (mdb_get(m->txn, m->orders, &key, &unused) == 0) continue;
            struct fold_order *o = applier_order_of(m->a, &after, m->shard);
            if (o && o->block) fold_remove(m->a->fold, o);
        }
        more = rc == 0;
        mdb_cursor_close(cursor);
        outcome = import_commit(m, true);
    }
    return outcome;
}

static enum applier_outcome import_all(struct import *m, uint64_t index) {
    /* Entries in between would be counted once more. */
    if (index + 1 < applier_next(m->a, m->shard))
        return failed(m, APPLIER_GAP, "it is older than what is here");
    if (!applier_begin(m->a)) return failed(m, APPLIER_NO_MEMORY, "no room to read");
    applier_position_of(m->a, m->shard)->lacks = VIEW_IMPORTING;
    enum applier_outcome outcome = import_commit(m, true);
    if (outcome == APPLIER_TAKEN) outcome = put_orders(m);
    if (outcome == APPLIER_TAKEN) outcome = import_commit(m, true);
    if (outcome == APPLIER_TAKEN) outcome = remove_others(m);
    if (outcome != APPLIER_TAKEN) return outcome;
    struct view_position *p = applier_position_of(m->a, m->shard);
    p->lacks = VIEW_WHOLE;
    p->index = index;
    p->counted_from = (m->newest_index > index ? m->newest_index : index) + 1;
    if (m->newest_ms > p->time_ms) p->time_ms = m->newest_ms;
    return import_commit(m, false);
}

enum applier_outcome applier_import(struct applier *a, uint32_t shard, const char *path,
                                    uint64_t index, char *error, size_t error_bytes) {
    struct import m = {.a = a, .shard = shard, .path = path, .error = error,
                       .error_bytes = error_bytes, .block = malloc(ACTOR_BYTES_MAX)};
    enum applier_outcome outcome;
    int rc = m.block ? import_open(&m) : MDB_NOTFOUND;
    if (rc == 0) outcome = import_all(&m, index);
    else outcome = failed(&m, APPLIER_DAMAGED, m.block ? mdb_strerror(rc) : "no memory");
    if (a->begun) applier_abort(a);
    import_close(&m);
    return outcome;
}
