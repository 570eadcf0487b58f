/* The way to the feed of a live node (engine/wire/feed_protocol.h): found through the node's
 * general endpoint, or named itself; and questions over it.
 *
 * What is asked changes nothing at the node, so a question that gets no answer is asked again: over
 * a new connection, to wherever the node's feed is by then, until feed_link_settings.patience_ms
 * are over. Bounded: one question on its way for each call.
 *
 * A link is shared by threads; a call belongs to one at a time. */
#ifndef JUMUN_REPLAY_FEED_LINK_H
#define JUMUN_REPLAY_FEED_LINK_H

#include <nng/nng.h>
#include <stdbool.h>

#include "engine/limits.h"
#include "engine/wire/feed_decode.h"

struct feed_link;
struct feed_call;

/* Of the whole program; set before the first link. */
struct feed_link_settings {
    uint32_t patience_ms;      /* how long a node may be away */
    bool quiet;                /* does not tell that it waits */
    bool (*interrupted)(void); /* the user has had enough; NULL = never */
};
extern struct feed_link_settings feed_link_settings;

/* What a node says of itself. */
struct feed_link_hello {
    char cluster_id[CLUSTER_ID_BYTES];
    uint64_t node_id;
    uint32_t shards_count;     /* that the newest orders are spread over */
    uint32_t count;
    struct feed_hello_shard shards[SHARDS_MAX]; /* that it holds */
};

/* Whether a word names an endpoint rather than a directory. */
bool feed_link_is_one(const char *text);

/* `node`: "tcp://host:port" or "tls+tcp://host:port" (engine/wire/tls.h: certificates from the
 * environment), the general endpoint or the feed's own. NULL with a sentence. */
struct feed_link *feed_link_open(const char *node, struct feed_link_hello *hello, char *error,
                                 size_t error_bytes);
/* To somebody else who answers questions at `url`, and need not be there yet. NULL with a
 * sentence. */
struct feed_link *feed_link_open_other(const char *url, char *error, size_t error_bytes);
void feed_link_close(struct feed_link *link);
const char *feed_link_node(const struct feed_link *link);
/* Asks again how far the shards are. 0, or -1 with a sentence. Any thread. */
int feed_link_look(struct feed_link *link, struct feed_link_hello *hello, char *error,
                   size_t error_bytes);

/* NULL without memory. */
struct feed_call *feed_call_open(struct feed_link *link);
void feed_call_close(struct feed_call *call);

/* Sends a question, which is copied; an answer that was awaited is not wanted any more. The answer
 * may take `answer_ms` at the node before it counts as lost. False without memory, which cannot be
 * where it has FEED_CALL_BYTES_MAX bytes at most. */
enum { FEED_CALL_BYTES_MAX = 64 }; /* room that the questions to a feed need */
bool feed_call_send(struct feed_call *call, const void *question, size_t bytes,
                    uint32_t answer_ms);

/* One question and its answer, read: refusals that pass by themselves (overloaded, not ready) are
 * asked again within the patience. NULL with a sentence; a refusal that lasts is an answer, with
 * reply->code. *reply's views point into the message. */
nng_msg *feed_call_ask(struct feed_call *call, const void *question, size_t bytes,
                       uint32_t answer_ms, enum feed_kind kind, struct feed_reply *reply,
                       char *error, size_t error_bytes);
/* The same for a question that was sent already. */
nng_msg *feed_call_take(struct feed_call *call, enum feed_kind kind, struct feed_reply *reply,
                        char *error, size_t error_bytes);

#endif
