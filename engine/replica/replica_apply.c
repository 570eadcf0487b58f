/* The applier's thread: batches -> publications. Under load one takes all that came while the last
 * one was made; at rest it takes one batch. When enough is published, or it has been for long, it
 * goes to the thread that writes (replica_write.c). */
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/priority.h"
#include "engine/replica/replica_internal.h"

enum {
    APPLY_EVENTS_LIVE = 4000,      /* in one publication, while up to date: short ones */
    APPLY_EVENTS_BEHIND = 1000000, /* while behind: large ones, an order is copied once */
    APPLY_BEHIND_LATE_MS = 1000,
    APPLY_BEHIND_MS_MAX = 2000,    /* a large one is published after so long all the same */
    APPLY_GATHER_MS = 20,          /* how long a large one waits for the next batch */
    APPLY_NO_MEMORY_MS = 500,
    APPLY_LOOK_MS = 100            /* how often it is looked whether something is to be written */
};

/* More follows, and what comes is old: the replica catches up. That more follows alone says
 * nothing: under load there is always more. */
static bool is_behind(const struct follower_batch *b) {
    return b->next <= b->commit && b->late_ms > APPLY_BEHIND_LATE_MS;
}

/* All that waits, in order; NULL after timeout_ms (< 0: none) or when there is nothing. */
static struct follower_batch *take_batches(struct replica *r, int64_t timeout_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&r->lock);
    while (!r->first && (!r->imports || r->import) && !r->stop &&
           !(r->import_waits && r->disk_moved)) {
        if (pthread_cond_timedwait(&r->wake, &r->lock, &until) != 0) break;
    }
    struct follower_batch *batches = r->first;
    r->first = NULL;
    r->last = &r->first;
    r->disk_moved = false;
    pthread_mutex_unlock(&r->lock);
    return batches;
}

static void put_back(struct replica *r, struct follower_batch *batches) {
    if (!batches) return;
    struct follower_batch *end = batches;
    while (end->link) end = end->link;
    pthread_mutex_lock(&r->lock);
    end->link = r->first;
    if (!r->first) r->last = &end->link;
    r->first = batches;
    pthread_mutex_unlock(&r->lock);
}

static void set_partial(struct replica *r, uint32_t shard, const char *why) {
    if (!atomic_exchange(&r->shards[shard].partial, true))
        log_error("%s: the shard stands still, answers say that they are partial", why);
}

/* -- what a publication leaves behind ---------------------------------------------------------- */

enum { APPLY_MOMENTS_MAX = 1024 };

/* What a publication has taken: the newest of each shard's batches, and when entries were
 * committed, of shards that had been up to date. */
struct applied_shard { bool any, up_to_date; int64_t received_ms; uint64_t commit; };
struct applied {
    struct applied_shard shards[SHARDS_MAX];
    struct applied_moment { uint64_t entries; int64_t ms; } moments[APPLY_MOMENTS_MAX];
    uint32_t moments_count;
};

/* `next`: the first entry of the batch that is new here. */
static void note_moments(struct applied *applied, const struct follower_batch *b, uint64_t next) {
    for (uint32_t i = 0; i < b->moments_count; i++) {
        const struct commit_moment *m = &b->moments[i];
        uint64_t end = m->last < b->next ? m->last + 1 : b->next;
        if (end <= next) continue;
        if (m->ms != 0 && applied->moments_count < APPLY_MOMENTS_MAX)
            applied->moments[applied->moments_count++] =
                (struct applied_moment){end - next, m->ms};
        next = end;
    }
}

/* Not what was caught up with: only what came once it had been up to date. */
static void record_lag(struct replica *r, const struct applied *applied) {
    const struct applier_time *times;
    uint32_t count = applier_times(r->applier, &times);
    int64_t now_ms = clock_unix_ms();
    for (uint32_t i = 0; i < count; i++) {
        if (atomic_load(&r->shards[times[i].shard].fresh_ms) == 0 || times[i].time_ms == 0)
            continue;
        for (uint32_t n = 0; n < times[i].entries; n++)
            histogram_record(&r->lag, (now_ms - times[i].time_ms) * 1000000);
    }
    for (uint32_t i = 0; i < applied->moments_count; i++) {
        for (uint64_t n = 0; n < applied->moments[i].entries; n++)
            histogram_record(&r->commit_lag, (now_ms - applied->moments[i].ms) * 1000000);
    }
}

static void note_stats(struct replica *r) {
    pthread_mutex_lock(&r->lock);
    applier_stats(r->applier, &r->applier_stats);
    pthread_mutex_unlock(&r->lock);
}

void replica_note_positions(struct replica *r) {
    const struct view_position *p;
    for (uint32_t count = applier_positions(r->applier, &p); count > 0; count--, p++) {
        struct replica_shard *s = &r->shards[p->shard];
        atomic_store(&s->index, p->index);
        atomic_store(&s->building, p->lacks == VIEW_BUILDING);
        atomic_store(&s->time_ms, p->time_ms);
    }
}

static void publish(struct replica *r, const struct applied *applied) {
    const struct view_position *p;
    record_lag(r, applied);
    replica_note_positions(r);
    for (uint32_t count = applier_positions(r->applier, &p); count > 0; count--, p++) {
        struct replica_shard *s = &r->shards[p->shard];
        const struct applied_shard *a = &applied->shards[p->shard];
        if (!a->any) continue;
        atomic_store(&s->commit, a->commit);
        atomic_store(&s->followed, true);
        if (a->up_to_date) atomic_store(&s->fresh_ms, a->received_ms);
    }
    note_stats(r);
    query_server_committed(r->queries);
}

/* What memory took from the follower is lost with the publication: it is pulled again. */
static void restart_all(struct replica *r) {
    for (uint32_t shard = 0; shard < SHARDS_MAX; shard++) {
        if (atomic_load(&r->shards[shard].partial)) continue;
        follower_restart(r->follower, shard, applier_next(r->applier, shard));
    }
}

static void commit(struct replica *r, struct applied *applied) {
    if (applier_commit(r->applier) == APPLIER_TAKEN) {
        publish(r, applied);
        return;
    }
    log_error("%s: no memory for what changed: it is read again", r->config.data);
    restart_all(r);
    usleep(APPLY_NO_MEMORY_MS * 1000);
}

/* -- taking ------------------------------------------------------------------------------------ */

/* True: taken or to be left out. False: the publication is lost. */
static bool take_one(struct replica *r, struct follower_batch *b, struct applied *applied) {
    char error[512];
    uint64_t next = applier_next(r->applier, b->shard);
    if (b->bytes != 0 && b->first > next) return true; /* of before a restart */
    /* It goes on behind its state. */
    if (applier_lacks(r->applier, b->shard) == VIEW_IMPORTING) return true;
    if (b->bytes != 0 && b->next > next) {
        enum applier_outcome outcome =
            applier_take(r->applier, b->shard, b->records, b->bytes, error, sizeof error);
        if (outcome == APPLIER_DAMAGED) {
            set_partial(r, b->shard, error);
            follower_stand(r->follower, b->shard);
        }
        if (outcome != APPLIER_TAKEN) return false;
    }
    bool at_end = applier_next(r->applier, b->shard) > b->commit;
    if (at_end) applier_up_to_date(r->applier, b->shard);
    if (atomic_load(&r->shards[b->shard].fresh_ms) != 0) note_moments(applied, b, next);
    applied->shards[b->shard] = (struct applied_shard){true, at_end, b->received_ms, b->commit};
    return true;
}

/* Takes batches until the publication is large enough. Returns what is left over; *lost = it cannot
 * be made. */
static struct follower_batch *take_all(struct replica *r, struct follower_batch *batches,
                                       struct applied *applied, uint64_t events_max, bool *lost) {
    while (batches && !*lost && applier_taken(r->applier) < events_max &&
           applier_taken_bytes(r->applier) < applier_room(r->applier)) {
        struct follower_batch *b = batches;
        batches = b->link;
        *lost = !take_one(r, b, applied);
        follower_consumed(r->follower, b);
    }
    return batches;
}

static bool any_behind(const struct follower_batch *b) {
    for (; b; b = b->link) {
        if (is_behind(b)) return true;
    }
    return false;
}

static void identify(struct replica *r) {
    char cluster_id[sizeof r->cluster_id];
    pthread_mutex_lock(&r->lock);
    memcpy(cluster_id, r->cluster_id, sizeof cluster_id);
    pthread_mutex_unlock(&r->lock);
    applier_identify(r->applier, cluster_id);
}

/* One publication, with `batches` and, while behind, with what comes meanwhile. */
static void apply(struct replica *r, struct follower_batch *batches) {
    static _Thread_local struct applied applied;
    int64_t began_ms = clock_mono_ms();
    bool behind = any_behind(batches), lost = false;
    uint64_t events_max = behind ? APPLY_EVENTS_BEHIND : APPLY_EVENTS_LIVE;
    if (!applier_begin(r->applier)) {
        put_back(r, batches);
        usleep(APPLY_NO_MEMORY_MS * 1000);
        return;
    }
    memset(applied.shards, 0, sizeof applied.shards);
    applied.moments_count = 0;
    identify(r);
    batches = take_all(r, batches, &applied, events_max, &lost);
    while (behind && !batches && !lost && applier_taken(r->applier) < events_max &&
           applier_taken_bytes(r->applier) < applier_room(r->applier) &&
           clock_mono_ms() - began_ms < APPLY_BEHIND_MS_MAX) {
        batches = take_batches(r, APPLY_GATHER_MS);
        if (!batches) break;
        behind = any_behind(batches);
        batches = take_all(r, batches, &applied, events_max, &lost);
    }
    put_back(r, batches);
    if (!lost) {
        commit(r, &applied);
    } else {
        applier_abort(r->applier);
        restart_all(r);
    }
}

/* Batches that only say that there is nothing new: no publication for them. */
static bool only_heartbeats(struct replica *r, const struct follower_batch *batches) {
    for (; batches; batches = batches->link) {
        /* The first one of a shard gives it a position; one may tell that it is whole now. */
        if (batches->bytes != 0 || !atomic_load(&r->shards[batches->shard].followed) ||
            applier_lacks(r->applier, batches->shard) == VIEW_BUILDING)
            return false;
    }
    return true;
}

static void take_heartbeats(struct replica *r, struct follower_batch *batches) {
    for (struct follower_batch *next; batches; batches = next) {
        struct replica_shard *s = &r->shards[batches->shard];
        next = batches->link;
        atomic_store(&s->commit, batches->commit);
        if (applier_next(r->applier, batches->shard) > batches->commit)
            atomic_store(&s->fresh_ms, batches->received_ms);
        follower_consumed(r->follower, batches);
    }
    query_server_committed(r->queries);
}

/* Once it has caught up: before that there is much to do, and nobody waits for it. */
static void be_urgent(struct replica *r) {
    if (r->urgent || !replica_is_caught_up(r)) return;
    r->urgent = true;
    if (r->config.nice != 0 && !priority_set(r->config.nice))
        log_info("not permitted to run at nice %d (CAP_SYS_NICE, or LimitNICE= of its service): on "
                 "a machine that is busy changes are seen later", r->config.nice);
}

void *replica_apply_main(void *arg) {
    struct replica *r = arg;
    pthread_setname_np(pthread_self(), "applier");
    for (;;) {
        pthread_mutex_lock(&r->lock);
        bool stop = r->stop;
        pthread_mutex_unlock(&r->lock);
        if (stop) break;
        int64_t idle_ms = replica_take_imports(r);
        struct follower_batch *batches = take_batches(r, idle_ms < 0 ? APPLY_LOOK_MS : idle_ms);
        if (batches && only_heartbeats(r, batches)) take_heartbeats(r, batches);
        else if (batches) apply(r, batches);
        if (replica_hand_over(r)) note_stats(r);
        be_urgent(r);
    }
    return NULL;
}
