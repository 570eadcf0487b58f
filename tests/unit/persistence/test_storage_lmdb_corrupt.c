/* Damaged files: what was stored is either handed out as it was, or not at all and by name. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage_fixture.h"

enum { RECORDS = 60, ACTORS = 40 };

static void fill(struct fixture *f) {
    static uint8_t blocks[ACTORS * 2048];
    static struct checkpoint_item items[ACTORS];
    struct checkpoint_cursor cursor = {.name = "outbox", .bytes = 8, .value = "abcdefg"};
    struct checkpoint checkpoint = {.items = items, .items_count = ACTORS, .blocks = blocks,
                                    .blocks_bytes = sizeof blocks, .cursors = &cursor,
                                    .cursors_count = 1, .applied_index = 10, .applied_term = 1};
    for (uint32_t i = 0; i < ACTORS; i++) {
        struct id128 key = fixture_key(i, i);
        uint8_t *block = fixture_block(ACTOR_ORDER, &key, 100 + 40 * i, (uint8_t)i);
        memcpy(blocks + 2048 * i, block, 100 + 40 * i);
        free(block);
        items[i] = (struct checkpoint_item){.key = key, .kind = ACTOR_ORDER, .offset = 2048 * i,
                                            .bytes = 100 + 40 * i, .new_deadline_ms = 1000 + i};
    }
    fixture_open(f);
    fixture_append(f, 1, RECORDS / 2, 1, 700, 1000);
    fixture_append(f, RECORDS / 2 + 1, RECORDS, 1, 9000, 1000);
    f->storage->ops->checkpoint(f->storage, &checkpoint);
    fixture_wait(f, &f->checkpointed, f->checkpointed + 1);
    fixture_close(f);
}

/* What a look at a damaged directory can end in. */
enum outcome { WHOLE = 10, NAMED, REFUSED, WRONG, OUTCOMES };

static bool visit_sound(void *arg, const struct record_header *h, const void *payload) {
    uint64_t *next = arg;
    if (h->index != *next || h->term != 1 || !fixture_is_sound(h, payload)) _exit(WRONG);
    ++*next;
    return true;
}

static bool visit_sound_actor(void *arg, const void *block, uint32_t bytes) {
    uint32_t *next = arg;
    struct id128 key = fixture_key(*next, *next);
    void *wanted = fixture_block(ACTOR_ORDER, &key, 100 + 40 * *next, (uint8_t)*next);
    if (bytes != 100 + 40 * *next || memcmp(block, wanted, bytes) != 0) _exit(WRONG);
    free(wanted);
    ++*next;
    return true;
}

static void look_at_log(struct fixture *f, enum outcome *outcome) {
    for (uint64_t next = 1; next <= RECORDS; next++) {
        f->error[0] = 0;
        int rc = f->storage->ops->read(f->storage, next, RECORDS, visit_sound, &next, f->error,
                                       sizeof f->error);
        if (rc == 0) return;
        /* A sentence, with the directory and the index that it stopped at. */
        char named[64];
        snprintf(named, sizeof named, "record %llu", (unsigned long long)next);
        if (rc != -1 || !strstr(f->error, f->directory) || !strstr(f->error, named)) _exit(WRONG);
        *outcome = NAMED;
    }
}

static void look_at_state(struct fixture *f, enum outcome *outcome) {
    uint32_t next = 0;
    int rc = f->storage->ops->visit_actors(f->storage, ACTOR_ORDER, visit_sound_actor, &next,
                                           f->error, sizeof f->error);
    if (rc == 0 && next != ACTORS && next != 0) _exit(WRONG);
    if (rc != 0 && !strstr(f->error, f->directory)) _exit(WRONG);
    if (rc != 0) *outcome = NAMED;
    for (uint32_t i = 0; i < ACTORS; i++) {
        struct id128 key = fixture_key(i, i);
        f->storage->ops->load(f->storage, ACTOR_ORDER, &key);
    }
    fixture_wait(f, &f->loaded_count, ACTORS);
    for (uint32_t i = 0; i < ACTORS; i++) {
        struct storage_event *e = &f->loaded[i];
        if (!e->ok) *outcome = NAMED;
        if (!e->ok || !e->block) continue;
        void *wanted = fixture_block(ACTOR_ORDER, &e->key, 100 + 40 * i, (uint8_t)i);
        if (e->block_bytes != 100 + 40 * i || memcmp(e->block, wanted, e->block_bytes) != 0) {
            _exit(WRONG);
        }
        free(wanted);
        free(e->block);
    }
}

/* Opens the directory in a child, since damage in LMDB's own pages may end a process, and reads
 * all. A death by signal hands nothing out. */
static int look(struct fixture *f) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        dup2(null, STDOUT_FILENO);
        signal(SIGSEGV, SIG_DFL); /* cmocka would go on in the child */
        signal(SIGBUS, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        enum outcome outcome = WHOLE;
        f->storage = storage_lmdb_open(&f->options, f->error, sizeof f->error);
        if (!f->storage) _exit(strstr(f->error, f->directory) ? REFUSED : WRONG);
        look_at_log(f, &outcome);
        look_at_state(f, &outcome);
        fixture_close(f);
        _exit(outcome);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status)) return 0;
    /* A sanitizer turns the signal into this. */
    return WEXITSTATUS(status) == 1 ? 0 : WEXITSTATUS(status);
}

static void change(const char *path, off_t at, uint8_t mask) {
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* The state may be set aside by a look: put it back from a copy. */
static void restore(const struct fixture *f, const char *copy) {
    char command[600];
    snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", f->directory, copy,
             f->directory);
    assert_int_equal(system(command), 0);
}

static void flip_bytes(struct fixture *f, const char *file, unsigned flips, unsigned seed) {
    char copy[200], path[400];
    unsigned counts[OUTCOMES] = {0}, died = 0;
    struct stat st;
    fill(f);
    snprintf(copy, sizeof copy, "%s.copy", f->directory);
    snprintf(path, sizeof path, "cp -r %s %s", f->directory, copy);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/%s/data.mdb", f->directory, file);
    assert_int_equal(stat(path, &st), 0);
    for (unsigned i = 0; i < flips; i++) {
        off_t at = (off_t)(rand_r(&seed) % (unsigned)st.st_size);
        change(path, at, (uint8_t)(1 << rand_r(&seed) % 8));
        int outcome = look(f);
        if (outcome == 0) died++;
        else if (outcome >= WHOLE && outcome < WRONG) counts[outcome]++;
        else fail_msg("flip at %lld of %s: outcome %d", (long long)at, path, outcome);
        restore(f, copy);
    }
    fixture_remove_tree(copy);
    print_message("%s: %u flips: %u whole, %u named, %u refused, %u died\n", file, flips,
                  counts[WHOLE], counts[NAMED], counts[REFUSED], died);
    assert_true(counts[NAMED] > 0);
}

static void flipped_bytes_in_the_log(void **state) {
    flip_bytes(*state, "log-00000000000000000001", 150, 11);
}

static void flipped_bytes_in_the_state(void **state) { flip_bytes(*state, "state", 150, 12); }

static void cut_file(void **state) {
    struct fixture *f = *state;
    char path[300];
    unsigned named = 0;
    struct stat st;
    fill(f);
    snprintf(path, sizeof path, "%s/log-%020d/data.mdb", f->directory, 1);
    assert_int_equal(stat(path, &st), 0);
    for (off_t bytes = st.st_size - 4096; bytes >= 0; bytes -= 40000) {
        assert_int_equal(truncate(path, bytes), 0);
        int outcome = look(f);
        assert_in_range(outcome, WHOLE, REFUSED); /* the last page may be a free one */
        named += outcome == NAMED;
    }
    assert_true(named > 0);
}

/* The one record and no other is lost. */
static void one_damaged_record_is_named(void **state) {
    struct fixture *f = *state;
    char path[300], error[512];
    static uint8_t file[1 << 22];
    uint64_t next = 1;
    fill(f);
    snprintf(path, sizeof path, "%s/log-%020d/data.mdb", f->directory, 1);
    int fd = open(path, O_RDWR);
    ssize_t bytes = pread(fd, file, sizeof file, 0);
    assert_true(bytes > 0);
    /* Of record 41: index and term stand behind the checksum. */
    uint64_t wanted[2] = {41, 1};
    uint8_t *at = memmem(file, (size_t)bytes, wanted, sizeof wanted);
    assert_non_null(at);
    uint8_t changed = at[5000] ^ 0x10;
    assert_int_equal(pwrite(fd, &changed, 1, at - file + 5000), 1);
    close(fd);
    fixture_open(f);
    assert_int_equal(f->storage->ops->read(f->storage, 1, RECORDS, visit_sound, &next, f->error,
                                           sizeof f->error), -1);
    assert_int_equal(next, 41);
    snprintf(error, sizeof error,
             "%s/log-%020d: record 41 is damaged: checksum does not match", f->directory, 1);
    assert_string_equal(f->error, error);
    fixture_expect(f, 42, RECORDS, 1);
}

static void damaged_snapshot_is_named(void **state) {
    struct fixture *f = *state;
    char path[300];
    static uint8_t file[1 << 22];
    fill(f);
    snprintf(path, sizeof path, "%s/state/data.mdb", f->directory);
    int fd = open(path, O_RDWR);
    ssize_t bytes = pread(fd, file, sizeof file, 0);
    uint8_t fill_bytes[200];
    memset(fill_bytes, 9, sizeof fill_bytes);
    uint8_t *at = memmem(file, (size_t)bytes, fill_bytes, sizeof fill_bytes);
    assert_non_null(at);
    uint8_t changed = 8;
    assert_int_equal(pwrite(fd, &changed, 1, at - file + 100), 1);
    close(fd);
    fixture_open(f);
    struct id128 key = fixture_key(9, 9), other = fixture_key(8, 8);
    void *block;
    uint32_t block_bytes;
    assert_int_equal(f->storage->ops->read_actor(f->storage, ACTOR_ORDER, &key, &block,
                                                 &block_bytes, f->error, sizeof f->error), -1);
    assert_null(block);
    assert_non_null(strstr(f->error, "state: the snapshot of 00000000000900000000000000000009 in "
                                     "orders is damaged: checksum does not match"));
    f->storage->ops->load(f->storage, ACTOR_ORDER, &key);
    f->storage->ops->load(f->storage, ACTOR_ORDER, &other);
    fixture_wait(f, &f->loaded_count, 2);
    assert_false(f->loaded[0].ok);
    assert_null(f->loaded[0].block);
    assert_true(f->loaded[1].ok);
    f->storage->ops->release_block(f->storage, f->loaded[1].block);
}

/* One row's key gets another length: from there on nothing is listed, and the listing says so. */
static void damaged_deadlines_are_no_end_of_a_listing(void **state) {
    enum { DAMAGED = 9 };
    struct fixture *f = *state;
    char path[300];
    static uint8_t file[1 << 22];
    fill(f);
    snprintf(path, sizeof path, "%s/state/data.mdb", f->directory);
    int fd = open(path, O_RDWR);
    ssize_t bytes = pread(fd, file, sizeof file, 0);
    struct id128 key = fixture_key(DAMAGED, DAMAGED);
    uint8_t row[24] = {[6] = (1000 + DAMAGED) >> 8, [7] = (1000 + DAMAGED) & 0xff};
    memcpy(row + 8, &key, 16);
    uint8_t *at = memmem(file, (size_t)bytes, row, sizeof row);
    assert_non_null(at);
    assert_int_equal(at[-2], sizeof row); /* the length of the key stands before it */
    uint8_t changed = sizeof row + 1;
    assert_int_equal(pwrite(fd, &changed, 1, at - 2 - file), 1);
    close(fd);
    fixture_open(f);
    f->storage->ops->load_timers(f->storage, 0, 1000 + DAMAGED - 1, 100);
    fixture_wait(f, &f->loaded_count, DAMAGED);
    for (uint32_t i = 0; i < DAMAGED - 1; i++) assert_true(f->loaded[i].ok);
    assert_false(f->loaded[DAMAGED - 1].ok || f->loaded[DAMAGED - 1].damaged);
    f->loaded_count = 0;
    f->storage->ops->load_timers(f->storage, 0, 5000, 100);
    fixture_wait(f, &f->loaded_count, 1);
    assert_int_equal(f->loaded[0].kind, STORAGE_TIMER_LOADED);
    assert_false(f->loaded[0].ok);
    assert_true(f->loaded[0].damaged);
}

static void damaged_vote_is_refused(void **state) {
    struct fixture *f = *state;
    struct storage_meta meta;
    char path[300];
    static uint8_t file[1 << 20];
    fixture_open(f);
    f->storage->ops->save_vote(f->storage, 0x1122334455667788, 0x99);
    fixture_close(f);
    snprintf(path, sizeof path, "%s/vote/data.mdb", f->directory);
    int fd = open(path, O_RDWR);
    ssize_t bytes = pread(fd, file, sizeof file, 0);
    uint64_t term = 0x1122334455667788;
    uint8_t *at = memmem(file, (size_t)bytes, &term, 8);
    assert_non_null(at);
    assert_int_equal(pwrite(fd, "x", 1, at - file), 1);
    close(fd);
    fixture_open(f);
    assert_int_equal(f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error), -1);
    assert_non_null(strstr(f->error, "the vote is damaged: checksum does not match"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(flipped_bytes_in_the_log),
        TEST(flipped_bytes_in_the_state),
        TEST(cut_file),
        TEST(one_damaged_record_is_named),
        TEST(damaged_snapshot_is_named),
        TEST(damaged_deadlines_are_no_end_of_a_listing),
        TEST(damaged_vote_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
