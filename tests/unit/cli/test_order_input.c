#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/order_input.h"

static struct order_input order;
static struct order_fault fault;

static int setup(void **state) {
    (void)state;
    order_input_init(&order);
    fault = (struct order_fault){0};
    return 0;
}

static int teardown(void **state) {
    (void)state;
    order_input_fini(&order);
    return 0;
}

static bool read_json(const char *text) {
    return order_input_json(&order, text, strlen(text), &fault);
}

static void refuses_json(const char *text, const char *sentence) {
    assert_false(read_json(text));
    assert_string_equal(fault.sentence, sentence);
}

static void test_a_whole_json_order(void **state) {
    (void)state;
    assert_true(read_json(
        "{\"key\":\"01JD6QJ4E9GHXN3W6YV2T0RZ8K\",\"fulfilment\":\"parcel\","
        "\"payment_timing\":\"on-delivery\",\"currency\":\"GBP\",\"store\":\"s1\","
        "\"lines\":[{\"sku\":\"a\",\"quantity\":2,\"unit_price\":250,\"name\":\"Tea\"},"
        "{\"sku\":\"b\",\"quantity\":1,\"unit_price\":0}],\"fees\":30,\"discounts\":10,"
        "\"customer\":\"c\",\"group\":\"g\",\"external_ref\":\"r\",\"attributes\":{\"x\":[1,null]},"
        "\"payment_timeout_ms\":1000,\"acceptance_timeout_ms\":2000,\"auto_complete_ms\":3000}"));
    const jumun_place *p = &order.place;
    assert_true(order.has_key);
    assert_int_equal(p->fulfilment, JUMUN_PARCEL);
    assert_int_equal(p->payment_timing, JUMUN_ON_DELIVERY);
    assert_string_equal(p->currency, "GBP");
    assert_int_equal(p->lines_count, 2);
    assert_string_equal(p->lines[0].name, "Tea");
    assert_null(p->lines[1].name);
    assert_int_equal(p->total, 2 * 250 + 30 - 10);
    assert_string_equal(p->external_ref, "r");
    assert_int_equal(p->auto_complete_ms, 3000);
    static const unsigned char packed[] = {0x81, 0xa1, 'x', 0x92, 0x01, 0xc0};
    assert_int_equal(p->attributes_bytes, sizeof packed);
    assert_memory_equal(p->attributes, packed, sizeof packed);
}

static void test_a_given_total_is_kept(void **state) {
    (void)state;
    assert_true(read_json("{\"store\":\"s\",\"currency\":\"KRW\",\"total\":1,"
                          "\"lines\":[{\"sku\":\"a\",\"quantity\":1,\"unit_price\":5}]}"));
    assert_int_equal(order.place.total, 1);
    assert_int_equal(order.place.fulfilment, JUMUN_PICKUP);
    assert_false(order.has_key);
}

static void test_json_errors_name_the_place(void **state) {
    (void)state;
    assert_false(read_json("{\"store\": \"s\",\n \"lines\": [}"));
    assert_int_equal(fault.line, 2);
    assert_int_equal(fault.column, 12);
    refuses_json("[1]", "an order must be an object");
    refuses_json("{\"stroe\":\"s\"}", "stroe: there is no such field");
    refuses_json("{\"store\":5}", "store: must be text");
    refuses_json("{\"fees\":1.5}", "fees: must be a whole number");
    refuses_json("{\"fulfilment\":\"drone\"}", "fulfilment: \"drone\" is not one of "
                 "platform_delivery|store_delivery|pickup|parcel");
    refuses_json("{\"key\":\"short\"}", "key: \"short\" is not a key of 26 characters");
    refuses_json("{\"lines\":5}", "lines: must be an array");
    refuses_json("{\"lines\":[{\"sku\":\"a\",\"quantity\":1,\"unit_price\":1},"
                 "{\"sku\":\"b\",\"quantity\":\"two\"}]}",
                 "lines[1].quantity: must be a whole number");
    refuses_json("{\"lines\":[{\"sku\":\"a\",\"quantity\":1}]}", "lines[0].unit_price: is missing");
    refuses_json("{\"lines\":[{\"sku\":\"a\",\"price\":1}]}",
                 "lines[0].price: there is no such field");
    refuses_json("{\"lines\":[7]}", "lines[0]: must be an object");
}

static void test_what_is_required(void **state) {
    (void)state;
    static const char line[] = "\"lines\":[{\"sku\":\"a\",\"quantity\":1,\"unit_price\":1}]";
    char text[256];
    snprintf(text, sizeof text, "{\"currency\":\"KRW\",%s}", line);
    refuses_json(text, "store: is missing");
    snprintf(text, sizeof text, "{\"store\":\"s\",%s}", line);
    refuses_json(text, "currency: is missing");
    refuses_json("{\"store\":\"s\",\"currency\":\"KRW\",\"lines\":[]}",
                 "lines: an order needs at least one");
    refuses_json("{\"store\":\"s\",\"currency\":\"KRW\",\"lines\":[{\"sku\":\"a\","
                 "\"quantity\":9223372036854775807,\"unit_price\":2}]}",
                 "total: the sum of the lines is beyond 64 bits");
}

static bool read_csv(const char *heading, const char *row) {
    struct input in;
    struct order_columns columns;
    static char kept[512]; /* the order's texts are the row's */
    char text[512];
    snprintf(text, sizeof text, "%s\n%s\n", heading, row);
    assert_true(input_open_memory(&in, text, strlen(text)));
    char why[256];
    assert_int_equal(input_csv_row(&in, why, sizeof why), INPUT_ROW);
    bool good = order_columns_read(&columns, in.fields, in.fields_count, &fault);
    if (good) {
        assert_int_equal(input_csv_row(&in, why, sizeof why), INPUT_ROW);
        char *fields[INPUT_FIELDS_MAX];
        memcpy(kept, in.row, in.row_used);
        for (uint32_t i = 0; i < in.fields_count; i++) fields[i] = kept + (in.fields[i] - in.row);
        good = order_input_csv(&order, &columns, fields, in.fields_count, &fault);
    }
    input_close(&in);
    return good;
}

static void test_a_csv_order(void **state) {
    (void)state;
    assert_true(read_csv("store,currency,lines,fees,external_ref,attributes",
                         "s1,KRW,bibimbap:1:9500:Bibimbap;cola:2:1500,3000,,\"{\"\"a\"\":1}\""));
    assert_int_equal(order.place.lines_count, 2);
    assert_string_equal(order.place.lines[0].name, "Bibimbap");
    assert_string_equal(order.place.lines[1].sku, "cola");
    assert_int_equal(order.place.total, 9500 + 2 * 1500 + 3000);
    assert_null(order.place.external_ref);
    assert_int_equal(order.place.attributes_bytes, 4);
}

/* Place and sentence stay apart, whatever the sentence begins with. */
static void test_a_fault_is_told_with_its_place(void **state) {
    char text[512];
    (void)state;
    assert_false(read_json("{\"column 7\": 1}"));
    assert_string_equal(order_fault_told(&fault, "o.jsonl", 12, text, sizeof text),
                        "o.jsonl: line 12: column 7: there is no such field");
    assert_string_equal(order_fault_told(&fault, "o.json", 0, text, sizeof text),
                        "o.json: column 7: there is no such field");
    const struct order_fault at = {2, 5, "unexpected"};
    assert_string_equal(order_fault_told(&at, "o.jsonl", 12, text, sizeof text),
                        "o.jsonl: line 13, column 5: unexpected");
    assert_string_equal(order_fault_told(&at, "o.json", 0, text, sizeof text),
                        "o.json: line 2, column 5: unexpected");
    const struct order_fault heading = {0, 3, "unexpected"};
    assert_string_equal(order_fault_told(&heading, "o.csv", 1, text, sizeof text),
                        "o.csv: line 1, column 3: unexpected");
}

static void test_csv_errors_name_the_column(void **state) {
    (void)state;
    assert_false(read_csv("store,currency,price", "a,b,c"));
    assert_string_equal(fault.sentence, "\"price\" is not a field of an order");
    assert_int_equal(fault.column, 3);
    assert_false(read_csv("store,currency,store", "a,b,c"));
    assert_string_equal(fault.sentence, "\"store\" stands twice");
    assert_int_equal(fault.column, 3);
    assert_false(read_csv("store,lines", "a,b"));
    assert_string_equal(fault.sentence, "the heading has no column \"currency\"");
    assert_int_equal(fault.column, 0);
    assert_false(read_csv("store,currency,lines", "a,b"));
    assert_string_equal(fault.sentence, "the row has 2 fields, the heading has 3");
    assert_false(read_csv("store,currency,lines", "s,KRW,a:1"));
    assert_string_equal(fault.sentence, "lines[0]: \"a:1\" is not sku:quantity:unit_price[:name]");
    assert_false(read_csv("store,currency,lines", "s,KRW,a:1:1;b:x:1"));
    assert_string_equal(fault.sentence, "lines[1].quantity: \"x\" is not a whole number");
    assert_false(read_csv("store,currency,lines,fees", "s,KRW,a:1:1,1.50"));
    assert_string_equal(fault.sentence, "fees: \"1.50\" is not a whole number");
}

/* The engine's rules are the engine's: what it must refuse has to reach it. */
static void test_negative_numbers_pass(void **state) {
    (void)state;
    assert_true(read_csv("store,currency,lines", "s,KRW,a:-3:100"));
    assert_int_equal(order.place.lines[0].quantity, -3);
    assert_int_equal(order.place.total, -300);
}

static void test_a_used_input_forgets(void **state) {
    (void)state;
    test_a_whole_json_order(state);
    assert_true(read_csv("store,currency,lines", "s,KRW,a:1:1"));
    assert_false(order.has_key);
    assert_null(order.place.customer);
    assert_int_equal(order.place.attributes_bytes, 0);
    assert_int_equal(order.place.lines_count, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_whole_json_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_given_total_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_json_errors_name_the_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_required, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_csv_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_fault_is_told_with_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_csv_errors_name_the_column, setup, teardown),
        cmocka_unit_test_setup_teardown(test_negative_numbers_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_used_input_forgets, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
