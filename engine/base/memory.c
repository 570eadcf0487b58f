#include "engine/base/memory.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef JUMUN_JEMALLOC
#include <jemalloc/jemalloc.h>

bool memory_own_arena(void) {
    unsigned arena = 0;
    size_t size = sizeof arena;
    if (mallctl("arenas.create", &arena, &size, NULL, 0) != 0) return false;
    return mallctl("thread.arena", NULL, NULL, &arena, sizeof arena) == 0;
}

enum { MEMORY_ZERO_BYTES_MAX = 4 << 20 };

/* For what is above some kilobytes jemalloc's own calloc() gives the pages back to the kernel, to
 * have them as zeros again: a call that interrupts all other processors, and a fault for each page.
 * nng allocates every message so. Zeros cost a small part of that where memory has been in use.
 * What is very large is seldom used as a whole, and stays with the allocator.
 *
 * Stands in the place of the library's for the whole program. */
void *calloc(size_t count, size_t bytes) {
    size_t total;
    void *block = NULL;
    if (!__builtin_mul_overflow(count, bytes, &total)) {
        if (total == 0) total = 1;
        bool large = total > MEMORY_ZERO_BYTES_MAX;
        block = mallocx(total, large ? MALLOCX_ZERO : 0);
        if (block && !large) memset(block, 0, total);
    }
    if (!block) errno = ENOMEM;
    return block;
}

static uint64_t memory_mallctl_bytes(const char *name) {
    size_t value = 0, size = sizeof value;
    return mallctl(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

static void memory_allocator_stats(struct memory_stats *stats) {
    uint64_t epoch = 1; /* jemalloc refreshes its figures when the epoch is written */
    mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
    stats->allocated_bytes = memory_mallctl_bytes("stats.allocated");
    stats->resident_bytes = memory_mallctl_bytes("stats.resident");
}

const char *memory_allocator(void) {
    return "jemalloc " JEMALLOC_VERSION;
}
#else
bool memory_own_arena(void) { return false; }

static void memory_allocator_stats(struct memory_stats *stats) {
    struct mallinfo2 info = mallinfo2();
    stats->allocated_bytes = info.uordblks + info.hblkhd;
    stats->resident_bytes = 0;
}

const char *memory_allocator(void) { return "system"; }
#endif

void memory_stats(struct memory_stats *stats) {
    *stats = (struct memory_stats){0};
    memory_allocator_stats(stats);
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return;
    unsigned long long all = 0, resident = 0;
    if (fscanf(f, "%llu %llu", &all, &resident) == 2)
        stats->process_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
    fclose(f);
}

size_t memory_block_capacity(void *block, size_t bytes) {
#ifdef JUMUN_JEMALLOC
    (void)block;
    return nallocx(bytes, 0);
#else
    (void)bytes;
    return malloc_usable_size(block);
#endif
}

void memory_block_free(void *block, size_t capacity) {
#ifdef JUMUN_JEMALLOC
    sdallocx(block, capacity, 0);
#else
    (void)capacity;
    free(block);
#endif
}
