/* The contract between actors and whatever runs them (the shard, a follower, recovery, a replica,
 * the replay tool, the simulator).
 *
 *   decide(state, command, context) -> events | refusal     only at the leader; may say no
 *   apply(state, event)             -> state                everywhere; total and deterministic
 *
 * An actor is ONE block of memory without pointers: `struct actor` and then the fields of its kind.
 * A block may be moved with memcpy; its bytes are the snapshot on disk. The runner owns the memory:
 * it asks how large the block will be (bytes_after), makes room, and only then applies, so apply
 * cannot fail. No function here allocates, blocks, reads a clock or keeps state between calls. */
#ifndef JUMUN_ACTORS_ACTOR_H
#define JUMUN_ACTORS_ACTOR_H

#include "actors/command.h"
#include "actors/event.h"
#include "actors/result_codes.h"

/* ACTOR_MESSAGE is none: the name under which messages of the outbox lie in the stored state, see
 * actors/message_event.h. */
enum actor_kind {
    ACTOR_ORDER = 1, ACTOR_STORE = 2, ACTOR_BOARD = 3, ACTOR_CLUSTER = 4, ACTOR_MESSAGE = 5
};

enum actor_flags {
    ACTOR_OPEN = 1,    /* an order that its store has to work on: counted by the store actor */
    ACTOR_CLOSED = 2,  /* ended or delivered, nothing owed: may leave memory once it is stored */
    ACTOR_RETIRED = 4, /* retention has passed, or the store lives elsewhere now: the snapshot is
                          deleted */
    ACTOR_ARRIVED = 8  /* a store that came from another shard */
};

/* The head of every block; little endian, as on disk. */
struct actor {
    uint32_t bytes;            /* used bytes of the block, head included; <= ACTOR_BYTES_MAX */
    uint8_t kind;              /* enum actor_kind */
    uint8_t schema;            /* layout version of the kind, from 1 */
    uint8_t state;             /* kind's own; for orders enum order_state */
    uint8_t flags;             /* enum actor_flags */
    struct id128 key;
    uint64_t last_index;       /* log index of the newest applied event */
    int64_t next_deadline_ms;  /* earliest pending deadline; 0 = none */
    uint32_t version;          /* grows by one per event */
    uint32_t spare;            /* 0 */
};
static_assert(sizeof(struct actor) == 48, "actor head is frozen");

/* Where an event happened: the same on every node that applies it. */
struct apply_context {
    uint64_t index;            /* of the log entry that holds the event */
    int64_t time_ms;           /* the leader's clock when the turn was decided */
};

/* What decide may know beside state and command. */
struct decide_context {
    uint64_t index;            /* the index that this turn's entry will have */
    int64_t now_ms;            /* Unix time; the turn's, never going backwards */
    uint8_t level;             /* of the cluster (engine/base/program.h); 0 = the first */
    bool store_paused;         /* for place: what this shard has noted of the command's store */
};

/* The answer to a decided command. */
struct decision {
    uint16_t code;             /* enum result_code; OK and HELD changed state (unless repeated) */
    bool repeated;             /* this id was acted on before: `version` is the first answer's */
    uint32_t version;          /* the actor's version after the command, or its current one when
                                  refused; 0 = no such actor */
};

#endif
