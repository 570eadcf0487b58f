/* The same calls for every kind of source. */
#include "persistence/log_source_ops.h"

const char *log_fault_name(uint32_t kind) {
    static const char *const names[] = {"none", "record_damaged", "record_missing", "record_order",
                                        "page_damaged", "segment_unreadable", "segment_cut"};
    return kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

void log_source_close(struct log_source *s) {
    if (s) s->ops->close(s);
}

int log_source_refresh(struct log_source *s, char *error, size_t error_bytes) {
    return s->ops->refresh(s, error, error_bytes);
}

const char *log_source_directory(const struct log_source *s) { return s->ops->directory(s); }

uint32_t log_source_segments(const struct log_source *s, const struct log_source_segment **list) {
    return s->ops->segments(s, list);
}

void log_source_range(const struct log_source *s, uint64_t *first, uint64_t *last) {
    s->ops->range(s, first, last);
}

uint64_t log_source_bytes(const struct log_source *s) { return s->ops->bytes(s); }

uint64_t log_source_index_at(struct log_source *s, int64_t time_ms) {
    return s->ops->index_at(s, time_ms);
}

const char *log_source_failure(const struct log_source *s) { return s->ops->failure(s); }

struct log_cursor *log_cursor_open(struct log_source *s, uint64_t first, uint64_t last,
                                   bool checked) {
    return s->ops->cursor_open(s, first, last, checked);
}

void log_cursor_close(struct log_cursor *c) {
    if (c) c->ops->cursor_close(c);
}

enum log_step log_cursor_next(struct log_cursor *c, struct log_item *item) {
    return c->ops->cursor_next(c, item);
}

void log_cursor_seek(struct log_cursor *c, uint64_t first, uint64_t last) {
    c->ops->cursor_seek(c, first, last);
}
