/* The invoices of data/online_retail_orders.csv.gz (see data/README.md), or of any CSV with the
 * same columns, read into memory as a whole. */
#ifndef JUMUN_DEMO_RETAIL_H
#define JUMUN_DEMO_RETAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/sdk/jumun.h"

enum retail_kind { RETAIL_SALE, RETAIL_CANCEL, RETAIL_STOCKFIX, RETAIL_ADJUST, RETAIL_KINDS };

struct retail_invoice {
    enum retail_kind kind;
    const char *number, *country;
    const char *customer;        /* NULL = unknown */
    const char *cancels;         /* number of the sale that a cancel undoes; NULL = unknown */
    const jumun_line *lines;     /* cancels and stock fixes have negative quantities */
    uint32_t lines_count;
    int64_t total, placed_ms;
};

struct retail {
    struct retail_invoice *invoices;
    uint32_t count;
    void *blocks;                /* owned: texts and lines of all invoices */
};

/* Reads a file, plain or gzip'd; `invoices_max` 0 = all. False with a sentence that names the line;
 * then nothing has to be freed. */
bool retail_read(struct retail *retail, const char *path, uint32_t invoices_max, char *error,
                 size_t error_bytes);
void retail_free(struct retail *retail);

#endif
