/* The shard when something is wrong: damage, a disk that stands still, a request that is late, no
 * memory, too much to do. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/shard/served_world.h"

static void end_order(struct world *w, struct id128 key) {
    static const uint8_t kinds[] = {COMMAND_ACCEPT, COMMAND_PICK_UP, COMMAND_COMPLETE};
    for (size_t i = 0; i < sizeof kinds; i++) {
        struct command c = world_command(w, kinds[i], key);
        assert_int_equal(world_ask(w, &c).code, RESULT_OK);
    }
}

/* What was decided before stands and is answered; the rest, wherever it waits, is refused. */
static void test_damaged_deadlines_fail_the_shard(void **state) {
    (void)state;
    struct world *w = &world;
    static struct ask placed, read;
    struct command place = world_place(w, world_key(w, 0), "s1");
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    end_order(w, place.subject);
    world_run(w, 6000);
    assert_int_equal(stats_of(0).orders_in_memory, 0);
    storage_memory_corrupt_timers(w->disks[0]);
    world_run(w, 100);
    assert_false(stats_of(0).failed); /* listed up to here and further */
    storage_memory_set_slow(w->disks[0], 50);
    w->now_ms += 6LL * 60000;
    struct command get = world_command(w, COMMAND_GET, place.subject);
    place = world_place(w, world_key(w, 0), "s1");
    assert_true(world_offer(w, &placed, &place));
    assert_true(world_offer(w, &read, &get));
    world_run(w, 500);
    assert_true(placed.answered && read.answered);
    assert_int_equal(placed.result.code, RESULT_OK);
    assert_int_equal(read.result.code, RESULT_STORAGE_FAILED);
    assert_int_equal(world_ask(w, &get).code, RESULT_STORAGE_FAILED);
    assert_true(stats_of(0).failed);
    assert_false(stats_of(0).ready);
    assert_false(stats_of(1).failed);
    assert_true(shard_is_drained(w->shards[0]));
}

/* A deadline that is due while the limbo is full waits for the disk, not in a loop. */
static void test_a_full_limbo_lets_the_thread_sleep(void **state) {
    (void)state;
    struct world *w = &world;
    static struct ask asks[LIMBO_ENTRIES_MAX + 1];
    struct command place = world_place(w, world_key(w, 0), "s1");
    place.place.acceptance_timeout_ms = 30000;
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    world_run(w, 100);
    storage_memory_set_stuck(w->disks[0], w->mono_ms + 2000);
    w->now_ms += 29000;
    for (int i = 0; i <= LIMBO_ENTRIES_MAX; i++) {
        place = world_place(w, world_key(w, 0), "s1");
        assert_true(world_offer(w, &asks[i], &place));
        world_round(w);
    }
    assert_int_equal(stats_of(0).limbo_entries, LIMBO_ENTRIES_MAX);
    w->now_ms += 1000;
    for (int round = 0; round < 20; round++, w->mono_ms += 5) {
        int64_t next_ms = 0;
        if (shard_work(w->shards[0], w->now_ms, w->mono_ms, &next_ms) > 0) continue;
        assert_true(next_ms >= w->mono_ms + 5);
    }
    assert_int_equal(stats_of(0).timers_fired, 0);
    world_run(w, 3000);
    assert_int_equal(stats_of(0).timers_fired, 1);
    for (int i = 0; i <= LIMBO_ENTRIES_MAX; i++) assert_int_equal(asks[i].result.code, RESULT_OK);
}

static void test_a_deadline_that_has_passed_wants_no_retry(void **state) {
    (void)state;
    struct world *w = &world;
    static struct ask late;
    struct command place = world_place(w, world_key(w, 0), "s1");
    assert_true(world_offer(w, &late, &place));
    late.request.deadline_ms = w->now_ms - 1;
    world_run(w, 50);
    assert_true(late.answered);
    assert_int_equal(late.result.code, RESULT_DEADLINE_PASSED);
    assert_int_equal(late.result.retry_after_ms, 0);
}

/* What waits for room may become durable yet: its repeat is not told that nothing was changed, and
 * no read shows it or waits for it. */
static void test_a_repeat_of_what_waits_for_room_is_not_refused(void **state) {
    (void)state;
    struct world *w = &world;
    struct command done = world_place(w, world_key(w, 0), "s1");
    assert_int_equal(world_ask(w, &done).code, RESULT_OK);
    storage_memory_set_full(w->disks[0], true);
    struct ask first, again;
    struct command place = world_place(w, world_key(w, 0), "s1");
    assert_true(world_offer(w, &first, &place));
    world_run(w, 300);
    assert_true(stats_of(0).disk_full);
    assert_true(world_offer(w, &again, &place));
    world_run(w, 300);
    assert_false(first.answered);
    assert_false(again.answered);
    struct result repeated = world_ask(w, &done);
    assert_int_equal(repeated.code, RESULT_OK);
    assert_true(repeated.flags & RESULT_FLAG_REPEATED);
    struct command other = world_command(w, COMMAND_CANCEL, place.subject);
    assert_int_equal(world_ask(w, &other).code, RESULT_DISK_FULL);
    struct command reused = world_command(w, COMMAND_CANCEL, place.subject);
    reused.id = place.id;
    assert_int_equal(world_ask(w, &reused).code, RESULT_DISK_FULL);
    struct command get = world_command(w, COMMAND_GET, place.subject);
    struct result read = world_ask(w, &get);
    assert_int_equal(read.code, RESULT_DISK_FULL);
    assert_true(read.retry_after_ms > 0);
    storage_memory_set_full(w->disks[0], false);
    world_run(w, 500);
    assert_true(first.answered && again.answered);
    assert_int_equal(first.result.code, RESULT_OK);
    assert_int_equal(again.result.code, RESULT_OK);
    assert_true(again.result.flags & RESULT_FLAG_REPEATED);
    assert_int_equal(again.result.version, first.result.version);
    assert_int_equal(world_ask(w, &get).code, RESULT_OK);
    struct ask late;
    shard_drain(w->shards[0]);
    assert_true(world_offer(w, &late, &place));
    world_run(w, 50);
    assert_true(late.answered);
    assert_int_equal(late.result.code, RESULT_OK);
    assert_true(late.result.flags & RESULT_FLAG_REPEATED);
    struct command fresh = world_place(w, world_key(w, 0), "s1");
    assert_int_equal(world_ask(w, &fresh).code, RESULT_SHUTTING_DOWN);
}

/* A block that was made for what is refused would stand for a store that there never was: the shard
 * would count it, and never be empty. */
static void test_what_lacked_memory_leaves_no_store(void **state) {
    (void)state;
    struct world *w = &world;
    uint32_t failed = 0;
    for (uint64_t nth = 1; nth <= 12; nth++) {
        char store[16];
        world_store(w, 0, store);
        struct command first = world_place(w, world_key(w, 0), store);
        if (nth % 2 == 0) first = world_store_command(w, COMMAND_STORE_PAUSE, store);
        const uint64_t *count = w->shards[0]->table.count;
        uint64_t before[] = {count[ACTOR_ORDER], count[ACTOR_STORE], count[ACTOR_BOARD]};
        w->shards[0]->memory.fail_countdown = 1 + nth / 2;
        struct result r = world_ask(w, &first);
        w->shards[0]->memory.fail_countdown = 0;
        if (r.code != RESULT_OUT_OF_MEMORY) continue;
        failed++;
        assert_int_equal(count[ACTOR_ORDER], before[0]);
        assert_int_equal(count[ACTOR_STORE], before[1]);
        assert_int_equal(count[ACTOR_BOARD], before[2]);
        assert_int_equal(world_ask(w, &first).code, RESULT_OK);
    }
    assert_true(failed >= 2);
}

/* However many commands wait: otherwise a pause would not be noted for as long as the load lasts,
 * and in the end the shards that send would stop. */
static void test_a_full_mailbox_does_not_keep_news_out(void **state) {
    (void)state;
    struct world *w = &world;
    enum { ASKS = 8, COMMANDS = 1024 };
    static struct ask asks[ASKS];
    static struct command reads[ASKS][COMMANDS];
    static struct result results[ASKS][COMMANDS];
    static struct ask paused;
    char store[16];
    for (int a = 0; a < ASKS; a++) {
        for (int i = 0; i < COMMANDS; i++)
            reads[a][i] = world_command(w, COMMAND_GET, world_key(w, 0));
        asks[a].answered = true;
    }
    world_store(w, 1, store);
    struct command pause = world_store_command(w, COMMAND_STORE_PAUSE, store);
    assert_true(world_offer(w, &paused, &pause));
    for (int round = 0; round < 1000; round++) {
        for (int a = 0; a < ASKS; a++) {
            if (asks[a].answered)
                assert_true(world_offer_message(w, &asks[a], reads[a], results[a], COMMANDS));
        }
        world_round(w);
        w->mono_ms++;
        w->now_ms++;
    }
    assert_true(paused.answered);
    assert_true(shard_store_is_paused(w->shards[0], bytes_of_text(store)));
    world_run(w, 100);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_damaged_deadlines_fail_the_shard),
        T(test_a_full_limbo_lets_the_thread_sleep),
        T(test_a_deadline_that_has_passed_wants_no_retry),
        T(test_a_repeat_of_what_waits_for_room_is_not_refused),
        T(test_what_lacked_memory_leaves_no_store),
        T(test_a_full_mailbox_does_not_keep_news_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
