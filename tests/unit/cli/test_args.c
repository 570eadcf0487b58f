#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "clients/cli/args.h"

static const struct args_option own[] = {
    {"line", 'l', "SPEC", "", NULL}, {"json", 0, "FILE", "", NULL},
    {"dry-run", 'n', NULL, "", NULL},
    {NULL}};
static const struct args_option global[] = {
    {"json", 'j', NULL, "", NULL}, {"endpoint", 'e', "URL", "", NULL}, {NULL}};
static const struct args_option *const tables[3] = {own, NULL, global};

static struct args args;
static char why[128];

static bool parse(bool stop, int argc, const char *const *words) {
    static char texts[16][64];
    static char *argv[17];
    for (int i = 0; i < argc; i++) {
        snprintf(texts[i], sizeof texts[i], "%s", words[i]);
        argv[i] = texts[i];
    }
    argv[argc] = NULL;
    return args_parse(&args, argc, argv, tables, stop, why, sizeof why);
}
#define PARSE(stop, ...)                                                                           \
    parse(stop, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                     \
          (const char *const[]){__VA_ARGS__})

static void test_options_stand_anywhere(void **state) {
    (void)state;
    assert_true(PARSE(false, "x", "KEY", "--line", "a:1:2", "-lb:1:2", "more",
                      "--line=c:3:4", "-n"));
    assert_int_equal(args.positionals_count, 2);
    assert_string_equal(args.positionals[0], "KEY");
    assert_string_equal(args.positionals[1], "more");
    assert_true(args_flag(&args, "dry-run"));
    size_t cursor = 0;
    assert_string_equal(args_next(&args, "line", &cursor), "a:1:2");
    assert_string_equal(args_next(&args, "line", &cursor), "b:1:2");
    assert_string_equal(args_next(&args, "line", &cursor), "c:3:4");
    assert_null(args_next(&args, "line", &cursor));
    assert_string_equal(args_value(&args, "line"), "c:3:4");
}

/* One name, two options: the global flag keeps its letter. */
static void test_an_own_option_hides_a_global_one(void **state) {
    (void)state;
    assert_true(PARSE(false, "x", "--json", "order.json"));
    assert_string_equal(args_value(&args, "json"), "order.json");
    assert_false(args_flag(&args, "json"));
    assert_true(PARSE(false, "x", "-j"));
    assert_null(args_value(&args, "json"));
    assert_true(args_flag(&args, "json"));
}

static void test_what_follows_a_command_is_left_to_it(void **state) {
    (void)state;
    assert_true(PARSE(true, "x", "-e", "tcp://a", "get", "--unknown"));
    assert_int_equal(args.positionals_count, 2);
    assert_string_equal(args.positionals[0], "get");
    assert_string_equal(args_value(&args, "endpoint"), "tcp://a");
    assert_true(PARSE(false, "x", "--", "--line"));
    assert_int_equal(args.positionals_count, 1);
    assert_string_equal(args.positionals[0], "--line");
}

static void test_mistakes_are_named(void **state) {
    (void)state;
    assert_false(PARSE(false, "x", "--lines", "a"));
    assert_string_equal(why, "--lines is not an option here");
    assert_false(PARSE(false, "x", "-z"));
    assert_string_equal(why, "-z is not an option here");
    assert_false(PARSE(false, "x", "--line"));
    assert_string_equal(why, "--line needs a value");
    assert_false(PARSE(false, "x", "-l"));
    assert_string_equal(why, "-l needs a value");
    assert_false(PARSE(false, "x", "--dry-run=yes"));
    assert_string_equal(why, "--dry-run=yes takes no value");
    assert_false(PARSE(false, "x", "-nz", "KEY"));
    assert_string_equal(why, "-z is not an option here");
    assert_false(PARSE(false, "x", "--dr", "--d=1"));
    assert_string_equal(why, "--d=1 takes no value");
    assert_false(PARSE(false, "x", "-n5"));
    assert_string_equal(why, "-5 is not an option here");
}

/* What a number below 0 means is for the command to say: "-17 is not an option" would not help. */
static void test_numbers_below_0_are_words(void **state) {
    (void)state;
    assert_true(PARSE(false, "x", "KEY", "-17", "-n", "-l", "-3"));
    assert_int_equal(args.positionals_count, 2);
    assert_string_equal(args.positionals[0], "KEY");
    assert_string_equal(args.positionals[1], "-17");
    assert_true(args_flag(&args, "dry-run"));
    assert_string_equal(args_value(&args, "line"), "-3");
    assert_true(PARSE(false, "x", "KEY", "-l", "a", "--", "-5", "-n"));
    assert_int_equal(args.positionals_count, 3);
    assert_string_equal(args.positionals[1], "-5");
    assert_string_equal(args.positionals[2], "-n");
    assert_false(args_flag(&args, "dry-run"));
    assert_true(PARSE(true, "x", "-5", "-n"));
    assert_int_equal(args.positionals_count, 2);
    assert_string_equal(args.positionals[0], "-5");
}

static void test_a_name_may_be_cut_short(void **state) {
    static const struct args_option clear[] = {
        {"state", 0, "STATE", "", NULL}, {"store", 0, "STORE", "", NULL}, {NULL}};
    static const struct args_option *const two[3] = {clear, own, global};
    char first[] = "--sto=s1", second[] = "--st", program[] = "x", *argv[] = {program, first, NULL};
    (void)state;
    assert_true(args_parse(&args, 2, argv, two, false, why, sizeof why));
    assert_string_equal(args_value(&args, "store"), "s1");
    argv[1] = second;
    assert_false(args_parse(&args, 2, argv, two, false, why, sizeof why));
    assert_string_equal(why, "--st may be --state or --store");
    assert_true(PARSE(false, "x", "--endp", "tcp://a"));
    assert_string_equal(args_value(&args, "endpoint"), "tcp://a");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_stand_anywhere),
        cmocka_unit_test(test_an_own_option_hides_a_global_one),
        cmocka_unit_test(test_what_follows_a_command_is_left_to_it),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_numbers_below_0_are_words),
        cmocka_unit_test(test_a_name_may_be_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
