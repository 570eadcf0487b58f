#include "actors/cluster/cluster_placement.h"

#include "engine/base/check.h"

static bool is_active(const struct cluster_member *m) { return m->state == CLUSTER_MEMBER_ACTIVE; }

static uint32_t load_of(const struct cluster_document *d, uint32_t node) {
    uint32_t load = 0;
    for (uint32_t i = 0; i < d->shards_count; i++)
        if (d->shards[i].state == CLUSTER_SHARD_ACTIVE && cluster_server_on(&d->shards[i], node))
            load++;
    return load;
}

static uint32_t lead_of(const struct cluster_document *d, uint32_t node) {
    uint32_t lead = 0;
    for (uint32_t i = 0; i < d->shards_count; i++)
        if (d->shards[i].state == CLUSTER_SHARD_ACTIVE && d->shards[i].preferred == node) lead++;
    return lead;
}

static void sort_servers(struct cluster_shard *s) {
    for (uint32_t i = 1; i < s->servers_count; i++) {
        uint64_t server = s->servers[i];
        uint32_t at = i, node = cluster_server_node(server);
        for (; at > 0 && cluster_server_node(s->servers[at - 1]) > node; at--)
            s->servers[at] = s->servers[at - 1];
        s->servers[at] = server;
    }
}

uint32_t cluster_pick_node(const struct cluster_document *d, const struct cluster_shard *shard) {
    uint32_t picked = 0, least = UINT32_MAX;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        if (!is_active(m) || cluster_server_on(shard, m->node)) continue;
        uint32_t load = load_of(d, m->node);
        if (load >= least) continue;
        least = load;
        picked = m->node;
    }
    return picked;
}

static uint32_t pick_leader(const struct cluster_document *d, const struct cluster_shard *shard) {
    uint32_t picked = 0, least = UINT32_MAX;
    for (uint32_t i = 0; i < shard->servers_count; i++) {
        uint32_t node = cluster_server_node(shard->servers[i]), lead = lead_of(d, node);
        if (!is_active(cluster_member_find(d, node)) || lead >= least) continue;
        least = lead;
        picked = node;
    }
    return picked;
}

bool cluster_place_shard(struct cluster_document *d, struct cluster_shard *shard, bool founding) {
    require(shard->servers_count == 0 && d->replicas <= REPLICAS_MAX);
    for (uint32_t i = 0; i < d->replicas; i++) {
        uint32_t node = cluster_pick_node(d, shard);
        if (node == 0) {
            shard->servers_count = 0;
            memset(shard->servers, 0, sizeof shard->servers);
            return false;
        }
        shard->servers[shard->servers_count++] = node;
    }
    sort_servers(shard);
    shard->preferred = pick_leader(d, shard);
    if (!founding) return true;
    memcpy(shard->first, shard->servers, sizeof shard->first);
    shard->first_count = shard->servers_count;
    return true;
}

void cluster_move_replica(struct cluster_shard *shard, uint32_t from, uint32_t to) {
    require(cluster_server_on(shard, from) != 0 && cluster_server_on(shard, to) == 0);
    for (uint32_t i = 0; i < shard->servers_count; i++)
        if (cluster_server_node(shard->servers[i]) == from)
            shard->servers[i] = (uint64_t)++shard->incarnation_last << 32 | to;
    sort_servers(shard);
    if (shard->preferred == from) shard->preferred = to;
}

/* The first shard that the one node has a replica of and the other has not. */
static struct cluster_shard *movable(struct cluster_document *d, uint32_t from, uint32_t to) {
    for (uint32_t i = 0; i < d->shards_count; i++) {
        struct cluster_shard *s = &d->shards[i];
        if (s->shard != SHARD_META && s->state == CLUSTER_SHARD_ACTIVE &&
            cluster_server_on(s, from) && !cluster_server_on(s, to))
            return s;
    }
    return NULL;
}

uint32_t cluster_balance_replicas(struct cluster_document *d) {
    uint32_t moves = 0;
    for (;;) {
        uint32_t most = 0, least = 0, most_load = 0, least_load = UINT32_MAX;
        for (uint32_t i = 0; i < d->nodes_count; i++) {
            if (!is_active(&d->nodes[i])) continue;
            uint32_t load = load_of(d, d->nodes[i].node);
            if (most == 0 || load > most_load) {
                most = d->nodes[i].node;
                most_load = load;
            }
            if (load < least_load) {
                least = d->nodes[i].node;
                least_load = load;
            }
        }
        if (most == 0 || most_load - least_load < 2) return moves;
        /* Two shards at least are here and not there, and one of them at most is the meta group. */
        struct cluster_shard *shard = movable(d, most, least);
        require(shard != NULL);
        cluster_move_replica(shard, most, least);
        moves++;
    }
}

/* A search from one node along "leads a shard that the next one has a replica of". */
struct lead_search {
    uint32_t nodes[NODES_MAX];      /* positions in the document, as found */
    uint32_t found;
    uint32_t from[NODES_MAX];       /* by position: the one before, */
    uint32_t shard[NODES_MAX];      /* and the shard between them */
    bool seen[NODES_MAX];
};

static uint32_t position_of(const struct cluster_document *d, uint32_t node) {
    for (uint32_t i = 0; i < d->nodes_count; i++)
        if (d->nodes[i].node == node) return i;
    impossible("a server's node is in the document");
}

static void search_from(const struct cluster_document *d, struct lead_search *s, uint32_t at) {
    for (uint32_t i = 0; i < d->shards_count; i++) {
        const struct cluster_shard *shard = &d->shards[i];
        if (shard->state != CLUSTER_SHARD_ACTIVE || shard->preferred != d->nodes[at].node)
            continue;
        for (uint32_t k = 0; k < shard->servers_count; k++) {
            uint32_t next = position_of(d, cluster_server_node(shard->servers[k]));
            if (s->seen[next] || !is_active(&d->nodes[next])) continue;
            s->seen[next] = true;
            s->from[next] = at;
            s->shard[next] = i;
            s->nodes[s->found++] = next;
        }
    }
}

/* Hands one lead on from the node at `start` to the one that has the fewest, two fewer at least,
 * over as many others as it takes (each gets one and gives one). Returns how many shards
 * changed. */
static uint32_t shift_lead(struct cluster_document *d, uint32_t start) {
    struct lead_search s = {.nodes = {start}, .found = 1};
    uint32_t least = lead_of(d, d->nodes[start].node) - 1, at = start, changed = 0;
    s.seen[start] = true;
    for (uint32_t i = 0; i < s.found; i++) {
        uint32_t lead = lead_of(d, d->nodes[s.nodes[i]].node);
        if (lead < least) {
            least = lead;
            at = s.nodes[i];
        }
        search_from(d, &s, s.nodes[i]);
    }
    for (; at != start; at = s.from[at], changed++)
        d->shards[s.shard[at]].preferred = d->nodes[at].node;
    return changed;
}

uint32_t cluster_balance_leads(struct cluster_document *d) {
    uint32_t changed = 0, shifted;
    do {
        shifted = 0;
        /* Those with the most leads first: what they cannot give away, nobody can for them. */
        for (uint32_t lead = d->shards_count; lead > 1 && !shifted; lead--)
            for (uint32_t i = 0; i < d->nodes_count && !shifted; i++)
                if (is_active(&d->nodes[i]) && lead_of(d, d->nodes[i].node) == lead)
                    shifted = shift_lead(d, i);
        changed += shifted;
    } while (shifted);
    return changed;
}
