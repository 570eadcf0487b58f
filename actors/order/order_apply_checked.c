/* What order_apply() takes for granted, as questions: for logs that nobody vouches for. */
#include "actors/order/order_layout.h"
#include "actors/order/order_states.h"

static const char *order_payment_fault(const struct order *order, const struct event *event) {
    const struct order_payment_recorded *recorded = event_payload(event);
    if (recorded->part > order->parts_count) return "it names a payment part that does not exist";
    if (recorded->part == ORDER_PAYMENTS_MAX) return "it is one payment part too many";
    return NULL;
}

static const char *order_cuts_fault(const struct order *order, const struct event *event) {
    const struct order_lines_cancelled *cut = event_payload(event);
    const struct order_line_cut *cuts = (const struct order_line_cut *)(cut + 1);
    const uint8_t *at = order_at(order, order_lines_at(order));
    uint32_t next = 0;
    for (uint32_t i = 0; i < order->lines_count && next < cut->cuts_count; i++) {
        struct order_line_read line = order_line_get(at);
        if (cuts[next].line == i) {
            if (cuts[next].quantity > line.quantity - line.cancelled) {
                return "it cancels more of a line than is left";
            }
            next++;
        }
        at += line.bytes;
    }
    return next == cut->cuts_count ? NULL : "it cancels a line that does not exist";
}

static const char *order_resolved_fault(const struct order *order, const struct event *event) {
    if (order->held_count == 0) return "it resolves a held command, but none is held";
    struct order_held held =
        order_held_get(order, order_held_at(order) + ORDER_HELD_DEADLINE_BYTES);
    if (!id128_equal(&held.id, &event->cause)) return "it resolves another command than the oldest";
    return order_find_command(order, &held.id) != 0 ? NULL : "it resolves a command never seen";
}

static const char *order_held_expired_fault(const struct order *order) {
    if (order_was_placed(order) || order->parts_count != 0) {
        return "held commands expire, but the order was placed";
    }
    uint32_t at = order_held_at(order) + ORDER_HELD_DEADLINE_BYTES;
    for (uint32_t i = 0; i < order->held_count; i++) {
        struct order_held held = order_held_get(order, at);
        if (order_find_command(order, &held.id) == 0) return "it expires a command never seen";
        at += order_held_item_bytes(&held);
    }
    return NULL;
}

static const char *order_kind_fault(const struct order *order, const struct event *event) {
    switch (event->kind) {
    case EVENT_ORDER_PLACED: return order_was_placed(order) ? "the order is placed twice" : NULL;
    case EVENT_PAYMENT_RECORDED: return order_payment_fault(order, event);
    case EVENT_LINES_CANCELLED: return order_cuts_fault(order, event);
    case EVENT_COMMAND_HELD:
        return order->held_count < ORDER_HELD_MAX ? NULL : "it is one held command too many";
    case EVENT_HELD_COMMAND_RESOLVED: return order_resolved_fault(order, event);
    case EVENT_HELD_COMMANDS_EXPIRED: return order_held_expired_fault(order);
    case EVENT_ORDER_AMENDED:
        return order_was_placed(order) ? NULL : "an order is amended that was never placed";
    default: return NULL;
    }
}

/* Events that touch lines: only they can break what costs a walk over them to look at. */
static bool order_touches_lines(uint8_t kind) {
    return kind == EVENT_ORDER_PLACED || kind == EVENT_LINES_CANCELLED ||
           kind == EVENT_ORDER_AMENDED;
}

/* The same of payment parts. */
static bool order_touches_parts(uint8_t kind) {
    return kind == EVENT_ORDER_PLACED || kind == EVENT_PAYMENT_RECORDED ||
           kind == EVENT_HELD_COMMANDS_EXPIRED || kind == EVENT_ORDER_CANCELLED ||
           kind == EVENT_ORDER_REJECTED || kind == EVENT_ORDER_EXPIRED;
}

const char *order_apply_checked(struct actor *actor, const struct event *event,
                                const struct apply_context *context) {
    static const struct order nothing;
    const struct order *order = actor->bytes == 0 ? &nothing : order_of(actor);
    if (event->version != actor->version + 1) return "its version does not follow the order's";
    if (event->version > UINT16_MAX) return "its version is larger than any order's";
    if (order->commands_count >= ORDER_COMMANDS_MAX) return "it is one command too many";
    if (actor->bytes == 0 && event->kind != EVENT_ORDER_PLACED &&
        event->kind != EVENT_COMMAND_HELD) {
        return "an order cannot begin with it";
    }
    const char *fault = actor->bytes == 0 ? NULL : order_kind_fault(order, event);
    if (fault) return fault;
    order_apply_plainly(actor, event, context);
    fault = order_invariant_fault(actor);
    if (!fault && order_touches_lines(event->kind)) fault = order_lines_fault(actor);
    if (!fault && order_touches_parts(event->kind)) fault = order_parts_fault(actor);
    return fault;
}
