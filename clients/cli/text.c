#include "clients/cli/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int text_currency_exponent(const char *currency) {
    static const char none[] =
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
    static const char three[] = "BHD IQD JOD KWD LYD OMR TND";
    if (!currency || strlen(currency) != 3 || strchr(currency, ' ')) return 2;
    if (strstr(none, currency)) return 0;
    return strstr(three, currency) ? 3 : 2;
}

/* Writes digits with commas; returns the characters written. */
static size_t text_grouped(char *out, uint64_t n) {
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%" PRIu64, n);
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0) out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = 0;
    return used;
}

char *text_money(char buffer[TEXT_BYTES], int64_t minor_units, const char *currency) {
    int exponent = text_currency_exponent(currency);
    uint64_t scale = 1;
    for (int i = 0; i < exponent; i++) scale *= 10;
    /* The magnitude of INT64_MIN has no int64_t. */
    uint64_t n = minor_units < 0 ? 0 - (uint64_t)minor_units : (uint64_t)minor_units;
    size_t used = 0;
    if (minor_units < 0) buffer[used++] = '-';
    used += text_grouped(buffer + used, n / scale);
    if (exponent > 0) {
        used += (size_t)snprintf(buffer + used, TEXT_BYTES - used, ".%0*" PRIu64, exponent,
                                 n % scale);
    }
    if (currency && *currency) snprintf(buffer + used, TEXT_BYTES - used, " %.3s", currency);
    return buffer;
}

char *text_count(char buffer[TEXT_BYTES], uint64_t count) {
    text_grouped(buffer, count);
    return buffer;
}

char *text_size(char buffer[TEXT_BYTES], uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double n = (double)bytes;
    int unit = 0;
    while (n >= 1024 && unit < 5) n /= 1024, unit++;
    snprintf(buffer, TEXT_BYTES, unit == 0 || n >= 100 ? "%.0f %s" : "%.1f %s", n, units[unit]);
    return buffer;
}

char *text_span(char buffer[TEXT_BYTES], int64_t ms) {
    static const struct { int64_t ms; const char *name; } units[] = {
        {86400000, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}};
    if (ms < 1000) {
        snprintf(buffer, TEXT_BYTES, "%" PRId64 " ms", ms);
        return buffer;
    }
    size_t u = 0;
    while (ms < units[u].ms) u++;
    int64_t whole = ms / units[u].ms;
    int64_t rest = u < 3 ? ms % units[u].ms / units[u + 1].ms : 0;
    if (whole >= 10) { /* "14 min 37 s" says more than anybody wants to know: "15 min" */
        whole = (ms + units[u].ms / 2) / units[u].ms;
        if (u > 0 && whole * units[u].ms >= units[u - 1].ms) whole = 1, u--;
    }
    if (rest > 0 && whole < 10 && ms / units[u].ms == whole) {
        snprintf(buffer, TEXT_BYTES, "%" PRId64 " %s %" PRId64 " %s", whole, units[u].name, rest,
                 units[u + 1].name);
    } else {
        snprintf(buffer, TEXT_BYTES, "%" PRId64 " %s", whole, units[u].name);
    }
    return buffer;
}

char *text_relative(char buffer[TEXT_BYTES], int64_t ms, int64_t now_ms) {
    char span[TEXT_BYTES];
    int64_t ahead = ms - now_ms;
    if (ahead == 0) {
        snprintf(buffer, TEXT_BYTES, "now");
    } else if (ahead > 0) {
        snprintf(buffer, TEXT_BYTES, "in %.50s", text_span(span, ahead));
    } else {
        snprintf(buffer, TEXT_BYTES, "%.50s ago", text_span(span, -ahead));
    }
    return buffer;
}

char *text_time(char buffer[TEXT_BYTES], int64_t unix_ms) {
    struct tm tm;
    time_t seconds = (time_t)(unix_ms / 1000);
    if (unix_ms == 0 || !localtime_r(&seconds, &tm)) {
        snprintf(buffer, TEXT_BYTES, "-");
        return buffer;
    }
    char date[32];
    strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(buffer, TEXT_BYTES, "%s.%03d", date, (int)(unix_ms % 1000));
    return buffer;
}

char *text_latency(char buffer[TEXT_BYTES], double ns) {
    static const char *const units[] = {"ns", "us", "ms", "s"};
    int unit = 0;
    while (ns >= 999.5 && unit < 3) ns /= 1000, unit++;
    int decimals = unit == 0 || ns >= 99.95 ? 0 : ns >= 9.995 ? 1 : 2;
    snprintf(buffer, TEXT_BYTES, "%.*f %s", decimals, ns, units[unit]);
    return buffer;
}

/* The code point at *text (of `left` bytes) and its length, or 0 for bytes that are not UTF-8. */
static size_t text_decode(const unsigned char *text, size_t left, uint32_t *point) {
    unsigned char first = text[0];
    size_t size = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3
                : first >> 3 == 30 ? 4 : 0;
    if (size == 0 || size > left) return 0;
    uint32_t p = size == 1 ? first : first & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if (text[i] >> 6 != 2) return 0;
        p = p << 6 | (text[i] & 0x3f);
    }
    *point = p;
    return size;
}

static bool text_is_wide(uint32_t p) {
    static const struct { uint32_t from, to; } wide[] = {
        {0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f},
        {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff},
        {0x20000, 0x3fffd}};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        if (p >= wide[i].from && p <= wide[i].to) return true;
    }
    return false;
}

int text_width(const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text);
    int width = 0;
    while (left > 0) {
        uint32_t point = '?';
        size_t size = text_decode(at, left, &point);
        if (size == 0) size = 1;
        bool mark = (point >= 0x300 && point <= 0x36f) || point == 0x200b || point == 0x200d ||
                    (point >= 0xfe00 && point <= 0xfe0f);
        width += mark ? 0 : text_is_wide(point) ? 2 : 1;
        at += size;
        left -= size;
    }
    return width;
}

char *text_printable(char *buffer, size_t bytes, const char *text, size_t text_bytes) {
    const unsigned char *at = (const unsigned char *)text;
    size_t used = 0;
    while (text_bytes > 0) {
        uint32_t point = 0;
        size_t size = text_decode(at, text_bytes, &point);
        /* C1 controls and the bidirectional overrides steer terminals as well as C0 does. */
        bool bad = size == 0 || point < 0x20 || (point >= 0x7f && point < 0xa0) ||
                   (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
        size_t take = bad ? 1 : size;
        if (used + take + 1 > bytes) break;
        if (bad) buffer[used] = '?';
        else memcpy(buffer + used, at, take);
        used += take;
        at += size ? size : 1;
        text_bytes -= size ? size : 1;
    }
    buffer[used] = 0;
    return buffer;
}

bool text_parse_int64(const char *text, int64_t *value) {
    char *end;
    if (!text || !(*text == '-' || (*text >= '0' && *text <= '9'))) return false;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end) return false;
    *value = n;
    return true;
}

int64_t text_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint64_t text_mono_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
