#include "tests/unit/sdk/fake_engine.h"

#include <msgpack.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/check.h"
#include "engine/base/hex.h"
#include "engine/wire/routing.h"

enum { FAKE_CONTEXTS = 16, FAKE_HELD_LOOK_MS = 2 };

struct fake_context {
    struct fake_engine *engine;
    int endpoint;
    nng_ctx ctx;
    nng_aio *aio;
    enum { FAKE_RECEIVING, FAKE_DELAYING, FAKE_SENDING } state;
    nng_msg *reply;
    struct fake_message message;
};

struct fake_endpoint {
    nng_socket socket;
    bool open;
    struct fake_context contexts[FAKE_CONTEXTS];
};

struct fake_engine {
    char name[64];
    uint32_t shards;
    fake_script script;
    void *arg;
    pthread_mutex_t mutex; /* the script and the count */
    atomic_uint messages;
    atomic_bool frozen, released;
    const char *_Atomic moved_to[FAKE_SHARDS_MAX]; /* NULL = here */
    const char *_Atomic cluster, *_Atomic ancestor;
    atomic_uint wrong_clusters;
    struct fake_endpoint endpoints[1 + FAKE_SHARDS_MAX]; /* the first is the general one */
};

const char *fake_engine_address(const char *name) {
    static _Thread_local char address[80];
    snprintf(address, sizeof address, "inproc://%s", name);
    return address;
}

static void fake_place(const struct fake_engine *e, int endpoint, char *out, size_t bytes) {
    const char *port = strncmp(e->name, "tcp://", 6) == 0 ? strrchr(e->name, ':') : NULL;
    if (port) {
        snprintf(out, bytes, "%.*s:%ld", (int)(port - e->name), e->name,
                 strtol(port + 1, NULL, 10) + 1 + endpoint);
    } else if (endpoint == FAKE_GENERAL) {
        snprintf(out, bytes, "inproc://%s", e->name);
    } else {
        snprintf(out, bytes, "inproc://%s-%d", e->name, endpoint);
    }
}

/* -- reading and writing, with msgpack-c: an opinion apart from the library's own
 * --------------- */

static bool fake_read(struct fake_message *m, const void *data, size_t bytes) {
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    bool ok = msgpack_unpack_next(&u, data, bytes, NULL) == MSGPACK_UNPACK_SUCCESS;
    memset(m, 0, offsetof(struct fake_message, commands));
    if (ok) {
        require(u.data.type == MSGPACK_OBJECT_ARRAY);
        msgpack_object *top = u.data.via.array.ptr;
        uint32_t fields = u.data.via.array.size;
        require(fields == 3 || (fields == 5 && top[3].type == MSGPACK_OBJECT_NIL &&
                                top[4].type == MSGPACK_OBJECT_BIN && top[4].via.bin.size == 16));
        if (fields == 5) hex_format(top[4].via.bin.ptr, 16, m->cluster);
        require(top[0].via.u64 == 1 && top[1].type == MSGPACK_OBJECT_POSITIVE_INTEGER);
        m->deadline_ms = (int64_t)top[1].via.u64;
        m->count = top[2].via.array.size;
        require(m->count >= 1 && m->count <= FAKE_COMMANDS_MAX);
        for (uint32_t i = 0; i < m->count; i++) {
            msgpack_object *c = top[2].via.array.ptr[i].via.array.ptr;
            struct fake_command *out = &m->commands[i];
            memset(out, 0, sizeof *out);
            out->kind = (uint32_t)c[0].via.u64;
            if (c[1].type == MSGPACK_OBJECT_BIN) memcpy(out->key.bytes, c[1].via.bin.ptr, 16);
            if (c[2].type == MSGPACK_OBJECT_BIN) memcpy(out->id.bytes, c[2].via.bin.ptr, 16);
        }
    }
    msgpack_unpacked_destroy(&u);
    m->action = FAKE_ANSWER;
    m->delay_ms = m->retry_after_ms = 0;
    m->held = false;
    m->leader = NULL;
    memset(m->codes, 0, sizeof m->codes[0] * m->count);
    return ok;
}

static void pack_text(msgpack_packer *p, const char *text) {
    msgpack_pack_str(p, strlen(text));
    msgpack_pack_str_body(p, text, strlen(text));
}

static void pack_map(struct fake_engine *e, msgpack_packer *p) {
    msgpack_pack_map(p, 3 + (e->cluster ? 2 : 0) + (e->ancestor ? 1 : 0));
    if (e->cluster) {
        pack_text(p, "cluster_id");
        pack_text(p, e->cluster);
        pack_text(p, "nodes");
        msgpack_pack_array(p, 1);
        msgpack_pack_array(p, 2);
        msgpack_pack_uint32(p, 1);
        char address[128];
        fake_place(e, FAKE_GENERAL, address, sizeof address);
        pack_text(p, address);
    }
    if (e->ancestor) {
        pack_text(p, "ancestors");
        msgpack_pack_array(p, 1);
        pack_text(p, e->ancestor);
    }
    pack_text(p, "a key of a later version");
    msgpack_pack_nil(p);
    pack_text(p, "epochs");
    msgpack_pack_array(p, 1);
    msgpack_pack_array(p, 2);
    msgpack_pack_int64(p, 0);
    msgpack_pack_uint32(p, e->shards);
    pack_text(p, "shards");
    msgpack_pack_array(p, e->shards);
    for (uint32_t i = 0; i < e->shards; i++) {
        char address[128];
        fake_place(e, (int)i, address, sizeof address);
        const char *moved_to = atomic_load(&e->moved_to[i]);
        msgpack_pack_array(p, 2);
        msgpack_pack_uint32(p, i);
        pack_text(p, moved_to ? moved_to : address);
    }
}

static void pack_result(struct fake_engine *e, struct fake_message *m, uint32_t i,
                        msgpack_packer *p) {
    uint32_t kind = m->commands[i].kind;
    bool refused = m->codes[i] > 1;
    bool value = !refused && kind >= JUMUN_NODE_PING;
    msgpack_pack_array(p, refused ? m->leader ? 8 : 7 : value ? 6 : 4);
    msgpack_pack_int(p, m->codes[i]);
    msgpack_pack_uint32(p, i + 1); /* the version tells the position in the message */
    msgpack_pack_uint32(p, m->shard);
    msgpack_pack_uint64(p, m->number);
    if (refused) {
        msgpack_pack_int(p, 0);
        pack_text(p, "refused by the script");
        msgpack_pack_uint32(p, m->retry_after_ms);
        if (m->leader) pack_text(p, m->leader);
    } else if (value) {
        msgpack_pack_int(p, 0);
        if (kind == JUMUN_NODE_SHARD_MAP) pack_map(e, p);
        else pack_text(p, "pong");
    }
}

static nng_msg *fake_reply(struct fake_engine *e, struct fake_message *m) {
    msgpack_sbuffer buffer;
    msgpack_packer p;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&p, &buffer, msgpack_sbuffer_write);
    msgpack_pack_array(&p, 3);
    msgpack_pack_int(&p, m->action == FAKE_WRONG_VERSION ? 9 : 1);
    if (m->action == FAKE_REFUSE_ALL) {
        msgpack_pack_int(&p, m->codes[0]);
        pack_text(&p, "the whole message is refused");
    } else {
        uint32_t count = m->action == FAKE_TOO_FEW ? m->count - 1 : m->count;
        msgpack_pack_int(&p, 0);
        msgpack_pack_array(&p, count);
        for (uint32_t i = 0; i < count; i++) pack_result(e, m, i, &p);
    }
    nng_msg *reply;
    int rc = nng_msg_alloc(&reply, 0);
    require(rc == 0);
    rc = m->action == FAKE_GARBAGE ? nng_msg_append(reply, "garbage", 7)
                                   : nng_msg_append(reply, buffer.data, buffer.size);
    require(rc == 0);
    msgpack_sbuffer_destroy(&buffer);
    return reply;
}

/* -- contexts ---------------------------------------------------------------------------------- */

static void fake_receive(struct fake_context *c) {
    c->state = FAKE_RECEIVING;
    nng_ctx_recv(c->ctx, c->aio);
}

static void fake_send(struct fake_context *c) {
    c->state = FAKE_SENDING;
    nng_aio_set_msg(c->aio, c->reply);
    c->reply = NULL;
    nng_ctx_send(c->ctx, c->aio);
}

/* Sends the reply when it is time to. */
static void fake_delay(struct fake_context *c) {
    struct fake_message *m = &c->message;
    uint32_t wait_ms = m->delay_ms;
    m->delay_ms = 0;
    if (m->held && !atomic_load(&c->engine->released)) wait_ms = FAKE_HELD_LOOK_MS;
    if (wait_ms == 0) {
        fake_send(c);
        return;
    }
    c->state = FAKE_DELAYING;
    nng_sleep_aio((nng_duration)wait_ms, c->aio);
}

static void fake_received(struct fake_context *c) {
    struct fake_engine *e = c->engine;
    struct fake_message *m = &c->message;
    nng_msg *request = nng_aio_get_msg(c->aio);
    bool ok = fake_read(m, nng_msg_body(request), nng_msg_len(request));
    require(ok); /* the library never sends what is not msgpack */
    nng_msg_free(request);
    m->endpoint = c->endpoint;
    m->shard = m->endpoint < 0 ? 99 : (uint32_t)m->endpoint;
    const char *own = atomic_load(&e->cluster);
    if (m->cluster[0] && (!own || strcmp(m->cluster, own) != 0)) {
        atomic_fetch_add(&e->wrong_clusters, 1);
        m->action = FAKE_REFUSE_ALL;
        m->codes[0] = JUMUN_WRONG_CLUSTER;
    } else if (m->commands[0].kind < JUMUN_NODE_PING) {
        pthread_mutex_lock(&e->mutex);
        m->number = atomic_load(&e->messages);
        if (e->script) e->script(e->arg, m);
        atomic_fetch_add(&e->messages, 1);
        pthread_mutex_unlock(&e->mutex);
    }
    if (m->action == FAKE_DROP || atomic_load(&e->frozen)) {
        fake_receive(c);
        return;
    }
    c->reply = fake_reply(e, m);
    fake_delay(c);
}

static void fake_work(void *arg) {
    struct fake_context *c = arg;
    int rc = nng_aio_result(c->aio);
    if (rc != 0) {
        nng_msg *unsent = c->state == FAKE_SENDING ? nng_aio_get_msg(c->aio) : c->reply;
        if (unsent) nng_msg_free(unsent);
        c->reply = NULL;
        if (rc != NNG_ECLOSED && rc != NNG_ECANCELED) fake_receive(c);
        return;
    }
    if (c->state == FAKE_RECEIVING) fake_received(c);
    else if (c->state == FAKE_DELAYING) fake_delay(c);
    else fake_receive(c);
}

/* -- life -------------------------------------------------------------------------------------- */

static void fake_listen(struct fake_engine *e, int endpoint) {
    struct fake_endpoint *ep = &e->endpoints[endpoint + 1];
    char address[128];
    fake_place(e, endpoint, address, sizeof address);
    int rc = nng_rep0_open(&ep->socket);
    require(rc == 0);
    for (int i = 0; i < FAKE_CONTEXTS; i++) {
        struct fake_context *c = &ep->contexts[i];
        c->engine = e;
        c->endpoint = endpoint;
        rc = nng_aio_alloc(&c->aio, fake_work, c);
        require(rc == 0);
        rc = nng_ctx_open(&c->ctx, ep->socket);
        require(rc == 0);
        fake_receive(c);
    }
    rc = nng_listen(ep->socket, address, NULL, 0);
    require(rc == 0);
    ep->open = true;
}

struct fake_engine *fake_engine_start(const char *name, uint32_t shards, fake_script script,
                                      void *arg) {
    struct fake_engine *e = calloc(1, sizeof *e);
    require(e && shards <= FAKE_SHARDS_MAX);
    snprintf(e->name, sizeof e->name, "%s", name);
    e->shards = shards;
    e->script = script;
    e->arg = arg;
    pthread_mutex_init(&e->mutex, NULL);
    for (uint32_t i = 0; i < shards; i++) fake_listen(e, (int)i);
    fake_listen(e, FAKE_GENERAL);
    return e;
}

static void fake_close(struct fake_endpoint *ep) {
    if (!ep->open) return;
    ep->open = false;
    nng_close(ep->socket);
    for (int i = 0; i < FAKE_CONTEXTS; i++) {
        nng_aio_stop(ep->contexts[i].aio);
        nng_aio_free(ep->contexts[i].aio);
    }
}

void fake_engine_close_shard(struct fake_engine *e, uint32_t shard) {
    fake_close(&e->endpoints[shard + 1]);
}

void fake_engine_stop(struct fake_engine *e) {
    for (int i = 0; i < 1 + FAKE_SHARDS_MAX; i++) fake_close(&e->endpoints[i]);
    pthread_mutex_destroy(&e->mutex);
    free(e);
}

uint32_t fake_engine_shard_of(struct fake_engine *e, const jumun_key *key) {
    struct routing_epoch epoch = {0, e->shards};
    struct id128 id;
    memcpy(id.bytes, key->bytes, 16);
    return routing_shard_of_key(&epoch, 1, &id);
}

void fake_engine_move_shard(struct fake_engine *e, uint32_t shard, const char *address) {
    require(shard < FAKE_SHARDS_MAX);
    atomic_store(&e->moved_to[shard], address);
}

void fake_engine_be_of(struct fake_engine *e, const char *cluster) {
    atomic_store(&e->cluster, cluster);
}

void fake_engine_descend_from(struct fake_engine *e, const char *cluster) {
    atomic_store(&e->ancestor, cluster);
}

uint32_t fake_engine_wrong_clusters(struct fake_engine *e) {
    return atomic_load(&e->wrong_clusters);
}

void fake_engine_freeze(struct fake_engine *e) { atomic_store(&e->frozen, true); }

void fake_engine_release(struct fake_engine *e) { atomic_store(&e->released, true); }

uint32_t fake_engine_messages(struct fake_engine *e) { return atomic_load(&e->messages); }

bool fake_engine_await_messages(struct fake_engine *e, uint32_t count) {
    for (int i = 0; i < 60000; i++) {
        if (atomic_load(&e->messages) >= count) return true;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return false;
}
