/* Times and durations as people write them: one reader for all programs.
 *
 * A duration has a unit, so that a number can never be taken for another one: 500ms, 90s, 10m (or
 * 10min), 2h, 30d; 0 needs none. A time is one of
 *
 *   2026-11-21T06:00:00.123+09:00  ISO 8601, also with a blank for the T. Seconds may be missing;
 *                      they have any number of digits behind the point, of which three count. Z,
 *                      +09:00, +0900 or +09 says the zone; without one it is the machine's own
 *   2026-11-21         the beginning of that day
 *   06:30, 06:30:15    of today
 *   1774353600000      Unix milliseconds, of 12 digits or more; @1774353600000 of any number
 *   10m, -10m          so long ago
 *   now
 *
 * Nothing allocates; any thread. */
#ifndef JUMUN_CLI_WHEN_H
#define JUMUN_CLI_WHEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WHEN_ERROR_BYTES = 256 };

/* Milliseconds, >= 0. False: it is no duration. */
bool when_parse_span(const char *text, int64_t *ms);
/* What is wrong with what when_parse_span() has refused: "90" has no unit: ... */
const char *when_span_fault(const char *text, char error[WHEN_ERROR_BYTES]);

/* Unix milliseconds. False with a sentence. */
bool when_parse(const char *text, int64_t now_ms, int64_t *time_ms, char error[WHEN_ERROR_BYTES]);

/* Digits alone, and too few of them for Unix milliseconds. */
bool when_is_bare(const char *text);

#endif
