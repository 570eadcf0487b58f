#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/courier/envelope.h"

static void the_bytes_are_the_documented_ones(void **state) {
    static const uint8_t expected[] = {0x95, 0x00, 0x01, 0x07, 0x01, 0xc4, 0x03, 0x92, 0x01, 0x90};
    const struct envelope e = {.from = 0, .to = 1, .kind = ENVELOPE_MESSAGE, .sequence = 7,
                               .payload = bytes_of("\x92\x01\x90", 3)};
    uint8_t out[64];
    size_t bytes = envelope_encode(&e, out, sizeof out);
    assert_int_equal(bytes, sizeof expected);
    assert_memory_equal(out, expected, sizeof expected);
    assert_true(bytes <= envelope_bytes_max(&e));
}

static void what_is_written_is_read(void **state) {
    static uint8_t payload[70000], out[70100];
    memset(payload, 0xab, sizeof payload);
    static const uint32_t sizes[] = {0, 1, 255, 256, 65535, 65536, 70000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const struct envelope e = {.from = 255, .to = 254, .kind = ENVELOPE_ACKNOWLEDGEMENT,
                                   .sequence = UINT64_MAX, .payload = {payload, sizes[i]}};
        struct envelope got;
        size_t bytes = envelope_encode(&e, out, envelope_bytes_max(&e));
        assert_true(bytes > 0);
        assert_true(envelope_decode(out, bytes, &got));
        assert_int_equal(got.from, 255);
        assert_int_equal(got.to, 254);
        assert_int_equal(got.kind, ENVELOPE_ACKNOWLEDGEMENT);
        assert_true(got.sequence == UINT64_MAX);
        assert_true(bytes_equal(got.payload, e.payload));
    }
}

static void no_room_is_told(void **state) {
    const struct envelope e = {.from = 0, .to = 1, .kind = ENVELOPE_MESSAGE, .sequence = 7,
                               .payload = bytes_of("\x92\x01\x90", 3)};
    uint8_t out[64];
    size_t whole = envelope_encode(&e, out, sizeof out);
    for (size_t room = 0; room < whole; room++) assert_int_equal(envelope_encode(&e, out, room), 0);
}

static void nothing_but_a_whole_envelope_is_read(void **state) {
    const struct envelope e = {.from = 3, .to = 1, .kind = ENVELOPE_MESSAGE, .sequence = 700,
                               .payload = bytes_of("\x92\x01\x90", 3)};
    struct envelope got;
    uint8_t out[64];
    size_t whole = envelope_encode(&e, out, sizeof out);
    for (size_t cut = 0; cut < whole; cut++) assert_false(envelope_decode(out, cut, &got));
    out[whole] = 0;
    assert_false(envelope_decode(out, whole + 1, &got));
    uint8_t kind_of_none[] = {0x95, 0, 1, 7, 3, 0xc4, 0};
    assert_false(envelope_decode(kind_of_none, sizeof kind_of_none, &got));
    kind_of_none[4] = 0;
    assert_false(envelope_decode(kind_of_none, sizeof kind_of_none, &got));
    kind_of_none[4] = 1;
    assert_true(envelope_decode(kind_of_none, sizeof kind_of_none, &got));
    kind_of_none[0] = 0x94;
    assert_false(envelope_decode(kind_of_none, sizeof kind_of_none, &got));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_the_documented_ones),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(no_room_is_told),
        cmocka_unit_test(nothing_but_a_whole_envelope_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
