#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/limits.h"
#include "storage_fixture.h"

static void empty_directory_has_nothing(void **state) {
    struct fixture *f = *state;
    struct storage_meta meta, zero = {0};
    memset(&meta, 0xff, sizeof meta);
    fixture_open(f);
    assert_int_equal(f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error), 0);
    assert_memory_equal(&meta, &zero, sizeof meta);
    assert_int_equal(f->storage->ops->read(f->storage, 1, 1, NULL, NULL, f->error, sizeof f->error),
                     -1);
    assert_non_null(strstr(f->error, "record 1 is not stored"));
    fixture_reopen(f);
    assert_int_equal(f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error), 0);
    assert_memory_equal(&meta, &zero, sizeof meta);
}

static void appended_records_are_read_back_also_after_reopening(void **state) {
    struct fixture *f = *state;
    uint32_t sizes[] = {16, 17, 100, 1000, 1999, 2030, 4096, 65536, 262144, 2u << 20};
    uint64_t index = 1;
    fixture_open(f);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++, index += 3) {
        fixture_append(f, index, index + 2, 7, sizes[i], 1000);
    }
    fixture_expect(f, 1, index - 1, 7);
    fixture_reopen(f);
    fixture_expect(f, 1, index - 1, 7);
    fixture_expect(f, 5, 9, 7);
    struct storage_meta meta;
    assert_int_equal(f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error), 0);
    assert_true(meta.log_first == 1 && meta.log_last == index - 1);
}

/* A record without payload (a barrier may be one) is a record. */
static void empty_payload_is_kept(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    struct record *r = record_new(0);
    r->header.index = 1;
    r->header.type = RECORD_BARRIER;
    uint64_t sequence = f->storage->ops->append(f->storage, r);
    fixture_wait64(f, &f->appended_sequence, sequence);
    fixture_expect(f, 1, 1, 0);
}

/* Far more than one read transaction and one write transaction hold. */
static void many_records_in_one_call(void **state) {
    struct fixture *f = *state;
    f->options.batch_bytes_max = 10000;
    fixture_open(f);
    fixture_append(f, 1, 5000, 1, 200, 1000);
    fixture_expect(f, 1, 5000, 1);
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_true(stats.commits >= 5000 * 232 / 10000);
    assert_true(stats.commit_bytes == 5000 * 232);
    assert_true(stats.appends_waiting == 0 && stats.appends_waiting_bytes == 0);
    assert_true(stats.log_first == 1 && stats.log_last == 5000 && stats.segments == 1);
}

static void sequence_is_told_only_for_whole_calls(void **state) {
    struct fixture *f = *state;
    f->options.batch_bytes_max = 1000;
    fixture_open(f);
    /* More calls in flight than are tracked one by one. */
    for (uint64_t i = 0; i < 3000; i++) {
        struct record *r = fixture_records(3 * i + 1, 3 * i + 3, 1, 100, 1000);
        assert_true(f->storage->ops->append(f->storage, r) == i + 1);
        fixture_poll(f);
        assert_true(f->appended_sequence * 3 <= f->appended_index);
    }
    fixture_wait64(f, &f->appended_sequence, 3000);
    assert_true(f->appended_index == 9000);
    fixture_expect(f, 1, 9000, 1);
}

static void truncation_replaces_the_tail(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    fixture_append(f, 1, 20, 1, 5000, 1000);
    fixture_append(f, 11, 12, 2, 300, 1000);
    fixture_expect(f, 1, 10, 1);
    fixture_expect(f, 11, 12, 2);
    assert_int_equal(f->storage->ops->read(f->storage, 13, 13, NULL, NULL, f->error,
                                           sizeof f->error), -1);
    fixture_reopen(f);
    fixture_expect(f, 1, 10, 1);
    fixture_expect(f, 11, 12, 2);
    fixture_append(f, 1, 1, 3, 300, 1000);
    fixture_reopen(f);
    fixture_expect(f, 1, 1, 3);
    struct storage_meta meta;
    assert_int_equal(f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error), 0);
    assert_true(meta.log_first == 1 && meta.log_last == 1);
}

/* Several truncations queued before the writer sees the first. */
static void truncations_are_done_in_order(void **state) {
    struct fixture *f = *state;
    uint64_t sequence = 0;
    fixture_open(f);
    for (uint64_t term = 1; term <= 50; term++) {
        sequence = f->storage->ops->append(f->storage,
            fixture_records(term, term + 9, term, 700, 1000));
    }
    fixture_wait64(f, &f->appended_sequence, sequence);
    for (uint64_t term = 1; term < 50; term++) fixture_expect(f, term, term, term);
    fixture_expect(f, 50, 59, 50);
}

static bool stop_at_third(void *arg, const struct record_header *h, const void *payload) {
    return ++*(unsigned *)arg < 3;
}

static void visitor_can_stop(void **state) {
    struct fixture *f = *state;
    unsigned visited = 0;
    fixture_open(f);
    fixture_append(f, 1, 10, 1, 100, 1000);
    assert_int_equal(f->storage->ops->read(f->storage, 2, 10, stop_at_third, &visited, f->error,
                                           sizeof f->error), 1);
    assert_int_equal(visited, 3);
}

/* Sealed by the writer, held by others: the count is what is left to them. */
static void records_are_released_and_sealed(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    struct record *r = fixture_record(1, 1, 64, 1000);
    record_hold(r);
    uint64_t sequence = f->storage->ops->append(f->storage, r);
    fixture_wait64(f, &f->appended_sequence, sequence);
    assert_int_equal(atomic_load(&r->refs), 1);
    assert_null(record_fault(&r->header, sizeof r->header + 64, 1));
    record_release(r);
}

static void close_finishes_what_is_queued(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    for (uint64_t i = 0; i < 100; i++) {
        f->storage->ops->append(f->storage, fixture_record(i + 1, 1, 3000, 1000));
    }
    fixture_reopen(f);
    fixture_expect(f, 1, 100, 1);
}

static void small_map_grows(void **state) {
    struct fixture *f = *state;
    f->options.log_map_bytes = 1 << 20;
    fixture_open(f);
    fixture_append(f, 1, 40, 1, 262144, 1000);
    fixture_append(f, 41, 3000, 1, 1000, 1000);
    fixture_expect(f, 1, 3000, 1);
}

struct held_read { struct fixture *f; uint64_t sequence; };

/* Inside of a read of the segment: what is queued now needs a larger map, which must not move. */
static bool grow_while_reading(void *arg, const struct record_header *h, const void *payload) {
    struct held_read *held = arg;
    held->sequence = held->f->storage->ops->append(
        held->f->storage, fixture_records(2, 5, 1, 1 << 20, 1000));
    for (int i = 0; i < 50; i++) {
        usleep(1000);
        fixture_poll(held->f);
        assert_true(held->f->appended_index == 1);
        assert_true(fixture_is_sound(h, payload));
    }
    return true;
}

static void growth_waits_for_readers(void **state) {
    struct fixture *f = *state;
    struct held_read held = {.f = f};
    f->options.log_map_bytes = 1 << 20;
    fixture_open(f);
    fixture_append(f, 1, 1, 1, 10000, 1000);
    assert_int_equal(f->storage->ops->read(f->storage, 1, 1, grow_while_reading, &held, f->error,
                                           sizeof f->error), 0);
    fixture_wait64(f, &f->appended_sequence, held.sequence);
    fixture_expect(f, 1, 5, 1);
}

static void vote_is_kept(void **state) {
    struct fixture *f = *state;
    struct storage_meta meta;
    fixture_open(f);
    for (uint64_t term = 1; term <= 20; term++) {
        f->storage->ops->save_vote(f->storage, term, term % 3);
    }
    fixture_reopen(f);
    assert_int_equal(f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error), 0);
    assert_true(meta.term == 20 && meta.voted_for == 2);
}

static void expect_refused(struct fixture *f, const char *why) {
    struct storage *second = storage_lmdb_open(&f->options, f->error, sizeof f->error);
    if (second) second->ops->close(second);
    assert_null(second);
    assert_non_null(strstr(f->error, f->directory));
    if (!strstr(f->error, why)) fail_msg("\"%s\" does not say \"%s\"", f->error, why);
}

static void second_opener_is_refused(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    expect_refused(f, "is open in another process");
    fixture_append(f, 1, 1, 1, 100, 1000);
    fixture_reopen(f);
    fixture_expect(f, 1, 1, 1);
}

static void another_shard_is_refused(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    fixture_close(f);
    f->options.shard = 4;
    expect_refused(f, "belongs to shard 3, not to shard 4");
}

static void lost_vote_is_refused(void **state) {
    struct fixture *f = *state;
    char path[256];
    fixture_open(f);
    fixture_append(f, 1, 1, 1, 100, 1000);
    fixture_close(f);
    snprintf(path, sizeof path, "%s/vote", f->directory);
    fixture_remove_tree(path);
    expect_refused(f, "could vote twice");
}

static void missing_parent_is_told(void **state) {
    struct fixture *f = *state;
    char path[256];
    snprintf(path, sizeof path, "%s/no/such", f->directory);
    f->options.directory = path;
    assert_null(storage_lmdb_open(&f->options, f->error, sizeof f->error));
    assert_non_null(strstr(f->error, path));
}

/* How much of the file's first `bytes` is in the page cache. */
static size_t cached_bytes(const char *path, size_t bytes) {
    static unsigned char pages[(64u << 20) / 4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), cached = 0;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mincore(map, bytes, pages), 0);
    for (size_t i = 0; i < bytes / page; i++) cached += pages[i] & 1 ? page : 0;
    munmap(map, bytes);
    close(fd);
    return cached;
}

/* Not every file system can. */
static bool cache_can_be_let_go(const char *path) {
    static char bytes[1 << 20];
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, bytes, sizeof bytes) == sizeof bytes && fsync(fd) == 0);
    bool can = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
    close(fd);
    can = can && cached_bytes(path, sizeof bytes) < sizeof bytes / 2;
    unlink(path);
    return can;
}

static void what_was_written_long_ago_leaves_the_cache(void **state) {
    struct fixture *f = *state;
    char path[512];
    uint64_t last = 0;
    uint64_t bytes = LOG_CACHED_BYTES + 4 * LOG_LET_GO_BYTES;
    fixture_open(f);
    for (; last << 18 < bytes; last += 8) fixture_append(f, last + 1, last + 8, 1, 1 << 18, 1000);
    snprintf(path, sizeof path, "%s/cached", f->directory);
    if (cache_can_be_let_go(path)) {
        snprintf(path, sizeof path, "%s/log-%020d/data.mdb", f->directory, 1);
        assert_true(cached_bytes(path, LOG_LET_GO_BYTES) < LOG_LET_GO_BYTES / 2);
    }
    fixture_expect(f, 1, last, 1);
    fixture_reopen(f);
    fixture_expect(f, 1, last, 1);
}

/* How much of a file this process has mapped and present. */
static uint64_t resident_bytes(const char *path) {
    char line[1024], real[1024];
    uint64_t bytes = 0, kib;
    bool here = false;
    FILE *maps = fopen("/proc/self/smaps", "r");
    assert_true(maps && realpath(path, real));
    while (fgets(line, sizeof line, maps)) {
        if (line[0] < 'A' || line[0] > 'Z') here = strstr(line, real) != NULL;
        else if (here && sscanf(line, "Rss: %" SCNu64 " kB", &kib) == 1) bytes += kib << 10;
    }
    fclose(maps);
    return bytes;
}

static void a_log_that_is_let_go_is_not_mapped_either(void **state) {
    struct fixture *f = *state;
    char path[512], probe[512];
    uint64_t last = 0;
    f->options.let_go = true;
    fixture_open(f);
    snprintf(path, sizeof path, "%s/log-%020d/data.mdb", f->directory, 1);
    for (; last << 16 < 8 * LOG_LET_GO_BYTES; last += 16) {
        fixture_append(f, last + 1, last + 16, 1, 1 << 16, 1000);
        if (last % 160 == 0) fixture_expect(f, 1, last + 16, 1);
    }
    /* The end is not gone over until so much has come again. */
    assert_true(resident_bytes(path) < 2 * LOG_LET_GO_BYTES);
    snprintf(probe, sizeof probe, "%s/cached", f->directory);
    if (cache_can_be_let_go(probe)) {
        assert_true(cached_bytes(path, 4 * LOG_LET_GO_BYTES) < LOG_LET_GO_BYTES);
    }
    fixture_expect(f, 1, last, 1);
    assert_true(resident_bytes(path) > 7 * LOG_LET_GO_BYTES);
}

static void a_state_that_is_let_go_is_not_mapped_either(void **state) {
    struct fixture *f = *state;
    char path[512];
    uint64_t number = 0;
    f->options.let_go = true;
    fixture_open(f);
    snprintf(path, sizeof path, "%s/state/data.mdb", f->directory);
    while (number < 200 * 60) {
        struct draft *d = draft_new(1);
        for (int i = 0; i < 60; i++) {
            draft_put(d, ACTOR_ORDER, fixture_key(1000, ++number), 4000, 7);
        }
        draft_do(f, d);
        if (number % 3000 != 0) continue;
        for (uint64_t n = 1; n <= number; n += 8) {
            expect_actor(f, ACTOR_ORDER, fixture_key(1000, n), 4000, 7);
        }
    }
    assert_true(resident_bytes(path) > 2 * STATE_LET_GO_BYTES);
    for (uint64_t upto = number + 60 * 90; number < upto;) {
        struct draft *d = draft_new(1);
        for (int i = 0; i < 60; i++) {
            draft_put(d, ACTOR_ORDER, fixture_key(1000, ++number), 4000, 7);
        }
        draft_do(f, d);
    }
    assert_true(resident_bytes(path) < STATE_LET_GO_BYTES);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(empty_directory_has_nothing), TEST(what_was_written_long_ago_leaves_the_cache),
        TEST(a_log_that_is_let_go_is_not_mapped_either),
        TEST(a_state_that_is_let_go_is_not_mapped_either),
        TEST(appended_records_are_read_back_also_after_reopening),
        TEST(empty_payload_is_kept),
        TEST(many_records_in_one_call),
        TEST(sequence_is_told_only_for_whole_calls),
        TEST(truncation_replaces_the_tail),
        TEST(truncations_are_done_in_order),
        TEST(visitor_can_stop),
        TEST(records_are_released_and_sealed),
        TEST(close_finishes_what_is_queued),
        TEST(small_map_grows),
        TEST(growth_waits_for_readers),
        TEST(vote_is_kept),
        TEST(second_opener_is_refused),
        TEST(another_shard_is_refused),
        TEST(lost_vote_is_refused),
        TEST(missing_parent_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
