#include "engine/peers/snapshot_sender.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* the streaming state on the stack */
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/priority.h"

enum { SENDER_PATH_BYTES = 256, SENDER_DIGEST_BYTES = 1 << 18, SENDER_DUPLICATES = 3,
       SENDER_NO_ROOM_MS = 20, SENDER_DAMAGED_MAX = 3, SENDER_EXPORT_NICE = 4 };

enum export_outcome { EXPORT_RUNNING = 0, EXPORT_DONE = 1, EXPORT_FAILED = 2 };

struct snapshot_sender {
    struct snapshot_sender_options options;
    char path[SENDER_PATH_BYTES];
    uint8_t phase;                 /* enum snapshot_sender_phase */
    /* -- what is asked for */
    uint64_t leader_term, reach;
    int64_t asked_ms;              /* by consensus, or answered by the receiver */
    int64_t rest_until_ms;
    bool given_up;                 /* while it exported */
    /* -- the export's thread writes these; read when `outcome` is not RUNNING */
    pthread_t thread;
    bool thread_runs;
    atomic_bool stop;
    atomic_int outcome;            /* enum export_outcome */
    struct storage_meta *meta;
    uint64_t file_bytes, transfer;
    char error[512];
    /* -- the transfer */
    int fd;
    uint64_t acknowledged, next, sent_max;
    int64_t retry_at_ms, retry_ms, back_at_ms;
    uint32_t damaged;              /* times that the receiver found the whole file so */
    uint32_t duplicates;           /* acknowledgements that said nothing new */
    uint64_t allowance;            /* bytes that may be sent now */
    int64_t allowance_ms;
    struct snapshot_sender_progress counters;
    uint8_t *chunk, *frame;
};

/* -- the export's thread --------------------------------------------------------------------- */

/* The digest of the whole file. errno-like. */
static int sender_digest(struct snapshot_sender *s) {
    XXH3_state_t state;
    uint8_t *buffer = malloc(SENDER_DIGEST_BYTES);
    int fd = open(s->path, O_RDONLY | O_CLOEXEC), rc = 0;
    if (fd < 0 || !buffer) rc = fd < 0 ? errno : ENOMEM;
    XXH3_64bits_reset(&state);
    s->file_bytes = 0;
    while (rc == 0 && !atomic_load(&s->stop)) {
        ssize_t got = read(fd, buffer, SENDER_DIGEST_BYTES);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) rc = errno;
        if (got <= 0) break;
        XXH3_64bits_update(&state, buffer, (size_t)got);
        s->file_bytes += (uint64_t)got;
    }
    s->transfer = XXH3_64bits_digest(&state);
    if (fd >= 0) close(fd);
    free(buffer);
    return rc == 0 && s->file_bytes == 0 ? EIO : rc;
}

static void *sender_export(void *arg) {
    struct snapshot_sender *s = arg;
    struct storage *storage = s->options.storage;
    int outcome = EXPORT_DONE;
    /* On a machine that is busy the running traffic goes first; but the read must not last for
     * minutes, as the pages that it sees cannot be used again meanwhile. */
    priority_set(SENDER_EXPORT_NICE);
    if (storage->ops->export_state(storage, s->path, &s->stop, s->meta, s->error,
                                   sizeof s->error) != 0) {
        outcome = EXPORT_FAILED;
    } else {
        int rc = sender_digest(s);
        if (rc != 0) {
            snprintf(s->error, sizeof s->error, "%s cannot be read: %s", s->path, strerror(rc));
            outcome = EXPORT_FAILED;
        }
    }
    atomic_store(&s->outcome, outcome);
    if (s->options.wake) s->options.wake(s->options.arg);
    return NULL;
}

/* -- phases ---------------------------------------------------------------------------------- */

static void sender_drop_file(struct snapshot_sender *s) {
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    unlink(s->path);
}

static void sender_rest(struct snapshot_sender *s, int64_t now_ms) {
    sender_drop_file(s);
    s->phase = SENDER_RESTING;
    s->rest_until_ms = now_ms + SNAPSHOT_REST_MS;
}

static void sender_fail(struct snapshot_sender *s, const char *why, int64_t now_ms) {
    log_warn("shard %u: its state cannot be sent to server %llu: %s", s->options.shard,
             (unsigned long long)s->options.to, why);
    s->counters.failed++;
    sender_rest(s, now_ms);
}

static void sender_start_export(struct snapshot_sender *s, int64_t now_ms) {
    sender_drop_file(s);
    s->given_up = false;
    atomic_store(&s->stop, false);
    atomic_store(&s->outcome, EXPORT_RUNNING);
    int rc = pthread_create(&s->thread, NULL, sender_export, s);
    if (rc != 0) {
        sender_fail(s, strerror(rc), now_ms);
        return;
    }
    s->thread_runs = true;
    s->phase = SENDER_EXPORTING;
}

/* The header is sent (again) with the next work(). */
static void sender_offer(struct snapshot_sender *s, int64_t now_ms) {
    s->phase = SENDER_OFFERING;
    s->retry_at_ms = now_ms;
    s->retry_ms = SNAPSHOT_RETRY_MS;
}

static void sender_exported(struct snapshot_sender *s, int64_t now_ms) {
    pthread_join(s->thread, NULL);
    s->thread_runs = false;
    if (s->given_up) {
        sender_drop_file(s);
        s->phase = SENDER_IDLE;
        return;
    }
    if (atomic_load(&s->outcome) == EXPORT_FAILED) {
        sender_fail(s, s->error, now_ms);
        return;
    }
    if (s->meta->applied_index < s->reach) {
        sender_fail(s, "it is older than what is needed", now_ms);
        return;
    }
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        sender_fail(s, strerror(errno), now_ms);
        return;
    }
    s->acknowledged = s->next = s->sent_max = 0;
    s->damaged = 0;
    s->allowance = 0;
    s->allowance_ms = now_ms;
    sender_offer(s, now_ms);
}

/* -- frames out ------------------------------------------------------------------------------ */

static struct snapshot_frame sender_frame(const struct snapshot_sender *s, uint8_t kind) {
    return (struct snapshot_frame){.kind = kind, .shard = s->options.shard,
                                   .from = s->options.from, .to = s->options.to,
                                   .transfer = s->transfer};
}

static bool sender_put(struct snapshot_sender *s, const struct snapshot_frame *frame) {
    size_t bytes = snapshot_frame_encode(frame, s->frame, SNAPSHOT_FRAME_BYTES_MAX);
    require(bytes > 0);
    return s->options.send(s->options.arg, s->options.to, frame->kind, s->frame, bytes);
}

static int64_t sender_send_header(struct snapshot_sender *s, int64_t now_ms) {
    if (now_ms < s->retry_at_ms) return s->retry_at_ms;
    struct snapshot_frame header = sender_frame(s, SNAPSHOT_HEADER);
    header.term = s->leader_term;
    header.index = s->meta->applied_index;
    header.bytes = s->file_bytes;
    header.chunk_bytes = s->options.chunk_bytes;
    sender_put(s, &header);
    s->retry_at_ms = now_ms + s->retry_ms;
    if (s->retry_ms < SNAPSHOT_RETRY_MS_MAX) s->retry_ms *= 2;
    return s->retry_at_ms;
}

static uint32_t sender_chunk_bytes(const struct snapshot_sender *s, uint64_t offset) {
    uint64_t left = s->file_bytes - offset;
    return left < s->options.chunk_bytes ? (uint32_t)left : s->options.chunk_bytes;
}

/* 0 sent, 1 no room, -1 the file cannot be read. */
static int sender_send_chunk(struct snapshot_sender *s) {
    uint32_t bytes = sender_chunk_bytes(s, s->next);
    if (pread(s->fd, s->chunk, bytes, (off_t)s->next) != (ssize_t)bytes) return -1;
    struct snapshot_frame chunk = sender_frame(s, SNAPSHOT_CHUNK);
    chunk.offset = s->next;
    chunk.data = (struct bytes){s->chunk, bytes};
    if (!sender_put(s, &chunk)) return 1;
    s->counters.chunks++;
    s->counters.chunks_again += s->next < s->sent_max;
    s->next += bytes;
    if (s->next > s->sent_max) s->sent_max = s->next;
    s->allowance -= bytes;
    return 0;
}

/* Time becomes bytes that may be sent: at most a tenth of a second's worth at a time. */
static void sender_refill(struct snapshot_sender *s, int64_t now_ms) {
    uint64_t rate = s->options.bytes_per_second;
    uint64_t most = rate / 10 + s->options.chunk_bytes;
    int64_t passed_ms = now_ms - s->allowance_ms;
    if (passed_ms <= 0) return;
    if (passed_ms > 1000) passed_ms = 1000;
    s->allowance += rate * (uint64_t)passed_ms / 1000;
    if (s->allowance > most) s->allowance = most;
    s->allowance_ms = now_ms;
}

static int64_t sender_send_some(struct snapshot_sender *s, int64_t now_ms) {
    uint64_t window = (uint64_t)SNAPSHOT_WINDOW_CHUNKS * s->options.chunk_bytes;
    if (now_ms >= s->retry_at_ms) {
        /* Nothing new for long: ask where to go on. */
        int64_t retry_ms = s->retry_ms;
        sender_offer(s, now_ms);
        s->retry_ms = retry_ms;
        return sender_send_header(s, now_ms);
    }
    sender_refill(s, now_ms);
    while (s->next < s->file_bytes && s->next - s->acknowledged < window) {
        uint32_t bytes = sender_chunk_bytes(s, s->next);
        if (s->allowance < bytes) {
            uint64_t wait_ms = (bytes - s->allowance) * 1000 / s->options.bytes_per_second + 1;
            int64_t at_ms = now_ms + (int64_t)wait_ms;
            return at_ms < s->retry_at_ms ? at_ms : s->retry_at_ms;
        }
        int rc = sender_send_chunk(s);
        if (rc < 0) {
            sender_fail(s, "its file cannot be read", now_ms);
            return s->rest_until_ms;
        }
        if (rc > 0) return now_ms + SENDER_NO_ROOM_MS;
    }
    return s->retry_at_ms;
}

/* -- the outside ----------------------------------------------------------------------------- */

void snapshot_sender_pace(struct snapshot_sender *s, uint64_t bytes_per_second) {
    s->options.bytes_per_second = bytes_per_second ? bytes_per_second : SNAPSHOT_BYTES_PER_SECOND;
}

struct snapshot_sender *snapshot_sender_new(const struct snapshot_sender_options *options) {
    struct snapshot_sender *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->options = *options;
    s->fd = -1;
    snapshot_sender_pace(s, options->bytes_per_second);
    if (s->options.chunk_bytes == 0) s->options.chunk_bytes = SNAPSHOT_CHUNK_BYTES_MAX;
    require(s->options.chunk_bytes <= SNAPSHOT_CHUNK_BYTES_MAX);
    int n = snprintf(s->path, sizeof s->path, "%s/to-%llu.state", options->directory,
                     (unsigned long long)options->to);
    s->meta = calloc(1, sizeof *s->meta);
    s->chunk = malloc(s->options.chunk_bytes);
    s->frame = malloc(SNAPSHOT_FRAME_BYTES_MAX);
    bool made = mkdir(options->directory, 0750) == 0 || errno == EEXIST;
    if (s->meta && s->chunk && s->frame && made && n < (int)sizeof s->path) {
        unlink(s->path);
        return s;
    }
    snapshot_sender_free(s);
    return NULL;
}

void snapshot_sender_free(struct snapshot_sender *s) {
    atomic_store(&s->stop, true);
    if (s->thread_runs) pthread_join(s->thread, NULL);
    if (s->path[0]) sender_drop_file(s);
    free(s->meta);
    free(s->chunk);
    free(s->frame);
    free(s);
}

void snapshot_sender_want(struct snapshot_sender *s, uint64_t leader_term, uint64_t reach,
                          int64_t now_ms) {
    bool other_term = leader_term != s->leader_term;
    s->asked_ms = now_ms;
    s->leader_term = leader_term;
    s->reach = reach;
    switch (s->phase) {
    case SENDER_RESTING:
        if (now_ms < s->rest_until_ms) return;
        sender_start_export(s, now_ms);
        return;
    case SENDER_IDLE: sender_start_export(s, now_ms); return;
    case SENDER_EXPORTING: return;
    default: break;
    }
    if (s->meta->applied_index < reach) sender_start_export(s, now_ms);
    else if (other_term) sender_offer(s, now_ms); /* the receiver has to know the newest */
}

void snapshot_sender_stop(struct snapshot_sender *s, int64_t now_ms) {
    if (s->phase == SENDER_EXPORTING) {
        s->given_up = true;
        atomic_store(&s->stop, true);
        return;
    }
    sender_drop_file(s);
    s->phase = SENDER_IDLE;
}

static void sender_acknowledged(struct snapshot_sender *s, const struct snapshot_frame *f,
                                int64_t now_ms) {
    if (f->offset > s->file_bytes) return;
    if (f->state == SNAPSHOT_ACK_COMPLETE) {
        s->counters.completed++;
        sender_rest(s, now_ms);
        return;
    }
    bool first = f->state == SNAPSHOT_ACK_HEADER && s->phase == SENDER_OFFERING;
    if (first) {
        s->phase = SENDER_SENDING;
        s->next = f->offset;
        s->allowance_ms = now_ms;
    }
    if (s->phase == SENDER_OFFERING && f->state == SNAPSHOT_ACK_CHECKING) {
        s->phase = SENDER_SENDING;
        s->next = s->file_bytes;
    }
    if (s->phase != SENDER_SENDING) return;
    if (first || f->offset > s->acknowledged) {
        s->acknowledged = f->offset;
        if (s->next < f->offset) s->next = f->offset;
        s->duplicates = 0;
        s->retry_ms = SNAPSHOT_RETRY_MS;
        s->retry_at_ms = now_ms + s->retry_ms;
        return;
    }
    /* A chunk before those that arrive is missing: back to it, once for each round trip. */
    if (f->offset == s->acknowledged && ++s->duplicates >= SENDER_DUPLICATES &&
        now_ms >= s->back_at_ms) {
        s->duplicates = 0;
        s->next = s->acknowledged;
        s->back_at_ms = now_ms + SNAPSHOT_RETRY_MS / 4;
    }
}

static void sender_refused(struct snapshot_sender *s, const struct snapshot_frame *f,
                           int64_t now_ms) {
    switch (f->reason) {
    case SNAPSHOT_UNKNOWN:
        if (s->phase == SENDER_SENDING) sender_offer(s, now_ms);
        return;
    case SNAPSHOT_DAMAGED:
        if (++s->damaged < SENDER_DAMAGED_MAX) sender_offer(s, now_ms);
        else sender_fail(s, "it arrives damaged again and again", now_ms);
        return;
    case SNAPSHOT_UNFIT: sender_fail(s, "the other side finds it damaged", now_ms); return;
    case SNAPSHOT_NO_ROOM: sender_fail(s, "the other side has no room for it", now_ms); return;
    default: sender_rest(s, now_ms); return;
    }
}

void snapshot_sender_receive(struct snapshot_sender *s, const struct snapshot_frame *f,
                             int64_t now_ms) {
    if (f->shard != s->options.shard || f->from != s->options.to || f->to != s->options.from ||
        (s->phase != SENDER_OFFERING && s->phase != SENDER_SENDING) ||
        f->transfer != s->transfer) {
        return;
    }
    s->asked_ms = now_ms;
    if (f->kind == SNAPSHOT_ACK) sender_acknowledged(s, f, now_ms);
    if (f->kind == SNAPSHOT_REFUSE) sender_refused(s, f, now_ms);
}

int64_t snapshot_sender_work(struct snapshot_sender *s, int64_t now_ms) {
    if (s->phase == SENDER_EXPORTING) {
        if (atomic_load(&s->outcome) == EXPORT_RUNNING) return INT64_MAX;
        sender_exported(s, now_ms);
    }
    if (s->phase != SENDER_OFFERING && s->phase != SENDER_SENDING) return INT64_MAX;
    if (now_ms - s->asked_ms >= SNAPSHOT_IDLE_MS) {
        sender_fail(s, "nobody asks for it or answers any more", now_ms);
        return INT64_MAX;
    }
    int64_t next_ms = s->phase == SENDER_OFFERING ? sender_send_header(s, now_ms)
                                                  : sender_send_some(s, now_ms);
    int64_t idle_ms = s->asked_ms + SNAPSHOT_IDLE_MS;
    return next_ms < idle_ms ? next_ms : idle_ms;
}

void snapshot_sender_progress(const struct snapshot_sender *s,
                              struct snapshot_sender_progress *progress) {
    bool has_file = s->phase == SENDER_OFFERING || s->phase == SENDER_SENDING;
    *progress = s->counters;
    progress->phase = s->phase;
    if (!has_file) return;
    progress->index = s->meta->applied_index;
    progress->bytes = s->file_bytes;
    progress->acknowledged = s->acknowledged;
}
