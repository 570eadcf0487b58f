#include "engine/peers/node_peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/peers/consensus_codec.h"
#include "engine/peers/node_peers_private.h"
#include "engine/shard/shard.h"

/* -- out --------------------------------------------------------------------------------------- */

static bool node_peers_post(struct node_peers *p, uint32_t shard,
                            const struct consensus_message *message) {
    struct transport_message m;
    if (!transport_begin(p->messages, consensus_server_node(message->to), PEER_CONSENSUS,
                         consensus_codec_bytes_max(message), &m))
        return false;
    consensus_codec_write(&m.body, shard, message);
    return transport_send(p->messages, &m);
}

/* catch_up_options.send: on the thread of the catch-up. */
static bool node_peers_post_caught_up(void *arg, uint32_t shard,
                                      const struct consensus_message *message) {
    return node_peers_post(arg, shard, message);
}

/* The follower would take the leader for dead while what it lacks waits for its turn, or was lost
 * on its way and is not sent again yet: that takes longer than an election. */
static void node_peers_post_sign_of_life(struct node_peers *p, uint32_t shard,
                                         const struct consensus_message *message) {
    struct consensus_message sign = *message;
    sign.records_count = 0;
    node_peers_post(p, shard, &sign);
}

/* peers->send: on the shard's thread. */
static void node_peers_send_consensus(struct peers *peers, uint32_t shard, struct storage *storage,
                                      const struct consensus_message *message) {
    struct node_peers *p = (struct node_peers *)peers;
    uint32_t node = consensus_server_node(message->to);
    if (!transport_is_up(p->messages, node)) return;
    if (message->kind == CONSENSUS_INSTALL_SNAPSHOT) {
        snapshots_want(p->states, shard, message);
        return;
    }
    if (message->kind == CONSENSUS_APPEND && message->records_count > 0 && !message->records) {
        bool waits = catch_up_is_busy(p->catch_up);
        if (catch_up_offer(p->catch_up, shard, storage, message) != CATCH_UP_TAKEN) waits = true;
        if (waits) node_peers_post_sign_of_life(p, shard, message);
        return;
    }
    for (uint32_t i = 0; i < message->records_count; i++)
        pace_note(&p->pace, node, message->records[i]->header.payload_bytes);
    node_peers_post(p, shard, message);
}

/* peers->leader: on the shard's thread. */
static void node_peers_on_leader(struct peers *peers, uint32_t shard, uint64_t term,
                                 uint64_t leader, bool ready) {
    struct node_peers *p = (struct node_peers *)peers;
    if (consensus_server_node(leader) != p->options.node) snapshots_lead_lost(p->states, shard);
    if (leaders_note(p->options.leaders, p->options.node, shard, term, leader, ready))
        doorbell_ring(&p->bell);
}

bool node_peers_send_envelope(struct node_peers *p, uint32_t node,
                              const struct envelope *envelope) {
    struct transport_message m;
    if (!transport_begin(p->messages, node, PEER_COURIER, envelope_bytes_max(envelope), &m))
        return false;
    size_t used = envelope_encode(envelope, m.body.at, (size_t)(m.body.end - m.body.at));
    require(used > 0);
    m.body.at += used;
    return transport_send(p->messages, &m);
}

/* snapshots_options.send */
static bool node_peers_send_state(void *arg, uint32_t node, uint32_t kind, struct bytes frame) {
    struct node_peers *p = arg;
    struct transport_message m;
    if (!transport_begin(p->snapshots, node, kind, frame.size, &m)) return false;
    msgpack_write_raw(&m.body, frame.data, frame.size);
    return transport_send(p->snapshots, &m);
}

bool node_peers_send(struct node_peers *p, uint32_t node, uint32_t kind, struct bytes body) {
    struct transport_message m;
    require(kind >= PEER_CLUSTER_FIRST);
    if (!transport_begin(p->messages, node, kind, body.size, &m)) return false;
    msgpack_write_raw(&m.body, body.data, body.size);
    return transport_send(p->messages, &m);
}

/* -- in ---------------------------------------------------------------------------------------- */

static void node_peers_take_consensus(struct node_peers *p, struct bytes body) {
    uint32_t number;
    struct consensus_message *message = consensus_codec_read(body, &number);
    if (!message) return;
    struct shard *shard = local_shards_enter(p->options.shards, number);
    if (!shard) {
        node_peers_count(&p->unwanted);
        consensus_message_free(message);
        return;
    }
    bool taken = shard_offer_consensus(shard, message);
    local_shards_leave(p->options.shards, number);
    if (taken) return;
    node_peers_count(&p->refused);
    consensus_message_free(message);
}

/* On one of nng's threads, one call at a time. */
static void node_peers_received(void *arg, uint32_t from, uint32_t kind, struct bytes body) {
    struct node_peers *p = arg;
    const struct node_peers_options *o = &p->options;
    switch (kind) {
    case PEER_CONSENSUS: node_peers_take_consensus(p, body); break;
    case PEER_COURIER: o->courier_received(o->arg, body); break;
    case PEER_HELLO: greeting_received(p, from, body); break;
    default:
        if (kind >= PEER_CLUSTER_FIRST && o->cluster_received)
            o->cluster_received(o->arg, from, kind, body);
    }
}

static void node_peers_snapshot_received(void *arg, uint32_t from, uint32_t kind,
                                         struct bytes body) {
    struct node_peers *p = arg;
    if (kind >= PEER_SNAPSHOT_FIRST && kind <= PEER_SNAPSHOT_LAST)
        snapshots_receive(p->states, kind, body);
}

/* A connection came up: whoever is there shall hear from us at once. One that the other side ended:
 * it has gone, most likely, and leads nothing until it is heard again. */
static void node_peers_changed(void *arg, uint32_t node, bool up) {
    struct node_peers *p = arg;
    if (!up && node != p->options.node) leaders_forget_node(p->options.leaders, node);
    if (up) doorbell_ring(&p->bell);
}

/* -- life -------------------------------------------------------------------------------------- */

static struct transport *node_peers_listen(struct node_peers *p, const char *listen,
                                           uint32_t message_bytes_max, bool bulk, char *error,
                                           size_t error_bytes) {
    const struct transport_options options = {
        .listen = listen, .cluster = p->options.cluster, .node = p->options.node,
        .message_bytes_max = message_bytes_max, .queue_messages = PEER_QUEUE_MESSAGES,
        .tls = p->options.tls,
        .received = bulk ? node_peers_snapshot_received : node_peers_received,
        .changed = bulk ? NULL : node_peers_changed, .arg = p};
    return transport_open(&options, error, error_bytes);
}

static bool node_peers_listen_all(struct node_peers *p, char *error, size_t error_bytes) {
    char second[ENDPOINT_BYTES_MAX];
    p->messages = node_peers_listen(p, p->options.listen, MESSAGE_BYTES_MAX, false, error,
                                    error_bytes);
    if (!p->messages) return false;
    if (!transport_next_endpoint(transport_endpoint(p->messages), second, sizeof second, error,
                                 error_bytes))
        return false;
    p->snapshots = node_peers_listen(p, second, SNAPSHOT_MESSAGE_BYTES_MAX, true, error,
                                     error_bytes);
    if (!p->snapshots) return false;
    const struct catch_up_options catch_up = {
        .bytes_per_second = p->options.catch_up_bytes_per_second,
        .send = node_peers_post_caught_up, .arg = p};
    p->catch_up = catch_up_start(&catch_up, error, error_bytes);
    if (!p->catch_up) return false;
    const struct snapshots_options states = {
        .shards = p->options.shards, .send = node_peers_send_state, .arg = p,
        .bytes_per_second = p->options.catch_up_bytes_per_second};
    p->states = snapshots_start(&states, error, error_bytes);
    return p->states != NULL;
}

struct node_peers *node_peers_open(const struct node_peers_options *options, char *error,
                                   size_t error_bytes) {
    struct node_peers *p = calloc(1, sizeof *p);
    if (!p) {
        snprintf(error, error_bytes, "no memory for the way to other nodes");
        return NULL;
    }
    p->interface = (struct peers){node_peers_send_consensus, node_peers_on_leader};
    p->options = *options;
    snprintf(p->client_endpoint, sizeof p->client_endpoint, "%s", options->client_endpoint);
    pthread_mutex_init(&p->nodes_mutex, NULL);
    pthread_mutex_init(&p->seen_mutex, NULL);
    p->pace.bound = options->catch_up_bytes_per_second;
    greeting_init(p);
    if (node_peers_listen_all(p, error, error_bytes)) {
        int rc = greeting_start(p);
        if (rc == 0) return p;
        snprintf(error, error_bytes, "cannot start a thread: %s", strerror(rc));
    }
    node_peers_close(p, false);
    return NULL;
}

void node_peers_start(struct node_peers *p) {
    transport_start(p->messages);
    transport_start(p->snapshots);
}

struct peers *node_peers_interface(struct node_peers *p) { return &p->interface; }

static struct peer_seen *node_peers_find(struct node_peers *p, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (p->seen[i].node == node) return &p->seen[i];
    }
    return NULL;
}

/* There is a place for each node of the list and for nobody else: numbers that strangers call
 * themselves by must not fill the table. */
static void node_peers_know(struct node_peers *p) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        struct peer_seen *s = &p->seen[i];
        bool stays = s->node == 0;
        for (uint32_t k = 0; k < p->nodes_count && !stays; k++) stays = p->nodes[k] == s->node;
        if (stays) continue;
        leaders_forget_node(p->options.leaders, s->node);
        *s = (struct peer_seen){0};
    }
    for (uint32_t k = 0; k < p->nodes_count; k++) {
        if (p->nodes[k] == p->options.node || node_peers_find(p, p->nodes[k])) continue;
        struct peer_seen *unused = node_peers_find(p, 0);
        require(unused != NULL);
        *unused = (struct peer_seen){.node = p->nodes[k], .silent = true};
    }
}

bool node_peers_set_nodes(struct node_peers *p, const struct transport_peer *nodes, uint32_t count,
                          char *error, size_t error_bytes) {
    struct transport_peer bulk[NODES_MAX];
    char endpoints[NODES_MAX][ENDPOINT_BYTES_MAX];
    bool good = true;
    uint32_t bulk_count = 0;
    require(count <= NODES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i].node == p->options.node) continue;
        if (!transport_next_endpoint(nodes[i].endpoint, endpoints[i], sizeof endpoints[i], error,
                                     error_bytes)) {
            good = false;
            continue;
        }
        bulk[bulk_count++] = (struct transport_peer){nodes[i].node, endpoints[i]};
    }
    pthread_mutex_lock(&p->nodes_mutex);
    if (!transport_set_peers(p->messages, nodes, count, error, error_bytes)) good = false;
    if (!transport_set_peers(p->snapshots, bulk, bulk_count, error, error_bytes)) good = false;
    pthread_mutex_lock(&p->seen_mutex);
    p->nodes_count = count;
    for (uint32_t i = 0; i < count; i++) p->nodes[i] = nodes[i].node;
    node_peers_know(p);
    pthread_mutex_unlock(&p->seen_mutex);
    pthread_mutex_unlock(&p->nodes_mutex);
    doorbell_ring(&p->bell);
    return good;
}

void node_peers_set_document(struct node_peers *p, uint64_t version) {
    atomic_store(&p->document, version);
    doorbell_ring(&p->bell);
}

bool node_peers_await_self(struct node_peers *p, int64_t patience_ms) {
    int64_t until_ms = clock_mono_ms() + patience_ms;
    while (!atomic_load(&p->self_heard) && clock_mono_ms() < until_ms) usleep(5000);
    return atomic_load(&p->self_heard) || !transport_is_up(p->messages, p->options.node);
}

bool node_peers_add_shard(struct node_peers *p, uint32_t shard, uint64_t server,
                          struct storage *storage, const char *directory) {
    return snapshots_add(p->states, shard, server, storage, directory);
}

void node_peers_forget_shard(struct node_peers *p, uint32_t shard) {
    snapshots_remove(p->states, shard);
    catch_up_forget(p->catch_up, shard);
}

void node_peers_stop(struct node_peers *p) {
    greeting_stop(p);
    if (p->messages) transport_stop(p->messages);
    if (p->snapshots) transport_stop(p->snapshots);
    if (p->catch_up) catch_up_stop(p->catch_up);
    p->catch_up = NULL;
    if (p->states) snapshots_stop(p->states);
    p->states = NULL;
}

void node_peers_close(struct node_peers *p, bool exiting) {
    node_peers_stop(p);
    if (exiting) return;
    if (p->messages) transport_close(p->messages);
    if (p->snapshots) transport_close(p->snapshots);
    pthread_mutex_destroy(&p->nodes_mutex);
    pthread_mutex_destroy(&p->seen_mutex);
    free(p);
}

void node_peers_stats(struct node_peers *p, struct node_peers_stats *stats) {
    *stats = (struct node_peers_stats){.hellos_sent = atomic_load(&p->hellos_sent),
                                       .hellos_received = atomic_load(&p->hellos_received),
                                       .unwanted = atomic_load(&p->unwanted),
                                       .refused = atomic_load(&p->refused),
                                       .redials = atomic_load(&p->redials)};
    transport_stats(p->messages, &stats->messages);
    transport_stats(p->snapshots, &stats->snapshots);
    catch_up_stats(p->catch_up, &stats->catch_up);
    snapshots_stats(p->states, &stats->states);
}

uint32_t node_peers_seen(struct node_peers *p, struct node_peers_seen *seen, uint32_t max) {
    uint32_t count = 0;
    int64_t now_ms = clock_mono_ms();
    /* Not the nodes_mutex: this runs on nng's threads, and who holds that one may be closing a
     * socket, which ends when those threads have come back. */
    pthread_mutex_lock(&p->seen_mutex);
    for (uint32_t i = 0; i < p->nodes_count && count < max; i++) {
        if (p->nodes[i] == p->options.node) continue;
        const struct peer_seen *s = node_peers_find(p, p->nodes[i]);
        struct node_peers_seen *out = &seen[count++];
        *out = (struct node_peers_seen){.node = p->nodes[i], .silent_ms = -1,
                                        .up = transport_is_up(p->messages, p->nodes[i])};
        if (!s || s->heard_ms == 0) continue;
        out->silent_ms = now_ms - s->heard_ms;
        out->document = s->document;
        memcpy(out->endpoint, s->endpoint, sizeof out->endpoint);
        memcpy(out->version, s->version, sizeof out->version);
        out->level_min = s->level_min;
        out->level_max = s->level_max;
        out->clock_known = s->clock.known;
        out->clock_off = clock_skew_lasts(&s->clock, now_ms);
        out->clock_ahead_ms = s->clock.ahead_ms;
    }
    pthread_mutex_unlock(&p->seen_mutex);
    return count;
}
