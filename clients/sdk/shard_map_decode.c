#include <stdio.h>

#include "clients/sdk/shard_router.h"
#include "engine/base/hex.h"
#include "engine/wire/msgpack_reader.h"

static bool text_is(const void *text, uint32_t size, const char *name) {
    return size == strlen(name) && memcmp(text, name, size) == 0;
}

static const char *map_read_epochs(struct msgpack_reader *r, struct shard_map *map) {
    uint32_t count, fields;
    if (msgpack_read_array(r, &count) != MSGPACK_OK) return "epochs is not a list";
    if (count == 0 || count > SHARD_MAP_EPOCHS_MAX) return "the number of epochs is out of range";
    for (uint32_t i = 0; i < count; i++) {
        int64_t from_ms;
        uint64_t shards;
        if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields < 2 ||
            msgpack_read_int(r, &from_ms) != MSGPACK_OK ||
            msgpack_read_uint_upto(r, SHARDS_MAX, &shards) != MSGPACK_OK || shards == 0)
            return "an epoch is not [from_ms, shards_count]";
        for (uint32_t f = 2; f < fields; f++)
            if (msgpack_skip(r) != MSGPACK_OK) return "an epoch is cut off";
        if (i > 0 && from_ms < map->epochs[i - 1].from_ms) return "the epochs are not sorted";
        map->epochs[i] = (struct routing_epoch){from_ms, (uint32_t)shards};
        if (shards > map->shards_count) map->shards_count = (uint32_t)shards;
    }
    map->epochs_count = count;
    return NULL;
}

void shard_map_set_address(char out[SHARD_MAP_ADDRESS_BYTES], const char *address, uint32_t size,
                           const char *asked) {
    snprintf(out, SHARD_MAP_ADDRESS_BYTES, "%.*s", (int)size, address);
    char *host = strstr(out, "://");
    char *port = strrchr(out, ':');
    const char *asked_host = strstr(asked, "://");
    if (!host || !asked_host || port == host) return;
    host += 3;
    asked_host += 3;
    size_t host_size = (size_t)(port - host);
    bool any = (host_size == 1 && *host == '*') || text_is(host, (uint32_t)host_size, "0.0.0.0") ||
               text_is(host, (uint32_t)host_size, "[::]");
    size_t asked_size = strcspn(asked_host, ",");
    const char *asked_port = memrchr(asked_host, ':', asked_size);
    if (!any || !asked_port) return;
    char whole[SHARD_MAP_ADDRESS_BYTES];
    int n = snprintf(whole, sizeof whole, "%.*s%.*s%s", (int)(host - out), out,
                     (int)(asked_port - asked_host), asked_host, port);
    if (n > 0 && (size_t)n < sizeof whole) memcpy(out, whole, (size_t)n + 1);
}

static const char *map_read_shards(struct msgpack_reader *r, const char *asked,
                                   struct shard_map *map) {
    uint32_t count, fields;
    if (msgpack_read_array(r, &count) != MSGPACK_OK) return "shards is not a list";
    if (count > SHARDS_MAX) return "more shards than the limit";
    for (uint32_t i = 0; i < count; i++) {
        uint64_t shard;
        const void *address;
        uint32_t size;
        if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields < 2 ||
            msgpack_read_uint_upto(r, SHARDS_MAX - 1, &shard) != MSGPACK_OK ||
            msgpack_read_str(r, &address, &size) != MSGPACK_OK || size >= SHARD_MAP_ADDRESS_BYTES)
            return "a shard is not [shard, address]";
        for (uint32_t f = 2; f < fields; f++)
            if (msgpack_skip(r) != MSGPACK_OK) return "a shard is cut off";
        shard_map_set_address(map->addresses[shard], address, size, asked);
    }
    return NULL;
}

static const char *map_read_nodes(struct msgpack_reader *r, const char *asked,
                                  struct shard_map *map) {
    uint32_t count, fields;
    if (msgpack_read_array(r, &count) != MSGPACK_OK) return "nodes is not a list";
    if (count > NODES_MAX) return "more nodes than the limit";
    map->nodes_count = 0; /* a map may name them twice */
    for (uint32_t i = 0; i < count; i++) {
        uint64_t node;
        const void *address;
        uint32_t size;
        if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields < 2 ||
            msgpack_read_uint(r, &node) != MSGPACK_OK ||
            msgpack_read_str(r, &address, &size) != MSGPACK_OK || size >= SHARD_MAP_ADDRESS_BYTES)
            return "a node is not [node, address]";
        for (uint32_t f = 2; f < fields; f++)
            if (msgpack_skip(r) != MSGPACK_OK) return "a node is cut off";
        if (size > 0) shard_map_set_address(map->nodes[map->nodes_count++], address, size, asked);
    }
    return NULL;
}

static bool map_read_id(struct msgpack_reader *r, char id[CLUSTER_ID_BYTES]) {
    const void *text;
    uint32_t size;
    uint8_t binary[16];
    if (msgpack_read_str(r, &text, &size) != MSGPACK_OK || size != CLUSTER_ID_BYTES - 1)
        return false;
    memcpy(id, text, size);
    id[size] = '\0';
    return hex_parse(id, binary, sizeof binary);
}

/* Those behind the first few are clusters of long ago. */
static const char *map_read_ancestors(struct msgpack_reader *r, struct shard_map *map) {
    uint32_t count;
    char older[CLUSTER_ID_BYTES];
    if (msgpack_read_array(r, &count) != MSGPACK_OK) return "ancestors is not a list";
    for (uint32_t i = 0; i < count; i++)
        if (!map_read_id(r, i < ANCESTORS_MAX ? map->ancestors[i] : older))
            return "an ancestor is no id of a cluster";
    map->ancestors_count = count < ANCESTORS_MAX ? count : ANCESTORS_MAX;
    return NULL;
}

static const char *map_read_stores(struct msgpack_reader *r, struct shard_map *map) {
    uint64_t shards;
    if (msgpack_read_uint_upto(r, SHARDS_MAX, &shards) != MSGPACK_OK || shards == 0)
        return "stores_shards is no number of shards";
    map->stores_shards = (uint32_t)shards;
    return NULL;
}

const char *shard_map_decode(const void *value, size_t bytes, const char *asked,
                             struct shard_map *map) {
    struct msgpack_reader r;
    uint32_t pairs;
    const char *fault = NULL;
    memset(map, 0, sizeof *map);
    msgpack_reader_init(&r, value, bytes);
    if (msgpack_read_map(&r, &pairs) != MSGPACK_OK) return "the shard map is not a map";
    for (uint32_t i = 0; i < pairs && !fault; i++) {
        const void *name;
        uint32_t size;
        if (msgpack_read_str(&r, &name, &size) != MSGPACK_OK) return "a name is not a text";
        if (text_is(name, size, "epochs")) fault = map_read_epochs(&r, map);
        else if (text_is(name, size, "shards")) fault = map_read_shards(&r, asked, map);
        else if (text_is(name, size, "nodes")) fault = map_read_nodes(&r, asked, map);
        else if (text_is(name, size, "stores_shards")) fault = map_read_stores(&r, map);
        else if (text_is(name, size, "ancestors")) fault = map_read_ancestors(&r, map);
        else if (text_is(name, size, "cluster_id") && !map_read_id(&r, map->cluster_id))
            fault = "cluster_id is no id of a cluster";
        else if (text_is(name, size, "cluster_id")) continue;
        else if (msgpack_skip(&r) != MSGPACK_OK) fault = "the shard map is cut off";
    }
    if (fault) return fault;
    if (map->epochs_count == 0) return "the shard map has no epochs";
    if (map->stores_shards == 0)
        map->stores_shards = map->epochs[map->epochs_count - 1].shards_count;
    return map->stores_shards <= map->shards_count ? NULL : "stores on shards that are not there";
}
