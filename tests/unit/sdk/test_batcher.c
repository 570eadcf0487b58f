/* Many calls at once: how they gather, in what order they go, how they end together. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "actors/result_codes.h"
#include "clients/sdk/batcher.h"
#include "clients/sdk/client.h"
#include "tests/unit/sdk/fake_engine.h"

enum { LOG_MAX = 4096 };

/* What the fake engine does with messages, and what came, in order. Its threads run beside the
 * test: `plan` is touched with the mutex alone, the rest is read when the engine has stopped. */
struct plan {
    bool hold_first;             /* the first message's answer, until the engine is told */
    enum fake_action action;     /* of messages up to `times` */
    uint32_t times;
    int code_once;               /* for the first command of the first message */
};
static struct {
    struct plan plan;
    uint32_t counts[LOG_MAX];    /* commands of message n */
    uint32_t messages;
    jumun_key ids[LOG_MAX];      /* of all commands */
    uint32_t commands;
} seen;
static pthread_mutex_t seen_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Attempts and calls that no load ends before their answer: messages can be counted. */
#define PATIENT .timeout_ms = 120000, .attempt_timeout_ms = 120000
static const jumun_options patient = {PATIENT};

static void record(void *arg, struct fake_message *m) {
    (void)arg;
    pthread_mutex_lock(&seen_mutex);
    struct plan *plan = &seen.plan;
    if (seen.messages < LOG_MAX) seen.counts[seen.messages] = m->count;
    if (seen.messages == 0) m->held = plan->hold_first;
    if (seen.messages < plan->times) m->action = plan->action;
    if (seen.messages == 0 && plan->code_once) m->codes[0] = plan->code_once;
    seen.messages++;
    for (uint32_t i = 0; i < m->count && seen.commands < LOG_MAX; i++)
        seen.ids[seen.commands++] = m->commands[i].id;
    pthread_mutex_unlock(&seen_mutex);
}

/* From now on this; nothing has come yet. */
static void play(struct plan plan) {
    pthread_mutex_lock(&seen_mutex);
    memset(&seen, 0, sizeof seen);
    seen.plan = plan;
    pthread_mutex_unlock(&seen_mutex);
}

/* What the callbacks of asynchronous calls saw. */
static atomic_uint ended, ended_ok;
static atomic_int last_code;

static int setup(void **state) {
    play((struct plan){0});
    atomic_store(&ended, 0);
    atomic_store(&ended_ok, 0);
    return 0;
}

static void on_end(void *arg, const jumun_result *result, const void *value, size_t value_bytes) {
    (void)arg;
    (void)value;
    assert_int_equal(value_bytes, 0);
    if (result->code == JUMUN_OK) atomic_fetch_add(&ended_ok, 1);
    atomic_store(&last_code, result->code);
    atomic_fetch_add(&ended, 1);
}

static bool await_ended(uint32_t count) {
    for (int i = 0; i < 60000 && atomic_load(&ended) < count; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return atomic_load(&ended) >= count;
}

static jumun_client *open_client(const char *name, const jumun_options *options) {
    char error[128] = "";
    jumun_client *c = jumun_open(fake_engine_address(name), options, error, sizeof error);
    assert_non_null(c);
    return c;
}

/* A map, and with a single shard: connections that stand, so that nothing goes round about. */
static struct fake_engine *start(const char *name, const jumun_options *options,
                                 jumun_client **c) {
    struct fake_engine *e = fake_engine_start(name, 1, record, NULL);
    jumun_key key = jumun_key_new();
    jumun_result r = {.shard = 99};
    *c = open_client(name, options);
    for (int i = 0; r.shard == 99 && i < 60000; i++) {
        if (i > 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        assert_int_equal(jumun_mark_ready(*c, &key, NULL, &r), JUMUN_OK);
    }
    /* A caller can be back before the lane has counted its message gone. */
    jumun_client_stats s = {.commands_in_flight = 1};
    for (int i = 0; s.commands_in_flight > 0 && i < 60000; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        jumun_stats(*c, &s);
    }
    assert_int_equal(s.commands_in_flight, 0);
    setup(NULL);
    return e;
}

static void submit(jumun_client *c, const jumun_key *order, const jumun_key *id) {
    jumun_command command = {.kind = JUMUN_MARK_READY,
                             .order = order ? *order : jumun_key_new()};
    if (id) command.options.id = *id;
    assert_int_equal(jumun_submit(c, &command, on_end, NULL), JUMUN_OK);
}

static void test_idle_sends_at_once_and_the_rest_gathers(void **state) {
    jumun_client *c;
    /* One message in flight: what comes while it is away has nowhere to go. */
    struct fake_engine *e = start("b1", &(jumun_options){.messages_in_flight_max = 1, PATIENT}, &c);
    play((struct plan){.hold_first = true});
    uint32_t before = fake_engine_messages(e);
    submit(c, NULL, NULL);
    assert_true(fake_engine_await_messages(e, before + 1));
    for (int i = 0; i < 50; i++) submit(c, NULL, NULL);
    fake_engine_release(e);
    assert_true(await_ended(51));
    assert_int_equal(atomic_load(&ended_ok), 51);
    jumun_close(c);
    fake_engine_stop(e);
    assert_int_equal(seen.messages, 2);
    assert_int_equal(seen.counts[0], 1);
    assert_int_equal(seen.counts[1], 50);
}

static bool saw_message_of(uint32_t commands) {
    bool found = false;
    pthread_mutex_lock(&seen_mutex);
    for (uint32_t i = 0; i < seen.messages && i < LOG_MAX; i++) found |= seen.counts[i] == commands;
    pthread_mutex_unlock(&seen_mutex);
    return found;
}

static void test_a_full_batch_does_not_wait(void **state) {
    jumun_client *c;
    struct fake_engine *e = start(
        "b2", &(jumun_options){.messages_in_flight_max = 4, .batch_commands_max = 10, PATIENT},
        &c);
    play((struct plan){.action = FAKE_DROP, .times = 1}); /* the first stays in flight */
    uint32_t before = fake_engine_messages(e), calls = 0;
    submit(c, NULL, NULL);
    assert_true(fake_engine_await_messages(e, before + 1));
    /* The rest is answered while the first is still away. What waits a while goes in smaller
     * messages, so a thread that was kept from submitting tries once more. */
    while (!saw_message_of(10) && calls < 3000) {
        for (int i = 0; i < 30; i++) submit(c, NULL, NULL);
        calls += 30;
        assert_true(await_ended(calls));
    }
    assert_true(saw_message_of(10));
    jumun_client_stats s = {.commands_in_flight = 31};
    for (int i = 0; s.commands_in_flight > 1 && i < 60000; i++) { /* callbacks come first */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        jumun_stats(c, &s);
    }
    assert_int_equal(s.commands_in_flight, 1);
    jumun_close(c);
    fake_engine_stop(e);
}

/* A lane whose first message stays in flight. */
static struct lane *lane_with_one_away(jumun_client *c, struct fake_engine *e) {
    play((struct plan){.hold_first = true});
    uint32_t before = fake_engine_messages(e);
    submit(c, NULL, NULL);
    assert_true(fake_engine_await_messages(e, before + 1));
    return atomic_load(&c->router.lanes[0]);
}

static bool is_gone(jumun_client *c) {
    jumun_client_stats s;
    jumun_stats(c, &s);
    return s.commands_waiting == 0;
}

/* A thread that loses its core while it works for the lane would keep others from it. */
static void await_free_role(struct lane *lane) {
    for (int i = 0; atomic_load(&lane->role) != 0 && i < 60000; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

enum { PACED = 20 }; /* there are slots for all of them */

/* How many messages left at once, by the thread that submitted and by the clock's look. */
static void send_paced(uint32_t *by_pusher, uint32_t *by_clock) {
    jumun_client *c;
    struct fake_engine *e = start(
        "b17", &(jumun_options){.messages_in_flight_max = LANE_MESSAGES_MAX, PATIENT}, &c);
    struct lane *lane = lane_with_one_away(c, e);
    *by_pusher = *by_clock = 0;
    for (uint32_t i = 0; i < PACED; i++) {
        assert_true(atomic_load(&lane->pace_ns) != INT64_MAX); /* none of them was full */
        await_free_role(lane);
        atomic_store(&lane->pace_ns, 0);
        submit(c, NULL, NULL);
        *by_pusher += is_gone(c);
        atomic_store(&lane->pace_ns, INT64_MAX - 1);
        submit(c, NULL, NULL);
        await_free_role(lane);
        atomic_store(&lane->pace_ns, 0);
        *by_clock += lane_on_pace(lane) && is_gone(c);
    }
    fake_engine_release(e);
    assert_true(await_ended(1 + 2 * PACED));
    assert_int_equal(atomic_load(&ended_ok), 1 + 2 * PACED);
    jumun_close(c);
    fake_engine_stop(e);
}

/* Nobody waits for an answer that is long in coming, nor for the clock. A tick may be at it, and
 * the thread leaves it to that one, more often on a busy machine: then it is tried once more.
 * Without the pace it would be a tick that came at that very moment, every time. */
static void test_a_message_follows_the_last_one_in_time(void **state) {
    uint32_t by_pusher = 0, by_clock = 0;
    for (int i = 0; i < 5 && (by_pusher <= PACED / 2 || by_clock <= PACED / 2); i++)
        send_paced(&by_pusher, &by_clock);
    assert_true(by_pusher > PACED / 2);
    assert_true(by_clock > PACED / 2);
}

/* Where messages are full there is no hurry: more that is not would only cost. */
static void test_after_a_full_message_the_next_gathers(void **state) {
    jumun_client *c;
    struct fake_engine *e = start(
        "b18", &(jumun_options){.messages_in_flight_max = LANE_MESSAGES_MAX,
                                .batch_commands_max = 1, PATIENT}, &c);
    struct lane *lane = lane_with_one_away(c, e);
    assert_true(atomic_load(&lane->pace_ns) == INT64_MAX);
    assert_false(lane_on_pace(lane));
    fake_engine_release(e);
    assert_true(await_ended(1));
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_commands_of_one_order_keep_their_order(void **state) {
    jumun_client *c;
    struct fake_engine *e = start("b3", &(jumun_options){.batch_commands_max = 4, PATIENT},
                                  &c);
    jumun_key order = jumun_key_new(), ids[100];
    for (int i = 0; i < 100; i++) {
        ids[i] = jumun_key_new();
        submit(c, &order, &ids[i]);
        for (int j = 0; j < i % 5; j++) submit(c, NULL, NULL);
    }
    assert_true(await_ended(100 + 200));
    jumun_close(c);
    fake_engine_stop(e);
    uint32_t next = 0;
    for (uint32_t i = 0; i < seen.commands && next < 100; i++) {
        for (uint32_t later = next + 1; later < 100; later++)
            assert_memory_not_equal(&seen.ids[i], &ids[later], sizeof ids[later]);
        if (memcmp(&seen.ids[i], &ids[next], sizeof ids[next]) == 0) next++;
    }
    assert_int_equal(next, 100);
}

static void test_a_retried_command_is_not_overtaken(void **state) {
    jumun_client *c;
    struct fake_engine *e = start("b4", &patient, &c);
    jumun_key order = jumun_key_new(), first = jumun_key_new(), second = jumun_key_new();
    play((struct plan){.code_once = RESULT_OVERLOADED});
    submit(c, &order, &first);
    submit(c, &order, &second);
    assert_true(await_ended(2));
    assert_int_equal(atomic_load(&ended_ok), 2);
    jumun_close(c);
    fake_engine_stop(e);
    /* first (refused), first again, second. */
    assert_int_equal(seen.commands, 3);
    assert_memory_equal(&seen.ids[0], &first, sizeof first);
    assert_memory_equal(&seen.ids[1], &first, sizeof first);
    assert_memory_equal(&seen.ids[2], &second, sizeof second);
}

static void test_a_lost_message_is_sent_again_whole(void **state) {
    jumun_client *c;
    struct fake_engine *e = start(
        "b5", &(jumun_options){.timeout_ms = 120000, .attempt_timeout_ms = 50,
                               .circuit_failures = UINT32_MAX}, &c);
    play((struct plan){.action = FAKE_DROP, .times = 3});
    for (int i = 0; i < 300; i++) submit(c, NULL, NULL);
    assert_true(await_ended(300));
    assert_int_equal(atomic_load(&ended_ok), 300);
    jumun_client_stats s;
    jumun_stats(c, &s);
    assert_true(s.retries > 0);
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_the_queue_is_bounded(void **state) {
    jumun_client *c;
    struct fake_engine *e = start(
        "b6", &(jumun_options){.queue_commands_max = 20, .messages_in_flight_max = 1, PATIENT},
        &c);
    jumun_command command = {.kind = JUMUN_MARK_READY};
    play((struct plan){.hold_first = true});
    int code = JUMUN_OK;
    uint32_t taken = 0;
    while (code == JUMUN_OK) {
        command.order = jumun_key_new();
        code = jumun_submit(c, &command, on_end, NULL);
        if (code == JUMUN_OK) taken++;
        assert_true(taken < 100);
    }
    assert_int_equal(code, JUMUN_QUEUE_FULL);
    assert_int_equal(taken, 21); /* one in flight, 20 in the queue */
    jumun_client_stats s;
    jumun_stats(c, &s);
    assert_int_equal(s.queue_full, 1);
    fake_engine_release(e);
    assert_true(await_ended(taken));
    assert_int_equal(atomic_load(&ended_ok), taken);
    jumun_close(c);
    fake_engine_stop(e);
}

/* With one command a second hundreds of them take long, for who has little time. */
static void test_the_queue_is_bounded_by_time(void **state) {
    enum { SLOW_BATCH = 4, SLOW_QUEUED = 299 };
    jumun_client *c;
    struct fake_engine *e = start(
        "b19", &(jumun_options){.messages_in_flight_max = 1, .batch_commands_max = SLOW_BATCH,
                                PATIENT}, &c);
    struct lane *lane = lane_with_one_away(c, e);
    for (int i = 0; i < SLOW_QUEUED; i++) submit(c, NULL, NULL);
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new(),
                             .options.timeout_ms = 10000};
    assert_int_equal(jumun_retry_after_ms(c, &command), 0); /* nothing is known of the rate */
    atomic_store(&lane->drain.per_second, 1);
    jumun_result r;
    assert_int_equal(jumun_submit(c, &command, on_end, NULL), JUMUN_QUEUE_FULL);
    assert_int_equal(jumun_call(c, &command, &r, NULL, NULL), JUMUN_QUEUE_FULL);
    /* 300 seconds until all have ended. */
    assert_in_range(r.retry_after_ms, LANE_RETRY_AFTER_MS_MAX, LANE_RETRY_AFTER_MS_MAX);
    assert_int_equal(jumun_retry_after_ms(c, &command), LANE_RETRY_AFTER_MS_MAX);
    atomic_store(&lane->drain.per_second, 10);
    assert_int_equal(jumun_retry_after_ms(c, &command), 30000 - 5000 + 1);
    command.options.timeout_ms = 3600000; /* there is time */
    assert_int_equal(jumun_retry_after_ms(c, &command), 0);
    assert_int_equal(jumun_submit(c, &command, on_end, NULL), JUMUN_OK);
    jumun_client_stats s;
    jumun_stats(c, &s);
    assert_int_equal(s.queue_full, 2);
    fake_engine_release(e);
    assert_true(await_ended(2 + SLOW_QUEUED));
    assert_int_equal(atomic_load(&ended_ok), 2 + SLOW_QUEUED);
    jumun_close(c);
    fake_engine_stop(e);
}

/* A caller that waits hears when to come back, and so does who asks. */
static void test_a_full_queue_says_when_to_come_back(void **state) {
    jumun_client *c;
    struct fake_engine *e = start(
        "b20", &(jumun_options){.messages_in_flight_max = 1, .queue_commands_max = 8,
                                .backoff_ms_min = 17, PATIENT}, &c);
    struct lane *lane = lane_with_one_away(c, e);
    for (int i = 0; i < 8; i++) submit(c, NULL, NULL);
    jumun_key key = jumun_key_new();
    jumun_result r;
    assert_int_equal(jumun_mark_ready(c, &key, NULL, &r), JUMUN_QUEUE_FULL);
    assert_int_equal(r.retry_after_ms, 17); /* nothing is known of the rate */
    atomic_store(&lane->drain.per_second, 100);
    assert_int_equal(jumun_mark_ready(c, &key, NULL, &r), JUMUN_QUEUE_FULL);
    assert_int_equal(r.retry_after_ms, 2 * 10 + 1); /* until a quarter of it is free */
    fake_engine_release(e);
    assert_true(await_ended(9));
    jumun_close(c);
    fake_engine_stop(e);
}

static void test_calls_end_in_time_while_a_message_is_away(void **state) {
    jumun_client *c;
    struct fake_engine *e = start("b7", &patient, &c);
    play((struct plan){.action = FAKE_DROP, .times = UINT32_MAX});
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new()};
    uint32_t calls = 0;
    /* A thread that was kept from running may find its call over before it sent it. */
    atomic_store(&last_code, JUMUN_NOT_SENT);
    for (uint32_t ms = 50; atomic_load(&last_code) == JUMUN_NOT_SENT && ms <= 60000; ms *= 2) {
        command.options.timeout_ms = ms;
        assert_int_equal(jumun_submit(c, &command, on_end, NULL), JUMUN_OK);
        assert_true(await_ended(++calls));
    }
    assert_int_equal(atomic_load(&last_code), JUMUN_OUTCOME_UNKNOWN);
    /* The same order's next command is kept back until the attempt is over: it was never sent. */
    command.options.timeout_ms = 50;
    assert_int_equal(jumun_submit(c, &command, on_end, NULL), JUMUN_OK);
    assert_true(await_ended(++calls));
    assert_int_equal(atomic_load(&last_code), JUMUN_NOT_SENT);
    jumun_close(c);
    fake_engine_stop(e);
}

static void *sync_caller(void *arg) {
    jumun_key key = jumun_key_new();
    return (void *)(intptr_t)jumun_mark_ready(arg, &key, NULL, NULL);
}

static void test_closing_ends_all_open_calls(void **state) {
    jumun_client *c;
    struct fake_engine *e = start(
        "b8", &(jumun_options){.messages_in_flight_max = 2, PATIENT}, &c);
    play((struct plan){.action = FAKE_DROP, .times = UINT32_MAX});
    jumun_key busy = jumun_key_new();
    for (int i = 0; i < 500; i++) submit(c, i % 3 ? NULL : &busy, NULL);
    pthread_t callers[4];
    for (int i = 0; i < 4; i++) pthread_create(&callers[i], NULL, sync_caller, c);
    jumun_client_stats s = {0};
    for (int i = 0; s.commands_in_flight + s.commands_waiting < 504 && i < 60000; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        jumun_stats(c, &s);
    }
    assert_int_equal(s.commands_in_flight + s.commands_waiting, 504); /* nobody is on his way in */
    jumun_close(c);
    for (int i = 0; i < 4; i++) {
        void *code;
        pthread_join(callers[i], &code);
        assert_int_equal((intptr_t)code, JUMUN_CLOSED);
    }
    assert_int_equal(atomic_load(&ended), 500); /* all callbacks came before close returned */
    assert_int_equal(atomic_load(&last_code), JUMUN_CLOSED);
    fake_engine_stop(e);
}

static void test_closing_before_there_is_a_map(void **state) {
    jumun_client *c = open_client("b9-nobody", NULL);
    for (int i = 0; i < 10; i++) submit(c, NULL, NULL);
    jumun_close(c);
    assert_int_equal(atomic_load(&ended), 10);
    assert_int_equal(atomic_load(&last_code), JUMUN_CLOSED);
}

static jumun_client *chain_client;

static void chain(void *arg, const jumun_result *result, const void *value, size_t value_bytes) {
    uintptr_t left = (uintptr_t)arg;
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new()};
    assert_int_equal(result->code, JUMUN_OK);
    if (left > 0)
        assert_int_equal(jumun_submit(chain_client, &command, chain, (void *)(left - 1)), JUMUN_OK);
    atomic_fetch_add(&ended, 1);
}

static void test_a_callback_may_submit(void **state) {
    struct fake_engine *e = start("b10", &patient, &chain_client);
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new()};
    assert_int_equal(jumun_submit(chain_client, &command, chain, (void *)99), JUMUN_OK);
    assert_true(await_ended(100));
    jumun_close(chain_client);
    fake_engine_stop(e);
}

/* Calls run out of time in the middle of the pushes of what callbacks submit, and their callbacks
 * submit as well: none is lost, none ends twice. */
enum { CHAINS = 64, CHAIN_CALLS = 100 };

static void chain_on(void *arg, const jumun_result *result, const void *value,
                     size_t value_bytes) {
    uintptr_t left = (uintptr_t)arg;
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new()};
    /* The clock's tick, at the moment at which this thread takes it up. */
    struct lane *lane = atomic_load(&chain_client->router.lanes[0]);
    if (lane) atomic_store(&lane->tick, true);
    if (left > 0)
        assert_int_equal(jumun_submit(chain_client, &command, chain_on, (void *)(left - 1)),
                         JUMUN_OK);
    atomic_fetch_add(&ended, 1);
}

/* Most of those refused wait for their retry until their time is over. */
static void refuse_half(void *arg, struct fake_message *m) {
    for (uint32_t i = 0; i < m->count; i++)
        m->codes[i] = (m->number + i) % 2 ? RESULT_OVERLOADED : 0;
}

static void test_callbacks_submit_while_calls_run_out_of_time(void **state) {
    for (uint32_t batch = 1; batch <= 8; batch *= 8) {
        atomic_store(&ended, 0);
        struct fake_engine *e = fake_engine_start("b14", 1, refuse_half, NULL);
        chain_client = open_client(
            "b14", &(jumun_options){.batch_commands_max = batch, .timeout_ms = 6,
                                    .messages_in_flight_max = LANE_MESSAGES_MAX,
                                    .backoff_ms_min = 50, .backoff_ms_max = 50,
                                    .circuit_failures = UINT32_MAX});
        for (int i = 0; i < CHAINS; i++) {
            jumun_command command = {.kind = JUMUN_MARK_READY, .order = jumun_key_new()};
            assert_int_equal(jumun_submit(chain_client, &command, chain_on,
                                          (void *)(uintptr_t)(CHAIN_CALLS - 1)), JUMUN_OK);
        }
        assert_true(await_ended(CHAINS * CHAIN_CALLS));
        jumun_close(chain_client);
        assert_int_equal(atomic_load(&ended), CHAINS * CHAIN_CALLS);
        fake_engine_stop(e);
    }
}

/* Of two shards: callbacks of commands to the first submit one each for the same order of the
 * second, under these ids. */
enum { ECHOES = 50 };
static struct {
    jumun_client *client;
    jumun_key keys[2], ids[ECHOES];
    uint32_t count;              /* callbacks of one message run one after the other */
} echoes;

static void echo(void *arg, const jumun_result *result, const void *value, size_t value_bytes) {
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = echoes.keys[1]};
    assert_int_equal(result->code, JUMUN_OK);
    command.options.id = echoes.ids[echoes.count++] = jumun_key_new();
    assert_int_equal(jumun_submit(echoes.client, &command, on_end, NULL), JUMUN_OK);
    atomic_fetch_add(&ended, 1);
}

/* Keys of both shards, to which connections stand. */
static void echo_connect(struct fake_engine *e) {
    for (uint32_t shard = 0; shard < 2; shard++) {
        jumun_result r = {.shard = 99};
        for (int i = 0; r.shard == 99 && i < 60000; i++) {
            if (i > 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            do echoes.keys[shard] = jumun_key_new();
            while (fake_engine_shard_of(e, &echoes.keys[shard]) != shard);
            assert_int_equal(jumun_mark_ready(echoes.client, &echoes.keys[shard], NULL, &r),
                             JUMUN_OK);
        }
    }
    jumun_client_stats s = {.commands_in_flight = 1};
    for (int i = 0; s.commands_in_flight > 0 && i < 60000; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        jumun_stats(echoes.client, &s);
    }
}

/* One message of commands whose callbacks submit. True: these went as one message too. */
static bool echo_once(void) {
    struct fake_engine *e = fake_engine_start("b13", 2, record, NULL);
    echoes.client = open_client("b13", &(jumun_options){.messages_in_flight_max = 1, PATIENT});
    echo_connect(e);
    setup(NULL);
    echoes.count = 0;
    play((struct plan){.hold_first = true});
    uint32_t before = fake_engine_messages(e);
    submit(echoes.client, &echoes.keys[0], NULL);
    assert_true(fake_engine_await_messages(e, before + 1));
    jumun_command command = {.kind = JUMUN_MARK_READY, .order = echoes.keys[0]};
    for (int i = 0; i < ECHOES; i++)
        assert_int_equal(jumun_submit(echoes.client, &command, echo, NULL), JUMUN_OK);
    fake_engine_release(e);
    assert_true(await_ended(1 + 2 * ECHOES));
    jumun_close(echoes.client);
    fake_engine_stop(e);
    assert_int_equal(seen.commands, 1 + 2 * ECHOES);
    for (uint32_t i = 0; i < ECHOES; i++) /* as they were submitted */
        assert_memory_equal(&seen.ids[1 + ECHOES + i], &echoes.ids[i], sizeof echoes.ids[i]);
    return seen.messages == 3 && seen.counts[1] == ECHOES && seen.counts[2] == ECHOES;
}

static void test_what_callbacks_submit_travels_together(void **state) {
    /* A thread that loses its core in the middle sends what there is; it tries once more. */
    bool one = false;
    for (int i = 0; i < 100 && !one; i++) one = echo_once();
    assert_true(one);
}

/* -- many threads ------------------------------------------------------------------------------ */

enum { CROWD = 64, CROWD_CALLS = 100 };

static void count_commands(void *arg, struct fake_message *m) {
    atomic_fetch_add((atomic_uint *)arg, m->count);
}

static void *crowd_member(void *arg) {
    jumun_client *c = arg;
    for (int i = 0; i < CROWD_CALLS; i++) {
        jumun_key key = jumun_key_new();
        jumun_result r;
        if (jumun_mark_ready(c, &key, NULL, &r) != JUMUN_OK) return (void *)1;
        jumun_command command = {.kind = JUMUN_MARK_READY, .order = key};
        if (jumun_submit(c, &command, on_end, NULL) != JUMUN_OK) return (void *)2;
    }
    return NULL;
}

/* The two commands are all that the engine saw of their order, in this order. */
static void assert_saw_in_order(const jumun_key ids[2]) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < seen.commands; i++) {
        if (found == 0) assert_memory_not_equal(&seen.ids[i], &ids[1], sizeof ids[1]);
        found += found < 2 && memcmp(&seen.ids[i], &ids[found], sizeof ids[found]) == 0;
    }
    assert_int_equal(found, 2);
}

struct one_submit { jumun_client *client; jumun_key order, id; };

static void *submit_one(void *arg) {
    const struct one_submit *s = arg;
    submit(s->client, &s->order, &s->id);
    return NULL;
}

/* The answer that brings the map comes as any other does, on a thread that gathers what callbacks
 * submit: what waited for the map is not theirs. */
static void test_what_waited_for_the_map_is_not_overtaken(void **state) {
    jumun_client *c = open_client("b15", &patient);
    jumun_key order = jumun_key_new(), ids[2] = {jumun_key_new(), jumun_key_new()};
    submit(c, &order, &ids[0]);
    struct gathering g;
    struct call_recycler recycler = {.pool = &c->shared.pool};
    assert_true(gathering_begin(&g, &c->shared, &recycler));
    assert_true(shard_router_install(&c->router, NULL) == SHARD_ROUTER_INSTALLED);
    struct one_submit next = {c, order, ids[1]};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, submit_one, &next), 0);
    pthread_join(thread, NULL);
    gathering_end(&g);
    struct fake_engine *e = fake_engine_start("b15", 1, record, NULL);
    assert_true(await_ended(2));
    jumun_close(c);
    fake_engine_stop(e);
    assert_saw_in_order(ids);
}

/* A message may end in the middle of another's end, on the same thread. */
static void test_an_end_within_an_end_overtakes_nothing(void **state) {
    jumun_client *c;
    struct fake_engine *e = start("b16", &patient, &c);
    jumun_key order = jumun_key_new(), ids[2] = {jumun_key_new(), jumun_key_new()};
    struct gathering outer, inner;
    struct call_recycler recycler = {.pool = &c->shared.pool};
    assert_true(gathering_begin(&outer, &c->shared, &recycler));
    submit(c, &order, &ids[0]);
    assert_true(gathering_begin(&inner, &c->shared, &recycler));
    submit(c, &order, &ids[1]);
    gathering_end(&inner);
    gathering_end(&outer);
    assert_true(await_ended(2));
    jumun_close(c);
    fake_engine_stop(e);
    assert_saw_in_order(ids);
}

static void test_a_crowd_of_callers_shares_messages(void **state) {
    atomic_uint commands = 0;
    struct fake_engine *e = fake_engine_start("b11", 2, count_commands, &commands);
    jumun_client *c = open_client("b11", &patient);
    pthread_t threads[CROWD];
    for (int i = 0; i < CROWD; i++) pthread_create(&threads[i], NULL, crowd_member, c);
    for (int i = 0; i < CROWD; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
    assert_true(await_ended(CROWD * CROWD_CALLS));
    assert_int_equal(atomic_load(&ended_ok), CROWD * CROWD_CALLS);
    assert_true(atomic_load(&commands) >= 2 * CROWD * CROWD_CALLS);
    assert_true(fake_engine_messages(e) < CROWD * CROWD_CALLS); /* they did gather */
    jumun_close(c);
    fake_engine_stop(e);
}

/* Random faults under load: every call ends, and none is lost or ended twice. */
static void misbehave(void *arg, struct fake_message *m) {
    uint32_t r = m->number * 2654435761u >> 24;
    if (r < 20) m->action = FAKE_DROP;
    else if (r < 60) m->delay_ms = r % 7;
    else if (r < 100)
        for (uint32_t i = 0; i < m->count; i++) m->codes[i] = i % 2 ? RESULT_OVERLOADED : 0;
}

static void test_a_crowd_survives_a_bad_day(void **state) {
    struct fake_engine *e = fake_engine_start("b12", 2, misbehave, NULL);
    jumun_client *c = open_client(
        "b12", &(jumun_options){.attempt_timeout_ms = 100, .circuit_failures = UINT32_MAX,
                                .backoff_ms_max = 20, .timeout_ms = 120000});
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) pthread_create(&threads[i], NULL, crowd_member, c);
    for (int i = 0; i < 16; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
    assert_true(await_ended(16 * CROWD_CALLS));
    assert_int_equal(atomic_load(&ended_ok), 16 * CROWD_CALLS);
    jumun_client_stats s;
    jumun_stats(c, &s);
    assert_int_equal(s.commands_waiting, 0);
    jumun_close(c);
    fake_engine_stop(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_idle_sends_at_once_and_the_rest_gathers, setup),
        cmocka_unit_test_setup(test_a_full_batch_does_not_wait, setup),
        cmocka_unit_test_setup(test_a_message_follows_the_last_one_in_time, setup),
        cmocka_unit_test_setup(test_after_a_full_message_the_next_gathers, setup),
        cmocka_unit_test_setup(test_commands_of_one_order_keep_their_order, setup),
        cmocka_unit_test_setup(test_a_retried_command_is_not_overtaken, setup),
        cmocka_unit_test_setup(test_a_lost_message_is_sent_again_whole, setup),
        cmocka_unit_test_setup(test_the_queue_is_bounded, setup),
        cmocka_unit_test_setup(test_the_queue_is_bounded_by_time, setup),
        cmocka_unit_test_setup(test_a_full_queue_says_when_to_come_back, setup),
        cmocka_unit_test_setup(test_calls_end_in_time_while_a_message_is_away, setup),
        cmocka_unit_test_setup(test_closing_ends_all_open_calls, setup),
        cmocka_unit_test_setup(test_closing_before_there_is_a_map, setup),
        cmocka_unit_test_setup(test_a_callback_may_submit, setup),
        cmocka_unit_test_setup(test_what_callbacks_submit_travels_together, setup),
        cmocka_unit_test_setup(test_what_waited_for_the_map_is_not_overtaken, setup),
        cmocka_unit_test_setup(test_an_end_within_an_end_overtakes_nothing, setup),
        cmocka_unit_test_setup(test_callbacks_submit_while_calls_run_out_of_time, setup),
        cmocka_unit_test_setup(test_a_crowd_of_callers_shares_messages, setup),
        cmocka_unit_test_setup(test_a_crowd_survives_a_bad_day, setup),
    };
    return cmocka_run_group_tests_name("sdk_batcher", tests, NULL, NULL);
}
