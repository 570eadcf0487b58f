#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/doorbell.h"
#include "engine/egress/egress.h"

enum { THREADS = 4, ITEMS = 20000 };

struct numbered { struct egress_item item; uint32_t thread, number; };

static struct numbered items[THREADS][ITEMS];
static uint32_t next_of[THREADS], out_of_order, sent;
static struct egress *egress;

/* On the egress thread alone; read after it has ended. */
static void count(struct egress_item *item) {
    struct numbered *n = (struct numbered *)item;
    if (n->number != next_of[n->thread]) out_of_order++;
    next_of[n->thread] = n->number + 1;
    sent++;
}

static void *offer_all(void *arg) {
    struct numbered *mine = arg;
    for (uint32_t i = 0; i < ITEMS; i++) {
        egress_offer(egress, &mine[i].item);
        if (i % 1000 == 0) usleep(100); /* lets it fall asleep now and then */
    }
    return NULL;
}

static void each_item_is_sent_once_in_order(void **state) {
    char error[256];
    pthread_t threads[THREADS];
    memset(next_of, 0, sizeof next_of);
    sent = out_of_order = 0;
    egress = egress_start(count, error, sizeof error);
    assert_non_null(egress);
    for (uint32_t t = 0; t < THREADS; t++) {
        for (uint32_t i = 0; i < ITEMS; i++)
            items[t][i] = (struct numbered){.thread = t, .number = i};
        assert_int_equal(pthread_create(&threads[t], NULL, offer_all, items[t]), 0);
    }
    for (uint32_t t = 0; t < THREADS; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
    egress_stop(egress); /* sends what is left */
    assert_int_equal(sent, THREADS * ITEMS);
    assert_int_equal(out_of_order, 0);
}

static void an_idle_one_stops(void **state) {
    char error[256];
    egress = egress_start(count, error, sizeof error);
    assert_non_null(egress);
    usleep(2000);
    egress_stop(egress);
}

static void a_ring_is_not_slept_over(void **state) {
    struct doorbell bell = {0};
    assert_false(doorbell_is_rung(&bell));
    assert_false(doorbell_ring(&bell)); /* nobody slept */
    assert_true(doorbell_is_rung(&bell));
    assert_false(doorbell_sleep(&bell, -1)); /* returns at once */
    doorbell_hear(&bell);
    assert_false(doorbell_is_rung(&bell));
    assert_true(doorbell_sleep(&bell, 1)); /* until its timeout */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_is_sent_once_in_order),
        cmocka_unit_test(an_idle_one_stops),
        cmocka_unit_test(a_ring_is_not_slept_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
