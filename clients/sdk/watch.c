#include "clients/sdk/watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/sdk/query_answer.h"
#include "clients/sdk/query_reply.h"
#include "engine/base/clock.h"

/* -- fetching ---------------------------------------------------------------------------------- */

static void watch_rest(jumun_watch *w, int64_t due_ns) {
    w->state = WATCH_RESTING;
    w->due_ns = due_ns;
    if (w->dirty) watch_hub_queue(w->hub, w);
    else pthread_cond_signal(&w->hub->work); /* who sleeps may sleep too long */
}

static void watch_free(jumun_watch *w) {
    jumun_answer_free(w->answer);
    free(w->fields);
    free(w);
}

/* A thread of nng, or the one that submitted. */
static void watch_on_answer(void *arg, const jumun_answer *answer) {
    jumun_watch *w = arg;
    struct watch_hub *hub = w->hub;
    jumun_answer *copy = answer->code == JUMUN_OK ? query_answer_copy(answer, NULL) : NULL;
    pthread_mutex_lock(&hub->lock);
    if (w->closing) {
        jumun_answer_free(copy);
        watch_free(w);
    } else if (copy) {
        w->answer = copy;
        w->state = WATCH_FETCHED;
        watch_hub_queue(hub, w);
    } else {
        watch_rest(w, clock_mono_ns() + WATCH_RETRY_NS);
    }
    pthread_mutex_unlock(&hub->lock);
}

/* Tokens that were heard of and are not told yet. */
static uint32_t watch_heard(const jumun_watch *w, jumun_token *tokens) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->heard_count; i++) {
        uint64_t told = 0;
        for (uint32_t s = 0; s < w->since_count; s++)
            if (w->since[s].shard == w->heard[i].shard) told = w->since[s].index;
        if (w->heard[i].index > told) tokens[count++] = w->heard[i];
    }
    return count;
}

/* With the lock, which is given up meanwhile. */
static void watch_fetch(struct watch_hub *hub, jumun_watch *w) {
    jumun_token heard[WATCH_HEARD_MAX], since[SHARDS_MAX];
    jumun_query query = {.kind = JUMUN_CHANGES, .subject = w->topic, .since = since,
                         .since_count = w->since_count, .has_since = w->began,
                         .fields = (const char *const *)w->fields,
                         .fields_count = w->fields_count, .limit = w->page_rows};
    w->heard_count = watch_heard(w, heard);
    memcpy(w->heard, heard, w->heard_count * sizeof *heard);
    memcpy(since, w->since, w->since_count * sizeof *since);
    query.demand.at_least = heard;
    query.demand.at_least_count = w->heard_count;
    /* From now on: whatever the session has written is the past. Later the tokens rule. */
    query.demand.any_state = w->began;
    query.demand.no_stale = true;
    w->dirty = false;
    w->state = WATCH_FETCHING;
    pthread_mutex_unlock(&hub->lock);
    int code = jumun_query_submit(hub->queries, &query, watch_on_answer, w);
    pthread_mutex_lock(&hub->lock);
    if (code == JUMUN_OK) return;
    if (w->closing) watch_free(w);
    else watch_rest(w, clock_mono_ns() + WATCH_RETRY_NS);
}

/* -- telling ----------------------------------------------------------------------------------- */

/* A shard whose rows are being imported at the replica may lack some, whatever its token says. */
static bool answer_is_whole(const jumun_watch *w, const jumun_answer *a) {
    for (uint32_t m = 0; m < a->missing_count; m++) {
        bool lags = false;
        for (uint32_t h = 0; h < w->heard_count; h++) {
            if (w->heard[h].shard != a->missing[m]) continue;
            lags = true;
            for (uint32_t t = 0; t < a->tokens_count; t++)
                if (a->tokens[t].shard == a->missing[m] &&
                    a->tokens[t].index >= w->heard[h].index)
                    lags = false;
        }
        if (!lags) return false;
    }
    return true;
}

/* `since` moved on; a replica that does not know a shard says nothing about it. */
static uint32_t since_after(const jumun_watch *w, const struct query_changes *changes,
                            jumun_token *tokens) {
    uint32_t count = w->since_count;
    memcpy(tokens, w->since, count * sizeof *tokens);
    for (uint32_t i = 0; i < changes->tokens_count; i++) {
        uint32_t at = 0;
        while (at < count && tokens[at].shard != changes->tokens[i].shard) at++;
        if (at == SHARDS_MAX) continue;
        if (at == count) tokens[count++] = changes->tokens[i];
        else if (tokens[at].index < changes->tokens[i].index) tokens[at] = changes->tokens[i];
    }
    return count;
}

/* Without the lock. False: the callback wants no more. */
static bool tell_rows(jumun_watch *w, const struct query_changes *changes,
                      const jumun_token *tokens, uint32_t tokens_count) {
    struct msgpack_reader r;
    uint32_t count;
    msgpack_reader_init(&r, changes->rows, changes->rows_bytes);
    if (msgpack_read_array(&r, &count) != MSGPACK_OK) return true;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = r.at;
        if (msgpack_skip(&r) != MSGPACK_OK) return true;
        bool last = i + 1 == count;
        jumun_change change = {.topic = w->topic, .row = row, .row_bytes = (size_t)(r.at - row),
                               .tokens = last ? tokens : NULL,
                               .tokens_count = last ? tokens_count : 0};
        if (!w->callback(w->arg, &change)) return false;
    }
    return true;
}

/* With the lock, which is given up meanwhile. */
static void watch_tell(struct watch_hub *hub, jumun_watch *w) {
    jumun_answer *a = w->answer;
    struct query_changes changes;
    jumun_token tokens[SHARDS_MAX];
    w->answer = NULL;
    bool whole = answer_is_whole(w, a) &&
                 query_changes_read(a->value, a->value_bytes, &changes);
    if (!whole) {
        jumun_answer_free(a);
        watch_rest(w, clock_mono_ns() + WATCH_RETRY_NS);
        return;
    }
    uint32_t count = since_after(w, &changes, tokens);
    bool goes_on = true;
    w->state = WATCH_TELLING;
    if (changes.rows_count > 0) {
        pthread_mutex_unlock(&hub->lock);
        goes_on = tell_rows(w, &changes, tokens, count);
        pthread_mutex_lock(&hub->lock);
    }
    jumun_answer_free(a);
    memcpy(w->since, tokens, count * sizeof *tokens);
    w->since_count = count;
    w->began = true;
    w->heard_count = watch_heard(w, w->heard);
    if (!goes_on) w->state = WATCH_DONE;
    else if (changes.complete) watch_rest(w, clock_mono_ns() + (w->heard_count ? WATCH_RETRY_NS
                                                               : w->look_ms * 1000000LL));
    else watch_rest(w, 0);
    if (!changes.complete && goes_on) watch_hub_queue(hub, w);
    pthread_cond_broadcast(&hub->changed);
}

void watch_work(struct watch_hub *hub, jumun_watch *w) {
    if (w->state == WATCH_FETCHED) watch_tell(hub, w);
    else if (w->state == WATCH_RESTING) watch_fetch(hub, w);
}

/* -- open and close ---------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void *open_failed(char *error, size_t error_bytes,
                                                               const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (error && error_bytes) vsnprintf(error, error_bytes, format, args);
    va_end(args);
    return NULL;
}

const char *watch_topic_fault(const char *topic) {
    jumun_key key;
    if (strncmp(topic, "order/", 6) == 0)
        return jumun_key_parse(topic + 6, &key) ? NULL : "order/ is followed by an order's key";
    size_t head = strncmp(topic, "store/", 6) == 0 ? 6 : 0;
    if (strncmp(topic, "customer/", 9) == 0) head = 9;
    if (head == 0) return "a topic begins with order/, store/ or customer/";
    if (!topic[head]) return "a topic ends with an id";
    return strlen(topic + head) > ID_TEXT_BYTES_MAX ? "the id is over 64 bytes" : NULL;
}

static bool copy_fields(jumun_watch *w, const jumun_watch_options *o) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < o->fields_count; i++)
        bytes += sizeof *w->fields + strlen(o->fields[i]) + 1;
    if (bytes == 0) return true;
    if (!(w->fields = malloc(bytes))) return false;
    char *at = (char *)(w->fields + o->fields_count);
    for (uint32_t i = 0; i < o->fields_count; i++) {
        size_t size = strlen(o->fields[i]) + 1;
        memcpy(at, o->fields[i], size);
        w->fields[i] = at;
        at += size;
    }
    w->fields_count = o->fields_count;
    return true;
}

static jumun_watch *watch_new(const char *topic, const jumun_watch_options *o) {
    jumun_watch *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    if (!copy_fields(w, o)) {
        free(w);
        return NULL;
    }
    snprintf(w->topic, sizeof w->topic, "%s", topic);
    jumun_key key;
    /* The text form that notifications use. */
    if (strncmp(topic, "order/", 6) == 0 && jumun_key_parse(topic + 6, &key))
        jumun_key_format(&key, w->topic + 6);
    w->page_rows = o->page_rows ? o->page_rows : 100;
    w->look_ms = o->look_ms ? o->look_ms : 1000;
    w->began = o->has_since;
    w->since_count = o->has_since ? o->since_count : 0;
    if (w->since_count) memcpy(w->since, o->since, w->since_count * sizeof *w->since);
    w->dirty = true;
    return w;
}

jumun_watch *jumun_watch_open(jumun_queries *q, const char *topic,
                              const jumun_watch_options *options, jumun_change_callback callback,
                              void *arg, char *error, size_t error_bytes) {
    static const jumun_watch_options none;
    const jumun_watch_options *o = options ? options : &none;
    const char *fault = !topic || !callback ? "topic or callback is missing"
                                            : watch_topic_fault(topic);
    if (!fault && o->since_count > SHARDS_MAX) fault = "more than 256 tokens";
    if (!fault && o->page_rows > QUERY_ROWS_MAX) fault = "page_rows is over 1,000";
    if (!fault && o->fields_count > QUERY_FIELDS_MAX) fault = "more than 64 fields";
    if (fault) return open_failed(error, error_bytes, "%s", fault);
    struct watch_hub *hub = watch_hub_of(q);
    jumun_watch *w = hub ? watch_new(topic, o) : NULL;
    if (!w) return open_failed(error, error_bytes, "no memory for a watch");
    w->hub = hub;
    w->callback = callback;
    w->arg = arg;
    pthread_mutex_lock(&hub->lock);
    jumun_watch **bucket = &hub->buckets[watch_bucket(w->topic, strlen(w->topic))];
    bool first = true;
    for (jumun_watch *same = *bucket; same; same = same->next_same_hash)
        if (strcmp(same->topic, w->topic) == 0) first = false;
    w->next_same_hash = *bucket;
    *bucket = w;
    w->next_all = hub->all;
    hub->all = w;
    /* Before the first look, so that nothing lies between. */
    if (first) subscription_add(hub->subscription, w->topic);
    watch_hub_queue(hub, w);
    pthread_mutex_unlock(&hub->lock);
    return w;
}

static void hub_take_out(struct watch_hub *hub, jumun_watch *w) {
    jumun_watch **at = &hub->all, *before = NULL;
    while (*at != w) at = &(*at)->next_all;
    *at = w->next_all;
    at = &hub->buckets[watch_bucket(w->topic, strlen(w->topic))];
    jumun_watch *chain = *at;
    while (*at != w) at = &(*at)->next_same_hash;
    *at = w->next_same_hash;
    bool other = false;
    for (jumun_watch *s = chain; s; s = s->next_same_hash)
        if (s != w && strcmp(s->topic, w->topic) == 0) other = true;
    if (!other) subscription_remove(hub->subscription, w->topic);
    for (at = &hub->due_head; w->queued && *at; at = &(*at)->next_due) {
        if (*at == w) {
            *at = w->next_due;
            if (hub->due_tail == w) hub->due_tail = before;
            w->queued = false;
            break;
        }
        before = *at;
    }
}

void jumun_watch_close(jumun_watch *w) {
    if (!w) return;
    struct watch_hub *hub = w->hub;
    pthread_mutex_lock(&hub->lock);
    while (w->state == WATCH_TELLING) pthread_cond_wait(&hub->changed, &hub->lock);
    hub_take_out(hub, w);
    /* Whoever brings the answer frees it. */
    if (w->state == WATCH_FETCHING) w->closing = true;
    else watch_free(w);
    pthread_mutex_unlock(&hub->lock);
}

bool jumun_watch_await(jumun_watch *w, uint32_t timeout_ms) {
    struct watch_hub *hub = w->hub;
    int64_t until_ns = clock_mono_ns() + timeout_ms * 1000000LL;
    struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    pthread_mutex_lock(&hub->lock);
    while (!w->began && clock_mono_ns() < until_ns)
        pthread_cond_timedwait(&hub->changed, &hub->lock, &until);
    bool began = w->began;
    pthread_mutex_unlock(&hub->lock);
    return began;
}
