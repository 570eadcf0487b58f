/* A shard's stored state through the feed: the node makes a copy, which comes in checked chunks. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "clients/cli/text.h"
#include "clients/replay/feed_log.h"
#include "engine/wire/msgpack_writer.h"

enum { STATE_BEGIN_MS = 120000, /* a large copy takes its time to be made */
       STATE_CHUNK_BYTES = 1 << 20 };

struct state_copy {
    struct feed_link *link;
    struct feed_call *call;
    uint64_t id, bytes;
    char *error;
    size_t error_bytes;
};

static int copy_fail(struct state_copy *s, const char *what) {
    snprintf(s->error, s->error_bytes, "%s: %s", feed_link_node(s->link), what);
    return -1;
}

static nng_msg *copy_ask(struct state_copy *s, const struct msgpack_writer *w, uint32_t answer_ms,
                         enum feed_kind kind, struct feed_reply *p) {
    nng_msg *message = feed_call_ask(s->call, w->start, msgpack_writer_size(w), answer_ms, kind, p,
                                     s->error, s->error_bytes);
    if (!message || p->code == RESULT_OK) return message;
    char clean[256];
    copy_fail(s, text_printable(clean, sizeof clean, p->sentence.data, p->sentence.size));
    nng_msg_free(message);
    return NULL;
}

static void copy_question(struct msgpack_writer *w, uint8_t room[FEED_CALL_BYTES_MAX],
                          uint32_t fields, enum feed_kind kind, uint64_t first) {
    msgpack_writer_init(w, room, FEED_CALL_BYTES_MAX);
    msgpack_write_array(w, fields);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, kind);
    msgpack_write_uint(w, first);
}

/* Bytes taken, or -1. */
static int64_t copy_chunk(struct state_copy *s, uint64_t offset, int fd) {
    struct msgpack_writer w;
    struct feed_reply p;
    uint8_t room[FEED_CALL_BYTES_MAX];
    copy_question(&w, room, 5, FEED_SNAPSHOT_CHUNK, s->id);
    msgpack_write_uint(&w, offset);
    msgpack_write_uint(&w, STATE_CHUNK_BYTES);
    nng_msg *message = copy_ask(s, &w, 0, FEED_SNAPSHOT_CHUNK, &p);
    if (!message) return -1;
    int64_t taken = p.records.size;
    if (p.offset != offset || p.records.size == 0 ||
        XXH3_64bits(p.records.data, p.records.size) != p.checksum) {
        taken = copy_fail(s, "a chunk of the stored state is damaged, or there is none");
    } else if (pwrite(fd, p.records.data, p.records.size, (off_t)offset) != (ssize_t)taken) {
        snprintf(s->error, s->error_bytes, "the scratch directory: %s", strerror(errno));
        taken = -1;
    }
    nng_msg_free(message);
    return taken;
}

static int copy_fetch(struct state_copy *s, uint32_t shard, int fd) {
    struct msgpack_writer w;
    struct feed_reply p;
    uint8_t room[FEED_CALL_BYTES_MAX];
    copy_question(&w, room, 3, FEED_SNAPSHOT_BEGIN, shard);
    nng_msg *message = copy_ask(s, &w, STATE_BEGIN_MS, FEED_SNAPSHOT_BEGIN, &p);
    if (!message) return -1;
    s->id = p.snapshot;
    s->bytes = p.bytes;
    nng_msg_free(message);
    int rc = 0;
    for (uint64_t offset = 0; rc == 0 && offset < s->bytes;) {
        int64_t taken = copy_chunk(s, offset, fd);
        if (taken < 0) rc = -1;
        else offset += (uint64_t)taken;
    }
    char sentence[256]; /* a failure's own sentence stays */
    copy_question(&w, room, 3, FEED_SNAPSHOT_END, s->id);
    struct state_copy end = {.link = s->link, .call = s->call, .error = sentence,
                             .error_bytes = sizeof sentence};
    message = rc == 0 ? copy_ask(&end, &w, 0, FEED_SNAPSHOT_END, &p) : NULL;
    if (message) nng_msg_free(message);
    return rc;
}

int feed_log_fetch_state(struct feed_link *link, uint32_t shard, const char *to, char *error,
                         size_t error_bytes) {
    char path[1200];
    struct state_copy s = {.link = link, .error = error, .error_bytes = error_bytes};
    snprintf(path, sizeof path, "%.1100s/data.mdb", to);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        snprintf(error, error_bytes, "%s: %s", path, strerror(errno));
        return -1;
    }
    s.call = feed_call_open(link);
    int rc = s.call ? copy_fetch(&s, shard, fd) : copy_fail(&s, "no memory");
    feed_call_close(s.call);
    if (close(fd) != 0 && rc == 0) rc = copy_fail(&s, strerror(errno));
    if (rc != 0) unlink(path);
    return rc;
}
