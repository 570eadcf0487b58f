/* Writing a checkpoint into the state: all of it in the caller's one transaction. */
#include <string.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "persistence/lmdb/internal.h"

/* A table that is written to in the order of its keys. The cursor stays where the last one went, so
 * that most need no search from the root. */
struct state_writer {
    MDB_cursor *cursor;  /* NULL = not written to yet */
    size_t key_bytes;
    uint8_t last[sizeof(struct timer_row)]; /* the greatest key */
    bool empty;
};
static_assert(sizeof(struct timer_row) >= sizeof(struct id128), "both kinds of keys fit");

static int state_writer_open(struct storage_lmdb *s, MDB_txn *txn, int table, size_t key_bytes,
                             struct state_writer *w) {
    if (w->cursor) return 0;
    MDB_val key, value;
    w->key_bytes = key_bytes;
    int rc = mdb_cursor_open(txn, s->state_tables[table], &w->cursor);
    if (rc == 0) rc = mdb_cursor_get(w->cursor, &key, &value, MDB_LAST);
    w->empty = rc == MDB_NOTFOUND;
    if (rc == 0 && key.mv_size != key_bytes) return MDB_CORRUPTED;
    if (rc == 0) memcpy(w->last, key.mv_data, key_bytes);
    return w->empty ? 0 : rc;
}

static void state_writers_close(struct state_writer writers[STATE_TABLES]) {
    for (int i = 0; i < STATE_TABLES; i++)
        if (writers[i].cursor) mdb_cursor_close(writers[i].cursor);
}

/* Room for a value under the key. New orders come in the order of their births, which is that of
 * their keys: behind all others they fill whole pages, where the middle would leave them half
 * empty, and twice as many to write. */
static int state_writer_put(struct state_writer *w, MDB_val *key, MDB_val *value) {
    bool behind = w->empty || memcmp(key->mv_data, w->last, w->key_bytes) > 0;
    int rc = mdb_cursor_put(w->cursor, key, value, MDB_RESERVE | (behind ? MDB_APPEND : 0));
    if (rc == 0 && behind) {
        memcpy(w->last, key->mv_data, w->key_bytes);
        w->empty = false;
    }
    return rc;
}

static int state_writer_remove(struct state_writer *w, MDB_val *key) {
    MDB_val value;
    int rc = mdb_cursor_get(w->cursor, key, &value, MDB_SET);
    if (rc == MDB_NOTFOUND) return 0;
    if (rc == 0) rc = mdb_cursor_del(w->cursor, 0);
    if (rc != 0 || memcmp(key->mv_data, w->last, w->key_bytes) != 0) return rc;
    /* Which one is the greatest now? */
    mdb_cursor_close(w->cursor);
    w->cursor = NULL;
    return 0;
}

static int state_put_item(struct storage_lmdb *s, MDB_txn *txn, const struct checkpoint *c,
                          const struct checkpoint_item *item, struct state_writer *writers) {
    int table = state_table_of(item->kind);
    require(table >= 0);
    MDB_val key = storage_val(item->key.bytes, sizeof item->key.bytes);
    struct state_writer *w = &writers[table];
    int rc = state_writer_open(s, txn, table, sizeof item->key.bytes, w);
    if (rc != 0) return rc;
    if (item->remove) return state_writer_remove(w, &key);
    require(item->bytes >= sizeof(struct actor) && item->bytes <= ACTOR_BYTES_MAX);
    require((uint64_t)item->offset + item->bytes <= c->blocks_bytes);
    const uint8_t *block = c->blocks + item->offset;
    struct actor actor;
    memcpy(&actor, block, sizeof actor);
    require(actor.kind == item->kind && actor.bytes == item->bytes);
    require(id128_equal(&actor.key, &item->key));
    struct snapshot_header header = {.bytes = item->bytes, .format = STORAGE_FORMAT,
                                     .kind = item->kind};
    header.checksum = state_snapshot_checksum(&header, block);
    MDB_val value = {sizeof header + item->bytes, NULL};
    rc = state_writer_put(w, &key, &value);
    if (rc != 0) return rc;
    memcpy(value.mv_data, &header, sizeof header);
    memcpy((uint8_t *)value.mv_data + sizeof header, block, item->bytes);
    return 0;
}

static int state_put_timer(struct storage_lmdb *s, MDB_txn *txn, const struct timer_change *change,
                           struct state_writer *w) {
    struct timer_row row;
    storage_be64(row.deadline_be, change->deadline_ms);
    storage_be64(row.key.bytes, change->key_high);
    storage_be64(row.key.bytes + 8, change->key_low);
    MDB_val key = storage_val(&row, sizeof row), value = {sizeof change->kind, NULL};
    int rc = state_writer_open(s, txn, STATE_TIMERS, sizeof row, w);
    if (rc != 0 || !change->put) return rc != 0 ? rc : state_writer_remove(w, &key);
    rc = state_writer_put(w, &key, &value);
    if (rc == 0) *(uint8_t *)value.mv_data = change->kind;
    return rc;
}

static int state_put_cursor(struct storage_lmdb *s, MDB_txn *txn,
                            const struct checkpoint_cursor *c) {
    size_t name_bytes = strnlen(c->name, sizeof c->name);
    require(name_bytes > 0 && c->bytes <= sizeof c->value);
    uint8_t row[8 + sizeof c->value];
    uint64_t checksum = state_cursor_checksum(c);
    memcpy(row, &checksum, 8);
    memcpy(row + 8, c->value, c->bytes);
    MDB_val key = storage_val(c->name, name_bytes), value = storage_val(row, 8 + c->bytes);
    return mdb_put(txn, s->state_tables[STATE_CURSORS], &key, &value, 0);
}

static int state_put_marker(struct storage_lmdb *s, MDB_txn *txn, const struct checkpoint *c) {
    struct { struct marker_row row; uint8_t configuration[4096]; } marker;
    require(c->configuration_bytes <= sizeof marker.configuration);
    marker.row = (struct marker_row){.applied_index = c->applied_index,
                                     .applied_term = c->applied_term,
                                     .configuration_index = c->configuration_index,
                                     .configuration_bytes = c->configuration_bytes};
    if (c->configuration_bytes > 0) {
        memcpy(marker.configuration, c->configuration, c->configuration_bytes);
    }
    size_t bytes = sizeof marker.row + c->configuration_bytes;
    marker.row.checksum = XXH3_64bits((uint8_t *)&marker + 8, bytes - 8);
    MDB_val key = storage_val(STATE_MARKER_KEY, sizeof STATE_MARKER_KEY - 1);
    MDB_val value = storage_val(&marker, bytes);
    return mdb_put(txn, s->state_tables[STATE_META], &key, &value, 0);
}

int state_put_checkpoint(struct storage_lmdb *s, MDB_txn *txn, const struct checkpoint *c,
                         const struct checkpoint_order *order) {
    int rc = 0;
    struct state_writer writers[STATE_TABLES] = {{.cursor = NULL}};
    for (uint32_t i = 0; rc == 0 && i < order->places_count; i++) {
        rc = state_put_item(s, txn, c, &c->items[order->places[i].item], writers);
    }
    for (uint32_t i = 0; rc == 0 && i < order->changes_count; i++) {
        rc = state_put_timer(s, txn, &order->changes[i], &writers[STATE_TIMERS]);
    }
    state_writers_close(writers);
    for (uint32_t i = 0; rc == 0 && i < c->cursors_count; i++) {
        rc = state_put_cursor(s, txn, &c->cursors[i]);
    }
    return rc == 0 ? state_put_marker(s, txn, c) : rc;
}
