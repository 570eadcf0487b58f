/* Validation of UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. Text
 * that is all ASCII costs one test per eight bytes. Any thread. */
#ifndef JUMUN_BASE_UTF8_H
#define JUMUN_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the character that starts at `p`, 0 if it is not one. `left` >= 1 bytes may be read. */
static inline size_t utf8_character_(const uint8_t *p, size_t left) {
    uint8_t lead = p[0];
    if (lead < 0x80) return 1;
    size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || left < size) return 0;
    /* The second byte's range shuts out overlong forms, surrogates and what lies above U+10FFFF. */
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return size;
}

/* `text` may be NULL when `size` is 0. */
static inline bool utf8_is_valid(const void *text, size_t size) {
    const uint8_t *p = text;
    size_t at = 0;
    while (at < size) {
        uint64_t eight;
        while (size - at >= 8) {
            memcpy(&eight, p + at, 8);
            if (eight & 0x8080808080808080ULL) break;
            at += 8;
        }
        if (at == size) break;
        size_t step = utf8_character_(p + at, size - at);
        if (step == 0) return false;
        at += step;
    }
    return true;
}

#endif
