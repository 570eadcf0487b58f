/* Bytes with what they mean beside them, for the examples of docs/formats.md. */
#ifndef JUMUN_TESTS_FORMATS_DUMP_H
#define JUMUN_TESTS_FORMATS_DUMP_H

#include <stdint.h>
#include <stdio.h>

#include "actors/actor.h"

/* Walks over `bytes` bytes at `base`; every dump_* writes the next ones and moves on. */
struct dump {
    FILE *out;
    const uint8_t *base; /* borrowed */
    uint32_t bytes, at;
};

void dump_bytes(struct dump *d, uint32_t size, const char *label);
/* The bytes are a text and shown as one; none of it = no line. */
void dump_text(struct dump *d, uint32_t size, const char *label);
/* Little-endian unsigned number with its value. */
void dump_number(struct dump *d, uint32_t size, const char *label);
/* Every field of a table of formats_fields.h; `prefix` stands before the names. */
void dump_table(struct dump *d, const char *table, const char *prefix);
void dump_lines(struct dump *d, uint32_t count);
void dump_parts(struct dump *d, uint32_t count);
void dump_cuts(struct dump *d, uint32_t count);

/* A whole event, its header field by field or as one piece. */
void dump_event(struct dump *d, bool header_by_field);
/* A whole block: order, store or board note. */
void dump_block(struct dump *d);
/* "key" and the bytes of it. */
void dump_key(FILE *out, const void *key, uint32_t size);

/* What stands behind a kind's payload, in words; and the name of the payload's table (NULL = the
 * kind has no payload). */
const char *dump_event_behind(uint8_t kind);
const char *dump_event_table(uint8_t kind);

#endif
