#include "clients/replay/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/replay/source.h"

enum { PLACE_PATH_BYTES = 1200 };

json_t *place_read(const char *path, char *error, size_t error_bytes) {
    json_error_t fault;
    error[0] = 0;
    if (access(path, F_OK) != 0 && errno == ENOENT) return NULL;
    json_t *json = json_load_file(path, 0, &fault);
    if (!json) snprintf(error, error_bytes, "%.900s: %s", path, fault.text);
    return json;
}

/* The new name of a file in a directory is durable. */
static bool place_sync_directory(const char *path) {
    char directory[PLACE_PATH_BYTES];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash) slash[slash == directory ? 1 : 0] = 0;
    int fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return ok;
}

int place_write(const char *path, json_t *json, char *error, size_t error_bytes) {
    char beside[PLACE_PATH_BYTES + 8];
    snprintf(beside, sizeof beside, "%.1190s.new", path);
    int fd = json ? open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640) : -1;
    bool ok = fd >= 0 && json_dumpfd(json, fd, JSON_COMPACT) == 0 && write(fd, "\n", 1) == 1 &&
              fsync(fd) == 0;
    if (fd >= 0) ok = close(fd) == 0 && ok;
    ok = ok && rename(beside, path) == 0 && place_sync_directory(path);
    if (!ok) snprintf(error, error_bytes, "%.900s: %s", path, strerror(errno));
    json_decref(json);
    return ok ? 0 : -1;
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
