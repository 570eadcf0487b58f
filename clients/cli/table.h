/* A table of text cells, aligned for a terminal. Cells are copied. Not thread-safe. */
#ifndef JUMUN_CLI_TABLE_H
#define JUMUN_CLI_TABLE_H

#include <stdbool.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 16 };

struct table;

/* `alignment` has one letter a column: 'l' or 'r'. `color`: whether to use ANSI colours. Aborts
 * without memory, as every function here: these are programs for people, not servers. */
struct table *table_new(const char *alignment, bool color);
void table_delete(struct table *table);

/* Adds cells from left to right; a full row begins the next. The first row is the heading if
 * table_heading() was called. `style` is an ANSI code such as "1;32", or NULL. */
void table_heading(struct table *table);
void table_cell(struct table *table, const char *style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Fills the rest of the row with empty cells. */
void table_row_end(struct table *table);

/* Lets the last column break between words so that no row is wider than `columns`; what follows
 * stands under its beginning. 0 = never (the default). */
void table_wrap(struct table *table, int columns);

/* Writes all rows, each behind `indent` spaces, two spaces between columns, none at line ends. */
void table_print(const struct table *table, FILE *out, int indent);

#endif
