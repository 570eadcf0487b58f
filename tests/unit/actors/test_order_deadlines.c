/* Deadlines fire at their time, once; held commands are resolved, refused or run out of time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "tests/unit/actors/order_world.h"

static struct world world;

static int setup(void **unused) {
    world_init(&world);
    return 0;
}
static int teardown(void **unused) {
    world_check_fold(&world);
    world_fini(&world);
    return 0;
}

static void expect_at(int line, struct command command, uint16_t code) {
    struct decision decision = world_do(&world, &command);
    if (decision.code != code) {
        fail_msg("line %d: got %s", line, result_code_name(decision.code));
    }
}
#define expect(...) expect_at(__LINE__, __VA_ARGS__)

/* Nothing before `deadline`, one event of `kind` at it, nothing after it. */
static void fires_once(int64_t deadline, uint8_t kind, uint8_t state) {
    assert_int_equal(world.order->next_deadline_ms, deadline);
    world.now_ms = deadline - 1;
    assert_int_equal(world_tick(&world), 0);
    world.now_ms = deadline;
    assert_int_equal(world_tick(&world), 1);
    assert_int_equal(world_event(&world, 0)->kind, kind);
    assert_int_equal(world_event(&world, 0)->cause_kind, COMMAND_TIMER_DUE);
    assert_true(id128_is_zero(&world_event(&world, 0)->cause));
    assert_int_equal(world.order->state, state);
    assert_int_equal(world_tick(&world), 0);
    assert_true(world.order->next_deadline_ms == 0 || world.order->next_deadline_ms > deadline);
}

static void no_order_has_no_deadline(void **unused) {
    assert_int_equal(world_tick(&world), 0);
}

static void unpaid_orders_expire(void **unused) {
    struct command place = world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID);
    place.place.payment_timeout_ms = 1234;
    expect(place, RESULT_OK);
    expect(world_pay(&world, PAYMENT_CAPTURED, "half", 1000), RESULT_OK);
    fires_once(WORLD_START_MS + 1234, EVENT_ORDER_EXPIRED, ORDER_EXPIRED);
    struct order_view view = world_view(&world);
    assert_int_equal(view.ended_by, PARTY_SYSTEM);
    assert_true(bytes_equal(view.end_reason, bytes_of_text("not paid in time")));
    assert_int_equal(view.refund_owed, 1000);
    fires_once(WORLD_START_MS + 1234 + REFUND_DEADLINE_MS, EVENT_ORDER_REFUNDED, ORDER_EXPIRED);
    fires_once(WORLD_START_MS + KEY_PAST_MS_MAX + 1, EVENT_ORDER_RETIRED, ORDER_EXPIRED);
}

static void orders_that_no_store_accepts_expire(void **unused) {
    struct command place = world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID);
    place.place.acceptance_timeout_ms = 777;
    expect(place, RESULT_OK);
    world.now_ms += 100;
    expect(world_pay(&world, PAYMENT_CAPTURED, "card", 3700), RESULT_OK);
    fires_once(WORLD_START_MS + 877, EVENT_ORDER_EXPIRED, ORDER_EXPIRED);
    assert_true(bytes_equal(world_view(&world).end_reason, bytes_of_text("not accepted in time")));
    fires_once(WORLD_START_MS + 877 + REFUND_DEADLINE_MS, EVENT_ORDER_REFUNDED, ORDER_EXPIRED);
}

static void payment_on_delivery_waits_for_acceptance_only(void **unused) {
    expect(world_place(&world, FULFILMENT_PICKUP, PAYMENT_ON_DELIVERY), RESULT_OK);
    world.now_ms += 100; /* paying early does not prolong it */
    expect(world_pay(&world, PAYMENT_CAPTURED, "card", 3700), RESULT_OK);
    assert_int_equal(world.order->state, ORDER_PAID);
    fires_once(WORLD_START_MS + ACCEPTANCE_DEADLINE_MS, EVENT_ORDER_EXPIRED, ORDER_EXPIRED);
}

static void handed_over_orders_complete(void **unused) {
    assert_true(
        world_bring_to(&world, FULFILMENT_PLATFORM_DELIVERY, PAYMENT_PREPAID, ORDER_DELIVERED));
    fires_once(WORLD_START_MS + AUTO_COMPLETE_DELIVERY_MS, EVENT_ORDER_COMPLETED, ORDER_COMPLETED);
    assert_int_equal(world_view(&world).ended_by, PARTY_SYSTEM);
    fires_once(WORLD_START_MS + KEY_PAST_MS_MAX + 1, EVENT_ORDER_RETIRED, ORDER_COMPLETED);
}

static void picked_up_orders_complete_when_the_customer_came(void **unused) {
    assert_true(world_bring_to(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID, ORDER_PICKED_UP));
    fires_once(WORLD_START_MS + AUTO_COMPLETE_DELIVERY_MS, EVENT_ORDER_COMPLETED, ORDER_COMPLETED);
}

static void acceptance_stops_the_clock(void **unused) {
    assert_true(world_bring_to(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID, ORDER_ACCEPTED));
    assert_int_equal(world.order->next_deadline_ms, 0);
    assert_int_equal(world_view(&world).ready_estimate_ms, WORLD_START_MS + 20 * 60000);
    world.now_ms += TIMEOUT_MS_MAX;
    assert_int_equal(world_tick(&world), 0);
}

static void the_earliest_deadline_comes_first(void **unused) {
    struct command place = world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID);
    place.place.acceptance_timeout_ms = REFUND_DEADLINE_MS + 1;
    expect(place, RESULT_OK);
    expect(world_pay(&world, PAYMENT_CAPTURED, "card", 4000), RESULT_OK);
    world.now_ms += REFUND_DEADLINE_MS + 5; /* both are due */
    assert_int_equal(world_tick(&world), 1);
    assert_int_equal(world_event(&world, 0)->kind, EVENT_ORDER_REFUNDED);
    assert_int_equal(world_tick(&world), 1);
    assert_int_equal(world_event(&world, 0)->kind, EVENT_ORDER_EXPIRED);
    assert_int_equal(world_view(&world).refund_owed, 3700);
    assert_int_equal(world_tick(&world), 0);
}

/* -- held commands --------------------------------------------------------------------------- */

static struct decision retry(const struct command *command) {
    struct command again = *command;
    struct decision decision = world_do(&world, &again);
    assert_int_equal(world.turn_events, 0);
    assert_true(decision.repeated);
    return decision;
}

static void a_payment_that_overtakes_its_place_counts(void **unused) {
    struct command pay = world_pay(&world, PAYMENT_CAPTURED, "card", 3700);
    expect(pay, RESULT_HELD);
    assert_int_equal(world.order->state, ORDER_AWAITED);
    assert_int_equal(world.order->next_deadline_ms, WORLD_START_MS + HELD_DEADLINE_MS);
    assert_int_equal(retry(&pay).code, RESULT_HELD);
    assert_int_equal(retry(&pay).version, 1);
    assert_int_equal(order_store(world.order).size, 0);
    expect(world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID), RESULT_OK);
    assert_int_equal(world.order->state, ORDER_PAID);
    assert_int_equal(world_view(&world).captured, 3700);
    assert_int_equal(world.order->version, 4); /* held, placed, payment, resolved */
    assert_int_equal(world_event(&world, 1)->kind, EVENT_PAYMENT_RECORDED);
    assert_int_equal(world_event(&world, 1)->cause_kind, COMMAND_PAY);
    assert_true(id128_equal(&world_event(&world, 1)->cause, &pay.id));
    assert_int_equal(retry(&pay).code, RESULT_OK);
    assert_int_equal(retry(&pay).version, 4);
    assert_int_equal(world_view(&world).commands_count, 2);
    assert_int_equal(world_view(&world).held_deadline_ms, 0);
}

static void held_commands_are_resolved_in_their_order(void **unused) {
    struct line_cancellation cut = {2, 4};
    struct command cancel_line = world_cancel(&world, PARTY_CUSTOMER, &cut, 1);
    struct command pay = world_pay(&world, PAYMENT_CAPTURED, "card", 3700);
    struct command cancel = world_cancel(&world, PARTY_CUSTOMER, NULL, 0);
    struct command again = world_cancel(&world, PARTY_CUSTOMER, NULL, 0);
    pay.trace = world_id(99);
    expect(cancel_line, RESULT_HELD);
    world.now_ms += 1000;
    expect(pay, RESULT_HELD);
    expect(cancel, RESULT_HELD);
    expect(again, RESULT_HELD);
    assert_int_equal(world.order->next_deadline_ms, WORLD_START_MS + HELD_DEADLINE_MS);
    expect(world_place(&world, FULFILMENT_PARCEL, PAYMENT_PREPAID), RESULT_OK);
    assert_int_equal(world.order->state, ORDER_CANCELLED);
    struct order_view view = world_view(&world);
    struct id128 trace = event_trace(world_event(&world, 4)); /* pay, and its resolution */
    assert_true(id128_equal(&trace, &pay.trace));
    trace = event_trace(world_event(&world, 3));
    assert_true(id128_equal(&trace, &pay.trace));
    trace = event_trace(world_event(&world, 0));
    assert_true(id128_is_zero(&trace));
    assert_int_equal(view.total, 2700);
    assert_int_equal(view.refund_owed, 3700);
    assert_true(bytes_equal(view.end_reason, bytes_of_text("changed my mind")));
    assert_int_equal(retry(&cancel_line).code, RESULT_OK);
    assert_int_equal(retry(&pay).code, RESULT_OK);
    assert_int_equal(retry(&cancel).code, RESULT_OK);
    struct decision refused = retry(&again);
    assert_int_equal(refused.code, RESULT_ORDER_HAS_ENDED);
    assert_int_equal(refused.version, world.order->version);
}

static void a_held_command_may_be_refused(void **unused) {
    struct line_cancellation cut = {7, 1};
    struct command cancel = world_cancel(&world, PARTY_CUSTOMER, &cut, 1);
    struct command pay = world_pay(&world, PAYMENT_CAPTURED, "card", 10);
    pay.expected_version = 1;
    expect(cancel, RESULT_HELD);
    expect(pay, RESULT_HELD);
    expect(world_place(&world, FULFILMENT_PARCEL, PAYMENT_PREPAID), RESULT_OK);
    assert_int_equal(world.order->state, ORDER_PLACED);
    assert_int_equal(retry(&cancel).code, RESULT_LINE_UNKNOWN);
    assert_int_equal(retry(&pay).code, RESULT_VERSION_CONFLICT);
    assert_int_equal(world_view(&world).captured, 0);
}

static void malformed_commands_are_not_held(void **unused) {
    struct line_cancellation cut = {0, 0};
    expect(world_cancel(&world, PARTY_CUSTOMER, &cut, 1), RESULT_QUANTITY_NOT_POSITIVE);
    expect(world_pay(&world, PAYMENT_CAPTURED, "card", 0), RESULT_AMOUNT_NOT_POSITIVE);
    expect(world_pay(&world, PAYMENT_CAPTURED, "card", INT64_MAX), RESULT_MONEY_TOO_LARGE);
    assert_null(world.order);
}

static void money_without_an_order_goes_back(void **unused) {
    struct command pay = world_pay(&world, PAYMENT_CAPTURED, "card", 3700);
    expect(world_pay(&world, PAYMENT_AUTHORISED, "card", 3700), RESULT_HELD);
    expect(pay, RESULT_HELD);
    expect(world_pay(&world, PAYMENT_CAPTURED, "card", 3700), RESULT_HELD); /* reported twice */
    expect(world_pay(&world, PAYMENT_CAPTURED, "gift", 300), RESULT_HELD);
    expect(world_cancel(&world, PARTY_CUSTOMER, NULL, 0), RESULT_HELD);
    fires_once(WORLD_START_MS + HELD_DEADLINE_MS, EVENT_HELD_COMMANDS_EXPIRED, ORDER_EXPIRED);
    struct order_view view = world_view(&world);
    assert_int_equal(view.captured, 4000);
    assert_int_equal(view.refund_owed, 4000);
    assert_int_equal(view.payments_count, 2);
    assert_int_equal(view.held_count, 0);
    assert_int_equal(retry(&pay).code, RESULT_ORDER_EXPIRED_BEFORE_PLACED);
    expect(world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID),
           RESULT_ORDER_EXPIRED_BEFORE_PLACED);
    expect(world_pay(&world, PAYMENT_CAPTURED, "more", 50), RESULT_OK);
    fires_once(WORLD_START_MS + HELD_DEADLINE_MS + REFUND_DEADLINE_MS, EVENT_ORDER_REFUNDED,
               ORDER_EXPIRED);
    assert_int_equal(world_view(&world).refunded, 4050);
    fires_once(WORLD_START_MS + KEY_PAST_MS_MAX + 1, EVENT_ORDER_RETIRED, ORDER_EXPIRED);
}

/* A place whose held commands were not resolved in its turn (a crash in between): the deadline
 * resolves them, one at a time. */
static void the_held_deadline_resolves_what_was_left(void **unused) {
    expect(world_pay(&world, PAYMENT_CAPTURED, "card", 3700), RESULT_HELD);
    expect(world_pay(&world, PAYMENT_CAPTURED, "gift", 1), RESULT_HELD);
    struct command place = world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID);
    assert_int_equal(world_decide(&world, &place).code, RESULT_OK);
    assert_int_equal(order_held_count(world.order), 2);
    world.now_ms = world.order->next_deadline_ms;
    assert_int_equal(world.now_ms, WORLD_START_MS + HELD_DEADLINE_MS);
    assert_int_equal(world_tick(&world), 2);
    assert_int_equal(world_tick(&world), 2);
    assert_int_equal(order_held_count(world.order), 0);
    assert_int_equal(world_view(&world).captured, 3701);
    assert_int_equal(world.order->state, ORDER_PAID);
    assert_int_equal(world_tick(&world), 0);
}

static void nothing_held_is_nothing_to_resolve(void **unused) {
    struct command resolve = {.kind = COMMAND_RESOLVE_HELD, .subject = world.key};
    assert_int_equal(world_decide(&world, &resolve).code, RESULT_OK);
    expect(world_pay(&world, PAYMENT_CAPTURED, "card", 3700), RESULT_HELD);
    assert_int_equal(world_decide(&world, &resolve).code, RESULT_OK);
    assert_int_equal(world.turn_events, 0);
    assert_int_equal(order_held_count(world.order), 1);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        case_of(no_order_has_no_deadline),
        case_of(unpaid_orders_expire),
        case_of(orders_that_no_store_accepts_expire),
        case_of(payment_on_delivery_waits_for_acceptance_only),
        case_of(handed_over_orders_complete),
        case_of(picked_up_orders_complete_when_the_customer_came),
        case_of(acceptance_stops_the_clock),
        case_of(the_earliest_deadline_comes_first),
        case_of(a_payment_that_overtakes_its_place_counts),
        case_of(held_commands_are_resolved_in_their_order),
        case_of(a_held_command_may_be_refused),
        case_of(malformed_commands_are_not_held),
        case_of(money_without_an_order_goes_back),
        case_of(the_held_deadline_resolves_what_was_left),
        case_of(nothing_held_is_nothing_to_resolve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
