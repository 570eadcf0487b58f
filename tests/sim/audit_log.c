/* Judges each log record when it is committed, and builds the model of all orders from it. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/message_event.h"
#include "actors/order/order.h"
#include "actors/order/order_event.h"
#include "engine/limits.h"
#include "engine/wire/routing.h"
#include "tests/sim/sim.h"

static uint64_t get_number(const uint8_t *at, uint32_t bytes) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) value = value << 8 | at[i];
    return value;
}

static struct sim_command *audit_command(struct sim *sim, const struct id128 *id) {
    uint64_t number = get_number(id->bytes + 8, 8);
    if (number >= sim->commands_count) return NULL;
    struct sim_command *m = sim->commands[number];
    return id128_equal(&m->c.id, id) ? m : NULL;
}

const struct audit_step *audit_step_of(const struct sim_order *order, uint32_t version) {
    return version >= 1 && version <= order->steps_count ? &order->steps[version - 1] : NULL;
}

static void bad_event(struct sim *sim, uint32_t shard, uint64_t index, const struct event *e,
                      const char *what) {
    sim_fail(sim, SIM_CORRECTNESS, "shard %u, entry %lu, %s version %u: %s", shard,
             (unsigned long)index, event_kind_name(e->kind), e->version, what);
}

/* -- who caused it ----------------------------------------------------------------------------- */

/* A command acts by one event of its own; a held one later once more, when it is resolved. */
static struct sim_command *audit_cause(struct sim *sim, uint32_t shard, uint64_t index,
                                       const struct event *e) {
    struct sim_command *m = audit_command(sim, &e->cause);
    if (m == NULL || !id128_equal(&m->c.subject, &e->subject) || m->c.kind != e->cause_kind) {
        bad_event(sim, shard, index, e, "nobody asked for this");
        return NULL;
    }
    if (e->flags & EVENT_FLAG_FROM_HELD) {
        if (m->acted_kind != EVENT_COMMAND_HELD) {
            bad_event(sim, shard, index, e, "what was not held is resolved");
        }
        if (m->resolved_index != 0) bad_event(sim, shard, index, e, "resolved twice");
        if (e->kind == EVENT_HELD_COMMAND_RESOLVED) {
            m->resolved_index = index;
            m->resolved_version = e->version;
            m->resolved_code = ((const struct order_held_resolved *)event_payload(e))->code;
        }
        return m;
    }
    if (m->acted_index != 0) bad_event(sim, shard, index, e, "a command is acted on twice");
    if (m->open + m->unknown == 0) {
        bad_event(sim, shard, index, e, "a command that was refused has left a trace");
    }
    if (index <= m->denied_last) {
        bad_event(sim, shard, index, e, "decided before a repeat was told it was not");
    }
    m->acted_index = index;
    m->acted_version = e->version;
    m->acted_kind = e->kind;
    return m;
}

/* -- orders ------------------------------------------------------------------------------------ */

static void audit_placed(struct sim *sim, uint32_t shard, uint64_t index, const struct event *e,
                         struct sim_order *o, int64_t time_ms) {
    const struct order_placed *p = event_payload(e);
    struct sim_command *m = audit_command(sim, &e->cause);
    if (m == NULL) return;
    const struct command_place *asked = &m->c.place;
    bool prepaid = asked->payment_timing == PAYMENT_PREPAID;
    int64_t payment = asked->payment_timeout_ms ? asked->payment_timeout_ms : PAYMENT_DEADLINE_MS;
    int64_t acceptance =
        asked->acceptance_timeout_ms ? asked->acceptance_timeout_ms : ACCEPTANCE_DEADLINE_MS;
    if (++o->placed > 1) bad_event(sim, shard, index, e, "placed twice");
    if (p->total != asked->total) bad_event(sim, shard, index, e, "placed with another total");
    if (p->after.step_deadline_ms != time_ms + (prepaid ? payment : acceptance)) {
        bad_event(sim, shard, index, e, "placed with another deadline than asked for");
    }
    o->placed_ms = time_ms;
}

static void audit_money(struct sim *sim, uint32_t shard, uint64_t index, const struct event *e,
                        struct sim_order *o, const struct sim_command *m) {
    int64_t captured = 0;
    if (e->kind == EVENT_PAYMENT_RECORDED && m != NULL && m->c.kind == COMMAND_PAY &&
        m->c.pay.state == PAYMENT_CAPTURED) {
        o->captured[m->reference] = m->c.pay.amount;
    }
    for (uint32_t i = 0; i < SIM_REFERENCES; i++) captured += o->captured[i];
    if (e->kind == EVENT_PAYMENT_RECORDED) {
        const struct order_payment_recorded *p = event_payload(e);
        if (!o->held_expired && p->captured != captured) {
            bad_event(sim, shard, index, e, "captured money does not add up");
        }
    }
    if (e->kind != EVENT_ORDER_REFUNDED) return;
    const struct order_refunded *r = event_payload(e);
    if (r->amount <= 0 || r->refunded != o->refunded + r->amount ||
        (!o->held_expired && r->refunded > captured)) {
        bad_event(sim, shard, index, e, "refunded money does not add up");
    }
    o->refunded = r->refunded;
}

static bool has_deadlines(uint8_t kind) {
    switch (kind) {
    case EVENT_ORDER_PLACED:
    case EVENT_PAYMENT_RECORDED:
    case EVENT_ORDER_ACCEPTED:
    case EVENT_ORDER_REJECTED:
    case EVENT_ORDER_PICKED_UP:
    case EVENT_ORDER_DELIVERED:
    case EVENT_ORDER_COMPLETED:
    case EVENT_ORDER_CANCELLED:
    case EVENT_LINES_CANCELLED:
    case EVENT_ORDER_REFUNDED:
    case EVENT_ORDER_AMENDED:
    case EVENT_ORDER_EXPIRED:
    case EVENT_HELD_COMMANDS_EXPIRED:
        return true;
    default:
        return false;
    }
}

static void audit_deadlines(struct sim *sim, uint32_t shard, uint64_t index, const struct event *e,
                            struct sim_order *o, int64_t time_ms) {
    if (e->cause_kind == COMMAND_TIMER_DUE) {
        int64_t due[] = {o->step_deadline_ms, o->end_deadline_ms, o->held_deadline_ms};
        bool is_due = false;
        for (uint32_t i = 0; i < 3; i++) is_due |= due[i] != 0 && due[i] <= time_ms;
        if (!is_due) bad_event(sim, shard, index, e, "a deadline fires early or twice");
        sim->totals.timers++;
    }
    if (e->kind == EVENT_COMMAND_HELD) {
        const struct order_command_held *held = event_payload(e);
        o->held_deadline_ms = held->held_deadline_ms;
    }
    if (has_deadlines(e->kind)) {
        const struct order_after *after = event_payload(e);
        o->step_deadline_ms = after->step_deadline_ms;
        o->end_deadline_ms = after->end_deadline_ms;
    }
    if (e->kind == EVENT_HELD_COMMANDS_EXPIRED) {
        o->held_expired = true;
        o->held_expired_version = e->version;
        o->held_deadline_ms = 0;
    }
    if (e->kind == EVENT_ORDER_RETIRED && o->retired) {
        bad_event(sim, shard, index, e, "retired twice");
    }
    if (e->kind == EVENT_ORDER_RETIRED) {
        o->retired = true;
        o->end_deadline_ms = 0;
    }
    if (e->kind == EVENT_ORDER_EXPIRED && ++o->expired > 1) {
        bad_event(sim, shard, index, e, "expired twice");
    }
    if (e->kind == EVENT_ORDER_COMPLETED && ++o->completed > 1) {
        bad_event(sim, shard, index, e, "completed twice");
    }
}

static void audit_order(struct sim *sim, uint32_t shard, uint64_t index, const struct event *e,
                        int64_t time_ms) {
    uint64_t number = get_number(e->subject.bytes + 10, 6);
    struct sim_order *o = number < sim->orders_count ? &sim->orders[number] : NULL;
    if (o == NULL || !id128_equal(&o->key, &e->subject) || o->shard != shard) {
        bad_event(sim, shard, index, e, "an order that nobody made, or of another shard");
        return;
    }
    if (e->version != o->version + 1)
        bad_event(sim, shard, index, e, "the version is not the next");
    if (e->prev_index != o->last_index) {
        bad_event(sim, shard, index, e, "the chain of events is broken");
    }
    if (e->state_before != o->state) bad_event(sim, shard, index, e, "decided on another state");
    if (o->retired) bad_event(sim, shard, index, e, "something happens after the order is retired");
    struct sim_command *m = NULL;
    if (!id128_is_zero(&e->cause)) {
        m = audit_cause(sim, shard, index, e);
    } else if (e->cause_kind != COMMAND_TIMER_DUE && e->cause_kind != COMMAND_RESOLVE_HELD) {
        bad_event(sim, shard, index, e, "it has no cause");
    }
    if (sim->verdict != SIM_OK) return;
    audit_deadlines(sim, shard, index, e, o, time_ms);
    if (e->kind == EVENT_ORDER_PLACED) audit_placed(sim, shard, index, e, o, time_ms);
    audit_money(sim, shard, index, e, o, m);
    o->version = e->version;
    o->state = e->state_after;
    o->last_index = index;
    if (o->steps_count == o->steps_capacity) {
        o->steps_capacity = o->steps_capacity ? 2 * o->steps_capacity : 8;
        o->steps = realloc(o->steps, o->steps_capacity * sizeof *o->steps);
        require(o->steps != NULL);
    }
    o->steps[o->steps_count++] = (struct audit_step){index, e->version, e->kind, e->state_after};
}

/* -- stores and messages ----------------------------------------------------------------------- */

static void audit_store(struct sim *sim, uint32_t shard, uint64_t index, const struct event *e) {
    struct sim_store *s = NULL;
    for (uint32_t i = 0; i < SIM_STORES; i++) {
        if (id128_equal(&sim->stores[i].key, &e->subject)) s = &sim->stores[i];
    }
    bool paused = e->kind == EVENT_STORE_PAUSED;
    if (s == NULL || !sim_is_home(sim, s, shard)) {
        bad_event(sim, shard, index, e, "a store that nobody knows, or of another shard");
        return;
    }
    if (e->version <= s->version) bad_event(sim, shard, index, e, "a store's version goes back");
    if (paused == s->paused) bad_event(sim, shard, index, e, "a switch that switches nothing");
    struct sim_command *m = audit_cause(sim, shard, index, e);
    s->version = e->version;
    s->paused = paused;
    s->switches++;
    if (m != NULL) m->switch_number = s->switches;
}

static uint64_t message_hash(const struct event *e) {
    struct bytes payload = message_event_payload(e);
    return routing_hash(payload.data, payload.size);
}

static void audit_sent(struct sim *sim, uint32_t shard, uint64_t index, const struct event *e) {
    struct audit_shard *a = &sim->audit[shard];
    const struct message_event *m = event_payload(e);
    if (m->peer >= sim->options.shards_count || m->peer == shard ||
        m->sequence != a->sent[m->peer].count + 1) {
        bad_event(sim, shard, index, e, "messages are not numbered without a gap");
        return;
    }
    hashes_add(&a->sent[m->peer], message_hash(e));
}

static void audit_seen(struct sim *sim, uint32_t shard, uint64_t index, const struct event *e) {
    const struct message_event *m = event_payload(e);
    if (m->sequence == 0 && m->peer == shard) return; /* news for a store of its own */
    if (m->peer >= sim->options.shards_count || m->peer == shard) {
        bad_event(sim, shard, index, e, "a message from nowhere");
        return;
    }
    struct audit_hashes *seen = &sim->audit[shard].seen[m->peer];
    const struct audit_hashes *sent = &sim->audit[m->peer].sent[shard];
    if (m->sequence != seen->count + 1) {
        bad_event(sim, shard, index, e, "a message is accepted twice or one is left out");
    } else if (m->sequence > sent->count) {
        bad_event(sim, shard, index, e, "a message is accepted before its cause is committed");
    } else if (sent->items[m->sequence - 1] != message_hash(e)) {
        bad_event(sim, shard, index, e, "a message arrives as another one than was sent");
    }
    hashes_add(seen, message_hash(e));
}

/* -- records ----------------------------------------------------------------------------------- */

void audit_record(struct sim *sim, uint32_t shard, const struct record_header *h,
                  const void *payload) {
    struct audit_shard *a = &sim->audit[shard];
    const struct entry_header *entry = payload;
    uint32_t offset = 0, size = h->payload_bytes - (uint32_t)sizeof *entry, count = 0;
    const struct event *e;
    if (h->type != RECORD_EVENTS) return;
    if (entry->shard != shard || entry->time_ms < a->time_ms) {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u, entry %lu: %s", shard, (unsigned long)h->index,
                 entry->shard != shard ? "it is another shard's" : "the log's time goes back");
    }
    a->time_ms = entry->time_ms;
    while (sim->verdict == SIM_OK && (e = event_next(entry + 1, size, &offset)) != NULL) {
        count++;
        sim->totals.events++;
        upgrade_see(sim, shard, h->index, e);
        if (e->kind == EVENT_MESSAGE_ACKNOWLEDGED || e->kind == EVENT_SHARDS_KNOWN) continue;
        if (e->kind == EVENT_MESSAGE_SENT)
            audit_sent(sim, shard, h->index, e);
        else if (e->kind == EVENT_MESSAGE_SEEN)
            audit_seen(sim, shard, h->index, e);
        else if (e->kind < EVENT_STORE_PAUSED)
            audit_order(sim, shard, h->index, e, entry->time_ms);
        else
            audit_store(sim, shard, h->index, e);
    }
    if (sim->verdict == SIM_OK && (offset != size || count != entry->events_count || count == 0)) {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u, entry %lu: its events do not add up", shard,
                 (unsigned long)h->index);
    }
}
