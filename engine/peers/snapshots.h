/* All stored states that are on their way from and to the replicas of this node: one thread runs
 * their senders and receivers (snapshot_sender.h, snapshot_receiver.h), because these write and
 * read files and nobody else shall wait for that. */
#ifndef JUMUN_PEERS_SNAPSHOTS_H
#define JUMUN_PEERS_SNAPSHOTS_H

#include "engine/router/local_shards.h"
#include "engine/shard/peers.h"

struct snapshots;

struct snapshots_options {
    struct local_shards *shards;   /* what has arrived is offered there; outlives it */
    uint64_t bytes_per_second;     /* of each transfer; 0 = SNAPSHOT_BYTES_PER_SECOND */
    /* Sends a frame (the body of a message of this kind) to a node. False = lost. The thread of
     * the transfers; must not block. */
    bool (*send)(void *arg, uint32_t node, uint32_t kind, struct bytes frame);
    void *arg;
};

struct snapshots_stats {
    uint64_t sending, receiving;   /* now */
    uint64_t sent, received;       /* whole ones */
    uint64_t failed, damaged;
    uint64_t chunks_again;
    uint64_t dropped;              /* frames that found no room here */
};

/* NULL with a sentence in error. */
struct snapshots *snapshots_start(const struct snapshots_options *options, char *error,
                                  size_t error_bytes);

/* A replica of this node is there: what comes for it is received. `directory`: of the replica, for
 * files on their way; copied. The storage outlives it, until snapshots_remove(). Any thread but the
 * shards'. False without memory. */
bool snapshots_add(struct snapshots *s, uint32_t shard, uint64_t server, struct storage *storage,
                   const char *directory);

/* Changes bytes_per_second, for what is sent from now on. Any thread. */
void snapshots_pace(struct snapshots *s, uint64_t bytes_per_second);

/* Ends all transfers of a replica; its storage is not touched any more. Any thread but the shards'.
 * May wait for the disk. */
void snapshots_remove(struct snapshots *s, uint32_t shard);

/* peers->send of a CONSENSUS_INSTALL_SNAPSHOT: starts a transfer or goes on with it. The shard's
 * thread; does not block. */
void snapshots_want(struct snapshots *s, uint32_t shard, const struct consensus_message *message);

/* This node's replica does not lead the shard any more. Any thread; does not block. */
void snapshots_lead_lost(struct snapshots *s, uint32_t shard);

/* A frame came in; copied. Any thread; does not block. */
void snapshots_receive(struct snapshots *s, uint32_t kind, struct bytes frame);

/* Ends everything, joins and frees. */
void snapshots_stop(struct snapshots *s);

/* As of the last time that the transfers were worked on. Any thread; does not block. */
void snapshots_stats(struct snapshots *s, struct snapshots_stats *stats);

#endif
