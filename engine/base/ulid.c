#include "engine/base/ulid.h"

static const char ulid_alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* -1 = not a character of the alphabet. U is left out of it to keep words from forming. */
static int ulid_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'z') c = (char)(c - 'a' + 'A');
    if (c == 'I' || c == 'L') return 1;
    if (c == 'O') return 0;
    for (int i = 10; i < 32; i++)
        if (ulid_alphabet[i] == c) return i;
    return -1;
}

void ulid_format(const struct id128 *id, char text[ULID_TEXT_SIZE + 1]) {
    unsigned __int128 bits = 0;
    for (int i = 0; i < 16; i++) bits = bits << 8 | id->bytes[i];
    for (int i = ULID_TEXT_SIZE - 1; i >= 0; i--) {
        text[i] = ulid_alphabet[(unsigned)bits & 31];
        bits >>= 5;
    }
    text[ULID_TEXT_SIZE] = '\0';
}

bool ulid_parse(const char *text, size_t size, struct id128 *id) {
    if (size != ULID_TEXT_SIZE) return false;
    unsigned __int128 bits = 0;
    for (int i = 0; i < ULID_TEXT_SIZE; i++) {
        int value = ulid_value(text[i]);
        if (value < 0 || (i == 0 && value > 7)) return false;
        bits = bits << 5 | (unsigned)value;
    }
    for (int i = 15; i >= 0; i--) {
        id->bytes[i] = (uint8_t)bits;
        bits >>= 8;
    }
    return true;
}
