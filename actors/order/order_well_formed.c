/* For bytes that come from a disk or a peer: after these checks apply, decide and view stay inside
 * the block and the event, whatever the bytes say. */
#include "actors/order/order_layout.h"
#include "actors/order/order_states.h"

/* -- events -------------------------------------------------------------------------------- */

static bool order_money_in_range(int64_t amount) {
    return amount >= 0 && amount <= ORDER_MONEY_MAX * ORDER_PAYMENTS_MAX;
}

static bool order_total_holds(int64_t lines_total, int64_t fees, int64_t discounts, int64_t total) {
    return lines_total >= 0 && lines_total <= ORDER_MONEY_MAX && fees >= 0 &&
           fees <= ORDER_MONEY_MAX && discounts >= 0 && discounts <= ORDER_MONEY_MAX &&
           total >= 0 && lines_total + fees - discounts == total;
}

static bool order_after_is_well_formed(const struct order_after *after) {
    return after->step_deadline_ms >= 0 && after->end_deadline_ms >= 0 &&
           order_money_in_range(after->refund_owed);
}

/* Whether exactly `tail` bytes and the padding stand behind a fixed part of `fixed` bytes. */
static bool order_payload_holds(const struct event *event, uint32_t fixed, uint32_t tail) {
    return event_payload_bytes(event) == ((fixed + tail + 7u) & ~7u);
}

static bool order_placed_is_well_formed(const struct event *event) {
    const struct order_placed *p = event_payload(event);
    int64_t total;
    if (event_payload_bytes(event) < sizeof *p) return false;
    uint32_t texts = p->store_bytes + p->customer_bytes + p->group_bytes + p->external_ref_bytes +
                     (uint32_t)p->attributes_bytes;
    if (p->lines_bytes > EVENT_BYTES_MAX) return false;
    if (!order_payload_holds(event, sizeof *p, texts + p->lines_bytes)) return false;
    if (p->store_bytes < 1 || p->store_bytes > ID_TEXT_BYTES_MAX ||
        p->customer_bytes > ID_TEXT_BYTES_MAX || p->group_bytes > ID_TEXT_BYTES_MAX ||
        p->external_ref_bytes > EXTERNAL_REF_BYTES_MAX ||
        p->attributes_bytes > ATTRIBUTES_BYTES_MAX) {
        return false;
    }
    if (p->fulfilment < 1 || p->fulfilment > FULFILMENT_PARCEL) return false;
    if (p->payment_timing < 1 || p->payment_timing > PAYMENT_ON_DELIVERY) return false;
    const uint8_t *lines = (const uint8_t *)(p + 1) + texts;
    return p->lines_count >= 1 &&
           order_lines_check(lines, p->lines_bytes, p->lines_count, &total) &&
           total == p->lines_total &&
           order_total_holds(p->lines_total, p->fees, p->discounts, p->total);
}

static bool order_amended_is_well_formed(const struct event *event) {
    const struct order_amended *a = event_payload(event);
    int64_t total;
    return event_payload_bytes(event) >= sizeof *a && a->lines_bytes <= EVENT_BYTES_MAX &&
           order_payload_holds(event, sizeof *a, a->lines_bytes) && a->lines_count >= 1 &&
           order_lines_check((const uint8_t *)(a + 1), a->lines_bytes, a->lines_count, &total) &&
           total == a->lines_total &&
           order_total_holds(a->lines_total, a->fees, a->discounts, a->total);
}

static bool order_payment_is_well_formed(const struct event *event) {
    const struct order_payment_recorded *r = event_payload(event);
    return event_payload_bytes(event) >= sizeof *r &&
           order_payload_holds(event, sizeof *r, r->method_bytes + (uint32_t)r->reference_bytes) &&
           r->method_bytes >= 1 && r->method_bytes <= ID_TEXT_BYTES_MAX &&
           r->reference_bytes >= 1 && r->reference_bytes <= ID_TEXT_BYTES_MAX &&
           r->part < ORDER_PAYMENTS_MAX && r->state >= PAYMENT_AUTHORISED &&
           r->state <= PAYMENT_VOIDED && r->amount >= 1 && r->amount <= ORDER_MONEY_MAX &&
           order_money_in_range(r->captured);
}

static bool order_ended_is_well_formed(const struct event *event) {
    const struct order_ended *e = event_payload(event);
    return event_payload_bytes(event) >= sizeof *e &&
           order_payload_holds(event, sizeof *e, e->reason_bytes) &&
           e->reason_bytes <= REASON_BYTES_MAX && e->by <= PARTY_SYSTEM;
}

static bool order_lines_cancelled_is_well_formed(const struct event *event) {
    const struct order_lines_cancelled *c = event_payload(event);
    const struct order_line_cut *cuts = (const struct order_line_cut *)(c + 1);
    if (event_payload_bytes(event) < sizeof *c) return false;
    if (c->cuts_count < 1 || c->cuts_count > ORDER_LINES_MAX) return false;
    if (c->reason_bytes > REASON_BYTES_MAX || c->by > PARTY_SYSTEM) return false;
    uint32_t tail = c->cuts_count * (uint32_t)sizeof *cuts + c->reason_bytes;
    if (!order_payload_holds(event, sizeof *c, tail)) return false;
    for (uint32_t i = 0; i < c->cuts_count; i++) {
        if (cuts[i].line >= ORDER_LINES_MAX || (i > 0 && cuts[i].line <= cuts[i - 1].line)) {
            return false;
        }
        if (cuts[i].quantity < 1 || cuts[i].quantity > ORDER_QUANTITY_MAX) return false;
    }
    return order_money_in_range(c->lines_total) && order_money_in_range(c->discounts) &&
           order_money_in_range(c->total);
}

static bool order_refunded_is_well_formed(const struct event *event) {
    const struct order_refunded *r = event_payload(event);
    return event_payload_bytes(event) >= sizeof *r &&
           order_payload_holds(event, sizeof *r, r->reason_bytes) &&
           r->reason_bytes <= REASON_BYTES_MAX && r->by <= PARTY_SYSTEM && r->amount >= 1 &&
           order_money_in_range(r->amount) && order_money_in_range(r->refunded);
}

/* The fields of a held command that say how long it is and how it is read. */
static bool order_held_is_well_formed(const struct order_held *held) {
    if (held->kind == COMMAND_PAY) {
        return held->cuts_count == 0 && held->reason_bytes == 0 && held->method_bytes >= 1 &&
               held->method_bytes <= ID_TEXT_BYTES_MAX && held->reference_bytes >= 1 &&
               held->reference_bytes <= ID_TEXT_BYTES_MAX && held->amount >= 1 &&
               held->amount <= ORDER_MONEY_MAX && held->state_or_by >= PAYMENT_AUTHORISED &&
               held->state_or_by <= PAYMENT_FAILED;
    }
    return held->kind == COMMAND_CANCEL && held->method_bytes == 0 && held->reference_bytes == 0 &&
           held->cuts_count <= ORDER_LINES_MAX && held->reason_bytes <= REASON_BYTES_MAX &&
           held->state_or_by >= PARTY_CUSTOMER && held->state_or_by <= PARTY_SYSTEM;
}

static bool order_command_held_is_well_formed(const struct event *event) {
    const struct order_command_held *h = event_payload(event);
    return event_payload_bytes(event) >= sizeof *h && order_held_is_well_formed(&h->held) &&
           order_payload_holds(event, ORDER_HELD_DEADLINE_BYTES,
                               order_held_item_bytes(&h->held)) &&
           id128_equal(&h->held.id, &event->cause) && h->held_deadline_ms > 0;
}

static bool order_held_expired_is_well_formed(const struct event *event) {
    const struct order_held_expired *e = event_payload(event);
    int64_t captured;
    return event_payload_bytes(event) >= sizeof *e &&
           order_payload_holds(event, sizeof *e, (uint32_t)e->parts_bytes + e->reason_bytes) &&
           e->reason_bytes <= REASON_BYTES_MAX &&
           order_parts_check((const uint8_t *)(e + 1), e->parts_bytes, e->parts_count, &captured) &&
           captured == e->captured;
}

static bool order_small_is_well_formed(const struct event *event) {
    const void *payload = event_payload(event);
    uint32_t bytes = event_payload_bytes(event);
    switch (event->kind) {
    case EVENT_ORDER_ACCEPTED:
        return bytes == sizeof(struct order_accepted) &&
               ((const struct order_accepted *)payload)->ready_estimate_ms >= 0;
    case EVENT_ORDER_PICKED_UP:
    case EVENT_ORDER_DELIVERED: return bytes == sizeof(struct order_moved);
    case EVENT_ORDER_READY:
    case EVENT_RIDER_UNASSIGNED:
    case EVENT_ORDER_RETIRED: return bytes == 0;
    case EVENT_RIDER_ASSIGNED: {
        const struct order_rider_assigned *a = payload;
        return bytes >= sizeof *a && order_payload_holds(event, sizeof *a, a->rider_bytes) &&
               a->rider_bytes >= 1 && a->rider_bytes <= ID_TEXT_BYTES_MAX;
    }
    case EVENT_ORDER_ANNOTATED: {
        const struct order_annotated *a = payload;
        return bytes >= sizeof *a && order_payload_holds(event, sizeof *a, a->note_bytes) &&
               a->note_bytes <= NOTE_BYTES_MAX;
    }
    case EVENT_HELD_COMMAND_RESOLVED: {
        const struct order_held_resolved *r = payload;
        return bytes == sizeof *r && r->code <= RESULT_LINE_QUANTITY_EXCEEDED;
    }
    default: return false;
    }
}

static bool order_payload_is_well_formed(const struct event *event) {
    switch (event->kind) {
    case EVENT_ORDER_PLACED: return order_placed_is_well_formed(event);
    case EVENT_PAYMENT_RECORDED: return order_payment_is_well_formed(event);
    case EVENT_ORDER_REJECTED:
    case EVENT_ORDER_CANCELLED:
    case EVENT_ORDER_EXPIRED:
    case EVENT_ORDER_COMPLETED: return order_ended_is_well_formed(event);
    case EVENT_LINES_CANCELLED: return order_lines_cancelled_is_well_formed(event);
    case EVENT_ORDER_REFUNDED: return order_refunded_is_well_formed(event);
    case EVENT_ORDER_AMENDED: return order_amended_is_well_formed(event);
    case EVENT_COMMAND_HELD: return order_command_held_is_well_formed(event);
    case EVENT_HELD_COMMANDS_EXPIRED: return order_held_expired_is_well_formed(event);
    default: return order_small_is_well_formed(event);
    }
}

static bool order_event_has_after(uint8_t kind) {
    switch (kind) {
    case EVENT_ORDER_READY:
    case EVENT_RIDER_ASSIGNED:
    case EVENT_RIDER_UNASSIGNED:
    case EVENT_ORDER_ANNOTATED:
    case EVENT_COMMAND_HELD:
    case EVENT_HELD_COMMAND_RESOLVED:
    case EVENT_ORDER_RETIRED: return false;
    default: return true;
    }
}

bool order_event_is_well_formed(const struct event *event) {
    if (!event_is_whole(event) || event->bytes > EVENT_BYTES_MAX) return false;
    if (!order_event_schema_is_known(event->schema) || event->version == 0 ||
        event->version > UINT16_MAX) {
        return false;
    }
    if (event->state_after < ORDER_AWAITED || event->state_after > ORDER_EXPIRED) return false;
    bool from_command =
        event->cause_kind >= COMMAND_PLACE && event->cause_kind <= COMMAND_ANNOTATE;
    if (!from_command && event->cause_kind != COMMAND_TIMER_DUE) return false;
    return order_payload_is_well_formed(event) &&
           implies(order_event_has_after(event->kind),
                   order_after_is_well_formed(event_payload(event)));
}

/* -- blocks -------------------------------------------------------------------------------- */

static bool order_head_is_well_formed(const struct order *o, uint32_t bytes) {
    const struct actor *actor = &o->actor;
    return actor->bytes == bytes && bytes <= ACTOR_BYTES_MAX && actor->kind == ACTOR_ORDER &&
           actor->schema == ORDER_SCHEMA && actor->state >= ORDER_AWAITED &&
           actor->state <= ORDER_EXPIRED && actor->version >= 1 && actor->version < UINT16_MAX &&
           (actor->flags & ~(ACTOR_OPEN | ACTOR_CLOSED | ACTOR_RETIRED)) == 0;
}

static bool order_sections_are_well_formed(const struct order *o, uint32_t bytes) {
    if (o->lines_bytes > bytes || o->held_bytes > bytes) return false;
    if (order_bytes_of_sections(o) != bytes) return false;
    if (o->store_bytes > ID_TEXT_BYTES_MAX || o->customer_bytes > ID_TEXT_BYTES_MAX ||
        o->group_bytes > ID_TEXT_BYTES_MAX || o->external_ref_bytes > EXTERNAL_REF_BYTES_MAX ||
        o->rider_bytes > ID_TEXT_BYTES_MAX || o->attributes_bytes > ATTRIBUTES_BYTES_MAX ||
        o->end_reason_bytes > REASON_BYTES_MAX) {
        return false;
    }
    return o->commands_count <= ORDER_COMMANDS_MAX && o->notes_count <= ORDER_COMMANDS_MAX;
}

/* Placed or not, in line with the state, and with what only a placed order has. */
static bool order_placing_is_well_formed(const struct order *o) {
    if (!order_was_placed(o)) {
        return (o->actor.state == ORDER_AWAITED || o->actor.state == ORDER_EXPIRED) &&
               o->lines_count == 0 && o->total == 0 && o->payment_timing == 0;
    }
    return o->actor.state != ORDER_AWAITED && o->fulfilment <= FULFILMENT_PARCEL &&
           o->payment_timing >= PAYMENT_PREPAID && o->payment_timing <= PAYMENT_ON_DELIVERY &&
           o->lines_count >= 1 && o->store_bytes >= 1;
}

static bool order_lists_are_well_formed(const struct order *o) {
    int64_t lines_total, captured;
    return order_lines_check(order_at(o, order_lines_at(o)), o->lines_bytes, o->lines_count,
                             &lines_total) &&
           lines_total == o->lines_total &&
           order_parts_check(order_at(o, order_parts_at(o)), o->parts_bytes, o->parts_count,
                             &captured) &&
           captured == o->captured;
}

static bool order_money_is_well_formed(const struct order *o) {
    return order_total_holds(o->lines_total, o->fees, o->discounts, o->total) &&
           order_money_in_range(o->captured) && o->refunded >= 0 && o->refunded <= o->captured &&
           o->refund_owed >= 0 && o->refund_owed <= o->captured - o->refunded;
}

static bool order_deadlines_are_well_formed(const struct order *o) {
    uint8_t state = o->actor.state;
    bool has_step = state == ORDER_PLACED || state == ORDER_PAID || state == ORDER_PICKED_UP ||
                    state == ORDER_DELIVERED;
    return o->step_deadline_ms >= 0 && o->end_deadline_ms >= 0 &&
           o->actor.next_deadline_ms >= 0 && implies(o->step_deadline_ms != 0, has_step) &&
           implies(o->end_deadline_ms != 0, o->refund_owed > 0 || order_state_is_end(state)) &&
           implies(o->refund_owed > 0, o->end_deadline_ms != 0);
}

static bool order_held_list_is_well_formed(const struct order *o) {
    uint32_t at = order_held_at(o), end = at + o->held_bytes;
    if (o->held_count == 0) return o->held_bytes == 0;
    if (o->held_count > ORDER_HELD_MAX || o->held_bytes < ORDER_HELD_DEADLINE_BYTES) return false;
    if (order_held_deadline(o) <= 0) return false;
    at += ORDER_HELD_DEADLINE_BYTES;
    for (uint32_t i = 0; i < o->held_count; i++) {
        if (end - at < sizeof(struct order_held)) return false;
        struct order_held held = order_held_get(o, at);
        if (!order_held_is_well_formed(&held)) return false;
        if (end - at < order_held_item_bytes(&held)) return false;
        uint32_t record = order_find_command(o, &held.id);
        if (record == 0 || order_command_get(o, record).outcome != RESULT_HELD) return false;
        at += order_held_item_bytes(&held);
    }
    return at == end;
}

bool order_is_well_formed(const void *block, uint32_t bytes) {
    const struct order *order = block;
    if (!block || bytes < sizeof *order || ((uintptr_t)block & 7u) != 0) return false;
    return order_head_is_well_formed(order, bytes) &&
           order_sections_are_well_formed(order, bytes) && order_placing_is_well_formed(order) &&
           order_lists_are_well_formed(order) && order_money_is_well_formed(order) &&
           order_deadlines_are_well_formed(order) && order_held_list_is_well_formed(order);
}
