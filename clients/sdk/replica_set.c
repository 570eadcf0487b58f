#include "clients/sdk/replica_set.h"

#include <stdio.h>
#include <string.h>

/* Its latency as far as it is known now. */
static int64_t replica_latency_ns(const struct replica *r, int64_t now_ns) {
    int64_t away_ns = r->pinging ? now_ns - r->ping_begun_ns : 0;
    return away_ns > r->latency_ns ? away_ns : r->latency_ns;
}

struct replica *replica_set_pick(struct replica_set *set, jumun_choice choice, uint32_t without,
                                 int64_t now_ns) {
    struct replica *best = NULL;
    for (uint32_t i = 0; i < set->count; i++) {
        struct replica *r = &set->replicas[i];
        if (without >> i & 1 || !replica_is_good(r)) continue;
        if (choice == JUMUN_IN_ORDER) return r;
        if (!best || replica_latency_ns(r, now_ns) < replica_latency_ns(best, now_ns)) best = r;
    }
    return best;
}

bool replica_set_any_good(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++)
        if (replica_is_good(&set->replicas[i])) return true;
    return false;
}

bool replica_set_any_up(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++)
        if (!set->replicas[i].foreign &&
            connection_is_up(&set->replicas[i].endpoint->connection))
            return true;
    return false;
}

bool replica_set_all_open(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++) {
        const struct replica *r = &set->replicas[i];
        /* One whose connection came anew may be of ours by now: it will tell. */
        bool foreign = r->foreign && r->cluster_known;
        bool eligible = peer_may_be_replica(r->peer) && !foreign;
        if (eligible && circuit_breaker_is_closed(&r->endpoint->breaker)) return false;
    }
    return true;
}

bool replica_set_has_none(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++)
        if (peer_may_be_replica(set->replicas[i].peer)) return false;
    return true;
}

bool replica_set_all_foreign(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++)
        if (!set->replicas[i].foreign && peer_may_be_replica(set->replicas[i].peer)) return false;
    return replica_set_foreign(set) != NULL;
}

const struct replica *replica_set_feed(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++)
        if (set->replicas[i].peer == PEER_FEED) return &set->replicas[i];
    return NULL;
}

const struct replica *replica_set_foreign(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++)
        if (set->replicas[i].foreign) return &set->replicas[i];
    return NULL;
}

/* The one settled on, unless all have become others. */
static const char *replica_set_first_cluster(const struct replica_set *set) {
    const char *first = NULL;
    for (uint32_t i = 0; i < set->count; i++) {
        const struct replica *r = &set->replicas[i];
        if (r->cluster[0] == 0) continue;
        if (strcmp(r->cluster, set->cluster) == 0) return set->cluster;
        if (!first) first = r->cluster;
    }
    return first ? first : set->cluster;
}

uint32_t replica_set_judge(struct replica_set *set, const char *session) {
    const char *cluster = session[0] ? session : replica_set_first_cluster(set);
    uint32_t mask = 0;
    if (strcmp(cluster, set->cluster) != 0)
        snprintf(set->cluster, sizeof set->cluster, "%s", cluster);
    for (uint32_t i = 0; i < set->count; i++) {
        struct replica *r = &set->replicas[i];
        bool foreign = r->cluster[0] && set->cluster[0] && strcmp(r->cluster, set->cluster) != 0;
        if (foreign && !r->foreign) mask |= 1u << i;
        r->foreign = foreign;
    }
    return mask;
}
