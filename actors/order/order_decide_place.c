/* place and amend: the commands that bring lines and a total. */
#include "actors/order/order_decide.h"

/* A basket as a command brings it, and what it comes to. */
struct order_basket {
    const struct order_line *lines;
    uint32_t lines_count;
    int64_t fees, discounts, total;
    int64_t lines_total; /* result */
    uint32_t bytes;      /* result: of the encoded lines */
};

enum {
    SAW_QUANTITY_LOW = 1,
    SAW_QUANTITY_HIGH = 2,
    SAW_MONEY_NEGATIVE = 4,
    SAW_MONEY_HIGH = 8
};

static uint32_t order_look_at_money(int64_t amount) {
    if (amount < 0) return SAW_MONEY_NEGATIVE;
    return amount > ORDER_MONEY_MAX ? SAW_MONEY_HIGH : 0u;
}

/* Sums with 128 bits: a line's quantity and price are at most 2^63 each before they are judged. */
static uint16_t order_check_basket(struct order_basket *basket) {
    __int128 sum = 0;
    uint32_t bytes = 0, saw = 0;
    if (basket->lines_count == 0) return RESULT_LINES_MISSING;
    for (uint32_t i = 0; i < basket->lines_count; i++) {
        const struct order_line *line = &basket->lines[i];
        saw |= line->quantity < 1 ? SAW_QUANTITY_LOW : 0u;
        saw |= line->quantity > ORDER_QUANTITY_MAX ? SAW_QUANTITY_HIGH : 0u;
        saw |= order_look_at_money(line->unit_price);
        sum += (__int128)line->quantity * line->unit_price;
        bytes += order_line_bytes(line);
    }
    saw |= order_look_at_money(basket->fees) | order_look_at_money(basket->discounts) |
           order_look_at_money(basket->total);
    if (saw & SAW_QUANTITY_LOW) return RESULT_QUANTITY_NOT_POSITIVE;
    if (saw & SAW_QUANTITY_HIGH) return RESULT_QUANTITY_TOO_LARGE;
    if (saw & SAW_MONEY_NEGATIVE) return RESULT_MONEY_NEGATIVE;
    if (saw & SAW_MONEY_HIGH || sum > ORDER_MONEY_MAX) return RESULT_MONEY_TOO_LARGE;
    basket->lines_total = (int64_t)sum;
    basket->bytes = bytes;
    int64_t total = basket->lines_total + basket->fees - basket->discounts;
    return total == basket->total ? RESULT_OK : RESULT_TOTAL_MISMATCH;
}

static uint8_t *order_put_lines(uint8_t *at, const struct order_basket *basket) {
    for (uint32_t i = 0; i < basket->lines_count; i++) at = order_line_put(at, &basket->lines[i]);
    return at;
}

static bool order_currency_is_valid(const char currency[4]) {
    for (int i = 0; i < 3; i++) {
        if (currency[i] < 'A' || currency[i] > 'Z') return false;
    }
    return currency[3] == 0;
}

static int64_t order_or_default(int64_t wish_ms, int64_t default_ms) {
    return wish_ms != 0 ? wish_ms : default_ms;
}

static void order_fill_placed(struct order_placed *placed, const struct command_place *place,
                              const struct order_basket *basket) {
    bool parcel = place->fulfilment == FULFILMENT_PARCEL;
    placed->lines_total = basket->lines_total;
    placed->fees = place->fees;
    placed->discounts = place->discounts;
    placed->total = place->total;
    placed->payment_timeout_ms =
        (uint32_t)order_or_default(place->payment_timeout_ms, PAYMENT_DEADLINE_MS);
    placed->acceptance_timeout_ms =
        (uint32_t)order_or_default(place->acceptance_timeout_ms, ACCEPTANCE_DEADLINE_MS);
    placed->auto_complete_ms = (uint32_t)order_or_default(
        place->auto_complete_ms, parcel ? AUTO_COMPLETE_PARCEL_MS : AUTO_COMPLETE_DELIVERY_MS);
    placed->lines_bytes = basket->bytes;
    placed->lines_count = (uint16_t)basket->lines_count;
    placed->attributes_bytes = (uint16_t)place->attributes.size;
    placed->fulfilment = place->fulfilment;
    placed->payment_timing = place->payment_timing;
    placed->store_bytes = (uint8_t)place->store.size;
    placed->customer_bytes = (uint8_t)place->customer.size;
    placed->group_bytes = (uint8_t)place->group.size;
    placed->external_ref_bytes = (uint8_t)place->external_ref.size;
    memcpy(placed->currency, place->currency, 3);
    uint8_t *at = order_put_text((uint8_t *)(placed + 1), place->store);
    at = order_put_text(at, place->customer);
    at = order_put_text(at, place->group);
    at = order_put_text(at, place->external_ref);
    at = order_put_text(at, place->attributes);
    order_put_lines(at, basket);
}

uint16_t order_decide_place(struct order_turn *turn) {
    const struct command_place *place = &turn->command->place;
    struct order_basket basket = {.lines = place->lines,
                                  .lines_count = place->lines_count,
                                  .fees = place->fees,
                                  .discounts = place->discounts,
                                  .total = place->total};
    if (turn->context->store_paused) return RESULT_STORE_PAUSED;
    uint16_t code = order_check_basket(&basket);
    if (code != RESULT_OK) return code;
    if (!order_currency_is_valid(place->currency)) return RESULT_CURRENCY_INVALID;

    uint32_t texts = place->store.size + place->customer.size + place->group.size +
                     place->external_ref.size + place->attributes.size;
    uint8_t state = order_state_unaccepted(place->payment_timing, 0, place->total);
    struct event *event =
        order_turn_event(turn, EVENT_ORDER_PLACED, state,
                         (uint32_t)sizeof(struct order_placed) + texts + basket.bytes);
    struct order_placed *placed = (struct order_placed *)(event + 1);
    order_fill_placed(placed, place, &basket);
    bool pays_first = state == ORDER_PLACED && place->payment_timing == PAYMENT_PREPAID;
    placed->after.step_deadline_ms =
        turn->context->now_ms +
        (pays_first ? placed->payment_timeout_ms : placed->acceptance_timeout_ms);
    return RESULT_OK;
}

uint16_t order_decide_amend(struct order_turn *turn) {
    const struct order *order = turn->order;
    const struct command_amend *amend = &turn->command->amend;
    struct order_basket basket = {.lines = amend->lines,
                                  .lines_count = amend->lines_count,
                                  .fees = amend->fees,
                                  .discounts = amend->discounts,
                                  .total = amend->total};
    uint16_t code = order_check_basket(&basket);
    if (code != RESULT_OK) return code;
    code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;

    uint8_t state = order_state_unaccepted(order->payment_timing, order->captured, amend->total);
    int64_t deadline =
        order_unaccepted_deadline(turn, state, order->payment_timing, order->payment_timeout_ms,
                                  order->acceptance_timeout_ms);
    struct order_after after = order_turn_after(turn, state, deadline, order->captured,
                                                order->refunded, amend->total);
    struct event *event = order_turn_event(turn, EVENT_ORDER_AMENDED, state,
                                           (uint32_t)sizeof(struct order_amended) + basket.bytes);
    struct order_amended *amended = (struct order_amended *)(event + 1);
    amended->after = after;
    amended->lines_total = basket.lines_total;
    amended->fees = amend->fees;
    amended->discounts = amend->discounts;
    amended->total = amend->total;
    amended->lines_bytes = basket.bytes;
    amended->lines_count = (uint16_t)amend->lines_count;
    order_put_lines((uint8_t *)(amended + 1), &basket);
    return RESULT_OK;
}
