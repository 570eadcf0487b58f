#include "engine/node/replicas.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/node/letting_go.h"
#include "engine/node/node.h"
#include "persistence/lmdb/storage_lmdb.h"

enum { REPLICAS_SPIN_NS = 20000, REPLICAS_STOP_PATIENCE_MS = 5000 };

uint32_t node_cpus(int *cpus, uint32_t max) {
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

void replicas_directory(const char *data, uint32_t shard, uint64_t server_id, char *out,
                        size_t out_bytes) {
    char name[32];
    uint32_t incarnation = consensus_server_incarnation(server_id);
    if (shard == SHARD_META) snprintf(name, sizeof name, "meta");
    else snprintf(name, sizeof name, "shard-%u", shard);
    if (incarnation == 0) snprintf(out, out_bytes, "%s/%s", data, name);
    else snprintf(out, out_bytes, "%s/%s.%u", data, name, incarnation);
}

/* -- start ------------------------------------------------------------------------------------- */

static bool replica_open_storage(struct node *n, const struct replica_wanted *w, char *error,
                                 size_t error_bytes) {
    char directory[sizeof n->config.data + 48];
    replicas_directory(n->config.data, w->shard, w->server_id, directory, sizeof directory);
    const struct storage_lmdb_options options = {.directory = directory, .shard = w->shard,
                                                 .segment_bytes_max = n->config.segment_bytes,
                                                 .journal_bytes = w->shard == SHARD_META
                                                                      ? 0 : JOURNAL_BYTES};
    uint32_t slot = local_shards_slot(w->shard);
    n->storages[slot] = storage_lmdb_open(&options, error, error_bytes);
    return n->storages[slot] != NULL;
}

static bool replica_start_thread(struct node *n, const struct replica_wanted *w, char *error,
                                 size_t error_bytes) {
    int cpus[SHARDS_MAX];
    uint32_t cpus_count = node_cpus(cpus, SHARDS_MAX), slot = local_shards_slot(w->shard);
    /* Copied: the shard looks at them for as long as it lives. */
    for (uint32_t i = 0; i < w->first_servers_count; i++)
        n->first_servers[slot][i] = w->first_servers[i];
    struct shard_thread_options options = {
        .clock = &n->clock,
        .cpu = n->config.pin ? cpus[slot % cpus_count] : -1,
        /* Each shard has a log writer, and nng has its threads: spinning only pays where all of
         * them have a core. */
        .spin_ns = cpus_count > 2 * n->shards_count + 2 ? REPLICAS_SPIN_NS : 0,
        .shard = {.id = w->shard,
                  .shards_count = n->shards_count,
                  .view = n->view.version ? &n->view : NULL,
                  .server_id = w->server_id,
                  .peers = n->peers ? node_peers_interface(n->peers) : NULL,
                  .first_servers = w->first_servers_count ? n->first_servers[slot] : NULL,
                  .first_servers_count = w->first_servers_count,
                  .placed_alone = w->placed_alone,
                  .storage = n->storages[slot],
                  .courier = node_courier_interface(n->courier),
                  .mailbox_commands_max = n->config.mailbox_commands,
                  .memory_bytes_max = n->config.memory_bytes_max / n->shards_count,
                  .checkpoint_age_ms = n->config.checkpoint_age_ms,
                  .retention_ms = n->config.retention_ms,
                  .trail_bytes = n->config.catch_up_log_bytes,
                  .seed = (uint32_t)clock_mono_ns() + slot,
                  .read_history = history_reader_offer,
                  .read_history_arg = n->history}};
    n->threads[slot] = shard_thread_start(&options, error, error_bytes);
    return n->threads[slot] != NULL;
}

/* Once its shard is open: everybody may use it. */
static bool replica_put(struct node *n, uint32_t slot, struct shard *shard, char *error,
                        size_t error_bytes) {
    uint32_t number = local_shards_number(slot);
    char directory[sizeof n->config.data + 48];
    replicas_directory(n->config.data, number, n->server_ids[slot], directory, sizeof directory);
    if (n->peers && !node_peers_add_shard(n->peers, number, n->server_ids[slot],
                                          n->storages[slot], directory)) {
        snprintf(error, error_bytes, "cannot prepare %s for states of other nodes", directory);
        return false;
    }
    if (n->peers && (!letting_go_bind(directory, n->identity.cluster_id) ||
                     !letting_go_take_back(directory)))
        log_warn("%s: %s", directory, strerror(errno));
    if (!node_courier_add(n->courier, number, error, error_bytes)) return false;
    local_shards_put(&n->local, number, shard);
    node_feed_add(n, number, shard);
    if (n->backfill) backfill_add(n->backfill, number, n->storages[slot]);
    if (n->scrubber) scrubber_add(n->scrubber, number, n->storages[slot]);
    return true;
}

static void replica_close_storage(struct node *n, uint32_t slot) {
    if (n->storages[slot]) n->storages[slot]->ops->close(n->storages[slot]);
    if (n->threads[slot]) shard_thread_free(n->threads[slot]);
    n->storages[slot] = NULL;
    n->threads[slot] = NULL;
    n->server_ids[slot] = 0;
}

/* Closes what did not get as far as being used, so that another try begins anew. */
static void replica_abandon(struct node *n, uint32_t slot) {
    if (n->threads[slot]) shard_thread_stop(n->threads[slot]);
    if (n->threads[slot] && n->peers) node_peers_forget_shard(n->peers, local_shards_number(slot));
    replica_close_storage(n, slot);
}

static int replicas_start_all(struct node *n, const struct replica_wanted *wanted, uint32_t count,
                              char *error, size_t error_bytes) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = local_shards_slot(wanted[i].shard);
        n->server_ids[slot] = wanted[i].server_id;
        if (!replica_open_storage(n, &wanted[i], error, error_bytes)) return EXIT_DATA;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!replica_start_thread(n, &wanted[i], error, error_bytes)) return EXIT_RUNTIME;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = local_shards_slot(wanted[i].shard);
        struct shard *shard = shard_thread_await(n->threads[slot], error, error_bytes);
        if (!shard) return EXIT_DATA;
        if (!replica_put(n, slot, shard, error, error_bytes)) return EXIT_RUNTIME;
    }
    return EXIT_DONE;
}

int replicas_start(struct node *n, const struct replica_wanted *wanted, uint32_t count,
                   char *error, size_t error_bytes) {
    int code = replicas_start_all(n, wanted, count, error, error_bytes);
    for (uint32_t i = 0; i < count && code != EXIT_DONE; i++) {
        uint32_t slot = local_shards_slot(wanted[i].shard);
        if (!atomic_load(&n->local.slots[slot].shard)) replica_abandon(n, slot);
    }
    return code;
}

/* -- stop -------------------------------------------------------------------------------------- */

void replicas_stop(struct node *n, uint32_t shard) {
    uint32_t slot = local_shards_slot(shard);
    if (slot == LOCAL_SHARDS_NONE || !n->threads[slot]) return;
    shard_thread_drain(n->threads[slot]);
    int64_t until_ms = clock_mono_ms() + REPLICAS_STOP_PATIENCE_MS;
    while (!shard_thread_is_drained(n->threads[slot]) && clock_mono_ms() < until_ms) usleep(2000);
    if (n->feed && shard != SHARD_META) feed_remove(n->feed, shard);
    if (n->backfill) backfill_forget(n->backfill, shard);
    if (n->scrubber) scrubber_forget(n->scrubber, shard);
    pthread_mutex_lock(&n->status_mutex); /* nobody is looking at its storage and thread */
    local_shards_take_out(&n->local, shard);
    pthread_mutex_unlock(&n->status_mutex);
    shard_thread_stop(n->threads[slot]);
    if (n->peers) node_peers_forget_shard(n->peers, shard);
    leaders_forget_shard(&n->leaders, shard);
    history_reader_flush(n->history);
    replica_close_storage(n, slot);
}

void replicas_stop_threads(struct node *n) {
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++) {
        if (!n->threads[i]) continue;
        local_shards_take_out(&n->local, local_shards_number(i));
        shard_thread_stop(n->threads[i]);
        if (n->peers) node_peers_forget_shard(n->peers, local_shards_number(i));
    }
}

void replicas_close_storages(struct node *n) {
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++) replica_close_storage(n, i);
}
