/* What every harness gives: one function that takes any bytes and must come back. libFuzzer calls
 * it (-Dfuzzers=true with clang), and so does the smoke driver, which needs no special compiler.
 *
 * A harness reads `data` in place where it can, so that a read past the end is seen: by the address
 * sanitizer, or by the guard page that the smoke driver puts behind the bytes. */
#ifndef JUMUN_TESTS_FUZZ_HARNESS_H
#define JUMUN_TESTS_FUZZ_HARNESS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte, in a way that the compiler cannot leave out. */
static inline void fuzz_touch(const void *data, size_t size) {
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++) sum = (uint8_t)(sum + ((const uint8_t *)data)[i]);
    __asm__ volatile("" : : "r"(sum));
}

/* A copy of the bytes as it would lie in memory, 8-byte aligned, no larger than it must be; for
 * free(). NULL = no memory. */
static inline void *fuzz_aligned(const uint8_t *data, size_t size) {
    void *copy = aligned_alloc(8, size != 0 ? (size + 7) & ~(size_t)7 : 8);
    if (copy != NULL && size != 0) memcpy(copy, data, size);
    return copy;
}

#endif
