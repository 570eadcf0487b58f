/* Put before the C library (LD_PRELOAD), it makes the time of day run faster than it does, for all
 * programs of a test alike: what is to happen in minutes happens in seconds. The monotonic clock,
 * by which programs wait, runs as always.
 *
 * JUMUN_TEST_CLOCK="<origin>:<factor>": from <origin> on, in Unix seconds, time runs <factor> times
 * as fast. Without it the clocks are the machine's. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t origin_ns, factor = 1;

__attribute__((constructor)) static void fast_clock_init(void) {
    const char *text = getenv("JUMUN_TEST_CLOCK");
    long long origin_s, times;
    if (!text || sscanf(text, "%lld:%lld", &origin_s, &times) != 2) return;
    origin_ns = origin_s * 1000000000;
    factor = times;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    int rc = (int)syscall(SYS_clock_gettime, id, t);
    if (rc != 0 || factor == 1) return rc;
    bool wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    if (!wall && id != CLOCK_BOOTTIME) return rc;
    int64_t ns = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec, from_ns = wall ? origin_ns : 0;
    ns = from_ns + (ns - from_ns) * factor;
    t->tv_sec = ns / 1000000000;
    t->tv_nsec = ns % 1000000000;
    return 0;
}
