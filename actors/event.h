/* Events: what happened, as it lies in the log, in memory and in the feed. One form everywhere: the
 * bytes that decide writes are the bytes on disk, and apply reads them in place.
 *
 * Layout: little endian, 8-byte aligned, `struct event` followed by the payload of its kind (see
 * order_event.h, store_event.h, cluster_event.h of actors/), padded with zeros to 8 bytes. Texts
 * lie behind the fixed payload; their sizes stand in it. docs/formats.md shows each by example. */
#ifndef JUMUN_ACTORS_EVENT_H
#define JUMUN_ACTORS_EVENT_H

#include <assert.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"

/* X(name, number): frozen; verbs in the past tense. 1..63 orders, 64..79 stores (at the store's own
 * shard), 90..99 between shards, 100..109 the cluster document. 80..89 are reserved: the board
 * (what each shard notes of all stores) changes by MESSAGE_SEEN, and no number of it will ever mean
 * anything else. */
#define EVENT_KINDS(X)         \
    X(ORDER_PLACED, 1)         \
    X(PAYMENT_RECORDED, 2)     \
    X(ORDER_ACCEPTED, 3)       \
    X(ORDER_REJECTED, 4)       \
    X(ORDER_READY, 5)          \
    X(RIDER_ASSIGNED, 6)       \
    X(RIDER_UNASSIGNED, 7)     \
    X(ORDER_PICKED_UP, 8)      \
    X(ORDER_DELIVERED, 9)      \
    X(ORDER_COMPLETED, 10)     \
    X(ORDER_CANCELLED, 11)     \
    X(LINES_CANCELLED, 12)     \
    X(ORDER_REFUNDED, 13)      \
    X(ORDER_AMENDED, 14)       \
    X(ORDER_ANNOTATED, 15)     \
    X(ORDER_EXPIRED, 16)       \
    X(COMMAND_HELD, 17)        \
    X(HELD_COMMAND_RESOLVED, 18) \
    X(HELD_COMMANDS_EXPIRED, 19) \
    X(ORDER_RETIRED, 20)       \
    X(STORE_PAUSED, 64)        \
    X(STORE_RESUMED, 65)       \
    X(MESSAGE_SENT, 90)        \
    X(MESSAGE_SEEN, 91)        \
    X(MESSAGE_ACKNOWLEDGED, 92) \
    X(SHARDS_KNOWN, 93)        \
    X(CLUSTER_CHANGED, 100)

enum event_kind {
#define X(name, number) EVENT_##name = number,
    EVENT_KINDS(X)
#undef X
};

struct event {
    uint32_t bytes;        /* whole event with header and padding; multiple of 8 */
    uint8_t kind;          /* enum event_kind */
    uint8_t schema;        /* version of the kind's payload, from 1 */
    uint8_t state_after;   /* the subject's state once applied: a fact, not a rule */
    uint8_t flags;         /* EVENT_FLAG_* */
    uint32_t version;      /* the subject's version once applied; previous + 1 */
    uint16_t cause_kind;   /* enum command_kind that caused it (TIMER_DUE for a deadline) */
    uint8_t state_before;  /* the subject's state before; 0 = there was none. Set by the runner */
    uint8_t spare;         /* 0 */
    uint64_t prev_index;   /* log index of the subject's previous event, 0 = this is the first */
    struct id128 subject;  /* order key, store_key(id) or cluster_key(); zero between shards */
    struct id128 cause;    /* command id; zero when a deadline caused it */
};
static_assert(sizeof(struct event) == 56, "event header is frozen");

enum {
    EVENT_FLAG_REPUBLISHED = 1,
    EVENT_FLAG_FROM_HELD = 2, /* the cause was held before: its id is remembered already */
    EVENT_FLAG_TRACED = 4     /* the last 16 bytes of the event are the command's trace id */
};

static inline const void *event_payload(const struct event *e) { return e + 1; }
/* Bytes of the payload, its padding included, a trace id behind it not. */
static inline uint32_t event_payload_bytes(const struct event *e) {
    uint32_t behind = e->flags & EVENT_FLAG_TRACED ? (uint32_t)sizeof(struct id128) : 0;
    return e->bytes - (uint32_t)sizeof *e - behind;
}

/* Whether `bytes` holds the header, a trace id if there is one, and whole words; for events that
 * did not come from event_next(), which sees to it. */
static inline bool event_is_whole(const struct event *e) {
    uint32_t behind = e->flags & EVENT_FLAG_TRACED ? (uint32_t)sizeof(struct id128) : 0;
    return e->bytes >= sizeof *e + behind && e->bytes % 8 == 0;
}

/* Zero = none. Most events have none, so it does not stand in the header. */
static inline struct id128 event_trace(const struct event *e) {
    struct id128 trace = {{0}};
    if (e->flags & EVENT_FLAG_TRACED)
        memcpy(&trace, (const uint8_t *)e + e->bytes - sizeof trace, sizeof trace);
    return trace;
}

/* The end of a turn's entry, into which decide writes. The memory is the turn's; nothing is
 * allocated. `mark = sink->size` before and `sink->size = mark` after undoes what was written. */
struct event_sink {
    uint8_t *data;         /* 8-byte aligned; owned by the turn */
    uint32_t size;         /* bytes written; multiple of 8 */
    uint32_t capacity;     /* the turn keeps EVENT_BYTES_MAX free before each decide */
    uint32_t events_count;
};

/* Room for one event with `payload_bytes` behind its header, zeroed and with `bytes`, `kind`,
 * `schema` and, for a `trace` that is neither NULL nor zero, trace and flag set. Never NULL: a lack
 * of room is a broken invariant of the turn. */
struct event *event_sink_add(struct event_sink *sink, uint8_t kind, uint8_t schema,
                             uint32_t payload_bytes, const struct id128 *trace);

/* Walks the events of `size` bytes at `data`. Returns the event at *offset and moves *offset behind
 * it; NULL at the end or when the bytes are not a whole event (then *offset < size). */
const struct event *event_next(const void *data, uint32_t size, uint32_t *offset);

/* "order_placed", ...; "unknown" outside the table. Never NULL. */
const char *event_kind_name(uint32_t kind);

#endif
