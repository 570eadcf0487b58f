/* The node's own log: one line per happening on stderr, for people and for journald.
 *
 *   2026-05-04T12:30:00.123Z warn  shard 1: no room on disk, writes are refused until there is
 *
 * Any thread; a line is one write(), so lines of two threads never mix. Not for the hot path. */
#ifndef JUMUN_BASE_LOG_H
#define JUMUN_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_WARN = 1, LOG_LEVEL_INFO = 2, LOG_LEVEL_DEBUG = 3 };

/* Lines above `level` are dropped. Default: LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* "error", "warn", "info" or "debug" -> level; -1 for anything else. */
int log_level_of(const char *name);

__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *format, ...);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
