/* Commands about how many shards there are, and from when. */
#include "actors/cluster/cluster_decide.h"

/* A shard that was retired runs again, with the data that its replicas kept. Nodes that were
 * removed in the meantime are replaced by the usual way of a group, for which most of it must be
 * there. */
static uint16_t revive(struct cluster_document *d, struct cluster_shard *s) {
    uint32_t gone = 0;
    for (uint32_t i = 0; i < s->servers_count; i++) {
        const struct cluster_member *m = cluster_member_find(d, cluster_server_node(s->servers[i]));
        if (!m || m->state == CLUSTER_MEMBER_REMOVED) gone++;
    }
    if (2 * gone >= s->servers_count) return RESULT_CLUSTER_SHARD_LOST;
    for (uint32_t i = 0; i < s->servers_count;) {
        uint32_t node = cluster_server_node(s->servers[i]);
        const struct cluster_member *m = cluster_member_find(d, node);
        if (m && m->state != CLUSTER_MEMBER_REMOVED) {
            i++;
            continue;
        }
        uint32_t to = cluster_pick_node(d, s);
        if (to == 0) return RESULT_CLUSTER_NODES_TOO_FEW;
        cluster_move_replica(s, node, to);
        i = 0; /* they were sorted anew */
    }
    s->state = CLUSTER_SHARD_ACTIVE;
    return RESULT_OK;
}

/* Places the shards that a new epoch needs and the cluster has not. */
static uint16_t make_shards(struct cluster_document *d, uint32_t shards) {
    uint32_t have = d->shards_count - 1u;
    for (uint32_t i = 0; i < have && i < shards; i++) {
        if (d->shards[i].state != CLUSTER_SHARD_RETIRED) continue;
        uint16_t code = revive(d, &d->shards[i]);
        if (code != RESULT_OK) return code;
    }
    for (uint32_t i = have; i < shards; i++) {
        d->shards[i + 1] = d->shards[i]; /* the meta group stands last */
        d->shards[i] = (struct cluster_shard){.shard = i};
        d->shards_count++;
        if (!cluster_place_shard(d, &d->shards[i], true)) return RESULT_CLUSTER_NODES_TOO_FEW;
        d->shards[i].state = CLUSTER_SHARD_ACTIVE;
    }
    return RESULT_OK;
}

/* The oldest epoch goes once no order of it is left; the next one then counts from the beginning,
 * for keys that are refused as too old. */
static bool make_epoch_room(struct cluster_document *d, int64_t now_ms) {
    if (d->epochs_count < EPOCHS_MAX) return true;
    if (d->epochs[1].from_ms + CLUSTER_SHARD_LIFETIME_MS > now_ms) return false;
    memmove(&d->epochs[0], &d->epochs[1], (EPOCHS_MAX - 1) * sizeof d->epochs[0]);
    memset(&d->epochs[EPOCHS_MAX - 1], 0, sizeof d->epochs[0]);
    d->epochs[0].from_ms = 0;
    d->epochs_count--;
    return true;
}

uint16_t cluster_grow(struct cluster_document *d, const struct command_cluster *c,
                      int64_t now_ms) {
    if (c->shards < 1 || c->shards > SHARDS_MAX) return RESULT_CLUSTER_SHARDS_INVALID;
    const struct cluster_epoch *newest = &d->epochs[d->epochs_count - 1];
    if (c->from_ms < now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN || c->from_ms <= newest->from_ms)
        return RESULT_CLUSTER_EPOCH_TOO_SOON;
    if (newest->shards_count == c->shards) return RESULT_CLUSTER_NOTHING_TO_DO;
    if (!make_epoch_room(d, now_ms)) return RESULT_CLUSTER_EPOCHS_LIMIT;
    uint16_t code = make_shards(d, c->shards);
    if (code != RESULT_OK) return code;
    d->epochs[d->epochs_count++] =
        (struct cluster_epoch){.from_ms = c->from_ms, .shards_count = c->shards};
    return RESULT_OK;
}

/* Its shards stay: they run already, and others may have messages for them. */
uint16_t cluster_cancel_grow(struct cluster_document *d, int64_t now_ms) {
    struct cluster_epoch *newest = &d->epochs[d->epochs_count - 1];
    if (d->epochs_count == 1 || newest->from_ms < now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN)
        return RESULT_CLUSTER_NO_EPOCH_AHEAD;
    /* What is the newest then may lie over shards that were retired since. */
    for (uint32_t s = 0; s < newest[-1].shards_count; s++) {
        if (d->shards[s].state != CLUSTER_SHARD_RETIRED) continue;
        uint16_t code = revive(d, &d->shards[s]);
        if (code != RESULT_OK) return code;
    }
    *newest = (struct cluster_epoch){0};
    d->epochs_count--;
    return RESULT_OK;
}

uint16_t cluster_retire(struct cluster_document *d, const struct command_cluster *c,
                        int64_t now_ms) {
    struct cluster_shard *s = cluster_shard_in(d, c->shard);
    if (!s) return RESULT_CLUSTER_SHARD_UNKNOWN;
    if (s->state == CLUSTER_SHARD_RETIRED) return RESULT_CLUSTER_SHARD_IS_RETIRED;
    if (!cluster_shard_is_over(d, c->shard, now_ms)) return RESULT_CLUSTER_SHARD_IN_USE;
    s->state = CLUSTER_SHARD_RETIRED;
    return RESULT_OK;
}

uint16_t cluster_move_stores(struct cluster_document *d, int64_t now_ms) {
    uint32_t shards = cluster_shards_begun(d, now_ms);
    if (shards == d->stores_shards) return RESULT_CLUSTER_NOTHING_TO_DO;
    d->stores_shards = shards;
    return RESULT_OK;
}
