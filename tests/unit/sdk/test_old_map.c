/* A client whose shard map is older than the node's: its command belongs to another shard than it
 * thinks, and what it is told of that one's leader is nothing for the rest of its lane. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "actors/result_codes.h"
#include "tests/lib/ports.h"
#include "tests/unit/sdk/fake_engine.h"

enum { ANOTHER = 1 };

struct node {
    struct fake_engine *engine;
    atomic_uint refusals;    /* so often, with the hint */
    const char *leader;
    uint32_t of_shard;       /* that the hint is about */
    atomic_uint seen;
};

static const jumun_options patient = {.timeout_ms = 120000, .attempt_timeout_ms = 120000};

static void scripted(void *arg, struct fake_message *m) {
    struct node *n = arg;
    atomic_fetch_add(&n->seen, 1);
    if (atomic_load(&n->refusals) == 0) return;
    atomic_fetch_sub(&n->refusals, 1);
    for (uint32_t i = 0; i < m->count; i++) m->codes[i] = RESULT_NOT_LEADER;
    m->leader = n->leader;
    m->shard = n->of_shard;
}

static jumun_client *open_client(const char *endpoints) {
    char error[128] = "";
    jumun_client *c = jumun_open(endpoints, &patient, error, sizeof error);
    assert_string_equal(error, "");
    return c;
}

static int ready(jumun_client *c) {
    jumun_key key = jumun_key_new();
    return jumun_mark_ready(c, &key, NULL, NULL);
}

static void start(struct node *a, struct node *b, const char *a_name, const char *b_name) {
    a->engine = fake_engine_start(a_name, 1, scripted, a);
    b->engine = fake_engine_start(b_name, 1, scripted, b);
}

static void ask_and_stop(struct node *a, struct node *b, const char *name) {
    jumun_client *c = open_client(fake_engine_address(name));
    assert_int_equal(ready(c), JUMUN_OK);
    jumun_close(c);
    fake_engine_stop(a->engine);
    fake_engine_stop(b->engine);
}

static void test_a_hint_about_another_shard_is_not_followed(void **state) {
    struct node a = {.refusals = 3, .leader = "inproc://o1b-0", .of_shard = ANOTHER}, b = {0};
    (void)state;
    start(&a, &b, "o1a", "o1b");
    ask_and_stop(&a, &b, "o1a");
    assert_int_equal(atomic_load(&a.seen), 4);
    assert_int_equal(atomic_load(&b.seen), 0);
}

static void test_a_hint_about_its_own_is(void **state) {
    struct node a = {.refusals = UINT32_MAX, .leader = "inproc://o2b-0"}, b = {0};
    (void)state;
    start(&a, &b, "o2a", "o2b");
    ask_and_stop(&a, &b, "o2a");
    assert_int_equal(atomic_load(&b.seen), 1);
}

/* "0.0.0.0" is the host of whoever says it, which need not be the node that serves otherwise. */
static void test_a_hint_without_a_host_means_the_one_who_gave_it(void **state) {
    static const char *const hosts[] = {"127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.2"};
    enum { GENERAL, REFUSING, LEADER, WRONG, NODES };
    struct node nodes[NODES] = {0};
    char names[NODES][64], shard[64], hint[64];
    int base = ports_pick(6);
    (void)state;
    for (int i = 0; i < NODES; i++)
        snprintf(names[i], sizeof names[i], "tcp://%s:%d", hosts[i],
                 base + 2 * (i < WRONG ? i : LEADER));
    snprintf(shard, sizeof shard, "tcp://127.0.0.1:%d", base + 2 * REFUSING + 1);
    snprintf(hint, sizeof hint, "tcp://0.0.0.0:%d", base + 2 * LEADER + 1);
    nodes[REFUSING].leader = hint;
    /* So does the way round, which is taken until the other ones are connected. */
    atomic_store(&nodes[GENERAL].refusals, UINT32_MAX);
    atomic_store(&nodes[REFUSING].refusals, UINT32_MAX);
    for (int i = 0; i < NODES; i++)
        nodes[i].engine = fake_engine_start(names[i], 1, scripted, &nodes[i]);
    fake_engine_move_shard(nodes[GENERAL].engine, 0, shard);
    jumun_client *c = open_client(names[GENERAL]);
    assert_int_equal(ready(c), JUMUN_OK);
    jumun_close(c);
    for (int i = 0; i < NODES; i++) fake_engine_stop(nodes[i].engine);
    assert_true(atomic_load(&nodes[REFUSING].seen) > 0);
    assert_int_equal(atomic_load(&nodes[LEADER].seen), 1);
    assert_int_equal(atomic_load(&nodes[WRONG].seen), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hint_about_another_shard_is_not_followed),
        cmocka_unit_test(test_a_hint_about_its_own_is),
        cmocka_unit_test(test_a_hint_without_a_host_means_the_one_who_gave_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
