/* The records that are durable in the journal and not yet in the log's environment, for readers.
 * Its order is the log's, its end is the log's end: what a queued truncation will take away is not
 * in here, and nobody reads it in the environment either. */
#include <stdlib.h>

#include "engine/base/check.h"
#include "persistence/lmdb/internal.h"

static struct record **tail_at(struct log_tail *t, uint64_t index) {
    return &t->ring[index & (t->capacity - 1)];
}

/* t->lock held. */
static bool tail_is_empty(const struct log_tail *t) { return t->count == 0; }

static bool tail_grow(struct log_tail *t) {
    uint64_t capacity = t->capacity ? t->capacity * 2 : 1024;
    struct record **ring = malloc(capacity * sizeof *ring);
    if (!ring) return false;
    for (uint64_t i = t->first; i < t->first + t->count; i++)
        ring[i & (capacity - 1)] = *tail_at(t, i);
    free(t->ring);
    t->ring = ring;
    t->capacity = capacity;
    return true;
}

void log_tail_init(struct log_tail *t) { pthread_mutex_init(&t->lock, NULL); }

void log_tail_fini(struct log_tail *t) {
    for (; t->count > 0; t->count--) record_release(*tail_at(t, t->first++));
    free(t->ring);
    pthread_mutex_destroy(&t->lock);
}

bool log_tail_reserve(struct log_tail *t, uint32_t count) {
    bool ok = true;
    pthread_mutex_lock(&t->lock);
    while (ok && t->count + count > t->capacity) ok = tail_grow(t);
    pthread_mutex_unlock(&t->lock);
    return ok;
}

void log_tail_put(struct log_tail *t, struct record *first, uint32_t count) {
    pthread_mutex_lock(&t->lock);
    uint64_t index = first->header.index;
    while (t->count > 0 && t->first + t->count > index)
        record_release(*tail_at(t, t->first + --t->count));
    if (tail_is_empty(t)) t->first = index;
    require(t->count + count <= t->capacity);
    for (struct record *r = first; count > 0; r = r->next, count--) {
        require(r->header.index == t->first + t->count);
        record_hold(r);
        *tail_at(t, r->header.index) = r;
        t->count++;
    }
    pthread_mutex_unlock(&t->lock);
}

void log_tail_drop(struct log_tail *t, const struct record *first, uint32_t count) {
    pthread_mutex_lock(&t->lock);
    for (const struct record *r = first; count > 0; r = r->next, count--) {
        /* One that was truncated meanwhile is in here no more. */
        if (tail_is_empty(t) || *tail_at(t, t->first) != r) continue;
        record_release(*tail_at(t, t->first++));
        t->count--;
    }
    pthread_mutex_unlock(&t->lock);
}

uint32_t log_tail_take(struct log_tail *t, uint64_t index, struct record **records, uint32_t max,
                       struct log_tail_range *range) {
    uint32_t n = 0;
    pthread_mutex_lock(&t->lock);
    *range = (struct log_tail_range){t->first, t->count};
    if (t->count > 0 && index >= t->first) {
        uint64_t left = index < t->first + t->count ? t->first + t->count - index : 0;
        for (; n < max && n < left; n++) {
            records[n] = *tail_at(t, index + n);
            record_hold(records[n]);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return n;
}

struct log_tail_range log_tail_range(struct log_tail *t) {
    struct log_tail_range range;
    log_tail_take(t, 0, NULL, 0, &range);
    return range;
}
