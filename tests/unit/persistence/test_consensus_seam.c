/* What the library must never be asked for, and the halves of rules that only show on their own:
 * each test fails when the line that it stands for is taken out. */
/* clang-format off: cmocka.h needs the others before it */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>

#include "engine/limits.h"
#include "tests/unit/persistence/consensus_script.h"

enum { SENTENCE_BYTES = 256 };

/* Of server 4. 0; or -1 with a sentence. */
static int change_four(struct world_server *s, uint8_t change, int64_t now_ms, char *error) {
    struct consensus_update update;
    int rv = consensus_change(s->c, change, 4, "s4", now_ms, &update, error, SENTENCE_BYTES);
    world_take(s, &update);
    return rv;
}

static void refuses_change(struct world_server *s, uint8_t change, int64_t now_ms,
                           const char *sentence) {
    char error[SENTENCE_BYTES] = "";
    assert_int_equal(change_four(s, change, now_ms, error), -1);
    if (strstr(error, sentence) == NULL) fail_msg("'%s' does not say '%s'", error, sentence);
}

static void takes_change(struct world_server *s, uint8_t change, int64_t now_ms) {
    char error[SENTENCE_BYTES] = "";
    if (change_four(s, change, now_ms, error) != 0) fail_msg("refused: %s", error);
}

static void tell_checkpoint(struct world_server *s, uint64_t index, int64_t now_ms) {
    struct consensus_update update;
    consensus_checkpointed(s->c, index, 0, now_ms, &update);
    world_take(s, &update);
}

/* 0; or -1 with a sentence. */
static int hand_over(struct world_server *s, uint64_t to, int64_t now_ms, char *error) {
    struct consensus_update update;
    int rv = consensus_transfer(s->c, to, now_ms, &update, error, SENTENCE_BYTES);
    world_take(s, &update);
    return rv;
}

/* -- G2, R1 ------------------------------------------------------------------------------------ */

static void submit_of_a_change_behind_events(void *arg) {
    struct world_server *s = arg;
    struct record *first = world_record(0, 0, RECORD_EVENTS, "x");
    first->next = configuration(0, 0, 3);
    struct consensus_update update;
    consensus_submit(s->c, first, 100000, &update);
}

static void g2_a_change_is_not_behind_others_in_a_batch(void **state) {
    (void)state;
    struct world_server s;
    elect(&s, 0);
    assert_true(world_aborts(submit_of_a_change_behind_events, &s));
    world_free(&s);
}

/* Two changes one after the other, the second is replaced by another leader's record: what the
 * first one says is in force, not the configuration of the beginning. */
static void r1_the_first_of_two_changes_stays_in_force(void **state) {
    (void)state;
    struct world_server s;
    follow(&s, 0);
    struct record *first[] = {configuration(1, 2, 4)};
    append(&s, 1, 1, 1, first, 1, 1, 10);
    struct record *second[] = {configuration(1, 3, 5)};
    append(&s, 1, 2, 1, second, 1, 1, 11);
    world_settle(&s, 12);
    struct record *other[] = {events(2, 3)};
    append(&s, 2, 2, 1, other, 1, 1, 20);
    struct consensus_group group;
    consensus_group(s.c, 21, &group);
    assert_int_equal(group.count, 4);
    world_free(&s);
}

/* -- what comes from peers --------------------------------------------------------------------- */

/* A peer that claims what was never written has not got what is written later. */
static void what_a_peer_claims_too_much_is_not_counted_later(void **state) {
    (void)state;
    struct world_server s;
    int64_t now = elect(&s, 0);
    uint64_t last = consensus_last_index(s.c);
    for (uint64_t peer = 2; peer <= 3; peer++) result(&s, peer, 0, last + 5, ++now);
    assert_int_equal(world_submit(&s, 5, ++now), 0);
    world_settle(&s, ++now);
    assert_int_equal(consensus_last_index(s.c), last + 5);
    assert_int_equal(s.commit_index, last);
    result(&s, 3, 0, last + 5, ++now);
    assert_int_equal(s.commit_index, last + 5);
    world_free(&s);
}

/* There is one leader a term: an append of this leader's own term is nobody's. */
static void a_leader_takes_no_append_of_its_own_term(void **state) {
    (void)state;
    struct world_server s;
    int64_t now = elect(&s, 0);
    uint64_t last = consensus_last_index(s.c), term = consensus_term(s.c);
    struct record *records[] = {events(term, last + 1)};
    append(&s, term, last, term, records, 1, last, ++now);
    assert_int_equal(s.role, CONSENSUS_LEADER);
    assert_int_equal(consensus_leader(s.c), 1);
    assert_int_equal(consensus_last_index(s.c), last);
    assert_int_equal(s.out_count, 0);
    world_free(&s);
}

/* -- what goes to peers ------------------------------------------------------------------------ */

static void an_append_is_bounded_by_bytes(void **state) {
    (void)state;
    enum { RECORDS = 3, RECORD_BYTES = CONSENSUS_MESSAGE_BYTES_MAX / 2 + 1 };
    struct world_server s;
    int64_t now = elect(&s, 0);
    uint64_t last = consensus_last_index(s.c);
    struct record *first = NULL, **link = &first;
    for (int i = 0; i < RECORDS; i++) {
        *link = record_new(RECORD_BYTES);
        assert_non_null(*link);
        memset((*link)->payload, 'a' + i, RECORD_BYTES);
        (*link)->header.payload_bytes = RECORD_BYTES;
        (*link)->header.type = RECORD_EVENTS;
        link = &(*link)->next;
    }
    struct consensus_update update;
    assert_int_equal(consensus_submit(s.c, first, ++now, &update), 0);
    world_take(&s, &update);
    uint32_t found = 0;
    for (uint32_t i = 0; i < s.out_count; i++) {
        const struct consensus_message *m = &s.out[i].m;
        if (m->to != 2 || m->kind != CONSENSUS_APPEND) continue;
        assert_int_equal(m->records_count, 1);
        assert_int_equal(m->previous_index, last + found); /* each goes on from the one before */
        found++;
    }
    assert_int_equal(found, RECORDS);
    world_free(&s);
}

static void as_many_entries_are_on_their_way_as_may_be(void **state) {
    (void)state;
    struct world_server s;
    int64_t now = elect(&s, 0);
    assert_int_equal(world_submit(&s, 100, ++now), 0);
    assert_int_equal(world_submit(&s, 50, ++now), 0);
    uint32_t sent = 0;
    for (uint32_t i = 0; i < s.out_count; i++)
        if (s.out[i].m.to == 2) sent += s.out[i].m.records_count;
    assert_int_equal(sent, 150);
    world_free(&s);
}

/* -- persisted records, time ------------------------------------------------------------------- */

/* Of a batch that was replaced as a whole nothing is reported, not even what is in front of it. */
static void a_batch_that_is_gone_reports_nothing(void **state) {
    (void)state;
    struct world_server s;
    follow(&s, 0);
    struct record *old[] = {events(1, 2), events(1, 3)};
    append(&s, 1, 1, 1, old, 2, 1, 10);
    struct record *new[] = {events(2, 2)};
    append(&s, 2, 1, 1, new, 1, 1, 20);
    world_clear_out(&s);
    assert_true(world_persist(&s, 30));
    assert_int_equal(s.out_count, 0);
    assert_int_equal(consensus_durable_index(s.c), 1);
    assert_true(world_persist(&s, 31));
    assert_int_equal(consensus_durable_index(s.c), 2);
    world_free(&s);
}

/* Times are subtracted without a sign: a clock that jumps back would look like eternal silence, and
 * the leader be forgotten (E4). */
static void a_clock_that_jumps_back_deposes_nobody(void **state) {
    (void)state;
    struct world_server s;
    follow(&s, 0);
    append(&s, 1, 1, 1, NULL, 0, 1, 5000);
    world_clear_out(&s);
    world_tick(&s, 1000);
    assert_int_equal(s.role, CONSENSUS_FOLLOWER);
    assert_int_equal(s.out_count, 0);
    assert_true(s.timeout_ms > 5000);
    vote(&s, 3, 2, true, 1001);
    const struct world_sent *answer = world_last_sent(&s, 3, CONSENSUS_VOTE_RESULT);
    assert_non_null(answer);
    assert_false(answer->m.granted);
    world_free(&s);
}

/* -- checkpoints: only what the library can do ------------------------------------------------- */

static void a_checkpoint_of_what_is_not_durable_here_is_not_told(void **state) {
    (void)state;
    struct world_server s;
    int64_t now = elect(&s, 0);
    assert_int_equal(world_submit(&s, 8, ++now), 0);
    uint64_t last = consensus_last_index(s.c);
    result(&s, 2, 0, last, ++now);
    result(&s, 3, 0, last, ++now);
    assert_int_equal(s.commit_index, last); /* by the others */
    assert_true(consensus_durable_index(s.c) < last);
    tell_checkpoint(&s, last, ++now);
    assert_int_equal(consensus_reach(s.c), 0);
    world_settle(&s, ++now);
    tell_checkpoint(&s, last, ++now);
    assert_int_equal(consensus_reach(s.c), last);
    world_free(&s);
}

static void an_older_checkpoint_is_not_told(void **state) {
    (void)state;
    struct world_server s;
    int64_t now = elect(&s, 0);
    assert_int_equal(world_submit(&s, 8, ++now), 0);
    world_settle(&s, ++now);
    result(&s, 2, 0, consensus_last_index(s.c), ++now);
    world_apply(&s, ++now);
    world_checkpoint(&s, 6, 100, ++now);
    assert_int_equal(consensus_reach(s.c), 1); /* all is kept */
    tell_checkpoint(&s, 3, ++now);
    assert_int_equal(consensus_reach(s.c), 1);
    world_free(&s);
}

/* A snapshot goes with the configuration of its index, whatever is committed behind it: a follower
 * that were given a later one would be stuck. */
static void a_snapshot_is_asked_for_with_the_configuration_of_its_index(void **state) {
    (void)state;
    struct world_server s;
    int64_t now = elect(&s, 0);
    result(&s, 3, 0, 2, ++now);
    takes_change(&s, CONSENSUS_ADD_STANDBY, ++now);
    assert_int_equal(consensus_open_change(s.c), 3);
    assert_int_equal(world_submit(&s, 8, ++now), 0);
    world_settle(&s, ++now);
    result(&s, 2, 0, consensus_last_index(s.c), ++now);
    world_apply(&s, ++now);
    assert_int_equal(consensus_open_change(s.c), 0);
    tell_checkpoint(&s, 2, ++now);
    world_clear_out(&s);
    const struct world_sent *ask = NULL;
    for (int i = 0; i < 20 && ask == NULL; i++) {
        result(&s, 2, 0, consensus_last_index(s.c), ++now);
        world_tick(&s, now += 60);
        const struct world_sent *beat = world_last_sent(&s, 4, CONSENSUS_APPEND);
        if (beat != NULL) result(&s, 4, beat->m.previous_index, 0, ++now); /* it has nothing */
        ask = world_last_sent(&s, 4, CONSENSUS_INSTALL_SNAPSHOT);
    }
    assert_non_null(ask);
    assert_int_equal(ask->m.last_index, 2);
    assert_int_equal(ask->m.configuration_index, 1);
    world_free(&s);
}

/* -- M3, M6, T1 -------------------------------------------------------------------------------- */

/* A stored group of one voter with another server beside it does not run, whoever wrote it. */
static void m3_one_voter_with_others_does_not_start(void **state) {
    (void)state;
    enum { ROLE_OF_THE_SECOND = 1 + 8 + (8 + 3 + 1) + (8 + 3), STANDBY = 0 };
    static const uint64_t two[] = {1, 2};
    struct consensus_options options = {1, "s1", 300, 50, 1};
    struct consensus_update update;
    char error[256] = "";
    struct record *r = consensus_bootstrap_record(two, (const char *[]){"s1", "s2"}, 2);
    struct consensus_entry entry = {1, RECORD_CONFIGURATION, r->payload, r->header.payload_bytes};
    struct consensus_start start = {
        .term = 1, .first_index = 1, .entries = &entry, .entries_count = 1};
    struct consensus *c = consensus_new(&options);
    assert_int_equal(consensus_start(c, &start, &update, error, sizeof error), 0);
    consensus_free(c);
    r->payload[ROLE_OF_THE_SECOND] = STANDBY;
    c = consensus_new(&options);
    assert_int_equal(consensus_start(c, &start, &update, error, sizeof error), -1);
    assert_non_null(strstr(error, "M3"));
    consensus_free(c);
    record_release(r);
}

/* A node that was alone, stopped in order, as forming makes it one of three: their names are in the
 * marker, and in the record behind it. It leads, as far as 2 is concerned. */
static int64_t lead_what_was_formed(struct world_server *s) {
    int64_t now = 1;
    world_bootstrap(s, 1, three, 1);
    world_start(s, now);
    world_settle(s, ++now);
    assert_int_equal(world_submit(s, 8, ++now), 0);
    world_settle(s, ++now);
    world_checkpoint(s, consensus_last_index(s->c), 100, ++now);
    world_crash(s);
    struct record *formed = configuration(s->marker_term + 1, s->marker_index + 1, 3);
    memcpy(s->configuration, formed->payload, formed->header.payload_bytes);
    s->configuration_bytes = formed->header.payload_bytes;
    s->configuration_index = s->marker_index;
    s->log[s->durable_count++] = formed;
    s->term++;
    s->voted_for = 0;
    s->start_trailing = 100;
    s->of_cluster = true;
    world_start(s, ++now);
    now += s->timeout_ms;
    world_tick(s, now);
    granted(s, 2, s->term + 1, true, ++now);
    granted(s, 2, s->term, false, ++now);
    world_settle(s, ++now);
    result(s, 2, 0, consensus_last_index(s->c), ++now);
    result(s, 3, 0, consensus_last_index(s->c), ++now);
    world_apply(s, ++now);
    assert_true(s->ready);
    return now;
}

/* Whoever joins is sent the log from its beginning, where one voter is named, and may be stopped
 * before it comes to where there are three. */
static void m3_a_joiner_is_stopped_in_the_log_of_a_node_alone(void **state) {
    (void)state;
    struct world_server s, joiner;
    int64_t now = lead_what_was_formed(&s);
    takes_change(&s, CONSENSUS_ADD_STANDBY, ++now);
    world_clear_out(&s);
    result(&s, 4, consensus_last_index(s.c), 0, ++now); /* it has nothing */
    const struct world_sent *sent = s.out;
    assert_true(s.out_count > 0 && sent->m.to == 4 && sent->m.kind == CONSENSUS_APPEND);
    assert_int_equal(sent->m.previous_index, 0);
    assert_true(sent->m.records_count > 4);
    struct consensus_message part = sent->m;
    part.records_count = 4;
    part.commit_index = 4;
    world_join(&joiner, 4);
    joiner.of_cluster = true;
    world_start(&joiner, ++now);
    world_receive(&joiner, &part, ++now);
    world_settle(&joiner, ++now);
    assert_int_equal(joiner.durable_count, 4);
    world_crash(&joiner);
    world_start(&joiner, ++now);
    assert_int_equal(joiner.role, CONSENSUS_FOLLOWER);
    world_receive(&joiner, &sent->m, ++now);
    world_settle(&joiner, ++now);
    assert_int_equal(joiner.durable_count, sent->m.records_count);
    world_free(&joiner);
    world_free(&s);
}

static void m6_a_standby_that_lags_gets_no_vote_and_no_lead(void **state) {
    (void)state;
    struct world_server s;
    char error[SENTENCE_BYTES] = "";
    int64_t now = elect(&s, 0);
    result(&s, 3, 0, 2, ++now);
    takes_change(&s, CONSENSUS_ADD_STANDBY, ++now);
    for (int i = 0; i < 2; i++) world_submit(&s, CONSENSUS_INFLIGHT_ENTRIES - 10, ++now);
    world_settle(&s, ++now);
    uint64_t last = consensus_last_index(s.c);
    result(&s, 2, 0, last, ++now);
    result(&s, 3, 0, last, ++now);
    world_apply(&s, ++now);
    result(&s, 4, 0, 3, ++now); /* it knows that it is a member */
    refuses_change(&s, CONSENSUS_PROMOTE, ++now, "M6");
    result(&s, 4, 0, last, ++now);
    assert_int_equal(hand_over(&s, 4, ++now, error), -1);
    assert_non_null(strstr(error, "not another voter"));
    takes_change(&s, CONSENSUS_PROMOTE, ++now);
    world_free(&s);
}

static void t1_no_change_while_the_lead_is_handed_over(void **state) {
    (void)state;
    struct world_server s;
    char error[SENTENCE_BYTES] = "";
    int64_t now = elect(&s, 0);
    result(&s, 3, 0, 2, ++now);
    assert_int_equal(hand_over(&s, 2, ++now, error), 0);
    refuses_change(&s, CONSENSUS_ADD_STANDBY, ++now, "handed over");
    assert_int_equal(consensus_open_change(s.c), 0);
    world_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(g2_a_change_is_not_behind_others_in_a_batch),
        cmocka_unit_test(r1_the_first_of_two_changes_stays_in_force),
        cmocka_unit_test(what_a_peer_claims_too_much_is_not_counted_later),
        cmocka_unit_test(a_leader_takes_no_append_of_its_own_term),
        cmocka_unit_test(an_append_is_bounded_by_bytes),
        cmocka_unit_test(as_many_entries_are_on_their_way_as_may_be),
        cmocka_unit_test(a_batch_that_is_gone_reports_nothing),
        cmocka_unit_test(a_clock_that_jumps_back_deposes_nobody),
        cmocka_unit_test(a_checkpoint_of_what_is_not_durable_here_is_not_told),
        cmocka_unit_test(an_older_checkpoint_is_not_told),
        cmocka_unit_test(a_snapshot_is_asked_for_with_the_configuration_of_its_index),
        cmocka_unit_test(m3_one_voter_with_others_does_not_start),
        cmocka_unit_test(m3_a_joiner_is_stopped_in_the_log_of_a_node_alone),
        cmocka_unit_test(m6_a_standby_that_lags_gets_no_vote_and_no_lead),
        cmocka_unit_test(t1_no_change_while_the_lead_is_handed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
