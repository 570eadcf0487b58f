/* Queries where replicas of another cluster are among those that were given. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "tests/unit/sdk/fake_engine.h"
#include "tests/unit/sdk/fake_replica.h"

#define OURS "11111111111111111111111111111111"
#define THEIRS "22222222222222222222222222222222"
#define PATIENT .timeout_ms = 120000, .attempt_timeout_ms = 120000, .choice = JUMUN_IN_ORDER

/* Two histories, each with a replica of its own: NAME and NAME-wrong. */
struct world {
    const char *name;
    struct fake_history *ours, *theirs;
    struct fake_replica *right, *wrong;
    struct fake_engine *engine; /* NULL = there is no session */
    jumun_client *session;
    jumun_queries *q;
    jumun_key key;             /* in ours alone */
};

static const char *called(const struct world *w, const char *suffix) {
    static char name[32];
    snprintf(name, sizeof name, "%s%s", w->name, suffix);
    return name;
}

static void world_begin(struct world *w, const char *name) {
    *w = (struct world){.name = name, .ours = fake_history_new(), .theirs = fake_history_new()};
    w->right = fake_replica_start(w->ours, name, false);
    w->wrong = fake_replica_start(w->theirs, called(w, "-wrong"), false);
    fake_replica_be_of(w->right, OURS);
    fake_replica_be_of(w->wrong, THEIRS);
    w->key = jumun_key_new();
    fake_history_change(w->ours, 0, &w->key, "s1");
}

/* A session with NAME-node, of this cluster. */
static void world_write(struct world *w, const char *cluster, fake_script script, void *arg) {
    char error[128];
    w->engine = fake_engine_start(called(w, "-node"), 1, script, arg);
    fake_engine_be_of(w->engine, cluster);
    w->session = jumun_open(fake_engine_address(called(w, "-node")), NULL, error, sizeof error);
    assert_non_null(w->session);
}

/* Queries at these replicas, of the session if there is one; so many messages at a time, 0 = as it
 * likes. */
static void world_ask(struct world *w, const char *replicas, uint32_t messages_max) {
    char error[128] = "";
    jumun_query_options o = {PATIENT, .session = w->session,
                             .messages_in_flight_max = messages_max};
    w->q = jumun_queries_open(replicas, &o, error, sizeof error);
    assert_string_equal(error, "");
}

static void world_end(struct world *w) {
    jumun_queries_close(w->q);
    if (w->engine) {
        jumun_close(w->session);
        fake_engine_stop(w->engine);
    }
    fake_replica_stop(w->right);
    fake_replica_stop(w->wrong);
    fake_history_free(w->ours);
    fake_history_free(w->theirs);
}

static int get(const struct world *w, const jumun_key *key, jumun_answer **a) {
    jumun_query query = {.kind = JUMUN_GET_ORDER, .order = *key};
    return jumun_query_run(w->q, &query, a);
}

/* Waits until that many of the replicas are not asked any more; returns the mask of them. */
static uint32_t await_left_out(const struct world *w, uint32_t wanted) {
    for (int i = 0; i < 60000; i++) {
        jumun_queries_stats s;
        uint32_t mask = 0;
        jumun_queries_look(w->q, &s);
        for (uint32_t r = 0; r < s.replicas_count; r++)
            mask |= (uint32_t)s.replicas[r].circuit_open << r;
        if ((uint32_t)__builtin_popcount(mask) == wanted) return mask;
        usleep(1000);
    }
    fail_msg("the replica of another cluster is still asked");
    return 0;
}

/* The first in order is of another cluster, where positions mean nothing: a session's demand would
 * wait there for nothing, each time. */
static void test_a_replica_of_another_cluster_is_passed_over(void **state) {
    struct world w;
    world_begin(&w, "c1");
    world_write(&w, OURS, NULL, NULL);
    world_ask(&w, "inproc://c1-wrong,inproc://c1", 0);
    jumun_answer *a;
    assert_int_equal(await_left_out(&w, 1), 1);
    uint32_t before = fake_replica_messages(w.wrong);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(get(&w, &w.key, &a), JUMUN_OK);
        assert_string_equal(a->replica, "inproc://c1");
        assert_false(a->lagging || a->stale);
        jumun_answer_free(a);
    }
    assert_int_equal(fake_replica_messages(w.wrong), before);
    world_end(&w);
}

/* None is left: told at once, though there are two minutes, and with whose orders it has. */
static void test_only_replicas_of_another_cluster(void **state) {
    struct world w;
    world_begin(&w, "c2");
    world_write(&w, OURS, NULL, NULL);
    world_ask(&w, "inproc://c2-wrong", 0);
    jumun_answer *a;
    await_left_out(&w, 1);
    assert_int_equal(get(&w, &w.key, &a), JUMUN_OTHER_CLUSTER);
    assert_string_equal(a->detail, "inproc://c2-wrong follows cluster 22222222..., not "
                                   "11111111...");
    jumun_answer_free(a);
    assert_string_equal(jumun_result_name(JUMUN_OTHER_CLUSTER), "other_cluster");
    world_end(&w);
}

/* Without a session nobody knows whose orders are meant, but they are of one cluster. */
static void test_without_a_session_answers_are_of_one_cluster(void **state) {
    struct world w;
    world_begin(&w, "c3");
    world_ask(&w, "inproc://c3-wrong,inproc://c3", 0);
    jumun_answer *a;
    bool right = await_left_out(&w, 1) == 1;
    uint32_t before = fake_replica_messages(right ? w.wrong : w.right);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(get(&w, &w.key, &a), right ? JUMUN_OK : JUMUN_ORDER_NOT_FOUND);
        jumun_answer_free(a);
    }
    assert_int_equal(fake_replica_messages(right ? w.wrong : w.right), before);
    world_end(&w);
}

/* One that does not tell, as older ones do not, or that has reached no node yet, may be right. */
static void test_who_does_not_tell_is_asked(void **state) {
    struct world w;
    world_begin(&w, "c4");
    fake_replica_be_of(w.right, NULL);
    world_write(&w, OURS, NULL, NULL);
    world_ask(&w, "inproc://c4-wrong,inproc://c4", 0);
    jumun_answer *a;
    assert_int_equal(await_left_out(&w, 1), 1);
    assert_int_equal(get(&w, &w.key, &a), JUMUN_OK);
    jumun_answer_free(a);
    world_end(&w);
}

/* Its answers make a client fetch the map again, so often. */
static void of_another_map(void *arg, struct fake_message *m) {
    atomic_uint *refusals = arg;
    if (atomic_load(refusals) == 0) return;
    atomic_fetch_sub(refusals, 1);
    for (uint32_t i = 0; i < m->count; i++) m->codes[i] = RESULT_WRONG_SHARD;
}

/* A backup was restored into a new directory, say: the shards are what they were, the cluster is
 * not, and positions of before mean nothing. */
static void test_a_session_follows_its_node_into_another_cluster(void **state) {
    struct world w;
    world_begin(&w, "c5");
    atomic_uint refusals = 0;
    world_write(&w, THEIRS, of_another_map, &refusals);
    world_ask(&w, "inproc://c5-wrong,inproc://c5", 0);
    jumun_answer *a;
    assert_int_equal(await_left_out(&w, 1), 2);
    jumun_session_demand(w.session, &(jumun_token){0, 1000000}, 1);
    fake_engine_descend_from(w.engine, THEIRS);
    fake_engine_be_of(w.engine, OURS);
    atomic_store(&refusals, 1);
    assert_int_equal(jumun_mark_ready(w.session, &w.key, NULL, NULL), JUMUN_OK);
    for (int i = 0; await_left_out(&w, 1) != 1; i++) { /* both are for a moment, or none */
        if (i == 60000) fail_msg("it is measured by the cluster that was");
        usleep(1000);
    }
    assert_int_equal(get(&w, &w.key, &a), JUMUN_OK);
    assert_string_equal(a->replica, "inproc://c5");
    assert_false(a->lagging || a->stale);
    jumun_answer_free(a);
    world_end(&w);
}

/* A message of two queries, whose first one's callback lasts until the replica is left. */
struct lasting {
    const struct world *world;
    atomic_int answered;
};

static void on_lasting(void *arg, const jumun_answer *a) {
    struct lasting *l = arg;
    if (a->code == JUMUN_OK && atomic_load(&l->answered) == 1) {
        fake_replica_be_of(l->world->wrong, THEIRS);
        await_left_out(l->world, 1);
    }
    atomic_fetch_add(&l->answered, 1);
}

/* Nothing of it is given again, though it came before it was known. */
static void test_answers_of_another_cluster_are_not_kept(void **state) {
    struct world w;
    world_begin(&w, "c6");
    fake_replica_be_of(w.wrong, NULL);
    world_write(&w, OURS, NULL, NULL);
    world_ask(&w, "inproc://c6-wrong", 1);
    struct lasting l = {.world = &w};
    jumun_key keys[3];
    jumun_answer *a;
    for (int i = 0; i < 3; i++) {
        keys[i] = jumun_key_new();
        fake_history_change(w.theirs, 0, &keys[i], "s1");
    }
    assert_int_equal(get(&w, &keys[0], &a), JUMUN_OK);
    jumun_answer_free(a);
    fake_replica_delay(w.wrong, 50); /* the first one is away while the others gather behind it */
    for (int i = 0; i < 3; i++) {
        jumun_query query = {.kind = JUMUN_GET_ORDER, .order = keys[i]};
        assert_int_equal(jumun_query_submit(w.q, &query, on_lasting, &l), JUMUN_OK);
    }
    for (int i = 0; atomic_load(&l.answered) < 3; i++) {
        if (i == 60000) fail_msg("they were not answered");
        usleep(1000);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(get(&w, &keys[i], &a), JUMUN_OTHER_CLUSTER);
        jumun_answer_free(a);
    }
    world_end(&w);
}

static bool is_connected(const struct world *w) {
    jumun_queries_stats s;
    jumun_queries_look(w->q, &s);
    return s.replicas[0].connected;
}

static void await_connected(const struct world *w, bool wanted) {
    for (int i = 0; is_connected(w) != wanted; i++) {
        if (i == 60000) fail_msg("the connection does not come, or go");
        usleep(1000);
    }
}

/* One that was of another cluster and comes anew may be of ours by now: it is heard first. */
static void test_a_replica_that_comes_anew_is_heard_first(void **state) {
    struct world w;
    world_begin(&w, "c7");
    world_write(&w, OURS, NULL, NULL);
    world_ask(&w, "inproc://c7-wrong", 0);
    jumun_answer *a;
    await_left_out(&w, 1);
    fake_replica_stop(w.wrong);
    await_connected(&w, false);
    w.wrong = fake_replica_start(w.ours, "c7-wrong", false);
    fake_replica_be_of(w.wrong, OURS);
    fake_replica_delay(w.wrong, 200);
    await_connected(&w, true);
    assert_int_equal(get(&w, &w.key, &a), JUMUN_OK);
    jumun_answer_free(a);
    world_end(&w);
}

/* No stranger is left when all follow another cluster than before: what was seen of the other one's
 * logs is no demand any more, and what was read of its orders no answer. */
static void test_all_replicas_change_their_cluster(void **state) {
    struct world w;
    world_begin(&w, "c8");
    fake_history_change(w.theirs, 0, &w.key, "s1");
    world_ask(&w, "inproc://c8,inproc://c8-wrong", 0);
    jumun_query counters = {.kind = JUMUN_COUNTERS, .bucket_ms = 60000, .demand.wait_ms = 10};
    jumun_answer *a;
    bool ours = await_left_out(&w, 1) == 2; /* whoever told first */
    struct fake_replica **kept = ours ? &w.right : &w.wrong;
    for (int i = 0; i < 9; i++) fake_history_change(ours ? w.ours : w.theirs, 0, &w.key, "s1");
    assert_int_equal(jumun_query_run(w.q, &counters, &a), JUMUN_OK);
    jumun_answer_free(a);
    fake_replica_stop(*kept);
    *kept = fake_replica_start(ours ? w.theirs : w.ours, called(&w, ours ? "" : "-wrong"), false);
    fake_replica_be_of(*kept, ours ? THEIRS : OURS);
    bool demanded = true;
    for (int i = 0; i < 3000 && demanded; i++) { /* until it is there, and has told */
        if (i > 0) usleep(10000);
        demanded = jumun_query_run(w.q, &counters, &a) != JUMUN_OK || a->lagging || a->stale;
        jumun_answer_free(a);
    }
    assert_false(demanded);
    world_end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_replica_of_another_cluster_is_passed_over),
        cmocka_unit_test(test_only_replicas_of_another_cluster),
        cmocka_unit_test(test_without_a_session_answers_are_of_one_cluster),
        cmocka_unit_test(test_who_does_not_tell_is_asked),
        cmocka_unit_test(test_a_session_follows_its_node_into_another_cluster),
        cmocka_unit_test(test_answers_of_another_cluster_are_not_kept),
        cmocka_unit_test(test_a_replica_that_comes_anew_is_heard_first),
        cmocka_unit_test(test_all_replicas_change_their_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
