/* The commands that change where replicas and leads are, and how many shards there are. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/command.h"
#include "clients/cli/cli_cluster.h"
#include "clients/cli/text.h"
#include "engine/base/program.h"

enum { SPREAD_MS = 3000, SPREAD_LOOK_MS = 50 };

/* Waits until the first node knows of the change as well: what is looked at next is not older. */
static void await_spread(struct cli *cli) {
    for (int64_t until_ms = text_now_ms() + SPREAD_MS; text_now_ms() < until_ms;) {
        if (cluster_is_spread(cli)) return;
        usleep(SPREAD_LOOK_MS * 1000);
    }
}

/* Sends a command whose body is these numbers, and waits for its effect. *decided, unless NULL:
 * whether it stands in the document, whatever became of the waiting. */
static int change_and_tell(struct cli *cli, uint32_t kind, const uint64_t *numbers, uint32_t count,
                           bool waits, bool *decided) {
    struct cluster_call call;
    struct cluster_answer a;
    if (!cluster_begin(&call, kind, true, count)) return CLI_NO_ANSWER;
    for (uint32_t i = 0; i < count; i++) msgpack_write_uint(&call.w, numbers[i]);
    int status = cluster_send(cli, &call, &a);
    uint32_t version = a.version;
    cluster_answer_free(&a);
    cluster_end(&call);
    if (status != CLI_DONE) return status;
    if (decided) *decided = true;
    await_spread(cli);
    if (cli->json && (!waits || args_flag(&cli->args, "no-wait"))) {
        json_t *out = json_pack("{s:i, s:s, s:I}", "code", 0, "name", "ok", "version",
                                (json_int_t)version);
        return cli_print_json(out);
    }
    if (!cli->quiet && !cli->json) printf("done: the cluster document is at version %u\n", version);
    /* A node that is away leads nothing, and hears of the document when it is back: growth does not
     * wait for it. */
    bool grows = kind == COMMAND_CLUSTER_GROW || kind == COMMAND_CLUSTER_CANCEL_GROW;
    if (waits && (kind == COMMAND_CLUSTER_DRAIN || kind == COMMAND_CLUSTER_UNDRAIN))
        return cluster_wait_for_node(cli, (uint32_t)numbers[0], kind == COMMAND_CLUSTER_DRAIN);
    if (waits && kind == COMMAND_CLUSTER_PREFER)
        return cluster_wait_for_lead(cli, (uint32_t)numbers[0]);
    return waits ? cluster_wait_for(cli, !grows) : CLI_DONE;
}

static int change(struct cli *cli, uint32_t kind, const uint64_t *numbers, uint32_t count,
                  bool waits) {
    return change_and_tell(cli, kind, numbers, count, waits, NULL);
}

static int change_node(struct cli *cli, uint32_t kind, bool waits) {
    uint32_t node;
    if (!cluster_node_word(cli, cli_word(cli, 0), &node)) return CLI_USAGE;
    uint64_t numbers[] = {node};
    return change(cli, kind, numbers, 1, waits);
}

int cli_cluster_remove(struct cli *cli) {
    return change_node(cli, COMMAND_CLUSTER_REMOVE_NODE, true);
}

/* The document does not know who lives: drained although nobody answers that could take its leads
 * over, the node would lead on. */
int cli_cluster_drain(struct cli *cli) {
    const struct cluster_known *k;
    uint32_t node;
    char shards[128];
    if (!cluster_node_word(cli, cli_word(cli, 0), &node)) return CLI_USAGE;
    int status = args_flag(&cli->args, "force") ? CLI_DONE : cluster_fetch(cli, false, &k);
    if (status != CLI_DONE) return status;
    if (!args_flag(&cli->args, "force") &&
        !cluster_has_successors(cli, node, shards, sizeof shards)) {
        cli_error(cli, "refused: nobody could take over from node %u: of the shards %s no other "
                  "node answers that is not drained: undrain one, or start one (--force drains it "
                  "all the same where one that is not drained is only away)", node, shards);
        return CLI_REFUSED;
    }
    return change_node(cli, COMMAND_CLUSTER_DRAIN, true);
}

int cli_cluster_undrain(struct cli *cli) { return change_node(cli, COMMAND_CLUSTER_UNDRAIN, true); }

int cli_cluster_move(struct cli *cli) {
    uint32_t shard, from, to;
    if (!cluster_shard_word(cli, cli_word(cli, 0), &shard) ||
        !cluster_node_word(cli, cli_word(cli, 1), &from) ||
        !cluster_node_word(cli, cli_word(cli, 2), &to))
        return CLI_USAGE;
    uint64_t numbers[] = {shard, from, to};
    return change(cli, COMMAND_CLUSTER_MOVE_REPLICA, numbers, 3, true);
}

int cli_cluster_transfer(struct cli *cli) {
    uint32_t shard, node;
    if (!cluster_shard_word(cli, cli_word(cli, 0), &shard) ||
        !cluster_node_word(cli, cli_word(cli, 1), &node))
        return CLI_USAGE;
    uint64_t numbers[] = {shard, node};
    return change(cli, COMMAND_CLUSTER_PREFER, numbers, 2, true);
}

int cli_cluster_balance(struct cli *cli) {
    return change(cli, COMMAND_CLUSTER_BALANCE, NULL, 0, true);
}

int cli_cluster_readdress(struct cli *cli) {
    struct cluster_call call;
    struct cluster_answer a;
    uint32_t node;
    if (!cluster_node_word(cli, cli_word(cli, 0), &node) || !cli_address(cli, cli_word(cli, 1)) ||
        !cli_address(cli, cli_word(cli, 2)))
        return CLI_USAGE;
    if (!cluster_begin(&call, COMMAND_CLUSTER_READDRESS_NODE, true, 3)) return CLI_NO_ANSWER;
    msgpack_write_uint(&call.w, node);
    msgpack_write_text(&call.w, cli_word(cli, 1));
    msgpack_write_text(&call.w, cli_word(cli, 2));
    int status = cluster_send(cli, &call, &a);
    if (status == CLI_DONE && !cli->quiet)
        printf("done: the cluster document is at version %u\n", a.version);
    cluster_answer_free(&a);
    cluster_end(&call);
    return status;
}

int cli_cluster_grow(struct cli *cli) {
    int64_t shards = 0, in_ms = 300000, from_ms = 0;
    if (!cli_int_option(cli, "shards", &shards) || !cli_span_option(cli, "in", &in_ms) ||
        !cli_int_option(cli, "from-ms", &from_ms))
        return CLI_USAGE;
    if (shards < 1 || shards > SHARDS_MAX)
        return cli_usage(cli, "--shards: from 1 to %d", SHARDS_MAX);
    if (from_ms == 0) from_ms = text_now_ms() + in_ms;
    if (from_ms < 0) return cli_usage(cli, "--from-ms: a time in Unix milliseconds");
    uint64_t numbers[] = {(uint64_t)shards, (uint64_t)from_ms};
    bool decided = false;
    const struct cluster_known *k;
    int status = args_flag(&cli->args, "force") ? CLI_DONE : cluster_fetch(cli, false, &k);
    if (status != CLI_DONE) return status;
    if (!args_flag(&cli->args, "force") && !cluster_ports_are_free(cli, (uint32_t)shards))
        return CLI_REFUSED;
    status = change_and_tell(cli, COMMAND_CLUSTER_GROW, numbers, 2, true, &decided);
    char when[TEXT_BYTES], sentence[256];
    snprintf(sentence, sizeof sentence,
             "orders born from %s on are spread over %" PRId64 " shards; until %d s before that, "
             "jumun cluster cancel-grow calls it off",
             text_time(when, from_ms), shards, (int)(CLUSTER_EPOCH_AHEAD_MS_MIN / 1000));
    if (status == CLI_DONE && !cli->quiet && !cli->json) puts(sentence);
    if (status != CLI_DONE && decided) cli_error(cli, "the growth is planned all the same: %s",
                                                 sentence);
    return status;
}

/* The highest shard that runs although no order is spread over it; UINT32_MAX = none. */
static uint32_t surplus_shards(uint32_t *first) {
    const struct cluster_document *d = &cluster_known()->document;
    uint32_t last = UINT32_MAX;
    *first = 0;
    for (uint32_t i = 0; i < d->epochs_count; i++)
        if (d->epochs[i].shards_count > *first) *first = d->epochs[i].shards_count;
    for (uint32_t i = *first; i + 1u < d->shards_count; i++)
        if (d->shards[i].state == CLUSTER_SHARD_ACTIVE) last = i;
    return last;
}

int cli_cluster_cancel_grow(struct cli *cli) {
    uint32_t first;
    int status = change(cli, COMMAND_CLUSTER_CANCEL_GROW, NULL, 0, true);
    if (status != CLI_DONE || cli->quiet || cli->json) return status;
    uint32_t last = surplus_shards(&first);
    if (last != UINT32_MAX)
        printf("no order belongs to the shards from %u to %u, which run on: another growth uses "
               "them, jumun cluster retire SHARD stops one\n", first, last);
    return status;
}

/* What a shard's leader says of it; to be freed with cluster_status_free() if found. */
static const msgpack_object *leader_row(struct cli *cli, uint32_t shard,
                                        struct cluster_status *status) {
    const struct cluster_document *d = &cluster_known()->document;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (d->nodes[i].state == CLUSTER_MEMBER_REMOVED ||
            !cluster_status_of(cli, d->nodes[i].client, status))
            continue;
        const msgpack_object *row = cluster_status_shard(status, shard);
        if (row && value_int(row, "leader_node", 0) == d->nodes[i].node) return row;
        cluster_status_free(status);
    }
    return NULL;
}

static uint64_t orders_in(const msgpack_object *row) {
    const msgpack_object *states = value_at(row, "orders_by_state");
    uint64_t count = 0;
    if (!states || states->type != MSGPACK_OBJECT_MAP) return 0;
    for (uint32_t i = 0; i < states->via.map.size; i++)
        if (states->via.map.ptr[i].val.type == MSGPACK_OBJECT_POSITIVE_INTEGER)
            count += states->via.map.ptr[i].val.via.u64;
    return count;
}

/* Whether nothing lives in a shard any more, which only its leader knows, from its log. False after
 * a sentence that says what does. */
static bool is_empty(struct cli *cli, uint32_t shard, int *status) {
    struct cluster_status answer;
    const msgpack_object *row = leader_row(cli, shard, &answer);
    char orders[TEXT_BYTES], stores[TEXT_BYTES];
    *status = row ? CLI_REFUSED : CLI_NO_ANSWER;
    if (!row) {
        cli_error(cli, "the leader of shard %u does not answer", shard);
        return false;
    }
    bool empty = value_int(row, "empty", 0) != 0;
    if (!empty && value_int(row, "stores_moving", 0))
        cli_error(cli, "refused: stores are on their way from or to shard %u (see jumun cluster "
                       "status)", shard);
    else if (!empty)
        cli_error(cli, "refused: shard %u is not empty: %s orders, %s stores, %" PRId64
                       " messages to other shards", shard, text_count(orders, orders_in(row)),
                  text_count(stores, (uint64_t)value_int(row, "stores_in_memory", 0)),
                  value_int(row, "messages_waiting", 0));
    cluster_status_free(&answer);
    return empty;
}

/* Whether no other shard has a message for this one, which might have to go on from there. False
 * after a sentence. */
static bool is_owed_nothing(struct cli *cli, uint32_t shard, int *status) {
    const struct cluster_document *d = &cluster_known()->document;
    for (uint32_t s = 0; s + 1u < d->shards_count; s++) {
        struct cluster_status answer;
        if (s == shard || d->shards[s].state != CLUSTER_SHARD_ACTIVE) continue;
        const msgpack_object *row = leader_row(cli, s, &answer);
        *status = row ? CLI_REFUSED : CLI_NO_ANSWER;
        if (!row) {
            cli_error(cli, "the leader of shard %u does not answer", s);
            return false;
        }
        const msgpack_object *list = value_at(row, "messages_for");
        bool owed = false;
        for (uint32_t i = 0; i < value_count(list); i++) {
            const msgpack_object *to = value_item(list, i);
            owed = owed || (to->type == MSGPACK_OBJECT_POSITIVE_INTEGER && to->via.u64 == shard);
        }
        cluster_status_free(&answer);
        if (!owed) continue;
        cli_error(cli, "refused: shard %u has messages for shard %u that have not come", s, shard);
        return false;
    }
    return true;
}

/* The document says whether keys may still be born there; whether anything lives there, only the
 * shards do. */
int cli_cluster_retire(struct cli *cli) {
    uint32_t shard;
    const struct cluster_known *k;
    if (!cluster_shard_word(cli, cli_word(cli, 0), &shard)) return CLI_USAGE;
    int status = cluster_fetch(cli, false, &k);
    if (status != CLI_DONE) return status;
    const struct cluster_shard *s = cluster_shard_find(&k->document, shard);
    /* What makes no sense, the document refuses with a better sentence. */
    if (s && s->state == CLUSTER_SHARD_ACTIVE &&
        cluster_shard_is_over(&k->document, shard, text_now_ms()) &&
        (!is_owed_nothing(cli, shard, &status) || !is_empty(cli, shard, &status)))
        return status;
    uint64_t numbers[] = {shard};
    return change(cli, COMMAND_CLUSTER_RETIRE_SHARD, numbers, 1, false);
}

/* -- the level --------------------------------------------------------------------------------- */

/* Asks every node of the document which levels it can work at. *highest is what all of them can.
 * CLI_DONE, or the error was printed. */
static int ask_levels(struct cli *cli, const struct cluster_document *d, uint8_t *highest) {
    *highest = UINT8_MAX;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        struct cluster_status status;
        uint8_t min, max;
        if (m->state == CLUSTER_MEMBER_REMOVED) continue;
        if (!cluster_status_of(cli, m->client, &status)) {
            cli_error(cli, "node %u (%s) does not say what it can: %s", m->node, m->client,
                      status.error);
            return CLI_NO_ANSWER;
        }
        bool itself = value_int(status.map, "node_id", 0) == m->node;
        cluster_status_levels(&status, &min, &max);
        cluster_status_free(&status);
        if (!itself) {
            cli_error(cli, "another node than %u answers at %s", m->node, m->client);
            return CLI_NO_ANSWER;
        }
        if (max < *highest) *highest = max;
    }
    return CLI_DONE;
}

static int send_level(struct cli *cli, const struct cluster_document *d, uint8_t level) {
    struct cluster_call call;
    struct cluster_answer a;
    uint32_t nodes[NODES_MAX], count = 0;
    for (uint32_t i = 0; i < d->nodes_count; i++)
        if (d->nodes[i].state != CLUSTER_MEMBER_REMOVED) nodes[count++] = d->nodes[i].node;
    if (!cluster_begin(&call, COMMAND_CLUSTER_RAISE_LEVEL, true, 2)) return CLI_NO_ANSWER;
    msgpack_write_uint(&call.w, level);
    msgpack_write_array(&call.w, count);
    for (uint32_t i = 0; i < count; i++) msgpack_write_uint(&call.w, nodes[i]);
    int status = cluster_send(cli, &call, &a);
    cluster_answer_free(&a);
    cluster_end(&call);
    return status;
}

int cli_cluster_raise_level(struct cli *cli) {
    const struct cluster_known *k;
    int64_t wanted = 0;
    uint8_t highest;
    const char *word = cli_word(cli, 0);
    if (word && (!text_parse_int64(word, &wanted) || wanted < 1 || wanted >= LEVELS_MAX))
        return cli_usage(cli, "\"%.40s\" is no level: a number from 1 to %d", word,
                         LEVELS_MAX - 1);
    int status = cluster_fetch(cli, false, &k);
    if (status == CLI_DONE) status = ask_levels(cli, &k->document, &highest);
    if (status != CLI_DONE) return status;
    uint8_t now = program_level(k->document.level), level = word ? (uint8_t)wanted : highest;
    if (level > highest) {
        cli_error(cli, "refused: not all nodes can work at level %u, see jumun cluster status",
                  level);
        return CLI_REFUSED;
    }
    if (level > now) status = send_level(cli, &k->document, level);
    if (status != CLI_DONE) return status;
    if (level > now) await_spread(cli);
    if (cli->json)
        return cli_print_json(json_pack("{s:i, s:s, s:i, s:i}", "code", 0, "name", "ok", "level",
                                        level > now ? level : now, "before", now));
    if (!cli->quiet && level > now)
        printf("done: the cluster is at level %u (was %u); who cannot work at it is refused "
               "from now on\n", level, now);
    if (!cli->quiet && level <= now) printf("the cluster is at level %u already\n", now);
    return CLI_DONE;
}
