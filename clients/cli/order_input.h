/* Orders as people and files write them, into the library's form.
 *
 * Three ways in: a JSON object, a CSV row under a heading, and single lines from flags. Shape is
 * checked here (types, names, numbers that fit); the rules are the engine's. Every error is a
 * sentence that names the place: "line 3, column 7: ...", "column 7: ..." in text of one line,
 * "lines[2].quantity: ...", "total: ...".
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

struct order_input {
    jumun_place place;         /* points into what follows and into the row or JSON read */
    bool has_key, has_total;
    jumun_key key;
    jumun_line *lines;         /* owned */
    uint32_t lines_capacity;
    msgpack_sbuffer attributes;/* owned */
    json_t *json;              /* owned: keeps the texts alive */
};

void order_input_init(struct order_input *order);
void order_input_fini(struct order_input *order);

/* Resets, then reads. `text` may go away afterwards. */
bool order_input_json(struct order_input *order, const char *text, size_t bytes, char *error,
                      size_t error_bytes);

/* Which CSV column holds which field. */
struct order_columns { int8_t field_of_column[INPUT_FIELDS_MAX]; uint32_t count; };
bool order_columns_read(struct order_columns *columns, char *const *names, uint32_t count,
                        char *error, size_t error_bytes);
/* Resets, then reads; the order's texts are the row's, which is changed. */
bool order_input_csv(struct order_input *order, const struct order_columns *columns, char **fields,
                     uint32_t count, char *error, size_t error_bytes);

/* Adds "sku:quantity:unit_price[:name]"; cuts `spec` in place and keeps pointers into it. */
bool order_input_add_line(struct order_input *order, char *spec, char *error, size_t error_bytes);
/* JSON text into place.attributes. */
bool order_input_attributes(struct order_input *order, const char *text, char *error,
                            size_t error_bytes);
/* Computes the total if it was not given; checks that nothing required is missing. */
bool order_input_finish(struct order_input *order, char *error, size_t error_bytes);

#endif
