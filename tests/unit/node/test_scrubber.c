/* Replicas that come, go and are damaged while they are looked at: what is counted and told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/limits.h"
#include "engine/node/scrubber.h"

enum { PIECES = 8, PATIENCE_MS = 60000 };

/* A storage of which nothing but scrub() and stats() is used. */
struct fake {
    struct storage storage;
    atomic_uint pieces, looks, damages_at_end; /* looks: whole ones */
    atomic_bool later, slow, closed;
    uint64_t log_last;
};

static enum storage_scrub fake_scrub(struct storage *s, struct storage_scrub_place *place,
                                     uint64_t bytes_max, struct storage_scrubbed *out) {
    struct fake *f = (struct fake *)s;
    assert_false(atomic_load(&f->closed));
    if (atomic_load(&f->slow)) usleep(2000);
    assert_false(atomic_load(&f->closed));
    out->count = 0;
    out->bytes = 4096;
    atomic_fetch_add(&f->pieces, 1);
    if (atomic_load(&f->later)) return STORAGE_SCRUB_LATER;
    if (place->part == 0 && place->next == 0) place->next = 1;
    if (++place->part < PIECES) return STORAGE_SCRUB_MORE;
    out->count = atomic_load(&f->damages_at_end);
    for (uint32_t i = 0; i < out->count; i++) {
        out->damage[i] = (struct storage_damage){.kind = "record_damaged", .index = 41 + i,
                                                 .upto = 41 + i, .where = "log-1",
                                                 .what = "checksum does not match"};
    }
    *place = (struct storage_scrub_place){.next = 0};
    atomic_fetch_add(&f->looks, 1);
    return STORAGE_SCRUB_DONE;
}

static void fake_stats(struct storage *s, struct storage_stats *stats) {
    *stats = (struct storage_stats){.log_bytes = 1 << 20, .log_first = 1,
                                    .log_last = ((struct fake *)s)->log_last};
}

static const struct storage_ops fake_ops = {.scrub = fake_scrub, .stats = fake_stats};
static struct fake fakes[3];

static struct scrubber *start(int64_t period_ms) {
    char error[256];
    const struct scrubber_options options = {.period_ms = period_ms, .seed = 7};
    memset(fakes, 0, sizeof fakes);
    for (uint32_t i = 0; i < 3; i++) {
        fakes[i].storage.ops = &fake_ops;
        fakes[i].log_last = 1000 * i;
    }
    struct scrubber *b = scrubber_start(&options, error, sizeof error);
    assert_non_null(b);
    return b;
}

static void await_looks(struct fake *f, unsigned looks) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&f->looks) < looks && clock_mono_ms() < until_ms) usleep(1000);
    assert_true(atomic_load(&f->looks) >= looks);
}

static void await_rounds(struct scrubber *b, uint64_t rounds, struct scrubber_stats *stats) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    do {
        usleep(1000);
        scrubber_stats(b, stats);
    } while (stats->rounds < rounds && clock_mono_ms() < until_ms);
    assert_true(stats->rounds >= rounds);
}

static uint64_t damages_of(struct scrubber *b, uint32_t shard) {
    struct scrubber_damages d;
    scrubber_damages(b, shard, &d);
    if (d.count > 0) assert_int_equal(d.first.index, 41);
    return d.count;
}

static void all_shards_round_after_round(void **state) {
    struct scrubber *b = start(400);
    struct scrubber_stats stats;
    scrubber_add(b, 0, &fakes[0].storage);
    scrubber_add(b, 5, &fakes[1].storage);
    scrubber_add(b, SHARD_META, &fakes[2].storage);
    await_rounds(b, 3, &stats);
    for (uint32_t i = 0; i < 3; i++) assert_true(atomic_load(&fakes[i].looks) >= 3);
    assert_int_equal(stats.period_ms, 400);
    assert_true(stats.round_ms > 0 && stats.bytes >= 3 * 3 * PIECES * 4096 && stats.postponed == 0);
    for (uint32_t i = 0; i < 6; i++) assert_int_equal(damages_of(b, i), 0);
    scrubber_stop(b);
}

static void damage_is_kept_until_a_whole_look_finds_none(void **state) {
    struct scrubber *b = start(400);
    struct scrubber_stats stats;
    atomic_store(&fakes[1].damages_at_end, 3);
    scrubber_add(b, 0, &fakes[0].storage);
    scrubber_add(b, 5, &fakes[1].storage);
    await_rounds(b, 2, &stats);
    assert_int_equal(damages_of(b, 5), 3);
    assert_int_equal(damages_of(b, 0), 0);
    assert_int_equal(damages_of(b, 6), 0);
    assert_int_equal(damages_of(b, 70000), 0);
    atomic_store(&fakes[1].damages_at_end, 0); /* dropped by retention, say */
    await_rounds(b, stats.rounds + 2, &stats);
    assert_int_equal(damages_of(b, 5), 0);
    atomic_store(&fakes[1].damages_at_end, 1);
    await_rounds(b, stats.rounds + 2, &stats);
    assert_int_equal(damages_of(b, 5), 1);
    scrubber_forget(b, 5);
    assert_int_equal(damages_of(b, 5), 0); /* another replica in its place begins anew */
    scrubber_stop(b);
}

static void many_places_are_counted(void **state) {
    struct scrubber *b = start(400);
    struct scrubber_stats stats;
    atomic_store(&fakes[0].damages_at_end, STORAGE_DAMAGES_MAX);
    scrubber_add(b, 0, &fakes[0].storage);
    await_rounds(b, 1, &stats);
    assert_int_equal(damages_of(b, 0), STORAGE_DAMAGES_MAX);
    scrubber_stop(b);
}

/* Nobody touches a storage that is forgotten. */
static void replicas_come_and_go(void **state) {
    struct scrubber *b = start(80);
    for (uint32_t i = 0; i < 3; i++) atomic_store(&fakes[i].slow, true);
    for (uint32_t turn = 0; turn < 60; turn++) {
        struct fake *f = &fakes[turn % 3];
        atomic_store(&f->closed, false);
        scrubber_add(b, turn % 3, &f->storage);
        usleep(5000);
        scrubber_forget(b, turn % 3);
        atomic_store(&f->closed, true);
    }
    scrubber_stop(b);
}

/* A shard whose pieces are postponed counts them, and nothing is called damaged. */
static void what_is_postponed_is_counted(void **state) {
    struct scrubber *b = start(80);
    struct scrubber_stats stats;
    atomic_store(&fakes[0].later, true);
    scrubber_add(b, 0, &fakes[0].storage);
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    do {
        usleep(1000);
        scrubber_stats(b, &stats);
    } while (stats.postponed < 2 && clock_mono_ms() < until_ms);
    assert_true(stats.postponed >= 2);
    assert_int_equal(stats.rounds, 0);
    atomic_store(&fakes[0].later, false);
    await_looks(&fakes[0], 1);
    assert_int_equal(damages_of(b, 0), 0);
    scrubber_stop(b);
}

static void none_looks_for_nothing(void **state) {
    struct scrubber_stats stats;
    struct scrubber_damages d;
    scrubber_stats(NULL, &stats);
    scrubber_damages(NULL, 0, &d);
    assert_true(stats.period_ms == 0 && stats.rounds == 0 && d.count == 0);
    scrubber_stop(start(1000000)); /* in its first wait */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_shards_round_after_round),
        cmocka_unit_test(damage_is_kept_until_a_whole_look_finds_none),
        cmocka_unit_test(many_places_are_counted),
        cmocka_unit_test(replicas_come_and_go),
        cmocka_unit_test(what_is_postponed_is_counted),
        cmocka_unit_test(none_looks_for_nothing),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
