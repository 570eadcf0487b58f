/* Damaged and forged bytes: whatever passes the checks may be applied, decided on and shown without
 * a step outside the block. A broken invariant may still stop apply; here it jumps back instead of
 * ending the process. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "actors/order/order_layout.h"
#include "tests/unit/actors/order_world.h"

static jmp_buf broken;
static uint32_t broken_count, passed_count;

/* Takes the place of the base's, which would end the test. */
_Noreturn void check_failed(const char *file, int line, const char *function, const char *what) {
    broken_count++;
    longjmp(broken, 1);
}

static uint64_t random_state = 88172645463325252ULL;
static uint32_t random_below(uint32_t below) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 20) % below);
}

static void flip(uint8_t *bytes, uint32_t size) {
    for (uint32_t flips = 1 + random_below(3); flips > 0; flips--) {
        uint32_t at = random_below(size);
        switch (random_below(3)) {
        case 0: bytes[at] ^= (uint8_t)(1u << random_below(8)); break;
        case 1: bytes[at] = (uint8_t)random_below(256); break;
        default: bytes[at] = random_below(2) ? 0 : 0xff; break;
        }
    }
}

/* An order with everything: cut lines, parts of all kinds, a rider, notes. */
static void fill_world(struct world *w, bool awaited) {
    static struct line_cancellation cut = {2, 1};
    struct command early = world_cancel(w, PARTY_CUSTOMER, &cut, 1);
    world_decide(w, &early);
    struct command pay = world_pay(w, PAYMENT_CAPTURED, "early", 100);
    world_decide(w, &pay);
    if (awaited) return;
    struct command place = world_place(w, FULFILMENT_PARCEL, PAYMENT_PREPAID);
    place.place.attributes = bytes_of("\x81\xa1k\x01", 4);
    struct command rest[] = {place,
                             world_pay(w, PAYMENT_AUTHORISED, "hold", 50),
                             world_pay(w, PAYMENT_CAPTURED, "card", 3600),
                             world_amend(w, world_lines, 3, 0, 0, 3500),
                             world_command(w, COMMAND_ACCEPT),
                             world_rider(w, "rider-0001"),
                             world_command(w, COMMAND_PICK_UP),
                             world_cancel(w, PARTY_CUSTOMER, &cut, 1),
                             world_refund(w, 10)};
    for (uint32_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        assert_int_equal(world_do(w, &rest[i]).code, RESULT_OK);
    }
}

/* Reads all of a block, and asks it everything. */
static void use_block(struct world *w, const struct actor *order) {
    struct order_view view;
    struct order_line_view line;
    struct order_payment_view part;
    uint32_t cursor = 0;
    order_view(order, &view);
    for (uint32_t i = 0; i < view.lines_count; i++) order_view_line(order, i, &cursor, &line);
    cursor = 0;
    for (uint32_t i = 0; i < view.payments_count; i++) {
        order_view_payment(order, i, &cursor, &part);
    }
    struct line_cancellation cuts[] = {{0, 1}, {2, 1}};
    struct command commands[] = {world_pay(w, PAYMENT_CAPTURED, "card", 1),
                                 world_pay(w, PAYMENT_CAPTURED, "hold", 50),
                                 world_refund(w, 0),
                                 world_cancel(w, PARTY_CUSTOMER, cuts, 2),
                                 world_cancel(w, PARTY_CUSTOMER, NULL, 0),
                                 world_place(w, FULFILMENT_PICKUP, PAYMENT_PREPAID),
                                 {.kind = COMMAND_TIMER_DUE},
                                 {.kind = COMMAND_RESOLVE_HELD}};
    for (uint32_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct event_sink sink = {.data = w->turn, .capacity = EVENT_BYTES_MAX};
        struct decide_context context = {.index = 99, .now_ms = w->now_ms + TIMEOUT_MS_MAX};
        uint32_t offset = 0;
        const struct event *event;
        uint32_t room = order->bytes;
        struct actor *volatile copy = malloc(room);
        assert_non_null(copy);
        memcpy(copy, order, room);
        if (setjmp(broken) == 0) {
            order_decide(copy, &commands[i], &context, &sink);
            while ((event = event_next(sink.data, sink.size, &offset))) {
                struct apply_context applied = {.index = 99, .time_ms = context.now_ms};
                room = order_bytes_after(copy, event);
                copy = realloc(copy, room);
                assert_non_null(copy);
                order_apply(copy, event, &applied);
            }
        }
        free(copy);
    }
}

static void flip_blocks(bool awaited, uint32_t rounds) {
    struct world w;
    world_init(&w);
    fill_world(&w, awaited);
    uint32_t size = w.order->bytes;
    assert_true(order_is_well_formed(w.order, size));
    for (uint32_t i = 0; i < rounds; i++) {
        uint8_t *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, w.order, size);
        flip(copy, size);
        if (order_is_well_formed(copy, size)) {
            passed_count++;
            use_block(&w, (const struct actor *)(const void *)copy);
        }
        free(copy);
    }
    world_fini(&w);
}

static void damaged_blocks_do_no_harm(void **unused) {
    passed_count = 0;
    flip_blocks(false, 30000);
    flip_blocks(true, 30000);
    print_message("%u damaged blocks passed, %u invariants broken\n", passed_count, broken_count);
    assert_true(passed_count > 100);
}

static void cut_blocks_are_refused(void **unused) {
    struct world w;
    world_init(&w);
    fill_world(&w, false);
    for (uint32_t size = 0; size < w.order->bytes; size++) {
        uint8_t *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy, w.order, size);
        assert_false(order_is_well_formed(copy, size));
        if (size >= sizeof(struct actor)) {
            struct actor *head = (struct actor *)(void *)copy;
            head->bytes = size; /* also when it says that it is whole */
            assert_false(order_is_well_formed(copy, size));
        }
        free(copy);
    }
    assert_false(order_is_well_formed(NULL, 0));
    world_fini(&w);
}

/* Each invariant by itself: one number of a whole order is changed, and exactly what no longer
 * holds is named. */
static void each_broken_invariant_is_named(void **unused) {
    struct world w;
    world_init(&w);
    fill_world(&w, false);
    struct order *o = (struct order *)(void *)w.order, whole = *o;
    assert_null(order_invariant_fault(w.order));
    assert_true(o->refunded > 0 && o->refund_owed > 0 && o->held_count == 0);
#define names(change, words)                                                                       \
    do {                                                                                           \
        change;                                                                                    \
        const char *fault = order_invariant_fault(w.order);                                        \
        *o = whole;                                                                                \
        assert_non_null(fault);                                                                    \
        if (!strstr(fault, words)) fail_msg("%s: %s", #change, fault);                             \
    } while (0)
    names(o->actor.bytes += 20, "order_bytes_of_sections");
    names(o->actor.state = ORDER_EXPIRED + 1, "actor->state <=");
    names(o->actor.state = 0, "actor->state >=");
    names((o->fees -= o->fees + 1, o->total -= whole.fees + 1), "fees >= 0");
    names((o->discounts -= 1, o->total += 1), "discounts >= 0");
    names((o->lines_total = -1, o->total = o->fees - o->discounts - 1), "lines_total >= 0");
    names(o->total += 1, "== order->total");
    names((o->discounts += o->total + 1, o->total = -1), "order->total >= 0");
    names((o->refund_owed = 0, o->refunded = o->captured + 1), "refunded <= order->captured");
    names((o->refund_owed = 0, o->refunded = -1), "refunded >= 0");
    names(o->refund_owed = o->captured - o->refunded + 1, "refund_owed <=");
    names(o->refund_owed = -1, "refund_owed >= 0");
    names(o->end_deadline_ms = 0, "end_deadline_ms != 0");
    names(o->fulfilment = 0, "order_was_placed");
    names(o->held_count = 1, "held_count");
#undef names
    assert_null(order_lines_fault(w.order));
    o->lines_total++;
    assert_non_null(order_lines_fault(w.order));
    *o = whole;
    uint8_t *line = (uint8_t *)o + order_lines_at(o);
    struct order_line_read read = order_line_get(line);
    order_number_put(line + read.cancelled_at, read.quantity_width, (uint64_t)read.quantity + 1);
    o->lines_total -= (read.quantity - read.cancelled + 1) * read.unit_price;
    assert_non_null(order_lines_fault(w.order)); /* less than nothing is left of it */
    *o = whole;
    order_number_put(line + read.cancelled_at, read.quantity_width, (uint64_t)read.cancelled);
    assert_null(order_lines_fault(w.order));
    assert_null(order_parts_fault(w.order));
    o->captured++;
    assert_non_null(order_parts_fault(w.order));
    *o = whole;
    world_fini(&w);
}

/* Applies the world's first `count` events, then a damaged copy of the next one. */
static void apply_damaged(const struct world *w, uint32_t count, const struct event *damaged) {
    struct actor *volatile block = NULL;
    if (setjmp(broken) == 0) {
        uint32_t offset = 0;
        for (uint32_t i = 0; i <= count; i++) {
            const struct event *event =
                i < count ? event_next(w->log, w->log_bytes, &offset) : damaged;
            struct apply_context context = {.index = i + 1, .time_ms = WORLD_START_MS};
            uint32_t before = block ? block->bytes : 0;
            uint32_t room = order_bytes_after(block, event);
            struct actor *grown = calloc(1, room);
            assert_non_null(grown);
            if (block) memcpy(grown, block, before);
            free(block);
            block = grown;
            order_apply(grown, event, &context);
        }
    }
    free(block);
}

static void damaged_events_do_no_harm(void **unused) {
    struct world w;
    world_init(&w);
    fill_world(&w, false);
    passed_count = 0;
    for (uint32_t round = 0; round < 60000; round++) {
        uint32_t offset = 0, number = random_below(w.events_count);
        const struct event *event = NULL;
        for (uint32_t i = 0; i <= number; i++) event = event_next(w.log, w.log_bytes, &offset);
        uint32_t bytes = event->bytes;
        uint8_t *copy = malloc(bytes);
        assert_non_null(copy);
        memcpy(copy, event, bytes);
        if (random_below(4)) {
            flip(copy + 4, 8); /* kind, schema, state, flags, version */
        } else {
            flip(copy, bytes);
        }
        uint32_t from = 0;
        const struct event *damaged = event_next(copy, bytes, &from);
        if (damaged && order_event_is_well_formed(damaged)) {
            passed_count++;
            apply_damaged(&w, number, damaged);
        }
        free(copy);
    }
    print_message("%u damaged events passed, %u invariants broken\n", passed_count, broken_count);
    assert_true(passed_count > 100);
    world_fini(&w);
}

static void events_are_walked_to_the_first_fault(void **unused) {
    struct world w;
    world_init(&w);
    fill_world(&w, false);
    for (uint32_t size = 0; size < w.log_bytes; size++) {
        uint32_t offset = 0, count = 0;
        while (event_next(w.log, size, &offset)) count++;
        assert_true(offset <= size);
        assert_true(count < w.events_count);
    }
    struct event event = {.bytes = sizeof event + 4};
    uint32_t offset = 0;
    assert_null(event_next(&event, sizeof event, &offset));
    event = (struct event){.bytes = sizeof event, .flags = EVENT_FLAG_TRACED};
    assert_false(order_event_is_well_formed(&event));
    assert_null(event_next(&event, sizeof event, &offset));
    assert_int_equal(offset, 0);
    world_fini(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_blocks_do_no_harm),
        cmocka_unit_test(cut_blocks_are_refused),
        cmocka_unit_test(each_broken_invariant_is_named),
        cmocka_unit_test(damaged_events_do_no_harm),
        cmocka_unit_test(events_are_walked_to_the_first_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
