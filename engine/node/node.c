#include "engine/node/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/data_directory.h"
#include "engine/base/hex.h"
#include "engine/base/log.h"
#include "engine/base/program.h"
#include "engine/node/ports.h"

enum {
    NODE_WINDOW_MS = 10000,
    NODE_DRAINED_LOOKS = 10,        /* in a row */
    NODE_DRAINED_LOOK_US = 2000,
    NODE_REPLIES_PATIENCE_MS = 2000,
    NODE_HEARD_MS = 5000            /* a node not heard for so long is not there */
};

/* A node alone: what its logs say of a cluster that is lost is replaced. All shards run, whatever
 * was retired; a node alone writes by the highest level of its version. */
static void node_fill_view_alone(struct shard_view *view, const struct identity *i) {
    *view = (struct shard_view){.version = cluster_view_version(i->generation, 0),
                                .stores_shards = i->stores_shards, .level = program.level_max,
                                .epochs_count = i->epochs_count};
    memcpy(view->epochs, i->epochs, sizeof view->epochs);
    for (uint32_t s = 0; s < i->shards; s++) view->active[s / 8] |= (uint8_t)(1u << (s % 8));
}

/* A node alone: it leads all its shards, each a group of one. */
static int node_start_alone(struct node *n, char *error, size_t error_bytes) {
    struct replica_wanted wanted[SHARDS_MAX];
    if (n->identity.generation > 0) node_fill_view_alone(&n->view, &n->identity);
    for (uint32_t i = 0; i < n->shards_count; i++)
        wanted[i] = (struct replica_wanted){.shard = i, .server_id = n->identity.node_id};
    return replicas_start(n, wanted, n->shards_count, error, error_bytes);
}

static bool node_start_scrubber(struct node *n, bool clustered, char *error, size_t error_bytes) {
    const struct scrubber_options options = {.period_ms = n->config.scrub_period_ms,
                                             .seed = (uint32_t)clock_mono_ns(),
                                             .clustered = clustered};
    if (options.period_ms == 0) return true;
    n->scrubber = scrubber_start(&options, error, error_bytes);
    return n->scrubber != NULL;
}

/* Everything but the data directory. `topology`: NULL = a node alone. Returns an exit code. */
static int node_open(struct node *n, struct cluster_topology *topology, char *error,
                     size_t error_bytes) {
    /* The addresses first: a port in use is found before anything else is touched. */
    int code = topology ? node_cluster_open(n, topology, error, error_bytes) : EXIT_DONE;
    if (code != EXIT_DONE) return code;
    struct id128 cluster_id;
    require(hex_parse(n->identity.cluster_id, cluster_id.bytes, sizeof cluster_id.bytes));
    const struct ingress_options ingress = {.listen = n->config.listen, .map = &n->map,
                                            .cluster_id = cluster_id,
                                            .contexts = n->config.contexts, .shards = &n->local,
                                            .node = (uint32_t)n->identity.node_id,
                                            .leaders = topology ? &n->leaders : NULL,
                                            .tls = &n->tls, .status = node_status,
                                            .document = n->cluster_cache ? node_cluster_document
                                                                         : NULL,
                                            .status_arg = n};
    const struct node_courier_options courier = node_courier_options_of(n);
    n->ingress = ingress_open(&ingress, error, error_bytes);
    if (!n->ingress) return EXIT_RUNTIME;
    if (!node_feed_open(n, error, error_bytes)) return EXIT_RUNTIME;
    n->courier = node_courier_open(&courier, error, error_bytes);
    if (!n->courier) return EXIT_RUNTIME;
    n->history = history_reader_start(n->storages, error, error_bytes);
    if (!n->history) return EXIT_RUNTIME;
    if (!node_start_scrubber(n, topology != NULL, error, error_bytes)) return EXIT_RUNTIME;
    code = topology ? node_cluster_start(n, topology, error, error_bytes)
                    : node_start_alone(n, error, error_bytes);
    if (code != EXIT_DONE) return code;
    if (!node_feed_start(n, error, error_bytes)) return EXIT_RUNTIME;
    if (!ingress_start(n->ingress, error, error_bytes)) return EXIT_RUNTIME;
    return EXIT_DONE;
}

void node_free_maps(struct shard_map_newer *maps) {
    while (maps) {
        struct shard_map_newer *older = maps->older;
        free(maps);
        maps = older;
    }
}

/* Closes what is open, in the order in which things lean on each other; the endpoints first stop
 * touching the shards, and are closed last. */
static void node_close(struct node *n, bool exiting) {
    int64_t until_ms = clock_mono_ms() + NODE_REPLIES_PATIENCE_MS;
    if (n->ingress) ingress_halt(n->ingress);
    while (n->ingress && !ingress_is_idle(n->ingress) && clock_mono_ms() < until_ms) usleep(1000);
    if (n->keeper) cluster_keeper_stop(n->keeper);
    if (n->backfill) backfill_stop(n->backfill);
    n->backfill = NULL;
    if (n->scrubber) scrubber_stop(n->scrubber);
    n->scrubber = NULL;
    if (n->courier) node_courier_stop(n->courier);
    if (n->feed) feed_stop(n->feed);
    replicas_stop_threads(n);
    if (n->peers) node_peers_stop(n->peers);
    if (n->history) history_reader_stop(n->history);
    if (n->courier) node_courier_close(n->courier);
    replicas_close_storages(n);
    if (n->lock_fd >= 0) close(n->lock_fd);
    if (exiting) return;
    if (n->ingress) ingress_close(n->ingress);
    if (n->feed) feed_close(n->feed);
    if (n->peers) node_peers_close(n->peers, false);
    if (n->keeper) cluster_keeper_free(n->keeper);
    free(n->cluster_cache);
    node_free_maps(n->maps);
    free(n->topology);
    leaders_fini(&n->leaders);
    pthread_mutex_destroy(&n->topology_mutex);
    pthread_mutex_destroy(&n->status_mutex);
    free(n);
}

static struct node *node_new(const struct config *config) {
    struct node *n = aligned_alloc(64, (sizeof *n + 63) / 64 * 64);
    if (!n) return NULL;
    memset(n, 0, sizeof *n);
    n->config = *config;
    n->lock_fd = -1;
    memcpy(n->tls.certificate, config->tls_certificate, sizeof n->tls.certificate);
    memcpy(n->tls.key, config->tls_key, sizeof n->tls.key);
    memcpy(n->tls.authority, config->tls_authority, sizeof n->tls.authority);
    node_clock_init(&n->clock);
    n->started_ms = node_clock_ms(&n->clock);
    n->started_mono_ms = clock_mono_ms();
    pthread_mutex_init(&n->status_mutex, NULL);
    pthread_mutex_init(&n->topology_mutex, NULL);
    leaders_init(&n->leaders);
    return n;
}

/* Reads the cluster's file, for the number that the directory or the command line gives. */
static int node_read_topology(struct node *n, struct cluster_topology **topology, char *error,
                              size_t error_bytes) {
    struct identity identity = {.node_id = n->config.node_id};
    *topology = NULL;
    /* Before anything in it is looked for, which would not be found with a worse sentence. */
    if (data_directory_is_refused(n->config.data, DATA_DIRECTORY_NODE, error, error_bytes))
        return EXIT_DATA;
    if (n->config.cluster[0] == 0) return node_cluster_read(n, topology, error, error_bytes);
    if (identity.node_id == 0 &&
        identity_peek(n->config.data, &identity, error, error_bytes) < 0)
        return EXIT_DATA;
    if (identity.node_id == 0) {
        snprintf(error, error_bytes, "the data directory %s is new: give --node-id, the number "
                 "that the cluster's file has for this node", n->config.data);
        return EXIT_USAGE;
    }
    *topology = topology_read(n->config.cluster, (uint32_t)identity.node_id, error, error_bytes);
    return *topology ? EXIT_DONE : EXIT_USAGE;
}

/* The data directory, and all that lies in it. Returns an exit code. */
static int node_open_all(struct node *n, struct cluster_topology *topology, char *error,
                         size_t error_bytes) {
    int cpus[SHARDS_MAX];
    struct identity wanted = {.node_id = n->config.node_id, .shards = n->config.shards};
    uint32_t default_shards = node_cpus(cpus, SHARDS_MAX);
    if (topology) {
        wanted.clustered = true;
        wanted.node_id = topology->node;
        memcpy(wanted.cluster_id, topology->cluster_id, sizeof wanted.cluster_id);
        default_shards = topology_shards_count(topology);
    }
    /* A directory is made for so many shards once and for all: not for a start that fails. */
    if (identity_peek(n->config.data, &n->identity, error, error_bytes) == 0 &&
        !node_ports_try(&n->config, wanted.shards ? wanted.shards : default_shards, error,
                        error_bytes))
        return EXIT_RUNTIME;
    n->lock_fd = identity_open(n->config.data, &wanted, default_shards, &n->identity, error,
                               error_bytes);
    if (n->lock_fd < 0) return EXIT_DATA;
    if (!identity_make_cluster_id(n->run)) {
        snprintf(error, error_bytes, "no random numbers: %s", strerror(errno));
        return EXIT_RUNTIME;
    }
    n->shards_count = topology ? default_shards : n->identity.shards;
    shard_map_init(&n->map, n->shards_count);
    memcpy(n->map.cluster_id, n->identity.cluster_id, sizeof n->map.cluster_id);
    memcpy(n->map.ancestors, n->identity.ancestors, sizeof n->map.ancestors);
    n->map.ancestors_count = n->identity.ancestors_count;
    if (!topology && n->identity.epochs_count > 0) {
        memcpy(n->map.epochs, n->identity.epochs, sizeof n->map.epochs);
        n->map.epochs_count = n->identity.epochs_count;
        n->map.stores_shards = n->identity.stores_shards;
    }
    int code = node_open(n, topology, error, error_bytes);
    /* Without it only backups have less of what is newest. */
    if (code == EXIT_DONE && !identity_tell_run(n->lock_fd, n->run, n->map.endpoint))
        log_warn("%s/lock cannot be written: %s", n->config.data, strerror(errno));
    return code;
}

int node_start(struct node **node, const struct config *config, char *error, size_t error_bytes) {
    struct cluster_topology *topology = NULL;
    struct node *n = node_new(config);
    if (!n) {
        snprintf(error, error_bytes, "no memory for the node");
        return EXIT_RUNTIME;
    }
    int code = node_read_topology(n, &topology, error, error_bytes);
    if (code == EXIT_DONE) code = node_open_all(n, topology, error, error_bytes);
    if (code == EXIT_DONE) {
        *node = n;
        return EXIT_DONE;
    }
    if (n->topology != topology) free(topology);
    node_close(n, false);
    return code;
}

bool node_shard_stats(struct node *n, uint32_t slot) {
    uint32_t number = local_shards_number(slot);
    struct shard *s = local_shards_enter(&n->local, number);
    if (!s) return false;
    shard_stats(s, &n->status_scratch);
    local_shards_leave(&n->local, number);
    return true;
}

/* Whether the shard in status_scratch, of this slot, takes commands or follows one that does. One
 * that its group has removed while the node was down is led by nobody. */
static bool node_shard_is_ready(struct node *n, uint32_t slot) {
    const struct shard_stats *t = &n->status_scratch;
    if (t->ready || atomic_load(&n->unplaced[slot])) return true;
    return n->peers && t->leader != 0 && consensus_server_node(t->leader) != n->identity.node_id;
}

enum node_state node_state(struct node *n, uint32_t *shard) {
    enum node_state state = NODE_READY;
    pthread_mutex_lock(&n->status_mutex);
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS && state != NODE_DAMAGED; i++) {
        if (!node_shard_stats(n, i)) continue;
        if (!node_shard_is_ready(n, i)) state = NODE_RECOVERING;
        if (!n->status_scratch.failed) continue;
        state = NODE_DAMAGED;
        *shard = local_shards_number(i);
    }
    pthread_mutex_unlock(&n->status_mutex);
    return state;
}

/* "0, 3, meta"; as many as there is room for, and how many there are. The status_mutex is held. */
static uint32_t node_lacking(struct node *n, char *out, size_t bytes) {
    uint32_t count = 0;
    size_t used = 0;
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++) {
        uint32_t number = local_shards_number(i);
        if (!node_shard_stats(n, i) || node_shard_is_ready(n, i)) continue;
        const char *comma = count++ > 0 ? ", " : "";
        if (bytes - used < 16) continue;
        int more = number == SHARD_META ? snprintf(out + used, bytes - used, "%smeta", comma)
                                        : snprintf(out + used, bytes - used, "%s%u", comma, number);
        used += (size_t)more;
    }
    return count;
}

void node_tell_lacking(struct node *n) {
    char shards[200] = "";
    pthread_mutex_lock(&n->status_mutex);
    uint32_t count = node_lacking(n, shards, sizeof shards);
    pthread_mutex_unlock(&n->status_mutex);
    if (count == 0) return;
    if (!n->peers) {
        log_info("not ready yet: %u shards recover (%s)", count, shards);
        return;
    }
    struct node_peers_seen seen[NODES_MAX];
    uint32_t heard = 0, nodes = node_peers_seen(n->peers, seen, NODES_MAX);
    for (uint32_t i = 0; i < nodes; i++)
        heard += seen[i].silent_ms >= 0 && seen[i].silent_ms < NODE_HEARD_MS;
    log_warn("not ready yet: %u shards have no leader that this node hears (%s); it hears %u of %u "
             "other nodes. A group needs most of its replicas: jumun cluster status shows who "
             "answers", count, shards, heard, nodes);
}

void node_tick(struct node *n) {
    int64_t now_ms = clock_mono_ms();
    if (n->peers) node_cluster_tick(n);
    if (now_ms - n->window_mono_ms < NODE_WINDOW_MS) return;
    n->window_mono_ms = now_ms;
    ingress_latency_turn(n->ingress);
}

static bool node_is_drained(const struct node *n) {
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++)
        if (n->threads[i] && !shard_thread_is_drained(n->threads[i])) return false;
    return true;
}

void node_stop(struct node *n, int64_t patience_ms, bool exiting) {
    if (n->peers) node_cluster_hand_over(n);
    if (n->keeper) cluster_keeper_stop(n->keeper); /* from here on no replica comes or goes */
    atomic_store(&n->draining, true);
    ingress_drain(n->ingress);
    int64_t until_ms = clock_mono_ms() + patience_ms;
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++) {
        if (n->threads[i]) shard_thread_drain(n->threads[i]);
    }
    /* What one shard tells another is an entry there: all of them have nothing to store, and for a
     * while nothing more comes. */
    uint32_t looks = 0;
    while (looks < NODE_DRAINED_LOOKS && clock_mono_ms() < until_ms) {
        looks = node_is_drained(n) ? looks + 1 : 0;
        usleep(NODE_DRAINED_LOOK_US);
    }
    for (uint32_t i = 0; looks < NODE_DRAINED_LOOKS && i < LOCAL_SHARDS_SLOTS; i++) {
        if (n->threads[i] && !shard_thread_is_drained(n->threads[i]))
            log_warn("shard %u did not store everything in %lld ms: the next start replays its log",
                     local_shards_number(i), (long long)patience_ms);
    }
    node_close(n, exiting);
}
