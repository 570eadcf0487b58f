/* Cross-shard messages: what one shard has logged as sent, the other has logged as seen, each
 * number once and with the same content. Compared by blocks; a block that differs is read again to
 * name the message. */
#include <inttypes.h>
#include <stdlib.h>

#include "clients/replay/verify.h"

struct block_digests {
    uint64_t digest[MESSAGE_BLOCK], index[MESSAGE_BLOCK], offset[MESSAGE_BLOCK];
    char segment[MESSAGE_BLOCK][28];
    uint32_t bytes[MESSAGE_BLOCK];
    bool found[MESSAGE_BLOCK];
    uint32_t count;
};

/* The messages of block `number` in one shard's log, from record `from` on. */
static void block_read(const struct verify_shard *s, uint8_t kind, uint32_t peer, uint64_t number,
                       uint64_t from, uint64_t upto, uint32_t wanted, struct block_digests *out) {
    struct log_item item;
    enum log_step step;
    memset(out, 0, sizeof *out);
    struct log_cursor *c = log_cursor_open(s->source->log, from, upto, true);
    while (c && out->count < wanted && (step = log_cursor_next(c, &item)) != LOG_END) {
        uint32_t offset = 0;
        const struct event *e;
        if (step != LOG_RECORD || item.header->type != RECORD_EVENTS ||
            item.header->payload_bytes < sizeof(struct entry_header)) {
            continue;
        }
        const uint8_t *events = (const uint8_t *)item.payload + sizeof(struct entry_header);
        uint32_t size = item.header->payload_bytes - (uint32_t)sizeof(struct entry_header);
        while ((e = event_next(events, size, &offset))) {
            if (e->kind != kind || !message_event_is_well_formed(e)) continue;
            const struct message_event *m = event_payload(e);
            if (m->peer != peer || m->sequence == 0) continue;
            if (m->sequence / MESSAGE_BLOCK != number) continue;
            uint32_t i = m->sequence % MESSAGE_BLOCK;
            if (out->found[i]) continue;
            out->found[i] = true;
            out->count++;
            out->digest[i] = message_digest(m->sequence, message_event_payload(e));
            out->bytes[i] = m->payload_bytes;
            out->index[i] = item.index;
            out->offset[i] = item.offset;
            snprintf(out->segment[i], sizeof out->segment[i], "%s", item.segment);
        }
    }
    log_cursor_close(c);
}

static void message_tell(struct verify *v, uint32_t kind, const struct verify_shard *s,
                         const struct block_digests *d, uint32_t i, const char *what) {
    struct fold_fault fault = {.kind = kind, .shard = s->source->number, .index = d->index[i],
                               .upto = d->index[i], .offset = d->offset[i],
                               .segment = d->segment[i]};
    snprintf(fault.what, sizeof fault.what, "%s", what);
    verify_tell(v, &fault);
}

static const struct message_block *track_block(const struct message_track *t, uint64_t number) {
    if (number < t->base || number - t->base >= t->blocks_count) return NULL;
    return &t->blocks[number - t->base];
}

static void block_compare(struct verify *v, struct verify_shard *a, struct verify_shard *b,
                          uint64_t number, uint64_t from_seq) {
    struct message_track *sent = &a->fold->sent[b->source->number];
    struct message_track *seen = &b->fold->seen[a->source->number];
    const struct message_block *x = track_block(sent, number), *y = track_block(seen, number);
    char what[256];
    if (!x || !y) return;
    struct block_digests *mine = malloc(sizeof *mine), *theirs = malloc(sizeof *theirs);
    if (mine && theirs) {
        block_read(a, EVENT_MESSAGE_SENT, b->source->number, number, x->first_index, a->upto,
                   x->count, mine);
        block_read(b, EVENT_MESSAGE_SEEN, a->source->number, number, y->first_index, b->upto,
                   y->count, theirs);
        for (uint32_t i = 0; i < MESSAGE_BLOCK; i++) {
            uint64_t sequence = number * MESSAGE_BLOCK + i;
            if (!theirs->found[i] || !mine->found[i] || sequence < from_seq) continue;
            if (mine->digest[i] == theirs->digest[i]) continue;
            /* A receiver that knows too many stores leaves some of the news out. */
            if (theirs->bytes[i] < mine->bytes[i]) continue;
            snprintf(what, sizeof what, "message %" PRIu64 " from shard %u is not what that one "
                     "sent (its record %" PRIu64 ")", sequence, a->source->number,
                     mine->index[i]);
            message_tell(v, FOLD_FAULT_MESSAGE_CONTENT, b, theirs, i, what);
        }
    }
    free(mine);
    free(theirs);
}

/* Seen further than sent: the sender's log went on while it was read, or it lost its end. */
static uint64_t sent_meanwhile(struct verify_shard *a, uint32_t to) {
    uint64_t first, last, newest = a->fold->sent[to].last;
    char error[256];
    struct log_item item;
    enum log_step step;
    if (log_source_refresh(a->source->log, error, sizeof error) != 0) return newest;
    log_source_range(a->source->log, &first, &last);
    struct log_cursor *c = log_cursor_open(a->source->log, a->upto + 1, last, true);
    while (c && (step = log_cursor_next(c, &item)) != LOG_END) {
        uint32_t offset = 0;
        const struct event *e;
        if (step != LOG_RECORD || item.header->type != RECORD_EVENTS) continue;
        const uint8_t *events = (const uint8_t *)item.payload + sizeof(struct entry_header);
        uint32_t size = item.header->payload_bytes - (uint32_t)sizeof(struct entry_header);
        while ((e = event_next(events, size, &offset))) {
            if (e->kind != EVENT_MESSAGE_SENT || !message_event_is_well_formed(e)) continue;
            const struct message_event *m = event_payload(e);
            if (m->peer == to && m->sequence > newest) newest = m->sequence;
        }
    }
    log_cursor_close(c);
    return newest;
}

static void pair_compare(struct verify *v, struct verify_shard *a, struct verify_shard *b) {
    struct message_track *sent = &a->fold->sent[b->source->number];
    struct message_track *seen = &b->fold->seen[a->source->number];
    if (sent->first == 0 && a->fold->options.unknown_allowed) return; /* before its log begins */
    uint64_t sent_last = sent->last;
    if (seen->last > sent_last) sent_last = sent_meanwhile(a, b->source->number);
    if (seen->last > sent_last) {
        struct fold_fault fault = {.kind = FOLD_FAULT_MESSAGE_UNSENT, .shard = b->source->number,
                                   .segment = "", .index = seen->last_index,
                                   .upto = seen->last_index};
        snprintf(fault.what, sizeof fault.what,
                 "message %" PRIu64 " of shard %u was seen, but that shard's log ends with message "
                 "%" PRIu64, seen->last, a->source->number, sent_last);
        verify_tell(v, &fault);
    }
    if (sent->first == 0 || seen->first == 0) return;
    uint64_t from = sent->first > seen->first ? sent->first : seen->first;
    uint64_t upto = sent->last < seen->last ? sent->last : seen->last;
    if (from > upto) return;
    v->messages += upto - from + 1;
    for (uint64_t number = from / MESSAGE_BLOCK; number <= upto / MESSAGE_BLOCK; number++) {
        const struct message_block *x = track_block(sent, number), *y = track_block(seen, number);
        if (x && y && x->count == y->count && x->sum == y->sum) continue;
        block_compare(v, a, b, number, from);
    }
}

void verify_messages(struct verify *v) {
    for (uint32_t i = 0; i < v->count; i++) {
        for (uint32_t j = 0; j < v->count; j++) {
            if (i != j) pair_compare(v, &v->shards[i], &v->shards[j]);
        }
    }
}
