#include "clients/sdk/map_fetch.h"

#include <stdlib.h>

#include "actors/result_codes.h"

enum {
    MAP_FETCH_TIMEOUT_MS = 2000,       /* while there is none */
    MAP_REFETCH_TIMEOUT_MS = 250       /* another node may know better */
};
#define MAP_FETCH_PAUSE_NS 50000000LL  /* between two fetches */
#define MAP_FOREIGN_PAUSE_NS 250000000LL /* where all are another cluster's: it may stay so */
#define MAP_NO_HELP_NS 1000000000LL    /* wanted again so soon: the last one did not help */
#define MAP_ALONE_NS 300000000LL       /* so long the others are asked */

/* The first map decides which cluster the client works with. Where several addresses were given and
 * the node at one of them says that it is alone, it may have come there by mistake: on a directory
 * that is empty since its disk is not there. The others are asked as well before it is believed. */
static bool map_is_doubtful(jumun_client *client, const struct shard_map *map) {
    if (atomic_load(&client->router.map) || map->nodes_count > 0) return false;
    if (atomic_load(&client->shared.nodes.count) < 2) return false;
    int64_t now_ns = clock_coarse_ns();
    if (client->alone_since_ns == 0) client->alone_since_ns = now_ns;
    return now_ns - client->alone_since_ns < MAP_ALONE_NS;
}

/* Whether the answer of `from` has a map that is in force now. */
static bool map_take(jumun_client *client, struct endpoint *from, const void *value,
                     size_t value_bytes, bool *readable) {
    struct shard_map *map = malloc(sizeof *map);
    *readable = map && shard_map_decode(value, value_bytes, from->addresses, map) == NULL;
    if (!*readable || map_is_doubtful(client, map)) {
        free(map);
        return false;
    }
    enum shard_router_end end = shard_router_install(&client->router, map);
    if (end == SHARD_ROUTER_FOREIGN) endpoint_set_foreign(from, clock_coarse_ns());
    return end == SHARD_ROUTER_INSTALLED;
}

/* Whether whoever answered so routes what it is sent all the same: a node that has no map, or one
 * of another shape. Where no address may be a node's, who is there says to each command what it
 * is. */
static bool map_is_needless(jumun_client *client, int code) {
    return (code >= RESULT_MALFORMED_MESSAGE && code < RESULT_ORDER_NOT_FOUND) ||
           ((code == JUMUN_READ_ONLY || code == JUMUN_BAD_REPLY) &&
            !node_list_may_have_node(&client->shared.nodes));
}

static void map_on_answer(void *arg, const jumun_result *result, const void *value,
                          size_t value_bytes) {
    jumun_client *client = arg;
    bool first = atomic_load(&client->router.map) == NULL;
    /* Which node serves may have changed since it was asked. */
    struct endpoint *from = lane_answered_by();
    bool told = result->code == JUMUN_OK && value && from, readable = false;
    bool taken = told && map_take(client, from, value, value_bytes, &readable);
    bool needless = result->code == JUMUN_OK ? !readable : map_is_needless(client, result->code);
    if (!taken && first && needless) {
        shard_router_install(&client->router, NULL);
    } else if (!taken && result->code != JUMUN_CLOSED) {
        node_list_failed(&client->shared.nodes, atomic_load(&client->map_asked));
        atomic_store(&client->shared.map_wanted, true);
    }
    atomic_store(&client->map_fetching, false);
}

void map_fetch_init(jumun_client *client) { client->map_fetched_ns = -MAP_FETCH_PAUSE_NS; }

void map_fetch_on_tick(jumun_client *client, int64_t now_ns) {
    bool missing = atomic_load(&client->router.map) == NULL;
    if (!missing && !atomic_load(&client->shared.map_wanted)) return;
    if (now_ns - client->map_fetched_ns < MAP_FETCH_PAUSE_NS) return;
    /* A node that is cut off from the others answers and does not know who leads: the next one. */
    if (!missing && now_ns - client->map_fetched_ns < MAP_NO_HELP_NS)
        node_list_failed(&client->shared.nodes, atomic_load(&client->map_asked));
    struct endpoint *node = node_list_pick(&client->shared.nodes);
    if (!connection_is_up(&node->connection)) return;
    if (endpoint_is_foreign(node) && now_ns - client->map_fetched_ns < MAP_FOREIGN_PAUSE_NS) return;
    if (atomic_exchange(&client->map_fetching, true)) return;
    client->map_fetched_ns = now_ns;
    atomic_store(&client->map_asked, node);
    atomic_store(&client->shared.map_wanted, false);
    jumun_command ask = {.kind = JUMUN_NODE_SHARD_MAP,
                         .options = {.timeout_ms = missing ? MAP_FETCH_TIMEOUT_MS
                                                           : MAP_REFETCH_TIMEOUT_MS}};
    if (jumun_submit(client, &ask, map_on_answer, client) != JUMUN_OK) {
        atomic_store(&client->shared.map_wanted, true);
        atomic_store(&client->map_fetching, false);
    }
}
