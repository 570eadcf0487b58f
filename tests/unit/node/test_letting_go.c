/* A replica that shall be elsewhere stays until its group gets along without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
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

static void make(const char *data, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", data, name);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_true(letting_go_bind(path, "0123456789abcdef0123456789abcdef"));
}

static void unmake(const char *data, const char *name, const char *note) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", data, name, note);
    assert_int_equal(unlink(path), 0);
}

static void what_lies_there_is_found_until_it_is_noted(void **state) {
    char data[] = "/tmp/jumun-letting-go-XXXXXX", path[256];
    static const char *const names[] = {"shard-0", "shard-1", "shard-1.2", "shard-1.10", "meta.1",
                                        "shard-2.old", "shard-03", "shard-4.0", "shard-999",
                                        "metal", "incoming"};
    static const char cluster[] = "0123456789abcdef0123456789abcdef";
    uint64_t servers[LOCAL_SHARDS_SLOTS];
    uint32_t found = 0;
    (void)state;
    assert_non_null(mkdtemp(data));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) make(data, names[i]);
    letting_go_find(data, cluster, 7, servers);
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) found += servers[slot] != 0;
    assert_int_equal(found, 3);
    assert_int_equal(servers[0], consensus_server_id(7, 0));
    assert_int_equal(servers[1], consensus_server_id(7, 10));
    assert_int_equal(servers[local_shards_slot(SHARD_META)], consensus_server_id(7, 1));
    /* The newest one is let go of: an earlier one of the same group is not meant either. */
    snprintf(path, sizeof path, "%s/shard-1.10", data);
    assert_true(letting_go_take_back(path)); /* there is none */
    assert_true(letting_go_note(path));
    assert_true(letting_go_take_back(path)); /* needed again */
    letting_go_find(data, cluster, 7, servers);
    assert_int_equal(servers[1], consensus_server_id(7, 10));
    assert_true(letting_go_note(path));
    letting_go_find(data, cluster, 7, servers);
    assert_int_equal(servers[1], 0);
    assert_int_equal(servers[0], consensus_server_id(7, 0));
    unmake(data, "shard-1.10", "let-go");
    /* Those of another cluster, of which a node was made anew, are none of this one's. */
    letting_go_find(data, "00000000000000000000000000000000", 7, servers);
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) assert_int_equal(servers[slot], 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unmake(data, names[i], "cluster-0123456789abcdef0123456789abcdef");
        snprintf(path, sizeof path, "%s/%s", data, names[i]);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(rmdir(data), 0);
    letting_go_find(data, cluster, 7, servers);
    assert_int_equal(servers[0], 0);
}

/* The leader goes first, then whoever leads next, and who is left once nobody leads for long. */
static void replicas_of_a_retired_shard_go_one_by_one(void **state) {
    struct letting_go_retired look = {.leads = true, .vacant = true, .led = true};
    int64_t since = 0;
    (void)state;
    assert_false(letting_go_is_over(&look, 1000, &since)); /* something is under way */
    look.empty = true;
    assert_true(letting_go_is_over(&look, 1000, &since));

    look = (struct letting_go_retired){.vacant = true, .led = true};
    assert_false(letting_go_is_over(&look, 1000, &since));
    assert_false(letting_go_is_over(&look, 1000 + 10 * LETTING_GO_RETIRED_MS, &since));
    look.led = false;
    assert_false(letting_go_is_over(&look, 2000, &since));
    assert_false(letting_go_is_over(&look, 2000 + LETTING_GO_RETIRED_MS, &since));
    look.led = true; /* an election */
    assert_false(letting_go_is_over(&look, 2001 + LETTING_GO_RETIRED_MS, &since));
    look.led = false;
    assert_false(letting_go_is_over(&look, 3000 + LETTING_GO_RETIRED_MS, &since));
    assert_true(letting_go_is_over(&look, 3001 + 2 * LETTING_GO_RETIRED_MS, &since));
    look.vacant = false; /* an order is left, and no majority: its vote may be the one lacking */
    assert_false(letting_go_is_over(&look, 3002 + 2 * LETTING_GO_RETIRED_MS, &since));
    assert_false(letting_go_is_over(&look, 4000 + 9 * LETTING_GO_RETIRED_MS, &since));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_no_member_goes_at_once),
        cmocka_unit_test(a_member_with_a_leader_stays),
        cmocka_unit_test(a_removed_one_goes_when_another_has_led_for_long),
        cmocka_unit_test(an_election_does_not_cost_a_voter),
        cmocka_unit_test(replicas_of_a_retired_shard_go_one_by_one),
        cmocka_unit_test(what_lies_there_is_found_until_it_is_noted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
