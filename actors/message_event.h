/* Payload of MESSAGE_SENT and MESSAGE_SEEN: the transactional outbox and inbox of a shard, as they
 * lie in its log. The subject of both is zero. */
#ifndef JUMUN_ACTORS_MESSAGE_EVENT_H
#define JUMUN_ACTORS_MESSAGE_EVENT_H

#include "actors/event.h"

enum { MESSAGE_EVENT_SCHEMA = 1 };

struct message_event {
    uint64_t sequence;       /* gap-free per (from, to), from 1. 0 = the shard's message to itself:
                                it needs no delivery, so MESSAGE_SEEN stands in the same entry */
    uint32_t peer;           /* MESSAGE_SENT: destination shard; MESSAGE_SEEN: source shard */
    uint32_t payload_bytes;  /* msgpack behind this struct, see actors/store/store.h */
};
static_assert(sizeof(struct message_event) == 16, "message event is frozen");

static inline struct bytes message_event_payload(const struct event *e) {
    const struct message_event *m = event_payload(e);
    return bytes_of(m + 1, m->payload_bytes);
}

/* Whether an event from disk or a peer has this shape. Never aborts. */
static inline bool message_event_is_well_formed(const struct event *e) {
    if (e->schema != MESSAGE_EVENT_SCHEMA) return false;
    if (event_payload_bytes(e) < sizeof(struct message_event)) return false;
    const struct message_event *m = event_payload(e);
    return m->payload_bytes <= event_payload_bytes(e) - sizeof *m;
}

#endif
