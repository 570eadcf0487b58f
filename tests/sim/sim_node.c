/* The simulated machines: whatever dies, dies as one process. Time moves on for all together. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

void sim_fail(struct sim *sim, enum sim_exit verdict, const char *format, ...) {
    if (sim->verdict != SIM_OK) return;
    sim->verdict = verdict;
    va_list arguments;
    va_start(arguments, format);
    int n = snprintf(sim->fault, sizeof sim->fault, "at %ld ms: ", (long)sim->mono_ms);
    vsnprintf(sim->fault + n, sizeof sim->fault - (size_t)n, format, arguments);
    va_end(arguments);
}

bool node_is_dead(const struct sim_node *node) {
    if (node->dying || !node->up) return true;
    for (uint32_t g = 0; g < node->sim->options.shards_count; g++) {
        const struct sim_replica *r = node->replicas[g];
        if (r != NULL && r->shard != NULL && storage_memory_is_crashed(r->disk)) return true;
    }
    return false;
}

bool node_is_frozen(const struct sim_node *node) {
    return node->frozen_until_ms > node->sim->mono_ms;
}

bool sim_all_up(const struct sim *sim) {
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        if (!sim->nodes[n].up) return false;
    }
    return true;
}

/* -- life and death ---------------------------------------------------------------------------- */

void sim_init(struct sim *sim) {
    const struct sim_options *o = &sim->options;
    sim->mono_ms = 1000;
    sim->unix_ms = 1900000000000;
    if (sim_is_cluster(sim)) network_init(sim);
    for (uint32_t n = 0; n < o->nodes; n++) {
        struct sim_node *node = &sim->nodes[n];
        node->sim = sim;
        node->number = n;
        node->restart_ms = sim->mono_ms;
        network_node_init(node);
    }
    sim->shards = o->first_shards;
    sim->view = (struct shard_view){.version = 1, .stores_shards = o->first_shards,
                                    .epochs_count = 1, .epochs = {{0, o->first_shards}}};
    for (uint32_t g = 0; g < o->first_shards; g++)
        sim->view.active[g / 8] |= (uint8_t)(1u << (g % 8));
    for (uint32_t g = 0; g < o->first_shards; g++) {
        for (uint32_t i = 0; i < o->voters; i++) {
            uint32_t n = (g + i) % o->nodes;
            sim->nodes[n].replicas[g] =
                replica_new(sim, g, n, consensus_server_id(n + 1, 0), true);
        }
    }
    for (uint32_t g = 0; g < o->shards_count; g++) sim->believed[g] = g % o->nodes;
    operator_init(sim);
    for (uint32_t n = 0; n < o->nodes; n++) node_start(&sim->nodes[n]);
}

/* A stored state that cannot be opened is what its damage was meant to cause; anything else is
 * not. */
bool node_open(struct sim_node *node, struct sim_replica *r) {
    char error[256] = "";
    if (replica_open(r, error, sizeof error)) return true;
    if (storage_memory_is_crashed(r->disk)) return false;
    if (!r->rotten) {
        sim_fail(node->sim, SIM_CORRECTNESS, "shard %u on node %u does not open: %s", r->group,
                 node->number + 1, error);
    }
    storage_memory_crash(r->disk);
    return true;
}

bool node_start(struct sim_node *node) {
    struct sim *sim = node->sim;
    sim->totals.restarts++;
    node->dying = false;
    upgrade_node_starts(node);
    if (!sim->calm && sim_chance(sim, sim->options.clock_back_per_restart)) {
        int64_t back_ms = prng_between(&sim->prng, 0, 5000);
        if (sim_is_cluster(sim)) node->skew_ms -= back_ms;
        else sim->unix_ms -= back_ms;
    }
    node->up = true;
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        struct sim_replica *r = node->replicas[g];
        if (r == NULL || node_open(node, r)) continue;
        /* Died while it started: the disks opened so far die with it. */
        for (uint32_t k = 0; k <= g; k++) {
            struct sim_replica *opened = node->replicas[k];
            if (opened == NULL) continue;
            if (k == g || opened->shard != NULL) storage_memory_crash(opened->disk);
        }
        node->dying = true;
        for (uint32_t k = 0; k < g; k++) {
            if (node->replicas[k] != NULL && node->replicas[k]->shard != NULL) {
                replica_close(node->replicas[k]);
            }
        }
        sim->totals.crashes_starting++;
        node->up = false;
        node->restart_ms = sim->mono_ms + 1;
        return false;
    }
    return true;
}

void node_crash(struct sim_node *node) {
    struct sim *sim = node->sim;
    sim->totals.crashes++;
    node->dying = true;
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        struct sim_replica *r = node->replicas[g];
        if (r != NULL && r->shard != NULL) storage_memory_crash(r->disk);
    }
    node->up = false;
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        struct sim_replica *r = node->replicas[g];
        if (r == NULL || r->shard == NULL) continue;
        replica_close(r);
        audit_after_crash(r);
    }
    client_node_died(node);
    transfers_drop(sim, node->number);
    if (sim->network != NULL) network_forget(sim->network, node->number);
    /* Some of what was under way arrives after the restart: a courier between nodes does that. */
    if (prng_chance(&sim->prng, 1, 2)) courier_drop(sim, node->number);
    for (uint32_t g = 0; g < SIM_SHARDS_MAX; g++) {
        node->routes[g] = (struct sim_route){.node = SIM_NODES_MAX};
    }
    sim->undecided = true;
    node->frozen_until_ms = node->stop_ms = 0;
    node->restart_ms = sim->mono_ms + prng_between(&sim->prng, 0, sim->options.down_ms_max);
}

void node_stop(struct sim_node *node, int64_t within_ms) {
    struct sim *sim = node->sim;
    node->stop_ms = sim->mono_ms + within_ms;
    sim->totals.stops++;
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        struct sim_replica *r = node->replicas[g];
        if (r == NULL || r->shard == NULL) continue;
        shard_hand_over(r->shard);
        shard_drain(r->shard);
    }
}

/* What is closed must not be read by its storage any more. */
static bool node_has_stopped(const struct sim_node *node) {
    if (node->stop_ms == 0) return false;
    if (node->sim->mono_ms >= node->stop_ms) return true;
    for (uint32_t g = 0; g < node->sim->options.shards_count; g++) {
        const struct sim_replica *r = node->replicas[g];
        if (r != NULL && r->shard != NULL && !shard_is_drained(r->shard)) return false;
    }
    return true;
}

void sim_crash_all(struct sim *sim) {
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        if (sim->nodes[n].up) node_crash(&sim->nodes[n]);
    }
}

void sim_fini(struct sim *sim) {
    sim_crash_all(sim);
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        courier_drop(sim, n);
        for (uint32_t g = 0; g < sim->options.shards_count; g++) {
            if (sim->nodes[n].replicas[g] != NULL) replica_free(sim->nodes[n].replicas[g]);
        }
    }
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        while (sim->groups[g].given_up != NULL) {
            struct sim_replica *r = sim->groups[g].given_up;
            sim->groups[g].given_up = r->next;
            replica_free(r);
        }
    }
    free(sim->flights);
    transfers_drop(sim, SIM_NODES_MAX);
    if (sim->network == NULL) return;
    struct network_counters c = network_counters(sim->network);
    sim->totals.net_sent += c.sent;
    sim->totals.net_lost += c.lost;
    sim->totals.net_doubled += c.doubled;
    sim->totals.net_late += c.late;
    sim->totals.net_cut += c.cut;
    network_free(sim->network);
}

/* -- time -------------------------------------------------------------------------------------- */

static void at_the_earliest(int64_t *next, int64_t at) {
    if (at < *next) *next = at;
}

static int64_t node_next_ms(const struct sim_node *node) {
    const struct sim *sim = node->sim;
    int64_t next = INT64_MAX;
    if (!node->up) return node->restart_ms;
    if (node_is_frozen(node)) return node->frozen_until_ms;
    if (node->stop_ms != 0) next = node->stop_ms;
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        const struct sim_replica *r = node->replicas[g];
        if (r == NULL || r->shard == NULL) continue;
        at_the_earliest(&next, storage_memory_next_ms(r->disk));
        at_the_earliest(&next, r->woken ? sim->mono_ms : r->due_ms);
        if (r->full_until_ms > sim->mono_ms) at_the_earliest(&next, r->full_until_ms);
    }
    return next;
}

static int64_t earliest(const struct sim *sim) {
    int64_t next = courier_next_ms(sim);
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        at_the_earliest(&next, node_next_ms(&sim->nodes[n]));
    }
    if (sim->network == NULL) return next;
    at_the_earliest(&next, network_next_ms(sim->network));
    at_the_earliest(&next, network_hellos_next_ms(sim));
    at_the_earliest(&next, transfers_next_ms(sim));
    at_the_earliest(&next, operator_next_ms(sim));
    return next;
}

static void node_work(struct sim_node *node) {
    struct sim *sim = node->sim;
    uint32_t count = sim->options.shards_count;
    for (uint32_t g = 0; g < count; g++) {
        struct sim_replica *r = node->replicas[g];
        if (r != NULL && r->shard != NULL) replica_disk_work(r);
        if (r != NULL && r->shard != NULL && !node_is_dead(node)) replica_fill(r);
    }
    uint32_t first = (uint32_t)prng_below(&sim->prng, count);
    for (uint32_t k = 0; k < count && !node_is_dead(node) && sim->verdict == SIM_OK; k++) {
        struct sim_replica *r = node->replicas[(first + k) % count];
        if (r != NULL && r->shard != NULL) replica_work(r);
    }
    if (node_is_dead(node)) {
        sim->totals.crashes_inside++;
        node_crash(node);
    } else if (node_has_stopped(node)) {
        node_crash(node);
    }
}

/* A node alone that serves again has committed all that it has: nothing else will ever be. */
static void decide(struct sim *sim) {
    const struct sim_node *node = &sim->nodes[0];
    if (sim_is_cluster(sim) || !sim->undecided || !node->up) return;
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        if (!replica_serves(node->replicas[g])) return;
    }
    sim->undecided = false;
    auditor_crashed(sim);
}

static void tick(struct sim *sim) {
    uint32_t count = sim->options.nodes;
    if (sim->network != NULL) {
        network_advance(sim->network, sim->mono_ms);
        network_hellos(sim);
        transfers_work(sim);
        operator_work(sim);
    }
    courier_deliver(sim);
    uint32_t first = count > 1 ? (uint32_t)prng_below(&sim->prng, count) : 0;
    for (uint32_t k = 0; k < count && sim->verdict == SIM_OK; k++) {
        struct sim_node *node = &sim->nodes[(first + k) % count];
        if (!node->up && sim->mono_ms >= node->restart_ms) node_start(node);
        if (node->up && !node_is_frozen(node)) node_work(node);
    }
    decide(sim);
}

void sim_run(struct sim *sim, int64_t for_ms) {
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

void sim_jump(struct sim *sim, int64_t by_ms) {
    sim->unix_ms += by_ms;
    /* Of a cluster: as if all had been suspended, or the wall clocks alone were set. */
    if (!sim_is_cluster(sim) || prng_chance(&sim->prng, 1, 2)) sim->mono_ms += by_ms;
    sim->totals.jumped_ms += (uint64_t)by_ms;
    sim->totals.jumps++;
}
