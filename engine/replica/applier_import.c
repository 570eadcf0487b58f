/* A node's stored state of one shard -> rows. The file is the state environment of
 * docs/formats.md: table `orders`, key -> snapshot header and block. Its blocks may be newer than
 * its marker; the log from the marker on brings the rest, and what an order has already is
 * skipped. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "actors/order/order.h"
#include "engine/replica/applier_internal.h"

/* Of one step: what comes from other shards waits so long. */
enum { IMPORT_STEP_ORDERS = 2000, IMPORT_STEP_LOOKED = 10000 };

/* The header of a stored snapshot, as docs/formats.md has it. */
struct stored_header { uint64_t checksum; uint32_t bytes; uint16_t format; uint8_t kind, spare; };

struct applier_import {
    struct applier *a;
    uint32_t shard;
    uint64_t index, before;        /* `before`: the table that what was there when it began is in */
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi orders;
    MDB_cursor *cursor;            /* at the next order of the file */
    MDB_val key, value;
    int rc;                        /* of the cursor: 0 = there is one */
    bool first;                    /* nothing was looked at yet that may have to go */
    struct id128 after;            /* looked at up to here */
    uint64_t newest_index;
    int64_t newest_ms;
    uint8_t *block;                /* ACTOR_BYTES_MAX, aligned */
    char *error;                   /* of the call at hand */
    size_t error_bytes;
    char path[];
};

static enum applier_outcome failed(struct applier_import *m, enum applier_outcome outcome,
                                   const char *what) {
    snprintf(m->error, m->error_bytes, "%s: %s", m->path, what);
    if (m->a->begun) applier_abort(m->a);
    return outcome;
}

static int import_open(struct applier_import *m) {
    int rc = mdb_env_create(&m->env);
    if (rc == 0) rc = mdb_env_set_maxdbs(m->env, 16);
    if (rc == 0)
        rc = mdb_env_open(m->env, m->path, MDB_RDONLY | MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS,
                          0640);
    if (rc == 0) rc = mdb_txn_begin(m->env, NULL, MDB_RDONLY, &m->txn);
    if (rc == 0) rc = mdb_dbi_open(m->txn, "orders", 0, &m->orders);
    if (rc == 0) rc = mdb_cursor_open(m->txn, m->orders, &m->cursor);
    if (rc == 0) m->rc = mdb_cursor_get(m->cursor, &m->key, &m->value, MDB_FIRST);
    return rc == 0 && m->rc != MDB_NOTFOUND ? m->rc : rc;
}

/* The block of a row, checked and aligned; NULL = damaged. */
static const struct actor *import_block(struct applier_import *m, MDB_val value) {
    struct stored_header head;
    if (value.mv_size <= sizeof head || value.mv_size - sizeof head > ACTOR_BYTES_MAX) return NULL;
    memcpy(&head, value.mv_data, sizeof head);
    const uint8_t *data = value.mv_data;
    if (XXH3_64bits(data + 8, value.mv_size - 8) != head.checksum) return NULL;
    if (head.bytes != value.mv_size - sizeof head) return NULL;
    memcpy(m->block, data + sizeof head, head.bytes);
    return order_is_well_formed(m->block, head.bytes) ? (const void *)m->block : NULL;
}

static enum applier_outcome put_orders(struct applier_import *m) {
    struct applier *a = m->a;
    for (uint32_t count = 0; m->rc == 0 && count < IMPORT_STEP_ORDERS; count++) {
        const struct actor *block = import_block(m, m->value);
        if (!block) return failed(m, APPLIER_DAMAGED, "an order of it is damaged");
        struct order_view v;
        order_view(block, &v);
        if (v.last_index > m->newest_index) m->newest_index = v.last_index;
        if (v.updated_ms > m->newest_ms) m->newest_ms = v.updated_ms;
        struct fold_order *o = applier_order_of(a, &block->key, m->shard);
        if (!o || fold_replace(a->fold, o, m->shard, block) == FOLD_NO_MEMORY)
            return failed(m, APPLIER_NO_MEMORY, "no memory");
        m->rc = mdb_cursor_get(m->cursor, &m->key, &m->value, MDB_NEXT);
        if (m->rc != 0 && m->rc != MDB_NOTFOUND)
            return failed(m, APPLIER_DAMAGED, mdb_strerror(m->rc));
        if (applier_taken_bytes(a) >= applier_room(a)) break;
    }
    return APPLIER_TAKEN;
}

/* Orders of the shard that the node has not got any more: they ended in the stretch of the log that
 * is missing here. Those that were there when the import began are on the disk; nothing else of the
 * shard was taken since. *more: there are some that were not looked at. */
static enum applier_outcome remove_others(struct applier_import *m, bool *more) {
    MDB_cursor *cursor;
    MDB_val key = view_val(m->after.bytes, 16), value, unused;
    uint32_t looked = 0;
    int rc = mdb_cursor_open(m->a->read.txn, m->a->store->orders, &cursor);
    if (rc != 0) return failed(m, APPLIER_NO_MEMORY, mdb_strerror(rc));
    rc = mdb_cursor_get(cursor, &key, &value, m->first ? MDB_FIRST : MDB_SET_RANGE);
    if (rc == 0 && !m->first && memcmp(key.mv_data, m->after.bytes, 16) == 0)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    for (; rc == 0 && looked < IMPORT_STEP_LOOKED;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct view_order_row row = {UINT32_MAX, 0};
        looked++;
        m->first = false;
        memcpy(m->after.bytes, key.mv_data, 16);
        if (value.mv_size > sizeof row) memcpy(&row, value.mv_data, sizeof row);
        if (row.shard != m->shard) continue;
        rc = mdb_get(m->txn, m->orders, &key, &unused);
        if (rc == 0) continue;
        if (rc != MDB_NOTFOUND) break;
        struct fold_order *o = applier_order_of(m->a, &m->after, m->shard);
        if (!o) rc = ENOMEM;
        if (!o) break;
        if (o->block && o->shard == m->shard) fold_remove(m->a->fold, o);
    }
    *more = rc == 0;
    mdb_cursor_close(cursor);
    if (rc == 0 || rc == MDB_NOTFOUND) return APPLIER_TAKEN;
    return failed(m, rc == ENOMEM ? APPLIER_NO_MEMORY : APPLIER_DAMAGED, mdb_strerror(rc));
}

/* The shard is as the file has it, and its log goes on behind. */
static void make_whole(struct applier_import *m) {
    struct view_position *p = applier_position_of(m->a, m->shard);
    p->lacks = VIEW_WHOLE;
    p->index = m->index;
    p->counted_from = (m->newest_index > m->index ? m->newest_index : m->index) + 1;
    if (m->newest_ms > p->time_ms) p->time_ms = m->newest_ms;
}

enum applier_outcome applier_import_step(struct applier_import *m, enum applier_import_state *state,
                                         char *error, size_t error_bytes) {
    bool more = true;
    m->error = error;
    m->error_bytes = error_bytes;
    if (!applier_begin(m->a)) return failed(m, APPLIER_NO_MEMORY, "no room to read");
    enum applier_outcome outcome = APPLIER_TAKEN;
    *state = APPLIER_IMPORT_GOES_ON;
    if (m->rc == 0) {
        outcome = put_orders(m);
    } else if (view_disk_overlay(m->a->store, m->a->read.txn) < m->before) {
        *state = APPLIER_IMPORT_WAITS;
    } else {
        outcome = remove_others(m, &more);
        if (outcome == APPLIER_TAKEN && !more) make_whole(m);
    }
    if (outcome != APPLIER_TAKEN) return outcome;
    outcome = applier_commit(m->a);
    if (outcome != APPLIER_TAKEN) return failed(m, outcome, "no memory");
    if (!more) *state = APPLIER_IMPORT_DONE;
    return APPLIER_TAKEN;
}

/* From now on the shard lacks something, also after an end in between. */
static enum applier_outcome mark(struct applier_import *m) {
    struct applier *a = m->a;
    /* Entries in between would be counted once more. */
    if (m->index + 1 < applier_next(a, m->shard))
        return failed(m, APPLIER_GAP, "it is older than what is here");
    if (!applier_begin(a)) return failed(m, APPLIER_NO_MEMORY, "no room to read");
    applier_position_of(a, m->shard)->lacks = VIEW_IMPORTING;
    enum applier_outcome outcome = applier_commit(a);
    if (outcome != APPLIER_TAKEN) return failed(m, outcome, "no memory");
    m->before = a->store->active->id - (a->store->active->published ? 0 : 1);
    return APPLIER_TAKEN;
}

enum applier_outcome applier_import_begin(struct applier *a, uint32_t shard, const char *path,
                                          uint64_t index, struct applier_import **import,
                                          char *error, size_t error_bytes) {
    struct applier_import *m = calloc(1, sizeof *m + strlen(path) + 1);
    *import = NULL;
    if (m) m->block = malloc(ACTOR_BYTES_MAX);
    if (!m || !m->block) {
        snprintf(error, error_bytes, "%s: no memory", path);
        free(m);
        return APPLIER_NO_MEMORY;
    }
    m->a = a;
    m->shard = shard;
    m->index = index;
    m->first = true;
    m->error = error;
    m->error_bytes = error_bytes;
    memcpy(m->path, path, strlen(path) + 1);
    int rc = import_open(m);
    enum applier_outcome outcome =
        rc == 0 ? mark(m) : failed(m, APPLIER_DAMAGED, mdb_strerror(rc));
    if (outcome == APPLIER_TAKEN) *import = m;
    else applier_import_end(m);
    return outcome;
}

void applier_import_end(struct applier_import *m) {
    if (m->cursor) mdb_cursor_close(m->cursor);
    if (m->txn) mdb_txn_abort(m->txn);
    if (m->env) mdb_env_close(m->env);
    free(m->block);
    free(m);
}
