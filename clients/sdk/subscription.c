#include "clients/sdk/subscription.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/sdk/endpoint.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/socket_close.h"
#include "engine/wire/tls.h"

enum { SUBSCRIPTION_QUEUE_MESSAGES = 4096, SUBSCRIPTION_TOPIC_BYTES = 256 };

struct publisher {
    nng_dialer dialer;
    char address[ENDPOINT_ADDRESSES_BYTES]; /* "" = none */
    int64_t down_ns;           /* since when it was seen away, or was dialled anew; 0 = it is not */
    int64_t redial_ns;         /* so long after that it is dialled anew */
};

struct subscription {
    nng_socket socket;
    nng_aio *aio;
    pthread_mutex_t lock;      /* of the publishers */
    struct publisher publishers[SUBSCRIPTION_PUBLISHERS_MAX];
    struct pipe_list list;
    void (*on_heard)(void *arg, const struct heard *heard);
    void *arg;
    struct tls_options tls;
};

bool heard_decode(const void *message, size_t bytes, struct heard *heard) {
    struct msgpack_reader r;
    uint64_t kind, version, shard, state;
    uint32_t fields, key_bytes;
    const void *topic, *key;
    msgpack_reader_init(&r, message, bytes);
    if (msgpack_read_str(&r, &topic, &heard->topic_bytes) != MSGPACK_OK ||
        msgpack_read_array(&r, &fields) != MSGPACK_OK || fields < 6 ||
        msgpack_read_uint_upto(&r, UINT8_MAX, &kind) != MSGPACK_OK ||
        msgpack_read_uint_upto(&r, UINT32_MAX, &version) != MSGPACK_OK ||
        msgpack_read_uint_upto(&r, UINT16_MAX, &shard) != MSGPACK_OK ||
        msgpack_read_uint(&r, &heard->token.index) != MSGPACK_OK ||
        msgpack_read_bin(&r, &key, &key_bytes) != MSGPACK_OK || key_bytes != 16 ||
        msgpack_read_uint_upto(&r, UINT8_MAX, &state) != MSGPACK_OK)
        return false;
    heard->topic = topic;
    heard->kind = (uint8_t)kind;
    heard->version = (uint32_t)version;
    heard->token.shard = (uint32_t)shard;
    heard->state = (uint8_t)state;
    memcpy(heard->key.bytes, key, 16);
    return true;
}

static void subscription_received(void *arg) {
    struct subscription *s = arg;
    struct heard heard;
    int rc = nng_aio_result(s->aio);
    if (rc == NNG_ECLOSED || rc == NNG_ECANCELED) return;
    if (rc == 0) {
        nng_msg *message = nng_aio_get_msg(s->aio);
        if (heard_decode(nng_msg_body(message), nng_msg_len(message), &heard))
            s->on_heard(s->arg, &heard);
        nng_msg_free(message);
    }
    nng_recv_aio(s->socket, s->aio);
}

static void subscription_pipe_event(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct subscription *s = arg;
    if (event == NNG_PIPE_EV_ADD_PRE)
        pipe_list_announce(&s->list, pipe.id, nng_pipe_dialer(pipe).id);
    else if (event == NNG_PIPE_EV_REM_POST) (void)pipe_list_go(&s->list, pipe.id);
    else if (pipe_list_come(&s->list, pipe.id)) s->on_heard(s->arg, NULL);
}

static int subscription_notify(struct subscription *s) {
    static const nng_pipe_ev events[] = {NNG_PIPE_EV_ADD_PRE, NNG_PIPE_EV_ADD_POST,
                                         NNG_PIPE_EV_REM_POST};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof events / sizeof events[0]; i++)
        rc = nng_pipe_notify(s->socket, events[i], subscription_pipe_event, s);
    return rc;
}

struct subscription *subscription_open(void (*on_heard)(void *arg, const struct heard *heard),
                                       void *arg, const jumun_options *options) {
    struct subscription *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    tls_fill(&s->tls, options->tls_ca, options->tls_cert, options->tls_key);
    s->on_heard = on_heard;
    s->arg = arg;
    pthread_mutex_init(&s->lock, NULL);
    pipe_list_init(&s->list);
    if (nng_sub0_open(&s->socket) != 0) {
        pipe_list_fini(&s->list);
        pthread_mutex_destroy(&s->lock);
        free(s);
        return NULL;
    }
    if (nng_aio_alloc(&s->aio, subscription_received, s) != 0 ||
        nng_socket_set_int(s->socket, NNG_OPT_RECVBUF, SUBSCRIPTION_QUEUE_MESSAGES) != 0 ||
        nng_socket_set_ms(s->socket, NNG_OPT_RECONNMINT, 20) != 0 ||
        nng_socket_set_ms(s->socket, NNG_OPT_RECONNMAXT, 200) != 0 ||
        subscription_notify(s) != 0) {
        subscription_close(s);
        return NULL;
    }
    nng_recv_aio(s->socket, s->aio);
    return s;
}

/* With the lock. False: it cannot be dialled now. */
static bool publisher_dial(struct subscription *s, struct publisher *p, const char *address) {
    char why[256];
    nng_dialer_close(p->dialer); /* none: says so, and nothing else */
    bool ok = tls_dial(s->socket, address, &s->tls, &p->dialer, why, sizeof why) == 0;
    if (!ok) p->dialer = (nng_dialer)NNG_DIALER_INITIALIZER;
    return ok;
}

bool subscription_dial(struct subscription *s, uint32_t number, const char *address) {
    if (number >= SUBSCRIPTION_PUBLISHERS_MAX) return false;
    struct publisher *p = &s->publishers[number];
    pthread_mutex_lock(&s->lock);
    bool ok = strcmp(p->address, address) == 0;
    if (!ok) {
        ok = publisher_dial(s, p, address);
        snprintf(p->address, sizeof p->address, "%s", ok ? address : "");
        p->down_ns = 0;
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

/* With the lock. */
static void publisher_look(struct subscription *s, struct publisher *p, int64_t now_ns) {
    if (pipe_list_has(&s->list, p->dialer.id)) {
        p->down_ns = 0;
    } else if (p->down_ns == 0) {
        p->down_ns = now_ns;
        p->redial_ns = CONNECTION_REDIAL_NS_MIN;
    } else if (now_ns - p->down_ns >= p->redial_ns) {
        p->down_ns = now_ns;
        p->redial_ns *= 2;
        if (p->redial_ns > CONNECTION_REDIAL_NS_MAX) p->redial_ns = CONNECTION_REDIAL_NS_MAX;
        (void)publisher_dial(s, p, p->address); /* what cannot be dialled now: the next time */
    }
}

void subscription_look(struct subscription *s, int64_t now_ns) {
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < SUBSCRIPTION_PUBLISHERS_MAX; i++)
        if (s->publishers[i].address[0]) publisher_look(s, &s->publishers[i], now_ns);
    pthread_mutex_unlock(&s->lock);
}

/* The topic as it stands in front of every message about it: its length in front keeps one topic
 * apart from another that begins with it. */
static size_t topic_encode(const char *topic, uint8_t bytes[SUBSCRIPTION_TOPIC_BYTES]) {
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, SUBSCRIPTION_TOPIC_BYTES);
    msgpack_write_text(&w, topic);
    return msgpack_writer_ok(&w) ? msgpack_writer_size(&w) : 0;
}

bool subscription_add(struct subscription *s, const char *topic) {
    uint8_t bytes[SUBSCRIPTION_TOPIC_BYTES];
    size_t size = topic_encode(topic, bytes);
    return size && nng_socket_set(s->socket, NNG_OPT_SUB_SUBSCRIBE, bytes, size) == 0;
}

void subscription_remove(struct subscription *s, const char *topic) {
    uint8_t bytes[SUBSCRIPTION_TOPIC_BYTES];
    size_t size = topic_encode(topic, bytes);
    if (size) nng_socket_set(s->socket, NNG_OPT_SUB_UNSUBSCRIBE, bytes, size);
}

void subscription_close(struct subscription *s) {
    if (!s) return;
    socket_close(s->socket);
    if (s->aio) {
        nng_aio_stop(s->aio);
        nng_aio_free(s->aio);
    }
    pipe_list_fini(&s->list);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
