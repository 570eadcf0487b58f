/* What a year of invoices asks of the engine: every sale becomes the life of an order, every other
 * invoice becomes what it is. Pure: no clock, no client; the same invoices give the same plan.
 *
 * The life of a sale, in the time of the data (the shares are by a hash of the invoice number):
 *
 *   sale +0        place (parcel, GBP, one store a country), pay captured
 *                  1 % are never paid: the engine will expire them
 *   +1 hour        accept; 1 % are rejected instead
 *   +1 day         ready (packed)
 *   +2 days        pick_up (shipped)
 *   +5 days        deliver
 *   +35 days       complete: a return is a refund from here on
 *
 * The data ends on some day: the youngest orders stand somewhere on this way, as they would.
 *
 * A cancel invoice that names its sale cancels those lines that it matches by stock code with what
 * is left of them, and refunds them if they were paid; matching everything that is left makes it a
 * whole cancel, after which the life ends. Lines that do not match are sent as they are, in a
 * cancel of their own: the engine's refusal is the answer. A cancel without its sale goes to a new
 * key and is held. Stock fixes and bad debts are placed as they stand: most are refused. */
#ifndef JUMUN_DEMO_PLAN_H
#define JUMUN_DEMO_PLAN_H

#include "clients/demo/retail.h"

enum plan_origin {
    PLAN_SALE, PLAN_CANCEL, PLAN_CANCEL_UNMATCHED, PLAN_CANCEL_UNLINKED, PLAN_STOCKFIX, PLAN_ADJUST,
    PLAN_ORIGINS
};

struct plan_step {
    int64_t at_ms;              /* in the time of the data */
    uint32_t order;             /* into plan->orders */
    uint8_t kind;               /* jumun_kind */
    uint8_t origin;             /* enum plan_origin */
    uint32_t lines_first, lines_count; /* into plan->lines; a cancel without lines is a whole one */
    int64_t amount;             /* pay, refund */
    const struct retail_invoice *invoice; /* that asks for it */
};

struct plan_order {
    const struct retail_invoice *invoice;
    int64_t *left;              /* per line, what is not cancelled yet */
    int64_t ended_ms;           /* whole cancel: no step of its life after it; INT64_MAX = none */
    bool paid, rejected;        /* whether its life holds a payment, a rejection */
    uint32_t cancels;           /* matched ones */
};

struct plan {
    struct plan_order *orders;
    uint32_t orders_count;
    struct plan_step *steps;    /* in the order in which they are played */
    uint32_t steps_count, steps_capacity;
    jumun_line_cancellation *lines;
    uint32_t lines_count, lines_capacity;
    int64_t *left;              /* owned: the orders' remainders */
    int64_t end_ms;             /* newest invoice: later steps are not played */
    uint32_t invoices_by_origin[PLAN_ORIGINS];
    uint32_t lines_unmatched, cancels_whole, cancels_partial;
};

/* False without memory; then nothing has to be freed. `retail` must outlive the plan. */
bool plan_make(struct plan *plan, const struct retail *retail);
void plan_free(struct plan *plan);

/* How one line of a cancel meets the order: takes from lines with that stock code, those of the
 * same price first, at most what is left of each. Writes at most `lines_count` cancellations,
 * returns how many, and lowers `left`. What finds no match stays in *quantity_unmatched. */
uint32_t plan_match_line(const jumun_line *lines, uint32_t lines_count, int64_t *left,
                         const jumun_line *cancelled, jumun_line_cancellation *out,
                         int64_t *quantity_unmatched);

/* "retail-united-kingdom" of "United Kingdom". */
void plan_store_id(const char *country, char *store, size_t store_bytes);

const char *plan_origin_name(enum plan_origin origin);

#endif
