/* The examples of docs/protocol.md, written by real code: every command as a whole request message,
 * and every shape of reply. The page is checked against them, the fuzzers start from them. */
#ifndef JUMUN_TESTS_WIRE_EXAMPLES_H
#define JUMUN_TESTS_WIRE_EXAMPLES_H

#include <stdbool.h>

#include "engine/base/bytes.h"
#include "engine/wire/msgpack_writer.h"

struct wire_example {
    const char *name; /* stands before the hex block of the page */
    void (*write)(struct msgpack_writer *w);
};

extern const struct wire_example wire_examples_requests[];
extern const unsigned wire_examples_requests_count;

extern const struct wire_example wire_examples_replies[];
extern const unsigned wire_examples_replies_count;

/* Birth 2026-01-01 00:00:00 UTC; the random bytes are 1..10. */
extern const struct id128 wire_example_key;
extern const struct id128 wire_example_command_id;

/* [version 1, no deadline, [ and an array of `commands` commands */
void wire_example_open(struct msgpack_writer *w, unsigned commands);

/* One command up to its body: `subject` NULL = the example key. */
void wire_example_command(struct msgpack_writer *w, unsigned fields, unsigned kind,
                          const char *store);

#endif
