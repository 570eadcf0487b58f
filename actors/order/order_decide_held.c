/* The order-safe inbox: a cancel or a payment result that overtakes its place waits inside the
 * block, is decided once the place is there, and ends in a refund of what was captured if it never
 * comes. */
#include "actors/order/order_decide.h"

uint16_t order_decide_hold(struct order_turn *turn) {
    const struct command *command = turn->command;
    bool is_pay = command->kind == COMMAND_PAY;
    if (turn->order && turn->order->held_count >= ORDER_HELD_MAX) return RESULT_HELD_LIMIT_REACHED;
    uint16_t code =
        is_pay ? order_check_pay_amount(&command->pay) : order_check_cuts(&command->cancel);
    if (code != RESULT_OK) return code;

    struct order_held held = {.id = command->id,
                              .trace = command->trace,
                              .expected_version = command->expected_version,
                              .kind = command->kind};
    if (is_pay) {
        held.amount = command->pay.amount;
        held.state_or_by = command->pay.state;
        held.method_bytes = (uint8_t)command->pay.method.size;
        held.reference_bytes = (uint8_t)command->pay.reference.size;
    } else {
        held.state_or_by = command->cancel.by;
        held.reason_bytes = (uint16_t)command->cancel.reason.size;
        held.cuts_count = (uint16_t)command->cancel.lines_count;
    }
    uint32_t item_bytes = order_held_item_bytes(&held);
    struct event *event = order_turn_event(turn, EVENT_COMMAND_HELD, ORDER_AWAITED,
                                           ORDER_HELD_DEADLINE_BYTES + item_bytes);
    struct order_command_held *waits = (struct order_command_held *)(event + 1);
    waits->held_deadline_ms = turn->order ? order_held_deadline(turn->order)
                                          : turn->context->now_ms + HELD_DEADLINE_MS;
    waits->held = held;
    uint8_t *at = (uint8_t *)(waits + 1);
    if (is_pay) {
        order_put_text(order_put_text(at, command->pay.method), command->pay.reference);
        return RESULT_HELD;
    }
    at = order_put_text(at, command->cancel.reason);
    for (uint32_t i = 0; i < command->cancel.lines_count; i++, at += 8) {
        struct order_line_cut cut = {command->cancel.lines[i].line,
                                     (uint32_t)command->cancel.lines[i].quantity};
        memcpy(at, &cut, sizeof cut);
    }
    return RESULT_HELD;
}

/* The held command at `offset` as it came; `lines` has room for its cuts. */
static struct command order_held_command(const struct order *order, uint32_t offset,
                                         struct line_cancellation *lines) {
    struct order_held held = order_held_get(order, offset);
    const uint8_t *at = order_at(order, offset + (uint32_t)sizeof held);
    struct command command = {.kind = held.kind,
                              .expected_version = held.expected_version,
                              .subject = order->actor.key,
                              .id = held.id,
                              .trace = held.trace};
    if (held.kind == COMMAND_PAY) {
        command.pay.state = held.state_or_by;
        command.pay.amount = held.amount;
        command.pay.method = bytes_of(at, held.method_bytes);
        command.pay.reference = bytes_of(at + held.method_bytes, held.reference_bytes);
        return command;
    }
    command.cancel.by = held.state_or_by;
    command.cancel.reason = bytes_of(at, held.reason_bytes);
    command.cancel.lines = lines;
    command.cancel.lines_count = held.cuts_count;
    at += held.reason_bytes;
    for (uint32_t i = 0; i < held.cuts_count; i++, at += 8) {
        struct order_line_cut cut;
        memcpy(&cut, at, sizeof cut);
        lines[i] = (struct line_cancellation){cut.line, cut.quantity};
    }
    return command;
}

static uint16_t order_decide_held(struct order_turn *turn) {
    const struct command *command = turn->command;
    if (order_state_is_end(turn->state) && command->kind == COMMAND_CANCEL) {
        return RESULT_ORDER_HAS_ENDED;
    }
    if (command->expected_version != 0 && command->expected_version != turn->version) {
        return RESULT_VERSION_CONFLICT;
    }
    return order_decide_on_order(turn);
}

void order_decide_resolve_held(struct order_turn *turn) {
    const struct order *order = turn->order;
    if (order->held_count == 0 || turn->state == ORDER_AWAITED) return;
    struct line_cancellation lines[ORDER_LINES_MAX];
    const struct command *asked = turn->command;
    struct command command = order_held_command(
        order, order_held_at(order) + ORDER_HELD_DEADLINE_BYTES, lines);
    turn->command = &command;
    turn->event_flags = EVENT_FLAG_FROM_HELD;
    uint16_t code = order_decide_held(turn);
    struct event *event = order_turn_event(turn, EVENT_HELD_COMMAND_RESOLVED, turn->state,
                                           sizeof(struct order_held_resolved));
    ((struct order_held_resolved *)(event + 1))->code = code;
    turn->command = asked;
    turn->event_flags = 0;
}

/* -- the place never came ------------------------------------------------------------------ */

/* Whether the held command before `until` reported this reference as captured. */
static bool order_held_captured_before(const struct order *order, uint32_t until,
                                       const struct order_held *held, const uint8_t *reference) {
    uint32_t at = order_held_at(order) + ORDER_HELD_DEADLINE_BYTES;
    while (at < until) {
        struct order_held other = order_held_get(order, at);
        const uint8_t *other_reference = order_at(order, at + (uint32_t)sizeof other) +
                                         other.method_bytes;
        if (other.kind == COMMAND_PAY && other.state_or_by == PAYMENT_CAPTURED &&
            other.reference_bytes == held->reference_bytes &&
            memcmp(other_reference, reference, held->reference_bytes) == 0) {
            return true;
        }
        at += order_held_item_bytes(&other);
    }
    return false;
}

/* The parts that held commands reported as captured, each reference once. */
struct order_held_money {
    uint32_t bytes, count;
    int64_t captured;
    uint8_t parts[ORDER_HELD_MAX * ORDER_PART_BYTES_MAX];
};

static void order_collect_held_money(const struct order *order, struct order_held_money *money) {
    uint32_t at = order_held_at(order) + ORDER_HELD_DEADLINE_BYTES;
    money->bytes = money->count = 0;
    money->captured = 0;
    for (uint32_t i = 0; i < order->held_count; i++) {
        struct order_held held = order_held_get(order, at);
        const uint8_t *method = order_at(order, at + (uint32_t)sizeof held);
        const uint8_t *reference = method + held.method_bytes;
        if (held.kind == COMMAND_PAY && held.state_or_by == PAYMENT_CAPTURED &&
            !order_held_captured_before(order, at, &held, reference)) {
            uint8_t *end =
                order_part_put(money->parts + money->bytes, PAYMENT_CAPTURED, held.amount,
                               held.method_bytes, held.reference_bytes, method, reference);
            money->bytes = (uint32_t)(end - money->parts);
            money->count++;
            money->captured += held.amount;
        }
        at += order_held_item_bytes(&held);
    }
}

void order_expire_held(struct order_turn *turn) {
    struct order_held_money money;
    struct bytes reason = bytes_of_text("commands were held and no place came in time");
    order_collect_held_money(turn->order, &money);
    struct order_after after = order_turn_after(turn, ORDER_EXPIRED, 0, money.captured, 0, 0);
    struct event *event =
        order_turn_event(turn, EVENT_HELD_COMMANDS_EXPIRED, ORDER_EXPIRED,
                         (uint32_t)sizeof(struct order_held_expired) + money.bytes + reason.size);
    struct order_held_expired *expired = (struct order_held_expired *)(event + 1);
    expired->after = after;
    expired->captured = money.captured;
    expired->parts_bytes = (uint16_t)money.bytes;
    expired->parts_count = (uint8_t)money.count;
    expired->reason_bytes = (uint16_t)reason.size;
    uint8_t *at = (uint8_t *)(expired + 1);
    if (money.bytes != 0) memcpy(at, money.parts, money.bytes);
    order_put_text(at + money.bytes, reason);
}
