#include "engine/replica/feed_client.h"

#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <string.h>

#include "actors/result_codes.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/protocol.h"
#include "engine/wire/socket_close.h"
#include "engine/wire/tls.h"

enum { FEED_PULL_BYTES_MAX = 64 };

static int fail(char *error, size_t error_bytes, const char *url, const char *what) {
    snprintf(error, error_bytes, "%s: %s", url, what);
    return -1;
}

int feed_link_open(nng_socket *link, const char *url, const struct tls_options *tls,
                   uint32_t timeout_ms, char *error, size_t error_bytes) {
    nng_dialer dialer;
    int rc = nng_req0_open(link);
    if (rc != 0) return fail(error, error_bytes, url, nng_strerror(rc));
    nng_socket_set_ms(*link, NNG_OPT_SENDTIMEO, (nng_duration)timeout_ms);
    nng_socket_set_ms(*link, NNG_OPT_RECVTIMEO, (nng_duration)timeout_ms);
    nng_socket_set_size(*link, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    if (tls_dial(*link, url, tls, &dialer, error, error_bytes) == 0) return 0;
    socket_close(*link);
    return -1;
}

static int asked(int rc, const char *url, char *error, size_t error_bytes) {
    if (rc == 0) return 0;
    return fail(error, error_bytes, url, rc == NNG_ETIMEDOUT ? "no answer" : nng_strerror(rc));
}

int feed_link_ask(nng_socket link, const char *url, nng_msg *request, nng_msg **reply, char *error,
                  size_t error_bytes) {
    int rc = request ? nng_sendmsg(link, request, 0) : NNG_ENOMEM;
    if (rc != 0 && request) nng_msg_free(request);
    if (rc == 0) rc = nng_recvmsg(link, reply, 0);
    return asked(rc, url, error, error_bytes);
}

/* The same, ended by nng_aio_stop(). */
static int link_ask_with(nng_socket link, const char *url, nng_msg *request, uint32_t timeout_ms,
                         nng_aio *with, nng_msg **reply, char *error, size_t error_bytes) {
    if (!with) return feed_link_ask(link, url, request, reply, error, error_bytes);
    if (!request) return asked(NNG_ENOMEM, url, error, error_bytes);
    nng_aio_set_timeout(with, (nng_duration)timeout_ms);
    nng_aio_set_msg(with, request);
    nng_send_aio(link, with);
    nng_aio_wait(with);
    int rc = nng_aio_result(with);
    if (rc != 0) nng_msg_free(request);
    nng_aio_set_msg(with, NULL);
    if (rc == 0) {
        nng_recv_aio(link, with);
        nng_aio_wait(with);
        rc = nng_aio_result(with);
    }
    if (rc == 0) *reply = nng_aio_get_msg(with);
    nng_aio_set_msg(with, NULL);
    return asked(rc, url, error, error_bytes);
}

bool feed_pause(uint32_t pause_ms, nng_aio *with) {
    nng_sleep_aio((nng_duration)pause_ms, with);
    nng_aio_wait(with);
    return nng_aio_result(with) == 0;
}

static nng_msg *message_of(const void *request, size_t bytes) {
    nng_msg *message;
    if (nng_msg_alloc(&message, bytes) != 0) return NULL;
    memcpy(nng_msg_body(message), request, bytes);
    return message;
}

int feed_ask(const char *url, const void *request, size_t bytes, uint32_t timeout_ms,
             nng_aio *with, nng_msg **reply, char *error, size_t error_bytes) {
    nng_socket link;
    if (feed_link_open(&link, url, tls_of_environment(), timeout_ms, error, error_bytes) != 0)
        return -1;
    int rc = link_ask_with(link, url, message_of(request, bytes), timeout_ms, with, reply, error,
                           error_bytes);
    socket_close(link);
    return rc;
}

static const uint8_t discovery[] = {0x93, PROTOCOL_VERSION, 0xc0, 0x91, 0x91,
                                    NODE_COMMAND_SHARD_MAP};

nng_msg *feed_discover_message(void) { return message_of(discovery, sizeof discovery); }

/* Who answers a SHARD_MAP without telling of a feed: a refusal of a feed has a detail behind the
 * sentence, what a replica answers has its tokens. */
static const char *no_feed_text(const void *message, size_t size) {
    struct msgpack_reader r;
    uint32_t fields;
    uint64_t version, code;
    msgpack_reader_init(&r, message, size);
    if (msgpack_read_array(&r, &fields) == MSGPACK_OK &&
        msgpack_read_uint(&r, &version) == MSGPACK_OK &&
        msgpack_read_uint(&r, &code) == MSGPACK_OK) {
        if (code != RESULT_OK && fields > 3)
            return "the feed of a node answers there: name the general endpoint (--listen)";
        if (code == RESULT_OK && fields == 5) return "a replica answers there, not a node";
    }
    return "it tells of no feed";
}

int feed_discover(const char *node, uint32_t timeout_ms, nng_aio *with,
                  char feed[ENDPOINT_BYTES_MAX], char *error, size_t error_bytes) {
    nng_msg *reply;
    if (strncmp(node, "feed:", 5) == 0) {
        snprintf(feed, ENDPOINT_BYTES_MAX, "%s", node + 5);
        return 0;
    }
    if (feed_ask(node, discovery, sizeof discovery, timeout_ms, with, &reply, error,
                 error_bytes) != 0)
        return -1;
    bool found = feed_endpoint_decode(nng_msg_body(reply), nng_msg_len(reply), node, feed);
    const char *why = found ? NULL : no_feed_text(nng_msg_body(reply), nng_msg_len(reply));
    nng_msg_free(reply);
    return found ? 0 : fail(error, error_bytes, node, why);
}

static nng_msg *hello_message(void) {
    uint8_t request[8];
    struct msgpack_writer w;
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_HELLO);
    return message_of(request, msgpack_writer_size(&w));
}

static int hello_take(const char *feed, struct feed_hello *hello, nng_msg **reply, char *error,
                      size_t error_bytes) {
    struct feed_reply answer;
    if (feed_reply_decode(nng_msg_body(*reply), nng_msg_len(*reply), FEED_HELLO, FEED_RECORDS,
                          &answer) &&
        answer.code == RESULT_OK && feed_hello_decode(answer.rest, hello))
        return 0;
    nng_msg_free(*reply);
    return fail(error, error_bytes, feed, "it does not speak the feed's protocol");
}

int feed_hello(const char *feed, uint32_t timeout_ms, nng_aio *with, struct feed_hello *hello,
               nng_msg **reply, char *error, size_t error_bytes) {
    nng_socket link;
    if (feed_link_open(&link, feed, tls_of_environment(), timeout_ms, error, error_bytes) != 0)
        return -1;
    int rc = link_ask_with(link, feed, hello_message(), timeout_ms, with, reply, error,
                           error_bytes);
    socket_close(link);
    return rc == 0 ? hello_take(feed, hello, reply, error, error_bytes) : -1;
}

int feed_link_hello(nng_socket link, const char *feed, struct feed_hello *hello, nng_msg **reply,
                    char *error, size_t error_bytes) {
    if (feed_link_ask(link, feed, hello_message(), reply, error, error_bytes) != 0) return -1;
    return hello_take(feed, hello, reply, error, error_bytes);
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
