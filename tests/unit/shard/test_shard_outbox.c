/* A shard whose messages another one does not take. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "actors/message_event.h"
#include "tests/unit/shard/served_world.h"

static void test_an_outbox_that_is_not_emptied_refuses_commands_not_reads(void **state) {
    (void)state;
    struct world *w = &world;
    char store[16];
    world_store(w, 1, store);
    w->courier_is_down = true;
    struct command place = world_place(w, world_key(w, 0), store);
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    struct command get = {.kind = COMMAND_GET, .subject = place.subject};
    uint64_t *counts[] = {&w->shards[0]->outbox.unstored_bytes, &w->shards[0]->outbox.unstored};
    uint64_t most[] = {OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX};
    for (int i = 0; i < 2; i++) {
        *counts[i] += most[i];
        struct command next = world_place(w, world_key(w, 0), store);
        struct result refused = world_ask(w, &next);
        assert_int_equal(refused.code, RESULT_OVERLOADED);
        assert_true(refused.retry_after_ms > 0);
        assert_int_equal(world_ask(w, &get).code, RESULT_OK);
        struct result again = world_ask(w, &place); /* one that was acted on */
        assert_int_equal(again.code, RESULT_OK);
        assert_int_equal(again.flags, RESULT_FLAG_REPEATED);
        *counts[i] -= most[i];
        assert_int_equal(world_ask(w, &next).code, RESULT_OK);
    }
    w->courier_is_down = false;
    world_run(w, 2000);
    assert_int_equal(w->shards[0]->outbox.messages_waiting, 0);
    assert_int_equal(w->shards[0]->outbox.unstored_bytes, 0);
    assert_int_equal(world_open_orders(w, store), 3);
}

static uint64_t outbox_in_memory(const struct shard *s) {
    return s->outbox.peers[1].front.count + s->outbox.peers[1].behind.count;
}

/* One partner is gone for long: nobody is refused for it, and what it is owed waits on the disk. */
static void test_a_shard_that_takes_nothing_stops_no_orders_of_others(void **state) {
    (void)state;
    struct world *w = &world;
    enum { PLACED = 4000, ROOM = 3000 };
    char store[16];
    world_store(w, 1, store);
    w->courier_is_down = true;
    w->shards[0]->outbox.unstored += OUTBOX_MESSAGES_MAX - ROOM; /* the others take long to place */
    for (uint32_t i = 0; i < PLACED; i++) {
        struct command place = world_place(w, world_key(w, 0), store);
        assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    }
    world_run(w, 50);
    assert_true(outbox_in_memory(w->shards[0]) <= OUTBOX_WINDOW_MESSAGES);
    assert_int_equal(w->shards[0]->outbox.messages_waiting, PLACED);
    world_crash(w);
    world_start(w);
    world_run(w, 100);
    assert_int_equal(w->shards[0]->outbox.messages_waiting, PLACED);
    assert_true(outbox_in_memory(w->shards[0]) <= OUTBOX_WINDOW_MESSAGES);
    w->courier_is_down = false;
    for (int i = 0; i < 200 && w->shards[0]->outbox.messages_waiting > 0; i++) world_run(w, 1000);
    assert_int_equal(world_open_orders(w, store), PLACED);
}

/* As if so many had been stored and were acknowledged by now. */
static struct outbox_peer *leave_many(struct world *w, uint64_t count) {
    struct outbox *o = &w->shards[0]->outbox;
    struct outbox_peer *peer = &o->peers[1];
    world_run(w, 10000); /* all is stored */
    assert_true(shard_checkpoint_is_clean(w->shards[0]));
    peer->stored_first = 1;
    peer->stored_last = peer->sequence_last = peer->acknowledged = peer->sent = count;
    o->acknowledged += count;
    return peer;
}

/* More than one checkpoint removes at a time, and nothing else that would ask for another one. */
static void test_what_a_long_outage_has_left_is_removed_to_the_end(void **state) {
    (void)state;
    struct world *w = &world;
    const struct outbox_peer *peer = leave_many(w, 40000);
    uint64_t before = storage_memory_counters(w->disks[0]).checkpoints;
    world_run(w, 10000);
    assert_int_equal(peer->stored_first, 0);
    uint64_t made = storage_memory_counters(w->disks[0]).checkpoints - before;
    assert_true(made >= 3 && made <= 4); /* at most 16,384 each; and then it rests */
}

/* The next process goes on with it. */
static void test_a_stop_does_not_wait_for_what_nobody_needs(void **state) {
    (void)state;
    struct world *w = &world;
    const struct outbox_peer *peer = leave_many(w, 2000000);
    world_run(w, 20);
    shard_drain(w->shards[0]);
    for (int i = 0; i < 100 && !shard_is_drained(w->shards[0]); i++) world_run(w, 1);
    assert_true(shard_is_drained(w->shards[0]));
    assert_true(peer->stored_first > 0);
}

static void test_many_that_are_not_stored_bring_a_checkpoint(void **state) {
    (void)state;
    struct world *w = &world;
    char store[16];
    struct outbox *o = &w->shards[0]->outbox;
    struct outbox_peer *peer = &o->peers[1];
    uint64_t *counts[] = {&o->unstored_bytes, &o->unstored};
    uint64_t most[] = {OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX};
    world_store(w, 1, store);
    w->courier_is_down = true;
    for (int i = 0; i < 2; i++) {
        struct command place = world_place(w, world_key(w, 0), store);
        assert_int_equal(world_ask(w, &place).code, RESULT_OK);
        world_run(w, 20);
        assert_true(peer->stored_last < peer->sequence_last);
        *counts[i] += most[i] / 8;
        world_run(w, 20);
        assert_int_equal(peer->stored_last, peer->sequence_last);
        *counts[i] -= most[i] / 8;
        assert_int_equal(*counts[i], 0);
        world_run(w, 10000);
    }
}

enum { PLACED_FEW = 10 };

/* A courier that takes nothing, a window of one message, and some that wait. */
static void place_few(struct world *w, char store[16]) {
    world_crash(w);
    w->options.outbox_window = 1;
    world_start(w);
    world_run(w, 50);
    world_store(w, 1, store);
    w->courier_is_down = true;
    for (uint32_t i = 0; i < PLACED_FEW; i++) {
        struct command place = world_place(w, world_key(w, 0), store);
        assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    }
}

static void test_what_no_disk_has_room_for_stays_in_memory(void **state) {
    (void)state;
    struct world *w = &world;
    char store[16];
    place_few(w, store);
    storage_memory_set_full(w->disks[0], true);
    world_run(w, 10000);
    assert_int_equal(outbox_in_memory(w->shards[0]), PLACED_FEW);
    w->courier_is_down = false;
    world_run(w, 10000);
    assert_int_equal(world_open_orders(w, store), PLACED_FEW);
}

/* What comes behind it would never be taken, and an order less be counted. */
static void lose_one_that_is_away(struct world *w, bool damaged) {
    enum { LOST = 5 };
    char store[16];
    place_few(w, store);
    world_run(w, 10000);
    assert_int_equal(outbox_in_memory(w->shards[0]), 1);
    struct id128 key = stored_message_key(1, LOST);
    if (damaged) {
        storage_memory_corrupt_actor(w->disks[0], ACTOR_MESSAGE, &key);
    } else {
        w->shards[0]->outbox.peers[1].away_last++; /* which no state has */
        w->shards[0]->outbox.messages_waiting++;
    }
    w->courier_is_down = false;
    world_run(w, 10000);
    assert_true(w->shards[0]->failed);
    assert_int_equal(world_open_orders(w, store), damaged ? LOST - 1 : PLACED_FEW);
}

static void test_a_message_that_cannot_be_loaded_fails_its_shard(void **state) {
    (void)state;
    lose_one_that_is_away(&world, true);
}

static void test_a_message_that_is_not_there_fails_its_shard(void **state) {
    (void)state;
    lose_one_that_is_away(&world, false);
}

/* Two stores in one message, and memory for one of them. */
static void test_a_message_without_memory_leaves_no_stores(void **state) {
    (void)state;
    struct world *w = &world;
    static struct ask ask;
    static struct command places[2];
    static struct result results[2];
    static char stores[2][16];
    struct shard *to = w->shards[1];
    w->courier_is_down = true;
    for (int i = 0; i < 2; i++) {
        world_store(w, 1, stores[i]);
        places[i] = world_place(w, world_key(w, 0), stores[i]);
    }
    assert_true(world_offer_message(w, &ask, places, results, 2));
    world_run(w, 100);
    assert_true(ask.answered);
    w->courier_is_down = false;
    bool lacked = false;
    for (uint64_t nth = 1; to->outbox.peers[0].seen == 0; nth++) {
        assert_true(nth < 20);
        to->memory.fail_countdown = nth;
        world_run(w, 1200); /* it is sent again each second */
        if (to->outbox.peers[0].seen == 0) {
            lacked = true;
            assert_int_equal(to->table.count[ACTOR_STORE], 0);
        }
    }
    to->memory.fail_countdown = 0;
    assert_true(lacked);
    assert_int_equal(world_open_orders(w, stores[0]), 1);
    assert_int_equal(world_open_orders(w, stores[1]), 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_an_outbox_that_is_not_emptied_refuses_commands_not_reads),
        T(test_a_shard_that_takes_nothing_stops_no_orders_of_others),
        T(test_what_a_long_outage_has_left_is_removed_to_the_end),
        T(test_a_stop_does_not_wait_for_what_nobody_needs),
        T(test_many_that_are_not_stored_bring_a_checkpoint),
        T(test_what_no_disk_has_room_for_stays_in_memory),
        T(test_a_message_that_cannot_be_loaded_fails_its_shard),
        T(test_a_message_that_is_not_there_fails_its_shard),
        T(test_a_message_without_memory_leaves_no_stores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
