#include "engine/node/recover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/directory.h"
#include "engine/base/hex.h"
#include "engine/cluster/cluster_cache.h"
#include "engine/node/identity.h"
#include "engine/node/letting_go.h"
#include "engine/node/replicas.h"
#include "engine/node/seed.h"

enum { RECOVER_PATH_BYTES = 4400, RECOVER_ASIDE_MAX = 1000 };

/* In a replica's directory that gets the name of that of a node alone: a recovery that was cut
 * short knows it again by this. */
static void recover_note_path(const struct cluster_cache *cache, const char *replica, char *out,
                              size_t bytes) {
    char cluster[CLUSTER_ID_BYTES];
    hex_format(cache->document.cluster_id.bytes, 16, cluster);
    snprintf(out, bytes, "%s/recovered-%s", replica, cluster);
}

static bool recover_note(const struct cluster_cache *cache, const char *replica) {
    char note[RECOVER_PATH_BYTES];
    recover_note_path(cache, replica, note, sizeof note);
    int fd = open(note, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    return fd >= 0 && close(fd) == 0 && directory_sync(replica) == 0;
}

/* Where the replica of a shard is. False = there is none here. */
static bool recover_find(const struct config *c, const struct cluster_cache *cache, uint32_t shard,
                         char *out, size_t bytes) {
    char note[RECOVER_PATH_BYTES];
    struct stat st;
    uint64_t server = cluster_server_on(&cache->document.shards[shard], cache->node);
    if (server == 0) return false;
    replicas_directory(c->data, shard, server, out, bytes);
    if (stat(out, &st) == 0) return true;
    replicas_directory(c->data, shard, 0, out, bytes);
    recover_note_path(cache, out, note, sizeof note);
    return stat(note, &st) == 0;
}

/* The same of the meta group. What it had decided stands in the cluster document, and ends with the
 * cluster: nothing is lost when it is not here, or cannot be read. */
static void recover_tell_meta(const struct config *c, const struct cluster_cache *cache,
                              json_t *told) {
    const struct cluster_document *d = &cache->document;
    char path[RECOVER_PATH_BYTES], error[256];
    struct seed_log log = {0};
    struct stat st;
    uint64_t server = cluster_server_on(&d->shards[d->shards_count - 1u], cache->node);
    replicas_directory(c->data, SHARD_META, server, path, sizeof path);
    bool here = server != 0 && stat(path, &st) == 0 &&
                seed_look(path, SHARD_META, &log, error, sizeof error) == 0;
    if (told)
        json_object_set_new(told, "meta",
                            here ? json_pack("{s:b, s:I, s:I}", "here", 1, "index",
                                             (json_int_t)log.last_index, "term",
                                             (json_int_t)log.last_term)
                                 : json_pack("{s:b}", "here", 0));
    else if (here)
        printf("meta: log up to index %" PRIu64 ", term %" PRIu64 "; ends with the cluster\n",
               log.last_index, log.last_term);
    else
        printf("meta: no replica here; it ends with the cluster\n");
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
    recover_tell_meta(c, cache, told);
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
    replicas_directory(c->data, shard, 0, alone, sizeof alone);
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
static bool recover_identity(const struct cluster_cache *cache, const struct identity *before,
                             struct identity *identity) {
    const struct cluster_document *d = &cache->document;
    *identity = (struct identity){.node_id = cache->node, .created_ms = clock_unix_ms(),
                                  .shards = d->shards_count - 1u,
                                  .epochs_count = d->epochs_count,
                                  .stores_shards = d->stores_shards,
                                  .generation = (uint8_t)(d->generation + 1)};
    for (uint32_t i = 0; i < d->epochs_count; i++)
        identity->epochs[i] = (struct routing_epoch){d->epochs[i].from_ms,
                                                     d->epochs[i].shards_count};
    hex_format(d->cluster_id.bytes, sizeof d->cluster_id.bytes, identity->ancestors[0]);
    identity->ancestors_count = 1;
    for (uint32_t i = 0; i < before->ancestors_count; i++) {
        /* It stands there already where a recovery was cut short behind its new identity. */
        if (identity->ancestors_count == ANCESTORS_MAX ||
            strcmp(before->ancestors[i], identity->ancestors[0]) == 0)
            continue;
        memcpy(identity->ancestors[identity->ancestors_count++], before->ancestors[i],
               CLUSTER_ID_BYTES);
    }
    return identity_make_cluster_id(identity->cluster_id);
}

static int recover_all(const struct config *c, const struct cluster_cache *cache, char *error,
                       size_t error_bytes) {
    struct identity before, identity;
    /* The document says who it is: an identity that is lost or damaged stops nothing. */
    if (identity_peek(c->data, &before, error, error_bytes) != 1) before.ancestors_count = 0;
    if (!recover_identity(cache, &before, &identity)) {
        snprintf(error, error_bytes, "no random number for the cluster's id: %s", strerror(errno));
        return EXIT_RUNTIME;
    }
    for (uint32_t i = 0; i < identity.shards; i++)
        if (recover_shard(c, cache, i, cache->node, error, error_bytes) != 0) return EXIT_DATA;
    if (recover_put_others_aside(c, error, error_bytes) != 0) return EXIT_DATA;
    /* A new cluster id: nodes that come back after all are strangers. */
    char path[sizeof c->data + 32];
    snprintf(path, sizeof path, "%s/cluster.msgpack", c->data);
    if (identity_become(c->data, &identity, error, error_bytes) != 0 ||
        recover_put_aside(path, error, error_bytes) != 0)
        return EXIT_DATA;
    if (directory_sync(c->data) == 0) return EXIT_DONE;
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
                     "jumund, without --cluster-wait, until it is ready. To make a cluster of it, "
                     "stop it in order then, and use jumun cluster form.\n");
    }
}

/* Why there is no document of a cluster: perhaps it was recovered before. */
static void recover_nothing(const char *directory, char *error, size_t error_bytes) {
    struct identity identity;
    char unread[512];
    if (identity_peek(directory, &identity, unread, sizeof unread) == 1 && !identity.clustered &&
        identity.ancestors_count > 0)
        snprintf(error, error_bytes, "%s was recovered already, from cluster %s: it is a node "
                 "alone, of cluster %s. Start it with jumund, without --cluster-wait", directory,
                 identity.ancestors[0], identity.cluster_id);
    else
        snprintf(error, error_bytes, "%s is not the directory of a cluster's node", directory);
}

int recover_alone(const struct config *config, bool dry, char *error, size_t error_bytes) {
    struct cluster_cache *cache = malloc(sizeof *cache);
    json_t *told = config->recover_json ? json_object() : NULL;
    if (!cache) snprintf(error, error_bytes, "no memory for the cluster document");
    int lock = cache ? identity_hold(config->data, error, error_bytes) : -1;
    int code = lock < 0 ? EXIT_DATA : EXIT_DONE;
    if (code == EXIT_DONE) {
        int found = cluster_cache_load(config->data, cache, error, error_bytes);
        if (found == 0) recover_nothing(config->data, error, error_bytes);
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
