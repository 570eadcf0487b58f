#include "clients/replay/settled.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/sdk/raw_call.h"
#include "clients/sdk/reply_decode.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/protocol.h"

enum { SETTLED_ASK_MS = 3000, SETTLED_LOCK_BYTES_MAX = 4096 };

static bool key_is(const void *key, uint32_t bytes, const char *name) {
    return bytes == strlen(name) && memcmp(key, name, bytes) == 0;
}

/* One that is longer, or no text, is none. */
static bool read_text(struct msgpack_reader *r, char *text, size_t bytes) {
    const void *at;
    uint32_t size;
    if (msgpack_read_str(r, &at, &size) != MSGPACK_OK || size >= bytes) return false;
    memcpy(text, at, size);
    text[size] = 0;
    return true;
}

static bool read_shard(struct msgpack_reader *r, struct settled *settled) {
    struct settled_shard shard = {.here = true};
    uint64_t number = UINT64_MAX, *wanted;
    uint32_t pairs, bytes, found = 0;
    const void *key;
    if (msgpack_read_map(r, &pairs) != MSGPACK_OK) return false;
    for (; pairs > 0; pairs--) {
        if (msgpack_read_str(r, &key, &bytes) != MSGPACK_OK) return false;
        wanted = key_is(key, bytes, "shard")           ? &number
                 : key_is(key, bytes, "settled_index") ? &shard.index
                 : key_is(key, bytes, "settled_term")  ? &shard.term
                 : key_is(key, bytes, "unsettled")     ? &shard.unsettled
                                                       : NULL;
        if (!wanted && msgpack_skip(r) != MSGPACK_OK) return false;
        if (!wanted) continue;
        if (msgpack_read_uint(r, wanted) != MSGPACK_OK) return false;
        found++;
    }
    bool sound = found == 4 && (shard.index == 0) == (shard.term == 0) &&
                 shard.unsettled <= UINT64_MAX - shard.index;
    if (sound && number < SHARDS_MAX) settled->shards[number] = shard;
    return true; /* one that does not tell: an older version, or the meta group */
}

static bool read_shards(struct msgpack_reader *r, struct settled *settled) {
    uint32_t count;
    if (msgpack_read_array(r, &count) != MSGPACK_OK) return false;
    for (; count > 0; count--)
        if (!read_shard(r, settled)) return false;
    return true;
}

static bool read_status(struct msgpack_reader *r, struct settled *settled) {
    uint32_t pairs, bytes;
    const void *key;
    if (msgpack_read_map(r, &pairs) != MSGPACK_OK) return false;
    for (; pairs > 0; pairs--) {
        bool good;
        if (msgpack_read_str(r, &key, &bytes) != MSGPACK_OK) return false;
        if (key_is(key, bytes, "run")) good = read_text(r, settled->run, sizeof settled->run);
        else if (key_is(key, bytes, "cluster_id"))
            good = read_text(r, settled->cluster_id, sizeof settled->cluster_id);
        else if (key_is(key, bytes, "node_id"))
            good = msgpack_read_uint(r, &settled->node_id) == MSGPACK_OK;
        else if (key_is(key, bytes, "shards")) good = read_shards(r, settled);
        else good = msgpack_skip(r) == MSGPACK_OK;
        if (!good) return false;
    }
    return true;
}

bool settled_decode(const void *reply, size_t bytes, struct settled *settled) {
    struct reply r;
    jumun_result result = {0};
    const void *value = NULL;
    size_t value_bytes = 0;
    struct msgpack_reader map;
    *settled = (struct settled){.node_id = 0};
    if (reply_open(&r, reply, bytes) != REPLY_RESULTS || r.count != 1 ||
        !reply_next(&r, &result, &value, &value_bytes) || result.code != JUMUN_OK || !value)
        return false;
    msgpack_reader_init(&map, value, value_bytes);
    return read_status(&map, settled);
}

int settled_ask(const char *url, struct settled *settled, char *error, size_t error_bytes) {
    static const uint8_t request[] = {0x93, PROTOCOL_VERSION, 0xc0, 0x91, 0x91,
                                      NODE_COMMAND_STATUS};
    void *reply;
    size_t bytes;
    bool sent;
    char why[128];
    if (!raw_call(url, SETTLED_ASK_MS, request, sizeof request, &reply, &bytes, &sent, why,
                  sizeof why)) {
        snprintf(error, error_bytes, "%s: %s", url, why);
        return -1;
    }
    bool read = settled_decode(reply, bytes, settled);
    free(reply);
    if (read) return 0;
    snprintf(error, error_bytes, "%s: what answers there is no node that serves", url);
    return -1;
}

bool settled_runs_on(const char *directory, char run[CLUSTER_ID_BYTES],
                     char endpoint[ENDPOINT_BYTES_MAX]) {
    char path[SETTLED_LOCK_BYTES_MAX];
    const char *told_run = "", *told_endpoint = "";
    snprintf(path, sizeof path, "%s/lock", directory);
    json_t *json = json_load_file(path, 0, NULL);
    bool told = json &&
                json_unpack(json, "{s:s, s:s}", "run", &told_run, "endpoint", &told_endpoint) ==
                    0 &&
                strlen(told_run) == CLUSTER_ID_BYTES - 1 &&
                strlen(told_endpoint) < ENDPOINT_BYTES_MAX && told_endpoint[0];
    if (told) {
        memcpy(run, told_run, CLUSTER_ID_BYTES);
        snprintf(endpoint, ENDPOINT_BYTES_MAX, "%s", told_endpoint);
    }
    json_decref(json);
    return told;
}
