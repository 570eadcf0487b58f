#include "engine/shard/outbox.h"

#include <stdlib.h>

#include "actors/message_event.h"

enum { OUTBOX_LOADS_MAX = 16 }; /* per peer: what they weigh is not known before they come */

bool outbox_init(struct outbox *o, uint32_t id, uint32_t peers_count, uint32_t window) {
    require(window > 0);
    *o = (struct outbox){.id = id, .peers_count = peers_count, .window = window};
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
    require(o->messages_waiting == 0 && o->unstored == 0 && o->peers_away == 0);
}

/* -- lists ------------------------------------------------------------------------------------- */

static void list_append(struct outbox_list *l, struct outbox_message *m) {
    m->next = NULL;
    if (l->last) l->last->next = m;
    else l->first = m;
    l->last = m;
    l->count++;
    l->bytes += m->bytes;
}

static struct outbox_message *list_take(struct outbox_list *l) {
    struct outbox_message *m = l->first;
    l->first = m->next;
    if (!l->first) l->last = NULL;
    l->count--;
    l->bytes -= m->bytes;
    return m;
}

static struct outbox_message *message_new(uint64_t sequence, uint64_t index, struct bytes payload) {
    struct outbox_message *m = malloc(sizeof *m + payload.size);
    if (!m) return NULL;
    *m = (struct outbox_message){.sequence = sequence, .index = index, .bytes = payload.size};
    if (payload.size) memcpy(m->payload, payload.data, payload.size);
    return m;
}

static void front_append(struct outbox_peer *peer, struct outbox_message *m) {
    list_append(&peer->front, m);
    if (!peer->unsent) peer->unsent = m;
}

/* None is away any more: what lies behind is what comes next. */
static void come_together(struct outbox *o, struct outbox_peer *peer) {
    peer->away_last = 0;
    o->peers_away--;
    while (peer->behind.first) front_append(peer, list_take(&peer->behind));
}

/* -- what there is ----------------------------------------------------------------------------- */

static uint64_t newest(const struct outbox_peer *peer) {
    if (peer->behind.last) return peer->behind.last->sequence;
    if (peer->away_last) return peer->away_last;
    return peer->front.last ? peer->front.last->sequence : 0;
}

bool outbox_note_sent(struct outbox *o, const struct event *e, uint64_t index) {
    const struct message_event *m = event_payload(e);
    outbox_know(o, m->peer);
    struct outbox_peer *peer = &o->peers[m->peer];
    uint64_t last = newest(peer);
    if (m->sequence <= peer->acknowledged || m->sequence <= last) return true;
    require(implies(last, last + 1 == m->sequence));
    struct outbox_message *message = message_new(m->sequence, index, message_event_payload(e));
    if (!message) return false;
    if (peer->away_last) list_append(&peer->behind, message);
    else front_append(peer, message);
    if (peer->sequence_last < m->sequence) peer->sequence_last = m->sequence;
    o->messages_waiting++;
    o->unstored++;
    o->unstored_bytes += message->bytes;
    return true;
}

void outbox_note_stored(struct outbox *o, uint32_t peer_id, uint64_t sequence) {
    outbox_know(o, peer_id);
    struct outbox_peer *peer = &o->peers[peer_id];
    require(!peer->front.first && !peer->behind.first);
    if (peer->stored_first == 0 || sequence < peer->stored_first) peer->stored_first = sequence;
    if (sequence > peer->stored_last) peer->stored_last = sequence;
    if (peer->sequence_last < sequence) peer->sequence_last = sequence;
    if (sequence <= peer->acknowledged) return;
    if (peer->away_last == 0) o->peers_away++;
    if (peer->away_last < sequence) peer->away_last = sequence;
    o->messages_waiting++;
}

const struct outbox_message *outbox_unstored(const struct outbox *o, uint32_t peer_id) {
    const struct outbox_peer *peer = &o->peers[peer_id];
    if (peer->sequence_last <= peer->stored_last) return NULL;
    /* What is away is stored, and so is all in front of it. */
    const struct outbox_message *m = peer->away_last ? peer->behind.first : peer->front.first;
    while (m && m->sequence <= peer->stored_last) m = m->next;
    return m;
}

void outbox_store(struct outbox *o, uint32_t peer_id, const struct outbox_message *m) {
    struct outbox_peer *peer = &o->peers[peer_id];
    require(m->sequence > peer->stored_last);
    if (peer->stored_first == 0) peer->stored_first = m->sequence;
    peer->stored_last = m->sequence;
    o->unstored--;
    o->unstored_bytes -= m->bytes;
}

uint64_t outbox_oldest_index(const struct outbox *o, uint32_t peer_id) {
    const struct outbox_message *m = outbox_unstored(o, peer_id);
    return m ? m->index : 0;
}

/* -- acknowledgements -------------------------------------------------------------------------- */

static void front_acknowledge(struct outbox *o, struct outbox_peer *peer, uint64_t sequence) {
    while (peer->front.first && peer->front.first->sequence <= sequence) {
        struct outbox_message *m = list_take(&peer->front);
        if (peer->unsent == m) peer->unsent = m->next;
        if (m->sequence > peer->stored_last) {
            o->unstored--;
            o->unstored_bytes -= m->bytes;
        }
        peer->acknowledged = m->sequence;
        o->messages_waiting--;
        o->acknowledged++;
        free(m);
    }
}

void outbox_acknowledge(struct outbox *o, uint32_t peer_id, uint64_t sequence) {
    if (peer_id >= o->peers_count) return;
    struct outbox_peer *peer = &o->peers[peer_id];
    front_acknowledge(o, peer, sequence);
    if (peer->away_last && !peer->front.first && sequence > peer->acknowledged) {
        /* An earlier leader has sent some that are away here. */
        uint64_t upto = sequence < peer->away_last ? sequence : peer->away_last;
        o->messages_waiting -= upto - peer->acknowledged;
        o->acknowledged += upto - peer->acknowledged;
        peer->acknowledged = upto;
        if (upto == peer->away_last) come_together(o, peer);
        front_acknowledge(o, peer, sequence);
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

/* -- out of memory, and back ------------------------------------------------------------------- */

static bool front_has_room(const struct outbox *o, const struct outbox_list *front) {
    return front->count < o->window && front->bytes < OUTBOX_WINDOW_BYTES;
}

/* What is behind the first window of `front`, and stored, is away from now on. */
static void part(struct outbox *o, struct outbox_peer *peer) {
    if (!peer->front.last || peer->front.first->sequence > peer->stored_last) return;
    struct outbox_list all = peer->front;
    peer->front = (struct outbox_list){0};
    while (all.first && front_has_room(o, &peer->front)) list_append(&peer->front, list_take(&all));
    uint64_t kept = peer->front.last->sequence;
    if (!all.first || all.first->sequence > peer->stored_last) {
        while (all.first) list_append(&peer->front, list_take(&all));
        return;
    }
    peer->behind = all;
    peer->away_last = kept;
    o->peers_away++;
    if (peer->unsent && peer->unsent->sequence > kept) peer->unsent = NULL;
}

static void peer_let_go(struct outbox *o, struct outbox_peer *peer) {
    if (peer->away_last == 0 && !front_has_room(o, &peer->front)) part(o, peer);
    while (peer->away_last && peer->behind.first &&
           peer->behind.first->sequence <= peer->stored_last) {
        peer->away_last = peer->behind.first->sequence;
        free(list_take(&peer->behind));
    }
}

void outbox_let_go(struct outbox *o) {
    for (uint32_t p = 0; p < o->peers_count; p++) peer_let_go(o, &o->peers[p]);
}

/* That of the first one that is away. */
static uint64_t sequence_wanted(const struct outbox_peer *peer) {
    return 1 + (peer->front.last ? peer->front.last->sequence : peer->acknowledged);
}

bool outbox_ask(struct outbox *o, uint32_t peer_id, uint64_t *sequence) {
    struct outbox_peer *peer = &o->peers[peer_id];
    if (peer->away_last == 0) return false;
    /* All have come; or what is asked for has been acknowledged: an earlier leader had sent it. */
    uint64_t before = sequence_wanted(peer) - 1;
    if (peer->asked == 0 || peer->asked_last < before) peer->asked_last = before;
    if (peer->asked_last >= peer->away_last || peer->asked >= OUTBOX_LOADS_MAX) return false;
    if (peer->front.count + peer->asked >= o->window || !front_has_room(o, &peer->front))
        return false;
    peer->asked++;
    *sequence = ++peer->asked_last;
    return true;
}

void outbox_loaded(struct outbox *o, uint32_t peer_id, uint64_t sequence, uint64_t index,
                   struct bytes payload) {
    struct outbox_peer *peer = &o->peers[peer_id];
    require(peer->asked > 0);
    peer->asked--;
    uint64_t wanted = sequence_wanted(peer);
    if (peer->away_last == 0 || sequence < wanted) return; /* acknowledged meanwhile */
    struct outbox_message *m = sequence == wanted ? message_new(sequence, index, payload) : NULL;
    if (!m) {
        peer->asked_last = UINT64_MAX; /* all behind it would come in vain */
        return;
    }
    front_append(peer, m);
    if (sequence == peer->away_last) come_together(o, peer);
}

/* -- sending ----------------------------------------------------------------------------------- */

static uint32_t peer_send(struct outbox *o, uint32_t peer_id, struct courier *courier,
                          uint64_t commit_index, int64_t mono_ms) {
    struct outbox_peer *peer = &o->peers[peer_id];
    uint32_t sent = 0;
    while (peer->unsent && peer->unsent->index <= commit_index &&
           peer->unsent->sequence <= peer->acknowledged + o->window) {
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
        if (!peer->front.first) continue;
        if (peer->sent_ms != 0 && mono_ms - peer->sent_ms >= resend_after_ms) {
            o->resent += peer->sent - peer->acknowledged;
            peer->sent = peer->acknowledged;
            peer->unsent = peer->front.first;
            peer->sent_ms = 0;
        }
        sent += peer_send(o, p, courier, commit_index, mono_ms);
        if (peer->sent_ms != 0 && peer->sent_ms + resend_after_ms < *next_ms)
            *next_ms = peer->sent_ms + resend_after_ms;
    }
    o->sent += sent;
    return sent;
}
