/* The thread that writes the disk, and what it has to do with the applier's: that one goes on
 * publishing while this one writes what was published before. Who publishes faster than the disk
 * can be written waits here, and the log waits on the nodes' disks. */
#include <unistd.h>

#include "actors/result_codes.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/priority.h"
#include "engine/replica/replica_internal.h"

enum {
    WRITE_AGE_MS = 3000,           /* what is published is written after so long */
    WRITE_LOOK_MS = 500,           /* how often it is looked for work that nobody asked for */
    WRITE_BUILD_MS = 1,            /* the same while views are being built */
    WRITE_NO_ROOM_MS = 500,
    WRITE_WAIT_MS = 100            /* replica_wait_written() looks so often whether it is stopped */
};

/* With write_lock held. */
static void wait_ms(struct replica *r, pthread_cond_t *wake, int64_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(wake, &r->write_lock, &until);
}

/* Wakes who waits for the disk: the applier's thread, and whoever wants a copy. */
static void tell_written(struct replica *r) {
    pthread_mutex_lock(&r->write_lock);
    r->writes++;
    pthread_cond_broadcast(&r->written);
    pthread_mutex_unlock(&r->write_lock);
    pthread_mutex_lock(&r->lock);
    r->disk_moved = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

static void write_once(struct replica *r) {
    enum applier_outcome outcome = applier_write(r->applier);
    if (outcome == APPLIER_TAKEN) {
        if (atomic_exchange(&r->no_room, false)) log_info("there is room again");
        tell_written(r);
        return;
    }
    bool told = atomic_exchange(&r->no_room, true);
    tell_written(r);
    if (!told)
        log_error("%s: no room for the views, on disk or in their map: when memory is full as "
                  "well, the replica stands still and answers what it has", r->config.data);
    usleep(WRITE_NO_ROOM_MS * 1000);
}

void replica_note_builds(struct replica *r) {
    struct applier_build builds[VIEWS_COUNT];
    applier_builds(r->applier, builds);
    /* Together: who asks for a rebuild is told the generation that it replaces. */
    pthread_mutex_lock(&r->write_lock);
    for (int v = 0; v < VIEWS_COUNT; v++) {
        struct replica_build *b = &r->builds[v];
        bool asked = r->rebuild_asked >> v & 1;
        atomic_store(&b->orders_done, builds[v].orders_done);
        atomic_store(&b->orders_built, builds[v].orders_built);
        /* In this order: who sees that nothing is built sees the new generation from then on. */
        uint64_t before = atomic_exchange(&b->generation, builds[v].generation);
        bool was = atomic_exchange(&b->building, builds[v].building || asked);
        if (was && before != builds[v].generation)
            log_info("view %s: built of %llu orders", views[v].name,
                     (unsigned long long)builds[v].orders_built);
    }
    pthread_mutex_unlock(&r->write_lock);
}

/* Whether the disk is at `wanted` everywhere. */
static bool disk_is_at(struct replica *r, const uint64_t wanted[SHARDS_MAX]) {
    const void *rows = NULL;
    struct view_read read;
    bool there = true;
    if (!view_read_begin(r->store, &read)) return false;
    uint64_t on_disk[SHARDS_MAX] = {0};
    uint32_t count = view_disk_positions(r->store, read.txn, &rows);
    for (uint32_t i = 0; i < count; i++) {
        struct view_position p;
        memcpy(&p, (const uint8_t *)rows + i * sizeof p, sizeof p);
        if (p.shard < SHARDS_MAX) on_disk[p.shard] = p.index;
    }
    view_read_end(r->store, &read);
    for (uint32_t i = 0; i < SHARDS_MAX; i++) there = there && on_disk[i] >= wanted[i];
    return there;
}

/* A view is made of the orders on disk: those that could be asked for when it was asked are to be
 * among them. True: it waits for that. */
static bool take_rebuilds(struct replica *r) {
    uint64_t from[SHARDS_MAX];
    pthread_mutex_lock(&r->write_lock);
    unsigned asked = r->rebuild_asked;
    memcpy(from, r->rebuild_from, sizeof from);
    pthread_mutex_unlock(&r->write_lock);
    if (asked == 0) return false;
    if (!disk_is_at(r, from)) {
        atomic_store(&r->write_now, true);
        return true;
    }
    for (int v = 0; v < VIEWS_COUNT; v++) {
        if (!(asked >> v & 1)) continue;
        log_info("view %s: to be built anew, as was asked", views[v].name);
        applier_rebuild(r->applier, (enum view_number)v);
    }
    pthread_mutex_lock(&r->write_lock);
    r->rebuild_asked &= ~asked; /* the applier says from now on that it is being built */
    pthread_mutex_unlock(&r->write_lock);
    return false;
}

/* On a thread of nng: it may not wait for a transaction. */
bool replica_rebuild(void *arg, struct bytes view, struct answer_build *build, const char **why) {
    struct replica *r = arg;
    *why = "no such view: by_ref, by_customer, board, by_state and changes can be rebuilt";
    for (int v = 0; v < VIEWS_COUNT; v++) {
        if (!bytes_equal(view, bytes_of_text(views[v].name))) continue;
        *why = "sums are not made from orders: start a replica with an empty directory instead";
        if (!views[v].key) return false;
        struct replica_build *b = &r->builds[v];
        pthread_mutex_lock(&r->write_lock);
        *build = (struct answer_build){atomic_load(&b->generation), atomic_load(&b->building)};
        if (!build->under_way) {
            r->rebuild_asked |= 1u << v;
            for (uint32_t i = 0; i < SHARDS_MAX; i++)
                r->rebuild_from[i] = atomic_load(&r->shards[i].index);
            atomic_store(&b->building, true);
            atomic_store(&b->orders_done, 0);
            r->write_asked = true;
            pthread_cond_signal(&r->write_wake);
        }
        pthread_mutex_unlock(&r->write_lock);
        return true;
    }
    return false;
}

void *replica_write_main(void *arg) {
    struct replica *r = arg;
    pthread_setname_np(pthread_self(), "writer");
    priority_background(0);
    pthread_mutex_lock(&r->write_lock);
    while (!r->write_stop) {
        bool asked = r->write_asked;
        r->write_asked = false;
        pthread_mutex_unlock(&r->write_lock);
        bool waits = take_rebuilds(r);
        bool work = applier_has_work(r->applier);
        if (work) write_once(r);
        if (work) replica_note_builds(r);
        pthread_mutex_lock(&r->write_lock);
        if (!asked && !r->write_asked && !r->write_stop)
            wait_ms(r, &r->write_wake, work || waits ? WRITE_BUILD_MS : WRITE_LOOK_MS);
    }
    pthread_mutex_unlock(&r->write_lock);
    return NULL;
}

static bool hand_over(struct replica *r) {
    if (!applier_freeze(r->applier)) return false;
    atomic_store(&r->write_now, false);
    pthread_mutex_lock(&r->write_lock);
    r->write_asked = true;
    pthread_cond_signal(&r->write_wake);
    pthread_mutex_unlock(&r->write_lock);
    return true;
}

bool replica_hand_over(struct replica *r) {
    int64_t age_ms;
    if (applier_unwritten(r->applier, &age_ms) == 0) return false;
    bool full = applier_is_full(r->applier);
    if (!full && age_ms < WRITE_AGE_MS && !atomic_load(&r->write_now)) return false;
    while (!hand_over(r)) {
        if (!full || atomic_load(&r->stopping)) return false;
        pthread_mutex_lock(&r->write_lock);
        wait_ms(r, &r->written, WRITE_LOOK_MS);
        pthread_mutex_unlock(&r->write_lock);
    }
    return true;
}

int replica_wait_written(struct replica *r, const atomic_bool *stop) {
    uint64_t wanted[SHARDS_MAX];
    for (uint32_t i = 0; i < SHARDS_MAX; i++) wanted[i] = atomic_load(&r->shards[i].index);
    for (;;) {
        pthread_mutex_lock(&r->write_lock);
        uint64_t writes = r->writes;
        pthread_mutex_unlock(&r->write_lock);
        if (disk_is_at(r, wanted)) return RESULT_OK;
        if (atomic_load(stop) || atomic_load(&r->stopping)) return RESULT_SHUTTING_DOWN;
        if (atomic_load(&r->no_room)) return RESULT_DISK_FULL;
        atomic_store(&r->write_now, true);
        pthread_mutex_lock(&r->write_lock);
        if (r->writes == writes) wait_ms(r, &r->written, WRITE_WAIT_MS);
        pthread_mutex_unlock(&r->write_lock);
    }
}
