/* Memory of one message: taken bit by bit, given back at once. One malloc for a usual message, none
 * per command. Belongs to one thread at a time, and may change threads between calls. */
#ifndef JUMUN_WIRE_ARENA_H
#define JUMUN_WIRE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_chunk;

/* All zero is an empty arena that owns nothing. */
struct wire_arena {
    struct wire_chunk *chunks; /* newest first */
    uint8_t *at, *end;         /* free part of the newest chunk */
    size_t bytes;              /* of all chunks */
};

/* Chunks of an arena at most: each is no smaller than all before it. */
enum { WIRE_ARENA_CHUNKS_MAX = 16 };

/* Room for `bytes` more without another malloc. False = no memory, or more than
 * WIRE_ARENA_BYTES_MAX of all chunks together; then nothing has changed. */
bool wire_arena_reserve(struct wire_arena *arena, size_t bytes);

/* `bytes` bytes, 8-byte aligned, not zeroed; NULL = no memory. Valid until wire_arena_free(). */
void *wire_arena_take(struct wire_arena *arena, size_t bytes);

/* Undoes the latest wire_arena_take(), which gave `taken`: its memory is free for the next one. */
static inline void wire_arena_give_back(struct wire_arena *arena, void *taken) {
    arena->at = taken;
}

/* Gives all memory back; the arena is empty and may be used again. */
void wire_arena_free(struct wire_arena *arena);

#endif
