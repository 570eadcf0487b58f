/* Deadlines under another leader than the one that decided them. A follower sets one when it stores
 * the order; whoever leads from now on sets those of all orders that it had not stored, and then
 * each fires once, in its time. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/shard/group_orders.h"

enum {
    ORDERS = 40,
    MANY = 34000,                  /* more than a new leader sets in one round */
    BATCH = 2000,
    TIMEOUT_MS = 60000,
    PATIENCE_MS = 30000            /* virtual */
};

/* A follower stores an order fifteen times as late as this. */
static const struct group_setup setup = {
    .disk = {.seed = 31, .append_ms_max = 3, .checkpoint_ms_max = 5, .load_ms_max = 2},
    .network = {.seed = 5, .latency_ms_max = 2},
    .checkpoint_age_ms = 20000};

static struct group_world world;

static int set_up(void **state) {
    (void)state;
    group_open(&world, &setup);
    return 0;
}

static int set_up_quick(void **state) {
    (void)state;
    struct group_setup quick = setup;
    quick.checkpoint_age_ms = 100;
    group_open(&world, &quick);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    group_close(&world);
    return 0;
}

static struct command place_prepaid(struct group_world *w) {
    struct command c = world_place(&w->names, world_key(&w->names, 0), "s1");
    c.place.payment_timing = PAYMENT_PREPAID;
    c.place.payment_timeout_ms = TIMEOUT_MS;
    c.place.acceptance_timeout_ms = 3 * TIMEOUT_MS;
    return c;
}

/* Whoever leads dies. Who leads then had stored nothing, and has fired nothing. */
static struct shard *lead_is_passed_on(struct group_world *w, uint32_t orders) {
    uint32_t leader = group_await_leader(w, 0);
    group_run(w, 1000);
    for (uint32_t n = 0; n < 3; n++) {
        if (n == leader) continue;
        const struct shard *s = group_shard(w, n, 0);
        assert_int_equal(s->phase, SHARD_FOLLOWING);
        assert_int_equal(s->stats.timers_fired, 0);
        assert_int_equal(s->timers.count, 0);
        assert_true(s->dirty.count >= orders);
    }
    group_crash_node(w, leader);
    struct shard *next = group_shard(w, group_await_leader(w, 0), 0);
    assert_int_not_equal(next->options.server_id, consensus_server_id(leader + 1, 0));
    return next;
}

static void await_fired(struct group_world *w, const struct shard *s, uint64_t fired) {
    for (int64_t ms = 0; ms < PATIENCE_MS && s->stats.timers_fired < fired; ms++) group_run(w, 1);
    assert_int_equal(s->stats.timers_fired, fired);
    group_run(w, 3000);
    assert_int_equal(s->stats.timers_fired, fired);
    assert_int_equal(s->phase, SHARD_SERVING);
}

static void test_a_new_leader_fires_what_it_had_not_stored(void **state) {
    (void)state;
    struct group_world *w = &world;
    int64_t first_ms = 0, last_ms = 0;
    for (uint32_t i = 0; i < ORDERS; i++) {
        struct command c = place_prepaid(w);
        if (i == 0) first_ms = w->now_ms;
        assert_int_equal(group_ask(w, &c).code, RESULT_OK);
        last_ms = w->now_ms;
    }
    struct shard *s = lead_is_passed_on(w, ORDERS);
    group_run(w, first_ms + TIMEOUT_MS - 1 - w->now_ms);
    assert_int_equal(s->stats.timers_fired, 0);
    assert_int_equal(s->totals[ORDER_PLACED], ORDERS);
    group_run(w, last_ms + TIMEOUT_MS + 1 - w->now_ms);
    await_fired(w, s, ORDERS);
    assert_int_equal(s->totals[ORDER_EXPIRED], ORDERS);
}

/* What a follower has stored it does not look at when it leads: its deadline is set by then. */
static void test_a_new_leader_fires_what_it_had_stored(void **state) {
    (void)state;
    struct group_world *w = &world;
    int64_t first_ms = w->now_ms;
    for (uint32_t i = 0; i < ORDERS; i++) {
        struct command c = place_prepaid(w);
        assert_int_equal(group_ask(w, &c).code, RESULT_OK);
    }
    int64_t last_ms = w->now_ms;
    uint32_t leader = group_await_leader(w, 0);
    struct shard *heir = group_shard(w, (leader + 1) % 3, 0);
    for (int64_t ms = 0; ms < PATIENCE_MS && heir->dirty.count > 0; ms++) group_run(w, 1);
    assert_int_equal(heir->dirty.count, 0);
    assert_int_equal(heir->phase, SHARD_FOLLOWING);
    assert_int_equal(heir->timers.count, ORDERS);
    group_crash_node(w, leader);
    struct shard *s = group_shard(w, group_await_leader(w, 0), 0);
    assert_true(w->now_ms < first_ms + TIMEOUT_MS);
    group_run(w, first_ms + TIMEOUT_MS - 1 - w->now_ms);
    assert_int_equal(s->stats.timers_fired, 0);
    group_run(w, last_ms + TIMEOUT_MS + 1 - w->now_ms);
    await_fired(w, s, ORDERS);
}

/* Orders that are paid, and whose followers still have the deadline for the payment set, as if they
 * had been stored in between. Returns when the last one was placed. */
static int64_t place_and_pay(struct group_world *w) {
    struct id128 keys[ORDERS];
    for (uint32_t i = 0; i < ORDERS; i++) {
        struct command c = place_prepaid(w);
        keys[i] = c.subject;
        assert_int_equal(group_ask(w, &c).code, RESULT_OK);
    }
    int64_t placed_ms = w->now_ms;
    group_run(w, 1000);
    for (uint32_t n = 0; n < 3; n++) {
        struct shard *s = group_shard(w, n, 0);
        if (s->phase != SHARD_FOLLOWING) continue;
        for (uint32_t i = 0; i < ORDERS; i++) {
            uint32_t slot = actor_table_find(&s->table, ACTOR_ORDER, &keys[i]);
            timer_heap_set(&s->timers, slot, shard_actor(s, slot)->next_deadline_ms);
        }
    }
    for (uint32_t i = 0; i < ORDERS; i++) {
        struct command c = world_command(&w->names, COMMAND_PAY, keys[i]);
        c.pay = (struct command_pay){.state = PAYMENT_CAPTURED, .amount = 19000,
                                     .method = bytes_of_text("card"),
                                     .reference = bytes_of_text("p-1")};
        assert_int_equal(group_ask(w, &c).code, RESULT_OK);
    }
    return placed_ms;
}

static void test_what_has_moved_on_does_not_fire(void **state) {
    (void)state;
    struct group_world *w = &world;
    int64_t placed_ms = place_and_pay(w);
    group_crash_node(w, group_await_leader(w, 0));
    struct shard *s = group_shard(w, group_await_leader(w, 0), 0);
    group_run(w, placed_ms + TIMEOUT_MS + 1000 - w->now_ms);
    assert_int_equal(s->stats.timers_fired, 0);
    assert_int_equal(s->totals[ORDER_PAID], ORDERS);
    group_run(w, placed_ms + 3 * TIMEOUT_MS + 2000 - w->now_ms);
    await_fired(w, s, ORDERS);
    assert_int_equal(s->totals[ORDER_PAID], 0);
}

static void place_many(struct group_world *w) {
    struct ask *asks = calloc(BATCH, sizeof *asks);
    for (uint32_t i = 0; i < BATCH; i++) {
        struct command c = place_prepaid(w);
        assert_true(group_offer(w, group_await_leader(w, 0), &asks[i], &c));
    }
    for (uint32_t i = 0; i < BATCH; i++) {
        for (int ms = 0; ms < PATIENCE_MS && !asks[i].answered; ms++) group_run(w, 1);
        assert_true(asks[i].answered);
        assert_int_equal(asks[i].result.code, RESULT_OK);
    }
    free(asks);
}

/* All but the oldest are due when somebody leads again, and none fires before all are set: of the
 * oldest, which are set last, an earlier deadline stands there. */
static void test_more_than_a_round_has_room_for(void **state) {
    (void)state;
    struct group_world *w = &world;
    place_and_pay(w);
    for (uint32_t i = 0; i < MANY; i += BATCH) place_many(w);
    group_run(w, 1000);
    group_crash_node(w, group_await_leader(w, 0));
    for (uint32_t n = 0; n < 3; n++) {
        const struct shard *s = group_shard(w, n, 0);
        if (s) assert_true(s->dirty.count >= MANY + ORDERS);
    }
    w->now_ms += 2 * TIMEOUT_MS;
    struct shard *s = group_shard(w, group_await_leader(w, 0), 0);
    await_fired(w, s, MANY);
    assert_int_equal(s->totals[ORDER_EXPIRED], MANY);
    assert_int_equal(s->totals[ORDER_PAID], ORDERS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_new_leader_fires_what_it_had_not_stored, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_new_leader_fires_what_it_had_stored, set_up_quick,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_has_moved_on_does_not_fire, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_more_than_a_round_has_room_for, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
