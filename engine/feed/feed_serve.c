/* The answers of the feed. */
#include <stdlib.h>
#include <string.h>

#include "actors/order/order.h"
#include "actors/order/order_event.h"
#include "actors/store/store_event.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/feed/feed_batch.h"
#include "engine/feed/feed_internal.h"
#include "engine/wire/msgpack_pairs.h"

enum {
    FEED_HEAD_BYTES = 128,
    FEED_TIMES_BYTES = 8 + FEED_MOMENTS_MAX * 18,
    FEED_TAIL_BYTES = FEED_TIMES_BYTES + 1 + CLUSTER_ID_BYTES,
    FEED_OVERLOADED_RETRY_MS = 50
};

nng_msg *feed_refusal_of(const char *cluster_id, uint16_t code, const char *sentence,
                         uint64_t detail) {
    nng_msg *message;
    struct msgpack_writer w;
    if (!sentence || sentence[0] == 0) sentence = result_code_text(code);
    size_t room = FEED_HEAD_BYTES + strlen(sentence);
    if (nng_msg_alloc(&message, room) != 0) return NULL;
    msgpack_writer_init(&w, nng_msg_body(message), room);
    msgpack_write_array(&w, cluster_id[0] ? 5 : 4);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, code);
    msgpack_write_text(&w, sentence);
    msgpack_write_uint(&w, detail);
    if (cluster_id[0]) msgpack_write_text(&w, cluster_id);
    nng_msg_chop(message, room - msgpack_writer_size(&w));
    return message;
}

nng_msg *feed_refusal(uint16_t code, const char *sentence, uint64_t detail) {
    return feed_refusal_of("", code, sentence, detail);
}

static void refuse(struct feed_thread *t, struct feed_waiter *w, uint16_t code,
                   const char *sentence, uint64_t detail) {
    atomic_fetch_add_explicit(&t->feed->refused, 1, memory_order_relaxed);
    responder_reply(w->slot, feed_refusal_of(t->feed->cluster_id, code, sentence, detail));
}

/* What of a shard can be read now: committed, and on this disk. first = 0: nothing. */
struct feed_range {
    uint64_t first, last, commit;
    uint64_t gap_last;             /* of the newest gap; 0 = there is none */
    bool known;                    /* whether the group has committed no more */
};

static struct feed_range range_of(const struct feed_source *source) {
    struct storage_stats stats;
    struct feed_range r = {.commit = source->commit_index(source->arg)};
    r.known = !source->commit_known || source->commit_known(source->arg);
    source->storage->ops->stats(source->storage, &stats);
    r.first = stats.log_first;
    r.last = stats.log_last < r.commit ? stats.log_last : r.commit;
    if (stats.gaps > 0) r.gap_last = stats.gap_last;
    return r;
}

/* The oldest entry from which on the log is whole; 0 = there is none. */
static uint64_t whole_from(const struct feed_range *r) {
    return r->first != 0 && r->gap_last >= r->first ? r->gap_last + 1 : r->first;
}

/* -- HELLO, LOCATE --------------------------------------------------------------------------- */

static void serve_hello(struct feed_thread *t, struct feed_waiter *waiter) {
    struct feed *f = t->feed;
    struct msgpack_writer w;
    uint32_t count = 0;
    static const uint32_t room = 1024 + SHARDS_MAX * 32;
    nng_msg *message;
    if (nng_msg_alloc(&message, room) != 0) {
        responder_reply(waiter->slot, NULL);
        return;
    }
    msgpack_writer_init(&w, nng_msg_body(message), room);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, RESULT_OK);
    uint8_t active[SHARDS_MAX / 8];
    pthread_mutex_lock(&f->lock);
    bool active_known = f->active_known;
    memcpy(active, f->active, sizeof active);
    pthread_mutex_unlock(&f->lock);
    msgpack_write_map(&w, active_known ? 7 : 6);
    if (active_known) msgpack_write_text(&w, "active");
    if (active_known) msgpack_write_bin(&w, active, sizeof active);
    msgpack_pair_text(&w, "cluster_id", f->cluster_id);
    msgpack_pair_uint(&w, "node_id", f->node_id);
    msgpack_pair_int(&w, "now_ms", clock_unix_ms());
    msgpack_pair_uint(&w, "shards_count", atomic_load(&f->shards_count));
    msgpack_pair_text(&w, "notify", feed_notify_endpoint(f));
    msgpack_write_text(&w, "shards");
    size_t head = msgpack_writer_size(&w);
    msgpack_writer_tagged_(&w, 0xdc, 0, 2);
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        struct feed_source source;
        if (!feed_enter(f, i, &source)) continue;
        struct feed_range r = range_of(&source);
        feed_leave(f, i);
        msgpack_write_array(&w, 3);
        msgpack_write_uint(&w, i);
        msgpack_write_uint(&w, whole_from(&r));
        msgpack_write_uint(&w, r.last);
        count++;
    }
    size_t end = msgpack_writer_size(&w);
    msgpack_writer_rewind(&w, head);
    msgpack_writer_tagged_(&w, 0xdc, count, 2);
    nng_msg_chop(message, room - end);
    responder_reply(waiter->slot, message);
}

static void serve_locate(struct feed_thread *t, struct feed_waiter *waiter,
                         const struct feed_source *source) {
    struct feed_range r = range_of(source);
    char error[256] = "";
    uint64_t index = r.last + 1, first = whole_from(&r);
    if (first != 0 && first <= r.last &&
        !feed_locate(source->storage, first, r.last, waiter->request.time_ms, &index, error,
                     sizeof error)) {
        log_error("feed: %s", error);
        refuse(t, waiter, RESULT_STORAGE_FAILED, error, 0);
        return;
    }
    nng_msg *message;
    struct msgpack_writer w;
    if (nng_msg_alloc(&message, FEED_HEAD_BYTES) != 0) {
        responder_reply(waiter->slot, NULL);
        return;
    }
    msgpack_writer_init(&w, nng_msg_body(message), FEED_HEAD_BYTES);
    msgpack_write_array(&w, 6);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, RESULT_OK);
    msgpack_write_uint(&w, waiter->request.shard);
    msgpack_write_uint(&w, index);
    msgpack_write_uint(&w, r.last);
    msgpack_write_text(&w, t->feed->cluster_id);
    nng_msg_chop(message, FEED_HEAD_BYTES - msgpack_writer_size(&w));
    responder_reply(waiter->slot, message);
}

/* -- PULL -------------------------------------------------------------------------------------- */

/* What stands behind the payload. [last, age in ms, ...]: when the entries of the batch became
 * committed; and whose they are: a follower's connection is dialled anew behind its back, and may
 * then end at another cluster's node, whose entries have the same numbers. */
static size_t write_tail(const struct feed_source *source, const char *cluster_id, uint64_t from,
                         uint64_t next, int64_t now_ms, uint8_t *buffer) {
    struct commit_moment moments[FEED_MOMENTS_MAX];
    struct msgpack_writer w;
    uint32_t count = source->commit_times && next > from
                         ? source->commit_times(source->arg, from, next - 1, moments,
                                                FEED_MOMENTS_MAX)
                         : 0;
    msgpack_writer_init(&w, buffer, FEED_TAIL_BYTES);
    msgpack_write_array(&w, 2 * count);
    for (uint32_t i = 0; i < count; i++) {
        msgpack_write_uint(&w, moments[i].last);
        int64_t age_ms = now_ms > moments[i].ms ? now_ms - moments[i].ms : 0;
        if (moments[i].ms == 0 || age_ms > INT32_MAX) msgpack_write_nil(&w);
        else msgpack_write_uint(&w, (uint64_t)age_ms);
    }
    msgpack_write_text(&w, cluster_id);
    return msgpack_writer_size(&w);
}

static void reply_batch(struct feed_thread *t, struct feed_waiter *waiter,
                        const struct feed_source *source, uint64_t next, uint64_t commit,
                        const void *payload, size_t bytes) {
    struct msgpack_writer w;
    uint8_t head[FEED_HEAD_BYTES], tail[FEED_TAIL_BYTES];
    nng_msg *message;
    int64_t now_ms = clock_unix_ms();
    msgpack_writer_init(&w, head, sizeof head);
    msgpack_write_array(&w, 10);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, RESULT_OK);
    msgpack_write_uint(&w, waiter->request.shard);
    msgpack_write_uint(&w, waiter->request.from);
    msgpack_write_uint(&w, next);
    msgpack_write_uint(&w, commit);
    msgpack_write_int(&w, now_ms);
    size_t head_bytes = msgpack_writer_size(&w);
    size_t tail_bytes = write_tail(source, t->feed->cluster_id, waiter->request.from, next, now_ms,
                                   tail);
    if (nng_msg_alloc(&message, head_bytes + bytes + tail_bytes) != 0) {
        responder_reply(waiter->slot, NULL);
        return;
    }
    uint8_t *body = nng_msg_body(message);
    memcpy(body, head, head_bytes);
    memcpy(body + head_bytes, payload, bytes);
    memcpy(body + head_bytes + bytes, tail, tail_bytes);
    atomic_fetch_add_explicit(&t->feed->bytes, bytes, memory_order_relaxed);
    responder_reply(waiter->slot, message);
}

static void reply_empty(struct feed_thread *t, struct feed_waiter *waiter,
                        const struct feed_source *source, uint64_t commit) {
    static const uint8_t nothing[2][2] = {{0xc4, 0x00}, {0x90}};
    bool records = waiter->request.form == FEED_RECORDS;
    reply_batch(t, waiter, source, waiter->request.from, commit, nothing[records ? 0 : 1],
                records ? 2 : 1);
}

static void import_required(struct feed_thread *t, struct feed_waiter *waiter, uint64_t from) {
    atomic_fetch_add_explicit(&t->feed->imports_required, 1, memory_order_relaxed);
    refuse(t, waiter, RESULT_IMPORT_REQUIRED, NULL, from);
}

/* Where what is stored goes on from `from`, which is not; 0 = it is stored. */
static uint64_t readable_from(const struct feed_source *source, const struct feed_range *range,
                              uint64_t from) {
    struct storage *s = source->storage;
    struct storage_gap gap;
    if (range->first == 0) return range->commit + 1;
    if (from > range->gap_last) return from < range->first ? range->first : 0;
    for (uint32_t i = 0; s->ops->gap(s, i, &gap); i++)
        if (from >= gap.first && from <= gap.last) return gap.last + 1;
    return from < range->first ? range->first : 0;
}

/* The entry at request.from cannot be read. */
static void serve_fault(struct feed_thread *t, struct feed_waiter *waiter,
                        const struct feed_source *source, const struct feed_batch *batch) {
    struct feed_range r = range_of(source);
    uint32_t shard = waiter->request.shard;
    uint64_t readable = readable_from(source, &r, waiter->request.from);
    if (readable != 0) { /* retention was quicker */
        import_required(t, waiter, readable);
        return;
    }
    if (t->fault_index[shard] != waiter->request.from) log_error("feed: %s", batch->error);
    t->fault_index[shard] = waiter->request.from;
    refuse(t, waiter, RESULT_STORAGE_FAILED, batch->error, 0);
}

/* Whether the batch that was read last is what this one asks for. Entries that were committed stay
 * as they are; that the log has gone on since is told by the next batch. */
static bool is_read_already(const struct feed_thread *t, const struct feed_request *q,
                            uint64_t last) {
    const struct feed_request *r = &t->read;
    return r->from == q->from && r->shard == q->shard && r->form == q->form &&
           t->read_added == t->feed->shards[q->shard].added && t->batch.next <= last + 1 &&
           r->bytes_max == q->bytes_max && r->filtered == q->filtered &&
           (!q->filtered || memcmp(r->kinds, q->kinds, sizeof q->kinds) == 0);
}

/* Followers at the end of the log ask for the same at the same time: it is read once for all. */
static enum feed_batch_outcome read_batch(struct feed_thread *t, const struct feed_request *q,
                                          const struct feed_source *source, uint64_t last) {
    if (is_read_already(t, q, last)) {
        atomic_fetch_add_explicit(&t->feed->shared, 1, memory_order_relaxed);
        return FEED_BATCH_DONE;
    }
    enum feed_batch_outcome outcome =
        feed_batch_read(source->storage, q, last, t->buffer, &t->batch);
    t->read = *q;
    t->read_added = t->feed->shards[q->shard].added;
    if (outcome != FEED_BATCH_DONE || t->batch.entries == 0) t->read.from = 0;
    return outcome;
}

static void serve_entries(struct feed_thread *t, struct feed_waiter *waiter,
                          const struct feed_source *source, const struct feed_range *range) {
    const struct feed_request *q = &waiter->request;
    const struct feed_batch *batch = &t->batch;
    t->moved_ms = clock_mono_ms();
    switch (read_batch(t, q, source, range->last)) {
    case FEED_BATCH_DONE:
        if (batch->next + FEED_FAR_ENTRIES <= range->last) t->far_ms = t->moved_ms;
        feed_gather_gave(&t->gather[q->shard], q->from, batch->next, batch->log_bytes,
                         t->moved_ms);
        atomic_fetch_add_explicit(&t->feed->entries, batch->entries, memory_order_relaxed);
        reply_batch(t, waiter, source, batch->next, range->last + !range->known, t->buffer,
                    batch->bytes);
        break;
    case FEED_BATCH_TOO_LARGE: refuse(t, waiter, RESULT_MESSAGE_TOO_LARGE, NULL, 0); break;
    case FEED_BATCH_UNREADABLE: serve_fault(t, waiter, source, batch); break;
    }
}

static bool serve_pull(struct feed_thread *t, struct feed_waiter *waiter,
                       const struct feed_source *source, int64_t now_ms) {
    uint64_t from = waiter->request.from;
    bool late = now_ms >= waiter->until_ms;
    /* What most looks at a waiting pull find: one load, nothing new. */
    if (from > source->commit_index(source->arg) && !late) return false;
    const struct feed_gather *gather = &t->gather[waiter->request.shard];
    if (!late && feed_gather_waits(gather, from, waiter->asked_ms, now_ms)) return false;
    struct feed_range range = range_of(source);
    if (from > range.last) {
        if (!late) return false;
        /* What is committed and not on this disk yet is something newer, too. */
        if (range.known) reply_empty(t, waiter, source, range.commit);
        else refuse(t, waiter, RESULT_NOT_READY, NULL, 0);
        return true;
    }
    struct responder_stats stats;
    uint64_t readable = readable_from(source, &range, from);
    responder_stats(t->feed->responder, &stats);
    if (stats.reply_bytes > FEED_REPLIES_BYTES_MAX) {
        atomic_fetch_add_explicit(&t->feed->overloaded, 1, memory_order_relaxed);
        refuse(t, waiter, RESULT_OVERLOADED, NULL, FEED_OVERLOADED_RETRY_MS);
    } else if (readable != 0) {
        import_required(t, waiter, readable);
    } else {
        serve_entries(t, waiter, source, &range);
    }
    return true;
}

bool feed_serve(struct feed_thread *t, struct feed_waiter *w, int64_t now_ms) {
    struct feed_source source;
    if (w->request.kind == FEED_HELLO) {
        serve_hello(t, w);
        return true;
    }
    if (!feed_enter(t->feed, w->request.shard, &source)) {
        refuse(t, w, RESULT_SHARD_NOT_HERE, NULL, 0);
        return true;
    }
    bool served = true;
    switch (w->request.kind) {
    case FEED_PULL: served = serve_pull(t, w, &source, now_ms); break;
    case FEED_LOCATE: serve_locate(t, w, &source); break;
    default: refuse(t, w, RESULT_UNKNOWN_COMMAND, NULL, 0); break;
    }
    feed_leave(t->feed, w->request.shard);
    return served;
}

/* -- notifications --------------------------------------------------------------------------- */

struct notify_walk { struct notifier *notifier; uint32_t shard; uint64_t next; };

/* The texts that stand in the event itself: an order's place, a store's own. */
static void notice_names(const struct event *e, struct notice *notice) {
    if (e->kind == EVENT_ORDER_PLACED && order_event_is_well_formed(e)) {
        const struct order_placed *p = event_payload(e);
        const uint8_t *texts = (const uint8_t *)(p + 1);
        notice->store = bytes_of(texts, p->store_bytes);
        notice->customer = bytes_of(texts + p->store_bytes, p->customer_bytes);
    } else if (e->kind == EVENT_STORE_PAUSED || e->kind == EVENT_STORE_RESUMED) {
        const struct store_switched *s = event_payload(e);
        if (event_payload_bytes(e) < sizeof *s + s->id_bytes) return;
        notice->store = bytes_of(s + 1, s->id_bytes);
        notice->key = (struct id128){{0}};
    }
}

static bool notify_visit(void *arg, const struct record_header *h, const void *payload) {
    struct notify_walk *k = arg;
    k->next = h->index + 1;
    if (h->type != RECORD_EVENTS || h->payload_bytes < sizeof(struct entry_header)) return true;
    const struct entry_header *entry = payload;
    uint32_t size = h->payload_bytes - (uint32_t)sizeof *entry, offset = 0;
    const struct event *e;
    while ((e = event_next(entry + 1, size, &offset))) {
        if (e->kind >= EVENT_MESSAGE_SENT) continue;
        struct notice notice = {.key = e->subject, .index = h->index, .shard = k->shard,
                                .version = e->version, .kind = e->kind, .state = e->state_after};
        notice_names(e, &notice);
        notifier_send(k->notifier, &notice);
    }
    return true;
}

/* The entry at `next` cannot be read: where to go on. */
static uint64_t behind_unreadable(const struct feed_source *source, const struct feed_range *range,
                                  uint64_t next) {
    uint64_t readable = readable_from(source, range, next);
    return readable != 0 ? readable : range->last + 1;
}

void feed_notify(struct feed_thread *t) {
    struct feed *f = t->feed;
    if (!f->notifier) return;
    bool heard = notifier_is_heard(f->notifier);
    for (uint32_t shard = t->position; shard < SHARDS_MAX; shard += f->threads_count) {
        struct feed_source source;
        if (!heard) {
            t->notified[shard] = 0;
            continue;
        }
        if (!feed_enter(f, shard, &source)) continue;
        struct feed_range range = range_of(&source);
        struct notify_walk walk = {f->notifier, shard, t->notified[shard]};
        char error[256];
        /* The first look, and one that retention overtook, begin with what is to come. */
        if (walk.next < range.first || walk.next == 0) {
            walk.next = range.last + 1;
        } else if (walk.next <= range.last) {
            t->moved_ms = clock_mono_ms();
            /* What cannot be read, a gap above all, is never told: it promises nothing. */
            if (source.storage->ops->read(source.storage, walk.next, range.last, notify_visit,
                                          &walk, error, sizeof error) < 0)
                walk.next = behind_unreadable(&source, &range, walk.next);
        }
        t->notified[shard] = walk.next;
        feed_leave(f, shard);
    }
}
