#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/ulid.h"

static void the_spec_example_and_the_bounds(void **state) {
    static const struct { const char *text; struct id128 id; } known[] = {
        {"00000000000000000000000000", {{0}}},
        {"7ZZZZZZZZZZZZZZZZZZZZZZZZZ", {{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                         255, 255, 255, 255}}},
        {"00000000000000000000000001", {{[15] = 1}}},
        {"01ARZ3NDEKTSV4RRFFQ69G5FAV", {{0x01, 0x56, 0x3e, 0x3a, 0xb5, 0xd3, 0xd6, 0x76, 0x4c, 0x61,
                                         0xef, 0xb9, 0x93, 0x02, 0xbd, 0x5b}}}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char text[ULID_TEXT_SIZE + 1];
        ulid_format(&known[i].id, text);
        assert_string_equal(text, known[i].text);
        struct id128 id = {{9}};
        assert_true(ulid_parse(known[i].text, 26, &id));
        assert_memory_equal(&id, &known[i].id, 16);
    }
}

static void every_bit_survives(void **state) {
    for (int bit = 0; bit < 128; bit++) {
        struct id128 id = {{0}}, back;
        id.bytes[bit / 8] = (uint8_t)(1 << bit % 8);
        char text[ULID_TEXT_SIZE + 1];
        ulid_format(&id, text);
        assert_true(ulid_parse(text, 26, &back));
        assert_memory_equal(&id, &back, 16);
    }
}

static void case_and_look_alikes_are_forgiven(void **state) {
    struct id128 a, b;
    assert_true(ulid_parse("01arz3ndektsv4rrffq69g5fav", 26, &a));
    assert_true(ulid_parse("O1ARZ3NDEKTSV4RRFFQ69G5FAV", 26, &b));
    assert_true(id128_equal(&a, &b));
    assert_true(ulid_parse("oIARZ3NDEKTSV4RRFFQ69G5FAV", 26, &b));
    assert_true(id128_equal(&a, &b));
    assert_true(ulid_parse("0lARZ3NDEKTSV4RRFFQ69G5FAV", 26, &b));
    assert_true(id128_equal(&a, &b));
}

static void anything_else_is_refused_and_leaves_the_id(void **state) {
    static const char *const wrong[] = {
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "ZZZZZZZZZZZZZZZZZZZZZZZZZZ", "0000000000000000000000000U",
        "0000000000000000000000000u", "000000000000-0000000000000", "0000000000000000000000000 ",
        "0000000000000000000000000",  "000000000000000000000000000", "",
        "0000000000000000000000000\xff"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct id128 id = {{7}}, before = id;
        assert_false(ulid_parse(wrong[i], strlen(wrong[i]), &id));
        assert_memory_equal(&id, &before, 16);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_spec_example_and_the_bounds),
        cmocka_unit_test(every_bit_survives),
        cmocka_unit_test(case_and_look_alikes_are_forgiven),
        cmocka_unit_test(anything_else_is_refused_and_leaves_the_id),
    };
    return cmocka_run_group_tests_name("ulid", tests, NULL, NULL);
}
