/* The courier of a node: carries messages between shards as msgpack over nng, and is what shard.h
 * calls a `struct courier`. A shard that is led on this node is reached over inproc://, with one
 * pull socket for each shard and one push socket towards each, shared by all senders; one that is
 * led on another node, over the way to that node (engine/peers). A full queue, an unknown leader or
 * a lost connection drops the message: its shard sends it again until it is acknowledged. */
#ifndef JUMUN_COURIER_COURIER_H
#define JUMUN_COURIER_COURIER_H

#include "engine/courier/envelope.h"
#include "engine/router/leaders.h"
#include "engine/shard/shard.h"

struct node_courier;

struct node_courier_options {
    uint32_t node;                   /* own number */
    struct local_shards *shards;     /* outlives it */
    const struct leaders *leaders;   /* who leads what; NULL = this node leads all that is here */
    /* Sends an envelope to another node. False = lost. Must not block. NULL = there is no other. */
    bool (*send)(void *arg, uint32_t node, const struct envelope *envelope);
    void *arg;
};

struct node_courier_stats {
    uint64_t sent, acknowledged; /* handed over */
    uint64_t dropped;            /* no room, no leader, no connection; sent again later */
    uint64_t refused;            /* not an envelope for the shard that it came to */
};

/* NULL with a sentence in error. */
struct node_courier *node_courier_open(const struct node_courier_options *options, char *error,
                                       size_t error_bytes);

/* What shard_options.courier takes. Its functions may be called by any shard's thread and do not
 * block. */
struct courier *node_courier_interface(struct node_courier *courier);

/* Opens the inproc way to a shard of this node, once; delivers to it whenever it is in `shards`, on
 * nng's threads. One thread at a time. False with a sentence in error. */
bool node_courier_add(struct node_courier *courier, uint32_t shard, char *error,
                      size_t error_bytes);

/* An envelope came in from another node. Any thread; does not block. */
void node_courier_receive(struct node_courier *courier, struct bytes envelope);

/* Ends delivery and waits for deliveries that are under way; sends are dropped from then on. */
void node_courier_stop(struct node_courier *courier);

/* Stops if needed, and frees. No shard may send any more. */
void node_courier_close(struct node_courier *courier);

void node_courier_stats(const struct node_courier *courier, struct node_courier_stats *stats);

#endif
