/* What is said to a node that waits for its cluster (jumund --cluster-wait). The form is that of
 * the clients' protocol (engine/wire/protocol.h), one command a message:
 *
 *   request = [1, nil, [[kind, nil, nil, nil, body]]]
 *   reply   = [1, 0, [[code, 0, 0, 0, 0, value]]]
 *           | [1, 0, [[code, 0, 0, 0, 0, "sentence", 0]]]
 *
 *   100 ping        ->  "pong"
 *   102 status      ->  {"state": "waiting", "version", "listen", "peer_listen", "node",
 *                        "cluster_id", "shards", "generation", "process", "level_min",
 *                        "level_max"}: who it was before (shards 0 = an empty directory), and the
 *                        levels of a cluster that it can work at. "process" is a number by chance:
 *                        two addresses with the same one are of one node. Where its logs come from
 *                        a cluster, also "epochs" and "stores_shards": what the document has to
 *                        have, and its generation
 *   104 adopt       [document (bin, cluster_encode.h), node]: it belongs to this cluster under this
 *                   number from now on, and begins to serve
 *   105 seed read   [shard, offset]  ->  {"total", "data" (bin)}: of the stored state of a shard.
 *   At
 *                   offset 0 it is written out anew
 *   106 seed write  [shard, offset, total, data (bin)]: for a node that shall have the same. In
 *                   order, from offset 0
 *
 * Pure; any thread. */
#ifndef JUMUN_CLUSTER_WAITING_MESSAGE_H
#define JUMUN_CLUSTER_WAITING_MESSAGE_H

#include "engine/base/bytes.h"
#include "engine/wire/msgpack_writer.h"

enum waiting_kind {
    WAITING_PING = 100,
    WAITING_STATUS = 102,
    WAITING_ADOPT = 104,
    WAITING_SEED_READ = 105,
    WAITING_SEED_WRITE = 106
};

struct waiting_request {
    uint32_t kind;             /* enum waiting_kind; 0 = another: to be refused */
    uint32_t node;
    uint32_t shard;
    uint64_t offset, total;
    struct bytes bytes;        /* the document, or data; a view into the message */
};

/* False for what is no message of this form. */
bool waiting_request_read(const void *message, size_t size, struct waiting_request *request);

/* Whether the message holds several commands, as clients of a node send them: well-formed, for all
 * that this says, but not for one that waits. */
bool waiting_request_is_batch(const void *message, size_t size);

/* The replies. The value, one msgpack value, follows the head of a done one. */
void waiting_reply_done(struct msgpack_writer *w);
void waiting_reply_refused(struct msgpack_writer *w, uint32_t code, const char *sentence);

#endif
