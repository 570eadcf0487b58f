#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/demo/plan.h"

#define HOUR 3600000LL
#define DAY (24 * HOUR)

static char path[64];
static struct retail retail;
static struct plan plan;
static char why[256];

static bool read_rows(const char *rows) {
    snprintf(path, sizeof path, "/tmp/test_plan_XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    fprintf(file, "order_id,customer_id,country,kind,items,total_cents,placed_ms,"
                  "cancels_order_id\n%s", rows);
    fclose(file);
    bool read = retail_read(&retail, path, 0, why, sizeof why);
    unlink(path);
    return read;
}

static void make(const char *rows) {
    assert_true(read_rows(rows));
    assert_true(plan_make(&plan, &retail));
}

static int teardown(void **state) {
    (void)state;
    plan_free(&plan);
    retail_free(&retail);
    return 0;
}

/* The kinds of the steps of one order, as letters. */
static const char *life(uint32_t order) {
    static char letters[64];
    static const char of_kind[] = {[JUMUN_PLACE] = 'P', [JUMUN_PAY] = '$', [JUMUN_ACCEPT] = 'A',
                                   [JUMUN_REJECT] = 'X', [JUMUN_MARK_READY] = 'R',
                                   [JUMUN_PICK_UP] = 'U', [JUMUN_DELIVER] = 'D',
                                   [JUMUN_COMPLETE] = 'C', [JUMUN_CANCEL] = '-',
                                   [JUMUN_REFUND] = 'B'};
    size_t used = 0;
    for (uint32_t i = 0; i < plan.steps_count; i++) {
        if (plan.steps[i].order == order) letters[used++] = of_kind[plan.steps[i].kind];
    }
    letters[used] = 0;
    return letters;
}

static const struct plan_step *step(uint32_t order, uint8_t kind, uint32_t nth) {
    for (uint32_t i = 0; i < plan.steps_count; i++) {
        const struct plan_step *s = &plan.steps[i];
        if (s->order == order && s->kind == kind && nth-- == 0) return s;
    }
    fail_msg("order %u has no such step", order);
    return NULL;
}

#define FAR "9,,UK,adjust,B:1:1,1,99999999999,\n" /* so that the data ends late */

static void test_lines_match_by_code_price_and_what_is_left(void **state) {
    (void)state;
    const jumun_line lines[] = {{"a", 5, 100, NULL}, {"b", 2, 50, NULL}, {"a", 3, 90, NULL}};
    int64_t left[] = {5, 2, 3}, rest;
    jumun_line_cancellation out[3];
    const jumun_line same_price = {"a", -2, 90, NULL};
    assert_int_equal(plan_match_line(lines, 3, left, &same_price, out, &rest), 1);
    assert_int_equal(out[0].line, 2);
    assert_int_equal(out[0].quantity, 2);
    assert_int_equal(left[2], 1);
    assert_int_equal(rest, 0);
    const jumun_line over_two_lines = {"a", -6, 90, NULL};
    assert_int_equal(plan_match_line(lines, 3, left, &over_two_lines, out, &rest), 2);
    assert_int_equal(out[0].line, 2);
    assert_int_equal(out[0].quantity, 1);
    assert_int_equal(out[1].line, 0);
    assert_int_equal(out[1].quantity, 5);
    assert_int_equal(rest, 0);
    const jumun_line too_much = {"b", -3, 50, NULL};
    assert_int_equal(plan_match_line(lines, 3, left, &too_much, out, &rest), 1);
    assert_int_equal(out[0].quantity, 2);
    assert_int_equal(rest, 1);
    const jumun_line unknown = {"z", -1, 1, NULL};
    assert_int_equal(plan_match_line(lines, 3, left, &unknown, out, &rest), 0);
    assert_int_equal(rest, 1);
}

static void test_a_sale_lives_its_life(void **state) {
    (void)state;
    make("536365,17850,United Kingdom,sale,A:2:100;B:1:50,250,1000,\n" FAR);
    assert_string_equal(life(0), "P$ARUDC");
    assert_int_equal(step(0, JUMUN_PAY, 0)->amount, 250);
    assert_int_equal(step(0, JUMUN_DELIVER, 0)->at_ms, 1000 + 5 * DAY);
    assert_string_equal(plan.orders[0].invoice->customer, "17850");
}

static void test_nothing_is_played_behind_the_end_of_the_data(void **state) {
    (void)state;
    make("536365,,UK,sale,A:2:100,200,1000,\n536366,,UK,sale,A:1:100,100,90000000,\n");
    assert_string_equal(life(0), "P$AR"); /* the data ends a day after it */
    assert_string_equal(life(1), "P$");
}

static void test_a_sale_without_money_is_not_paid(void **state) {
    (void)state;
    make("536365,,UK,sale,A:2:0,0,1000,\n" FAR);
    assert_string_equal(life(0), "PARUDC");
}

static void test_a_partial_cancel_refunds_what_it_matches(void **state) {
    (void)state;
    make("536365,,UK,sale,A:2:100;B:3:50,350,1000,\nC1,,UK,cancel,B:-2:50,-100,2000,536365\n" FAR);
    assert_string_equal(life(0), "P$-BARUDC");
    const struct plan_step *cancel = step(0, JUMUN_CANCEL, 0);
    assert_int_equal(cancel->lines_count, 1);
    assert_int_equal(plan.lines[cancel->lines_first].line, 1);
    assert_int_equal(plan.lines[cancel->lines_first].quantity, 2);
    assert_int_equal(cancel->origin, PLAN_CANCEL);
    assert_int_equal(step(0, JUMUN_REFUND, 0)->amount, 100);
    assert_int_equal(plan.cancels_partial, 1);
    assert_int_equal(plan.invoices_by_origin[PLAN_CANCEL], 1);
}

static void test_two_cancels_that_take_everything_end_the_life(void **state) {
    (void)state;
    make("536365,,UK,sale,A:2:100;B:3:50,350,1000,\nC1,,UK,cancel,B:-3:50,-150,2000,536365\n"
         "C2,,UK,cancel,A:-2:100,-200,90000000,536365\n" FAR);
    assert_string_equal(life(0), "P$-BAR-B");
    assert_int_equal(step(0, JUMUN_CANCEL, 0)->lines_count, 1);
    assert_int_equal(step(0, JUMUN_CANCEL, 1)->lines_count, 0); /* a whole one */
    assert_int_equal(plan.cancels_whole, 1);
}

static void test_what_does_not_match_is_sent_as_it_is(void **state) {
    (void)state;
    make("536365,,UK,sale,A:2:100;B:3:50,350,1000,\n"
         "C1,,UK,cancel,A:-5:100;Z:-1:7;D:-1:9,-516,2000,536365\n" FAR);
    assert_string_equal(life(0), "P$-B-ARUDC");
    const struct plan_step *rest = step(0, JUMUN_CANCEL, 1);
    assert_int_equal(rest->origin, PLAN_CANCEL_UNMATCHED);
    assert_int_equal(rest->lines_count, 2); /* Z and D share the line that is not there */
    const jumun_line_cancellation *lines = plan.lines + rest->lines_first;
    assert_int_equal(lines[0].line, 0);
    assert_int_equal(lines[0].quantity, 3);
    assert_int_equal(lines[1].line, 2);
    assert_int_equal(lines[1].quantity, 2);
    assert_int_equal(plan.lines_unmatched, 3);
}

static void test_what_has_no_sale_goes_to_a_key_of_its_own(void **state) {
    (void)state;
    make("C1,,UK,cancel,A:-1:5,-5,1000,\nC2,,UK,cancel,A:-1:5,-5,1000,777\n"
         "S1,,UK,stockfix,A:-4:0,0,1000,\nA1,,UK,adjust,B:1:-900,-900,1000,\n");
    assert_int_equal(plan.orders_count, 4);
    assert_string_equal(life(0), "-");
    assert_string_equal(life(1), "-"); /* 777 is no invoice of the data */
    assert_int_equal(step(0, JUMUN_CANCEL, 0)->origin, PLAN_CANCEL_UNLINKED);
    assert_string_equal(life(2), "P");
    assert_int_equal(step(2, JUMUN_PLACE, 0)->origin, PLAN_STOCKFIX);
    assert_int_equal(step(3, JUMUN_PLACE, 0)->origin, PLAN_ADJUST);
    assert_int_equal(retail.invoices[2].lines[0].quantity, -4);
}

static void test_steps_stand_in_the_order_of_time(void **state) {
    (void)state;
    make("1,,UK,sale,A:1:1,1,1000,\n2,,UK,sale,A:1:1,1,3601000,\n"
         "3,,UK,sale,A:1:1,1,7200000,\n" FAR);
    for (uint32_t i = 1; i < plan.steps_count; i++) {
        assert_true(plan.steps[i].at_ms >= plan.steps[i - 1].at_ms);
    }
    assert_int_equal(plan.steps[2].kind, JUMUN_ACCEPT); /* of 1, planned before the place of 2 */
    assert_int_equal(plan.steps[3].kind, JUMUN_PLACE);
}

static void test_bad_files_are_named(void **state) {
    (void)state;
    assert_false(read_rows("1,,UK,sale,A:1,1,1000,\n"));
    assert_non_null(strstr(why, "line 2: an item is not stockcode:quantity:price"));
    assert_false(read_rows("1,,UK,gift,A:1:1,1,1000,\n"));
    assert_non_null(strstr(why, "line 2: the kind is not"));
    assert_false(read_rows("1,,UK,sale,A:1:1,1,soon,\n"));
    assert_non_null(strstr(why, "line 2: placed_ms is not a whole number"));
    assert_false(read_rows("1,,UK,sale\n"));
    assert_non_null(strstr(why, "line 2: the row has too few fields"));
}

static void test_store_ids(void **state) {
    (void)state;
    char id[64], small[10];
    plan_store_id("United Kingdom", id, sizeof id);
    assert_string_equal(id, "retail-united-kingdom");
    plan_store_id("RSA", small, sizeof small);
    assert_string_equal(small, "retail-rs");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_match_by_code_price_and_what_is_left),
        cmocka_unit_test_teardown(test_a_sale_lives_its_life, teardown),
        cmocka_unit_test_teardown(test_nothing_is_played_behind_the_end_of_the_data, teardown),
        cmocka_unit_test_teardown(test_a_sale_without_money_is_not_paid, teardown),
        cmocka_unit_test_teardown(test_a_partial_cancel_refunds_what_it_matches, teardown),
        cmocka_unit_test_teardown(test_two_cancels_that_take_everything_end_the_life, teardown),
        cmocka_unit_test_teardown(test_what_does_not_match_is_sent_as_it_is, teardown),
        cmocka_unit_test_teardown(test_what_has_no_sale_goes_to_a_key_of_its_own, teardown),
        cmocka_unit_test_teardown(test_steps_stand_in_the_order_of_time, teardown),
        cmocka_unit_test(test_bad_files_are_named),
        cmocka_unit_test(test_store_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
