/* Snapshots of a leader at a follower that lags, starts from them, what is known of members. */
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

/* What leader 2 would send at `index`: the configuration of `servers` servers at record 1. */
static struct world_snapshot snapshot_at(uint64_t index, uint64_t term, uint64_t leader_term,
                                         uint32_t servers) {
    struct world_snapshot s = {.from = 2,
                               .leader_term = leader_term,
                               .index = index,
                               .term = term,
                               .configuration_index = 1,
                               .state = 4711};
    struct record *r = configuration(1, 1, servers);
    s.configuration_bytes = r->header.payload_bytes;
    memcpy(s.configuration, r->payload, s.configuration_bytes);
    record_release(r);
    return s;
}

static void three_records(struct world_server *s) {
    follow(s, 0);
    struct record *records[] = {events(1, 2), events(1, 3), events(1, 4)};
    append(s, 1, 1, 1, records, 3, 3, 10);
}

static void a_snapshot_takes_the_place_of_the_log(void **state) {
    struct world_server s;
    three_records(&s);
    world_settle(&s, 11);
    world_clear_out(&s);
    struct world_snapshot snapshot = snapshot_at(50, 2, 3, 4);
    assert_true(world_install(&s, &snapshot, WORLD_INSTALL_WHOLE, 20));
    assert_int_equal(s.term, 3); /* the leader's: a vote to be saved before the switch */
    assert_int_equal(s.commit_index, 50);
    assert_int_equal(consensus_last_index(s.c), 50);
    assert_int_equal(consensus_term_of(s.c, 50), 2);
    assert_int_equal(consensus_term_of(s.c, 4), 0);
    assert_null(consensus_record(s.c, 4)); /* nor is it in memory */
    assert_int_equal(consensus_open_change(s.c), 0);
    const struct world_sent *ack = world_last_sent(&s, 2, CONSENSUS_APPEND_RESULT);
    assert_non_null(ack);
    assert_int_equal(ack->m.last_index, 50);
    assert_int_equal(ack->m.rejected, 0);
    struct consensus_group group;
    consensus_group(s.c, 20, &group);
    assert_int_equal(group.count, 4);
    assert_int_equal(group.leader, 2);
    /* The log goes on behind it. */
    struct record *records[] = {events(3, 51), events(3, 52)};
    append(&s, 3, 50, 2, records, 2, 52, 30);
    world_settle(&s, 31);
    assert_int_equal(s.durable_count, 52);
    assert_int_equal(s.commit_index, 52);
    ack = world_last_sent(&s, 2, CONSENSUS_APPEND_RESULT);
    assert_int_equal(ack->m.last_index, 52);
    /* And a restart begins with it. */
    world_crash(&s);
    world_start(&s, 40);
    assert_int_equal(s.commit_index, 50);
    assert_int_equal(consensus_last_index(s.c), 52);
    world_free(&s);
}

static void batches_in_flight_count_no_more(void **state) {
    struct world_server s;
    three_records(&s);
    assert_int_equal(s.queue_count, 1); /* reported by world_install() in the midst of it */
    struct world_snapshot snapshot = snapshot_at(50, 1, 1, 3);
    assert_true(world_install(&s, &snapshot, WORLD_INSTALL_WHOLE, 20));
    assert_int_equal(s.commit_index, 50);
    assert_int_equal(consensus_durable_index(s.c), 50);
    world_free(&s);
}

/* And not when they are reported after the switch, even if they reached further than it. */
static void late_reports_count_no_more(void **state) {
    struct world_server s;
    follow(&s, 0);
    struct record *records[60];
    for (uint64_t i = 0; i < 60; i++) records[i] = events(1, i + 2);
    append(&s, 1, 1, 1, records, 60, 1, 10);
    uint64_t number = s.queue[s.queue_head].number;
    struct world_snapshot w = snapshot_at(50, 2, 3, 3);
    struct consensus_snapshot in = {w.index, w.term, w.configuration_index, w.configuration,
                                    w.configuration_bytes};
    struct consensus_update update;
    assert_int_equal(consensus_install(s.c, 2, 3, &in, 20, &update), 0);
    consensus_installed(s.c, 21, &update);
    consensus_persisted_batch(s.c, number, 22, &update);
    assert_int_equal(update.messages_count, 0);
    assert_int_equal(consensus_durable_index(s.c), 50);
    assert_int_equal(update.commit_index, 50);
    world_free(&s);
}

static void a_crash_before_the_switch_changes_nothing(void **state) {
    struct world_server s;
    three_records(&s);
    world_settle(&s, 11);
    struct world_snapshot snapshot = snapshot_at(50, 2, 3, 4);
    assert_true(world_install(&s, &snapshot, WORLD_CRASH_BEFORE_SWITCH, 20));
    assert_null(s.c);
    world_start(&s, 30);
    assert_int_equal(s.term, 3);
    assert_int_equal(consensus_last_index(s.c), 4);
    world_free(&s);
}

static void a_crash_after_the_switch_starts_from_it(void **state) {
    struct world_server s;
    three_records(&s);
    struct world_snapshot snapshot = snapshot_at(50, 2, 3, 4);
    assert_true(world_install(&s, &snapshot, WORLD_CRASH_AFTER_SWITCH, 20));
    world_start(&s, 30);
    assert_int_equal(s.commit_index, 50);
    assert_int_equal(consensus_last_index(s.c), 50);
    assert_int_equal(consensus_term_of(s.c, 50), 2);
    world_free(&s);
}

static void a_server_that_joins_installs(void **state) {
    struct world_server s;
    world_join(&s, 4);
    world_start(&s, 0);
    struct world_snapshot snapshot = snapshot_at(50, 2, 3, 3); /* of before it was added */
    assert_true(world_install(&s, &snapshot, WORLD_INSTALL_WHOLE, 20));
    struct record *records[] = {configuration(3, 51, 4)};
    append(&s, 3, 50, 2, records, 1, 51, 30);
    world_settle(&s, 31);
    assert_int_equal(s.commit_index, 51);
    struct consensus_group group;
    consensus_group(s.c, 32, &group);
    assert_int_equal(group.count, 4);
    world_free(&s);
}

static void refused(struct world_server *s, struct world_snapshot snapshot, uint64_t acknowledged) {
    world_clear_out(s);
    uint64_t last = consensus_last_index(s->c), commit = s->commit_index;
    assert_false(world_install(s, &snapshot, WORLD_INSTALL_WHOLE, 30));
    assert_int_equal(consensus_last_index(s->c), last);
    assert_int_equal(s->commit_index, commit);
    const struct world_sent *ack = world_last_sent(s, snapshot.from, CONSENSUS_APPEND_RESULT);
    assert_int_equal(ack != NULL ? ack->m.last_index : 0, acknowledged);
}

static void unwanted_ones_are_thrown_away(void **state) {
    struct world_server s;
    three_records(&s);
    world_settle(&s, 11);
    assert_int_equal(s.commit_index, 3);
    struct world_snapshot bad;
    refused(&s, snapshot_at(3, 1, 1, 3), 3); /* committed here: only acknowledged */
    refused(&s, snapshot_at(2, 1, 1, 3), 2);
    refused(&s, snapshot_at(4, 1, 1, 3), 4);  /* the same record is in the log */
    refused(&s, snapshot_at(3, 2, 2, 3), 0);  /* contradicts what is committed here */
    refused(&s, snapshot_at(50, 9, 8, 3), 0); /* of a later term than its leader */
    refused(&s, snapshot_at(0, 1, 1, 3), 0);
    bad = snapshot_at(50, 1, 1, 3);
    bad.configuration_index = 51;
    refused(&s, bad, 0);
    bad = snapshot_at(50, 1, 1, 3);
    bad.configuration_bytes = 12;
    refused(&s, bad, 0);
    bad = snapshot_at(50, 1, 1, 3);
    bad.from = s.id;
    refused(&s, bad, 0);
    vote(&s, 2, 9, false, 5000); /* term 9 */
    assert_int_equal(consensus_term(s.c), 9);
    refused(&s, snapshot_at(50, 1, 8, 3), 0); /* of a leader whose time is over */
    world_free(&s);

    int64_t now = elect(&s, 0);
    refused(&s, snapshot_at(50, 1, 2, 3), 0); /* we lead this term */
    assert_int_equal(s.role, CONSENSUS_LEADER);
    struct world_snapshot newer = snapshot_at(50, 3, 3, 3);
    assert_true(world_install(&s, &newer, WORLD_INSTALL_WHOLE, now + 1));
    assert_int_equal(s.role, CONSENSUS_FOLLOWER);
    world_free(&s);
}

static void messages_are_lost_during_the_switch(void **state) {
    struct world_server s;
    three_records(&s);
    world_settle(&s, 11);
    struct world_snapshot w = snapshot_at(50, 2, 3, 3);
    struct consensus_snapshot in = {w.index, w.term, w.configuration_index, w.configuration,
                                    w.configuration_bytes};
    struct consensus_update update;
    assert_int_equal(consensus_install(s.c, 2, 3, &in, 20, &update), 0);
    world_take(&s, &update);
    assert_int_equal(s.commit_index, 3);
    world_clear_out(&s);
    struct record *records[] = {events(3, 51)};
    append(&s, 3, 50, 2, records, 1, 51, 21);
    vote(&s, 3, 4, false, 5000);
    world_tick(&s, 9000);
    assert_int_equal(s.out_count, 0);
    assert_int_equal(s.role, CONSENSUS_FOLLOWER);
    assert_int_equal(world_read(&s, 9001), 0);
    assert_int_equal(consensus_term(s.c), 3);
    world_free(&s); /* in the midst of it: nothing leaks */
}

/* -- R6 ---------------------------------------------------------------------------------------- */

/* Leader 1 asked server 3 for an install, took a newer snapshot, and is refused by its index. */
static bool asked_again(uint32_t rules_off) {
    struct world_server s;
    int64_t now = elect(&s, rules_off);
    for (int i = 0; i < 20; i++) {
        world_submit(&s, 1, ++now);
        world_settle(&s, now);
        result(&s, 2, 0, consensus_last_index(s.c), ++now);
    }
    world_apply(&s, now);
    world_checkpoint(&s, 10, 0, ++now);
    result(&s, 3, 1, 0, ++now); /* an empty log */
    const struct world_sent *ask = world_last_sent(&s, 3, CONSENSUS_INSTALL_SNAPSHOT);
    assert_non_null(ask);
    assert_int_equal(ask->m.last_index, 10);
    assert_int_equal(ask->m.configuration_index, 1);
    world_checkpoint(&s, 20, 0, ++now);
    world_clear_out(&s);
    bool again = false;
    for (int i = 0; i < 20 && !again; i++) {
        result(&s, 2, 0, consensus_last_index(s.c), ++now);
        world_tick(&s, now += 60);
        const struct world_sent *beat = world_last_sent(&s, 3, CONSENSUS_APPEND);
        if (beat != NULL) result(&s, 3, beat->m.previous_index, 0, ++now);
        ask = world_last_sent(&s, 3, CONSENSUS_INSTALL_SNAPSHOT);
        again = ask != NULL && ask->m.last_index == 20;
    }
    if (again) { /* it gets there, and the log goes on */
        result(&s, 3, 0, 20, ++now);
        const struct world_sent *next = world_last_sent(&s, 3, CONSENSUS_APPEND);
        assert_int_equal(next->m.previous_index, 20);
        assert_int_equal(next->m.records_count, 2);
    }
    world_free(&s);
    return again;
}

static void r6_a_newer_snapshot_is_asked_for(void **state) {
    assert_true(asked_again(0));
    assert_false(asked_again(CONSENSUS_RULE_R6));
}

/* The follower that was asked falls silent, the library gives the install up, and the follower
 * comes back after a newer snapshot. */
static void r6_a_follower_that_was_away_is_asked(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    for (int i = 0; i < 20; i++) {
        world_submit(&s, 1, ++now);
        world_settle(&s, now);
        result(&s, 2, 0, consensus_last_index(s.c), ++now);
    }
    world_apply(&s, now);
    world_checkpoint(&s, 10, 0, ++now);
    result(&s, 3, 1, 0, ++now);
    assert_non_null(world_last_sent(&s, 3, CONSENSUS_INSTALL_SNAPSHOT));
    for (int i = 0; i < 30; i++) {
        if (i == 15) world_checkpoint(&s, 20, 0, ++now);
        world_clear_out(&s);
        result(&s, 2, 0, consensus_last_index(s.c), ++now);
        world_tick(&s, now += 60);
    }
    bool asked = false;
    for (int i = 0; i < 30 && !asked; i++) {
        result(&s, 2, 0, consensus_last_index(s.c), ++now);
        world_tick(&s, now += 60);
        const struct world_sent *beat = world_last_sent(&s, 3, CONSENSUS_APPEND);
        if (beat != NULL) result(&s, 3, beat->m.previous_index, 0, ++now);
        const struct world_sent *ask = world_last_sent(&s, 3, CONSENSUS_INSTALL_SNAPSHOT);
        asked = ask != NULL && ask->m.last_index == 20;
        world_clear_out(&s);
    }
    assert_true(asked);
    world_free(&s);
}

/* A state that was on its way while the leader took newer ones: behind it the log goes on. */
static void an_older_snapshot_does_where_the_log_is(void **state) {
    struct world_server s;
    int64_t now = elect(&s, 0);
    for (int i = 0; i < 30; i++) {
        world_submit(&s, 1, ++now);
        world_settle(&s, now);
        result(&s, 2, 0, consensus_last_index(s.c), ++now);
    }
    world_apply(&s, now);
    assert_int_equal(consensus_reach(s.c), 0);
    world_checkpoint(&s, 10, 4, ++now);
    result(&s, 3, 1, 0, ++now); /* an empty log */
    const struct world_sent *ask = world_last_sent(&s, 3, CONSENSUS_INSTALL_SNAPSHOT);
    assert_non_null(ask);
    assert_int_equal(ask->m.last_index, 10);
    assert_int_equal(ask->m.previous_index, 7);
    assert_int_equal(consensus_reach(s.c), 7);
    world_checkpoint(&s, 20, 13, ++now);
    assert_int_equal(consensus_reach(s.c), 8);
    world_clear_out(&s);
    result(&s, 3, 0, 9, ++now); /* it has installed one of record 9 */
    const struct world_sent *next = NULL;
    for (int i = 0; i < 20 && (next == NULL || next->m.records_count == 0); i++) {
        result(&s, 2, 0, consensus_last_index(s.c), ++now);
        world_tick(&s, now += 60);
        const struct world_sent *beat = world_last_sent(&s, 3, CONSENSUS_APPEND);
        if (beat != NULL && beat->m.previous_index > 9)
            result(&s, 3, beat->m.previous_index, 9, ++now);
        next = world_last_sent(&s, 3, CONSENSUS_APPEND);
    }
    assert_null(world_last_sent(&s, 3, CONSENSUS_INSTALL_SNAPSHOT));
    assert_int_equal(next->m.previous_index, 9);
    assert_int_equal(next->m.previous_term, consensus_term_of(s.c, 9));
    assert_true(next->m.records_count > 0);
    world_free(&s);
}

/* -- markers, starts, members ------------------------------------------------------------------ */

static uint64_t marker_configuration(const struct world_server *s, uint64_t index) {
    uint64_t found = 0;
    uint32_t bytes;
    const uint8_t *data;
    if (!consensus_marker_configuration(s->c, index, &found, &data, &bytes)) return 0;
    assert_non_null(data);
    assert_true(bytes > 0);
    return found;
}

static void markers_have_the_configuration_of_their_index(void **state) {
    struct world_server s;
    follow(&s, 0);
    struct record *records[] = {events(1, 2),           configuration(1, 3, 4), events(1, 4),
                                configuration(1, 5, 5), events(1, 6)};
    append(&s, 1, 1, 1, records, 5, 6, 10);
    assert_int_equal(marker_configuration(&s, 6), 1); /* known when it is applied */
    world_settle(&s, 11);
    assert_int_equal(marker_configuration(&s, 0), 0);
    assert_int_equal(marker_configuration(&s, 2), 1);
    assert_int_equal(marker_configuration(&s, 3), 3);
    assert_int_equal(marker_configuration(&s, 4), 3);
    assert_int_equal(marker_configuration(&s, 6), 5);
    world_checkpoint(&s, 4, 0, 12);
    assert_int_equal(s.configuration_index, 3);
    assert_int_equal(marker_configuration(&s, 2), 0); /* forgotten */
    assert_int_equal(marker_configuration(&s, 4), 3);
    assert_int_equal(marker_configuration(&s, 5), 5);
    world_crash(&s);
    world_start(&s, 20);
    assert_int_equal(marker_configuration(&s, 4), 3);
    world_settle(&s, 21);
    world_free(&s);
}

/* A marker may lie anywhere behind the last one, so none is forgotten before a checkpoint. */
static void no_configuration_is_forgotten_without_a_checkpoint(void **state) {
    enum { CHANGES = 2 * CONSENSUS_CONFIGURATIONS_MAX };
    struct world_server s;
    int64_t now = 10;
    follow(&s, 0);
    for (uint32_t i = 0; i < CHANGES; i++, now += 2) {
        struct record *r = configuration(1, 2 + i, 3 + i % 2);
        append(&s, 1, 1 + i, 1, &r, 1, 2 + i, now);
        world_settle(&s, now + 1);
    }
    for (uint64_t index = 1; index <= CHANGES + 1; index++)
        assert_int_equal(marker_configuration(&s, index), index);
    world_checkpoint(&s, 3, 0, now);
    assert_int_equal(s.configuration_index, 3);
    world_checkpoint(&s, CHANGES, 0, now + 1);
    assert_int_equal(s.configuration_index, CHANGES);
    assert_int_equal(marker_configuration(&s, CHANGES - 1), 0);
    assert_int_equal(marker_configuration(&s, CHANGES + 1), CHANGES + 1);
    world_free(&s);
}

/* ... which bounds what is kept: the leader makes no change more until there is one. */
static void a_leader_waits_for_a_checkpoint(void **state) {
    struct world_server s;
    struct consensus_update update;
    char error[256] = "";
    int64_t now = elect(&s, 0);
    result(&s, 3, 0, consensus_last_index(s.c), ++now);
    /* One configuration is known from the start. */
    for (uint32_t i = 1; i < CONSENSUS_CONFIGURATIONS_MAX; i++) {
        uint8_t change = i % 2 ? CONSENSUS_ADD_STANDBY : CONSENSUS_REMOVE;
        int rv = consensus_change(s.c, change, 4, "s4", ++now, &update, error, sizeof error);
        if (rv != 0) fail_msg("%s", error);
        world_take(&s, &update);
        world_settle(&s, ++now);
        for (uint64_t voter = 2; voter <= 3; voter++)
            result(&s, voter, 0, consensus_last_index(s.c), ++now);
        world_apply(&s, ++now);
        world_clear_out(&s);
    }
    assert_int_equal(consensus_change(s.c, CONSENSUS_REMOVE, 4, NULL, ++now, &update, error,
                                      sizeof error), -1);
    world_take(&s, &update);
    assert_non_null(strstr(error, "checkpoint"));
    world_checkpoint(&s, consensus_last_index(s.c), 0, ++now);
    assert_int_equal(consensus_change(s.c, CONSENSUS_REMOVE, 4, NULL, ++now, &update, error,
                                      sizeof error), 0);
    world_take(&s, &update);
    world_free(&s);
}

static void a_start_keeps_entries_before_the_marker(void **state) {
    struct world_server s;
    three_records(&s);
    world_settle(&s, 11);
    world_checkpoint(&s, 3, 0, 12);
    world_crash(&s);
    s.start_trailing = 2;
    world_start(&s, 20);
    assert_int_equal(consensus_term_of(s.c, 1), 0);
    assert_int_equal(consensus_term_of(s.c, 2), 1);
    assert_int_equal(consensus_term_of(s.c, 4), 1);
    assert_int_equal(consensus_last_index(s.c), 4);
    assert_int_equal(s.commit_index, 3);
    /* As a leader it sends them, from its log: what is in memory comes behind them. */
    int64_t now = s.timeout_ms;
    world_tick(&s, now);
    granted(&s, 2, 2, true, ++now);
    granted(&s, 2, 2, false, ++now);
    assert_int_equal(s.role, CONSENSUS_LEADER);
    world_settle(&s, ++now);
    world_clear_out(&s);
    result(&s, 2, 4, 1, ++now); /* it has 1 only, of which nothing is known */
    assert_non_null(world_last_sent(&s, 2, CONSENSUS_INSTALL_SNAPSHOT));
    result(&s, 3, 4, 2, ++now);
    world_tick(&s, now += 60);
    uint64_t last = 2;
    for (uint32_t i = 0; i < s.out_count; i++) {
        const struct consensus_message *m = &s.out[i].m;
        if (m->to != 3 || m->kind != CONSENSUS_APPEND || m->previous_index != last) continue;
        last += m->records_count;
    }
    assert_int_equal(last, 5);
    world_free(&s);
}

static void a_marker_that_cannot_be_is_refused(void **state) {
    struct world_server s;
    three_records(&s);
    world_settle(&s, 11);
    struct consensus_entry entries[4];
    for (int i = 0; i < 4; i++) {
        const struct record *r = s.log[i];
        entries[i] = (struct consensus_entry){r->header.term, r->header.type, r->payload,
                                              r->header.payload_bytes};
    }
    const struct record *first = s.log[0];
    struct consensus_start good = {.term = 2,
                                   .marker_index = 3,
                                   .marker_term = 1,
                                   .configuration_index = 1,
                                   .configuration = first->payload,
                                   .configuration_bytes = first->header.payload_bytes,
                                   .first_index = 1,
                                   .entries = entries,
                                   .entries_count = 4};
    for (int i = 0; i < 5; i++) {
        struct consensus_start start = good;
        if (i == 1) start.marker_term = 2;          /* not the record's */
        if (i == 2) start.marker_term = 3;          /* later than any */
        if (i == 3) start.configuration_index = 4;  /* behind the marker */
        if (i == 4) start.entries_count = 2;        /* the log ends below it */
        struct consensus_options options = {1, "s1", 300, 50, 1};
        struct consensus *c = consensus_new(&options);
        struct consensus_update update;
        char error[256] = "";
        assert_int_equal(consensus_start(c, &start, &update, error, sizeof error), i ? -1 : 0);
        assert_true(i == 0 || strlen(error) > 0);
        consensus_free(c);
    }
    world_free(&s);
}

static void the_leader_knows_its_members(void **state) {
    struct world_server s;
    struct consensus_group group;
    int64_t now = elect(&s, 0);
    result(&s, 3, 0, 1, ++now);
    consensus_group(s.c, now, &group);
    assert_int_equal(group.leader, 1);
    assert_int_equal(group.count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(group.servers[i].id, i + 1);
        assert_int_equal(group.servers[i].role, CONSENSUS_VOTER);
        assert_true(group.servers[i].recent);
        assert_int_equal(group.servers[i].match_index, i == 2 ? 1 : 2);
    }
    result(&s, 2, 0, 2, now + 299);
    consensus_group(s.c, now + 301, &group);
    assert_true(group.servers[0].recent);
    assert_true(group.servers[1].recent);
    assert_false(group.servers[2].recent);
    struct consensus_update update;
    char error[256];
    now += 400;
    result(&s, 3, 0, 2, ++now);
    assert_int_equal(consensus_change(s.c, CONSENSUS_ADD_STANDBY, 4, "s4", now, &update, error,
                                      sizeof error), 0);
    world_take(&s, &update);
    consensus_group(s.c, now, &group);
    assert_int_equal(group.count, 4);
    assert_int_equal(group.servers[3].role, CONSENSUS_STANDBY);
    assert_false(group.servers[3].recent);
    world_free(&s);

    follow(&s, 0);
    consensus_group(s.c, 1, &group);
    assert_int_equal(group.leader, 0);
    append(&s, 1, 1, 1, NULL, 0, 1, 10);
    consensus_group(s.c, 11, &group);
    assert_int_equal(group.leader, 2);
    assert_int_equal(group.servers[1].match_index, 0);
    assert_false(group.servers[1].recent);
    world_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_takes_the_place_of_the_log),
        cmocka_unit_test(batches_in_flight_count_no_more),
        cmocka_unit_test(late_reports_count_no_more),
        cmocka_unit_test(a_crash_before_the_switch_changes_nothing),
        cmocka_unit_test(a_crash_after_the_switch_starts_from_it),
        cmocka_unit_test(a_server_that_joins_installs),
        cmocka_unit_test(unwanted_ones_are_thrown_away),
        cmocka_unit_test(messages_are_lost_during_the_switch),
        cmocka_unit_test(r6_a_newer_snapshot_is_asked_for),
        cmocka_unit_test(an_older_snapshot_does_where_the_log_is),
        cmocka_unit_test(r6_a_follower_that_was_away_is_asked),
        cmocka_unit_test(markers_have_the_configuration_of_their_index),
        cmocka_unit_test(no_configuration_is_forgotten_without_a_checkpoint),
        cmocka_unit_test(a_leader_waits_for_a_checkpoint),
        cmocka_unit_test(a_start_keeps_entries_before_the_marker),
        cmocka_unit_test(a_marker_that_cannot_be_is_refused),
        cmocka_unit_test(the_leader_knows_its_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
