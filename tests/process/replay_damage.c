/* Damages copies of a shard's directory, one way a call, so that checksums stay right where the
 * damage is a lie and not an accident. For tests of `jumun-replay verify`.
 *
 *   replay_damage KIND SHARD_DIRECTORY ARGUMENT...   prints what it did; exit 0 */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/message_event.h"
#include "actors/order/order_layout.h"
#include "engine/base/hex.h"
#include "persistence/lmdb/internal.h"

static _Noreturn void die(const char *what, int rc) {
    fprintf(stderr, "replay_damage: %s: %s\n", what, mdb_strerror(rc));
    exit(1);
}

struct open_env { MDB_env *env; MDB_txn *txn; MDB_dbi table; };

static struct open_env env_open(const char *directory, const char *name, const char *table) {
    struct open_env e;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int rc = mdb_env_create(&e.env);
    if (rc == 0) rc = mdb_env_set_maxdbs(e.env, 8);
    if (rc == 0) rc = mdb_env_set_mapsize(e.env, 1u << 30);
    if (rc == 0) rc = mdb_env_open(e.env, path, 0, 0640);
    if (rc == 0) rc = mdb_txn_begin(e.env, NULL, 0, &e.txn);
    if (rc == 0) rc = mdb_dbi_open(e.txn, table, 0, &e.table);
    if (rc != 0) die(path, rc);
    return e;
}

static void env_commit(struct open_env *e) {
    int rc = mdb_txn_commit(e->txn);
    if (rc != 0) die("commit", rc);
    mdb_env_close(e->env);
}

static MDB_val row_key(uint64_t index, uint8_t be[8]) {
    storage_be64(be, index);
    return storage_val(be, 8);
}

/* A copy of the record, 8-byte aligned. */
static uint64_t *record_copy(struct open_env *e, uint64_t index, size_t *bytes) {
    uint8_t be[8];
    MDB_val key = row_key(index, be), value;
    int rc = mdb_get(e->txn, e->table, &key, &value);
    if (rc != 0) die("record", rc);
    uint64_t *copy = malloc(value.mv_size + 8);
    memcpy(copy, value.mv_data, value.mv_size);
    *bytes = value.mv_size;
    return copy;
}

static void record_put(struct open_env *e, uint64_t index, const void *data, size_t bytes) {
    uint8_t be[8];
    MDB_val key = row_key(index, be), value = storage_val(data, bytes);
    int rc = mdb_put(e->txn, e->table, &key, &value, 0);
    if (rc != 0) die("put", rc);
}

/* The event of a record that `wanted` accepts. */
static struct event *record_event(uint64_t *record, size_t bytes,
                                  bool (*wanted)(const struct event *e, const char *key),
                                  const char *key) {
    uint8_t *events = (uint8_t *)record + sizeof(struct record_header) +
                      sizeof(struct entry_header);
    uint32_t offset = 0, size = (uint32_t)(bytes - (size_t)(events - (uint8_t *)record));
    const struct event *e;
    while ((e = event_next(events, size, &offset))) {
        if (wanted(e, key)) return (struct event *)(uintptr_t)e;
    }
    die("no such event in the record", EINVAL);
}

static bool is_of_order(const struct event *e, const char *hex) {
    char text[33];
    hex_format(e->subject.bytes, 16, text);
    return strcmp(text, hex) == 0;
}
static bool is_payment(const struct event *e, const char *hex) {
    return e->kind == EVENT_PAYMENT_RECORDED && is_of_order(e, hex);
}
static bool is_sent(const struct event *e, const char *hex) {
    (void)hex;
    return e->kind == EVENT_MESSAGE_SENT;
}

/* -- the log ----------------------------------------------------------------------------------- */

static void damage_missing(struct open_env *e, uint64_t index) {
    uint8_t be[8];
    MDB_val key = row_key(index, be);
    int rc = mdb_del(e->txn, e->table, &key, NULL);
    if (rc != 0) die("delete", rc);
}

/* All records below `index`, as retention would; the segment's name stays. */
static void damage_front(struct open_env *e, uint64_t index) {
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_cursor_open(e->txn, e->table, &cursor);
    while (rc == 0 && (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST)) == 0 &&
           storage_from_be64(key.mv_data) < index) {
        rc = mdb_cursor_del(cursor, 0);
    }
    if (rc != 0) die("front", rc);
    mdb_cursor_close(cursor);
}

static void damage_swap(struct open_env *e, uint64_t a, uint64_t b) {
    size_t a_bytes, b_bytes;
    uint64_t *one = record_copy(e, a, &a_bytes), *other = record_copy(e, b, &b_bytes);
    record_put(e, a, other, b_bytes);
    record_put(e, b, one, a_bytes);
    free(one);
    free(other);
}

static void damage_forge(struct open_env *e, const char *kind, uint64_t index, const char *key) {
    size_t bytes;
    uint64_t *record = record_copy(e, index, &bytes);
    struct record_header *header = (struct record_header *)(void *)record;
    if (strcmp(kind, "version") == 0) {
        record_event(record, bytes, is_of_order, key)->version++;
    } else if (strcmp(kind, "chain") == 0) {
        record_event(record, bytes, is_of_order, key)->prev_index++;
    } else if (strcmp(kind, "money") == 0) {
        struct event *event = record_event(record, bytes, is_payment, key);
        ((struct order_payment_recorded *)(event + 1))->captured++;
    } else if (strcmp(kind, "message") == 0) {
        struct event *event = record_event(record, bytes, is_sent, NULL);
        struct message_event *m = (struct message_event *)(event + 1);
        ((uint8_t *)(m + 1))[5] ^= 1; /* a letter of the store's id */
    } else if (strcmp(kind, "time") == 0) {
        ((struct entry_header *)(header + 1))->time_ms -= 3600000;
    } else {
        die(kind, EINVAL);
    }
    record_seal(header, header + 1);
    record_put(e, index, record, bytes);
    free(record);
}

/* -- the state --------------------------------------------------------------------------------- */

static void key_of(const char *hex, uint8_t key[16]) {
    for (int i = 0; i < 16; i++) {
        unsigned byte = 0;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1) die("key", EINVAL);
        key[i] = (uint8_t)byte;
    }
}

static void damage_snapshot(const char *directory, const char *kind, const char *hex) {
    struct open_env e = env_open(directory, "state", "orders");
    uint8_t bytes[16];
    key_of(hex, bytes);
    MDB_val key = storage_val(bytes, 16), value;
    int rc = mdb_get(e.txn, e.table, &key, &value);
    if (rc != 0) die("snapshot", rc);
    uint64_t *copy = malloc(value.mv_size + 8);
    memcpy(copy, value.mv_data, value.mv_size);
    struct snapshot_header *header = (struct snapshot_header *)(void *)copy;
    struct order *order = (struct order *)(void *)(header + 1);
    if (strcmp(kind, "lie") == 0) order->notes_count++;
    else if (strcmp(kind, "behind") == 0) order->actor.version--;
    else if (strcmp(kind, "flip") != 0 && strcmp(kind, "gone") != 0) die(kind, EINVAL);
    header->checksum = state_snapshot_checksum(header, order);
    if (strcmp(kind, "flip") == 0) order->total ^= 1;
    MDB_val lie = storage_val(copy, value.mv_size);
    rc = strcmp(kind, "gone") == 0 ? mdb_del(e.txn, e.table, &key, NULL)
                                   : mdb_put(e.txn, e.table, &key, &lie, 0);
    if (rc != 0) die("put", rc);
    free(copy);
    env_commit(&e);
}

static void damage_totals(const char *directory) {
    struct open_env e = env_open(directory, "state", "cursors");
    MDB_val key = storage_val("totals.0", 8), value;
    int rc = mdb_get(e.txn, e.table, &key, &value);
    if (rc != 0) die("cursor", rc);
    struct checkpoint_cursor c = {.name = "totals.0", .bytes = 64};
    memcpy(c.value, (uint8_t *)value.mv_data + 8, 64);
    c.value[2 * 8]++; /* one order more that is placed */
    uint8_t row[8 + 64];
    uint64_t checksum = state_cursor_checksum(&c);
    memcpy(row, &checksum, 8);
    memcpy(row + 8, c.value, 64);
    MDB_val lie = storage_val(row, sizeof row);
    rc = mdb_put(e.txn, e.table, &key, &lie, 0);
    if (rc != 0) die("put", rc);
    env_commit(&e);
}

static void damage_timer(const char *directory) {
    struct open_env e = env_open(directory, "state", "timers");
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_cursor_open(e.txn, e.table, &cursor);
    if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    if (rc == 0) rc = mdb_cursor_del(cursor, 0);
    if (rc != 0) die("timer", rc);
    mdb_cursor_close(cursor);
    env_commit(&e);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *kind = argv[1], *directory = argv[2];
    const char *hex = argc > 4 ? argv[4] : NULL;
    uint64_t index = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    if (strncmp(kind, "snapshot-", 9) == 0 && argc > 3) {
        damage_snapshot(directory, kind + 9, argv[3]);
    } else if (strcmp(kind, "totals") == 0) {
        damage_totals(directory);
    } else if (strcmp(kind, "timer") == 0) {
        damage_timer(directory);
    } else {
        struct open_env e = env_open(directory, "log-00000000000000000001", NULL);
        if (strcmp(kind, "missing") == 0) damage_missing(&e, index);
        else if (strcmp(kind, "swap") == 0 && hex) damage_swap(&e, index, strtoull(hex, NULL, 10));
        else if (strcmp(kind, "front") == 0) damage_front(&e, index);
        else damage_forge(&e, kind, index, hex);
        env_commit(&e);
    }
    printf("%s\n", kind);
    return 0;
}
