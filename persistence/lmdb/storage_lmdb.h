/* The real storage: one directory per shard, LMDB environments inside, threads of its own.
 *
 *   LOCK                       held (flock) by the process that has the directory open
 *   vote/                      term and vote; written by save_vote() on the shard's own thread;
 *                              and, seldom, gaps (install.c, fill.c) and how far the log has come
 *                              (reached.c) by who changes that
 *   state/                     actor snapshots, timers, cursors, marker; written by the
 *                              checkpoint thread, read by the loader thread
 *   journal                    the newest records on their way into the log; see journal.h
 *   log-<first index>/         one environment per segment; written by the log writer thread, in
 *                              front of a gap by whoever fills that; see fill.c
 *   state.<index>.new/         a state that is being installed; see install.c
 *   *.trash, *.damaged         on its way out; set aside
 *
 * docs/formats.md shows every byte by example.
 *
 * Durability: LMDB's default, one data sync and one synced meta page per transaction, never less.
 * Group commit: everything that was queued since the last commit goes into one. With a journal a
 * commit is one synced write into it; the log writer follows with larger transactions some
 * milliseconds later, and read() takes from memory what it has not written yet.
 *
 * Lack of room (ENOSPC, EDQUOT, a floor of free disk, memory) is told and waited out. Every other
 * failed write or sync ends the process with a sentence: what LMDB and the kernel hold in memory
 * may then differ from the disk, and only a restart reads the disk again. */
#ifndef JUMUN_PERSISTENCE_STORAGE_LMDB_H
#define JUMUN_PERSISTENCE_STORAGE_LMDB_H

#include "persistence/storage.h"

/* Where a test can step in; sorted by the life of a record. */
enum storage_lmdb_point {
    STORAGE_POINT_LOG_COMMIT = 1,      /* before a log transaction commits; may fail it */
    STORAGE_POINT_SEGMENT_CREATED,     /* a new segment's directory is there, nothing in it */
    STORAGE_POINT_SEGMENT_DROPPED,     /* a truncated segment is renamed, the next step not done */
    STORAGE_POINT_STATE_COMMIT,        /* before a checkpoint commits; may fail it */
    STORAGE_POINT_VOTE_COMMIT,         /* before a vote commits; may fail it */
    STORAGE_POINT_LOAD,                /* the loader is about to read one actor */
    STORAGE_POINT_ALLOCATE,            /* before an allocation; non-zero = no memory */
    STORAGE_POINT_EXPORT_COMMIT,       /* before a part of an exported state commits; may fail it */
    STORAGE_POINT_INSTALL_READY,       /* the new state lies beside the old one; may fail it */
    STORAGE_POINT_INSTALL_COMMIT,      /* before the gap's row commits; may fail it */
    STORAGE_POINT_INSTALL_COMMITTED,   /* from here on an install is finished by whoever opens */
    STORAGE_POINT_INSTALL_CUT,         /* before the uncommitted tail is deleted; may fail it */
    STORAGE_POINT_INSTALL_ASIDE,       /* the old state is renamed, the new one not yet */
    STORAGE_POINT_INSTALL_SWITCHED,    /* the new state is in its place */
    STORAGE_POINT_JOURNAL_MADE,        /* a new journal is there; may keep it from being used */
    STORAGE_POINT_JOURNAL_WRITE,       /* before a frame is written; may fail it */
    STORAGE_POINT_FILL_COMMIT,         /* before records for a gap commit; may fail it */
    STORAGE_POINT_FILL_COMMITTED,      /* they are there, and the gap's row says they are not */
    STORAGE_POINT_FILL_SHRINK,         /* before the gap's new row commits; may fail it */
    STORAGE_POINT_FILL_DONE,           /* it is committed */
    STORAGE_POINT_REACHED_COMMIT       /* before it is saved how far the log has come */
};

struct storage_lmdb_options {
    const char *directory;      /* of this shard; its parent must exist, it is made if missing */
    uint32_t shard;             /* written into the directory; another shard's is refused */
    uint64_t segment_bytes_max; /* 0 = SEGMENT_BYTES_MAX */
    uint64_t journal_bytes;     /* size of a journal that is to be made, at least 8 blocks of 4096;
                                   0 = without: one that is there is emptied and removed */
    int64_t segment_ms_max;     /* by entry times; 0 = SEGMENT_MS_MAX */
    uint32_t batch_bytes_max;   /* 0 = LOG_BATCH_BYTES_MAX */
    uint64_t log_map_bytes;     /* first size of a segment's map; grows by itself; 0 = a whole
                                   segment, so that it never has to */
    uint64_t state_map_bytes;   /* first size of the state's map; grows by itself; 0 = 1 GiB */
    uint64_t room_floor_bytes;  /* free disk below which appends wait; 0 = the limit's; checkpoints
                                   stop at half of it */
    bool let_go;                /* nothing that is written stays in memory, mapped or cached: for a
                                   program that makes a directory for others and reads little of it
                                   back */
    /* For tests; NULL = none. Called at each point from whichever thread is there; non-zero = fail
     * there with this errno or LMDB code. May block, and may end the process. */
    int (*fault)(void *arg, enum storage_lmdb_point point);
    void *fault_arg;
};

/* Opens (and makes) a shard's directory and starts its threads. NULL with a sentence in error that
 * names the directory and what is wrong: another process has it open, it is a newer format's or
 * another shard's, the log has a hole or lacks its end, the journal is gone, the state is lost and
 * the log does not reach back to 1. */
struct storage *storage_lmdb_open(const struct storage_lmdb_options *options, char *error,
                                  size_t error_bytes);

/* storage_ops.export_state for a directory that another process has open and goes on using (or
 * nobody): nothing in it is changed, and it needs no lock that the other one holds. While it runs,
 * that one cannot use freed pages of its state again, so its file grows a little. Not for a
 * directory that is open in this process. */
int storage_lmdb_export(const char *directory, uint32_t shard, const char *path,
                        const atomic_bool *stop, struct storage_meta *meta, char *error,
                        size_t error_bytes);

/* Whether the stored state has the very rows of a file that check_state() found good; the marker
 * and what it carries may differ. No checkpoint may be under way. 0, or -1 with a sentence. */
int storage_lmdb_same_rows(struct storage *s, const char *path, bool *same, char *error,
                           size_t error_bytes);

/* storage_ops.check_state without an open storage. */
int storage_lmdb_check(uint32_t shard, const char *path, struct storage_meta *meta, char *error,
                       size_t error_bytes);

#endif
