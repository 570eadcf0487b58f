#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/directory.h"
#include "engine/base/hex.h"

static void what_is_no_directory_says_why(void **state) {
    char path[] = "/tmp/jumun-directory-XXXXXX", file[64];
    (void)state;
    assert_non_null(mkdtemp(path));
    assert_int_equal(directory_sync(path), 0);
    snprintf(file, sizeof file, "%s/file", path);
    FILE *made = fopen(file, "w");
    assert_non_null(made);
    assert_int_equal(fclose(made), 0);
    assert_int_equal(directory_sync(file), ENOTDIR);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(directory_sync(file), ENOENT);
    assert_int_equal(rmdir(path), 0);
}

static void hex_has_two_digits_a_byte(void **state) {
    static const uint8_t data[] = {0x00, 0x0f, 0xf0, 0x9a, 0xff};
    char text[] = "????????????";
    (void)state;
    hex_format(data, sizeof data, text);
    assert_string_equal(text, "000ff09aff");
    assert_int_equal(text[11], '?');
    hex_format(NULL, 0, text);
    assert_string_equal(text, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_directory_says_why),
        cmocka_unit_test(hex_has_two_digits_a_byte),
    };
    return cmocka_run_group_tests_name("directory", tests, NULL, NULL);
}
