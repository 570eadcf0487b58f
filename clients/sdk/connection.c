#include "clients/sdk/connection.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clients/sdk/sdk_clock.h"
#include "engine/base/clock.h"
#include "engine/limits.h"
#include "engine/wire/socket_close.h"
#include "engine/wire/tls.h"

enum { CONNECTION_RECONNECT_MS_MIN = 20,
       CONNECTION_RECONNECT_MS_MAX = 200, SETTLE_LOOK_NS = 500000 };

static void connection_pipe_event(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct connection *c = arg;
    bool up = event == NNG_PIPE_EV_ADD_POST;
    if (event == NNG_PIPE_EV_ADD_PRE) {
        pipe_list_announce(&c->list, pipe.id, nng_pipe_dialer(pipe).id);
        return;
    }
    if (!(up ? pipe_list_come(&c->list, pipe.id) : pipe_list_go(&c->list, pipe.id))) return;
    atomic_store(&c->dialled_ns, clock_coarse_ns());
    if (up) atomic_store(&c->redial_ns, CONNECTION_REDIAL_NS_MIN);
    atomic_fetch_add(&c->pipes, up ? 1 : -1);
    c->on_change(c->arg, up);
}

static nng_socket connection_socket(const struct connection *c) {
    return (nng_socket){c->socket};
}

static int connection_configure(struct connection *c) {
    nng_socket socket = connection_socket(c);
    int rc;
    if ((rc = nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) != 0 ||
        (rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, CONNECTION_RECONNECT_MS_MIN)) != 0 ||
        (rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, CONNECTION_RECONNECT_MS_MAX)) != 0 ||
        (rc = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX)) != 0 ||
        (rc = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_PRE, connection_pipe_event, c)) != 0 ||
        (rc = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, connection_pipe_event, c)) != 0)
        return rc;
    return nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, connection_pipe_event, c);
}

static int connection_dial_one(struct connection *c, const char *address, size_t size,
                               const struct tls_options *tls, char *error, size_t error_bytes) {
    char text[NNG_MAXADDRLEN];
    nng_dialer dialer;
    snprintf(text, sizeof text, "%.*s", (int)size, address);
    snprintf(error, error_bytes, "cannot use the address \"%s\"", text);
    if (size == 0 || size >= sizeof text) return NNG_EADDRINVAL;
    if (c->dialers_count == CONNECTION_DIALERS_MAX) return NNG_EINVAL;
    int rc = tls_dial(connection_socket(c), text, tls, &dialer, error, error_bytes);
    if (rc == 0) c->dialers[c->dialers_count++] = dialer.id;
    return rc;
}

/* Up to the first one that fails, or all that can be dialled. */
static int connection_dial(struct connection *c, const char *addresses,
                           const struct tls_options *tls, bool all, char *error,
                           size_t error_bytes) {
    const char *at = addresses;
    for (;;) {
        size_t size = strcspn(at, ",");
        int rc = connection_dial_one(c, at, size, tls, error, error_bytes);
        if ((rc != 0 && !all) || at[size] == '\0') return rc;
        at += size + 1;
    }
}

int connection_open(struct connection *c, const char *addresses, const struct tls_options *tls,
                    void (*on_change)(void *arg, bool up), void *arg, char *error,
                    size_t error_bytes) {
    atomic_init(&c->pipes, 0);
    atomic_init(&c->dialled_ns, clock_coarse_ns());
    atomic_init(&c->redial_ns, CONNECTION_REDIAL_NS_MIN);
    c->dialers_count = 0;
    c->on_change = on_change;
    c->arg = arg;
    nng_socket socket;
    int rc = nng_req0_open(&socket);
    bool opened = rc == 0;
    if (opened) {
        c->socket = socket.id;
        pipe_list_init(&c->list);
        rc = connection_configure(c);
    }
    if (rc != 0)
        snprintf(error, error_bytes, "cannot open a socket for %s: %s", addresses,
                 nng_strerror(rc));
    else rc = connection_dial(c, addresses, tls, false, error, error_bytes);
    if (rc != 0 && opened) connection_close(c);
    return rc;
}

bool connection_is_overdue(struct connection *c, int64_t now_ns) {
    int64_t since_ns = now_ns - atomic_load(&c->dialled_ns);
    return !connection_is_up(c) && since_ns >= atomic_load(&c->redial_ns);
}

void connection_redial(struct connection *c, const char *addresses, const struct tls_options *tls,
                       int64_t now_ns) {
    char error[CONNECTION_ERROR_BYTES];
    int64_t next_ns = 2 * atomic_load(&c->redial_ns);
    atomic_store(&c->redial_ns,
                 next_ns < CONNECTION_REDIAL_NS_MAX ? next_ns : CONNECTION_REDIAL_NS_MAX);
    atomic_store(&c->dialled_ns, now_ns);
    while (c->dialers_count > 0) nng_dialer_close((nng_dialer){c->dialers[--c->dialers_count]});
    (void)connection_dial(c, addresses, tls, true, error, sizeof error);
}

int connection_error_no_memory(void) { return NNG_ENOMEM; }

void connection_close(struct connection *c) {
    socket_close(connection_socket(c));
    pipe_list_fini(&c->list);
}

/* -- one exchange ------------------------------------------------------------------------------ */

/* Runs once per begun exchange: whatever happens to the request, its receive ends. */
static void exchange_received(void *arg) {
    struct exchange *x = arg;
    int rc = nng_aio_result(x->recv_aio);
    /* A reply can be here before nng has finished the send that it answers. */
    nng_aio_wait(x->send_aio);
    if (rc == 0) {
        nng_msg *reply = nng_aio_get_msg(x->recv_aio);
        x->on_end(x->arg, EXCHANGE_REPLIED, nng_msg_body(reply), nng_msg_len(reply));
        nng_msg_free(reply);
        atomic_fetch_sub(&x->open, 1);
        return;
    }
    /* The context gives a request back that never reached a pipe: that is how "certainly not sent"
     * is told from "perhaps". */
    bool sent = nng_aio_result(x->send_aio) == 0;
    if (!sent) {
        nng_msg *unsent = nng_aio_get_msg(x->send_aio);
        if (unsent) nng_msg_free(unsent);
        nng_aio_set_msg(x->send_aio, NULL);
    }
    x->on_end(x->arg, sent ? EXCHANGE_NO_REPLY : EXCHANGE_NOT_SENT, NULL, 0);
    atomic_fetch_sub(&x->open, 1);
}

bool exchange_init(struct exchange *x,
                   void (*on_end)(void *arg, enum exchange_end end, const void *data, size_t bytes),
                   void *arg) {
    *x = (struct exchange){.on_end = on_end, .arg = arg};
    /* No callback for the send: it would cost a change of threads for each message. */
    if (nng_aio_alloc(&x->send_aio, NULL, NULL) != 0) return false;
    if (nng_aio_alloc(&x->recv_aio, exchange_received, x) != 0) {
        nng_aio_free(x->send_aio);
        x->send_aio = NULL;
        return false;
    }
    nng_aio_set_timeout(x->send_aio, NNG_DURATION_INFINITE);
    nng_aio_set_timeout(x->recv_aio, NNG_DURATION_INFINITE);
    return true;
}

void exchange_settle(struct exchange *x, int64_t until_ns) {
    while (x->recv_aio && x->bound && connection_is_up(x->bound) && atomic_load(&x->open) > 0 &&
           clock_mono_ns() < until_ns)
        nanosleep(&(struct timespec){.tv_nsec = SETTLE_LOOK_NS}, NULL);
}

void exchange_fini(struct exchange *x) {
    if (!x->recv_aio) return;
    exchange_abort(x);
    nng_aio_wait(x->recv_aio);
    nng_aio_free(x->recv_aio);
    nng_aio_free(x->send_aio);
    if (x->request) nng_msg_free(x->request);
    x->recv_aio = x->send_aio = NULL;
}

void *exchange_request(struct exchange *x, size_t bytes) {
    if (x->request) nng_msg_free(x->request);
    x->request = NULL;
    if (nng_msg_alloc(&x->request, bytes) != 0) return NULL;
    return nng_msg_body(x->request);
}

bool exchange_begin(struct exchange *x, struct connection *c) {
    if (x->bound != c) {
        exchange_abort(x);
        nng_ctx context;
        if (nng_ctx_open(&context, connection_socket(c)) != 0) return false;
        x->context = context.id;
        x->bound = c;
    }
    atomic_fetch_add(&x->open, 1);
    nng_aio_set_msg(x->send_aio, x->request);
    x->request = NULL;
    nng_ctx context = {x->context};
    nng_ctx_send(context, x->send_aio);
    nng_ctx_recv(context, x->recv_aio);
    return true;
}

void exchange_abort(struct exchange *x) {
    /* A context is closed rather than its receive cancelled: nng 1.5.2 loses track of a request
     * that is still waiting for a pipe when its receive is cancelled. */
    if (!x->bound) return;
    x->bound = NULL;
    nng_ctx_close((nng_ctx){x->context});
}
