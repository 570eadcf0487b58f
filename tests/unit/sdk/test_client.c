/* One caller at a time: where calls go, how they end, what is tried again. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <time.h>

#include "actors/result_codes.h"
#include "tests/unit/sdk/fake_engine.h"

/* What the engine's script does, and what it has seen. Its threads run while a test looks: nobody
 * touches it without the mutex. */
struct script {
    enum fake_action action; /* for the first `times` messages */
    int code;
    uint32_t times, retry_after_ms;
    bool shards_only;        /* not at the general endpoint */
    uint32_t seen;
    jumun_key ids[16];
};
static struct script script;
static pthread_mutex_t script_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Attempts that no load ends before their answer: messages can be counted. */
static const jumun_options patient = {.timeout_ms = 120000, .attempt_timeout_ms = 120000};

static void scripted(void *arg, struct fake_message *m) {
    (void)arg;
    pthread_mutex_lock(&script_mutex);
    if (script.seen < 16) script.ids[script.seen] = m->commands[0].id;
    if (script.seen < script.times && !(script.shards_only && m->endpoint == FAKE_GENERAL)) {
        m->action = script.action;
        for (uint32_t i = 0; i < m->count; i++) m->codes[i] = script.code;
        m->retry_after_ms = script.retry_after_ms;
    }
    script.seen++;
    pthread_mutex_unlock(&script_mutex);
}

/* From now on this; it has seen nothing yet. */
static void play(struct script next) {
    pthread_mutex_lock(&script_mutex);
    script = next;
    pthread_mutex_unlock(&script_mutex);
}

/* All that it has seen by now. */
static struct script look(void) {
    pthread_mutex_lock(&script_mutex);
    struct script now = script;
    pthread_mutex_unlock(&script_mutex);
    return now;
}

/* How many of the first messages held the command of this id. */
static int messages_with(const jumun_key *id) {
    struct script now = look();
    int count = 0;
    for (uint32_t i = 0; i < now.seen && i < 16; i++)
        count += memcmp(&now.ids[i], id, sizeof *id) == 0;
    return count;
}

static int setup(void **state) {
    play((struct script){0});
    return 0;
}

static jumun_client *open_client(const char *name, const jumun_options *options) {
    char error[128] = "";
    jumun_client *c = jumun_open(fake_engine_address(name), options, error, sizeof error);
    assert_string_equal(error, "");
    assert_non_null(c);
    return c;
}

static jumun_key key_of_shard(struct fake_engine *e, uint32_t shard) {
    jumun_key key;
    do key = jumun_key_new();
    while (fake_engine_shard_of(e, &key) != shard);
    return key;
}

/* Until a shard's own connection stands, the general endpoint serves its keys. */
static void await_shards(struct fake_engine *e, jumun_client *c, uint32_t shards) {
    for (uint32_t i = 0; i < shards; i++) {
        jumun_key key = key_of_shard(e, i);
        jumun_result r = {.shard = 99};
        for (int tries = 0; r.shard == 99 && tries < 60000; tries++) {
            if (tries > 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            assert_int_equal(jumun_mark_ready(c, &key, NULL, &r), JUMUN_OK);
        }
        assert_int_equal(r.shard, i);
    }
}

static void test_a_command_reaches_its_shard_and_is_answered(void **state) {
    struct fake_engine *e = fake_engine_start("t1", 2, scripted, NULL);
    jumun_client *c = open_client("t1", &patient);
    await_shards(e, c, 2);
    play((struct script){0});
    uint32_t before = fake_engine_messages(e);
    for (uint32_t shard = 0; shard < 2; shard++) {
        jumun_key key = key_of_shard(e, shard);
        jumun_result r;
        assert_int_equal(jumun_mark_ready(c, &key, NULL, &r), JUMUN_OK);
        assert_int_equal(r.shard, shard); /* the fake tells which endpoint was asked */
        assert_int_equal(r.index, before + shard);
        assert_int_equal(r.version, 1);
        assert_int_equal(messages_with(&r.id), 1);
    }
    jumun_client_stats s;
    jumun_stats(c, &s);
    assert_int_equal(s.shards, 2);
    assert_int_equal(s.retries, 0);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_ping(void **state) {
    struct fake_engine *e = fake_engine_start("t2", 1, NULL, NULL);
    jumun_client *c = open_client("t2", NULL);
    assert_int_equal(jumun_ping(c, 60000), JUMUN_OK);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_ids_and_refusals_come_through(void **state) {
    struct fake_engine *e = fake_engine_start("t3", 1, scripted, NULL);
    jumun_client *c = open_client("t3", &patient);
    jumun_key key = jumun_key_new();
    jumun_options_command o = {.id = jumun_key_new()};
    jumun_result r;
    play((struct script){.times = 1, .code = RESULT_ORDER_HAS_ENDED});
    assert_int_equal(jumun_deliver(c, &key, &o, &r), RESULT_ORDER_HAS_ENDED);
    assert_string_equal(r.detail, "refused by the script");
    assert_memory_equal(&r.id, &o.id, sizeof r.id);
    assert_int_equal(messages_with(&o.id), 1);
    assert_int_equal(fake_engine_messages(e), 1);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_not_now_is_tried_again_under_the_same_id(void **state) {
    static const int codes[] = {RESULT_OVERLOADED, RESULT_NOT_READY, RESULT_NOT_LEADER,
                                RESULT_SHUTTING_DOWN, RESULT_WRONG_SHARD};
    struct fake_engine *e = fake_engine_start("t4", 1, scripted, NULL);
    jumun_client *c = open_client("t4", &patient);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        play((struct script){.times = 2, .code = codes[i], .retry_after_ms = 5});
        jumun_key key = jumun_key_new();
        jumun_result r;
        assert_int_equal(jumun_pick_up(c, &key, NULL, &r), JUMUN_OK);
        assert_int_equal(look().seen, 3);
        assert_int_equal(messages_with(&r.id), 3);
    }
    jumun_client_stats s;
    jumun_stats(c, &s);
    assert_int_equal(s.retries, 10);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_a_refused_message_is_tried_again_too(void **state) {
    struct fake_engine *e = fake_engine_start("t5", 1, scripted, NULL);
    jumun_client *c = open_client("t5", &patient);
    jumun_key key = jumun_key_new();
    jumun_result r;
    play((struct script){.times = 1, .action = FAKE_REFUSE_ALL, .code = RESULT_SHUTTING_DOWN});
    assert_int_equal(jumun_pick_up(c, &key, NULL, &r), JUMUN_OK);
    play((struct script){.times = 1, .action = FAKE_REFUSE_ALL, .code = RESULT_MALFORMED_MESSAGE});
    assert_int_equal(jumun_pick_up(c, &key, NULL, &r), RESULT_MALFORMED_MESSAGE);
    assert_string_equal(r.detail, "the whole message is refused");
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_overloaded_until_the_timeout_is_the_answer(void **state) {
    struct fake_engine *e = fake_engine_start("t6", 1, scripted, NULL);
    jumun_client *c = open_client("t6", &patient);
    jumun_key key = jumun_key_new();
    jumun_result r = {0};
    play((struct script){.times = UINT32_MAX, .code = RESULT_OVERLOADED, .retry_after_ms = 7});
    /* A call whose time ends before its first answer, or in the midst of another attempt, has
     * another end: then with more time. */
    for (uint32_t ms = 100; r.code != JUMUN_OVERLOADED && ms <= 60000; ms *= 2) {
        int code = jumun_pick_up(c, &key, &(jumun_options_command){.timeout_ms = ms}, &r);
        assert_true(code == JUMUN_OVERLOADED || code == JUMUN_NOT_SENT ||
                    code == JUMUN_OUTCOME_UNKNOWN);
    }
    assert_int_equal(r.code, JUMUN_OVERLOADED);
    assert_int_equal(r.retry_after_ms, 7);
    assert_true(look().seen >= 1);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_a_full_disk_is_told_at_once(void **state) {
    struct fake_engine *e = fake_engine_start("t7", 1, scripted, NULL);
    jumun_client *c = open_client("t7", &patient);
    jumun_key key = jumun_key_new();
    play((struct script){.times = 1, .code = RESULT_DISK_FULL});
    assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), RESULT_DISK_FULL);
    assert_int_equal(look().seen, 1);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_no_answer_is_outcome_unknown(void **state) {
    struct fake_engine *e = fake_engine_start("t8", 1, scripted, NULL);
    jumun_client *c = open_client("t8", &(jumun_options){.attempt_timeout_ms = 30,
                                                         .circuit_failures = UINT32_MAX});
    jumun_key key = jumun_key_new();
    jumun_result r;
    assert_int_equal(jumun_ping(c, 60000), JUMUN_OK);
    /* As much time as two attempts need on this machine now. */
    bool twice = false;
    for (uint32_t ms = 200; !twice && ms <= 60000; ms *= 2) {
        play((struct script){.times = UINT32_MAX, .action = FAKE_DROP});
        int code = jumun_pick_up(c, &key, &(jumun_options_command){.timeout_ms = ms}, &r);
        twice = messages_with(&r.id) >= 2; /* attempts, all under one id */
        assert_true(code == JUMUN_OUTCOME_UNKNOWN || (code == JUMUN_NOT_SENT && !twice));
    }
    assert_true(twice);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_a_lost_answer_is_asked_for_again(void **state) {
    struct fake_engine *e = fake_engine_start("t18", 1, scripted, NULL);
    jumun_client *c = open_client("t18", &(jumun_options){.timeout_ms = 120000,
                                                          .attempt_timeout_ms = 50,
                                                          .circuit_failures = UINT32_MAX});
    jumun_key key = jumun_key_new();
    jumun_result r;
    play((struct script){.times = 1, .action = FAKE_DROP});
    assert_int_equal(jumun_pick_up(c, &key, NULL, &r), JUMUN_OK);
    assert_true(messages_with(&r.id) >= 2);
    jumun_close(c);
    fake_engine_stop(e);
}

struct later_refusal {
    uint16_t code;
    uint32_t retry_after_ms;
};

/* The first attempt may have been acted on, so how the machine refuses the second is no answer. */
static void drop_then_refuse(void *arg, struct fake_message *m) {
    const struct later_refusal *refusal = arg;
    if (m->number == 0) m->action = FAKE_DROP;
    m->codes[0] = refusal->code;
    m->retry_after_ms = refusal->retry_after_ms;
}

/* True if the call's time was enough for two attempts; then it has ended as it must. */
static bool is_refused_after_a_lost_attempt(uint32_t timeout_ms, struct later_refusal refusal) {
    struct fake_engine *e = fake_engine_start("t9", 1, drop_then_refuse, &refusal);
    jumun_client *c = open_client("t9", &(jumun_options){.attempt_timeout_ms = 30});
    jumun_key key = jumun_key_new();
    jumun_options_command o = {.timeout_ms = timeout_ms};
    assert_int_equal(jumun_ping(c, 60000), JUMUN_OK);
    int code = jumun_pick_up(c, &key, &o, NULL);
    bool twice = fake_engine_messages(e) >= 2;
    assert_true(code == JUMUN_OUTCOME_UNKNOWN || (code == JUMUN_NOT_SENT && !twice));
    jumun_close(c);
    fake_engine_stop(e);
    return twice;
}

static void test_a_refusal_after_a_lost_attempt_is_outcome_unknown(void **state) {
    /* The call's time ends while it waits for its next attempt; or the wait that is asked for would
     * go beyond it; or the refusal is one that is final at once. */
    static const struct later_refusal refusals[] = {
        {RESULT_OVERLOADED, 0}, {RESULT_OVERLOADED, 100000}, {RESULT_DISK_FULL, 0},
        {RESULT_DISK_FULL, 100000}, {RESULT_STORAGE_FAILED, 0}};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        bool twice = false;
        for (uint32_t ms = 250; !twice && ms <= 60000; ms *= 2)
            twice = is_refused_after_a_lost_attempt(ms, refusals[i]);
        assert_true(twice);
    }
}

static void drop_then_full_then_done(void *arg, struct fake_message *m) {
    (void)arg;
    if (m->number == 0) m->action = FAKE_DROP;
    if (m->number < 3) m->codes[0] = RESULT_DISK_FULL;
}

static void test_a_full_disk_after_a_lost_attempt_is_tried_again(void **state) {
    struct fake_engine *e = fake_engine_start("t31", 1, drop_then_full_then_done, NULL);
    jumun_client *c = open_client("t31", &(jumun_options){.timeout_ms = 120000,
                                                          .attempt_timeout_ms = 50,
                                                          .circuit_failures = UINT32_MAX});
    jumun_key key = jumun_key_new();
    assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_OK);
    assert_true(fake_engine_messages(e) >= 4);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_without_a_node_a_call_is_not_sent(void **state) {
    jumun_client *c = open_client("t10-nobody", NULL);
    jumun_key key = jumun_key_new();
    jumun_options_command o = {.timeout_ms = 50};
    jumun_result r;
    assert_int_equal(jumun_pick_up(c, &key, &o, &r), JUMUN_NOT_SENT);
    assert_int_equal(jumun_ping(c, 50), JUMUN_NOT_SENT);
    jumun_close(c);
}

static void *start_late(void *arg) {
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    *(struct fake_engine **)arg = fake_engine_start("t11", 2, NULL, NULL);
    return NULL;
}

static void test_a_node_that_starts_later_is_found(void **state) {
    struct fake_engine *e = NULL;
    pthread_t thread;
    jumun_client *c = open_client("t11", &(jumun_options){.timeout_ms = 120000});
    assert_int_equal(pthread_create(&thread, NULL, start_late, &e), 0);
    jumun_key key = jumun_key_new();
    assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_OK);
    pthread_join(thread, NULL);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_a_restart_costs_latency_only(void **state) {
    struct fake_engine *e = fake_engine_start("t12", 2, NULL, NULL);
    jumun_client *c = open_client("t12", &(jumun_options){.timeout_ms = 120000});
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++) {
            jumun_key key = jumun_key_new();
            assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_OK);
        }
        fake_engine_stop(e);
        e = fake_engine_start("t12", 2, NULL, NULL);
    }
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_a_shard_out_of_reach_is_asked_through_the_general_endpoint(void **state) {
    struct fake_engine *e = fake_engine_start("t13", 2, scripted, NULL);
    jumun_client *c = open_client("t13", &(jumun_options){.timeout_ms = 120000});
    jumun_key key = key_of_shard(e, 1);
    jumun_result r;
    await_shards(e, c, 2);
    fake_engine_close_shard(e, 1);
    assert_int_equal(jumun_pick_up(c, &key, NULL, &r), JUMUN_OK);
    assert_int_equal(r.shard, 99); /* the general endpoint's mark */
    key = key_of_shard(e, 0);
    assert_int_equal(jumun_pick_up(c, &key, NULL, &r), JUMUN_OK);
    assert_int_equal(r.shard, 0);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_garbage_is_a_bad_reply(void **state) {
    static const enum fake_action actions[] = {FAKE_GARBAGE, FAKE_WRONG_VERSION, FAKE_TOO_FEW};
    struct fake_engine *e = fake_engine_start("t14", 1, scripted, NULL);
    jumun_client *c = open_client("t14", &patient);
    jumun_key key = jumun_key_new();
    for (size_t i = 0; i < 3; i++) {
        play((struct script){.times = 1, .action = actions[i]});
        assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_BAD_REPLY);
        assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_OK);
    }
    jumun_close(c);
    fake_engine_stop(e);
}

static jumun_client *open_with_circuit(const char *name, uint32_t open_ms) {
    jumun_options o = patient;
    o.circuit_failures = 3;
    o.circuit_open_ms = open_ms;
    return open_client(name, &o);
}

static void test_the_circuit_opens(void **state) {
    struct fake_engine *e = fake_engine_start("t15", 1, scripted, NULL);
    jumun_client *c = open_with_circuit("t15", 600000); /* for the rest of the test */
    jumun_key key = jumun_key_new();
    jumun_client_stats s;
    await_shards(e, c, 1);
    play((struct script){.times = UINT32_MAX, .action = FAKE_GARBAGE, .shards_only = true});
    /* The shard's circuit opens; then the general endpoint carries on. */
    for (int i = 0; i < 3; i++)
        assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_BAD_REPLY);
    jumun_result r;
    assert_int_equal(jumun_pick_up(c, &key, NULL, &r), JUMUN_OK);
    assert_int_equal(r.shard, 99);
    /* That one fails too, until both circuits are open and calls end without a message. */
    play((struct script){.times = UINT32_MAX, .action = FAKE_GARBAGE});
    int code = JUMUN_OK;
    for (int i = 0; i < 10 && code != JUMUN_CIRCUIT_OPEN; i++)
        code = jumun_pick_up(c, &key, NULL, NULL);
    assert_int_equal(code, JUMUN_CIRCUIT_OPEN);
    jumun_stats(c, &s);
    assert_int_equal(s.circuit_opened, 2);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_a_probe_closes_the_circuit(void **state) {
    struct fake_engine *e = fake_engine_start("t19", 1, scripted, NULL);
    jumun_client *c = open_with_circuit("t19", 50);
    jumun_key key = jumun_key_new();
    play((struct script){.times = UINT32_MAX, .action = FAKE_GARBAGE});
    jumun_client_stats s = {0};
    for (int i = 0; i < 10000 && s.circuit_opened < 1; i++) {
        assert_int_not_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_OK);
        jumun_stats(c, &s);
    }
    assert_true(s.circuit_opened >= 1);
    play((struct script){0}); /* all is well again, and sooner or later a call may find out */
    int code = JUMUN_CIRCUIT_OPEN;
    for (int i = 0; i < 60000 && code == JUMUN_CIRCUIT_OPEN; i++) {
        code = jumun_pick_up(c, &key, NULL, NULL);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(code, JUMUN_OK);
    for (int i = 0; i < 20; i++) assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_OK);
    jumun_close(c);
    fake_engine_stop(e);
}

static void refuse_deadlines(void *arg, struct fake_message *m) {
    if (m->deadline_ms != 0) m->codes[0] = RESULT_DEADLINE_PASSED;
}

static void test_a_node_with_another_clock_gets_no_deadlines(void **state) {
    struct fake_engine *e = fake_engine_start("t16", 1, refuse_deadlines, NULL);
    jumun_client *c = open_client("t16", &patient);
    jumun_key key = jumun_key_new();
    assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_OK);
    assert_int_equal(fake_engine_messages(e), 2);
    assert_int_equal(jumun_pick_up(c, &key, NULL, NULL), JUMUN_OK);
    assert_int_equal(fake_engine_messages(e), 3);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_bad_arguments_are_named(void **state) {
    char error[128];
    assert_null(jumun_open("no-such-scheme", NULL, error, sizeof error));
    assert_non_null(strstr(error, "no-such-scheme"));
    assert_null(jumun_open("inproc://a,", NULL, error, sizeof error));
    assert_null(jumun_open(NULL, NULL, error, sizeof error));
    assert_null(jumun_open("inproc://a", &(jumun_options){.batch_commands_max = 5000}, error,
                           sizeof error));
    assert_non_null(strstr(error, "1,024"));
    jumun_client *c = open_client("t17-nobody", NULL);
    jumun_key zero = {{0}}, key = jumun_key_new();
    jumun_result r;
    assert_int_equal(jumun_pick_up(c, &zero, NULL, &r), JUMUN_BAD_ARGUMENT);
    assert_string_equal(r.detail, "the order key is zero");
    assert_int_equal(jumun_place_order(c, &key, &(jumun_place){.currency = "KRW"}, NULL, &r),
                     JUMUN_BAD_ARGUMENT);
    assert_string_equal(r.detail, "a place needs a store");
    assert_int_equal(jumun_annotate(c, &key, NULL, NULL, &r), JUMUN_BAD_ARGUMENT);
    jumun_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_command_reaches_its_shard_and_is_answered, setup),
        cmocka_unit_test_setup(test_ping, setup),
        cmocka_unit_test_setup(test_ids_and_refusals_come_through, setup),
        cmocka_unit_test_setup(test_not_now_is_tried_again_under_the_same_id, setup),
        cmocka_unit_test_setup(test_a_refused_message_is_tried_again_too, setup),
        cmocka_unit_test_setup(test_overloaded_until_the_timeout_is_the_answer, setup),
        cmocka_unit_test_setup(test_a_full_disk_is_told_at_once, setup),
        cmocka_unit_test_setup(test_no_answer_is_outcome_unknown, setup),
        cmocka_unit_test_setup(test_a_lost_answer_is_asked_for_again, setup),
        cmocka_unit_test_setup(test_a_refusal_after_a_lost_attempt_is_outcome_unknown, setup),
        cmocka_unit_test_setup(test_a_full_disk_after_a_lost_attempt_is_tried_again, setup),
        cmocka_unit_test_setup(test_without_a_node_a_call_is_not_sent, setup),
        cmocka_unit_test_setup(test_a_node_that_starts_later_is_found, setup),
        cmocka_unit_test_setup(test_a_restart_costs_latency_only, setup),
        cmocka_unit_test_setup(test_a_shard_out_of_reach_is_asked_through_the_general_endpoint,
                               setup),
        cmocka_unit_test_setup(test_garbage_is_a_bad_reply, setup),
        cmocka_unit_test_setup(test_the_circuit_opens, setup),
        cmocka_unit_test_setup(test_a_probe_closes_the_circuit, setup),
        cmocka_unit_test_setup(test_a_node_with_another_clock_gets_no_deadlines, setup),
        cmocka_unit_test_setup(test_bad_arguments_are_named, setup),
    };
    return cmocka_run_group_tests_name("sdk_client", tests, NULL, NULL);
}
