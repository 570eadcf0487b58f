/* Messages that wait: whatever happens at the same moment, a change wakes who watches for it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/replica/applier.h"
#include "engine/replica/query_server.h"
#include "engine/wire/msgpack_reader.h"
#include "tests/unit/replica/history_world.h"

enum { ENTRIES = 20000, CROWD = 880, ROUNDS = 3000, PATIENCE_MS = 25000, WAIT_MS = 50000 };

static const char address[] = "inproc://query-server";
static char directory[64];
static struct view_store *store;
static struct applier *applier;
static struct query_server *server;
static struct history history;

/* Somebody who is answering is held there, once. */
static atomic_bool hold, held;

static uint32_t age_ms(void *arg, uint32_t shard) {
    if (shard == 0 && atomic_exchange(&hold, false)) {
        atomic_store(&held, true);
        while (atomic_load(&held)) usleep(100);
    }
    return 0;
}
static bool none(void *arg, uint32_t shard) { return false; }
static void committed(void *arg) { query_server_advance(server); }
static void changed(void *arg, const struct fold_order *o) { query_server_changed(server, o); }

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static uint64_t parked_bytes;  /* that may wait; 0 = as many as usual */

static int set_up(void **state) {
    char error[512] = "";
    snprintf(directory, sizeof directory, "/tmp/jumun-query-server-XXXXXX");
    assert_non_null(mkdtemp(directory));
    const struct view_store_options disk = {.directory = directory, .map_bytes = 1u << 30};
    store = view_store_open(&disk, error, sizeof error);
    if (!store) fail_msg("%s", error);
    const struct query_server_options options = {
        .listen = address,
        .parked_bytes = parked_bytes,
        .source = {.store = store, .age_ms = age_ms, .is_partial = none, .is_existing = none}};
    server = query_server_open(&options, error, sizeof error);
    if (!server || !query_server_start(server, error, sizeof error)) fail_msg("%s", error);
    const struct applier_options how = {.store = store, .committed = committed,
                                        .changed = changed};
    applier = applier_new(&how, error, sizeof error);
    if (!applier) fail_msg("%s", error);
    history_init(&history, 11);
    history_grow(&history, ENTRIES);
    return 0;
}

static int tear_down(void **state) {
    query_server_stop(server);
    query_server_halt(server, PATIENCE_MS);
    query_server_close(server);
    applier_free(applier);
    view_store_close(store);
    history_fini(&history);
    return nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Takes one entry of shard 0. Returns whether the store of the watcher changed with it. */
static bool take_one(uint64_t index) {
    char error[512] = "";
    size_t bytes;
    const struct query_token since = {0, index - 1};
    const struct query q = {.kind = QUERY_WATCH, .subject = bytes_of_text("store/store-1"),
                            .limit = 1, .has_since = true, .since = &since, .since_count = 1};
    const struct query_request request = {.max_age_ms = -1, .queries = (struct query *)&q,
                                          .queries_count = 1};
    const struct answer_source source = {.store = store, .age_ms = age_ms, .is_partial = none,
                                         .is_existing = none};
    static uint8_t reply[MESSAGE_BYTES_MAX];
    struct answer answer;
    const void *records = history_records(&history, 0, index, index, &bytes);
    assert_true(applier_begin(applier));
    assert_int_equal(applier_take(applier, 0, records, bytes, error, sizeof error),
                     APPLIER_TAKEN);
    assert_int_equal(applier_commit(applier), APPLIER_TAKEN);
    query_server_committed(server);
    assert_true(answer_request(&source, &request, reply, &answer));
    return answer.changed;
}

static nng_msg *watch_message(const char *topic, uint64_t index) {
    uint8_t bytes[256];
    nng_msg *message;
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_int(&w, -WAIT_MS);
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, QUERY_WATCH);
    msgpack_write_text(&w, topic);
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, 0);
    msgpack_write_uint(&w, index);
    assert_int_equal(nng_msg_alloc(&message, msgpack_writer_size(&w)), 0);
    memcpy(nng_msg_body(message), bytes, msgpack_writer_size(&w));
    return message;
}

static void await_parked(uint64_t wanted) {
    struct query_server_stats stats;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    do {
        query_server_stats(server, &stats);
        assert_true(clock_mono_ms() < until_ms);
    } while (stats.parked < wanted);
}

/* Many who wait for something else make it last to look through all that wait: a change that comes
 * in the midst of that, right behind another publication, is not passed over. */
static void a_change_wakes_whoever_watches(void **state) {
    nng_socket crowd, watcher;
    static nng_ctx contexts[CROWD];
    static nng_aio *aios[CROWD];
    uint64_t index = 1;
    uint32_t woken = 0;
    take_one(index);
    assert_int_equal(nng_req0_open(&crowd), 0);
    assert_int_equal(nng_dial(crowd, address, NULL, 0), 0);
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(nng_ctx_open(&contexts[i], crowd), 0);
        assert_int_equal(nng_aio_alloc(&aios[i], NULL, NULL), 0);
        nng_aio_set_msg(aios[i], watch_message("store/nobodys", 0));
        nng_ctx_send(contexts[i], aios[i]);
        nng_aio_wait(aios[i]);
        assert_int_equal(nng_aio_result(aios[i]), 0);
    }
    await_parked(CROWD);
    assert_int_equal(nng_req0_open(&watcher), 0);
    assert_int_equal(nng_socket_set_ms(watcher, NNG_OPT_RECVTIMEO, PATIENCE_MS), 0);
    assert_int_equal(nng_dial(watcher, address, NULL, 0), 0);
    while (woken < ROUNDS && index < history.logs[0].last) {
        nng_msg *reply;
        assert_int_equal(nng_sendmsg(watcher, watch_message("store/store-1", index), 0), 0);
        await_parked(CROWD + 1);
        bool told = false;
        while (!told && index < history.logs[0].last) {
            query_server_committed(server); /* of others: all that wait are looked through */
            int64_t until_ns = clock_mono_ns() + history_random(&history, 60000);
            while (clock_mono_ns() < until_ns) continue;
            told = take_one(++index);
        }
        if (!told) break;
        int rc = nng_recvmsg(watcher, &reply, 0);
        if (rc != 0) fail_msg("change %u: %s", woken, nng_strerror(rc));
        nng_msg_free(reply);
        woken++;
    }
    assert_true(woken > 50);
    for (int i = 0; i < CROWD; i++) {
        nng_ctx_close(contexts[i]);
        nng_aio_free(aios[i]);
    }
    nng_close(crowd);
    nng_close(watcher);
}

/* Who begins to wait while the server stops is answered like those who waited before. */
static void nobody_is_left_waiting_at_the_end(void **state) {
    nng_socket watcher;
    nng_msg *reply;
    take_one(1);
    assert_int_equal(nng_req0_open(&watcher), 0);
    assert_int_equal(nng_socket_set_ms(watcher, NNG_OPT_RECVTIMEO, PATIENCE_MS), 0);
    assert_int_equal(nng_dial(watcher, address, NULL, 0), 0);
    atomic_store(&hold, true);
    assert_int_equal(nng_sendmsg(watcher, watch_message("store/nobodys", 1), 0), 0);
    int64_t began_ms = clock_mono_ms();
    while (!atomic_load(&held)) assert_true(clock_mono_ms() - began_ms < PATIENCE_MS);
    query_server_stop(server);
    atomic_store(&held, false);
    began_ms = clock_mono_ms();
    query_server_halt(server, PATIENCE_MS);
    assert_true(clock_mono_ms() - began_ms < PATIENCE_MS / 2);
    int rc = nng_recvmsg(watcher, &reply, 0);
    if (rc != 0) fail_msg("%s", nng_strerror(rc));
    nng_msg_free(reply);
    nng_close(watcher);
}

static int set_up_small(void **state) {
    parked_bytes = 64 << 10;
    int rc = set_up(state);
    parked_bytes = 0;
    return rc;
}

/* Few large messages may take as much as many small ones; what finds no room is told so at once. */
static void what_waits_is_bounded_in_bytes(void **state) {
    enum { ASKERS = 200 };
    static nng_socket askers[ASKERS];
    struct query_server_stats stats;
    take_one(1);
    for (int i = 0; i < ASKERS; i++) {
        assert_int_equal(nng_req0_open(&askers[i]), 0);
        assert_int_equal(nng_socket_set_ms(askers[i], NNG_OPT_RECVTIMEO, PATIENCE_MS), 0);
        assert_int_equal(nng_dial(askers[i], address, NULL, 0), 0);
        assert_int_equal(nng_sendmsg(askers[i], watch_message("store/nobodys", 1), 0), 0);
    }
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    do {
        assert_true(clock_mono_ms() < until_ms);
        query_server_stats(server, &stats);
    } while (stats.parked + stats.refused < ASKERS);
    assert_true(stats.parked > 0 && stats.refused > 0);
    assert_in_range(stats.parked_bytes, stats.parked, 64 << 10);
    query_server_stop(server); /* who waits is answered with what there is */
    uint64_t refused = 0;
    for (int i = 0; i < ASKERS; i++) {
        nng_msg *reply;
        struct msgpack_reader r;
        uint32_t items;
        uint64_t version, code = 1;
        assert_int_equal(nng_recvmsg(askers[i], &reply, 0), 0);
        msgpack_reader_init(&r, nng_msg_body(reply), nng_msg_len(reply));
        assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
        assert_int_equal(msgpack_read_uint(&r, &version), MSGPACK_OK);
        assert_int_equal(msgpack_read_uint(&r, &code), MSGPACK_OK);
        if (code != RESULT_OK) assert_int_equal(code, RESULT_OVERLOADED);
        refused += code != RESULT_OK;
        nng_msg_free(reply);
        nng_close(askers[i]);
    }
    assert_int_equal(refused, stats.refused);
    query_server_stats(server, &stats);
    assert_int_equal(stats.parked_bytes, 0);
}

/* "Come again" would be a lie. */
static void what_can_never_wait_is_told_so(void **state) {
    enum { WATCHES = 1000 };
    nng_socket asker;
    nng_msg *message, *reply;
    struct msgpack_writer w;
    struct msgpack_reader r;
    uint32_t items, size = 0;
    uint64_t version, code = 1;
    const void *sentence = "";
    take_one(1);
    assert_int_equal(nng_msg_alloc(&message, WATCHES * 64), 0);
    msgpack_writer_init(&w, nng_msg_body(message), WATCHES * 64);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_uint(&w, (uint64_t)clock_unix_ms() + PATIENCE_MS);
    msgpack_write_array(&w, WATCHES);
    for (int i = 0; i < WATCHES; i++) {
        msgpack_write_array(&w, 3);
        msgpack_write_uint(&w, QUERY_WATCH);
        msgpack_write_text(&w, "store/nobodys");
        msgpack_write_array(&w, 1);
        msgpack_write_array(&w, 2);
        msgpack_write_uint(&w, 0);
        msgpack_write_uint(&w, 1);
    }
    nng_msg_chop(message, WATCHES * 64 - msgpack_writer_size(&w));
    assert_int_equal(nng_req0_open(&asker), 0);
    assert_int_equal(nng_socket_set_ms(asker, NNG_OPT_RECVTIMEO, PATIENCE_MS), 0);
    assert_int_equal(nng_dial(asker, address, NULL, 0), 0);
    assert_int_equal(nng_sendmsg(asker, message, 0), 0);
    assert_int_equal(nng_recvmsg(asker, &reply, 0), 0);
    msgpack_reader_init(&r, nng_msg_body(reply), nng_msg_len(reply));
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    assert_int_equal(msgpack_read_uint(&r, &version), MSGPACK_OK);
    assert_int_equal(msgpack_read_uint(&r, &code), MSGPACK_OK);
    assert_int_equal(code, RESULT_MESSAGE_TOO_LARGE);
    assert_int_equal(msgpack_read_str(&r, &sentence, &size), MSGPACK_OK);
    assert_non_null(memmem(sentence, size, "ask for less", 12));
    nng_msg_free(reply);
    nng_close(asker);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_change_wakes_whoever_watches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_is_bounded_in_bytes, set_up_small, tear_down),
        cmocka_unit_test_setup_teardown(what_can_never_wait_is_told_so, set_up_small, tear_down),
        cmocka_unit_test_setup_teardown(nobody_is_left_waiting_at_the_end, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("query_server", tests, NULL, NULL);
}
