#include "engine/replica/query_server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/ulid.h"
#include "engine/feed/responder.h"
#include "engine/wire/routing.h"
#include "engine/wire/tls.h"

enum {
    QUERY_CONTEXTS = 1024,
    QUERY_PARKED_BYTES = 64 << 20,
    QUERY_TOPICS_MAX = 8,          /* watched by one parked message; more: any */
    QUERY_TOPIC_SLOTS = 4096       /* of the filter of changed topics */
};

/* A message that waits. */
struct parked {
    struct parked *next;
    struct responder_slot *slot;
    nng_msg *message;
    struct wire_arena arena;
    struct query_request request;
    uint64_t bytes;                /* of message and arena */
    int64_t until_ms;              /* Unix */
    uint64_t topics[QUERY_TOPICS_MAX];
    uint32_t topics_count;         /* UINT32_MAX = any */
    bool reached;                  /* what it waits for is a change */
    bool due;                      /* something that it waits for has happened */
};

struct query_server {
    struct query_server_options options;
    struct responder *responder;
    pthread_t thread;
    pthread_mutex_t lock;          /* guards all below but the counters */
    pthread_cond_t wake;
    struct parked *parked;
    uint32_t parked_count;
    uint64_t changed[QUERY_TOPIC_SLOTS / 64]; /* slots that changed since the thread looked */
    bool committed, stop, started;
    atomic_bool stopping;
    /* Who parks puts itself into the list and then looks whether a commit came since its answer;
     * who commits counts it and then looks for watchers: one of the two sees the other. */
    atomic_uint watchers;          /* parked messages that wait for a topic */
    atomic_ullong commits;
    atomic_ullong parked_bytes;    /* of all that wait, or are looked at again */
    atomic_ullong queries, refused, waited, not_reached;
    struct histogram latency;
};

/* Where replies are written before their size is known; one per thread, which frees it. */
static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void make_buffer_key(void) {
    int rc = pthread_key_create(&buffer_key, free);
    require(rc == 0);
}

static uint8_t *answer_buffer(void) {
    pthread_once(&buffer_once, make_buffer_key);
    uint8_t *buffer = pthread_getspecific(buffer_key);
    if (buffer) return buffer;
    buffer = malloc(MESSAGE_BYTES_MAX);
    if (buffer) pthread_setspecific(buffer_key, buffer);
    return buffer;
}

static nng_msg *message_of(const uint8_t *bytes, size_t size) {
    nng_msg *message;
    if (nng_msg_alloc(&message, size) != 0) return NULL;
    memcpy(nng_msg_body(message), bytes, size);
    return message;
}

/* `sentence` NULL: the code's own. */
static void reply_refusal_as(struct query_server *s, struct responder_slot *slot,
                             enum result_code code, const char *sentence) {
    uint8_t bytes[256];
    atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
    responder_reply(slot, message_of(bytes, answer_refusal(code, sentence, bytes, sizeof bytes)));
}

static void reply_refusal(struct query_server *s, struct responder_slot *slot,
                          enum result_code code) {
    reply_refusal_as(s, slot, code,
                     code == RESULT_MALFORMED_MESSAGE
                         ? "a message is [1, deadline_ms, [query, ...], at_least?, "
                           "max_age_ms?] in msgpack"
                         : NULL);
}

/* -- topics ------------------------------------------------------------------------------------ */

static uint64_t topic_hash(const char *kind, struct bytes id) {
    return routing_hash(kind, strlen(kind)) * 31 + routing_hash(id.data, id.size);
}

static void watch_topic(struct parked *p, struct bytes topic) {
    static const char *const kinds[] = {"order/", "store/", "customer/"};
    for (int i = 0; i < 3; i++) {
        size_t size = strlen(kinds[i]);
        if (topic.size <= size || memcmp(topic.data, kinds[i], size) != 0) continue;
        if (p->topics_count == QUERY_TOPICS_MAX) p->topics_count = UINT32_MAX;
        if (p->topics_count == UINT32_MAX) return;
        p->topics[p->topics_count++] =
            topic_hash(kinds[i], bytes_of((const char *)topic.data + size, topic.size - size));
        return;
    }
}

/* -- parking ----------------------------------------------------------------------------------- */

static void parked_free(struct query_server *s, struct parked *p) {
    atomic_fetch_sub(&s->parked_bytes, p->bytes);
    wire_arena_free(&p->arena);
    nng_msg_free(p->message);
    free(p);
}

static void parked_list(struct query_server *s, struct parked *p) {
    p->next = s->parked;
    s->parked = p;
    s->parked_count++;
    if (p->reached) atomic_fetch_add(&s->watchers, 1);
}

/* Whether it may be left waiting: so many contexts stay free that others are taken in. */
static bool may_park(struct query_server *s) {
    struct responder_stats stats;
    responder_stats(s->responder, &stats);
    return stats.in_flight < s->options.contexts - s->options.contexts / 8;
}

/* Takes room for what waits; false = there is none. */
static bool take_room(struct query_server *s, uint64_t bytes) {
    if (atomic_fetch_add(&s->parked_bytes, bytes) + bytes <= s->options.parked_bytes) return true;
    atomic_fetch_sub(&s->parked_bytes, bytes);
    return false;
}

static int64_t wait_until_ms(const struct query_request *r, int64_t now_ms) {
    if (r->deadline_ms <= now_ms) return 0;
    return r->deadline_ms - now_ms > QUERY_WAIT_MS_MAX ? now_ms + QUERY_WAIT_MS_MAX
                                                       : r->deadline_ms;
}

/* Answers, or says that it is worth waiting. The waiting is for *answer's reached or changed. */
static bool try_answer(struct query_server *s, const struct query_request *request,
                       struct responder_slot *slot, bool may_wait, struct answer *answer) {
    uint8_t *buffer = answer_buffer();
    if (!buffer || !answer_request(&s->options.source, request, buffer, answer)) {
        reply_refusal(s, slot, RESULT_OVERLOADED);
        return true;
    }
    if (may_wait && (!answer->reached || !answer->changed)) return false;
    responder_reply(slot, message_of(buffer, answer->bytes));
    return true;
}

/* `commits`: those counted before its last answer was made. Who comes when the waking thread may
 * have ended already does not wait. */
static void park(struct query_server *s, struct parked *p, uint64_t commits) {
    struct answer answer;
    pthread_mutex_lock(&s->lock);
    bool stopped = s->stop;
    if (!stopped) {
        parked_list(s, p);
        p->due = atomic_load(&s->commits) != commits;
        if (p->due) s->committed = true;
        pthread_cond_signal(&s->wake); /* its deadline may be the next one */
    }
    pthread_mutex_unlock(&s->lock);
    if (!stopped) return;
    try_answer(s, &p->request, p->slot, false, &answer);
    parked_free(s, p);
}

/* -- in (threads of nng) ----------------------------------------------------------------------- */

static void take_feed_request(struct query_server *s, struct responder_slot *slot,
                              nng_msg *message) {
    struct feed_request request;
    enum result_code code =
        feed_request_decode(nng_msg_body(message), nng_msg_len(message), &request);
    const char *sentence = feed_request_fault(nng_msg_body(message), nng_msg_len(message), code);
    if (code == RESULT_OK && request.kind < FEED_SNAPSHOT_BEGIN) {
        code = RESULT_UNKNOWN_COMMAND;
        sentence = "a replica has no log: ask the feed of a node; 303 to 305 are answered here";
    } else if (code == RESULT_OK && request.kind == FEED_SNAPSHOT_BEGIN &&
               request.shard != UINT32_MAX) {
        code = RESULT_SHARD_NOT_HERE;
        sentence = "a replica copies all its views or none: [1, 303, nil]";
    }
    nng_msg_free(message);
    if (code == RESULT_OK) {
        s->options.feed_request(s->options.source.arg, slot, &request);
        return;
    }
    atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
    responder_reply(slot, feed_refusal((uint16_t)code, sentence, 0));
}

/* Everything of the message that has to outlive this call is in `p`. */
static void take_parked(struct query_server *s, const struct parked *p, uint64_t commits,
                        const struct answer *answer) {
    struct wire_arena arena = p->arena;
    uint64_t bytes = nng_msg_len(p->message) + arena.bytes;
    bool room = take_room(s, bytes);
    struct parked *kept = room ? malloc(sizeof *kept) : NULL;
    if (room && !kept) atomic_fetch_sub(&s->parked_bytes, bytes);
    if (!kept) {
        if (bytes > s->options.parked_bytes) /* however long it waits for others to go */
            reply_refusal_as(s, p->slot, RESULT_MESSAGE_TOO_LARGE, "the message would have to "
                             "wait, and takes more memory than there is for all that do: ask for "
                             "less in one, or demand nothing");
        else reply_refusal(s, p->slot, room ? RESULT_OUT_OF_MEMORY : RESULT_OVERLOADED);
        wire_arena_free(&arena);
        nng_msg_free(p->message);
        return;
    }
    *kept = *p;
    kept->bytes = bytes;
    kept->reached = answer->reached;
    for (uint32_t i = 0; i < kept->request.queries_count; i++) {
        const struct query *q = &kept->request.queries[i];
        if (q->kind == QUERY_WATCH && q->fault == 0) watch_topic(kept, q->subject);
    }
    atomic_fetch_add_explicit(&s->waited, 1, memory_order_relaxed);
    park(s, kept, commits);
}

static void query_take(void *arg, struct responder_slot *slot, nng_msg *message) {
    struct query_server *s = arg;
    int64_t began_ns = clock_mono_ns();
    const void *body = nng_msg_body(message);
    size_t size = nng_msg_len(message);
    if (s->options.feed_request && feed_request_is_one(body, size)) {
        take_feed_request(s, slot, message);
        return;
    }
    struct parked p = {.slot = slot, .message = message};
    enum result_code code = query_decode(body, size, &p.arena, &p.request);
    if (code == RESULT_OK && atomic_load(&s->stopping)) code = RESULT_SHUTTING_DOWN;
    if (code != RESULT_OK) {
        reply_refusal(s, slot, code);
        wire_arena_free(&p.arena);
        nng_msg_free(message);
        return;
    }
    atomic_fetch_add_explicit(&s->queries, p.request.queries_count, memory_order_relaxed);
    if (p.request.deadline_ms != 0) p.until_ms = wait_until_ms(&p.request, clock_unix_ms());
    struct answer answer;
    uint64_t commits = atomic_load(&s->commits);
    if (try_answer(s, &p.request, slot, p.until_ms != 0 && may_park(s), &answer)) {
        histogram_record(&s->latency, clock_mono_ns() - began_ns);
        wire_arena_free(&p.arena);
        nng_msg_free(message);
        return;
    }
    take_parked(s, &p, commits, &answer);
}

/* -- the waking thread ------------------------------------------------------------------------- */

static bool topic_changed(const struct query_server *s, const struct parked *p) {
    if (p->topics_count == UINT32_MAX) return true;
    for (uint32_t i = 0; i < p->topics_count; i++) {
        uint32_t slot = p->topics[i] % QUERY_TOPIC_SLOTS;
        if (s->changed[slot / 64] >> slot % 64 & 1) return true;
    }
    return false;
}

/* Takes out of the list what a commit or the time has made due. The lock is held. Who stays is
 * counted all the while: who commits looks at the number without the lock. */
static struct parked *take_due(struct query_server *s, int64_t now_ms) {
    struct parked *due = NULL;
    for (struct parked **at = &s->parked, *p; (p = *at);) {
        bool look = p->due || s->stop || now_ms >= p->until_ms ||
                    (s->committed && (!p->reached || topic_changed(s, p)));
        if (!look) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        s->parked_count--;
        if (p->reached) atomic_fetch_sub(&s->watchers, 1);
        p->next = due;
        due = p;
    }
    /* What changed in a publication that is being told is looked at when all of it was. */
    if (s->committed) memset(s->changed, 0, sizeof s->changed);
    s->committed = false;
    return due;
}

/* Answers it, or puts it back. Without the lock. */
static void look_again(struct query_server *s, struct parked *p, int64_t now_ms) {
    struct answer answer;
    bool late = now_ms >= p->until_ms || atomic_load(&s->stopping);
    uint64_t commits = atomic_load(&s->commits);
    if (try_answer(s, &p->request, p->slot, !late, &answer)) {
        if (late && !answer.reached)
            atomic_fetch_add_explicit(&s->not_reached, 1, memory_order_relaxed);
        parked_free(s, p);
        return;
    }
    p->reached = answer.reached;
    park(s, p, commits);
}

/* The next deadline; the lock is held. */
static void sleep_until_due(struct query_server *s) {
    int64_t now_ms = clock_unix_ms(), wait_ms = 1000;
    for (const struct parked *p = s->parked; p; p = p->next) {
        if (p->until_ms - now_ms < wait_ms) wait_ms = p->until_ms - now_ms;
    }
    if (wait_ms <= 0) return;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += wait_ms % 1000 * 1000000;
    until.tv_sec += wait_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&s->wake, &s->lock, &until);
}

static void *query_main(void *arg) {
    struct query_server *s = arg;
    pthread_setname_np(pthread_self(), "watch");
    pthread_mutex_lock(&s->lock);
    for (;;) {
        if (!s->committed && !s->stop) sleep_until_due(s);
        int64_t now_ms = clock_unix_ms();
        struct parked *due = take_due(s, now_ms);
        bool stop = s->stop;
        pthread_mutex_unlock(&s->lock);
        for (struct parked *next; due; due = next) {
            next = due->next;
            look_again(s, due, now_ms);
        }
        pthread_mutex_lock(&s->lock);
        if (stop && !s->parked) break;
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void query_server_changed(struct query_server *s, const struct fold_order *order) {
    struct view_order o;
    char key[ULID_TEXT_SIZE + 1];
    if (atomic_load(&s->watchers) == 0) return;
    view_order_of(order->block, order->shard, &o);
    ulid_format(&order->key, key);
    const uint64_t topics[3] = {topic_hash("order/", bytes_of(key, ULID_TEXT_SIZE)),
                                topic_hash("store/", o.store),
                                topic_hash("customer/", o.customer)};
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < 3; i++) {
        uint32_t slot = topics[i] % QUERY_TOPIC_SLOTS;
        s->changed[slot / 64] |= 1ull << slot % 64;
    }
    pthread_mutex_unlock(&s->lock);
}

void query_server_advance(struct query_server *s) { atomic_fetch_add(&s->commits, 1); }

void query_server_committed(struct query_server *s) {
    pthread_mutex_lock(&s->lock);
    s->committed = true;
    if (s->parked_count > 0) pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

/* -- life -------------------------------------------------------------------------------------- */

struct query_server *query_server_open(const struct query_server_options *options, char *error,
                                       size_t error_bytes) {
    struct query_server *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(error, error_bytes, "no memory for the queries");
        return NULL;
    }
    s->options = *options;
    if (s->options.contexts == 0) s->options.contexts = QUERY_CONTEXTS;
    if (s->options.parked_bytes == 0) s->options.parked_bytes = QUERY_PARKED_BYTES;
    pthread_condattr_t attr;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
    const struct responder_options r = {.listen = options->listen,
                                        .contexts = s->options.contexts,
                                        .share = REPLY_SHARE(s->options.contexts),
                                        .take = query_take, .arg = s,
                                        .tls = tls_of_environment()};
    s->responder = responder_open(&r, error, error_bytes);
    if (s->responder) return s;
    query_server_close(s);
    return NULL;
}

const char *query_server_endpoint(const struct query_server *s) {
    return responder_endpoint(s->responder);
}

bool query_server_start(struct query_server *s, char *error, size_t error_bytes) {
    int rc = pthread_create(&s->thread, NULL, query_main, s);
    if (rc != 0) {
        snprintf(error, error_bytes, "cannot start the watching thread: %s", strerror(rc));
        return false;
    }
    s->started = true;
    return responder_start(s->responder, error, error_bytes);
}

const struct histogram *query_server_latency(const struct query_server *s) { return &s->latency; }

void query_server_stats(const struct query_server *server, struct query_server_stats *stats) {
    struct query_server *s = (struct query_server *)(uintptr_t)server;
    struct responder_stats r;
    responder_stats(s->responder, &r);
    pthread_mutex_lock(&s->lock);
    *stats = (struct query_server_stats){.parked = s->parked_count};
    pthread_mutex_unlock(&s->lock);
    stats->parked_bytes = atomic_load(&s->parked_bytes);
    stats->messages = r.received;
    stats->queries = atomic_load(&s->queries);
    stats->refused = atomic_load(&s->refused);
    stats->replies_dropped = r.dropped;
    stats->bytes_in = r.bytes_in;
    stats->bytes_out = r.bytes_out;
    stats->in_flight = r.in_flight;
    stats->watchers = atomic_load(&s->watchers);
    stats->waited = atomic_load(&s->waited);
    stats->not_reached = atomic_load(&s->not_reached);
}

void query_server_stop(struct query_server *s) {
    atomic_store(&s->stopping, true);
    if (!s->started) return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->started = false;
}

void query_server_halt(struct query_server *s, int64_t patience_ms) {
    int64_t until_ms = clock_mono_ms() + patience_ms;
    responder_halt(s->responder);
    while (!responder_is_idle(s->responder) && clock_mono_ms() < until_ms) usleep(1000);
}

void query_server_close(struct query_server *s) {
    if (s->responder) responder_close(s->responder);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s);
}
