/* The way in: messages of clients over nng REP, and the way of their replies out.
 *
 * One socket for the general endpoint and one for each shard; any endpoint takes any command. What
 * another node leads is sent on to it from the general endpoint, once, and answered NOT_LEADER at
 * the others. Each socket has many contexts, each of which carries one message at a time:
 *
 *   receiving -> (decode, split, offer to the shards) -> deciding -> replying -> receiving
 *
 * The first step runs on one of nng's threads, the last one on the egress thread. Nothing here
 * blocks. */
#ifndef JUMUN_INGRESS_INGRESS_H
#define JUMUN_INGRESS_INGRESS_H

#include "engine/base/histogram.h"
#include "engine/ingress/forwarder.h"
#include "engine/router/local_shards.h"
#include "engine/router/shard_map.h"
#include "engine/shard/shard.h"

struct ingress;

/* Codes up to here are counted by number when a message or a command is malformed. */
enum { INGRESS_CODES = 100 };

struct ingress_stats {
    uint64_t received, replied, refused, overloaded;
    uint64_t commands, node_commands, stray_commands, replies_dropped;
    uint64_t bytes_in, bytes_out, in_flight;
    uint64_t not_led;                       /* commands answered NOT_LEADER by the node itself */
    struct forwarder_stats forwarded;
    uint64_t connections_opened, connections_closed;
    uint64_t malformed[INGRESS_CODES];      /* by result code */
};

struct ingress_options {
    const char *listen;          /* nng address of the general endpoint */
    struct shard_map *map;       /* gets the endpoints; read from then on, outlives the ingress */
    struct local_shards *shards; /* outlives it */
    uint32_t node;               /* own number */
    struct id128 cluster_id;     /* own; requests that name another one are refused */
    const struct leaders *leaders; /* who leads what; NULL = this node leads all. Outlives it */
    const struct tls_options *tls; /* for tls+tcp://; NULL = none. Outlives it */
    uint32_t contexts;           /* per endpoint */
    /* The answer to STATUS: malloc'ed msgpack, *bytes long, or NULL without memory. Any thread. */
    void *(*status)(void *arg, uint32_t *bytes);
    /* Likewise to CLUSTER_DOCUMENT; NULL = the node belongs to no cluster with a document. */
    void *(*document)(void *arg, uint32_t *bytes);
    void *status_arg;
};

/* Opens the sockets and listens; clients may connect and are answered once it has started. NULL
 * with a sentence in error (address in use, no address, ...). */
struct ingress *ingress_open(const struct ingress_options *options, char *error,
                             size_t error_bytes);

/* Begins to take messages. False with a sentence in error. */
bool ingress_start(struct ingress *ingress, char *error, size_t error_bytes);

/* A newer map takes the place of the one before, which is not touched, and which nobody reads any
 * more when this returns true. Gets the endpoints; sockets are opened for shards that are new. One
 * thread at a time. False with a sentence in error: then either one may be in force. */
bool ingress_set_map(struct ingress *ingress, struct shard_map *map, char *error,
                     size_t error_bytes);

/* From now on every command is answered SHUTTING_DOWN without visiting its shard; in a cluster, but
 * for those that another node leads. */
void ingress_drain(struct ingress *ingress);

/* From now on nothing is answered any more, and no shard and no status is touched once
 * ingress_is_idle(). */
void ingress_halt(struct ingress *ingress);

/* Whether no message is between receipt and the end of its reply. */
bool ingress_is_idle(const struct ingress *ingress);

/* Closes the sockets and frees. The shards must be done with all requests. May wait for ever in nng
 * 1.5.2 when a message comes in at that very moment: its TCP transport begins to receive the rest
 * of the message on an aio that is closed already, and then waits for that to end. A process that
 * is about to exit leaves the sockets to the kernel instead. */
void ingress_close(struct ingress *ingress);

void ingress_stats(const struct ingress *ingress, struct ingress_stats *stats);

/* Time from receipt to reply, since the start and over the last one to two turns of the window. */
const struct histogram *ingress_latency(const struct ingress *ingress);
void ingress_latency_recent(const struct ingress *ingress, struct histogram *sum);
/* Begins the next window; one thread, every some seconds. */
void ingress_latency_turn(struct ingress *ingress);

#endif
