#include "engine/node/node_waiting.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/hex.h"
#include "engine/base/log.h"
#include "engine/cluster/cluster_cache.h"
#include "engine/cluster/waiting.h"
#include "engine/node/identity.h"
#include "engine/node/ports.h"
#include "engine/node/seed.h"
#include "engine/wire/tls.h"

struct wait_work {
    struct config *config;
    struct identity identity;      /* shards 0 = an empty directory */
    bool (*stopped)(void *arg);
    void *arg;
};

bool node_is_adopted(const struct config *config) {
    char path[sizeof config->data + 32];
    snprintf(path, sizeof path, "%s/cluster.msgpack", config->data);
    return access(path, F_OK) == 0;
}

bool node_is_nearly_adopted(const struct config *config) {
    char error[512];
    struct identity identity;
    return !node_is_adopted(config) && cluster_cache_is_promised(config->data) &&
           identity_peek(config->data, &identity, error, sizeof error) == 1 && identity.clustered;
}

static bool wait_stopped(void *arg) {
    struct wait_work *w = arg;
    return w->stopped(w->arg);
}

static int wait_seed_read(void *arg, uint32_t shard, uint64_t offset, void *buffer,
                          uint32_t capacity, uint32_t *bytes, uint64_t *total, char *error,
                          size_t error_bytes) {
    struct wait_work *w = arg;
    if (shard >= w->identity.shards) {
        snprintf(error, error_bytes, "there is no shard %u here", shard);
        return -1;
    }
    return seed_read(w->config->data, shard, offset, buffer, capacity, bytes, total, error,
                     error_bytes);
}

static int wait_seed_write(void *arg, uint32_t shard, uint64_t offset, uint64_t total,
                           struct bytes data, char *error, size_t error_bytes) {
    struct wait_work *w = arg;
    if (w->identity.shards > 0) {
        snprintf(error, error_bytes, "the node has orders of its own");
        return -1;
    }
    return seed_write(w->config->data, shard, offset, total, data, error, error_bytes);
}

static int wait_take_seeds(const struct wait_work *w, const struct cluster_cache *c, char *error,
                           size_t error_bytes) {
    const struct cluster_document *d = &c->document;
    bool here = w->identity.shards > 0;
    for (uint32_t i = 0; i < d->shards_count; i++) {
        const struct cluster_shard *s = &d->shards[i];
        /* Only the founders of version 1: whoever comes later learns all from the leaders. */
        if (s->first_count != 0 || c->version != 1 || !cluster_server_on(s, c->node)) continue;
        if (seed_adopt(w->config->data, s->shard, s->servers, s->servers_count, here, error,
                       error_bytes) != 0)
            return -1;
    }
    for (uint32_t s = 0; s < SHARDS_MAX; s++) seed_forget(w->config->data, s);
    return 0;
}

/* Whether the document goes on where the logs here have ended. */
static bool wait_goes_on(const struct identity *here, const struct cluster_document *d) {
    bool one = here->epochs_count == 0;
    if (d->generation != here->generation || d->shards_count - 1u != here->shards ||
        d->epochs_count != (one ? 1 : here->epochs_count) ||
        d->stores_shards != (one ? here->shards : here->stores_shards))
        return false;
    if (one) return d->epochs[0].shards_count == here->shards;
    for (uint32_t i = 0; i < d->epochs_count; i++)
        if (d->epochs[i].from_ms != here->epochs[i].from_ms ||
            d->epochs[i].shards_count != here->epochs[i].shards_count)
            return false;
    return true;
}

static int wait_adopt(void *arg, const struct cluster_cache *c, char *error, size_t error_bytes) {
    struct wait_work *w = arg;
    struct identity identity = {.node_id = c->node, .shards = c->document.epochs[0].shards_count,
                                .created_ms = clock_unix_ms(), .clustered = true};
    hex_format(c->document.cluster_id.bytes, 16, identity.cluster_id);
    bool seeded = c->version == 1 && c->document.shards[0].first_count == 0;
    if (w->identity.shards > 0 &&
        (!seeded || strcmp(w->identity.cluster_id, identity.cluster_id) != 0 ||
         w->identity.node_id != c->node || !wait_goes_on(&w->identity, &c->document))) {
        snprintf(error, error_bytes, "the node has orders of its own, of which that cluster knows "
                 "nothing");
        return -1;
    }
    memcpy(identity.ancestors, w->identity.ancestors, sizeof identity.ancestors);
    identity.ancestors_count = w->identity.ancestors_count;
    if (!node_ports_try_shards(w->config, c->document.shards_count - 1u, error, error_bytes))
        return -1;
    if (wait_take_seeds(w, c, error, error_bytes) != 0) return -1;
    /* The identity counts only with the document, and nobody would give a node that has taken that
     * identity the document again: whoever starts behind a crash between both finds it. */
    if (cluster_cache_promise(w->config->data, c, error, error_bytes) != 0) return -1;
    if (identity_become(w->config->data, &identity, error, error_bytes) != 0) return -1;
    return cluster_cache_fulfil(w->config->data, error, error_bytes);
}

/* An adoption that was cut short by a crash is finished: 1; 0 = there is none, -1 with a sentence.
 */
static int wait_finish_adoption(const struct wait_work *w, char *error, size_t error_bytes) {
    if (!w->identity.clustered || !cluster_cache_is_promised(w->config->data)) return 0;
    return cluster_cache_fulfil(w->config->data, error, error_bytes) == 0 ? 1 : -1;
}

/* Any free port is this one from now on: once adopted the node serves where it was found. */
static void wait_ready(void *arg, const char *listen) {
    struct wait_work *w = arg;
    snprintf(w->config->listen, sizeof w->config->listen, "%s", listen);
    log_info("waiting for a cluster at %s: see jumun cluster form, join, add", w->config->listen);
    dprintf(w->config->ready_fd, "jumund waiting: %s pid=%d\n", w->config->listen, (int)getpid());
}

int node_wait(struct config *config, bool (*stopped)(void *arg), void *arg, bool *adopted,
              char *error, size_t error_bytes) {
    char peer_listen[ENDPOINT_BYTES_MAX];
    struct wait_work w = {.config = config, .stopped = stopped, .arg = arg};
    struct node_ports ports;
    *adopted = false;
    int lock = identity_hold(config->data, error, error_bytes);
    if (lock < 0) return EXIT_DATA;
    int found = identity_peek(config->data, &w.identity, error, error_bytes);
    int code = found < 0 ? EXIT_DATA : EXIT_DONE;
    int finished = found == 1 ? wait_finish_adoption(&w, error, error_bytes) : 0;
    *adopted = finished == 1;
    if (finished < 0) code = EXIT_DATA;
    if (finished == 0 && found == 1 && w.identity.clustered) {
        snprintf(error, error_bytes, "the data directory %s is that of node %" PRIu64 " of the "
                 "cluster %s, but its cluster document is gone: replace the node (jumun cluster "
                 "replace), on an empty directory", config->data, w.identity.node_id,
                 w.identity.cluster_id);
        code = EXIT_DATA;
    }
    if (found == 1 && w.identity.epochs_count > 0 && w.identity.generation == 0) {
        snprintf(error, error_bytes, "%s was restored from a cluster that had grown: it is a node "
                 "alone, no cluster can be formed from it (start it without --cluster-wait)",
                 config->data);
        code = EXIT_DATA;
    }
    if (finished == 1) {
        close(lock);
        return code;
    }
    if (code == EXIT_DONE && !node_port_peers(config, peer_listen, sizeof peer_listen)) {
        snprintf(error, error_bytes, "--cluster-wait needs --peer-listen, as other nodes must find "
                 "it: none follows from --listen %s", config->listen);
        code = EXIT_USAGE;
    }
    if (code == EXIT_DONE && !node_ports_hold(&ports, config, peer_listen, error, error_bytes))
        code = EXIT_RUNTIME;
    if (code == EXIT_DONE) {
        struct tls_options tls;
        memcpy(tls.certificate, config->tls_certificate, sizeof tls.certificate);
        memcpy(tls.key, config->tls_key, sizeof tls.key);
        memcpy(tls.authority, config->tls_authority, sizeof tls.authority);
        const struct waiting_options options = {
            .tls = &tls, .listen = config->listen, .peer_listen = peer_listen,
            .node = w.identity.node_id,
            .cluster_id = w.identity.cluster_id, .shards = w.identity.shards,
            .epochs = w.identity.epochs, .epochs_count = w.identity.epochs_count,
            .stores_shards = w.identity.stores_shards, .generation = w.identity.generation,
            .stopped = wait_stopped, .adopt = wait_adopt, .seed_read = wait_seed_read,
            .seed_write = wait_seed_write, .arg = &w};
        int rc = waiting_run(&options, wait_ready, error, error_bytes);
        node_ports_release(&ports);
        *adopted = rc == 0;
        if (rc < 0) code = EXIT_RUNTIME;
    }
    close(lock);
    return code;
}
