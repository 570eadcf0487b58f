/* What the halves of a backup share: backup.c copies, backup_now.c asks the node that runs on the
 * directory up to where. One thread but for the copying, which goes by shards. */
#ifndef JUMUN_REPLAY_BACKUP_H
#define JUMUN_REPLAY_BACKUP_H

#include "clients/replay/replay.h"
#include "clients/replay/settled.h"

/* The node that runs on the directory, and what it told last. */
struct backup_now {
    char url[ENDPOINT_BYTES_MAX];  /* "" = nobody is asked */
    char run[CLUSTER_ID_BYTES];    /* that the directory tells */
    bool named;                    /* by --node: then nothing is done without it */
    struct settled told;
    uint64_t floor[SHARDS_MAX];    /* what was committed when the run began: all that had been
                                      acknowledged lies at or before it */
};

struct backup {
    struct replay *replay;
    const char *target;
    uint64_t upto[SHARDS_MAX]; /* what is to be in the archive at the end, by place in the source */
    uint64_t stored[SHARDS_MAX]; /* what the stored states reflected before; 0 = not known */
    uint64_t added[SHARDS_MAX], bytes[SHARDS_MAX];
    bool bases;                /* --base: a stored state as well, even where it is not needed */
    bool settled;              /* the node told up to where */
    struct backup_now now;
};

/* Where shard i's archive ends so far; `begin` is its first record. 0 = it is empty. */
uint64_t backup_archived(const struct backup *b, uint32_t i, uint64_t *begin);
/* Looks at the logs anew and lowers `upto` until no shard's archive has seen what the archive of
 * another one does not hold as sent. REPLAY_DONE, or told. */
int backup_settle(struct backup *b);

/* Finds the node that runs on the directory and asks it for the first time. REPLAY_DONE, also when
 * there is none; REPLAY_FAILED, told, when --node names one that is not there, or another one. */
int backup_now_begin(struct backup *b);

/* Sets `upto` to what is settled by now, with all that was committed when the run began, and leaves
 * the logs as they were looked at when that was found to be there. REPLAY_DONE, or told;
 * BACKUP_NOW_NOBODY: the node went away, or cannot be followed, and --node did not ask for it. */
enum { BACKUP_NOW_NOBODY = -1 };
int backup_now_ends(struct backup *b);

#endif
