/* How the programs write numbers, money, times and foreign text for people.
 *
 * Functions that fill a buffer return it, always terminated, so that they can stand in a printf()
 * argument list. TEXT_BYTES is enough for every one of them but text_printable(). None allocates;
 * all are thread-safe. */
#ifndef JUMUN_CLI_TEXT_H
#define JUMUN_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEXT_BYTES = 64 };

/* Decimal digits behind the point of an ISO 4217 currency: 0 for KRW and JPY, 3 for KWD, 2 for any
 * that is not in the table. */
int text_currency_exponent(const char *currency);

/* Minor units as people write them: 950000 KRW -> "950,000 KRW", -13912 GBP -> "-139.12 GBP". */
char *text_money(char buffer[TEXT_BYTES], int64_t minor_units, const char *currency);

/* 1234567 -> "1,234,567". */
char *text_count(char buffer[TEXT_BYTES], uint64_t count);

/* What a noun behind a count ends with: "" for 1, else "s". */
static inline const char *text_plural(uint64_t count) { return count == 1 ? "" : "s"; }

/* 1536 -> "1.5 KiB". */
char *text_size(char buffer[TEXT_BYTES], uint64_t bytes);

/* A span, its two largest units at most: "350 ms", "4 min", "2 h 5 min", "3 d 4 h". >= 0. */
char *text_span(char buffer[TEXT_BYTES], int64_t ms);

/* A moment seen from `now_ms`: "in 4 min", "3 s ago", "now". */
char *text_relative(char buffer[TEXT_BYTES], int64_t ms, int64_t now_ms);

/* Local time, "2026-11-21 03:27:04.123"; "-" for 0. */
char *text_time(char buffer[TEXT_BYTES], int64_t unix_ms);

/* Nanoseconds at three digits: "850 ns", "12.3 us", "1.23 ms", "2.50 s". */
char *text_latency(char buffer[TEXT_BYTES], double ns);

/* Columns of a terminal that UTF-8 text takes: Hangul and ideographs count two, marks none. */
int text_width(const char *text);

/* Copies text that came from elsewhere so that it cannot steer the terminal: control characters
 * and bytes that are not UTF-8 become '?'. Cuts at `bytes` - 1, never within a character. */
char *text_printable(char *buffer, size_t bytes, const char *text, size_t text_bytes);

/* Whole-string readers: false unless all of `text` is a number in the range of the type. */
bool text_parse_int64(const char *text, int64_t *value);

int64_t text_now_ms(void);      /* Unix time */
uint64_t text_mono_ns(void);    /* monotonic */

#endif
