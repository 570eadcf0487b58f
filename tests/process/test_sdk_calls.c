/* The calls of jumun.h that no program makes, against a real node, each as a synchronous function
 * and as a submitted command: what they do to the order, its money, its store, and what they do not
 * when they are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "actors/result_codes.h"
#include "clients/sdk/jumun_query.h"
#include "tests/process/node_process.h"

enum { PRICE = 500, TOTAL = 1000, STORE_PATIENCE_MS = 60000 };

static const char *program, *version;
static char directory[256];
static struct node_process node;
static jumun_client *client;

static int set_up(void **state) {
    char error[256] = "";
    const jumun_options patient = {.timeout_ms = 60000, .attempt_timeout_ms = 60000};
    (void)state;
    snprintf(directory, sizeof directory, "%s", directory_make());
    node_init(&node, program, directory, 2);
    node.arguments[0] = "--shards=2";
    node_start(&node);
    client = jumun_open(node.endpoint, &patient, error, sizeof error);
    assert_string_equal(error, "");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    jumun_close(client);
    node_stop(&node);
    directory_remove(directory);
    return 0;
}

/* -- each call in both forms ------------------------------------------------------------------- */

static bool submitted; /* the form of the calls that follow */

struct waiting {
    sem_t came;
    jumun_result result;
};

static void on_result(void *arg, const jumun_result *result, const void *value, size_t bytes) {
    struct waiting *w = arg;
    (void)value, (void)bytes;
    w->result = *result;
    sem_post(&w->came);
}

static int submit(const jumun_command *command, jumun_result *result) {
    struct waiting w;
    sem_init(&w.came, 0, 0);
    assert_int_equal(jumun_submit(client, command, on_result, &w), JUMUN_OK);
    while (sem_wait(&w.came) != 0) continue;
    sem_destroy(&w.came);
    *result = w.result;
    return result->code;
}

static jumun_command command_of(jumun_kind kind, const jumun_key *order,
                                const jumun_options_command *options) {
    jumun_command c = {.kind = kind};
    if (order) c.order = *order;
    if (options) c.options = *options;
    return c;
}

static jumun_result reject(const jumun_key *order, const char *reason) {
    jumun_result r = {0};
    jumun_command c = command_of(JUMUN_REJECT, order, NULL);
    c.reject.reason = reason;
    int code = submitted ? submit(&c, &r) : jumun_reject_order(client, order, reason, NULL, &r);
    assert_int_equal(code, r.code);
    return r;
}

static jumun_result unassign(const jumun_key *order) {
    jumun_result r = {0};
    jumun_command c = command_of(JUMUN_UNASSIGN_RIDER, order, NULL);
    int code = submitted ? submit(&c, &r) : jumun_unassign_rider(client, order, NULL, &r);
    assert_int_equal(code, r.code);
    return r;
}

static jumun_result refund(const jumun_key *order, int64_t amount, const char *reason,
                           const jumun_options_command *options) {
    jumun_result r = {0};
    jumun_command c = command_of(JUMUN_REFUND, order, options);
    c.refund.amount = amount;
    c.refund.reason = reason;
    int code = submitted ? submit(&c, &r)
                         : jumun_refund(client, order, amount, reason, options, &r);
    assert_int_equal(code, r.code);
    return r;
}

static jumun_result amend(const jumun_key *order, const jumun_amend *to,
                          const jumun_options_command *options) {
    jumun_result r = {0};
    jumun_command c = command_of(JUMUN_AMEND, order, options);
    c.amend = *to;
    int code = submitted ? submit(&c, &r) : jumun_amend_order(client, order, to, options, &r);
    assert_int_equal(code, r.code);
    return r;
}

static jumun_result pause_store(const char *store, const char *reason) {
    jumun_result r = {0};
    jumun_command c = command_of(JUMUN_STORE_PAUSE, NULL, NULL);
    c.store_id = store;
    c.store_pause.reason = reason;
    int code = submitted ? submit(&c, &r) : jumun_store_pause(client, store, reason, NULL, &r);
    assert_int_equal(code, r.code);
    return r;
}

static jumun_result resume_store(const char *store) {
    jumun_result r = {0};
    jumun_command c = command_of(JUMUN_STORE_RESUME, NULL, NULL);
    c.store_id = store;
    int code = submitted ? submit(&c, &r) : jumun_store_resume(client, store, NULL, &r);
    assert_int_equal(code, r.code);
    return r;
}

/* -- orders ------------------------------------------------------------------------------------ */

static int place(const jumun_key *key, jumun_fulfilment fulfilment, const char *store,
                 jumun_result *result) {
    jumun_line line = {.sku = "tea", .quantity = 2, .unit_price = PRICE};
    jumun_place p = {.fulfilment = fulfilment, .currency = "EUR", .store = store, .lines = &line,
                     .lines_count = 1, .total = TOTAL};
    return jumun_place_order(client, key, &p, NULL, result);
}

static jumun_key placed(jumun_fulfilment fulfilment, const char *store) {
    jumun_key key = jumun_key_new();
    assert_int_equal(place(&key, fulfilment, store, NULL), JUMUN_OK);
    return key;
}

static void pay(const jumun_key *key) {
    jumun_pay p = {.state = JUMUN_CAPTURED, .method = "card", .reference = "r", .amount = TOTAL};
    assert_int_equal(jumun_pay_order(client, key, &p, NULL, NULL), JUMUN_OK);
}

static jumun_order *look(const jumun_key *key) {
    jumun_order *order = NULL;
    assert_int_equal(jumun_get(client, key, NULL, &order, NULL), JUMUN_OK);
    return order;
}

static void assert_money(const jumun_key *key, int64_t total, int64_t captured, int64_t refunded,
                         int64_t owed) {
    jumun_order *o = look(key);
    assert_int_equal(o->total, total);
    assert_int_equal(o->captured, captured);
    assert_int_equal(o->refunded, refunded);
    assert_int_equal(o->refund_owed, owed);
    jumun_order_free(o);
}

static void assert_is(const jumun_key *key, const char *state, uint32_t order_version) {
    jumun_order *o = look(key);
    assert_string_equal(o->state, state);
    assert_int_equal(o->version, order_version);
    jumun_order_free(o);
}

static void test_reject(void **state) {
    static const char *const reasons[] = {"sold out", NULL};
    (void)state;
    for (int i = 0; i < 2; i++) {
        jumun_key key = placed(JUMUN_PICKUP, "rejecting");
        pay(&key);
        jumun_result r = reject(&key, reasons[i]);
        assert_int_equal(r.code, JUMUN_OK);
        assert_int_equal(r.version, 3);
        jumun_order *o = look(&key);
        assert_string_equal(o->state, "rejected");
        assert_string_equal(o->end_reason, reasons[i] ? reasons[i] : "");
        assert_int_equal(o->ended_by, JUMUN_BY_STORE);
        jumun_order_free(o);
        assert_money(&key, TOTAL, TOTAL, 0, TOTAL);
        assert_int_equal(reject(&key, "again").code, RESULT_ORDER_HAS_ENDED);
        assert_is(&key, "rejected", 3);
    }
    jumun_key key = placed(JUMUN_PICKUP, "rejecting");
    pay(&key);
    assert_int_equal(jumun_accept_order(client, &key, 10, NULL, NULL), JUMUN_OK);
    assert_int_equal(reject(&key, "too late").code, RESULT_NOT_ALLOWED_IN_STATE);
    assert_is(&key, "accepted", 3);
}

static void test_unassign_rider(void **state) {
    jumun_key key = placed(JUMUN_PLATFORM_DELIVERY, "riding");
    (void)state;
    pay(&key);
    assert_int_equal(jumun_accept_order(client, &key, 10, NULL, NULL), JUMUN_OK);
    assert_int_equal(unassign(&key).code, RESULT_RIDER_NOT_ASSIGNED);
    assert_int_equal(jumun_assign_rider(client, &key, "rider-7", NULL, NULL), JUMUN_OK);
    jumun_order *o = look(&key);
    assert_string_equal(o->rider, "rider-7");
    jumun_order_free(o);
    jumun_result r = unassign(&key);
    assert_int_equal(r.code, JUMUN_OK);
    assert_int_equal(r.version, 5);
    o = look(&key);
    assert_string_equal(o->rider, "");
    assert_string_equal(o->state, "accepted"); /* the kitchen goes on */
    jumun_order_free(o);
    assert_int_equal(unassign(&key).code, RESULT_RIDER_NOT_ASSIGNED);
    assert_int_equal(jumun_mark_ready(client, &key, NULL, NULL), JUMUN_OK);
    assert_int_equal(jumun_pick_up(client, &key, NULL, NULL), RESULT_RIDER_REQUIRED);
    assert_is(&key, "ready", 6);
}

static void test_refund(void **state) {
    jumun_key key = placed(JUMUN_PICKUP, "refunding");
    jumun_options_command once = {.id = jumun_key_new()};
    (void)state;
    assert_int_equal(refund(&key, 0, NULL, NULL).code, RESULT_NOTHING_TO_REFUND);
    pay(&key);
    assert_int_equal(refund(&key, TOTAL + 1, NULL, NULL).code, RESULT_REFUND_EXCEEDS_CAPTURED);
    assert_int_equal(refund(&key, -1, NULL, NULL).code, RESULT_AMOUNT_NOT_POSITIVE);
    assert_money(&key, TOTAL, TOTAL, 0, 0);
    for (int i = 0; i < 2; i++) { /* under one id: once */
        jumun_result r = refund(&key, 300, "cold", &once);
        assert_int_equal(r.code, JUMUN_OK);
        assert_int_equal(r.repeated, i == 1);
        assert_int_equal(r.version, 3);
        assert_money(&key, TOTAL, TOTAL, 300, 0);
    }
    assert_int_equal(refund(&key, 0, NULL, NULL).code, JUMUN_OK); /* all that is left */
    assert_money(&key, TOTAL, TOTAL, TOTAL, 0);
    assert_int_equal(refund(&key, 0, NULL, NULL).code, RESULT_NOTHING_TO_REFUND);
    assert_money(&key, TOTAL, TOTAL, TOTAL, 0);
}

static void test_amend(void **state) {
    jumun_key key = placed(JUMUN_PICKUP, "amending");
    jumun_line lines[] = {{.sku = "soup", .quantity = 1, .unit_price = 700},
                          {.sku = "rice", .quantity = 3, .unit_price = 100, .name = "bowl"}};
    jumun_amend to = {.lines = lines, .lines_count = 2, .fees = 150, .discounts = 50,
                      .total = 1100};
    jumun_amend wrong = to;
    (void)state;
    wrong.total++;
    assert_int_equal(amend(&key, &wrong, NULL).code, RESULT_TOTAL_MISMATCH);
    const jumun_options_command second = {.expected_version = 2};
    jumun_result r = amend(&key, &to, &second);
    assert_int_equal(r.code, JUMUN_VERSION_CONFLICT);
    assert_int_equal(r.version, 1);
    assert_money(&key, TOTAL, 0, 0, 0);
    r = amend(&key, &to, &(jumun_options_command){.expected_version = 1});
    assert_int_equal(r.code, JUMUN_OK);
    assert_int_equal(r.version, 2);
    jumun_order *o = look(&key);
    assert_int_equal(o->lines_count, 2);
    assert_string_equal(o->lines[0].sku, "soup");
    assert_string_equal(o->lines[1].name, "bowl");
    assert_int_equal(o->lines[1].quantity, 3);
    assert_int_equal(o->lines[1].unit_price, 100);
    assert_int_equal(o->lines_total, 1000);
    assert_int_equal(o->fees, 150);
    assert_int_equal(o->discounts, 50);
    assert_int_equal(o->total, 1100);
    jumun_order_free(o);
    jumun_pay p = {.state = JUMUN_CAPTURED, .method = "card", .reference = "r", .amount = 1100};
    assert_int_equal(jumun_pay_order(client, &key, &p, NULL, NULL), JUMUN_OK);
    assert_int_equal(jumun_accept_order(client, &key, 10, NULL, NULL), JUMUN_OK);
    assert_int_equal(amend(&key, &to, NULL).code, RESULT_NOT_ALLOWED_IN_STATE);
    assert_is(&key, "accepted", 4);
}

/* An order's shard hears of a store's pause or resumption by a message: not at once. */
static jumun_key await_place(const char *store, int wanted) {
    int64_t until = monotonic_ms() + STORE_PATIENCE_MS;
    for (;;) {
        jumun_key key = jumun_key_new();
        int code = place(&key, JUMUN_PICKUP, store, NULL);
        if (code == wanted) return key;
        if (code != JUMUN_OK && code != RESULT_STORE_PAUSED) fail_msg("place: %d", code);
        if (monotonic_ms() > until) fail_msg("place: still %d, not %d", code, wanted);
        sleep_ms(5);
    }
}

static void test_store_pause_and_resume(void **state) {
    const char *store = submitted ? "pausing-submitted" : "pausing";
    (void)state;
    assert_int_equal(resume_store(store).code, RESULT_STORE_NOT_FOUND);
    jumun_key before = placed(JUMUN_PICKUP, store);
    assert_int_equal(pause_store(store, submitted ? "no gas" : NULL).code, JUMUN_OK);
    assert_int_equal(pause_store(store, NULL).code, RESULT_STORE_ALREADY_PAUSED);
    jumun_key refused = await_place(store, RESULT_STORE_PAUSED);
    jumun_order *none = NULL;
    assert_int_equal(jumun_get(client, &refused, NULL, &none, NULL), JUMUN_ORDER_NOT_FOUND);
    assert_null(none);
    pay(&before); /* what was placed goes on */
    assert_is(&before, "paid", 2);
    assert_int_equal(resume_store(store).code, JUMUN_OK);
    assert_int_equal(resume_store(store).code, RESULT_STORE_NOT_PAUSED);
    jumun_key after = await_place(store, JUMUN_OK);
    assert_is(&after, "placed", 1);
}

/* -- what the library itself answers ----------------------------------------------------------- */

static uint64_t token_of(uint32_t shard) {
    jumun_token tokens[8];
    uint32_t count = jumun_session_tokens(client, tokens, 8);
    for (uint32_t i = 0; i < count; i++)
        if (tokens[i].shard == shard) return tokens[i].index;
    return 0;
}

static void test_session_tokens(void **state) {
    jumun_token one[2] = {{0, 0}, {77, 78}};
    uint32_t seen = 0;
    (void)state;
    while (seen != 3) { /* both shards */
        jumun_key key = jumun_key_new();
        jumun_result r;
        assert_int_equal(place(&key, JUMUN_PICKUP, "tokens", &r), JUMUN_OK);
        assert_true(r.shard < 2 && r.index > 0);
        assert_int_equal(token_of(r.shard), r.index);
        seen |= 1u << r.shard;
    }
    assert_int_equal(jumun_session_tokens(client, NULL, 0), 2);
    assert_int_equal(jumun_session_tokens(client, one, 1), 2);
    assert_int_equal(one[0].index, token_of(one[0].shard));
    assert_int_equal(one[1].shard, 77); /* no more than there is room for */
    assert_int_equal(one[1].index, 78);
    uint64_t at = token_of(1);
    jumun_session_demand(client, &(jumun_token){1, at + 5}, 1);
    assert_int_equal(token_of(1), at + 5);
    jumun_session_demand(client, &(jumun_token){1, at}, 1); /* never back */
    assert_int_equal(token_of(1), at + 5);
}

static void test_version(void **state) {
    (void)state;
    assert_string_equal(jumun_version(), version);
}

static int as_functions(void **state) {
    (void)state;
    submitted = false;
    return 0;
}

static int as_commands(void **state) {
    (void)state;
    submitted = true;
    return 0;
}

#define BOTH_FORMS(test)                                                                           \
    {#test ", function", test, as_functions, NULL, NULL},                                          \
    {#test ", command", test, as_commands, NULL, NULL}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        BOTH_FORMS(test_reject),
        BOTH_FORMS(test_unassign_rider),
        BOTH_FORMS(test_refund),
        BOTH_FORMS(test_amend),
        BOTH_FORMS(test_store_pause_and_resume),
        cmocka_unit_test(test_session_tokens),
        cmocka_unit_test(test_version),
    };
    if (argc != 3) return 2;
    program = argv[1];
    version = argv[2];
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
