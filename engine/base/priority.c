#include "engine/base/priority.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

bool priority_set(int nice) {
    return setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice) == 0;
}

static void priority_policy(int policy) {
    const struct sched_param none = {.sched_priority = 0};
    sched_setscheduler(0, policy, &none);
}

void priority_patient(void) { priority_policy(SCHED_BATCH); }
void priority_prompt(void) { priority_policy(SCHED_OTHER); }

void priority_background(int nice) {
    priority_set(nice);
    priority_patient();
}
