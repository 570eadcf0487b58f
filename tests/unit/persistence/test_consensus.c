/* One voter: bootstrap, restart, terms, barriers, commits, checkpoints. */
/* clang-format off: cmocka.h needs the others before it */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/persistence/consensus_world.h"

static const uint64_t alone[] = {1};

static void bootstrap_leads_after_its_barrier(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 1000);
    /* M3: a new term, own vote, to be stored before the barrier. */
    assert_int_equal(s.term, 2);
    assert_int_equal(s.voted_for, 1);
    assert_int_equal(s.role, CONSENSUS_LEADER);
    assert_int_equal(s.barriers, 1);
    assert_int_equal(s.queue_count, 1);
    assert_int_equal(s.queue[s.queue_head].records[0]->header.index, 2);
    assert_int_equal(s.queue[s.queue_head].records[0]->header.term, 2);
    assert_int_equal(s.queue[s.queue_head].number, 1);
    assert_false(s.ready);
    assert_int_equal(s.commit_index, 1);
    assert_true(world_persist(&s, 1001));
    assert_true(s.ready);
    assert_int_equal(s.commit_index, 2);
    world_free(&s);
}

static void not_ready_refuses_and_keeps_nothing(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    assert_int_equal(world_submit(&s, 3, 1), -1);
    assert_int_equal(consensus_last_index(s.c), 2);
    assert_int_equal(s.queue_count, 1);
    world_free(&s);
}

static void commits_never_before_durable(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    assert_int_equal(world_submit(&s, 3, 2), 0);
    assert_int_equal(world_submit(&s, 1, 3), 0);
    assert_int_equal(world_submit(&s, 2, 4), 0);
    assert_int_equal(consensus_last_index(s.c), 8);
    assert_int_equal(s.commit_index, 2);
    uint64_t expected_after[] = {5, 6, 8};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s.commit_index, i == 0 ? 2 : expected_after[i - 1]);
        assert_true(world_persist(&s, 10 + i));
        assert_int_equal(s.commit_index, expected_after[i]);
    }
    assert_false(world_persist(&s, 20));
    for (uint64_t i = 0; i < s.durable_count; i++) {
        assert_int_equal(s.log[i]->header.index, i + 1);
        assert_int_equal(s.log[i]->header.term, i == 0 ? 1 : 2);
    }
    assert_string_equal((char *)s.log[2]->payload, "0 of 3");
    assert_string_equal((char *)s.log[4]->payload, "2 of 3");
    assert_string_equal((char *)s.log[7]->payload, "1 of 2");
    world_free(&s);
}

static void several_batches_in_one_report(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    for (int i = 0; i < 4; i++) assert_int_equal(world_submit(&s, 2, 2 + i), 0);
    struct consensus_update update;
    consensus_persisted_batch(s.c, 4, 10, &update); /* batches 2 to 4 in one transaction */
    assert_int_equal(update.commit_index, 8);
    consensus_persisted(s.c, 10, 11, &update); /* and the rest by index */
    assert_int_equal(update.commit_index, 10);
    consensus_persisted(s.c, 10, 12, &update); /* told twice: nothing new */
    assert_int_equal(update.commit_index, 10);
    world_free(&s);
}

static void an_index_inside_a_batch_waits_for_its_end(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    assert_int_equal(world_submit(&s, 4, 2), 0);
    struct consensus_update update;
    consensus_persisted(s.c, 4, 3, &update);
    assert_int_equal(update.commit_index, 2);
    consensus_persisted(s.c, 6, 4, &update);
    assert_int_equal(update.commit_index, 6);
    world_free(&s);
}

static void every_restart_has_a_new_term_and_one_barrier(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    uint64_t last = 1;
    for (uint64_t i = 0; i < 5; i++) {
        world_start(&s, (int64_t)i * 1000);
        assert_int_equal(s.term, 2 + i);
        assert_int_equal(consensus_term(s.c), 2 + i);
        assert_int_equal(s.voted_for, 1);
        assert_int_equal(s.barriers, 1);
        assert_int_equal(s.commit_index,
                         last); /* what is durable is committed: nobody else votes */
        world_settle(&s, (int64_t)i * 1000 + 1);
        assert_int_equal(world_submit(&s, 1, (int64_t)i * 1000 + 2), 0);
        world_settle(&s, (int64_t)i * 1000 + 3);
        last += 2;
        assert_int_equal(s.commit_index, last);
        world_crash(&s);
    }
    world_free(&s);
}

static void a_crash_loses_only_what_was_not_durable(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    assert_int_equal(world_submit(&s, 2, 2), 0);
    assert_int_equal(world_submit(&s, 2, 3), 0);
    world_persist(&s, 4);
    assert_int_equal(s.commit_index, 4);
    world_crash(&s);
    world_start(&s, 5);
    assert_int_equal(s.commit_index, 4);
    assert_int_equal(consensus_last_index(s.c), 5); /* the new barrier took the lost one's place */
    assert_int_equal(consensus_term_of(s.c, 5), 3);
    assert_int_equal(consensus_term_of(s.c, 4), 2);
    world_free(&s);
}

static void a_crash_before_the_vote_is_durable_changes_nothing(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    s.term = 1;
    s.voted_for = 0;
    world_crash(&s);
    world_start(&s, 1);
    assert_int_equal(s.term, 2);
    world_settle(&s, 2);
    assert_int_equal(s.commit_index, 2);
    world_free(&s);
}

static void restart_at_a_marker(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(world_submit(&s, 1, 2 + i), 0);
        world_settle(&s, 2 + i);
    }
    uint64_t index = 0;
    uint32_t bytes = 0;
    assert_non_null(consensus_committed_configuration(s.c, &index, &bytes));
    assert_int_equal(index, 1);
    assert_int_equal(bytes, s.log[0]->header.payload_bytes);
    world_checkpoint(&s, 15, 0, 30);
    world_crash(&s);

    world_start(&s, 40); /* records behind the marker */
    assert_int_equal(s.commit_index, 22);
    assert_int_equal(consensus_last_index(s.c), 23);
    assert_int_equal(consensus_term_of(s.c, 15), 2);
    assert_int_equal(consensus_term_of(s.c, 14), 0);
    assert_non_null(consensus_committed_configuration(s.c, &index, &bytes));
    assert_int_equal(index, 1);
    world_settle(&s, 41);
    assert_true(s.ready);
    world_checkpoint(&s, 23, 0, 42);
    world_crash(&s);

    world_start(&s, 50); /* nothing behind the marker */
    assert_int_equal(s.commit_index, 23);
    assert_int_equal(consensus_last_index(s.c), 24);
    world_settle(&s, 51);
    assert_int_equal(world_submit(&s, 1, 52), 0);
    world_settle(&s, 53);
    assert_int_equal(s.commit_index, 25);
    world_free(&s);
}

static void checkpoint_keeps_trailing_records(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    assert_int_equal(world_submit(&s, 98, 2), 0);
    world_settle(&s, 3);
    world_checkpoint(&s, 90, 10, 4);
    assert_int_equal(consensus_term_of(s.c, 81), 2);
    assert_int_equal(consensus_term_of(s.c, 90), 2);
    assert_int_equal(consensus_term_of(s.c, 80), 0);
    assert_int_equal(consensus_term_of(s.c, 100), 2);
    assert_int_equal(consensus_term_of(s.c, 101), 0);
    assert_int_equal(consensus_last_index(s.c), 100);
    world_free(&s);
}

static void checkpoints_out_of_order_are_ignored(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    assert_int_equal(world_submit(&s, 8, 2), 0);
    world_settle(&s, 3);
    world_checkpoint(&s, 6, 0, 4);
    struct consensus_update update;
    consensus_checkpointed(s.c, 6, 0, 5, &update);
    consensus_checkpointed(s.c, 3, 0, 6, &update);
    assert_int_equal(consensus_term_of(s.c, 6), 2);
    assert_int_equal(consensus_term_of(s.c, 7), 2);
    assert_int_equal(consensus_last_index(s.c), 10);
    world_free(&s);
}

static void configuration_is_fed_again_after_restart(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    for (int i = 0; i < 3; i++) {
        world_start(&s, i * 100);
        assert_int_equal(s.applied_index, 0);
        world_settle(&s, i * 100 + 1); /* applies record 1 again */
        assert_int_equal(s.applied_index, 2 + i);
        assert_int_equal(consensus_open_change(s.c), 0);
        uint64_t index = 0;
        uint32_t bytes = 0;
        const uint8_t *data = consensus_committed_configuration(s.c, &index, &bytes);
        assert_int_equal(index, 1);
        assert_memory_equal(data, s.log[0]->payload, bytes);
        world_crash(&s);
    }
    world_free(&s);
}

static void time_never_goes_back_and_the_timeout_lies_ahead(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 5000);
    world_settle(&s, 4000); /* a clock that jumps back is held */
    assert_true(s.timeout_ms > 5000);
    world_tick(&s, 9000);
    assert_true(s.timeout_ms > 9000);
    assert_int_equal(s.role, CONSENSUS_LEADER); /* alone: never loses contact with a majority */
    world_tick(&s, 90000);
    assert_int_equal(s.role, CONSENSUS_LEADER);
    assert_true(s.timeout_ms >= 90050); /* no busy loop */
    world_free(&s);
}

static void refused_start(struct consensus_start *start, const char *sentence) {
    struct consensus_options options = {1, "s1", 300, 50, 1};
    struct consensus *c = consensus_new(&options);
    struct consensus_update update;
    char error[256] = "";
    assert_int_equal(consensus_start(c, start, &update, error, sizeof error), -1);
    if (strstr(error, sentence) == NULL) fail_msg("'%s' does not say '%s'", error, sentence);
    consensus_free(c);
}

static void impossible_states_are_named(void **state) {
    uint64_t ids[] = {1};
    const char *addresses[] = {"s1"};
    struct record *r = consensus_bootstrap_record(ids, addresses, 1);
    struct consensus_entry configuration = {1, RECORD_CONFIGURATION, r->payload,
                                            r->header.payload_bytes};
    struct consensus_entry events = {1, RECORD_EVENTS, NULL, 0};
    struct consensus_entry high[] = {configuration, {3, RECORD_EVENTS, NULL, 0}};
    struct consensus_entry back[] = {configuration, {2, RECORD_EVENTS, NULL, 0}, events};
    struct consensus_entry odd[] = {configuration, {1, 9, NULL, 0}};
    struct consensus_entry torn = {1, RECORD_CONFIGURATION, r->payload, 11};
    refused_start(
        &(struct consensus_start){.first_index = 1, .entries = &configuration, .entries_count = 1},
        "no term");
    refused_start(
        &(struct consensus_start){
            .term = 1, .first_index = 1, .entries = &events, .entries_count = 1},
        "not a configuration");
    refused_start(
        &(struct consensus_start){
            .term = 1, .first_index = 3, .entries = &events, .entries_count = 1},
        "begins at 3");
    refused_start(
        &(struct consensus_start){.term = 2, .first_index = 1, .entries = high, .entries_count = 2},
        "record 2 has term 3");
    refused_start(
        &(struct consensus_start){.term = 2, .first_index = 1, .entries = back, .entries_count = 3},
        "record 3 has term 1");
    refused_start(
        &(struct consensus_start){.term = 2, .first_index = 1, .entries = odd, .entries_count = 2},
        "unknown type 9");
    refused_start(
        &(struct consensus_start){
            .term = 2, .first_index = 1, .entries = &torn, .entries_count = 1},
        "malformed");
    refused_start(&(struct consensus_start){.term = 2, .marker_index = 5}, "no term");
    refused_start(&(struct consensus_start){.term = 2, .marker_index = 5, .marker_term = 1},
                  "no configuration");
    record_release(r);
}

static void submit_of_a_configuration(void *arg) {
    struct world_server *s = arg;
    struct record *r = world_record(0, 0, RECORD_CONFIGURATION, "x");
    struct consensus_update update;
    consensus_submit(s->c, r, 100, &update);
}

static void persisted_beyond_the_log(void *arg) {
    struct world_server *s = arg;
    struct consensus_update update;
    consensus_persisted(s->c, 99, 100, &update);
}

static void misuse_ends_the_process(void **state) {
    struct world_server s;
    world_bootstrap(&s, 1, alone, 1);
    world_start(&s, 0);
    world_settle(&s, 1);
    assert_true(world_aborts(submit_of_a_configuration, &s));
    assert_true(world_aborts(persisted_beyond_the_log, &s));
    world_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bootstrap_leads_after_its_barrier),
        cmocka_unit_test(not_ready_refuses_and_keeps_nothing),
        cmocka_unit_test(commits_never_before_durable),
        cmocka_unit_test(several_batches_in_one_report),
        cmocka_unit_test(an_index_inside_a_batch_waits_for_its_end),
        cmocka_unit_test(every_restart_has_a_new_term_and_one_barrier),
        cmocka_unit_test(a_crash_loses_only_what_was_not_durable),
        cmocka_unit_test(a_crash_before_the_vote_is_durable_changes_nothing),
        cmocka_unit_test(restart_at_a_marker),
        cmocka_unit_test(checkpoint_keeps_trailing_records),
        cmocka_unit_test(checkpoints_out_of_order_are_ignored),
        cmocka_unit_test(configuration_is_fed_again_after_restart),
        cmocka_unit_test(time_never_goes_back_and_the_timeout_lies_ahead),
        cmocka_unit_test(impossible_states_are_named),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
