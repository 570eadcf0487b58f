#include "tests/unit/actors/order_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

enum { TURN_ROOM = 2u << 20 };

const struct order_line world_lines[3] = {
    {{"bibimbap", 8}, {"Bibimbap L", 10}, 2, 1000},
    {{"kimchi-1", 8}, {"Kimchi 200", 10}, 1, 500},
    {{"mandu-04", 8}, {"Mandu 4pcs", 10}, 4, 250},
};

struct id128 world_key(int64_t birth_ms, uint64_t salt) {
    struct id128 key = {{0}};
    for (int i = 0; i < 6; i++) key.bytes[i] = (uint8_t)(birth_ms >> (8 * (5 - i)));
    memcpy(key.bytes + 8, &salt, sizeof salt);
    return key;
}

struct id128 world_id(uint64_t n) {
    struct id128 id = {{0xc0}};
    memcpy(id.bytes + 8, &n, sizeof n);
    return id;
}

void world_init(struct world *w) {
    *w = (struct world){.now_ms = WORLD_START_MS, .index = 1};
    w->key = world_key(WORLD_START_MS, 7);
    w->turn = malloc(TURN_ROOM);
    assert_non_null(w->turn);
}

void world_fini(struct world *w) {
    free(w->order);
    free(w->log);
    free(w->indexes);
    free(w->times);
    free(w->turn);
}

struct command world_command(struct world *w, uint8_t kind) {
    return (struct command){.kind = kind, .subject = w->key, .id = world_id(++w->ids)};
}

static void *world_grow(void *memory, uint32_t *room, uint32_t need, uint32_t item) {
    if (need <= *room) return memory;
    *room = need * 2;
    memory = realloc(memory, (size_t)*room * item);
    assert_non_null(memory);
    return memory;
}

static void world_log(struct world *w, const struct event *event) {
    uint32_t room = w->events_room;
    w->log = world_grow(w->log, &w->log_room, w->log_bytes + event->bytes, 1);
    memcpy(w->log + w->log_bytes, event, event->bytes);
    w->log_bytes += event->bytes;
    w->indexes = world_grow(w->indexes, &room, w->events_count + 1, sizeof *w->indexes);
    w->times = world_grow(w->times, &w->events_room, w->events_count + 1, sizeof *w->times);
    w->indexes[w->events_count] = w->index;
    w->times[w->events_count] = w->now_ms;
    w->events_count++;
}

/* Room is exactly what bytes_after asked for, so that a sanitizer sees a byte too many. */
static struct actor *world_apply(struct actor *order, const struct event *event, uint64_t index,
                                 int64_t time_ms) {
    struct apply_context context = {.index = index, .time_ms = time_ms};
    uint32_t room = order_bytes_after(order, event);
    struct actor *block = calloc(1, room);
    assert_non_null(block);
    if (order) memcpy(block, order, order->bytes);
    free(order);
    order_apply(block, event, &context);
    assert_true(block->bytes <= room);
    return block;
}

struct decision world_decide(struct world *w, const struct command *command) {
    struct event_sink sink = {.data = w->turn, .capacity = TURN_ROOM};
    struct decide_context context = {
        .index = w->index, .now_ms = w->now_ms, .store_paused = w->store_paused};
    struct decision decision = order_decide(w->order, command, &context, &sink);
    uint32_t offset = 0;
    const struct event *event;
    while ((event = event_next(sink.data, sink.size, &offset))) {
        assert_true(order_event_is_well_formed(event));
        assert_int_equal(event->prev_index, w->order ? w->order->last_index : 0);
        assert_int_equal(event->state_before, w->order ? w->order->state : 0);
        w->order = world_apply(w->order, event, w->index, w->now_ms);
        assert_true(order_is_well_formed(w->order, w->order->bytes));
        assert_int_equal(w->order->state, event->state_after);
        world_log(w, event);
        w->newest_kind = event->kind;
    }
    assert_int_equal(offset, sink.size);
    w->turn_events = sink.events_count;
    assert_true(decision.repeated || decision.code == RESULT_ORDER_NOT_FOUND ||
                decision.version == (w->order ? w->order->version : 0));
    if (sink.size != 0) w->index++;
    return decision;
}

struct decision world_do(struct world *w, const struct command *command) {
    struct decision decision = world_decide(w, command);
    if (command->kind != COMMAND_PLACE || decision.code != RESULT_OK) return decision;
    while (order_held_count(w->order) > 0) {
        struct command resolve = {.kind = COMMAND_RESOLVE_HELD, .subject = w->key};
        uint32_t before = order_held_count(w->order);
        world_decide(w, &resolve);
        assert_int_equal(order_held_count(w->order), before - 1);
    }
    return decision;
}

uint32_t world_tick(struct world *w) {
    struct command due = {.kind = COMMAND_TIMER_DUE, .subject = w->key};
    assert_int_equal(world_decide(w, &due).code, RESULT_OK);
    return w->turn_events;
}

const struct event *world_event(const struct world *w, uint32_t n) {
    uint32_t offset = 0;
    const struct event *event = NULL;
    assert_true(n < w->events_count);
    for (uint32_t i = 0; i < w->events_count - n; i++) {
        event = event_next(w->log, w->log_bytes, &offset);
    }
    return event;
}

void world_check_fold(const struct world *w) {
    struct actor *block = NULL;
    uint32_t offset = 0;
    for (uint32_t i = 0; i < w->events_count; i++) {
        const struct event *event = event_next(w->log, w->log_bytes, &offset);
        block = world_apply(block, event, w->indexes[i], w->times[i]);
    }
    assert_int_equal(block == NULL, w->order == NULL);
    if (!block) return;
    assert_int_equal(block->bytes, w->order->bytes);
    assert_memory_equal(block, w->order, block->bytes);
    free(block);
}

/* -- commands ------------------------------------------------------------------------------ */

struct command world_place(struct world *w, uint8_t fulfilment, uint8_t payment_timing) {
    struct command c = world_command(w, COMMAND_PLACE);
    c.place = (struct command_place){.fulfilment = fulfilment,
                                     .payment_timing = payment_timing,
                                     .currency = "KRW",
                                     .store = bytes_of_text("store-0001"),
                                     .customer = bytes_of_text("cust-00042"),
                                     .lines = world_lines,
                                     .lines_count = 3,
                                     .fees = 300,
                                     .discounts = 100,
                                     .total = 3700};
    return c;
}

struct command world_pay(struct world *w, uint8_t state, const char *reference, int64_t amount) {
    struct command c = world_command(w, COMMAND_PAY);
    c.pay = (struct command_pay){.state = state,
                                 .method = bytes_of_text("card"),
                                 .reference = bytes_of_text(reference),
                                 .amount = amount};
    return c;
}

struct command world_cancel(struct world *w, uint8_t by, const struct line_cancellation *lines,
                            uint32_t count) {
    struct command c = world_command(w, COMMAND_CANCEL);
    c.cancel = (struct command_cancel){
        .by = by, .reason = bytes_of_text("changed my mind"), .lines = lines, .lines_count = count};
    return c;
}

struct command world_refund(struct world *w, int64_t amount) {
    struct command c = world_command(w, COMMAND_REFUND);
    c.refund.amount = amount;
    c.refund.reason = bytes_of_text("sorry");
    return c;
}

struct command world_amend(struct world *w, const struct order_line *lines, uint32_t count,
                           int64_t fees, int64_t discounts, int64_t total) {
    struct command c = world_command(w, COMMAND_AMEND);
    c.amend = (struct command_amend){lines, count, fees, discounts, total};
    return c;
}

struct command world_rider(struct world *w, const char *rider) {
    struct command c = world_command(w, COMMAND_ASSIGN_RIDER);
    c.assign_rider.rider = bytes_of_text(rider);
    return c;
}

/* -- on the way to a state ----------------------------------------------------------------- */

static void world_must(struct world *w, struct command command) {
    struct decision decision = world_do(w, &command);
    assert_int_equal(decision.code, RESULT_OK);
}

static bool world_bring_to_end(struct world *w, uint8_t payment_timing, uint8_t state) {
    if (state == ORDER_REJECTED) {
        world_must(w, world_command(w, COMMAND_REJECT));
    } else if (state == ORDER_CANCELLED) {
        world_must(w, world_cancel(w, PARTY_CUSTOMER, NULL, 0));
    } else {
        w->now_ms = w->order->next_deadline_ms;
        assert_int_equal(world_tick(w), 1);
    }
    assert_int_equal(w->order->state, state);
    return true;
}

bool world_bring_to(struct world *w, uint8_t fulfilment, uint8_t payment_timing, uint8_t state) {
    static const uint8_t steps[] = {COMMAND_MARK_READY, COMMAND_PICK_UP, COMMAND_DELIVER,
                                    COMMAND_COMPLETE};
    static const uint8_t comes_to[] = {ORDER_READY, ORDER_PICKED_UP, ORDER_DELIVERED,
                                       ORDER_COMPLETED};
    if (state == ORDER_AWAITED) {
        struct command early = world_pay(w, PAYMENT_AUTHORISED, "early", 1);
        return world_decide(w, &early).code == RESULT_HELD;
    }
    if (state == ORDER_DELIVERED && fulfilment == FULFILMENT_PICKUP) return false;
    world_must(w, world_place(w, fulfilment, payment_timing));
    if (state == ORDER_PLACED) return true;
    if (state >= ORDER_REJECTED) return world_bring_to_end(w, payment_timing, state);
    if (payment_timing == PAYMENT_PREPAID || state == ORDER_PAID) {
        world_must(w, world_pay(w, PAYMENT_CAPTURED, "pay-000001", 3700));
    }
    if (state == ORDER_PAID) return true;
    struct command accept = world_command(w, COMMAND_ACCEPT);
    accept.accept.preparation_minutes = 20;
    world_must(w, accept);
    if (fulfilment == FULFILMENT_PLATFORM_DELIVERY) world_must(w, world_rider(w, "rider-0007"));
    for (uint32_t i = 0; w->order->state != state; i++) {
        if (comes_to[i] == ORDER_DELIVERED && fulfilment == FULFILMENT_PICKUP) continue;
        world_must(w, world_command(w, steps[i]));
    }
    return true;
}

struct order_view world_view(const struct world *w) {
    struct order_view view;
    order_view(w->order, &view);
    return view;
}
