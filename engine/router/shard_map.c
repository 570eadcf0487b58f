#include "engine/router/shard_map.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/wire/msgpack_writer.h"

void shard_map_init(struct shard_map *map, uint32_t shards_count) {
    require(shards_count >= 1 && shards_count <= SHARDS_MAX);
    memset(map, 0, sizeof *map);
    map->epochs[0] = (struct routing_epoch){.from_ms = 0, .shards_count = shards_count};
    map->epochs_count = 1;
    map->shards_count = map->stores_shards = shards_count;
}

uint32_t shard_map_route(const struct shard_map *map, const struct command *command) {
    switch (command->kind) {
    case COMMAND_STORE_PAUSE:
    case COMMAND_STORE_RESUME:
    case COMMAND_STORE_GET:
        return routing_shard_of_store(map->stores_shards, command->store.store);
    default:
        if (command_is_for_cluster(command->kind)) return SHARD_META;
        return routing_shard_of_key(map->epochs, map->epochs_count, &command->subject);
    }
}

const char *shard_map_node_endpoint(const struct shard_map *map, uint32_t node) {
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        if (map->nodes[i].node == node) return map->nodes[i].endpoint;
    }
    return NULL;
}

bool shard_map_endpoint_at(const struct shard_map *map, uint32_t node, uint32_t shard,
                           char out[ENDPOINT_BYTES_MAX]) {
    char error[256];
    const char *general = node ? shard_map_node_endpoint(map, node) : NULL;
    if (general && shard == SHARD_META) {
        memcpy(out, general, ENDPOINT_BYTES_MAX); /* it has no endpoint of its own */
        return true;
    }
    return general && shard < SHARDS_MAX &&
           shard_map_endpoint_of(general, shard, out, ENDPOINT_BYTES_MAX, error, sizeof error);
}

/* The endpoint of a shard at the node that leads it, as clients reach it. False when no leader is
 * known. `leaders` NULL: this node leads all. */
static bool shard_map_leader_endpoint(const struct shard_map *map, const struct leaders *leaders,
                                      uint32_t shard, char out[ENDPOINT_BYTES_MAX]) {
    if (leaders && map->nodes_count > 0)
        return shard_map_endpoint_at(map, leaders_route(leaders, shard).node, shard, out);
    if (shard >= map->shards_count) return false;
    memcpy(out, map->shard_endpoints[shard], ENDPOINT_BYTES_MAX);
    return true;
}

static void shard_map_encode_epochs(struct msgpack_writer *w, const struct shard_map *map) {
    msgpack_write_text(w, "epochs");
    msgpack_write_array(w, map->epochs_count);
    for (uint32_t i = 0; i < map->epochs_count; i++) {
        msgpack_write_array(w, 2);
        msgpack_write_int(w, map->epochs[i].from_ms);
        msgpack_write_uint(w, map->epochs[i].shards_count);
    }
}

/* A shard whose leader is not known is told without an endpoint: the general one takes its
 * commands, as soon as there is somebody to take them. */
static void shard_map_encode_shards(struct msgpack_writer *w, const struct shard_map *map,
                                    const struct leaders *leaders) {
    msgpack_write_text(w, "shards");
    msgpack_write_array(w, map->shards_count);
    for (uint32_t i = 0; i < map->shards_count; i++) {
        char endpoint[ENDPOINT_BYTES_MAX] = "";
        if (!shard_map_leader_endpoint(map, leaders, i, endpoint)) endpoint[0] = 0;
        msgpack_write_array(w, 2);
        msgpack_write_uint(w, i);
        msgpack_write_text(w, endpoint);
    }
}

static void shard_map_encode_nodes(struct msgpack_writer *w, const struct shard_map *map) {
    msgpack_write_text(w, "nodes");
    msgpack_write_array(w, map->nodes_count);
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        msgpack_write_array(w, 2);
        msgpack_write_uint(w, map->nodes[i].node);
        msgpack_write_text(w, map->nodes[i].endpoint);
    }
    msgpack_write_text(w, "version");
    msgpack_write_uint(w, map->version);
}

static void shard_map_encode_ancestors(struct msgpack_writer *w, const struct shard_map *map) {
    msgpack_write_text(w, "ancestors");
    msgpack_write_array(w, map->ancestors_count);
    for (uint32_t i = 0; i < map->ancestors_count; i++) msgpack_write_text(w, map->ancestors[i]);
}

void *shard_map_encode(const struct shard_map *map, const struct leaders *leaders,
                       uint32_t *bytes) {
    void *buffer = malloc(STATUS_BYTES_MAX);
    struct msgpack_writer w;
    if (!buffer) return NULL;
    msgpack_writer_init(&w, buffer, STATUS_BYTES_MAX);
    bool stores = map->stores_shards != map->epochs[map->epochs_count - 1].shards_count;
    bool named = map->cluster_id[0] != 0, descends = map->ancestors_count > 0;
    msgpack_write_map(&w, (map->nodes_count ? 6u : 4u) + stores + named + descends);
    shard_map_encode_epochs(&w, map);
    shard_map_encode_shards(&w, map, leaders);
    msgpack_write_text(&w, "feed");
    msgpack_write_text(&w, map->feed_endpoint);
    msgpack_write_text(&w, "notify");
    msgpack_write_text(&w, map->notify_endpoint);
    if (map->nodes_count) shard_map_encode_nodes(&w, map);
    if (stores) {
        msgpack_write_text(&w, "stores_shards");
        msgpack_write_uint(&w, map->stores_shards);
    }
    if (named) {
        msgpack_write_text(&w, "cluster_id");
        msgpack_write_text(&w, map->cluster_id);
    }
    if (descends) shard_map_encode_ancestors(&w, map);
    require(msgpack_writer_ok(&w)); /* see the relations in engine/limits.h */
    *bytes = (uint32_t)msgpack_writer_size(&w);
    return buffer;
}

/* "tcp://host:7400" -> 7400 and the bytes before the port; -1 when there is no port. */
static long shard_map_port(const char *base, size_t *before) {
    const char *colon = strrchr(base, ':');
    if (!colon || colon[1] < '0' || colon[1] > '9') return -1;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (*end != 0 || port > 65535) return -1;
    *before = (size_t)(colon + 1 - base);
    return port;
}

bool shard_map_endpoint_of(const char *base, uint32_t shard, char *out, size_t out_bytes,
                           char *error, size_t error_bytes) {
    int used;
    if (strncmp(base, "tcp", 3) == 0 || strncmp(base, "tls+tcp", 7) == 0) {
        size_t before = 0;
        long port = shard_map_port(base, &before);
        if (port < 0) {
            snprintf(error, error_bytes, "\"%s\" is not of the form tcp://host:port", base);
            return false;
        }
        long shard_port = port == 0 ? 0 : port + 1 + (long)shard;
        if (shard_port > 65535) {
            snprintf(error, error_bytes, "shard %u would listen on port %ld, which is no port: "
                     "choose a lower one than %ld for --listen", shard, shard_port, port);
            return false;
        }
        used = snprintf(out, out_bytes, "%.*s%ld", (int)before, base, shard_port);
    } else {
        used = snprintf(out, out_bytes, "%s-shard-%u", base, shard);
    }
    if (used > 0 && (size_t)used < out_bytes) return true;
    snprintf(error, error_bytes, "the address \"%s\" is too long", base);
    return false;
}
