/* The transport: request and reply over nng. Beside subscription.c the only file that knows nng.
 *
 * A connection is one REQ socket that dials one or several addresses for as long as it lives; an
 * exchange is one request on its way, bound to a context of a socket. nng's own retry is off: the
 * library decides itself what is sent again. */
#ifndef JUMUN_SDK_CONNECTION_H
#define JUMUN_SDK_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/sdk/pipe_list.h"

struct nng_aio;
struct nng_msg;
struct tls_options;

enum { CONNECTION_DIALERS_MAX = 32, CONNECTION_ERROR_BYTES = 512 };
/* Without a connection for so long it is dialled anew, and again after twice that each time, up to
 * the longer one. */
#define CONNECTION_REDIAL_NS_MIN 3000000000LL
#define CONNECTION_REDIAL_NS_MAX 60000000000LL

struct connection {
    uint32_t socket;                     /* nng's number */
    uint32_t dialers[CONNECTION_DIALERS_MAX], dialers_count; /* nng's numbers */
    atomic_int pipes;                    /* connections that stand now */
    struct pipe_list list;               /* which */
    _Atomic int64_t dialled_ns;          /* ... anew, or when the last connection went */
    _Atomic int64_t redial_ns;           /* so long after that it is dialled anew */
    void (*on_change)(void *arg, bool up); /* a pipe came or went; thread of nng; must not block */
    void *arg;
};

/* Starts dialling `addresses` (comma-separated) and returns at once. `tls`: for those that begin
 * with tls+tcp://. 0, or an nng error number with a sentence that names the address. on_change may
 * be called before the return. */
int connection_open(struct connection *c, const char *addresses, const struct tls_options *tls,
                    void (*on_change)(void *arg, bool up), void *arg, char *error,
                    size_t error_bytes);
int connection_error_no_memory(void);
/* No exchange may use it any more. Not from a callback. */
void connection_close(struct connection *c);

/* Whether no connection stands although that has been waited for long enough. */
bool connection_is_overdue(struct connection *c, int64_t now_ns);
/* Dials `addresses` with new dialers instead of those it has. nng 1.5.2 takes a connection that
 * breaks while it is being greeted (EPIPE) for the end of its dialer, which then dials no more:
 * nothing tells, so what stays down for long is dialled anew; an address that cannot be dialled now
 * keeps the others from nothing, and is tried again the next time. Requests that wait for a
 * connection go on waiting. One thread at a time; not from a callback. */
void connection_redial(struct connection *c, const char *addresses, const struct tls_options *tls,
                       int64_t now_ns);

static inline bool connection_is_up(const struct connection *c) {
    return atomic_load_explicit(&c->pipes, memory_order_relaxed) > 0;
}

enum exchange_end {
    EXCHANGE_REPLIED,
    EXCHANGE_NOT_SENT,  /* certainly never left */
    EXCHANGE_NO_REPLY   /* may have arrived */
};

struct exchange {
    struct nng_aio *send_aio, *recv_aio;
    uint32_t context;          /* nng's number */
    struct connection *bound;  /* whose context it is; NULL = none open */
    struct nng_msg *request;   /* while it is being filled */
    atomic_int open;           /* begun, and not at the end of on_end yet */
    /* Ends the exchange; `data` lives until the return. From a thread of nng. exchange_begin() may
     * be called again from then on, also from inside. */
    void (*on_end)(void *arg, enum exchange_end end, const void *data, size_t bytes);
    void *arg;
};

/* False for lack of memory. */
bool exchange_init(struct exchange *x,
                   void (*on_end)(void *arg, enum exchange_end end, const void *data, size_t bytes),
                   void *arg);
/* Gives the reply until then (clock_mono_ns()) to come. Before exchange_fini(), when nobody begins
 * any more and the connection is about to be closed: nng 1.5.2 cannot close a socket on which a
 * message comes in at that very moment (engine/wire/socket_close.h). Replies to requests that were
 * given up may come all the same. Not from a callback. */
void exchange_settle(struct exchange *x, int64_t until_ns);
/* Waits for a running end. Not from a callback. */
void exchange_fini(struct exchange *x);

/* A request of `bytes` to be filled in; NULL for lack of memory. */
void *exchange_request(struct exchange *x, size_t bytes);
/* Sends the request. on_end follows exactly once, never from inside this call. False: no context
 * could be had; nothing was sent and no on_end will come. Never blocks. */
bool exchange_begin(struct exchange *x, struct connection *c);
/* Ends a begun exchange early: on_end comes from another thread, unless it is running already. No
 * exchange_begin() may run at the same time. Any thread. */
void exchange_abort(struct exchange *x);

#endif
