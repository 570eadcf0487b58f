#include "engine/feed/responder.h"

#include <nng/protocol/reqrep0/rep.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/limits.h"
#include "engine/wire/reply_patience.h"
#include "engine/wire/tls.h"

struct responder_slot {
    struct responder *responder;
    nng_ctx ctx;
    nng_aio *aio;
    nng_pipe pipe;             /* the client's connection */
    size_t reply_bytes;        /* on their way out */
    int64_t until_ns;          /* given up before then, they have not waited */
    bool sending;              /* what the aio is doing */
};

struct responder {
    struct responder_options options;
    nng_socket socket;         /* id 0 = not open */
    char endpoint[ENDPOINT_BYTES_MAX];
    struct responder_slot *slots;
    atomic_bool halted;
    _Alignas(64) atomic_ullong in_flight;
    atomic_ullong received, replied, dropped, bytes_in, bytes_out, reply_bytes;
    struct reply_patience patience;
};

struct responder *responder_open(const struct responder_options *options, char *error,
                                 size_t error_bytes) {
    nng_listener listener;
    struct responder *r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);
    if (!r) {
        snprintf(error, error_bytes, "no memory for an endpoint");
        return NULL;
    }
    memset(r, 0, sizeof *r);
    r->options = *options;
    r->patience.share = options->share ? options->share : options->contexts;
    int rc = nng_rep0_open(&r->socket);
    if (rc == 0) rc = nng_socket_set_size(r->socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    if (rc == 0) {
        rc = tls_listen(r->socket, options->listen, options->tls, &listener, error, error_bytes);
    } else {
        snprintf(error, error_bytes, "cannot listen on %s: %s", options->listen, nng_strerror(rc));
    }
    if (rc == 0) {
        tls_listener_address(listener, options->listen, r->endpoint, sizeof r->endpoint);
        return r;
    }
    responder_close(r);
    return NULL;
}

const char *responder_endpoint(const struct responder *r) { return r->endpoint; }

static void receive_next(struct responder_slot *slot) {
    nng_aio_set_timeout(slot->aio, NNG_DURATION_INFINITE);
    nng_ctx_recv(slot->ctx, slot->aio);
}

static void sent(struct responder_slot *slot, int rc) {
    struct responder *r = slot->responder;
    slot->sending = false;
    atomic_fetch_sub(&r->reply_bytes, slot->reply_bytes);
    if (rc == 0) {
        atomic_fetch_add_explicit(&r->replied, 1, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(&r->dropped, 1, memory_order_relaxed);
        nng_msg_free(nng_aio_get_msg(slot->aio));
        nng_aio_set_msg(slot->aio, NULL);
    }
    if (reply_patience_end(&r->patience, slot->pipe.id, rc == NNG_ETIMEDOUT, slot->until_ns))
        nng_pipe_close(slot->pipe);
    atomic_fetch_sub(&r->in_flight, 1);
}

/* On one of nng's threads, or at once within nng_ctx_send on the replier's. */
static void on_aio(void *arg) {
    struct responder_slot *slot = arg;
    struct responder *r = slot->responder;
    int rc = nng_aio_result(slot->aio);
    if (slot->sending) {
        sent(slot, rc);
        if (rc != NNG_ECLOSED && rc != NNG_ECANCELED) receive_next(slot);
        return;
    }
    if (rc == NNG_ECLOSED || rc == NNG_ECANCELED) return;
    if (rc != 0) {
        receive_next(slot);
        return;
    }
    nng_msg *message = nng_aio_get_msg(slot->aio);
    nng_aio_set_msg(slot->aio, NULL);
    atomic_fetch_add(&r->in_flight, 1);
    if (atomic_load(&r->halted)) {
        nng_msg_free(message);
        atomic_fetch_sub(&r->in_flight, 1);
        return;
    }
    atomic_fetch_add_explicit(&r->received, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->bytes_in, nng_msg_len(message), memory_order_relaxed);
    slot->pipe = nng_msg_get_pipe(message);
    reply_patience_heard(&r->patience, slot->pipe.id, clock_mono_ns());
    r->options.take(r->options.arg, slot, message);
}

bool responder_start(struct responder *r, char *error, size_t error_bytes) {
    r->slots = calloc(r->options.contexts, sizeof *r->slots);
    int rc = r->slots ? 0 : NNG_ENOMEM;
    for (uint32_t i = 0; i < r->options.contexts && rc == 0; i++) {
        r->slots[i].responder = r;
        rc = nng_aio_alloc(&r->slots[i].aio, on_aio, &r->slots[i]);
        if (rc == 0) rc = nng_ctx_open(&r->slots[i].ctx, r->socket);
    }
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot make %u contexts for %s: %s", r->options.contexts,
                 r->endpoint, nng_strerror(rc));
        return false;
    }
    for (uint32_t i = 0; i < r->options.contexts; i++) receive_next(&r->slots[i]);
    return true;
}

void responder_reply(struct responder_slot *slot, nng_msg *reply) {
    struct responder *r = slot->responder;
    if (!reply) {
        atomic_fetch_add_explicit(&r->dropped, 1, memory_order_relaxed);
        atomic_fetch_sub(&r->in_flight, 1);
        receive_next(slot);
        return;
    }
    slot->reply_bytes = nng_msg_len(reply);
    atomic_fetch_add_explicit(&r->bytes_out, slot->reply_bytes, memory_order_relaxed);
    atomic_fetch_add(&r->reply_bytes, slot->reply_bytes);
    slot->sending = true;
    nng_aio_set_timeout(slot->aio,
                        reply_patience_wait(&r->patience, slot->pipe.id, &slot->until_ns));
    nng_aio_set_msg(slot->aio, reply);
    nng_ctx_send(slot->ctx, slot->aio);
}

void responder_halt(struct responder *r) { atomic_store(&r->halted, true); }

bool responder_is_idle(const struct responder *r) { return atomic_load(&r->in_flight) == 0; }

void responder_close(struct responder *r) {
    if (r->socket.id != 0) nng_close(r->socket);
    for (uint32_t i = 0; r->slots && i < r->options.contexts; i++) {
        if (r->slots[i].aio) nng_aio_free(r->slots[i].aio);
    }
    free(r->slots);
    free(r);
}

void responder_stats(const struct responder *r, struct responder_stats *stats) {
    *stats = (struct responder_stats){
        .received = atomic_load_explicit(&r->received, memory_order_relaxed),
        .replied = atomic_load_explicit(&r->replied, memory_order_relaxed),
        .dropped = atomic_load_explicit(&r->dropped, memory_order_relaxed),
        .bytes_in = atomic_load_explicit(&r->bytes_in, memory_order_relaxed),
        .bytes_out = atomic_load_explicit(&r->bytes_out, memory_order_relaxed),
        .in_flight = atomic_load(&r->in_flight),
        .reply_bytes = atomic_load(&r->reply_bytes)};
}
