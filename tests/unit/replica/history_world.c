#include "tests/unit/replica/history_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "actors/order/order_event.h"

enum { BLOCK_ROOM = 16384, ENTRY_ROOM = 1 << 20, STORES = 5, CUSTOMERS = 7 };

static const int64_t start_ms = 1767225600000;
static const char *const currencies[] = {"KRW", "EUR"};

uint32_t history_random(struct history *h, uint32_t below) {
    uint64_t z = (h->random += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)((z ^ z >> 31) % below);
}

void history_init(struct history *h, uint64_t seed) {
    *h = (struct history){.random = seed, .now_ms = start_ms};
    h->entry = aligned_alloc(8, ENTRY_ROOM);
    assert_non_null(h->entry);
}

void history_fini(struct history *h) {
    for (uint32_t i = 0; i < h->orders_count; i++) free(h->orders[i].block);
    for (int s = 0; s < HISTORY_SHARDS; s++) {
        free(h->logs[s].bytes);
        free(h->logs[s].offsets);
    }
    free(h->orders);
    free(h->entry);
}

/* -- commands --------------------------------------------------------------------------------- */

static struct bytes name_of(char *out, const char *kind, uint32_t number) {
    return bytes_of(out, (size_t)snprintf(out, 24, "%s-%u", kind, number));
}

static struct history_order *order_new(struct history *h, uint32_t shard) {
    if (h->orders_count == h->orders_room) {
        h->orders_room = h->orders_room ? h->orders_room * 2 : 64;
        h->orders = realloc(h->orders, h->orders_room * sizeof *h->orders);
        assert_non_null(h->orders);
    }
    struct history_order *o = &h->orders[h->orders_count++];
    *o = (struct history_order){.shard = shard};
    for (int i = 0; i < 6; i++) o->key.bytes[i] = (uint8_t)(h->now_ms >> (40 - 8 * i));
    for (int i = 6; i < 16; i++) o->key.bytes[i] = (uint8_t)history_random(h, 256);
    return o;
}

static void fill_place(struct history *h, struct command *c, struct order_line *line,
                       char texts[4][24]) {
    uint32_t number = history_random(h, 1000);
    *line = (struct order_line){.sku = bytes_of_text("sku"), .quantity = 1 + number % 3,
                                .unit_price = 100 + number};
    c->place = (struct command_place){
        .fulfilment = (uint8_t)(1 + history_random(h, 4)),
        .payment_timing = (uint8_t)(1 + history_random(h, 2)),
        .store = name_of(texts[0], "store", history_random(h, STORES)),
        .lines = line,
        .lines_count = 1,
        .fees = 30,
        .discounts = 10,
        .total = line->quantity * line->unit_price + 20};
    if (history_random(h, 5) == 0) { /* nothing to pay: paid as soon as it is placed */
        c->place.discounts = line->quantity * line->unit_price + c->place.fees;
        c->place.total = 0;
    }
    memcpy(c->place.currency, currencies[history_random(h, 2)], 4);
    if (history_random(h, 4) != 0)
        c->place.customer = name_of(texts[1], "customer", history_random(h, CUSTOMERS));
    if (history_random(h, 3) != 0)
        c->place.external_ref = name_of(texts[2], "ref", history_random(h, 40));
}

static struct command command_of(struct history *h, const struct history_order *o,
                                 struct order_line *line, char texts[4][24]) {
    static const uint8_t kinds[] = {1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8, 8, 9, 9, 10, 11, 12, 13, 14,
                                    COMMAND_TIMER_DUE};
    struct command c = {.kind = kinds[history_random(h, sizeof kinds)], .subject = o->key};
    uint64_t id = ++h->ids;
    memcpy(c.id.bytes, &id, sizeof id);
    switch (c.kind) {
    case COMMAND_PLACE: fill_place(h, &c, line, texts); break;
    case COMMAND_PAY:
        c.pay = (struct command_pay){(uint8_t)(1 + history_random(h, 3)), bytes_of_text("card"),
                                     name_of(texts[3], "pay", history_random(h, 3)),
                                     100 + history_random(h, 3000)};
        break;
    case COMMAND_ACCEPT: c.accept.preparation_minutes = history_random(h, 30); break;
    case COMMAND_ASSIGN_RIDER: c.assign_rider.rider = bytes_of_text("rider"); break;
    case COMMAND_CANCEL: c.cancel.by = PARTY_CUSTOMER; break;
    case COMMAND_REFUND: c.refund.amount = history_random(h, 200); break;
    case COMMAND_AMEND:
        *line = (struct order_line){.sku = bytes_of_text("other"), .quantity = 2,
                                    .unit_price = 50};
        c.amend = (struct command_amend){line, 1, 0, history_random(h, 2) ? 100 : 0, 0};
        c.amend.total = 100 - c.amend.discounts;
        break;
    case COMMAND_ANNOTATE: c.annotate.note = bytes_of_text("a note"); break;
    case COMMAND_TIMER_DUE: memset(&c.id, 0, sizeof c.id); break;
    default: break;
    }
    return c;
}

/* Applies what was decided, as a shard does: state_before is the runner's to set. */
static void apply_events(struct history_order *o, uint8_t *events, uint32_t size, uint64_t index,
                         int64_t time_ms) {
    const struct apply_context context = {index, time_ms};
    for (uint32_t at = 0; at < size;) {
        struct event *e = (struct event *)(void *)(events + at);
        if (!o->block) o->block = calloc(1, BLOCK_ROOM);
        assert_non_null(o->block);
        assert_true(order_bytes_after(o->block->version ? o->block : NULL, e) <= BLOCK_ROOM);
        e->state_before = o->block->version ? o->block->state : 0;
        order_apply(o->block, e, &context);
        at += e->bytes;
    }
}

static void do_command(struct history *h, struct history_order *o, struct event_sink *sink,
                       uint64_t index) {
    struct order_line line;
    char texts[4][24];
    const struct actor *before = o->block && o->block->version ? o->block : NULL;
    if (before && before->flags & ACTOR_RETIRED) return;
    if (before && before->bytes > BLOCK_ROOM / 2) return;
    struct command c = command_of(h, o, &line, texts);
    const struct decide_context context = {.index = index, .now_ms = h->now_ms};
    uint32_t mark = sink->size;
    struct decision d = order_decide(before, &c, &context, sink);
    apply_events(o, sink->data + mark, sink->size - mark, index, h->now_ms);
    while (d.code == RESULT_OK && c.kind == COMMAND_PLACE && order_held_count(o->block) > 0) {
        struct command resolve = {.kind = COMMAND_RESOLVE_HELD, .subject = o->key};
        mark = sink->size;
        order_decide(o->block, &resolve, &context, sink);
        apply_events(o, sink->data + mark, sink->size - mark, index, h->now_ms);
    }
}

/* -- records ---------------------------------------------------------------------------------- */

static void add_record(struct history_log *log, uint16_t type, const void *payload,
                       uint32_t bytes) {
    size_t padded = (sizeof(struct record_header) + bytes + 7) & ~(size_t)7;
    if (log->used + padded > log->room) {
        log->room = (log->used + padded) * 2;
        log->bytes = realloc(log->bytes, log->room);
        assert_non_null(log->bytes);
    }
    if (log->last + 2 > log->offsets_room) {
        log->offsets_room = (log->last + 2) * 2;
        log->offsets = realloc(log->offsets, log->offsets_room * sizeof *log->offsets);
        assert_non_null(log->offsets);
    }
    struct record_header *r = (struct record_header *)(void *)(log->bytes + log->used);
    memset(r, 0, padded);
    *r = (struct record_header){.index = log->last + 1, .term = 1, .payload_bytes = bytes,
                                .type = type, .format = RECORD_FORMAT};
    if (bytes != 0) memcpy(r + 1, payload, bytes);
    record_seal(r, r + 1);
    log->offsets[log->last++] = log->used;
    log->used += padded;
    log->offsets[log->last] = log->used;
}

static void add_entry(struct history *h, uint32_t shard) {
    struct history_log *log = &h->logs[shard];
    struct entry_header *head = (struct entry_header *)(void *)h->entry;
    struct event_sink sink = {.data = h->entry + sizeof *head, .capacity = ENTRY_ROOM - 64};
    uint32_t commands = 1 + history_random(h, 12);
    for (uint32_t i = 0; i < commands && sink.size < ENTRY_ROOM / 2; i++) {
        struct history_order *o = NULL;
        for (int tries = 0; tries < 8 && h->orders_count > 0 && !o; tries++) {
            o = &h->orders[history_random(h, h->orders_count)];
            if (o->shard != shard) o = NULL;
        }
        if (!o || history_random(h, 6) == 0) o = order_new(h, shard);
        do_command(h, o, &sink, log->last + 1);
    }
    *head = (struct entry_header){h->now_ms, shard, sink.events_count};
    add_record(log, RECORD_EVENTS, h->entry, (uint32_t)sizeof *head + sink.size);
}

void history_grow(struct history *h, uint32_t entries) {
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t shard = history_random(h, HISTORY_SHARDS);
        h->now_ms += history_random(h, 20) == 0 ? history_random(h, 86400000)
                                                : history_random(h, 30000);
        if (history_random(h, 200) == 0) h->now_ms += 31ll * 86400000;
        if (history_random(h, 15) == 0) add_record(&h->logs[shard], RECORD_BARRIER, "abc", 3);
        else add_entry(h, shard);
    }
}

const void *history_records(const struct history *h, uint32_t shard, uint64_t first, uint64_t last,
                            size_t *bytes) {
    const struct history_log *log = &h->logs[shard];
    assert_true(first >= 1 && first <= last && last <= log->last);
    *bytes = log->offsets[last] - log->offsets[first - 1];
    return log->bytes + log->offsets[first - 1];
}

struct record *history_appendable(const struct history *h, uint32_t shard, uint64_t last) {
    struct record *first = NULL, **at = &first;
    for (uint64_t i = 1; i <= last; i++) {
        size_t bytes;
        const struct record_header *header = history_records(h, shard, i, i, &bytes);
        struct record *r = record_new(header->payload_bytes);
        assert_non_null(r);
        r->header = *header;
        memcpy(r->payload, header + 1, header->payload_bytes);
        *at = r;
        at = &r->next;
    }
    return first;
}

/* -- the plainest fold ------------------------------------------------------------------------- */

struct plain_order { struct id128 key; uint32_t shard; struct actor *block; };
struct plain_row { uint8_t key[128]; uint32_t bytes; int64_t numbers[VIEW_NUMBERS]; };
struct plain_rows { struct plain_row *rows; uint32_t count, room; };
struct plain {
    struct plain_order *orders;
    uint32_t count;
    struct plain_rows sums;
};

static struct plain_row *add_row(struct plain_rows *r, const uint8_t *key, uint32_t bytes) {
    if (r->count == r->room) {
        r->room = r->room ? r->room * 2 : 256;
        r->rows = realloc(r->rows, r->room * sizeof *r->rows);
        assert_non_null(r->rows);
    }
    struct plain_row *row = &r->rows[r->count++];
    *row = (struct plain_row){.bytes = bytes};
    memcpy(row->key, key, bytes);
    return row;
}

static void add_numbers(struct plain_rows *sums, uint8_t grain, uint32_t bucket, struct bytes store,
                        uint8_t state, const char *currency, const int64_t numbers[4]) {
    uint8_t key[128] = {grain, (uint8_t)(bucket >> 24), (uint8_t)(bucket >> 16),
                        (uint8_t)(bucket >> 8), (uint8_t)bucket, (uint8_t)store.size};
    uint32_t at = 6;
    if (store.size) memcpy(key + at, store.data, store.size);
    at += store.size;
    key[at++] = state;
    memcpy(key + at, currency, 3);
    at += 3;
    struct plain_row *row = NULL;
    for (uint32_t i = 0; i < sums->count && !row; i++) {
        if (sums->rows[i].bytes == at && memcmp(sums->rows[i].key, key, at) == 0)
            row = &sums->rows[i];
    }
    if (!row) row = add_row(sums, key, at);
    for (int i = 0; i < 4; i++) row->numbers[i] += numbers[i];
}

/* Minute and day, the store and all of them. */
static void add_everywhere(struct plain *p, const struct order_view *v, uint8_t state,
                           int64_t time_ms, const int64_t numbers[4]) {
    if (v->store.size == 0) return;
    for (int all = 0; all < 2; all++) {
        struct bytes store = all ? bytes_of("", 0) : v->store;
        add_numbers(&p->sums, 1, (uint32_t)(time_ms / 60000), store, state, v->currency, numbers);
        add_numbers(&p->sums, 2, (uint32_t)(time_ms / 86400000), store, state, v->currency,
                    numbers);
    }
}

static void plain_event(struct plain *p, const struct event *e, uint32_t shard, uint64_t index,
                        int64_t time_ms) {
    struct plain_order *o = NULL;
    for (uint32_t i = 0; i < p->count && !o; i++) {
        if (id128_equal(&p->orders[i].key, &e->subject)) o = &p->orders[i];
    }
    if (!o) {
        o = &p->orders[p->count++];
        *o = (struct plain_order){e->subject, shard, calloc(1, BLOCK_ROOM)};
        assert_non_null(o->block);
    }
    struct order_view before = {0}, v;
    const struct apply_context context = {index, time_ms};
    if (o->block->version) order_view(o->block, &before);
    order_apply(o->block, e, &context);
    order_view(o->block, &v);
    bool placing = e->kind == EVENT_ORDER_PLACED;
    bool entered = e->state_before != e->state_after && e->state_after != ORDER_PLACED;
    if (placing) add_everywhere(p, &v, ORDER_PLACED, time_ms, (int64_t[4]){1, v.total, 0, 0});
    const int64_t numbers[4] = {entered, entered ? v.total : 0, v.captured - before.captured,
                                v.refunded - before.refunded};
    if (entered || numbers[2] != 0 || numbers[3] != 0)
        add_everywhere(p, &v, e->state_after, time_ms, numbers);
}

static void plain_fold(const struct history *h, const uint64_t *positions, struct plain *p) {
    *p = (struct plain){.orders = calloc(h->orders_count + 1, sizeof *p->orders)};
    assert_non_null(p->orders);
    for (uint32_t s = 0; s < HISTORY_SHARDS; s++) {
        for (uint64_t i = 1; i <= positions[s]; i++) {
            size_t bytes;
            const struct record_header *r = history_records(h, s, i, i, &bytes);
            if (r->type != RECORD_EVENTS) continue;
            const struct entry_header *entry = (const void *)(r + 1);
            uint32_t offset = 0, size = r->payload_bytes - (uint32_t)sizeof *entry;
            const struct event *e;
            while ((e = event_next(entry + 1, size, &offset)))
                plain_event(p, e, s, r->index, entry->time_ms);
        }
    }
}

static uint32_t big(uint8_t *at, uint64_t v, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) at[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
    return bytes;
}

/* The row of a view for an order, by the words of docs/replicas.md. 0 = none. */
static uint32_t plain_key(int view, const struct plain_order *o, uint8_t *key) {
    struct order_view v;
    uint32_t at = 0;
    order_view(o->block, &v);
    struct bytes text = view == VIEW_BY_REF        ? v.external_ref
                        : view == VIEW_BY_CUSTOMER ? v.customer
                                                   : v.store;
    bool open = v.state >= ORDER_PLACED && v.state <= ORDER_DELIVERED;
    if (v.fulfilment == 0 || o->block->flags & ACTOR_RETIRED) return 0;
    if (view != VIEW_BY_STATE && text.size == 0) return 0;
    if (view == VIEW_BOARD && !open) return 0;
    if (view != VIEW_BY_STATE) {
        key[at++] = (uint8_t)text.size;
        memcpy(key + at, text.data, text.size);
        at += text.size;
    }
    if (view == VIEW_BOARD || view == VIEW_BY_STATE) key[at++] = v.state;
    if (view == VIEW_BOARD || view == VIEW_BY_STATE) at += big(key + at, (uint64_t)v.placed_ms, 8);
    if (view == VIEW_BY_CUSTOMER) at += big(key + at, ~(uint64_t)v.placed_ms, 8);
    if (view == VIEW_CHANGES) at += big(key + at, o->shard, 4);
    if (view == VIEW_CHANGES) at += big(key + at, v.last_index, 8);
    memcpy(key + at, v.key.bytes, 16);
    return at + 16;
}

static int by_key(const void *a, const void *b) {
    const struct plain_row *x = a, *y = b;
    uint32_t size = x->bytes < y->bytes ? x->bytes : y->bytes;
    int rc = memcmp(x->key, y->key, size);
    return rc ? rc : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* By state, state by state, from the middle of each as well, as lists ask for them. */
static void check_states(struct view_store *store, const struct view_read *read,
                         const struct plain_rows *r) {
    for (uint8_t state = 1; state < 16; state++) {
        const struct overlay_group group = {.by = OVERLAY_IN_STATE, .state = state};
        struct view_cursor cursor;
        uint32_t first = 0, end;
        while (first < r->count && r->rows[first].key[0] < state) first++;
        for (end = first; end < r->count && r->rows[end].key[0] == state;) end++;
        assert_int_equal(view_cursor_open(&cursor, store, read, VIEW_BY_STATE, &group), 0);
        for (uint32_t from = first, step = 1; from < end; from += step, step *= 2) {
            bool more = view_cursor_seek(&cursor, r->rows[from].key, r->rows[from].bytes);
            for (uint32_t i = from; i < end; i++, more = view_cursor_next(&cursor)) {
                assert_true(more);
                assert_int_equal(cursor.key.size, r->rows[i].bytes);
                assert_memory_equal(cursor.key.data, r->rows[i].key, cursor.key.size);
            }
        }
        view_cursor_close(&cursor);
    }
}

/* An index: what memory and disk say together. */
static void check_rows(struct view_store *store, const struct view_read *read, int view,
                       struct plain_rows *r) {
    struct view_cursor cursor;
    const struct overlay_group all = {.by = OVERLAY_ALL};
    uint32_t i = 0;
    if (r->count > 1) qsort(r->rows, r->count, sizeof *r->rows, by_key);
    assert_int_equal(view_cursor_open(&cursor, store, read, (enum view_number)view, &all), 0);
    bool more = view_cursor_seek(&cursor, "", 0);
    for (; more; more = view_cursor_next(&cursor), i++) {
        if (i >= r->count) fail_msg("view %s has rows that it should not", views[view].name);
        if (cursor.key.size != r->rows[i].bytes ||
            memcmp(cursor.key.data, r->rows[i].key, cursor.key.size) != 0)
            fail_msg("view %s: row %u of %u is another one", views[view].name, i, r->count);
    }
    if (i != r->count) fail_msg("view %s has %u rows of %u", views[view].name, i, r->count);
    view_cursor_close(&cursor);
    if (view == VIEW_BY_STATE) check_states(store, read, r);
}

static bool every_key(void *arg, struct bytes key) { return true; }

/* Counters: what the disk has, and what memory adds to it. */
static void check_counters(struct view_store *store, const struct view_read *read,
                           const struct plain_rows *r) {
    struct plain_rows found = {0};
    struct sums recent = {0};
    MDB_dbi table;
    MDB_cursor *cursor;
    MDB_val key, value;
    assert_true(view_table_of(store, read, VIEW_COUNTERS, &table));
    assert_true(view_sums_recent(store, read, VIEW_COUNTERS, every_key, NULL, &recent));
    assert_int_equal(mdb_cursor_open(read->txn, table, &cursor), 0);
    for (int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct plain_row *row = add_row(&found, key.mv_data, (uint32_t)key.mv_size);
        assert_int_equal(value.mv_size, sizeof row->numbers);
        memcpy(row->numbers, value.mv_data, value.mv_size);
    }
    mdb_cursor_close(cursor);
    for (uint32_t i = 0; i < recent.count; i++) {
        const struct sums_entry *e = &recent.entries[i];
        struct plain_row *row = NULL;
        for (uint32_t n = 0; n < found.count && !row; n++) {
            if (found.rows[n].bytes == e->key_bytes &&
                memcmp(found.rows[n].key, sums_key(&recent, e), e->key_bytes) == 0)
                row = &found.rows[n];
        }
        if (!row) row = add_row(&found, sums_key(&recent, e), e->key_bytes);
        for (int n = 0; n < VIEW_NUMBERS; n++) row->numbers[n] += e->numbers[n];
    }
    assert_int_equal(found.count, r->count);
    if (found.count > 1) {
        qsort(found.rows, found.count, sizeof *found.rows, by_key);
        qsort(r->rows, r->count, sizeof *r->rows, by_key);
    }
    for (uint32_t i = 0; i < found.count; i++) {
        assert_int_equal(found.rows[i].bytes, r->rows[i].bytes);
        assert_memory_equal(found.rows[i].key, r->rows[i].key, found.rows[i].bytes);
        assert_memory_equal(found.rows[i].numbers, r->rows[i].numbers, sizeof r->rows[i].numbers);
    }
    free(found.rows);
    sums_fini(&recent);
}

void history_check_read(const struct history *h, const uint64_t positions[HISTORY_SHARDS],
                        struct view_store *store, const struct view_read *read) {
    struct plain plain;
    plain_fold(h, positions, &plain);
    for (uint32_t i = 0; i < plain.count; i++) {
        const struct plain_order *o = &plain.orders[i];
        struct bytes block;
        uint32_t shard;
        bool there = view_order_get(store, read, &o->key, &block, &shard);
        assert_int_equal(there, !(o->block->flags & ACTOR_RETIRED));
        if (!there) continue;
        assert_int_equal(shard, o->shard);
        assert_int_equal(block.size, o->block->bytes);
        assert_memory_equal(block.data, o->block, block.size);
    }
    for (int v = 0; v < VIEWS_COUNT; v++) {
        struct plain_rows rows = {0};
        uint8_t key[256];
        for (uint32_t i = 0; i < plain.count && v != VIEW_COUNTERS; i++) {
            uint32_t bytes = plain_key(v, &plain.orders[i], key);
            if (bytes) add_row(&rows, key, bytes);
        }
        if (v == VIEW_COUNTERS) check_counters(store, read, &plain.sums);
        else check_rows(store, read, v, &rows);
        free(rows.rows);
    }
    for (uint32_t i = 0; i < plain.count; i++) free(plain.orders[i].block);
    free(plain.orders);
    free(plain.sums.rows);
}

void history_check(const struct history *h, const uint64_t positions[HISTORY_SHARDS],
                   struct view_store *store) {
    struct view_read read;
    assert_true(view_read_begin(store, &read));
    history_check_read(h, positions, store, &read);
    view_read_end(store, &read);
}
