#include "engine/shard/history.h"

#include <stdlib.h>

#include "actors/event.h"
#include "engine/base/log.h"
#include "engine/limits.h"

/* Collected newest first, since the chain goes that way; turned round at the end. */
struct history_walk {
    const struct id128 *subject;
    uint8_t *out;                /* items, each [history_item][event], in reading order per entry */
    uint32_t bytes, capacity;
    uint32_t count, limit;
    uint64_t older_index;        /* entry of the event before the oldest one found; 0 = none */
    uint64_t bytes_max;
    bool too_large;
};

static bool walk_add(struct history_walk *w, const struct history_item *item,
                     const struct event *e) {
    uint32_t need = (uint32_t)sizeof *item + e->bytes;
    w->too_large = w->bytes + (uint64_t)need > w->bytes_max;
    if (w->too_large) return false;
    if (w->bytes + need > w->capacity) {
        uint32_t capacity = w->capacity ? w->capacity : 4096;
        while (capacity < w->bytes + need) capacity *= 2;
        uint8_t *out = realloc(w->out, capacity);
        if (!out) return false;
        w->out = out;
        w->capacity = capacity;
    }
    memcpy(w->out + w->bytes, item, sizeof *item);
    memcpy(w->out + w->bytes + sizeof *item, e, e->bytes);
    w->bytes += need;
    w->count++;
    return true;
}

static bool walk_record(void *arg, const struct record_header *h, const void *payload) {
    struct history_walk *w = arg;
    w->older_index = 0;
    if (h->type != RECORD_EVENTS || h->payload_bytes < sizeof(struct entry_header)) return true;
    const struct entry_header *entry = payload;
    uint32_t size = h->payload_bytes - (uint32_t)sizeof *entry, offset = 0;
    struct history_item item = {h->index, entry->time_ms};
    bool first = true;
    const struct event *e;
    while ((e = event_next(entry + 1, size, &offset))) {
        if (!id128_equal(&e->subject, w->subject)) continue;
        if (first) w->older_index = e->prev_index;
        first = false;
        if (!walk_add(w, &item, e)) return false;
    }
    return true;
}

/* The chunks of entries lie newest entry first, within an entry oldest event first. Copies them
 * into one run, oldest first, without what is over the limit. */
static void *walk_ordered(const struct history_walk *w, const uint32_t *starts, uint32_t chunks,
                          uint32_t *bytes) {
    uint8_t *out = malloc(w->bytes ? w->bytes : 1);
    if (!out) return NULL;
    uint32_t skip = w->count > w->limit ? w->count - w->limit : 0, used = 0;
    for (uint32_t c = chunks; c-- > 0;) {
        uint32_t end = c + 1 < chunks ? starts[c + 1] : w->bytes;
        for (uint32_t at = starts[c]; at < end;) {
            const struct event *e =
                (const void *)(w->out + at + sizeof(struct history_item));
            uint32_t n = (uint32_t)sizeof(struct history_item) + e->bytes;
            if (skip > 0) {
                skip--;
            } else {
                memcpy(out + used, w->out + at, n);
                used += n;
            }
            at += n;
        }
    }
    *bytes = used;
    return out;
}

void history_read(struct storage *storage, struct request_part *part, uint32_t position) {
    const struct command *command = &part->request->commands[position];
    struct result *result = &part->request->results[position];
    struct history_walk w = {.subject = &command->subject, .limit = command->history.limit,
                             .bytes_max = REPLY_VALUES_BYTES_MAX - part->value_bytes};
    if (w.limit == 0 || w.limit > HISTORY_EVENTS_MAX) w.limit = HISTORY_EVENTS_MAX;
    uint32_t starts[HISTORY_EVENTS_MAX + 1], chunks = 0;
    uint64_t index = result->index;
    char error[256] = "";
    int rv = 0;
    while (index != 0 && w.count < w.limit && rv == 0) {
        struct storage_stats stats;
        storage->ops->stats(storage, &stats);
        if (index < stats.log_first) break; /* retention has dropped it */
        /* A peer's state was installed in the place of entries: here history begins behind them. */
        if (stats.gaps > 0 && index <= stats.gap_last) break;
        starts[chunks++] = w.bytes;
        w.older_index = 0;
        rv = storage->ops->read(storage, index, index, walk_record, &w, error, sizeof error);
        require(w.older_index < index);
        index = w.older_index;
    }
    if (rv == -1) log_error("history: %s", error);
    result->value = rv == 0 ? walk_ordered(&w, starts, chunks, &result->value_bytes) : NULL;
    part->value_bytes += result->value_bytes;
    if (!result->value) {
        result->code = rv == -1     ? RESULT_STORAGE_FAILED
                       : w.too_large ? RESULT_MESSAGE_TOO_LARGE
                                     : RESULT_OUT_OF_MEMORY;
        result->value_kind = RESULT_VALUE_NONE;
        result->value_bytes = 0;
    }
    free(w.out);
}
