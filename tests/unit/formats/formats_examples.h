/* Fills the blocks of docs/formats.md: tables of fields, tables of kinds, examples in hex. */
#ifndef JUMUN_TESTS_FORMATS_EXAMPLES_H
#define JUMUN_TESTS_FORMATS_EXAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct formats_example {
    const char *name;
    void (*write)(FILE *out);
};
extern const struct formats_example formats_examples[]; /* besides the events, which have the names
                                                           of their kinds */
extern const unsigned formats_examples_count;

/* The page with every block filled anew; see tests/lib/page.h. */
char *formats_fill(const char *page, char *error, size_t error_bytes);

#endif
