/* The way of a query: received on one of many contexts, answered at once on nng's thread from the
 * views; or, when the state it asks for is not there yet or nothing of what it watches has changed,
 * parked until a commit or its deadline, and then answered by the waking thread.
 *
 * Parked messages are bounded by the contexts; when nearly all are parked, a message is answered at
 * once with what there is. Their memory is bounded too: a message that would have to wait and finds
 * no room is refused with OVERLOADED. Nothing here waits for the applier, nor the applier for
 * anything here but a short lock. */
#ifndef JUMUN_REPLICA_QUERY_SERVER_H
#define JUMUN_REPLICA_QUERY_SERVER_H

#include "engine/base/histogram.h"
#include "engine/replica/answer.h"
#include "engine/replica/fold.h"
#include "engine/wire/feed_decode.h"

struct responder_slot;

struct query_server;

struct query_server_options {
    const char *listen;            /* nng address; port 0 = any free one */
    uint32_t contexts;             /* 0 = 1,024 */
    uint64_t parked_bytes;         /* of all messages that wait, as sent and decoded; 0 = 64 MiB */
    struct answer_source source;
    /* A message of the feed's protocol (snapshots): takes the slot over and answers it later. Any
     * thread; must not block. NULL = such messages are malformed. */
    void (*feed_request)(void *arg, struct responder_slot *slot,
                         const struct feed_request *request);
};

struct query_server_stats {
    uint64_t messages, queries, refused, replies_dropped, bytes_in, bytes_out;
    uint64_t in_flight, parked;    /* now */
    uint64_t parked_bytes;         /* of them */
    uint64_t watchers;             /* of those parked: that wait for a change of what they watch */
    uint64_t waited;               /* messages that were parked so far */
    uint64_t not_reached;          /* ... and whose deadline passed first */
};

/* Listens. NULL with a sentence in error. */
struct query_server *query_server_open(const struct query_server_options *options, char *error,
                                       size_t error_bytes);
const char *query_server_endpoint(const struct query_server *server);
/* Begins to answer. False with a sentence in error. */
bool query_server_start(struct query_server *server, char *error, size_t error_bytes);

/* The applier's thread: once right after a commit; for each order that it changed; once when all
 * are told, and whenever only ages have changed. */
void query_server_advance(struct query_server *server);
void query_server_changed(struct query_server *server, const struct fold_order *order);
void query_server_committed(struct query_server *server);

/* Time from receipt to reply of messages that did not wait. */
const struct histogram *query_server_latency(const struct query_server *server);
void query_server_stats(const struct query_server *server, struct query_server_stats *stats);

/* Answers what is parked with what there is, and everything after it with SHUTTING_DOWN. */
void query_server_stop(struct query_server *server);
/* Waits, at most patience_ms, until nothing is being answered any more; what comes in is thrown
 * away. After it, what the answers are made of may go. */
void query_server_halt(struct query_server *server, int64_t patience_ms);
void query_server_close(struct query_server *server); /* see responder_close() */

#endif
