/* Commands: what may be asked of an actor, decoded and checked for shape, but not yet decided.
 *
 * All texts and lists are views into memory of whoever made the command (a received message, a held
 * command inside an order); they live at least until decide has returned. Money is int64 in minor
 * units, times are Unix milliseconds. */
#ifndef JUMUN_ACTORS_COMMAND_H
#define JUMUN_ACTORS_COMMAND_H

#include "engine/base/bytes.h"

/* X(name, number): frozen numbers, also used on the wire. 1..49 are for orders, 50..59 for stores,
 * 110..139 for the cluster document. 100..109 are for the node and never reach an actor. */
#define COMMAND_KINDS(X)  \
    X(PLACE, 1)           \
    X(PAY, 2)             \
    X(ACCEPT, 3)          \
    X(REJECT, 4)          \
    X(MARK_READY, 5)      \
    X(ASSIGN_RIDER, 6)    \
    X(UNASSIGN_RIDER, 7)  \
    X(PICK_UP, 8)         \
    X(DELIVER, 9)         \
    X(COMPLETE, 10)       \
    X(CANCEL, 11)         \
    X(REFUND, 12)         \
    X(AMEND, 13)          \
    X(ANNOTATE, 14)       \
    X(GET, 20)            \
    X(HISTORY, 21)        \
    X(STORE_PAUSE, 50)    \
    X(STORE_RESUME, 51)   \
    X(STORE_GET, 52)      \
    X(TIMER_DUE, 90)      \
    X(RESOLVE_HELD, 91)   \
    X(STORE_MESSAGE, 92)  \
    X(CLUSTER_FORM, 110)           \
    X(CLUSTER_ADD_NODE, 111)       \
    X(CLUSTER_REMOVE_NODE, 112)    \
    X(CLUSTER_REPLACE_NODE, 113)   \
    X(CLUSTER_READDRESS_NODE, 114) \
    X(CLUSTER_DRAIN, 115)          \
    X(CLUSTER_UNDRAIN, 116)        \
    X(CLUSTER_MOVE_REPLICA, 117)   \
    X(CLUSTER_PREFER, 118)         \
    X(CLUSTER_BALANCE, 119)        \
    X(CLUSTER_GROW, 120)           \
    X(CLUSTER_CANCEL_GROW, 121)    \
    X(CLUSTER_RETIRE_SHARD, 122)   \
    X(CLUSTER_MOVE_STORES, 123)    \
    X(CLUSTER_GET, 124)            \
    X(CLUSTER_RAISE_LEVEL, 125)

/* GET, HISTORY, STORE_GET and CLUSTER_GET are reads. TIMER_DUE (a deadline of the order has
 * passed), RESOLVE_HELD (the order was just placed: act on its oldest held command) and
 * STORE_MESSAGE (a message from another shard) come from the engine itself and are refused on the
 * wire, as is CLUSTER_MOVE_STORES (an epoch has begun: see engine/cluster/cluster_keeper.h). */
enum command_kind {
#define X(name, number) COMMAND_##name = number,
    COMMAND_KINDS(X)
#undef X
};

enum fulfilment {
    FULFILMENT_PLATFORM_DELIVERY = 1, /* our riders: pick_up needs a rider */
    FULFILMENT_STORE_DELIVERY = 2,    /* the store's own riders: a rider may be named */
    FULFILMENT_PICKUP = 3,            /* the customer comes: no rider, no deliver */
    FULFILMENT_PARCEL = 4             /* shipped: ready = packed, picked up = handed to carrier */
};

enum payment_timing { PAYMENT_PREPAID = 1, PAYMENT_ON_DELIVERY = 2 };

enum payment_state { PAYMENT_AUTHORISED = 1, PAYMENT_CAPTURED = 2, PAYMENT_FAILED = 3,
                     PAYMENT_VOIDED = 4 /* never asked for: an end released the authorisation */ };

enum party { PARTY_CUSTOMER = 1, PARTY_STORE = 2, PARTY_RIDER = 3, PARTY_SUPPORT = 4,
             PARTY_SYSTEM = 5 };

struct order_line {
    struct bytes sku;          /* 1..ID_TEXT_BYTES_MAX */
    struct bytes name;         /* 0..LINE_NAME_BYTES_MAX */
    int64_t quantity;          /* 1..ORDER_QUANTITY_MAX */
    int64_t unit_price;        /* >= 0, minor units */
};

struct line_cancellation {
    uint32_t line;             /* 0-based position in the order */
    int64_t quantity;          /* 1..what is left of the line */
};

struct command_place {
    uint8_t fulfilment;        /* enum fulfilment */
    uint8_t payment_timing;    /* enum payment_timing */
    char currency[4];          /* three letters and NUL */
    struct bytes store;        /* 1..ID_TEXT_BYTES_MAX */
    struct bytes customer;     /* 0..ID_TEXT_BYTES_MAX */
    struct bytes group;        /* 0..ID_TEXT_BYTES_MAX: baskets over several stores */
    struct bytes external_ref; /* 0..EXTERNAL_REF_BYTES_MAX */
    struct bytes attributes;   /* 0..ATTRIBUTES_BYTES_MAX, opaque msgpack */
    const struct order_line *lines;
    uint32_t lines_count;      /* 1..ORDER_LINES_MAX */
    int64_t fees;              /* >= 0 */
    int64_t discounts;         /* >= 0, <= line totals + fees */
    int64_t total;             /* must equal line totals + fees - discounts */
    int64_t payment_timeout_ms;       /* 0 = default */
    int64_t acceptance_timeout_ms;    /* 0 = default */
    int64_t auto_complete_ms;         /* 0 = default */
};

struct command_pay {
    uint8_t state;             /* enum payment_state: authorised, captured or failed */
    struct bytes method;       /* 1..ID_TEXT_BYTES_MAX: "card", "voucher", ... */
    struct bytes reference;    /* 1..ID_TEXT_BYTES_MAX: names the part; one part, many results */
    int64_t amount;            /* > 0 */
};

struct command_cancel {
    uint8_t by;                /* enum party */
    struct bytes reason;       /* 0..REASON_BYTES_MAX */
    const struct line_cancellation *lines; /* none = the whole order */
    uint32_t lines_count;
};

struct command_amend {         /* replaces all lines, fees, discounts and total */
    const struct order_line *lines;
    uint32_t lines_count;
    int64_t fees, discounts, total;
};

/* A batch of news from another shard's outbox; see actors/store/store.h. */
struct command_store_message {
    uint32_t from_shard;
    uint64_t sequence;         /* gap-free per (from, to) pair, from 1 */
    struct bytes payload;      /* msgpack, exactly as it came over nng */
};

/* One node of a cluster that is being formed. */
struct cluster_founder {
    uint32_t node;             /* its number, > 0 */
    struct bytes peer, client; /* 1..ENDPOINT_BYTES_MAX - 1: its nng addresses */
};

struct cluster_epoch; /* actors/cluster/cluster.h */

/* Of all commands for the cluster document; each uses the fields named after it. */
struct command_cluster {
    struct id128 cluster_id;               /* form */
    const struct cluster_founder *nodes;   /* form */
    uint32_t nodes_count;                  /* form */
    bool seeded;                           /* form: the shards' orders are there already */
    uint32_t shards;                       /* form, grow: how many */
    uint32_t replicas;                     /* form */
    /* Form, seeded by what is left of a cluster: its epochs, over at most `shards` shards, and over
     * how many of them its stores are spread. A count of 0 = one epoch of all shards. */
    const struct cluster_epoch *epochs;
    uint32_t epochs_count, stores_shards;
    uint8_t generation;                    /* form: of the document; 0 = the first */
    uint32_t node;      /* remove, replace, readdress, drain, undrain, prefer; move: from there */
    uint32_t to;                           /* move: to this node */
    uint32_t shard;                        /* move, prefer, retire */
    int64_t from_ms;                       /* grow: birth of the first key */
    uint8_t level;                         /* form: 0 = the first; raise level */
    const uint32_t *supporting;            /* raise level: the nodes that say that they can */
    uint32_t supporting_count;
    struct bytes peer, client;             /* add, replace, readdress: the (new) node's addresses */
};

struct command {
    uint8_t kind;              /* enum command_kind */
    bool uncounted;            /* the node's own question: no figure of the shard counts it */
    uint16_t malformed;        /* 0, or the code that decoding found: nothing else counts */
    uint32_t expected_version; /* 0 = none */
    struct id128 subject;      /* order key; store_key(id); cluster_key() */
    struct id128 id;           /* command id; zero for reads and the engine's own */
    struct id128 trace;        /* zero = none */
    union {
        struct command_place place;
        struct command_pay pay;
        struct { int64_t preparation_minutes; } accept;      /* 0..1440 */
        struct { struct bytes reason; } reject;              /* 0..REASON_BYTES_MAX */
        struct { struct bytes rider; } assign_rider;         /* 1..ID_TEXT_BYTES_MAX */
        struct command_cancel cancel;
        struct { int64_t amount; struct bytes reason; } refund;  /* amount 0 = all that is left */
        struct command_amend amend;
        struct { struct bytes note; } annotate;              /* 1..NOTE_BYTES_MAX */
        struct { uint32_t limit; } history;  /* newest events wanted; 0 = HISTORY_EVENTS_MAX */
        struct { struct bytes store; struct bytes reason; } store; /* pause, resume, get */
        struct command_store_message store_message;
        struct command_cluster cluster;
    };
};

/* "place", "store_pause", ...; "unknown" outside the table. Never NULL. */
const char *command_kind_name(uint32_t kind);

static inline bool command_is_read(uint8_t kind) {
    return kind == COMMAND_GET || kind == COMMAND_HISTORY || kind == COMMAND_STORE_GET ||
           kind == COMMAND_CLUSTER_GET;
}

/* Whether it is for the cluster document, at the meta group's shard. */
static inline bool command_is_for_cluster(uint8_t kind) {
    return kind >= COMMAND_CLUSTER_FORM && kind <= COMMAND_CLUSTER_RAISE_LEVEL;
}

#endif
