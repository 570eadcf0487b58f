/* When a pull waits for more although there is something. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/feed/feed_gather.h"

/* A shard that writes an entry of `bytes` each millisecond, followed by one that asks again at
 * once: how many pulls the time up to to_ms took. */
static uint32_t follow(struct feed_gather *g, uint64_t bytes, int64_t from_ms, int64_t to_ms) {
    uint32_t pulls = 0;
    uint64_t from = g->head ? g->head : 1, log_end = from;
    int64_t asked_ms = from_ms;
    for (int64_t now_ms = from_ms; now_ms < to_ms; now_ms++) {
        log_end++;
        if (feed_gather_waits(g, from, asked_ms, now_ms)) continue;
        feed_gather_gave(g, from, log_end, bytes * (log_end - from), now_ms);
        from = log_end;
        asked_ms = now_ms;
        pulls++;
    }
    return pulls;
}

static void little_is_given_at_once(void **state) {
    struct feed_gather g = {.head = 0};
    assert_int_equal(follow(&g, FEED_GATHER_BYTES_PER_MS - 1, 1000, 2000), 1000);
}

static void much_is_gathered(void **state) {
    struct feed_gather g = {.head = 0};
    follow(&g, FEED_GATHER_BYTES_PER_MS * 2, 1000, 2000);
    uint32_t pulls = follow(&g, FEED_GATHER_BYTES_PER_MS * 2, 2000, 3000);
    assert_in_range(pulls, 1000 / FEED_GATHER_MS - 1, 1000 / FEED_GATHER_MS + 1);
}

static void it_ends_when_less_is_written(void **state) {
    struct feed_gather g = {.head = 0};
    follow(&g, FEED_GATHER_BYTES_PER_MS * 2, 1000, 2000);
    follow(&g, 10, 2000, 2000 + 2 * FEED_GATHER_SPAN_MS);
    assert_int_equal(follow(&g, 10, 2100, 2200), 100);
    follow(&g, FEED_GATHER_BYTES_PER_MS * 2, 3000, 4000);
    /* A shard that fell silent: the first entry after it waits no longer than any other. */
    assert_true(feed_gather_waits(&g, g.head, 60000, 60000));
    assert_false(feed_gather_waits(&g, g.head, 60000, 60000 + FEED_GATHER_MS));
    feed_gather_gave(&g, g.head, g.head + 1, 100, 60000 + FEED_GATHER_MS);
    assert_false(feed_gather_waits(&g, g.head, 60005, 60005));
}

static void who_is_behind_waits_not(void **state) {
    struct feed_gather g = {.head = 0};
    follow(&g, FEED_GATHER_BYTES_PER_MS * 2, 1000, 2000);
    assert_true(feed_gather_waits(&g, g.head, 2000, 2000));
    assert_false(feed_gather_waits(&g, g.head - 1, 2000, 2000));
}

/* What a second one is given is not written twice. */
static void many_followers_count_once(void **state) {
    struct feed_gather g = {.head = 0};
    uint64_t half = FEED_GATHER_BYTES_PER_MS * 3 / 4;
    for (uint64_t i = 0; i < 1000; i++) {
        feed_gather_gave(&g, 1 + i, 2 + i, half, 1000 + (int64_t)i);
        feed_gather_gave(&g, 1 + i, 2 + i, half, 1000 + (int64_t)i);
        if (i > 2) feed_gather_gave(&g, i - 1, 2 + i, 3 * half, 1000 + (int64_t)i);
    }
    assert_true(g.bytes_per_ms >= half - half / FEED_GATHER_SPAN_MS);
    assert_true(g.bytes_per_ms < FEED_GATHER_BYTES_PER_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_is_given_at_once),
        cmocka_unit_test(much_is_gathered),
        cmocka_unit_test(it_ends_when_less_is_written),
        cmocka_unit_test(who_is_behind_waits_not),
        cmocka_unit_test(many_followers_count_once),
    };
    return cmocka_run_group_tests_name("feed_gather", tests, NULL, NULL);
}
