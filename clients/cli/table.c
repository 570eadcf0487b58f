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
    int wrap;
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

void table_wrap(struct table *t, int columns) { t->wrap = columns; }

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

/* Text from column `at` on, broken between words when it would pass t->wrap. */
static void table_print_wrapped(const struct table *t, const char *text, int at, FILE *out) {
    enum { NARROWEST = 24 }; /* a column below this would be a ladder of single words */
    int edge = t->wrap - at < NARROWEST ? 4 : at, column = at;
    bool first = true; /* of its line: no blank before it */
    for (; *text; first = false) {
        size_t size = strcspn(text, " ");
        char word[1024];
        snprintf(word, sizeof word, "%.*s", (int)size, text);
        int width = text_width(word);
        if (!first && column + 1 + width > t->wrap) {
            fprintf(out, "\n%*s", edge, "");
            column = edge;
            first = true;
        }
        column += fprintf(out, "%s", first ? "" : " ") + width;
        fputs(word, out);
        text += size;
        text += *text == ' ';
    }
}

/* `at` is the column that the row begins in. */
static void table_print_row(const struct table *t, size_t row, const int *widths, int at,
                            FILE *out) {
    const struct table_cell *cells = t->cells + row * (size_t)t->columns;
    bool heading = t->heading && row == 0;
    int gap = 0; /* blanks owed; paid only when something follows, so that no line ends in blanks */
    for (int c = 0; c < t->columns && row * (size_t)t->columns + (size_t)c < t->count; c++) {
        const char *style = t->color ? (heading ? "2" : cells[c].style) : NULL;
        int pad = widths[c] - cells[c].width;
        if (t->alignment[c] == 'r') gap += pad;
        if (cells[c].width > 0) {
            fprintf(out, "%*s", gap, "");
            at += gap;
            gap = 0;
            if (style) fprintf(out, "\x1b[%sm", style);
            if (t->wrap && c == t->columns - 1) table_print_wrapped(t, cells[c].text, at, out);
            else fputs(cells[c].text, out);
            if (style) fputs("\x1b[0m", out);
            at += cells[c].width;
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
        table_print_row(t, row, widths, indent, out);
    }
}
