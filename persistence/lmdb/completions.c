/* The way back: what the storage's threads have finished, until the shard's thread polls. Nothing
 * here grows: appends collapse into the newest, "full" is a state, checkpoints are bounded, and the
 * loader waits for room. */
#include <stdlib.h>

#include "engine/base/check.h"
#include "persistence/lmdb/internal.h"

void completions_init(struct completions *d) {
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->room, NULL);
}

void completions_fini(struct completions *d) {
    for (; d->loads_count > 0; d->loads_count--) {
        free(d->loads[d->loads_first].block);
        d->loads_first = (d->loads_first + 1) % COMPLETIONS_LOADS_MAX;
    }
    pthread_cond_destroy(&d->room);
    pthread_mutex_destroy(&d->lock);
}

void completions_reset(struct storage_lmdb *s) {
    struct completions *d = &s->done;
    pthread_mutex_lock(&d->lock);
    require(d->checkpoints_count == 0);
    for (; d->loads_count > 0; d->loads_count--) {
        free(d->loads[d->loads_first].block);
        d->loads_first = (d->loads_first + 1) % COMPLETIONS_LOADS_MAX;
    }
    d->appended = false;
    d->full = false; /* told anew by the next append that finds it so */
    d->closing = false;
    d->left = d->full != d->full_told;
    pthread_mutex_unlock(&d->lock);
}

/* Of several posts between two polls only the first wakes. */
static void completions_posted(struct storage_lmdb *s) {
    if (!atomic_exchange(&s->done.pending, true) && s->base.wake) s->base.wake(s->base.wake_arg);
}

void completions_appended(struct storage_lmdb *s, uint64_t index, uint64_t sequence) {
    struct completions *d = &s->done;
    pthread_mutex_lock(&d->lock);
    d->appended = true;
    d->appended_index = index;
    require(sequence >= d->appended_sequence);
    d->appended_sequence = sequence;
    pthread_mutex_unlock(&d->lock);
    completions_posted(s);
}

void completions_full(struct storage_lmdb *s, bool full) {
    pthread_mutex_lock(&s->done.lock);
    s->done.full = full;
    pthread_mutex_unlock(&s->done.lock);
    completions_posted(s);
}

void completions_checkpoint(struct storage_lmdb *s, struct checkpoint *c, bool ok) {
    struct completions *d = &s->done;
    pthread_mutex_lock(&d->lock);
    require(d->checkpoints_count < STORAGE_CHECKPOINTS_MAX);
    d->checkpoints[d->checkpoints_count++] =
        (struct storage_event){.kind = STORAGE_CHECKPOINTED, .ok = ok, .checkpoint = c};
    pthread_mutex_unlock(&d->lock);
    completions_posted(s);
}

void completions_load(struct storage_lmdb *s, const struct storage_event *event) {
    struct completions *d = &s->done;
    pthread_mutex_lock(&d->lock);
    while (d->loads_count == COMPLETIONS_LOADS_MAX && !d->closing) {
        pthread_cond_wait(&d->room, &d->lock);
    }
    if (d->closing) {
        free(event->block);
    } else {
        d->loads[(d->loads_first + d->loads_count++) % COMPLETIONS_LOADS_MAX] = *event;
    }
    pthread_mutex_unlock(&d->lock);
    completions_posted(s);
}

/* [shard] d->lock held. */
static uint32_t completions_take(struct completions *d, struct storage_event *events,
                                 uint32_t max) {
    uint32_t n = 0;
    if (n < max && d->appended) {
        events[n++] = (struct storage_event){.kind = STORAGE_APPENDED, .ok = true,
            .index = d->appended_index, .sequence = d->appended_sequence};
        d->appended = false;
    }
    if (n < max && d->full != d->full_told) {
        events[n++] = (struct storage_event){.kind = d->full ? STORAGE_LOG_FULL : STORAGE_LOG_ROOM,
                                             .ok = true};
        d->full_told = d->full;
    }
    uint32_t taken = 0;
    while (n < max && taken < d->checkpoints_count) events[n++] = d->checkpoints[taken++];
    d->checkpoints_count -= taken;
    memmove(d->checkpoints, d->checkpoints + taken,
            d->checkpoints_count * sizeof *d->checkpoints);
    bool was_full = d->loads_count == COMPLETIONS_LOADS_MAX;
    for (; n < max && d->loads_count > 0; d->loads_count--) {
        events[n++] = d->loads[d->loads_first];
        d->loads_first = (d->loads_first + 1) % COMPLETIONS_LOADS_MAX;
    }
    if (was_full && d->loads_count < COMPLETIONS_LOADS_MAX) pthread_cond_signal(&d->room);
    d->left = d->appended || d->full != d->full_told || d->checkpoints_count > 0 ||
              d->loads_count > 0;
    return n;
}

uint32_t completions_poll(struct storage *base, struct storage_event *events, uint32_t max) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct completions *d = &s->done;
    if (!d->left && !atomic_load(&d->pending)) return 0;
    atomic_store(&d->pending, false);
    pthread_mutex_lock(&d->lock);
    uint32_t n = completions_take(d, events, max);
    pthread_mutex_unlock(&d->lock);
    uint32_t checkpoints = 0;
    for (uint32_t i = 0; i < n; i++) checkpoints += events[i].kind == STORAGE_CHECKPOINTED;
    if (checkpoints > 0) {
        pthread_mutex_lock(&s->checkpoints.lock);
        s->checkpoints.in_flight -= checkpoints;
        pthread_mutex_unlock(&s->checkpoints.lock);
    }
    return n;
}
