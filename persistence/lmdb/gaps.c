/* The gaps in the history: where an installed state stands for records that were never stored here.
 * Their rows lie in the vote's environment, which outlives log and state; the transaction that
 * writes a row is the one moment in which an install happens (install.c). */
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "persistence/lmdb/internal.h"
#include "persistence/lmdb/page_tree.h"

enum { GAPS_LOOKS_MAX = 64 };      /* at rows that a node changes while they are read */

struct gap_key { uint8_t name[3], first_be[8]; };
static_assert(sizeof(struct gap_key) == 11, "frozen");

static struct gap_key gap_key(uint64_t first) {
    struct gap_key key = {.name = "gap"};
    storage_be64(key.first_be, first);
    return key;
}

static uint64_t gap_checksum(const struct gap_row *row) {
    return XXH3_64bits(&row->first, sizeof *row - sizeof row->checksum);
}

uint64_t gaps_floor(const struct segments *all) {
    return all->gaps_count > 0 ? all->gaps[all->gaps_count - 1].last : 0;
}

static uint64_t gaps_end_of(struct page_tree *tree) {
    struct page_cursor c;
    struct page_row row;
    struct gap_row gap;
    uint64_t end = 0;
    page_cursor_seek(&c, tree, tree->root, "gap", 3);
    while (page_cursor_next(&c, &row) == 1 && row.key_bytes == sizeof(struct gap_key) &&
           memcmp(row.key, "gap", 3) == 0) {
        if (row.value_bytes != sizeof gap) continue;
        memcpy(&gap, row.value, sizeof gap);
        if (gap.checksum == gap_checksum(&gap) && gap.last > end) end = gap.last;
    }
    return end;
}

uint64_t gaps_end_in(const char *directory) {
    char path[PAGE_TREE_PATH_BYTES_MAX];
    struct page_tree tree;
    uint64_t end = 0;
    snprintf(path, sizeof path, "%.980s/vote", directory);
    if (page_tree_open(&tree, path, NULL, NULL, false, NULL, 0) != 0) return 0;
    for (int i = 0; i < GAPS_LOOKS_MAX; i++) {
        end = gaps_end_of(&tree);
        /* What was committed meanwhile may have used these pages anew. */
        if (!page_tree_is_overtaken(&tree) || page_tree_pin(&tree, NULL, 0) != 0) break;
    }
    page_tree_close(&tree);
    return end;
}

bool gaps_is_past(const struct segments *all, const struct log_gap *gap) {
    return all->count > 0 && all->list[0]->first > gap->last + 1;
}

const struct log_gap *gaps_find(const struct segments *all, uint64_t index) {
    for (uint32_t i = 0; i < all->gaps_count; i++) {
        const struct log_gap *gap = &all->gaps[i];
        if (index >= gap->first && index <= gap->last) return gap;
    }
    return NULL;
}

const struct log_gap *gaps_behind(const struct segments *all, uint64_t index) {
    for (uint32_t i = 0; i < all->gaps_count; i++) {
        if (all->gaps[i].first > index) return &all->gaps[i];
    }
    return NULL;
}

static const char *gap_take(struct segments *all, MDB_val key, MDB_val value) {
    struct gap_row row;
    struct gap_key wanted;
    if (value.mv_size != sizeof row) return "its length is wrong";
    memcpy(&row, value.mv_data, sizeof row);
    if (row.checksum != gap_checksum(&row)) return "checksum does not match";
    wanted = gap_key(row.first);
    if (memcmp(key.mv_data, &wanted, sizeof wanted) != 0) return "it holds another than its key";
    if (row.first > row.last || row.first <= gaps_floor(all)) return "it does not follow the last";
    if (all->gaps_count == STORAGE_GAPS_MAX) return "there are too many";
    all->gaps[all->gaps_count++] = (struct log_gap){row.first, row.last, row.installed_ms};
    return NULL;
}

int gaps_load(struct storage_lmdb *s, char *error, size_t error_bytes) {
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    const struct gap_key from = gap_key(0);
    MDB_val key = storage_val(&from, sizeof from), value;
    const char *fault = NULL;
    int rc = lmdb_env_read_begin(&s->vote, &txn);
    if (rc != 0) return lmdb_error(error, error_bytes, "%s: %s", s->vote.path, mdb_strerror(rc));
    rc = mdb_cursor_open(txn, s->vote_table, &cursor);
    if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && !fault && key.mv_size == sizeof from &&
           memcmp(key.mv_data, from.name, sizeof from.name) == 0) {
        fault = gap_take(&s->segments, key, value);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (!fault && rc != 0 && rc != MDB_NOTFOUND) fault = mdb_strerror(rc);
    if (cursor) mdb_cursor_close(cursor);
    lmdb_env_read_end(&s->vote, txn);
    if (!fault) return 0;
    return lmdb_error(error, error_bytes, "%s: a gap's row is damaged: %s", s->vote.path, fault);
}

static int gap_put(struct storage_lmdb *s, MDB_txn *txn, struct log_gap gap) {
    struct gap_row row = {.first = gap.first, .last = gap.last,
                          .installed_ms = gap.installed_ms};
    const struct gap_key name = gap_key(gap.first);
    row.checksum = gap_checksum(&row);
    MDB_val key = storage_val(&name, sizeof name), value = storage_val(&row, sizeof row);
    return mdb_put(txn, s->vote_table, &key, &value, 0);
}

static int gap_delete(struct storage_lmdb *s, MDB_txn *txn, struct log_gap gap) {
    const struct gap_key name = gap_key(gap.first);
    MDB_val key = storage_val(&name, sizeof name);
    int rc = mdb_del(txn, s->vote_table, &key, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The list as it shall be: those that no stored record lies in front of go, the new one comes, and
 * joins the newest when nothing is kept between them. Of too many the oldest two become one, and
 * the history between them goes. */
static uint32_t gaps_next(const struct storage_lmdb *s, struct log_gap *next, uint64_t kept,
                          uint64_t marker) {
    const struct segments *all = &s->segments;
    uint64_t oldest = all->count > 0 ? all->list[0]->first : UINT64_MAX;
    uint32_t count = 0;
    for (uint32_t i = 0; i < all->gaps_count; i++) {
        if (all->gaps[i].first > oldest || i + 1 == all->gaps_count) next[count++] = all->gaps[i];
    }
    if (count > 0 && next[count - 1].last == kept) {
        next[count - 1].last = marker;
        next[count - 1].installed_ms = clock_unix_ms();
        return count;
    }
    next[count++] = (struct log_gap){kept + 1, marker, clock_unix_ms()};
    if (count <= STORAGE_GAPS_MAX) return count;
    next[1].first = next[0].first;
    memmove(next, next + 1, --count * sizeof *next);
    return count;
}

int gaps_shrink(struct storage_lmdb *s, const struct log_gap *gap, uint64_t next) {
    MDB_txn *txn;
    require(next > gap->first);
    int rc = storage_fault(s, STORAGE_POINT_FILL_SHRINK);
    if (rc == 0) rc = mdb_txn_begin(s->vote.mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = gap_delete(s, txn, *gap);
    if (rc == 0 && next <= gap->last)
        rc = gap_put(s, txn, (struct log_gap){next, gap->last, gap->installed_ms});
    if (rc == 0) rc = reached_restamp(s, txn);
    if (rc == 0) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

int gaps_commit(struct storage_lmdb *s, uint64_t kept, uint64_t marker) {
    struct segments *all = &s->segments;
    struct log_gap next[STORAGE_GAPS_MAX + 1];
    MDB_txn *txn;
    require(kept >= gaps_floor(all) && kept < marker);
    pthread_mutex_lock(&all->lock);
    uint32_t count = gaps_next(s, next, kept, marker);
    pthread_mutex_unlock(&all->lock);
    int rc = mdb_txn_begin(s->vote.mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    for (uint32_t i = 0; rc == 0 && i < all->gaps_count; i++) {
        rc = gap_delete(s, txn, all->gaps[i]);
    }
    for (uint32_t i = 0; rc == 0 && i < count; i++) rc = gap_put(s, txn, next[i]);
    if (rc == 0) rc = reached_restamp(s, txn);
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_INSTALL_COMMIT);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = mdb_txn_commit(txn);
    if (rc != 0) return rc;
    pthread_mutex_lock(&all->lock);
    memcpy(all->gaps, next, count * sizeof *next);
    all->gaps_count = count;
    pthread_mutex_unlock(&all->lock);
    return 0;
}
