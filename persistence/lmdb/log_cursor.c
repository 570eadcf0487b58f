/* Reads a log: a cursor walks the pages of its segments record by record, then the tail, and names
 * what is damaged or missing; and the way from a time to an index. See persistence/log_source.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/limits.h"
#include "persistence/lmdb/log_source_internal.h"

/* What a cursor may have touched before the kernel gets it back, and how long a view may last. */
static const uint64_t source_touched_bytes_max = 16u << 20;
enum { SOURCE_VIEW_RECORDS_MAX = 8192 };

static void cursor_leave(struct lmdb_cursor *c) {
    if (c->open) page_tree_close(&c->tree);
    c->open = false;
}

void lmdb_cursor_close(struct log_cursor *cursor) {
    struct lmdb_cursor *c = (struct lmdb_cursor *)(void *)cursor;
    cursor_leave(c);
    lmdb_source_tail_release(c->tail);
    free(c->scratch);
    free(c->list);
    free(c);
}

static void cursor_place(struct lmdb_cursor *c) {
    uint8_t key[8];
    storage_be64(key, c->next);
    page_cursor_seek(&c->cursor, &c->tree, c->tree.root, key, sizeof key);
    c->view_records = 0;
}

void lmdb_cursor_seek(struct log_cursor *cursor, uint64_t first, uint64_t last) {
    struct lmdb_cursor *c = (struct lmdb_cursor *)(void *)cursor;
    uint32_t position = 0;
    while (position + 1 < c->count && c->list[position + 1].first <= first) position++;
    if (position != c->position) cursor_leave(c);
    c->position = position;
    c->next = first;
    c->last = last;
    c->ended = c->count == 0 || first > last ||
               (c->tail && c->tail->is_end && first >= c->tail->first + c->tail->count);
    if (!c->ended && c->next < c->list[position].first) c->next = c->list[position].first;
    if (c->open) {
        if (c->tree.env && page_tree_pin(&c->tree, NULL, 0) != 0) cursor_leave(c);
        else cursor_place(c);
    }
}

struct log_cursor *lmdb_cursor_open(struct log_source *source, uint64_t first, uint64_t last,
                                    bool checked) {
    struct lmdb_source *s = (struct lmdb_source *)(void *)source;
    struct lmdb_cursor *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->list = malloc((s->count + 1) * sizeof *c->list);
    if (!c->list) {
        free(c);
        return NULL;
    }
    if (s->count > 0) memcpy(c->list, s->list, s->count * sizeof *c->list);
    c->base.ops = s->base.ops;
    c->count = s->count;
    c->source = s;
    c->tail = s->tail;
    if (c->tail) atomic_fetch_add(&c->tail->refs, 1);
    c->checked = checked;
    c->tree.fd = -1;
    lmdb_cursor_seek(&c->base, first, last);
    return &c->base;
}

static enum log_step cursor_fault(struct lmdb_cursor *c, struct log_item *item, uint8_t kind,
                                  uint64_t from, uint64_t upto, const char *what) {
    const struct log_source_segment *g = &c->list[c->position];
    *item = (struct log_item){.index = from, .upto = upto, .segment = g->name,
                              .offset = item->offset, .fault = kind};
    snprintf(item->what, sizeof item->what, "%s", what);
    return LOG_FAULT;
}

/* The directory is gone: taken by retention, or never copied? The list of now tells. */
static enum log_step cursor_cannot_open(struct lmdb_cursor *c, struct log_item *item, int code,
                                        const char *error) {
    const struct log_source_segment *g = &c->list[c->position];
    uint64_t from = c->next, upto = g->last < c->last ? g->last : c->last;
    char path[PAGE_TREE_PATH_BYTES_MAX];
    lmdb_source_path(c->source, g, path);
    bool gone = access(path, F_OK) != 0 && errno == ENOENT;
    *item = (struct log_item){.offset = 0};
    cursor_fault(c, item, LOG_FAULT_SEGMENT, from, upto, error);
    item->passing = !gone && page_fault_is_passing(code);
    c->next = upto + 1;
    c->position++;
    return gone ? LOG_DROPPED : LOG_FAULT;
}

/* Behind the end of a segment (or of the part wanted). */
static enum log_step cursor_segment_end(struct lmdb_cursor *c, struct log_item *item) {
    const struct log_source_segment *g = &c->list[c->position];
    uint64_t upto = g->last < c->last ? g->last : c->last, from = c->next;
    bool missing = from <= upto;
    char what[128];
    if (missing) {
        item->offset = 0;
        snprintf(what, sizeof what, "records %" PRIu64 " to %" PRIu64 " are missing: the segment "
                 "ends before them", from, upto);
        cursor_fault(c, item, LOG_FAULT_MISSING, from, upto, what);
        c->next = upto + 1;
    }
    cursor_leave(c);
    c->position++;
    c->ended = c->position >= c->count || c->next > c->last;
    return missing ? LOG_FAULT : LOG_RECORD;
}

/* A copy at an 8-byte boundary, when the record does not lie at one. NULL without memory. */
static const void *cursor_align(struct lmdb_cursor *c, const struct page_row *row) {
    if ((uintptr_t)row->value % 8 == 0) return row->value;
    if (row->value_bytes > c->scratch_bytes) {
        free(c->scratch);
        c->scratch_bytes = (row->value_bytes + 4095) & ~(size_t)4095;
        c->scratch = malloc(c->scratch_bytes);
        if (!c->scratch) {
            c->scratch_bytes = 0;
            return NULL;
        }
    }
    memcpy(c->scratch, row->value, row->value_bytes);
    return c->scratch;
}

static const char *shape_fault(const void *data, uint64_t bytes, uint64_t index) {
    const struct record_header *h = data;
    if (bytes < sizeof *h || bytes - sizeof *h != h->payload_bytes) return "cut short";
    return h->index != index ? "holds another index" : NULL;
}

static enum log_step cursor_record(struct lmdb_cursor *c, const struct page_row *row,
                                   struct log_item *item) {
    uint64_t index = c->next++;
    const void *data = NULL;
    const char *fault = "longer than any record may be";
    bool lacks_memory = false;
    item->offset = row->offset;
    if (row->value_bytes <= sizeof(struct record_header) + LOG_BATCH_BYTES_MAX) {
        data = cursor_align(c, row);
        lacks_memory = !data;
        fault = !data ? "no memory to read it"
                : c->checked ? record_fault(data, row->value_bytes, index)
                             : shape_fault(data, row->value_bytes, index);
    }
    if (fault) {
        char what[160];
        uint64_t says = 0;
        if (data && row->value_bytes >= sizeof(struct record_header)) {
            says = ((const struct record_header *)data)->index;
        }
        snprintf(what, sizeof what, says != index && says != 0 ? "%s (it says %" PRIu64 ")" : "%s",
                 fault, says);
        cursor_fault(c, item, LOG_FAULT_DAMAGED, index, index, what);
        item->passing = lacks_memory;
        return LOG_FAULT;
    }
    item->index = item->upto = index;
    item->segment = c->list[c->position].name;
    item->header = data;
    item->payload = item->header + 1;
    return LOG_RECORD;
}

/* A page is lost: what stood on it shows only by the index that comes next. */
static enum log_step cursor_page_fault(struct lmdb_cursor *c, struct log_item *item) {
    char what[128];
    snprintf(what, sizeof what, "page %" PRIu64 " %s", c->cursor.fault.page, c->cursor.fault.what);
    item->offset = c->cursor.fault.offset;
    return cursor_fault(c, item, LOG_FAULT_PAGE, c->next, c->next, what);
}

/* The row that came next does not have the index that was to come. */
static enum log_step cursor_gap(struct lmdb_cursor *c, const struct page_row *row,
                                struct log_item *item) {
    char what[128];
    item->offset = row->offset;
    if (row->key_bytes != 8) {
        return cursor_fault(c, item, LOG_FAULT_ORDER, c->next, c->next,
                            "a row's key is not an index of 8 bytes");
    }
    uint64_t index = storage_from_be64(row->key), from = c->next;
    if (index < from) {
        snprintf(what, sizeof what, "record %" PRIu64 " stands behind record %" PRIu64, index,
                 from - 1);
        return cursor_fault(c, item, LOG_FAULT_ORDER, index, index, what);
    }
    if (index - 1 == from) snprintf(what, sizeof what, "record %" PRIu64 " is missing", from);
    else snprintf(what, sizeof what, "records %" PRIu64 " to %" PRIu64 " are missing", from,
                  index - 1);
    c->next = index;
    /* The row itself comes with the next step. */
    if (c->cursor.depth > 0) c->cursor.level[c->cursor.depth - 1].slot--;
    return cursor_fault(c, item, LOG_FAULT_MISSING, from, index - 1, what);
}

/* A closed segment is written after all when an install has made it the one in front of a gap that
 * is filled: pages that were read without a view may be used anew. True when that may be why
 * something is not as it should be: then the cursor goes on in what is there now. */
static bool cursor_is_overtaken(struct lmdb_cursor *c) {
    if (c->tree.env || !page_tree_is_overtaken(&c->tree)) return false;
    if (page_tree_pin(&c->tree, NULL, 0) != 0) cursor_leave(c);
    else cursor_place(c);
    return true;
}

static enum log_step cursor_step(struct lmdb_cursor *c, struct log_item *item) {
    struct page_row row;
    uint64_t index = c->next;
    if (c->view_records >= SOURCE_VIEW_RECORDS_MAX ||
        c->tree.touched_bytes >= source_touched_bytes_max) {
        page_tree_forget(&c->tree);
        if (c->tree.env && page_tree_pin(&c->tree, NULL, 0) != 0) cursor_leave(c);
        else if (c->tree.env) cursor_place(c);
        c->view_records = 0;
        if (!c->open) return LOG_RECORD;
    }
    int step = page_cursor_next(&c->cursor, &row);
    bool joins = step == 1 && row.key_bytes == 8 && storage_from_be64(row.key) == index;
    if (!joins && cursor_is_overtaken(c)) return LOG_RECORD;
    if (step == 0) return cursor_segment_end(c, item);
    if (step < 0) return cursor_page_fault(c, item);
    c->view_records++;
    c->tree.touched_bytes += row.value_bytes;
    if (!joins) return cursor_gap(c, &row, item);
    enum log_step met = cursor_record(c, &row, item);
    if (met != LOG_FAULT) return met;
    c->next = index;
    if (cursor_is_overtaken(c)) return LOG_RECORD;
    c->next = index + 1;
    return met;
}

/* True when the record that comes next is in the tail: it was checked when that was read. */
static bool cursor_take_tail(struct lmdb_cursor *c, struct log_item *item) {
    const struct source_tail *t = c->tail;
    if (!t || c->next > c->last || c->next < t->first || c->next >= t->first + t->count)
        return false;
    const struct record *r = t->records[c->next - t->first];
    item->index = item->upto = c->next++;
    item->segment = "journal";
    item->header = &r->header;
    item->payload = r->payload;
    if (c->next < t->first + t->count) return true;
    if (t->is_end) c->ended = true;
    cursor_leave(c);           /* it stands where the tail began */
    return true;
}

enum log_step lmdb_cursor_next(struct log_cursor *cursor, struct log_item *item) {
    struct lmdb_cursor *c = (struct lmdb_cursor *)(void *)cursor;
    char error[160];
    for (;;) {
        item->header = NULL;
        item->offset = 0;
        if (cursor_take_tail(c, item)) return LOG_RECORD;
        if (c->ended || c->next > c->last || c->position >= c->count) return LOG_END;
        if (!c->open) {
            const struct log_source_segment *g = &c->list[c->position];
            if (c->next < g->first) c->next = g->first;
            if (c->next > c->last) return LOG_END;
            if (lmdb_source_open_tree(c->source, g, &c->tree, true, error, sizeof error) != 0) {
                return cursor_cannot_open(c, item, errno, error);
            }
            c->open = true;
            cursor_place(c);
        }
        enum log_step step = cursor_step(c, item);
        if (step != LOG_RECORD || item->header) return step;
    }
}

/* -- times ---------------------------------------------------------------------------------- */

/* Time of the first entry at or behind `index` in a segment; INT64_MAX = none. */
static int64_t tree_time_from(struct page_tree *tree, uint64_t index, uint64_t upto) {
    struct page_cursor c;
    struct page_row row;
    uint8_t key[8];
    storage_be64(key, index);
    page_cursor_seek(&c, tree, tree->root, key, sizeof key);
    for (;;) {
        int step = page_cursor_next(&c, &row);
        if (step == 0) return INT64_MAX;
        if (step < 0) continue;
        if (row.key_bytes == 8 && storage_from_be64(row.key) > upto) return INT64_MAX;
        int64_t time_ms = lmdb_source_row_time(&row);
        if (time_ms != 0) return time_ms;
    }
}

/* The newest record of the tail whose entry is not younger; 0 = it has none. */
static uint64_t tail_index_at(const struct source_tail *t, int64_t time_ms) {
    for (uint64_t i = t ? t->count : 0; i > 0; i--) {
        const struct record *r = t->records[i - 1];
        struct entry_header entry;
        if (r->header.type != RECORD_EVENTS || r->header.payload_bytes < sizeof entry) continue;
        memcpy(&entry, r->payload, sizeof entry);
        if (entry.time_ms <= time_ms) return r->header.index;
    }
    return 0;
}

static uint64_t segments_index_at(struct lmdb_source *s, int64_t time_ms) {
    uint32_t i = s->count;
    while (i > 0 && (s->list[i - 1].first_ms == 0 || s->list[i - 1].first_ms > time_ms)) i--;
    if (i == 0) return 0;
    const struct log_source_segment *g = &s->list[i - 1];
    struct page_tree tree;
    uint64_t low = g->first, high = g->last; /* the answer lies in [first - 1, last] */
    if (lmdb_source_open_tree(s, g, &tree, false, NULL, 0) != 0) return g->first - 1;
    while (low <= high && high >= g->first) {
        uint64_t middle = low + (high - low) / 2;
        if (tree_time_from(&tree, middle, g->last) <= time_ms) low = middle + 1;
        else high = middle - 1;
    }
    page_tree_close(&tree);
    return low - 1;
}

uint64_t lmdb_source_index_at(struct log_source *source, int64_t time_ms) {
    struct lmdb_source *s = (struct lmdb_source *)(void *)source;
    uint64_t in_tail = tail_index_at(s->tail, time_ms);
    if (in_tail != 0) return in_tail;
    uint64_t index = segments_index_at(s, time_ms);
    return s->tail && index >= s->tail->first ? s->tail->first - 1 : index;
}

