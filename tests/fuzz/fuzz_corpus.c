/* fuzz_corpus FOLDER: writes FOLDER/request, reply, value, block, event, record, consensus,
 * snapshot, status, damage, pages: real bytes, from the examples of the protocol and the life of a
 * real order. The fuzzers start from them. */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/limits.h"
#include "engine/peers/consensus_codec.h"
#include "engine/peers/hello.h"
#include "engine/peers/peer_message.h"
#include "engine/peers/snapshot_frame.h"
#include "engine/wire/feed_protocol.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/order_encode.h"
#include "engine/wire/query_protocol.h"
#include "persistence/record.h"
#include "tests/unit/wire/wire_examples.h"
#include "tests/unit/wire/wire_story.h"

static const char *root;

static void write_file(const char *folder, const char *name, const void *data, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", root, folder);
    if (mkdir(path, 0755) != 0 && errno != EEXIST) exit(1);
    snprintf(path, sizeof path, "%s/%s/%s", root, folder, name);
    FILE *out = fopen(path, "wb");
    if (out == NULL || fwrite(data, 1, size, out) != size || fclose(out) != 0) {
        perror(path);
        exit(1);
    }
}

static void write_examples(const char *folder, const struct wire_example *examples,
                           unsigned count) {
    static uint8_t bytes[MESSAGE_BYTES_MAX];
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        struct msgpack_writer w;
        msgpack_writer_init(&w, bytes, sizeof bytes);
        examples[i].write(&w);
        snprintf(name, sizeof name, "%02u", i);
        write_file(folder, name, bytes, msgpack_writer_size(&w));
    }
}

/* One record that holds all events so far, as the log keeps them. */
static void write_record(const char *name, const void *events, uint32_t size, uint32_t count) {
    static struct {
        struct record_header header;
        struct entry_header entry;
        uint8_t events[65536];
    } r;
    r.header.index = 7;
    r.header.term = 2;
    r.header.type = RECORD_EVENTS;
    r.header.format = RECORD_FORMAT;
    r.header.payload_bytes = (uint32_t)sizeof r.entry + size;
    r.entry = (struct entry_header){1767225600000, 1, count};
    memcpy(r.events, events, size);
    record_seal(&r.header, &r.entry);
    write_file("record", name, &r, sizeof r.header + r.header.payload_bytes);
}

static void write_story(struct wire_story *story, const char *name) {
    static _Alignas(8) uint8_t events[65536];
    uint32_t size = 0;
    for (uint32_t at = 0; at < story->history_bytes;) {
        at += (uint32_t)sizeof(struct history_item);
        const struct event *e = (const void *)(story->history + at);
        memcpy(events + size, e, e->bytes);
        size += e->bytes;
        at += e->bytes;
    }
    write_file("block", name, story->block, wire_story_actor(story)->bytes);
    write_file("event", name, events, size);
    write_record(name, events, size, story->events_count);
}

/* The value of a get alone, as a client keeps it. */
static void write_value(const char *name, const struct actor *order) {
    static uint8_t bytes[65536];
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    order_encode(&w, order);
    if (!msgpack_writer_ok(&w)) exit(1);
    write_file("value", name, bytes, msgpack_writer_size(&w));
}

static void run(struct wire_story *story, struct command c) { wire_story_run(story, &c); }

static void write_stories(void) {
    static struct wire_story story;
    wire_story_example(&story);
    write_story(&story, "accepted");
    write_value("accepted", wire_story_actor(&story));
    struct command c = wire_story_command(COMMAND_CANCEL);
    struct line_cancellation cut = {0, 1};
    c.cancel = (struct command_cancel){PARTY_STORE, bytes_of_text("sold out"), &cut, 1};
    run(&story, c);
    c = wire_story_command(COMMAND_REFUND);
    run(&story, c);
    c = wire_story_command(COMMAND_ASSIGN_RIDER);
    c.assign_rider.rider = bytes_of_text("rider-3");
    run(&story, c);
    c = wire_story_command(COMMAND_ANNOTATE);
    c.annotate.note = bytes_of_text("no peanuts");
    c.trace = wire_example_command_id;
    run(&story, c);
    static const uint8_t steps[] = {COMMAND_MARK_READY, COMMAND_PICK_UP, COMMAND_DELIVER,
                                    COMMAND_COMPLETE};
    for (size_t i = 0; i < sizeof steps; i++) run(&story, wire_story_command(steps[i]));
    write_story(&story, "completed");
    write_value("completed", wire_story_actor(&story));
    wire_story_init(&story);
    run(&story, wire_story_pay(PAYMENT_CAPTURED, 500));
    c = wire_story_command(COMMAND_CANCEL);
    c.cancel = (struct command_cancel){PARTY_CUSTOMER, bytes_of_text("oops"), &cut, 1};
    run(&story, c);
    write_story(&story, "held");
    write_value("held", wire_story_actor(&story));
    story.now_ms += HELD_DEADLINE_MS;
    run(&story, (struct command){.kind = COMMAND_TIMER_DUE, .subject = wire_example_key});
    write_story(&story, "expired");
    wire_story_init(&story);
    c = wire_story_command(COMMAND_STORE_PAUSE);
    c.store.store = bytes_of_text("store-7");
    c.store.reason = bytes_of_text("fire drill");
    c.subject = store_key(c.store.store, false);
    run(&story, c);
    write_story(&story, "store");
    struct store_news news[] = {{.store = {"store-7", 7}, .open_change = -2, .placed = 3},
                                {.store = {"s", 1}, .open_change = 1, .placed = 1}};
    uint8_t message[256];
    uint32_t size =
        store_message_encode(STORE_MESSAGE_COUNTS, news, 2, message, sizeof message);
    write_file("event", "message", message, size);
}

/* A frame of each kind; without its checksum, as below. */
static void write_snapshots(void) {
    uint8_t bytes[SNAPSHOT_FRAME_HEAD_BYTES_MAX + 100], data[100] = {1, 2, 3};
    for (uint8_t kind = SNAPSHOT_HEADER; kind <= SNAPSHOT_REFUSE; kind++) {
        char name[32];
        struct snapshot_frame f = {.kind = kind, .shard = 3, .from = 1ULL << 32 | 2, .to = 1,
                                   .transfer = 0x1122334455667788, .term = 7, .index = 5000,
                                   .bytes = 3 << 20, .chunk_bytes = 1 << 20, .offset = 2 << 20,
                                   .data = {data, sizeof data}, .state = SNAPSHOT_ACK_HEADER,
                                   .reason = SNAPSHOT_UNKNOWN};
        snprintf(name, sizeof name, "%u", kind);
        size_t size = snapshot_frame_encode(&f, bytes, sizeof bytes);
        write_file("snapshot", name, bytes, size - MSGPACK_INT_BYTES_MAX);
    }
}

/* A message of each kind; the appends with and without records. The checksum is left out: the
 * harness puts the right one behind whatever it gets. */
static void write_consensus(void) {
    static uint8_t bytes[4096];
    struct record *records[3];
    for (uint32_t i = 0; i < 3; i++) {
        records[i] = record_new(20 * i);
        if (records[i] == NULL) exit(1);
        memset(records[i]->payload, 'a' + (int)i, 20 * i);
        records[i]->header.payload_bytes = 20 * i;
        records[i]->header.type = (uint16_t)(RECORD_EVENTS + i);
        records[i]->header.term = 5;
    }
    for (uint8_t kind = CONSENSUS_APPEND; kind <= CONSENSUS_PONG; kind++) {
        struct consensus_message m = {.kind = kind, .version = 1, .from = 1, .to = 1ULL << 32 | 2,
                                      .term = 5, .last_index = 42, .last_term = 4};
        char name[32];
        for (uint32_t count = 0; count <= (kind == CONSENSUS_APPEND ? 3 : 0); count++) {
            struct msgpack_writer w;
            m.records = records;
            m.records_count = count;
            msgpack_writer_init(&w, bytes, sizeof bytes);
            consensus_codec_write(&w, 3, &m);
            if (!msgpack_writer_ok(&w)) exit(1);
            snprintf(name, sizeof name, "%u-%u", kind, count);
            write_file("consensus", name, bytes, msgpack_writer_size(&w) - 9);
        }
    }
    for (uint32_t i = 0; i < 3; i++) record_release(records[i]);
}

static void write_peers(void) {
    static uint8_t bytes[PEER_MESSAGE_HEAD_BYTES_MAX + HELLO_BYTES_MAX];
    static const uint8_t answer[] = {0x93, 1, 0, 0x92, 0x94, 0, 1, 1, 9, 0x95, 0, 2, 1, 9, 1};
    static struct hello h;
    struct msgpack_writer w;
    const struct peer_message m = {.cluster = {{1}}, .from = 1, .to = 2, .kind = PEER_HELLO};
    h = (struct hello){.document = 3, .leads_count = 2, .endpoint = "tcp://h:7400",
                       .version = "1.0", .instance = 7, .started_ms = 1, .heard_count = 1,
                       .now_ms = 1774353601234};
    h.leads[0] = (struct hello_lead){1, 2, 3, true};
    h.heard[0] = (struct hello_heard){3, 4, 5};
    msgpack_writer_init(&w, bytes, sizeof bytes);
    peer_message_write_head(&w, &m);
    size_t head = msgpack_writer_size(&w);
    hello_write(&w, &h);
    if (!msgpack_writer_ok(&w)) exit(1);
    write_file("peers", "envelope", bytes, msgpack_writer_size(&w));
    write_file("peers", "hello", bytes + head, msgpack_writer_size(&w) - head);
    write_file("peers", "answer", answer, sizeof answer);
}

/* One query of each kind, and requests to the feed. */
static void write_queries(void) {
    static const struct { uint8_t kind; bool text; uint8_t items; } kinds[] = {
        {QUERY_BY_REF, true, 5}, {QUERY_CUSTOMER_ORDERS, true, 5}, {QUERY_STORE_BOARD, true, 6},
        {QUERY_WATCH, true, 3}, {QUERY_STATE_ORDERS, false, 4}, {QUERY_COUNTERS, false, 4},
        {QUERY_EXPORT, false, 2}};
    uint8_t bytes[1024];
    char name[32];
    struct msgpack_writer w;
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        msgpack_writer_init(&w, bytes, sizeof bytes);
        msgpack_write_array(&w, 5);
        msgpack_write_uint(&w, 1);
        msgpack_write_int(&w, -500);
        msgpack_write_array(&w, 1);
        msgpack_write_array(&w, kinds[i].items);
        msgpack_write_uint(&w, kinds[i].kind);
        if (kinds[i].text) msgpack_write_text(&w, "store/store-7");
        else msgpack_write_uint(&w, kinds[i].kind == QUERY_COUNTERS ? 60000 : 4);
        for (unsigned n = 2; n < kinds[i].items; n++) {
            if (n + 1 == kinds[i].items) msgpack_write_bin(&w, "cursor", 6);
            else msgpack_write_nil(&w);
        }
        msgpack_write_array(&w, 1); /* at_least */
        msgpack_write_array(&w, 2);
        msgpack_write_uint(&w, 1);
        msgpack_write_uint(&w, 4711);
        msgpack_write_uint(&w, 100);
        snprintf(name, sizeof name, "query-%u", i);
        write_file("query", name, bytes, msgpack_writer_size(&w));
    }
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, 1);
    msgpack_write_nil(&w);
    msgpack_write_array(&w, 2);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, QUERY_MULTI_GET);
    msgpack_write_bin(&w, "0123456789abcdef0123456789ABCDEF", 32);
    msgpack_write_array(&w, 2);
    msgpack_write_text(&w, "state");
    msgpack_write_text(&w, "total");
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, QUERY_GET);
    msgpack_write_bin(&w, "0123456789abcdef", 16);
    write_file("query", "gets", bytes, msgpack_writer_size(&w));
    for (unsigned kind = FEED_HELLO; kind <= FEED_SNAPSHOT_END; kind++) {
        msgpack_writer_init(&w, bytes, sizeof bytes);
        unsigned items = kind == FEED_HELLO ? 2 : kind == FEED_PULL ? 8 : 3;
        msgpack_write_array(&w, items + (kind == FEED_LOCATE));
        msgpack_write_uint(&w, 1);
        msgpack_write_uint(&w, kind);
        if (items > 2) msgpack_write_uint(&w, 1);
        if (kind == FEED_LOCATE) msgpack_write_uint(&w, 1767225600000);
        for (unsigned n = 3; n < items; n++) {
            if (n + 1 < items) msgpack_write_uint(&w, n);
            else msgpack_write_array(&w, 0);
        }
        snprintf(name, sizeof name, "feed-%u", kind);
        write_file("query", name, bytes, msgpack_writer_size(&w));
    }
}

/* The feed's answers, behind a byte that says which question they answer. */
static void write_feed(void) {
    uint8_t bytes[1024] = {0};
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes + 1, sizeof bytes - 1);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, 1);
    msgpack_write_uint(&w, 0);
    msgpack_write_map(&w, 3);
    msgpack_write_text(&w, "cluster_id");
    msgpack_write_text(&w, "5d2f0c6b7a8e4d1f9b3a2c4e6f708192");
    msgpack_write_text(&w, "shards_count");
    msgpack_write_uint(&w, 2);
    msgpack_write_text(&w, "shards");
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 3);
    for (unsigned i = 0; i < 3; i++) msgpack_write_uint(&w, i);
    write_file("feed", "hello", bytes, 1 + msgpack_writer_size(&w));
    bytes[0] = 1;
    msgpack_writer_init(&w, bytes + 1, sizeof bytes - 1);
    msgpack_write_array(&w, 8);
    for (unsigned i = 0; i < 2; i++) msgpack_write_uint(&w, 1 - i);
    msgpack_write_uint(&w, 0);
    msgpack_write_uint(&w, 5);
    msgpack_write_uint(&w, 7);
    msgpack_write_uint(&w, 9);
    msgpack_write_uint(&w, 1767225600000);
    msgpack_write_bin(&w, "records", 7);
    write_file("feed", "pull", bytes, 1 + msgpack_writer_size(&w));
    bytes[0] = 1;
    msgpack_writer_init(&w, bytes + 1, sizeof bytes - 1);
    msgpack_write_array(&w, 4);
    msgpack_write_uint(&w, 1);
    msgpack_write_uint(&w, RESULT_IMPORT_REQUIRED);
    msgpack_write_text(&w, "import");
    msgpack_write_uint(&w, 100);
    write_file("feed", "refused", bytes, 1 + msgpack_writer_size(&w));
}

/* A replica's answer, from one result on: its head is told by the caller. */
static void replica_reply(struct msgpack_writer *w, uint8_t *bytes, size_t size, unsigned items) {
    msgpack_writer_init(w, bytes, size);
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, 1);
    msgpack_write_uint(w, 0);
    msgpack_write_array(w, 1);
    msgpack_write_array(w, items);
    msgpack_write_uint(w, 0);
    for (unsigned i = 0; i < 4; i++) msgpack_write_uint(w, i);
}

static void replica_reply_end(struct msgpack_writer *w, const char *name) {
    msgpack_write_array(w, 2); /* tokens */
    for (unsigned i = 0; i < 2; i++) {
        msgpack_write_array(w, 3);
        for (unsigned n = 0; n < 3; n++) msgpack_write_uint(w, 100 * i + n);
    }
    msgpack_write_array(w, 1); /* missing */
    msgpack_write_uint(w, 1);
    write_file("replica", name, w->start, msgpack_writer_size(w));
}

static void write_replica(void) {
    uint8_t bytes[1024];
    struct msgpack_writer w;
    replica_reply(&w, bytes, sizeof bytes, 7); /* counters, and a cursor */
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 8);
    msgpack_write_int(&w, 1767225600000);
    msgpack_write_text(&w, "store-7");
    msgpack_write_uint(&w, 3);
    msgpack_write_text(&w, "KRW");
    for (int i = 0; i < 4; i++) msgpack_write_int(&w, 9500 * i);
    msgpack_write_bin(&w, "cursor", 6);
    replica_reply_end(&w, "counters");
    replica_reply(&w, bytes, sizeof bytes, 6); /* changes */
    msgpack_write_array(&w, 3);
    msgpack_write_array(&w, 1);
    msgpack_write_map(&w, 2);
    msgpack_write_text(&w, "key");
    msgpack_write_bin(&w, "0123456789abcdef", 16);
    msgpack_write_text(&w, "state");
    msgpack_write_text(&w, "paid");
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, 0);
    msgpack_write_uint(&w, 4711);
    msgpack_write_bool(&w, true);
    replica_reply_end(&w, "changes");
    replica_reply(&w, bytes, sizeof bytes, 6); /* a map */
    msgpack_write_map(&w, 2);
    msgpack_write_text(&w, "replica");
    msgpack_write_bool(&w, true);
    msgpack_write_text(&w, "notify");
    msgpack_write_text(&w, "tcp://127.0.0.1:7501");
    replica_reply_end(&w, "map");
    msgpack_writer_init(&w, bytes, sizeof bytes); /* a notification */
    msgpack_write_text(&w, "store/store-7");
    msgpack_write_array(&w, 6);
    for (unsigned i = 1; i <= 4; i++) msgpack_write_uint(&w, i);
    msgpack_write_bin(&w, "0123456789abcdef", 16);
    msgpack_write_uint(&w, 3);
    write_file("replica", "heard", bytes, msgpack_writer_size(&w));
}

/* An answer to STATUS, with what tools read of it. */
static void write_status(void) {
    static const char *const keys[] = {"shard", "settled_index", "settled_term", "unsettled"};
    uint8_t bytes[1024];
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, 1);
    msgpack_write_uint(&w, 0);
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 6);
    for (unsigned i = 0; i < 5; i++) msgpack_write_uint(&w, 0);
    msgpack_write_map(&w, 5);
    msgpack_pair_uint(&w, "node_id", 3);
    msgpack_pair_text(&w, "cluster_id", "00112233445566778899aabbccddeeff");
    msgpack_pair_text(&w, "run", "ffeeddccbbaa99887766554433221100");
    msgpack_pair_bool(&w, "ready", true);
    msgpack_write_text(&w, "shards");
    msgpack_write_array(&w, 2);
    for (unsigned shard = 0; shard < 2; shard++) {
        msgpack_write_map(&w, 5);
        msgpack_pair_text(&w, "role", "leader");
        for (unsigned i = 0; i < 4; i++) msgpack_pair_uint(&w, keys[i], shard + 100 * i);
    }
    write_file("status", "node", bytes, msgpack_writer_size(&w));
}

/* Environments of LMDB: a log's one table with large values, a state's named ones, an empty one. */
static void write_pages(const char *name, unsigned rows, const char *table) {
    char folder[] = "/tmp/jumun-fuzz-corpus-XXXXXX", path[64];
    static uint8_t value[9000], bytes[1 << 16];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    bool ok = mkdtemp(folder) && mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 4) == 0 &&
              mdb_env_open(env, folder, MDB_NOLOCK | MDB_NOSYNC, 0600) == 0 &&
              mdb_txn_begin(env, NULL, 0, &txn) == 0 &&
              mdb_dbi_open(txn, table, table ? MDB_CREATE : 0, &dbi) == 0;
    for (unsigned i = 0; ok && i < rows; i++) {
        uint8_t at[8] = {0, 0, 0, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
        MDB_val key = {8, at}, row = {i % 40 == 39 ? sizeof value : 150 + i, value};
        ok = mdb_put(txn, dbi, &key, &row, 0) == 0;
    }
    if (!ok || mdb_txn_commit(txn) != 0) exit(1);
    mdb_env_close(env);
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    FILE *in = fopen(path, "rb");
    size_t size = in ? fread(bytes, 1, sizeof bytes, in) : 0;
    if (in) fclose(in);
    if (size == 0 || unlink(path) != 0 || rmdir(folder) != 0) exit(1);
    write_file("pages", name, bytes, size);
}

/* A shard's row of a STATUS answer, as far as it tells of damage. */
static void write_damage(void) {
    uint8_t bytes[512];
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_map(&w, 3);
    msgpack_pair_uint(&w, "shard", 1);
    msgpack_pair_uint(&w, "damages", 2);
    msgpack_write_text(&w, "damage");
    msgpack_write_map(&w, 5);
    msgpack_pair_text(&w, "kind", "record_damaged");
    msgpack_pair_text(&w, "where", "log-00000000000000000001");
    msgpack_pair_uint(&w, "index", 41);
    msgpack_pair_uint(&w, "upto", 47);
    msgpack_pair_text(&w, "what", "checksum does not match");
    write_file("damage", "damaged", bytes, msgpack_writer_size(&w));
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_map(&w, 1);
    msgpack_pair_uint(&w, "damages", 0);
    write_file("damage", "whole", bytes, msgpack_writer_size(&w));
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_corpus FOLDER\n");
        return 2;
    }
    root = argv[1];
    if (mkdir(root, 0755) != 0 && errno != EEXIST) {
        perror(root);
        return 1;
    }
    write_replica();
    write_status();
    write_examples("request", wire_examples_requests, wire_examples_requests_count);
    write_examples("reply", wire_examples_replies, wire_examples_replies_count);
    write_stories();
    write_consensus();
    write_peers();
    write_snapshots();
    write_queries();
    write_feed();
    write_damage();
    write_pages("log", 60, NULL);
    write_pages("small", 3, NULL);
    write_pages("state", 30, "orders");
    write_pages("empty", 0, NULL);
    return 0;
}
