#include "engine/feed/notify.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/ulid.h"
#include "engine/limits.h"
#include "engine/wire/feed_protocol.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/tls.h"

enum { NOTIFIER_QUEUE_MESSAGES = 1024 }; /* per subscriber; beyond it nng drops */

struct notifier {
    nng_socket socket;         /* id 0 = not open */
    char endpoint[ENDPOINT_BYTES_MAX];
    atomic_uint heard;         /* subscribers now */
    atomic_ullong sent;
};

/* Not ADD_POST: who speaks another protocol is turned away before it, and goes like all others. */
static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct notifier *n = arg;
    if (event == NNG_PIPE_EV_ADD_PRE) atomic_fetch_add(&n->heard, 1);
    else atomic_fetch_sub(&n->heard, 1);
}

struct notifier *notifier_open(const char *listen, const struct tls_options *tls, char *error,
                               size_t error_bytes) {
    nng_listener listener;
    struct notifier *n = calloc(1, sizeof *n);
    if (!n) {
        snprintf(error, error_bytes, "no memory for notifications");
        return NULL;
    }
    int rc = nng_pub0_open(&n->socket);
    if (rc == 0) rc = nng_socket_set_int(n->socket, NNG_OPT_SENDBUF, NOTIFIER_QUEUE_MESSAGES);
    if (rc == 0) rc = nng_pipe_notify(n->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, n);
    if (rc == 0) rc = nng_pipe_notify(n->socket, NNG_PIPE_EV_REM_POST, on_pipe, n);
    if (rc != 0)
        snprintf(error, error_bytes, "cannot listen on %s: %s", listen, nng_strerror(rc));
    else rc = tls_listen(n->socket, listen, tls, &listener, error, error_bytes);
    if (rc != 0) {
        notifier_close(n);
        return NULL;
    }
    tls_listener_address(listener, listen, n->endpoint, sizeof n->endpoint);
    return n;
}

const char *notifier_endpoint(const struct notifier *n) { return n->endpoint; }

bool notifier_is_heard(const struct notifier *n) {
    return atomic_load_explicit(&n->heard, memory_order_relaxed) > 0;
}

uint32_t notifier_subscribers(const struct notifier *n) { return atomic_load(&n->heard); }

uint64_t notifier_sent(const struct notifier *n) { return atomic_load(&n->sent); }

size_t notice_encode(const char *prefix, struct bytes id, const struct notice *notice,
                     uint8_t buffer[NOTICE_BYTES_MAX]) {
    struct msgpack_writer w;
    char topic[FEED_TOPIC_BYTES_MAX];
    size_t head = strlen(prefix);
    require(head + id.size <= sizeof topic);
    memcpy(topic, prefix, head);
    if (id.size != 0) memcpy(topic + head, id.data, id.size);
    msgpack_writer_init(&w, buffer, NOTICE_BYTES_MAX);
    msgpack_write_str(&w, topic, (uint32_t)head + id.size);
    msgpack_write_array(&w, 6);
    msgpack_write_uint(&w, notice->kind);
    msgpack_write_uint(&w, notice->version);
    msgpack_write_uint(&w, notice->shard);
    msgpack_write_uint(&w, notice->index);
    msgpack_write_bin(&w, notice->key.bytes, 16);
    msgpack_write_uint(&w, notice->state);
    require(msgpack_writer_ok(&w));
    return msgpack_writer_size(&w);
}

static void send_one(struct notifier *n, const char *prefix, struct bytes id,
                     const struct notice *notice) {
    uint8_t buffer[NOTICE_BYTES_MAX];
    nng_msg *message;
    size_t size = notice_encode(prefix, id, notice, buffer);
    if (nng_msg_alloc(&message, size) != 0) return;
    memcpy(nng_msg_body(message), buffer, size);
    if (nng_sendmsg(n->socket, message, NNG_FLAG_NONBLOCK) != 0) {
        nng_msg_free(message);
        return;
    }
    atomic_fetch_add_explicit(&n->sent, 1, memory_order_relaxed);
}

void notifier_send(struct notifier *n, const struct notice *notice) {
    char text[ULID_TEXT_SIZE + 1];
    if (!id128_is_zero(&notice->key)) {
        ulid_format(&notice->key, text);
        send_one(n, "order/", bytes_of(text, ULID_TEXT_SIZE), notice);
    }
    if (notice->store.size != 0) send_one(n, "store/", notice->store, notice);
    if (notice->customer.size != 0) send_one(n, "customer/", notice->customer, notice);
}

void notifier_close(struct notifier *n) {
    if (n->socket.id != 0) nng_close(n->socket);
    free(n);
}
