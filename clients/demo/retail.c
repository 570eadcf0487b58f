#include "clients/demo/retail.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/input.h"
#include "clients/cli/text.h"

enum { RETAIL_BLOCK_BYTES = 1 << 20 };

#define RETAIL_COLUMNS(X) X(order_id) X(customer_id) X(country) X(kind) X(items) X(total_cents) \
    X(placed_ms) X(cancels_order_id)

enum retail_column {
#define X(name) COLUMN_##name,
    RETAIL_COLUMNS(X)
#undef X
    COLUMNS_COUNT
};

static const char *const retail_column_names[] = {
#define X(name) #name,
    RETAIL_COLUMNS(X)
#undef X
};

/* Blocks are never moved: invoices point into them. */
struct retail_block {
    struct retail_block *next;
    size_t used, capacity;
    _Alignas(16) char bytes[];
};

static void *retail_keep(struct retail *r, const void *data, size_t size) {
    struct retail_block *b = r->blocks;
    size_t rounded = (size + 15) & ~(size_t)15;
    if (!b || b->capacity - b->used < rounded) {
        size_t capacity = rounded > RETAIL_BLOCK_BYTES ? rounded : RETAIL_BLOCK_BYTES;
        struct retail_block *fresh = malloc(sizeof *fresh + capacity);
        if (!fresh) return NULL;
        *fresh = (struct retail_block){.next = b, .capacity = capacity};
        r->blocks = b = fresh;
    }
    void *kept = b->bytes + b->used;
    if (data) memcpy(kept, data, size);
    else memset(kept, 0, size);
    b->used += rounded;
    return kept;
}

static const char *retail_text(struct retail *r, const char *text) {
    return *text ? retail_keep(r, text, strlen(text) + 1) : NULL;
}

void retail_free(struct retail *r) {
    for (struct retail_block *b = r->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(r->invoices);
    memset(r, 0, sizeof *r);
}

static const char *retail_kind_name(enum retail_kind kind) {
    static const char *const names[] = {"sale", "cancel", "stockfix", "adjust"};
    return kind < RETAIL_KINDS ? names[kind] : "?";
}

static bool retail_find_columns(const struct input *in, int columns[COLUMNS_COUNT], char *error,
                                size_t bytes) {
    for (int c = 0; c < COLUMNS_COUNT; c++) {
        columns[c] = -1;
        for (uint32_t i = 0; i < in->fields_count; i++) {
            if (strcmp(in->fields[i], retail_column_names[c]) == 0) columns[c] = (int)i;
        }
        if (columns[c] >= 0) continue;
        snprintf(error, bytes, "%s: line 1: the heading has no column \"%s\"", in->name,
                 retail_column_names[c]);
        return false;
    }
    return true;
}

/* stockcode:quantity:price, joined by ';'. NULL or what is wrong. */
static const char *retail_lines(struct retail *r, struct retail_invoice *invoice, char *items) {
    uint32_t count = *items ? 1 : 0;
    for (const char *at = items; (at = strchr(at, ';')); at++) count++;
    char *text = retail_keep(r, items, strlen(items) + 1);
    jumun_line *lines = retail_keep(r, NULL, (count + 1) * sizeof *lines);
    if (!text || !lines) return "no memory";
    invoice->lines = lines;
    invoice->lines_count = count;
    for (uint32_t i = 0; i < count; i++) {
        char *next = strchr(text, ';');
        if (next) *next++ = 0;
        /* Stock codes hold no colon today; the numbers are the last two in any case. */
        char *price = strrchr(text, ':');
        if (price) *price++ = 0;
        char *quantity = price ? strrchr(text, ':') : NULL;
        if (quantity) *quantity++ = 0;
        if (!quantity || !*text || !text_parse_int64(quantity, &lines[i].quantity) ||
            !text_parse_int64(price, &lines[i].unit_price)) {
            return "an item is not stockcode:quantity:price";
        }
        lines[i].sku = text;
        text = next;
    }
    return NULL;
}

static const char *retail_row(struct retail *r, const struct input *in, const int *columns,
                              struct retail_invoice *invoice) {
    char *fields[COLUMNS_COUNT];
    for (int c = 0; c < COLUMNS_COUNT; c++) {
        if ((uint32_t)columns[c] >= in->fields_count) return "the row has too few fields";
        fields[c] = in->fields[columns[c]];
    }
    *invoice = (struct retail_invoice){.kind = RETAIL_KINDS};
    for (int k = 0; k < RETAIL_KINDS; k++) {
        if (strcmp(fields[COLUMN_kind], retail_kind_name(k)) == 0) invoice->kind = k;
    }
    if (invoice->kind == RETAIL_KINDS) return "the kind is not sale, cancel, stockfix or adjust";
    if (!*fields[COLUMN_order_id]) return "the invoice has no number";
    if (!text_parse_int64(fields[COLUMN_total_cents], &invoice->total)) {
        return "total_cents is not a whole number";
    }
    if (!text_parse_int64(fields[COLUMN_placed_ms], &invoice->placed_ms)) {
        return "placed_ms is not a whole number";
    }
    invoice->number = retail_text(r, fields[COLUMN_order_id]);
    invoice->customer = retail_text(r, fields[COLUMN_customer_id]);
    invoice->country = retail_text(r, fields[COLUMN_country]);
    invoice->cancels = retail_text(r, fields[COLUMN_cancels_order_id]);
    if (!invoice->country) invoice->country = "Unspecified";
    if (!invoice->number) return "no memory";
    return retail_lines(r, invoice, fields[COLUMN_items]);
}

static bool retail_rows(struct retail *r, struct input *in, uint32_t max, char *error,
                        size_t bytes) {
    int columns[COLUMNS_COUNT];
    uint32_t capacity = 0;
    enum input_result got = input_csv_row(in, error, bytes);
    if (got == INPUT_END) snprintf(error, bytes, "%s: is empty", in->name);
    if (got != INPUT_ROW || !retail_find_columns(in, columns, error, bytes)) return false;
    while ((max == 0 || r->count < max) && (got = input_csv_row(in, error, bytes)) == INPUT_ROW) {
        if (r->count == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            void *grown = realloc(r->invoices, capacity * sizeof *r->invoices);
            if (!grown) {
                snprintf(error, bytes, "%s: no memory", in->name);
                return false;
            }
            r->invoices = grown;
        }
        const char *why = retail_row(r, in, columns, &r->invoices[r->count]);
        if (why) {
            snprintf(error, bytes, "%s: line %" PRIu64 ": %s", in->name, in->line, why);
            return false;
        }
        r->count++;
    }
    return got != INPUT_BAD;
}

bool retail_read(struct retail *r, const char *path, uint32_t max, char *error, size_t bytes) {
    struct input in;
    memset(r, 0, sizeof *r);
    if (!input_open(&in, path, error, bytes)) return false;
    bool read = retail_rows(r, &in, max, error, bytes);
    input_close(&in);
    if (!read) retail_free(r);
    return read;
}
