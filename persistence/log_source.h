/* The log of one shard as somebody else reads it: a tool, beside the node that writes it, or long
 * after. Read-only: nothing is repaired, nobody is waited for, and what is damaged is named and
 * stepped over.
 *
 * Works on a shard's directory, of a live node or of a copy, and on a single segment. Segments that
 * the node closes, begins or drops while it is read are followed. What is in the journal and not
 * yet in a segment is read as the end of the log. Others make sources of their own of what lies
 * elsewhere (log_source_ops.h): the same calls then read from there, and may wait.
 *
 * A source belongs to one thread while it is opened, refreshed and closed; its cursors may run in
 * any threads, one each. */
#ifndef JUMUN_PERSISTENCE_LOG_SOURCE_H
#define JUMUN_PERSISTENCE_LOG_SOURCE_H

#include <stdbool.h>

#include "persistence/record.h"

struct log_source;
struct log_cursor;

/* One segment as the directory lists it. */
struct log_source_segment {
    uint64_t first;            /* index that its name tells */
    uint64_t last;             /* the next segment's first - 1, or the newest record read */
    uint64_t bytes;            /* of its file */
    int64_t first_ms;          /* time of its oldest entry; 0 = it has none */
    char name[28];             /* "log-00000000000000000001" */
    bool is_newest;            /* it may still grow */
    uint8_t fault;             /* LOG_FAULT_CUT, LOG_FAULT_SEGMENT; 0 = its file is whole */
    bool unborn;               /* ... or a crash came while it was made: nothing was in it yet */
    char what[120];            /* of a fault: a sentence */
};

/* Opens the log in `directory`. NULL with a sentence when no log can be read there. */
struct log_source *log_source_open(const char *directory, char *error, size_t error_bytes);
void log_source_close(struct log_source *source);

/* Looks at the directory again. Cursors that are open go on with what they know. 0, or -1 with a
 * sentence. */
int log_source_refresh(struct log_source *source, char *error, size_t error_bytes);

const char *log_source_directory(const struct log_source *source);
uint32_t log_source_segments(const struct log_source *source,
                             const struct log_source_segment **list);
/* 0 and 0 when nothing is in it. As of the last refresh. Where the shard once took over a peer's
 * state, the log is what lies behind that gap; *last == *first - 1 when nothing does yet. */
void log_source_range(const struct log_source *source, uint64_t *first, uint64_t *last);
uint64_t log_source_bytes(const struct log_source *source);

/* What a source that lies elsewhere could not do any more: a sentence, and its cursors are at
 * LOG_END before their time. NULL = nothing, as always with directories. Any thread. */
const char *log_source_failure(const struct log_source *source);

/* The newest record whose entry is not younger than `time_ms`: 0 = all are younger. */
uint64_t log_source_index_at(struct log_source *source, int64_t time_ms);

/* What is wrong, frozen names: scripts lean on them. */
enum log_fault_kind {
    LOG_FAULT_DAMAGED = 1,     /* "record_damaged": checksum, length, format, another's index */
    LOG_FAULT_MISSING,         /* "record_missing": one or more indices are not there */
    LOG_FAULT_ORDER,           /* "record_order": an index stands behind a larger one */
    LOG_FAULT_PAGE,            /* "page_damaged": a page of the segment's tree */
    LOG_FAULT_SEGMENT,         /* "segment_unreadable", or a hole between two segments */
    LOG_FAULT_CUT              /* "segment_cut": of segments; steps name what is lost */
};
const char *log_fault_name(uint32_t kind);

enum log_step { LOG_END = 0, LOG_RECORD = 1, LOG_FAULT = 2, LOG_DROPPED = 3 };

/* What a step of a cursor met. */
struct log_item {
    uint64_t index;            /* of the record; of a fault: the first index that it concerns */
    uint64_t upto;             /* last index that it concerns */
    const char *segment;       /* its name, or "journal"; valid while the cursor is */
    uint64_t offset;           /* of the record, or of the page, in the segment's data.mdb */
    const struct record_header *header; /* valid until the next step; 8-byte aligned */
    const void *payload;       /* behind it */
    uint8_t fault;             /* enum log_fault_kind */
    bool passing;              /* ... but only memory or descriptors lacked: of what is stored it
                                  says nothing */
    char what[160];            /* of a fault: a sentence */
};

/* Reads the records first..last in order. `checked`: every record's checksum is looked at (else
 * only its shape: for a second pass). NULL without memory. */
struct log_cursor *log_cursor_open(struct log_source *source, uint64_t first, uint64_t last,
                                   bool checked);
void log_cursor_close(struct log_cursor *cursor);

/* LOG_RECORD, or LOG_FAULT (the next step goes on behind it), LOG_DROPPED (the node's retention
 * took item->index .. item->upto away meanwhile; no fault), LOG_END. */
enum log_step log_cursor_next(struct log_cursor *cursor, struct log_item *item);

/* Goes on with `first`..`last` instead. */
void log_cursor_seek(struct log_cursor *cursor, uint64_t first, uint64_t last);

#endif
