/* Views: what a replica keeps so that it can answer. Each is a small file in views/, declared in
 * the one table below: a name, what its key is made of, and which events may change it.
 *
 * Two kinds. An INDEX has at most one row for an order, whose key the view makes of the order as it
 * is now; the applier compares the key before and after a batch of events and moves the row. A SUM
 * adds up numbers under keys that the view makes of each event; each event counts exactly once,
 * because rows and positions change in one transaction. Every row key of an index ends with the
 * order's key; `orders` itself (order key -> its block) is not declared: all others lean on it.
 *
 * Pure: no view allocates, blocks or keeps state. */
#ifndef JUMUN_REPLICA_VIEW_H
#define JUMUN_REPLICA_VIEW_H

#include "actors/order/order.h"
#include "engine/limits.h"

enum { VIEW_KEY_BYTES_MAX = 511, VIEW_NUMBERS = 4 };

/* What a row may be made of. */
struct view_order {
    struct id128 key;
    uint32_t shard;
    uint8_t state;             /* enum order_state */
    bool exists;               /* false: never placed, or retired: no rows */
    bool open;                 /* its store has to work on it */
    int64_t placed_ms;
    uint64_t last_index;       /* of the newest event, in the shard's log */
    struct bytes store, customer, external_ref;
};

/* What a number may be made of: one event, and its order once it is applied. */
struct view_event {
    int64_t time_ms;
    uint8_t state;             /* after it */
    bool entered;              /* the event brought the order into this state */
    bool placed;               /* it placed the order; also one that goes on at once, being paid */
    char currency[3];
    struct bytes store;
    int64_t total, captured, refunded; /* total after it; captured and refunded by it */
};

/* Numbers to be added under a key. */
struct view_sum {
    uint8_t key[VIEW_KEY_BYTES_MAX + 1];
    uint32_t key_bytes;
    int64_t numbers[VIEW_NUMBERS];
};

struct view {
    const char *name;
    uint32_t layout;           /* raise it when keys or meaning change: the view is built anew */
    uint64_t events;           /* bit = enum event_kind, orders only */
    /* INDEX: writes the row's key, returns its bytes; 0 = no row. */
    uint32_t (*key)(const struct view_order *order, uint8_t *out);
    /* SUM: the finest numbers of one event, number `i` (0, 1, ...) of them; false when there are no
     * more. */
    bool (*count)(const struct view_event *event, uint32_t i, struct view_sum *sum);
    /* SUM: the coarser key number `i` (0, 1, ...) under which the same numbers count as well; false
     * when there are no more. */
    bool (*roll_up)(const struct view_sum *sum, uint32_t i, struct view_sum *coarser);
};

#define VIEW_ON(kind) (1ull << EVENT_##kind)
#define VIEW_ON_ALL (~0ull)
/* What begins and ends an order's time in the views. */
#define VIEW_ON_LIFE (VIEW_ON(ORDER_PLACED) | VIEW_ON(ORDER_RETIRED))
/* What moves an order from state to state. */
#define VIEW_ON_STATE                                                                              \
    (VIEW_ON_LIFE | VIEW_ON(PAYMENT_RECORDED) | VIEW_ON(ORDER_ACCEPTED) |                          \
     VIEW_ON(ORDER_REJECTED) | VIEW_ON(ORDER_READY) | VIEW_ON(ORDER_PICKED_UP) |                   \
     VIEW_ON(ORDER_DELIVERED) | VIEW_ON(ORDER_COMPLETED) | VIEW_ON(ORDER_CANCELLED) |              \
     VIEW_ON(LINES_CANCELLED) | VIEW_ON(ORDER_REFUNDED) | VIEW_ON(ORDER_AMENDED) |                 \
     VIEW_ON(ORDER_EXPIRED))

/* X(number, name, layout, events, key or NULL, count or NULL, roll_up or NULL) */
#define VIEWS(X)                                                                                   \
    X(BY_REF, "by_ref", 1, VIEW_ON_LIFE, view_by_ref_key, NULL, NULL)                              \
    X(BY_CUSTOMER, "by_customer", 1, VIEW_ON_LIFE, view_by_customer_key, NULL, NULL)               \
    X(BOARD, "board", 1, VIEW_ON_STATE, view_board_key, NULL, NULL)                                \
    X(BY_STATE, "by_state", 1, VIEW_ON_STATE, view_by_state_key, NULL, NULL)                       \
    X(CHANGES, "changes", 1, VIEW_ON_ALL, view_changes_key, NULL, NULL)                            \
    X(COUNTERS, "counters", 1, VIEW_ON_ALL, NULL, view_counters_count, view_counters_roll_up)

enum view_number {
#define X(number, name, layout, events, key, count, roll_up) VIEW_##number,
    VIEWS(X)
#undef X
    VIEWS_COUNT
};

extern const struct view views[VIEWS_COUNT];

/* -- parts of keys ----------------------------------------------------------------------------- */

/* Writers that return the byte behind what they wrote. Numbers are big endian, so that keys sort by
 * them; a text carries its size before it, so that no text's rows lie among another's. */
static inline uint8_t *view_put_u8(uint8_t *at, uint8_t v) {
    *at = v;
    return at + 1;
}
static inline uint8_t *view_put_u32(uint8_t *at, uint32_t v) {
    v = __builtin_bswap32(v);
    memcpy(at, &v, 4);
    return at + 4;
}
static inline uint8_t *view_put_u64(uint8_t *at, uint64_t v) {
    v = __builtin_bswap64(v);
    memcpy(at, &v, 8);
    return at + 8;
}
static inline uint8_t *view_put_text(uint8_t *at, struct bytes text) {
    *at = (uint8_t)text.size;
    if (text.size != 0) memcpy(at + 1, text.data, text.size);
    return at + 1 + text.size;
}
static inline uint8_t *view_put_key(uint8_t *at, const struct id128 *key) {
    memcpy(at, key->bytes, 16);
    return at + 16;
}
static inline uint64_t view_get_u64(const uint8_t *at) {
    uint64_t v;
    memcpy(&v, at, 8);
    return __builtin_bswap64(v);
}
static inline uint32_t view_get_u32(const uint8_t *at) {
    uint32_t v;
    memcpy(&v, at, 4);
    return __builtin_bswap32(v);
}

/* Sums of money that do not fit stay at the end of what does: they come from outside. */
static inline int64_t view_add(int64_t a, int64_t b) {
    int64_t sum;
    if (!__builtin_add_overflow(a, b, &sum)) return sum;
    return b < 0 ? INT64_MIN : INT64_MAX;
}

/* -- the functions of views/; each file's head says what its rows are ------------------------- */

uint32_t view_by_ref_key(const struct view_order *order, uint8_t *out);
uint32_t view_by_customer_key(const struct view_order *order, uint8_t *out);
uint32_t view_board_key(const struct view_order *order, uint8_t *out);
uint32_t view_by_state_key(const struct view_order *order, uint8_t *out);
uint32_t view_changes_key(const struct view_order *order, uint8_t *out);
bool view_counters_count(const struct view_event *event, uint32_t i, struct view_sum *sum);
bool view_counters_roll_up(const struct view_sum *sum, uint32_t i, struct view_sum *coarser);

/* Counters: the key's beginning for a bucket and a store, for who looks them up; and a key taken
 * apart. bucket_ms is 60,000 or 86,400,000. */
uint32_t view_counters_prefix(uint32_t bucket_ms, int64_t time_ms, uint8_t *out);
struct view_counters_row {
    uint32_t bucket_ms;
    int64_t start_ms;
    struct bytes store;        /* size 0 = all stores together */
    uint8_t state;
    char currency[3];
};
bool view_counters_read(struct bytes key, struct view_counters_row *row);

/* What a view may know of an order's block. */
void view_order_of(const struct actor *block, uint32_t shard, struct view_order *order);

#endif
