#include "engine/feed/feed_batch.h"

#include <stdio.h>

#include "actors/cluster/cluster.h"
#include "actors/message_event.h"
#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/wire/event_encode.h"

enum { BATCH_HEAD_BYTES = 5 }; /* of the bin or the array: its size is known at the end */

struct batch_walk {
    const struct feed_request *request;
    struct feed_batch *batch;
    struct msgpack_writer w;
    size_t bytes_max;
    bool too_large;
};

static bool event_is_known(const struct event *e) {
    if (e->kind >= 1 && e->kind <= 63) return order_event_is_well_formed(e);
    if (e->kind >= 64 && e->kind <= 79) return store_event_is_well_formed(e);
    if (e->kind >= 100) return cluster_event_is_well_formed(e);
    if (e->kind == EVENT_SHARDS_KNOWN) return shards_known_is_well_formed(e);
    return e->kind >= EVENT_MESSAGE_SENT && message_event_is_well_formed(e);
}

static void write_event(struct batch_walk *k, uint64_t index, int64_t time_ms,
                        const struct event *e) {
    struct msgpack_writer *w = &k->w;
    switch (k->request->form) {
    case FEED_EVENTS:
        msgpack_write_array(w, 3);
        msgpack_write_uint(w, index);
        msgpack_write_int(w, time_ms);
        msgpack_write_bin(w, e, e->bytes);
        break;
    case FEED_MARKS:
        msgpack_write_array(w, 6);
        msgpack_write_uint(w, index);
        msgpack_write_int(w, time_ms);
        msgpack_write_uint(w, e->kind);
        msgpack_write_bin(w, e->subject.bytes, 16);
        msgpack_write_uint(w, e->version);
        msgpack_write_uint(w, e->state_after);
        break;
    default: event_encode(w, index, time_ms, e); break;
    }
}

/* False when the entry did not fit: then nothing of it is left behind. */
static bool write_entry(struct batch_walk *k, const struct record_header *h, const void *payload) {
    size_t mark = msgpack_writer_size(&k->w);
    uint32_t events = 0, offset = 0;
    if (h->type == RECORD_EVENTS && h->payload_bytes >= sizeof(struct entry_header)) {
        const struct entry_header *entry = payload;
        uint32_t size = h->payload_bytes - (uint32_t)sizeof *entry;
        const struct event *e;
        while ((e = event_next(entry + 1, size, &offset))) {
            if (!feed_request_wants(k->request, e->kind)) continue;
            if (k->request->form == FEED_MAPS && !event_is_known(e)) continue;
            write_event(k, h->index, entry->time_ms, e);
            events++;
        }
    }
    if (!msgpack_writer_ok(&k->w)) {
        msgpack_writer_rewind(&k->w, mark);
        return false;
    }
    k->batch->events += events;
    return true;
}

static bool write_record(struct batch_walk *k, const struct record_header *h,
                         const void *payload) {
    static const uint8_t zeros[8];
    size_t mark = msgpack_writer_size(&k->w);
    msgpack_write_raw(&k->w, h, sizeof *h);
    msgpack_write_raw(&k->w, payload, h->payload_bytes);
    msgpack_write_raw(&k->w, zeros, (8 - h->payload_bytes % 8) % 8);
    if (msgpack_writer_ok(&k->w)) return true;
    msgpack_writer_rewind(&k->w, mark);
    return false;
}

static bool batch_visit(void *arg, const struct record_header *h, const void *payload) {
    struct batch_walk *k = arg;
    bool fits = k->request->form == FEED_RECORDS ? write_record(k, h, payload)
                                                 : write_entry(k, h, payload);
    if (!fits) {
        k->too_large = true;
        return false;
    }
    k->batch->entries++;
    k->batch->log_bytes += h->payload_bytes;
    k->batch->next = h->index + 1;
    return msgpack_writer_size(&k->w) < k->bytes_max;
}

enum feed_batch_outcome feed_batch_read(struct storage *storage, const struct feed_request *request,
                                        uint64_t last, uint8_t *buffer, struct feed_batch *batch) {
    struct batch_walk k = {.request = request, .batch = batch, .bytes_max = request->bytes_max};
    *batch = (struct feed_batch){.next = request->from};
    /* The head of the payload comes first, at its widest. Room for the reply's own head stays. */
    msgpack_writer_init(&k.w, buffer + BATCH_HEAD_BYTES,
                        FEED_BATCH_ROOM_BYTES - BATCH_HEAD_BYTES - 128);
    int rc = 0;
    if (request->from <= last)
        rc = storage->ops->read(storage, request->from, last, batch_visit, &k, batch->error,
                                sizeof batch->error);
    size_t size = msgpack_writer_size(&k.w);
    uint32_t count = request->form == FEED_RECORDS ? (uint32_t)size : batch->events;
    struct msgpack_writer head;
    msgpack_writer_init(&head, buffer, BATCH_HEAD_BYTES);
    msgpack_writer_tagged_(&head, request->form == FEED_RECORDS ? 0xc6 : 0xdd, count, 4);
    batch->bytes = size + BATCH_HEAD_BYTES;
    /* What was read before a fault is worth sending: the fault is met again at its own index. */
    if (batch->entries > 0) return FEED_BATCH_DONE;
    if (rc < 0) return FEED_BATCH_UNREADABLE;
    return k.too_large ? FEED_BATCH_TOO_LARGE : FEED_BATCH_DONE;
}

/* -- times ----------------------------------------------------------------------------------- */

/* The first entry at or behind an index that carries a time. */
struct locate_probe {
    uint64_t index;            /* 0 = none met */
    int64_t time_ms;
};

static bool locate_visit(void *arg, const struct record_header *h, const void *payload) {
    struct locate_probe *p = arg;
    if (h->type != RECORD_EVENTS || h->payload_bytes < sizeof(struct entry_header)) return true;
    const struct entry_header *entry = payload;
    p->index = h->index;
    p->time_ms = entry->time_ms;
    return false;
}

/* The log's time never goes back, so halving finds it. Barriers and configurations carry none: they
 * count as what stands behind them. */
bool feed_locate(struct storage *storage, uint64_t first, uint64_t last, int64_t time_ms,
                 uint64_t *index, char *error, size_t error_bytes) {
    uint64_t low = first, high = last + 1; /* the answer is in [low, high] */
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct locate_probe probe = {0};
        if (storage->ops->read(storage, middle, high - 1, locate_visit, &probe, error,
                               error_bytes) < 0)
            return false;
        if (probe.index == 0 || probe.time_ms >= time_ms) high = middle;
        else low = probe.index + 1;
    }
    *index = low;
    return true;
}
