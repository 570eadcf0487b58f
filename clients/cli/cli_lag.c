/* jumun lag: how far each replica is behind, shard by shard. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "actors/result_codes.h"
#include "clients/cli/cli_query.h"
#include "clients/cli/cli_wait.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"

enum { LAG_AGE_UNKNOWN = 0x7fffffff };

struct lag {
    struct cli *cli;
    struct table *table;
    json_t *list;
    int64_t max_age_ms;        /* -1 = any */
    bool too_old;
    struct cli_wait wait;
};

static void lag_shard(struct lag *l, const char *replica, const msgpack_object *shard) {
    int64_t index = value_int(shard, "index", 0), commit = value_int(shard, "commit", 0);
    int64_t age = value_int(shard, "age_ms", LAG_AGE_UNKNOWN);
    int64_t number = value_int(shard, "shard", 0);
    bool known = age < LAG_AGE_UNKNOWN, partial = value_bool(shard, "partial", false);
    int64_t behind = commit > index ? commit - index : 0;
    bool old = l->max_age_ms >= 0 && (!known || age > l->max_age_ms);
    char span[TEXT_BYTES];
    l->too_old |= old;
    if (l->list) {
        json_array_append_new(l->list, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "replica",
                                                 replica, "shard", (json_int_t)number, "index",
                                                 (json_int_t)index, "commit", (json_int_t)commit,
                                                 "behind", (json_int_t)behind, "age_ms",
                                                 (json_int_t)(known ? age : -1), "partial",
                                                 partial));
        return;
    }
    table_cell(l->table, NULL, "%s", replica);
    table_cell(l->table, NULL, "%" PRId64, number);
    table_cell(l->table, NULL, "%" PRId64, index);
    table_cell(l->table, behind ? "33" : NULL, "%" PRId64, behind);
    table_cell(l->table, old ? "31" : NULL, "%s", known ? text_span(span, age) : "unknown");
    bool building = value_bool(shard, "building", false);
    /* One of a version that does not tell imports, if it lacks anything. */
    bool importing = value_bool(shard, "importing", partial);
    table_cell(l->table, NULL, "%s",
               building ? "building" : importing ? "importing" : partial ? "damaged"
               : cli_shard_is_left(shard) ? "no node" : "");
}

/* A replica that is away is a line of its own, and a sentence on stderr. */
static int lag_no_answer(struct lag *l, const char *replica, int code) {
    int status = cli_look_failed(l->cli, replica, code);
    if (l->list) {
        json_array_append_new(l->list, json_pack("{s:s, s:i, s:s}", "replica", replica, "code",
                                                 code, "name", jumun_result_name(code)));
        return status;
    }
    table_cell(l->table, NULL, "%s", replica);
    for (int i = 0; i < 4; i++) table_cell(l->table, NULL, "-");
    table_cell(l->table, "31", code == JUMUN_NOT_A_REPLICA ? "no replica" : "no answer");
    return status;
}

/* It answers, but knows no shard: a line of its own as well. */
static int lag_not_ready(struct lag *l, const char *replica) {
    int code = RESULT_NOT_READY;
    cli_error(l->cli, "%s: it has reached no node yet and knows no shard", replica);
    if (l->list) {
        json_array_append_new(l->list, json_pack("{s:s, s:i, s:s}", "replica", replica, "code",
                                                 code, "name", jumun_result_name(code)));
        return CLI_REFUSED;
    }
    table_cell(l->table, NULL, "%s", replica);
    for (int i = 0; i < 4; i++) table_cell(l->table, NULL, "-");
    table_cell(l->table, "31", "no node yet");
    return CLI_REFUSED;
}

static int lag_replica(struct lag *l, const struct cli_asked *a) {
    const msgpack_object *shards = value_at(a->look.map, "shards");
    for (uint32_t i = 0; i < value_count(shards); i++)
        lag_shard(l, a->address, value_item(shards, i));
    if (a->code != JUMUN_OK) return lag_no_answer(l, a->address, a->code);
    return value_count(shards) == 0 ? lag_not_ready(l, a->address) : CLI_DONE;
}

/* All at once: those that are away cost one timeout together. Told in the order given. */
static int lag_all(struct lag *l, struct cli_asked *all, uint32_t count) {
    int status = CLI_DONE;
    cli_wait_begin(&l->wait, l->cli, "for %.500s to answer", cli_replicas(l->cli));
    cli_look_all(all, count);
    cli_wait_end(&l->wait);
    for (uint32_t i = 0; i < count; i++) {
        int one = lag_replica(l, &all[i]);
        if (one != CLI_DONE) status = one;
        cli_look_end(&all[i].look);
    }
    return status;
}

int cli_lag(struct cli *cli) {
    static const char *const heads[] = {"replica", "shard", "index", "behind", "age", ""};
    struct lag l = {.cli = cli, .max_age_ms = -1};
    if (!cli_span_option(cli, "max-age", &l.max_age_ms)) return CLI_USAGE;
    struct cli_asked *all;
    uint32_t count;
    int status = cli_asked_open(cli, &all, &count);
    if (status != CLI_DONE) return status;
    bool json = cli->json;
    if (json) {
        l.list = json_array();
        cli->json = false; /* one document, whatever fails */
    } else {
        l.table = table_new("lrrrrl", cli->color);
        if (!cli->quiet) table_heading(l.table);
        for (int i = 0; i < 6 && !cli->quiet; i++) table_cell(l.table, NULL, "%s", heads[i]);
    }
    status = lag_all(&l, all, count);
    if (json) {
        cli_print_json(l.list);
    } else {
        table_print(l.table, stdout, 0);
        table_delete(l.table);
    }
    cli_asked_close(all, count);
    return status == CLI_DONE && l.too_old ? CLI_REFUSED : status;
}
