/* jumun cluster status: nodes, shards, epochs and what is going on, from all nodes that answer. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli_cluster_clocks.h"
#include "clients/cli/cli_cluster_damage.h"
#include "clients/cli/cli_cluster_file.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"
#include "engine/base/hex.h"
#include "engine/base/program.h"

enum { STATUS_VOTER = 2, STATUS_REPLICAS_BYTES = 256, STATUS_FAULT_BYTES = 768 };
#define STATUS_LAG_UNKNOWN UINT64_MAX

struct view {
    struct cli *cli;
    const struct cluster_known *known;
    struct cluster_status *statuses;   /* by position in the document */
    bool *reached;                     /* there is a status */
    struct cluster_there *there;       /* whose it is */
};

/* Whether the node at position i tells about the shards of this cluster. */
static bool counts(const struct view *v, uint32_t i) { return cluster_there_counts(&v->there[i]); }

/* Replicas whose history has gaps, and what each one lacks: it is to be read elsewhere until the
 * node has fetched it. */
static void show_gaps(const struct view *v) {
    const struct cluster_document *d = &v->known->document;
    for (uint32_t s = 0; s < d->shards_count; s++) {
        for (uint32_t i = 0; i < d->nodes_count; i++) {
            char name[16], records[TEXT_BYTES];
            if (!counts(v, i)) continue;
            const msgpack_object *row = cluster_status_shard(&v->statuses[i], d->shards[s].shard);
            uint64_t missing = (uint64_t)value_int(row, "gap_records", 0);
            if (missing == 0) continue;
            printf("  shard %s on node %u: %s entries are not in its history, the newest of them "
                   "%" PRId64 " to %" PRId64 ": it caught up by a stored state\n",
                   cluster_shard_name(d->shards[s].shard, name), d->nodes[i].node,
                   text_count(records, missing), value_int(row, "gap_first", 0),
                   value_int(row, "gap_last", 0));
        }
    }
}

/* What the leader of a shard says; NULL = no leader was heard. */
static const msgpack_object *leader_of(const struct view *v, uint32_t shard, uint32_t *node) {
    const struct cluster_document *d = &v->known->document;
    const msgpack_object *best = NULL;
    *node = 0;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (!counts(v, i)) continue;
        const msgpack_object *row = cluster_status_shard(&v->statuses[i], shard);
        if (!row || value_int(row, "leader_node", 0) != d->nodes[i].node) continue;
        if (best && value_int(row, "term", 0) <= value_int(best, "term", 0)) continue;
        best = row;
        *node = d->nodes[i].node;
    }
    return best;
}

/* "1" or "1-2": what a node can work at. */
static void levels_text(const struct cluster_status *status, char *out, size_t bytes) {
    uint8_t min, max;
    cluster_status_levels(status, &min, &max);
    if (min == max) snprintf(out, bytes, "%u", max);
    else snprintf(out, bytes, "%u-%u", min, max);
}

static void show_nodes(const struct view *v) {
    static const char *const state_words[CLUSTER_THERE_KINDS] = {
        [CLUSTER_THERE_FULL] = "disk full", [CLUSTER_THERE_WAITS] = "waits",
        [CLUSTER_THERE_STRANGER] = "stranger", [CLUSTER_THERE_SILENT] = "does not answer"};
    const struct cluster_document *d = &v->known->document;
    struct table *t = table_new("rlllrrll", v->cli->color);
    table_heading(t);
    static const char *const heads[] = {"node", "state", "version", "clients", "replicas", "leads",
                                        "document", "levels"};
    for (uint32_t i = 0; i < 8; i++) table_cell(t, NULL, "%s", heads[i]);
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        char version_text[48] = "-", document[48] = "-", levels[16] = "-";
        uint32_t replicas = 0, leads = 0, leader;
        if (m->state == CLUSTER_MEMBER_REMOVED) continue;
        for (uint32_t s = 0; s < d->shards_count; s++) {
            replicas += cluster_server_on(&d->shards[s], m->node) != 0;
            leads += leader_of(v, d->shards[s].shard, &leader) != NULL && leader == m->node;
        }
        if (v->reached[i]) {
            value_text(v->statuses[i].map, "version", version_text, sizeof version_text);
            levels_text(&v->statuses[i], levels, sizeof levels);
            int64_t version = value_int(v->statuses[i].map, "document", 0);
            if (version) snprintf(document, sizeof document, "version %" PRId64, version);
        }
        const struct cluster_there *there = &v->there[i];
        bool up = there->kind == CLUSTER_THERE_MEMBER;
        table_cell(t, "1", "%u", m->node);
        table_cell(t, !up ? "31" : m->state == CLUSTER_MEMBER_ACTIVE ? "32" : "33", "%s",
                   up ? cluster_member_state_name(m->state) : state_words[there->kind]);
        table_cell(t, NULL, "%s", version_text);
        table_cell(t, NULL, "%s", m->client);
        table_cell(t, NULL, "%u", replicas);
        table_cell(t, NULL, "%u", leads);
        table_cell(t, NULL, "%s", document);
        table_cell(t, NULL, "%s", levels);
    }
    table_print(t, stdout, 2);
    table_delete(t);
}

static uint64_t group_uint(const msgpack_object *item, uint32_t i) {
    const msgpack_object *value = value_item(item, i);
    return value && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? value->via.u64 : 0;
}

/* "1 2 3", a voter that lags with how far, a standby with a plus, what is on its way out with a
 * minus. Returns the largest lag, or STATUS_LAG_UNKNOWN: a new leader has not heard yet how far a
 * replica is, and one that is away does not tell. */
static uint64_t list_replicas(const struct cluster_shard *s, const msgpack_object *row,
                              uint32_t leader, char *out, size_t bytes, bool *moves) {
    const msgpack_object *group = value_at(row, "group");
    uint64_t last = (uint64_t)value_int(row, "last_index", 0), lag_max = 0;
    size_t used = 0;
    *moves = false;
    out[0] = 0;
    for (uint32_t i = 0; i < value_count(group) && used < bytes; i++) {
        const msgpack_object *item = value_item(group, i);
        uint64_t server = group_uint(item, 0), match = group_uint(item, 2);
        uint32_t node = cluster_server_node(server);
        bool wanted = cluster_server_on(s, node) == server;
        bool voter = group_uint(item, 1) == STATUS_VOTER;
        uint64_t lag = node != leader && last > match ? last - match : 0;
        if (voter && lag > 0 && match == 0) lag = STATUS_LAG_UNKNOWN;
        if (lag > lag_max) lag_max = lag;
        *moves = *moves || !wanted || !voter;
        used += (size_t)snprintf(out + used, bytes - used, "%s%s%u%s", used ? " " : "",
                                 !wanted ? "-" : !voter ? "+" : "", node,
                                 node == leader ? "*" : "");
    }
    for (uint32_t i = 0; i < s->servers_count && used < bytes; i++) {
        bool found = false;
        for (uint32_t k = 0; k < value_count(group); k++)
            found = found || group_uint(value_item(group, k), 0) == s->servers[i];
        if (found) continue;
        *moves = *moves || row != NULL;
        used += (size_t)snprintf(out + used, bytes - used, "%s%s%u", used ? " " : "",
                                 row ? "+" : "", cluster_server_node(s->servers[i]));
    }
    return lag_max;
}

static void show_shards(const struct view *v) {
    const struct cluster_document *d = &v->known->document;
    struct table *t = table_new("lrrlrrl", v->cli->color);
    table_heading(t);
    static const char *const heads[] = {"shard", "leader", "term", "replicas", "lag", "index", ""};
    for (uint32_t i = 0; i < 7; i++) table_cell(t, NULL, "%s", heads[i]);
    for (uint32_t i = 0; i < d->shards_count; i++) {
        const struct cluster_shard *s = &d->shards[i];
        char name[16], replicas[STATUS_REPLICAS_BYTES], count[TEXT_BYTES];
        uint32_t leader;
        bool moves;
        const msgpack_object *row = leader_of(v, s->shard, &leader);
        uint64_t lag = list_replicas(s, row, leader, replicas, sizeof replicas, &moves);
        bool active = s->state == CLUSTER_SHARD_ACTIVE;
        table_cell(t, "1", "%s", cluster_shard_name(s->shard, name));
        if (row) table_cell(t, NULL, "%u", leader);
        else table_cell(t, active ? "31" : NULL, "%s", active ? "none" : "-");
        table_cell(t, NULL, "%" PRId64, value_int(row, "term", 0));
        table_cell(t, NULL, "%s", replicas);
        table_cell(t, NULL, "%s", !row                        ? "-"
                                  : lag == STATUS_LAG_UNKNOWN ? "?"
                                                              : text_count(count, lag));
        table_cell(t, NULL, "%" PRId64, value_int(row, "last_index", 0));
        bool elsewhere = row && s->preferred && leader != s->preferred;
        table_cell(t, "33", "%s",
                   !active     ? "retired"
                   : moves     ? "moving"
                   : elsewhere ? "not where it is preferred"
                               : "");
    }
    table_print(t, stdout, 2);
    table_delete(t);
}

static void show_epochs(const struct view *v) {
    const struct cluster_document *d = &v->known->document;
    char when[TEXT_BYTES], relative[TEXT_BYTES];
    int64_t now_ms = text_now_ms();
    for (uint32_t i = 0; i < d->epochs_count; i++) {
        const struct cluster_epoch *e = &d->epochs[i];
        if (i == 0) printf("  from the beginning     %u shards\n", e->shards_count);
        else printf("  from %s  %u shards, %s\n", text_time(when, e->from_ms), e->shards_count,
                    text_relative(relative, e->from_ms, now_ms));
    }
}

/* Nodes that have lost what they acknowledged to the leader whose row this is. */
static uint32_t each_lacking(const msgpack_object *row, uint32_t shard,
                             void (*tell)(void *arg, const char *sentence), void *arg) {
    char sentence[STATUS_FAULT_BYTES], name[TEXT_BYTES];
    const msgpack_object *nodes = value_at(row, "lacking_nodes");
    if (!nodes || nodes->type != MSGPACK_OBJECT_ARRAY) return 0;
    for (uint32_t i = 0; i < nodes->via.array.size; i++) {
        uint32_t node = (uint32_t)nodes->via.array.ptr[i].via.u64;
        if (shard == SHARD_META) snprintf(name, sizeof name, "meta");
        else snprintf(name, sizeof name, "shard %u", shard);
        snprintf(sentence, sizeof sentence, "%s: node %u has lost what it acknowledged: its "
                 "directory is an older copy, or its disk forgot what was synced. Stop it, and put "
                 "an empty node in its place: jumun cluster replace %u URL", name, node, node);
        if (tell) tell(arg, sentence);
    }
    return nodes->via.array.size;
}

/* The same of clocks. */
static uint32_t each_clock(const struct view *v, void (*tell)(void *arg, const char *sentence),
                           void *arg) {
    const struct cluster_document *d = &v->known->document;
    char sentence[STATUS_FAULT_BYTES];
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (!cluster_clock_fault(d, v->statuses, v->there, i, sentence, sizeof sentence)) continue;
        if (tell) tell(arg, sentence);
        count++;
    }
    if (count > 0 || !cluster_clocks_differ(d, v->statuses, v->there, sentence, sizeof sentence))
        return count;
    if (tell) tell(arg, sentence);
    return 1;
}

/* The same of replicas that are damaged where they lie. */
static uint32_t each_damage(const struct view *v, void (*tell)(void *arg, const char *sentence),
                            void *arg) {
    const struct cluster_document *d = &v->known->document;
    char sentence[STATUS_FAULT_BYTES];
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->nodes_count * d->shards_count; i++) {
        if (!cluster_damage_fault(d, v->statuses, v->there, i / d->shards_count,
                                  i % d->shards_count, sentence, sizeof sentence))
            continue;
        if (tell) tell(arg, sentence);
        count++;
    }
    return count;
}

/* Calls `tell` with a sentence for each thing that is not as the document has it. Returns how many
 * there are. */
static uint32_t each_fault(const struct view *v, void (*tell)(void *arg, const char *sentence),
                           void *arg) {
    const struct cluster_document *d = &v->known->document;
    char sentence[STATUS_FAULT_BYTES];
    uint32_t count = 0, leader;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (!cluster_there_fault(&d->nodes[i], &v->there[i], sentence, sizeof sentence)) continue;
        if (tell) tell(arg, sentence);
        count++;
    }
    count += each_clock(v, tell, arg);
    count += each_damage(v, tell, arg);
    for (uint32_t i = 0; i < d->shards_count; i++) {
        const struct cluster_shard *s = &d->shards[i];
        const msgpack_object *row = leader_of(v, s->shard, &leader);
        bool led = row != NULL;
        if (led) count += each_lacking(row, s->shard, tell, arg);
        if (!cluster_there_group_fault(d, s, v->there, led, sentence, sizeof sentence)) continue;
        if (tell) tell(arg, sentence);
        count++;
    }
    return count;
}

static void print_fault(void *cli, const char *sentence) {
    printf("  %s%s%s\n", CLI_STYLE((struct cli *)cli, "31"), sentence,
           CLI_PLAIN((struct cli *)cli));
}

/* Where stores are on their way to, and how far. Nothing when they are where they belong. */
static void show_stores(const struct view *v) {
    const struct cluster_document *d = &v->known->document;
    if (d->stores_shards != d->epochs[d->epochs_count - 1].shards_count)
        printf("  stores are spread over %u shards%s\n", d->stores_shards,
               d->stores_shards == cluster_shards_begun(d, text_now_ms())
                   ? ", until the next epoch begins" : ": they are about to move");
    for (uint32_t i = 0; i < d->shards_count; i++) {
        uint32_t leader;
        char moved[TEXT_BYTES], came[TEXT_BYTES];
        const msgpack_object *row = leader_of(v, d->shards[i].shard, &leader);
        if (!row || value_int(row, "stores_moving", 0) == 0) continue;
        printf("  shard %u: stores move, %" PRId64 " %% looked at, %s have left, %s have come, "
               "%" PRId64 " shards to answer\n", d->shards[i].shard,
               value_int(row, "stores_looked_percent", 0),
               text_count(moved, (uint64_t)value_int(row, "stores_moved", 0)),
               text_count(came, (uint64_t)value_int(row, "stores_came", 0)),
               value_int(row, "shards_awaited", 0));
    }
}

static void show(const struct view *v) {
    const struct cluster_document *d = &v->known->document;
    char id[CLUSTER_ID_BYTES];
    hex_format(d->cluster_id.bytes, 16, id);
    printf("%scluster%s %s, %s version %" PRIu64 ", %u replicas of each shard, level %u\n\n",
           CLI_STYLE(v->cli, "1"), CLI_PLAIN(v->cli), id, v->known->of_file ? "file" : "document",
           v->known->version, d->replicas, program_level(d->level));
    show_nodes(v);
    putchar('\n');
    show_shards(v);
    printf("  %s* leads, + comes, - goes; lag in entries%s\n\n", CLI_STYLE(v->cli, "2"),
           CLI_PLAIN(v->cli));
    show_epochs(v);
    show_stores(v);
    show_gaps(v);
    if (v->known->of_file) puts("\n  " CLUSTER_FILE_TEXT);
    if (each_fault(v, NULL, NULL) > 0) putchar('\n');
    each_fault(v, print_fault, v->cli);
}

/* -- JSON -------------------------------------------------------------------------------------- */

/* What the leader says of growth; without one nothing. */
static void add_growth(json_t *out, const msgpack_object *row) {
    static const char *const numbers[] = {"stores_moved", "stores_came", "stores_looked_percent",
                                          "shards_awaited", "messages_waiting"};
    if (!row) return;
    json_object_set_new(out, "stores_moving", json_boolean(value_int(row, "stores_moving", 0)));
    json_object_set_new(out, "empty", json_boolean(value_int(row, "empty", 0)));
    for (uint32_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        json_object_set_new(out, numbers[i], json_integer(value_int(row, numbers[i], 0)));
}

/* The replicas with gaps in their history. */
static json_t *gaps_json(const struct view *v, const struct cluster_shard *s) {
    const struct cluster_document *d = &v->known->document;
    json_t *out = json_array();
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (!counts(v, i)) continue;
        const msgpack_object *row = cluster_status_shard(&v->statuses[i], s->shard);
        if (value_int(row, "gaps", 0) == 0) continue;
        json_array_append_new(out, json_pack(
            "{s:I, s:I, s:I, s:I, s:I}", "node", (json_int_t)d->nodes[i].node, "gaps",
            (json_int_t)value_int(row, "gaps", 0), "records",
            (json_int_t)value_int(row, "gap_records", 0), "newest_first",
            (json_int_t)value_int(row, "gap_first", 0), "newest_last",
            (json_int_t)value_int(row, "gap_last", 0)));
    }
    return out;
}

static json_t *shard_json(const struct view *v, const struct cluster_shard *s) {
    char replicas[STATUS_REPLICAS_BYTES];
    uint32_t leader;
    bool moves;
    const msgpack_object *row = leader_of(v, s->shard, &leader);
    uint64_t lag = list_replicas(s, row, leader, replicas, sizeof replicas, &moves);
    json_t *out = json_pack(
        "{s:I, s:b, s:s, s:I, s:I, s:I, s:I, s:o, s:b, s:o}", "shard", (json_int_t)s->shard, "meta",
        s->shard == SHARD_META, "state", cluster_shard_state_name(s->state), "leader",
        (json_int_t)leader, "preferred", (json_int_t)s->preferred, "term",
        (json_int_t)value_int(row, "term", 0), "last_index",
        (json_int_t)value_int(row, "last_index", 0), "lag",
        row && lag == STATUS_LAG_UNKNOWN ? json_null() : json_integer((json_int_t)lag), "moving",
        moves,
        "nodes", json_array());
    for (uint32_t i = 0; i < s->servers_count; i++)
        json_array_append_new(json_object_get(out, "nodes"),
                              json_integer(cluster_server_node(s->servers[i])));
    json_object_set_new(out, "gaps", gaps_json(v, s));
    const msgpack_object *group = value_at(row, "group");
    if (group) json_object_set_new(out, "group", value_to_json(group));
    if (s->shard != SHARD_META) add_growth(out, row);
    return out;
}

static json_t *node_json(const struct view *v, uint32_t i) {
    const struct cluster_member *m = &v->known->document.nodes[i];
    char version[48] = "";
    uint8_t min = 0, max = 0;
    if (v->reached[i]) value_text(v->statuses[i].map, "version", version, sizeof version);
    if (v->reached[i]) cluster_status_levels(&v->statuses[i], &min, &max);
    int64_t document = v->reached[i] ? value_int(v->statuses[i].map, "document", 0) : 0;
    json_t *out = json_pack(
        "{s:I, s:s, s:b, s:s, s:i, s:i, s:s, s:s, s:I}", "node", (json_int_t)m->node, "state",
        cluster_member_state_name(m->state), "answers", v->reached[i], "version", version,
        "level_min", min, "level_max", max, "peers", m->peer, "clients", m->client, "document",
        (json_int_t)document);
    if (m->state == CLUSTER_MEMBER_REMOVED) return out;
    json_object_set_new(out, "there", json_string(cluster_there_name(v->there[i].kind)));
    if (!v->reached[i]) return out;
    json_object_set_new(out, "there_node", json_integer((json_int_t)v->there[i].node));
    json_object_set_new(out, "there_cluster_id", json_string(v->there[i].cluster_id));
    return out;
}

static void add_fault(void *list, const char *sentence) {
    json_array_append_new(list, json_string(sentence));
}

static int show_json(const struct view *v) {
    const struct cluster_document *d = &v->known->document;
    char id[CLUSTER_ID_BYTES];
    hex_format(d->cluster_id.bytes, 16, id);
    json_t *nodes = json_array(), *shards = json_array(), *epochs = json_array();
    for (uint32_t i = 0; i < d->nodes_count; i++) json_array_append_new(nodes, node_json(v, i));
    for (uint32_t i = 0; i < d->shards_count; i++)
        json_array_append_new(shards, shard_json(v, &d->shards[i]));
    for (uint32_t i = 0; i < d->epochs_count; i++)
        json_array_append_new(epochs, json_pack("{s:I, s:I}", "from_ms",
                                                (json_int_t)d->epochs[i].from_ms, "shards",
                                                (json_int_t)d->epochs[i].shards_count));
    json_t *faults = json_array();
    each_fault(v, add_fault, faults);
    return cli_print_json(json_pack(
        "{s:s, s:I, s:b, s:i, s:I, s:I, s:o, s:o, s:o, s:o}", "cluster_id", id, "version",
        (json_int_t)v->known->version, "of_file", v->known->of_file, "level",
        program_level(d->level), "replicas", (json_int_t)d->replicas, "stores_shards",
        (json_int_t)d->stores_shards, "nodes", nodes, "shards", shards, "epochs", epochs, "faults",
        faults));
}

static void look(struct view *v) {
    const struct cluster_document *d = &v->known->document;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        v->reached[i] = d->nodes[i].state != CLUSTER_MEMBER_REMOVED &&
                        cluster_status_of(v->cli, d->nodes[i].client, &v->statuses[i]);
        cluster_there_of(d, &d->nodes[i], v->reached[i] ? &v->statuses[i] : NULL, &v->there[i]);
    }
}

int cli_cluster_status(struct cli *cli) {
    struct view v = {.cli = cli, .known = cluster_file_read(cli)};
    int status = v.known ? CLI_DONE : cluster_fetch(cli, true, &v.known);
    if (status != CLI_DONE) return status;
    v.statuses = calloc(NODES_MAX, sizeof *v.statuses);
    v.reached = calloc(NODES_MAX, sizeof *v.reached);
    v.there = calloc(NODES_MAX, sizeof *v.there);
    if (v.statuses && v.reached && v.there) {
        look(&v);
        if (cli->json) show_json(&v);
        else show(&v);
        if (each_fault(&v, NULL, NULL) > 0) status = CLI_REFUSED;
        for (uint32_t i = 0; i < v.known->document.nodes_count; i++)
            if (v.reached[i]) cluster_status_free(&v.statuses[i]);
    } else {
        status = CLI_NO_ANSWER;
    }
    free(v.statuses);
    free(v.reached);
    free(v.there);
    return status;
}
