#include "engine/base/priority.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

bool priority_set(int nice) {
    return setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice) == 0;
}

/* Whether patience is this process's own doing, not that of whoever has started it (chrt). */
static atomic_bool priority_own;

static bool priority_policy(int from, int to) {
    const struct sched_param none = {.sched_priority = 0};
    return sched_getscheduler(0) == from && sched_setscheduler(0, to, &none) == 0;
}

void priority_patient(void) {
    if (priority_policy(SCHED_OTHER, SCHED_BATCH)) atomic_store(&priority_own, true);
}
bool priority_is_patient(void) { return sched_getscheduler(0) == SCHED_BATCH; }
void priority_prompt(void) {
    if (atomic_load(&priority_own)) priority_policy(SCHED_BATCH, SCHED_OTHER);
}

void priority_background(int nice) {
    priority_set(nice);
    priority_patient();
}
