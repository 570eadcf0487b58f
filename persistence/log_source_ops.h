/* For who makes a log readable that does not lie in a directory: the functions behind
 * log_source.h. A source and its cursors begin with these structs; each function has the meaning,
 * the threads and the errors of its namesake there. */
#ifndef JUMUN_PERSISTENCE_LOG_SOURCE_OPS_H
#define JUMUN_PERSISTENCE_LOG_SOURCE_OPS_H

#include "persistence/log_source.h"

struct log_source_ops {
    void (*close)(struct log_source *source);
    int (*refresh)(struct log_source *source, char *error, size_t error_bytes);
    const char *(*directory)(const struct log_source *source);
    uint32_t (*segments)(const struct log_source *source, const struct log_source_segment **list);
    void (*range)(const struct log_source *source, uint64_t *first, uint64_t *last);
    uint64_t (*bytes)(const struct log_source *source);
    uint64_t (*index_at)(struct log_source *source, int64_t time_ms);
    const char *(*failure)(const struct log_source *source);
    struct log_cursor *(*cursor_open)(struct log_source *source, uint64_t first, uint64_t last,
                                      bool checked);
    void (*cursor_close)(struct log_cursor *cursor);
    enum log_step (*cursor_next)(struct log_cursor *cursor, struct log_item *item);
    void (*cursor_seek)(struct log_cursor *cursor, uint64_t first, uint64_t last);
};

struct log_source { const struct log_source_ops *ops; };
struct log_cursor { const struct log_source_ops *ops; };

#endif
