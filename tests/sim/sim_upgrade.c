/* A rolling upgrade in the middle of a run: nodes of two versions in one cluster, each of which may
 * come back as the other one whenever it starts, until the operator has replaced them all and
 * raises the level.
 *
 * The program that is linked here is the newer version (level 2: events of orders in a schema that
 * the older one does not read). A node that stands for the older one runs the same code; what would
 * end a real one is judged instead: an event of the newer schema in a log that it holds. */
#include "engine/base/program.h"
#include "tests/sim/sim.h"

enum { VERSION_OLD = 1, VERSION_NEW = 2, UPGRADE_STOP_MS = 2000 };

const struct program program = {.version = "next", .level_min = 1, .level_max = 2,
                                .order_event_schemas = {[1] = 1, [2] = 2}};

static bool is_mixed(const struct sim *sim) { return sim->options.upgrade_step != 0; }

void upgrade_node_starts(struct sim_node *node) {
    struct sim *sim = node->sim;
    if (!is_mixed(sim)) {
        node->version = VERSION_NEW;
    } else if (sim->upgrading) {
        if (node->version == VERSION_OLD) sim->totals.upgraded++;
        node->version = VERSION_NEW;
    } else {
        node->version = prng_chance(&sim->prng, 1, 2) ? VERSION_NEW : VERSION_OLD;
    }
}

void upgrade_begin(struct sim *sim) {
    if (is_mixed(sim)) sim->upgrading = true;
}

bool upgrade_is_done(const struct sim *sim) {
    return !is_mixed(sim) || sim->view.level == VERSION_NEW;
}

/* One old node after the other is stopped, once all are up; then the level is raised. */
void upgrade_work(struct sim *sim) {
    struct sim_node *old = NULL;
    if (!sim->upgrading || upgrade_is_done(sim)) return;
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        struct sim_node *node = &sim->nodes[n];
        if (!node->up || node_is_frozen(node) || node->stop_ms != 0) return;
        if (node->version == VERSION_OLD) old = node;
    }
    if (old != NULL) {
        node_stop(old, UPGRADE_STOP_MS);
        return;
    }
    sim->view.level = VERSION_NEW;
    sim->totals.raised++;
    operator_tell_later(sim);
}

void upgrade_see(struct sim *sim, uint32_t group, uint64_t index, const struct event *event) {
    struct audit_shard *a = &sim->audit[group];
    if (event->schema < VERSION_NEW || a->newer_index != 0) return;
    a->newer_index = index;
    if (!is_mixed(sim) || sim->view.level == VERSION_NEW) return;
    sim_fail(sim, SIM_CORRECTNESS, "shard %u, entry %lu: an event of schema %u before the level "
             "was raised", group, (unsigned long)index, event->schema);
}

void upgrade_judge(struct sim_replica *r) {
    struct sim *sim = r->sim;
    uint64_t newer = sim->audit[r->group].newer_index;
    if (newer == 0 || sim->nodes[r->node].version != VERSION_OLD || !is_mixed(sim)) return;
    if (storage_memory_durable_last(r->disk) < newer) return;
    sim_fail(sim, SIM_CORRECTNESS, "shard %u, entry %lu: node %u cannot read it, its version is "
             "the one before", r->group, (unsigned long)newer, r->node + 1);
}
