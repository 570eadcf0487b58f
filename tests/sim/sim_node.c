/* The simulated machine: shards, disks, courier and clock. Whatever dies, dies as one process. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "actors/store/store.h"
#include "engine/limits.h"
#include "engine/shard/shard_internal.h"
#include "tests/sim/sim.h"

enum { SIM_ROUNDS_MAX = 200 };

void sim_fail(struct sim *sim, enum sim_exit verdict, const char *format, ...) {
    if (sim->verdict != SIM_OK) return;
    sim->verdict = verdict;
    va_list arguments;
    va_start(arguments, format);
    int n = snprintf(sim->fault, sizeof sim->fault, "at %ld ms: ", (long)sim->mono_ms);
    vsnprintf(sim->fault + n, sizeof sim->fault - (size_t)n, format, arguments);
    va_end(arguments);
}

static bool chance(struct sim *sim, uint32_t of_10000) {
    return of_10000 > 0 && prng_chance(&sim->prng, of_10000, 10000);
}

/* -- courier ----------------------------------------------------------------------------------- */

static void flight_add(struct sim *sim, struct sim_flight flight, struct bytes payload) {
    if (sim->flights_count == sim->flights_capacity) {
        sim->flights_capacity = sim->flights_capacity ? 2 * sim->flights_capacity : 256;
        sim->flights = realloc(sim->flights, sim->flights_capacity * sizeof *sim->flights);
        require(sim->flights != NULL);
    }
    flight.bytes = payload.size;
    flight.payload = malloc(payload.size + 1);
    require(flight.payload != NULL);
    if (payload.size > 0) memcpy(flight.payload, payload.data, payload.size);
    sim->flights[sim->flights_count++] = flight;
}

static void courier_carry(struct sim *sim, struct sim_flight flight, struct bytes payload) {
    uint32_t copies = 1;
    if (sim->dying) return; /* sent by a process that was dead already */
    sim->totals.messages++;
    if (!sim->calm && chance(sim, sim->options.message_double)) {
        copies = 2;
        sim->totals.messages_doubled++;
    }
    if (!sim->calm && chance(sim, sim->options.message_loss)) {
        copies = 0;
        sim->totals.messages_lost++;
    }
    for (; copies > 0; copies--) {
        int64_t delay = 0;
        if (!sim->calm && chance(sim, sim->options.message_delay)) {
            delay = prng_between(&sim->prng, 0, sim->options.message_delay_ms_max);
        }
        flight.due_ms = sim->mono_ms + delay;
        flight_add(sim, flight, payload);
    }
    /* The planted fault: a receiver that does not know what it has seen. */
    if (sim->options.canary == SIM_CANARY_MESSAGE_TWICE && !flight.acknowledgement &&
        !sim->doubled_one && flight.sequence > 2) {
        sim->doubled_one = true;
        flight.sequence++;
        flight_add(sim, flight, payload);
    }
}

static void courier_send(struct courier *courier, uint32_t from, uint32_t to, uint64_t sequence,
                         struct bytes payload) {
    struct sim *sim = (struct sim *)(void *)courier;
    courier_carry(sim, (struct sim_flight){.from = from, .to = to, .sequence = sequence}, payload);
}

static void courier_acknowledge(struct courier *courier, uint32_t from, uint32_t to,
                                uint64_t sequence) {
    struct sim *sim = (struct sim *)(void *)courier;
    courier_carry(
        sim,
        (struct sim_flight){.from = from, .to = to, .sequence = sequence, .acknowledgement = true},
        (struct bytes){0});
}

/* In the order of sending, but for what is delayed. */
static void courier_deliver(struct sim *sim) {
    uint32_t kept = 0, count = sim->flights_count;
    for (uint32_t i = 0; i < count; i++) {
        struct sim_flight f = sim->flights[i];
        if (f.due_ms > sim->mono_ms) {
            sim->flights[kept++] = f;
            continue;
        }
        if (sim->up && !f.acknowledgement) {
            shard_offer_message(sim->shards[f.to], f.from, f.sequence,
                                bytes_of(f.payload, f.bytes));
        } else if (sim->up) {
            shard_offer_acknowledgement(sim->shards[f.to], f.from, f.sequence);
        }
        free(f.payload);
    }
    sim->flights_count = kept;
}

static void courier_drop_all(struct sim *sim) {
    for (uint32_t i = 0; i < sim->flights_count; i++) free(sim->flights[i].payload);
    sim->flights_count = 0;
}

/* -- requests ---------------------------------------------------------------------------------- */

static void request_forget(struct sim *sim, struct sim_request *r) {
    if (r->previous != NULL) r->previous->next = r->next;
    if (r->next != NULL) r->next->previous = r->previous;
    if (sim->open == r) sim->open = r->next;
    sim->open_count--;
    for (uint32_t i = 0; i < r->count; i++) free(r->results[i].value);
    free(r);
}

static bool node_is_dead(const struct sim *sim) {
    if (sim->dying) return true;
    for (uint32_t i = 0; i < sim->options.shards_count; i++) {
        if (storage_memory_is_crashed(sim->disks[i])) return true;
    }
    return false;
}

/* A reply leaves the node: judged before anything else can become durable. */
static void request_done(struct request *request) {
    struct sim_request *r = (struct sim_request *)(void *)request;
    struct sim *sim = r->sim;
    if (node_is_dead(sim)) {
        auditor_unknown(sim, r);
    } else {
        bool lost = !sim->calm && chance(sim, sim->options.reply_loss);
        if (lost) sim->totals.reply_losses++;
        auditor_reply(sim, r, lost);
    }
    request_forget(sim, r);
}

void node_offer(struct sim *sim, struct sim_request *r) {
    uint32_t parts = 0;
    r->sim = sim;
    r->sent_ms = sim->mono_ms;
    r->request.commands = r->commands;
    r->request.results = r->results;
    r->request.commands_count = r->count;
    r->request.done = request_done;
    r->next = sim->open;
    if (sim->open != NULL) sim->open->previous = r;
    sim->open = r;
    sim->open_count++;
    struct request_part *by_shard[SIM_SHARDS_MAX] = {NULL};
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t shard = sim_shard_of(sim, r->origin[i]);
        struct request_part *part = by_shard[shard];
        if (part == NULL) {
            part = by_shard[shard] = &r->parts[parts++];
            part->request = &r->request;
            part->positions = r->positions[shard];
        }
        r->positions[shard][part->count++] = i;
        part->bytes += 256;
    }
    atomic_init(&r->request.parts_left, parts);
    for (uint32_t s = 0; s < sim->options.shards_count; s++) {
        uint32_t retry_after_ms = 0;
        struct request_part *part = by_shard[s];
        if (part == NULL || (sim->up && shard_offer(sim->shards[s], part, &retry_after_ms))) {
            continue;
        }
        for (uint32_t i = 0; i < part->count; i++) {
            r->results[r->positions[s][i]] =
                (struct result){.code = sim->up ? RESULT_OVERLOADED : RESULT_NOT_READY, .shard = s};
        }
        request_part_done(part);
    }
    for (uint32_t s = 0; s < sim->options.shards_count; s++) sim->shard_due_ms[s] = sim->mono_ms;
}

/* -- life and death ---------------------------------------------------------------------------- */

void node_init(struct sim *sim) {
    const struct sim_options *o = &sim->options;
    sim->courier = (struct courier){courier_send, courier_acknowledge};
    sim->mono_ms = 1000;
    sim->unix_ms = 1900000000000;
    for (uint32_t i = 0; i < o->shards_count; i++) {
        struct storage_memory_options disk = {.seed = prng_next(&sim->prng),
                                              .append_ms_max = o->append_ms_max,
                                              .checkpoint_ms_max = o->checkpoint_ms_max,
                                              .load_ms_max = o->load_ms_max,
                                              .torn_percent = o->torn_percent,
                                              .segment_records = 32,
                                              .lone_voter = true,
                                              .acks_early = o->canary == SIM_CANARY_ACKS_EARLY,
                                              .skips_one = o->canary == SIM_CANARY_REPLAY_SKIPS,
                                              .loses_checkpoints =
                                                  o->canary == SIM_CANARY_LOSES_CHECKPOINTS};
        sim->disks[i] = storage_memory_new(&disk);
    }
}

void node_open_one(struct sim *sim, uint32_t shard, char *error, size_t error_bytes) {
    const struct sim_options *o = &sim->options;
    struct shard_options options = {.id = shard,
                                    .shards_count = o->shards_count,
                                    .server_id = 1,
                                    .storage = storage_memory_open(sim->disks[shard]),
                                    .courier = &sim->courier,
                                    .mailbox_commands_max = o->mailbox_commands_max,
                                    .memory_bytes_max = o->memory_bytes_max,
                                    .checkpoint_age_ms = o->checkpoint_age_ms,
                                    .resend_after_ms = o->resend_after_ms,
                                    .retention_ms = o->retention_ms,
                                    .seed = (uint32_t)prng_next(&sim->prng)};
    storage_memory_advance(sim->disks[shard], sim->mono_ms);
    /* Recovery dies as well, and begins again. */
    if (!sim->calm && chance(sim, 5 * o->crash_in_per_step)) {
        storage_memory_crash_in(sim->disks[shard], 1 + prng_below(&sim->prng, 6));
    }
    sim->shards[shard] = shard_open(&options, sim->unix_ms, sim->mono_ms, error, error_bytes);
    sim->shard_due_ms[shard] = sim->mono_ms;
#ifdef JUMUN_DEBUG_CHECKS
    if (sim->shards[shard] != NULL) {
        sim->shards[shard]->replies_early = o->canary == SIM_CANARY_GATE_OPEN;
    }
#endif
}

bool node_start(struct sim *sim) {
    const struct sim_options *o = &sim->options;
    sim->totals.restarts++;
    sim->dying = false;
    if (!sim->calm && chance(sim, o->clock_back_per_restart)) {
        sim->unix_ms -= prng_between(&sim->prng, 0, 5000);
    }
    for (uint32_t i = 0; i < o->shards_count; i++) {
        char error[256] = "";
        node_open_one(sim, i, error, sizeof error);
        if (sim->shards[i] != NULL) continue;
        if (!storage_memory_is_crashed(sim->disks[i])) {
            sim_fail(sim, SIM_CORRECTNESS, "shard %u does not open: %s", i, error);
        }
        /* Died while it started: the disks opened so far die with it. */
        for (uint32_t k = 0; k <= i; k++) storage_memory_crash(sim->disks[k]);
        for (uint32_t k = 0; k < i; k++) {
            shard_close(sim->shards[k]);
            sim->shards[k] = NULL;
        }
        sim->totals.crashes_starting++;
        sim->restart_ms = sim->mono_ms + 1;
        return false;
    }
    sim->up = true;
    return true;
}

void node_crash(struct sim *sim) {
    sim->totals.crashes++;
    sim->dying = true;
    for (uint32_t i = 0; i < sim->options.shards_count; i++) {
        storage_memory_crash(sim->disks[i]);
        storage_memory_set_slow(sim->disks[i], 0);
        storage_memory_set_stuck(sim->disks[i], 0);
    }
    sim->up = false;
    for (uint32_t i = 0; i < sim->options.shards_count; i++) {
        shard_close(sim->shards[i]);
        sim->shards[i] = NULL;
    }
    while (sim->open != NULL) {
        struct sim_request *r = sim->open;
        auditor_unknown(sim, r);
        request_forget(sim, r);
    }
    /* Some of what was under way arrives after the restart: a courier between nodes will do that.
     */
    if (prng_chance(&sim->prng, 1, 2)) courier_drop_all(sim);
    for (uint32_t i = 0; i < sim->options.shards_count; i++) audit_after_crash(sim, i);
    auditor_crashed(sim);
    sim->restart_ms = sim->mono_ms + prng_between(&sim->prng, 0, sim->options.down_ms_max);
}

void node_fini(struct sim *sim) {
    if (sim->up) node_crash(sim);
    courier_drop_all(sim);
    free(sim->flights);
    for (uint32_t i = 0; i < sim->options.shards_count; i++) {
        struct storage_memory_counters c = storage_memory_counters(sim->disks[i]);
        sim->totals.lost_appends += c.lost_appends;
        sim->totals.survived_appends += c.survived_appends;
        sim->totals.torn_records += c.torn_records;
        sim->totals.checkpoints += c.checkpoints;
        storage_memory_free(sim->disks[i]);
    }
}

void node_calm(struct sim *sim) {
    sim->calm = true;
    for (uint32_t i = 0; i < sim->options.shards_count; i++) {
        storage_memory_set_full(sim->disks[i], false);
        storage_memory_set_slow(sim->disks[i], 0);
        storage_memory_set_stuck(sim->disks[i], 0);
        storage_memory_crash_in(sim->disks[i], 0);
        if (sim->up) sim->shards[i]->memory.fail_countdown = 0;
    }
}

void node_inject(struct sim *sim) {
    const struct sim_options *o = &sim->options;
    uint32_t i = (uint32_t)prng_below(&sim->prng, o->shards_count);
    if (!sim->up) return;
    if (chance(sim, o->crash_in_per_step)) {
        storage_memory_crash_in(sim->disks[i], 1 + prng_below(&sim->prng, 60));
    }
    if (chance(sim, o->full_per_step)) {
        storage_memory_set_full(sim->disks[i], true);
        sim->full_until_ms[i] = sim->mono_ms + prng_between(&sim->prng, 1, 3000);
        sim->totals.fulls++;
    }
    if (chance(sim, o->slow_per_step)) {
        storage_memory_set_slow(sim->disks[i], prng_between(&sim->prng, 1, 500));
        sim->slow_until_ms[i] = sim->mono_ms + prng_between(&sim->prng, 1, 3000);
        sim->totals.slows++;
    }
    if (chance(sim, o->stuck_per_step)) {
        storage_memory_set_stuck(sim->disks[i], sim->mono_ms + prng_between(&sim->prng, 1, 3000));
        sim->totals.stucks++;
    }
    /* Recovery without memory gives up by design: a restart tries again. */
    if (chance(sim, o->no_memory_per_step) && sim->shards[i]->phase == SHARD_SERVING) {
        sim->shards[i]->memory.fail_countdown = 1 + prng_below(&sim->prng, 5);
        sim->totals.no_memory++;
    }
    if (chance(sim, o->crash_per_step)) node_crash(sim);
}

/* -- time -------------------------------------------------------------------------------------- */

static int64_t earliest(const struct sim *sim) {
    int64_t next = sim->up ? INT64_MAX : sim->restart_ms;
    for (uint32_t i = 0; i < sim->options.shards_count; i++) {
        int64_t disk = storage_memory_next_ms(sim->disks[i]);
        if (disk < next) next = disk;
        if (sim->up && sim->shard_due_ms[i] < next) next = sim->shard_due_ms[i];
        if (sim->full_until_ms[i] > sim->mono_ms && sim->full_until_ms[i] < next) {
            next = sim->full_until_ms[i];
        }
    }
    for (uint32_t i = 0; i < sim->flights_count; i++) {
        if (sim->flights[i].due_ms < next) next = sim->flights[i].due_ms;
    }
    return next;
}

static void disks_work(struct sim *sim) {
    for (uint32_t i = 0; i < sim->options.shards_count; i++) {
        if (sim->full_until_ms[i] != 0 && sim->mono_ms >= sim->full_until_ms[i]) {
            storage_memory_set_full(sim->disks[i], false);
            sim->full_until_ms[i] = 0;
        }
        if (sim->slow_until_ms[i] != 0 && sim->mono_ms >= sim->slow_until_ms[i]) {
            storage_memory_set_slow(sim->disks[i], 0);
            sim->slow_until_ms[i] = 0;
        }
        storage_memory_advance(sim->disks[i], sim->mono_ms);
        audit_log(sim, i);
        const char *fault = storage_memory_fault(sim->disks[i]);
        if (fault != NULL) sim_fail(sim, SIM_CORRECTNESS, "disk %u: %s", i, fault);
    }
}

static void shards_work(struct sim *sim) {
    uint32_t first = (uint32_t)prng_below(&sim->prng, sim->options.shards_count);
    for (uint32_t k = 0; k < sim->options.shards_count && !node_is_dead(sim); k++) {
        uint32_t i = (first + k) % sim->options.shards_count;
        int64_t next_ms = INT64_MAX;
        uint32_t rounds = 0;
        while (rounds < SIM_ROUNDS_MAX && !node_is_dead(sim) &&
               shard_work(sim->shards[i], sim->unix_ms, sim->mono_ms, &next_ms) > 0) {
            rounds++;
        }
        if (rounds == SIM_ROUNDS_MAX) {
            sim_fail(sim, SIM_LIVENESS, "shard %u has work for ever", i);
        }
        sim->shard_due_ms[i] = next_ms > sim->mono_ms ? next_ms : sim->mono_ms + 1;
        if (sim->shards[i]->failed && !node_is_dead(sim)) {
            sim_fail(sim, SIM_CORRECTNESS, "shard %u gave up: its log or state is damaged", i);
        }
    }
}

static void tick(struct sim *sim) {
    disks_work(sim);
    courier_deliver(sim);
    if (!sim->up && sim->mono_ms >= sim->restart_ms) node_start(sim);
    if (sim->up) shards_work(sim);
    if (sim->up && node_is_dead(sim)) {
        sim->totals.crashes_inside++;
        node_crash(sim);
    }
}

void node_run(struct sim *sim, int64_t for_ms) {
    int64_t until = sim->mono_ms + for_ms;
    while (sim->verdict == SIM_OK) {
        tick(sim);
        int64_t next = earliest(sim);
        if (next <= sim->mono_ms) next = sim->mono_ms + 1;
        if (next > until) break;
        sim->unix_ms += next - sim->mono_ms;
        sim->mono_ms = next;
    }
    if (sim->mono_ms < until) {
        sim->unix_ms += until - sim->mono_ms;
        sim->mono_ms = until;
    }
    sim->totals.simulated_ms += (uint64_t)for_ms;
}

void node_jump(struct sim *sim, int64_t by_ms) {
    sim->unix_ms += by_ms;
    sim->mono_ms += by_ms;
    sim->totals.simulated_ms += (uint64_t)by_ms;
    sim->totals.jumps++;
    for (uint32_t i = 0; i < sim->options.shards_count; i++) sim->shard_due_ms[i] = sim->mono_ms;
}
