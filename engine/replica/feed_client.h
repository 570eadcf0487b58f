/* Asks a feed, or a replica in the feed's words, one question at a time: discovery, HELLO,
 * snapshots. A replica's pulls are its follower's (follower.h). Blocks up to its timeout; any
 * thread. What takes no tls_options has those of the environment.
 *
 * `with` is an aio without a callback that waits for one call at a time: nng_aio_stop(), by any
 * thread, ends that one and all later ones, at once. NULL: the timeout alone ends the call. */
#ifndef JUMUN_REPLICA_FEED_CLIENT_H
#define JUMUN_REPLICA_FEED_CLIENT_H

#include <nng/nng.h>
#include <stdbool.h>

#include "engine/limits.h"
#include "engine/wire/feed_decode.h"

struct tls_options;

/* A connection for several questions to `url`, each of which waits up to timeout_ms. 0, or -1 with
 * a sentence; then nothing is open. nng_close() ends it, and, from any thread, a question that
 * waits. */
int feed_link_open(nng_socket *link, const char *url, const struct tls_options *tls,
                   uint32_t timeout_ms, char *error, size_t error_bytes);

/* One question; takes the request over (NULL = there was no memory for it). 0 with *reply for
 * nng_msg_free(), or -1 with a sentence that names `url`. */
int feed_link_ask(nng_socket link, const char *url, nng_msg *request, nng_msg **reply, char *error,
                  size_t error_bytes);
int feed_link_hello(nng_socket link, const char *feed, struct feed_hello *hello, nng_msg **reply,
                    char *error, size_t error_bytes);

/* What feed_discover() asks, to be read with feed_endpoint_decode(); NULL without memory. */
nng_msg *feed_discover_message(void);

/* One question to `url`: sends the bytes, waits for the reply. 0 with *reply for nng_msg_free(), or
 * -1 with a sentence. */
int feed_ask(const char *url, const void *request, size_t bytes, uint32_t timeout_ms,
             nng_aio *with, nng_msg **reply, char *error, size_t error_bytes);

/* Time between two questions: false = nng_aio_stop() has ended it, or did before. */
bool feed_pause(uint32_t pause_ms, nng_aio *with);

/* The feed of a node, found through its general endpoint. `node` may also be "feed:" and the feed's
 * own address, which is then taken as it is. 0, or -1 with a sentence. */
int feed_discover(const char *node, uint32_t timeout_ms, nng_aio *with,
                  char feed[ENDPOINT_BYTES_MAX], char *error, size_t error_bytes);

/* HELLO: *hello's views point into *reply. 0, or -1 with a sentence. */
int feed_hello(const char *feed, uint32_t timeout_ms, nng_aio *with, struct feed_hello *hello,
               nng_msg **reply, char *error, size_t error_bytes);

/* A PULL of records as a message; NULL without memory. */
nng_msg *feed_pull_message(uint32_t shard, uint64_t from, uint32_t wait_ms, uint32_t bytes_max);

#endif
