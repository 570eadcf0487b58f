/* jumun replica status: how each replica is (docs/replicas.md, Status). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli_query.h"
#include "clients/cli/cli_replica.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"
#include "engine/limits.h"

enum { STATUS_AGE_UNKNOWN = 0x7fffffff, STATUS_OLD_MS = 2000 };

/* One replica, asked twice: rates are over the time between. */
struct asked {
    const char *address;
    struct cli_look before, now;
    bool known_before;         /* the first one brought something */
    int code;                  /* of the last question */
};

static uint64_t count_at(const msgpack_object *map, const char *path) {
    int64_t n = value_int(map, path, 0);
    return n > 0 ? (uint64_t)n : 0;
}

static void label(const struct cli *cli, const char *name) {
    printf("  %s%-10s%s ", CLI_STYLE(cli, "2"), name, CLI_PLAIN(cli));
}

static bool is_any_reached(const msgpack_object *s) {
    const msgpack_object *sources = value_at(s, "sources");
    bool any = value_count(sources) == 0; /* an older one does not tell */
    for (uint32_t i = 0; i < value_count(sources); i++)
        any |= value_bool(value_item(sources, i), "reached", false);
    return any;
}

static void print_head(const struct cli *cli, const msgpack_object *s) {
    char version[64], endpoint[256], data[256], cluster[64], span[TEXT_BYTES];
    bool known = value_count(value_at(s, "shards")) > 0;
    bool full = value_bool(s, "no_room", false), any = is_any_reached(s);
    bool ready = known && any && value_bool(s, "caught_up", false);
    printf("%sjumun-replica%s %s  %s%s%s  %s  up %s  %spid %" PRId64 ", %s%s\n",
           CLI_STYLE(cli, "1"), CLI_PLAIN(cli), value_text(s, "version", version, sizeof version),
           ready && !full ? CLI_STYLE(cli, "1;32") : CLI_STYLE(cli, "1;31"),
           full     ? "no room"
           : ready  ? "ready"
           : !known ? "no node yet"
           : !any   ? "no node answers"
                    : "catching up",
           CLI_PLAIN(cli), value_text(s, "endpoint", endpoint, sizeof endpoint),
           text_span(span, value_int(s, "uptime_ms", 0)), CLI_STYLE(cli, "2"),
           value_int(s, "pid", 0), value_text(s, "data", data, sizeof data), CLI_PLAIN(cli));
    value_text(s, "cluster_id", cluster, sizeof cluster);
    label(cli, "cluster");
    printf("%s\n", *cluster ? cluster : "not known yet");
}

static void print_sources(const struct cli *cli, const msgpack_object *s) {
    const msgpack_object *sources = value_at(s, "sources");
    for (uint32_t i = 0; i < value_count(sources); i++) {
        const msgpack_object *source = value_item(sources, i);
        char node[256], why[256], count[TEXT_BYTES];
        bool reached = value_bool(source, "reached", false);
        uint64_t failures = count_at(source, "failures");
        value_text(source, "why", why, sizeof why);
        value_text(source, "node", node, sizeof node);
        size_t again = strlen(node); /* the sentence often begins with the address */
        bool named = strncmp(why, node, again) == 0 && strncmp(why + again, ": ", 2) == 0;
        label(cli, i == 0 ? "nodes" : "");
        printf("%s  %s%s%s", node,
               reached ? CLI_STYLE(cli, "32") : CLI_STYLE(cli, "31"),
               reached ? "answers" : "not reached", CLI_PLAIN(cli));
        if (failures)
            printf(", %s failure%s since the start", text_count(count, failures),
                   text_plural(failures));
        if (*why) printf(": %s", named ? why + again + 2 : why);
        putchar('\n');
    }
}

static const char *shard_state(const msgpack_object *shard) {
    if (value_bool(shard, "retired", false)) return "its log has ended";
    if (value_bool(shard, "building", false)) return "being built from the log";
    if (value_bool(shard, "importing", false)) return "its state is being imported";
    if (value_bool(shard, "partial", false)) return "damaged: see the log of the replica";
    return cli_shard_is_left(shard) ? "no node has more of it now" : "whole";
}

static void print_shards(const struct cli *cli, const msgpack_object *s) {
    static const char *const heads[] = {"shard", "position", "behind", "age", "node", "failures",
                                        "state"};
    const msgpack_object *shards = value_at(s, "shards");
    if (value_count(shards) == 0) return;
    struct table *t = table_new("rrrrlrl", cli->color);
    table_heading(t);
    for (int i = 0; i < 7; i++) table_cell(t, NULL, "%s", heads[i]);
    for (uint32_t i = 0; i < value_count(shards); i++) {
        const msgpack_object *shard = value_item(shards, i);
        char text[256];
        int64_t number = value_int(shard, "shard", i), age = value_int(shard, "age_ms", 0);
        uint64_t behind = count_at(shard, "lag_entries");
        bool old = age >= STATUS_OLD_MS;
        bool whole = !value_bool(shard, "partial", false) && !cli_shard_is_left(shard);
        if (number == SHARD_META) table_cell(t, NULL, "meta");
        else table_cell(t, NULL, "%" PRId64, number);
        table_cell(t, NULL, "%s", text_count(text, count_at(shard, "index")));
        table_cell(t, behind ? "33" : NULL, "%s", text_count(text, behind));
        table_cell(t, old ? "31" : NULL, "%s",
                   age < STATUS_AGE_UNKNOWN ? text_span(text, age) : "unknown");
        value_text(shard, "node", text, sizeof text);
        table_cell(t, *text ? NULL : "31", "%s", *text ? text : "none");
        table_cell(t, NULL, "%s", text_count(text, count_at(shard, "failures")));
        table_cell(t, whole ? "32" : "33", "%s", shard_state(shard));
    }
    putchar('\n');
    table_print(t, stdout, 2);
    table_delete(t);
    for (uint32_t i = 0; i < value_count(shards); i++) {
        const msgpack_object *shard = value_item(shards, i);
        char why[512];
        if (!*value_text(shard, "why", why, sizeof why)) continue;
        printf("  %sshard %" PRId64 " gets no further:%s %s\n", CLI_STYLE(cli, "31"),
               value_int(shard, "shard", i), CLI_PLAIN(cli), why);
    }
}

static double rate(const struct asked *a, const char *path) {
    int64_t ms = value_int(a->now.map, "uptime_ms", 0) - value_int(a->before.map, "uptime_ms", 0);
    uint64_t now = count_at(a->now.map, path), before = count_at(a->before.map, path);
    /* One that was started anew has no growth to show. */
    return a->known_before && ms > 0 && now >= before ? (double)(now - before) * 1e3 / (double)ms
                                                       : 0;
}

static void print_load(const struct cli *cli, const struct asked *a) {
    static const struct { const char *label, *path; bool bad; } rows[] = {
        {"queries", "queries.queries", false},
        {"refused messages", "queries.refused", true},
        {"not reached in time", "queries.not_reached", true},
        {"events applied", "applier.events", false}};
    struct table *t = cli_load_table(cli);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[TEXT_BYTES];
        double per_second = rate(a, rows[i].path);
        const char *style = rows[i].bad && per_second > 0 ? "31" : per_second > 0 ? "1" : "2";
        table_cell(t, NULL, "%s", rows[i].label);
        table_cell(t, style, "%s",
                   a->known_before ? text_count(text, (uint64_t)(per_second + 0.5)) : "-");
        table_cell(t, NULL, "%s", text_count(text, count_at(a->now.map, rows[i].path)));
    }
    putchar('\n');
    table_print(t, stdout, 2);
    table_delete(t);
}

static void print_latency(const struct cli *cli, const msgpack_object *s) {
    static const struct { const char *label, *path; } rows[] = {
        {"answer", "latency_us"}, {"from commit to visible", "commit_lag_us"}};
    static const char *const columns[] = {"p50", "p99", "max"};
    struct table *t = table_new("lrrr", cli->color);
    table_heading(t);
    table_cell(t, NULL, "time taken");
    for (int c = 0; c < 3; c++) table_cell(t, NULL, "%s", columns[c]);
    for (int r = 0; r < 2; r++) {
        const msgpack_object *map = value_at(s, rows[r].path);
        table_cell(t, NULL, "%s", rows[r].label);
        for (int c = 0; c < 3; c++) {
            char text[TEXT_BYTES];
            bool any = count_at(map, "count") > 0;
            table_cell(t, NULL, "%s",
                       any ? text_latency(text, (double)count_at(map, columns[c]) * 1e3) : "-");
        }
    }
    putchar('\n');
    table_print(t, stdout, 2);
    table_delete(t);
}

static void print_machine(const struct cli *cli, const msgpack_object *s) {
    char a[TEXT_BYTES], b[TEXT_BYTES], c[TEXT_BYTES];
    const msgpack_object *shards = value_at(s, "shards");
    uint64_t imports = 0;
    putchar('\n');
    label(cli, "watchers");
    printf("%s waiting for a change, %s subscribed to notifications\n",
           text_count(a, count_at(s, "queries.watchers")),
           text_count(b, count_at(s, "queries.subscribers")));
    label(cli, "memory");
    printf("process %s, orders kept %s, not on disk yet %s\n",
           text_size(a, count_at(s, "process_bytes")),
           text_size(b, count_at(s, "applier.memory_bytes")),
           text_size(c, count_at(s, "applier.unwritten_bytes")));
    label(cli, "disk");
    printf("views %s, free %s\n", text_size(a, count_at(s, "store_bytes")),
           text_size(b, count_at(s, "disk_free_bytes")));
    for (uint32_t i = 0; i < value_count(shards); i++)
        imports += value_bool(value_item(shards, i), "importing", false);
    label(cli, "imports");
    if (imports)
        printf("of %s shard%s under way\n", text_count(a, imports), text_plural(imports));
    else
        puts("none under way");
}

static void print_one(const struct cli *cli, const struct asked *a) {
    const msgpack_object *s = a->now.map;
    print_head(cli, s);
    print_sources(cli, s);
    print_shards(cli, s);
    putchar('\n');
    if (value_count(value_at(s, "shards")) == 0) {
        label(cli, "views");
        puts("empty, no node yet");
    } else {
        cli_replica_views_print(cli, s, 2);
    }
    print_load(cli, a);
    print_latency(cli, s);
    print_machine(cli, s);
}

/* -- asking ------------------------------------------------------------------------------------ */

static bool is_lost(const struct asked *a) {
    return a->code == JUMUN_OK && value_count(value_at(a->now.map, "shards")) == 0;
}

/* A look that is copied tells of itself, not of the one that it was copied from. */
static void move_look(struct cli_look *to, const struct cli_look *from) {
    *to = *from;
    if (from->map) to->map = &to->unpacked.data;
}

/* All of them, twice with `interval_ms` between (0 = once). One that did not answer in all its time
 * is not waited for again. */
static void ask_all(struct cli_asked *replicas, struct asked *all, uint32_t count,
                    int64_t interval_ms) {
    struct cli_asked *again = calloc(count, sizeof *again);
    uint32_t again_count = 0;
    cli_look_all(replicas, count);
    for (uint32_t i = 0; i < count; i++) {
        all[i] = (struct asked){.address = replicas[i].address, .code = replicas[i].code};
        move_look(&all[i].now, &replicas[i].look);
        if (again && interval_ms > 0 && all[i].code == JUMUN_OK) again[again_count++] = replicas[i];
    }
    if (again_count > 0) {
        usleep((useconds_t)(interval_ms > 3600000 ? 3600000 : interval_ms) * 1000);
        cli_look_all(again, again_count);
    }
    for (uint32_t i = 0, n = 0; i < count && n < again_count; i++) {
        if (all[i].code != JUMUN_OK) continue;
        move_look(&all[i].before, &all[i].now);
        all[i].known_before = true;
        move_look(&all[i].now, &again[n].look);
        all[i].code = again[n++].code;
    }
    free(again);
}

static int tell_all(struct cli *cli, const struct asked *all, uint32_t count) {
    json_t *list = cli->json ? json_array() : NULL;
    int status = CLI_DONE;
    for (uint32_t i = 0; i < count; i++) {
        const struct asked *a = &all[i];
        if (a->code != JUMUN_OK) status = cli_look_failed(cli, a->address, a->code);
        else if (is_lost(a) && status == CLI_DONE) status = CLI_REFUSED;
        if (is_lost(a)) cli_error(cli, "%s: it has reached no node yet", a->address);
        if (list && a->code == JUMUN_OK)
            json_array_append_new(list, json_pack("{s:s, s:o}", "replica", a->address, "status",
                                                  value_to_json(a->now.map)));
        else if (list)
            json_array_append_new(list, json_pack("{s:s, s:i, s:s}", "replica", a->address, "code",
                                                  a->code, "name", jumun_result_name(a->code)));
        else if (a->code == JUMUN_OK) {
            if (i > 0) putchar('\n');
            print_one(cli, a);
        }
    }
    if (list) cli_print_json(list);
    return status;
}

int cli_replica_status(struct cli *cli) {
    int64_t interval = 1000;
    uint32_t count;
    struct cli_asked *replicas;
    if (!cli_span_option(cli, "interval", &interval)) return CLI_USAGE;
    int status = cli_asked_open(cli, &replicas, &count);
    if (status != CLI_DONE) return status;
    struct asked *all = calloc(count, sizeof *all);
    if (all) {
        ask_all(replicas, all, count, cli->json ? 0 : interval);
        status = tell_all(cli, all, count);
    } else {
        status = CLI_NO_ANSWER;
    }
    for (uint32_t i = 0; all && i < count; i++) {
        if (all[i].known_before) cli_look_end(&all[i].before);
        cli_look_end(&all[i].now);
    }
    free(all);
    cli_asked_close(replicas, count);
    return status;
}
