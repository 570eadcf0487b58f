/* The order actor: one aggregate for all four fulfilments.
 *
 * Pure: see actors/actor.h. Life, drawn (docs/order-states.md has the full table):
 *
 *   placed -> paid -> accepted -> ready -> picked_up -> delivered -> completed
 *      \________\________\_______\___ cancelled (also rejected before acceptance, expired)
 */
#ifndef JUMUN_ACTORS_ORDER_ORDER_H
#define JUMUN_ACTORS_ORDER_ORDER_H

#include "actors/actor.h"

/* X(name, number): frozen. AWAITED: no place has come yet, but commands are held for it. */
#define ORDER_STATES(X) \
    X(AWAITED, 1)       \
    X(PLACED, 2)        \
    X(PAID, 3)          \
    X(ACCEPTED, 4)      \
    X(READY, 5)         \
    X(PICKED_UP, 6)     \
    X(DELIVERED, 7)     \
    X(COMPLETED, 8)     \
    X(REJECTED, 9)      \
    X(CANCELLED, 10)    \
    X(EXPIRED, 11)

enum order_state {
#define X(name, number) ORDER_##name = number,
    ORDER_STATES(X)
#undef X
};

/* Decides one command.
 *
 * `order`: its block, or NULL when no block exists for command->subject. Not changed.
 * `sink`:  gets the events (at most EVENT_BYTES_MAX bytes together); nothing is added when refused
 *          or repeated. The caller applies them before it decides the next command of this order.
 * Reads (GET, HISTORY) add nothing: OK with the version, or ORDER_NOT_FOUND.
 * After OK for PLACE the caller asks order_held_count(); while it is > 0 it decides
 * RESOLVE_HELD. */
struct decision order_decide(const struct actor *order, const struct command *command,
                             const struct decide_context *context, struct event_sink *sink);

/* Upper bound of the block's bytes once `event` has been applied. `order` may be NULL. */
uint32_t order_bytes_after(const struct actor *order, const struct event *event);

/* Applies one event. `order` has room for order_bytes_after(); for the first event of a key the
 * block is zeroed memory. Total and deterministic; asserts the invariants of the result:
 * line totals + fees - discounts = total, refunded <= captured, quantities >= 0, version + 1. */
void order_apply(struct actor *order, const struct event *event,
                 const struct apply_context *context);

/* As order_apply(), for a log that nobody vouches for: the event has the shape of its kind
 * (order_event_is_well_formed) and may say anything else. NULL, or what is wrong: a sentence, or
 * the invariant that no longer holds; then the block is not to be used any more. Never aborts. */
const char *order_apply_checked(struct actor *order, const struct event *event,
                                const struct apply_context *context);

/* Aborts with the broken invariant's text if the block does not hold together. For blocks that were
 * built by order_apply. */
void order_check_invariants(const struct actor *order);
/* The same as an answer: NULL, or the text of the broken invariant. The others walk over the lines
 * and over the payment parts. */
const char *order_invariant_fault(const struct actor *order);
const char *order_lines_fault(const struct actor *order);
const char *order_parts_fault(const struct actor *order);

/* Whether `bytes` bytes at `block` are a well-formed order: sizes, offsets, ranges, UTF-8 excepted.
 * For blocks from disk or a peer, whose checksum is right already. Never aborts. */
bool order_is_well_formed(const void *block, uint32_t bytes);

/* Whether an event from disk or a peer has the shape of its kind; apply requires it. Never
 * aborts. */
bool order_event_is_well_formed(const struct event *event);

uint32_t order_held_count(const struct actor *order);

/* The store's id: a view into the block. Size 0 while the order is awaited. */
struct bytes order_store(const struct actor *order);

/* "placed", ...; "unknown" outside the table. Never NULL. */
const char *order_state_name(uint32_t state);

/* -- reading a block: views for whoever shows an order (wire, replicas, tools) ------------- */

struct order_payment_view {
    struct bytes method, reference;
    int64_t amount;
    uint8_t state;             /* enum payment_state */
};

struct order_line_view {
    struct bytes sku, name;
    int64_t quantity;          /* as ordered */
    int64_t cancelled;         /* of these */
    int64_t unit_price;
};

/* Everything about an order but its lists; views point into the block. */
struct order_view {
    struct id128 key;
    uint32_t version;
    uint64_t last_index;
    uint8_t state, fulfilment, payment_timing;
    char currency[4];
    struct bytes store, customer, rider, group, external_ref, attributes, end_reason;
    uint8_t ended_by;          /* enum party; 0 = has not ended, or not told (complete) */
    int64_t lines_total, fees, discounts, total, authorised, captured, refunded;
    int64_t refund_owed;       /* captured money that the order has no claim to any more */
    int64_t placed_ms, updated_ms, ready_estimate_ms;  /* 0 = not yet */
    int64_t payment_deadline_ms, acceptance_deadline_ms, auto_complete_ms,
            refund_deadline_ms, retention_deadline_ms, held_deadline_ms; /* 0 = none pending */
    uint32_t lines_count, payments_count, commands_count, held_count, notes_count;
};

void order_view(const struct actor *order, struct order_view *view);

/* Reads item `i` (0-based, below the count in the view). Lists are walked in order: O(1) amortised
 * when `*cursor` starts at 0 and is passed on unchanged from call to call. */
void order_view_line(const struct actor *order, uint32_t i, uint32_t *cursor,
                     struct order_line_view *line);
void order_view_payment(const struct actor *order, uint32_t i, uint32_t *cursor,
                        struct order_payment_view *payment);

#endif
