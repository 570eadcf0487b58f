/* Reads what is stored, piece by piece, and looks whether it is as it was written.
 *
 * Of the log the closed segments: nobody writes to them, so they are read as a tool reads a copy,
 * without a transaction. What happens to one all the same (retention, a truncation that makes it
 * the newest again, a gap that is cut or filled) shows in the list of segments, which is looked at
 * before and after. Of the state, in views of the running environment, so short that its writer can
 * use freed pages again. Every page is read with read() before it is touched. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/hex.h"
#include "persistence/lmdb/log_source_internal.h"
#include "persistence/lmdb/state_source_internal.h"

enum {
    SCRUB_LOG_WINDOW_BYTES = 32 << 10,  /* a segment's rows lie in their order, more or less */
    SCRUB_STATE_WINDOW_BYTES = 4 << 10, /* a state's do not */
    SCRUB_VIEW_ROWS = 4096
};

/* The state's tables, as parts of a place: 1 is its marker. */
static const struct { enum state_source_table table; const char *where; } scrub_tables[] = {
    {STATE_SOURCE_ORDERS, "state/orders"},   {STATE_SOURCE_STORES, "state/stores"},
    {STATE_SOURCE_BOARDS, "state/boards"},   {STATE_SOURCE_TIMERS, "state/timers"},
    {STATE_SOURCE_CURSORS, "state/cursors"}, {STATE_SOURCE_CLUSTER, "state/cluster"}};
enum { SCRUB_LOG, SCRUB_MARKER, SCRUB_TABLES, SCRUB_TABLES_COUNT = 6,
       SCRUB_PARTS = SCRUB_TABLES + SCRUB_TABLES_COUNT };
static_assert(sizeof scrub_tables / sizeof scrub_tables[0] == SCRUB_TABLES_COUNT, "one each");
static_assert(sizeof((struct storage_scrub_place *)NULL)->key == STATE_KEY_BYTES_MAX,
              "a place holds a walk");

struct scrub {
    struct storage_lmdb *s;
    const struct storage_scrub_place *from;
    struct storage_scrub_place next;     /* where it goes on, if this piece counts */
    struct storage_scrubbed *out;
    struct state_walk walk;
    const char *where;
    uint64_t bytes_max;
    bool later;
    struct page_probe probe;
};

__attribute__((format(printf, 6, 7))) static void scrub_damage(
    struct scrub *c, const char *kind, const char *where, uint64_t index, uint64_t upto,
    const char *format, ...) {
    va_list args;
    if (c->out->count == STORAGE_DAMAGES_MAX) return;
    struct storage_damage *d = &c->out->damage[c->out->count++];
    *d = (struct storage_damage){.kind = kind, .index = index, .upto = upto};
    snprintf(d->where, sizeof d->where, "%s", where);
    va_start(args, format);
    vsnprintf(d->what, sizeof d->what, format, args);
    va_end(args);
}

static bool scrub_is_enough(const struct scrub *c) {
    return c->probe.read_bytes >= c->bytes_max || c->out->count == STORAGE_DAMAGES_MAX;
}

/* -- the log -------------------------------------------------------------------------------- */

/* Returns the index behind the last one that was looked at. */
static uint64_t scrub_records(struct scrub *c, struct log_cursor *cursor, uint64_t from,
                              uint64_t last) {
    struct log_item item;
    bool page_lost = false; /* what stood on it shows with the next step */
    for (uint64_t next = from;;) {
        if (!page_lost && next > from && scrub_is_enough(c)) return next;
        enum log_step step = lmdb_cursor_next(cursor, &item);
        if (step == LOG_END) return last + 1;
        c->later |= step == LOG_FAULT && item.passing;
        if (c->later) return from;
        page_lost = step == LOG_FAULT && item.fault == LOG_FAULT_PAGE;
        if (step != LOG_RECORD)
            scrub_damage(c, log_fault_name(item.fault), item.segment, item.index, item.upto, "%s",
                         item.what);
        next = ((struct lmdb_cursor *)(void *)cursor)->next;
        if (next > last) return last + 1; /* where a damaged key leads to */
    }
}

static void scrub_log(struct scrub *c) {
    struct log_source_segment g = {.is_newest = false};
    uint64_t first, last;
    if (!segments_closed(c->s, c->from->next, &g.first, &g.last)) {
        c->next = (struct storage_scrub_place){.part = SCRUB_LOG + 1};
        return;
    }
    snprintf(g.name, sizeof g.name, "log-%020" PRIu64, g.first);
    struct lmdb_source source = {.list = &g, .count = 1, .probe = &c->probe};
    snprintf(source.directory, sizeof source.directory, "%s", c->s->directory);
    pthread_mutex_init(&source.lock, NULL);
    uint64_t from = c->from->next > g.first ? c->from->next : g.first;
    struct log_cursor *cursor = lmdb_cursor_open(&source.base, from, g.last, true);
    c->later = cursor == NULL;
    if (cursor) c->next.next = scrub_records(c, cursor, from, g.last);
    if (cursor) lmdb_cursor_close(cursor);
    pthread_mutex_destroy(&source.lock);
    /* What came and went meanwhile is no damage: the list of now tells where to go on. */
    if (c->out->count > 0 && (!segments_closed(c->s, c->from->next, &first, &last) ||
                              first != g.first || last != g.last)) {
        c->out->count = 0;
        c->next = *c->from;
    }
}

/* -- the state ------------------------------------------------------------------------------ */

static void scrub_row_damage(struct scrub *c, const struct state_source_row *row) {
    char hex[2 * 24 + 1] = "";
    if (row->key) hex_format(row->key, row->key_bytes < 24 ? row->key_bytes : 24, hex);
    if (row->key) scrub_damage(c, "state_damaged", c->where, 0, 0, "row %s: %s", hex, row->fault);
    else scrub_damage(c, "page_damaged", c->where, 0, 0, "the page at %" PRIu64 " of its file %s",
                      row->offset, row->fault);
}

/* Whether the walk has come further than where the piece begins: else it cannot end there. */
static bool scrub_has_moved(const struct scrub *c) {
    return c->walk.last_key_bytes != c->from->key_bytes ||
           memcmp(c->walk.last_key, c->from->key, c->from->key_bytes) != 0;
}

static bool scrub_row(void *arg, const struct state_source_row *row) {
    struct scrub *c = arg;
    c->later |= row->fault && row->passing;
    if (row->fault && !row->passing) scrub_row_damage(c, row);
    return !c->later && !(scrub_has_moved(c) && row->key && scrub_is_enough(c));
}

static void scrub_part_done(struct scrub *c) {
    c->next = (struct storage_scrub_place){.part = (uint8_t)(c->from->part + 1)};
}

static void scrub_table(struct scrub *c, struct state_source *source, char *error,
                        size_t error_bytes) {
    c->walk.last_key_bytes = c->from->key_bytes;
    memcpy(c->walk.last_key, c->from->key, sizeof c->walk.last_key);
    int more = state_source_visit_some(source, scrub_tables[c->from->part - SCRUB_TABLES].table,
                                       SCRUB_VIEW_ROWS, &c->walk, scrub_row, c, error,
                                       error_bytes);
    if (more < 0) c->later = page_fault_is_passing(errno);
    if (more < 0 && !c->later) scrub_damage(c, "state_damaged", c->where, 0, 0, "%s", error);
    if (more > 0 && scrub_has_moved(c)) {
        c->next.key_bytes = (uint8_t)c->walk.last_key_bytes;
        memcpy(c->next.key, c->walk.last_key, sizeof c->next.key);
    } else {
        scrub_part_done(c);
    }
}

static void scrub_marker(struct scrub *c, struct state_source *source, char *error,
                         size_t error_bytes) {
    struct state_source_marker *marker = storage_allocate(c->s, sizeof *marker);
    c->later = marker == NULL;
    errno = 0;
    if (marker && state_source_read_marker(source, marker, error, error_bytes) != 0) {
        c->later = page_fault_is_passing(errno);
        if (!c->later) scrub_damage(c, "state_damaged", c->where, 0, 0, "%s", error);
    }
    free(marker);
    scrub_part_done(c);
}

static void scrub_state(struct scrub *c) {
    char error[LMDB_PATH_BYTES_MAX + 160];
    bool marker = c->from->part == SCRUB_MARKER;
    if (!exports_try(c->s)) {
        c->later = true;
        return;
    }
    c->where = marker ? "state/meta" : scrub_tables[c->from->part - SCRUB_TABLES].where;
    struct state_source *source = state_source_open_within(c->s->state.path, c->s->state.mdb,
                                                           &c->probe, error, sizeof error);
    if (source && marker) {
        scrub_marker(c, source, error, sizeof error);
    } else if (source) {
        scrub_table(c, source, error, sizeof error);
    } else {
        c->later = page_fault_is_passing(errno);
        if (!c->later) scrub_damage(c, "state_damaged", "state", 0, 0, "%s", error);
        c->next = (struct storage_scrub_place){.part = SCRUB_PARTS};
    }
    state_source_close(source);
    exports_leave(&c->s->exports);
}

/* -- a piece -------------------------------------------------------------------------------- */

static enum storage_scrub scrub_settle(const struct scrub *c, struct storage_scrub_place *place) {
    if (c->later) {
        c->out->count = 0;
        return STORAGE_SCRUB_LATER;
    }
    if (c->out->count > 0 && !place->again) {
        c->out->count = 0;
        place->again = true;
        return STORAGE_SCRUB_MORE;
    }
    *place = c->next;
    place->again = false;
    if (place->part < SCRUB_PARTS) return STORAGE_SCRUB_MORE;
    *place = (struct storage_scrub_place){.part = SCRUB_LOG};
    return STORAGE_SCRUB_DONE;
}

enum storage_scrub scrub_piece(struct storage *base, struct storage_scrub_place *place,
                               uint64_t bytes_max, struct storage_scrubbed *scrubbed) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct scrub *c = storage_allocate(s, sizeof *c);
    scrubbed->bytes = scrubbed->count = 0;
    if (!c) return STORAGE_SCRUB_LATER;
    memset(c, 0, offsetof(struct scrub, probe));
    bool log = place->part == SCRUB_LOG;
    page_probe_init(&c->probe, log ? SCRUB_LOG_WINDOW_BYTES : SCRUB_STATE_WINDOW_BYTES);
    c->s = s;
    c->from = place;
    c->next = *place;
    c->out = scrubbed;
    c->bytes_max = log || bytes_max < SCRUB_VIEW_BYTES ? bytes_max : SCRUB_VIEW_BYTES;
    if (log) scrub_log(c);
    else scrub_state(c);
    scrubbed->bytes = c->probe.read_bytes;
    enum storage_scrub outcome = scrub_settle(c, place);
    free(c);
    return outcome;
}
