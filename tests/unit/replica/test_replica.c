/* A whole node and whole replicas in this process: what a client may rely on. Made for the thread
 * sanitizer; runs without it as well. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/node/node.h"
#include "engine/replica/bootstrap.h"
#include "engine/replica/feed_client.h"
#include "engine/replica/replica.h"
#include "engine/replica/replica_config.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/query_protocol.h"
#include "tests/process/raw_client.h"

enum { SHARDS = 2, PATIENCE_MS = 60000 };
enum { OK = 0, NOT_READY = 3, TOKEN_NOT_REACHED = 22, READ_ONLY = 23 };

struct token { uint64_t shard, index; };

static struct token newest[SHARDS]; /* of each shard; main thread */
static char directory[64];
static struct node *node;
static char node_url[64], feed_url[64];
static unsigned sockets;

static void node_open(int64_t retention_ms) {
    char error[512] = "";
    struct config config;
    char *words[] = {(char[]){"jumund"}, NULL};
    assert_int_equal(config_read(&config, 1, words, error, sizeof error), 0);
    snprintf(config.data, sizeof config.data, "%s/node", directory);
    snprintf(config.listen, sizeof config.listen, "inproc://replica-node-%u", sockets++);
    snprintf(node_url, sizeof node_url, "%.60s", config.listen);
    config.shards = SHARDS;
    config.contexts = 256;
    config.checkpoint_age_ms = 20;
    config.segment_bytes = 256u << 10;
    config.retention_ms = retention_ms;
    int code = node_start(&node, &config, error, sizeof error);
    if (code != EXIT_DONE) fail_msg("%s", error);
    uint32_t damaged;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (node_state(node, &damaged) != NODE_READY) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
    snprintf(feed_url, sizeof feed_url, "%.60s", node->map.feed_endpoint);
}

static void node_end(void) { node_stop(node, PATIENCE_MS, false); }

/* A replica of its own directory and address, which `url` gets; it follows `nodes`. */
static struct replica *replica_begin(const char *name, const char *nodes, const char *from,
                                     char url[64]) {
    char error[512] = "";
    struct replica_config config;
    replica_config_defaults(&config);
    snprintf(config.data, sizeof config.data, "%s/%s", directory, name);
    snprintf(config.nodes, sizeof config.nodes, "%s", nodes);
    snprintf(config.from, sizeof config.from, "%s", from);
    snprintf(config.listen, sizeof config.listen, "inproc://replica-%u", sockets++);
    snprintf(url, 64, "%.60s", config.listen);
    config.map_bytes = 1u << 30;
    config.heartbeat_ms = 20;
    static const atomic_bool never;
    assert_int_equal(bootstrap_run(&config, &never, error, sizeof error),
                     from[0] ? BOOTSTRAP_DONE : BOOTSTRAP_NOTHING);
    struct replica *r = replica_start(&config, error, sizeof error);
    if (!r) fail_msg("%s", error);
    return r;
}

static struct replica *replica_open(const char *name, const char *from, char url[64]) {
    struct replica *r = replica_begin(name, node_url, from, url);
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (!replica_is_caught_up(r)) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
    return r;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "/tmp/jumun-replica-XXXXXX");
    assert_non_null(mkdtemp(directory));
    memset(newest, 0, sizeof newest);
    node_open(RETENTION_MS);
    return 0;
}

static int tear_down(void **state) {
    node_end();
    return nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* -- commands ---------------------------------------------------------------------------------- */


static struct token send_one(struct raw_client *c, struct raw_request *r) {
    struct raw_reply reply;
    raw_ask(c, r, &reply);
    struct raw_result result = raw_result(&reply, 0);
    assert_int_equal(result.code, OK);
    struct token token = {result.shard, result.index};
    raw_reply_free(&reply);
    return token;
}

/* The main thread's: what it wrote, any of it. */
static struct token noted(struct token token) {
    if (token.index > newest[token.shard].index) newest[token.shard] = token;
    return token;
}

static struct token place(struct raw_client *c, const struct raw_id *key, const char *store,
                          uint32_t lines) {
    struct raw_request r;
    struct raw_id id = raw_id();
    raw_begin(&r, 0, 1);
    raw_place(&r, key, &id, store, lines);
    return send_one(c, &r);
}

static struct token annotate(struct raw_client *c, const struct raw_id *key) {
    struct raw_request r;
    struct raw_id id = raw_id();
    raw_begin(&r, 0, 1);
    raw_head(&r, RAW_ANNOTATE, key, NULL, &id);
    msgpack_pack_array(&r.packer, 1);
    msgpack_pack_str_with_body(&r.packer, "note", 4);
    return send_one(c, &r);
}

/* -- queries ----------------------------------------------------------------------------------- */

struct question { uint8_t bytes[4096]; struct msgpack_writer w; };

static struct msgpack_writer *question(struct question *q, int64_t deadline_ms, uint32_t fields) {
    msgpack_writer_init(&q->w, q->bytes, sizeof q->bytes);
    msgpack_write_array(&q->w, fields);
    msgpack_write_uint(&q->w, 1);
    msgpack_write_int(&q->w, deadline_ms);
    msgpack_write_array(&q->w, 1);
    return &q->w;
}

static void demand(struct msgpack_writer *w, struct token token) {
    msgpack_write_array(w, 1);
    msgpack_write_array(w, 2);
    msgpack_write_uint(w, token.shard);
    msgpack_write_uint(w, token.index);
}

/* A decoded reply; answer_free() it. */
struct answer { nng_msg *message; msgpack_unpacked u; const msgpack_object *items; };

static struct answer ask(const char *url, const struct question *q) {
    char error[256] = "";
    struct answer a;
    if (feed_ask(url, q->bytes, msgpack_writer_size(&q->w), PATIENCE_MS, NULL, &a.message, error,
                 sizeof error) != 0)
        fail_msg("%s", error);
    msgpack_unpacked_init(&a.u);
    assert_int_equal(msgpack_unpack_next(&a.u, nng_msg_body(a.message), nng_msg_len(a.message),
                                         NULL), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(a.u.data.type, MSGPACK_OBJECT_ARRAY);
    a.items = a.u.data.via.array.ptr;
    assert_int_equal(a.u.data.via.array.size, 5);
    assert_int_equal(a.items[1].via.u64, OK);
    return a;
}

static void answer_free(struct answer *a) {
    msgpack_unpacked_destroy(&a->u);
    nng_msg_free(a->message);
}

static const msgpack_object *result_of(const struct answer *a) {
    return a->items[2].via.array.ptr[0].via.array.ptr;
}

static uint64_t token_of(const struct answer *a, uint64_t shard) {
    const msgpack_object_array *tokens = &a->items[3].via.array;
    for (uint32_t i = 0; i < tokens->size; i++) {
        const msgpack_object *t = tokens->ptr[i].via.array.ptr;
        if (t[0].via.u64 == shard) return t[1].via.u64;
    }
    return 0;
}

static uint64_t get_code(const char *url, const struct raw_id *key, int64_t deadline_ms,
                         struct token token, uint64_t *version) {
    struct question q;
    struct msgpack_writer *w = question(&q, deadline_ms, 4);
    msgpack_write_array(w, 2);
    msgpack_write_uint(w, QUERY_GET);
    msgpack_write_bin(w, key->bytes, 16);
    demand(w, token);
    struct answer a = ask(url, &q);
    uint64_t code = result_of(&a)[0].via.u64;
    *version = result_of(&a)[1].via.u64;
    if (code == OK) assert_true(token_of(&a, token.shard) >= token.index);
    if (code == TOKEN_NOT_REACHED) assert_int_equal(a.items[4].via.array.size, 1);
    answer_free(&a);
    return code;
}

/* -- tests ------------------------------------------------------------------------------------- */

static void a_write_is_read_back(void **state) {
    struct raw_client c;
    char url[64];
    uint64_t version;
    raw_open(&c, node_url);
    struct replica *r = replica_open("r1", "", url);
    for (int i = 0; i < 60; i++) {
        struct raw_id key = raw_key();
        struct token token = place(&c, &key, "store-1", 1);
        assert_int_equal(get_code(url, &key, -PATIENCE_MS, token, &version), OK);
        assert_int_equal(version, 1);
        token = annotate(&c, &key);
        assert_int_equal(get_code(url, &key, -PATIENCE_MS, token, &version), OK);
        assert_int_equal(version, 2);
        token.index += 1000000;
        if (i == 0) assert_int_equal(get_code(url, &key, -30, token, &version), TOKEN_NOT_REACHED);
    }
    replica_stop(r, false);
    raw_close(&c);
}

/* Nor those that are meant for the nodes of one cluster, as those of a client's library are: what
 * stands where a question has its age must not make another fault of them. */
static void a_replica_takes_no_commands(void **state) {
    char url[64];
    struct question q;
    struct raw_id key = raw_key(), id = raw_id();
    struct replica *r = replica_open("r1", "", url);
    static const uint8_t kinds[] = {1, 2, 5, 11, 14, 50, 51, 110};
    for (size_t i = 0; i < 2 * sizeof kinds; i++) {
        bool of_cluster = i % 2;
        struct msgpack_writer *w = question(&q, 0, of_cluster ? 5 : 3);
        msgpack_write_array(w, 3);
        msgpack_write_uint(w, kinds[i / 2]);
        msgpack_write_bin(w, key.bytes, 16);
        msgpack_write_bin(w, id.bytes, 16);
        if (of_cluster) {
            msgpack_write_nil(w);
            msgpack_write_bin(w, id.bytes, 16);
        }
        struct answer a = ask(url, &q);
        assert_int_equal(result_of(&a)[0].via.u64, READ_ONLY);
        answer_free(&a);
    }
    replica_stop(r, false);
}

/* It has met no node: nothing that it says can be taken for an answer, however patient one is. */
static void a_replica_that_knows_nothing_says_so(void **state) {
    char url[64];
    struct raw_id key = raw_key();
    uint64_t version;
    struct replica *r = replica_begin("r1", "inproc://nobody-is-there", "", url);
    for (uint64_t kind = QUERY_MULTI_GET; kind <= QUERY_REBUILD; kind++) {
        struct question q;
        if (kind == QUERY_WATCH || kind == QUERY_EXPORT) continue;
        struct msgpack_writer *w = question(&q, -PATIENCE_MS, 3);
        msgpack_write_array(w, kind == QUERY_COUNTERS ? 4 : 2);
        msgpack_write_uint(w, kind);
        if (kind == QUERY_MULTI_GET) msgpack_write_bin(w, key.bytes, 16);
        else if (kind == QUERY_STATE_ORDERS) msgpack_write_uint(w, 2);
        else if (kind == QUERY_COUNTERS) msgpack_write_uint(w, 60000);
        else msgpack_write_text(w, kind == QUERY_REBUILD ? "board" : "store-1");
        if (kind == QUERY_COUNTERS) {
            msgpack_write_int(w, 0);
            msgpack_write_int(w, 1);
        }
        struct answer a = ask(url, &q);
        assert_int_equal(result_of(&a)[0].via.u64, NOT_READY);
        assert_int_equal(a.items[3].via.array.size, 0);
        answer_free(&a);
    }
    assert_int_equal(get_code(url, &key, 0, (struct token){0, 0}, &version), NOT_READY);
    assert_int_equal(get_code(url, &key, -PATIENCE_MS, (struct token){1, 7}, &version), NOT_READY);
    replica_stop(r, false);
}

/* -- a view that is built anew -- */

struct asked_rebuild { uint64_t generation; bool under_way; };

static struct asked_rebuild rebuild(const char *url, const char *view) {
    struct question q;
    struct msgpack_writer *w = question(&q, 0, 3);
    struct asked_rebuild r = {0, false};
    msgpack_write_array(w, 2);
    msgpack_write_uint(w, QUERY_REBUILD);
    msgpack_write_text(w, view);
    struct answer a = ask(url, &q);
    assert_int_equal(result_of(&a)[0].via.u64, OK);
    const msgpack_object_map *map = &result_of(&a)[5].via.map;
    assert_int_equal(map->size, 3);
    r.generation = map->ptr[1].val.via.u64;
    r.under_way = map->ptr[2].val.via.boolean;
    answer_free(&a);
    return r;
}

/* A number of the status, at "map.name"; -1 = there is none. */
static int64_t status_number(const char *url, const char *map, const char *name) {
    struct question q;
    int64_t number = -1;
    msgpack_write_array(question(&q, 0, 3), 1);
    msgpack_write_uint(&q.w, 102);
    struct answer a = ask(url, &q);
    const msgpack_object_map *all = &result_of(&a)[5].via.map;
    for (uint32_t i = 0; i < all->size; i++) {
        const msgpack_object_map *in = &all->ptr[i].val.via.map;
        if (all->ptr[i].key.via.str.size != strlen(map) ||
            memcmp(all->ptr[i].key.via.str.ptr, map, strlen(map)) != 0)
            continue;
        for (uint32_t k = 0; k < in->size; k++)
            if (in->ptr[k].key.via.str.size == strlen(name) &&
                memcmp(in->ptr[k].key.via.str.ptr, name, strlen(name)) == 0)
                number = (int64_t)in->ptr[k].val.via.u64;
    }
    answer_free(&a);
    return number;
}

static void await_generation(const char *url, int64_t generation) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (status_number(url, "building", "board") >= 0 ||
           status_number(url, "generations", "board") < generation) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
    assert_int_equal(status_number(url, "generations", "board"), generation);
}

/* Twice in a row: the second one begins nothing while the first one is under way. True: it was. */
static bool rebuild_twice(const char *url) {
    struct asked_rebuild first = rebuild(url, "board"), second = rebuild(url, "board");
    assert_false(first.under_way);
    if (second.under_way) assert_int_equal(second.generation, first.generation);
    else assert_int_equal(second.generation, first.generation + 1);
    await_generation(url, (int64_t)second.generation + 1);
    return second.under_way;
}

/* Right after the orders came, when nothing of them is on disk yet: all of them are in the view,
 * and the number that is told is theirs. */
static void a_rebuild_takes_all_that_could_be_asked_for(void **state) {
    enum { ORDERS = 200 };
    char url[64];
    uint64_t version;
    bool met_one = false;
    struct raw_client c;
    struct replica *r = replica_open("r1", "", url);
    raw_open(&c, node_url);
    for (int round = 1; round <= 3; round++) {
        struct raw_id last[SHARDS];
        struct token tokens[SHARDS] = {{0, 0}};
        for (int i = 0; i < ORDERS; i++) {
            struct raw_id key = raw_key();
            struct token token = noted(place(&c, &key, "store-1", 1));
            tokens[token.shard] = token;
            last[token.shard] = key;
        }
        for (uint64_t s = 0; s < SHARDS; s++)
            assert_int_equal(get_code(url, &last[s], -PATIENCE_MS, tokens[s], &version), OK);
        met_one |= rebuild_twice(url);
        assert_int_equal(status_number(url, "built", "board"), ORDERS * round);
        assert_int_equal(status_number(url, "views", "board"), ORDERS * round);
    }
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (!met_one && clock_mono_ms() < until_ms) met_one = rebuild_twice(url);
    assert_true(met_one);
    raw_close(&c);
    replica_stop(r, false);
}

/* Writes to one store until it is told to stop. */
struct writer {
    pthread_t thread;
    atomic_bool stop;
    struct raw_id keys[400];
    uint32_t versions[400], count, events;
};

static void *writer_main(void *arg) {
    struct writer *wr = arg;
    struct raw_client c;
    raw_open(&c, node_url);
    while (!atomic_load(&wr->stop) && wr->count < 400) {
        wr->keys[wr->count] = raw_key();
        place(&c, &wr->keys[wr->count], "watched", 1);
        wr->versions[wr->count++] = 1;
        uint32_t older = wr->events++ * 7919 % wr->count;
        annotate(&c, &wr->keys[older]);
        wr->versions[older]++;
    }
    raw_close(&c);
    return NULL;
}

/* What a watcher knows. */
struct seen { struct raw_id keys[400]; uint64_t versions[400]; uint32_t count; };

static void see(struct seen *seen, const msgpack_object *row) {
    const msgpack_object *fields = row->via.array.ptr;
    uint64_t version = fields[1].via.u64;
    for (uint32_t i = 0; i < seen->count; i++) {
        if (memcmp(seen->keys[i].bytes, fields[0].via.bin.ptr, 16) != 0) continue;
        assert_true(version > seen->versions[i]); /* nothing comes twice, nothing goes back */
        seen->versions[i] = version;
        return;
    }
    assert_true(seen->count < 400);
    memcpy(seen->keys[seen->count].bytes, fields[0].via.bin.ptr, 16);
    seen->versions[seen->count++] = version;
}

/* One WATCH from `since` on, which moves. Returns the rows. */
static uint32_t watch(const char *url, struct token since[SHARDS], bool first, struct seen *seen) {
    struct question q;
    struct msgpack_writer *w = question(&q, first ? 0 : -50, 3);
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, QUERY_WATCH);
    msgpack_write_text(w, "store/watched");
    msgpack_write_array(w, SHARDS);
    for (int i = 0; i < SHARDS; i++) {
        msgpack_write_array(w, 2);
        msgpack_write_uint(w, since[i].shard);
        msgpack_write_uint(w, since[i].index);
    }
    msgpack_write_array(w, 2);
    msgpack_write_text(w, "key");
    msgpack_write_text(w, "version");
    msgpack_write_uint(w, 5); /* small pages: they are cut often */
    struct answer a = ask(url, &q);
    assert_int_equal(result_of(&a)[0].via.u64, OK);
    const msgpack_object *value = result_of(&a)[5].via.array.ptr;
    uint32_t rows = value[0].via.array.size;
    for (uint32_t i = 0; i < rows; i++) see(seen, &value[0].via.array.ptr[i]);
    for (uint32_t i = 0; i < value[1].via.array.size; i++) {
        const msgpack_object *t = value[1].via.array.ptr[i].via.array.ptr;
        for (int s = 0; s < SHARDS; s++) {
            if (since[s].shard != t[0].via.u64) continue;
            assert_true(t[1].via.u64 >= since[s].index);
            since[s].index = t[1].via.u64;
        }
    }
    answer_free(&a);
    return rows;
}

/* Every look is a new connection; two replicas take turns, and one of them is restarted. */
static void a_watcher_misses_nothing(void **state) {
    char urls[2][64];
    struct token since[SHARDS] = {{0, 0}, {1, 0}};
    static struct writer writer;
    static struct seen seen;
    memset(&writer, 0, sizeof writer);
    memset(&seen, 0, sizeof seen);
    struct replica *r[2] = {replica_open("r1", "", urls[0]), replica_open("r2", "", urls[1])};
    assert_int_equal(pthread_create(&writer.thread, NULL, writer_main, &writer), 0);
    for (int i = 0; i < 40; i++) {
        watch(urls[i % 2], since, i == 0, &seen);
        if (i == 20) {
            replica_stop(r[1], false);
            r[1] = replica_open("r2", "", urls[1]);
        }
    }
    atomic_store(&writer.stop, true);
    pthread_join(writer.thread, NULL);
    /* Until a look with patience finds nothing more at a replica that has everything. */
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    uint64_t total = 0, wanted = 0;
    for (uint32_t i = 0; i < writer.count; i++) wanted += writer.versions[i];
    while (total < wanted) {
        assert_true(clock_mono_ms() < until_ms);
        watch(urls[0], since, false, &seen);
        total = 0;
        for (uint32_t i = 0; i < seen.count; i++) total += seen.versions[i];
    }
    assert_int_equal(total, wanted);
    assert_int_equal(seen.count, writer.count);
    assert_int_equal(watch(urls[1], since, false, &seen), 0);
    replica_stop(r[0], false);
    replica_stop(r[1], false);
}

/* -- copies ------------------------------------------------------------------------------------ */

/* All rows of a list, page by page, one behind the other: what two replicas must agree on. */
static size_t all_rows(const char *url, uint8_t *out, size_t room, uint32_t *rows) {
    size_t used = 0;
    *rows = 0;
    for (uint32_t state = 2; state <= 11; state++) {
        uint8_t cursor[600];
        uint32_t cursor_bytes = 0;
        do {
            struct question q;
            struct msgpack_writer *w = question(&q, -PATIENCE_MS, 4);
            msgpack_write_array(w, 7);
            msgpack_write_uint(w, QUERY_STATE_ORDERS);
            msgpack_write_uint(w, state);
            msgpack_write_nil(w);
            msgpack_write_nil(w);
            msgpack_write_nil(w);
            msgpack_write_uint(w, 7);
            if (cursor_bytes) msgpack_write_bin(w, cursor, cursor_bytes);
            else msgpack_write_nil(w);
            msgpack_write_array(w, SHARDS);
            for (int i = 0; i < SHARDS; i++) {
                msgpack_write_array(w, 2);
                msgpack_write_uint(w, (unsigned)i);
                msgpack_write_uint(w, newest[i].index);
            }
            struct answer a = ask(url, &q);
            assert_int_equal(a.items[4].via.array.size, 0);
            const msgpack_object *result = result_of(&a);
            assert_int_equal(result[0].via.u64, OK);
            for (uint32_t i = 0; i < result[5].via.array.size; i++) {
                msgpack_sbuffer b;
                msgpack_packer p;
                msgpack_sbuffer_init(&b);
                msgpack_packer_init(&p, &b, msgpack_sbuffer_write);
                msgpack_pack_object(&p, result[5].via.array.ptr[i]);
                assert_true(used + b.size <= room);
                memcpy(out + used, b.data, b.size);
                used += b.size;
                msgpack_sbuffer_destroy(&b);
                (*rows)++;
            }
            bool more = a.items[2].via.array.ptr[0].via.array.size > 6;
            cursor_bytes = more ? result[6].via.bin.size : 0;
            if (more) memcpy(cursor, result[6].via.bin.ptr, cursor_bytes);
            answer_free(&a);
        } while (cursor_bytes);
    }
    return used;
}

static void expect_same(const char *one, const char *other, uint32_t at_least_rows) {
    enum { ROOM = 4 << 20 };
    uint8_t *a = malloc(ROOM), *b = malloc(ROOM);
    uint32_t rows_a, rows_b;
    assert_true(a && b);
    size_t size_a = all_rows(one, a, ROOM, &rows_a);
    size_t size_b = all_rows(other, b, ROOM, &rows_b);
    assert_true(rows_a >= at_least_rows);
    assert_int_equal(rows_a, rows_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(a, b, size_a);
    free(a);
    free(b);
}

/* A copy of another replica's views plus the feed is what a replay of the logs is. */
static void a_copy_and_the_feed_equal_a_replay(void **state) {
    char one[64], other[64];
    struct raw_client c;
    struct raw_id keys[60];
    struct token last = {0};
    raw_open(&c, node_url);
    struct replica *r1 = replica_open("r1", "", one);
    for (int i = 0; i < 60; i++) {
        keys[i] = raw_key();
        last = noted(place(&c, &keys[i], i % 2 ? "store-1" : "store-2", 2));
    }
    uint64_t version;
    assert_int_equal(get_code(one, &keys[59], -PATIENCE_MS, last, &version), OK);
    struct replica *r2 = replica_open("r2", one, other);
    for (int i = 0; i < 60; i += 3) noted(annotate(&c, &keys[i]));
    expect_same(one, other, 60);
    /* What r2 holds of before the copy it can only have from there. */
    replica_stop(r1, false);
    replica_stop(r2, false);
    raw_close(&c);
}

/* How many logs have lost their beginning. */
static uint64_t logs_cut(void) {
    struct feed_hello_shard shards[SHARDS_MAX];
    struct feed_hello hello = {.shards = shards, .shards_max = SHARDS_MAX};
    char error[256] = "";
    nng_msg *reply;
    uint64_t cut = 0;
    assert_int_equal(feed_hello(feed_url, PATIENCE_MS, NULL, &hello, &reply, error,
                                sizeof error), 0);
    for (uint32_t i = 0; i < hello.shards_held; i++) cut += shards[i].first > 1;
    nng_msg_free(reply);
    return cut;
}

/* Retention has dropped the beginning of the logs: a new replica fetches the shards' states. */
static void a_state_and_the_feed_equal_a_replay(void **state) {
    char one[64], other[64];
    struct raw_client c;
    struct raw_id keys[240];
    struct token last = {0};
    raw_open(&c, node_url);
    struct replica *r1 = replica_open("r1", "", one);
    for (int i = 0; i < 240; i++) {
        keys[i] = raw_key();
        last = noted(place(&c, &keys[i], "store-1", 300));
    }
    uint64_t version;
    assert_int_equal(get_code(one, &keys[239], -PATIENCE_MS, last, &version), OK);
    replica_stop(r1, false);
    raw_close(&c);
    uint64_t dropped = 0;
    for (int i = 0; dropped == 0 && i < 50; i++) { /* a start looks after the last checkpoint */
        node_end();
        node_open(1);
        usleep(300000);
        dropped = logs_cut();
    }
    print_message("%llu of %d logs have lost their beginning\n", (unsigned long long)dropped,
                  SHARDS);
    assert_true(dropped > 0);
    r1 = replica_open("r1", "", one);
    struct replica *r2 = replica_open("r2", "", other);
    raw_open(&c, node_url);
    for (int i = 0; i < 240; i += 50) last = noted(annotate(&c, &keys[i]));
    for (int i = 200; i < 240; i += 50)
        assert_int_equal(get_code(other, &keys[i], -PATIENCE_MS, last, &version), OK);
    expect_same(one, other, 240);
    replica_stop(r1, false);
    replica_stop(r2, false);
    raw_close(&c);
}

/* The oldest age that an answer tells; *tokens = for how many shards it does. */
static uint64_t oldest_age(const char *url, uint32_t *tokens) {
    struct question q;
    struct msgpack_writer *w = question(&q, 0, 3);
    msgpack_write_array(w, 1);
    msgpack_write_uint(w, 100); /* ping */
    struct answer a = ask(url, &q);
    const msgpack_object_array *list = &a.items[3].via.array;
    uint64_t oldest = 0;
    for (uint32_t i = 0; i < list->size; i++) {
        uint64_t age = list->ptr[i].via.array.ptr[2].via.u64;
        if (age > oldest) oldest = age;
    }
    *tokens = list->size;
    assert_int_equal(a.items[4].via.array.size, 0);
    answer_free(&a);
    return oldest;
}

/* Its log has ended: what the replica has is all there is, and does not grow old. Who is not told
 * that it was retired knows only that no node has it. */
static void a_retired_shard_does_not_grow_old(void **state) {
    static const uint8_t active[SHARDS_MAX / 8] = {1};
    struct raw_client c;
    struct raw_id keys[2];
    char url[64];
    uint64_t version;
    uint32_t tokens;
    bool there[SHARDS] = {false};
    raw_open(&c, node_url);
    struct replica *r = replica_open("r1", "", url);
    while (!there[0] || !there[1]) {
        struct raw_id key = raw_key();
        struct token token = noted(place(&c, &key, "store-1", 1));
        keys[token.shard] = key;
        there[token.shard] = true;
    }
    for (int i = 0; i < SHARDS; i++)
        assert_int_equal(get_code(url, &keys[i], -PATIENCE_MS, newest[i], &version), OK);
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    feed_remove(node->feed, 1);
    while (oldest_age(url, &tokens) < 1000) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(10000);
    }
    feed_set_active(node->feed, active);
    /* The other shard's age comes and goes with what its node tells it: once is enough. */
    while (oldest_age(url, &tokens) >= 1000) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(10000);
    }
    assert_int_equal(tokens, SHARDS);
    for (int i = 0; i < SHARDS; i++)
        assert_int_equal(get_code(url, &keys[i], -PATIENCE_MS, newest[i], &version), OK);
    replica_stop(r, false);
    raw_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_write_is_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_takes_no_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_that_knows_nothing_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rebuild_takes_all_that_could_be_asked_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_retired_shard_does_not_grow_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_watcher_misses_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_copy_and_the_feed_equal_a_replay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_state_and_the_feed_equal_a_replay, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("replica", tests, NULL, NULL);
}
