/* Filling a gap on the simulated disk: as persistence/lmdb/fill.c does it, in one operation. */
#include "tests/world/storage_memory_private.h"

static bool gap_opens(const struct storage_memory *d, const struct memory_gap *gap) {
    if (d->pieces_count > 0 && d->pieces[0].first < gap->first) return false;
    return d->log_count == 0 || d->log_first > gap->first;
}

/* Whether retention has dropped what lies behind it: nothing joins what would fill it, then. */
bool memory_gap_is_past(const struct storage_memory *d, const struct memory_gap *gap) {
    if (d->pieces_count > 0) return d->pieces[0].first > gap->last + 1;
    return d->log_count > 0 && d->log_first > gap->last + 1;
}

bool memory_gap_at(struct storage *s, uint32_t position, struct storage_gap *gap) {
    const struct storage_memory *d = disk_of(s);
    if (position >= d->gaps_count) return false;
    const struct memory_gap *g = &d->gaps[d->gaps_count - 1 - position];
    *gap = (struct storage_gap){g->first, g->last, gap_opens(d, g), g->installed_ms};
    return !memory_gap_is_past(d, g);
}

/* The gap that records from `first` on begin; NULL = none. */
static struct memory_gap *gap_of(struct storage_memory *d, uint64_t first) {
    for (uint32_t i = 0; i < d->gaps_count; i++) {
        struct memory_gap *g = &d->gaps[i];
        if (first < g->first || first > g->last || memory_gap_is_past(d, g)) continue;
        return first == g->first || gap_opens(d, g) ? g : NULL;
    }
    return NULL;
}

static uint64_t term_at(const struct storage_memory *d, uint64_t index, uint64_t otherwise) {
    const struct memory_record *m = log_find(d, index);
    return m ? ((const struct record_header *)(const void *)m->data)->term : otherwise;
}

/* How many of the records are checked and go into the gap; 0 with a sentence. */
static uint64_t fill_check(const struct storage_memory *d, const struct memory_gap *gap,
                           const uint8_t *records, size_t bytes, char *error, size_t error_bytes) {
    struct record_header h;
    memcpy(&h, records, sizeof h);
    uint64_t first = h.index, index = first;
    uint64_t term = gap_opens(d, gap) ? 0 : term_at(d, gap->first - 1, UINT64_MAX);
    uint64_t term_max = term_at(d, gap->last + 1, d->marker.applied_term);
    for (size_t at = 0; at < bytes && index <= gap->last; index++) {
        const char *what = NULL;
        size_t size = sizeof h;
        if (bytes - at >= size) memcpy(&h, records + at, sizeof h);
        if (bytes - at >= size) size += h.payload_bytes;
        if (bytes - at < size) what = "it is cut short";
        if (!what) what = record_fault(records + at, size, index);
        if (!what && h.term < term) what = "its term is older than that of the record before it";
        if (!what && h.term > term_max)
            what = "its term is newer than that of the log behind the gap";
        if (what) {
            snprintf(error, error_bytes, "record %lu of a peer does not go into the gap: %s",
                     (unsigned long)index, what);
            return 0;
        }
        term = h.term;
        at += (size + 7) / 8 * 8;
    }
    return index - first;
}

/* The history that ends in front of `first`; a new piece when there is none. */
static struct memory_piece *piece_before(struct storage_memory *d, uint64_t first) {
    uint32_t at = 0;
    for (; at < d->pieces_count && d->pieces[at].first < first; at++) {
        if (d->pieces[at].first + d->pieces[at].count == first) return &d->pieces[at];
    }
    d->pieces = realloc(d->pieces, (d->pieces_count + 1) * sizeof *d->pieces);
    require(d->pieces != NULL);
    memmove(d->pieces + at + 1, d->pieces + at, (d->pieces_count - at) * sizeof *d->pieces);
    d->pieces_count++;
    d->pieces[at] = (struct memory_piece){.first = first};
    return &d->pieces[at];
}

static void piece_put(struct memory_piece *p, const uint8_t *records, uint64_t count) {
    p->records = realloc(p->records, (p->count + count) * sizeof *p->records);
    require(p->records != NULL);
    for (uint64_t i = 0; i < count; i++) {
        struct record_header h;
        memcpy(&h, records, sizeof h);
        struct memory_record *m = &p->records[p->count++];
        m->bytes = (uint32_t)sizeof h + h.payload_bytes;
        m->data = malloc(m->bytes);
        require(m->data != NULL);
        memcpy(m->data, records, m->bytes);
        records += (m->bytes + 7) / 8 * 8;
    }
}

/* Puts what follows behind the piece, and frees its list. */
static void piece_join(struct memory_piece *p, struct memory_record *records, uint64_t count) {
    if (count == 0) {
        free(records);
        return;
    }
    p->records = realloc(p->records, (p->count + count) * sizeof *p->records);
    require(p->records != NULL);
    memcpy(p->records + p->count, records, count * sizeof *records);
    p->count += count;
    free(records);
}

/* The gap behind piece number `at` is gone: it goes on with the next one, or with the log. */
static void piece_close(struct storage_memory *d, uint32_t at, bool newest) {
    struct memory_piece *p = &d->pieces[at], joined;
    if (!newest) {
        piece_join(p, p[1].records, p[1].count);
        d->pieces_count--;
        memmove(p + 1, p + 2, (d->pieces_count - at - 1) * sizeof *p);
        return;
    }
    piece_join(p, d->log, d->log_count);
    joined = *p;
    d->pieces_count--;
    d->log = joined.records;
    d->log_first = joined.first;
    d->log_count = d->log_capacity = joined.count;
}

static enum storage_filled fill_gap(struct storage_memory *d, struct memory_gap *gap,
                                    const uint8_t *records, uint64_t count) {
    struct record_header h;
    memcpy(&h, records, sizeof h);
    struct memory_piece *p = piece_before(d, h.index);
    piece_put(p, records, count);
    d->counters.filled += count;
    gap->first = h.index + count;
    if (gap->first <= gap->last) return STORAGE_FILLED;
    uint32_t at = (uint32_t)(gap - d->gaps);
    bool newest = at + 1 == d->gaps_count;
    /* Without a piece between this gap and the next one there is nothing to join with. */
    bool joins = newest || (p + 1 < d->pieces + d->pieces_count && p[1].first == gap->last + 1);
    d->gaps_count--;
    memmove(gap, gap + 1, (d->gaps_count - at) * sizeof *gap);
    if (joins) piece_close(d, (uint32_t)(p - d->pieces), newest);
    return STORAGE_FILLED;
}

enum storage_filled memory_fill(struct storage *s, const void *records, size_t bytes, char *error,
                                size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    struct record_header h = {0};
    if (bytes < sizeof h) {
        snprintf(error, error_bytes, "what a peer sent is no record");
        return STORAGE_FILL_REFUSED;
    }
    memcpy(&h, records, sizeof h);
    struct memory_gap *gap = gap_of(d, h.index);
    if (gap == NULL) {
        snprintf(error, error_bytes, "no gap that can be filled begins with record %lu",
                 (unsigned long)h.index);
        return STORAGE_FILL_MOOT;
    }
    uint64_t count = fill_check(d, gap, records, bytes, error, error_bytes);
    if (count == 0) return STORAGE_FILL_REFUSED;
    if (d->full || !disk_operation(d)) {
        snprintf(error, error_bytes, "%s", d->full ? "no room" : "the process has died");
        return STORAGE_FILL_NO_ROOM;
    }
    return fill_gap(d, gap, records, count);
}
