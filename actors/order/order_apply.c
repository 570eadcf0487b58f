/* Event -> state. Total, deterministic, and without an opinion: every number and deadline is copied
 * from the event. */
#include "actors/order/order_layout.h"
#include "actors/order/order_states.h"

/* Puts `size` bytes in the place of `old_size` bytes at `offset`; what stands behind moves. */
static void order_splice(struct order *order, uint32_t offset, uint32_t old_size, const void *bytes,
                         uint32_t size) {
    uint8_t *at = (uint8_t *)order + offset;
    uint32_t used = order->actor.bytes;
    require(offset <= used && old_size <= used - offset);
    uint32_t behind = used - offset - old_size;
    if (size != old_size && behind != 0) memmove(at + size, at + old_size, behind);
    if (size != 0) memcpy(at, bytes, size);
    order->actor.bytes = used - old_size + size;
}

static void order_apply_after(struct order *order, const struct order_after *after) {
    order->step_deadline_ms = after->step_deadline_ms;
    order->end_deadline_ms = after->end_deadline_ms;
    order->refund_owed = after->refund_owed;
}

static void order_apply_placed(struct order *order, const struct event *event, int64_t time_ms) {
    const struct order_placed *placed = event_payload(event);
    require(!order_was_placed(order));
    uint32_t texts = placed->store_bytes + placed->customer_bytes + placed->group_bytes +
                     placed->external_ref_bytes + (uint32_t)placed->attributes_bytes;
    order_splice(order, sizeof *order, 0, placed + 1, texts + placed->lines_bytes);
    order_apply_after(order, &placed->after);
    order->lines_total = placed->lines_total;
    order->fees = placed->fees;
    order->discounts = placed->discounts;
    order->total = placed->total;
    order->placed_ms = time_ms;
    order->payment_timeout_ms = placed->payment_timeout_ms;
    order->acceptance_timeout_ms = placed->acceptance_timeout_ms;
    order->auto_complete_ms = placed->auto_complete_ms;
    order->lines_bytes = placed->lines_bytes;
    order->lines_count = placed->lines_count;
    order->attributes_bytes = placed->attributes_bytes;
    order->fulfilment = placed->fulfilment;
    order->payment_timing = placed->payment_timing;
    memcpy(order->currency, placed->currency, sizeof order->currency);
    order->store_bytes = placed->store_bytes;
    order->customer_bytes = placed->customer_bytes;
    order->group_bytes = placed->group_bytes;
    order->external_ref_bytes = placed->external_ref_bytes;
}

static void order_apply_amended(struct order *order, const struct event *event) {
    const struct order_amended *amended = event_payload(event);
    order_splice(order, order_lines_at(order), order->lines_bytes, amended + 1,
                 amended->lines_bytes);
    order_apply_after(order, &amended->after);
    order->lines_total = amended->lines_total;
    order->fees = amended->fees;
    order->discounts = amended->discounts;
    order->total = amended->total;
    order->lines_bytes = amended->lines_bytes;
    order->lines_count = amended->lines_count;
}

static void order_apply_payment(struct order *order, const struct event *event) {
    const struct order_payment_recorded *recorded = event_payload(event);
    uint32_t offset = order_parts_at(order);
    require(recorded->part <= order->parts_count);
    for (uint32_t i = 0; i < recorded->part; i++) {
        offset += order_part_get(order_at(order, offset)).bytes;
    }
    if (recorded->part < order->parts_count) {
        order_part_set_state((uint8_t *)order + offset, recorded->state);
    } else {
        uint8_t part[ORDER_PART_BYTES_MAX];
        const char *method = (const char *)(recorded + 1);
        require(order->parts_count < ORDER_PAYMENTS_MAX);
        require(recorded->method_bytes <= ID_TEXT_BYTES_MAX &&
                recorded->reference_bytes <= ID_TEXT_BYTES_MAX);
        uint8_t *end = order_part_put(part, recorded->state, recorded->amount,
                                      recorded->method_bytes, recorded->reference_bytes, method,
                                      method + recorded->method_bytes);
        uint32_t bytes = (uint32_t)(end - part);
        order_splice(order, offset, 0, part, bytes);
        order->parts_bytes = (uint16_t)(order->parts_bytes + bytes);
        order->parts_count++;
    }
    order_apply_after(order, &recorded->after);
    order->captured = recorded->captured;
}

static void order_set_end_reason(struct order *order, const void *reason, uint16_t bytes) {
    order_splice(order, order_end_reason_at(order), order->end_reason_bytes, reason, bytes);
    order->end_reason_bytes = bytes;
}

/* An end that gives up the claim releases what was only authorised. */
static void order_void_authorised(struct order *order) {
    uint8_t *at = (uint8_t *)order + order_parts_at(order);
    for (uint32_t i = 0; i < order->parts_count; i++) {
        struct order_part_read part = order_part_get(at);
        if (part.state == PAYMENT_AUTHORISED) order_part_set_state(at, PAYMENT_VOIDED);
        at += part.bytes;
    }
}

static void order_apply_ended(struct order *order, const struct event *event) {
    const struct order_ended *ended = event_payload(event);
    order_apply_after(order, &ended->after);
    order->ended_by = ended->by;
    order_set_end_reason(order, ended + 1, ended->reason_bytes);
    if (event->kind != EVENT_ORDER_COMPLETED) order_void_authorised(order);
}

static void order_apply_lines_cancelled(struct order *order, const struct event *event) {
    const struct order_lines_cancelled *cut = event_payload(event);
    const struct order_line_cut *cuts = (const struct order_line_cut *)(cut + 1);
    uint8_t *at = (uint8_t *)order + order_lines_at(order);
    uint32_t next = 0;
    for (uint32_t i = 0; i < order->lines_count && next < cut->cuts_count; i++) {
        struct order_line_read line = order_line_get(at);
        if (cuts[next].line == i) {
            require(cuts[next].quantity <= line.quantity - line.cancelled);
            order_number_put(at + line.cancelled_at, line.quantity_width,
                             (uint64_t)line.cancelled + cuts[next].quantity);
            next++;
        }
        at += line.bytes;
    }
    require(next == cut->cuts_count);
    order_apply_after(order, &cut->after);
    order->lines_total = cut->lines_total;
    order->discounts = cut->discounts;
    order->total = cut->total;
}

static void order_set_rider(struct order *order, const void *rider, uint8_t bytes) {
    order_splice(order, order_rider_at(order), order->rider_bytes, rider, bytes);
    order->rider_bytes = bytes;
}

/* Field by field where it belongs: a record that is put together elsewhere and then copied waits
 * for its bytes, and with them for all that was written before, cold lines included. */
static void order_remember(struct order *order, const struct event *event, uint8_t outcome) {
    uint8_t *at = (uint8_t *)order + order->actor.bytes;
    uint16_t version = (uint16_t)event->version;
    require(order->commands_count < ORDER_COMMANDS_MAX && event->version <= UINT16_MAX);
    memcpy(at + offsetof(struct order_command_record, id), &event->cause, sizeof event->cause);
    memcpy(at + offsetof(struct order_command_record, version), &version, sizeof version);
    at[offsetof(struct order_command_record, kind)] = (uint8_t)event->cause_kind;
    at[offsetof(struct order_command_record, outcome)] = outcome;
    order->actor.bytes += (uint32_t)sizeof(struct order_command_record);
    order->commands_count++;
}

static void order_set_outcome(struct order *order, const struct id128 *id, uint32_t version,
                              uint16_t outcome) {
    uint32_t at = order_find_command(order, id);
    require(at != 0 && version <= UINT16_MAX);
    struct order_command_record record = order_command_get(order, at);
    record.version = (uint16_t)version;
    record.outcome = (uint8_t)outcome;
    memcpy((uint8_t *)order + at, &record, sizeof record);
}

static void order_apply_held(struct order *order, const struct event *event) {
    const struct order_command_held *waits = event_payload(event);
    uint32_t bytes = order_held_item_bytes(&waits->held);
    require(order->held_count < ORDER_HELD_MAX);
    if (order->held_bytes == 0) {
        order_splice(order, order_held_at(order), 0, &waits->held_deadline_ms,
                     ORDER_HELD_DEADLINE_BYTES);
        order->held_bytes = ORDER_HELD_DEADLINE_BYTES;
    }
    memcpy((uint8_t *)order + order_held_at(order), &waits->held_deadline_ms,
           sizeof waits->held_deadline_ms);
    order_splice(order, order_held_at(order) + order->held_bytes, 0, &waits->held, bytes);
    order->held_bytes += bytes;
    order->held_count++;
}

static void order_drop_held(struct order *order, uint32_t bytes, uint8_t count) {
    uint32_t at = order_held_at(order);
    order->held_count = (uint8_t)(order->held_count - count);
    if (order->held_count == 0) {
        order_splice(order, at, order->held_bytes, NULL, 0);
        order->held_bytes = 0;
    } else {
        order_splice(order, at + ORDER_HELD_DEADLINE_BYTES, bytes, NULL, 0);
        order->held_bytes -= bytes;
    }
}

static void order_apply_held_resolved(struct order *order, const struct event *event) {
    const struct order_held_resolved *resolved = event_payload(event);
    require(order->held_count > 0);
    struct order_held held =
        order_held_get(order, order_held_at(order) + ORDER_HELD_DEADLINE_BYTES);
    require(id128_equal(&held.id, &event->cause));
    order_set_outcome(order, &held.id, event->version, resolved->code);
    order_drop_held(order, order_held_item_bytes(&held), 1);
}

static void order_apply_held_expired(struct order *order, const struct event *event) {
    const struct order_held_expired *expired = event_payload(event);
    require(!order_was_placed(order) && order->parts_count == 0);
    uint32_t at = order_held_at(order) + ORDER_HELD_DEADLINE_BYTES;
    for (uint32_t i = 0; i < order->held_count; i++) {
        struct order_held held = order_held_get(order, at);
        order_set_outcome(order, &held.id, event->version, RESULT_ORDER_EXPIRED_BEFORE_PLACED);
        at += order_held_item_bytes(&held);
    }
    if (order->held_count != 0) order_drop_held(order, order->held_bytes, order->held_count);
    const uint8_t *parts = (const uint8_t *)(expired + 1);
    order_splice(order, order_parts_at(order), 0, parts, expired->parts_bytes);
    order->parts_bytes = expired->parts_bytes;
    order->parts_count = expired->parts_count;
    order->captured = expired->captured;
    order->ended_by = PARTY_SYSTEM;
    order_set_end_reason(order, parts + expired->parts_bytes, expired->reason_bytes);
    order_apply_after(order, &expired->after);
}

static void order_apply_refunded(struct order *order, const struct event *event) {
    const struct order_refunded *refund = event_payload(event);
    order_apply_after(order, &refund->after);
    order->refunded = refund->refunded;
}

static void order_apply_kind(struct order *order, const struct event *event,
                             const struct apply_context *context) {
    const void *payload = event_payload(event);
    switch (event->kind) {
    case EVENT_ORDER_PLACED: order_apply_placed(order, event, context->time_ms); break;
    case EVENT_PAYMENT_RECORDED: order_apply_payment(order, event); break;
    case EVENT_ORDER_ACCEPTED:
        order_apply_after(order, payload);
        order->ready_estimate_ms = ((const struct order_accepted *)payload)->ready_estimate_ms;
        break;
    case EVENT_ORDER_READY: break;
    case EVENT_RIDER_ASSIGNED: {
        const struct order_rider_assigned *assigned = payload;
        order_set_rider(order, assigned + 1, assigned->rider_bytes);
        break;
    }
    case EVENT_RIDER_UNASSIGNED: order_set_rider(order, NULL, 0); break;
    case EVENT_ORDER_PICKED_UP:
    case EVENT_ORDER_DELIVERED: order_apply_after(order, payload); break;
    case EVENT_ORDER_REJECTED:
    case EVENT_ORDER_CANCELLED:
    case EVENT_ORDER_EXPIRED:
    case EVENT_ORDER_COMPLETED: order_apply_ended(order, event); break;
    case EVENT_LINES_CANCELLED: order_apply_lines_cancelled(order, event); break;
    case EVENT_ORDER_REFUNDED: order_apply_refunded(order, event); break;
    case EVENT_ORDER_AMENDED: order_apply_amended(order, event); break;
    case EVENT_ORDER_ANNOTATED: order->notes_count++; break;
    case EVENT_COMMAND_HELD: order_apply_held(order, event); break;
    case EVENT_HELD_COMMAND_RESOLVED: order_apply_held_resolved(order, event); break;
    case EVENT_HELD_COMMANDS_EXPIRED: order_apply_held_expired(order, event); break;
    case EVENT_ORDER_RETIRED:
        order->end_deadline_ms = 0;
        order->actor.flags |= ACTOR_RETIRED;
        break;
    default: impossible("an event of another actor kind was given to an order");
    }
}

static int64_t order_earlier(int64_t a, int64_t b) {
    if (a == 0 || b == 0) return a + b;
    return a < b ? a : b;
}

static void order_apply_head(struct order *order, const struct event *event,
                             const struct apply_context *context) {
    struct actor *actor = &order->actor;
    actor->version = event->version;
    actor->state = event->state_after;
    actor->last_index = context->index;
    order->updated_ms = context->time_ms;
    actor->next_deadline_ms = order_earlier(
        order_earlier(order->step_deadline_ms, order->end_deadline_ms), order_held_deadline(order));
    uint8_t flags = actor->flags & ACTOR_RETIRED;
    if (actor->state >= ORDER_PLACED && actor->state <= ORDER_DELIVERED) flags |= ACTOR_OPEN;
    if (actor->state >= ORDER_DELIVERED && order->refund_owed == 0 && order->held_count == 0) {
        flags |= ACTOR_CLOSED;
    }
    actor->flags = flags;
}

void order_apply_plainly(struct actor *actor, const struct event *event,
                         const struct apply_context *context) {
    struct order *order = (struct order *)(void *)actor;
    if (actor->bytes == 0) {
        actor->bytes = sizeof *order;
        actor->kind = ACTOR_ORDER;
        actor->schema = ORDER_SCHEMA;
        actor->key = event->subject;
    }
    require(event->version == actor->version + 1);
    require(order_event_schema_is_known(event->schema));
    order_apply_kind(order, event, context);
    bool from_held = event->flags & EVENT_FLAG_FROM_HELD;
    if (!from_held && event->cause_kind <= COMMAND_ANNOTATE) {
        order_remember(order, event, event->kind == EVENT_COMMAND_HELD ? RESULT_HELD : RESULT_OK);
    }
    order_apply_head(order, event, context);
}

void order_apply(struct actor *actor, const struct event *event,
                 const struct apply_context *context) {
    order_apply_plainly(actor, event, context);
    order_check_invariants(actor);
}

/* How much the block grows at most; what it shrinks by is not counted. */
static uint32_t order_growth(const struct event *event) {
    const void *payload = event_payload(event);
    switch (event->kind) {
    case EVENT_ORDER_PLACED: return event_payload_bytes(event) - sizeof(struct order_placed);
    case EVENT_PAYMENT_RECORDED: {
        const struct order_payment_recorded *recorded = payload;
        return order_part_bytes(recorded->amount, recorded->method_bytes,
                                recorded->reference_bytes);
    }
    case EVENT_RIDER_ASSIGNED: return ((const struct order_rider_assigned *)payload)->rider_bytes;
    case EVENT_ORDER_REJECTED:
    case EVENT_ORDER_CANCELLED:
    case EVENT_ORDER_EXPIRED:
    case EVENT_ORDER_COMPLETED: return ((const struct order_ended *)payload)->reason_bytes;
    case EVENT_ORDER_AMENDED: return ((const struct order_amended *)payload)->lines_bytes;
    case EVENT_COMMAND_HELD: return event_payload_bytes(event);
    case EVENT_HELD_COMMANDS_EXPIRED:
        return event_payload_bytes(event) - sizeof(struct order_held_expired);
    default: return 0;
    }
}

uint32_t order_bytes_after(const struct actor *actor, const struct event *event) {
    uint32_t before = actor ? actor->bytes : (uint32_t)sizeof(struct order);
    if (before == 0) before = sizeof(struct order);
    return before + order_growth(event) + (uint32_t)sizeof(struct order_command_record);
}
