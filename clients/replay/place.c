#include "clients/replay/place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/durable.h"
#include "clients/replay/source.h"

json_t *place_read(const char *path, char *error, size_t error_bytes) {
    json_error_t fault;
    error[0] = 0;
    if (access(path, F_OK) != 0 && errno == ENOENT) return NULL;
    json_t *json = json_load_file(path, 0, &fault);
    if (!json) snprintf(error, error_bytes, "%.900s: %s", path, fault.text);
    return json;
}

int place_write(const char *path, json_t *json, char *error, size_t error_bytes) {
    return durable_json(path, json, error, error_bytes);
}

bool place_is_writable(const char *path) {
    char directory[1024];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (!slash) return access(".", W_OK) == 0;
    slash[slash == directory] = 0;
    return access(directory, W_OK) == 0;
}

json_t *place_shards(const struct source *source, const uint64_t index[]) {
    json_t *shards = json_array();
    for (uint32_t i = 0; i < source->count; i++) {
        json_array_append_new(shards, json_pack("{s:i, s:I}", "shard",
                                                (int)source->shards[i].number, "index",
                                                (json_int_t)index[i]));
    }
    return shards;
}

void place_take_shards(const json_t *shards, const struct source *source, uint64_t index[]) {
    json_t *one;
    size_t n;
    json_array_foreach(shards, n, one) {
        json_int_t shard = -1, at = -1;
        if (json_unpack(one, "{s:I, s:I}", "shard", &shard, "index", &at) != 0 || at < 0) continue;
        for (uint32_t i = 0; i < source->count; i++) {
            if (source->shards[i].number == (uint64_t)shard) index[i] = (uint64_t)at;
        }
    }
}
