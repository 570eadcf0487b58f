#include "engine/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const log_names[] = {"error", "warn", "info", "debug"};
static atomic_int log_level_max = LOG_LEVEL_INFO;

void log_set_level(enum log_level level) { atomic_store(&log_level_max, (int)level); }

int log_level_of(const char *name) {
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, log_names[i]) == 0) return i;
    }
    return -1;
}

void log_line(enum log_level level, const char *format, ...) {
    if ((int)level > atomic_load_explicit(&log_level_max, memory_order_relaxed)) return;
    char line[1024];
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    used += (size_t)snprintf(line + used, sizeof line - used, ".%03dZ %-5s ",
                             (int)(t.tv_nsec / 1000000), log_names[level]);
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    if (wanted < 0) return;
    size_t room = sizeof line - used - 2;
    used += (size_t)wanted < room ? (size_t)wanted : room;
    line[used++] = '\n';
    /* Nothing can be done about a log that cannot be written. */
    if (write(STDERR_FILENO, line, used) < 0) return;
}
