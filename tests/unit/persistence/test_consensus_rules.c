/* Each seam rule that can be shown on one server: what holds with it, and what breaks without it.
 */
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

/* -- M3 and L1 --------------------------------------------------------------------------------- */

static void m3_lone_voter_gets_a_new_term(void **state) {
    struct world_server with, without;
    world_bootstrap(&with, 1, three, 1);
    world_bootstrap(&without, 1, three, 1);
    without.rules_off = CONSENSUS_RULE_M3;
    world_start(&with, 0);
    world_start(&without, 0);
    assert_int_equal(with.term, 2);
    assert_int_equal(consensus_term(with.c), 2);
    assert_int_equal(consensus_term(without.c), 1); /* leads again in a term that had a leader */
    world_free(&with);
    world_free(&without);
}

/* The log of a node that was alone, which has lost what its group made of it since. */
static void m3_a_group_of_several_does_not_start_with_one_voter(void **state) {
    static const char *const address = "1";
    const struct consensus_options options = {
        .id = 1, .address = "1", .election_timeout_ms = 500, .heartbeat_ms = 50, .seed = 3};
    struct record *first = consensus_bootstrap_record(three, &address, 1);
    const struct consensus_entry entries[] = {
        {1, RECORD_CONFIGURATION, first->payload, first->header.payload_bytes},
        {2, RECORD_BARRIER, NULL, 0}};
    struct consensus_start start = {.term = 2, .voted_for = 1, .first_index = 1,
                                    .entries = entries, .entries_count = 2};
    for (int i = 0; i < 4; i++) {
        struct consensus *c = consensus_new(&options);
        struct consensus_update update = {0};
        char error[256] = "";
        start.of_cluster = i % 2;
        if (i >= 2) consensus_rules_off(c, CONSENSUS_RULE_M3);
        int rc = consensus_start(c, &start, &update, error, sizeof error);
        assert_int_equal(rc, i == 1 ? -1 : 0);
        if (i == 1) assert_non_null(strstr(error, "(M3)"));
        else assert_int_equal(consensus_role(c), CONSENSUS_LEADER); /* that is the danger */
        while (update.records) {
            struct record *r = update.records;
            update.records = r->next;
            record_release(r);
        }
        consensus_free(c);
    }
    record_release(first);
}

static void l1_every_leader_writes_a_barrier(void **state) {
    struct world_server with, without;
    elect(&with, 0);
    elect(&without, CONSENSUS_RULE_L1);
    /* Its log was not ahead of the commit index: the library writes none by itself. */
    assert_int_equal(with.barriers, 1);
    assert_int_equal(without.barriers, 0);
    world_free(&with);
    world_free(&without);
}

static void l1_clients_wait_for_the_barrier(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, three, 3);
    world_start(&s, 0);
    int64_t now = s.timeout_ms;
    world_tick(&s, now);
    granted(&s, 2, 2, true, ++now);
    granted(&s, 2, 2, false, ++now);
    assert_int_equal(s.role, CONSENSUS_LEADER);
    assert_int_equal(world_submit(&s, 1, ++now), -1);
    world_settle(&s, ++now); /* durable here is not committed */
    assert_false(s.ready);
    assert_int_equal(world_submit(&s, 1, ++now), -1);
    result(&s, 3, 0, 2, ++now);
    assert_true(s.ready);
    assert_int_equal(world_submit(&s, 1, ++now), 0);
    world_free(&s);
}

/* The library's own no-op counts as the barrier: there is one, not two. */
static void l1_one_barrier_when_the_library_writes_it(void **state) {
    struct world_server s;
    follow(&s, 0);
    struct record *records[] = {events(1, 2)};
    append(&s, 1, 1, 1, records, 1, 1, 10);
    world_settle(&s, 11);
    world_crash(&s);
    world_start(&s, 20);
    int64_t now = s.timeout_ms;
    world_tick(&s, now);
    granted(&s, 2, 2, true, ++now);
    granted(&s, 2, 2, false, ++now);
    assert_int_equal(s.role, CONSENSUS_LEADER);
    assert_int_equal(s.barriers, 1);
    assert_int_equal(consensus_last_index(s.c), 3);
    world_settle(&s, ++now);
    result(&s, 2, 0, 3, ++now);
    assert_true(s.ready);
    world_free(&s);
}

/* -- persisted records ------------------------------------------------------------------------- */

static uint64_t acknowledged_after_truncation(uint32_t rules_off) {
    struct world_server s;
    follow(&s, rules_off);
    struct record *old[] = {events(1, 2), events(1, 3), events(1, 4)};
    append(&s, 1, 1, 1, old, 3, 1, 10);
    struct record *new[] = {events(2, 3)};
    append(&s, 2, 2, 1, new, 1, 1, 20);
    world_clear_out(&s);
    assert_int_equal(s.queue_count, 2);
    world_persist(&s, 30); /* the first batch: 2, 3 and 4 of term 1; of these only 2 still stands */
    const struct world_sent *ack = world_last_sent(&s, 2, CONSENSUS_APPEND_RESULT);
    uint64_t index = ack != NULL ? ack->m.last_index : 0;
    world_free(&s);
    return index;
}

static void truncated_records_are_not_acknowledged(void **state) {
    assert_int_equal(acknowledged_after_truncation(0), 2);
    /* Without the rule record 3 of term 2 is acknowledged before it is on disk. */
    assert_true(acknowledged_after_truncation(CONSENSUS_RULE_TRUNCATED) > 2);
}

static void the_log_after_truncation(void **state) {
    struct world_server s;
    follow(&s, 0);
    struct record *old[] = {events(1, 2), events(1, 3), events(1, 4)};
    append(&s, 1, 1, 1, old, 3, 1, 10);
    world_settle(&s, 11);
    assert_int_equal(s.durable_count, 4);
    struct record *new[] = {events(2, 3)};
    append(&s, 2, 2, 1, new, 1, 3, 20);
    assert_int_equal(consensus_last_index(s.c), 3);
    assert_int_equal(consensus_term_of(s.c, 3), 2);
    world_settle(&s, 21);
    assert_int_equal(s.durable_count, 3);
    assert_int_equal(s.log[2]->header.term, 2);
    assert_int_equal(s.commit_index, 3);
    world_free(&s);
}

static void old_style_persisted(void *arg) {
    struct world_server *s = arg;
    struct consensus_update update;
    consensus_persisted(s->c, 3, 30, &update);
}

static void an_index_alone_is_refused_after_truncation(void **state) {
    struct world_server s;
    follow(&s, 0);
    struct record *old[] = {events(1, 2), events(1, 3), events(1, 4)};
    append(&s, 1, 1, 1, old, 3, 1, 10);
    struct record *new[] = {events(2, 3)};
    append(&s, 2, 2, 1, new, 1, 1, 20);
    assert_true(world_aborts(old_style_persisted, &s));
    world_free(&s);
}

/* -- R: what may reach the library ------------------------------------------------------------- */

static uint64_t open_change_after(uint32_t rules_off) {
    struct world_server s;
    follow(&s, rules_off);
    struct record *records[] = {events(1, 2), events(1, 3), configuration(1, 4, 4), events(1, 5)};
    append(&s, 1, 1, 1, records, 4, 1, 10);
    world_settle(&s, 11);
    assert_int_equal(s.durable_count, 5);
    uint64_t open = consensus_open_change(s.c);
    world_free(&s);
    return open;
}

static void r1_a_change_is_alone_in_its_message(void **state) {
    assert_int_equal(open_change_after(0), 4);
    assert_int_equal(open_change_after(CONSENSUS_RULE_R1), 2); /* the wrong record */
}

/* Two changes in one append, and a rollback to before the second: the first must be in force. */
static uint64_t open_change_after_rollback(uint32_t rules_off, uint64_t *committed) {
    struct world_server s;
    follow(&s, rules_off);
    struct record *records[] = {configuration(1, 2, 4), configuration(1, 3, 5)};
    append(&s, 1, 1, 1, records, 2, 1, 10);
    world_settle(&s, 11);
    uint64_t open = consensus_open_change(s.c);
    struct record *other[] = {events(2, 3)};
    append(&s, 2, 2, 1, other, 1, 3, 20);
    world_settle(&s, 21);
    /* Told that 2 is committed, the library has it in force already, or never will. */
    *committed = consensus_open_change(s.c);
    vote(&s, 4, 3, true, 2000);
    world_free(&s);
    return open;
}

static void r1_a_second_change_confirms_the_first(void **state) {
    uint64_t left;
    assert_int_equal(open_change_after_rollback(0, &left), 3);
    assert_int_equal(left, 0);
    assert_int_equal(open_change_after_rollback(CONSENSUS_RULE_R1, &left), 2);
}

static void r1_stops_when_a_part_is_refused(void **state) {
    struct world_server s;
    follow(&s, 0);
    struct record *records[] = {events(1, 8), configuration(1, 9, 4)};
    append(&s, 1, 7, 1, records, 2, 1, 10); /* 2 to 7 are missing */
    assert_int_equal(consensus_last_index(s.c), 1);
    assert_int_equal(s.queue_count, 0);
    assert_int_equal(s.out_count, 1);
    assert_int_equal(s.out[0].m.rejected, 7);
    assert_int_equal(s.out[0].m.last_index, 1);
    world_free(&s);
}

static void late_append_below_the_snapshot(void *arg) {
    struct world_server *s = arg;
    struct record *records[] = {configuration(1, 1, 3), events(1, 2)};
    append(s, 1, 0, 0, records, 2, 2, 30);
}

static void compacted_follower(struct world_server *s, uint32_t rules_off) {
    follow(s, rules_off);
    struct record *records[] = {events(1, 2), events(1, 3), events(1, 4)};
    append(s, 1, 1, 1, records, 3, 4, 10);
    world_settle(s, 11);
    world_checkpoint(s, 3, 0, 12);
    world_clear_out(s);
}

static void r2_an_append_from_before_the_snapshot_is_cut(void **state) {
    struct world_server with, without;
    compacted_follower(&with, 0);
    late_append_below_the_snapshot(&with);
    assert_int_equal(with.queue_count, 0);
    assert_int_equal(consensus_last_index(with.c), 4);
    assert_int_equal(world_last_sent(&with, 2, CONSENSUS_APPEND_RESULT)->m.rejected, 0);
    assert_int_equal(world_last_sent(&with, 2, CONSENSUS_APPEND_RESULT)->m.last_index, 3);
    struct record *records[] = {events(1, 3), events(1, 4), events(1, 5)};
    append(&with, 1, 2, 1, records, 3, 4, 40); /* half below, half above */
    world_settle(&with, 41);
    assert_int_equal(with.durable_count, 5);
    world_free(&with);

    compacted_follower(&without, CONSENSUS_RULE_R2);
    assert_true(world_aborts(late_append_below_the_snapshot, &without));
    world_free(&without);
}

static bool entries_reach_after_stale_rejection(uint32_t rules_off) {
    struct world_server s;
    int64_t now = elect(&s, rules_off);
    for (int i = 0; i < 6; i++) {
        world_submit(&s, 1, ++now);
        world_settle(&s, now);
    }
    result(&s, 2, 0, 8, ++now);
    assert_int_equal(s.commit_index, 8);
    /* Server 2 falls silent for a while: back to probing. */
    for (int i = 0; i < 4; i++) {
        result(&s, 3, 0, 8, ++now);
        world_tick(&s, now += 60);
    }
    result(&s, 2, 8, 4, ++now); /* a duplicate from before it had 8 */
    world_clear_out(&s);
    bool reached = false;
    for (int i = 0; i < 20 && !reached; i++) {
        world_submit(&s, 1, ++now);
        world_settle(&s, now);
        world_tick(&s, now += 60);
        for (uint32_t j = 0; j < s.out_count; j++) {
            const struct consensus_message *m = &s.out[j].m;
            if (m->to == 2 && m->kind == CONSENSUS_APPEND && m->records_count > 0) reached = true;
        }
        result(&s, 3, 0, consensus_last_index(s.c), ++now);
        world_clear_out(&s);
    }
    world_free(&s);
    return reached;
}

static bool lacks(const struct world_server *s, uint64_t id, int64_t now) {
    struct consensus_group group;
    consensus_group(s->c, now, &group);
    for (uint32_t i = 0; i < group.count; i++)
        if (group.servers[i].id == id) return group.servers[i].lacks;
    fail_msg("no such server");
    return false;
}

/* Not a rule of the library's: it goes on waiting for what will never come. */
static void a_follower_that_has_lost_what_it_acknowledged_is_told(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    for (int i = 0; i < 6; i++) {
        world_submit(&s, 1, ++now);
        world_settle(&s, now);
    }
    result(&s, 2, 0, 8, ++now);
    result(&s, 2, 8, 4, ++now); /* a late one, long before the next: neither tells of a loss */
    assert_false(lacks(&s, 2, now += CONSENSUS_LACKS_MS + 1));
    result(&s, 2, 0, 8, now);
    for (int64_t until = now + CONSENSUS_LACKS_MS; now < until; now += 100) {
        assert_false(lacks(&s, 2, now));
        result(&s, 3, 0, 8, now);
        result(&s, 2, 8, 4, now);
    }
    result(&s, 2, 8, 4, ++now);
    assert_true(lacks(&s, 2, now));
    assert_false(lacks(&s, 3, now));
    assert_true(lacks(&s, 2, now + 60000)); /* silence mends nothing */
    result(&s, 2, 0, 8, ++now);
    assert_false(lacks(&s, 2, now));
    world_free(&s);
}

static void r3_a_stale_rejection_is_dropped(void **state) {
    assert_true(entries_reach_after_stale_rejection(0));
    assert_false(entries_reach_after_stale_rejection(CONSENSUS_RULE_R3)); /* heartbeats for ever */
}

/* A peer that claims to have what was never written. */
static void more_than_there_is_is_not_counted(void **state) {
    (void)state;
    struct world_server s;
    int64_t now = elect(&s, 0);
    uint64_t last = consensus_last_index(s.c);
    for (uint64_t peer = 2; peer <= 3; peer++) {
        struct consensus_message m = {.kind = CONSENSUS_APPEND_RESULT,
                                      .version = RESULT_VERSION,
                                      .from = peer,
                                      .to = 1,
                                      .term = consensus_term(s.c),
                                      .last_index = last + 5};
        world_receive(&s, &m, ++now);
    }
    assert_int_equal(s.role, CONSENSUS_LEADER);
    assert_true(s.commit_index <= last);
    world_free(&s);
}

static uint8_t role_after_late_vote_result(uint32_t rules_off) {
    struct world_server s;
    int64_t now = elect(&s, rules_off);
    struct consensus_message m = {.kind = CONSENSUS_VOTE_RESULT,
                                  .version = RESULT_VERSION,
                                  .from = 3,
                                  .to = 1,
                                  .term = consensus_term(s.c) + 5,
                                  .pre_vote = true};
    world_receive(&s, &m, ++now);
    uint8_t role = s.role;
    world_free(&s);
    return role;
}

static void r4_a_leader_drops_vote_results(void **state) {
    assert_int_equal(role_after_late_vote_result(0), CONSENSUS_LEADER);
    assert_int_equal(role_after_late_vote_result(CONSENSUS_RULE_R4), CONSENSUS_FOLLOWER);
}

/* A heartbeat of long ago, rewritten with today's commit index, ends at record 2. */
static void late_short_append(void *arg) {
    struct world_server *s = arg;
    append(s, 1, 2, 1, NULL, 0, 9, 30);
}

static void committed_follower(struct world_server *s, uint32_t rules_off) {
    follow(s, rules_off);
    struct record *records[] = {events(1, 2), events(1, 3), events(1, 4)};
    append(s, 1, 1, 1, records, 3, 4, 10);
    world_settle(s, 11);
    assert_int_equal(s->commit_index, 4);
}

static void r5_the_commit_index_never_goes_back(void **state) {
    struct world_server with, without;
    committed_follower(&with, 0);
    late_short_append(&with);
    assert_int_equal(with.commit_index, 4);
    world_free(&with);
    committed_follower(&without, CONSENSUS_RULE_R5);
    assert_true(world_aborts(late_short_append, &without));
    world_free(&without);
}

/* The answer to an append of term 1 from a follower that has heard of term 9. Without the rule its
 * index is what the stack held: mostly that of the answer before. */
static uint64_t answer_to_old_term(uint32_t rules_off, uint64_t previous, uint64_t *rejected) {
    struct world_server s;
    follow(&s, rules_off);
    struct record *records[] = {events(1, 2), events(1, 3), events(1, 4)};
    append(&s, 1, 1, 1, records, 3, 4, 10);
    world_settle(&s, 11);
    vote(&s, 3, 9, false, 2000);
    assert_int_equal(consensus_term(s.c), 9);
    world_clear_out(&s);
    append(&s, 1, previous, previous > 0 ? 1 : 0, NULL, 0, 0, 2001);
    const struct world_sent *answer = world_last_sent(&s, 2, CONSENSUS_APPEND_RESULT);
    assert_non_null(answer);
    assert_int_equal(answer->m.term, 9);
    uint64_t last = answer->m.last_index;
    *rejected = answer->m.rejected;
    world_free(&s);
    return last;
}

static void r7_an_answer_to_an_old_term_acknowledges_nothing(void **state) {
    uint64_t rejected;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(answer_to_old_term(0, 0, &rejected), 0);
        assert_int_equal(rejected, 0);
        assert_int_equal(answer_to_old_term(0, 3, &rejected), 2);
        assert_int_equal(rejected, 3);
        assert_int_equal(answer_to_old_term(0, 9, &rejected), 4);
        assert_int_equal(rejected, 9);
    }
}

/* -- E: elections ------------------------------------------------------------------------------ */

static uint64_t refusal_term(uint32_t rules_off) {
    struct world_server s;
    follow(&s, rules_off);
    vote(&s, 2, 9, false, 10); /* learns term 9 */
    assert_int_equal(consensus_term(s.c), 9);
    world_clear_out(&s);
    vote(&s, 3, 4, true, 20);
    const struct world_sent *answer = world_last_sent(&s, 3, CONSENSUS_VOTE_RESULT);
    assert_non_null(answer);
    assert_false(answer->m.granted);
    uint64_t term = answer->m.term;
    world_free(&s);
    return term;
}

static void e1_a_refused_pre_vote_tells_our_term(void **state) {
    assert_int_equal(refusal_term(0), 9);
    assert_int_equal(refusal_term(CONSENSUS_RULE_E1), 4);
}

static bool second_round_disrupts(uint32_t rules_off) {
    struct world_server s;
    follow(&s, rules_off);
    append(&s, 1, 1, 1, NULL, 0, 1, 10);
    struct consensus_message now_you = {.kind = CONSENSUS_TIMEOUT_NOW,
                                        .from = 2,
                                        .to = 1,
                                        .term = 1,
                                        .last_index = 1,
                                        .last_term = 1};
    world_receive(&s, &now_you, 20);
    assert_int_equal(s.role, CONSENSUS_CANDIDATE);
    assert_true(world_last_sent(&s, 3, CONSENSUS_VOTE)->m.disrupt_leader);
    world_clear_out(&s);
    world_tick(&s, s.timeout_ms);
    const struct world_sent *request = world_last_sent(&s, 3, CONSENSUS_VOTE);
    assert_non_null(request);
    assert_true(request->m.disrupt_leader != request->m.pre_vote);
    bool disrupts = request->m.disrupt_leader;
    world_free(&s);
    return disrupts;
}

static void e2_a_candidate_starts_over_politely(void **state) {
    assert_false(second_round_disrupts(0));
    assert_true(second_round_disrupts(CONSENSUS_RULE_E2));
}

/* Server 4 was added as a standby by a leader of three; it is asked for its vote. */
static bool standby_grants(uint32_t rules_off) {
    struct world_server leader, standby;
    int64_t now = elect(&leader, 0);
    result(&leader, 3, 0, 2, ++now);
    struct consensus_update update;
    char error[256] = "";
    assert_int_equal(consensus_change(leader.c, CONSENSUS_ADD_STANDBY, 4, "s4", ++now, &update,
                                      error, sizeof error),
                     0);
    world_take(&leader, &update);
    world_settle(&leader, ++now);
    world_join(&standby, 4);
    standby.rules_off = rules_off;
    world_start(&standby, 0);
    struct record *records[3];
    for (int i = 0; i < 3; i++) {
        const struct record *r = leader.log[i];
        records[i] = record_new(r->header.payload_bytes);
        records[i]->header = r->header;
        memcpy(records[i]->payload, r->payload, r->header.payload_bytes);
    }
    append(&standby, 2, 0, 0, records, 3, 1, 10);
    world_settle(&standby, 11);
    assert_int_equal(standby.durable_count, 3);
    vote(&standby, 3, 3, false, 1000);
    const struct world_sent *answer = world_last_sent(&standby, 3, CONSENSUS_VOTE_RESULT);
    assert_non_null(answer);
    bool yes = answer->m.granted;
    assert_int_equal(standby.voted_for, yes ? 3 : 0);
    world_tick(&standby, 10000);
    assert_int_equal(standby.role, CONSENSUS_FOLLOWER); /* the role was only lent */
    world_free(&leader);
    world_free(&standby);
    return yes;
}

static void e3_a_standby_votes(void **state) {
    assert_true(standby_grants(0));
    assert_false(standby_grants(CONSENSUS_RULE_E3));
}

static bool votes_after_silence(uint32_t rules_off, int64_t silence_ms) {
    struct world_server s;
    follow(&s, rules_off);
    append(&s, 1, 1, 1, NULL, 0, 1, 10);
    world_clear_out(&s);
    vote(&s, 3, 2, true, 10 + silence_ms);
    const struct world_sent *answer = world_last_sent(&s, 3, CONSENSUS_VOTE_RESULT);
    assert_non_null(answer);
    bool yes = answer->m.granted;
    world_free(&s);
    return yes;
}

static void e4_a_silent_leader_is_forgotten(void **state) {
    assert_true(votes_after_silence(0, 300));
    assert_false(votes_after_silence(0, 299)); /* and a live one is not */
    assert_false(votes_after_silence(CONSENSUS_RULE_E4, 300));
}

/* Whom a follower of server 2 in term 1 names once server 3 may depose it with term 2. */
static uint64_t leader_named_in_a_new_term(uint32_t rules_off) {
    struct world_server s;
    follow(&s, rules_off);
    append(&s, 1, 1, 1, NULL, 0, 1, 10);
    assert_int_equal(consensus_leader(s.c), 2);
    struct consensus_message m = {.kind = CONSENSUS_VOTE, .version = VOTE_VERSION, .from = 3,
                                  .to = s.id, .term = 2, .disrupt_leader = true, .last_index = 1,
                                  .last_term = 1};
    world_receive(&s, &m, 20);
    assert_int_equal(consensus_term(s.c), 2);
    uint64_t leader = consensus_leader(s.c);
    append(&s, 2, 1, 1, NULL, 0, 1, 30); /* its own first message */
    assert_int_equal(consensus_leader(s.c), 2);
    world_free(&s);
    return leader;
}

static void e5_a_new_term_has_no_leader_yet(void **state) {
    assert_int_equal(leader_named_in_a_new_term(0), 0);
    assert_int_equal(leader_named_in_a_new_term(CONSENSUS_RULE_E5), 2);
}

static void clamp_the_timeout_lies_ahead(void **state) {
    struct world_server with, without;
    elect(&with, 0);
    elect(&without, CONSENSUS_RULE_CLAMP);
    result(&with, 2, 0, 2, 100000);
    result(&without, 2, 0, 2, 100000);
    assert_int_equal(with.timeout_ms, 100001);
    assert_true(without.timeout_ms < 100000); /* the caller would spin */
    world_free(&with);
    world_free(&without);
}

/* -- M and T ----------------------------------------------------------------------------------- */

static void forbidden(struct world_server *s, uint8_t change, uint64_t id, const char *address,
                      int64_t now_ms, const char *rule) {
    struct consensus_update update;
    char error[256] = "";
    uint64_t last = consensus_last_index(s->c);
    assert_int_equal(
        consensus_change(s->c, change, id, address, now_ms, &update, error, sizeof error), -1);
    world_take(s, &update);
    assert_int_equal(consensus_last_index(s->c), last);
    if (strstr(error, rule) == NULL) fail_msg("'%s' does not name '%s'", error, rule);
}

static void allowed(struct world_server *s, uint8_t change, uint64_t id, const char *address,
                    int64_t now_ms) {
    struct consensus_update update;
    char error[256] = "";
    if (consensus_change(s->c, change, id, address, now_ms, &update, error, sizeof error) != 0) {
        fail_msg("refused: %s", error);
    }
    world_take(s, &update);
}

static void m_changes_one_server_at_a_time(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, three, 3);
    world_start(&s, 0);
    forbidden(&s, CONSENSUS_REMOVE, 3, NULL, 1, "does not lead");
    world_free(&s);
    int64_t now = elect(&s, 0);
    forbidden(&s, CONSENSUS_REMOVE, 1, NULL, ++now, "M4");
    forbidden(&s, CONSENSUS_REMOVE, 9, NULL, ++now, "not a member");
    forbidden(&s, CONSENSUS_PROMOTE, 2, NULL, ++now, "not a standby");
    forbidden(&s, CONSENSUS_ADD_STANDBY, 2, "s2", ++now, "member already");
    forbidden(&s, CONSENSUS_ADD_STANDBY, 4, "s2", ++now, "address");
    forbidden(&s, CONSENSUS_ADD_STANDBY, 4, "s4", ++now, "M7"); /* 3 was not heard of yet */
    result(&s, 3, 0, 2, ++now);
    forbidden(&s, 77, 4, "s4", ++now, "unknown change");
    allowed(&s, CONSENSUS_ADD_STANDBY, 4, "s4", ++now);
    assert_int_equal(consensus_open_change(s.c), 3);
    forbidden(&s, CONSENSUS_ADD_STANDBY, 5, "s5", ++now, "M1");
    world_settle(&s, ++now);
    result(&s, 2, 0, 3, ++now);
    world_apply(&s, ++now);
    assert_int_equal(consensus_open_change(s.c), 0);
    result(&s, 4, 0, 3, ++now);
    forbidden(&s, CONSENSUS_PROMOTE, 4, NULL, ++now, "M7"); /* server 3 lags */
    allowed(&s, CONSENSUS_REMOVE, 3, NULL, ++now);          /* but may be removed */
    world_settle(&s, ++now);
    result(&s, 2, 0, 4, ++now);
    world_apply(&s, ++now);
    forbidden(&s, CONSENSUS_REMOVE, 2, NULL, ++now, "M3");
    result(&s, 4, 0, 4, ++now);
    allowed(&s, CONSENSUS_PROMOTE, 4, NULL, ++now);
    world_free(&s);
}

static void m1_waits_for_the_own_barrier(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, three, 3);
    world_start(&s, 0);
    int64_t now = s.timeout_ms;
    world_tick(&s, now);
    granted(&s, 2, 2, true, ++now);
    granted(&s, 2, 2, false, ++now);
    forbidden(&s, CONSENSUS_ADD_STANDBY, 4, "s4", ++now, "M1");
    world_free(&s);
}

static void m3_one_voter_does_not_grow(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, three, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    forbidden(&s, CONSENSUS_ADD_STANDBY, 2, "s2", 2, "M3");
    world_free(&s);
}

static void t1_transfer_waits_for_the_whole_log(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    struct consensus_update update;
    char error[256] = "";
    assert_int_equal(consensus_transfer(s.c, 3, ++now, &update, error, sizeof error), -1);
    assert_non_null(strstr(error, "T1"));
    assert_int_equal(consensus_transfer(s.c, 1, ++now, &update, error, sizeof error), -1);
    assert_non_null(strstr(error, "not another voter"));
    assert_int_equal(consensus_transfer(s.c, 2, ++now, &update, error, sizeof error), 0);
    assert_int_equal(update.messages_count, 1);
    assert_int_equal(update.messages[0].kind, CONSENSUS_TIMEOUT_NOW);
    assert_int_equal(update.messages[0].to, 2);
    assert_int_equal(world_submit(&s, 1, ++now), -1); /* no new work while it is handed over */
    world_free(&s);
}

/* What each rule forbids is done without it. */
static void m_and_t_without_the_rules(void **state) {
    struct world_server s;
    struct consensus_update update;
    char error[256];
    world_bootstrap(&s, 1, three, 3);
    s.rules_off = CONSENSUS_RULE_M1 | CONSENSUS_RULE_M7;
    world_start(&s, 0);
    int64_t now = s.timeout_ms;
    world_tick(&s, now);
    granted(&s, 2, 2, true, ++now);
    granted(&s, 2, 2, false, ++now);
    allowed(&s, CONSENSUS_ADD_STANDBY, 4, "s4", ++now); /* before the barrier is committed */
    world_free(&s);
    now = elect(&s, CONSENSUS_RULE_M4 | CONSENSUS_RULE_M7);
    allowed(&s, CONSENSUS_REMOVE, 1, NULL, ++now); /* itself, with a laggard beside */
    world_free(&s);
    now = elect(&s, CONSENSUS_RULE_M6 | CONSENSUS_RULE_M7);
    allowed(&s, CONSENSUS_ADD_STANDBY, 4, "s4", ++now);
    for (int i = 0; i < 60; i++) world_submit(&s, 5, ++now);
    world_settle(&s, ++now);
    result(&s, 2, 0, consensus_last_index(s.c), ++now);
    world_apply(&s, ++now);
    allowed(&s, CONSENSUS_PROMOTE, 4, NULL, ++now); /* it has nothing yet */
    world_free(&s);
    now = elect(&s, CONSENSUS_RULE_T1);
    assert_int_equal(consensus_transfer(s.c, 3, ++now, &update, error, sizeof error), 0);
    assert_int_equal(world_submit(&s, 1, ++now), -1); /* and writes stop */
    world_free(&s);
}

static void m6_a_standby_catches_up_first(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    result(&s, 3, 0, 2, ++now);
    allowed(&s, CONSENSUS_ADD_STANDBY, 4, "s4", ++now);
    for (int i = 0; i < 60; i++) world_submit(&s, 5, ++now);
    world_settle(&s, ++now);
    result(&s, 2, 0, consensus_last_index(s.c), ++now);
    result(&s, 3, 0, consensus_last_index(s.c), ++now);
    world_apply(&s, ++now);
    forbidden(&s, CONSENSUS_PROMOTE, 4, NULL, ++now, "M6");
    world_free(&s);
}

/* In a log that is shorter than what may be in flight, nothing at all is "nearly all". */
static void m6_a_standby_knows_at_least_that_it_is_one(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    result(&s, 3, 0, 2, ++now);
    allowed(&s, CONSENSUS_ADD_STANDBY, 4, "s4", ++now);
    world_settle(&s, ++now);
    result(&s, 2, 0, consensus_last_index(s.c), ++now);
    result(&s, 3, 0, consensus_last_index(s.c), ++now);
    world_apply(&s, ++now);
    forbidden(&s, CONSENSUS_PROMOTE, 4, NULL, ++now, "M6");
    result(&s, 4, 0, consensus_last_index(s.c), ++now);
    allowed(&s, CONSENSUS_PROMOTE, 4, NULL, ++now);
    world_free(&s);
}

static void malformed_messages_are_dropped(void **state) {
    struct world_server s;
    follow(&s, 0);
    struct record *gap[] = {events(1, 2), events(1, 4)};
    append(&s, 1, 1, 1, gap, 2, 1, 10);
    struct record *back[] = {events(3, 2), events(2, 3)};
    append(&s, 3, 1, 1, back, 2, 1, 11);
    struct record *ahead[] = {events(9, 2)};
    append(&s, 3, 1, 1, ahead, 1, 1, 12);
    struct record *no_configuration[] = {world_record(3, 2, RECORD_CONFIGURATION, "not one")};
    append(&s, 3, 1, 1, no_configuration, 1, 1, 13);
    struct consensus_message m = {.kind = 99, .from = 2, .term = 7};
    world_receive(&s, &m, 14);
    m = (struct consensus_message){.kind = CONSENSUS_VOTE, .from = 0, .term = 7};
    world_receive(&s, &m, 15);
    m = (struct consensus_message){
        .kind = CONSENSUS_APPEND, .from = 2, .term = 7, .records_count = 3};
    world_receive(&s, &m, 16);
    assert_int_equal(consensus_term(s.c), 1);
    assert_int_equal(consensus_last_index(s.c), 1);
    assert_int_equal(s.queue_count, 0);
    world_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(m3_lone_voter_gets_a_new_term),
        cmocka_unit_test(m3_a_group_of_several_does_not_start_with_one_voter),
        cmocka_unit_test(l1_every_leader_writes_a_barrier),
        cmocka_unit_test(l1_clients_wait_for_the_barrier),
        cmocka_unit_test(l1_one_barrier_when_the_library_writes_it),
        cmocka_unit_test(truncated_records_are_not_acknowledged),
        cmocka_unit_test(the_log_after_truncation),
        cmocka_unit_test(an_index_alone_is_refused_after_truncation),
        cmocka_unit_test(r1_a_change_is_alone_in_its_message),
        cmocka_unit_test(r1_a_second_change_confirms_the_first),
        cmocka_unit_test(r1_stops_when_a_part_is_refused),
        cmocka_unit_test(r2_an_append_from_before_the_snapshot_is_cut),
        cmocka_unit_test(r3_a_stale_rejection_is_dropped),
        cmocka_unit_test(a_follower_that_has_lost_what_it_acknowledged_is_told),
        cmocka_unit_test(more_than_there_is_is_not_counted),
        cmocka_unit_test(r4_a_leader_drops_vote_results),
        cmocka_unit_test(r5_the_commit_index_never_goes_back),
        cmocka_unit_test(r7_an_answer_to_an_old_term_acknowledges_nothing),
        cmocka_unit_test(e1_a_refused_pre_vote_tells_our_term),
        cmocka_unit_test(e2_a_candidate_starts_over_politely),
        cmocka_unit_test(e3_a_standby_votes),
        cmocka_unit_test(e4_a_silent_leader_is_forgotten),
        cmocka_unit_test(e5_a_new_term_has_no_leader_yet),
        cmocka_unit_test(clamp_the_timeout_lies_ahead),
        cmocka_unit_test(m_changes_one_server_at_a_time),
        cmocka_unit_test(m1_waits_for_the_own_barrier),
        cmocka_unit_test(m3_one_voter_does_not_grow),
        cmocka_unit_test(t1_transfer_waits_for_the_whole_log),
        cmocka_unit_test(m_and_t_without_the_rules),
        cmocka_unit_test(m6_a_standby_catches_up_first),
        cmocka_unit_test(m6_a_standby_knows_at_least_that_it_is_one),
        cmocka_unit_test(malformed_messages_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
