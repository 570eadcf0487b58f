/* What both storages have to do alike: the same body runs in LMDB and in the simulated twin. */
#include <stdio.h>
#include <stdlib.h>

#include "storage_install_fixture.h"

static void expect_marker(struct fixture *f, uint64_t index) {
    struct storage_meta *meta = fixture_meta(f);
    assert_int_equal(meta->applied_index, index);
    assert_int_equal(meta->applied_term, index == 0 ? 0 : index / 10 + 1);
    free(meta);
}

/* -- append and truncation --------------------------------------------------------------------- */

static void appends_are_counted_from_one(void **state) {
    struct fixture *f = *state;
    for (int opens = 0; opens < 2; opens++) {
        fixture_open(f);
        vote(f, 3);
        struct storage_meta *meta = fixture_meta(f);
        uint64_t last = meta->log_last;
        free(meta);
        f->appended_sequence = 0;
        for (uint64_t n = 1; n <= 50; n++) {
            struct record *r = fixture_records(last + 1, last + 1 + n % 3, 3, 64, 5);
            last += 1 + n % 3;
            assert_int_equal(f->storage->ops->append(f->storage, r), n);
        }
        fixture_wait64(f, &f->appended_sequence, 50);
        assert_int_equal(f->appended_sequence, 50);
        assert_int_equal(f->appended_index, last);
        expect_log(f, 1, last);
        fixture_close(f);
    }
}

/* What an update of consensus asks for: an index that goes back, in one call with the new tail. */
static void a_truncation_and_its_records_are_one_append(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    vote(f, 4);
    /* All queued at once: the old tail may not even have been written when it goes. */
    f->storage->ops->append(f->storage, fixture_records(1, 40, 1, 64, 5));
    f->storage->ops->append(f->storage, fixture_records(31, 35, 2, 64, 6));
    f->storage->ops->append(f->storage, fixture_records(36, 38, 2, 64, 6));
    f->storage->ops->append(f->storage, fixture_records(34, 34, 3, 64, 7));
    fixture_wait64(f, &f->appended_sequence, 4);
    assert_int_equal(f->appended_index, 34);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_log(f, 1, 34);
        fixture_expect(f, 1, 30, 1);
        fixture_expect(f, 31, 33, 2);
        fixture_expect(f, 34, 34, 3);
        expect_unread(f, 30, 35, "35");
    }
    f->appended_sequence = 0;
    fixture_append(f, 35, 36, 4, 64, 8);
    expect_log(f, 1, 36);
}

static void meta_can_be_asked_again(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    expect_log(f, 0, 0);
    vote(f, 2);
    fixture_append(f, 1, 30, 1, 64, 1000);
    expect_log(f, 1, 30);
    expect_marker(f, 0);
    struct draft *d = draft_new(20);
    draft_put(d, ACTOR_ORDER, fixture_key(100, 1), 300, 'o');
    draft_do(f, d);
    expect_marker(f, 20);
    fixture_append(f, 25, 26, 2, 64, 1000);
    expect_log(f, 1, 26);
    vote(f, 7);
    struct storage_meta *meta = fixture_meta(f);
    assert_int_equal(meta->term, 7);
    assert_int_equal(meta->voted_for, 1);
    assert_int_equal(meta->orders_count, 1);
    assert_int_equal(meta->orders_birth_max_ms, 100);
    free(meta);
    expect_actor(f, ACTOR_ORDER, fixture_key(100, 1), 300, 'o');
    d = draft_new(26);
    draft_remove(d, ACTOR_ORDER, fixture_key(100, 1));
    draft_do(f, d);
    expect_marker(f, 26);
    expect_no_actor(f, ACTOR_ORDER, fixture_key(100, 1));
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 26), 0);
    expect_installed(f, 60, 'n');
    expect_log(f, 61, 60);
    fixture_append(f, 61, 64, 7, 64, 1000);
    expect_log(f, 61, 64);
    fixture_append(f, 62, 62, 7, 64, 1000);
    expect_log(f, 61, 62);
}

static void loads_can_be_counted_down(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    const struct id128 here = fixture_key(100, 1), missing = fixture_key(5, 5);
    for (int i = 0; i < 10; i++) {
        f->storage->ops->load(f->storage, ACTOR_ORDER, i % 2 ? &here : &missing);
    }
    f->storage->ops->load_timers(f->storage, 0, 1000, 10);
    fixture_wait(f, &f->loaded_count, 12); /* ten, one deadline, one end */
    unsigned loads = 0, ends = 0;
    for (unsigned i = 0; i < f->loaded_count; i++) {
        const struct storage_event *e = &f->loaded[i];
        loads += e->kind == STORAGE_LOADED;
        ends += e->kind == STORAGE_TIMER_LOADED && !e->ok;
        if (e->block) f->storage->ops->release_block(f->storage, e->block);
    }
    assert_int_equal(loads, 10);
    assert_int_equal(ends, 1);
}

/* Messages to other shards lie among the board notes. */
static void a_message_is_loaded_by_its_kind(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    vote(f, 2);
    fixture_append(f, 1, 30, 1, 64, 1000);
    const struct id128 key = fixture_key(3, 7);
    struct draft *d = draft_new(20);
    draft_put(d, ACTOR_BOARD, fixture_key(3, 6), 101, 'n');
    draft_put(d, ACTOR_MESSAGE, key, 200, 'm');
    draft_do(f, d);
    f->storage->ops->load(f->storage, ACTOR_MESSAGE, &key);
    fixture_wait(f, &f->loaded_count, 1);
    const struct storage_event *e = &f->loaded[0];
    assert_int_equal(e->kind, STORAGE_LOADED);
    assert_int_equal(e->actor_kind, ACTOR_MESSAGE);
    assert_true(e->ok && e->block);
    assert_int_equal(e->block_bytes, 200);
    assert_int_equal(((const uint8_t *)e->block)[199], 'm');
    f->storage->ops->release_block(f->storage, e->block);
}

/* -- export and check -------------------------------------------------------------------------- */

static void an_exported_state_is_checked(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    struct storage_meta *meta = calloc(1, sizeof *meta);
    const struct storage_ops *ops = f->storage->ops;
    assert_int_equal(ops->check_state(f->storage, file_path(f, "in"), meta, f->error,
                                      sizeof f->error), 0);
    assert_int_equal(meta->applied_index, 60);
    assert_int_equal(meta->applied_term, 7);
    assert_int_equal(meta->configuration_bytes, 40);
    assert_int_equal(meta->orders_count, 2);
    assert_int_equal(meta->stores_count, 1);
    assert_int_equal(meta->orders_birth_max_ms, 8000);
    assert_int_equal(meta->log_last, 0);
    assert_int_equal(ops->check_state(f->storage, file_path(f, "none"), meta, f->error,
                                      sizeof f->error), -1);
    atomic_bool stop = true;
    assert_int_equal(ops->export_state(f->storage, file_path(f, "out"), &stop, meta, f->error,
                                       sizeof f->error), -1);
    assert_int_equal(ops->check_state(f->storage, file_path(f, "out"), meta, f->error,
                                      sizeof f->error), -1);
    /* Its own state, exported while it goes on. */
    assert_int_equal(ops->export_state(f->storage, file_path(f, "out"), NULL, meta, f->error,
                                       sizeof f->error), 0);
    struct draft *d = draft_new(30);
    draft_put(d, ACTOR_ORDER, fixture_key(100, 1), 500, 'p')->old_deadline_ms = 77;
    draft_do(f, d);
    assert_int_equal(ops->check_state(f->storage, file_path(f, "out"), meta, f->error,
                                      sizeof f->error), 0);
    assert_int_equal(meta->applied_index, 20);
    assert_int_equal(meta->orders_count, 1);
    free(meta);
}

/* -- install ----------------------------------------------------------------------------------- */

static void an_installed_state_replaces_state_and_log(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_installed(f, 60, 'n');
        expect_log(f, 61, 60);
        expect_gap(f, 1, 31, 60);
        fixture_expect(f, 1, 30, 1);
        expect_unread(f, 25, 31, "gap");
        expect_unread(f, 60, 60, "gap");
        expect_unread(f, 61, 61, "61");
    }
    /* The file is the storage's now. */
    struct storage_meta *meta = calloc(1, sizeof *meta);
    assert_int_equal(f->storage->ops->check_state(f->storage, file_path(f, "in"), meta, f->error,
                                                  sizeof f->error), -1);
    free(meta);
    f->appended_sequence = 0;
    fixture_append(f, 61, 70, 8, 64, 2000);
    struct draft *d = draft_new(65);
    draft_put(d, ACTOR_ORDER, fixture_key(8000, 2), 400, 'm')->old_deadline_ms = 5000;
    draft_do(f, d);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_log(f, 61, 70);
        expect_marker(f, 65);
        fixture_expect(f, 61, 70, 8);
        fixture_expect(f, 1, 30, 1);
        expect_unread(f, 1, 70, "gap");
        expect_actor(f, ACTOR_ORDER, fixture_key(8000, 2), 400, 'm');
    }
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_int_equal(stats.log_first, 1);
    assert_int_equal(stats.log_last, 70);
    /* A truncation down to the very first record behind the gap. */
    f->appended_sequence = 0;
    fixture_append(f, 66, 66, 9, 64, 2000);
    expect_log(f, 61, 66);
}

static void all_behind_an_install_can_be_truncated(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    fixture_append(f, 61, 70, 8, 64, 2000);
    fixture_append(f, 61, 62, 9, 64, 2000);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_log(f, 61, 62);
        fixture_expect(f, 61, 62, 9);
        fixture_expect(f, 1, 30, 1);
        expect_gap(f, 1, 31, 60);
    }
}

static void an_empty_storage_takes_a_state(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 0), 0);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_installed(f, 60, 'n');
        expect_log(f, 61, 60);
        expect_gap(f, 1, 1, 60);
        expect_unread(f, 1, 1, "gap");
    }
    vote(f, 9);
    f->appended_sequence = 0;
    fixture_append(f, 61, 65, 9, 64, 2000);
    fixture_reopen(f);
    expect_log(f, 61, 65);
    fixture_expect(f, 61, 65, 9);
}

/* Three installs: between the first two nothing is written, so their gaps are one. */
static void gaps_add_up(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    make_file(f, file_path(f, "in"), 80, 'm');
    assert_int_equal(install(f, file_path(f, "in"), 60), 0);
    expect_installed(f, 80, 'm');
    expect_gap(f, 1, 31, 80);
    fixture_append(f, 81, 90, 9, 64, 2000);
    make_file(f, file_path(f, "in"), 120, 'l');
    assert_int_equal(install(f, file_path(f, "in"), 85), 0);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_installed(f, 120, 'l');
        expect_gap(f, 2, 86, 120);
        expect_log(f, 121, 120);
        fixture_expect(f, 1, 30, 1);
        fixture_expect(f, 81, 85, 9);
        expect_unread(f, 31, 31, "31 to 80");
        expect_unread(f, 85, 86, "86 to 120");
    }
}

/* What is queued is finished or thrown away, and nothing is told of it later. */
static void an_install_ends_what_is_queued(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    while (fixture_poll(f)) {
    }
    const struct id128 here = fixture_key(100, 1);
    for (int i = 0; i < 20; i++) f->storage->ops->load(f->storage, ACTOR_ORDER, &here);
    f->storage->ops->load_timers(f->storage, 0, 1000, 10);
    /* Replaces 36 to 40; nobody knows how much of it is written. All of it is committed. */
    f->storage->ops->append(f->storage, fixture_records(36, 44, 2, 64, 2000));
    uint64_t sequence = f->storage->ops->append(f->storage, fixture_records(45, 50, 2, 64, 2000));
    assert_int_equal(install(f, file_path(f, "in"), 50), 0);
    f->appended_sequence = 0;
    for (int i = 0; i < 50; i++) fixture_poll(f);
    assert_int_equal(f->loaded_count, 0);
    assert_int_equal(f->appended_sequence, 0);
    expect_installed(f, 60, 'n');
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_true(stats.gap_first == 36 || stats.gap_first == 45 || stats.gap_first == 51);
    assert_int_equal(stats.appends_waiting, 0);
    fixture_expect(f, 1, 35, 1);
    if (stats.gap_first > 36) fixture_expect(f, 36, stats.gap_first - 1, 2);
    /* Numbers of appends go on; loads work. */
    f->storage->ops->append(f->storage, fixture_records(61, 61, 3, 64, 2000));
    fixture_wait64(f, &f->appended_sequence, sequence + 1);
    assert_int_equal(f->appended_index, 61);
    const struct id128 order = fixture_key(7000, 1);
    f->storage->ops->load(f->storage, ACTOR_ORDER, &order);
    f->storage->ops->load_timers(f->storage, 0, 10000, 10);
    fixture_wait(f, &f->loaded_count, 3);
    for (unsigned i = 0; i < f->loaded_count; i++) {
        const struct storage_event *e = &f->loaded[i];
        if (e->kind == STORAGE_TIMER_LOADED && e->ok) assert_int_equal(e->deadline_ms, 5000);
        if (e->kind == STORAGE_TIMER_LOADED) continue;
        assert_true(e->ok && e->block_bytes == 300);
        f->storage->ops->release_block(f->storage, e->block);
    }
}

/* Two gaps, the newer one filled first, and an install in the middle of it. */
static void gaps_are_filled(void **state) {
    struct fixture *f = *state;
    struct storage_gap gap;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    fixture_append(f, 61, 70, 8, 64, 2000);
    make_file(f, file_path(f, "in"), 90, 'm');
    assert_int_equal(install(f, file_path(f, "in"), 70), 0);
    assert_true(f->storage->ops->gap(f->storage, 1, &gap));
    assert_true(gap.first == 31 && gap.last == 60 && !gap.opens);
    assert_false(f->storage->ops->gap(f->storage, 2, &gap));
    assert_int_equal(fill(f, 72, 80, 9, 64), STORAGE_FILL_MOOT);
    assert_int_equal(fill(f, 71, 80, 7, 64), STORAGE_FILL_REFUSED); /* an older term than 70 */
    assert_int_equal(fill(f, 71, 80, 11, 64), STORAGE_FILL_REFUSED); /* newer than the state */
    assert_int_equal(fill(f, 71, 80, 9, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_gap(f, 2, 81, 90);
        expect_log(f, 91, 90);
        fixture_expect(f, 71, 80, 9);
        expect_unread(f, 80, 81, "gap");
    }
    make_file(f, file_path(f, "in"), 120, 'l');
    assert_int_equal(install(f, file_path(f, "in"), 90), 0);
    expect_gap(f, 2, 81, 120);
    fixture_append(f, 121, 125, 13, 64, 2000);
    assert_int_equal(fill(f, 81, 125, 12, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_gap(f, 1, 31, 60);
        expect_log(f, 61, 125);
    }
    assert_int_equal(fill(f, 31, 60, 5, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_gap(f, 0, 0, 0);
        expect_log(f, 1, 125);
        fixture_expect(f, 1, 30, 1);
        fixture_expect(f, 31, 60, 5);
        fixture_expect(f, 61, 70, 8);
        fixture_expect(f, 81, 120, 12);
        fixture_expect(f, 121, 125, 13);
    }
    fixture_append(f, 123, 130, 14, 64, 2000);
    expect_log(f, 1, 130);
}

static void a_gap_at_the_beginning_opens(void **state) {
    struct fixture *f = *state;
    struct storage_gap gap;
    fixture_open(f);
    vote(f, 100);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 0), 0);
    assert_true(f->storage->ops->gap(f->storage, 0, &gap));
    assert_true(gap.first == 1 && gap.last == 60 && gap.opens);
    assert_int_equal(fill(f, 21, 40, 2, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_gap(f, 1, 41, 60);
        expect_log(f, 61, 60);
        expect_unread(f, 20, 20, "20");
    }
    fixture_append(f, 61, 65, 8, 64, 2000);
    assert_int_equal(fill(f, 41, 60, 2, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_gap(f, 0, 0, 0);
        expect_log(f, 21, 65);
        fixture_expect(f, 21, 60, 2);
    }
}

static void retention_reaches_over_a_gap(void **state) {
    struct fixture *f = *state;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    fixture_append(f, 61, 70, 8, 64, 500000);
    f->storage->ops->retain(f->storage, 60, 400000);
    wait_dropped(f, 61);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_log(f, 61, 70);
        expect_gap(f, 1, 31, 60);
        expect_unread(f, 30, 30, "30");
        fixture_expect(f, 61, 70, 8);
    }
}

/* Nothing would join what fills a gap, when what was behind it is gone. */
static void a_gap_that_retention_has_passed_stays(void **state) {
    struct fixture *f = *state;
    struct storage_gap gap;
    struct storage_stats stats;
    f->options.segment_bytes_max = 65536;
    follower_open(f);
    make_file(f, file_path(f, "in"), 60, 'n');
    assert_int_equal(install(f, file_path(f, "in"), 30), 0);
    fixture_append(f, 61, 128, 8, 2000, 2000);
    fixture_append(f, 129, 200, 8, 2000, 500000);
    draft_do(f, draft_new(200));
    assert_true(f->storage->ops->gap(f->storage, 0, &gap));
    f->storage->ops->retain(f->storage, 200, 400000);
    wait_dropped(f, 62);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        assert_false(f->storage->ops->gap(f->storage, 0, &gap));
        assert_int_equal(fill(f, 31, 60, 2, 64), STORAGE_FILL_MOOT);
        assert_int_equal(fill(f, 45, 60, 2, 64), STORAGE_FILL_MOOT);
    }
    f->storage->ops->stats(f->storage, &stats);
    assert_true(stats.log_first > 61 && stats.log_first <= 129);
    fixture_expect(f, stats.log_first, 200, 8);
    /* A newer one is filled. */
    make_file(f, file_path(f, "in"), 220, 'm');
    assert_int_equal(install(f, file_path(f, "in"), 200), 0);
    assert_true(f->storage->ops->gap(f->storage, 0, &gap));
    assert_true(gap.first == 201 && gap.last == 220 && !gap.opens);
    assert_false(f->storage->ops->gap(f->storage, 1, &gap));
    assert_int_equal(fill(f, 201, 220, 9, 64), STORAGE_FILLED);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        assert_false(f->storage->ops->gap(f->storage, 0, &gap));
        expect_log(f, stats.log_first, 220);
        fixture_expect(f, stats.log_first, 200, 8);
        fixture_expect(f, 201, 220, 9);
    }
}

#define TWINS(test)                                                                                \
    {"lmdb: " #test, test, fixture_setup, fixture_teardown, NULL},                                 \
    {"memory: " #test, test, fixture_setup_memory, fixture_teardown, NULL}

int main(void) {
    const struct CMUnitTest tests[] = {
        TWINS(appends_are_counted_from_one),
        TWINS(a_truncation_and_its_records_are_one_append),
        TWINS(meta_can_be_asked_again),
        TWINS(loads_can_be_counted_down),
        TWINS(a_message_is_loaded_by_its_kind),
        TWINS(an_exported_state_is_checked),
        TWINS(an_installed_state_replaces_state_and_log),
        TWINS(all_behind_an_install_can_be_truncated),
        TWINS(an_empty_storage_takes_a_state),
        TWINS(gaps_add_up),
        TWINS(an_install_ends_what_is_queued),
        TWINS(gaps_are_filled),
        TWINS(a_gap_at_the_beginning_opens),
        TWINS(retention_reaches_over_a_gap),
        TWINS(a_gap_that_retention_has_passed_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
