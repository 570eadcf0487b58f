/* SIGKILL at random moments of a process that appends, truncates and checkpoints: what it was told
 * is durable is there, and nothing is half there. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "storage_fixture.h"

enum { ROUNDS = 25 };

/* Shared with the child: what it was told. Written before its next step begins. */
struct told {
    atomic_uint_fast64_t queued;    /* newest index handed over */
    atomic_uint_fast64_t durable;   /* newest index that came back */
    atomic_uint_fast64_t kept;      /* no record at or below it was truncated since */
    atomic_uint_fast64_t term;      /* of the newest vote that was saved */
    atomic_uint_fast64_t marker;    /* of the newest checkpoint that came back */
};

static uint64_t child_append(struct fixture *f, struct told *told, uint64_t first, uint64_t last,
                             uint64_t term, uint32_t payload_bytes) {
    atomic_store(&told->queued, last);
    return f->storage->ops->append(
        f->storage, fixture_records(first, last, term, payload_bytes, (int64_t)last));
}

static void child_truncate(struct fixture *f, struct told *told, uint64_t *last, uint64_t term) {
    uint64_t back = *last > 30 ? *last - 25 : *last;
    atomic_store(&told->kept, back - 1);
    atomic_store(&told->durable, back - 1);
    fixture_wait64(f, &f->appended_sequence, child_append(f, told, back, back + 3, term, 500));
    *last = back + 3;
    atomic_store(&told->durable, *last);
    atomic_store(&told->kept, UINT64_MAX);
}

static void child_checkpoint(struct fixture *f, struct told *told, uint64_t marker) {
    struct id128 key = fixture_key(1, 1);
    uint32_t bytes = 48 + 8 * (uint32_t)(marker % 1000);
    void *block = fixture_block(ACTOR_ORDER, &key, bytes, (uint8_t)marker);
    struct checkpoint_item item = {.key = key, .kind = ACTOR_ORDER, .bytes = bytes};
    struct checkpoint checkpoint = {.items = &item, .items_count = 1, .blocks = block,
                                    .blocks_bytes = bytes, .applied_index = marker,
                                    .applied_term = 1};
    f->storage->ops->checkpoint(f->storage, &checkpoint);
    fixture_wait(f, &f->checkpointed, f->checkpointed + 1);
    atomic_store(&told->marker, marker);
    free(block);
}

/* Works until it is killed. */
static void child_work(struct fixture *f, struct told *told, uint64_t term) {
    struct storage_meta meta;
    f->appended_sequence = 0;
    f->storage = storage_lmdb_open(&f->options, f->error, sizeof f->error);
    if (!f->storage) _exit(1);
    if (f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error) != 0) _exit(2);
    f->storage->ops->save_vote(f->storage, term, 1);
    atomic_store(&told->term, term);
    uint64_t last = meta.log_last;
    for (uint64_t step = 1;; step++) {
        uint64_t sequence = 0;
        for (int burst = 0; burst < 5; burst++) {
            uint64_t count = 1 + (step + (uint64_t)burst) % 4;
            uint32_t payload_bytes = (uint32_t)(16 + step * 977 % 9000);
            sequence = child_append(f, told, last + 1, last + count, term, payload_bytes);
            last += count;
        }
        fixture_wait64(f, &f->appended_sequence, sequence);
        atomic_store(&told->durable, last);
        if (step % 7 == 0 && atomic_load(&told->marker) + 40 < last) {
            child_truncate(f, told, &last, term);
        }
        if (step % 5 == 0 && last > 60) child_checkpoint(f, told, last - 60);
    }
}

static bool visit_sound(void *arg, const struct record_header *h, const void *payload) {
    uint64_t *term = arg;
    assert_true(fixture_is_sound(h, payload));
    assert_true(h->term >= *term);
    *term = h->term;
    return true;
}

/* Returns the newest record's index. */
static uint64_t expect_what_was_told(struct fixture *f, const struct told *told) {
    struct storage_meta meta;
    uint64_t term = 0;
    fixture_open(f);
    if (f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error) != 0) {
        fail_msg("%s", f->error);
    }
    assert_true(meta.log_last >= atomic_load(&told->durable));
    /* A truncation that was under way leaves the old tail or the new one. */
    if (atomic_load(&told->kept) == UINT64_MAX) {
        assert_true(meta.log_last <= atomic_load(&told->queued));
    }
    assert_true(meta.term >= atomic_load(&told->term));
    assert_true(meta.applied_index >= atomic_load(&told->marker));
    if (meta.log_last > 0) {
        int rc = f->storage->ops->read(f->storage, 1, meta.log_last, visit_sound, &term, f->error,
                                       sizeof f->error);
        if (rc != 0) fail_msg("%s", f->error);
    }
    if (meta.applied_index > 0) {
        struct id128 key = fixture_key(1, 1);
        void *block;
        uint32_t bytes;
        assert_int_equal(f->storage->ops->read_actor(f->storage, ACTOR_ORDER, &key, &block, &bytes,
                                                     f->error, sizeof f->error), 0);
        assert_non_null(block);
        /* Snapshot and marker are of one transaction. */
        assert_int_equal(bytes, 48 + 8 * (uint32_t)(meta.applied_index % 1000));
        f->storage->ops->release_block(f->storage, block);
    }
    fixture_close(f);
    return meta.log_last;
}

/* Until it was told of records, on a disk however slow. */
static void await_told(const struct told *told, uint64_t before) {
    for (int i = 0; i < 60000 && atomic_load(&told->durable) == before; i++) fixture_nap();
}

static void killed_rounds(struct fixture *f) {
    struct told *told = fixture_share(sizeof *told);
    atomic_store(&told->kept, UINT64_MAX);
    f->options.segment_bytes_max = 1 << 19;
    unsigned seed = 5;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        uint64_t before = atomic_load(&told->durable);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) child_work(f, told, round);
        if (round % 3 == 0) await_told(told, before);
        nanosleep(&(struct timespec){.tv_nsec = 2000000 + rand_r(&seed) % 80000000}, NULL);
        kill(child, SIGKILL);
        fixture_await_end(child, SIGKILL, 0);
        uint64_t last = expect_what_was_told(f, told);
        if (atomic_load(&told->kept) == UINT64_MAX) continue;
        /* Killed within a truncation: the next child goes on from whichever tail is left, and may
         * be killed before it hands anything over. */
        atomic_store(&told->kept, UINT64_MAX);
        atomic_store(&told->queued, last);
    }
    print_message("%d kills, %llu records\n", ROUNDS,
                  (unsigned long long)atomic_load(&told->durable));
    assert_true(atomic_load(&told->durable) > 0);
    munmap(told, sizeof *told);
}

static void killed_at_random_moments(void **state) { killed_rounds(*state); }

/* So small that it fills all the time, and that some records go by it. */
static void killed_with_a_journal(void **state) {
    struct fixture *f = *state;
    f->options.journal_bytes = 48 * 4096;
    killed_rounds(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_at_random_moments, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(killed_with_a_journal, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
