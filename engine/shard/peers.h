/* What a replica of a shard needs of the world outside its node: a way to the group's other
 * replicas. Twins: engine/peers/ (nng, between nodes) and the simulator's network.
 *
 * All functions are called by the shard's thread and must not block. A message may be lost, doubled
 * and reordered. */
#ifndef JUMUN_SHARD_PEERS_H
#define JUMUN_SHARD_PEERS_H

#include "persistence/consensus.h"
#include "persistence/storage.h"

struct peers {
    /* Sends to server message->to of the shard's group. All that is needed is copied (or held by
     * reference) during the call. An append without records but with a count: they are no longer in
     * memory, `storage` has them behind previous_index; the callee reads them on a thread of its
     * own, sends what fits, and may send fewer. A CONSENSUS_INSTALL_SNAPSHOT asks for a transfer of
     * the stored state (storage->export_state) to that server; it is repeated while it is
     * needed, so the callee starts one at a time per server and goes on with one that broke off. */
    void (*send)(struct peers *peers, uint32_t shard, struct storage *storage,
                 const struct consensus_message *message);

    /* The replica sees another leader (0 = none known), or has become it (then `ready` follows once
     * it takes commands). For routing tables and for telling clients where to go. */
    void (*leader)(struct peers *peers, uint32_t shard, uint64_t term, uint64_t leader, bool ready);
};

/* A peer's state that has been received and checked (storage->check_state). */
struct shard_snapshot {
    uint64_t from;               /* server id of the sender */
    uint64_t leader_term;        /* the sender's term */
    struct storage_meta meta;    /* what check_state() said of it */
    char path[256];              /* the file; the shard deletes it when it is not wanted */
};

/* Where the group shall be. The leader of the group goes there, one safe step at a time (add,
 * promote, remove, hand over), and stays there. */
struct shard_placement {
    uint64_t version;            /* only newer ones are taken */
    uint32_t count;              /* 1, 3, 5 or 7 */
    uint64_t servers[CONSENSUS_SERVERS_MAX]; /* server ids, see consensus_server_id() */
    uint64_t preferred;          /* the server that shall lead while it can; 0 = any */
    uint64_t drained[CONSENSUS_SERVERS_MAX]; /* servers that shall not lead */
    uint32_t drained_count;
};

#endif
