#include "engine/node/backfill.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/replica/feed_client.h"
#include "engine/wire/protocol.h"
#include "engine/wire/socket_close.h"
#include "persistence/record.h"

enum {
    BACKFILL_PIECE_BYTES = 1 << 20,
    BACKFILL_ASK_MS = 10000,
    BACKFILL_LOOK_MS = 1000,
    BACKFILL_RETRY_MS = 60000,     /* who had nothing, or the wrong thing, is asked again */
    BACKFILL_UNHEARD_MS = 3000,    /* who did not answer is */
    BACKFILL_NICE = 5,
    BACKFILL_PACE_MS = 200,        /* between two looks at what goes on */
    BACKFILL_BUSY_PART = 8,        /* of the bound, while the logs have something to write ... */
    BACKFILL_IDLE_PART = 16,       /* ... more than this part of it a second */
    BACKFILL_GROWTH_PART = 16
};

/* What a gap came to. */
enum backfill_outcome {
    BACKFILL_FILLED,               /* some of it */
    BACKFILL_ABSENT,               /* everybody says that the records are gone */
    BACKFILL_UNHEARD,              /* not everybody could say */
    BACKFILL_REFUSED               /* what came did not fit, or there is no room */
};

/* What is remembered of a shard. */
struct backfill_note {
    int64_t next_ms;               /* monotonic: not before */
    uint64_t told_last;            /* end of the gap that the log was last told of */
    uint64_t commit_bytes;         /* of its log, at the last look */
};

/* The feed that is being asked. */
struct backfill_link {
    char peer[ENDPOINT_BYTES_MAX]; /* general endpoint; "" = none */
    char feed[ENDPOINT_BYTES_MAX];
    nng_socket socket;             /* stop() closes it under the thread */
    bool open;                     /* what stop() looks at */
};

struct backfill {
    struct backfill_options options;
    pthread_t thread;
    pthread_mutex_t mutex;         /* guards up to `storages`, and the link's socket */
    pthread_cond_t changed;
    bool stop;
    uint32_t busy;                 /* the shard whose storage is in use; UINT32_MAX = none */
    struct storage *storages[SHARDS_MAX]; /* NULL = not here */
    /* the thread's own */
    struct backfill_link link;
    struct backfill_note notes[SHARDS_MAX];
    int64_t paced_ms;              /* monotonic */
    uint64_t running, given;       /* bytes a second: written by the logs, smoothed; allowed here */
};

/* -- the storages ------------------------------------------------------------------------------ */

/* The shard's storage, to be given back with backfill_leave(); NULL = not here (any more). */
static struct storage *backfill_enter(struct backfill *b, uint32_t shard) {
    pthread_mutex_lock(&b->mutex);
    struct storage *storage = b->stop ? NULL : b->storages[shard];
    if (storage) b->busy = shard;
    pthread_mutex_unlock(&b->mutex);
    return storage;
}

static void backfill_leave(struct backfill *b) {
    pthread_mutex_lock(&b->mutex);
    b->busy = UINT32_MAX;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
}

static bool backfill_gap(struct backfill *b, uint32_t shard, uint32_t position,
                         struct storage_gap *gap) {
    struct storage *storage = backfill_enter(b, shard);
    if (!storage) return false;
    bool found = storage->ops->gap(storage, position, gap);
    backfill_leave(b);
    return found;
}

void backfill_add(struct backfill *b, uint32_t shard, struct storage *storage) {
    if (shard >= SHARDS_MAX) return;
    pthread_mutex_lock(&b->mutex);
    b->storages[shard] = storage;
    pthread_mutex_unlock(&b->mutex);
}

void backfill_forget(struct backfill *b, uint32_t shard) {
    if (shard >= SHARDS_MAX) return;
    pthread_mutex_lock(&b->mutex);
    b->storages[shard] = NULL;
    while (b->busy == shard) pthread_cond_wait(&b->changed, &b->mutex);
    pthread_mutex_unlock(&b->mutex);
}

/* -- the link ---------------------------------------------------------------------------------- */

static void link_close(struct backfill *b) {
    pthread_mutex_lock(&b->mutex);
    if (b->link.open) socket_close(b->link.socket);
    b->link.open = false;
    pthread_mutex_unlock(&b->mutex);
    b->link.peer[0] = 0;
}

/* Connects to `url`, as the only link. */
static bool link_dial(struct backfill *b, const char *url, char *error, size_t error_bytes) {
    nng_socket socket;
    link_close(b);
    if (feed_link_open(&socket, url, b->options.tls, BACKFILL_ASK_MS, error, error_bytes) != 0)
        return false;
    pthread_mutex_lock(&b->mutex);
    b->link.socket = socket;
    b->link.open = !b->stop;
    bool open = b->link.open;
    pthread_mutex_unlock(&b->mutex);
    if (!open) socket_close(socket);
    return open;
}

/* Where the peer's feed is. 1 = found; 0 = it has none; -1 = it did not say. */
static int link_discover(struct backfill *b, const char *peer, char *error, size_t error_bytes) {
    nng_msg *reply;
    if (!link_dial(b, peer, error, error_bytes)) return -1;
    if (feed_link_ask(b->link.socket, peer, feed_discover_message(), &reply, error,
                      error_bytes) != 0)
        return -1;
    bool found = feed_endpoint_decode(nng_msg_body(reply), nng_msg_len(reply), peer, b->link.feed);
    nng_msg_free(reply);
    return found;
}

/* 1 = the link is to the peer's feed; else as link_discover(), and it is closed. */
static int link_take(struct backfill *b, const char *peer, char *error, size_t error_bytes) {
    struct backfill_link *k = &b->link;
    struct feed_hello hello = {.shards = NULL};
    nng_msg *reply;
    if (strcmp(k->peer, peer) == 0) return 1;
    int found = link_discover(b, peer, error, error_bytes);
    if (found == 1 && !link_dial(b, k->feed, error, error_bytes)) found = -1;
    if (found == 1 &&
        feed_link_hello(k->socket, k->feed, &hello, &reply, error, error_bytes) != 0)
        found = -1;
    else if (found == 1) nng_msg_free(reply);
    if (found == 1 && strcmp(hello.cluster_id, b->options.cluster_id) != 0) {
        snprintf(error, error_bytes, "%.200s: it is of another cluster", k->feed);
        found = -1;
    }
    if (found != 1) link_close(b);
    else snprintf(k->peer, sizeof k->peer, "%s", peer);
    return found;
}

/* -- a piece ----------------------------------------------------------------------------------- */

/* A peer's answer; with BACKFILL_FILLED `records` points into `message`. */
struct backfill_answer {
    enum backfill_outcome outcome;
    uint64_t from;                 /* ABSENT: what it has begins here, UINT64_MAX = nowhere */
    nng_msg *message;
    struct bytes records;
    char error[256];
};

/* Whether what came begins with record `index`; storage looks at all the rest. */
static bool backfill_begins_with(const struct feed_reply *p, uint64_t index) {
    struct record_header first;
    if (p->records.size < sizeof first) return false;
    memcpy(&first, p->records.data, sizeof first);
    return first.index == index;
}

static void backfill_read(struct backfill *b, struct backfill_answer *a, uint32_t shard,
                          uint64_t from) {
    struct feed_reply p;
    if (!feed_reply_decode(nng_msg_body(a->message), nng_msg_len(a->message), FEED_PULL,
                           FEED_RECORDS, &p)) {
        snprintf(a->error, sizeof a->error, "its answer makes no sense");
    } else if (!feed_reply_is_of(&p, b->options.cluster_id)) { /* it was not when it was greeted */
        snprintf(a->error, sizeof a->error, "it is of another cluster");
        link_close(b);
    } else if (p.code == RESULT_IMPORT_REQUIRED || p.code == RESULT_SHARD_NOT_HERE) {
        a->outcome = BACKFILL_ABSENT;
        if (p.code == RESULT_IMPORT_REQUIRED) a->from = p.detail;
    } else if (p.code != RESULT_OK) {
        snprintf(a->error, sizeof a->error, "%.*s", (int)p.sentence.size,
                 (const char *)p.sentence.data);
    } else if (p.shard != shard || p.from != from || !backfill_begins_with(&p, from)) {
        snprintf(a->error, sizeof a->error, "it sent nothing of what it was asked for");
    } else {
        a->outcome = BACKFILL_FILLED;
        a->records = p.records;
    }
}

static void backfill_ask(struct backfill *b, const char *peer, uint32_t shard, uint64_t from,
                         struct backfill_answer *a) {
    *a = (struct backfill_answer){.outcome = BACKFILL_UNHEARD, .from = UINT64_MAX};
    int found = link_take(b, peer, a->error, sizeof a->error);
    if (found == 0) a->outcome = BACKFILL_ABSENT;
    if (found != 1) return;
    if (feed_link_ask(b->link.socket, b->link.feed,
                      feed_pull_message(shard, from, 0, BACKFILL_PIECE_BYTES), &a->message,
                      a->error, sizeof a->error) != 0) {
        a->message = NULL;
        link_close(b);
        return;
    }
    backfill_read(b, a, shard, from);
}

/* Until `until_ns` (monotonic), or the stop. */
static void backfill_wait(struct backfill *b, int64_t until_ns) {
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    pthread_mutex_lock(&b->mutex);
    while (!b->stop && pthread_cond_timedwait(&b->changed, &b->mutex, &until) != ETIMEDOUT) {
    }
    pthread_mutex_unlock(&b->mutex);
}

static uint64_t backfill_bound(const struct backfill *b) {
    return b->options.bytes_per_second ? b->options.bytes_per_second : CATCH_UP_BYTES_PER_SECOND;
}

/* What all logs of the node have written since the last look. */
static uint64_t backfill_written(struct backfill *b) {
    uint64_t written = 0;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        struct storage *storage = backfill_enter(b, i);
        struct storage_stats stats;
        if (!storage) continue;
        storage->ops->stats(storage, &stats);
        backfill_leave(b);
        /* A new replica in its place begins anew. */
        uint64_t *before = &b->notes[i].commit_bytes;
        if (stats.commit_bytes > *before) written += stats.commit_bytes - *before;
        *before = stats.commit_bytes;
    }
    return written;
}

/* Sinks at once when the logs have something to write, and grows back in some seconds: traffic that
 * stands still for a moment has not ended. */
static uint64_t backfill_rate(struct backfill *b) {
    uint64_t bound = backfill_bound(b), least = bound / BACKFILL_BUSY_PART;
    int64_t now_ms = clock_mono_ms(), passed_ms = now_ms - b->paced_ms;
    if (b->paced_ms != 0 && passed_ms < BACKFILL_PACE_MS) return b->given;
    uint64_t written = backfill_written(b);
    if (b->paced_ms != 0) b->running = (3 * b->running + written * 1000 / (uint64_t)passed_ms) / 4;
    b->paced_ms = now_ms;
    uint64_t wanted = b->running < bound / BACKFILL_IDLE_PART ? bound : least;
    uint64_t most = b->given + b->given / BACKFILL_GROWTH_PART;
    if (most < least) most = least;
    b->given = wanted < most ? wanted : most;
    return b->given > 0 ? b->given : 1;
}

/* Puts what came into the log, and waits as long as that is worth. */
static enum backfill_outcome backfill_put(struct backfill *b, uint32_t shard, const char *peer,
                                          struct backfill_answer *a) {
    int64_t begun_ns = clock_mono_ns();
    struct storage *storage = backfill_enter(b, shard);
    if (!storage) return BACKFILL_UNHEARD;
    enum storage_filled filled = storage->ops->fill(storage, a->records.data, a->records.size,
                                                    a->error, sizeof a->error);
    backfill_leave(b);
    if (filled == STORAGE_FILLED || filled == STORAGE_FILL_MOOT) {
        uint64_t rate = backfill_rate(b);
        backfill_wait(b, begun_ns + (int64_t)((double)a->records.size * 1e9 / (double)rate));
        if (filled == STORAGE_FILLED) return BACKFILL_FILLED;
        log_debug("shard %u: the gap that was to be filled is another one by now", shard);
        return BACKFILL_UNHEARD; /* looked at anew, but later: somebody may be wrong about it */
    }
    log_warn("shard %u: the gap in its history is not filled from %s now: %s", shard, peer,
             a->error);
    return BACKFILL_REFUSED;
}

/* -- a gap ------------------------------------------------------------------------------------- */

struct backfill_peers {
    char endpoints[NODES_MAX][ENDPOINT_BYTES_MAX];
    uint32_t count;
};

/* The one that is being asked already comes first. */
static void backfill_peers_of(struct backfill *b, uint32_t shard, struct backfill_peers *peers) {
    peers->count = b->options.peers(b->options.arg, shard, peers->endpoints, NODES_MAX);
    for (uint32_t i = 1; i < peers->count; i++) {
        char other[ENDPOINT_BYTES_MAX];
        if (strcmp(peers->endpoints[i], b->link.peer) != 0) continue;
        memcpy(other, peers->endpoints[0], sizeof other);
        memcpy(peers->endpoints[0], peers->endpoints[i], sizeof other);
        memcpy(peers->endpoints[i], other, sizeof other);
    }
}

/* What of the gap is asked for, and the answers so far. */
struct backfill_search {
    uint32_t shard;
    uint64_t from;
    bool unheard;                  /* somebody could not say ... */
    bool refused;                  /* ... or said what could not be taken */
    uint64_t oldest;               /* of what those have who have not `from` ... */
    uint32_t oldest_at;            /* ... and who that is */
};

static bool backfill_fill_from(struct backfill *b, const struct backfill_peers *peers, uint32_t at,
                               struct backfill_search *s) {
    struct backfill_answer a;
    const char *peer = peers->endpoints[at];
    bool filled = false;
    backfill_ask(b, peer, s->shard, s->from, &a);
    switch (a.outcome) {
    case BACKFILL_FILLED:
        a.outcome = backfill_put(b, s->shard, peer, &a);
        filled = a.outcome == BACKFILL_FILLED;
        s->refused |= a.outcome == BACKFILL_REFUSED;
        s->unheard |= a.outcome == BACKFILL_UNHEARD;
        break;
    case BACKFILL_ABSENT:
        /* What begins no later than what was asked for is not what it has. */
        if (a.from <= s->from || a.from >= s->oldest) break;
        s->oldest = a.from;
        s->oldest_at = at;
        break;
    case BACKFILL_UNHEARD:
        log_debug("shard %u: what fills its gap is not to be had from %s now: %s", s->shard, peer,
                  a.error);
        s->unheard = true;
        break;
    case BACKFILL_REFUSED: impossible("only what came can be refused");
    }
    if (a.message) nng_msg_free(a.message);
    return filled;
}

/* The next piece of a gap, from whoever has it. */
static enum backfill_outcome backfill_step(struct backfill *b, uint32_t shard,
                                           const struct storage_gap *gap) {
    struct backfill_peers peers;
    struct backfill_search s = {.shard = shard, .from = gap->first, .oldest = UINT64_MAX};
    backfill_peers_of(b, shard, &peers);
    for (uint32_t i = 0; i < peers.count; i++)
        if (backfill_fill_from(b, &peers, i, &s)) return BACKFILL_FILLED;
    if (s.refused || s.unheard) return s.refused ? BACKFILL_REFUSED : BACKFILL_UNHEARD;
    if (!gap->opens || s.oldest > gap->last) return BACKFILL_ABSENT;
    log_info("shard %u: records %" PRIu64 " to %" PRIu64 " of its history are nowhere any more",
             shard, gap->first, s.oldest - 1);
    s.from = s.oldest;
    if (backfill_fill_from(b, &peers, s.oldest_at, &s)) return BACKFILL_FILLED;
    return s.refused ? BACKFILL_REFUSED : BACKFILL_UNHEARD;
}

/* Once for each gap. */
static void backfill_tell(struct backfill *b, uint32_t shard, const struct storage_gap *gap,
                          enum backfill_outcome outcome) {
    uint64_t *told = &b->notes[shard].told_last;
    bool known = outcome == BACKFILL_FILLED || outcome == BACKFILL_ABSENT;
    if (*told == gap->last || !known) return;
    *told = gap->last;
    log_info(outcome == BACKFILL_FILLED
                 ? "shard %u: records %" PRIu64 " to %" PRIu64 " lack in its history: they are "
                   "fetched from %s"
                 : "shard %u: records %" PRIu64 " to %" PRIu64 " lack in its history, and no other "
                   "node has all of them%s",
             shard, gap->first, gap->last, outcome == BACKFILL_FILLED ? b->link.peer : "");
}

/* The newest gap that something can be done about. True when there was one. */
static bool backfill_look(struct backfill *b, uint32_t shard) {
    struct storage_gap gap;
    struct backfill_note *note = &b->notes[shard];
    if (note->next_ms > clock_mono_ms()) return false;
    bool unheard = false, any = false;
    for (uint32_t i = 0; backfill_gap(b, shard, i, &gap); i++) {
        if (gap.installed_ms < clock_unix_ms() - b->options.retention_ms) continue;
        any = true;
        enum backfill_outcome outcome = backfill_step(b, shard, &gap);
        backfill_tell(b, shard, &gap, outcome);
        if (outcome == BACKFILL_FILLED) return true;
        unheard |= outcome == BACKFILL_UNHEARD;
    }
    if (any)
        note->next_ms = clock_mono_ms() + (unheard ? BACKFILL_UNHEARD_MS : b->options.retry_ms);
    return false;
}

/* -- the thread -------------------------------------------------------------------------------- */

static bool backfill_is_stopped(struct backfill *b) {
    pthread_mutex_lock(&b->mutex);
    bool stop = b->stop;
    pthread_mutex_unlock(&b->mutex);
    return stop;
}

static void *backfill_main(void *arg) {
    struct backfill *b = arg;
    pthread_setname_np(pthread_self(), "backfill");
    /* Of this thread only; without effect nothing is wrong. */
    (void)setpriority(PRIO_PROCESS, 0, BACKFILL_NICE);
    while (!backfill_is_stopped(b)) {
        bool worked = false;
        for (uint32_t i = 0; i < SHARDS_MAX && !backfill_is_stopped(b); i++)
            worked |= backfill_look(b, i);
        if (worked) continue;
        link_close(b);
        backfill_wait(b, clock_mono_ns() + b->options.look_ms * 1000000);
    }
    link_close(b);
    return NULL;
}

struct backfill *backfill_start(const struct backfill_options *options, char *error,
                                size_t error_bytes) {
    struct backfill *b = calloc(1, sizeof *b);
    pthread_condattr_t attributes;
    if (!b) {
        snprintf(error, error_bytes, "no memory for what fills gaps");
        return NULL;
    }
    b->options = *options;
    if (b->options.look_ms == 0) b->options.look_ms = BACKFILL_LOOK_MS;
    if (b->options.retry_ms == 0) b->options.retry_ms = BACKFILL_RETRY_MS;
    b->busy = UINT32_MAX;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    int rc = pthread_create(&b->thread, NULL, backfill_main, b);
    if (rc == 0) return b;
    snprintf(error, error_bytes, "cannot start what fills gaps: %s", strerror(rc));
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    free(b);
    return NULL;
}

void backfill_stop(struct backfill *b) {
    pthread_mutex_lock(&b->mutex);
    b->stop = true;
    if (b->link.open) socket_close(b->link.socket);
    b->link.open = false;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    int rc = pthread_join(b->thread, NULL);
    require(rc == 0);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}
