/* Actors come out of the sort in the order of their keys, whole, whatever fits into memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clients/replay/key_sort.h"
#include "engine/base/prng.h"
#include "engine/limits.h"

static struct actor *block;    /* ACTOR_BYTES_MAX */

static int setup(void **state) {
    (void)state;
    block = malloc(ACTOR_BYTES_MAX);
    return block ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    free(block);
    return 0;
}

/* Contents follow from the number, which stands at the key's end; order from its beginning. */
static const struct actor *make(uint32_t number, uint32_t bytes, struct prng *prng) {
    uint64_t place = prng_next(prng);
    memset(block, (int)(number % 251), bytes);
    *block = (struct actor){.bytes = bytes, .version = number};
    memcpy(block->key.bytes, &place, sizeof place);
    memcpy(block->key.bytes + 12, &number, sizeof number);
    return block;
}

struct walk {
    uint64_t met, numbers;
    uint32_t stop_at;
    struct id128 last;
};

static bool walk_visit(void *arg, const struct actor *a) {
    struct walk *w = arg;
    const uint8_t *bytes = (const uint8_t *)a;
    assert_true(w->met == 0 || memcmp(w->last.bytes, a->key.bytes, sizeof a->key) < 0);
    for (uint32_t i = sizeof *a; i < a->bytes; i += 13) {
        assert_int_equal(bytes[i], a->version % 251);
    }
    if (a->bytes > sizeof *a) assert_int_equal(bytes[a->bytes - 1], a->version % 251);
    w->last = a->key;
    w->numbers += a->version;
    return ++w->met != w->stop_at;
}

/* Adds `count` of up to `bytes_max` bytes, every thousandth as large as any may be. Returns the sum
 * of their sizes. */
static uint64_t fill(struct key_sort *s, uint32_t count, uint32_t bytes_max, bool giants) {
    struct prng prng;
    uint64_t sum = 0;
    prng_seed(&prng, 7);
    for (uint32_t n = 1; n <= count; n++) {
        uint32_t bytes = (uint32_t)sizeof(struct actor) + (uint32_t)prng_below(&prng, bytes_max);
        if (giants && n % 1000 == 0) bytes = ACTOR_BYTES_MAX;
        sum += bytes;
        assert_true(key_sort_add(s, make(n, bytes, &prng)));
    }
    return sum;
}

static void run(uint32_t count, bool giants, uint32_t runs_min, uint32_t runs_max) {
    struct key_sort *s = key_sort_open(1, NULL);
    struct walk w = {0};
    assert_non_null(s);
    uint64_t sum = fill(s, count, 1000, giants);
    if (!key_sort_each(s, walk_visit, &w)) fail_msg("%s", key_sort_error(s));
    assert_true(w.met == count && w.numbers == (uint64_t)count * (count + 1) / 2);
    assert_in_range(key_sort_runs(s), runs_min, runs_max);
    if (runs_min > 0) assert_true(sum > 3 * KEY_SORT_BYTES_MIN);
    /* A giant that is about to be visited has a window of its own. */
    uint64_t room = giants ? runs_max * (uint64_t)ACTOR_BYTES_MAX : 0;
    assert_true(key_sort_bytes(s) <= KEY_SORT_BYTES_MIN + room);
    key_sort_close(s);
}

static void nothing(void **state) { (void)state; run(0, false, 0, 0); }
static void all_in_memory(void **state) { (void)state; run(5000, false, 0, 0); }
static void in_runs(void **state) { (void)state; run(50000, false, 4, 12); }
static void with_giants_in_runs(void **state) { (void)state; run(20000, true, 8, 40); }

static void a_visitor_can_stop(void **state) {
    (void)state;
    for (uint32_t count = 100; count <= 50000; count *= 500) {
        struct key_sort *s = key_sort_open(1, NULL);
        struct walk w = {.stop_at = 50};
        fill(s, count, 1000, false);
        assert_false(key_sort_each(s, walk_visit, &w));
        assert_true(w.met == 50 && key_sort_error(s)[0] == 0);
        key_sort_close(s);
    }
}

static void what_cannot_be_written_is_told(void **state) {
    (void)state;
    struct prng prng;
    struct key_sort *s = key_sort_open(1, "/nowhere/at/all");
    uint32_t n = 0;
    prng_seed(&prng, 7);
    while (key_sort_add(s, make(++n, 1000, &prng))) assert_true(n < 50000);
    assert_true(n > 1000);
    assert_non_null(strstr(key_sort_error(s), "/nowhere/at/all: cannot be made"));
    key_sort_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing),
        cmocka_unit_test(all_in_memory),
        cmocka_unit_test(in_runs),
        cmocka_unit_test(with_giants_in_runs),
        cmocka_unit_test(a_visitor_can_stop),
        cmocka_unit_test(what_cannot_be_written_is_told),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
