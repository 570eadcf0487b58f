#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/log.h"

/* Runs `write_lines` with stderr in a file and returns what was written. */
static const char *captured(void (*write_lines)(void)) {
    static char text[8192];
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    int stderr_saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    write_lines();
    assert_true(dup2(stderr_saved, STDERR_FILENO) >= 0);
    close(stderr_saved);
    rewind(file);
    size_t got = fread(text, 1, sizeof text - 1, file);
    text[got] = 0;
    fclose(file);
    return text;
}

static void two_levels(void) {
    log_set_level(LOG_LEVEL_WARN);
    log_info("not to be seen");
    log_warn("shard %d: no room", 1);
    log_set_level(LOG_LEVEL_INFO);
}

static void lines_above_the_level_are_dropped(void **state) {
    const char *text = captured(two_levels);
    assert_null(strstr(text, "not to be seen"));
    assert_non_null(strstr(text, "Z warn  shard 1: no room\n"));
}

static void one_long_line(void) {
    char word[4000];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = 0;
    log_error("%s", word);
}

static void a_long_line_is_cut_and_ended(void **state) {
    const char *text = captured(one_long_line);
    assert_true(strlen(text) < 1100);
    assert_true(strlen(text) > 900);
    assert_int_equal(text[strlen(text) - 1], '\n');
}

static void names_of_levels(void **state) {
    assert_int_equal(log_level_of("error"), LOG_LEVEL_ERROR);
    assert_int_equal(log_level_of("debug"), LOG_LEVEL_DEBUG);
    assert_int_equal(log_level_of("loud"), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_above_the_level_are_dropped),
        cmocka_unit_test(a_long_line_is_cut_and_ended),
        cmocka_unit_test(names_of_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
