/* Keeps docs/protocol.md true: its example blocks are written by real code.
 *
 * A block that starts with "```hex NAME" or "```text NAME" is filled with the example NAME, as
 * bytes or in a notation for people. */
#ifndef JUMUN_TESTS_WIRE_PAGE_H
#define JUMUN_TESTS_WIRE_PAGE_H

#include <stddef.h>

#include "tests/unit/wire/wire_examples.h"

/* The example of that name, request or reply; NULL = there is none. */
const struct wire_example *wire_page_example(const char *name, size_t size);

/* The page with every example block filled anew; malloc'ed. NULL, with a sentence in error, when a
 * block names no example or has no end. */
char *wire_page_fill(const char *page, char *error, size_t error_bytes);

#endif
