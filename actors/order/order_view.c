#include "actors/order/order_layout.h"
#include "actors/order/order_states.h"

uint32_t order_held_count(const struct actor *actor) { return order_of(actor)->held_count; }

struct bytes order_store(const struct actor *actor) {
    const struct order *order = order_of(actor);
    return order_text(order, sizeof *order, order->store_bytes);
}

static int64_t order_authorised(const struct order *order) {
    int64_t sum = 0;
    const uint8_t *at = order_at(order, order_parts_at(order));
    for (uint32_t i = 0; i < order->parts_count; i++) {
        struct order_part_read part = order_part_get(at);
        if (part.state == PAYMENT_AUTHORISED) sum += part.amount;
        at += part.bytes;
    }
    return sum;
}

static void order_view_texts(const struct order *order, struct order_view *view) {
    uint32_t at = sizeof *order;
    view->store = order_text(order, at, order->store_bytes);
    at += order->store_bytes;
    view->customer = order_text(order, at, order->customer_bytes);
    at += order->customer_bytes;
    view->group = order_text(order, at, order->group_bytes);
    at += order->group_bytes;
    view->external_ref = order_text(order, at, order->external_ref_bytes);
    view->attributes = order_text(order, order_attributes_at(order), order->attributes_bytes);
    view->rider = order_text(order, order_rider_at(order), order->rider_bytes);
    view->end_reason = order_text(order, order_end_reason_at(order), order->end_reason_bytes);
}

static void order_view_deadlines(const struct order *order, struct order_view *view) {
    int64_t step = order->step_deadline_ms;
    view->payment_deadline_ms = view->acceptance_deadline_ms = view->auto_complete_ms = 0;
    view->refund_deadline_ms = view->retention_deadline_ms = 0;
    switch (order->actor.state) {
    case ORDER_PLACED:
        if (order->payment_timing == PAYMENT_PREPAID) {
            view->payment_deadline_ms = step;
        } else {
            view->acceptance_deadline_ms = step;
        }
        break;
    case ORDER_PAID: view->acceptance_deadline_ms = step; break;
    default: view->auto_complete_ms = step; break;
    }
    if (order->refund_owed > 0) {
        view->refund_deadline_ms = order->end_deadline_ms;
    } else {
        view->retention_deadline_ms = order->end_deadline_ms;
    }
    view->held_deadline_ms = order_held_deadline(order);
}

void order_view(const struct actor *actor, struct order_view *view) {
    const struct order *order = order_of(actor);
    *view = (struct order_view){
        .key = actor->key,
        .version = actor->version,
        .last_index = actor->last_index,
        .state = actor->state,
        .fulfilment = order->fulfilment,
        .payment_timing = order->payment_timing,
        .ended_by = order->ended_by,
        .lines_total = order->lines_total,
        .fees = order->fees,
        .discounts = order->discounts,
        .total = order->total,
        .authorised = order_authorised(order),
        .captured = order->captured,
        .refunded = order->refunded,
        .refund_owed = order->refund_owed,
        .placed_ms = order->placed_ms,
        .updated_ms = order->updated_ms,
        .ready_estimate_ms = order->ready_estimate_ms,
        .lines_count = order->lines_count,
        .payments_count = order->parts_count,
        .commands_count = order->commands_count,
        .held_count = order->held_count,
        .notes_count = order->notes_count,
    };
    memcpy(view->currency, order->currency, sizeof order->currency);
    order_view_texts(order, view);
    order_view_deadlines(order, view);
}

/* `*cursor` is the offset of item `i` in its section; 0 = the first one, from which to walk. */
void order_view_line(const struct actor *actor, uint32_t i, uint32_t *cursor,
                     struct order_line_view *view) {
    const struct order *order = order_of(actor);
    require(i < order->lines_count);
    const uint8_t *lines = order_at(order, order_lines_at(order));
    for (uint32_t skip = *cursor == 0 ? i : 0; skip > 0; skip--) {
        *cursor += order_line_get(lines + *cursor).bytes;
    }
    require(*cursor < order->lines_bytes);
    struct order_line_read line = order_line_get(lines + *cursor);
    *cursor += line.bytes;
    *view = (struct order_line_view){.sku = bytes_of(line.sku, line.sku_bytes),
                                     .name = bytes_of(line.name, line.name_bytes),
                                     .quantity = line.quantity,
                                     .cancelled = line.cancelled,
                                     .unit_price = line.unit_price};
}

void order_view_payment(const struct actor *actor, uint32_t i, uint32_t *cursor,
                        struct order_payment_view *view) {
    const struct order *order = order_of(actor);
    require(i < order->parts_count);
    const uint8_t *parts = order_at(order, order_parts_at(order));
    for (uint32_t skip = *cursor == 0 ? i : 0; skip > 0; skip--) {
        *cursor += order_part_get(parts + *cursor).bytes;
    }
    require(*cursor < order->parts_bytes);
    struct order_part_read part = order_part_get(parts + *cursor);
    *cursor += part.bytes;
    *view = (struct order_payment_view){.method = bytes_of(part.method, part.method_bytes),
                                        .reference = bytes_of(part.reference, part.reference_bytes),
                                        .amount = part.amount,
                                        .state = part.state};
}
