/* Payment parts, refunds, line cancellations, amendments, and money at its bounds. */
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

static void done_at(int line, struct command command) {
    struct decision decision = world_do(&world, &command);
    if (decision.code != RESULT_OK) {
        fail_msg("line %d: got %s", line, result_code_name(decision.code));
    }
}
#define done(...) done_at(__LINE__, __VA_ARGS__)

static void check_at(int line, uint8_t state, int64_t total, int64_t captured, int64_t refunded,
                     int64_t owed) {
    struct order_view v = world_view(&world);
    if (v.state != state || v.total != total || v.captured != captured || v.refunded != refunded ||
        v.refund_owed != owed) {
        fail_msg("line %d: %s, total %lld, captured %lld, refunded %lld, owed %lld", line,
                 order_state_name(v.state), (long long)v.total, (long long)v.captured,
                 (long long)v.refunded, (long long)v.refund_owed);
    }
}
#define check(...) check_at(__LINE__, __VA_ARGS__)

static uint8_t part_state(uint32_t i) {
    struct order_payment_view part;
    uint32_t cursor = 0;
    order_view_payment(world.order, i, &cursor, &part);
    return part.state;
}

static void parts_add_up_to_paid(void **unused) {
    done(world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID));
    done(world_pay(&world, PAYMENT_CAPTURED, "voucher", 700));
    check(ORDER_PLACED, 3700, 700, 0, 0);
    done(world_pay(&world, PAYMENT_AUTHORISED, "card", 3000));
    assert_int_equal(world_view(&world).authorised, 3000);
    check(ORDER_PLACED, 3700, 700, 0, 0);
    assert_int_equal(world_view(&world).payment_deadline_ms, WORLD_START_MS + PAYMENT_DEADLINE_MS);
    world.now_ms += 1000;
    done(world_pay(&world, PAYMENT_CAPTURED, "card", 3000));
    check(ORDER_PAID, 3700, 3700, 0, 0);
    assert_int_equal(world_view(&world).authorised, 0);
    assert_int_equal(world_view(&world).payments_count, 2);
    assert_int_equal(world_view(&world).payment_deadline_ms, 0);
    assert_int_equal(world_view(&world).acceptance_deadline_ms,
                     world.now_ms + ACCEPTANCE_DEADLINE_MS);
}

static void a_report_that_is_known_changes_nothing(void **unused) {
    done(world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID));
    done(world_pay(&world, PAYMENT_CAPTURED, "card", 3700));
    struct command again = world_pay(&world, PAYMENT_CAPTURED, "card", 3700);
    struct decision d = world_do(&world, &again);
    assert_int_equal(d.code, RESULT_OK);
    assert_true(d.repeated);
    assert_int_equal(d.version, 2);
    assert_int_equal(world.turn_events, 0);
    check(ORDER_PAID, 3700, 3700, 0, 0);
}

static void a_failed_part_may_be_tried_again(void **unused) {
    done(world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID));
    done(world_pay(&world, PAYMENT_FAILED, "card", 3700));
    check(ORDER_PLACED, 3700, 0, 0, 0);
    assert_int_equal(part_state(0), PAYMENT_FAILED);
    done(world_pay(&world, PAYMENT_AUTHORISED, "card", 3700));
    assert_int_equal(part_state(0), PAYMENT_AUTHORISED);
    done(world_pay(&world, PAYMENT_CAPTURED, "card", 3700));
    check(ORDER_PAID, 3700, 3700, 0, 0);
    assert_int_equal(world_view(&world).payments_count, 1);
}

static void double_approval_is_owed_back(void **unused) {
    done(world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID));
    done(world_pay(&world, PAYMENT_CAPTURED, "card-1", 3700));
    done(world_pay(&world, PAYMENT_CAPTURED, "card-2", 3700));
    check(ORDER_PAID, 3700, 7400, 0, 3700);
    done(world_refund(&world, 1000));
    check(ORDER_PAID, 3700, 7400, 1000, 2700);
    world.now_ms = world_view(&world).acceptance_deadline_ms - 1;
    done(world_command(&world, COMMAND_ACCEPT));
    world.now_ms = world_view(&world).refund_deadline_ms;
    assert_int_equal(world_tick(&world), 1);
    assert_int_equal(world_event(&world, 0)->kind, EVENT_ORDER_REFUNDED);
    check(ORDER_ACCEPTED, 3700, 7400, 3700, 0);
    assert_int_equal(world_tick(&world), 0);
}

static void an_end_gives_money_back_and_releases_what_was_only_authorised(void **unused) {
    done(world_place(&world, FULFILMENT_STORE_DELIVERY, PAYMENT_PREPAID));
    done(world_pay(&world, PAYMENT_AUTHORISED, "hold", 700));
    done(world_pay(&world, PAYMENT_CAPTURED, "card", 3000));
    done(world_command(&world, COMMAND_REJECT));
    check(ORDER_REJECTED, 3700, 3000, 0, 3000);
    assert_int_equal(part_state(0), PAYMENT_VOIDED);
    assert_int_equal(world.order->flags, 0);
    assert_int_equal(world_view(&world).retention_deadline_ms, 0);
    world.now_ms += REFUND_DEADLINE_MS;
    assert_int_equal(world_tick(&world), 1);
    check(ORDER_REJECTED, 3700, 3000, 3000, 0);
    assert_int_equal(world.order->flags, ACTOR_CLOSED);
    assert_int_equal(world_view(&world).retention_deadline_ms,
                     WORLD_START_MS + KEY_PAST_MS_MAX + 1);
    /* The hold was captured all the same: a fact, and owed back. */
    done(world_pay(&world, PAYMENT_CAPTURED, "hold", 700));
    check(ORDER_REJECTED, 3700, 3700, 3000, 700);
    assert_int_equal(world.order->flags, 0);
    assert_int_equal(world_view(&world).refund_deadline_ms, world.now_ms + REFUND_DEADLINE_MS);
    /* A new authorisation of an ended order is released at once. */
    done(world_pay(&world, PAYMENT_AUTHORISED, "late", 5));
    assert_int_equal(part_state(2), PAYMENT_VOIDED);
    done(world_refund(&world, 0));
    check(ORDER_REJECTED, 3700, 3700, 3700, 0);
    assert_int_equal(world.order->flags, ACTOR_CLOSED);
}

static void cut_lines_lower_the_total(void **unused) {
    struct line_cancellation cuts[] = {{2, 1}, {0, 1}, {2, 2}};
    assert_true(world_bring_to(&world, FULFILMENT_STORE_DELIVERY, PAYMENT_PREPAID, ORDER_READY));
    done(world_cancel(&world, PARTY_STORE, cuts, 3));
    check(ORDER_READY, 3700 - 3 * 250 - 1000, 3700, 0, 1750);
    struct order_line_view line;
    uint32_t cursor = 0;
    order_view_line(world.order, 2, &cursor, &line);
    assert_int_equal(line.cancelled, 3);
    assert_int_equal(line.quantity, 4);
    struct line_cancellation more[] = {{0, 1}, {1, 1}};
    done(world_cancel(&world, PARTY_STORE, more, 2));
    check(ORDER_READY, 450, 3700, 0, 3250); /* 250 + 300 fees - 100 */
    assert_int_equal(world_view(&world).refund_deadline_ms, world.now_ms + REFUND_DEADLINE_MS);
    struct line_cancellation last = {2, 1};
    done(world_cancel(&world, PARTY_STORE, &last, 1));
    check(ORDER_CANCELLED, 450, 3700, 0, 3700);
    assert_int_equal(world_view(&world).ended_by, PARTY_STORE);
    assert_int_equal(world_event(&world, 0)->kind, EVENT_ORDER_CANCELLED);
}

static void discounts_shrink_rather_than_the_total_be_negative(void **unused) {
    struct command place = world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID);
    place.place.discounts = 3000;
    place.place.total = 800;
    done(place);
    struct line_cancellation cuts[] = {{0, 2}};
    done(world_cancel(&world, PARTY_STORE, cuts, 1));
    assert_int_equal(world_view(&world).discounts, 1800);
    check(ORDER_PAID, 0, 0, 0, 0); /* nothing is left to pay */
    assert_int_equal(world_view(&world).acceptance_deadline_ms,
                     world.now_ms + ACCEPTANCE_DEADLINE_MS);
}

static void a_cut_may_make_an_order_paid(void **unused) {
    struct line_cancellation cuts[] = {{0, 2}};
    done(world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID));
    done(world_pay(&world, PAYMENT_CAPTURED, "card", 1700));
    done(world_cancel(&world, PARTY_CUSTOMER, cuts, 1));
    check(ORDER_PAID, 1700, 1700, 0, 0);
}

static void free_orders_need_no_payment(void **unused) {
    struct command place = world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID);
    place.place.discounts = 3800;
    place.place.total = 0;
    done(place);
    check(ORDER_PAID, 0, 0, 0, 0);
    done(world_command(&world, COMMAND_ACCEPT));
}

static void amend_replaces_the_basket(void **unused) {
    const struct order_line dear = {{"feast", 5}, {NULL, 0}, 1, 70000};
    const struct order_line cheap = {{"rice", 4}, {NULL, 0}, 1, 70};
    done(world_place(&world, FULFILMENT_PICKUP, PAYMENT_PREPAID));
    done(world_pay(&world, PAYMENT_CAPTURED, "card", 3700));
    world.now_ms += 5000;
    done(world_amend(&world, &dear, 1, 0, 0, 70000));
    check(ORDER_PLACED, 70000, 3700, 0, 0);
    int64_t deadline = world.now_ms + PAYMENT_DEADLINE_MS;
    assert_int_equal(world_view(&world).payment_deadline_ms, deadline);
    world.now_ms += 5000; /* a deadline that runs is not prolonged */
    done(world_amend(&world, &dear, 1, 1, 0, 70001));
    assert_int_equal(world_view(&world).payment_deadline_ms, deadline);
    done(world_amend(&world, &cheap, 1, 0, 20, 50));
    check(ORDER_PAID, 50, 3700, 0, 3650);
    assert_int_equal(world_view(&world).lines_count, 1);
    done(world_amend(&world, world_lines, 3, 200, 0, 3700));
    check(ORDER_PAID, 3700, 3700, 0, 0); /* the claim has grown again: nothing is owed */
    assert_int_equal(world_view(&world).refund_deadline_ms, 0);
}

static void parcels_come_back(void **unused) {
    struct line_cancellation cut = {0, 2};
    assert_true(world_bring_to(&world, FULFILMENT_PARCEL, PAYMENT_PREPAID, ORDER_DELIVERED));
    int64_t complete_at = world_view(&world).auto_complete_ms;
    assert_int_equal(complete_at, world.now_ms + AUTO_COMPLETE_PARCEL_MS);
    assert_int_equal(world.order->flags, ACTOR_OPEN | ACTOR_CLOSED);
    done(world_cancel(&world, PARTY_CUSTOMER, &cut, 1));
    check(ORDER_DELIVERED, 1700, 3700, 0, 2000);
    assert_int_equal(world.order->flags, ACTOR_OPEN);
    assert_int_equal(world_view(&world).auto_complete_ms, complete_at);
    done(world_cancel(&world, PARTY_CUSTOMER, NULL, 0));
    check(ORDER_CANCELLED, 1700, 3700, 0, 3700);
}

static void money_at_its_bounds(void **unused) {
    const struct order_line most = {{"gold", 4}, {NULL, 0}, ORDER_QUANTITY_MAX, 1000000};
    assert_int_equal(ORDER_QUANTITY_MAX * 1000000LL, ORDER_MONEY_MAX);
    struct command place = world_place(&world, FULFILMENT_PARCEL, PAYMENT_PREPAID);
    place.place.lines = &most;
    place.place.lines_count = 1;
    place.place.fees = place.place.discounts = ORDER_MONEY_MAX;
    place.place.total = ORDER_MONEY_MAX;
    done(place);
    char name[] = "a";
    for (; name[0] < 'a' + ORDER_PAYMENTS_MAX; name[0]++) {
        done(world_pay(&world, PAYMENT_CAPTURED, name, ORDER_MONEY_MAX));
    }
    check(ORDER_PAID, ORDER_MONEY_MAX, ORDER_PAYMENTS_MAX * ORDER_MONEY_MAX, 0,
          (ORDER_PAYMENTS_MAX - 1) * ORDER_MONEY_MAX);
    struct line_cancellation cut = {0, ORDER_QUANTITY_MAX - 1};
    done(world_cancel(&world, PARTY_CUSTOMER, &cut, 1));
    check(ORDER_PAID, 1000000, ORDER_PAYMENTS_MAX * ORDER_MONEY_MAX, 0,
          ORDER_PAYMENTS_MAX * ORDER_MONEY_MAX - 1000000);
    done(world_refund(&world, ORDER_PAYMENTS_MAX * ORDER_MONEY_MAX));
    check(ORDER_PAID, 1000000, ORDER_PAYMENTS_MAX * ORDER_MONEY_MAX,
          ORDER_PAYMENTS_MAX * ORDER_MONEY_MAX, 0);
}

static void the_largest_basket(void **unused) {
    static struct order_line lines[ORDER_LINES_MAX];
    static struct line_cancellation cuts[ORDER_LINES_MAX];
    static char sku[ID_TEXT_BYTES_MAX], name[LINE_NAME_BYTES_MAX];
    memset(sku, 's', sizeof sku);
    memset(name, 'n', sizeof name);
    int64_t total = 0;
    for (uint32_t i = 0; i < ORDER_LINES_MAX; i++) {
        lines[i] = (struct order_line){
            bytes_of(sku, sizeof sku), bytes_of(name, sizeof name), 2 + i * 1000, i * 77LL};
        cuts[i] = (struct line_cancellation){ORDER_LINES_MAX - 1 - i, 1};
        total += lines[i].quantity * lines[i].unit_price;
    }
    struct command place = world_place(&world, FULFILMENT_STORE_DELIVERY, PAYMENT_ON_DELIVERY);
    place.place.lines = lines;
    place.place.lines_count = ORDER_LINES_MAX;
    place.place.fees = place.place.discounts = 0;
    place.place.total = total;
    done(place);
    assert_int_equal(world_view(&world).lines_count, ORDER_LINES_MAX);
    done(world_cancel(&world, PARTY_CUSTOMER, cuts, ORDER_LINES_MAX));
    struct order_line_view line;
    uint32_t cursor = 0;
    for (uint32_t i = 0; i < ORDER_LINES_MAX; i++) {
        order_view_line(world.order, i, &cursor, &line);
        assert_int_equal(line.quantity, lines[i].quantity);
        assert_int_equal(line.unit_price, lines[i].unit_price);
        assert_int_equal(line.cancelled, 1);
        total -= line.unit_price;
    }
    assert_int_equal(world_view(&world).total, total);
    done(world_amend(&world, world_lines, 3, 0, 0, 3500));
    assert_int_equal(world_view(&world).lines_count, 3);
    assert_true(world.order->bytes < 500);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        case_of(parts_add_up_to_paid),
        case_of(a_report_that_is_known_changes_nothing),
        case_of(a_failed_part_may_be_tried_again),
        case_of(double_approval_is_owed_back),
        case_of(an_end_gives_money_back_and_releases_what_was_only_authorised),
        case_of(cut_lines_lower_the_total),
        case_of(discounts_shrink_rather_than_the_total_be_negative),
        case_of(a_cut_may_make_an_order_paid),
        case_of(free_orders_need_no_payment),
        case_of(amend_replaces_the_basket),
        case_of(parcels_come_back),
        case_of(money_at_its_bounds),
        case_of(the_largest_basket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
