/* docs/protocol.md against the code: examples, result codes, limits, kinds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "actors/command.h"
#include "actors/event.h"
#include "actors/order/order.h"
#include "actors/result_codes.h"
#include "engine/base/ulid.h"
#include "engine/limits.h"
#include "engine/wire/protocol.h"
#include "engine/wire/routing.h"
#include "tests/lib/page.h"
#include "tests/unit/wire/wire_page.h"

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

static void every_block_shows_what_the_code_writes(void **state) {
    char error[256] = "";
    char *filled = wire_page_fill(page, error, sizeof error);
    if (filled == NULL) fail_msg("%s", error);
    if (strcmp(filled, page) != 0)
        fail_msg("write the blocks anew: wire_examples page docs/protocol.md");
    free(filled);
}

static void every_example_is_on_the_page(void **state) {
    for (unsigned i = 0; i < wire_examples_requests_count + wire_examples_replies_count; i++) {
        const char *name = i < wire_examples_requests_count
                               ? wire_examples_requests[i].name
                               : wire_examples_replies[i - wire_examples_requests_count].name;
        char block[100];
        snprintf(block, sizeof block, "```hex %s\n", name);
        if (strstr(page, block) == NULL) fail_msg("no block: %s", name);
    }
}

static void a_changed_byte_is_noticed(void **state) {
    char error[256] = "";
    char *changed = strdup(page);
    char *block = strstr(changed, "```hex place\n");
    assert_non_null(block);
    block[strlen("```hex place\n")] = '8';
    char *filled = wire_page_fill(changed, error, sizeof error);
    assert_non_null(filled);
    assert_string_not_equal(filled, changed);
    free(filled);
    free(changed);
    assert_null(wire_page_fill("```hex nonsense\n```\n", error, sizeof error));
    assert_string_equal(error, "block \"nonsense\" names no example");
}

/* The rows of the table behind a heading: lines that start with "| " and a digit or backquote. */
static unsigned rows_behind(const char *heading) {
    const char *at = strstr(page, heading);
    if (at == NULL) {
        fail_msg("no heading %s", heading);
        return 0;
    }
    const char *end = strstr(at + 1, "\n## ");
    unsigned rows = 0;
    while ((at = strstr(at, "\n| ")) != NULL && (end == NULL || at < end)) {
        at += 3;
        if (*at == '`' || (*at >= '0' && *at <= '9')) rows++;
    }
    return rows;
}

static void assert_row(const char *row) {
    if (strstr(page, row) == NULL) fail_msg("the page lacks the row %s", row);
}

static void the_result_codes_are_exactly_the_table(void **state) {
    unsigned count = 0;
    char row[256];
#define X(name, number, text)                                                              \
    snprintf(row, sizeof row, "\n| %d | `%s` | %s |", number, result_code_name(number), text); \
    assert_row(row);                                                                       \
    count++;
    RESULT_CODES(X)
#undef X
    assert_int_equal(rows_behind("\n## Result codes\n"), count);
}

static void the_limits_are_those_of_the_code(void **state) {
    static const struct { const char *name; long long value; } limits[] = {
#define LIMIT(name) {#name, name}
        LIMIT(MESSAGE_BYTES_MAX), LIMIT(BATCH_COMMANDS_MAX), LIMIT(COMMAND_BYTES_MAX),
        LIMIT(HISTORY_EVENTS_MAX), LIMIT(REPLY_VALUES_BYTES_MAX), LIMIT(ID_TEXT_BYTES_MAX),
        LIMIT(LINE_NAME_BYTES_MAX),
        LIMIT(EXTERNAL_REF_BYTES_MAX), LIMIT(REASON_BYTES_MAX), LIMIT(NOTE_BYTES_MAX),
        LIMIT(ATTRIBUTES_BYTES_MAX), LIMIT(ORDER_LINES_MAX), LIMIT(ORDER_PAYMENTS_MAX),
        LIMIT(ORDER_COMMANDS_MAX), LIMIT(ORDER_HELD_MAX), LIMIT(ORDER_QUANTITY_MAX),
        LIMIT(ORDER_MONEY_MAX), LIMIT(PREPARATION_MINUTES_MAX), LIMIT(TIMEOUT_MS_MAX),
        LIMIT(KEY_FUTURE_MS_MAX), LIMIT(KEY_PAST_MS_MAX), LIMIT(HELD_DEADLINE_MS),
        LIMIT(SHARDS_MAX), LIMIT(REPLY_WAIT_MS), LIMIT(REPLY_WAIT_SHORT_MS)
#undef LIMIT
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char row[128];
        snprintf(row, sizeof row, "\n| `%s` | %lld |", limits[i].name, limits[i].value);
        assert_row(row);
    }
    assert_int_equal(rows_behind("\n## Limits\n"), sizeof limits / sizeof *limits);
}

static void keys_and_routing_are_shown_right(void **state) {
    char text[ULID_TEXT_SIZE + 1], row[128];
    ulid_format(&wire_example_key, text);
    snprintf(row, sizeof row, "`%s` is `019b76daa8000102030405060708090a`", text);
    assert_row(row);
    struct routing_epoch epoch = {0, 2};
    snprintf(row, sizeof row, "hash to `%016" PRIx64 "`: shard %u of 2",
             routing_hash(wire_example_key.bytes + 6, 10),
             routing_shard_of_key(&epoch, 1, &wire_example_key));
    assert_row(row);
    snprintf(row, sizeof row, "hashes to `%016" PRIx64 "`: shard %u of 2",
             routing_hash("store-7", 7),
             routing_shard_of_store(2, bytes_of_text("store-7")));
    assert_row(row);
}

static void every_command_and_event_is_named(void **state) {
    char row[128];
    static const uint8_t kinds[] = {
#define X(name, number) number,
        COMMAND_KINDS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof kinds; i++) {
        snprintf(row, sizeof row, "\n| %d | `%s` |", kinds[i], command_kind_name(kinds[i]));
        bool engine_only =
            (kinds[i] >= COMMAND_TIMER_DUE && kinds[i] <= COMMAND_STORE_MESSAGE) ||
            kinds[i] == COMMAND_CLUSTER_MOVE_STORES;
        if ((strstr(page, row) == NULL) != engine_only) fail_msg("command row: %s", row);
    }
#define X(name, number) \
    snprintf(row, sizeof row, "\n| `%s` |", event_kind_name(number)); \
    assert_row(row);
    EVENT_KINDS(X)
#undef X
#define X(name, number) \
    snprintf(row, sizeof row, "`%s`", order_state_name(number)); \
    assert_row(row);
    ORDER_STATES(X)
#undef X
    snprintf(row, sizeof row, "\n| %d | `status` |", NODE_COMMAND_STATUS);
    assert_row(row);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    page_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_shows_what_the_code_writes),
        cmocka_unit_test(every_example_is_on_the_page),
        cmocka_unit_test(a_changed_byte_is_noticed),
        cmocka_unit_test(the_result_codes_are_exactly_the_table),
        cmocka_unit_test(the_limits_are_those_of_the_code),
        cmocka_unit_test(keys_and_routing_are_shown_right),
        cmocka_unit_test(every_command_and_event_is_named),
    };
    return cmocka_run_group_tests_name("protocol_page", tests, setup, teardown);
}
