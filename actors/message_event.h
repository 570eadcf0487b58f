/* Payload of MESSAGE_SENT, MESSAGE_SEEN and MESSAGE_ACKNOWLEDGED: the transactional outbox and
 * inbox of a shard, as they lie in its log; and of SHARDS_KNOWN: who there is to talk to. The
 * subject of all is zero.
 *
 * An acknowledgement is not worth an entry: the leader notes now and then, in an entry that is made
 * anyway, how far it has come, so that replicas do not keep (and a new leader does not send again)
 * what has arrived long ago. */
#ifndef JUMUN_ACTORS_MESSAGE_EVENT_H
#define JUMUN_ACTORS_MESSAGE_EVENT_H

#include "actors/actor.h"
#include "engine/limits.h"

enum { MESSAGE_EVENT_SCHEMA = 1 };

struct message_event {
    uint64_t sequence;       /* gap-free per (from, to), from 1. 0 = the shard's message to itself:
                                it needs no delivery, so MESSAGE_SEEN stands in the same entry */
    uint32_t peer;           /* MESSAGE_SEEN: source shard; else the destination */
    uint32_t payload_bytes;  /* msgpack behind this struct, see actors/store/store.h;
                                MESSAGE_ACKNOWLEDGED: 0 */
};
static_assert(sizeof(struct message_event) == 16, "message event is frozen");

/* SHARDS_KNOWN: what the shard goes by from here on, told by the cluster document. It is logged so
 * that a replica, a restart and a later leader go by the same, wherever in the log they are. */
struct shards_known {
    uint64_t version;        /* of the document: cluster_view_version() */
    int64_t joined_ms;       /* begin of the first epoch of the newest run of epochs that have this
                                shard; 0 = it was there from the beginning */
    uint32_t stores_shards;  /* stores are spread over so many shards */
    uint32_t first_shards;   /* ... and as far as this shard knows were so until now; 0 = it is
                                newer than they are */
    uint8_t active[32];      /* bit n: shard n runs */
};
static_assert(sizeof(struct shards_known) == 56, "shards_known is frozen");

static inline bool shards_known_is_well_formed(const struct event *e) {
    const struct shards_known *k = event_payload(e);
    return e->schema == MESSAGE_EVENT_SCHEMA && event_payload_bytes(e) == sizeof *k &&
           k->version >= 1 && k->version <= INT64_MAX && k->joined_ms >= 0 &&
           k->stores_shards >= 1 && k->stores_shards <= SHARDS_MAX && k->first_shards <= SHARDS_MAX;
}

static inline struct bytes message_event_payload(const struct event *e) {
    const struct message_event *m = event_payload(e);
    return bytes_of(m + 1, m->payload_bytes);
}

/* One message of the outbox, stored in the state as if it were an actor (ACTOR_MESSAGE): whoever
 * starts from a stored state has no log in front of it to read it from. */
struct stored_message {
    struct actor actor;      /* last_index: the entry that holds it; version 1; key: see below */
    uint64_t sequence;
    uint32_t peer;           /* destination shard */
    uint32_t payload_bytes;  /* behind this struct */
};
static_assert(sizeof(struct stored_message) == 64, "stored message is frozen");

/* Bytes 0..3 peer, 4..11 sequence, both big endian, 12..15 zero: they lie in order. */
static inline struct id128 stored_message_key(uint32_t peer, uint64_t sequence) {
    struct id128 key = {{0}};
    for (int i = 0; i < 4; i++) key.bytes[i] = (uint8_t)(peer >> (24 - 8 * i));
    for (int i = 0; i < 8; i++) key.bytes[4 + i] = (uint8_t)(sequence >> (56 - 8 * i));
    return key;
}

static inline void stored_message_of_key(const struct id128 *key, uint32_t *peer,
                                         uint64_t *sequence) {
    *peer = 0;
    *sequence = 0;
    for (int i = 0; i < 4; i++) *peer = *peer << 8 | key->bytes[i];
    for (int i = 4; i < 12; i++) *sequence = *sequence << 8 | key->bytes[i];
}

/* Whether a block from disk has this shape. Never aborts. */
static inline bool stored_message_is_well_formed(const void *block, uint32_t bytes) {
    const struct stored_message *m = block;
    if (bytes < sizeof *m || m->actor.bytes != bytes) return false;
    if (m->actor.kind != ACTOR_MESSAGE) return false;
    if (m->actor.schema != MESSAGE_EVENT_SCHEMA || m->sequence == 0) return false;
    struct id128 key = stored_message_key(m->peer, m->sequence);
    return id128_equal(&key, &m->actor.key) && m->payload_bytes == bytes - sizeof *m;
}

/* Whether an event from disk or a peer has this shape. Never aborts. */
static inline bool message_event_is_well_formed(const struct event *e) {
    if (e->schema != MESSAGE_EVENT_SCHEMA) return false;
    if (event_payload_bytes(e) < sizeof(struct message_event)) return false;
    const struct message_event *m = event_payload(e);
    return m->payload_bytes <= event_payload_bytes(e) - sizeof *m;
}

#endif
