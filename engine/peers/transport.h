/* Messages between nodes over nng: one PULL socket that all others push to, and one PUSH socket
 * with a dialer for each other node, so that a message takes one way, in order, and a slow node
 * holds up nobody else. Sending never blocks: what finds no room or no connection is lost, and
 * counted. A node has two of these: one for consensus and all that is small, one for snapshots. */
#ifndef JUMUN_PEERS_TRANSPORT_H
#define JUMUN_PEERS_TRANSPORT_H

#include "engine/peers/peer_message.h"
#include "engine/wire/tls.h"

struct transport;

struct transport_options {
    const char *listen;             /* tcp://host:port, tls+tcp://host:port or inproc://name */
    struct id128 cluster;
    uint32_t node;                  /* own number */
    uint32_t message_bytes_max;     /* longer ones end the connection that they come by */
    uint32_t queue_messages;        /* for each node: sent and not yet taken by the connection */
    const struct tls_options *tls;  /* for tls+tcp://; NULL = none given. Copied */
    /* A message of this cluster for this node came in. One of nng's threads, one call at a time;
     * the body lives during the call. */
    void (*received)(void *arg, uint32_t from, uint32_t kind, struct bytes body);
    /* A connection to a node came up or went down. One of nng's threads; must not block. */
    void (*changed)(void *arg, uint32_t node, bool up); /* NULL = nobody asks */
    void *arg;
};

struct transport_peer { uint32_t node; const char *endpoint; };

struct transport_stats {
    uint64_t sent, sent_bytes;      /* handed to nng */
    uint64_t lost;                  /* no connection, no room, no memory */
    uint64_t received, received_bytes;
    uint64_t foreign;               /* of another cluster */
    uint64_t stray;                 /* for another node */
    uint64_t malformed;
    uint64_t connects;              /* connections to other nodes that came up */
};

/* Listens; nothing is received before transport_start(). NULL with a sentence in error. */
struct transport *transport_open(const struct transport_options *options, char *error,
                                 size_t error_bytes);

/* The address that it listens at: port 0 has become a number. */
const char *transport_endpoint(const struct transport *t);

void transport_start(struct transport *t);

/* From now on it has these peers: new ones are dialled, others closed, those whose endpoint has
 * changed are dialled anew. One thread at a time; may wait for nng. False with a sentence in error
 * when an endpoint cannot be dialled at all (the others are). */
bool transport_set_peers(struct transport *t, const struct transport_peer *peers, uint32_t count,
                         char *error, size_t error_bytes);

/* Gives up the connection to a node, if any, and dials anew, at once and then about twice a second:
 * one that was cut off may otherwise wait for minutes. The thread of transport_set_peers(). */
void transport_redial(struct transport *t, uint32_t node);

/* Nothing is heard of the node: its connection, which nobody needs now, is dialled patiently until
 * transport_heard(). The thread of transport_set_peers(). */
void transport_unheard(struct transport *t, uint32_t node);

/* The node itself is known to be at the other end: if its connection breaks it is dialled anew
 * within milliseconds again. (A stranger at its address could have that as often as it likes.) The
 * thread of transport_set_peers(). */
void transport_heard(struct transport *t, uint32_t node);

bool transport_is_up(const struct transport *t, uint32_t node);

/* A message that is being written. */
struct transport_message {
    struct msgpack_writer body;     /* write exactly one value */
    uint32_t node;
    void *message;                  /* nng's */
    uint32_t lane;
};

/* Begins a message of at most `body_bytes_max` bytes. False: no connection, no memory; it counts as
 * lost. Ends with transport_send() or transport_drop(). Any thread. */
bool transport_begin(struct transport *t, uint32_t node, uint32_t kind, size_t body_bytes_max,
                     struct transport_message *m);
/* Sends it. False = lost; also when the body did not fit. Never blocks. */
bool transport_send(struct transport *t, struct transport_message *m);
void transport_drop(struct transport *t, struct transport_message *m);

/* Ends what is received and waits for a call that is under way. Sends are lost from now on. */
void transport_stop(struct transport *t);

/* Stops if needed, closes and frees. Nobody sends any more. */
void transport_close(struct transport *t);

void transport_stats(const struct transport *t, struct transport_stats *stats);

/* "tcp://host:7300" -> "tcp://host:7301", for the second pair; inproc://name -> inproc://name-bulk.
 * Port 0 stays 0. False with a sentence in error. */
bool transport_next_endpoint(const char *endpoint, char *out, size_t out_bytes, char *error,
                             size_t error_bytes);

#endif
