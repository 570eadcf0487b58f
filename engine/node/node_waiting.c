#include "engine/node/node_waiting.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/cluster/cluster_cache.h"
#include "engine/cluster/waiting.h"
#include "engine/node/identity.h"
#include "engine/node/letting_go.h"
#include "engine/node/ports.h"
#include "engine/node/seed.h"
#include "engine/wire/tls.h"

enum { RECOVER_PATH_BYTES = 4400, RECOVER_ASIDE_MAX = 1000 };

struct wait_work {
    const struct config *config;
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

/* -- waiting ----------------------------------------------------------------------------------- */

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
    for (uint32_t i = 0; i < 16; i++)
        snprintf(identity.cluster_id + 2 * i, 3, "%02x", c->document.cluster_id.bytes[i]);
    bool seeded = c->version == 1 && c->document.shards[0].first_count == 0;
    if (w->identity.shards > 0 &&
        (!seeded || strcmp(w->identity.cluster_id, identity.cluster_id) != 0 ||
         w->identity.node_id != c->node || !wait_goes_on(&w->identity, &c->document))) {
        snprintf(error, error_bytes, "the node has orders of its own, of which that cluster knows "
                 "nothing");
        return -1;
    }
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

static void wait_ready(void *arg) {
    struct wait_work *w = arg;
    log_info("waiting for a cluster at %s: see jumun cluster form, join, add", w->config->listen);
    dprintf(w->config->ready_fd, "jumund waiting: %s pid=%d\n", w->config->listen, (int)getpid());
}

int node_wait(const struct config *config, bool (*stopped)(void *arg), void *arg, bool *adopted,
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

/* -- recovering -------------------------------------------------------------------------------- */

static void recover_path(const struct config *c, uint32_t shard, uint64_t server, char *out,
                         size_t bytes) {
    uint32_t incarnation = (uint32_t)(server >> 32);
    if (incarnation == 0) snprintf(out, bytes, "%s/shard-%u", c->data, shard);
    else snprintf(out, bytes, "%s/shard-%u.%u", c->data, shard, incarnation);
}

/* In a replica's directory that gets the name of that of a node alone: a recovery that was cut
 * short knows it again by this. */
static void recover_note_path(const struct cluster_cache *cache, const char *replica, char *out,
                              size_t bytes) {
    const uint8_t *id = cache->document.cluster_id.bytes;
    int used = snprintf(out, bytes, "%s/recovered-", replica);
    for (int i = 0; i < 16; i++, used += 2)
        snprintf(out + used, bytes - (size_t)used, "%02x", id[i]);
}

static bool recover_note(const struct cluster_cache *cache, const char *replica) {
    char note[RECOVER_PATH_BYTES];
    recover_note_path(cache, replica, note, sizeof note);
    int fd = open(note, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    return fd >= 0 && close(fd) == 0 && identity_sync_directory(replica) == 0;
}

/* Where the replica of a shard is. False = there is none here. */
static bool recover_find(const struct config *c, const struct cluster_cache *cache, uint32_t shard,
                         char *out, size_t bytes) {
    char note[RECOVER_PATH_BYTES];
    struct stat st;
    uint64_t server = cluster_server_on(&cache->document.shards[shard], cache->node);
    if (server == 0) return false;
    recover_path(c, shard, server, out, bytes);
    if (stat(out, &st) == 0) return true;
    recover_path(c, shard, 0, out, bytes);
    recover_note_path(cache, out, note, sizeof note);
    return stat(note, &st) == 0;
}

/* Tells what is here of each shard, or puts it into `told` unless that is NULL. False with a
 * sentence when it cannot be read. */
static bool recover_tell(const struct config *c, const struct cluster_cache *cache, json_t *told,
                         char *error, size_t error_bytes) {
    const struct cluster_document *d = &cache->document;
    json_t *shards = told ? json_array() : NULL;
    if (told) {
        json_object_set_new(told, "node", json_integer(cache->node));
        json_object_set_new(told, "version", json_integer((json_int_t)cache->version));
        json_object_set_new(told, "shards", shards);
    } else {
        printf("node %u of the cluster, document version %" PRIu64 "\n", cache->node,
               cache->version);
    }
    for (uint32_t i = 0; i + 1u < d->shards_count; i++) {
        char path[sizeof c->data + 48];
        struct seed_log log;
        if (!recover_find(c, cache, i, path, sizeof path)) {
            if (!told) printf("shard %u: no replica here: ALL its orders would be lost\n", i);
            else json_array_append_new(shards, json_pack("{s:i, s:b}", "shard", i, "here", 0));
            continue;
        }
        if (seed_look(path, i, &log, error, error_bytes) != 0) return false;
        if (told)
            json_array_append_new(shards, json_pack("{s:i, s:b, s:I, s:I}", "shard", i, "here", 1,
                                                    "index", (json_int_t)log.last_index, "term",
                                                    (json_int_t)log.last_term));
        else
            printf("shard %u: log up to index %" PRIu64 ", term %" PRIu64 "\n", i, log.last_index,
                   log.last_term);
    }
    if (told) return true;
    printf("What was acknowledged and lies behind the end of these logs would be lost. Compare "
           "with the other nodes that are left: the higher term, then the higher index, has "
           "more.\n");
    return true;
}

/* Under a name that is not there: earlier recoveries may have left some. */
static int recover_put_aside(const char *path, char *error, size_t error_bytes) {
    char aside[RECOVER_PATH_BYTES];
    struct stat st;
    if (stat(path, &st) != 0 && errno == ENOENT) return 0;
    for (uint32_t i = 1; i <= RECOVER_ASIDE_MAX; i++) {
        if (i == 1) snprintf(aside, sizeof aside, "%s.before", path);
        else snprintf(aside, sizeof aside, "%s.before-%u", path, i);
        if (stat(aside, &st) == 0) continue;
        if (rename(path, aside) == 0) return 0;
        break;
    }
    snprintf(error, error_bytes, "cannot put %s aside: %s", path, strerror(errno));
    return -1;
}

static int recover_shard(const struct config *c, const struct cluster_cache *cache, uint32_t shard,
                         uint64_t node_id, char *error, size_t error_bytes) {
    char path[sizeof c->data + 48], alone[sizeof c->data + 48];
    recover_path(c, shard, 0, alone, sizeof alone);
    bool here = recover_find(c, cache, shard, path, sizeof path);
    if (!here || strcmp(path, alone) != 0) {
        /* An earlier replica of the same group may be in the way. */
        if (recover_put_aside(alone, error, error_bytes) != 0) return -1;
        if (!here) return 0; /* it begins anew, empty */
        if (!recover_note(cache, path) || rename(path, alone) != 0) {
            snprintf(error, error_bytes, "cannot rename %s: %s", path, strerror(errno));
            return -1;
        }
    }
    return seed_alone(alone, shard, node_id, error, error_bytes);
}

/* A replica of the cluster that is lost, other than those that go on: 1, 0 = there is none, or -1
 * with errno. */
static int recover_find_other(const struct config *c, char *out, size_t bytes) {
    uint32_t shard, incarnation;
    DIR *d = opendir(c->data);
    if (!d) return -1;
    int found = 0;
    for (struct dirent *entry; found == 0 && (entry = readdir(d));) {
        if (!letting_go_is_replica(entry->d_name, &shard, &incarnation)) continue;
        if (shard != SHARD_META && incarnation == 0) continue;
        snprintf(out, bytes, "%s/%.40s", c->data, entry->d_name);
        found = 1;
    }
    closedir(d);
    return found;
}

/* The next cluster's replicas have the same names and numbers, and would begin with what is in
 * these. */
static int recover_put_others_aside(const struct config *c, char *error, size_t error_bytes) {
    char path[sizeof c->data + 48];
    int found;
    while ((found = recover_find_other(c, path, sizeof path)) == 1)
        if (recover_put_aside(path, error, error_bytes) != 0) return -1;
    if (found < 0) snprintf(error, error_bytes, "cannot read %s: %s", c->data, strerror(errno));
    return found;
}

/* Who it is from then on: what a node alone, and a cluster that is formed from it, goes by. */
static bool recover_identity(const struct cluster_cache *cache, struct identity *identity) {
    const struct cluster_document *d = &cache->document;
    uint8_t random[16];
    *identity = (struct identity){.node_id = cache->node, .created_ms = clock_unix_ms(),
                                  .shards = d->shards_count - 1u,
                                  .epochs_count = d->epochs_count,
                                  .stores_shards = d->stores_shards,
                                  .generation = (uint8_t)(d->generation + 1)};
    for (uint32_t i = 0; i < d->epochs_count; i++)
        identity->epochs[i] = (struct routing_epoch){d->epochs[i].from_ms,
                                                     d->epochs[i].shards_count};
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) return false;
    for (uint32_t i = 0; i < sizeof random; i++)
        snprintf(identity->cluster_id + 2 * i, 3, "%02x", random[i]);
    return true;
}

static int recover_all(const struct config *c, const struct cluster_cache *cache, char *error,
                       size_t error_bytes) {
    struct identity identity;
    if (!recover_identity(cache, &identity)) return EXIT_RUNTIME;
    for (uint32_t i = 0; i < identity.shards; i++)
        if (recover_shard(c, cache, i, cache->node, error, error_bytes) != 0) return EXIT_DATA;
    if (recover_put_others_aside(c, error, error_bytes) != 0) return EXIT_DATA;
    /* A new cluster id: nodes that come back after all are strangers. */
    char path[sizeof c->data + 32];
    snprintf(path, sizeof path, "%s/cluster.msgpack", c->data);
    if (identity_become(c->data, &identity, error, error_bytes) != 0 ||
        recover_put_aside(path, error, error_bytes) != 0)
        return EXIT_DATA;
    if (identity_sync_directory(c->data) == 0) return EXIT_DONE;
    snprintf(error, error_bytes, "cannot sync %s: %s", c->data, strerror(errno));
    return EXIT_DATA;
}

/* The last of what is told: whether it was done. */
static void recover_end(json_t *told, int code, bool dry, const char *error) {
    if (told) {
        json_object_set_new(told, "done", json_boolean(code == EXIT_DONE && !dry));
        if (code != EXIT_DONE) json_object_set_new(told, "error", json_string(error));
        json_dumpf(told, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(told);
    } else if (code == EXIT_DONE) {
        printf(dry ? "Nothing was changed: --force does it.\n"
                   : "Done: this is a node alone now, of a cluster of its own. Start it with "
                     "jumund, or make a cluster of it with jumun cluster form.\n");
    }
}

int node_recover_alone(const struct config *config, bool dry, char *error, size_t error_bytes) {
    struct cluster_cache *cache = malloc(sizeof *cache);
    json_t *told = config->recover_json ? json_object() : NULL;
    int lock = cache ? identity_hold(config->data, error, error_bytes) : -1;
    int code = lock < 0 ? EXIT_DATA : EXIT_DONE;
    if (code == EXIT_DONE) {
        int found = cluster_cache_load(config->data, cache, error, error_bytes);
        if (found == 0)
            snprintf(error, error_bytes, "%s is not the directory of a cluster's node",
                     config->data);
        bool worn = found == 1 && cache->document.generation == UINT8_MAX;
        if (worn)
            snprintf(error, error_bytes, "these logs have been recovered %d times: no more than "
                     "that can be counted", UINT8_MAX);
        if (found != 1 || worn || !recover_tell(config, cache, told, error, error_bytes))
            code = EXIT_DATA;
    }
    if (code == EXIT_DONE && !dry) code = recover_all(config, cache, error, error_bytes);
    recover_end(told, code, dry, error);
    if (lock >= 0) close(lock);
    free(cache);
    return code;
}
