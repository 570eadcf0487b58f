/* An event as msgpack, the same in a history, a feed and the replay tool. docs/protocol.md shows
 * the map and the info of each kind.
 *
 *   {"index", "time_ms", "subject", "version", "action", "state", "cause", "cause_kind", "trace",
 *    "info": {what changed, by name}}
 *
 * Any thread that may read the event. */
#ifndef JUMUN_WIRE_EVENT_ENCODE_H
#define JUMUN_WIRE_EVENT_ENCODE_H

#include "actors/event.h"
#include "engine/wire/msgpack_writer.h"

/* Upper bound of what event_encode() writes. */
size_t event_encode_bytes_max(const struct event *event);

/* Writes one event, which must be well-formed (order_event_is_well_formed and its like), as one
 * map. A kind that this build does not know, or a newer schema of one that it knows, gets an empty
 * info. What does not fit sets writer->overflow. */
void event_encode(struct msgpack_writer *writer, uint64_t index, int64_t time_ms,
                  const struct event *event);

#endif
