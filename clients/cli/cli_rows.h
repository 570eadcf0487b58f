/* Rows out of replicas into a file of another system's liking. */
#ifndef JUMUN_CLI_CLI_ROWS_H
#define JUMUN_CLI_CLI_ROWS_H

#include "clients/cli/cli_cluster_of.h"
#include "engine/limits.h"

enum rows_format { ROWS_JSONL, ROWS_CSV, ROWS_MSGPACK };
enum { ROWS_PATH_BYTES = 4096, ROWS_FIELDS_BYTES = 2048, ROWS_COMMAND_BYTES = 128 };

struct rows {
    FILE *out;
    enum rows_format format;
    const char *fields[CLI_FIELDS_MAX];
    uint32_t fields_count;     /* 0 = whole orders, but for CSV, which has columns of its own */
    char fields_given[ROWS_FIELDS_BYTES];  /* --fields as it stood there; "" = none */
    bool no_heading;
    char path[ROWS_PATH_BYTES];/* of the output, from the root; "" = standard output */
    bool regular;              /* a file that can be cut */
    bool made;                 /* there was no such file */
    bool begun;                /* rows_begin() was here */
    bool named;                /* its name is durable */
    uint64_t there;            /* what was in it when it was opened */
    uint64_t written, bytes;   /* bytes: where the file ends now */
    uint64_t written_before;   /* of `written`, by an earlier command: --rate does not count them */
    int64_t per_second;        /* 0 = as fast as it goes */
    uint64_t started_ns;
};

/* --format, --fields, --rate, --no-heading. False after the error was printed. */
bool rows_options(struct cli *cli, struct rows *rows);
/* Opens `path` (NULL = standard output), and changes nothing in it. False after the error was
 * printed. */
bool rows_open(struct cli *cli, struct rows *rows, const char *path);
/* What is written from now on stands behind the first `at` bytes of the file; what else was in it
 * goes. With a CSV's heading, if this is where the output begins. False after the error was
 * printed. */
bool rows_begin(struct cli *cli, struct rows *rows, uint64_t at);
/* Writes all rows of an answer that are not nil; waits when they come too fast, or until a signal
 * comes. False: the file cannot be written. */
bool rows_write(struct rows *rows, const jumun_answer *answer);
/* The status for an output that cannot be written; says so, unless its reader has seen enough. */
int rows_failed(struct cli *cli, const struct rows *rows);
/* All that was written is on its way to the disk. */
bool rows_flush(struct rows *rows);
/* All that was written is on the disk, where it is a file: before tokens tell of it. */
bool rows_sync(struct rows *rows);
/* Cuts a file to its first `at` bytes again, if it was begun: what was written since is not to
 * stay. */
void rows_undo(struct rows *rows, uint64_t at);
/* A file that was not there before and was not begun goes again. */
bool rows_close(struct rows *rows);
/* As --format has it. */
const char *rows_format_name(enum rows_format format);

/* -- how far a copy got ------------------------------------------------------------------------ */

/* In a file that is replaced as a whole:
 *   {"tokens": [[shard, index], ...], "done": bool, "replica": str, "snapshot": n, "cursor": hex,
 *    "bytes": n, "rows": n, "cluster": hex, "output": path, "format": str, "fields": str,
 *    "writing": bool, "command": str}
 * Those from "cluster" on are missing in older files, and "" then. */
struct rows_state {
    jumun_token tokens[CLI_TOKENS_MAX];
    uint32_t tokens_count;
    bool done;
    char replica[ENDPOINT_BYTES_MAX];
    uint64_t snapshot;
    uint64_t bytes, rows;      /* bytes: where the output ends */
    uint8_t cursor[CLI_CURSOR_BYTES];
    uint32_t cursor_bytes;
    char cluster[CLUSTER_ID_BYTES];
    char output[ROWS_PATH_BYTES], format[8], fields[ROWS_FIELDS_BYTES];
    bool writing;              /* changes are being written: `bytes` is where they began */
    char command[ROWS_COMMAND_BYTES];  /* whose place it is: "import --full", "import --since",
                                          "watch store/s1" */
};
/* Whether the file that holds `state` may be moved by a command whose place begins with `command`
 * ("import ", "watch store/s1"): an older file is anybody's. False after the error was printed. */
bool rows_state_is_ours(struct cli *cli, const char *path, const struct rows_state *state,
                        const char *command);
/* One command at a time keeps its tokens in a file: `path`.lock is held while it runs, also over
 * the death of the process. -1 after the error was printed; else for rows_state_unlock(). */
int rows_state_lock(const struct cli *cli, const char *path);
void rows_state_unlock(const char *path, int lock);

/* False when there are no tokens that can be read (*exists tells whether there is a file); what
 * else it holds is read all the same. */
bool rows_state_load(const char *path, struct rows_state *state, bool *exists);
/* Whether it is the place of a full copy that was stopped: what lies behind it has not come, so its
 * tokens are nothing to go on from. */
bool rows_state_is_stopped(const struct rows_state *state);
/* The same, and then a sentence is printed. */
bool rows_state_is_unfinished(struct cli *cli, const char *path, const struct rows_state *state);
/* Notes by which command what is written and where to. */
void rows_state_describe(struct rows_state *state, const struct rows *rows, const char *command);
/* Whether what was begun is gone on with: the same output, form and fields. False after the error
 * was printed, which names both. */
bool rows_state_fits(struct cli *cli, const char *path, const struct rows_state *state,
                     const struct rows *rows);
/* False: it cannot be written. What it tells of is on the disk before, see rows_sync(). */
bool rows_state_save(const char *path, const struct rows_state *state);

/* jumun import --since, by cli_import_since.c. */
int cli_import_since(struct cli *cli, struct rows *rows, const char *since, const char *output,
                     const char *tokens_path);

#endif
