/* One replica: its disk, its life, its rounds of work. Its thread is played by replica_work(): as
 * there, it works when it was woken or when the time has come that it named, and not else. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/shard/shard_internal.h"
#include "tests/sim/sim.h"

enum { SIM_ROUNDS_MAX = 200 };

struct sim_replica *replica_new(struct sim *sim, uint32_t group, uint32_t node, uint64_t server_id,
                                bool first) {
    const struct sim_options *o = &sim->options;
    struct sim_replica *r = calloc(1, sizeof *r);
    require(r != NULL);
    *r = (struct sim_replica){
        .sim = sim, .group = group, .node = node, .server_id = server_id, .first = first};
    struct storage_memory_options disk = {.seed = prng_next(&sim->prng),
                                          .append_ms_max = o->append_ms_max,
                                          .checkpoint_ms_max = o->checkpoint_ms_max,
                                          .load_ms_max = o->load_ms_max,
                                          .torn_percent = o->torn_percent,
                                          .segment_records = 32,
                                          .shard = group,
                                          .files = sim->files,
                                          .lone_voter = !sim_is_cluster(sim),
                                          .acks_early = o->canary == SIM_CANARY_ACKS_EARLY,
                                          .skips_one = o->canary == SIM_CANARY_REPLAY_SKIPS,
                                          .forgets_votes =
                                              o->canary == SIM_CANARY_VOTES_FORGOTTEN,
                                          .keeps_tail = o->canary == SIM_CANARY_TAIL_KEPT,
                                          .journal_blocks = o->journal_blocks,
                                          .late_ms_max = o->late_ms_max,
                                          .journal_forgotten =
                                              o->canary == SIM_CANARY_JOURNAL_FORGOTTEN,
                                          .journal_early = o->canary == SIM_CANARY_JOURNAL_EARLY,
                                          .journal_trusts = o->canary == SIM_CANARY_JOURNAL_TRUSTS,
                                          .loses_checkpoints =
                                              o->canary == SIM_CANARY_LOSES_CHECKPOINTS};
    r->disk = storage_memory_new(&disk);
    return r;
}

void replica_free(struct sim_replica *r) {
    struct sim_totals *t = &r->sim->totals;
    struct storage_memory_counters c = storage_memory_counters(r->disk);
    require(r->shard == NULL);
    t->lost_appends += c.lost_appends;
    t->survived_appends += c.survived_appends;
    t->torn_records += c.torn_records;
    t->frames += c.frames;
    t->rounds += c.rounds;
    t->torn_frames += c.torn_frames;
    t->replayed += c.replayed;
    t->checkpoints += c.checkpoints;
    t->installs += c.installs;
    t->filled += c.filled;
    storage_memory_free(r->disk);
    free(r);
}

static void replica_wake(void *arg) {
    ((struct sim_replica *)arg)->woken = true;
}

static void first_servers(const struct sim *sim, uint32_t group,
                          uint64_t servers[CONSENSUS_SERVERS_MAX]) {
    for (uint32_t i = 0; i < sim->options.voters; i++) {
        servers[i] = consensus_server_id((group + i) % sim->options.nodes + 1, 0);
    }
}

bool replica_open(struct sim_replica *r, char *error, size_t error_bytes) {
    struct sim *sim = r->sim;
    const struct sim_options *o = &sim->options;
    struct sim_node *node = &sim->nodes[r->node];
    uint64_t servers[CONSENSUS_SERVERS_MAX];
    struct storage *storage = storage_memory_open(r->disk);
    struct shard_options options = {.id = r->group,
                                    .shards_count = o->first_shards,
                                    .server_id = r->server_id,
                                    .storage = storage,
                                    .courier = &node->courier,
                                    .mailbox_commands_max = o->mailbox_commands_max,
                                    .memory_bytes_max = o->memory_bytes_max,
                                    .checkpoint_age_ms = o->checkpoint_age_ms,
                                    .resend_after_ms = o->resend_after_ms,
                                    .outbox_window = o->outbox_window,
                                    .retention_ms = o->retention_ms,
                                    .trailing_entries = o->trailing_entries,
                                    .seed = (uint32_t)prng_next(&sim->prng)};
    /* The others go without a cluster document, like a node alone. */
    bool document = o->shards_count != o->first_shards || o->upgrade_step != 0;
    if (document && o->canary != SIM_CANARY_LEVEL_IGNORED) options.view = &sim->view;
    if (sim_is_cluster(sim)) {
        options.peers = &node->peers;
        if (r->first) {
            first_servers(sim, r->group, servers);
            options.first_servers = servers;
            options.first_servers_count = o->voters;
        }
    }
    r->storage = storage;
    storage->wake = replica_wake;
    storage->wake_arg = r;
    storage_memory_advance(r->disk, sim->mono_ms);
    /* Recovery dies as well, and begins again. */
    if (!sim->calm && sim_chance(sim, 5 * o->crash_in_per_step)) {
        storage_memory_crash_in(r->disk, 1 + prng_below(&sim->prng, 6));
    }
    r->shard = shard_open(&options, node_unix_ms(node), sim->mono_ms, error, error_bytes);
    r->due_ms = sim->mono_ms;
    r->agreed = 0;
    r->placed_version = 0;
    r->told = sim->view.version;
    r->place_ms = sim->mono_ms;
    if (r->shard == NULL) return false;
    shard_on_wake(r->shard, replica_wake, r);
#ifdef JUMUN_DEBUG_CHECKS
    r->shard->replies_early = o->canary == SIM_CANARY_GATE_OPEN;
    r->shard->reads_alone = o->canary == SIM_CANARY_READS_ALONE;
    uint32_t rules = o->canary == SIM_CANARY_STALE_PERSISTED ? CONSENSUS_RULE_TRUNCATED : 0;
    if (o->canary == SIM_CANARY_NO_BARRIER) rules = CONSENSUS_RULE_L1;
    if (rules != 0) consensus_rules_off(r->shard->consensus, rules);
#endif
    return true;
}

void replica_close(struct sim_replica *r) {
    storage_memory_set_slow(r->disk, 0);
    storage_memory_set_stuck(r->disk, 0);
    shard_close(r->shard);
    r->shard = NULL;
}

bool replica_has_failed(const struct sim_replica *r) {
    return r->shard != NULL && r->shard->failed;
}

bool replica_serves(const struct sim_replica *r) {
    return r->shard != NULL && !r->shard->failed && r->shard->phase == SHARD_SERVING;
}

struct sim_replica *group_leader(const struct sim *sim, uint32_t group) {
    struct sim_replica *leader = NULL;
    uint64_t term = 0;
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        struct sim_replica *r = sim->nodes[n].replicas[group];
        if (!sim->nodes[n].up || r == NULL || !replica_serves(r)) continue;
        uint64_t t = consensus_term(r->shard->consensus);
        if (t > term) {
            term = t;
            leader = r;
        }
    }
    return leader;
}

void replica_disk_work(struct sim_replica *r) {
    struct sim *sim = r->sim;
    if (r->full_until_ms != 0 && sim->mono_ms >= r->full_until_ms) {
        storage_memory_set_full(r->disk, false);
        r->full_until_ms = 0;
    }
    if (r->slow_until_ms != 0 && sim->mono_ms >= r->slow_until_ms) {
        storage_memory_set_slow(r->disk, 0);
        r->slow_until_ms = 0;
    }
    storage_memory_advance(r->disk, sim->mono_ms);
    const char *fault = storage_memory_fault(r->disk);
    if (fault != NULL) {
        sim_fail(sim, SIM_CORRECTNESS, "disk of shard %u on node %u: %s", r->group, r->node + 1,
                 fault);
    }
}

void replica_work(struct sim_replica *r) {
    struct sim *sim = r->sim;
    struct sim_node *node = &sim->nodes[r->node];
    int64_t next_ms = INT64_MAX;
    uint32_t rounds = 0;
    if (!r->woken && r->due_ms > sim->mono_ms) return;
    while (rounds < SIM_ROUNDS_MAX && !node_is_dead(node)) {
        r->woken = false;
        uint32_t done = shard_work(r->shard, node_unix_ms(node), sim->mono_ms, &next_ms);
        audit_replica(r);
        if (done == 0 && !r->woken) break;
        rounds++;
    }
    if (rounds == SIM_ROUNDS_MAX) {
        sim_fail(sim, SIM_LIVENESS, "shard %u on node %u has work for ever", r->group,
                 r->node + 1);
    }
    r->due_ms = next_ms > sim->mono_ms ? next_ms : sim->mono_ms + 1;
    if (!replica_has_failed(r) || node_is_dead(node)) return;
    if (!r->rotten) {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u on node %u gave up: its log or state is damaged",
                 r->group, r->node + 1);
    }
}
