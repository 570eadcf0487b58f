/* One record of the log: what raft calls an entry, as it lies on disk, in memory and on the way to
 * a follower. Little endian. The checksum covers everything behind itself, so a record that was
 * swapped, cut, or written to another index is found, named, and never applied.
 *
 * Records are reference counted: the turn that made one, the log writer and (in a cluster) senders
 * hold it. The count is atomic; the bytes are written before the record is shared and never after,
 * with one exception: the log writer fills `checksum`, which nobody else reads before the record is
 * durable. */
#ifndef JUMUN_PERSISTENCE_RECORD_H
#define JUMUN_PERSISTENCE_RECORD_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/bytes.h"

enum record_type {
    RECORD_EVENTS = 1,         /* RAFT_COMMAND: payload = entry_header and events */
    RECORD_BARRIER = 2,        /* RAFT_BARRIER: an election's no-op; payload opaque */
    RECORD_CONFIGURATION = 3   /* RAFT_CHANGE: payload = raft's encoded configuration */
};

/* On disk: the value of key `index` in a segment. */
struct record_header {
    uint64_t checksum;         /* XXH3-64 of all bytes of the record behind this field */
    uint64_t index;
    uint64_t term;
    uint32_t payload_bytes;
    uint16_t type;             /* enum record_type */
    uint16_t format;           /* RECORD_FORMAT */
};
static_assert(sizeof(struct record_header) == 32, "record header is frozen");
enum { RECORD_FORMAT = 1 };

/* First bytes of a RECORD_EVENTS payload; the events follow (actors/event.h). */
struct entry_header {
    int64_t time_ms;           /* the leader's clock when the turn was decided */
    uint32_t shard;
    uint32_t events_count;
};
static_assert(sizeof(struct entry_header) == 16, "entry header is frozen");

struct record {
    struct record *next;       /* for whoever queues it */
    atomic_uint refs;
    uint32_t capacity;         /* payload bytes that fit */
    struct record_header header;
    uint8_t payload[];         /* 8-byte aligned */
};

/* A record with room for `capacity` payload bytes and one reference; NULL without memory. */
struct record *record_new(uint32_t capacity);
static inline void record_hold(struct record *r) {
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
}
void record_release(struct record *r);

/* Fills header.checksum over header and payload. */
void record_seal(struct record_header *header, const void *payload);

/* What is wrong with a stored record of `bytes` bytes that should be `index`: NULL if nothing,
 * else a sentence ("checksum does not match", "holds index 7", "cut short", ...). */
const char *record_fault(const void *data, size_t bytes, uint64_t index);

#endif
