#include "engine/replica/feed_client.h"

#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <string.h>

#include "engine/wire/msgpack_writer.h"
#include "engine/wire/protocol.h"
#include "engine/wire/tls.h"

enum { FEED_PULL_BYTES_MAX = 64 };

static int fail(char *error, size_t error_bytes, const char *url, const char *what) {
    snprintf(error, error_bytes, "%s: %s", url, what);
    return -1;
}

int feed_ask(const char *url, const void *request, size_t bytes, uint32_t timeout_ms,
             nng_msg **reply, char *error, size_t error_bytes) {
    nng_socket socket;
    nng_msg *message = NULL;
    int rc = nng_req0_open(&socket);
    if (rc != 0) return fail(error, error_bytes, url, nng_strerror(rc));
    nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, (nng_duration)timeout_ms);
    nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, (nng_duration)timeout_ms);
    nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    rc = nng_msg_alloc(&message, bytes);
    if (rc == 0) memcpy(nng_msg_body(message), request, bytes);
    if (rc == 0) {
        nng_dialer dialer;
        rc = tls_dial(socket, url, tls_of_environment(), &dialer, error, error_bytes);
        if (rc != 0) {
            nng_msg_free(message);
            nng_close(socket);
            return -1;
        }
    }
    if (rc == 0) rc = nng_sendmsg(socket, message, 0);
    if (rc != 0 && message) nng_msg_free(message);
    if (rc == 0) rc = nng_recvmsg(socket, reply, 0);
    nng_close(socket);
    if (rc == 0) return 0;
    return fail(error, error_bytes, url, rc == NNG_ETIMEDOUT ? "no answer" : nng_strerror(rc));
}

int feed_discover(const char *node, uint32_t timeout_ms, char feed[ENDPOINT_BYTES_MAX],
                  char *error, size_t error_bytes) {
    static const uint8_t request[] = {0x93, PROTOCOL_VERSION, 0xc0, 0x91, 0x91,
                                      NODE_COMMAND_SHARD_MAP};
    nng_msg *reply;
    if (strncmp(node, "feed:", 5) == 0) {
        snprintf(feed, ENDPOINT_BYTES_MAX, "%s", node + 5);
        return 0;
    }
    if (feed_ask(node, request, sizeof request, timeout_ms, &reply, error, error_bytes) != 0)
        return -1;
    bool found = feed_endpoint_decode(nng_msg_body(reply), nng_msg_len(reply), node, feed);
    nng_msg_free(reply);
    return found ? 0 : fail(error, error_bytes, node, "it tells of no feed");
}

int feed_hello(const char *feed, uint32_t timeout_ms, struct feed_hello *hello, nng_msg **reply,
               char *error, size_t error_bytes) {
    uint8_t request[8];
    struct msgpack_writer w;
    struct feed_reply answer;
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_HELLO);
    if (feed_ask(feed, request, msgpack_writer_size(&w), timeout_ms, reply, error,
                 error_bytes) != 0)
        return -1;
    if (feed_reply_decode(nng_msg_body(*reply), nng_msg_len(*reply), FEED_HELLO, FEED_RECORDS,
                          &answer) &&
        answer.code == RESULT_OK && feed_hello_decode(answer.rest, hello))
        return 0;
    nng_msg_free(*reply);
    return fail(error, error_bytes, feed, "it does not speak the feed's protocol");
}

nng_msg *feed_pull_message(uint32_t shard, uint64_t from, uint32_t wait_ms, uint32_t bytes_max) {
    nng_msg *message;
    struct msgpack_writer w;
    if (nng_msg_alloc(&message, FEED_PULL_BYTES_MAX) != 0) return NULL;
    msgpack_writer_init(&w, nng_msg_body(message), FEED_PULL_BYTES_MAX);
    msgpack_write_array(&w, 6);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_PULL);
    msgpack_write_uint(&w, shard);
    msgpack_write_uint(&w, from);
    msgpack_write_uint(&w, wait_ms);
    msgpack_write_uint(&w, bytes_max);
    nng_msg_chop(message, FEED_PULL_BYTES_MAX - msgpack_writer_size(&w));
    return message;
}
