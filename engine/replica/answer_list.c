/* Lists: the rows of an index between two keys, a page at a time. The cursor of a page is the key
 * of its last row: it names a place, not a row, so it is good at any replica and at any time. */
#include "engine/replica/answer_internal.h"

/* A stretch of one index: keys that begin with the prefix, from `from` on, before `before`. */
struct stretch {
    uint8_t prefix[VIEW_KEY_BYTES_MAX], from[VIEW_KEY_BYTES_MAX], before[VIEW_KEY_BYTES_MAX];
    uint32_t prefix_bytes, from_bytes, before_bytes; /* 0 = from the prefix on; no end */
};

struct page {
    struct answering *a;
    const struct query *query;
    uint32_t rows;
    bool more;
    uint8_t last[VIEW_KEY_BYTES_MAX];
    uint32_t last_bytes;
};

static int compare(struct bytes a, const uint8_t *b, uint32_t b_bytes) {
    int rc = memcmp(a.data, b, a.size < b_bytes ? a.size : b_bytes);
    if (rc != 0) return rc;
    return a.size < b_bytes ? -1 : a.size > b_bytes;
}

/* False: the page is full. */
static bool page_add(struct page *p, struct bytes key) {
    struct answering *a = p->a;
    struct id128 id;
    uint32_t shard;
    if (p->rows == p->query->limit) {
        p->more = true;
        return false;
    }
    memcpy(id.bytes, (const uint8_t *)key.data + key.size - 16, 16);
    const struct actor *order = answering_order(a, &id, &shard);
    if (!order) return true;
    size_t mark = msgpack_writer_size(&a->w);
    answering_row(a, p->query, order);
    /* Room for the cursor as well. */
    bool fits = msgpack_writer_ok(&a->w) &&
                (size_t)(a->w.end - a->w.at) >= VIEW_KEY_BYTES_MAX + MSGPACK_HEADER_BYTES_MAX;
    if (!fits) {
        if (p->rows > 0) msgpack_writer_rewind(&a->w, mark);
        else a->w.overflow = true;
        p->more = true;
        return false;
    }
    p->rows++;
    memcpy(p->last, key.data, key.size);
    p->last_bytes = key.size;
    return true;
}

/* False: the page is full, or ended by a fault of the disk. */
static bool page_walk(struct page *p, struct view_cursor *cursor, const struct stretch *s) {
    struct bytes after = p->query->cursor;
    struct bytes from = s->from_bytes ? bytes_of(s->from, s->from_bytes)
                                      : bytes_of(s->prefix, s->prefix_bytes);
    bool resumed = after.size != 0 && compare(from, after.data, after.size) <= 0;
    if (resumed) from = after;
    bool more = view_cursor_seek(cursor, from.data, from.size);
    if (more && resumed && compare(cursor->key, after.data, after.size) == 0)
        more = view_cursor_next(cursor);
    for (; more; more = view_cursor_next(cursor)) {
        if (cursor->key.size < s->prefix_bytes + 16) break;
        if (memcmp(cursor->key.data, s->prefix, s->prefix_bytes) != 0) break;
        if (s->before_bytes && compare(cursor->key, s->before, s->before_bytes) >= 0) break;
        if (!page_add(p, cursor->key)) return false;
    }
    return true;
}

/* Whether a cursor came from such a query: it lies where the rows do. */
static bool cursor_fits(const struct query *q, const struct stretch *s, uint32_t states) {
    uint32_t prefix = s->prefix_bytes - (states ? 1 : 0);
    return q->cursor.size == 0 || (q->cursor.size >= prefix + 16 &&
                                   memcmp(q->cursor.data, s->prefix, prefix) == 0);
}

static uint32_t put_text(uint8_t *out, struct bytes text) {
    return (uint32_t)(view_put_text(out, text) - out);
}

static uint32_t put_time(uint8_t *out, const struct stretch *s, int64_t ms) {
    memcpy(out, s->prefix, s->prefix_bytes);
    return (uint32_t)(view_put_u64(out + s->prefix_bytes, (uint64_t)ms) - out);
}

/* The query's index, stretch and group. For a board the last byte of the prefix is the state. */
static enum view_number stretch_of(const struct query *q, struct stretch *s,
                                   struct overlay_group *group) {
    s->from_bytes = s->before_bytes = 0;
    *group = (struct overlay_group){.by = OVERLAY_OF, .text = q->subject};
    switch (q->kind) {
    case QUERY_BY_REF:
        s->prefix_bytes = put_text(s->prefix, q->subject);
        group->chain = OVERLAY_REF;
        return VIEW_BY_REF;
    case QUERY_CUSTOMER_ORDERS:
        s->prefix_bytes = put_text(s->prefix, q->subject);
        group->chain = OVERLAY_CUSTOMER;
        return VIEW_BY_CUSTOMER;
    case QUERY_STORE_BOARD:
        s->prefix_bytes = put_text(s->prefix, q->subject) + 1;
        group->chain = OVERLAY_STORE;
        return VIEW_BOARD;
    default: break;
    }
    *group = (struct overlay_group){.by = OVERLAY_IN_STATE, .state = q->state};
    s->prefix[0] = q->state;
    s->prefix_bytes = 1;
    if (q->from_ms > 0) s->from_bytes = put_time(s->from, s, q->from_ms);
    if (q->to_ms < INT64_MAX) s->before_bytes = put_time(s->before, s, q->to_ms < 0 ? 0 : q->to_ms);
    return VIEW_BY_STATE;
}

static void walk_all(struct page *p, struct view_cursor *cursor, struct stretch *s, bool by_state) {
    if (!by_state) {
        page_walk(p, cursor, s);
        return;
    }
    for (uint8_t state = 1; state < 16; state++) {
        if (p->query->states && !(p->query->states >> state & 1)) continue;
        s->prefix[s->prefix_bytes - 1] = state;
        if (p->query->cursor.size != 0 &&
            ((const uint8_t *)p->query->cursor.data)[s->prefix_bytes - 1] > state)
            continue;
        if (!page_walk(p, cursor, s)) return;
    }
}

void answer_list(struct answering *a, const struct query *q) {
    struct stretch s;
    struct page page = {.a = a, .query = q};
    struct view_cursor cursor;
    struct overlay_group group;
    bool by_state = q->kind == QUERY_STORE_BOARD;
    enum view_number view = stretch_of(q, &s, &group);
    if (!cursor_fits(q, &s, by_state)) {
        answering_refuse(a, RESULT_CURSOR_INVALID, 0, 0, 0);
        return;
    }
    int rc = view_cursor_open(&cursor, a->source->store, &a->read, view, &group);
    if (rc != 0) {
        answering_unready(a, rc);
        return;
    }
    size_t start = msgpack_writer_size(&a->w);
    answering_head(a, 0, 0, 0, true, 0);
    size_t head = msgpack_writer_size(&a->w);
    msgpack_writer_tagged_(&a->w, 0xdc, 0, 2);
    walk_all(&page, &cursor, &s, by_state);
    view_cursor_close(&cursor);
    if (!msgpack_writer_ok(&a->w)) return;
    a->w.start[head + 1] = (uint8_t)(page.rows >> 8);
    a->w.start[head + 2] = (uint8_t)page.rows;
    if (page.more) msgpack_write_bin(&a->w, page.last, page.last_bytes);
    else a->w.start[start] = 0x96; /* no cursor */
}
