/* WATCH: what changed of a topic since a token, each order once and as it is now. The answer's
 * tokens are those to go on with: rows up to them are all there, and none behind. Orders that one
 * entry changed are never torn apart, because a token cannot tell them apart. */
#include <stdlib.h>

#include "engine/base/ulid.h"
#include "engine/replica/answer_internal.h"

enum { WATCH_CUSTOMER_ORDERS_MAX = 100000 }; /* of one customer that are looked through */

/* A changed order. */
struct change { uint32_t shard; uint64_t index; struct id128 key; };

struct watching {
    struct answering *a;
    const struct query *query;
    uint64_t since[SHARDS_MAX];    /* by place in positions: in, and out */
    struct change *changes;
    uint32_t count, capacity;
    bool cut[SHARDS_MAX];          /* by place: there is more of the shard than is told */
    bool failed;                   /* no memory, or the disk */
};

static bool add_change(struct watching *k, uint32_t shard, uint64_t index,
                       const struct id128 *key) {
    if (k->count == k->capacity) {
        uint32_t capacity = k->capacity ? k->capacity * 2 : 64;
        struct change *changes = realloc(k->changes, capacity * sizeof *changes);
        if (!changes) {
            k->failed = true;
            return false;
        }
        k->changes = changes;
        k->capacity = capacity;
    }
    k->changes[k->count++] = (struct change){shard, index, *key};
    return true;
}

/* -- the three kinds of topics ----------------------------------------------------------------- */

/* One shard's changes of a store: those behind the token, up to the limit and then to the end of
 * the entry. */
static void store_shard(struct watching *k, struct view_cursor *cursor, struct bytes store,
                        uint32_t place) {
    const struct view_position *p = &k->a->positions[place];
    uint8_t prefix[VIEW_KEY_BYTES_MAX], seek[VIEW_KEY_BYTES_MAX];
    uint8_t *end = view_put_u32(view_put_text(prefix, store), p->shard);
    uint32_t prefix_bytes = (uint32_t)(end - prefix), first = k->count;
    memcpy(seek, prefix, prefix_bytes);
    view_put_u64(seek + prefix_bytes, k->since[place] + 1);
    bool more = view_cursor_seek(cursor, seek, prefix_bytes + 8);
    for (; more; more = view_cursor_next(cursor)) {
        struct bytes key = cursor->key;
        struct id128 id;
        if (key.size != prefix_bytes + 24 || memcmp(key.data, prefix, prefix_bytes) != 0) break;
        const uint8_t *at = (const uint8_t *)key.data + prefix_bytes;
        uint64_t index = view_get_u64(at);
        if (k->count - first > k->query->limit && index != k->changes[k->count - 1].index) {
            k->cut[place] = true;
            break;
        }
        memcpy(id.bytes, at + 8, 16);
        if (!add_change(k, p->shard, index, &id)) break;
    }
}

static int walk_store(struct watching *k, struct bytes store) {
    struct view_cursor cursor;
    const struct overlay_group group = {.by = OVERLAY_OF, .chain = OVERLAY_STORE, .text = store};
    int rc = view_cursor_open(&cursor, k->a->source->store, &k->a->read, VIEW_CHANGES, &group);
    if (rc != 0) return rc;
    for (uint32_t i = 0; i < k->a->positions_count; i++) store_shard(k, &cursor, store, i);
    view_cursor_close(&cursor);
    return 0;
}

static void take_if_changed(struct watching *k, const struct id128 *key) {
    uint32_t shard;
    const struct actor *order = answering_order(k->a, key, &shard);
    if (!order) return;
    int place = answering_place(k->a, shard);
    if (place < 0 || order->last_index <= k->since[place]) return;
    add_change(k, shard, order->last_index, key);
}

static int by_position(const void *a, const void *b) {
    const struct change *x = a, *y = b;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int walk_customer(struct watching *k, struct bytes customer) {
    uint8_t prefix[VIEW_KEY_BYTES_MAX];
    uint32_t prefix_bytes = (uint32_t)(view_put_text(prefix, customer) - prefix), seen = 0;
    struct view_cursor cursor;
    const struct overlay_group group = {
        .by = OVERLAY_OF, .chain = OVERLAY_CUSTOMER, .text = customer};
    int rc = view_cursor_open(&cursor, k->a->source->store, &k->a->read, VIEW_BY_CUSTOMER, &group);
    if (rc != 0) return rc;
    bool more = view_cursor_seek(&cursor, prefix, prefix_bytes);
    for (; more && seen < WATCH_CUSTOMER_ORDERS_MAX; seen++) {
        struct bytes key = cursor.key;
        struct id128 id;
        if (key.size != prefix_bytes + 24 || memcmp(key.data, prefix, prefix_bytes) != 0) break;
        memcpy(id.bytes, (const uint8_t *)key.data + prefix_bytes + 8, 16);
        take_if_changed(k, &id);
        more = view_cursor_next(&cursor);
    }
    view_cursor_close(&cursor);
    if (k->count > 1) qsort(k->changes, k->count, sizeof *k->changes, by_position);
    return 0;
}

/* -- the answer -------------------------------------------------------------------------------- */

/* Writes rows while there are changes, room and limit; whole entries only. Returns their number.
 * The tokens of a shard that is cut end with its last row. */
static uint32_t write_rows(struct watching *k) {
    struct answering *a = k->a;
    size_t tokens_bytes = ((size_t)a->positions_count + k->query->since_count) * 20 + 64;
    uint32_t rows = 0, at = 0;
    while (at < k->count) {
        const struct change *first = &k->changes[at];
        size_t mark = msgpack_writer_size(&a->w);
        uint32_t end = at, shard;
        for (; end < k->count && by_position(&k->changes[end], first) == 0; end++)
            answering_row(a, k->query, answering_order(a, &k->changes[end].key, &shard));
        bool fits = msgpack_writer_ok(&a->w) && (size_t)(a->w.end - a->w.at) > tokens_bytes &&
                    (rows < k->query->limit || rows == 0) && rows + (end - at) <= UINT16_MAX;
        int place = answering_place(a, first->shard);
        if (!fits) {
            if (rows > 0) msgpack_writer_rewind(&a->w, mark);
            else a->w.overflow = true;
            return rows;
        }
        k->since[place] = first->index;
        rows += end - at;
        at = end;
    }
    return rows;
}

static void since_of(struct watching *k) {
    const struct query *q = k->query;
    for (uint32_t i = 0; i < k->a->positions_count; i++) {
        k->since[i] = q->has_since ? 0 : k->a->positions[i].index;
        for (uint32_t t = 0; t < q->since_count; t++) {
            if (q->since[t].shard == k->a->positions[i].shard) k->since[i] = q->since[t].index;
        }
    }
}

static void write_token(struct answering *a, uint32_t shard, uint64_t index) {
    msgpack_write_array(&a->w, 2);
    msgpack_write_uint(&a->w, shard);
    msgpack_write_uint(&a->w, index);
}

/* Whether it is to be handed on as it came: of a shard that exists, and that is not known here. */
static bool is_elsewhere(const struct watching *k, uint32_t at) {
    const struct query_token *since = k->query->since;
    bool first = since[at].shard < SHARDS_MAX && answering_place(k->a, since[at].shard) < 0;
    for (uint32_t i = 0; i < at && first; i++) first = since[i].shard != since[at].shard;
    return first;
}

static void write_answer(struct watching *k) {
    struct answering *a = k->a;
    bool complete = true;
    uint64_t asked[SHARDS_MAX];
    memcpy(asked, k->since, sizeof asked);
    answering_head(a, 0, 0, 0, false, 0);
    msgpack_write_array(&a->w, 3);
    size_t head = msgpack_writer_size(&a->w);
    msgpack_writer_tagged_(&a->w, 0xdc, 0, 2);
    uint32_t rows = write_rows(k);
    if (!msgpack_writer_ok(&a->w)) return;
    a->w.start[head + 1] = (uint8_t)(rows >> 8);
    a->w.start[head + 2] = (uint8_t)rows;
    for (uint32_t i = rows; i < k->count; i++) {
        int place = answering_place(a, k->changes[i].shard);
        if (place >= 0) k->cut[place] = true;
    }
    uint32_t tokens = a->positions_count;
    for (uint32_t i = 0; i < k->query->since_count; i++) tokens += is_elsewhere(k, i);
    msgpack_write_array(&a->w, tokens);
    for (uint32_t i = 0; i < a->positions_count; i++) {
        /* Never behind what was asked: another replica may have been further on. */
        uint64_t index = k->cut[i] ? k->since[i] : a->positions[i].index;
        complete = complete && !k->cut[i];
        if (index < asked[i]) index = asked[i];
        write_token(a, a->positions[i].shard, index);
    }
    for (uint32_t i = 0; i < k->query->since_count; i++) {
        if (is_elsewhere(k, i))
            write_token(a, k->query->since[i].shard, k->query->since[i].index);
    }
    msgpack_write_bool(&a->w, complete);
    if (!k->query->has_since) return;
    a->watched = true;
    if (rows > 0) a->changed = true;
}

void answer_watch(struct answering *a, const struct query *q) {
    struct watching k = {.a = a, .query = q};
    const char *topic = q->subject.data;
    struct id128 key;
    int rc = 0;
    since_of(&k);
    if (q->subject.size > 6 && memcmp(topic, "store/", 6) == 0) {
        rc = walk_store(&k, bytes_of(topic + 6, q->subject.size - 6));
    } else if (q->subject.size > 9 && memcmp(topic, "customer/", 9) == 0) {
        rc = walk_customer(&k, bytes_of(topic + 9, q->subject.size - 9));
    } else if (q->subject.size == 6 + ULID_TEXT_SIZE && memcmp(topic, "order/", 6) == 0 &&
               ulid_parse(topic + 6, ULID_TEXT_SIZE, &key)) {
        take_if_changed(&k, &key);
    } else {
        answering_refuse_as(a, RESULT_MALFORMED_COMMAND, 0, 0, 0,
                            "a topic is \"order/<26 characters>\", \"store/<id>\" or "
                            "\"customer/<id>\"");
        return;
    }
    if (rc != 0) answering_unready(a, rc);
    else if (k.failed) answering_refuse(a, RESULT_OUT_OF_MEMORY, 0, 0, 50);
    else write_answer(&k);
    free(k.changes);
}
