#include "clients/sdk/replica_set.h"

int64_t replica_latency_ns(const struct replica *r, int64_t now_ns) {
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
        if (connection_is_up(&set->replicas[i].endpoint->connection)) return true;
    return false;
}

bool replica_set_all_open(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++) {
        const struct replica *r = &set->replicas[i];
        if (r->peer != PEER_NODE && circuit_breaker_is_closed(&r->endpoint->breaker)) return false;
    }
    return true;
}

bool replica_set_all_nodes(const struct replica_set *set) {
    for (uint32_t i = 0; i < set->count; i++)
        if (set->replicas[i].peer != PEER_NODE) return false;
    return true;
}
