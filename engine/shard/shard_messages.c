/* Store news between shards: gathered over a turn, logged with it, delivered by the outbox; and the
 * other way round, messages of other shards as events of a turn. */
#include "actors/message_event.h"
#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

enum { ACKNOWLEDGED_MESSAGES = 1000, ACKNOWLEDGED_MS = 1000 };

bool shard_news_has_room(const struct shard *s) {
    uint32_t statuses = s->turn.news.status_count + 1;
    return s->turn.news.count + ORDER_HELD_MAX + 2 < TURN_NEWS_MAX && statuses <= TURN_STATUS_MAX &&
           statuses * s->outbox.peers_count * STATUS_BYTES <= TURN_STATUS_BYTES_MAX;
}

static void shard_news_add(struct shard *s, struct bytes store, int32_t open_change,
                           uint32_t placed) {
    struct turn_news *n = &s->turn.news;
    uint32_t mask = TURN_NEWS_BUCKETS - 1;
    uint32_t b = (uint32_t)(routing_hash(store.data, store.size) >> 20) & mask;
    while (n->buckets[b] && !bytes_equal(n->items[n->buckets[b] - 1].store, store))
        b = (b + 1) & mask;
    if (!n->buckets[b]) {
        require(n->count < TURN_NEWS_MAX);
        /* The block may move within the turn: keep the text. */
        uint8_t *text = n->texts + n->texts_bytes;
        memcpy(text, store.data, store.size);
        n->texts_bytes += store.size;
        n->items[n->count] = (struct store_news){.store = bytes_of(text, store.size)};
        n->shards[n->count] = shard_store_home(s, store);
        n->buckets[b] = ++n->count;
    }
    struct store_news *item = &n->items[n->buckets[b] - 1];
    item->open_change += open_change;
    item->placed += placed;
}

void shard_news_add_order(struct shard *s, const struct actor *order, bool opened) {
    shard_news_add(s, order_store(order), opened ? 1 : -1, opened ? 1 : 0);
}

void shard_news_add_status(struct shard *s, struct bytes store, bool paused, uint32_t version) {
    struct turn_news *n = &s->turn.news;
    require(n->status_count < TURN_STATUS_MAX && store.size <= ID_TEXT_BYTES_MAX);
    memcpy(n->status[n->status_count].text, store.data, store.size);
    n->status[n->status_count].bytes = (uint8_t)store.size;
    n->status[n->status_count].paused = paused;
    n->status[n->status_count++].version = version;
}

/* Adds the event that carries a message: MESSAGE_SENT to a peer, or, for the shard's own stores,
 * MESSAGE_SEEN at once. */
static void message_add(struct shard *s, uint8_t kind, uint32_t peer, uint64_t sequence,
                        struct bytes payload) {
    struct event *e = event_sink_add(&s->turn.sink, kind, MESSAGE_EVENT_SCHEMA,
                                     (uint32_t)sizeof(struct message_event) + payload.size, NULL);
    struct message_event *m = (struct message_event *)(void *)(e + 1);
    *m = (struct message_event){sequence, peer, payload.size};
    memcpy(m + 1, payload.data, payload.size);
    struct apply_context context = {s->turn.index, s->turn.time_ms};
    if (kind == EVENT_MESSAGE_SENT) {
        require(outbox_note_sent(&s->outbox, e, s->turn.index));
        shard_apply_sent(s, e, s->turn.index);
    } else {
        require(shard_apply_message(s, e, &context));
    }
}

void shard_message_add(struct shard *s, uint32_t to, struct bytes payload) {
    if (to == s->options.id) message_add(s, EVENT_MESSAGE_SEEN, to, 0, payload);
    else message_add(s, EVENT_MESSAGE_SENT, to, ++s->outbox.peers[to].sequence_last, payload);
}

/* How far the other shards have taken what was sent to them; see actors/message_event.h. */
static void log_acknowledgements(struct shard *s) {
    uint64_t since = s->outbox.acknowledged - s->outbox.acknowledged_logged;
    if (since == 0) return;
    if (since < ACKNOWLEDGED_MESSAGES && s->mono_ms - s->acknowledged_ms < ACKNOWLEDGED_MS) return;
    s->outbox.acknowledged_logged = s->outbox.acknowledged;
    s->acknowledged_ms = s->mono_ms;
    for (uint32_t p = 0; p < s->outbox.peers_count; p++) {
        struct outbox_peer *peer = &s->outbox.peers[p];
        if (peer->acknowledged <= peer->logged) continue;
        peer->logged = peer->acknowledged;
        struct event *e = event_sink_add(&s->turn.sink, EVENT_MESSAGE_ACKNOWLEDGED,
                                         MESSAGE_EVENT_SCHEMA, sizeof(struct message_event), NULL);
        *(struct message_event *)(void *)(e + 1) = (struct message_event){peer->logged, p, 0};
    }
}

static void message_send(struct shard *s, uint32_t to, uint8_t kind, const struct store_news *items,
                         uint32_t count) {
    uint8_t *scratch = s->message_buffer;
    while (count > 0) {
        uint32_t n = count < STORE_MESSAGE_ITEMS_MAX ? count : STORE_MESSAGE_ITEMS_MAX;
        uint32_t bytes = store_message_encode(kind, items, n, scratch, SHARD_MESSAGE_BYTES_MAX);
        require(bytes > 0);
        shard_message_add(s, to, bytes_of(scratch, bytes));
        items += n;
        count -= n;
    }
}

static void news_send_counts(struct shard *s) {
    struct turn_news *n = &s->turn.news;
    struct store_news *picked = s->news_picked;
    for (uint32_t to = 0; to < s->outbox.peers_count; to++) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < n->count; i++) {
            const struct store_news *item = &n->items[i];
            if (n->shards[i] == to && (item->open_change != 0 || item->placed != 0))
                picked[count++] = *item;
        }
        message_send(s, to, STORE_MESSAGE_COUNTS, picked, count);
    }
}

void shard_news_finish(struct shard *s) {
    struct turn_news *n = &s->turn.news;
    if (n->count > 0) {
        news_send_counts(s);
        memset(n->buckets, 0, TURN_NEWS_BUCKETS * sizeof *n->buckets);
        n->count = 0;
        n->texts_bytes = 0;
    }
    if (n->status_count > 0) {
        for (uint32_t i = 0; i < n->status_count; i++)
            s->news_picked[i] = (struct store_news){
                .store = bytes_of(n->status[i].text, n->status[i].bytes),
                .paused = n->status[i].paused, .version = n->status[i].version};
        for (uint32_t to = 0; to < s->outbox.peers_count; to++)
            if (shard_is_listening(s, to))
                message_send(s, to, STORE_MESSAGE_STATUS, s->news_picked, n->status_count);
        n->status_count = 0;
    }
    if (s->turn.sink.events_count > 0) log_acknowledgements(s);
}

struct news_visit {
    struct shard *s;
    uint8_t message_kind;
    bool apply;              /* else only make room */
    bool unlimited;          /* whatever the number of stores */
    bool failed, at_limit;   /* at_limit: failed, and not for lack of memory */
    uint32_t made;           /* slot of the block that was not there; SLOT_NONE = it was */
    const struct apply_context *context;
};

static bool news_visit_item(void *arg, const struct store_news *item) {
    struct news_visit *v = arg;
    struct shard *s = v->s;
    bool board = v->message_kind == STORE_MESSAGE_STATUS;
    bool moved = v->message_kind == STORE_MESSAGE_MOVED;
    uint8_t kind = board ? ACTOR_BOARD : ACTOR_STORE;
    /* Counts of a store that lives elsewhere are passed on by whoever takes them: see forward(). */
    bool here = s->growth.spread.version == 0 || shard_store_home(s, item->store) == s->options.id;
    v->made = SLOT_NONE;
    if (!board && !moved && !here) return true;
    struct id128 key = store_key(item->store, board);
    uint32_t n = actor_table_find(&s->table, kind, &key);
    if (n == SLOT_NONE) {
        /* What is logged was within the limit when it was taken, and is applied whatever it is. */
        v->at_limit = !v->apply && !v->unlimited && !moved &&
                      s->table.count[kind] >= STORES_PER_SHARD_MAX;
        if (!v->at_limit)
            n = actor_table_add(&s->table, kind, &key, store_news_bytes(NULL, item));
        if (n == SLOT_NONE) v->failed = true;
        else v->made = n;
    } else {
        const struct actor *a = shard_actor(s, n);
        if (!actor_table_reserve(&s->table, actor_table_slot(&s->table, n),
                                 store_news_bytes(a, item)))
            v->failed = true;
    }
    if (v->failed || !v->apply) return !v->failed;
    struct slot *slot = actor_table_slot(&s->table, n);
    bool was_paused = board && slot->block->version && slot->block->state == STORE_IS_PAUSED;
    /* Not there yet, or moved away before. */
    if (slot->block->version == 0 || slot->block->flags & ACTOR_RETIRED)
        memset(slot->block, 0, slot->capacity);
    if (moved) s->stats.stores_came++;
    if (moved && !here) s->growth.settled = false;
    store_apply_news(slot->block, v->message_kind, item, v->context);
    require(slot->block->bytes <= slot->capacity);
    bool is_paused = board && slot->block->state == STORE_IS_PAUSED;
    if (is_paused != was_paused) s->paused_stores += is_paused ? 1 : (uint64_t)-1;
    shard_mark_dirty(s, n, v->context->index);
    return true;
}

struct news_pick {
    struct news_visit room;
    uint32_t kept, left_out;
    uint32_t made[STORE_MESSAGE_ITEMS_MAX], made_count; /* slots */
};

static bool news_pick_item(void *arg, const struct store_news *item) {
    struct news_pick *p = arg;
    if (news_visit_item(&p->room, item)) {
        if (p->room.made != SLOT_NONE) p->made[p->made_count++] = p->room.made;
        p->room.s->news_picked[p->kept++] = *item;
        return true;
    }
    if (!p->room.at_limit) return false;
    p->room.failed = p->room.at_limit = false;
    p->left_out++;
    return true;
}

/* Sees to memory for a message before it is logged. News of stores beyond the limit are left out of
 * what is logged: a message that could never be taken would stop all that come behind it, and in
 * the end the shard that sends them. */
static bool message_make_room(struct shard *s, struct bytes *payload, bool *well_formed) {
    struct news_pick p;
    p.room = (struct news_visit){.s = s, .apply = false};
    p.kept = p.left_out = p.made_count = 0;
    *well_formed =
        store_message_decode(*payload, &p.room.message_kind, news_pick_item, &p) || p.room.failed;
    /* Blocks without a version would count as stores, and stay if theirs has moved away before the
     * message comes again. */
    while (p.room.failed && p.made_count > 0) actor_table_remove(&s->table, p.made[--p.made_count]);
    if (!*well_formed || p.room.failed) return false;
    if (p.left_out == 0) return true;
    if (!s->stores_limit_told)
        log_error("shard %u: it knows %d stores already: others are not counted here, and their "
                  "pauses not noted", s->options.id, STORES_PER_SHARD_MAX);
    s->stores_limit_told = true;
    uint32_t bytes = store_message_encode(p.room.message_kind, s->news_picked, p.kept,
                                          s->message_buffer, SHARD_MESSAGE_BYTES_MAX);
    *payload = bytes_of(s->message_buffer, bytes);
    return true;
}

/* News for a store of this very shard are applied in the turn that makes them, when it is too late
 * to lack memory: the first news of a store finds its block reserved. */
uint16_t shard_news_reserve(struct shard *s, struct bytes store, bool board, uint32_t *made) {
    *made = SLOT_NONE;
    if (store.size < 1 || store.size > ID_TEXT_BYTES_MAX) return RESULT_OK; /* will be refused */
    if (!board && shard_store_home(s, store) != s->options.id) return RESULT_OK;
    struct store_news item = {.store = store};
    struct news_visit v = {
        .s = s, .message_kind = board ? STORE_MESSAGE_STATUS : STORE_MESSAGE_COUNTS};
    bool room = news_visit_item(&v, &item);
    *made = v.made;
    if (room) return RESULT_OK;
    return v.at_limit ? RESULT_STORES_LIMIT_REACHED : RESULT_OUT_OF_MEMORY;
}

/* Only growth brings orders whose store has its home here and no block yet: it lived elsewhere when
 * they were placed, and has not come. */
bool shard_news_reserve_order(struct shard *s, const struct actor *order) {
    if (s->growth.spread.version == 0 || order->version == 0) return true;
    struct store_news item = {.store = order_store(order)};
    if (item.store.size == 0) return true; /* not placed yet: commands overtook that */
    /* As what comes from elsewhere: the order was taken, whatever the limit of stores is. */
    struct news_visit v = {.s = s, .message_kind = STORE_MESSAGE_COUNTS, .unlimited = true};
    return news_visit_item(&v, &item);
}

bool shard_apply_message(struct shard *s, const struct event *e,
                         const struct apply_context *context) {
    const struct message_event *m = event_payload(e);
    struct news_visit v = {.s = s, .apply = true, .context = context};
    if (m->sequence != 0) shard_apply_head(s, m->peer, message_event_payload(e));
    bool applied =
        store_message_decode(message_event_payload(e), &v.message_kind, news_visit_item, &v);
    s->no_memory = v.failed;
    if (!applied) return false;
    if (m->sequence != 0) {
        outbox_know(&s->outbox, m->peer);
        s->outbox.peers[m->peer].seen = m->sequence;
        s->outbox.peers[m->peer].seen_index = context->index;
    }
    return true;
}

bool shard_store_is_paused(const struct shard *s, struct bytes store) {
    if (s->paused_stores == 0) return false;
    struct id128 key = store_key(store, true);
    const struct actor *note = shard_actor(s, actor_table_find(&s->table, ACTOR_BOARD, &key));
    return note && note->state == STORE_IS_PAUSED;
}

uint64_t shard_store_noted_at(const struct shard *s, struct bytes store) {
    struct id128 key = store_key(store, true);
    const struct actor *note = shard_actor(s, actor_table_find(&s->table, ACTOR_BOARD, &key));
    return note ? note->last_index : 0;
}

static void turn_acknowledge(struct shard *s, uint32_t peer, uint64_t sequence) {
    struct turn *t = &s->turn;
    for (uint32_t i = 0; i < t->acks_count; i++)
        if (t->acks[i].peer == peer) {
            t->acks[i].sequence = sequence;
            return;
        }
    if (t->acks_count == t->acks_capacity) {
        uint32_t wanted = t->acks_capacity ? t->acks_capacity * 2 : 8;
        struct message_ack *acks = realloc(t->acks, wanted * sizeof *acks);
        if (!acks) return; /* the peer sends again and is acknowledged then */
        t->acks = acks;
        t->acks_capacity = wanted;
    }
    t->acks[t->acks_count++] = (struct message_ack){peer, sequence};
}

static bool forward_item(void *arg, const struct store_news *item) {
    struct shard *s = arg;
    if (shard_store_home(s, item->store) != s->options.id)
        shard_news_add(s, item->store, item->open_change, item->placed);
    return true;
}

/* What was taken for stores that live elsewhere now goes on there, in the same entry. */
static void forward(struct shard *s, struct bytes message) {
    struct store_message_head head;
    uint8_t kind;
    if (s->growth.spread.version == 0 || !store_message_head(message, &head) ||
        head.kind != STORE_MESSAGE_COUNTS)
        return;
    store_message_decode(message, &kind, forward_item, s);
}

static void message_take(struct shard *s, const struct inbox_message *m) {
    struct outbox_peer *peer = &s->outbox.peers[m->from];
    if (m->sequence <= peer->seen) {
        s->outbox.repeated++;
        /* The acknowledgement may have been lost. What is not committed yet is acknowledged when it
         * is. */
        if (peer->seen_index <= s->commit_index)
            s->options.courier->acknowledge(s->options.courier, s->options.id, m->from, peer->seen);
        return;
    }
    if (m->sequence != peer->seen + 1) return; /* one before it was lost: it comes again */
    struct bytes payload = bytes_of(m->payload, m->bytes);
    bool well_formed;
    if (!message_make_room(s, &payload, &well_formed)) {
        if (!well_formed)
            log_error("shard %u: message %llu of shard %u is not a store message: dropped",
                      s->options.id, (unsigned long long)m->sequence, m->from);
        return; /* without memory: it comes again */
    }
    shard_turn_begin(s);
    message_add(s, EVENT_MESSAGE_SEEN, m->from, m->sequence, payload);
    forward(s, payload);
    turn_acknowledge(s, m->from, m->sequence);
    s->turn.commands++;
    s->outbox.seen++;
}

/* Takes what has come; acknowledgements act at once, since they need no entry. */
static void inbox_take(struct shard *s) {
    struct inbox_message *m = atomic_exchange_explicit(&s->inbox_top, NULL, memory_order_acquire);
    struct inbox_message *first = NULL;
    while (m) {
        struct inbox_message *next = m->next;
        m->next = first;
        first = m;
        m = next;
    }
    while ((m = first)) {
        first = m->next;
        m->next = NULL;
        if (m->from >= SHARDS_MAX || m->acknowledgement) {
            if (m->acknowledgement) outbox_acknowledge(&s->outbox, m->from, m->sequence);
            atomic_fetch_sub_explicit(&s->inbox_count, 1, memory_order_relaxed);
            free(m);
            continue;
        }
        if (!s->inbox) s->inbox_since_ms = s->mono_ms;
        if (s->inbox_last) s->inbox_last->next = m;
        else s->inbox = m;
        s->inbox_last = m;
    }
}

/* Messages of other shards travel along with the turn that is open, or wait a moment for one: an
 * entry of their own for each would double the syncs of a lightly loaded node. */
uint32_t shard_messages(struct shard *s) {
    uint32_t done = 0;
    inbox_take(s);
    bool waited = s->mono_ms - s->inbox_since_ms >= MESSAGE_LINGER_MS;
    while (s->inbox && (s->turn.open || waited) && !s->disk_full && shard_turn_has_room(s) &&
           s->turn.news.count + STORE_MESSAGE_ITEMS_MAX <= TURN_NEWS_MAX) {
        struct inbox_message *m = s->inbox;
        s->inbox = m->next;
        if (!s->inbox) s->inbox_last = NULL;
        atomic_fetch_sub_explicit(&s->inbox_count, 1, memory_order_relaxed);
        message_take(s, m);
        free(m);
        done++;
    }
    return done;
}
