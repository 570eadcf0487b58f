/* Reading the state back: one actor, all of a kind, the cursors. Every row is checked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* the streaming state on the stack */
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/base/hex.h"
#include "persistence/lmdb/internal.h"

int state_table_of(uint8_t actor_kind) {
    switch (actor_kind) {
    case ACTOR_ORDER: return STATE_ORDERS;
    case ACTOR_STORE: return STATE_STORES;
    case ACTOR_BOARD: case ACTOR_MESSAGE: return STATE_BOARDS;
    case ACTOR_CLUSTER: return STATE_CLUSTER;
    default: return -1;
    }
}

uint64_t state_snapshot_checksum(const struct snapshot_header *header, const void *block) {
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, &header->bytes, sizeof *header - sizeof header->checksum);
    XXH3_64bits_update(&state, block, header->bytes);
    return XXH3_64bits_digest(&state);
}

const char *state_snapshot_fault(MDB_val value, uint8_t kind, const void *key) {
    struct snapshot_header header;
    struct actor actor;
    if (value.mv_size < sizeof header + sizeof actor) return "cut short";
    memcpy(&header, value.mv_data, sizeof header);
    if (value.mv_size - sizeof header != header.bytes) return "its length does not match";
    if (header.bytes > ACTOR_BYTES_MAX) return "larger than any actor may be";
    const uint8_t *block = (const uint8_t *)value.mv_data + sizeof header;
    if (header.checksum != state_snapshot_checksum(&header, block)) {
        return "checksum does not match";
    }
    if (header.format != STORAGE_FORMAT) return "of a format that this version does not know";
    memcpy(&actor, block, sizeof actor);
    if (header.kind != kind || actor.kind != kind) return "of another kind of actor";
    if (memcmp(actor.key.bytes, key, 16) != 0) return "holds another actor than its key says";
    if (actor.bytes != header.bytes) return "the actor's own length does not match";
    return NULL;
}

static int state_actor_fault(struct storage_lmdb *s, uint8_t kind, const void *key,
                             const char *fault, char *error, size_t error_bytes) {
    char hex[33];
    hex_format(key, 16, hex);
    return lmdb_error(error, error_bytes, "%s: the snapshot of %s in %s is damaged: %s",
                      s->state.path, hex, state_table_names[state_table_of(kind)], fault);
}

int state_read_block(struct storage_lmdb *s, uint8_t actor_kind, const struct id128 *key,
                     void **block, uint32_t *bytes, char *error, size_t error_bytes) {
    int table = state_table_of(actor_kind);
    require(table >= 0);
    MDB_txn *txn;
    MDB_val row = storage_val(key->bytes, 16), value;
    *block = NULL;
    *bytes = 0;
    int rc = lmdb_env_read_begin(&s->state, &txn);
    if (rc == ENOMEM) return ENOMEM;
    if (rc == 0) rc = mdb_get(txn, s->state_tables[table], &row, &value);
    else return state_actor_fault(s, actor_kind, key, mdb_strerror(rc), error, error_bytes);
    int outcome = 0;
    const char *fault = rc != 0 && rc != MDB_NOTFOUND ? mdb_strerror(rc) : NULL;
    if (rc == 0) fault = state_snapshot_fault(value, actor_kind, key->bytes);
    if (fault) {
        outcome = state_actor_fault(s, actor_kind, key, fault, error, error_bytes);
    } else if (rc == 0) {
        *bytes = (uint32_t)(value.mv_size - sizeof(struct snapshot_header));
        *block = storage_allocate(s, *bytes);
        const uint8_t *stored = (uint8_t *)value.mv_data + sizeof(struct snapshot_header);
        if (*block) memcpy(*block, stored, *bytes);
        else outcome = ENOMEM;
    }
    lmdb_env_read_end(&s->state, txn);
    return outcome;
}

/* -- visits: one transaction per LOG_READ_RECORDS_MAX rows, continued by key ---------------- */

struct state_visit {
    struct storage_lmdb *s;
    enum state_table table;
    uint8_t kind;              /* of actors */
    uint8_t last_key[32];      /* visited; continue behind it */
    size_t last_key_bytes;     /* 0 = begin */
    void *scratch;             /* an aligned block; grows */
    size_t scratch_bytes;
    bool (*actor)(void *arg, const void *block, uint32_t bytes);
    bool (*cursor)(void *arg, const struct checkpoint_cursor *cursor);
    void *arg;
    char *error;
    size_t error_bytes;
};

/* What a row of a table says that it is; the checksum covers it. */
uint8_t state_row_kind(int table, MDB_val value) {
    static const uint8_t kinds[STATE_TABLES] = {
        [STATE_ORDERS] = ACTOR_ORDER, [STATE_STORES] = ACTOR_STORE, [STATE_BOARDS] = ACTOR_BOARD,
        [STATE_CLUSTER] = ACTOR_CLUSTER};
    struct snapshot_header header;
    if (table != STATE_BOARDS || value.mv_size < sizeof header) return kinds[table];
    memcpy(&header, value.mv_data, sizeof header);
    return header.kind == ACTOR_MESSAGE ? ACTOR_MESSAGE : ACTOR_BOARD;
}

static int state_visit_actor(struct state_visit *v, MDB_val key, MDB_val value) {
    if (state_row_kind(v->table, value) != v->kind) return 0;
    const char *fault = key.mv_size != 16
                            ? "its key is not 16 bytes"
                            : state_snapshot_fault(value, v->kind, key.mv_data);
    if (fault) {
        uint8_t shown[16] = {0};
        memcpy(shown, key.mv_data, key.mv_size < 16 ? key.mv_size : 16);
        return state_actor_fault(v->s, v->kind, shown, fault, v->error, v->error_bytes);
    }
    size_t bytes = value.mv_size - sizeof(struct snapshot_header);
    if (bytes > v->scratch_bytes) {
        free(v->scratch);
        v->scratch_bytes = 0;
        v->scratch = storage_allocate(v->s, bytes);
        if (!v->scratch) {
            return lmdb_error(v->error, v->error_bytes, "%s: no memory", v->s->state.path);
        }
        v->scratch_bytes = bytes;
    }
    memcpy(v->scratch, (uint8_t *)value.mv_data + sizeof(struct snapshot_header), bytes);
    return v->actor(v->arg, v->scratch, (uint32_t)bytes) ? 0 : 1;
}

uint64_t state_cursor_checksum(const struct checkpoint_cursor *c) {
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, c->name, strnlen(c->name, sizeof c->name));
    XXH3_64bits_update(&state, c->value, c->bytes);
    return XXH3_64bits_digest(&state);
}

const char *state_cursor_fault(MDB_val key, MDB_val value, struct checkpoint_cursor *c) {
    uint64_t checksum;
    *c = (struct checkpoint_cursor){.bytes = 0};
    if (key.mv_size > sizeof c->name || value.mv_size < 8 || value.mv_size > 8 + sizeof c->value) {
        return "its length is wrong";
    }
    memcpy(c->name, key.mv_data, key.mv_size);
    memcpy(&checksum, value.mv_data, 8);
    c->bytes = (uint32_t)(value.mv_size - 8);
    memcpy(c->value, (uint8_t *)value.mv_data + 8, c->bytes);
    return checksum == state_cursor_checksum(c) ? NULL : "checksum does not match";
}

static int state_visit_cursor(struct state_visit *v, MDB_val key, MDB_val value) {
    struct checkpoint_cursor c;
    const char *fault = state_cursor_fault(key, value, &c);
    if (fault) {
        return lmdb_error(v->error, v->error_bytes, "%s: the cursor %.24s is damaged: %s",
                          v->s->state.path, c.name, fault);
    }
    return v->cursor(v->arg, &c) ? 0 : 1;
}

/* 0 the end, 1 visitor said stop, -1 fault, 2 there is more. */
static int state_visit_slice(struct state_visit *v) {
    struct lmdb_env *env = &v->s->state;
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key = storage_val(v->last_key, v->last_key_bytes), value;
    int rc = lmdb_env_read_begin(env, &txn);
    if (rc != 0) return lmdb_error(v->error, v->error_bytes, "%s: %s", env->path, mdb_strerror(rc));
    int outcome = 0;
    rc = mdb_cursor_open(txn, v->s->state_tables[v->table], &cursor);
    MDB_cursor_op from = v->last_key_bytes ? MDB_SET_RANGE : MDB_FIRST;
    if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, from);
    if (rc == 0 && v->last_key_bytes && key.mv_size == v->last_key_bytes &&
        memcmp(key.mv_data, v->last_key, v->last_key_bytes) == 0) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    for (uint32_t i = 0; rc == 0 && outcome == 0; i++) {
        if (i == LOG_READ_RECORDS_MAX) {
            outcome = 2;
            break;
        }
        outcome = v->actor ? state_visit_actor(v, key, value) : state_visit_cursor(v, key, value);
        if (outcome != 0) break;
        v->last_key_bytes = key.mv_size;
        memcpy(v->last_key, key.mv_data, key.mv_size);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (rc != 0 && rc != MDB_NOTFOUND) {
        outcome = lmdb_error(v->error, v->error_bytes, "%s/%s: %s", env->path,
                             state_table_names[v->table], mdb_strerror(rc));
    }
    if (cursor) mdb_cursor_close(cursor);
    lmdb_env_read_end(env, txn);
    return outcome;
}

static int state_visit_all(struct state_visit *v) {
    int rc;
    while ((rc = state_visit_slice(v)) == 2) {
    }
    free(v->scratch);
    return rc;
}

int state_visit_actors(struct storage *base, uint8_t actor_kind,
                       bool (*visit)(void *arg, const void *block, uint32_t bytes), void *arg,
                       char *error, size_t error_bytes) {
    require(state_table_of(actor_kind) >= 0);
    struct state_visit v = {.s = (struct storage_lmdb *)base,
                            .table = (enum state_table)state_table_of(actor_kind),
                            .kind = actor_kind,
                            .actor = visit, .arg = arg,
                            .error = error, .error_bytes = error_bytes};
    return state_visit_all(&v);
}

int state_visit_cursors(struct storage *base,
                        bool (*visit)(void *arg, const struct checkpoint_cursor *cursor), void *arg,
                        char *error, size_t error_bytes) {
    struct state_visit v = {.s = (struct storage_lmdb *)base, .table = STATE_CURSORS,
                            .cursor = visit, .arg = arg,
                            .error = error, .error_bytes = error_bytes};
    return state_visit_all(&v);
}
