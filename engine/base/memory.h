/* What the allocator knows and can be told. With jemalloc (JUMUN_JEMALLOC) each shard's thread has
 * an arena of its own: shards do not meet in the allocator, and their memory can be counted apart.
 * Its calloc() is replaced, see memory.c. With the system's malloc (sanitizer builds) the same
 * calls work and know less. */
#ifndef JUMUN_BASE_MEMORY_H
#define JUMUN_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Gives the calling thread an arena of its own. False when the allocator has no arenas or no more;
 * the thread then shares one, which is slower and nothing else. */
bool memory_own_arena(void);

struct memory_stats {
    uint64_t allocated_bytes;  /* handed out to the program */
    uint64_t resident_bytes;   /* in physical memory, as the allocator sees it; 0 = not known */
    uint64_t process_bytes;    /* resident set of the whole process, page cache of maps included */
};

/* Takes a fresh look: some microseconds. Any thread. */
void memory_stats(struct memory_stats *stats);

/* "jemalloc 5.3.0" or "system". */
const char *memory_allocator(void);

/* What a block of malloc() or realloc() really holds when it was asked for `bytes`. For jemalloc
 * that follows from the size; looking at the block would be a wait for memory. Any thread. */
size_t memory_block_capacity(void *block, size_t bytes);

/* free() of a block whose capacity is known, from memory_block_capacity() or as the bytes that were
 * asked for: cheaper with jemalloc. */
void memory_block_free(void *block, size_t capacity);

#endif
