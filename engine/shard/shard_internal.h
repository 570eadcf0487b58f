/* The inside of a shard, shared by the files of this folder only. All of it belongs to the shard's
 * thread, except what stands under "any thread".
 *
 *   shard.c             life cycle, the round of work, the way in from other threads
 *   shard_consensus.c   updates of consensus -> storage; commit -> reply gate
 *   shard_turn.c        one turn: commands -> decisions -> one log entry
 *   shard_apply.c       events -> actors (turns and recovery alike)
 *   shard_messages.c    store news between shards
 *   shard_load.c        actors that are not in memory; leaving memory again
 *   shard_checkpoint.c  the dirty list -> background state transactions
 *   shard_recovery.c    state, then the log behind it
 *   shard_stats.c       the published numbers */
#ifndef JUMUN_SHARD_INTERNAL_H
#define JUMUN_SHARD_INTERNAL_H

#include <pthread.h>

#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/limits.h"
#include "engine/shard/actor_table.h"
#include "engine/shard/history.h"
#include "engine/shard/mailbox.h"
#include "engine/shard/outbox.h"
#include "engine/shard/shard.h"
#include "engine/shard/timer_heap.h"
#include "engine/wire/protocol.h"

/* Entries between commit and last index, with room for barriers beside LIMBO_ENTRIES_MAX. */
enum { LIMBO_RING = 4 * LIMBO_ENTRIES_MAX, SHARD_STATES_MAX = 16 };
static_assert((LIMBO_RING & (LIMBO_RING - 1)) == 0, "ring index is a mask");

enum shard_phase {
    SHARD_BOOTSTRAPPING = 1, /* the group's first record is on its way to the disk */
    SHARD_RECOVERING = 2,    /* replaying what is committed; commands wait in the mailbox */
    SHARD_SERVING = 3
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
    uint32_t *slots;             /* of each item */
    uint32_t items_capacity, blocks_capacity;
    uint64_t copy_index;         /* newest entry that any copy may reflect */
    int64_t retry_ms;            /* monotonic */
    uint8_t phase;               /* enum checkpoint_phase */
    uint8_t *configuration;
    struct checkpoint_cursor *cursors;
};

struct inbox_message {
    struct inbox_message *next;
    uint32_t from;
    bool acknowledgement;
    uint64_t sequence;
    uint32_t bytes;
    uint8_t payload[];
};

struct shard {
    struct shard_options options;
    struct consensus *consensus;
    uint8_t phase;               /* enum shard_phase */
    bool ready, disk_full, draining, failed;
#ifdef JUMUN_DEBUG_CHECKS
    bool replies_early;          /* a fault that the simulator plants: the gate stands open */
#endif
    int64_t now_ms, mono_ms;     /* of this round */
    int64_t last_time_ms;        /* newest entry time: the log's time never goes back */
    int64_t consensus_timeout_ms;

    /* any thread */
    struct mailbox mailbox;
    _Atomic(struct inbox_message *) inbox_top;
    atomic_uint inbox_count;
    atomic_bool closed_for_commands, drained;
    atomic_uint drain_per_second;   /* commands; for retry-after estimates */
    void (*wake)(void *arg);
    void *wake_arg;

    struct inbox_message *inbox, *inbox_last; /* taken, in order */
    int64_t inbox_since_ms;         /* when the first of them came, monotonic */
    int64_t outbox_sent_ms;         /* when the outbox was last looked at, monotonic */
    struct shard_memory memory;
    struct actor_table table;
    struct timer_heap timers;
    struct outbox outbox;
    struct turn turn;
    uint8_t *entry_buffer;
    uint8_t *message_buffer;        /* SHARD_MESSAGE_BYTES_MAX */
    struct store_news *news_picked; /* TURN_NEWS_MAX */
    uint32_t part_position;         /* where the oldest part in the mailbox goes on */
    struct limbo_entry *limbo;      /* LIMBO_RING, by index */
    uint32_t limbo_entries;
    uint64_t limbo_bytes;
    uint64_t commit_index, applied_index;
    atomic_uint_fast64_t commit_published; /* commit_index for other threads; never goes back */

    struct parked *parked;          /* pool, 1-based, PARKED_COMMANDS_MAX */
    uint32_t parked_free, parked_count;
    uint32_t loads_waiting;         /* asked of the storage and not answered, < STORAGE_LOADS_MAX */
    uint32_t *loaded;               /* slots whose load has come: their commands run next turn */
    uint32_t loaded_count, loaded_capacity;
    uint32_t *visitors;             /* ring of slots that came by a load */
    uint32_t visitors_head, visitors_count;
    uint32_t clock_hand;
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
    uint64_t stores_index;          /* recovery: stores, cursors and totals reflect this entry */
    uint64_t replay_index;          /* recovery: next entry to look at */
    int64_t recovery_started_ms;
    int64_t retain_ms;              /* next look at retention, monotonic */

    uint64_t totals[SHARD_STATES_MAX]; /* orders by state, stored ones included */
    struct shard_stats stats;
    pthread_mutex_t published_lock;
    struct shard_stats published;
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

/* -- shard.c */
void shard_fail(struct shard *s); /* the log or the state is damaged: nothing is served */

/* -- shard_consensus.c */
void shard_take_update(struct shard *s, const struct consensus_update *u);
void shard_gate_part(struct shard *s, struct request_part *part);
struct limbo_entry *shard_limbo(struct shard *s, uint64_t index);

/* -- shard_turn.c */
uint32_t shard_turns(struct shard *s);   /* decides what waits, as far as the limbo has room */
void shard_turn_begin(struct shard *s);
void shard_turn_end(struct shard *s);
bool shard_turn_has_room(const struct shard *s);
void shard_result_done(struct shard *s, struct request_part *part);
/* Decides `command` for its order's slot (SLOT_NONE = there is none); applies and logs. */
struct decision shard_decide(struct shard *s, const struct command *command, uint32_t slot,
                             uint32_t *slot_after);

/* -- shard_apply.c */
enum actor_kind shard_actor_kind(uint8_t event_kind); /* 0 = belongs to no actor */
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
uint16_t shard_news_reserve(struct shard *s, struct bytes store, bool board); /* a result code */
void shard_news_finish(struct shard *s); /* at the end of a turn: writes the messages */
bool shard_apply_message(struct shard *s, const struct event *e,
                         const struct apply_context *context);
bool shard_store_is_paused(const struct shard *s, struct bytes store);
uint64_t shard_store_noted_at(const struct shard *s, struct bytes store); /* 0 = never noted */

/* -- shard_load.c */
bool shard_may_be_stored(const struct shard *s, const struct id128 *key);
bool shard_park(struct shard *s, uint32_t slot, struct request_part *part, uint32_t position);
struct parked shard_unpark(struct shard *s, struct slot *slot);
void shard_on_loaded(struct shard *s, const struct storage_event *event);
uint32_t shard_run_loaded(struct shard *s);
void shard_evict_if_idle(struct shard *s, uint32_t slot);
void shard_evict_under_pressure(struct shard *s);
void shard_timers_load(struct shard *s);

/* Of a failed shard: refuses the commands whose orders have come and that no turn will decide any
 * more. Returns their number. */
uint32_t shard_fail_loaded(struct shard *s);
void shard_on_timer_loaded(struct shard *s, const struct storage_event *event);
uint32_t shard_start_load(struct shard *s, const struct id128 *key);

/* -- shard_checkpoint.c */
uint32_t shard_checkpoint(struct shard *s, int64_t *next_ms);
void shard_on_checkpointed(struct shard *s, const struct storage_event *event);
bool shard_checkpoint_is_clean(const struct shard *s);

/* -- shard_recovery.c */
bool shard_recovery_begin(struct shard *s, char *error, size_t error_bytes);
uint32_t shard_recover(struct shard *s);

/* -- shard_stats.c */
void shard_count_result(struct shard *s, const struct command *command, const struct result *r);
void shard_publish(struct shard *s);

#endif
