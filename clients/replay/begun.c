#include "clients/replay/begun.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/replay/place.h"
#include "clients/replay/writer.h"

enum { BEGUN_PATH_BYTES = 1100 };

static const char *begun_path(const struct begun *b, const char *name, char path[]) {
    snprintf(path, BEGUN_PATH_BYTES, "%.1000s/%s", b->target, name);
    return path;
}

static const char *begun_built_path(const struct begun *b, uint32_t number, char path[]) {
    char name[32];
    snprintf(name, sizeof name, "built-%u.json", number);
    return begun_path(b, name, path);
}

static bool begun_has(const struct begun *b, const char *name) {
    char path[BEGUN_PATH_BYTES];
    return access(begun_path(b, name, path), F_OK) == 0;
}

bool begun_is_finished(const struct begun *b) {
    return begun_has(b, "node.json") && !begun_has(b, "building.json");
}

/* Whether a shard of the finished directory ends with record `index`. */
static bool begun_same_shard(const struct begun *b, const struct source_shard *made,
                             uint64_t index, char *error, size_t error_bytes) {
    struct state_source_marker marker = {.found = false};
    uint64_t first, last;
    struct state_source *state =
        made->state[0] ? state_source_open(made->state, error, error_bytes) : NULL;
    bool read = state && state_source_read_marker(state, &marker, error, error_bytes) == 0;
    state_source_close(state);
    if (made->state[0] && !read) return false;
    log_source_range(made->log, &first, &last);
    if (marker.found && marker.applied_index == index && last == index) return true;
    snprintf(error, error_bytes, "%s: its shard %u ends with record %llu and has a stored state of "
             "record %llu; this would end with record %llu: it was made with another --to or of "
             "another log, the source has grown, or a node has gone on from it", b->target,
             made->number, (unsigned long long)last,
             (unsigned long long)(marker.found ? marker.applied_index : 0),
             (unsigned long long)index);
    return false;
}

bool begun_is_same(const struct begun *b, const struct replay *r, const struct cut *cut,
                   char *error, size_t error_bytes) {
    struct source made;
    struct stat target, source;
    if (stat(b->target, &target) == 0 && stat(r->source.path, &source) == 0 &&
        target.st_dev == source.st_dev && target.st_ino == source.st_ino) {
        snprintf(error, error_bytes, "%s is what it would be made of", b->target);
        return false;
    }
    if (source_open(&made, b->target, -1, error, error_bytes) != 0) return false;
    bool same = false;
    if (made.clustered || made.kind != SOURCE_DATA) {
        snprintf(error, error_bytes, "%s is the directory of a node of a cluster, not one that was "
                 "made of a log", b->target);
    } else if (r->source.node_id && made.node_id != r->source.node_id) {
        snprintf(error, error_bytes, "%s is of node %llu, not of node %llu", b->target,
                 (unsigned long long)made.node_id, (unsigned long long)r->source.node_id);
    } else if (made.count != cut->count) {
        snprintf(error, error_bytes, "%s has %u shards, and this would have %u", b->target,
                 made.count, cut->count);
    } else {
        same = true;
    }
    for (uint32_t i = 0; same && i < made.count; i++) {
        same = begun_same_shard(b, &made.shards[i], cut->shards[i].index, error, error_bytes);
    }
    source_close(&made);
    return same;
}

/* Held until the process ends, however it does. */
static bool begun_lock(struct begun *b, char *error, size_t error_bytes) {
    char path[BEGUN_PATH_BYTES];
    b->lock = open(begun_path(b, "building.json", path), O_RDONLY | O_CLOEXEC);
    if (b->lock >= 0 && flock(b->lock, LOCK_EX | LOCK_NB) == 0) return true;
    snprintf(error, error_bytes, "%s: %s", path,
             errno == EWOULDBLOCK ? "another run is making this directory" : strerror(errno));
    return false;
}

static bool begun_read_built(struct begun *b, uint32_t number, char *error, size_t error_bytes) {
    char path[BEGUN_PATH_BYTES];
    json_int_t index, time_ms, orders, events, version, shards, before, newest;
    json_t *json = place_read(begun_built_path(b, number, path), error, error_bytes);
    if (!json) return error[0] == 0; /* not finished */
    struct begun_shard *s = &b->shards[number];
    bool ok = json_unpack(json, "{s:I, s:I, s:I, s:I, s:[I, I, I], s:I}", "index", &index,
                          "time_ms", &time_ms, "orders", &orders, "events", &events, "spread",
                          &version, &shards, &before, "version", &newest) == 0 &&
              (uint64_t)index == s->index;
    json_decref(json);
    if (!ok) {
        snprintf(error, error_bytes, "%s is not of this directory", path);
        return false;
    }
    *s = (struct begun_shard){.built = true, .index = s->index, .time_ms = time_ms,
                              .orders = (uint64_t)orders, .events = (uint64_t)events,
                              .spread = {(uint64_t)version, (uint32_t)shards, (uint32_t)before},
                              .version = (uint64_t)newest};
    return true;
}

/* What the earlier run wanted, which must be what this one wants. */
static bool begun_take(struct begun *b, struct replay *r, const json_t *json, char *error,
                       size_t error_bytes) {
    const char *cluster_id, *to;
    json_int_t node_id;
    json_t *shards, *one;
    size_t n;
    bool numbered = args_value(&r->args, "node-id") != NULL;
    if (json_unpack((json_t *)json, "{s:s, s:I, s:s, s:o}", "cluster_id", &cluster_id, "node_id",
                    &node_id, "to", &to, "shards", &shards) != 0) {
        snprintf(error, error_bytes, "%s/building.json cannot be understood", b->target);
        return false;
    }
    if (strcmp(cluster_id, r->source.cluster_id) != 0 ||
        (numbered && (uint64_t)node_id != r->source.node_id) || (b->to && strcmp(b->to, to) != 0)) {
        snprintf(error, error_bytes, "%s was begun from cluster %s, node %lld, --to \"%s\": it can "
                 "only be gone on with as that", b->target, cluster_id, (long long)node_id, to);
        return false;
    }
    r->source.node_id = (uint64_t)node_id;
    json_array_foreach(shards, n, one) {
        json_int_t number = -1, index = 0;
        if (json_unpack(one, "{s:I, s:I}", "shard", &number, "index", &index) != 0 ||
            number < 0 || number >= SHARDS_MAX) {
            continue;
        }
        b->shards[number].index = (uint64_t)index;
        if (!begun_read_built(b, (uint32_t)number, error, error_bytes)) return false;
    }
    b->goes_on = true;
    b->whole = begun_has(b, "node.json");
    return true;
}

int begun_open(struct begun *b, struct replay *r, bool go_on) {
    char error[BEGUN_PATH_BYTES + 200] = "", path[BEGUN_PATH_BYTES + 8];
    bool begun = begun_has(b, "building.json");
    b->lock = -1;
    if (begun && !go_on) {
        replay_error(r, "%s was begun by a run that did not end: --continue goes on with it",
                     b->target);
        return REPLAY_FAILED;
    }
    if (go_on && !begun_has(b, "node.json")) { /* a run that came to nothing may have left it */
        unlink(begun_path(b, "building.json.new", path));
    }
    bool ok = true;
    if (begun) {
        ok = begun_lock(b, error, sizeof error);
        json_t *json =
            ok ? place_read(begun_path(b, "building.json", path), error, sizeof error) : NULL;
        ok = json && begun_take(b, r, json, error, sizeof error);
        json_decref(json);
    } else if (access(b->target, F_OK) == 0) {
        ok = writer_directory(b->target, true, error, sizeof error);
    }
    if (!ok) replay_error(r, "%s", error);
    return ok ? REPLAY_DONE : REPLAY_FAILED;
}

int begun_settle(struct begun *b, const struct replay *r, const struct cut *cut) {
    char error[BEGUN_PATH_BYTES + 200], path[BEGUN_PATH_BYTES];
    uint64_t index[SHARDS_MAX];
    for (uint32_t i = 0; i < cut->count; i++) {
        struct begun_shard *s = &b->shards[r->source.shards[i].number];
        index[i] = cut->shards[i].index;
        if (b->goes_on && s->index != index[i]) {
            replay_error(r, "%s was begun with record %llu as the last one of shard %u, and %s "
                         "does not give that any more", b->target, (unsigned long long)s->index,
                         r->source.shards[i].number, r->source.path);
            return REPLAY_FAILED;
        }
        s->index = index[i];
    }
    if (b->goes_on) return REPLAY_DONE;
    bool made = writer_directory(b->target, true, error, sizeof error);
    json_t *json = json_pack("{s:s, s:I, s:s, s:o}", "cluster_id", r->source.cluster_id, "node_id",
                             (json_int_t)r->source.node_id, "to", b->to ? b->to : "", "shards",
                             place_shards(&r->source, index));
    if (!made) json_decref(json);
    else if (place_write(begun_path(b, "building.json", path), json, error, sizeof error) == 0 &&
             begun_lock(b, error, sizeof error)) {
        return REPLAY_DONE;
    }
    replay_error(r, "%s", error);
    return REPLAY_FAILED;
}

static int begun_remove(const char *path, const struct stat *about, int type, struct FTW *where) {
    (void)about, (void)type, (void)where;
    return remove(path);
}

bool begun_clear(const struct begun *b, uint32_t number, char *error, size_t error_bytes) {
    char path[BEGUN_PATH_BYTES], name[32];
    snprintf(name, sizeof name, "shard-%u", number);
    begun_path(b, name, path);
    if (!begun_has(b, name) || nftw(path, begun_remove, 16, FTW_DEPTH | FTW_PHYS) == 0) return true;
    snprintf(error, error_bytes, "%s, which an earlier run left: %s", path, strerror(errno));
    return false;
}

bool begun_built(struct begun *b, uint32_t number, char *error, size_t error_bytes) {
    char path[BEGUN_PATH_BYTES];
    const struct begun_shard *s = &b->shards[number];
    json_t *json = json_pack(
        "{s:I, s:I, s:I, s:I, s:[I, I, I], s:I}", "index", (json_int_t)s->index, "time_ms",
        (json_int_t)s->time_ms, "orders", (json_int_t)s->orders, "events", (json_int_t)s->events,
        "spread", (json_int_t)s->spread.version, (json_int_t)s->spread.shards,
        (json_int_t)s->spread.before, "version", (json_int_t)s->version);
    if (place_write(begun_built_path(b, number, path), json, error, error_bytes) != 0) return false;
    b->shards[number].built = true;
    return true;
}

/* building.json first: nothing that is left without it is ever taken for half-made. */
void begun_end(struct begun *b) {
    char path[BEGUN_PATH_BYTES];
    unlink(begun_path(b, "building.json", path));
    for (uint32_t n = 0; n < SHARDS_MAX; n++) {
        if (b->shards[n].built) unlink(begun_built_path(b, n, path));
    }
}

void begun_close(struct begun *b) {
    if (b->lock >= 0) close(b->lock);
    b->lock = -1;
}
