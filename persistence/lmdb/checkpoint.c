/* The checkpoint thread: actor snapshots, timers, cursors and marker in one synced transaction, in
 * the background. Also the janitor: deletes dropped segments, clears slots of readers that died. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "persistence/lmdb/internal.h"

enum { CHECKPOINT_READER_CHECK_S = 60 };

void checkpoint_queue(struct storage *base, struct checkpoint *c) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct checkpoint_thread *t = &s->checkpoints;
    require(c->blocks_bytes <= CHECKPOINT_BLOCKS_BYTES_MAX);
    pthread_mutex_lock(&t->lock);
    require(t->in_flight < STORAGE_CHECKPOINTS_MAX);
    t->in_flight++;
    t->queue[(t->first + t->count++) % STORAGE_CHECKPOINTS_MAX] = c;
    pthread_mutex_unlock(&t->lock);
    pthread_cond_signal(&t->wake);
}

void checkpoint_trash_waits(struct storage_lmdb *s) {
    pthread_mutex_lock(&s->checkpoints.lock);
    s->checkpoints.trash_waiting = true;
    pthread_mutex_unlock(&s->checkpoints.lock);
    pthread_cond_signal(&s->checkpoints.wake);
}

/* An export reads for long: growth waits until none runs, and does not keep the loader out. */
static void checkpoint_reserve(struct storage_lmdb *s, uint64_t more) {
    if (!lmdb_env_must_grow(&s->state, more)) return;
    exports_wait_to_grow(s);
    lmdb_env_reserve(&s->state, more);
    exports_grown(s);
}

static void checkpoint_let_go(struct storage_lmdb *s) {
    uint64_t used = lmdb_env_used_bytes(&s->state);
    if (!s->let_go || used < s->checkpoints.let_go_bytes + STATE_LET_GO_BYTES) return;
    lmdb_env_let_go(&s->state, used);
    s->checkpoints.let_go_bytes = used;
}

/* 0 or a code. */
static int checkpoint_commit(struct storage_lmdb *s, const struct checkpoint *c) {
    /* Blocks, and for each item the pages that its snapshot and its timer may split. */
    uint64_t pages = 256 + 6ULL * c->items_count;
    checkpoint_reserve(s, c->blocks_bytes + pages * s->state.page_bytes);
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->state.mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = state_put_checkpoint(s, txn, c, &s->checkpoints.order);
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_STATE_COMMIT);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = mdb_txn_commit(txn);
    atomic_store(&s->checkpoints.state_bytes, lmdb_env_used_bytes(&s->state));
    if (rc == 0) checkpoint_let_go(s);
    return rc;
}

static void checkpoint_do(struct storage_lmdb *s, struct checkpoint *c) {
    struct checkpoint_thread *t = &s->checkpoints;
    int rc = checkpoint_order(s, c, &t->order);
    /* The state never reflects what the log's environment lacks: whoever reads both files beside
     * the node finds them fitting. */
    bool room = lmdb_free_bytes(s->directory) >= s->room_floor_bytes / 2 + c->blocks_bytes;
    if (rc == 0 && (!room || !log_await_tail(s))) rc = ENOSPC;
    while (rc == 0 && (rc = checkpoint_commit(s, c)) == MDB_MAP_FULL) {
        checkpoint_reserve(s, s->state.map_bytes);
        rc = 0;
    }
    if (rc != 0 && !lmdb_is_room(rc)) lmdb_fatal(rc, "%s cannot be written", s->state.path);
    if (rc == 0) {
        if (t->full) log_warn("shard %u: there is room for checkpoints again", s->shard);
        atomic_fetch_add_explicit(&t->checkpoints, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&t->items, c->items_count, memory_order_relaxed);
    } else if (!t->full) { /* it comes again, every second */
        log_warn("shard %u: no room for a checkpoint in %s: %s", s->shard, s->state.path,
                 mdb_strerror(rc));
    }
    t->full = rc != 0;
    completions_checkpoint(s, c, rc == 0);
}

/* Slots of readers that died (a tool that looked at the directory) would keep pages from reuse. */
static void checkpoint_check_readers(struct storage_lmdb *s) {
    int dead = 0;
    mdb_reader_check(s->state.mdb, &dead);
    if (dead > 0) log_warn("shard %u: cleared %d reader slots of dead processes", s->shard, dead);
}

/* Waits for work; true = the readers are due to be checked. t->lock held. */
static bool checkpoint_wait(struct checkpoint_thread *t) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CHECKPOINT_READER_CHECK_S;
    while (t->count == 0 && !t->trash_waiting && !t->stop) {
        if (pthread_cond_timedwait(&t->wake, &t->lock, &until) == ETIMEDOUT) return true;
    }
    return false;
}

static void *checkpoint_run(void *arg) {
    struct storage_lmdb *s = arg;
    struct checkpoint_thread *t = &s->checkpoints;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        bool readers_due = checkpoint_wait(t);
        bool trash = t->trash_waiting;
        struct checkpoint *c = NULL;
        if (t->count > 0) {
            c = t->queue[t->first];
            t->first = (t->first + 1) % STORAGE_CHECKPOINTS_MAX;
            t->count--;
        } else if (t->stop && !trash) {
            break;
        }
        t->trash_waiting = false;
        pthread_mutex_unlock(&t->lock);
        if (readers_due) checkpoint_check_readers(s);
        if (c) checkpoint_do(s, c);
        if (trash) segments_empty_trash(s);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int checkpoint_start(struct storage_lmdb *s) {
    s->checkpoints.stop = false;
    atomic_store(&s->checkpoints.state_bytes, lmdb_env_used_bytes(&s->state));
    return storage_thread_start(&s->checkpoints.thread, "state", s->shard, checkpoint_run, s);
}

void checkpoint_stop(struct storage_lmdb *s) {
    struct checkpoint_thread *t = &s->checkpoints;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_mutex_unlock(&t->lock);
    pthread_cond_signal(&t->wake);
    pthread_join(t->thread, NULL);
    checkpoint_order_free(&t->order);
}
