/* What the files of the simulated disk share. */
#ifndef JUMUN_TEST_STORAGE_MEMORY_PRIVATE_H
#define JUMUN_TEST_STORAGE_MEMORY_PRIVATE_H

#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/prng.h"
#include "persistence/lmdb/journal.h"
#include "tests/world/storage_memory.h"

enum { MEMORY_BUCKETS = 4096, MEMORY_EVENTS_MIN = 64 };

struct memory_record {
    uint8_t *data;
    uint32_t bytes;
};

/* History in front of a gap. */
struct memory_piece {
    uint64_t first, count;
    struct memory_record *records;
};

struct memory_gap {
    uint64_t first, last;
    int64_t installed_ms;
};

struct memory_marker {
    uint64_t applied_index, applied_term, configuration_index;
    uint32_t configuration_bytes;
    uint8_t configuration[4096];
};

struct memory_actor {
    struct memory_actor *next; /* bucket */
    struct id128 key;
    int64_t deadline_ms; /* its row in `timers`; 0 = none */
    uint8_t kind;
    bool damaged;
    uint32_t bytes;
    uint8_t *block;
};

struct memory_append {
    struct record *records;
    uint64_t sequence;
};

struct memory_tail {
    struct memory_record m;
    const struct record *of; /* among those that are late */
};

/* In front of the log, when the options have one; see storage_memory_journal.c. */
struct memory_journal {
    uint8_t *file; /* durable, as all of `bytes` */
    uint64_t bytes;
    bool rotten, tears;
    /* of the process: made of the file again behind a crash */
    struct journal journal;
    char error[256];          /* it cannot be read; "" = it can */
    uint64_t applied;         /* of journal.records: in the log */
    struct memory_append *late; /* commits that the log has not got yet, oldest first */
    uint32_t late_count, late_capacity;
    int64_t late_due_ms;
    struct memory_tail *tail; /* what is late, as it makes the log's end */
    uint64_t tail_first, tail_count, tail_capacity;
};

struct memory_load {
    struct memory_load *next;
    int64_t due_ms;
    struct id128 key;
    uint8_t kind;
};

struct memory_file { /* an exported state */
    struct memory_file *next;
    char *path;
    uint32_t shard;
    bool damaged;
    struct memory_actor *actors; /* linked by next */
    struct checkpoint_cursor *cursors;
    uint32_t cursors_count;
    struct memory_marker marker;
};

struct storage_memory_files {
    struct memory_file *first;
};

struct memory_open { /* the handle: dies with the process */
    struct storage storage;
    struct storage_memory *disk;
};

struct storage_memory {
    struct storage_memory_options options;
    struct prng prng;
    struct memory_open *open;
    int64_t now_ms, stuck_until_ms, slow_ms_max;
    bool full, crashed;
    uint64_t crash_at;
    struct storage_memory_files *files;
    bool owns_files;
    struct storage_memory_counters counters;
    char fault[256];
    bool told_damaged;
    /* durable */
    uint64_t term, voted_for;
    struct memory_journal journal;
    struct memory_record *log; /* log[i] has index log_first + i; what is late is not in it */
    uint64_t log_first, log_count, log_capacity;
    bool torn; /* the newest record is */
    bool timers_damaged;
    struct memory_actor *buckets[MEMORY_BUCKETS];
    struct checkpoint_cursor *cursors;
    uint32_t cursors_count;
    struct memory_marker marker;
    struct memory_piece *pieces; /* oldest first; each is followed by a gap */
    uint32_t pieces_count;
    struct memory_gap *gaps; /* oldest first; the log lies behind the newest */
    uint32_t gaps_count;
    /* of the handle */
    struct memory_append *appends;                     /* queued, oldest first */
    uint32_t appends_count, appends_capacity, writing; /* `writing` of them are one transaction */
    int64_t writing_due_ms;
    uint64_t sequence, queued_last;
    uint64_t queued_term, dead_term; /* newest term of a record queued; by a process that is gone */
    bool told_full;
    struct checkpoint *checkpoint;
    int64_t checkpoint_due_ms;
    struct memory_load *loads, **loads_tail;
    uint32_t loads_waiting;
    struct storage_event *events; /* what poll() will say */
    uint32_t events_head, events_count, events_capacity;
};

static inline struct storage_memory *disk_of(const struct storage *s) {
    return ((const struct memory_open *)(const void *)s)->disk;
}

#define disk_fault(d, ...)                                                                         \
    do {                                                                                           \
        if ((d)->fault[0] == 0) snprintf((d)->fault, sizeof(d)->fault, __VA_ARGS__);               \
    } while (0)

/* -- storage_memory.c */
bool disk_operation(struct storage_memory *d); /* false when the process has died before it */
int64_t disk_delay(struct storage_memory *d, int64_t ms_max);
void disk_tell(struct storage_memory *d, struct storage_event event);
void events_drop(struct storage_memory *d); /* nobody will poll them */
bool event_waits(const struct storage_memory *d, uint8_t kind);

/* -- storage_memory_log.c */
uint64_t log_last(const struct storage_memory *d);  /* with an empty log: the newest gap's end */
uint64_t log_first(const struct storage_memory *d); /* behind that gap; 0 = nothing, and no gap */
uint64_t log_floor(const struct storage_memory *d); /* that end; 0 = no gap */
const struct memory_record *log_find(const struct storage_memory *d, uint64_t index);
/* The same of the log behind the journal, without what is late. */
uint64_t env_last(const struct storage_memory *d);
uint64_t env_first(const struct storage_memory *d);
const struct memory_record *env_find(const struct storage_memory *d, uint64_t index);
/* Keeps what is at or below `kept` and begins anew behind `marker`; between them is a gap. */
void log_start_anew(struct storage_memory *d, uint64_t kept, uint64_t marker);
void log_put(struct storage_memory *d, const struct record *r, uint32_t bytes);
void append_release(struct memory_append *a);
void append_make_durable(struct storage_memory *d, struct memory_append *a);
void appends_drop(struct storage_memory *d, uint32_t count);
void log_start(struct storage_memory *d);
void log_tell_full(struct storage_memory *d); /* once, until there is room */
void log_finish(struct storage_memory *d);
uint64_t memory_append(struct storage *s, struct record *records);
int memory_read(struct storage *s, uint64_t first, uint64_t last,
                bool (*visit)(void *arg, const struct record_header *record, const void *payload),
                void *arg, char *error, size_t error_bytes);
void memory_retain(struct storage *s, uint64_t upto_index, int64_t before_ms);

/* -- storage_memory_journal.c */
void journal_new(struct storage_memory *d);
void journal_free(struct storage_memory *d);
void journal_load(struct storage_memory *d); /* as a process does that starts */
/* Writes all of it. False when the process has died: what is left is in `a`. */
bool journal_append(struct storage_memory *d, struct memory_append *a);
/* Whether it goes into the journal of a full disk: what an election writes does. */
bool journal_admits(const struct storage_memory *d, const struct memory_append *a);
bool journal_settle(struct storage_memory *d); /* nothing is late, and the journal says so */
void journal_work(struct storage_memory *d);   /* the log follows */
int64_t journal_next_ms(const struct storage_memory *d);
void journal_crash(struct storage_memory *d, uint32_t survive); /* so many of the queued calls */
void journal_end(struct storage_memory *d);    /* as a process does that ends in order */
void journal_flush(struct storage_memory *d);

/* -- storage_memory_state.c */
struct memory_actor **actor_find(const struct storage_memory *d, uint8_t kind,
                                 const struct id128 *key);
void checkpoint_make_durable(struct storage_memory *d, const struct checkpoint *c);
void checkpoint_finish(struct storage_memory *d);
void memory_checkpoint(struct storage *s, struct checkpoint *checkpoint);
void memory_load(struct storage *s, uint8_t actor_kind, const struct id128 *key);
void *block_copy(const struct memory_actor *a);
void load_finish(struct storage_memory *d, const struct memory_load *load);
void memory_load_timers(struct storage *s, int64_t from_ms, int64_t to_ms, uint32_t max);

/* -- storage_memory_fill.c */
bool memory_gap_is_past(const struct storage_memory *d, const struct memory_gap *gap);
bool memory_gap_at(struct storage *s, uint32_t position, struct storage_gap *gap);
enum storage_filled memory_fill(struct storage *s, const void *records, size_t bytes, char *error,
                                size_t error_bytes);

/* -- storage_memory_scrub.c */
enum storage_scrub memory_scrub(struct storage *s, struct storage_scrub_place *place,
                                uint64_t bytes_max, struct storage_scrubbed *out);

/* -- storage_memory_install.c */
void state_tell(const struct storage_memory *d, struct storage_meta *meta);
int memory_export_state(struct storage *s, const char *path, const atomic_bool *stop,
                        struct storage_meta *meta, char *error, size_t error_bytes);
int memory_check_state(struct storage *s, const char *path, struct storage_meta *meta, char *error,
                       size_t error_bytes);
int memory_install_state(struct storage *s, const char *path, uint64_t committed_index,
                         char *error, size_t error_bytes);

#endif
