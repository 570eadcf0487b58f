#include "engine/feed/feed_copies.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/wire/msgpack_writer.h"

static const uint64_t default_bytes_per_second = 256ull << 20;
static const int64_t default_idle_ms = 5 * 60000;
static const int64_t default_spare_ms = 30000;

struct feed_copy {
    uint64_t id;                   /* 0 = free */
    uint64_t bytes;
    int64_t used_ms;               /* monotonic */
    uint32_t holders;
    bool ended;                    /* goes with its last holder */
};

/* A request that waits for the thread. */
struct feed_copy_job {
    struct feed_copy_job *next;
    struct responder_slot *slot;
    struct feed_request request;
};

struct feed_copies {
    struct feed_copies_options options;
    char directory[1024];
    pthread_t thread;
    pthread_mutex_t lock;          /* guards all below */
    pthread_cond_t wake;
    struct feed_copy_job *first, **last;
    struct feed_copy copies[FEED_COPIES_MAX];
    atomic_bool stop;
};

static void path_of(const struct feed_copies *s, uint64_t id, char *out, size_t out_bytes) {
    snprintf(out, out_bytes, "%s/%016llx", s->directory, (unsigned long long)id);
}

/* The lock is held. */
static struct feed_copy *find(struct feed_copies *s, uint64_t id) {
    for (int i = 0; i < FEED_COPIES_MAX && id != 0; i++) {
        if (s->copies[i].id == id) return &s->copies[i];
    }
    return NULL;
}

static void drop(struct feed_copies *s, struct feed_copy *copy) {
    char path[1100];
    path_of(s, copy->id, path, sizeof path);
    unlink(path);
    *copy = (struct feed_copy){.id = 0};
}

static void drop_idle(struct feed_copies *s, int64_t now_ms) {
    for (int i = 0; i < FEED_COPIES_MAX; i++) {
        struct feed_copy *copy = &s->copies[i];
        if (copy->id != 0 && copy->holders == 0 && now_ms - copy->used_ms > s->options.idle_ms)
            drop(s, copy);
    }
}

/* Room for a new copy; NULL with *wait_ms until there may be some. The lock is held. */
static struct feed_copy *find_room(struct feed_copies *s, int64_t now_ms, int64_t *wait_ms) {
    struct feed_copy *oldest = NULL;
    drop_idle(s, now_ms);
    for (int i = 0; i < FEED_COPIES_MAX; i++) {
        struct feed_copy *copy = &s->copies[i];
        if (copy->id == 0) return copy;
        if (copy->holders == 0 && (!oldest || copy->used_ms < oldest->used_ms)) oldest = copy;
    }
    *wait_ms = oldest ? oldest->used_ms + s->options.spare_ms - now_ms : s->options.spare_ms;
    if (*wait_ms > 0) return NULL;
    log_info("a snapshot that nobody asked for in %lld s makes room for a new one",
             (long long)(now_ms - oldest->used_ms) / 1000);
    drop(s, oldest);
    return oldest;
}

/* -- answers (the thread) ---------------------------------------------------------------------- */

static nng_msg *reply_of(const uint8_t *head, size_t head_bytes, const void *tail,
                         size_t tail_bytes) {
    nng_msg *message;
    if (nng_msg_alloc(&message, head_bytes + tail_bytes) != 0) return NULL;
    memcpy(nng_msg_body(message), head, head_bytes);
    if (tail_bytes != 0) memcpy((uint8_t *)nng_msg_body(message) + head_bytes, tail, tail_bytes);
    return message;
}

static void reply_begun(struct responder_slot *slot, uint64_t id, uint64_t bytes,
                        const struct feed_copy_tokens *tokens) {
    uint8_t buffer[256 * 24 + 64 + CLUSTER_ID_BYTES];
    struct msgpack_writer w;
    msgpack_writer_init(&w, buffer, sizeof buffer);
    msgpack_write_array(&w, tokens->cluster_id[0] ? 6 : 5);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, RESULT_OK);
    msgpack_write_uint(&w, id);
    msgpack_write_uint(&w, bytes);
    msgpack_write_array(&w, tokens->count);
    for (uint32_t i = 0; i < tokens->count; i++) {
        msgpack_write_array(&w, 2);
        msgpack_write_uint(&w, tokens->tokens[i].shard);
        msgpack_write_uint(&w, tokens->tokens[i].index);
    }
    if (tokens->cluster_id[0]) msgpack_write_text(&w, tokens->cluster_id);
    responder_reply(slot, reply_of(buffer, msgpack_writer_size(&w), NULL, 0));
}

static void refuse_for_room(const struct feed_copies *s, struct responder_slot *slot,
                            int64_t wait_ms) {
    char sentence[160];
    snprintf(sentence, sizeof sentence, "%d snapshots are kept here, which is the limit, and each "
             "was read in the last %lld s: try again in %lld s", FEED_COPIES_MAX,
             (long long)(s->options.spare_ms + 999) / 1000, (long long)(wait_ms + 999) / 1000);
    responder_reply(slot, feed_refusal(RESULT_OVERLOADED, sentence, (uint64_t)wait_ms));
}

static void serve_begin(struct feed_copies *s, const struct feed_copy_job *job) {
    static _Thread_local struct feed_copy_tokens tokens;
    char path[1100], error[512] = "";
    struct stat st = {0};
    int64_t wait_ms = 0;
    pthread_mutex_lock(&s->lock);
    struct feed_copy *copy = find_room(s, clock_mono_ms(), &wait_ms);
    pthread_mutex_unlock(&s->lock);
    if (!copy) {
        refuse_for_room(s, job->slot, wait_ms);
        return;
    }
    uint64_t id = (uint64_t)clock_mono_ns();
    tokens.count = 0;
    tokens.cluster_id[0] = 0;
    path_of(s, id, path, sizeof path);
    int code = s->options.make(s->options.arg, job->request.shard, path, &s->stop, &tokens, error,
                               sizeof error);
    if (code == 0 && stat(path, &st) != 0) code = RESULT_STORAGE_FAILED;
    if (code != 0) {
        log_warn("no snapshot: %s", error[0] ? error : result_code_text((uint32_t)code));
        unlink(path);
        responder_reply(job->slot, feed_refusal((uint16_t)code, error, 0));
        return;
    }
    pthread_mutex_lock(&s->lock);
    *copy = (struct feed_copy){.id = id, .bytes = (uint64_t)st.st_size,
                              .used_ms = clock_mono_ms()};
    pthread_mutex_unlock(&s->lock);
    reply_begun(job->slot, id, (uint64_t)st.st_size, &tokens);
}

static ssize_t read_chunk(const char *path, uint8_t *buffer, size_t bytes, uint64_t offset) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t got = 0;
    while (got < bytes) {
        ssize_t n = pread(fd, buffer + got, bytes - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) got = SIZE_MAX;
        if (n <= 0) break;
        got += (size_t)n;
    }
    close(fd);
    return got == SIZE_MAX ? -1 : (ssize_t)got;
}

static void serve_chunk(struct feed_copies *s, const struct feed_copy_job *job, uint8_t *buffer) {
    const struct feed_request *q = &job->request;
    size_t bytes = q->bytes_max && q->bytes_max < FEED_COPY_CHUNK_BYTES
                       ? q->bytes_max
                       : FEED_COPY_CHUNK_BYTES;
    char path[1100];
    if (!feed_copies_hold(s, q->snapshot, path, sizeof path)) {
        responder_reply(job->slot, feed_refusal(RESULT_SNAPSHOT_GONE, NULL, 0));
        return;
    }
    int64_t began_ns = clock_mono_ns();
    ssize_t got = read_chunk(path, buffer, bytes, q->offset);
    feed_copies_release(s, q->snapshot);
    if (got < 0) {
        responder_reply(job->slot, feed_refusal(RESULT_STORAGE_FAILED, NULL, 0));
        return;
    }
    uint8_t head[64], tail[16];
    struct msgpack_writer w, t;
    msgpack_writer_init(&w, head, sizeof head);
    msgpack_write_array(&w, 5);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, RESULT_OK);
    msgpack_write_uint(&w, q->offset);
    msgpack_write_bin(&w, NULL, 0);
    msgpack_writer_rewind(&w, msgpack_writer_size(&w) - 2);
    msgpack_writer_tagged_(&w, 0xc6, (uint32_t)got, 4);
    msgpack_writer_init(&t, tail, sizeof tail);
    msgpack_write_uint(&t, XXH3_64bits(buffer, (size_t)got));
    memcpy(buffer + got, tail, msgpack_writer_size(&t));
    responder_reply(job->slot, reply_of(head, msgpack_writer_size(&w), buffer,
                                        (size_t)got + msgpack_writer_size(&t)));
    int64_t due_ns = (int64_t)((double)got * 1e9 / (double)s->options.bytes_per_second);
    int64_t took_ns = clock_mono_ns() - began_ns;
    if (took_ns < due_ns) usleep((useconds_t)((due_ns - took_ns) / 1000));
}

static void serve_end(struct feed_copies *s, const struct feed_copy_job *job) {
    static const uint8_t done[] = {0x92, FEED_VERSION, RESULT_OK};
    pthread_mutex_lock(&s->lock);
    struct feed_copy *copy = find(s, job->request.snapshot);
    if (copy) copy->ended = true;
    if (copy && copy->holders == 0) drop(s, copy);
    pthread_mutex_unlock(&s->lock);
    responder_reply(job->slot, reply_of(done, sizeof done, NULL, 0));
}

static void serve(struct feed_copies *s, const struct feed_copy_job *job, uint8_t *buffer) {
    switch (job->request.kind) {
    case FEED_SNAPSHOT_BEGIN: serve_begin(s, job); break;
    case FEED_SNAPSHOT_CHUNK: serve_chunk(s, job, buffer); break;
    default: serve_end(s, job); break;
    }
}

static struct feed_copy_job *next_job(struct feed_copies *s) {
    pthread_mutex_lock(&s->lock);
    while (!s->first && !atomic_load(&s->stop)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 10;
        pthread_cond_timedwait(&s->wake, &s->lock, &until);
        drop_idle(s, clock_mono_ms());
    }
    struct feed_copy_job *job = s->first;
    if (job) s->first = job->next;
    if (!s->first) s->last = &s->first;
    pthread_mutex_unlock(&s->lock);
    return job;
}

static void *feed_copies_main(void *arg) {
    struct feed_copies *s = arg;
    struct feed_copy_job *job;
    uint8_t *buffer = malloc(FEED_COPY_CHUNK_BYTES + 16);
    pthread_setname_np(pthread_self(), "snapshots");
    while ((job = next_job(s))) {
        if (atomic_load(&s->stop) || !buffer)
            responder_reply(job->slot, feed_refusal(RESULT_SHUTTING_DOWN, NULL, 0));
        else
            serve(s, job, buffer);
        free(job);
    }
    free(buffer);
    return NULL;
}

/* -- any thread -------------------------------------------------------------------------------- */

void feed_copies_offer(struct feed_copies *s, struct responder_slot *slot,
                     const struct feed_request *request) {
    struct feed_copy_job *job = malloc(sizeof *job);
    if (!job) {
        responder_reply(slot, NULL);
        return;
    }
    *job = (struct feed_copy_job){NULL, slot, *request};
    pthread_mutex_lock(&s->lock);
    bool taken = !atomic_load(&s->stop);
    if (taken) {
        *s->last = job;
        s->last = &job->next;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (taken) return;
    free(job);
    responder_reply(slot, feed_refusal(RESULT_SHUTTING_DOWN, NULL, 0));
}

bool feed_copies_hold(struct feed_copies *s, uint64_t id, char *path, size_t path_bytes) {
    pthread_mutex_lock(&s->lock);
    struct feed_copy *copy = find(s, id);
    if (copy && copy->ended) copy = NULL;
    if (copy) {
        copy->holders++;
        copy->used_ms = clock_mono_ms();
        path_of(s, id, path, path_bytes);
    }
    pthread_mutex_unlock(&s->lock);
    return copy != NULL;
}

void feed_copies_release(struct feed_copies *s, uint64_t id) {
    pthread_mutex_lock(&s->lock);
    struct feed_copy *copy = find(s, id);
    require(copy && copy->holders > 0);
    copy->holders--;
    copy->used_ms = clock_mono_ms();
    if (copy->ended && copy->holders == 0) drop(s, copy);
    pthread_mutex_unlock(&s->lock);
}

static void remove_files(const char *directory) {
    DIR *d = opendir(directory);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] != '.') unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

struct feed_copies *feed_copies_start(const struct feed_copies_options *options, char *error,
                                  size_t error_bytes) {
    struct feed_copies *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(error, error_bytes, "no memory for snapshots");
        return NULL;
    }
    s->options = *options;
    snprintf(s->directory, sizeof s->directory, "%s", options->directory);
    s->options.directory = s->directory;
    if (s->options.bytes_per_second == 0) s->options.bytes_per_second = default_bytes_per_second;
    if (s->options.idle_ms == 0) s->options.idle_ms = default_idle_ms;
    if (s->options.spare_ms == 0) s->options.spare_ms = default_spare_ms;
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    int rc = mkdir(s->directory, 0750) == 0 || errno == EEXIST ? 0 : errno;
    if (rc == 0) remove_files(s->directory);
    if (rc == 0) rc = pthread_create(&s->thread, NULL, feed_copies_main, s);
    if (rc == 0) return s;
    snprintf(error, error_bytes, "%s: %s", s->directory, strerror(rc));
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s);
    return NULL;
}

void feed_copies_stop(struct feed_copies *s) {
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->stop, true);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
}

void feed_copies_free(struct feed_copies *s) {
    remove_files(s->directory);
    rmdir(s->directory);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s);
}
