#include "clients/demo/plan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLAN_UNPAID_PER_1000 = 10, PLAN_REJECTED_PER_1000 = 10 };
#define PLAN_HOUR_MS 3600000LL
#define PLAN_DAY_MS (24 * PLAN_HOUR_MS)

static const struct { uint8_t kind; int64_t after_ms; } plan_life[] = {
    {JUMUN_ACCEPT, PLAN_HOUR_MS},      {JUMUN_MARK_READY, PLAN_DAY_MS},
    {JUMUN_PICK_UP, 2 * PLAN_DAY_MS},  {JUMUN_DELIVER, 5 * PLAN_DAY_MS},
    {JUMUN_COMPLETE, 35 * PLAN_DAY_MS}};

const char *plan_origin_name(enum plan_origin origin) {
    static const char *const names[] = {"sale", "cancel", "cancel, unmatched lines",
                                        "cancel without its sale", "stock fix", "bad debt"};
    return origin < PLAN_ORIGINS ? names[origin] : "?";
}

void plan_store_id(const char *country, char *store, size_t store_bytes) {
    size_t used = (size_t)snprintf(store, store_bytes, "retail-");
    for (; *country && used + 1 < store_bytes; country++) {
        store[used++] = isalnum((unsigned char)*country) ? (char)tolower((unsigned char)*country)
                                                         : '-';
    }
    store[used] = 0;
}

/* FNV-1a: the share that an invoice falls into must not change from run to run. */
static uint32_t plan_share(const char *number) {
    uint64_t h = 0xcbf29ce484222325ULL;
    for (; *number; number++) h = (h ^ (unsigned char)*number) * 0x100000001b3ULL;
    return (uint32_t)((h >> 32) % 1000);
}

static bool plan_room(void **list, uint32_t *capacity, uint32_t needed, size_t item_bytes) {
    if (needed <= *capacity) return true;
    uint32_t grown = *capacity ? *capacity * 2 : 4096;
    while (grown < needed) grown *= 2;
    void *bigger = realloc(*list, grown * item_bytes);
    if (!bigger) return false;
    *list = bigger;
    *capacity = grown;
    return true;
}

static struct plan_step *plan_add(struct plan *p, int64_t at_ms, uint32_t order, uint8_t kind,
                                  enum plan_origin origin, const struct retail_invoice *invoice) {
    if (!plan_room((void **)&p->steps, &p->steps_capacity, p->steps_count + 1, sizeof *p->steps)) {
        return NULL;
    }
    struct plan_step *s = &p->steps[p->steps_count++];
    *s = (struct plan_step){.at_ms = at_ms, .order = order, .kind = kind, .origin = origin,
                            .invoice = invoice};
    return s;
}

uint32_t plan_match_line(const jumun_line *lines, uint32_t lines_count, int64_t *left,
                         const jumun_line *cancelled, jumun_line_cancellation *out,
                         int64_t *quantity_unmatched) {
    int64_t wanted = -cancelled->quantity;
    uint32_t count = 0;
    for (int same_price = 1; same_price >= 0 && wanted > 0; same_price--) {
        for (uint32_t i = 0; i < lines_count && wanted > 0; i++) {
            if (left[i] <= 0 || strcmp(lines[i].sku, cancelled->sku) != 0) continue;
            if ((lines[i].unit_price == cancelled->unit_price) != (same_price == 1)) continue;
            int64_t take = wanted < left[i] ? wanted : left[i];
            out[count++] = (jumun_line_cancellation){i, take};
            left[i] -= take;
            wanted -= take;
        }
    }
    *quantity_unmatched = wanted;
    return count;
}

/* The line that an unmatched quantity is sent for: one of that stock code, else one that the order
 * does not have. */
static uint32_t plan_unmatched_line(const struct retail_invoice *sale, const jumun_line *line) {
    for (uint32_t i = 0; i < sale->lines_count; i++) {
        if (strcmp(sale->lines[i].sku, line->sku) == 0) return i;
    }
    return sale->lines_count;
}

/* Cancellations of one line come together: the engine takes each line once. */
static void plan_put_line(struct plan *p, uint32_t first, jumun_line_cancellation c) {
    for (uint32_t i = first; i < p->lines_count; i++) {
        if (p->lines[i].line != c.line) continue;
        p->lines[i].quantity += c.quantity;
        return;
    }
    p->lines[p->lines_count++] = c;
}

static bool plan_cancel_step(struct plan *p, uint32_t order, const struct retail_invoice *cancel,
                             enum plan_origin origin, uint32_t first, bool whole) {
    struct plan_step *s = plan_add(p, cancel->placed_ms, order, JUMUN_CANCEL, origin, cancel);
    if (!s) return false;
    s->lines_first = first;
    s->lines_count = whole ? 0 : p->lines_count - first;
    return true;
}

/* A cancel that names its sale: matched lines, the refund of them, and the rest as it is. */
static bool plan_cancel(struct plan *p, uint32_t order, const struct retail_invoice *cancel) {
    struct plan_order *o = &p->orders[order];
    const struct retail_invoice *sale = o->invoice;
    uint32_t first = p->lines_count, worst = cancel->lines_count * (sale->lines_count + 1);
    if (!plan_room((void **)&p->lines, &p->lines_capacity, first + worst, sizeof *p->lines)) {
        return false;
    }
    jumun_line_cancellation *found = malloc((sale->lines_count + 1) * sizeof *found);
    int64_t *unmatched = calloc(cancel->lines_count + 1, sizeof *unmatched);
    bool done = found && unmatched;
    int64_t amount = 0;
    bool any_unmatched = false;
    for (uint32_t i = 0; done && i < cancel->lines_count; i++) {
        uint32_t count = plan_match_line(sale->lines, sale->lines_count, o->left, &cancel->lines[i],
                                         found, &unmatched[i]);
        for (uint32_t f = 0; f < count; f++) {
            plan_put_line(p, first, found[f]);
            amount += found[f].quantity * sale->lines[found[f].line].unit_price;
        }
        any_unmatched |= unmatched[i] > 0;
        p->lines_unmatched += unmatched[i] > 0;
    }
    if (done && p->lines_count > first) {
        bool whole = true;
        for (uint32_t i = 0; i < sale->lines_count; i++) whole &= o->left[i] == 0;
        done = plan_cancel_step(p, order, cancel, PLAN_CANCEL, first, whole);
        o->cancels++;
        if (whole) o->ended_ms = cancel->placed_ms, p->cancels_whole++;
        else p->cancels_partial++;
        if (done && amount > 0 && o->paid) {
            struct plan_step *s = plan_add(p, cancel->placed_ms, order, JUMUN_REFUND, PLAN_CANCEL,
                                           cancel);
            done = s != NULL;
            if (s) s->amount = amount;
        }
    }
    first = p->lines_count;
    for (uint32_t i = 0; done && any_unmatched && i < cancel->lines_count; i++) {
        if (unmatched[i] <= 0) continue;
        uint32_t line = plan_unmatched_line(sale, &cancel->lines[i]);
        plan_put_line(p, first, (jumun_line_cancellation){line, unmatched[i]});
    }
    if (done && any_unmatched) {
        done = plan_cancel_step(p, order, cancel, PLAN_CANCEL_UNMATCHED, first, false);
    }
    free(found);
    free(unmatched);
    return done;
}

/* The steps of a sale's life; those behind its end are taken out once all cancels are known. */
static bool plan_sale(struct plan *p, uint32_t order) {
    struct plan_order *o = &p->orders[order];
    const struct retail_invoice *sale = o->invoice;
    uint32_t share = plan_share(sale->number);
    bool unpaid = share < PLAN_UNPAID_PER_1000 && sale->total > 0;
    o->rejected = !unpaid && share < PLAN_UNPAID_PER_1000 + PLAN_REJECTED_PER_1000;
    o->paid = !unpaid && sale->total > 0;
    if (!plan_add(p, sale->placed_ms, order, JUMUN_PLACE, PLAN_SALE, sale)) return false;
    if (o->paid) {
        struct plan_step *s = plan_add(p, sale->placed_ms, order, JUMUN_PAY, PLAN_SALE, sale);
        if (!s) return false;
        s->amount = sale->total;
    }
    if (unpaid) return true;
    if (o->rejected) {
        return plan_add(p, sale->placed_ms + PLAN_HOUR_MS, order, JUMUN_REJECT, PLAN_SALE, sale);
    }
    for (size_t i = 0; i < sizeof plan_life / sizeof *plan_life; i++) {
        if (!plan_add(p, sale->placed_ms + plan_life[i].after_ms, order, plan_life[i].kind,
                      PLAN_SALE, sale)) {
            return false;
        }
    }
    return true;
}

/* -- finding the sale of a cancel: open addressing over invoice numbers ------------------------ */

static uint32_t plan_slot(const uint32_t *table, uint32_t mask, const struct plan *p,
                          const char *number) {
    uint64_t h = 0xcbf29ce484222325ULL;
    for (const char *c = number; *c; c++) h = (h ^ (unsigned char)*c) * 0x100000001b3ULL;
    uint32_t slot = (uint32_t)(h ^ h >> 32) & mask;
    while (table[slot] && strcmp(p->orders[table[slot] - 1].invoice->number, number) != 0) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

static bool plan_invoice(struct plan *p, uint32_t *table, uint32_t mask,
                         const struct retail_invoice *invoice, int64_t **left) {
    uint32_t linked = 0;
    if (invoice->kind == RETAIL_CANCEL && invoice->cancels) {
        linked = table[plan_slot(table, mask, p, invoice->cancels)];
    }
    if (linked) {
        p->invoices_by_origin[PLAN_CANCEL]++;
        return plan_cancel(p, linked - 1, invoice);
    }
    uint32_t order = p->orders_count++;
    struct plan_order *o = &p->orders[order];
    *o = (struct plan_order){.invoice = invoice, .left = *left, .ended_ms = INT64_MAX};
    *left += invoice->lines_count;
    for (uint32_t i = 0; i < invoice->lines_count; i++) o->left[i] = invoice->lines[i].quantity;
    static const enum plan_origin origins[] = {PLAN_SALE, PLAN_CANCEL_UNLINKED, PLAN_STOCKFIX,
                                               PLAN_ADJUST};
    enum plan_origin origin = origins[invoice->kind];
    p->invoices_by_origin[origin]++;
    if (origin == PLAN_SALE) {
        table[plan_slot(table, mask, p, invoice->number)] = order + 1;
        return plan_sale(p, order);
    }
    uint8_t kind = origin == PLAN_CANCEL_UNLINKED ? JUMUN_CANCEL : JUMUN_PLACE;
    return plan_add(p, invoice->placed_ms, order, kind, origin, invoice) != NULL;
}

/* qsort() is not stable: among equal times the position in the plan decides. */
struct plan_sorted { int64_t at_ms; uint32_t position; };

static int plan_compare(const void *a, const void *b) {
    const struct plan_sorted *x = a, *y = b;
    if (x->at_ms != y->at_ms) return x->at_ms < y->at_ms ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

/* Whether a step is played: not behind the end of the data, nor behind its order's own end. */
static bool plan_is_played(const struct plan *p, const struct plan_step *s) {
    const struct plan_order *o = &p->orders[s->order];
    if (s->at_ms > p->end_ms) return false;
    bool of_life = s->origin == PLAN_SALE && s->kind != JUMUN_PLACE && s->kind != JUMUN_PAY;
    return !(of_life && s->at_ms >= o->ended_ms);
}

static bool plan_sort(struct plan *p) {
    struct plan_sorted *order = malloc((p->steps_count + 1) * sizeof *order);
    struct plan_step *sorted = malloc((p->steps_count + 1) * sizeof *sorted);
    uint32_t count = 0;
    for (uint32_t i = 0; order && i < p->steps_count; i++) {
        if (plan_is_played(p, &p->steps[i])) {
            order[count++] = (struct plan_sorted){p->steps[i].at_ms, i};
        }
    }
    if (order && sorted) {
        qsort(order, count, sizeof *order, plan_compare);
        for (uint32_t i = 0; i < count; i++) sorted[i] = p->steps[order[i].position];
        free(p->steps);
        p->steps = sorted;
        p->steps_count = p->steps_capacity = count;
    } else {
        free(sorted);
    }
    free(order);
    return order && sorted;
}

bool plan_make(struct plan *p, const struct retail *retail) {
    memset(p, 0, sizeof *p);
    uint32_t mask = 1023;
    uint64_t lines = 1;
    while (mask < retail->count * 2) mask = mask * 2 + 1;
    for (uint32_t i = 0; i < retail->count; i++) {
        lines += retail->invoices[i].lines_count;
        if (retail->invoices[i].placed_ms > p->end_ms) p->end_ms = retail->invoices[i].placed_ms;
    }
    uint32_t *table = calloc((size_t)mask + 1, sizeof *table);
    p->orders = calloc((size_t)retail->count + 1, sizeof *p->orders);
    p->left = calloc(lines, sizeof *p->left);
    int64_t *left = p->left;
    bool done = table && p->orders && p->left;
    for (uint32_t i = 0; done && i < retail->count; i++) {
        done = plan_invoice(p, table, mask, &retail->invoices[i], &left);
    }
    free(table);
    done = done && plan_sort(p);
    if (!done) plan_free(p);
    return done;
}

void plan_free(struct plan *p) {
    free(p->orders);
    free(p->steps);
    free(p->lines);
    free(p->left);
    memset(p, 0, sizeof *p);
}
