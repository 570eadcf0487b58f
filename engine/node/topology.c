#include "engine/node/topology.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/program.h"

/* -- questions --------------------------------------------------------------------------------- */

uint32_t topology_shards_count(const struct cluster_topology *t) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < t->epochs_count; i++) {
        if (t->epochs[i].shards_count > most) most = t->epochs[i].shards_count;
    }
    return most;
}

const struct cluster_node *topology_node(const struct cluster_topology *t, uint32_t node) {
    for (uint32_t i = 0; i < t->nodes_count; i++) {
        if (t->nodes[i].node == node) return &t->nodes[i];
    }
    return NULL;
}

const struct cluster_group *topology_group(const struct cluster_topology *t, uint32_t shard) {
    for (uint32_t i = 0; i < t->groups_count; i++) {
        if (t->groups[i].shard == shard) return &t->groups[i];
    }
    return NULL;
}

uint64_t topology_own_server(const struct cluster_topology *t, const struct cluster_group *group) {
    for (uint32_t i = 0; i < group->placement.count; i++) {
        uint64_t id = group->placement.servers[i];
        if (consensus_server_node(id) == t->node) return id;
    }
    return 0;
}

/* -- checks ------------------------------------------------------------------------------------ */

static bool topology_is_hex(const char *text) {
    return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
}

static bool topology_check_nodes(const struct cluster_topology *t, char *error, size_t bytes) {
    for (uint32_t i = 0; i < t->nodes_count; i++) {
        const struct cluster_node *n = &t->nodes[i];
        if (n->node == 0 || n->peer_endpoint[0] == 0 || n->client_endpoint[0] == 0) {
            snprintf(error, bytes, "node number %u has no number or no endpoints", i + 1);
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            const char *twice = NULL;
            if (t->nodes[k].node == n->node) twice = "number";
            else if (strcmp(t->nodes[k].peer_endpoint, n->peer_endpoint) == 0)
                twice = "peer endpoint";
            else if (strcmp(t->nodes[k].client_endpoint, n->client_endpoint) == 0)
                twice = "client endpoint";
            if (!twice) continue;
            snprintf(error, bytes, "nodes %u and %u have the same %s", t->nodes[k].node, n->node,
                     twice);
            return false;
        }
    }
    if (topology_node(t, t->node)) return true;
    snprintf(error, bytes, "node %u is not a node of the cluster %s", t->node, t->cluster_id);
    return false;
}

static bool topology_check_group(const struct cluster_topology *t, const struct cluster_group *g,
                                 char *error, size_t bytes) {
    const struct shard_placement *p = &g->placement;
    if (p->count != 1 && (p->count < 3 || p->count % 2 == 0 || p->count > REPLICAS_MAX)) {
        snprintf(error, bytes, "shard %u has %u replicas; a group has 1, 3, 5 or 7", g->shard,
                 p->count);
        return false;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t node = consensus_server_node(p->servers[i]);
        if (!topology_node(t, node)) {
            snprintf(error, bytes, "shard %u has a replica on node %u, which is not in the list of "
                     "nodes", g->shard, node);
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (consensus_server_node(p->servers[k]) != node) continue;
            snprintf(error, bytes, "shard %u names node %u twice", g->shard, node);
            return false;
        }
    }
    return true;
}

static bool topology_check_epochs(const struct cluster_topology *t, char *error, size_t bytes) {
    bool good = t->epochs_count >= 1 && t->epochs_count <= EPOCHS_MAX && t->epochs[0].from_ms == 0;
    for (uint32_t i = 0; good && i < t->epochs_count; i++) {
        const struct routing_epoch *e = &t->epochs[i];
        good = e->shards_count >= 1 && e->shards_count <= SHARDS_MAX &&
               (i == 0 || e->from_ms > e[-1].from_ms);
    }
    if (!good) snprintf(error, bytes, "the epochs are not 1 to %d shards from 0 on, sorted by time",
                        SHARDS_MAX);
    return good;
}

bool topology_check(const struct cluster_topology *t, char *error, size_t bytes) {
    if (!topology_is_hex(t->cluster_id)) {
        snprintf(error, bytes, "\"cluster_id\" must be 32 hexadecimal digits in lower case");
        return false;
    }
    if (!topology_check_nodes(t, error, bytes) || !topology_check_epochs(t, error, bytes))
        return false;
    for (uint32_t i = 0; i < t->groups_count; i++) {
        const struct cluster_group *g = &t->groups[i];
        if (g->shard >= SHARDS_MAX && g->shard != SHARD_META) {
            snprintf(error, bytes, "%u is no number of a shard", g->shard);
            return false;
        }
        if (topology_group(t, g->shard) != g) {
            snprintf(error, bytes, "shard %u is placed twice", g->shard);
            return false;
        }
        if (!topology_check_group(t, g, error, bytes)) return false;
    }
    return true;
}

/* -- the file ---------------------------------------------------------------------------------- */

static bool topology_copy_endpoint(const char *text, char *out) {
    size_t bytes = strlen(text);
    if (bytes == 0 || bytes >= ENDPOINT_BYTES_MAX) return false;
    memcpy(out, text, bytes + 1);
    return true;
}

static bool topology_read_nodes(json_t *list, struct cluster_topology *t, char *error,
                                size_t bytes) {
    size_t i;
    json_t *item;
    json_error_t fault;
    if (json_array_size(list) > NODES_MAX) {
        snprintf(error, bytes, "more than %d nodes", NODES_MAX);
        return false;
    }
    json_array_foreach(list, i, item) {
        json_int_t number = 0;
        const char *peers = "", *clients = "";
        struct cluster_node *n = &t->nodes[t->nodes_count++];
        if (json_unpack_ex(item, &fault, JSON_STRICT, "{s:I, s:s, s:s}", "node", &number, "peers",
                           &peers, "clients", &clients) != 0) {
            snprintf(error, bytes, "entry %zu of \"nodes\": %s", i + 1, fault.text);
            return false;
        }
        if (number < 1 || number > UINT32_MAX || !topology_copy_endpoint(peers, n->peer_endpoint) ||
            !topology_copy_endpoint(clients, n->client_endpoint)) {
            snprintf(error, bytes, "entry %zu of \"nodes\": a node has a number from 1 to "
                     "4294967295 and endpoints of 1 to %d bytes", i + 1, ENDPOINT_BYTES_MAX - 1);
            return false;
        }
        n->node = (uint32_t)number;
    }
    return true;
}

static void topology_add_server(struct cluster_group *g, uint32_t node) {
    uint64_t id = consensus_server_id(node, 0);
    g->first_servers[g->first_servers_count++] = id;
    g->placement.servers[g->placement.count++] = id;
}

/* Replica i of shard s is on node (s + i): each node leads its share. */
static void topology_deal(struct cluster_topology *t, uint32_t shard, uint32_t replicas) {
    struct cluster_group *g = &t->groups[t->groups_count++];
    uint32_t first = shard == SHARD_META ? 0 : shard;
    g->shard = shard;
    for (uint32_t i = 0; i < replicas; i++)
        topology_add_server(g, t->nodes[(first + i) % t->nodes_count].node);
    g->placement.preferred = g->placement.servers[0];
}

static bool topology_read_group(json_t *item, struct cluster_topology *t, char *error,
                                size_t bytes) {
    json_error_t fault;
    json_int_t shard = -1, preferred = 0;
    json_t *nodes = NULL, *node;
    size_t i;
    struct cluster_group *g = &t->groups[t->groups_count++];
    if (json_unpack_ex(item, &fault, JSON_STRICT, "{s:I, s:o, s?I}", "shard", &shard, "nodes",
                       &nodes, "preferred", &preferred) != 0) {
        snprintf(error, bytes, "an entry of \"groups\": %s", fault.text);
        return false;
    }
    g->shard = (uint32_t)shard;
    if (shard < 0 || shard > UINT32_MAX || !json_is_array(nodes) ||
        json_array_size(nodes) > REPLICAS_MAX) {
        snprintf(error, bytes, "an entry of \"groups\" must have a \"shard\" and \"nodes\", a list "
                 "of up to %d numbers", REPLICAS_MAX);
        return false;
    }
    json_array_foreach(nodes, i, node) topology_add_server(g, (uint32_t)json_integer_value(node));
    if (preferred != 0) g->placement.preferred = consensus_server_id((uint32_t)preferred, 0);
    return true;
}

static bool topology_read_groups(json_t *groups, uint32_t shards, json_int_t replicas,
                                 struct cluster_topology *t, char *error, size_t bytes) {
    size_t i;
    json_t *item;
    if (replicas == 0) replicas = t->nodes_count < 3 ? 1 : 3;
    if (replicas < 1 || replicas > t->nodes_count || replicas > REPLICAS_MAX) {
        snprintf(error, bytes, "%lld replicas do not fit on %u nodes", (long long)replicas,
                 t->nodes_count);
        return false;
    }
    if (json_array_size(groups) > SHARDS_MAX) {
        snprintf(error, bytes, "more than %d groups", SHARDS_MAX);
        return false;
    }
    json_array_foreach(groups, i, item) {
        if (!topology_read_group(item, t, error, bytes)) return false;
    }
    for (uint32_t s = 0; s < shards; s++) {
        if (!topology_group(t, s)) topology_deal(t, s, (uint32_t)replicas);
    }
    for (uint32_t g = 0; g < t->groups_count; g++) t->groups[g].placement.version = t->version;
    return true;
}

static bool topology_read_json(json_t *json, struct cluster_topology *t, char *error,
                               size_t bytes) {
    json_error_t fault;
    const char *cluster_id = "";
    json_int_t version = 1, shards = 0, replicas = 0, level = LEVEL_FIRST;
    json_t *nodes = NULL, *groups = NULL;
    if (json_unpack_ex(json, &fault, JSON_STRICT, "{s:s, s?I, s:I, s?I, s?I, s:o, s?o}",
                       "cluster_id", &cluster_id, "version", &version, "shards", &shards,
                       "replicas", &replicas, "level", &level, "nodes", &nodes, "groups",
                       &groups) != 0) {
        snprintf(error, bytes, "%s", fault.text);
        return false;
    }
    bool told = strlen(cluster_id) == CLUSTER_ID_BYTES - 1;
    snprintf(t->cluster_id, sizeof t->cluster_id, "%s", told ? cluster_id : "");
    if (version < 1 || shards < 1 || shards > SHARDS_MAX || json_array_size(nodes) == 0) {
        snprintf(error, bytes, "\"version\" is at least 1, \"shards\" from 1 to %d, and \"nodes\" "
                 "a list of at least one node", SHARDS_MAX);
        return false;
    }
    if (level < LEVEL_FIRST || !program_can((uint64_t)level)) {
        snprintf(error, bytes, "\"level\" is %lld, and this program (version %s) can work at %u to "
                 "%u", (long long)level, program.version, program.level_min, program.level_max);
        return false;
    }
    t->level = level == LEVEL_FIRST ? 0 : (uint8_t)level;
    t->version = t->view_version = (uint64_t)version;
    t->epochs[0] = (struct routing_epoch){.from_ms = 0, .shards_count = (uint32_t)shards};
    t->epochs_count = 1;
    return topology_read_nodes(nodes, t, error, bytes) &&
           topology_read_groups(groups, (uint32_t)shards, replicas, t, error, bytes) &&
           topology_check(t, error, bytes);
}

struct cluster_topology *topology_read(const char *path, uint32_t node, char *error,
                                       size_t error_bytes) {
    json_error_t fault;
    char reason[512] = "";
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &fault);
    if (!json) {
        snprintf(error, error_bytes, "the cluster file %s cannot be read: %s (line %d)", path,
                 fault.text, fault.line);
        return NULL;
    }
    struct cluster_topology *t = calloc(1, sizeof *t);
    if (t) t->node = node;
    if (t && topology_read_json(json, t, reason, sizeof reason)) {
        json_decref(json);
        return t;
    }
    snprintf(error, error_bytes, "the cluster file %s: %s", path, t ? reason : "no memory");
    json_decref(json);
    free(t);
    return NULL;
}
