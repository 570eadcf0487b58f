/* Bytes as lower-case hexadecimal digits. Pure; any thread. */
#ifndef JUMUN_BASE_HEX_H
#define JUMUN_BASE_HEX_H

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

#endif
