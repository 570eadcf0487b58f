#include "clients/sdk/raw_call.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/wire/socket_close.h"
#include "engine/wire/tls.h"

enum {
    RAW_CALL_RESEND_NEVER_MS = 3600000,
    /* nng 1.5.2 loses an encrypted greeting once in some thousand times, most of all under load: it
     * waits for ever. A request that has not left goes to a new connection then, with twice the
     * patience. */
    RAW_CALL_GREETING_MS = 1500
};

static int raw_call_open(const char *address, uint32_t timeout_ms, nng_socket *socket,
                         char *error, size_t error_bytes) {
    int rc = nng_req0_open(socket);
    if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_SENDTIMEO, (nng_duration)timeout_ms);
    if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_REQ_RESENDTIME, RAW_CALL_RESEND_NEVER_MS);
    if (rc == 0) rc = nng_socket_set_size(*socket, NNG_OPT_RECVMAXSZ, 0);
    nng_dialer dialer;
    /* A handshake has no time limit of its own: then the one of the send counts. */
    uint32_t wait_ms = tls_is_wanted(address) ? 0 : timeout_ms;
    return rc == 0 ? tls_dial_once(*socket, address, tls_of_environment(), wait_ms, &dialer, error,
                                   error_bytes)
                   : rc;
}

/* One connection, and the request on its way; else nothing is left of it. */
static int raw_call_send(const char *address, uint32_t timeout_ms, const void *request,
                         size_t bytes, nng_socket *socket, char *error, size_t error_bytes) {
    nng_msg *message = NULL;
    *socket = (nng_socket)NNG_SOCKET_INITIALIZER;
    int rc = raw_call_open(address, timeout_ms, socket, error, error_bytes);
    if (rc == 0) rc = nng_msg_alloc(&message, bytes);
    if (rc == 0) {
        memcpy(nng_msg_body(message), request, bytes);
        rc = nng_sendmsg(*socket, message, 0);
        if (rc != 0) nng_msg_free(message);
    }
    if (rc != 0 && socket->id != 0) socket_close(*socket);
    return rc;
}

static int raw_call_receive(nng_socket socket, int64_t left_ms, void **reply,
                            size_t *reply_bytes) {
    nng_msg *message;
    int rc = nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, left_ms > 1 ? (nng_duration)left_ms : 1);
    if (rc == 0) rc = nng_recvmsg(socket, &message, 0);
    if (rc != 0) return rc;
    *reply_bytes = nng_msg_len(message);
    *reply = malloc(*reply_bytes ? *reply_bytes : 1);
    if (*reply) memcpy(*reply, nng_msg_body(message), *reply_bytes);
    nng_msg_free(message);
    return *reply ? 0 : NNG_ENOMEM;
}

bool raw_call(const char *address, uint32_t timeout_ms, const void *request, size_t bytes,
              void **reply, size_t *reply_bytes, bool *sent, char *error, size_t error_bytes) {
    nng_socket socket;
    int64_t until_ms = clock_mono_ms() + timeout_ms, left_ms = timeout_ms;
    int64_t patience_ms = tls_is_wanted(address) ? RAW_CALL_GREETING_MS : timeout_ms;
    int rc;
    *reply = NULL;
    error[0] = 0;
    do {
        if (patience_ms > left_ms) patience_ms = left_ms;
        rc = raw_call_send(address, (uint32_t)patience_ms, request, bytes, &socket, error,
                           error_bytes);
        left_ms = until_ms - clock_mono_ms();
        patience_ms *= 2;
    } while (rc == NNG_ETIMEDOUT && left_ms > 0);
    *sent = rc == 0;
    if (rc == 0) {
        rc = raw_call_receive(socket, left_ms, reply, reply_bytes);
        socket_close(socket);
    }
    if (rc != 0 && (error[0] == 0 || !tls_is_wanted(address)))
        snprintf(error, error_bytes, "%s", nng_strerror(rc));
    return rc == 0;
}
