/* The payloads of the order's events (actors/event.h has their header). Frozen: these are the bytes
 * in the log. A change is a new schema number and an upcast on read, never an edit.
 *
 * Little endian, 8-byte aligned. Texts lie behind the fixed part in the order in which their sizes
 * stand in it; zeros pad the event to 8 bytes. Everything is a fact: amounts and deadlines are what
 * they are AFTER the event, so apply copies them and decides nothing again.
 *
 * Line, as in an event and in the block (order_lines.h reads and writes it):
 *   u8 tag           bits 0-1 width of quantity and cancelled, bits 2-3 width of the price:
 *                    0, 1, 2, 3 = 1, 2, 4, 8 bytes
 *   quantity, cancelled, unit price      unsigned, of these widths
 *   u8 sku bytes, u8 name bytes, sku, name
 * Payment part, likewise:
 *   u8 tag           bits 0-2 enum payment_state, bits 3-4 width of the amount
 *   amount, u8 method bytes, u8 reference bytes, method, reference */
#ifndef JUMUN_ACTORS_ORDER_EVENT_H
#define JUMUN_ACTORS_ORDER_EVENT_H

#include "actors/event.h"
#include "engine/base/program.h"

/* The schema that is written at a level of the cluster, and whether one can be read. There is one
 * so far: a second one comes with a level of its own (engine/base/program.h) and an upcast in
 * order_apply.c. */
enum { ORDER_EVENT_SCHEMA = 1 };

static inline uint8_t order_event_schema(uint8_t level) {
    return program.order_event_schemas[program_level(level)];
}
static inline bool order_event_schema_is_known(uint8_t schema) {
    return schema >= ORDER_EVENT_SCHEMA &&
           schema <= program.order_event_schemas[program.level_max];
}

/* Stands first in every payload whose event may change what is due. */
struct order_after {
    int64_t step_deadline_ms;  /* payment, acceptance or auto-complete, by the state; 0 = none */
    int64_t end_deadline_ms;   /* refund while something is owed, else retention; 0 = none */
    int64_t refund_owed;       /* captured money that the order has no claim to */
};

/* ORDER_PLACED. Behind it: store, customer, group, external ref, attributes, lines. */
struct order_placed {
    struct order_after after;
    int64_t lines_total, fees, discounts, total;
    uint32_t payment_timeout_ms;    /* as asked for, or the default of that day */
    uint32_t acceptance_timeout_ms;
    uint32_t auto_complete_ms;
    uint32_t lines_bytes;
    uint16_t lines_count;
    uint16_t attributes_bytes;
    uint8_t fulfilment;             /* enum fulfilment */
    uint8_t payment_timing;         /* enum payment_timing */
    uint8_t store_bytes, customer_bytes, group_bytes, external_ref_bytes;
    char currency[3];
    uint8_t spare[3];               /* 0 */
};
static_assert(sizeof(struct order_placed) == 88, "order_placed is frozen");

/* ORDER_AMENDED. Behind it: the new lines, which replace all old ones. */
struct order_amended {
    struct order_after after;
    int64_t lines_total, fees, discounts, total;
    uint32_t lines_bytes;
    uint16_t lines_count;
    uint16_t spare;                 /* 0 */
};
static_assert(sizeof(struct order_amended) == 64, "order_amended is frozen");

/* PAYMENT_RECORDED. Behind it: method, reference. */
struct order_payment_recorded {
    struct order_after after;
    int64_t amount;                 /* of the part */
    int64_t captured;               /* of the order, all parts */
    uint8_t part;                   /* position of the part; the count of parts = a new one */
    uint8_t state;                  /* enum payment_state, of the part */
    uint8_t method_bytes, reference_bytes;
    uint8_t spare[4];               /* 0 */
};
static_assert(sizeof(struct order_payment_recorded) == 48, "payment_recorded is frozen");

/* ORDER_ACCEPTED */
struct order_accepted {
    struct order_after after;
    int64_t ready_estimate_ms;      /* 0 = not told */
};
static_assert(sizeof(struct order_accepted) == 32, "order_accepted is frozen");

/* ORDER_PICKED_UP, ORDER_DELIVERED. (ORDER_READY, RIDER_UNASSIGNED and ORDER_RETIRED have no
 * payload.) */
struct order_moved {
    struct order_after after;
};
static_assert(sizeof(struct order_moved) == 24, "order_moved is frozen");

/* ORDER_REJECTED, ORDER_CANCELLED, ORDER_EXPIRED, ORDER_COMPLETED. Behind it: the reason.
 * The first three release every authorised payment part: it becomes PAYMENT_VOIDED. */
struct order_ended {
    struct order_after after;
    uint16_t reason_bytes;
    uint8_t by;                     /* enum party; 0 = not told (completed by a command) */
    uint8_t spare[5];               /* 0 */
};
static_assert(sizeof(struct order_ended) == 32, "order_ended is frozen");

/* RIDER_ASSIGNED. Behind it: the rider. */
struct order_rider_assigned {
    uint8_t rider_bytes;
    uint8_t spare[7];               /* 0 */
};
static_assert(sizeof(struct order_rider_assigned) == 8, "rider_assigned is frozen");

/* One item of LINES_CANCELLED and of a held cancel. */
struct order_line_cut {
    uint32_t line;                  /* 0-based position */
    uint32_t quantity;              /* > 0: cancelled by this event */
};
static_assert(sizeof(struct order_line_cut) == 8, "order_line_cut is frozen");

/* LINES_CANCELLED. Behind it: cuts, by ascending line and each line once; then the reason. */
struct order_lines_cancelled {
    struct order_after after;
    int64_t lines_total, discounts, total;
    uint16_t cuts_count;
    uint16_t reason_bytes;
    uint8_t by;                     /* enum party */
    uint8_t spare[3];               /* 0 */
};
static_assert(sizeof(struct order_lines_cancelled) == 56, "lines_cancelled is frozen");

/* ORDER_REFUNDED. Behind it: the reason. */
struct order_refunded {
    struct order_after after;
    int64_t amount;                 /* of this refund */
    int64_t refunded;               /* of the order, all refunds */
    uint16_t reason_bytes;
    uint8_t by;                     /* PARTY_SYSTEM when the deadline caused it, else 0 */
    uint8_t spare[5];               /* 0 */
};
static_assert(sizeof(struct order_refunded) == 48, "order_refunded is frozen");

/* ORDER_ANNOTATED. Behind it: the note. The block only counts notes; the log has their text. */
struct order_annotated {
    uint16_t note_bytes;
    uint8_t spare[6];               /* 0 */
};
static_assert(sizeof(struct order_annotated) == 8, "order_annotated is frozen");

/* A command that waits for its place, as in COMMAND_HELD and in the block (unaligned there).
 * Behind it: method, reference, reason, cuts. */
struct order_held {
    struct id128 id;
    struct id128 trace;
    int64_t amount;                 /* pay */
    uint32_t expected_version;      /* checked when the command is resolved */
    uint16_t cuts_count;            /* cancel */
    uint16_t reason_bytes;          /* cancel */
    uint8_t kind;                   /* COMMAND_PAY or COMMAND_CANCEL */
    uint8_t state_or_by;            /* pay: enum payment_state; cancel: enum party */
    uint8_t method_bytes, reference_bytes; /* pay */
    uint8_t spare[4];               /* 0 */
};
static_assert(sizeof(struct order_held) == 56, "order_held is frozen");

/* COMMAND_HELD */
struct order_command_held {
    int64_t held_deadline_ms;
    struct order_held held;         /* and its texts and cuts */
};
static_assert(sizeof(struct order_command_held) == 64, "command_held is frozen");

/* HELD_COMMAND_RESOLVED: the oldest held command (its id stands in `cause`) leaves the list. When
 * it was carried out, its own event stands right before this one, flagged EVENT_FLAG_FROM_HELD. */
struct order_held_resolved {
    uint16_t code;                  /* RESULT_OK, or the refusal that a retry will get */
    uint8_t spare[6];               /* 0 */
};
static_assert(sizeof(struct order_held_resolved) == 8, "held_resolved is frozen");

/* HELD_COMMANDS_EXPIRED: no place came. Behind it: payment parts for the money that held commands
 * reported as captured (owed back from now on), then the reason. */
struct order_held_expired {
    struct order_after after;
    int64_t captured;
    uint16_t parts_bytes;
    uint16_t reason_bytes;
    uint8_t parts_count;
    uint8_t spare[3];               /* 0 */
};
static_assert(sizeof(struct order_held_expired) == 40, "held_expired is frozen");

#endif
