/* Bytes of a client -> queries (engine/wire/query_protocol.h). Every byte is untrusted. A fault of
 * the message refuses the message; a fault inside one query is that query's alone. */
#ifndef JUMUN_WIRE_QUERY_DECODE_H
#define JUMUN_WIRE_QUERY_DECODE_H

#include "actors/result_codes.h"
#include "engine/base/bytes.h"
#include "engine/wire/query_protocol.h"
#include "engine/wire/wire_arena.h"

/* A position in the logs: (shard, index). */
struct query_token {
    uint32_t shard;
    uint64_t index;
};

struct query {
    uint16_t kind;             /* enum query_kind, enum node_command; as sent when unknown */
    uint16_t fault;            /* 0, or enum result_code: why it cannot be answered */
    uint8_t state;             /* STATE_ORDERS: enum order_state */
    uint8_t fields_count;      /* 0 = all fields, as a map */
    bool has_since;            /* WATCH */
    uint16_t states;           /* STORE_BOARD, COUNTERS: bit = enum order_state; 0 = all */
    uint32_t limit;            /* 1..QUERY_ROWS_MAX */
    uint32_t bucket_ms;        /* COUNTERS: 60,000 or 86,400,000 */
    uint32_t since_count;
    const uint8_t *fields;     /* enum order_field; in the arena */
    const struct query_token *since; /* in the arena */
    struct id128 key;          /* GET */
    struct bytes culprit;      /* FIELD_UNKNOWN: the name */
    const char *why;           /* what is allowed instead; NULL = the fault says it all */
    struct bytes subject;      /* keys, reference, customer, store, topic, view */
    uint64_t snapshot;         /* EXPORT */
    struct bytes cursor;       /* size 0 = from the beginning */
    int64_t from_ms, to_ms;    /* [from, to); INT64_MIN and INT64_MAX when not told */
};

struct query_request {
    int64_t deadline_ms;       /* Unix, told so or made from a span; 0 = do not wait */
    int64_t max_age_ms;        /* -1 = any */
    struct query *queries;     /* in the arena; texts point into the message */
    uint32_t queries_count;    /* 1..QUERY_BATCH_MAX */
    struct query_token *at_least;
    uint32_t at_least_count;
};

/* Decodes a whole message, which must outlive the queries. RESULT_OK, or the code that refuses it:
 * then *request is untouched. Free the arena in either case. Commands that change something are
 * decoded as far as their kind, with the fault READ_ONLY. */
enum result_code query_decode(const void *message, size_t size, struct wire_arena *arena,
                              struct query_request *request);

#endif
