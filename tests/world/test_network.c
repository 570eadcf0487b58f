/* clang-format off: cmocka.h needs the others before it */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdlib.h>

#include "tests/world/network.h"

struct letter {
    struct network_load load;
    uint32_t number;
};

struct seen {
    uint32_t numbers[4096], count;
};

static uint32_t alive;

static void letter_drop(struct network_load *load) {
    alive--;
    free(load);
}

static void letter_send(struct network *n, uint32_t from, uint32_t to, uint32_t number) {
    struct letter *l = calloc(1, sizeof *l);
    l->load.drop = letter_drop;
    l->number = number;
    alive++;
    network_send(n, from, to, &l->load, false);
}

static void see(void *arg, uint32_t from, uint32_t to, const struct network_load *load) {
    struct seen *s = arg;
    assert_int_not_equal(from, to);
    s->numbers[s->count++] = ((const struct letter *)(const void *)load)->number;
}

static void a_network_without_faults_keeps_order(void **state) {
    struct seen seen = {.count = 0};
    struct network *n = network_new(&(struct network_options){.seed = 1}, see, &seen);
    for (uint32_t i = 0; i < 1000; i++) letter_send(n, 0, 1 + i % 2, i);
    assert_int_equal(network_next_ms(n), 0);
    network_advance(n, 0);
    assert_int_equal(seen.count, 1000);
    for (uint32_t i = 0; i < 1000; i++) assert_int_equal(seen.numbers[i], i);
    assert_int_equal(network_next_ms(n), INT64_MAX);
    assert_int_equal(alive, 0);
    network_free(n);
}

static void loads_are_lost_doubled_and_late(void **state) {
    struct seen seen = {.count = 0};
    struct network_options options = {.seed = 2, .loss = 1000, .doubled = 1000, .late = 2000,
                                      .latency_ms_max = 5, .late_ms_max = 500};
    struct network *n = network_new(&options, see, &seen);
    bool overtaken = false;
    for (uint32_t i = 0; i < 1000; i++) {
        letter_send(n, 0, 1, i);
        network_advance(n, i);
    }
    while (network_next_ms(n) != INT64_MAX) network_advance(n, network_next_ms(n));
    struct network_counters c = network_counters(n);
    for (uint32_t i = 1; i < seen.count; i++) overtaken |= seen.numbers[i] < seen.numbers[i - 1];
    assert_true(overtaken);
    assert_true(c.lost > 50 && c.doubled > 50 && c.late > 100);
    assert_true(seen.count >= 1000 - c.lost && seen.count <= 1000 + c.doubled);
    network_calm(n);
    uint32_t before = seen.count;
    for (uint32_t i = 0; i < 100; i++) letter_send(n, 0, 1, i);
    network_advance(n, 10000);
    assert_int_equal(seen.count, before + 100);
    network_free(n);
    assert_int_equal(alive, 0);
}

static void a_cut_has_a_direction_and_an_end(void **state) {
    struct seen seen = {.count = 0};
    struct network *n = network_new(&(struct network_options){.seed = 3}, see, &seen);
    network_advance(n, 10);
    network_cut(n, 0, 1, 50);
    assert_true(network_is_cut(n, 0, 1) && !network_is_cut(n, 1, 0));
    for (uint32_t i = 0; i < 100; i++) letter_send(n, 0, 1, i);
    network_advance(n, 49);
    assert_int_equal(seen.count, 0);
    letter_send(n, 1, 0, 7);
    network_advance(n, 49);
    assert_int_equal(seen.count, 1);
    network_advance(n, 50);
    assert_true(seen.count > 1 && seen.count < 60); /* some come late, most never */
    assert_false(network_is_cut(n, 0, 1));
    network_free(n);
}

static void who_is_held_gets_it_later_and_who_died_half_of_it(void **state) {
    struct seen seen = {.count = 0};
    struct network *n = network_new(&(struct network_options){.seed = 4}, see, &seen);
    network_hold(n, 1, 100);
    for (uint32_t i = 0; i < 200; i++) letter_send(n, 0, 1, i);
    network_advance(n, 99);
    assert_int_equal(seen.count, 0);
    assert_int_equal(network_next_ms(n), 100);
    network_forget(n, 1);
    network_advance(n, 100);
    assert_true(seen.count > 50 && seen.count < 150);
    assert_int_equal(seen.count + network_counters(n).forgotten, 200);
    for (uint32_t i = 1; i < seen.count; i++) assert_true(seen.numbers[i] > seen.numbers[i - 1]);
    network_free(n);
    assert_int_equal(alive, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_without_faults_keeps_order),
        cmocka_unit_test(loads_are_lost_doubled_and_late),
        cmocka_unit_test(a_cut_has_a_direction_and_an_end),
        cmocka_unit_test(who_is_held_gets_it_later_and_who_died_half_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
