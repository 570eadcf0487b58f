#include "engine/node/letting_go.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/directory.h"

enum { LETTING_GO_PATH_BYTES = 4400 };

bool letting_go_is_due(const struct consensus_group *group, uint64_t server, bool led_elsewhere,
                       int64_t now_ms, int64_t *leaderless_ms) {
    bool member = false;
    for (uint32_t i = 0; i < group->count; i++) member |= group->servers[i].id == server;
    if (!member) return true;
    if (group->leader != 0 || !led_elsewhere) *leaderless_ms = 0;
    else if (*leaderless_ms == 0) *leaderless_ms = now_ms;
    return *leaderless_ms != 0 && now_ms - *leaderless_ms > LETTING_GO_LEADERLESS_MS;
}

bool letting_go_is_over(const struct letting_go_retired *look, int64_t now_ms,
                        int64_t *leaderless_ms) {
    if (look->leads || look->led || !look->vacant) *leaderless_ms = 0;
    else if (*leaderless_ms == 0) *leaderless_ms = now_ms;
    if (look->leads) return look->empty;
    return *leaderless_ms != 0 && now_ms - *leaderless_ms > LETTING_GO_RETIRED_MS;
}

bool letting_go_is_replica(const char *name, uint32_t *shard, uint32_t *incarnation) {
    char again[64];
    int end = 0;
    *shard = SHARD_META;
    *incarnation = 0;
    if (strncmp(name, "meta", 4) == 0) end = 4;
    else if (sscanf(name, "shard-%u%n", shard, &end) != 1 || *shard >= SHARDS_MAX) return false;
    if (name[end] == '.' && sscanf(name + end + 1, "%u", incarnation) != 1) return false;
    int used = *shard == SHARD_META ? snprintf(again, sizeof again, "meta")
                                    : snprintf(again, sizeof again, "shard-%u", *shard);
    if (*incarnation != 0)
        snprintf(again + used, sizeof again - (size_t)used, ".%u", *incarnation);
    return strcmp(again, name) == 0;
}

static void letting_go_path(const char *directory, const char *note, char *out, size_t bytes) {
    snprintf(out, bytes, "%s/%s", directory, note);
}

static void letting_go_cluster_note(const char *cluster_id, char out[64]) {
    snprintf(out, 64, "cluster-%.32s", cluster_id);
}

void letting_go_find(const char *data, const char *cluster_id, uint32_t node,
                     uint64_t servers[LOCAL_SHARDS_SLOTS]) {
    char directory[LETTING_GO_PATH_BYTES], path[LETTING_GO_PATH_BYTES + 64], cluster[64];
    bool runs[LOCAL_SHARDS_SLOTS] = {false};
    memset(servers, 0, LOCAL_SHARDS_SLOTS * sizeof servers[0]);
    letting_go_cluster_note(cluster_id, cluster);
    DIR *d = opendir(data);
    if (!d) return;
    for (struct dirent *entry; (entry = readdir(d));) {
        uint32_t shard, incarnation;
        if (!letting_go_is_replica(entry->d_name, &shard, &incarnation)) continue;
        uint32_t slot = local_shards_slot(shard);
        uint64_t server = consensus_server_id(node, incarnation);
        snprintf(directory, sizeof directory, "%s/%s", data, entry->d_name);
        letting_go_path(directory, cluster, path, sizeof path);
        if (servers[slot] > server || access(path, F_OK) != 0) continue;
        letting_go_path(directory, "let-go", path, sizeof path);
        servers[slot] = server;
        runs[slot] = access(path, F_OK) != 0;
    }
    closedir(d);
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++)
        if (!runs[slot]) servers[slot] = 0;
}

static bool letting_go_put(const char *directory, const char *note) {
    char path[LETTING_GO_PATH_BYTES + 64];
    letting_go_path(directory, note, path, sizeof path);
    if (access(path, F_OK) == 0) return true;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    bool good = fsync(fd) == 0;
    return close(fd) == 0 && good && directory_sync(directory) == 0;
}

bool letting_go_bind(const char *directory, const char *cluster_id) {
    char cluster[64];
    letting_go_cluster_note(cluster_id, cluster);
    return letting_go_put(directory, cluster);
}

bool letting_go_note(const char *directory) { return letting_go_put(directory, "let-go"); }

bool letting_go_take_back(const char *directory) {
    char path[LETTING_GO_PATH_BYTES + 64];
    letting_go_path(directory, "let-go", path, sizeof path);
    if (unlink(path) == 0) return directory_sync(directory) == 0;
    return errno == ENOENT;
}
