#include "engine/courier/courier.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/check.h"

enum { COURIER_QUEUE_MESSAGES = 128 };

/* The way to one shard of this node. */
struct courier_lane {
    struct node_courier *courier;
    uint32_t shard;
    atomic_bool open;
    nng_socket pull, push;    /* id 0 = not open */
    nng_aio *aio;             /* receives on `pull` */
};

struct node_courier {
    struct courier interface; /* first: the callbacks come back here */
    struct node_courier_options options;
    unsigned number;          /* of the couriers of this process */
    atomic_bool stopped;
    atomic_ullong sent, acknowledged, dropped, refused;
    struct courier_lane lanes[LOCAL_SHARDS_SLOTS];
};

static void courier_count(atomic_ullong *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* -- in ---------------------------------------------------------------------------------------- */

static void courier_deliver(struct node_courier *c, const struct envelope *e) {
    struct shard *shard = local_shards_enter(c->options.shards, e->to);
    bool taken = false;
    if (shard) {
        taken = e->kind == ENVELOPE_MESSAGE
                    ? shard_offer_message(shard, e->from, e->sequence, e->payload)
                    : shard_offer_acknowledgement(shard, e->from, e->sequence);
        local_shards_leave(c->options.shards, e->to);
    }
    if (!taken) courier_count(&c->dropped);
}

static bool courier_decode(const void *data, size_t bytes, struct envelope *e) {
    return envelope_decode(data, bytes, e) && local_shards_slot(e->from) != LOCAL_SHARDS_NONE &&
           local_shards_slot(e->to) != LOCAL_SHARDS_NONE;
}

/* On an nng thread. */
static void courier_received(void *arg) {
    struct courier_lane *lane = arg;
    struct node_courier *c = lane->courier;
    struct envelope e;
    if (nng_aio_result(lane->aio) != 0) return; /* closed */
    nng_msg *message = nng_aio_get_msg(lane->aio);
    if (courier_decode(nng_msg_body(message), nng_msg_len(message), &e) && e.to == lane->shard)
        courier_deliver(c, &e);
    else
        courier_count(&c->refused);
    nng_msg_free(message);
    nng_recv_aio(lane->pull, lane->aio);
}

void node_courier_receive(struct node_courier *c, struct bytes envelope) {
    struct envelope e;
    if (courier_decode(envelope.data, envelope.size, &e)) courier_deliver(c, &e);
    else courier_count(&c->refused);
}

/* -- out --------------------------------------------------------------------------------------- */

static bool courier_send_here(struct node_courier *c, const struct envelope *e) {
    struct courier_lane *lane = &c->lanes[local_shards_slot(e->to)];
    nng_msg *message;
    size_t room = envelope_bytes_max(e);
    if (!atomic_load_explicit(&lane->open, memory_order_acquire)) return false;
    if (nng_msg_alloc(&message, room) != 0) return false;
    size_t used = envelope_encode(e, nng_msg_body(message), room);
    nng_msg_chop(message, room - used);
    if (nng_sendmsg(lane->push, message, NNG_FLAG_NONBLOCK) == 0) return true;
    nng_msg_free(message);
    return false;
}

static void courier_post(struct node_courier *c, const struct envelope *e, atomic_ullong *counter) {
    uint32_t node = c->options.node;
    bool sent = false;
    if (c->options.leaders) node = leaders_route(c->options.leaders, e->to).node;
    if (atomic_load_explicit(&c->stopped, memory_order_relaxed) ||
        local_shards_slot(e->to) == LOCAL_SHARDS_NONE)
        sent = false;
    else if (node == c->options.node)
        sent = courier_send_here(c, e);
    else if (node != 0 && c->options.send)
        sent = c->options.send(c->options.arg, node, e);
    courier_count(sent ? counter : &c->dropped);
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

/* -- life -------------------------------------------------------------------------------------- */

struct node_courier *node_courier_open(const struct node_courier_options *options, char *error,
                                       size_t error_bytes) {
    /* Several nodes may live in one process (tests): their inproc names must differ. */
    static atomic_uint couriers;
    struct node_courier *c = calloc(1, sizeof *c);
    if (!c) {
        snprintf(error, error_bytes, "no memory for the courier between shards");
        return NULL;
    }
    c->interface = (struct courier){courier_send, courier_acknowledge};
    c->options = *options;
    c->number = atomic_fetch_add(&couriers, 1);
    return c;
}

struct courier *node_courier_interface(struct node_courier *courier) { return &courier->interface; }

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

static void courier_lane_close(struct courier_lane *lane) {
    if (lane->push.id != 0) nng_close(lane->push);
    if (lane->pull.id != 0) nng_close(lane->pull);
    if (lane->aio) nng_aio_free(lane->aio);
    lane->push.id = lane->pull.id = 0;
    lane->aio = NULL;
}

bool node_courier_add(struct node_courier *c, uint32_t shard, char *error, size_t error_bytes) {
    char url[64];
    uint32_t slot = local_shards_slot(shard);
    require(slot != LOCAL_SHARDS_NONE);
    struct courier_lane *lane = &c->lanes[slot];
    if (atomic_load(&lane->open)) return true;
    lane->courier = c;
    lane->shard = shard;
    snprintf(url, sizeof url, "inproc://jumun-%d-%u-shard-%u", (int)getpid(), c->number, shard);
    int rc = courier_lane_open(lane, url);
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot open %s: %s", url, nng_strerror(rc));
        courier_lane_close(lane);
        return false;
    }
    nng_recv_aio(lane->pull, lane->aio);
    atomic_store_explicit(&lane->open, true, memory_order_release);
    return true;
}

void node_courier_stop(struct node_courier *c) {
    atomic_store(&c->stopped, true);
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++) {
        if (atomic_load(&c->lanes[i].open)) nng_aio_stop(c->lanes[i].aio);
    }
}

void node_courier_close(struct node_courier *c) {
    node_courier_stop(c);
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++) {
        if (atomic_load(&c->lanes[i].open)) courier_lane_close(&c->lanes[i]);
    }
    free(c);
}

void node_courier_stats(const struct node_courier *c, struct node_courier_stats *stats) {
    stats->sent = atomic_load_explicit(&c->sent, memory_order_relaxed);
    stats->acknowledged = atomic_load_explicit(&c->acknowledged, memory_order_relaxed);
    stats->dropped = atomic_load_explicit(&c->dropped, memory_order_relaxed);
    stats->refused = atomic_load_explicit(&c->refused, memory_order_relaxed);
}
