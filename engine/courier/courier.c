#include "engine/courier/courier.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/courier/envelope.h"
#include "engine/limits.h"

enum { COURIER_QUEUE_MESSAGES = 128 };

/* The way to one shard. */
struct courier_lane {
    struct node_courier *courier;
    uint32_t shard_id;
    struct shard *shard;      /* set by start */
    nng_socket pull, push;    /* id 0 = not open */
    nng_aio *aio;             /* receives on `pull` */
};

struct node_courier {
    struct courier interface; /* first: the callbacks come back here */
    uint32_t shards_count;
    atomic_bool stopped;
    atomic_ullong sent, acknowledged, dropped, refused;
    struct courier_lane lanes[];
};

static void courier_count(atomic_ullong *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void courier_deliver(struct courier_lane *lane, const void *data, size_t bytes) {
    struct node_courier *c = lane->courier;
    struct envelope e;
    if (!envelope_decode(data, bytes, &e) || e.to != lane->shard_id || e.from >= c->shards_count) {
        courier_count(&c->refused);
        return;
    }
    bool taken = e.kind == ENVELOPE_MESSAGE
                     ? shard_offer_message(lane->shard, e.from, e.sequence, e.payload)
                     : shard_offer_acknowledgement(lane->shard, e.from, e.sequence);
    if (!taken) courier_count(&c->dropped);
}

/* On an nng thread. */
static void courier_received(void *arg) {
    struct courier_lane *lane = arg;
    if (nng_aio_result(lane->aio) != 0) return; /* closed */
    nng_msg *message = nng_aio_get_msg(lane->aio);
    courier_deliver(lane, nng_msg_body(message), nng_msg_len(message));
    nng_msg_free(message);
    nng_recv_aio(lane->pull, lane->aio);
}

static void courier_post(struct node_courier *c, const struct envelope *e, atomic_ullong *counter) {
    nng_msg *message;
    if (atomic_load_explicit(&c->stopped, memory_order_relaxed)) return;
    if (nng_msg_alloc(&message, envelope_bytes_max(e)) != 0) {
        courier_count(&c->dropped);
        return;
    }
    size_t bytes = envelope_encode(e, nng_msg_body(message), nng_msg_len(message));
    nng_msg_chop(message, nng_msg_len(message) - bytes);
    if (nng_sendmsg(c->lanes[e->to].push, message, NNG_FLAG_NONBLOCK) != 0) {
        nng_msg_free(message);
        courier_count(&c->dropped);
        return;
    }
    courier_count(counter);
}

static void courier_send(struct courier *courier, uint32_t from, uint32_t to, uint64_t sequence,
                         struct bytes payload) {
    struct node_courier *c = (struct node_courier *)courier;
    const struct envelope e = {from, to, ENVELOPE_MESSAGE, sequence, payload};
    courier_post(c, &e, &c->sent);
}

static void courier_acknowledge(struct courier *courier, uint32_t from, uint32_t to,
                                uint64_t sequence) {
    struct node_courier *c = (struct node_courier *)courier;
    const struct envelope e = {from, to, ENVELOPE_ACKNOWLEDGEMENT, sequence, {NULL, 0}};
    courier_post(c, &e, &c->acknowledged);
}

static int courier_lane_open(struct courier_lane *lane, const char *url) {
    int rc = nng_pull0_open(&lane->pull);
    if (rc == 0) rc = nng_push0_open(&lane->push);
    if (rc == 0) rc = nng_socket_set_size(lane->pull, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    if (rc == 0) rc = nng_socket_set_int(lane->push, NNG_OPT_SENDBUF, COURIER_QUEUE_MESSAGES);
    if (rc == 0) rc = nng_listen(lane->pull, url, NULL, 0);
    if (rc == 0) rc = nng_dial(lane->push, url, NULL, 0);
    if (rc == 0) rc = nng_aio_alloc(&lane->aio, courier_received, lane);
    return rc;
}

struct node_courier *node_courier_open(uint32_t shards_count, char *error, size_t error_bytes) {
    /* Several nodes may live in one process (tests): their inproc names must differ. */
    static atomic_uint couriers;
    unsigned number = atomic_fetch_add(&couriers, 1);
    struct node_courier *c = calloc(1, sizeof *c + shards_count * sizeof c->lanes[0]);
    if (!c) {
        snprintf(error, error_bytes, "no memory for the courier between shards");
        return NULL;
    }
    c->interface = (struct courier){courier_send, courier_acknowledge};
    c->shards_count = shards_count;
    for (uint32_t i = 0; i < shards_count; i++) {
        char url[64];
        struct courier_lane *lane = &c->lanes[i];
        lane->courier = c;
        lane->shard_id = i;
        snprintf(url, sizeof url, "inproc://jumun-%d-%u-shard-%u", (int)getpid(), number, i);
        int rc = courier_lane_open(lane, url);
        if (rc == 0) continue;
        snprintf(error, error_bytes, "cannot open %s: %s", url, nng_strerror(rc));
        node_courier_close(c);
        return NULL;
    }
    return c;
}

struct courier *node_courier_interface(struct node_courier *courier) { return &courier->interface; }

void node_courier_start(struct node_courier *c, struct shard *const *shards) {
    for (uint32_t i = 0; i < c->shards_count; i++) {
        c->lanes[i].shard = shards[i];
        nng_recv_aio(c->lanes[i].pull, c->lanes[i].aio);
    }
}

void node_courier_stop(struct node_courier *c) {
    atomic_store(&c->stopped, true);
    for (uint32_t i = 0; i < c->shards_count; i++) {
        if (c->lanes[i].aio) nng_aio_stop(c->lanes[i].aio);
    }
}

void node_courier_close(struct node_courier *c) {
    node_courier_stop(c);
    for (uint32_t i = 0; i < c->shards_count; i++) {
        struct courier_lane *lane = &c->lanes[i];
        if (lane->push.id != 0) nng_close(lane->push);
        if (lane->pull.id != 0) nng_close(lane->pull);
        if (lane->aio) nng_aio_free(lane->aio);
    }
    free(c);
}

void node_courier_stats(const struct node_courier *c, struct node_courier_stats *stats) {
    stats->sent = atomic_load_explicit(&c->sent, memory_order_relaxed);
    stats->acknowledged = atomic_load_explicit(&c->acknowledged, memory_order_relaxed);
    stats->dropped = atomic_load_explicit(&c->dropped, memory_order_relaxed);
    stats->refused = atomic_load_explicit(&c->refused, memory_order_relaxed);
}
