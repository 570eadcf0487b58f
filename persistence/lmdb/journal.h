/* The journal of one log: where a commit becomes durable with one write and one flush, before the
 * log writer puts many commits into the log's LMDB environment together. A fixed file, written once
 * when it is made, so that a commit changes no metadata of the file system.
 *
 *   block 0        header: whose it is, and a random identity
 *   blocks 1..n    a ring of frames; a frame is consecutive blocks: a header, then records as they
 *                  lie in the log, one behind the other, each padded to 8 bytes
 *
 * A frame tells its own number and how far the log's environment had come when it was written: all
 * frames up to `applied` are in there, synced. Room is used again only once a durable frame says
 * so; what a crash leaves to be done are the frames behind the newest frame's `applied`, and they
 * are all there: each is durable before the next is begun. A frame that was being written counts as
 * never written; nobody was told of it.
 *
 * One thread at a time. */
#ifndef JUMUN_PERSISTENCE_LMDB_JOURNAL_H
#define JUMUN_PERSISTENCE_LMDB_JOURNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persistence/record.h"

enum { JOURNAL_BLOCK = 4096, JOURNAL_FORMAT = 1 };

/* Little endian, as they lie on disk. Checksums are XXH3-64 of all bytes behind themselves. */
struct journal_header {
    uint64_t checksum;
    uint8_t magic[8];          /* "jumunjrn" */
    uint32_t format, shard;
    uint64_t bytes;            /* of the file */
    uint64_t identity;         /* random; every frame carries it */
};
struct journal_frame_header {
    uint64_t checksum;
    uint64_t identity;
    uint64_t sequence;         /* 1, 2, ... */
    uint64_t applied;          /* frames up to this one are in the log's environment */
    uint64_t digest;           /* of the records' checksums, in order */
    uint32_t payload_bytes;    /* behind this header, padding included */
    uint32_t records;          /* 0 = it only tells `applied` */
    uint64_t spare[2];
};
static_assert(sizeof(struct journal_header) == 40, "frozen");
static_assert(sizeof(struct journal_frame_header) == 64, "frozen");

/* A frame that may still be needed. */
struct journal_frame { uint64_t sequence, begin, end, records_end; };

/* What a journal lies on: a file (journal_file.c), or what a simulator has instead. The calls
 * return 0 or errno. */
struct journal_device {
    int (*read)(void *arg, void *data, size_t bytes, uint64_t offset); /* all of it */
    /* Whole blocks, aligned like them; durable when it returns 0. Else any of the blocks may have
     * been written, or a part of one. */
    int (*write)(void *arg, const void *data, size_t bytes, uint64_t offset);
    int (*sync)(void *arg);    /* what was read stays */
    void (*close)(void *arg);
    void *arg;
    uint64_t bytes;            /* its size */
#ifdef JUMUN_DEBUG_CHECKS
    bool trusts;               /* a planted fault: a frame counts by its header alone */
#endif
};

struct journal {
    bool open;
    struct journal_device device;
    uint64_t identity;
    uint64_t blocks;           /* of the ring */
    uint64_t next;             /* block where the next frame may begin, counted on and on */
    uint64_t sequence;         /* of the newest frame */
    uint64_t applied;          /* as the newest frame tells */
    bool clear;                /* the newest frame says that nothing is left */
    uint64_t records;          /* in all frames written or found since the journal was opened */
    struct journal_frame *frames; /* a ring of `blocks`: those behind `applied`, oldest first */
    uint64_t frames_first, frames_count;
    uint8_t *buffer;
    size_t frame_bytes_max;
};

/* Makes the file at `path`: written as a whole, synced, and only then given its name. Gives the
 * disk a rest between its parts, as nobody waits for it; `stop`, looked at between them, ends it
 * early. 0 or errno; no file then. */
int journal_make(const char *path, uint32_t shard, uint64_t bytes, const atomic_bool *stop);

#define JOURNAL_ANY_SHARD UINT32_MAX

/* What lies behind `applied` in the file, in order, linked by next; *records may be NULL then. Only
 * reads. 0, ENOENT without a file, or -1 with a sentence: another shard's, damaged. */
int journal_read(const char *path, uint32_t shard, struct record **records, char *error,
                 size_t error_bytes);

/* The same, and opens the file to go on behind its newest frame. */
int journal_open(struct journal *j, const char *path, uint32_t shard, struct record **records,
                 char *error, size_t error_bytes);
/* A closed one (all zero) may be closed again. */
void journal_close(struct journal *j);

/* Both on any device, which is called `name` in sentences. An opened journal closes its device,
 * also when opening fails. */
int journal_read_on(const struct journal_device *device, const char *name, uint32_t shard,
                    struct record **records, char *error, size_t error_bytes);
int journal_open_on(struct journal *j, const struct journal_device *device, const char *name,
                    uint32_t shard, struct record **records, char *error, size_t error_bytes);
/* What begins block 0 of an empty one; all else is zero. */
void journal_header_make(struct journal_header *header, uint32_t shard, uint64_t bytes,
                         uint64_t identity);

/* The log that a journal stands in front of, as it was found. */
struct journal_log {
    uint64_t first, last;      /* behind the newest gap, as segments_range() tells */
    uint64_t floor;            /* end of the newest gap; 0 = none */
    bool (*has)(void *arg, const struct record *r); /* the very same record? */
    void *arg;
};

/* Behind open: leaves of the records those which the log lacks, in order and consecutive, and makes
 * the journal count them. -1 with a sentence when both do not fit together; the records are gone
 * then. */
int journal_recover(struct journal *j, const struct journal_log *log, const char *name,
                    struct record **records, char *error, size_t error_bytes);

/* Bytes that the records of a frame take; a record of more than journal_frame_bytes() alone cannot
 * go through the journal. */
size_t journal_record_bytes(const struct record *r);
static inline size_t journal_frame_bytes(const struct journal *j) { return j->frame_bytes_max; }

/* The log's environment holds the first `records` of journal.records, synced. */
uint64_t journal_applied(const struct journal *j, uint64_t records);

/* Whether a frame of so many bytes of records may be written now. */
bool journal_has_room(const struct journal *j, size_t bytes);

/* Writes a frame with `count` linked records (sealed), or with none to tell `applied`. Durable when
 * it returns 0; else errno, and the frame counts as never written. */
int journal_write(struct journal *j, const struct record *first, uint32_t count, uint64_t applied);

/* Of linked records, all. */
void journal_free_records(struct record *records);
/* A formatted sentence into error (may be NULL); returns -1. */
__attribute__((format(printf, 3, 4))) int journal_error(char *error, size_t error_bytes,
                                                        const char *format, ...);

#endif
