#include "clients/cli/cli_query.h"

#include <ctype.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "actors/order/order.h"
#include "actors/result_codes.h"
#include "clients/cli/cli_unreached.h"
#include "clients/cli/text.h"
#include "clients/sdk/endpoint.h"
#include "engine/base/hex.h"

enum {
    QUERY_REPLICAS_MAX = 64,
    QUERY_OLD_MS = 2000,       /* older answers are remarked on */
    QUERY_NODE_MS = 1000       /* how long it is asked whether something is a node */
};

const char *cli_replicas(const struct cli *cli) {
    const char *given = args_value(&cli->args, "replica");
    if (!given) given = getenv("JUMUN_REPLICA");
    return given && *given ? given : "tcp://127.0.0.1:7500";
}

jumun_queries *cli_queries(struct cli *cli, const char *replicas) {
    char error[512] = "";
    jumun_query_options options = {.timeout_ms = cli->timeout_ms, .no_stale = true,
                                   .attempt_timeout_ms = cli->timeout_ms / 2 + 1};
    jumun_queries *q = jumun_queries_open(replicas, &options, error, sizeof error);
    if (!q) cli_usage(cli, "%s", error);
    return q;
}

bool cli_tokens_parse(const char *text, jumun_token tokens[CLI_TOKENS_MAX], uint32_t *count) {
    *count = 0;
    for (const char *at = text;; at++) {
        char *end;
        if (*at < '0' || *at > '9' || *count == CLI_TOKENS_MAX) return false;
        unsigned long shard = strtoul(at, &end, 10);
        if (*end != ':' || shard > UINT16_MAX || end[1] < '0' || end[1] > '9') return false;
        tokens[*count].shard = (uint32_t)shard;
        tokens[(*count)++].index = strtoull(end + 1, &end, 10);
        at = end;
        if (*at == '\0') return true;
        if (*at != ',') return false;
    }
}

void cli_tokens_print(const jumun_token *tokens, uint32_t count, FILE *out) {
    for (uint32_t i = 0; i < count; i++)
        fprintf(out, "%s%u:%" PRIu64, i ? "," : "", tokens[i].shard, tokens[i].index);
}

bool cli_demand(struct cli *cli, jumun_demand *d, jumun_token tokens[CLI_TOKENS_MAX]) {
    const char *at_least = args_value(&cli->args, "at-least");
    int64_t max_age = -1;
    if (at_least && !cli_tokens_parse(at_least, tokens, &d->at_least_count)) {
        cli_usage(cli, "--at-least: \"%.60s\" is not of the form 0:17,1:4", at_least);
        return false;
    }
    if (!cli_span_option(cli, "max-age", &max_age)) return false;
    d->at_least = tokens;
    d->bounded_age = max_age >= 0;
    d->max_age_ms = max_age > UINT32_MAX ? UINT32_MAX : (uint32_t)max_age;
    d->strict = args_flag(&cli->args, "strict");
    return true;
}

bool cli_states(struct cli *cli, uint8_t states[CLI_STATES_MAX], uint32_t *count) {
    size_t cursor = 0;
    const char *word;
    for (*count = 0; (word = args_next(&cli->args, "state", &cursor));) {
        int number = jumun_state_number(word);
        if (number == 0 || *count == CLI_STATES_MAX) {
            cli_usage(cli, "--state: \"%.40s\" is not a state of an order", word);
            return false;
        }
        if (number == ORDER_AWAITED) {
            cli_usage(cli, "--state: an order that is awaited was not placed yet, and is in no "
                           "list and no count: jumun orders --key shows it");
            return false;
        }
        states[(*count)++] = (uint8_t)number;
    }
    return true;
}

bool cli_fields(struct cli *cli, const char *fields[CLI_FIELDS_MAX], uint32_t *count) {
    char *at = args_value(&cli->args, "fields"), *rest = NULL;
    *count = 0;
    if (!at) return true;
    for (char *name = strtok_r(at, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        if (*count == CLI_FIELDS_MAX) {
            cli_usage(cli, "--fields: more than %d names", CLI_FIELDS_MAX);
            return false;
        }
        fields[(*count)++] = name;
    }
    if (*count > 0) return true;
    cli_usage(cli, "--fields: no name is given");
    return false;
}

/* A sentence for an answer that did not come. */
static void no_answer_text(const struct cli *cli, const char *replicas, char *text, size_t bytes) {
    char span[TEXT_BYTES];
    snprintf(text, bytes, "no replica answers at %.300s within %s", replicas,
             text_span(span, cli->timeout_ms));
}

enum cli_server cli_server_at(const struct cli *cli, const char *replica) {
    const jumun_query_options options = {.no_stale = true,
                                         .timeout_ms = cli->timeout_ms < QUERY_NODE_MS
                                                           ? cli->timeout_ms
                                                           : QUERY_NODE_MS};
    const jumun_query ping = {.kind = JUMUN_REPLICA_PING};
    char error[256];
    jumun_answer *a;
    jumun_queries *q = jumun_queries_open(replica, &options, error, sizeof error);
    if (!q) return CLI_REPLICA;
    int code = jumun_query_run(q, &ping, &a);
    bool feed = a && strcmp(a->detail, PEER_FEED_TEXT) == 0;
    jumun_answer_free(a);
    jumun_queries_close(q);
    if (code != JUMUN_NOT_A_REPLICA) return CLI_REPLICA;
    return feed ? CLI_FEED : CLI_NODE;
}

/* Whether the code tells that no replica is there: then it is said, and *status is the exit's. */
static bool query_told_wrong_server(const struct cli *cli, int code, const char *replicas,
                                    int *status) {
    if (code != JUMUN_NOT_A_REPLICA) return false;
    enum cli_server there = cli_server_at(cli, replicas);
    *status = cli_wrong_server(cli, "--replica", there == CLI_REPLICA ? CLI_NODE : there,
                               replicas);
    return true;
}

int cli_query_failed(struct cli *cli, int code, const jumun_answer *answer) {
    char clean[sizeof answer->detail], away[400];
    const char *text = jumun_result_text(code);
    if (code == JUMUN_NOT_SENT) {
        no_answer_text(cli, cli_replicas(cli), away, sizeof away);
        text = away;
    }
    if (answer && answer->detail[0]) /* the replica's own sentence says more */
        text = text_printable(clean, sizeof clean, answer->detail, strlen(answer->detail));
    int status = cli_exit_of(code);
    if (code == JUMUN_BAD_ARGUMENT) return cli_usage(cli, "%s", answer ? answer->detail : text);
    if (cli->json) {
        cli_print_json(json_pack("{s:i, s:s, s:s}", "code", code, "name", jumun_result_name(code),
                                 "text", text));
    }
    if (query_told_wrong_server(cli, code, cli_replicas(cli), &status)) return status;
    cli_error(cli, "%s [%d %s]: %s", status == CLI_REFUSED ? "refused" : "failed", code,
              jumun_result_name(code), text);
    if (code == JUMUN_NOT_SENT) cli_tell_unreached(cli_replicas(cli));
    return status;
}

int cli_look(jumun_queries *q, struct cli_look *look) {
    const jumun_query query = {.kind = JUMUN_REPLICA_STATUS};
    size_t offset = 0;
    int code = jumun_query_run(q, &query, &look->answer);
    msgpack_unpacked_init(&look->unpacked);
    look->map = NULL;
    if (code != JUMUN_OK) return code;
    if (msgpack_unpack_next(&look->unpacked, look->answer->value, look->answer->value_bytes,
                            &offset) != MSGPACK_UNPACK_SUCCESS)
        return JUMUN_BAD_REPLY;
    look->map = &look->unpacked.data;
    return JUMUN_OK;
}

void cli_look_end(struct cli_look *look) {
    msgpack_unpacked_destroy(&look->unpacked);
    jumun_answer_free(look->answer);
}

bool cli_shard_is_left(const msgpack_object *shard) {
    char node[256];
    return value_at(shard, "node") && !value_bool(shard, "retired", false) &&
           *value_text(shard, "node", node, sizeof node) == 0;
}

int cli_asked_open(struct cli *cli, struct cli_asked **all, uint32_t *count) {
    const char *at = cli_replicas(cli);
    *count = 0;
    *all = calloc(QUERY_REPLICAS_MAX, sizeof **all);
    if (!*all) return CLI_NO_ANSWER;
    for (;; at++) {
        int size = (int)strcspn(at, ",");
        struct cli_asked *a = *all + *count;
        if (*count == QUERY_REPLICAS_MAX) {
            cli_usage(cli, "--replica: more than %d", QUERY_REPLICAS_MAX);
            break;
        }
        snprintf(a->address, sizeof a->address, "%.*s", size, at);
        if (!(a->queries = cli_queries(cli, a->address))) break;
        (*count)++;
        at += size;
        if (*at == '\0') return CLI_DONE;
    }
    cli_asked_close(*all, *count);
    return CLI_USAGE;
}

void cli_asked_close(struct cli_asked *all, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) jumun_queries_close(all[i].queries);
    free(all);
}

static void *asked_main(void *arg) {
    struct cli_asked *a = arg;
    a->code = cli_look(a->queries, &a->look);
    return NULL;
}

void cli_look_all(struct cli_asked *all, uint32_t count) {
    pthread_t threads[QUERY_REPLICAS_MAX];
    bool threaded[QUERY_REPLICAS_MAX];
    for (uint32_t i = 0; i < count; i++)
        threaded[i] = i + 1 < count && pthread_create(&threads[i], NULL, asked_main, &all[i]) == 0;
    for (uint32_t i = 0; i < count; i++)
        if (!threaded[i]) asked_main(&all[i]);
    for (uint32_t i = 0; i < count; i++)
        if (threaded[i]) pthread_join(threads[i], NULL);
}

int cli_look_failed(const struct cli *cli, const char *replica, int code) {
    char span[TEXT_BYTES];
    int status;
    if (query_told_wrong_server(cli, code, replica, &status)) return status;
    if (code == JUMUN_NOT_SENT)
        cli_error(cli, "%s: no replica answers there within %s [%d %s]", replica,
                  text_span(span, cli->timeout_ms), code, jumun_result_name(code));
    else
        cli_error(cli, "%s: %s [%d %s]", replica, jumun_result_text(code), code,
                  jumun_result_name(code));
    if (code == JUMUN_NOT_SENT) cli_tell_unreached(replica);
    return cli_exit_of(code);
}

void cli_query_caveats(const struct cli *cli, const jumun_demand *demand, const jumun_answer *a) {
    char span[TEXT_BYTES];
    bool asked = demand->bounded_age && a->age_ms <= demand->max_age_ms;
    if (a->lagging) cli_error(cli, "the answer does not reflect all that was demanded");
    if (a->partial) {
        fputs("jumun: of these shards something may be missing:", stderr);
        for (uint32_t i = 0; i < a->missing_count; i++) fprintf(stderr, " %u", a->missing[i]);
        fputc('\n', stderr);
    }
    if (a->uncounted)
        cli_error(cli, "%s began, or went on, with a stored state: its counters lack what happened "
                  "before. Ask a replica that has followed from the beginning", a->replica);
    if (a->age_ms == UINT32_MAX)
        cli_error(cli, "the age of the answer is not known: %s has not heard of a node yet",
                  a->replica);
    else if (a->age_ms >= QUERY_OLD_MS && !asked)
        cli_error(cli, "the answer is %s old: %s is behind, or hears nothing of its nodes",
                  text_span(span, a->age_ms), a->replica);
}

bool cli_cursor_parse(const char *text, uint8_t cursor[CLI_CURSOR_BYTES], uint32_t *count) {
    *count = 0;
    for (unsigned value; *text; text += 2) {
        if (*count == CLI_CURSOR_BYTES || !isxdigit((unsigned char)text[0]) ||
            !isxdigit((unsigned char)text[1]) || sscanf(text, "%2x", &value) != 1)
            return false;
        cursor[(*count)++] = (uint8_t)value;
    }
    return true;
}

void cli_cursor_text(const uint8_t *cursor, uint32_t count, char text[CLI_CURSOR_TEXT_BYTES]) {
    hex_format(cursor, count < CLI_CURSOR_BYTES ? count : CLI_CURSOR_BYTES, text);
}

json_t *cli_row_json(const void *row, size_t bytes, const char *const *fields, uint32_t count) {
    msgpack_unpacked unpacked;
    size_t offset = 0;
    json_t *json = NULL;
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, row, bytes, &offset) == MSGPACK_UNPACK_SUCCESS) {
        const msgpack_object *o = &unpacked.data;
        if (count == 0) {
            json = cli_order_json(o);
        } else {
            const msgpack_object *attributes = NULL;
            json = json_object();
            for (uint32_t i = 0; i < count && i < value_count(o); i++) {
                const msgpack_object *item = value_item(o, i);
                json_object_set_new(json, fields[i], value_to_json(item));
                if (strcmp(fields[i], "attributes") == 0) attributes = item;
            }
            cli_order_words(json, attributes);
        }
    }
    msgpack_unpacked_destroy(&unpacked);
    return json ? json : json_null();
}
