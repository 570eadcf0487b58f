#include "clients/replay/cause.h"

#include <stdlib.h>

#include "actors/order/order_event.h"
#include "actors/order/order_lines.h"
#include "actors/store/store_event.h"

struct tail { const uint8_t *at; };

static struct bytes tail_take(struct tail *t, uint32_t size) {
    struct bytes taken = bytes_of(t->at, size);
    t->at += size;
    return taken;
}

void cause_free(struct cause *c) {
    free(c->lines);
    free(c->cuts);
    *c = (struct cause){.lines = NULL};
}

static bool cause_lines(struct cause *c, const uint8_t *at, uint32_t count) {
    if (count > c->lines_capacity) {
        struct order_line *lines = realloc(c->lines, count * sizeof *lines);
        if (!lines) return false;
        c->lines = lines;
        c->lines_capacity = count;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct order_line_read line = order_line_get(at);
        c->lines[i] = (struct order_line){.sku = bytes_of(line.sku, line.sku_bytes),
                                          .name = bytes_of(line.name, line.name_bytes),
                                          .quantity = line.quantity,
                                          .unit_price = line.unit_price};
        at += line.bytes;
    }
    return true;
}

static bool cause_cuts(struct cause *c, const uint8_t *at, uint32_t count) {
    if (count > c->cuts_capacity) {
        struct line_cancellation *cuts = realloc(c->cuts, count * sizeof *cuts);
        if (!cuts) return false;
        c->cuts = cuts;
        c->cuts_capacity = count;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct order_line_cut cut; /* unaligned in a held command */
        memcpy(&cut, at + i * sizeof cut, sizeof cut);
        c->cuts[i] = (struct line_cancellation){cut.line, cut.quantity};
    }
    c->command.cancel.lines = c->cuts;
    c->command.cancel.lines_count = count;
    return true;
}

static int64_t cause_unless(int64_t value, int64_t default_value) {
    return value == default_value ? 0 : value;
}

static bool cause_place(struct cause *c, const struct order_placed *p) {
    struct tail t = {(const uint8_t *)(p + 1)};
    struct command_place *place = &c->command.place;
    *place = (struct command_place){.fulfilment = p->fulfilment,
                                    .payment_timing = p->payment_timing,
                                    .fees = p->fees, .discounts = p->discounts,
                                    .total = p->total};
    memcpy(place->currency, p->currency, 3);
    place->store = tail_take(&t, p->store_bytes);
    place->customer = tail_take(&t, p->customer_bytes);
    place->group = tail_take(&t, p->group_bytes);
    place->external_ref = tail_take(&t, p->external_ref_bytes);
    place->attributes = tail_take(&t, p->attributes_bytes);
    place->payment_timeout_ms = cause_unless(p->payment_timeout_ms, PAYMENT_DEADLINE_MS);
    place->acceptance_timeout_ms = cause_unless(p->acceptance_timeout_ms, ACCEPTANCE_DEADLINE_MS);
    place->auto_complete_ms = cause_unless(
        p->auto_complete_ms, p->fulfilment == FULFILMENT_PARCEL ? AUTO_COMPLETE_PARCEL_MS
                                                                : AUTO_COMPLETE_DELIVERY_MS);
    if (!cause_lines(c, t.at, p->lines_count)) return false;
    place->lines = c->lines;
    place->lines_count = p->lines_count;
    return true;
}

static bool cause_amend(struct cause *c, const struct order_amended *p) {
    if (!cause_lines(c, (const uint8_t *)(p + 1), p->lines_count)) return false;
    c->command.amend = (struct command_amend){.lines = c->lines, .lines_count = p->lines_count,
                                              .fees = p->fees, .discounts = p->discounts,
                                              .total = p->total};
    return true;
}

static void cause_pay(struct cause *c, const struct order_payment_recorded *p) {
    struct tail t = {(const uint8_t *)(p + 1)};
    /* An authorisation that came to an order which had given up its claim is voided at once. */
    c->command.pay.state = p->state == PAYMENT_VOIDED ? (uint8_t)PAYMENT_AUTHORISED : p->state;
    c->command.pay.amount = p->amount;
    c->command.pay.method = tail_take(&t, p->method_bytes);
    c->command.pay.reference = tail_take(&t, p->reference_bytes);
}

static bool cause_held(struct cause *c, const struct order_held *held) {
    struct tail t = {(const uint8_t *)(held + 1)};
    struct bytes method = tail_take(&t, held->method_bytes);
    struct bytes reference = tail_take(&t, held->reference_bytes);
    struct bytes reason = tail_take(&t, held->reason_bytes);
    c->command.expected_version = held->expected_version;
    if (held->kind == COMMAND_PAY) {
        c->command.pay = (struct command_pay){held->state_or_by, method, reference, held->amount};
        return true;
    }
    c->command.cancel.by = held->state_or_by;
    c->command.cancel.reason = reason;
    return cause_cuts(c, t.at, held->cuts_count);
}

static bool cause_lines_cancelled(struct cause *c, const struct order_lines_cancelled *p) {
    const uint8_t *cuts = (const uint8_t *)(p + 1);
    c->command.cancel.by = p->by;
    c->command.cancel.reason =
        bytes_of(cuts + p->cuts_count * sizeof(struct order_line_cut), p->reason_bytes);
    return cause_cuts(c, cuts, p->cuts_count);
}

static bool cause_order(struct cause *c, const struct event *e, int64_t time_ms) {
    const void *p = event_payload(e);
    const struct order_ended *ended = p;
    switch (e->kind) {
    case EVENT_ORDER_PLACED: return cause_place(c, p);
    case EVENT_ORDER_AMENDED: return cause_amend(c, p);
    case EVENT_PAYMENT_RECORDED: cause_pay(c, p); return true;
    case EVENT_COMMAND_HELD:
        return cause_held(c, &((const struct order_command_held *)p)->held);
    case EVENT_LINES_CANCELLED: return cause_lines_cancelled(c, p);
    case EVENT_ORDER_ACCEPTED: {
        int64_t ready_ms = ((const struct order_accepted *)p)->ready_estimate_ms;
        c->command.accept.preparation_minutes = ready_ms ? (ready_ms - time_ms) / 60000 : 0;
        return true;
    }
    case EVENT_ORDER_REJECTED:
        c->command.reject.reason = bytes_of(ended + 1, ended->reason_bytes);
        return true;
    case EVENT_ORDER_CANCELLED:
        c->command.cancel = (struct command_cancel){
            .by = ended->by, .reason = bytes_of(ended + 1, ended->reason_bytes)};
        return true;
    case EVENT_RIDER_ASSIGNED: {
        const struct order_rider_assigned *a = p;
        c->command.assign_rider.rider = bytes_of(a + 1, a->rider_bytes);
        return true;
    }
    case EVENT_ORDER_REFUNDED: {
        const struct order_refunded *r = p;
        c->command.refund.amount = r->amount;
        c->command.refund.reason = bytes_of(r + 1, r->reason_bytes);
        return true;
    }
    case EVENT_ORDER_ANNOTATED: {
        const struct order_annotated *a = p;
        c->command.annotate.note = bytes_of(a + 1, a->note_bytes);
        return true;
    }
    default: return true; /* ready, pick up, deliver, complete, unassign: nothing beside the kind */
    }
}

enum cause_outcome cause_of(const struct event *e, int64_t time_ms, struct cause *c) {
    memset(&c->command, 0, sizeof c->command);
    c->command.kind = (uint8_t)e->cause_kind;
    c->command.subject = e->subject;
    c->command.id = e->cause;
    c->command.trace = event_trace(e);
    if (e->cause_kind == COMMAND_TIMER_DUE) return CAUSE_DEADLINE;
    if (e->flags & EVENT_FLAG_FROM_HELD) return CAUSE_NONE;
    if (e->kind == EVENT_STORE_PAUSED || e->kind == EVENT_STORE_RESUMED) {
        const struct store_switched *s = event_payload(e);
        c->command.store.store = bytes_of(s + 1, s->id_bytes);
        c->command.store.reason =
            bytes_of((const uint8_t *)(s + 1) + s->id_bytes, s->reason_bytes);
        return CAUSE_COMMAND;
    }
    return cause_order(c, e, time_ms) ? CAUSE_COMMAND : CAUSE_FAILED;
}
