/* Growth of groups of replicas, under work and with everything going wrong: from one shard to two
 * to four, and back. Stores move with their counts and pauses; nothing is lost or doubled. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "actors/cluster/cluster.h"
#include "engine/base/prng.h"
#include "tests/unit/shard/group_fold.h"
#include "tests/unit/shard/group_world.h"

enum { STORES = 40, ORDERS_MAX = 2000, KEY_AHEAD_MS = 60000 };

static const struct group_setup calm = {
    .shards = 1, .disk = {.seed = 31, .append_ms_max = 3, .checkpoint_ms_max = 5, .load_ms_max = 2},
    .network = {.seed = 3, .latency_ms_max = 2}};
static const struct group_setup rough = {
    .shards = 1, .disk = {.seed = 32, .append_ms_max = 6, .checkpoint_ms_max = 9, .load_ms_max = 4},
    .network = {.seed = 4, .loss = 500, .doubled = 300, .late = 300, .latency_ms_max = 4,
                .late_ms_max = 60},
    .checkpoint_age_ms = 200};

static struct group_world world;
static struct prng prng;

/* What must be true of the stores, by the answers alone. */
static struct {
    char id[16];
    int64_t open;
    uint64_t placed;
    bool paused, switched;
    uint32_t version;            /* of the newest answer about it */
} stores[STORES];
static struct {
    struct id128 key;
    uint32_t store;
    bool ended;
} orders[ORDERS_MAX];
static uint32_t orders_count;

static void open_world(const struct group_setup *setup, uint64_t seed) {
    prng_seed(&prng, seed);
    memset(stores, 0, sizeof stores);
    orders_count = 0;
    for (uint32_t i = 0; i < STORES; i++) snprintf(stores[i].id, sizeof stores[i].id, "s%u", i);
    group_open(&world, setup);
}

static struct id128 make_key(int64_t birth_ms) {
    struct id128 key = world_id(&world.names);
    for (int i = 0; i < 6; i++) key.bytes[i] = (uint8_t)(birth_ms >> (40 - 8 * i));
    for (int i = 6; i < 16; i++) key.bytes[i] = (uint8_t)prng_next(&prng);
    return key;
}

static void place(uint32_t store, int64_t ahead_ms) {
    struct group_world *w = &world;
    struct command c = world_place(&w->names, make_key(w->now_ms + ahead_ms), stores[store].id);
    struct result r = group_ask(w, &c);
    /* Other shards hear of a pause, and of its end, a moment later. */
    for (int i = 0; i < 100 && r.code == RESULT_STORE_PAUSED && !stores[store].paused; i++) {
        group_run(w, 100);
        r = group_ask(w, &c);
    }
    if (r.code == RESULT_STORE_PAUSED) {
        assert_true(stores[store].paused);
        return;
    }
    assert_int_equal(r.code, RESULT_OK);
    assert_true(orders_count < ORDERS_MAX);
    orders[orders_count].key = c.subject;
    orders[orders_count++].store = store;
    orders[orders_count - 1].ended = false;
    stores[store].open++;
    stores[store].placed++;
}

static void end_one(void) {
    if (orders_count == 0) return;
    uint32_t n = (uint32_t)prng_below(&prng, orders_count);
    if (orders[n].ended) return;
    struct command c = world_command(&world.names, COMMAND_CANCEL, orders[n].key);
    c.cancel = (struct command_cancel){.by = PARTY_CUSTOMER, .reason = bytes_of_text("no")};
    assert_int_equal(group_ask(&world, &c).code, RESULT_OK);
    orders[n].ended = true;
    stores[orders[n].store].open--;
}

static void switch_store(uint32_t n) {
    uint8_t kind = stores[n].paused ? COMMAND_STORE_RESUME : COMMAND_STORE_PAUSE;
    struct command c = world_store_command(&world.names, kind, stores[n].id);
    struct result r = group_ask(&world, &c);
    assert_int_equal(r.code, RESULT_OK);
    assert_true(r.version > stores[n].version);
    stores[n].version = r.version;
    stores[n].paused = !stores[n].paused;
    stores[n].switched = true;
    struct result again = group_ask(&world, &c); /* wherever it lives by now */
    assert_int_equal(again.code, RESULT_OK);
    assert_int_equal(again.flags, RESULT_FLAG_REPEATED);
    assert_int_equal(again.version, r.version);
}

static void work(uint32_t rounds) {
    for (uint32_t i = 0; i < rounds; i++) {
        place((uint32_t)prng_below(&prng, STORES), (int64_t)prng_below(&prng, KEY_AHEAD_MS));
        if (prng_chance(&prng, 1, 2)) end_one();
        if (prng_chance(&prng, 1, 4)) switch_store((uint32_t)prng_below(&prng, STORES));
    }
}

static void tell_all(void) {
    for (uint32_t n = 0; n < world.nodes; n++)
        if (world.up[n]) group_tell(&world, n);
}

static bool all_quiet(void) {
    for (uint32_t s = 0; s < world.shards; s++) {
        if (!(world.view.active[0] >> s & 1)) continue;
        const struct shard *leader = group_shard(&world, group_await_leader(&world, s), s);
        const struct growth *g = &leader->growth;
        if (leader->outbox.messages_waiting || !g->settled || g->needs_boards || g->needs_stores ||
            g->boards_awaited + g->stores_awaited + g->boards_owed + g->stores_owed > 0)
            return false;
    }
    return true;
}

static void await_quiet(void) {
    for (int i = 0; i < 200; i++) {
        group_run(&world, 500);
        if (all_quiet()) return;
    }
    fail_msg("stores are on their way for ever");
}

/* Each store lives at its home and nowhere else, with all that happened to it; each board says what
 * is true. */
static void assert_stores(void) {
    await_quiet();
    for (uint32_t s = 0; s < world.shards; s++) {
        if (!(world.view.active[0] >> s & 1)) continue;
        const char *what = group_difference(&world, s);
        if (what) print_message("shard %u differs in %s\n", s, what);
        assert_null(what);
        struct shard *leader = group_shard(&world, group_await_leader(&world, s), s);
        what = group_fold_difference(leader);
        if (what) print_message("shard %u: its log tells otherwise: %s\n", s, what);
        assert_null(what);
        for (uint32_t i = 0; i < STORES; i++) {
            struct bytes id = bytes_of_text(stores[i].id);
            bool home = routing_shard_of_store(world.view.stores_shards, id) == s;
            assert_int_equal(shard_store_is_paused(leader, id), stores[i].paused);
            struct id128 key = store_key(id, false);
            const struct actor *a =
                shard_actor(leader, actor_table_find(&leader->table, ACTOR_STORE, &key));
            if (a && a->flags & ACTOR_RETIRED) a = NULL;
            bool known = stores[i].placed > 0 || stores[i].switched;
            assert_int_equal(a != NULL, home && known);
            if (!a) continue;
            struct store_view view;
            store_view(a, &view);
            assert_int_equal(view.open_orders, stores[i].open);
            assert_int_equal(view.placed_orders, stores[i].placed);
            assert_int_equal(view.paused, stores[i].paused);
        }
    }
}

static void grow(uint32_t shards) {
    group_grow(&world, shards, world.now_ms + KEY_AHEAD_MS + 10);
    tell_all();
}

static void test_stores_move_with_all_they_have(void **state) {
    (void)state;
    open_world(&calm, 1);
    work(60);
    assert_stores();
    grow(2);
    work(60);
    assert_stores();
    group_run(&world, KEY_AHEAD_MS + 20);
    work(40);
    group_move_stores(&world);
    tell_all();
    work(60);
    assert_stores();
    grow(4);
    group_move_stores(&world);
    tell_all();
    work(100);
    group_run(&world, KEY_AHEAD_MS + 20);
    work(60);
    assert_stores();
    struct shard_stats stats;
    uint64_t moved = 0, came = 0;
    for (uint32_t s = 0; s < 4; s++) {
        shard_stats(group_shard(&world, group_await_leader(&world, s), s), &stats);
        moved += stats.stores_moved;
        came += stats.stores_came;
        assert_false(stats.empty || stats.moving);
        assert_true(stats.orders_by_state[ORDER_PLACED] > 0); /* new orders go everywhere */
    }
    assert_true(moved > 0 && moved == came);
    group_close(&world);
}

/* An order that is not placed yet has no store. One without a name would be made room for, and the
 * shard never be empty again. */
static void test_what_overtakes_a_place_makes_no_store(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm, 9);
    struct shard *leader = group_shard(w, group_await_leader(w, 0), 0);
    struct id128 key = make_key(w->now_ms);
    for (int i = 0; i < 2; i++) {
        struct command c = world_command(&w->names, COMMAND_CANCEL, key);
        c.cancel = (struct command_cancel){.by = PARTY_CUSTOMER, .reason = bytes_of_text("no")};
        group_ask(w, &c);
    }
    assert_true(leader->growth.spread.version != 0);
    const struct actor *a =
        shard_actor(leader, actor_table_find(&leader->table, ACTOR_ORDER, &key));
    assert_non_null(a);
    assert_int_equal(a->state, ORDER_AWAITED);
    assert_int_equal(leader->table.count[ACTOR_STORE], 0);
    struct command c = world_place(&w->names, key, stores[0].id);
    assert_int_equal(group_ask(w, &c).code, RESULT_OK);
    assert_int_equal(leader->table.count[ACTOR_STORE], 1);
    group_close(w);
}

/* What is left of a cluster is formed into another one: its document begins at version 1, and the
 * shards' logs have gone by higher ones. */
static void test_a_cluster_formed_anew_grows(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm, 8);
    work(40);
    for (uint32_t shards = 2; shards <= 3; shards++) {
        grow(shards);
        group_run(w, KEY_AHEAD_MS + 20);
        group_move_stores(w);
        tell_all();
        work(40);
        assert_stores();
    }
    for (uint32_t n = 0; n < w->nodes; n++) group_crash_node(w, n);
    uint64_t before = w->view.version;
    w->view.version = cluster_view_version(1, 1);
    for (uint32_t n = 0; n < w->nodes; n++) group_start_node(w, n);
    assert_stores();
    grow(4);
    group_run(w, KEY_AHEAD_MS + 20);
    group_move_stores(w);
    tell_all();
    assert_true((uint32_t)w->view.version < before);
    work(60);
    assert_stores();
    for (uint32_t s = 0; s < 4; s++) {
        const struct shard *leader = group_shard(w, group_await_leader(w, s), s);
        assert_int_equal(leader->growth.spread.shards, 4);
        assert_int_equal(leader->growth.version >> 32, 1);
    }
    group_close(w);
}

/* A new shard does not place orders before it knows what is paused. */
static void test_a_new_shard_knows_the_paused_stores(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm, 2);
    for (uint32_t i = 0; i < STORES; i += 2) switch_store(i);
    group_grow(w, 2, w->now_ms + 1);
    tell_all();
    group_await_leader(w, 1);
    for (uint32_t i = 0; i < STORES; i++) {
        struct command c;
        do {
            c = world_place(&w->names, make_key(w->now_ms + 2), stores[i].id);
        } while (group_shard_of(w, &c) != 1);
        assert_int_equal(group_ask(w, &c).code, i % 2 ? RESULT_OK : RESULT_STORE_PAUSED);
        if (i % 2 == 0) continue;
        stores[i].open++;
        stores[i].placed++;
    }
    assert_stores();
    group_close(w);
}

static void tell_shard(uint32_t shard, const struct shard_view *view) {
    for (uint32_t n = 0; n < world.nodes; n++)
        shard_know(world.replicas[n][shard].shard, view);
}

/* Shard 0 hears of a spread from another shard, before it is told that there are others: a new one
 * that asks before that, or after it by an older document, is told of later pauses. */
static void hear_first(uint32_t asker, bool asks_late) {
    struct group_world *w = &world;
    open_world(&calm, 5);
    struct shard_view old = w->view;
    group_grow(w, 3, w->now_ms + 1);
    struct shard_view grown = w->view, moved = w->view;
    moved.version++;
    moved.stores_shards = 3;
    w->view = old; /* what the nodes tell from now on: who runs, and nobody is told of it */
    w->view.active[0] = (uint8_t)(grown.active[0] & ~(asks_late ? 1u << asker : 0u));
    tell_all();
    if (!asks_late) tell_shard(asker, &grown);
    group_run(w, asks_late ? 0 : 2000);
    group_await_leader(w, 3 - asker);
    tell_shard(3 - asker, &moved);
    group_run(w, 500);
    w->view.active[0] = grown.active[0];
    if (asks_late) tell_all();
    if (asks_late) tell_shard(asker, &grown);
    group_await_leader(w, asker);
    group_run(w, 500);
    const struct shard *leader = group_shard(w, group_await_leader(w, 0), 0);
    assert_int_equal(leader->growth.version, moved.version);
    assert_int_equal(leader->view.version, old.version);
    assert_int_equal(leader->outbox.peers[asker].boards_asked, grown.version);
    uint32_t n = 0;
    while (routing_shard_of_store(3, bytes_of_text(stores[n].id)) != 0) n++;
    switch_store(n);
    group_run(w, 500);
    leader = group_shard(w, group_await_leader(w, asker), asker);
    assert_true(shard_store_is_paused(leader, bytes_of_text(stores[n].id)));
    w->view = moved;
    tell_all();
    assert_stores();
    group_close(w);
}

static void test_who_has_asked_hears_of_pauses(void **state) {
    (void)state;
    hear_first(2, false);
    hear_first(2, true);
    hear_first(1, false);
}

/* A shard that has heard of a newer spread than it was told of, and then is told of a growth that
 * is older than that: it does not know whether it has to ask for pauses, and does not place. */
static void test_a_shard_that_heard_too_much_waits_to_be_told(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm, 6);
    group_grow(w, 2, w->now_ms + 100000); /* it runs, and the growth is called off */
    tell_all();
    group_await_leader(w, 1);
    w->view.epochs_count--;
    w->view.version++;
    tell_all();
    group_run(w, 2000);
    struct shard_view told = w->view, grown = w->view;
    grown.version++;
    grown.epochs[grown.epochs_count++] = (struct routing_epoch){w->now_ms + 1, 2};
    struct shard *leader = group_shard(w, group_await_leader(w, 1), 1);
    assert_int_equal(leader->growth.joined_ms, 0);
    leader->growth.heard = (struct store_spread){.version = grown.version + 1, .shards = 2};
    group_run(w, 200);
    assert_int_equal(leader->growth.version, grown.version + 1);
    tell_shard(1, &grown);
    group_run(w, 200);
    struct command c;
    struct ask ask;
    w->view = grown;
    do {
        c = world_place(&w->names, make_key(w->now_ms + 2), "s1");
    } while (group_shard_of(w, &c) != 1);
    assert_true(group_offer(w, group_await_leader(w, 1), &ask, &c));
    w->view = told;
    group_run(w, 20);
    assert_true(ask.answered);
    assert_int_equal(ask.result.code, RESULT_NOT_READY);
    w->view = grown;
    group_move_stores(w);
    tell_all();
    assert_int_equal(group_ask(w, &c).code, RESULT_OK);
    leader = group_shard(w, group_await_leader(w, 1), 1);
    assert_int_equal(leader->growth.joined_ms, grown.epochs[grown.epochs_count - 1].from_ms);
    group_close(w);
}

/* A node that has not heard of the new epoch sends keys to the wrong shard: they are not placed
 * there. */
static void test_a_key_of_another_shard_is_not_decided(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm, 3);
    grow(2);
    group_await_leader(w, 1);
    group_run(w, 100);
    struct command c;
    do {
        c = world_place(&w->names, make_key(w->now_ms + KEY_AHEAD_MS + 20), "s1");
    } while (group_shard_of(w, &c) != 1);
    struct ask ask;
    struct group_world before = {.view = w->view};
    w->view.epochs_count = 1; /* the node that sends it */
    assert_int_equal(group_shard_of(w, &c), 0);
    assert_true(group_offer(w, group_await_leader(w, 0), &ask, &c));
    w->view = before.view;
    group_run(w, 20);
    assert_true(ask.answered);
    assert_int_equal(ask.result.code, RESULT_NOT_READY);
    assert_true(ask.result.retry_after_ms > 0);
    group_close(w);
}

/* Fewer shards again: the stores come back, and what is left empty says so. */
static void test_shards_become_empty(void **state) {
    (void)state;
    struct group_world *w = &world;
    open_world(&calm, 4);
    grow(4);
    group_move_stores(w);
    tell_all();
    work(40);
    assert_stores();
    grow(2);
    group_run(w, KEY_AHEAD_MS + 20);
    group_move_stores(w);
    tell_all();
    for (uint32_t n = 0; n < 40; n++) end_one();
    assert_stores();
    group_run(w, 10000); /* a checkpoint has deleted what moved */
    for (uint32_t s = 0; s < 4; s++) {
        struct shard *leader = group_shard(w, group_await_leader(w, s), s);
        assert_int_equal(leader->table.count[ACTOR_STORE] > 0, s < 2);
        assert_int_equal(shard_is_empty(leader), s >= 2);
        struct shard_stats stats;
        shard_stats(leader, &stats);
        assert_int_equal(stats.owed[0], 0); /* all that was sent has come */
    }
    struct shard *first = group_shard(w, group_await_leader(w, 0), 0);
    first->outbox.peers[3].front.first = (void *)first; /* one is on its way */
    first->outbox.messages_waiting++;
    struct shard_stats told;
    first->published_ms = 0;
    shard_publish(first);
    first->outbox.peers[3].front.first = NULL;
    first->outbox.messages_waiting--;
    shard_stats(first, &told);
    assert_int_equal(told.owed[0], 1u << 3);
    assert_int_equal(told.messages_waiting, 1);
    group_retire(w, 3);
    tell_all();
    work(20); /* nobody waits for it */
    assert_stores();
    /* It is needed again, and has missed what was paused meanwhile. */
    grow(4);
    group_move_stores(w);
    tell_all();
    group_run(w, KEY_AHEAD_MS + 20);
    work(60);
    assert_stores();
    group_close(w);
}

static int upset(int down) {
    struct group_world *w = &world;
    uint32_t node = (uint32_t)prng_below(&prng, w->nodes);
    if (down >= 0 && prng_chance(&prng, 1, 2)) {
        group_start_node(w, (uint32_t)down);
        return -1;
    }
    if (down >= 0) return down;
    if (prng_chance(&prng, 1, 3)) {
        group_crash_node(w, node);
        return (int)node;
    }
    if (prng_chance(&prng, 1, 3)) group_cut_node(w, node, (int64_t)prng_between(&prng, 10, 1500));
    return down;
}

static void run_rough(uint64_t seed) {
    struct group_world *w = &world;
    struct group_setup setup = rough;
    setup.disk.seed += seed * 1000;
    setup.network.seed += seed;
    setup.nodes = seed % 4 ? 3 : 5;
    if (seed % 2) setup.trailing_entries = 4;
    open_world(&setup, seed);
    int down = -1;
    for (int round = 0; round < 40; round++) {
        work(2);
        if (round == 8 || round == 20) group_grow(w, round == 8 ? 2 : 4, w->now_ms + KEY_AHEAD_MS);
        if (round == 14 || round == 23) group_move_stores(w);
        if (round == 30 && seed % 3 == 0) {
            group_grow(w, 1, w->now_ms + KEY_AHEAD_MS + 5);
            group_move_stores(w);
        }
        down = upset(down);
        if (prng_chance(&prng, 1, 3)) tell_all();
        group_run(w, (int64_t)prng_between(&prng, 0, round % 10 ? 200 : KEY_AHEAD_MS));
    }
    network_calm(w->network);
    if (down >= 0) group_start_node(w, (uint32_t)down);
    tell_all();
    assert_stores();
    work(5);
    assert_stores();
    group_close(w);
}

static uint64_t seed_first = 1, seed_last = 8;

static void test_growth_in_a_rough_world(void **state) {
    (void)state;
    for (uint64_t seed = seed_first; seed <= seed_last; seed++) {
        if (seed_first != 1) print_message("seed %u\n", (unsigned)seed);
        run_rough(seed);
    }
}

/* With two numbers: only the rough world, these seeds. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stores_move_with_all_they_have),
        cmocka_unit_test(test_what_overtakes_a_place_makes_no_store),
        cmocka_unit_test(test_a_cluster_formed_anew_grows),
        cmocka_unit_test(test_a_new_shard_knows_the_paused_stores),
        cmocka_unit_test(test_who_has_asked_hears_of_pauses),
        cmocka_unit_test(test_a_shard_that_heard_too_much_waits_to_be_told),
        cmocka_unit_test(test_a_key_of_another_shard_is_not_decided),
        cmocka_unit_test(test_shards_become_empty),
        cmocka_unit_test(test_growth_in_a_rough_world),
    };
    if (argc == 3) {
        const struct CMUnitTest one[] = {cmocka_unit_test(test_growth_in_a_rough_world)};
        seed_first = (uint64_t)atoi(argv[1]);
        seed_last = (uint64_t)atoi(argv[2]);
        return cmocka_run_group_tests(one, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
