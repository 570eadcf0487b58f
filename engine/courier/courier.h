/* The courier of a node: carries messages between its shards as msgpack over nng inproc://, and is
 * what shard.h calls a `struct courier`. One pull socket for each shard, one push socket towards
 * each, shared by all senders. A full queue drops the message: its shard sends it again until it is
 * acknowledged. */
#ifndef JUMUN_COURIER_COURIER_H
#define JUMUN_COURIER_COURIER_H

#include "engine/shard/shard.h"

struct node_courier;

struct node_courier_stats {
    uint64_t sent, acknowledged; /* handed to nng */
    uint64_t dropped;            /* no room at nng or at the receiving shard; sent again later */
    uint64_t refused;            /* not an envelope for the shard that it came to */
};

/* Opens the sockets of `shards_count` shards; nothing is received before node_courier_start().
 * NULL with a sentence in error. */
struct node_courier *node_courier_open(uint32_t shards_count, char *error, size_t error_bytes);

/* What shard_options.courier takes. Its functions may be called by any shard's thread and do not
 * block. */
struct courier *node_courier_interface(struct node_courier *courier);

/* Begins to deliver to the shards (by id), on nng's threads. */
void node_courier_start(struct node_courier *courier, struct shard *const *shards);

/* Ends delivery and waits for deliveries that are under way; sends are dropped from then on. */
void node_courier_stop(struct node_courier *courier);

/* Stops if needed, and frees. No shard may send any more. */
void node_courier_close(struct node_courier *courier);

void node_courier_stats(const struct node_courier *courier, struct node_courier_stats *stats);

#endif
