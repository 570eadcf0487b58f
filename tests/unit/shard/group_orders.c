#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/shard/group_orders.h"

struct result orders_place(struct group_world *w, struct group_orders *o, uint32_t shard,
                           const char *store) {
    struct command c = world_place(&w->names, world_key(&w->names, shard), store);
    struct result r = group_ask(w, &c);
    assert_int_equal(r.code, RESULT_OK);
    assert_true(o->count < GROUP_ORDERS_MAX);
    o->keys[o->count] = c.subject;
    o->versions[o->count++] = r.version;
    return r;
}

void orders_place_some(struct group_world *w, struct group_orders *o, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) orders_place(w, o, i % GROUP_SHARDS, i % 3 ? "s1" : "s2");
}

void orders_change(struct group_world *w, struct group_orders *o, uint32_t n) {
    struct command c = world_command(&w->names, COMMAND_ANNOTATE, o->keys[n]);
    c.annotate.note = bytes_of_text("late");
    struct result r = group_ask(w, &c);
    assert_int_equal(r.code, RESULT_OK);
    assert_int_equal(r.version, o->versions[n] + 1);
    o->versions[n] = r.version;
}

void orders_assert(struct group_world *w, const struct group_orders *o) {
    for (uint32_t n = 0; n < o->count; n++) {
        struct command get = world_command(&w->names, COMMAND_GET, o->keys[n]);
        struct result r = group_ask(w, &get);
        assert_int_equal(r.code, RESULT_OK);
        assert_int_equal(r.version, o->versions[n]);
    }
}

/* The network overtakes, so that what was lost comes piece by piece. */
static void await_outboxes(struct group_world *w) {
    for (int i = 0; i < 120; i++) {
        uint64_t waiting = 0;
        group_run(w, 1000);
        for (uint32_t s = 0; s < GROUP_SHARDS; s++)
            waiting += group_shard(w, group_await_leader(w, s), s)->outbox.messages_waiting;
        if (waiting == 0) return;
    }
    fail_msg("messages between the shards do not arrive");
}

void orders_assert_stores(struct group_world *w, const struct group_orders *o) {
    uint64_t placed = 0;
    await_outboxes(w);
    for (uint32_t s = 0; s < GROUP_SHARDS; s++) {
        const char *what = group_difference(w, s);
        if (what) print_message("shard %u differs in %s\n", s, what);
        assert_null(what);
        struct shard *leader = group_shard(w, group_await_leader(w, s), s);
        for (uint32_t n = 1; n < leader->table.slots_used; n++) {
            const struct actor *a = shard_actor(leader, n);
            if (!a || a->kind != ACTOR_STORE) continue;
            struct store_view view;
            store_view(a, &view);
            placed += view.placed_orders;
        }
    }
    assert_int_equal(placed, o->count);
}
