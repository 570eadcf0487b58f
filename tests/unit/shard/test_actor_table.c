/* The table against a naive model: random additions, removals and look-ups, through many
 * growths. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/shard/timer_heap.h"

static uint64_t random_state = 42;
static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static struct id128 key_of(uint32_t n) {
    struct id128 key = {{0}};
    /* Low-entropy keys on purpose: a caller may number its orders. */
    memcpy(key.bytes + 12, &n, 4);
    return key;
}

enum { KEYS = 60000 };

static void test_table_agrees_with_a_model(void **state) {
    (void)state;
    struct shard_memory memory = {0};
    struct actor_table t;
    assert_true(actor_table_init(&t, &memory));
    uint32_t *slots = calloc(KEYS, sizeof *slots);
    uint32_t live = 0;
    for (int i = 0; i < 400000; i++) {
        uint32_t n = (uint32_t)(random_next() % KEYS);
        struct id128 key = key_of(n);
        assert_int_equal(actor_table_find(&t, ACTOR_ORDER, &key), slots[n]);
        bool grow = i < 200000;
        if (slots[n] == SLOT_NONE && (grow || random_next() % 4 == 0)) {
            slots[n] = actor_table_add(&t, ACTOR_ORDER, &key, 64 + n % 500);
            assert_int_not_equal(slots[n], SLOT_NONE);
            live++;
        } else if (slots[n] != SLOT_NONE && (!grow || random_next() % 8 == 0)) {
            actor_table_remove(&t, slots[n]);
            slots[n] = SLOT_NONE;
            live--;
        }
        assert_int_equal(t.count[ACTOR_ORDER], live);
    }
    for (uint32_t n = 0; n < KEYS; n++) {
        struct id128 key = key_of(n);
        assert_int_equal(actor_table_find(&t, ACTOR_ORDER, &key), slots[n]);
        assert_int_equal(actor_table_find(&t, ACTOR_STORE, &key), SLOT_NONE);
        if (slots[n] != SLOT_NONE) actor_table_remove(&t, slots[n]);
    }
    assert_int_equal(memory.actor_bytes, 0);
    actor_table_fini(&t);
    assert_int_equal(memory.table_bytes, 0);
    free(slots);
}

static void test_blocks_keep_their_bytes_when_they_grow(void **state) {
    (void)state;
    struct shard_memory memory = {0};
    struct actor_table t;
    assert_true(actor_table_init(&t, &memory));
    struct id128 key = key_of(7);
    uint32_t n = actor_table_add(&t, ACTOR_STORE, &key, sizeof(struct actor));
    struct slot *slot = actor_table_slot(&t, n);
    assert_true(actor_table_reserve(&t, slot, 100));
    memset((uint8_t *)slot->block + sizeof(struct actor), 0x5a, 100 - sizeof(struct actor));
    slot->block->bytes = 100;
    assert_true(actor_table_reserve(&t, slot, 100000));
    assert_true(slot->capacity >= 100000);
    const uint8_t *b = (const uint8_t *)slot->block;
    for (uint32_t i = sizeof(struct actor); i < 100; i++) assert_int_equal(b[i], 0x5a);
    for (uint32_t i = 100; i < slot->capacity; i++) assert_int_equal(b[i], 0);
    assert_int_equal(memory.actor_bytes, slot->capacity);
    actor_table_fini(&t);
    assert_int_equal(memory.actor_bytes, 0);
}

static void test_every_failing_allocation_leaves_the_table_whole(void **state) {
    (void)state;
    for (uint64_t nth = 1; nth <= 40; nth++) {
        struct shard_memory memory = {0};
        struct actor_table t;
        assert_true(actor_table_init(&t, &memory));
        memory.fail_countdown = nth;
        uint32_t added = 0, failed = 0;
        for (uint32_t n = 0; n < 5000; n++) {
            struct id128 key = key_of(n);
            if (actor_table_add(&t, ACTOR_ORDER, &key, 64) == SLOT_NONE) {
                failed++;
                assert_int_equal(actor_table_find(&t, ACTOR_ORDER, &key), SLOT_NONE);
            } else {
                added++;
            }
        }
        assert_int_equal(failed, 1);
        assert_int_equal(t.count[ACTOR_ORDER], added);
        for (uint32_t n = 0, found = 0; n < 5000; n++) {
            struct id128 key = key_of(n);
            found += actor_table_find(&t, ACTOR_ORDER, &key) != SLOT_NONE;
            if (n == 4999) assert_int_equal(found, added);
        }
        actor_table_fini(&t);
        assert_int_equal(memory.actor_bytes + memory.table_bytes, 0);
    }
}

static void test_heap_gives_deadlines_in_order(void **state) {
    (void)state;
    struct shard_memory memory = {0};
    struct actor_table t;
    struct timer_heap h;
    assert_true(actor_table_init(&t, &memory));
    timer_heap_init(&h, &t);
    enum { TIMERS = 3000 };
    static int64_t model[TIMERS + 1];
    static uint32_t slots[TIMERS + 1];
    for (uint32_t n = 1; n <= TIMERS; n++) {
        struct id128 key = key_of(n);
        slots[n] = actor_table_add(&t, ACTOR_ORDER, &key, 64);
        assert_int_equal(slots[n], n);
    }
    for (int i = 0; i < 60000; i++) {
        uint32_t n = 1 + (uint32_t)(random_next() % TIMERS);
        model[n] = random_next() % 3 == 0 ? 0 : 1 + (int64_t)(random_next() % 1000);
        assert_true(timer_heap_reserve(&h));
        timer_heap_set(&h, n, model[n]);
        if (i % 500) continue;
        int64_t first = 0;
        uint32_t slot = 0;
        for (uint32_t m = 1; m <= TIMERS; m++)
            if (model[m] && (!first || model[m] < first)) first = model[m];
        assert_int_equal(timer_heap_first(&h, &slot), first);
        if (first) assert_int_equal(model[slot], first);
    }
    int64_t last = 0, due;
    uint32_t slot;
    while ((due = timer_heap_first(&h, &slot))) {
        assert_true(due >= last);
        assert_int_equal(model[slot], due);
        timer_heap_set(&h, slot, 0);
        model[slot] = 0;
        last = due;
    }
    for (uint32_t n = 1; n <= TIMERS; n++) assert_int_equal(model[n], 0);
    timer_heap_fini(&h);
    actor_table_fini(&t);
    assert_int_equal(memory.table_bytes, 0);
}

static void test_a_heap_built_at_once_gives_deadlines_in_order(void **state) {
    (void)state;
    struct shard_memory memory = {0};
    struct actor_table t;
    struct timer_heap h;
    assert_true(actor_table_init(&t, &memory));
    timer_heap_init(&h, &t);
    assert_true(timer_heap_build(&h));
    uint32_t slot, set = 0;
    assert_int_equal(timer_heap_first(&h, &slot), 0);
    enum { ACTORS = 3000 };
    static int64_t model[ACTORS + 1];
    for (uint32_t n = 1; n <= ACTORS; n++) {
        struct id128 key = key_of(n);
        uint8_t kind = n % 5 == 0 ? ACTOR_STORE : ACTOR_ORDER;
        assert_int_equal(actor_table_add(&t, kind, &key, 64), n);
        if (kind == ACTOR_STORE || n % 7 == 0) continue; /* no deadline */
        model[n] = 1 + (int64_t)(random_next() % 1000);
        actor_table_slot(&t, n)->block->next_deadline_ms = model[n];
        set++;
    }
    uint64_t bytes = memory.table_bytes;
    memory.fail_countdown = 1;
    assert_false(timer_heap_build(&h)); /* has to grow */
    assert_int_equal(memory.table_bytes, bytes);
    assert_int_equal(timer_heap_first(&h, &slot), 0);
    assert_true(timer_heap_build(&h));
    assert_int_equal(h.count, set);
    for (uint32_t n = 1; n <= ACTORS; n += 3) { /* a slot knows its place */
        if (model[n] == 0) continue;
        model[n] = 1 + (int64_t)(random_next() % 2000);
        timer_heap_set(&h, n, model[n]);
    }
    int64_t last = 0, due;
    while ((due = timer_heap_first(&h, &slot))) {
        assert_true(due >= last);
        assert_int_equal(model[slot], due);
        timer_heap_set(&h, slot, 0);
        last = due;
        set--;
    }
    assert_int_equal(set, 0);
    timer_heap_fini(&h);
    actor_table_fini(&t);
    assert_int_equal(memory.table_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_agrees_with_a_model),
        cmocka_unit_test(test_blocks_keep_their_bytes_when_they_grow),
        cmocka_unit_test(test_every_failing_allocation_leaves_the_table_whole),
        cmocka_unit_test(test_heap_gives_deadlines_in_order),
        cmocka_unit_test(test_a_heap_built_at_once_gives_deadlines_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
