/* Clients: what they ask for. Every command is kept, so that it can be asked for again under its id
 * with the same content, however often. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/wire/routing.h"
#include "tests/sim/sim.h"

static uint32_t shard_of_key(const struct sim *sim, const struct id128 *key) {
    return routing_shard_of_key(sim->view.epochs, sim->view.epochs_count, key);
}

uint32_t sim_shard_of(const struct sim *sim, const struct sim_command *command) {
    if (command->order == UINT32_MAX)
        return routing_shard_of_store(sim->view.stores_shards,
                                      bytes_of_text(sim->stores[command->store].id));
    return sim->orders[command->order].shard;
}

bool sim_is_home(const struct sim *sim, const struct sim_store *s, uint32_t shard) {
    struct bytes id = bytes_of_text(s->id);
    return routing_shard_of_store(sim->options.first_shards, id) == shard ||
           routing_shard_of_store(sim->view.stores_shards, id) == shard;
}

void workload_init(struct sim *sim) {
    sim->commands = calloc(SIM_COMMANDS_MAX, sizeof(struct sim_command *));
    sim->orders = calloc(SIM_ORDERS_MAX, sizeof *sim->orders);
    require(sim->commands != NULL && sim->orders != NULL);
    for (uint32_t i = 0; i < SIM_STORES; i++) {
        struct sim_store *s = &sim->stores[i];
        snprintf(s->id, sizeof s->id, "store-%u", i);
        s->key = store_key(bytes_of_text(s->id), false);
    }
}

void workload_fini(struct sim *sim) {
    for (uint64_t i = 0; i < sim->commands_count; i++) free(sim->commands[i]);
    for (uint32_t i = 0; i < sim->orders_count; i++) free(sim->orders[i].steps);
    free(sim->commands);
    free(sim->orders);
}

/* -- making commands --------------------------------------------------------------------------- */

static void put_number(uint8_t *at, uint64_t value, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

uint32_t workload_new_order(struct sim *sim, uint32_t store) {
    require(sim->orders_count < SIM_ORDERS_MAX);
    uint32_t number = sim->orders_count++;
    struct sim_order *o = &sim->orders[number];
    o->number = number;
    o->store = store;
    o->born_ms = sim->unix_ms - (int64_t)prng_below(&sim->prng, 1000);
    put_number(o->key.bytes, (uint64_t)o->born_ms, 6);
    put_number(o->key.bytes + 6, prng_next(&sim->prng), 4);
    put_number(o->key.bytes + 10, number, 6);
    o->shard = shard_of_key(sim, &o->key);
    o->fulfilment =
        (uint8_t)prng_between(&sim->prng, FULFILMENT_PLATFORM_DELIVERY, FULFILMENT_PARCEL);
    o->timing = prng_chance(&sim->prng, 4, 5) ? PAYMENT_PREPAID : PAYMENT_ON_DELIVERY;
    o->quantity = prng_between(&sim->prng, 1, 5);
    o->price = prng_between(&sim->prng, 1, 5000);
    o->total = 2 * o->quantity * o->price;
    return number;
}

static void fill_lines(struct sim_command *m, const struct sim_order *o, int64_t quantity) {
    for (uint32_t i = 0; i < 2; i++) {
        m->lines[i] = (struct order_line){.sku = bytes_of_text(i ? "sku-b" : "sku-a"),
                                          .name = bytes_of_text("a dish"),
                                          .quantity = quantity,
                                          .unit_price = o->price};
    }
}

static void fill_place(struct sim *sim, struct sim_command *m, const struct sim_order *o) {
    fill_lines(m, o, o->quantity);
    m->c.place = (struct command_place){.fulfilment = o->fulfilment,
                                        .payment_timing = o->timing,
                                        .currency = "KRW",
                                        .store = bytes_of_text(sim->stores[o->store].id),
                                        .customer = bytes_of_text("customer-7"),
                                        .lines = m->lines,
                                        .lines_count = 2,
                                        .total = o->total};
    if (prng_chance(&sim->prng, 1, 3)) {
        m->c.place.payment_timeout_ms = prng_between(&sim->prng, 100, 60000);
    }
    if (prng_chance(&sim->prng, 1, 3)) {
        m->c.place.acceptance_timeout_ms = prng_between(&sim->prng, 100, 60000);
    }
    if (prng_chance(&sim->prng, 1, 3)) {
        m->c.place.auto_complete_ms = prng_between(&sim->prng, 100, 60000);
    }
}

static void fill_order_command(struct sim *sim, struct sim_command *m, const struct sim_order *o) {
    struct command *c = &m->c;
    switch (c->kind) {
    case COMMAND_PLACE:
        fill_place(sim, m, o);
        break;
    case COMMAND_PAY:
        m->reference = (uint32_t)prng_below(&sim->prng, prng_chance(&sim->prng, 4, 5) ? 1 : 4);
        snprintf(m->text, sizeof m->text, "payment-%u", m->reference);
        c->pay = (struct command_pay){.state = PAYMENT_CAPTURED,
                                      .method = bytes_of_text("card"),
                                      .reference = bytes_of_text(m->text),
                                      .amount = o->total};
        if (prng_chance(&sim->prng, 1, 4)) c->pay.state = PAYMENT_AUTHORISED;
        if (prng_chance(&sim->prng, 1, 12)) c->pay.state = PAYMENT_FAILED;
        break;
    case COMMAND_ACCEPT:
        c->accept.preparation_minutes = prng_between(&sim->prng, 0, 60);
        break;
    case COMMAND_REJECT:
        c->reject.reason = bytes_of_text("sold out");
        break;
    case COMMAND_ASSIGN_RIDER:
        c->assign_rider.rider = bytes_of_text("rider-1");
        break;
    case COMMAND_CANCEL:
        c->cancel = (struct command_cancel){.by = PARTY_CUSTOMER, .reason = bytes_of_text("why")};
        if (prng_chance(&sim->prng, 1, 3)) {
            m->cuts[0] = (struct line_cancellation){0, 1};
            c->cancel.lines = m->cuts;
            c->cancel.lines_count = 1;
        }
        break;
    case COMMAND_REFUND:
        c->refund.amount =
            prng_chance(&sim->prng, 1, 3) ? 0 : prng_between(&sim->prng, 1, o->total);
        c->refund.reason = bytes_of_text("late");
        break;
    case COMMAND_AMEND: {
        int64_t quantity = prng_between(&sim->prng, 1, 6);
        fill_lines(m, o, quantity);
        c->amend.lines = m->lines;
        c->amend.lines_count = 2;
        c->amend.total = 2 * quantity * o->price;
        break;
    }
    case COMMAND_ANNOTATE:
        c->annotate.note = bytes_of_text("rings twice");
        break;
    default:
        break;
    }
}

struct sim_command *workload_command(struct sim *sim, uint8_t kind, uint32_t order,
                                     uint32_t store) {
    require(sim->commands_count < SIM_COMMANDS_MAX);
    struct sim_command *m = calloc(1, sizeof *m);
    require(m != NULL);
    m->number = sim->commands_count;
    sim->commands[sim->commands_count++] = m;
    m->order = order;
    m->store = store;
    m->c.kind = kind;
    if (!command_is_read(kind)) {
        put_number(m->c.id.bytes, prng_next(&sim->prng) | 1, 8);
        put_number(m->c.id.bytes + 8, m->number, 8);
    }
    if (order == UINT32_MAX) {
        struct sim_store *s = &sim->stores[store];
        m->c.subject = s->key;
        m->c.store.store = bytes_of_text(s->id);
        if (kind == COMMAND_STORE_PAUSE) m->c.store.reason = bytes_of_text("full");
        return m;
    }
    struct sim_order *o = &sim->orders[order];
    m->c.subject = o->key;
    fill_order_command(sim, m, o);
    if (kind == COMMAND_PLACE && !o->place_sent) {
        o->place_sent = true;
    } else if (!command_is_read(kind) && kind != COMMAND_PLACE && prng_chance(&sim->prng, 1, 12)) {
        m->c.expected_version = o->acknowledged_version + (uint32_t)prng_below(&sim->prng, 2);
    }
    return m;
}

/* -- choosing ---------------------------------------------------------------------------------- */

static uint8_t next_kind(struct sim *sim, const struct sim_order *o) {
    static const uint8_t by_state[12][6] = {
        [0] = {COMMAND_PLACE, COMMAND_PLACE, COMMAND_PLACE, COMMAND_PAY, COMMAND_CANCEL,
               COMMAND_PAY},
        [ORDER_AWAITED] = {COMMAND_PLACE, COMMAND_PLACE, COMMAND_PLACE, COMMAND_PAY, COMMAND_CANCEL,
                           COMMAND_PAY},
        [ORDER_PLACED] = {COMMAND_PAY, COMMAND_PAY, COMMAND_PAY, COMMAND_ACCEPT, COMMAND_CANCEL,
                          COMMAND_AMEND},
        [ORDER_PAID] = {COMMAND_ACCEPT, COMMAND_ACCEPT, COMMAND_ACCEPT, COMMAND_CANCEL,
                        COMMAND_REJECT, COMMAND_AMEND},
        [ORDER_ACCEPTED] = {COMMAND_MARK_READY, COMMAND_MARK_READY, COMMAND_ASSIGN_RIDER,
                            COMMAND_ASSIGN_RIDER, COMMAND_PICK_UP, COMMAND_CANCEL},
        [ORDER_READY] = {COMMAND_ASSIGN_RIDER, COMMAND_PICK_UP, COMMAND_PICK_UP, COMMAND_PICK_UP,
                         COMMAND_UNASSIGN_RIDER, COMMAND_CANCEL},
        [ORDER_PICKED_UP] = {COMMAND_DELIVER, COMMAND_DELIVER, COMMAND_DELIVER, COMMAND_COMPLETE,
                             COMMAND_ANNOTATE, COMMAND_REFUND},
        [ORDER_DELIVERED] = {COMMAND_COMPLETE, COMMAND_REFUND, COMMAND_ANNOTATE, COMMAND_COMPLETE,
                             COMMAND_REFUND, COMMAND_PAY},
        [ORDER_COMPLETED] = {COMMAND_REFUND, COMMAND_ANNOTATE, COMMAND_PAY, COMMAND_CANCEL,
                             COMMAND_PLACE, COMMAND_REFUND},
    };
    if (prng_chance(&sim->prng, 1, 10)) {
        return (uint8_t)prng_between(&sim->prng, COMMAND_PLACE, COMMAND_ANNOTATE);
    }
    uint8_t state = o->state > ORDER_COMPLETED ? ORDER_COMPLETED : o->state;
    return by_state[state][prng_below(&sim->prng, 6)];
}

static uint32_t pick_order(struct sim *sim) {
    uint32_t recent = sim->orders_count < 24 ? sim->orders_count : 24;
    if (prng_chance(&sim->prng, 1, 8)) recent = sim->orders_count;
    return sim->orders_count - 1 - (uint32_t)prng_below(&sim->prng, recent);
}

/* A store remembers its newest 32 switches only; a retry older than that is a new command. */
static bool forgotten_by_store(const struct sim *sim, const struct sim_command *m) {
    return m->order == UINT32_MAX && m->acted_index != 0 &&
           sim->stores[m->store].switches > m->switch_number + 16;
}

/* Something asked for before: because its outcome is not known, or out of mere impatience. */
static struct sim_command *pick_retry(struct sim *sim) {
    for (uint32_t tries = 0; tries < 8 && sim->commands_count > 0; tries++) {
        uint64_t recent = sim->commands_count < 60 ? sim->commands_count : 60;
        if (prng_chance(&sim->prng, 1, 6)) recent = sim->commands_count;
        struct sim_command *m =
            sim->commands[sim->commands_count - 1 - prng_below(&sim->prng, recent)];
        if (command_is_read(m->c.kind)) continue;
        if (forgotten_by_store(sim, m)) continue;
        sim->totals.retries++;
        return m;
    }
    return NULL;
}

static struct sim_command *choose(struct sim *sim) {
    const struct sim_options *o = &sim->options;
    struct sim_command *m = NULL;
    if (sim_chance(sim, o->retry) && (m = pick_retry(sim)) != NULL) return m;
    uint32_t store = (uint32_t)prng_below(&sim->prng, SIM_STORES);
    if (sim_chance(sim, o->store_switch)) {
        bool pause = prng_chance(&sim->prng, 1, 2);
        return workload_command(sim, pause ? COMMAND_STORE_PAUSE : COMMAND_STORE_RESUME, UINT32_MAX,
                                store);
    }
    if (sim->orders_count == 0 || sim_chance(sim, o->new_order)) {
        uint32_t order = workload_new_order(sim, store);
        bool overtakes = sim_chance(sim, o->overtake);
        uint8_t first = prng_chance(&sim->prng, 1, 2) ? COMMAND_PAY : COMMAND_CANCEL;
        return workload_command(sim, overtakes ? first : COMMAND_PLACE, order, store);
    }
    if (sim_chance(sim, o->read)) {
        static const uint8_t reads[] = {COMMAND_GET, COMMAND_HISTORY, COMMAND_STORE_GET};
        uint8_t kind = reads[prng_below(&sim->prng, 3)];
        return workload_command(sim, kind, kind == COMMAND_STORE_GET ? UINT32_MAX : pick_order(sim),
                                store);
    }
    uint32_t order = pick_order(sim);
    return workload_command(sim, next_kind(sim, &sim->orders[order]), order, 0);
}

/* Clients of a cluster ask again soon for what they know nothing about. */
static uint32_t pick_unsure(struct sim *sim, struct sim_command *batch[SIM_BATCH_MAX]) {
    uint32_t count = 0;
    uint64_t recent = sim->commands_count < 300 ? sim->commands_count : 300;
    for (uint64_t i = sim->commands_count - recent; i < sim->commands_count; i++) {
        struct sim_command *m = sim->commands[i];
        if (!m->unsure || command_is_read(m->c.kind) || forgotten_by_store(sim, m)) continue;
        if (count == SIM_BATCH_MAX || !prng_chance(&sim->prng, 1, 3)) continue;
        batch[count++] = m;
    }
    return count;
}

void workload_step(struct sim *sim) {
    struct sim_command *batch[SIM_BATCH_MAX];
    uint32_t count = (uint32_t)prng_between(&sim->prng, 1, SIM_BATCH_MAX);
    for (uint32_t i = 0; i < count; i++) batch[i] = choose(sim);
    client_send(sim, batch, count, NULL);
    if (!sim_is_cluster(sim)) return;
    client_patience(sim);
    count = pick_unsure(sim, batch);
    if (count > 0) client_send(sim, batch, count, NULL);
}

/* One batch at a time, so that the smallest mailbox has room for it. */
void workload_retry_some(struct sim *sim) {
    struct sim_command *batch[SIM_BATCH_MAX];
    uint32_t count = 0;
    if (sim->open_count > 0) return;
    for (uint64_t i = 0; i < sim->commands_count && count < SIM_BATCH_MAX; i++) {
        struct sim_command *m = sim->commands[i];
        if (!m->unsure || m->open > 0 || command_is_read(m->c.kind)) continue;
        if (forgotten_by_store(sim, m)) {
            m->unsure = false;
            continue;
        }
        batch[count++] = m;
    }
    if (count > 0) client_send(sim, batch, count, NULL);
}
