/* Everything at once, for the thread sanitizer: the shard appends, checkpoints, loads and
 * retains, readers read, segments roll and drop, maps grow. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage_install_fixture.h"

enum { READERS = 3, STEPS = 300 };

struct readers {
    struct storage *storage;
    atomic_bool stop;
    atomic_uint_fast64_t durable;   /* readable, unless retained */
    atomic_uint_fast64_t visited;
    atomic_uint unsound, faults;
};

static bool visit(void *arg, const struct record_header *h, const void *payload) {
    struct readers *r = arg;
    atomic_fetch_add(&r->visited, 1);
    if (!fixture_is_sound(h, payload)) atomic_fetch_add(&r->unsound, 1);
    return true;
}

static void *reader(void *arg) {
    struct readers *r = arg;
    char error[512];
    struct storage_stats stats;
    while (!atomic_load(&r->stop)) {
        r->storage->ops->stats(r->storage, &stats);
        uint64_t last = atomic_load(&r->durable);
        uint64_t first = last > 50 ? last - 50 : 1;
        if (last == 0 || stats.log_first == 0) continue;
        if (first < stats.log_first) first = stats.log_first;
        int rc = r->storage->ops->read(r->storage, first, last, visit, r, error, sizeof error);
        /* It may have been dropped since we looked; it may never be damaged. */
        if (rc != 0 && strstr(error, "damaged")) atomic_fetch_add(&r->faults, 1);
    }
    return NULL;
}

static void shard_step(struct fixture *f, uint64_t step, uint64_t *last,
                       struct checkpoint *checkpoint, struct checkpoint_item *item) {
    struct storage *s = f->storage;
    for (int i = 0; i < 4; i++, ++*last) {
        s->ops->append(s, fixture_record(*last + 1, 1, (uint32_t)(16 + step * 331 % 6000),
                                         (int64_t)step));
    }
    s->ops->load(s, ACTOR_ORDER, &item->key);
    if (step % 9 == 0 && f->checkpointed * 9 == (step - 9)) s->ops->checkpoint(s, checkpoint);
    if (step % 20 == 0) s->ops->load_timers(s, 0, 1000, 10);
    if (step % 50 == 0) s->ops->retain(s, *last - 300 < *last ? *last - 300 : 0, INT64_MAX);
    fixture_poll(f);
    for (unsigned i = 0; i < f->loaded_count; i++) s->ops->release_block(s, f->loaded[i].block);
    f->loaded_count = 0;
}

static void everything_at_once(void **state) {
    struct fixture *f = *state;
    pthread_t threads[READERS];
    struct readers *r = calloc(1, sizeof *r);
    f->options.segment_bytes_max = 1 << 19;
    f->options.log_map_bytes = 1 << 20;
    f->options.state_map_bytes = 1 << 20;
    fixture_open(f);
    r->storage = f->storage;
    for (int i = 0; i < READERS; i++) pthread_create(&threads[i], NULL, reader, r);
    struct id128 key = fixture_key(1, 1);
    void *block = fixture_block(ACTOR_ORDER, &key, 60000, 'x');
    struct checkpoint_item item = {.key = key, .kind = ACTOR_ORDER, .bytes = 60000,
                                   .new_deadline_ms = 500};
    struct checkpoint checkpoint = {.items = &item, .items_count = 1, .blocks = block,
                                    .blocks_bytes = 60000};
    uint64_t last = 0;
    for (uint64_t step = 1; step <= STEPS; step++) {
        shard_step(f, step, &last, &checkpoint, &item);
        atomic_store(&r->durable, f->appended_index);
    }
    fixture_wait64(f, &f->appended_index, last);
    uint64_t enough = atomic_load(&r->visited) + 200;
    atomic_store(&r->durable, last);
    while (atomic_load(&r->visited) < enough) fixture_poll(f);
    atomic_store(&r->stop, true);
    for (int i = 0; i < READERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r->unsound), 0);
    assert_int_equal(atomic_load(&r->faults), 0);
    assert_true(last == 4 * STEPS);
    fixture_close(f); /* with checkpoints and loads under way */
    for (unsigned i = 0; i < f->loaded_count; i++) free(f->loaded[i].block);
    free(block);
    free(r);
}

/* -- exports and an install beside all that ------------------------------------------------- */

struct exporter {
    struct fixture *f;
    atomic_bool stop;
    atomic_uint exports, ended;
};

static void *exporter(void *arg) {
    struct exporter *x = arg;
    struct storage *s = x->f->storage;
    struct storage_meta *meta = calloc(1, sizeof *meta);
    char path[200], error[512];
    snprintf(path, sizeof path, "%s/out", x->f->directory);
    while (!atomic_load(&x->stop)) {
        if (s->ops->export_state(s, path, &x->stop, meta, error, sizeof error) != 0) {
            atomic_fetch_add(&x->ended, 1); /* an install comes first */
        } else if (s->ops->check_state(s, path, meta, error, sizeof error) == 0) {
            atomic_fetch_add(&x->exports, 1);
        }
    }
    free(meta);
    return NULL;
}

/* Checkpoints let the map grow while exports run and loads go on; then a state is installed. */
static void exports_and_an_install(void **state) {
    struct fixture *f = *state;
    pthread_t threads[2];
    struct readers *r = calloc(1, sizeof *r);
    struct exporter x = {.f = f};
    const struct id128 key = fixture_key(1, 1);
    f->options.state_map_bytes = 1 << 20;
    make_file(f, file_path(f, "in"), 600, 'n');
    fixture_open(f);
    r->storage = f->storage;
    vote(f, 9);
    fixture_append(f, 1, 400, 1, 100, 1000);
    pthread_create(&threads[0], NULL, reader, r);
    pthread_create(&threads[1], NULL, exporter, &x);
    atomic_store(&r->durable, 400);
    for (uint64_t i = 1; i <= 150; i++) {
        struct draft *d = draft_new(i);
        draft_put(d, ACTOR_ORDER, fixture_key(i, i), 60000, 'x');
        f->storage->ops->load(f->storage, ACTOR_ORDER, &key);
        draft_do(f, d);
    }
    fixture_wait(f, &f->loaded_count, 150);
    for (unsigned i = 0; i < 150; i++) {
        f->storage->ops->release_block(f->storage, f->loaded[i].block);
    }
    while (atomic_load(&x.exports) == 0) fixture_poll(f);
    f->storage->ops->load(f->storage, ACTOR_ORDER, &key);
    assert_int_equal(install(f, file_path(f, "in"), 400), 0);
    unsigned exports = atomic_load(&x.exports);
    expect_installed(f, 600, 'n');
    fixture_append(f, 601, 650, 2, 100, 1000);
    while (atomic_load(&x.exports) < exports + 2) fixture_poll(f);
    atomic_store(&r->stop, true);
    atomic_store(&x.stop, true);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r->unsound), 0);
    assert_int_equal(atomic_load(&r->faults), 0);
    assert_int_equal(f->loaded_count, 150);
    free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_at_once, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(exports_and_an_install, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
