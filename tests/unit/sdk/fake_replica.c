#include "tests/unit/sdk/fake_replica.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/prng.h"
#include "engine/base/ulid.h"
#include "engine/limits.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/query_decode.h"

enum { REPLICA_CONTEXTS = 32, HISTORY_REPLICAS_MAX = 8, WAIT_STEP_MS = 2 };

struct change { uint32_t shard, version; uint64_t index; jumun_key key; char store[32]; };

struct fake_history {
    pthread_mutex_t lock;
    uint64_t newest[FAKE_SHARDS];
    uint32_t count;
    struct fake_replica *replicas[HISTORY_REPLICAS_MAX];
    struct change changes[FAKE_CHANGES_MAX];
};

struct context {
    struct fake_replica *replica;
    nng_ctx ctx;
    nng_aio *aio;
    enum { RECEIVING, WAITING, DELAYED, SENDING } state;
    nng_msg *request, *reply;
    struct wire_arena arena;
    struct query_request query;
};

struct fake_replica {
    struct fake_history *history;
    char name[64], address[96], notify[96];
    bool lags;
    uint64_t position[FAKE_SHARDS];    /* the history's lock */
    uint32_t taken;                    /* changes looked at */
    uint32_t delay_ms, lost, garbage, muted;
    int refusal, lacks, node;
    const char *cluster;
    struct prng prng;
    atomic_uint queries, messages;
    nng_socket rep, pub;
    struct context contexts[REPLICA_CONTEXTS];
};

/* -- history ----------------------------------------------------------------------------------- */

struct fake_history *fake_history_new(void) {
    struct fake_history *h = calloc(1, sizeof *h);
    require(h);
    pthread_mutex_init(&h->lock, NULL);
    return h;
}

void fake_history_free(struct fake_history *h) {
    pthread_mutex_destroy(&h->lock);
    free(h);
}

static void notify_one(struct fake_replica *r, const char *topic, const struct change *c) {
    nng_msg *message;
    struct msgpack_writer w;
    if (r->muted && prng_below(&r->prng, 1000) < r->muted) return;
    int rc = nng_msg_alloc(&message, 256);
    require(rc == 0);
    msgpack_writer_init(&w, nng_msg_body(message), 256);
    msgpack_write_text(&w, topic);
    msgpack_write_array(&w, 6);
    msgpack_write_uint(&w, 1);
    msgpack_write_uint(&w, c->version);
    msgpack_write_uint(&w, c->shard);
    msgpack_write_uint(&w, c->index);
    msgpack_write_bin(&w, c->key.bytes, 16);
    msgpack_write_uint(&w, 2);
    nng_msg_chop(message, 256 - msgpack_writer_size(&w));
    if (nng_sendmsg(r->pub, message, NNG_FLAG_NONBLOCK) != 0) nng_msg_free(message);
}

/* The lock is held. */
static void follow(struct fake_replica *r) {
    struct fake_history *h = r->history;
    uint32_t from = r->taken;
    for (; r->taken < h->count; r->taken++)
        r->position[h->changes[r->taken].shard] = h->changes[r->taken].index;
    for (uint32_t i = from; i < h->count; i++) {
        char topic[64], key[JUMUN_KEY_TEXT_BYTES];
        jumun_key_format(&h->changes[i].key, key);
        snprintf(topic, sizeof topic, "order/%s", key);
        notify_one(r, topic, &h->changes[i]);
        snprintf(topic, sizeof topic, "store/%s", h->changes[i].store);
        notify_one(r, topic, &h->changes[i]);
    }
}

jumun_token fake_history_change(struct fake_history *h, uint32_t shard, const jumun_key *key,
                                const char *store) {
    pthread_mutex_lock(&h->lock);
    require(h->count < FAKE_CHANGES_MAX);
    uint32_t version = 1;
    for (uint32_t i = h->count; i > 0 && version == 1; i--)
        if (memcmp(&h->changes[i - 1].key, key, 16) == 0) version = h->changes[i - 1].version + 1;
    struct change *c = &h->changes[h->count++];
    *c = (struct change){.shard = shard, .version = version, .index = ++h->newest[shard],
                         .key = *key};
    snprintf(c->store, sizeof c->store, "%s", store);
    jumun_token token = {shard, c->index};
    for (int i = 0; i < HISTORY_REPLICAS_MAX; i++)
        if (h->replicas[i] && !h->replicas[i]->lags) follow(h->replicas[i]);
    pthread_mutex_unlock(&h->lock);
    return token;
}

void fake_replica_follow(struct fake_replica *r) {
    pthread_mutex_lock(&r->history->lock);
    follow(r);
    pthread_mutex_unlock(&r->history->lock);
}

/* -- answers; the history's lock is held ------------------------------------------------------- */

/* The order as this replica knows it; NULL = not. */
static const struct change *newest_of(struct fake_replica *r, const void *key) {
    for (uint32_t i = r->taken; i > 0; i--)
        if (memcmp(r->history->changes[i - 1].key.bytes, key, 16) == 0)
            return &r->history->changes[i - 1];
    return NULL;
}

static void write_row(struct msgpack_writer *w, const struct change *c) {
    if (!c) {
        msgpack_write_nil(w);
        return;
    }
    msgpack_write_map(w, 5);
    msgpack_write_text(w, "key");
    msgpack_write_bin(w, c->key.bytes, 16);
    msgpack_pair_uint(w, "version", c->version);
    msgpack_pair_uint(w, "last_index", c->index);
    msgpack_pair_text(w, "state", "placed");
    msgpack_pair_text(w, "store", c->store);
}

static void write_head(struct msgpack_writer *w, uint32_t fields, uint32_t version, uint32_t shard,
                       bool partial) {
    msgpack_write_array(w, fields);
    msgpack_write_uint(w, 0);
    msgpack_write_uint(w, version);
    msgpack_write_uint(w, shard);
    msgpack_write_uint(w, 0);
    msgpack_write_uint(w, partial ? 2 : 0);
}

static void write_refusal(struct msgpack_writer *w, int code) {
    msgpack_write_array(w, 7);
    msgpack_write_uint(w, (uint64_t)code);
    for (int i = 0; i < 4; i++) msgpack_write_uint(w, 0);
    msgpack_write_text(w, "refused by the test");
    msgpack_write_uint(w, 1);
}

static bool is_of_topic(const struct change *c, struct bytes topic) {
    char key[JUMUN_KEY_TEXT_BYTES];
    jumun_key_format(&c->key, key);
    const char *id = topic.data;
    if (topic.size > 6 && memcmp(id, "store/", 6) == 0)
        return strlen(c->store) == topic.size - 6 && memcmp(c->store, id + 6, topic.size - 6) == 0;
    return topic.size == 32 && memcmp(key, id + 6, 26) == 0;
}

static uint64_t since_of(const struct query *q, struct fake_replica *r, uint32_t shard) {
    for (uint32_t i = 0; i < q->since_count; i++)
        if (q->since[i].shard == shard) return q->since[i].index;
    return q->has_since ? 0 : r->position[shard];
}

/* Writes changes of the topic, each order once, at its last change, by shard and index. */
static void write_watch(struct msgpack_writer *w, struct fake_replica *r, const struct query *q) {
    static _Thread_local const struct change *rows[FAKE_CHANGES_MAX];
    uint32_t count = 0, shown = 0;
    uint64_t tokens[FAKE_SHARDS];
    bool complete = true;
    for (uint32_t shard = 0; shard < FAKE_SHARDS; shard++) {
        uint64_t since = since_of(q, r, shard);
        tokens[shard] = since > r->position[shard] ? since : r->position[shard];
        for (uint32_t i = 0; i < r->taken; i++) {
            const struct change *c = &r->history->changes[i];
            if (c->shard != shard || c->index <= since || !is_of_topic(c, q->subject)) continue;
            if (newest_of(r, c->key.bytes) != c) continue;
            if (shown == q->limit) {
                if (complete || tokens[shard] >= c->index) tokens[shard] = c->index - 1;
                complete = false;
                break;
            }
            rows[count++] = c;
            shown++;
        }
    }
    write_head(w, 6, 0, 0, false);
    msgpack_write_array(w, 3);
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) write_row(w, rows[i]);
    msgpack_write_array(w, FAKE_SHARDS);
    for (uint32_t shard = 0; shard < FAKE_SHARDS; shard++) {
        msgpack_write_array(w, 2);
        msgpack_write_uint(w, shard);
        msgpack_write_uint(w, tokens[shard]);
    }
    msgpack_write_bool(w, complete);
}

static void write_board(struct msgpack_writer *w, struct fake_replica *r, const struct query *q,
                        bool partial) {
    const struct change *rows[QUERY_ROWS_MAX];
    uint32_t count = 0, from = 0;
    if (q->cursor.size == sizeof from) memcpy(&from, q->cursor.data, sizeof from);
    for (; from < r->taken && count < q->limit; from++) {
        const struct change *c = &r->history->changes[from];
        if (strlen(c->store) != q->subject.size ||
            memcmp(c->store, q->subject.data, q->subject.size) != 0 ||
            newest_of(r, c->key.bytes) != c)
            continue;
        rows[count++] = c;
    }
    bool more = from < r->taken;
    write_head(w, more ? 7 : 6, 0, 0, partial);
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) write_row(w, rows[i]);
    if (more) msgpack_write_bin(w, &from, sizeof from);
}

/* It lacks the past: who asks from some time on does not miss it. */
static void write_counters(struct msgpack_writer *w, const struct query *q) {
    msgpack_write_array(w, 6);
    for (int i = 0; i < 4; i++) msgpack_write_uint(w, 0);
    msgpack_write_uint(w, q->from_ms == INT64_MIN ? RESULT_FLAG_UNCOUNTED : 0);
    msgpack_write_array(w, 1);
    msgpack_write_array(w, 8);
    msgpack_write_int(w, 60000);
    msgpack_write_text(w, "s1");
    msgpack_write_uint(w, 2);
    msgpack_write_text(w, "KRW");
    for (int i = 1; i <= 4; i++) msgpack_write_int(w, i * 10);
}

static void write_result(struct msgpack_writer *w, struct fake_replica *r, const struct query *q,
                         bool lags) {
    char map[2] = "";
    require(q->fault == 0); /* the library never sends what a replica does not understand */
    if (r->refusal && q->kind != 100 && q->kind != 101) {
        write_refusal(w, r->refusal);
        return;
    }
    switch (q->kind) {
    case QUERY_GET: {
        const struct change *c = newest_of(r, q->key.bytes);
        if (lags) write_refusal(w, RESULT_TOKEN_NOT_REACHED);
        else if (!c) write_refusal(w, RESULT_ORDER_NOT_FOUND);
        else write_head(w, 6, c->version, c->shard, false), write_row(w, c);
        break;
    }
    case QUERY_MULTI_GET:
        write_head(w, 6, 0, 0, lags);
        msgpack_write_array(w, q->subject.size / 16);
        for (uint32_t i = 0; i < q->subject.size / 16; i++)
            write_row(w, newest_of(r, (const uint8_t *)q->subject.data + 16 * (size_t)i));
        break;
    case QUERY_STORE_BOARD: write_board(w, r, q, lags || r->lacks); break;
    case QUERY_COUNTERS: write_counters(w, q); break;
    case QUERY_WATCH: write_watch(w, r, q); break;
    case NODE_COMMAND_SHARD_MAP:
        write_head(w, 6, 0, 0, false);
        msgpack_write_map(w, r->cluster ? 4 : 3);
        msgpack_pair_bool(w, "replica", true);
        if (r->cluster) msgpack_pair_text(w, "cluster_id", r->cluster);
        msgpack_pair_text(w, "notify", r->notify);
        msgpack_pair_text(w, "shards", map);
        break;
    default:
        write_head(w, 6, 0, 0, false);
        msgpack_write_text(w, "pong");
    }
}

static bool is_missing(const struct fake_replica *r, const struct query_token *t) {
    return t->index && (t->shard >= FAKE_SHARDS || r->position[t->shard] < t->index);
}

static bool has_reached(struct fake_replica *r, const struct query_request *q) {
    for (uint32_t i = 0; i < q->at_least_count; i++)
        if (is_missing(r, &q->at_least[i])) return false;
    return true;
}

static nng_msg *answer(struct fake_replica *r, const struct query_request *q) {
    static _Thread_local uint8_t bytes[MESSAGE_BYTES_MAX];
    struct msgpack_writer w;
    bool lags = !has_reached(r, q);
    uint32_t missing = 0;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_array(&w, 5);
    msgpack_write_uint(&w, 1);
    msgpack_write_uint(&w, 0);
    msgpack_write_array(&w, q->queries_count);
    for (uint32_t i = 0; i < q->queries_count; i++) write_result(&w, r, &q->queries[i], lags);
    msgpack_write_array(&w, FAKE_SHARDS);
    for (uint32_t shard = 0; shard < FAKE_SHARDS; shard++) {
        msgpack_write_array(&w, 3);
        msgpack_write_uint(&w, shard);
        msgpack_write_uint(&w, r->position[shard]);
        msgpack_write_uint(&w, 7 * shard);
    }
    for (uint32_t i = 0; i < q->at_least_count; i++) missing += is_missing(r, &q->at_least[i]);
    msgpack_write_array(&w, missing + (r->lacks != 0));
    if (r->lacks) msgpack_write_uint(&w, (uint32_t)r->lacks - 1);
    for (uint32_t i = 0; i < q->at_least_count; i++)
        if (is_missing(r, &q->at_least[i])) msgpack_write_uint(&w, q->at_least[i].shard);
    require(msgpack_writer_ok(&w));
    nng_msg *reply;
    int rc = nng_msg_alloc(&reply, msgpack_writer_size(&w));
    require(rc == 0);
    memcpy(nng_msg_body(reply), bytes, msgpack_writer_size(&w));
    return reply;
}

/* As a node: one of three is answered without tokens, a longer one is none of its protocol. */
static nng_msg *answer_of_node(nng_msg *request) {
    static const uint8_t refused[] = {0x93, 1, 50, 0xa3, 'b', 'a', 'd'};
    static const uint8_t pong[] = {0x93, 1, 0, 0x91, 0x96, 0, 0, 0, 0, 0, 0xa4, 'p', 'o', 'n', 'g'};
    bool short_one = *(const uint8_t *)nng_msg_body(request) == 0x93;
    size_t bytes = short_one ? sizeof pong : sizeof refused;
    nng_msg *reply;
    int rc = nng_msg_alloc(&reply, bytes);
    require(rc == 0);
    memcpy(nng_msg_body(reply), short_one ? pong : refused, bytes);
    return reply;
}

/* -- contexts ---------------------------------------------------------------------------------- */

static void receive(struct context *c) {
    if (c->request) {
        wire_arena_free(&c->arena);
        nng_msg_free(c->request);
    }
    c->request = NULL;
    c->state = RECEIVING;
    nng_ctx_recv(c->ctx, c->aio);
}

static void send_reply(struct context *c) {
    c->state = SENDING;
    nng_aio_set_msg(c->aio, c->reply);
    c->reply = NULL;
    nng_ctx_send(c->ctx, c->aio);
}

/* Answers, or waits a little longer. */
static void look(struct context *c) {
    struct fake_replica *r = c->replica;
    pthread_mutex_lock(&r->history->lock);
    uint32_t delay_ms = r->delay_ms;
    bool wait = !has_reached(r, &c->query) && clock_unix_ms() < c->query.deadline_ms;
    uint32_t fate = prng_below(&r->prng, 1000);
    bool lost = !wait && (fate < r->lost || delay_ms == UINT32_MAX);
    bool garbage = !lost && fate < r->lost + r->garbage;
    if (!wait && !lost) c->reply = r->node ? answer_of_node(c->request) : answer(r, &c->query);
    pthread_mutex_unlock(&r->history->lock);
    if (garbage && c->reply) nng_msg_chop(c->reply, nng_msg_len(c->reply) / 2);
    if (lost) {
        receive(c);
    } else if (wait || delay_ms > 0) {
        c->state = wait ? WAITING : DELAYED;
        nng_sleep_aio(wait ? WAIT_STEP_MS : (nng_duration)delay_ms, c->aio);
    } else {
        send_reply(c);
    }
}

static void received(struct context *c) {
    c->request = nng_aio_get_msg(c->aio);
    memset(&c->arena, 0, sizeof c->arena);
    enum result_code code = query_decode(nng_msg_body(c->request), nng_msg_len(c->request),
                                         &c->arena, &c->query);
    require(code == RESULT_OK);
    uint32_t kind = c->query.queries[0].kind;
    if (kind < 100 || kind > 102) {
        atomic_fetch_add(&c->replica->queries, c->query.queries_count);
        atomic_fetch_add(&c->replica->messages, 1);
    }
    look(c);
}

static void work(void *arg) {
    struct context *c = arg;
    int rc = nng_aio_result(c->aio);
    if (rc != 0) {
        nng_msg *unsent = c->state == SENDING ? nng_aio_get_msg(c->aio) : c->reply;
        if (unsent) nng_msg_free(unsent);
        c->reply = NULL;
        if (rc != NNG_ECLOSED && rc != NNG_ECANCELED) {
            receive(c);
        } else if (c->request) {
            wire_arena_free(&c->arena);
            nng_msg_free(c->request);
            c->request = NULL;
        }
        return;
    }
    if (c->state == RECEIVING) received(c);
    else if (c->state == WAITING) look(c);
    else if (c->state == DELAYED) send_reply(c);
    else receive(c);
}

/* -- life -------------------------------------------------------------------------------------- */

struct fake_replica *fake_replica_start(struct fake_history *h, const char *name, bool lags) {
    struct fake_replica *r = calloc(1, sizeof *r);
    require(r);
    r->history = h;
    r->lags = lags;
    prng_seed(&r->prng, 1);
    snprintf(r->address, sizeof r->address, "inproc://%s", name);
    snprintf(r->notify, sizeof r->notify, "inproc://%s-notify", name);
    int rc = nng_rep0_open(&r->rep);
    require(rc == 0);
    rc = nng_pub0_open(&r->pub);
    require(rc == 0);
    rc = nng_listen(r->pub, r->notify, NULL, 0);
    require(rc == 0);
    pthread_mutex_lock(&h->lock);
    follow(r);
    int free_place = 0;
    while (h->replicas[free_place]) free_place++;
    require(free_place < HISTORY_REPLICAS_MAX);
    h->replicas[free_place] = r;
    pthread_mutex_unlock(&h->lock);
    for (int i = 0; i < REPLICA_CONTEXTS; i++) {
        struct context *c = &r->contexts[i];
        c->replica = r;
        rc = nng_aio_alloc(&c->aio, work, c);
        require(rc == 0);
        rc = nng_ctx_open(&c->ctx, r->rep);
        require(rc == 0);
        receive(c);
    }
    rc = nng_listen(r->rep, r->address, NULL, 0);
    require(rc == 0);
    return r;
}

void fake_replica_stop(struct fake_replica *r) {
    pthread_mutex_lock(&r->history->lock);
    for (int i = 0; i < HISTORY_REPLICAS_MAX; i++)
        if (r->history->replicas[i] == r) r->history->replicas[i] = NULL;
    pthread_mutex_unlock(&r->history->lock);
    nng_close(r->rep);
    nng_close(r->pub);
    for (int i = 0; i < REPLICA_CONTEXTS; i++) {
        nng_aio_stop(r->contexts[i].aio);
        nng_aio_free(r->contexts[i].aio);
        if (!r->contexts[i].request) continue;
        wire_arena_free(&r->contexts[i].arena);
        nng_msg_free(r->contexts[i].request);
    }
    free(r);
}

#define SETTER(function, field, type)                                                              \
    void function(struct fake_replica *r, type value) {                                            \
        pthread_mutex_lock(&r->history->lock);                                                     \
        r->field = value;                                                                          \
        pthread_mutex_unlock(&r->history->lock);                                                   \
    }
SETTER(fake_replica_delay, delay_ms, uint32_t)
SETTER(fake_replica_refuse, refusal, int)
SETTER(fake_replica_lack, lacks, int)
SETTER(fake_replica_mute, muted, uint32_t)
SETTER(fake_replica_be_node, node, int)
SETTER(fake_replica_be_of, cluster, const char *)

void fake_replica_fail(struct fake_replica *r, uint32_t lost, uint32_t garbage, uint64_t seed) {
    pthread_mutex_lock(&r->history->lock);
    r->lost = lost;
    r->garbage = garbage;
    prng_seed(&r->prng, seed);
    pthread_mutex_unlock(&r->history->lock);
}

uint32_t fake_replica_queries(struct fake_replica *r) { return atomic_load(&r->queries); }
uint32_t fake_replica_messages(struct fake_replica *r) { return atomic_load(&r->messages); }
