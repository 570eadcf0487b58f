#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/table.h"

static char *printed;

static void print(struct table *t, int indent) {
    size_t bytes = 0;
    FILE *out = open_memstream(&printed, &bytes);
    assert_non_null(out);
    table_print(t, out, indent);
    fclose(out);
    table_delete(t);
}

static int teardown(void **state) {
    (void)state;
    free(printed);
    printed = NULL;
    return 0;
}

static void test_columns_are_aligned(void **state) {
    (void)state;
    struct table *t = table_new("lrl", false);
    table_heading(t);
    table_cell(t, NULL, "name");
    table_cell(t, NULL, "n");
    table_cell(t, NULL, "note");
    table_cell(t, "1", "주문");
    table_cell(t, NULL, "%d", 1234);
    table_cell(t, NULL, "%s", "");
    table_cell(t, NULL, "b");
    table_row_end(t);
    print(t, 2);
    /* Wide characters take two columns, and no line ends in blanks. */
    assert_string_equal(printed, "  name     n  note\n"
                                 "  주문  1234\n"
                                 "  b\n");
}

static void test_colours_are_asked_for(void **state) {
    (void)state;
    struct table *t = table_new("ll", true);
    table_cell(t, "31", "a");
    table_cell(t, NULL, "b");
    print(t, 0);
    assert_string_equal(printed, "\x1b[31ma\x1b[0m  b\n");
}

static void test_the_last_column_wraps_under_itself(void **state) {
    (void)state;
    struct table *t = table_new("ll", false);
    table_wrap(t, 34);
    table_cell(t, NULL, "1");
    table_cell(t, NULL, "eight words of text which go on here");
    print(t, 0);
    assert_string_equal(printed, "1  eight words of text which go on\n"
                                 "   here\n");
}

static void test_a_narrow_rest_begins_at_the_left(void **state) {
    (void)state;
    struct table *t = table_new("ll", false);
    table_wrap(t, 30);
    table_cell(t, NULL, "twenty columns wide.");
    table_cell(t, NULL, "and words that follow it");
    print(t, 0);
    assert_string_equal(printed, "twenty columns wide.  and\n"
                                 "    words that follow it\n");
}

static void test_cells_cannot_steer_the_terminal(void **state) {
    (void)state;
    struct table *t = table_new("l", false);
    table_cell(t, NULL, "%s", "a\x1b[31m\n");
    print(t, 0);
    assert_string_equal(printed, "a?[31m?\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_columns_are_aligned, teardown),
        cmocka_unit_test_teardown(test_colours_are_asked_for, teardown),
        cmocka_unit_test_teardown(test_the_last_column_wraps_under_itself, teardown),
        cmocka_unit_test_teardown(test_a_narrow_rest_begins_at_the_left, teardown),
        cmocka_unit_test_teardown(test_cells_cannot_steer_the_terminal, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
