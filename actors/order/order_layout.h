/* The order's block: a fixed part, then sections one behind the other without gaps.
 *
 *   struct order | store customer group external_ref attributes | lines | payment parts | rider
 *                | end reason | held: deadline (8 bytes) and commands | command records
 *
 * What never changes stands first. What grows with nearly every event, the command records, stands
 * last: to remember an id is an append, and no byte of even the largest basket moves. A part, a
 * rider or a reason that comes or goes moves the records alone (20 bytes each).
 *
 * Only the block's owner writes; every function is pure on the block. Sections are unaligned: they
 * are read with memcpy. */
#ifndef JUMUN_ACTORS_ORDER_LAYOUT_H
#define JUMUN_ACTORS_ORDER_LAYOUT_H

#include "actors/order/order.h"
#include "actors/order/order_event.h"
#include "actors/order/order_lines.h"

enum { ORDER_SCHEMA = 1 };

struct order {
    struct actor actor;
    int64_t lines_total;       /* of what is not cancelled */
    int64_t fees, discounts;
    int64_t total;             /* lines_total + fees - discounts */
    int64_t captured;          /* sum of the captured parts */
    int64_t refunded;          /* <= captured */
    int64_t refund_owed;       /* <= captured - refunded */
    int64_t placed_ms;         /* 0 while awaited */
    int64_t updated_ms;        /* the newest event's */
    int64_t ready_estimate_ms; /* 0 = not told */
    int64_t step_deadline_ms;  /* PLACED prepaid: payment; PLACED on delivery, PAID: acceptance;
                                  PICKED_UP (pickup), DELIVERED: auto-complete; 0 = none */
    int64_t end_deadline_ms;   /* refund while refund_owed > 0, else retention; 0 = none */
    uint32_t payment_timeout_ms, acceptance_timeout_ms, auto_complete_ms;
    uint32_t lines_bytes;
    uint32_t held_bytes;       /* deadline included; 0 = nothing is held */
    uint16_t lines_count;
    uint16_t attributes_bytes;
    uint16_t parts_bytes;
    uint16_t end_reason_bytes;
    uint16_t commands_count;
    uint16_t notes_count;
    uint8_t fulfilment;        /* enum fulfilment; 0 = was never placed */
    uint8_t payment_timing;    /* enum payment_timing */
    char currency[3];
    uint8_t ended_by;          /* enum party; 0 = has not ended, or not told */
    uint8_t parts_count;
    uint8_t held_count;
    uint8_t store_bytes, customer_bytes, group_bytes, external_ref_bytes;
    uint8_t rider_bytes;
    uint8_t spare[3];          /* 0 */
};
static_assert(sizeof(struct order) == 192, "the order's fixed part is frozen");

/* An id that the order has acted on, for the answer to its retry. */
struct order_command_record {
    struct id128 id;
    uint16_t version;          /* the answer's */
    uint8_t kind;              /* enum command_kind: the same id with another kind is refused */
    uint8_t outcome;           /* enum result_code: OK, HELD, or why a held command was refused */
};
static_assert(sizeof(struct order_command_record) == 20, "command records are frozen");

enum { ORDER_HELD_DEADLINE_BYTES = 8 };
/* An order's version stays below 2^16: a command makes one event, a held one two, and a deadline
 * fires at most once for each time that a command armed it. */
static_assert(ORDER_COMMANDS_MAX * 8 + ORDER_HELD_MAX * 8 < UINT16_MAX, "versions fit a record");
static_assert(RESULT_LINE_QUANTITY_EXCEEDED < UINT8_MAX, "order refusals fit a record");
static_assert(ID_TEXT_BYTES_MAX <= UINT8_MAX && EXTERNAL_REF_BYTES_MAX <= UINT8_MAX &&
                  LINE_NAME_BYTES_MAX <= UINT8_MAX,
              "sizes of short texts fit a byte");
static_assert(ORDER_PAYMENTS_MAX * ORDER_PART_BYTES_MAX <= UINT16_MAX, "parts_bytes fits");
static_assert(TIMEOUT_MS_MAX <= UINT32_MAX, "timeouts fit 32 bits");
static_assert(sizeof(struct order) + ORDER_LINES_MAX * ORDER_LINE_BYTES_MAX + ATTRIBUTES_BYTES_MAX +
                      ORDER_PAYMENTS_MAX * ORDER_PART_BYTES_MAX + ORDER_COMMANDS_MAX * 20 +
                      ORDER_HELD_MAX * (sizeof(struct order_held) + ORDER_LINES_MAX * 8 + 1024) <=
                  ACTOR_BYTES_MAX,
              "the largest order fits its block");

static inline const struct order *order_of(const struct actor *actor) {
    return (const struct order *)(const void *)actor;
}

/* -- where the sections start, in bytes from the block's first ----------------------------- */

static inline uint32_t order_attributes_at(const struct order *o) {
    return (uint32_t)sizeof *o + o->store_bytes + o->customer_bytes + o->group_bytes +
           o->external_ref_bytes;
}
static inline uint32_t order_lines_at(const struct order *o) {
    return order_attributes_at(o) + o->attributes_bytes;
}
static inline uint32_t order_parts_at(const struct order *o) {
    return order_lines_at(o) + o->lines_bytes;
}
static inline uint32_t order_rider_at(const struct order *o) {
    return order_parts_at(o) + o->parts_bytes;
}
static inline uint32_t order_end_reason_at(const struct order *o) {
    return order_rider_at(o) + o->rider_bytes;
}
static inline uint32_t order_held_at(const struct order *o) {
    return order_end_reason_at(o) + o->end_reason_bytes;
}
static inline uint32_t order_commands_at(const struct order *o) {
    return order_held_at(o) + o->held_bytes;
}
/* What the fields say that the block's size is; equals actor.bytes. */
static inline uint32_t order_bytes_of_sections(const struct order *o) {
    return order_commands_at(o) + o->commands_count * (uint32_t)sizeof(struct order_command_record);
}

static inline const uint8_t *order_at(const struct order *o, uint32_t offset) {
    return (const uint8_t *)o + offset;
}
static inline struct bytes order_text(const struct order *o, uint32_t offset, uint32_t size) {
    return (struct bytes){order_at(o, offset), size};
}

static inline int64_t order_held_deadline(const struct order *o) {
    int64_t deadline = 0;
    if (o->held_bytes != 0) memcpy(&deadline, order_at(o, order_held_at(o)), sizeof deadline);
    return deadline;
}

/* The held command at `offset`; its texts and cuts lie behind it in the block. */
static inline struct order_held order_held_get(const struct order *o, uint32_t offset) {
    struct order_held held;
    memcpy(&held, order_at(o, offset), sizeof held);
    return held;
}
static inline uint32_t order_held_item_bytes(const struct order_held *held) {
    return (uint32_t)sizeof *held + held->method_bytes + held->reference_bytes +
           held->reason_bytes + held->cuts_count * (uint32_t)sizeof(struct order_line_cut);
}

/* -- what follows from the fields ---------------------------------------------------------- */

static inline bool order_was_placed(const struct order *o) { return o->fulfilment != 0; }

/* What the order still has a claim to, in a state. */
static inline int64_t order_claim(uint8_t state, int64_t total) {
    return state >= ORDER_REJECTED || state == ORDER_AWAITED ? 0 : total;
}

/* The captured money that is owed back. */
static inline int64_t order_owed(int64_t captured, int64_t refunded, int64_t claim) {
    return captured - refunded > claim ? captured - refunded - claim : 0;
}

/* The record of a command id: its offset in the block, 0 if the order does not know it. */
uint32_t order_find_command(const struct order *order, const struct id128 *id);

/* order_apply() without the look at the invariants; for order_apply_checked(). */
void order_apply_plainly(struct actor *actor, const struct event *event,
                         const struct apply_context *context);

static inline struct order_command_record order_command_get(const struct order *o,
                                                            uint32_t offset) {
    struct order_command_record record;
    memcpy(&record, order_at(o, offset), sizeof record);
    return record;
}

#endif
