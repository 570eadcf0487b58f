/* One message on its way through the node: what came, what it asks, what it is answered. */
#ifndef JUMUN_INGRESS_EXCHANGE_H
#define JUMUN_INGRESS_EXCHANGE_H

#include <nng/nng.h>

#include "engine/egress/egress.h"
#include "engine/router/split.h"
#include "engine/shard/request.h"
#include "engine/wire/protocol.h"
#include "engine/wire/wire_arena.h"

/* What the node itself answers, encoded once for all commands of a message that ask for it. */
struct exchange_value {
    void *data;                  /* malloc'ed; NULL = not asked for yet, or no memory */
    uint32_t bytes;
};

enum { EXCHANGE_NODE_VALUES = NODE_COMMAND_CLUSTER_DOCUMENT - NODE_COMMAND_PING + 1 };

struct exchange {
    struct request request;      /* first: request->done comes back here */
    struct egress_item reply;    /* while it waits to be answered */
    struct exchange *next;       /* for the pool */
    void *context;               /* whose reply it will be */
    nng_msg *message;            /* owned; the commands point into it */
    struct wire_arena arena;     /* of the commands, results and parts */
    struct split split;
    bool forwarded;              /* another node has sent it on: it is not sent on once more */
    const struct bytes *spans;   /* of the commands in the message; NULL = not asked for */
    /* Owned, by command; a result's RESULT_VALUE_MSGPACK points to one of them. */
    struct exchange_value node_values[EXCHANGE_NODE_VALUES];
};

/* Exchanges that are at rest, newest first: what was used last is still in the cache. */
struct exchange_pool {
    _Alignas(64) atomic_flag lock; /* held for a few instructions */
    struct exchange *first;
    uint32_t count;
};

/* An exchange with an empty arena; NULL without memory. Any thread. */
struct exchange *exchange_take(struct exchange_pool *pool);

/* Frees the message, the values of the results, those of the node and the arena, and keeps the rest
 * for the next. Any thread. */
void exchange_give(struct exchange_pool *pool, struct exchange *exchange);

/* Frees what rests in the pool. */
void exchange_pool_fini(struct exchange_pool *pool);

/* Takes over `message` and decodes it; sees to memory for results (zeroed) and the split.
 * RESULT_OK, or the code that refuses the whole message: one that names another cluster than
 * `cluster_id` among them. The exchange owns the message anyway. */
enum result_code exchange_decode(struct exchange *exchange, nng_msg *message, uint32_t shards_count,
                                 const struct id128 *cluster_id);

#endif
