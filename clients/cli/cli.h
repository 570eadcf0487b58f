/* The command-line client: what its commands share.
 *
 * A command is a row in the table of cli_commands.c: its words, its options, its help and its
 * function. Order and store commands build a jumun_command and hand it to cli_send(), which sends
 * it, or encodes it under `jumun encode`. */
#ifndef JUMUN_CLI_CLI_H
#define JUMUN_CLI_CLI_H

#include <stdio.h>

#include "clients/cli/args.h"
#include "clients/cli/value.h"
#include "clients/sdk/jumun.h"

/* Frozen: scripts lean on them. */
enum cli_exit {
    CLI_DONE = 0,
    CLI_REFUSED = 1,           /* the engine refused, or something is not as it shall be */
    CLI_USAGE = 2,             /* also: the address is that of another kind of server */
    CLI_NO_ANSWER = 3,         /* no connection, no leader, or the outcome is unknown */
    CLI_BAD_FILE = 4           /* a file cannot be read, understood or written */
};

struct cli {
    const char *endpoint;
    bool endpoint_given;       /* by --endpoint, wherever it stood */
    uint32_t timeout_ms;
    bool json, quiet;
    bool color, color_errors;  /* on stdout, on stderr */
    bool encode;               /* write request messages instead of sending them */
    const char *encode_output; /* NULL = stdout */
    jumun_client *client;      /* opened by the first use */
    const struct cli_command *command;
    struct args args;
    char unreached[4096];      /* lines: why addresses cannot be reached (cli_unreached.h) */
};

struct cli_command {
    const char *name;          /* "store pause" */
    const char *arguments;     /* "KEY REASON" */
    const char *summary;
    const char *details;       /* NULL = none */
    const char *examples;      /* lines; NULL = none */
    const struct args_option *options;
    int positionals_min, positionals_max;
    bool writes;               /* takes --id, --expected-version, --trace */
    int (*run)(struct cli *cli);
    const char *refused;       /* what status 1 means; NULL = the engine refused */
    const char *words;         /* what a shell completes for the arguments, as args_option.words */
};

extern const struct cli_command cli_commands[];   /* ends with a NULL name */
extern const struct args_option cli_global_options[], cli_write_options[];

/* The command that words[0 .. count) begin with and how many words its name has; NULL if none. */
const struct cli_command *cli_find(char *const *words, int count, int *used);
/* Runs the program; returns an enum cli_exit. */
int cli_main(int argc, char **argv);

/* "jumun: sentence" on stderr. cli_usage() returns CLI_USAGE and points to --help. */
void cli_error(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int cli_usage(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* ANSI codes for stdout, "" without colours. */
#define CLI_STYLE(cli, code) ((cli)->color ? "\x1b[" code "m" : "")
#define CLI_PLAIN(cli) ((cli)->color ? "\x1b[0m" : "")

/* Positional i, NULL if absent. */
char *cli_word(const struct cli *cli, int i);
/* Reads positional 0 as a key. False after a usage error was printed. */
bool cli_key(const struct cli *cli, const char *text, jumun_key *key);
/* Reads an option's value; *value stays when it is absent. False after the error was printed. */
bool cli_int_option(const struct cli *cli, const char *name, int64_t *value);
bool cli_span_option(const struct cli *cli, const char *name, int64_t *ms);
/* A point in time, in Unix milliseconds (clients/cli/when.h). */
bool cli_time_option(const struct cli *cli, const char *name, bool *given, int64_t *time_ms);
bool cli_write_values(const struct cli *cli, jumun_options_command *options);

/* The client, opened; NULL after a usage error was printed: opening itself connects to nothing. */
jumun_client *cli_client(struct cli *cli);
/* Whether all of the comma-separated addresses that --`option` gives, or the environment in its
 * place, have the form of one. False after a usage error was printed. */
bool cli_addresses(struct cli *cli, const char *option, const char *addresses);

/* The same for one that stands on the command line without an option. */
bool cli_address(struct cli *cli, const char *address);

/* Sends a command that changes something (or encodes it), prints the outcome. */
int cli_send(struct cli *cli, const jumun_command *command);
/* Tells of a command that was not done, as cli_send() does; returns the exit status. */
int cli_refused(struct cli *cli, const jumun_result *result, const jumun_key *order);
/* Whether commands of two words begin with it, as "cluster". */
bool cli_is_group(const char *word);
/* A usage error for words that are no command; or the first of two: then it tells where they are
 * listed, or, when the second one is wrong, which there are. */
int cli_unknown(struct cli *cli, char *const *words, int count);
/* An exit status for a result code. */
int cli_exit_of(int code);

/* Says that what answers at `address` is not what the option it was given with is for, and which
 * option is. Returns the exit status. */
enum cli_server { CLI_NODE, CLI_REPLICA, CLI_FEED /* of a node */ };
const char *cli_wrong_server_text(enum cli_server there); /* without option and address */
int cli_wrong_server(const struct cli *cli, const char *option, enum cli_server there,
                     const char *address);

/* What a read gave; the value points into `bytes`. */
struct cli_answer {
    jumun_result result;
    const msgpack_object *value;
    msgpack_unpacked unpacked;
    void *bytes;
};

/* Runs a read. CLI_DONE: free the answer, unless the command was only encoded (*encoded). Else the
 * error was printed and there is nothing to free. */
int cli_read(struct cli *cli, const jumun_command *command, struct cli_answer *answer,
             bool *encoded);
void cli_answer_free(struct cli_answer *answer);
/* Prints JSON, indented on a terminal, and releases it. Returns CLI_DONE. */
int cli_print_json(json_t *json);
/* An order as JSON for scripts: lists with names, numbers that stand for words as words. */
json_t *cli_order_json(const msgpack_object *value);
/* The same for some fields of one, which are JSON already; `attributes`: NULL = not among them. */
void cli_order_words(json_t *order, const msgpack_object *attributes);

struct table;
/* With the heading of what a server did: what, how often, and in all. table_delete() it. */
struct table *cli_load_table(const struct cli *cli);

/* The commands, by file. */
int cli_place(struct cli *cli);
int cli_pay(struct cli *cli);
int cli_accept(struct cli *cli);
int cli_reject(struct cli *cli);
int cli_plain_step(struct cli *cli); /* ready, unassign-rider, pick-up, deliver, complete */
int cli_assign_rider(struct cli *cli);
int cli_cancel(struct cli *cli);
int cli_refund(struct cli *cli);
int cli_amend(struct cli *cli);
int cli_annotate(struct cli *cli);
int cli_get(struct cli *cli);
int cli_history(struct cli *cli);
int cli_store_pause(struct cli *cli);
int cli_store_resume(struct cli *cli);
int cli_store_get(struct cli *cli);
int cli_cluster_form(struct cli *cli);
int cli_cluster_join(struct cli *cli);
int cli_cluster_add(struct cli *cli);
int cli_cluster_remove(struct cli *cli);
int cli_cluster_replace(struct cli *cli);
int cli_cluster_readdress(struct cli *cli);
int cli_cluster_move(struct cli *cli);
int cli_cluster_transfer(struct cli *cli);
int cli_cluster_balance(struct cli *cli);
int cli_cluster_drain(struct cli *cli);
int cli_cluster_undrain(struct cli *cli);
int cli_cluster_grow(struct cli *cli);
int cli_cluster_cancel_grow(struct cli *cli);
int cli_cluster_raise_level(struct cli *cli);
int cli_cluster_retire(struct cli *cli);
int cli_cluster_recover(struct cli *cli);
int cli_cluster_status(struct cli *cli);
int cli_status(struct cli *cli);
int cli_top(struct cli *cli);
int cli_ping(struct cli *cli);
int cli_orders(struct cli *cli);
int cli_stats(struct cli *cli);
int cli_lag(struct cli *cli);
int cli_replica_rebuild(struct cli *cli);
int cli_replica_status(struct cli *cli);
int cli_replica_views(struct cli *cli);
int cli_watch(struct cli *cli);
int cli_import(struct cli *cli);
int cli_key_new(struct cli *cli);
int cli_key_parse(struct cli *cli);
int cli_encode(struct cli *cli);
int cli_decode(struct cli *cli);
int cli_completion(struct cli *cli);
int cli_backup(struct cli *cli);
int cli_version(struct cli *cli);
int cli_help(struct cli *cli);

/* Help of one command, and of the program. */
void cli_print_help(const struct cli *cli, const struct cli_command *command, FILE *out);
void cli_print_overview(const struct cli *cli, FILE *out);
/* The commands that begin with the word `group`. */
void cli_print_group(const struct cli *cli, const char *group, FILE *out);

/* The four answers drawn for people. `now_ms` is for relative times. */
void cli_show_order(const struct cli *cli, const msgpack_object *order, int64_t now_ms, FILE *out);
void cli_show_history(const struct cli *cli, const msgpack_object *history, FILE *out);
void cli_show_store(const struct cli *cli, const msgpack_object *store, FILE *out);
/* `before` (may be NULL) was taken `seconds` earlier: rates are over that interval. */
void cli_show_status(const struct cli *cli, const msgpack_object *now,
                     const msgpack_object *before, double seconds, FILE *out);
/* Whether this is the status of a node that waits for its cluster: it has no figures. */
bool cli_node_waits(const msgpack_object *status);

#endif
