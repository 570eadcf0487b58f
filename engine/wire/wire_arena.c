#include "engine/wire/wire_arena.h"

#include <stdlib.h>

#include "engine/limits.h"

#define WIRE_CHUNK_BYTES_MIN 4096u
static_assert(((uint64_t)WIRE_CHUNK_BYTES_MIN << (WIRE_ARENA_CHUNKS_MAX - 2)) >=
                  WIRE_ARENA_BYTES_MAX,
              "chunks that double reach the bound");

struct wire_chunk {
    struct wire_chunk *next;
    uint64_t spare; /* keeps the bytes behind it aligned to 16 */
};

static size_t wire_arena_rounded(size_t bytes) { return (bytes + 7) & ~(size_t)7; }

bool wire_arena_reserve(struct wire_arena *arena, size_t bytes) {
    if (bytes > WIRE_ARENA_BYTES_MAX) return false;
    bytes = wire_arena_rounded(bytes);
    if ((size_t)(arena->end - arena->at) >= bytes) return true;
    /* Twice of all there is: the number of chunks grows with the logarithm of the bytes. */
    size_t size = bytes > arena->bytes ? bytes : arena->bytes;
    if (size < WIRE_CHUNK_BYTES_MIN) size = WIRE_CHUNK_BYTES_MIN;
    if (size > WIRE_ARENA_BYTES_MAX - arena->bytes) size = WIRE_ARENA_BYTES_MAX - arena->bytes;
    if (size < bytes) return false;
    struct wire_chunk *chunk = malloc(sizeof *chunk + size);
    if (chunk == NULL) return false;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->at = (uint8_t *)(chunk + 1);
    arena->end = arena->at + size;
    arena->bytes += size;
    return true;
}

void *wire_arena_take(struct wire_arena *arena, size_t bytes) {
    if (!wire_arena_reserve(arena, bytes)) return NULL;
    void *taken = arena->at;
    arena->at += wire_arena_rounded(bytes);
    return taken;
}

void wire_arena_free(struct wire_arena *arena) {
    for (struct wire_chunk *chunk = arena->chunks; chunk != NULL;) {
        struct wire_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    *arena = (struct wire_arena){0};
}
