#include "clients/cli/order_input.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/names.h"
#include "clients/cli/text.h"
#include "clients/cli/value.h"

/* X(name, type): the fields of an order in a file. */
#define ORDER_FIELDS(X)        \
    X(key, KEY)                \
    X(fulfilment, WORD)        \
    X(payment_timing, WORD)    \
    X(currency, TEXT)          \
    X(store, TEXT)             \
    X(lines, LINES)            \
    X(fees, NUMBER)            \
    X(discounts, NUMBER)       \
    X(total, NUMBER)           \
    X(customer, TEXT)          \
    X(group, TEXT)             \
    X(external_ref, TEXT)      \
    X(attributes, ATTRIBUTES)  \
    X(payment_timeout_ms, NUMBER)    \
    X(acceptance_timeout_ms, NUMBER) \
    X(auto_complete_ms, NUMBER)

enum order_field {
#define X(name, type) FIELD_##name,
    ORDER_FIELDS(X)
#undef X
    FIELDS_COUNT
};

static const char *const order_field_names[] = {
#define X(name, type) #name,
    ORDER_FIELDS(X)
#undef X
};

enum order_field_type { TYPE_KEY, TYPE_WORD, TYPE_TEXT, TYPE_LINES, TYPE_NUMBER, TYPE_ATTRIBUTES };
static const uint8_t order_field_types[] = {
#define X(name, type) TYPE_##type,
    ORDER_FIELDS(X)
#undef X
};

static bool order_bad(struct order_fault *fault, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool order_bad(struct order_fault *fault, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(fault->sentence, sizeof fault->sentence, format, args);
    va_end(args);
    fault->line = fault->column = 0;
    return false;
}

char *order_fault_told(const struct order_fault *fault, const char *name, uint64_t row, char *text,
                       size_t bytes) {
    uint64_t line = fault->line == 0 ? row : (row ? row - 1 : 0) + fault->line;
    int used = snprintf(text, bytes, "%.300s", name);
    if (line) used += snprintf(text + used, bytes - (size_t)used, ": line %" PRIu64, line);
    if (fault->column) {
        used += snprintf(text + used, bytes - (size_t)used, "%s column %u", line ? "," : ":",
                         fault->column);
    }
    snprintf(text + used, bytes - (size_t)used, ": %s", fault->sentence);
    return text;
}

/* Forgets the order and keeps the memory. */
static void order_input_reset(struct order_input *o) {
    json_decref(o->json);
    o->json = NULL;
    o->attributes.size = 0;
    o->has_key = o->has_total = false;
    o->place = (jumun_place){.fulfilment = JUMUN_PICKUP};
}

void order_input_init(struct order_input *o) {
    memset(o, 0, sizeof *o);
    msgpack_sbuffer_init(&o->attributes);
    order_input_reset(o);
}

void order_input_fini(struct order_input *o) {
    json_decref(o->json);
    msgpack_sbuffer_destroy(&o->attributes);
    free(o->lines);
    memset(o, 0, sizeof *o);
}

static jumun_line *order_new_line(struct order_input *o) {
    uint32_t n = o->place.lines_count;
    if (n == o->lines_capacity) {
        uint32_t grown = n ? n * 2 : 64;
        jumun_line *lines = realloc(o->lines, grown * sizeof *lines);
        if (!lines) return NULL;
        o->lines = lines;
        o->lines_capacity = grown;
    }
    o->lines[n] = (jumun_line){0};
    o->place.lines = o->lines;
    o->place.lines_count = n + 1;
    return &o->lines[n];
}

bool order_input_add_line(struct order_input *o, char *spec, struct order_fault *fault) {
    uint32_t i = o->place.lines_count;
    char *quantity = strchr(spec, ':');
    char *price = quantity ? strchr(quantity + 1, ':') : NULL;
    if (!price) {
        return order_bad(fault, "lines[%u]: \"%.80s\" is not sku:quantity:unit_price[:name]",
                         i, spec);
    }
    jumun_line *line = order_new_line(o);
    if (!line) return order_bad(fault, "lines[%u]: no memory", i);
    *quantity++ = 0;
    *price++ = 0;
    char *name = strchr(price, ':');
    if (name) *name++ = 0;
    line->sku = spec;
    line->name = name && *name ? name : NULL;
    if (!*spec) return order_bad(fault, "lines[%u].sku: is empty", i);
    if (!text_parse_int64(quantity, &line->quantity)) {
        return order_bad(fault, "lines[%u].quantity: \"%.40s\" is not a whole number", i,
                         quantity);
    }
    if (!text_parse_int64(price, &line->unit_price)) {
        return order_bad(fault,
                         "lines[%u].unit_price: \"%.40s\" is not a whole number of minor units", i,
                         price);
    }
    return true;
}

static bool order_pack_attributes(struct order_input *o, const json_t *json) {
    msgpack_packer packer;
    o->attributes.size = 0;
    msgpack_packer_init(&packer, &o->attributes, msgpack_sbuffer_write);
    if (!value_from_json(&packer, json)) return false;
    o->place.attributes = o->attributes.data;
    o->place.attributes_bytes = (uint32_t)o->attributes.size;
    return true;
}

bool order_input_attributes(struct order_input *o, const char *text, struct order_fault *fault) {
    json_error_t parse;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &parse);
    if (!json) {
        return order_bad(fault, "attributes: column %d: %s", parse.column, parse.text);
    }
    bool done = order_pack_attributes(o, json);
    json_decref(json);
    return done || order_bad(fault, "attributes: no memory");
}

static bool order_set_text(struct order_input *o, enum order_field field, const char *text) {
    jumun_place *p = &o->place;
    switch (field) {
    case FIELD_currency: p->currency = text; return true;
    case FIELD_store: p->store = text; return true;
    case FIELD_customer: p->customer = text; return true;
    case FIELD_group: p->group = text; return true;
    case FIELD_external_ref: p->external_ref = text; return true;
    default: return false;
    }
}

static bool order_set_number(struct order_input *o, enum order_field field, int64_t n) {
    jumun_place *p = &o->place;
    switch (field) {
    case FIELD_fees: p->fees = n; return true;
    case FIELD_discounts: p->discounts = n; return true;
    case FIELD_total: p->total = n; o->has_total = true; return true;
    case FIELD_payment_timeout_ms: p->payment_timeout_ms = n; return true;
    case FIELD_acceptance_timeout_ms: p->acceptance_timeout_ms = n; return true;
    case FIELD_auto_complete_ms: p->auto_complete_ms = n; return true;
    default: return false;
    }
}

/* Fields that are text in JSON as in CSV. */
static bool order_set_word(struct order_input *o, enum order_field field, const char *text,
                           struct order_fault *fault) {
    if (field == FIELD_key) {
        o->has_key = jumun_key_parse(text, &o->key);
        return o->has_key ||
               order_bad(fault, "key: \"%.40s\" is not a key of 26 characters", text);
    }
    enum names_kind kind = field == FIELD_fulfilment ? NAMES_FULFILMENT : NAMES_TIMING;
    int number = names_parse(kind, text);
    if (number == 0) {
        return order_bad(fault, "%s: \"%.40s\" is not one of %s", order_field_names[field],
                         text, names_all(kind));
    }
    if (field == FIELD_fulfilment) o->place.fulfilment = (jumun_fulfilment)number;
    else o->place.payment_timing = (jumun_payment_timing)number;
    return true;
}

static int order_field_of(const char *name) {
    for (int i = 0; i < FIELDS_COUNT; i++) {
        if (strcmp(name, order_field_names[i]) == 0) return i;
    }
    return -1;
}

bool order_input_finish(struct order_input *o, struct order_fault *fault) {
    jumun_place *p = &o->place;
    if (!p->store || !*p->store) return order_bad(fault, "store: is missing");
    if (!p->currency || !*p->currency) return order_bad(fault, "currency: is missing");
    if (p->lines_count == 0) return order_bad(fault, "lines: an order needs at least one");
    if (o->has_total) return true;
    int64_t sum;
    bool fits = !__builtin_sub_overflow(p->fees, p->discounts, &sum);
    for (uint32_t i = 0; fits && i < p->lines_count; i++) {
        int64_t line;
        fits = !__builtin_mul_overflow(p->lines[i].quantity, p->lines[i].unit_price, &line) &&
               !__builtin_add_overflow(sum, line, &sum);
    }
    if (!fits) return order_bad(fault, "total: the sum of the lines is beyond 64 bits");
    p->total = sum;
    return true;
}

/* -- JSON -------------------------------------------------------------------------------------- */

static bool order_json_line(struct order_input *o, json_t *json, struct order_fault *fault) {
    uint32_t i = o->place.lines_count;
    if (!json_is_object(json)) return order_bad(fault, "lines[%u]: must be an object", i);
    jumun_line *line = order_new_line(o);
    if (!line) return order_bad(fault, "lines[%u]: no memory", i);
    const char *name;
    json_t *v;
    bool quantity = false, price = false;
    json_object_foreach(json, name, v) {
        bool text = strcmp(name, "sku") == 0 || strcmp(name, "name") == 0;
        bool number = strcmp(name, "quantity") == 0 || strcmp(name, "unit_price") == 0;
        if (!text && !number) {
            return order_bad(fault, "lines[%u].%.40s: there is no such field", i, name);
        }
        if (text && !json_is_string(v)) {
            return order_bad(fault, "lines[%u].%s: must be text", i, name);
        }
        if (number && !json_is_integer(v)) {
            return order_bad(fault, "lines[%u].%s: must be a whole number", i, name);
        }
        if (*name == 's') line->sku = json_string_value(v);
        if (*name == 'n') line->name = json_string_value(v);
        if (*name == 'q') line->quantity = json_integer_value(v), quantity = true;
        if (*name == 'u') line->unit_price = json_integer_value(v), price = true;
    }
    const char *missing = !line->sku ? "sku" : !quantity ? "quantity" : !price ? "unit_price"
                                                                            : NULL;
    return !missing || order_bad(fault, "lines[%u].%s: is missing", i, missing);
}

static bool order_json_field(struct order_input *o, enum order_field field, json_t *v,
                             struct order_fault *fault) {
    const char *name = order_field_names[field];
    if (json_is_null(v)) return true;
    switch (order_field_types[field]) {
    case TYPE_KEY:
    case TYPE_WORD:
    case TYPE_TEXT:
        if (!json_is_string(v)) return order_bad(fault, "%s: must be text", name);
        if (order_field_types[field] == TYPE_TEXT) {
            return order_set_text(o, field, json_string_value(v));
        }
        return order_set_word(o, field, json_string_value(v), fault);
    case TYPE_NUMBER:
        if (!json_is_integer(v)) return order_bad(fault, "%s: must be a whole number", name);
        return order_set_number(o, field, json_integer_value(v));
    case TYPE_LINES:
        if (!json_is_array(v)) return order_bad(fault, "lines: must be an array");
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (!order_json_line(o, json_array_get(v, i), fault)) return false;
        }
        return true;
    default:
        return order_pack_attributes(o, v) || order_bad(fault, "attributes: no memory");
    }
}

bool order_input_json(struct order_input *o, const char *text, size_t size,
                      struct order_fault *fault) {
    order_input_reset(o);
    json_error_t parse;
    o->json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &parse);
    if (!o->json) {
        order_bad(fault, "%s", parse.text);
        fault->line = parse.line > 0 ? (uint32_t)parse.line : 0;
        fault->column = parse.column > 0 ? (uint32_t)parse.column : 0;
        return false;
    }
    if (!json_is_object(o->json)) return order_bad(fault, "an order must be an object");
    const char *name;
    json_t *v;
    json_object_foreach(o->json, name, v) {
        int field = order_field_of(name);
        if (field < 0) return order_bad(fault, "%.40s: there is no such field", name);
        if (!order_json_field(o, (enum order_field)field, v, fault)) return false;
    }
    return order_input_finish(o, fault);
}

/* -- CSV --------------------------------------------------------------------------------------- */

bool order_columns_read(struct order_columns *columns, char *const *names, uint32_t count,
                        struct order_fault *fault) {
    bool seen[FIELDS_COUNT] = {false};
    columns->count = count;
    for (uint32_t i = 0; i < count; i++) {
        int field = order_field_of(names[i]);
        if (field < 0 || seen[field]) {
            order_bad(fault, "\"%.40s\" %s", names[i],
                      field < 0 ? "is not a field of an order" : "stands twice");
            fault->column = i + 1;
            return false;
        }
        seen[field] = true;
        columns->field_of_column[i] = (int8_t)field;
    }
    static const uint8_t required[] = {FIELD_currency, FIELD_store, FIELD_lines};
    for (size_t i = 0; i < sizeof required; i++) {
        if (!seen[required[i]]) {
            return order_bad(fault, "the heading has no column \"%s\"",
                             order_field_names[required[i]]);
        }
    }
    return true;
}

static bool order_csv_field(struct order_input *o, enum order_field field, char *text,
                            struct order_fault *fault) {
    int64_t n;
    switch (order_field_types[field]) {
    case TYPE_KEY:
    case TYPE_WORD: return order_set_word(o, field, text, fault);
    case TYPE_TEXT: return order_set_text(o, field, text);
    case TYPE_NUMBER:
        if (!text_parse_int64(text, &n)) {
            return order_bad(fault, "%s: \"%.40s\" is not a whole number",
                             order_field_names[field], text);
        }
        return order_set_number(o, field, n);
    case TYPE_LINES:
        for (char *next; text; text = next) {
            next = strchr(text, ';');
            if (next) *next++ = 0;
            if (!order_input_add_line(o, text, fault)) return false;
        }
        return true;
    default: return order_input_attributes(o, text, fault);
    }
}

bool order_input_csv(struct order_input *o, const struct order_columns *columns, char **fields,
                     uint32_t count, struct order_fault *fault) {
    order_input_reset(o);
    if (count != columns->count) {
        return order_bad(fault, "the row has %u fields, the heading has %u", count,
                         columns->count);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!*fields[i]) continue;
        enum order_field field = (enum order_field)columns->field_of_column[i];
        if (!order_csv_field(o, field, fields[i], fault)) return false;
    }
    return order_input_finish(o, fault);
}
