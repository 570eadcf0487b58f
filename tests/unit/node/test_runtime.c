/* The runtime under many threads: a whole node in this process, clients on threads of their own.
 * Made for the thread sanitizer; runs without it as well. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/node/node.h"
#include "engine/node/replicas.h"
#include "tests/process/raw_client.h"

enum { SHARDS = 2, CLIENTS = 4, ROUNDS = 25, BATCH = 16, PATIENCE_MS = 60000, OK = 0,
       OVERLOADED = 2, STORE_PAUSED_CODE = 110 };

static char directory[64];
static struct node *node;
static unsigned nodes_started;

static void start_with(uint32_t mailbox_commands) {
    char error[512] = "";
    struct config config;
    char *words[] = {(char[]){"jumund"}, NULL};
    assert_int_equal(config_read(&config, 1, words, error, sizeof error), 0);
    snprintf(config.data, sizeof config.data, "%s", directory);
    snprintf(config.listen, sizeof config.listen, "inproc://runtime-%u", nodes_started++);
    config.shards = SHARDS;
    config.contexts = 256;
    config.checkpoint_age_ms = 20;
    config.segment_bytes = 64u << 20;
    config.mailbox_commands = mailbox_commands;
    int code = node_start(&node, &config, error, sizeof error);
    if (code != EXIT_DONE) fprintf(stderr, "%s\n", error);
    assert_int_equal(code, EXIT_DONE);
    uint32_t damaged;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (node_state(node, &damaged) != NODE_READY) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
}

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "/tmp/jumun-runtime-XXXXXX");
    assert_non_null(mkdtemp(directory));
    start_with(MAILBOX_COMMANDS_MAX);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int tear_down(void **state) {
    node_stop(node, PATIENCE_MS, false);
    return nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What one client thread did; asserts are the main thread's alone. */
struct lives {
    pthread_t thread;
    const char *url, *store;
    bool read_status;
    uint32_t placed, paused, overloaded, wrong;
};

/* Places BATCH orders, then pays, reads and asks for the history of those that were taken. */
static void live_once(struct lives *l, struct raw_client *client) {
    struct raw_request r;
    struct raw_reply reply;
    struct raw_id keys[BATCH];
    raw_begin(&r, 0, BATCH);
    for (int i = 0; i < BATCH; i++) {
        struct raw_id id = raw_id();
        keys[i] = raw_key();
        raw_place(&r, &keys[i], &id, l->store, 2);
    }
    raw_ask(client, &r, &reply);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < reply.count; i++) {
        uint64_t code = raw_result(&reply, i).code;
        if (code == OK) keys[taken++] = keys[i];
        else if (code == STORE_PAUSED_CODE) l->paused++;
        else if (code == OVERLOADED) l->overloaded++;
        else l->wrong++;
    }
    raw_reply_free(&reply);
    l->placed += taken;
    if (taken == 0) return;
    raw_begin(&r, 0, 3 * taken);
    for (uint32_t i = 0; i < taken; i++) {
        struct raw_id id = raw_id();
        raw_pay(&r, &keys[i], &id, 2000);
        raw_bare(&r, RAW_GET, &keys[i], NULL);
        raw_bare(&r, RAW_HISTORY, &keys[i], NULL);
    }
    raw_ask(client, &r, &reply);
    for (uint32_t i = 0; i < reply.count; i++) {
        uint64_t code = raw_result(&reply, i).code;
        if (code == OVERLOADED) l->overloaded++;
        else if (code != OK) l->wrong++;
    }
    raw_reply_free(&reply);
}

static void *live(void *arg) {
    struct lives *l = arg;
    struct raw_client client;
    raw_open(&client, l->url);
    for (int round = 0; round < ROUNDS; round++) {
        live_once(l, &client);
        if (!l->read_status) continue;
        struct raw_request r;
        struct raw_reply reply;
        raw_begin(&r, 0, 2);
        raw_node(&r, RAW_STATUS);
        raw_node(&r, RAW_SHARD_MAP);
        raw_ask(&client, &r, &reply);
        if (raw_result(&reply, 0).code != OK || raw_result(&reply, 1).code != OK) l->wrong++;
        raw_reply_free(&reply);
    }
    raw_close(&client);
    return NULL;
}

static void run_clients(struct lives *lives, const char *const *stores) {
    for (int i = 0; i < CLIENTS; i++) {
        const char *url = i < SHARDS ? node->map.shard_endpoints[i] : node->map.endpoint;
        lives[i] = (struct lives){.url = url, .store = stores[i], .read_status = i == CLIENTS - 1};
        assert_int_equal(pthread_create(&lives[i].thread, NULL, live, &lives[i]), 0);
    }
}

static uint64_t ask_store(struct raw_client *client, int kind, const char *store) {
    struct raw_request r;
    struct raw_reply reply;
    struct raw_id id = raw_id();
    raw_begin(&r, 0, 1);
    raw_store(&r, kind, store, kind == RAW_STORE_GET ? NULL : &id);
    raw_ask(client, &r, &reply);
    uint64_t code = raw_result(&reply, 0).code;
    raw_reply_free(&reply);
    return code;
}

static int64_t open_orders(struct raw_client *client, const char *store) {
    struct raw_request r;
    struct raw_reply reply;
    raw_begin(&r, 0, 1);
    raw_store(&r, RAW_STORE_GET, store, NULL);
    raw_ask(client, &r, &reply);
    struct raw_result result = raw_result(&reply, 0);
    int64_t count = result.code == OK ? raw_number(result.value, "open_orders") : -1;
    raw_reply_free(&reply);
    return count;
}

static void await_open_orders(struct raw_client *client, const char *store, int64_t expected) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS, got;
    while ((got = open_orders(client, store)) != expected && clock_mono_ms() < until_ms)
        usleep(2000);
    assert_int_equal(got, expected);
}

/* Orders, reads, histories, status, pauses and messages between shards, all at once. */
static void everything_at_once(void **state) {
    static const char *const stores[CLIENTS] = {"a", "b", "c", "d"};
    struct lives lives[CLIENTS];
    struct raw_client client;
    raw_open(&client, node->map.endpoint);
    run_clients(lives, stores);
    for (int i = 0; i < 10; i++) {
        uint64_t code = ask_store(&client, RAW_STORE_PAUSE, "a");
        assert_true(code == OK);
        usleep(5000);
        assert_int_equal(ask_store(&client, RAW_STORE_RESUME, "a"), OK);
        node_tick(node);
        ingress_latency_turn(node->ingress);
    }
    for (int i = 0; i < CLIENTS; i++) assert_int_equal(pthread_join(lives[i].thread, NULL), 0);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(lives[i].wrong, 0);
        assert_int_equal(lives[i].overloaded, 0);
        if (i > 0) assert_int_equal(lives[i].placed, ROUNDS * BATCH);
        await_open_orders(&client, stores[i], lives[i].placed);
    }
    raw_close(&client);
}

/* A mailbox that holds little: what does not fit is answered, and what was taken is done. */
static void overload_is_an_answer(void **state) {
    static const char *const stores[CLIENTS] = {"a", "a", "b", "b"};
    struct lives lives[CLIENTS];
    struct raw_client client;
    node_stop(node, PATIENCE_MS, false);
    start_with(BATCH); /* as much as one message: four clients do not fit */
    raw_open(&client, node->map.endpoint);
    run_clients(lives, stores);
    for (int i = 0; i < CLIENTS; i++) assert_int_equal(pthread_join(lives[i].thread, NULL), 0);
    uint32_t answered = 0;
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(lives[i].wrong, 0);
        answered += lives[i].placed + lives[i].overloaded;
    }
    assert_true(answered >= CLIENTS * ROUNDS * BATCH);
    await_open_orders(&client, "a", lives[0].placed + lives[1].placed);
    await_open_orders(&client, "b", lives[2].placed + lives[3].placed);
    raw_close(&client);
}

static atomic_uint placed_before_the_end;

/* Stopping while clients send: every message is answered or its connection ends. */
static void *send_until_refused(void *arg) {
    struct lives *l = arg;
    struct raw_client client;
    raw_open(&client, l->url);
    for (;;) {
        struct raw_request r;
        struct raw_reply reply;
        struct raw_id key = raw_key(), id = raw_id();
        raw_begin(&r, 0, 1);
        raw_place(&r, &key, &id, l->store, 1);
        if (raw_ask_for(&client, &r, PATIENCE_MS, &reply) != 0) {
            l->wrong++;
            break;
        }
        uint64_t code = raw_result(&reply, 0).code;
        raw_reply_free(&reply);
        if (code == OK) {
            l->placed++;
            atomic_fetch_add(&placed_before_the_end, 1);
        }
        if (code == RESULT_SHUTTING_DOWN) break;
        if (code != OK && code != RESULT_SHUTTING_DOWN) l->wrong++;
    }
    raw_close(&client);
    return NULL;
}

static void stopping_under_load(void **state) {
    struct lives lives[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        lives[i] = (struct lives){.url = node->map.endpoint, .store = "end"};
        assert_int_equal(pthread_create(&lives[i].thread, NULL, send_until_refused, &lives[i]), 0);
    }
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&placed_before_the_end) == 0 && clock_mono_ms() < until_ms) usleep(1000);
    usleep(200000);
    ingress_drain(node->ingress); /* what node_stop() begins with; then the clients go away */
    uint32_t placed = 0;
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(lives[i].thread, NULL), 0);
        assert_int_equal(lives[i].wrong, 0);
        placed += lives[i].placed;
    }
    assert_true(placed > 0);
    node_stop(node, PATIENCE_MS, false);
    start_with(MAILBOX_COMMANDS_MAX);
    struct raw_client client;
    raw_open(&client, node->map.endpoint);
    await_open_orders(&client, "end", placed);
    raw_close(&client);
}

/* What kept a replica from being started has gone: it is started, as if nothing had been. */
static void a_replica_that_could_not_start_is_started_later(void **state) {
    char path[128], error[512] = "";
    const struct replica_wanted wanted[2] = {{.shard = 5, .server_id = 1},
                                             {.shard = 6, .server_id = 1}};
    (void)state;
    snprintf(path, sizeof path, "%s/shard-6", directory);
    FILE *in_the_way = fopen(path, "w");
    assert_non_null(in_the_way);
    fclose(in_the_way);
    assert_int_not_equal(replicas_start(node, wanted, 2, error, sizeof error), EXIT_DONE);
    assert_non_null(strstr(error, "shard-6"));
    for (uint32_t slot = 5; slot <= 6; slot++) {
        assert_int_equal(node->server_ids[slot], 0);
        assert_null(node->storages[slot]);
        assert_null(node->threads[slot]);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(replicas_start(node, wanted, 2, error, sizeof error), EXIT_DONE);
    assert_non_null(local_shards_enter(&node->local, 6));
    local_shards_leave(&node->local, 6);
    replicas_stop(node, 5);
    replicas_stop(node, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(overload_is_an_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stopping_under_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_that_could_not_start_is_started_later, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
