#include "tests/process/cluster_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "actors/result_codes.h"

enum {
    PATIENT_MS = 20000, HASTY_MS = 100, CALLS_OF_AN_ORDER = 90, DAY_MS = 86400000
};

enum load_step {
    STEP_PAY, STEP_ACCEPT, STEP_ASSIGN_RIDER, STEP_READY, STEP_PICK_UP, STEP_DELIVER, STEP_COMPLETE,
    STEPS, STEP_PLACE = STEPS, STEP_ANNOTATE, STEP_CANCEL
};

int64_t load_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

const char *load_store_name(uint32_t store) {
    static const char *const names[LOAD_STORES] = {"store-1", "store-2", "store-3", "store-4"};
    return names[store];
}

/* -- orders ------------------------------------------------------------------------------------ */

static uint32_t order_new(struct load *load) {
    uint32_t n = atomic_fetch_add(&load->orders_count, 1);
    if (n >= LOAD_ORDERS_MAX) {
        atomic_store(&load->orders_count, LOAD_ORDERS_MAX);
        return LOAD_ORDERS_MAX;
    }
    load->orders[n].key = jumun_key_new();
    load->orders[n].store = (uint8_t)(n % LOAD_STORES);
    return n;
}

struct load_order *load_pick(struct load_caller *c) {
    struct load *load = c->load;
    atomic_uint *slot = &load->live[prng_below(&c->prng, load->options.live_orders)];
    uint32_t n = atomic_load(slot);
    struct load_order *o = &load->orders[n];
    if (atomic_load(&o->calls) < CALLS_OF_AN_ORDER) return o;
    uint32_t next = order_new(load);
    if (next == LOAD_ORDERS_MAX) return NULL;
    atomic_compare_exchange_strong(slot, &n, next);
    return &load->orders[atomic_load(slot)];
}

struct history_call *load_begin(struct load_caller *c, const struct load_order *o) {
    if (c->calls_count == LOAD_CALLS_MAX) return NULL;
    struct history_call *call = &c->calls[c->calls_count++];
    *call = (struct history_call){.order = (uint32_t)(o - c->load->orders),
                                  .begin_ns = load_now_ns()};
    return call;
}

/* -- calls ------------------------------------------------------------------------------------- */

static int call_place(jumun_client *client, const struct load_order *o,
                      const jumun_options_command *options, jumun_result *result) {
    jumun_line lines[] = {{.sku = "bibimbap", .quantity = 2, .unit_price = 950},
                          {.sku = "tea", .quantity = 3, .unit_price = 150}};
    jumun_place place = {.fulfilment = JUMUN_PLATFORM_DELIVERY, .currency = "EUR",
                         .store = load_store_name(o->store), .lines = lines, .lines_count = 2,
                         .total = 2350, .payment_timeout_ms = DAY_MS,
                         .acceptance_timeout_ms = DAY_MS, .auto_complete_ms = DAY_MS};
    return jumun_place_order(client, &o->key, &place, options, result);
}

static int call_step(jumun_client *client, const struct load_order *o, int step,
                     const jumun_options_command *options, jumun_result *result) {
    jumun_pay pay = {JUMUN_CAPTURED, "card", "payment-1", 2350};
    jumun_cancel cancel = {.by = JUMUN_BY_SUPPORT, .reason = "cluster test"};
    switch (step) {
    case STEP_PLACE: return call_place(client, o, options, result);
    case STEP_PAY: return jumun_pay_order(client, &o->key, &pay, options, result);
    case STEP_ACCEPT: return jumun_accept_order(client, &o->key, 20, options, result);
    case STEP_ASSIGN_RIDER: return jumun_assign_rider(client, &o->key, "rider-7", options, result);
    case STEP_READY: return jumun_mark_ready(client, &o->key, options, result);
    case STEP_PICK_UP: return jumun_pick_up(client, &o->key, options, result);
    case STEP_DELIVER: return jumun_deliver(client, &o->key, options, result);
    case STEP_COMPLETE: return jumun_complete(client, &o->key, options, result);
    case STEP_CANCEL: return jumun_cancel_order(client, &o->key, &cancel, options, result);
    default: return jumun_annotate(client, &o->key, "ring twice", options, result);
    }
}

static void raise_to(atomic_uint *value, uint32_t least) {
    unsigned now = atomic_load(value);
    while (now < least && !atomic_compare_exchange_weak(value, &now, least)) continue;
}

static void call_end(struct load *load, struct load_order *o, struct history_call *call, int code,
                     const jumun_result *result) {
    call->end_ns = load_now_ns();
    call->code = (uint16_t)code;
    call->fate = HISTORY_REFUSED;
    if (code == JUMUN_OK) {
        call->fate = HISTORY_DONE;
        call->version = result->version;
        call->shard = (uint8_t)result->shard;
        atomic_fetch_add(call->is_read ? &load->reads : &load->done, 1);
        if (!call->is_read && result->shard < CLUSTER_SHARDS_MAX) {
            atomic_fetch_add(&load->by_shard[result->shard], 1);
        }
        if (result->version > 0) atomic_store(&o->is_placed, true);
        raise_to(&o->version_seen, result->version);
    } else if (code == JUMUN_OUTCOME_UNKNOWN || code == JUMUN_CLOSED) {
        call->fate = HISTORY_UNKNOWN;
        atomic_fetch_add(&load->unknown, 1);
    } else if (code >= RESULT_ORDER_NOT_FOUND && code < 1000) {
        atomic_fetch_add(&load->refused, 1);
        /* Refusals by the rules tell the version that they saw: as good as a read. */
        if (code != RESULT_COMMAND_ID_REUSED) call->version = result->version;
        if (call->is_read && code == RESULT_ORDER_NOT_FOUND) call->fate = HISTORY_DONE;
        if (code == RESULT_ORDER_EXISTS) atomic_store(&o->is_placed, true);
        return;
    } else {
        atomic_fetch_add(&load->turned_away, 1);
    }
    if (code != JUMUN_OK) atomic_store(&load->last_trouble, code);
}

/* False when the caller's notes are full. */
static bool call_read(struct load_caller *c, struct load_order *o) {
    struct history_call *call = load_begin(c, o);
    if (!call) return false;
    jumun_command command = {.kind = JUMUN_GET, .order = o->key};
    jumun_result result = {0};
    void *value = NULL;
    size_t bytes;
    call->is_read = true;
    int code = jumun_call(c->load->patient, &command, &result, &value, &bytes);
    free(value);
    call_end(c->load, o, call, code, &result);
    return true;
}

static bool call_write(struct load_caller *c, struct load_order *o, int step,
                       uint32_t expected_version) {
    struct load *load = c->load;
    jumun_options_command options = {.id = jumun_key_new(), .expected_version = expected_version};
    for (int attempt = 0; attempt < 2; attempt++) {
        struct history_call *call = load_begin(c, o);
        jumun_result result = {0};
        if (!call) return false;
        call->id = options.id;
        call->expected_version = expected_version;
        call->may_change_nothing = step == STEP_PAY;
        bool hasty = c->is_hasty && attempt == 0;
        int code = call_step(hasty ? load->hasty : load->patient, o, step, &options, &result);
        call_end(load, o, call, code, &result);
        if (code == JUMUN_HELD) cluster_fail(load->cluster, "a placed order is not there any more");
        if (code == JUMUN_OK && step < STEPS) raise_to(&o->steps_done, (uint32_t)step + 1);
        /* Some ask again for what they do not know, under the same id. */
        if (call->fate != HISTORY_UNKNOWN || prng_chance(&c->prng, 1, 2)) break;
    }
    return true;
}

static bool caller_turn(struct load_caller *c, struct load_order *o) {
    atomic_fetch_add(&o->calls, 1);
    uint64_t dice = prng_below(&c->prng, 100);
    if (!atomic_load(&o->is_placed)) {
        return dice < 70 ? call_write(c, o, STEP_PLACE, 0) : call_read(c, o);
    }
    uint32_t step = atomic_load(&o->steps_done);
    if (dice < 35) return call_read(c, o);
    if (dice < 70) return call_write(c, o, STEP_ANNOTATE, 0);
    if (dice < 85) return call_write(c, o, STEP_ANNOTATE, atomic_load(&o->version_seen));
    if (dice < 88) return call_write(c, o, STEP_PLACE, 0); /* exists already */
    /* To the end only when few calls are left: an ended order takes nothing more. */
    bool is_late = atomic_load(&o->calls) > CALLS_OF_AN_ORDER * 3 / 4;
    if (is_late && dice < 90) return call_write(c, o, STEP_CANCEL, 0);
    if (step < STEP_COMPLETE || (step == STEP_COMPLETE && is_late)) {
        return call_write(c, o, (int)step, 0);
    }
    return call_read(c, o);
}

static void *caller_run(void *arg) {
    struct load_caller *c = arg;
    while (!atomic_load(&c->load->stop)) {
        struct load_order *o = load_pick(c);
        if (!o || !caller_turn(c, o)) break;
    }
    return NULL;
}

/* -- the whole --------------------------------------------------------------------------------- */

static jumun_client *client_open(const struct load *load, uint32_t timeout_ms) {
    char error[256];
    jumun_options options = {.timeout_ms = timeout_ms};
    if (timeout_ms == HASTY_MS) options.attempt_timeout_ms = timeout_ms;
    jumun_client *client = jumun_open(load->cluster->endpoints, &options, error, sizeof error);
    if (!client) test_fail(NULL, "jumun_open: %s", error);
    return client;
}

void load_renew(struct load *load) {
    atomic_store(&load->orders_count, 0);
    for (uint32_t i = 0; i < load->options.live_orders; i++) {
        atomic_store(&load->live[i], order_new(load));
    }
}

static void caller_init(struct load *load, int node) {
    uint32_t n = load->callers_count++;
    struct load_caller *c = &load->callers[n];
    *c = (struct load_caller){.load = load, .node = node};
    c->is_hasty = node == 0 && !load->options.all_patient && n % 4 == 3;
    prng_seed(&c->prng, load->options.seed + n);
    c->calls = calloc(LOAD_CALLS_MAX, sizeof *c->calls);
    if (!c->calls) test_fail(NULL, "no memory");
}

void load_open(struct load *load, struct cluster *cluster, const struct load_options *options) {
    *load = (struct load){.options = *options, .cluster = cluster};
    load->patient = client_open(load, PATIENT_MS);
    load->hasty = client_open(load, HASTY_MS);
    load->orders = calloc(LOAD_ORDERS_MAX, sizeof *load->orders);
    if (!load->orders) test_fail(NULL, "no memory");
    load_renew(load);
    for (uint32_t i = 0; i < options->callers; i++) caller_init(load, 0);
    for (int n = 1; n <= cluster->nodes_count; n++) caller_init(load, n);
}

void load_close(struct load *load) {
    jumun_close(load->patient);
    jumun_close(load->hasty);
    for (uint32_t i = 0; i < load->callers_count; i++) free(load->callers[i].calls);
    free(load->orders);
}

void load_start(struct load *load) {
    atomic_store(&load->stop, false);
    load->is_running = true;
    load->began_ns = load_now_ns();
    for (uint32_t i = 0; i < load->callers_count; i++) {
        struct load_caller *c = &load->callers[i];
        if (pthread_create(&c->thread, NULL, c->node ? load_read_directly : caller_run, c) != 0) {
            test_fail(NULL, "no thread");
        }
    }
}

void load_stop(struct load *load) {
    if (!load->is_running) return;
    atomic_store(&load->stop, true);
    for (uint32_t i = 0; i < load->callers_count; i++) pthread_join(load->callers[i].thread, NULL);
    load->is_running = false;
}

void load_await_progress(struct load *load, uint32_t shards, unsigned count) {
    unsigned long wanted[CLUSTER_SHARDS_MAX];
    int64_t until = monotonic_ms() + CLUSTER_WAIT_SECONDS_MAX * 1000;
    for (int s = 0; s < load->cluster->shards; s++) {
        wanted[s] = atomic_load(&load->by_shard[s]) + count;
    }
    for (int s = 0; s < load->cluster->shards; s++) {
        while ((shards >> s & 1) && atomic_load(&load->by_shard[s]) < wanted[s]) {
            if (monotonic_ms() > until) {
                cluster_fail(load->cluster, "shard %d acknowledges nothing: %s", s,
                             jumun_result_name(atomic_load(&load->last_trouble)));
            }
            sleep_ms(5);
        }
    }
}

void load_print(const struct load *load, const char *what) {
    printf("%s: %lu commands done, %lu reads, %lu at single nodes, %lu refused, %lu unknown, "
           "%lu turned away, %u orders\n", what, atomic_load(&load->done),
           atomic_load(&load->reads), atomic_load(&load->direct_reads),
           atomic_load(&load->refused), atomic_load(&load->unknown),
           atomic_load(&load->turned_away), atomic_load(&load->orders_count));
    fflush(stdout);
}
