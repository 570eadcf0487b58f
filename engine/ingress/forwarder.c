#include "engine/ingress/forwarder.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/protocol.h"
#include "engine/wire/socket_close.h"

enum {
    FORWARDER_RECONNECT_MS_MIN = 20,
    FORWARDER_RECONNECT_MS_MAX = 200,
    FORWARDER_TIMEOUT_MS = 2000,      /* a node that does not answer has lost the lead by then */
    FORWARDER_HEAD_BYTES_MAX = 64
};

struct forwarder_lane {
    struct forwarder *forwarder;
    _Alignas(64) atomic_uint node;    /* 0 = not in use */
    atomic_uint users;
    atomic_int pipe_id;               /* of the connection that stands; 0 = none */
    atomic_uint socket_id;
    nng_socket socket;
    char endpoint[ENDPOINT_BYTES_MAX];
};

/* One message on its way. */
struct forward {
    struct forwarder *forwarder;
    struct forward *next;             /* of the pool */
    nng_ctx ctx;
    nng_aio *aio;
    bool receiving;
    void (*on_end)(void *arg, enum forward_end end, struct bytes reply);
    void *arg;
};

struct forwarder {
    struct tls_options tls;
    struct id128 cluster_id;
    atomic_ullong messages, commands, unsent, unanswered;
    pthread_mutex_t mutex;            /* guards the pool */
    struct forward *unused;
    uint32_t made;                    /* at most FORWARDS_MAX */
    struct forward *all[FORWARDS_MAX];
    struct forwarder_lane lanes[NODES_MAX];
};

/* -- one message ------------------------------------------------------------------------------- */

static void forward_on_aio(void *arg);

static struct forward *forward_take(struct forwarder *f) {
    pthread_mutex_lock(&f->mutex);
    struct forward *w = f->unused;
    if (w) {
        f->unused = w->next;
    } else if (f->made < FORWARDS_MAX && (w = calloc(1, sizeof *w)) != NULL) {
        w->forwarder = f;
        if (nng_aio_alloc(&w->aio, forward_on_aio, w) == 0) {
            f->all[f->made++] = w;
        } else {
            free(w);
            w = NULL;
        }
    }
    pthread_mutex_unlock(&f->mutex);
    return w;
}

static void forward_give(struct forward *w) {
    struct forwarder *f = w->forwarder;
    pthread_mutex_lock(&f->mutex);
    w->next = f->unused;
    f->unused = w;
    pthread_mutex_unlock(&f->mutex);
}

/* Once per message that was begun. The aio may be used again when its callback returns; whoever
 * takes it from the pool before that only waits for it within nng. */
static void forward_end(struct forward *w, enum forward_end end, nng_msg *reply) {
    struct forwarder *f = w->forwarder;
    if (end == FORWARD_NOT_SENT) atomic_fetch_add(&f->unsent, 1);
    if (end == FORWARD_NO_REPLY) atomic_fetch_add(&f->unanswered, 1);
    nng_ctx_close(w->ctx);
    w->on_end(w->arg, end, reply ? bytes_of(nng_msg_body(reply), nng_msg_len(reply))
                                 : bytes_of(NULL, 0));
    if (reply) nng_msg_free(reply);
    forward_give(w);
}

static void forward_on_aio(void *arg) {
    struct forward *w = arg;
    int rc = nng_aio_result(w->aio);
    if (!w->receiving && rc == 0) {
        w->receiving = true;
        nng_ctx_recv(w->ctx, w->aio);
        return;
    }
    if (!w->receiving) {
        nng_msg *unsent = nng_aio_get_msg(w->aio);
        nng_aio_set_msg(w->aio, NULL);
        if (unsent) nng_msg_free(unsent);
        forward_end(w, FORWARD_NOT_SENT, NULL);
        return;
    }
    if (rc != 0) {
        forward_end(w, FORWARD_NO_REPLY, NULL);
        return;
    }
    nng_msg *reply = nng_aio_get_msg(w->aio);
    nng_aio_set_msg(w->aio, NULL);
    forward_end(w, FORWARD_REPLIED, reply);
}

static nng_msg *forward_message(const struct id128 *cluster_id, int64_t deadline_ms,
                                const struct bytes *commands, uint32_t count) {
    nng_msg *message;
    struct msgpack_writer w;
    size_t bytes = FORWARDER_HEAD_BYTES_MAX;
    for (uint32_t i = 0; i < count; i++) bytes += commands[i].size;
    if (nng_msg_alloc(&message, bytes) != 0) return NULL;
    msgpack_writer_init(&w, nng_msg_body(message), bytes);
    msgpack_write_array(&w, 5);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_int(&w, deadline_ms);
    msgpack_write_array(&w, count);
    for (uint32_t i = 0; i < count; i++) msgpack_write_raw(&w, commands[i].data, commands[i].size);
    msgpack_write_uint(&w, REQUEST_FLAG_FORWARDED);
    msgpack_write_bin(&w, cluster_id->bytes, sizeof cluster_id->bytes);
    require(msgpack_writer_ok(&w));
    nng_msg_chop(message, bytes - msgpack_writer_size(&w));
    /* One that the other node would not take costs the connection, and all that is on it. */
    if (nng_msg_len(message) <= REQUEST_BYTES_MAX) return message;
    nng_msg_free(message);
    return NULL;
}

/* -- lanes ------------------------------------------------------------------------------------- */

static struct forwarder_lane *forwarder_enter(struct forwarder *f, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        struct forwarder_lane *lane = &f->lanes[i];
        if (atomic_load_explicit(&lane->node, memory_order_relaxed) != node) continue;
        atomic_fetch_add(&lane->users, 1); /* in one order with the store in forwarder_lane_close */
        if (atomic_load(&lane->node) == node && atomic_load(&lane->pipe_id) != 0) return lane;
        atomic_fetch_sub(&lane->users, 1);
    }
    return NULL;
}

bool forwarder_send(struct forwarder *f, uint32_t node, int64_t deadline_ms,
                    const struct bytes *commands, uint32_t count,
                    void (*on_end)(void *arg, enum forward_end end, struct bytes reply),
                    void *arg) {
    struct forwarder_lane *lane = forwarder_enter(f, node);
    if (!lane) return false;
    struct forward *w = forward_take(f);
    nng_msg *message = w ? forward_message(&f->cluster_id, deadline_ms, commands, count) : NULL;
    bool good = message && nng_ctx_open(&w->ctx, lane->socket) == 0;
    atomic_fetch_sub(&lane->users, 1);
    if (!good) {
        if (message) nng_msg_free(message);
        if (w) forward_give(w);
        atomic_fetch_add(&f->unsent, 1);
        return false;
    }
    atomic_fetch_add(&f->messages, 1);
    atomic_fetch_add(&f->commands, count);
    w->receiving = false;
    w->on_end = on_end;
    w->arg = arg;
    nng_aio_set_timeout(w->aio, FORWARDER_TIMEOUT_MS);
    nng_aio_set_msg(w->aio, message);
    nng_ctx_send(w->ctx, w->aio);
    return true;
}

static void forwarder_on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct forwarder_lane *lane = arg;
    if ((uint32_t)nng_socket_id(nng_pipe_socket(pipe)) != atomic_load(&lane->socket_id)) return;
    int id = nng_pipe_id(pipe);
    /* One that fails early goes without ever having come: counting them would go wrong. */
    if (event == NNG_PIPE_EV_ADD_POST) atomic_store(&lane->pipe_id, id);
    else atomic_compare_exchange_strong(&lane->pipe_id, &id, 0);
}

static int forwarder_lane_open(struct forwarder_lane *lane, uint32_t node, const char *endpoint,
                               char *error, size_t error_bytes) {
    nng_dialer dialer;
    int rc = nng_req0_open(&lane->socket);
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot open a socket: %s", nng_strerror(rc));
        return rc;
    }
    nng_socket s = lane->socket;
    atomic_store(&lane->pipe_id, 0);
    atomic_store(&lane->socket_id, (unsigned)nng_socket_id(s));
    snprintf(lane->endpoint, sizeof lane->endpoint, "%s", endpoint);
    atomic_store(&lane->node, node);
    rc = nng_socket_set_ms(s, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (rc == 0) rc = nng_socket_set_ms(s, NNG_OPT_RECONNMINT, FORWARDER_RECONNECT_MS_MIN);
    if (rc == 0) rc = nng_socket_set_ms(s, NNG_OPT_RECONNMAXT, FORWARDER_RECONNECT_MS_MAX);
    if (rc == 0) rc = nng_socket_set_size(s, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    if (rc == 0) rc = nng_pipe_notify(s, NNG_PIPE_EV_ADD_POST, forwarder_on_pipe, lane);
    if (rc == 0) rc = nng_pipe_notify(s, NNG_PIPE_EV_REM_POST, forwarder_on_pipe, lane);
    if (rc != 0) snprintf(error, error_bytes, "cannot set a socket: %s", nng_strerror(rc));
    else rc = tls_dial(s, endpoint, &lane->forwarder->tls, &dialer, error, error_bytes);
    return rc;
}

static void forwarder_lane_close(struct forwarder_lane *lane) {
    atomic_store(&lane->node, 0);
    while (atomic_load(&lane->users) != 0) sched_yield();
    socket_close(lane->socket); /* ends what is under way */
    lane->socket.id = 0;
    atomic_store(&lane->socket_id, 0);
    atomic_store(&lane->pipe_id, 0);
}

static bool forwarder_has(const struct forwarder *f, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (atomic_load(&f->lanes[i].node) == node) return true;
    }
    return false;
}

static struct forwarder_lane *forwarder_free_lane(struct forwarder *f) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (atomic_load(&f->lanes[i].node) == 0) return &f->lanes[i];
    }
    return NULL;
}

bool forwarder_set_nodes(struct forwarder *f, const struct shard_map *map, char *error,
                         size_t error_bytes) {
    bool good = true;
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        struct forwarder_lane *lane = &f->lanes[i];
        uint32_t node = atomic_load(&lane->node);
        const char *endpoint = node ? shard_map_node_endpoint(map, node) : NULL;
        if (node && (!endpoint || strcmp(endpoint, lane->endpoint) != 0))
            forwarder_lane_close(lane);
    }
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        uint32_t node = map->nodes[i].node;
        if (node == map->node || forwarder_has(f, node)) continue;
        struct forwarder_lane *lane = forwarder_free_lane(f);
        require(lane != NULL);
        if (forwarder_lane_open(lane, node, map->nodes[i].endpoint, error, error_bytes) == 0)
            continue;
        good = false;
        if (atomic_load(&lane->node) != 0) forwarder_lane_close(lane);
    }
    return good;
}

/* -- life -------------------------------------------------------------------------------------- */

struct forwarder *forwarder_open(const struct tls_options *tls, const struct id128 *cluster_id,
                                 char *error, size_t error_bytes) {
    struct forwarder *f = aligned_alloc(64, (sizeof *f + 63) / 64 * 64);
    if (!f) {
        snprintf(error, error_bytes, "no memory for the way to other nodes' clients");
        return NULL;
    }
    memset(f, 0, sizeof *f);
    if (tls) f->tls = *tls;
    f->cluster_id = *cluster_id;
    pthread_mutex_init(&f->mutex, NULL);
    for (uint32_t i = 0; i < NODES_MAX; i++) f->lanes[i].forwarder = f;
    return f;
}

void forwarder_close(struct forwarder *f) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (atomic_load(&f->lanes[i].node) != 0) forwarder_lane_close(&f->lanes[i]);
    }
    for (uint32_t i = 0; i < f->made; i++) {
        nng_aio_stop(f->all[i]->aio); /* waits for its callback */
        nng_aio_free(f->all[i]->aio);
        free(f->all[i]);
    }
    pthread_mutex_destroy(&f->mutex);
    free(f);
}

void forwarder_stats(const struct forwarder *f, struct forwarder_stats *stats) {
    *stats = (struct forwarder_stats){.messages = atomic_load(&f->messages),
                                      .commands = atomic_load(&f->commands),
                                      .unsent = atomic_load(&f->unsent),
                                      .unanswered = atomic_load(&f->unanswered)};
}
