/* pay and refund, and the refund that the engine makes itself. What a payment provider reports has
 * happened already: captured money is recorded in every state, and what the order has no claim to
 * is owed back. */
#include "actors/order/order_decide.h"

enum { PART_NEW = UINT32_MAX };

uint16_t order_check_pay_amount(const struct command_pay *pay) {
    if (pay->amount > ORDER_MONEY_MAX) return RESULT_MONEY_TOO_LARGE;
    return pay->amount < 1 ? RESULT_AMOUNT_NOT_POSITIVE : RESULT_OK;
}

/* Position of the part with this reference, PART_NEW if there is none. */
static uint32_t order_find_part(const struct order *order, struct bytes reference,
                                struct order_part_read *part) {
    const uint8_t *at = order_at(order, order_parts_at(order));
    for (uint32_t i = 0; i < order->parts_count; i++) {
        *part = order_part_get(at);
        if (part->reference_bytes == reference.size &&
            memcmp(part->reference, reference.data, reference.size) == 0) {
            return i;
        }
        at += part->bytes;
    }
    return PART_NEW;
}

/* The state that a part comes to when `reported` comes in for one in state `from` (0 = new); 0 when
 * the report contradicts what is known. The same state = nothing new. */
static uint8_t order_part_next(uint8_t from, uint8_t reported, bool gives_up_money) {
    uint8_t authorised = gives_up_money ? PAYMENT_VOIDED : PAYMENT_AUTHORISED;
    switch (reported) {
    case PAYMENT_AUTHORISED:
        if (from == PAYMENT_CAPTURED) return 0;
        return from == PAYMENT_VOIDED ? PAYMENT_VOIDED : authorised;
    case PAYMENT_CAPTURED: return PAYMENT_CAPTURED;
    case PAYMENT_FAILED: return from == PAYMENT_CAPTURED ? 0 : PAYMENT_FAILED;
    default: impossible("the state of a payment was checked with its shape");
    }
}

static void order_record_payment(struct order_turn *turn, uint32_t part, uint8_t part_state,
                                 int64_t captured) {
    const struct order *order = turn->order;
    const struct command_pay *pay = &turn->command->pay;
    uint8_t state = turn->state;
    int64_t deadline = order->step_deadline_ms;
    if (state == ORDER_PLACED || state == ORDER_PAID) {
        state = order_state_unaccepted(order->payment_timing, captured, order->total);
        deadline =
            order_unaccepted_deadline(turn, state, order->payment_timing, order->payment_timeout_ms,
                                      order->acceptance_timeout_ms);
    }
    struct order_after after =
        order_turn_after(turn, state, deadline, captured, order->refunded, order->total);
    struct event *event =
        order_turn_event(turn, EVENT_PAYMENT_RECORDED, state,
                         (uint32_t)sizeof(struct order_payment_recorded) + pay->method.size +
                             pay->reference.size);
    struct order_payment_recorded *recorded = (struct order_payment_recorded *)(event + 1);
    recorded->after = after;
    recorded->amount = pay->amount;
    recorded->captured = captured;
    recorded->part = (uint8_t)(part == PART_NEW ? order->parts_count : part);
    recorded->state = part_state;
    recorded->method_bytes = (uint8_t)pay->method.size;
    recorded->reference_bytes = (uint8_t)pay->reference.size;
    order_put_text(order_put_text((uint8_t *)(recorded + 1), pay->method), pay->reference);
}

uint16_t order_decide_pay(struct order_turn *turn) {
    const struct order *order = turn->order;
    const struct command_pay *pay = &turn->command->pay;
    struct order_part_read part = {0};
    if (pay->amount > ORDER_MONEY_MAX) return RESULT_MONEY_TOO_LARGE;
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    if (pay->amount < 1) return RESULT_AMOUNT_NOT_POSITIVE;

    uint32_t i = order_find_part(order, pay->reference, &part);
    if (i == PART_NEW && order->parts_count >= ORDER_PAYMENTS_MAX) {
        return RESULT_PAYMENTS_LIMIT_REACHED;
    }
    uint8_t from = i == PART_NEW ? 0 : part.state;
    uint8_t next = order_part_next(from, pay->state, order_state_gives_up_money(turn->state));
    if (next == 0) return RESULT_PAYMENT_STATE_CONFLICT;
    if (i != PART_NEW && part.amount != pay->amount) return RESULT_PAYMENT_AMOUNT_DIFFERS;
    if (next == from) {
        turn->unchanged = true;
        return RESULT_OK;
    }
    order_record_payment(turn, i, next,
                         order->captured + (next == PAYMENT_CAPTURED ? pay->amount : 0));
    return RESULT_OK;
}

static void order_refund(struct order_turn *turn, int64_t amount, uint8_t by,
                         struct bytes reason) {
    const struct order *order = turn->order;
    int64_t refunded = order->refunded + amount;
    struct order_after after = order_turn_after(turn, turn->state, order->step_deadline_ms,
                                                order->captured, refunded, order->total);
    struct event *event = order_turn_event(turn, EVENT_ORDER_REFUNDED, turn->state,
                                           (uint32_t)sizeof(struct order_refunded) + reason.size);
    struct order_refunded *refund = (struct order_refunded *)(event + 1);
    refund->after = after;
    refund->amount = amount;
    refund->refunded = refunded;
    refund->by = by;
    refund->reason_bytes = (uint16_t)reason.size;
    order_put_text((uint8_t *)(refund + 1), reason);
}

uint16_t order_decide_refund(struct order_turn *turn) {
    const struct order *order = turn->order;
    int64_t amount = turn->command->refund.amount;
    int64_t left = order->captured - order->refunded;
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    if (amount < 0) return RESULT_AMOUNT_NOT_POSITIVE;
    if (amount > left) return RESULT_REFUND_EXCEEDS_CAPTURED;
    if (left == 0) return RESULT_NOTHING_TO_REFUND;
    order_refund(turn, amount != 0 ? amount : left, 0, turn->command->refund.reason);
    return RESULT_OK;
}

void order_refund_owed(struct order_turn *turn) {
    order_refund(turn, turn->order->refund_owed, PARTY_SYSTEM,
                 bytes_of_text("owed back and not refunded in time"));
}
