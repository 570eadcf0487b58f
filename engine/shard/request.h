/* One client message on its way through the node.
 *
 * Life: the ingress decodes a message into a request and splits it into parts, one per shard that
 * it touches; each part goes into that shard's mailbox; the shard decides its commands, fills their
 * results, and when the log entry that holds them is durable the reply gate gives the part back
 * with request_part_done(). The last part calls `done`, which encodes and sends the reply.
 *
 * Ownership: a part belongs to its shard from a successful mailbox_push() until it is done. Nobody
 * touches a request but through its parts after the first push. Each result is written by exactly
 * one shard. Commands point into the received message, which lives until `done`. */
#ifndef JUMUN_SHARD_REQUEST_H
#define JUMUN_SHARD_REQUEST_H

#include <stdatomic.h>

#include "actors/command.h"
#include "actors/result_codes.h"

struct result {
    uint16_t code;             /* enum result_code */
    uint8_t flags;             /* RESULT_FLAG_* */
    uint8_t value_kind;        /* enum result_value */
    uint32_t version;
    uint32_t shard;
    uint32_t retry_after_ms;   /* with OVERLOADED, NOT_READY, DISK_FULL, OUT_OF_MEMORY,
                                  NOT_LEADER, LEADERSHIP_LOST */
    uint64_t index;
    void *value;               /* malloc'ed, freed by `done`; NULL = none. Results of one request
                                  may share a RESULT_VALUE_MSGPACK, see exchange.h */
    uint32_t value_bytes;
    uint32_t leader_node;      /* with NOT_LEADER and LEADERSHIP_LOST: who leads; 0 = unknown */
};

enum result_value {
    RESULT_VALUE_NONE = 0,
    RESULT_VALUE_ORDER = 1,    /* a copy of the order's block */
    RESULT_VALUE_STORE = 2,    /* a copy of the store's block */
    RESULT_VALUE_HISTORY = 3,  /* history_item + event, repeated; oldest first */
    RESULT_VALUE_MSGPACK = 4,  /* ready to send */
    RESULT_VALUE_CLUSTER = 5,  /* a copy of the cluster document's block */
    RESULT_VALUE_RESULT = 6    /* the whole result, ready to send: another node's answer */
};

/* Stands before each event of a RESULT_VALUE_HISTORY. */
struct history_item { uint64_t index; int64_t time_ms; };

struct request;

struct request_part {
    struct request *request;
    struct request_part *next; /* for whoever queues it */
    const uint32_t *positions; /* into request->commands; NULL = all of them, in order */
    uint32_t count;
    uint32_t left;             /* results still open; the shard's own */
    uint64_t gate_index;       /* reply when this index is committed; the shard's own */
    uint64_t gate_read;        /* ... and this round of reads is confirmed; the shard's own */
    uint64_t bytes;            /* what it weighs in the mailbox */
    uint64_t value_bytes;      /* of its results so far; 0 when offered */
    bool put_off;              /* a command was told to come again; false when offered */
};

struct request {
    atomic_uint parts_left;
    uint32_t commands_count;
    struct command *commands;
    struct result *results;
    int64_t received_ns;       /* monotonic */
    int64_t deadline_ms;       /* Unix; 0 = none */
    void (*done)(struct request *request); /* any shard's thread; must not block */
};

static inline uint32_t request_part_position(const struct request_part *p, uint32_t i) {
    return p->positions ? p->positions[i] : i;
}

/* Turns a list of parts round: what was pushed last comes last. */
static inline struct request_part *request_part_reversed(struct request_part *parts) {
    struct request_part *first = NULL;
    while (parts) {
        struct request_part *next = parts->next;
        parts->next = first;
        first = parts;
        parts = next;
    }
    return first;
}

/* The part's results are final. Calls request->done when it was the last one; the part and its
 * request must not be touched afterwards. */
static inline void request_part_done(struct request_part *part) {
    struct request *r = part->request;
    if (atomic_fetch_sub_explicit(&r->parts_left, 1, memory_order_acq_rel) == 1) r->done(r);
}

#endif
