/* Snapshots that are given out in pieces: how many are kept, and which makes room. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/feed/feed_copies.h"
#include "engine/replica/feed_client.h"
#include "engine/wire/msgpack_writer.h"

enum { WAIT_MS = 30000, HOUR_MS = 3600000 };

static struct feed_copies *copies;
static struct responder *responder;
static char directory[64];
static int opened;

static void take(void *arg, struct responder_slot *slot, nng_msg *message) {
    struct feed_request request;
    (void)arg;
    assert_int_equal(feed_request_decode(nng_msg_body(message), nng_msg_len(message), &request),
                     RESULT_OK);
    nng_msg_free(message);
    feed_copies_offer(copies, slot, &request);
}

static int make(void *arg, uint32_t shard, const char *path, const atomic_bool *stop,
                struct feed_copy_tokens *tokens, char *error, size_t error_bytes) {
    (void)arg, (void)stop, (void)error, (void)error_bytes;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("all orders", f);
    fclose(f);
    tokens->count = 1;
    tokens->tokens[0] = (struct query_token){shard, 7};
    return 0;
}

static void open_with(int64_t spare_ms) {
    static char listen[64];
    char error[256] = "";
    snprintf(directory, sizeof directory, "/tmp/jumun-copies-%d", (int)getpid());
    snprintf(listen, sizeof listen, "inproc://copies-%d", opened++);
    const struct feed_copies_options options = {.directory = directory, .spare_ms = spare_ms,
                                                .make = make};
    const struct responder_options r = {.listen = listen, .contexts = 4, .take = take};
    copies = feed_copies_start(&options, error, sizeof error);
    if (!copies) fail_msg("%s", error);
    responder = responder_open(&r, error, sizeof error);
    if (!responder || !responder_start(responder, error, sizeof error)) fail_msg("%s", error);
}

static int close_all(void **state) {
    (void)state;
    responder_halt(responder);
    feed_copies_stop(copies);
    responder_close(responder);
    feed_copies_free(copies);
    return 0;
}

/* *sentence is copied. */
static struct feed_reply ask(enum feed_kind kind, uint64_t id, char sentence[256]) {
    uint8_t request[64];
    char error[256] = "";
    struct msgpack_writer w;
    struct feed_reply p;
    nng_msg *reply;
    bool chunk = kind == FEED_SNAPSHOT_CHUNK;
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, chunk ? 4 : 3);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, kind);
    msgpack_write_uint(&w, id);
    if (chunk) msgpack_write_uint(&w, 0);
    int rc = feed_ask(responder_endpoint(responder), request, msgpack_writer_size(&w), WAIT_MS,
                      NULL, &reply, error, sizeof error);
    if (rc != 0) fail_msg("%s", error);
    assert_true(feed_reply_decode(nng_msg_body(reply), nng_msg_len(reply), kind, FEED_RECORDS,
                                  &p));
    if (p.code != RESULT_OK && sentence)
        snprintf(sentence, 256, "%.*s", (int)p.sentence.size, (const char *)p.sentence.data);
    if (p.code == RESULT_OK && chunk) assert_int_equal(p.records.size, strlen("all orders"));
    nng_msg_free(reply);
    return p;
}

static uint64_t begin(void) {
    struct feed_reply p = ask(FEED_SNAPSHOT_BEGIN, 1, NULL);
    assert_int_equal(p.code, RESULT_OK);
    return p.snapshot;
}

static void one_too_many_is_told_when_to_come(void **state) {
    (void)state;
    char sentence[256] = "";
    uint64_t first = 0;
    open_with(HOUR_MS);
    for (int i = 0; i < FEED_COPIES_MAX; i++) {
        uint64_t id = begin();
        if (i == 0) first = id;
    }
    struct feed_reply p = ask(FEED_SNAPSHOT_BEGIN, 1, sentence);
    assert_int_equal(p.code, RESULT_OVERLOADED);
    assert_true(p.detail > 0 && p.detail <= HOUR_MS);
    assert_non_null(strstr(sentence, "try again in "));
    /* One that is given back makes room at once. */
    assert_int_equal(ask(FEED_SNAPSHOT_END, first, NULL).code, RESULT_OK);
    begin();
    assert_int_equal(ask(FEED_SNAPSHOT_BEGIN, 1, NULL).code, RESULT_OVERLOADED);
}

static void the_least_recently_asked_for_makes_room(void **state) {
    (void)state;
    uint64_t ids[FEED_COPIES_MAX];
    open_with(1);
    for (int i = 0; i < FEED_COPIES_MAX; i++) {
        ids[i] = begin();
        usleep(20000);
    }
    assert_int_equal(ask(FEED_SNAPSHOT_CHUNK, ids[0], NULL).code, RESULT_OK);
    usleep(20000);
    uint64_t id = begin();
    assert_int_equal(ask(FEED_SNAPSHOT_CHUNK, ids[1], NULL).code, RESULT_SNAPSHOT_GONE);
    assert_int_equal(ask(FEED_SNAPSHOT_CHUNK, ids[0], NULL).code, RESULT_OK);
    assert_int_equal(ask(FEED_SNAPSHOT_CHUNK, ids[2], NULL).code, RESULT_OK);
    assert_int_equal(ask(FEED_SNAPSHOT_CHUNK, id, NULL).code, RESULT_OK);
}

static void one_that_is_being_read_stays(void **state) {
    (void)state;
    char path[256], other[256];
    open_with(1);
    uint64_t id = begin();
    assert_true(feed_copies_hold(copies, id, path, sizeof path));
    for (int i = 0; i < 2 * FEED_COPIES_MAX; i++) {
        usleep(20000);
        begin();
    }
    assert_int_equal(access(path, R_OK), 0);
    /* Ended in the meantime, it goes with its reader. */
    assert_int_equal(ask(FEED_SNAPSHOT_END, id, NULL).code, RESULT_OK);
    assert_false(feed_copies_hold(copies, id, other, sizeof other));
    assert_int_equal(access(path, R_OK), 0);
    feed_copies_release(copies, id);
    assert_int_not_equal(access(path, R_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(one_too_many_is_told_when_to_come, close_all),
        cmocka_unit_test_teardown(the_least_recently_asked_for_makes_room, close_all),
        cmocka_unit_test_teardown(one_that_is_being_read_stays, close_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
