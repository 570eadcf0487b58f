#include "clients/sdk/shard_router.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/base/hex.h"

/* -- taking it in (the mutex is held) ---------------------------------------------------------- */

/* The endpoint of this address, opened if it is new. Without one (no memory, a bad address, too
 * many over time) it is NULL: whichever node serves carries on. */
static struct endpoint *router_endpoint(struct shard_router *r, const char *address) {
    if (address[0] == '\0') return NULL;
    for (uint32_t i = 0; i < r->endpoints_count; i++)
        if (strcmp(r->endpoints[i]->addresses, address) == 0) return r->endpoints[i];
    if (r->endpoints_count == sizeof r->endpoints / sizeof r->endpoints[0]) return NULL;
    struct endpoint *e;
    char error[CONNECTION_ERROR_BYTES];
    if (endpoint_new(&e, address, &r->shared->options, r->on_change, r->arg, error,
                     sizeof error) != 0)
        return NULL;
    r->endpoints[r->endpoints_count++] = e;
    return e;
}

static bool router_set_lanes(struct shard_router *r, const struct shard_map *map) {
    for (uint32_t i = 0; i < map->shards_count; i++) {
        struct lane *lane = atomic_load(&r->lanes[i]);
        struct endpoint *e = router_endpoint(r, map->addresses[i]);
        if (lane) {
            /* A shard without a leader is told without an address: where it was is as good a
             * guess as any other node. */
            if (e) atomic_store(&lane->endpoint, e);
            continue;
        }
        if (!(lane = lane_new(r->shared, e))) return false;
        lane->shard = i;
        lane->of_cluster = true;
        atomic_store(&r->lanes[i], lane);
        atomic_store(&r->lanes_count, i + 1);
    }
    return true;
}

static void router_redirect(void *arg, struct lane *lane, const struct endpoint *from,
                            const void *address, uint32_t bytes) {
    struct shard_router *r = arg;
    char text[SHARD_MAP_ADDRESS_BYTES];
    if (bytes == 0 || bytes >= sizeof text) return;
    shard_map_set_address(text, address, bytes, from->addresses);
    pthread_mutex_lock(&r->mutex);
    struct endpoint *e = router_endpoint(r, text);
    if (e) atomic_store(&lane->endpoint, e);
    pthread_mutex_unlock(&r->mutex);
}

static struct lane *router_lane(struct shard_router *r, const struct shard_map *map,
                                const struct call_route *route) {
    uint32_t e = map->epochs_count - 1;
    while (e > 0 && map->epochs[e].from_ms > route->birth_ms) e--;
    bool store = route->birth_ms == INT64_MAX;
    uint32_t shards = store ? map->stores_shards : map->epochs[e].shards_count;
    return atomic_load_explicit(&r->lanes[route->hash % shards], memory_order_acquire);
}

/* The low bits of the hash chose the shard; the high ones still tell its orders apart. */
static uint32_t route_order(const struct call_route *route) {
    return (uint32_t)(route->hash >> 32) & ~(1u << 31);
}

static void router_push_to_lane(struct shard_router *r, const struct shard_map *map,
                                struct call *call) {
    lane_push(router_lane(r, map, &call->route), call, route_order(&call->route));
}

/* Whether the client may work with the cluster that told the map. Positions in the logs of the one
 * that it was say nothing of those of another. */
static enum shard_router_end router_take_cluster(struct shard_router *r,
                                                 const struct shard_map *map) {
    struct cluster_mark *before = atomic_load(&r->shared->cluster);
    uint8_t id[16];
    if (map->cluster_id[0] == '\0') return SHARD_ROUTER_INSTALLED;
    if (before && strcmp(before->id, map->cluster_id) == 0) return SHARD_ROUTER_INSTALLED;
    bool descends = !before;
    for (uint32_t i = 0; !descends && i < map->ancestors_count; i++)
        descends = strcmp(before->id, map->ancestors[i]) == 0;
    if (!descends) return SHARD_ROUTER_FOREIGN;
    struct cluster_mark *mark = malloc(sizeof *mark);
    if (!mark || !hex_parse(map->cluster_id, id, sizeof id)) {
        free(mark);
        return SHARD_ROUTER_UNUSABLE;
    }
    memcpy(mark->id, map->cluster_id, sizeof mark->id);
    command_encode_tail(mark->tail, id);
    mark->older = before;
    atomic_store_explicit(&r->shared->cluster, mark, memory_order_release);
    if (!before) return SHARD_ROUTER_INSTALLED;
    token_set_clear(&r->shared->written);
    for (uint32_t i = 0; i < r->endpoints_count; i++) endpoint_clear_foreign(r->endpoints[i]);
    node_list_clear_foreign(&r->shared->nodes); /* they may be of this one */
    return SHARD_ROUTER_INSTALLED;
}

void shard_router_cluster(struct shard_router *r, char id[CLUSTER_ID_BYTES]) {
    const struct cluster_mark *mark = atomic_load_explicit(&r->shared->cluster,
                                                           memory_order_acquire);
    if (mark) memcpy(id, mark->id, CLUSTER_ID_BYTES);
    else id[0] = '\0';
}

static enum shard_router_end router_replace_map(struct shard_router *r, struct shard_map *map) {
    char error[CONNECTION_ERROR_BYTES];
    enum shard_router_end end = router_take_cluster(r, map);
    if (end != SHARD_ROUTER_INSTALLED) {
        free(map);
        return end;
    }
    for (uint32_t i = 0; i < map->nodes_count; i++) /* one that cannot be used is not turned to */
        (void)node_list_add(&r->shared->nodes, map->nodes[i], error, sizeof error);
    if (!router_set_lanes(r, map)) {
        free(map);
        return SHARD_ROUTER_UNUSABLE;
    }
    map->older = atomic_load(&r->map);
    if (map->older && map->older->epochs_count == map->epochs_count &&
        map->older->stores_shards == map->stores_shards &&
        memcmp(map->older->epochs, map->epochs, sizeof map->epochs) == 0) {
        free(map); /* only addresses changed, and those are with the lanes */
        return SHARD_ROUTER_INSTALLED;
    }
    struct call *call;
    /* All of them are in their lanes before the map is there: from then on their submitters push
     * the next ones by themselves. */
    while ((call = call_list_pop(&r->unrouted)))
        lane_push_now(router_lane(r, map, &call->route), call, route_order(&call->route));
    atomic_store_explicit(&r->map, map, memory_order_release);
    return SHARD_ROUTER_INSTALLED;
}

enum shard_router_end shard_router_install(struct shard_router *r, struct shard_map *map) {
    if (!map && (map = calloc(1, sizeof *map))) {
        map->epochs_count = map->shards_count = map->stores_shards = 1;
        map->epochs[0] = (struct routing_epoch){0, 1};
    }
    if (!map) return SHARD_ROUTER_UNUSABLE;
    pthread_mutex_lock(&r->mutex);
    enum shard_router_end end = router_replace_map(r, map);
    pthread_mutex_unlock(&r->mutex);
    return end;
}

/* -- calls ------------------------------------------------------------------------------------- */

/* No map yet: wait for it, unless it came just now. */
static int router_keep(struct shard_router *r, struct call *call) {
    int code = JUMUN_OK;
    pthread_mutex_lock(&r->mutex);
    const struct shard_map *map = atomic_load(&r->map);
    if (map) {
        router_push_to_lane(r, map, call);
    } else if (r->unrouted.count >= r->shared->options.queue_commands_max) {
        atomic_fetch_add_explicit(&r->shared->queue_full, 1, memory_order_relaxed);
        code = JUMUN_QUEUE_FULL;
    } else {
        call_list_append(&r->unrouted, call);
    }
    pthread_mutex_unlock(&r->mutex);
    return code;
}

bool shard_router_has_room(struct shard_router *r, const struct call_route *route,
                           uint32_t patience_ms) {
    const struct shard_map *map = atomic_load_explicit(&r->map, memory_order_acquire);
    /* Without a map all wait in one queue: see router_keep(). */
    return !map || lane_has_room(router_lane(r, map, route), patience_ms);
}

uint32_t shard_router_retry_after_ms(struct shard_router *r, const struct call_route *route,
                                     uint32_t patience_ms) {
    const struct shard_map *map = atomic_load_explicit(&r->map, memory_order_acquire);
    if (!map) return r->shared->options.backoff_ms_min;
    return lane_retry_after_ms(router_lane(r, map, route), patience_ms);
}

int shard_router_push(struct shard_router *r, struct call *call, int64_t now_ns) {
    const struct shard_map *map = atomic_load_explicit(&r->map, memory_order_acquire);
    if (!map) {
        struct endpoint *general = node_list_pick(&r->shared->nodes);
        if (!circuit_breaker_admit(&general->breaker, now_ns)) return JUMUN_CIRCUIT_OPEN;
        return router_keep(r, call);
    }
    if (!lane_admit(router_lane(r, map, &call->route), now_ns)) return JUMUN_CIRCUIT_OPEN;
    router_push_to_lane(r, map, call);
    return JUMUN_OK;
}

static bool router_expire_unrouted(struct shard_router *r, int64_t now_ns) {
    struct call_list keep = {0}, over = {0};
    struct call *call;
    pthread_mutex_lock(&r->mutex);
    while ((call = call_list_pop(&r->unrouted)))
        call_list_append(call->deadline_ns <= now_ns ? &over : &keep, call);
    r->unrouted = keep;
    pthread_mutex_unlock(&r->mutex);
    struct call_recycler recycler = {.pool = &r->shared->pool};
    while ((call = call_list_pop(&over))) {
        atomic_fetch_add_explicit(&r->shared->timeouts, 1, memory_order_relaxed);
        struct endpoint *general = node_list_pick(&r->shared->nodes);
        if (circuit_breaker_failure(&general->breaker, now_ns))
            atomic_fetch_add_explicit(&r->shared->circuit_opened, 1, memory_order_relaxed);
        call_end_with(call, JUMUN_NOT_SENT, &recycler);
    }
    call_recycle(&recycler);
    return keep.count > 0;
}

bool shard_router_on_tick(struct shard_router *r, int64_t now_ns) {
    bool open = false;
    if (!atomic_load_explicit(&r->map, memory_order_acquire))
        open = router_expire_unrouted(r, now_ns);
    uint32_t count = atomic_load(&r->lanes_count);
    for (uint32_t i = 0; i < count; i++)
        open |= lane_on_tick(atomic_load(&r->lanes[i]), now_ns);
    return open;
}

void shard_router_look(struct shard_router *r, int64_t now_ns) {
    uint32_t count = atomic_load(&r->lanes_count);
    for (uint32_t i = 0; i < count; i++) {
        struct lane *lane = atomic_load(&r->lanes[i]);
        struct endpoint *own = atomic_load(&lane->endpoint);
        if (own) endpoint_look(own, &r->shared->options, now_ns);
    }
}

bool shard_router_on_pace(struct shard_router *r) {
    bool slow = false;
    uint32_t count = atomic_load(&r->lanes_count);
    for (uint32_t i = 0; i < count; i++) slow |= lane_on_pace(atomic_load(&r->lanes[i]));
    return slow;
}

void shard_router_run(struct shard_router *r) {
    uint32_t count = atomic_load(&r->lanes_count);
    for (uint32_t i = 0; i < count; i++) lane_run(atomic_load(&r->lanes[i]));
}

/* -- life -------------------------------------------------------------------------------------- */

void shard_router_init(struct shard_router *r, struct lane_shared *shared,
                       void (*on_change)(void *arg, bool up), void *arg) {
    memset(r, 0, sizeof *r);
    r->shared = shared;
    shared->redirect = router_redirect;
    shared->redirect_arg = r;
    r->on_change = on_change;
    r->arg = arg;
    /* Recursive: a callback that runs while kept calls move to their lanes may submit. */
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&r->mutex, &recursive);
    pthread_mutexattr_destroy(&recursive);
}

void shard_router_fini(struct shard_router *r) {
    struct call_recycler recycler = {.pool = &r->shared->pool};
    struct call *call;
    while ((call = call_list_pop(&r->unrouted))) call_end_with(call, JUMUN_CLOSED, &recycler);
    call_recycle(&recycler);
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        struct lane *lane = atomic_load(&r->lanes[i]);
        if (lane) lane_delete(lane);
    }
    for (uint32_t i = 0; i < r->endpoints_count; i++) endpoint_delete(r->endpoints[i]);
    struct shard_map *map = atomic_load(&r->map);
    while (map) {
        struct shard_map *older = map->older;
        free(map);
        map = older;
    }
    for (struct cluster_mark *mark = atomic_load(&r->shared->cluster); mark;) {
        struct cluster_mark *older = mark->older;
        free(mark);
        mark = older;
    }
    pthread_mutex_destroy(&r->mutex);
}
