/* What goes wrong, by chance; and the calm after it. */
#include "actors/actor.h"
#include "engine/shard/shard_internal.h"
#include "tests/sim/sim.h"

/* -- of one replica's disk --------------------------------------------------------------------- */

static void fill(struct sim *sim, struct sim_replica *r, int64_t until_ms) {
    if (r == NULL || r->shard == NULL) return;
    storage_memory_set_full(r->disk, true);
    r->full_until_ms = until_ms;
    sim->totals.fulls++;
}

/* One disk, or those of a whole group. */
static void inject_full(struct sim *sim, struct sim_replica *r) {
    int64_t until_ms = sim->mono_ms + prng_between(&sim->prng, 1, 3000);
    if (!sim_is_cluster(sim) || !prng_chance(&sim->prng, 1, 8)) {
        fill(sim, r, until_ms);
        return;
    }
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        fill(sim, sim->nodes[n].replicas[r->group], until_ms);
    }
}

static void inject_disk(struct sim *sim, struct sim_replica *r) {
    const struct sim_options *o = &sim->options;
    if (sim_chance(sim, o->crash_in_per_step)) {
        storage_memory_crash_in(r->disk, 1 + prng_below(&sim->prng, 60));
    }
    if (sim_chance(sim, o->full_per_step)) inject_full(sim, r);
    if (sim_chance(sim, o->slow_per_step)) {
        storage_memory_set_slow(r->disk, prng_between(&sim->prng, 1, 500));
        r->slow_until_ms = sim->mono_ms + prng_between(&sim->prng, 1, 3000);
        sim->totals.slows++;
    }
    if (sim_chance(sim, o->stuck_per_step)) {
        storage_memory_set_stuck(r->disk, sim->mono_ms + prng_between(&sim->prng, 1, 3000));
        sim->totals.stucks++;
    }
    /* Recovery without memory gives up by design: a restart tries again. */
    if (sim_chance(sim, o->no_memory_per_step) && r->shard->phase == SHARD_SERVING) {
        r->shard->memory.fail_countdown = 1 + prng_below(&sim->prng, 5);
        sim->totals.no_memory++;
    }
}

/* Only of what is known to be committed and agreed on, and only where the others have it whole: a
 * group bears the loss of one. */
static void inject_rot(struct sim *sim, struct sim_replica *r) {
    if (!operator_may_lose_one(sim, r->group) || r->rotten || r->agreed == 0) return;
    uint64_t first = storage_memory_durable_first(r->disk);
    bool done = false;
    /* All that the journal stands in front of is lost to a start that cannot read it. The node is
     * down when it happens. */
    if (sim->options.journal_blocks > 0 && prng_chance(&sim->prng, 1, 3)) {
        if (r->agreed < storage_memory_durable_last(r->disk)) return;
        if (!storage_memory_corrupt_journal(r->disk)) return;
        r->rotten = true;
        sim->groups[r->group].lost++;
        sim->totals.damaged++;
        sim->totals.damaged_journals++;
        node_crash(&sim->nodes[r->node]);
        return;
    }
    if (prng_chance(&sim->prng, 1, 10)) {
        const struct sim_store *s = &sim->stores[prng_below(&sim->prng, SIM_STORES)];
        done = storage_memory_corrupt_actor(r->disk, ACTOR_STORE, &s->key);
    } else if (prng_chance(&sim->prng, 1, 2) && sim->orders_count > 0) {
        const struct sim_order *o = &sim->orders[prng_below(&sim->prng, sim->orders_count)];
        done = storage_memory_corrupt_actor(r->disk, ACTOR_ORDER, &o->key);
    } else if (first != 0 && first <= r->agreed) {
        done = storage_memory_corrupt_record(
            r->disk, (uint64_t)prng_between(&sim->prng, (int64_t)first, (int64_t)r->agreed));
    }
    if (!done) return;
    r->rotten = true;
    sim->groups[r->group].lost++;
    sim->totals.damaged++;
}

static void inject_wipe(struct sim *sim, struct sim_node *node) {
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        if (node->replicas[g] != NULL && !operator_may_lose_one(sim, g)) return;
    }
    node_crash(node);
    sim->totals.wiped++;
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        if (node->replicas[g] != NULL) operator_replace(sim, node->replicas[g]);
    }
}

/* -- between nodes ----------------------------------------------------------------------------- */

static void cut_both(struct sim *sim, uint32_t a, uint32_t b, int64_t until_ms) {
    network_cut(sim->network, a, b, until_ms);
    network_cut(sim->network, b, a, until_ms);
}

static void cut_node(struct sim *sim, uint32_t n, bool in, bool out, int64_t until_ms) {
    for (uint32_t m = 0; m < sim->options.nodes; m++) {
        if (m == n) continue;
        if (in) network_cut(sim->network, m, n, until_ms);
        if (out) network_cut(sim->network, n, m, until_ms);
    }
}

static void cut_in_two(struct sim *sim, int64_t until_ms) {
    uint64_t side = prng_next(&sim->prng);
    for (uint32_t a = 0; a < sim->options.nodes; a++) {
        for (uint32_t b = 0; b < a; b++) {
            if (((side >> a) & 1) != ((side >> b) & 1)) cut_both(sim, a, b, until_ms);
        }
        if (((side >> (32 + a)) & 1) != 0) cut_both(sim, a, SIM_CLIENT, until_ms);
    }
}

static void inject_cut(struct sim *sim) {
    uint32_t count = sim->options.nodes, n = (uint32_t)prng_below(&sim->prng, count);
    uint32_t other = (n + 1 + (uint32_t)prng_below(&sim->prng, count - 1)) % count;
    int64_t until_ms = sim->mono_ms + prng_between(&sim->prng, 1, sim->options.cut_ms_max);
    sim->totals.cuts++;
    switch (prng_below(&sim->prng, 6)) {
    case 0: cut_node(sim, n, true, true, until_ms); break;
    case 1: cut_node(sim, n, true, false, until_ms); break;
    case 2: cut_node(sim, n, false, true, until_ms); break;
    case 3: network_cut(sim->network, n, other, until_ms); break;
    case 4: cut_both(sim, n, other, until_ms); break;
    default: cut_in_two(sim, until_ms); break;
    }
}

static void inject_freeze(struct sim *sim, struct sim_node *node) {
    node->frozen_until_ms = sim->mono_ms + prng_between(&sim->prng, 1, sim->options.cut_ms_max);
    network_hold(sim->network, node->number, node->frozen_until_ms);
    sim->totals.freezes++;
}

static void inject_cluster(struct sim *sim, struct sim_node *node, struct sim_replica *r) {
    const struct sim_options *o = &sim->options;
    if (sim_chance(sim, o->cut_per_step)) inject_cut(sim);
    if (sim_chance(sim, o->skew_per_step)) {
        node->skew_ms = prng_between(&sim->prng, -o->skew_ms_max, o->skew_ms_max);
        sim->totals.skews++;
    }
    if (sim_chance(sim, o->crash_all_per_step)) {
        sim->totals.crashes_all++;
        sim_crash_all(sim);
        return;
    }
    if (!node->up || node_is_frozen(node)) return;
    if (r != NULL && r->shard != NULL && sim_chance(sim, o->rot_per_step)) inject_rot(sim, r);
    if (!node->up) return;
    if (sim_chance(sim, o->freeze_per_step)) inject_freeze(sim, node);
    else if (sim_chance(sim, o->wipe_per_step)) inject_wipe(sim, node);
    else if (sim_chance(sim, o->stop_per_step) && node->stop_ms == 0)
        node_stop(node, prng_between(&sim->prng, 0, 3000));
}

void faults_inject(struct sim *sim) {
    struct sim_node *node = &sim->nodes[prng_below(&sim->prng, sim->options.nodes)];
    struct sim_replica *r = node->replicas[prng_below(&sim->prng, sim->options.shards_count)];
    if (node->up && r != NULL && r->shard != NULL) inject_disk(sim, r);
    if (node->up && sim_chance(sim, sim->options.crash_per_step)) node_crash(node);
    if (sim_is_cluster(sim)) inject_cluster(sim, node, node->replicas[r != NULL ? r->group : 0]);
}

/* -- calm -------------------------------------------------------------------------------------- */

void faults_calm(struct sim *sim) {
    sim->calm = true;
    if (sim->network != NULL) network_calm(sim->network);
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        struct sim_node *node = &sim->nodes[n];
        node->frozen_until_ms = 0;
        node->skew_ms = 0;
        for (uint32_t g = 0; g < sim->options.shards_count; g++) {
            struct sim_replica *r = node->replicas[g];
            if (r == NULL) continue;
            storage_memory_set_full(r->disk, false);
            storage_memory_set_slow(r->disk, 0);
            storage_memory_set_stuck(r->disk, 0);
            storage_memory_crash_in(r->disk, 0);
            if (r->shard != NULL) r->shard->memory.fail_countdown = 0;
        }
    }
}
