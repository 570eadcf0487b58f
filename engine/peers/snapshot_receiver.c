#include "engine/peers/snapshot_receiver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* the streaming state on the stack */
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/base/log.h"

enum { RECEIVER_PATH_BYTES = 256, RECEIVER_DIGEST_BYTES = 1 << 18, RECEIVER_OFFER_MS = 100,
       RECEIVER_NAME_BYTES = 64, RECEIVER_KEEP_S = 86400 };

enum receiver_phase { RECEIVER_EMPTY = 0, RECEIVER_RECEIVING, RECEIVER_CHECKING,
                      RECEIVER_HANDING_OVER };

enum check_outcome { CHECK_RUNNING = 0, CHECK_SOUND, CHECK_DAMAGED, CHECK_UNFIT };

struct snapshot_receiver {
    struct snapshot_receiver_options options;
    char directory[RECEIVER_PATH_BYTES];
    uint8_t phase;                 /* enum receiver_phase */
    struct snapshot_frame header;  /* of the transfer under way */
    char path[RECEIVER_PATH_BYTES];
    int fd;
    uint64_t arrived, synced;
    int64_t heard_ms;
    /* The last one that was handed over; its file goes when it is installed or not wanted. */
    uint64_t done_transfer, done_from;
    int64_t done_ms;
    char done_path[RECEIVER_PATH_BYTES];
    /* -- the check's thread writes these; read when `outcome` is not RUNNING */
    pthread_t thread;
    bool thread_runs;
    atomic_int outcome;            /* enum check_outcome */
    struct storage_meta meta;
    char error[512];
    struct snapshot_receiver_progress counters;
};

/* -- answers --------------------------------------------------------------------------------- */

static void receiver_answer(struct snapshot_receiver *r, const struct snapshot_frame *to,
                            struct snapshot_frame answer) {
    uint8_t bytes[SNAPSHOT_FRAME_HEAD_BYTES_MAX];
    answer.shard = r->options.shard;
    answer.from = r->options.server;
    answer.to = to->from;
    answer.transfer = to->transfer;
    size_t size = snapshot_frame_encode(&answer, bytes, sizeof bytes);
    require(size > 0);
    r->options.send(r->options.arg, answer.to, answer.kind, bytes, size);
}

static void receiver_acknowledge(struct snapshot_receiver *r, const struct snapshot_frame *to,
                                 uint8_t state, uint64_t offset) {
    receiver_answer(r, to, (struct snapshot_frame){.kind = SNAPSHOT_ACK, .state = state,
                                                   .offset = offset});
}

static void receiver_refuse(struct snapshot_receiver *r, const struct snapshot_frame *to,
                            uint8_t reason) {
    receiver_answer(r, to, (struct snapshot_frame){.kind = SNAPSHOT_REFUSE, .reason = reason});
}

/* -- the check's thread ---------------------------------------------------------------------- */

/* What lies on the disk, not what was written to it. errno-like. */
static int check_digest(struct snapshot_receiver *r, uint64_t *digest) {
    XXH3_state_t state;
    uint8_t *buffer = malloc(RECEIVER_DIGEST_BYTES);
    int fd = open(r->path, O_RDWR | O_CLOEXEC), rc = 0;
    if (fd < 0 || !buffer) rc = fd < 0 ? errno : ENOMEM;
    else if (fsync(fd) != 0) rc = errno;
    XXH3_64bits_reset(&state);
    while (rc == 0) {
        ssize_t got = read(fd, buffer, RECEIVER_DIGEST_BYTES);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) rc = errno;
        if (got <= 0) break;
        XXH3_64bits_update(&state, buffer, (size_t)got);
    }
    *digest = XXH3_64bits_digest(&state);
    if (fd >= 0) close(fd);
    free(buffer);
    return rc;
}

static void *receiver_check(void *arg) {
    struct snapshot_receiver *r = arg;
    struct storage *storage = r->options.storage;
    uint64_t digest = 0;
    int outcome = CHECK_SOUND;
    int rc = check_digest(r, &digest);
    if (rc != 0 || digest != r->header.transfer) {
        snprintf(r->error, sizeof r->error, "%s: %s", r->path,
                 rc != 0 ? strerror(rc) : "its checksum is not the sender's");
        outcome = CHECK_DAMAGED;
    } else if (storage->ops->check_state(storage, r->path, &r->meta, r->error,
                                         sizeof r->error) != 0) {
        outcome = CHECK_UNFIT;
    } else if (r->meta.applied_index != r->header.index) {
        snprintf(r->error, sizeof r->error, "%s: its marker is not the one announced", r->path);
        outcome = CHECK_UNFIT;
    }
    atomic_store(&r->outcome, outcome);
    if (r->options.wake) r->options.wake(r->options.arg);
    return NULL;
}

/* -- files ----------------------------------------------------------------------------------- */

/* The name says whose bytes they are. */
static void receiver_path(const struct snapshot_receiver *r, const struct snapshot_frame *header,
                          char path[RECEIVER_PATH_BYTES]) {
    snprintf(path, RECEIVER_PATH_BYTES, "%.*s/%016" PRIx64 "-%" PRIx64 ".state",
             RECEIVER_PATH_BYTES - RECEIVER_NAME_BYTES, r->directory, header->transfer,
             header->bytes);
}

/* All files but the one that is wanted and the one that was handed over; without a wanted one those
 * that no sender can mean any more. */
static void receiver_remove_others(const struct snapshot_receiver *r, const char *wanted) {
    DIR *d = opendir(r->directory);
    if (!d) return;
    for (struct dirent *entry; (entry = readdir(d));) {
        char path[RECEIVER_PATH_BYTES + 256];
        size_t n = strlen(entry->d_name);
        if (n < 6 || strcmp(entry->d_name + n - 6, ".state") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", r->directory, entry->d_name);
        struct stat st;
        bool old = stat(path, &st) == 0 && time(NULL) - st.st_mtime > RECEIVER_KEEP_S;
        if (wanted ? strcmp(path, wanted) != 0 && strcmp(path, r->done_path) != 0 : old) {
            unlink(path);
        }
    }
    closedir(d);
}

static void receiver_close(struct snapshot_receiver *r) {
    if (r->fd >= 0) close(r->fd);
    r->fd = -1;
}

static void receiver_drop(struct snapshot_receiver *r) {
    receiver_close(r);
    unlink(r->path);
    r->phase = RECEIVER_EMPTY;
}

static bool receiver_has_room(const struct snapshot_receiver *r, uint64_t bytes) {
    struct statvfs fs;
    if (statvfs(r->directory, &fs) != 0) return true;
    return (uint64_t)fs.f_bavail * fs.f_frsize >= bytes + r->options.room_floor_bytes;
}

static void receiver_start_check(struct snapshot_receiver *r) {
    receiver_close(r);
    atomic_store(&r->outcome, CHECK_RUNNING);
    r->phase = RECEIVER_CHECKING;
    if (pthread_create(&r->thread, NULL, receiver_check, r) == 0) {
        r->thread_runs = true;
        return;
    }
    /* The sender asks again: then the file is found whole. */
    r->phase = RECEIVER_EMPTY;
}

/* -- frames in ------------------------------------------------------------------------------- */

/* Opens the file of a transfer, with what is there of it. False = refused. */
static bool receiver_begin(struct snapshot_receiver *r, const struct snapshot_frame *f) {
    struct stat st;
    if (r->phase == RECEIVER_RECEIVING) receiver_close(r);
    r->phase = RECEIVER_EMPTY;
    receiver_path(r, f, r->path);
    receiver_remove_others(r, r->path);
    r->fd = open(r->path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (r->fd < 0 || fstat(r->fd, &st) != 0) {
        log_warn("%s cannot be opened: %s", r->path, strerror(errno));
        receiver_close(r);
        receiver_refuse(r, f, SNAPSHOT_NO_ROOM);
        return false;
    }
    uint64_t there = (uint64_t)st.st_size > f->bytes ? 0 : (uint64_t)st.st_size;
    if (there < f->bytes) there -= there % f->chunk_bytes;
    if (!receiver_has_room(r, f->bytes - there)) {
        log_warn("shard %u: no room in %s for a state of %" PRIu64 " bytes", r->options.shard,
                 r->directory, f->bytes);
        receiver_close(r);
        if (there == 0) unlink(r->path);
        receiver_refuse(r, f, SNAPSHOT_NO_ROOM);
        return false;
    }
    r->header = *f;
    if (f->transfer == r->done_transfer) r->done_transfer = 0;
    r->arrived = r->synced = there;
    r->phase = RECEIVER_RECEIVING;
    return true;
}

/* Is what `f` announces worth giving up what is under way? */
static bool receiver_is_newer(const struct snapshot_receiver *r, const struct snapshot_frame *f,
                              int64_t now_ms) {
    if (f->term != r->header.term) return f->term > r->header.term;
    return f->index > r->header.index || now_ms - r->heard_ms >= SNAPSHOT_REST_MS;
}

/* Whether this is a late header of what was handed over. The shard may have thrown that away, since
 * it came from a leader whose time was over: whoever sends the same again, after the pause that
 * every sender makes, is listened to. */
static bool receiver_is_done(const struct snapshot_receiver *r, const struct snapshot_frame *f,
                             int64_t now_ms) {
    if (f->transfer != r->done_transfer || f->from != r->done_from) return false;
    return now_ms - r->done_ms < SNAPSHOT_REST_MS || access(r->done_path, F_OK) == 0;
}

static void receiver_header(struct snapshot_receiver *r, const struct snapshot_frame *f,
                            int64_t now_ms) {
    if (receiver_is_done(r, f, now_ms)) {
        receiver_acknowledge(r, f, SNAPSHOT_ACK_COMPLETE, f->bytes);
        return;
    }
    bool same = r->phase != RECEIVER_EMPTY && f->transfer == r->header.transfer &&
                f->bytes == r->header.bytes && f->from == r->header.from;
    bool fixed = r->phase == RECEIVER_CHECKING || r->phase == RECEIVER_HANDING_OVER;
    if (!same && (fixed || (r->phase == RECEIVER_RECEIVING && !receiver_is_newer(r, f, now_ms)))) {
        receiver_refuse(r, f, SNAPSHOT_BUSY);
        return;
    }
    if (same && fixed) {
        if (f->term > r->header.term) r->header.term = f->term;
        receiver_acknowledge(r, f, SNAPSHOT_ACK_CHECKING, f->bytes);
        return;
    }
    if (same) {
        if (f->term > r->header.term) r->header.term = f->term;
    } else if (!receiver_begin(r, f)) {
        return;
    }
    r->heard_ms = now_ms;
    if (r->arrived == r->header.bytes) receiver_start_check(r);
    receiver_acknowledge(r, f, r->phase == RECEIVER_CHECKING ? SNAPSHOT_ACK_CHECKING
                                                             : SNAPSHOT_ACK_HEADER, r->arrived);
}

/* 0 or errno. */
static int receiver_write(struct snapshot_receiver *r, const struct snapshot_frame *f) {
    uint32_t done = 0;
    while (done < f->data.size) {
        ssize_t put = pwrite(r->fd, (const uint8_t *)f->data.data + done, f->data.size - done,
                             (off_t)(f->offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return put < 0 ? errno : ENOSPC;
        done += (uint32_t)put;
    }
    r->arrived += f->data.size;
    if (r->arrived - r->synced < SNAPSHOT_SYNC_BYTES) return 0;
    /* Else the kernel saves up what it then writes at once, and the log waits behind it. */
    r->synced = r->arrived;
    return fdatasync(r->fd) == 0 ? 0 : errno;
}

static void receiver_chunk(struct snapshot_receiver *r, const struct snapshot_frame *f,
                           int64_t now_ms) {
    if (r->phase == RECEIVER_EMPTY || f->transfer != r->header.transfer ||
        f->from != r->header.from) {
        if (f->transfer != r->done_transfer) receiver_refuse(r, f, SNAPSHOT_UNKNOWN);
        return;
    }
    if (r->phase != RECEIVER_RECEIVING) return;
    r->heard_ms = now_ms;
    uint64_t left = r->header.bytes - r->arrived;
    uint64_t wanted = left < r->header.chunk_bytes ? left : r->header.chunk_bytes;
    bool fits = f->offset == r->arrived && f->data.size == wanted;
    int rc = fits ? receiver_write(r, f) : 0;
    if (rc != 0) {
        log_warn("%s cannot be written: %s", r->path, strerror(rc));
        receiver_drop(r);
        receiver_refuse(r, f, SNAPSHOT_NO_ROOM);
        return;
    }
    receiver_acknowledge(r, f, SNAPSHOT_ACK_CHUNK, r->arrived);
    if (r->arrived == r->header.bytes) receiver_start_check(r);
}

void snapshot_receiver_receive(struct snapshot_receiver *r, const struct snapshot_frame *f,
                               int64_t now_ms) {
    if (f->shard != r->options.shard || f->to != r->options.server) return;
    if (f->kind == SNAPSHOT_HEADER) receiver_header(r, f, now_ms);
    if (f->kind == SNAPSHOT_CHUNK) receiver_chunk(r, f, now_ms);
}

/* -- the rest -------------------------------------------------------------------------------- */

static void receiver_checked(struct snapshot_receiver *r) {
    pthread_join(r->thread, NULL);
    r->thread_runs = false;
    int outcome = atomic_load(&r->outcome);
    if (outcome == CHECK_SOUND) {
        r->phase = RECEIVER_HANDING_OVER;
        return;
    }
    log_warn("shard %u: a state from server %" PRIu64 " is not taken: %s", r->options.shard,
             r->header.from, r->error);
    r->counters.damaged++;
    receiver_drop(r);
    receiver_refuse(r, &r->header, outcome == CHECK_DAMAGED ? SNAPSHOT_DAMAGED : SNAPSHOT_UNFIT);
}

int64_t snapshot_receiver_work(struct snapshot_receiver *r, int64_t now_ms) {
    if (r->phase == RECEIVER_CHECKING && atomic_load(&r->outcome) != CHECK_RUNNING) {
        receiver_checked(r);
    }
    if (r->phase != RECEIVER_HANDING_OVER) return INT64_MAX;
    struct shard_snapshot snapshot = {.from = r->header.from, .leader_term = r->header.term,
                                      .meta = r->meta};
    static_assert(sizeof snapshot.path >= RECEIVER_PATH_BYTES, "a path fits");
    memcpy(snapshot.path, r->path, sizeof r->path);
    if (!r->options.complete(r->options.arg, &snapshot)) return now_ms + RECEIVER_OFFER_MS;
    r->done_transfer = r->header.transfer;
    r->done_from = r->header.from;
    r->done_ms = now_ms;
    memcpy(r->done_path, r->path, sizeof r->path);
    r->phase = RECEIVER_EMPTY;
    r->counters.completed++;
    receiver_acknowledge(r, &r->header, SNAPSHOT_ACK_COMPLETE, r->header.bytes);
    return INT64_MAX;
}

struct snapshot_receiver *snapshot_receiver_new(const struct snapshot_receiver_options *options) {
    struct snapshot_receiver *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->options = *options;
    r->fd = -1;
    if (r->options.room_floor_bytes == 0) {
        r->options.room_floor_bytes = 2ULL * STORAGE_ROOM_FLOOR_BYTES;
    }
    int n = snprintf(r->directory, sizeof r->directory, "%s", options->directory);
    bool made = mkdir(options->directory, 0750) == 0 || errno == EEXIST;
    if (!made || n + RECEIVER_NAME_BYTES >= (int)sizeof r->path) {
        free(r);
        return NULL;
    }
    receiver_remove_others(r, NULL);
    return r;
}

void snapshot_receiver_free(struct snapshot_receiver *r) {
    if (r->thread_runs) pthread_join(r->thread, NULL);
    receiver_close(r);
    free(r);
}

void snapshot_receiver_progress(const struct snapshot_receiver *r,
                                struct snapshot_receiver_progress *progress) {
    *progress = r->counters;
    progress->receiving = r->phase == RECEIVER_RECEIVING;
    progress->checking = r->phase == RECEIVER_CHECKING;
    if (r->phase == RECEIVER_EMPTY) return;
    progress->index = r->header.index;
    progress->bytes = r->header.bytes;
    progress->arrived = r->arrived;
}
