/* Answers as they are written, over views of random histories: pages of any size bring the same
 * rows, and a message that is nearly full is whole. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/replica/answer.h"
#include "engine/replica/applier.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/order_fields.h"
#include "tests/unit/replica/history_world.h"

enum { ENTRIES = 1200, ROWS_MAX = 4096, TOPICS = 12 };

static char directory[64];
static struct view_store *store;
static struct history history;
static uint8_t *reply;

static uint32_t age_ms(void *arg, uint32_t shard) { return 0; }
static bool none(void *arg, uint32_t shard) { return false; }

static char copy[80];          /* of the views, for EXPORT */

static bool hold_copy(void *arg, uint64_t id, char *path, size_t path_bytes) {
    snprintf(path, path_bytes, "%s", copy);
    return true;
}

static void release_copy(void *arg, uint64_t id) {}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

/* All of a history is in the views: of some of it the disk has the rows, of the rest memory. */
static void apply_all(void) {
    char error[512] = "";
    const struct applier_options options = {.store = store};
    struct applier *a = applier_new(&options, error, sizeof error);
    if (!a) fail_msg("%s", error);
    for (int half = 1; half <= 2; half++) {
        assert_true(applier_begin(a));
        for (uint32_t s = 0; s < HISTORY_SHARDS; s++) {
            uint64_t first = applier_next(a, s), last = history.logs[s].last * (uint64_t)half / 2;
            size_t bytes;
            const void *records = history_records(&history, s, first, last, &bytes);
            assert_int_equal(applier_take(a, s, records, bytes, error, sizeof error),
                             APPLIER_TAKEN);
            applier_up_to_date(a, s);
        }
        assert_int_equal(applier_commit(a), APPLIER_TAKEN);
        if (half == 1) assert_int_equal(applier_settle(a), APPLIER_TAKEN);
    }
    applier_free(a);
}

static int set_up(void **state) {
    char error[512] = "";
    snprintf(directory, sizeof directory, "/tmp/jumun-answer-XXXXXX");
    assert_non_null(mkdtemp(directory));
    const struct view_store_options options = {.directory = directory, .map_bytes = 1u << 30};
    store = view_store_open(&options, error, sizeof error);
    if (!store) fail_msg("%s", error);
    reply = malloc(MESSAGE_BYTES_MAX);
    assert_non_null(reply);
    history_init(&history, 7);
    history_grow(&history, ENTRIES);
    apply_all();
    return 0;
}

static int tear_down(void **state) {
    history_fini(&history);
    free(reply);
    view_store_close(store);
    return nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The reply's results: their number, and a reader that stands in front of the first one. */
static uint32_t ask(const struct query *queries, uint32_t count, struct msgpack_reader *r,
                    size_t *bytes) {
    const struct answer_source source = {.store = store, .age_ms = age_ms, .is_partial = none,
                                         .is_existing = none, .snapshot_hold = hold_copy,
                                         .snapshot_release = release_copy};
    const struct query_request request = {.max_age_ms = -1, .queries = (struct query *)queries,
                                          .queries_count = count};
    struct answer answer;
    uint32_t items = 0, results = 0;
    uint64_t version = 0, code = 1;
    assert_true(answer_request(&source, &request, reply, &answer));
    msgpack_reader_init(r, reply, answer.bytes);
    assert_int_equal(msgpack_read_array(r, &items), MSGPACK_OK);
    assert_int_equal(items, 5);
    assert_int_equal(msgpack_read_uint(r, &version), MSGPACK_OK);
    assert_int_equal(msgpack_read_uint(r, &code), MSGPACK_OK);
    assert_int_equal(code, 0);
    assert_int_equal(msgpack_read_array(r, &results), MSGPACK_OK);
    *bytes = answer.bytes;
    return results;
}

/* -- watching ---------------------------------------------------------------------------------- */

struct walk {
    struct query_token since[HISTORY_SHARDS];
    struct id128 keys[ROWS_MAX];
    uint32_t count, pages;
};

/* Takes one page. Returns whether there is more. */
static bool walk_page(struct walk *k, const char *topic, uint32_t limit) {
    static const uint8_t key_field = ORDER_FIELD_key;
    const struct query q = {.kind = QUERY_WATCH, .subject = bytes_of_text(topic), .limit = limit,
                            .fields = &key_field, .fields_count = 1, .has_since = true,
                            .since = k->since, .since_count = HISTORY_SHARDS};
    struct msgpack_reader r;
    size_t bytes;
    uint32_t items = 0, rows = 0, fields = 0;
    bool complete = true;
    assert_int_equal(ask(&q, 1, &r, &bytes), 1);
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    for (int i = 0; i < 5; i++) assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    assert_int_equal(items, 3);
    assert_int_equal(msgpack_read_array(&r, &rows), MSGPACK_OK);
    for (uint32_t i = 0; i < rows; i++) {
        const void *key = NULL;
        uint32_t size = 0;
        assert_int_equal(msgpack_read_array(&r, &fields), MSGPACK_OK);
        assert_int_equal(msgpack_read_bin(&r, &key, &size), MSGPACK_OK);
        assert_int_equal(size, 16);
        for (uint32_t n = 0; n < k->count; n++)
            assert_int_not_equal(memcmp(k->keys[n].bytes, key, 16), 0);
        assert_true(k->count < ROWS_MAX);
        memcpy(k->keys[k->count++].bytes, key, 16);
    }
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    for (uint32_t i = 0; i < items; i++) {
        uint64_t shard = 0, index = 0;
        assert_int_equal(msgpack_read_array(&r, &fields), MSGPACK_OK);
        assert_int_equal(msgpack_read_uint(&r, &shard), MSGPACK_OK);
        assert_int_equal(msgpack_read_uint(&r, &index), MSGPACK_OK);
        assert_true(shard < HISTORY_SHARDS && index >= k->since[shard].index);
        k->since[shard].index = index;
    }
    assert_int_equal(msgpack_read_bool(&r, &complete), MSGPACK_OK);
    k->pages++;
    return !complete;
}

static void walk_all(struct walk *k, const char *topic, uint32_t limit) {
    k->count = k->pages = 0;
    for (uint32_t s = 0; s < HISTORY_SHARDS; s++) k->since[s] = (struct query_token){s, 0};
    while (walk_page(k, topic, limit)) assert_true(k->pages < 2 * ROWS_MAX);
}

/* An entry changes several orders of a store, which are never torn apart: a page that ends with
 * such a one is no more the last than any other. */
static void pages_of_a_watch_leave_nothing_out(void **state) {
    static struct walk all, paged;
    for (uint32_t n = 0; n < TOPICS; n++) {
        char topic[32];
        snprintf(topic, sizeof topic, n < 5 ? "store/store-%u" : "customer/customer-%u",
                 n < 5 ? n : n - 5);
        walk_all(&all, topic, QUERY_ROWS_MAX);
        assert_true(all.count > 5);
        assert_int_equal(all.pages, 1);
        for (uint32_t limit = 1; limit <= 40; limit++) {
            walk_all(&paged, topic, limit);
            if (paged.count != all.count)
                fail_msg("%s by %u: %u of %u orders", topic, limit, paged.count, all.count);
        }
    }
}

/* A replica that has not heard of a shard yet keeps nobody from going on in it elsewhere. */
static void tokens_of_shards_that_are_not_here_stay(void **state) {
    const struct query_token since[] = {{0, 1}, {7, 4711}, {SHARDS_MAX, 1}, {7, 1}};
    const struct query q = {.kind = QUERY_WATCH, .subject = bytes_of_text("store/nobodys"),
                            .limit = 1, .has_since = true, .since = since, .since_count = 4};
    struct msgpack_reader r;
    size_t bytes;
    uint32_t items = 0, fields = 0, found = 0;
    uint64_t shard = 0, index = 0;
    assert_int_equal(ask(&q, 1, &r, &bytes), 1);
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    for (int i = 0; i < 5; i++) assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    assert_int_equal(items, HISTORY_SHARDS + 1);
    for (uint32_t i = 0; i < items; i++) {
        assert_int_equal(msgpack_read_array(&r, &fields), MSGPACK_OK);
        assert_int_equal(msgpack_read_uint(&r, &shard), MSGPACK_OK);
        assert_int_equal(msgpack_read_uint(&r, &index), MSGPACK_OK);
        found += shard == 7 && index == 4711;
    }
    assert_int_equal(found, 1);
}

/* -- nearly full messages ---------------------------------------------------------------------- */

/* Whether the reply is one: so many results, tokens, missing shards, and nothing behind them. */
static void check_whole(const struct query *queries, uint32_t count) {
    struct msgpack_reader r;
    size_t bytes;
    uint32_t items = 0;
    uint64_t code = 0;
    assert_int_equal(ask(queries, count, &r, &bytes), count);
    for (uint32_t i = 0; i < count; i++) {
        struct msgpack_reader result = r;
        assert_int_equal(msgpack_read_array(&result, &items), MSGPACK_OK);
        assert_true(items == 6 || items == 7);
        assert_int_equal(msgpack_read_uint(&result, &code), MSGPACK_OK);
        assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
    }
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    assert_int_equal(items, HISTORY_SHARDS);
    for (uint32_t i = 0; i < items; i++) assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    assert_int_equal(items, 0);
    assert_int_equal(msgpack_reader_left(&r), 0);
}

/* Orders fill the message but for less than one of them; what room is left is another one with each
 * `beside`, which are few bytes more. */
static void check_behind_full(const struct query *last) {
    enum { FILLING = 16, BESIDE_MAX = 40, KEYS = QUERY_KEYS_MAX };
    static const uint8_t key_field = ORDER_FIELD_key;
    static uint8_t keys[16 * KEYS];
    struct query queries[FILLING + BESIDE_MAX + 1];
    for (uint32_t i = 0, n = 0; i < KEYS; n++) {
        const struct history_order *o = &history.orders[n % history.orders_count];
        if (o->block && !(o->block->flags & ACTOR_RETIRED))
            memcpy(keys + 16 * i++, o->key.bytes, 16);
    }
    for (uint32_t beside = 0; beside <= BESIDE_MAX; beside++) {
        uint32_t count = 0;
        while (count < beside)
            queries[count++] = (struct query){.kind = QUERY_GET, .key = history.orders[0].key,
                                              .fields = &key_field, .fields_count = 1};
        while (count < beside + FILLING)
            queries[count++] = (struct query){.kind = QUERY_MULTI_GET,
                                              .subject = bytes_of(keys, sizeof keys)};
        queries[count++] = *last;
        check_whole(queries, count);
    }
}

static void a_page_that_finds_no_room_is_refused_whole(void **state) {
    static const uint8_t key_field = ORDER_FIELD_key;
    snprintf(copy, sizeof copy, "%s/copy", directory);
    assert_int_equal(view_store_copy(store, copy, NULL), 0);
    const struct query queries[] = {
        {.kind = QUERY_COUNTERS, .bucket_ms = 86400000, .from_ms = INT64_MIN, .to_ms = INT64_MAX,
         .limit = QUERY_ROWS_MAX},
        {.kind = QUERY_EXPORT, .limit = QUERY_ROWS_MAX},
        {.kind = QUERY_EXPORT, .limit = QUERY_ROWS_MAX, .fields = &key_field, .fields_count = 1},
        {.kind = QUERY_STORE_BOARD, .subject = bytes_of_text("store-1"), .limit = QUERY_ROWS_MAX},
        {.kind = QUERY_WATCH, .subject = bytes_of_text("store/store-1"), .has_since = true,
         .limit = QUERY_ROWS_MAX},
    };
    for (uint32_t i = 0; i < sizeof queries / sizeof queries[0]; i++)
        check_behind_full(&queries[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pages_of_a_watch_leave_nothing_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tokens_of_shards_that_are_not_here_stay, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_page_that_finds_no_room_is_refused_whole, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
