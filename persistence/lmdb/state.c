/* The state environment: actor snapshots, timers, cursors and the marker that says up to which log
 * index all of it goes. It is only ever a cache of the log: lost, it is rebuilt. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "persistence/lmdb/internal.h"

const char *const state_table_names[STATE_TABLES] = {
    "orders", "stores", "boards", "cluster", "timers", "cursors", "meta"};

/* -- open ----------------------------------------------------------------------------------- */

/* Tables that exist; they are made with the identity in one transaction. */
int state_open_tables(struct storage_lmdb *s, MDB_txn *txn, unsigned flags) {
    for (int i = 0; i < STATE_TABLES; i++) {
        int rc = mdb_dbi_open(txn, state_table_names[i], flags, &s->state_tables[i]);
        if (rc != 0) return rc;
    }
    return 0;
}

static int state_create(struct storage_lmdb *s) {
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->state.mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = state_open_tables(s, txn, MDB_CREATE);
    if (rc == 0) rc = identity_put(s, txn, s->state_tables[STATE_META], STORAGE_FORMAT);
    if (rc == 0) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

/* What stands in the marker row: 0 (all zero when there is none), or -1 = damaged. */
static int state_read_marker(struct storage_lmdb *s, MDB_txn *txn, struct storage_meta *meta) {
    MDB_val key = storage_val(STATE_MARKER_KEY, sizeof STATE_MARKER_KEY - 1), value;
    struct marker_row row;
    int rc = mdb_get(txn, s->state_tables[STATE_META], &key, &value);
    if (rc == MDB_NOTFOUND) return 0;
    if (rc != 0 || value.mv_size < sizeof row) return -1;
    memcpy(&row, value.mv_data, sizeof row);
    const uint8_t *bytes = value.mv_data;
    if (row.configuration_bytes > sizeof meta->configuration ||
        value.mv_size != sizeof row + row.configuration_bytes ||
        row.checksum != XXH3_64bits(bytes + 8, value.mv_size - 8)) {
        return -1;
    }
    meta->applied_index = row.applied_index;
    meta->applied_term = row.applied_term;
    meta->configuration_index = row.configuration_index;
    meta->configuration_bytes = row.configuration_bytes;
    memcpy(meta->configuration, bytes + sizeof row, row.configuration_bytes);
    return 0;
}

enum state_condition { STATE_SOUND, STATE_FRESH, STATE_DAMAGED, STATE_REFUSED };

/* Opens what is there and says what it is. On DAMAGED the environment is closed again. */
static enum state_condition state_try_open(struct storage_lmdb *s, const char *path, char *error,
                                           size_t error_bytes) {
    struct storage_meta meta = {0};
    MDB_txn *txn;
    bool fresh = false;
    int rc = lmdb_env_open(&s->state, path, s->state_map_bytes, STATE_TABLES);
    if (rc == 0) rc = lmdb_env_read_begin(&s->state, &txn);
    if (rc == 0) {
        MDB_stat names;
        rc = state_open_tables(s, txn, 0);
        if (rc == MDB_NOTFOUND) {
            /* No table at all was never made; some of them missing is damage. */
            rc = mdb_env_stat(s->state.mdb, &names);
            fresh = rc == 0 && names.ms_entries == 0;
            rc = MDB_CORRUPTED;
        } else if (rc == 0) {
            uint32_t format = STORAGE_FORMAT;
            rc = identity_check(s, txn, s->state_tables[STATE_META], path, &format, &fresh, error,
                                error_bytes);
            if (rc != 0) {
                lmdb_env_read_end(&s->state, txn);
                lmdb_env_close(&s->state);
                return STATE_REFUSED;
            }
            if (state_read_marker(s, txn, &meta) != 0) rc = MDB_CORRUPTED;
        }
        /* The handles of tables opened in a read become the environment's when it commits. */
        if (rc == 0) rc = lmdb_env_read_commit(&s->state, txn);
        else lmdb_env_read_end(&s->state, txn);
    }
    if (fresh) return STATE_FRESH;
    if (rc == 0) return STATE_SOUND;
    lmdb_env_close(&s->state);
    lmdb_error(error, error_bytes, "%s: %s", path, mdb_strerror(rc));
    return STATE_DAMAGED;
}

/* Sets the damaged directory aside for whoever wants to look at it. */
static int state_set_aside(struct storage_lmdb *s, const char *path, char *error,
                           size_t error_bytes) {
    char aside[LMDB_PATH_BYTES_MAX + 32];
    snprintf(aside, sizeof aside, "%s.%lld.damaged", path, (long long)clock_unix_ms());
    if (rename(path, aside) != 0) {
        return lmdb_error(error, error_bytes, "%s cannot be renamed: %s", path, strerror(errno));
    }
    int rc = lmdb_make_directory(path);
    if (rc == 0) rc = lmdb_env_open(&s->state, path, s->state_map_bytes, STATE_TABLES);
    if (rc == 0) return 0;
    return lmdb_error(error, error_bytes, "%s cannot be made: %s", path, mdb_strerror(rc));
}

int state_open(struct storage_lmdb *s, bool log_is_whole, char *error, size_t error_bytes) {
    char path[LMDB_PATH_BYTES_MAX], fault[512];
    require(snprintf(path, sizeof path, "%s/state", s->directory) < (int)sizeof path);
    int rc = lmdb_make_directory(path);
    if (rc != 0) return lmdb_error(error, error_bytes, "%s: %s", path, mdb_strerror(rc));
    enum state_condition condition = state_try_open(s, path, fault, sizeof fault);
    if (condition == STATE_SOUND) return 0;
    if (condition == STATE_REFUSED) return lmdb_error(error, error_bytes, "%s", fault);
    if (!log_is_whole) {
        return lmdb_error(error, error_bytes,
                          "%s is lost (%s) and the log does not reach back to record 1, so it "
                          "cannot be rebuilt; put the directory back", path,
                          condition == STATE_FRESH ? "nothing is in it" : fault);
    }
    uint64_t first, last;
    segments_range(s, &first, &last);
    if (condition == STATE_DAMAGED) {
        log_error("shard %u: %s; set aside and rebuilt from the log", s->shard, fault);
        if (state_set_aside(s, path, error, error_bytes) != 0) return -1;
    } else if (last > 0) {
        log_warn("shard %u: %s is empty: rebuilt from the log", s->shard, path);
    }
    rc = state_create(s);
    if (rc == 0) return 0;
    return lmdb_error(error, error_bytes, "%s: %s", path, mdb_strerror(rc));
}

/* -- reading -------------------------------------------------------------------------------- */

static int64_t state_birth_max_ms(struct storage_lmdb *s, MDB_txn *txn) {
    MDB_cursor *cursor;
    MDB_val key, value;
    uint8_t birth_be[8] = {0};
    if (mdb_cursor_open(txn, s->state_tables[STATE_ORDERS], &cursor) != 0) return 0;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    /* A ULID begins with 48 bits of birth time. */
    if (rc == 0 && key.mv_size == 16) memcpy(birth_be + 2, key.mv_data, 6);
    mdb_cursor_close(cursor);
    return (int64_t)storage_from_be64(birth_be);
}

int state_meta_of(struct storage_lmdb *s, MDB_txn *txn, struct storage_meta *meta) {
    MDB_stat orders, stores;
    int rc = state_read_marker(s, txn, meta) != 0 ? MDB_CORRUPTED : 0;
    if (rc == 0) rc = mdb_stat(txn, s->state_tables[STATE_ORDERS], &orders);
    if (rc == 0) rc = mdb_stat(txn, s->state_tables[STATE_STORES], &stores);
    if (rc != 0) return rc;
    meta->orders_count = orders.ms_entries;
    meta->stores_count = stores.ms_entries;
    meta->orders_birth_max_ms = state_birth_max_ms(s, txn);
    return 0;
}

int state_meta(struct storage_lmdb *s, struct storage_meta *meta, char *error,
               size_t error_bytes) {
    MDB_txn *txn;
    int rc = lmdb_env_read_begin(&s->state, &txn);
    if (rc == 0) {
        rc = state_meta_of(s, txn, meta);
        lmdb_env_read_end(&s->state, txn);
    }
    if (rc == 0) return 0;
    return lmdb_error(error, error_bytes, "%s: %s", s->state.path, mdb_strerror(rc));
}

void state_reopen(struct storage_lmdb *s) {
    char path[LMDB_PATH_BYTES_MAX], fault[512] = "nothing is in it";
    snprintf(path, sizeof path, "%s/state", s->directory);
    if (state_try_open(s, path, fault, sizeof fault) == STATE_SOUND) return;
    lmdb_fatal(MDB_CORRUPTED, "%s: the installed state cannot be opened: %s", path, fault);
}
