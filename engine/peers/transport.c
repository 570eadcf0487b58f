#include "engine/peers/transport.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/limits.h"

/* nng waits a random part of the time that it has come to, which it doubles after each failure and
 * sets back to the least with each connection that comes up: also one that the other side, which
 * may be anybody, closes at once. So whoever has not been heard is dialled patiently. */
enum {
    TRANSPORT_RECONNECT_MS_MIN = 20,
    TRANSPORT_RECONNECT_MS_MAX = 200,
    TRANSPORT_PATIENT_MS = 1000
};

/* nng 1.5.2 sends a message in pieces. Of a connection that is closed between two of them it never
 * ends the rest, and its thread that frees connections waits for that for ever. So a socket that is
 * not needed any more gets so long to send what it has taken, or to get stuck with it, and is
 * closed by a thread that nobody waits for. */
enum { TRANSPORT_LINGER_MS = 300 };

/* The way to one other node. Sockets change only when nobody is inside: see transport_enter(). */
struct transport_lane {
    struct transport *transport;
    _Alignas(64) atomic_uint node;        /* 0 = not in use */
    atomic_uint users;                    /* threads that are sending */
    atomic_int pipe_id;                   /* of the connection that stands; 0 = none */
    atomic_uint socket_id;
    nng_socket socket;
    nng_dialer dialer;
    bool patient;                         /* of the one thread that changes lanes */
    char endpoint[ENDPOINT_BYTES_MAX];
};

struct transport {
    struct transport_options options;
    struct tls_options tls;
    char endpoint[ENDPOINT_BYTES_MAX];
    nng_socket pull;                      /* id 0 = not open */
    nng_aio *aio;                         /* the one receive */
    atomic_bool stopped;
    atomic_ullong sent, sent_bytes, lost, received, received_bytes, foreign, stray, malformed;
    atomic_ullong connects;
    atomic_uint closing;                  /* sockets that linger */
    struct transport_lane lanes[NODES_MAX];
};

static void transport_count(atomic_ullong *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* -- in ---------------------------------------------------------------------------------------- */

static void transport_take(struct transport *t, const void *data, size_t bytes) {
    struct peer_message m;
    transport_count(&t->received, 1);
    transport_count(&t->received_bytes, bytes);
    if (!peer_message_read(data, bytes, &m)) transport_count(&t->malformed, 1);
    else if (!id128_equal(&m.cluster, &t->options.cluster)) transport_count(&t->foreign, 1);
    else if (m.to != t->options.node) transport_count(&t->stray, 1);
    else t->options.received(t->options.arg, m.from, m.kind, m.body);
}

/* On one of nng's threads. One receive at a time: messages of one node keep their order. */
static void transport_received(void *arg) {
    struct transport *t = arg;
    int rc = nng_aio_result(t->aio);
    if (rc == NNG_ECLOSED || rc == NNG_ECANCELED || atomic_load(&t->stopped)) {
        if (rc == 0) nng_msg_free(nng_aio_get_msg(t->aio));
        return;
    }
    if (rc == 0) {
        nng_msg *message = nng_aio_get_msg(t->aio);
        if (nng_msg_len(message) > 0) /* see transport_bury() */
            transport_take(t, nng_msg_body(message), nng_msg_len(message));
        nng_msg_free(message);
    }
    nng_recv_aio(t->pull, t->aio);
}

/* -- out --------------------------------------------------------------------------------------- */

/* The node's lane, held until transport_leave(); NULL = there is none. */
static struct transport_lane *transport_enter(struct transport *t, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        struct transport_lane *lane = &t->lanes[i];
        if (atomic_load_explicit(&lane->node, memory_order_relaxed) != node) continue;
        atomic_fetch_add(&lane->users, 1); /* in one order with the store of transport_empty() */
        if (atomic_load(&lane->node) == node) return lane;
        atomic_fetch_sub(&lane->users, 1);
    }
    return NULL;
}

static void transport_leave(struct transport_lane *lane) { atomic_fetch_sub(&lane->users, 1); }

bool transport_begin(struct transport *t, uint32_t node, uint32_t kind, size_t body_bytes_max,
                     struct transport_message *m) {
    struct transport_lane *lane =
        node == 0 || atomic_load(&t->stopped) ? NULL : transport_enter(t, node);
    nng_msg *message = NULL;
    size_t bytes = PEER_MESSAGE_HEAD_BYTES_MAX + body_bytes_max;
    if (lane && (atomic_load_explicit(&lane->pipe_id, memory_order_relaxed) == 0 ||
                 nng_msg_alloc(&message, bytes) != 0)) {
        transport_leave(lane);
        lane = NULL;
    }
    if (!lane) {
        transport_count(&t->lost, 1);
        return false;
    }
    const struct peer_message head = {.cluster = t->options.cluster, .from = t->options.node,
                                      .to = node, .kind = kind};
    *m = (struct transport_message){.node = node, .message = message,
                                    .lane = (uint32_t)(lane - t->lanes)};
    msgpack_writer_init(&m->body, nng_msg_body(message), bytes);
    peer_message_write_head(&m->body, &head);
    return true;
}

bool transport_send(struct transport *t, struct transport_message *m) {
    struct transport_lane *lane = &t->lanes[m->lane];
    size_t room = nng_msg_len(m->message), used = msgpack_writer_size(&m->body);
    bool sent = msgpack_writer_ok(&m->body);
    if (sent) {
        nng_msg_chop(m->message, room - used);
        sent = nng_sendmsg(lane->socket, m->message, NNG_FLAG_NONBLOCK) == 0;
    }
    if (!sent) {
        transport_drop(t, m);
        return false;
    }
    transport_leave(lane);
    transport_count(&t->sent, 1);
    transport_count(&t->sent_bytes, used);
    return true;
}

void transport_drop(struct transport *t, struct transport_message *m) {
    nng_msg_free(m->message);
    transport_leave(&t->lanes[m->lane]);
    transport_count(&t->lost, 1);
}

bool transport_is_up(const struct transport *t, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (atomic_load(&t->lanes[i].node) == node) return atomic_load(&t->lanes[i].pipe_id) != 0;
    }
    return false;
}

/* -- lanes ------------------------------------------------------------------------------------- */

/* nng's push keeps a list of connections that are free to take a message. Up to 1.5.2 at least, one
 * that the other side closes while it is being set up, or while a message of it has just been sent,
 * enters that list after it has left it for good, and is freed in there: any stranger who hangs up
 * ends the process. But only one that finds no message waiting enters the list, and this is called
 * when it is closed (it can send no more), not yet freed, and the only one of its socket: of two
 * messages the first takes it out of the list, if it is in, and the second waits, so that it does
 * not enter. The next connection carries what has waited: an empty message, which says nothing. */
static void transport_bury(nng_pipe pipe) {
    nng_socket s = nng_pipe_socket(pipe);
    for (int i = 0; i < 2; i++) {
        nng_msg *message;
        require(nng_msg_alloc(&message, 0) == 0);
        if (nng_sendmsg(s, message, NNG_FLAG_NONBLOCK) != 0) nng_msg_free(message);
    }
}

static void transport_on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct transport_lane *lane = arg;
    struct transport *t = lane->transport;
    if (event == NNG_PIPE_EV_REM_POST) transport_bury(pipe);
    /* Of a socket that is closed already, and whose place another may have taken. */
    if ((uint32_t)nng_socket_id(nng_pipe_socket(pipe)) != atomic_load(&lane->socket_id)) return;
    bool up = event == NNG_PIPE_EV_ADD_POST;
    int id = nng_pipe_id(pipe);
    /* One that fails early goes without ever having come: counting them would go wrong. */
    if (up) atomic_store(&lane->pipe_id, id);
    else if (!atomic_compare_exchange_strong(&lane->pipe_id, &id, 0)) return;
    if (up) transport_count(&t->connects, 1);
    uint32_t node = atomic_load(&lane->node);
    if (t->options.changed && node != 0) t->options.changed(t->options.arg, node, up);
}

static int transport_lane_open(struct transport_lane *lane, uint32_t node, const char *endpoint,
                               bool patient, char *error, size_t error_bytes) {
    struct transport *t = lane->transport;
    int least_ms = patient ? TRANSPORT_PATIENT_MS : TRANSPORT_RECONNECT_MS_MIN;
    int most_ms = patient ? TRANSPORT_PATIENT_MS : TRANSPORT_RECONNECT_MS_MAX;
    int rc = nng_push0_open(&lane->socket);
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot open a socket: %s", nng_strerror(rc));
        return rc;
    }
    nng_socket s = lane->socket;
    lane->patient = patient;
    atomic_store(&lane->pipe_id, 0);
    atomic_store(&lane->socket_id, (unsigned)nng_socket_id(s));
    snprintf(lane->endpoint, sizeof lane->endpoint, "%s", endpoint);
    atomic_store(&lane->node, node);
    rc = nng_socket_set_int(s, NNG_OPT_SENDBUF, (int)t->options.queue_messages);
    if (rc == 0) rc = nng_socket_set_ms(s, NNG_OPT_RECONNMINT, least_ms);
    if (rc == 0) rc = nng_socket_set_ms(s, NNG_OPT_RECONNMAXT, most_ms);
    if (rc == 0) rc = nng_pipe_notify(s, NNG_PIPE_EV_ADD_POST, transport_on_pipe, lane);
    if (rc == 0) rc = nng_pipe_notify(s, NNG_PIPE_EV_REM_POST, transport_on_pipe, lane);
    if (rc != 0) snprintf(error, error_bytes, "cannot set a socket: %s", nng_strerror(rc));
    else rc = tls_dial(s, endpoint, &t->tls, &lane->dialer, error, error_bytes);
    return rc;
}

struct transport_lingering { struct transport *transport; nng_socket socket; };

static void *transport_linger(void *arg) {
    struct transport_lingering *l = arg;
    usleep(TRANSPORT_LINGER_MS * 1000);
    nng_close(l->socket);
    atomic_fetch_sub(&l->transport->closing, 1);
    free(l);
    return NULL;
}

/* Closes it later, on a thread of its own; at once where there is none. */
static void transport_close_later(struct transport *t, nng_socket socket) {
    pthread_t thread;
    struct transport_lingering *l = malloc(sizeof *l);
    if (l) *l = (struct transport_lingering){t, socket};
    atomic_fetch_add(&t->closing, 1);
    if (l && pthread_create(&thread, NULL, transport_linger, l) == 0) {
        pthread_detach(thread);
        return;
    }
    free(l);
    nng_close(socket);
    atomic_fetch_sub(&t->closing, 1);
}

static void transport_lane_close(struct transport_lane *lane) {
    atomic_store(&lane->node, 0);
    while (atomic_load(&lane->users) != 0) sched_yield();
    nng_socket socket = lane->socket;
    lane->socket.id = 0;
    atomic_store(&lane->socket_id, 0); /* what it still tells is not this lane's any more */
    atomic_store(&lane->pipe_id, 0);
    if (socket.id != 0) transport_close_later(lane->transport, socket);
}

static const struct transport_peer *transport_find(const struct transport_peer *peers,
                                                   uint32_t count, uint32_t node) {
    for (uint32_t i = 0; i < count; i++) {
        if (peers[i].node == node) return &peers[i];
    }
    return NULL;
}

static bool transport_has(const struct transport *t, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (atomic_load(&t->lanes[i].node) == node) return true;
    }
    return false;
}

static struct transport_lane *transport_free_lane(struct transport *t) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (atomic_load(&t->lanes[i].node) == 0) return &t->lanes[i];
    }
    return NULL;
}

bool transport_set_peers(struct transport *t, const struct transport_peer *peers, uint32_t count,
                         char *error, size_t error_bytes) {
    bool good = true;
    require(count <= NODES_MAX);
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        struct transport_lane *lane = &t->lanes[i];
        uint32_t node = atomic_load(&lane->node);
        if (node == 0) continue;
        const struct transport_peer *peer = transport_find(peers, count, node);
        if (!peer || strcmp(peer->endpoint, lane->endpoint) != 0) transport_lane_close(lane);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (transport_has(t, peers[i].node)) continue;
        struct transport_lane *lane = transport_free_lane(t);
        require(lane != NULL);
        if (transport_lane_open(lane, peers[i].node, peers[i].endpoint, false, error,
                                error_bytes) == 0)
            continue;
        good = false;
        if (atomic_load(&lane->node) != 0) transport_lane_close(lane);
    }
    return good;
}

void transport_redial(struct transport *t, uint32_t node) {
    char endpoint[ENDPOINT_BYTES_MAX], error[256];
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        struct transport_lane *lane = &t->lanes[i];
        if (atomic_load(&lane->node) != node) continue;
        memcpy(endpoint, lane->endpoint, sizeof endpoint);
        transport_lane_close(lane);
        (void)transport_lane_open(lane, node, endpoint, true, error, sizeof error);
        if (atomic_load(&lane->node) == node) return;
        /* It could be dialled before. Not even a socket now: the next call finds the lane. */
        memcpy(lane->endpoint, endpoint, sizeof endpoint);
        atomic_store(&lane->node, node);
        return;
    }
}

void transport_unheard(struct transport *t, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (atomic_load(&t->lanes[i].node) == node && !t->lanes[i].patient)
            transport_redial(t, node);
    }
}

void transport_heard(struct transport *t, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        struct transport_lane *lane = &t->lanes[i];
        if (atomic_load(&lane->node) != node || !lane->patient) continue;
        if (atomic_load(&lane->pipe_id) == 0) continue;
        int rc = nng_dialer_set_ms(lane->dialer, NNG_OPT_RECONNMINT, TRANSPORT_RECONNECT_MS_MIN);
        if (rc == 0)
            rc = nng_dialer_set_ms(lane->dialer, NNG_OPT_RECONNMAXT, TRANSPORT_RECONNECT_MS_MAX);
        lane->patient = rc != 0;
    }
}

/* -- life -------------------------------------------------------------------------------------- */

struct transport *transport_open(const struct transport_options *options, char *error,
                                 size_t error_bytes) {
    struct transport *t = aligned_alloc(64, (sizeof *t + 63) / 64 * 64);
    nng_listener listener;
    if (!t) {
        snprintf(error, error_bytes, "no memory for the way to other nodes");
        return NULL;
    }
    memset(t, 0, sizeof *t);
    t->options = *options;
    if (options->tls) t->tls = *options->tls;
    for (uint32_t i = 0; i < NODES_MAX; i++) t->lanes[i].transport = t;
    int rc = nng_pull0_open(&t->pull);
    if (rc == 0)
        rc = nng_socket_set_size(t->pull, NNG_OPT_RECVMAXSZ, options->message_bytes_max);
    if (rc == 0) rc = nng_aio_alloc(&t->aio, transport_received, t);
    if (rc != 0) snprintf(error, error_bytes, "cannot open a socket: %s", nng_strerror(rc));
    else rc = tls_listen(t->pull, options->listen, &t->tls, &listener, error, error_bytes);
    if (rc == 0) {
        tls_listener_address(listener, t->options.listen, t->endpoint, sizeof t->endpoint);
        return t;
    }
    transport_close(t);
    return NULL;
}

const char *transport_endpoint(const struct transport *t) { return t->endpoint; }

void transport_start(struct transport *t) { nng_recv_aio(t->pull, t->aio); }

void transport_stop(struct transport *t) {
    atomic_store(&t->stopped, true);
    if (t->aio) nng_aio_stop(t->aio);
}

void transport_close(struct transport *t) {
    transport_stop(t);
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (atomic_load(&t->lanes[i].node) != 0) transport_lane_close(&t->lanes[i]);
    }
    while (atomic_load(&t->closing) != 0) usleep(1000); /* their callbacks come back here */
    if (t->pull.id != 0) nng_close(t->pull);
    if (t->aio) nng_aio_free(t->aio);
    free(t);
}

void transport_stats(const struct transport *t, struct transport_stats *stats) {
    *stats = (struct transport_stats){
        .sent = atomic_load(&t->sent), .sent_bytes = atomic_load(&t->sent_bytes),
        .lost = atomic_load(&t->lost), .received = atomic_load(&t->received),
        .received_bytes = atomic_load(&t->received_bytes), .foreign = atomic_load(&t->foreign),
        .stray = atomic_load(&t->stray), .malformed = atomic_load(&t->malformed),
        .connects = atomic_load(&t->connects)};
}

bool transport_next_endpoint(const char *endpoint, char *out, size_t out_bytes, char *error,
                             size_t error_bytes) {
    int used;
    const char *colon = strrchr(endpoint, ':');
    if (strncmp(endpoint, "inproc", 6) == 0) {
        used = snprintf(out, out_bytes, "%s-bulk", endpoint);
    } else {
        char *end = NULL;
        long port = colon && colon[1] >= '0' && colon[1] <= '9' ? strtol(colon + 1, &end, 10) : -1;
        if (port < 0 || *end != 0 || port + 1 > 65535) {
            snprintf(error, error_bytes, "\"%s\" is not of the form tcp://host:port with a port "
                     "below 65535", endpoint);
            return false;
        }
        used = snprintf(out, out_bytes, "%.*s:%ld", (int)(colon - endpoint), endpoint,
                        port == 0 ? 0 : port + 1);
    }
    if (used > 0 && (size_t)used < out_bytes) return true;
    snprintf(error, error_bytes, "the address \"%s\" is too long", endpoint);
    return false;
}
