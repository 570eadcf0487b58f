/* The follower and whose entries it takes: feeds of several clusters come and go at one address,
 * over logs on simulated disks. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/feed/feed.h"
#include "engine/replica/feed_client.h"
#include "engine/replica/follower.h"
#include "tests/unit/replica/history_world.h"
#include "tests/world/storage_memory.h"

enum { SHARD = 1, PATIENCE_MS = 60000, ENTRIES = 600 };

static const char address[] = "inproc://follower", nodes[] = "feed:inproc://follower";
static const char cluster_a[] = "0123456789abcdef0123456789abcdef";
static const char cluster_b[] = "fedcba9876543210fedcba9876543210";

/* A cluster of one node: its log, how much of it is committed, and its feed. */
struct place {
    const char *cluster_id;
    struct history history;
    struct storage_memory *disk;
    struct storage *storage;
    atomic_ullong committed;
    atomic_bool unknown;       /* whether that is all that there is */
    struct feed *feed;
};

static struct place a, b;
static struct place twin;      /* another node of a's cluster, at another address */
static const char twin_address[] = "inproc://follower-twin";
static const char both_nodes[] = "feed:inproc://follower,feed:inproc://follower-twin";

/* Its disk has the log up to an entry. */
static void place_init_upto(struct place *p, const char *cluster_id, uint64_t seed,
                            uint64_t upto) {
    const struct storage_memory_options options = {.seed = seed, .segment_records = 64};
    p->cluster_id = cluster_id;
    history_init(&p->history, seed);
    history_grow(&p->history, ENTRIES);
    p->disk = storage_memory_new(&options);
    p->storage = storage_memory_open(p->disk);
    uint64_t last = p->history.logs[SHARD].last;
    p->storage->ops->append(p->storage,
                            history_appendable(&p->history, SHARD, upto < last ? upto : last));
    storage_memory_advance(p->disk, 1);
    assert_true(last > 100);
}

static void place_init(struct place *p, const char *cluster_id, uint64_t seed) {
    place_init_upto(p, cluster_id, seed, UINT64_MAX);
}

static void place_fini(struct place *p) {
    p->storage->ops->close(p->storage);
    storage_memory_free(p->disk);
    history_fini(&p->history);
}

static uint64_t commit_index(void *arg) { return atomic_load(&((struct place *)arg)->committed); }

static bool commit_known(void *arg) { return !atomic_load(&((struct place *)arg)->unknown); }

static void place_up(struct place *p, uint64_t committed) {
    char error[256] = "";
    const struct feed_options options = {.listen = p == &twin ? twin_address : address,
                                         .cluster_id = p->cluster_id,
                                         .node_id = 1, .shards_count = SHARD + 1};
    const struct feed_source source = {.storage = p->storage, .commit_index = commit_index,
                                       .arg = p, .commit_known = commit_known};
    atomic_store(&p->committed, committed);
    p->feed = feed_open(&options, error, sizeof error);
    if (!p->feed) fail_msg("%s", error);
    feed_add(p->feed, SHARD, &source);
    assert_true(feed_start(p->feed, error, sizeof error));
}

static void place_down(struct place *p) {
    feed_stop(p->feed);
    feed_close(p->feed);
}

/* -- who follows ------------------------------------------------------------------------------- */

static struct follower *follower;
static atomic_ullong next;     /* all before it was offered, and is of `a` */
static atomic_bool strange;    /* something that is not was offered */
static atomic_uint imports;    /* asked for */

static uint64_t follow_from(void *arg, uint32_t shard) { return 1; }

static void offered(void *arg, struct follower_batch *batch) {
    size_t bytes = 0;
    const void *wanted = NULL;
    if (batch->next > batch->first)
        wanted = history_records(&a.history, SHARD, batch->first, batch->next - 1, &bytes);
    if (batch->commit > atomic_load(&a.committed) || batch->bytes != bytes ||
        (wanted && memcmp(batch->records, wanted, bytes) != 0))
        atomic_store(&strange, true);
    else atomic_store(&next, batch->next);
    free(batch); /* little: the lane needs no room back */
}

static void import_required(void *arg, uint32_t shard, uint64_t from) {
    atomic_fetch_add(&imports, 1);
}

static void identified(void *arg, const char *cluster_id, uint32_t shards_count) {
    if (strcmp(cluster_id, cluster_a) != 0) atomic_store(&strange, true);
}

static void shards_told(void *arg, const bool shards[SHARDS_MAX]) {}

static void follow(const char *whom) {
    char error[256] = "";
    const struct follower_options options = {
        .nodes = whom, .heartbeat_ms = 20, .next = follow_from, .offer = offered,
        .import_required = import_required, .identified = identified, .retired = shards_told,
        .existing = shards_told};
    atomic_store(&next, 0);
    atomic_store(&strange, false);
    atomic_store(&imports, 0);
    follower = follower_start(&options, error, sizeof error);
    if (!follower) fail_msg("%s", error);
}

static void await_next(uint64_t wanted) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&next) < wanted) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(2000);
    }
    assert_int_equal(atomic_load(&next), wanted);
}

/* Until the only node counts as not reached for being of cluster `theirs`, and no lane follows. */
static void await_foreign(const char *theirs) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct follower_source s;
    struct follower_lane lane;
    do {
        assert_true(clock_mono_ms() < until_ms);
        usleep(2000);
        assert_true(follower_source(follower, 0, &s));
        follower_lane(follower, SHARD, &lane);
    } while (s.reached || !strstr(s.why, theirs) || lane.node[0] != 0);
    assert_non_null(strstr(s.why, cluster_a));
}

/* Its entries up to 40 have been taken then. */
static void follow_a_and_lose_it(void) {
    place_up(&a, 40);
    follow(nodes);
    await_next(41);
    place_down(&a);
}

static int set_up(void **state) {
    place_init(&a, cluster_a, 3);
    place_init(&b, cluster_b, 4);
    place_init(&twin, cluster_a, 3);
    return 0;
}

static int tear_down(void **state) {
    place_fini(&a);
    place_fini(&b);
    place_fini(&twin);
    return 0;
}

/* -- tests ------------------------------------------------------------------------------------- */

/* The connection is made anew by itself, long before the next HELLO would tell. */
static void another_cluster_at_the_address_is_not_followed(void **state) {
    follow_a_and_lose_it();
    place_up(&b, 90); /* has what would come next, by its numbers */
    await_foreign(cluster_b);
    atomic_store(&b.committed, 100);
    usleep(200000); /* time to do it wrong: only a mistake is found by it */
    await_foreign(cluster_b);
    assert_int_equal(atomic_load(&next), 41);
    place_down(&b);
    place_up(&a, 70);
    await_next(71);
    struct follower_source s;
    assert_true(follower_source(follower, 0, &s));
    assert_true(s.reached);
    assert_string_equal(s.why, "");
    assert_false(atomic_load(&strange));
    follower_stop(follower);
    place_down(&a);
}

/* Its log begins behind 41 from now on. */
static void lose_beginning(struct place *p) {
    struct storage_stats stats;
    p->storage->ops->retain(p->storage, p->history.logs[SHARD].last, INT64_MAX);
    storage_memory_advance(p->disk, 100000);
    p->storage->ops->stats(p->storage, &stats);
    assert_true(stats.log_first > 41);
}

static void await_imports(uint32_t wanted) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&imports) < wanted) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(2000);
    }
}

/* The state of a shard tells nothing of what happened in between: the log of another node does. */
static void another_log_is_better_than_an_import(void **state) {
    uint64_t last = a.history.logs[SHARD].last;
    lose_beginning(&a);
    place_up(&a, last);
    place_up(&twin, last);
    follow(both_nodes);
    await_next(last + 1);
    assert_int_equal(atomic_load(&imports), 0);
    assert_false(atomic_load(&strange));
    follower_stop(follower);
    place_down(&a);
    place_down(&twin);
}

/* When it has not got it either, or does not answer, there is nothing else. */
static void no_log_is_an_import(void **state) {
    uint64_t last = a.history.logs[SHARD].last;
    lose_beginning(&a);
    place_up(&a, last);
    atomic_store(&twin.unknown, true);
    place_up(&twin, 0);
    follow(both_nodes);
    await_imports(1);
    assert_int_equal(atomic_load(&next), 0);
    follower_stop(follower);
    place_down(&twin);
    atomic_store(&twin.unknown, false);
    lose_beginning(&twin);
    place_up(&twin, last);
    follow(both_nodes);
    await_imports(1);
    assert_int_equal(atomic_load(&next), 0);
    follower_stop(follower);
    place_down(&a);
    place_down(&twin);
}

/* It knows of entries that its own disk has not taken: another node has them. */
static void who_cannot_give_what_it_knows_of_is_left(void **state) {
    uint64_t last = twin.history.logs[SHARD].last;
    place_fini(&a);
    place_init_upto(&a, cluster_a, 3, 40);
    place_up(&a, last);
    place_up(&twin, last);
    follow(both_nodes);
    await_next(last + 1);
    assert_false(atomic_load(&strange));
    follower_stop(follower);
    place_down(&a);
    place_down(&twin);
}

/* The log of the only node is damaged there: what is in front comes, and why not more is told. */
static void what_cannot_be_read_is_told(void **state) {
    struct follower_lane lane;
    assert_true(storage_memory_corrupt_record(a.disk, 41));
    place_up(&a, a.history.logs[SHARD].last);
    follow(both_nodes);
    await_next(41);
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    do {
        assert_true(clock_mono_ms() < until_ms);
        usleep(2000);
        follower_lane(follower, SHARD, &lane);
    } while (!strstr(lane.why, "refuses entry 41: [9 storage_failed] "));
    assert_non_null(strstr(lane.why, nodes));
    assert_non_null(strstr(lane.why, "checksum does not match"));
    place_up(&twin, twin.history.logs[SHARD].last); /* has it */
    await_next(twin.history.logs[SHARD].last + 1);
    follower_lane(follower, SHARD, &lane);
    assert_string_equal(lane.why, "");
    assert_false(atomic_load(&strange));
    follower_stop(follower);
    place_down(&a);
    place_down(&twin);
}

/* What its log has not got any more is another cluster's affair too: nothing is imported of it. */
static void a_refusal_of_another_cluster_counts_for_nothing(void **state) {
    follow_a_and_lose_it();
    lose_beginning(&b);
    place_up(&b, b.history.logs[SHARD].last);
    await_foreign(cluster_b);
    assert_int_equal(atomic_load(&imports), 0);
    assert_false(atomic_load(&strange));
    follower_stop(follower);
    place_down(&b);
}

/* Nor is it known that a node's log has no more before it was asked. */
static void who_has_not_answered_yet_may_have_the_log(void **state) {
    uint64_t last = a.history.logs[SHARD].last;
    lose_beginning(&a);
    place_up(&a, last);
    follow("feed:inproc://follower,feed:inproc://dead-1"); /* it is given a second */
    struct follower_source s;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    do {
        assert_true(clock_mono_ms() < until_ms);
        usleep(2000);
        uint32_t before = atomic_load(&imports);
        assert_true(follower_source(follower, 1, &s));
        if (s.failures == 0) assert_int_equal(before, 0);
    } while (s.failures == 0);
    await_imports(1);
    follower_stop(follower);
    place_down(&a);
}

/* Whether it comes to pass in so many milliseconds, once of several times: a busy machine may be
 * late, and what waits for a time to be over is late each time. */
static bool is_soon(int64_t (*once)(void), int64_t bound_ms) {
    for (int i = 0; i < 8; i++)
        if (once() < bound_ms) return true;
    return false;
}

/* Each takes its time to be found dead. */
static int64_t follow_beside_dead_nodes(void) {
    static const char dead_and_a[] = "feed:inproc://dead-1,feed:inproc://dead-2,"
                                     "feed:inproc://dead-3,feed:inproc://dead-4,"
                                     "feed:inproc://follower";
    place_up(&a, 40);
    int64_t began_ms = clock_mono_ms();
    follow(dead_and_a);
    await_next(41);
    int64_t took_ms = clock_mono_ms() - began_ms;
    print_message("followed after %lld ms\n", (long long)took_ms);
    follower_stop(follower);
    place_down(&a);
    return took_ms;
}

static void dead_nodes_hold_up_nobody(void **state) {
    assert_true(is_soon(follow_beside_dead_nodes, 2000));
}

/* It takes connections and questions, and answers nothing. */
static nng_socket mute_up(void) {
    nng_socket mute;
    assert_int_equal(nng_rep0_open(&mute), 0);
    assert_int_equal(nng_listen(mute, "inproc://mute", NULL, 0), 0);
    return mute;
}

static int64_t stop_beside_a_mute_node(void) {
    nng_socket mute = mute_up();
    nng_msg *question;
    follow("feed:inproc://mute");
    assert_int_equal(nng_recvmsg(mute, &question, 0), 0);
    nng_msg_free(question);
    int64_t began_ms = clock_mono_ms();
    follower_stop(follower);
    int64_t took_ms = clock_mono_ms() - began_ms;
    print_message("stopped after %lld ms\n", (long long)took_ms);
    nng_close(mute);
    return took_ms;
}

static void a_stop_does_not_wait_for_a_mute_node(void **state) {
    assert_true(is_soon(stop_beside_a_mute_node, 500));
}

static void await_reached(uint32_t source) {
    struct follower_source s;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    do {
        assert_true(clock_mono_ms() < until_ms);
        usleep(2000);
        assert_true(follower_source(follower, source, &s));
    } while (!s.reached);
    usleep(100000); /* and it is connected: else what follows takes a little longer */
}

/* What a node's feed says to HELLO. */
static nng_msg *hello_of(const char *feed) {
    static const uint8_t hello[] = {0x92, 1, 0xcd, 1, 0x2c};
    char error[256] = "";
    nng_msg *answer;
    if (feed_ask(feed, hello, sizeof hello, 10000, NULL, &answer, error, sizeof error) != 0)
        fail_msg("%s", error);
    return answer;
}

/* A node that is killed says no word: its connection is closed. Of the others one has gone before:
 * that one is not waited for. */
static int64_t leave_who_is_gone(void) {
    nng_socket mute = mute_up();
    nng_msg *question, *answer;
    place_up(&a, 40);
    answer = hello_of(address); /* mute is to be taken for such a one */
    place_down(&a);
    follow("feed:inproc://mute,feed:inproc://follower-twin,feed:inproc://follower");
    assert_int_equal(nng_recvmsg(mute, &question, 0), 0); /* HELLO */
    nng_msg_free(question);
    assert_int_equal(nng_sendmsg(mute, answer, 0), 0);
    assert_int_equal(nng_recvmsg(mute, &question, 0), 0); /* PULL: the lane is here */
    nng_msg_free(question);
    place_up(&twin, 40);
    await_reached(1);
    place_down(&twin);
    place_up(&a, 40);
    await_reached(2);
    int64_t began_ms = clock_mono_ms();
    nng_close(mute);
    await_next(41);
    int64_t took_ms = clock_mono_ms() - began_ms;
    print_message("another one was followed after %lld ms\n", (long long)took_ms);
    assert_false(atomic_load(&strange));
    follower_stop(follower);
    place_down(&a);
    return took_ms;
}

static void who_is_gone_is_left_at_once(void **state) {
    assert_true(is_soon(leave_who_is_gone, 1000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(another_cluster_at_the_address_is_not_followed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(another_log_is_better_than_an_import, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_log_is_an_import, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_cannot_give_what_it_knows_of_is_left, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_refusal_of_another_cluster_counts_for_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_has_not_answered_yet_may_have_the_log, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(dead_nodes_hold_up_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_does_not_wait_for_a_mute_node, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_gone_is_left_at_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
