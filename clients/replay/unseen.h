/* Messages of one shard that another one has not seen, gathered from a log and a stored state, so
 * that a directory made from them holds every one: each is sent again by the engine. One thread. */
#ifndef JUMUN_REPLAY_UNSEEN_H
#define JUMUN_REPLAY_UNSEEN_H

#include "actors/message_event.h"
#include "engine/limits.h"

struct unseen_message {
    uint64_t sequence, index;  /* index: of the record that holds it */
    uint32_t peer, payload_bytes;
    uint8_t *payload;          /* owned */
};

struct unseen {
    const uint64_t *acknowledged; /* by peer: these and older ones are not kept; borrowed */
    struct unseen_message *messages;
    uint64_t count, capacity;
};

/* Takes a message, in any order, also twice. False without memory. */
bool unseen_add(struct unseen *unseen, uint32_t peer, uint64_t sequence, uint64_t index,
                struct bytes payload);
/* The messages of a record's events. False without memory. */
bool unseen_add_record(struct unseen *unseen, uint64_t index, const void *events, uint32_t bytes);

/* Sorts by peer and sequence and drops what is there twice. */
void unseen_settle(struct unseen *unseen);
/* After unseen_settle(): the first number above what `peer` has acknowledged, up to `last`, that is
 * not there; 0 = all are. */
uint64_t unseen_missing(const struct unseen *unseen, uint32_t peer, uint64_t last);

void unseen_free(struct unseen *unseen);

#endif
