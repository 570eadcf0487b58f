/* The log writer: takes all that was queued since its last transaction, commits it, tells. */
#include "persistence/lmdb/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"

/* As it lies in the environment. */
static uint64_t log_record_bytes(const struct record *r) {
    return sizeof r->header + r->header.payload_bytes;
}

/* -- what is queued ------------------------------------------------------------------------- */

/* w->lock held. What is durable already gathers; all else is waited for. */
static bool log_is_due(const struct log_writer *w) {
    if (!w->head) return false;
    return w->eager || !w->journalled || w->queued_bytes >= LOG_APPLY_BYTES ||
           clock_mono_ns() - w->queued_ns >= LOG_APPLY_MS * 1000000LL;
}

void log_hand_over(struct log_writer *w, struct record *first, struct record *last, uint64_t count,
                   uint64_t bytes, bool eager) {
    bool begins = !w->head;
    if (w->tail) w->tail->next = first;
    else w->head = first;
    w->tail = last;
    if (begins) w->queued_ns = clock_mono_ns();
    w->queued_bytes += bytes;
    w->records_handed += count;
    w->eager |= eager;
    if (!w->sleeping || !(begins || log_is_due(w))) return;
    w->sleeping = false;
    pthread_cond_signal(&w->wake);
}

bool log_await_applied(struct log_writer *w, bool unless_full) {
    uint64_t handed = w->records_handed;
    while (w->records_applied < handed) {
        if (w->gave_up || (unless_full && w->waits_for_room)) return false;
        if (w->head) w->eager = true;
        w->sleeping = false;
        pthread_cond_signal(&w->wake);
        pthread_cond_wait(&w->applied, &w->lock);
    }
    return true;
}

bool log_await_tail(struct storage_lmdb *s) {
    struct log_writer *w = &s->log;
    bool room = true;
    pthread_mutex_lock(&w->lock);
    struct log_tail_range tail = log_tail_range(&s->tail);
    uint64_t last = tail.first + tail.count;
    while (tail.count > 0 && tail.first < last) {
        room = !w->gave_up && !w->waits_for_room;
        if (!room) break;
        if (w->head) w->eager = true;
        if (w->sleeping) pthread_cond_signal(&w->wake);
        pthread_cond_wait(&w->applied, &w->lock);
        tail = log_tail_range(&s->tail);
    }
    pthread_mutex_unlock(&w->lock);
    return room;
}

/* -- shard's thread ------------------------------------------------------------------------- */

/* w->lock held. */
static void log_track_call(struct log_writer *w, uint64_t index) {
    bool joins = w->calls_count == LOG_CALLS_TRACKED;
    if (!joins) w->calls_count++;
    uint32_t newest = (w->calls_first + w->calls_count - 1) % LOG_CALLS_TRACKED;
    uint64_t index_min = joins && w->calls[newest].index_min < index ? w->calls[newest].index_min
                                                                     : index;
    w->calls[newest] = (struct log_call){w->sequence, w->records_queued, index_min};
}

uint64_t log_writer_append(struct storage *base, struct record *records) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct log_writer *w = &s->log;
    require(records);
    uint64_t count = 1, bytes = log_record_bytes(records);
    struct record *last = records;
    for (; last->next; last = last->next) {
        require(last->next->header.index == last->header.index + 1);
        bytes += log_record_bytes(last->next);
        count++;
    }
    require(records->header.index > w->floor);
    require(w->queued_last == 0 || records->header.index <= w->queued_last + 1);
    atomic_fetch_add_explicit(&w->waiting, count, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->waiting_bytes, bytes, memory_order_relaxed);
    pthread_mutex_lock(&w->lock);
    w->queued_last = last->header.index;
    w->records_queued += count;
    uint64_t sequence = ++w->sequence;
    log_track_call(w, records->header.index);
    if (s->journal.on) log_journal_queue(&s->journal, records, last);
    else log_hand_over(w, records, last, count, bytes, true);
    pthread_mutex_unlock(&w->lock);
    return sequence;
}

void log_writer_retain(struct storage *base, uint64_t upto_index, int64_t before_ms) {
    struct log_writer *w = &((struct storage_lmdb *)base)->log;
    pthread_mutex_lock(&w->lock);
    w->retain_upto = upto_index;
    w->retain_before_ms = before_ms;
    w->sleeping = false;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_signal(&w->wake);
}

/* -- writer's thread ------------------------------------------------------------------------ */

/* w->lock held. Until something is due, or asked for. */
static void log_sleep(struct log_writer *w) {
    while (!log_is_due(w) && !(w->stop && !w->fed) && w->retain_before_ms == 0) {
        w->sleeping = true;
        if (!w->head) {
            pthread_cond_wait(&w->wake, &w->lock);
            continue;
        }
        int64_t due_ns = w->queued_ns + LOG_APPLY_MS * 1000000LL;
        struct timespec until = {due_ns / 1000000000, due_ns % 1000000000};
        pthread_cond_timedwait(&w->wake, &w->lock, &until);
    }
    w->sleeping = false;
}

/* Moves what is queued behind what was taken before; waits for something when `wait`. Does the
 * retention that is asked for, because that may be what makes room. False = told to stop. */
static bool log_take(struct storage_lmdb *s, struct record **tail, bool wait, bool *journalled) {
    struct log_writer *w = &s->log;
    pthread_mutex_lock(&w->lock);
    if (wait) log_sleep(w);
    if (w->head) {
        if (w->taken) (*tail)->next = w->head;
        else w->taken = w->head;
        *tail = w->tail;
        w->head = w->tail = NULL;
        w->queued_bytes = 0;
        w->eager = false;
    }
    *journalled = w->journalled;
    uint64_t retain_upto = w->retain_upto;
    int64_t retain_before_ms = w->retain_before_ms;
    w->retain_before_ms = 0;
    bool stop = w->stop;
    pthread_mutex_unlock(&w->lock);
    if (retain_before_ms != 0) segments_retain(s, retain_upto, retain_before_ms);
    return !stop;
}

void log_cut_batch(struct record *first, uint64_t bytes_max, struct log_batch *batch) {
    struct record *r = first;
    *batch = (struct log_batch){.first = r};
    uint64_t next_index = r->header.index;
    for (; r && r->header.index == next_index; r = r->next, next_index++) {
        uint64_t bytes = log_record_bytes(r);
        if (batch->count > 0 && batch->bytes + bytes > bytes_max) return;
        batch->bytes += bytes;
        batch->count++;
        if (r->header.type == RECORD_EVENTS &&
            r->header.payload_bytes >= sizeof(struct entry_header)) {
            struct entry_header entry;
            memcpy(&entry, r->payload, sizeof entry);
            if (batch->oldest_ms == 0) batch->oldest_ms = entry.time_ms;
            batch->newest_ms = entry.time_ms;
        }
    }
}

void log_count_commit(struct log_writer *w, uint64_t bytes, int64_t took_ns) {
    atomic_fetch_add_explicit(&w->commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->commit_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->commit_ns, (uint64_t)took_ns, memory_order_relaxed);
    if ((uint64_t)took_ns > atomic_load_explicit(&w->commit_ns_max, memory_order_relaxed))
        atomic_store_explicit(&w->commit_ns_max, (uint64_t)took_ns, memory_order_relaxed);
}

/* Commits once. 0, a room code, or does not return. */
static int log_try(struct storage_lmdb *s, const struct log_batch *batch) {
    struct log_writer *w = &s->log;
    if (lmdb_free_bytes(s->directory) < s->room_floor_bytes + batch->bytes) return ENOSPC;
    int64_t begin_ns = clock_mono_ns();
    int rc = log_commit(s, batch);
    if (rc == 0) {
        if (!batch->sealed) log_count_commit(w, batch->bytes, clock_mono_ns() - begin_ns);
        return 0;
    }
    if (!lmdb_is_room(rc)) {
        lmdb_fatal(rc, "%s: log records %llu to %llu cannot be written", s->directory,
                   (unsigned long long)batch->first->header.index,
                   (unsigned long long)(batch->first->header.index + batch->count - 1));
    }
    /* The map grows before it is full; what a transaction needs beyond the estimate comes here. */
    if (rc == MDB_MAP_FULL) {
        struct lmdb_env *env = &s->segments.active->env;
        lmdb_env_reserve(env, env->map_bytes - lmdb_env_used_bytes(env) + batch->bytes);
    }
    return rc;
}

static void log_pause(struct log_writer *w) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += STORAGE_ROOM_RETRY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&w->lock);
    while (!w->stop && w->retain_before_ms == 0 &&
           pthread_cond_timedwait(&w->wake, &w->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&w->lock);
}

static void log_set_full(struct storage_lmdb *s, bool full) {
    struct log_writer *w = &s->log;
    w->full = full;
    pthread_mutex_lock(&w->lock);
    w->waits_for_room = full;
    pthread_cond_broadcast(&w->applied);
    pthread_mutex_unlock(&w->lock);
    completions_full(s, full);
}

/* Commits the batch, however long the disk stays full. False = told to stop while it was. */
static bool log_write(struct storage_lmdb *s, const struct log_batch *batch,
                      struct record **tail) {
    struct log_writer *w = &s->log;
    bool journalled;
    for (int rc; (rc = log_try(s, batch)) != 0;) {
        if (rc == MDB_MAP_FULL) continue;
        if (!w->full) {
            log_warn("shard %u: no room for the log in %s (%s): appends wait", s->shard,
                     s->directory, mdb_strerror(rc));
            log_set_full(s, true);
        }
        log_pause(w);
        bool go_on = log_take(s, tail, false, &journalled);
        if (!go_on && !w->discard && log_try(s, batch) == 0) break;
        if (!go_on) return false;
    }
    if (w->full) {
        log_warn("shard %u: there is room for the log again", s->shard);
        log_set_full(s, false);
    }
    return true;
}

void log_tell(struct storage_lmdb *s, const struct log_batch *batch) {
    struct log_writer *w = &s->log;
    uint64_t index = batch->first->header.index + batch->count - 1;
    atomic_fetch_sub_explicit(&w->waiting, batch->count, memory_order_relaxed);
    atomic_fetch_sub_explicit(&w->waiting_bytes, batch->bytes, memory_order_relaxed);
    pthread_mutex_lock(&w->lock);
    w->records_done += batch->count;
    while (w->calls_count > 0 && w->calls[w->calls_first].records_end <= w->records_done) {
        w->sequence_done = w->calls[w->calls_first].sequence;
        w->calls_first = (w->calls_first + 1) % LOG_CALLS_TRACKED;
        w->calls_count--;
    }
    uint64_t sequence = w->sequence_done;
    pthread_mutex_unlock(&w->lock);
    completions_appended(s, index, sequence);
}

static void log_release(struct log_writer *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct record *r = w->taken;
        w->taken = r->next;
        record_release(r);
    }
}

static void log_applied(struct storage_lmdb *s, const struct log_batch *batch) {
    struct log_writer *w = &s->log;
    if (batch->sealed) log_tail_drop(&s->tail, batch->first, batch->count);
    else log_tell(s, batch);
    log_release(w, batch->count);
    pthread_mutex_lock(&w->lock);
    w->records_applied += batch->count;
    pthread_cond_broadcast(&w->applied);
    pthread_mutex_unlock(&w->lock);
}

/* Without room at the end. What is in the journal is there at the next start. */
static void log_give_up(struct storage_lmdb *s, bool journalled) {
    struct log_writer *w = &s->log;
    if (!w->discard) {
        log_error("shard %u: closed without room for the log: record %llu and those behind it %s",
                  s->shard, (unsigned long long)w->taken->header.index,
                  journalled ? "stay in the journal"
                             : "were never acknowledged and are given up");
    }
    pthread_mutex_lock(&w->lock);
    w->gave_up = true;
    pthread_cond_broadcast(&w->applied);
    pthread_mutex_unlock(&w->lock);
    while (w->taken) {
        if (!journalled) {
            atomic_fetch_sub_explicit(&w->waiting, 1, memory_order_relaxed);
            atomic_fetch_sub_explicit(&w->waiting_bytes, log_record_bytes(w->taken),
                                      memory_order_relaxed);
        }
        log_release(w, 1);
    }
}

static void *log_writer_run(void *arg) {
    struct storage_lmdb *s = arg;
    struct log_writer *w = &s->log;
    struct record *tail = NULL;
    bool journalled;
    for (;;) {
        bool go_on = log_take(s, &tail, !w->taken, &journalled);
        if (!w->taken) {
            if (go_on) continue;
            pthread_mutex_lock(&w->lock);
            bool fed = w->fed;
            pthread_mutex_unlock(&w->lock);
            if (fed) continue;
            return NULL;
        }
        if (!go_on && w->discard) break;
        struct log_batch batch;
        log_cut_batch(w->taken, s->batch_bytes_max, &batch);
        batch.sealed = journalled;
        if (!log_write(s, &batch, &tail)) break;
        log_applied(s, &batch);
    }
    log_give_up(s, journalled);
    return NULL;
}

int log_writer_start(struct storage_lmdb *s) {
    struct log_writer *w = &s->log;
    uint64_t first;
    segments_range(s, &first, &w->queued_last);
    pthread_mutex_lock(&s->segments.lock);
    w->floor = gaps_floor(&s->segments);
    pthread_mutex_unlock(&s->segments.lock);
    w->stop = w->discard = w->full = w->gave_up = w->waits_for_room = false;
    int rc = storage_thread_start(&w->thread, "log", s->shard, log_writer_run, s);
    if (rc != 0) return rc;
    rc = log_journal_start(s);
    if (rc != 0) log_writer_stop(s);
    return rc;
}

void log_writer_stop(struct storage_lmdb *s) {
    struct log_writer *w = &s->log;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_signal(&w->wake);
    log_journal_stop(s);
    pthread_join(w->thread, NULL);
    /* Handed over after it gave up. */
    while (w->head) {
        struct record *r = w->head;
        w->head = r->next;
        record_release(r);
    }
    w->tail = NULL;
    w->queued_bytes = 0;
}

uint64_t log_writer_queued_min(struct storage_lmdb *s) {
    struct log_writer *w = &s->log;
    uint64_t index_min = UINT64_MAX;
    pthread_mutex_lock(&w->lock);
    for (uint32_t i = 0; i < w->calls_count; i++) {
        const struct log_call *call = &w->calls[(w->calls_first + i) % LOG_CALLS_TRACKED];
        if (call->index_min < index_min) index_min = call->index_min;
    }
    pthread_mutex_unlock(&w->lock);
    return index_min;
}

void log_writer_discard(struct storage_lmdb *s) {
    struct log_writer *w = &s->log;
    pthread_mutex_lock(&w->lock);
    w->discard = true;
    pthread_mutex_unlock(&w->lock);
    log_writer_stop(s);
    require(!w->taken && !w->head);
    w->calls_count = 0;
    w->records_applied = w->records_handed;
    w->records_done = w->records_queued;
    w->sequence_done = w->sequence;
}
