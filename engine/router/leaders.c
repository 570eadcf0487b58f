#include "engine/router/leaders.h"

#include <string.h>

#include "engine/base/check.h"
#include "persistence/consensus.h"

void leaders_init(struct leaders *l) {
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->mutex, NULL);
}

void leaders_fini(struct leaders *l) { pthread_mutex_destroy(&l->mutex); }

/* The mutex is held. */
static bool leaders_set_route(struct leaders *l, struct leader *known, uint32_t node, bool ready) {
    uint64_t route = node == 0 ? 0 : (uint64_t)node << 1 | (ready ? 1 : 0);
    if (atomic_exchange_explicit(&known->route, route, memory_order_relaxed) == route) return false;
    atomic_fetch_add_explicit(&l->changes, 1, memory_order_release);
    return true;
}

bool leaders_note(struct leaders *l, uint32_t speaker, uint32_t shard, uint64_t term,
                  uint64_t server, bool ready) {
    uint32_t slot = local_shards_slot(shard);
    if (slot == LOCAL_SHARDS_NONE) return false;
    struct leader *known = &l->shards[slot];
    uint32_t node = consensus_server_node(server);
    bool changed = false;
    pthread_mutex_lock(&l->mutex);
    bool itself = server != 0 && speaker == node;
    if (term > known->term || (term == known->term && !known->confirmed)) {
        /* A follower may take the leader of the term before for that of the new one, for a moment:
         * until one claims the term for itself, the last word counts. */
        if (term == known->term && server == 0) server = known->server;
        known->term = term;
        known->server = server;
        known->confirmed = itself;
        changed = leaders_set_route(l, known, consensus_server_node(server), ready && itself);
    } else if (term == known->term && speaker == consensus_server_node(known->server)) {
        /* It leads and says so again, or it has stepped down. Another leader of one term there
         * cannot be: whoever names one is not followed. */
        if (server == known->server) changed = leaders_set_route(l, known, node, ready);
        else if (server == 0) changed = leaders_set_route(l, known, 0, false);
    }
    pthread_mutex_unlock(&l->mutex);
    return changed;
}

bool leaders_forget_node(struct leaders *l, uint32_t node) {
    bool changed = false;
    pthread_mutex_lock(&l->mutex);
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++) {
        struct leader *known = &l->shards[i];
        if (atomic_load(&known->route) >> 1 == node)
            changed |= leaders_set_route(l, known, 0, false);
    }
    pthread_mutex_unlock(&l->mutex);
    return changed;
}

bool leaders_forget_shard(struct leaders *l, uint32_t shard) {
    uint32_t slot = local_shards_slot(shard);
    if (slot == LOCAL_SHARDS_NONE) return false;
    struct leader *known = &l->shards[slot];
    pthread_mutex_lock(&l->mutex);
    known->term = known->server = 0;
    known->confirmed = false;
    bool changed = leaders_set_route(l, known, 0, false);
    pthread_mutex_unlock(&l->mutex);
    return changed;
}

struct leader_known leaders_known(struct leaders *l, uint32_t shard) {
    uint32_t slot = local_shards_slot(shard);
    require(slot != LOCAL_SHARDS_NONE);
    pthread_mutex_lock(&l->mutex);
    struct leader *known = &l->shards[slot];
    struct leader_known copy = {known->term, known->server,
                                atomic_load_explicit(&known->route, memory_order_relaxed) & 1};
    pthread_mutex_unlock(&l->mutex);
    return copy;
}
