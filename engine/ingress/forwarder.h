/* Carries commands to the node that leads their shard, when a client has sent them elsewhere: the
 * general endpoint of the other node takes them over nng REQ/REP like those of a client, marked so
 * that they are not sent on once more. Bounded; nothing blocks. */
#ifndef JUMUN_INGRESS_FORWARDER_H
#define JUMUN_INGRESS_FORWARDER_H

#include "engine/wire/tls.h"
#include "engine/router/shard_map.h"

struct forwarder;

enum forward_end {
    FORWARD_REPLIED,
    FORWARD_NOT_SENT,  /* nothing has been done */
    FORWARD_NO_REPLY   /* it may have been done */
};

struct forwarder_stats {
    uint64_t messages, commands; /* sent on */
    uint64_t unsent, unanswered; /* messages */
};

/* `tls`: for tls+tcp:// addresses; NULL = none. `cluster_id`: its own, which each message names, so
 * that a node of another cluster that has come to stand at an address takes nothing. Both are
 * copied. NULL with a sentence in error. */
struct forwarder *forwarder_open(const struct tls_options *tls, const struct id128 *cluster_id,
                                 char *error, size_t error_bytes);

/* From now on it reaches the nodes of the map, but this one. One thread at a time; may wait for
 * nng. False with a sentence in error when an endpoint cannot be used (the others are). */
bool forwarder_set_nodes(struct forwarder *f, const struct shard_map *map, char *error,
                         size_t error_bytes);

/* Sends the commands (encoded; copied) to the node. False = not sent: no connection, no room;
 * nobody will be called. Otherwise on_end is called exactly once, on one of nng's threads, perhaps
 * before the return; `reply` lives during the call. */
bool forwarder_send(struct forwarder *f, uint32_t node, int64_t deadline_ms,
                    const struct bytes *commands, uint32_t count,
                    void (*on_end)(void *arg, enum forward_end end, struct bytes reply), void *arg);

/* Ends all that is under way (FORWARD_NO_REPLY), closes and frees. Nobody sends any more. */
void forwarder_close(struct forwarder *f);

void forwarder_stats(const struct forwarder *f, struct forwarder_stats *stats);

#endif
