/* The disk of a replica: one LMDB environment with `orders`, a table for each view, and `meta`,
 * which holds the positions that all of it reflects. Rows and positions change in one transaction:
 * each event counts exactly once, also after a kill -9.
 *
 * Durability. A replica's rows can be made again from the logs, so its transactions are not synced
 * (MDB_NOSYNC): the page cache keeps them over the death of the process, in order. It does not over
 * the death of the machine. So the directory says under which boot of the machine it was written;
 * opened under another one without having been closed in good order, it is thrown away whole and
 * built anew. `synced` makes every transaction durable instead, at the price of the disk.
 *
 * In front of the disk lie up to two tables in memory (overlay.h): the active one takes what the
 * applier publishes, the frozen one is being written to the disk. What is published can be read at
 * once; the death of the process takes it away, and it comes again from the logs, because the
 * disk's positions are its own.
 *
 * One thread publishes, one at a time writes the disk. Any thread reads, between view_read_begin()
 * and view_read_end(), memory and disk as one: a reader sees one moment, blocks nobody and is
 * blocked by nobody. */
#ifndef JUMUN_REPLICA_VIEW_STORE_H
#define JUMUN_REPLICA_VIEW_STORE_H

#include <lmdb.h>
#include <pthread.h>

#include "engine/limits.h"
#include "engine/replica/overlay.h"

/* Why orders of a shard may be missing among the rows. Numbers of the disk. */
enum view_lack {
    VIEW_WHOLE = 0,
    VIEW_IMPORTING = 1,        /* an import is half done */
    VIEW_BUILDING = 2          /* begun from nothing, and not up to date once since then */
};

/* What the rows reflect of one shard. */
struct view_position {
    uint32_t shard;
    uint32_t lacks;            /* enum view_lack: why rows may be missing */
    uint64_t index;            /* all entries up to here, and nothing of any behind */
    uint64_t counted_from;     /* sums count entries from here on; 1 = all there ever were */
    int64_t time_ms;           /* when the newest applied entry was decided; 0 = none yet */
};

struct view_store_options {
    const char *directory;     /* made when it is not there */
    uint64_t map_bytes;        /* 0 = 256 GiB of addresses; no memory is taken for it */
    bool synced;
    int lock_fd;               /* of view_store_lock(), the store's from now on; 0 = it is taken */
};

/* A view has two tables. Which of them answers stands in `meta`, so that every reader sees one
 * moment in this too; the other is empty, or is being built. */
struct view_table {
    MDB_dbi sides[2];
    uint32_t generation;       /* side generation % 2 answers; 0 = none does yet. The writer's */
    bool building;             /* the other side. The writer's */
};

struct view_store {
    MDB_env *env;
    MDB_dbi orders, meta;
    struct view_table tables[VIEWS_COUNT];
    pthread_mutex_t lock;      /* guards what is down to `newest_read`, and `holders` */
    MDB_txn *idle[64];         /* reset read transactions, to be renewed */
    uint32_t idle_count;
    uint64_t number;           /* of the newest publication */
    const struct view_position *positions; /* of it; NULL = as the disk has them */
    uint32_t positions_count;
    struct overlay *active, *frozen; /* frozen: NULL = none */
    struct view_read *oldest_read, *newest_read; /* of those that have begun; NULL = none */
    char cluster_id[CLUSTER_ID_BYTES]; /* "" = not known yet */
    char directory[1024];
    int lock_fd;
    bool synced;
    uint64_t map_bytes;
};

/* Makes the directory and its lock, which keeps every other replica away as long as the descriptor
 * is open. -1 with a sentence. */
int view_store_lock(const char *directory, char *error, size_t error_bytes);
/* Gives it back; views that are not there leave neither file nor directory behind. */
void view_store_unlock(const char *directory, int lock_fd);

/* Opens; makes what is missing. NULL with a sentence in error (locked by another process, not
 * writable, damaged, a newer layout's). */
struct view_store *view_store_open(const struct view_store_options *options, char *error,
                                   size_t error_bytes);

/* Syncs, says that it was closed in good order, and frees. No reader is left. */
void view_store_close(struct view_store *store);
/* The same without freeing, for a process that is about to exit. Nothing is written after it. */
void view_store_settle(struct view_store *store);

static inline MDB_val view_val(const void *data, size_t size) {
    return (MDB_val){size, (void *)(uintptr_t)data};
}

/* -- reading (view_read.c) --------------------------------------------------------------------- */

/* One moment of memory and disk. */
struct view_read {
    struct view_read *older, *newer; /* of all there are now: it must not move */
    MDB_txn *txn;
    struct overlay *tables[2];     /* newest first; NULL = none */
    uint64_t number;               /* what is published later is not seen */
    const struct view_position *positions; /* NULL = the disk's */
    uint32_t positions_count;
};

/* False when there are no reader slots or no memory: the caller answers OVERLOADED. */
bool view_read_begin(struct view_store *store, struct view_read *read);
void view_read_end(struct view_store *store, struct view_read *read);

/* The disk's table that answers for a view; false while it is being built for the first time. */
bool view_table_of(struct view_store *store, const struct view_read *read, enum view_number view,
                   MDB_dbi *table);

/* All positions, sorted by shard; unaligned, valid as long as the read: copy. Returns their
 * number. */
uint32_t view_positions(struct view_store *store, const struct view_read *read,
                        const void **positions);
/* The same of the disk alone: what a start after a kill would begin with. */
uint32_t view_disk_positions(struct view_store *store, MDB_txn *txn, const void **positions);

/* An order: its block (unaligned, valid as long as the read) and its shard. False = none. */
bool view_order_get(struct view_store *store, const struct view_read *read,
                    const struct id128 *key, struct bytes *block, uint32_t *shard);

/* The rows of an index, in the order of their keys, of one group of orders; a group is what the
 * keys that are looked for begin with (of a store, in a state, ...). */
struct view_cursor {
    const struct view_read *read;
    enum view_number view;
    struct bytes key;              /* of the row at hand; valid until the cursor moves */
    MDB_cursor *cursor;
    int rc;                        /* of the disk's next row, which is: */
    MDB_val disk;
    /* A window of the changed orders' rows, sorted: those next behind `from`. However many orders
     * changed, only so many rows are made at a time. */
    struct overlay_group group;
    struct view_row { uint32_t slot, bytes; } *rows;
    uint32_t rows_count, rows_room, next;
    uint8_t *keys;                 /* VIEW_KEY_BYTES_MAX for each row's slot */
    uint8_t from[VIEW_KEY_BYTES_MAX];
    uint32_t from_bytes;
    bool filled, behind;           /* the window is one; `from` itself is not in it */
    bool more;                     /* there may be rows behind the window's last one */
    uint64_t last_ms;              /* BY_STATE: the window's end */
};
/* The group's text lives as long as the cursor. 0, MDB_NOTFOUND (the view is being built for the
 * first time), or another code. */
int view_cursor_open(struct view_cursor *cursor, struct view_store *store,
                     const struct view_read *read, enum view_number view,
                     const struct overlay_group *group);
/* The first row at or behind a key; the next one. False = there is none. */
bool view_cursor_seek(struct view_cursor *cursor, const void *key, size_t bytes);
bool view_cursor_next(struct view_cursor *cursor);
void view_cursor_close(struct view_cursor *cursor);

/* What is to be added to the disk's numbers of a SUM, under each key that is wanted: *sums (empty
 * before) gets it. False without memory. */
bool view_sums_recent(struct view_store *store, const struct view_read *read,
                      enum view_number view, bool (*want)(void *arg, struct bytes key), void *arg,
                      struct sums *sums);

/* What stands before a block in `orders`. */
struct view_order_row { uint32_t shard, spare; };

/* -- publishing (one thread) ------------------------------------------------------------------- */

/* What was put into the active table under `number` can be read from now on; it has these
 * positions, which live as long as the table. */
void view_publish(struct view_store *store, uint64_t number, const struct view_position *positions,
                  uint32_t positions_count);
/* The publication that the oldest reader sees: none will look behind it any more. */
uint64_t view_oldest(struct view_store *store);
/* The active table becomes the frozen one, and a new one active. False: there is a frozen one
 * still, or no memory. */
bool view_freeze(struct view_store *store);
/* The frozen table; NULL = none. It stays until view_thaw(). Any thread. */
struct overlay *view_frozen(struct view_store *store);

/* -- writing (one thread at a time) ------------------------------------------------------------ */

/* The frozen table is on disk: goes, as soon as nobody reads it any more. */
void view_thaw(struct view_store *store);

/* Begins the next transaction. Ends the process when that cannot be. */
MDB_txn *view_write_begin(struct view_store *store);
/* 0, or a code (a full disk or map): then nothing of it has happened. */
int view_write_commit(struct view_store *store, MDB_txn *txn);
void view_write_abort(struct view_store *store, MDB_txn *txn);

/* 0 or a code. */
int view_put_positions(struct view_store *store, MDB_txn *txn,
                       const struct view_position *positions, uint32_t count);
/* The newest table whose rows are in the transaction. */
int view_put_overlay(struct view_store *store, MDB_txn *txn, uint64_t id);
uint64_t view_disk_overlay(struct view_store *store, MDB_txn *txn);
int view_put_cluster_id(struct view_store *store, MDB_txn *txn, const char *cluster_id);

/* Blue and green: empties the side that does not answer, to be filled beside the other one; then
 * makes it the one that answers, and empties the old one. 0 or a code. */
int view_green_begin(struct view_store *store, MDB_txn *txn, enum view_number view);
int view_green_switch(struct view_store *store, MDB_txn *txn, enum view_number view);

/* Copies everything as it is at one moment into the new file `path`, without what is free in
 * between. Any thread; the pages of that moment are kept from reuse meanwhile. `stop` (or NULL)
 * ends it early: ECANCELED. 0 or a code; then there is no file. */
int view_store_copy(struct view_store *store, const char *path, const atomic_bool *stop);

/* A copy, opened to be read in place; several at a time do no harm. 0 or a code. */
struct view_copy { MDB_env *env; MDB_txn *txn; MDB_dbi orders, meta; };
int view_copy_open(struct view_copy *copy, const char *path);
void view_copy_close(struct view_copy *copy);
/* Its positions; returns their number. */
uint32_t view_copy_positions(struct view_copy *copy, struct view_position *positions, uint32_t max);

/* Puts a copy in the place of the views of a replica that has none yet, before they are opened. The
 * file is gone from `path` then. 0, or -1 with a sentence: it is no copy, or views are there. */
int view_store_adopt(const char *directory, const char *path, char *error, size_t error_bytes);

/* Bytes in use in the file. Any thread. */
uint64_t view_store_bytes(struct view_store *store);

#endif
