/* cancel (whole or by lines), reject, and the deadlines. */
#include "actors/order/order_decide.h"

static void order_end(struct order_turn *turn, uint8_t kind, uint8_t state, uint8_t by,
                      struct bytes reason) {
    const struct order *order = turn->order;
    struct order_after after =
        order_turn_after(turn, state, 0, order->captured, order->refunded, order->total);
    struct event *event =
        order_turn_event(turn, kind, state, (uint32_t)sizeof(struct order_ended) + reason.size);
    struct order_ended *ended = (struct order_ended *)(event + 1);
    ended->after = after;
    ended->by = by;
    ended->reason_bytes = (uint16_t)reason.size;
    order_put_text((uint8_t *)(ended + 1), reason);
}

uint16_t order_decide_reject(struct order_turn *turn) {
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    order_end(turn, EVENT_ORDER_REJECTED, ORDER_REJECTED, PARTY_STORE,
              turn->command->reject.reason);
    return RESULT_OK;
}

static void order_expire(struct order_turn *turn, const char *reason) {
    order_end(turn, EVENT_ORDER_EXPIRED, ORDER_EXPIRED, PARTY_SYSTEM, bytes_of_text(reason));
}

/* -- cancel -------------------------------------------------------------------------------- */

uint16_t order_check_cuts(const struct command_cancel *cancel) {
    uint16_t code = RESULT_OK;
    for (uint32_t i = 0; i < cancel->lines_count; i++) {
        if (cancel->lines[i].quantity < 1) return RESULT_QUANTITY_NOT_POSITIVE;
        if (cancel->lines[i].quantity > ORDER_QUANTITY_MAX) code = RESULT_QUANTITY_TOO_LARGE;
    }
    return code;
}

/* What a cancel by lines comes to: per line of the order what is cut, and the sums after it. */
struct order_cuts {
    uint32_t quantity[ORDER_LINES_MAX]; /* of the first lines_count lines of the order */
    uint32_t count;                     /* lines that are cut */
    int64_t lines_total;
    bool leaves_nothing;
};

/* A line may be named several times: its cuts add up. */
static uint16_t order_collect_cuts(const struct order *order, const struct command_cancel *cancel,
                                   struct order_cuts *cuts) {
    memset(cuts->quantity, 0, order->lines_count * sizeof cuts->quantity[0]);
    bool exceeded = false;
    for (uint32_t i = 0; i < cancel->lines_count; i++) {
        uint32_t line = cancel->lines[i].line;
        if (line >= order->lines_count) return RESULT_LINE_UNKNOWN;
        uint64_t sum = cuts->quantity[line] + (uint64_t)cancel->lines[i].quantity;
        exceeded |= sum > ORDER_QUANTITY_MAX;
        cuts->quantity[line] = sum > ORDER_QUANTITY_MAX ? ORDER_QUANTITY_MAX + 1 : (uint32_t)sum;
    }
    __int128 total = 0;
    cuts->count = 0;
    cuts->leaves_nothing = true;
    const uint8_t *at = order_at(order, order_lines_at(order));
    for (uint32_t i = 0; i < order->lines_count; i++) {
        struct order_line_read line = order_line_get(at);
        exceeded |= cuts->quantity[i] > line.quantity - line.cancelled;
        line.cancelled += cuts->quantity[i];
        cuts->count += cuts->quantity[i] != 0;
        cuts->leaves_nothing &= line.cancelled == line.quantity;
        total += order_line_left(&line);
        at += line.bytes;
    }
    cuts->lines_total = (int64_t)total;
    return exceeded ? RESULT_LINE_QUANTITY_EXCEEDED : RESULT_OK;
}

static void order_put_cuts(uint8_t *at, const struct order *order, const struct order_cuts *cuts,
                           struct bytes reason) {
    for (uint32_t i = 0; i < order->lines_count; i++) {
        if (cuts->quantity[i] == 0) continue;
        struct order_line_cut cut = {i, cuts->quantity[i]};
        memcpy(at, &cut, sizeof cut);
        at += sizeof cut;
    }
    order_put_text(at, reason);
}

static void order_cut_lines(struct order_turn *turn, const struct order_cuts *cuts) {
    const struct order *order = turn->order;
    const struct command_cancel *cancel = &turn->command->cancel;
    int64_t before_discounts = cuts->lines_total + order->fees;
    int64_t discounts = order->discounts < before_discounts ? order->discounts : before_discounts;
    int64_t total = before_discounts - discounts;
    uint8_t state = turn->state;
    int64_t deadline = order->step_deadline_ms;
    if (state == ORDER_PLACED || state == ORDER_PAID) {
        state = order_state_unaccepted(order->payment_timing, order->captured, total);
        deadline =
            order_unaccepted_deadline(turn, state, order->payment_timing, order->payment_timeout_ms,
                                      order->acceptance_timeout_ms);
    }
    struct order_after after =
        order_turn_after(turn, state, deadline, order->captured, order->refunded, total);
    uint32_t bytes = (uint32_t)sizeof(struct order_lines_cancelled) + cancel->reason.size +
                     cuts->count * (uint32_t)sizeof(struct order_line_cut);
    struct event *event = order_turn_event(turn, EVENT_LINES_CANCELLED, state, bytes);
    struct order_lines_cancelled *cut = (struct order_lines_cancelled *)(event + 1);
    cut->after = after;
    cut->lines_total = cuts->lines_total;
    cut->discounts = discounts;
    cut->total = total;
    cut->cuts_count = (uint16_t)cuts->count;
    cut->reason_bytes = (uint16_t)cancel->reason.size;
    cut->by = cancel->by;
    order_put_cuts((uint8_t *)(cut + 1), order, cuts, cancel->reason);
}

/* Apart from order_decide_cancel(), so that a whole cancel does not pay for this stack frame. */
static __attribute__((noinline)) uint16_t order_cancel_lines(struct order_turn *turn) {
    struct order_cuts cuts;
    uint16_t code = order_collect_cuts(turn->order, &turn->command->cancel, &cuts);
    if (code != RESULT_OK) return code;
    if (cuts.leaves_nothing) {
        order_end(turn, EVENT_ORDER_CANCELLED, ORDER_CANCELLED, turn->command->cancel.by,
                  turn->command->cancel.reason);
    } else {
        order_cut_lines(turn, &cuts);
    }
    return RESULT_OK;
}

uint16_t order_decide_cancel(struct order_turn *turn) {
    const struct command_cancel *cancel = &turn->command->cancel;
    uint16_t code = order_check_cuts(cancel);
    if (code != RESULT_OK) return code;
    code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    if (cancel->lines_count != 0) return order_cancel_lines(turn);
    order_end(turn, EVENT_ORDER_CANCELLED, ORDER_CANCELLED, cancel->by, cancel->reason);
    return RESULT_OK;
}

/* -- deadlines ----------------------------------------------------------------------------- */

static void order_step_due(struct order_turn *turn) {
    switch (turn->state) {
    case ORDER_PLACED:
        order_expire(turn, turn->order->payment_timing == PAYMENT_PREPAID
                               ? "not paid in time"
                               : "not accepted in time");
        break;
    case ORDER_PAID: order_expire(turn, "not accepted in time"); break;
    default: order_complete(turn, PARTY_SYSTEM); break;
    }
}

static void order_end_due(struct order_turn *turn) {
    if (turn->order->refund_owed > 0) {
        order_refund_owed(turn);
    } else {
        order_turn_event(turn, EVENT_ORDER_RETIRED, turn->state, 0);
    }
}

void order_decide_timer_due(struct order_turn *turn) {
    const struct order *order = turn->order;
    int64_t due = order->actor.next_deadline_ms;
    if (due == 0 || due > turn->context->now_ms) return;
    if (due == order_held_deadline(order)) {
        if (turn->state == ORDER_AWAITED) {
            order_expire_held(turn);
        } else {
            order_decide_resolve_held(turn);
        }
    } else if (due == order->step_deadline_ms) {
        order_step_due(turn);
    } else {
        order_end_due(turn);
    }
}
