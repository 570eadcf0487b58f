/* The order in which a checkpoint is written: by tables and keys, so that neighbours in a tree are
 * written one after the other, each page is touched once, and a cursor is always near. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/radix_sort.h"
#include "persistence/lmdb/internal.h"

static int compare_u64(uint64_t x, uint64_t y) { return x < y ? -1 : x > y; }

static int compare_places(const void *a, const void *b) {
    const struct checkpoint_place *x = a, *y = b;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->key_high != y->key_high) return compare_u64(x->key_high, y->key_high);
    if (x->key_low != y->key_low) return compare_u64(x->key_low, y->key_low);
    return compare_u64(x->item, y->item);
}

static int compare_changes(const void *a, const void *b) {
    const struct timer_change *x = a, *y = b;
    if (x->deadline_ms != y->deadline_ms) return compare_u64(x->deadline_ms, y->deadline_ms);
    if (x->key_high != y->key_high) return compare_u64(x->key_high, y->key_high);
    return compare_u64(x->key_low, y->key_low);
}

static bool places_tie(const void *a, const void *b) {
    const struct checkpoint_place *x = a, *y = b;
    return x->kind == y->kind && x->key_high == y->key_high;
}

static bool changes_tie(const void *a, const void *b) {
    const struct timer_change *x = a, *y = b;
    return x->deadline_ms == y->deadline_ms;
}

/* What radix_sort() was not told: those that it took for equal are few together, and most often in
 * order already. */
static void settle(void *list, uint32_t count, size_t bytes,
                   bool (*tie)(const void *, const void *),
                   int (*compare)(const void *, const void *)) {
    uint8_t *at = list;
    for (uint32_t first = 0, end; first < count; first = end) {
        bool sorted = true;
        for (end = first + 1; end < count && tie(at + first * bytes, at + end * bytes); end++)
            sorted &= compare(at + (end - 1) * bytes, at + end * bytes) < 0;
        if (!sorted) qsort(at + first * bytes, end - first, bytes, compare);
    }
}

static bool is_same_actor(const struct checkpoint_place *x, const struct checkpoint_place *y) {
    return x->kind == y->kind && x->key_high == y->key_high && x->key_low == y->key_low;
}

static bool order_reserve(struct storage_lmdb *s, struct checkpoint_order *o, uint32_t count) {
    if (count <= o->capacity) return true;
    checkpoint_order_free(o);
    size_t changes = 2 * (size_t)count;
    o->places = storage_allocate(s, 2 * (size_t)count * sizeof *o->places);
    o->changes = o->places ? storage_allocate(s, 2 * changes * sizeof *o->changes) : NULL;
    o->sort = o->changes ? storage_allocate(s, 2 * changes * sizeof *o->sort) : NULL;
    if (!o->sort) {
        checkpoint_order_free(o);
        return false;
    }
    o->unsorted_places = o->places + count;
    o->unsorted_changes = o->changes + changes;
    o->capacity = count;
    return true;
}

static void order_add_timer(struct checkpoint_order *o, const struct checkpoint_place *place,
                            int64_t old_ms, int64_t new_ms) {
    struct timer_change change = {.key_high = place->key_high, .key_low = place->key_low,
                                  .kind = (uint8_t)place->kind};
    if (old_ms == new_ms) return;
    if (old_ms != 0) {
        change.deadline_ms = (uint64_t)old_ms;
        o->unsorted_changes[o->changes_count++] = change;
    }
    if (new_ms != 0) {
        change.deadline_ms = (uint64_t)new_ms;
        change.put = true;
        o->unsorted_changes[o->changes_count++] = change;
    }
}

static void order_sort_places(struct checkpoint_order *o, uint32_t count) {
    struct radix_item *sort = o->sort;
    for (uint32_t i = 0; i < count; i++)
        sort[i] = (struct radix_item){o->unsorted_places[i].key_high, i};
    radix_sort(sort, sort + count, count);
    for (uint32_t i = 0; i < count; i++) sort[i].key = o->unsorted_places[sort[i].value].kind;
    radix_sort(sort, sort + count, count);
    for (uint32_t i = 0; i < count; i++) o->places[i] = o->unsorted_places[sort[i].value];
    settle(o->places, count, sizeof *o->places, places_tie, compare_places);
}

static void order_sort_changes(struct checkpoint_order *o) {
    uint32_t count = o->changes_count;
    struct radix_item *sort = o->sort;
    for (uint32_t i = 0; i < count; i++)
        sort[i] = (struct radix_item){o->unsorted_changes[i].deadline_ms, i};
    radix_sort(sort, sort + count, count);
    for (uint32_t i = 0; i < count; i++) o->changes[i] = o->unsorted_changes[sort[i].value];
    settle(o->changes, count, sizeof *o->changes, changes_tie, compare_changes);
}

int checkpoint_order(struct storage_lmdb *s, const struct checkpoint *c,
                     struct checkpoint_order *o) {
    uint32_t count = c->items_count;
    o->places_count = o->changes_count = 0;
    if (!order_reserve(s, o, count > 0 ? count : 1)) return ENOMEM;
    struct checkpoint_place *places = o->places;
    for (uint32_t i = 0; i < count; i++) {
        const struct checkpoint_item *item = &c->items[i];
        o->unsorted_places[i] = (struct checkpoint_place){storage_from_be64(item->key.bytes),
                                                          storage_from_be64(item->key.bytes + 8),
                                                          item->kind, i};
    }
    order_sort_places(o, count);
    /* An actor that changed while the checkpoint was being filled is in it more than once: what
     * stands in the tables is the newest copy, and what stood there is told by the oldest one. */
    for (uint32_t i = 0; i < count;) {
        uint32_t last = i;
        while (last + 1 < count && is_same_actor(&places[last + 1], &places[i])) last++;
        order_add_timer(o, &places[i], c->items[places[i].item].old_deadline_ms,
                        c->items[places[last].item].new_deadline_ms);
        places[o->places_count++] = places[last];
        i = last + 1;
    }
    order_sort_changes(o);
    return 0;
}

void checkpoint_order_free(struct checkpoint_order *o) {
    free(o->places);
    free(o->changes);
    free(o->sort);
    *o = (struct checkpoint_order){0};
}
