/* libjumun, the reading side: questions to query replicas (jumun-replica), and watching.
 *
 * A `jumun_queries` may be used by any number of threads at once. It knows one or several replicas,
 * gathers the queries of all callers into few messages (sends at once when idle, gathers while
 * messages are in flight), asks the replica that answers fastest, goes to another one when that one
 * fails, and always ends a query within its timeout.
 *
 * What an answer reflects: a token (shard, index) for each shard, and how old that state may be.
 *   - Read your writes: with a session (a jumun_client), each query demands the effects of all
 *     commands that the session has had an answer for.
 *   - No going back: a query demands at least the state that an earlier answer of the same
 *     jumun_queries reflected, whichever replica gave it, as long as they follow that cluster.
 *   A shard that the session has written to and that a replica does not know yet (the cluster has
 *   just grown) is one of those that the answer names as `missing`. One that `at_least` names and
 *   nobody knows when the wait is over is no answer: JUMUN_TOKEN_NOT_REACHED, which names it.
 *   Both are on by default and cost nothing while replicas keep up. A replica that has not got so
 *   far waits for `wait_ms`; then the answer comes with what is there and says so (`lagging`), or,
 *   if the query is `strict`, JUMUN_TOKEN_NOT_REACHED. Other sessions' effects may be newer or
 *   older by a replica's lag: milliseconds when all is well.
 *
 * A replica that has not got all shards (it is new, it imports) is left for one that has; when
 * there is none, the answer says what it lacks (`partial`, `missing`).
 *
 * When no replica can be had at all, or those there are have reached no node yet (JUMUN_NOT_READY),
 * the last good answer to the same query is given once more, with its age (`stale`), as far as
 * memory was set aside for that (`stale_bytes_max`).
 *
 *     jumun_query_options o = {.session = client, .choice = JUMUN_HEDGED};
 *     jumun_queries *q = jumun_queries_open("tcp://10.0.0.7:7500,tcp://10.0.0.8:7500", &o, error,
 *                                           sizeof error);
 *     jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = "store-1", .limit = 50};
 *     jumun_answer *a;
 *     if (jumun_query_run(q, &board, &a) == JUMUN_OK)
 *         for (uint32_t i = 0; i < jumun_answer_rows(a); i++) {
 *             jumun_order *order;
 *             if (jumun_answer_order(a, i, &order) == JUMUN_OK) puts(order->state);
 *             jumun_order_free(order);
 *         }
 *     jumun_answer_free(a);
 */
#ifndef JUMUN_QUERY_H
#define JUMUN_QUERY_H

#ifndef JUMUN_H
#include "jumun.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jumun_queries jumun_queries;

/* A place in the logs: a state that reflects it contains all effects up to there. */
typedef struct { uint32_t shard; uint64_t index; } jumun_token;

/* Codes beside those of jumun.h. Of these JUMUN_NOT_A_REPLICA is for queries alone: nodes answer at
 * all the addresses, which is told at once. A node among replicas is passed over. So is a replica
 * of another cluster than the session's (without a session: than that of the one that told first),
 * as soon as it has told; where there are only such, JUMUN_OTHER_CLUSTER is the answer. */
enum {
    JUMUN_NOT_READY = 3,            /* the replicas there are have reached no node yet */
    JUMUN_TOKEN_NOT_REACHED = 22,   /* strict, and no replica got so far in time; or at_least names
                                       a shard that nobody there knows */
    JUMUN_VIEW_NOT_READY = 24,      /* the replica is building what it takes to answer */
    JUMUN_CURSOR_INVALID = 72
};

/* Which replica is asked. In any case another one is when it fails. */
typedef enum {
    JUMUN_NEAREST = 0,          /* the one that answers fastest (measured all the time) */
    JUMUN_HEDGED = 1,           /* that one, and a second one too when no answer has come after a
                                   time that 95 of 100 answers need at most: the first answer
                                   counts. Of messages that are not much later than
                                   usual at most one in ten is sent twice */
    JUMUN_IN_ORDER = 2          /* the first one given that can be reached */
} jumun_choice;

/* All fields optional; 0 = the default. */
typedef struct {
    jumun_client *session;          /* read what it wrote; must live longer. NULL = none */
    jumun_choice choice;
    uint32_t timeout_ms;            /* of a query, all attempts included; 0 = 2,000 */
    uint32_t attempt_timeout_ms;    /* of one attempt, beside wait_ms; 0 = 500 */
    uint32_t wait_ms;               /* for a state that is demanded; 0 = 500 */
    uint32_t batch_queries_max;     /* per message; 0 = 128 */
    uint32_t messages_in_flight_max;/* 0 = 8 */
    uint32_t queue_queries_max;     /* waiting in the library; 0 = 65,536 */
    uint32_t hedge_ms_min;          /* no second request sooner than this; 0 = 2 */
    uint32_t stale_bytes_max;       /* answers kept for when all replicas are gone; 0 = 8 MiB */
    bool no_stale;                  /* keep none, give none */
    bool may_go_back;               /* do not demand what earlier answers reflected */
    uint32_t circuit_failures;      /* consecutive failures that open a replica's circuit; 0 = 5 */
    uint32_t circuit_open_ms;       /* 0 = 1,000 */
    const char *tls_ca, *tls_cert, *tls_key; /* as in jumun_options */
} jumun_query_options;

/* `replicas`: addresses of jumun-replica, separated by commas. Returns at once, also while they are
 * away. NULL with a sentence in `error` only for bad arguments or lack of memory. */
jumun_queries *jumun_queries_open(const char *replicas, const jumun_query_options *options,
                                  char *error, size_t error_bytes);

/* Ends all watches, and all queries still open with JUMUN_CLOSED, for which it may take 200 ms;
 * frees. Not from a callback; no other call may be running or begin. Before the session is
 * closed. */
void jumun_queries_close(jumun_queries *queries);

/* -- one query --------------------------------------------------------------------------------- */

typedef enum {
    JUMUN_GET_ORDER = 20,       /* order */
    JUMUN_MULTI_GET = 200,      /* keys; fewer rows than keys when they would not fit a message */
    JUMUN_BY_REF = 201,         /* subject: the external_ref */
    JUMUN_CUSTOMER_ORDERS = 202,/* subject: the customer; newest first */
    JUMUN_STORE_BOARD = 203,    /* subject: the store, states?; open orders by state, oldest
                                   first */
    JUMUN_STATE_ORDERS = 204,   /* states: one; from_ms, to_ms?; by time placed, oldest first */
    JUMUN_COUNTERS = 205,       /* bucket_ms, from_ms, to_ms, subject? (a store), states? */
    JUMUN_CHANGES = 206,        /* subject: a topic; since?: what changed behind those tokens */
    JUMUN_EXPORT = 207,         /* snapshot: its id at that one replica; all orders by key */
    JUMUN_REPLICA_PING = 100,
    JUMUN_REPLICA_MAP = 101,
    JUMUN_REPLICA_STATUS = 102
} jumun_query_kind;

/* What the answer must reflect. All fields optional. */
typedef struct {
    const jumun_token *at_least; uint32_t at_least_count; /* beside what the session demands */
    bool any_state;             /* demand at_least only: not own writes, not what was seen */
    bool bounded_age;           /* the state must not be older than ... */
    uint32_t max_age_ms;        /* ... this */
    bool strict;                /* an answer that does not reflect it is none */
    bool no_stale;              /* none of the answers kept */
    uint32_t wait_ms;           /* 0 = the options' */
    uint32_t timeout_ms;        /* 0 = the options' */
} jumun_demand;

typedef struct {
    jumun_query_kind kind;
    jumun_key order;                                      /* JUMUN_GET_ORDER */
    const jumun_key *keys; uint32_t keys_count;           /* JUMUN_MULTI_GET: at most 1,024 */
    const char *subject;
    uint64_t snapshot;                                    /* JUMUN_EXPORT */
    const uint8_t *states; uint32_t states_count;         /* numbers: jumun_state_number() */
    bool has_from, has_to;
    int64_t from_ms, to_ms;                               /* [from, to) */
    uint32_t bucket_ms;                                   /* 60,000 or 86,400,000 */
    const jumun_token *since; uint32_t since_count;       /* JUMUN_CHANGES; none = now */
    bool has_since;
    const char *const *fields; uint32_t fields_count;     /* names of jumun_order; none = all */
    uint32_t limit;                                       /* rows; 0 = 100; at most 1,000 */
    const void *cursor; uint32_t cursor_bytes;            /* of the answer before: go on behind */
    jumun_demand demand;
} jumun_query;

typedef struct {
    int code;                   /* JUMUN_OK, or why not */
    bool partial;               /* rows of the shards in `missing` may lack or be older */
    bool lagging;               /* it does not reflect all that was demanded; also set where
                                   `code` is JUMUN_ORDER_NOT_FOUND: it may be newer than that */
    bool stale;                 /* given before: no replica could be had */
    bool changes;               /* of JUMUN_CHANGES: value = [rows, tokens, complete] */
    bool uncounted;             /* JUMUN_COUNTERS: the numbers lack events of the past, for the
                                   replica began, or went on, with a stored state */
    uint32_t age_ms;            /* how old the oldest part may be. UINT32_MAX = not known */
    uint32_t version;           /* JUMUN_GET_ORDER: the order's */
    const void *value; size_t value_bytes;    /* msgpack (docs/replicas.md); NULL = none */
    const void *cursor; uint32_t cursor_bytes;/* there is more: ask with it. NULL = no more */
    const jumun_token *tokens; uint32_t tokens_count;   /* what it reflects */
    const uint32_t *missing; uint32_t missing_count;    /* shards */
    const char *replica;        /* who answered; "" = nobody */
    char detail[96];            /* a sentence more, or "" */
} jumun_answer;

/* Runs a query and waits. Returns its code. *answer is never NULL but for lack of memory
 * (JUMUN_NO_MEMORY); give it to jumun_answer_free(). */
int jumun_query_run(jumun_queries *, const jumun_query *, jumun_answer **answer);
void jumun_answer_free(jumun_answer *answer);

/* Called exactly once per submitted query, from a thread of the library; everything is valid during
 * the call. Must not block nor run synchronous queries; may submit. */
typedef void (*jumun_answer_callback)(void *arg, const jumun_answer *answer);

/* Encodes and queues; nothing of the query is referenced after the return. JUMUN_OK = the callback
 * will come (perhaps before the return). Anything else = it will not. */
int jumun_query_submit(jumun_queries *, const jumun_query *, jumun_answer_callback, void *arg);

/* -- reading answers --------------------------------------------------------------------------- */

/* Rows of a list, of JUMUN_MULTI_GET (nil for orders that are not there), of JUMUN_COUNTERS, of
 * JUMUN_CHANGES. 0 for anything else. */
uint32_t jumun_answer_rows(const jumun_answer *answer);
/* The msgpack of row i; NULL = no such row. Walks from the first row: for many rows of a large
 * answer read `value` yourself. */
const void *jumun_answer_row(const jumun_answer *answer, uint32_t i, size_t *bytes);
/* Row i, or the value of JUMUN_GET_ORDER (i = 0), of a query without `fields`. JUMUN_OK and an
 * order for jumun_order_free(); JUMUN_ORDER_NOT_FOUND for nil or no such row; JUMUN_BAD_REPLY. */
int jumun_answer_order(const jumun_answer *answer, uint32_t i, jumun_order **order);

/* A row of JUMUN_COUNTERS: orders that came into the state in the time from start_ms on. */
typedef struct {
    int64_t start_ms;
    char store[65];             /* "" = all together */
    int state;
    char currency[4];
    int64_t orders, total;      /* that came into the state; into `placed` each order once, when it
                                   is placed, also one that is paid then, having nothing to pay */
    int64_t captured, refunded;
} jumun_counter;
int jumun_answer_counter(const jumun_answer *answer, uint32_t i, jumun_counter *counter);

/* Numbers of the states of an order, and back; 0 and "?" = there is none. */
int jumun_state_number(const char *name);
const char *jumun_state_name(int number);

/* -- tokens ------------------------------------------------------------------------------------ */

/* What the session's commands have reached, newest index of each shard: to be demanded by another
 * process (a cookie, a header). Returns their number, which may be more than `tokens_max`. */
uint32_t jumun_session_tokens(jumun_client *, jumun_token *tokens, uint32_t tokens_max);
/* As if the session had written that: what another process gave. */
void jumun_session_demand(jumun_client *, const jumun_token *tokens, uint32_t tokens_count);

/* -- watching ---------------------------------------------------------------------------------- */

typedef struct jumun_watch jumun_watch;

typedef struct {
    const char *topic;
    const void *row; size_t row_bytes;        /* the order as it is now: msgpack as in an answer */
    const jumun_token *tokens; uint32_t tokens_count; /* to go on from when this change and those
                                                 before it are done with; NULL = not known yet: more
                                                 changes were fetched with this one and follow */
} jumun_change;

/* One change: orders of the topic that changed, each as it is now (changes that follow each other
 * quickly may come as one), in the order of (shard, index). One at a time for a watch; may take its
 * time: what happens meanwhile waits at the replica, not here. Must not close the watch or the
 * queries. False = no more: the watch rests until it is closed. */
typedef bool (*jumun_change_callback)(void *arg, const jumun_change *change);

typedef struct {
    const jumun_token *since; uint32_t since_count;  /* go on from there ... */
    bool has_since;                                  /* ... or, if false, from now */
    const char *const *fields; uint32_t fields_count;
    uint32_t page_rows;         /* fetched at a time; 0 = 100 */
    uint32_t look_ms;           /* looks by itself so often, should a notification be lost;
                                   0 = 1,000 */
} jumun_watch_options;

/* Watches "order/<key>", "store/<id>" or "customer/<id>". Notifications wake it, then it fetches
 * what changed since its tokens; so nothing is missed and nothing comes twice, whatever
 * connections, replicas and nodes do. Tokens kept by the caller make it go on after a restart of
 * its own.
 * NULL with a sentence in `error` for bad arguments or lack of memory. `options` may be NULL. */
jumun_watch *jumun_watch_open(jumun_queries *, const char *topic, const jumun_watch_options *,
                              jumun_change_callback, void *arg, char *error, size_t error_bytes);
/* No callback runs or comes after the return. Not from a callback. */
void jumun_watch_close(jumun_watch *watch);
/* Whether it has found its beginning: changes from now on are told. Waits so long at most. */
bool jumun_watch_await(jumun_watch *watch, uint32_t timeout_ms);

/* -- looking at it ----------------------------------------------------------------------------- */

typedef struct {
    char address[256];
    bool connected;
    bool circuit_open;          /* it failed just now, or is of another cluster: it is not asked */
    uint32_t latency_us;        /* smoothed, of a ping; 0 = not measured yet */
    uint64_t messages, failures;
} jumun_replica_stats;

typedef struct {
    uint64_t queries, messages, retries, hedges, hedges_won, timeouts, stale, lagging;
    uint64_t stale_bytes;       /* kept now */
    uint32_t hedge_us;          /* when a second request would go out now */
    uint32_t replicas_count;
    jumun_replica_stats replicas[16];
} jumun_queries_stats;
void jumun_queries_look(jumun_queries *, jumun_queries_stats *);

#ifdef __cplusplus
}
#endif
#endif
