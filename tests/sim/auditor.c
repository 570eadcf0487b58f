/* Judges replies at the moment when they leave the node. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/wire/protocol.h"
#include "tests/sim/sim.h"

/* Refusals by the machine: they say nothing about the command, and a retry may help. */
static bool auditor_is_no_answer(uint16_t code) {
    return (code >= RESULT_OVERLOADED && code <= RESULT_OUT_OF_MEMORY) ||
           code == RESULT_LEADERSHIP_LOST;
}

static void complain(struct sim *sim, const struct sim_command *m, const struct result *r,
                     const char *what) {
    sim_fail(sim, SIM_CORRECTNESS,
             "%s: command %lu (%s, order %d, store %u), answer %s version %u index %lu%s; the log "
             "has it at entry %lu as version %u",
             what, (unsigned long)m->number, command_kind_name(m->c.kind), (int)m->order, m->store,
             result_code_name(r->code), r->version, (unsigned long)r->index,
             r->flags & RESULT_FLAG_REPEATED ? " repeated" : "", (unsigned long)m->acted_index,
             m->acted_version);
}

/* A part may have been answered by a replica that was given up before the whole request was. */
static bool was_damaged(const struct sim *sim, uint32_t shard, uint32_t node) {
    const struct sim_replica *r = sim->nodes[node].replicas[shard];
    if (r != NULL && r->rotten) return true;
    for (r = sim->groups[shard].given_up; r != NULL; r = r->next) {
        if (r->node == node) return true;
    }
    return false;
}

/* -- changes ----------------------------------------------------------------------------------- */

/* A held command has two answers: that it is held, and from its resolution on, how it ended. */
static bool is_final_answer(const struct sim *sim, const struct sim_command *m,
                            const struct result *r) {
    if (m->acted_kind != EVENT_COMMAND_HELD || !(r->flags & RESULT_FLAG_REPEATED)) return false;
    if (m->resolved_index != 0) {
        return r->code == m->resolved_code && r->version == m->resolved_version;
    }
    const struct sim_order *o = &sim->orders[m->order];
    return o->held_expired && r->code == RESULT_ORDER_EXPIRED_BEFORE_PLACED &&
           r->version == o->held_expired_version;
}

static void judge_done(struct sim *sim, struct sim_command *m, const struct result *r,
                       uint32_t known_version, uint32_t node) {
    bool repeated = r->flags & RESULT_FLAG_REPEATED;
    m->unsure = false;
    if (m->acted_index == 0) {
        /* A payment result that tells nothing new is done without an event. */
        if (m->c.kind != COMMAND_PAY || !repeated) {
            complain(sim, m, r, "acknowledged and not in the log");
        }
        return;
    }
    /* Decided when it told nothing new, before another attempt of it did. */
    if (m->c.kind == COMMAND_PAY && repeated && r->version < m->acted_version) return;
    uint16_t code = m->acted_kind == EVENT_COMMAND_HELD ? RESULT_HELD : RESULT_OK;
    if (r->code != code || r->version != m->acted_version) {
        complain(sim, m, r, "not the first answer");
    }
    if (!repeated && m->told_first) complain(sim, m, r, "done twice");
    if (!repeated && r->version <= known_version) {
        complain(sim, m, r, "ordered before what was acknowledged before it was asked");
    }
    if (!repeated && r->index != m->acted_index) complain(sim, m, r, "another entry is named");
    if (repeated)
        sim->totals.repeated++;
    else
        m->told_first = true;
    m->acknowledged = true;
    m->code = r->code;
    m->version = r->version;
    sim->totals.acknowledged++;
    uint32_t *known = m->order == UINT32_MAX ? &sim->stores[m->store].acknowledged_version
                                             : &sim->orders[m->order].acknowledged_version;
    if (r->version > *known) *known = r->version;
    if (repeated || m->order == UINT32_MAX) return;
    sim->fresh_order = m->order;
    sim->fresh = true;
    if (sim->led[r->shard] == node) return;
    sim->led_before[r->shard] = sim->led[r->shard];
    sim->led[r->shard] = node;
}

/* Told by a shard that has looked for the command among those it has acted on: nothing was changed
 * by any attempt. (One that it has not seen yet may still be acted on.) */
static bool is_denial(uint16_t code) {
    return code == RESULT_DISK_FULL || code == RESULT_SHUTTING_DOWN ||
           code == RESULT_DEADLINE_PASSED || code == RESULT_OUT_OF_MEMORY;
}

/* What a node alone has decided by now and not yet stored the log will show: see audit_cause().
 * Alone in its message the refusal left in the very turn that gave it. */
static void note_denial(struct sim *sim, struct sim_request *request, struct sim_command *m,
                        const struct result *r) {
    const struct sim_replica *replica = sim->nodes[request->node].replicas[r->shard];
    struct shard_stats stats;
    if (sim_is_cluster(sim) || request->count != 1 || !is_denial(r->code)) return;
    if (replica == NULL || replica->shard == NULL || m->acted_index != 0) return;
    shard_stats(replica->shard, &stats);
    m->denied_last = stats.applied_index;
}

static void judge_refused(struct sim *sim, struct sim_command *m, const struct result *r,
                          bool acted_before, uint32_t known_version, bool rotten) {
    sim->totals.refused++;
    if (r->code == RESULT_NOT_LEADER) sim->totals.not_leader++;
    if (r->code == RESULT_LEADERSHIP_LOST || (r->code == RESULT_STORAGE_FAILED && rotten)) {
        /* It may have been decided, and may yet be committed. */
        sim->totals.leadership_lost += r->code == RESULT_LEADERSHIP_LOST;
        m->unknown++;
        m->unsure = true;
        return;
    }
    bool forgotten =
        m->order != UINT32_MAX && sim->orders[m->order].retired &&
        (r->code == RESULT_KEY_TOO_OLD || auditor_is_no_answer(r->code));
    if (r->code == RESULT_DISK_FULL && acted_before && !forgotten)
        complain(sim, m, r, "told that nothing was changed after it was done");
    if (auditor_is_no_answer(r->code)) {
        if (sim_is_cluster(sim)) m->unsure = true;
        return;
    }
    m->unsure = false;
    if (r->version != 0 && r->version < known_version && r->code != RESULT_COMMAND_ID_REUSED) {
        complain(sim, m, r, "refused by a state that is older than what was acknowledged before");
    }
    if (r->code == RESULT_STORAGE_FAILED || r->code == RESULT_WRONG_SHARD ||
        (r->code >= RESULT_MALFORMED_MESSAGE && r->code < RESULT_KEY_FROM_FUTURE)) {
        complain(sim, m, r, "no client gave cause for this");
        return;
    }
    if (acted_before && !forgotten) complain(sim, m, r, "refused after it was done");
}

/* -- reads ------------------------------------------------------------------------------------- */

static void judge_order_block(struct sim *sim, struct sim_command *m, const struct result *r) {
    const struct actor *a = r->value;
    const struct sim_order *o = &sim->orders[m->order];
    if (!order_is_well_formed(r->value, r->value_bytes) || !id128_equal(&a->key, &o->key)) {
        complain(sim, m, r, "the order read is malformed or another one");
        return;
    }
    const struct audit_step *step = audit_step_of(o, a->version);
    if (step == NULL || a->version != r->version) {
        complain(sim, m, r, "the order read reflects what is not durable");
    } else if (step->state != a->state || step->index != a->last_index) {
        complain(sim, m, r, "the order read does not match the log");
    }
}

static void judge_history(struct sim *sim, struct sim_command *m, const struct result *r,
                          uint32_t node) {
    const struct sim_order *o = &sim->orders[m->order];
    const uint8_t *at = r->value, *end = at + r->value_bytes;
    uint32_t expected = 0;
    while (at < end) {
        const struct history_item *item = (const void *)at;
        const struct event *e = (const void *)(item + 1);
        const struct audit_step *step = audit_step_of(o, e->version);
        if (step == NULL || step->index != item->index || step->kind != e->kind ||
            !id128_equal(&e->subject, &o->key) || (expected != 0 && e->version != expected)) {
            complain(sim, m, r, "the history read does not match the log");
            return;
        }
        expected = e->version + 1;
        at += sizeof *item + e->bytes;
    }
    const struct sim_replica *replica = sim->nodes[node].replicas[o->shard];
    bool dropped = replica == NULL || was_damaged(sim, o->shard, node) ||
                   storage_memory_durable_first(replica->disk) > 1;
    /* It may go on to the end of the entry that holds the version told. */
    if (expected <= r->version && !(expected == 0 && dropped)) {
        complain(sim, m, r, "the history read does not reach the version told");
    }
}

static void judge_read(struct sim *sim, struct sim_command *m, const struct result *r,
                       uint32_t known_version, uint32_t node) {
    if (auditor_is_no_answer(r->code)) return;
    if (r->code == RESULT_STORAGE_FAILED && was_damaged(sim, r->shard, node)) return;
    if (m->order == UINT32_MAX) {
        if (r->code != RESULT_OK && r->code != RESULT_STORE_NOT_FOUND) {
            complain(sim, m, r, "a store cannot be read");
        } else if (r->code == RESULT_OK && !store_is_well_formed(r->value, r->value_bytes)) {
            complain(sim, m, r, "the store read is malformed");
        } else if (r->version < known_version) {
            complain(sim, m, r, "older than what was acknowledged before");
        }
        return;
    }
    const struct sim_order *o = &sim->orders[m->order];
    if (r->code == RESULT_ORDER_NOT_FOUND) {
        if (known_version > 0 && !o->retired) complain(sim, m, r, "an acknowledged order is gone");
        return;
    }
    if (r->code != RESULT_OK) {
        complain(sim, m, r, "an order cannot be read");
        return;
    }
    if (r->version < known_version) complain(sim, m, r, "older than what was acknowledged before");
    if (m->c.kind == COMMAND_GET)
        judge_order_block(sim, m, r);
    else
        judge_history(sim, m, r, node);
}

/* -- replies ----------------------------------------------------------------------------------- */

static void judge(struct sim *sim, struct sim_request *request, uint32_t i) {
    struct sim_command *m = request->origin[i];
    const struct result *r = &request->results[i];
    uint32_t shard = sim_shard_of(sim, m), known_version = request->known_version[i];
    sim->totals.replies++;
    bool store = m->order == UINT32_MAX;
    if (store && sim_is_home(sim, &sim->stores[m->store], r->shard)) shard = r->shard;
    if (r->shard != shard) {
        complain(sim, m, r, "answered by a shard that does not own it");
        return;
    }
    if (r->index > sim->audit[shard].last) {
        complain(sim, m, r, "answered before it was committed");
        return;
    }
    if (command_is_read(m->c.kind))
        judge_read(sim, m, r, known_version, request->node);
    else if (is_final_answer(sim, m, r))
        m->unsure = false;
    else if (r->code == RESULT_OK || r->code == RESULT_HELD)
        judge_done(sim, m, r, known_version, request->node);
    else {
        note_denial(sim, request, m, r);
        judge_refused(sim, m, r, request->acted_before[i], known_version,
                      was_damaged(sim, shard, request->node));
    }
}

void auditor_reply(struct sim *sim, struct sim_request *request, bool lost) {
    const struct sim_node *node = &sim->nodes[request->node];
    for (uint32_t s = 0; s < sim->options.shards_count; s++) {
        struct sim_replica *r = node->replicas[s];
        if (r != NULL && r->shard != NULL) audit_replica(r);
    }
    for (uint32_t i = 0; i < request->count; i++) {
        struct sim_command *m = request->origin[i];
        uint16_t code = request->results[i].code;
        judge(sim, request, i);
        require(m->open > 0);
        m->open--;
        if (lost) m->unsure = true;
        if (sim_is_cluster(sim) && auditor_is_no_answer(code)) continue; /* asked again */
        if (code == RESULT_STORAGE_FAILED &&
            was_damaged(sim, sim_shard_of(sim, m), request->node)) {
            continue;
        }
        sim->probed = true;
        if (request->seen != NULL && sim->verdict == SIM_OK) request->seen(sim, request, i);
    }
}

void auditor_unknown(struct sim *sim, struct sim_request *request) {
    for (uint32_t i = 0; i < request->count; i++) {
        struct sim_command *m = request->origin[i];
        require(m->open > 0);
        m->open--;
        m->unknown++;
        m->unsure = true;
        sim->totals.unknown++;
    }
}

/* A node alone has died and serves again: every fate is decided now. What is not in the log will
 * never be, unless it is asked for again. */
void auditor_crashed(struct sim *sim) {
    for (uint64_t i = 0; i < sim->commands_count; i++) {
        sim->commands[i]->unknown = 0;
        sim->commands[i]->denied_last = 0; /* what was not stored is gone, its place used anew */
    }
}
