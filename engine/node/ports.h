/* Where a node listens besides its clients' addresses. Unless they are given, the four ports right
 * below --listen: so one node takes the ports from 4 below --listen to as many above it as there
 * are shards, and two nodes on one machine do not meet while they are further apart than that. */
#ifndef JUMUN_NODE_PORTS_H
#define JUMUN_NODE_PORTS_H

#include "engine/node/config.h"

enum {
    NODE_PORT_PEERS = -4,  /* and the next one, for stored states on their way */
    NODE_PORT_FEED = -2,
    NODE_PORT_NOTIFY = -1
};

/* `base`, an nng address, with its port plus `shift` (0 stays 0: any free one; so does what is no
 * port any more), or with "-name" for other transports than tcp. False when that is no address. */
bool node_port_address(const char *base, int shift, const char *name, char *out, size_t out_bytes);

/* The address for other nodes: --peer-listen, or the one that follows from --listen. False when
 * neither tells one. */
bool node_port_peers(const struct config *c, char *out, size_t out_bytes);

enum { NODE_PORTS_HELD_MAX = 4 };

/* Addresses that are taken and not served yet. */
struct node_ports { void *listeners[NODE_PORTS_HELD_MAX]; uint32_t count; };

/* Takes what a node needs once its cluster is formed: `peers`, the port behind it, and those for
 * the feed that were asked for. So that what is in use is told at the start, and that no feed of
 * another node comes to lie there meanwhile. False with a sentence in error, and nothing taken. */
bool node_ports_hold(struct node_ports *p, const struct config *c, const char *peers, char *error,
                     size_t error_bytes);

/* Whether the ports of that many shards are free: what another program holds would end the node
 * once it serves. False with a sentence in error. */
bool node_ports_try_shards(const struct config *c, uint32_t shards, char *error,
                           size_t error_bytes);

/* The same, and that of clients, and those for the feed that were asked for: before a directory is
 * made for a node that could not serve. False with a sentence in error. */
bool node_ports_try(const struct config *c, uint32_t shards, char *error, size_t error_bytes);

/* Gives them back, for the node itself. */
void node_ports_release(struct node_ports *p);

#endif
