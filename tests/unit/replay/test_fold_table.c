/* The table of a fold against a plain array, with room for everything and with hardly any. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clients/replay/fold_table.h"
#include "engine/base/prng.h"

enum { KEYS = 3000, STEPS = 60000 };

struct twin { bool there, marked; uint32_t bytes; uint8_t fill; int64_t entered_ms; };

static struct id128 key_of(uint32_t n) {
    struct id128 key = {{0}};
    /* Many share their last bytes, so that tags meet. */
    key.bytes[0] = (uint8_t)n;
    key.bytes[1] = (uint8_t)(n >> 8);
    key.bytes[15] = (uint8_t)(n % 97);
    return key;
}

static void fill_block(struct fold_block *b, struct twin *t, uint32_t bytes, uint8_t fill) {
    b->actor.bytes = bytes;
    memset((uint8_t *)&b->actor + sizeof b->actor, fill, bytes - sizeof b->actor);
    b->entered_ms = fill;
    *t = (struct twin){true, t->there && t->marked, bytes, fill, fill};
}

static void expect_block(const struct fold_block *b, const struct twin *t) {
    assert_non_null(b);
    assert_int_equal(b->actor.bytes, t->bytes);
    assert_int_equal(b->entered_ms, t->entered_ms);
    const uint8_t *bytes = (const uint8_t *)&b->actor;
    for (uint32_t i = sizeof b->actor; i < t->bytes; i += 13) assert_int_equal(bytes[i], t->fill);
}

struct walk { const struct twin *twins; uint32_t met; };

static bool walk_visit(void *arg, const struct fold_block *b) {
    struct walk *w = arg;
    uint32_t n = b->actor.key.bytes[0] | (uint32_t)b->actor.key.bytes[1] << 8;
    assert_true(w->twins[n].there);
    expect_block(b, &w->twins[n]);
    assert_int_equal((b->flags & FOLD_MARKED) != 0, w->twins[n].marked);
    w->met++;
    return true;
}

/* The next keys, foreseen some steps before their turn while the table changes. */
enum { AHEAD = 8 };
struct ahead { uint32_t n; struct fold_hint hint; };

static void ahead_choose(struct ahead *a, const struct fold_table *t, struct prng *prng) {
    a->n = (uint32_t)prng_below(prng, KEYS);
    struct id128 key = key_of(a->n);
    fold_table_foresee(t, &key, &a->hint);
    fold_table_foresee_entry(t, &a->hint);
}

/* What was foreseen is what is there. */
static struct fold_block *ahead_get(struct fold_table *t, const struct ahead *a) {
    struct id128 key = key_of(a->n);
    struct fold_block *b = fold_table_get_foreseen(t, &key, &a->hint);
    assert_ptr_equal(b, fold_table_get(t, &key));
    return b;
}

static void run(uint64_t memory_bytes_max) {
    struct prng prng;
    struct ahead ahead[AHEAD];
    prng_seed(&prng, 7);
    struct twin *twins = calloc(KEYS, sizeof *twins);
    struct fold_table *t = fold_table_open(memory_bytes_max, NULL);
    uint32_t count = 0;
    for (uint32_t i = 0; i < AHEAD; i++) ahead_choose(&ahead[i], t, &prng);
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t n = ahead[step % AHEAD].n;
        uint32_t bytes = 48 + (uint32_t)prng_below(&prng, 900);
        if (n % 301 == 0) bytes += 7000 + (uint32_t)prng_below(&prng, 90000); /* large ones */
        uint32_t choice = (uint32_t)prng_below(&prng, 10);
        struct id128 key = key_of(n);
        struct fold_block *b = ahead_get(t, &ahead[step % AHEAD]);
        assert_int_equal(b != NULL, twins[n].there);
        if (b) expect_block(b, &twins[n]);
        if (!b) {
            b = fold_table_add(t, &key, bytes);
            fill_block(b, &twins[n], bytes, (uint8_t)step);
            count++;
        } else if (choice == 0) {
            fold_table_remove(t, &key);
            twins[n] = (struct twin){.there = false};
            count--;
        } else if (choice == 1) {
            assert_true(fold_table_mark(t, &key));
            twins[n].marked = true;
        } else if (choice < 7) {
            b = fold_table_reserve(t, b, bytes);
            fill_block(b, &twins[n], bytes, (uint8_t)step);
        }
        ahead_choose(&ahead[step % AHEAD], t, &prng);
        fold_table_foresee_block(t, &ahead[(step + AHEAD / 2) % AHEAD].hint);
        fold_table_trim(t);
        assert_int_equal(fold_table_count(t), count);
    }
    struct walk w = {twins, 0};
    assert_true(fold_table_each(t, walk_visit, &w));
    assert_int_equal(w.met, count);
    assert_string_equal(fold_table_error(t), "");
    assert_int_equal(fold_table_spilled(t) > 0, memory_bytes_max != 0);
    /* What changed, ten times as much, went to where it had been. */
    assert_true(fold_table_scratch(t) < 2 * KEYS * 1024);
    if (memory_bytes_max) assert_true(fold_table_spilled(t) > 5 * KEYS);
    fold_table_close(t);
    free(twins);
}

static void test_in_memory(void **state) {
    (void)state;
    run(0);
}

static void test_mostly_in_the_file(void **state) {
    (void)state;
    run(64 << 10);
}

static void test_scratch_that_is_not_there(void **state) {
    (void)state;
    struct fold_table *t = fold_table_open(1, "/nowhere/at/all");
    for (uint32_t n = 0; n < 8; n++) {
        struct id128 key = key_of(n);
        struct fold_block *b = fold_table_add(t, &key, 64);
        b->actor.bytes = 64;
        fold_table_trim(t);
        fold_table_trim(t);
    }
    assert_true(fold_table_error(t)[0] != 0);
    assert_int_equal(fold_table_count(t), 8); /* nothing is lost over it */
    fold_table_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_memory),
        cmocka_unit_test(test_mostly_in_the_file),
        cmocka_unit_test(test_scratch_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
