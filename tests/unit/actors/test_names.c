/* Names and sentences: every number of a table has its own, in lower case. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "actors/order/order.h"

static void check_name(const char *name, const char *expected) {
    for (; *expected; name++, expected++) {
        char lower = *expected >= 'A' && *expected <= 'Z' ? (char)(*expected + 32) : *expected;
        if (*name != lower) fail_msg("%s is not %s", name, expected);
    }
    assert_int_equal(*name, 0);
}

static void names_are_those_of_the_tables(void **unused) {
#define X(name, number) check_name(command_kind_name(number), #name);
    COMMAND_KINDS(X)
#undef X
#define X(name, number) check_name(event_kind_name(number), #name);
    EVENT_KINDS(X)
#undef X
#define X(name, number) check_name(order_state_name(number), #name);
    ORDER_STATES(X)
#undef X
#define X(name, number, text) check_name(result_code_name(number), #name);
    RESULT_CODES(X)
#undef X
}

static void codes_have_their_sentence(void **unused) {
#define X(name, number, text) assert_string_equal(result_code_text(number), text);
    RESULT_CODES(X)
#undef X
}

static void unknown_numbers_have_a_name_too(void **unused) {
    assert_string_equal(command_kind_name(0), "unknown");
    assert_string_equal(event_kind_name(255), "unknown");
    assert_string_equal(order_state_name(0), "unknown");
    assert_string_equal(result_code_name(399), "unknown");
    assert_string_equal(result_code_text(UINT32_MAX), "unknown result code");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_those_of_the_tables),
        cmocka_unit_test(codes_have_their_sentence),
        cmocka_unit_test(unknown_numbers_have_a_name_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
