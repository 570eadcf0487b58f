/* Views of bytes and 128-bit identifiers: the two value types that every room shares.
 *
 * Nothing here allocates, blocks or keeps state; every function may run on any thread. */
#ifndef JUMUN_BASE_BYTES_H
#define JUMUN_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A read-only view of bytes that somebody else owns. `data` may be NULL when `size` is 0.
 * Text is UTF-8 and not terminated. */
struct bytes {
    const void *data; /* borrowed */
    uint32_t size;    /* bytes */
};

/* A 128-bit identifier: order key, command id, trace id. Big-endian bytes, so that memcmp() orders
 * keys by birth. All zero means "none". */
struct id128 {
    uint8_t bytes[16];
};

static inline struct bytes bytes_of(const void *data, size_t size) {
    return (struct bytes){data, (uint32_t)size};
}

static inline struct bytes bytes_of_text(const char *text) {
    return (struct bytes){text, (uint32_t)strlen(text)};
}

static inline bool bytes_equal(struct bytes a, struct bytes b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool id128_equal(const struct id128 *a, const struct id128 *b) {
    return memcmp(a->bytes, b->bytes, 16) == 0;
}

static inline bool id128_is_zero(const struct id128 *id) {
    static const struct id128 zero;
    return memcmp(id->bytes, zero.bytes, 16) == 0;
}

#endif
