/* The journal's file alone, against a model: what was written and not applied is found again, in
 * order, whatever is opened, torn or damaged in between. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/prng.h"
#include "persistence/lmdb/journal.h"
#include "storage_fixture.h"

enum { SHARD = 3, BLOCKS = 64 };

struct model {
    char path[160];
    struct journal journal;
    uint64_t next;             /* index of the record that comes next */
    uint64_t counts[100000];   /* records of each frame, by sequence */
    uint64_t begins[100000];
    char error[256];
};

static const atomic_bool go_on;

static int model_setup(void **state) {
    if (fixture_setup(state) != 0) return -1;
    struct fixture *f = *state;
    struct model *m = calloc(1, sizeof *m);
    snprintf(m->path, sizeof m->path, "%s/journal", f->directory);
    m->next = 1;
    f->storage = NULL;
    f->options.fault_arg = m;
    return journal_make(m->path, SHARD, BLOCKS * JOURNAL_BLOCK, &go_on);
}

static int model_teardown(void **state) {
    struct model *m = ((struct fixture *)*state)->options.fault_arg;
    journal_close(&m->journal);
    free(m);
    return fixture_teardown(state);
}

static struct model *model_of(void **state) {
    return ((struct fixture *)*state)->options.fault_arg;
}

static void release(struct record *r) {
    while (r) {
        struct record *next = r->next;
        record_release(r);
        r = next;
    }
}

/* Opens it and asserts that it holds records first..next-1. */
static void model_open(struct model *m, uint64_t first) {
    struct record *records;
    int rc = journal_open(&m->journal, m->path, SHARD, &records, m->error, sizeof m->error);
    if (rc != 0) fail_msg("%s", m->error);
    for (struct record *r = records; r; r = r->next) {
        assert_true(r->header.index == first++);
        assert_true(fixture_is_sound(&r->header, r->payload));
    }
    assert_true(first == m->next);
    release(records);
}

static bool model_write(struct model *m, uint32_t count, uint32_t payload_bytes,
                        uint64_t applied) {
    struct record *records = fixture_records(m->next, m->next + count - 1, 1, payload_bytes, 5);
    size_t bytes = 0;
    for (struct record *r = records; r; r = r->next) {
        record_seal(&r->header, r->payload);
        bytes += journal_record_bytes(r);
    }
    bool room = journal_has_room(&m->journal, bytes);
    if (room) {
        uint64_t sequence = m->journal.sequence + 1;
        m->counts[sequence] = count;
        m->begins[sequence] = m->next;
        assert_int_equal(journal_write(&m->journal, records, count, applied), 0);
        assert_true(m->journal.sequence == sequence);
        m->next += count;
    }
    release(records);
    return room;
}

static void note(struct model *m, uint64_t applied) {
    assert_int_equal(journal_write(&m->journal, NULL, 0, applied), 0);
    m->counts[m->journal.sequence] = 0;
    m->begins[m->journal.sequence] = m->next;
}

/* Index of the first record that is in no applied frame. */
static uint64_t first_left(const struct model *m, uint64_t applied) {
    return applied < m->journal.sequence ? m->begins[applied + 1] : m->next;
}

static void random_frames_are_found_again(void **state) {
    struct model *m = model_of(state);
    struct prng prng;
    prng_seed(&prng, 7);
    model_open(m, 1);
    unsigned full = 0, reopened = 0;
    for (int step = 0; step < 3000; step++) {
        uint64_t applied = m->journal.applied;
        if (prng_below(&prng, 12) == 0)
            applied += prng_below(&prng, (uint32_t)(m->journal.sequence - applied + 1));
        uint32_t count = 1 + (uint32_t)prng_below(&prng, 6);
        if (!model_write(m, count, 16 + (uint32_t)prng_below(&prng, 6000), applied)) {
            full++;
            note(m, m->journal.applied + (m->journal.sequence - m->journal.applied + 1) / 2);
        }
        if (prng_below(&prng, 20) != 0) continue;
        uint64_t left = first_left(m, m->journal.applied);
        reopened++;
        journal_close(&m->journal);
        model_open(m, left);
    }
    assert_true(full > 10 && reopened > 50);
}

static void tells_how_far_the_log_has_come(void **state) {
    struct model *m = model_of(state);
    model_open(m, 1);
    assert_true(m->journal.clear);
    assert_true(model_write(m, 3, 100, 0));
    assert_true(model_write(m, 2, 100, 0));
    assert_false(m->journal.clear);
    assert_true(journal_applied(&m->journal, 2) == 0);
    assert_true(journal_applied(&m->journal, 3) == 1);
    assert_true(journal_applied(&m->journal, 4) == 1);
    assert_true(journal_applied(&m->journal, 5) == 2);
    note(m, 2);
    assert_true(m->journal.clear);
    journal_close(&m->journal);
    model_open(m, 6);
    assert_true(m->journal.clear);
}

/* Turns one byte of the frame with `sequence` over. */
static void damage(struct model *m, uint64_t sequence, uint64_t offset) {
    int fd = open(m->path, O_RDWR);
    uint8_t block[JOURNAL_BLOCK];
    bool found = false;
    for (int i = 1; i < BLOCKS && !found; i++) {
        struct journal_frame_header h;
        assert_int_equal(pread(fd, block, sizeof block, (off_t)i * JOURNAL_BLOCK), sizeof block);
        memcpy(&h, block, sizeof h);
        if (h.sequence != sequence || h.identity != m->journal.identity) continue;
        found = true;
        uint8_t byte;
        off_t at = (off_t)i * JOURNAL_BLOCK + (off_t)offset;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_true(found);
    close(fd);
}

static void a_torn_last_frame_was_never_written(void **state) {
    struct model *m = model_of(state);
    model_open(m, 1);
    for (int i = 0; i < 3; i++) assert_true(model_write(m, 2, 5000, 0));
    damage(m, 3, 9000);
    journal_close(&m->journal);
    m->next = 5;
    model_open(m, 1);
    /* The room of what was torn is used again. */
    assert_true(model_write(m, 2, 100, 1));
    journal_close(&m->journal);
    model_open(m, 3);
}

/* A header of now before records of then: each record is sound, and they are not its. */
static void a_frame_with_older_records_is_none(void **state) {
    struct model *m = model_of(state);
    model_open(m, 1);
    assert_true(model_write(m, 2, 5000, 0));
    assert_true(model_write(m, 2, 5000, 0));
    uint8_t old[2 * JOURNAL_BLOCK];
    int fd = open(m->path, O_RDWR);
    /* The second frame begins in block 4 of the ring: 10,128 bytes are 3 blocks. */
    off_t at = (off_t)(1 + 3) * JOURNAL_BLOCK + JOURNAL_BLOCK;
    assert_int_equal(pread(fd, old, sizeof old, at), sizeof old);
    damage(m, 2, 100);
    journal_close(&m->journal);
    m->next = 3;
    model_open(m, 1);
    struct record *records = fixture_records(3, 4, 2, 5000, 5);
    for (struct record *r = records; r; r = r->next) record_seal(&r->header, r->payload);
    assert_int_equal(journal_write(&m->journal, records, 2, 0), 0);
    release(records);
    assert_int_equal(pwrite(fd, old, sizeof old, at), sizeof old);
    close(fd);
    journal_close(&m->journal);
    m->next = 3;
    model_open(m, 1);
}

static void a_damaged_frame_that_is_needed_is_told(void **state) {
    struct model *m = model_of(state);
    struct record *records;
    model_open(m, 1);
    for (int i = 0; i < 4; i++) assert_true(model_write(m, 2, 5000, 0));
    damage(m, 2, 9000);
    journal_close(&m->journal);
    assert_int_equal(journal_read(m->path, SHARD, &records, m->error, sizeof m->error), -1);
    assert_non_null(strstr(m->error, "a frame between 1 and 4 is damaged"));
    assert_null(records);
    assert_int_equal(journal_read(m->path, SHARD + 1, &records, m->error, sizeof m->error), -1);
    assert_non_null(strstr(m->error, "is shard 3's"));
    int fd = open(m->path, O_RDWR);
    assert_int_equal(pwrite(fd, "x", 1, 20), 1);
    close(fd);
    assert_int_equal(journal_read(m->path, SHARD, &records, m->error, sizeof m->error), -1);
    assert_non_null(strstr(m->error, "its header is damaged"));
    unlink(m->path);
    assert_int_equal(journal_read(m->path, SHARD, &records, m->error, sizeof m->error), ENOENT);
}

static void making_one_can_be_stopped(void **state) {
    struct model *m = model_of(state);
    atomic_bool stop = true;
    unlink(m->path);
    assert_int_equal(journal_make(m->path, SHARD, BLOCKS * JOURNAL_BLOCK, &stop), EINTR);
    assert_int_equal(fixture_count_files(*state, "journal"), 0);
}

static bool has_up_to(void *arg, const struct record *r) {
    return r->header.index <= *(const uint64_t *)arg;
}

/* First of the records that a log lacks which begins at `first` and has them up to `last`; 0 = it
 * lacks none, UINT64_MAX = it is refused. */
static uint64_t lacking(struct model *m, uint64_t first, uint64_t last) {
    struct record *records;
    struct journal_log log = {.first = first, .last = last, .has = has_up_to, .arg = &last};
    journal_close(&m->journal);
    assert_int_equal(journal_open(&m->journal, m->path, SHARD, &records, m->error,
                                  sizeof m->error), 0);
    if (journal_recover(&m->journal, &log, "it", &records, m->error, sizeof m->error) != 0) {
        assert_null(records);
        return UINT64_MAX;
    }
    uint64_t index = records ? records->header.index : 0;
    release(records);
    return index;
}

/* The log had followed, and retention has dropped a part of it since, but no frame says so. */
static void what_retention_dropped_is_not_missed(void **state) {
    struct model *m = model_of(state);
    model_open(m, 1);
    assert_true(model_write(m, 5, 100, 0) && model_write(m, 3, 100, 0));
    assert_true(lacking(m, 1, 8) == 0);
    assert_true(lacking(m, 1, 4) == 5);
    assert_true(lacking(m, 4, 8) == 0);
    assert_true(lacking(m, 4, 6) == 7);
    assert_true(lacking(m, 8, 8) == 0);
    assert_true(lacking(m, 9, 20) == UINT64_MAX); /* another log's */
    assert_non_null(strstr(m->error, "does not belong to this log"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(random_frames_are_found_again, model_setup, model_teardown),
        cmocka_unit_test_setup_teardown(tells_how_far_the_log_has_come, model_setup,
                                        model_teardown),
        cmocka_unit_test_setup_teardown(a_torn_last_frame_was_never_written, model_setup,
                                        model_teardown),
        cmocka_unit_test_setup_teardown(a_frame_with_older_records_is_none, model_setup,
                                        model_teardown),
        cmocka_unit_test_setup_teardown(a_damaged_frame_that_is_needed_is_told, model_setup,
                                        model_teardown),
        cmocka_unit_test_setup_teardown(what_retention_dropped_is_not_missed, model_setup,
                                        model_teardown),
        cmocka_unit_test_setup_teardown(making_one_can_be_stopped, model_setup, model_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
