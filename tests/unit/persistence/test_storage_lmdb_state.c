#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/limits.h"
#include "persistence/state_source.h"
#include "storage_fixture.h"

static struct storage_meta load_meta(struct fixture *f) {
    struct storage_meta meta;
    if (f->storage->ops->load_meta(f->storage, &meta, f->error, sizeof f->error) != 0) {
        fail_msg("%s", f->error);
    }
    return meta;
}

static void checkpoint_is_kept(void **state) {
    struct fixture *f = *state;
    uint8_t configuration[100];
    memset(configuration, 9, sizeof configuration);
    fixture_open(f);
    fixture_append(f, 1, 30, 1, 100, 1000);
    struct draft *d = draft_new(20);
    /* Not sorted; a small, a large and an odd one. */
    draft_put(d, ACTOR_ORDER, fixture_key(5000, 2), 300, 'b');
    draft_put(d, ACTOR_STORE, fixture_key(1, 1), 64, 's');
    draft_put(d, ACTOR_ORDER, fixture_key(4000, 1), 48, 'a');
    draft_put(d, ACTOR_BOARD, fixture_key(0, 0), 101, 'n');
    draft_put(d, ACTOR_ORDER, fixture_key(4500, 3), 100000, 'c');
    d->checkpoint.configuration = configuration;
    d->checkpoint.configuration_bytes = sizeof configuration;
    d->checkpoint.configuration_index = 1;
    draft_do(f, d);
    for (int i = 0; i < 2; i++, fixture_reopen(f)) {
        expect_actor(f, ACTOR_ORDER, fixture_key(5000, 2), 300, 'b');
        expect_actor(f, ACTOR_ORDER, fixture_key(4000, 1), 48, 'a');
        expect_actor(f, ACTOR_ORDER, fixture_key(4500, 3), 100000, 'c');
        expect_actor(f, ACTOR_STORE, fixture_key(1, 1), 64, 's');
        expect_actor(f, ACTOR_BOARD, fixture_key(0, 0), 101, 'n');
        expect_no_actor(f, ACTOR_ORDER, fixture_key(1, 1));
        struct storage_meta meta = load_meta(f);
        assert_true(meta.applied_index == 20 && meta.applied_term == 3);
        assert_true(meta.orders_count == 3 && meta.stores_count == 1);
        assert_true(meta.orders_birth_max_ms == 5000);
        assert_true(meta.configuration_index == 1 && meta.configuration_bytes == 100);
        assert_memory_equal(meta.configuration, configuration, sizeof configuration);
    }
}

static void newer_snapshots_replace_and_remove(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    fixture_append(f, 1, 30, 1, 100, 1000);
    struct draft *d = draft_new(10);
    draft_put(d, ACTOR_ORDER, fixture_key(1, 1), 300, 'a');
    draft_put(d, ACTOR_ORDER, fixture_key(2, 2), 300, 'b');
    draft_do(f, d);
    d = draft_new(20);
    draft_put(d, ACTOR_ORDER, fixture_key(1, 1), 500, 'A');
    draft_remove(d, ACTOR_ORDER, fixture_key(2, 2));
    draft_remove(d, ACTOR_ORDER, fixture_key(3, 3)); /* was never stored: no harm */
    draft_do(f, d);
    expect_actor(f, ACTOR_ORDER, fixture_key(1, 1), 500, 'A');
    expect_no_actor(f, ACTOR_ORDER, fixture_key(2, 2));
    assert_true(load_meta(f).orders_count == 1);
    assert_true(load_meta(f).applied_index == 20);
}

static void loads_are_answered(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    struct draft *d = draft_new(0);
    for (uint64_t i = 0; i < 500; i++) {
        draft_put(d, ACTOR_ORDER, fixture_key(i, i), 200 + (uint32_t)i, (uint8_t)i);
    }
    draft_do(f, d);
    /* More than the way back holds: the loader has to wait for the polls. */
    for (uint64_t i = 0; i < 3000; i++) {
        struct id128 key = fixture_key(i % 600, i % 600);
        f->storage->ops->load(f->storage, ACTOR_ORDER, &key);
    }
    fixture_wait(f, &f->loaded_count, 3000);
    for (uint64_t i = 0; i < 3000; i++) {
        struct storage_event *e = &f->loaded[i];
        struct id128 key = fixture_key(i % 600, i % 600);
        assert_true(e->kind == STORAGE_LOADED && e->ok && e->actor_kind == ACTOR_ORDER);
        assert_memory_equal(&e->key, &key, 16);
        if (i % 600 >= 500) {
            assert_null(e->block);
            continue;
        }
        assert_int_equal(e->block_bytes, 200 + i % 600);
        void *wanted = fixture_block(ACTOR_ORDER, &key, e->block_bytes, (uint8_t)(i % 600));
        assert_memory_equal(e->block, wanted, e->block_bytes);
        free(wanted);
        f->storage->ops->release_block(f->storage, e->block);
    }
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_true(stats.loads == 3000 && stats.checkpoints == 1 && stats.checkpoint_items == 500);
}

/* Blocks that were loaded and never polled are the storage's to free (a sanitizer sees it). */
static void close_with_loads_under_way(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    struct draft *d = draft_new(0);
    draft_put(d, ACTOR_ORDER, fixture_key(1, 1), 200, 'x');
    draft_do(f, d);
    struct id128 key = fixture_key(1, 1);
    for (int i = 0; i < 5000; i++) f->storage->ops->load(f->storage, ACTOR_ORDER, &key);
    fixture_close(f);
    fixture_open(f);
    expect_actor(f, ACTOR_ORDER, key, 200, 'x');
}

struct gate { pthread_mutex_t lock; pthread_cond_t changed; bool held, arrived; };

static int gate_wait(void *arg, enum storage_lmdb_point point) {
    struct gate *g = arg;
    if (point != STORAGE_POINT_STATE_COMMIT) return 0;
    pthread_mutex_lock(&g->lock);
    g->arrived = true;
    pthread_cond_broadcast(&g->changed);
    while (g->held) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return 0;
}

static void long_checkpoint_does_not_delay_loads(void **state) {
    struct fixture *f = *state;
    struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false};
    f->options.fault = gate_wait;
    f->options.fault_arg = &gate;
    fixture_open(f);
    struct id128 key = fixture_key(1, 1);
    struct draft *d = draft_new(0);
    draft_put(d, ACTOR_ORDER, key, 200, 'x');
    draft_do(f, d);
    gate.held = true;
    gate.arrived = false;
    d = draft_new(0);
    draft_put(d, ACTOR_ORDER, key, 200, 'y');
    f->storage->ops->checkpoint(f->storage, &d->checkpoint);
    pthread_mutex_lock(&gate.lock);
    while (!gate.arrived) pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    /* Its transaction is open now. */
    f->storage->ops->load(f->storage, ACTOR_ORDER, &key);
    fixture_wait(f, &f->loaded_count, 1);
    assert_int_equal(((uint8_t *)f->loaded[0].block)[100], 'x');
    f->storage->ops->release_block(f->storage, f->loaded[0].block);
    assert_int_equal(f->checkpointed, 1);
    pthread_mutex_lock(&gate.lock);
    gate.held = false;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    fixture_wait(f, &f->checkpointed, 2);
    free(d);
    expect_actor(f, ACTOR_ORDER, key, 200, 'y');
}

static void list_timers(struct fixture *f, int64_t from_ms, int64_t to_ms, uint32_t max) {
    f->loaded_count = 0;
    f->storage->ops->load_timers(f->storage, from_ms, to_ms, max);
    do fixture_wait(f, &f->loaded_count, f->loaded_count + 1);
    while (f->loaded[f->loaded_count - 1].ok);
}

static void timers_keep_step_with_snapshots(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    struct draft *d = draft_new(0);
    for (uint64_t i = 1; i <= 400; i++) {
        draft_put(d, ACTOR_ORDER, fixture_key(i, i), 48, 'x')->new_deadline_ms =
            (int64_t)(1000 * i);
    }
    draft_do(f, d);
    d = draft_new(0);
    struct checkpoint_item *moved = draft_put(d, ACTOR_ORDER, fixture_key(2, 2), 48, 'x');
    moved->old_deadline_ms = 2000;
    moved->new_deadline_ms = 500;
    struct checkpoint_item *done = draft_put(d, ACTOR_ORDER, fixture_key(3, 3), 48, 'x');
    done->old_deadline_ms = 3000;
    struct checkpoint_item *gone = draft_remove(d, ACTOR_ORDER, fixture_key(4, 4));
    gone->old_deadline_ms = 4000;
    struct checkpoint_item *same = draft_put(d, ACTOR_ORDER, fixture_key(5, 5), 48, 'x');
    same->old_deadline_ms = same->new_deadline_ms = 5000;
    draft_do(f, d);
    fixture_reopen(f);
    list_timers(f, 0, 7000, 100);
    int64_t deadlines[] = {500, 1000, 5000, 6000};
    uint64_t numbers[] = {2, 1, 5, 6};
    assert_int_equal(f->loaded_count, 5);
    for (int i = 0; i < 4; i++) {
        struct id128 key = fixture_key(numbers[i], numbers[i]);
        assert_int_equal(f->loaded[i].kind, STORAGE_TIMER_LOADED);
        assert_true(f->loaded[i].deadline_ms == deadlines[i]);
        assert_int_equal(f->loaded[i].actor_kind, ACTOR_ORDER);
        assert_memory_equal(&f->loaded[i].key, &key, 16);
    }
    assert_true(f->loaded[4].deadline_ms == 7000);
    list_timers(f, 0, 1000000, 4096);
    assert_int_equal(f->loaded_count, 398 + 1);
    assert_true(f->loaded[398].deadline_ms == 1000000);
}

static struct checkpoint_item *put_deadline(struct draft *d, uint64_t number, int64_t old_ms,
                                            int64_t new_ms) {
    struct checkpoint_item *item =
        draft_put(d, ACTOR_ORDER, fixture_key(number, number), 48, 'x');
    item->old_deadline_ms = old_ms;
    item->new_deadline_ms = new_ms;
    return item;
}

static void expect_timers(struct fixture *f, const int64_t *deadlines, const uint64_t *numbers,
                          unsigned count) {
    list_timers(f, 0, 1000000, 100);
    assert_int_equal(f->loaded_count, count + 1);
    for (unsigned i = 0; i < count; i++) {
        struct id128 key = fixture_key(numbers[i], numbers[i]);
        assert_true(f->loaded[i].deadline_ms == deadlines[i]);
        assert_memory_equal(&f->loaded[i].key, &key, 16);
    }
}

/* Rows come and go in the order of their deadlines, whatever that of the orders is: the last one
 * goes and others come behind it, one takes another's place, the table is empty in between. */
static void timers_follow_copies_in_any_order(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    struct draft *d = draft_new(0);
    put_deadline(d, 9, 0, 100);
    put_deadline(d, 2, 0, 50);
    put_deadline(d, 9, 100, 200); /* changed twice while the checkpoint was filled ... */
    put_deadline(d, 5, 0, 300);
    put_deadline(d, 5, 300, 0);   /* ... and there again without a deadline ... */
    put_deadline(d, 7, 0, 300);
    put_deadline(d, 7, 300, 400);
    put_deadline(d, 7, 400, 300); /* ... and back */
    draft_do(f, d);
    expect_timers(f, (int64_t[]){50, 200, 300}, (uint64_t[]){2, 9, 7}, 3);
    d = draft_new(0);
    put_deadline(d, 7, 300, 200); /* the last one goes, before another one */
    put_deadline(d, 9, 200, 250); /* makes room for ... */
    put_deadline(d, 1, 0, 200);   /* ... this one */
    draft_remove(d, ACTOR_ORDER, fixture_key(2, 2))->old_deadline_ms = 50;
    draft_do(f, d);
    expect_timers(f, (int64_t[]){200, 200, 250}, (uint64_t[]){1, 7, 9}, 3);
    d = draft_new(0);
    put_deadline(d, 1, 200, 0);
    put_deadline(d, 7, 200, 0);
    put_deadline(d, 9, 250, 0);
    draft_do(f, d);
    expect_timers(f, NULL, NULL, 0);
    d = draft_new(0);
    for (uint64_t i = 1; i <= 90; i++) put_deadline(d, i, 0, (int64_t)(91 - i) * 1000);
    draft_do(f, d);
    d = draft_new(0);
    for (uint64_t i = 1; i <= 90; i++)
        put_deadline(d, i, (int64_t)(91 - i) * 1000, i > 3 ? 0 : (int64_t)(500 * i));
    draft_do(f, d);
    expect_timers(f, (int64_t[]){500, 1000, 1500}, (uint64_t[]){1, 2, 3}, 3);
}

/* Listed in parts, each row comes once, also where many share a millisecond. */
static void timers_are_listed_in_parts(void **state) {
    struct fixture *f = *state;
    fixture_open(f);
    struct draft *d = draft_new(0);
    for (uint64_t i = 1; i <= 500; i++) {
        draft_put(d, ACTOR_ORDER, fixture_key(i, i), 48, 'x')->new_deadline_ms =
            i < 100 ? (int64_t)i : i < 450 ? 1000 : 2000;
    }
    draft_do(f, d);
    unsigned total = 0, parts = 0;
    for (int64_t from_ms = 0; from_ms < 5000; parts++) {
        list_timers(f, from_ms, 5000, 60);
        total += f->loaded_count - 1;
        int64_t stopped_ms = f->loaded[f->loaded_count - 1].deadline_ms;
        assert_true(stopped_ms > from_ms);
        from_ms = stopped_ms;
    }
    assert_int_equal(total, 500);
    assert_int_equal(parts, 3);
}

static bool count_row(void *arg, const struct state_source_row *row) {
    assert_null(row->fault);
    ++*(uint32_t *)arg;
    return true;
}

/* Notes and messages lie in one table: a reader of the one passes over many of the other. */
static void notes_behind_many_messages(void **state) {
    struct fixture *f = *state;
    uint32_t notes = 0, messages = 0;
    char path[160];
    fixture_open(f);
    for (uint32_t part = 0; part < 5; part++) {
        struct draft *d = draft_new(0);
        for (uint32_t i = 0; i < 500; i++)
            draft_put(d, ACTOR_MESSAGE, fixture_key(1, part * 500 + i), 64, 1);
        draft_put(d, ACTOR_BOARD, fixture_key(2, part), 64, 1);
        draft_do(f, d);
    }
    fixture_close(f);
    snprintf(path, sizeof path, "%s/state", f->directory);
    struct state_source *s = state_source_open(path, f->error, sizeof f->error);
    assert_non_null(s);
    assert_int_equal(state_source_visit(s, STATE_SOURCE_BOARDS, false, count_row, &notes, f->error,
                                        sizeof f->error), 0);
    assert_int_equal(state_source_visit(s, STATE_SOURCE_MESSAGES, false, count_row, &messages,
                                        f->error, sizeof f->error), 0);
    assert_int_equal(notes, 5);
    assert_int_equal(messages, 2500);
    state_source_close(s);
}

static bool count_bytes(void *arg, const void *block, uint32_t bytes) {
    assert_int_equal((uintptr_t)block % 8, 0);
    struct actor actor;
    memcpy(&actor, block, sizeof actor);
    assert_int_equal(actor.bytes, bytes);
    assert_int_equal(actor.kind, ACTOR_STORE);
    *(uint64_t *)arg += bytes;
    return true;
}

static void all_actors_of_a_kind_are_visited(void **state) {
    struct fixture *f = *state;
    uint64_t wanted = 0, got = 0;
    fixture_open(f);
    for (unsigned part = 0; part < 3; part++) {
        struct draft *d = draft_new(0);
        for (uint64_t i = 0; i < 300; i++) {
            uint32_t bytes = 48 + (uint32_t)(i * 7 % 500);
            draft_put(d, ACTOR_STORE, fixture_key(i, part), bytes, 'x');
            wanted += bytes;
        }
        draft_put(d, ACTOR_ORDER, fixture_key(part, 0), 77, 'o');
        draft_do(f, d);
    }
    assert_int_equal(f->storage->ops->visit_actors(f->storage, ACTOR_STORE, count_bytes, &got,
                                                   f->error, sizeof f->error), 0);
    assert_true(got == wanted);
}

struct seen_cursors { unsigned count; struct checkpoint_cursor cursors[8]; };

static bool see_cursor(void *arg, const struct checkpoint_cursor *cursor) {
    struct seen_cursors *seen = arg;
    seen->cursors[seen->count++] = *cursor;
    return true;
}

static void cursors_are_kept(void **state) {
    struct fixture *f = *state;
    struct seen_cursors seen = {0};
    fixture_open(f);
    for (uint8_t round = 1; round <= 2; round++) {
        struct draft *d = draft_new(0);
        d->checkpoint.cursors_count = 2;
        d->cursors[0] = (struct checkpoint_cursor){.name = "outbox", .bytes = 8, .value = {round}};
        /* A name of the full length has no end mark. */
        memset(d->cursors[1].name, 'n', sizeof d->cursors[1].name);
        d->cursors[1].bytes = 64;
        memset(d->cursors[1].value, round, 64);
        draft_do(f, d);
    }
    fixture_reopen(f);
    assert_int_equal(f->storage->ops->visit_cursors(f->storage, see_cursor, &seen, f->error,
                                                    sizeof f->error), 0);
    assert_int_equal(seen.count, 2);
    assert_memory_equal(seen.cursors[0].name, "nnnnnnnnnnnnnnnnnnnnnnnn", 24);
    assert_int_equal(seen.cursors[0].bytes, 64);
    assert_int_equal(seen.cursors[0].value[63], 2);
    assert_string_equal(seen.cursors[1].name, "outbox");
    assert_int_equal(seen.cursors[1].bytes, 8);
    assert_int_equal(seen.cursors[1].value[0], 2);
}

static void small_map_grows(void **state) {
    struct fixture *f = *state;
    f->options.state_map_bytes = 1 << 20;
    fixture_open(f);
    for (uint64_t part = 0; part < 30; part++) {
        struct draft *d = draft_new(0);
        draft_put(d, ACTOR_ORDER, fixture_key(part, part), 200000, (uint8_t)part);
        draft_do(f, d);
    }
    for (uint64_t part = 0; part < 30; part++) {
        expect_actor(f, ACTOR_ORDER, fixture_key(part, part), 200000, (uint8_t)part);
    }
}

static void state_path(const struct fixture *f, char path[static 256]) {
    snprintf(path, 256, "%s/state", f->directory);
}

static void fill_and_close(struct fixture *f) {
    fixture_open(f);
    fixture_append(f, 1, 30, 1, 100, 1000);
    struct draft *d = draft_new(20);
    draft_put(d, ACTOR_ORDER, fixture_key(1, 1), 300, 'a');
    draft_do(f, d);
    fixture_close(f);
}

static void lost_state_is_rebuilt_from_a_whole_log(void **state) {
    struct fixture *f = *state;
    char path[256];
    fill_and_close(f);
    state_path(f, path);
    fixture_remove_tree(path);
    fixture_open(f);
    assert_true(load_meta(f).applied_index == 0);
    assert_true(load_meta(f).orders_count == 0);
    fixture_expect(f, 1, 30, 1);
}

static void damaged_state_is_set_aside(void **state) {
    struct fixture *f = *state;
    char path[300];
    fill_and_close(f);
    snprintf(path, sizeof path, "%s/state/data.mdb", f->directory);
    int fd = open(path, O_WRONLY);
    char junk[3 * 4096];
    memset(junk, 0x5a, sizeof junk);
    assert_int_equal(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
    close(fd);
    fixture_open(f);
    assert_true(load_meta(f).applied_index == 0);
    assert_int_equal(fixture_count_files(f, ".damaged"), 1);
}

static void lost_state_without_a_whole_log_is_refused(void **state) {
    struct fixture *f = *state;
    char path[256];
    f->options.segment_bytes_max = 1 << 16;
    fixture_open(f);
    fixture_append(f, 1, 30, 1, 5000, 1000);
    fixture_append(f, 31, 60, 1, 5000, 2000);
    f->storage->ops->retain(f->storage, 30, 1500);
    fixture_close(f);
    state_path(f, path);
    fixture_remove_tree(path);
    assert_null(storage_lmdb_open(&f->options, f->error, sizeof f->error));
    assert_non_null(strstr(f->error, "does not reach back to record 1"));
    assert_non_null(strstr(f->error, path));
}

/* Without the check the node would forget what it acknowledged and go on. */
static int fail_allocations(void *arg, enum storage_lmdb_point point) {
    int *left = arg;
    if (point != STORAGE_POINT_ALLOCATE || __atomic_load_n(left, __ATOMIC_SEQ_CST) == 0) return 0;
    __atomic_fetch_sub(left, 1, __ATOMIC_SEQ_CST);
    return ENOMEM;
}

static void load_waits_for_memory(void **state) {
    struct fixture *f = *state;
    int left = 0;
    f->options.fault = fail_allocations;
    f->options.fault_arg = &left;
    fixture_open(f);
    struct id128 key = fixture_key(1, 1);
    struct draft *d = draft_new(0);
    draft_put(d, ACTOR_ORDER, key, 200, 'x');
    draft_do(f, d);
    __atomic_store_n(&left, 3, __ATOMIC_SEQ_CST);
    f->storage->ops->load(f->storage, ACTOR_ORDER, &key);
    fixture_wait(f, &f->loaded_count, 1);
    assert_true(f->loaded[0].ok);
    assert_int_equal(f->loaded[0].block_bytes, 200);
    assert_int_equal(left, 0);
    f->storage->ops->release_block(f->storage, f->loaded[0].block);
    d = draft_new(0);
    draft_put(d, ACTOR_ORDER, key, 200, 'x')->new_deadline_ms = 700;
    draft_do(f, d);
    __atomic_store_n(&left, 3, __ATOMIC_SEQ_CST);
    list_timers(f, 0, 1000, 10);
    assert_int_equal(f->loaded_count, 2);
    assert_true(f->loaded[0].deadline_ms == 700);
    assert_int_equal(left, 0);
    /* A checkpoint that cannot be sorted comes back like one without room. */
    __atomic_store_n(&left, 1, __ATOMIC_SEQ_CST);
    d = draft_new(0);
    draft_put(d, ACTOR_ORDER, fixture_key(3, 3), 200, 'c');
    draft_put(d, ACTOR_ORDER, fixture_key(2, 2), 200, 'b');
    f->storage->ops->checkpoint(f->storage, &d->checkpoint);
    fixture_wait(f, &f->checkpoints_failed, 1);
    draft_do(f, d);
    assert_int_equal(f->checkpoints_failed, 1);
    expect_actor(f, ACTOR_ORDER, fixture_key(2, 2), 200, 'b');
    expect_actor(f, ACTOR_ORDER, fixture_key(3, 3), 200, 'c');
}

/* All stores of a shard that changed are of one moment: they come in one checkpoint, behind orders
 * that alone reach its bound. */
static void all_stores_fit_one_checkpoint(void **state) {
    enum { STORES = 60000, BYTES = 200 };
    struct fixture *f = *state;
    fixture_open(f);
    struct checkpoint c = {.items = calloc(STORES, sizeof *c.items),
                           .blocks = malloc((size_t)STORES * BYTES), .applied_index = 1,
                           .applied_term = 1};
    for (uint32_t i = 0; i < STORES; i++) {
        struct id128 key = fixture_key(i, i);
        void *block = fixture_block(ACTOR_STORE, &key, BYTES, (uint8_t)i);
        memcpy(c.blocks + c.blocks_bytes, block, BYTES);
        free(block);
        c.items[c.items_count++] = (struct checkpoint_item){
            .key = key, .kind = ACTOR_STORE, .bytes = BYTES, .offset = c.blocks_bytes};
        c.blocks_bytes += BYTES;
    }
    assert_true(c.blocks_bytes > CHECKPOINT_BYTES_MAX + ACTOR_BYTES_MAX);
    f->storage->ops->checkpoint(f->storage, &c);
    fixture_wait(f, &f->checkpointed, 1);
    expect_actor(f, ACTOR_STORE, fixture_key(STORES - 1, STORES - 1), BYTES,
                 (uint8_t)(STORES - 1));
    free(c.items);
    free(c.blocks);
}

/* An order that changes while a checkpoint is being filled is copied into it twice. */
static void the_later_copy_stands(void **state) {
    struct fixture *f = *state;
    struct id128 key = fixture_key(7, 7);
    fixture_open(f);
    struct draft *d = draft_new(0);
    for (uint64_t i = 0; i < 200; i++) {
        draft_put(d, ACTOR_ORDER, fixture_key(i * 13 % 200 + 8, i), 64, 'x');
        if (i % 10 == 0) draft_put(d, ACTOR_ORDER, key, 64, (uint8_t)i);
    }
    draft_do(f, d);
    expect_actor(f, ACTOR_ORDER, key, 64, 190);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(checkpoint_is_kept),
        TEST(newer_snapshots_replace_and_remove),
        TEST(loads_are_answered),
        TEST(close_with_loads_under_way),
        TEST(long_checkpoint_does_not_delay_loads),
        TEST(timers_keep_step_with_snapshots),
        TEST(timers_follow_copies_in_any_order),
        TEST(timers_are_listed_in_parts),
        TEST(notes_behind_many_messages),
        TEST(all_actors_of_a_kind_are_visited),
        TEST(cursors_are_kept),
        TEST(small_map_grows),
        TEST(lost_state_is_rebuilt_from_a_whole_log),
        TEST(damaged_state_is_set_aside),
        TEST(lost_state_without_a_whole_log_is_refused),
        TEST(load_waits_for_memory),
        TEST(all_stores_fit_one_checkpoint),
        TEST(the_later_copy_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
