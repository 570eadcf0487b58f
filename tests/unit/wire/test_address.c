/* The form of addresses. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/wire/address.h"

static const char *fault_of(const char *address) {
    return address_fault(address, strlen(address));
}

static void good_forms_are_good(void **state) {
    static const char *const good[] = {
        "tcp://127.0.0.1:7400", "tcp://node-1.example:1", "tls+tcp://node:65535",
        "tcp://[::1]:7400", "ipc:///tmp/a b", "inproc://x"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (fault_of(good[i])) fail_msg("%s %s", good[i], fault_of(good[i]));
    assert_null(address_fault("tcp://a:1,bogus", 9)); /* no byte behind the size counts */
}

static void each_fault_has_its_words(void **state) {
    static const struct { const char *address, *fault; } bad[] = {
        {"bogus", "does not begin with tcp:// or tls+tcp://"},
        {"", "does not begin with tcp:// or tls+tcp://"},
        {"127.0.0.1:7400", "does not begin with tcp:// or tls+tcp://"},
        {"http://a:80", "does not begin with tcp:// or tls+tcp://"},
        {"tcp://", "has no port"}, {"tcp://host", "has no port"}, {"tcp://host:", "has no port"},
        {"tcp://[::1]", "has no port"}, {"tcp://:7400", "has no host"},
        {"tcp://host:0", "has a bad port"}, {"tcp://host:65536", "has a bad port"},
        {"tcp://host:123456", "has a bad port"}, {"tcp://host:74x", "has a bad port"},
        {"tcp://host:7400/", "has a bad port"}, {"tcp://::1:7400", "has a bad host"},
        {"tcp://[]:7400", "has a bad host"}, {"tcp://[::1:7400", "has a bad host"},
        {"tcp://[::1]x:7400", "has a bad host"}, {"tcp://a b:7400", "has a bad host"},
        {"tcp://tcp://a:7400", "has a bad host"}, {"ipc://", "has nothing behind //"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *fault = fault_of(bad[i].address);
        if (!fault || strcmp(fault, bad[i].fault) != 0)
            fail_msg("%s: %s, not %s", bad[i].address, fault ? fault : "good", bad[i].fault);
    }
}

/* Where one listens, port 0 is any free one, and no host all of the machine's. */
static void to_listen_less_is_needed(void **state) {
    static const char *const good[] = {"tcp://127.0.0.1:0", "tcp://0.0.0.0:7400", "tcp://:7400",
                                       "tcp://*:7400", "tls+tcp://[::]:0", "ipc:///tmp/a"};
    static const char *const bad[] = {"127.0.0.1:7400", "7400", "", "tcp://host", "tcp://host:x",
                                      "tcp://host:65536", "ipc://"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (address_listen_fault(good[i])) fail_msg("%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!address_listen_fault(bad[i])) fail_msg("%s", bad[i]);
    assert_string_equal(address_listen_fault("127.0.0.1:7400"),
                        "does not begin with tcp:// or tls+tcp://");
}

static void the_first_bad_one_of_a_list_is_named(void **state) {
    struct address_bad bad;
    assert_false(address_list_is_bad("tcp://a:1,tls+tcp://b:2", NULL, &bad));
    assert_true(address_list_is_bad("tcp://a:1,feed:tcp://b:2", NULL, &bad));
    assert_false(address_list_is_bad("tcp://a:1,feed:tcp://b:2", "feed:", &bad));
    assert_true(address_list_is_bad("feed:", "feed:", &bad));
    assert_true(address_list_is_bad("tcp://a:1,b:2,c", NULL, &bad));
    assert_int_equal(bad.size, 3);
    assert_memory_equal(bad.at, "b:2", 3);
    assert_true(address_list_is_bad("", NULL, &bad));
    assert_string_equal(bad.fault, "is empty");
    assert_true(address_list_is_bad("tcp://a:1,", NULL, &bad));
    assert_string_equal(bad.fault, "is empty");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_forms_are_good),
        cmocka_unit_test(each_fault_has_its_words),
        cmocka_unit_test(to_listen_less_is_needed),
        cmocka_unit_test(the_first_bad_one_of_a_list_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
