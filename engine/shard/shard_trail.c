/* How far back consensus knows the log, and may ask for it. A follower that was away is sent what
 * it lacks from the log, as long as that is no more than the stored state that would do too. What
 * lies further back, and what retention will drop, is forgotten. The library keeps a few words for
 * each change of term, none for an entry. */
#include <stdlib.h>
#include <string.h>

#include "engine/shard/shard_internal.h"

enum {
    TRAIL_LOOK_MS = 60000,
    TRAIL_TRIES = 16               /* damaged records that are stepped over at a start */
};

/* How many entries weigh as much as the stored state, or options.trail_bytes. */
static uint32_t trail_measure(const struct shard *s) {
    struct storage_stats stats;
    s->options.storage->ops->stats(s->options.storage, &stats);
    if (stats.log_first == 0 || stats.log_last < stats.log_first || stats.log_bytes == 0)
        return TRAIL_ENTRIES_MAX;
    uint64_t entries = stats.log_last - stats.log_first + 1;
    /* A gap in front of all that is stored is none of these. */
    if (stats.gap_first >= stats.log_first && stats.gap_records < entries)
        entries -= stats.gap_records;
    uint64_t bytes = s->options.trail_bytes ? s->options.trail_bytes : TRAIL_BYTES;
    if (stats.state_bytes > bytes) bytes = stats.state_bytes;
    double worth = (double)bytes / (double)stats.log_bytes * (double)entries;
    return worth < TRAIL_ENTRIES_MAX ? (uint32_t)worth : TRAIL_ENTRIES_MAX;
}

/* Now and then: a measurement may wait for somebody who opens a segment. */
static uint32_t trail_worth(struct shard *s) {
    struct shard_trail *t = &s->trail;
    if (t->worth_known && s->mono_ms < t->measure_ms) return t->worth;
    t->worth = trail_measure(s);
    t->worth_known = true;
    t->measure_ms = s->mono_ms + TRAIL_LOOK_MS;
    return t->worth;
}

/* -- while it runs ----------------------------------------------------------------------------- */

static void trail_note(struct shard *s) {
    struct shard_trail *t = &s->trail;
    int64_t before_ms = s->now_ms - s->options.retention_ms;
    while (t->count > 1 && t->ages[1].ms <= before_ms) {
        t->count--;
        memmove(&t->ages[0], &t->ages[1], t->count * sizeof t->ages[0]);
    }
    if (t->count > 0 && t->ages[0].ms <= before_ms && t->ages[0].index > t->floor)
        t->floor = t->ages[0].index;
    int64_t step_ms = s->options.retention_ms / (TRAIL_AGES_MAX - 2);
    if (t->count == TRAIL_AGES_MAX) return; /* a clock that went back: it will come again */
    if (t->count > 0 && s->now_ms - t->ages[t->count - 1].ms < step_ms) return;
    t->ages[t->count].ms = s->now_ms;
    t->ages[t->count].index = s->checkpoint_index;
    t->count++;
}

uint32_t shard_trail_kept(struct shard *s) {
    if (s->options.trailing_entries) return s->options.trailing_entries;
    trail_note(s);
    uint64_t floor = s->trail.floor, marker = s->checkpoint_index;
    uint64_t kept = marker > floor ? marker - floor : 0;
    uint32_t worth = trail_worth(s);
    return kept < worth ? (uint32_t)kept : worth;
}

void shard_trail_retain(struct shard *s) {
    if (s->mono_ms < s->trail.retain_ms) return;
    s->trail.retain_ms = s->mono_ms + TRAIL_LOOK_MS;
    uint64_t upto = s->checkpoint_index;
    for (uint32_t p = 0; p < s->outbox.peers_count; p++) {
        uint64_t oldest = outbox_oldest_index(&s->outbox, p);
        if (oldest && oldest <= upto) upto = oldest - 1;
    }
    /* Consensus may still ask for what it has not been told to forget. */
    if (s->options.peers) {
        uint64_t reach = consensus_reach(s->consensus);
        if (reach <= 1) return;
        if (reach - 1 < upto) upto = reach - 1;
    }
    s->options.storage->ops->retain(s->options.storage, upto, s->now_ms - s->options.retention_ms);
}

/* -- at a start -------------------------------------------------------------------------------- */

struct trail_search {
    struct storage *storage;
    uint64_t first;                /* index of terms[0] */
    uint64_t *terms;
    uint64_t failed;               /* the index that cannot be read */
};

static bool trail_visit(void *arg, const struct record_header *h, const void *payload) {
    (void)payload;
    *(uint64_t *)arg = h->term;
    return true;
}

static bool trail_look(struct trail_search *t, uint64_t index) {
    char error[256];
    uint64_t term = 0;
    t->failed = index;
    if (t->storage->ops->read(t->storage, index, index, trail_visit, &term, error,
                              sizeof error) != 0)
        return false;
    t->terms[index - t->first] = term;
    return term != 0;
}

/* Terms never fall: what lies between two equal ones is the same. The ends are known. */
static bool trail_fill(struct trail_search *t, uint64_t low, uint64_t high) {
    while (high - low > 1) {
        uint64_t *between = t->terms + (low - t->first) + 1, middle = low + (high - low) / 2;
        if (between[-1] == t->terms[high - t->first]) {
            for (uint64_t i = 0; i < high - low - 1; i++) between[i] = between[-1];
            return true;
        }
        if (!trail_look(t, middle) || !trail_fill(t, low, middle)) return false;
        low = middle;
    }
    return true;
}

uint64_t *shard_trail_terms(struct shard *s, const struct storage_meta *meta, uint64_t *count) {
    uint64_t marker = meta->applied_index, first = meta->log_first;
    *count = 0;
    if (!s->options.peers || marker == 0 || meta->log_last < marker || first > marker) return NULL;
    uint32_t most = trail_measure(s);
    if (most > START_TRAILING_ENTRIES_MAX) most = START_TRAILING_ENTRIES_MAX;
    if (most == 0) return NULL;
    if (marker - first >= most) first = marker - most + 1;
    struct trail_search t = {.storage = s->options.storage, .first = first};
    t.terms = calloc(marker - first + 1, sizeof *t.terms);
    for (uint32_t tries = 0; t.terms && tries < TRAIL_TRIES && t.first <= marker; tries++) {
        if (trail_look(&t, marker) && trail_look(&t, t.first) && trail_fill(&t, t.first, marker)) {
            *count = marker - t.first + 1;
            return t.terms;
        }
        /* Damage in front of the marker is found and named by whoever needs what lies there. */
        t.first = t.failed + 1;
    }
    free(t.terms);
    return NULL;
}
