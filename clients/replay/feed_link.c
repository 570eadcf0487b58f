#include "clients/replay/feed_link.h"

#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clients/cli/text.h"
#include "clients/sdk/raw_call.h"
#include "engine/base/check.h"
#include "engine/wire/address.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/protocol.h"
#include "engine/wire/socket_close.h"
#include "engine/wire/tls.h"

enum {
    LINK_ATTEMPT_MS = 2000,        /* beyond what the node may take for the answer */
    LINK_LOOK_MS = 2000,           /* one question about where the feed is */
    LINK_LOOK_TLS_MS = 8000,       /* the same where a greeting with certificates comes first */
    LINK_PAUSE_MS = 200,           /* between two attempts */
    LINK_GLANCE_MS = 100           /* how often a wait looks whether the user had enough */
};

#define LINK_OTHER_CLUSTER "another cluster's node is there now"

struct feed_link_settings feed_link_settings = {.patience_ms = 30000};

struct feed_link {
    char node[ENDPOINT_BYTES_MAX];
    char cluster_id[CLUSTER_ID_BYTES];
    bool direct;                   /* `node` is the feed itself */
    bool other;                    /* no feed at all, and asked for nothing but its answers */
    pthread_mutex_t lock;          /* guards what is below */
    char feed[ENDPOINT_BYTES_MAX];
    nng_socket socket;
    uint32_t generation;           /* of the socket */
    bool complained, other_cluster;
};

enum call_state { CALL_IDLE, CALL_SENDING, CALL_RECEIVING, CALL_DONE };

struct feed_call {
    struct feed_link *link;
    nng_aio *aio;
    nng_ctx ctx;
    bool busy;                     /* something was sent whose answer was not taken; the owner's */
    uint32_t generation;           /* of the socket that `ctx` is on; 0 = there is none */
    pthread_mutex_t lock;          /* guards state, rc, dropped */
    pthread_cond_t done;
    enum call_state state;
    bool dropped;                  /* nobody wants the answer any more */
    int rc;
    uint8_t *question;             /* grows */
    size_t bytes, capacity;
    uint32_t answer_ms;
};

static bool link_interrupted(void) {
    return feed_link_settings.interrupted && feed_link_settings.interrupted();
}

static int link_fail(const struct feed_link *l, char *error, size_t error_bytes,
                     const char *what) {
    snprintf(error, error_bytes, "%s: %s", l->node, what);
    return -1;
}

bool feed_link_is_one(const char *text) {
    const char *scheme = strstr(text, "://");
    return scheme && scheme != text && (size_t)(scheme - text) == strcspn(text, "/:");
}

const char *feed_link_node(const struct feed_link *l) { return l->node; }

/* -- where the feed is ------------------------------------------------------------------------ */

static uint32_t link_look_ms(const char *url) {
    return tls_is_wanted(url) ? LINK_LOOK_TLS_MS : LINK_LOOK_MS;
}

static int link_find(const struct feed_link *l, char feed[ENDPOINT_BYTES_MAX], char *error,
                     size_t error_bytes) {
    static const uint8_t request[] = {0x93, PROTOCOL_VERSION, 0xc0, 0x91, 0x91,
                                      NODE_COMMAND_SHARD_MAP};
    void *reply;
    size_t bytes;
    bool sent;
    char why[128];
    if (l->direct) {
        snprintf(feed, ENDPOINT_BYTES_MAX, "%s", l->node);
        return 0;
    }
    if (!raw_call(l->node, link_look_ms(l->node), request, sizeof request, &reply, &bytes, &sent,
                  why, sizeof why)) {
        return link_fail(l, error, error_bytes, why);
    }
    bool found = feed_endpoint_decode(reply, bytes, l->node, feed);
    free(reply);
    return found ? 0 : link_fail(l, error, error_bytes,
                                 "it has no feed: is it a node, and not started with "
                                 "--feed-listen none?");
}

static int link_hello(struct feed_link *l, const char *feed, struct feed_link_hello *hello,
                      char *error, size_t error_bytes) {
    uint8_t request[8];
    struct msgpack_writer w;
    struct feed_reply answer;
    struct feed_hello h = {.shards = hello->shards, .shards_max = SHARDS_MAX};
    void *reply;
    size_t bytes;
    bool sent;
    char why[128];
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_HELLO);
    if (!raw_call(feed, link_look_ms(feed), request, msgpack_writer_size(&w), &reply, &bytes,
                  &sent, why, sizeof why)) {
        return link_fail(l, error, error_bytes, why);
    }
    bool read = feed_reply_decode(reply, bytes, FEED_HELLO, FEED_RECORDS, &answer) &&
                answer.code == RESULT_OK && feed_hello_decode(answer.rest, &h);
    if (read) {
        memcpy(hello->cluster_id, h.cluster_id, sizeof hello->cluster_id);
        hello->node_id = h.node_id;
        hello->shards_count = h.shards_count;
        hello->count = h.shards_held;
    }
    free(reply);
    return read ? 0 : link_fail(l, error, error_bytes, "it does not speak the feed's protocol");
}

static bool link_connect(struct feed_link *l, const char *feed) {
    nng_socket socket;
    if (nng_req0_open(&socket) != 0) return false;
    nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, 20);
    nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, 500);
    nng_dialer dialer;
    char why[512];
    if (tls_dial(socket, feed, tls_of_environment(), &dialer, why, sizeof why) != 0) {
        socket_close(socket);
        return false;
    }
    if (l->generation != 0) socket_close(l->socket); /* its calls fail, and come to the new one */
    l->socket = socket;
    l->generation++;
    snprintf(l->feed, sizeof l->feed, "%s", feed);
    return true;
}

/* The first look: a general endpoint tells where the feed is; a feed does not understand that. */
static int link_begin(struct feed_link *l, struct feed_link_hello *hello, char *error,
                      size_t error_bytes) {
    char feed[ENDPOINT_BYTES_MAX], other[256];
    if (link_find(l, feed, error, error_bytes) == 0) {
        return link_hello(l, feed, hello, error, error_bytes) == 0 && link_connect(l, feed) ? 0
                                                                                             : -1;
    }
    l->direct = true;
    if (link_hello(l, l->node, hello, other, sizeof other) != 0) return -1;
    return link_connect(l, l->node) ? 0 : -1;
}

static struct feed_link *link_new(const char *node, char *error, size_t error_bytes) {
    struct feed_link *l = calloc(1, sizeof *l);
    snprintf(error, error_bytes, "%.200s: no memory", node);
    if (!l) return NULL;
    pthread_mutex_init(&l->lock, NULL);
    snprintf(l->node, sizeof l->node, "%s", node);
    bool known = strncmp(node, "tcp://", 6) == 0 || strncmp(node, "ipc://", 6) == 0 ||
                 strncmp(node, "inproc://", 9) == 0 || tls_is_wanted(node);
    const char *fault = address_fault(node, strlen(node));
    if (strlen(node) < sizeof l->node && known && !fault) return l;
    if (known && fault)
        snprintf(error, error_bytes, "\"%.200s\" %s: " ADDRESS_FORM_ONE, node, fault);
    else if (known) snprintf(error, error_bytes, "%.100s...: the address is too long", node);
    else link_fail(l, error, error_bytes, "an address is needed such as tcp://host:7400 or "
                       "tls+tcp://host:7400");
    feed_link_close(l);
    return NULL;
}

struct feed_link *feed_link_open(const char *node, struct feed_link_hello *hello, char *error,
                                 size_t error_bytes) {
    struct feed_link *l = link_new(node, error, error_bytes);
    if (!l) return NULL;
    if (link_begin(l, hello, error, error_bytes) == 0) {
        memcpy(l->cluster_id, hello->cluster_id, sizeof l->cluster_id);
        return l;
    }
    feed_link_close(l);
    return NULL;
}

struct feed_link *feed_link_open_other(const char *url, char *error, size_t error_bytes) {
    struct feed_link *l = link_new(url, error, error_bytes);
    if (!l) return NULL;
    l->direct = l->other = true;
    if (link_connect(l, url)) return l;
    link_fail(l, error, error_bytes, "no connection can be made to such an address");
    feed_link_close(l);
    return NULL;
}

void feed_link_close(struct feed_link *l) {
    if (!l) return;
    if (l->generation != 0) socket_close(l->socket);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

int feed_link_look(struct feed_link *l, struct feed_link_hello *hello, char *error,
                   size_t error_bytes) {
    char feed[ENDPOINT_BYTES_MAX];
    if (link_find(l, feed, error, error_bytes) != 0 ||
        link_hello(l, feed, hello, error, error_bytes) != 0) {
        return -1;
    }
    if (strcmp(hello->cluster_id, l->cluster_id) == 0) return 0;
    pthread_mutex_lock(&l->lock);
    l->other_cluster = true;
    pthread_mutex_unlock(&l->lock);
    return link_fail(l, error, error_bytes, LINK_OTHER_CLUSTER);
}

/* A call on the socket `generation` got no answer: where is the feed now? The first one that asks
 * sees to it for all. */
static void link_renew(struct feed_link *l, uint32_t generation) {
    char feed[ENDPOINT_BYTES_MAX], error[256];
    struct feed_link_hello hello;
    pthread_mutex_lock(&l->lock);
    bool mine = l->generation == generation;
    if (mine && !l->complained && !feed_link_settings.quiet) {
        fprintf(stderr, "jumun-replay: %s does not answer: trying again for up to %u s\n", l->node,
                feed_link_settings.patience_ms / 1000);
    }
    if (mine) l->complained = true;
    pthread_mutex_unlock(&l->lock);
    if (!mine || link_find(l, feed, error, sizeof error) != 0) return;
    memcpy(hello.cluster_id, l->cluster_id, sizeof hello.cluster_id);
    if (!l->other && link_hello(l, feed, &hello, error, sizeof error) != 0) return;
    pthread_mutex_lock(&l->lock);
    if (strcmp(hello.cluster_id, l->cluster_id) != 0) l->other_cluster = true;
    else if (l->generation == generation) link_connect(l, feed);
    pthread_mutex_unlock(&l->lock);
}

/* -- calls ------------------------------------------------------------------------------------ */

/* The lock is held. */
static void call_end(struct feed_call *c, int rc) {
    c->rc = rc;
    c->state = CALL_DONE;
    pthread_cond_signal(&c->done);
}

static void call_on_aio(void *arg) {
    struct feed_call *c = arg;
    int rc = nng_aio_result(c->aio);
    pthread_mutex_lock(&c->lock);
    if (rc != 0 && c->state == CALL_SENDING) {
        nng_msg_free(nng_aio_get_msg(c->aio));
        nng_aio_set_msg(c->aio, NULL);
    }
    if (rc == 0 && c->state == CALL_SENDING && !c->dropped) {
        /* Under the lock: whoever drops the call finds this under way, or not begun at all. */
        c->state = CALL_RECEIVING;
        nng_aio_set_timeout(c->aio, (nng_duration)(c->answer_ms + LINK_ATTEMPT_MS));
        nng_ctx_recv(c->ctx, c->aio);
    } else {
        call_end(c, rc == 0 && c->state == CALL_SENDING ? NNG_ECANCELED : rc);
    }
    pthread_mutex_unlock(&c->lock);
}

struct feed_call *feed_call_open(struct feed_link *link) {
    struct feed_call *c = calloc(1, sizeof *c);
    pthread_condattr_t attr;
    if (c) c->question = malloc(c->capacity = FEED_CALL_BYTES_MAX);
    if (!c || !c->question || nng_aio_alloc(&c->aio, call_on_aio, c) != 0) {
        if (c) free(c->question);
        free(c);
        return NULL;
    }
    c->link = link;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->done, &attr);
    pthread_condattr_destroy(&attr);
    return c;
}

/* Back to idle: nothing is on its way, and no answer is kept. */
static void call_rest(struct feed_call *c) {
    if (!c->busy) return;
    pthread_mutex_lock(&c->lock);
    c->dropped = true;
    pthread_mutex_unlock(&c->lock);
    nng_aio_cancel(c->aio);
    pthread_mutex_lock(&c->lock);
    while (c->state != CALL_DONE) pthread_cond_wait(&c->done, &c->lock);
    pthread_mutex_unlock(&c->lock);
    nng_aio_wait(c->aio);
    if (c->rc == 0) nng_msg_free(nng_aio_get_msg(c->aio));
    nng_aio_set_msg(c->aio, NULL);
    c->dropped = c->busy = false;
    c->state = CALL_IDLE;
}

void feed_call_close(struct feed_call *c) {
    if (!c) return;
    call_rest(c);
    nng_aio_stop(c->aio);
    if (c->generation != 0) nng_ctx_close(c->ctx);
    nng_aio_free(c->aio);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->done);
    free(c->question);
    free(c);
}

/* A context on the socket of now. */
static bool call_bind(struct feed_call *c) {
    struct feed_link *l = c->link;
    pthread_mutex_lock(&l->lock);
    if (c->generation != l->generation) {
        if (c->generation != 0) nng_ctx_close(c->ctx);
        c->generation = nng_ctx_open(&c->ctx, l->socket) == 0 ? l->generation : 0;
    }
    pthread_mutex_unlock(&l->lock);
    return c->generation != 0;
}

/* Begins an attempt; one that cannot begin ends at once. */
static void call_attempt(struct feed_call *c) {
    nng_msg *message;
    call_rest(c);
    if (!call_bind(c) || nng_msg_alloc(&message, c->bytes) != 0) {
        c->rc = NNG_ENOMEM;
        c->busy = true;
        c->state = CALL_DONE;
        return;
    }
    memcpy(nng_msg_body(message), c->question, c->bytes);
    c->busy = true;
    c->state = CALL_SENDING;
    nng_aio_set_msg(c->aio, message);
    nng_aio_set_timeout(c->aio, LINK_ATTEMPT_MS);
    nng_ctx_send(c->ctx, c->aio);
}

bool feed_call_send(struct feed_call *c, const void *question, size_t bytes, uint32_t answer_ms) {
    if (bytes > c->capacity) {
        uint8_t *grown = realloc(c->question, bytes);
        if (!grown) return false;
        c->question = grown;
        c->capacity = bytes;
    }
    memcpy(c->question, question, bytes);
    c->bytes = bytes;
    c->answer_ms = answer_ms;
    call_attempt(c);
    return true;
}

/* Waits for the end of the attempt. False when the user has had enough. */
static bool call_settle(struct feed_call *c) {
    struct timespec until;
    pthread_mutex_lock(&c->lock);
    while (c->state != CALL_DONE && !link_interrupted()) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LINK_GLANCE_MS * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&c->done, &c->lock, &until);
    }
    bool done = c->state == CALL_DONE;
    pthread_mutex_unlock(&c->lock);
    return done;
}

/* Waits for the answer to what was sent. NULL with a sentence when the patience is over or the user
 * had enough. */
static nng_msg *feed_call_wait(struct feed_call *c, char *error, size_t error_bytes) {
    struct feed_link *l = c->link;
    uint64_t end_ns = text_mono_ns() + (uint64_t)feed_link_settings.patience_ms * 1000000;
    require(c->busy);
    for (;;) {
        if (!call_settle(c)) {
            link_fail(l, error, error_bytes, "given up");
            return NULL;
        }
        nng_aio_wait(c->aio); /* its callback has left the lock */
        if (c->rc == 0) {
            nng_msg *message = nng_aio_get_msg(c->aio);
            nng_aio_set_msg(c->aio, NULL);
            c->busy = false;
            c->state = CALL_IDLE;
            return message;
        }
        pthread_mutex_lock(&l->lock);
        bool other = l->other_cluster;
        pthread_mutex_unlock(&l->lock);
        if (other || text_mono_ns() >= end_ns || link_interrupted()) {
            char what[96];
            snprintf(what, sizeof what, "no answer for %u s: %s",
                     feed_link_settings.patience_ms / 1000,
                     l->other ? "nobody is there" : "the node is away");
            link_fail(l, error, error_bytes,
                      other ? LINK_OTHER_CLUSTER : what);
            return NULL;
        }
        link_renew(l, c->generation);
        usleep(LINK_PAUSE_MS * 1000);
        call_attempt(c);
    }
}

static bool code_passes(enum feed_kind kind, uint16_t code) {
    if (kind == FEED_REPUBLISHED) return code > RESULT_HELD && code < RESULT_MALFORMED_MESSAGE;
    return code == RESULT_OVERLOADED || code == RESULT_NOT_READY || code == RESULT_SHUTTING_DOWN ||
           code == RESULT_SHARD_NOT_HERE || code == RESULT_OUT_OF_MEMORY ||
           code == RESULT_DISK_FULL;
}

/* The connection may have been made anew since the node was greeted, and end at somebody else. */
static bool link_is_of_another(struct feed_link *l, const struct feed_reply *reply) {
    if (l->other || feed_reply_is_of(reply, l->cluster_id)) return false;
    pthread_mutex_lock(&l->lock);
    l->other_cluster = true;
    pthread_mutex_unlock(&l->lock);
    return true;
}

nng_msg *feed_call_take(struct feed_call *c, enum feed_kind kind, struct feed_reply *reply,
                        char *error, size_t error_bytes) {
    uint64_t end_ns = text_mono_ns() + (uint64_t)feed_link_settings.patience_ms * 1000000;
    for (;;) {
        nng_msg *message = feed_call_wait(c, error, error_bytes);
        if (!message) return NULL;
        if (!feed_reply_decode(nng_msg_body(message), nng_msg_len(message), kind, FEED_RECORDS,
                               reply)) {
            link_fail(c->link, error, error_bytes, "its answer is not one of a feed");
            nng_msg_free(message);
            return NULL;
        }
        if (link_is_of_another(c->link, reply)) {
            link_fail(c->link, error, error_bytes, LINK_OTHER_CLUSTER);
            nng_msg_free(message);
            return NULL;
        }
        if (!code_passes(kind, reply->code)) return message;
        if (text_mono_ns() >= end_ns || link_interrupted()) return message;
        uint64_t pause_ms = reply->detail ? reply->detail : LINK_PAUSE_MS;
        nng_msg_free(message);
        usleep((pause_ms < 1000 ? (useconds_t)pause_ms : 1000) * 1000);
        call_attempt(c);
    }
}

nng_msg *feed_call_ask(struct feed_call *c, const void *question, size_t bytes,
                       uint32_t answer_ms, enum feed_kind kind, struct feed_reply *reply,
                       char *error, size_t error_bytes) {
    if (!feed_call_send(c, question, bytes, answer_ms)) {
        link_fail(c->link, error, error_bytes, "no memory");
        return NULL;
    }
    return feed_call_take(c, kind, reply, error, error_bytes);
}
