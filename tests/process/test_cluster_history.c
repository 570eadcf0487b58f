/* The judge of the cluster tests: good histories pass, each planted fault is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/process/cluster_history.h"

enum { CALLS_MAX = 16 };

struct scene {
    struct history_call calls[CALLS_MAX];
    uint32_t calls_count;
    struct answer_history events;
    char sentences[2048];
};

static jumun_key id_of(int n) { return (jumun_key){{[0] = 0xaa, [15] = (uint8_t)n}}; }

static struct history_call *call(struct scene *s, int id, enum history_fate fate, uint32_t version,
                                 int64_t begin, int64_t end) {
    struct history_call *c = &s->calls[s->calls_count++];
    *c = (struct history_call){.fate = (uint8_t)fate, .version = version, .begin_ns = begin,
                               .end_ns = end, .is_read = id == 0, .id = id_of(id)};
    return c;
}

static void event(struct scene *s, int id) {
    uint32_t n = s->events.count++;
    bool is_same = n > 0 && s->events.events[n - 1].cause.bytes[15] == id;
    uint64_t index = n > 0 ? s->events.events[n - 1].index : 0;
    s->events.events[n] = (struct answer_event){n + 1, index + !is_same, id_of(id)};
}

static void take(void *arg, const char *sentence) {
    struct scene *s = arg;
    size_t used = strlen(s->sentences);
    snprintf(s->sentences + used, sizeof s->sentences - used, "%s\n", sentence);
}

static void expect_good(struct scene *s) {
    uint32_t faults = history_check(s->calls, s->calls_count, &s->events, take, s);
    if (faults > 0) print_error("%s", s->sentences);
    assert_int_equal(faults, 0);
}

static void expect_fault(struct scene *s, const char *words) {
    uint32_t faults = history_check(s->calls, s->calls_count, &s->events, take, s);
    if (!strstr(s->sentences, words)) print_error("\"%s\" not in:\n%s", words, s->sentences);
    assert_true(faults > 0);
    assert_non_null(strstr(s->sentences, words));
}

/* Three commands one after another, reads between them. */
static void three(struct scene *s) {
    memset(s, 0, sizeof *s);
    for (int id = 1; id <= 3; id++) {
        event(s, id);
        call(s, id, HISTORY_DONE, (uint32_t)id, id * 100, id * 100 + 10);
        call(s, 0, HISTORY_DONE, (uint32_t)id, id * 100 + 20, id * 100 + 30);
    }
}

static void test_good_histories_pass(void **state) {
    struct scene s;
    three(&s);
    expect_good(&s);
    memset(&s, 0, sizeof s);
    expect_good(&s); /* nothing happened */
    event(&s, 2); /* at the same time: either order is right */
    event(&s, 1);
    call(&s, 1, HISTORY_DONE, 2, 100, 200);
    call(&s, 2, HISTORY_DONE, 1, 150, 250);
    call(&s, 0, HISTORY_DONE, 0, 120, 260); /* may see the state before both */
    call(&s, 0, HISTORY_DONE, 1, 160, 170);
    expect_good(&s);
}

static void test_several_events_of_one_command(void **state) {
    struct scene s = {0};
    event(&s, 1);
    event(&s, 1);
    call(&s, 1, HISTORY_DONE, 2, 100, 110);
    call(&s, 0, HISTORY_DONE, 2, 120, 130);
    expect_good(&s);
    call(&s, 0, HISTORY_DONE, 1, 105, 130);
    expect_fault(&s, "to which no command led");
}

static void test_unknown_may_be_done_or_not(void **state) {
    struct scene s;
    three(&s);
    call(&s, 4, HISTORY_UNKNOWN, 0, 500, 600);
    expect_good(&s);
    event(&s, 4); /* later than the caller waited */
    call(&s, 0, HISTORY_DONE, 3, 700, 710);
    call(&s, 0, HISTORY_DONE, 4, 800, 810);
    expect_good(&s);
    call(&s, 4, HISTORY_DONE, 4, 900, 910); /* asked again: its first answer */
    expect_good(&s);
    call(&s, 4, HISTORY_REFUSED, 0, 650, 660); /* an attempt that was turned away */
    expect_good(&s);
}

static void test_lost(void **state) {
    struct scene s;
    three(&s);
    call(&s, 4, HISTORY_DONE, 4, 500, 510);
    expect_fault(&s, "LOST: a command was acknowledged as version 4");
}

static void test_done_twice(void **state) {
    struct scene s;
    three(&s);
    event(&s, 2);
    expect_fault(&s, "done twice: as version 2 and as version 4");
}

static void test_two_commands_with_one_version(void **state) {
    struct scene s;
    three(&s);
    call(&s, 4, HISTORY_DONE, 3, 300, 310); /* two leaders, each with a third version */
    expect_fault(&s, "LOST");
    three(&s);
    event(&s, 4);
    call(&s, 4, HISTORY_DONE, 3, 300, 310);
    expect_fault(&s, "acknowledged as version 3 and is version 4");
}

static void test_refused_but_done(void **state) {
    struct scene s;
    three(&s);
    event(&s, 4);
    call(&s, 4, HISTORY_REFUSED, 0, 500, 510)->code = 105;
    expect_fault(&s, "refused with 105 and stands in the history as version 4");
}

static void test_made_by_nobody(void **state) {
    struct scene s;
    three(&s);
    event(&s, 9);
    expect_fault(&s, "version 4 was made by nobody");
}

static void test_stale_read(void **state) {
    struct scene s;
    three(&s);
    call(&s, 0, HISTORY_DONE, 2, 311, 312); /* version 3 was acknowledged at 310 */
    expect_fault(&s, "STALE: a read saw version 2");
    three(&s);
    call(&s, 0, HISTORY_DONE, 3, 305, 306); /* before the acknowledgement: right */
    expect_good(&s);
    call(&s, 0, HISTORY_DONE, 2, 307, 308); /* behind another read that saw more */
    expect_fault(&s, "STALE: a read saw version 2");
}

static void test_read_of_the_future(void **state) {
    struct scene s;
    three(&s);
    call(&s, 0, HISTORY_DONE, 3, 150, 160); /* its command was not even asked for */
    expect_fault(&s, "a command was put in as version");
    three(&s);
    call(&s, 0, HISTORY_DONE, 4, 500, 510);
    expect_fault(&s, "to which no command led");
}

static void test_order_against_real_time(void **state) {
    struct scene s = {0};
    event(&s, 2);
    event(&s, 1);
    call(&s, 1, HISTORY_DONE, 2, 100, 110);
    call(&s, 2, HISTORY_DONE, 1, 200, 210);
    expect_fault(&s, "a command was put in as version 1");
}

static void test_unknown_cannot_be_done_before_its_begin(void **state) {
    struct scene s = {0};
    event(&s, 2);
    event(&s, 1);
    call(&s, 1, HISTORY_DONE, 2, 100, 110);
    call(&s, 2, HISTORY_UNKNOWN, 0, 200, 210);
    expect_fault(&s, "a command was put in as version 1");
}

static void test_demanded_version(void **state) {
    struct scene s;
    three(&s);
    s.calls[4].expected_version = 2;
    expect_good(&s);
    three(&s);
    s.calls[4].expected_version = 1;
    expect_fault(&s, "demanded version 1 was done at version 2");
}

static void test_conflict_that_tells_an_old_version(void **state) {
    struct scene s;
    three(&s);
    call(&s, 4, HISTORY_REFUSED, 3, 500, 510);
    expect_good(&s);
    call(&s, 5, HISTORY_REFUSED, 1, 500, 510);
    expect_fault(&s, "STALE: a read saw version 1");
}

static void test_repeated_payment_changes_nothing(void **state) {
    struct scene s;
    three(&s);
    call(&s, 4, HISTORY_DONE, 3, 500, 510)->may_change_nothing = true;
    expect_good(&s);
    call(&s, 5, HISTORY_DONE, 2, 600, 610)->may_change_nothing = true;
    expect_fault(&s, "STALE: a read saw version 2");
}

static void test_gap(void **state) {
    struct scene s;
    three(&s);
    s.events.events[2].version = 4;
    s.calls[4].version = 4;
    expect_fault(&s, "event 2 of the history has version 4");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_histories_pass),
        cmocka_unit_test(test_several_events_of_one_command),
        cmocka_unit_test(test_unknown_may_be_done_or_not),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_done_twice),
        cmocka_unit_test(test_two_commands_with_one_version),
        cmocka_unit_test(test_refused_but_done),
        cmocka_unit_test(test_made_by_nobody),
        cmocka_unit_test(test_stale_read),
        cmocka_unit_test(test_read_of_the_future),
        cmocka_unit_test(test_order_against_real_time),
        cmocka_unit_test(test_unknown_cannot_be_done_before_its_begin),
        cmocka_unit_test(test_demanded_version),
        cmocka_unit_test(test_conflict_that_tells_an_old_version),
        cmocka_unit_test(test_repeated_payment_changes_nothing),
        cmocka_unit_test(test_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
