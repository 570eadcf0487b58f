#include "engine/wire/nng_threads.h"

#include <nng/nng.h>
#include <stdbool.h>
#include <unistd.h>

enum { NNG_THREADS_PER_PROCESSOR = 2 }; /* nng 1.5 and later: init_taskq() */

/* glibc's own name of it. */
extern long __sysconf(int name);

static _Thread_local bool nng_asks;

/* nng has no option for this: it starts two threads for each processor that sysconf() counts.
 * Stands in the place of the library's for the whole program, and says otherwise only while nng
 * starts. A thread sanitizer asks too, before it can watch anything. */
__attribute__((visibility("default"), used, no_sanitize("thread"))) long sysconf(int name) {
    long found = __sysconf(name);
    if (!nng_asks || name != _SC_NPROCESSORS_ONLN || found < 1) return found;
    return (found + NNG_THREADS_PER_PROCESSOR - 1) / NNG_THREADS_PER_PROCESSOR;
}

void nng_threads_limit(void) {
    nng_aio *aio;
    nng_asks = true;
    if (nng_aio_alloc(&aio, NULL, NULL) == 0) nng_aio_free(aio); /* the first call starts nng */
    nng_asks = false;
}
