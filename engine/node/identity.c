#include "engine/node/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/data_directory.h"
#include "engine/base/directory.h"
#include "engine/base/hex.h"
#include "engine/limits.h"

/* One that is made is durable: its parent is synced, where that may be read. */
static int identity_make_one(const char *path) {
    char parent[4100];
    if (mkdir(path, 0777) != 0) return errno == EEXIST ? 0 : -1;
    snprintf(parent, sizeof parent, "%s/..", path);
    return directory_sync(parent) == 0 || errno == EACCES ? 0 : -1;
}

/* mkdir -p; the last error tells. */
static int identity_make_directory(const char *path) {
    char part[4096];
    size_t bytes = strlen(path);
    if (bytes >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(part, path, bytes + 1);
    for (char *p = part + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        if (identity_make_one(part) != 0) return -1;
        *p = '/';
    }
    return identity_make_one(part);
}

static int identity_lock(const char *directory, char *error, size_t error_bytes) {
    char path[4096];
    if (data_directory_is_refused(directory, DATA_DIRECTORY_NODE, error, error_bytes)) return -1;
    if (identity_make_directory(directory) != 0) {
        snprintf(error, error_bytes, "cannot make the data directory %s: %s", directory,
                 strerror(errno));
        return -1;
    }
    snprintf(path, sizeof path, "%s/lock", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        snprintf(error, error_bytes, "cannot write to the data directory %s: %s", directory,
                 strerror(errno));
        return -1;
    }
    bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (locked && ftruncate(fd, 0) == 0) return fd;
    if (locked) snprintf(error, error_bytes, "%s cannot be written: %s", path, strerror(errno));
    else snprintf(error, error_bytes, "the data directory %s is in use by another process",
                  directory);
    close(fd);
    return -1;
}

bool identity_tell_run(int lock_fd, const char *run, const char *endpoint) {
    char text[ENDPOINT_BYTES_MAX + 128];
    int bytes = snprintf(text, sizeof text, "{\"run\": \"%s\", \"endpoint\": \"%s\"}\n", run,
                         endpoint);
    return pwrite(lock_fd, text, (size_t)bytes, 0) == bytes;
}

/* False when they are there and make no sense. */
static bool identity_read_epochs(const json_t *json, struct identity *identity) {
    const json_t *list = json_object_get(json, "epochs"), *one;
    size_t i;
    json_int_t generation = json_integer_value(json_object_get(json, "generation"));
    identity->epochs_count = identity->stores_shards = 0;
    identity->generation = (uint8_t)generation;
    if (generation < 0 || generation > UINT8_MAX) return false;
    if (!list) return generation == 0;
    json_int_t stores = json_integer_value(json_object_get(json, "stores_shards"));
    if (json_array_size(list) < 1 || json_array_size(list) > EPOCHS_MAX || stores < 1 ||
        stores > identity->shards)
        return false;
    json_array_foreach(list, i, one) {
        json_int_t from_ms = -1, shards = 0;
        if (json_unpack((json_t *)(uintptr_t)one, "[I, I]", &from_ms, &shards) != 0 ||
            shards < 1 || shards > identity->shards ||
            (i == 0 ? from_ms != 0 : from_ms <= identity->epochs[i - 1].from_ms))
            return false;
        identity->epochs[i] = (struct routing_epoch){from_ms, (uint32_t)shards};
    }
    identity->epochs_count = (uint32_t)json_array_size(list);
    identity->stores_shards = (uint32_t)stores;
    return true;
}

static bool identity_is_cluster_id(const char *text) {
    uint8_t id[16];
    return text && hex_parse(text, id, sizeof id);
}

/* False when they are there and make no sense. */
static bool identity_read_ancestors(const json_t *json, struct identity *identity) {
    const json_t *list = json_object_get(json, "ancestors"), *one;
    size_t i;
    identity->ancestors_count = 0;
    if (list && (!json_is_array(list) || json_array_size(list) > ANCESTORS_MAX)) return false;
    json_array_foreach(list, i, one) {
        if (!identity_is_cluster_id(json_string_value(one))) return false;
        memcpy(identity->ancestors[i], json_string_value(one), CLUSTER_ID_BYTES);
    }
    identity->ancestors_count = (uint32_t)json_array_size(list);
    return true;
}

/* 1 read, 0 not there, -1 with a sentence. */
static int identity_read(const char *path, struct identity *identity, char *error,
                         size_t error_bytes) {
    json_error_t fault;
    if (access(path, F_OK) != 0 && errno == ENOENT) return 0;
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &fault);
    if (!json) {
        snprintf(error, error_bytes, "%s cannot be read: %s", path, fault.text);
        return -1;
    }
    int format = 0, rc = 1;
    const char *cluster_id = NULL;
    json_int_t node_id = 0, shards = 0, created_ms = 0;
    int clustered = 0;
    if (json_unpack_ex(json, &fault, 0, "{s:i, s:s, s:I, s:I, s:I, s?b}", "format", &format,
                       "cluster_id", &cluster_id, "node_id", &node_id, "shards", &shards,
                       "created_ms", &created_ms, "clustered", &clustered) != 0) {
        snprintf(error, error_bytes, "%s is damaged: %s", path, fault.text);
        rc = -1;
    } else if (format != IDENTITY_FORMAT) {
        snprintf(error, error_bytes, "%s has format %d; this program knows format %d", path, format,
                 IDENTITY_FORMAT);
        rc = -1;
    } else if (!identity_is_cluster_id(cluster_id) || node_id < 1 || node_id > UINT32_MAX ||
               shards < 1 || shards > SHARDS_MAX) {
        snprintf(error, error_bytes, "%s is damaged: a value is outside its range", path);
        rc = -1;
    } else {
        memcpy(identity->cluster_id, cluster_id, CLUSTER_ID_BYTES);
        identity->node_id = (uint64_t)node_id;
        identity->shards = (uint32_t)shards;
        identity->created_ms = created_ms;
        identity->clustered = clustered != 0;
        if (!identity_read_epochs(json, identity)) {
            snprintf(error, error_bytes, "%s is damaged: its epochs make no sense", path);
            rc = -1;
        } else if (!identity_read_ancestors(json, identity)) {
            snprintf(error, error_bytes, "%s is damaged: its ancestors are no ids of clusters",
                     path);
            rc = -1;
        }
    }
    json_decref(json);
    return rc;
}

int identity_peek(const char *directory, struct identity *identity, char *error,
                  size_t error_bytes) {
    char path[4150];
    snprintf(path, sizeof path, "%s/node.json", directory);
    return identity_read(path, identity, error, error_bytes);
}

/* What identity_read_epochs() reads. Returns the bytes written behind `at`. */
static size_t identity_print_epochs(const struct identity *identity, char *at, size_t bytes) {
    size_t used = 0;
    if (identity->epochs_count == 0) return 0;
    for (uint32_t i = 0; i < identity->epochs_count; i++)
        used += (size_t)snprintf(at + used, bytes - used, "%s[%" PRId64 ", %u]",
                                 i == 0 ? ", \"epochs\": [" : ", ", identity->epochs[i].from_ms,
                                 identity->epochs[i].shards_count);
    used += (size_t)snprintf(at + used, bytes - used, "], \"stores_shards\": %u",
                             identity->stores_shards);
    if (identity->generation > 0)
        used += (size_t)snprintf(at + used, bytes - used, ", \"generation\": %u",
                                 identity->generation);
    return used;
}

static size_t identity_print_ancestors(const struct identity *identity, char *at, size_t bytes) {
    size_t used = 0;
    for (uint32_t i = 0; i < identity->ancestors_count; i++)
        used += (size_t)snprintf(at + used, bytes - used, "%s\"%s\"",
                                 i == 0 ? ", \"ancestors\": [" : ", ", identity->ancestors[i]);
    if (used > 0) used += (size_t)snprintf(at + used, bytes - used, "]");
    return used;
}

/* Written beside, synced and renamed: a crash leaves the old state or the new one. */
static int identity_write(const char *directory, const char *path,
                          const struct identity *identity) {
    char beside[4200], text[512 + EPOCHS_MAX * 48 + ANCESTORS_MAX * 40];
    int bytes = snprintf(text, 512,
                         "{\"format\": %d, \"cluster_id\": \"%s\", \"node_id\": %" PRIu64
                         ", \"shards\": %u, \"created_ms\": %" PRId64
                         ", \"clustered\": %s",
                         IDENTITY_FORMAT, identity->cluster_id, identity->node_id,
                         identity->shards, identity->created_ms,
                         identity->clustered ? "true" : "false");
    bytes += (int)identity_print_epochs(identity, text + bytes, sizeof text - (size_t)bytes - 3);
    bytes += (int)identity_print_ancestors(identity, text + bytes,
                                           sizeof text - (size_t)bytes - 3);
    bytes += snprintf(text + bytes, 3, "}\n");
    snprintf(beside, sizeof beside, "%s.new", path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return -1;
    bool written = write(fd, text, (size_t)bytes) == bytes && fsync(fd) == 0;
    if (close(fd) != 0 || !written) return -1;
    if (rename(beside, path) != 0) return -1;
    return directory_sync(directory) == 0 ? 0 : -1;
}

int identity_hold(const char *directory, char *error, size_t error_bytes) {
    return identity_lock(directory, error, error_bytes);
}

int identity_become(const char *directory, const struct identity *identity, char *error,
                 size_t error_bytes) {
    char path[4150];
    snprintf(path, sizeof path, "%s/node.json", directory);
    if (identity_write(directory, path, identity) == 0) return 0;
    snprintf(error, error_bytes, "cannot write %s: %s", path, strerror(errno));
    return -1;
}

bool identity_make_cluster_id(char cluster_id[CLUSTER_ID_BYTES]) {
    uint8_t random[16];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) return false;
    hex_format(random, sizeof random, cluster_id);
    return true;
}

static int identity_create(const char *directory, const char *path, const struct identity *wanted,
                           uint32_t default_shards, struct identity *identity) {
    if (!identity_make_cluster_id(identity->cluster_id)) return -1;
    if (wanted->cluster_id[0] != 0)
        memcpy(identity->cluster_id, wanted->cluster_id, sizeof identity->cluster_id);
    identity->clustered = wanted->clustered;
    identity->node_id = wanted->node_id ? wanted->node_id : 1;
    identity->shards = wanted->shards ? wanted->shards : default_shards;
    identity->created_ms = clock_unix_ms();
    return identity_write(directory, path, identity);
}

/* Whether the directory is what is wanted of it; else a sentence. */
static bool identity_fits(const char *directory, const struct identity *wanted,
                          const struct identity *identity, char *error, size_t error_bytes) {
    if (wanted->shards != 0 && wanted->shards != identity->shards && !identity->clustered) {
        snprintf(error, error_bytes, "the data directory %s was made with %u shards, not %u; its "
                 "orders are spread over them. Leave --shards away, or use another directory",
                 directory, identity->shards, wanted->shards);
    } else if (wanted->node_id != 0 && wanted->node_id != identity->node_id) {
        snprintf(error, error_bytes, "the data directory %s belongs to node %" PRIu64 ", not %"
                 PRIu64, directory, identity->node_id, wanted->node_id);
    } else if (wanted->cluster_id[0] != 0 &&
               strcmp(wanted->cluster_id, identity->cluster_id) != 0) {
        snprintf(error, error_bytes, "the data directory %s belongs to the cluster %s, not to %s",
                 directory, identity->cluster_id, wanted->cluster_id);
    } else if (wanted->clustered && !identity->clustered) {
        snprintf(error, error_bytes, "the data directory %s is that of a node alone: its log has "
                 "no replicas. Make a cluster of it first (jumun cluster form)", directory);
    } else if (!wanted->clustered && identity->clustered) {
        snprintf(error, error_bytes, "the data directory %s is that of node %" PRIu64 " of the "
                 "cluster %s, without its cluster.msgpack: when it was made with jumun cluster "
                 "form, put another node in its place (jumun cluster replace %" PRIu64 " URL); "
                 "when it was made by a file, start it with --cluster", directory,
                 identity->node_id, identity->cluster_id, identity->node_id);
    } else {
        return true;
    }
    return false;
}

int identity_open(const char *directory, const struct identity *wanted, uint32_t default_shards,
                  struct identity *identity, char *error, size_t error_bytes) {
    char path[4150];
    int fd = identity_lock(directory, error, error_bytes);
    if (fd < 0) return -1;
    snprintf(path, sizeof path, "%s/node.json", directory);
    int found = identity_read(path, identity, error, error_bytes);
    bool good = found >= 0;
    if (found == 0 && wanted->clustered && wanted->node_id == 0) {
        snprintf(error, error_bytes, "the data directory %s is new: give --node-id, the number "
                 "that the cluster's file has for this node", directory);
        good = false;
    } else if (found == 0 &&
               identity_create(directory, path, wanted, default_shards, identity) != 0) {
        snprintf(error, error_bytes, "cannot write %s: %s", path, strerror(errno));
        good = false;
    } else if (found == 1) {
        good = identity_fits(directory, wanted, identity, error, error_bytes);
    }
    if (good) return fd;
    close(fd);
    return -1;
}
