/* Watches: nothing is missed, nothing comes twice, whatever connections and replicas do. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/sdk/order_decode.h"
#include "engine/base/prng.h"
#include "tests/unit/sdk/fake_replica.h"

enum { ORDERS = 16 };

/* What a watch was told, judged as it comes. */
struct judge {
    pthread_mutex_t lock;
    jumun_key keys[ORDERS];
    uint32_t versions[ORDERS];     /* told last */
    uint32_t changes, faults;
    uint32_t stop_after;           /* 0 = never */
    uint32_t slow_us;
    jumun_token tokens[FAKE_SHARDS];
    uint32_t tokens_count;
};

static bool judge_change(void *arg, const jumun_change *change) {
    struct judge *j = arg;
    jumun_order *order = NULL;
    if (j->slow_us) usleep(j->slow_us);
    bool ok = order_decode(change->row, change->row_bytes, &order) == JUMUN_OK;
    pthread_mutex_lock(&j->lock);
    int n = -1;
    for (int i = 0; ok && i < ORDERS; i++)
        if (memcmp(&j->keys[i], &order->key, 16) == 0) n = i;
    if (n < 0 || order->version <= j->versions[n]) j->faults++; /* a stranger, or a second time */
    else j->versions[n] = order->version;
    j->changes++;
    for (uint32_t i = 0; i < change->tokens_count && i < FAKE_SHARDS; i++)
        j->tokens[i] = change->tokens[i];
    if (change->tokens) j->tokens_count = change->tokens_count;
    bool goes_on = j->stop_after == 0 || j->changes < j->stop_after;
    pthread_mutex_unlock(&j->lock);
    jumun_order_free(order);
    return goes_on;
}

static void judge_init(struct judge *j) {
    memset(j, 0, sizeof *j);
    pthread_mutex_init(&j->lock, NULL);
    for (int i = 0; i < ORDERS; i++) j->keys[i] = jumun_key_new();
}

/* Waits until the newest version of each order was told. */
static bool judge_await(struct judge *j, const uint32_t *newest) {
    for (int i = 0; i < 120000; i++) {
        pthread_mutex_lock(&j->lock);
        bool all = memcmp(j->versions, newest, sizeof j->versions) == 0;
        pthread_mutex_unlock(&j->lock);
        if (all) return true;
        usleep(1000);
    }
    return false;
}

static uint32_t judge_changes(struct judge *j) {
    pthread_mutex_lock(&j->lock);
    uint32_t changes = j->changes;
    pthread_mutex_unlock(&j->lock);
    return changes;
}

static jumun_queries *open_queries(const char *replicas, const jumun_query_options *options) {
    char error[128] = "";
    jumun_queries *q = jumun_queries_open(replicas, options, error, sizeof error);
    assert_string_equal(error, "");
    return q;
}

static jumun_watch *open_watch(jumun_queries *q, const char *topic,
                               const jumun_watch_options *options, struct judge *j) {
    char error[128] = "";
    jumun_watch *w = jumun_watch_open(q, topic, options, judge_change, j, error, sizeof error);
    assert_string_equal(error, "");
    return w;
}

static void test_changes_from_now_on_are_told(void **state) {
    struct judge j;
    uint32_t newest[ORDERS] = {0};
    judge_init(&j);
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "w1", false);
    fake_history_change(h, 0, &j.keys[0], "s1"); /* the past */
    jumun_queries *q = open_queries("inproc://w1", NULL);
    jumun_watch *w = open_watch(q, "store/s1", NULL, &j);
    assert_true(jumun_watch_await(w, 60000));
    fake_history_change(h, 0, &j.keys[0], "s1");
    fake_history_change(h, 2, &j.keys[1], "s1");
    jumun_key other = jumun_key_new();
    fake_history_change(h, 2, &other, "s11"); /* a topic that begins alike */
    newest[0] = 2;
    newest[1] = 1;
    assert_true(judge_await(&j, newest));
    assert_int_equal(j.faults, 0);
    jumun_watch_close(w);
    fake_history_change(h, 2, &j.keys[1], "s1");
    jumun_queries_close(q);
    assert_int_equal(j.changes, 2);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_one_order_is_watched(void **state) {
    struct judge j;
    uint32_t newest[ORDERS] = {[3] = 1};
    char topic[64] = "order/";
    judge_init(&j);
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "w2", false);
    jumun_queries *q = open_queries("inproc://w2", NULL);
    jumun_key_format(&j.keys[3], topic + 6);
    for (char *c = topic + 6; *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c + 32); /* either case is a key */
    jumun_watch *w = open_watch(q, topic, NULL, &j);
    assert_true(jumun_watch_await(w, 60000));
    fake_history_change(h, 1, &j.keys[3], "s1");
    fake_history_change(h, 1, &j.keys[4], "s1");
    assert_true(judge_await(&j, newest));
    jumun_queries_close(q); /* closes the watch as well */
    assert_int_equal(j.faults, 0);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_topics_that_cannot_be(void **state) {
    char error[128];
    struct judge j;
    judge_init(&j);
    jumun_queries *q = open_queries("inproc://w-nobody", NULL);
    static const char *const topics[] = {"", "s1", "store/", "order/xyz", "rider/7"};
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        error[0] = '\0';
        assert_null(jumun_watch_open(q, topics[i], NULL, judge_change, &j, error, sizeof error));
        assert_true(error[0] != '\0');
    }
    jumun_watch *w = open_watch(q, "store/s1", NULL, &j);
    assert_false(jumun_watch_await(w, 50)); /* nobody is there */
    jumun_watch_close(w);
    jumun_queries_close(q);
}

static void test_no_more_after_false(void **state) {
    struct judge j;
    judge_init(&j);
    j.stop_after = 1;
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "w3", false);
    jumun_queries *q = open_queries("inproc://w3", NULL);
    jumun_watch_options o = {.has_since = true, .look_ms = 20};
    for (int i = 0; i < ORDERS; i++) fake_history_change(h, 0, &j.keys[i], "s1");
    jumun_watch *w = open_watch(q, "store/s1", &o, &j);
    for (int i = 0; i < 10000 && judge_changes(&j) == 0; i++) usleep(1000);
    fake_history_change(h, 0, &j.keys[0], "s1");
    usleep(60000);
    jumun_watch_close(w);
    assert_int_equal(j.changes, 1);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

/* Stops after some changes, keeps the tokens, and goes on with a new watch: as a process would that
 * is started again. */
static void test_tokens_go_on_where_it_ended(void **state) {
    struct judge j;
    uint32_t newest[ORDERS] = {0};
    judge_init(&j);
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "w4", false);
    jumun_token tokens[FAKE_SHARDS];
    uint32_t tokens_count = 0;
    struct prng prng;
    prng_seed(&prng, 11);
    for (int life = 0; life < 8; life++) {
        for (int i = 0; i < 40; i++) {
            uint32_t n = (uint32_t)prng_below(&prng, ORDERS);
            fake_history_change(h, n % FAKE_SHARDS, &j.keys[n], "s1");
            newest[n]++;
        }
        jumun_queries *q = open_queries("inproc://w4", NULL);
        jumun_watch_options o = {.has_since = true, .since = tokens, .since_count = tokens_count,
                                 .page_rows = 3};
        jumun_watch *w = open_watch(q, "store/s1", &o, &j);
        assert_true(judge_await(&j, newest));
        jumun_watch_close(w); /* with it the callback of the last row has returned */
        jumun_queries_close(q);
        tokens_count = j.tokens_count;
        memcpy(tokens, j.tokens, sizeof tokens);
    }
    assert_int_equal(j.faults, 0);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_a_slow_consumer_gets_the_newest(void **state) {
    struct judge j;
    uint32_t newest[ORDERS] = {0};
    judge_init(&j);
    j.slow_us = 3000;
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "w5", false);
    jumun_queries *q = open_queries("inproc://w5", NULL);
    jumun_watch_options o = {.has_since = true, .page_rows = 4};
    jumun_watch *w = open_watch(q, "store/s1", &o, &j);
    for (int i = 0; i < 2000; i++) {
        fake_history_change(h, (uint32_t)i % ORDERS % FAKE_SHARDS, &j.keys[i % ORDERS], "s1");
        newest[i % ORDERS]++;
    }
    assert_true(judge_await(&j, newest));
    assert_int_equal(j.faults, 0);
    assert_true(j.changes < 2000);
    jumun_watch_close(w);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

/* -- a rough world ----------------------------------------------------------------------------- */

static void rough_run(uint64_t seed) {
    struct judge j;
    uint32_t newest[ORDERS] = {0};
    struct prng prng;
    char names[2][32];
    struct fake_replica *r[2];
    judge_init(&j);
    prng_seed(&prng, seed);
    struct fake_history *h = fake_history_new();
    for (int i = 0; i < 2; i++) {
        snprintf(names[i], sizeof names[i], "w6%c", 'a' + i);
        r[i] = fake_replica_start(h, names[i], i == 1);
        fake_replica_fail(r[i], 100, 30, seed + (uint64_t)i);
        fake_replica_mute(r[i], (uint32_t)prng_below(&prng, 1000));
    }
    jumun_query_options qo = {.choice = (jumun_choice)(seed % 3), .attempt_timeout_ms = 40,
                              .wait_ms = 20, .timeout_ms = 300};
    jumun_queries *q = open_queries("inproc://w6a,inproc://w6b", &qo);
    jumun_watch_options o = {.has_since = true, .look_ms = 100,
                             .page_rows = 1 + (uint32_t)prng_below(&prng, 20)};
    jumun_watch *w = open_watch(q, "store/s1", &o, &j);
    for (int i = 0; i < 300; i++) {
        uint32_t n = (uint32_t)prng_below(&prng, ORDERS);
        fake_history_change(h, n % FAKE_SHARDS, &j.keys[n], "s1");
        newest[n]++;
        if (prng_chance(&prng, 1, 4)) fake_replica_follow(r[1]);
        if (prng_chance(&prng, 1, 20)) usleep(4000);
        if (!prng_chance(&prng, 1, 40)) continue;
        int which = (int)prng_below(&prng, 2); /* a restart */
        fake_replica_stop(r[which]);
        usleep(1000 * (unsigned)prng_below(&prng, 30));
        r[which] = fake_replica_start(h, names[which], which == 1);
        fake_replica_fail(r[which], 100, 30, seed + (uint64_t)i);
    }
    fake_replica_follow(r[1]);
    assert_true(judge_await(&j, newest));
    assert_int_equal(j.faults, 0);
    jumun_watch_close(w);
    jumun_queries_close(q);
    for (int i = 0; i < 2; i++) fake_replica_stop(r[i]);
    fake_history_free(h);
}

static void test_nothing_is_missed_in_a_rough_world(void **state) {
    for (uint64_t seed = 1; seed <= 6; seed++) rough_run(seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_from_now_on_are_told),
        cmocka_unit_test(test_one_order_is_watched),
        cmocka_unit_test(test_topics_that_cannot_be),
        cmocka_unit_test(test_no_more_after_false),
        cmocka_unit_test(test_tokens_go_on_where_it_ended),
        cmocka_unit_test(test_a_slow_consumer_gets_the_newest),
        cmocka_unit_test(test_nothing_is_missed_in_a_rough_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
