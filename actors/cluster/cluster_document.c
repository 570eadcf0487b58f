/* Looking at a document, and the check of all that must hold in one. */
#include "actors/cluster/cluster_layout.h"

const struct cluster_member *cluster_member_find(const struct cluster_document *d, uint32_t node) {
    for (uint32_t i = 0; i < d->nodes_count; i++)
        if (d->nodes[i].node == node) return &d->nodes[i];
    return NULL;
}

const struct cluster_shard *cluster_shard_find(const struct cluster_document *d, uint32_t shard) {
    if (d->shards_count == 0) return NULL;
    uint32_t at = shard == SHARD_META ? d->shards_count - 1u : shard;
    return at < d->shards_count && d->shards[at].shard == shard ? &d->shards[at] : NULL;
}

uint64_t cluster_server_on(const struct cluster_shard *s, uint32_t node) {
    for (uint32_t i = 0; i < s->servers_count; i++)
        if (cluster_server_node(s->servers[i]) == node) return s->servers[i];
    return 0;
}

bool cluster_shard_is_over(const struct cluster_document *d, uint32_t shard, int64_t now_ms) {
    if (shard == SHARD_META || shard < d->stores_shards) return false;
    for (uint32_t i = 0; i < d->epochs_count; i++) {
        if (d->epochs[i].shards_count <= shard) continue;
        bool ended = i + 1 < d->epochs_count &&
                     d->epochs[i + 1].from_ms + CLUSTER_SHARD_LIFETIME_MS <= now_ms;
        if (!ended) return false;
    }
    return true;
}

uint32_t cluster_shards_begun(const struct cluster_document *d, int64_t now_ms) {
    uint32_t begun = d->epochs_count - 1u;
    while (begun > 0 && d->epochs[begun].from_ms > now_ms) begun--;
    return d->epochs[begun].shards_count;
}

const char *cluster_member_state_name(uint8_t state) {
    switch ((enum cluster_member_state)state) {
    case CLUSTER_MEMBER_ACTIVE: return "active";
    case CLUSTER_MEMBER_DRAINING: return "draining";
    case CLUSTER_MEMBER_REMOVED: return "removed";
    }
    return "unknown";
}

const char *cluster_shard_state_name(uint8_t state) {
    switch ((enum cluster_shard_state)state) {
    case CLUSTER_SHARD_ACTIVE: return "active";
    case CLUSTER_SHARD_RETIRED: return "retired";
    }
    return "unknown";
}

/* -- what must hold ---------------------------------------------------------------------------- */

/* Text, then zeros to the end: equal texts are equal bytes. */
static bool text_is_padded(const char text[ENDPOINT_BYTES_MAX]) {
    uint32_t size = 0;
    while (size < ENDPOINT_BYTES_MAX && text[size]) size++;
    if (size == 0 || size == ENDPOINT_BYTES_MAX) return false;
    for (; size < ENDPOINT_BYTES_MAX; size++)
        if (text[size]) return false;
    return true;
}

static const char *fault_of_nodes(const struct cluster_document *d) {
    if (d->nodes_count < 1 || d->nodes_count > NODES_MAX) return "the number of nodes";
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        if (m->node == 0 || m->node > d->node_last) return "a node's number";
        if (i > 0 && m[-1].node >= m->node) return "the order of the nodes";
        if (m->state < CLUSTER_MEMBER_ACTIVE || m->state > CLUSTER_MEMBER_REMOVED)
            return "a node's state";
        if (!text_is_padded(m->peer) || !text_is_padded(m->client)) return "a node's address";
        if (m->state == CLUSTER_MEMBER_REMOVED) continue;
        for (uint32_t k = 0; k < i; k++) {
            const struct cluster_member *other = &d->nodes[k];
            if (other->state != CLUSTER_MEMBER_REMOVED &&
                (memcmp(other->peer, m->peer, sizeof m->peer) == 0 ||
                 memcmp(other->client, m->client, sizeof m->client) == 0))
                return "an address is used twice";
        }
    }
    return NULL;
}

static bool count_is_of_a_group(uint32_t count) {
    return count == 1 || (count >= 3 && count <= REPLICAS_MAX && count % 2 == 1);
}

static const char *fault_of_shard(const struct cluster_document *d, const struct cluster_shard *s) {
    if (s->state != CLUSTER_SHARD_ACTIVE && s->state != CLUSTER_SHARD_RETIRED)
        return "a shard's state";
    if (!count_is_of_a_group(s->servers_count)) return "a shard's number of servers";
    if (s->first_count != 0 && !count_is_of_a_group(s->first_count))
        return "a shard's number of first servers";
    for (uint32_t i = 0; i < REPLICAS_MAX; i++) {
        if (i >= s->servers_count) {
            if (s->servers[i] != 0) return "a shard's servers";
            continue;
        }
        uint32_t node = cluster_server_node(s->servers[i]);
        const struct cluster_member *m = cluster_member_find(d, node);
        if (!m && s->state == CLUSTER_SHARD_ACTIVE) return "a shard's server is on no node";
        if (m && m->state == CLUSTER_MEMBER_REMOVED && s->state == CLUSTER_SHARD_ACTIVE)
            return "a shard's server is on a removed node";
        if (i > 0 && cluster_server_node(s->servers[i - 1]) >= node)
            return "the order of a shard's servers";
        if (s->servers[i] >> 32 > s->incarnation_last) return "a server's incarnation";
    }
    return cluster_server_on(s, s->preferred) ? NULL : "a shard's preferred node";
}

static const char *fault_of_shards(const struct cluster_document *d) {
    if (d->shards_count < 2 || d->shards_count > SHARDS_MAX + 1) return "the number of shards";
    if (!count_is_of_a_group(d->replicas)) return "the number of replicas";
    for (uint32_t i = 0; i < d->shards_count; i++) {
        uint32_t expected = i + 1u == d->shards_count ? SHARD_META : i;
        if (d->shards[i].shard != expected) return "the order of the shards";
        const char *fault = fault_of_shard(d, &d->shards[i]);
        if (fault) return fault;
    }
    return d->shards[d->shards_count - 1].state == CLUSTER_SHARD_ACTIVE ? NULL
                                                                         : "the meta group's state";
}

static const char *fault_of_epochs(const struct cluster_document *d) {
    if (d->epochs_count < 1 || d->epochs_count > EPOCHS_MAX) return "the number of epochs";
    for (uint32_t i = 0; i < d->epochs_count; i++) {
        const struct cluster_epoch *e = &d->epochs[i];
        if (i == 0 ? e->from_ms != 0 : e->from_ms <= e[-1].from_ms)
            return "the order of the epochs";
        if (e->shards_count < 1 || e->shards_count > d->shards_count - 1u)
            return "an epoch's number of shards";
    }
    const struct cluster_epoch *newest = &d->epochs[d->epochs_count - 1];
    for (uint32_t s = 0; s < newest->shards_count; s++)
        if (d->shards[s].state != CLUSTER_SHARD_ACTIVE) return "an epoch over a retired shard";
    if (d->stores_shards < 1 || d->stores_shards > d->shards_count - 1u)
        return "the number of shards with stores";
    for (uint32_t s = 0; s < d->stores_shards; s++)
        if (d->shards[s].state != CLUSTER_SHARD_ACTIVE) return "stores on a retired shard";
    return NULL;
}

const char *cluster_document_fault(const struct cluster_document *d) {
    if (id128_is_zero(&d->cluster_id)) return "the cluster's id";
    const char *fault = fault_of_nodes(d);
    if (!fault) fault = fault_of_shards(d);
    return fault ? fault : fault_of_epochs(d);
}
