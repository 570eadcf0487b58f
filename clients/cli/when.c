#include "clients/cli/when.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/text.h"

enum { WHEN_UNIX_DIGITS_MIN = 12 }; /* from 1973 on; fewer are more likely a slip, or an index */

/* -- durations --------------------------------------------------------------------------------- */

bool when_parse_span(const char *text, int64_t *ms) {
    static const struct { const char *name; int64_t ms; } units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end;
    if (!text || *text < '0' || *text > '9') return false;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].name) == 0)
            return !__builtin_mul_overflow((int64_t)n, units[i].ms, ms);
    *ms = 0;
    return *end == 0 && n == 0;
}

static bool when_is_number(const char *text) {
    return *text != 0 && strspn(text, "0123456789") == strlen(text);
}

bool when_is_bare(const char *text) {
    return when_is_number(text) && strlen(text) < WHEN_UNIX_DIGITS_MIN;
}

const char *when_span_fault(const char *text, char error[WHEN_ERROR_BYTES]) {
    if (when_is_number(text))
        snprintf(error, WHEN_ERROR_BYTES, "\"%.40s\" has no unit: %.40sms or %.40ss?", text, text,
                 text);
    else
        snprintf(error, WHEN_ERROR_BYTES, "\"%.60s\" is not a duration such as 500ms, 90s, 10m, "
                 "2h or 30d", text);
    return error;
}

/* -- dates ------------------------------------------------------------------------------------- */

/* Exactly so many digits, of a value in [min, max]. */
static bool when_digits(const char **at, int count, int min, int max, int *value) {
    int n = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (**at < '0' || **at > '9') return false;
        n = n * 10 + (**at - '0');
    }
    *value = n;
    return n >= min && n <= max;
}

static bool when_skip(const char **at, const char *one_of) {
    if (**at == 0 || !strchr(one_of, **at)) return false;
    (*at)++;
    return true;
}

static bool when_day(const char **at, struct tm *tm) {
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;
    if (!when_digits(at, 4, 1970, 9999, &year) || !when_skip(at, "-") ||
        !when_digits(at, 2, 1, 12, &month) || !when_skip(at, "-") ||
        !when_digits(at, 2, 1, days[month - 1], &day))
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (month == 2 && day == 29 && !leap) return false;
    tm->tm_year = year - 1900;
    tm->tm_mon = month - 1;
    tm->tm_mday = day;
    return true;
}

/* HH:MM[:SS[.fraction]] */
static bool when_time(const char **at, struct tm *tm, int *ms) {
    if (!when_digits(at, 2, 0, 23, &tm->tm_hour) || !when_skip(at, ":") ||
        !when_digits(at, 2, 0, 59, &tm->tm_min))
        return false;
    if (!when_skip(at, ":")) return true;
    if (!when_digits(at, 2, 0, 60, &tm->tm_sec)) return false; /* 60: a leap second */
    if (!when_skip(at, ".,")) return true;
    int weight = 100;
    if (**at < '0' || **at > '9') return false;
    for (; **at >= '0' && **at <= '9'; (*at)++, weight /= 10) *ms += weight * (**at - '0');
    return true;
}

/* A zone up to the end of the text; *here = there is none. */
static bool when_zone(const char *at, bool *here, int *east_s) {
    int hours, minutes = 0;
    *here = *at == 0;
    *east_s = 0;
    if (*here) return true;
    if (*at == ' ') at++;
    if ((*at == 'Z' || *at == 'z') && at[1] == 0) return true;
    int sign = *at == '-' ? -1 : 1;
    if (!when_skip(&at, "+-") || !when_digits(&at, 2, 0, 23, &hours)) return false;
    if (*at != 0) {
        when_skip(&at, ":");
        if (!when_digits(&at, 2, 0, 59, &minutes)) return false;
    }
    *east_s = sign * (hours * 3600 + minutes * 60);
    return *at == 0;
}

static bool when_calendar(const char *at, int64_t now_ms, int64_t *time_ms) {
    struct tm tm = {0};
    int ms = 0, east_s;
    bool here, today = strlen(at) > 2 && at[2] == ':';
    struct tm local, utc;
    time_t now = (time_t)(now_ms / 1000);
    if (!today && !when_day(&at, &tm)) return false;
    bool timed = today || when_skip(&at, "Tt") ||
                 (*at == ' ' && at[1] >= '0' && at[1] <= '9' && when_skip(&at, " "));
    if (timed && !when_time(&at, &tm, &ms)) return false;
    if (!when_zone(at, &here, &east_s)) return false;
    if (today) { /* the day that it is in that zone now */
        time_t there = now + east_s;
        localtime_r(&now, &local);
        gmtime_r(&there, &utc);
        const struct tm *day = here ? &local : &utc;
        tm.tm_year = day->tm_year;
        tm.tm_mon = day->tm_mon;
        tm.tm_mday = day->tm_mday;
    }
    tm.tm_isdst = -1;
    *time_ms = ((int64_t)(here ? mktime(&tm) : timegm(&tm)) - east_s) * 1000 + ms;
    return true;
}

/* -- all of them ------------------------------------------------------------------------------- */

bool when_parse(const char *text, int64_t now_ms, int64_t *time_ms,
                char error[WHEN_ERROR_BYTES]) {
    int64_t span;
    if (!when_is_bare(text) && when_parse_span(text + (*text == '-'), &span)) {
        *time_ms = now_ms - span;
        return true;
    }
    if (*text == '@' && text_parse_int64(text + 1, time_ms)) return true;
    if (when_is_number(text) && !when_is_bare(text) && text_parse_int64(text, time_ms)) return true;
    *time_ms = now_ms;
    if (strcmp(text, "now") == 0 || when_calendar(text, now_ms, time_ms)) return true;
    const char *number = text + (*text == '-');
    if (when_is_number(number))
        snprintf(error, WHEN_ERROR_BYTES, "\"%.40s\" may be a duration or a time: %.40sms or "
                 "%.40ss is so long ago, @%.40s Unix milliseconds", text, number, number, text);
    else
        snprintf(error, WHEN_ERROR_BYTES, "\"%.40s\" is no time: 2026-11-21, "
                 "2026-11-21T06:00:00Z (or +09:00, or local), 06:30, Unix milliseconds "
                 "(1774353600000), or so long ago (500ms, 90s, 10m, 2h)", text);
    return false;
}
