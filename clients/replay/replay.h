/* jumun-replay: what its commands share.
 *
 * A command is a row in the table of replay_commands.c: its name, its options, its help and its
 * function. Every one takes --json, and shows progress on stderr when that is a terminal. */
#ifndef JUMUN_REPLAY_REPLAY_H
#define JUMUN_REPLAY_REPLAY_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>

#include "clients/cli/args.h"
#include "clients/cli/output.h"
#include "clients/replay/fold.h"
#include "clients/replay/source.h"

/* Frozen: scripts lean on them. */
enum replay_exit {
    REPLAY_DONE = 0,
    REPLAY_FOUND = 1,          /* faults or differences were found */
    REPLAY_USAGE = 2,
    REPLAY_FAILED = 3,         /* something cannot be read, written or reached */
    REPLAY_NOT_THERE = 4,      /* no such order, or the log does not hold what was asked for */
    REPLAY_OTHER_CLUSTER = 5,  /* what is compared is not of the same cluster */
    REPLAY_STOPPED = 130,
    REPLAY_READER_GONE = OUTPUT_READER_GONE
};

struct replay {
    bool json, quiet, color, color_errors;
    uint32_t threads;          /* at most so many shards at a time */
    uint64_t memory_bytes_max; /* of actors, all shards together */
    const char *scratch;
    const struct replay_command *command;
    struct args args;
    struct source source;      /* opened by replay_open_source() */
    int64_t patience_ms;       /* how long a node may be away; 0 = not told yet */
};

struct replay_command {
    const char *name, *arguments, *summary, *details, *examples;
    const struct args_option *options;
    int positionals_min, positionals_max;
    int (*run)(struct replay *r);
};

extern const struct replay_command replay_commands[]; /* ends with a NULL name */
extern const struct args_option replay_global_options[];

int replay_main(int argc, char **argv);
void replay_print_help(const struct replay *r, const struct replay_command *command, FILE *out);
void replay_print_overview(const struct replay *r, FILE *out);


/* "jumun-replay: sentence" on stderr. replay_usage() returns REPLAY_USAGE. With --json the last
 * sentence of a command that fails is also the end of standard output, unless a report is there. */
void replay_error(const struct replay *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int replay_usage(const struct replay *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define REPLAY_STYLE(r, code) ((r)->color ? "\x1b[" code "m" : "")
#define REPLAY_PLAIN(r) ((r)->color ? "\x1b[0m" : "")

/* Positional i, NULL if absent. */
const char *replay_word(const struct replay *r, int i);
/* Opens positional 0, and sees that the records which --from, --to and --at name are there.
 * REPLAY_DONE, or the status to leave with. */
int replay_open_source(struct replay *r);
/* Whether a source has lost a shard (source_lost_shard(), source_lost_log()), and --shard names
 * none that is left; told. */
bool replay_lacks_shard(const struct replay *r, struct source *source);
/* The same with what a fold of logs that were cut begins with (source_fetch_states()). */
int replay_open_folded(struct replay *r);
/* Whether a feed that is read has failed; told, once for each source. */
bool replay_source_failed(const struct replay *r, const struct source *source);
/* Fetches what a fold of `source` begins with. REPLAY_DONE, or told. */
int replay_fetch_states(const struct replay *r, struct source *source);
/* Reads --name as a moment (kind MOMENT_NONE when it is absent). False after the error was
 * printed. */
bool replay_moment(const struct replay *r, const char *name, struct moment *moment);
/* Of a source that is open: do the logs have the shards and records that option --name, a moment,
 * tells of? A record without a shard is to be in the longest log. REPLAY_DONE, or REPLAY_NOT_THERE
 * after it was told. */
int replay_moment_reached(const struct replay *r, struct source *source, const char *name,
                          const struct moment *moment);
/* Whether a source is of another cluster than r->source, as far as both tell; told. Two logs that
 * begin with the same record are of one, whatever a rebuilt directory calls itself. */
bool replay_other_cluster(const struct replay *r, const struct source *other);
bool replay_int(const struct replay *r, const char *name, int64_t *value);
bool replay_key(const struct replay *r, const char *text, struct id128 *key);

/* The time from which an order is looked at whose history was read up to a moment: now when none
 * was given; for an index that of the newest event by then. */
struct replay_history;
int64_t replay_moment_ms(const struct moment *moment, const struct replay_history *history);

/* Prints JSON, indented on a terminal, and releases it. Returns `status`. */
int replay_print_json(json_t *json, int status);
/* The same of one of several: what goes wrong later is told behind it. */
void replay_print_one(json_t *json);
/* The name of a key for people and scripts: 26 characters; "" for zero. */
const char *replay_key_text(const struct id128 *key, char text[27]);

/* -- work that goes by shards ------------------------------------------------------------- */

/* What all threads of a piece of work share. */
struct replay_work {
    struct replay *replay;
    atomic_ullong done, total; /* of whatever `unit` says */
    atomic_bool stop;          /* Ctrl-C, or one of them failed */
    void *arg;
};

/* Calls run(work, i) for i = 0 .. count - 1 in up to replay->threads threads, and draws progress
 * meanwhile. `label`: "verifying"; `unit`: "records". Returns the worst status. */
int replay_run(struct replay *r, uint32_t count, const char *label, const char *unit,
               uint64_t total, int (*run)(struct replay_work *work, uint32_t i), void *arg);
/* Counts `n` units. False when the work is to stop. */
bool replay_progress(struct replay_work *work, uint64_t n);
/* Ctrl-C was pressed, or standard output takes no more: there is nobody to work for. */
bool replay_interrupted(void);

/* Folds a shard from its beginning up to `upto` (UINT64_MAX: all that is there) and tells
 * progress in records. REPLAY_DONE, or the status to leave with (told). */
int replay_fold(struct replay_work *work, const struct source_shard *shard, struct fold *fold,
                uint64_t upto);
/* A fold that begins where it can: with the log's first record, or, where the log was cut, with a
 * stored state that is exact at `upto` or earlier. NULL after the error was told (*status). */
struct fold *replay_fold_begin(struct replay *r, const struct source_shard *shard,
                               const struct fold_options *options, uint64_t upto, int *status);
/* Options of a fold for one of several shards at a time. */
struct fold_options replay_fold_options(const struct replay *r, const struct source_shard *shard);
/* Whether a log does not begin with its first record. */
bool replay_log_is_cut(const struct source_shard *shard);

/* -- orders out of the log ---------------------------------------------------------------- */

/* An event of one order or store, copied. */
struct replay_event {
    uint64_t index, offset;
    int64_t time_ms;
    char segment[28];
    struct event *event;       /* malloc'ed */
};
struct replay_history {
    struct replay_event *events; /* oldest first */
    uint32_t count, capacity;
    bool whole;                /* begins with version 1 */
};

/* All events of a subject up to `upto`. The stored state and the events' own links make it a few
 * reads; without a state the log is read through. 0, or -1 with a sentence. */
int replay_history_read(const struct source_shard *shard, const struct id128 *subject,
                        uint64_t upto, struct replay_history *history, char *error,
                        size_t error_bytes);
/* The same where it is known that the subject's newest event before record `scan_from` is in record
 * `newest` (0 = there is none before it). */
int replay_history_from(const struct source_shard *shard, const struct id128 *subject,
                        uint64_t newest, uint64_t scan_from, uint64_t upto,
                        struct replay_history *history, char *error, size_t error_bytes);
void replay_history_free(struct replay_history *history);

/* The order as it was after the events of a history up to `upto`; malloc'ed. NULL when there is
 * none or (*fault) it cannot be built. */
struct actor *replay_order_build(const struct replay_history *history, uint64_t upto,
                                 const char **fault);

/* Finds the shard whose log has the order's key. REPLAY_DONE, or told. */
int replay_find_order(struct replay *r, const struct id128 *key, uint64_t upto_none,
                      const struct moment *at, struct source_shard **shard,
                      struct replay_history *history);

/* -- the commands, by file ---------------------------------------------------------------- */
int replay_verify(struct replay *r);
int replay_hash(struct replay *r);
int replay_show(struct replay *r);
int replay_history(struct replay *r);
int replay_state(struct replay *r);
int replay_diff(struct replay *r);
int replay_export(struct replay *r);
int replay_republish(struct replay *r);
int replay_stats(struct replay *r);
int replay_build(struct replay *r);  /* rebuild and restore */
int replay_backup(struct replay *r);
int replay_what_if(struct replay *r);
int replay_play(struct replay *r);
int replay_completion(struct replay *r);
int replay_help(struct replay *r);

#endif
