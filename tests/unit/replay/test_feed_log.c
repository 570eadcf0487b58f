/* A shard's log through a feed: the same records as in the log, whatever is asked for and however
 * often the feed goes away; what is damaged, missing or gone is named. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/replay/feed_log.h"
#include "engine/feed/feed.h"
#include "engine/wire/msgpack_writer.h"
#include "tests/unit/replica/history_world.h"
#include "tests/world/storage_memory.h"

enum { SHARD = 1, PAGE_BYTES = 3000 };

static struct storage_memory *disk;
static struct storage *storage;
static struct history history;
static uint64_t last;
static atomic_ullong committed;
static atomic_bool enough;

static uint64_t commit_index(void *arg) { return atomic_load(&committed); }
static bool interrupted(void) { return atomic_load(&enough); }

static int set_up(void **state) {
    const struct storage_memory_options options = {.seed = 1, .segment_records = 32};
    history_init(&history, 5);
    history_grow(&history, 600);
    disk = storage_memory_new(&options);
    storage = storage_memory_open(disk);
    assert_true(disk && storage);
    last = history.logs[SHARD].last;
    storage->ops->append(storage, history_appendable(&history, SHARD, last));
    storage_memory_advance(disk, 1);
    atomic_store(&committed, last);
    atomic_store(&enough, false);
    feed_link_settings = (struct feed_link_settings){.patience_ms = 60000, .quiet = true,
                                                     .interrupted = interrupted};
    return 0;
}

static int tear_down(void **state) {
    storage->ops->close(storage);
    storage_memory_free(disk);
    history_fini(&history);
    return 0;
}

static struct feed *feed_up(const char *name, const char *cluster_id) {
    static char listen[64];
    char error[256] = "";
    snprintf(listen, sizeof listen, "inproc://feed-log-%s", name);
    const struct feed_options options = {.listen = listen, .cluster_id = cluster_id, .node_id = 7,
                                         .shards_count = 2};
    const struct feed_source source = {storage, commit_index, NULL, NULL};
    struct feed *f = feed_open(&options, error, sizeof error);
    if (!f) fail_msg("%s", error);
    feed_add(f, SHARD, &source);
    assert_true(feed_start(f, error, sizeof error));
    return f;
}

static void feed_down(struct feed *f) {
    feed_stop(f);
    feed_close(f);
}

static const char cluster_a[] = "0123456789abcdef0123456789abcdef";
static const char cluster_b[] = "fedcba9876543210fedcba9876543210";

static struct log_source *log_up(const char *address, struct feed_link **link) {
    struct feed_link_hello hello;
    char error[256] = "";
    *link = feed_link_open(address, &hello, error, sizeof error);
    if (!*link) fail_msg("%s", error);
    assert_int_equal(hello.count, 1);
    assert_int_equal(hello.shards[0].shard, SHARD);
    struct log_source *log = feed_log_open(*link, &hello.shards[0], PAGE_BYTES);
    assert_non_null(log);
    return log;
}

static void log_down(struct log_source *log, struct feed_link *link) {
    log_source_close(log);
    feed_link_close(link);
}

static void is_record(const struct log_item *item, uint64_t index) {
    size_t bytes;
    const void *wanted = history_records(&history, SHARD, index, index, &bytes);
    assert_int_equal(item->index, index);
    assert_int_equal((uintptr_t)item->header % 8, 0);
    assert_memory_equal(item->header, wanted, sizeof *item->header + item->header->payload_bytes);
}

static void expect_records(struct log_cursor *c, uint64_t from, uint64_t upto) {
    struct log_item item;
    for (uint64_t i = from; i <= upto; i++) {
        enum log_step step = log_cursor_next(c, &item);
        if (step == LOG_FAULT) fail_msg("record %llu: %s", (unsigned long long)i, item.what);
        assert_int_equal(step, LOG_RECORD);
        is_record(&item, i);
    }
    assert_int_equal(log_cursor_next(c, &item), LOG_END);
}

static void all_records_come_in_order(void **state) {
    struct feed *f = feed_up("all", cluster_a);
    struct feed_link *link;
    struct log_source *log = log_up(feed_endpoint(f), &link);
    uint64_t begin, end;
    log_source_range(log, &begin, &end);
    assert_int_equal(begin, 1);
    assert_int_equal(end, last);
    struct log_cursor *c = log_cursor_open(log, 1, UINT64_MAX, true);
    expect_records(c, 1, last);
    /* Forwards and backwards, single ones and stretches. */
    for (uint64_t i = last; i > 3; i -= 3) {
        log_cursor_seek(c, i, i);
        expect_records(c, i, i);
    }
    log_cursor_seek(c, 17, last - 5);
    expect_records(c, 17, last - 5);
    log_cursor_seek(c, last + 1, last + 7);
    expect_records(c, 1, 0);
    assert_null(log_source_failure(log));
    log_cursor_close(c);
    log_down(log, link);
    feed_down(f);
}

static void only_what_is_committed_is_there(void **state) {
    atomic_store(&committed, 40);
    struct feed *f = feed_up("committed", cluster_a);
    struct feed_link *link;
    struct log_source *log = log_up(feed_endpoint(f), &link);
    struct log_cursor *c = log_cursor_open(log, 1, UINT64_MAX, true);
    expect_records(c, 1, 40);
    atomic_store(&committed, 50);
    char error[256] = "";
    assert_int_equal(log_source_refresh(log, error, sizeof error), 0);
    log_cursor_seek(c, 41, UINT64_MAX);
    expect_records(c, 41, 50);
    log_cursor_close(c);
    log_down(log, link);
    feed_down(f);
}

static void a_time_is_found(void **state) {
    struct feed *f = feed_up("time", cluster_a);
    struct feed_link *link;
    struct log_source *log = log_up(feed_endpoint(f), &link);
    uint64_t newest = 0;
    for (uint64_t i = 1; i <= last; i++) {
        size_t bytes;
        const struct record_header *h = history_records(&history, SHARD, i, i, &bytes);
        if (h->type != RECORD_EVENTS) continue;
        int64_t time_ms = ((const struct entry_header *)(const void *)(h + 1))->time_ms;
        uint64_t at = log_source_index_at(log, time_ms - 1);
        assert_true(at < i);   /* that entry is younger */
        assert_true(at >= newest || newest == 0);
        assert_true(log_source_index_at(log, time_ms) >= i);
        newest = at;
    }
    assert_int_equal(log_source_index_at(log, 0), 0);
    assert_int_equal(log_source_index_at(log, INT64_MAX), last);
    assert_null(log_source_failure(log));
    log_down(log, link);
    feed_down(f);
}

struct return_of { const char *name, *cluster; struct feed *feed; };

static void *come_back(void *arg) {
    struct return_of *r = arg;
    usleep(300000);
    r->feed = feed_up(r->name, r->cluster);
    return NULL;
}

static void a_feed_that_comes_back_is_gone_on_with(void **state) {
    struct feed *f = feed_up("back", cluster_a);
    struct feed_link *link;
    struct log_source *log = log_up(feed_endpoint(f), &link);
    struct log_cursor *c = log_cursor_open(log, 1, UINT64_MAX, true);
    struct log_item item;
    struct return_of again = {"back", cluster_a, f};
    for (uint64_t i = 1; i <= last; i++) {
        if (i % (last / 3) == 0) {
            pthread_t thread;
            feed_down(again.feed);
            assert_int_equal(pthread_create(&thread, NULL, come_back, &again), 0);
            pthread_join(thread, NULL);
        }
        assert_int_equal(log_cursor_next(c, &item), LOG_RECORD);
        is_record(&item, i);
    }
    /* Away while it is asked. */
    pthread_t thread;
    feed_down(again.feed);
    assert_int_equal(pthread_create(&thread, NULL, come_back, &again), 0);
    log_cursor_seek(c, 1, UINT64_MAX);
    expect_records(c, 1, last);
    pthread_join(thread, NULL);
    assert_null(log_source_failure(log));
    log_cursor_close(c);
    log_down(log, link);
    feed_down(again.feed);
}

static void a_feed_that_stays_away_is_told(void **state) {
    struct feed *f = feed_up("away", cluster_a);
    struct feed_link *link;
    struct log_source *log = log_up(feed_endpoint(f), &link);
    struct log_cursor *c = log_cursor_open(log, 1, UINT64_MAX, true);
    struct log_item item;
    assert_int_equal(log_cursor_next(c, &item), LOG_RECORD);
    feed_down(f);
    feed_link_settings.patience_ms = 300;
    log_cursor_seek(c, 2, UINT64_MAX);
    assert_int_equal(log_cursor_next(c, &item), LOG_END);
    assert_non_null(strstr(log_source_failure(log), "the node is away"));
    assert_int_equal(log_cursor_next(c, &item), LOG_END);
    log_cursor_close(c);
    log_down(log, link);
}

static void another_cluster_is_not_gone_on_with(void **state) {
    struct feed *f = feed_up("other", cluster_a);
    struct feed_link *link;
    struct log_source *log = log_up(feed_endpoint(f), &link);
    struct log_cursor *c = log_cursor_open(log, 1, UINT64_MAX, true);
    struct log_item item;
    struct return_of other = {"other", cluster_b, NULL};
    pthread_t thread;
    assert_int_equal(log_cursor_next(c, &item), LOG_RECORD);
    feed_down(f);
    log_cursor_seek(c, 100, 200); /* asked for while nobody is there */
    assert_int_equal(pthread_create(&thread, NULL, come_back, &other), 0);
    char error[256] = "";
    while (log_source_refresh(log, error, sizeof error) != 0 && !strstr(error, "another cluster"))
        usleep(20000);
    assert_non_null(strstr(error, "another cluster"));
    pthread_join(thread, NULL);
    log_cursor_close(c);
    log_down(log, link);
    feed_down(other.feed);
}

static void who_has_had_enough_waits_no_longer(void **state) {
    struct feed *f = feed_up("enough", cluster_a);
    struct feed_link *link;
    struct log_source *log = log_up(feed_endpoint(f), &link);
    struct log_cursor *c = log_cursor_open(log, 1, UINT64_MAX, true);
    struct log_item item;
    feed_down(f);
    feed_link_settings.patience_ms = INT32_MAX;
    atomic_store(&enough, true);
    assert_int_equal(log_cursor_next(c, &item), LOG_END);
    assert_non_null(log_source_failure(log));
    log_cursor_close(c);
    log_down(log, link);
}

static void what_retention_takes_is_dropped(void **state) {
    struct feed *f = feed_up("retention", cluster_a);
    struct feed_link *link;
    struct log_source *log = log_up(feed_endpoint(f), &link);
    struct log_cursor *c = log_cursor_open(log, 1, UINT64_MAX, true);
    struct log_item item;
    storage->ops->retain(storage, last, INT64_MAX);
    storage_memory_advance(disk, 100000);
    struct storage_stats stats;
    storage->ops->stats(storage, &stats);
    assert_true(stats.log_first > 1);
    assert_int_equal(log_cursor_next(c, &item), LOG_DROPPED);
    assert_int_equal(item.index, 1);
    assert_int_equal(item.upto, stats.log_first - 1);
    assert_non_null(strstr(item.what, "import_required"));
    expect_records(c, stats.log_first, last);
    log_cursor_close(c);
    log_down(log, link);
    log = log_up(feed_endpoint(f), &link);
    uint64_t begin, end;
    log_source_range(log, &begin, &end);
    assert_int_equal(begin, stats.log_first);
    log_down(log, link);
    feed_down(f);
}

/* -- a feed that lies -------------------------------------------------------------------- */

enum lie { LIE_FLIP, LIE_CUT, LIE_LEAVE_OUT, LIE_SHARD, LIE_RUBBISH, LIE_CLUSTER, LIE_COUNT };

struct liar { nng_socket socket; pthread_t thread; enum lie lie; };

static void liar_hello(struct msgpack_writer *w) {
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, 0);
    msgpack_write_map(w, 4);
    msgpack_write_text(w, "cluster_id");
    msgpack_write_text(w, cluster_a);
    msgpack_write_text(w, "node_id");
    msgpack_write_uint(w, 1);
    msgpack_write_text(w, "shards_count");
    msgpack_write_uint(w, 2);
    msgpack_write_text(w, "shards");
    msgpack_write_array(w, 1);
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, SHARD);
    msgpack_write_uint(w, 1);
    msgpack_write_uint(w, last);
}

/* The whole log in one answer, changed at record 7. */
static void liar_pull(struct msgpack_writer *w, enum lie lie, uint64_t from) {
    size_t bytes, before, one;
    const uint8_t *all = history_records(&history, SHARD, from, last, &bytes);
    uint8_t *copy = malloc(bytes);
    memcpy(copy, all, bytes);
    if (from <= 7) {
        before = 0;
        if (from < 7) history_records(&history, SHARD, from, 6, &before);
        history_records(&history, SHARD, 7, 7, &one);
        if (lie == LIE_FLIP) copy[before + one - 9] ^= 1;
        if (lie == LIE_CUT) memset(copy + before + 24, 0xff, 4); /* its length */
        if (lie == LIE_LEAVE_OUT) {
            memmove(copy + before, copy + before + one, bytes - before - one);
            bytes -= one;
        }
    }
    msgpack_write_array(w, lie == LIE_CLUSTER ? 10 : 8);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, 0);
    msgpack_write_uint(w, lie == LIE_SHARD ? SHARD + 1 : SHARD);
    msgpack_write_uint(w, from);
    msgpack_write_uint(w, last + 1);
    msgpack_write_uint(w, last);
    msgpack_write_int(w, 1);
    msgpack_write_bin(w, copy, (uint32_t)bytes);
    if (lie == LIE_CLUSTER) msgpack_write_nil(w);
    if (lie == LIE_CLUSTER) msgpack_write_text(w, cluster_b); /* who came to stand there since */
    free(copy);
}

static void *liar_main(void *arg) {
    struct liar *l = arg;
    nng_msg *message;
    while (nng_recvmsg(l->socket, &message, 0) == 0) {
        struct feed_request request;
        struct msgpack_writer w;
        uint8_t *room = malloc(4 << 20);
        bool is_one = feed_request_decode(nng_msg_body(message), nng_msg_len(message), &request) ==
                      RESULT_OK;
        msgpack_writer_init(&w, room, 4 << 20);
        if (!is_one || (l->lie == LIE_RUBBISH && request.kind == FEED_PULL)) {
            msgpack_write_text(&w, "what?");
        } else if (request.kind == FEED_HELLO) {
            liar_hello(&w);
        } else {
            liar_pull(&w, l->lie, request.from);
        }
        nng_msg_clear(message);
        assert_int_equal(nng_msg_append(message, room, msgpack_writer_size(&w)), 0);
        free(room);
        if (nng_sendmsg(l->socket, message, 0) != 0) nng_msg_free(message);
    }
    return NULL;
}

static void judge_lie(enum lie lie, struct log_source *log, struct log_cursor *c) {
    struct log_item item;
    enum log_step step = LOG_RECORD;
    uint64_t good = 0;
    while ((step = log_cursor_next(c, &item)) == LOG_RECORD && good < 7) good++;
    switch (lie) {
    case LIE_FLIP:
    case LIE_LEAVE_OUT:
        assert_int_equal(good, 6);
        assert_int_equal(step, LOG_FAULT);
        assert_int_equal(item.index, 7);
        assert_int_equal(item.upto, 7);
        assert_int_equal(item.fault, lie == LIE_FLIP ? LOG_FAULT_DAMAGED : LOG_FAULT_MISSING);
        expect_records(c, 8, last);
        break;
    case LIE_CUT: /* what lies behind a length that cannot be is not to be found */
        assert_int_equal(good, 6);
        assert_int_equal(step, LOG_FAULT);
        assert_int_equal(item.index, 7);
        assert_int_equal(item.upto, last);
        assert_int_equal(item.fault, LOG_FAULT_DAMAGED);
        assert_int_equal(log_cursor_next(c, &item), LOG_END);
        break;
    default:
        assert_int_equal(good, 0);
        assert_int_equal(step, LOG_END);
        assert_non_null(log_source_failure(log));
        if (lie == LIE_CLUSTER)
            assert_non_null(strstr(log_source_failure(log), "another cluster"));
    }
}

static void lies_are_found(void **state) {
    for (enum lie lie = LIE_FLIP; lie < LIE_COUNT; lie++) {
        struct liar l = {.lie = lie};
        struct feed_link *link;
        assert_int_equal(nng_rep0_open(&l.socket), 0);
        assert_int_equal(nng_listen(l.socket, "inproc://feed-log-liar", NULL, 0), 0);
        assert_int_equal(pthread_create(&l.thread, NULL, liar_main, &l), 0);
        struct log_source *log = log_up("inproc://feed-log-liar", &link);
        struct log_cursor *c = log_cursor_open(log, 1, UINT64_MAX, true);
        judge_lie(lie, log, c);
        log_cursor_close(c);
        log_down(log, link);
        nng_close(l.socket);
        pthread_join(l.thread, NULL);
    }
}

static void words_that_are_addresses(void **state) {
    assert_true(feed_link_is_one("tcp://127.0.0.1:7400"));
    assert_true(feed_link_is_one("ipc:///tmp/x"));
    assert_false(feed_link_is_one("jumun-data"));
    assert_false(feed_link_is_one("./tcp://x"));
    assert_false(feed_link_is_one("/a/b://c"));
    assert_false(feed_link_is_one("://x"));
}

int main(void) {
#define FEED_LOG_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        FEED_LOG_TEST(all_records_come_in_order),
        FEED_LOG_TEST(only_what_is_committed_is_there),
        FEED_LOG_TEST(a_time_is_found),
        FEED_LOG_TEST(a_feed_that_comes_back_is_gone_on_with),
        FEED_LOG_TEST(a_feed_that_stays_away_is_told),
        FEED_LOG_TEST(another_cluster_is_not_gone_on_with),
        FEED_LOG_TEST(who_has_had_enough_waits_no_longer),
        FEED_LOG_TEST(what_retention_takes_is_dropped),
        FEED_LOG_TEST(lies_are_found),
        cmocka_unit_test(words_that_are_addresses),
    };
    return cmocka_run_group_tests_name("feed_log", tests, NULL, NULL);
}
