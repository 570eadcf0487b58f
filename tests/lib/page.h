/* Keeps pages of docs/ true: their marked blocks are written by code, and a test compares.
 *
 * A block is opened by a line that starts with its kind's `opening`, followed by a name (a " -->"
 * behind the name is no part of it), and ends before the next line that starts with `closing`. */
#ifndef JUMUN_TESTS_PAGE_H
#define JUMUN_TESTS_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct page_block {
    const char *opening, *closing;
    /* Writes the lines inside of the block; false = no such name, nothing was written. */
    bool (*write)(FILE *out, const char *name);
};

/* The page with every block filled anew; malloc'ed. NULL, with a sentence in error, when a block
 * names nothing or has no end. */
char *page_fill(const char *page, const struct page_block *blocks, size_t blocks_count,
                char *error, size_t error_bytes);

/* A whole file as a NUL-terminated text; malloc'ed, NULL = cannot be read. */
char *page_read(const char *path);

/* Reads `path`, fills it and prints it to stdout. The exit status of a program that does that. */
int page_print_filled(const char *path, char *(*fill)(const char *page, char *error,
                                                      size_t error_bytes));

/* Bytes in hex with spaces between them, `columns` in a line. */
void page_print_hex(FILE *out, const void *bytes, size_t size, size_t columns);

#endif
