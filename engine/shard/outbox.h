/* Messages to and from the other shards: a transactional outbox in the log.
 *
 * A message is an event (MESSAGE_SENT) of the entry that caused it; once that entry is committed it
 * is sent, and sent again (go back N) until its receiver has committed a MESSAGE_SEEN for it. The
 * receiver takes messages of one sender strictly in sequence, so each acts exactly once.
 * Held in memory until acknowledged; what a restart forgets is read from the log again, from the
 * oldest unacknowledged entry on. One thread. */
#ifndef JUMUN_SHARD_OUTBOX_H
#define JUMUN_SHARD_OUTBOX_H

#include "actors/store/store.h"
#include "engine/limits.h"
#include "engine/shard/shard.h"

struct outbox_message {
    struct outbox_message *next;
    uint64_t sequence, index;   /* index: the log entry that holds it */
    uint32_t bytes;
    uint8_t payload[];
};

/* Unacknowledged messages are stored with each checkpoint, so that a state is whole without the log
 * in front of it. */
struct outbox_peer {
    uint64_t sequence_last;     /* highest assigned to a message for this peer */
    uint64_t acknowledged;      /* highest that the peer has committed */
    uint64_t sent;              /* highest handed to the courier since the last go-back */
    int64_t sent_ms;            /* monotonic: of the oldest send that is not acknowledged */
    uint64_t seen;              /* highest taken from this peer ... */
    uint64_t seen_index;        /* ... and the entry that holds it */
    uint64_t logged;            /* acknowledgements up to here are noted in the log */
    uint64_t stored_first, stored_last; /* sequences that are in the state; 0 = none */
    /* While the cluster grows, see shard_growth.c. Both: enum { STORE_ASK_... }, or'ed. */
    uint8_t owes, awaits;       /* questions of the peer that are open; own ones to it */
    uint64_t boards_asked, stores_asked; /* the versions in the peer's newest questions */
    struct outbox_message *first, *last; /* unacknowledged, in sequence */
    struct outbox_message *unsent;       /* first of them with sequence > sent */
};

struct outbox {
    uint32_t id, peers_count;   /* those behind the count were never heard of */
    struct outbox_peer *peers;  /* by shard id, SHARDS_MAX */
    uint64_t messages_waiting, bytes_waiting;
    uint64_t acknowledged;      /* messages, counted: tells a checkpoint that cursors have moved */
    uint64_t acknowledged_logged; /* ... as of the newest note of it in the log */
    uint64_t sent, resent, seen, repeated; /* counters */
};

bool outbox_init(struct outbox *o, uint32_t id, uint32_t peers_count);
void outbox_fini(struct outbox *o);

/* There is a shard of this number too, below SHARDS_MAX. */
static inline void outbox_know(struct outbox *o, uint32_t peer) {
    require(peer < SHARDS_MAX);
    if (peer >= o->peers_count) o->peers_count = peer + 1;
}

void outbox_forget(struct outbox *o); /* all but the counters */

/* Notes a MESSAGE_SENT of entry `index` (just decided, or met in a replay). Messages at or below
 * the acknowledged sequence are skipped. False without memory. */
bool outbox_note_sent(struct outbox *o, const struct event *e, uint64_t index);

/* Takes a message that was stored. Any order. Acknowledged ones are skipped. False without
 * memory. */
bool outbox_load(struct outbox *o, uint32_t peer, uint64_t sequence, uint64_t index,
                 struct bytes payload);

/* The peer has committed everything up to `sequence`. */
void outbox_acknowledge(struct outbox *o, uint32_t peer, uint64_t sequence);

/* The same, met in the log: noted there, and known even before the messages are. */
void outbox_note_acknowledged(struct outbox *o, uint32_t peer, uint64_t sequence);

/* Sends what is committed and not sent yet, and again what waits too long. Returns messages sent;
 * *next_ms gets the moment of the next resend if earlier. */
uint32_t outbox_send(struct outbox *o, struct courier *courier, uint64_t commit_index,
                     int64_t mono_ms, int64_t resend_after_ms, int64_t *next_ms);

/* Oldest entry that holds an unacknowledged message for `peer` which is in no state; 0 = none. */
uint64_t outbox_oldest_index(const struct outbox *o, uint32_t peer);

#endif
