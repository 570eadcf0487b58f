/* Queries against replicas in the test's own process. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "engine/base/prng.h"
#include "tests/unit/sdk/fake_replica.h"

static jumun_queries *open_queries(const char *replicas, const jumun_query_options *options) {
    char error[128] = "";
    jumun_queries *q = jumun_queries_open(replicas, options, error, sizeof error);
    assert_string_equal(error, "");
    return q;
}

/* Attempts that no load ends before their answer: messages can be counted. */
#define PATIENT .timeout_ms = 120000, .attempt_timeout_ms = 120000
static const jumun_query_options patient = {PATIENT};

static jumun_query get_of(const jumun_key *key) {
    return (jumun_query){.kind = JUMUN_GET_ORDER, .order = *key};
}

/* Runs a get and checks that it brought this version. Returns the answer. */
static jumun_answer *got(jumun_queries *q, const jumun_key *key, uint32_t version) {
    jumun_query get = get_of(key);
    jumun_answer *a;
    jumun_order *order;
    assert_int_equal(jumun_query_run(q, &get, &a), JUMUN_OK);
    assert_int_equal(jumun_answer_order(a, 0, &order), JUMUN_OK);
    assert_int_equal(order->version, version);
    assert_int_equal(a->version, version);
    jumun_order_free(order);
    return a;
}

/* Waits for pings to have measured this many replicas. */
static void await_measured(jumun_queries *q, uint32_t wanted) {
    for (int i = 0; i < 60000; i++) {
        jumun_queries_stats s;
        uint32_t measured = 0;
        jumun_queries_look(q, &s);
        for (uint32_t r = 0; r < s.replicas_count; r++) measured += s.replicas[r].latency_us > 0;
        if (measured >= wanted) return;
        usleep(1000);
    }
    fail_msg("the replicas were not measured");
}

static void test_an_answer_tells_what_it_reflects(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q1", false);
    jumun_queries *q = open_queries("inproc://q1", &patient);
    jumun_key key = jumun_key_new();
    fake_history_change(h, 1, &key, "s1");
    jumun_token t = fake_history_change(h, 1, &key, "s1");
    jumun_answer *a = got(q, &key, 2);
    assert_int_equal(a->tokens_count, FAKE_SHARDS);
    assert_int_equal(a->tokens[1].index, t.index);
    assert_int_equal(a->age_ms, 7); /* of its shard */
    assert_false(a->partial || a->lagging || a->stale);
    assert_string_equal(a->replica, "inproc://q1");
    jumun_answer_free(a);
    jumun_key other = jumun_key_new();
    jumun_query get = get_of(&other);
    assert_int_equal(jumun_query_run(q, &get, &a), JUMUN_ORDER_NOT_FOUND);
    jumun_answer_free(a);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_a_wrong_query_is_told_at_once(void **state) {
    jumun_queries *q = open_queries("inproc://q-nobody", NULL);
    jumun_answer *a;
    jumun_query board = {.kind = JUMUN_STORE_BOARD};
    assert_int_equal(jumun_query_run(q, &board, &a), JUMUN_BAD_ARGUMENT);
    assert_string_equal(a->detail, "the subject is missing");
    jumun_answer_free(a);
    const uint8_t states[] = {2, 12};
    board = (jumun_query){.kind = JUMUN_STORE_BOARD, .subject = "s1", .states = states,
                          .states_count = 2};
    assert_int_equal(jumun_query_run(q, &board, &a), JUMUN_BAD_ARGUMENT);
    assert_string_equal(a->detail, "a state is a number from 1 (awaited) to 11 (expired)");
    jumun_answer_free(a);
    jumun_query kind = {.kind = 7};
    assert_int_equal(jumun_query_run(q, &kind, &a), JUMUN_BAD_ARGUMENT);
    jumun_answer_free(a);
    jumun_queries_close(q);
}

static atomic_uint answered;

static void count_answer(void *arg, const jumun_answer *answer) {
    if (answer->code == *(int *)arg) atomic_fetch_add(&answered, 1);
}

static void await_answered(uint32_t count) {
    for (int i = 0; i < 60000 && atomic_load(&answered) < count; i++) usleep(1000);
    assert_int_equal(atomic_load(&answered), count);
}

static void test_queries_share_messages(void **state) {
    int ok = JUMUN_OK;
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q2", false);
    jumun_queries *q = open_queries("inproc://q2", &patient);
    jumun_key key = jumun_key_new();
    fake_history_change(h, 0, &key, "s1");
    jumun_answer_free(got(q, &key, 1));
    fake_replica_delay(r, 20);
    atomic_store(&answered, 0);
    jumun_query get = get_of(&key);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(jumun_query_submit(q, &get, count_answer, &ok), JUMUN_OK);
    await_answered(1000);
    assert_int_equal(fake_replica_queries(r), 1001);
    assert_true(fake_replica_messages(r) < 200);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_lists_go_on_at_another_replica(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *a = fake_replica_start(h, "q3a", false);
    struct fake_replica *b = fake_replica_start(h, "q3b", false);
    jumun_query_options o = {.choice = JUMUN_IN_ORDER, .timeout_ms = 120000};
    jumun_queries *q = open_queries("inproc://q3a,inproc://q3b", &o);
    for (int i = 0; i < 25; i++) {
        jumun_key key = jumun_key_new();
        fake_history_change(h, (uint32_t)i % FAKE_SHARDS, &key, "s1");
    }
    jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = "s1", .limit = 10};
    uint32_t rows = 0, pages = 0;
    uint8_t cursor[512];
    for (bool more = true; more; pages++) {
        jumun_answer *page;
        assert_int_equal(jumun_query_run(q, &board, &page), JUMUN_OK);
        rows += jumun_answer_rows(page);
        more = page->cursor != NULL;
        if (more) memcpy(cursor, page->cursor, page->cursor_bytes);
        board.cursor = cursor;
        board.cursor_bytes = page->cursor_bytes;
        jumun_answer_free(page);
        if (pages == 0) fake_replica_stop(a);
    }
    assert_int_equal(rows, 25);
    assert_true(fake_replica_queries(b) >= 2);
    jumun_queries_close(q);
    fake_replica_stop(b);
    fake_history_free(h);
}

static void test_counters_are_read(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q4", false);
    jumun_queries *q = open_queries("inproc://q4", &patient);
    jumun_query counters = {.kind = JUMUN_COUNTERS, .bucket_ms = 60000};
    jumun_answer *a;
    jumun_counter c;
    assert_int_equal(jumun_query_run(q, &counters, &a), JUMUN_OK);
    assert_int_equal(jumun_answer_rows(a), 1);
    assert_int_equal(jumun_answer_counter(a, 0, &c), JUMUN_OK);
    assert_string_equal(c.store, "s1");
    assert_string_equal(jumun_state_name(c.state), "placed");
    assert_int_equal(c.refunded, 40);
    assert_int_equal(jumun_answer_counter(a, 1, &c), JUMUN_ORDER_NOT_FOUND);
    assert_true(a->uncounted && !a->partial);
    jumun_answer_free(a);
    counters.has_from = true;
    counters.from_ms = 60000;
    assert_int_equal(jumun_query_run(q, &counters, &a), JUMUN_OK);
    assert_false(a->uncounted);
    jumun_answer_free(a);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

/* No attempt ends by its own time: only the second request, or the measured latency, can help. */
static void test_a_second_request_goes_round_one_that_hangs(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r[2] = {fake_replica_start(h, "q5a", false),
                                 fake_replica_start(h, "q5b", false)};
    jumun_query_options o = {.choice = JUMUN_HEDGED, .timeout_ms = 60000,
                             .attempt_timeout_ms = 60000};
    jumun_key key = jumun_key_new();
    fake_history_change(h, 0, &key, "s1");
    jumun_queries *q = open_queries("inproc://q5a,inproc://q5b", &o);
    await_measured(q, 2);
    for (int i = 0; i < 20; i++) jumun_answer_free(got(q, &key, 1));
    jumun_queries_stats s = {0};
    /* Whichever is turned to first; that may change: sooner or later it is the one that hangs. */
    for (int turn = 0; turn < 2 || (s.hedges_won == 0 && turn < 100); turn++) {
        struct fake_replica *hangs = r[turn % 2];
        fake_replica_delay(hangs, UINT32_MAX);
        for (int i = 0; i < 20; i++) jumun_answer_free(got(q, &key, 1));
        fake_replica_delay(hangs, 0);
        for (int i = 0; i < 60000; i++) { /* until its circuit is closed again */
            jumun_queries_look(q, &s);
            if (!s.replicas[turn % 2].circuit_open) break;
            usleep(1000);
        }
    }
    assert_true(s.hedges_won >= 1);
    assert_true(s.hedges_won <= s.hedges);
    jumun_queries_close(q);
    fake_replica_stop(r[0]);
    fake_replica_stop(r[1]);
    fake_history_free(h);
}

static void test_the_nearest_is_asked(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *far = fake_replica_start(h, "q6a", false);
    struct fake_replica *near = fake_replica_start(h, "q6b", false);
    fake_replica_delay(far, 1000);
    jumun_key key = jumun_key_new();
    fake_history_change(h, 0, &key, "s1");
    jumun_queries *q = open_queries("inproc://q6a,inproc://q6b",
                                    &(jumun_query_options){.choice = JUMUN_NEAREST, PATIENT});
    await_measured(q, 2);
    uint32_t before = fake_replica_messages(far);
    for (int i = 0; i < 50; i++) jumun_answer_free(got(q, &key, 1));
    assert_int_equal(fake_replica_messages(far), before);
    assert_int_equal(fake_replica_messages(near), 50);
    jumun_queries_close(q);
    fake_replica_stop(far);
    fake_replica_stop(near);
    fake_history_free(h);
}

static void *follow_soon(void *replica) {
    usleep(50000);
    fake_replica_follow(replica);
    return NULL;
}

static void test_own_writes_are_read(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q7", true);
    char error[128];
    jumun_client *session = jumun_open("inproc://q7-no-node", NULL, error, sizeof error);
    jumun_query_options o = {.session = session, .timeout_ms = 60000, .wait_ms = 30000};
    jumun_queries *q = open_queries("inproc://q7", &o);
    jumun_key key = jumun_key_new();
    fake_history_change(h, 2, &key, "s1");
    fake_replica_follow(r);
    jumun_answer_free(got(q, &key, 1));
    jumun_token written = fake_history_change(h, 2, &key, "s1");
    jumun_session_demand(session, &written, 1);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, follow_soon, r), 0);
    jumun_answer *a = got(q, &key, 2);
    assert_false(a->lagging);
    assert_true(a->tokens[2].index >= written.index);
    jumun_answer_free(a);
    pthread_join(thread, NULL);
    jumun_queries_close(q);
    jumun_close(session);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_what_is_not_reached_is_told(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q8", true);
    jumun_query_options o = {.wait_ms = 30, PATIENT};
    jumun_queries *q = open_queries("inproc://q8", &o);
    jumun_key key = jumun_key_new();
    fake_history_change(h, 0, &key, "s1");
    fake_replica_follow(r);
    jumun_token t = fake_history_change(h, 0, &key, "s1");
    jumun_query get = get_of(&key);
    get.demand.at_least = &t;
    get.demand.at_least_count = 1;
    jumun_answer *a;
    assert_int_equal(jumun_query_run(q, &get, &a), JUMUN_OK); /* the older state, and it says so */
    assert_true(a->lagging);
    assert_int_equal(a->version, 1);
    jumun_answer_free(a);
    get.demand.strict = true;
    assert_int_equal(jumun_query_run(q, &get, &a), JUMUN_TOKEN_NOT_REACHED);
    jumun_answer_free(a);
    jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = "s1"};
    board.demand = get.demand;
    assert_int_equal(jumun_query_run(q, &board, &a), JUMUN_TOKEN_NOT_REACHED);
    jumun_answer_free(a);
    board.demand.strict = false;
    assert_int_equal(jumun_query_run(q, &board, &a), JUMUN_OK);
    assert_true(a->lagging && a->partial);
    assert_int_equal(a->missing_count, 1);
    assert_int_equal(a->missing[0], 0);
    jumun_answer_free(a);
    jumun_queries_stats s;
    jumun_queries_look(q, &s);
    assert_int_equal(s.lagging, 4);
    /* An order that was placed behind that state: not found, and that says so, too. */
    jumun_key fresh = jumun_key_new();
    t = fake_history_change(h, 0, &fresh, "s1");
    get = get_of(&fresh);
    get.demand.at_least = &t;
    get.demand.at_least_count = 1;
    assert_int_equal(jumun_query_run(q, &get, &a), JUMUN_ORDER_NOT_FOUND);
    assert_true(a->lagging);
    jumun_answer_free(a);
    fake_replica_follow(r);
    jumun_key never = jumun_key_new();
    get = get_of(&never);
    assert_int_equal(jumun_query_run(q, &get, &a), JUMUN_ORDER_NOT_FOUND);
    assert_false(a->lagging);
    jumun_answer_free(a);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_another_replica_does_not_lead_back(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *ahead = fake_replica_start(h, "q9a", false);
    struct fake_replica *behind = fake_replica_start(h, "q9b", true);
    jumun_query_options o = {.choice = JUMUN_IN_ORDER, .wait_ms = 30, .timeout_ms = 120000};
    jumun_key key = jumun_key_new();
    fake_history_change(h, 0, &key, "s1");
    fake_replica_follow(behind);
    fake_history_change(h, 0, &key, "s1");
    jumun_queries *q = open_queries("inproc://q9a,inproc://q9b", &o);
    await_measured(q, 2);
    jumun_answer_free(got(q, &key, 2));
    fake_replica_stop(ahead);
    jumun_answer *a = got(q, &key, 1);
    assert_true(a->lagging);
    jumun_answer_free(a);
    jumun_query get = get_of(&key);
    get.demand.strict = true;
    assert_int_equal(jumun_query_run(q, &get, &a), JUMUN_TOKEN_NOT_REACHED);
    jumun_answer_free(a);
    get.demand.any_state = true;
    assert_int_equal(jumun_query_run(q, &get, &a), JUMUN_OK);
    assert_false(a->lagging); /* nothing was demanded */
    jumun_answer_free(a);
    fake_replica_follow(behind);
    a = got(q, &key, 2);
    assert_false(a->lagging);
    jumun_answer_free(a);
    jumun_queries_close(q);
    fake_replica_stop(behind);
    fake_history_free(h);
}

static void test_the_last_good_answer_outlives_the_replicas(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q10", false);
    jumun_query_options o = {.timeout_ms = 3000};
    jumun_queries *q = open_queries("inproc://q10", &o);
    jumun_key key = jumun_key_new(), other = jumun_key_new();
    fake_history_change(h, 0, &key, "s1");
    fake_history_change(h, 0, &other, "s1");
    jumun_answer_free(got(q, &key, 1));
    fake_replica_stop(r);
    jumun_answer *a = got(q, &key, 1);
    assert_true(a->stale);
    assert_false(a->lagging);
    assert_true(a->age_ms < UINT32_MAX);
    jumun_answer_free(a);
    jumun_query get = get_of(&other); /* never asked before */
    get.demand.timeout_ms = 100;
    assert_int_not_equal(jumun_query_run(q, &get, &a), JUMUN_OK);
    jumun_answer_free(a);
    get = get_of(&key);
    get.demand.timeout_ms = 100;
    get.demand.no_stale = true;
    assert_int_not_equal(jumun_query_run(q, &get, &a), JUMUN_OK);
    assert_true(a->code == JUMUN_NOT_SENT || a->code == JUMUN_CIRCUIT_OPEN);
    jumun_answer_free(a);
    fake_history_change(h, 0, &key, "s1");
    r = fake_replica_start(h, "q10", false);
    jumun_query fresh = get_of(&key);
    fresh.demand.no_stale = true;
    for (int i = 0; i < 10000; i++) {
        if (jumun_query_run(q, &fresh, &a) == JUMUN_OK || i == 9999) break;
        jumun_answer_free(a);
        usleep(5000);
    }
    assert_int_equal(a->version, 2);
    assert_false(a->stale);
    jumun_answer_free(a);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_silence_ends_in_time(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q11", false);
    jumun_query_options o = {.timeout_ms = 150, .attempt_timeout_ms = 20, .no_stale = true};
    jumun_queries *q = open_queries("inproc://q11", &o);
    jumun_key key = jumun_key_new();
    jumun_query get = get_of(&key);
    jumun_answer *a;
    fake_replica_delay(r, UINT32_MAX);
    int last = 0;
    for (int i = 0; i < 1000 && last != JUMUN_CIRCUIT_OPEN; i++) {
        last = jumun_query_run(q, &get, &a);
        assert_true(last == JUMUN_NOT_SENT || last == JUMUN_CIRCUIT_OPEN);
        jumun_answer_free(a);
    }
    assert_int_equal(last, JUMUN_CIRCUIT_OPEN);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_a_replica_that_refuses_is_left_for_another(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *a = fake_replica_start(h, "q12a", false);
    struct fake_replica *b = fake_replica_start(h, "q12b", false);
    jumun_query_options o = {.choice = JUMUN_IN_ORDER, PATIENT};
    jumun_queries *q = open_queries("inproc://q12a,inproc://q12b", &o);
    jumun_key key = jumun_key_new();
    fake_history_change(h, 0, &key, "s1");
    await_measured(q, 2);
    fake_replica_refuse(a, RESULT_VIEW_NOT_READY);
    for (int i = 0; i < 10; i++) jumun_answer_free(got(q, &key, 1));
    assert_int_equal(fake_replica_queries(b), 10);
    fake_replica_refuse(b, RESULT_VIEW_NOT_READY);
    jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = "s1"};
    jumun_answer *answer;
    int code = 0;
    for (uint32_t ms = 200; code != JUMUN_VIEW_NOT_READY && ms <= 60000; ms *= 2) {
        board.demand.timeout_ms = ms; /* as much as the first refusal needs now */
        code = jumun_query_run(q, &board, &answer);
        jumun_answer_free(answer);
    }
    assert_int_equal(code, JUMUN_VIEW_NOT_READY);
    board.demand.timeout_ms = 0;
    usleep(100000); /* what was under way when its time was over has come */
    fake_replica_refuse(b, RESULT_CURSOR_INVALID); /* the question is wrong, not the replica */
    uint32_t before = fake_replica_queries(a);
    fake_replica_refuse(a, RESULT_CURSOR_INVALID);
    assert_int_equal(jumun_query_run(q, &board, &answer), JUMUN_CURSOR_INVALID);
    assert_string_equal(answer->detail, "refused by the test");
    assert_int_equal(fake_replica_queries(a), before + 1);
    jumun_answer_free(answer);
    jumun_queries_close(q);
    fake_replica_stop(a);
    fake_replica_stop(b);
    fake_history_free(h);
}

/* One that has reached no node refuses with NOT_READY; one that has not got all shards yet answers
 * lists that say so. Neither is taken while another replica has everything. */
static void test_a_replica_that_lacks_something_is_left_for_another(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *a = fake_replica_start(h, "q17a", false);
    struct fake_replica *b = fake_replica_start(h, "q17b", false);
    jumun_query_options o = {.choice = JUMUN_IN_ORDER, PATIENT};
    jumun_queries *q = open_queries("inproc://q17a,inproc://q17b", &o);
    jumun_key key = jumun_key_new();
    jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = "s1"};
    jumun_answer *answer;
    fake_history_change(h, 0, &key, "s1");
    await_measured(q, 2);
    fake_replica_lack(a, 1);
    assert_int_equal(jumun_query_run(q, &board, &answer), JUMUN_OK);
    assert_false(answer->partial);
    assert_string_equal(answer->replica, "inproc://q17b");
    jumun_answer_free(answer);
    fake_replica_lack(b, 1); /* nobody has more: the answer says what it is */
    assert_int_equal(jumun_query_run(q, &board, &answer), JUMUN_OK);
    assert_true(answer->partial);
    assert_int_equal(answer->missing_count, 1);
    assert_int_equal(jumun_answer_rows(answer), 1);
    jumun_answer_free(answer);
    fake_replica_refuse(a, RESULT_NOT_READY);
    jumun_answer_free(got(q, &key, 1));
    /* The other one cannot answer at all: what there is, and no long search for more. */
    uint32_t before = fake_replica_queries(b);
    assert_int_equal(jumun_query_run(q, &board, &answer), JUMUN_OK);
    assert_true(answer->partial);
    assert_in_range(fake_replica_queries(b) - before, 1, 2);
    jumun_answer_free(answer);
    jumun_queries_close(q);
    fake_replica_stop(a);
    fake_replica_stop(b);
    fake_history_free(h);
}

static void keep_answer(void *arg, const jumun_answer *answer) {
    *(jumun_answer *)arg = *answer;
    atomic_fetch_add(&answered, 1);
}

/* Refused, asked again, and no reply since: the answer is the refusal, with its sentence. */
static void test_the_last_refusal_is_told_when_time_ends(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q24", false);
    jumun_query_options o = {PATIENT};
    jumun_queries *q = open_queries("inproc://q24", &o);
    jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = "s1"};
    jumun_answer answer;
    await_measured(q, 1);
    fake_replica_refuse(r, RESULT_NOT_READY);
    uint32_t before = fake_replica_queries(r);
    board.demand.timeout_ms = 1500;
    atomic_store(&answered, 0);
    assert_int_equal(jumun_query_submit(q, &board, keep_answer, &answer), JUMUN_OK);
    /* With the second question the first one was refused. */
    while (fake_replica_queries(r) < before + 2 && atomic_load(&answered) == 0) usleep(1000);
    fake_replica_delay(r, UINT32_MAX);
    await_answered(1);
    assert_int_equal(answer.code, JUMUN_NOT_READY);
    assert_string_equal(answer.detail, "refused by the test");
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

/* All replicas began anew: what was known before is given, with its age; what was never asked is
 * refused as it is, not as "no such order". */
static void test_the_last_good_answer_outlives_the_knowledge(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q18", false);
    jumun_query_options o = {PATIENT};
    jumun_queries *q = open_queries("inproc://q18", &o);
    jumun_key key = jumun_key_new(), other = jumun_key_new();
    jumun_answer *a;
    fake_history_change(h, 0, &key, "s1");
    jumun_answer_free(got(q, &key, 1));
    fake_replica_refuse(r, RESULT_NOT_READY);
    a = got(q, &key, 1);
    assert_true(a->stale);
    assert_true(a->age_ms < UINT32_MAX);
    jumun_answer_free(a);
    jumun_query get = get_of(&other);
    int code = JUMUN_NOT_SENT;
    for (uint32_t ms = 100; code == JUMUN_NOT_SENT && ms <= 60000; ms *= 2) {
        get.demand.timeout_ms = ms; /* as much as the first refusal needs now */
        code = jumun_query_run(q, &get, &a);
        jumun_answer_free(a);
    }
    assert_int_equal(code, RESULT_NOT_READY);
    jumun_queries_close(q);
    fake_replica_stop(r);
    fake_history_free(h);
}

/* The address of a node where one of a replica should be: told at once, though there is time; with
 * a replica beside it, nobody notices; and when a replica takes its place, it is asked. */
static void test_a_node_is_not_taken_for_a_replica(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *node = fake_replica_start(h, "q19a", false);
    struct fake_replica *r = fake_replica_start(h, "q19b", false);
    jumun_query_options o = {.choice = JUMUN_IN_ORDER, PATIENT};
    jumun_key key = jumun_key_new();
    jumun_query get = get_of(&key);
    jumun_answer *a;
    fake_history_change(h, 0, &key, "s1");
    fake_replica_be_node(node, 1);
    jumun_queries *alone = open_queries("inproc://q19a", &o);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(jumun_query_run(alone, &get, &a), JUMUN_NOT_A_REPLICA);
        jumun_answer_free(a);
    }
    jumun_query status = {.kind = JUMUN_REPLICA_STATUS};
    assert_int_equal(jumun_query_run(alone, &status, &a), JUMUN_NOT_A_REPLICA);
    jumun_answer_free(a);
    jumun_queries *both = open_queries("inproc://q19a,inproc://q19b", &o);
    for (int i = 0; i < 20; i++) {
        a = got(both, &key, 1);
        assert_string_equal(a->replica, "inproc://q19b");
        jumun_answer_free(a);
    }
    fake_replica_be_node(node, 0);
    int code = JUMUN_NOT_A_REPLICA;
    for (int i = 0; i < 60000 && code == JUMUN_NOT_A_REPLICA; i++) {
        code = jumun_query_run(alone, &get, &a); /* pings go on and tell */
        jumun_answer_free(a);
        usleep(1000);
    }
    assert_int_equal(code, JUMUN_OK);
    jumun_queries_close(alone);
    jumun_queries_close(both);
    fake_replica_stop(node);
    fake_replica_stop(r);
    fake_history_free(h);
}

/* A token of a shard that nobody knows: an error that names it, whether the demand is strict or
 * not, once the wait is over. When the replica has heard of the shard (the cluster has just grown)
 * it is an answer that names what is missing; and what a session has written to is never an
 * error. */
static void test_a_shard_that_nobody_knows_is_told(void **state) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q20", false);
    char error[128];
    jumun_client *session = jumun_open("inproc://q20-no-node", NULL, error, sizeof error);
    jumun_query_options o = {PATIENT, .wait_ms = 1};
    jumun_queries *q = open_queries("inproc://q20", &o);
    o.session = session;
    jumun_queries *own = open_queries("inproc://q20", &o);
    jumun_key key = jumun_key_new(), other = jumun_key_new();
    jumun_token wrong = {7, 1}, impossible = {700, 1};
    jumun_answer *a;
    fake_history_change(h, 0, &key, "s1");
    jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = "s1",
                         .demand = {.at_least = &wrong, .at_least_count = 1}};
    jumun_query absent = get_of(&other);
    absent.demand = board.demand;
    for (int strict = 0; strict < 2; strict++) {
        board.demand.strict = absent.demand.strict = strict;
        for (int i = 0; i < 2; i++) {
            assert_int_equal(jumun_query_run(q, i ? &board : &absent, &a),
                             JUMUN_TOKEN_NOT_REACHED);
            assert_non_null(strstr(a->detail, "shard 7 is not known"));
            jumun_answer_free(a);
        }
    }
    board.demand.strict = false;
    fake_replica_lack(r, 8);
    assert_int_equal(jumun_query_run(q, &board, &a), JUMUN_OK);
    assert_true(a->partial && a->lagging && jumun_answer_rows(a) == 1);
    assert_true(a->missing_count > 0 && a->missing[0] == 7);
    jumun_answer_free(a);
    fake_replica_lack(r, 0);
    board.demand.at_least = &impossible;
    assert_int_equal(jumun_query_run(q, &board, &a), JUMUN_BAD_ARGUMENT);
    jumun_answer_free(a);
    board.demand.at_least_count = 0;
    jumun_session_demand(session, &wrong, 1);
    assert_int_equal(jumun_query_run(own, &board, &a), JUMUN_OK);
    assert_true(a->lagging && jumun_answer_rows(a) == 1 && a->missing_count == 1);
    assert_int_equal(a->missing[0], 7);
    jumun_answer_free(a);
    jumun_queries_close(q);
    jumun_queries_close(own);
    jumun_close(session);
    fake_replica_stop(r);
    fake_history_free(h);
}

static void test_a_word_is_no_address(void **state) {
    char error[256] = "";
    assert_null(jumun_queries_open("inproc://q21,localhost:7500", NULL, error, sizeof error));
    assert_non_null(strstr(error, "\"localhost:7500\" does not begin with tcp://"));
    assert_null(jumun_open("localhost", NULL, error, sizeof error));
    assert_non_null(strstr(error, "an address is tcp://HOST:PORT"));
}

static void test_closing_ends_what_is_open(void **state) {
    int closed = JUMUN_CLOSED;
    struct fake_history *h = fake_history_new();
    struct fake_replica *r = fake_replica_start(h, "q13", false);
    jumun_query_options o = {.timeout_ms = 60000, .attempt_timeout_ms = 60000};
    jumun_queries *q = open_queries("inproc://q13", &o);
    jumun_key key = jumun_key_new();
    jumun_query get = get_of(&key);
    await_measured(q, 1);
    fake_replica_delay(r, UINT32_MAX);
    atomic_store(&answered, 0);
    for (int i = 0; i < 500; i++)
        assert_int_equal(jumun_query_submit(q, &get, count_answer, &closed), JUMUN_OK);
    jumun_queries_close(q);
    assert_int_equal(atomic_load(&answered), 500);
    fake_replica_stop(r);
    fake_history_free(h);
}

/* -- a rough world ----------------------------------------------------------------------------- */

enum { ROUGH_ORDERS = 20, ROUGH_QUERIES = 100, ROUGH_THREADS = 3 };

struct rough {
    jumun_queries *q;
    jumun_key keys[ROUGH_ORDERS];
    uint64_t seed;
    atomic_uint failures, lagging, good;
};

/* One reader: what it sees of an order never goes back, unless the answer says so. */
static void *rough_reader(void *arg) {
    struct rough *w = arg;
    uint32_t seen[ROUGH_ORDERS] = {0};
    struct prng prng;
    prng_seed(&prng, w->seed + (uintptr_t)&prng);
    for (int i = 0; i < ROUGH_QUERIES; i++) {
        uint32_t n = (uint32_t)prng_below(&prng, ROUGH_ORDERS);
        jumun_query get = get_of(&w->keys[n]);
        jumun_answer *a;
        int code = jumun_query_run(w->q, &get, &a);
        if (code == JUMUN_OK && !a->lagging && !a->stale) {
            if (a->version < seen[n]) atomic_fetch_add(&w->failures, 1);
            seen[n] = a->version;
            atomic_fetch_add(&w->good, 1);
        } else {
            atomic_fetch_add(&w->lagging, 1);
        }
        jumun_answer_free(a);
    }
    return NULL;
}

static void rough_run(uint64_t seed) {
    struct fake_history *h = fake_history_new();
    struct fake_replica *r[3] = {fake_replica_start(h, "q14a", false),
                                 fake_replica_start(h, "q14b", true),
                                 fake_replica_start(h, "q14c", true)};
    struct prng prng;
    prng_seed(&prng, seed);
    struct rough w = {.seed = seed};
    jumun_query_options o = {.choice = (jumun_choice)(seed % 3), .attempt_timeout_ms = 30,
                             .wait_ms = 60};
    w.q = open_queries("inproc://q14a,inproc://q14b,inproc://q14c", &o);
    for (uint32_t i = 0; i < ROUGH_ORDERS; i++) {
        w.keys[i] = jumun_key_new();
        fake_history_change(h, i % FAKE_SHARDS, &w.keys[i], "s1");
    }
    for (int i = 0; i < 3; i++) fake_replica_fail(r[i], 50, 20, seed * 3 + (uint64_t)i);
    pthread_t threads[ROUGH_THREADS];
    for (int i = 0; i < ROUGH_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, rough_reader, &w), 0);
    for (int i = 0; i < 400; i++) {
        uint32_t n = (uint32_t)prng_below(&prng, ROUGH_ORDERS);
        fake_history_change(h, n % FAKE_SHARDS, &w.keys[n], "s1");
        if (prng_chance(&prng, 1, 3)) fake_replica_follow(r[1 + prng_below(&prng, 2)]);
        if (i % 8 == 0) usleep(1000);
    }
    fake_replica_follow(r[1]);
    fake_replica_follow(r[2]);
    for (int i = 0; i < ROUGH_THREADS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&w.failures), 0);
    assert_true(atomic_load(&w.good) > 0);
    jumun_queries_close(w.q);
    for (int i = 0; i < 3; i++) fake_replica_stop(r[i]);
    fake_history_free(h);
}

static void test_nothing_goes_back_in_a_rough_world(void **state) {
    for (uint64_t seed = 1; seed <= 4; seed++) rough_run(seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_tells_what_it_reflects),
        cmocka_unit_test(test_a_wrong_query_is_told_at_once),
        cmocka_unit_test(test_queries_share_messages),
        cmocka_unit_test(test_lists_go_on_at_another_replica),
        cmocka_unit_test(test_counters_are_read),
        cmocka_unit_test(test_a_second_request_goes_round_one_that_hangs),
        cmocka_unit_test(test_the_nearest_is_asked),
        cmocka_unit_test(test_own_writes_are_read),
        cmocka_unit_test(test_what_is_not_reached_is_told),
        cmocka_unit_test(test_another_replica_does_not_lead_back),
        cmocka_unit_test(test_the_last_good_answer_outlives_the_replicas),
        cmocka_unit_test(test_silence_ends_in_time),
        cmocka_unit_test(test_a_replica_that_refuses_is_left_for_another),
        cmocka_unit_test(test_a_replica_that_lacks_something_is_left_for_another),
        cmocka_unit_test(test_the_last_refusal_is_told_when_time_ends),
        cmocka_unit_test(test_the_last_good_answer_outlives_the_knowledge),
        cmocka_unit_test(test_a_node_is_not_taken_for_a_replica),
        cmocka_unit_test(test_a_shard_that_nobody_knows_is_told),
        cmocka_unit_test(test_a_word_is_no_address),
        cmocka_unit_test(test_closing_ends_what_is_open),
        cmocka_unit_test(test_nothing_goes_back_in_a_rough_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
