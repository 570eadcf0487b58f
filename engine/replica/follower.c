#include "engine/replica/follower.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/replica/feed_client.h"
#include "engine/wire/socket_close.h"
#include "engine/wire/tls.h"
#include "persistence/record.h"

enum {
    FOLLOWER_HEARTBEAT_MS = 100,
    FOLLOWER_PATIENCE_MS = 2000,   /* for an answer, beyond what it may wait for */
    FOLLOWER_HELLO_MS = 5000,      /* how often nodes are asked what they have */
    FOLLOWER_RETRY_MS = 200,       /* a lane that failed waits so long */
    FOLLOWER_ASK_MS = 1000,
    FOLLOWER_LOOK_MS = 50
};

struct source {
    struct follower *follower;
    pthread_t thread;              /* asks it; one for each, as a dead one takes its time */
    bool started;
    nng_aio *with;                 /* what waits for its answers; stopped with the follower */
    char node[ENDPOINT_BYTES_MAX];
    char feed[ENDPOINT_BYTES_MAX]; /* "" = not found yet */
    nng_socket socket;             /* id 0 = none; dials the feed for as long as it lives */
    bool connected;                /* `socket` is */
    bool told[SHARDS_MAX];         /* shards that it has */
    int64_t hello_ms;              /* when it is asked next, monotonic */
    bool asked;                    /* at least once, whatever came of it */
    bool complained;
    bool foreign_told;             /* the log has it that another cluster's node is there */
    bool reached;                  /* as follower_source tells */
    uint64_t failures;
    char why[512];
};

enum lane_state { LANE_NONE, LANE_RESTING, LANE_SENDING, LANE_RECEIVING, LANE_FULL, LANE_STANDING };

struct lane {
    struct follower *follower;
    uint32_t shard;
    uint8_t state;                 /* enum lane_state */
    bool restarted;                /* while a pull was on its way: its answer is thrown away */
    bool standing;                 /* no further pull until it is restarted */
    uint32_t short_logs;           /* bit = source: its log does not reach back to `next`, or, once
                                      one does not, it failed */
    uint32_t source;
    uint64_t next, failures;
    bool fed;                      /* its source answered, and has not failed since */
    char why[512];                 /* as follower_lane tells */
    uint32_t complained;           /* bit = source: the log has its `why` since entries came */
    size_t held_bytes;             /* handed on, not consumed */
    int64_t not_before_ms;         /* monotonic */
    nng_ctx ctx;                   /* id 0 = none */
    nng_aio *aio;
};

struct follower {
    struct follower_options options;
    pthread_t thread;
    bool started;
    pthread_mutex_t tell_lock;     /* one source at a time says what it has; taken before `lock` */
    pthread_mutex_t lock;          /* guards lanes' fields, sources and what is below */
    pthread_cond_t wake, ask;      /* the lanes' thread; those of the sources */
    bool stop;
    struct source sources[FOLLOWER_SOURCES_MAX];
    uint32_t sources_count;
    struct lane *lanes[SHARDS_MAX];
    struct follower_stats stats;
};

/* -- lanes: all with the lock held unless it says otherwise ---------------------------------- */

static void lane_rest(struct lane *l, int64_t for_ms) {
    l->state = LANE_RESTING;
    l->not_before_ms = clock_mono_ms() + for_ms;
    pthread_cond_signal(&l->follower->wake);
}

static void lane_unbind(struct lane *l) {
    if (l->ctx.id != 0) nng_ctx_close(l->ctx);
    l->ctx.id = 0;
}

_Static_assert(FOLLOWER_SOURCES_MAX <= 32, "a mask of sources has a bit for each");

/* Turns to the next node that has the shard and is not in the mask `but`, one that is connected
 * before others; false = there is none. */
static bool lane_turn(struct lane *l, uint32_t but) {
    struct follower *f = l->follower;
    uint32_t found = UINT32_MAX;
    for (uint32_t i = 1; i <= f->sources_count; i++) {
        uint32_t candidate = (l->source + i) % f->sources_count;
        const struct source *s = &f->sources[candidate];
        if (s->socket.id == 0 || !s->told[l->shard] || but >> candidate & 1) continue;
        if (found == UINT32_MAX || s->connected) found = candidate;
        if (s->connected) break;
    }
    if (found == UINT32_MAX) return false;
    lane_unbind(l);
    l->fed = false;
    l->source = found;
    return true;
}

/* The next node that has the shard; the same one when it is the only one. */
static void lane_fail(struct lane *l) {
    struct follower *f = l->follower;
    const struct source *left = &f->sources[l->source];
    bool lost = left->socket.id != 0 && !left->connected; /* no node's fault that is still there */
    f->stats.failures++;
    l->failures++;
    l->fed = false;
    if (l->short_logs) l->short_logs |= 1u << l->source;
    lane_unbind(l);
    lane_turn(l, 0);
    lane_rest(l, lost && f->sources[l->source].connected ? 0 : FOLLOWER_RETRY_MS);
}

/* A node cannot give what is asked for, and says why. */
static void lane_complain(struct lane *l, const struct feed_reply *p) {
    const struct source *s = &l->follower->sources[l->source];
    snprintf(l->why, sizeof l->why, "%.200s refuses entry %llu: [%u %s] %.*s", s->node,
             (unsigned long long)l->next, p->code, result_code_name(p->code),
             p->sentence.size < 250 ? (int)p->sentence.size : 250, (const char *)p->sentence.data);
    if (p->code == RESULT_NOT_READY || p->code == RESULT_SHUTTING_DOWN) return; /* usual */
    if (!(l->complained >> l->source & 1)) log_warn("shard %u: %s", l->shard, l->why);
    l->complained |= 1u << l->source;
}

/* What a node's log has not got any more another one's may have: only when none does is its state
 * to be imported, which tells nothing of what happened in between. */
static void lane_falls_short(struct lane *l) {
    struct follower *f = l->follower;
    bool all_asked = true;
    l->short_logs |= 1u << l->source;
    for (uint32_t i = 0; i < f->sources_count; i++) all_asked = all_asked && f->sources[i].asked;
    if (lane_turn(l, l->short_logs)) lane_rest(l, 0);
    else if (!all_asked) lane_rest(l, FOLLOWER_RETRY_MS);
    else l->standing = true;
}

static void lane_pull(struct lane *l) {
    struct follower *f = l->follower;
    struct source *s = &f->sources[l->source];
    if (f->stop) return;
    if (l->standing) {
        l->state = LANE_STANDING;
        return;
    }
    if (s->socket.id == 0 || !s->told[l->shard]) {
        lane_fail(l);
        return;
    }
    if (l->ctx.id == 0 && nng_ctx_open(&l->ctx, s->socket) != 0) {
        l->ctx.id = 0;
        lane_fail(l);
        return;
    }
    nng_msg *message = feed_pull_message(l->shard, l->next, f->options.heartbeat_ms,
                                         FEED_BATCH_BYTES_MAX);
    if (!message) {
        lane_rest(l, FOLLOWER_RETRY_MS);
        return;
    }
    l->state = LANE_SENDING;
    l->restarted = false;
    nng_aio_set_timeout(l->aio, FOLLOWER_PATIENCE_MS);
    nng_aio_set_msg(l->aio, message);
    nng_ctx_send(l->ctx, l->aio);
}

/* -- answers (threads of nng) ---------------------------------------------------------------- */

/* What is wrong with the records of an answer; NULL = nothing. `copy` is where they lie aligned.
 * *time_ms gets the time of the newest entry that carries one. */
static const char *records_fault(const uint8_t *copy, size_t bytes, uint64_t first, uint64_t next,
                                 int64_t *time_ms) {
    size_t at = 0;
    for (uint64_t index = first; index < next; index++) {
        struct record_header h;
        if (bytes - at < sizeof h) return "the batch is cut short";
        memcpy(&h, copy + at, sizeof h);
        size_t padded = (sizeof h + (size_t)h.payload_bytes + 7) & ~(size_t)7;
        if (padded > bytes - at) return "the batch is cut short";
        const char *fault = record_fault(copy + at, sizeof h + h.payload_bytes, index);
        if (fault) return fault;
        if (h.type == RECORD_EVENTS && h.payload_bytes >= sizeof(struct entry_header))
            memcpy(time_ms, copy + at + sizeof h, sizeof *time_ms);
        at += padded;
    }
    return at == bytes ? NULL : "the batch holds more than it says";
}

/* Without the lock. NULL: the answer is no good, or there is no memory. */
static struct follower_batch *batch_of(const struct lane *l, const struct feed_reply *p) {
    struct follower_batch *b = malloc(sizeof *b + p->records.size);
    if (!b) return NULL;
    *b = (struct follower_batch){.shard = l->shard, .first = p->from, .next = p->next,
                                 .commit = p->commit, .received_ms = clock_mono_ms(),
                                 .bytes = p->records.size};
    if (b->bytes != 0) memcpy(b->records, p->records.data, b->bytes);
    int64_t time_ms = p->now_ms;
    const char *fault = p->shard != l->shard ? "it is of another shard"
                                             : records_fault(b->records, b->bytes, b->first,
                                                             b->next, &time_ms);
    b->late_ms = p->now_ms - time_ms;
    struct feed_times times = {.rest = p->times, .now_ms = p->now_ms};
    struct commit_moment *m = b->moments;
    while (b->moments_count < FEED_MOMENTS_MAX && feed_times_next(&times, &m->last, &m->ms)) {
        b->moments_count++;
        m++;
    }
    if (!fault) return b;
    log_warn("shard %u: what %s sent from entry %llu on is damaged: %s", l->shard,
             l->follower->sources[l->source].feed, (unsigned long long)p->from, fault);
    free(b);
    return NULL;
}

static void lane_take(struct lane *l, const struct feed_reply *p) {
    struct follower *f = l->follower;
    struct follower_batch *b = batch_of(l, p);
    pthread_mutex_lock(&f->lock);
    bool damaged = !b, good = b && !l->restarted && b->first == l->next && !f->stop;
    /* It says that there is more, and does not give it: its disk cannot follow. */
    bool stuck = good && b->bytes == 0 && b->next <= b->commit;
    if (good) {
        l->next = b->next;
        l->fed = true;
        l->short_logs = 0;
        l->why[0] = 0;
        l->complained = 0;
        l->held_bytes += b->bytes;
        f->stats.batches++;
        f->stats.bytes += b->bytes;
        if (b->bytes == 0) f->stats.heartbeats++;
    }
    pthread_mutex_unlock(&f->lock);
    /* Before the next pull goes out: a lane's batches are offered in their order. */
    if (good) f->options.offer(f->options.arg, b);
    else free(b);
    pthread_mutex_lock(&f->lock);
    if (f->stop) l->state = LANE_RESTING;
    else if (damaged || stuck) lane_fail(l);
    else if (l->held_bytes >= FOLLOWER_LANE_BYTES_MAX) l->state = LANE_FULL;
    else lane_pull(l);
    pthread_mutex_unlock(&f->lock);
}

static void lane_refused(struct lane *l, const struct feed_reply *p) {
    struct follower *f = l->follower;
    uint64_t detail = p->detail;
    bool import = p->code == RESULT_IMPORT_REQUIRED;
    pthread_mutex_lock(&f->lock);
    if (l->restarted) lane_rest(l, 0);
    else if (import) lane_falls_short(l);
    else if (p->code == RESULT_OVERLOADED) lane_rest(l, (int64_t)(detail < 1000 ? detail : 1000));
    else {
        lane_complain(l, p);
        lane_fail(l);
    }
    if (l->standing) l->state = LANE_STANDING;
    import = import && l->standing;
    pthread_mutex_unlock(&f->lock);
    if (import) f->options.import_required(f->options.arg, l->shard, detail);
}

/* The lock is held. Nothing more is asked of the source until it has said again whose it is. */
static void source_is_foreign(struct source *s, const char *follows, const char *theirs) {
    snprintf(s->why, sizeof s->why, "%s is of cluster %s, this replica follows %s", s->node, theirs,
             follows);
    if (!s->foreign_told) log_warn("%s: nothing of it is taken", s->why);
    s->foreign_told = true;
    s->reached = false;
    s->failures++;
    memset(s->told, 0, sizeof s->told);
}

/* nng dials anew behind our back: what answers now is not what was greeted. */
static void lane_foreign(struct lane *l, struct bytes cluster) {
    struct follower *f = l->follower;
    char theirs[CLUSTER_ID_BYTES];
    snprintf(theirs, sizeof theirs, "%.*s", (int)cluster.size, (const char *)cluster.data);
    pthread_mutex_lock(&f->lock);
    struct source *s = &f->sources[l->source];
    source_is_foreign(s, f->options.cluster_id, theirs);
    s->hello_ms = 0;
    pthread_cond_broadcast(&f->ask);
    lane_fail(l);
    pthread_mutex_unlock(&f->lock);
}

static void lane_received(struct lane *l) {
    nng_msg *message = nng_aio_get_msg(l->aio);
    struct feed_reply p;
    nng_aio_set_msg(l->aio, NULL);
    bool read = feed_reply_decode(nng_msg_body(message), nng_msg_len(message), FEED_PULL,
                                  FEED_RECORDS, &p);
    if (read && !feed_reply_is_of(&p, l->follower->options.cluster_id)) {
        lane_foreign(l, p.cluster);
    } else if (read && p.code == RESULT_OK) {
        lane_take(l, &p);
    } else if (read) {
        lane_refused(l, &p);
    } else {
        pthread_mutex_lock(&l->follower->lock);
        lane_fail(l);
        pthread_mutex_unlock(&l->follower->lock);
    }
    nng_msg_free(message);
}

static void lane_on_aio(void *arg) {
    struct lane *l = arg;
    struct follower *f = l->follower;
    int rc = nng_aio_result(l->aio);
    pthread_mutex_lock(&f->lock);
    uint8_t state = l->state;
    if (rc == 0 && state == LANE_SENDING && !f->stop && !f->sources[l->source].connected) {
        lane_fail(l); /* it went away with what it was asked */
        pthread_mutex_unlock(&f->lock);
        return;
    }
    if (rc == 0 && state == LANE_SENDING) {
        l->state = LANE_RECEIVING;
        nng_aio_set_timeout(l->aio, (nng_duration)f->options.heartbeat_ms + FOLLOWER_PATIENCE_MS);
        nng_ctx_recv(l->ctx, l->aio);
        pthread_mutex_unlock(&f->lock);
        return;
    }
    if (rc != 0) {
        if (state == LANE_SENDING) {
            nng_msg_free(nng_aio_get_msg(l->aio));
            nng_aio_set_msg(l->aio, NULL);
        }
        if (f->stop) l->state = LANE_RESTING;
        else lane_fail(l);
        pthread_mutex_unlock(&f->lock);
        return;
    }
    pthread_mutex_unlock(&f->lock);
    lane_received(l);
}

/* -- sources (a thread each) ------------------------------------------------------------------- */

static void source_complain(struct source *s, const char *error) {
    if (!s->complained) log_warn("%s", error);
    s->complained = true;
}

/* Takes the lock. It said what it has and is one of ours (why NULL), or not; asked again so much
 * later. */
static void source_note(struct follower *f, struct source *s, const char *why, int64_t again_ms) {
    pthread_mutex_lock(&f->lock);
    s->hello_ms = clock_mono_ms() + again_ms;
    if (why) s->asked = true; /* else once it has told what it has */
    s->reached = !why;
    snprintf(s->why, sizeof s->why, "%s", why ? why : "");
    if (why) {
        s->failures++;
        f->stats.failures++;
    }
    pthread_mutex_unlock(&f->lock);
}

/* A thread of nng. When the connection is gone so are the answers to what went out on it: nng would
 * ask again, whenever there is another one, instead of saying so. */
static void source_on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct source *s = arg;
    struct follower *f = s->follower;
    pthread_mutex_lock(&f->lock);
    if (!f->stop && nng_pipe_socket(pipe).id == s->socket.id) {
        s->connected = event == NNG_PIPE_EV_ADD_PRE;
        for (uint32_t i = 0; i < SHARDS_MAX && !s->connected; i++) {
            struct lane *l = f->lanes[i];
            if (l && &f->sources[l->source] == s &&
                (l->state == LANE_SENDING || l->state == LANE_RECEIVING))
                nng_aio_cancel(l->aio);
        }
    }
    pthread_mutex_unlock(&f->lock);
}

static bool source_open(struct source *s) {
    nng_socket socket;
    if (nng_req0_open(&socket) != 0) return false;
    nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, 20);
    nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, 500);
    nng_pipe_notify(socket, NNG_PIPE_EV_ADD_PRE, source_on_pipe, s);
    nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, source_on_pipe, s);
    s->socket = socket;
    s->connected = false;
    nng_dialer dialer;
    char error[512];
    if (tls_dial(socket, s->feed, tls_of_environment(), &dialer, error, sizeof error) != 0) {
        source_complain(s, error);
        s->socket.id = 0;
        socket_close(socket);
        return false;
    }
    return true;
}

static struct lane *lane_add(struct follower *f, uint32_t shard, uint32_t source) {
    struct lane *l = calloc(1, sizeof *l);
    if (!l || nng_aio_alloc(&l->aio, lane_on_aio, l) != 0) {
        free(l);
        return NULL;
    }
    l->follower = f;
    l->shard = shard;
    l->source = source;
    l->next = f->options.next(f->options.arg, shard);
    l->standing = l->next == 0;
    l->state = l->standing ? LANE_STANDING : LANE_RESTING;
    return l;
}

/* With tell_lock held: the first one says which cluster is followed. Lanes come only after it. */
static bool source_is_ours(struct follower *f, const struct feed_hello *hello) {
    if (f->options.cluster_id[0] == 0)
        memcpy(f->options.cluster_id, hello->cluster_id, sizeof f->options.cluster_id);
    return strcmp(f->options.cluster_id, hello->cluster_id) == 0;
}

static void source_take(struct follower *f, uint32_t number, const struct feed_hello *hello,
                        const char *feed) {
    struct source *s = &f->sources[number];
    pthread_mutex_lock(&f->lock);
    nng_socket left = NNG_SOCKET_INITIALIZER;
    if (strcmp(s->feed, feed) != 0) { /* it moved */
        left = s->socket;
        s->socket.id = 0;
    }
    snprintf(s->feed, sizeof s->feed, "%s", feed);
    bool open = s->socket.id != 0 || source_open(s);
    memset(s->told, 0, sizeof s->told);
    for (uint32_t i = 0; open && i < hello->shards_held; i++) {
        uint32_t shard = hello->shards[i].shard;
        if (shard >= SHARDS_MAX) continue;
        s->told[shard] = true;
        if (!f->lanes[shard]) f->lanes[shard] = lane_add(f, shard, number);
    }
    s->asked = true;
    s->complained = s->foreign_told = false;
    bool retired[SHARDS_MAX], existing[SHARDS_MAX];
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        const uint8_t *active = hello->active.data;
        existing[i] = hello->active.size != 0 && active[i / 8] >> i % 8 & 1;
        for (uint32_t n = 0; n < f->sources_count; n++)
            existing[i] = existing[i] || f->sources[n].told[i];
        retired[i] = hello->active.size != 0 && !existing[i];
    }
    pthread_mutex_unlock(&f->lock);
    f->options.existing(f->options.arg, existing);
    f->options.retired(f->options.arg, retired);
    if (left.id != 0) socket_close(left); /* its lanes fail, and find the new one */
    f->options.identified(f->options.arg, hello->cluster_id, hello->shards_count);
}

/* Another cluster's node is there: its lanes are led away, also those of an older feed, whose
 * answers do not say whose they are. */
static void source_leave(struct follower *f, struct source *s, const char *theirs) {
    pthread_mutex_lock(&f->lock);
    nng_socket left = s->socket;
    s->socket.id = 0;
    s->asked = true;
    source_is_foreign(s, f->options.cluster_id, theirs);
    f->stats.failures++;
    s->hello_ms = clock_mono_ms() + FOLLOWER_HELLO_MS;
    pthread_mutex_unlock(&f->lock);
    if (left.id != 0) socket_close(left);
}

static bool follower_is_stopped(struct follower *f) {
    pthread_mutex_lock(&f->lock);
    bool stop = f->stop;
    pthread_mutex_unlock(&f->lock);
    return stop;
}

static void source_hello(struct follower *f, uint32_t number) {
    struct source *s = &f->sources[number];
    struct feed_hello_shard shards[SHARDS_MAX];
    struct feed_hello hello = {.shards = shards, .shards_max = SHARDS_MAX};
    char feed[ENDPOINT_BYTES_MAX], error[512];
    nng_msg *reply;
    int rc = feed_discover(s->node, FOLLOWER_ASK_MS, s->with, feed, error, sizeof error);
    if (rc == 0)
        rc = feed_hello(feed, FOLLOWER_ASK_MS, s->with, &hello, &reply, error, sizeof error);
    if (rc != 0) {
        if (follower_is_stopped(f)) return;
        source_note(f, s, error, FOLLOWER_RETRY_MS);
        source_complain(s, error);
        return;
    }
    pthread_mutex_lock(&f->tell_lock);
    if (source_is_ours(f, &hello)) {
        source_note(f, s, NULL, FOLLOWER_HELLO_MS);
        source_take(f, number, &hello, feed);
    } else {
        source_leave(f, s, hello.cluster_id);
    }
    pthread_mutex_unlock(&f->tell_lock);
    nng_msg_free(reply);
}

/* The lock is held. */
static void wait_ms(struct follower *f, pthread_cond_t *cond, int64_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(cond, &f->lock, &until);
}

static void *source_main(void *arg) {
    struct source *s = arg;
    struct follower *f = s->follower;
    pthread_setname_np(pthread_self(), "hello");
    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        int64_t left_ms = s->hello_ms - clock_mono_ms();
        if (left_ms > 0) {
            wait_ms(f, &f->ask, left_ms);
            continue;
        }
        pthread_mutex_unlock(&f->lock);
        source_hello(f, (uint32_t)(s - f->sources));
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static void *follower_main(void *arg) {
    struct follower *f = arg;
    pthread_setname_np(pthread_self(), "follower");
    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        int64_t now_ms = clock_mono_ms();
        for (uint32_t i = 0; i < SHARDS_MAX && !f->stop; i++) {
            struct lane *l = f->lanes[i];
            if (l && l->state == LANE_RESTING && l->not_before_ms <= now_ms) lane_pull(l);
        }
        if (!f->stop) wait_ms(f, &f->wake, FOLLOWER_LOOK_MS);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* -- life -------------------------------------------------------------------------------------- */

static bool take_nodes(struct follower *f, const char *nodes, char *error, size_t error_bytes) {
    while (*nodes) {
        size_t size = strcspn(nodes, ",");
        if (size != 0) {
            if (f->sources_count == FOLLOWER_SOURCES_MAX || size >= ENDPOINT_BYTES_MAX) {
                snprintf(error, error_bytes, "at most %d nodes, of at most %d bytes each",
                         FOLLOWER_SOURCES_MAX, ENDPOINT_BYTES_MAX - 1);
                return false;
            }
            memcpy(f->sources[f->sources_count++].node, nodes, size);
        }
        nodes += size + (nodes[size] == ',');
    }
    if (f->sources_count == 0) snprintf(error, error_bytes, "no node to follow");
    return f->sources_count != 0;
}

static void follower_init(struct follower *f, const struct follower_options *options) {
    f->options = *options;
    f->options.nodes = NULL;
    if (f->options.heartbeat_ms == 0) f->options.heartbeat_ms = FOLLOWER_HEARTBEAT_MS;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->wake, &attr);
    pthread_cond_init(&f->ask, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->tell_lock, NULL);
}

static int start_threads(struct follower *f) {
    int rc = pthread_create(&f->thread, NULL, follower_main, f);
    f->started = rc == 0;
    for (uint32_t i = 0; i < f->sources_count && rc == 0; i++) {
        struct source *s = &f->sources[i];
        s->follower = f;
        if (nng_aio_alloc(&s->with, NULL, NULL) != 0) return ENOMEM;
        rc = pthread_create(&s->thread, NULL, source_main, s);
        s->started = rc == 0;
    }
    return rc;
}

struct follower *follower_start(const struct follower_options *options, char *error,
                                size_t error_bytes) {
    struct follower *f = calloc(1, sizeof *f);
    if (!f) {
        snprintf(error, error_bytes, "no memory for the follower");
        return NULL;
    }
    follower_init(f, options);
    if (take_nodes(f, options->nodes, error, error_bytes)) {
        int rc = start_threads(f);
        if (rc == 0) return f;
        snprintf(error, error_bytes, "cannot start the follower: %s", strerror(rc));
    }
    follower_stop(f);
    return NULL;
}

void follower_consumed(struct follower *f, struct follower_batch *batch) {
    pthread_mutex_lock(&f->lock);
    struct lane *l = f->lanes[batch->shard];
    require(l && l->held_bytes >= batch->bytes);
    l->held_bytes -= batch->bytes;
    if (l->state == LANE_FULL && l->held_bytes < FOLLOWER_LANE_BYTES_MAX / 2) lane_pull(l);
    pthread_mutex_unlock(&f->lock);
    free(batch);
}

void follower_restart(struct follower *f, uint32_t shard, uint64_t next) {
    pthread_mutex_lock(&f->lock);
    struct lane *l = f->lanes[shard];
    if (l) {
        l->next = next;
        l->restarted = true;
        l->standing = false;
        l->short_logs = 0;
        if (l->state == LANE_STANDING || l->state == LANE_FULL) lane_rest(l, 0);
    }
    pthread_mutex_unlock(&f->lock);
}

void follower_stand(struct follower *f, uint32_t shard) {
    pthread_mutex_lock(&f->lock);
    struct lane *l = f->lanes[shard];
    if (l) {
        l->restarted = true;
        l->standing = true;
        if (l->state == LANE_RESTING || l->state == LANE_FULL) l->state = LANE_STANDING;
    }
    pthread_mutex_unlock(&f->lock);
}

void follower_feed(struct follower *f, uint32_t shard, uint32_t attempt, char *feed,
                   size_t feed_bytes) {
    feed[0] = 0;
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < f->sources_count && feed[0] == 0; i++) {
        if (!f->sources[i].told[shard]) continue;
        if (attempt-- == 0) snprintf(feed, feed_bytes, "%s", f->sources[i].feed);
    }
    pthread_mutex_unlock(&f->lock);
}

void follower_stats(struct follower *f, struct follower_stats *stats) {
    pthread_mutex_lock(&f->lock);
    *stats = f->stats;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        const struct lane *l = f->lanes[i];
        if (!l) continue;
        stats->lanes++;
        if (l->state == LANE_STANDING) stats->lanes_standing++;
        if (stats->source[0] == 0 && (l->state == LANE_RECEIVING || l->state == LANE_FULL))
            snprintf(stats->source, sizeof stats->source, "%s", f->sources[l->source].feed);
    }
    pthread_mutex_unlock(&f->lock);
}

bool follower_source(struct follower *f, uint32_t number, struct follower_source *source) {
    *source = (struct follower_source){.failures = 0};
    if (number >= f->sources_count) return false;
    pthread_mutex_lock(&f->lock);
    const struct source *s = &f->sources[number];
    memcpy(source->node, s->node, sizeof source->node);
    memcpy(source->feed, s->feed, sizeof source->feed);
    memcpy(source->why, s->why, sizeof source->why);
    source->reached = s->reached;
    source->failures = s->failures;
    pthread_mutex_unlock(&f->lock);
    return true;
}

void follower_lane(struct follower *f, uint32_t shard, struct follower_lane *lane) {
    *lane = (struct follower_lane){.failures = 0};
    pthread_mutex_lock(&f->lock);
    const struct lane *l = f->lanes[shard];
    if (l) lane->failures = l->failures;
    if (l) memcpy(lane->why, l->why, sizeof lane->why);
    if (l && l->fed) memcpy(lane->node, f->sources[l->source].node, sizeof lane->node);
    pthread_mutex_unlock(&f->lock);
}

void follower_stop(struct follower *f) {
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_signal(&f->wake);
    pthread_cond_broadcast(&f->ask);
    pthread_mutex_unlock(&f->lock);
    for (uint32_t i = 0; i < f->sources_count; i++) nng_aio_stop(f->sources[i].with);
    if (f->started) pthread_join(f->thread, NULL);
    for (uint32_t i = 0; i < f->sources_count; i++) {
        if (f->sources[i].started) pthread_join(f->sources[i].thread, NULL);
        nng_aio_free(f->sources[i].with);
    }
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        if (!f->lanes[i]) continue;
        nng_aio_stop(f->lanes[i]->aio);
        nng_aio_free(f->lanes[i]->aio);
        lane_unbind(f->lanes[i]);
        free(f->lanes[i]);
    }
    for (uint32_t i = 0; i < f->sources_count; i++) {
        if (f->sources[i].socket.id != 0) socket_close(f->sources[i].socket);
    }
    pthread_mutex_destroy(&f->lock);
    pthread_mutex_destroy(&f->tell_lock);
    pthread_cond_destroy(&f->wake);
    pthread_cond_destroy(&f->ask);
    free(f);
}
