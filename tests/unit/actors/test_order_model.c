/* Random lives of orders, compared with the model after every step.
 *
 *   test_order_model             all seeds of the suite
 *   test_order_model <seed>      one life; the seed that a failure prints */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "tests/unit/actors/order_model.h"
#include "tests/unit/actors/order_world.h"

enum { LIVES = 8000, STEPS = 60 };

struct life {
    uint64_t seed, random;
    uint32_t step;
    struct world world;
    struct model model;
    struct model_command accepted[STEPS * 2];
    uint32_t accepted_count;
    struct order_line lines[MODEL_LINES];
    struct line_cancellation cuts[MODEL_CUTS];
    char texts[4];
};

/* What the lives of the suite came across: a generator that misses a rule proves nothing of it. */
static uint32_t seen_codes[256], seen_states[ORDER_EXPIRED + 1], seen_events[64];

static uint32_t life_random(struct life *l, uint32_t below) {
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return (uint32_t)((l->random >> 20) % below);
}

#define same(what, got, expected)                                                                  \
    do {                                                                                           \
        long long same_got = (long long)(got), same_expected = (long long)(expected);              \
        if (same_got != same_expected) {                                                           \
            fail_msg("seed %llu, step %u: %s is %lld, the model says %lld",                        \
                     (unsigned long long)l->seed, l->step, what, same_got, same_expected);         \
        }                                                                                          \
    } while (0)

static void life_compare_lists(struct life *l) {
    const struct model *m = &l->model;
    uint32_t cursor = 0;
    for (int i = 0; i < m->lines_count; i++) {
        struct order_line_view line;
        order_view_line(l->world.order, (uint32_t)i, &cursor, &line);
        same("a line's quantity", line.quantity, m->lines[i].quantity);
        same("a line's cancelled", line.cancelled, m->lines[i].cancelled);
        same("a line's price", line.unit_price, m->lines[i].price);
    }
    cursor = 0;
    int64_t authorised = 0;
    for (int i = 0; i < m->parts_count; i++) {
        struct order_payment_view part;
        order_view_payment(l->world.order, (uint32_t)i, &cursor, &part);
        same("a part's state", part.state, m->parts[i].state);
        same("a part's amount", part.amount, m->parts[i].amount);
        same("a part's reference", *(const char *)part.reference.data, m->parts[i].reference);
        if (part.state == PAYMENT_AUTHORISED) authorised += part.amount;
    }
    same("authorised", world_view(&l->world).authorised, authorised);
}

static void life_compare_money(struct life *l, const struct order_view *v) {
    const struct model *m = &l->model;
    same("lines total", v->lines_total, m->placed ? model_lines_total(m) : 0);
    same("fees", v->fees, m->fees);
    same("discounts", v->discounts, m->discounts);
    same("total", v->total, m->placed ? model_total(m) : 0);
    same("captured", v->captured, model_captured(m));
    same("refunded", v->refunded, m->refunded);
    same("refund owed", v->refund_owed, model_owed(m));
}

static void life_compare(struct life *l) {
    const struct model *m = &l->model;
    same("existence", l->world.order != NULL, m->exists);
    if (!m->exists) return;
    struct order_view v = world_view(&l->world);
    seen_states[v.state]++;
    seen_events[l->world.newest_kind]++;
    same("state", v.state, m->state);
    same("version", v.version, m->version);
    same("fulfilment", v.fulfilment, m->fulfilment);
    same("ended by", v.ended_by, m->ended_by);
    same("rider", v.rider.size ? *(const char *)v.rider.data : 0, m->rider);
    same("ready estimate", v.ready_estimate_ms, m->ready_at);
    same("lines", v.lines_count, m->lines_count);
    same("parts", v.payments_count, m->parts_count);
    same("held", v.held_count, m->held_count);
    same("notes", v.notes_count, m->notes);
    same("ids", v.commands_count, m->ids_count);
    same("payment deadline", v.payment_deadline_ms, m->pay_by);
    same("acceptance deadline", v.acceptance_deadline_ms, m->accept_by);
    same("auto-complete", v.auto_complete_ms, m->complete_by);
    same("refund deadline", v.refund_deadline_ms, m->refund_by);
    same("retention deadline", v.retention_deadline_ms, m->forget_by);
    same("held deadline", v.held_deadline_ms, m->held_until);
    same("next deadline", l->world.order->next_deadline_ms, model_next_deadline(m));
    same("retired", (l->world.order->flags & ACTOR_RETIRED) != 0, m->retired);
    same("open", (l->world.order->flags & ACTOR_OPEN) != 0,
         m->state >= ORDER_PLACED && m->state <= ORDER_DELIVERED);
    same("closed", (l->world.order->flags & ACTOR_CLOSED) != 0,
         m->state >= ORDER_DELIVERED && model_owed(m) == 0 && m->held_count == 0);
    life_compare_money(l, &v);
    life_compare_lists(l);
}

/* -- from the model's command to the engine's ---------------------------------------------- */

static struct command life_command(struct life *l, const struct model_command *c) {
    struct command command = {.kind = (uint8_t)c->kind,
                              .expected_version = c->expected,
                              .subject = l->world.key,
                              .id = world_id(c->id)};
    l->texts[0] = c->reference;
    l->texts[1] = (char)c->rider;
    for (int i = 0; i < c->lines_count; i++) {
        l->lines[i] = (struct order_line){bytes_of_text("sku"), bytes_of_text("name"),
                                          c->lines[i].quantity, c->lines[i].price};
    }
    for (int i = 0; i < c->cuts_count; i++) {
        l->cuts[i] =
            (struct line_cancellation){(uint32_t)c->cuts[i].line, c->cuts[i].quantity};
    }
    switch (c->kind) {
    case COMMAND_PLACE:
        command.place = (struct command_place){.fulfilment = (uint8_t)c->fulfilment,
                                               .payment_timing = (uint8_t)c->timing,
                                               .currency = "EUR",
                                               .store = bytes_of_text("s"),
                                               .lines = l->lines,
                                               .lines_count = (uint32_t)c->lines_count,
                                               .fees = c->fees,
                                               .discounts = c->discounts,
                                               .total = c->total};
        if (c->bad_currency) command.place.currency[1] = '1';
        break;
    case COMMAND_PAY:
        command.pay = (struct command_pay){(uint8_t)c->pay_state, bytes_of_text("card"),
                                           bytes_of(l->texts, 1), c->amount};
        break;
    case COMMAND_ACCEPT: command.accept.preparation_minutes = c->minutes; break;
    case COMMAND_ASSIGN_RIDER: command.assign_rider.rider = bytes_of(l->texts + 1, 1); break;
    case COMMAND_CANCEL:
        command.cancel = (struct command_cancel){(uint8_t)c->by, bytes_of_text("why not"), l->cuts,
                                                 (uint32_t)c->cuts_count};
        break;
    case COMMAND_REFUND: command.refund.amount = c->amount; break;
    case COMMAND_AMEND:
        command.amend = (struct command_amend){l->lines, (uint32_t)c->lines_count, c->fees,
                                               c->discounts, c->total};
        break;
    case COMMAND_ANNOTATE: command.annotate.note = bytes_of_text("note"); break;
    default: break;
    }
    return command;
}

/* -- what happens next --------------------------------------------------------------------- */

static void life_basket(struct life *l, struct model_command *c) {
    c->lines_count = (int)life_random(l, MODEL_LINES + 1);
    c->total = c->fees = life_random(l, 3) * 100;
    for (int i = 0; i < c->lines_count; i++) {
        struct model_line *line = &c->lines[i];
        line->quantity = life_random(l, 60) == 0 ? 0 : 1 + life_random(l, 300);
        line->price = life_random(l, 60) == 0 ? -1 : (int64_t)life_random(l, 2000);
        c->total += line->quantity * line->price;
    }
    if (life_random(l, 3) == 0 && c->total > 0) {
        c->discounts = life_random(l, (uint32_t)c->total + 1);
        c->total -= c->discounts;
    }
    if (life_random(l, 12) == 0 && c->total >= 0) {
        c->discounts += c->total;
        c->total = 0;
    }
    if (life_random(l, 30) == 0) c->total++;
}

static int64_t life_amount(struct life *l) {
    int64_t total = l->model.placed ? model_total(&l->model) : 1000;
    int64_t missing = total - model_captured(&l->model);
    if (l->seed % 16 == 0) return 1 + life_random(l, 500);
    switch (life_random(l, 8)) {
    case 0: return life_random(l, 500);
    case 1: return missing / 2;
    case 2: return total;
    default: return missing;
    }
}

static void life_cuts(struct life *l, struct model_command *c) {
    if (life_random(l, 4) == 0) return;
    c->cuts_count = 1 + (int)life_random(l, MODEL_CUTS);
    for (int i = 0; i < c->cuts_count; i++) {
        int lines = l->model.lines_count;
        bool unknown = life_random(l, 25) == 0 || lines == 0;
        int line = unknown ? lines : (int)life_random(l, (uint32_t)lines);
        int64_t left = line < lines
                           ? l->model.lines[line].quantity - l->model.lines[line].cancelled
                           : 3;
        c->cuts[i].line = line;
        c->cuts[i].quantity =
            left > 0 && life_random(l, 2) ? left : (int64_t)life_random(l, 40);
    }
}

static int life_kind(struct life *l) {
    static const uint8_t usual[] = {
        COMMAND_PLACE,      COMMAND_PLACE,        COMMAND_PAY,      COMMAND_PAY,
        COMMAND_PAY,        COMMAND_ACCEPT,       COMMAND_ACCEPT,   COMMAND_MARK_READY,
        COMMAND_PICK_UP,    COMMAND_ASSIGN_RIDER, COMMAND_DELIVER,  COMMAND_COMPLETE,
        COMMAND_CANCEL,     COMMAND_CANCEL,       COMMAND_REFUND,   COMMAND_AMEND,
        COMMAND_ANNOTATE,   COMMAND_REJECT,       COMMAND_UNASSIGN_RIDER};
    if (!l->model.exists && life_random(l, 3) != 0) return COMMAND_PLACE;
    int kind = usual[life_random(l, sizeof usual)];
    if (l->seed % 16 == 0 && life_random(l, 2)) return COMMAND_PAY; /* a life of many parts */
    bool fatal = kind == COMMAND_REJECT || kind == COMMAND_COMPLETE;
    return fatal && life_random(l, 3) != 0 ? COMMAND_PAY : kind;
}

static struct model_command life_next(struct life *l) {
    struct model_command c = {.id = ++l->world.ids, .kind = life_kind(l)};
    c.fulfilment = 1 + (int)life_random(l, FULFILMENT_PARCEL);
    c.timing = 1 + (int)life_random(l, 2);
    c.by = 1 + (int)life_random(l, PARTY_SYSTEM);
    c.bad_currency = life_random(l, 50) == 0;
    c.pay_state = 1 + (int)life_random(l, PAYMENT_FAILED);
    if (life_random(l, 3)) c.pay_state = PAYMENT_CAPTURED;
    c.reference = (char)('a' + life_random(l, 26));
    if (l->seed % 16 != 0 && life_random(l, 2)) c.reference = (char)('a' + life_random(l, 2));
    c.rider = 'A' + (int)life_random(l, 26);
    c.minutes = (int)life_random(l, 30);
    c.amount = life_amount(l);
    if (c.kind == COMMAND_REFUND) c.amount = (int64_t)life_random(l, 1500) - 20;
    if (c.kind == COMMAND_REFUND && life_random(l, 3) == 0) c.amount = 0;
    if (c.kind == COMMAND_PLACE || c.kind == COMMAND_AMEND) life_basket(l, &c);
    if (c.kind == COMMAND_CANCEL) life_cuts(l, &c);
    if (life_random(l, 12) == 0) c.expected = l->model.version + life_random(l, 2);
    if (life_random(l, 15) == 0 && l->accepted_count > 0) {
        const struct model_command *old = &l->accepted[life_random(l, l->accepted_count)];
        if (life_random(l, 2)) return *old;
        c.id = old->id;
    }
    return c;
}

static void life_do(struct life *l, const struct model_command *c) {
    bool paused = life_random(l, 20) == 0;
    l->world.store_paused = paused;
    struct command command = life_command(l, c);
    struct model_answer expected = model_do(&l->model, c, l->world.now_ms, paused);
    struct decision got = world_decide(&l->world, &command);
    same(command_kind_name(command.kind), got.code, expected.code);
    same("repeated", got.repeated, expected.repeated);
    same("the answer's version", got.version, expected.version);
    seen_codes[got.code]++;
    if (got.code <= RESULT_HELD && !got.repeated) l->accepted[l->accepted_count++] = *c;
    life_compare(l);
    while (l->model.placed && l->model.held_count > 0) {
        struct command resolve = {.kind = COMMAND_RESOLVE_HELD, .subject = l->world.key};
        world_decide(&l->world, &resolve);
        model_resolve(&l->model, l->world.now_ms);
        life_compare(l);
    }
}

static void life_wait(struct life *l) {
    int64_t next = model_next_deadline(&l->model);
    l->world.now_ms += life_random(l, 90000);
    if (next > l->world.now_ms && life_random(l, 10) == 0) {
        l->world.now_ms = next - (int64_t)life_random(l, 2);
    }
    uint32_t events = world_tick(&l->world);
    uint32_t version = l->model.version;
    model_tick(&l->model, l->world.now_ms);
    same("events of a deadline", events, l->model.version - version);
    life_compare(l);
}

/* Every accepted command once more: all get the answer that the model remembers. */
static void life_retry_all(struct life *l) {
    for (uint32_t i = 0; i < l->accepted_count; i++) {
        struct command command = life_command(l, &l->accepted[i]);
        struct model_answer expected =
            model_do(&l->model, &l->accepted[i], l->world.now_ms, true);
        struct decision got = world_decide(&l->world, &command);
        same("a retry's code", got.code, expected.code);
        same("a retry's version", got.version, expected.version);
        same("a retry is repeated", got.repeated, true);
        same("a retry's events", l->world.turn_events, 0);
    }
}

static void life_run(uint64_t seed) {
    struct life *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->seed = seed;
    l->random = seed * 0x9e3779b97f4a7c15ULL | 1;
    world_init(&l->world);
    l->model.birth_ms = WORLD_START_MS;
    for (l->step = 0; l->step < STEPS; l->step++) {
        struct model_command c = life_next(l);
        life_do(l, &c);
        if (life_random(l, 2)) life_wait(l);
    }
    life_retry_all(l);
    world_check_fold(&l->world);
    world_fini(&l->world);
    free(l);
}

static uint64_t only_seed;

static void random_lives_agree_with_the_model(void **unused) {
    if (only_seed != 0) {
        life_run(only_seed);
        return;
    }
    for (uint64_t seed = 1; seed <= LIVES; seed++) life_run(seed);
    for (uint32_t state = ORDER_AWAITED; state <= ORDER_EXPIRED; state++) {
        if (seen_states[state] < 100) fail_msg("%s was hardly seen", order_state_name(state));
    }
    for (uint32_t kind = EVENT_ORDER_PLACED; kind <= EVENT_ORDER_RETIRED; kind++) {
        if (seen_events[kind] < 10) fail_msg("%s was hardly seen", event_kind_name(kind));
    }
    static const uint8_t not_in_its_world[] = {
        RESULT_KEY_FROM_FUTURE, RESULT_COMMANDS_LIMIT_REACHED, RESULT_HELD_LIMIT_REACHED,
        RESULT_QUANTITY_TOO_LARGE, RESULT_MONEY_TOO_LARGE, RESULT_CURRENCY_MISMATCH,
        RESULT_PAYMENT_UNKNOWN};
    for (uint32_t code = RESULT_KEY_TOO_OLD; code <= RESULT_LINE_QUANTITY_EXCEEDED; code++) {
        bool known = strcmp(result_code_name(code), "unknown") != 0;
        bool left_out = memchr(not_in_its_world, (int)code, sizeof not_in_its_world) != NULL;
        bool of_the_shape = code > RESULT_KEY_TOO_OLD && code < RESULT_ORDER_NOT_FOUND;
        if (known && !left_out && !of_the_shape && seen_codes[code] == 0) {
            fail_msg("%s was never seen", result_code_name(code));
        }
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_lives_agree_with_the_model)};
    if (argc > 1) only_seed = strtoull(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
