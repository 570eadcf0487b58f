#include "clients/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "clients/cli/cli_query.h"
#include "clients/cli/cli_unreached.h"
#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"
#include "clients/cli/when.h"
#include "clients/sdk/endpoint.h"
#include "engine/wire/address.h"

enum { PAUSE_REASON_BYTES = 1100 }; /* four for each of the longest reason's, as when it is shown */

void cli_error(const struct cli *cli, const char *format, ...) {
    va_list args;
    fputs(cli->color_errors ? "\x1b[31mjumun:\x1b[0m " : "jumun: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

int cli_usage(const struct cli *cli, const char *format, ...) {
    char sentence[512];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    cli_error(cli, "%s", sentence);
    fprintf(stderr, "Try: jumun %s%s--help\n", cli->command ? cli->command->name : "",
            cli->command ? " " : "");
    return CLI_USAGE;
}

char *cli_word(const struct cli *cli, int i) {
    return i < cli->args.positionals_count ? cli->args.positionals[i] : NULL;
}

bool cli_key(const struct cli *cli, const char *text, jumun_key *key) {
    if (jumun_key_parse(text, key)) return true;
    cli_usage(cli, "\"%.60s\" is not a key: 26 characters of Crockford base32", text);
    return false;
}

bool cli_int_option(const struct cli *cli, const char *name, int64_t *value) {
    const char *text = args_value(&cli->args, name);
    if (!text || text_parse_int64(text, value)) return true;
    cli_usage(cli, "--%s: \"%.60s\" is not a whole number", name, text);
    return false;
}

bool cli_span_option(const struct cli *cli, const char *name, int64_t *ms) {
    const char *text = args_value(&cli->args, name);
    char fault[WHEN_ERROR_BYTES];
    if (!text || when_parse_span(text, ms)) return true;
    cli_usage(cli, "--%s: %s", name, when_span_fault(text, fault));
    return false;
}

bool cli_time_option(const struct cli *cli, const char *name, bool *given, int64_t *time_ms) {
    const char *text = args_value(&cli->args, name);
    char fault[WHEN_ERROR_BYTES];
    *given = text != NULL;
    if (!text || when_parse(text, text_now_ms(), time_ms, fault)) return true;
    cli_usage(cli, "--%s: %s", name, fault);
    return false;
}

bool cli_write_values(const struct cli *cli, jumun_options_command *options) {
    int64_t version = 0;
    const char *id = args_value(&cli->args, "id"), *trace = args_value(&cli->args, "trace");
    if (id && !cli_key(cli, id, &options->id)) return false;
    if (trace && !cli_key(cli, trace, &options->trace)) return false;
    if (!cli_int_option(cli, "expected-version", &version)) return false;
    if (version < 0 || version > UINT32_MAX) {
        cli_usage(cli, "--expected-version: %" PRId64 " is out of range", version);
        return false;
    }
    options->expected_version = (uint32_t)version;
    return true;
}

bool cli_address(struct cli *cli, const char *address) {
    const char *fault = address_fault(address, strlen(address));
    if (fault) cli_usage(cli, "\"%.256s\" %s: " ADDRESS_FORM_ONE, address, fault);
    return fault == NULL;
}

bool cli_addresses(struct cli *cli, const char *option, const char *addresses) {
    struct address_bad bad;
    if (!address_list_is_bad(addresses, NULL, &bad)) return true;
    const char *variable = strcmp(option, "replica") == 0 ? "JUMUN_REPLICA" : "JUMUN_ENDPOINT";
    bool given = args_value(&cli->args, option) != NULL ||
                 (strcmp(option, "endpoint") == 0 && cli->endpoint_given);
    cli_usage(cli, "%s%s: \"%.*s\" %s: " ADDRESS_FORM, given ? "--" : "",
              given ? option : variable, (int)(bad.size < 256 ? bad.size : 256), bad.at,
              bad.fault);
    return false;
}

/* Before anything is asked or printed. `cluster form` has its own list of nodes, and `cluster
 * recover` asks none. */
static bool cli_servers(struct cli *cli) {
    const struct args_option *o = cli->command->options;
    const char *name = cli->command->name;
    bool cluster = strncmp(name, "cluster ", 8) == 0 && strcmp(name, "cluster form") != 0 &&
                   strcmp(name, "cluster recover") != 0;
    for (; o && o->name; o++)
        if (strcmp(o->name, "replica") == 0)
            return cli_addresses(cli, "replica", cli_replicas(cli));
    return !cluster || cli_addresses(cli, "endpoint", cli->endpoint);
}

jumun_client *cli_client(struct cli *cli) {
    if (cli->client) return cli->client;
    if (!cli_addresses(cli, "endpoint", cli->endpoint)) return NULL;
    char error[512] = "";
    jumun_options options = {.timeout_ms = cli->timeout_ms};
    cli->client = jumun_open(cli->endpoint, &options, error, sizeof error);
    if (!cli->client) cli_usage(cli, "%s", error);
    return cli->client;
}

int cli_exit_of(int code) {
    /* The library has asked again until the time was up: nobody answered that could decide. */
    if (code == RESULT_NOT_LEADER) return CLI_NO_ANSWER;
    if (code == JUMUN_OK || code == JUMUN_HELD) return CLI_DONE;
    if (code == JUMUN_READ_ONLY || code == JUMUN_NOT_A_REPLICA) return CLI_USAGE;
    if (code < 1000) return CLI_REFUSED;
    return code == JUMUN_BAD_ARGUMENT ? CLI_USAGE : CLI_NO_ANSWER;
}

#define WHICH_OPTION                                                                               \
    "nodes are named with --endpoint (port 7400 by default) and take commands, replicas with "     \
    "--replica (port 7500) and answer questions"

const char *cli_wrong_server_text(enum cli_server there) {
    static const char *const texts[] = {
        [CLI_NODE] = "a node answers there, not a replica; " WHICH_OPTION,
        [CLI_REPLICA] = "a replica answers there, not a node; " WHICH_OPTION,
        [CLI_FEED] = "a node's feed answers there (--feed-listen), which replicas follow; "
                     WHICH_OPTION};
    return texts[there];
}

int cli_wrong_server(const struct cli *cli, const char *option, enum cli_server there,
                     const char *address) {
    cli_error(cli, "%s %.300s: %s", option, address, cli_wrong_server_text(there));
    return CLI_USAGE;
}

int cli_print_json(json_t *json) {
    size_t flags = isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT;
    /* What 15 digits can tell comes out as it went in: 0.1, not 0.10000000000000001. */
    json_dumpf(json, stdout, flags | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    fputc('\n', stdout);
    json_decref(json);
    return CLI_DONE;
}

struct table *cli_load_table(const struct cli *cli) {
    struct table *t = table_new("lrr", cli->color);
    table_heading(t);
    table_cell(t, NULL, "load");
    table_cell(t, NULL, "per second");
    table_cell(t, NULL, "since the start");
    return t;
}

static json_t *cli_result_json(const jumun_result *r, const jumun_key *order) {
    char key[JUMUN_KEY_TEXT_BYTES], id[JUMUN_KEY_TEXT_BYTES];
    static const jumun_key zero;
    jumun_key_format(&r->id, id);
    json_t *out = json_pack(
        "{s:i, s:s, s:s, s:b, s:I, s:I, s:I}", "code", r->code, "name", jumun_result_name(r->code),
        "text", jumun_result_text(r->code), "repeated", r->repeated, "version",
        (json_int_t)r->version, "shard", (json_int_t)r->shard, "index", (json_int_t)r->index);
    if (order && memcmp(order, &zero, sizeof zero) != 0) {
        jumun_key_format(order, key);
        json_object_set_new(out, "key", json_string(key));
    }
    if (memcmp(&r->id, &zero, sizeof zero) != 0) json_object_set_new(out, "id", json_string(id));
    if (r->detail[0]) json_object_set_new(out, "detail", json_string(r->detail));
    if (r->retry_after_ms) {
        json_object_set_new(out, "retry_after_ms", json_integer((json_int_t)r->retry_after_ms));
    }
    return out;
}

/* Prints a refusal or a lack of answer on stderr. `order` is NULL but for a place: to repeat that
 * takes its key too. */
static int cli_failed(struct cli *cli, const jumun_result *r, const jumun_key *order) {
    int status = cli_exit_of(r->code);
    if (r->code == JUMUN_READ_ONLY)
        return cli_wrong_server(cli, "--endpoint", CLI_REPLICA, cli->endpoint);
    if (r->code == JUMUN_BAD_REPLY && strcmp(r->detail, PEER_FEED_TEXT) == 0)
        return cli_wrong_server(cli, "--endpoint", CLI_FEED, cli->endpoint);
    char detail[128] = "", id[JUMUN_KEY_TEXT_BYTES], key[JUMUN_KEY_TEXT_BYTES], span[TEXT_BYTES];
    if (r->code == RESULT_NOT_LEADER) {
        cli_error(cli, "failed [%d %s]: no node is known to lead the shard now: that takes a "
                  "majority of its replicas (jumun cluster status says which nodes answer)",
                  r->code, jumun_result_name(r->code));
        fputs(cli->unreached, stderr);
        return status;
    }
    /* The engine's detail often is the sentence itself. */
    if (r->detail[0] && strcmp(r->detail, jumun_result_text(r->code)) != 0) {
        char clean[sizeof r->detail];
        text_printable(clean, sizeof clean, r->detail, strlen(r->detail));
        snprintf(detail, sizeof detail, " (%s)", clean);
    }
    cli_error(cli, "%s [%d %s]: %s%s", status == CLI_REFUSED ? "refused" : "failed", r->code,
              jumun_result_name(r->code), jumun_result_text(r->code), detail);
    if (r->code == JUMUN_NOT_SENT) fputs(cli->unreached, stderr);
    if (r->code == JUMUN_VERSION_CONFLICT) {
        fprintf(stderr, "The order's version is %u.\n", r->version);
    }
    if (r->retry_after_ms) {
        fprintf(stderr, "Retry in %s.\n", text_span(span, r->retry_after_ms));
    }
    if (r->code == JUMUN_OUTCOME_UNKNOWN) {
        jumun_key_format(&r->id, id);
        if (order) jumun_key_format(order, key);
        fprintf(stderr, "It may or may not have been done. Repeat it with %s%s%s--id %s: "
                        "it will be done once at most.\n",
                order ? "--key " : "", order ? key : "", order ? " " : "", id);
    }
    return status;
}

int cli_refused(struct cli *cli, const jumun_result *result, const jumun_key *order) {
    jumun_result r = *result;
    cli_unreached_node(cli, &r);
    if (cli->json) cli_print_json(cli_result_json(&r, order));
    return cli_failed(cli, &r, NULL);
}

/* A read that got no answer has changed nothing, and has no id to ask with. */
static int cli_read_failed(struct cli *cli, const jumun_result *r) {
    if (r->code != JUMUN_OUTCOME_UNKNOWN) return cli_failed(cli, r, NULL);
    cli_error(cli, "failed [%d %s]: sent, but no answer came in time", r->code,
              jumun_result_name(r->code));
    fprintf(stderr, "It only reads: ask again.\n");
    return cli_exit_of(r->code);
}

/* Writes the request message of a command where `jumun encode` wants it. */
static int cli_encode_command(struct cli *cli, const jumun_command *command) {
    void *message = NULL;
    size_t bytes = 0;
    char error[256] = "";
    if (jumun_encode_request(command, 0, &message, &bytes, error, sizeof error) != JUMUN_OK) {
        return cli_usage(cli, "%s", error);
    }
    FILE *out = cli->encode_output ? fopen(cli->encode_output, "wb") : stdout;
    bool written = out && fwrite(message, 1, bytes, out) == bytes;
    free(message);
    if (out && out != stdout) written = fclose(out) == 0 && written;
    else if (out) written = fflush(out) == 0 && written;
    if (!written) {
        cli_error(cli, "%s: %s", cli->encode_output ? cli->encode_output : "standard output",
                  strerror(errno));
        return CLI_BAD_FILE;
    }
    if (!cli->quiet && cli->encode_output) {
        fprintf(stderr, "%zu bytes written to %s\n", bytes, cli->encode_output);
    }
    return CLI_DONE;
}

/* The order after a command that moves money or takes something off what it costs, to tell what
 * that came to; NULL for others, and where that cannot be had: the command itself was done. */
static jumun_order *cli_money_after(struct cli *cli, const jumun_command *command, int code) {
    jumun_kind kind = command->kind;
    jumun_options_command options = {.timeout_ms = cli->timeout_ms < 1000 ? cli->timeout_ms : 1000};
    jumun_order *order = NULL;
    bool moves = kind == JUMUN_PAY || kind == JUMUN_REFUND || kind == JUMUN_CANCEL;
    if (!moves || code != JUMUN_OK || (cli->quiet && !cli->json)) return NULL;
    jumun_get(cli->client, &command->order, &options, &order, NULL);
    return order;
}

static void cli_print_money(const struct cli *cli, const jumun_order *order) {
    char money[TEXT_BYTES];
    const struct { const char *name; int64_t amount; const char *style; } amounts[] = {
        {"authorised", order->authorised, "33"}, {"captured", order->captured, "32"},
        {"refunded", order->refunded, "33"},     {"owed back", order->refund_owed, "31"}};
    if (!order->currency[0]) return; /* not placed: what the amounts are in is not known yet */
    printf("now: total %s", text_money(money, order->total, order->currency));
    for (size_t i = 0; i < sizeof amounts / sizeof *amounts; i++) {
        if (amounts[i].amount == 0) continue;
        text_money(money, amounts[i].amount, order->currency);
        if (cli->color) printf(", \x1b[%sm%s %s\x1b[0m", amounts[i].style, amounts[i].name, money);
        else printf(", %s %s", amounts[i].name, money);
    }
    putchar('\n');
}

static json_t *cli_sent_json(const jumun_result *r, const jumun_key *key,
                             const jumun_order *order) {
    json_t *json = cli_result_json(r, key);
    if (!order) return json;
    json_object_set_new(json, "currency", json_string(order->currency));
    json_object_set_new(json, "total", json_integer(order->total));
    json_object_set_new(json, "authorised", json_integer(order->authorised));
    json_object_set_new(json, "captured", json_integer(order->captured));
    json_object_set_new(json, "refunded", json_integer(order->refunded));
    json_object_set_new(json, "refund_owed", json_integer(order->refund_owed));
    return json;
}

/* After a place that a paused store refused: the reason that its pause was given. Only the store
 * itself has that, so it is asked; "" = it has none, is not paused any more, or cannot be asked. */
static void cli_pause_reason(struct cli *cli, const jumun_command *command, int code, char *reason,
                             size_t reason_bytes) {
    jumun_command ask = {.kind = JUMUN_STORE_GET};
    msgpack_unpacked unpacked;
    void *value = NULL;
    size_t bytes = 0, offset = 0;
    reason[0] = 0;
    if (command->kind != JUMUN_PLACE || code != RESULT_STORE_PAUSED) return;
    ask.store_id = command->place.store;
    ask.options.timeout_ms = cli->timeout_ms < 1000 ? cli->timeout_ms : 1000;
    if (jumun_call(cli->client, &ask, NULL, &value, &bytes) != JUMUN_OK) return;
    msgpack_unpacked_init(&unpacked);
    if (value &&
        msgpack_unpack_next(&unpacked, value, bytes, &offset) == MSGPACK_UNPACK_SUCCESS &&
        value_bool(&unpacked.data, "paused", false))
        value_text(&unpacked.data, "pause_reason", reason, reason_bytes);
    msgpack_unpacked_destroy(&unpacked);
    free(value);
}

/* What cli_send() tells of a command that was not done. */
static int cli_not_done(struct cli *cli, const jumun_command *command, const jumun_result *r) {
    char reason[PAUSE_REASON_BYTES];
    const jumun_key *placed = command->kind == JUMUN_PLACE ? &command->order : NULL;
    cli_pause_reason(cli, command, r->code, reason, sizeof reason);
    if (cli->json) {
        json_t *json = cli_result_json(r, &command->order);
        if (reason[0]) json_object_set_new(json, "pause_reason", json_string(reason));
        cli_print_json(json);
    }
    int status = cli_failed(cli, r, placed);
    if (reason[0]) fprintf(stderr, "The store is paused: %s\n", reason);
    return status;
}

int cli_send(struct cli *cli, const jumun_command *command) {
    if (cli->encode) return cli_encode_command(cli, command);
    jumun_client *client = cli_client(cli);
    if (!client) return CLI_USAGE;
    jumun_result r = {0};
    jumun_call(client, command, &r, NULL, NULL);
    cli_unreached_node(cli, &r);
    int status = cli_exit_of(r.code);
    if (status != CLI_DONE) return cli_not_done(cli, command, &r);
    /* The first thing that ever happened to it. */
    bool unknown_store = command->kind == JUMUN_STORE_PAUSE && r.code == JUMUN_OK && r.version == 1;
    jumun_order *money = cli_money_after(cli, command, r.code);
    if (cli->json) cli_print_json(cli_sent_json(&r, &command->order, money));
    if (unknown_store && !cli->quiet) {
        char store[128];
        text_printable(store, sizeof store, command->store_id, strlen(command->store_id));
        cli_error(cli, "no order has named the store %s yet: it is paused for when its first one "
                  "comes", store);
    }
    if (cli->json) {
        jumun_order_free(money);
        return status;
    }
    char key[128] = ""; /* longer than any store's id */
    if (command->store_id) {
        text_printable(key, sizeof key, command->store_id, strlen(command->store_id));
    } else {
        jumun_key_format(&command->order, key);
    }
    if (cli->quiet) {
        if (command->kind == JUMUN_PLACE) puts(key);
        return status;
    }
    printf("%s%s%s  %s%s%s  version %u  %sshard %u, index %" PRIu64 "%s%s\n",
           CLI_STYLE(cli, "1"), key, CLI_PLAIN(cli),
           r.code == JUMUN_HELD ? CLI_STYLE(cli, "33") : CLI_STYLE(cli, "32"),
           jumun_result_text(r.code), CLI_PLAIN(cli), r.version, CLI_STYLE(cli, "2"), r.shard,
           r.index, CLI_PLAIN(cli), r.repeated ? "  (done before: its first answer)" : "");
    if (money) cli_print_money(cli, money);
    jumun_order_free(money);
    return status;
}

int cli_read(struct cli *cli, const jumun_command *command, struct cli_answer *answer,
             bool *encoded) {
    *encoded = cli->encode;
    memset(answer, 0, sizeof *answer);
    if (cli->encode) return cli_encode_command(cli, command);
    jumun_client *client = cli_client(cli);
    if (!client) return CLI_USAGE;
    jumun_result *r = &answer->result;
    size_t bytes = 0, offset = 0;
    jumun_call(client, command, r, &answer->bytes, &bytes);
    cli_unreached_node(cli, r);
    msgpack_unpacked_init(&answer->unpacked);
    if (cli_exit_of(r->code) == CLI_DONE) {
        if (answer->bytes && msgpack_unpack_next(&answer->unpacked, answer->bytes, bytes,
                                                 &offset) == MSGPACK_UNPACK_SUCCESS) {
            answer->value = &answer->unpacked.data;
            return CLI_DONE;
        }
        r->code = JUMUN_BAD_REPLY;
    }
    if (cli->json) cli_print_json(cli_result_json(r, NULL));
    cli_answer_free(answer);
    return cli_read_failed(cli, r);
}

void cli_answer_free(struct cli_answer *answer) {
    msgpack_unpacked_destroy(&answer->unpacked);
    free(answer->bytes);
    answer->bytes = NULL;
    answer->value = NULL;
}

/* -- the program ------------------------------------------------------------------------------- */

const struct cli_command *cli_find(char *const *words, int count, int *used) {
    for (int n = 2; n >= 1; n--) {
        char name[64];
        if (count < n) continue;
        snprintf(name, sizeof name, n == 2 ? "%s %s" : "%s", words[0], n == 2 ? words[1] : "");
        for (const struct cli_command *c = cli_commands; c->name; c++) {
            if (strcmp(c->name, name) != 0) continue;
            *used = n;
            return c;
        }
    }
    return NULL;
}

/* Global options may stand before and behind the command's name; what is given last counts. */
static int cli_globals(struct cli *cli) {
    const char *v;
    int64_t timeout = cli->timeout_ms;
    if ((v = args_value(&cli->args, "endpoint"))) {
        cli->endpoint = v;
        cli->endpoint_given = true;
    }
    if ((v = args_value(&cli->args, "tls-ca"))) setenv("JUMUN_TLS_CA", v, 1);
    if ((v = args_value(&cli->args, "tls-cert"))) setenv("JUMUN_TLS_CERT", v, 1);
    if ((v = args_value(&cli->args, "tls-key"))) setenv("JUMUN_TLS_KEY", v, 1);
    if (!cli_span_option(cli, "timeout", &timeout)) return CLI_USAGE;
    if (timeout < 1 || timeout > 3600000) {
        return cli_usage(cli, "--timeout: must lie between 1ms and 1h");
    }
    cli->timeout_ms = (uint32_t)timeout;
    cli->json |= args_flag(&cli->args, "json") && !cli->encode;
    cli->quiet |= args_flag(&cli->args, "quiet");
    if ((v = args_value(&cli->args, "color"))) {
        bool always = strcmp(v, "always") == 0;
        if (!always && strcmp(v, "never") != 0 && strcmp(v, "auto") != 0) {
            return cli_usage(cli, "--color: \"%.40s\" is not auto, always or never", v);
        }
        if (strcmp(v, "auto") != 0) cli->color = cli->color_errors = always;
    }
    return CLI_DONE;
}

static bool cli_wants_help(const struct cli *cli) { return args_flag(&cli->args, "help"); }

bool cli_is_group(const char *word) {
    size_t size = strlen(word);
    for (const struct cli_command *c = cli_commands; c->name; c++)
        if (strncmp(c->name, word, size) == 0 && c->name[size] == ' ') return true;
    return false;
}

int cli_unknown(struct cli *cli, char *const *words, int count) {
    const char *word = words[0];
    char known[512] = "";
    size_t size = strlen(word), used = 0;
    if (!cli_is_group(word)) return cli_usage(cli, "\"%.60s\" is not a command", word);
    if (count < 2 || words[1][0] == '-') {
        cli_error(cli, "\"%.60s\" is half a command: see jumun help %.60s", word, word);
        return CLI_USAGE;
    }
    for (const struct cli_command *c = cli_commands; c->name && used < sizeof known; c++)
        if (strncmp(c->name, word, size) == 0 && c->name[size] == ' ')
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                     c->name + size + 1);
    cli_error(cli, "\"%.60s %.60s\" is not a command: there are %s (see jumun help %.60s)", word,
              words[1], known, word);
    return CLI_USAGE;
}

static int cli_run_command(struct cli *cli, int argc, char **argv) {
    int used = 0;
    char error[256];
    cli->command = cli_find(argv, argc, &used);
    if (!cli->command && argc == 2 && cli_is_group(argv[0]) &&
        (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        cli_print_group(cli, argv[0], stdout);
        return CLI_DONE;
    }
    if (!cli->command) return cli_unknown(cli, argv, argc);
    const struct cli_command *c = cli->command;
    const struct args_option *tables[3] = {c->options, c->writes ? cli_write_options : NULL,
                                           cli_global_options};
    bool raw = c->run == cli_encode;
    if (!args_parse(&cli->args, argc - used + 1, argv + used - 1, tables, raw, error,
                    sizeof error)) {
        return cli_usage(cli, "%s", error);
    }
    if (cli_wants_help(cli)) {
        cli_print_help(cli, c, stdout);
        return CLI_DONE;
    }
    int status = cli_globals(cli);
    if (status != CLI_DONE) return status;
    int count = cli->args.positionals_count;
    if (count < c->positionals_min) {
        return cli_usage(cli, "%s needs %s", c->name, c->arguments);
    }
    if (!raw && count > c->positionals_max) {
        return cli_usage(cli, "\"%.60s\" is one word too many",
                         cli->args.positionals[c->positionals_max]);
    }
    return cli_servers(cli) ? c->run(cli) : CLI_USAGE;
}

int cli_encode(struct cli *cli) {
    cli->encode = true;
    cli->encode_output = args_value(&cli->args, "output");
    int used = 0;
    const struct cli_command *c =
        cli_find(cli->args.positionals, cli->args.positionals_count, &used);
    if (!c || !(c->writes || c->run == cli_get || c->run == cli_history ||
                c->run == cli_store_get || c->run == cli_ping || c->run == cli_status)) {
        return cli_usage(cli, "\"%.60s\" is not a command that can be encoded",
                         cli->args.positionals[0]);
    }
    return cli_run_command(cli, cli->args.positionals_count, cli->args.positionals);
}

int cli_main(int argc, char **argv) {
    struct cli *cli = calloc(1, sizeof *cli);
    if (!cli) return CLI_NO_ANSWER;
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    const char *endpoint = getenv("JUMUN_ENDPOINT"), *no_color = getenv("NO_COLOR");
    bool colors = !(no_color && *no_color);
    cli->endpoint = endpoint && *endpoint ? endpoint : "tcp://127.0.0.1:7400";
    cli->timeout_ms = 5000;
    cli->color = colors && isatty(STDOUT_FILENO);
    cli->color_errors = colors && isatty(STDERR_FILENO);
    char error[256];
    const struct args_option *tables[3] = {cli_global_options, NULL, NULL};
    int status;
    if (!args_parse(&cli->args, argc, argv, tables, true, error, sizeof error)) {
        status = cli_usage(cli, "%s", error);
    } else if (cli_wants_help(cli)) {
        cli_print_overview(cli, stdout);
        status = CLI_DONE;
    } else if (args_flag(&cli->args, "version")) {
        status = cli_version(cli);
    } else if ((status = cli_globals(cli)) == CLI_DONE) {
        if (cli->args.positionals_count == 0) {
            cli_print_overview(cli, stderr);
            status = CLI_USAGE;
        } else {
            status = cli_run_command(cli, cli->args.positionals_count, cli->args.positionals);
        }
    }
    const char *why;
    int output = output_end(&why);
    if (output == OUTPUT_READER_GONE && status == CLI_DONE) {
        status = OUTPUT_READER_GONE;
    } else if (output < 0 && status == CLI_DONE) {
        cli_error(cli, "standard output: %s", why);
        status = CLI_BAD_FILE;
    }
    if (cli->client) jumun_close(cli->client);
    free(cli);
    return status;
}
