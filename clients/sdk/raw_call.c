#include "clients/sdk/raw_call.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/wire/tls.h"

enum { RAW_CALL_RESEND_NEVER_MS = 3600000 };

static int raw_call_open(const char *address, uint32_t timeout_ms, nng_socket *socket,
                         char *error, size_t error_bytes) {
    int rc = nng_req0_open(socket);
    if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_SENDTIMEO, (nng_duration)timeout_ms);
    if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_RECVTIMEO, (nng_duration)timeout_ms);
    if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_REQ_RESENDTIME, RAW_CALL_RESEND_NEVER_MS);
    if (rc == 0) rc = nng_socket_set_size(*socket, NNG_OPT_RECVMAXSZ, 0);
    nng_dialer dialer;
    /* A handshake has no time limit of its own: then the one of the send counts. */
    bool waits = !tls_is_wanted(address);
    return rc == 0 ? tls_dial_once(*socket, address, tls_of_environment(), waits, &dialer, error,
                                   error_bytes)
                   : rc;
}

bool raw_call(const char *address, uint32_t timeout_ms, const void *request, size_t bytes,
              void **reply, size_t *reply_bytes, bool *sent, char *error, size_t error_bytes) {
    nng_socket socket = NNG_SOCKET_INITIALIZER;
    nng_msg *message = NULL;
    *reply = NULL;
    error[0] = 0;
    *sent = false;
    int rc = raw_call_open(address, timeout_ms, &socket, error, error_bytes);
    if (rc == 0) rc = nng_msg_alloc(&message, bytes);
    if (rc == 0) {
        memcpy(nng_msg_body(message), request, bytes);
        rc = nng_sendmsg(socket, message, 0);
        if (rc != 0) nng_msg_free(message);
        *sent = rc == 0;
        message = NULL;
    }
    if (rc == 0) rc = nng_recvmsg(socket, &message, 0);
    if (rc == 0) {
        *reply_bytes = nng_msg_len(message);
        *reply = malloc(*reply_bytes ? *reply_bytes : 1);
        if (*reply) memcpy(*reply, nng_msg_body(message), *reply_bytes);
        else rc = NNG_ENOMEM;
        nng_msg_free(message);
    }
    if (socket.id != 0) nng_close(socket);
    if (rc != 0 && (error[0] == 0 || !tls_is_wanted(address)))
        snprintf(error, error_bytes, "%s", nng_strerror(rc));
    return rc == 0;
}
