#include "engine/base/priority.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

bool priority_set(int nice) {
    return setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice) == 0;
}

static void priority_policy(int from, int to) {
    const struct sched_param none = {.sched_priority = 0};
    if (sched_getscheduler(0) == from) sched_setscheduler(0, to, &none);
}

void priority_patient(void) { priority_policy(SCHED_OTHER, SCHED_BATCH); }
bool priority_is_patient(void) { return sched_getscheduler(0) == SCHED_BATCH; }
void priority_prompt(void) { priority_policy(SCHED_BATCH, SCHED_OTHER); }

void priority_background(int nice) {
    priority_set(nice);
    priority_patient();
}
