/* What a node does in a cluster only: makes true what the topology says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/program.h"
#include "engine/cluster/cluster_topology.h"
#include "engine/node/letting_go.h"
#include "engine/node/node.h"

enum {
    CLUSTER_SELF_PATIENCE_MS = 3000,     /* for the own hello to come back */
    CLUSTER_HAND_OVER_PATIENCE_MS = 6000,
    CLUSTER_HAND_OVER_ASK_MS = 100
};

/* -- callbacks of the way to other nodes ------------------------------------------------------- */

static void cluster_on_courier(void *arg, struct bytes envelope) {
    struct node *n = arg;
    node_courier_receive(n->courier, envelope);
}

static void cluster_on_hello(void *arg, uint32_t from, uint64_t document) {
    struct node *n = arg;
    if (n->keeper) cluster_keeper_hello(n->keeper, from, document);
}

static_assert((int)CLUSTER_KIND_ASK == (int)PEER_CLUSTER_FIRST, "the keeper's kinds are its own");

static void cluster_on_message(void *arg, uint32_t from, uint32_t kind, struct bytes body) {
    struct node *n = arg;
    if (n->keeper) cluster_keeper_received(n->keeper, from, kind, body);
}

/* Another process has this node's number, or the cluster has gone where this one cannot follow. */
static void cluster_must_stop(void *arg, const char *sentence) {
    struct node *n = arg;
    log_error("%s", sentence);
    snprintf(n->must_stop_because, sizeof n->must_stop_because, "%s", sentence);
    atomic_store(&n->must_stop, true);
}

static bool cluster_courier_send(void *arg, uint32_t node, const struct envelope *envelope) {
    struct node *n = arg;
    return node_peers_send_envelope(n->peers, node, envelope);
}

/* -- the cluster document ---------------------------------------------------------------------- */

static int cluster_keeper_apply(void *arg, struct cluster_topology *t, char *error,
                                size_t error_bytes) {
    return node_apply(arg, t, error, error_bytes);
}

static bool cluster_keeper_send(void *arg, uint32_t node, uint32_t kind, struct bytes body) {
    struct node *n = arg;
    return node_peers_send(n->peers, node, kind, body);
}

static int64_t cluster_keeper_now_ms(void *arg) {
    struct node *n = arg;
    return node_clock_ms(&n->clock);
}

void *node_cluster_document(void *arg, uint32_t *bytes) {
    struct node *n = arg;
    return cluster_keeper_encode(n->keeper, bytes);
}

/* A replica that has run here and whose directory is gone, or empty, would vote as if it had
 * promised nothing. */
static bool cluster_has_lost(const struct node *n, char *error, size_t error_bytes) {
    const struct cluster_cache *c = n->cluster_cache;
    for (uint32_t i = 0; i < c->replicas_count; i++) {
        char directory[sizeof n->config.data + 48], vote[sizeof directory + 24];
        struct stat st;
        replicas_directory(n->config.data, c->replicas[i].shard, c->replicas[i].server, directory,
                           sizeof directory);
        snprintf(vote, sizeof vote, "%s/vote/data.mdb", directory);
        if (stat(vote, &st) == 0) continue;
        snprintf(error, error_bytes, "%s is gone: the replica there has made promises that it "
                 "cannot keep any more. Replace this node: start one with --cluster-wait on an "
                 "empty directory, then jumun cluster replace %u URL",
                 stat(directory, &st) == 0 ? vote : directory, c->node);
        return true;
    }
    return false;
}

int node_cluster_read(struct node *n, struct cluster_topology **topology, char *error,
                      size_t error_bytes) {
    n->cluster_cache = calloc(1, sizeof *n->cluster_cache);
    *topology = calloc(1, sizeof **topology);
    int found = n->cluster_cache && *topology
                    ? cluster_cache_load(n->config.data, n->cluster_cache, error, error_bytes)
                    : -1;
    if (found == 1 && !cluster_has_lost(n, error, error_bytes) &&
        cluster_level_is_right(n->cluster_cache->document.level, error, error_bytes)) {
        const struct cluster_cache *c = n->cluster_cache;
        cluster_topology_fill(*topology, c->version, &c->document, c->node);
        return EXIT_DONE;
    }
    free(n->cluster_cache);
    free(*topology);
    n->cluster_cache = NULL;
    *topology = NULL;
    return found == 0 ? EXIT_DONE : EXIT_DATA;
}

static bool cluster_make_keeper(struct node *n) {
    const struct cluster_keeper_options options = {
        .directory = n->config.data, .shards = &n->local, .apply = cluster_keeper_apply,
        .send = cluster_keeper_send, .now_ms = cluster_keeper_now_ms, .arg = n};
    if (!n->cluster_cache) return true;
    n->keeper = cluster_keeper_new(&options, n->cluster_cache);
    return n->keeper != NULL;
}

/* -- open -------------------------------------------------------------------------------------- */

static uint32_t cluster_stores_shards(const struct cluster_topology *t) {
    return t->stores_shards ? t->stores_shards : t->epochs[t->epochs_count - 1].shards_count;
}

/* What shards go by. */
static void cluster_fill_view(struct shard_view *view, const struct cluster_topology *t) {
    *view = (struct shard_view){.version = t->view_version,
                                .stores_shards = cluster_stores_shards(t), .level = t->level,
                                .epochs_count = t->epochs_count};
    memcpy(view->epochs, t->epochs, sizeof view->epochs);
    for (uint32_t i = 0; i < t->groups_count; i++) {
        uint32_t shard = t->groups[i].shard;
        if (shard < SHARDS_MAX) view->active[shard / 8] |= (uint8_t)(1u << (shard % 8));
    }
}

/* What the clients' map says of the cluster. */
static void cluster_fill_map(struct shard_map *map, const struct cluster_topology *t,
                             const struct identity *identity) {
    map->shards_count = topology_shards_count(t);
    map->epochs_count = t->epochs_count;
    map->stores_shards = cluster_stores_shards(t);
    memcpy(map->epochs, t->epochs, sizeof map->epochs);
    memset(map->retired, 0, sizeof map->retired);
    for (uint32_t s = 0; s < map->shards_count; s++)
        if (!topology_group(t, s)) map->retired[s / 8] |= (uint8_t)(1u << (s % 8));
    memcpy(map->cluster_id, t->cluster_id, sizeof map->cluster_id);
    memcpy(map->ancestors, identity->ancestors, sizeof map->ancestors);
    map->ancestors_count = identity->ancestors_count;
    map->version = t->version;
    map->node = t->node;
    map->nodes_count = t->nodes_count;
    for (uint32_t i = 0; i < t->nodes_count; i++) {
        map->nodes[i].node = t->nodes[i].node;
        memcpy(map->nodes[i].endpoint, t->nodes[i].client_endpoint, ENDPOINT_BYTES_MAX);
    }
}

static bool cluster_set_nodes(struct node *n, const struct cluster_topology *t, char *error,
                              size_t error_bytes) {
    struct transport_peer peers[NODES_MAX];
    for (uint32_t i = 0; i < t->nodes_count; i++)
        peers[i] = (struct transport_peer){t->nodes[i].node, t->nodes[i].peer_endpoint};
    return node_peers_set_nodes(n->peers, peers, t->nodes_count, error, error_bytes);
}

/* Where the shard's other replicas are. */
static uint32_t cluster_history_peers(void *arg, uint32_t shard,
                                      char (*endpoints)[ENDPOINT_BYTES_MAX], uint32_t max) {
    struct node *n = arg;
    uint32_t count = 0;
    pthread_mutex_lock(&n->topology_mutex);
    const struct cluster_topology *t = n->topology;
    const struct cluster_group *g = t ? topology_group(t, shard) : NULL;
    for (uint32_t i = 0; g && i < g->placement.count && count < max; i++) {
        uint32_t number = consensus_server_node(g->placement.servers[i]);
        const struct cluster_node *node = topology_node(t, number);
        if (node && number != t->node)
            memcpy(endpoints[count++], node->client_endpoint, ENDPOINT_BYTES_MAX);
    }
    pthread_mutex_unlock(&n->topology_mutex);
    return count;
}

int node_cluster_open(struct node *n, struct cluster_topology *t, char *error,
                      size_t error_bytes) {
    const struct cluster_node *self = topology_node(t, t->node);
    struct config *c = &n->config;
    if (!c->listen_given) memcpy(c->listen, self->client_endpoint, sizeof c->listen);
    if (c->peer_listen[0] == 0) memcpy(c->peer_listen, self->peer_endpoint, sizeof c->peer_listen);
    cluster_fill_map(&n->map, t, &n->identity);
    const struct node_peers_options options = {
        .node = t->node, .listen = c->peer_listen, .client_endpoint = self->client_endpoint,
        .tls = &n->tls, .catch_up_bytes_per_second = c->catch_up_bytes_per_second,
        .leaders = &n->leaders, .shards = &n->local, .clock = &n->clock,
        .courier_received = cluster_on_courier,
        .hello_received = cluster_on_hello, .cluster_received = cluster_on_message,
        .duplicate = cluster_must_stop, .arg = n};
    struct node_peers_options with_cluster = options;
    if (!peer_cluster_of(t->cluster_id, &with_cluster.cluster)) {
        snprintf(error, error_bytes, "\"%s\" is no cluster id", t->cluster_id);
        return EXIT_DATA;
    }
    if (!cluster_make_keeper(n)) {
        snprintf(error, error_bytes, "no memory for the cluster document");
        return EXIT_RUNTIME;
    }
    n->peers = node_peers_open(&with_cluster, error, error_bytes);
    if (!n->peers) return EXIT_RUNTIME;
    const struct backfill_options backfill = {
        .cluster_id = n->identity.cluster_id, .tls = &n->tls,
        .bytes_per_second = c->catch_up_bytes_per_second, .retention_ms = c->retention_ms,
        .peers = cluster_history_peers, .arg = n};
    n->backfill = backfill_start(&backfill, error, error_bytes);
    return n->backfill ? EXIT_DONE : EXIT_RUNTIME;
}

struct node_courier_options node_courier_options_of(struct node *n) {
    struct node_courier_options options = {.node = (uint32_t)n->identity.node_id,
                                           .shards = &n->local, .arg = n};
    if (!n->peers) return options;
    options.leaders = &n->leaders;
    options.send = cluster_courier_send;
    return options;
}

/* -- apply ------------------------------------------------------------------------------------- */

static bool cluster_take_map(struct node *n, const struct cluster_topology *t, char *error,
                             size_t error_bytes) {
    struct shard_map_newer *newer = n->maps;
    /* Another try at what failed behind this goes on with the same one. */
    if (!newer || newer->map.version != t->version) {
        newer = calloc(1, sizeof *newer);
        if (!newer) {
            snprintf(error, error_bytes, "no memory for the shard map");
            return false;
        }
        cluster_fill_map(&newer->map, t, &n->identity);
        memcpy(newer->map.feed_endpoint, n->map.feed_endpoint, sizeof newer->map.feed_endpoint);
        memcpy(newer->map.notify_endpoint, n->map.notify_endpoint,
               sizeof newer->map.notify_endpoint);
        newer->older = n->maps; /* even if it fails: somebody may have seen it */
        n->maps = newer;
    }
    if (!ingress_set_map(n->ingress, &newer->map, error, error_bytes)) return false;
    node_free_maps(newer->older);
    newer->older = NULL;
    n->shards_count = newer->map.shards_count;
    if (!n->feed) return true;
    struct shard_view view;
    cluster_fill_view(&view, t);
    feed_set_active(n->feed, view.active);
    feed_set_shards_count(n->feed, n->shards_count);
    return true;
}

/* The replicas that are missing here. Returns their number. */
static uint32_t cluster_missing(struct node *n, const struct cluster_topology *t,
                                struct replica_wanted *wanted) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->groups_count; i++) {
        const struct cluster_group *g = &t->groups[i];
        uint64_t own = topology_own_server(t, g);
        uint32_t slot = local_shards_slot(g->shard);
        if (own == 0 || n->server_ids[slot] == own) continue;
        struct replica_wanted *w = &wanted[count++];
        *w = (struct replica_wanted){.shard = g->shard, .server_id = own,
                                     .placed_alone = g->placement.count == 1};
        for (uint32_t k = 0; k < g->first_servers_count; k++) {
            if (g->first_servers[k] != own) continue;
            w->first_servers = g->first_servers;
            w->first_servers_count = g->first_servers_count;
        }
    }
    return count;
}

static void cluster_place(struct node *n, const struct cluster_topology *t) {
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        uint32_t number = local_shards_number(slot);
        const struct cluster_group *g = topology_group(t, number);
        bool here = g && topology_own_server(t, g) != 0;
        struct shard *shard = local_shards_enter(&n->local, number);
        if (!shard) continue;
        if (g) shard_place(shard, &g->placement);
        if (number != SHARD_META) shard_know(shard, &n->view);
        local_shards_leave(&n->local, number);
        if (here || !n->unplaced[slot]) n->leaderless_since_ms[slot] = 0;
        n->unplaced[slot] = !here;
    }
}

/* Starts what is missing, tells all where they belong. The topology_mutex is held. */
static int cluster_take_replicas(struct node *n, const struct cluster_topology *t, char *error,
                                 size_t error_bytes) {
    static const struct replica_wanted none;
    struct replica_wanted *wanted = calloc(TOPOLOGY_GROUPS_MAX, sizeof none);
    if (!wanted) {
        snprintf(error, error_bytes, "no memory for the list of replicas");
        return EXIT_RUNTIME;
    }
    cluster_fill_view(&n->view, t);
    uint32_t count = cluster_missing(n, t, wanted);
    for (uint32_t i = 0; i < count; i++) replicas_stop(n, wanted[i].shard); /* an earlier one */
    int code = replicas_start(n, wanted, count, error, error_bytes);
    free(wanted);
    if (code == EXIT_DONE) cluster_place(n, t);
    return code;
}

/* A replica that had not been let go of when the node stopped is still a voter of its group, most
 * likely, wherever the topology has it by now: after a power cut its vote may be the one that is
 * lacking. That of a retired shard runs until nothing is left in it. The topology_mutex is held. */
static void cluster_start_unplaced(struct node *n, const struct cluster_topology *t) {
    uint64_t servers[LOCAL_SHARDS_SLOTS];
    letting_go_find(n->config.data, t->cluster_id, t->node, servers);
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        uint32_t number = local_shards_number(slot);
        const struct cluster_group *g = topology_group(t, number);
        const struct replica_wanted wanted = {.shard = number, .server_id = servers[slot]};
        char error[512] = "";
        if (servers[slot] == 0 || (g && topology_own_server(t, g) != 0)) continue;
        if (replicas_start(n, &wanted, 1, error, sizeof error) == EXIT_DONE)
            log_info("shard %u has not let go of its replica here yet: it runs on", number);
        else
            log_warn("shard %u: its replica here, which shall be elsewhere: %s", number, error);
    }
    cluster_place(n, t);
}

/* The topology_mutex is held. */
static void cluster_keep(struct node *n, struct cluster_topology *t) {
    n->topology = t;
    atomic_store(&n->topology_level, t->level);
    atomic_store(&n->topology_version, t->version);
}

int node_cluster_start(struct node *n, struct cluster_topology *t, char *error,
                       size_t error_bytes) {
    node_peers_start(n->peers);
    if (!cluster_set_nodes(n, t, error, error_bytes)) return EXIT_USAGE;
    if (!node_peers_await_self(n->peers, CLUSTER_SELF_PATIENCE_MS)) {
        snprintf(error, error_bytes, "another process answers at %s, where the cluster has node "
                 "%u: is the data directory %s a copy?", topology_node(t, t->node)->peer_endpoint,
                 t->node, n->config.data);
        return EXIT_DATA;
    }
    if (atomic_load(&n->must_stop)) {
        snprintf(error, error_bytes, "%s", n->must_stop_because);
        return EXIT_DATA;
    }
    pthread_mutex_lock(&n->topology_mutex);
    int code = cluster_take_replicas(n, t, error, error_bytes);
    if (code == EXIT_DONE) cluster_start_unplaced(n, t);
    if (code == EXIT_DONE) cluster_keep(n, t);
    pthread_mutex_unlock(&n->topology_mutex);
    node_peers_set_document(n->peers, t->version);
    if (code == EXIT_DONE && n->keeper && cluster_keeper_start(n->keeper, error, error_bytes) != 0)
        code = EXIT_RUNTIME;
    return code;
}

static int cluster_take(struct node *n, struct cluster_topology *t, char *error,
                         size_t error_bytes) {
    if (strcmp(t->cluster_id, n->identity.cluster_id) != 0 || t->node != n->identity.node_id) {
        snprintf(error, error_bytes, "a topology of cluster %s for node %u came to node %llu of "
                 "cluster %s", t->cluster_id, t->node, (unsigned long long)n->identity.node_id,
                 n->identity.cluster_id);
        return EXIT_DATA;
    }
    if (!topology_check(t, error, error_bytes)) return EXIT_DATA;
    if (!cluster_level_is_right(t->level, error, error_bytes)) {
        cluster_must_stop(n, error);
        return EXIT_DATA;
    }
    if (t->level != n->view.level && n->view.version != 0)
        log_info("the cluster is at level %u now (was %u)", program_level(t->level),
                 program_level(n->view.level));
    if (!cluster_take_map(n, t, error, error_bytes)) return EXIT_RUNTIME;
    if (!cluster_set_nodes(n, t, error, error_bytes)) return EXIT_RUNTIME;
    return cluster_take_replicas(n, t, error, error_bytes);
}

int node_apply(struct node *n, struct cluster_topology *t, char *error, size_t error_bytes) {
    int code = EXIT_DONE;
    pthread_mutex_lock(&n->topology_mutex);
    struct cluster_topology *unused = t;
    if (!n->topology || t->version > n->topology->version) {
        code = cluster_take(n, t, error, error_bytes);
        if (code == EXIT_DONE) {
            unused = n->topology;
            cluster_keep(n, t);
            node_peers_set_document(n->peers, t->version);
        } else {
            unused = NULL; /* stays the caller's */
        }
    }
    free(unused);
    pthread_mutex_unlock(&n->topology_mutex);
    return code;
}

/* -- housekeeping ------------------------------------------------------------------------------ */

/* Whether a retired shard can do without its replica here. */
static bool cluster_is_over(struct node *n, uint32_t slot, int64_t now_ms) {
    uint32_t number = local_shards_number(slot);
    struct letting_go_retired look = {0};
    struct shard *shard = local_shards_enter(&n->local, number);
    if (!shard) return false;
    struct shard_stats *stats = calloc(1, sizeof *stats);
    if (stats) {
        shard_stats(shard, stats);
        look = (struct letting_go_retired){.leads = stats->ready, .empty = shard_is_empty(shard),
                                           .vacant = stats->vacant, .led = stats->leader != 0};
    }
    local_shards_leave(&n->local, number);
    free(stats);
    return letting_go_is_over(&look, now_ms, &n->leaderless_since_ms[slot]);
}

/* Whether the group has let go of a replica that the topology does not have here. */
static bool cluster_is_let_go(struct node *n, uint32_t slot, int64_t now_ms) {
    uint32_t number = local_shards_number(slot), node = leaders_route(&n->leaders, number).node;
    struct consensus_group group;
    uint64_t term;
    struct shard *shard = local_shards_enter(&n->local, number);
    if (!shard) return false;
    shard_group(shard, &group, &term);
    local_shards_leave(&n->local, number);
    return letting_go_is_due(&group, n->server_ids[slot],
                             node != 0 && node != n->identity.node_id, now_ms,
                             &n->leaderless_since_ms[slot]);
}

void node_cluster_tick(struct node *n) {
    int64_t now_ms = clock_mono_ms();
    pthread_mutex_lock(&n->topology_mutex);
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        uint32_t number = local_shards_number(slot);
        if (!n->unplaced[slot]) continue;
        bool retired = n->topology && !topology_group(n->topology, number);
        if (retired ? !cluster_is_over(n, slot, now_ms) : !cluster_is_let_go(n, slot, now_ms))
            continue;
        char directory[sizeof n->config.data + 48];
        replicas_directory(n->config.data, number, n->server_ids[slot], directory,
                           sizeof directory);
        if (retired) log_info("shard %u is retired: its replica here is closed", number);
        else log_info("shard %u has moved away: its replica here is closed, %s is not needed any "
                      "more", number, directory);
        replicas_stop(n, number);
        if (!letting_go_note(directory)) log_warn("%s: %s", directory, strerror(errno));
        n->unplaced[slot] = false;
    }
    pthread_mutex_unlock(&n->topology_mutex);
}

static uint32_t cluster_led(struct node *n) {
    uint32_t led = 0;
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        uint32_t number = local_shards_number(slot);
        if (leaders_route(&n->leaders, number).node == n->identity.node_id) led++;
    }
    return led;
}

static void cluster_ask_to_hand_over(struct node *n) {
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        uint32_t number = local_shards_number(slot);
        struct shard *shard = local_shards_enter(&n->local, number);
        if (!shard) continue;
        shard_hand_over(shard);
        local_shards_leave(&n->local, number);
    }
}

/* Clients notice nothing when another one leads before this one stops answering. Asked again and
 * again: where the chosen one lost its election, this node may lead once more. */
void node_cluster_hand_over(struct node *n) {
    int64_t until_ms = clock_mono_ms() + CLUSTER_HAND_OVER_PATIENCE_MS, ask_ms = 0;
    do {
        if (clock_mono_ms() >= ask_ms) {
            cluster_ask_to_hand_over(n);
            ask_ms = clock_mono_ms() + CLUSTER_HAND_OVER_ASK_MS;
        }
        usleep(2000);
    } while (cluster_led(n) > 0 && clock_mono_ms() < until_ms);
    uint32_t led = cluster_led(n);
    if (led > 0) log_warn("nobody has taken over %u shards that this node leads", led);
}
