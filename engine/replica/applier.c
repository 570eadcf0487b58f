#include "engine/replica/applier.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/ulid.h"
#include "engine/replica/applier_internal.h"

enum { PUBLISH_AHEAD = 8 }; /* orders whose memory is asked for before they are put */
static const uint64_t applier_memory_bytes = 256ull << 20;
static const int64_t applier_minutes_kept_ms = 8 * 86400000ll;

static bool load_positions(struct applier *a) {
    const void *rows;
    struct view_read read;
    if (!view_read_begin(a->store, &read)) return false;
    uint32_t count = view_positions(a->store, &read, &rows);
    require(count <= SHARDS_MAX);
    if (count != 0) memcpy(a->positions, rows, count * sizeof *a->positions);
    view_read_end(a->store, &read);
    a->positions_count = a->published_count = count;
    memcpy(a->published, a->positions, sizeof a->published);
    for (uint32_t i = 0; i < count; i++) {
        if (a->positions[i].time_ms > a->disk.newest_ms)
            a->disk.newest_ms = a->positions[i].time_ms;
    }
    return true;
}

struct applier *applier_new(const struct applier_options *options, char *error,
                            size_t error_bytes) {
    struct applier *a = calloc(1, sizeof *a);
    if (a) {
        a->options = *options;
        a->store = options->store;
        pthread_mutex_init(&a->lock, NULL);
        pthread_mutex_init(&a->disk_lock, NULL);
        if (a->options.memory_bytes == 0) a->options.memory_bytes = applier_memory_bytes;
        if (a->options.unwritten_bytes == 0)
            a->options.unwritten_bytes = a->options.memory_bytes / 2;
        if (a->options.minutes_kept_ms == 0) a->options.minutes_kept_ms = applier_minutes_kept_ms;
        a->fold = fold_new(a->options.memory_bytes);
        a->disk.row = malloc(sizeof(struct view_order_row) + ACTOR_BYTES_MAX);
    }
    if (!a || !a->fold || !a->disk.row || !load_positions(a)) {
        snprintf(error, error_bytes, "no memory for the applier");
        if (a) applier_free(a);
        return NULL;
    }
    for (int v = 0; v < VIEWS_COUNT; v++) {
        if (a->store->tables[v].generation == 0 && views[v].key) a->disk.scans[v].wanted = true;
    }
    return a;
}

void applier_free(struct applier *a) {
    if (a->begun) view_read_end(a->store, &a->read);
    for (int v = 0; v < VIEWS_COUNT; v++) sums_fini(&a->sums[v]);
    sums_fini(&a->disk.rolled);
    if (a->fold) fold_free(a->fold);
    free(a->dirty);
    for (int v = 0; v < VIEWS_COUNT; v++) free(a->disk.ops[v].list);
    free(a->disk.keys);
    free(a->disk.sorted);
    free(a->disk.row);
    pthread_mutex_destroy(&a->lock);
    pthread_mutex_destroy(&a->disk_lock);
    free(a);
}

uint32_t applier_positions(const struct applier *a, const struct view_position **positions) {
    *positions = a->positions;
    return a->positions_count;
}

static struct view_position *position_find(const struct applier *a, uint32_t shard) {
    for (uint32_t i = 0; i < a->positions_count; i++) {
        if (a->positions[i].shard == shard) return (struct view_position *)&a->positions[i];
    }
    return NULL;
}

/* The shard's position; a new one is put where it belongs. */
struct view_position *applier_position_of(struct applier *a, uint32_t shard) {
    struct view_position *p = position_find(a, shard);
    if (p) return p;
    require(a->positions_count < SHARDS_MAX);
    uint32_t at = a->positions_count++;
    while (at > 0 && a->positions[at - 1].shard > shard) {
        a->positions[at] = a->positions[at - 1];
        at--;
    }
    a->positions[at] =
        (struct view_position){.shard = shard, .lacks = VIEW_BUILDING, .counted_from = 1};
    return &a->positions[at];
}

uint64_t applier_next(const struct applier *a, uint32_t shard) {
    const struct view_position *p = position_find(a, shard);
    return p ? p->index + 1 : 1;
}

enum view_lack applier_lacks(const struct applier *a, uint32_t shard) {
    const struct view_position *p = position_find(a, shard);
    return p ? (enum view_lack)p->lacks : VIEW_BUILDING;
}

void applier_up_to_date(struct applier *a, uint32_t shard) {
    struct view_position *p = applier_position_of(a, shard);
    require(a->begun);
    if (p->lacks == VIEW_BUILDING) p->lacks = VIEW_WHOLE;
}

uint64_t applier_taken(const struct applier *a) { return a->taken; }

uint64_t applier_taken_bytes(const struct applier *a) { return fold_dirty_bytes(a->fold); }

bool applier_begin(struct applier *a) {
    require(!a->begun);
    a->begun = view_read_begin(a->store, &a->read);
    a->taken = 0;
    a->times_count = 0;
    return a->begun;
}

void applier_identify(struct applier *a, const char *cluster_id) {
    if (a->identified || cluster_id[0] == 0) return;
    a->identified = true;
    if (a->store->cluster_id[0] != 0) return;
    pthread_mutex_lock(&a->lock);
    snprintf(a->cluster_id, sizeof a->cluster_id, "%s", cluster_id);
    pthread_mutex_unlock(&a->lock);
}

struct fold_order *applier_order_of(struct applier *a, const struct id128 *key, uint32_t shard) {
    struct fold_order *o = fold_find(a->fold, key);
    if (o) return o;
    struct bytes block = {NULL, 0};
    uint32_t stored_shard = shard;
    if (view_order_get(a->store, &a->read, key, &block, &stored_shard)) a->stats.orders_read++;
    return fold_put(a->fold, key, stored_shard, block);
}

static enum applier_outcome count_event(struct applier *a, const struct view_event *counted) {
    struct view_sum sum;
    for (int v = 0; v < VIEWS_COUNT; v++) {
        for (uint32_t i = 0; views[v].count && views[v].count(counted, i, &sum); i++) {
            if (!sums_add(&a->sums[v], &sum)) return APPLIER_NO_MEMORY;
        }
    }
    return APPLIER_TAKEN;
}

static enum applier_outcome take_event(struct applier *a, const struct event *e,
                                       const struct view_position *p, int64_t time_ms, char *error,
                                       size_t error_bytes) {
    struct view_event counted;
    /* The first event of an order that no import can have brought: the disk need not be asked. */
    bool born = e->version == 1 && p->index >= p->counted_from;
    struct fold_order *o = born ? fold_find(a->fold, &e->subject) : NULL;
    if (!o && born) o = fold_put(a->fold, &e->subject, p->shard, bytes_of(NULL, 0));
    if (!o) o = applier_order_of(a, &e->subject, p->shard);
    enum fold_outcome outcome =
        o ? fold_apply(a->fold, o, e, p->shard, p->index, time_ms, &counted) : FOLD_NO_MEMORY;
    /* An order that is not there, in the stretch that a stored state may be ahead of its index: it
     * had ended there. */
    if (outcome == FOLD_GAP && p->index < p->counted_from && !o->block) outcome = FOLD_KNOWN;
    const char *what = outcome == FOLD_GAP ? "events before it are missing" : "it is malformed";
    char key[ULID_TEXT_SIZE + 1];
    switch (outcome) {
    case FOLD_APPLIED:
        a->stats.events++;
        a->taken++;
        return p->index < p->counted_from ? APPLIER_TAKEN : count_event(a, &counted);
    case FOLD_KNOWN: a->stats.known++; return APPLIER_TAKEN;
    case FOLD_NO_MEMORY: return APPLIER_NO_MEMORY;
    case FOLD_GAP:
    case FOLD_MALFORMED: break;
    }
    ulid_format(&e->subject, key);
    snprintf(error, error_bytes, "shard %u, entry %llu: event %u of order %s (%s) cannot be "
             "applied: %s", p->shard, (unsigned long long)p->index, e->version, key,
             event_kind_name(e->kind), what);
    return APPLIER_DAMAGED;
}

static void note_time(struct applier *a, uint32_t shard, int64_t time_ms) {
    struct applier_time *last = a->times_count ? &a->times[a->times_count - 1] : NULL;
    if (last && last->shard == shard &&
        (last->time_ms == time_ms || a->times_count == APPLIER_TIMES_MAX)) {
        last->entries++;
    } else if (a->times_count < APPLIER_TIMES_MAX) {
        a->times[a->times_count++] = (struct applier_time){shard, 1, time_ms};
    }
}

uint32_t applier_times(const struct applier *a, const struct applier_time **times) {
    *times = a->times;
    return a->times_count;
}

/* Events of an entry that are looked at together: the orders of the later ones are asked of memory
 * while the earlier ones are applied. */
enum { TAKE_WINDOW = 16 };

static enum applier_outcome take_record(struct applier *a, struct view_position *p,
                                        const struct record_header *h, char *error,
                                        size_t error_bytes) {
    p->index = h->index;
    a->stats.entries++;
    if (h->type != RECORD_EVENTS || h->payload_bytes < sizeof(struct entry_header))
        return APPLIER_TAKEN;
    const struct entry_header *entry = (const void *)(h + 1);
    uint32_t size = h->payload_bytes - (uint32_t)sizeof *entry, offset = 0;
    const struct event *window[TAKE_WINDOW], *e = NULL;
    p->time_ms = entry->time_ms;
    note_time(a, p->shard, entry->time_ms);
    do {
        uint32_t count = 0;
        while (count < TAKE_WINDOW && (e = event_next(entry + 1, size, &offset))) {
            if (e->kind == 0 || e->kind > 63) continue; /* of stores, between shards */
            fold_prefetch_slot(a->fold, &e->subject);
            window[count++] = e;
        }
        for (uint32_t i = 0; i < count; i++) fold_prefetch_order(a->fold, &window[i]->subject);
        for (uint32_t i = 0; i < count; i++) fold_prefetch_block(a->fold, &window[i]->subject);
        for (uint32_t i = 0; i < count; i++) {
            enum applier_outcome outcome =
                take_event(a, window[i], p, entry->time_ms, error, error_bytes);
            if (outcome != APPLIER_TAKEN) return outcome;
        }
    } while (e);
    if (offset == size) return APPLIER_TAKEN;
    snprintf(error, error_bytes, "shard %u, entry %llu: its events do not fill it", p->shard,
             (unsigned long long)p->index);
    return APPLIER_DAMAGED;
}

enum applier_outcome applier_take(struct applier *a, uint32_t shard, const void *records,
                                  size_t bytes, char *error, size_t error_bytes) {
    struct view_position *p = applier_position_of(a, shard);
    const uint8_t *at = records, *end = at + bytes;
    int64_t began_ns = clock_mono_ns();
    enum applier_outcome outcome = APPLIER_TAKEN;
    require(a->begun);
    while (at < end && outcome == APPLIER_TAKEN) {
        const struct record_header *h = (const void *)at;
        at += (sizeof *h + h->payload_bytes + 7) & ~(size_t)7;
        if (h->index <= p->index) continue;
        if (h->index != p->index + 1) {
            snprintf(error, error_bytes, "shard %u: entry %llu came instead of %llu", shard,
                     (unsigned long long)h->index, (unsigned long long)(p->index + 1));
            outcome = APPLIER_GAP;
        } else {
            outcome = take_record(a, p, h, error, error_bytes);
        }
    }
    a->stats.fold_ns += (uint64_t)(clock_mono_ns() - began_ns);
    return outcome;
}

static void forget(struct applier *a) {
    for (int v = 0; v < VIEWS_COUNT; v++) sums_clear(&a->sums[v]);
    fold_forget(a->fold);
    memcpy(a->positions, a->published, sizeof a->positions);
    a->positions_count = a->published_count;
    a->taken = 0;
}

void applier_abort(struct applier *a) {
    view_read_end(a->store, &a->read);
    a->begun = false;
    forget(a);
}

static bool list_dirty(struct applier *a) {
    uint32_t count = fold_dirty_count(a->fold), n = 0;
    if (count > a->dirty_capacity) {
        struct fold_order **dirty = realloc(a->dirty, 2 * (size_t)count * sizeof *dirty);
        if (!dirty) return false;
        a->dirty = dirty;
        a->dirty_capacity = 2 * count;
    }
    for (struct fold_order *o = fold_dirty(a->fold); o; o = o->next_dirty) a->dirty[n++] = o;
    require(n == count);
    return true;
}

static void put_orders(struct applier *a, struct overlay *t, uint64_t number) {
    uint32_t count = fold_dirty_count(a->fold);
    for (uint32_t i = 0; i < count; i++) {
        if (i + PUBLISH_AHEAD < count)
            overlay_prefetch(t, a->dirty[i + PUBLISH_AHEAD], a->dirty[i + PUBLISH_AHEAD / 2]);
        overlay_put(t, a->dirty[i], number);
    }
}

/* What was taken goes into the active table under the next number. False without memory. */
static bool publish(struct applier *a) {
    struct overlay *t = a->store->active;
    uint64_t number = a->store->number + 1;
    uint32_t sums_count = 0;
    size_t positions_bytes = a->positions_count * sizeof *a->positions;
    for (int v = 0; v < VIEWS_COUNT; v++) sums_count += a->sums[v].count;
    if (!list_dirty(a)) return false;
    if (!overlay_reserve(t, fold_dirty_count(a->fold), fold_dirty_bytes(a->fold), sums_count,
                         positions_bytes, view_oldest(a->store)))
        return false;
    put_orders(a, t, number);
    for (int v = 0; v < VIEWS_COUNT; v++) {
        for (uint32_t i = 0; i < a->sums[v].count; i++)
            overlay_add(t, (enum view_number)v, &a->sums[v], &a->sums[v].entries[i], number);
    }
    struct view_position *positions = overlay_take(t, positions_bytes);
    memcpy(positions, a->positions, positions_bytes);
    if (!t->published) t->began_ms = clock_mono_ms();
    view_publish(a->store, number, positions, a->positions_count);
    return true;
}

static bool has_moved(const struct applier *a) {
    return fold_dirty_count(a->fold) != 0 || a->positions_count != a->published_count ||
           memcmp(a->positions, a->published, a->positions_count * sizeof *a->positions) != 0;
}

enum applier_outcome applier_commit(struct applier *a) {
    int64_t began_ns = clock_mono_ns();
    bool good = !has_moved(a) || publish(a);
    view_read_end(a->store, &a->read);
    a->begun = false;
    if (!good) {
        forget(a);
        return APPLIER_NO_MEMORY;
    }
    a->stats.publications++;
    memcpy(a->published, a->positions, sizeof a->published);
    a->published_count = a->positions_count;
    if (a->options.committed) a->options.committed(a->options.changed_arg);
    for (struct fold_order *o = fold_dirty(a->fold); o && a->options.changed; o = o->next_dirty)
        a->options.changed(a->options.changed_arg, o);
    fold_clean(a->fold);
    for (int v = 0; v < VIEWS_COUNT; v++) sums_clear(&a->sums[v]);
    a->stats.publish_ns += (uint64_t)(clock_mono_ns() - began_ns);
    return APPLIER_TAKEN;
}

uint64_t applier_unwritten(const struct applier *a, int64_t *age_ms) {
    const struct overlay *t = a->store->active;
    *age_ms = t->published ? clock_mono_ms() - t->began_ms : 0;
    return t->published ? t->bytes : 0;
}

uint64_t applier_room(const struct applier *a) {
    uint64_t unwritten = a->store->active->published ? a->store->active->bytes : 0;
    return unwritten < a->options.unwritten_bytes ? a->options.unwritten_bytes - unwritten : 1;
}

bool applier_is_full(const struct applier *a) {
    const struct overlay *t = a->store->active;
    return t->published && t->bytes >= a->options.unwritten_bytes;
}

bool applier_freeze(struct applier *a) {
    return a->store->active->published && view_freeze(a->store);
}

void applier_stats(struct applier *a, struct applier_stats *stats) {
    *stats = a->stats;
    stats->memory_bytes = fold_bytes(a->fold);
    stats->unwritten_bytes = a->store->active->published ? a->store->active->bytes : 0;
    pthread_mutex_lock(&a->lock);
    stats->disk = a->disk_stats;
    pthread_mutex_unlock(&a->lock);
}
