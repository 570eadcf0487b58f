/* Rows out of replicas into a file of another system's liking. */
#ifndef JUMUN_CLI_CLI_ROWS_H
#define JUMUN_CLI_CLI_ROWS_H

#include "clients/cli/cli_query.h"

enum rows_format { ROWS_JSONL, ROWS_CSV, ROWS_MSGPACK };

struct rows {
    FILE *out;
    enum rows_format format;
    const char *fields[CLI_FIELDS_MAX];
    uint32_t fields_count;     /* 0 = whole orders, but for CSV, which has columns of its own */
    uint64_t written, bytes;   /* bytes: where the file ends now */
    int64_t per_second;        /* 0 = as fast as it goes */
    uint64_t started_ns;
};

/* --format, --fields, --rate. False after the error was printed. */
bool rows_options(struct cli *cli, struct rows *rows);
/* Opens `path` (NULL = standard output); `resume_at` > 0: goes on behind so many bytes of it. False
 * after the error was printed. */
bool rows_open(struct cli *cli, struct rows *rows, const char *path, uint64_t resume_at);
/* Writes all rows of an answer that are not nil; waits when they come too fast. False: the file
 * cannot be written. */
bool rows_write(struct rows *rows, const jumun_answer *answer);
/* All that was written is on its way to the disk. */
bool rows_flush(struct rows *rows);
bool rows_close(struct rows *rows);

/* How far a copy got, in a file that is replaced as a whole:
 *   {"tokens": [[shard, index], ...], "done": bool, "replica": str, "snapshot": n, "cursor": hex,
 *    "bytes": n, "rows": n} */
struct rows_state {
    jumun_token tokens[CLI_TOKENS_MAX];
    uint32_t tokens_count;
    bool done;
    char replica[256];
    uint64_t snapshot, bytes, rows;
    uint8_t cursor[512];
    uint32_t cursor_bytes;
};
/* One command at a time keeps its tokens in a file: `path`.lock is held while it runs, also over
 * the death of the process. -1 after the error was printed; else for rows_state_unlock(). */
int rows_state_lock(const struct cli *cli, const char *path);
void rows_state_unlock(const char *path, int lock);

/* False when there is none that can be read (*exists tells which). */
bool rows_state_load(const char *path, struct rows_state *state, bool *exists);
/* Whether it is the place of a full copy that was stopped: what lies behind it has not come, so its
 * tokens are nothing to go on from. Then a sentence is printed. */
bool rows_state_is_unfinished(struct cli *cli, const char *path, const struct rows_state *state);
bool rows_state_save(const char *path, const struct rows_state *state);

/* jumun import --since, by cli_import_since.c. */
int cli_import_since(struct cli *cli, struct rows *rows, const char *since, const char *output,
                     const char *tokens_path);

#endif
