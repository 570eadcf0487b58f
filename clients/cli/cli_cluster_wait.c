/* Waiting until every group is where the document has it, with a line for each thing that goes on.
 * */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli_cluster.h"
#include "clients/cli/text.h"

/* A node is away for a moment between waiting and serving: that is not told. */
enum { WAIT_LOOK_MS = 400, WAIT_LINE_BYTES = 160, WAIT_DEFAULT_MS = 600000,
       WAIT_LEAD_MS = 60000, WAIT_SILENT_MS = 3000, WAIT_REMIND_MS = 15000, STANDBY = 1,
       VOTER = 2 };

/* The newest two: between leaders a group says one thing and the other in turn. */
struct wait_shard {
    char line[WAIT_LINE_BYTES], before[WAIT_LINE_BYTES];
    char left[WAIT_LINE_BYTES];    /* what is not where it shall be and is not waited for; or "" */
};

struct wait {
    struct cli *cli;
    bool leads;                            /* also for those that a silent node shall have */
    uint32_t node;                         /* only what concerns this one is waited for; 0 = all */
    bool drained;                          /* it shall lead nothing; else what it is to lead */
    bool one;                              /* only `shard` is waited for: that its preferred node */
    uint32_t shard;                        /* leads it */
    uint32_t leader;                       /* of that one, as seen last; 0 = not known */
    uint64_t behind_entries;               /* and how far the node that shall lead is behind */
    int64_t patience_ms;                   /* unless --wait says something else */
    struct cluster_status *statuses;       /* by position in the document */
    bool *reached;
    struct { int64_t since_ms; bool told; } silent[NODES_MAX]; /* since_ms: 0 = it answers */
    struct wait_shard last[SHARDS_MAX + 1]; /* what was told of each shard */
    uint32_t open;                          /* shards that are not there yet */
    int64_t began_ms, told_ms;              /* told_ms: when something was told last */
    bool behind;                            /* nobody who answers has the document that this run has
                                               led to: what the groups have to do is not known */
};

/* The leader's row of a shard, and its node. NULL = nobody says that it leads. */
static const msgpack_object *leader_row(const struct wait *w, uint32_t shard, uint32_t *node) {
    const struct cluster_document *d = &cluster_known()->document;
    const msgpack_object *best = NULL;
    int64_t best_term = -1;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (!w->reached[i]) continue;
        const msgpack_object *row = cluster_status_shard(&w->statuses[i], shard);
        int64_t term = value_int(row, "term", 0);
        if (!row || value_int(row, "leader_node", 0) != d->nodes[i].node || term <= best_term)
            continue;
        best = row;
        best_term = term;
        *node = d->nodes[i].node;
    }
    return best;
}

static const msgpack_object *group_server(const msgpack_object *row, uint64_t server) {
    const msgpack_object *group = value_at(row, "group");
    for (uint32_t i = 0; i < value_count(group); i++) {
        const msgpack_object *item = value_item(group, i), *id = value_item(item, 0);
        if (id && id->type == MSGPACK_OBJECT_POSITIVE_INTEGER && id->via.u64 == server) return item;
    }
    return NULL;
}

static uint64_t item_uint(const msgpack_object *item, uint32_t i) {
    const msgpack_object *value = value_item(item, i);
    return value && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? value->via.u64 : 0;
}

/* Whether a node that the document has does not answer. */
static bool is_silent(const struct wait *w, uint32_t node) {
    const struct cluster_document *d = &cluster_known()->document;
    for (uint32_t i = 0; i < d->nodes_count; i++)
        if (d->nodes[i].node == node) return !w->reached[i];
    return false;
}

static bool is_active(const struct wait *w, uint32_t node) {
    const struct cluster_member *m = cluster_member_find(&cluster_known()->document, node);
    return m && m->state == CLUSTER_MEMBER_ACTIVE && !is_silent(w, node);
}

/* Whether a replica elsewhere can take the lead over from the node. */
static bool has_successor(const struct wait *w, const struct cluster_shard *s, uint32_t node) {
    for (uint32_t i = 0; i < s->servers_count; i++) {
        uint32_t other = cluster_server_node(s->servers[i]);
        if (other != node && is_active(w, other)) return true;
    }
    return false;
}

/* What a group still has to do; "" = it is where it shall be. */
static void describe(const struct wait *w, const struct cluster_shard *s, char line[]) {
    const struct cluster_document *d = &cluster_known()->document;
    char name[16];
    uint32_t leader = 0;
    const msgpack_object *row = leader_row(w, s->shard, &leader);
    const char *shard = cluster_shard_name(s->shard, name);
    line[0] = 0;
    if (!row) {
        snprintf(line, WAIT_LINE_BYTES, "shard %s: no leader is known", shard);
        return;
    }
    uint64_t last = (uint64_t)value_int(row, "last_index", 0);
    for (uint32_t i = 0; i < s->servers_count; i++) {
        const msgpack_object *item = group_server(row, s->servers[i]);
        uint64_t match = item_uint(item, 2);
        if (item && item_uint(item, 1) == VOTER) continue;
        snprintf(line, WAIT_LINE_BYTES, "shard %s: adding node %u (%s %" PRIu64 " %%)", shard,
                 cluster_server_node(s->servers[i]), "catching up",
                 item && last > 0 ? 100 * (match < last ? match : last) / last : 0);
        return;
    }
    const msgpack_object *group = value_at(row, "group");
    for (uint32_t i = 0; i < value_count(group); i++) {
        uint64_t server = item_uint(value_item(group, i), 0);
        if (cluster_server_on(s, cluster_server_node(server)) == server) continue;
        snprintf(line, WAIT_LINE_BYTES, "shard %s: removing node %u", shard,
                 cluster_server_node(server));
        return;
    }
    const struct cluster_member *wanted = cluster_member_find(d, s->preferred);
    const struct cluster_member *leads = cluster_member_find(d, leader);
    bool preferred = wanted && wanted->state == CLUSTER_MEMBER_ACTIVE;
    bool drained = leads && leads->state != CLUSTER_MEMBER_ACTIVE;
    if (preferred && leader != s->preferred && !drained && is_silent(w, s->preferred)) {
        if (w->leads)
            snprintf(line, WAIT_LINE_BYTES, "shard %s: node %u leads until node %u answers", shard,
                     leader, s->preferred);
    } else if (drained && !preferred && !has_successor(w, s, leader)) {
        snprintf(line, WAIT_LINE_BYTES, "shard %s: node %u leads on: no other node answers that "
                 "is not drained", shard, leader);
    } else if ((preferred && leader != s->preferred) || drained) {
        snprintf(line, WAIT_LINE_BYTES, "shard %s: node %u hands over%s", shard, leader,
                 preferred ? "" : " to another");
    }
}

/* -- what is waited for when one node is drained or undrained ---------------------------------- */

static bool can_elect(const struct wait *w, const struct cluster_shard *s) {
    uint32_t answer = 0;
    for (uint32_t i = 0; i < s->servers_count; i++)
        answer += !is_silent(w, cluster_server_node(s->servers[i]));
    return 2 * answer > s->servers_count;
}

/* Who leads a shard by the newest that anybody says; 0 = nobody. A node that does not answer may
 * still lead. */
static uint32_t leader_told(const struct wait *w, uint32_t shard) {
    const struct cluster_document *d = &cluster_known()->document;
    int64_t newest = -1;
    uint32_t leader = 0;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (!w->reached[i]) continue;
        const msgpack_object *row = cluster_status_shard(&w->statuses[i], shard);
        int64_t term = value_int(row, "term", 0);
        uint32_t told = (uint32_t)value_int(row, "leader_node", 0);
        if (!row || term < newest || (term == newest && told == 0)) continue;
        newest = term;
        leader = told;
    }
    return leader;
}

/* Whether what is not where it shall be with this shard is what the command is about, and can
 * come to pass. */
static bool is_waited_for(const struct wait *w, const struct cluster_shard *s) {
    if (w->node == 0) return true;
    uint32_t leader = leader_told(w, s->shard);
    if (leader == 0) return can_elect(w, s);
    if (w->drained) return leader == w->node && has_successor(w, s, w->node);
    return s->preferred == w->node && leader != w->node && is_active(w, w->node);
}

/* -- what is waited for when a lead is transferred --------------------------------------------- */

static const struct cluster_shard *the_one(const struct wait *w) {
    const struct cluster_document *d = &cluster_known()->document;
    for (uint32_t i = 0; i < d->shards_count; i++)
        if (d->shards[i].shard == w->shard) return &d->shards[i];
    return NULL;
}

static void look_at_the_one(struct wait *w) {
    const struct cluster_shard *s = the_one(w);
    w->leader = 0;
    w->behind_entries = 0;
    const msgpack_object *row = s ? leader_row(w, s->shard, &w->leader) : NULL;
    if (!row) return;
    uint64_t last = (uint64_t)value_int(row, "last_index", 0);
    uint64_t match = item_uint(group_server(row, cluster_server_on(s, s->preferred)), 2);
    if (match < last) w->behind_entries = last - match;
}

/* Nothing is broken off: the document has it, and the leader does it when it can. */
static void report_the_one(struct cli *cli, const struct wait *w, const char *span) {
    const struct cluster_shard *s = the_one(w);
    char name[16];
    const char *shard = cluster_shard_name(w->shard, name);
    if (!s) return;
    if (w->leader == 0) {
        cli_error(cli, "shard %s: no leader is known, still after %s; node %u gets the lead once "
                  "there is one and it keeps up", shard, span, s->preferred);
        return;
    }
    cli_error(cli, "shard %s: node %u leads on, still after %s: node %u, %" PRIu64 " entries "
              "behind just now, gets the lead once it answers and keeps up with the log for some "
              "seconds. jumun cluster transfer %s %u calls it off", shard, w->leader, span,
              s->preferred, w->behind_entries, shard, w->leader);
}

/* -- looking ----------------------------------------------------------------------------------- */

/* Names a node that stopped answering, and one that answers again. */
static void look_for_silent(struct wait *w) {
    const struct cluster_document *d = &cluster_known()->document;
    bool tell = !w->cli->quiet && !w->cli->json;
    int64_t now_ms = text_now_ms();
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        bool silent = m->state != CLUSTER_MEMBER_REMOVED && !w->reached[i];
        if (!silent) {
            if (w->silent[i].told && tell) printf("node %u answers again\n", m->node);
            w->silent[i].since_ms = 0;
            w->silent[i].told = false;
        } else if (w->silent[i].since_ms == 0) {
            w->silent[i].since_ms = now_ms;
        } else if (!w->silent[i].told && now_ms - w->silent[i].since_ms >= WAIT_SILENT_MS) {
            w->silent[i].told = true;
            if (tell) printf("node %u does not answer at %s: does it run? Its log says more\n",
                             m->node, m->client);
        }
    }
    fflush(stdout);
}

static void ask_all(struct wait *w) {
    const struct cluster_document *d = &cluster_known()->document;
    for (uint32_t i = 0; i < d->nodes_count; i++)
        w->reached[i] = d->nodes[i].state != CLUSTER_MEMBER_REMOVED &&
                        cluster_status_of(w->cli, d->nodes[i].client, &w->statuses[i]);
}

static void forget_all(struct wait *w) {
    for (uint32_t i = 0; i < cluster_known()->document.nodes_count; i++)
        if (w->reached[i]) cluster_status_free(&w->statuses[i]);
}

static void look(struct wait *w) {
    const struct cluster_document *d = &cluster_known()->document;
    bool tell = !w->cli->quiet && !w->cli->json;
    bool remind = text_now_ms() - w->told_ms >= WAIT_REMIND_MS;
    char span[TEXT_BYTES];
    ask_all(w);
    look_for_silent(w);
    /* One that is being removed may lead until the last moment. */
    for (uint32_t i = 0; i < d->nodes_count; i++)
        if (d->nodes[i].state == CLUSTER_MEMBER_REMOVED)
            w->reached[i] = cluster_status_of(w->cli, d->nodes[i].client, &w->statuses[i]);
    w->open = 0;
    if (w->one) look_at_the_one(w);
    for (uint32_t i = 0; i < d->shards_count; i++) {
        char line[WAIT_LINE_BYTES];
        if (w->one && d->shards[i].shard != w->shard) continue;
        if (d->shards[i].state != CLUSTER_SHARD_ACTIVE) continue;
        describe(w, &d->shards[i], line);
        w->last[i].left[0] = 0;
        if (line[0] && !is_waited_for(w, &d->shards[i])) {
            memcpy(w->last[i].left, line, sizeof line);
            continue;
        }
        if (line[0]) w->open++;
        if (!line[0]) continue; /* what comes after that may be the same once more */
        bool same = strcmp(line, w->last[i].line) == 0 || strcmp(line, w->last[i].before) == 0;
        if (same && !remind) continue;
        if (same && tell)
            printf("%s, still after %s\n", line, text_span(span, text_now_ms() - w->began_ms));
        else if (tell) printf("%s\n", line);
        w->told_ms = text_now_ms();
        if (same) continue;
        memcpy(w->last[i].before, w->last[i].line, sizeof line);
        memcpy(w->last[i].line, line, sizeof line);
    }
    fflush(stdout);
    forget_all(w);
}

/* What a wait for one node ends with: the rest goes on, or waits for nodes that are away. */
static void report_node(const struct wait *w, const char *span) {
    const struct cluster_document *d = &cluster_known()->document;
    bool all = true;
    for (uint32_t i = 0; i < d->shards_count; i++) all = all && w->last[i].left[0] == 0;
    if (all) {
        printf("all %u groups are where they shall be (%s)\n", d->shards_count, span);
        return;
    }
    printf("done, as far as nodes answer (%s); not where they shall be:\n", span);
    for (uint32_t i = 0; i < d->shards_count; i++)
        if (w->last[i].left[0]) printf("  %s\n", w->last[i].left);
}

static int report(struct cli *cli, const struct wait *w, int64_t took_ms) {
    const struct cluster_known *k = cluster_known();
    if (cli->json) {
        json_t *out = json_pack("{s:b, s:I, s:I, s:I}", "done", w->open == 0 && !w->behind,
                                "version", (json_int_t)k->version, "open", (json_int_t)w->open,
                                "took_ms", (json_int_t)took_ms);
        cli_print_json(out);
    }
    if (w->open == 0 && !w->behind) {
        char span[TEXT_BYTES];
        text_span(span, took_ms);
        if (!cli->quiet && !cli->json && w->one)
            printf("node %u leads it (%s)\n", w->leader, span);
        else if (!cli->quiet && !cli->json && w->node) report_node(w, span);
        else if (!cli->quiet && !cli->json)
            printf("all %u groups are where they shall be (%s)\n", k->document.shards_count, span);
        for (uint32_t i = 0; i < k->document.nodes_count && !cli->quiet && !cli->json; i++)
            if (k->document.nodes[i].state != CLUSTER_MEMBER_REMOVED && !w->reached[i])
                printf("node %u does not answer, and is not waited for: it takes part once it is "
                       "back\n", k->document.nodes[i].node);
        return CLI_DONE;
    }
    for (uint32_t i = 0; i < k->document.nodes_count; i++)
        if (w->silent[i].told)
            cli_error(cli, "node %u does not answer at %s", k->document.nodes[i].node,
                      k->document.nodes[i].client);
    if (w->behind) {
        cli_error(cli, "no node that answers has version %" PRIu64 " of the cluster document, "
                  "which this command has led to: it goes on by itself (see jumun cluster status)",
                  cluster_version_wanted());
        return CLI_NO_ANSWER;
    }
    if (w->one) {
        char span[TEXT_BYTES];
        report_the_one(cli, w, text_span(span, took_ms));
        return CLI_NO_ANSWER;
    }
    cli_error(cli, "%u %s not there yet: it goes on by itself (see jumun cluster status)", w->open,
              w->open == 1 ? "group is" : "groups are");
    return CLI_NO_ANSWER;
}

static void wait_delete(struct wait *w) {
    free(w->statuses);
    free(w->reached);
    free(w);
}

/* NULL without memory. */
static struct wait *wait_new(struct cli *cli) {
    struct wait *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->cli = cli;
    w->statuses = calloc(NODES_MAX, sizeof *w->statuses);
    w->reached = calloc(NODES_MAX, sizeof *w->reached);
    w->behind = true;
    w->patience_ms = WAIT_DEFAULT_MS;
    w->began_ms = text_now_ms();
    if (w->statuses && w->reached) return w;
    wait_delete(w);
    return NULL;
}

/* The nodes that answer may be cut off from the others: nothing that they say of the groups is
 * what this is about. */
static void tell_behind(struct wait *w, uint64_t version) {
    int64_t now_ms = text_now_ms();
    if (now_ms - w->began_ms < WAIT_SILENT_MS || now_ms - w->told_ms < WAIT_REMIND_MS) return;
    w->told_ms = now_ms;
    if (w->cli->quiet || w->cli->json) return;
    printf("waiting for version %" PRIu64 " of the cluster document: the nodes that answer have "
           "version %" PRIu64 "\n", cluster_version_wanted(), version);
    fflush(stdout);
}

/* Takes it over, and deletes it. */
static int wait_run(struct cli *cli, struct wait *w) {
    int64_t patience_ms = w->patience_ms, began_ms = w->began_ms;
    bool sense = cli_span_option(cli, "wait", &patience_ms);
    if (!sense || args_flag(&cli->args, "no-wait")) {
        wait_delete(w);
        return sense ? CLI_DONE : CLI_USAGE;
    }
    /* A group that has just begun to change may look settled for a moment: seen twice, it is. */
    uint32_t settled = 0;
    uint64_t version = 0;
    while (settled < 2) {
        const struct cluster_known *k;
        bool quiet = cli->quiet;
        w->behind = true;
        if (cluster_fetch(cli, true, &k) == CLI_DONE) {
            look(w);
            w->behind = k->version < cluster_version_wanted();
            if (w->behind) tell_behind(w, k->version);
            bool there = w->open == 0 && !w->behind;
            settled = there && k->version == version ? settled + 1 : 0;
            version = k->version;
        }
        cli->quiet = quiet;
        if (text_now_ms() - began_ms > patience_ms) break;
        if (settled < 2) usleep(WAIT_LOOK_MS * 1000);
    }
    int status = report(cli, w, text_now_ms() - began_ms);
    wait_delete(w);
    return status;
}

int cluster_wait(struct cli *cli) { return cluster_wait_for(cli, true); }

int cluster_wait_for(struct cli *cli, bool leads) {
    struct wait *w = wait_new(cli);
    if (!w) return CLI_NO_ANSWER;
    w->leads = leads;
    return wait_run(cli, w);
}

int cluster_wait_for_node(struct cli *cli, uint32_t node, bool drained) {
    struct wait *w = wait_new(cli);
    if (!w) return CLI_NO_ANSWER;
    w->leads = true;
    w->node = node;
    w->drained = drained;
    return wait_run(cli, w);
}

int cluster_wait_for_lead(struct cli *cli, uint32_t shard) {
    struct wait *w = wait_new(cli);
    if (!w) return CLI_NO_ANSWER;
    w->leads = w->one = true;
    w->shard = shard;
    w->patience_ms = WAIT_LEAD_MS;
    return wait_run(cli, w);
}

bool cluster_has_successors(struct cli *cli, uint32_t node, char *shards, size_t bytes) {
    const struct cluster_document *d = &cluster_known()->document;
    struct wait *w = wait_new(cli);
    size_t used = 0;
    shards[0] = 0;
    if (!w) return true; /* the node is drained, and that it leads on is told then */
    ask_all(w);
    for (uint32_t i = 0; i < d->shards_count && is_active(w, node); i++) {
        const struct cluster_shard *s = &d->shards[i];
        char name[16];
        if (s->state != CLUSTER_SHARD_ACTIVE || cluster_server_on(s, node) == 0 ||
            has_successor(w, s, node))
            continue;
        if (used + sizeof name + 2 < bytes)
            used += (size_t)snprintf(shards + used, bytes - used, "%s%s", used ? ", " : "",
                                     cluster_shard_name(s->shard, name));
    }
    forget_all(w);
    wait_delete(w);
    return used == 0;
}
