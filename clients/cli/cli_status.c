/* jumun status: the node's STATUS answer (docs/protocol.md) as tables. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli.h"
#include "clients/cli/cli_damage.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"
#include "engine/limits.h"

enum { STATUS_NAMED_MAX = 96, STATUS_BAR_COLUMNS = 24 };

/* Counters of all shards summed by name: `refused_by_code` and the like. */
struct status_count { char name[48]; uint64_t count; };
struct status_named {
    struct status_count items[STATUS_NAMED_MAX];
    uint32_t count;
};

/* What is drawn: two answers and the time between them. */
struct status_view {
    const struct cli *cli;
    const msgpack_object *now, *before;
    double seconds;
    FILE *out;
};

static uint64_t status_uint(const msgpack_object *map, const char *path) {
    int64_t n = value_int(map, path, 0);
    return n > 0 ? (uint64_t)n : 0;
}

static uint64_t status_sum(const msgpack_object *status, const char *field) {
    const msgpack_object *shards = value_at(status, "shards");
    uint64_t sum = 0;
    for (uint32_t i = 0; i < value_count(shards); i++) {
        sum += status_uint(value_item(shards, i), field);
    }
    return sum;
}

/* The largest of all shards, which do the same at the same time. */
static uint64_t status_most(const msgpack_object *status, const char *field) {
    const msgpack_object *shards = value_at(status, "shards");
    uint64_t most = 0;
    for (uint32_t i = 0; i < value_count(shards); i++) {
        uint64_t n = status_uint(value_item(shards, i), field);
        if (n > most) most = n;
    }
    return most;
}

/* Growth per second; a node that was started anew has no growth to show. */
static double status_rate(const struct status_view *v, uint64_t now, uint64_t before) {
    return v->seconds > 0 && now >= before ? (double)(now - before) / v->seconds : 0;
}

static void status_add_named(struct status_named *named, const msgpack_object *map) {
    if (!map || map->type != MSGPACK_OBJECT_MAP) return;
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        char name[48];
        value_show(&map->via.map.ptr[i].key, name, sizeof name);
        int64_t count = value_int(&map->via.map.ptr[i].val, "", 0);
        uint32_t at = 0;
        while (at < named->count && strcmp(named->items[at].name, name) != 0) at++;
        if (at == STATUS_NAMED_MAX) return;
        if (at == named->count) {
            named->count++;
            memcpy(named->items[at].name, name, sizeof name);
            named->items[at].count = 0;
        }
        named->items[at].count += count > 0 ? (uint64_t)count : 0;
    }
}

static void status_sum_named(struct status_named *named, const msgpack_object *status,
                             const char *field) {
    const msgpack_object *shards = value_at(status, "shards");
    memset(named, 0, sizeof *named);
    for (uint32_t i = 0; i < value_count(shards); i++) {
        status_add_named(named, value_at(value_item(shards, i), field));
    }
}

static void status_title(const struct status_view *v, const char *title) {
    fprintf(v->out, "\n%s%s%s\n", CLI_STYLE(v->cli, "1"), title, CLI_PLAIN(v->cli));
}

static void status_head(const struct status_view *v) {
    char version[64], endpoint[128], data[256], span[TEXT_BYTES];
    bool ready = value_bool(v->now, "ready", false), full = false;
    bool draining = value_bool(v->now, "draining", false);
    const msgpack_object *shards = value_at(v->now, "shards");
    for (uint32_t i = 0; i < value_count(shards); i++) {
        full |= value_bool(value_item(shards, i), "disk_full", false);
    }
    const char *word = draining ? "shutting down" : !ready ? "recovering" : full ? "disk full"
                                                                                 : "ready";
    fprintf(v->out, "%sjumund%s %s  %s%s%s  %s  up %s  %snode %" PRId64 ", pid %" PRId64 ", %s%s\n",
            CLI_STYLE(v->cli, "1"), CLI_PLAIN(v->cli),
            value_text(v->now, "version", version, sizeof version),
            ready && !draining && !full ? CLI_STYLE(v->cli, "1;32") : CLI_STYLE(v->cli, "1;31"),
            word, CLI_PLAIN(v->cli), value_text(v->now, "endpoint", endpoint, sizeof endpoint),
            text_span(span, value_int(v->now, "uptime_ms", 0)), CLI_STYLE(v->cli, "2"),
            value_int(v->now, "node_id", 0), value_int(v->now, "pid", 0),
            value_text(v->now, "data", data, sizeof data), CLI_PLAIN(v->cli));
}

static void status_load(const struct status_view *v) {
    static const struct { const char *label, *field; bool shards, bad; } rows[] = {
        {"commands", "commands", true, false},      {"events", "events", true, false},
        {"reads", "reads", true, false},            {"messages", "messages.received", false, false},
        {"commits", "commits", true, false},        {"refused", "refused", true, true},
        {"overloaded", "overloaded", true, true},   {"repeated", "repeated", true, false}};
    struct table *t = cli_load_table(v->cli);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[TEXT_BYTES];
        uint64_t now = rows[i].shards ? status_sum(v->now, rows[i].field)
                                      : status_uint(v->now, rows[i].field);
        uint64_t before = rows[i].shards ? status_sum(v->before, rows[i].field)
                                         : status_uint(v->before, rows[i].field);
        double rate = status_rate(v, now, before);
        const char *style = rows[i].bad && rate > 0 ? "31" : rate > 0 ? "1" : "2";
        table_cell(t, NULL, "%s", rows[i].label);
        table_cell(t, style, "%s", text_count(text, (uint64_t)(rate + 0.5)));
        table_cell(t, NULL, "%s", text_count(text, now));
    }
    fputc('\n', v->out);
    table_print(t, v->out, 2);
    table_delete(t);
}

static void status_latency(const struct status_view *v) {
    static const char *const columns[] = {"p50", "p90", "p99", "p99_9", "max"};
    static const struct { const char *label, *field; } rows[] = {
        {"last 10 s", "latency_recent_us"}, {"since the start", "latency_us"}};
    struct table *t = table_new("lrrrrrr", v->cli->color);
    table_heading(t);
    static const char *const heads[] = {"latency in the node", "messages", "p50", "p90", "p99",
                                        "p99.9", "max"};
    for (int i = 0; i < 7; i++) table_cell(t, NULL, "%s", heads[i]);
    for (int r = 0; r < 2; r++) {
        const msgpack_object *map = value_at(v->now, rows[r].field);
        char text[TEXT_BYTES];
        table_cell(t, NULL, "%s", rows[r].label);
        table_cell(t, NULL, "%s", text_count(text, status_uint(map, "count")));
        for (int c = 0; c < 5; c++) {
            double us = value_number(map, columns[c], 0);
            table_cell(t, c == 2 ? "1" : NULL, "%s", us > 0 ? text_latency(text, us * 1000) : "-");
        }
    }
    fputc('\n', v->out);
    table_print(t, v->out, 2);
    table_delete(t);
}

static void status_orders(const struct status_view *v) {
    static const struct { const char *state, *style; } states[] = {
        {"awaited", "33"},   {"placed", "33"},    {"paid", "36"},      {"accepted", "36"},
        {"ready", "36"},     {"picked_up", "34"}, {"delivered", "32"}, {"completed", "32"},
        {"rejected", "31"},  {"cancelled", "31"}, {"expired", "31"}};
    struct status_named named;
    status_sum_named(&named, v->now, "orders_by_state");
    uint64_t most = 1, all = 0;
    for (uint32_t i = 0; i < named.count; i++) {
        if (named.items[i].count > most) most = named.items[i].count;
        all += named.items[i].count;
    }
    char text[TEXT_BYTES], title[96];
    snprintf(title, sizeof title, "orders: %s", text_count(text, all));
    status_title(v, title);
    struct table *t = table_new("lrl", v->cli->color);
    for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
        for (uint32_t i = 0; i < named.count; i++) {
            if (strcmp(named.items[i].name, states[s].state) != 0) continue;
            if (named.items[i].count == 0) continue;
            char bar[STATUS_BAR_COLUMNS + 1] = "";
            size_t size = (size_t)(named.items[i].count * STATUS_BAR_COLUMNS / most);
            memset(bar, '=', size);
            table_cell(t, states[s].style, "%s", states[s].state);
            table_cell(t, NULL, "%s", text_count(text, named.items[i].count));
            table_cell(t, states[s].style, "%s", *bar ? bar : "-");
        }
    }
    table_print(t, v->out, 2);
    table_delete(t);
}

static void status_shards(const struct status_view *v) {
    static const char *const heads[] = {"shard", "role", "commands/s", "events/s", "mailbox",
                                        "limbo", "parked", "dirty", "timers", "in memory",
                                        "memory", "log", "state", "lag"};
    const msgpack_object *shards = value_at(v->now, "shards");
    const msgpack_object *before = value_at(v->before, "shards");
    struct table *t = table_new("rlrrrrrrrrrrrr", v->cli->color);
    table_heading(t);
    for (int i = 0; i < 14; i++) table_cell(t, NULL, "%s", heads[i]);
    for (uint32_t i = 0; i < value_count(shards); i++) {
        static const char *const queues[] = {"mailbox_commands", "limbo_entries",
                                             "parked_commands", "dirty_actors", "timers_pending",
                                             "orders_in_memory"};
        const msgpack_object *s = value_item(shards, i), *b = value_item(before, i);
        char text[TEXT_BYTES];
        bool ready = value_bool(s, "ready", false), full = value_bool(s, "disk_full", false);
        if (value_int(s, "shard", i) == SHARD_META) table_cell(t, NULL, "meta");
        else table_cell(t, NULL, "%" PRId64, value_int(s, "shard", i));
        value_text(s, "role", text, sizeof text);
        /* Only a leader takes commands: that a follower does not is nothing to worry about. */
        ready |= strcmp(text, "follower") == 0 && !value_bool(s, "failed", false);
        table_cell(t, ready && !full ? "32" : "31", "%s",
                   !ready ? "recovering" : full ? "disk full" : text);
        for (int r = 0; r < 2; r++) {
            const char *field = r ? "events" : "commands";
            double rate = status_rate(v, status_uint(s, field), status_uint(b, field));
            table_cell(t, rate > 0 ? "1" : NULL, "%s", text_count(text, (uint64_t)(rate + 0.5)));
        }
        for (int q = 0; q < 6; q++) {
            table_cell(t, NULL, "%s", text_count(text, status_uint(s, queues[q])));
        }
        uint64_t memory = status_uint(s, "actor_bytes") + status_uint(s, "table_bytes");
        table_cell(t, NULL, "%s", text_size(text, memory));
        table_cell(t, NULL, "%s", text_size(text, status_uint(s, "log_bytes")));
        table_cell(t, NULL, "%s", text_size(text, status_uint(s, "state_bytes")));
        uint64_t last = status_uint(s, "last_index"), applied = status_uint(s, "commit_index");
        table_cell(t, NULL, "%s", text_count(text, last > applied ? last - applied : 0));
    }
    fputc('\n', v->out);
    table_print(t, v->out, 2);
    table_delete(t);
}

static int status_by_count(const void *a, const void *b) {
    const struct status_count *x = a, *y = b;
    return x->count < y->count ? 1 : x->count > y->count ? -1 : strcmp(x->name, y->name);
}

static void status_refusals(const struct status_view *v) {
    struct status_named now, before;
    status_sum_named(&now, v->now, "refused_by_code");
    status_add_named(&now, value_at(v->now, "malformed"));
    status_sum_named(&before, v->before, "refused_by_code");
    status_add_named(&before, value_at(v->before, "malformed"));
    if (now.count == 0) return;
    qsort(now.items, now.count, sizeof now.items[0], status_by_count);
    status_title(v, "refused since the start");
    struct table *t = table_new("lrr", v->cli->color);
    for (uint32_t i = 0; i < now.count; i++) {
        char text[TEXT_BYTES];
        uint64_t earlier = 0;
        for (uint32_t b = 0; b < before.count; b++) {
            bool same = strcmp(before.items[b].name, now.items[i].name) == 0;
            if (same) earlier = before.items[b].count;
        }
        double rate = status_rate(v, now.items[i].count, earlier);
        if (now.items[i].count == 0) continue;
        table_cell(t, NULL, "%s", now.items[i].name);
        table_cell(t, NULL, "%s", text_count(text, now.items[i].count));
        if (rate > 0) table_cell(t, "31", "%s/s", text_count(text, (uint64_t)(rate + 0.5)));
        else table_cell(t, NULL, "%s", "");
    }
    table_print(t, v->out, 2);
    table_delete(t);
}

static void status_machine(const struct status_view *v) {
    char a[TEXT_BYTES], b[TEXT_BYTES], c[TEXT_BYTES];
    uint64_t actors = status_sum(v->now, "actor_bytes");
    uint64_t orders = status_sum(v->now, "orders_in_memory");
    fputc('\n', v->out);
    fprintf(v->out, "  %smemory%s   process %s, orders %s (%s in memory", CLI_STYLE(v->cli, "2"),
            CLI_PLAIN(v->cli), text_size(a, status_uint(v->now, "memory.process_bytes")),
            text_size(b, actors), text_count(c, orders));
    if (orders) fprintf(v->out, ", %" PRIu64 " bytes each", actors / orders);
    fprintf(v->out, "), tables %s\n", text_size(a, status_sum(v->now, "table_bytes")));
    fprintf(v->out, "  %sdisk%s     used %s, free %s\n", CLI_STYLE(v->cli, "2"), CLI_PLAIN(v->cli),
            text_size(a, status_uint(v->now, "disk.used_bytes")),
            text_size(b, status_uint(v->now, "disk.free_bytes")));
    uint64_t recovered = status_sum(v->now, "recovery_events");
    fprintf(v->out, "  %sstart%s    %s event%s recovered in %s\n", CLI_STYLE(v->cli, "2"),
            CLI_PLAIN(v->cli), text_count(a, recovered), text_plural(recovered),
            text_span(b, (int64_t)status_most(v->now, "recovery_ms")));
    uint64_t open = status_uint(v->now, "connections.open");
    uint64_t in_flight = status_uint(v->now, "messages.in_flight");
    fprintf(v->out, "  %sclients%s  %s connection%s, %s message%s in flight\n",
            CLI_STYLE(v->cli, "2"), CLI_PLAIN(v->cli), text_count(a, open), text_plural(open),
            text_count(b, in_flight), text_plural(in_flight));
    fprintf(v->out, "  %sstores%s   %s in memory, %s paused; between shards %s sent, %s again\n",
            CLI_STYLE(v->cli, "2"), CLI_PLAIN(v->cli),
            text_count(a, status_sum(v->now, "stores_in_memory")),
            text_count(b, status_sum(v->now, "paused_stores")),
            text_count(c, status_sum(v->now, "messages_sent")),
            text_count((char[TEXT_BYTES]){0}, status_sum(v->now, "messages_resent")));
}

/* Nothing, where the clock goes as it shall. */
static void status_clock(const struct status_view *v) {
    const struct cli *cli = v->cli;
    const msgpack_object *nodes = value_at(v->now, "nodes");
    int64_t refused_ms = value_int(v->now, "clock_refused_ms", 0);
    char span[TEXT_BYTES];
    if (refused_ms != 0)
        fprintf(v->out, "  %sclock%s    %sthe machine's was set %s by %s, which is not followed: "
                "set it right, or restart the node%s\n", CLI_STYLE(cli, "2"), CLI_PLAIN(cli),
                CLI_STYLE(cli, "31"), refused_ms < 0 ? "back" : "forward",
                text_span(span, refused_ms < 0 ? -refused_ms : refused_ms), CLI_PLAIN(cli));
    for (uint32_t i = 0; i < value_count(nodes); i++) {
        const msgpack_object *node = value_item(nodes, i);
        int64_t ahead_ms = value_int(node, "clock_ahead_ms", 0);
        if (!value_bool(node, "clock_off", false)) continue;
        fprintf(v->out, "  %sclock%s    %sthat of node %" PRId64 " is %s %s this node's; jumun "
                "cluster status says which one is wrong%s\n", CLI_STYLE(cli, "2"), CLI_PLAIN(cli),
                CLI_STYLE(cli, "31"), value_int(node, "node", 0),
                text_span(span, ahead_ms < 0 ? -ahead_ms : ahead_ms),
                ahead_ms < 0 ? "behind" : "ahead of", CLI_PLAIN(cli));
    }
}

/* Nothing, where the disk has what was written. */
static void status_damages(const struct status_view *v) {
    const msgpack_object *shards = value_at(v->now, "shards");
    for (uint32_t i = 0; i < value_count(shards); i++) {
        const msgpack_object *row = value_item(shards, i);
        struct cli_damage damage;
        char text[400], shard[32];
        if (!cli_damage_of(row, &damage)) continue;
        if (value_int(row, "shard", i) == SHARD_META) snprintf(shard, sizeof shard, "meta");
        else snprintf(shard, sizeof shard, "shard %" PRId64, value_int(row, "shard", i));
        fprintf(v->out, "  %sdamage%s   %s%s, %s%s\n", CLI_STYLE(v->cli, "2"), CLI_PLAIN(v->cli),
                CLI_STYLE(v->cli, "31"), shard, cli_damage_text(&damage, text, sizeof text),
                CLI_PLAIN(v->cli));
    }
}

bool cli_node_waits(const msgpack_object *status) {
    char state[16];
    return strcmp(value_text(status, "state", state, sizeof state), "waiting") == 0;
}

/* A node that waits for its cluster has no more to tell than that. */
static bool status_waits(const struct status_view *v) {
    char version[64], listen[128];
    if (!cli_node_waits(v->now)) return false;
    fprintf(v->out, "%sjumund%s %s  %swaits for a cluster%s  %s\n", CLI_STYLE(v->cli, "1"),
            CLI_PLAIN(v->cli), value_text(v->now, "version", version, sizeof version),
            CLI_STYLE(v->cli, "1;33"), CLI_PLAIN(v->cli),
            value_text(v->now, "listen", listen, sizeof listen));
    fprintf(v->out, "It serves nothing until it is taken in: jumun cluster form, add or join\n");
    return true;
}

void cli_show_status(const struct cli *cli, const msgpack_object *now,
                     const msgpack_object *before, double seconds, FILE *out) {
    /* The node's own clock between the answers, if it tells: the network's delay drops out. */
    int64_t uptime = value_int(now, "uptime_ms", 0);
    int64_t passed = uptime - value_int(before, "uptime_ms", 0);
    struct status_view v = {cli, now, before, passed > 0 ? (double)passed / 1000 : seconds, out};
    if (status_waits(&v)) return;
    status_head(&v);
    status_load(&v);
    status_latency(&v);
    status_orders(&v);
    status_shards(&v);
    status_machine(&v);
    status_clock(&v);
    status_damages(&v);
    status_refusals(&v);
}

int cli_status(struct cli *cli) {
    jumun_command c = {.kind = JUMUN_NODE_STATUS};
    struct cli_answer first, second;
    bool encoded;
    int64_t interval = 1000;
    if (!cli_span_option(cli, "interval", &interval)) return CLI_USAGE;
    int status = cli_read(cli, &c, &first, &encoded);
    if (status != CLI_DONE || encoded) return status;
    if (cli->json) {
        cli_print_json(value_to_json(first.value));
    } else if (interval == 0) {
        cli_show_status(cli, first.value, NULL, 0, stdout);
    } else {
        usleep((useconds_t)(interval > 3600000 ? 3600000 : interval) * 1000);
        status = cli_read(cli, &c, &second, &encoded);
        if (status == CLI_DONE) {
            cli_show_status(cli, second.value, first.value, (double)interval / 1000, stdout);
            cli_answer_free(&second);
        }
    }
    cli_answer_free(&first);
    return status;
}
