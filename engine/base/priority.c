#include "engine/base/priority.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

bool priority_set(int nice) {
    return setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice) == 0;
}

void priority_background(int nice) {
    const struct sched_param none = {.sched_priority = 0};
    priority_set(nice);
    sched_setscheduler(0, SCHED_BATCH, &none);
}
