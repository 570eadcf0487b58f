#include "engine/cluster/waiting.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "engine/base/log.h"
#include "engine/base/program.h"
#include "engine/cluster/cluster_topology.h"
#include "engine/cluster/waiting_message.h"
#include "engine/wire/tls.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/msgpack_pairs.h"

enum { WAITING_LOOK_MS = 100, WAITING_REPLY_BYTES_MAX = WAITING_SEED_BYTES_MAX + 4096 };

struct waiting {
    const struct waiting_options *options;
    char listen[ENDPOINT_BYTES_MAX]; /* what the address really is */
    struct msgpack_writer reply;
    uint8_t *data;              /* of a seed that is read */
    struct cluster_cache cache; /* of an adoption */
    bool adopted;
    uint64_t process;           /* by chance; the same at whatever address it is asked */
};

static void waiting_refuse(struct waiting *w, uint32_t code, const char *sentence) {
    waiting_reply_refused(&w->reply, code, sentence);
}

static void waiting_status(struct waiting *w) {
    const struct waiting_options *o = w->options;
    waiting_reply_done(&w->reply);
    msgpack_write_map(&w->reply, o->epochs_count > 0 ? 13 : 11);
    msgpack_pair_text(&w->reply, "state", "waiting");
    msgpack_pair_text(&w->reply, "version", program.version);
    msgpack_pair_uint(&w->reply, "level_min", program.level_min);
    msgpack_pair_uint(&w->reply, "level_max", program.level_max);
    msgpack_pair_text(&w->reply, "listen", w->listen);
    msgpack_pair_text(&w->reply, "peer_listen", o->peer_listen);
    msgpack_pair_uint(&w->reply, "node", o->node);
    msgpack_pair_text(&w->reply, "cluster_id", o->cluster_id);
    msgpack_pair_uint(&w->reply, "shards", o->shards);
    msgpack_pair_uint(&w->reply, "generation", o->generation);
    msgpack_pair_uint(&w->reply, "process", w->process);
    if (o->epochs_count == 0) return;
    msgpack_pair_uint(&w->reply, "stores_shards", o->stores_shards);
    msgpack_write_text(&w->reply, "epochs");
    msgpack_write_array(&w->reply, o->epochs_count);
    for (uint32_t i = 0; i < o->epochs_count; i++) {
        msgpack_write_array(&w->reply, 2);
        msgpack_write_int(&w->reply, o->epochs[i].from_ms);
        msgpack_write_uint(&w->reply, o->epochs[i].shards_count);
    }
}

static void waiting_adopt(struct waiting *w, const struct waiting_request *q) {
    char error[512] = "";
    uint64_t version;
    struct cluster_cache *c = &w->cache;
    memset(c, 0, sizeof *c);
    const char *fault = cluster_decode(q->bytes.data, q->bytes.size, &version, &c->document);
    if (fault) {
        snprintf(error, sizeof error, "the cluster document is wrong: %s", fault);
        waiting_refuse(w, RESULT_MALFORMED_COMMAND, error);
        return;
    }
    const struct cluster_member *m = cluster_member_find(&c->document, q->node);
    if (!m || m->state == CLUSTER_MEMBER_REMOVED) {
        waiting_refuse(w, m ? RESULT_CLUSTER_NODE_IS_REMOVED : RESULT_CLUSTER_NODE_UNKNOWN,
                       result_code_text(m ? RESULT_CLUSTER_NODE_IS_REMOVED
                                          : RESULT_CLUSTER_NODE_UNKNOWN));
        return;
    }
    if (!cluster_level_is_right(c->document.level, error, sizeof error)) {
        waiting_refuse(w, RESULT_CLUSTER_LEVEL_UNSUPPORTED, error);
        return;
    }
    c->node = q->node;
    c->version = version;
    if (!cluster_cache_may_begin(c)) {
        snprintf(error, sizeof error, "node %u has replicas from the beginning, and nothing of "
                 "them is here: its disk is lost. jumun cluster replace %u %s gives it a new "
                 "number", q->node, q->node, m->client);
        waiting_refuse(w, RESULT_CLUSTER_REPLICA_THERE, error);
        return;
    }
    if (w->options->adopt(w->options->arg, c, error, sizeof error) != 0) {
        log_error("%s", error);
        waiting_refuse(w, RESULT_STORAGE_FAILED, error);
        return;
    }
    w->adopted = true;
    waiting_reply_done(&w->reply);
    msgpack_write_uint(&w->reply, q->node);
}

static void waiting_seed_read(struct waiting *w, const struct waiting_request *q) {
    char error[512] = "";
    uint32_t bytes = 0;
    uint64_t total = 0;
    const struct waiting_options *o = w->options;
    if (o->seed_read(o->arg, q->shard, q->offset, w->data, WAITING_SEED_BYTES_MAX, &bytes, &total,
                     error, sizeof error) != 0) {
        waiting_refuse(w, RESULT_STORAGE_FAILED, error);
        return;
    }
    waiting_reply_done(&w->reply);
    msgpack_write_map(&w->reply, 2);
    msgpack_pair_uint(&w->reply, "total", total);
    msgpack_pair_bin(&w->reply, "data", bytes_of(w->data, bytes));
}

static void waiting_seed_write(struct waiting *w, const struct waiting_request *q) {
    char error[512] = "";
    const struct waiting_options *o = w->options;
    if (o->seed_write(o->arg, q->shard, q->offset, q->total, q->bytes, error, sizeof error) != 0) {
        waiting_refuse(w, RESULT_STORAGE_FAILED, error);
        return;
    }
    waiting_reply_done(&w->reply);
    msgpack_write_uint(&w->reply, q->offset + q->bytes.size);
}

static void waiting_answer(struct waiting *w, const void *message, size_t size) {
    struct waiting_request q;
    if (!waiting_request_read(message, size, &q)) {
        /* Whoever takes it for a node that serves shall not take its commands for wrong. */
        uint32_t code = waiting_request_is_batch(message, size) ? RESULT_CLUSTER_NOT_FORMED
                                                                : RESULT_MALFORMED_MESSAGE;
        msgpack_write_array(&w->reply, 3);
        msgpack_write_uint(&w->reply, 1);
        msgpack_write_uint(&w->reply, code);
        msgpack_write_text(&w->reply, result_code_text(code));
        return;
    }
    switch (q.kind) {
    case WAITING_PING:
        waiting_reply_done(&w->reply);
        msgpack_write_text(&w->reply, "pong");
        break;
    case WAITING_STATUS: waiting_status(w); break;
    case WAITING_ADOPT: waiting_adopt(w, &q); break;
    case WAITING_SEED_READ: waiting_seed_read(w, &q); break;
    case WAITING_SEED_WRITE: waiting_seed_write(w, &q); break;
    default:
        waiting_refuse(w, RESULT_CLUSTER_NOT_FORMED, result_code_text(RESULT_CLUSTER_NOT_FORMED));
    }
}

/* Answers one message, if one comes within a moment. False = the socket is of no use any more. */
static bool waiting_turn(struct waiting *w, nng_socket socket) {
    nng_msg *message = NULL, *reply = NULL;
    int rc = nng_recvmsg(socket, &message, 0);
    if (rc == NNG_ETIMEDOUT) return true;
    if (rc != 0) return false;
    if (nng_msg_alloc(&reply, WAITING_REPLY_BYTES_MAX) != 0) {
        nng_msg_free(message);
        return true;
    }
    msgpack_writer_init(&w->reply, nng_msg_body(reply), WAITING_REPLY_BYTES_MAX);
    waiting_answer(w, nng_msg_body(message), nng_msg_len(message));
    nng_msg_free(message);
    nng_msg_chop(reply, WAITING_REPLY_BYTES_MAX - msgpack_writer_size(&w->reply));
    if (nng_sendmsg(socket, reply, 0) != 0) nng_msg_free(reply); /* it asks again */
    return true;
}

static int waiting_listen(const struct waiting_options *o, nng_socket *socket,
                          nng_listener *listener, char *error, size_t error_bytes) {
    int rc = nng_rep0_open(socket);
    if (rc == 0) rc = nng_socket_set_size(*socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_RECVTIMEO, WAITING_LOOK_MS);
    if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_SENDTIMEO, 10 * WAITING_LOOK_MS);
    if (rc == 0) return tls_listen(*socket, o->listen, o->tls, listener, error, error_bytes);
    snprintf(error, error_bytes, "cannot set a socket: %s", nng_strerror(rc));
    return rc;
}

int waiting_run(const struct waiting_options *options, void (*ready)(void *arg, const char *listen),
                char *error, size_t error_bytes) {
    nng_socket socket = NNG_SOCKET_INITIALIZER;
    nng_listener listener = NNG_LISTENER_INITIALIZER;
    struct waiting *w = calloc(1, sizeof *w);
    uint8_t *data = malloc(WAITING_SEED_BYTES_MAX);
    int rc = w && data ? waiting_listen(options, &socket, &listener, error, error_bytes)
                       : NNG_ENOMEM;
    int outcome = -1;
    if (rc == NNG_EADDRINUSE || rc == NNG_ENOMEM) {
        snprintf(error, error_bytes, "cannot listen on %s (--listen): %s", options->listen,
                 tls_listen_why(rc));
    } else if (rc == 0) {
        *w = (struct waiting){.options = options, .data = data};
        if (getrandom(&w->process, sizeof w->process, 0) != (ssize_t)sizeof w->process)
            w->process = 0; /* nobody compares that */
        tls_listener_address(listener, options->listen, w->listen, sizeof w->listen);
        ready(options->arg, w->listen);
        bool good = true;
        while (good && !w->adopted && !options->stopped(options->arg))
            good = waiting_turn(w, socket);
        if (w->adopted) usleep(WAITING_LOOK_MS * 1000); /* for the reply to leave */
        outcome = w->adopted ? 0 : 1;
    }
    if (socket.id != 0) nng_close(socket);
    free(data);
    free(w);
    return outcome;
}
