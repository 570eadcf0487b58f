#include "engine/cluster/cluster_topology.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/hex.h"
#include "engine/base/program.h"

static_assert(REPLICAS_MAX <= CONSENSUS_SERVERS_MAX, "a shard's servers fit its placement");

static void fill_group(struct cluster_group *g, const struct cluster_document *d,
                       const struct cluster_shard *s, uint64_t version) {
    g->shard = s->shard;
    g->placement.version = version;
    g->placement.count = s->servers_count;
    for (uint32_t i = 0; i < s->servers_count; i++) {
        g->placement.servers[i] = s->servers[i];
        const struct cluster_member *m = cluster_member_find(d, cluster_server_node(s->servers[i]));
        if (m && m->state == CLUSTER_MEMBER_DRAINING)
            g->placement.drained[g->placement.drained_count++] = s->servers[i];
    }
    g->placement.preferred = cluster_server_on(s, s->preferred);
    g->first_servers_count = s->first_count;
    memcpy(g->first_servers, s->first, s->first_count * sizeof s->first[0]);
}

/* Whether a node that was not removed has one of the addresses of a removed one. */
static bool address_went_on(const struct cluster_document *d, const struct cluster_member *gone) {
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        if (m->node > gone->node && (strcmp(m->peer, gone->peer) == 0 ||
                                     strcmp(m->client, gone->client) == 0))
            return true;
    }
    return false;
}

void cluster_topology_fill(struct cluster_topology *t, uint64_t version,
                           const struct cluster_document *d, uint32_t node) {
    memset(t, 0, sizeof *t);
    t->version = version;
    t->view_version = cluster_view_version(d->generation, version);
    t->node = node;
    t->stores_shards = d->stores_shards;
    t->level = d->level;
    hex_format(d->cluster_id.bytes, sizeof d->cluster_id.bytes, t->cluster_id);
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        if (m->state == CLUSTER_MEMBER_REMOVED && address_went_on(d, m)) continue;
        struct cluster_node *n = &t->nodes[t->nodes_count++];
        n->node = m->node;
        memcpy(n->peer_endpoint, m->peer, sizeof n->peer_endpoint);
        memcpy(n->client_endpoint, m->client, sizeof n->client_endpoint);
    }
    for (uint32_t i = 0; i < d->epochs_count; i++)
        t->epochs[t->epochs_count++] =
            (struct routing_epoch){d->epochs[i].from_ms, d->epochs[i].shards_count};
    for (uint32_t i = 0; i < d->shards_count; i++)
        if (d->shards[i].state == CLUSTER_SHARD_ACTIVE)
            fill_group(&t->groups[t->groups_count++], d, &d->shards[i], version);
}

bool cluster_level_is_right(uint8_t stored, char *error, size_t error_bytes) {
    unsigned level = program_level(stored);
    if (program_can(level)) return true;
    if (level > program.level_max)
        snprintf(error, error_bytes, "the cluster is at level %u, and this program (version %s) "
                 "cannot read more than level %u: install the version that the other nodes run",
                 level, program.version, program.level_max);
    else
        snprintf(error, error_bytes, "the cluster is at level %u, and this program (version %s) "
                 "needs %u at least: install a version between, and raise the level first (jumun "
                 "cluster raise-level)", level, program.version, program.level_min);
    return false;
}
