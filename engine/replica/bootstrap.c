#include "engine/replica/bootstrap.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/data_directory.h"
#include "engine/base/log.h"
#include "engine/replica/feed_client.h"
#include "engine/replica/import.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/protocol.h"

enum {
    BOOTSTRAP_ASK_MS = 1000,       /* for an answer that takes no time to be made */
    BOOTSTRAP_AGAIN_MS = 300,
    BOOTSTRAP_SOURCES_MAX = 16
};

struct bootstrap {
    const struct replica_config *config;
    const atomic_bool *stop;
    nng_aio *with;                 /* what waits for answers */
    char ours[CLUSTER_ID_BYTES];   /* the nodes' cluster; "" = none has answered yet */
    char node[ENDPOINT_BYTES_MAX]; /* who said so */
    bool told[BOOTSTRAP_SOURCES_MAX], told_nodes;
    char *error;
    size_t error_bytes;
};

/* The next of a comma-separated list of endpoints; false = there are no more. */
static bool next_url(const char **list, char url[ENDPOINT_BYTES_MAX]) {
    size_t size = 0;
    while (**list && (size = strcspn(*list, ",")) == 0) (*list)++;
    if (**list == 0) return false;
    snprintf(url, ENDPOINT_BYTES_MAX, "%.*s", (int)size, *list);
    *list += size;
    return true;
}

/* -- whose cluster ----------------------------------------------------------------------------- */

static bool ask_nodes(struct bootstrap *b, char *error, size_t error_bytes) {
    const char *list = b->config->nodes;
    while (!b->ours[0] && next_url(&list, b->node)) {
        struct feed_hello_shard shards[1];
        struct feed_hello hello = {.shards = shards, .shards_max = 1};
        char feed[ENDPOINT_BYTES_MAX];
        nng_msg *reply;
        if (feed_discover(b->node, BOOTSTRAP_ASK_MS, NULL, feed, error, error_bytes) != 0 ||
            feed_hello(feed, BOOTSTRAP_ASK_MS, NULL, &hello, &reply, error, error_bytes) != 0)
            continue;
        snprintf(b->ours, sizeof b->ours, "%s", hello.cluster_id);
        nng_msg_free(reply);
    }
    return b->ours[0] != 0;
}

/* Reads "replica" and "cluster_id" out of a status's map. False: it is none. */
static bool read_status(struct msgpack_reader *r, bool *replica,
                        char cluster_id[CLUSTER_ID_BYTES]) {
    uint32_t pairs, size;
    const void *text;
    if (msgpack_read_map(r, &pairs) != MSGPACK_OK) return false;
    for (uint32_t i = 0; i < pairs; i++) {
        if (msgpack_read_str(r, &text, &size) != MSGPACK_OK) return false;
        struct bytes name = bytes_of(text, size);
        if (bytes_equal(name, bytes_of_text("replica"))) {
            if (msgpack_read_bool(r, replica) != MSGPACK_OK) return false;
        } else if (bytes_equal(name, bytes_of_text("cluster_id"))) {
            if (msgpack_read_str(r, &text, &size) != MSGPACK_OK || size >= CLUSTER_ID_BYTES)
                return false;
            memcpy(cluster_id, text, size);
            cluster_id[size] = 0;
        } else if (msgpack_skip(r) != MSGPACK_OK) {
            return false;
        }
    }
    return true;
}

/* What the replica says of itself. False with a sentence: it did not answer. */
static bool ask_replica(const char *url, bool *replica, char cluster_id[CLUSTER_ID_BYTES],
                        char *error, size_t error_bytes) {
    static const uint8_t request[] = {0x93, PROTOCOL_VERSION, 0xc0, 0x91, 0x91,
                                      NODE_COMMAND_STATUS};
    struct msgpack_reader r;
    uint32_t items = 0, results = 0, fields = 0;
    uint64_t version, code = 1;
    nng_msg *reply;
    *replica = false;
    cluster_id[0] = 0;
    if (feed_ask(url, request, sizeof request, BOOTSTRAP_ASK_MS, NULL, &reply, error,
                 error_bytes) != 0)
        return false;
    msgpack_reader_init(&r, nng_msg_body(reply), nng_msg_len(reply));
    bool good = msgpack_read_array(&r, &items) == MSGPACK_OK && items >= 3 &&
                msgpack_read_uint(&r, &version) == MSGPACK_OK &&
                msgpack_read_uint(&r, &code) == MSGPACK_OK && code == 0 &&
                msgpack_read_array(&r, &results) == MSGPACK_OK && results == 1 &&
                msgpack_read_array(&r, &fields) == MSGPACK_OK && fields >= 6;
    for (int i = 0; good && i < 5; i++) good = msgpack_skip(&r) == MSGPACK_OK;
    if (!good || !read_status(&r, replica, cluster_id)) *replica = false;
    nng_msg_free(reply);
    return true;
}

/* -- taking over ------------------------------------------------------------------------------- */

static enum bootstrap_outcome refuse(struct bootstrap *b, const char *url, const char *theirs) {
    if (theirs)
        snprintf(b->error, b->error_bytes, "--from %s follows cluster %s, but the node %s is of "
                 "cluster %s: nothing was copied", url, theirs, b->node, b->ours);
    else
        snprintf(b->error, b->error_bytes, "--from %s answers, but it is no replica: name the "
                 "--listen address of a jumun-replica", url);
    return BOOTSTRAP_REFUSED;
}

static void incoming_of(const struct replica_config *config, char path[1200]) {
    snprintf(path, 1200, "%.1000s/views.incoming", config->data);
}

static void directory_of(const struct replica_config *config, char path[1100]) {
    snprintf(path, 1100, "%.1000s/views", config->data);
}

void bootstrap_give_up(struct replica_config *config) {
    char directory[1100], incoming[1200];
    if (config->views_lock_fd == 0) return; /* what is there is another one's */
    incoming_of(config, incoming);
    unlink(incoming);
    directory_of(config, directory);
    view_store_unlock(directory, config->views_lock_fd);
    config->views_lock_fd = 0;
}

static bool fetch(struct bootstrap *b, const char *url, char *error, size_t error_bytes) {
    char directory[1100], incoming[1200];
    uint64_t index;
    directory_of(b->config, directory);
    incoming_of(b->config, incoming);
    log_info("fetching the views of %s", url);
    if (import_fetch(url, UINT32_MAX, b->ours, incoming, b->with, &index, error, error_bytes) !=
            0 ||
        view_store_adopt(directory, incoming, error, error_bytes) != 0)
        return false;
    log_info("took over the views of %s", url);
    return true;
}

/* Once: a fault that lasts is told when it begins. */
static void tell(bool *told, const char *what) {
    if (!*told)
        log_warn("%s: trying for %d s, then the views are made from the logs", what,
                 BOOTSTRAP_PATIENCE_MS / 1000);
    *told = true;
}

static enum bootstrap_outcome try_one(struct bootstrap *b, uint32_t number, const char *url) {
    char theirs[CLUSTER_ID_BYTES], error[512] = "", what[640];
    bool replica;
    bool *told = &b->told[number % BOOTSTRAP_SOURCES_MAX];
    if (!ask_replica(url, &replica, theirs, error, sizeof error)) {
        snprintf(what, sizeof what, "--from: cannot reach %s", error);
        tell(told, what);
        return BOOTSTRAP_NOTHING;
    }
    if (!replica) return refuse(b, url, NULL);
    if (theirs[0] && b->ours[0] && strcmp(theirs, b->ours) != 0) return refuse(b, url, theirs);
    if (!b->ours[0]) return BOOTSTRAP_NOTHING;
    if (theirs[0] && fetch(b, url, error, sizeof error)) return BOOTSTRAP_DONE;
    snprintf(what, sizeof what, "--from: no views of %s",
             error[0] ? error : "a replica that has reached no node yet");
    if (!atomic_load(b->stop)) tell(told, what);
    return BOOTSTRAP_NOTHING;
}

static enum bootstrap_outcome try_all(struct bootstrap *b) {
    char url[ENDPOINT_BYTES_MAX], error[512] = "", what[640];
    const char *list = b->config->from;
    if (!ask_nodes(b, error, sizeof error)) {
        snprintf(what, sizeof what, "--from: cannot reach a node to learn which cluster this is "
                 "(%s)", error);
        tell(&b->told_nodes, what);
    }
    for (uint32_t i = 0; !atomic_load(b->stop) && next_url(&list, url); i++) {
        enum bootstrap_outcome outcome = try_one(b, i, url);
        if (outcome != BOOTSTRAP_NOTHING) return outcome;
    }
    return BOOTSTRAP_NOTHING;
}

static enum bootstrap_outcome try_patiently(struct bootstrap *b) {
    int64_t until_ms = clock_mono_ms() + BOOTSTRAP_PATIENCE_MS;
    while (!atomic_load(b->stop)) {
        enum bootstrap_outcome outcome = try_all(b);
        if (outcome != BOOTSTRAP_NOTHING) return outcome;
        if (clock_mono_ms() >= until_ms) break;
        usleep(BOOTSTRAP_AGAIN_MS * 1000);
    }
    if (!atomic_load(b->stop))
        log_warn("--from: nobody gave any views: they are made from the logs");
    return BOOTSTRAP_NOTHING;
}

enum bootstrap_outcome bootstrap_run(struct replica_config *config, const atomic_bool *stop,
                                     char *error, size_t error_bytes) {
    struct bootstrap b = {.config = config, .stop = stop, .error = error,
                          .error_bytes = error_bytes};
    char directory[1100], path[1200];
    if (config->from[0] == 0) return BOOTSTRAP_NOTHING;
    if (data_directory_is_refused(config->data, DATA_DIRECTORY_REPLICA, error, error_bytes))
        return BOOTSTRAP_REFUSED;
    if (mkdir(config->data, 0750) != 0 && access(config->data, W_OK) != 0)
        return BOOTSTRAP_NOTHING; /* opening the views says why */
    directory_of(config, directory);
    int lock_fd = view_store_lock(directory, error, error_bytes);
    if (lock_fd < 0) return BOOTSTRAP_REFUSED;
    config->views_lock_fd = lock_fd;
    snprintf(path, sizeof path, "%s/data.mdb", directory);
    if (access(path, F_OK) == 0) return BOOTSTRAP_NOTHING;
    if (nng_aio_alloc(&b.with, NULL, NULL) != 0) {
        snprintf(error, error_bytes, "no memory to ask another replica");
        bootstrap_give_up(config);
        return BOOTSTRAP_REFUSED;
    }
    enum bootstrap_outcome outcome = try_patiently(&b);
    nng_aio_free(b.with);
    if (outcome == BOOTSTRAP_REFUSED) bootstrap_give_up(config);
    return outcome;
}
