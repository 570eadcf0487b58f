/* The stored state of one shard as somebody else reads it: snapshots, timers, cursors and marker of
 * a live node's directory or of a copy. Read-only; damage is named row by row and stepped over.
 *
 * Long tables are read in short views, so that the node's pages can be reused: rows of one visit
 * may then be of several moments, unless one view is asked for.
 *
 * One thread. */
#ifndef JUMUN_PERSISTENCE_STATE_SOURCE_H
#define JUMUN_PERSISTENCE_STATE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/bytes.h"

struct state_source;

enum state_source_table { STATE_SOURCE_ORDERS, STATE_SOURCE_STORES, STATE_SOURCE_BOARDS,
                          STATE_SOURCE_TIMERS, STATE_SOURCE_CURSORS,
                          STATE_SOURCE_MESSAGES, /* to other shards, not acknowledged */
                          STATE_SOURCE_CLUSTER /* of the meta group */ };
enum { STATE_SOURCE_CONFIGURATION_BYTES_MAX = 4096 };

/* Up to where every snapshot goes, and whose state it is. */
struct state_source_marker {
    bool found;                /* a state that nothing was ever stored in has none */
    uint32_t shard;
    uint64_t applied_index, applied_term, configuration_index;
    uint32_t configuration_bytes;
    uint8_t configuration[STATE_SOURCE_CONFIGURATION_BYTES_MAX];
};

/* A row; pointers are valid during the visit. */
struct state_source_row {
    const void *key;  uint32_t key_bytes;
    const void *value; uint32_t value_bytes; /* an actor's block, 8-byte aligned; a cursor's value;
                                                a timer's kind of actor */
    uint64_t offset;           /* of the row's value in data.mdb */
    const char *fault;         /* NULL = sound; else what is wrong, and value is NULL */
    bool passing;              /* ... but only memory lacked */
};

/* Opens the environment in `directory` ("DATA/shard-0/state"). NULL with a sentence. */
struct state_source *state_source_open(const char *directory, char *error, size_t error_bytes);
void state_source_close(struct state_source *source);
/* Whether a node has its shard open; true where that cannot be known. */
bool state_source_is_live(const struct state_source *source);
uint64_t state_source_bytes(const struct state_source *source); /* of its file */
const char *state_source_directory(const struct state_source *source);

/* Identity and marker. 0, or -1 with a sentence when one of them is damaged. */
int state_source_read_marker(struct state_source *source, struct state_source_marker *marker,
                             char *error, size_t error_bytes);

/* Visits a table's rows in the order of their keys, damaged ones (and lost pages, as rows without
 * key) too; visit returns false to stop. `one_view`: all rows are of one moment. 0, or -1 with a
 * sentence when there is no such table. */
int state_source_visit(struct state_source *source, enum state_source_table table, bool one_view,
                       bool (*visit)(void *arg, const struct state_source_row *row), void *arg,
                       char *error, size_t error_bytes);

/* Several visits that see the same moment: between the two, views are not renewed. Short! */
void state_source_hold(struct state_source *source);
void state_source_release(struct state_source *source);

/* One actor's block, malloc'ed; NULL when there is none or it is damaged (*fault tells then). */
void *state_source_get(struct state_source *source, enum state_source_table table,
                       const struct id128 *key, uint32_t *bytes, const char **fault);

/* Writes a compact copy of the environment in `from` as it is at one moment to the directory `to`,
 * which exists and is empty. Works beside a live node. 0, or -1 with a sentence. */
int state_source_copy(const char *from, const char *to, char *error, size_t error_bytes);

#endif
