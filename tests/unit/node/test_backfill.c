/* Gaps filled from other nodes: real storages, real feeds, and an endpoint for each peer that tells
 * where its feed is. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/feed/feed.h"
#include "engine/node/backfill.h"
#include "engine/wire/feed_protocol.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/protocol.h"
#include "tests/unit/persistence/storage_install_fixture.h"

enum { SHARD = 3, PEERS = 2, PATIENCE_MS = 120000 };

static const char cluster[] = "0123456789abcdef0123456789abcdef";

/* Another node. */
struct peer {
    struct fixture *f;
    char general[64], listen[64];
    struct feed *feed;
    nng_socket socket;             /* of the general endpoint */
    pthread_t thread;
    bool up;
    atomic_uint asked;             /* where its feed is */
    /* One that is wrong has no feed but what answers in the place of one. */
    nng_socket wrong;
    pthread_t wrong_thread;
    uint64_t wrong_first;          /* whatever it is asked for; 0 = it is not wrong */
    bool wrong_cluster;            /* says with each answer that it is of another one */
    atomic_uint wrong_pulls;
};

struct world {
    struct fixture *f;             /* the node whose gaps are filled */
    struct peer peers[PEERS];
    struct backfill *backfill;
};

static uint64_t peer_commit(void *arg) { return 70; }

static void *peer_answers(void *arg) {
    struct peer *p = arg;
    nng_msg *message;
    while (nng_recvmsg(p->socket, &message, 0) == 0) {
        uint8_t reply[256];
        struct msgpack_writer w;
        msgpack_writer_init(&w, reply, sizeof reply);
        msgpack_write_array(&w, 3);
        msgpack_write_uint(&w, PROTOCOL_VERSION);
        msgpack_write_uint(&w, 0);
        msgpack_write_array(&w, 1);
        msgpack_write_array(&w, 6);
        for (int i = 0; i < 5; i++) msgpack_write_uint(&w, 0);
        msgpack_write_map(&w, 1);
        msgpack_write_text(&w, "feed");
        msgpack_write_text(&w, p->feed ? feed_endpoint(p->feed) : p->listen);
        nng_msg_clear(message);
        assert_int_equal(nng_msg_append(message, reply, msgpack_writer_size(&w)), 0);
        atomic_fetch_add(&p->asked, 1);
        if (nng_sendmsg(p->socket, message, 0) != 0) nng_msg_free(message);
    }
    return NULL;
}

static void peer_begin(struct peer *p) {
    assert_int_equal(nng_rep0_open(&p->socket), 0);
    assert_int_equal(nng_listen(p->socket, p->general, NULL, 0), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, peer_answers, p), 0);
    p->up = true;
}

static void peer_up(struct peer *p, const char *cluster_id) {
    char error[256] = "";
    const struct feed_options options = {.listen = p->listen, .cluster_id = cluster_id,
                                         .node_id = 2, .shards_count = 4};
    const struct feed_source source = {.storage = p->f->storage, .commit_index = peer_commit};
    p->feed = feed_open(&options, error, sizeof error);
    if (!p->feed) fail_msg("%s", error);
    feed_add(p->feed, SHARD, &source);
    assert_true(feed_start(p->feed, error, sizeof error));
    peer_begin(p);
}

/* Ten records from wrong_first on, as if they were what was asked for. */
static void wrong_pull(struct peer *p, struct msgpack_writer *w, uint64_t from) {
    size_t bytes;
    uint64_t term = p->wrong_cluster ? 2 : 1, last = p->wrong_first + 9;
    uint8_t *records = packed(p->wrong_first, last, term, 64, 1500, &bytes);
    msgpack_write_array(w, p->wrong_cluster ? 10 : 9);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, 0);
    msgpack_write_uint(w, SHARD);
    msgpack_write_uint(w, from);
    msgpack_write_uint(w, from + 10);
    msgpack_write_uint(w, 70);
    msgpack_write_int(w, 0);
    msgpack_write_bin(w, records, (uint32_t)bytes);
    msgpack_write_array(w, 0);
    if (p->wrong_cluster) msgpack_write_text(w, "00000000000000000000000000000001");
    free(records);
    atomic_fetch_add(&p->wrong_pulls, 1);
}

static void wrong_hello(struct msgpack_writer *w) {
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, 0);
    msgpack_write_map(w, 6);
    msgpack_pair_text(w, "cluster_id", cluster);
    msgpack_pair_uint(w, "node_id", 2);
    msgpack_pair_int(w, "now_ms", 0);
    msgpack_pair_uint(w, "shards_count", 4);
    msgpack_pair_text(w, "notify", "");
    msgpack_write_text(w, "shards");
    msgpack_write_array(w, 0);
}

static void *wrong_answers(void *arg) {
    struct peer *p = arg;
    nng_msg *message;
    while (nng_recvmsg(p->wrong, &message, 0) == 0) {
        uint8_t reply[4096];
        struct msgpack_reader r;
        struct msgpack_writer w;
        uint64_t version = 0, kind = 0, shard = 0, from = 0;
        uint32_t fields = 0;
        msgpack_reader_init(&r, nng_msg_body(message), nng_msg_len(message));
        msgpack_read_array(&r, &fields);
        msgpack_read_uint(&r, &version);
        msgpack_read_uint(&r, &kind);
        if (kind == FEED_PULL) msgpack_read_uint(&r, &shard);
        if (kind == FEED_PULL) msgpack_read_uint(&r, &from);
        msgpack_writer_init(&w, reply, sizeof reply);
        if (kind == FEED_PULL) wrong_pull(p, &w, from);
        else wrong_hello(&w);
        nng_msg_clear(message);
        assert_int_equal(nng_msg_append(message, reply, msgpack_writer_size(&w)), 0);
        if (nng_sendmsg(p->wrong, message, 0) != 0) nng_msg_free(message);
    }
    return NULL;
}

static void peer_up_wrong(struct peer *p, uint64_t first) {
    p->wrong_first = first;
    assert_int_equal(nng_rep0_open(&p->wrong), 0);
    assert_int_equal(nng_listen(p->wrong, p->listen, NULL, 0), 0);
    assert_int_equal(pthread_create(&p->wrong_thread, NULL, wrong_answers, p), 0);
    peer_begin(p);
}

/* The log that all have: records 1..30 of term 1, to 60 of term 2, to 70 of term 8. */
static void log_make(struct fixture *f) {
    fixture_open(f);
    vote(f, 100);
    for (uint64_t i = 1; i <= 30; i += 10) fixture_append(f, i, i + 9, 1, 9000, 1000);
    for (uint64_t i = 31; i <= 60; i += 10) fixture_append(f, i, i + 9, 2, 40000, 1500);
    fixture_append(f, 61, 70, 8, 64, 500000);
}

static int set_up(void **state) {
    static unsigned worlds;
    struct world *w = calloc(1, sizeof *w);
    void *inner;
    worlds++;
    assert_int_equal(fixture_setup(&inner), 0);
    w->f = inner;
    for (unsigned i = 0; i < PEERS; i++) {
        struct peer *p = &w->peers[i];
        assert_int_equal(fixture_setup(&inner), 0);
        p->f = inner;
        p->f->options.segment_bytes_max = 65536;
        snprintf(p->general, sizeof p->general, "inproc://general-%u-%u", worlds, i);
        snprintf(p->listen, sizeof p->listen, "inproc://feed-%u-%u", worlds, i);
        log_make(p->f);
    }
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    struct world *w = *state;
    void *inner = w->f;
    if (w->backfill) backfill_stop(w->backfill);
    for (unsigned i = 0; i < PEERS; i++) {
        struct peer *p = &w->peers[i];
        if (p->up) {
            nng_close(p->socket);
            pthread_join(p->thread, NULL);
        }
        if (p->feed) feed_stop(p->feed);
        if (p->feed) feed_close(p->feed);
        if (p->wrong_first != 0) {
            nng_close(p->wrong);
            pthread_join(p->wrong_thread, NULL);
        }
        void *peer = p->f;
        fixture_teardown(&peer);
    }
    fixture_teardown(&inner);
    free(w);
    return 0;
}

/* 30 records, a gap of 30, and ten more. */
static void gap_make(struct world *w) {
    fixture_open(w->f);
    vote(w->f, 100);
    fixture_append(w->f, 1, 30, 1, 9000, 1000);
    make_file(w->f, file_path(w->f, "in"), 60, 'n');
    assert_int_equal(install(w->f, file_path(w->f, "in"), 30), 0);
    fixture_append(w->f, 61, 70, 8, 64, 500000);
}

/* A new disk: ten records behind an installed state. */
static void opening_gap_make(struct world *w) {
    fixture_open(w->f);
    vote(w->f, 100);
    make_file(w->f, file_path(w->f, "in"), 60, 'n');
    assert_int_equal(install(w->f, file_path(w->f, "in"), 0), 0);
    fixture_append(w->f, 61, 70, 8, 64, 500000);
}

static uint32_t peers_of(void *arg, uint32_t shard, char (*endpoints)[ENDPOINT_BYTES_MAX],
                         uint32_t max) {
    const struct world *w = arg;
    assert_int_equal(shard, SHARD);
    assert_true(max >= PEERS);
    for (uint32_t i = 0; i < PEERS; i++)
        snprintf(endpoints[i], ENDPOINT_BYTES_MAX, "%s", w->peers[i].general);
    return PEERS;
}

static void begin(struct world *w, uint64_t bytes_per_second) {
    char error[256] = "";
    const struct backfill_options options = {.cluster_id = cluster, .look_ms = 5, .retry_ms = 50,
                                             .bytes_per_second = bytes_per_second,
                                             .retention_ms = RETENTION_MS, .peers = peers_of,
                                             .arg = w};
    w->backfill = backfill_start(&options, error, sizeof error);
    if (!w->backfill) fail_msg("%s", error);
    backfill_add(w->backfill, SHARD, w->f->storage);
    backfill_add(w->backfill, SHARD_META, w->f->storage); /* is left alone */
}

static struct storage_stats stats_of(const struct world *w) {
    struct storage_stats stats;
    w->f->storage->ops->stats(w->f->storage, &stats);
    return stats;
}

static void await_filled(const struct world *w, uint64_t records) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (stats_of(w).filled_records < records && clock_mono_ms() < until_ms) usleep(2000);
    assert_true(stats_of(w).filled_records >= records);
}

static void await_asked(struct peer *p, unsigned times) {
    unsigned before = atomic_load(&p->asked);
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&p->asked) < before + times && clock_mono_ms() < until_ms) usleep(2000);
    assert_true(atomic_load(&p->asked) >= before + times);
}

static void expect_whole(struct world *w) {
    expect_gap(w->f, 0, 0, 0);
    expect_log(w->f, 1, 70);
    fixture_expect(w->f, 1, 30, 1);
    fixture_expect(w->f, 31, 60, 2);
    fixture_expect(w->f, 61, 70, 8);
}

/* Drops the oldest records, up to 30 at most. */
static void forget_front(struct fixture *f) {
    struct storage_stats stats;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    f->storage->ops->retain(f->storage, 70, 1200);
    do { /* queued */
        usleep(2000);
        f->storage->ops->stats(f->storage, &stats);
    } while (stats.log_first == 1 && clock_mono_ms() < until_ms);
    assert_true(stats.log_first > 1);
}

/* Another log at a peer: 1..10, 21..40, 51..70. */
static void peer_with_two_gaps(struct peer *p) {
    void *inner = p->f;
    fixture_teardown(&inner);
    assert_int_equal(fixture_setup(&inner), 0);
    p->f = inner;
    fixture_open(p->f);
    vote(p->f, 100);
    fixture_append(p->f, 1, 10, 1, 64, 1000);
    make_file(p->f, file_path(p->f, "in"), 20, 'm');
    assert_int_equal(install(p->f, file_path(p->f, "in"), 10), 0);
    fixture_append(p->f, 21, 40, 3, 64, 400000);
    make_file(p->f, file_path(p->f, "in"), 50, 'm');
    assert_int_equal(install(p->f, file_path(p->f, "in"), 40), 0);
    fixture_append(p->f, 51, 60, 6, 64, 450000);
    fixture_append(p->f, 61, 70, 8, 64, 500000);
    expect_gap(p->f, 2, 41, 50);
}

static void a_gap_is_filled(void **state) {
    struct world *w = *state;
    gap_make(w);
    peer_up(&w->peers[0], cluster);
    begin(w, 0);
    await_filled(w, 30);
    expect_whole(w);
}

static void who_has_nothing_is_passed_over(void **state) {
    struct world *w = *state;
    gap_make(w);
    make_file(w->peers[0].f, file_path(w->peers[0].f, "in"), 90, 'm');
    assert_int_equal(install(w->peers[0].f, file_path(w->peers[0].f, "in"), 20), 0); /* a gap */
    peer_up(&w->peers[0], cluster);
    peer_up(&w->peers[1], cluster);
    begin(w, 0);
    await_filled(w, 30);
    expect_whole(w);
    assert_true(atomic_load(&w->peers[0].asked) > 0);
}

/* One whose log is not that of the group, as its terms tell. */
static void what_does_not_fit_is_taken_from_another(void **state) {
    struct world *w = *state;
    gap_make(w);
    fixture_append(w->peers[0].f, 31, 70, 9, 64, 2000);
    peer_up(&w->peers[0], cluster);
    begin(w, 0);
    await_asked(&w->peers[0], 2);
    assert_int_equal(stats_of(w).filled_records, 0);
    peer_up(&w->peers[1], cluster);
    await_filled(w, 30);
    expect_whole(w);
}

static void another_cluster_is_not_believed(void **state) {
    struct world *w = *state;
    gap_make(w);
    peer_up(&w->peers[0], "00000000000000000000000000000001");
    begin(w, 0);
    await_asked(&w->peers[0], 2);
    assert_int_equal(stats_of(w).filled_records, 0);
    peer_up(&w->peers[1], cluster);
    await_filled(w, 30);
    expect_whole(w);
}

/* A new disk, and nobody has the beginning any more: but that is only sure once all have said so.
 */
static void the_oldest_that_anybody_has_is_taken(void **state) {
    struct world *w = *state;
    opening_gap_make(w);
    forget_front(w->peers[0].f);
    forget_front(w->peers[1].f);
    peer_up(&w->peers[0], cluster);
    begin(w, 0);
    await_asked(&w->peers[0], 2);
    assert_int_equal(stats_of(w).filled_records, 0);
    peer_up(&w->peers[1], cluster);
    struct storage_stats peer;
    w->peers[0].f->storage->ops->stats(w->peers[0].f->storage, &peer);
    assert_true(peer.log_first > 1 && peer.log_first <= 31);
    await_filled(w, 60 - peer.log_first + 1);
    expect_gap(w->f, 0, 0, 0);
    expect_log(w->f, peer.log_first, 70);
    fixture_expect(w->f, 31, 60, 2);
}

/* What lies between two gaps of others is not given up for what lies behind both. */
static void what_lies_between_two_gaps_of_others_is_taken(void **state) {
    struct world *w = *state;
    fixture_open(w->f);
    vote(w->f, 100);
    fixture_append(w->f, 1, 10, 1, 64, 1000);
    make_file(w->f, file_path(w->f, "in"), 60, 'n');
    assert_int_equal(install(w->f, file_path(w->f, "in"), 10), 0);
    fixture_append(w->f, 61, 70, 8, 64, 500000);
    forget_front(w->f);
    expect_gap(w->f, 1, 11, 60);
    for (uint32_t i = 0; i < PEERS; i++) peer_with_two_gaps(&w->peers[i]);
    for (uint32_t i = 0; i < PEERS; i++) peer_up(&w->peers[i], cluster);
    begin(w, 0);
    await_filled(w, 20);
    await_asked(&w->peers[0], 1);
    expect_gap(w->f, 1, 41, 60);
    fixture_expect(w->f, 21, 40, 3);
    assert_int_equal(stats_of(w).filled_records, 20);
}

static void await_wrong_pulls(struct peer *p, uint32_t pulls) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&p->wrong_pulls) < pulls && clock_mono_ms() < until_ms) usleep(2000);
    assert_true(atomic_load(&p->wrong_pulls) >= pulls);
}

/* One peer sends records from `wrong` on, again and again; nobody waits for it: the other fills. */
static void expect_passed_over(struct world *w, uint64_t wrong, uint64_t filled) {
    peer_up_wrong(&w->peers[0], wrong);
    begin(w, 0);
    await_wrong_pulls(&w->peers[0], 1);
    peer_up(&w->peers[1], cluster);
    await_filled(w, filled);
    expect_whole(w);
}

/* The front of a gap that may be filled from anywhere on is not given up for one that sends
 * something from inside. */
static void what_was_not_asked_for_is_not_taken(void **state) {
    opening_gap_make(*state);
    expect_passed_over(*state, 31, 60);
}

static void who_sends_something_else_is_passed_over(void **state) {
    gap_make(*state);
    expect_passed_over(*state, 41, 30);
}

/* It greeted as one of ours, and what came to stand there since has records that would fit. */
static void who_became_another_cluster_is_not_believed(void **state) {
    struct world *w = *state;
    gap_make(w);
    w->peers[0].wrong_cluster = true;
    peer_up_wrong(&w->peers[0], 31);
    begin(w, 0);
    await_wrong_pulls(&w->peers[0], 2); /* done with the first one */
    assert_int_equal(stats_of(w).filled_records, 0);
    peer_up(&w->peers[1], cluster);
    await_filled(w, 30);
    expect_whole(w);
}

static void it_can_be_cut_short(void **state) {
    struct world *w = *state;
    gap_make(w);
    peer_up(&w->peers[0], cluster);
    peer_up(&w->peers[1], cluster);
    begin(w, 1); /* behind a piece, of two, it waits for days */
    await_filled(w, 1);
    backfill_forget(w->backfill, SHARD);
    backfill_forget(w->backfill, SHARD_META);
    fixture_reopen(w->f); /* nothing touches it any more */
    expect_log(w->f, stats_of(w).gaps > 0 ? 61 : 1, 70);
    backfill_stop(w->backfill);
    begin(w, 0);
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (stats_of(w).gaps > 0 && clock_mono_ms() < until_ms) usleep(2000);
    expect_whole(w);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_gap_is_filled),
        TEST(who_has_nothing_is_passed_over),
        TEST(what_does_not_fit_is_taken_from_another),
        TEST(another_cluster_is_not_believed),
        TEST(the_oldest_that_anybody_has_is_taken),
        TEST(what_lies_between_two_gaps_of_others_is_taken),
        TEST(what_was_not_asked_for_is_not_taken),
        TEST(who_sends_something_else_is_passed_over),
        TEST(who_became_another_cluster_is_not_believed),
        TEST(it_can_be_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
