/* Founding and joining: nodes that wait (jumund --cluster-wait) become a cluster or part of one. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "actors/command.h"
#include "clients/cli/cli_cluster.h"
#include "clients/cli/cli_unreached.h"
#include "clients/cli/progress.h"
#include "clients/cli/text.h"
#include "engine/base/program.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/msgpack_reader.h"

/* Of the messages to a waiting node: engine/cluster/waiting_message.h. */
enum { ADOPT = 104, SEED_READ = 105, SEED_WRITE = 106 };
enum { FORM_ASK_MS = 5000, FORM_SEED_MS = 60000, FORM_DOCUMENT_BYTES = 1 << 18,
       FORM_TURN_MS = 100 };

/* -- one waiting node -------------------------------------------------------------------------- */

/* "tcp://0.0.0.0:7300" of a node that was reached at tcp://10.0.0.2:7400 -> tcp://10.0.0.2:7300. */
static bool peer_address(const char *client, const char *peer_listen, char *out, size_t bytes) {
    const char *host = strstr(client, "://"), *peer_host = strstr(peer_listen, "://");
    const char *colon = host ? strrchr(client, ':') : NULL;
    const char *port = peer_host ? strrchr(peer_listen, ':') : NULL;
    if (!host || !peer_host || strncmp(peer_listen, "inproc", 6) == 0 || colon <= host ||
        port <= peer_host)
        return snprintf(out, bytes, "%s", peer_listen) < (int)bytes && peer_host;
    return snprintf(out, bytes, "%.*s%.*s%s", (int)(peer_host + 3 - peer_listen), peer_listen,
                    (int)(colon - host - 3), host + 3, port) < (int)bytes;
}

static uint64_t whole_number(const msgpack_object *value) {
    return value && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? value->via.u64 : 0;
}

static void look_at_epochs(const msgpack_object *map, struct cluster_waiting *w) {
    const msgpack_object *epochs = value_at(map, "epochs");
    int64_t generation = value_int(map, "generation", -1);
    w->knows_generations = generation >= 0;
    w->generation = generation > 0 && generation <= UINT8_MAX ? (uint8_t)generation : 0;
    w->stores_shards = (uint32_t)value_int(map, "stores_shards", 0);
    w->epochs_count = value_count(epochs);
    if (w->epochs_count > EPOCHS_MAX) w->epochs_count = EPOCHS_MAX; /* the node refuses that */
    for (uint32_t i = 0; i < w->epochs_count; i++) {
        const msgpack_object *epoch = value_item(epochs, i);
        w->epochs[i].from_ms = (int64_t)whole_number(value_item(epoch, 0));
        w->epochs[i].shards_count = (uint32_t)whole_number(value_item(epoch, 1));
    }
}

/* CLI_DONE, or the error was printed. */
static int cluster_look_at(struct cli *cli, const char *address, struct cluster_waiting *w) {
    struct cluster_status status;
    char state[32], peer[ENDPOINT_BYTES_MAX];
    memset(w, 0, sizeof *w);
    if (strlen(address) >= sizeof w->client)
        return cli_usage(cli, "\"%.60s...\" is too long", address);
    memcpy(w->client, address, strlen(address) + 1);
    if (!cluster_status_of(cli, address, &status)) {
        char why[REACH_SENTENCE_BYTES];
        cli_error(cli, "%s: %s", address, cli_unreached_why(address, status.error, why));
        return status.stranger ? CLI_USAGE : CLI_NO_ANSWER;
    }
    value_text(status.map, "state", state, sizeof state);
    w->waits = strcmp(state, "waiting") == 0;
    value_text(status.map, "peer_listen", peer, sizeof peer);
    value_text(status.map, "cluster_id", w->cluster_id, sizeof w->cluster_id);
    w->shards = (uint32_t)value_int(status.map, "shards", 0);
    w->process = whole_number(value_at(status.map, "process"));
    look_at_epochs(status.map, w);
    cluster_status_levels(&status, &w->level_min, &w->level_max);
    w->node = (uint32_t)value_int(status.map, w->waits ? "node" : "node_id", 0);
    cluster_status_free(&status);
    if (!w->waits || peer_address(address, peer, w->peer, sizeof w->peer)) return CLI_DONE;
    cli_error(cli, "%s does not say where other nodes find it", address);
    return CLI_NO_ANSWER;
}

/* Asks a waiting node. CLI_DONE, or the error was printed. */
static int ask_waiting(struct cli *cli, const char *address, const struct cluster_call *call,
                       uint32_t timeout_ms, struct cluster_answer *a) {
    if (cluster_ask(cli, address, call, timeout_ms, a) && a->code == 0) return CLI_DONE;
    int status = a->code != UINT32_MAX ? CLI_REFUSED : a->stranger ? CLI_USAGE : CLI_NO_ANSWER;
    cli_error(cli, "%s: %s", address, a->sentence);
    cluster_answer_free(a);
    return status;
}

/* Has a waiting node taken into the cluster of the known document. */
static int cluster_adopt(struct cli *cli, const char *address, uint32_t node) {
    struct cluster_call call;
    struct cluster_answer a;
    const struct cluster_known *k = cluster_known();
    uint8_t *document = malloc(FORM_DOCUMENT_BYTES);
    if (!document || !cluster_begin(&call, ADOPT, false, 2)) return CLI_NO_ANSWER;
    struct msgpack_writer w;
    msgpack_writer_init(&w, document, FORM_DOCUMENT_BYTES);
    cluster_encode(&w, k->version, &k->document);
    msgpack_write_bin(&call.w, document, (uint32_t)msgpack_writer_size(&w));
    msgpack_write_uint(&call.w, node);
    int status = ask_waiting(cli, address, &call, FORM_SEED_MS, &a);
    cluster_answer_free(&a);
    cluster_end(&call);
    free(document);
    return status;
}

/* -- the orders of a node that had some -------------------------------------------------------- */

struct seed_piece { uint64_t total; struct bytes data; };

static bool read_piece(struct bytes value, struct seed_piece *piece) {
    struct msgpack_reader r;
    uint32_t fields, size;
    const void *name, *data = NULL;
    msgpack_reader_init(&r, value.data, value.size);
    if (msgpack_read_map(&r, &fields) != MSGPACK_OK) return false;
    memset(piece, 0, sizeof *piece);
    for (uint32_t i = 0; i < fields; i++) {
        if (msgpack_read_str(&r, &name, &size) != MSGPACK_OK) return false;
        bool total = bytes_equal(bytes_of(name, size), bytes_of_text("total"));
        if (total ? msgpack_read_uint(&r, &piece->total) != MSGPACK_OK
                  : msgpack_read_bin(&r, &data, &size) != MSGPACK_OK)
            return false;
        if (!total) piece->data = bytes_of(data, size);
    }
    return true;
}

static int write_piece(struct cli *cli, const char *to, uint32_t shard, uint64_t offset,
                       const struct seed_piece *piece) {
    struct cluster_call call;
    struct cluster_answer a;
    if (!cluster_begin(&call, SEED_WRITE, false, 4)) return CLI_NO_ANSWER;
    msgpack_write_uint(&call.w, shard);
    msgpack_write_uint(&call.w, offset);
    msgpack_write_uint(&call.w, piece->total);
    msgpack_write_bin(&call.w, piece->data.data, piece->data.size);
    int status = ask_waiting(cli, to, &call, FORM_SEED_MS, &a);
    cluster_answer_free(&a);
    cluster_end(&call);
    return status;
}

/* Carries the stored state of one shard to all other nodes. */
static int carry_shard(struct cli *cli, uint32_t shard, const struct cluster_waiting *nodes,
                       uint32_t count, struct progress *bar, uint64_t *carried) {
    uint64_t offset = 0;
    for (struct seed_piece piece = {.total = 1}; offset < piece.total;) {
        struct cluster_call call;
        struct cluster_answer a;
        if (!cluster_begin(&call, SEED_READ, false, 2)) return CLI_NO_ANSWER;
        msgpack_write_uint(&call.w, shard);
        msgpack_write_uint(&call.w, offset);
        int status = ask_waiting(cli, nodes[0].client, &call, FORM_SEED_MS, &a);
        cluster_end(&call);
        if (status != CLI_DONE) return status;
        if (!read_piece(a.value, &piece) || piece.data.size == 0) {
            cli_error(cli, "%s: the state of shard %u breaks off", nodes[0].client, shard);
            status = CLI_NO_ANSWER;
        }
        for (uint32_t i = 1; i < count && status == CLI_DONE; i++)
            status = write_piece(cli, nodes[i].client, shard, offset, &piece);
        offset += piece.data.size;
        *carried += piece.data.size;
        progress_update(bar, (double)offset / (double)piece.total, *carried, "");
        cluster_answer_free(&a);
        if (status != CLI_DONE) return status;
    }
    return CLI_DONE;
}

static int carry(struct cli *cli, const struct cluster_waiting *nodes, uint32_t count) {
    struct progress bar;
    uint64_t carried = 0;
    int status = CLI_DONE;
    progress_start(&bar, cli->quiet || cli->json ? NULL : stderr, "copying orders", "bytes",
                   cli->color_errors);
    for (uint32_t s = 0; s < nodes[0].shards && status == CLI_DONE; s++)
        status = carry_shard(cli, s, nodes, count, &bar, &carried);
    /* Refused before anything was copied: the refusal says all there is to say. */
    if (status == CLI_DONE || carried > 0)
        progress_end(&bar, status == CLI_DONE ? 1 : -1, carried, "");
    return status;
}

/* -- form -------------------------------------------------------------------------------------- */

struct form {
    struct cluster_waiting nodes[NODES_MAX];
    uint32_t count, shards, replicas;
    uint32_t member;           /* position + 1 of a node that belongs to a cluster already */
};

/* Two names of one host, say. It would be taken in under the first one, and the cluster lack a
 * node for good. */
static int refuse_one_node_twice(struct cli *cli, const struct form *f,
                                 const struct cluster_waiting *w) {
    for (uint32_t i = 0; i < f->count; i++) {
        const struct cluster_waiting *other = &f->nodes[i];
        bool same = strcmp(other->client, w->client) == 0;
        if (!same && (w->process == 0 || other->process != w->process)) continue;
        if (same) cli_error(cli, "%s is named twice", w->client);
        else cli_error(cli, "%s and %s are the same node", other->client, w->client);
        return CLI_REFUSED;
    }
    return CLI_DONE;
}

/* All nodes of the command line; whoever has orders comes first. */
static int look_at_all(struct cli *cli, struct form *f) {
    size_t cursor = 0;
    const char *address;
    uint32_t seeded = 0;
    /* Before any of them is asked. */
    while ((address = args_next(&cli->args, "node", &cursor)))
        if (!cli_address(cli, address)) return CLI_USAGE;
    cursor = 0;
    while ((address = args_next(&cli->args, "node", &cursor))) {
        if (f->count == NODES_MAX) return cli_usage(cli, "at most %d nodes", NODES_MAX);
        struct cluster_waiting *w = &f->nodes[f->count];
        int status = cluster_look_at(cli, address, w);
        if (status == CLI_DONE) status = refuse_one_node_twice(cli, f, w);
        if (status != CLI_DONE) return status;
        f->count++;
        if (!w->waits) f->member = f->count;
        if (!w->waits || w->shards == 0) continue;
        if (seeded++ > 0) {
            cli_error(cli, "%s and %s both have orders: a cluster is formed from one node that "
                           "has, and from empty ones",
                      f->nodes[0].client, w->client);
            return CLI_REFUSED;
        }
        struct cluster_waiting first = *w;
        *w = f->nodes[0];
        f->nodes[0] = first;
    }
    return CLI_DONE;
}

static bool hex_id(const char *hex, struct id128 *id) {
    for (uint32_t i = 0; i < 16; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1) return false;
        id->bytes[i] = (uint8_t)byte;
    }
    return true;
}

/* The level that the cluster begins at: what all of them can. A node that was alone has written by
 * the highest of its own. CLI_DONE, or the error was printed. */
static int first_level(struct cli *cli, const struct form *f, uint8_t *level) {
    uint32_t lowest = 0;
    bool seeded = f->nodes[0].shards > 0;
    for (uint32_t i = 1; i < f->count; i++)
        if (f->nodes[i].level_max < f->nodes[lowest].level_max) lowest = i;
    *level = f->nodes[seeded ? 0 : lowest].level_max;
    for (uint32_t i = 0; i < f->count; i++) {
        const struct cluster_waiting *w = &f->nodes[i];
        if (w->level_min <= *level && w->level_max >= *level) continue;
        cli_error(cli, "%s can work at levels %u to %u, and the cluster would begin at %u: install "
                       "one version on all nodes", w->client, w->level_min, w->level_max, *level);
        return CLI_REFUSED;
    }
    return CLI_DONE;
}

/* CLI_DONE when all of them can keep what the orders that are there were spread by; else the error
 * was printed. */
static int all_know_generations(struct cli *cli, const struct form *f) {
    for (uint32_t i = 0; f->nodes[0].generation > 0 && i < f->count; i++) {
        if (f->nodes[i].knows_generations) continue;
        cli_error(cli, "%s runs a version that cannot be formed into a cluster with what is left "
                       "of another: install one version on all nodes", f->nodes[i].client);
        return CLI_REFUSED;
    }
    return CLI_DONE;
}

/* Decides the first document here, by the rules that the meta group will decide it with again. */
static int first_document(struct cli *cli, struct form *f) {
    static _Alignas(8) uint8_t events[1 << 18];
    static struct cluster_founder founders[NODES_MAX];
    struct command c = {.kind = COMMAND_CLUSTER_FORM, .subject = cluster_key(), .id = {{1}}};
    bool seeded = f->nodes[0].shards > 0;
    if (seeded ? !hex_id(f->nodes[0].cluster_id, &c.cluster.cluster_id)
               : getrandom(&c.cluster.cluster_id, 16, 0) != 16)
        return CLI_NO_ANSWER;
    uint32_t base = seeded ? f->nodes[0].node : 1;
    for (uint32_t i = 0; i < f->count; i++)
        founders[i] = (struct cluster_founder){base + i, bytes_of_text(f->nodes[i].peer),
                                               bytes_of_text(f->nodes[i].client)};
    c.cluster.nodes = founders;
    c.cluster.nodes_count = f->count;
    c.cluster.shards = seeded ? f->nodes[0].shards : f->shards;
    c.cluster.replicas = f->replicas;
    c.cluster.seeded = seeded;
    c.cluster.epochs = f->nodes[0].epochs;
    c.cluster.epochs_count = f->nodes[0].epochs_count;
    c.cluster.stores_shards = f->nodes[0].stores_shards;
    c.cluster.generation = f->nodes[0].generation;
    int status = all_know_generations(cli, f);
    if (status == CLI_DONE) status = first_level(cli, f, &c.cluster.level);
    if (status != CLI_DONE) return status;
    struct decide_context context = {.index = 1, .now_ms = text_now_ms()};
    struct event_sink sink = {.data = events, .capacity = sizeof events};
    struct decision d = cluster_decide(NULL, &c, &context, &sink);
    if (d.code != RESULT_OK) {
        cli_error(cli, "refused [%u %s]: %s", d.code, result_code_name(d.code),
                  result_code_text(d.code));
        return CLI_REFUSED;
    }
    const struct event *event = (const struct event *)(const void *)events;
    /* More than cluster_bytes_after(): a compiler that sees no more than the one record in it takes
     * the way of a full list for a write past the end. */
    struct actor *block = calloc(1, ACTOR_BYTES_MAX);
    uint8_t *encoded = malloc(FORM_DOCUMENT_BYTES);
    char sentence[CLUSTER_SENTENCE_BYTES] = "no memory";
    bool good = block && encoded;
    if (good) {
        struct msgpack_writer w;
        cluster_apply(block, event, &(struct apply_context){1, context.now_ms});
        msgpack_writer_init(&w, encoded, FORM_DOCUMENT_BYTES);
        cluster_encode(&w, 1, cluster_document_of(block));
        good = cluster_learn(encoded, msgpack_writer_size(&w), sentence, sizeof sentence);
    }
    free(block);
    free(encoded);
    if (!good) cli_error(cli, "%s", sentence);
    return good ? CLI_DONE : CLI_NO_ANSWER;
}

static int refuse_lost(struct cli *cli, const char *address, const struct cluster_member *m) {
    cli_error(cli, "%s is the address of node %u, which is %s, but an empty node waits there: its "
              "disk is lost, or an earlier command was broken off. jumun cluster replace %u %s "
              "gives it a new number", address, m->node, cluster_member_state_name(m->state),
              m->node, address);
    return CLI_REFUSED;
}

/* What members tell of a shard's group: whether founders that wait may have been of it. */
enum group_past { GROUP_NOT_BEGUN, GROUP_BEGAN, GROUP_NOT_TOLD, GROUP_SERVED };

/* A founder's log begins with one entry; only a leader, who needs a majority, adds to it. */
static enum group_past past_told(const struct form *f, const msgpack_object *row, bool meta) {
    const struct cluster_document *d = &cluster_known()->document;
    char role[16];
    if (value_int(row, "last_index", INT64_MAX) <= 1) return GROUP_NOT_BEGUN;
    value_text(row, "role", role, sizeof role);
    if (strcmp(role, "leader") != 0 || !value_bool(row, "ready", false)) return GROUP_NOT_TOLD;
    if (!meta && value_int(row, "empty", 0) == 0) return GROUP_SERVED;
    const msgpack_object *group = value_at(row, "group");
    for (uint32_t i = 0; i < value_count(group); i++) {
        uint32_t node = cluster_server_node(whole_number(value_item(value_item(group, i), 0)));
        bool heard = whole_number(value_item(value_item(group, i), 2)) > 0;
        const struct cluster_member *m = cluster_member_find(d, node);
        for (uint32_t n = 0; m && heard && n < f->count; n++)
            if (f->nodes[n].waits && strcmp(f->nodes[n].client, m->client) == 0)
                return GROUP_SERVED;
    }
    return GROUP_BEGAN;
}

/* A leader's word counts more than that its followers' logs were begun. */
static enum group_past past_of(const struct form *f, const struct cluster_status *told,
                               uint32_t shard) {
    enum group_past past = GROUP_NOT_BEGUN;
    bool open = false;
    for (uint32_t i = 0; i < f->count; i++) {
        const msgpack_object *row = told[i].map ? cluster_status_shard(&told[i], shard) : NULL;
        enum group_past one = row ? past_told(f, row, shard == SHARD_META) : GROUP_NOT_BEGUN;
        if (one == GROUP_SERVED) return one;
        if (one == GROUP_NOT_TOLD) open = true;
        else if (one == GROUP_BEGAN) past = one;
    }
    return open && past == GROUP_NOT_BEGUN ? GROUP_NOT_TOLD : past;
}

/* Of all groups. One whose meta group never had a leader has never served, whatever orders its
 * first node brought. */
static enum group_past past_of_all(struct cli *cli, const struct form *f) {
    const struct cluster_document *d = &cluster_known()->document;
    struct cluster_status *told = calloc(f->count, sizeof *told);
    enum group_past past = told ? GROUP_NOT_BEGUN : GROUP_NOT_TOLD;
    bool meta = false;
    for (uint32_t i = 0; told && i < f->count; i++) {
        if (f->nodes[i].waits) continue;
        if (!cluster_status_of(cli, f->nodes[i].client, &told[i])) past = GROUP_NOT_TOLD;
        else meta = meta || cluster_status_shard(&told[i], SHARD_META);
    }
    if (past == GROUP_NOT_BEGUN) past = meta ? past_of(f, told, SHARD_META) : GROUP_NOT_TOLD;
    for (uint32_t i = 0; past == GROUP_BEGAN && i < d->shards_count; i++) {
        enum group_past one = past_of(f, told, d->shards[i].shard);
        if (one > past) past = one;
    }
    for (uint32_t i = 0; told && i < f->count; i++)
        if (told[i].map) cluster_status_free(&told[i]);
    free(told);
    return past;
}

/* A founder that waits has not been taken in yet, or was and has lost its disk: then it would vote
 * as if it had promised nothing. Nothing tells the two apart but that nothing has been promised. */
static int refuse_founders_lost(struct cli *cli, const struct form *f) {
    const struct cluster_known *k = cluster_known();
    struct cluster_member lost = {0}; /* the document is fetched again */
    int64_t until_ms = text_now_ms() + cli->timeout_ms;
    for (uint32_t i = 0; i < f->count; i++)
        for (uint32_t n = 0; f->nodes[i].waits && n < k->document.nodes_count; n++)
            if (strcmp(k->document.nodes[n].client, f->nodes[i].client) == 0)
                lost = k->document.nodes[n];
    if (lost.node == 0) return CLI_DONE;
    enum group_past past = GROUP_SERVED;
    while (k->version == 1 && k->document.nodes_count == f->count &&
           (past = past_of_all(cli, f)) == GROUP_NOT_TOLD && text_now_ms() < until_ms)
        usleep(FORM_TURN_MS * 1000); /* a leader is elected */
    if (past == GROUP_BEGAN) { /* and may know more than the copy that was read */
        int status = cluster_fetch(cli, false, &k);
        if (status != CLI_DONE) return status;
        if (k->version != 1) past = GROUP_SERVED;
    }
    return past < GROUP_NOT_TOLD ? CLI_DONE : refuse_lost(cli, lost.client, &lost);
}

/* An earlier run was broken off: the first document is there, and goes to those who lack it. */
static int goes_on(struct cli *cli, struct form *f) {
    const struct cluster_known *k;
    cli->endpoint = f->nodes[f->member - 1].client;
    int status = cluster_fetch(cli, true, &k);
    if (status != CLI_DONE) return status;
    for (uint32_t i = 0; i < f->count; i++) {
        bool listed = false;
        for (uint32_t n = 0; n < k->document.nodes_count; n++)
            listed = listed || strcmp(k->document.nodes[n].client, f->nodes[i].client) == 0;
        if (listed) continue;
        cli_error(cli, "%s belongs to a cluster in which %s is not: to add a node, use "
                       "jumun cluster add",
                  f->nodes[f->member - 1].client, f->nodes[i].client);
        return CLI_REFUSED;
    }
    return refuse_founders_lost(cli, f);
}

/* The node with the orders first: from then on it cannot serve alone any more. */
static int adopt_all(struct cli *cli, struct form *f) {
    const struct cluster_document *d = &cluster_known()->document;
    for (uint32_t i = 0; i < f->count; i++) {
        if (!f->nodes[i].waits) continue;
        for (uint32_t n = 0; n < d->nodes_count; n++) {
            if (strcmp(d->nodes[n].client, f->nodes[i].client) != 0) continue;
            int status = cluster_adopt(cli, f->nodes[i].client, d->nodes[n].node);
            if (status != CLI_DONE) return status;
            if (!cli->quiet && !cli->json)
                printf("node %u: %s\n", d->nodes[n].node, f->nodes[i].client);
        }
    }
    return CLI_DONE;
}

static int form_run(struct cli *cli, struct form *f) {
    int64_t shards = 0, replicas = 3;
    if (!cli_int_option(cli, "shards", &shards) || !cli_int_option(cli, "replicas", &replicas))
        return CLI_USAGE;
    int status = look_at_all(cli, f);
    if (status != CLI_DONE) return status;
    if (f->count < 3) return cli_usage(cli, "form needs at least three --node URL");
    if (shards < 0 || shards > SHARDS_MAX || replicas < 3 || replicas > REPLICAS_MAX)
        return cli_usage(cli, "--shards: 1 to %d; --replicas: 3, 5 or 7", SHARDS_MAX);
    f->shards = shards > 0 ? (uint32_t)shards : 2 * f->count;
    f->replicas = (uint32_t)replicas;
    if (f->member > 0) {
        status = goes_on(cli, f);
    } else {
        status = first_document(cli, f);
        if (status == CLI_DONE && f->nodes[0].shards > 0) status = carry(cli, f->nodes, f->count);
    }
    if (status == CLI_DONE) status = adopt_all(cli, f);
    if (status != CLI_DONE) return status;
    cli->endpoint = f->nodes[0].client;
    return cluster_wait(cli);
}

int cli_cluster_form(struct cli *cli) {
    struct form *f = calloc(1, sizeof *f);
    int status = f ? form_run(cli, f) : CLI_NO_ANSWER;
    if (status == CLI_DONE && !cli->quiet && !cli->json)
        printf("the cluster serves: jumun --endpoint %s cluster status\n", f->nodes[0].client);
    free(f);
    return status;
}

/* -- join, add, replace ------------------------------------------------------------------------ */

/* A new node's number, once the document has it under this address. */
static int number_of(struct cli *cli, const char *client, uint32_t *node) {
    const struct cluster_known *k;
    int status = cluster_fetch(cli, false, &k);
    if (status != CLI_DONE) return status;
    for (uint32_t i = 0; i < k->document.nodes_count; i++) {
        const struct cluster_member *m = &k->document.nodes[i];
        if (m->state == CLUSTER_MEMBER_REMOVED || strcmp(m->client, client) != 0) continue;
        *node = m->node;
        return CLI_DONE;
    }
    cli_error(cli, "the cluster has no node at %s", client);
    return CLI_REFUSED;
}

/* The id tells the meta group, which remembers it, that this very waiting process was to be taken
 * in: asked again for it, it has been done. Another one that is empty at the same address, whose
 * disk is lost perhaps, asks under another id, and the address is taken. */
static bool taking_id(uint32_t kind, uint32_t replaced, const struct cluster_waiting *w,
                      struct id128 *id) {
    if (getrandom(id, sizeof *id, 0) != (ssize_t)sizeof *id) return false;
    if (w->process == 0) return true; /* it does not say who it is */
    memcpy(id->bytes, &w->process, 8);
    memcpy(id->bytes + 8, &kind, 4);
    memcpy(id->bytes + 12, &replaced, 4);
    return true;
}

static int write_addresses(struct cli *cli, uint32_t kind, uint32_t node, const struct id128 *id,
                           const struct cluster_waiting *w, bool *repeated) {
    struct cluster_call call;
    struct cluster_answer a;
    bool replaces = kind == COMMAND_CLUSTER_REPLACE_NODE;
    if (!cluster_begin_as(&call, kind, id, replaces ? 3 : 2)) return CLI_NO_ANSWER;
    if (replaces) msgpack_write_uint(&call.w, node);
    msgpack_write_text(&call.w, w->peer);
    msgpack_write_text(&call.w, w->client);
    int status = cluster_send(cli, &call, &a);
    *repeated = status == CLI_DONE && a.repeated;
    cluster_answer_free(&a);
    cluster_end(&call);
    return status;
}

/* Who has one of the waiting node's addresses, other than the one to be replaced; NULL = nobody. */
static const struct cluster_member *member_at(const struct cluster_document *d,
                                              const struct cluster_waiting *w, uint32_t replaced) {
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        if (m->state != CLUSTER_MEMBER_REMOVED && m->node != replaced &&
            (strcmp(m->client, w->client) == 0 || strcmp(m->peer, w->peer) == 0))
            return m;
    }
    return NULL;
}

/* Has the meta group decide whether the waiting node becomes a member. `member` has its address;
 * NULL = none does. */
static int ask_for_number(struct cli *cli, const struct cluster_waiting *w, uint32_t replaced,
                          const struct cluster_member *member) {
    uint32_t kind = replaced ? COMMAND_CLUSTER_REPLACE_NODE : COMMAND_CLUSTER_ADD_NODE;
    struct id128 id;
    bool repeated = false;
    if (!taking_id(kind, replaced, w, &id)) return CLI_NO_ANSWER;
    int status = write_addresses(cli, kind, replaced, &id, w, &repeated);
    const struct cluster_known *k = cluster_known();
    if (status == CLI_DONE && repeated && !member) status = cluster_fetch(cli, false, &k);
    /* It was one, and was removed before it was taken in: this is not that command again. */
    if (status == CLI_DONE && repeated && !member && !member_at(&k->document, w, replaced)) {
        if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id) return CLI_NO_ANSWER;
        status = write_addresses(cli, kind, replaced, &id, w, &repeated);
    }
    return status == CLI_REFUSED && member ? refuse_lost(cli, w->client, member) : status;
}

static bool was_removed(const struct cluster_document *d, uint32_t node) {
    for (uint32_t i = 0; i < d->nodes_count; i++)
        if (d->nodes[i].node == node) return d->nodes[i].state == CLUSTER_MEMBER_REMOVED;
    return false;
}

/* A node that does not wait: an earlier run may have taken it in. */
static int refuse_busy(struct cli *cli, const char *address, const struct cluster_waiting *w) {
    const struct cluster_known *k;
    struct id128 id;
    bool ours = strlen(w->cluster_id) == CLUSTER_ID_BYTES - 1 && hex_id(w->cluster_id, &id) &&
                cluster_fetch(cli, false, &k) == CLI_DONE &&
                memcmp(&id, &k->document.cluster_id, sizeof id) == 0;
    if (ours && was_removed(&k->document, w->node))
        cli_error(cli, "refused: %s is node %u of this cluster, which was removed or replaced: its "
                  "number never returns. Stop it, and start it on an empty directory with "
                  "--cluster-wait", address, w->node);
    else if (ours)
        cli_error(cli, "refused: %s is node %u of this cluster already (jumun cluster balance "
                  "gives it replicas)", address, w->node);
    else
        cli_error(cli, "%s does not wait for a cluster: start it on an empty directory with "
                  "--cluster-wait", address);
    return CLI_REFUSED;
}

/* Makes the waiting node at `address` a member (in the place of `node`, unless 0). */
static int take_in(struct cli *cli, const char *address, uint32_t replaced, uint32_t *number) {
    struct cluster_waiting w;
    if (!cli_address(cli, address)) return CLI_USAGE;
    int status = cluster_look_at(cli, address, &w);
    if (status != CLI_DONE) return status;
    if (!w.waits) return refuse_busy(cli, address, &w);
    if (w.shards > 0) {
        cli_error(cli, "%s has orders of its own: only an empty node can join", address);
        return CLI_REFUSED;
    }
    const struct cluster_known *k;
    status = cluster_fetch(cli, false, &k);
    uint8_t level = status == CLI_DONE ? program_level(k->document.level) : 0;
    if (status == CLI_DONE && (level < w.level_min || level > w.level_max)) {
        cli_error(cli, "%s can work at levels %u to %u, and the cluster is at %u: install the "
                       "version that the other nodes run", address, w.level_min, w.level_max,
                  level);
        return CLI_REFUSED;
    }
    if (status != CLI_DONE) return status;
    const struct cluster_member *at = member_at(&k->document, &w, replaced);
    struct cluster_member member = at ? *at : (struct cluster_member){0}; /* k is fetched again */
    status = ask_for_number(cli, &w, replaced, at ? &member : NULL);
    if (status == CLI_DONE) status = number_of(cli, w.client, number);
    if (status == CLI_DONE) status = cluster_adopt(cli, w.client, *number);
    if (status == CLI_DONE && !cli->quiet && !cli->json)
        printf("node %u: %s\n", *number, w.client);
    return status;
}

int cli_cluster_join(struct cli *cli) {
    uint32_t number;
    return take_in(cli, cli_word(cli, 0), 0, &number);
}

int cli_cluster_replace(struct cli *cli) {
    uint32_t node, number;
    if (!cluster_node_word(cli, cli_word(cli, 0), &node)) return CLI_USAGE;
    int status = take_in(cli, cli_word(cli, 1), node, &number);
    return status == CLI_DONE ? cluster_wait(cli) : status;
}

int cli_cluster_add(struct cli *cli) {
    struct cluster_call call;
    struct cluster_answer a;
    uint32_t number;
    int status = take_in(cli, cli_word(cli, 0), 0, &number);
    if (status != CLI_DONE) return status;
    if (!cluster_begin(&call, COMMAND_CLUSTER_BALANCE, true, 0)) return CLI_NO_ANSWER;
    status = cluster_send(cli, &call, &a);
    cluster_answer_free(&a);
    cluster_end(&call);
    return status == CLI_DONE ? cluster_wait(cli) : status;
}
