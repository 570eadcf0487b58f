#include "clients/cli/cli_cluster_file.h"

#include <string.h>

#include "actors/result_codes.h"
#include "engine/base/hex.h"
#include "engine/wire/protocol.h"

/* A node of it has a place among others, which its status says, and no document: FILE_NODE, then
 * free the status. */
enum file_look { FILE_UNKNOWN, FILE_NODE, FILE_DOCUMENT };

static enum file_look file_look(struct cli *cli, const char *address,
                                struct cluster_status *status) {
    struct cluster_call call;
    struct cluster_answer a = {0};
    enum file_look found = FILE_UNKNOWN;
    if (!cluster_status_of(cli, address, status)) return found;
    bool placed = !cli_node_waits(status->map) && value_at(status->map, "document");
    if (placed && cluster_begin(&call, NODE_COMMAND_CLUSTER_DOCUMENT, false, 0)) {
        bool answers = cluster_ask(cli, address, &call, cli->timeout_ms, &a);
        if (answers && a.code == RESULT_CLUSTER_NOT_FORMED) found = FILE_NODE;
        if (answers && a.code == RESULT_OK) found = FILE_DOCUMENT;
        cluster_answer_free(&a);
        cluster_end(&call);
    }
    if (found != FILE_NODE) cluster_status_free(status);
    return found;
}

bool cluster_is_of_file(struct cli *cli, const char *address) {
    struct cluster_status status;
    if (file_look(cli, address, &status) != FILE_NODE) return false;
    cluster_status_free(&status);
    return true;
}

static void add_node(struct cluster_document *d, int64_t node, const msgpack_object *row) {
    uint32_t i = d->nodes_count;
    if (node < 1 || node > UINT32_MAX || i == NODES_MAX) return;
    for (; i > 0 && d->nodes[i - 1].node > node; i--) d->nodes[i] = d->nodes[i - 1];
    d->nodes[i] = (struct cluster_member){.node = (uint32_t)node, .state = CLUSTER_MEMBER_ACTIVE};
    value_text(row, "endpoint", d->nodes[i].client, sizeof d->nodes[i].client);
    d->nodes_count++;
}

static void add_server(struct cluster_document *d, struct cluster_shard *s,
                       const msgpack_object *server) {
    if (!server || server->type != MSGPACK_OBJECT_POSITIVE_INTEGER) return;
    for (uint32_t i = 0; i < s->servers_count; i++)
        if (s->servers[i] == server->via.u64) return;
    if (s->servers_count == REPLICAS_MAX) return;
    s->servers[s->servers_count++] = server->via.u64;
    if (s->servers_count > d->replicas) d->replicas = s->servers_count;
}

/* The groups that a node has a replica of. */
static void add_groups(struct cluster_document *d, const struct cluster_status *status) {
    for (uint32_t i = 0; i < d->shards_count; i++) {
        const msgpack_object *group =
            value_at(cluster_status_shard(status, d->shards[i].shard), "group");
        for (uint32_t k = 0; k < value_count(group); k++)
            add_server(d, &d->shards[i], value_item(value_item(group, k), 0));
    }
}

static bool has_all_groups(const struct cluster_document *d) {
    for (uint32_t i = 0; i < d->shards_count; i++)
        if (d->shards[i].servers_count == 0) return false;
    return true;
}

/* Whoever the node is, and the others that it names. False: what it says cannot be. */
static bool begin_with(struct cluster_known *k, const struct cluster_status *status) {
    struct cluster_document *d = &k->document;
    const msgpack_object *others = value_at(status->map, "nodes");
    int64_t shards = value_int(status->map, "shards_count", 0);
    char id[CLUSTER_ID_BYTES];
    memset(k, 0, sizeof *k);
    value_text(status->map, "cluster_id", id, sizeof id);
    if (shards < 1 || shards > SHARDS_MAX || !hex_parse(id, d->cluster_id.bytes, 16)) return false;
    k->of_file = true;
    k->version = (uint64_t)value_int(status->map, "document", 1);
    d->level = (uint8_t)value_int(status->map, "level", 0);
    d->stores_shards = (uint32_t)shards;
    d->epochs_count = 1;
    d->epochs[0].shards_count = (uint32_t)shards;
    d->shards_count = (uint16_t)shards;
    for (uint32_t i = 0; i < d->shards_count; i++)
        d->shards[i] = (struct cluster_shard){.shard = i, .state = CLUSTER_SHARD_ACTIVE};
    add_node(d, value_int(status->map, "node_id", 0), status->map);
    for (uint32_t i = 0; i < value_count(others); i++)
        add_node(d, value_int(value_item(others, i), "node", 0), value_item(others, i));
    return true;
}

const struct cluster_known *cluster_file_read(struct cli *cli) {
    static struct cluster_known found;
    struct cluster_document *d = &found.document;
    struct cluster_status status;
    enum file_look look = FILE_UNKNOWN;
    bool good = false;
    /* One that has a document speaks for all. */
    for (uint32_t i = 0; !good && look != FILE_DOCUMENT && cluster_address(cli, i); i++) {
        char address[ENDPOINT_BYTES_MAX];
        snprintf(address, sizeof address, "%s", cluster_address(cli, i));
        look = file_look(cli, address, &status);
        if (look != FILE_NODE) continue;
        good = begin_with(&found, &status);
        if (good) add_groups(d, &status);
        cluster_status_free(&status);
    }
    for (uint32_t i = 0; good && i < d->nodes_count && !has_all_groups(d); i++) {
        if (!cluster_status_of(cli, d->nodes[i].client, &status)) continue;
        add_groups(d, &status);
        cluster_status_free(&status);
    }
    return good ? &found : NULL;
}
