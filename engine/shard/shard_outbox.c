/* Unacknowledged messages in the stored state: whoever starts from a state (a replica that was sent
 * one) has no log in front of it from which they could be read. */
#include <stdio.h>

#include "actors/message_event.h"
#include "engine/shard/shard_internal.h"

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

/* What is stored is one run of sequences, and so is what shall be: the front goes, the end grows.
 * Done halfway, it goes on from there. */
static bool store_peer(struct shard *s, uint32_t p) {
    struct outbox_peer *peer = &s->outbox.peers[p];
    while (peer->stored_first != 0 && peer->stored_first <= peer->acknowledged) {
        if (!put(s, p, peer->stored_first, NULL)) return false;
        if (peer->stored_first++ == peer->stored_last) peer->stored_first = 0;
    }
    const struct outbox_message *m = peer->first;
    while (m && m->sequence <= peer->stored_last) m = m->next;
    for (; m; m = m->next) {
        if (!put(s, p, m->sequence, m)) return false;
        if (peer->stored_first == 0) peer->stored_first = m->sequence;
        peer->stored_last = m->sequence;
    }
    return true;
}

bool shard_store_messages(struct shard *s) {
    for (uint32_t p = 0; p < s->outbox.peers_count; p++)
        if (!store_peer(s, p)) return false;
    return true;
}

static bool load_message(void *arg, const void *block, uint32_t bytes) {
    struct shard *s = arg;
    const struct stored_message *m = block;
    if (!stored_message_is_well_formed(block, bytes) || m->peer >= SHARDS_MAX) return false;
    s->no_memory = !outbox_load(&s->outbox, m->peer, m->sequence, m->actor.last_index,
                                bytes_of(m + 1, m->payload_bytes));
    return !s->no_memory;
}

bool shard_load_messages(struct shard *s, char *error, size_t error_bytes) {
    struct storage *storage = s->options.storage;
    error[0] = 0;
    int rv = storage->ops->visit_actors(storage, ACTOR_MESSAGE, load_message, s, error,
                                        error_bytes);
    if (rv == 0) return true;
    if (!error[0]) snprintf(error, error_bytes, "the stored messages cannot be read");
    return false;
}
