/* Reading: memory in front of the disk, as one. An order that a table in memory has hides what the
 * disk has of it, rows of indexes included. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/replica/view_store.h"

enum { VIEW_WINDOW_MIN = 64, VIEW_WINDOW_MAX = 1024 }; /* rows that memory makes at a time */

/* -- one moment -------------------------------------------------------------------------------- */

/* With the lock held, so that no table goes from between memory and disk: a table is dropped only
 * behind the transaction that holds its rows, and that begins only once the table is frozen. So
 * the transaction here may have the frozen table's rows already, which does no harm, but never
 * anything that neither table has. */
static MDB_txn *begin(struct view_store *s) {
    MDB_txn *txn = NULL;
    if (s->idle_count > 0) txn = s->idle[--s->idle_count];
    if (txn) {
        if (mdb_txn_renew(txn) == 0) return txn;
        mdb_txn_abort(txn);
    }
    return mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn) == 0 ? txn : NULL;
}

bool view_read_begin(struct view_store *s, struct view_read *read) {
    pthread_mutex_lock(&s->lock);
    *read = (struct view_read){.txn = begin(s),
                               .tables = {s->active, s->frozen},
                               .number = s->number,
                               .positions = s->positions,
                               .positions_count = s->positions_count};
    for (int i = 0; i < 2 && read->txn; i++) {
        if (read->tables[i]) read->tables[i]->holders++;
    }
    if (read->txn) {
        read->older = s->newest_read;
        if (read->older) read->older->newer = read;
        else s->oldest_read = read;
        s->newest_read = read;
    }
    pthread_mutex_unlock(&s->lock);
    return read->txn != NULL;
}

/* With the lock held. */
static void unlink_read(struct view_store *s, struct view_read *read) {
    if (read->older) read->older->newer = read->newer;
    else s->oldest_read = read->newer;
    if (read->newer) read->newer->older = read->older;
    else s->newest_read = read->older;
}

uint64_t view_oldest(struct view_store *s) {
    pthread_mutex_lock(&s->lock);
    uint64_t number = s->oldest_read ? s->oldest_read->number : s->number;
    pthread_mutex_unlock(&s->lock);
    return number;
}

/* With the lock held: the table, when nobody holds it any more. */
static struct overlay *let_go(struct overlay *t) { return t && --t->holders == 0 ? t : NULL; }

void view_read_end(struct view_store *s, struct view_read *read) {
    struct overlay *unheld[2];
    mdb_txn_reset(read->txn);
    pthread_mutex_lock(&s->lock);
    bool kept = s->idle_count < sizeof s->idle / sizeof *s->idle;
    if (kept) s->idle[s->idle_count++] = read->txn;
    unlink_read(s, read);
    for (int i = 0; i < 2; i++) unheld[i] = let_go(read->tables[i]);
    pthread_mutex_unlock(&s->lock);
    if (!kept) mdb_txn_abort(read->txn);
    for (int i = 0; i < 2; i++) {
        if (unheld[i]) overlay_free(unheld[i]);
    }
    read->txn = NULL;
}

uint32_t view_positions(struct view_store *s, const struct view_read *read,
                        const void **positions) {
    if (!read->positions) return view_disk_positions(s, read->txn, positions);
    *positions = read->positions;
    return read->positions_count;
}

/* -- publishing -------------------------------------------------------------------------------- */

void view_publish(struct view_store *s, uint64_t number, const struct view_position *positions,
                  uint32_t positions_count) {
    pthread_mutex_lock(&s->lock);
    s->active->published = true;
    s->active->positions = positions;
    s->active->positions_count = positions_count;
    s->number = number;
    s->positions = positions;
    s->positions_count = positions_count;
    pthread_mutex_unlock(&s->lock);
}

bool view_freeze(struct view_store *s) {
    /* As large as the last one: to grow on the way would hold up what is published. */
    struct overlay *fresh = overlay_new(s->active->id + 1, s->active->orders_count);
    if (!fresh) return false;
    pthread_mutex_lock(&s->lock);
    bool frozen = !s->frozen;
    if (frozen) {
        s->frozen = s->active;
        s->active = fresh;
    }
    pthread_mutex_unlock(&s->lock);
    if (!frozen) overlay_free(fresh);
    return frozen;
}

struct overlay *view_frozen(struct view_store *s) {
    pthread_mutex_lock(&s->lock);
    struct overlay *t = s->frozen;
    pthread_mutex_unlock(&s->lock);
    return t;
}

void view_thaw(struct view_store *s) {
    pthread_mutex_lock(&s->lock);
    struct overlay *unheld = let_go(s->frozen);
    s->frozen = NULL;
    if (!s->active->published) s->positions = NULL; /* the disk has the same ones */
    pthread_mutex_unlock(&s->lock);
    if (unheld) overlay_free(unheld);
}

/* -- orders ------------------------------------------------------------------------------------ */

/* What memory has of an order, at this moment; NULL = nothing. `below`: 1 = in the active table
 * only. */
static const struct overlay_version *recent(const struct view_read *read, const struct id128 *key,
                                            int below) {
    for (int i = 0; i < below; i++) {
        const struct overlay_version *v =
            read->tables[i] ? overlay_find(read->tables[i], key, read->number) : NULL;
        if (v) return v;
    }
    return NULL;
}

bool view_order_get(struct view_store *s, const struct view_read *read, const struct id128 *id,
                    struct bytes *block, uint32_t *shard) {
    MDB_val key = view_val(id->bytes, 16), value;
    struct view_order_row row;
    const struct overlay_version *v = recent(read, id, 2);
    if (v) {
        *shard = v->shard;
        *block = bytes_of(v->block, overlay_block(v)->bytes);
        return !(overlay_block(v)->flags & ACTOR_RETIRED);
    }
    if (mdb_get(read->txn, s->orders, &key, &value) != 0 || value.mv_size < sizeof row)
        return false;
    memcpy(&row, value.mv_data, sizeof row);
    *shard = row.shard;
    *block = bytes_of((uint8_t *)value.mv_data + sizeof row, value.mv_size - sizeof row);
    return true;
}

/* -- rows -------------------------------------------------------------------------------------- */

static int by_bytes(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    int rc = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return rc ? rc : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static uint8_t *row_key(const struct view_cursor *c, const struct view_row *row) {
    return c->keys + (size_t)row->slot * VIEW_KEY_BYTES_MAX;
}

static int row_compare(const struct view_cursor *c, const struct view_row *row, const void *key,
                       size_t bytes) {
    return by_bytes(row_key(c, row), row->bytes, key, bytes);
}

static int by_row(const void *a, const void *b, void *cursor) {
    const struct view_cursor *c = cursor;
    const struct view_row *y = b;
    return row_compare(c, a, row_key(c, y), y->bytes);
}

/* The window while it is filled: a heap, the greatest key at its top. */
static void heap_up(struct view_cursor *c, uint32_t at) {
    while (at > 0 && by_row(&c->rows[at], &c->rows[(at - 1) / 2], c) > 0) {
        struct view_row row = c->rows[at];
        c->rows[at] = c->rows[(at - 1) / 2];
        c->rows[(at - 1) / 2] = row;
        at = (at - 1) / 2;
    }
}

static void heap_down(struct view_cursor *c) {
    for (uint32_t at = 0, child; (child = 2 * at + 1) < c->rows_count; at = child) {
        if (child + 1 < c->rows_count && by_row(&c->rows[child + 1], &c->rows[child], c) > 0)
            child++;
        if (by_row(&c->rows[child], &c->rows[at], c) <= 0) return;
        struct view_row row = c->rows[at];
        c->rows[at] = c->rows[child];
        c->rows[child] = row;
    }
}

static bool add_row(void *arg, const struct overlay_version *v) {
    struct view_cursor *c = arg;
    struct view_order order;
    uint8_t key[VIEW_KEY_BYTES_MAX];
    view_order_of(overlay_block(v), v->shard, &order);
    uint32_t bytes = views[c->view].key(&order, key);
    if (bytes == 0) return true;
    int rc = by_bytes(key, bytes, c->from, c->from_bytes);
    if (rc < 0 || (rc == 0 && c->behind)) return true;
    if (c->rows_count < c->rows_room) {
        c->rows[c->rows_count] = (struct view_row){c->rows_count, bytes};
        memcpy(row_key(c, &c->rows[c->rows_count]), key, bytes);
        heap_up(c, c->rows_count++);
    } else if (row_compare(c, &c->rows[0], key, bytes) > 0) {
        c->rows[0].bytes = bytes;
        memcpy(row_key(c, &c->rows[0]), key, bytes);
        heap_down(c);
    }
    if (c->rows_count == c->rows_room && c->view == VIEW_BY_STATE)
        c->last_ms = view_get_u64(row_key(c, &c->rows[0]) + 1);
    return true;
}

/* Of the frozen table: what the active one does not have newer. */
static bool add_frozen_row(void *arg, const struct overlay_version *v) {
    const struct view_cursor *c = arg;
    return recent(c->read, &v->order->key, 1) ? true : add_row(arg, v);
}

/* The window begins at the key, or behind it. */
static void fill(struct view_cursor *c, const void *key, size_t bytes, bool behind) {
    if (bytes > sizeof c->from) bytes = sizeof c->from; /* no row has so long a key */
    if (bytes != 0) memmove(c->from, key, bytes);
    c->from_bytes = (uint32_t)bytes;
    c->behind = behind;
    c->filled = true;
    c->rows_count = c->next = 0;
    c->last_ms = UINT64_MAX;
    if (c->view == VIEW_BY_STATE) {
        bool timed = bytes >= 9 && c->from[0] == c->group.state;
        c->group.first_ms = timed ? view_get_u64(c->from + 1) : 0;
        c->group.last_ms = &c->last_ms;
    }
    for (int i = 0; i < 2; i++) {
        if (!c->read->tables[i]) continue;
        overlay_each(c->read->tables[i], &c->group, c->read->number,
                     i == 0 ? add_row : add_frozen_row, c);
    }
    c->more = c->rows_count == c->rows_room;
    if (c->rows_count < 2) return;
    qsort_r(c->rows, c->rows_count, sizeof *c->rows, by_row, c);
    uint32_t kept = 1; /* an order may have been met twice */
    for (uint32_t i = 1; i < c->rows_count; i++) {
        if (by_row(&c->rows[i], &c->rows[kept - 1], c) != 0) c->rows[kept++] = c->rows[i];
    }
    c->rows_count = kept;
}

/* Behind the window's last row; a larger one, because more are wanted than were thought. */
static void fill_further(struct view_cursor *c) {
    uint8_t last[VIEW_KEY_BYTES_MAX];
    const struct view_row *row = &c->rows[c->rows_count - 1];
    uint32_t bytes = row->bytes, room = c->rows_room * 4;
    memcpy(last, row_key(c, row), bytes);
    if (room <= VIEW_WINDOW_MAX) {
        struct view_row *rows = realloc(c->rows, room * sizeof *rows);
        if (rows) c->rows = rows;
        uint8_t *keys = rows ? realloc(c->keys, (size_t)room * VIEW_KEY_BYTES_MAX) : NULL;
        if (keys) {
            c->keys = keys;
            c->rows_room = room;
        }
    }
    fill(c, last, bytes, true);
}

int view_cursor_open(struct view_cursor *c, struct view_store *s, const struct view_read *read,
                     enum view_number view, const struct overlay_group *group) {
    MDB_dbi table;
    c->read = read;
    c->view = view;
    c->rc = MDB_NOTFOUND;
    c->key = (struct bytes){NULL, 0};
    c->cursor = NULL;
    c->group = *group;
    c->rows = NULL;
    c->keys = NULL;
    c->rows_count = c->next = 0;
    c->rows_room = VIEW_WINDOW_MIN;
    c->filled = c->more = false;
    if (!view_table_of(s, read, view, &table)) return MDB_NOTFOUND;
    c->rows = malloc(VIEW_WINDOW_MIN * sizeof *c->rows);
    c->keys = malloc((size_t)VIEW_WINDOW_MIN * VIEW_KEY_BYTES_MAX);
    int rc = !c->rows || !c->keys ? ENOMEM : mdb_cursor_open(read->txn, table, &c->cursor);
    if (rc != 0) view_cursor_close(c);
    return rc;
}

/* Passes over rows of the disk that are out of date, and takes the lesser one of both sides. */
static bool choose(struct view_cursor *c) {
    struct id128 id;
    for (; c->rc == 0; c->rc = mdb_cursor_get(c->cursor, &c->disk, &(MDB_val){0}, MDB_NEXT)) {
        if (c->disk.mv_size < sizeof id.bytes) continue;
        memcpy(id.bytes, (uint8_t *)c->disk.mv_data + c->disk.mv_size - sizeof id.bytes,
               sizeof id.bytes);
        if (!recent(c->read, &id, 2)) break;
    }
    if (c->next == c->rows_count && c->more) fill_further(c);
    const struct view_row *row = c->next < c->rows_count ? &c->rows[c->next] : NULL;
    if (row && (c->rc != 0 || row_compare(c, row, c->disk.mv_data, c->disk.mv_size) < 0))
        c->key = bytes_of(row_key(c, row), row->bytes);
    else if (c->rc == 0) c->key = bytes_of(c->disk.mv_data, c->disk.mv_size);
    else return false;
    return true;
}

/* Whether the row at or behind the key that memory has is in the window, if there is one. */
static bool window_has(const struct view_cursor *c, const void *key, size_t bytes) {
    if (!c->filled) return false;
    int rc = by_bytes(key, bytes, c->from, c->from_bytes);
    if (rc < 0 || (rc == 0 && c->behind)) return false;
    return !c->more || row_compare(c, &c->rows[c->rows_count - 1], key, bytes) >= 0;
}

bool view_cursor_seek(struct view_cursor *c, const void *key, size_t bytes) {
    if (!window_has(c, key, bytes)) fill(c, key, bytes, false);
    uint32_t low = 0, high = c->rows_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct view_row *row = &c->rows[middle];
        if (row_compare(c, row, key, bytes) < 0) low = middle + 1;
        else high = middle;
    }
    c->next = low;
    c->disk = view_val(key, bytes);
    c->rc = mdb_cursor_get(c->cursor, &c->disk, &(MDB_val){0},
                           bytes == 0 ? MDB_FIRST : MDB_SET_RANGE);
    return choose(c);
}

bool view_cursor_next(struct view_cursor *c) {
    bool of_memory = c->rc != 0 || c->key.data != c->disk.mv_data;
    if (of_memory) c->next++;
    else c->rc = mdb_cursor_get(c->cursor, &c->disk, &(MDB_val){0}, MDB_NEXT);
    return choose(c);
}

void view_cursor_close(struct view_cursor *c) {
    if (c->cursor) mdb_cursor_close(c->cursor);
    free(c->rows);
    free(c->keys);
    c->cursor = NULL;
    c->rows = NULL;
    c->keys = NULL;
}

/* -- sums -------------------------------------------------------------------------------------- */

static bool add_sum(enum view_number view, const struct view_sum *fine,
                    bool (*want)(void *, struct bytes), void *arg, struct sums *sums) {
    struct view_sum coarser;
    if (want(arg, bytes_of(fine->key, fine->key_bytes)) && !sums_add(sums, fine)) return false;
    for (uint32_t i = 0; views[view].roll_up && views[view].roll_up(fine, i, &coarser); i++) {
        if (want(arg, bytes_of(coarser.key, coarser.key_bytes)) && !sums_add(sums, &coarser))
            return false;
    }
    return true;
}

bool view_sums_recent(struct view_store *s, const struct view_read *read, enum view_number view,
                      bool (*want)(void *, struct bytes), void *arg, struct sums *sums) {
    uint64_t on_disk = view_disk_overlay(s, read->txn);
    for (int i = 0; i < 2; i++) {
        const struct overlay *t = read->tables[i];
        if (!t || t->id <= on_disk) continue; /* added to the disk's already */
        const struct overlay_sum *e = atomic_load_explicit(&t->sums[view], memory_order_acquire);
        for (; e; e = e->next) {
            const struct overlay_number *n = overlay_number_at(e, read->number);
            struct view_sum fine = {.key_bytes = e->key_bytes};
            if (!n) continue;
            memcpy(fine.key, e->key, e->key_bytes);
            memcpy(fine.numbers, n->numbers, sizeof fine.numbers);
            if (!add_sum(view, &fine, want, arg, sums)) return false;
        }
    }
    return true;
}
