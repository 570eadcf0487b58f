/* jumun stats: counters by minute or day. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/cli_query.h"
#include "clients/cli/cli_wait.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"

enum { STATS_DAY_MS = 86400000 };

struct stats {
    struct cli *cli;
    jumun_queries *queries;
    jumun_query query;
    jumun_token tokens[CLI_TOKENS_MAX];
    uint8_t states[CLI_STATES_MAX], cursor[512];
    struct table *table;
    json_t *list;
    uint64_t rows;
    struct cli_wait wait;
};

static bool stats_options(struct stats *s) {
    struct cli *cli = s->cli;
    const char *by = args_value(&cli->args, "by");
    bool day = by && strcmp(by, "day") == 0;
    int64_t last = day ? 30 * 86400000LL : 3600000;
    if (by && !day && strcmp(by, "minute") != 0) {
        cli_usage(cli, "--by: \"%.40s\" is not minute or day", by);
        return false;
    }
    if (!cli_span_option(cli, "last", &last) || !cli_demand(cli, &s->query.demand, s->tokens))
        return false;
    if (!cli_states(cli, s->states, &s->query.states_count)) return false;
    s->query.kind = JUMUN_COUNTERS;
    s->query.states = s->states;
    s->query.subject = args_value(&cli->args, "store");
    s->query.bucket_ms = day ? 86400000 : 60000;
    s->query.has_from = true;
    s->query.from_ms = text_now_ms() - last;
    s->query.from_ms -= s->query.from_ms % s->query.bucket_ms;
    s->query.limit = 1000;
    return true;
}

/* A day is one of UTC, whatever the time here; a minute is a minute. */
static const char *stats_from(const struct stats *s, char text[TEXT_BYTES], int64_t start_ms) {
    time_t seconds = (time_t)(start_ms / 1000);
    struct tm tm;
    if (s->query.bucket_ms != STATS_DAY_MS || !gmtime_r(&seconds, &tm) ||
        strftime(text, TEXT_BYTES, "%Y-%m-%d", &tm) == 0)
        text_time(text, start_ms)[16] = '\0';
    return text;
}

static void stats_row(struct stats *s, const jumun_counter *c) {
    char text[TEXT_BYTES];
    s->rows++;
    if (s->list) {
        json_array_append_new(
            s->list, json_pack("{s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "start_ms",
                               (json_int_t)c->start_ms, "store", c->store, "state",
                               jumun_state_name(c->state), "currency", c->currency, "orders",
                               (json_int_t)c->orders, "total", (json_int_t)c->total, "captured",
                               (json_int_t)c->captured, "refunded", (json_int_t)c->refunded));
        return;
    }
    table_cell(s->table, NULL, "%s", stats_from(s, text, c->start_ms));
    table_cell(s->table, NULL, "%s", c->store[0] ? c->store : "all");
    table_cell(s->table, NULL, "%s", jumun_state_name(c->state));
    table_cell(s->table, NULL, "%s", text_count(text, c->orders > 0 ? (uint64_t)c->orders : 0));
    table_cell(s->table, NULL, "%s", text_money(text, c->total, c->currency));
    table_cell(s->table, NULL, "%s", text_money(text, c->captured, c->currency));
    table_cell(s->table, NULL, "%s", text_money(text, c->refunded, c->currency));
}

static int stats_run(struct stats *s) {
    for (;;) {
        jumun_answer *a;
        jumun_counter counter;
        cli_wait_begin(&s->wait, s->cli, "for %.500s to answer", cli_replicas(s->cli));
        int code = jumun_query_run(s->queries, &s->query, &a);
        cli_wait_end(&s->wait);
        if (code != JUMUN_OK) {
            int status = cli_query_failed(s->cli, code, a);
            jumun_answer_free(a);
            return status;
        }
        for (uint32_t i = 0; jumun_answer_counter(a, i, &counter) == JUMUN_OK; i++)
            stats_row(s, &counter);
        if (a->cursor) {
            memcpy(s->cursor, a->cursor, a->cursor_bytes);
            s->query.cursor = s->cursor;
            s->query.cursor_bytes = a->cursor_bytes;
            jumun_answer_free(a);
            continue;
        }
        cli_query_caveats(s->cli, &s->query.demand, a);
        if (s->list) {
            cli_print_json(json_pack("{s:O, s:I, s:b, s:b, s:b}", "counters", s->list, "age_ms",
                                     cli_age(a),
                                     "partial", a->partial, "lagging", a->lagging,
                                     "uncounted", a->uncounted));
        } else {
            table_print(s->table, stdout, 0);
        }
        jumun_answer_free(a);
        return CLI_DONE;
    }
}

int cli_stats(struct cli *cli) {
    static const char *const heads[] = {"from", "store", "state", "orders", "total", "captured",
                                        "refunded"};
    struct stats *s = calloc(1, sizeof *s);
    int status = CLI_USAGE;
    if (!s) return CLI_NO_ANSWER;
    s->cli = cli;
    if (stats_options(s) && (s->queries = cli_queries(cli, cli_replicas(cli)))) {
        if (cli->json) {
            s->list = json_array();
        } else {
            s->table = table_new("lllrrrr", cli->color);
            bool days = s->query.bucket_ms == STATS_DAY_MS;
            if (!cli->quiet) {
                table_heading(s->table);
                table_cell(s->table, NULL, "%s", days ? "day of UTC" : heads[0]);
                for (int i = 1; i < 7; i++) table_cell(s->table, NULL, "%s", heads[i]);
            }
        }
        status = stats_run(s);
    }
    if (s->list) json_decref(s->list);
    if (s->table) table_delete(s->table);
    if (s->queries) jumun_queries_close(s->queries);
    free(s);
    return status;
}
