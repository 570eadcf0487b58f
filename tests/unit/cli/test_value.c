#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "clients/cli/value.h"

static msgpack_unpacked unpacked;

static const msgpack_object *unpack(const char *bytes, size_t size) {
    size_t offset = 0;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, bytes, size, &offset), MSGPACK_UNPACK_SUCCESS);
    return &unpacked.data;
}

static int teardown(void **state) {
    (void)state;
    msgpack_unpacked_destroy(&unpacked);
    return 0;
}

static void test_fields_by_name_and_path(void **state) {
    (void)state;
    /* {"a": {"b": 7, "t": "x\x1b"}, "n": -1, "ok": true} */
    static const char bytes[] = "\x83\xa1"
                                "a\x82\xa1"
                                "b\x07\xa1t\xa2x\x1b\xa1n\xff\xa2ok\xc3";
    const msgpack_object *v = unpack(bytes, sizeof bytes - 1);
    char text[16];
    assert_int_equal(value_int(v, "a.b", 0), 7);
    assert_int_equal(value_int(v, "n", 0), -1);
    assert_true(value_bool(v, "ok", false));
    assert_string_equal(value_text(v, "a.t", text, sizeof text), "x?");
    assert_int_equal(value_number(v, "a.b", 0), 7);
}

/* Answers of other versions: what is not there, or is something else, reads as the fallback. */
static void test_what_is_missing_reads_as_the_fallback(void **state) {
    (void)state;
    static const char bytes[] = "\x81\xa1"
                                "a\xa1x";
    const msgpack_object *v = unpack(bytes, sizeof bytes - 1);
    char text[16];
    assert_int_equal(value_int(v, "a", 5), 5);
    assert_int_equal(value_int(v, "a.b.c", 6), 6);
    assert_int_equal(value_int(NULL, "a", 7), 7);
    assert_string_equal(value_text(v, "zz", text, sizeof text), "");
    assert_int_equal(value_count(value_at(v, "a")), 0);
    assert_null(value_item(v, 0));
}

static void test_json_shows_keys_and_binary(void **state) {
    (void)state;
    static const char bytes[] = "\x82\xa1k\xc4\x10"
                                "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
                                "\xa1z\xc4\x02\xab\xcd";
    json_t *json = value_to_json(unpack(bytes, sizeof bytes - 1));
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text,
                        "{\"k\":\"00000000000000000000000001\",\"z\":{\"hex\":\"abcd\"}}");
    free(text);
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_fields_by_name_and_path, teardown),
        cmocka_unit_test_teardown(test_what_is_missing_reads_as_the_fallback, teardown),
        cmocka_unit_test_teardown(test_json_shows_keys_and_binary, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
