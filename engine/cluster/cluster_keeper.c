#include "engine/cluster/cluster_keeper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/doorbell.h"
#include "engine/base/log.h"
#include "engine/cluster/cluster_topology.h"
#include "engine/shard/shard.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/msgpack_reader.h"

enum { KEEPER_ASK_META_MS = 100, KEEPER_ASK_PEER_MS = 200, KEEPER_RETRY_MS = 1000,
       KEEPER_TOLD_EVERY_MS = 30000, /* that the disk takes nothing */
       /* A shard that is closed answers what it has not decided, and may forget the rest. */
       KEEPER_FORGOTTEN_MS = 30000 };

/* A question to the meta group's shard on this node; one at a time. Freed by its answer. */
struct keeper_question {
    struct request request;        /* first: request->done comes back here */
    struct request_part part;
    struct command command;
    struct result result;
    struct cluster_keeper *keeper;
    struct cluster_founder founders[NODES_MAX]; /* of one that forms */
    struct cluster_epoch epochs[EPOCHS_MAX];    /* likewise */
};

struct cluster_keeper {
    _Alignas(64) struct doorbell bell;
    struct cluster_keeper_options options;
    pthread_t thread;
    bool runs;
    atomic_bool stop;
    struct id128 cluster_id;       /* never changes */
    struct cluster_cache cache;    /* the thread's; what the disk has */
    bool applied;                  /* the cache's document is made true */
    int64_t retry_ms;              /* monotonic */
    int64_t unsaved_told_ms;       /* monotonic; 0 = the disk took the last one */

    pthread_mutex_t mutex;         /* guards what stands below */
    uint64_t version;              /* of the cache's document */
    void *encoded;                 /* the cache's document on the wire */
    uint32_t encoded_bytes;
    uint64_t newer_version;        /* a document that came in; 0 = none */
    struct cluster_document newer;
    uint32_t peer;                 /* has a newer one; 0 = nobody */
    uint64_t peer_version;

    struct keeper_question *asking; /* under way; NULL = none */
    bool found_it;                 /* the meta group has no document yet */
    uint64_t move_stores;          /* in the document of this version stores are not spread as the
                                      epoch that has begun says; 0 = they are, or who leads is
                                      another's */
    int64_t asked_meta_ms, asked_peer_ms; /* the thread's */
};

/* -- what comes in: any thread ----------------------------------------------------------------- */

static void keeper_offer(struct cluster_keeper *k, uint64_t version,
                         const struct cluster_document *document) {
    if (!id128_equal(&document->cluster_id, &k->cluster_id)) {
        log_error("a document of another cluster came in: not taken");
        return;
    }
    pthread_mutex_lock(&k->mutex);
    bool newer = version > k->version && version > k->newer_version;
    if (newer) {
        k->newer_version = version;
        k->newer = *document;
    }
    pthread_mutex_unlock(&k->mutex);
    if (newer) doorbell_ring(&k->bell);
}

void cluster_keeper_hello(struct cluster_keeper *k, uint32_t from, uint64_t version) {
    bool newer = false;
    pthread_mutex_lock(&k->mutex);
    if (version > k->version && version > k->newer_version && version >= k->peer_version) {
        newer = k->peer == 0;
        k->peer = from;
        k->peer_version = version;
    }
    pthread_mutex_unlock(&k->mutex);
    if (newer) doorbell_ring(&k->bell);
}

static void keeper_answer(struct cluster_keeper *k, uint32_t from, struct bytes body) {
    struct msgpack_reader r;
    uint64_t has = 0;
    msgpack_reader_init(&r, body.data, body.size);
    if (msgpack_read_uint(&r, &has) != MSGPACK_OK) return;
    pthread_mutex_lock(&k->mutex);
    if (k->version > has)
        k->options.send(k->options.arg, from, CLUSTER_KIND_DOCUMENT,
                        bytes_of(k->encoded, k->encoded_bytes));
    pthread_mutex_unlock(&k->mutex);
}

void cluster_keeper_received(struct cluster_keeper *k, uint32_t from, uint32_t kind,
                             struct bytes body) {
    if (kind == CLUSTER_KIND_ASK) keeper_answer(k, from, body);
    if (kind != CLUSTER_KIND_DOCUMENT) return;
    struct cluster_document *document = malloc(sizeof *document);
    if (!document) return; /* the hello comes again */
    uint64_t version;
    const char *fault = cluster_decode(body.data, body.size, &version, document);
    if (fault) log_warn("node %u sent a cluster document that is wrong: %s", from, fault);
    else keeper_offer(k, version, document);
    free(document);
}

void *cluster_keeper_encode(struct cluster_keeper *k, uint32_t *bytes) {
    pthread_mutex_lock(&k->mutex);
    void *copy = malloc(k->encoded_bytes);
    if (copy) memcpy(copy, k->encoded, k->encoded_bytes);
    *bytes = copy ? k->encoded_bytes : 0;
    pthread_mutex_unlock(&k->mutex);
    return copy;
}

/* -- the meta group on this node --------------------------------------------------------------- */

/* The version of the document if its stores are to be spread over other shards now; 0 = not. By
 * this node's clock; the group's decides. */
static uint64_t keeper_stores_due(const struct cluster_keeper *k, const struct actor *cluster) {
    const struct cluster_document *d = cluster_document_of(cluster);
    int64_t now_ms = k->options.now_ms ? k->options.now_ms(k->options.arg) : clock_unix_ms();
    return cluster_shards_begun(d, now_ms) != d->stores_shards ? cluster->version : 0;
}

/* On the shard's thread, or on ours. */
static void keeper_answered(struct request *request) {
    struct keeper_question *q = (struct keeper_question *)(void *)request;
    struct cluster_keeper *k = q->keeper;
    uint64_t move_stores = 0;
    if (q->result.code == RESULT_OK && q->result.value_kind == RESULT_VALUE_CLUSTER) {
        const struct actor *cluster = q->result.value;
        keeper_offer(k, cluster->version, cluster_document_of(cluster));
        move_stores = keeper_stores_due(k, cluster);
    }
    if (q->command.kind == COMMAND_CLUSTER_MOVE_STORES && q->result.code == RESULT_OK)
        log_info("the epoch has begun: stores move to its shards");
    pthread_mutex_lock(&k->mutex);
    if (k->asking == q) k->asking = NULL;
    if (q->command.kind == COMMAND_CLUSTER_GET)
        k->found_it = q->result.code == RESULT_CLUSTER_NOT_FORMED;
    k->move_stores = move_stores;
    bool found = k->found_it;
    pthread_mutex_unlock(&k->mutex);
    free(q->result.value);
    free(q);
    if (found) doorbell_ring(&k->bell);
}

/* The document that the founders were given, as the command that it came from. Its id is the same
 * on all of them, so it is done once whoever leads. */
static void keeper_form(struct cluster_keeper *k, struct keeper_question *q) {
    const struct cluster_document *d = &k->cache.document;
    struct command *command = &q->command;
    command->kind = COMMAND_CLUSTER_FORM;
    command->id = d->cluster_id;
    for (uint32_t i = 0; i < d->nodes_count; i++)
        q->founders[i] = (struct cluster_founder){d->nodes[i].node,
                                                  bytes_of_text(d->nodes[i].peer),
                                                  bytes_of_text(d->nodes[i].client)};
    command->cluster = (struct command_cluster){
        .cluster_id = d->cluster_id, .nodes = q->founders, .nodes_count = d->nodes_count,
        .shards = d->shards_count - 1u, .replicas = d->replicas, .level = d->level,
        .seeded = d->shards[0].first_count == 0, .generation = d->generation};
    if (!command->cluster.seeded) return;
    memcpy(q->epochs, d->epochs, sizeof q->epochs);
    command->cluster.epochs = q->epochs;
    command->cluster.epochs_count = d->epochs_count;
    command->cluster.stores_shards = d->stores_shards;
}

/* Growth announced is growth done: when its epoch has begun, whoever leads the meta group has the
 * stores follow the orders. The id says which document it is about, so whatever leaders ask for it
 * whenever, and however often, it is done once; a newer document is looked at anew. */
static void keeper_move_stores(const struct cluster_keeper *k, struct keeper_question *q,
                               uint64_t version) {
    struct command *command = &q->command;
    command->kind = COMMAND_CLUSTER_MOVE_STORES;
    command->id = k->cluster_id;
    for (uint32_t i = 0; i < 8; i++)
        command->id.bytes[8 + i] ^= (uint8_t)(version >> (8 * i));
    command->expected_version = (uint32_t)version;
}

static void keeper_ask_meta(struct cluster_keeper *k, int64_t now_ms) {
    pthread_mutex_lock(&k->mutex);
    bool form = k->found_it && k->cache.version == 1;
    uint64_t move_stores = k->move_stores;
    bool waits = k->asking && now_ms - k->asked_meta_ms < KEEPER_FORGOTTEN_MS;
    pthread_mutex_unlock(&k->mutex);
    if (waits || (!form && now_ms - k->asked_meta_ms < KEEPER_ASK_META_MS)) return;
    struct shard *meta = local_shards_enter(k->options.shards, SHARD_META);
    struct keeper_question *q = meta ? calloc(1, sizeof *q) : NULL;
    k->asked_meta_ms = now_ms;
    if (!q) {
        if (meta) local_shards_leave(k->options.shards, SHARD_META);
        return;
    }
    *q = (struct keeper_question){.keeper = k,
                                  .command = {.kind = COMMAND_CLUSTER_GET,
                                              .subject = cluster_key()}};
    if (form) keeper_form(k, q);
    else if (move_stores != 0) keeper_move_stores(k, q, move_stores);
    else q->command.uncounted = true; /* several a second, on each node */
    q->request = (struct request){.commands_count = 1, .commands = &q->command,
                                  .results = &q->result, .done = keeper_answered};
    atomic_init(&q->request.parts_left, 1);
    q->part = (struct request_part){.request = &q->request, .count = 1, .bytes = sizeof *q};
    pthread_mutex_lock(&k->mutex);
    k->found_it = false;
    k->move_stores = 0; /* the answer to the next question tells whether it still is to be done */
    k->asking = q;
    pthread_mutex_unlock(&k->mutex);
    uint32_t retry_after_ms;
    if (!shard_offer(meta, &q->part, &retry_after_ms)) {
        pthread_mutex_lock(&k->mutex);
        k->asking = NULL;
        pthread_mutex_unlock(&k->mutex);
        free(q);
    }
    local_shards_leave(k->options.shards, SHARD_META);
}

/* -- the thread -------------------------------------------------------------------------------- */

static void keeper_ask_peer(struct cluster_keeper *k, int64_t now_ms) {
    pthread_mutex_lock(&k->mutex);
    uint32_t peer = k->peer_version > k->version ? k->peer : 0;
    k->peer = 0;
    k->peer_version = 0;
    uint64_t version = k->version;
    pthread_mutex_unlock(&k->mutex);
    if (peer == 0) return;
    uint8_t body[16];
    struct msgpack_writer w;
    msgpack_writer_init(&w, body, sizeof body);
    msgpack_write_uint(&w, version);
    k->asked_peer_ms = now_ms;
    k->options.send(k->options.arg, peer, CLUSTER_KIND_ASK,
                    bytes_of(body, msgpack_writer_size(&w)));
}

/* Encodes the cache's document for those who ask. The old one stays without memory. */
static bool keeper_publish(struct cluster_keeper *k) {
    uint8_t *encoded = malloc(CLUSTER_ENCODED_BYTES_MAX);
    if (!encoded) return false;
    struct msgpack_writer w;
    msgpack_writer_init(&w, encoded, CLUSTER_ENCODED_BYTES_MAX);
    cluster_encode(&w, k->cache.version, &k->cache.document);
    require(msgpack_writer_ok(&w));
    pthread_mutex_lock(&k->mutex);
    free(k->encoded);
    k->encoded = encoded;
    k->encoded_bytes = (uint32_t)msgpack_writer_size(&w);
    k->version = k->cache.version;
    pthread_mutex_unlock(&k->mutex);
    return true;
}

/* What fails is tried each time it is heard of again, several times a second: told when it begins,
 * now and then, and when it is over. */
static bool keeper_save(struct cluster_keeper *k, const struct cluster_cache *cache) {
    char error[512] = "";
    int64_t now_ms = clock_mono_ms();
    if (cluster_cache_save(k->options.directory, cache, error, sizeof error) == 0) {
        if (k->unsaved_told_ms != 0)
            log_info("%s/cluster.msgpack can be written again", k->options.directory);
        k->unsaved_told_ms = 0;
        return true;
    }
    if (k->unsaved_told_ms != 0 && now_ms - k->unsaved_told_ms < KEEPER_TOLD_EVERY_MS)
        return false;
    log_error("%s: it is tried on and on", error);
    k->unsaved_told_ms = now_ms;
    return false;
}

static void keeper_apply(struct cluster_keeper *k, int64_t now_ms) {
    char error[512] = "";
    struct cluster_topology *t = malloc(sizeof *t);
    k->retry_ms = now_ms + KEEPER_RETRY_MS;
    if (!t) return;
    cluster_topology_fill(t, k->cache.version, &k->cache.document, k->cache.node);
    if (k->options.apply(k->options.arg, t, error, sizeof error) != 0) {
        log_error("version %llu of the cluster document: %s",
                  (unsigned long long)k->cache.version, error);
        free(t);
        return;
    }
    uint32_t noted = k->cache.replicas_count;
    if (cluster_cache_note_running(&k->cache) && !keeper_save(k, &k->cache)) {
        k->cache.replicas_count = noted;
        return; /* applied again, and noted then */
    }
    k->applied = true;
}

/* An operator who starts a lost node again, in whose place another one has come, shall know. */
static void keeper_tell_removed(const struct cluster_cache *c) {
    const struct cluster_member *self = cluster_member_find(&c->document, c->node);
    if (self && self->state == CLUSTER_MEMBER_REMOVED)
        log_warn("node %u was removed from the cluster, or another one has its place: stop this "
                 "process once jumun cluster status shows no replica of it", c->node);
}

/* Takes a newer document over: on disk first, then for others, then made true. */
static void keeper_take(struct cluster_keeper *k) {
    struct cluster_cache *next = malloc(sizeof *next);
    if (!next) return;
    *next = k->cache;
    pthread_mutex_lock(&k->mutex);
    uint64_t version = k->newer_version;
    if (version != 0) cluster_cache_take(next, version, &k->newer);
    k->newer_version = 0;
    pthread_mutex_unlock(&k->mutex);
    if (version > k->cache.version) {
        if (keeper_save(k, next)) { /* else it is heard of again */
            k->cache = *next;
            k->applied = false;
            k->retry_ms = 0;
            keeper_publish(k);
            log_info("the cluster document is at version %llu", (unsigned long long)version);
            keeper_tell_removed(next);
        }
    }
    free(next);
}

static void *keeper_main(void *arg) {
    struct cluster_keeper *k = arg;
    pthread_setname_np(pthread_self(), "cluster");
    while (!atomic_load(&k->stop)) {
        doorbell_hear(&k->bell);
        int64_t now_ms = clock_mono_ms();
        keeper_take(k);
        if (!k->applied && now_ms >= k->retry_ms) keeper_apply(k, now_ms);
        if (now_ms - k->asked_peer_ms >= KEEPER_ASK_PEER_MS) keeper_ask_peer(k, now_ms);
        keeper_ask_meta(k, now_ms);
        doorbell_sleep(&k->bell, KEEPER_ASK_META_MS);
    }
    return NULL;
}

/* -- life -------------------------------------------------------------------------------------- */

struct cluster_keeper *cluster_keeper_new(const struct cluster_keeper_options *options,
                                          const struct cluster_cache *cache) {
    struct cluster_keeper *k = aligned_alloc(64, (sizeof *k + 63) / 64 * 64);
    if (!k) return NULL;
    memset(k, 0, sizeof *k);
    k->options = *options;
    k->cache = *cache;
    k->cluster_id = cache->document.cluster_id;
    /* What runs already is only noted as running: applying the same version again does nothing. */
    pthread_mutex_init(&k->mutex, NULL);
    if (keeper_publish(k)) return k;
    cluster_keeper_free(k);
    return NULL;
}

int cluster_keeper_start(struct cluster_keeper *k, char *error, size_t error_bytes) {
    keeper_tell_removed(&k->cache);
    int rc = pthread_create(&k->thread, NULL, keeper_main, k);
    if (rc != 0) snprintf(error, error_bytes, "cannot start the thread of the cluster document: %s",
                          strerror(rc));
    k->runs = rc == 0;
    return k->runs ? 0 : -1;
}

void cluster_keeper_stop(struct cluster_keeper *k) {
    if (!k->runs) return;
    atomic_store(&k->stop, true);
    doorbell_ring(&k->bell);
    int rc = pthread_join(k->thread, NULL);
    require(rc == 0);
    k->runs = false;
}

void cluster_keeper_free(struct cluster_keeper *k) {
    require(!k->runs);
    pthread_mutex_destroy(&k->mutex);
    free(k->asking); /* it was forgotten */
    free(k->encoded);
    free(k);
}
