/* The way into a shard, from any thread. */
#include "engine/shard/shard_internal.h"

enum { RETRY_AFTER_MS_MIN = 5, RETRY_AFTER_MS_MAX = 1000 };

void shard_on_wake(struct shard *s, void (*wake)(void *arg), void *arg) {
    s->wake_arg = arg;
    s->wake = wake;
}

static void wake(struct shard *s) {
    if (s->wake) s->wake(s->wake_arg);
}

bool shard_offer(struct shard *s, struct request_part *part, uint32_t *retry_after_ms) {
    if (mailbox_push(&s->mailbox, part)) {
        wake(s);
        return true;
    }
    /* How long until what waits now is gone, at the rate of the last moments. */
    uint64_t rate = atomic_load_explicit(&s->drain_per_second, memory_order_relaxed);
    uint64_t wait = rate ? mailbox_commands(&s->mailbox) * 1000ULL / rate : 100;
    if (wait < RETRY_AFTER_MS_MIN) wait = RETRY_AFTER_MS_MIN;
    *retry_after_ms = wait > RETRY_AFTER_MS_MAX ? RETRY_AFTER_MS_MAX : (uint32_t)wait;
    return false;
}

/* -- messages of other shards ------------------------------------------------------------------ */

static bool inbox_push(struct shard *s, uint32_t from, bool acknowledgement, uint64_t sequence,
                       struct bytes payload) {
    if (payload.size > SHARD_MESSAGE_BYTES_MAX) return false;
    if (atomic_fetch_add_explicit(&s->inbox_count, 1, memory_order_relaxed) >= INBOX_MESSAGES_MAX)
        goto full;
    struct inbox_message *m = malloc(sizeof *m + payload.size);
    if (!m) goto full;
    *m = (struct inbox_message){.from = from, .acknowledgement = acknowledgement,
                                .sequence = sequence, .bytes = payload.size};
    if (payload.size) memcpy(m->payload, payload.data, payload.size);
    struct inbox_message *top = atomic_load_explicit(&s->inbox_top, memory_order_relaxed);
    do {
        m->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&s->inbox_top, &top, m, memory_order_release,
                                                    memory_order_relaxed));
    wake(s);
    return true;
full:
    atomic_fetch_sub_explicit(&s->inbox_count, 1, memory_order_relaxed);
    return false;
}

bool shard_offer_message(struct shard *s, uint32_t from, uint64_t sequence, struct bytes payload) {
    return inbox_push(s, from, false, sequence, payload);
}

bool shard_offer_acknowledgement(struct shard *s, uint32_t from, uint64_t sequence) {
    return inbox_push(s, from, true, sequence, (struct bytes){0});
}

/* -- the group --------------------------------------------------------------------------------- */

static uint32_t message_bytes(const struct consensus_message *m) {
    uint64_t bytes = sizeof *m;
    for (uint32_t i = 0; m->records && i < m->records_count; i++)
        bytes += sizeof(struct record) + m->records[i]->header.payload_bytes;
    return bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

bool shard_offer_consensus(struct shard *s, struct consensus_message *message) {
    uint32_t bytes = message_bytes(message);
    uint32_t count = atomic_fetch_add_explicit(&s->peers_count, 1, memory_order_relaxed);
    uint64_t waiting = atomic_fetch_add_explicit(&s->peers_bytes, bytes, memory_order_relaxed);
    struct peer_message *m = NULL;
    /* One message always finds room, however large it is. */
    if (count < CONSENSUS_INBOX_MESSAGES_MAX &&
        (waiting == 0 || waiting + bytes <= CONSENSUS_INBOX_BYTES_MAX))
        m = malloc(sizeof *m);
    if (!m) {
        atomic_fetch_sub_explicit(&s->peers_count, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&s->peers_bytes, bytes, memory_order_relaxed);
        return false;
    }
    *m = (struct peer_message){.message = message, .bytes = bytes};
    struct peer_message *top = atomic_load_explicit(&s->peers_top, memory_order_relaxed);
    do {
        m->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&s->peers_top, &top, m, memory_order_release,
                                                    memory_order_relaxed));
    wake(s);
    return true;
}

bool shard_offer_snapshot(struct shard *s, const struct shard_snapshot *snapshot) {
    unsigned none = SNAPSHOT_NONE;
    if (!atomic_compare_exchange_strong(&s->snapshot_state, &none, SNAPSHOT_COMES)) return false;
    s->snapshot = *snapshot;
    atomic_store_explicit(&s->snapshot_state, SNAPSHOT_OFFERED, memory_order_release);
    wake(s);
    return true;
}

void shard_group(const struct shard *shard, struct consensus_group *group, uint64_t *term) {
    struct shard *s = (struct shard *)(uintptr_t)shard;
    pthread_mutex_lock(&s->published_lock);
    *group = s->published_group;
    *term = s->published.term;
    pthread_mutex_unlock(&s->published_lock);
}

void shard_place(struct shard *s, const struct shard_placement *placement) {
    require(placement->count <= CONSENSUS_SERVERS_MAX);
    require(placement->drained_count <= CONSENSUS_SERVERS_MAX);
    pthread_mutex_lock(&s->published_lock);
    bool newer = placement->version > s->placement.version;
    if (newer) s->placement = *placement;
    pthread_mutex_unlock(&s->published_lock);
    if (!newer) return;
    atomic_store_explicit(&s->placement_offered, true, memory_order_release);
    wake(s);
}

void shard_know(struct shard *s, const struct shard_view *view) {
    pthread_mutex_lock(&s->published_lock);
    bool newer = view->version > s->view_offered.version;
    if (newer) s->view_offered = *view;
    pthread_mutex_unlock(&s->published_lock);
    if (!newer) return;
    atomic_store_explicit(&s->view_is_offered, true, memory_order_release);
    wake(s);
}

void shard_hand_over(struct shard *s) {
    atomic_store(&s->hand_over, true);
    wake(s);
}

/* -- the end ----------------------------------------------------------------------------------- */

void shard_drain(struct shard *s) {
    atomic_store(&s->closed_for_commands, true);
    wake(s);
}

bool shard_is_drained(const struct shard *s) {
    return atomic_load(&((struct shard *)(uintptr_t)s)->drained);
}
