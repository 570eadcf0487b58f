#include "engine/cluster/cluster_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/directory.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/msgpack_reader.h"
#include "persistence/consensus.h"

enum { CACHE_BYTES_MAX = CLUSTER_ENCODED_BYTES_MAX + 128 + CLUSTER_CACHE_REPLICAS_MAX * 16 };

/* -- bytes ------------------------------------------------------------------------------------- */

static size_t cache_encode(const struct cluster_cache *c, uint8_t *out, uint8_t *scratch) {
    struct msgpack_writer w, d;
    msgpack_writer_init(&d, scratch, CLUSTER_ENCODED_BYTES_MAX);
    cluster_encode(&d, c->version, &c->document);
    require(msgpack_writer_ok(&d));
    msgpack_writer_init(&w, out, CACHE_BYTES_MAX);
    msgpack_write_map(&w, 4);
    msgpack_pair_uint(&w, "format", CLUSTER_CACHE_FORMAT);
    msgpack_pair_uint(&w, "node", c->node);
    msgpack_pair_bin(&w, "document", bytes_of(scratch, msgpack_writer_size(&d)));
    msgpack_write_text(&w, "replicas");
    msgpack_write_array(&w, c->replicas_count);
    for (uint32_t i = 0; i < c->replicas_count; i++) {
        msgpack_write_array(&w, 2);
        msgpack_write_uint(&w, c->replicas[i].shard);
        msgpack_write_uint(&w, c->replicas[i].server);
    }
    require(msgpack_writer_ok(&w));
    return msgpack_writer_size(&w);
}

static bool cache_decode_replicas(struct msgpack_reader *r, struct cluster_cache *c) {
    uint32_t count = 0, fields;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count > CLUSTER_CACHE_REPLICAS_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t shard;
        if (msgpack_read_array(r, &fields) != MSGPACK_OK || fields != 2 ||
            msgpack_read_uint_upto(r, SHARD_META, &shard) != MSGPACK_OK ||
            msgpack_read_uint(r, &c->replicas[i].server) != MSGPACK_OK)
            return false;
        c->replicas[i].shard = (uint32_t)shard;
    }
    c->replicas_count = count;
    return true;
}

/* NULL, or what is wrong. */
static const char *cache_decode(const uint8_t *data, size_t bytes, struct cluster_cache *c) {
    struct msgpack_reader r;
    uint32_t fields, size;
    uint64_t format = 0, node = 0;
    const void *name, *document = NULL;
    uint32_t document_bytes = 0;
    msgpack_reader_init(&r, data, bytes);
    if (msgpack_read_map(&r, &fields) != MSGPACK_OK) return "it is no map";
    for (uint32_t i = 0; i < fields; i++) {
        if (msgpack_read_str(&r, &name, &size) != MSGPACK_OK) return "a key is no text";
        struct bytes key = bytes_of(name, size);
        bool good = true;
        if (bytes_equal(key, bytes_of_text("format")))
            good = msgpack_read_uint(&r, &format) == MSGPACK_OK;
        else if (bytes_equal(key, bytes_of_text("node")))
            good = msgpack_read_uint_upto(&r, UINT32_MAX, &node) == MSGPACK_OK;
        else if (bytes_equal(key, bytes_of_text("document")))
            good = msgpack_read_bin(&r, &document, &document_bytes) == MSGPACK_OK;
        else if (bytes_equal(key, bytes_of_text("replicas")))
            good = cache_decode_replicas(&r, c);
        else
            good = msgpack_skip(&r) == MSGPACK_OK;
        if (!good) return "a field is malformed";
    }
    if (msgpack_reader_left(&r) != 0) return "there is more behind it";
    if (format != CLUSTER_CACHE_FORMAT) return "its format is not known to this program";
    c->node = (uint32_t)node;
    const char *fault = cluster_decode(document, document_bytes, &c->version, &c->document);
    return fault ? fault : c->node == 0 ? "it names no node" : NULL;
}

/* -- the file ---------------------------------------------------------------------------------- */

static void cache_path(const char *directory, const char *suffix, char *out, size_t bytes) {
    snprintf(out, bytes, "%s/cluster.msgpack%s", directory, suffix);
}

static ssize_t cache_read_file(int fd, uint8_t *out, size_t bytes) {
    size_t used = 0;
    while (used < bytes) {
        ssize_t n = read(fd, out + used, bytes - used);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

int cluster_cache_load(const char *directory, struct cluster_cache *cache, char *error,
                       size_t error_bytes) {
    char path[4200];
    memset(cache, 0, sizeof *cache);
    cache_path(directory, "", path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return 0;
    uint8_t *data = fd < 0 ? NULL : malloc(CACHE_BYTES_MAX + 1);
    ssize_t bytes = data ? cache_read_file(fd, data, CACHE_BYTES_MAX + 1) : -1;
    const char *fault = bytes < 0 ? strerror(errno) : cache_decode(data, (size_t)bytes, cache);
    free(data);
    if (fd >= 0) close(fd);
    if (!fault) return 1;
    snprintf(error, error_bytes, "%s cannot be read: %s", path, fault);
    return -1;
}

static bool cache_write_file(const char *path, const uint8_t *data, size_t bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    size_t used = 0;
    while (used < bytes) {
        ssize_t n = write(fd, data + used, bytes - used);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
    }
    bool good = used == bytes && fsync(fd) == 0;
    return close(fd) == 0 && good;
}

/* Under this name beside its place, synced. */
static bool cache_write(const char *directory, const char *suffix,
                        const struct cluster_cache *cache) {
    char beside[4200];
    cache_path(directory, suffix, beside, sizeof beside);
    uint8_t *data = malloc(CACHE_BYTES_MAX), *scratch = malloc(CLUSTER_ENCODED_BYTES_MAX);
    bool good = data && scratch;
    errno = good ? 0 : ENOMEM;
    if (good) good = cache_write_file(beside, data, cache_encode(cache, data, scratch));
    free(data);
    free(scratch);
    return good;
}

static bool cache_put(const char *directory, const char *suffix) {
    char path[4200], beside[4200];
    cache_path(directory, "", path, sizeof path);
    cache_path(directory, suffix, beside, sizeof beside);
    return rename(beside, path) == 0 && directory_sync(directory) == 0;
}

static int cache_outcome(bool good, const char *directory, char *error, size_t error_bytes) {
    if (good) return 0;
    snprintf(error, error_bytes, "cannot write %s/cluster.msgpack: %s", directory,
             strerror(errno));
    return -1;
}

int cluster_cache_save(const char *directory, const struct cluster_cache *cache, char *error,
                       size_t error_bytes) {
    bool good = cache_write(directory, ".new", cache) && cache_put(directory, ".new");
    return cache_outcome(good, directory, error, error_bytes);
}

static const char cache_promised[] = ".adopted";

int cluster_cache_promise(const char *directory, const struct cluster_cache *cache, char *error,
                          size_t error_bytes) {
    bool good = cache_write(directory, cache_promised, cache) && directory_sync(directory) == 0;
    return cache_outcome(good, directory, error, error_bytes);
}

bool cluster_cache_is_promised(const char *directory) {
    char path[4200];
    cache_path(directory, cache_promised, path, sizeof path);
    return access(path, F_OK) == 0;
}

int cluster_cache_fulfil(const char *directory, char *error, size_t error_bytes) {
    return cache_outcome(cache_put(directory, cache_promised), directory, error, error_bytes);
}

/* -- what it says ------------------------------------------------------------------------------ */

bool cluster_cache_may_begin(const struct cluster_cache *cache) {
    const struct cluster_document *d = &cache->document;
    for (uint32_t i = 0; cache->version > 1 && i < d->shards_count; i++) {
        uint64_t server = cluster_server_on(&d->shards[i], cache->node);
        if (server != 0 && consensus_server_incarnation(server) == 0) return false;
    }
    return true;
}

bool cluster_cache_has(const struct cluster_cache *c, uint32_t shard, uint64_t server) {
    for (uint32_t i = 0; i < c->replicas_count; i++)
        if (c->replicas[i].shard == shard && c->replicas[i].server == server) return true;
    return false;
}

void cluster_cache_take(struct cluster_cache *c, uint64_t version,
                        const struct cluster_document *document) {
    uint32_t kept = 0;
    c->version = version;
    c->document = *document;
    for (uint32_t i = 0; i < c->replicas_count; i++) {
        const struct cluster_shard *s = cluster_shard_find(document, c->replicas[i].shard);
        if (s && cluster_server_on(s, c->node) == c->replicas[i].server)
            c->replicas[kept++] = c->replicas[i];
    }
    c->replicas_count = kept;
}

bool cluster_cache_note_running(struct cluster_cache *c) {
    uint32_t before = c->replicas_count;
    for (uint32_t i = 0; i < c->document.shards_count; i++) {
        const struct cluster_shard *s = &c->document.shards[i];
        uint64_t server = cluster_server_on(s, c->node);
        if (server == 0 || s->state != CLUSTER_SHARD_ACTIVE ||
            cluster_cache_has(c, s->shard, server))
            continue;
        require(c->replicas_count < CLUSTER_CACHE_REPLICAS_MAX);
        c->replicas[c->replicas_count++] = (struct cluster_cache_replica){s->shard, server};
    }
    return c->replicas_count > before;
}
