/* Orders as people and files write them, into the library's form.
 *
 * Three ways in: a JSON object, a CSV row under a heading, and single lines from flags. Shape is
 * checked here (types, names, numbers that fit); the rules are the engine's.
 *
 * JSON and CSV have the same fields:
 *   key, fulfilment, payment_timing, currency, store, lines, fees, discounts, total, customer,
 *   group, external_ref, attributes, payment_timeout_ms, acceptance_timeout_ms, auto_complete_ms
 * `currency`, `store` and `lines` are required; `total` is computed when it is absent; fulfilment
 * defaults to "pickup". In JSON, lines = [{"sku", "quantity", "unit_price", "name"?}, ...]; in CSV
 * they are one field, sku:quantity:unit_price[:name] joined by ';', and attributes is JSON text. */
#ifndef JUMUN_CLI_ORDER_INPUT_H
#define JUMUN_CLI_ORDER_INPUT_H

#include <jansson.h>
#include <msgpack.h>

#include "clients/cli/input.h"
#include "clients/sdk/jumun.h"

/* Why an order cannot be read. */
struct order_fault {
    uint32_t line, column;     /* of the text or the heading, from 1 on; 0 = not one place in it */
    char sentence[256];        /* names the field: "lines[2].quantity: ...", "total: ..." */
};
/* "orders.jsonl: line 3, column 7: sentence"; `row` is the line in which the order's text begins,
 * 0 where that is nothing to be told. Returns `text`. */
char *order_fault_told(const struct order_fault *fault, const char *name, uint64_t row, char *text,
                       size_t bytes);

struct order_input {
    jumun_place place;         /* points into what follows and into the row or JSON read */
    bool has_key, has_total;
    jumun_key key;
    jumun_line *lines;         /* owned */
    uint32_t lines_capacity;
    msgpack_sbuffer attributes;/* owned */
    json_t *json;              /* owned: keeps the texts alive */
};

/* The readers below return false with a fault. */
void order_input_init(struct order_input *order);
void order_input_fini(struct order_input *order);

/* Resets, then reads. `text` may go away afterwards. */
bool order_input_json(struct order_input *order, const char *text, size_t bytes,
                      struct order_fault *fault);

/* Which CSV column holds which field. */
struct order_columns { int8_t field_of_column[INPUT_FIELDS_MAX]; uint32_t count; };
bool order_columns_read(struct order_columns *columns, char *const *names, uint32_t count,
                        struct order_fault *fault);
/* Resets, then reads; the order's texts are the row's, which is changed. */
bool order_input_csv(struct order_input *order, const struct order_columns *columns, char **fields,
                     uint32_t count, struct order_fault *fault);

/* Adds "sku:quantity:unit_price[:name]"; cuts `spec` in place and keeps pointers into it. */
bool order_input_add_line(struct order_input *order, char *spec, struct order_fault *fault);
/* JSON text into place.attributes. */
bool order_input_attributes(struct order_input *order, const char *text, struct order_fault *fault);
/* Computes the total if it was not given; checks that nothing required is missing. */
bool order_input_finish(struct order_input *order, struct order_fault *fault);

#endif
