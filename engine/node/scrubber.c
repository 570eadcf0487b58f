#include "engine/node/scrubber.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/priority.h"
#include "engine/base/prng.h"
#include "engine/router/local_shards.h"

enum {
    SCRUBBER_NICE = 10,
    SCRUBBER_FIRST_MS_MAX = 60000,  /* a start is left alone for so long ... */
    SCRUBBER_FIRST_PART = 8,        /* ... or for this part of the period */
    SCRUBBER_LOOK_MS = 1000,        /* between two looks for replicas, and at what was postponed */
    SCRUBBER_POSTPONED_MAX = 60,    /* in a row: then the shard's turn is over */
    SCRUBBER_LINES_MAX = 16,        /* in the log, of one look at a shard */
    SCRUBBER_HASTE_PERCENT = 125    /* what is read twice, or beside what was asked for, counts */
};

struct scrubber {
    struct scrubber_options options;
    pthread_t thread;
    pthread_mutex_t mutex;          /* guards up to `stats` */
    pthread_cond_t changed;
    bool stop;
    uint32_t busy;                  /* the slot whose storage is in use; UINT32_MAX = none */
    struct storage *storages[LOCAL_SHARDS_SLOTS];  /* NULL = not here */
    struct scrubber_damages before[LOCAL_SHARDS_SLOTS]; /* of the last whole look */
    struct scrubber_damages now[LOCAL_SHARDS_SLOTS];    /* of this one */
    struct scrubber_stats stats;
    /* the thread's own */
    struct prng prng;
    uint64_t bytes_per_second;
    struct storage_scrubbed scrubbed;
};

/* -- the storages ------------------------------------------------------------------------------ */

/* To be given back with scrubber_leave(); NULL = not here (any more), or the end. */
static struct storage *scrubber_enter(struct scrubber *b, uint32_t slot) {
    pthread_mutex_lock(&b->mutex);
    struct storage *storage = b->stop ? NULL : b->storages[slot];
    if (storage) b->busy = slot;
    pthread_mutex_unlock(&b->mutex);
    return storage;
}

static void scrubber_leave(struct scrubber *b) {
    pthread_mutex_lock(&b->mutex);
    b->busy = UINT32_MAX;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
}

static void scrubber_set(struct scrubber *b, uint32_t shard, struct storage *storage) {
    uint32_t slot = local_shards_slot(shard);
    if (slot == LOCAL_SHARDS_NONE) return;
    pthread_mutex_lock(&b->mutex);
    b->storages[slot] = storage;
    while (b->busy == slot) pthread_cond_wait(&b->changed, &b->mutex);
    b->before[slot].count = b->now[slot].count = 0;
    pthread_mutex_unlock(&b->mutex);
}

void scrubber_add(struct scrubber *b, uint32_t shard, struct storage *storage) {
    scrubber_set(b, shard, storage);
}

void scrubber_forget(struct scrubber *b, uint32_t shard) { scrubber_set(b, shard, NULL); }

/* Whether there is a replica in this slot; what it has on disk, and where its log lies. */
static bool scrubber_measure(struct scrubber *b, uint32_t slot, struct storage_stats *stats) {
    struct storage *storage = scrubber_enter(b, slot);
    if (!storage) return false;
    storage->ops->stats(storage, stats);
    scrubber_leave(b);
    return true;
}

/* -- what was found ---------------------------------------------------------------------------- */

void scrubber_stats(struct scrubber *b, struct scrubber_stats *stats) {
    *stats = (struct scrubber_stats){.period_ms = 0};
    if (!b) return;
    pthread_mutex_lock(&b->mutex);
    *stats = b->stats;
    pthread_mutex_unlock(&b->mutex);
}

void scrubber_damages(struct scrubber *b, uint32_t shard, struct scrubber_damages *damages) {
    uint32_t slot = local_shards_slot(shard);
    damages->count = 0;
    if (!b || slot == LOCAL_SHARDS_NONE) return;
    pthread_mutex_lock(&b->mutex);
    *damages = b->now[slot].count >= b->before[slot].count ? b->now[slot] : b->before[slot];
    pthread_mutex_unlock(&b->mutex);
}

static void scrubber_log(const struct scrubber *b, uint32_t slot, const struct storage_damage *d) {
    char shard[16], records[64] = "";
    uint32_t number = local_shards_number(slot);
    if (number == SHARD_META) snprintf(shard, sizeof shard, "meta");
    else snprintf(shard, sizeof shard, "shard %" PRIu32, number);
    if (d->upto > d->index)
        snprintf(records, sizeof records, ", records %" PRIu64 " to %" PRIu64, d->index, d->upto);
    else if (d->index != 0) snprintf(records, sizeof records, ", record %" PRIu64, d->index);
    log_error("%s: damaged on this node's disk: %s%s: %s. It is not served; look at the disk, and "
              "%s (docs/operations.md, Damage at rest)", shard, d->where, records, d->what,
              b->options.clustered
                  ? "replace this node by an empty one, which takes its copy from the others"
                  : "restore a backup");
}

static void scrubber_tell(struct scrubber *b, uint32_t slot) {
    const struct storage_scrubbed *found = &b->scrubbed;
    for (uint32_t i = 0; i < found->count; i++) {
        pthread_mutex_lock(&b->mutex);
        struct scrubber_damages *now = &b->now[slot];
        if (now->count == 0) now->first = found->damage[i];
        uint64_t told = now->count++;
        pthread_mutex_unlock(&b->mutex);
        if (told < SCRUBBER_LINES_MAX) scrubber_log(b, slot, &found->damage[i]);
    }
}

/* The end of a look at a shard; `whole`: what it has not found is not there (any more). */
static void scrubber_conclude(struct scrubber *b, uint32_t slot, bool whole) {
    pthread_mutex_lock(&b->mutex);
    uint64_t count = b->now[slot].count;
    if (whole || count > b->before[slot].count) b->before[slot] = b->now[slot];
    b->now[slot].count = 0;
    pthread_mutex_unlock(&b->mutex);
    if (count > SCRUBBER_LINES_MAX)
        log_error("shard %" PRIu32 ": %" PRIu64 " places are damaged, the first %d of them are "
                  "told", local_shards_number(slot), count, SCRUBBER_LINES_MAX);
}

/* -- a look ------------------------------------------------------------------------------------ */

/* Until `until_ns` (monotonic), or the stop. */
static void scrubber_wait(struct scrubber *b, int64_t until_ns) {
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    pthread_mutex_lock(&b->mutex);
    while (!b->stop && pthread_cond_timedwait(&b->changed, &b->mutex, &until) != ETIMEDOUT) {
    }
    pthread_mutex_unlock(&b->mutex);
}

static void scrubber_wait_ms(struct scrubber *b, int64_t ms) {
    scrubber_wait(b, clock_mono_ns() + ms * 1000000);
}

static bool scrubber_is_stopped(struct scrubber *b) {
    pthread_mutex_lock(&b->mutex);
    bool stop = b->stop;
    pthread_mutex_unlock(&b->mutex);
    return stop;
}

/* One piece. False = there is no such replica (any more). */
static bool scrubber_piece(struct scrubber *b, uint32_t slot, struct storage_scrub_place *place,
                           enum storage_scrub *outcome) {
    struct storage *storage = scrubber_enter(b, slot);
    if (!storage) return false;
    *outcome = storage->ops->scrub(storage, place, SCRUB_PIECE_BYTES, &b->scrubbed);
    /* Before anybody may take it for gone. */
    scrubber_tell(b, slot);
    scrubber_leave(b);
    pthread_mutex_lock(&b->mutex);
    b->stats.bytes += b->scrubbed.bytes;
    b->stats.postponed += *outcome == STORAGE_SCRUB_LATER;
    pthread_mutex_unlock(&b->mutex);
    return true;
}

/* A shard, from the place on. True when there was one. */
static bool scrubber_look(struct scrubber *b, uint32_t slot, struct storage_scrub_place place) {
    enum storage_scrub outcome;
    bool any = false, whole = place.next == 0;
    for (uint32_t postponed = 0; postponed < SCRUBBER_POSTPONED_MAX;) {
        int64_t begun_ns = clock_mono_ns();
        if (!scrubber_piece(b, slot, &place, &outcome)) break;
        any = true;
        if (outcome == STORAGE_SCRUB_LATER) {
            postponed++;
            scrubber_wait_ms(b, SCRUBBER_LOOK_MS);
            continue;
        }
        postponed = 0;
        if (outcome == STORAGE_SCRUB_DONE) scrubber_conclude(b, slot, whole);
        scrubber_wait(b, begun_ns + (int64_t)((double)b->scrubbed.bytes * 1e9 /
                                              (double)b->bytes_per_second));
        if (outcome == STORAGE_SCRUB_DONE) return true;
    }
    scrubber_conclude(b, slot, false);
    return any;
}

/* -- a round ----------------------------------------------------------------------------------- */

/* So that all of it is read in a period. */
static uint64_t scrubber_rate(struct scrubber *b) {
    struct storage_stats stats;
    uint64_t bytes = 0;
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++)
        if (scrubber_measure(b, slot, &stats)) bytes += stats.log_bytes + stats.state_bytes;
    double wanted = (double)bytes * SCRUBBER_HASTE_PERCENT * 10 / (double)b->options.period_ms;
    if (wanted < (double)SCRUB_BYTES_PER_SECOND_MIN) return SCRUB_BYTES_PER_SECOND_MIN;
    return wanted > (double)SCRUB_BYTES_PER_SECOND ? SCRUB_BYTES_PER_SECOND : (uint64_t)wanted;
}

/* The first of all looks: from any record of any shard to that shard's end. Returns its slot. */
static uint32_t scrubber_begin(struct scrubber *b) {
    struct storage_stats stats;
    uint32_t slots[LOCAL_SHARDS_SLOTS], count = 0;
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++)
        if (scrubber_measure(b, slot, &stats)) slots[count++] = slot;
    if (count == 0) return 0;
    uint32_t slot = slots[prng_below(&b->prng, count)];
    if (!scrubber_measure(b, slot, &stats) || stats.log_last == 0) return slot;
    uint64_t records = stats.log_last - stats.log_first + 1;
    b->bytes_per_second = scrubber_rate(b);
    scrubber_look(b, slot, (struct storage_scrub_place){
                               .next = stats.log_first + prng_below(&b->prng, records)});
    return slot;
}

/* All shards, from `first` on. True when there was one. */
static bool scrubber_round(struct scrubber *b, uint32_t first) {
    bool any = false;
    b->bytes_per_second = scrubber_rate(b);
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++)
        any |= scrubber_look(b, (first + i) % LOCAL_SHARDS_SLOTS,
                             (struct storage_scrub_place){.next = 0});
    if (!any || scrubber_is_stopped(b)) return false;
    pthread_mutex_lock(&b->mutex);
    b->stats.rounds++;
    b->stats.round_ms = clock_unix_ms();
    pthread_mutex_unlock(&b->mutex);
    return true;
}

static void *scrubber_main(void *arg) {
    struct scrubber *b = arg;
    pthread_setname_np(pthread_self(), "scrubber");
    priority_set(SCRUBBER_NICE); /* without effect nothing is wrong */
    int64_t first_ms = b->options.period_ms / SCRUBBER_FIRST_PART;
    scrubber_wait_ms(b, first_ms < SCRUBBER_FIRST_MS_MAX ? first_ms : SCRUBBER_FIRST_MS_MAX);
    uint32_t first = scrubber_begin(b);
    while (!scrubber_is_stopped(b)) {
        int64_t begun_ns = clock_mono_ns();
        if (scrubber_round(b, first)) scrubber_wait(b, begun_ns + b->options.period_ms * 1000000);
        else scrubber_wait_ms(b, SCRUBBER_LOOK_MS);
    }
    return NULL;
}

/* -- life -------------------------------------------------------------------------------------- */

struct scrubber *scrubber_start(const struct scrubber_options *options, char *error,
                                size_t error_bytes) {
    struct scrubber *b = calloc(1, sizeof *b);
    pthread_condattr_t attributes;
    require(options->period_ms > 0);
    if (!b) {
        snprintf(error, error_bytes, "no memory for what looks for damage");
        return NULL;
    }
    b->options = *options;
    b->stats.period_ms = options->period_ms;
    b->busy = UINT32_MAX;
    prng_seed(&b->prng, options->seed);
    pthread_mutex_init(&b->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    int rc = pthread_create(&b->thread, NULL, scrubber_main, b);
    if (rc == 0) return b;
    snprintf(error, error_bytes, "cannot start what looks for damage: %s", strerror(rc));
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    free(b);
    return NULL;
}

void scrubber_stop(struct scrubber *b) {
    pthread_mutex_lock(&b->mutex);
    b->stop = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    int rc = pthread_join(b->thread, NULL);
    require(rc == 0);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}
