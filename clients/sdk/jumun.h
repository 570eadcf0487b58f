/* libjumun: the client library of the Jumun order engine.
 *
 * A `jumun_client` may be used by any number of threads at once. It gathers the commands of all
 * callers into few messages (sends at once when idle, gathers for some milliseconds while messages
 * are in flight), routes each to the shard that owns its key, retries with backoff under the same
 * command id, and always ends a call: with an answer of the engine, or with JUMUN_OUTCOME_UNKNOWN
 * and the id to ask with.
 * No call blocks beyond its timeout (by more than some 10 ms).
 *
 * Tried again, with backoff and jitter, until the call's timeout: what got no answer, and what the
 * engine answered with "not now" (overloaded, not_ready, not_leader, leadership_lost,
 * shutting_down, out_of_memory, wrong_shard, cluster_not_formed). All other answers are final at
 * once, but for this: once an attempt got no answer, what the engine says of the machine (codes 2
 * to 49, as disk_full) or of an empty node (cluster_not_formed) is no "refused", for it tells of a
 * later attempt only. Such a call ends with
 * JUMUN_OUTCOME_UNKNOWN, disk_full after having been tried again until the timeout. (What a rule
 * refuses is told at once, as of that moment. An attempt before it without an answer may yet arrive
 * and be accepted, up to its timeout: see "Retries" in docs/protocol.md.) A node that is
 * away or restarts is waited for. In a cluster the library follows the leader of each shard: when
 * one dies, hangs or hands over, callers notice a pause, not an error.
 *
 * Order: what one thread submits for one order (or store) reaches the engine in the order of
 * submission, retries included: a command waits while an earlier one of its order is on its way or
 * waits for its retry, unless both go in one message. When the earlier one ends without an answer,
 * the later one goes all the same: use expected_version where that matters. Between threads, and
 * between orders, there is no order.
 *
 * A client does not outlive fork(): open one in the child.
 *
 * Money is int64 in minor units (cents); times are Unix milliseconds. Strings are UTF-8 and
 * NUL-terminated; NULL means "absent". The limits are those of docs/protocol.md.
 *
 *     jumun_client *c = jumun_open("tcp://127.0.0.1:7400", NULL, error, sizeof error);
 *     jumun_line lines[] = {{.sku = "bibimbap", .quantity = 1, .unit_price = 9500}};
 *     jumun_place p = {.fulfilment = JUMUN_PICKUP, .currency = "KRW", .store = "s1",
 *                      .lines = lines, .lines_count = 1, .total = 9500};
 *     jumun_key key = jumun_key_new();
 *     jumun_result r;
 *     if (jumun_place_order(c, &key, &p, NULL, &r) != JUMUN_OK) puts(jumun_result_text(r.code));
 */
#ifndef JUMUN_H
#define JUMUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JUMUN_KEY_TEXT_BYTES 27 /* 26 characters of Crockford base32 and NUL */

typedef struct jumun_client jumun_client;

/* 128 bits: an order's key (a ULID: 48 bits of birth time, 80 random), or a command's id. */
typedef struct { uint8_t bytes[16]; } jumun_key;

/* A new key: born now, random from the system. Thread-safe; never fails. */
jumun_key jumun_key_new(void);
/* Text form; `text` gets 26 characters and NUL. */
void jumun_key_format(const jumun_key *key, char text[JUMUN_KEY_TEXT_BYTES]);
/* False for anything but 26 characters of Crockford base32 (case and I/L/O are forgiven). */
bool jumun_key_parse(const char *text, jumun_key *key);

typedef enum { JUMUN_PLATFORM_DELIVERY = 1, JUMUN_STORE_DELIVERY = 2, JUMUN_PICKUP = 3,
               JUMUN_PARCEL = 4 } jumun_fulfilment;
typedef enum { JUMUN_PREPAID = 1, JUMUN_ON_DELIVERY = 2 } jumun_payment_timing;
typedef enum { JUMUN_AUTHORISED = 1, JUMUN_CAPTURED = 2, JUMUN_FAILED = 3 } jumun_payment_state;
typedef enum { JUMUN_BY_CUSTOMER = 1, JUMUN_BY_STORE = 2, JUMUN_BY_RIDER = 3, JUMUN_BY_SUPPORT = 4,
               JUMUN_BY_SYSTEM = 5 } jumun_party;

typedef struct {
    const char *sku;
    int64_t quantity, unit_price;
    const char *name;                 /* optional */
} jumun_line;

typedef struct { uint32_t line; int64_t quantity; } jumun_line_cancellation;

typedef struct {
    jumun_fulfilment fulfilment;
    jumun_payment_timing payment_timing;  /* 0 = prepaid */
    const char *currency;                 /* ISO 4217 */
    const char *store;
    const jumun_line *lines; uint32_t lines_count;
    int64_t fees, discounts, total;       /* total = lines + fees - discounts */
    const char *customer, *group, *external_ref;           /* optional */
    const void *attributes; uint32_t attributes_bytes;     /* optional: your own msgpack */
    int64_t payment_timeout_ms, acceptance_timeout_ms, auto_complete_ms; /* 0 = default */
} jumun_place;

typedef struct {
    jumun_payment_state state;
    const char *method, *reference;
    int64_t amount;
} jumun_pay;

typedef struct {
    jumun_party by;
    const char *reason;                                    /* optional */
    const jumun_line_cancellation *lines; uint32_t lines_count; /* none = the whole order */
} jumun_cancel;

typedef struct { const jumun_line *lines; uint32_t lines_count; int64_t fees, discounts, total;
} jumun_amend;

/* What goes with any command. All fields optional; NULL = all defaults. */
typedef struct {
    jumun_key id;               /* command id; zero = a new one. Give your own to make a retry of
                                   your own safe: the same id is acted on once */
    uint32_t expected_version;  /* 0 = none; else a mismatch is JUMUN_VERSION_CONFLICT */
    jumun_key trace;            /* zero = none; stands in the events */
    uint32_t timeout_ms;        /* 0 = the client's */
} jumun_options_command;

/* Codes: the engine's (frozen numbers of docs/protocol.md, below 1000) and the library's own. */
enum {
    JUMUN_OK = 0,
    JUMUN_HELD = 1,                 /* accepted; resolved once the order is placed */
    JUMUN_OVERLOADED = 2,
    JUMUN_WRONG_CLUSTER = 11,       /* at all addresses there are nodes of another cluster than the
                                       one that this client began to work with */
    JUMUN_READ_ONLY = 23,           /* it is a query replica: ask a node, or use jumun_query.h. At
                                       once where replicas answer at all addresses; while one may
                                       be a node's, tried again until the timeout; not where a node
                                       has answered before: that is JUMUN_NOT_SENT */
    JUMUN_ORDER_NOT_FOUND = 100,
    JUMUN_VERSION_CONFLICT = 105,
    JUMUN_OUTCOME_UNKNOWN = 1000,   /* sent, but no answer in time: ask again with result.id */
    JUMUN_NOT_SENT = 1001,          /* certainly not done: no connection within the timeout */
    JUMUN_CIRCUIT_OPEN = 1002,      /* certainly not done: the endpoint failed too often just now */
    JUMUN_QUEUE_FULL = 1003,        /* certainly not done: the client's own queue is full, or what
                                       waits would take half of the command's timeout */
    JUMUN_BAD_ARGUMENT = 1004,      /* certainly not done: result.detail says what */
    JUMUN_CLOSED = 1005,            /* the client is being closed; what was sent already may have
                                       been done: ask again with result.id */
    JUMUN_BAD_REPLY = 1006,         /* the peer does not speak this protocol; result.detail says so
                                       where it is a node's feed. When that is told: as with
                                       JUMUN_READ_ONLY */
    JUMUN_NO_MEMORY = 1007,
    JUMUN_NOT_A_REPLICA = 1008,     /* of queries: nodes answer at all the addresses that were given
                                       for replicas: those are for jumun_open(); or nodes' feeds,
                                       which are for neither: the answer's detail says so */
    JUMUN_OTHER_CLUSTER = 1009      /* of queries: all replicas follow another cluster than the one
                                       that the session writes to */
};

typedef struct {
    int code;                   /* JUMUN_OK, JUMUN_HELD, or why not */
    bool repeated;              /* the engine had acted on this id before: its first answer */
    uint32_t version;           /* the order's version after the command (or its current one) */
    uint32_t shard; uint64_t index; /* token: a state that reflects it contains the effect */
    uint32_t retry_after_ms;    /* with JUMUN_OVERLOADED and JUMUN_QUEUE_FULL */
    jumun_key id;               /* the command id that was used; zero if none was */
    char detail[96];            /* a sentence more, or "" */
} jumun_result;

/* "done", "the store takes no new orders", ... for engine and library codes. Never NULL. */
const char *jumun_result_text(int code);
/* "ok", "store_paused", "outcome_unknown", ... Never NULL. */
const char *jumun_result_name(int code);

/* -- the client -------------------------------------------------------------------------------- */

typedef struct {
    uint32_t timeout_ms;            /* of one call, retries included; 0 = 5,000 */
    uint32_t attempt_timeout_ms;    /* of one attempt; 0 = 1,000 */
    uint32_t batch_commands_max;    /* per message; 0 = 128 */
    uint32_t messages_in_flight_max;/* per shard; 0 = 8 */
    uint32_t queue_commands_max;    /* waiting in the client, per shard; 0 = 65,536. Fewer when, at
                                       the rate of late, they would take more than half of a
                                       command's timeout: then it is refused at once */
    uint32_t backoff_ms_min, backoff_ms_max; /* 0 = 10 and 500; full jitter */
    uint32_t circuit_failures;      /* consecutive failures that open it; 0 = 20 */
    uint32_t circuit_open_ms;       /* 0 = 1,000 */
    /* For addresses that begin with tls+tcp://: files in PEM form. NULL = what the environment's
     * JUMUN_TLS_CA, JUMUN_TLS_CERT and JUMUN_TLS_KEY say. Read at each connection: they are there
     * as long as the client. */
    const char *tls_ca;             /* those who sign the nodes' certificates; needed */
    const char *tls_cert, *tls_key; /* the own ones, where nodes ask for one (their --tls-ca) */
} jumun_options;

/* Connects to a node's general endpoint, e.g. "tcp://127.0.0.1:7400", and learns its shard map; in
 * time for the first call: returns at once, also while the node is away. `endpoints` may name
 * several nodes of a cluster, separated by commas (the others are learned from the shard map). NULL
 * with a sentence in `error` only for bad arguments or lack of memory. */
jumun_client *jumun_open(const char *endpoints, const jumun_options *options, char *error,
                         size_t error_bytes);

/* Gives answers that are on their way up to 200 ms to arrive; ends all calls still open with
 * JUMUN_CLOSED, waits for their callbacks, frees. Through a fault of nng 1.5.2 a connection on
 * which something comes in just then may never be freed: that is waited for 2 s, and then left.
 * Any thread, but not a callback. No call may begin after it; those that other threads wait in
 * come back at once. */
void jumun_close(jumun_client *client);

/* Waits until the node answers a ping. JUMUN_OK or why not. No open circuit stops it. */
int jumun_ping(jumun_client *client, uint32_t timeout_ms);

/* -- commands, synchronous: return result->code. `result` may be NULL. ------------------------- */

int jumun_place_order(jumun_client *, const jumun_key *order, const jumun_place *,
                      const jumun_options_command *, jumun_result *result);
int jumun_pay_order(jumun_client *, const jumun_key *order, const jumun_pay *,
                    const jumun_options_command *, jumun_result *result);
int jumun_accept_order(jumun_client *, const jumun_key *order, int64_t preparation_minutes,
                       const jumun_options_command *, jumun_result *result);
int jumun_reject_order(jumun_client *, const jumun_key *order, const char *reason,
                       const jumun_options_command *, jumun_result *result);
int jumun_mark_ready(jumun_client *, const jumun_key *order, const jumun_options_command *,
                     jumun_result *result);
int jumun_assign_rider(jumun_client *, const jumun_key *order, const char *rider,
                       const jumun_options_command *, jumun_result *result);
int jumun_unassign_rider(jumun_client *, const jumun_key *order, const jumun_options_command *,
                         jumun_result *result);
int jumun_pick_up(jumun_client *, const jumun_key *order, const jumun_options_command *,
                  jumun_result *result);
int jumun_deliver(jumun_client *, const jumun_key *order, const jumun_options_command *,
                  jumun_result *result);
int jumun_complete(jumun_client *, const jumun_key *order, const jumun_options_command *,
                   jumun_result *result);
int jumun_cancel_order(jumun_client *, const jumun_key *order, const jumun_cancel *,
                       const jumun_options_command *, jumun_result *result);
int jumun_refund(jumun_client *, const jumun_key *order, int64_t amount /* 0 = all */,
                 const char *reason, const jumun_options_command *, jumun_result *result);
int jumun_amend_order(jumun_client *, const jumun_key *order, const jumun_amend *,
                      const jumun_options_command *, jumun_result *result);
int jumun_annotate(jumun_client *, const jumun_key *order, const char *note,
                   const jumun_options_command *, jumun_result *result);
int jumun_store_pause(jumun_client *, const char *store, const char *reason,
                      const jumun_options_command *, jumun_result *result);
int jumun_store_resume(jumun_client *, const char *store, const jumun_options_command *,
                       jumun_result *result);

/* -- commands, asynchronous -------------------------------------------------------------------- */

/* One command of any kind, for jumun_submit(). Kinds are those of docs/protocol.md. */
typedef enum {
    JUMUN_PLACE = 1, JUMUN_PAY, JUMUN_ACCEPT, JUMUN_REJECT, JUMUN_MARK_READY, JUMUN_ASSIGN_RIDER,
    JUMUN_UNASSIGN_RIDER, JUMUN_PICK_UP, JUMUN_DELIVER, JUMUN_COMPLETE, JUMUN_CANCEL, JUMUN_REFUND,
    JUMUN_AMEND, JUMUN_ANNOTATE, JUMUN_GET = 20, JUMUN_HISTORY = 21,
    JUMUN_STORE_PAUSE = 50, JUMUN_STORE_RESUME = 51, JUMUN_STORE_GET = 52,
    JUMUN_NODE_PING = 100, JUMUN_NODE_SHARD_MAP = 101, JUMUN_NODE_STATUS = 102
} jumun_kind;

typedef struct {
    jumun_kind kind;
    jumun_key order;              /* order commands */
    const char *store_id;         /* store commands */
    jumun_options_command options;
    union {
        jumun_place place;
        jumun_pay pay;
        struct { int64_t preparation_minutes; } accept;
        struct { const char *reason; } reject;
        struct { const char *rider; } assign_rider;
        jumun_cancel cancel;
        struct { int64_t amount; const char *reason; } refund;
        jumun_amend amend;
        struct { const char *note; } annotate;
        struct { const char *reason; } store_pause;
        struct { uint32_t limit; } history;
    };
} jumun_command;

/* Called exactly once per submitted command, from a thread of the library. Must not block and must
 * not call synchronous functions; may submit: that leaves once the callbacks of all answers that
 * came together have run, or, if they take long, after about a millisecond of them. `value` is the
 * msgpack answer of a read, valid during the call, NULL otherwise. */
typedef void (*jumun_callback)(void *arg, const jumun_result *result, const void *value,
                               size_t value_bytes);

/* Encodes and queues a command; nothing of it is referenced after the return. JUMUN_OK = the
 * callback will come. Anything else = it will not, and nothing was sent. */
int jumun_submit(jumun_client *, const jumun_command *, jumun_callback, void *arg);
/* After JUMUN_QUEUE_FULL: when such a command should find room, in milliseconds, from what waits
 * and how fast that went of late; 0 = now. */
uint32_t jumun_retry_after_ms(jumun_client *, const jumun_command *);

/* Runs one command and waits. For reads *value is malloc'ed msgpack for the caller to free(). */
int jumun_call(jumun_client *, const jumun_command *, jumun_result *result, void **value,
               size_t *value_bytes);

/* Encodes one command as a whole request message of docs/protocol.md, exactly as a client sends it:
 * to look at, or to carry by another transport (`nngcat --req --file`). Zero ids get new ones.
 * `deadline_ms` is Unix ms, 0 = none. JUMUN_OK and *message malloc'ed for the caller to free();
 * else *message is NULL and `error` holds a sentence. Needs no client. Thread-safe. */
int jumun_encode_request(const jumun_command *command, int64_t deadline_ms, void **message,
                         size_t *message_bytes, char *error, size_t error_bytes);

/* -- reads ------------------------------------------------------------------------------------- */

/* The order as docs/protocol.md shows it. Decoded form; lists and strings belong to the result of
 * jumun_get() and are freed together by jumun_order_free(). */
typedef struct { const char *sku, *name; int64_t quantity, cancelled, unit_price;
} jumun_order_line;
typedef struct { const char *method, *reference; int64_t amount; const char *state;
} jumun_order_payment;

typedef struct {
    jumun_key key;
    uint32_t version; uint64_t last_index;
    const char *state;            /* "placed", "paid", ... */
    jumun_fulfilment fulfilment; jumun_payment_timing payment_timing;
    char currency[4];
    const char *store, *customer, *rider, *group, *external_ref, *end_reason; /* "" = none */
    jumun_party ended_by;         /* 0 = has not ended */
    const void *attributes; uint32_t attributes_bytes;
    int64_t lines_total, fees, discounts, total, authorised, captured, refunded, refund_owed;
    int64_t placed_ms, updated_ms, ready_estimate_ms;
    int64_t payment_deadline_ms, acceptance_deadline_ms, auto_complete_ms, refund_deadline_ms,
            retention_deadline_ms, held_deadline_ms;
    const jumun_order_line *lines;
    uint32_t lines_count;
    const jumun_order_payment *payments;
    uint32_t payments_count, commands_count, held_count, notes_count;
} jumun_order;

/* *order is NULL unless JUMUN_OK. */
int jumun_get(jumun_client *, const jumun_key *key, const jumun_options_command *,
              jumun_order **order, jumun_result *result);
void jumun_order_free(jumun_order *order);

/* -- looking at the client itself -------------------------------------------------------------- */
typedef struct {
    uint64_t commands, messages, replies, retries, timeouts, circuit_opened, queue_full;
    uint64_t commands_waiting, commands_in_flight;
    uint32_t shards;              /* 0 = the shard map is not known yet */
} jumun_client_stats;
void jumun_stats(jumun_client *, jumun_client_stats *);

const char *jumun_version(void);

#ifdef __cplusplus
}
#endif
#endif
