/* Requests to the feed and its answers (engine/wire/feed_protocol.h), from untrusted bytes. Nothing
 * allocates; any thread. */
#ifndef JUMUN_WIRE_FEED_DECODE_H
#define JUMUN_WIRE_FEED_DECODE_H

#include "actors/result_codes.h"
#include "engine/base/bytes.h"
#include "engine/limits.h"
#include "engine/wire/feed_protocol.h"

struct feed_request {
    uint16_t kind;             /* enum feed_kind */
    uint8_t form;              /* PULL: enum feed_form */
    bool filtered;             /* PULL: only `kinds` */
    uint32_t shard;            /* UINT32_MAX = nil (SNAPSHOT_BEGIN at a replica) */
    uint32_t wait_ms, bytes_max;
    uint64_t from;             /* PULL: 1 or more */
    int64_t time_ms;           /* LOCATE */
    uint64_t snapshot, offset; /* SNAPSHOT_* */
    uint64_t kinds[4];         /* bit = event kind */
};

/* RESULT_OK, or the code to refuse it with. */
enum result_code feed_request_decode(const void *message, size_t size,
                                     struct feed_request *request);

/* What is wrong with a request that was refused with `code`, and what is allowed: a sentence, never
 * NULL. */
const char *feed_request_fault(const void *message, size_t size, enum result_code code);

static inline bool feed_request_wants(const struct feed_request *r, uint8_t kind) {
    return !r->filtered || r->kinds[kind / 64] >> kind % 64 & 1;
}

/* Whether a message is a request to the feed: for an endpoint that takes queries as well. */
bool feed_request_is_one(const void *message, size_t size);

struct feed_reply {
    uint16_t code;             /* enum result_code */
    struct bytes sentence;     /* when refused */
    uint64_t detail;           /* when refused */
    uint32_t shard;            /* PULL, LOCATE */
    uint64_t from, next, commit; /* PULL; LOCATE: next = the index; REPUBLISHED: from = number */
    int64_t now_ms;            /* PULL */
    struct bytes records;      /* PULL of FEED_RECORDS; SNAPSHOT_CHUNK */
    uint64_t snapshot, bytes;  /* SNAPSHOT_BEGIN */
    uint64_t offset, checksum; /* SNAPSHOT_CHUNK */
    struct bytes times;        /* PULL: see feed_times_next(); msgpack; size 0 = none */
    struct bytes cluster;      /* PULL, LOCATE, SNAPSHOT_BEGIN, refusals: the id of whose it is;
                                  size 0 = not told */
    struct bytes rest;         /* HELLO: the map; SNAPSHOT_BEGIN: the tokens; PULL of other forms:
                                  the payload. msgpack, not looked at */
};

/* Reads the answer to a request of this kind and form. False when it is not one. Views point into
 * the message. */
bool feed_reply_decode(const void *message, size_t size, enum feed_kind kind, enum feed_form form,
                       struct feed_reply *reply);

/* Whether an answer may be from that cluster: it says so, or does not say. A connection that was
 * dialled anew can end at somebody else, so each answer is looked at. "" = any cluster. */
bool feed_reply_is_of(const struct feed_reply *reply, const char *cluster_id);

/* When entries became committed, out of a reply's `times`, one moment after the other: all up to
 * `last` that the one before did not have, at `ms` (by the node's clock; 0 = not known). False:
 * there are no more, or they are malformed. Begin with {.rest = p.times, .now_ms = p.now_ms}. */
struct feed_times { struct bytes rest; uint32_t pairs_left; bool begun; int64_t now_ms; };
bool feed_times_next(struct feed_times *times, uint64_t *last, int64_t *ms);

struct feed_hello_shard { uint32_t shard; uint64_t first, commit; };
struct feed_hello {
    char cluster_id[CLUSTER_ID_BYTES];
    uint64_t node_id;
    uint32_t shards_count;     /* that the newest orders are spread over */
    struct bytes notify;
    struct bytes active;       /* SHARDS_MAX bits; size 0 = not told */
    struct feed_hello_shard *shards; /* the caller's, `shards_max` of them */
    uint32_t shards_held, shards_max;
};

/* An address that the one at `asked` has told, into ENDPOINT_BYTES_MAX: the host that was asked
 * stands for one that is none ("0.0.0.0"). */
void feed_address(const char *asked, struct bytes told, char *out);

/* Where the feed of a node is, out of the answer to a SHARD_MAP alone in its request: told by the
 * node whose address `asked` is, whose host stands for one that is none ("0.0.0.0"). False when
 * the answer tells of no feed. `feed` has ENDPOINT_BYTES_MAX. */
bool feed_endpoint_decode(const void *message, size_t size, const char *asked, char *feed);

/* Reads a HELLO's map; shards beyond shards_max are left out. False when it is not one. */
bool feed_hello_decode(struct bytes map, struct feed_hello *hello);

#endif
