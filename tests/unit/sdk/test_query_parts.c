/* The parts of the reading side, each alone. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "clients/sdk/latency.h"
#include "clients/sdk/query_encode.h"
#include "clients/sdk/stale_cache.h"
#include "clients/sdk/token_set.h"
#include "clients/sdk/watch.h"
#include "engine/base/prng.h"
#include "engine/wire/query_decode.h"

/* Encodes a message of one query and reads it as a replica does. */
static struct query decoded(const jumun_query *query, struct wire_arena *arena,
                            struct query_request *request) {
    static uint8_t bytes[65536];
    jumun_token tokens[2] = {{0, 7}, {1, UINT64_MAX}};
    struct msgpack_writer w;
    assert_null(query_encode_fault(query));
    msgpack_writer_init(&w, bytes, sizeof bytes);
    query_encode_head(&w, 250, 1);
    assert_true(msgpack_writer_size(&w) <= QUERY_HEAD_BYTES_MAX);
    size_t head = msgpack_writer_size(&w);
    query_encode(&w, query);
    assert_true(msgpack_writer_size(&w) - head <= query_encode_bytes_max(query));
    query_encode_tail(&w, tokens, 2, 1000);
    assert_true(msgpack_writer_ok(&w));
    memset(arena, 0, sizeof *arena);
    assert_int_equal(query_decode(bytes, msgpack_writer_size(&w), arena, request), RESULT_OK);
    assert_int_equal(request->queries_count, 1);
    assert_int_equal(request->queries[0].fault, 0);
    assert_int_equal(request->queries[0].kind, query->kind);
    assert_int_equal(request->at_least_count, 2);
    assert_true(request->at_least[1].index == UINT64_MAX);
    assert_int_equal(request->max_age_ms, 1000);
    assert_true(request->deadline_ms > 0);
    return request->queries[0];
}

static void test_a_replica_reads_every_kind(void **state) {
    struct wire_arena arena;
    struct query_request request;
    static const char *const fields[] = {"key", "total"};
    static const uint8_t states[] = {2, 5};
    jumun_key keys[3] = {jumun_key_new(), jumun_key_new(), jumun_key_new()};
    jumun_token since[] = {{0, 3}};
    jumun_query all = {.order = keys[0], .keys = keys, .keys_count = 3, .subject = "store/s1",
                       .states = states, .states_count = 2, .has_from = true, .has_to = true,
                       .from_ms = -5, .to_ms = 1795248443463, .bucket_ms = 60000, .since = since,
                       .since_count = 1, .has_since = true, .fields = fields, .fields_count = 2,
                       .limit = 17, .cursor = "abc", .cursor_bytes = 3, .snapshot = 99};
    static const jumun_query_kind kinds[] = {
        JUMUN_GET_ORDER, JUMUN_MULTI_GET, JUMUN_BY_REF, JUMUN_CUSTOMER_ORDERS, JUMUN_STORE_BOARD,
        JUMUN_COUNTERS, JUMUN_CHANGES, JUMUN_EXPORT, JUMUN_REPLICA_PING, JUMUN_REPLICA_MAP,
        JUMUN_REPLICA_STATUS};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        all.kind = kinds[i];
        struct query q = decoded(&all, &arena, &request);
        if (kinds[i] == JUMUN_STORE_BOARD) {
            assert_int_equal(q.states, 1 << 2 | 1 << 5);
            assert_int_equal(q.limit, 17);
            assert_int_equal(q.cursor.size, 3);
            assert_int_equal(q.fields_count, 2);
        }
        if (kinds[i] == JUMUN_COUNTERS) assert_true(q.from_ms == -5 && q.to_ms == 1795248443463);
        if (kinds[i] == JUMUN_CHANGES) assert_true(q.has_since && q.since[0].index == 3);
        if (kinds[i] == JUMUN_MULTI_GET) assert_memory_equal(q.subject.data, keys, sizeof keys);
        if (kinds[i] == JUMUN_EXPORT) assert_int_equal(q.snapshot, 99);
        wire_arena_free(&arena);
    }
    all.kind = JUMUN_STATE_ORDERS;
    all.states_count = 1;
    assert_int_equal(decoded(&all, &arena, &request).state, 2);
    wire_arena_free(&arena);
    jumun_query bare = {.kind = JUMUN_CHANGES, .subject = "store/s1"};
    assert_false(decoded(&bare, &arena, &request).has_since);
    wire_arena_free(&arena);
}

static void test_faults_are_found_before_they_are_sent(void **state) {
    char longer[70];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    const uint8_t states[] = {16};
    const jumun_query wrong[] = {
        {.kind = 1}, {.kind = JUMUN_MULTI_GET}, {.kind = JUMUN_BY_REF},
        {.kind = JUMUN_STORE_BOARD, .subject = longer}, {.kind = JUMUN_STATE_ORDERS},
        {.kind = JUMUN_COUNTERS, .bucket_ms = 1},
        {.kind = JUMUN_STORE_BOARD, .subject = "s", .limit = 1001},
        {.kind = JUMUN_STORE_BOARD, .subject = "s", .cursor_bytes = 512},
        {.kind = JUMUN_STORE_BOARD, .subject = "s", .states = states, .states_count = 1},
        {.kind = JUMUN_GET_ORDER, .fields_count = 65},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_non_null(query_encode_fault(&wrong[i]));
}

static void test_states_have_numbers_and_names(void **state) {
    for (int i = 1; i <= 11; i++) assert_int_equal(jumun_state_number(jumun_state_name(i)), i);
    assert_int_equal(jumun_state_number("cooked"), 0);
    assert_int_equal(jumun_state_number(NULL), 0);
    assert_string_equal(jumun_state_name(0), "?");
    assert_string_equal(jumun_state_name(12), "?");
}

/* -- tokens ------------------------------------------------------------------------------------ */

static void test_tokens_only_grow(void **state) {
    static struct token_set a, b;
    jumun_token tokens[SHARDS_MAX];
    token_set_raise(&a, 1, 10);
    token_set_raise(&a, 1, 4);
    token_set_raise(&b, 1, 7);
    token_set_raise(&b, 3, 2);
    token_set_raise(&a, 65535, 9); /* the cluster's own group has no views */
    assert_int_equal(token_set_list(&a, NULL, tokens), 1);
    assert_int_equal(tokens[0].index, 10);
    assert_int_equal(token_set_list(&a, &b, tokens), 2);
    assert_true(tokens[0].shard == 1 && tokens[0].index == 10);
    assert_true(tokens[1].shard == 3 && tokens[1].index == 2);
    assert_int_equal(token_set_at(&a, 65535), 0);
}

/* -- latency ----------------------------------------------------------------------------------- */

static double share_above(struct prng *prng, int64_t bound, int64_t scale) {
    int above = 0;
    for (int i = 0; i < 10000; i++) above += (int64_t)prng_below(prng, 1000) * scale > bound;
    return above / 10000.0;
}

static void test_the_bound_lies_where_one_in_twenty_is_above(void **state) {
    struct prng prng;
    int64_t p95 = 0;
    prng_seed(&prng, 3);
    for (int64_t scale = 1000; scale <= 100000; scale *= 10) { /* it follows when all gets slower */
        for (int i = 0; i < 5000; i++)
            p95 = latency_p95(p95, (int64_t)prng_below(&prng, 1000) * scale);
        double share = share_above(&prng, p95, scale);
        assert_true(share > 0.005 && share < 0.25);
    }
    assert_true(latency_p95(1, 0) >= 1);
    int64_t smooth = 0;
    for (int i = 0; i < 100; i++) smooth = latency_smooth(smooth, 800);
    assert_true(smooth > 700 && smooth <= 800);
}

/* -- answers kept ------------------------------------------------------------------------------ */

static void test_answers_are_kept_within_their_bytes(void **state) {
    enum { BYTES_MAX = 100000 };
    struct stale_cache *c = stale_cache_new(BYTES_MAX);
    static uint8_t value[20000];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        jumun_token token = {0, i};
        jumun_answer a = {.value = value, .value_bytes = 100 + i % 900, .tokens = &token,
                          .tokens_count = 1, .age_ms = 5, .replica = "r"};
        stale_cache_put(c, &i, sizeof i, &a, 1000000 * (int64_t)i);
        assert_true(stale_cache_bytes(c) <= BYTES_MAX);
        uint32_t first = 0; /* used all the time: never the one to go */
        jumun_answer_free(stale_cache_get(c, &first, sizeof first, 0));
    }
    for (uint32_t i = 0; i < 2000; i++) {
        jumun_answer *a = stale_cache_get(c, &i, sizeof i, 1000000 * (int64_t)i + 7000000);
        if (!a) continue;
        assert_true(a->stale && a->tokens[0].index == i && a->age_ms == 12);
        assert_int_equal(a->value_bytes, 100 + i % 900);
        jumun_answer_free(a);
        kept++;
        if (i > 0 && i < 1000) fail_msg("an old one is still there");
    }
    assert_true(kept > 50);
    uint32_t key = 1999;
    stale_cache_drop(c, &key, sizeof key);
    assert_null(stale_cache_get(c, &key, sizeof key, 0));
    jumun_answer large = {.value = value, .value_bytes = sizeof value, .replica = ""};
    stale_cache_put(c, &key, sizeof key, &large, 0); /* over an eighth */
    assert_null(stale_cache_get(c, &key, sizeof key, 0));
    stale_cache_delete(c);
}

static void test_a_newer_answer_takes_the_place(void **state) {
    struct stale_cache *c = stale_cache_new(100000);
    for (int i = 1; i <= 3; i++) {
        char text[2] = {(char)('0' + i), 0};
        jumun_answer a = {.value = text, .value_bytes = 1, .replica = "", .age_ms = UINT32_MAX};
        stale_cache_put(c, "q", 1, &a, 0);
    }
    jumun_answer *a = stale_cache_get(c, "q", 1, 1000000000);
    assert_memory_equal(a->value, "3", 1);
    assert_true(a->age_ms == UINT32_MAX); /* not known stays not known */
    jumun_answer_free(a);
    stale_cache_delete(c);
}

/* -- where a replica notifies ------------------------------------------------------------------ */

static void test_addresses_of_notifications(void **state) {
    static const char *const cases[][3] = {
        {"tcp://10.0.0.7:7500", "tcp://0.0.0.0:7501", "tcp://10.0.0.7:7501"},
        {"tcp://[fd00::1]:7500", "tcp://[::]:7501", "tcp://[fd00::1]:7501"},
        {"tcp://orders.example:7500", "tcp://*:7501", "tcp://orders.example:7501"},
        {"tcp://10.0.0.7:7500", "tcp://10.0.0.9:7501", "tcp://10.0.0.9:7501"},
        {"inproc://a", "inproc://a-notify", "inproc://a-notify"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char address[256];
        watch_notify_address(cases[i][0], cases[i][1], address, sizeof address);
        assert_string_equal(address, cases[i][2]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_replica_reads_every_kind),
        cmocka_unit_test(test_faults_are_found_before_they_are_sent),
        cmocka_unit_test(test_states_have_numbers_and_names),
        cmocka_unit_test(test_tokens_only_grow),
        cmocka_unit_test(test_the_bound_lies_where_one_in_twenty_is_above),
        cmocka_unit_test(test_answers_are_kept_within_their_bytes),
        cmocka_unit_test(test_a_newer_answer_takes_the_place),
        cmocka_unit_test(test_addresses_of_notifications),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
