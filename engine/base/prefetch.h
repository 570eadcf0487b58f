/* Asking for memory before it is needed. A wait for memory costs as much as a hundred lines of
 * code, and several requests under way cost hardly more than one.
 *
 * Always through these, for gcc takes a function that does nothing but __builtin_prefetch() for one
 * without any effect, and drops the calls to it. The empty assembly is an effect and costs nothing
 * itself. */
#ifndef JUMUN_BASE_PREFETCH_H
#define JUMUN_BASE_PREFETCH_H

#include <stddef.h>

/* The line of memory that `at` lies in, to be read. A hint: any address is allowed. */
static inline void prefetch_read(const void *at) {
    __builtin_prefetch(at);
    __asm__ volatile("");
}

/* The same, to be written. */
static inline void prefetch_write(const void *at) {
    __builtin_prefetch(at, 1);
    __asm__ volatile("");
}

#endif
