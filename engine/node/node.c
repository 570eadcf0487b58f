#include "engine/node/node.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "persistence/lmdb/storage_lmdb.h"

enum {
    NODE_WINDOW_MS = 10000,
    NODE_SPIN_NS = 20000,
    NODE_REPLIES_PATIENCE_MS = 2000
};

/* The cores that this process may use, in order. Returns their number, at least 1. */
static uint32_t node_cpus(int *cpus, uint32_t max) {
    cpu_set_t set;
    uint32_t count = 0;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int i = 0; i < CPU_SETSIZE && count < max; i++) {
            if (CPU_ISSET((unsigned)i, &set)) cpus[count++] = i;
        }
    }
    if (count == 0) cpus[count++] = 0;
    return count;
}

static bool node_open_storages(struct node *n, char *error, size_t error_bytes) {
    for (uint32_t i = 0; i < n->shards_count; i++) {
        char directory[sizeof n->config.data + 32];
        snprintf(directory, sizeof directory, "%s/shard-%u", n->config.data, i);
        const struct storage_lmdb_options options = {.directory = directory, .shard = i,
                                                     .segment_bytes_max = n->config.segment_bytes};
        n->storages[i] = storage_lmdb_open(&options, error, error_bytes);
        if (!n->storages[i]) return false;
    }
    return true;
}

static bool node_start_threads(struct node *n, const int *cpus, uint32_t cpus_count, char *error,
                               size_t error_bytes) {
    for (uint32_t i = 0; i < n->shards_count; i++) {
        struct shard_thread_options options = {
            .clock = &n->clock,
            .cpu = n->config.pin ? cpus[i % cpus_count] : -1,
            /* Each shard has a log writer, and nng has its threads: spinning only pays where all of
             * them have a core. */
            .spin_ns = cpus_count > 2 * n->shards_count + 2 ? NODE_SPIN_NS : 0,
            .shard = {.id = i,
                      .shards_count = n->shards_count,
                      .server_id = n->identity.node_id,
                      .storage = n->storages[i],
                      .courier = node_courier_interface(n->courier),
                      .mailbox_commands_max = n->config.mailbox_commands,
                      .memory_bytes_max = n->config.memory_bytes_max / n->shards_count,
                      .checkpoint_age_ms = n->config.checkpoint_age_ms,
                      .retention_ms = n->config.retention_ms,
                      .seed = (uint32_t)clock_mono_ns(),
                      .read_history = history_reader_offer,
                      .read_history_arg = n->history}};
        n->threads[i] = shard_thread_start(&options, error, error_bytes);
        if (!n->threads[i]) return false;
    }
    for (uint32_t i = 0; i < n->shards_count; i++) {
        n->shards[i] = shard_thread_await(n->threads[i], error, error_bytes);
        if (!n->shards[i]) return false;
    }
    return true;
}

/* Everything but the data directory. Returns an exit code. */
static int node_open(struct node *n, char *error, size_t error_bytes) {
    int cpus[SHARDS_MAX];
    uint32_t cpus_count = node_cpus(cpus, SHARDS_MAX);
    const struct ingress_options ingress = {.listen = n->config.listen, .map = &n->map,
                                            .contexts = n->config.contexts,
                                            .status = node_status, .status_arg = n};
    /* The addresses first: a port in use is found before anything else is touched. */
    n->ingress = ingress_open(&ingress, error, error_bytes);
    if (!n->ingress) return EXIT_RUNTIME;
    if (!node_feed_open(n, error, error_bytes)) return EXIT_RUNTIME;
    n->courier = node_courier_open(n->shards_count, error, error_bytes);
    if (!n->courier) return EXIT_RUNTIME;
    if (!node_open_storages(n, error, error_bytes)) return EXIT_DATA;
    n->history = history_reader_start(n->storages, error, error_bytes);
    if (!n->history) return EXIT_RUNTIME;
    if (!node_start_threads(n, cpus, cpus_count, error, error_bytes)) return EXIT_DATA;
    node_courier_start(n->courier, n->shards);
    if (!node_feed_start(n, error, error_bytes)) return EXIT_RUNTIME;
    if (!ingress_start(n->ingress, n->shards, error, error_bytes)) return EXIT_RUNTIME;
    return EXIT_DONE;
}

/* Closes what is open, in the order in which things lean on each other; the endpoints first stop
 * touching the shards, and are closed last. */
static void node_close(struct node *n, bool exiting) {
    int64_t until_ms = clock_mono_ms() + NODE_REPLIES_PATIENCE_MS;
    if (n->ingress) ingress_halt(n->ingress);
    while (n->ingress && !ingress_is_idle(n->ingress) && clock_mono_ms() < until_ms) usleep(1000);
    if (n->courier) node_courier_stop(n->courier);
    if (n->feed) feed_stop(n->feed);
    for (uint32_t i = 0; i < n->shards_count; i++) {
        if (n->threads[i]) shard_thread_stop(n->threads[i]);
    }
    if (n->history) history_reader_stop(n->history);
    if (n->courier) node_courier_close(n->courier);
    for (uint32_t i = 0; i < n->shards_count; i++) {
        if (n->storages[i]) n->storages[i]->ops->close(n->storages[i]);
        if (n->threads[i]) shard_thread_free(n->threads[i]);
    }
    if (n->lock_fd >= 0) close(n->lock_fd);
    if (exiting) return;
    if (n->ingress) ingress_close(n->ingress);
    if (n->feed) feed_close(n->feed);
    pthread_mutex_destroy(&n->status_mutex);
    free(n);
}

int node_start(struct node **node, const struct config *config, char *error, size_t error_bytes) {
    int cpus[SHARDS_MAX];
    struct node *n = calloc(1, sizeof *n);
    if (!n) {
        snprintf(error, error_bytes, "no memory for the node");
        return EXIT_RUNTIME;
    }
    n->config = *config;
    node_clock_init(&n->clock);
    n->started_ms = node_clock_ms(&n->clock);
    n->started_mono_ms = clock_mono_ms();
    pthread_mutex_init(&n->status_mutex, NULL);
    const struct identity wanted = {.node_id = config->node_id, .shards = config->shards};
    n->lock_fd = identity_open(config->data, &wanted, node_cpus(cpus, SHARDS_MAX), &n->identity,
                               error, error_bytes);
    int code = EXIT_DATA;
    if (n->lock_fd >= 0) {
        n->shards_count = n->identity.shards;
        shard_map_init(&n->map, n->shards_count);
        code = node_open(n, error, error_bytes);
    }
    if (code != EXIT_DONE) {
        node_close(n, false);
        return code;
    }
    *node = n;
    return EXIT_DONE;
}

enum node_state node_state(struct node *n, uint32_t *shard) {
    enum node_state state = NODE_READY;
    pthread_mutex_lock(&n->status_mutex);
    for (uint32_t i = 0; i < n->shards_count && state != NODE_DAMAGED; i++) {
        shard_stats(n->shards[i], &n->status_scratch);
        if (!n->status_scratch.ready) state = NODE_RECOVERING;
        if (!n->status_scratch.failed) continue;
        state = NODE_DAMAGED;
        *shard = i;
    }
    pthread_mutex_unlock(&n->status_mutex);
    return state;
}

void node_tick(struct node *n) {
    int64_t now_ms = clock_mono_ms();
    if (now_ms - n->window_mono_ms < NODE_WINDOW_MS) return;
    n->window_mono_ms = now_ms;
    ingress_latency_turn(n->ingress);
}

void node_stop(struct node *n, int64_t patience_ms, bool exiting) {
    atomic_store(&n->draining, true);
    ingress_drain(n->ingress);
    for (uint32_t i = 0; i < n->shards_count; i++) shard_thread_drain(n->threads[i]);
    int64_t until_ms = clock_mono_ms() + patience_ms;
    for (uint32_t i = 0; i < n->shards_count; i++) {
        while (!shard_thread_is_drained(n->threads[i]) && clock_mono_ms() < until_ms) usleep(1000);
        if (!shard_thread_is_drained(n->threads[i]))
            log_warn("shard %u did not store everything in %lld ms: the next start replays its log",
                     i, (long long)patience_ms);
    }
    node_close(n, exiting);
}
