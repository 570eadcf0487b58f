#include "tests/unit/actors/order_model.h"

#include <string.h>

#include "actors/order/order.h"
#include "engine/limits.h"

int64_t model_lines_total(const struct model *m) {
    int64_t sum = 0;
    for (int i = 0; i < m->lines_count; i++) {
        sum += (m->lines[i].quantity - m->lines[i].cancelled) * m->lines[i].price;
    }
    return sum;
}

int64_t model_total(const struct model *m) {
    return model_lines_total(m) + m->fees - m->discounts;
}

int64_t model_captured(const struct model *m) {
    int64_t sum = 0;
    for (int i = 0; i < m->parts_count; i++) {
        if (m->parts[i].state == PAYMENT_CAPTURED) sum += m->parts[i].amount;
    }
    return sum;
}

static bool model_lost_its_claim(const struct model *m) {
    return m->state == ORDER_REJECTED || m->state == ORDER_CANCELLED || m->state == ORDER_EXPIRED;
}

static bool model_has_ended(const struct model *m) {
    return m->state == ORDER_COMPLETED || model_lost_its_claim(m);
}

int64_t model_owed(const struct model *m) {
    int64_t keeps = m->placed && !model_lost_its_claim(m) ? model_total(m) : 0;
    int64_t has = model_captured(m) - m->refunded;
    return has > keeps ? has - keeps : 0;
}

int64_t model_next_deadline(const struct model *m) {
    int64_t all[] = {m->pay_by,    m->accept_by, m->complete_by,
                     m->refund_by, m->forget_by, m->held_until};
    int64_t first = 0;
    for (int i = 0; i < 6; i++) {
        if (all[i] != 0 && (first == 0 || all[i] < first)) first = all[i];
    }
    return first;
}

/* -- after each change --------------------------------------------------------------------- */

static void model_settle(struct model *m, int64_t now) {
    if (m->placed && (m->state == ORDER_PLACED || m->state == ORDER_PAID)) {
        int64_t captured = model_captured(m);
        bool paid =
            captured >= model_total(m) && (m->timing == PAYMENT_PREPAID || captured > 0);
        m->state = paid ? ORDER_PAID : ORDER_PLACED;
        bool waits_for_money = !paid && m->timing == PAYMENT_PREPAID;
        if (waits_for_money && m->pay_by == 0) m->pay_by = now + PAYMENT_DEADLINE_MS;
        if (!waits_for_money && m->accept_by == 0) m->accept_by = now + ACCEPTANCE_DEADLINE_MS;
        if (waits_for_money) m->accept_by = 0;
        if (!waits_for_money) m->pay_by = 0;
    } else {
        m->pay_by = m->accept_by = 0;
    }
    if (model_has_ended(m)) m->complete_by = 0;
    if (model_lost_its_claim(m)) {
        for (int i = 0; i < m->parts_count; i++) {
            if (m->parts[i].state == PAYMENT_AUTHORISED) m->parts[i].state = PAYMENT_VOIDED;
        }
    }
    if (model_owed(m) > 0) {
        if (m->refund_by == 0) m->refund_by = now + REFUND_DEADLINE_MS;
        m->forget_by = 0;
    } else {
        m->refund_by = 0;
        int64_t dead_key = m->birth_ms + KEY_PAST_MS_MAX + 1;
        int64_t kept = now + RETENTION_MS > dead_key ? now + RETENTION_MS : dead_key;
        if (model_has_ended(m) && m->forget_by == 0) m->forget_by = kept;
    }
}

static void model_end(struct model *m, int state, int by) {
    m->state = state;
    m->ended_by = by;
}

/* -- the commands: 0 = done, -1 = done before, else why not -------------------------------- */

static int model_check_basket(const struct model_command *c) {
    int64_t sum = 0;
    bool low = false, high = false, negative = c->fees < 0 || c->discounts < 0 || c->total < 0;
    if (c->lines_count == 0) return RESULT_LINES_MISSING;
    for (int i = 0; i < c->lines_count; i++) {
        low = low || c->lines[i].quantity <= 0;
        high = high || c->lines[i].quantity > ORDER_QUANTITY_MAX;
        negative = negative || c->lines[i].price < 0;
    }
    if (low) return RESULT_QUANTITY_NOT_POSITIVE;
    if (high) return RESULT_QUANTITY_TOO_LARGE;
    if (negative) return RESULT_MONEY_NEGATIVE;
    for (int i = 0; i < c->lines_count; i++) sum += c->lines[i].quantity * c->lines[i].price;
    return sum + c->fees - c->discounts == c->total ? 0 : RESULT_TOTAL_MISMATCH;
}

static void model_take_basket(struct model *m, const struct model_command *c) {
    memcpy(m->lines, c->lines, sizeof m->lines);
    m->lines_count = c->lines_count;
    m->fees = c->fees;
    m->discounts = c->discounts;
}

static int model_place(struct model *m, const struct model_command *c, bool store_paused) {
    if (store_paused) return RESULT_STORE_PAUSED;
    int code = model_check_basket(c);
    if (code) return code;
    if (c->bad_currency) return RESULT_CURRENCY_INVALID;
    model_take_basket(m, c);
    m->placed = true;
    m->fulfilment = c->fulfilment;
    m->timing = c->timing;
    m->state = ORDER_PLACED;
    return 0;
}

static int model_pay(struct model *m, const struct model_command *c) {
    struct model_part *part = NULL;
    if (c->amount <= 0) return RESULT_AMOUNT_NOT_POSITIVE;
    for (int i = 0; i < m->parts_count; i++) {
        if (m->parts[i].reference == c->reference) part = &m->parts[i];
    }
    int to = c->pay_state;
    if (to == PAYMENT_AUTHORISED && model_lost_its_claim(m)) to = PAYMENT_VOIDED;
    if (!part) {
        if (m->parts_count == MODEL_PARTS) return RESULT_PAYMENTS_LIMIT_REACHED;
        m->parts[m->parts_count++] = (struct model_part){c->reference, c->amount, to};
        return 0;
    }
    if (part->state == PAYMENT_CAPTURED && to != PAYMENT_CAPTURED) {
        return RESULT_PAYMENT_STATE_CONFLICT;
    }
    if (part->amount != c->amount) return RESULT_PAYMENT_AMOUNT_DIFFERS;
    if (part->state == to) return -1;
    part->state = to;
    return 0;
}

static bool model_is_before_handover(const struct model *m) {
    return m->state == ORDER_PLACED || m->state == ORDER_PAID || m->state == ORDER_ACCEPTED ||
           m->state == ORDER_READY;
}

static int model_cut(struct model *m, const struct model_command *c) {
    struct model_line after[MODEL_LINES];
    int64_t left = 0, value = m->fees;
    memcpy(after, m->lines, sizeof after);
    for (int i = 0; i < c->cuts_count; i++) {
        if (c->cuts[i].line >= m->lines_count) return RESULT_LINE_UNKNOWN;
        after[c->cuts[i].line].cancelled += c->cuts[i].quantity;
    }
    for (int i = 0; i < m->lines_count; i++) {
        if (after[i].cancelled > after[i].quantity) return RESULT_LINE_QUANTITY_EXCEEDED;
        left += after[i].quantity - after[i].cancelled;
        value += (after[i].quantity - after[i].cancelled) * after[i].price;
    }
    if (left == 0) {
        model_end(m, ORDER_CANCELLED, c->by);
        return 0;
    }
    memcpy(m->lines, after, sizeof after);
    if (m->discounts > value) m->discounts = value;
    return 0;
}

static int model_cancel(struct model *m, const struct model_command *c) {
    for (int i = 0; i < c->cuts_count; i++) {
        if (c->cuts[i].quantity <= 0) return RESULT_QUANTITY_NOT_POSITIVE;
    }
    bool comes_back = m->fulfilment == FULFILMENT_PARCEL &&
                      (m->state == ORDER_PICKED_UP || m->state == ORDER_DELIVERED);
    if (!model_is_before_handover(m) && !comes_back) return RESULT_NOT_ALLOWED_IN_STATE;
    if (c->cuts_count > 0) return model_cut(m, c);
    model_end(m, ORDER_CANCELLED, c->by);
    return 0;
}

static int model_refund(struct model *m, const struct model_command *c) {
    int64_t left = model_captured(m) - m->refunded;
    if (c->amount < 0) return RESULT_AMOUNT_NOT_POSITIVE;
    if (c->amount > left) return RESULT_REFUND_EXCEEDS_CAPTURED;
    if (left == 0) return RESULT_NOTHING_TO_REFUND;
    m->refunded += c->amount == 0 ? left : c->amount;
    return 0;
}

static int model_rider(struct model *m, int rider) {
    if (!model_is_before_handover(m)) return RESULT_NOT_ALLOWED_IN_STATE;
    if (m->fulfilment == FULFILMENT_PICKUP) return RESULT_NOT_ALLOWED_FOR_FULFILMENT;
    if (rider == 0 && m->rider == 0) return RESULT_RIDER_NOT_ASSIGNED;
    m->rider = rider;
    return 0;
}

static int model_accept(struct model *m, const struct model_command *c, int64_t now) {
    if (m->state != ORDER_PLACED && m->state != ORDER_PAID) return RESULT_NOT_ALLOWED_IN_STATE;
    if (m->state == ORDER_PLACED && m->timing == PAYMENT_PREPAID) return RESULT_PAYMENT_REQUIRED;
    m->state = ORDER_ACCEPTED;
    m->ready_at = c->minutes == 0 ? 0 : now + c->minutes * 60000LL;
    return 0;
}

static int64_t model_complete_after(const struct model *m) {
    return m->fulfilment == FULFILMENT_PARCEL ? AUTO_COMPLETE_PARCEL_MS : AUTO_COMPLETE_DELIVERY_MS;
}

static int model_pick_up(struct model *m, int64_t now) {
    if (m->state != ORDER_ACCEPTED && m->state != ORDER_READY) return RESULT_NOT_ALLOWED_IN_STATE;
    if (m->fulfilment == FULFILMENT_PLATFORM_DELIVERY && !m->rider) return RESULT_RIDER_REQUIRED;
    m->state = ORDER_PICKED_UP;
    if (m->fulfilment == FULFILMENT_PICKUP) m->complete_by = now + model_complete_after(m);
    return 0;
}

static int model_deliver(struct model *m, int64_t now) {
    if (m->state != ORDER_PICKED_UP) return RESULT_NOT_ALLOWED_IN_STATE;
    if (m->fulfilment == FULFILMENT_PICKUP) return RESULT_NOT_ALLOWED_FOR_FULFILMENT;
    m->state = ORDER_DELIVERED;
    m->complete_by = now + model_complete_after(m);
    return 0;
}

static int model_complete(struct model *m) {
    int last = m->fulfilment == FULFILMENT_PICKUP ? ORDER_PICKED_UP : ORDER_DELIVERED;
    if (m->state != last) return RESULT_NOT_ALLOWED_IN_STATE;
    model_end(m, ORDER_COMPLETED, 0);
    return 0;
}

static int model_amend(struct model *m, const struct model_command *c) {
    int code = model_check_basket(c);
    if (code) return code;
    if (m->state != ORDER_PLACED && m->state != ORDER_PAID) return RESULT_NOT_ALLOWED_IN_STATE;
    model_take_basket(m, c);
    return 0;
}

static int model_change(struct model *m, const struct model_command *c, int64_t now,
                        bool store_paused) {
    switch (c->kind) {
    case COMMAND_PLACE: return model_place(m, c, store_paused);
    case COMMAND_PAY: return model_pay(m, c);
    case COMMAND_ACCEPT: return model_accept(m, c, now);
    case COMMAND_REJECT:
        if (m->state != ORDER_PLACED && m->state != ORDER_PAID) return RESULT_NOT_ALLOWED_IN_STATE;
        model_end(m, ORDER_REJECTED, PARTY_STORE);
        return 0;
    case COMMAND_MARK_READY:
        if (m->state != ORDER_ACCEPTED) return RESULT_NOT_ALLOWED_IN_STATE;
        m->state = ORDER_READY;
        return 0;
    case COMMAND_ASSIGN_RIDER: return model_rider(m, c->rider);
    case COMMAND_UNASSIGN_RIDER: return model_rider(m, 0);
    case COMMAND_PICK_UP: return model_pick_up(m, now);
    case COMMAND_DELIVER: return model_deliver(m, now);
    case COMMAND_COMPLETE: return model_complete(m);
    case COMMAND_CANCEL: return model_cancel(m, c);
    case COMMAND_REFUND: return model_refund(m, c);
    case COMMAND_AMEND: return model_amend(m, c);
    default: m->notes++; return 0;
    }
}

/* -- around the commands ------------------------------------------------------------------- */

static struct model_memory *model_recall(struct model *m, uint64_t id) {
    for (int i = 0; i < m->ids_count; i++) {
        if (m->ids[i].id == id) return &m->ids[i];
    }
    return NULL;
}

static struct model_answer model_answer_of(const struct model *m, int code, bool repeated) {
    return (struct model_answer){code, repeated, m->version};
}

static struct model_answer model_remember(struct model *m, const struct model_command *c,
                                          int code) {
    m->exists = true;
    m->version++;
    m->ids[m->ids_count++] = (struct model_memory){c->id, c->kind, code, m->version};
    return model_answer_of(m, code, false);
}

static struct model_answer model_hold(struct model *m, const struct model_command *c, int64_t now) {
    if (m->held_count == MODEL_HELD) return model_answer_of(m, RESULT_HELD_LIMIT_REACHED, false);
    if (c->kind == COMMAND_PAY && c->amount <= 0) {
        return model_answer_of(m, RESULT_AMOUNT_NOT_POSITIVE, false);
    }
    for (int i = 0; c->kind == COMMAND_CANCEL && i < c->cuts_count; i++) {
        if (c->cuts[i].quantity <= 0) {
            return model_answer_of(m, RESULT_QUANTITY_NOT_POSITIVE, false);
        }
    }
    if (m->held_count == 0) m->held_until = now + HELD_DEADLINE_MS;
    m->held[m->held_count++] = *c;
    m->state = ORDER_AWAITED;
    return model_remember(m, c, RESULT_HELD);
}

static int model_check_time_of_key(const struct model *m, int64_t now) {
    if (m->birth_ms > now + KEY_FUTURE_MS_MAX) return RESULT_KEY_FROM_FUTURE;
    return m->birth_ms < now - KEY_PAST_MS_MAX ? RESULT_KEY_TOO_OLD : 0;
}

/* Whether the order's life so far lets the command through at all. */
static int model_admit(const struct model *m, const struct model_command *c, int64_t now) {
    if (m->retired) return RESULT_KEY_TOO_OLD;
    if (!m->exists || c->kind == COMMAND_PLACE) {
        int code = model_check_time_of_key(m, now);
        if (code) return code;
    }
    if (c->kind == COMMAND_PLACE) {
        if (m->placed) return RESULT_ORDER_EXISTS;
        return m->state == ORDER_EXPIRED ? RESULT_ORDER_EXPIRED_BEFORE_PLACED : 0;
    }
    if (!m->placed && m->state != ORDER_EXPIRED) {
        bool waits = c->kind == COMMAND_PAY || c->kind == COMMAND_CANCEL;
        return waits ? RESULT_HELD : RESULT_ORDER_NOT_FOUND;
    }
    bool always =
        c->kind == COMMAND_PAY || c->kind == COMMAND_REFUND || c->kind == COMMAND_ANNOTATE;
    return model_has_ended(m) && !always ? RESULT_ORDER_HAS_ENDED : 0;
}

struct model_answer model_do(struct model *m, const struct model_command *c, int64_t now,
                             bool store_paused) {
    struct model_memory *known = model_recall(m, c->id);
    if (known && known->kind != c->kind) return model_answer_of(m, RESULT_COMMAND_ID_REUSED, false);
    if (known) return (struct model_answer){known->code, true, known->version};
    int code = model_admit(m, c, now);
    if (code == RESULT_HELD) return model_hold(m, c, now);
    if (code) return model_answer_of(m, code, false);
    if (c->expected && c->expected != m->version) {
        return model_answer_of(m, RESULT_VERSION_CONFLICT, false);
    }
    code = model_change(m, c, now, store_paused);
    if (code == -1) return model_answer_of(m, RESULT_OK, true);
    if (code) return model_answer_of(m, code, false);
    model_settle(m, now);
    return model_remember(m, c, RESULT_OK);
}

void model_resolve(struct model *m, int64_t now) {
    struct model_command c = m->held[0];
    int code = 0;
    if (model_has_ended(m) && c.kind == COMMAND_CANCEL) code = RESULT_ORDER_HAS_ENDED;
    if (!code && c.expected && c.expected != m->version) code = RESULT_VERSION_CONFLICT;
    if (!code) code = model_change(m, &c, now, false);
    if (code == 0) {
        model_settle(m, now);
        m->version++;
    }
    m->version++;
    struct model_memory *known = model_recall(m, c.id);
    known->code = code == -1 ? RESULT_OK : code;
    known->version = m->version;
    m->held_count--;
    memmove(m->held, m->held + 1, sizeof m->held[0] * (size_t)m->held_count);
    if (m->held_count == 0) m->held_until = 0;
}

static void model_give_up_waiting(struct model *m) {
    m->version++;
    for (int i = 0; i < m->held_count; i++) {
        const struct model_command *c = &m->held[i];
        struct model_memory *known = model_recall(m, c->id);
        known->code = RESULT_ORDER_EXPIRED_BEFORE_PLACED;
        known->version = m->version;
        bool seen = c->kind != COMMAND_PAY || c->pay_state != PAYMENT_CAPTURED;
        for (int j = 0; j < m->parts_count; j++) seen |= m->parts[j].reference == c->reference;
        if (seen) continue;
        m->parts[m->parts_count++] =
            (struct model_part){c->reference, c->amount, PAYMENT_CAPTURED};
    }
    m->held_count = 0;
    m->held_until = 0;
    model_end(m, ORDER_EXPIRED, PARTY_SYSTEM);
}

void model_tick(struct model *m, int64_t now) {
    int64_t due = model_next_deadline(m);
    if (due == 0 || due > now) return;
    if (due == m->held_until) {
        model_give_up_waiting(m);
    } else if (due == m->forget_by) {
        m->forget_by = 0;
        m->retired = true;
        m->version++;
        return;
    } else {
        m->version++;
        if (due == m->pay_by || due == m->accept_by) {
            model_end(m, ORDER_EXPIRED, PARTY_SYSTEM);
        } else if (due == m->complete_by) {
            model_end(m, ORDER_COMPLETED, PARTY_SYSTEM);
        } else {
            m->refunded += model_owed(m);
        }
    }
    model_settle(m, now);
}
