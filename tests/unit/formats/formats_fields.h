/* The tables of docs/formats.md: every field of every struct that is stored, with the offset and
 * the type that the compiler gives it. */
#ifndef JUMUN_TESTS_FORMATS_FIELDS_H
#define JUMUN_TESTS_FORMATS_FIELDS_H

#include <stdio.h>

struct format_field {
    const char *name;
    unsigned offset, bytes;
    const char *type;    /* u8 u16 u32 u64 i64 id text bytes, or the name of another table */
    const char *meaning;
};

struct format_table {
    const char *name;
    unsigned bytes;
    const struct format_field *fields;
    unsigned count;
};

extern const struct format_table format_tables[];
extern const unsigned format_tables_count;

/* NULL = there is none. */
const struct format_table *format_table_find(const char *name);

/* As the rows of a table in markdown. */
void format_table_print(FILE *out, const struct format_table *table);

#endif
