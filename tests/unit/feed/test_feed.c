/* The feed: batches in all forms, look-ups of times, and the server with its bounds, over a log on
 * a simulated disk. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/feed/feed.h"
#include "engine/feed/feed_batch.h"
#include "engine/feed/notify.h"
#include "engine/replica/feed_client.h"
#include "engine/wire/msgpack_reader.h"
#include "tests/unit/replica/history_world.h"
#include "tests/world/storage_memory.h"

enum { SHARD = 1, WAIT_MS = 30000, SETTLE_MS = 5000 };

static struct storage_memory *disk;
static struct storage *storage;
static struct history history;
static uint64_t last;
static uint8_t *buffer;

static int set_up(void **state) {
    const struct storage_memory_options options = {.seed = 1, .segment_records = 32};
    history_init(&history, 3);
    history_grow(&history, 600);
    disk = storage_memory_new(&options);
    storage = storage_memory_open(disk);
    buffer = malloc(FEED_BATCH_ROOM_BYTES);
    assert_true(disk && storage && buffer);
    last = history.logs[SHARD].last;
    storage->ops->append(storage, history_appendable(&history, SHARD, last));
    storage_memory_advance(disk, 1);
    struct storage_stats stats;
    storage->ops->stats(storage, &stats);
    assert_int_equal(stats.log_last, last);
    return 0;
}

static int tear_down(void **state) {
    storage->ops->close(storage);
    storage_memory_free(disk);
    history_fini(&history);
    free(buffer);
    return 0;
}

static struct feed_request pull_of(uint64_t from, uint8_t form, uint32_t bytes_max) {
    return (struct feed_request){.kind = FEED_PULL, .shard = SHARD, .from = from, .form = form,
                                 .bytes_max = bytes_max};
}

/* -- batches ----------------------------------------------------------------------------------- */

static void records_come_as_they_lie(void **state) {
    uint64_t from = 1;
    uint32_t batches = 0;
    while (from <= last) {
        struct feed_request q = pull_of(from, FEED_RECORDS, 3000);
        struct feed_batch b;
        struct msgpack_reader r;
        const void *data = NULL;
        uint32_t size = 0;
        size_t expected;
        assert_int_equal(feed_batch_read(storage, &q, last, buffer, &b), FEED_BATCH_DONE);
        assert_true(b.next > from);
        msgpack_reader_init(&r, buffer, b.bytes);
        assert_int_equal(msgpack_read_bin(&r, &data, &size), MSGPACK_OK);
        assert_int_equal(msgpack_reader_left(&r), 0);
        const void *wanted = history_records(&history, SHARD, from, b.next - 1, &expected);
        assert_int_equal(size, expected);
        assert_memory_equal(data, wanted, size);
        from = b.next;
        batches++;
    }
    assert_true(batches > 3);
}

static void nothing_behind_the_commit_is_read(void **state) {
    struct feed_request q = pull_of(5, FEED_RECORDS, FEED_BATCH_BYTES_MAX);
    struct feed_batch b;
    assert_int_equal(feed_batch_read(storage, &q, 8, buffer, &b), FEED_BATCH_DONE);
    assert_int_equal(b.next, 9);
    assert_int_equal(b.entries, 4);
    assert_int_equal(feed_batch_read(storage, &q, 4, buffer, &b), FEED_BATCH_DONE);
    assert_int_equal(b.next, 5);
    assert_int_equal(b.entries, 0);
}

/* Events of these kinds, counted by the plainest walk. */
static uint32_t count_events(uint8_t kind) {
    uint32_t count = 0;
    for (uint64_t i = 1; i <= last; i++) {
        size_t bytes;
        const struct record_header *h = history_records(&history, SHARD, i, i, &bytes);
        if (h->type != RECORD_EVENTS) continue;
        const struct entry_header *entry = (const void *)(h + 1);
        uint32_t offset = 0, size = h->payload_bytes - (uint32_t)sizeof *entry;
        const struct event *e;
        while ((e = event_next(entry + 1, size, &offset))) count += kind == 0 || e->kind == kind;
    }
    return count;
}

static uint32_t batch_events(uint8_t form, uint8_t kind, uint32_t items) {
    uint32_t events = 0;
    for (uint64_t from = 1; from <= last;) {
        struct feed_request q = pull_of(from, form, 20000);
        struct feed_batch b;
        struct msgpack_reader r;
        uint32_t rows = 0, count;
        q.filtered = kind != 0;
        q.kinds[kind / 64] = 1ull << kind % 64;
        assert_int_equal(feed_batch_read(storage, &q, last, buffer, &b), FEED_BATCH_DONE);
        msgpack_reader_init(&r, buffer, b.bytes);
        assert_int_equal(msgpack_read_array(&r, &rows), MSGPACK_OK);
        assert_int_equal(rows, b.events);
        for (uint32_t i = 0; i < rows; i++) {
            if (items) {
                struct msgpack_reader row = r;
                assert_int_equal(msgpack_read_array(&row, &count), MSGPACK_OK);
                assert_int_equal(count, items);
            } else {
                assert_int_equal(msgpack_peek(&r), MSGPACK_TYPE_MAP);
            }
            assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
        }
        assert_int_equal(msgpack_reader_left(&r), 0);
        events += rows;
        from = b.next;
    }
    return events;
}

static void forms_and_filters_bring_each_event_once(void **state) {
    assert_int_equal(batch_events(FEED_MARKS, 0, 6), count_events(0));
    assert_int_equal(batch_events(FEED_EVENTS, 0, 3), count_events(0));
    assert_int_equal(batch_events(FEED_MAPS, 0, 0), count_events(0));
    assert_true(count_events(EVENT_ORDER_PLACED) > 10);
    assert_int_equal(batch_events(FEED_MARKS, EVENT_ORDER_PLACED, 6),
                     count_events(EVENT_ORDER_PLACED));
    assert_int_equal(batch_events(FEED_EVENTS, EVENT_ORDER_ANNOTATED, 3),
                     count_events(EVENT_ORDER_ANNOTATED));
}

static void a_time_is_found(void **state) {
    char error[256];
    for (int i = 0; i < 200; i++) {
        int64_t time_ms = 1767225600000 + (history.now_ms - 1767225600000) / 150 * (i - 10);
        uint64_t found, wanted = 0;
        for (uint64_t n = 1; n <= last && wanted == 0; n++) {
            size_t bytes;
            const struct record_header *h = history_records(&history, SHARD, n, n, &bytes);
            if (h->type != RECORD_EVENTS) continue;
            if (((const struct entry_header *)(const void *)(h + 1))->time_ms >= time_ms)
                wanted = n;
        }
        assert_true(feed_locate(storage, 1, last, time_ms, &found, error, sizeof error));
        /* Barriers before it carry no time: they may count as what stands behind them. */
        if (wanted == 0) {
            assert_true(found <= last + 1);
        } else {
            assert_true(found <= wanted);
            for (uint64_t n = found; n < wanted; n++) {
                size_t bytes;
                const struct record_header *h = history_records(&history, SHARD, n, n, &bytes);
                assert_int_not_equal(h->type, RECORD_EVENTS);
            }
        }
    }
}

/* -- the server -------------------------------------------------------------------------------- */

static atomic_ullong committed;

static atomic_bool committed_known = true;

static uint64_t commit_index(void *arg) { return atomic_load(&committed); }

static bool commit_known(void *arg) { return atomic_load(&committed_known); }

static uint32_t commit_times(void *arg, uint64_t from, uint64_t upto, struct commit_moment *moments,
                             uint32_t max) {
    if (from > 12 || max < 2) return 0;
    moments[0] = (struct commit_moment){4, 0};
    moments[1] = (struct commit_moment){12, clock_unix_ms() - 5000};
    return 2;
}

/* The same log with a gap in it, as an installed state leaves one. */
static atomic_ullong gap_first, gap_last; /* gap_first 0 = there is none */
static atomic_uint gap_looks;  /* reads that began in it */

static void gapped_stats(struct storage *s, struct storage_stats *stats) {
    storage->ops->stats(storage, stats);
    stats->gaps = gap_first != 0;
    stats->gap_first = gap_first;
    stats->gap_last = gap_last;
}

static bool gapped_gap(struct storage *s, uint32_t position, struct storage_gap *out) {
    *out = (struct storage_gap){.first = gap_first, .last = gap_last};
    return position == 0 && gap_first != 0;
}

static int gapped_read(struct storage *s, uint64_t first, uint64_t upto,
                       bool (*visit)(void *arg, const struct record_header *record,
                                     const void *payload),
                       void *arg, char *error, size_t error_bytes) {
    bool meets = gap_first != 0 && first <= gap_last && upto >= gap_first;
    if (!meets) return storage->ops->read(storage, first, upto, visit, arg, error, error_bytes);
    if (first < gap_first) {
        int rc = storage->ops->read(storage, first, gap_first - 1, visit, arg, error, error_bytes);
        if (rc != 0) return rc;
    } else {
        atomic_fetch_add(&gap_looks, 1);
    }
    snprintf(error, error_bytes, "record %llu is not stored", (unsigned long long)gap_first);
    return -1;
}

static struct storage_ops gapped_ops;
static struct storage gapped = {.ops = &gapped_ops};

static void gap_make(uint64_t first, uint64_t upto) {
    gapped_ops = *storage->ops;
    gapped_ops.stats = gapped_stats;
    gapped_ops.gap = gapped_gap;
    gapped_ops.read = gapped_read;
    gap_last = upto;
    gap_first = first;
    atomic_store(&gap_looks, 0);
}

static struct feed *feed_up(const char *name) {
    static char listen[64], notify[64];
    char error[256] = "";
    snprintf(listen, sizeof listen, "inproc://feed-%s", name);
    snprintf(notify, sizeof notify, "inproc://notify-%s", name);
    const struct feed_options options = {.listen = listen, .notify = notify,
                                         .cluster_id = "0123456789abcdef0123456789abcdef",
                                         .node_id = 7, .shards_count = 2, .threads = 2};
    const struct feed_source source = {storage, commit_index, commit_times, NULL,
                                       commit_known};
    struct feed *f = feed_open(&options, error, sizeof error);
    if (!f) fail_msg("%s", error);
    feed_add(f, SHARD, &source);
    assert_true(feed_start(f, error, sizeof error));
    return f;
}

static struct feed_reply answer_to(const struct feed *f, nng_msg *request, nng_msg **reply) {
    char error[256] = "";
    struct feed_reply p;
    int rc = feed_ask(feed_endpoint(f), nng_msg_body(request), nng_msg_len(request), WAIT_MS, NULL,
                      reply, error, sizeof error);
    nng_msg_free(request);
    if (rc != 0) fail_msg("%s", error);
    assert_true(feed_reply_decode(nng_msg_body(*reply), nng_msg_len(*reply), FEED_PULL,
                                  FEED_RECORDS, &p));
    return p;
}

static void a_pull_waits_for_a_commit(void **state) {
    nng_msg *reply;
    atomic_store(&committed, 10);
    struct feed *f = feed_up("wait");
    struct feed_reply p = answer_to(f, feed_pull_message(SHARD, 1, 0, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_OK);
    assert_int_equal(p.next, 11);
    assert_int_equal(p.commit, 10);
    assert_int_equal(p.cluster.size, 32);
    assert_true(feed_reply_is_of(&p, "0123456789abcdef0123456789abcdef"));
    assert_true(feed_reply_is_of(&p, ""));
    assert_false(feed_reply_is_of(&p, "fedcba9876543210fedcba9876543210"));
    struct feed_times times = {.rest = p.times, .now_ms = p.now_ms};
    uint64_t upto;
    int64_t ms;
    assert_true(feed_times_next(&times, &upto, &ms));
    assert_int_equal(upto, 4);
    assert_int_equal(ms, 0);
    assert_true(feed_times_next(&times, &upto, &ms));
    assert_int_equal(upto, 12);
    assert_true(ms > 0 && ms <= p.now_ms - 5000);
    assert_false(feed_times_next(&times, &upto, &ms));
    nng_msg_free(reply);
    p = answer_to(f, feed_pull_message(SHARD, 11, 20, 1 << 20), &reply); /* nothing comes */
    assert_int_equal(p.code, RESULT_OK);
    assert_int_equal(p.next, 11);
    assert_int_equal(p.records.size, 0);
    nng_msg_free(reply);
    atomic_store(&committed, 12);
    p = answer_to(f, feed_pull_message(SHARD, 11, WAIT_MS, 1 << 20), &reply);
    assert_int_equal(p.next, 13);
    nng_msg_free(reply);
    /* What is committed and not on this disk yet is not told. */
    atomic_store(&committed, last + 100);
    p = answer_to(f, feed_pull_message(SHARD, last, 0, 1 << 20), &reply);
    assert_int_equal(p.next, last + 1);
    assert_int_equal(p.commit, last);
    nng_msg_free(reply);
    /* Nor that there is nothing newer. */
    p = answer_to(f, feed_pull_message(SHARD, last + 1, 20, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_OK);
    assert_int_equal(p.next, last + 1);
    assert_int_equal(p.records.size, 0);
    assert_int_equal(p.commit, last + 100);
    nng_msg_free(reply);
    feed_stop(f);
    feed_close(f);
}

/* The payload of one pull; what it was shared with is counted. */
static uint64_t pull_once(struct feed *f, uint64_t from, uint32_t bytes_max, uint64_t next,
                          uint32_t log) {
    nng_msg *reply;
    size_t expected;
    struct feed_reply p = answer_to(f, feed_pull_message(SHARD, from, 0, bytes_max), &reply);
    assert_int_equal(p.code, RESULT_OK);
    assert_int_equal(p.next, next);
    const void *wanted = history_records(&history, log, from, next - 1, &expected);
    assert_int_equal(p.records.size, expected);
    assert_memory_equal(p.records.data, wanted, expected);
    nng_msg_free(reply);
    struct feed_stats stats;
    feed_stats(f, &stats);
    return stats.shared;
}

static void two_who_ask_for_the_same_share_it(void **state) {
    atomic_store(&committed, 10);
    struct feed *f = feed_up("shared");
    assert_int_equal(pull_once(f, 1, 1 << 20, 11, SHARD), 0);
    assert_int_equal(pull_once(f, 1, 1 << 20, 11, SHARD), 1);
    assert_int_equal(pull_once(f, 2, 1 << 20, 11, SHARD), 1); /* from elsewhere on */
    assert_int_equal(pull_once(f, 2, 2 << 20, 11, SHARD), 1); /* or in another size */
    atomic_store(&committed, 12);
    assert_int_equal(pull_once(f, 2, 2 << 20, 11, SHARD), 2); /* the rest comes with the next */
    assert_int_equal(pull_once(f, 11, 2 << 20, 13, SHARD), 2);
    assert_int_equal(pull_once(f, 1, 2 << 20, 13, SHARD), 2);
    atomic_store(&committed, 10); /* less is known here than was: no more is given */
    assert_int_equal(pull_once(f, 1, 2 << 20, 11, SHARD), 2);
    /* Another log under the same number. */
    const struct feed_source source = {storage, commit_index, commit_times, NULL, commit_known};
    feed_remove(f, SHARD);
    feed_add(f, SHARD, &source);
    assert_int_equal(pull_once(f, 1, 2 << 20, 11, SHARD), 2);
    feed_stop(f);
    feed_close(f);
}

/* A replica that knows no leader may know far less than the group has committed. */
static void who_does_not_know_says_not_that_there_is_nothing_newer(void **state) {
    nng_msg *reply;
    atomic_store(&committed, 10);
    atomic_store(&committed_known, false);
    struct feed *f = feed_up("unknown");
    struct feed_reply p = answer_to(f, feed_pull_message(SHARD, 1, 0, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_OK);
    assert_int_equal(p.next, 11);
    assert_int_equal(p.commit, 11);
    nng_msg_free(reply);
    p = answer_to(f, feed_pull_message(SHARD, 11, 20, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_NOT_READY);
    nng_msg_free(reply);
    atomic_store(&committed_known, true);
    p = answer_to(f, feed_pull_message(SHARD, 11, 20, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_OK);
    assert_int_equal(p.commit, 10);
    nng_msg_free(reply);
    feed_stop(f);
    feed_close(f);
}

static void what_cannot_be_is_refused(void **state) {
    nng_msg *reply;
    atomic_store(&committed, last);
    struct feed *f = feed_up("refuse");
    struct feed_reply p = answer_to(f, feed_pull_message(0, 1, 0, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_SHARD_NOT_HERE);
    nng_msg_free(reply);
    p = answer_to(f, feed_pull_message(SHARD, 0, 0, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_MALFORMED_MESSAGE);
    nng_msg_free(reply);
    storage->ops->retain(storage, last, INT64_MAX);
    storage_memory_advance(disk, 100000);
    struct storage_stats stats;
    storage->ops->stats(storage, &stats);
    assert_true(stats.log_first > 1);
    p = answer_to(f, feed_pull_message(SHARD, 1, 0, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_IMPORT_REQUIRED);
    assert_int_equal(p.detail, stats.log_first);
    nng_msg_free(reply);
    p = answer_to(f, feed_pull_message(SHARD, p.detail, 0, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_OK);
    nng_msg_free(reply);
    feed_remove(f, SHARD);
    p = answer_to(f, feed_pull_message(SHARD, last, 0, 1 << 20), &reply);
    assert_int_equal(p.code, RESULT_SHARD_NOT_HERE);
    nng_msg_free(reply);
    feed_stop(f);
    feed_close(f);
}

static void hello_tells_what_is_here(void **state) {
    struct feed_hello_shard shards[4];
    struct feed_hello hello = {.shards = shards, .shards_max = 4};
    char error[256] = "";
    nng_msg *reply;
    atomic_store(&committed, 42);
    struct feed *f = feed_up("hello");
    assert_int_equal(feed_hello(feed_endpoint(f), WAIT_MS, NULL, &hello, &reply, error,
                                sizeof error), 0);
    assert_string_equal(hello.cluster_id, "0123456789abcdef0123456789abcdef");
    assert_int_equal(hello.node_id, 7);
    assert_int_equal(hello.shards_count, 2);
    assert_int_equal(hello.shards_held, 1);
    assert_int_equal(shards[0].shard, SHARD);
    assert_int_equal(shards[0].commit, 42);
    nng_msg_free(reply);
    feed_stop(f);
    feed_close(f);
}

/* A consumer that asks and never reads its answers; another one is served all the same. */
static void a_dead_consumer_stops_nobody(void **state) {
    nng_socket dead[40];
    nng_msg *reply;
    atomic_store(&committed, last);
    struct feed *f = feed_up("dead");
    for (int i = 0; i < 40; i++) {
        assert_int_equal(nng_req0_open(&dead[i]), 0);
        assert_int_equal(nng_dial(dead[i], feed_endpoint(f), NULL, 0), 0);
        nng_msg *request = feed_pull_message(SHARD, last + 1, FEED_WAIT_MS_MAX, 1 << 20);
        assert_int_equal(nng_sendmsg(dead[i], request, 0), 0);
    }
    for (int i = 0; i < 20; i++) {
        struct feed_reply p = answer_to(f, feed_pull_message(SHARD, 1, 0, 1 << 20), &reply);
        assert_int_equal(p.code, RESULT_OK);
        nng_msg_free(reply);
    }
    for (int i = 0; i < 40; i++) nng_close(dead[i]);
    feed_stop(f);
    feed_close(f);
}

static void notices_come_by_topic(void **state) {
    nng_socket sub;
    nng_msg *message;
    atomic_store(&committed, 0);
    struct feed *f = feed_up("notices");
    assert_int_equal(nng_sub0_open(&sub), 0);
    /* The encoded str of the topic: nothing else begins with it. */
    static const uint8_t topic[] = {0xad, 's', 't', 'o', 'r', 'e', '/', 's', 't', 'o', 'r', 'e',
                                    '-', '1'};
    assert_int_equal(nng_socket_set(sub, NNG_OPT_SUB_SUBSCRIBE, topic, sizeof topic), 0);
    assert_int_equal(nng_dial(sub, feed_notify_endpoint(f), NULL, 0), 0);
    /* The feed's first look begins with what is to come: the log goes on until it is heard. */
    assert_int_equal(nng_socket_set_ms(sub, NNG_OPT_RECVTIMEO, 20), 0);
    int rc = NNG_ETIMEDOUT;
    for (uint64_t to = 1; rc != 0 && to <= last; to++) {
        atomic_store(&committed, to);
        rc = nng_recvmsg(sub, &message, 0);
    }
    assert_int_equal(rc, 0);
    struct msgpack_reader r;
    uint32_t items = 0;
    uint64_t kind = 0;
    msgpack_reader_init(&r, nng_msg_body(message), nng_msg_len(message));
    assert_memory_equal(nng_msg_body(message), topic, sizeof topic);
    assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
    assert_int_equal(msgpack_read_array(&r, &items), MSGPACK_OK);
    assert_int_equal(items, 6);
    assert_int_equal(msgpack_read_uint(&r, &kind), MSGPACK_OK);
    assert_int_equal(kind, EVENT_ORDER_PLACED);
    nng_msg_free(message);
    nng_close(sub);
    feed_stop(f);
    feed_close(f);
}

/* A time is looked up behind the gap, as what lies in it cannot be read. */
static void a_time_is_found_beside_a_gap(void **state) {
    nng_msg *reply;
    uint8_t room[64];
    char error[256] = "";
    struct msgpack_writer w;
    struct feed_reply p;
    gap_make(5, last - 20);
    atomic_store(&committed, last);
    struct feed *f = feed_up("gap");
    feed_remove(f, SHARD);
    const struct feed_source source = {&gapped, commit_index, commit_times, NULL, commit_known};
    feed_add(f, SHARD, &source);
    msgpack_writer_init(&w, room, sizeof room);
    msgpack_write_array(&w, 4);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_LOCATE);
    msgpack_write_uint(&w, SHARD);
    msgpack_write_uint(&w, 1);
    assert_int_equal(feed_ask(feed_endpoint(f), room, msgpack_writer_size(&w), WAIT_MS, NULL,
                              &reply, error, sizeof error), 0);
    assert_true(feed_reply_decode(nng_msg_body(reply), nng_msg_len(reply), FEED_LOCATE,
                                  FEED_RECORDS, &p));
    assert_int_equal(p.code, RESULT_OK);
    assert_int_equal(p.next, last - 19);
    nng_msg_free(reply);
    feed_stop(f);
    feed_close(f);
    gap_first = 0;
}

/* A state was installed while somebody listened: what stands behind it is told. */
static void notices_go_on_behind_a_gap(void **state) {
    nng_socket sub;
    nng_msg *message;
    gap_first = 0;
    gap_make(0, 0);
    atomic_store(&committed, 1);
    struct feed *f = feed_up("notices-gap");
    feed_remove(f, SHARD);
    const struct feed_source source = {&gapped, commit_index, commit_times, NULL, commit_known};
    feed_add(f, SHARD, &source);
    assert_int_equal(nng_sub0_open(&sub), 0);
    assert_int_equal(nng_socket_set(sub, NNG_OPT_SUB_SUBSCRIBE, "", 0), 0);
    assert_int_equal(nng_dial(sub, feed_notify_endpoint(f), NULL, 0), 0);
    assert_int_equal(nng_socket_set_ms(sub, NNG_OPT_RECVTIMEO, 20), 0);
    uint64_t to = 1;
    int rc = NNG_ETIMEDOUT;
    for (; rc != 0 && to <= last / 2; to++) {
        atomic_store(&committed, to);
        rc = nng_recvmsg(sub, &message, 0);
        if (rc == 0) nng_msg_free(message);
    }
    assert_int_equal(rc, 0);
    while (nng_recvmsg(sub, &message, 0) == 0) nng_msg_free(message);
    gap_last = last - 20;
    gap_first = to;
    atomic_store(&committed, last);
    assert_int_equal(nng_socket_set_ms(sub, NNG_OPT_RECVTIMEO, SETTLE_MS), 0);
    assert_int_equal(nng_recvmsg(sub, &message, 0), 0);
    nng_msg_free(message);
    assert_true(atomic_load(&gap_looks) <= 2);
    nng_close(sub);
    feed_stop(f);
    feed_close(f);
    gap_first = 0;
}

static void await_subscribers(const struct notifier *n, uint32_t wanted) {
    for (int ms = 0; notifier_subscribers(n) != wanted; ms++) {
        if (ms == WAIT_MS) fail_msg("%u subscribers", notifier_subscribers(n));
        usleep(1000);
    }
}

/* Who connects and speaks something else is turned away, and no subscriber less for it. */
static void a_stranger_takes_no_subscriber_away(void **state) {
    nng_socket sub, stranger;
    nng_msg *message;
    char error[256] = "";
    static const struct notice notice = {.key = {{1}}, .index = 1, .version = 1};
    struct notifier *n = notifier_open("inproc://notify-stranger", NULL, error, sizeof error);
    if (!n) fail_msg("%s", error);
    assert_int_equal(nng_sub0_open(&sub), 0);
    assert_int_equal(nng_socket_set(sub, NNG_OPT_SUB_SUBSCRIBE, "", 0), 0);
    assert_int_equal(nng_socket_set_ms(sub, NNG_OPT_RECVTIMEO, WAIT_MS), 0);
    assert_int_equal(nng_dial(sub, notifier_endpoint(n), NULL, 0), 0);
    await_subscribers(n, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(nng_req0_open(&stranger), 0);
        nng_dial(stranger, notifier_endpoint(n), NULL, NNG_FLAG_NONBLOCK);
        usleep(20000);
        nng_close(stranger);
    }
    await_subscribers(n, 1);
    assert_true(notifier_is_heard(n));
    notifier_send(n, &notice);
    assert_int_equal(nng_recvmsg(sub, &message, 0), 0);
    nng_msg_free(message);
    nng_close(sub);
    await_subscribers(n, 0);
    notifier_close(n);
}

/* Each thread has its own shards. */
static void pulls_that_wait_are_counted_over_all_threads(void **state) {
    nng_socket asks[2];
    struct feed_stats stats;
    atomic_store(&committed, last);
    struct feed *f = feed_up("waiting");
    const struct feed_source source = {storage, commit_index, commit_times, NULL, commit_known};
    feed_add(f, SHARD + 1, &source);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(nng_req0_open(&asks[i]), 0);
        assert_int_equal(nng_dial(asks[i], feed_endpoint(f), NULL, 0), 0);
        nng_msg *pull = feed_pull_message(SHARD + i, last + 1, WAIT_MS, 1 << 20);
        assert_int_equal(nng_sendmsg(asks[i], pull, 0), 0);
    }
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    do {
        assert_true(clock_mono_ms() < until_ms);
        usleep(2000);
        feed_stats(f, &stats);
    } while (stats.waiting != 2);
    usleep(100000);
    feed_stats(f, &stats);
    assert_int_equal(stats.waiting, 2);
    nng_close(asks[0]);
    nng_close(asks[1]);
    feed_stop(f);
    feed_close(f);
}

int main(void) {
#define FEED_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        FEED_TEST(records_come_as_they_lie),
        FEED_TEST(nothing_behind_the_commit_is_read),
        FEED_TEST(forms_and_filters_bring_each_event_once),
        FEED_TEST(a_time_is_found),
        FEED_TEST(a_pull_waits_for_a_commit),
        FEED_TEST(pulls_that_wait_are_counted_over_all_threads),
        FEED_TEST(two_who_ask_for_the_same_share_it),
        FEED_TEST(who_does_not_know_says_not_that_there_is_nothing_newer),
        FEED_TEST(what_cannot_be_is_refused),
        FEED_TEST(hello_tells_what_is_here),
        FEED_TEST(a_dead_consumer_stops_nobody),
        FEED_TEST(notices_come_by_topic),
        FEED_TEST(a_time_is_found_beside_a_gap),
        FEED_TEST(notices_go_on_behind_a_gap),
        FEED_TEST(a_stranger_takes_no_subscriber_away),
    };
    return cmocka_run_group_tests_name("feed", tests, NULL, NULL);
}
