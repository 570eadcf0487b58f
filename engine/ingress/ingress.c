#include "engine/ingress/ingress.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/egress/reply_message.h"
#include "engine/ingress/exchange.h"
#include "engine/ingress/forwarding.h"
#include "engine/router/map_place.h"
#include "engine/wire/protocol.h"
#include "engine/wire/reply_patience.h"
#include "engine/wire/tls.h"

enum {
    INGRESS_OVERLOADED_RETRY_MS = 50,
    INGRESS_NOT_LEADER_RETRY_MS = 20, /* a new leader is there within some hundred ms */
    INGRESS_WINDOWS = 2
};

struct ingress_endpoint {
    struct ingress *ingress;
    uint32_t expected_shard;         /* SPLIT_NO_SHARD for the general one */
    nng_socket socket;               /* id 0 = not open */
    struct ingress_context *contexts;
    atomic_uint in_flight;
};

/* Carries one message at a time. Between two aio callbacks it belongs to its exchange. */
struct ingress_context {
    struct ingress_endpoint *endpoint;
    nng_ctx ctx;
    nng_aio *aio;
    bool sending;                    /* what the aio is doing */
    nng_pipe pipe;                   /* the client's connection */
    int64_t until_ns;                /* a reply that is given up before then has not waited */
};

struct ingress {
    struct ingress_options options;
    struct map_place map;
    struct forwarder *forwarder;     /* NULL = a node alone */
    atomic_bool draining, halted;
    struct exchange_pool pool;
    struct egress *egress;
    struct histogram latency, windows[INGRESS_WINDOWS];
    atomic_uint window;
    _Alignas(64) atomic_ullong received;
    atomic_ullong replied, refused, overloaded, commands, node_commands, stray_commands;
    atomic_ullong replies_dropped, bytes_in, bytes_out, opened, closed, not_led;
    atomic_ullong malformed[INGRESS_CODES];
    pthread_mutex_t endpoints_mutex; /* who opens and starts them */
    bool started;
    uint32_t endpoints_started;
    atomic_uint endpoints_count;
    struct reply_patience patience;  /* connections of all endpoints have numbers of their own */
    struct ingress_endpoint endpoints[SHARDS_MAX + 1];
};

static void ingress_add(atomic_ullong *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t ingress_get(const atomic_ullong *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void ingress_count_malformed(struct ingress *g, uint32_t code) {
    if (code < INGRESS_CODES) ingress_add(&g->malformed[code], 1);
}

/* -- out ------------------------------------------------------------------------------------- */

/* Hands the reply to nng, which calls ingress_on_aio when it has taken it. */
static void ingress_reply(struct ingress_context *c, nng_msg *reply) {
    struct ingress *g = c->endpoint->ingress;
    if (!reply) { /* no memory for it: the client asks again when its patience ends */
        ingress_add(&g->replies_dropped, 1);
        atomic_fetch_sub(&c->endpoint->in_flight, 1);
        nng_ctx_recv(c->ctx, c->aio);
        return;
    }
    ingress_add(&g->bytes_out, nng_msg_len(reply));
    c->sending = true;
    nng_aio_set_timeout(c->aio,
                        reply_patience_wait(&g->patience, c->pipe.id, &c->until_ns));
    nng_aio_set_msg(c->aio, reply);
    nng_ctx_send(c->ctx, c->aio);
}

static void ingress_record_latency(struct ingress *g, int64_t received_ns) {
    int64_t took_ns = clock_mono_ns() - received_ns;
    histogram_record(&g->latency, took_ns);
    histogram_record(&g->windows[atomic_load_explicit(&g->window, memory_order_relaxed)], took_ns);
}

/* request->done: every result is there. On the thread that finished the last part. */
static void ingress_done(struct request *request) {
    struct exchange *e = (struct exchange *)request;
    struct ingress_context *c = e->context;
    egress_offer(c->endpoint->ingress->egress, &e->reply);
}

/* reply_hints.leader */
static bool ingress_leader_of(void *arg, uint32_t shard, uint32_t node, char *endpoint) {
    struct ingress *g = arg;
    unsigned side;
    const struct shard_map *map = map_place_enter(&g->map, &side);
    if (node == 0 && g->options.leaders) node = leaders_route(g->options.leaders, shard).node;
    bool known = shard_map_endpoint_at(map, node, shard, endpoint);
    map_place_leave(&g->map, side);
    return known;
}

/* On the thread of the egress. */
static void ingress_send(struct egress_item *item) {
    struct exchange *e =
        (struct exchange *)(void *)((char *)item - offsetof(struct exchange, reply));
    struct ingress_context *c = e->context;
    struct ingress *g = c->endpoint->ingress;
    const struct reply_hints hints = {ingress_leader_of, g};
    nng_msg *reply = reply_message(&e->request, &hints);
    ingress_record_latency(g, e->request.received_ns);
    exchange_give(&g->pool, e);
    ingress_reply(c, reply);
}

/* -- in -------------------------------------------------------------------------------------- */

static struct exchange_value ingress_node_value(struct ingress *g, uint32_t kind) {
    static const uint8_t pong[] = {0xa4, 'p', 'o', 'n', 'g'};
    struct exchange_value value = {NULL, 0};
    unsigned side;
    switch (kind) {
    case NODE_COMMAND_PING:
        value = (struct exchange_value){malloc(sizeof pong), sizeof pong};
        if (value.data) memcpy(value.data, pong, sizeof pong);
        break;
    case NODE_COMMAND_SHARD_MAP:
        value.data = shard_map_encode(map_place_enter(&g->map, &side), g->options.leaders,
                                      &value.bytes);
        map_place_leave(&g->map, side);
        break;
    case NODE_COMMAND_STATUS:
        value.data = g->options.status(g->options.status_arg, &value.bytes);
        break;
    case NODE_COMMAND_CLUSTER_DOCUMENT:
        value.data = g->options.document(g->options.status_arg, &value.bytes);
        break;
    default: impossible("the decoder lets no other node command through");
    }
    return value;
}

/* One look at the node serves all commands of a message that ask for the same: a thousand looks
 * would keep a thread of the transport for a tenth of a second, and every connection waits for
 * those threads; a thousand copies of the map would take hundreds of megabytes. */
static void ingress_answer_node_command(struct ingress *g, struct exchange *e, uint32_t kind,
                                        struct result *r) {
    struct exchange_value *value = &e->node_values[kind - NODE_COMMAND_PING];
    if (kind == NODE_COMMAND_CLUSTER_DOCUMENT && !g->options.document) {
        r->code = RESULT_CLUSTER_NOT_FORMED;
        return;
    }
    if (!value->data) *value = ingress_node_value(g, kind);
    if (value->data) {
        r->value_kind = RESULT_VALUE_MSGPACK;
        r->value = value->data;
        r->value_bytes = value->bytes;
    } else {
        r->code = RESULT_OUT_OF_MEMORY;
        r->retry_after_ms = INGRESS_OVERLOADED_RETRY_MS;
    }
}

/* Fills the results of all commands that no shard shall see. */
static void ingress_answer_local(struct ingress *g, struct exchange *e) {
    for (uint32_t i = 0; i < e->request.commands_count; i++) {
        const struct command *command = &e->request.commands[i];
        struct result *r = &e->request.results[i];
        if (command->malformed) {
            r->code = command->malformed;
            ingress_count_malformed(g, command->malformed);
        } else if (split_is_local(command)) {
            ingress_answer_node_command(g, e, command->kind, r);
            ingress_add(&g->node_commands, 1);
        }
    }
}

/* Answers the commands of a part that no shard takes. */
static void ingress_refuse_part(struct exchange *e, const struct request_part *part, uint16_t code,
                                uint32_t shard, uint32_t retry_after_ms) {
    for (uint32_t i = 0; i < part->count; i++) {
        e->request.results[request_part_position(part, i)] = (struct result){
            .code = code, .shard = shard, .retry_after_ms = retry_after_ms};
    }
}

/* Whether nobody leads the shard because it is retired: no order of it is alive, none can be
 * placed. */
static bool ingress_is_retired(struct ingress *g, uint32_t shard) {
    unsigned side;
    bool retired = shard_map_is_retired(map_place_enter(&g->map, &side), shard);
    map_place_leave(&g->map, side);
    return retired && leaders_route(g->options.leaders, shard).node == 0;
}

static void ingress_refuse_retired(struct exchange *e, const struct request_part *part,
                                   uint32_t shard) {
    for (uint32_t i = 0; i < part->count; i++) {
        uint32_t at = request_part_position(part, i);
        bool places = e->request.commands[at].kind == COMMAND_PLACE;
        e->request.results[at] = (struct result){
            .code = places ? RESULT_KEY_TOO_OLD : RESULT_ORDER_NOT_FOUND, .shard = shard};
    }
}

/* Why no part of this message may go to a shard now; RESULT_OK if they may. */
static enum result_code ingress_admit(struct ingress *g, const struct ingress_endpoint *endpoint) {
    /* In a cluster what others lead goes on to them until the end, see ingress_pass_on(). */
    if (!g->options.leaders && atomic_load_explicit(&g->draining, memory_order_relaxed))
        return RESULT_SHUTTING_DOWN;
    uint32_t in_flight = atomic_load_explicit(&endpoint->in_flight, memory_order_relaxed);
    if (in_flight > g->options.contexts - INGRESS_CONTEXTS_SPARE) return RESULT_OVERLOADED;
    return RESULT_OK;
}

/* Offers a part to its shard here. RESULT_OK = taken. */
static enum result_code ingress_offer(struct ingress *g, uint32_t number,
                                      struct request_part *part, uint32_t *retry_after_ms) {
    struct shard *shard = local_shards_enter(g->options.shards, number);
    if (!shard && number == SHARD_META && !g->options.leaders) return RESULT_CLUSTER_NOT_FORMED;
    if (!shard) return RESULT_NOT_LEADER;
    bool taken = shard_offer(shard, part, retry_after_ms);
    local_shards_leave(g->options.shards, number);
    return taken ? RESULT_OK : RESULT_OVERLOADED;
}

/* Gives a part to its shard, here or at the node that leads it. RESULT_OK = it will be answered. */
static enum result_code ingress_pass_on(struct ingress *g, struct exchange *e, uint32_t part,
                                        bool general, uint32_t *retry_after_ms) {
    uint32_t shard = e->split.part_shards[part], node = g->options.node;
    if (g->options.leaders) node = leaders_route(g->options.leaders, shard).node;
    /* Where no leader is known, a replica that is here knows best: it may be about to lead. */
    bool draining = atomic_load_explicit(&g->draining, memory_order_relaxed);
    if (draining && (node == g->options.node || node == 0)) return RESULT_SHUTTING_DOWN;
    if (node == g->options.node || node == 0)
        return ingress_offer(g, shard, &e->split.parts[part], retry_after_ms);
    if (!general || e->forwarded || !g->forwarder) return RESULT_NOT_LEADER;
    return forwarding_send(g->forwarder, e, part, node) ? RESULT_OK : RESULT_NOT_LEADER;
}

/* `expected`: the shard whose endpoint it came to; SPLIT_NO_SHARD = the general one. */
static void ingress_offer_parts(struct ingress *g, struct exchange *e, uint32_t expected,
                                enum result_code refusal) {
    uint32_t refused = 0;
    for (uint32_t i = 0; i < e->split.parts_count; i++) {
        struct request_part *part = &e->split.parts[i];
        uint32_t count = part->count; /* once it is given away it may be gone */
        uint32_t shard = e->split.part_shards[i], retry_after_ms = INGRESS_OVERLOADED_RETRY_MS;
        /* A client whose map is older than ours comes to the wrong shard's endpoint: what it was
         * told there of another shard's leader would lead its other commands astray. */
        bool passes = shard != expected; /* none is of the general endpoint's number */
        enum result_code code =
            refusal != RESULT_OK ? refusal : ingress_pass_on(g, e, i, passes, &retry_after_ms);
        if (code == RESULT_OK) continue;
        refused++;
        if (code == RESULT_NOT_LEADER && g->options.leaders && ingress_is_retired(g, shard)) {
            ingress_refuse_retired(e, part, shard);
            continue;
        }
        if (code == RESULT_NOT_LEADER) {
            ingress_add(&g->not_led, count);
            retry_after_ms = INGRESS_NOT_LEADER_RETRY_MS;
        }
        ingress_refuse_part(e, part, code, shard, retry_after_ms);
    }
    atomic_fetch_sub_explicit(&e->request.parts_left, refused, memory_order_acq_rel);
    split_release(&e->request); /* after this the exchange may be gone */
}

static void ingress_take(struct ingress_context *c, nng_msg *message) {
    struct ingress_endpoint *endpoint = c->endpoint;
    struct ingress *g = endpoint->ingress;
    uint32_t bytes = (uint32_t)nng_msg_len(message);
    int64_t received_ns = clock_mono_ns();
    ingress_add(&g->received, 1);
    ingress_add(&g->bytes_in, bytes);
    c->pipe = nng_msg_get_pipe(message);
    reply_patience_heard(&g->patience, c->pipe.id, received_ns);
    struct exchange *e = exchange_take(&g->pool);
    if (!e) {
        nng_msg_free(message);
        ingress_reply(c, reply_refusal(RESULT_OUT_OF_MEMORY));
        return;
    }
    e->context = c;
    unsigned side;
    const struct shard_map *map = map_place_enter(&g->map, &side);
    enum result_code code =
        exchange_decode(e, message, map->shards_count, &g->options.cluster_id);
    if (code == RESULT_OK)
        split_request(map, &e->request, bytes, endpoint->expected_shard, &e->split);
    map_place_leave(&g->map, side);
    if (code != RESULT_OK) {
        ingress_add(&g->refused, 1);
        ingress_count_malformed(g, code);
        exchange_give(&g->pool, e);
        ingress_reply(c, reply_refusal(code));
        return;
    }
    e->request.received_ns = received_ns;
    e->request.done = ingress_done;
    ingress_add(&g->commands, e->request.commands_count);
    ingress_add(&g->stray_commands, e->split.stray_commands);
    ingress_answer_local(g, e);
    enum result_code refusal = ingress_admit(g, endpoint);
    if (refusal == RESULT_OVERLOADED) ingress_add(&g->overloaded, 1);
    ingress_offer_parts(g, e, endpoint->expected_shard, refusal);
}

static void ingress_sent(struct ingress_context *c, int rc) {
    struct ingress *g = c->endpoint->ingress;
    c->sending = false;
    nng_aio_set_timeout(c->aio, NNG_DURATION_INFINITE);
    atomic_fetch_sub(&c->endpoint->in_flight, 1);
    if (rc == 0) {
        ingress_add(&g->replied, 1);
    } else {
        ingress_add(&g->replies_dropped, 1);
        nng_msg_free(nng_aio_get_msg(c->aio));
        nng_aio_set_msg(c->aio, NULL);
    }
    if (reply_patience_end(&g->patience, c->pipe.id, rc == NNG_ETIMEDOUT, c->until_ns))
        nng_pipe_close(c->pipe);
}

/* On one of nng's threads, or at once within nng_ctx_send on ours. */
static void ingress_on_aio(void *arg) {
    struct ingress_context *c = arg;
    int rc = nng_aio_result(c->aio);
    if (c->sending) {
        ingress_sent(c, rc);
        if (rc == NNG_ECLOSED || rc == NNG_ECANCELED) return;
        nng_ctx_recv(c->ctx, c->aio);
        return;
    }
    if (rc == NNG_ECLOSED || rc == NNG_ECANCELED) return;
    if (rc != 0) {
        nng_ctx_recv(c->ctx, c->aio);
        return;
    }
    nng_msg *message = nng_aio_get_msg(c->aio);
    nng_aio_set_msg(c->aio, NULL);
    atomic_fetch_add(&c->endpoint->in_flight, 1);
    if (atomic_load(&c->endpoint->ingress->halted)) {
        nng_msg_free(message);
        atomic_fetch_sub(&c->endpoint->in_flight, 1);
        return;
    }
    ingress_take(c, message);
}

/* -- life -------------------------------------------------------------------------------------- */

/* Not ADD_POST: who speaks another protocol is turned away before it, and goes like all others. */
static void ingress_on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct ingress *g = arg;
    ingress_add(event == NNG_PIPE_EV_ADD_PRE ? &g->opened : &g->closed, 1);
}

static bool ingress_endpoint_open(struct ingress_endpoint *endpoint, const char *url, char *bound,
                                  char *error, size_t error_bytes) {
    nng_listener listener;
    int rc = nng_rep0_open(&endpoint->socket);
    if (rc == 0)
        rc = nng_socket_set_size(endpoint->socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    if (rc == 0)
        rc = nng_pipe_notify(endpoint->socket, NNG_PIPE_EV_ADD_PRE, ingress_on_pipe,
                             endpoint->ingress);
    if (rc == 0)
        rc = nng_pipe_notify(endpoint->socket, NNG_PIPE_EV_REM_POST, ingress_on_pipe,
                             endpoint->ingress);
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot listen on %s: %s", url, nng_strerror(rc));
        return false;
    }
    rc = tls_listen(endpoint->socket, url, endpoint->ingress->options.tls, &listener, error,
                    error_bytes);
    if (rc == 0) tls_listener_address(listener, url, bound, ENDPOINT_BYTES_MAX);
    return rc == 0;
}

/* Opens the sockets of the endpoints up to `count` that are not open yet; all addresses go into the
 * map. */
static bool ingress_open_endpoints(struct ingress *g, struct shard_map *map, uint32_t count,
                                   char *error, size_t error_bytes) {
    for (uint32_t i = atomic_load(&g->endpoints_count); i < count; i++) {
        struct ingress_endpoint *endpoint = &g->endpoints[i];
        char url[ENDPOINT_BYTES_MAX];
        endpoint->ingress = g;
        endpoint->expected_shard = i == 0 ? SPLIT_NO_SHARD : i - 1;
        bool good = true;
        if (i == 0) snprintf(url, sizeof url, "%s", g->options.listen);
        else good = shard_map_endpoint_of(g->options.listen, i - 1, url, sizeof url, error,
                                          error_bytes);
        char *bound = i == 0 ? map->endpoint : map->shard_endpoints[i - 1];
        if (good && ingress_endpoint_open(endpoint, url, bound, error, error_bytes)) {
            atomic_store(&g->endpoints_count, i + 1);
            continue;
        }
        if (endpoint->socket.id != 0) nng_close(endpoint->socket);
        endpoint->socket.id = 0;
        return false;
    }
    return true;
}

struct ingress *ingress_open(const struct ingress_options *options, char *error,
                             size_t error_bytes) {
    struct ingress *g = aligned_alloc(64, (sizeof *g + 63) / 64 * 64);
    if (!g) {
        snprintf(error, error_bytes, "no memory for the endpoints");
        return NULL;
    }
    memset(g, 0, sizeof *g);
    g->options = *options;
    g->patience.share = REPLY_SHARE(options->contexts);
    pthread_mutex_init(&g->endpoints_mutex, NULL);
    struct shard_map *map = options->map;
    map_place_init(&g->map, map);
    g->egress = egress_start(ingress_send, error, error_bytes);
    bool good = g->egress != NULL;
    if (good && options->leaders)
        good = (g->forwarder = forwarder_open(options->tls, &options->cluster_id, error,
                                             error_bytes)) != NULL;
    if (good) good = ingress_open_endpoints(g, map, map->shards_count + 1, error, error_bytes);
    if (good && g->forwarder) good = forwarder_set_nodes(g->forwarder, map, error, error_bytes);
    if (good) return g;
    ingress_close(g);
    return NULL;
}

static int ingress_endpoint_start(struct ingress_endpoint *endpoint, uint32_t contexts) {
    if (!endpoint->contexts) endpoint->contexts = calloc(contexts, sizeof *endpoint->contexts);
    if (!endpoint->contexts) return NNG_ENOMEM;
    for (uint32_t i = 0; i < contexts; i++) { /* some are there when it is tried once more */
        struct ingress_context *c = &endpoint->contexts[i];
        c->endpoint = endpoint;
        int rc = c->aio ? 0 : nng_aio_alloc(&c->aio, ingress_on_aio, c);
        if (rc == 0 && c->ctx.id == 0) rc = nng_ctx_open(&c->ctx, endpoint->socket);
        if (rc != 0) return rc;
    }
    for (uint32_t i = 0; i < contexts; i++)
        nng_ctx_recv(endpoint->contexts[i].ctx, endpoint->contexts[i].aio);
    return 0;
}

/* Those that are open and not started yet. */
static bool ingress_start_endpoints(struct ingress *g, char *error, size_t error_bytes) {
    for (; g->endpoints_started < atomic_load(&g->endpoints_count); g->endpoints_started++) {
        int rc = ingress_endpoint_start(&g->endpoints[g->endpoints_started], g->options.contexts);
        if (rc == 0) continue;
        snprintf(error, error_bytes, "cannot make %u contexts for an endpoint: %s",
                 g->options.contexts, nng_strerror(rc));
        return false;
    }
    return true;
}

bool ingress_start(struct ingress *g, char *error, size_t error_bytes) {
    pthread_mutex_lock(&g->endpoints_mutex);
    g->started = true;
    bool good = ingress_start_endpoints(g, error, error_bytes);
    pthread_mutex_unlock(&g->endpoints_mutex);
    return good;
}

static bool ingress_take_map(struct ingress *g, struct shard_map *map, char *error,
                             size_t error_bytes) {
    const struct shard_map *before = map_place_own(&g->map);
    if (before == map) return !g->started || ingress_start_endpoints(g, error, error_bytes);
    memcpy(map->endpoint, before->endpoint, sizeof map->endpoint);
    for (uint32_t i = 0; i < SHARDS_MAX; i++) { /* not those that an earlier try has opened */
        if (map->shard_endpoints[i][0] != 0) continue;
        memcpy(map->shard_endpoints[i], before->shard_endpoints[i], ENDPOINT_BYTES_MAX);
    }
    if (!ingress_open_endpoints(g, map, map->shards_count + 1, error, error_bytes)) return false;
    if (g->forwarder && !forwarder_set_nodes(g->forwarder, map, error, error_bytes)) return false;
    map_place_put(&g->map, map);
    return !g->started || ingress_start_endpoints(g, error, error_bytes);
}

bool ingress_set_map(struct ingress *g, struct shard_map *map, char *error, size_t error_bytes) {
    pthread_mutex_lock(&g->endpoints_mutex);
    bool good = ingress_take_map(g, map, error, error_bytes);
    pthread_mutex_unlock(&g->endpoints_mutex);
    return good;
}

void ingress_drain(struct ingress *g) { atomic_store(&g->draining, true); }

void ingress_halt(struct ingress *g) { atomic_store(&g->halted, true); }

bool ingress_is_idle(const struct ingress *g) {
    for (uint32_t i = 0; i < atomic_load(&g->endpoints_count); i++) {
        if (atomic_load(&g->endpoints[i].in_flight) != 0) return false;
    }
    return true;
}

static void ingress_endpoint_close(struct ingress_endpoint *endpoint, uint32_t contexts) {
    if (endpoint->socket.id != 0) nng_close(endpoint->socket);
    for (uint32_t i = 0; endpoint->contexts && i < contexts; i++) {
        if (endpoint->contexts[i].aio) nng_aio_free(endpoint->contexts[i].aio);
    }
    free(endpoint->contexts);
}

void ingress_close(struct ingress *g) {
    if (g->forwarder) forwarder_close(g->forwarder);
    if (g->egress) egress_stop(g->egress);
    for (uint32_t i = 0; i < atomic_load(&g->endpoints_count); i++)
        ingress_endpoint_close(&g->endpoints[i], g->options.contexts);
    exchange_pool_fini(&g->pool);
    pthread_mutex_destroy(&g->endpoints_mutex);
    free(g);
}

void ingress_stats(const struct ingress *g, struct ingress_stats *stats) {
    *stats = (struct ingress_stats){.received = ingress_get(&g->received),
                                    .replied = ingress_get(&g->replied),
                                    .refused = ingress_get(&g->refused),
                                    .overloaded = ingress_get(&g->overloaded),
                                    .commands = ingress_get(&g->commands),
                                    .node_commands = ingress_get(&g->node_commands),
                                    .stray_commands = ingress_get(&g->stray_commands),
                                    .replies_dropped = ingress_get(&g->replies_dropped),
                                    .not_led = ingress_get(&g->not_led),
                                    .bytes_in = ingress_get(&g->bytes_in),
                                    .bytes_out = ingress_get(&g->bytes_out),
                                    .connections_opened = ingress_get(&g->opened),
                                    .connections_closed = ingress_get(&g->closed)};
    if (g->forwarder) forwarder_stats(g->forwarder, &stats->forwarded);
    for (uint32_t i = 0; i < atomic_load(&g->endpoints_count); i++)
        stats->in_flight += atomic_load(&g->endpoints[i].in_flight);
    for (uint32_t i = 0; i < INGRESS_CODES; i++)
        stats->malformed[i] = ingress_get(&g->malformed[i]);
}

const struct histogram *ingress_latency(const struct ingress *g) { return &g->latency; }

void ingress_latency_recent(const struct ingress *g, struct histogram *sum) {
    for (uint32_t i = 0; i < INGRESS_WINDOWS; i++) histogram_add(sum, &g->windows[i]);
}

void ingress_latency_turn(struct ingress *g) {
    uint32_t next = (atomic_load(&g->window) + 1) % INGRESS_WINDOWS;
    histogram_reset(&g->windows[next]);
    atomic_store(&g->window, next);
}
