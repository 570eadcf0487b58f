/* Unacknowledged messages in the stored state: whoever starts from a state (a replica that was sent
 * one) has no log in front of it from which they could be read. And what waits for a shard that
 * takes nothing leaves memory for it. */
#include <stdio.h>

#include "actors/message_event.h"
#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

enum { REMOVALS_MAX = 16384 }; /* of one checkpoint: a long outage has left many */

static bool put(struct shard *s, uint32_t peer, uint64_t sequence,
                const struct outbox_message *message) {
    struct checkpoint_work *w = &s->checkpoint;
    uint32_t payload = message ? message->bytes : 0;
    uint32_t bytes = (uint32_t)sizeof(struct stored_message) + payload;
    uint32_t padded = (bytes + 7) & ~7u;
    if (!shard_checkpoint_reserve(w, padded)) return false;
    struct stored_message *m = (void *)(w->data.blocks + w->data.blocks_bytes);
    memset(m, 0, padded);
    m->actor.bytes = bytes;
    m->actor.kind = ACTOR_MESSAGE;
    m->actor.schema = MESSAGE_EVENT_SCHEMA;
    m->actor.key = stored_message_key(peer, sequence);
    m->actor.last_index = message ? message->index : 0;
    m->actor.version = 1;
    m->sequence = sequence;
    m->peer = peer;
    m->payload_bytes = payload;
    if (message) memcpy(m + 1, message->payload, payload);
    w->data.items[w->data.items_count] = (struct checkpoint_item){
        .key = m->actor.key, .kind = ACTOR_MESSAGE, .remove = !message, .bytes = bytes,
        .offset = w->data.blocks_bytes};
    w->data.blocks_bytes += padded;
    w->slots[w->data.items_count++] = SLOT_NONE;
    return true;
}

static bool is_to_remove(const struct outbox_peer *peer) {
    return peer->stored_first != 0 && peer->stored_first <= peer->acknowledged;
}

/* What is stored is one run of sequences, and so is what shall be: the front goes, the end grows.
 * Done halfway, it goes on from there. */
static bool store_peer(struct shard *s, uint32_t p, uint32_t *removals) {
    struct outbox_peer *peer = &s->outbox.peers[p];
    for (; is_to_remove(peer) && *removals > 0; --*removals) {
        if (!put(s, p, peer->stored_first, NULL)) return false;
        if (peer->stored_first++ == peer->stored_last) peer->stored_first = 0;
    }
    for (const struct outbox_message *m = outbox_unstored(&s->outbox, p); m; m = m->next) {
        if (!put(s, p, m->sequence, m)) return false;
        outbox_store(&s->outbox, p, m);
    }
    return true;
}

bool shard_store_messages(struct shard *s) {
    uint32_t removals = REMOVALS_MAX;
    for (uint32_t p = 0; p < s->outbox.peers_count; p++)
        if (!store_peer(s, p, &removals)) return false;
    s->messages_linger = false;
    for (uint32_t p = 0; p < s->outbox.peers_count; p++)
        if (is_to_remove(&s->outbox.peers[p])) s->messages_linger = true;
    return true;
}

bool shard_messages_press(const struct shard *s) {
    const struct outbox *o = &s->outbox;
    return (s->messages_linger && !s->draining) || o->unstored >= OUTBOX_MESSAGES_MAX / 8 ||
           o->unstored_bytes >= OUTBOX_BYTES_MAX / 8;
}

/* -- and back ---------------------------------------------------------------------------------- */

uint32_t shard_ask_messages(struct shard *s) {
    struct outbox *o = &s->outbox;
    uint32_t asked = 0;
    for (uint32_t p = 0; p < o->peers_count && o->peers_away > 0; p++) {
        uint64_t sequence;
        while (s->loads_waiting < STORAGE_LOADS_MAX - PARKED_COMMANDS_MAX - 1 &&
               outbox_ask(o, p, &sequence)) {
            struct id128 key = stored_message_key(p, sequence);
            s->options.storage->ops->load(s->options.storage, ACTOR_MESSAGE, &key);
            s->loads_waiting++;
            asked++;
        }
    }
    return asked;
}

void shard_on_message_loaded(struct shard *s, const struct storage_event *event) {
    const struct stored_message *m = event->block;
    struct outbox *o = &s->outbox;
    uint32_t peer;
    uint64_t sequence;
    stored_message_of_key(&event->key, &peer, &sequence);
    bool whole = event->ok && m && stored_message_is_well_formed(m, event->block_bytes);
    if (whole) {
        outbox_loaded(o, peer, sequence, m->actor.last_index, bytes_of(m + 1, m->payload_bytes));
    } else if (event->ok && !m && sequence <= o->peers[peer].acknowledged) {
        outbox_loaded(o, peer, sequence, 0, (struct bytes){0}); /* removed: nobody needs it */
    } else {
        log_error("shard %u: message %llu to shard %u cannot be read from the stored state",
                  s->options.id, (unsigned long long)sequence, peer);
        shard_fail(s);
    }
}

/* -- at a start -------------------------------------------------------------------------------- */

static bool load_message(void *arg, const void *block, uint32_t bytes) {
    struct shard *s = arg;
    const struct stored_message *m = block;
    if (!stored_message_is_well_formed(block, bytes) || m->peer >= SHARDS_MAX) return false;
    outbox_note_stored(&s->outbox, m->peer, m->sequence);
    return true;
}

/* Those that are not acknowledged are one run, and so none of them lacks. */
static bool messages_are_whole(const struct outbox *o) {
    uint64_t count = 0;
    for (uint32_t p = 0; p < o->peers_count; p++) {
        const struct outbox_peer *peer = &o->peers[p];
        if (peer->away_last) count += peer->away_last - peer->acknowledged;
    }
    return count == o->messages_waiting;
}

bool shard_load_messages(struct shard *s, char *error, size_t error_bytes) {
    struct storage *storage = s->options.storage;
    error[0] = 0;
    int rv = storage->ops->visit_actors(storage, ACTOR_MESSAGE, load_message, s, error,
                                        error_bytes);
    if (rv == 0 && messages_are_whole(&s->outbox)) return true;
    if (!error[0]) snprintf(error, error_bytes, "the stored messages cannot be read");
    return false;
}
