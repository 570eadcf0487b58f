#include "clients/replay/source.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/cli/text.h"
#include "clients/cli/when.h"
#include "clients/replay/feed_log.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/routing.h"

static bool path_exists(const char *directory, const char *name) {
    char path[SOURCE_PATH_BYTES + 300];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static bool epochs_are_sound(const struct source *s) {
    bool sound = s->epochs_count > 0 && s->epochs[0].from_ms == 0 && s->stores_shards >= 1 &&
                 s->stores_shards <= SHARDS_MAX;
    for (uint32_t i = 0; sound && i < s->epochs_count; i++) {
        sound = s->epochs[i].shards_count >= 1 && s->epochs[i].shards_count <= SHARDS_MAX &&
                (i == 0 || s->epochs[i].from_ms > s->epochs[i - 1].from_ms);
    }
    return sound;
}

/* "epochs": [[from_ms, shards], ...] */
static void source_read_epochs(struct source *s, const json_t *json) {
    json_t *list = json_object_get(json, "epochs"), *one;
    size_t i;
    if (!list || json_array_size(list) > EPOCHS_MAX) return;
    json_array_foreach(list, i, one) {
        json_int_t from_ms = -1, shards = 0;
        if (json_unpack(one, "[I, I]", &from_ms, &shards) != 0) break;
        s->epochs[i] = (struct routing_epoch){from_ms, (uint32_t)shards};
        s->epochs_count = (uint32_t)i + 1;
    }
    s->stores_shards = (uint32_t)json_integer_value(json_object_get(json, "stores_shards"));
    if (s->epochs_count != json_array_size(list) || !epochs_are_sound(s)) s->epochs_count = 0;
}

/* The document in cluster.msgpack; empty = it is not there. */
static struct bytes cluster_document_in(const uint8_t *data, size_t bytes) {
    struct msgpack_reader r;
    uint32_t pairs, size;
    const void *name, *document;
    msgpack_reader_init(&r, data, bytes);
    if (msgpack_read_map(&r, &pairs) != MSGPACK_OK) return bytes_of(NULL, 0);
    for (uint32_t i = 0; i < pairs; i++) {
        if (msgpack_read_str(&r, &name, &size) != MSGPACK_OK) break;
        if (bytes_equal(bytes_of(name, size), bytes_of_text("document"))) {
            if (msgpack_read_bin(&r, &document, &size) != MSGPACK_OK) break;
            return bytes_of(document, size);
        }
        if (msgpack_skip(&r) != MSGPACK_OK) break;
    }
    return bytes_of(NULL, 0);
}

/* A node of a cluster: its document tells how the cluster has grown. Without it nothing is told. */
static void source_read_cluster(struct source *s) {
    enum { BYTES_MAX = CLUSTER_ENCODED_BYTES_MAX + (1 << 16) };
    char path[SOURCE_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/cluster.msgpack", s->path);
    FILE *f = fopen(path, "rb");
    uint8_t *data = f ? malloc(BYTES_MAX) : NULL;
    struct cluster_document *d = f ? malloc(sizeof *d) : NULL;
    uint64_t version;
    if (data && d) {
        struct bytes document = cluster_document_in(data, fread(data, 1, BYTES_MAX, f));
        if (document.size > 0 &&
            cluster_decode(document.data, document.size, &version, d) == NULL) {
            for (uint32_t i = 0; i < d->epochs_count; i++) {
                s->epochs[i] = (struct routing_epoch){d->epochs[i].from_ms,
                                                      d->epochs[i].shards_count};
            }
            s->epochs_count = d->epochs_count;
            s->clustered = true;
            s->generation = d->generation;
            s->stores_shards = d->stores_shards ? d->stores_shards
                                                : s->epochs[s->epochs_count - 1].shards_count;
        }
    }
    free(d);
    free(data);
    if (f) fclose(f);
}

/* "runs": [{"shards": [{"shard": n, "index": n}, ...]}, ...], and "holds": [n, ...]: what a backup
 * has got, which of a cluster's node need not be all shards. Older ones have no "holds". */
static void source_read_holds(struct source *s, const json_t *json) {
    json_t *run, *one;
    size_t i, n;
    json_array_foreach(json_object_get(json, "runs"), i, run) {
        json_array_foreach(json_object_get(run, "shards"), n, one) {
            json_int_t shard = -1, index = 0;
            if (json_unpack(one, "{s:I, s:I}", "shard", &shard, "index", &index) != 0) continue;
            if (shard < 0 || shard >= SHARDS_MAX || index < 0) continue;
            s->holds[shard] = true;
            if ((uint64_t)index > s->holds_upto[shard]) s->holds_upto[shard] = (uint64_t)index;
        }
    }
    s->holds_listed = json_is_array(json_object_get(json, "holds"));
    json_array_foreach(json_object_get(json, "holds"), i, one) {
        json_int_t shard = json_is_integer(one) ? json_integer_value(one) : -1;
        if (shard >= 0 && shard < SHARDS_MAX) s->holds[shard] = true;
    }
}

static void source_read_ancestors(struct source *s, const json_t *json) {
    const json_t *list = json_object_get(json, "ancestors"), *one;
    size_t i;
    json_array_foreach(list, i, one) {
        if (s->ancestors_count == ANCESTORS_MAX || !json_is_string(one)) continue;
        snprintf(s->ancestors[s->ancestors_count++], CLUSTER_ID_BYTES, "%s",
                 json_string_value(one));
    }
}

/* node.json of a directory, backup.json of a backup. */
static int source_read_identity(struct source *s, const char *name, char *error,
                                size_t error_bytes) {
    char path[SOURCE_PATH_BYTES + 32];
    json_error_t fault;
    const char *cluster_id = "";
    json_int_t node_id = 0, shards = 0, created_ms = 0;
    snprintf(path, sizeof path, "%s/%s", s->path, name);
    json_t *json = json_load_file(path, 0, &fault);
    int rc = json ? json_unpack_ex(json, &fault, 0, "{s?s, s?I, s?I, s?I}", "cluster_id",
                                   &cluster_id, "node_id", &node_id, "shards", &shards,
                                   "created_ms", &created_ms)
                  : -1;
    if (rc != 0) {
        snprintf(error, error_bytes, "%s: %s", path, fault.text);
    } else {
        snprintf(s->cluster_id, sizeof s->cluster_id, "%s", cluster_id);
        s->node_id = (uint64_t)node_id;
        s->shards_told = (uint32_t)shards;
        s->created_ms = created_ms;
        s->in_cluster = json_is_true(json_object_get(json, "clustered"));
        json_int_t generation = json_integer_value(json_object_get(json, "generation"));
        if (generation > 0 && generation <= UINT8_MAX) s->generation = (uint8_t)generation;
        source_read_epochs(s, json);
        source_read_ancestors(s, json);
        source_read_holds(s, json);
        source_read_cluster(s);
    }
    json_decref(json);
    return rc;
}

static int shard_compare(const void *a, const void *b) {
    const struct source_shard *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

void source_base_before(struct source_shard *shard, uint64_t upto) {
    unsigned long long newest = 0, index;
    DIR *d = opendir(shard->directory);
    shard->base[0] = 0;
    if (!d) return;
    for (struct dirent *entry; (entry = readdir(d));) {
        int end = 0;
        if (sscanf(entry->d_name, "base-%20llu%n", &index, &end) != 1 || entry->d_name[end]) {
            continue;
        }
        if (index > upto || (shard->base[0] && index < newest)) continue;
        newest = index;
        snprintf(shard->base, sizeof shard->base, "%s/base-%020llu", shard->directory, index);
    }
    closedir(d);
}

/* Room for one more, behind `count`. NULL without memory. */
static struct source_shard *source_room(struct source *s, uint32_t number, char *error,
                                        size_t error_bytes) {
    struct source_shard *shards = realloc(s->shards, (s->count + 1) * sizeof *shards);
    if (!shards) {
        snprintf(error, error_bytes, "no memory");
        return NULL;
    }
    s->shards = shards;
    shards[s->count] = (struct source_shard){.number = number};
    return &shards[s->count];
}

static int source_add(struct source *s, const char *directory, uint32_t number, char *error,
                      size_t error_bytes) {
    struct source_shard *shard = source_room(s, number, error, error_bytes);
    if (!shard) return -1;
    snprintf(shard->directory, sizeof shard->directory, "%s", directory);
    shard->clustered = s->clustered;
    shard->log = log_source_open(directory, error, error_bytes);
    if (!shard->log) return -1;
    s->count++;
    if (path_exists(directory, "state/data.mdb")) {
        snprintf(shard->state, sizeof shard->state, "%s/state", shard->directory);
    }
    source_base_before(shard, UINT64_MAX);
    return 0;
}

/* "shard-3", or "shard-3.2": the replica of it that this node has for the third time. */
static bool source_name(const char *name, uint32_t *number, uint32_t *incarnation) {
    int end = 0;
    *incarnation = 0;
    if (sscanf(name, "shard-%u%n", number, &end) == 1 && !name[end]) return true;
    end = 0;
    return sscanf(name, "shard-%u.%u%n", number, incarnation, &end) == 2 && end && !name[end];
}

/* The replica that counts is the newest one, and one that has been let go does not. */
struct source_found { char name[32]; uint32_t incarnation; bool found, let_go; };

static int source_add_all(struct source *s, int64_t only, char *error, size_t error_bytes) {
    struct source_found *shards = calloc(SHARDS_MAX, sizeof *shards);
    DIR *d = opendir(s->path);
    int rc = 0;
    if (!d || !shards) {
        snprintf(error, error_bytes, "%s: %s", s->path, d ? "no memory" : strerror(errno));
        if (d) closedir(d);
        free(shards);
        return -1;
    }
    for (struct dirent *entry; (entry = readdir(d));) {
        struct source_found one = {.found = true};
        uint32_t number;
        char path[SOURCE_PATH_BYTES];
        if (strlen(entry->d_name) >= sizeof one.name) continue;
        if (!source_name(entry->d_name, &number, &one.incarnation) || number >= SHARDS_MAX) {
            continue;
        }
        if (only >= 0 && number != (uint32_t)only) continue;
        snprintf(one.name, sizeof one.name, "%s", entry->d_name);
        snprintf(path, sizeof path, "%.900s/%s", s->path, one.name);
        one.let_go = path_exists(path, "let-go");
        const struct source_found *had = &shards[number];
        bool better = had->let_go != one.let_go ? had->let_go
                                                : one.incarnation > had->incarnation;
        if (!had->found || better) shards[number] = one;
    }
    closedir(d);
    for (uint32_t number = 0; rc == 0 && number < SHARDS_MAX; number++) {
        char path[SOURCE_PATH_BYTES];
        if (!shards[number].found) continue;
        snprintf(path, sizeof path, "%.900s/%s", s->path, shards[number].name);
        rc = source_add(s, path, number, error, error_bytes);
    }
    free(shards);
    return rc;
}

/* The shard of a directory that stands alone: its entries tell. */
static uint32_t source_shard_number(const char *directory) {
    uint32_t number = 0;
    struct log_source *log = log_source_open(directory, (char[160]){0}, 160);
    uint64_t first, last;
    struct log_item item;
    if (!log) return 0;
    log_source_range(log, &first, &last);
    struct log_cursor *c = log_cursor_open(log, first, last, false);
    for (enum log_step step; c && (step = log_cursor_next(c, &item)) != LOG_END;) {
        if (step != LOG_RECORD || item.header->type != RECORD_EVENTS) continue;
        if (item.header->payload_bytes < sizeof(struct entry_header)) continue;
        number = ((const struct entry_header *)item.payload)->shard;
        break;
    }
    log_cursor_close(c);
    log_source_close(log);
    return number < SHARDS_MAX || number == SHARD_META ? number : 0;
}

static bool directory_has_segments(const char *path) {
    DIR *d = opendir(path);
    bool found = false;
    for (struct dirent *entry; d && !found && (entry = readdir(d));) {
        found = strncmp(entry->d_name, "log-", 4) == 0 && strlen(entry->d_name) == 24;
    }
    if (d) closedir(d);
    return found;
}

/* -- feeds -------------------------------------------------------------------------------- */

/* Two pages are in memory for each shard that is read. */
static const uint32_t source_pages_bytes_max = 32u << 20;
enum { SOURCE_PAGE_BYTES_MIN = 64 << 10 };

static int source_add_feed(struct source *s, const char *node, int64_t only, char *error,
                           size_t error_bytes) {
    struct feed_link_hello hello;
    if (s->links_count == SOURCE_NODES_MAX) {
        snprintf(error, error_bytes, "at most %d nodes can be read as one", SOURCE_NODES_MAX);
        return -1;
    }
    struct feed_link *link = feed_link_open(node, &hello, error, error_bytes);
    if (!link) return -1;
    s->links[s->links_count++] = link;
    if (s->links_count > 1 && strcmp(s->cluster_id, hello.cluster_id) != 0) {
        snprintf(error, error_bytes, "%s is of another cluster than the nodes before it", node);
        return -1;
    }
    memcpy(s->cluster_id, hello.cluster_id, sizeof s->cluster_id);
    s->node_id = s->links_count == 1 ? hello.node_id : 0;
    s->shards_told = hello.shards_count;
    uint32_t page_bytes = source_pages_bytes_max / (2 * (hello.count ? hello.count : 1));
    if (page_bytes < SOURCE_PAGE_BYTES_MIN) page_bytes = SOURCE_PAGE_BYTES_MIN;
    for (uint32_t i = 0; i < hello.count; i++) {
        const struct feed_hello_shard *told = &hello.shards[i];
        if (told->shard >= SHARDS_MAX || (only >= 0 && told->shard != (uint32_t)only)) continue;
        if (source_shard_of(s, told->shard)) continue; /* a node before this one has it */
        struct source_shard *shard = source_room(s, told->shard, error, error_bytes);
        if (!shard) return -1;
        shard->link = link;
        shard->log = feed_log_open(link, told, page_bytes);
        if (!shard->log) {
            snprintf(error, error_bytes, "no memory");
            return -1;
        }
        s->count++;
    }
    return 0;
}

static int source_open_feeds(struct source *s, int64_t only, char *error, size_t error_bytes) {
    char nodes[SOURCE_PATH_BYTES];
    char *rest = nodes, *one;
    int rc = 0;
    s->kind = SOURCE_FEED;
    snprintf(nodes, sizeof nodes, "%s", s->path);
    while (rc == 0 && (one = strsep(&rest, ","))) {
        if (*one) rc = source_add_feed(s, one, only, error, error_bytes);
    }
    if (rc == 0 && s->count == 0) {
        if (only >= 0) snprintf(error, error_bytes, "%s has no shard %d", s->path, (int)only);
        else snprintf(error, error_bytes, "%s holds no shard of the cluster yet", s->path);
        rc = only >= 0 ? SOURCE_NO_SHARD : -1;
    }
    if (s->count > 0) qsort(s->shards, s->count, sizeof *s->shards, shard_compare);
    return rc;
}

static int source_fetch_state(struct source *s, struct source_shard *shard, const char *scratch,
                              char *error, size_t error_bytes) {
    if (!s->scratch[0]) {
        snprintf(s->scratch, sizeof s->scratch, "%.900s/jumun-replay-XXXXXX", scratch);
        if (!mkdtemp(s->scratch)) {
            snprintf(error, error_bytes, "%s: %s", scratch, strerror(errno));
            s->scratch[0] = 0;
            return -1;
        }
    }
    snprintf(shard->state, sizeof shard->state, "%.940s/state-%u", s->scratch, shard->number);
    if (mkdir(shard->state, 0700) != 0) {
        snprintf(error, error_bytes, "%s: %s", shard->state, strerror(errno));
        shard->state[0] = 0;
        return -1;
    }
    return feed_log_fetch_state(shard->link, shard->number, shard->state, error, error_bytes);
}

int source_fetch_states(struct source *s, const char *scratch, char *error, size_t error_bytes) {
    bool fetched = false;
    for (uint32_t i = 0; i < s->count; i++) {
        uint64_t first, last;
        struct source_shard *shard = &s->shards[i];
        log_source_range(shard->log, &first, &last);
        if (!shard->link || first <= 1 || shard->state[0]) continue;
        if (source_fetch_state(s, shard, scratch, error, error_bytes) != 0) return -1;
        fetched = true;
    }
    /* A state reflects what is committed by now. */
    for (uint32_t i = 0; fetched && i < s->count; i++) {
        if (log_source_refresh(s->shards[i].log, error, error_bytes) != 0) return -1;
    }
    return 0;
}

static void source_remove_states(struct source *s) {
    char path[SOURCE_PATH_BYTES + 32];
    if (!s->scratch[0]) return;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!s->shards[i].link || !s->shards[i].state[0]) continue;
        snprintf(path, sizeof path, "%.960s/data.mdb", s->shards[i].state);
        unlink(path);
        rmdir(s->shards[i].state);
    }
    rmdir(s->scratch);
}

const char *source_failure(const struct source *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        const char *failure = log_source_failure(s->shards[i].log);
        if (failure) return failure;
    }
    return NULL;
}

/* -- opening ------------------------------------------------------------------------------ */

/* "host:7400": an address whose beginning was forgotten. */
static bool source_is_bare_address(const char *text) {
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || strchr(text, '/') || !colon[1]) return false;
    return colon[1 + strspn(colon + 1, "0123456789")] == 0;
}

int source_open(struct source *s, const char *path, int64_t only, char *error,
                size_t error_bytes) {
    *s = (struct source){.kind = SOURCE_DATA};
    struct stat st;
    if (strlen(path) >= sizeof s->path - 64) {
        snprintf(error, error_bytes, "%.100s...: the path is too long", path);
        return -1;
    }
    snprintf(s->path, sizeof s->path, "%s", path);
    if (feed_link_is_one(path)) {
        int opened = source_open_feeds(s, only, error, error_bytes);
        if (opened != 0) source_close(s);
        return opened;
    }
    for (size_t n = strlen(s->path); n > 1 && s->path[n - 1] == '/';) s->path[--n] = 0;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        bool none = stat(path, &st) != 0;
        const char *why = none ? strerror(errno) : "is not a directory";
        if (none && source_is_bare_address(path)) {
            snprintf(error, error_bytes, "%s: %s; an address begins with tcp://: tcp://%s", path,
                     why, path);
        } else {
            snprintf(error, error_bytes, "%s: %s", path, why);
        }
        return -1;
    }
    int rc = 0;
    if (path_exists(s->path, "backup.json") || path_exists(s->path, "node.json")) {
        bool backup = path_exists(s->path, "backup.json");
        s->kind = backup ? SOURCE_BACKUP : SOURCE_DATA;
        rc = source_read_identity(s, backup ? "backup.json" : "node.json", error, error_bytes);
        if (rc == 0) rc = source_add_all(s, only, error, error_bytes);
    } else if (path_exists(s->path, "data.mdb")) {
        s->kind = SOURCE_SEGMENT;
        rc = source_add(s, s->path, source_shard_number(s->path), error, error_bytes);
    } else if (directory_has_segments(s->path)) {
        s->kind = SOURCE_SHARD;
        rc = source_add(s, s->path, source_shard_number(s->path), error, error_bytes);
    } else { /* shards of a directory whose node.json was lost */
        rc = source_add_all(s, only, error, error_bytes);
    }
    if (rc == 0 && s->count == 0) {
        if (only >= 0) snprintf(error, error_bytes, "%s has no shard %d", path, (int)only);
        else snprintf(error, error_bytes, "%s holds no log: give the data directory of a node, a "
                      "backup, a shard's directory or a segment", path);
        rc = only >= 0 ? SOURCE_NO_SHARD : -1;
    }
    if (rc != 0) source_close(s);
    return rc;
}

void source_close(struct source *s) {
    source_remove_states(s);
    for (uint32_t i = 0; i < s->count; i++) log_source_close(s->shards[i].log);
    for (uint32_t i = 0; i < s->links_count; i++) feed_link_close(s->links[i]);
    free(s->shards);
    s->shards = NULL;
    s->count = s->links_count = 0;
    s->scratch[0] = 0;
}

uint64_t source_committed(const struct source_shard *shard, uint64_t last) {
    struct state_source_marker marker;
    char error[256];
    uint64_t servers = 0;
    struct state_source *state =
        shard->state[0] ? state_source_open(shard->state, error, sizeof error) : NULL;
    bool found = state && state_source_read_marker(state, &marker, error, sizeof error) == 0 &&
                 marker.found && marker.configuration_bytes >= 1 + sizeof servers;
    state_source_close(state);
    if (!found && shard->clustered) return 0;
    if (found) memcpy(&servers, marker.configuration + 1, sizeof servers);
    return servers > 1 && marker.applied_index < last ? marker.applied_index : last;
}

struct source_shard *source_shard_of(struct source *s, uint32_t number) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->shards[i].number == number) return &s->shards[i];
    }
    return NULL;
}

int64_t source_lost_shard(struct source *s, uint32_t number) {
    bool alone = s->kind == SOURCE_DATA && !s->clustered && !s->in_cluster && s->generation == 0;
    for (; number < SHARDS_MAX; number++) {
        const struct source_shard *shard = source_shard_of(s, number);
        const struct log_source_segment *list;
        bool empty = !shard || log_source_segments(shard->log, &list) == 0;
        if (alone && number < s->shards_told && empty) return number;
        if (s->kind != SOURCE_BACKUP || !s->holds[number]) continue;
        if (!shard || (empty && s->holds_upto[number] > 0)) return number;
    }
    return -1;
}

uint64_t source_stored(const struct source_shard *shard) {
    struct state_source_marker marker = {.found = false};
    char error[256];
    struct state_source *state =
        shard->state[0] ? state_source_open(shard->state, error, sizeof error) : NULL;
    int rc = state ? state_source_read_marker(state, &marker, error, sizeof error) : -1;
    state_source_close(state);
    return rc == 0 && marker.found ? marker.applied_index : 0;
}

bool source_lost_log(struct source *s, uint32_t *shard, uint64_t *told) {
    for (uint32_t i = 0; i < s->count; i++) {
        const struct source_shard *one = &s->shards[i];
        uint64_t first, last;
        log_source_range(one->log, &first, &last);
        if (one->link || last > 0) continue;
        *shard = one->number;
        *told = s->kind == SOURCE_BACKUP ? s->holds_upto[one->number] : source_stored(one);
        /* Behind the state: what is stored is in the log by then. */
        if (*told == 0 || log_source_refresh(one->log, NULL, 0) != 0) continue;
        log_source_range(one->log, &first, &last);
        if (last == 0) return true;
    }
    return false;
}

void source_backup_doubt(const struct source *s, char *sentence, size_t sentence_bytes) {
    bool older = s->kind == SOURCE_BACKUP && !s->holds_listed;
    snprintf(sentence, sentence_bytes, "%s", older ? "every run of this backup was made by an "
             "older version, which did not look whether the node had lost shards or records: what "
             "was lost by then is not missed here" : "");
}

struct source_shard *source_shard_of_key(struct source *s, const struct id128 *key) {
    const struct routing_epoch first = {0, s->shards_told};
    if (s->count == 1) return &s->shards[0];
    if (s->epochs_count > 0) {
        return source_shard_of(s, routing_shard_of_key(s->epochs, s->epochs_count, key));
    }
    if (s->shards_told == 0) return NULL;
    return source_shard_of(s, routing_shard_of_key(&first, 1, key));
}

/* -- moments ------------------------------------------------------------------------------ */

static bool moment_indices(const char *text, struct moment *m) {
    for (const char *at = text;;) {
        char *end;
        if (!isdigit((unsigned char)*at)) return false;
        errno = 0;
        unsigned long long n = strtoull(at, &end, 10);
        if (errno) return false;
        if (*end == ':' || *end == '=') {
            if (n >= SHARDS_MAX || m->named_count == SHARDS_MAX) return false;
            at = end + 1;
            if (!isdigit((unsigned char)*at)) return false;
            m->named[m->named_count].shard = (uint32_t)n;
            m->named[m->named_count++].index = strtoull(at, &end, 10);
        } else {
            m->index = n;
            m->indexed = true;
        }
        if (*end == 0) return true;
        if (*end != ',') return false;
        at = end + 1;
    }
}

bool moment_parse(const char *text, int64_t now_ms, struct moment *m, char *error,
                  size_t error_bytes) {
    char why[WHEN_ERROR_BYTES];
    *m = (struct moment){.kind = MOMENT_TIME};
    bool now = strcmp(text, "now") == 0; /* whatever the clocks of the nodes say */
    if (now) m->time_ms = INT64_MAX;
    if (now || when_parse(text, now_ms, &m->time_ms, why)) return true;
    *m = (struct moment){.kind = MOMENT_INDEX};
    if (moment_indices(text, m)) return true;
    if (*text == '-' && when_is_bare(text + 1))
        snprintf(error, error_bytes, "%s", why);
    else
        snprintf(error, error_bytes, "\"%.60s\" is neither an index (1234, or 0:1234,1:999 by "
                 "shard) nor a time (2026-11-21T06:00:00Z, 06:30, 1774353600000, -10m)", text);
    return false;
}

bool moment_names(const struct moment *m, uint32_t shard) {
    for (uint32_t i = 0; i < m->named_count; i++) {
        if (m->named[i].shard == shard) return true;
    }
    return false;
}

uint64_t moment_index(const struct moment *m, const struct source_shard *shard, uint64_t none) {
    if (m->kind == MOMENT_NONE) return none;
    if (m->kind == MOMENT_TIME) {
        return m->time_ms == INT64_MAX ? UINT64_MAX
                                       : log_source_index_at(shard->log, m->time_ms);
    }
    for (uint32_t i = 0; i < m->named_count; i++) {
        if (m->named[i].shard == shard->number) return m->named[i].index;
    }
    return m->indexed ? m->index : none;
}
