/* What a test may do to its own scheduling. */
#ifndef JUMUN_TESTS_SCHEDULING_H
#define JUMUN_TESTS_SCHEDULING_H

#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

/* False, and told: nobody may change here how a thread is scheduled, or this runs under chrt. */
static inline bool scheduling_may_change(void) {
    const struct sched_param none = {.sched_priority = 0};
    int policy = sched_getscheduler(0);
    bool may = policy == SCHED_OTHER && sched_setscheduler(0, SCHED_BATCH, &none) == 0;
    if (may) assert_int_equal(sched_setscheduler(0, policy, &none), 0);
    else print_message("SKIPPED: sched_setscheduler() is not permitted, or policy %d is set\n",
                       policy);
    return may;
}

#endif
