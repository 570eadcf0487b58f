/* Keys that come again and again take no more room than those that there are. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "clients/cli/key_set.h"

static void add(struct key_set *s, uint32_t number) {
    uint8_t key[16] = {(uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number, 7};
    assert_true(key_set_add(s, key));
}

static uint32_t number_of(const jumun_key *key) {
    return (uint32_t)key->bytes[0] << 16 | (uint32_t)key->bytes[1] << 8 | key->bytes[2];
}

static void assert_holds(const struct key_set *s, uint32_t count) {
    assert_int_equal(s->count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(number_of(&s->keys[i]), i);
        assert_int_equal(s->keys[i].bytes[3], 7);
    }
}

static void nothing_is_in_an_empty_one(void **state) {
    struct key_set s = {.count = 0};
    key_set_settle(&s);
    assert_int_equal(s.count, 0);
    key_set_free(&s);
}

static void each_is_there_once_and_in_order(void **state) {
    struct key_set s = {.count = 0};
    for (uint32_t i = 0; i < 100000; i++) add(&s, 99999 - i);
    for (uint32_t i = 0; i < 100000; i += 3) add(&s, i);
    key_set_settle(&s);
    assert_holds(&s, 100000);
    add(&s, 5);
    add(&s, 100000);
    key_set_settle(&s);
    assert_holds(&s, 100001);
    key_set_free(&s);
    assert_null(s.keys);
}

static void those_that_come_again_take_no_room(void **state) {
    struct key_set s = {.count = 0};
    const uint32_t different[] = {1, 1000, 1024, 3000};
    for (size_t k = 0; k < sizeof different / sizeof *different; k++) {
        for (uint32_t i = 0; i < 500000; i++) {
            add(&s, i % different[k]);
            assert_true(s.capacity <= 4 * different[k] || s.capacity <= 2048);
        }
        key_set_settle(&s);
        assert_holds(&s, different[k]);
        key_set_free(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_in_an_empty_one),
        cmocka_unit_test(each_is_there_once_and_in_order),
        cmocka_unit_test(those_that_come_again_take_no_room),
    };
    return cmocka_run_group_tests_name("cli_key_set", tests, NULL, NULL);
}
