/* The boundary between a shard and its disk: log, vote, actor snapshots. One vtable, two twins:
 * persistence/lmdb/ (real, with a log writer thread and a checkpoint thread) and
 * tests/world/storage_memory.c (simulated: crashes, torn and lost unsynced writes, full, slow).
 *
 * Threads: every call is made by the shard's thread unless it says otherwise. Calls that end in
 * "queue" return at once; their outcome comes from poll(). Whenever poll() will have something to
 * say, the storage calls `wake` (from any of its own threads).
 *
 * Failure: lack of room is told (STORAGE_LOG_FULL / STORAGE_LOG_ROOM) and recovers by itself; the
 * queued appends stay queued and are written once there is room. Any other failed write or sync
 * ends the process: after a failed sync nothing that was written may be believed. */
#ifndef JUMUN_PERSISTENCE_STORAGE_H
#define JUMUN_PERSISTENCE_STORAGE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "actors/actor.h"
#include "persistence/record.h"

struct storage;

/* Read by load_meta(), at start-up and whenever a replica forgets its memory and recovers (then the
 * shard has no checkpoint, load or listing under way). All zero on an empty directory. */
struct storage_meta {
    uint64_t term, voted_for;          /* the vote */
    /* The log that consensus may use: all of it, or what lies behind the newest gap, see
     * install_state(). 0,0 = nothing was ever written; log_last == log_first - 1 = nothing behind
     * an installed state yet. */
    uint64_t log_first, log_last;
    /* The newest checkpoint marker: every actor snapshot reflects at least `applied_index`; some
     * may reflect more (their last_index says so: replay skips what they have). */
    uint64_t applied_index, applied_term;
    uint64_t configuration_index;      /* of the newest committed RAFT_CHANGE at or below it */
    uint32_t configuration_bytes;      /* 0 = none yet */
    uint8_t configuration[4096];
    int64_t orders_birth_max_ms;       /* birth time of the youngest stored order key; 0 = none */
    uint64_t orders_count, stores_count;
};

/* One snapshot that a checkpoint puts or deletes. */
struct checkpoint_item {
    struct id128 key;
    uint8_t kind;                      /* enum actor_kind */
    bool remove;
    int64_t old_deadline_ms;           /* the row that stands in `timers` for it, 0 = none */
    int64_t new_deadline_ms;           /* the row that shall stand there, 0 = none */
    uint32_t bytes;                    /* of the block */
    uint32_t offset;                   /* of the block in checkpoint.blocks, 8-byte aligned */
};

/* Named cursors of the shard (outbox, seen messages): small opaque values, written with the
 * checkpoint that they belong to. */
struct checkpoint_cursor { char name[24]; uint32_t bytes; uint8_t value[64]; };

/* A background transaction. The shard fills it, hands it over, and has it back from poll(). */
struct checkpoint {
    struct checkpoint_item *items;  uint32_t items_count;
    uint8_t *blocks;                uint32_t blocks_bytes;
    struct checkpoint_cursor *cursors; uint32_t cursors_count;
    uint64_t applied_index, applied_term;   /* the new marker; may equal the old one */
    uint64_t configuration_index;
    uint32_t configuration_bytes; const uint8_t *configuration; /* lives as long as it */
    void *owner;                            /* the shard's own use */
};

enum storage_event_kind {
    STORAGE_APPENDED = 1,     /* all records up to `index` (in append order) are durable */
    STORAGE_LOG_FULL = 2,     /* no room on disk or in the map: appends wait */
    STORAGE_LOG_ROOM = 3,     /* there is room again */
    STORAGE_CHECKPOINTED = 4, /* `checkpoint` is durable, or (not ok) had no room: hand it again */
    STORAGE_LOADED = 5,       /* answer to load(): `block` (to be given back with release_block), or
                                 NULL with ok = true when there is no such actor, or ok = false when
                                 what is stored is damaged (already reported by name) */
    STORAGE_TIMER_LOADED = 6  /* answer to load_timers(): one pending deadline; key, deadline_ms */
};

struct storage_event {
    uint8_t kind;
    bool ok;
    bool damaged;             /* STORAGE_TIMER_LOADED, not ok: the table cannot be read, deadlines
                                 may be missing (already reported by name) */
    uint8_t actor_kind;
    uint64_t index;
    uint64_t sequence;        /* STORAGE_APPENDED: appends queued up to and with this call are
                                 durable; see append() */
    struct checkpoint *checkpoint;
    struct id128 key;
    int64_t deadline_ms;
    void *block; uint32_t block_bytes;
};

struct storage_stats {
    uint64_t log_bytes, state_bytes;        /* on disk */
    uint64_t log_first, log_last, segments; /* all that is stored, older than a gap too */
    uint64_t gaps, gap_first, gap_last;     /* how many; the newest: records that are not stored,
                                               because an installed state stands for them. Those
                                               that retention has passed are not among them */
    uint64_t gap_records;                   /* not stored in all of them together */
    uint64_t filled_records;                /* of gaps, by fill(), since the open */
    uint64_t commits, commit_bytes, commit_ns, commit_ns_max;  /* log writer transactions, summed */
    uint64_t appends_waiting, appends_waiting_bytes;
    uint64_t checkpoints, checkpoint_items, loads;
    uint64_t room_bytes;                    /* free on the file system */
    bool full;
};

/* Records first..last are not stored: an installed state stands for them. */
struct storage_gap {
    uint64_t first, last;
    bool opens;               /* nothing is stored in front of it: what fills it may begin anywhere
                                 inside, and what lies in front of that is given up */
    int64_t installed_ms;     /* all of them are older */
};

enum storage_filled {
    STORAGE_FILLED,
    STORAGE_FILL_MOOT,        /* no gap begins there (any more): look at the gaps anew */
    STORAGE_FILL_NO_ROOM,     /* try it again later */
    STORAGE_FILL_REFUSED      /* these records cannot be what belongs there; nothing changed */
};

/* Where scrub() goes on. All zero: at the beginning, or with `next`, at that record of the log. */
struct storage_scrub_place {
    uint64_t next;            /* of the log: the next record */
    uint8_t part;             /* 0 = the log; then those of the stored state, the storage's own */
    bool again;               /* something was wrong in this piece: it is looked at once more */
    uint8_t key_bytes;        /* of the state: the last row that was looked at */
    uint8_t key[64];
};

/* Something that is not as it was written. */
struct storage_damage {
    const char *kind;         /* "record_damaged", ..., "state_damaged": frozen names */
    char where[28];           /* "log-00000000000000000001", "state/orders" */
    uint64_t index, upto;     /* the records that it concerns; 0 = none by number */
    char what[160];           /* a sentence */
};

enum { STORAGE_DAMAGES_MAX = 16 };

/* What a piece came to. */
struct storage_scrubbed {
    uint64_t bytes;           /* read for it, from the disk or from memory */
    uint32_t count;           /* of what is wrong in it; more than fit are left out */
    struct storage_damage damage[STORAGE_DAMAGES_MAX];
};

enum storage_scrub {
    STORAGE_SCRUB_MORE,       /* go on with the place */
    STORAGE_SCRUB_DONE,       /* that was the last piece; the place is at the beginning again */
    STORAGE_SCRUB_LATER       /* memory or descriptors lack, or the state is being replaced: nothing
                                 is known of this piece, the place stays */
};

struct storage_ops {
    /* Reads everything start-up needs besides the log entries. 0, or -1 with a sentence in
     * error. */
    int (*load_meta)(struct storage *s, struct storage_meta *meta, char *error, size_t error_bytes);

    /* Visits stored log records first..last in order, checked. Any thread. Returns 0; 1 when visit
     * returned false; -1 with a sentence naming index and fault (then nothing at or behind that
     * index was visited). `record` and `payload` are valid during the visit. */
    int (*read)(struct storage *s, uint64_t first, uint64_t last,
                bool (*visit)(void *arg, const struct record_header *record, const void *payload),
                void *arg, char *error, size_t error_bytes);

    /* Visits all stored actors of a kind, checked; any order. Start-up only. */
    int (*visit_actors)(struct storage *s, uint8_t actor_kind,
                        bool (*visit)(void *arg, const void *block, uint32_t bytes), void *arg,
                        char *error, size_t error_bytes);
    int (*visit_cursors)(struct storage *s,
                         bool (*visit)(void *arg, const struct checkpoint_cursor *cursor),
                         void *arg, char *error, size_t error_bytes);

    /* One actor at once, synchronously: for recovery only (the shard never waits for a disk while
     * it serves). *block is malloc'ed, to be given back with release_block; NULL = no such
     * actor. */
    int (*read_actor)(struct storage *s, uint8_t actor_kind, const struct id128 *key, void **block,
                      uint32_t *bytes, char *error, size_t error_bytes);
    void (*release_block)(struct storage *s, void *block);

    /* Persists term and vote, synced, before it returns. Elections only. Ends the process on
     * failure. */
    void (*save_vote)(struct storage *s, uint64_t term, uint64_t voted_for);

    /* Queues records (linked by next, indices consecutive) for the log, FIFO. An index at or below
     * the last one queued first truncates from there, in the same transaction. Takes over one
     * reference of each record. Returns the call's sequence number (1, 2, ...). */
    uint64_t (*append)(struct storage *s, struct record *records);

    /* Queues a checkpoint. The storage owns it until it comes back. */
    void (*checkpoint)(struct storage *s, struct checkpoint *checkpoint);

    /* Queues the load of one actor. Gives exactly one STORAGE_LOADED, and load_timers() exactly one
     * end, unless install_state() or close() comes first: who counts them knows when none is under
     * way any more. */
    void (*load)(struct storage *s, uint8_t actor_kind, const struct id128 *key);

    /* Queues the listing of all stored deadlines in [from_ms, to_ms), at most `max`; each comes as
     * a STORAGE_TIMER_LOADED, then one with ok = false as the end (deadline_ms = where it
     * stopped; `damaged` = rows may be missing). */
    void (*load_timers)(struct storage *s, int64_t from_ms, int64_t to_ms, uint32_t max);

    /* Takes up to `max` finished things. Never blocks. */
    uint32_t (*poll)(struct storage *s, struct storage_event *events, uint32_t max);

    /* Drops whole segments whose records are all older than `before_ms` (entry times) and at or
     * below `upto_index`. Queued; no outcome. */
    void (*retain)(struct storage *s, uint64_t upto_index, int64_t before_ms);

    /* Writes the stored state, as it is at one moment, to the new file `path`, for a replica that
     * the log does not reach any more, or a backup. The file is a state environment of its own
     * (docs/formats.md) with its marker, which *meta tells (log fields: zero). `stop`, looked at
     * now and then, ends it early. Any thread but the shard's; takes as long as it takes, holds no
     * read transaction longer than the local copy needs. 0, or -1 with a sentence (no file then).
     */
    int (*export_state)(struct storage *s, const char *path, const atomic_bool *stop,
                        struct storage_meta *meta, char *error, size_t error_bytes);

    /* Checks a file made by export_state(): whole, of this shard, every row's checksum right. Any
     * thread. 0 with *meta, or -1 with a sentence. */
    int (*check_state)(struct storage *s, const char *path, struct storage_meta *meta, char *error,
                       size_t error_bytes);

    /* Puts a checked file in the place of the state and starts the log anew behind its marker, as
     * one step: a crash leaves all as before or all done. Stored history up to the old commit stays
     * for readers; between it and the marker is a gap, which is recorded. First finishes or throws
     * away all that is queued (poll() reports nothing of it afterwards); no checkpoint may be under
     * way. Then load_meta() tells the new state, and the next record appended is the one behind its
     * marker. Shard's thread, synchronous. `committed_index`: what the caller had committed; the
     * marker must be newer. 0: the file is the storage's, and gone from `path`. -1 with a sentence:
     * there is no room, or the file cannot be opened; nothing changed. Ends the process when the
     * disk fails. */
    int (*install_state)(struct storage *s, const char *path, uint64_t committed_index,
                         char *error, size_t error_bytes);

    /* The gap at `position`, from the newest (0) on; false = there is none that could be filled:
     * where retention has dropped what lay behind a gap, that one and the older ones are past, and
     * stats() alone counts them. Any thread. */
    bool (*gap)(struct storage *s, uint32_t position, struct storage_gap *gap);

    /* Puts committed records of another replica into a gap, from its front, durably: they lie one
     * behind the other as in the log, each padded to 8 bytes (the feed's form), and the first is
     * the gap's first, or, where it opens, any inside. What stands behind the gap's end is left
     * out. Each is checked: its checksum, its shard, that it follows the one before, and that terms
     * do not go back up to the log behind the gap. On return they can be read, and the gap begins
     * behind them, or is gone: load_meta() then tells of more log. A crash leaves that, or the gap
     * as it was. Any thread but the shard's, one at a time, none at close(); an install_state()
     * waits for it. `error` gets a sentence unless STORAGE_FILLED. Ends the process when the disk
     * fails. */
    enum storage_filled (*fill)(struct storage *s, const void *records, size_t bytes, char *error,
                                size_t error_bytes);

    /* Reads a piece, about `bytes_max`, of what is stored and may not be read for a long time, and
     * looks whether it is as it was written: the log but for its newest segment, then the stored
     * state. Changes nothing. What is wrong is told when a second look at the same piece finds it
     * too: what is dropped, cut or filled meanwhile is no damage. Any thread but the shard's, one
     * at a time, none at close(). */
    enum storage_scrub (*scrub)(struct storage *s, struct storage_scrub_place *place,
                                uint64_t bytes_max, struct storage_scrubbed *scrubbed);

    void (*stats)(struct storage *s, struct storage_stats *stats); /* any thread */

    /* Finishes what is queued (log first), closes and frees. */
    void (*close)(struct storage *s);
};

struct storage {
    const struct storage_ops *ops;
    void (*wake)(void *arg);  /* see above; may be NULL (simulator) */
    void *wake_arg;
};

#endif
