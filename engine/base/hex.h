/* Bytes as lower-case hexadecimal digits. Pure; any thread. */
#ifndef JUMUN_BASE_HEX_H
#define JUMUN_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `text` gets two digits a byte and NUL. */
static inline void hex_format(const void *data, size_t bytes, char *text) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = data;
    for (size_t i = 0; i < bytes; i++) {
        *text++ = digits[from[i] >> 4];
        *text++ = digits[from[i] & 15];
    }
    *text = 0;
}

/* False, and `data` is undefined, unless `text` is just two lower-case digits for each byte. */
static inline bool hex_parse(const char *text, void *data, size_t bytes) {
    uint8_t *to = data;
    for (size_t i = 0; i < 2 * bytes; i++, text++) {
        bool digit = *text >= '0' && *text <= '9';
        if (!digit && (*text < 'a' || *text > 'f')) return false;
        uint8_t value = (uint8_t)(digit ? *text - '0' : *text - 'a' + 10);
        to[i / 2] = (uint8_t)(i % 2 == 0 ? value << 4 : to[i / 2] | value);
    }
    return *text == 0;
}

#endif
