/* The fold: a shard's log becomes its state again, event by event, by the very apply that the
 * engine uses, with every step judged. Nothing in a log can end the process: a fault is told, and
 * the fold goes on without the actor that it concerns.
 *
 * One thread. Memory: see fold_table.h. */
#ifndef JUMUN_REPLAY_FOLD_H
#define JUMUN_REPLAY_FOLD_H

#include "actors/message_event.h"
#include "actors/order/order.h"
#include "actors/store/store_event.h"
#include "clients/replay/fold_growth.h"
#include "clients/replay/fold_table.h"
#include "engine/limits.h"
#include "persistence/log_source.h"
#include "persistence/state_source.h"

/* X(name, word): what a log or a state can be told to be wrong about, beside what log_source.h
 * names. The words are frozen: scripts lean on them. */
#define FOLD_FAULTS(X)                              \
    X(ENTRY, "entry_malformed")                     \
    X(EVENT, "event_malformed")                     \
    X(EVENT_UNKNOWN, "event_unknown")               \
    X(TIME, "time_backwards")                       \
    X(TERM, "term_backwards")                       \
    X(VERSION, "version_gap")                       \
    X(CHAIN, "chain_broken")                        \
    X(STATE, "state_mismatch")                      \
    X(INVARIANT, "invariant_broken")                \
    X(MESSAGE, "message_gap")                       \
    X(MESSAGE_CONTENT, "message_differs")           \
    X(MESSAGE_UNSENT, "message_never_sent")         \
    X(SNAPSHOT_DAMAGED, "snapshot_damaged")         \
    X(SNAPSHOT_DIFFERS, "snapshot_differs")         \
    X(SNAPSHOT_MISSING, "snapshot_missing")         \
    X(SNAPSHOT_SURPLUS, "snapshot_surplus")         \
    X(CURSOR, "cursor_differs")                     \
    X(TIMER, "timer_differs")                       \
    X(STATE_UNREADABLE, "state_unreadable")         \
    X(STATE_AHEAD, "state_ahead")                   \
    X(HASH, "hash_differs")                         \
    X(SCRATCH, "scratch_failed")

enum fold_fault_kind {
    FOLD_FAULT_LOG = 0, /* below 32: enum log_fault_kind */
    FOLD_FAULT_FIRST = 31,
#define X(name, word) FOLD_FAULT_##name,
    FOLD_FAULTS(X)
#undef X
};
const char *fold_fault_name(uint32_t kind);

struct fold_fault {
    uint32_t kind;             /* enum fold_fault_kind or enum log_fault_kind */
    uint32_t shard;
    uint64_t index, upto;      /* log indices; 0 = it is no matter of the log */
    const char *segment;       /* "log-...", "state"; "" = neither */
    uint64_t offset;           /* in its data.mdb; 0 = not known */
    struct id128 subject;      /* zero = no actor in particular */
    uint32_t version;          /* of the event or snapshot; 0 = none */
    char what[256];
};

/* What one pair of shards said to each other, in blocks of MESSAGE_BLOCK sequence numbers. */
enum { MESSAGE_BLOCK = 256 };
struct message_block { uint64_t first_index, sum; uint32_t count; };
struct message_track {
    uint64_t first, last;      /* sequence numbers; 0 = none */
    uint64_t last_index;
    uint64_t base;             /* number of blocks[0]: sequence / MESSAGE_BLOCK */
    struct message_block *blocks;
    uint32_t blocks_count, blocks_capacity;
};
static inline bool event_is_message(const struct event *e) {
    return e->kind >= EVENT_MESSAGE_SENT && e->kind <= EVENT_MESSAGE_ACKNOWLEDGED;
}
uint64_t message_digest(uint64_t sequence, struct bytes payload);

/* An event that was applied, shown to whoever watches the fold. */
struct fold_event {
    const struct event *event;
    struct apply_context context;
    const struct actor *actor; /* after it; NULL for messages, and where it could not be applied */
    int64_t entered_ms;        /* when it came into the state that the event found; 0 = new */
};

struct fold_options {
    uint32_t shard, shards_count; /* shards_count 0 = not known */
    uint64_t memory_bytes_max; /* of the blocks of orders; 0 = no bound */
    const char *scratch;       /* directory; NULL = /tmp */
    uint32_t parts, part;      /* only the orders of one of so many parts, for several passes over
                                  more orders than there is memory for; 0 = all */
    bool unknown_allowed;      /* the log does not reach back to its first record */
    void (*fault)(void *arg, const struct fold_fault *fault);
    /* Before an event of an order or a store; `block` NULL = it is its first. NULL = nobody. */
    void (*before)(void *arg, const struct event *event, const struct fold_block *block);
    bool (*observe)(void *arg, const struct fold_event *event); /* NULL = nobody; false = stop */
    void *arg;
};

enum { FOLD_STATES_MAX = 16 };

struct fold {
    struct fold_options options;
    struct fold_table *orders, *stores, *boards;
    uint64_t index, first_index; /* newest entry taken; first one */
    uint64_t term;
    int64_t time_ms;
    uint64_t events, entries, bytes, faults, unknown, broken;
    uint64_t faults_told;      /* of `faults`: those that no other part's pass tells */
    uint64_t totals[FOLD_STATES_MAX]; /* orders by state */
    struct message_track *sent, *seen; /* SHARDS_MAX each */
    struct fold_growth growth; /* where stores live, as far as the log says */
    uint64_t base_index;       /* began with a stored state: events below may be in it already */
    uint64_t base_stores_index;
    bool known[256];           /* kinds of events that this build knows */
    const struct log_item *item; /* being taken */
    bool stopped;              /* the watcher has seen enough */
    bool failed;               /* FOLD_FAULT_SCRATCH was told: it is not the fold of the log */
};

/* NULL without memory. */
struct fold *fold_open(const struct fold_options *options);
void fold_close(struct fold *fold);
/* Gives back what the orders take, in memory and in the scratch file. `orders` is NULL from then
 * on: the fold takes nothing more, and has no hash. */
void fold_drop_orders(struct fold *fold);

/* Begins with a stored state in the place of the log up to its marker: for logs that do not reach
 * back to record 1. 0 and *marker, or -1 with a sentence. Exact from the newest entry on that any
 * snapshot reflects (*exact_index). */
int fold_begin_with(struct fold *fold, struct state_source *state,
                    struct state_source_marker *marker, uint64_t *exact_index, char *error,
                    size_t error_bytes);

/* Takes one step of a cursor: a record, or a fault to be told. False when the watcher said stop. */
bool fold_take(struct fold *fold, enum log_step step, const struct log_item *item);

/* The sum of a 128-bit hash of every actor that is stored: equal wherever the state is. */
struct fold_hash { uint64_t low, high; uint64_t actors; };
struct fold_hash fold_hash(struct fold *fold);

#endif
