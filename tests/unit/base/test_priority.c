#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "engine/base/priority.h"
#include "tests/lib/scheduling.h"

static void *policy_here(void *arg) {
    *(int *)arg = sched_getscheduler(0);
    return NULL;
}

static int policy_of_a_new_thread(void) {
    pthread_t thread;
    int policy = -1;
    assert_int_equal(pthread_create(&thread, NULL, policy_here, &policy), 0);
    pthread_join(thread, NULL);
    return policy;
}

static void *wait_promptly(void *arg) {
    priority_prompt();
    return policy_here(arg);
}

/* chrt --batch 0 PROGRAM. Before the process itself has asked for patience. */
static void what_others_have_set_stays(void **state) {
    const struct sched_param none = {.sched_priority = 0};
    if (!scheduling_may_change()) skip();
    assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &none), 0);
    priority_prompt();
    assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
    priority_patient();
    priority_prompt();
    assert_int_equal(policy_of_a_new_thread(), SCHED_BATCH);
    assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
}

static void patience_is_handed_on_and_taken_back(void **state) {
    if (!scheduling_may_change()) skip();
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    priority_patient();
    assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
    assert_int_equal(policy_of_a_new_thread(), SCHED_BATCH);
    pthread_t thread;
    int policy = -1;
    assert_int_equal(pthread_create(&thread, NULL, wait_promptly, &policy), 0);
    pthread_join(thread, NULL);
    assert_int_equal(policy, SCHED_OTHER);
    assert_int_equal(sched_getscheduler(0), SCHED_BATCH); /* only its own */
    priority_prompt();
    assert_int_equal(policy_of_a_new_thread(), SCHED_OTHER);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_others_have_set_stays),
                                       cmocka_unit_test(patience_is_handed_on_and_taken_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
