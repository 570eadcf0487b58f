/* Messages to and from the other shards: a transactional outbox in the log.
 *
 * A message is an event (MESSAGE_SENT) of the entry that caused it; once that entry is committed it
 * is sent, and sent again (go back N) until its receiver has committed a MESSAGE_SEEN for it. The
 * receiver takes messages of one sender strictly in sequence, so each acts exactly once.
 * Each checkpoint stores those that are not acknowledged, so that a state is whole without the log
 * in front of it. Of what is stored only as many stay in memory as may be on their way to a peer;
 * the rest is away, and read from the state again when its turn has come. So a peer that takes
 * nothing for long costs room on the disk, and no memory. One thread. */
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

struct outbox_list { struct outbox_message *first, *last; uint32_t count; uint64_t bytes; };

/* What is not acknowledged, in sequence:
 *
 *   acknowledged + 1 ...  in memory, to be sent next     `front`
 *   ... away_last         in the stored state alone      away_last = 0: there is none of these,
 *   ... sequence_last     in memory, and younger         `behind`      nor of these */
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
    struct outbox_list front, behind;
    struct outbox_message *unsent;       /* first of `front` with sequence > sent */
    uint64_t away_last;
    uint64_t asked_last;        /* of these: asked of the storage up to here (UINT64_MAX: no more
                                   until all have come) ... */
    uint32_t asked;             /* ... and so many of them have not come */
};

struct outbox {
    uint32_t id, peers_count;   /* those behind the count were never heard of */
    struct outbox_peer *peers;  /* by shard id, SHARDS_MAX */
    uint32_t window;            /* messages that a peer may be sent before it acknowledges one */
    uint64_t messages_waiting;  /* all that is not acknowledged */
    uint64_t unstored, unstored_bytes; /* of these: in no state, so they cannot leave memory */
    uint32_t peers_away;        /* peers some of whose messages are away */
    uint64_t acknowledged;      /* messages, counted: tells a checkpoint that cursors have moved */
    uint64_t acknowledged_logged; /* ... as of the newest note of it in the log */
    uint64_t sent, resent, seen, repeated; /* counters */
};

bool outbox_init(struct outbox *o, uint32_t id, uint32_t peers_count, uint32_t window);
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

/* The state has a message for `peer`: any order, before all others, and after what the cursors say.
 * It is away. */
void outbox_note_stored(struct outbox *o, uint32_t peer, uint64_t sequence);

/* The oldest message for `peer` that no state has; the others follow by next. NULL = none. */
const struct outbox_message *outbox_unstored(const struct outbox *o, uint32_t peer);

/* It has it now, or will have it before anything of it leaves memory: oldest first. */
void outbox_store(struct outbox *o, uint32_t peer, const struct outbox_message *message);

/* Everything that was stored is durable by now: what is behind a window leaves memory. */
void outbox_let_go(struct outbox *o);

/* The next message for `peer` that is to be loaded; false = none now. Each is to be answered by
 * outbox_loaded(), in any order; what comes out of order or without memory is asked for again. */
bool outbox_ask(struct outbox *o, uint32_t peer, uint64_t *sequence);
void outbox_loaded(struct outbox *o, uint32_t peer, uint64_t sequence, uint64_t index,
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
