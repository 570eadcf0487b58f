#include "actors/order/order_decide.h"

/* -- what all deciders share --------------------------------------------------------------- */

struct event *order_turn_event(struct order_turn *turn, uint8_t kind, uint8_t state_after,
                               uint32_t payload_bytes) {
    const struct command *command = turn->command;
    struct event *event = event_sink_add(turn->sink, kind,
                                         order_event_schema(turn->context->level), payload_bytes,
                                         &command->trace);
    event->state_before = turn->state;
    event->state_after = state_after;
    event->flags |= turn->event_flags;
    event->version = ++turn->version;
    event->cause_kind = command->kind;
    event->prev_index = turn->prev_index;
    event->subject = command->subject;
    event->cause = command->id;
    turn->state = state_after;
    turn->prev_index = turn->context->index;
    return event;
}

/* A retired order's key must be too old to be placed again, or a late retry of its place would make
 * a second order. */
static int64_t order_retention_deadline(const struct order_turn *turn) {
    int64_t kept_until = turn->context->now_ms + RETENTION_MS;
    int64_t key_dead_at = order_key_birth_ms(&turn->command->subject) + KEY_PAST_MS_MAX + 1;
    return kept_until > key_dead_at ? kept_until : key_dead_at;
}

struct order_after order_turn_after(const struct order_turn *turn, uint8_t state,
                                    int64_t step_deadline_ms, int64_t captured, int64_t refunded,
                                    int64_t total) {
    const struct order *order = turn->order;
    struct order_after after = {.step_deadline_ms = step_deadline_ms};
    after.refund_owed = order_owed(captured, refunded, order_claim(state, total));
    bool was_owed = order && order->refund_owed > 0;
    if (after.refund_owed > 0) {
        after.end_deadline_ms =
            was_owed ? order->end_deadline_ms : turn->context->now_ms + REFUND_DEADLINE_MS;
    } else if (order_state_is_end(state)) {
        bool runs = order && !was_owed && order_state_is_end(order->actor.state);
        after.end_deadline_ms = runs ? order->end_deadline_ms : order_retention_deadline(turn);
    }
    return after;
}

uint8_t order_state_unaccepted(uint8_t payment_timing, int64_t captured, int64_t total) {
    if (captured < total) return ORDER_PLACED;
    return payment_timing == PAYMENT_PREPAID || captured > 0 ? ORDER_PAID : ORDER_PLACED;
}

static bool order_waits_for_payment(uint8_t state, uint8_t payment_timing) {
    return state == ORDER_PLACED && payment_timing == PAYMENT_PREPAID;
}

int64_t order_unaccepted_deadline(const struct order_turn *turn, uint8_t state_after,
                                  uint8_t payment_timing, uint32_t payment_timeout_ms,
                                  uint32_t acceptance_timeout_ms) {
    bool for_payment = order_waits_for_payment(state_after, payment_timing);
    if (turn->state == ORDER_PLACED || turn->state == ORDER_PAID) {
        bool was_for_payment = order_waits_for_payment(turn->state, payment_timing);
        if (was_for_payment == for_payment) return turn->order->step_deadline_ms;
    }
    return turn->context->now_ms + (for_payment ? payment_timeout_ms : acceptance_timeout_ms);
}

/* -- steps of the kitchen and the road ----------------------------------------------------- */

static struct order_after order_after_step(const struct order_turn *turn, uint8_t state,
                                           int64_t step_deadline_ms) {
    const struct order *order = turn->order;
    return order_turn_after(turn, state, step_deadline_ms, order->captured, order->refunded,
                            order->total);
}

static uint16_t order_decide_accept(struct order_turn *turn) {
    const struct order *order = turn->order;
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    if (order_waits_for_payment(turn->state, order->payment_timing)) return RESULT_PAYMENT_REQUIRED;
    int64_t minutes = turn->command->accept.preparation_minutes;
    struct order_after after = order_after_step(turn, ORDER_ACCEPTED, 0);
    struct event *event = order_turn_event(turn, EVENT_ORDER_ACCEPTED, ORDER_ACCEPTED,
                                           sizeof(struct order_accepted));
    struct order_accepted *accepted = (struct order_accepted *)(event + 1);
    accepted->after = after;
    if (minutes > 0) accepted->ready_estimate_ms = turn->context->now_ms + minutes * 60000;
    return RESULT_OK;
}

static uint16_t order_decide_mark_ready(struct order_turn *turn) {
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    order_turn_event(turn, EVENT_ORDER_READY, ORDER_READY, 0);
    return RESULT_OK;
}

static uint16_t order_decide_assign_rider(struct order_turn *turn) {
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    struct bytes rider = turn->command->assign_rider.rider;
    struct event *event =
        order_turn_event(turn, EVENT_RIDER_ASSIGNED, turn->state,
                         (uint32_t)sizeof(struct order_rider_assigned) + rider.size);
    struct order_rider_assigned *assigned = (struct order_rider_assigned *)(event + 1);
    assigned->rider_bytes = (uint8_t)rider.size;
    order_put_text((uint8_t *)(assigned + 1), rider);
    return RESULT_OK;
}

static uint16_t order_decide_unassign_rider(struct order_turn *turn) {
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    if (turn->order->rider_bytes == 0) return RESULT_RIDER_NOT_ASSIGNED;
    order_turn_event(turn, EVENT_RIDER_UNASSIGNED, turn->state, 0);
    return RESULT_OK;
}

static void order_move(struct order_turn *turn, uint8_t kind, uint8_t state,
                       int64_t step_deadline_ms) {
    struct order_after after = order_after_step(turn, state, step_deadline_ms);
    struct event *event = order_turn_event(turn, kind, state, sizeof(struct order_moved));
    ((struct order_moved *)(event + 1))->after = after;
}

static uint16_t order_decide_pick_up(struct order_turn *turn) {
    const struct order *order = turn->order;
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    if (order->fulfilment == FULFILMENT_PLATFORM_DELIVERY && order->rider_bytes == 0) {
        return RESULT_RIDER_REQUIRED;
    }
    bool handed_over = order->fulfilment == FULFILMENT_PICKUP;
    order_move(turn, EVENT_ORDER_PICKED_UP, ORDER_PICKED_UP,
               handed_over ? turn->context->now_ms + order->auto_complete_ms : 0);
    return RESULT_OK;
}

static uint16_t order_decide_deliver(struct order_turn *turn) {
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    order_move(turn, EVENT_ORDER_DELIVERED, ORDER_DELIVERED,
               turn->context->now_ms + turn->order->auto_complete_ms);
    return RESULT_OK;
}

void order_complete(struct order_turn *turn, uint8_t by) {
    struct order_after after = order_after_step(turn, ORDER_COMPLETED, 0);
    struct event *event = order_turn_event(turn, EVENT_ORDER_COMPLETED, ORDER_COMPLETED,
                                           sizeof(struct order_ended));
    struct order_ended *ended = (struct order_ended *)(event + 1);
    ended->after = after;
    ended->by = by;
}

static uint16_t order_decide_complete(struct order_turn *turn) {
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    order_complete(turn, 0);
    return RESULT_OK;
}

static uint16_t order_decide_annotate(struct order_turn *turn) {
    struct bytes note = turn->command->annotate.note;
    uint16_t code = order_turn_allowed(turn);
    if (code != RESULT_OK) return code;
    struct event *event = order_turn_event(turn, EVENT_ORDER_ANNOTATED, turn->state,
                                           (uint32_t)sizeof(struct order_annotated) + note.size);
    struct order_annotated *annotated = (struct order_annotated *)(event + 1);
    annotated->note_bytes = (uint16_t)note.size;
    order_put_text((uint8_t *)(annotated + 1), note);
    return RESULT_OK;
}

/* -- from the outside in ------------------------------------------------------------------- */

uint16_t order_decide_on_order(struct order_turn *turn) {
    switch (turn->command->kind) {
    case COMMAND_PLACE: return order_decide_place(turn);
    case COMMAND_PAY: return order_decide_pay(turn);
    case COMMAND_ACCEPT: return order_decide_accept(turn);
    case COMMAND_REJECT: return order_decide_reject(turn);
    case COMMAND_MARK_READY: return order_decide_mark_ready(turn);
    case COMMAND_ASSIGN_RIDER: return order_decide_assign_rider(turn);
    case COMMAND_UNASSIGN_RIDER: return order_decide_unassign_rider(turn);
    case COMMAND_PICK_UP: return order_decide_pick_up(turn);
    case COMMAND_DELIVER: return order_decide_deliver(turn);
    case COMMAND_COMPLETE: return order_decide_complete(turn);
    case COMMAND_CANCEL: return order_decide_cancel(turn);
    case COMMAND_REFUND: return order_decide_refund(turn);
    case COMMAND_AMEND: return order_decide_amend(turn);
    case COMMAND_ANNOTATE: return order_decide_annotate(turn);
    default: return RESULT_UNKNOWN_COMMAND;
    }
}

uint32_t order_find_command(const struct order *order, const struct id128 *id) {
    uint64_t high, low, record_high, record_low;
    memcpy(&high, id->bytes, 8);
    memcpy(&low, id->bytes + 8, 8);
    uint32_t at = order_commands_at(order);
    for (uint32_t i = order->commands_count; i > 0; i--, at += 20) {
        memcpy(&record_low, order_at(order, at + 8), 8);
        if (record_low != low) continue;
        memcpy(&record_high, order_at(order, at), 8);
        if (record_high == high) return at;
    }
    return 0;
}

/* The answer to a command whose id stands in the record at `offset`. */
static struct decision order_first_answer(const struct order *order, const struct command *command,
                                          uint32_t offset) {
    struct order_command_record record = order_command_get(order, offset);
    if (record.kind != command->kind) {
        return (struct decision){RESULT_COMMAND_ID_REUSED, false, order->actor.version};
    }
    return (struct decision){record.outcome, true, record.version};
}

static bool order_ended_allows(uint8_t kind) {
    return kind == COMMAND_PAY || kind == COMMAND_REFUND || kind == COMMAND_ANNOTATE;
}

/* Whether the order is there for this command. RESULT_HELD: it is not, and the command waits. */
static uint16_t order_check_existence(const struct order_turn *turn) {
    const struct order *order = turn->order;
    uint8_t kind = turn->command->kind;
    if (order && order->actor.flags & ACTOR_RETIRED) return RESULT_KEY_TOO_OLD;
    if (!order || kind == COMMAND_PLACE) {
        uint16_t code = order_check_key_birth(turn->command, turn->context);
        if (code != RESULT_OK) return code;
    }
    if (kind == COMMAND_PLACE) {
        if (!order || turn->state == ORDER_AWAITED) return RESULT_OK;
        return order_was_placed(order) ? RESULT_ORDER_EXISTS : RESULT_ORDER_EXPIRED_BEFORE_PLACED;
    }
    if (!order || turn->state == ORDER_AWAITED) {
        bool may_wait = kind == COMMAND_CANCEL || kind == COMMAND_PAY;
        return may_wait ? RESULT_HELD : RESULT_ORDER_NOT_FOUND;
    }
    return order_state_is_end(turn->state) && !order_ended_allows(kind) ? RESULT_ORDER_HAS_ENDED
                                                                        : RESULT_OK;
}

static uint16_t order_decide_new(struct order_turn *turn) {
    const struct command *command = turn->command;
    uint16_t existence = order_check_existence(turn);
    if (existence != RESULT_OK && existence != RESULT_HELD) return existence;
    bool expects = command->expected_version != 0 && existence != RESULT_HELD;
    if (expects && command->expected_version != turn->version) return RESULT_VERSION_CONFLICT;
    if (turn->order && turn->order->commands_count >= ORDER_COMMANDS_MAX) {
        return RESULT_COMMANDS_LIMIT_REACHED;
    }
    return existence == RESULT_HELD ? order_decide_hold(turn) : order_decide_on_order(turn);
}

static struct decision order_decide_read(const struct order *order) {
    if (!order || order->actor.flags & ACTOR_RETIRED) {
        return (struct decision){RESULT_ORDER_NOT_FOUND, false, 0};
    }
    return (struct decision){RESULT_OK, false, order->actor.version};
}

struct decision order_decide(const struct actor *actor, const struct command *command,
                             const struct decide_context *context, struct event_sink *sink) {
    const struct order *order = actor ? order_of(actor) : NULL;
    struct order_turn turn = {.order = order, .command = command, .context = context, .sink = sink};
    if (order) {
        require(order->actor.kind == ACTOR_ORDER);
        turn.version = order->actor.version;
        turn.prev_index = order->actor.last_index;
        turn.state = order->actor.state;
    }
    if (command->kind == COMMAND_TIMER_DUE) {
        if (order) order_decide_timer_due(&turn);
        return (struct decision){RESULT_OK, false, turn.version};
    }
    if (command->kind == COMMAND_RESOLVE_HELD) {
        if (order) order_decide_resolve_held(&turn);
        return (struct decision){RESULT_OK, false, turn.version};
    }
    uint16_t code = order_check_shape(command);
    if (code != RESULT_OK) return (struct decision){code, false, turn.version};
    if (command_is_read(command->kind)) return order_decide_read(order);
    uint32_t record = order ? order_find_command(order, &command->id) : 0;
    if (record != 0) return order_first_answer(order, command, record);
    uint32_t mark = sink->size;
    code = order_decide_new(&turn);
    require(implies(code != RESULT_OK && code != RESULT_HELD, sink->size == mark));
    return (struct decision){code, turn.unchanged, turn.version};
}
