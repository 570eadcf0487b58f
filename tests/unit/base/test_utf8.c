#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/utf8.h"

/* Encodes as the arithmetic says, surrogates included. */
static size_t encode(uint32_t c, uint8_t out[4]) {
    if (c < 0x80) { out[0] = (uint8_t)c; return 1; }
    size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)((0xf00 >> size) | c);
    return size;
}

/* Apart, so that the compiler does not fold a size in and warn of bytes that are never read. */
__attribute__((noinline)) static bool is_valid(const uint8_t *text, size_t size) {
    return utf8_is_valid(text, size);
}

static void every_code_point_is_judged_right(void **state) {
    for (uint32_t c = 0; c < 0x120000; c++) {
        uint8_t text[4];
        size_t size = encode(c, text);
        bool valid = c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
        if (is_valid(text, size) != valid) fail_msg("U+%04X is judged wrong", c);
        if (size > 1 && is_valid(text, size - 1)) fail_msg("half of U+%04X is valid", c);
    }
}

static void every_two_byte_sequence_is_judged_right(void **state) {
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            uint8_t text[2] = {(uint8_t)a, (uint8_t)b};
            bool valid = (a < 0x80 && b < 0x80) ||
                         (a >= 0xc2 && a <= 0xdf && b >= 0x80 && b <= 0xbf);
            assert_int_equal(utf8_is_valid(text, 2), valid);
        }
    }
}

static void a_fault_is_found_at_every_place(void **state) {
    uint8_t text[40];
    for (size_t size = 1; size <= sizeof text; size++) {
        memset(text, 'a', sizeof text);
        assert_true(utf8_is_valid(text, size));
        for (size_t at = 0; at < size; at++) {
            text[at] = 0xff;
            assert_false(utf8_is_valid(text, size));
            text[at] = 'a';
        }
    }
    assert_true(utf8_is_valid(NULL, 0));
    assert_true(utf8_is_valid("주문 접수 완료", strlen("주문 접수 완료")));
    assert_false(utf8_is_valid("\xc0\x80", 2));
    assert_false(utf8_is_valid("\xe0\x80\x80", 3));
    assert_false(utf8_is_valid("\xf0\x80\x80\x80", 4));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_judged_right),
        cmocka_unit_test(every_two_byte_sequence_is_judged_right),
        cmocka_unit_test(a_fault_is_found_at_every_place),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
