/* What lies on the disk, read back in pieces: whole, damaged in each kind of place, dropped, cut or
 * without memory meanwhile. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/limits.h"
#include "persistence/lmdb/page_probe.h"
#include "storage_install_fixture.h"

enum { PAYLOAD = 5000, PIECE_BYTES = 16 << 10, ACTORS = 300, PAGE = 4096 };

static uint64_t piece_bytes = PIECE_BYTES;

/* What a whole look came to. */
struct look {
    uint32_t pieces, count;
    uint64_t bytes;
    struct storage_damage damage[256];
};

/* Records 1..60 in segments that begin with 1, 11, 21, 31, 41, 51, and a state. */
static void fill_all(struct fixture *f) {
    f->options.segment_bytes_max = 140000;
    fixture_open(f);
    for (uint64_t part = 0; part < 6; part++)
        fixture_append(f, 10 * part + 1, 10 * part + 10, 1, PAYLOAD, 1000 * ((int64_t)part + 1));
    struct draft *d = draft_new(20);
    for (uint32_t i = 0; i < ACTORS; i++)
        draft_put(d, ACTOR_ORDER, fixture_key(i, i), 200, (uint8_t)i);
    draft_put(d, ACTOR_STORE, fixture_key(1, 7), 64, 3);
    draft_do(f, d);
}

static enum storage_scrub piece(struct fixture *f, struct storage_scrub_place *place,
                                struct storage_scrubbed *out) {
    return f->storage->ops->scrub(f->storage, place, piece_bytes, out);
}

static void look_from(struct fixture *f, struct storage_scrub_place *place, struct look *l) {
    struct storage_scrubbed out;
    enum storage_scrub outcome;
    memset(l, 0, sizeof *l);
    do {
        outcome = piece(f, place, &out);
        assert_int_not_equal(outcome, STORAGE_SCRUB_LATER);
        for (uint32_t i = 0; i < out.count && l->count < 256; i++)
            l->damage[l->count++] = out.damage[i];
        l->bytes += out.bytes;
        assert_true(++l->pieces < 10000);
    } while (outcome != STORAGE_SCRUB_DONE);
    assert_true(place->next == 0 && place->part == 0 && place->key_bytes == 0 && !place->again);
}

static void look_all(struct fixture *f, struct look *l) {
    struct storage_scrub_place place = {.next = 0};
    look_from(f, &place, l);
}

static const char *data_of(const struct fixture *f, const char *environment) {
    static char name[64];
    snprintf(name, sizeof name, "%s/data.mdb", environment);
    return file_path(f, name);
}

static void write_at(const char *path, off_t at, const void *bytes, size_t size) {
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, bytes, size, at), size);
    close(fd);
}

/* Where a payload's bytes of this record are in its segment. */
static off_t find_record(const char *path, uint64_t index) {
    static uint8_t file[1 << 22];
    uint64_t wanted[2] = {index, 1}; /* index and term stand behind the checksum */
    int fd = open(path, O_RDONLY);
    ssize_t bytes = pread(fd, file, sizeof file, 0);
    close(fd);
    for (ssize_t at = 0; at + 16 <= bytes; at += 8)
        if (memcmp(file + at, wanted, sizeof wanted) == 0) return at + 24 + 100;
    fail_msg("%s has no record %d", path, (int)index);
    return 0;
}

static void flip(const char *path, off_t at) {
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    close(fd);
    byte ^= 4;
    write_at(path, at, &byte, 1);
}

static void expect_damage(const struct look *l, uint32_t i, const char *kind, const char *where,
                          uint64_t index, uint64_t upto, const char *what) {
    const struct storage_damage *d = &l->damage[i];
    assert_true(i < l->count);
    assert_string_equal(d->kind, kind);
    assert_string_equal(d->where, where);
    assert_int_equal(d->index, index);
    assert_int_equal(d->upto, upto);
    if (!strstr(d->what, what)) fail_msg("\"%s\" lacks \"%s\"", d->what, what);
}

static void whole_in_pieces(void **state) {
    struct fixture *f = *state;
    struct storage_stats stats;
    struct look l;
    fill_all(f);
    look_all(f, &l);
    assert_int_equal(l.count, 0);
    assert_true(l.pieces >= 50 * PAYLOAD / (4 * PIECE_BYTES) + 7);
    /* Five of six segments, nearly each byte once. */
    piece_bytes = SCRUB_PIECE_BYTES;
    look_all(f, &l);
    assert_int_equal(l.count, 0);
    f->storage->ops->stats(f->storage, &stats);
    assert_in_range(l.bytes, 50 * PAYLOAD, stats.log_bytes * 3 / 2 + stats.state_bytes);
    struct storage_scrub_place place = {.next = 45};
    uint64_t all = l.bytes;
    look_from(f, &place, &l);
    assert_int_equal(l.count, 0);
    assert_true(l.bytes < all);
    piece_bytes = PIECE_BYTES;
    fixture_close(f);
    fixture_remove_tree(f->directory);
    f->options.segment_bytes_max = 0;
    fixture_open(f); /* nothing in it */
    look_all(f, &l);
    assert_int_equal(l.count, 0);
}

static void flipped_byte_of_a_record(void **state) {
    struct fixture *f = *state;
    struct look l;
    fill_all(f);
    flip(data_of(f, "log-00000000000000000021"),
         find_record(data_of(f, "log-00000000000000000021"), 24));
    look_all(f, &l);
    assert_int_equal(l.count, 1);
    expect_damage(&l, 0, "record_damaged", "log-00000000000000000021", 24, 24,
                  "checksum does not match");
    fixture_expect(f, 1, 23, 1);
    fixture_expect(f, 25, 60, 1);
    /* What is written now is the next round's. */
    flip(data_of(f, "log-00000000000000000021"),
         find_record(data_of(f, "log-00000000000000000021"), 24));
    flip(data_of(f, "log-00000000000000000051"),
         find_record(data_of(f, "log-00000000000000000051"), 55));
    look_all(f, &l);
    assert_int_equal(l.count, 0);
}

/* It is told when two looks at a piece have found it. */
static void told_at_the_second_look(void **state) {
    struct fixture *f = *state;
    struct storage_scrub_place place = {.next = 21}, before;
    struct storage_scrubbed out;
    fill_all(f);
    const char *path = data_of(f, "log-00000000000000000021");
    off_t at = find_record(path, 21);
    flip(path, at);
    assert_int_equal(piece(f, &place, &out), STORAGE_SCRUB_MORE);
    assert_true(out.count == 0 && place.again && place.next == 21);
    before = place;
    flip(path, at); /* it was the memory's */
    assert_int_equal(piece(f, &place, &out), STORAGE_SCRUB_MORE);
    assert_true(out.count == 0 && !place.again && place.next > 21);
    flip(path, at);
    place = before;
    assert_int_equal(piece(f, &place, &out), STORAGE_SCRUB_MORE);
    assert_true(out.count == 1 && !place.again && place.next > 21);
}

/* Each page of a file in turn: no end of the process, and what was on it is named. */
static void each_page(struct fixture *f, const char *environment, const char *where, uint8_t with) {
    char path[300];
    uint8_t old[PAGE], garbage[PAGE];
    uint32_t named = 0, pages = 0;
    struct look *l = malloc(sizeof *l);
    struct stat st;
    snprintf(path, sizeof path, "%s", data_of(f, environment));
    assert_int_equal(stat(path, &st), 0);
    memset(garbage, with, sizeof garbage);
    for (off_t at = 2 * PAGE; at + PAGE <= st.st_size; at += PAGE, pages++) {
        int fd = open(path, O_RDONLY);
        assert_int_equal(pread(fd, old, PAGE, at), PAGE);
        close(fd);
        write_at(path, at, garbage, PAGE);
        look_all(f, l);
        write_at(path, at, old, PAGE);
        if (l->count == 0) continue;
        named++;
        for (uint32_t i = 0; i < l->count; i++)
            assert_memory_equal(l->damage[i].where, where, strlen(where));
    }
    print_message("%s: %u of %u pages were named\n", environment, named, pages);
    assert_true(named > 0);
    look_all(f, l);
    assert_int_equal(l->count, 0);
    free(l);
}

static void damaged_pages_of_the_log(void **state) {
    fill_all(*state);
    each_page(*state, "log-00000000000000000011", "log-00000000000000000011", 0);
    each_page(*state, "log-00000000000000000011", "log-00000000000000000011", 0xff);
}

static void damaged_pages_of_the_state(void **state) {
    fill_all(*state);
    each_page(*state, "state", "state", 0);
    each_page(*state, "state", "state", 0xff);
}

static void flipped_byte_of_the_state(void **state) {
    struct fixture *f = *state;
    static uint8_t file[1 << 22];
    struct id128 key = fixture_key(123, 123);
    struct look l;
    off_t found = 0;
    fill_all(f);
    const char *path = data_of(f, "state");
    int fd = open(path, O_RDONLY);
    ssize_t bytes = pread(fd, file, sizeof file, 0);
    close(fd);
    /* A row: key, header of 16 bytes, block, which says the key at 8. */
    for (off_t at = 0; at + 300 <= bytes && found == 0; at += 2)
        if (memcmp(file + at, key.bytes, 16) == 0 && memcmp(file + at + 40, key.bytes, 16) == 0)
            found = at + 16 + 16 + 100;
    assert_true(found > 0);
    flip(path, found);
    look_all(f, &l);
    assert_int_equal(l.count, 1);
    expect_damage(&l, 0, "state_damaged", "state/orders", 0, 0, "checksum does not match");
}

/* What a view passes over, because it belongs to another table, is no reason to begin anew. */
static void many_messages(void **state) {
    struct fixture *f = *state;
    struct look l;
    fixture_open(f);
    for (uint32_t part = 0; part < 12; part++) {
        struct draft *d = draft_new(0);
        for (uint32_t i = 0; i < 500; i++)
            draft_put(d, ACTOR_MESSAGE, fixture_key(1, part * 500 + i), 64, 1);
        draft_do(f, d);
    }
    look_all(f, &l);
    assert_int_equal(l.count, 0);
    assert_true(l.bytes > 6000 * 64);
}

static void cut_segment(void **state) {
    struct fixture *f = *state;
    struct look l;
    fill_all(f);
    assert_int_equal(truncate(data_of(f, "log-00000000000000000031"), 9 * PAGE), 0);
    look_all(f, &l);
    assert_true(l.count > 0);
    for (uint32_t i = 0; i < l.count; i++)
        assert_string_equal(l.damage[i].where, "log-00000000000000000031");
    assert_int_equal(truncate(data_of(f, "log-00000000000000000031"), 10), 0);
    look_all(f, &l);
    expect_damage(&l, 0, "segment_unreadable", "log-00000000000000000031", 31, 40, "cut short");
}

static void file_that_cannot_be_read(void **state) {
    struct fixture *f = *state;
    struct look l;
    char path[300], aside[320];
    fill_all(f);
    snprintf(path, sizeof path, "%s", data_of(f, "log-00000000000000000011"));
    snprintf(aside, sizeof aside, "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    look_all(f, &l);
    assert_int_equal(l.count, 1);
    expect_damage(&l, 0, "segment_unreadable", "log-00000000000000000011", 11, 20, "No such file");
    assert_int_equal(mkdir(path, 0700), 0);
    look_all(f, &l);
    assert_int_equal(l.count, 1);
    expect_damage(&l, 0, "segment_unreadable", "log-00000000000000000011", 11, 20, "data.mdb");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(aside, path), 0);
    look_all(f, &l);
    assert_int_equal(l.count, 0);
}

/* The directory is gone before the list knows, as in the middle of a drop. */
static void retention_meanwhile(void **state) {
    struct fixture *f = *state;
    struct storage_scrub_place place = {.next = 1};
    struct storage_scrubbed out;
    struct look l;
    char aside[300];
    fill_all(f);
    snprintf(aside, sizeof aside, "%s", file_path(f, "aside"));
    assert_int_equal(piece(f, &place, &out), STORAGE_SCRUB_MORE);
    assert_true(place.next > 1 && place.next < 11);
    assert_int_equal(rename(file_path(f, "log-00000000000000000001"), aside), 0);
    assert_int_equal(piece(f, &place, &out), STORAGE_SCRUB_MORE);
    assert_true(out.count == 0 && place.again);
    assert_int_equal(rename(aside, file_path(f, "log-00000000000000000001")), 0);
    f->storage->ops->retain(f->storage, 60, 2500); /* the first two segments */
    wait_dropped(f, 21);
    assert_int_equal(piece(f, &place, &out), STORAGE_SCRUB_MORE);
    assert_true(out.count == 0 && place.next > 20);
    look_from(f, &place, &l);
    assert_int_equal(l.count, 0);
}

/* The segment that was being looked at becomes the newest, and shorter. */
static void truncation_meanwhile(void **state) {
    struct fixture *f = *state;
    struct storage_scrub_place place = {.next = 31};
    struct storage_scrubbed out;
    struct look l;
    fill_all(f);
    assert_int_equal(piece(f, &place, &out), STORAGE_SCRUB_MORE);
    fixture_append(f, 34, 45, 2, PAYLOAD, 9000);
    look_from(f, &place, &l);
    assert_int_equal(l.count, 0);
    look_all(f, &l);
    assert_int_equal(l.count, 0);
}

/* What stands in front of a gap, and in one that is being filled. */
static void gap_meanwhile(void **state) {
    struct fixture *f = *state;
    struct look l;
    char path[300];
    follower_open(f);
    snprintf(path, sizeof path, "%s", file_path(f, "incoming"));
    make_file(f, path, 60, 9);
    assert_int_equal(install(f, path, 30), 0);
    look_all(f, &l);
    assert_int_equal(l.count, 0);
    fixture_append(f, 61, 70, 5, 64, 2000);
    look_all(f, &l);
    assert_int_equal(l.count, 0);
    assert_int_equal(fill(f, 31, 45, 2, 64), STORAGE_FILLED);
    look_all(f, &l);
    assert_int_equal(l.count, 0);
    assert_int_equal(fill(f, 46, 60, 2, 64), STORAGE_FILLED);
    look_all(f, &l);
    assert_int_equal(l.count, 0);
}

static int no_memory(void *arg, enum storage_lmdb_point point) {
    return point == STORAGE_POINT_ALLOCATE && *(const bool *)arg;
}

static void without_memory(void **state) {
    struct fixture *f = *state;
    struct storage_scrub_place place = {.next = 12};
    struct storage_scrubbed out;
    struct look l;
    bool lacks = false;
    f->options.fault = no_memory;
    f->options.fault_arg = &lacks;
    fill_all(f);
    lacks = true;
    assert_int_equal(piece(f, &place, &out), STORAGE_SCRUB_LATER);
    assert_true(place.next == 12 && out.count == 0 && out.bytes == 0);
    lacks = false;
    look_from(f, &place, &l);
    assert_int_equal(l.count, 0);
}

/* No file can be opened: nothing is known, and nothing is told. */
static void without_descriptors(void **state) {
    struct fixture *f = *state;
    struct storage_scrubbed out;
    struct look l;
    struct rlimit before, none;
    fill_all(f);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (uint8_t part = 0; part < 3; part++) {
        struct storage_scrub_place place = {.part = part};
        none = (struct rlimit){0, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        enum storage_scrub outcome = piece(f, &place, &out);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(outcome, STORAGE_SCRUB_LATER);
        assert_true(place.part == part && out.count == 0);
    }
    look_all(f, &l);
    assert_int_equal(l.count, 0);
}

static uint32_t cached_pages(const char *path, bool let_go_first) {
    unsigned char there[1024];
    uint32_t count = 0;
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    if (let_go_first) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED && st.st_size <= 1024 * PAGE);
    assert_int_equal(mincore(map, (size_t)st.st_size, there), 0);
    for (off_t i = 0; i < st.st_size / PAGE; i++) count += there[i] & 1;
    munmap(map, (size_t)st.st_size);
    close(fd);
    return count;
}

/* What was not in the page cache is not there afterwards; what was stays. */
static void page_cache_is_left_as_it_was(void **state) {
    struct fixture *f = *state;
    static uint8_t part[10 * PAGE];
    struct look l;
    char path[300];
    fill_all(f);
    fixture_reopen(f); /* closed segments are not mapped */
    snprintf(path, sizeof path, "%s", data_of(f, "log-00000000000000000021"));
    if (cached_pages(path, true) != 0) {
        print_message("this file system does not let its pages go\n");
        return;
    }
    look_all(f, &l);
    assert_int_equal(l.count, 0);
    assert_int_equal(cached_pages(path, false), 0);
    int fd = open(path, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    assert_int_equal(pread(fd, part, sizeof part, 3 * PAGE), sizeof part);
    close(fd);
    uint32_t before = cached_pages(path, false);
    assert_true(before >= 10);
    look_all(f, &l);
    assert_int_equal(cached_pages(path, false), before);
}

/* What a disk refuses is an answer: here a descriptor of which nothing can be read. */
static void probe_of_what_cannot_be_read(void **state) {
    struct page_probe *p = malloc(sizeof *p);
    static uint8_t bytes[4 * PAGE] __attribute__((aligned(PAGE)));
    FILE *file = tmpfile();
    assert_int_equal(fwrite(bytes, 1, 3 * PAGE, file), 3 * PAGE);
    assert_int_equal(fflush(file), 0);
    page_probe_init(p, 1);
    assert_int_equal(p->window_bytes, sysconf(_SC_PAGESIZE));
    assert_true(page_probe_read(p, fileno(file), bytes, 3 * PAGE, 5000, 100));
    assert_int_equal(p->read_bytes, PAGE);
    assert_true(page_probe_read(p, fileno(file), bytes, 3 * PAGE, 5000, 100));
    assert_int_equal(p->read_bytes, PAGE); /* it is known */
    assert_true(page_probe_read(p, fileno(file), bytes, 3 * PAGE, 2 * PAGE, PAGE));
    assert_false(page_probe_read(p, fileno(file), bytes, 3 * PAGE, 2 * PAGE, PAGE + 1));
    assert_false(page_probe_read(p, fileno(file), bytes, 4 * PAGE, 3 * PAGE, 1)); /* it was cut */
    int directory = open("/tmp", O_RDONLY | O_DIRECTORY);
    assert_false(page_probe_read(p, directory, bytes, 3 * PAGE, 0, 1));
    close(directory);
    /* A window whose end is missing has what is in front of it. */
    page_probe_init(p, 1 << 20);
    assert_int_equal(p->window_bytes, PAGE_PROBE_WINDOW_BYTES_MAX);
    assert_true(page_probe_read(p, fileno(file), bytes, 4 * PAGE, 2 * PAGE, PAGE));
    assert_false(page_probe_read(p, fileno(file), bytes, 4 * PAGE, 3 * PAGE, PAGE));
    page_probe_let_go(p, fileno(file));
    fclose(file);
    free(p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(whole_in_pieces),
        TEST(flipped_byte_of_a_record),
        TEST(told_at_the_second_look),
        TEST(damaged_pages_of_the_log),
        TEST(damaged_pages_of_the_state),
        TEST(flipped_byte_of_the_state),
        TEST(many_messages),
        TEST(cut_segment),
        TEST(file_that_cannot_be_read),
        TEST(retention_meanwhile),
        TEST(truncation_meanwhile),
        TEST(gap_meanwhile),
        TEST(without_memory),
        TEST(without_descriptors),
        TEST(page_cache_is_left_as_it_was),
        cmocka_unit_test(probe_of_what_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
