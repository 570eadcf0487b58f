/* What travels: messages of consensus, messages between shards, who leads what, requests of
 * clients, pieces of snapshots. */
#include <stddef.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

enum { LOAD_CONSENSUS = 1, LOAD_COURIER, LOAD_HELLO, LOAD_REQUEST, LOAD_PIECE };
enum { HELLO_MS = 200, READ_RECORDS_MAX = 64 };

struct consensus_load {
    struct network_load load;
    uint32_t group;
    struct consensus_message *message; /* records of its own */
};

struct courier_load {
    struct network_load load;
    uint32_t from, to, bytes;
    uint64_t sequence;
    bool acknowledgement;
    uint8_t payload[];
};

struct hello_load {
    struct network_load load;
    struct sim_route routes[SIM_SHARDS_MAX]; /* node: only what the sender leads */
};

struct request_load {
    struct network_load load;
    struct sim_request *request;
    bool arrived;
};

struct piece_load {
    struct network_load load;
    struct sim *sim;
    uint64_t transfer;
    uint32_t piece;
    bool arrived;
};

static void *load_new(size_t bytes, uint32_t kind, void (*drop)(struct network_load *load)) {
    struct network_load *load = calloc(1, bytes);
    require(load != NULL);
    load->kind = kind;
    load->drop = drop;
    return load;
}

static void load_free(struct network_load *load) { free(load); }

/* -- consensus --------------------------------------------------------------------------------- */

static struct sim_node *node_of_peers(struct peers *peers) {
    return (struct sim_node *)(void *)((char *)peers - offsetof(struct sim_node, peers));
}

static struct record *record_copy(const struct record_header *h, const void *payload) {
    struct record *r = record_new(h->payload_bytes);
    require(r != NULL);
    r->header = *h;
    memcpy(r->payload, payload, h->payload_bytes);
    return r;
}

/* As it would be decoded at the other end: every record is new. */
static struct consensus_message *message_copy(const struct consensus_message *m) {
    struct consensus_message fields = *m;
    fields.records = NULL;
    struct consensus_message *copy = consensus_message_new(&fields, m->records_count);
    require(copy != NULL);
    struct record **records = (struct record **)(uintptr_t)copy->records;
    for (uint32_t i = 0; i < m->records_count; i++) {
        records[i] = record_copy(&m->records[i]->header, m->records[i]->payload);
    }
    return copy;
}

struct reading {
    struct record *records[READ_RECORDS_MAX];
    uint32_t count;
};

static bool read_one(void *arg, const struct record_header *h, const void *payload) {
    struct reading *r = arg;
    r->records[r->count++] = record_copy(h, payload);
    return r->count < READ_RECORDS_MAX;
}

/* The records are no longer in memory: the log has them, or had them. */
static struct consensus_message *message_from_log(struct sim *sim, struct storage *storage,
                                                  const struct consensus_message *m) {
    struct reading reading = {.count = 0};
    char error[256];
    uint64_t first = m->previous_index + 1;
    uint32_t count = (uint32_t)prng_between(&sim->prng, 1, READ_RECORDS_MAX);
    if (count > m->records_count) count = m->records_count;
    if (storage->ops->read(storage, first, first + count - 1, read_one, &reading, error,
                           sizeof error) == -1) {
        for (uint32_t i = 0; i < reading.count; i++) record_release(reading.records[i]);
        return NULL;
    }
    struct consensus_message fields = *m;
    fields.records = reading.records;
    fields.records_count = reading.count;
    struct consensus_message *copy = consensus_message_new(&fields, reading.count);
    require(copy != NULL);
    for (uint32_t i = 0; i < reading.count; i++) record_release(reading.records[i]);
    return copy;
}

static void consensus_load_drop(struct network_load *load) {
    consensus_message_free(((struct consensus_load *)(void *)load)->message);
    free(load);
}

static void peers_send(struct peers *peers, uint32_t group, struct storage *storage,
                       const struct consensus_message *message) {
    struct sim_node *node = node_of_peers(peers);
    struct sim *sim = node->sim;
    if (node_is_dead(node)) return; /* sent by a process that was dead already */
    if (message->kind == CONSENSUS_INSTALL_SNAPSHOT) {
        transfer_ask(node, group, message);
        return;
    }
    uint32_t to = consensus_server_node(message->to) - 1;
    require(to < sim->options.nodes);
    bool in_log = message->records == NULL && message->records_count > 0;
    struct consensus_message *copy =
        in_log ? message_from_log(sim, storage, message) : message_copy(message);
    if (copy == NULL) return;
    struct consensus_load *load = load_new(sizeof *load, LOAD_CONSENSUS, consensus_load_drop);
    load->group = group;
    load->message = copy;
    network_send(sim->network, node->number, to, &load->load, false);
}

static void consensus_arrived(struct sim_node *node, const struct consensus_load *load) {
    struct sim_replica *r = node->replicas[load->group];
    if (!node->up || r == NULL || r->shard == NULL || r->server_id != load->message->to) return;
    struct consensus_message *copy = message_copy(load->message);
    if (!shard_offer_consensus(r->shard, copy)) consensus_message_free(copy);
}

/* -- who leads what ---------------------------------------------------------------------------- */

static void hello_send(struct sim_node *node, uint32_t to) {
    struct hello_load *load = load_new(sizeof *load, LOAD_HELLO, load_free);
    memcpy(load->routes, node->routes, sizeof load->routes);
    network_send(node->sim->network, node->number, to, &load->load, false);
}

static void hello_all(struct sim_node *node) {
    for (uint32_t n = 0; n < node->sim->options.nodes; n++) {
        if (n != node->number) hello_send(node, n);
    }
    node->hello_ms = node->sim->mono_ms + HELLO_MS;
}

static void peers_leader(struct peers *peers, uint32_t group, uint64_t term, uint64_t leader,
                         bool ready) {
    struct sim_node *node = node_of_peers(peers);
    struct sim_route *route = &node->routes[group];
    if (node_is_dead(node) || term < route->term) return;
    *route = (struct sim_route){
        term, leader ? consensus_server_node(leader) - 1 : SIM_NODES_MAX, ready};
    if (route->node == node->number) hello_all(node);
}

static void hello_arrived(struct sim_node *node, uint32_t from, const struct hello_load *load) {
    for (uint32_t g = 0; g < node->sim->options.shards_count; g++) {
        if (load->routes[g].node == from && load->routes[g].term >= node->routes[g].term) {
            node->routes[g] = load->routes[g];
        }
    }
}

void network_hellos(struct sim *sim) {
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        struct sim_node *node = &sim->nodes[n];
        if (node->up && !node_is_frozen(node) && sim->mono_ms >= node->hello_ms) hello_all(node);
    }
}

int64_t network_hellos_next_ms(const struct sim *sim) {
    int64_t next = INT64_MAX;
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        const struct sim_node *node = &sim->nodes[n];
        if (node->up && !node_is_frozen(node) && node->hello_ms < next) next = node->hello_ms;
    }
    return next;
}

/* -- between shards ---------------------------------------------------------------------------- */

static void courier_offer(struct sim_node *node, uint32_t from, uint32_t to, uint64_t sequence,
                          bool acknowledgement, struct bytes payload) {
    struct sim_replica *r = node->replicas[to];
    if (!node->up || r == NULL || r->shard == NULL) return;
    if (acknowledgement) shard_offer_acknowledgement(r->shard, from, sequence);
    else shard_offer_message(r->shard, from, sequence, payload);
}

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

static void courier_remote(struct sim_node *node, uint32_t to_node, const struct sim_flight *flight,
                           struct bytes payload) {
    struct courier_load *load = load_new(sizeof *load + payload.size, LOAD_COURIER, load_free);
    load->from = flight->from;
    load->to = flight->to;
    load->sequence = flight->sequence;
    load->acknowledgement = flight->acknowledgement;
    load->bytes = payload.size;
    if (payload.size > 0) memcpy(load->payload, payload.data, payload.size);
    network_send(node->sim->network, node->number, to_node, &load->load, false);
}

static void courier_carry(struct sim_node *node, struct sim_flight flight, struct bytes payload) {
    struct sim *sim = node->sim;
    uint32_t copies = 1, to_node = node->number;
    if (node_is_dead(node)) return; /* sent by a process that was dead already */
    sim->totals.messages++;
    if (!sim->calm && sim_chance(sim, sim->options.message_double)) {
        copies = 2;
        sim->totals.messages_doubled++;
    }
    if (!sim->calm && sim_chance(sim, sim->options.message_loss)) {
        copies = 0;
        sim->totals.messages_lost++;
    }
    if (sim_is_cluster(sim)) to_node = node->routes[flight.to].node;
    if (to_node == SIM_NODES_MAX) return; /* nobody leads it, as far as this node knows */
    flight.node = node->number;
    for (; copies > 0; copies--) {
        int64_t delay = 0;
        if (!sim->calm && sim_chance(sim, sim->options.message_delay)) {
            delay = prng_between(&sim->prng, 0, sim->options.message_delay_ms_max);
        }
        flight.due_ms = sim->mono_ms + delay;
        if (to_node == node->number) flight_add(sim, flight, payload);
        else courier_remote(node, to_node, &flight, payload);
    }
    /* The planted fault: a receiver that does not know what it has seen. */
    if (sim->options.canary == SIM_CANARY_MESSAGE_TWICE && !flight.acknowledgement &&
        !sim->doubled_one && flight.sequence > 2 && to_node == node->number) {
        sim->doubled_one = true;
        flight.sequence++;
        flight_add(sim, flight, payload);
    }
}

static void courier_send(struct courier *courier, uint32_t from, uint32_t to, uint64_t sequence,
                         struct bytes payload) {
    courier_carry((struct sim_node *)(void *)courier,
                  (struct sim_flight){.from = from, .to = to, .sequence = sequence}, payload);
}

static void courier_acknowledge(struct courier *courier, uint32_t from, uint32_t to,
                                uint64_t sequence) {
    courier_carry((struct sim_node *)(void *)courier,
                  (struct sim_flight){
                      .from = from, .to = to, .sequence = sequence, .acknowledgement = true},
                  (struct bytes){0});
}

/* In the order of sending, but for what is delayed. */
void courier_deliver(struct sim *sim) {
    uint32_t kept = 0, count = sim->flights_count;
    for (uint32_t i = 0; i < count; i++) {
        struct sim_flight f = sim->flights[i];
        if (f.due_ms > sim->mono_ms || node_is_frozen(&sim->nodes[f.node])) {
            sim->flights[kept++] = f;
            continue;
        }
        courier_offer(&sim->nodes[f.node], f.from, f.to, f.sequence, f.acknowledgement,
                      bytes_of(f.payload, f.bytes));
        free(f.payload);
    }
    sim->flights_count = kept;
}

int64_t courier_next_ms(const struct sim *sim) {
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < sim->flights_count; i++) {
        if (node_is_frozen(&sim->nodes[sim->flights[i].node])) continue;
        if (sim->flights[i].due_ms < next) next = sim->flights[i].due_ms;
    }
    return next;
}

void courier_drop(struct sim *sim, uint32_t node) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sim->flights_count; i++) {
        if (sim->flights[i].node == node) free(sim->flights[i].payload);
        else sim->flights[kept++] = sim->flights[i];
    }
    sim->flights_count = kept;
}

/* -- requests and pieces ----------------------------------------------------------------------- */

static void request_load_drop(struct network_load *load) {
    struct request_load *l = (struct request_load *)(void *)load;
    if (!l->arrived) client_request_lost(l->request);
    free(load);
}

void network_send_request(struct sim *sim, struct sim_request *request) {
    struct request_load *load = load_new(sizeof *load, LOAD_REQUEST, request_load_drop);
    load->request = request;
    network_send(sim->network, SIM_CLIENT, request->node, &load->load, true);
}

static void piece_load_drop(struct network_load *load) {
    struct piece_load *l = (struct piece_load *)(void *)load;
    if (!l->arrived) transfer_piece_lost(l->sim, l->transfer);
    free(load);
}

void network_send_piece(struct sim *sim, const struct sim_transfer *transfer) {
    struct piece_load *load = load_new(sizeof *load, LOAD_PIECE, piece_load_drop);
    load->sim = sim;
    load->transfer = transfer->number;
    load->piece = transfer->arrived;
    network_send(sim->network, transfer->from, transfer->to, &load->load, true);
}

/* -- arriving ---------------------------------------------------------------------------------- */

static void arrived(void *arg, uint32_t from, uint32_t to, const struct network_load *load) {
    struct sim *sim = arg;
    struct sim_node *node = &sim->nodes[to];
    if (!node->up) return;
    switch (load->kind) {
    case LOAD_CONSENSUS: consensus_arrived(node, (const void *)load); break;
    case LOAD_COURIER: {
        const struct courier_load *l = (const void *)load;
        courier_offer(node, l->from, l->to, l->sequence, l->acknowledgement,
                      bytes_of(l->payload, l->bytes));
        break;
    }
    case LOAD_HELLO: hello_arrived(node, from, (const void *)load); break;
    case LOAD_REQUEST: {
        struct request_load *l = (struct request_load *)(uintptr_t)load;
        l->arrived = true;
        client_request_arrived(l->request);
        break;
    }
    case LOAD_PIECE: {
        struct piece_load *l = (struct piece_load *)(uintptr_t)load;
        l->arrived = true;
        transfer_arrived(sim, l->transfer, l->piece);
        break;
    }
    default: impossible("an unknown load");
    }
}

void network_init(struct sim *sim) {
    const struct sim_options *o = &sim->options;
    struct network_options options = {.seed = prng_next(&sim->prng),
                                      .loss = o->net_loss,
                                      .doubled = o->net_double,
                                      .late = o->net_late,
                                      .latency_ms_max = o->net_latency_ms_max,
                                      .late_ms_max = o->net_late_ms_max};
    sim->network = network_new(&options, arrived, sim);
}

void network_node_init(struct sim_node *node) {
    node->courier = (struct courier){courier_send, courier_acknowledge};
    node->peers = (struct peers){.send = peers_send, .leader = peers_leader};
    for (uint32_t g = 0; g < SIM_SHARDS_MAX; g++) {
        node->routes[g] = (struct sim_route){.node = SIM_NODES_MAX};
    }
    node->hello_ms = node->sim->mono_ms;
}
