/* What the commands that ask replicas share. */
#ifndef JUMUN_CLI_CLI_QUERY_H
#define JUMUN_CLI_CLI_QUERY_H

#include "clients/cli/cli.h"
#include "clients/sdk/jumun_query.h"

enum { CLI_FIELDS_MAX = 64, CLI_TOKENS_MAX = 256 };

/* --replica, JUMUN_REPLICA, or the default. */
const char *cli_replicas(const struct cli *cli);
/* NULL after the error was printed. */
jumun_queries *cli_queries(struct cli *cli, const char *replicas);

/* What --at-least, --max-age, --strict and --timeout demand; `tokens` is the caller's room. False
 * after a usage error was printed. */
bool cli_demand(struct cli *cli, jumun_demand *demand, jumun_token tokens[CLI_TOKENS_MAX]);

/* "0:17,1:4". False: it is none. */
bool cli_tokens_parse(const char *text, jumun_token tokens[CLI_TOKENS_MAX], uint32_t *count);
void cli_tokens_print(const jumun_token *tokens, uint32_t count, FILE *out);

/* A cursor as hexadecimal text, and back; empty = none. False: it is none. */
enum { CLI_CURSOR_BYTES = 512, CLI_CURSOR_TEXT_BYTES = 2 * CLI_CURSOR_BYTES + 1 };
bool cli_cursor_parse(const char *text, uint8_t cursor[CLI_CURSOR_BYTES], uint32_t *count);
void cli_cursor_text(const uint8_t *cursor, uint32_t count, char text[CLI_CURSOR_TEXT_BYTES]);

/* Every --state. A state that no list and no counter has is refused. False after the error was
 * printed. */
enum { CLI_STATES_MAX = 16 };
bool cli_states(struct cli *cli, uint8_t states[CLI_STATES_MAX], uint32_t *count);

/* --fields, cut in place; *count = 0 when it is absent. False after the error was printed. */
bool cli_fields(struct cli *cli, const char *fields[CLI_FIELDS_MAX], uint32_t *count);

/* Says on stderr why there is no answer; returns the exit status. */
int cli_query_failed(struct cli *cli, int code, const jumun_answer *answer);

/* What it is that answers at the address of a replica; CLI_REPLICA also where nothing does. Waits a
 * second at most. */
enum cli_server cli_server_at(const struct cli *cli, const char *replica);

/* A replica's own word on how it is. */
struct cli_look {
    jumun_answer *answer;          /* may be NULL */
    msgpack_unpacked unpacked;
    const msgpack_object *map;     /* docs/replicas.md, Status; NULL = there is none */
};
/* JUMUN_OK, or why there is none; in either case end it. */
int cli_look(jumun_queries *q, struct cli_look *look);
void cli_look_end(struct cli_look *look);

/* Whether a replica that tells it follows nobody's log of this shard of its status now: no node
 * that has it answers, or those that do are of another cluster. */
bool cli_shard_is_left(const msgpack_object *shard);
/* The replicas that a command looks at, one by one and all at once. */
struct cli_asked {
    char address[256];
    jumun_queries *queries;
    int code;                      /* of the newest look */
    struct cli_look look;
};
/* One for each that is named, in that order. CLI_DONE: for cli_asked_close(); else the status after
 * the error was printed. */
int cli_asked_open(struct cli *cli, struct cli_asked **all, uint32_t *count);
void cli_asked_close(struct cli_asked *all, uint32_t count);
/* cli_look() at all of them, which takes as long as the slowest one. Each look is to be ended. */
void cli_look_all(struct cli_asked *all, uint32_t count);
/* Says on stderr why one of several replicas gave no answer (not as JSON: the caller has a document
 * of its own); returns the exit status. */
int cli_look_failed(const struct cli *cli, const char *replica, int code);
/* Says on stderr what the answer lacks, and that it is old, unless `demand` has asked for such an
 * age. */
void cli_query_caveats(const struct cli *cli, const jumun_demand *demand,
                       const jumun_answer *answer);

/* For JSON: -1 = not known. */
static inline json_int_t cli_age(const jumun_answer *answer) {
    return answer->age_ms == UINT32_MAX ? -1 : (json_int_t)answer->age_ms;
}

/* One row as JSON: an order, or the fields asked for by name. */
json_t *cli_row_json(const void *row, size_t bytes, const char *const *fields, uint32_t count);

#endif
