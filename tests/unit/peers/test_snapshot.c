/* A state on its way from one replica to another, over a line that loses, doubles, reorders and
 * damages, with either side restarted, under a virtual clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/prng.h"
#include "engine/peers/snapshot_receiver.h"
#include "engine/peers/snapshot_sender.h"
#include "persistence/lmdb/storage_lmdb.h"

enum { LINE_FRAMES_MAX = 512, CHUNK = 1000, LEADER = 7, FOLLOWER = 9 };

struct line_frame {
    uint8_t *bytes;
    size_t size;
    uint32_t kind;
    uint64_t to;
    int64_t due_ms;
};

/* A storage whose state is so many bytes; what is needed of one. */
struct fake_storage {
    struct storage base;
    uint64_t bytes, index, exports;
    bool no_room, unfit;
};

struct world {
    char directory[128], outgoing[160], incoming[160];
    struct prng prng;
    int64_t now_ms;
    struct line_frame line[LINE_FRAMES_MAX];
    uint32_t line_count;
    uint32_t lost_percent, doubled_percent, damaged_percent;
    uint32_t reorder_ms_max;       /* what comes later by up to so much is overtaken */
    bool cut;                      /* nothing gets through */
    struct fake_storage leader, follower;
    struct snapshot_sender *sender;
    struct snapshot_receiver *receiver;
    struct snapshot_sender_options sender_options;
    struct snapshot_receiver_options receiver_options;
    uint64_t sent_bytes;
    unsigned completed, refuse_complete;
    struct shard_snapshot snapshot;
};

/* -- the storage ----------------------------------------------------------------------------- */

static uint8_t fake_byte(uint64_t at, uint64_t index) {
    return (uint8_t)(at * 131 + at / 777 + index);
}

static int fake_export(struct storage *base, const char *path, const atomic_bool *stop,
                       struct storage_meta *meta, char *error, size_t error_bytes) {
    struct fake_storage *s = (struct fake_storage *)base;
    s->exports++;
    if (s->no_room || atomic_load(stop)) {
        snprintf(error, error_bytes, "no room");
        return -1;
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (uint64_t i = 0; i < s->bytes; i++) fputc(fake_byte(i, s->index), f);
    fclose(f);
    memset(meta, 0, sizeof *meta);
    meta->applied_index = s->index;
    return 0;
}

static int fake_check(struct storage *base, const char *path, struct storage_meta *meta,
                      char *error, size_t error_bytes) {
    struct fake_storage *s = (struct fake_storage *)base;
    memset(meta, 0, sizeof *meta);
    meta->applied_index = s->index;
    snprintf(error, error_bytes, "unfit");
    return s->unfit ? -1 : 0;
}

static const struct storage_ops fake_ops = {.export_state = fake_export, .check_state = fake_check};

/* -- the line -------------------------------------------------------------------------------- */

static void line_add(struct world *w, uint64_t to, uint32_t kind, const void *frame, size_t bytes) {
    assert_true(w->line_count < LINE_FRAMES_MAX);
    struct line_frame *l = &w->line[w->line_count++];
    *l = (struct line_frame){.bytes = malloc(bytes), .size = bytes, .kind = kind, .to = to,
                             .due_ms = w->now_ms + 2 +
                                       (int64_t)prng_below(&w->prng, w->reorder_ms_max + 1)};
    memcpy(l->bytes, frame, bytes);
    if (prng_chance(&w->prng, w->damaged_percent, 100)) {
        l->bytes[prng_below(&w->prng, bytes)] ^= 0x20;
    }
}

static bool line_send(void *arg, uint64_t to, uint32_t kind, const void *frame, size_t bytes) {
    struct world *w = arg;
    struct snapshot_frame decoded;
    assert_true(snapshot_frame_decode(kind, frame, bytes, &decoded));
    assert_true(decoded.to == to && bytes <= SNAPSHOT_FRAME_BYTES_MAX);
    w->sent_bytes += bytes;
    if (w->line_count + 2 > LINE_FRAMES_MAX) return false;
    if (w->cut || prng_chance(&w->prng, w->lost_percent, 100)) return true;
    line_add(w, to, kind, frame, bytes);
    if (prng_chance(&w->prng, w->doubled_percent, 100)) line_add(w, to, kind, frame, bytes);
    return true;
}

static void line_deliver(struct world *w) {
    for (uint32_t i = 0; i < w->line_count;) {
        struct line_frame l = w->line[i];
        struct snapshot_frame frame;
        if (l.due_ms > w->now_ms) {
            i++;
            continue;
        }
        memmove(w->line + i, w->line + i + 1, (--w->line_count - i) * sizeof *w->line);
        if (snapshot_frame_decode(l.kind, l.bytes, l.size, &frame)) {
            if (l.to == FOLLOWER && w->receiver) {
                snapshot_receiver_receive(w->receiver, &frame, w->now_ms);
            } else if (l.to == LEADER && w->sender) {
                snapshot_sender_receive(w->sender, &frame, w->now_ms);
            }
        }
        free(l.bytes);
    }
}

static bool take_complete(void *arg, const struct shard_snapshot *snapshot) {
    struct world *w = arg;
    if (w->refuse_complete > 0) {
        w->refuse_complete--;
        return false;
    }
    w->snapshot = *snapshot;
    w->completed++;
    return true;
}

/* -- the world ------------------------------------------------------------------------------- */

static void start_sender(struct world *w) {
    w->sender = snapshot_sender_new(&w->sender_options);
    assert_non_null(w->sender);
}

static void start_receiver(struct world *w) {
    w->receiver = snapshot_receiver_new(&w->receiver_options);
    assert_non_null(w->receiver);
}

static void stop_sender(struct world *w) {
    snapshot_sender_free(w->sender);
    w->sender = NULL;
}

static void stop_receiver(struct world *w) {
    snapshot_receiver_free(w->receiver);
    w->receiver = NULL;
}

static int setup(void **state) {
    struct world *w = calloc(1, sizeof *w);
    const char *base = getenv("TMPDIR");
    snprintf(w->directory, sizeof w->directory, "%.60s/jumun-snapshot-XXXXXX",
             base ? base : "/tmp");
    if (!mkdtemp(w->directory)) return -1;
    snprintf(w->outgoing, sizeof w->outgoing, "%s/outgoing", w->directory);
    snprintf(w->incoming, sizeof w->incoming, "%s/incoming", w->directory);
    prng_seed(&w->prng, 3);
    w->now_ms = 1000;
    w->leader = (struct fake_storage){.base.ops = &fake_ops, .bytes = 100500, .index = 50};
    w->follower = (struct fake_storage){.base.ops = &fake_ops, .index = 50};
    w->sender_options = (struct snapshot_sender_options){
        .shard = 3, .from = LEADER, .to = FOLLOWER, .storage = &w->leader.base,
        .directory = w->outgoing, .bytes_per_second = 10 << 20, .chunk_bytes = CHUNK,
        .send = line_send, .arg = w};
    w->receiver_options = (struct snapshot_receiver_options){
        .shard = 3, .server = FOLLOWER, .storage = &w->follower.base, .directory = w->incoming,
        .room_floor_bytes = 1, .send = line_send, .complete = take_complete, .arg = w};
    start_sender(w);
    start_receiver(w);
    *state = w;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int teardown(void **state) {
    struct world *w = *state;
    if (w->sender) stop_sender(w);
    if (w->receiver) stop_receiver(w);
    for (uint32_t i = 0; i < w->line_count; i++) free(w->line[i].bytes);
    nftw(w->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

static struct snapshot_sender_progress sending(struct world *w) {
    struct snapshot_sender_progress p;
    snapshot_sender_progress(w->sender, &p);
    return p;
}

static struct snapshot_receiver_progress receiving(struct world *w) {
    struct snapshot_receiver_progress p;
    snapshot_receiver_progress(w->receiver, &p);
    return p;
}

/* One millisecond. The clock stands still while a thread works: what they do has no time. */
static void step(struct world *w) {
    bool busy = (w->sender && sending(w).phase == SENDER_EXPORTING) ||
                (w->receiver && receiving(w).checking);
    if (busy) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    else w->now_ms++;
    line_deliver(w);
    if (w->sender) snapshot_sender_work(w->sender, w->now_ms);
    if (w->receiver) snapshot_receiver_work(w->receiver, w->now_ms);
}

static void want(struct world *w) { snapshot_sender_want(w->sender, 4, 40, w->now_ms); }

/* Until so many transfers are complete; fails after so many virtual milliseconds. */
static void run_until(struct world *w, unsigned completed, int64_t ms) {
    int64_t until_ms = w->now_ms + ms;
    while (w->completed < completed) {
        if (w->now_ms > until_ms) fail_msg("nothing completed");
        if (w->now_ms % 100 == 0 && w->sender) want(w);
        step(w);
    }
}

static void run_for(struct world *w, int64_t ms) {
    for (int64_t until_ms = w->now_ms + ms; w->now_ms < until_ms;) step(w);
}

static void run_to(struct world *w, uint64_t arrived) {
    want(w);
    for (int i = 0; receiving(w).arrived < arrived; i++) {
        assert_true(i < 1000000);
        step(w);
    }
}

static unsigned files_in(const char *path) {
    unsigned count = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) count += entry->d_name[0] != '.';
    closedir(d);
    return count;
}

static void expect_whole(struct world *w) {
    FILE *f = fopen(w->snapshot.path, "rb");
    assert_non_null(f);
    for (uint64_t i = 0; i < w->leader.bytes; i++) {
        if (fgetc(f) != fake_byte(i, w->leader.index)) fail_msg("byte %lu", (unsigned long)i);
    }
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    assert_int_equal(w->snapshot.from, LEADER);
    assert_int_equal(w->snapshot.leader_term, 4);
    assert_int_equal(w->snapshot.meta.applied_index, w->leader.index);
}

/* -- tests ----------------------------------------------------------------------------------- */

static void a_state_arrives(void **state) {
    struct world *w = *state;
    want(w);
    run_until(w, 1, 5000);
    expect_whole(w);
    run_for(w, 50);
    struct snapshot_sender_progress p = sending(w);
    assert_int_equal(p.phase, SENDER_RESTING);
    assert_int_equal(p.completed, 1);
    assert_int_equal(p.chunks, 101);
    assert_int_equal(p.chunks_again, 0);
    assert_int_equal(files_in(w->outgoing), 0);
    assert_int_equal(files_in(w->incoming), 1);
    /* It is asked for until the follower has installed it: that does not start another at once. */
    for (int i = 0; i < 50; i++) {
        want(w);
        run_for(w, 100);
    }
    assert_int_equal(w->leader.exports, 1);
    w->leader.index = w->follower.index = 60;
    run_until(w, 2, SNAPSHOT_REST_MS);
    assert_int_equal(w->leader.exports, 2);
    expect_whole(w);
}

static void a_bad_line_only_costs_time(void **state) {
    struct world *w = *state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        prng_seed(&w->prng, seed);
        w->lost_percent = (uint32_t)prng_below(&w->prng, 30);
        w->doubled_percent = (uint32_t)prng_below(&w->prng, 30);
        w->damaged_percent = (uint32_t)prng_below(&w->prng, 10);
        w->reorder_ms_max = (uint32_t)prng_below(&w->prng, 60);
        w->leader.bytes = 1 + prng_below(&w->prng, 60000);
        w->leader.index = w->follower.index = 50 + seed;
        run_until(w, (unsigned)seed, 600000);
        expect_whole(w);
        run_for(w, 2 * SNAPSHOT_REST_MS);
    }
}

static void a_broken_connection_is_resumed(void **state) {
    struct world *w = *state;
    run_to(w, 40000);
    w->cut = true;
    run_for(w, 20000);
    uint64_t there = receiving(w).arrived;
    w->cut = false;
    run_until(w, 1, 20000);
    expect_whole(w);
    assert_int_equal(w->leader.exports, 1);
    assert_true(there >= 40000);
    /* At most what was on the line is sent again. */
    assert_true(sending(w).chunks_again <= 2 * SNAPSHOT_WINDOW_CHUNKS);
}

static void a_restarted_receiver_goes_on(void **state) {
    struct world *w = *state;
    run_to(w, 40000);
    stop_receiver(w);
    run_for(w, 3000);
    start_receiver(w);
    run_until(w, 1, 20000);
    expect_whole(w);
    assert_int_equal(w->leader.exports, 1);
    assert_true(sending(w).chunks_again <= 3 * SNAPSHOT_WINDOW_CHUNKS);
}

/* Killed in the middle of a write: the torn end is written again. */
static void a_torn_end_is_written_again(void **state) {
    struct world *w = *state;
    char path[600];
    run_to(w, 40000);
    stop_receiver(w);
    DIR *d = opendir(w->incoming);
    for (struct dirent *entry; (entry = readdir(d));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", w->incoming, entry->d_name);
        assert_int_equal(truncate(path, 35555), 0);
    }
    closedir(d);
    start_receiver(w);
    run_until(w, 1, 20000);
    expect_whole(w);
}

static void a_restarted_sender_starts_anew(void **state) {
    struct world *w = *state;
    run_to(w, 40000);
    stop_sender(w);
    assert_int_equal(files_in(w->outgoing), 0);
    w->leader.index = w->follower.index = 60; /* its state has moved on */
    start_sender(w);
    run_for(w, SNAPSHOT_REST_MS);
    run_until(w, 1, 40000);
    expect_whole(w);
    assert_int_equal(w->leader.exports, 2);
    run_for(w, 10);
    assert_int_equal(files_in(w->incoming), 1); /* the half of the first one is gone */
}

static void what_is_damaged_on_disk_is_sent_again(void **state) {
    struct world *w = *state;
    char path[600];
    run_to(w, 40000);
    DIR *d = opendir(w->incoming);
    for (struct dirent *entry; (entry = readdir(d));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", w->incoming, entry->d_name);
        int fd = open(path, O_RDWR);
        assert_int_equal(pwrite(fd, "?", 1, 1234), 1);
        close(fd);
    }
    closedir(d);
    run_until(w, 1, 20000);
    expect_whole(w);
    assert_int_equal(receiving(w).damaged, 1);
    assert_int_equal(w->leader.exports, 1);
}

static void an_unfit_state_is_not_handed_over(void **state) {
    struct world *w = *state;
    w->follower.unfit = true;
    want(w);
    for (int i = 0; sending(w).failed == 0; i++) {
        assert_true(i < 100000);
        step(w);
    }
    assert_int_equal(w->completed, 0);
    assert_int_equal(files_in(w->incoming), 0);
    assert_int_equal(files_in(w->outgoing), 0);
    w->follower.unfit = false;
    run_until(w, 1, 2 * SNAPSHOT_REST_MS);
    assert_int_equal(w->leader.exports, 2);
}

static void lack_of_room_is_told(void **state) {
    struct world *w = *state;
    w->leader.no_room = true;
    want(w);
    while (sending(w).phase != SENDER_RESTING) step(w);
    assert_int_equal(sending(w).failed, 1);
    w->leader.no_room = false;
    stop_receiver(w);
    w->receiver_options.room_floor_bytes = UINT64_MAX / 2;
    start_receiver(w);
    run_for(w, SNAPSHOT_REST_MS);
    want(w);
    while (sending(w).failed < 2) step(w);
    assert_int_equal(files_in(w->incoming), 0);
    stop_receiver(w);
    w->receiver_options.room_floor_bytes = 1;
    start_receiver(w);
    run_until(w, 1, 2 * SNAPSHOT_REST_MS);
    expect_whole(w);
}

static void it_is_offered_until_it_is_taken(void **state) {
    struct world *w = *state;
    w->refuse_complete = 5;
    run_until(w, 1, 5000);
    expect_whole(w);
    assert_int_equal(w->refuse_complete, 0);
}

/* The same bytes again, after the shard has thrown them away: their leader's term was over. */
static void what_was_thrown_away_is_taken_again(void **state) {
    struct world *w = *state;
    run_until(w, 1, 5000);
    expect_whole(w);
    /* It lies there still: late headers are answered, nothing is taken twice. */
    run_for(w, 3 * SNAPSHOT_REST_MS);
    want(w);
    run_for(w, 2 * SNAPSHOT_REST_MS);
    assert_int_equal(w->completed, 1);
    assert_int_equal(unlink(w->snapshot.path), 0);
    run_until(w, 2, 3 * SNAPSHOT_REST_MS);
    expect_whole(w);
}

/* A second leader with a newer term and state takes over; the older one does not get back. */
static void the_newer_transfer_counts(void **state) {
    struct world *w = *state;
    struct snapshot_frame header = {.kind = SNAPSHOT_HEADER, .shard = 3, .from = 8, .to = FOLLOWER,
                                    .transfer = 77, .term = 5, .index = 55, .bytes = 900,
                                    .chunk_bytes = CHUNK};
    run_to(w, 40000);
    snapshot_receiver_receive(w->receiver, &header, w->now_ms);
    assert_int_equal(receiving(w).index, 55);
    run_for(w, 200);
    assert_int_equal(receiving(w).index, 55);
    assert_int_equal(files_in(w->incoming), 1);
    header.term = 3;
    header.transfer = 78;
    header.index = 90;
    snapshot_receiver_receive(w->receiver, &header, w->now_ms);
    assert_int_equal(receiving(w).index, 55);
    /* For others. */
    header.term = 9;
    header.to = 10;
    snapshot_receiver_receive(w->receiver, &header, w->now_ms);
    header.to = FOLLOWER;
    header.shard = 4;
    snapshot_receiver_receive(w->receiver, &header, w->now_ms);
    assert_int_equal(receiving(w).index, 55);
}

static void what_nobody_asks_for_is_given_up(void **state) {
    struct world *w = *state;
    run_to(w, 40000);
    w->cut = true;
    run_for(w, SNAPSHOT_IDLE_MS + 1000);
    assert_int_equal(sending(w).phase, SENDER_RESTING);
    assert_int_equal(files_in(w->outgoing), 0);
    w->cut = false;
    run_for(w, SNAPSHOT_REST_MS);
    want(w);
    while (sending(w).phase != SENDER_SENDING) step(w);
    snapshot_sender_stop(w->sender, w->now_ms);
    assert_int_equal(sending(w).phase, SENDER_IDLE);
    assert_int_equal(files_in(w->outgoing), 0);
    run_until(w, 1, 60000);
}

static void a_stop_ends_an_export(void **state) {
    struct world *w = *state;
    want(w);
    snapshot_sender_stop(w->sender, w->now_ms);
    while (sending(w).phase == SENDER_EXPORTING) step(w);
    assert_int_equal(sending(w).phase, SENDER_IDLE);
    assert_int_equal(files_in(w->outgoing), 0);
    want(w);
    stop_sender(w); /* while it exports */
    assert_int_equal(files_in(w->outgoing), 0);
}

static void it_is_not_faster_than_it_may(void **state) {
    struct world *w = *state;
    stop_sender(w);
    w->sender_options.bytes_per_second = 50000;
    start_sender(w);
    run_to(w, 1000);
    int64_t begin_ms = w->now_ms;
    uint64_t begin_bytes = w->sent_bytes;
    run_for(w, 1000);
    assert_true(w->sent_bytes - begin_bytes <= 50000 * 12 / 10 + 8000);
    assert_true(w->sent_bytes - begin_bytes >= 50000 * 7 / 10);
    run_until(w, 1, 5000);
    assert_true(w->now_ms - begin_ms >= 1500); /* 99,500 bytes at 50,000 a second, less a burst */
}

/* Two real storages. */
static void a_real_state_is_installed(void **state) {
    struct world *w = *state;
    char a[200], b[200], error[512];
    snprintf(a, sizeof a, "%s/a", w->directory);
    snprintf(b, sizeof b, "%s/b", w->directory);
    struct storage *from = storage_lmdb_open(
        &(struct storage_lmdb_options){.directory = a, .shard = 3, .room_floor_bytes = 1}, error,
        sizeof error);
    struct storage *to = storage_lmdb_open(
        &(struct storage_lmdb_options){.directory = b, .shard = 3, .room_floor_bytes = 1}, error,
        sizeof error);
    assert_true(from && to);
    struct actor order = {.bytes = sizeof order, .kind = ACTOR_ORDER, .schema = 1};
    struct checkpoint_item item = {.key = order.key, .kind = ACTOR_ORDER, .bytes = sizeof order};
    struct checkpoint c = {.items = &item, .items_count = 1, .blocks = (uint8_t *)&order,
                           .blocks_bytes = sizeof order, .applied_index = 1, .applied_term = 1};
    struct record *record = record_new(16);
    memset(record->payload, 0, 16);
    record->header.index = record->header.term = 1;
    record->header.type = RECORD_EVENTS;
    record->header.payload_bytes = 16;
    from->ops->append(from, record);
    from->ops->checkpoint(from, &c);
    struct storage_event event = {0};
    while (event.kind != STORAGE_CHECKPOINTED) {
        if (from->ops->poll(from, &event, 1) == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        }
    }
    stop_sender(w);
    stop_receiver(w);
    snprintf(w->outgoing, sizeof w->outgoing, "%s/a/outgoing", w->directory);
    snprintf(w->incoming, sizeof w->incoming, "%s/b/incoming", w->directory);
    w->sender_options.storage = from;
    w->receiver_options.storage = to;
    start_sender(w);
    start_receiver(w);
    for (int i = 0; w->completed == 0; i++) {
        assert_true(i < 1000000);
        if (i % 100 == 0) snapshot_sender_want(w->sender, 4, 1, w->now_ms);
        step(w);
    }
    assert_int_equal(w->snapshot.meta.orders_count, 1);
    if (to->ops->install_state(to, w->snapshot.path, 0, error, sizeof error) != 0) {
        fail_msg("%s", error);
    }
    struct storage_meta *meta = calloc(1, sizeof *meta);
    assert_int_equal(to->ops->load_meta(to, meta, error, sizeof error), 0);
    assert_int_equal(meta->applied_index, 1);
    assert_int_equal(meta->log_first, 2);
    free(meta);
    stop_sender(w);
    stop_receiver(w);
    from->ops->close(from);
    to->ops->close(to);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_state_arrives),
        TEST(a_bad_line_only_costs_time),
        TEST(a_broken_connection_is_resumed),
        TEST(a_restarted_receiver_goes_on),
        TEST(a_torn_end_is_written_again),
        TEST(a_restarted_sender_starts_anew),
        TEST(what_is_damaged_on_disk_is_sent_again),
        TEST(an_unfit_state_is_not_handed_over),
        TEST(lack_of_room_is_told),
        TEST(it_is_offered_until_it_is_taken),
        TEST(what_was_thrown_away_is_taken_again),
        TEST(the_newer_transfer_counts),
        TEST(what_nobody_asks_for_is_given_up),
        TEST(a_stop_ends_an_export),
        TEST(it_is_not_faster_than_it_may),
        TEST(a_real_state_is_installed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
