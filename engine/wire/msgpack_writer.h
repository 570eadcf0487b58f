/* Writes msgpack into a buffer of the caller: header-only, no allocation, no dependency.
 *
 * Every value gets the shortest encoding that the msgpack specification has for it. A value that
 * does not fit is not written and sets `overflow`, which stays set: write everything, then ask once
 * with msgpack_writer_ok(). The bytes before `at` are never touched again, so a caller may note
 * `at`, write, and go back to it (msgpack_writer_rewind).
 *
 * A writer belongs to one thread at a time. Containers are announced by their count; that as many
 * items follow is the caller's duty. */
#ifndef JUMUN_WIRE_MSGPACK_WRITER_H
#define JUMUN_WIRE_MSGPACK_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct msgpack_writer {
    uint8_t *start; /* the caller's buffer */
    uint8_t *at;    /* next byte to write */
    uint8_t *end;   /* first byte behind the buffer */
    bool overflow;  /* something did not fit */
};

/* Upper bounds of what one value takes, for sizing buffers. */
enum {
    MSGPACK_INT_BYTES_MAX = 9,
    MSGPACK_HEADER_BYTES_MAX = 5, /* of str, bin, array or map */
    MSGPACK_ID_BYTES = 18         /* bin 16 */
};

static inline void msgpack_writer_init(struct msgpack_writer *w, void *buffer, size_t capacity) {
    w->start = w->at = buffer;
    w->end = w->at + capacity;
    w->overflow = false;
}

static inline bool msgpack_writer_ok(const struct msgpack_writer *w) { return !w->overflow; }

/* Bytes written so far. */
static inline size_t msgpack_writer_size(const struct msgpack_writer *w) {
    return (size_t)(w->at - w->start);
}

/* Forgets everything from `size` on, an overflow included. `size` <= msgpack_writer_size(). */
static inline void msgpack_writer_rewind(struct msgpack_writer *w, size_t size) {
    w->at = w->start + size;
    w->overflow = false;
}

/* -- parts that the functions below share ------------------------------------------------------ */

static inline bool msgpack_writer_room_(struct msgpack_writer *w, size_t size) {
    if (__builtin_expect((size_t)(w->end - w->at) >= size, 1)) return true;
    w->overflow = true;
    return false;
}

/* A tag byte and `size` (1, 2, 4 or 8) big-endian bytes of `value`. */
static inline void msgpack_writer_tagged_(struct msgpack_writer *w, uint8_t tag, uint64_t value,
                                          unsigned size) {
    if (!msgpack_writer_room_(w, size + 1)) return;
    uint64_t big = __builtin_bswap64(value << (64 - 8 * size));
    w->at[0] = tag;
    memcpy(w->at + 1, &big, size);
    w->at += size + 1;
}

static inline void msgpack_writer_byte_(struct msgpack_writer *w, uint8_t byte) {
    if (msgpack_writer_room_(w, 1)) *w->at++ = byte;
}

/* -- scalars ----------------------------------------------------------------------------------- */

static inline void msgpack_write_nil(struct msgpack_writer *w) { msgpack_writer_byte_(w, 0xc0); }

static inline void msgpack_write_bool(struct msgpack_writer *w, bool value) {
    msgpack_writer_byte_(w, value ? 0xc3 : 0xc2);
}

static inline void msgpack_write_uint(struct msgpack_writer *w, uint64_t value) {
    if (value < 0x80) msgpack_writer_byte_(w, (uint8_t)value);
    else if (value <= UINT8_MAX) msgpack_writer_tagged_(w, 0xcc, value, 1);
    else if (value <= UINT16_MAX) msgpack_writer_tagged_(w, 0xcd, value, 2);
    else if (value <= UINT32_MAX) msgpack_writer_tagged_(w, 0xce, value, 4);
    else msgpack_writer_tagged_(w, 0xcf, value, 8);
}

static inline void msgpack_write_int(struct msgpack_writer *w, int64_t value) {
    if (value >= 0) msgpack_write_uint(w, (uint64_t)value);
    else if (value >= -32) msgpack_writer_byte_(w, (uint8_t)value);
    else if (value >= INT8_MIN) msgpack_writer_tagged_(w, 0xd0, (uint64_t)value, 1);
    else if (value >= INT16_MIN) msgpack_writer_tagged_(w, 0xd1, (uint64_t)value, 2);
    else if (value >= INT32_MIN) msgpack_writer_tagged_(w, 0xd2, (uint64_t)value, 4);
    else msgpack_writer_tagged_(w, 0xd3, (uint64_t)value, 8);
}

static inline void msgpack_write_double(struct msgpack_writer *w, double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    msgpack_writer_tagged_(w, 0xcb, bits, 8);
}

/* -- containers: the items follow, one call each ----------------------------------------------- */

static inline void msgpack_write_array(struct msgpack_writer *w, uint32_t count) {
    if (count < 16) msgpack_writer_byte_(w, (uint8_t)(0x90 | count));
    else if (count <= UINT16_MAX) msgpack_writer_tagged_(w, 0xdc, count, 2);
    else msgpack_writer_tagged_(w, 0xdd, count, 4);
}

/* `count` pairs: twice as many values follow. */
static inline void msgpack_write_map(struct msgpack_writer *w, uint32_t count) {
    if (count < 16) msgpack_writer_byte_(w, (uint8_t)(0x80 | count));
    else if (count <= UINT16_MAX) msgpack_writer_tagged_(w, 0xde, count, 2);
    else msgpack_writer_tagged_(w, 0xdf, count, 4);
}

/* -- bytes ------------------------------------------------------------------------------------- */

/* Copies bytes that are msgpack already (or the tail of a str or bin). */
static inline void msgpack_write_raw(struct msgpack_writer *w, const void *data, size_t size) {
    if (size == 0 || !msgpack_writer_room_(w, size)) return;
    memcpy(w->at, data, size);
    w->at += size;
}

/* UTF-8 text; the caller answers for its validity. */
static inline void msgpack_write_str(struct msgpack_writer *w, const void *text, uint32_t size) {
    if (size < 32) msgpack_writer_byte_(w, (uint8_t)(0xa0 | size));
    else if (size <= UINT8_MAX) msgpack_writer_tagged_(w, 0xd9, size, 1);
    else if (size <= UINT16_MAX) msgpack_writer_tagged_(w, 0xda, size, 2);
    else msgpack_writer_tagged_(w, 0xdb, size, 4);
    msgpack_write_raw(w, text, size);
}

/* A NUL-terminated text. */
static inline void msgpack_write_text(struct msgpack_writer *w, const char *text) {
    msgpack_write_str(w, text, (uint32_t)strlen(text));
}

static inline void msgpack_write_bin(struct msgpack_writer *w, const void *data, uint32_t size) {
    if (size <= UINT8_MAX) msgpack_writer_tagged_(w, 0xc4, size, 1);
    else if (size <= UINT16_MAX) msgpack_writer_tagged_(w, 0xc5, size, 2);
    else msgpack_writer_tagged_(w, 0xc6, size, 4);
    msgpack_write_raw(w, data, size);
}

#endif
