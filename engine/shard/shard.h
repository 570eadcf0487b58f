/* A shard: the single thread's worth of work that owns a share of all orders. This is the whole of
 * it without its thread: the real node calls shard_work() from a pinned thread
 * (engine/shard/shard_thread.c), the simulator calls it from its one thread under a virtual clock.
 *
 *   shard_work():  take finished disk work -> consensus -> open the reply gate
 *                  -> drain the mailbox: decide, apply, fill one entry -> submit it as a whole
 *                  -> timers -> outbox -> hand settled dirty actors to the checkpoint
 *
 * No function blocks. All functions but those marked "any thread" belong to the shard's thread. */
#ifndef JUMUN_SHARD_SHARD_H
#define JUMUN_SHARD_SHARD_H

#include "engine/base/commit_times.h"
#include "engine/limits.h"
#include "engine/shard/peers.h"
#include "engine/shard/request.h"
#include "engine/wire/routing.h"
#include "persistence/consensus.h"
#include "persistence/storage.h"

struct shard;

/* Sends one message to another shard: the courier (nng inproc:// in the node, a queue in the
 * simulator). May lose it: the shard sends again until it is acknowledged. `payload` is msgpack,
 * valid during the call. Must not block. */
struct courier {
    void (*send)(struct courier *courier, uint32_t from, uint32_t to, uint64_t sequence,
                 struct bytes payload);
    void (*acknowledge)(struct courier *courier, uint32_t from, uint32_t to, uint64_t sequence);
};

/* What the cluster document says of the shards: who there is, who owns what. */
struct shard_view {
    uint64_t version;                /* cluster_view_version(); newer ones replace older ones */
    uint32_t stores_shards;          /* stores are spread over so many */
    uint8_t level;                   /* what is written to logs; 0 = the first (base/program.h) */
    uint32_t epochs_count;
    struct routing_epoch epochs[EPOCHS_MAX]; /* as in engine/wire/routing.h */
    uint8_t active[SHARDS_MAX / 8];  /* bit n: shard n runs */
};

struct shard_options {
    uint32_t id;                     /* 0-based */
    uint32_t shards_count;           /* of a node alone; in a cluster those that are known first */
    const struct shard_view *view;   /* copied; NULL = a node alone whose logs never were those of
                                        a cluster: shards_count, for ever, and the highest level of
                                        this program */
    uint64_t server_id;              /* of this replica, see consensus_server_id() */
    struct peers *peers;             /* NULL = a group of one, without peers */
    /* What an empty storage becomes: the first replicas of a group are all given the same list of
     * servers; a replica that joins a group later is given none, and learns all from the leader.
     * NULL with a count of 0 and no peers: a group of one. */
    const uint64_t *first_servers; uint32_t first_servers_count;
    bool placed_alone;               /* with peers: this replica is all that its group shall have;
                                        else one that is a group's only voter is refused */
    struct storage *storage;         /* owned by the caller */
    struct courier *courier;
    uint32_t mailbox_commands_max;   /* 0 = MAILBOX_COMMANDS_MAX */
    uint64_t memory_bytes_max;       /* of actors; 0 = no bound */
    int64_t checkpoint_age_ms;       /* 0 = CHECKPOINT_AGE_MS */
    int64_t resend_after_ms;         /* unacknowledged messages; 0 = 1,000 */
    uint32_t outbox_window;          /* messages to one other shard that are on their way, or kept
                                        in memory for it; 0 = OUTBOX_WINDOW_MESSAGES */
    int64_t retention_ms;            /* of log segments; 0 = RETENTION_MS */
    uint64_t trail_bytes;            /* of log that consensus knows, if the stored state has not
                                        more; 0 = TRAIL_BYTES */
    uint32_t trailing_entries;       /* kept behind the marker for peers; 0 = see shard_trail.c */
    uint32_t seed;
    /* History reads go through a reader so that the shard never waits for a disk. Called once the
     * part's gate is open; the callee takes the part over, calls history_read() (history.h) for
     * each result with value_kind RESULT_VALUE_HISTORY (on a thread of its own; result->index holds
     * the newest event's entry), and then calls request_part_done(). False = no room: the shard
     * answers OVERLOADED. NULL = the shard reads at once on its own thread (simulator). */
    bool (*read_history)(void *arg, struct shard *shard, struct request_part *part);
    void *read_history_arg;
};

struct shard_stats {                 /* a consistent enough copy; counters only grow */
    uint64_t commands, refused, repeated, held, overloaded, malformed, reads;
    uint64_t refused_by_code[400];
    uint64_t commands_by_kind[64];
    uint64_t events, entries, entry_bytes, turns, timers_fired;
    uint64_t messages_sent, messages_resent, messages_seen, messages_repeated;
    uint64_t orders_in_memory, orders_by_state[16], stores_in_memory, paused_stores;
    uint64_t actor_bytes;            /* memory of all actor blocks, allocator's rounding included */
    uint64_t table_bytes;            /* slots, timers, dirty list */
    uint64_t mailbox_commands, limbo_entries, parked_commands, dirty_actors, timers_pending;
    uint64_t commit_index, applied_index, checkpoint_index, last_index, term;
    /* The newest entry that is committed and on this replica's disk, as of this very moment: no
     * later leader takes it back, nor what lies in front of it. 0 = none is known yet. And how many
     * more are committed, and not on this disk yet. */
    uint64_t settled_index, settled_term, unsettled;
    uint64_t loads, evictions;
    uint8_t role; bool ready; bool disk_full;
    uint8_t phase;                   /* as in shard_internal.h: for people */
    uint64_t leader;                 /* server id; 0 = not known, or no peers */
    uint64_t servers;                /* of the group; 0 = no peers */
    uint64_t lag_entries_max;        /* at the leader: of the replica that lags most */
    uint64_t snapshots_installed, changes, transfers; /* of this replica, as leader the latter */
    uint64_t stores_moved, stores_came; /* to and from other shards */
    bool moving;                     /* stores are on their way, or boards are being told */
    /* While it moves: how much of its memory the leader has gone through for stores that belong
     * elsewhere, 100 = none is left; shards that have not said yet that they have no store of this
     * one, or that they have told of all pauses. messages_waiting: sent and not taken yet. */
    uint8_t stores_looked_percent;
    uint16_t shards_awaited;
    uint64_t messages_waiting;
    uint8_t owed[SHARDS_MAX / 8];    /* bit n: some of them are for shard n */
    bool empty;                      /* see shard_is_empty() */
    bool vacant;                     /* the same as far as the log is applied, at any replica */
    bool failed;                     /* log or state is damaged: nothing is served; see the log */
    uint64_t recovery_events; int64_t recovery_ms;
};

/* Opens the storage's state, starts consensus and begins recovery. NULL with a sentence in
 * error. */
struct shard *shard_open(const struct shard_options *options, int64_t now_ms, int64_t mono_ms,
                         char *error, size_t error_bytes);

/* Offers a part. False = mailbox full, and nothing was taken: answer OVERLOADED. Any thread. Never
 * blocks. *retry_after_ms gets an estimate from the rate at which the mailbox drains. */
bool shard_offer(struct shard *shard, struct request_part *part, uint32_t *retry_after_ms);

/* A message or an acknowledgement came in from another shard. Any thread. False = no room: the
 * sender will try again. The bytes are copied. */
bool shard_offer_message(struct shard *shard, uint32_t from, uint64_t sequence,
                         struct bytes payload);
bool shard_offer_acknowledgement(struct shard *shard, uint32_t from, uint64_t sequence);

/* A message from another replica of this group came in; made by consensus_message_new(), and the
 * shard's when this returns true. Any thread. False = no room: drop it. */
bool shard_offer_consensus(struct shard *shard, struct consensus_message *message);

/* A peer's state lies ready: see struct shard_snapshot. Any thread. False = one waits already. */
bool shard_offer_snapshot(struct shard *shard, const struct shard_snapshot *snapshot);

/* Where the group shall be. Any thread; copied. */
void shard_place(struct shard *shard, const struct shard_placement *placement);

/* Who there is, who owns what: of newer documents than the one before. Any thread; copied. Nothing
 * is done by it until the leader has logged it. */
void shard_know(struct shard *shard, const struct shard_view *view);

/* Whether nothing lives here any more: no order, open or ended and kept; no store; no message that
 * another shard has not taken; nothing under way. As the leader knows it: false at all others. A
 * shard that no epoch of living keys belongs to may then be retired. Any thread. */
bool shard_is_empty(const struct shard *shard);

/* The group as this replica saw it last. Any thread. */
void shard_group(const struct shard *shard, struct consensus_group *group, uint64_t *term);

/* Gives the lead to another replica of its choice at the next good moment (the node is about to
 * stop). Any thread. Nothing happens where it does not lead or is alone. */
void shard_hand_over(struct shard *shard);

/* One round of work. `now_ms` Unix time, `mono_ms` monotonic. Returns a count of what was done; 0 =
 * nothing to do until *next_ms (monotonic) or until somebody offers something. */
uint32_t shard_work(struct shard *shard, int64_t now_ms, int64_t mono_ms, int64_t *next_ms);

/* Sets what shard_offer* and the storage call when the shard has something to do. Any thread. */
void shard_on_wake(struct shard *shard, void (*wake)(void *arg), void *arg);

/* Stops taking commands (SHUTTING_DOWN) and stores everything; shard_work() is to be called until
 * shard_is_drained(). Any thread. A full disk may keep it from ever being drained. */
void shard_drain(struct shard *shard);
bool shard_is_drained(const struct shard *shard);

/* Takes what the storage has finished. False while the storage still reads a checkpoint of this
 * shard: call again when it wakes. It gives each back in bounded time, with room or without. */
bool shard_settle(struct shard *shard);

void shard_stats(const struct shard *shard, struct shard_stats *stats); /* any thread */

/* Newest entry that the group has committed, as far as this replica knows; only grows. It may not
 * be on this disk yet. One load. Any thread: the feed looks at it, the shard does nothing more for
 * readers. */
uint64_t shard_commit_index(const struct shard *shard);
/* Whether that is about what the group has committed: false while the shard recovers, and while it
 * knows nobody who leads. Any thread. */
bool shard_commit_is_known(const struct shard *shard);
/* When entries from..last became committed, as far as this replica noted it: see commit_times.h.
 * Any thread. */
uint32_t shard_commit_times(const struct shard *shard, uint64_t from, uint64_t last,
                            struct commit_moment *moments, uint32_t max);

/* Frees everything. Parts in the mailbox are answered SHUTTING_DOWN; parts that are decided but not
 * committed, or wait for a load, are dropped without an answer: their fate is the log's. A leader
 * with peers answers all of them as one that has lost the lead. After shard_is_drained() there are
 * none. The storage is not closed; it must have crashed or the shard
 * be settled, because a checkpoint on its way is freed here. */
void shard_close(struct shard *shard);

#endif
