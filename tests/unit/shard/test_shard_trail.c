/* What a restarted replica tells consensus of the log before its marker, and when it forgets. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/prng.h"
#include "engine/shard/shard_internal.h"
#include "tests/world/storage_memory.h"

enum { LAST = 3000 };

static struct storage_memory *disk;
static uint64_t terms[LAST + 1];
static struct shard *shard;
static struct storage_meta *meta;
static struct peers *somebody = (struct peers *)(void *)&terms; /* it is only looked at */

static void open_log(uint64_t seed, uint32_t changes_percent) {
    const struct storage_memory_options options = {.seed = seed};
    struct prng prng;
    prng_seed(&prng, seed);
    disk = storage_memory_new(&options);
    shard = calloc(1, sizeof *shard);
    meta = calloc(1, sizeof *meta);
    assert_true(disk && shard && meta);
    struct record *first = NULL, **at = &first;
    for (uint64_t i = 1, term = 1; i <= LAST; i++) {
        if (prng_chance(&prng, changes_percent, 100)) term += 1 + prng_below(&prng, 3);
        terms[i] = term;
        struct record *r = record_new(8);
        assert_non_null(r);
        memset(r->payload, 0, 8);
        r->header.index = i;
        r->header.term = term;
        r->header.type = i % 7 ? RECORD_EVENTS : RECORD_CONFIGURATION;
        *at = r;
        at = &r->next;
    }
    struct storage *storage = storage_memory_open(disk);
    storage->ops->append(storage, first);
    storage_memory_advance(disk, 1);
    shard->options.storage = storage;
    shard->options.peers = somebody;
    *meta = (struct storage_meta){.log_first = 1, .log_last = LAST, .applied_index = LAST};
}

static void close_log(void) {
    shard->options.storage->ops->close(shard->options.storage);
    storage_memory_free(disk);
    free(shard);
    free(meta);
}

static void expect_terms(uint64_t from) {
    uint64_t count, *found = shard_trail_terms(shard, meta, &count);
    assert_non_null(found);
    assert_int_equal(count, meta->applied_index - from + 1);
    assert_memory_equal(found, &terms[from], count * sizeof *found);
    free(found);
}

static void all_terms_are_found(void **state) {
    static const uint32_t percents[] = {0, 1, 5, 50, 100};
    for (uint32_t i = 0; i < 5; i++) {
        open_log(10 + i, percents[i]);
        expect_terms(1);
        meta->log_first = 1234; /* in front of it there may be a gap */
        expect_terms(1234);
        meta->applied_index = 1234;
        expect_terms(1234);
        close_log();
    }
}

static void damage_shortens_it(void **state) {
    open_log(3, 5);
    assert_true(storage_memory_corrupt_record(disk, 1));
    expect_terms(2);
    close_log();
}

static void nothing_is_known_of_what_is_not_there(void **state) {
    uint64_t count;
    open_log(4, 5);
    meta->applied_index = 0;
    assert_null(shard_trail_terms(shard, meta, &count));
    assert_int_equal(count, 0);
    meta->applied_index = LAST + 1; /* an installed state, nothing behind it */
    assert_null(shard_trail_terms(shard, meta, &count));
    meta->applied_index = LAST;
    meta->log_first = LAST + 1;
    assert_null(shard_trail_terms(shard, meta, &count));
    meta->log_first = 1;
    shard->options.peers = NULL; /* nobody asks */
    assert_null(shard_trail_terms(shard, meta, &count));
    close_log();
}

/* A storage that only has figures. */
static struct storage_stats figures;

static void tell_figures(struct storage *storage, struct storage_stats *stats) {
    (void)storage;
    *stats = figures;
}

static struct shard *new_shard(uint64_t record_bytes, uint64_t state_bytes) {
    static const struct storage_ops ops = {.stats = tell_figures};
    static struct storage storage = {.ops = &ops};
    struct shard *s = calloc(1, sizeof *s);
    assert_non_null(s);
    figures = (struct storage_stats){.log_bytes = 1000 * record_bytes, .state_bytes = state_bytes,
                                     .log_first = 1, .log_last = 1200, .gaps = 1,
                                     .gap_first = 500, .gap_last = 699, .gap_records = 200};
    s->options.storage = &storage;
    s->options.retention_ms = INT64_MAX / 2;
    return s;
}

/* A new replica is not sent a log of a year where a state of minutes does. */
static void no_more_is_kept_than_the_state_is_worth(void **state) {
    struct shard *s = new_shard(1000, 5000);
    s->checkpoint_index = 1ULL << 40;
    assert_in_range(shard_trail_kept(s), TRAIL_BYTES / 1000 - 1, TRAIL_BYTES / 1000 + 1);
    figures.state_bytes = 7 * TRAIL_BYTES;
    assert_in_range(shard_trail_kept(s), TRAIL_BYTES / 1000 - 1, TRAIL_BYTES / 1000 + 1);
    s->mono_ms += 60000; /* it is looked at now and then */
    assert_in_range(shard_trail_kept(s), 7 * (TRAIL_BYTES / 1000) - 1,
                    7 * (TRAIL_BYTES / 1000) + 7);
    s->options.trail_bytes = 8 * TRAIL_BYTES;
    s->mono_ms += 60000;
    assert_in_range(shard_trail_kept(s), 8 * (TRAIL_BYTES / 1000) - 1,
                    8 * (TRAIL_BYTES / 1000) + 8);
    /* What is not stored weighs nothing, wherever it lies; nor does it count below nothing. */
    figures = (struct storage_stats){.log_bytes = 1000000, .log_first = 1000001, .gaps = 1,
                                     .log_last = 1001000, .gap_first = 1, .gap_last = 1000000,
                                     .gap_records = 1000000};
    s->options.trail_bytes = 0;
    s->mono_ms += 60000;
    assert_in_range(shard_trail_kept(s), TRAIL_BYTES / 1000 - 1, TRAIL_BYTES / 1000 + 1);
    figures.log_bytes = 1; /* next to nothing: as much as can be counted */
    s->mono_ms += 60000;
    assert_int_equal(shard_trail_kept(s), TRAIL_ENTRIES_MAX);
    s->checkpoint_index = 1000; /* and no more than there is */
    assert_int_equal(shard_trail_kept(s), 1000);
    free(s);
    open_log(5, 5);
    expect_terms(1);
    uint64_t count;
    struct storage *whole = shard->options.storage;
    const struct storage_ops ops = {.stats = tell_figures, .read = whole->ops->read};
    const struct storage_ops *all = whole->ops;
    figures = (struct storage_stats){.log_bytes = LAST * (TRAIL_BYTES / 100), .log_first = 1,
                                     .log_last = LAST};
    whole->ops = &ops;
    free(shard_trail_terms(shard, meta, &count));
    whole->ops = all;
    assert_in_range(count, 99, 101);
    close_log();
}

/* A record a second, a checkpoint every ten, kept for a day: at any time consensus knows what is
 * younger than a day, and not much more. */
static void what_retention_drops_is_forgotten(void **state) {
    enum { DAY_MS = 86400000 };
    struct shard *s = new_shard(100, 4711);
    s->options.retention_ms = DAY_MS;
    for (int64_t second = 0; second < 10 * 86400; second += 10) {
        s->now_ms = 1700000000000 + second * 1000;
        s->checkpoint_index = 1 + (uint64_t)second;
        uint64_t kept = shard_trail_kept(s);
        uint64_t young = second < 86400 ? s->checkpoint_index : 86400;
        assert_true(kept + 1 >= young);
        assert_true(kept <= young + 2 * 86400 / (TRAIL_AGES_MAX - 2) + 20);
    }
    s->options.trailing_entries = 7;
    assert_int_equal(shard_trail_kept(s), 7);
    free(s);
}

/* A clock that is set back keeps more, and one that is set forward nothing for longer. */
static void a_clock_that_jumps_forgets_nothing_early(void **state) {
    struct shard *s = new_shard(100, 4711);
    s->options.retention_ms = 86400000;
    int64_t begin_ms = 1700000000000;
    for (uint64_t i = 1; i <= 100; i++) {
        s->now_ms = begin_ms + (int64_t)(i % 2) * 3600000;
        s->checkpoint_index = i;
        assert_int_equal(shard_trail_kept(s), i);
    }
    s->now_ms = begin_ms + 3 * 86400000LL;
    s->checkpoint_index = 1000;
    uint32_t kept = shard_trail_kept(s);
    assert_true(kept >= 900 && kept < 1000);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_terms_are_found),
        cmocka_unit_test(damage_shortens_it),
        cmocka_unit_test(nothing_is_known_of_what_is_not_there),
        cmocka_unit_test(no_more_is_kept_than_the_state_is_worth),
        cmocka_unit_test(what_retention_drops_is_forgotten),
        cmocka_unit_test(a_clock_that_jumps_forgets_nothing_early),
    };
    return cmocka_run_group_tests_name("shard_trail", tests, NULL, NULL);
}
