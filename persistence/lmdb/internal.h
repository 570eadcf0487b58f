/* What the files of this room share: the parts of one open storage and how they call each other.
 *
 * Threads: [shard] the owner's, [journal] in front of the [writer] log writer, [state] checkpoint
 * thread, [loader], [filler], [any]; the scrubber is any.
 * Locks, never held together unless the outer is named first: gaps_lock before all others,
 * segments.lock before an environment's lock, log.lock before tail.lock; everything else alone. */
#ifndef JUMUN_PERSISTENCE_LMDB_INTERNAL_H
#define JUMUN_PERSISTENCE_LMDB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/limits.h"
#include "persistence/lmdb/env.h"
#include "persistence/lmdb/journal.h"
#include "persistence/lmdb/storage_lmdb.h"

/* STORAGE_FORMAT_JOURNAL in the vote's identity: the end of the log may be in the journal alone, so
 * a program that knows of none must not take the directory for whole. */
enum { STORAGE_FORMAT = 1, STORAGE_FORMAT_JOURNAL = 2 };
/* Leaves room for "/log-<20 digits>/data.mdb" and the longest suffix of what is set aside. */
#define STORAGE_DIRECTORY_BYTES_MAX (LMDB_PATH_BYTES_MAX - 96)

/* The rows of fixed form, as they lie on disk; little endian. Checksums are XXH3-64 of all bytes
 * behind themselves. */
struct identity_row { uint8_t magic[8]; uint32_t format, shard; };
struct vote_row { uint64_t checksum, term, voted_for; };
struct marker_row {               /* followed by the configuration */
    uint64_t checksum, applied_index, applied_term, configuration_index;
    uint32_t configuration_bytes, spare;
};
struct snapshot_header {          /* followed by the actor's block */
    uint64_t checksum;
    uint32_t bytes;               /* of the block */
    uint16_t format;              /* STORAGE_FORMAT */
    uint8_t kind, spare;
};
struct export_row {               /* in `meta` of an exported state */
    uint64_t checksum;
    uint64_t rows;                /* of all tables but `meta` */
    uint64_t digest;              /* of all their keys and values, see state_file.c */
    int64_t exported_ms;
};
struct gap_row { uint64_t checksum, first, last; int64_t installed_ms; };
struct reached_row {              /* see reached.c */
    uint64_t checksum;
    uint64_t transaction;         /* of the vote's environment, that wrote it */
    uint64_t index;               /* the log has reached it: the newest segment's first record */
    uint64_t journal;             /* identity of the one that is in use; 0 = none */
};
struct timer_row { uint8_t deadline_be[8]; struct id128 key; }; /* the key; value = actor kind */
static_assert(sizeof(struct identity_row) == 16, "frozen");
static_assert(sizeof(struct vote_row) == 24, "frozen");
static_assert(sizeof(struct marker_row) == 40, "frozen");
static_assert(sizeof(struct snapshot_header) == 16, "frozen: blocks behind it stay 8-byte aligned");
static_assert(sizeof(struct timer_row) == 24, "frozen");
static_assert(sizeof(struct export_row) == 32, "frozen");
static_assert(sizeof(struct gap_row) == 32, "frozen");
static_assert(sizeof(struct reached_row) == 32, "frozen");

/* -- log segments (segments.c) ------------------------------------------------------------- */

struct segment {
    uint64_t first, last;      /* last == first - 1: nothing in it */
    int64_t first_ms;          /* time of its oldest RECORD_EVENTS; 0 = none */
    int64_t newest_ms;         /* and of its newest; 0 = none */
    uint64_t used_bytes;       /* of the file */
    uint64_t used_at;          /* tick of its last reader, for closing the longest idle one */
    uint32_t users;            /* readers and the writer; keeps env open */
    bool dropped;              /* out of the list; the last user hands it to the trash */
    bool damaged;              /* cannot be opened; reads of it fail by name */
    uint64_t let_go_bytes;     /* [writer] of the file: no longer kept in the page cache */
    struct lmdb_env env;       /* closed while nobody uses it, opened on demand */
};

/* Records first..last are not stored: an installed state stands for them. */
struct log_gap { uint64_t first, last; int64_t installed_ms; };

struct segments {
    pthread_mutex_t lock;      /* guards all but `active` */
    struct segment **list;     /* by first; each joins the one before, or a gap does */
    /* Oldest first; consensus uses the log behind the newest. Whoever changes them has gaps_lock
     * too, so that one of both locks is enough to look at them. */
    struct log_gap gaps[STORAGE_GAPS_MAX];
    uint32_t gaps_count;
    uint32_t count, capacity;
    struct log_gap filling;    /* [filler] a piece goes into it now: retention leaves the segments
                                  beside it; `last` 0 = none */
    uint64_t tick;
    struct segment *active;    /* [writer] the newest, held by the writer; NULL = empty log */
};

/* -- the log's tail in memory (log_tail.c) -------------------------------------------------- */

struct log_tail {
    pthread_mutex_t lock;
    struct record **ring;      /* by index; `capacity` is a power of two */
    uint64_t capacity, first, count;
};
struct log_tail_range { uint64_t first, count; };

/* -- log writer (log_writer.c) ------------------------------------------------------------- */

#define LOG_CALLS_TRACKED 1024u

struct log_call { uint64_t sequence, records_end, index_min; };

struct log_writer {
    pthread_t thread;
    pthread_mutex_t lock;      /* guards up to `retain_before_ms` */
    pthread_cond_t wake;
    struct record *head, *tail;/* queued, not yet taken by the writer */
    uint64_t queued_bytes;     /* of these */
    int64_t queued_ns;         /* since when the first of them waits */
    bool sleeping, stop;
    bool fed;                  /* the journal's thread lives and may still hand something over */
    bool eager;                /* somebody waits for what is queued */
    bool journalled;           /* what is queued is durable already, and was told */
    bool gave_up;              /* ended without room for what was queued */
    bool discard;              /* stop, and throw away what is queued */
    pthread_cond_t applied;    /* records_applied has grown, or gave_up, or full */
    uint64_t records_handed;   /* to the writer, and not to the journal only */
    uint64_t records_applied;  /* of these: in the environment, synced */
    bool waits_for_room;
    uint64_t records_done;     /* told as durable */
    uint64_t sequence_done;
    uint64_t sequence;         /* calls so far */
    uint64_t records_queued;   /* records of all calls so far */
    uint64_t queued_last;      /* index of the newest queued record */
    uint64_t floor;            /* [shard] the newest gap's end: nothing at or below is appended */
    /* Ends of calls in flight. When the ring is full the newest slot stands for several calls: they
     * are then reported together. */
    struct log_call calls[LOG_CALLS_TRACKED];
    uint32_t calls_first, calls_count;
    uint64_t retain_upto;
    int64_t retain_before_ms;

    struct record *taken;      /* [writer] */
    bool full;                 /* [writer] */
    atomic_uint_fast64_t waiting, waiting_bytes;
    atomic_uint_fast64_t commits, commit_bytes, commit_ns, commit_ns_max;
};

/* In front of the writer: makes durable, tells, and hands over (log_journal.c). Without a file the
 * records go through to the writer, which tells. */
struct log_journal {
    pthread_t thread, maker;
    bool on, making;           /* the threads are there */
    struct journal file;       /* closed = none (yet) [journal] */
    bool broken;               /* a write failed for lack of room: what is there is not known */
    uint64_t handed_before;    /* records_handed when it was opened, without what it held */
    pthread_cond_t wake;       /* with the writer's lock, as all up to `settled`: */
    struct record *head, *tail;/* queued, not yet taken */
    bool sleeping, stop;
    bool settle, settled;      /* somebody wants all of it in the environment, and nothing left */
    atomic_bool made;          /* the file is whole and can be opened */
    atomic_bool stop_making;
};

/* -- checkpoints and loads (state.c, checkpoint.c, loader.c) ------------------------------- */

enum state_table { STATE_ORDERS, STATE_STORES, STATE_BOARDS, STATE_CLUSTER, STATE_TIMERS,
                   STATE_CURSORS, STATE_META, STATE_TABLES };

/* See checkpoint_order.c. Keys are numbers here: two of them compare as their bytes do. */
struct checkpoint_place { uint64_t key_high, key_low; uint32_t kind, item; };
struct timer_change {          /* of the timers table: a row that goes, or comes (put) */
    uint64_t deadline_ms, key_high, key_low;
    uint8_t kind;
    bool put;
};
struct checkpoint_order {
    struct checkpoint_place *places; /* the newest copy of each actor, by kind and key */
    struct timer_change *changes;    /* by deadline and key: as the rows lie */
    struct checkpoint_place *unsorted_places;
    struct timer_change *unsorted_changes;
    struct radix_item *sort;         /* room to sort twice as many items, and scratch for that */
    uint32_t places_count, changes_count;
    uint32_t capacity;               /* items; each may change two deadlines */
};

struct checkpoint_thread {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct checkpoint *queue[STORAGE_CHECKPOINTS_MAX];
    uint32_t first, count;
    uint32_t in_flight;        /* handed over and not yet polled */
    struct checkpoint_order order; /* [state] of the checkpoint that is written */
    uint64_t let_go_bytes;     /* [state] of the file, when it was last let go */
    bool trash_waiting, stop;
    bool full;                 /* [state] the log has it that there is no room */
    atomic_uint_fast64_t checkpoints, items;
    atomic_uint_fast64_t state_bytes; /* for stats: LMDB itself may be asked only by the writer */
};

struct load_request {
    struct id128 key;
    int64_t from_ms, to_ms;
    uint32_t max;              /* 0 = one actor, else a listing of timers */
    uint8_t kind;
};

struct loader {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct load_request *queue;/* ring of STORAGE_LOADS_MAX */
    uint32_t first, count;
    bool stop;
    atomic_uint_fast64_t loads;
};

/* -- what poll() finds (completions.c) ----------------------------------------------------- */

#define COMPLETIONS_LOADS_MAX 1024u

struct completions {
    pthread_mutex_t lock;
    pthread_cond_t room;       /* the loader waits here while `loads` is full */
    atomic_bool pending;       /* something was posted since the last poll */
    bool left;                 /* [shard] the last poll left something behind */
    bool appended;
    uint64_t appended_index, appended_sequence;
    bool full, full_told;
    struct storage_event checkpoints[STORAGE_CHECKPOINTS_MAX];
    uint32_t checkpoints_count;
    struct storage_event loads[COMPLETIONS_LOADS_MAX];
    uint32_t loads_first, loads_count;
    bool closing;              /* nobody will poll any more */
};

/* Long reads of the state, for export: growth of its map waits for them without keeping short
 * readers out. */
struct exports {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t running;
    bool growing;              /* the checkpoint thread waits for its turn: none may begin */
    atomic_bool stop;          /* the state goes away: end early, do not begin */
};

struct storage_lmdb {
    struct storage base;       /* first */
    char directory[STORAGE_DIRECTORY_BYTES_MAX];
    uint32_t shard;
    uint64_t segment_bytes_max, log_map_bytes, state_map_bytes, room_floor_bytes;
    int64_t segment_ms_max;
    uint32_t batch_bytes_max;
    int (*fault)(void *arg, enum storage_lmdb_point point);
    void *fault_arg;
    int lock_fd;
    pthread_mutex_t gaps_lock; /* an install, or a piece that fills a gap: one at a time */
    atomic_uint_fast64_t filled_records;
    struct lmdb_env vote, state;
    uint32_t vote_format;      /* what the vote's identity says: 1 or 2 */
    MDB_dbi vote_table, state_tables[STATE_TABLES];
    uint64_t journal_bytes;    /* 0 = none */
    uint64_t reached;          /* [writer] the index that reached_index() has saved last */
    bool let_go;               /* what is written is not kept in memory */
    struct segments segments;
    struct log_tail tail;
    struct log_writer log;
    struct log_journal journal;
    struct checkpoint_thread checkpoints;
    struct loader loader;
    struct completions done;
    struct exports exports;
};

static inline int storage_fault(struct storage_lmdb *s, enum storage_lmdb_point point) {
    return s->fault ? s->fault(s->fault_arg, point) : 0;
}
static inline MDB_val storage_val(const void *data, size_t bytes) {
    return (MDB_val){bytes, (void *)data};
}
static inline void storage_be64(uint8_t out[8], uint64_t v) {
    v = __builtin_bswap64(v);
    memcpy(out, &v, 8);
}
static inline uint64_t storage_from_be64(const void *data) {
    uint64_t v;
    memcpy(&v, data, 8);
    return __builtin_bswap64(v);
}

/* malloc that a test can make fail. */
void *storage_allocate(struct storage_lmdb *s, size_t bytes);

/* Starts a thread with all signals blocked: they belong to the program. 0 or errno. */
int storage_thread_start(pthread_t *thread, const char *name, uint32_t shard,
                         void *(*run)(void *), void *arg);

/* Finds out what lies in the directory, checks that the segments join, drops empty remains of a
 * crash and what begins in a gap; with `unfinished`, what begins behind the newest one too: it is
 * older than the install. -1 with a sentence. */
int segments_open(struct storage_lmdb *s, bool unfinished, char *error, size_t error_bytes);
void segments_close(struct storage_lmdb *s);                             /* no users left */
/* First and last record of the oldest segment that has one at or behind `index` and is closed;
 * false = there is none. [any] */
bool segments_closed(struct storage_lmdb *s, uint64_t index, uint64_t *first, uint64_t *last);
/* The segment that holds `index`, open and in use; NULL with a sentence. [any] */
struct segment *segment_acquire(struct storage_lmdb *s, uint64_t index, char *error,
                                size_t error_bytes);
void segment_release(struct storage_lmdb *s, struct segment *segment);   /* [any] */
/* What lies behind the newest gap; first = last + 1 = nothing yet; 0,0 = nothing and no gap.
 * [any] */
void segments_range(struct storage_lmdb *s, uint64_t *first, uint64_t *last);
void segments_measure(struct storage_lmdb *s, struct storage_stats *stats);   /* [any] */
/* A new active segment that begins at `first`. 0 or a code; nothing changed then. [writer] */
int segments_add(struct storage_lmdb *s, uint64_t first);
/* Drops all segments that begin at or behind `index`, newest first, each durably before the next;
 * only the very oldest one stays (its rows are the writer's to delete). 0 or a code. [writer] */
int segments_truncate(struct storage_lmdb *s, uint64_t index);
/* Behind a gap that is new in all->gaps: drops what begins in it or behind it, and deletes the rows
 * of the segment that reaches into it (for lack of room they stay, and nobody reads them). The
 * writer is stopped, no segment is active afterwards. [shard] */
void segments_start_anew(struct storage_lmdb *s);
/* The active segment now holds up to `last`. [writer] */
void segments_grown(struct storage_lmdb *s, uint64_t last, int64_t oldest_ms, int64_t newest_ms);
/* Drops whole old segments; see storage_ops.retain. [writer] */
void segments_retain(struct storage_lmdb *s, uint64_t upto_index, int64_t before_ms);
/* Deletes the open segment's rows from `first` on, which are void: nothing but the file changes. 0
 * or a code. [shard] [filler] */
int segment_delete_from(struct storage_lmdb *s, struct segment *segment, uint64_t first);
/* A new segment, open, for what begins at `first`; it is in the list only after segments_insert().
 * NULL with a code; nothing is left then. [writer] [filler] */
struct segment *segment_make(struct storage_lmdb *s, uint64_t first, int *code);
/* Throws it away, with its directory, instead. */
void segment_abandon(struct storage_lmdb *s, struct segment *segment);
/* At its place in the list. all->lock held. */
void segments_insert(struct segments *all, struct segment *segment);
/* Deletes what is named *.trash and no longer in use. [state], and before the threads start */
void segments_empty_trash(struct storage_lmdb *s);

/* -- gaps (gaps.c); all under segments.lock or gaps_lock but gaps_load(), gaps_commit() and
 * gaps_shrink() */
/* Reads the rows of the vote's environment. -1 with a sentence. */
int gaps_load(struct storage_lmdb *s, char *error, size_t error_bytes);
/* Adds records kept+1..marker to the rows, durably, and then to the list. 0 or a code; nothing
 * changed then. gaps_lock held, takes segments.lock. [shard] */
int gaps_commit(struct storage_lmdb *s, uint64_t kept, uint64_t marker);
/* Has the row of a gap begin with `next`, durably; it goes when that is behind its end. The list is
 * the caller's to change. 0 or a code; nothing changed then. gaps_lock held. [filler] */
int gaps_shrink(struct storage_lmdb *s, const struct log_gap *gap, uint64_t next);
uint64_t gaps_floor(const struct segments *all); /* end of the newest; 0 = none */
/* Whether retention has dropped what lies behind it: nothing joins what would fill it, then, and it
 * lacks nowhere. All that are older are past, too. Its row goes with the next install. */
bool gaps_is_past(const struct segments *all, const struct log_gap *gap);
/* As gaps_floor() for whoever only reads a shard's directory, beside the node that writes it. Any
 * thread. */
uint64_t gaps_end_in(const char *directory);
/* The gap that holds `index`; NULL = none. */
const struct log_gap *gaps_find(const struct segments *all, uint64_t index);
/* The oldest gap that begins behind `index`; NULL = none. */
const struct log_gap *gaps_behind(const struct segments *all, uint64_t index);

/* -- how far the log has come (reached.c) */
/* At open, behind the journal: refuses with a sentence (-1) when the log does not reach as far any
 * more, or the journal is not there that it needs, and brings the row up to date. `unfinished`: an
 * install is, which takes the end of the log with it. */
int reached_open(struct storage_lmdb *s, bool unfinished, char *error, size_t error_bytes);
/* Durable on return; ends the process on failure. [writer], or [shard] while that is stopped */
void reached_index(struct storage_lmdb *s, uint64_t index);
/* The same, of the journal that is in use from now on; 0 = none any more. [journal], or before the
 * threads start */
void reached_journal(struct storage_lmdb *s, uint64_t identity);
/* In each other transaction that writes to the vote's environment. 0 or a code. */
int reached_restamp(struct storage_lmdb *s, MDB_txn *txn);

int log_writer_start(struct storage_lmdb *s);
void log_writer_stop(struct storage_lmdb *s);
/* Stops it; what is queued is thrown away. It can be started again. [shard] */
void log_writer_discard(struct storage_lmdb *s);
/* The lowest index of all that is queued and may not be durable; UINT64_MAX = none. [shard] */
uint64_t log_writer_queued_min(struct storage_lmdb *s);
uint64_t log_writer_append(struct storage *base, struct record *records);
void log_writer_retain(struct storage *base, uint64_t upto_index, int64_t before_ms);
/* One LMDB transaction; see log_commit.c. [writer] */
struct log_batch {
    struct record *first;      /* linked; `count` of them */
    uint32_t count;
    uint64_t bytes;            /* on disk, without LMDB's own */
    int64_t oldest_ms, newest_ms;
    bool sealed;               /* their checksums are there, and others read them */
};
int log_commit(struct storage_lmdb *s, const struct log_batch *batch);
/* Deletes the rows from `first` on. 0 or a code. */
int log_rows_delete(MDB_cursor *cursor, uint64_t first);

/* The longest run of consecutive records, `first` and on, that comes to at most `bytes_max` (one
 * record may be larger). An index that goes back ends it. */
void log_cut_batch(struct record *first, uint64_t bytes_max, struct log_batch *batch);
void log_count_commit(struct log_writer *w, uint64_t bytes, int64_t took_ns);
/* They are durable: to the completions. [journal] or [writer], never both at a time */
void log_tell(struct storage_lmdb *s, const struct log_batch *batch);
/* Under w->lock: puts linked records behind what is queued, and wakes the writer if it is time. */
void log_hand_over(struct log_writer *w, struct record *first, struct record *last, uint64_t count,
                   uint64_t bytes, bool eager);
/* Waits until all that was handed over is in the environment. False = it gave up for lack of room;
 * with `unless_full` also while it waits for room. w->lock held. */
bool log_await_applied(struct log_writer *w, bool unless_full);
/* Waits until the environment has what is in the tail now. False = there is no room for it. */
bool log_await_tail(struct storage_lmdb *s);

/* -- log_journal.c */
/* At open, behind the segments: what the journal holds becomes the tail. -1 with a sentence. */
int log_journal_open(struct storage_lmdb *s, char *error, size_t error_bytes);
/* Behind the writer's start; ends with it. 0 or errno. */
int log_journal_start(struct storage_lmdb *s);
/* w->lock held: linked records. [shard] */
void log_journal_queue(struct log_journal *j, struct record *first, struct record *last);
/* Harmless when it was not started. */
void log_journal_stop(struct storage_lmdb *s);
/* Everything that is queued goes into the environment, and the journal says that nothing is left.
 * [shard] False = there is no room for it now. */
bool log_journal_settle(struct storage_lmdb *s);

/* -- log_tail.c; [any] */
void log_tail_init(struct log_tail *t);
void log_tail_fini(struct log_tail *t);
/* Room for so many more; false without memory. [journal], and before the threads start */
bool log_tail_reserve(struct log_tail *t, uint32_t count);
/* Linked records at the end, for which there is room; those at or behind their first index go. */
void log_tail_put(struct log_tail *t, struct record *first, uint32_t count);
/* They are in the environment now. */
void log_tail_drop(struct log_tail *t, const struct record *first, uint32_t count);
/* Up to `max` records from `index` on, held for the caller; *range = what there was. */
uint32_t log_tail_take(struct log_tail *t, uint64_t index, struct record **records, uint32_t max,
                       struct log_tail_range *range);
struct log_tail_range log_tail_range(struct log_tail *t);

int log_read(struct storage *base, uint64_t first, uint64_t last,
             bool (*visit)(void *arg, const struct record_header *record, const void *payload),
             void *arg, char *error, size_t error_bytes);

#define STATE_MARKER_KEY "marker" /* in meta */
extern const char *const state_table_names[STATE_TABLES];
/* header->checksum of a snapshot. */
uint64_t state_snapshot_checksum(const struct snapshot_header *header, const void *block);
/* A cursor's row is this checksum (of name and value) and the value. */
uint64_t state_cursor_checksum(const struct checkpoint_cursor *c);
int state_open(struct storage_lmdb *s, bool log_is_whole, char *error, size_t error_bytes);
/* Opens the state anew after an install; ends the process when it is not sound. */
void state_reopen(struct storage_lmdb *s);
int state_open_tables(struct storage_lmdb *s, MDB_txn *txn, unsigned flags);
/* Marker, counts and youngest order as the transaction sees them. 0 or a code. */
int state_meta_of(struct storage_lmdb *s, MDB_txn *txn, struct storage_meta *meta);
int state_meta(struct storage_lmdb *s, struct storage_meta *meta, char *error, size_t error_bytes);
int state_table_of(uint8_t actor_kind);   /* enum state_table; -1 = no such kind */
uint8_t state_row_kind(int table, MDB_val value); /* kind of actor that a row should hold */
/* What is wrong with a stored snapshot; NULL = nothing. */
const char *state_snapshot_fault(MDB_val value, uint8_t kind, const void *key);
int state_visit_actors(struct storage *base, uint8_t actor_kind,
                       bool (*visit)(void *arg, const void *block, uint32_t bytes), void *arg,
                       char *error, size_t error_bytes);
int state_visit_cursors(struct storage *base,
                        bool (*visit)(void *arg, const struct checkpoint_cursor *cursor), void *arg,
                        char *error, size_t error_bytes);
/* 0, -1 damaged with a sentence, or ENOMEM. [any] */
int state_read_block(struct storage_lmdb *s, uint8_t actor_kind, const struct id128 *key,
                     void **block, uint32_t *bytes, char *error, size_t error_bytes);
/* Sorts what the checkpoint holds. 0 or ENOMEM. [state] */
int checkpoint_order(struct storage_lmdb *s, const struct checkpoint *c,
                     struct checkpoint_order *order);
void checkpoint_order_free(struct checkpoint_order *order);
/* Puts all of it into the open transaction. 0 or a code. [state] */
int state_put_checkpoint(struct storage_lmdb *s, MDB_txn *txn, const struct checkpoint *c,
                         const struct checkpoint_order *order);

/* What is wrong with a cursor's row; NULL = nothing. *c gets the cursor. */
const char *state_cursor_fault(MDB_val key, MDB_val value, struct checkpoint_cursor *c);

/* -- state_file.c: storage_ops.export_state and check_state */
int state_export(struct storage *base, const char *path, const atomic_bool *stop,
                 struct storage_meta *meta, char *error, size_t error_bytes);
int state_check(struct storage *base, const char *path, struct storage_meta *meta, char *error,
                size_t error_bytes);
/* Only identity and marker. */
int state_file_marker(struct storage_lmdb *s, const char *path, struct storage_meta *meta,
                      char *error, size_t error_bytes);
void exports_init(struct exports *x);
void exports_fini(struct exports *x);
void exports_end(struct storage_lmdb *s); /* ends all, lets none begin until `stop` is reset */
void exports_wait_to_grow(struct storage_lmdb *s); /* until none runs [state] */
void exports_grown(struct storage_lmdb *s);
/* For a short read that does not wait: false = the map grows, or the state goes away. */
bool exports_try(struct storage_lmdb *s);
void exports_leave(struct exports *x);

/* -- fill.c: storage_ops.gap and fill */
bool fill_gap(struct storage *base, uint32_t position, struct storage_gap *gap);
enum storage_filled fill_records(struct storage *base, const void *records, size_t bytes,
                                 char *error, size_t error_bytes);

/* -- scrub.c: storage_ops.scrub */
enum storage_scrub scrub_piece(struct storage *base, struct storage_scrub_place *place,
                               uint64_t bytes_max, struct storage_scrubbed *scrubbed);

/* -- install.c */
int install_state(struct storage *base, const char *path, uint64_t committed_index, char *error,
                  size_t error_bytes);
/* At open, before the segments are: is an install committed and not finished? Throws away what was
 * prepared and never committed. */
bool install_is_open(struct storage_lmdb *s);
/* Puts its state into its place. */
void install_finish(struct storage_lmdb *s);

/* Opens the environment. *fresh = it has never been written: vote_create() then. */
int vote_open(struct storage_lmdb *s, bool *fresh, char *error, size_t error_bytes);
int vote_create(struct storage_lmdb *s, char *error, size_t error_bytes);
/* Writes the vote as it stands a few times, so that all pages it needs are there. 0 or a code. */
int vote_warm_up(struct storage_lmdb *s);
/* Has the identity say this format, durably. Not fresh. 0 or a code. */
int vote_set_format(struct storage_lmdb *s, uint32_t format);
int vote_meta(struct storage_lmdb *s, uint64_t *term, uint64_t *voted_for, char *error,
              size_t error_bytes);
void vote_save(struct storage *base, uint64_t term, uint64_t voted_for);
/* Reads or, when `*fresh` comes back true, lacks the identity row; -1 = refused with a sentence.
 * *format is the highest that may be, then the one that is. */
int identity_check(struct storage_lmdb *s, MDB_txn *txn, MDB_dbi table, const char *path,
                   uint32_t *format, bool *fresh, char *error, size_t error_bytes);
int identity_put(struct storage_lmdb *s, MDB_txn *txn, MDB_dbi table, uint32_t format);

int checkpoint_start(struct storage_lmdb *s);
void checkpoint_stop(struct storage_lmdb *s);
void checkpoint_queue(struct storage *base, struct checkpoint *checkpoint);
void checkpoint_trash_waits(struct storage_lmdb *s); /* wakes the thread to delete it [any] */

int loader_start(struct storage_lmdb *s);
void loader_stop(struct storage_lmdb *s); /* what is queued is not done */
void loader_load(struct storage *base, uint8_t actor_kind, const struct id128 *key);
void loader_load_timers(struct storage *base, int64_t from_ms, int64_t to_ms, uint32_t max);

void completions_init(struct completions *d);
void completions_fini(struct completions *d); /* frees blocks that nobody took */
void completions_reset(struct storage_lmdb *s); /* forgets all; the threads are stopped */
void completions_appended(struct storage_lmdb *s, uint64_t index, uint64_t sequence);
void completions_full(struct storage_lmdb *s, bool full);
void completions_checkpoint(struct storage_lmdb *s, struct checkpoint *c, bool ok);
void completions_load(struct storage_lmdb *s, const struct storage_event *event); /* may wait */
uint32_t completions_poll(struct storage *base, struct storage_event *events, uint32_t max);

#endif
