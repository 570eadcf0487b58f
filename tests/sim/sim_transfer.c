/* Snapshots on their way: the state of the leader's disk, exported to a file of the world, carried
 * in numbered pieces, begun again where it broke off, checked at the other end. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

enum { PIECES_MAX = 6, RESEND_MS = 300, EXPORT_MS_MAX = 100, AGAIN_MS_MAX = 8000 };

static struct sim_transfer **transfer_find(struct sim *sim, uint64_t number) {
    struct sim_transfer **link = &sim->transfers;
    while (*link != NULL && (*link)->number != number) link = &(*link)->next;
    return link;
}

static void transfer_end(struct sim *sim, struct sim_transfer *t) {
    struct sim_transfer **link = transfer_find(sim, t->number);
    require(*link == t);
    *link = t->next;
    storage_memory_files_remove(sim->files, t->path);
    free(t);
}

/* The leader repeats this while it is needed: one transfer at a time for each server. */
void transfer_ask(struct sim_node *node, uint32_t group, const struct consensus_message *message) {
    struct sim *sim = node->sim;
    for (struct sim_transfer *t = sim->transfers; t != NULL; t = t->next) {
        if (t->group == group && t->from == node->number && t->to_server == message->to &&
            !t->again) {
            if (t->leader_term < message->term) t->leader_term = message->term;
            return;
        }
    }
    struct sim_transfer *t = calloc(1, sizeof *t);
    require(t != NULL);
    *t = (struct sim_transfer){.next = sim->transfers,
                               .group = group,
                               .from = node->number,
                               .to = consensus_server_node(message->to) - 1,
                               .from_server = message->from,
                               .to_server = message->to,
                               .leader_term = message->term,
                               .pieces = 1 + (uint32_t)prng_below(&sim->prng, PIECES_MAX),
                               .due_ms = sim->mono_ms + 1 +
                                         prng_between(&sim->prng, 0, EXPORT_MS_MAX),
                               .number = ++sim->transfers_count};
    sim->transfers = t;
}

/* Whole: checked and handed over. Whatever comes of it, the leader asks again if it has to. */
static void transfer_complete(struct sim *sim, struct sim_transfer *t) {
    struct sim_node *node = &sim->nodes[t->to];
    struct sim_replica *r = node->replicas[t->group];
    struct shard_snapshot snapshot = {.from = t->from_server, .leader_term = t->leader_term};
    char error[256];
    if (r == NULL || r->shard == NULL || r->server_id != t->to_server) return;
    snprintf(snapshot.path, sizeof snapshot.path, "simulated/%lu-arrived",
             (unsigned long)t->number);
    require(storage_memory_files_copy(sim->files, t->path, snapshot.path));
    struct storage *storage = r->storage;
    if (!sim->calm && prng_chance(&sim->prng, 1, 20)) {
        storage_memory_files_corrupt(sim->files, snapshot.path);
        if (storage->ops->check_state(storage, snapshot.path, &snapshot.meta, error,
                                      sizeof error) == 0) {
            sim_fail(sim, SIM_CORRECTNESS, "shard %u on node %u takes a damaged snapshot", r->group,
                     r->node + 1);
        }
        return;
    }
    if (storage->ops->check_state(storage, snapshot.path, &snapshot.meta, error, sizeof error) !=
        0) {
        return;
    }
    sim->totals.snapshots++;
    shard_offer_snapshot(r->shard, &snapshot);
}

void transfer_arrived(struct sim *sim, uint64_t number, uint32_t piece) {
    struct sim_transfer *t = *transfer_find(sim, number);
    if (t == NULL) return;
    t->in_flight = false;
    t->due_ms = sim->mono_ms + 1;
    if (piece != t->arrived) return;
    t->arrived++;
    if (t->arrived < t->pieces) return;
    transfer_complete(sim, t);
    if (!sim->calm && prng_chance(&sim->prng, 1, 10)) { /* once more, when it is old */
        t->again = true;
        t->due_ms = sim->mono_ms + prng_between(&sim->prng, 1, AGAIN_MS_MAX);
        return;
    }
    transfer_end(sim, t);
}

void transfer_piece_lost(struct sim *sim, uint64_t number) {
    struct sim_transfer *t = *transfer_find(sim, number);
    if (t == NULL) return;
    t->in_flight = false;
    t->due_ms = sim->mono_ms + RESEND_MS;
}

static bool transfer_export(struct sim *sim, struct sim_transfer *t) {
    struct sim_replica *r = sim->nodes[t->from].replicas[t->group];
    struct storage_meta *meta = calloc(1, sizeof *meta);
    char error[256];
    require(meta != NULL);
    snprintf(t->path, sizeof t->path, "simulated/%lu", (unsigned long)t->number);
    int rv = -1;
    if (r != NULL && r->shard != NULL && r->server_id == t->from_server) {
        struct storage *storage = r->storage;
        rv = storage->ops->export_state(storage, t->path, NULL, meta, error, sizeof error);
    }
    free(meta);
    return rv == 0;
}

void transfers_work(struct sim *sim) {
    struct sim_transfer *t = sim->transfers, *next;
    for (; t != NULL; t = next) {
        next = t->next;
        struct sim_node *from = &sim->nodes[t->from];
        if (t->in_flight || t->due_ms > sim->mono_ms || node_is_frozen(from)) continue;
        if (t->again) {
            if (sim->nodes[t->to].up) transfer_complete(sim, t);
            transfer_end(sim, t);
            continue;
        }
        /* The pieces that came lie at the receiver; a new leader begins anew. */
        bool gone = sim->nodes[t->to].replicas[t->group] == NULL ||
                    sim->nodes[t->to].replicas[t->group]->server_id != t->to_server;
        if (gone || (t->path[0] == 0 && !transfer_export(sim, t))) {
            transfer_end(sim, t);
            continue;
        }
        t->in_flight = true;
        network_send_piece(sim, t);
    }
}

void transfers_drop(struct sim *sim, uint32_t node) {
    struct sim_transfer *t = sim->transfers, *next;
    for (; t != NULL; t = next) {
        next = t->next;
        if (node == SIM_NODES_MAX || t->from == node) transfer_end(sim, t);
    }
}

int64_t transfers_next_ms(const struct sim *sim) {
    int64_t next = INT64_MAX;
    for (const struct sim_transfer *t = sim->transfers; t != NULL; t = t->next) {
        if (t->in_flight || node_is_frozen(&sim->nodes[t->from])) continue;
        if (t->due_ms < next) next = t->due_ms;
    }
    return next;
}
