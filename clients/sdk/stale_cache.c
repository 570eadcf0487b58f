#include "clients/sdk/stale_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "clients/sdk/query_answer.h"
#include "engine/wire/routing.h"

enum { STALE_BUCKETS = 4096 };

struct stale_entry {
    struct stale_entry *next;          /* of its bucket */
    struct stale_entry *newer, *older; /* by use */
    jumun_answer *answer;
    int64_t kept_ns;
    uint64_t hash;
    size_t bytes;                      /* of entry, query and answer */
    uint32_t query_bytes;
    uint8_t query[];
};

struct stale_cache {
    pthread_mutex_t lock;
    uint64_t bytes, bytes_max;
    struct stale_entry *newest, *oldest;
    struct stale_entry *buckets[STALE_BUCKETS];
};

struct stale_cache *stale_cache_new(uint32_t bytes_max) {
    struct stale_cache *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->bytes_max = bytes_max;
    return c;
}

static void list_take(struct stale_cache *c, struct stale_entry *e) {
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void list_put(struct stale_cache *c, struct stale_entry *e) {
    e->older = c->newest;
    if (c->newest) c->newest->newer = e;
    c->newest = e;
    if (!c->oldest) c->oldest = e;
}

static struct stale_entry **find(struct stale_cache *c, const void *query, uint32_t bytes,
                                 uint64_t hash) {
    struct stale_entry **at = &c->buckets[hash % STALE_BUCKETS];
    for (; *at; at = &(*at)->next)
        if ((*at)->hash == hash && (*at)->query_bytes == bytes &&
            memcmp((*at)->query, query, bytes) == 0)
            break;
    return at;
}

static void forget(struct stale_cache *c, struct stale_entry **at) {
    struct stale_entry *e = *at;
    *at = e->next;
    list_take(c, e);
    c->bytes -= e->bytes;
    jumun_answer_free(e->answer);
    free(e);
}

void stale_cache_clear(struct stale_cache *c) {
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < STALE_BUCKETS; i++)
        while (c->buckets[i]) forget(c, &c->buckets[i]);
    pthread_mutex_unlock(&c->lock);
}

void stale_cache_delete(struct stale_cache *c) {
    if (!c) return;
    stale_cache_clear(c);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* NULL: too large, or no memory. */
static struct stale_entry *entry_new(const struct stale_cache *c, const void *query, uint32_t bytes,
                                     const jumun_answer *answer) {
    size_t answer_bytes;
    if (answer->value_bytes > c->bytes_max / 8) return NULL;
    struct stale_entry *e = malloc(sizeof *e + bytes);
    if (!e) return NULL;
    e->answer = query_answer_copy(answer, &answer_bytes);
    e->bytes = sizeof *e + bytes + answer_bytes;
    if (!e->answer || e->bytes > c->bytes_max / 8) {
        jumun_answer_free(e->answer);
        free(e);
        return NULL;
    }
    e->query_bytes = bytes;
    memcpy(e->query, query, bytes);
    return e;
}

void stale_cache_put(struct stale_cache *c, const void *query, uint32_t query_bytes,
                     const jumun_answer *answer, int64_t now_ns) {
    struct stale_entry *e = entry_new(c, query, query_bytes, answer);
    if (!e) return;
    e->hash = routing_hash(query, query_bytes);
    e->kept_ns = now_ns;
    pthread_mutex_lock(&c->lock);
    struct stale_entry **at = find(c, query, query_bytes, e->hash);
    if (*at) forget(c, at);
    while (c->oldest && c->bytes + e->bytes > c->bytes_max) {
        struct stale_entry *old = c->oldest;
        forget(c, find(c, old->query, old->query_bytes, old->hash));
    }
    struct stale_entry **bucket = &c->buckets[e->hash % STALE_BUCKETS];
    e->next = *bucket;
    *bucket = e;
    e->newer = NULL;
    list_put(c, e);
    c->bytes += e->bytes;
    pthread_mutex_unlock(&c->lock);
}

void stale_cache_drop(struct stale_cache *c, const void *query, uint32_t query_bytes) {
    pthread_mutex_lock(&c->lock);
    struct stale_entry **at = find(c, query, query_bytes, routing_hash(query, query_bytes));
    if (*at) forget(c, at);
    pthread_mutex_unlock(&c->lock);
}

jumun_answer *stale_cache_get(struct stale_cache *c, const void *query, uint32_t query_bytes,
                              int64_t now_ns) {
    jumun_answer *copy = NULL;
    pthread_mutex_lock(&c->lock);
    struct stale_entry *e = *find(c, query, query_bytes, routing_hash(query, query_bytes));
    if (e && (copy = query_answer_copy(e->answer, NULL))) {
        int64_t kept_ms = (now_ns - e->kept_ns) / 1000000;
        copy->stale = true;
        if (copy->age_ms != UINT32_MAX)
            copy->age_ms = (uint64_t)kept_ms + copy->age_ms < UINT32_MAX
                               ? copy->age_ms + (uint32_t)kept_ms : UINT32_MAX;
        list_take(c, e);
        list_put(c, e);
    }
    pthread_mutex_unlock(&c->lock);
    return copy;
}

uint64_t stale_cache_bytes(struct stale_cache *c) {
    pthread_mutex_lock(&c->lock);
    uint64_t bytes = c->bytes;
    pthread_mutex_unlock(&c->lock);
    return bytes;
}
