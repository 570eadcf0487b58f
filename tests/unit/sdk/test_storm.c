/* The order of an order's commands on a bad day: messages are refused, lost, or answered late. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "actors/result_codes.h"
#include "clients/sdk/jumun.h"
#include "tests/unit/sdk/fake_engine.h"

static atomic_uint ended, ended_ok;

static void on_end(void *arg, const jumun_result *result, const void *value, size_t value_bytes) {
    (void)arg, (void)value, (void)value_bytes;
    if (result->code == JUMUN_OK) atomic_fetch_add(&ended_ok, 1);
    atomic_fetch_add(&ended, 1);
}

enum { STORM_ORDERS = 24, STORM_COMMANDS = 4800 };

/* Which command of its order was acted on last, and whether one was left out or came before. */
static struct {
    jumun_key orders[STORM_ORDERS];
    uint32_t next[STORM_ORDERS];
    uint32_t acted, out_of_order;
    uint64_t random;
} storm;

/* The n-th command of an order: its id tells. */
static jumun_key storm_id(uint32_t order, uint32_t n) {
    jumun_key id = {{1}};
    memcpy(id.bytes + 4, &order, sizeof order);
    memcpy(id.bytes + 8, &n, sizeof n);
    return id;
}

static void storm_act(const jumun_key *id) {
    uint32_t order, n;
    memcpy(&order, id->bytes + 4, sizeof order);
    memcpy(&n, id->bytes + 8, sizeof n);
    if (n < storm.next[order]) return; /* once more: it is known */
    if (n > storm.next[order]) storm.out_of_order++;
    storm.next[order] = n + 1;
    storm.acted++;
}

/* One at a time, as all scripts: of ten messages two are refused as a whole, one is lost on its
 * way, one is acted on and its answer lost, two are answered late. */
static void storm_script(void *arg, struct fake_message *m) {
    (void)arg;
    storm.random = storm.random * 6364136223846793005u + 1442695040888963407u;
    uint32_t luck = (uint32_t)(storm.random >> 33) % 10;
    if (luck < 2) {
        for (uint32_t i = 0; i < m->count; i++) m->codes[i] = RESULT_OVERLOADED;
        return;
    }
    if (luck < 4) m->action = FAKE_DROP;
    if (luck == 2) return;
    if (luck > 7) m->delay_ms = 3;
    for (uint32_t i = 0; i < m->count; i++) storm_act(&m->commands[i].id);
}

static void test_the_order_of_an_order_survives_a_bad_day(void **state) {
    memset(&storm, 0, sizeof storm);
    struct fake_engine *e = fake_engine_start("storm", 1, storm_script, NULL);
    const jumun_options options = {.attempt_timeout_ms = 30, .circuit_failures = UINT32_MAX,
                                   .backoff_ms_min = 1, .backoff_ms_max = 8, .timeout_ms = 120000,
                                   .batch_commands_max = 16};
    char error[128] = "";
    jumun_client *c = jumun_open(fake_engine_address("storm"), &options, error, sizeof error);
    assert_non_null(c);
    for (uint32_t i = 0; i < STORM_ORDERS; i++) storm.orders[i] = jumun_key_new();
    for (uint32_t i = 0; i < STORM_COMMANDS; i++) {
        uint32_t order = i * 7 % STORM_ORDERS;
        jumun_key id = storm_id(order, i / STORM_ORDERS);
        jumun_command command = {.kind = JUMUN_MARK_READY, .order = storm.orders[order],
                                 .options.id = id};
        assert_int_equal(jumun_submit(c, &command, on_end, NULL), JUMUN_OK);
        if (i % 16 == 0) nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    for (int i = 0; i < 120000 && atomic_load(&ended) < STORM_COMMANDS; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(atomic_load(&ended), STORM_COMMANDS);
    assert_int_equal(atomic_load(&ended_ok), STORM_COMMANDS);
    jumun_close(c);
    fake_engine_stop(e);
    assert_int_equal(storm.out_of_order, 0);
    assert_int_equal(storm.acted, STORM_COMMANDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_order_of_an_order_survives_a_bad_day),
    };
    return cmocka_run_group_tests_name("sdk_storm", tests, NULL, NULL);
}
