#include "clients/cli/cli_cluster_there.h"

#include <string.h>

#include "engine/base/hex.h"

const char *cluster_there_name(enum cluster_there_kind kind) {
    static const char *const names[CLUSTER_THERE_KINDS] = {"member", "disk_full", "waits",
                                                           "stranger", "silent"};
    return names[kind];
}

/* One of its shards is enough: all of a node are on one disk. */
static bool there_is_full(const struct cluster_status *status) {
    const msgpack_object *rows = value_at(status->map, "shards");
    for (uint32_t i = 0; i < value_count(rows); i++)
        if (value_bool(value_item(rows, i), "disk_full", false)) return true;
    return false;
}

void cluster_there_of(const struct cluster_document *d, const struct cluster_member *m,
                      const struct cluster_status *status, struct cluster_there *t) {
    char id[CLUSTER_ID_BYTES];
    *t = (struct cluster_there){.kind = CLUSTER_THERE_SILENT};
    if (!status) return;
    hex_format(d->cluster_id.bytes, 16, id);
    value_text(status->map, "cluster_id", t->cluster_id, sizeof t->cluster_id);
    bool waits = cli_node_waits(status->map);
    t->node = (uint32_t)value_int(status->map, waits ? "node" : "node_id", 0);
    t->kind = CLUSTER_THERE_STRANGER;
    if (waits) {
        bool empty = value_int(status->map, "shards", 0) == 0;
        t->kind = CLUSTER_THERE_WAITS;
        if (empty) snprintf(t->who, sizeof t->who, "an empty node");
        else snprintf(t->who, sizeof t->who, "a node with orders of %s", t->cluster_id);
    } else if (!value_at(status->map, "document")) {
        snprintf(t->who, sizeof t->who, "a node alone, of id %s", t->cluster_id);
    } else if (strcmp(t->cluster_id, id) != 0) {
        snprintf(t->who, sizeof t->who, "node %u of another cluster, %s", t->node, t->cluster_id);
    } else if (t->node != m->node) {
        snprintf(t->who, sizeof t->who, "node %u of this cluster", t->node);
    } else {
        t->kind = there_is_full(status) ? CLUSTER_THERE_FULL : CLUSTER_THERE_MEMBER;
    }
}

bool cluster_there_fault(const struct cluster_member *m, const struct cluster_there *t, char *out,
                         size_t bytes) {
    out[0] = 0;
    if (m->state == CLUSTER_MEMBER_REMOVED) return false;
    switch (t->kind) {
    case CLUSTER_THERE_WAITS:
        if (strcmp(t->who, "an empty node") == 0)
            snprintf(out, bytes, "node %u: an empty node waits at %s: the node's disk is lost, or "
                     "is not mounted (jumun cluster replace %u %s gives its place to what waits)",
                     m->node, m->client, m->node, m->client);
        else
            snprintf(out, bytes, "node %u: %s waits at %s instead of it", m->node, t->who,
                     m->client);
        break;
    case CLUSTER_THERE_STRANGER:
        snprintf(out, bytes, "node %u: a stranger answers at %s, and perhaps takes orders that "
                 "this cluster does not have: %s", m->node, m->client, t->who);
        break;
    case CLUSTER_THERE_FULL:
        snprintf(out, bytes, "node %u: the disk is full", m->node);
        break;
    case CLUSTER_THERE_SILENT:
        snprintf(out, bytes, "node %u: does not answer at %s", m->node, m->client);
        break;
    default: break;
    }
    return out[0] != 0;
}

bool cluster_there_group_fault(const struct cluster_document *d, const struct cluster_shard *s,
                               const struct cluster_there *t, bool led, char *out, size_t bytes) {
    char buffer[16];
    const char *name = cluster_shard_name(s->shard, buffer);
    uint32_t answer = 0;
    out[0] = 0;
    if (s->state != CLUSTER_SHARD_ACTIVE) return false;
    for (uint32_t i = 0; i < s->servers_count; i++)
        for (uint32_t n = 0; n < d->nodes_count; n++)
            if (d->nodes[n].node == cluster_server_node(s->servers[i]))
                answer += cluster_there_counts(&t[n]);
    if (2 * answer <= s->servers_count)
        snprintf(out, bytes, "shard %s: %u of its %u replicas %s: that is no majority, without "
                 "which it takes no commands", name, answer, s->servers_count,
                 answer == 1 ? "answers" : "answer");
    else if (!led)
        snprintf(out, bytes, "shard %s: no node leads it now (%u of its %u replicas answer)", name,
                 answer, s->servers_count);
    return out[0] != 0;
}
