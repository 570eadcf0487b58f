#include "clients/sdk/shard_router.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/wire/msgpack_reader.h"

/* -- reading the map --------------------------------------------------------------------------- */

static bool text_is(const void *text, uint32_t size, const char *name) {
    return size == strlen(name) && memcmp(text, name, size) == 0;
}

static const char *map_read_epochs(struct msgpack_reader *r, struct shard_map *map) {
    uint32_t count, fields;
    if (msgpack_read_array(r, &count) != MSGPACK_OK) return "epochs is not a list";
    if (count == 0 || count > SHARD_MAP_EPOCHS_MAX) return "the number of epochs is out of range";
    for (uint32_t i = 0; i < count; i++) {
        int64_t from_ms;
        uint64_t shards;
        if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields < 2 ||
            msgpack_read_int(r, &from_ms) != MSGPACK_OK ||
            msgpack_read_uint_upto(r, SHARDS_MAX, &shards) != MSGPACK_OK || shards == 0)
            return "an epoch is not [from_ms, shards_count]";
        for (uint32_t f = 2; f < fields; f++)
            if (msgpack_skip(r) != MSGPACK_OK) return "an epoch is cut off";
        if (i > 0 && from_ms < map->epochs[i - 1].from_ms) return "the epochs are not sorted";
        map->epochs[i] = (struct routing_epoch){from_ms, (uint32_t)shards};
        if (shards > map->shards_count) map->shards_count = (uint32_t)shards;
    }
    map->epochs_count = count;
    return NULL;
}

/* "tcp://0.0.0.0:7401" -> "tcp://<host of asked>:7401": the node does not know under which name it
 * is reached. */
static void map_set_address(char out[SHARD_MAP_ADDRESS_BYTES], const char *address, uint32_t size,
                            const char *asked) {
    snprintf(out, SHARD_MAP_ADDRESS_BYTES, "%.*s", (int)size, address);
    char *host = strstr(out, "://");
    char *port = strrchr(out, ':');
    const char *asked_host = strstr(asked, "://");
    if (!host || !asked_host || port == host) return;
    host += 3;
    asked_host += 3;
    size_t host_size = (size_t)(port - host);
    bool any = (host_size == 1 && *host == '*') || text_is(host, (uint32_t)host_size, "0.0.0.0") ||
               text_is(host, (uint32_t)host_size, "[::]");
    size_t asked_size = strcspn(asked_host, ",");
    const char *asked_port = memrchr(asked_host, ':', asked_size);
    if (!any || !asked_port) return;
    char whole[SHARD_MAP_ADDRESS_BYTES];
    int n = snprintf(whole, sizeof whole, "%.*s%.*s%s", (int)(host - out), out,
                     (int)(asked_port - asked_host), asked_host, port);
    if (n > 0 && (size_t)n < sizeof whole) memcpy(out, whole, (size_t)n + 1);
}

static const char *map_read_shards(struct msgpack_reader *r, const char *asked,
                                   struct shard_map *map) {
    uint32_t count, fields;
    if (msgpack_read_array(r, &count) != MSGPACK_OK) return "shards is not a list";
    if (count > SHARDS_MAX) return "more shards than the limit";
    for (uint32_t i = 0; i < count; i++) {
        uint64_t shard;
        const void *address;
        uint32_t size;
        if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields < 2 ||
            msgpack_read_uint_upto(r, SHARDS_MAX - 1, &shard) != MSGPACK_OK ||
            msgpack_read_str(r, &address, &size) != MSGPACK_OK || size >= SHARD_MAP_ADDRESS_BYTES)
            return "a shard is not [shard, address]";
        for (uint32_t f = 2; f < fields; f++)
            if (msgpack_skip(r) != MSGPACK_OK) return "a shard is cut off";
        map_set_address(map->addresses[shard], address, size, asked);
    }
    return NULL;
}

const char *shard_map_decode(const void *value, size_t bytes, const char *asked,
                             struct shard_map *map) {
    struct msgpack_reader r;
    uint32_t pairs;
    const char *fault = NULL;
    memset(map, 0, sizeof *map);
    msgpack_reader_init(&r, value, bytes);
    if (msgpack_read_map(&r, &pairs) != MSGPACK_OK) return "the shard map is not a map";
    for (uint32_t i = 0; i < pairs && !fault; i++) {
        const void *name;
        uint32_t size;
        if (msgpack_read_str(&r, &name, &size) != MSGPACK_OK) return "a name is not a text";
        if (text_is(name, size, "epochs")) fault = map_read_epochs(&r, map);
        else if (text_is(name, size, "shards")) fault = map_read_shards(&r, asked, map);
        else if (msgpack_skip(&r) != MSGPACK_OK) fault = "the shard map is cut off";
    }
    if (fault) return fault;
    return map->epochs_count ? NULL : "the shard map has no epochs";
}

/* -- taking it in (the mutex is held) ---------------------------------------------------------- */

/* The endpoint of these addresses, opened if it is new. Without one (no memory, a bad address, too
 * many over time) the general endpoint serves: it routes anything. */
static struct endpoint *router_endpoint(struct shard_router *r, const char *addresses) {
    struct endpoint *general = r->shared->general;
    const jumun_options *o = &r->shared->options;
    if (addresses[0] == '\0' || strcmp(addresses, general->addresses) == 0) return general;
    for (uint32_t i = 0; i < r->endpoints_count; i++)
        if (strcmp(r->endpoints[i]->addresses, addresses) == 0) return r->endpoints[i];
    if (r->endpoints_count == sizeof r->endpoints / sizeof r->endpoints[0]) return general;
    struct endpoint *e = calloc(1, sizeof *e);
    if (!e) return general;
    char failed_at[SHARD_MAP_ADDRESS_BYTES];
    snprintf(e->addresses, sizeof e->addresses, "%s", addresses);
    circuit_breaker_init(&e->breaker, o->circuit_failures, o->circuit_open_ms * 1000000LL);
    if (connection_open(&e->connection, addresses, r->on_change, r->arg, failed_at,
                        sizeof failed_at) != 0) {
        free(e);
        return general;
    }
    r->endpoints[r->endpoints_count++] = e;
    return e;
}

static bool router_set_lanes(struct shard_router *r, const struct shard_map *map) {
    for (uint32_t i = 0; i < map->shards_count; i++) {
        struct endpoint *e = router_endpoint(r, map->addresses[i]);
        struct lane *lane = atomic_load(&r->lanes[i]);
        if (lane) {
            atomic_store(&lane->endpoint, e);
            continue;
        }
        if (!(lane = lane_new(r->shared, e))) return false;
        atomic_store(&r->lanes[i], lane);
        atomic_store(&r->lanes_count, i + 1);
    }
    return true;
}

static struct lane *router_lane(struct shard_router *r, const struct shard_map *map,
                                const struct call_route *route) {
    uint32_t e = map->epochs_count - 1;
    while (e > 0 && map->epochs[e].from_ms > route->birth_ms) e--;
    return atomic_load_explicit(&r->lanes[route->hash % map->epochs[e].shards_count],
                                memory_order_acquire);
}

static void router_push_to_lane(struct shard_router *r, const struct shard_map *map,
                                struct call *call) {
    /* The low bits of the hash chose the shard; the high ones still tell its orders apart. */
    uint32_t order = (uint32_t)(call->route.hash >> 32) & ~(1u << 31);
    lane_push(router_lane(r, map, &call->route), call, order);
}

static bool router_replace_map(struct shard_router *r, struct shard_map *map) {
    if (!router_set_lanes(r, map)) return false;
    map->older = atomic_load(&r->map);
    if (map->older && map->older->epochs_count == map->epochs_count &&
        memcmp(map->older->epochs, map->epochs, sizeof map->epochs) == 0) {
        free(map); /* only addresses changed, and those are with the lanes */
        return true;
    }
    struct call *call;
    while ((call = call_list_pop(&r->unrouted))) router_push_to_lane(r, map, call);
    atomic_store_explicit(&r->map, map, memory_order_release);
    return true;
}

bool shard_router_install(struct shard_router *r, const void *value, size_t bytes) {
    struct shard_map *map = calloc(1, sizeof *map);
    if (!map) return false;
    if (value && shard_map_decode(value, bytes, r->shared->general->addresses, map) != NULL) {
        free(map);
        return false;
    }
    if (!value) {
        map->epochs_count = map->shards_count = 1;
        map->epochs[0] = (struct routing_epoch){0, 1};
    }
    pthread_mutex_lock(&r->mutex);
    bool done = router_replace_map(r, map);
    pthread_mutex_unlock(&r->mutex);
    if (!done) free(map);
    return done;
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

int shard_router_push(struct shard_router *r, struct call *call, int64_t now_ns) {
    const struct shard_map *map = atomic_load_explicit(&r->map, memory_order_acquire);
    if (!map) {
        if (!circuit_breaker_admit(&r->shared->general->breaker, now_ns))
            return JUMUN_CIRCUIT_OPEN;
        return router_keep(r, call);
    }
    int code = lane_admit(router_lane(r, map, &call->route), now_ns);
    if (code == JUMUN_OK) router_push_to_lane(r, map, call);
    return code;
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
        if (circuit_breaker_failure(&r->shared->general->breaker, now_ns))
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

void shard_router_run(struct shard_router *r) {
    uint32_t count = atomic_load(&r->lanes_count);
    for (uint32_t i = 0; i < count; i++) lane_run(atomic_load(&r->lanes[i]));
}

/* -- life -------------------------------------------------------------------------------------- */

void shard_router_init(struct shard_router *r, struct lane_shared *shared,
                       void (*on_change)(void *arg, bool up), void *arg) {
    memset(r, 0, sizeof *r);
    r->shared = shared;
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
    for (uint32_t i = 0; i < r->endpoints_count; i++) {
        connection_close(&r->endpoints[i]->connection);
        free(r->endpoints[i]);
    }
    struct shard_map *map = atomic_load(&r->map);
    while (map) {
        struct shard_map *older = map->older;
        free(map);
        map = older;
    }
    pthread_mutex_destroy(&r->mutex);
}
