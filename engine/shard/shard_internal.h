/* The inside of a shard, shared by the files of this folder only. All of it belongs to the shard's
 * thread, except what stands under "any thread".
 *
 *   shard.c             life cycle, the round of work
 *   shard_entrance.c    the way in from other threads
 *   shard_consensus.c   updates of consensus -> storage, peers; commit -> reply gate
 *   shard_group.c       messages of peers, who leads, snapshots of a peer
 *   shard_steward.c     who shall belong to the group, who shall lead it
 *   shard_role.c        a lead that is lost: answering, forgetting
 *   shard_turn.c        one turn: commands -> decisions -> one log entry
 *   shard_apply.c       events -> actors (turns and recovery alike)
 *   shard_messages.c    store news between shards
 *   shard_growth.c      epochs, stores that move, boards of new shards
 *   shard_load.c        actors that are not in memory; leaving memory again
 *   shard_checkpoint.c  the dirty list -> background state transactions
 *   shard_start.c       the stored state and consensus, at the start and after forgetting
 *   shard_outbox.c      unacknowledged messages <-> the stored state, at a start and while it runs
 *   shard_recovery.c    the log behind the state: at the start, and as long as it follows
 *   shard_stats.c       the published numbers */
#ifndef JUMUN_SHARD_INTERNAL_H
#define JUMUN_SHARD_INTERNAL_H

#include <pthread.h>

#include "actors/cluster/cluster.h"
#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/base/commit_times.h"
#include "engine/limits.h"
#include "engine/shard/actor_table.h"
#include "engine/shard/history.h"
#include "engine/shard/mailbox.h"
#include "engine/shard/outbox.h"
#include "engine/shard/shard.h"
#include "engine/shard/timer_heap.h"
#include "engine/wire/protocol.h"

/* Entries between commit and last index, with room for barriers beside LIMBO_ENTRIES_MAX. */
enum { LIMBO_RING = 4 * LIMBO_ENTRIES_MAX, SHARD_STATES_MAX = 16,
       SHARD_CURSORS_MAX = 5 + 2 * SHARDS_MAX /* stores, totals, known, spread; two per shard */ };
static_assert((LIMBO_RING & (LIMBO_RING - 1)) == 0, "ring index is a mask");

enum shard_phase {
    SHARD_BOOTSTRAPPING = 1, /* the group's first record is on its way to the disk */
    SHARD_RECOVERING = 2,    /* replaying, until memory reflects one moment of the log */
    SHARD_FOLLOWING = 3,     /* applies what is committed; a lone server passes through */
    SHARD_SERVING = 4,       /* leads, and its memory runs ahead of the log */
    SHARD_FORGETTING = 5,    /* led until now; the storage has something of it under way */
    SHARD_INSTALLING = 6     /* a peer's state replaces the own one, once there is room */
};

struct message_ack { uint32_t peer; uint64_t sequence; };

/* Decided and not committed: one log entry, and the replies that wait for it. */
struct limbo_entry {
    struct request_part *parts;  /* linked by next */
    struct message_ack *acks;    /* messages seen in it: acknowledged once it is committed */
    uint32_t acks_count, acks_capacity;
    uint32_t bytes;
};

/* A command that waits for its order to be loaded; a list per order, in order of arrival. */
struct parked {
    struct request_part *part;
    uint32_t position;           /* in part->request->commands */
    uint32_t next;               /* 0 = end; 1-based into the pool */
    uint32_t tail;               /* of a list's head: its last one */
};

/* News for the store actors, gathered over a turn: one item per store. */
struct turn_news {
    struct store_news *items;    /* texts point into `texts` */
    uint32_t *shards;            /* destination of each item */
    uint32_t count;
    uint32_t *buckets;           /* open addressing over items, 1-based; emptied at each turn */
    uint8_t *texts;
    uint32_t texts_bytes;
    struct {
        uint8_t text[ID_TEXT_BYTES_MAX];
        uint8_t bytes;
        bool paused;
        uint32_t version;
    } *status;
    uint32_t status_count;
};
/* A status goes to every shard: with many of them fewer fit one turn. */
enum { TURN_NEWS_MAX = 2 * TURN_COMMANDS_MAX, TURN_NEWS_BUCKETS = 4 * TURN_NEWS_MAX,
       TURN_STATUS_MAX = 256, TURN_STATUS_BYTES_MAX = 256 << 10,
       STATUS_BYTES = ID_TEXT_BYTES_MAX + 24 };
static_assert(SHARDS_MAX * STATUS_BYTES <= TURN_STATUS_BYTES_MAX, "one status fits a turn");

struct turn {
    bool open;
    uint64_t index;              /* the entry's, once submitted */
    int64_t time_ms;
    struct event_sink sink;      /* behind the entry_header */
    uint32_t commands;
    uint64_t submitted;          /* while parts are gated: index of the entry that covers them */
    uint64_t read_round;         /* ... and the round that the others wait for; 0 = none yet */
    struct request_part *parts;  /* all results known; wait for their gate */
    struct message_ack *acks; uint32_t acks_count, acks_capacity;
    struct turn_news news;
};

struct dirty { uint64_t index; int64_t since_ms; uint32_t slot; };

/* First in, first out, growing. */
struct dirty_ring { struct dirty *items; uint32_t head, count, capacity; };

enum checkpoint_phase { CHECKPOINT_IDLE = 0, CHECKPOINT_FILLING, CHECKPOINT_WAITS_FOR_COMMIT,
                        CHECKPOINT_WRITING, CHECKPOINT_WAITS_FOR_ROOM };

struct checkpoint_work {
    struct checkpoint data;
    uint32_t *slots;             /* of each item; SLOT_NONE = a message */
    uint32_t items_capacity, blocks_capacity;
    uint64_t copy_index;         /* newest entry that any copy may reflect */
    int64_t retry_ms;            /* monotonic */
    uint8_t phase;               /* enum checkpoint_phase */
    uint8_t *configuration;
    struct checkpoint_cursor *cursors;
    int64_t allowed_ms;          /* monotonic: as of when ... */
    uint64_t allowed_parts;      /* ... so many orders may be copied, and a part of one more */
    uint32_t allowed;
    uint32_t allowed_of;         /* ... of so many that waited */
};

/* A message of another replica of the group, waiting to be received. */
struct peer_message {
    struct peer_message *next;
    struct consensus_message *message;
    uint32_t bytes;
};

enum snapshot_state { SNAPSHOT_NONE = 0, SNAPSHOT_COMES = 1, SNAPSHOT_OFFERED = 2 };

struct steward {
    struct shard_placement placement;
    int64_t look_ms;             /* all times monotonic */
    uint64_t target;             /* that the lead is being given to; turns wait. 0 = none */
    bool asked;                  /* it has been asked */
    int64_t pause_until_ms, next_transfer_ms;
    uint64_t giver;              /* it asked this replica to lead, in giver_term; 0 = nobody, or it
                                    has been away since */
    uint64_t giver_term;
    uint64_t keeps_up;           /* the preferred server, not behind since keeps_up_ms */
    int64_t keeps_up_ms, keeps_up_seen_ms;
    uint64_t keeps_up_last;      /* of the log, at keeps_up_seen_ms */
    int64_t blocked_ms;          /* since when its disk keeps this leader from work; 0 = not */
    struct { uint64_t id; int64_t since_ms; } silent[CONSENSUS_SERVERS_MAX];
    struct { uint64_t id, term; } lacking[CONSENSUS_SERVERS_MAX]; /* that was told of */
};

/* Where stores live and who there is: see shard_growth.c. */
struct growth {
    /* The same at every replica: from the log. */
    struct store_spread spread;
    uint64_t version;            /* of the newest SHARDS_KNOWN */
    uint8_t active[SHARDS_MAX / 8];
    int64_t joined_ms;
    bool needs_boards, needs_stores; /* the others are to be asked */
    uint64_t boards_asked, stores_asked; /* the versions in the own newest questions */
    uint32_t boards_awaited, stores_awaited; /* shards that have not answered */
    uint32_t boards_owed, stores_owed;       /* shards that have not been answered */
    /* The leader's own; whoever leads next begins it again. */
    uint64_t learned_version;    /* of the view that the log was compared with */
    int64_t view_joined_ms;      /* what joined_ms is by that view */
    struct store_spread heard;   /* the newest that other shards go by */
    uint32_t store_slot;         /* the table is gone through from here for stores to move ... */
    bool settled;                /* ... and there are none */
    uint32_t board_slot;         /* the same for board notes; 0 = nobody is being told */
    uint8_t told[SHARDS_MAX / 8];
};

struct inbox_message {
    struct inbox_message *next;
    uint32_t from;
    bool acknowledgement;
    uint64_t sequence;
    uint32_t bytes;
    uint8_t payload[];
};

/* How long the log was when, oldest first: so that consensus forgets what retention will drop, and
 * not before. (shard_trail.c) */
struct shard_trail {
    int64_t retain_ms;             /* next look at retention, monotonic */
    uint64_t floor;                /* up to here consensus may forget */
    uint32_t worth;                /* how many entries weigh as much as the stored state, */
    bool worth_known;              /* measured last, */
    int64_t measure_ms;            /* and when it is measured next, monotonic */
    uint32_t count;
    struct { int64_t ms; uint64_t index; } ages[TRAIL_AGES_MAX];
};

struct shard {
    struct shard_options options;
    struct consensus *consensus;
    uint8_t phase;               /* enum shard_phase */
    bool ready, disk_full, draining, failed;
    bool started;                /* consensus is */
    bool no_memory;              /* what the last try to load the stored state lacked */
    bool alone;                  /* the group's only server: nobody else can lead */
    bool deposed;                /* led until now, and has not begun to forget yet */
#ifdef JUMUN_DEBUG_CHECKS
    /* Faults that the simulator plants: the gate stands open; reads ask nobody. */
    bool replies_early, reads_alone;
#endif
    int64_t now_ms, mono_ms;     /* of this round */
    int64_t last_time_ms;        /* newest entry time: the log's time never goes back */
    int64_t consensus_timeout_ms;
    uint64_t serving_term;       /* in which it serves, or served last */
    int64_t serving_since_ms;    /* monotonic */
    struct steward steward;
    uint64_t appends_before;     /* appends to the storage that consensus knows nothing of */
    int64_t forget_ms;           /* monotonic: not before */
    int64_t draining_since_ms;   /* monotonic; 0 = not draining */
    struct { uint64_t term, leader; bool ready; } told; /* to the peers */

    /* any thread */
    struct mailbox mailbox;
    _Atomic(struct inbox_message *) inbox_top;
    atomic_uint inbox_count;
    _Atomic(struct peer_message *) peers_top;
    atomic_uint peers_count;
    atomic_ullong peers_bytes;
    atomic_uint snapshot_state;     /* enum snapshot_state: who owns `snapshot` */
    struct shard_snapshot snapshot;
    struct shard_placement placement; /* under published_lock */
    struct shard_view view_offered; /* under published_lock */
    atomic_bool placement_offered, view_is_offered, hand_over;
    atomic_uint_fast64_t commit_published; /* commit_index for other threads; never goes back */
    struct commit_times commit_times;      /* when */
    atomic_bool commit_known;       /* commit_published is about what the group has committed */
    atomic_bool closed_for_commands, drained;
    atomic_uint drain_per_second;   /* commands; for retry-after estimates */
    void (*wake)(void *arg);
    void *wake_arg;

    struct inbox_message *inbox, *inbox_last; /* taken, in order */
    struct peer_message *peers, *peers_last; /* taken, in order */
    uint64_t install_committed;     /* commit index when the snapshot was taken on */
    int64_t install_since_ms, install_retry_ms; /* monotonic */
    bool install_stored;            /* the storage has it; memory lacks the room for it yet */
    int64_t inbox_since_ms;         /* when the first of them came, monotonic */
    int64_t outbox_sent_ms;         /* when the outbox was last looked at, monotonic */
    int64_t acknowledged_ms;        /* when acknowledgements were last logged, monotonic */
    struct shard_memory memory;
    struct actor_table table;
    struct timer_heap timers;
    struct outbox outbox;
    int64_t gathering_since_ms;     /* commands wait for entries to be written, monotonic; 0 = no */
    struct turn turn;
    bool crowded;                   /* commands alone filled the last one */
    struct growth growth;
    struct shard_view view;         /* as taken; the newest that was told */
    uint8_t *entry_buffer;
    uint8_t *message_buffer;        /* SHARD_MESSAGE_BYTES_MAX */
    struct store_news *news_picked; /* TURN_NEWS_MAX */
    uint32_t part_position;         /* where the oldest part in the mailbox goes on */
    struct limbo_entry *limbo;      /* LIMBO_RING, by index */
    uint32_t limbo_entries;
    uint64_t limbo_bytes;
    uint64_t commit_index, applied_index;
    uint64_t reads_confirmed;       /* read rounds */
    struct request_part *reads, *reads_last; /* decided; wait for their round, in order */
    struct request_part *undurable; /* committed; their histories are not on this disk yet */

    struct parked *parked;          /* pool, 1-based, PARKED_COMMANDS_MAX */
    uint32_t parked_free, parked_count;
    uint32_t loads_waiting;         /* asked of the storage and not answered, < STORAGE_LOADS_MAX */
    uint32_t *loaded;               /* slots whose load has come: their commands run next turn */
    uint32_t loaded_count, loaded_capacity;
    uint32_t *visitors;             /* ring of slots that came by a load */
    uint32_t visitors_head, visitors_count;
    uint32_t clock_hand;
    bool timers_lag;                /* deadlines of orders in `dirty` may have moved unnoticed */
    uint32_t timers_stale;          /* of so many of its oldest, and this replica leads by now */
    int64_t unloaded_birth_max_ms;  /* an order key born later is in memory or does not exist */
    int64_t timers_loaded_to_ms;    /* deadlines before it are in memory */
    int64_t timers_from_ms;         /* start of the stretch that is being listed */
    bool timers_loading;
    uint64_t paused_stores;
    bool stores_limit_told;

    struct dirty_ring dirty;        /* orders */
    uint32_t *dirty_stores;         /* slots of stores and board notes */
    uint32_t dirty_stores_count, dirty_stores_capacity;
    struct checkpoint_work checkpoint;
    uint64_t checkpoint_index, checkpoint_term; /* newest durable marker */
    int64_t checkpoint_closed_ms;   /* monotonic */
    uint64_t checkpoint_acknowledged; /* outbox.acknowledged as of the newest one */
    bool messages_linger;           /* it left stored messages that nobody needs */
    uint64_t stores_index;          /* recovery: stores, cursors and totals reflect this entry */
    uint64_t replay_index;          /* recovery: next entry to look at */
    uint32_t replay_loads;          /* orders read from the disk in this round */
    uint64_t commit_seen;           /* as leader: what was committed at commit_ms (monotonic), the
                                       last moment in which that grew or nothing waited for it */
    int64_t commit_ms;
    int64_t replayed_ms, replay_rest_ms; /* monotonic: since when it replays, 0 = it has rested;
                                            and until when it rests */
    int64_t recovery_started_ms;
    struct shard_trail trail;

    uint64_t totals[SHARD_STATES_MAX]; /* orders by state, stored ones included */
    struct shard_stats stats;
    pthread_mutex_t published_lock;
    struct { uint64_t index, term; } settled; /* under it; only the shard's thread writes */
    struct shard_stats published;
    struct consensus_group published_group;
    int64_t published_ms;
    bool unpublished;
    int64_t rate_since_ms, busy_since_ms; uint64_t rate_commands;
};

/* The actor in a slot; NULL for SLOT_NONE and for a slot that only holds a key. */
static inline const struct actor *shard_actor(const struct shard *s, uint32_t slot) {
    if (slot == SLOT_NONE) return NULL;
    const struct actor *a = actor_table_slot(&s->table, slot)->block;
    return a->version ? a : NULL;
}

/* The row in the timers table that a stored order shall have. A retired order that is not deleted
 * yet has one in the distant past, so that a restart finds it and deletes it after all. */
static inline int64_t shard_timer_row(const struct actor *a) {
    if (a->kind != ACTOR_ORDER) return 0;
    return a->flags & ACTOR_RETIRED ? 1 : a->next_deadline_ms;
}

/* What may be written into a checkpoint or applied at a follower: committed, and on this disk. */
static inline uint64_t shard_settled_index(const struct shard *s) {
    uint64_t durable = consensus_durable_index(s->consensus);
    return durable < s->commit_index ? durable : s->commit_index;
}

/* -- shard.c */
void shard_fail(struct shard *s); /* the log or the state is damaged: nothing is served */
void shard_init_parked(struct shard *s);
void shard_free_queues(struct shard *s); /* messages of shards and peers that wait */

/* -- shard_steward.c */
/* Server `from`, which leads in `term`, asks this replica to lead after it. */
void shard_note_giver(struct shard *s, uint64_t from, uint64_t term);

/* -- shard_consensus.c */
void shard_take_update(struct shard *s, const struct consensus_update *u);
/* Everything in `part` is decided. It is answered once its newest effect is committed and, where it
 * shows state, this replica is known to have led when it was decided. */
void shard_gate_part(struct shard *s, struct request_part *part);
void shard_release_undurable(struct shard *s);
struct limbo_entry *shard_limbo(struct shard *s, uint64_t index);

/* -- shard_group.c */
uint32_t shard_receive(struct shard *s);
void shard_look_at_group(struct shard *s);     /* after a change of who belongs to it */
void shard_commit_configuration(struct shard *s);
void shard_tell_leader(struct shard *s);
uint32_t shard_install(struct shard *s);
uint32_t shard_leader_node(const struct shard *s); /* 0 = not known, or this one */

/* -- shard_steward.c */
void shard_steward(struct shard *s);

/* -- shard_role.c */
uint32_t shard_check_role(struct shard *s);
enum { SHARD_NO_MEMORY_RETRY_MS = 1000 };
/* All that is in memory of actors and messages. False without memory for what comes next. */
bool shard_forget(struct shard *s);
void shard_forget_after(struct shard *s, int64_t ms);
bool shard_storage_is_quiet(const struct shard *s);
void shard_answer_lost(struct shard *s);       /* all that waits, when the lead is lost */
/* Refuses all that waits in the mailbox; `finish` gets the parts that are done. */
uint32_t shard_refuse_mailbox(struct shard *s, uint16_t code,
                              void (*finish)(struct shard *s, struct request_part *part));

/* -- shard_turn.c */
uint32_t shard_turns(struct shard *s);   /* decides what waits, as far as the limbo has room */
void shard_turn_begin(struct shard *s);
bool shard_turn_has_room(const struct shard *s);

/* -- shard_apply.c */
enum actor_kind shard_actor_kind(uint8_t event_kind); /* 0 = belongs to no actor */
enum actor_kind shard_command_kind(uint8_t command_kind);
bool shard_event_is_well_formed(const struct event *e);
/* Sees to memory for the events in [from, sink end) for one subject. False = no memory. */
bool shard_make_room(struct shard *s, enum actor_kind kind, uint32_t *slot, const uint8_t *events,
                     uint32_t bytes);
void shard_apply_event(struct shard *s, uint32_t slot, const struct event *e,
                       const struct apply_context *context);
void shard_count_states(struct shard *s, const struct event *e);
void shard_mark_dirty(struct shard *s, uint32_t slot, uint64_t index);

/* -- shard_messages.c */
uint32_t shard_messages(struct shard *s);
void shard_news_add_order(struct shard *s, const struct actor *order, bool opened);
void shard_news_add_status(struct shard *s, struct bytes store, bool paused, uint32_t version);
bool shard_news_has_room(const struct shard *s);
/* A result code; *made = the slot of a block that was made for it, or SLOT_NONE. */
uint16_t shard_news_reserve(struct shard *s, struct bytes store, bool board, uint32_t *made);
/* The same for what the next events of an order that is there may say of its store; false = no
 * memory. */
bool shard_news_reserve_order(struct shard *s, const struct actor *order);
void shard_news_finish(struct shard *s); /* at the end of a turn: writes the messages */
bool shard_apply_message(struct shard *s, const struct event *e,
                         const struct apply_context *context);
/* Logs a message; to itself: and applies it. `sequence` is given. */
void shard_message_add(struct shard *s, uint32_t to, struct bytes payload);
bool shard_store_is_paused(const struct shard *s, struct bytes store);
uint64_t shard_store_noted_at(const struct shard *s, struct bytes store); /* 0 = never noted */

/* -- shard_growth.c */
uint32_t shard_store_home(const struct shard *s, struct bytes store);
bool shard_is_listening(const struct shard *s, uint32_t peer); /* it is told of pauses */
void shard_apply_known(struct shard *s, const struct event *e);
/* What a MESSAGE_SENT means beside the outbox: stores leave with it. */
void shard_apply_sent(struct shard *s, const struct event *e, uint64_t index);
void shard_apply_head(struct shard *s, uint32_t from, struct bytes message); /* of one seen */
uint32_t shard_learn(struct shard *s);     /* logs the newest view */
uint32_t shard_grow(struct shard *s);      /* moves stores, asks, answers */
/* Why the command cannot be decided here now; RESULT_OK if it can. `slot`: of its store. */
uint16_t shard_growth_answer(const struct shard *s, const struct command *command, uint32_t slot);
void shard_growth_put(struct shard *s);    /* cursors, into the checkpoint that is being closed */
bool shard_growth_load(struct shard *s, const struct checkpoint_cursor *cursor);
void shard_cursor_put(struct checkpoint_work *w, const char *name, const void *value,
                      uint32_t bytes);     /* shard_checkpoint.c */

/* -- shard_load.c */
bool shard_may_be_stored(const struct shard *s, const struct id128 *key);
bool shard_park(struct shard *s, uint32_t slot, struct request_part *part, uint32_t position);
struct parked shard_unpark(struct shard *s, struct slot *slot);
void shard_on_loaded(struct shard *s, const struct storage_event *event);
void shard_evict_if_idle(struct shard *s, uint32_t slot);
void shard_evict_under_pressure(struct shard *s);
void shard_timers_load(struct shard *s);

/* Of a failed shard: refuses the commands whose orders have come and that no turn will decide any
 * more. Returns their number. */
uint32_t shard_fail_loaded(struct shard *s);
void shard_on_timer_loaded(struct shard *s, const struct storage_event *event);
uint32_t shard_start_load(struct shard *s, const struct id128 *key);

/* -- shard_checkpoint.c */
/* Room for one more item with `bytes` of block. False without memory. */
bool shard_checkpoint_reserve(struct checkpoint_work *w, uint32_t bytes);
uint32_t shard_checkpoint(struct shard *s, int64_t *next_ms);
void shard_on_checkpointed(struct shard *s, const struct storage_event *event);
bool shard_checkpoint_is_clean(const struct shard *s);

/* -- shard_outbox.c */
bool shard_store_messages(struct shard *s);    /* into the checkpoint that is being closed */
/* Whether they are to be stored, or removed, sooner than anything else asks for a checkpoint. */
bool shard_messages_press(const struct shard *s);
uint32_t shard_ask_messages(struct shard *s);  /* those that are away and come next */
void shard_on_message_loaded(struct shard *s, const struct storage_event *event);
bool shard_load_messages(struct shard *s, char *error, size_t error_bytes);

/* -- shard_start.c */
bool shard_start(struct shard *s, char *error, size_t error_bytes);
bool shard_load_state(struct shard *s, char *error, size_t error_bytes);
enum { SHARD_ADDRESS_BYTES = 24 };
void shard_address(uint64_t id, char address[SHARD_ADDRESS_BYTES]);

/* -- shard_trail.c */
/* How many entries in front of the marker consensus is to know on. */
uint32_t shard_trail_kept(struct shard *s);
/* Lets the storage drop what is old enough and nobody asks for. Now and then, also while nothing is
 * written. */
void shard_trail_retain(struct shard *s);
/* The terms of the log's entries up to the marker, *count of them; the caller frees them. NULL:
 * none. */
uint64_t *shard_trail_terms(struct shard *s, const struct storage_meta *meta, uint64_t *count);

/* -- shard_recovery.c */
uint32_t shard_recover(struct shard *s, int64_t *next_ms);
/* The deadlines that a follower had not kept: at a leader, as many as a round has room for. */
uint32_t shard_set_stale_timers(struct shard *s);

/* -- shard_stats.c */
void shard_count_result(struct shard *s, const struct command *command, const struct result *r);
void shard_publish(struct shard *s);

#endif
