/* A replica that shall be elsewhere stays until its group gets along without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/node/letting_go.h"

enum { OWN = 3, LATER_MS = LETTING_GO_LEADERLESS_MS + 1 };

static struct consensus_group of_three(uint64_t leader) {
    return (struct consensus_group){.leader = leader, .count = 3,
                                    .servers = {{.id = 1}, {.id = 2}, {.id = OWN}}};
}

static void one_that_is_no_member_goes_at_once(void **state) {
    struct consensus_group without = of_three(1);
    int64_t since = 0;
    (void)state;
    without.count = 2;
    assert_true(letting_go_is_due(&without, OWN, true, 1000, &since));
}

static void a_member_with_a_leader_stays(void **state) {
    const struct consensus_group led = of_three(1);
    int64_t since = 0;
    (void)state;
    assert_false(letting_go_is_due(&led, OWN, true, 1000, &since));
    assert_false(letting_go_is_due(&led, OWN, true, 1000 + 10 * LATER_MS, &since));
}

static void a_removed_one_goes_when_another_has_led_for_long(void **state) {
    const struct consensus_group alone = of_three(0);
    int64_t since = 0;
    (void)state;
    assert_false(letting_go_is_due(&alone, OWN, true, 1000, &since));
    assert_false(letting_go_is_due(&alone, OWN, true, LATER_MS, &since));
    assert_true(letting_go_is_due(&alone, OWN, true, 1000 + LATER_MS, &since));
}

/* Its group's leader dies in the midst of a long move: the two that are left need its vote. */
static void an_election_does_not_cost_a_voter(void **state) {
    const struct consensus_group led = of_three(1), alone = of_three(0);
    int64_t since = 0, now_ms = 1000;
    (void)state;
    for (int i = 0; i < 60; i++, now_ms += 1000)
        assert_false(letting_go_is_due(&led, OWN, true, now_ms, &since));
    /* The route to the dead leader is the last to be forgotten. */
    assert_false(letting_go_is_due(&alone, OWN, true, now_ms, &since));
    for (int i = 0; i < 60; i++, now_ms += 1000)
        assert_false(letting_go_is_due(&alone, OWN, false, now_ms, &since));
    assert_false(letting_go_is_due(&alone, OWN, true, now_ms, &since));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_no_member_goes_at_once),
        cmocka_unit_test(a_member_with_a_leader_stays),
        cmocka_unit_test(a_removed_one_goes_when_another_has_led_for_long),
        cmocka_unit_test(an_election_does_not_cost_a_voter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
