/* jumun orders: lists, page by page. */
#include <stdlib.h>
#include <string.h>

#include "actors/order/order_states.h"
#include "clients/cli/cli_query.h"
#include "clients/cli/cli_wait.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"

enum { ORDERS_PAGE = 500, ORDERS_KEYS_MAX = 1024 };

/* Columns that are shown when no fields are named. */
static const char *const orders_columns[] = {"key", "state", "store", "customer", "external_ref",
                                             "total", "currency", "placed_ms", "version"};
enum { ORDERS_COLUMNS = sizeof orders_columns / sizeof orders_columns[0] };

struct orders {
    struct cli *cli;
    jumun_queries *queries;
    jumun_query query;
    jumun_token tokens[CLI_TOKENS_MAX];
    const char *fields[CLI_FIELDS_MAX];
    uint32_t fields_count;
    uint8_t states[CLI_STATES_MAX];
    jumun_key keys[ORDERS_KEYS_MAX];
    uint8_t cursor[CLI_CURSOR_BYTES];
    int64_t limit;
    uint64_t rows;
    json_t *missing;           /* keys without an order */
    json_t *list;              /* with --json */
    struct table *table;       /* else */
    struct cli_wait wait;
};

static bool orders_keys(struct orders *o) {
    size_t cursor = 0;
    const char *word;
    while ((word = args_next(&o->cli->args, "key", &cursor))) {
        if (o->query.keys_count == ORDERS_KEYS_MAX) {
            cli_usage(o->cli, "--key: more than %d keys", ORDERS_KEYS_MAX);
            return false;
        }
        if (!cli_key(o->cli, word, &o->keys[o->query.keys_count++])) return false;
    }
    o->query.keys = o->keys;
    return true;
}

/* What a list would pass over in silence. False after the error was printed. */
static bool orders_fit(struct orders *o) {
    const jumun_query *q = &o->query;
    for (uint32_t i = 0; q->kind == JUMUN_STORE_BOARD && i < q->states_count; i++) {
        if (!order_state_is_end(q->states[i])) continue;
        cli_usage(o->cli, "--store lists open orders, and %s is an end: --state %s alone lists "
                  "those of all stores", jumun_state_name(q->states[i]),
                  jumun_state_name(q->states[i]));
        return false;
    }
    if ((q->has_from || q->has_to) && q->kind != JUMUN_STATE_ORDERS) {
        cli_usage(o->cli, "--from and --to go with --state alone");
        return false;
    }
    if (q->has_from && q->has_to && q->from_ms > q->to_ms) {
        cli_usage(o->cli, "--from is later than --to: nothing lies between");
        return false;
    }
    return true;
}

/* What is asked for. False after the error was printed. */
static bool orders_kind(struct orders *o) {
    const struct args *args = &o->cli->args;
    const char *store = args_value(args, "store"), *customer = args_value(args, "customer");
    const char *ref = args_value(args, "ref");
    jumun_query *q = &o->query;
    if (!cli_states(o->cli, o->states, &q->states_count) || !orders_keys(o)) return false;
    q->states = o->states;
    int given = (store != NULL) + (customer != NULL) + (ref != NULL) + (q->keys_count > 0);
    bool by_state = given == 0 && q->states_count > 0;
    if (given + by_state != 1 || (q->states_count > 0 && !store && !by_state)) {
        cli_usage(o->cli, "one of --store, --customer, --state, --ref and --key is needed, and "
                          "only --store goes with --state");
        return false;
    }
    if (by_state && q->states_count > 1) {
        cli_usage(o->cli, "--state: one at a time, but with --store");
        return false;
    }
    q->kind = store ? JUMUN_STORE_BOARD : customer ? JUMUN_CUSTOMER_ORDERS : ref ? JUMUN_BY_REF
              : by_state ? JUMUN_STATE_ORDERS : JUMUN_MULTI_GET;
    q->subject = store ? store : customer ? customer : ref;
    return cli_time_option(o->cli, "from", &q->has_from, &q->from_ms) &&
           cli_time_option(o->cli, "to", &q->has_to, &q->to_ms) && orders_fit(o);
}

/* --cursor: where an earlier answer ended. */
static bool orders_cursor(struct orders *o) {
    const char *text = args_value(&o->cli->args, "cursor");
    if (!text) return true;
    if (o->query.kind == JUMUN_MULTI_GET) {
        cli_usage(o->cli, "--cursor: with --key there are no pages");
        return false;
    }
    if (!cli_cursor_parse(text, o->cursor, &o->query.cursor_bytes) || !o->query.cursor_bytes) {
        cli_usage(o->cli, "--cursor: \"%.60s\" is not what an earlier answer gave", text);
        return false;
    }
    o->query.cursor = o->cursor;
    return true;
}

static void orders_cell(struct orders *o, const char *column, const json_t *value,
                        const char *currency) {
    char text[TEXT_BYTES], clean[160];
    if (json_is_integer(value)) {
        int64_t n = json_integer_value(value);
        size_t size = strlen(column);
        bool time = size > 3 && strcmp(column + size - 3, "_ms") == 0;
        if (time) table_cell(o->table, NULL, "%.19s", text_time(text, n));
        else if (strcmp(column, "total") == 0 && currency)
            table_cell(o->table, NULL, "%s", text_money(text, n, currency));
        else table_cell(o->table, NULL, "%lld", (long long)n);
        return;
    }
    if (json_is_string(value)) {
        const char *s = json_string_value(value);
        table_cell(o->table, NULL, "%s", text_printable(clean, sizeof clean, s, strlen(s)));
        return;
    }
    char *dump = value && !json_is_null(value) ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY)
                                               : NULL;
    table_cell(o->table, NULL, "%.120s", dump ? dump : "");
    free(dump);
}

static void orders_row(struct orders *o, const void *row, size_t bytes) {
    json_t *json = cli_row_json(row, bytes, o->fields, o->query.fields_count);
    o->rows++;
    if (o->list) {
        json_array_append_new(o->list, json);
        return;
    }
    const char *const *columns = o->fields_count ? o->fields : orders_columns;
    uint32_t count = o->fields_count ? o->fields_count : ORDERS_COLUMNS;
    const char *currency = json_string_value(json_object_get(json, "currency"));
    for (uint32_t i = 0; i < count && i < TABLE_COLUMNS_MAX; i++) {
        if (!o->fields_count && strcmp(columns[i], "currency") == 0) continue;
        orders_cell(o, columns[i], json_object_get(json, columns[i]), currency);
    }
    table_row_end(o->table);
    json_decref(json);
}

static void orders_missing(struct orders *o, const jumun_key *key) {
    char text[JUMUN_KEY_TEXT_BYTES];
    jumun_key_format(key, text);
    cli_error(o->cli, "no order has the key %s", text);
    json_array_append_new(o->missing, json_string(text));
}

static void orders_page(struct orders *o, const jumun_answer *a) {
    for (uint32_t i = 0, count = jumun_answer_rows(a); i < count; i++) {
        size_t bytes;
        const uint8_t *row = jumun_answer_row(a, i, &bytes);
        if (o->query.kind == JUMUN_MULTI_GET && row && *row == 0xc0)
            orders_missing(o, &o->query.keys[i]);
        if (row && *row != 0xc0 && (o->limit == 0 || o->rows < (uint64_t)o->limit))
            orders_row(o, row, bytes);
    }
}

/* Money is shown in its currency, whether or not that is a column of its own. */
static void orders_ask(struct orders *o) {
    bool money = false, currency = false;
    o->query.fields = o->fields;
    o->query.fields_count = o->fields_count;
    for (uint32_t i = 0; i < o->fields_count; i++) {
        money |= strcmp(o->fields[i], "total") == 0;
        currency |= strcmp(o->fields[i], "currency") == 0;
    }
    if (money && !currency && !o->cli->json && o->fields_count < CLI_FIELDS_MAX)
        o->fields[o->query.fields_count++] = "currency";
}

static json_t *orders_tokens(const jumun_answer *a) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < a->tokens_count; i++)
        json_array_append_new(list, json_pack("[I, I]", (json_int_t)a->tokens[i].shard,
                                              (json_int_t)a->tokens[i].index));
    return list;
}

/* What came, with the last page's answer. */
static void orders_print(struct orders *o, const jumun_answer *a) {
    char cursor[CLI_CURSOR_TEXT_BYTES];
    cli_query_caveats(o->cli, &o->query.demand, a);
    cli_cursor_text(a->cursor, a->cursor ? a->cursor_bytes : 0, cursor);
    if (o->list) {
        json_t *next = a->cursor ? json_string(cursor) : json_null();
        cli_print_json(json_pack("{s:O, s:b, s:o, s:O, s:b, s:b, s:I, s:o, s:s}", "orders",
                                 o->list, "more", a->cursor != NULL, "cursor", next, "not_found",
                                 o->missing, "partial", a->partial, "lagging", a->lagging,
                                 "age_ms", cli_age(a), "tokens", orders_tokens(a), "replica",
                                 a->replica));
        return;
    }
    table_print(o->table, stdout, 0);
    if (a->cursor && !o->cli->quiet)
        fprintf(stderr, "There are more: raise --limit, or go on with --cursor %s\n", cursor);
}

/* What was placed a moment ago, a replica may not have yet: that it has no such order is no news
 * then, unless the question named the state that it wants. */
static void orders_hint(struct orders *o, const jumun_answer *a) {
    char span[TEXT_BYTES];
    if (json_array_size(o->missing) == 0 || o->cli->quiet || o->query.demand.at_least_count > 0)
        return;
    if (a->age_ms == UINT32_MAX) snprintf(span, sizeof span, "an unknown time");
    else text_span(span, a->age_ms);
    cli_error(o->cli, "the answer of %s is %s old: of an order that was placed just now, "
              "--at-least SHARD:INDEX (place --json tells both) waits until it is there",
              a->replica, span);
}

/* Page after page. Returns the exit status. */
static int orders_run(struct orders *o) {
    jumun_answer *a = NULL;
    int code;
    bool more = true;
    while (more) {
        int64_t left = o->limit ? o->limit - (int64_t)o->rows : ORDERS_PAGE;
        o->query.limit = o->query.kind == JUMUN_MULTI_GET ? 0
                         : left < ORDERS_PAGE ? (uint32_t)left : ORDERS_PAGE;
        cli_wait_begin(&o->wait, o->cli, "for %.500s to answer", cli_replicas(o->cli));
        code = jumun_query_run(o->queries, &o->query, &a);
        cli_wait_end(&o->wait);
        if (code != JUMUN_OK) {
            int status = cli_query_failed(o->cli, code, a);
            jumun_answer_free(a);
            return status;
        }
        orders_page(o, a);
        uint32_t got = jumun_answer_rows(a);
        if (o->query.kind == JUMUN_MULTI_GET) { /* what did not fit */
            o->query.keys += got;
            o->query.keys_count -= got;
            more = got > 0 && o->query.keys_count > 0;
        } else {
            more = a->cursor && (o->limit == 0 || o->rows < (uint64_t)o->limit);
        }
        if (!more) break;
        if (a->cursor) memcpy(o->cursor, a->cursor, a->cursor_bytes);
        o->query.cursor = a->cursor ? o->cursor : NULL;
        o->query.cursor_bytes = a->cursor_bytes;
        jumun_answer_free(a);
    }
    orders_print(o, a);
    orders_hint(o, a);
    jumun_answer_free(a);
    return json_array_size(o->missing) > 0 ? CLI_REFUSED : CLI_DONE;
}

static void orders_heading(struct orders *o) {
    char alignment[TABLE_COLUMNS_MAX + 1] = "";
    uint32_t shown = 0, count = o->fields_count ? o->fields_count : ORDERS_COLUMNS;
    const char *const *columns = o->fields_count ? o->fields : orders_columns;
    bool skip = o->fields_count == 0;
    for (uint32_t i = 0; i < count && shown < TABLE_COLUMNS_MAX; i++)
        if (!skip || strcmp(columns[i], "currency") != 0)
            alignment[shown++] = strcmp(columns[i], "total") == 0 ? 'r' : 'l';
    o->table = table_new(alignment, o->cli->color);
    if (o->cli->quiet) return;
    table_heading(o->table);
    for (uint32_t i = 0; i < count && i < TABLE_COLUMNS_MAX; i++) {
        size_t size = strlen(columns[i]);
        if (size > 3 && strcmp(columns[i] + size - 3, "_ms") == 0) size -= 3; /* shown as a date */
        if (!skip || strcmp(columns[i], "currency") != 0)
            table_cell(o->table, NULL, "%.*s", (int)size, columns[i]);
    }
}

int cli_orders(struct cli *cli) {
    struct orders *o = calloc(1, sizeof *o);
    int status = CLI_USAGE;
    if (!o) return CLI_NO_ANSWER;
    o->cli = cli;
    o->limit = 100;
    o->missing = json_array();
    if (cli_fields(cli, o->fields, &o->fields_count) && orders_kind(o) &&
        orders_cursor(o) &&
        cli_demand(cli, &o->query.demand, o->tokens) && cli_int_option(cli, "limit", &o->limit)) {
        orders_ask(o);
        if (o->limit < 0) {
            cli_usage(cli, "--limit: must not be negative");
        } else if ((o->queries = cli_queries(cli, cli_replicas(cli)))) {
            if (cli->json) o->list = json_array();
            else orders_heading(o);
            status = orders_run(o);
        }
    }
    if (o->list) json_decref(o->list);
    json_decref(o->missing);
    if (o->table) table_delete(o->table);
    if (o->queries) jumun_queries_close(o->queries);
    free(o);
    return status;
}
