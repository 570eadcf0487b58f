/* One REP socket of nng with many contexts: takes requests, and answers each once, in any order and
 * from any thread. What answers is somebody else's: the feed of a node, the queries of a replica.
 *
 * A slot is one context and belongs to whoever was handed its request until responder_reply().
 * There are so many slots as contexts; when all are taken, requests wait in the sockets of those
 * who sent them. A reply that its client does not read is given up after some seconds. Nothing
 * blocks. */
#ifndef JUMUN_FEED_RESPONDER_H
#define JUMUN_FEED_RESPONDER_H

#include <nng/nng.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct responder;
struct tls_options;
struct responder_slot;

struct responder_options {
    const char *listen;        /* nng address; port 0 = any free one */
    const struct tls_options *tls; /* for tls+tcp://; NULL = none */
    uint32_t contexts;
    uint32_t share;            /* so many replies of one connection may wait long for it to read,
                                  see reply_patience.h; 0 = all: where replies are large */
    /* A request came in. The message is the callee's, and so is the slot. On a thread of nng: must
     * not block. */
    void (*take)(void *arg, struct responder_slot *slot, nng_msg *message);
    void *arg;
};

struct responder_stats {
    uint64_t received, replied, dropped;  /* dropped: replies that nobody could be given */
    uint64_t bytes_in, bytes_out;
    uint64_t in_flight;                   /* taken and not answered */
    uint64_t reply_bytes;                 /* of replies on their way out */
};

/* Opens the socket and listens. NULL with a sentence in error. */
struct responder *responder_open(const struct responder_options *options, char *error,
                                 size_t error_bytes);

/* The address that it really has: port 0 became a number. Lives as long as the responder. */
const char *responder_endpoint(const struct responder *responder);

/* Begins to take requests. False with a sentence in error. */
bool responder_start(struct responder *responder, char *error, size_t error_bytes);

/* Answers the request that the slot was handed with, and takes over `reply`; NULL = no answer (the
 * client asks again when its patience ends). Any thread. */
void responder_reply(struct responder_slot *slot, nng_msg *reply);

/* From now on what comes in is thrown away without an answer. */
void responder_halt(struct responder *responder);

/* Whether no slot is taken. */
bool responder_is_idle(const struct responder *responder);

/* Closes and frees; all slots must have been answered. May wait for ever in nng 1.5.2, see
 * ingress_close(): a process that is about to exit leaves the sockets to the kernel instead. */
void responder_close(struct responder *responder);

void responder_stats(const struct responder *responder, struct responder_stats *stats);

/* A refusal as a message; NULL without memory. */
nng_msg *feed_refusal(uint16_t code, const char *sentence, uint64_t detail);
/* The same that says whose it is; "" = nobody's. */
nng_msg *feed_refusal_of(const char *cluster_id, uint16_t code, const char *sentence,
                         uint64_t detail);

#endif
