/* The operator: where each group shall be. He moves replicas, adds and takes away two of them,
 * gives up those whose disk is lost or damaged, drains nodes and prefers others. The leaders of the
 * groups do the steps; here the wishes are spread, replicas started, and removed ones taken away.
 *
 * What he must not do, as the cluster document does not let him: a second change of a group's
 * servers before the first is reached (but for giving up a lost one), a server id that was used
 * before, and the disk of a replica touched before its removal is committed. */
#include <stdio.h>

#include "engine/shard/shard_internal.h"
#include "tests/sim/sim.h"

enum { PLACE_MS_MAX = 500, REMOVE_MS_MAX = 3000, SPREAD_MS_MAX = 3000, EPOCH_MS_MAX = 20000 };

static bool placement_has(const struct shard_placement *p, uint64_t server) {
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->servers[i] == server) return true;
    }
    return false;
}

static const struct audit_configuration *configuration_of(const struct sim *sim, uint32_t group) {
    return &sim->audit[group].configuration;
}

static bool configuration_has(const struct audit_configuration *c, uint64_t server) {
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->servers[i] == server) return true;
    }
    return false;
}

static bool is_reached(const struct sim *sim, uint32_t group) {
    const struct shard_placement *p = &sim->groups[group].placement;
    const struct audit_configuration *c = configuration_of(sim, group);
    if (c->count != p->count) return false;
    for (uint32_t i = 0; i < c->count; i++) {
        if (!c->voter[i] || !placement_has(p, c->servers[i])) return false;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t n = consensus_server_node(p->servers[i]) - 1;
        const struct sim_replica *r = sim->nodes[n].replicas[group];
        if (r == NULL || r->server_id != p->servers[i]) return false;
    }
    return true;
}

bool operator_may_lose_one(const struct sim *sim, uint32_t group) {
    return sim->groups[group].lost == 0 && is_reached(sim, group) &&
           sim->groups[group].placement.count >= 3;
}

static bool has_rotten(const struct sim *sim, uint32_t group) {
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        const struct sim_replica *r = sim->nodes[n].replicas[group];
        if (r != NULL && r->rotten) return true;
    }
    return false;
}

bool operator_is_content(const struct sim *sim) {
    for (uint32_t g = 0; g < sim->shards; g++) {
        if (!is_reached(sim, g)) return false;
    }
    return true;
}

void operator_init(struct sim *sim) {
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        struct shard_placement *p = &sim->groups[g].placement;
        p->version = 1;
        p->count = sim->options.voters;
        for (uint32_t i = 0; i < p->count; i++) {
            uint32_t n = (g + i) % sim->options.nodes;
            p->servers[i] = consensus_server_id(n + 1, 0);
        }
        for (uint32_t n = 0; n < sim->options.nodes; n++) sim->groups[g].incarnations[n] = 1;
    }
}

/* -- wishes ------------------------------------------------------------------------------------ */

static void placement_changed(struct sim *sim, uint32_t group) {
    struct shard_placement *p = &sim->groups[group].placement;
    bool preferred = false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->count; i++) preferred |= p->servers[i] == p->preferred;
    if (!preferred) p->preferred = 0;
    for (uint32_t i = 0; i < p->drained_count; i++) {
        if (placement_has(p, p->drained[i])) p->drained[kept++] = p->drained[i];
    }
    p->drained_count = kept;
    p->version++;
    sim->totals.placements++;
}

static uint64_t new_server(struct sim *sim, uint32_t group, uint32_t node) {
    return consensus_server_id(node + 1, sim->groups[group].incarnations[node]++);
}

/* A node that has none of the group; SIM_NODES_MAX = there is none. */
static uint32_t free_node(struct sim *sim, uint32_t group) {
    uint32_t first = (uint32_t)prng_below(&sim->prng, sim->options.nodes);
    for (uint32_t k = 0; k < sim->options.nodes; k++) {
        uint32_t n = (first + k) % sim->options.nodes;
        if (sim->nodes[n].replicas[group] == NULL) return n;
    }
    return SIM_NODES_MAX;
}

static void wish_move(struct sim *sim, uint32_t group) {
    struct shard_placement *p = &sim->groups[group].placement;
    uint32_t to = free_node(sim, group);
    uint32_t kind = (uint32_t)prng_below(&sim->prng, 4);
    if (kind == 0 && p->count == 5) {
        for (uint32_t k = 0; k < 2; k++) {
            uint32_t drop = (uint32_t)prng_below(&sim->prng, p->count);
            p->servers[drop] = p->servers[--p->count];
        }
    } else if (to == SIM_NODES_MAX) {
        return;
    } else if (kind == 1 && p->count == 3) {
        p->servers[p->count++] = new_server(sim, group, to);
        uint32_t second = 0;
        while (second < sim->options.nodes &&
               (second == to || sim->nodes[second].replicas[group] != NULL)) {
            second++;
        }
        if (second == sim->options.nodes) { /* only one node is free */
            sim->groups[group].incarnations[to]--;
            p->count--;
            return;
        }
        p->servers[p->count++] = new_server(sim, group, second);
    } else {
        p->servers[prng_below(&sim->prng, p->count)] = new_server(sim, group, to);
    }
    placement_changed(sim, group);
}

static void wish_lead(struct sim *sim, uint32_t group) {
    struct shard_placement *p = &sim->groups[group].placement;
    uint64_t server = p->servers[prng_below(&sim->prng, p->count)];
    switch (prng_below(&sim->prng, 4)) {
    case 0: p->preferred = 0; break;
    case 1: p->drained_count = 0; break;
    case 2:
        p->drained[0] = server;
        p->drained_count = 1;
        break;
    default: p->preferred = server; break;
    }
    placement_changed(sim, group);
}

void operator_inject(struct sim *sim) {
    uint32_t group = (uint32_t)prng_below(&sim->prng, sim->shards);
    if (!sim_is_cluster(sim)) return;
    if (sim_chance(sim, sim->options.move_per_step) && is_reached(sim, group) &&
        sim->groups[group].lost == 0) {
        wish_move(sim, group);
    }
    if (sim_chance(sim, sim->options.transfer_per_step)) wish_lead(sim, group);
}

/* -- replicas come and go ---------------------------------------------------------------------- */

static void replica_take_away(struct sim *sim, struct sim_replica *r) {
    struct sim_node *node = &sim->nodes[r->node];
    if (r->shard != NULL) {
        storage_memory_crash(r->disk);
        replica_close(r);
    }
    node->replicas[r->group] = NULL;
    node->routes[r->group] = (struct sim_route){.node = SIM_NODES_MAX};
}

void operator_replace(struct sim *sim, struct sim_replica *r) {
    struct sim_group *group = &sim->groups[r->group];
    struct shard_placement *p = &group->placement;
    uint32_t number = r->group, node = r->node;
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->servers[i] == r->server_id) p->servers[i] = new_server(sim, number, node);
    }
    group->lost++;
    sim->totals.replaced++;
    replica_take_away(sim, r);
    r->next = group->given_up;
    group->given_up = r;
    placement_changed(sim, number);
}

static void replica_start(struct sim *sim, uint32_t group, uint64_t server) {
    uint32_t n = consensus_server_node(server) - 1;
    struct sim_node *node = &sim->nodes[n];
    char error[256] = "";
    if (!node->up || node_is_frozen(node) || node->replicas[group] != NULL) return;
    struct sim_replica *r = replica_new(sim, group, n, server, false);
    node->replicas[group] = r;
    if (replica_open(r, error, sizeof error)) return;
    if (storage_memory_is_crashed(r->disk)) {
        storage_memory_crash(r->disk);
        node_crash(node);
    } else {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u on node %u cannot join: %s", group, n + 1, error);
    }
}

static void place(struct sim *sim, struct sim_replica *r) {
    const struct shard_placement *p = &sim->groups[r->group].placement;
    if (r->shard == NULL || r->placed_version >= p->version) return;
    if (r->placed_version > 0 && r->place_ms <= sim->mono_ms - PLACE_MS_MAX) {
        /* It hears of it some time from now. */
        r->place_ms = sim->mono_ms + prng_between(&sim->prng, 0, PLACE_MS_MAX);
    }
    if (r->place_ms > sim->mono_ms) return;
    shard_place(r->shard, p);
    r->placed_version = p->version;
    r->woken = true;
}

/* Removed, and that is committed: some time later its node hears of it. */
static void look_at(struct sim *sim, struct sim_replica *r) {
    bool member = configuration_has(configuration_of(sim, r->group), r->server_id);
    if (!member && r->was_member && r->remove_ms == 0 &&
        !placement_has(&sim->groups[r->group].placement, r->server_id)) {
        r->remove_ms = sim->mono_ms + 1 + prng_between(&sim->prng, 0, REMOVE_MS_MAX);
    }
}

static void tell_growth(struct sim *sim, struct sim_replica *r) {
    if (r->shard == NULL || r->told >= sim->view.version || r->tell_ms > sim->mono_ms) return;
    shard_know(r->shard, &sim->view);
    r->told = sim->view.version;
    r->woken = true;
}

void operator_tell_later(struct sim *sim) {
    sim->view.version++;
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        for (uint32_t g = 0; g < sim->shards; g++) {
            struct sim_replica *r = sim->nodes[n].replicas[g];
            if (r != NULL) r->tell_ms = sim->mono_ms + prng_between(&sim->prng, 0, SPREAD_MS_MAX);
        }
    }
}

void operator_move_stores(struct sim *sim) {
    if (sim->view.epochs_count == 1 || sim->view.stores_shards == sim->shards) return;
    sim->view.stores_shards = sim->shards;
    operator_tell_later(sim);
    sim->totals.stores_moved++;
}

void operator_grow(struct sim *sim) {
    const struct sim_options *o = &sim->options;
    if (sim->shards == o->shards_count) return;
    operator_tell_later(sim);
    for (uint32_t g = sim->shards; g < o->shards_count; g++) {
        for (uint32_t i = 0; i < o->voters; i++) {
            uint32_t n = (g + i) % o->nodes;
            sim->nodes[n].replicas[g] =
                replica_new(sim, g, n, consensus_server_id(n + 1, 0), true);
        }
    }
    sim->shards = o->shards_count;
    sim->view.epochs[1] = (struct routing_epoch){
        sim->unix_ms + prng_between(&sim->prng, 1, EPOCH_MS_MAX), o->shards_count};
    sim->view.epochs_count = 2;
    for (uint32_t g = 0; g < sim->shards; g++) sim->view.active[g / 8] |= (uint8_t)(1u << (g % 8));
    sim->totals.grown++;
}

void operator_work(struct sim *sim) {
    upgrade_work(sim);
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        struct sim_node *node = &sim->nodes[n];
        if (!node->up || node_is_frozen(node)) continue;
        for (uint32_t g = 0; g < sim->options.shards_count; g++) {
            struct sim_replica *r = node->replicas[g];
            if (r == NULL) continue;
            look_at(sim, r);
            tell_growth(sim, r);
            bool told = storage_memory_damage_was_told(r->disk) || replica_has_failed(r);
            if (r->rotten && told) operator_replace(sim, r);
            else if (r->remove_ms != 0 && r->remove_ms <= sim->mono_ms) {
                replica_take_away(sim, r);
                replica_free(r);
            } else if (r->shard == NULL && !r->rotten) {
                if (!node_open(node, r)) node_crash(node); /* of a group that came by growth */
            } else place(sim, r);
        }
    }
    for (uint32_t g = 0; g < sim->shards; g++) {
        const struct shard_placement *p = &sim->groups[g].placement;
        for (uint32_t i = 0; i < p->count; i++) {
            uint32_t n = consensus_server_node(p->servers[i]) - 1;
            const struct sim_replica *r = sim->nodes[n].replicas[g];
            if (r == NULL) replica_start(sim, g, p->servers[i]);
        }
        if (is_reached(sim, g) && !has_rotten(sim, g)) sim->groups[g].lost = 0;
    }
}

int64_t operator_next_ms(const struct sim *sim) {
    int64_t next = INT64_MAX;
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        const struct sim_node *node = &sim->nodes[n];
        if (!node->up || node_is_frozen(node)) continue;
        for (uint32_t g = 0; g < sim->options.shards_count; g++) {
            const struct sim_replica *r = node->replicas[g];
            if (r == NULL) continue;
            bool placed = r->placed_version >= sim->groups[g].placement.version;
            if (!placed && r->shard != NULL && r->place_ms < next) next = r->place_ms;
            if (r->remove_ms != 0 && r->remove_ms < next) next = r->remove_ms;
            if (r->told < sim->view.version && r->shard != NULL && r->tell_ms < next)
                next = r->tell_ms;
        }
    }
    return next;
}
