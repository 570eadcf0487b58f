/* Everything at once, for the thread sanitizer: the shard appends, checkpoints, loads and
 * retains, readers read, segments roll and drop, maps grow. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "storage_fixture.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_at_once, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
