/* A real node, asked by a hand-made client: what a user of the wire protocol can rely on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/scheduling.h"
#include "tests/process/node_process.h"
#include "tests/process/raw_client.h"

enum { SHARDS = 2, ACKED_MAX = 20000, OK = 0, OVERLOADED = 2, MALFORMED_MESSAGE = 50,
       UNSUPPORTED_VERSION = 51, MESSAGE_TOO_LARGE = 52, BATCH_TOO_LARGE = 53,
       UNKNOWN_COMMAND = 54, MALFORMED_COMMAND = 60, WRONG_TYPE = 61, FIELD_MISSING = 62,
       TEXT_TOO_LONG = 63, NUMBER_OUT_OF_RANGE = 65, KEY_MISSING = 67, KEY_FROM_FUTURE = 68,
       ORDER_NOT_FOUND = 100, STORE_PAUSED = 110,
       LINES_MISSING = 111, QUANTITY_NOT_POSITIVE = 112, QUANTITY_TOO_LARGE = 113,
       MONEY_NEGATIVE = 114, MONEY_TOO_LARGE = 115 };

static const char *program;
static char directory[256];
static struct node_process node;
static struct raw_client client;

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "%s", directory_make());
    node_init(&node, program, directory, SHARDS);
    node.arguments[0] = "--shards=2";
    node.arguments[1] = "--checkpoint-age-ms=50";
    node_start(&node);
    raw_open(&client, node.endpoint);
    return 0;
}

static int tear_down(void **state) {
    raw_close(&client);
    if (node.pid) node_stop(&node);
    directory_remove(directory);
    return 0;
}

static uint64_t place_one(struct raw_client *c, const struct raw_id *key, const char *store) {
    struct raw_request r;
    struct raw_reply reply;
    struct raw_id id = raw_id();
    raw_begin(&r, 0, 1);
    raw_place(&r, key, &id, store, 3);
    raw_ask(c, &r, &reply);
    assert_int_equal(reply.code, OK);
    uint64_t code = raw_result(&reply, 0).code;
    raw_reply_free(&reply);
    return code;
}

/* One read; the reply stays the caller's to free. */
static struct raw_result read_one(int kind, const struct raw_id *key, const char *store,
                                  struct raw_reply *reply) {
    struct raw_request r;
    raw_begin(&r, 0, 1);
    if (kind >= RAW_PING) raw_node(&r, kind);
    else if (store) raw_store(&r, kind, store, NULL);
    else raw_bare(&r, kind, key, NULL);
    raw_ask(&client, &r, reply);
    assert_int_equal(reply->code, OK);
    assert_int_equal(reply->count, 1);
    return raw_result(reply, 0);
}

static void assert_pong(void) {
    struct raw_reply reply;
    struct raw_result result = read_one(RAW_PING, NULL, NULL, &reply);
    assert_int_equal(result.code, OK);
    assert_true(result.value && raw_text_is(result.value, "pong"));
    raw_reply_free(&reply);
}

/* -- the life of an order ---------------------------------------------------------------------- */

static void place_pay_get_history(void **state) {
    struct raw_request r;
    struct raw_reply reply;
    struct raw_id key = raw_key(), place = raw_id(), pay = raw_id();
    raw_begin(&r, 0, 3);
    raw_place(&r, &key, &place, "store-1", 3);
    raw_pay(&r, &key, &pay, 3000);
    raw_bare(&r, RAW_GET, &key, NULL);
    raw_ask(&client, &r, &reply);
    assert_int_equal(reply.count, 3);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(raw_result(&reply, i).code, OK);
    assert_int_equal(raw_result(&reply, 0).version, 1);
    assert_int_equal(raw_result(&reply, 1).version, 2);
    assert_true(raw_result(&reply, 1).index > 0);
    const msgpack_object *order = raw_result(&reply, 2).value;
    assert_true(raw_text_is(raw_member(order, "state"), "paid"));
    assert_int_equal(raw_number(order, "total"), 3000);
    assert_int_equal(raw_number(order, "captured"), 3000);
    assert_int_equal(raw_number(order, "version"), 2);
    raw_reply_free(&reply);

    struct raw_result history = read_one(RAW_HISTORY, &key, NULL, &reply);
    assert_int_equal(history.code, OK);
    assert_true(history.value && history.value->type == MSGPACK_OBJECT_ARRAY);
    assert_int_equal(history.value->via.array.size, 2);
    raw_reply_free(&reply);

    /* A retry under the same command id gets the first answer, and changes nothing. */
    raw_begin(&r, 0, 2);
    raw_place(&r, &key, &place, "store-1", 3);
    raw_bare(&r, RAW_GET, &key, NULL);
    raw_ask(&client, &r, &reply);
    assert_int_equal(raw_result(&reply, 0).code, OK);
    assert_int_equal(raw_result(&reply, 0).version, 1);
    assert_int_equal(raw_result(&reply, 0).flags, 1);
    assert_int_equal(raw_number(raw_result(&reply, 1).value, "version"), 2);
    raw_reply_free(&reply);
}

/* A message of nothing but node commands: as many answers as a reply holds, the rest is told so. */
static void a_reply_of_node_commands_ends_at_its_bound(void **state) {
    static const int kinds[] = {RAW_SHARD_MAP, RAW_STATUS, RAW_PING};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct raw_request r;
        struct raw_reply reply;
        raw_begin(&r, 0, 1024);
        for (uint32_t i = 0; i < 1024; i++) raw_node(&r, kinds[k]);
        raw_ask(&client, &r, &reply);
        assert_int_equal(reply.code, OK);
        assert_int_equal(reply.count, 1024);
        struct raw_result first = raw_result(&reply, 0);
        assert_int_equal(first.code, OK);
        for (uint32_t i = 0; i < 1024; i++) {
            struct raw_result result = raw_result(&reply, i);
            if (result.code == MESSAGE_TOO_LARGE && kinds[k] == RAW_STATUS) continue;
            assert_int_equal(result.code, OK);
            assert_true(msgpack_object_equal(*result.value, *first.value));
        }
        raw_reply_free(&reply);
    }
    assert_pong();
}

static void reads_of_what_is_not_there(void **state) {
    struct raw_reply reply;
    struct raw_id key = raw_key();
    assert_int_equal(read_one(RAW_GET, &key, NULL, &reply).code, ORDER_NOT_FOUND);
    raw_reply_free(&reply);
    assert_int_equal(read_one(RAW_HISTORY, &key, NULL, &reply).code, ORDER_NOT_FOUND);
    raw_reply_free(&reply);
}

/* The endpoint of a shard of the shard map. */
static void shard_endpoint(uint32_t shard, char *out, size_t out_bytes) {
    struct raw_reply reply;
    struct raw_result map = read_one(RAW_SHARD_MAP, NULL, NULL, &reply);
    const msgpack_object *shards = raw_member(map.value, "shards");
    assert_true(shards && shards->type == MSGPACK_OBJECT_ARRAY);
    assert_int_equal(shards->via.array.size, SHARDS);
    const msgpack_object *pair = &shards->via.array.ptr[shard];
    assert_int_equal(pair->via.array.ptr[0].via.u64, shard);
    const msgpack_object_str *url = &pair->via.array.ptr[1].via.str;
    snprintf(out, out_bytes, "%.*s", (int)url->size, url->ptr);
    raw_reply_free(&reply);
}

static void any_endpoint_takes_any_command(void **state) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        char url[128];
        struct raw_client other;
        bool seen[SHARDS] = {false};
        shard_endpoint(shard, url, sizeof url);
        raw_open(&other, url);
        struct raw_request r;
        struct raw_reply reply;
        raw_begin(&r, 0, 16);
        for (int i = 0; i < 16; i++) {
            struct raw_id key = raw_key(), id = raw_id();
            raw_place(&r, &key, &id, "store-2", 1);
        }
        raw_ask(&other, &r, &reply);
        for (uint32_t i = 0; i < 16; i++) {
            assert_int_equal(raw_result(&reply, i).code, OK);
            seen[raw_result(&reply, i).shard] = true;
        }
        raw_reply_free(&reply);
        assert_true(seen[0] && seen[1]);
        raw_close(&other);
    }
    struct raw_reply reply;
    struct raw_result status = read_one(RAW_STATUS, NULL, NULL, &reply);
    assert_true(raw_number(raw_member(status.value, "messages"), "stray_commands") > 0);
    raw_reply_free(&reply);
}

/* -- stores: their orders lie on both shards --------------------------------------------------- */

static void await_open_orders(const char *store, int64_t open_orders) {
    int64_t got = -1, until = monotonic_ms() + 20000;
    while (got != open_orders && monotonic_ms() < until) {
        struct raw_reply reply;
        struct raw_result result = read_one(RAW_STORE_GET, NULL, store, &reply);
        if (result.code == OK) got = raw_number(result.value, "open_orders");
        raw_reply_free(&reply);
        sleep_ms(5);
    }
    assert_int_equal(got, open_orders);
}

static uint64_t ask_store(int kind, const char *store) {
    struct raw_request r;
    struct raw_reply reply;
    struct raw_id id = raw_id();
    raw_begin(&r, 0, 1);
    raw_store(&r, kind, store, &id);
    raw_ask(&client, &r, &reply);
    uint64_t code = raw_result(&reply, 0).code;
    raw_reply_free(&reply);
    return code;
}

/* Until places of the store get the code, on keys of both shards. */
static void await_place_code(const char *store, uint64_t code) {
    int64_t until = monotonic_ms() + 20000;
    for (;;) {
        struct raw_request r;
        struct raw_reply reply;
        uint32_t with_code = 0;
        raw_begin(&r, 0, 32);
        for (int i = 0; i < 32; i++) {
            struct raw_id key = raw_key(), id = raw_id();
            raw_place(&r, &key, &id, store, 1);
        }
        raw_ask(&client, &r, &reply);
        for (uint32_t i = 0; i < 32; i++) with_code += raw_result(&reply, i).code == code;
        raw_reply_free(&reply);
        if (with_code == 32) return;
        assert_true(monotonic_ms() < until);
        sleep_ms(5);
    }
}

static void stores_count_and_pause_over_all_shards(void **state) {
    enum { ORDERS = 40 };
    struct raw_id keys[ORDERS];
    for (int i = 0; i < ORDERS; i++) {
        keys[i] = raw_key();
        assert_int_equal(place_one(&client, &keys[i], "kitchen"), OK);
    }
    await_open_orders("kitchen", ORDERS);
    for (int i = 0; i < 10; i++) {
        struct raw_request r;
        struct raw_reply reply;
        struct raw_id id = raw_id();
        raw_begin(&r, 0, 1);
        raw_head(&r, RAW_CANCEL, &keys[i], NULL, &id);
        msgpack_pack_array(&r.packer, 1);
        msgpack_pack_int(&r.packer, 1);
        raw_ask(&client, &r, &reply);
        assert_int_equal(raw_result(&reply, 0).code, OK);
        raw_reply_free(&reply);
    }
    await_open_orders("kitchen", ORDERS - 10);
    assert_int_equal(ask_store(RAW_STORE_PAUSE, "kitchen"), OK);
    await_place_code("kitchen", STORE_PAUSED);
    /* Orders already placed go on. */
    struct raw_request r;
    struct raw_reply reply;
    struct raw_id id = raw_id();
    raw_begin(&r, 0, 1);
    raw_pay(&r, &keys[20], &id, 3000);
    raw_ask(&client, &r, &reply);
    assert_int_equal(raw_result(&reply, 0).code, OK);
    raw_reply_free(&reply);
    assert_int_equal(ask_store(RAW_STORE_RESUME, "kitchen"), OK);
    await_place_code("kitchen", OK);
}

/* -- bad input --------------------------------------------------------------------------------- */

static uint64_t code_of_bytes(const void *bytes, size_t size) {
    struct raw_reply reply;
    assert_int_equal(raw_ask_bytes(&client, bytes, size, 10000, &reply), 0);
    uint64_t code = reply.code;
    raw_reply_free(&reply);
    return code;
}

static void messages_that_are_none(void **state) {
    assert_int_equal(code_of_bytes("", 0), MALFORMED_MESSAGE);
    assert_int_equal(code_of_bytes("\xc1", 1), MALFORMED_MESSAGE);
    assert_int_equal(code_of_bytes("hello there", 11), MALFORMED_MESSAGE);
    assert_int_equal(code_of_bytes("\x93\x01\x00\x90", 4), MALFORMED_MESSAGE);
    assert_int_equal(code_of_bytes("\x93\x02\x00\x91\xc0", 5), UNSUPPORTED_VERSION);
    struct raw_request r;
    struct raw_id key = raw_key(), id = raw_id();
    raw_begin(&r, 0, 1);
    raw_place(&r, &key, &id, "store", 3);
    for (size_t cut = 0; cut < r.buffer.size; cut++)
        assert_int_equal(code_of_bytes(r.buffer.data, cut), MALFORMED_MESSAGE);
    raw_free(&r);
    raw_begin(&r, 0, 1025);
    for (int i = 0; i < 1025; i++) raw_node(&r, RAW_PING);
    struct raw_reply reply;
    raw_ask(&client, &r, &reply);
    assert_int_equal(reply.code, BATCH_TOO_LARGE);
    raw_reply_free(&reply);
    assert_pong();
}

/* Writes a place whose fields differ from a right one in what is given. */
static void odd_place(struct raw_request *r, const struct raw_id *key, const char *store,
                      uint64_t quantity, int64_t price, int64_t fees) {
    struct raw_id id = raw_id();
    raw_head(r, RAW_PLACE, key, NULL, &id);
    msgpack_pack_array(&r->packer, 8);
    msgpack_pack_int(&r->packer, 1);
    msgpack_pack_int(&r->packer, 1);
    msgpack_pack_str_with_body(&r->packer, "EUR", 3);
    msgpack_pack_str_with_body(&r->packer, store, strlen(store));
    msgpack_pack_array(&r->packer, 1);
    msgpack_pack_array(&r->packer, 3);
    msgpack_pack_str_with_body(&r->packer, "sku", 3);
    msgpack_pack_uint64(&r->packer, quantity);
    msgpack_pack_int64(&r->packer, price);
    msgpack_pack_int64(&r->packer, fees);
    msgpack_pack_int(&r->packer, 0);
    msgpack_pack_int64(&r->packer, fees);
}

/* Each item of a batch has its own fault, and the last one has none. */
static void faults_are_of_one_command(void **state) {
    struct raw_request r;
    struct raw_reply reply;
    struct raw_id key = raw_key(), id = raw_id(), zero = {{0}}, future = raw_key();
    char long_text[70];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    future.bytes[0] = 0x7f;
    raw_begin(&r, 0, 10);
    odd_place(&r, &key, "store", 0, 100, 0);
    odd_place(&r, &key, "store", 1ULL << 63, 100, 0);
    odd_place(&r, &key, "store", 1, -5, 0);
    odd_place(&r, &key, "store", 1, INT64_MAX, INT64_MAX);
    odd_place(&r, &key, long_text, 1, 0, 0);
    odd_place(&r, &zero, "store", 1, 0, 0);
    odd_place(&r, &future, "store", 1, 0, 0);
    raw_bare(&r, 77, &key, &id);
    raw_head(&r, RAW_PAY, &key, NULL, &id);
    msgpack_pack_int(&r.packer, 5);
    raw_place(&r, &key, &id, "store", 2);
    raw_ask(&client, &r, &reply);
    assert_int_equal(reply.count, 10);
    assert_int_equal(raw_result(&reply, 0).code, QUANTITY_NOT_POSITIVE);
    uint64_t code = raw_result(&reply, 1).code;
    assert_true(code == QUANTITY_TOO_LARGE || code == NUMBER_OUT_OF_RANGE);
    code = raw_result(&reply, 2).code;
    assert_true(code == MONEY_NEGATIVE || code == NUMBER_OUT_OF_RANGE);
    assert_int_equal(raw_result(&reply, 3).code, MONEY_TOO_LARGE);
    assert_int_equal(raw_result(&reply, 4).code, TEXT_TOO_LONG);
    assert_int_equal(raw_result(&reply, 5).code, KEY_MISSING);
    assert_int_equal(raw_result(&reply, 6).code, KEY_FROM_FUTURE);
    assert_int_equal(raw_result(&reply, 7).code, UNKNOWN_COMMAND);
    code = raw_result(&reply, 8).code;
    assert_true(code == WRONG_TYPE || code == MALFORMED_COMMAND);
    assert_int_equal(raw_result(&reply, 9).code, OK);
    raw_reply_free(&reply);

    struct raw_result status = read_one(RAW_STATUS, NULL, NULL, &reply);
    const msgpack_object *malformed = raw_member(status.value, "malformed");
    assert_int_equal(raw_number(malformed, "text_too_long"), 1);
    assert_int_equal(raw_number(malformed, "unknown_command"), 1);
    assert_int_equal(raw_number(malformed, "key_missing"), 1);
    raw_reply_free(&reply);
}

static int raw_tcp(void) {
    int port = 0;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(sscanf(node.endpoint, "tcp://127.0.0.1:%d", &port), 1);
    address.sin_port = htons((uint16_t)port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void write_all(int fd, const void *bytes, size_t size) {
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static const uint8_t hello[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0}; /* SP handshake of a REQ */

/* Half a handshake, rubbish instead of one, half a message, a giant length, a reply never read. */
static void connections_that_break(void **state) {
    for (int round = 0; round < 20; round++) {
        int fd = raw_tcp();
        write_all(fd, hello, (size_t)(round % 8));
        close(fd);
        fd = raw_tcp();
        write_all(fd, "GET / HTTP/1.1\r\n\r\n", 18);
        close(fd);
        fd = raw_tcp();
        write_all(fd, hello, sizeof hello);
        write_all(fd, "\0\0\0\0\0\0\0\x20\x80\0\0\1\x93\1", 14);
        close(fd);
        fd = raw_tcp();
        write_all(fd, hello, sizeof hello);
        write_all(fd, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8);
        close(fd);
        fd = raw_tcp(); /* STATUS, and gone before the reply */
        write_all(fd, hello, sizeof hello);
        write_all(fd, "\0\0\0\0\0\0\0\x0e\x80\0\0\1\x93\1\0\x91\x95\x66\xc0\xc0\0\xc0", 22);
        close(fd);
    }
    assert_pong();
    /* Which of them got as far as being a connection is a race of the two ends; all are gone. */
    int64_t open = 0, closed = 0, until = monotonic_ms() + 20000;
    while ((open != 1 || closed == 0) && monotonic_ms() < until) {
        struct raw_reply reply;
        struct raw_result status = read_one(RAW_STATUS, NULL, NULL, &reply);
        const msgpack_object *connections = raw_member(status.value, "connections");
        open = raw_number(connections, "open");
        closed = raw_number(connections, "closed");
        raw_reply_free(&reply);
    }
    assert_int_equal(open, 1);
    assert_true(closed > 0);
}

/* -- restarts ---------------------------------------------------------------------------------- */

static struct raw_id acked[ACKED_MAX];
static uint32_t acked_count;

/* Places batches until `count` orders are acknowledged, or the node is gone. */
static void place_batches(uint32_t count) {
    enum { BATCH = 50 };
    while (acked_count + BATCH <= count) {
        struct raw_request r;
        struct raw_reply reply;
        raw_begin(&r, 0, BATCH);
        for (uint32_t i = 0; i < BATCH; i++) {
            struct raw_id id = raw_id();
            acked[acked_count + i] = raw_key();
            raw_place(&r, &acked[acked_count + i], &id, "restart", 3);
        }
        if (raw_ask_for(&client, &r, 20000, &reply) != 0) return;
        for (uint32_t i = 0; i < BATCH; i++) assert_int_equal(raw_result(&reply, i).code, OK);
        raw_reply_free(&reply);
        acked_count += BATCH;
    }
}

static void assert_all_acked_are_there(void) {
    enum { BATCH = 100 };
    for (uint32_t at = 0; at < acked_count; at += BATCH) {
        struct raw_request r;
        struct raw_reply reply;
        uint32_t count = acked_count - at < BATCH ? acked_count - at : BATCH;
        raw_begin(&r, 0, count);
        for (uint32_t i = 0; i < count; i++) raw_bare(&r, RAW_GET, &acked[at + i], NULL);
        raw_ask(&client, &r, &reply);
        for (uint32_t i = 0; i < count; i++) {
            struct raw_result result = raw_result(&reply, i);
            assert_int_equal(result.code, OK);
            assert_int_equal(raw_number(result.value, "version"), 1);
            assert_int_equal(raw_number(result.value, "total"), 3000);
        }
        raw_reply_free(&reply);
    }
}

static void restart(void) {
    raw_close(&client);
    node_start(&node);
    raw_open(&client, node.endpoint);
}

static void a_graceful_end_keeps_everything(void **state) {
    acked_count = 0;
    place_batches(3000);
    assert_int_equal(acked_count, 3000);
    assert_int_equal(ask_store(RAW_STORE_PAUSE, "closed"), OK);
    await_place_code("closed", STORE_PAUSED);
    node_stop(&node);
    restart();
    assert_all_acked_are_there();
    await_open_orders("restart", 3000);
    await_place_code("closed", STORE_PAUSED);
    struct raw_reply reply;
    struct raw_result status = read_one(RAW_STATUS, NULL, NULL, &reply);
    const msgpack_object *shards = raw_member(status.value, "shards");
    for (uint32_t i = 0; i < SHARDS; i++) /* a final checkpoint: no order had to be replayed */
        assert_true(raw_number(&shards->via.array.ptr[i], "recovery_events") < 1000);
    raw_reply_free(&reply);
}

static void kill_9_keeps_what_was_acknowledged(void **state) {
    acked_count = 0;
    for (uint32_t round = 1; round <= 3; round++) {
        place_batches(round * 2000);
        node_kill(&node);
        restart();
        assert_all_acked_are_there();
        await_open_orders("restart", acked_count);
    }
    assert_int_equal(acked_count, 6000);
}

/* Commands that are on their way when SIGTERM comes are done or refused, never left hanging. */
static void a_command_during_the_end_gets_an_answer(void **state) {
    enum { SHUTTING_DOWN = 6 };
    for (int i = 0; i < 200; i++) {
        struct raw_request r;
        struct raw_reply reply;
        struct raw_id key = raw_key(), id = raw_id();
        raw_begin(&r, 0, 1);
        raw_place(&r, &key, &id, "late", 1);
        if (i == 20) node_signal(&node, SIGTERM);
        int rc = raw_ask_for(&client, &r, 500, &reply);
        if (rc != 0) break; /* the endpoint has closed */
        uint64_t code = raw_result(&reply, 0).code;
        assert_true(code == OK || code == SHUTTING_DOWN);
        raw_reply_free(&reply);
    }
    assert_int_equal(node_wait_end(&node), 0);
    assert_true(node_log_has(&node, "stopped"));
}

/* -- starting ---------------------------------------------------------------------------------- */

/* Starts a second node with these options; it must end with `code` and say `sentence`. */
static void assert_start_fails(const char *data, const char *listen, const char *option, int code,
                               const char *sentence) {
    struct node_process other;
    char path[300];
    int status = 0;
    snprintf(path, sizeof path, "%s/other", directory);
    node_init(&other, program, path, SHARDS);
    snprintf(other.log, sizeof other.log, "%s/other.log", directory);
    snprintf(other.data, sizeof other.data, "%s", data ? data : path);
    if (listen) snprintf(other.endpoint, sizeof other.endpoint, "%s", listen);
    other.arguments[0] = option;
    unlink(other.log);
    node_spawn(&other);
    assert_false(node_wait_ready(&other, &status));
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) != code || !node_log_has(&other, sentence)) node_log_tail(&other);
    assert_int_equal(WEXITSTATUS(status), code);
    assert_true(node_log_has(&other, sentence));
}

static void what_cannot_start_says_why(void **state) {
    assert_start_fails(node.data, NULL, NULL, 3, "in use by another process");
    char path[300];
    assert_start_fails(NULL, node.endpoint, NULL, 1, "uses this address");
    snprintf(path, sizeof path, "%s/other", directory);
    assert_int_equal(access(path, F_OK), -1); /* nothing is made for a node that cannot serve */
    assert_start_fails(NULL, NULL, "--shards=0", 2, "--shards must be a number from 1 to 256");
    assert_start_fails(NULL, NULL, "--listen=tcp://192.0.2.1:7400", 1, "tcp://192.0.2.1:7400");
    assert_start_fails(NULL, NULL, "--listen=tcp://nowhere", 2, "\"tcp://nowhere\" has no port");
    assert_start_fails(NULL, NULL, "--listen=localhost:1", 2, "does not begin with tcp://");
    assert_start_fails("/proc/no/such/place", NULL, NULL, 3, "cannot make the data directory");
    node_stop(&node);
    assert_start_fails(node.data, NULL, "--shards=5", 3, "was made with 2 shards, not 5");
    assert_start_fails(node.data, NULL, "--node-id=5", 3, "belongs to node 1, not 5");
}

/* How the threads called `name` are scheduled: SCHED_BATCH waits for its turn, SCHED_OTHER not.
 * -1: they differ, or there is none. */
static int policy_of(const char *name) {
    char path[600], line[64];
    int policy = -1;
    snprintf(path, sizeof path, "/proc/%d/task", (int)node.pid);
    DIR *tasks = opendir(path);
    assert_non_null(tasks);
    struct dirent *entry;
    while ((entry = readdir(tasks))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/comm", (int)node.pid, entry->d_name);
        FILE *f = fopen(path, "re");
        if (!f) continue;
        bool is_it = fgets(line, sizeof line, f) && strncmp(line, name, strlen(name)) == 0;
        fclose(f);
        if (!is_it) continue;
        int found = sched_getscheduler((pid_t)atoi(entry->d_name));
        if (policy != -1 && policy != found) {
            policy = -1;
            break;
        }
        policy = found;
    }
    closedir(tasks);
    return policy;
}

static void a_patient_node_waits_but_for_who_keeps_others_waiting(void **state) {
    static const char *const patient[] = {"shard-", "nng:task", "egress", "log-", "state-"};
    static const char *const prompt[] = {"journal-0", "feed"};
    if (!scheduling_may_change()) skip();
    for (size_t i = 0; i < sizeof patient / sizeof *patient; i++)
        assert_int_equal(policy_of(patient[i]), SCHED_OTHER); /* unless it is asked for */
    node_stop(&node);
    int count = 0;
    while (node.arguments[count]) count++;
    assert_true(count + 1 < NODE_ARGUMENTS_MAX);
    node.arguments[count] = "--patient";
    node_start(&node);
    node.arguments[count] = NULL;
    for (size_t i = 0; i < sizeof patient / sizeof *patient; i++)
        assert_int_equal(policy_of(patient[i]), SCHED_BATCH);
    for (size_t i = 0; i < sizeof prompt / sizeof *prompt; i++)
        assert_int_equal(policy_of(prompt[i]), SCHED_OTHER);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s JUMUND\n", argv[0]);
        return 2;
    }
    program = argv[1];
#define NODE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        NODE_TEST(place_pay_get_history),
        NODE_TEST(a_reply_of_node_commands_ends_at_its_bound),
        NODE_TEST(reads_of_what_is_not_there),
        NODE_TEST(a_patient_node_waits_but_for_who_keeps_others_waiting),
        NODE_TEST(any_endpoint_takes_any_command),
        NODE_TEST(stores_count_and_pause_over_all_shards),
        NODE_TEST(messages_that_are_none),
        NODE_TEST(faults_are_of_one_command),
        NODE_TEST(connections_that_break),
        NODE_TEST(a_graceful_end_keeps_everything),
        NODE_TEST(kill_9_keeps_what_was_acknowledged),
        NODE_TEST(a_command_during_the_end_gets_an_answer),
        NODE_TEST(what_cannot_start_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
