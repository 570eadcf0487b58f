/* The shard as its clients and its disk see it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/shard/served_world.h"

static void on_answer(struct request *r) { ((struct ask *)(void *)r)->answered = true; }

static void test_an_answer_waits_for_the_disk(void **state) {
    (void)state;
    struct world *w = &world;
    struct ask ask;
    struct command place = world_place(w, world_key(w, 0), "s1");
    storage_memory_set_stuck(w->disks[0], w->mono_ms + 300);
    assert_true(world_offer(w, &ask, &place));
    world_run(w, 250);
    assert_false(ask.answered);
    struct ask read; /* what is not durable is not shown either */
    struct command get = world_command(w, COMMAND_GET, place.subject);
    assert_true(world_offer(w, &read, &get));
    world_run(w, 40);
    assert_false(read.answered);
    world_run(w, 100);
    assert_true(ask.answered && read.answered);
    assert_int_equal(ask.result.code, RESULT_OK);
    assert_int_equal(ask.result.version, 1);
    assert_int_equal(read.result.code, RESULT_OK);
    assert_int_equal(read.result.value_kind, RESULT_VALUE_ORDER);
    assert_true(storage_memory_durable_last(w->disks[0]) >= ask.result.index);
    free(read.result.value);
}

static void test_a_retry_gets_the_first_answer_also_after_a_crash(void **state) {
    (void)state;
    struct world *w = &world;
    struct command place = world_place(w, world_key(w, 1), "s1");
    struct result first = world_ask(w, &place);
    assert_int_equal(first.code, RESULT_OK);
    struct command accept = world_command(w, COMMAND_ACCEPT, place.subject);
    assert_int_equal(world_ask(w, &accept).version, 2);
    for (int round = 0; round < 3; round++) {
        struct result again = world_ask(w, &place);
        assert_int_equal(again.code, RESULT_OK);
        assert_int_equal(again.version, first.version);
        assert_int_equal(again.flags, RESULT_FLAG_REPEATED);
        if (round == 1) world_run(w, 5000); /* second crash: from the checkpoint, not the log */
        world_crash(w);
        world_start(w);
    }
    struct command get = world_command(w, COMMAND_GET, place.subject);
    assert_int_equal(world_ask(w, &get).version, 2);
}

static void end_order(struct world *w, struct id128 key) {
    static const uint8_t kinds[] = {COMMAND_ACCEPT, COMMAND_PICK_UP, COMMAND_COMPLETE};
    for (size_t i = 0; i < sizeof kinds; i++) {
        struct command c = world_command(w, kinds[i], key);
        assert_int_equal(world_ask(w, &c).code, RESULT_OK);
    }
}

static void test_closed_orders_leave_memory_and_come_back(void **state) {
    (void)state;
    struct world *w = &world;
    struct id128 keys[20];
    for (int i = 0; i < 20; i++) {
        struct command place = world_place(w, keys[i] = world_key(w, 0), "s1");
        assert_int_equal(world_ask(w, &place).code, RESULT_OK);
        end_order(w, keys[i]);
    }
    world_run(w, 6000);
    struct shard_stats stats = stats_of(0);
    assert_int_equal(stats.orders_in_memory, 0);
    assert_int_equal(stats.evictions, 20);
    assert_int_equal(stats.orders_by_state[ORDER_COMPLETED], 20);
    assert_int_equal(stats.actor_bytes > 0, stats.stores_in_memory > 0);
    struct command get = world_command(w, COMMAND_GET, keys[7]);
    struct result r = world_ask(w, &get);
    assert_int_equal(r.code, RESULT_OK);
    assert_int_equal(r.version, 4);
    /* Many at once for one order: in order, behind one load. */
    struct ask asks[5];
    for (int i = 0; i < 5; i++) {
        struct command note = world_command(w, COMMAND_ANNOTATE, keys[9]);
        note.annotate.note = bytes_of_text("late");
        assert_true(world_offer(w, &asks[i], &note));
    }
    world_run(w, 100);
    for (int i = 0; i < 5; i++) {
        assert_true(asks[i].answered);
        assert_int_equal(asks[i].result.code, RESULT_OK);
        assert_int_equal(asks[i].result.version, 5 + i);
    }
    assert_int_equal(stats_of(0).loads, 2);
    /* A key that never was, as old as the others: asked for once, and found missing. */
    struct id128 unknown = keys[3];
    unknown.bytes[15] ^= 0x55;
    struct command lost = world_command(w, COMMAND_ACCEPT, unknown);
    if (world_shard_of(&lost) == 0) {
        assert_int_equal(world_ask(w, &lost).code, RESULT_ORDER_NOT_FOUND);
    }
    assert_int_equal(stats_of(0).parked_commands, 0);
}

/* The order's snapshot is ahead of the marker: a restart replays its events and skips them all. */
static void test_a_closed_order_met_in_a_replay_leaves_memory(void **state) {
    (void)state;
    struct world *w = &world;
    world_run(w, 5000);
    struct command closed = world_place(w, world_key(w, 0), "s1");
    struct command open = world_place(w, world_key(w, 0), "s1");
    uint64_t index = world_ask(w, &closed).index;
    world_run(w, 1500);
    assert_int_equal(world_ask(w, &open).code, RESULT_OK);
    end_order(w, closed.subject);
    while (storage_memory_marker(w->disks[0]) < index) world_run(w, 1);
    world_crash(w);
    world_start(w);
    world_run(w, 20);
    assert_int_equal(w->shards[0]->table.count[ACTOR_ORDER], 2);
    world_run(w, 6000);
    assert_int_equal(stats_of(0).orders_in_memory, 1);
}

static void test_a_damaged_snapshot_fails_its_order_alone(void **state) {
    (void)state;
    struct world *w = &world;
    struct id128 keys[2];
    for (int i = 0; i < 2; i++) {
        struct command place = world_place(w, keys[i] = world_key(w, 0), "s1");
        world_ask(w, &place);
        end_order(w, keys[i]);
    }
    world_run(w, 6000);
    assert_true(storage_memory_corrupt_actor(w->disks[0], ACTOR_ORDER, &keys[0]));
    struct command get = world_command(w, COMMAND_GET, keys[0]);
    assert_int_equal(world_ask(w, &get).code, RESULT_STORAGE_FAILED);
    get.subject = keys[1];
    assert_int_equal(world_ask(w, &get).code, RESULT_OK);
}

static void test_a_damaged_log_is_named_and_not_served(void **state) {
    (void)state;
    struct world w;
    world_open(&w, &disk);
    w.options.checkpoint_age_ms = 1000000;
    world_crash(&w);
    world_start(&w);
    struct command place = world_place(&w, world_key(&w, 0), "s1");
    struct result placed = world_ask(&w, &place);
    world_crash(&w);
    assert_true(storage_memory_corrupt_record(w.disks[0], placed.index));
    char error[256] = "";
    struct shard_options options = w.options;
    options.storage = storage_memory_open(w.disks[0]);
    assert_null(shard_open(&options, w.now_ms, w.mono_ms, error, sizeof error));
    assert_non_null(strstr(error, "checksum"));
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) storage_memory_free(w.disks[s]);
}

static void test_a_full_disk_refuses_writes_and_recovers(void **state) {
    (void)state;
    struct world *w = &world;
    struct command first = world_place(w, world_key(w, 0), "s1");
    assert_int_equal(world_ask(w, &first).code, RESULT_OK);
    storage_memory_set_full(w->disks[0], true);
    struct ask caught;
    struct command place = world_place(w, world_key(w, 0), "s1");
    assert_true(world_offer(w, &caught, &place)); /* decided before anybody knows */
    world_run(w, 300);
    assert_false(caught.answered);
    struct command second = world_place(w, world_key(w, 0), "s1");
    struct result refused = world_ask(w, &second);
    assert_int_equal(refused.code, RESULT_DISK_FULL);
    assert_true(refused.retry_after_ms > 0);
    struct command get = world_command(w, COMMAND_GET, first.subject);
    assert_int_equal(world_ask(w, &get).code, RESULT_OK);
    assert_true(stats_of(0).disk_full);
    storage_memory_set_full(w->disks[0], false);
    world_run(w, 500);
    assert_true(caught.answered);
    assert_int_equal(caught.result.code, RESULT_OK);
    assert_int_equal(world_ask(w, &second).code, RESULT_OK);
}

static void test_overload_is_an_answer_and_memory_is_bounded(void **state) {
    (void)state;
    struct world *w = &world;
    enum { MANY = 3000 };
    w->options.mailbox_commands_max = 1000;
    world_crash(w);
    world_start(w);
    world_run(w, 50);
    storage_memory_set_stuck(w->disks[0], w->mono_ms + 2000);
    struct ask *asks = calloc(MANY, sizeof *asks);
    int taken = 0;
    for (int i = 0; i < MANY; i++) {
        struct command place = world_place(w, world_key(w, 0), "s1");
        if (!world_offer(w, &asks[taken], &place)) continue;
        taken++;
        world_run(w, 0);
        world_round(w); /* each in a turn of its own, as far as the limbo lets them */
    }
    struct shard_stats stats = stats_of(0);
    assert_int_equal(stats.limbo_entries, LIMBO_ENTRIES_MAX);
    assert_int_equal(stats.mailbox_commands, 1000);
    assert_int_equal(taken, 1000); /* what is decided and not answered counts as well */
    assert_int_equal(stats.overloaded, MANY - taken);
    world_run(w, 4000);
    for (int i = 0; i < taken; i++) {
        assert_true(asks[i].answered);
        assert_int_equal(asks[i].result.code, RESULT_OK);
    }
    free(asks);
}

/* A disk that is slow for long: what is taken stays what can be answered soon, however large the
 * mailbox is. A burst is let through, and afterwards everything is as before. */
static void test_lasting_load_is_admitted_by_the_rate_of_answers(void **state) {
    (void)state;
    struct world *w = &world;
    enum { BURST = 6000, MANY = 20000 };
    struct ask *asks = calloc(BURST + MANY, sizeof *asks);
    int taken = 0;
    for (int i = 0; i < BURST; i++) { /* within one moment */
        struct command place = world_place(w, world_key(w, 0), "s1");
        assert_true(world_offer(w, &asks[taken++], &place));
    }
    world_run(w, 200);
    storage_memory_set_stuck(w->disks[0], w->mono_ms + 1000);
    int taken_before = taken;
    for (int i = 0; i < MANY; i++) {
        struct command place = world_place(w, world_key(w, 0), "s1");
        if (world_offer(w, &asks[taken], &place)) taken++;
        if (i % 100 == 99) world_run(w, 1);
    }
    assert_true(taken - taken_before >= TURN_COMMANDS_MAX);
    assert_true(taken - taken_before < MANY / 2);
    world_run(w, 2000);
    for (int i = 0; i < taken; i++) {
        assert_true(asks[i].answered);
        assert_int_equal(asks[i].result.code, RESULT_OK);
    }
    struct ask *more = asks + taken;
    for (int i = 0; i < BURST; i++) {
        struct command place = world_place(w, world_key(w, 0), "s1");
        assert_true(world_offer(w, &more[i], &place));
    }
    world_run(w, 200);
    for (int i = 0; i < BURST; i++) assert_true(more[i].answered);
    free(asks);
}

static void test_deadlines_fire_once_wherever_the_order_is(void **state) {
    (void)state;
    struct world *w = &world;
    struct id128 keys[3];
    for (int i = 0; i < 3; i++) {
        struct command place = world_place(w, keys[i] = world_key(w, 0), "s1");
        place.place.payment_timing = PAYMENT_PREPAID;
        place.place.payment_timeout_ms = 40LL * 60000;
        assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    }
    world_run(w, 5000);
    w->now_ms += 20LL * 60000; /* not due yet; a restart in between must not lose it */
    world_run(w, 100);
    world_crash(w);
    world_start(w);
    world_run(w, 100);
    assert_int_equal(stats_of(0).orders_by_state[ORDER_PLACED], 3);
    w->now_ms += 21LL * 60000;
    world_run(w, 200);
    struct shard_stats stats = stats_of(0);
    assert_int_equal(stats.orders_by_state[ORDER_EXPIRED], 3);
    assert_int_equal(stats.timers_fired, 3);
    world_run(w, 5000);
    world_crash(w);
    world_start(w);
    world_run(w, 300);
    assert_int_equal(stats_of(0).timers_fired, 0);
    assert_int_equal(stats_of(0).orders_by_state[ORDER_EXPIRED], 3);
    /* Retention: the ended orders are forgotten when their time comes, from disk as well. */
    w->now_ms += KEY_PAST_MS_MAX + 1000;
    world_run(w, 8000);
    stats = stats_of(0);
    assert_int_equal(stats.orders_by_state[ORDER_EXPIRED], 0);
    assert_int_equal(stats.orders_in_memory, 0);
    struct command get = world_command(w, COMMAND_GET, keys[0]);
    assert_int_equal(world_ask(w, &get).code, RESULT_ORDER_NOT_FOUND);
}

/* Lets time pass for the disks and the machine while the wall clock stands still: all deadlines
 * that are set meanwhile fall into one millisecond. */
static void run_at_one_moment(struct world *w, int64_t ms) {
    for (int64_t i = 0; i < ms; i++) {
        world_run(w, 1);
        w->now_ms--;
    }
}

static void place_many(struct world *w, uint32_t count) {
    struct ask *asks = calloc(count, sizeof *asks);
    for (uint32_t i = 0; i < count; i++) {
        struct command place = world_place(w, world_key(w, 0), "s1");
        place.place.acceptance_timeout_ms = 60000;
        assert_true(world_offer(w, &asks[i], &place));
    }
    for (uint32_t i = 0; i < count; i++) {
        for (int ms = 0; ms < 1000 && !asks[i].answered; ms++) run_at_one_moment(w, 1);
        assert_true(asks[i].answered);
        assert_int_equal(asks[i].result.code, RESULT_OK);
    }
    free(asks);
}

static void test_any_number_of_deadlines_of_one_moment_are_found_again(void **state) {
    (void)state;
    enum { BATCHES = 17, BATCH = 2000, ORDERS = BATCHES * BATCH };
    static_assert(ORDERS > STORAGE_LOADS_MAX, "more than the storage takes at a time");
    struct world *w = &world;
    for (int batch = 0; batch < BATCHES; batch++) place_many(w, BATCH);
    run_at_one_moment(w, 4000);
    assert_true(stats_of(0).dirty_actors == 0);
    world_crash(w);
    world_start(w);
    world_run(w, 500);
    assert_int_equal(stats_of(0).orders_in_memory, ORDERS);
    w->now_ms += 60000;
    world_run(w, 500);
    assert_int_equal(stats_of(0).timers_fired, ORDERS);
    assert_null(storage_memory_fault(w->disks[0]));
}

/* An overpaid order that nobody accepts: both its deadlines fall into one millisecond. */
static void test_two_deadlines_of_one_moment_both_fire(void **state) {
    (void)state;
    struct world *w = &world;
    static struct ask asks[2];
    struct command place = world_place(w, world_key(w, 0), "s1");
    place.place.payment_timing = PAYMENT_PREPAID;
    place.place.acceptance_timeout_ms = REFUND_DEADLINE_MS;
    struct command pay = world_command(w, COMMAND_PAY, place.subject);
    pay.pay = (struct command_pay){.state = PAYMENT_CAPTURED, .amount = place.place.total + 1,
                                   .method = bytes_of_text("card"),
                                   .reference = bytes_of_text("p-1")};
    assert_true(world_offer(w, &asks[0], &place));
    assert_true(world_offer(w, &asks[1], &pay));
    world_run(w, 50);
    assert_int_equal(asks[0].result.code, RESULT_OK);
    assert_int_equal(asks[1].result.code, RESULT_OK);
    w->now_ms += REFUND_DEADLINE_MS;
    world_run(w, 50);
    struct command get = world_command(w, COMMAND_GET, place.subject);
    static struct ask read;
    assert_true(world_offer(w, &read, &get));
    world_run(w, 50);
    assert_true(read.answered);
    const struct actor *a = read.result.value;
    struct order_view view;
    order_view(a, &view);
    assert_int_equal(a->state, ORDER_EXPIRED);
    assert_int_equal(view.refunded, place.place.total + 1);
    assert_int_equal(stats_of(0).timers_fired, 2);
    free(read.result.value);
}

static void test_stores_count_orders_of_all_shards_exactly_once(void **state) {
    (void)state;
    struct world *w = &world;
    char store[16];
    world_store(w, 1, store);
    struct id128 first = {{0}};
    for (int i = 0; i < 30; i++) {
        if (i == 10) w->courier_is_down = true;  /* everything is lost for a while */
        if (i == 20) w->courier_is_down = false;
        struct command place = world_place(w, world_key(w, (uint32_t)i % 2), store);
        if (i == 0) first = place.subject;
        assert_int_equal(world_ask(w, &place).code, RESULT_OK);
        if (i == 15) { /* what was decided and not delivered survives in the log */
            world_run(w, 3000);
            world_crash(w);
            world_start(w);
        }
    }
    world_run(w, 3000);
    assert_int_equal(world_open_orders(w, store), 30);
    end_order(w, first);
    world_run(w, 3000);
    assert_int_equal(world_open_orders(w, store), 29);
    for (int i = 0; i < 2; i++) {
        world_run(w, i ? 10 : 4000);
        world_crash(w);
        world_start(w);
        world_run(w, 3000);
        assert_int_equal(world_open_orders(w, store), 29);
    }
}

static void test_a_pause_reaches_every_shard(void **state) {
    (void)state;
    struct world *w = &world;
    char store[16];
    world_store(w, 0, store);
    struct command before = world_place(w, world_key(w, 1), store);
    assert_int_equal(world_ask(w, &before).code, RESULT_OK);
    struct command pause = world_store_command(w, COMMAND_STORE_PAUSE, store);
    assert_int_equal(world_ask(w, &pause).code, RESULT_OK);
    world_run(w, 100);
    for (uint32_t shard = 0; shard < 2; shard++) {
        struct command place = world_place(w, world_key(w, shard), store);
        assert_int_equal(world_ask(w, &place).code, RESULT_STORE_PAUSED);
        assert_int_equal(stats_of(shard).paused_stores, 1);
    }
    struct command accept = world_command(w, COMMAND_ACCEPT, before.subject);
    assert_int_equal(world_ask(w, &accept).code, RESULT_OK); /* orders already placed go on */
    world_run(w, 4000);
    world_crash(w);
    world_start(w);
    world_run(w, 100);
    struct command place = world_place(w, world_key(w, 1), store);
    assert_int_equal(world_ask(w, &place).code, RESULT_STORE_PAUSED);
    struct command again = world_store_command(w, COMMAND_STORE_PAUSE, store);
    assert_int_equal(world_ask(w, &again).code, RESULT_STORE_ALREADY_PAUSED);
    struct command resume = world_store_command(w, COMMAND_STORE_RESUME, store);
    assert_int_equal(world_ask(w, &resume).code, RESULT_OK);
    world_run(w, 100);
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    assert_int_equal(stats_of(1).paused_stores, 0);
}

static void test_a_store_beyond_the_limit_stops_no_other_news(void **state) {
    (void)state;
    struct world *w = &world;
    char known[16], unknown[16];
    world_store(w, 1, known);
    world_store(w, 1, unknown);
    struct command place = world_place(w, world_key(w, 0), known);
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    world_run(w, 100);
    assert_int_equal(world_open_orders(w, known), 1);
    uint64_t *count = &w->shards[1]->table.count[ACTOR_STORE], before = *count;
    *count = STORES_PER_SHARD_MAX;
    place = world_place(w, world_key(w, 0), unknown);
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    place = world_place(w, world_key(w, 0), known);
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    struct command own = world_place(w, world_key(w, 1), unknown);
    assert_int_equal(world_ask(w, &own).code, RESULT_STORES_LIMIT_REACHED);
    world_run(w, 100);
    assert_int_equal(world_open_orders(w, known), 2);
    assert_int_equal(w->shards[0]->outbox.messages_waiting, 0);
    *count = before;
    world_crash(w);
    world_start(w);
    world_run(w, 100);
    assert_int_equal(world_open_orders(w, known), 2);
    assert_int_equal(world_open_orders(w, unknown), 0);
}

/* Each status is logged once for every shard: with the most shards that there may be, all of a
 * turn's pauses would not fit its entry. */
static void test_pauses_for_many_shards_are_spread_over_turns(void **state) {
    (void)state;
    struct world *w = &world;
    static struct ask asks[TURN_STATUS_MAX];
    static char stores[TURN_STATUS_MAX][ID_TEXT_BYTES_MAX];
    world_crash(w);
    w->options.shards_count = SHARDS_MAX;
    w->courier_is_down = true;
    world_start(w);
    world_run(w, 50);
    for (uint32_t i = 0; i < TURN_STATUS_MAX; i++) {
        memset(stores[i], 'x', sizeof stores[i]);
        memcpy(stores[i], &i, 1);
        struct command pause = world_command(w, COMMAND_STORE_PAUSE, (struct id128){{0}});
        pause.store.store = bytes_of(stores[i], sizeof stores[i]);
        pause.subject = store_key(pause.store.store, false);
        asks[i] = (struct ask){.command = pause};
        asks[i].request = (struct request){.commands = &asks[i].command, .commands_count = 1,
                                           .results = &asks[i].result, .done = on_answer};
        atomic_store(&asks[i].request.parts_left, 1);
        asks[i].part = (struct request_part){.request = &asks[i].request, .count = 1};
        uint32_t retry;
        assert_true(shard_offer(w->shards[0], &asks[i].part, &retry));
    }
    world_run(w, 1000);
    for (uint32_t i = 0; i < TURN_STATUS_MAX; i++) {
        assert_true(asks[i].answered);
        assert_int_equal(asks[i].result.code, RESULT_OK);
    }
    assert_int_equal(w->shards[0]->outbox.messages_waiting % (SHARDS_MAX - 1), 0);
    assert_true(w->shards[0]->outbox.messages_waiting > SHARDS_MAX - 1);
}

static void test_a_pause_is_not_shown_before_it_is_durable(void **state) {
    (void)state;
    struct world *w = &world;
    static struct ask pause_ask, place_ask;
    char store[16];
    world_store(w, 0, store);
    struct command pause = world_store_command(w, COMMAND_STORE_PAUSE, store);
    struct command place = world_place(w, world_key(w, 0), store);
    storage_memory_set_stuck(w->disks[0], w->mono_ms + 200);
    assert_true(world_offer(w, &pause_ask, &pause));
    world_run(w, 20);
    assert_true(world_offer(w, &place_ask, &place));
    world_run(w, 100);
    assert_false(pause_ask.answered || place_ask.answered);
    world_run(w, 200);
    assert_true(pause_ask.answered && place_ask.answered);
    assert_int_equal(place_ask.result.code, RESULT_STORE_PAUSED);
}

/* Both are answered, each without the memory that no reply could carry. */
static void test_reads_of_one_message_are_bounded_in_bytes(void **state) {
    (void)state;
    struct world *w = &world;
    enum { READS = 64 };
    static struct order_line lines[ORDER_LINES_MAX];
    static char name[LINE_NAME_BYTES_MAX];
    memset(name, 'n', sizeof name);
    for (int i = 0; i < ORDER_LINES_MAX; i++)
        lines[i] = (struct order_line){bytes_of("sku", 3), bytes_of(name, sizeof name), 1, 1};
    struct command place = world_place(w, world_key(w, 0), "s1");
    place.place.lines = lines;
    place.place.lines_count = place.place.total = ORDER_LINES_MAX;
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    uint8_t kinds[] = {COMMAND_GET, COMMAND_HISTORY};
    for (int k = 0; k < 2; k++) {
        static struct ask ask;
        static struct command commands[READS];
        static struct result results[READS];
        for (int i = 0; i < READS; i++)
            commands[i] = (struct command){.kind = kinds[k], .subject = place.subject};
        ask = (struct ask){.part = {.request = &ask.request, .count = READS}};
        ask.request = (struct request){.commands = commands, .commands_count = READS,
                                       .results = results, .done = on_answer};
        atomic_store(&ask.request.parts_left, 1);
        uint32_t retry, too_large = 0;
        assert_true(shard_offer(w->shards[0], &ask.part, &retry));
        world_run(w, 100);
        assert_true(ask.answered);
        uint64_t bytes = 0;
        for (int i = 0; i < READS; i++) {
            too_large += results[i].code == RESULT_MESSAGE_TOO_LARGE;
            bytes += results[i].value_bytes;
            free(results[i].value);
        }
        assert_int_equal(results[0].code, RESULT_OK);
        assert_int_equal(results[READS - 1].code, RESULT_MESSAGE_TOO_LARGE);
        assert_true(too_large > READS / 4);
        assert_true(bytes > MESSAGE_BYTES_MAX && bytes <= REPLY_VALUES_BYTES_MAX);
    }
}

static void test_what_overtook_its_place_is_decided_with_it(void **state) {
    (void)state;
    struct world *w = &world;
    struct command place = world_place(w, world_key(w, 0), "s1");
    struct command cancel = world_command(w, COMMAND_CANCEL, place.subject);
    cancel.cancel.by = PARTY_CUSTOMER;
    assert_int_equal(world_ask(w, &cancel).code, RESULT_HELD);
    world_crash(w);
    world_start(w);
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    assert_int_equal(stats_of(0).orders_by_state[ORDER_CANCELLED], 1);
    struct result again = world_ask(w, &cancel);
    assert_int_equal(again.code, RESULT_OK);
    assert_int_equal(again.flags, RESULT_FLAG_REPEATED);
    world_run(w, 2000);
    assert_int_equal(world_open_orders(w, "s1"), 0);
}

static void test_history_is_the_chain_of_an_order(void **state) {
    (void)state;
    struct world *w = &world;
    struct command place = world_place(w, world_key(w, 0), "s1");
    world_ask(w, &place);
    end_order(w, place.subject);
    static struct ask ask;
    for (uint32_t limit = 0; limit <= 3; limit++) {
        struct command history = world_command(w, COMMAND_HISTORY, place.subject);
        history.history.limit = limit;
        assert_true(world_offer(w, &ask, &history));
        world_run(w, 50);
        assert_true(ask.answered);
        assert_int_equal(ask.result.code, RESULT_OK);
        uint32_t at = 0, version = limit ? 4 - limit : 0;
        while (at < ask.result.value_bytes) {
            const uint8_t *item = (const uint8_t *)ask.result.value + at;
            const struct event *e = (const void *)(item + sizeof(struct history_item));
            assert_int_equal(e->version, ++version);
            assert_true(id128_equal(&e->subject, &place.subject));
            at += (uint32_t)sizeof(struct history_item) + e->bytes;
        }
        assert_int_equal(version, 4);
        free(ask.result.value);
    }
}

static void test_every_failing_allocation_is_an_answer(void **state) {
    (void)state;
    struct world *w = &world;
    uint32_t failed = 0;
    for (uint64_t nth = 1; nth <= 12; nth++) {
        struct command place = world_place(w, world_key(w, 0), "s1");
        w->shards[0]->memory.fail_countdown = nth;
        struct result r = world_ask(w, &place);
        if (r.code == RESULT_OUT_OF_MEMORY) {
            failed++;
            assert_true(r.retry_after_ms > 0);
            struct command get = world_command(w, COMMAND_GET, place.subject);
            w->shards[0]->memory.fail_countdown = 0;
            assert_int_equal(world_ask(w, &get).code, RESULT_ORDER_NOT_FOUND);
            r = world_ask(w, &place);
        }
        assert_int_equal(r.code, RESULT_OK);
        struct command get = world_command(w, COMMAND_GET, place.subject);
        w->shards[0]->memory.fail_countdown = 1;
        struct result read = world_ask(w, &get);
        assert_int_equal(read.code, RESULT_OUT_OF_MEMORY);
        w->shards[0]->memory.fail_countdown = 0;
    }
    assert_true(failed >= 1);
}

/* The place is told to come again for lack of memory: what stands behind it in the same message
 * must not be decided without it. */
static void test_nothing_of_a_message_overtakes_what_is_put_off(void **state) {
    (void)state;
    struct world *w = &world;
    struct id128 key = world_key(w, 0), other = world_key(w, 0);
    struct command commands[3] = {world_place(w, key, "s1"),
                                  world_command(w, COMMAND_CANCEL, key),
                                  world_place(w, other, "s1")};
    struct result results[3] = {0};
    static struct ask ask;
    uint32_t put_off = 0;
    for (uint64_t nth = 1; nth <= 12; nth++) {
        assert_true(world_offer_message(w, &ask, commands, results, 3));
        w->shards[0]->memory.fail_countdown = nth;
        world_run(w, 50);
        w->shards[0]->memory.fail_countdown = 0;
        assert_true(ask.answered);
        if (results[0].code == RESULT_OUT_OF_MEMORY) {
            put_off++;
            assert_int_equal(results[1].code, RESULT_OUT_OF_MEMORY);
            assert_true(results[1].retry_after_ms > 0);
            assert_int_equal(results[2].code, RESULT_OK);
        }
        for (int i = 0; i < 3; i++) commands[i].id = world_id(w);
        commands[0].subject = commands[1].subject = world_key(w, 0);
        commands[2].subject = world_key(w, 0);
    }
    assert_true(put_off >= 1);
}

/* The disk would keep what is past its retention for as long as nobody writes. */
static void test_a_quiet_log_drops_what_is_old(void **state) {
    enum { KEPT_MS = 600000 };
    (void)state;
    struct world *w = &world;
    world_close(w);
    struct storage_memory_options small = disk;
    small.segment_records = 8;
    world_open(w, &small);
    world_crash(w);
    w->options.retention_ms = KEPT_MS;
    world_start(w);
    world_run(w, 50);
    for (uint32_t i = 0; i < 20; i++) {
        struct command place = world_place(w, world_key(w, 0), "s1");
        assert_int_equal(world_ask(w, &place).code, RESULT_OK);
        end_order(w, place.subject);
    }
    world_run(w, 70000);
    struct storage_stats before, after;
    w->storages[0]->ops->stats(w->storages[0], &before);
    assert_int_equal(before.log_first, 1);
    w->now_ms += KEPT_MS;
    world_run(w, 70000);
    w->storages[0]->ops->stats(w->storages[0], &after);
    assert_int_equal(after.log_last, before.log_last); /* nobody has written */
    assert_true(after.log_first + 2 * 8 > after.log_last);
}

static void test_drain_stores_everything(void **state) {
    (void)state;
    struct world *w = &world;
    struct command place = world_place(w, world_key(w, 0), "s1");
    assert_int_equal(world_ask(w, &place).code, RESULT_OK);
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) shard_drain(w->shards[s]);
    struct command late = world_place(w, world_key(w, 0), "s1");
    assert_int_equal(world_ask(w, &late).code, RESULT_SHUTTING_DOWN);
    world_run(w, 1000);
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) assert_true(shard_is_drained(w->shards[s]));
    world_crash(w);
    world_start(w);
    world_run(w, 50);
    assert_int_equal(stats_of(0).recovery_events, 0);
    struct command get = world_command(w, COMMAND_GET, place.subject);
    assert_int_equal(world_ask(w, &get).code, RESULT_OK);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_an_answer_waits_for_the_disk),
        T(test_a_retry_gets_the_first_answer_also_after_a_crash),
        T(test_closed_orders_leave_memory_and_come_back),
        T(test_a_closed_order_met_in_a_replay_leaves_memory),
        T(test_a_damaged_snapshot_fails_its_order_alone),
        cmocka_unit_test(test_a_damaged_log_is_named_and_not_served),
        T(test_a_full_disk_refuses_writes_and_recovers),
        T(test_overload_is_an_answer_and_memory_is_bounded),
        T(test_lasting_load_is_admitted_by_the_rate_of_answers),
        T(test_deadlines_fire_once_wherever_the_order_is),
        T(test_any_number_of_deadlines_of_one_moment_are_found_again),
        T(test_two_deadlines_of_one_moment_both_fire),
        T(test_stores_count_orders_of_all_shards_exactly_once),
        T(test_a_pause_reaches_every_shard),
        T(test_a_store_beyond_the_limit_stops_no_other_news),
        T(test_pauses_for_many_shards_are_spread_over_turns),
        T(test_a_pause_is_not_shown_before_it_is_durable),
        T(test_reads_of_one_message_are_bounded_in_bytes),
        T(test_what_overtook_its_place_is_decided_with_it),
        T(test_history_is_the_chain_of_an_order),
        T(test_every_failing_allocation_is_an_answer),
        T(test_nothing_of_a_message_overtakes_what_is_put_off),
        T(test_a_quiet_log_drops_what_is_old), T(test_drain_stores_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
