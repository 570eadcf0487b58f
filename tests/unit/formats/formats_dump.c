#include "tests/unit/formats/formats_dump.h"

#include <inttypes.h>
#include <string.h>

#include "actors/order/order_lines.h"
#include "engine/base/check.h"
#include "tests/unit/formats/formats_fields.h"

enum { DUMP_COLUMNS = 16, DUMP_LABEL_COLUMN = 32 };

static void dump_row(FILE *out, uint32_t at, const uint8_t *bytes, uint32_t size,
                     const char *label) {
    int column = fprintf(out, "%04x ", at);
    for (uint32_t i = 0; i < size; i++) column += fprintf(out, " %02x", bytes[i]);
    if (label[0] != '\0') {
        int gap = DUMP_LABEL_COLUMN - column;
        fprintf(out, "%*s%s", gap > 2 ? gap : 2, "", label);
    }
    fputc('\n', out);
}

void dump_bytes(struct dump *d, uint32_t size, const char *label) {
    require(d->at + size <= d->bytes);
    for (uint32_t i = 0; i < size; i += DUMP_COLUMNS) {
        uint32_t row = size - i < DUMP_COLUMNS ? size - i : DUMP_COLUMNS;
        dump_row(d->out, d->at + i, d->base + d->at + i, row, i == 0 ? label : "");
    }
    d->at += size;
}

void dump_text(struct dump *d, uint32_t size, const char *label) {
    char line[200];
    snprintf(line, sizeof line, "%s \"%.*s\"", label, (int)size, (const char *)d->base + d->at);
    dump_bytes(d, size, line);
}

static uint64_t dump_value(const struct dump *d, uint32_t size) {
    uint64_t value = 0;
    memcpy(&value, d->base + d->at, size);
    return value;
}

void dump_number(struct dump *d, uint32_t size, const char *label) {
    char line[100];
    snprintf(line, sizeof line, "%s %" PRIu64, label, dump_value(d, size));
    dump_bytes(d, size, line);
}

void dump_table(struct dump *d, const char *table, const char *prefix) {
    const struct format_table *t = format_table_find(table);
    require(t != NULL);
    for (unsigned i = 0; i < t->count; i++) {
        const struct format_field *f = &t->fields[i];
        char name[100];
        snprintf(name, sizeof name, "%s%s", prefix, f->name);
        if (format_table_find(f->type) != NULL) {
            snprintf(name, sizeof name, "%s%s.", prefix, f->name);
            dump_table(d, f->type, name);
        } else if (strcmp(f->type, "text") == 0) {
            dump_text(d, f->bytes, name);
        } else if (strcmp(f->type, "id") == 0 || strcmp(f->type, "bytes") == 0 ||
                   strcmp(f->type, "u64 list") == 0 ||
                   strcmp(f->name, "checksum") == 0 || strcmp(f->name, "spare") == 0) {
            dump_bytes(d, f->bytes, name);
        } else {
            dump_number(d, f->bytes, name);
        }
    }
}

void dump_lines(struct dump *d, uint32_t count) {
    char label[100];
    for (uint32_t i = 0; i < count; i++) {
        struct order_line_read line = order_line_get(d->base + d->at);
        uint32_t q = 1u << line.quantity_width, end = d->at + line.bytes;
        snprintf(label, sizeof label, "line %u: tag, widths of quantity and price", i);
        dump_bytes(d, 1, label);
        dump_number(d, q, "  quantity");
        dump_number(d, q, "  cancelled");
        dump_number(d, 1u << (d->base[end - line.bytes] >> 2 & 3), "  unit price");
        dump_bytes(d, 2, "  bytes of sku and name");
        dump_text(d, line.sku_bytes, "  sku");
        dump_text(d, line.name_bytes, "  name");
        require(d->at == end);
    }
}

void dump_parts(struct dump *d, uint32_t count) {
    char label[100];
    for (uint32_t i = 0; i < count; i++) {
        struct order_part_read part = order_part_get(d->base + d->at);
        uint32_t width = 1u << (d->base[d->at] >> 3 & 3), end = d->at + part.bytes;
        snprintf(label, sizeof label, "part %u: tag, state %u and width of the amount", i,
                 part.state);
        dump_bytes(d, 1, label);
        dump_number(d, width, "  amount");
        dump_bytes(d, 2, "  bytes of method and reference");
        dump_text(d, part.method_bytes, "  method");
        dump_text(d, part.reference_bytes, "  reference");
        require(d->at == end);
    }
}

void dump_cuts(struct dump *d, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        dump_number(d, 4, "cut: line");
        dump_number(d, 4, "  quantity");
    }
}

void dump_key(FILE *out, const void *key, uint32_t size) {
    const uint8_t *bytes = key;
    fputs("key  ", out);
    for (uint32_t i = 0; i < size; i++) fprintf(out, " %02x", bytes[i]);
    fputc('\n', out);
}
