/* Writes events as lines of JSON, as CSV, or as msgpack maps one behind the other, whole or only
 * some fields. */
#ifndef JUMUN_REPLAY_EXPORT_WRITE_H
#define JUMUN_REPLAY_EXPORT_WRITE_H

#include <stdio.h>

#include "actors/event.h"

enum export_format { EXPORT_JSONL, EXPORT_CSV, EXPORT_MSGPACK };

struct export_writer;

/* What is told of an event beside what stands in it. */
struct export_context {
    uint32_t shard;
    uint64_t index;
    int64_t time_ms;
    struct bytes store, customer; /* of its order; size 0 = not known */
    bool republished;          /* marked as such */
};

/* `fields`: names separated by commas ("index,action,info.total"); NULL = all (CSV: a choice). NULL
 * with a sentence. `out` is borrowed. */
struct export_writer *export_writer_open(FILE *out, enum export_format format, const char *fields,
                                         char *error, size_t error_bytes);
/* False when it could not be written. */
bool export_write(struct export_writer *writer, const struct export_context *context,
                  const struct event *event);
/* The columns' names stand there already. */
void export_writer_omit_heading(struct export_writer *writer);
void export_writer_close(struct export_writer *writer);

/* Whether a field is asked for that only the order's state knows. */
bool export_writer_needs_orders(const struct export_writer *writer);

#endif
