/* docs/formats.md against the code: every table, every example, and that none is missing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "actors/event.h"
#include "tests/lib/page.h"
#include "tests/unit/formats/formats_examples.h"
#include "tests/unit/formats/formats_fields.h"

static const char *page_path;
static char *page;

static int setup(void **state) {
    page = page_read(page_path);
    return page != NULL ? 0 : -1;
}

static int teardown(void **state) {
    free(page);
    return 0;
}

static void every_block_shows_what_the_code_stores(void **state) {
    char error[256] = "";
    char *filled = formats_fill(page, error, sizeof error);
    if (filled == NULL) fail_msg("%s", error);
    if (strcmp(filled, page) != 0)
        fail_msg("write the blocks anew: formats_examples docs/formats.md");
    free(filled);
}

static void assert_on_page(const char *opening, const char *name, const char *end) {
    char line[128];
    snprintf(line, sizeof line, "\n%s%s%s\n", opening, name, end);
    if (strstr(page, line) == NULL) fail_msg("the page lacks %s", line + 1);
}

static void nothing_is_left_out(void **state) {
    for (unsigned i = 0; i < format_tables_count; i++)
        assert_on_page("<!-- fields ", format_tables[i].name, " -->");
    for (unsigned i = 0; i < formats_examples_count; i++)
        assert_on_page("```hex ", formats_examples[i].name, "");
#define X(name, number) assert_on_page("```hex ", event_kind_name(number), "");
    EVENT_KINDS(X)
#undef X
}

/* No byte of a stored struct is unnamed, so no compiler has padded it. */
static void the_fields_lie_without_gaps(void **state) {
    for (unsigned i = 0; i < format_tables_count; i++) {
        const struct format_table *t = &format_tables[i];
        unsigned end = 0;
        for (unsigned f = 0; f < t->count; f++) {
            if (t->fields[f].offset != end) fail_msg("%s: %s", t->name, t->fields[f].name);
            end += t->fields[f].bytes;
        }
        if (end != t->bytes) fail_msg("%s ends at %u of %u", t->name, end, t->bytes);
    }
}

static void a_changed_byte_is_noticed(void **state) {
    char error[256] = "";
    char *changed = strdup(page);
    char *block = strstr(changed, "```hex vote\n");
    assert_non_null(block);
    block[strlen("```hex vote\nkey   ")] ^= 1;
    char *filled = formats_fill(changed, error, sizeof error);
    assert_non_null(filled);
    assert_string_not_equal(filled, changed);
    free(filled);
    free(changed);
    assert_null(formats_fill("<!-- fields nonsense -->\n<!-- end -->\n", error, sizeof error));
    assert_string_equal(error, "block \"nonsense\" names no example");
    assert_null(formats_fill("<!-- fields event -->\n", error, sizeof error));
    assert_string_equal(error, "block \"event\" has no end");
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    page_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_shows_what_the_code_stores),
        cmocka_unit_test(nothing_is_left_out),
        cmocka_unit_test(the_fields_lie_without_gaps),
        cmocka_unit_test(a_changed_byte_is_noticed),
    };
    return cmocka_run_group_tests_name("formats_page", tests, setup, teardown);
}
