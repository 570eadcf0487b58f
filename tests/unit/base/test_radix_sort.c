#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/radix_sort.h"

enum { ITEMS_MAX = 3000 };

static struct radix_item items[ITEMS_MAX], scratch[ITEMS_MAX];
static uint64_t seed;

static uint64_t random_u64(void) {
    uint64_t z = seed += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* Sorted, equal ones in their order, and each of them there once. */
static void expect_sorted(uint32_t count, const uint64_t *keys) {
    static uint8_t seen[ITEMS_MAX];
    for (uint32_t i = 0; i < count; i++) seen[i] = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(items[i].value < count && !seen[items[i].value]++);
        assert_true(items[i].key == keys[items[i].value]);
        if (i == 0) continue;
        assert_true(items[i - 1].key <= items[i].key);
        if (items[i - 1].key == items[i].key)
            assert_true(items[i - 1].value < items[i].value);
    }
}

static void any_numbers_are_sorted_and_equal_ones_keep_their_order(void **state) {
    static const uint64_t masks[] = {UINT64_MAX, 0, 0xff, 0xff00ff, 0xffff000000000000, 1,
                                     0x0000030000f00000, UINT64_C(1) << 63};
    static const uint32_t counts[] = {0, 1, 2, 23, 24, 25, 26, 255, 256, 257, ITEMS_MAX};
    static uint64_t keys[ITEMS_MAX];
    for (size_t m = 0; m < sizeof masks / sizeof *masks; m++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            uint64_t common = random_u64() & ~masks[m];
            for (uint32_t i = 0; i < counts[c]; i++) {
                keys[i] = common | (random_u64() & masks[m]);
                items[i] = (struct radix_item){keys[i], i};
            }
            radix_sort(items, scratch, counts[c]);
            expect_sorted(counts[c], keys);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_numbers_are_sorted_and_equal_ones_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
