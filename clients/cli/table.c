#include "clients/cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/text.h"

struct table_cell {
    char *text;
    const char *style;
    int width;
};

struct table {
    int columns;
    char alignment[TABLE_COLUMNS_MAX + 1];
    bool color, heading;
    struct table_cell *cells;
    size_t count, capacity;
};

static void *table_need(void *memory) {
    if (!memory) {
        fputs("out of memory\n", stderr);
        abort();
    }
    return memory;
}

struct table *table_new(const char *alignment, bool color) {
    struct table *t = table_need(calloc(1, sizeof *t));
    snprintf(t->alignment, sizeof t->alignment, "%s", alignment);
    t->columns = (int)strlen(t->alignment);
    t->color = color;
    return t;
}

void table_delete(struct table *t) {
    if (!t) return;
    for (size_t i = 0; i < t->count; i++) free(t->cells[i].text);
    free(t->cells);
    free(t);
}

void table_heading(struct table *t) { t->heading = true; }

void table_cell(struct table *t, const char *style, const char *format, ...) {
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 64;
        t->cells = table_need(realloc(t->cells, t->capacity * sizeof *t->cells));
    }
    char raw[1024], clean[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    text_printable(clean, sizeof clean, raw, strlen(raw));
    t->cells[t->count++] = (struct table_cell){table_need(strdup(clean)), style, text_width(clean)};
}

void table_row_end(struct table *t) {
    while (t->count % (size_t)t->columns != 0) table_cell(t, NULL, "%s", "");
}

static void table_print_row(const struct table *t, size_t row, const int *widths, FILE *out) {
    const struct table_cell *cells = t->cells + row * (size_t)t->columns;
    bool heading = t->heading && row == 0;
    int gap = 0; /* blanks owed; paid only when something follows, so that no line ends in blanks */
    for (int c = 0; c < t->columns && row * (size_t)t->columns + (size_t)c < t->count; c++) {
        const char *style = heading ? "2" : cells[c].style;
        int pad = widths[c] - cells[c].width;
        if (t->alignment[c] == 'r') gap += pad;
        if (cells[c].width > 0) {
            fprintf(out, "%*s", gap, "");
            gap = 0;
            if (t->color && style) fprintf(out, "\x1b[%sm%s\x1b[0m", style, cells[c].text);
            else fputs(cells[c].text, out);
        }
        if (t->alignment[c] != 'r') gap += pad;
        gap += 2;
    }
    fputc('\n', out);
}

void table_print(const struct table *t, FILE *out, int indent) {
    int widths[TABLE_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < t->count; i++) {
        int c = (int)(i % (size_t)t->columns);
        if (t->cells[i].width > widths[c]) widths[c] = t->cells[i].width;
    }
    size_t rows = (t->count + (size_t)t->columns - 1) / (size_t)t->columns;
    for (size_t row = 0; row < rows; row++) {
        fprintf(out, "%*s", indent, "");
        table_print_row(t, row, widths, out);
    }
}
