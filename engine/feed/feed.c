/* Life of the feed: its shards, its threads, the way of a request to its thread. */
#include "engine/feed/feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/priority.h"
#include "engine/feed/feed_batch.h"
#include "engine/feed/feed_internal.h"

enum {
    FEED_TICK_NS = 1000000,        /* how often waiting pulls are looked at while the log moves */
    FEED_IDLE_TICK_NS = 4000000,   /* and while it does not */
    FEED_LISTEN_NS = 50000000,     /* how often it is looked whether somebody subscribes */
    FEED_MOVING_MS = 200
};

/* -- shards ---------------------------------------------------------------------------------- */

bool feed_enter(struct feed *f, uint32_t shard, struct feed_source *source) {
    bool here = false;
    if (shard >= SHARDS_MAX) return false;
    pthread_mutex_lock(&f->lock);
    struct feed_shard *s = &f->shards[shard];
    if (s->source.storage && !s->leaving) {
        s->users++;
        *source = s->source;
        here = true;
    }
    pthread_mutex_unlock(&f->lock);
    return here;
}

void feed_leave(struct feed *f, uint32_t shard) {
    pthread_mutex_lock(&f->lock);
    if (--f->shards[shard].users == 0) pthread_cond_broadcast(&f->left);
    pthread_mutex_unlock(&f->lock);
}

void feed_add(struct feed *f, uint32_t shard, const struct feed_source *source) {
    if (shard >= SHARDS_MAX) return; /* the cluster's own document is nobody's orders */
    pthread_mutex_lock(&f->lock);
    require(!f->shards[shard].source.storage);
    f->shards[shard] = (struct feed_shard){.source = *source, .added = ++f->added};
    pthread_mutex_unlock(&f->lock);
}

void feed_remove(struct feed *f, uint32_t shard) {
    if (shard >= SHARDS_MAX) return;
    pthread_mutex_lock(&f->lock);
    f->shards[shard].leaving = true;
    while (f->shards[shard].users > 0) pthread_cond_wait(&f->left, &f->lock);
    f->shards[shard] = (struct feed_shard){.users = 0};
    pthread_mutex_unlock(&f->lock);
}

/* -- requests -------------------------------------------------------------------------------- */

static struct feed_thread *thread_of(struct feed *f, uint32_t shard) {
    return &f->threads[shard % f->threads_count];
}

/* On a thread of nng. */
static void feed_take(void *arg, struct responder_slot *slot, nng_msg *message) {
    struct feed *f = arg;
    struct feed_waiter *w = malloc(sizeof *w);
    enum result_code code = w ? feed_request_decode(nng_msg_body(message), nng_msg_len(message),
                                                    &w->request)
                              : RESULT_OUT_OF_MEMORY;
    const char *fault = code == RESULT_OUT_OF_MEMORY
                            ? NULL
                            : feed_request_fault(nng_msg_body(message), nng_msg_len(message), code);
    nng_msg_free(message);
    if (code != RESULT_OK) {
        atomic_fetch_add(&f->refused, 1);
        free(w);
        responder_reply(slot, feed_refusal(code, fault, 0));
        return;
    }
    if (w->request.kind >= FEED_SNAPSHOT_BEGIN) {
        if (f->snapshots) feed_copies_offer(f->snapshots, slot, &w->request);
        else responder_reply(slot, feed_refusal(RESULT_UNKNOWN_COMMAND, NULL, 0));
        free(w);
        return;
    }
    struct responder_stats stats;
    responder_stats(f->responder, &stats);
    w->slot = slot;
    w->asked_ms = clock_mono_ms();
    w->until_ms = w->asked_ms + w->request.wait_ms;
    /* The last contexts answer at once, so that a waiting crowd keeps nobody out. */
    if (stats.in_flight > FEED_CONTEXTS - FEED_CONTEXTS / 8) w->until_ms = 0;
    struct feed_thread *t = thread_of(f, w->request.shard);
    pthread_mutex_lock(&t->lock);
    bool taken = !t->stop;
    if (taken) {
        w->next = t->incoming;
        t->incoming = w;
        pthread_cond_signal(&t->wake);
    }
    pthread_mutex_unlock(&t->lock);
    if (taken) return;
    free(w);
    responder_reply(slot, feed_refusal(RESULT_SHUTTING_DOWN, NULL, 0));
}

/* Serves what can be served; keeps the rest. */
static void serve_all(struct feed_thread *t, struct feed_waiter *incoming) {
    struct feed_waiter **at = &t->waiters;
    while (*at) at = &(*at)->next;
    *at = incoming;
    int64_t now_ms = clock_mono_ms();
    uint64_t waiting = 0;
    for (at = &t->waiters; *at;) {
        struct feed_waiter *w = *at;
        if (!feed_serve(t, w, now_ms)) {
            waiting++;
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
    atomic_store_explicit(&t->waiting, waiting, memory_order_relaxed);
}

/* Until something comes in, or it is time to look at the shards again. The lock is held. */
static void wait_for_more(struct feed_thread *t) {
    bool heard = t->feed->notifier && notifier_is_heard(t->feed->notifier);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (!t->waiters && !heard) until.tv_nsec += FEED_LISTEN_NS; /* a subscriber may have come */
    else if (clock_mono_ms() - t->moved_ms < FEED_MOVING_MS) until.tv_nsec += FEED_TICK_NS;
    else until.tv_nsec += FEED_IDLE_TICK_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&t->wake, &t->lock, &until);
}

/* Who follows the end of the log is served in front of others; who reads all of it, a replica that
 * is made anew above all, must not take the processor from those who write. */
static void hurry_or_not(struct feed_thread *t) {
    bool far = t->far_ms != 0 && clock_mono_ms() - t->far_ms < FEED_FAR_MS;
    int nice = far ? 0 : t->feed->nice;
    if (t->patient && far) priority_patient();
    else if (t->patient) priority_prompt();
    if (nice == t->nice) return;
    t->nice = nice; /* also where it is refused */
    if (!priority_set(nice) && !t->told_refusal) {
        t->told_refusal = true;
        if (t->position != 0) return;
        log_info("not permitted to run the feed at nice %d (CAP_SYS_NICE, or LimitNICE= of the "
                 "service): when this machine is busy replicas see changes later", nice);
    }
}

static void *feed_main(void *arg) {
    struct feed_thread *t = arg;
    pthread_setname_np(pthread_self(), "feed");
    t->patient = priority_is_patient();
    priority_prompt();
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        if (!t->incoming) wait_for_more(t);
        struct feed_waiter *incoming = t->incoming;
        t->incoming = NULL;
        pthread_mutex_unlock(&t->lock);
        hurry_or_not(t);
        serve_all(t, incoming);
        feed_notify(t);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    for (struct feed_waiter **list = &t->waiters; *list || t->incoming;) {
        if (!*list) list = &t->incoming;
        struct feed_waiter *w = *list;
        *list = w->next;
        responder_reply(w->slot, feed_refusal(RESULT_SHUTTING_DOWN, NULL, 0));
        free(w);
    }
    return NULL;
}

/* -- snapshots: on their thread ---------------------------------------------------------------- */

static int make_snapshot(void *arg, uint32_t shard, const char *path, const atomic_bool *stop,
                         struct feed_copy_tokens *tokens, char *error, size_t error_bytes) {
    struct feed *f = arg;
    struct feed_source source;
    struct storage_meta *meta = malloc(sizeof *meta);
    if (!meta) return RESULT_OUT_OF_MEMORY;
    int code = feed_enter(f, shard, &source) ? RESULT_OK : RESULT_SHARD_NOT_HERE;
    if (code == RESULT_OK) {
        if (source.storage->ops->export_state(source.storage, path, stop, meta, error,
                                              error_bytes) != 0)
            code = RESULT_STORAGE_FAILED;
        feed_leave(f, shard);
    }
    tokens->count = 1;
    tokens->tokens[0] = (struct query_token){shard, meta->applied_index};
    memcpy(tokens->cluster_id, f->cluster_id, sizeof tokens->cluster_id);
    free(meta);
    return code;
}

void feed_set_shards_count(struct feed *f, uint32_t shards_count) {
    atomic_store(&f->shards_count, shards_count);
}

void feed_set_active(struct feed *f, const uint8_t active[SHARDS_MAX / 8]) {
    pthread_mutex_lock(&f->lock);
    memcpy(f->active, active, sizeof f->active);
    f->active_known = true;
    pthread_mutex_unlock(&f->lock);
}

/* -- life -------------------------------------------------------------------------------------- */

static bool open_sockets(struct feed *f, const struct feed_options *options, char *error,
                         size_t error_bytes) {
    const struct responder_options r = {.listen = options->listen, .contexts = FEED_CONTEXTS,
                                        .take = feed_take, .arg = f, .tls = options->tls};
    f->responder = responder_open(&r, error, error_bytes);
    if (!f->responder) return false;
    if (options->notify)
        f->notifier = notifier_open(options->notify, options->tls, error, error_bytes);
    if (options->notify && !f->notifier) return false;
    if (!options->snapshots) return true;
    const struct feed_copies_options s = {.directory = options->snapshots, .make = make_snapshot,
                                        .arg = f};
    f->snapshots = feed_copies_start(&s, error, error_bytes);
    return f->snapshots != NULL;
}

struct feed *feed_open(const struct feed_options *options, char *error, size_t error_bytes) {
    struct feed *f = calloc(1, sizeof *f);
    if (!f) {
        snprintf(error, error_bytes, "no memory for the feed");
        return NULL;
    }
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->left, NULL);
    snprintf(f->cluster_id, sizeof f->cluster_id, "%s", options->cluster_id);
    f->node_id = options->node_id;
    f->nice = options->nice;
    atomic_init(&f->shards_count, options->shards_count);
    f->threads_count = options->threads ? options->threads : 1;
    if (f->threads_count > FEED_THREADS_MAX) f->threads_count = FEED_THREADS_MAX;
    f->threads = calloc(f->threads_count, sizeof *f->threads);
    bool good = f->threads != NULL;
    for (uint32_t i = 0; good && i < f->threads_count; i++) {
        struct feed_thread *t = &f->threads[i];
        pthread_condattr_t attr;
        t->feed = f;
        t->position = i;
        t->buffer = malloc(FEED_BATCH_ROOM_BYTES);
        good = t->buffer != NULL;
        pthread_mutex_init(&t->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&t->wake, &attr);
        pthread_condattr_destroy(&attr);
    }
    if (!good) snprintf(error, error_bytes, "no memory for the feed");
    if (good && open_sockets(f, options, error, error_bytes)) return f;
    feed_close(f);
    return NULL;
}

const char *feed_endpoint(const struct feed *f) { return responder_endpoint(f->responder); }

const char *feed_notify_endpoint(const struct feed *f) {
    return f->notifier ? notifier_endpoint(f->notifier) : "";
}

bool feed_start(struct feed *f, char *error, size_t error_bytes) {
    for (uint32_t i = 0; i < f->threads_count; i++) {
        int rc = pthread_create(&f->threads[i].thread, NULL, feed_main, &f->threads[i]);
        if (rc != 0) {
            snprintf(error, error_bytes, "cannot start the feed: %s", strerror(rc));
            f->threads_count = i;
            return false;
        }
        f->started = true;
    }
    return responder_start(f->responder, error, error_bytes);
}

void feed_stop(struct feed *f) {
    responder_halt(f->responder);
    for (uint32_t i = 0; f->started && i < f->threads_count; i++) {
        struct feed_thread *t = &f->threads[i];
        pthread_mutex_lock(&t->lock);
        t->stop = true;
        pthread_cond_signal(&t->wake);
        pthread_mutex_unlock(&t->lock);
        pthread_join(t->thread, NULL);
    }
    f->started = false;
    if (f->snapshots) feed_copies_stop(f->snapshots);
    f->stopped = true;
}

void feed_close(struct feed *f) {
    if (f->snapshots && !f->stopped) feed_copies_stop(f->snapshots);
    if (f->responder) responder_close(f->responder);
    if (f->snapshots) feed_copies_free(f->snapshots);
    if (f->notifier) notifier_close(f->notifier);
    for (uint32_t i = 0; f->threads && i < f->threads_count; i++) {
        if (!f->threads[i].feed) break;
        free(f->threads[i].buffer);
        pthread_mutex_destroy(&f->threads[i].lock);
        pthread_cond_destroy(&f->threads[i].wake);
    }
    free(f->threads);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->left);
    free(f);
}

void feed_stats(const struct feed *f, struct feed_stats *stats) {
    struct responder_stats r;
    responder_stats(f->responder, &r);
    *stats = (struct feed_stats){.requests = r.received,
                                 .replies = r.replied,
                                 .dropped = r.dropped,
                                 .refused = atomic_load(&f->refused),
                                 .overloaded = atomic_load(&f->overloaded),
                                 .imports_required = atomic_load(&f->imports_required),
                                 .entries = atomic_load(&f->entries),
                                 .bytes = atomic_load(&f->bytes),
                                 .shared = atomic_load(&f->shared),
                                 .notices = f->notifier ? notifier_sent(f->notifier) : 0};
    for (uint32_t i = 0; i < f->threads_count; i++)
        stats->waiting += atomic_load_explicit(&f->threads[i].waiting, memory_order_relaxed);
}
