/* A node's way to its peers: the twin of the simulator's network, and what shard.h calls a `struct
 * peers`. Carries the messages of consensus, those between shards whose leaders live on different
 * nodes, the hellos from which everybody knows who leads what, and stored states for followers that
 * the log does not reach any more.
 *
 * Threads: the functions of the interface are called by the shards' threads and do not block; what
 * comes in is decoded on one of nng's threads and offered to the shard; one thread of its own sends
 * hellos and looks after connections that have fallen silent. */
#ifndef JUMUN_PEERS_NODE_PEERS_H
#define JUMUN_PEERS_NODE_PEERS_H

#include "engine/courier/envelope.h"
#include "engine/peers/catch_up.h"
#include "engine/peers/hello.h"
#include "engine/peers/snapshots.h"
#include "engine/peers/transport.h"
#include "engine/router/leaders.h"
#include "engine/shard/peers.h"

struct node_clock;
struct node_peers;

struct node_peers_options {
    uint32_t node;                    /* own number */
    struct id128 cluster;
    const char *listen;               /* for other nodes; takes this port and the next one */
    const char *client_endpoint;      /* told to others; copied */
    const struct tls_options *tls;    /* NULL = none */
    uint64_t catch_up_bytes_per_second; /* 0 = no bound */
    struct leaders *leaders;          /* is kept up to date; outlives it */
    struct local_shards *shards;      /* outlives it */
    struct node_clock *clock;         /* told to others and compared with theirs; outlives it */
    /* A message between shards came in (engine/courier). One of nng's threads. */
    void (*courier_received)(void *arg, struct bytes envelope);
    /* A message of kind >= PEER_CLUSTER_FIRST came in. One of nng's threads; must not block. NULL =
     * nobody listens. */
    void (*cluster_received)(void *arg, uint32_t from, uint32_t kind, struct bytes body);
    /* A node has said hello: it knows the cluster document in this version. */
    void (*hello_received)(void *arg, uint32_t from, uint64_t document);
    /* Another process runs under this node's number, and this one is the newer: it must stop. */
    void (*duplicate)(void *arg, const char *sentence);
    void *arg;
};

struct node_peers_stats {
    struct transport_stats messages, snapshots;
    struct catch_up_stats catch_up;
    struct snapshots_stats states;
    uint64_t hellos_sent, hellos_received;
    uint64_t unwanted;                /* messages of consensus for a shard that is not here */
    uint64_t refused;                 /* ... that its inbox had no room for */
    uint64_t redials;
};

/* A node as seen from here, for status. */
struct node_peers_seen {
    uint32_t node;
    bool up;                          /* connected */
    int64_t silent_ms;                /* since it was heard; -1 = never */
    uint64_t document;
    char endpoint[ENDPOINT_BYTES_MAX]; /* for clients, as it says */
    char version[32];
    uint8_t level_min, level_max;     /* of clusters that it can work in; 0 = not heard yet */
    bool clock_known, clock_off;      /* off: by too much, for a while */
    int64_t clock_ahead_ms;           /* its clock, of this node's */
};

/* Listens. Nothing is received before node_peers_start(). NULL with a sentence in error. */
struct node_peers *node_peers_open(const struct node_peers_options *options, char *error,
                                   size_t error_bytes);
void node_peers_start(struct node_peers *p);

/* What shard_options.peers takes. */
struct peers *node_peers_interface(struct node_peers *p);

/* The nodes that there are, this one included (at the address where others find it). Any thread;
 * may wait for nng. False with a sentence when one's endpoint cannot be used (the others are). */
bool node_peers_set_nodes(struct node_peers *p, const struct transport_peer *nodes, uint32_t count,
                          char *error, size_t error_bytes);

/* The newest cluster document's version, told with every hello. Any thread. */
void node_peers_set_document(struct node_peers *p, uint64_t version);

/* Whether this node's own hello has come back over the address that the others find it at: false =
 * not within patience_ms, although something answers there. Then another process has this node's
 * place. True also when nothing answers. */
bool node_peers_await_self(struct node_peers *p, int64_t patience_ms);

/* Sends a message between shards to another node. False = lost. Any thread, does not block. */
bool node_peers_send_envelope(struct node_peers *p, uint32_t node, const struct envelope *envelope);

/* Sends a body (one msgpack value) of a kind >= PEER_CLUSTER_FIRST. False = lost. Any thread. */
bool node_peers_send(struct node_peers *p, uint32_t node, uint32_t kind, struct bytes body);

/* A replica of this node is there, with its storage in `directory`: states can be sent from and to
 * it. False without memory, or when nothing can be made in the directory. */
bool node_peers_add_shard(struct node_peers *p, uint32_t shard, uint64_t server,
                          struct storage *storage, const char *directory);

/* A replica of this node is about to be closed: nothing touches its storage any more. Any thread
 * but the shard's. */
void node_peers_forget_shard(struct node_peers *p, uint32_t shard);

/* Ends what comes in and the threads; sends are lost from now on. */
void node_peers_stop(struct node_peers *p);

/* Stops if needed, closes and frees. No shard sends any more. `exiting`: the sockets are left to
 * the kernel, see ingress_close(). */
void node_peers_close(struct node_peers *p, bool exiting);

void node_peers_stats(struct node_peers *p, struct node_peers_stats *stats);
/* Fills at most `max`, returns how many. */
uint32_t node_peers_seen(struct node_peers *p, struct node_peers_seen *seen, uint32_t max);

#endif
