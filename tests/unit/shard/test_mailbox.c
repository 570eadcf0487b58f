/* Order, bounds, and many producers at once (also run under the thread sanitizer). */
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/shard/mailbox.h"

static void test_first_in_first_out(void **state) {
    (void)state;
    struct mailbox m;
    mailbox_init(&m, 100, 1000);
    struct request_part parts[10] = {{0}};
    for (int i = 0; i < 10; i++) {
        parts[i].count = 3;
        parts[i].bytes = 10;
        assert_true(mailbox_push(&m, &parts[i]));
        if (i == 4) assert_ptr_equal(mailbox_take(&m), &parts[0]);
    }
    for (int i = 1; i < 10; i++) {
        assert_ptr_equal(mailbox_peek(&m), &parts[i]);
        assert_ptr_equal(mailbox_take(&m), &parts[i]);
    }
    assert_null(mailbox_take(&m));
}

static void test_full_is_an_answer(void **state) {
    (void)state;
    struct mailbox m;
    mailbox_init(&m, 10, 1000);
    struct request_part a = {.count = 6}, b = {.count = 5}, c = {.count = 4}, d = {.bytes = 1001};
    assert_true(mailbox_push(&m, &a));
    assert_false(mailbox_push(&m, &b));
    assert_true(mailbox_push(&m, &c));
    assert_int_equal(mailbox_commands(&m), 10);
    assert_int_equal(atomic_load(&m.refused), 5);
    assert_ptr_equal(mailbox_take(&m), &a);
    assert_false(mailbox_push(&m, &b)); /* taken is not consumed */
    mailbox_consumed(&m, a.count, a.bytes);
    assert_true(mailbox_push(&m, &b));
    assert_false(mailbox_push(&m, &d)); /* bytes are bounded too */
}

enum { PRODUCERS = 4, PARTS_EACH = 20000 };
struct producer { struct mailbox *m; struct request_part *parts; uint64_t refused; };

static void *produce(void *arg) {
    struct producer *p = arg;
    for (int i = 0; i < PARTS_EACH; i++) {
        p->parts[i].count = 1;
        while (!mailbox_push(p->m, &p->parts[i])) p->refused++;
    }
    return NULL;
}

static void test_many_producers_lose_nothing(void **state) {
    (void)state;
    struct mailbox m;
    mailbox_init(&m, 256, 1 << 20);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    for (int t = 0; t < PRODUCERS; t++) {
        producers[t] = (struct producer){&m, calloc(PARTS_EACH, sizeof(struct request_part)), 0};
        assert_int_equal(pthread_create(&threads[t], NULL, produce, &producers[t]), 0);
    }
    long next[PRODUCERS] = {0}, taken = 0;
    while (taken < PRODUCERS * PARTS_EACH) {
        struct request_part *part = mailbox_take(&m);
        if (!part) continue;
        assert_true(mailbox_commands(&m) <= 256 + PRODUCERS);
        mailbox_consumed(&m, part->count, part->bytes);
        for (int t = 0; t < PRODUCERS; t++) {
            if (part < producers[t].parts || part >= producers[t].parts + PARTS_EACH) continue;
            assert_int_equal(part - producers[t].parts, next[t]); /* in each producer's order */
            next[t]++;
        }
        taken++;
    }
    uint64_t refused = 0;
    for (int t = 0; t < PRODUCERS; t++) {
        pthread_join(threads[t], NULL);
        refused += producers[t].refused;
        free(producers[t].parts);
    }
    assert_int_equal(mailbox_commands(&m), 0);
    assert_int_equal(atomic_load(&m.refused), refused);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_in_first_out),
        cmocka_unit_test(test_full_is_an_answer),
        cmocka_unit_test(test_many_producers_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
