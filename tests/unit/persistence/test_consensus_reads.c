/* Rounds of reads at one leader, told message by message. */
/* clang-format off: cmocka.h needs the others before it */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/persistence/consensus_script.h"

static void pong(struct world_server *s, uint64_t from, uint64_t term, uint64_t round,
                 int64_t now_ms) {
    struct consensus_message m = {
        .kind = CONSENSUS_PONG, .from = from, .to = 1, .term = term, .last_index = round};
    world_receive(s, &m, now_ms);
}

static uint32_t pings(const struct world_server *s, uint64_t to, uint64_t round) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->out_count; i++) {
        const struct consensus_message *m = &s->out[i].m;
        if (m->kind != CONSENSUS_PING || m->to != to || m->last_index != round) continue;
        assert_int_equal(m->term, consensus_term(s->c));
        count++;
    }
    return count;
}

static void a_majority_confirms(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    uint64_t round = world_read(&s, ++now);
    assert_true(round > 0);
    assert_int_equal(pings(&s, 2, round), 1);
    assert_int_equal(pings(&s, 3, round), 1);
    assert_int_equal(s.reads_confirmed, 0);
    pong(&s, 9, 2, round, ++now);     /* not a member */
    pong(&s, 3, 1, round, ++now);     /* of another term */
    pong(&s, 3, 3, round, ++now);
    pong(&s, 3, 2, round + 1, ++now); /* of another round */
    pong(&s, 1, 2, round, ++now);     /* ourselves */
    assert_int_equal(s.reads_confirmed, 0);
    pong(&s, 3, 2, round, ++now);
    assert_int_equal(s.reads_confirmed, round);
    pong(&s, 2, 2, round, ++now); /* late */
    assert_int_equal(s.reads_confirmed, round);
    world_free(&s);
}

static void q1_one_of_five_is_no_majority(void **state) {
    static const uint64_t five[] = {1, 2, 3, 4, 5};
    struct world_server s;
    world_bootstrap(&s, 1, five, 5);
    world_start(&s, 0);
    int64_t now = s.timeout_ms;
    world_tick(&s, now);
    for (int phase = 1; phase >= 0; phase--) {
        granted(&s, 2, 2, phase == 1, ++now);
        granted(&s, 3, 2, phase == 1, ++now);
    }
    assert_int_equal(s.role, CONSENSUS_LEADER);
    assert_int_equal(world_read(&s, ++now), 0); /* its barrier is not committed */
    world_settle(&s, ++now);
    result(&s, 2, 0, 2, ++now);
    result(&s, 3, 0, 2, ++now);
    assert_true(s.ready);
    uint64_t round = world_read(&s, ++now);
    pong(&s, 4, 2, round, ++now);
    pong(&s, 4, 2, round, ++now); /* twice is once */
    assert_int_equal(s.reads_confirmed, 0);
    pong(&s, 5, 2, round, ++now);
    assert_int_equal(s.reads_confirmed, round);
    world_free(&s);
}

static void reads_are_gathered_while_one_round_is_on_its_way(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    uint64_t first = world_read(&s, ++now);
    world_clear_out(&s);
    uint64_t second = world_read(&s, ++now);
    assert_int_equal(second, first + 1);
    for (int i = 0; i < 1000; i++) assert_int_equal(world_read(&s, ++now), second);
    assert_int_equal(pings(&s, 2, first) + pings(&s, 2, second), 0);
    pong(&s, 2, 2, first, ++now);
    assert_int_equal(s.reads_confirmed, first);
    assert_int_equal(pings(&s, 2, second), 1); /* begun only now */
    pong(&s, 3, 2, first, ++now);              /* an answer of before says nothing about it */
    assert_int_equal(s.reads_confirmed, first);
    pong(&s, 3, 2, second, ++now);
    assert_int_equal(s.reads_confirmed, second);
    uint64_t third = world_read(&s, ++now);
    assert_int_equal(third, second + 1);
    world_free(&s);
}

static void lost_pings_are_sent_again(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    uint64_t round = world_read(&s, ++now);
    int64_t asked = now;
    assert_true(s.timeout_ms <= asked + 50);
    world_clear_out(&s);
    world_tick(&s, asked + 49);
    assert_int_equal(pings(&s, 2, round), 0);
    world_tick(&s, asked + 50);
    world_tick(&s, asked + 60);
    assert_int_equal(pings(&s, 2, round), 1); /* once a heartbeat */
    assert_int_equal(pings(&s, 3, round), 1);
    pong(&s, 2, 2, round, asked + 61);
    world_clear_out(&s);
    world_tick(&s, asked + 200);
    assert_int_equal(pings(&s, 3, round), 0); /* confirmed: no more */
    world_free(&s);
}

static void a_lost_role_confirms_nothing(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    uint64_t round = world_read(&s, ++now), gathered = world_read(&s, ++now);
    append(&s, 3, 2, 2, NULL, 0, 2, ++now); /* a leader of term 3 */
    assert_int_equal(s.role, CONSENSUS_FOLLOWER);
    pong(&s, 2, 2, round, ++now);
    assert_int_equal(s.reads_confirmed, 0);
    assert_int_equal(world_read(&s, ++now), 0);
    /* Elected again, in term 4: the old rounds stay lost, the next has a new number. */
    now = s.timeout_ms;
    world_tick(&s, now);
    granted(&s, 2, 4, true, ++now);
    granted(&s, 2, 4, false, ++now);
    world_settle(&s, ++now);
    result(&s, 2, 0, 3, ++now);
    assert_true(s.ready);
    pong(&s, 2, 4, round, ++now);
    assert_int_equal(s.reads_confirmed, 0);
    assert_true(world_read(&s, ++now) > gathered);
    world_free(&s);
}

static void one_voter_is_confirmed_at_once(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, three, 1);
    world_start(&s, 0);
    assert_int_equal(world_read(&s, 1), 0);
    world_settle(&s, 2);
    for (uint64_t i = 1; i < 5; i++) {
        assert_int_equal(world_read(&s, 3), i);
        assert_int_equal(s.reads_confirmed, i);
    }
    assert_int_equal(s.out_count, 0);
    world_free(&s);
}

static bool answers(uint32_t rules_off, uint64_t term) {
    struct world_server s;
    follow(&s, rules_off);
    vote(&s, 3, 5, false, 10); /* term 5 */
    world_clear_out(&s);
    struct consensus_message m = {
        .kind = CONSENSUS_PING, .from = 2, .to = 1, .term = term, .last_index = 7};
    world_receive(&s, &m, 20);
    const struct world_sent *answer = world_last_sent(&s, 2, CONSENSUS_PONG);
    if (answer != NULL) {
        assert_int_equal(answer->m.term, term);
        assert_int_equal(answer->m.last_index, 7);
    }
    assert_int_equal(consensus_term(s.c), 5);
    bool yes = answer != NULL;
    world_free(&s);
    return yes;
}

static void q2_only_the_own_term_is_answered(void **state) {
    assert_true(answers(0, 5));
    assert_false(answers(0, 4)); /* a newer leader may have been elected with our vote */
    assert_false(answers(0, 6));
    assert_true(answers(CONSENSUS_RULE_Q2, 4));
}

/* An earlier replica of this group ran on the same node under another id: what is still sent to
 * that one is not for this one. */
static void what_is_for_another_server_is_dropped(void **state) {
    struct world_server s;
    follow(&s, 0);
    world_clear_out(&s);
    struct consensus_message m = {.kind = CONSENSUS_PING, .from = 2, .term = consensus_term(s.c),
                                  .last_index = 7};
    m.to = consensus_server_id(1, 1);
    world_receive(&s, &m, 20);
    assert_null(world_last_sent(&s, 2, CONSENSUS_PONG));
    m.to = 1;
    world_receive(&s, &m, 20);
    assert_non_null(world_last_sent(&s, 2, CONSENSUS_PONG));
    world_free(&s);
}

static void q1_without_it_a_leader_alone_confirms(void **state) {
    struct world_server s;
    int64_t now = elect(&s, CONSENSUS_RULE_Q1);
    uint64_t round = world_read(&s, ++now);
    assert_int_equal(s.reads_confirmed, round);
    world_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_majority_confirms),
        cmocka_unit_test(q1_one_of_five_is_no_majority),
        cmocka_unit_test(reads_are_gathered_while_one_round_is_on_its_way),
        cmocka_unit_test(lost_pings_are_sent_again),
        cmocka_unit_test(a_lost_role_confirms_nothing),
        cmocka_unit_test(one_voter_is_confirmed_at_once),
        cmocka_unit_test(q2_only_the_own_term_is_answered),
        cmocka_unit_test(what_is_for_another_server_is_dropped),
        cmocka_unit_test(q1_without_it_a_leader_alone_confirms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
