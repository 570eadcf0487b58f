#include "tests/unit/formats/formats_disk.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "persistence/consensus.h"
#include "persistence/lmdb/internal.h"
#include "tests/unit/formats/formats_story.h"

enum { DISK_ROW_BYTES_MAX = 4096 };
static char disk_directory[] = "/tmp/jumun-formats-XXXXXX";
static char disk_shard[64];

static int disk_remove_one(const char *path, const struct stat *stat, int flag, struct FTW *ftw) {
    (void)stat, (void)flag, (void)ftw;
    return remove(path);
}

static void disk_remove(void) { nftw(disk_directory, disk_remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static struct record *disk_record(uint64_t index, uint16_t type, const void *payload,
                                  uint32_t bytes) {
    struct record *r = record_new(bytes);
    require(r != NULL);
    r->header = (struct record_header){
        .index = index, .term = 2, .payload_bytes = bytes, .type = type, .format = RECORD_FORMAT};
    memcpy(r->payload, payload, bytes);
    return r;
}

static struct record *disk_records(void) {
    static _Alignas(8) uint8_t payload[4096];
    const struct event *e = formats_event(EVENT_ORDER_READY);
    struct entry_header entry = {
        .time_ms = formats_event_context(EVENT_ORDER_READY).time_ms, .shard = 0, .events_count = 1};
    memcpy(payload, &entry, sizeof entry);
    memcpy(payload + sizeof entry, e, e->bytes);
    uint64_t node = 1;
    const char *address = "self";
    struct record *first = consensus_bootstrap_record(&node, &address, 1);
    require(first != NULL);
    uint64_t zero = 0;
    first->next = disk_record(2, RECORD_BARRIER, &zero, sizeof zero);
    first->next->next =
        disk_record(3, RECORD_EVENTS, payload, (uint32_t)sizeof entry + e->bytes);
    return first;
}

static void disk_put_item(struct checkpoint *c, const struct actor *actor) {
    struct checkpoint_item *item = &c->items[c->items_count++];
    bool order = actor->kind == ACTOR_ORDER;
    *item = (struct checkpoint_item){
        .key = actor->key, .kind = actor->kind, .bytes = actor->bytes, .offset = c->blocks_bytes,
        .new_deadline_ms = order ? actor->next_deadline_ms : 0};
    memcpy(c->blocks + c->blocks_bytes, actor, actor->bytes);
    c->blocks_bytes += (actor->bytes + 7) & ~7u;
}

static void disk_put_cursor(struct checkpoint *c, const char *name, const uint64_t *values,
                            uint32_t count) {
    struct checkpoint_cursor *cursor = &c->cursors[c->cursors_count++];
    *cursor = (struct checkpoint_cursor){.bytes = count * 8};
    snprintf(cursor->name, sizeof cursor->name, "%s", name);
    memcpy(cursor->value, values, count * sizeof *values);
}

/* Polls until `kind` has come. */
static void disk_wait(struct storage *storage, uint8_t kind) {
    struct storage_event event = {0};
    while (event.kind != kind) {
        struct timespec pause = {.tv_nsec = 1000000};
        if (storage->ops->poll(storage, &event, 1) == 0) nanosleep(&pause, NULL);
        else require(event.kind != STORAGE_LOG_FULL);
    }
}

static void disk_checkpoint(struct storage *storage) {
    static struct checkpoint_item items[8];
    static struct checkpoint_cursor cursors[8];
    static _Alignas(8) uint8_t blocks[1 << 16];
    static struct checkpoint c;
    c = (struct checkpoint){.items = items, .blocks = blocks, .cursors = cursors,
                            .applied_index = 3, .applied_term = 2};
    disk_put_item(&c, formats_block(FORMATS_HELD));
    disk_put_item(&c, formats_block(FORMATS_STORE));
    disk_put_item(&c, formats_block(FORMATS_BOARD));
    /* As in engine/shard/shard_checkpoint.c; the test of a real node compares names and sizes. */
    uint64_t stores[] = {1003, 1767225780000}, totals[8] = {0, 0, 0, 0, 1}, none[8] = {0};
    uint64_t peer[] = {3, 4, 2, 1002, 1001};
    disk_put_cursor(&c, "stores", stores, 2);
    disk_put_cursor(&c, "totals.0", totals, 8);
    disk_put_cursor(&c, "totals.1", none, 8);
    disk_put_cursor(&c, "peer.1", peer, 5);
    storage->ops->checkpoint(storage, &c);
    disk_wait(storage, STORAGE_CHECKPOINTED);
}

static void disk_make(void) {
    if (disk_shard[0] != '\0') return;
    require(mkdtemp(disk_directory) != NULL);
    require(atexit(disk_remove) == 0);
    snprintf(disk_shard, sizeof disk_shard, "%s/shard-0", disk_directory);
    struct storage_lmdb_options options = {.directory = disk_shard, .log_map_bytes = 1 << 20,
                                           .state_map_bytes = 1 << 20, .room_floor_bytes = 1};
    char error[512] = "";
    struct storage *storage = storage_lmdb_open(&options, error, sizeof error);
    if (storage == NULL) fprintf(stderr, "%s\n", error);
    require(storage != NULL);
    storage->ops->save_vote(storage, 2, 1);
    storage->ops->append(storage, disk_records());
    disk_wait(storage, STORAGE_APPENDED);
    disk_checkpoint(storage);
    storage->ops->close(storage);
}

static struct bytes disk_copy(MDB_val value, uint8_t copy[DISK_ROW_BYTES_MAX]) {
    require(value.mv_size <= DISK_ROW_BYTES_MAX);
    memcpy(copy, value.mv_data, value.mv_size);
    return bytes_of(copy, value.mv_size);
}

struct formats_row formats_disk_row(const char *env, const char *table, const void *key,
                                    uint32_t key_bytes) {
    disk_make();
    char path[128];
    snprintf(path, sizeof path, "%s/%s", disk_shard, env);
    MDB_env *mdb;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    require(mdb_env_create(&mdb) == 0 && mdb_env_set_maxdbs(mdb, STATE_TABLES) == 0);
    require(mdb_env_open(mdb, path, MDB_RDONLY, 0600) == 0);
    require(mdb_txn_begin(mdb, NULL, MDB_RDONLY, &txn) == 0);
    require(mdb_dbi_open(txn, table, 0, &dbi) == 0);
    require(mdb_cursor_open(txn, dbi, &cursor) == 0);
    MDB_val k = {key_bytes, (void *)(uintptr_t)key}, v;
    require(mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) == 0);
    require(k.mv_size >= key_bytes && memcmp(k.mv_data, key, key_bytes) == 0);
    static _Alignas(8) uint8_t copies[2][DISK_ROW_BYTES_MAX];
    struct formats_row row = {disk_copy(k, copies[0]), disk_copy(v, copies[1])};
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(mdb);
    return row;
}
