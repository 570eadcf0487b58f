/* Writing a checkpoint into the state: all of it in the caller's one transaction. */
#include <string.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "persistence/lmdb/internal.h"

static int state_put_timer(struct storage_lmdb *s, MDB_txn *txn,
                           const struct checkpoint_item *item) {
    MDB_dbi table = s->state_tables[STATE_TIMERS];
    struct timer_row row = {.key = item->key};
    MDB_val key = storage_val(&row, sizeof row), value = storage_val(&item->kind, 1);
    if (item->old_deadline_ms == item->new_deadline_ms) return 0;
    if (item->old_deadline_ms != 0) {
        storage_be64(row.deadline_be, (uint64_t)item->old_deadline_ms);
        int rc = mdb_del(txn, table, &key, NULL);
        if (rc != 0 && rc != MDB_NOTFOUND) return rc;
    }
    if (item->new_deadline_ms == 0) return 0;
    storage_be64(row.deadline_be, (uint64_t)item->new_deadline_ms);
    return mdb_put(txn, table, &key, &value, 0);
}

static int state_put_item(struct storage_lmdb *s, MDB_txn *txn, const struct checkpoint *c,
                          const struct checkpoint_item *item) {
    int table = state_table_of(item->kind);
    require(table >= 0);
    MDB_val key = storage_val(item->key.bytes, 16);
    int rc;
    if (item->remove) {
        rc = mdb_del(txn, s->state_tables[table], &key, NULL);
        if (rc == MDB_NOTFOUND) rc = 0;
    } else {
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
        rc = mdb_put(txn, s->state_tables[table], &key, &value, MDB_RESERVE);
        if (rc == 0) {
            memcpy(value.mv_data, &header, sizeof header);
            memcpy((uint8_t *)value.mv_data + sizeof header, block, item->bytes);
        }
    }
    return rc == 0 ? state_put_timer(s, txn, item) : rc;
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
                         const uint32_t *order) {
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < c->items_count; i++) {
        rc = state_put_item(s, txn, c, &c->items[order ? order[i] : i]);
    }
    for (uint32_t i = 0; rc == 0 && i < c->cursors_count; i++) {
        rc = state_put_cursor(s, txn, &c->cursors[i]);
    }
    return rc == 0 ? state_put_marker(s, txn, c) : rc;
}
