/* What goes wrong around a leader: what waits when the lead is lost, clocks, disks, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/shard/group_orders.h"

static const struct group_setup calm = {
    .disk = {.seed = 41, .append_ms_max = 3, .checkpoint_ms_max = 5, .load_ms_max = 2},
    .network = {.seed = 6, .latency_ms_max = 2}, .checkpoint_age_ms = 300};

static struct group_world world;
static struct group_orders done;

static int setup(void **state) {
    (void)state;
    done.count = 0;
    group_open(&world, &calm);
    group_await_leader(&world, 0);
    group_await_leader(&world, 1);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    group_close(&world);
    return 0;
}

static void end_order(struct group_world *w, uint32_t n) {
    static const uint8_t kinds[] = {COMMAND_ACCEPT, COMMAND_PICK_UP, COMMAND_COMPLETE};
    for (size_t i = 0; i < sizeof kinds; i++) {
        struct command c = world_command(&w->names, kinds[i], done.keys[n]);
        struct result r = group_ask(w, &c);
        assert_int_equal(r.code, RESULT_OK);
        done.versions[n] = r.version;
    }
}

/* More than the limbo holds: what is decided may be committed, what waits is not. */
static void test_what_waits_is_answered_when_the_lead_is_lost(void **state) {
    (void)state;
    struct group_world *w = &world;
    enum { COUNT = LIMBO_ENTRIES_MAX + 20 };
    struct ask *asks = calloc(COUNT, sizeof *asks);
    uint32_t leader = group_await_leader(w, 0), lost = 0, refused = 0;
    assert_non_null(asks);
    group_cut_node(w, leader, 2000);
    for (int i = 0; i < COUNT; i++) {
        struct command c = world_place(&w->names, world_key(&w->names, 0), "s1");
        assert_true(group_offer(w, leader, &asks[i], &c));
        group_run(w, 2); /* so long that the entry before it is on the disk: else they gather */
    }
    assert_int_equal(group_shard(w, leader, 0)->limbo_entries, LIMBO_ENTRIES_MAX);
    group_run(w, 1500);
    for (int i = 0; i < COUNT; i++) {
        assert_true(asks[i].answered);
        lost += asks[i].result.code == RESULT_LEADERSHIP_LOST;
        refused += asks[i].result.code == RESULT_NOT_LEADER;
    }
    assert_true(lost >= LIMBO_ENTRIES_MAX && refused > 0); /* two may share an entry */
    assert_int_equal(lost + refused, COUNT);
    assert_int_equal(mailbox_commands(&group_shard(w, leader, 0)->mailbox), 0);
    orders_place_some(w, &done, 10);
    group_run(w, 1000);
    orders_assert_stores(w, &done); /* none of those others was placed */
    free(asks);
}

/* What it had decided stands nowhere, and others have filled the same places of the log: it hears
 * of the new leader, of its entries and of their commit in one message. */
static void test_a_frozen_leader_does_not_mistake_the_entries_of_others(void **state) {
    (void)state;
    struct group_world *w = &world;
    for (int round = 0; round < 3; round++) {
        uint32_t leader = group_await_leader(w, 0);
        struct ask asks[4];
        group_cut_node(w, leader, 20);
        for (int i = 0; i < 4; i++) {
            struct command c = world_place(&w->names, world_key(&w->names, 0), "s1");
            assert_true(group_offer(w, leader, &asks[i], &c));
            group_run(w, 2);
        }
        w->frozen[leader] = true;
        for (int i = 0; i < 3000 && group_leader(w, 0) == (int)leader; i++) group_run(w, 1);
        orders_place_some(w, &done, 12);
        w->frozen[leader] = false;
        group_run(w, 300);
        for (int i = 0; i < 4; i++) {
            assert_true(asks[i].answered);
            assert_int_equal(asks[i].result.code, RESULT_LEADERSHIP_LOST);
        }
        orders_assert_stores(w, &done); /* none of those was placed */
    }
}

/* The storage reads for a leader that is none any more when the answer comes. */
static void test_loads_under_way_are_awaited(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place(w, &done, 0, "s1");
    end_order(w, 0);
    group_run(w, 12000);
    uint32_t leader = group_await_leader(w, 0);
    struct shard *s = group_shard(w, leader, 0);
    assert_int_equal(actor_table_find(&s->table, ACTOR_ORDER, &done.keys[0]), SLOT_NONE);
    storage_memory_set_slow(w->replicas[leader][0].disk, 5000);
    struct ask asks[3];
    for (int i = 0; i < 3; i++) {
        struct command c =
            world_command(&w->names, i ? COMMAND_ANNOTATE : COMMAND_GET, done.keys[0]);
        c.annotate.note = bytes_of_text("x");
        assert_true(group_offer(w, leader, &asks[i], &c));
    }
    group_run(w, 1);
    assert_int_equal(s->parked_count, 3);
    assert_true(s->loads_waiting > 0);
    group_cut_node(w, leader, 1500);
    for (int i = 0; i < 1400 && s->phase == SHARD_SERVING; i++) group_run(w, 1);
    for (int i = 0; i < 3; i++) {
        assert_true(asks[i].answered);
        assert_int_equal(asks[i].result.code, RESULT_NOT_LEADER);
    }
    assert_int_equal(s->phase, SHARD_FORGETTING);
    storage_memory_set_slow(w->replicas[leader][0].disk, 0);
    group_run(w, 6000);
    assert_int_equal(s->loads_waiting, 0);
    orders_place_some(w, &done, 6);
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

static void test_deadlines_fire_once_whoever_leads(void **state) {
    (void)state;
    struct group_world *w = &world;
    struct id128 keys[6];
    for (int i = 0; i < 6; i++) {
        struct command c = world_place(&w->names, keys[i] = world_key(&w->names, 0), "s1");
        c.place.payment_timing = PAYMENT_PREPAID;
        assert_int_equal(group_ask(w, &c).code, RESULT_OK);
    }
    uint32_t leader = group_await_leader(w, 0);
    group_run(w, 1000);
    w->now_ms += PAYMENT_DEADLINE_MS + 1000;
    group_run(w, 2); /* decided, and with luck committed */
    group_crash_node(w, leader);
    group_await_leader(w, 0);
    group_run(w, 1000);
    group_start_node(w, leader);
    group_run(w, 1000);
    for (int i = 0; i < 6; i++) {
        struct command get = world_command(&w->names, COMMAND_GET, keys[i]);
        assert_int_equal(group_ask(w, &get).version, 2);
    }
    assert_null(group_difference(w, 0));
}

static void test_time_does_not_go_back_with_the_leader(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 6);
    uint32_t leader = group_await_leader(w, 0);
    for (uint32_t n = 0; n < 3; n++)
        if (n != leader) w->clock_off_ms[n] = -30000;
    group_crash_node(w, leader);
    orders_place_some(w, &done, 6);
    uint32_t next = group_await_leader(w, 0);
    const struct storage_memory *disk = w->replicas[next][0].disk;
    int64_t before = 0;
    for (uint64_t i = 1; i <= storage_memory_durable_last(disk); i++) {
        const void *payload;
        const struct record_header *h = storage_memory_record(disk, i, &payload);
        if (!h || h->type != RECORD_EVENTS) continue;
        const struct entry_header *entry = payload;
        assert_true(entry->time_ms >= before);
        before = entry->time_ms;
    }
    group_start_node(w, leader);
    orders_assert_stores(w, &done);
}

/* The others have committed what this disk has not got yet. */
static void test_a_history_waits_for_the_own_disk(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place(w, &done, 0, "s1");
    uint32_t leader = group_await_leader(w, 0);
    storage_memory_set_stuck(w->replicas[leader][0].disk, w->mono_ms + 600);
    orders_change(w, &done, 0); /* answered: two have it */
    struct ask ask;
    struct command c = world_command(&w->names, COMMAND_HISTORY, done.keys[0]);
    assert_true(group_offer(w, leader, &ask, &c));
    group_run(w, 300);
    assert_false(ask.answered);
    group_run(w, 600);
    assert_true(ask.answered);
    assert_int_equal(ask.result.code, RESULT_OK);
    assert_non_null(ask.result.value);
    free(ask.result.value);
    orders_assert_stores(w, &done);
}

static void test_a_follower_without_memory_begins_again(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 10);
    for (int round = 0; round < 4; round++) {
        uint32_t node = (group_await_leader(w, 0) + 1) % 3;
        group_shard(w, node, 0)->memory.fail_countdown = 1 + (uint64_t)round;
        orders_place_some(w, &done, 20);
        group_run(w, 1500);
    }
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

/* News of stores that it has not heard of yet: it goes on as well. */
static void test_a_follower_without_memory_for_news_begins_again(void **state) {
    (void)state;
    struct group_world *w = &world;
    char store[16];
    orders_place_some(w, &done, 10);
    for (int round = 0; round < 24; round++) {
        uint32_t shard = (uint32_t)round % GROUP_SHARDS;
        uint32_t node = (group_await_leader(w, shard) + 1) % 3;
        group_shard(w, node, shard)->memory.fail_countdown = 1 + (uint64_t)round / GROUP_SHARDS;
        snprintf(store, sizeof store, "fresh-%d", round);
        for (uint32_t i = 0; i < 4; i++) orders_place(w, &done, i % GROUP_SHARDS, store);
        group_run(w, 1500);
        assert_false(group_shard(w, node, shard)->failed);
    }
    orders_assert(w, &done);
    orders_assert_stores(w, &done);
}

/* Else a follower would keep all messages for ever, and send them all when it leads. */
static void test_followers_learn_what_was_acknowledged(void **state) {
    (void)state;
    struct group_world *w = &world;
    orders_place_some(w, &done, 100);
    group_run(w, 2000);
    orders_place_some(w, &done, 4); /* the note travels with an entry */
    group_run(w, 1500);
    orders_place_some(w, &done, 4);
    group_run(w, 500);
    for (uint32_t n = 0; n < 3; n++) {
        uint64_t sent = 0;
        for (uint32_t s = 0; s < GROUP_SHARDS; s++) {
            const struct outbox *o = &group_shard(w, n, s)->outbox;
            sent += o->peers[1 - s].sequence_last;
            assert_true(o->messages_waiting <= 8);
            assert_int_equal(atomic_load(&group_shard(w, n, s)->inbox_count), 0);
        }
        assert_true(sent >= 30);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_what_waits_is_answered_when_the_lead_is_lost),
        T(test_a_frozen_leader_does_not_mistake_the_entries_of_others),
        T(test_loads_under_way_are_awaited),
        T(test_deadlines_fire_once_whoever_leads),
        T(test_time_does_not_go_back_with_the_leader),
        T(test_a_history_waits_for_the_own_disk),
        T(test_a_follower_without_memory_begins_again),
        T(test_a_follower_without_memory_for_news_begins_again),
        T(test_followers_learn_what_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
