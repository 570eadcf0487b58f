/* Clients, the part of the SDK: whom they ask, what they do when nobody answers. A batch for
 * several shards is split by the nodes that are believed to lead them, as the SDK does; the
 * request's fate is the node's until it has answered or died. */
#include <stdlib.h>

#include "tests/sim/sim.h"

static void request_forget(struct sim *sim, struct sim_request *r) {
    if (r->previous != NULL) r->previous->next = r->next;
    if (r->next != NULL) r->next->previous = r->previous;
    if (sim->open == r) sim->open = r->next;
    sim->open_count--;
    for (uint32_t i = 0; i < r->count; i++) free(r->results[i].value);
    free(r);
}

static uint32_t another_node(struct sim *sim, uint32_t node) {
    uint32_t other = (uint32_t)prng_below(&sim->prng, sim->options.nodes - 1);
    return other < node ? other : other + 1;
}

/* -- answers ----------------------------------------------------------------------------------- */

/* NOT_LEADER and LEADERSHIP_LOST name the leader where it is known. */
static void learn(struct sim *sim, const struct sim_request *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        const struct result *result = &r->results[i];
        uint32_t shard = sim_shard_of(sim, r->origin[i]);
        if (result->code != RESULT_NOT_LEADER && result->code != RESULT_LEADERSHIP_LOST) continue;
        if (sim->believed[shard] != r->node) continue;
        uint32_t hint = result->leader_node != 0 ? result->leader_node - 1
                                                 : sim->nodes[r->node].routes[shard].node;
        bool helps = hint < sim->options.nodes && hint != r->node;
        sim->believed[shard] = helps ? hint : another_node(sim, r->node);
    }
}

static void client_send_to(struct sim *sim, struct sim_command *command, uint32_t node);

/* Somebody who still knows the former leader asks for what the new one has just acknowledged. */
static void read_fresh(struct sim *sim) {
    uint32_t order = sim->fresh_order;
    sim->fresh = false;
    if (!sim_is_cluster(sim) || sim->calm || sim->commands_count + 10000 > SIM_COMMANDS_MAX) return;
    if (!sim_chance(sim, sim->options.fresh_read)) return;
    struct sim_command *m = workload_command(sim, COMMAND_GET, order, 0);
    client_send_to(sim, m, sim->led_before[sim_shard_of(sim, m)]);
}

/* A reply leaves the node: judged before anything else can become durable. */
static void request_done(struct request *request) {
    struct sim_request *r = (struct sim_request *)(void *)request;
    struct sim *sim = r->sim;
    if (node_is_dead(&sim->nodes[r->node])) {
        auditor_unknown(sim, r);
    } else {
        bool lost = !sim->calm && sim_chance(sim, sim->options.reply_loss);
        if (sim->network != NULL && network_is_cut(sim->network, r->node, SIM_CLIENT)) lost = true;
        if (lost) sim->totals.reply_losses++;
        else if (sim_is_cluster(sim)) learn(sim, r);
        auditor_reply(sim, r, lost);
        if (sim->fresh) read_fresh(sim);
    }
    request_forget(sim, r);
}

/* -- at the node ------------------------------------------------------------------------------- */

static void part_refuse(struct sim_request *r, struct request_part *part, uint32_t shard,
                        uint16_t code) {
    for (uint32_t i = 0; i < part->count; i++) {
        r->results[r->positions[shard][i]] = (struct result){.code = code, .shard = shard};
    }
    request_part_done(part);
}

void client_request_arrived(struct sim_request *r) {
    struct sim *sim = r->sim;
    struct sim_node *node = &sim->nodes[r->node];
    uint32_t parts = 0;
    r->there = true;
    r->request.commands = r->commands;
    r->request.results = r->results;
    r->request.commands_count = r->count;
    r->request.done = request_done;
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
        struct sim_replica *replica = node->replicas[s];
        if (part == NULL) continue;
        if (!node->up) part_refuse(r, part, s, RESULT_NOT_READY);
        else if (replica == NULL || replica->shard == NULL)
            part_refuse(r, part, s, RESULT_NOT_LEADER);
        else if (!shard_offer(replica->shard, part, &retry_after_ms))
            part_refuse(r, part, s, RESULT_OVERLOADED);
    }
}

void client_request_lost(struct sim_request *r) {
    struct sim *sim = r->sim;
    for (uint32_t i = 0; i < r->count; i++) {
        require(r->origin[i]->open > 0);
        r->origin[i]->open--;
        r->origin[i]->unsure = true;
        uint32_t shard = sim_shard_of(sim, r->origin[i]);
        if (sim->believed[shard] == r->node) sim->believed[shard] = another_node(sim, r->node);
    }
    request_forget(sim, r);
}

void client_node_died(struct sim_node *node) {
    struct sim *sim = node->sim;
    struct sim_request *r = sim->open, *next;
    for (; r != NULL; r = next) {
        next = r->next;
        if (r->node != node->number || !r->there) continue;
        auditor_unknown(sim, r);
        request_forget(sim, r);
    }
}

/* The client knows nothing of what became of it, and will ask again while the first attempt may
 * still be under way. */
void client_patience(struct sim *sim) {
    for (struct sim_request *r = sim->open; r != NULL; r = r->next) {
        if (r->given_up || sim->mono_ms - r->sent_ms < sim->options.patience_ms) continue;
        r->given_up = true;
        for (uint32_t i = 0; i < r->count; i++) {
            uint32_t shard = sim_shard_of(sim, r->origin[i]);
            r->origin[i]->unsure = true;
            if (sim->believed[shard] == r->node) {
                sim->believed[shard] = another_node(sim, r->node);
            }
        }
    }
}

/* -- sending ----------------------------------------------------------------------------------- */

static void request_add(struct sim *sim, struct sim_request *r, struct sim_command *m) {
    uint32_t i = r->count++;
    r->origin[i] = m;
    r->commands[i] = m->c;
    r->acted_before[i] = m->acted_index != 0;
    if (m->order != UINT32_MAX) {
        r->known_version[i] = sim->orders[m->order].acknowledged_version;
    } else {
        r->known_version[i] = sim->stores[m->store].acknowledged_version;
    }
    if (m->sent && sim->options.canary == SIM_CANARY_NEW_IDS && m->acted_index != 0) {
        r->commands[i].id.bytes[0] ^= 0x80;
    }
    m->sent = true;
    m->open++;
    sim->totals.commands++;
    if (command_is_read(m->c.kind)) sim->totals.reads++;
}

static uint32_t choose_node(struct sim *sim, uint32_t shard) {
    if (!sim_is_cluster(sim)) return 0;
    if (!sim->calm && sim_chance(sim, sim->options.astray)) {
        return (uint32_t)prng_below(&sim->prng, sim->options.nodes);
    }
    return sim->believed[shard];
}

static struct sim_request *request_new(struct sim *sim, uint32_t node) {
    struct sim_request *r = calloc(1, sizeof *r);
    require(r != NULL);
    r->sim = sim;
    r->node = node;
    r->sent_ms = sim->mono_ms;
    return r;
}

static void request_send(struct sim *sim, struct sim_request *r) {
    r->next = sim->open;
    if (sim->open != NULL) sim->open->previous = r;
    sim->open = r;
    sim->open_count++;
    if (sim_is_cluster(sim)) network_send_request(sim, r);
    else client_request_arrived(r);
}

void client_send(struct sim *sim, struct sim_command *const *commands, uint32_t count,
                 void (*seen)(struct sim *sim, struct sim_request *request, uint32_t i)) {
    struct sim_request *by_node[SIM_NODES_MAX] = {NULL};
    require(count > 0 && count <= SIM_BATCH_MAX);
    int64_t deadline_ms = 0;
    if (!sim->calm && sim_chance(sim, sim->options.deadline)) {
        deadline_ms = sim->unix_ms + prng_between(&sim->prng, 0, 20);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = choose_node(sim, sim_shard_of(sim, commands[i]));
        if (by_node[n] == NULL) {
            by_node[n] = request_new(sim, n);
            by_node[n]->seen = seen;
            by_node[n]->request.deadline_ms = deadline_ms;
        }
        request_add(sim, by_node[n], commands[i]);
    }
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        if (by_node[n] != NULL) request_send(sim, by_node[n]);
    }
}

static void client_send_to(struct sim *sim, struct sim_command *command, uint32_t node) {
    struct sim_request *r = request_new(sim, node);
    request_add(sim, r, command);
    request_send(sim, r);
}
