/* The simulated twin of persistence/lmdb: a disk in memory under a virtual clock and a seed.
 *
 * `struct storage_memory` is the disk: it survives a crash. storage_memory_open() gives a handle,
 * the `struct storage` that a shard works with; one at a time. Nothing happens by itself: writes
 * that were queued finish, in order, when storage_memory_advance() says that their time has come.
 *
 * What survives storage_memory_crash(): everything durable; the vote (synced by contract); of the
 * queued appends a random prefix, call by call; the checkpoint in flight, and an export or install
 * in which it died, wholly or not at all. A torn record may lie behind the prefix: open() drops it,
 * as a database that ends at its last good page does, unless `keeps_torn` is set; then read() has
 * to find and name it. With a journal: what is in its file, of which the real recovery makes the
 * log's end; of the frames that were queued a prefix, and any part of the next one.
 *
 * Judging: the disk also checks what it is asked to do. The first thing that no correct shard would
 * ask for is kept as a sentence (storage_memory_fault). One thread. */
#ifndef JUMUN_TEST_STORAGE_MEMORY_H
#define JUMUN_TEST_STORAGE_MEMORY_H

#include "persistence/storage.h"

struct storage_memory;

/* Where export_state() puts its files: those of the whole world, so that a simulator can carry one
 * from node to node. A name is just a name. They survive all crashes. */
struct storage_memory_files;

struct storage_memory_files *storage_memory_files_new(void);
void storage_memory_files_free(struct storage_memory_files *files); /* after all its disks */
/* False = there is no such file. A file that has the name already is replaced. */
bool storage_memory_files_copy(struct storage_memory_files *files, const char *from,
                               const char *to);
bool storage_memory_files_remove(struct storage_memory_files *files, const char *path);
bool storage_memory_files_corrupt(struct storage_memory_files *files, const char *path);
/* The files that a disk works with. */
struct storage_memory_files *storage_memory_files(const struct storage_memory *disk);
uint64_t storage_memory_files_bytes(const struct storage_memory_files *files,
                                    const char *path); /* about; 0 = no such file */

struct storage_memory_options {
    uint64_t seed;
    uint32_t shard;                     /* a file of another shard's state is refused */
    struct storage_memory_files *files; /* NULL = some of its own */
    int64_t append_ms_max, checkpoint_ms_max, load_ms_max; /* 0..max, drawn for each; 0 = at once */
    uint32_t torn_percent;                                 /* of crashes that lost an append */
    bool keeps_torn;
    /* A journal of so many blocks in front of the log, at least 8; 0 = none. Then a torn write is a
     * torn frame of it, and the log is at most late_ms_max behind. */
    uint32_t journal_blocks;
    int64_t late_ms_max;
    bool lone_voter;          /* judge that no two processes write records of one term */
    uint32_t segment_records; /* retain() drops whole segments of so many; 0 = 64 */
    /* planted faults, for canaries */
    bool acks_early;        /* STORAGE_APPENDED when queued, not when durable (records of
                               events) */
    bool skips_one;         /* each read() leaves out one record of events */
    bool loses_checkpoints; /* says that they are durable, and throws actors away */
    bool forgets_votes;     /* keeps the term, and not whom it voted for */
    bool keeps_tail;        /* a rewrite of the log leaves what lies behind it */
    bool journal_forgotten; /* nobody looks into the journal after a crash */
    bool journal_early;     /* the journal is told that the log has what it has not */
    bool journal_trusts;    /* a torn frame is believed; with debug checks only */
};

struct storage_memory_counters {
    uint64_t operations, appends, records, transactions, checkpoints, loads, crashes,
        lost_appends, survived_appends, torn_records, exports, installs, filled, frames, rounds,
        torn_frames, replayed;
};

struct storage_memory *storage_memory_new(const struct storage_memory_options *options);
void storage_memory_free(struct storage_memory *disk);
struct storage *storage_memory_open(struct storage_memory *disk);

/* The process is gone: the fate of what was not durable is decided now, while whoever queued it
 * still lives. Then close the shard; the handle does nothing any more, and the next open() frees
 * it. */
void storage_memory_crash(struct storage_memory *disk);

/* From now on the handle does nothing any more, as if the process had died here; the caller ends
 * its work and calls storage_memory_crash(). Comes by itself inside the `operations`-th operation
 * from now (before or after its effect, by chance). 0 = never. */
void storage_memory_crash_in(struct storage_memory *disk, uint64_t operations);
bool storage_memory_is_crashed(const struct storage_memory *disk);

/* Virtual time. next = when something will finish, INT64_MAX = nothing is under way. */
void storage_memory_advance(struct storage_memory *disk, int64_t mono_ms);
int64_t storage_memory_next_ms(const struct storage_memory *disk);

void storage_memory_set_full(struct storage_memory *disk, bool full);
void storage_memory_set_stuck(struct storage_memory *disk, int64_t until_ms); /* nothing finishes */
void storage_memory_set_slow(struct storage_memory *disk, int64_t extra_ms_max);
bool storage_memory_corrupt_record(struct storage_memory *disk, uint64_t index);
bool storage_memory_corrupt_actor(struct storage_memory *disk, uint8_t kind,
                                  const struct id128 *key);
/* One bit of what the next start needs of the journal, which must refuse then; false = it needs
 * nothing of which that could be told. */
bool storage_memory_corrupt_journal(struct storage_memory *disk);
void storage_memory_corrupt_timers(struct storage_memory *disk); /* listings fail from now on */

/* What a judge may know. First and last: of the log behind the newest gap; behind an install that
 * nothing follows yet the last is the gap's end and the first one more. */
uint64_t storage_memory_durable_last(const struct storage_memory *disk);
uint64_t storage_memory_durable_first(const struct storage_memory *disk); /* 0 = never written */
uint64_t storage_memory_marker(const struct storage_memory *disk);        /* 0 = none */
/* Where the newest gap begins and ends; false = there is none. */
bool storage_memory_gap(const struct storage_memory *disk, uint64_t *first, uint64_t *last);
/* Any stored record, in front of a gap too; NULL = it is not stored. */
const struct record_header *storage_memory_record(const struct storage_memory *disk, uint64_t index,
                                                  const void **payload);
/* Damage was met, and told to who asked: somebody reads that in the node's log. */
bool storage_memory_damage_was_told(const struct storage_memory *disk);
const char *storage_memory_fault(const struct storage_memory *disk); /* NULL = none */
struct storage_memory_counters storage_memory_counters(const struct storage_memory *disk);

#endif
