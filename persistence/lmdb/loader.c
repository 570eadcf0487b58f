/* The loader thread: single actors and listings of timers, apart from the checkpoints so that a
 * long one never delays an order that waits for its actor. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "persistence/lmdb/internal.h"

enum { LOADER_TIMERS_PER_TXN = 256 };

static void loader_queue(struct storage *base, const struct load_request *request) {
    struct loader *l = &((struct storage_lmdb *)base)->loader;
    pthread_mutex_lock(&l->lock);
    require(l->count < STORAGE_LOADS_MAX);
    l->queue[(l->first + l->count++) % STORAGE_LOADS_MAX] = *request;
    pthread_mutex_unlock(&l->lock);
    pthread_cond_signal(&l->wake);
}

void loader_load(struct storage *base, uint8_t actor_kind, const struct id128 *key) {
    require(state_table_of(actor_kind) >= 0);
    loader_queue(base, &(struct load_request){.key = *key, .kind = actor_kind});
}

void loader_load_timers(struct storage *base, int64_t from_ms, int64_t to_ms, uint32_t max) {
    require(from_ms >= 0 && max > 0);
    loader_queue(base, &(struct load_request){.from_ms = from_ms, .to_ms = to_ms, .max = max});
}

static bool loader_stopped(struct loader *l) {
    pthread_mutex_lock(&l->lock);
    bool stop = l->stop;
    pthread_mutex_unlock(&l->lock);
    return stop;
}

/* Lack of memory is no property of what is stored: the load waits until there is some. */
static int loader_read_block(struct storage_lmdb *s, const struct load_request *r,
                             struct storage_event *event, char *error, size_t error_bytes) {
    for (bool told = false;; told = true) {
        int rc = state_read_block(s, r->kind, &r->key, &event->block, &event->block_bytes, error,
                                  error_bytes);
        if (rc != ENOMEM) return rc;
        if (!told) log_warn("shard %u: no memory to load an actor, waiting for some", s->shard);
        if (loader_stopped(&s->loader)) return -1;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

static void loader_one(struct storage_lmdb *s, const struct load_request *r) {
    char error[512] = "";
    struct storage_event event = {.kind = STORAGE_LOADED, .actor_kind = r->kind, .key = r->key};
    storage_fault(s, STORAGE_POINT_LOAD);
    event.ok = loader_read_block(s, r, &event, error, sizeof error) == 0;
    if (!event.ok && error[0]) log_error("shard %u: %s", s->shard, error);
    atomic_fetch_add_explicit(&s->loader.loads, 1, memory_order_relaxed);
    completions_load(s, &event);
}

struct loader_timers {
    struct timer_row next;     /* list from here */
    uint32_t count;
    struct storage_event events[LOADER_TIMERS_PER_TXN];
};

/* Collects the rows from `next` on, below to_ms. A code; `*more` = there may be more. */
static int loader_list(struct storage_lmdb *s, struct loader_timers *list, int64_t to_ms,
                       bool *more) {
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key = storage_val(&list->next, sizeof list->next), value;
    list->count = 0;
    *more = false;
    int rc = storage_fault(s, STORAGE_POINT_ALLOCATE);
    if (rc == 0) rc = lmdb_env_read_begin(&s->state, &txn);
    if (rc != 0) return rc;
    rc = mdb_cursor_open(txn, s->state_tables[STATE_TIMERS], &cursor);
    if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (key.mv_size != sizeof list->next || value.mv_size != 1) {
            rc = MDB_CORRUPTED;
            break;
        }
        memcpy(&list->next, key.mv_data, sizeof list->next);
        int64_t deadline_ms = (int64_t)storage_from_be64(list->next.deadline_be);
        if (deadline_ms >= to_ms) break;
        if (list->count == LOADER_TIMERS_PER_TXN) {
            *more = true;
            break;
        }
        list->events[list->count++] = (struct storage_event){
            .kind = STORAGE_TIMER_LOADED, .ok = true, .key = list->next.key,
            .actor_kind = *(const uint8_t *)value.mv_data, .deadline_ms = deadline_ms};
    }
    if (cursor) mdb_cursor_close(cursor);
    lmdb_env_read_end(&s->state, txn);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* A listing never ends inside of one millisecond, so that the next one, which begins where this one
 * stopped, always gets ahead: `max` may be exceeded by the deadlines of one millisecond. */
static void loader_timers(struct storage_lmdb *s, const struct load_request *r) {
    struct loader_timers list = {.count = 0};
    int64_t stopped_ms = r->to_ms, last_ms = -1;
    uint32_t sent = 0;
    bool more = true, damaged = false;
    storage_be64(list.next.deadline_be, (uint64_t)r->from_ms);
    while (more && stopped_ms == r->to_ms) {
        const struct timer_row from = list.next;
        int rc = loader_list(s, &list, r->to_ms, &more);
        if (rc == ENOMEM && !loader_stopped(&s->loader)) {
            /* A listing cut short would lose deadlines: it goes on from where it was. */
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            list.next = from;
            more = true;
            continue;
        }
        if (rc != 0) {
            log_error("shard %u: %s/timers: %s", s->shard, s->state.path, mdb_strerror(rc));
            damaged = rc != ENOMEM; /* without memory at the end of a process: it stops */
            break;
        }
        for (uint32_t i = 0; i < list.count; i++) {
            if (sent >= r->max && list.events[i].deadline_ms != last_ms) {
                stopped_ms = list.events[i].deadline_ms;
                break;
            }
            last_ms = list.events[i].deadline_ms;
            sent++;
            completions_load(s, &list.events[i]);
        }
    }
    completions_load(s, &(struct storage_event){.kind = STORAGE_TIMER_LOADED, .ok = false,
                                                .damaged = damaged,
                                                .deadline_ms = stopped_ms});
}

static void *loader_run(void *arg) {
    struct storage_lmdb *s = arg;
    struct loader *l = &s->loader;
    for (;;) {
        pthread_mutex_lock(&l->lock);
        while (l->count == 0 && !l->stop) pthread_cond_wait(&l->wake, &l->lock);
        bool stop = l->stop;
        struct load_request request = l->queue[l->first];
        if (!stop) {
            l->first = (l->first + 1) % STORAGE_LOADS_MAX;
            l->count--;
        }
        pthread_mutex_unlock(&l->lock);
        if (stop) return NULL;
        if (request.max > 0) loader_timers(s, &request);
        else loader_one(s, &request);
    }
}

int loader_start(struct storage_lmdb *s) {
    s->loader.stop = false;
    s->loader.first = s->loader.count = 0;
    return storage_thread_start(&s->loader.thread, "load", s->shard, loader_run, s);
}

void loader_stop(struct storage_lmdb *s) {
    struct loader *l = &s->loader;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_mutex_unlock(&l->lock);
    pthread_cond_signal(&l->wake);
    pthread_mutex_lock(&s->done.lock);
    s->done.closing = true;
    pthread_mutex_unlock(&s->done.lock);
    pthread_cond_signal(&s->done.room);
    pthread_join(l->thread, NULL);
}
