#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/wire/nng_threads.h"

enum { NNG_THREADS_MAX = 16 }; /* nng's own bound */

static long threads_named(const char *name) {
    long count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    struct dirent *entry;
    while ((entry = readdir(tasks))) {
        char path[300], found[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *f = fopen(path, "re");
        if (!f) continue;
        if (fgets(found, sizeof found, f)) found[strcspn(found, "\n")] = '\0';
        fclose(f);
        count += strcmp(found, name) == 0;
    }
    closedir(tasks);
    return count;
}

/* Threads take their name when they first run. */
static long await_threads(const char *name, long wanted) {
    long found = 0;
    for (int i = 0; i < 2000 && (found = threads_named(name)) < wanted; i++) usleep(5000);
    return found;
}

static void nng_takes_one_thread_for_each_processor(void **state) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    long wanted = processors == 1 ? 2 : (processors + 1) / 2 * 2;
    if (wanted > NNG_THREADS_MAX) wanted = NNG_THREADS_MAX;
    assert_true(processors >= 1);
    assert_int_equal(threads_named("nng:task"), 0);
    nng_threads_limit();
    assert_int_equal(await_threads("nng:task", wanted), wanted);
    usleep(50000);
    assert_int_equal(threads_named("nng:task"), wanted);
    /* All others are told what is true. */
    assert_int_equal(sysconf(_SC_NPROCESSORS_ONLN), processors);
    assert_true(sysconf(_SC_PAGESIZE) >= 4096);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nng_takes_one_thread_for_each_processor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
