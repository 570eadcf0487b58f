#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "clients/cli/input.h"

static struct input in;
static char why[256];

static void open_text(const char *text) {
    assert_true(input_open_memory(&in, text, strlen(text)));
}

static int close_input(void **state) {
    (void)state;
    input_close(&in);
    return 0;
}

static void expect_row(uint64_t line, uint32_t count, const char *const *fields) {
    assert_int_equal(input_csv_row(&in, why, sizeof why), INPUT_ROW);
    assert_int_equal(in.line, line);
    assert_int_equal(in.fields_count, count);
    for (uint32_t i = 0; i < count; i++) assert_string_equal(in.fields[i], fields[i]);
}
#define ROW(line, ...)                                                                             \
    expect_row(line, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *),                       \
               (const char *const[]){__VA_ARGS__})

static void expect_end(void) {
    assert_int_equal(input_csv_row(&in, why, sizeof why), INPUT_END);
}

static void expect_bad(const char *sentence) {
    assert_int_equal(input_csv_row(&in, why, sizeof why), INPUT_BAD);
    assert_string_equal(why, sentence);
}

static void test_plain_rows(void **state) {
    (void)state;
    open_text("a,b,c\n1,,3\r\n\n\r\nlast,row,");
    ROW(1, "a", "b", "c");
    ROW(2, "1", "", "3");
    ROW(5, "last", "row", "");
    expect_end();
    expect_end();
}

static void test_quotes_hold_commas_quotes_and_breaks(void **state) {
    (void)state;
    open_text("\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\"\nnext,\"\",x\"y\n");
    ROW(1, "a,b", "say \"hi\"", "two\nlines");
    ROW(3, "next", "", "x\"y");
    expect_end();
}

static void test_a_byte_order_mark_is_skipped(void **state) {
    (void)state;
    open_text("\xef\xbb\xbfkey,store\n");
    ROW(1, "key", "store");
    expect_end();
}

static void test_bad_rows_are_named_and_left_behind(void **state) {
    (void)state;
    open_text("a,b\n\"x\"y,z\ngood,row\n\"never closed\n1,2\n");
    ROW(1, "a", "b");
    expect_bad("text: line 2: something follows the closing quote of a field");
    ROW(3, "good", "row");
    expect_bad("text: line 4: a quoted field is not closed");
    expect_end();
}

static void test_too_many_fields(void **state) {
    (void)state;
    char text[256] = "";
    memset(text, ',', INPUT_FIELDS_MAX);
    strncat(text, "\nok\n", 8);
    open_text(text);
    expect_bad("text: line 1: the row has more than 64 fields");
    ROW(2, "ok");
}

static void test_a_zero_byte_is_refused(void **state) {
    (void)state;
    static const char text[] = "a\0b,c\nd,e\n";
    assert_true(input_open_memory(&in, text, sizeof text - 1));
    expect_bad("text: line 1: a zero byte stands in the text");
    ROW(2, "d", "e");
}

static void test_a_long_row_grows_and_has_an_end(void **state) {
    (void)state;
    size_t size = INPUT_ROW_BYTES_MAX + 10;
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, 'x', size);
    memcpy(text + 100000, "\n", 1);
    memcpy(text + size - 3, "\nz\n", 3);
    text[size] = 0;
    assert_true(input_open_memory(&in, text, size));
    assert_int_equal(input_csv_row(&in, why, sizeof why), INPUT_ROW);
    assert_int_equal(strlen(in.fields[0]), 100000);
    memset(text, 'x', size - 3);
    input_close(&in);
    assert_true(input_open_memory(&in, text, size));
    expect_bad("text: line 1: the row is over 4 MiB");
    ROW(2, "z");
    free(text);
}

static void test_lines_and_the_rest(void **state) {
    (void)state;
    open_text("{\"a\":1}\r\n\n{\"b\":2}\nleft\nover");
    assert_int_equal(input_text_line(&in, why, sizeof why), INPUT_ROW);
    assert_string_equal(in.row, "{\"a\":1}");
    assert_int_equal(input_text_line(&in, why, sizeof why), INPUT_ROW);
    assert_string_equal(in.row, "{\"b\":2}");
    assert_int_equal(in.line, 3);
    assert_int_equal(input_rest(&in, why, sizeof why), INPUT_ROW);
    assert_string_equal(in.row, "left\nover");
    assert_int_equal(in.row_used, 9);
    assert_int_equal(input_rest(&in, why, sizeof why), INPUT_END);
}

static void write_gzip(const char *path, const char *text) {
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, text, (unsigned)strlen(text)), strlen(text));
    assert_int_equal(gzclose(file), Z_OK);
}

static void test_gzip_is_read_and_a_cut_one_is_named(void **state) {
    (void)state;
    char path[] = "/tmp/test_input_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_gzip(path, "a,b\n1,2\n");
    assert_true(input_open(&in, path, why, sizeof why));
    ROW(1, "a", "b");
    ROW(2, "1", "2");
    expect_end();
    assert_true(input_share(&in) > 0.99);
    input_close(&in);

    assert_int_equal(truncate(path, 14), 0);
    assert_true(input_open(&in, path, why, sizeof why));
    enum input_result got = INPUT_ROW;
    for (int i = 0; i < 4 && got == INPUT_ROW; i++) got = input_csv_row(&in, why, sizeof why);
    assert_int_equal(got, INPUT_BAD);
    assert_true(in.failed);
    assert_non_null(strstr(why, "cannot be read on from here"));
    unlink(path);
}

static void test_files_that_are_not_there(void **state) {
    (void)state;
    assert_false(input_open(&in, "/nowhere/orders.csv", why, sizeof why));
    assert_string_equal(why, "/nowhere/orders.csv: No such file or directory");
    assert_false(input_open(&in, "/tmp", why, sizeof why));
    assert_string_equal(why, "/tmp: is a directory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_plain_rows, close_input),
        cmocka_unit_test_teardown(test_quotes_hold_commas_quotes_and_breaks, close_input),
        cmocka_unit_test_teardown(test_a_byte_order_mark_is_skipped, close_input),
        cmocka_unit_test_teardown(test_bad_rows_are_named_and_left_behind, close_input),
        cmocka_unit_test_teardown(test_too_many_fields, close_input),
        cmocka_unit_test_teardown(test_a_zero_byte_is_refused, close_input),
        cmocka_unit_test_teardown(test_a_long_row_grows_and_has_an_end, close_input),
        cmocka_unit_test_teardown(test_lines_and_the_rest, close_input),
        cmocka_unit_test_teardown(test_gzip_is_read_and_a_cut_one_is_named, close_input),
        cmocka_unit_test_teardown(test_files_that_are_not_there, close_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
