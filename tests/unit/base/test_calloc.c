/* The calloc() that stands in the place of jemalloc's: what any calloc() has to do. Builds without
 * jemalloc have the library's, which is not tested here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"

enum { SKIPPED = 77, ROUNDS = 8 };

/* The bound of memory.c is 4 MiB: up to there it writes the zeros itself. */
static const size_t sizes[] = {1, 7, 8, 100, 4096, 14 << 10, (16 << 10) + 1, 100000, 1 << 20,
                               4 << 20, (4 << 20) + 1, 9 << 20};

/* Opaque to the compiler, which knows what calloc() does, and that nobody reads what was written
 * just before a free(). */
static void *(*volatile zeros)(size_t, size_t) = calloc;
static void *(*volatile soil)(void *, int, size_t) = memset;

static void expect_zeros(const uint8_t *block, size_t bytes) {
    assert_non_null(block);
    for (size_t i = 0; i < bytes; i++)
        if (block[i] != 0) fail_msg("byte %zu of %zu is %u", i, bytes, block[i]);
}

static void what_was_in_use_is_zero_again(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bool used_again = false;
        uintptr_t before = 0;
        for (int round = 0; round < ROUNDS; round++) {
            uint8_t *block = zeros(1, sizes[i]);
            expect_zeros(block, sizes[i]);
            used_again |= (uintptr_t)block == before;
            before = (uintptr_t)block;
            soil(block, 0xa5, sizes[i]);
            free(block);
        }
        /* Else nothing is proved. (What is large may go back to the kernel.) */
        if (sizes[i] < 8 << 10) assert_true(used_again);
    }
}

static void all_elements_are_zero(void **state) {
    (void)state;
    static const size_t counts[][2] = {{3, 5}, {1000, 24}, {64, 1 << 14}, {5, 1 << 20}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t bytes = counts[i][0] * counts[i][1];
        uint8_t *block = zeros(counts[i][0], counts[i][1]);
        expect_zeros(block, bytes);
        assert_true(malloc_usable_size(block) >= bytes);
        free(block);
    }
}

static void what_is_too_much_is_refused(void **state) {
    (void)state;
    static const size_t counts[][2] = {{SIZE_MAX, 2}, {2, SIZE_MAX}, {SIZE_MAX / 2, 3},
                                       {(size_t)1 << 32, (size_t)1 << 32}, {1, PTRDIFF_MAX}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        errno = 0;
        void *block = zeros(counts[i][0], counts[i][1]);
        assert_null(block);
        assert_int_equal(errno, ENOMEM);
    }
}

static void nothing_is_a_block_of_its_own(void **state) {
    (void)state;
    static const size_t counts[][2] = {{0, 0}, {0, 8}, {8, 0}, {0, SIZE_MAX}};
    void *others[sizeof counts / sizeof *counts];
    errno = 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        others[i] = zeros(counts[i][0], counts[i][1]);
        assert_non_null(others[i]);
        for (size_t k = 0; k < i; k++) assert_ptr_not_equal(others[i], others[k]);
    }
    assert_int_equal(errno, 0);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) free(others[i]);
}

/* Other calls of the allocator take what it gave. */
static void a_block_can_grow(void **state) {
    (void)state;
    uint8_t *block = zeros(1, 20000);
    expect_zeros(block, 20000);
    uint8_t *more = realloc(block, 6 << 20);
    expect_zeros(more, 20000);
    free(more);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_in_use_is_zero_again),
        cmocka_unit_test(all_elements_are_zero),
        cmocka_unit_test(what_is_too_much_is_refused),
        cmocka_unit_test(nothing_is_a_block_of_its_own),
        cmocka_unit_test(a_block_can_grow),
    };
    if (strncmp(memory_allocator(), "jemalloc", 8) != 0) return SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
