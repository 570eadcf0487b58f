/* The events of one order, out of the log by the links between them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/replay/replay.h"

void replay_history_free(struct replay_history *h) {
    for (uint32_t i = 0; i < h->count; i++) free(h->events[i].event);
    free(h->events);
    *h = (struct replay_history){.events = NULL};
}

static bool history_add(struct replay_history *h, const struct log_item *item,
                        const struct event *e) {
    if (h->count == h->capacity) {
        uint32_t capacity = h->capacity ? h->capacity * 2 : 16;
        struct replay_event *events = realloc(h->events, capacity * sizeof *events);
        if (!events) return false;
        h->events = events;
        h->capacity = capacity;
    }
    struct replay_event *one = &h->events[h->count];
    const struct entry_header *entry = item->payload;
    *one = (struct replay_event){.index = item->index, .offset = item->offset,
                                 .time_ms = entry->time_ms, .event = malloc(e->bytes)};
    if (!one->event) return false;
    snprintf(one->segment, sizeof one->segment, "%s", item->segment);
    memcpy(one->event, e, e->bytes);
    h->count++;
    return true;
}

/* Adds the record's events of the subject; *older = where the one before the first of them is.
 * False without memory. */
static bool history_take(struct replay_history *h, const struct log_item *item,
                         const struct id128 *subject, uint64_t *older, bool *any) {
    uint32_t offset = 0, size = item->header->payload_bytes;
    const struct event *e;
    *any = false;
    if (item->header->type != RECORD_EVENTS || size < sizeof(struct entry_header)) return true;
    size -= (uint32_t)sizeof(struct entry_header);
    const uint8_t *events = (const uint8_t *)item->payload + sizeof(struct entry_header);
    while ((e = event_next(events, size, &offset))) {
        if (!id128_equal(&e->subject, subject)) continue;
        if (!*any) *older = e->prev_index;
        *any = true;
        if (!history_add(h, item, e)) return false;
    }
    return true;
}

static int history_compare(const void *a, const void *b) {
    const struct replay_event *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return x->event->version < y->event->version ? -1 : x->event->version > y->event->version;
}

/* Reads the records from..upto for events of the subject. 0, or -1 with a sentence. */
static int history_scan(struct log_cursor *c, uint64_t from, uint64_t upto,
                        const struct id128 *subject, struct replay_history *h, uint64_t *oldest,
                        char *error, size_t error_bytes) {
    struct log_item item;
    enum log_step step;
    uint64_t older = 0;
    bool any;
    log_cursor_seek(c, from, upto);
    while ((step = log_cursor_next(c, &item)) != LOG_END && !replay_interrupted()) {
        if (step != LOG_RECORD) continue;
        if (!history_take(h, &item, subject, &older, &any)) {
            snprintf(error, error_bytes, "no memory");
            return -1;
        }
        if (any && *oldest == UINT64_MAX) *oldest = older;
    }
    return 0;
}

/* Follows the links back from the record at `index`. */
static int history_chain(struct log_cursor *c, uint64_t index, const struct id128 *subject,
                         struct replay_history *h, char *error, size_t error_bytes) {
    struct log_item item;
    bool any;
    while (index != 0) {
        uint64_t older = 0;
        log_cursor_seek(c, index, index);
        enum log_step step = log_cursor_next(c, &item);
        if (step == LOG_END || step == LOG_DROPPED) return 0; /* the log begins behind it */
        if (step == LOG_FAULT) {
            snprintf(error, error_bytes, "record %" PRIu64 ": %s", index, item.what);
            return -1;
        }
        if (!history_take(h, &item, subject, &older, &any)) {
            snprintf(error, error_bytes, "no memory");
            return -1;
        }
        if (!any || older >= index) {
            snprintf(error, error_bytes, "record %" PRIu64 " does not hold the event that a later "
                     "one of the order points back to", index);
            return -1;
        }
        index = older;
    }
    return 0;
}

/* The last record before any that can be of an order, by the time in its key. */
static uint64_t history_birth(const struct source_shard *shard, const struct id128 *subject) {
    int64_t birth_ms = 0;
    for (int i = 0; i < 6; i++) birth_ms = birth_ms << 8 | subject->bytes[i];
    return log_source_index_at(shard->log, birth_ms - KEY_FUTURE_MS_MAX);
}

/* Where the links begin: what the stored state knows of the order, and from where on the log has to
 * be read through. Without a state that knows it: from the beginning. */
static void history_begin(const struct source_shard *shard, const struct id128 *subject,
                          uint64_t upto, uint64_t *newest, uint64_t *scan_from) {
    struct state_source_marker marker;
    char error[256];
    const char *fault;
    uint32_t bytes;
    uint64_t last;
    *newest = 0;
    log_source_range(shard->log, scan_from, &last);
    if (shard->link) { /* over the network: not what was long before the order's birth */
        uint64_t born = history_birth(shard, subject);
        if (born > *scan_from) *scan_from = born;
        return;
    }
    if (!shard->state[0]) return;
    struct state_source *state = state_source_open(shard->state, error, sizeof error);
    if (!state) return;
    bool known = state_source_read_marker(state, &marker, error, sizeof error) == 0 &&
                 marker.found && marker.applied_index <= upto;
    struct actor *a = known ? state_source_get(state, STATE_SOURCE_ORDERS, subject, &bytes, &fault)
                            : NULL;
    if (a && a->last_index <= upto) {
        *newest = a->last_index;
        *scan_from = a->last_index + 1;
    } else if (known && !a && !fault && marker.applied_index >= *scan_from) {
        /* Not stored: born behind the marker, or retired long ago. The former is far likelier. */
        uint64_t born = history_birth(shard, subject);
        if (born > *scan_from) *scan_from = born;
    }
    free(a);
    state_source_close(state);
}

int replay_history_read(const struct source_shard *shard, const struct id128 *subject,
                        uint64_t upto, struct replay_history *h, char *error,
                        size_t error_bytes) {
    uint64_t first, last, newest, scan_from;
    log_source_range(shard->log, &first, &last);
    history_begin(shard, subject, upto < last ? upto : last, &newest, &scan_from);
    return replay_history_from(shard, subject, newest, scan_from, upto, h, error, error_bytes);
}

int replay_history_from(const struct source_shard *shard, const struct id128 *subject,
                        uint64_t newest, uint64_t scan_from, uint64_t upto,
                        struct replay_history *h, char *error, size_t error_bytes) {
    uint64_t first, last, oldest = UINT64_MAX;
    *h = (struct replay_history){.events = NULL};
    log_source_range(shard->log, &first, &last);
    if (upto > last) upto = last;
    struct log_cursor *c = log_cursor_open(shard->log, first, upto, true);
    if (!c) {
        snprintf(error, error_bytes, "no memory");
        return -1;
    }
    int rc = history_scan(c, scan_from, upto, subject, h, &oldest, error, error_bytes);
    uint64_t chain = oldest != UINT64_MAX ? oldest : newest;
    /* A scan from the very beginning has met them all. */
    if (rc == 0 && scan_from > first) rc = history_chain(c, chain, subject, h, error, error_bytes);
    log_cursor_close(c);
    if (rc == 0 && log_source_failure(shard->log)) {
        snprintf(error, error_bytes, "%s", log_source_failure(shard->log));
        rc = -1;
    }
    if (rc != 0) {
        replay_history_free(h);
        return -1;
    }
    if (h->count > 1) qsort(h->events, h->count, sizeof *h->events, history_compare);
    h->whole = h->count > 0 && h->events[0].event->version == 1;
    return 0;
}

struct actor *replay_order_build(const struct replay_history *h, uint64_t upto,
                                 const char **fault) {
    uint64_t *block = NULL;
    uint32_t capacity = 0;
    *fault = h->count > 0 && !h->whole ? "the log does not reach back to its placing" : NULL;
    for (uint32_t i = 0; i < h->count && !*fault && h->events[i].index <= upto; i++) {
        const struct event *e = h->events[i].event;
        if (!order_event_is_well_formed(e)) {
            *fault = "an event does not have the shape of its kind";
            break;
        }
        uint32_t wanted = (order_bytes_after((struct actor *)(void *)block, e) + 71u) & ~7u;
        if (wanted > capacity) {
            uint64_t *grown = realloc(block, wanted);
            if (!grown) {
                *fault = "no memory";
                break;
            }
            block = grown;
            memset((uint8_t *)block + capacity, 0, wanted - capacity);
            capacity = wanted;
        }
        const struct apply_context context = {h->events[i].index, h->events[i].time_ms};
        *fault = order_apply_checked((struct actor *)(void *)block, e, &context);
    }
    if (!*fault) return (struct actor *)(void *)block;
    free(block);
    return NULL;
}

int replay_find_order(struct replay *r, const struct id128 *key, uint64_t upto_none,
                      const struct moment *at, struct source_shard **shard,
                      struct replay_history *h) {
    char error[512], text[27];
    struct source_shard *likely = source_shard_of_key(&r->source, key);
    for (uint32_t i = 0; i <= r->source.count; i++) {
        struct source_shard *s = i == 0 ? likely : &r->source.shards[i - 1];
        if (!s || (i > 0 && s == likely)) continue;
        uint64_t upto = moment_index(at, s, upto_none);
        if (replay_history_read(s, key, upto, h, error, sizeof error) != 0) {
            replay_error(r, "shard %u: %s", s->number, error);
            return REPLAY_FAILED;
        }
        *shard = s;
        if (h->count > 0) return REPLAY_DONE;
        replay_history_free(h);
    }
    replay_error(r, "no event of %s%s in %s", replay_key_text(key, text),
                 at->kind == MOMENT_NONE ? "" : " up to then", r->source.path);
    return REPLAY_NOT_THERE;
}
