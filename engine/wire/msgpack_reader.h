/* Reads msgpack in place from untrusted bytes: header-only, no allocation, no dependency.
 *
 * A reader is a cursor. Each read returns a status; on anything but MSGPACK_OK the cursor has not
 * moved and the outputs are untouched, so that a caller may report the fault and msgpack_skip() the
 * value. No read looks past `end`. Strings and binaries are views into the bytes read.
 *
 * A count or a length that promises more than the bytes left is MSGPACK_TRUNCATED at once (every
 * item takes at least one byte), so a caller may size memory by a count that it has read.
 *
 * A reader belongs to one thread at a time. */
#ifndef JUMUN_WIRE_MSGPACK_READER_H
#define JUMUN_WIRE_MSGPACK_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MSGPACK_DEPTH_MAX = 32 }; /* containers in containers that msgpack_skip() follows */

enum msgpack_status {
    MSGPACK_OK = 0,
    MSGPACK_WRONG_TYPE,   /* a whole value stands here, of another type */
    MSGPACK_OUT_OF_RANGE, /* an integer that does not fit the type asked for */
    MSGPACK_TRUNCATED,    /* the bytes end inside the value, or there are none */
    MSGPACK_INVALID,      /* 0xc1: never used by msgpack */
    MSGPACK_TOO_DEEP      /* nested deeper than MSGPACK_DEPTH_MAX */
};

enum msgpack_type {
    MSGPACK_TYPE_END = 0, /* no bytes left */
    MSGPACK_TYPE_NIL,
    MSGPACK_TYPE_BOOL,
    MSGPACK_TYPE_INT, /* signed or unsigned, any width */
    MSGPACK_TYPE_FLOAT,
    MSGPACK_TYPE_STR,
    MSGPACK_TYPE_BIN,
    MSGPACK_TYPE_ARRAY,
    MSGPACK_TYPE_MAP,
    MSGPACK_TYPE_EXT,
    MSGPACK_TYPE_INVALID
};

struct msgpack_reader {
    const uint8_t *at;  /* next byte to read */
    const uint8_t *end; /* first byte behind the input */
};

static inline void msgpack_reader_init(struct msgpack_reader *r, const void *data, size_t size) {
    r->at = data;
    r->end = r->at + size;
}

static inline size_t msgpack_reader_left(const struct msgpack_reader *r) {
    return (size_t)(r->end - r->at);
}

/* Big-endian number of `size` (1, 2, 4 or 8) bytes, no bounds check. */
static inline uint64_t msgpack_big_(const uint8_t *p, unsigned size) {
    switch (size) {
    case 1: return p[0];
    case 2: { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
    case 4: { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
    default: { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }
    }
}

static inline enum msgpack_type msgpack_type_of_tag_(uint8_t tag) {
    if (tag < 0x80 || tag >= 0xe0) return MSGPACK_TYPE_INT;
    if (tag < 0x90) return MSGPACK_TYPE_MAP;
    if (tag < 0xa0) return MSGPACK_TYPE_ARRAY;
    if (tag < 0xc0) return MSGPACK_TYPE_STR;
    switch (tag) {
    case 0xc0: return MSGPACK_TYPE_NIL;
    case 0xc1: return MSGPACK_TYPE_INVALID;
    case 0xc2: case 0xc3: return MSGPACK_TYPE_BOOL;
    case 0xc4: case 0xc5: case 0xc6: return MSGPACK_TYPE_BIN;
    case 0xc7: case 0xc8: case 0xc9: return MSGPACK_TYPE_EXT;
    case 0xca: case 0xcb: return MSGPACK_TYPE_FLOAT;
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return MSGPACK_TYPE_EXT;
    case 0xd9: case 0xda: case 0xdb: return MSGPACK_TYPE_STR;
    case 0xdc: case 0xdd: return MSGPACK_TYPE_ARRAY;
    case 0xde: case 0xdf: return MSGPACK_TYPE_MAP;
    default: return MSGPACK_TYPE_INT; /* 0xcc..0xcf, 0xd0..0xd3 */
    }
}

/* What stands next, without moving. */
static inline enum msgpack_type msgpack_peek(const struct msgpack_reader *r) {
    return r->at == r->end ? MSGPACK_TYPE_END : msgpack_type_of_tag_(*r->at);
}

/* The status of a read that met something else than it wanted. */
static inline enum msgpack_status msgpack_mismatch_(const struct msgpack_reader *r) {
    if (r->at == r->end) return MSGPACK_TRUNCATED;
    return *r->at == 0xc1 ? MSGPACK_INVALID : MSGPACK_WRONG_TYPE;
}

/* -- scalars ----------------------------------------------------------------------------------- */

static inline enum msgpack_status msgpack_read_nil(struct msgpack_reader *r) {
    if (r->at == r->end || *r->at != 0xc0) return msgpack_mismatch_(r);
    r->at++;
    return MSGPACK_OK;
}

/* Takes a nil if one stands next. */
static inline bool msgpack_take_nil(struct msgpack_reader *r) {
    return msgpack_read_nil(r) == MSGPACK_OK;
}

static inline enum msgpack_status msgpack_read_bool(struct msgpack_reader *r, bool *value) {
    if (r->at == r->end || (*r->at & 0xfe) != 0xc2) return msgpack_mismatch_(r);
    *value = *r->at++ & 1;
    return MSGPACK_OK;
}

/* Any integer: the 64 bits of its two's complement, and whether it is below zero. */
static inline enum msgpack_status msgpack_read_integer_(struct msgpack_reader *r, uint64_t *bits,
                                                        bool *negative) {
    if (r->at == r->end) return MSGPACK_TRUNCATED;
    uint8_t tag = *r->at;
    if (tag < 0x80 || tag >= 0xe0) {
        *bits = (uint64_t)(int64_t)(int8_t)tag;
        *negative = tag >= 0xe0;
        r->at++;
        return MSGPACK_OK;
    }
    if (tag < 0xcc || tag > 0xd3) return msgpack_mismatch_(r);
    unsigned size = 1u << (tag & 3); /* 0xcc.. and 0xd0.. both start with the one-byte form */
    if (msgpack_reader_left(r) <= size) return MSGPACK_TRUNCATED;
    uint64_t v = msgpack_big_(r->at + 1, size);
    if (tag >= 0xd0) {
        unsigned shift = 64 - 8 * size;
        v = (uint64_t)((int64_t)(v << shift) >> shift);
    }
    *bits = v;
    *negative = tag >= 0xd0 && (int64_t)v < 0;
    r->at += size + 1;
    return MSGPACK_OK;
}

static inline enum msgpack_status msgpack_read_uint(struct msgpack_reader *r, uint64_t *value) {
    const uint8_t *before = r->at;
    uint64_t bits;
    bool negative;
    enum msgpack_status s = msgpack_read_integer_(r, &bits, &negative);
    if (s != MSGPACK_OK) return s;
    if (negative) {
        r->at = before;
        return MSGPACK_OUT_OF_RANGE;
    }
    *value = bits;
    return MSGPACK_OK;
}

static inline enum msgpack_status msgpack_read_int(struct msgpack_reader *r, int64_t *value) {
    const uint8_t *before = r->at;
    uint64_t bits;
    bool negative;
    enum msgpack_status s = msgpack_read_integer_(r, &bits, &negative);
    if (s != MSGPACK_OK) return s;
    if (!negative && bits > INT64_MAX) {
        r->at = before;
        return MSGPACK_OUT_OF_RANGE;
    }
    *value = (int64_t)bits;
    return MSGPACK_OK;
}

/* An unsigned integer of at most `max`. */
static inline enum msgpack_status msgpack_read_uint_upto(struct msgpack_reader *r, uint64_t max,
                                                         uint64_t *value) {
    const uint8_t *before = r->at;
    uint64_t v;
    enum msgpack_status s = msgpack_read_uint(r, &v);
    if (s != MSGPACK_OK) return s;
    if (v > max) {
        r->at = before;
        return MSGPACK_OUT_OF_RANGE;
    }
    *value = v;
    return MSGPACK_OK;
}

/* A float of 32 or 64 bits. Integers are WRONG_TYPE. */
static inline enum msgpack_status msgpack_read_double(struct msgpack_reader *r, double *value) {
    if (r->at == r->end || (*r->at & 0xfe) != 0xca) return msgpack_mismatch_(r);
    unsigned size = *r->at == 0xca ? 4 : 8;
    if (msgpack_reader_left(r) <= size) return MSGPACK_TRUNCATED;
    uint64_t bits = msgpack_big_(r->at + 1, size);
    if (size == 4) {
        uint32_t narrow = (uint32_t)bits;
        float f;
        memcpy(&f, &narrow, 4);
        *value = (double)f;
    } else {
        memcpy(value, &bits, 8);
    }
    r->at += size + 1;
    return MSGPACK_OK;
}

/* -- containers and bytes ---------------------------------------------------------------------- */

/* The length of `size` bytes behind a tag. Leaves *header = bytes of tag and length. */
static inline bool msgpack_length_(const struct msgpack_reader *r, unsigned size, uint32_t *length,
                                   unsigned *header) {
    if (msgpack_reader_left(r) <= size) return false;
    *length = (uint32_t)msgpack_big_(r->at + 1, size);
    *header = size + 1;
    return true;
}

static inline enum msgpack_status msgpack_read_array(struct msgpack_reader *r, uint32_t *count) {
    if (r->at == r->end) return MSGPACK_TRUNCATED;
    uint8_t tag = *r->at;
    uint32_t n = tag & 0x0f;
    unsigned header = 1;
    if ((tag & 0xf0) != 0x90) {
        if ((tag & 0xfe) != 0xdc) return msgpack_mismatch_(r);
        if (!msgpack_length_(r, tag == 0xdc ? 2 : 4, &n, &header)) return MSGPACK_TRUNCATED;
    }
    if (n > msgpack_reader_left(r) - header) return MSGPACK_TRUNCATED;
    r->at += header;
    *count = n;
    return MSGPACK_OK;
}

/* `*count` pairs. */
static inline enum msgpack_status msgpack_read_map(struct msgpack_reader *r, uint32_t *count) {
    if (r->at == r->end) return MSGPACK_TRUNCATED;
    uint8_t tag = *r->at;
    uint32_t n = tag & 0x0f;
    unsigned header = 1;
    if ((tag & 0xf0) != 0x80) {
        if ((tag & 0xfe) != 0xde) return msgpack_mismatch_(r);
        if (!msgpack_length_(r, tag == 0xde ? 2 : 4, &n, &header)) return MSGPACK_TRUNCATED;
    }
    if (2 * (uint64_t)n > msgpack_reader_left(r) - header) return MSGPACK_TRUNCATED;
    r->at += header;
    *count = n;
    return MSGPACK_OK;
}

/* The bytes are not checked to be UTF-8. */
static inline enum msgpack_status msgpack_read_str(struct msgpack_reader *r, const void **text,
                                                   uint32_t *size) {
    if (r->at == r->end) return MSGPACK_TRUNCATED;
    uint8_t tag = *r->at;
    uint32_t n = tag & 0x1f;
    unsigned header = 1;
    if ((tag & 0xe0) != 0xa0) {
        if (tag < 0xd9 || tag > 0xdb) return msgpack_mismatch_(r);
        if (!msgpack_length_(r, 1u << (tag - 0xd9), &n, &header)) return MSGPACK_TRUNCATED;
    }
    if (n > msgpack_reader_left(r) - header) return MSGPACK_TRUNCATED;
    *text = r->at + header;
    *size = n;
    r->at += header + n;
    return MSGPACK_OK;
}

static inline enum msgpack_status msgpack_read_bin(struct msgpack_reader *r, const void **data,
                                                   uint32_t *size) {
    if (r->at == r->end) return MSGPACK_TRUNCATED;
    uint8_t tag = *r->at;
    if (tag < 0xc4 || tag > 0xc6) return msgpack_mismatch_(r);
    uint32_t n;
    unsigned header;
    if (!msgpack_length_(r, 1u << (tag - 0xc4), &n, &header)) return MSGPACK_TRUNCATED;
    if (n > msgpack_reader_left(r) - header) return MSGPACK_TRUNCATED;
    *data = r->at + header;
    *size = n;
    r->at += header + n;
    return MSGPACK_OK;
}

/* -- skipping ---------------------------------------------------------------------------------- */

/* Skips what the tag at r->at stands for, without the items of a container, whose number it gives
 * in *items (a map counts twice). */
static inline enum msgpack_status msgpack_skip_head_(struct msgpack_reader *r, uint64_t *items) {
    static const uint8_t fixed_bytes[32] = {
        /* 0xc0 nil, never, false, true, bin, ext */ 1, 0, 1, 1, 2, 3, 5, 3, 4, 6,
        /* 0xca floats, uints, ints */ 5, 9, 2, 3, 5, 9, 2, 3, 5, 9,
        /* 0xd4 fixext */ 3, 4, 6, 10, 18,
        /* 0xd9 str, array, map */ 2, 3, 5, 3, 5, 3, 5};
    *items = 0;
    size_t left = msgpack_reader_left(r);
    if (left == 0) return MSGPACK_TRUNCATED;
    uint8_t tag = *r->at;
    uint64_t bytes = 1;
    if (tag >= 0xc0 && tag < 0xe0) {
        bytes = fixed_bytes[tag - 0xc0];
        if (bytes == 0) return MSGPACK_INVALID;
        if (left < bytes) return MSGPACK_TRUNCATED;
        const uint8_t *p = r->at + 1;
        if (tag >= 0xc4 && tag <= 0xc6) bytes += msgpack_big_(p, 1u << (tag - 0xc4));
        else if (tag >= 0xc7 && tag <= 0xc9) bytes += msgpack_big_(p, 1u << (tag - 0xc7));
        else if (tag >= 0xd9 && tag <= 0xdb) bytes += msgpack_big_(p, 1u << (tag - 0xd9));
        else if (tag == 0xdc || tag == 0xdd) *items = msgpack_big_(p, tag == 0xdc ? 2 : 4);
        else if (tag >= 0xde) *items = 2 * msgpack_big_(p, tag == 0xde ? 2 : 4);
    } else if ((tag & 0xe0) == 0xa0) {
        bytes = 1 + (tag & 0x1fu);
    } else if ((tag & 0xf0) == 0x90) {
        *items = tag & 0x0f;
    } else if ((tag & 0xf0) == 0x80) {
        *items = 2 * (tag & 0x0fu);
    }
    if (left < bytes || left - bytes < *items) return MSGPACK_TRUNCATED;
    r->at += bytes;
    return MSGPACK_OK;
}

/* Skips one value with all that is in it. Takes time in proportion to its bytes, and a fixed stack;
 * more than MSGPACK_DEPTH_MAX containers in each other are MSGPACK_TOO_DEEP. */
static inline enum msgpack_status msgpack_skip(struct msgpack_reader *r) {
    struct msgpack_reader ahead = *r;
    uint64_t left[MSGPACK_DEPTH_MAX + 1]; /* values still to skip, by depth */
    unsigned depth = 0;
    left[0] = 1;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0) {
                r->at = ahead.at;
                return MSGPACK_OK;
            }
            depth--;
        }
        left[depth]--;
        uint64_t items;
        enum msgpack_type type = msgpack_peek(&ahead);
        enum msgpack_status s = msgpack_skip_head_(&ahead, &items);
        if (s != MSGPACK_OK) return s;
        if (type != MSGPACK_TYPE_ARRAY && type != MSGPACK_TYPE_MAP) continue;
        if (depth == MSGPACK_DEPTH_MAX) return MSGPACK_TOO_DEEP;
        left[++depth] = items;
    }
}

#endif
