#include "engine/shard/outbox.h"

#include <stdlib.h>

#include "actors/message_event.h"

/* Sent and not yet acknowledged, per peer: enough to hide a commit, few enough that a resend after
 * a loss stays small. */
enum { OUTBOX_WINDOW_MESSAGES = 256 };

bool outbox_init(struct outbox *o, uint32_t id, uint32_t peers_count) {
    *o = (struct outbox){.id = id, .peers_count = peers_count};
    o->peers = calloc(SHARDS_MAX, sizeof *o->peers);
    return o->peers != NULL;
}

void outbox_fini(struct outbox *o) {
    for (uint32_t p = 0; o->peers && p < o->peers_count; p++)
        outbox_acknowledge(o, p, UINT64_MAX);
    free(o->peers);
    *o = (struct outbox){0};
}

void outbox_forget(struct outbox *o) {
    for (uint32_t p = 0; p < o->peers_count; p++) {
        outbox_acknowledge(o, p, UINT64_MAX);
        o->peers[p] = (struct outbox_peer){0};
    }
}

/* Puts a message behind `before` (NULL = first). */
static bool outbox_insert(struct outbox *o, struct outbox_peer *peer, struct outbox_message *before,
                          uint64_t sequence, uint64_t index, struct bytes payload) {
    struct outbox_message *message = malloc(sizeof *message + payload.size);
    if (!message) return false;
    *message = (struct outbox_message){
        .sequence = sequence, .index = index, .bytes = payload.size};
    if (payload.size) memcpy(message->payload, payload.data, payload.size);
    struct outbox_message **link = before ? &before->next : &peer->first;
    message->next = *link;
    *link = message;
    if (!message->next) peer->last = message;
    if (!peer->unsent) peer->unsent = message;
    if (peer->sequence_last < sequence) peer->sequence_last = sequence;
    o->messages_waiting++;
    o->bytes_waiting += payload.size;
    return true;
}

bool outbox_note_sent(struct outbox *o, const struct event *e, uint64_t index) {
    const struct message_event *m = event_payload(e);
    outbox_know(o, m->peer);
    struct outbox_peer *peer = &o->peers[m->peer];
    if (m->sequence <= peer->acknowledged) return true;
    if (peer->last && m->sequence <= peer->last->sequence) return true;
    require(implies(peer->last, peer->last->sequence + 1 == m->sequence));
    return outbox_insert(o, peer, peer->last, m->sequence, index, message_event_payload(e));
}

bool outbox_load(struct outbox *o, uint32_t peer_id, uint64_t sequence, uint64_t index,
                 struct bytes payload) {
    outbox_know(o, peer_id);
    struct outbox_peer *peer = &o->peers[peer_id];
    if (peer->stored_first == 0 || sequence < peer->stored_first) peer->stored_first = sequence;
    if (sequence > peer->stored_last) peer->stored_last = sequence;
    if (sequence <= peer->acknowledged) return true;
    struct outbox_message *before = NULL;
    if (peer->last && peer->last->sequence < sequence) {
        before = peer->last; /* as a rule they come in order */
    } else {
        for (struct outbox_message *m = peer->first; m && m->sequence < sequence; m = m->next)
            before = m;
    }
    if (!outbox_insert(o, peer, before, sequence, index, payload)) return false;
    peer->unsent = peer->first;
    return true;
}

void outbox_acknowledge(struct outbox *o, uint32_t peer_id, uint64_t sequence) {
    if (peer_id >= o->peers_count) return;
    struct outbox_peer *peer = &o->peers[peer_id];
    while (peer->first && peer->first->sequence <= sequence) {
        struct outbox_message *m = peer->first;
        peer->first = m->next;
        if (!peer->first) peer->last = NULL;
        if (peer->unsent == m) peer->unsent = m->next;
        peer->acknowledged = m->sequence;
        o->messages_waiting--;
        o->acknowledged++;
        o->bytes_waiting -= m->bytes;
        free(m);
    }
    if (peer->sent < peer->acknowledged) peer->sent = peer->acknowledged;
    peer->sent_ms = 0; /* progress: the clock of the rest starts anew with the next send */
}

void outbox_note_acknowledged(struct outbox *o, uint32_t peer_id, uint64_t sequence) {
    outbox_know(o, peer_id);
    struct outbox_peer *peer = &o->peers[peer_id];
    if (peer->logged < sequence) peer->logged = sequence;
    outbox_acknowledge(o, peer_id, sequence);
    if (peer->acknowledged < sequence) peer->acknowledged = peer->sent = sequence;
    if (peer->sequence_last < sequence) peer->sequence_last = sequence;
}

static uint32_t peer_send(struct outbox *o, uint32_t peer_id, struct courier *courier,
                          uint64_t commit_index, int64_t mono_ms) {
    struct outbox_peer *peer = &o->peers[peer_id];
    uint32_t sent = 0;
    while (peer->unsent && peer->unsent->index <= commit_index &&
           peer->unsent->sequence <= peer->acknowledged + OUTBOX_WINDOW_MESSAGES) {
        struct outbox_message *m = peer->unsent;
        courier->send(courier, o->id, peer_id, m->sequence, bytes_of(m->payload, m->bytes));
        peer->sent = m->sequence;
        peer->unsent = m->next;
        sent++;
    }
    if (peer->sent > peer->acknowledged && peer->sent_ms == 0) peer->sent_ms = mono_ms;
    return sent;
}

uint32_t outbox_send(struct outbox *o, struct courier *courier, uint64_t commit_index,
                     int64_t mono_ms, int64_t resend_after_ms, int64_t *next_ms) {
    uint32_t sent = 0;
    for (uint32_t p = 0; p < o->peers_count; p++) {
        struct outbox_peer *peer = &o->peers[p];
        if (!peer->first) continue;
        if (peer->sent_ms != 0 && mono_ms - peer->sent_ms >= resend_after_ms) {
            o->resent += peer->sent - peer->acknowledged;
            peer->sent = peer->acknowledged;
            peer->unsent = peer->first;
            peer->sent_ms = 0;
        }
        sent += peer_send(o, p, courier, commit_index, mono_ms);
        if (peer->sent_ms != 0 && peer->sent_ms + resend_after_ms < *next_ms)
            *next_ms = peer->sent_ms + resend_after_ms;
    }
    o->sent += sent;
    return sent;
}

uint64_t outbox_oldest_index(const struct outbox *o, uint32_t peer) {
    for (const struct outbox_message *m = o->peers[peer].first; m; m = m->next)
        if (m->sequence > o->peers[peer].stored_last) return m->index;
    return 0;
}
