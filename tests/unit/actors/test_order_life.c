/* The usual lives of an order, and what it weighs. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "tests/unit/actors/order_world.h"

static void order_lives_from_place_to_retirement(void **state) {
    struct world w;
    world_init(&w);
    assert_true(world_bring_to(&w, FULFILMENT_PLATFORM_DELIVERY, PAYMENT_PREPAID, ORDER_COMPLETED));
    world_check_fold(&w);
    struct order_view view = world_view(&w);
    assert_int_equal(view.version, 8);
    assert_int_equal(view.commands_count, 8);
    assert_int_equal(view.total, 3700);
    assert_int_equal(view.captured, 3700);
    assert_int_equal(view.refund_owed, 0);
    assert_int_equal(view.retention_deadline_ms,
                     WORLD_START_MS + KEY_PAST_MS_MAX + 1);
    assert_int_equal(w.order->flags, ACTOR_CLOSED);
    w.now_ms = view.retention_deadline_ms - 1;
    assert_int_equal(world_tick(&w), 0);
    w.now_ms++;
    assert_int_equal(world_tick(&w), 1);
    assert_int_equal(world_event(&w, 0)->kind, EVENT_ORDER_RETIRED);
    assert_int_equal(w.order->flags, ACTOR_CLOSED | ACTOR_RETIRED);
    assert_int_equal(w.order->next_deadline_ms, 0);
    assert_int_equal(world_tick(&w), 0);
    world_check_fold(&w);
    world_fini(&w);
}

/* Three lines, one captured part, a rider, six commands. */
static void order_weighs_less_than_480_bytes(void **state) {
    struct world w;
    world_init(&w);
    assert_true(world_bring_to(&w, FULFILMENT_PLATFORM_DELIVERY, PAYMENT_PREPAID, ORDER_PICKED_UP));
    assert_int_equal(world_view(&w).commands_count, 6);
    print_message("a live order with 3 lines: %u bytes\n", w.order->bytes);
    assert_true(w.order->bytes < 480);
    world_fini(&w);
}

static void order_shows_what_was_placed(void **state) {
    struct world w;
    world_init(&w);
    struct command place = world_place(&w, FULFILMENT_PARCEL, PAYMENT_ON_DELIVERY);
    place.place.group = bytes_of_text("basket-9");
    place.place.external_ref = bytes_of_text("A-1001");
    place.place.attributes = bytes_of("\x81\xa1k\x01", 4);
    assert_int_equal(world_do(&w, &place).code, RESULT_OK);
    struct order_view view = world_view(&w);
    assert_true(bytes_equal(view.store, bytes_of_text("store-0001")));
    assert_true(bytes_equal(view.customer, bytes_of_text("cust-00042")));
    assert_true(bytes_equal(view.group, bytes_of_text("basket-9")));
    assert_true(bytes_equal(view.external_ref, bytes_of_text("A-1001")));
    assert_true(bytes_equal(view.attributes, bytes_of("\x81\xa1k\x01", 4)));
    assert_true(bytes_equal(order_store(w.order), bytes_of_text("store-0001")));
    assert_string_equal(view.currency, "KRW");
    assert_int_equal(view.placed_ms, WORLD_START_MS);
    assert_int_equal(view.acceptance_deadline_ms, WORLD_START_MS + ACCEPTANCE_DEADLINE_MS);
    assert_int_equal(view.payment_deadline_ms, 0);
    uint32_t cursor = 0;
    for (uint32_t i = 0; i < 3; i++) {
        struct order_line_view line;
        order_view_line(w.order, i, &cursor, &line);
        assert_true(bytes_equal(line.sku, world_lines[i].sku));
        assert_true(bytes_equal(line.name, world_lines[i].name));
        assert_int_equal(line.quantity, world_lines[i].quantity);
        assert_int_equal(line.unit_price, world_lines[i].unit_price);
        assert_int_equal(line.cancelled, 0);
    }
    world_fini(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_lives_from_place_to_retirement),
        cmocka_unit_test(order_weighs_less_than_480_bytes),
        cmocka_unit_test(order_shows_what_was_placed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
