/* Every refusal of the order rules, their precedence, and what a retry gets. */
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
    world_fini(&world);
    return 0;
}

static void expect_at(int line, struct command command, uint16_t code) {
    struct decision decision = world_do(&world, &command);
    if (decision.code != code) {
        fail_msg("line %d: got %s", line, result_code_name(decision.code));
    }
    if (code >= 50) assert_int_equal(world.turn_events, 0);
}
#define expect(...) expect_at(__LINE__, __VA_ARGS__)

static struct command good_place(void) {
    return world_place(&world, FULFILMENT_PLATFORM_DELIVERY, PAYMENT_PREPAID);
}

static void place_checks_its_basket(void **unused) {
    struct order_line lines[2] = {world_lines[0], world_lines[1]};
    struct command c = good_place();
    c.place.lines_count = 0;
    expect(c, RESULT_LINES_MISSING);
    c = good_place();
    c.place.lines = lines;
    c.place.lines_count = 2;
    c.place.fees = c.place.discounts = 0;
    c.place.total = 2500;
    lines[1].quantity = 0;
    lines[0].unit_price = -1;
    expect(c, RESULT_QUANTITY_NOT_POSITIVE);
    lines[1].quantity = INT64_MAX;
    expect(c, RESULT_QUANTITY_TOO_LARGE);
    lines[1].quantity = ORDER_QUANTITY_MAX + 1LL;
    expect(c, RESULT_QUANTITY_TOO_LARGE);
    lines[1].quantity = 1;
    expect(c, RESULT_MONEY_NEGATIVE);
    lines[0].unit_price = ORDER_MONEY_MAX + 1;
    expect(c, RESULT_MONEY_TOO_LARGE);
    lines[0].unit_price = ORDER_MONEY_MAX;
    expect(c, RESULT_MONEY_TOO_LARGE); /* twice the most */
    lines[0] = (struct order_line){world_lines[0].sku, world_lines[0].name, ORDER_QUANTITY_MAX,
                                   ORDER_MONEY_MAX};
    expect(c, RESULT_MONEY_TOO_LARGE);
    lines[0] = world_lines[0];
    c.place.fees = -1;
    expect(c, RESULT_MONEY_NEGATIVE);
    c.place.fees = INT64_MAX;
    expect(c, RESULT_MONEY_TOO_LARGE);
    c.place.fees = 0;
    c.place.total = 2501;
    expect(c, RESULT_TOTAL_MISMATCH);
    c.place.discounts = 2501;
    c.place.total = -1;
    expect(c, RESULT_MONEY_NEGATIVE);
    c.place.total = 0;
    expect(c, RESULT_TOTAL_MISMATCH);
    c.place.discounts = 0;
    c.place.total = 2500;
    memcpy(c.place.currency, "krw", 4);
    expect(c, RESULT_CURRENCY_INVALID);
    memcpy(c.place.currency, "KRWX", 4);
    expect(c, RESULT_CURRENCY_INVALID);
    memcpy(c.place.currency, "KRW", 4);
    world.store_paused = true;
    c.place.lines_count = 0;
    expect(c, RESULT_STORE_PAUSED);
    world.store_paused = false;
    c.place.lines_count = 2;
    expect(c, RESULT_OK);
}

static void shape_is_checked_where_the_rules_begin(void **unused) {
    static const char long_text[NOTE_BYTES_MAX + 1] = {'x'};
    struct command c = good_place();
    c.malformed = RESULT_WRONG_TYPE;
    expect(c, RESULT_WRONG_TYPE);
    c = good_place();
    c.place.store.size = 0;
    expect(c, RESULT_FIELD_MISSING);
    c = good_place();
    c.place.customer = bytes_of(long_text, ID_TEXT_BYTES_MAX + 1);
    expect(c, RESULT_TEXT_TOO_LONG);
    c = good_place();
    c.place.fulfilment = 5;
    expect(c, RESULT_NUMBER_OUT_OF_RANGE);
    c = good_place();
    c.place.payment_timing = 0;
    expect(c, RESULT_NUMBER_OUT_OF_RANGE);
    c = good_place();
    c.place.auto_complete_ms = TIMEOUT_MS_MAX + 1;
    expect(c, RESULT_NUMBER_OUT_OF_RANGE);
    c = good_place();
    c.place.lines_count = ORDER_LINES_MAX + 1;
    expect(c, RESULT_TOO_MANY_ITEMS);
    c = good_place();
    c.id = (struct id128){{0}};
    expect(c, RESULT_COMMAND_ID_MISSING);
    c = good_place();
    c.subject = (struct id128){{0}};
    expect(c, RESULT_KEY_MISSING);
    c = world_command(&world, 33);
    expect(c, RESULT_UNKNOWN_COMMAND);
    c = world_command(&world, COMMAND_STORE_PAUSE);
    expect(c, RESULT_UNKNOWN_COMMAND);
    c = world_pay(&world, PAYMENT_VOIDED, "a", 1);
    expect(c, RESULT_NUMBER_OUT_OF_RANGE);
    c = world_pay(&world, PAYMENT_CAPTURED, "", 1);
    expect(c, RESULT_FIELD_MISSING);
    c = world_command(&world, COMMAND_ACCEPT);
    c.accept.preparation_minutes = PREPARATION_MINUTES_MAX + 1;
    expect(c, RESULT_NUMBER_OUT_OF_RANGE);
    c = world_command(&world, COMMAND_REJECT);
    c.reject.reason = bytes_of(long_text, REASON_BYTES_MAX + 1);
    expect(c, RESULT_TEXT_TOO_LONG);
    c = world_command(&world, COMMAND_ASSIGN_RIDER);
    expect(c, RESULT_FIELD_MISSING);
    c = world_command(&world, COMMAND_ANNOTATE);
    expect(c, RESULT_FIELD_MISSING);
    c.annotate.note = bytes_of(long_text, NOTE_BYTES_MAX + 1);
    expect(c, RESULT_TEXT_TOO_LONG);
    c = world_cancel(&world, 0, NULL, 0);
    expect(c, RESULT_NUMBER_OUT_OF_RANGE);
    c = world_cancel(&world, PARTY_SYSTEM, NULL, ORDER_LINES_MAX + 1);
    expect(c, RESULT_TOO_MANY_ITEMS);
}

static void keys_have_a_time(void **unused) {
    struct command c = good_place();
    c.subject = world_key(world.now_ms + KEY_FUTURE_MS_MAX + 1, 1);
    expect(c, RESULT_KEY_FROM_FUTURE);
    c.subject = world_key(world.now_ms - KEY_PAST_MS_MAX - 1, 1);
    expect(c, RESULT_KEY_TOO_OLD);
    c = world_command(&world, COMMAND_MARK_READY);
    c.subject = world_key(world.now_ms - KEY_PAST_MS_MAX - 1, 1);
    expect(c, RESULT_KEY_TOO_OLD);
    c = world_cancel(&world, PARTY_CUSTOMER, NULL, 0);
    c.subject = world_key(world.now_ms + KEY_FUTURE_MS_MAX + 1, 1);
    expect(c, RESULT_KEY_FROM_FUTURE);
    world.key = world_key(world.now_ms + KEY_FUTURE_MS_MAX, 1);
    expect(good_place(), RESULT_OK);
    world.now_ms += KEY_PAST_MS_MAX * 2; /* a known order may be as old as it likes */
    struct command note = world_command(&world, COMMAND_ANNOTATE);
    note.annotate.note = bytes_of_text("n");
    expect(note, RESULT_OK);
}

static void a_retired_order_stays_dead(void **unused) {
    struct command place = good_place();
    expect(place, RESULT_OK);
    expect(world_cancel(&world, PARTY_CUSTOMER, NULL, 0), RESULT_OK);
    world.now_ms = world.order->next_deadline_ms;
    assert_int_equal(world_tick(&world), 1);
    assert_true(world.order->flags & ACTOR_RETIRED);
    expect(good_place(), RESULT_KEY_TOO_OLD);
    expect(world_pay(&world, PAYMENT_CAPTURED, "late", 5), RESULT_KEY_TOO_OLD);
    expect(world_command(&world, COMMAND_GET), RESULT_ORDER_NOT_FOUND);
    struct world fresh; /* and once its block is gone, the key is too old as well */
    world_init(&fresh);
    fresh.now_ms = world.now_ms;
    assert_int_equal(world_do(&fresh, &place).code, RESULT_KEY_TOO_OLD);
    world_fini(&fresh);
}

static void retries_get_the_first_answer(void **unused) {
    struct command place = good_place();
    expect(place, RESULT_OK);
    struct command pay = world_pay(&world, PAYMENT_CAPTURED, "a", 3700);
    expect(pay, RESULT_OK);
    struct command accept = world_command(&world, COMMAND_ACCEPT);
    expect(accept, RESULT_OK);
    expect(world_cancel(&world, PARTY_STORE, NULL, 0), RESULT_OK);
    struct command *all[] = {&place, &pay, &accept};
    for (uint32_t i = 0; i < 3; i++) {
        all[i]->expected_version = 77; /* does not count for a retry */
        struct decision d = world_do(&world, all[i]);
        assert_int_equal(d.code, RESULT_OK);
        assert_true(d.repeated);
        assert_int_equal(d.version, i + 1);
        assert_int_equal(world.turn_events, 0);
    }
    struct command reused = world_command(&world, COMMAND_REJECT);
    reused.id = accept.id;
    expect(reused, RESULT_COMMAND_ID_REUSED);
}

static void refused_commands_are_decided_anew(void **unused) {
    struct command accept = world_command(&world, COMMAND_ACCEPT);
    expect(accept, RESULT_ORDER_NOT_FOUND);
    expect(good_place(), RESULT_OK);
    expect(accept, RESULT_PAYMENT_REQUIRED);
    expect(world_pay(&world, PAYMENT_CAPTURED, "a", 3700), RESULT_OK);
    expect(accept, RESULT_OK);
    expect(good_place(), RESULT_ORDER_EXISTS);
}

static void versions_conflict(void **unused) {
    struct command place = good_place();
    place.expected_version = 4;
    expect(place, RESULT_VERSION_CONFLICT);
    place.expected_version = 0;
    expect(place, RESULT_OK);
    struct command note = world_command(&world, COMMAND_ANNOTATE);
    note.annotate.note = bytes_of_text("n");
    note.expected_version = 2;
    struct decision d = world_do(&world, &note);
    assert_int_equal(d.code, RESULT_VERSION_CONFLICT);
    assert_int_equal(d.version, 1);
    note.expected_version = 1;
    expect(note, RESULT_OK);
    expect(world_cancel(&world, PARTY_CUSTOMER, NULL, 0), RESULT_OK);
    struct command accept = world_command(&world, COMMAND_ACCEPT);
    accept.expected_version = 1; /* ended comes before conflict */
    expect(accept, RESULT_ORDER_HAS_ENDED);
}

static void an_order_remembers_so_many_commands(void **unused) {
    expect(good_place(), RESULT_OK);
    struct command note = world_command(&world, COMMAND_ANNOTATE);
    for (uint32_t i = 1; i < ORDER_COMMANDS_MAX; i++) {
        note.id = world_id(1000000 + i);
        note.annotate.note = bytes_of_text("n");
        expect(note, RESULT_OK);
    }
    note.id = world_id(5);
    expect(note, RESULT_COMMANDS_LIMIT_REACHED);
    note.id = world_id(1000001);
    struct decision d = world_do(&world, &note);
    assert_int_equal(d.code, RESULT_OK);
    assert_int_equal(d.version, 2);
    assert_true(d.repeated);
    world_check_fold(&world);
}

static void lines_are_known_and_limited(void **unused) {
    struct line_cancellation cut[] = {{3, 1}, {0, 1}};
    expect(good_place(), RESULT_OK);
    expect(world_cancel(&world, PARTY_CUSTOMER, cut, 1), RESULT_LINE_UNKNOWN);
    cut[0] = (struct line_cancellation){0, 3};
    expect(world_cancel(&world, PARTY_CUSTOMER, cut, 1), RESULT_LINE_QUANTITY_EXCEEDED);
    cut[0].quantity = 2; /* and one more of the same line */
    expect(world_cancel(&world, PARTY_CUSTOMER, cut, 2), RESULT_LINE_QUANTITY_EXCEEDED);
    cut[1].quantity = ORDER_QUANTITY_MAX + 1LL;
    expect(world_cancel(&world, PARTY_CUSTOMER, cut, 2), RESULT_QUANTITY_TOO_LARGE);
    cut[0].quantity = 0;
    expect(world_cancel(&world, PARTY_CUSTOMER, cut, 2), RESULT_QUANTITY_NOT_POSITIVE);
    cut[0].quantity = INT64_MIN;
    expect(world_cancel(&world, PARTY_CUSTOMER, cut, 2), RESULT_QUANTITY_NOT_POSITIVE);
}

static void payments_are_consistent(void **unused) {
    expect(good_place(), RESULT_OK);
    expect(world_pay(&world, PAYMENT_CAPTURED, "a", ORDER_MONEY_MAX + 1), RESULT_MONEY_TOO_LARGE);
    expect(world_pay(&world, PAYMENT_CAPTURED, "a", 0), RESULT_AMOUNT_NOT_POSITIVE);
    expect(world_pay(&world, PAYMENT_CAPTURED, "a", INT64_MIN), RESULT_AMOUNT_NOT_POSITIVE);
    expect(world_pay(&world, PAYMENT_AUTHORISED, "a", 3000), RESULT_OK);
    expect(world_pay(&world, PAYMENT_CAPTURED, "a", 2999), RESULT_PAYMENT_AMOUNT_DIFFERS);
    expect(world_pay(&world, PAYMENT_CAPTURED, "a", 3000), RESULT_OK);
    expect(world_pay(&world, PAYMENT_FAILED, "a", 3000), RESULT_PAYMENT_STATE_CONFLICT);
    expect(world_pay(&world, PAYMENT_AUTHORISED, "a", 1), RESULT_PAYMENT_STATE_CONFLICT);
    for (char name[] = "b"; name[0] < 'b' + ORDER_PAYMENTS_MAX - 1; name[0]++) {
        expect(world_pay(&world, PAYMENT_FAILED, name, 1), RESULT_OK);
    }
    expect(world_pay(&world, PAYMENT_FAILED, "z", 1), RESULT_PAYMENTS_LIMIT_REACHED);
    expect(world_refund(&world, -1), RESULT_AMOUNT_NOT_POSITIVE);
    expect(world_refund(&world, 3001), RESULT_REFUND_EXCEEDS_CAPTURED);
    expect(world_refund(&world, INT64_MAX), RESULT_REFUND_EXCEEDS_CAPTURED);
    expect(world_refund(&world, 0), RESULT_OK);
    expect(world_refund(&world, 0), RESULT_NOTHING_TO_REFUND);
}

static void held_commands_are_limited(void **unused) {
    for (uint32_t i = 0; i < ORDER_HELD_MAX; i++) {
        expect(world_pay(&world, PAYMENT_AUTHORISED, "a", 10 + i), RESULT_HELD);
    }
    expect(world_cancel(&world, PARTY_CUSTOMER, NULL, 0), RESULT_HELD_LIMIT_REACHED);
    expect(world_pay(&world, PAYMENT_AUTHORISED, "b", 0), RESULT_HELD_LIMIT_REACHED);
    world.now_ms = world.order->next_deadline_ms;
    assert_int_equal(world_tick(&world), 1);
    expect(good_place(), RESULT_ORDER_EXPIRED_BEFORE_PLACED);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        case_of(place_checks_its_basket),
        case_of(shape_is_checked_where_the_rules_begin),
        case_of(keys_have_a_time),
        case_of(a_retired_order_stays_dead),
        case_of(retries_get_the_first_answer),
        case_of(refused_commands_are_decided_anew),
        case_of(versions_conflict),
        case_of(an_order_remembers_so_many_commands),
        case_of(lines_are_known_and_limited),
        case_of(payments_are_consistent),
        case_of(held_commands_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
