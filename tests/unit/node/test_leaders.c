/* Whom a node believes about who leads what; shards that come and go under the feet of users. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/router/leaders.h"
#include "persistence/consensus.h"

static struct leaders leaders;

static int set_up(void **state) {
    leaders_init(&leaders);
    return 0;
}

static int tear_down(void **state) {
    leaders_fini(&leaders);
    return 0;
}

static void expect_route(uint32_t shard, uint32_t node, bool ready) {
    struct leader_route r = leaders_route(&leaders, shard);
    assert_int_equal(r.node, node);
    assert_int_equal(r.ready, ready);
}

static void test_newer_terms_win(void **state) {
    expect_route(3, 0, false);
    assert_true(leaders_note(&leaders, 1, 3, 5, 2, false)); /* node 1's replica follows node 2 */
    expect_route(3, 2, false);
    assert_true(leaders_note(&leaders, 2, 3, 5, 2, true));  /* which says so itself */
    expect_route(3, 2, true);
    assert_false(leaders_note(&leaders, 3, 3, 4, 3, true)); /* node 3 has not heard of its fall */
    expect_route(3, 2, true);
    assert_true(leaders_note(&leaders, 3, 3, 6, 3, true));
    expect_route(3, 3, true);
    expect_route(4, 0, false);
}

static void test_only_the_leader_speaks_for_its_term(void **state) {
    leaders_note(&leaders, 2, 0, 5, 2, true);
    assert_false(leaders_note(&leaders, 1, 0, 5, 0, false)); /* node 1 lost sight of it */
    assert_false(leaders_note(&leaders, 1, 0, 5, 2, false)); /* and found it again */
    assert_false(leaders_note(&leaders, 3, 0, 5, 3, true));  /* nonsense */
    expect_route(0, 2, true);
    assert_true(leaders_note(&leaders, 2, 0, 5, 0, false));
    expect_route(0, 0, false);
    assert_true(leaders_note(&leaders, 1, 0, 7, 0, false) == false); /* a term without a leader */
    assert_int_equal(leaders_known(&leaders, 0).term, 7);
    assert_false(leaders_note(&leaders, 2, 0, 6, 2, true));
    expect_route(0, 0, false);
    assert_true(leaders_note(&leaders, 1, 0, 7, consensus_server_id(3, 2), false));
    expect_route(0, 3, false);
    assert_int_equal(leaders_known(&leaders, 0).server, consensus_server_id(3, 2));
}

/* Right after a term has begun a follower may still name the leader of the one before. */
static void test_the_last_word_counts_until_one_claims_the_term(void **state) {
    leaders_note(&leaders, 2, 0, 5, 2, true);
    assert_true(leaders_note(&leaders, 3, 0, 6, 2, false)); /* mistaken */
    expect_route(0, 2, false);
    assert_true(leaders_note(&leaders, 3, 0, 6, 1, false));
    expect_route(0, 1, false);
    assert_false(leaders_note(&leaders, 3, 0, 6, 0, false));
    expect_route(0, 1, false);
    assert_true(leaders_note(&leaders, 1, 0, 6, 1, true));
    assert_false(leaders_note(&leaders, 3, 0, 6, 2, false)); /* too late */
    expect_route(0, 1, true);
}

static void test_a_silent_node_leads_nothing(void **state) {
    leaders_note(&leaders, 2, 0, 5, 2, true);
    leaders_note(&leaders, 2, SHARD_META, 9, 2, true);
    leaders_note(&leaders, 3, 1, 5, 3, true);
    assert_true(leaders_forget_node(&leaders, 2));
    assert_false(leaders_forget_node(&leaders, 2));
    expect_route(0, 0, false);
    expect_route(SHARD_META, 0, false);
    expect_route(1, 3, true);
    assert_true(leaders_note(&leaders, 2, 0, 5, 2, true)); /* it was only silent */
    expect_route(0, 2, true);
}

/* A replica here counted terms on after it had been taken out of its group, which never gets there:
 * without the replica its word counts no more. */
static void test_what_a_replica_said_goes_with_it(void **state) {
    leaders_note(&leaders, 2, 0, 5, 2, true);
    leaders_note(&leaders, 1, 0, 6, 0, false); /* node 1's own replica stood for election */
    expect_route(0, 0, false);
    assert_false(leaders_note(&leaders, 2, 0, 5, 2, true));
    expect_route(0, 0, false);
    assert_false(leaders_forget_shard(&leaders, 0));
    assert_int_equal(leaders_known(&leaders, 0).term, 0);
    assert_true(leaders_note(&leaders, 2, 0, 5, 2, true));
    expect_route(0, 2, true);
    assert_true(leaders_forget_shard(&leaders, 0));
    expect_route(0, 0, false);
    assert_false(leaders_forget_shard(&leaders, SHARDS_MAX));
}

static void test_numbers_of_no_shard(void **state) {
    assert_false(leaders_note(&leaders, 1, SHARDS_MAX, 5, 1, true));
    expect_route(SHARDS_MAX, 0, false);
    expect_route(UINT32_MAX, 0, false);
}

static struct local_shards local;

static void *visit_often(void *arg) {
    for (int i = 0; i < 20000; i++) {
        int *s = (int *)local_shards_enter(&local, 7);
        if (!s) continue;
        if (*s != 1) return (void *)1; /* it was taken away under our feet */
        local_shards_leave(&local, 7);
    }
    return NULL;
}

static void test_nobody_is_inside_what_was_taken_out(void **state) {
    pthread_t visitors[2];
    int live = 1;
    assert_null(local_shards_enter(&local, 7));
    assert_null(local_shards_enter(&local, SHARDS_MAX));
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&visitors[i], NULL, visit_often, NULL), 0);
    for (int i = 0; i < 200; i++) {
        live = 1;
        local_shards_put(&local, 7, (struct shard *)&live);
        local_shards_take_out(&local, 7);
        live = 0;
    }
    for (int i = 0; i < 2; i++) {
        void *fault = NULL;
        pthread_join(visitors[i], &fault);
        assert_null(fault);
    }
    assert_null(local_shards_enter(&local, 7));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_newer_terms_win, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_the_leader_speaks_for_its_term, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_last_word_counts_until_one_claims_the_term,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_silent_node_leads_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_replica_said_goes_with_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_numbers_of_no_shard, set_up, tear_down),
        cmocka_unit_test(test_nobody_is_inside_what_was_taken_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
