#include "engine/replica/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/utf8.h"
#include "engine/replica/feed_client.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"

enum {
    IMPORT_BEGIN_MS = 120000,      /* a large copy takes its time to be made */
    IMPORT_CHUNK_MS = 5000,
    IMPORT_ATTEMPTS = 10,          /* for one chunk */
    IMPORT_RETRY_MS = 300,
    IMPORT_CHUNK_BYTES = 1 << 20
};

static int fail(char *error, size_t error_bytes, const char *url, const char *what) {
    snprintf(error, error_bytes, "%s: %s", url, what);
    return -1;
}

static int refused(char *error, size_t error_bytes, const char *url, const struct feed_reply *p) {
    bool told = p->sentence.size != 0 && utf8_is_valid(p->sentence.data, p->sentence.size);
    snprintf(error, error_bytes, "%s: %.*s", url, told ? (int)p->sentence.size : 0,
             told ? (const char *)p->sentence.data : "");
    return told ? -1 : fail(error, error_bytes, url, result_code_text(p->code));
}

/* The index of the first token of a SNAPSHOT_BEGIN's answer: the shard's, when one was asked. */
static bool first_token(struct bytes tokens, uint64_t *index) {
    struct msgpack_reader r;
    uint32_t count = 0;
    uint64_t shard;
    msgpack_reader_init(&r, tokens.data, tokens.size);
    return msgpack_read_array(&r, &count) == MSGPACK_OK && count > 0 &&
           msgpack_read_array(&r, &count) == MSGPACK_OK && count == 2 &&
           msgpack_read_uint(&r, &shard) == MSGPACK_OK &&
           msgpack_read_uint(&r, index) == MSGPACK_OK;
}

static int begin(const char *url, uint32_t shard, const char *cluster_id, nng_aio *with,
                 struct feed_reply *p, uint64_t *index, char *error, size_t error_bytes) {
    uint8_t request[32];
    struct msgpack_writer w;
    nng_msg *reply;
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_SNAPSHOT_BEGIN);
    if (shard == UINT32_MAX) msgpack_write_nil(&w);
    else msgpack_write_uint(&w, shard);
    if (feed_ask(url, request, msgpack_writer_size(&w), IMPORT_BEGIN_MS, with, &reply,
                 error, error_bytes) != 0)
        return -1;
    bool read = feed_reply_decode(nng_msg_body(reply), nng_msg_len(reply), FEED_SNAPSHOT_BEGIN,
                                  FEED_RECORDS, p);
    int rc = 0;
    if (!read) rc = fail(error, error_bytes, url, "it gives no snapshots");
    else if (!feed_reply_is_of(p, cluster_id)) rc = fail(error, error_bytes, url,
                                                         "it is of another cluster");
    else if (p->code != RESULT_OK) rc = refused(error, error_bytes, url, p);
    else if (!first_token(p->rest, index)) rc = fail(error, error_bytes, url, "it has no views");
    nng_msg_free(reply);
    return rc;
}

/* One chunk into the file. Bytes, 0 at the end, -1 = try again, -2 = give up. */
static int64_t chunk(const char *url, uint64_t id, uint64_t offset, int fd, nng_aio *with,
                     char *error, size_t error_bytes) {
    uint8_t request[48];
    struct msgpack_writer w;
    struct feed_reply p;
    nng_msg *reply;
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, 5);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_SNAPSHOT_CHUNK);
    msgpack_write_uint(&w, id);
    msgpack_write_uint(&w, offset);
    msgpack_write_uint(&w, IMPORT_CHUNK_BYTES);
    if (feed_ask(url, request, msgpack_writer_size(&w), IMPORT_CHUNK_MS, with, &reply,
                 error, error_bytes) != 0)
        return -1;
    int64_t got = -1;
    if (!feed_reply_decode(nng_msg_body(reply), nng_msg_len(reply), FEED_SNAPSHOT_CHUNK,
                           FEED_RECORDS, &p)) {
        fail(error, error_bytes, url, "its chunk cannot be read");
    } else if (p.code != RESULT_OK) {
        fail(error, error_bytes, url, result_code_text(p.code));
        got = p.code == RESULT_SNAPSHOT_GONE ? -2 : -1;
    } else if (p.offset != offset ||
               XXH3_64bits(p.records.data, p.records.size) != p.checksum) {
        fail(error, error_bytes, url, "its chunk is damaged");
    } else if (p.records.size == 0) {
        got = 0;
    } else if (pwrite(fd, p.records.data, p.records.size, (off_t)offset) !=
               (ssize_t)p.records.size) {
        fail(error, error_bytes, "no room for the import", strerror(errno));
        got = -2;
    } else {
        got = p.records.size;
    }
    nng_msg_free(reply);
    return got;
}

static int fetch_chunks(const char *url, const struct feed_reply *begun, int fd, nng_aio *with,
                        char *error, size_t error_bytes) {
    uint64_t offset = 0;
    int attempts = 0;
    while (offset < begun->bytes) {
        int64_t got = chunk(url, begun->snapshot, offset, fd, with, error, error_bytes);
        if (got > 0) {
            offset += (uint64_t)got;
            attempts = 0;
            continue;
        }
        if (got == 0) return fail(error, error_bytes, url, "its copy ends early");
        if (got == -2 || ++attempts == IMPORT_ATTEMPTS) return -1;
        if (!feed_pause(IMPORT_RETRY_MS, with)) return -1;
    }
    return 0;
}

static void end(const char *url, uint64_t id, nng_aio *with) {
    uint8_t request[32];
    char error[128];
    struct msgpack_writer w;
    nng_msg *reply;
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_SNAPSHOT_END);
    msgpack_write_uint(&w, id);
    if (feed_ask(url, request, msgpack_writer_size(&w), IMPORT_CHUNK_MS, with, &reply,
                 error, sizeof error) == 0)
        nng_msg_free(reply);
}

int import_fetch(const char *url, uint32_t shard, const char *cluster_id, const char *path,
                 nng_aio *with, uint64_t *index, char *error, size_t error_bytes) {
    struct feed_reply begun;
    if (begin(url, shard, cluster_id, with, &begun, index, error, error_bytes) != 0) return -1;
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    int rc = fd >= 0 ? fetch_chunks(url, &begun, fd, with, error, error_bytes)
                     : fail(error, error_bytes, path, strerror(errno));
    if (fd >= 0 && close(fd) != 0 && rc == 0) rc = fail(error, error_bytes, path, strerror(errno));
    if (rc != 0) unlink(path);
    end(url, begun.snapshot, with);
    return rc;
}
