#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "persistence/lmdb/internal.h"

enum { ITEMS_MAX = 4000 };

static struct checkpoint_item items[ITEMS_MAX];
static uint64_t seed;

static uint32_t below(uint32_t end) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((seed >> 33) % end);
}

/* Keys of which many share their first half, or all but its last bytes; some come twice. */
static void draw_items(uint32_t count, uint32_t highs, uint32_t lows, uint32_t deadlines) {
    static const uint8_t kinds[] = {ACTOR_ORDER, ACTOR_ORDER, ACTOR_ORDER, ACTOR_STORE,
                                    ACTOR_BOARD};
    for (uint32_t i = 0; i < count; i++) {
        items[i] = (struct checkpoint_item){.kind = kinds[below(5)]};
        for (int byte = 0; byte < 4; byte++) {
            items[i].key.bytes[4 + byte] = (uint8_t)(below(highs) >> 8 * byte);
            items[i].key.bytes[12 + byte] = (uint8_t)below(lows);
        }
        if (items[i].kind != ACTOR_ORDER) continue;
        items[i].old_deadline_ms = below(deadlines);
        items[i].new_deadline_ms = below(deadlines);
    }
}

static int compare_keys(const struct checkpoint_place *x, const struct checkpoint_place *y) {
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->key_high != y->key_high) return x->key_high < y->key_high ? -1 : 1;
    return x->key_low < y->key_low ? -1 : x->key_low > y->key_low;
}

static bool is_of(const struct checkpoint_place *p, const struct checkpoint_item *item) {
    return p->kind == item->kind && p->key_high == storage_from_be64(item->key.bytes) &&
           p->key_low == storage_from_be64(item->key.bytes + 8);
}

/* Each actor once, by kind and key, with its newest copy. */
static void expect_places(const struct checkpoint_order *o, uint32_t count) {
    uint32_t newest = 0;
    for (uint32_t i = 0; i < o->places_count; i++) {
        assert_true(o->places[i].item < count && is_of(&o->places[i], &items[o->places[i].item]));
        if (i > 0) assert_true(compare_keys(&o->places[i - 1], &o->places[i]) < 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        bool replaced = false;
        for (uint32_t j = i + 1; j < count && !replaced; j++)
            replaced = items[j].kind == items[i].kind &&
                       memcmp(items[j].key.bytes, items[i].key.bytes, 16) == 0;
        newest += !replaced;
    }
    assert_int_equal(o->places_count, newest);
}

static void expect_changes(const struct checkpoint_order *o) {
    for (uint32_t i = 1; i < o->changes_count; i++) {
        const struct timer_change *x = &o->changes[i - 1], *y = &o->changes[i];
        if (x->deadline_ms != y->deadline_ms) {
            assert_true(x->deadline_ms < y->deadline_ms);
            continue;
        }
        assert_true(x->key_high < y->key_high ||
                    (x->key_high == y->key_high && x->key_low < y->key_low));
    }
}

static void any_checkpoint_is_sorted(void **state) {
    static const struct { uint32_t count, highs, lows, deadlines; } drawn[] = {
        {0, 1, 1, 1}, {1, 9, 9, 9}, {300, 1, 200, 50}, {300, 1, 2, 3}, {2000, 40000, 250, 20},
        {ITEMS_MAX, 3, 4, 100000}, {ITEMS_MAX, UINT32_MAX, 256, 1 << 30}};
    struct storage_lmdb *s = calloc(1, sizeof *s);
    assert_non_null(s);
    struct checkpoint_order order = {0};
    for (size_t i = 0; i < sizeof drawn / sizeof *drawn; i++) {
        draw_items(drawn[i].count, drawn[i].highs, drawn[i].lows, drawn[i].deadlines);
        struct checkpoint c = {.items = items, .items_count = drawn[i].count};
        assert_int_equal(checkpoint_order(s, &c, &order), 0);
        expect_places(&order, drawn[i].count);
        expect_changes(&order);
        uint32_t changes = 0;
        for (uint32_t k = 0; k < order.places_count; k++) {
            int64_t first_ms = -1, last_ms = 0;
            for (uint32_t j = 0; j < drawn[i].count; j++) {
                if (!is_of(&order.places[k], &items[j])) continue;
                if (first_ms < 0) first_ms = items[j].old_deadline_ms;
                last_ms = items[j].new_deadline_ms;
            }
            assert_true(order.places[k].kind == ACTOR_ORDER || last_ms == 0);
            if (first_ms != last_ms) changes += (first_ms != 0) + (last_ms != 0);
        }
        assert_int_equal(order.changes_count, changes);
    }
    checkpoint_order_free(&order);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_checkpoint_is_sorted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
