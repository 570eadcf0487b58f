/* The quiet end: everything asked for is answered, every message arrived, every deadline fired;
 * then the node dies once more, and what it has recovered must be what the log says, order by
 * order. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/shard/shard_internal.h"
#include "tests/sim/sim.h"

enum { END_ROUNDS_MAX = 60, END_ROUND_MS = 1000, END_PAUSE_MS = 20,
       END_ROUNDS_CLUSTER = 120, END_PROBES_MAX = 200, END_STORED_MS_MAX = 300000,
       END_TRIES = 50 };

/* For the report of a run that does not settle. */
static void group_tell(const struct sim *sim, char *text, size_t bytes) {
    size_t at = 0;
    for (uint32_t g = 0; g < sim->options.shards_count && sim_is_cluster(sim); g++) {
        for (uint32_t n = 0; n < sim->options.nodes && at < bytes; n++) {
            const struct sim_replica *r = sim->nodes[n].replicas[g];
            if (r == NULL) continue;
            const struct shard *s = r->shard;
            at += (size_t)snprintf(text + at, bytes - at, "; %u/%u %s phase %u role %u term %lu "
                                   "%lu/%lu", g, n + 1, s == NULL ? "down" : "up",
                                   s ? s->phase : 0, s ? consensus_role(s->consensus) : 0,
                                   s ? (unsigned long)consensus_term(s->consensus) : 0,
                                   s ? (unsigned long)s->applied_index : 0,
                                   s ? (unsigned long)consensus_last_index(s->consensus) : 0);
        }
    }
}

static uint32_t unsure_count(const struct sim *sim) {
    uint32_t count = 0;
    for (uint64_t i = 0; i < sim->commands_count; i++) {
        const struct sim_command *m = sim->commands[i];
        count += m->unsure && !command_is_read(m->c.kind);
    }
    return count;
}

/* Every message that was sent was seen, and its sender knows. */
static bool messages_have_arrived(struct sim *sim) {
    for (uint32_t i = 0; i < sim->options.shards_count; i++) {
        const struct sim_replica *leader = group_leader(sim, i);
        if (leader != NULL && leader->shard->outbox.messages_waiting > 0) return false;
    }
    for (uint32_t from = 0; from < sim->options.shards_count; from++) {
        for (uint32_t to = 0; to < sim->options.shards_count; to++) {
            if (sim->audit[from].sent[to].count != sim->audit[to].seen[from].count) return false;
        }
    }
    return true;
}

/* Every replica has applied what its leader has, and every group is where it shall be. */
static const char *cluster_is_unsettled(struct sim *sim) {
    if (!sim_is_cluster(sim)) return NULL;
    if (!upgrade_is_done(sim)) return "nodes are to be upgraded";
    if (!operator_is_content(sim)) return "a group is not where it shall be";
    for (uint32_t g = 0; g < sim->options.shards_count; g++) {
        const struct sim_replica *leader = group_leader(sim, g);
        if (leader == NULL) return "a group has no leader";
        uint64_t last = consensus_last_index(leader->shard->consensus);
        if (leader->shard->commit_index != last) return "the leader has uncommitted entries";
        for (uint32_t n = 0; n < sim->options.nodes; n++) {
            const struct sim_replica *r = sim->nodes[n].replicas[g];
            if (r == NULL || r->remove_ms != 0) continue;
            if (r->shard == NULL) return "a replica does not run";
            if (r->shard->applied_index != last) return "a replica lags";
        }
    }
    return NULL;
}

static const char *is_unsettled(struct sim *sim) {
    if (!sim_all_up(sim)) return "a node is down";
    if (sim->open_count > 0) return "requests are not answered";
    if (unsure_count(sim) > 0) return "outcomes are unknown";
    if (!messages_have_arrived(sim)) return "messages have not arrived";
    return cluster_is_unsettled(sim);
}

static void settle(struct sim *sim) {
    uint32_t rounds_max = END_ROUNDS_MAX + unsure_count(sim) / 100;
    if (sim_is_cluster(sim)) rounds_max += END_ROUNDS_CLUSTER;
    for (uint32_t round = 0; round < rounds_max && sim->verdict == SIM_OK; round++) {
        for (int64_t ms = 0; ms < END_ROUND_MS && sim->verdict == SIM_OK; ms += END_PAUSE_MS) {
            if (sim_all_up(sim)) workload_retry_some(sim);
            sim_run(sim, END_PAUSE_MS);
        }
        if (sim->verdict == SIM_OK && is_unsettled(sim) == NULL) return;
    }
    if (sim->verdict != SIM_OK) return;
    char groups[256] = "";
    group_tell(sim, groups, sizeof groups);
    sim_fail(sim, SIM_LIVENESS, "in calm: %s (%u requests open, %u outcomes unknown)%s",
             is_unsettled(sim), sim->open_count, unsure_count(sim), groups);
}

/* -- orders ------------------------------------------------------------------------------------ */

static void end_bad_order(struct sim *sim, const struct sim_order *o, const char *what) {
    sim_fail(sim, SIM_CORRECTNESS, "at the end, order %u (shard %u, state %s, version %u): %s",
             o->number, o->shard, order_state_name(o->state), o->version, what);
}

static uint64_t entries_count(const struct sim *sim) {
    uint64_t count = 0;
    for (uint32_t g = 0; g < sim->options.shards_count; g++) count += sim->audit[g].last;
    return count;
}

static void end_order(struct sim *sim, struct sim_request *request, uint32_t i) {
    const struct result *r = &request->results[i];
    sim->probe_again = entries_count(sim) != sim->settled;
    if (sim->probe_again) return;
    const struct sim_order *o = &sim->orders[request->origin[i]->order];
    if (r->code == RESULT_ORDER_NOT_FOUND) {
        if (o->version > 0 && !o->retired) end_bad_order(sim, o, "it is gone");
        return;
    }
    if (r->code != RESULT_OK) {
        end_bad_order(sim, o, "it cannot be read");
        return;
    }
    struct order_view view;
    order_view(r->value, &view);
    int64_t captured = 0;
    for (uint32_t k = 0; k < SIM_REFERENCES; k++) captured += o->captured[k];
    const struct actor *a = r->value;
    if (view.version != o->version) end_bad_order(sim, o, "it has another version");
    if (!o->held_expired && view.captured != captured) {
        end_bad_order(sim, o, "its captured money is not what was reported");
    }
    if (view.refunded != o->refunded) end_bad_order(sim, o, "its refunds are not those in the log");
    if (view.refund_owed != 0) end_bad_order(sim, o, "money is still owed after the deadline");
    if (o->state >= ORDER_REJECTED && view.captured != view.refunded) {
        end_bad_order(sim, o, "money without an order");
    }
    if (a->next_deadline_ms != 0 && a->next_deadline_ms <= sim->unix_ms - 1000) {
        end_bad_order(sim, o, "a deadline has not fired");
    }
    if (view.held_count != 0) end_bad_order(sim, o, "commands are still held");
}

/* -- stores ------------------------------------------------------------------------------------ */

static void end_store(struct sim *sim, struct sim_request *request, uint32_t i) {
    const struct result *r = &request->results[i];
    sim->probe_again = entries_count(sim) != sim->settled;
    if (sim->probe_again) return;
    uint32_t store = request->origin[i]->store;
    const struct sim_store *s = &sim->stores[store];
    int64_t open = 0;
    uint64_t placed = 0;
    for (uint32_t k = 0; k < sim->orders_count; k++) {
        const struct sim_order *o = &sim->orders[k];
        if (o->store != store) continue;
        open += o->state >= ORDER_PLACED && o->state <= ORDER_DELIVERED;
        placed += o->placed;
    }
    if (r->code == RESULT_STORE_NOT_FOUND) {
        if (placed > 0 || s->switches > 0) {
            sim_fail(sim, SIM_CORRECTNESS, "at the end, %s is gone", s->id);
        }
        return;
    }
    struct store_view view;
    store_view(r->value, &view);
    if (view.open_orders != open || view.placed_orders != placed || view.paused != s->paused) {
        sim_fail(sim, SIM_CORRECTNESS,
                 "at the end, %s counts %ld open of %lu placed, %s; the log says %ld of %lu, %s",
                 s->id, (long)view.open_orders, (unsigned long)view.placed_orders,
                 view.paused ? "paused" : "running", (long)open, (unsigned long)placed,
                 s->paused ? "paused" : "running");
    }
}

/* A place in each store on each shard: the news of a pause has come to all of them. */
static void end_place(struct sim *sim, struct sim_request *request, uint32_t i) {
    const struct result *r = &request->results[i];
    const struct sim_order *o = &sim->orders[request->origin[i]->order];
    bool paused = sim->stores[o->store].paused;
    if (r->code != (paused ? RESULT_STORE_PAUSED : RESULT_OK)) {
        sim_fail(sim, SIM_CORRECTNESS, "at the end, shard %u answers %u to a place in %s, %s",
                 o->shard, r->code, sim->stores[o->store].id, paused ? "paused" : "running");
    }
}

static void probe(struct sim *sim, uint8_t kind, uint32_t order, uint32_t store,
                  void (*seen)(struct sim *sim, struct sim_request *request, uint32_t i)) {
    struct sim_command *m = workload_command(sim, kind, order, store);
    sim->probed = false;
    for (uint32_t i = 0; i < END_PROBES_MAX && !sim->probed && sim->verdict == SIM_OK; i++) {
        if (m->open == 0) client_send(sim, &m, 1, seen);
        sim_run(sim, 1);
        for (uint32_t ms = 0; sim->open_count > 0 && ms < 5000 && sim->verdict == SIM_OK;
             ms += 10) {
            sim_run(sim, 10);
        }
        if (!sim->probed) sim_run(sim, 50);
    }
    if (!sim->probed && sim->verdict == SIM_OK) {
        sim_fail(sim, SIM_LIVENESS, "at the end, a probe is not answered");
    }
}

static void probe_places(struct sim *sim) {
    for (uint32_t store = 0; store < SIM_STORES; store++) {
        bool tried[SIM_SHARDS_MAX] = {false};
        uint32_t left = sim->options.shards_count;
        for (uint32_t i = 0; i < 200 && left > 0 && sim->verdict == SIM_OK; i++) {
            uint32_t order = workload_new_order(sim, store);
            if (tried[sim->orders[order].shard]) continue;
            tried[sim->orders[order].shard] = true;
            left--;
            probe(sim, COMMAND_PLACE, order, store, end_place);
        }
    }
}

static void probe_everything(struct sim *sim) {
    uint32_t orders = sim->orders_count;
    for (uint32_t i = 0, tries = 0; i < orders && sim->verdict == SIM_OK;) {
        sim->settled = entries_count(sim);
        sim->probe_again = false;
        probe(sim, COMMAND_GET, i, 0, end_order);
        if (sim->probe_again && ++tries > END_TRIES)
            sim_fail(sim, SIM_LIVENESS, "at the end, the logs do not stand still");
        if (sim->probe_again) continue; /* a deadline fired between the reading and the answer */
        if (i % 4 == 0) probe(sim, COMMAND_HISTORY, i, 0, NULL);
        tries = 0;
        i++;
    }
    /* Time goes on while orders and stores are asked for, and a deadline may fire: its news needs a
     * moment to reach the store. */
    for (uint32_t i = 0, tries = 0; i < SIM_STORES && sim->verdict == SIM_OK; tries++) {
        settle(sim);
        sim->settled = entries_count(sim);
        sim->probe_again = false;
        if (sim->verdict == SIM_OK) probe(sim, COMMAND_STORE_GET, UINT32_MAX, i, end_store);
        if (sim->probe_again && tries == END_TRIES)
            sim_fail(sim, SIM_LIVENESS, "at the end, the logs do not stand still");
        if (sim->probe_again) continue;
        tries = 0;
        i++;
    }
}

/* -- the last of the node ---------------------------------------------------------------------- */

/* One bit of the log behind the marker turns round while the node is down: its shard must find it,
 * serve nothing of it, and leave everything as it is. */
static void end_damaged(struct sim *sim) {
    uint32_t shard = (uint32_t)prng_below(&sim->prng, sim->options.shards_count);
    struct sim_replica *r = sim->nodes[0].replicas[shard];
    sim_crash_all(sim);
    uint64_t last = storage_memory_durable_last(r->disk);
    uint64_t marker = storage_memory_marker(r->disk);
    if (sim->verdict != SIM_OK || last <= marker) return;
    uint64_t index = marker + 1 + prng_below(&sim->prng, last - marker);
    storage_memory_corrupt_record(r->disk, index);
    char error[256] = "";
    char name[64];
    snprintf(name, sizeof name, "log entry %lu", (unsigned long)index);
    if (replica_open(r, error, sizeof error)) {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u serves a log that is damaged at entry %lu", shard,
                 (unsigned long)index);
        storage_memory_crash(r->disk);
        replica_close(r);
    } else if (strstr(error, name) == NULL) {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u: entry %lu is damaged, and it says: %s", shard,
                 (unsigned long)index, error);
    }
    sim->totals.damaged++;
}

/* Asked to stop, the node stores everything and says so; started again, nothing is left to replay.
 */
static void end_drained(struct sim *sim) {
    const struct sim_node *node = &sim->nodes[0];
    for (uint32_t i = 0; i < sim->options.shards_count; i++) shard_drain(node->replicas[i]->shard);
    bool drained = false;
    for (uint32_t ms = 0; ms < 20000 && !drained && sim->verdict == SIM_OK; ms += 50) {
        for (uint32_t i = 0; i < sim->options.shards_count; i++) node->replicas[i]->woken = true;
        sim_run(sim, 50);
        drained = true;
        for (uint32_t i = 0; i < sim->options.shards_count; i++) {
            drained &= shard_is_drained(node->replicas[i]->shard);
        }
    }
    if (!drained) sim_fail(sim, SIM_LIVENESS, "at the end, the node does not drain");
    for (uint32_t i = 0; i < sim->options.shards_count && sim->verdict == SIM_OK; i++) {
        uint64_t last = storage_memory_durable_last(node->replicas[i]->disk);
        if (storage_memory_marker(node->replicas[i]->disk) != last) {
            sim_fail(sim, SIM_CORRECTNESS, "shard %u is drained, but its marker is not at %lu", i,
                     (unsigned long)last);
        }
    }
}

/* All replicas have stored all they have applied, and it is the same. Deadlines of orders go on
 * making entries, and followers store some ten seconds later: it takes until both stand still. */
static void end_equal(struct sim *sim) {
    for (int64_t ms = 0; ms < END_STORED_MS_MAX && sim->verdict == SIM_OK; ms += 500) {
        bool stored = true;
        for (uint32_t n = 0; n < sim->options.nodes; n++) {
            for (uint32_t g = 0; g < sim->options.shards_count; g++) {
                const struct sim_replica *r = sim->nodes[n].replicas[g];
                if (r == NULL || r->remove_ms != 0 || r->rotten) continue;
                stored &= r->shard != NULL &&
                          storage_memory_marker(r->disk) == sim->audit[g].last;
            }
        }
        if (stored) {
            for (uint32_t g = 0; g < sim->options.shards_count; g++) audit_equal_states(sim, g);
            return;
        }
        sim_run(sim, 500);
    }
    if (sim->verdict == SIM_OK) {
        sim_fail(sim, SIM_LIVENESS, "at the end, a replica does not store what it has applied");
    }
}

void audit_end(struct sim *sim) {
    sim->options.mailbox_commands_max = 0;
    faults_calm(sim);
    operator_grow(sim);
    upgrade_begin(sim);
    settle(sim);
    operator_move_stores(sim);
    settle(sim);
    /* Payment, acceptance and held deadlines, then the refunds that they cause, one after the
     * other. */
    for (uint32_t i = 0; i < 4 && sim->verdict == SIM_OK; i++) {
        sim_jump(sim, 20 * 60000);
        sim_run(sim, 5000);
        settle(sim);
    }
    if (sim->verdict != SIM_OK) return;
    probe_places(sim);
    settle(sim);
    if (sim->verdict != SIM_OK) return;
    sim_crash_all(sim);
    settle(sim);
    /* The places of the probes are unpaid: their deadlines are far, all others have fired. */
    if (sim->verdict == SIM_OK) probe_everything(sim);
    if (sim->verdict != SIM_OK) return;
    if (sim_is_cluster(sim))
        end_equal(sim);
    else if (prng_chance(&sim->prng, 1, 2))
        end_drained(sim);
    else
        end_damaged(sim);
}
