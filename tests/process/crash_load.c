/* The load of the crash test: orders led through their life, one command at a time each. */
#include "tests/process/crash.h"

#include <stdio.h>
#include <string.h>

enum crash_step {
    STEP_PLACE, STEP_PAY, STEP_ACCEPT, STEP_ASSIGN_RIDER, STEP_READY, STEP_PICK_UP, STEP_DELIVER,
    STEP_COMPLETE, STEPS_OF_A_LIFE,
    STEP_ANNOTATE = STEPS_OF_A_LIFE, STEP_CANCEL,
    STEP_WRONG                  /* refused by rule: names a version that the order cannot have */
};

/* A call that takes longer than this has forgotten its timeout (the longest is 8 s). */
enum { CALL_MS_MAX = 60000, VERSION_THAT_NO_ORDER_HAS = 4000000 };

const char *crash_store_name(uint32_t store) {
    static const char *const names[CRASH_STORES] = {"store-a", "store-b", "store-c", "store-d",
                                                    "store-e"};
    return names[store];
}

static int crash_place(jumun_client *client, const struct crash_order *o,
                       const jumun_options_command *options, jumun_result *result) {
    jumun_line lines[] = {{.sku = "bibimbap", .quantity = 2, .unit_price = 950},
                          {.sku = "kimchi", .quantity = 1, .unit_price = 300},
                          {.sku = "tea", .quantity = 3, .unit_price = 150}};
    jumun_place place = {.fulfilment = JUMUN_PLATFORM_DELIVERY, .currency = "EUR",
                         .store = crash_store_name(o->store), .customer = "customer-1",
                         .lines = lines, .lines_count = 3, .fees = 250, .total = 2900};
    return jumun_place_order(client, &o->key, &place, options, result);
}

static int crash_call(jumun_client *client, const struct crash_order *o, int step,
                      const jumun_options_command *options, jumun_result *result) {
    jumun_pay pay = {JUMUN_CAPTURED, "card", "payment-1", 2900};
    jumun_cancel cancel = {.by = JUMUN_BY_SUPPORT, .reason = "crash test"};
    const jumun_key *key = &o->key;
    switch (step) {
    case STEP_PLACE: return crash_place(client, o, options, result);
    case STEP_PAY: return jumun_pay_order(client, key, &pay, options, result);
    case STEP_ACCEPT: return jumun_accept_order(client, key, 20, options, result);
    case STEP_ASSIGN_RIDER: return jumun_assign_rider(client, key, "rider-7", options, result);
    case STEP_READY: return jumun_mark_ready(client, key, options, result);
    case STEP_PICK_UP: return jumun_pick_up(client, key, options, result);
    case STEP_DELIVER: return jumun_deliver(client, key, options, result);
    case STEP_COMPLETE: return jumun_complete(client, key, options, result);
    case STEP_CANCEL: return jumun_cancel_order(client, key, &cancel, options, result);
    default: return jumun_annotate(client, key, "ring twice", options, result);
    }
}

void crash_send(struct crash_worker *w, struct crash_order *o, struct crash_sent *sent,
                jumun_client *client) {
    jumun_options_command options = {.id = sent->id};
    if (sent->step == STEP_WRONG) options.expected_version = VERSION_THAT_NO_ORDER_HAS;
    jumun_result result = {0};
    int64_t began = monotonic_ms();
    int code = crash_call(client, o, sent->step, &options, &result);
    if (monotonic_ms() - began > CALL_MS_MAX) crash_report(w, o, "a call took over a minute");
    sent->code = code;
    if (code == JUMUN_OUTCOME_UNKNOWN) {
        sent->fate = FATE_UNKNOWN;
        return;
    }
    if (code != JUMUN_OK) {
        sent->fate = FATE_REFUSED;
        if (sent->step == STEP_WRONG ? code != JUMUN_VERSION_CONFLICT && !answer_is_passing(code)
                                     : !answer_is_passing(code)) {
            crash_report(w, o, "step %d was refused with %d (%s) %s", sent->step, code,
                         jumun_result_name(code), result.detail);
        }
        return;
    }
    if (sent->step == STEP_WRONG) crash_report(w, o, "a wrong expected version was accepted");
    sent->fate = FATE_DONE;
    sent->version = result.version;
    sent->index = result.index;
    if (sent->step < STEPS_OF_A_LIFE) o->steps_done = (uint8_t)(sent->step + 1);
    if (sent->step == STEP_CANCEL) o->cancelled = true;
}

const char *crash_state_wanted(const struct crash_order *o) {
    static const char *const states[STEPS_OF_A_LIFE + 1] = {
        "", "placed", "paid", "accepted", "accepted", "ready", "picked_up", "delivered",
        "completed"};
    return o->cancelled ? "cancelled" : states[o->steps_done];
}

bool crash_is_placed(const struct crash_order *o) { return o->steps_done > STEP_PLACE; }

bool crash_is_open(const struct crash_order *o) {
    return crash_is_placed(o) && !o->cancelled && o->steps_done < STEPS_OF_A_LIFE;
}

static struct crash_order *crash_order_new(struct crash_worker *w) {
    if (w->orders_count == CRASH_ORDERS_MAX) return NULL;
    struct crash_order *o = &w->orders[w->orders_count++];
    *o = (struct crash_order){.key = jumun_key_new()};
    o->store = (uint8_t)prng_below(&w->prng, CRASH_STORES);
    /* Half of them to the end, the others left somewhere on the way. */
    o->steps_wanted = prng_chance(&w->prng, 1, 2)
                          ? STEPS_OF_A_LIFE
                          : (uint8_t)prng_between(&w->prng, 1, STEPS_OF_A_LIFE);
    return o;
}

static uint8_t crash_step_next(struct crash_worker *w, const struct crash_order *o) {
    if (crash_is_placed(o) && o->steps_done < STEP_PICK_UP) {
        if (prng_chance(&w->prng, 1, 20)) return STEP_ANNOTATE;
        if (prng_chance(&w->prng, 1, 20)) return STEP_WRONG;
        if (prng_chance(&w->prng, 1, 40)) return STEP_CANCEL;
    }
    return o->steps_done;
}

static void crash_count(struct crash_world *world, const struct crash_sent *sent) {
    if (sent->fate == FATE_DONE) atomic_fetch_add(&world->done, 1);
    else if (sent->fate == FATE_UNKNOWN) atomic_fetch_add(&world->unknown, 1);
    else atomic_fetch_add(&world->refused, 1);
}

/* Sends the order's next command. False when nothing more can be done with it now. */
static bool crash_step_on(struct crash_worker *w, struct crash_order *o) {
    struct crash_world *world = w->world;
    struct crash_sent *sent = &o->sent[o->sent_count++];
    *sent = (struct crash_sent){.id = jumun_key_new(), .step = crash_step_next(w, o)};
    bool hasty = prng_chance(&w->prng, 1, 2);
    crash_send(w, o, sent, hasty ? world->hasty : world->patient);
    crash_count(world, sent);
    if (sent->fate == FATE_UNKNOWN) {
        /* Some callers ask again at once; others leave it for later: the judge asks then. */
        if (prng_chance(&w->prng, 1, 2)) crash_send(w, o, sent, world->patient);
        if (sent->fate != FATE_DONE) {
            if (sent->fate == FATE_REFUSED && answer_is_passing(sent->code)) {
                sent->fate = FATE_UNKNOWN; /* this attempt was not done; the first one may be */
            }
            return false;
        }
    }
    if (sent->fate == FATE_REFUSED && answer_is_passing(sent->code)) sleep_ms(5);
    o->finished = o->cancelled || o->steps_done >= o->steps_wanted ||
                  o->sent_count >= CRASH_SENT_MAX;
    return !o->finished;
}

void *crash_load(void *worker) {
    struct crash_worker *w = worker;
    struct crash_order *o = NULL;
    while (!atomic_load(&w->world->stop)) {
        if (!o && !(o = crash_order_new(w))) break;
        if (!crash_step_on(w, o)) o = NULL;
    }
    return NULL;
}
