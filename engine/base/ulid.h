/* The text form of 128-bit ids: a ULID's 26 characters of Crockford base32, most significant first,
 * so that texts sort as the ids do (https://github.com/ulid/spec). Any thread. */
#ifndef JUMUN_BASE_ULID_H
#define JUMUN_BASE_ULID_H

#include "engine/base/bytes.h"

enum { ULID_TEXT_SIZE = 26 };

/* `text` gets 26 characters and NUL. */
void ulid_format(const struct id128 *id, char text[ULID_TEXT_SIZE + 1]);

/* Reads exactly 26 characters: either case, I and L count as 1, O as 0. False, and *id untouched,
 * for any other size or character, and for a first character above 7, which stands for more than
 * 128 bits. */
bool ulid_parse(const char *text, size_t size, struct id128 *id);

#endif
