/* Growth: which shards there are, which of them is the home of a store, and how stores get there.
 *
 * What decides about anything that is logged is logged itself (SHARDS_KNOWN, and what messages of
 * other shards say of the spread), so all replicas go by the same at the same place of the log.
 * Leaders do the work; each step of it is an event, and whoever leads next begins at the first step
 * that is not in the log:
 *
 *   a new spread   -> ask all others whether stores of ours are left with them; until all have
 *                     answered, a store that has not come may be on its way
 *   a store of another home here -> a message takes it there: the event takes it out here, the
 *                     receiver's puts it in, the outbox sees to it that both happen once
 *   none is left   -> answer those who asked
 *   a new shard    -> ask the homes of all stores what they know of pauses; until all have
 *                     answered, no order is placed
 *
 * Order counts for a store that lives elsewhere are passed on (shard_messages.c). */
#include <stdio.h>

#include "actors/message_event.h"
#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

enum { SCAN_SLOTS = 4096, MOVE_STORES_MAX = 512, MOVE_BYTES_MAX = 256 << 10,
       MOVE_MESSAGES_WAITING_MAX = 64, BOARD_ITEMS_MAX = 1024 };
static_assert(MOVE_BYTES_MAX + MOVE_STORES_MAX * (STORE_BLOCK_BYTES_MAX + 128) <= EVENT_BYTES_MAX,
              "what moves at a time finds room in a turn");
static_assert((int)BOARD_ITEMS_MAX <= (int)STORE_MESSAGE_ITEMS_MAX &&
                  (int)BOARD_ITEMS_MAX <= (int)TURN_NEWS_MAX,
              "notes fit a message");

static bool bit_of(const uint8_t *bits, uint32_t n) { return bits[n / 8] >> (n % 8) & 1; }

static void bit_set(uint8_t *bits, uint32_t n) { bits[n / 8] |= (uint8_t)(1u << (n % 8)); }

uint32_t shard_store_home(const struct shard *s, struct bytes store) {
    const struct store_spread *spread = &s->growth.spread;
    return routing_shard_of_store(spread->version ? spread->shards : s->options.shards_count,
                                  store);
}

/* A shard that has asked is there, whatever is known here. */
bool shard_is_listening(const struct shard *s, uint32_t p) {
    const struct growth *g = &s->growth;
    if (p == s->options.id) return true;
    uint64_t asked = s->outbox.peers[p].boards_asked;
    if (g->version == 0) return p < s->options.shards_count || asked > 0;
    return bit_of(g->active, p) || asked >= g->version;
}

/* -- applying: the same at every replica ------------------------------------------------------- */

/* Who may still have a store of this shard, or know of its pauses. */
static bool may_have_stores(const struct shard *s, uint32_t p, uint8_t what) {
    const struct growth *g = &s->growth;
    if (p == s->options.id) return false;
    if (p < g->spread.shards) return true;
    return bit_of(g->active, p) && (what == STORE_ASK_STORES || p < g->spread.before);
}

static bool has_others(const struct shard *s, uint8_t what) {
    for (uint32_t p = 0; p < SHARDS_MAX; p++)
        if (may_have_stores(s, p, what)) return true;
    return false;
}

static void spread_adopt(struct shard *s, uint64_t version, uint32_t shards) {
    struct growth *g = &s->growth;
    if (!store_spread_adopt(&g->spread, version, shards)) return;
    outbox_know(&s->outbox, shards - 1);
    g->settled = false;
    g->store_slot = 0;
    if (s->options.id < shards) g->needs_stores = has_others(s, STORE_ASK_STORES);
}

void shard_apply_known(struct shard *s, const struct event *e) {
    const struct shards_known *k = event_payload(e);
    struct growth *g = &s->growth;
    if (g->version < k->version) g->version = k->version;
    memcpy(g->active, k->active, sizeof g->active);
    for (uint32_t p = 0; p < SHARDS_MAX; p++)
        if (bit_of(g->active, p)) outbox_know(&s->outbox, p);
    if (g->spread.version == 0) g->spread.shards = k->first_shards;
    spread_adopt(s, k->version, k->stores_shards);
    if (k->joined_ms == g->joined_ms) return;
    g->joined_ms = k->joined_ms;
    g->needs_boards = k->joined_ms != 0 && has_others(s, STORE_ASK_BOARDS);
}

static void await(uint8_t *flags, uint8_t what, uint32_t *count) {
    if (*flags & what) return;
    *flags |= what;
    ++*count;
}

static void await_no_more(uint8_t *flags, uint8_t what, uint32_t *count) {
    if (!(*flags & what)) return;
    *flags &= (uint8_t)~what;
    --*count;
}

struct leave { struct shard *s; uint64_t index; };

/* The block stays until a checkpoint has deleted the stored one. */
static bool store_leaves(void *arg, const struct store_news *item) {
    struct leave *l = arg;
    struct id128 key = store_key(item->store, false);
    uint32_t n = actor_table_find(&l->s->table, ACTOR_STORE, &key);
    if (n == SLOT_NONE) return true;
    struct actor *a = actor_table_slot(&l->s->table, n)->block;
    if (a->version == 0) return true;
    a->flags = ACTOR_RETIRED;
    a->last_index = l->index;
    shard_mark_dirty(l->s, n, l->index);
    l->s->stats.stores_moved++;
    return true;
}

void shard_apply_sent(struct shard *s, const struct event *e, uint64_t index) {
    struct growth *g = &s->growth;
    const struct message_event *m = event_payload(e);
    struct bytes message = message_event_payload(e);
    struct outbox_peer *peer = &s->outbox.peers[m->peer];
    struct store_message_head head;
    struct leave leave = {s, index};
    uint8_t kind;
    if (!store_message_head(message, &head) || head.kind < STORE_MESSAGE_MOVED) return;
    bool boards = head.what == STORE_ASK_BOARDS;
    if (head.kind == STORE_MESSAGE_MOVED) {
        store_message_decode(message, &kind, store_leaves, &leave);
    } else if (head.kind == STORE_MESSAGE_DONE) {
        await_no_more(&peer->owes, head.what, boards ? &g->boards_owed : &g->stores_owed);
    } else {
        await(&peer->awaits, head.what, boards ? &g->boards_awaited : &g->stores_awaited);
        *(boards ? &g->needs_boards : &g->needs_stores) = false;
        *(boards ? &g->boards_asked : &g->stores_asked) = head.asked;
    }
}

void shard_apply_head(struct shard *s, uint32_t from, struct bytes message) {
    struct growth *g = &s->growth;
    struct outbox_peer *peer = &s->outbox.peers[from];
    struct store_message_head head;
    if (!store_message_head(message, &head) || head.kind < STORE_MESSAGE_MOVED) return;
    bool boards = head.what == STORE_ASK_BOARDS;
    if (g->heard.version < head.version)
        g->heard = (struct store_spread){.version = head.version, .shards = head.shards};
    if (head.kind == STORE_MESSAGE_ASKED) {
        uint64_t *asked = boards ? &peer->boards_asked : &peer->stores_asked;
        if (*asked < head.asked) *asked = head.asked;
        /* Also if a newer spread was heard of, but not yet that this shard runs. */
        if (boards) bit_set(g->active, from);
        await(&peer->owes, head.what, boards ? &g->boards_owed : &g->stores_owed);
    } else if (head.kind == STORE_MESSAGE_DONE) {
        if (head.asked < (boards ? g->boards_asked : g->stores_asked)) return; /* has been asked
                                                                                  again since */
        await_no_more(&peer->awaits, head.what, boards ? &g->boards_awaited : &g->stores_awaited);
    }
}

/* -- the stored state -------------------------------------------------------------------------- */

void shard_growth_put(struct shard *s) {
    const struct growth *g = &s->growth;
    if (g->version == 0 && g->spread.version == 0) return;
    uint64_t known[8] = {g->version, (uint64_t)g->joined_ms, g->boards_asked,
                         (g->needs_boards ? STORE_ASK_BOARDS : 0) |
                             (g->needs_stores ? STORE_ASK_STORES : 0)};
    uint64_t spread[4] = {g->spread.version, g->spread.shards, g->spread.before, g->stores_asked};
    static_assert(sizeof g->active == 4 * sizeof known[0], "the bits fit the cursor");
    memcpy(&known[4], g->active, sizeof g->active);
    shard_cursor_put(&s->checkpoint, "known", known, sizeof known);
    shard_cursor_put(&s->checkpoint, "spread", spread, sizeof spread);
}

bool shard_growth_load(struct shard *s, const struct checkpoint_cursor *c) {
    struct growth *g = &s->growth;
    uint64_t v[8];
    unsigned p;
    if (strcmp(c->name, "known") == 0 && c->bytes == 64) {
        memcpy(v, c->value, 64);
        g->version = v[0];
        g->joined_ms = (int64_t)v[1];
        g->boards_asked = v[2];
        g->needs_boards = v[3] & STORE_ASK_BOARDS;
        g->needs_stores = v[3] & STORE_ASK_STORES;
        memcpy(g->active, &v[4], sizeof g->active);
        for (p = 0; p < SHARDS_MAX; p++)
            if (bit_of(g->active, p)) outbox_know(&s->outbox, p);
        return true;
    }
    if (strcmp(c->name, "spread") == 0 && c->bytes == 32) {
        memcpy(v, c->value, 32);
        g->spread = (struct store_spread){v[0], (uint32_t)v[1], (uint32_t)v[2]};
        g->stores_asked = v[3];
        return g->spread.shards <= SHARDS_MAX && g->spread.before <= SHARDS_MAX;
    }
    if (sscanf(c->name, "grow.%u", &p) != 1 || p >= SHARDS_MAX || c->bytes != 24) return false;
    memcpy(v, c->value, 24);
    outbox_know(&s->outbox, p);
    struct outbox_peer *peer = &s->outbox.peers[p];
    peer->boards_asked = v[0];
    peer->stores_asked = v[1];
    peer->owes = v[2] & 3;
    peer->awaits = v[2] >> 2 & 3;
    g->boards_owed += peer->owes & STORE_ASK_BOARDS ? 1 : 0;
    g->stores_owed += peer->owes & STORE_ASK_STORES ? 1 : 0;
    g->boards_awaited += peer->awaits & STORE_ASK_BOARDS ? 1 : 0;
    g->stores_awaited += peer->awaits & STORE_ASK_STORES ? 1 : 0;
    return true;
}

/* -- the leader: what it is told --------------------------------------------------------------- */

/* When the newest run of epochs that have this shard begins. A shard that was retired and is needed
 * again has missed all pauses since, so it is as new as one that never was. */
static int64_t joined_ms(const struct shard *s, const struct shard_view *v) {
    uint32_t id = s->options.id, e = v->epochs_count;
    while (e > 0 && v->epochs[e - 1].shards_count <= id) e--;
    if (e == 0) return 0;
    while (e > 1 && v->epochs[e - 2].shards_count > id) e--;
    return v->epochs[e - 1].from_ms;
}

static bool view_is_known(const struct shard *s, const struct shard_view *v, int64_t joined) {
    const struct growth *g = &s->growth;
    if (v->version < g->version) return true;
    return g->version != 0 && joined == g->joined_ms &&
           memcmp(v->active, g->active, sizeof g->active) == 0 &&
           (v->stores_shards == g->spread.shards || v->version <= g->spread.version);
}

/* Always the first event of its turn: within a turn the homes of stores do not change. */
static void log_known(struct shard *s, const struct shards_known *known) {
    require(!s->turn.open || s->turn.sink.events_count <= 1);
    shard_turn_begin(s);
    struct event *e = event_sink_add(&s->turn.sink, EVENT_SHARDS_KNOWN, MESSAGE_EVENT_SCHEMA,
                                     sizeof *known, NULL);
    *(struct shards_known *)(void *)(e + 1) = *known;
    shard_apply_known(s, e);
    log_info("shard %u: goes by version %llu of the cluster: stores on %u shards", s->options.id,
             (unsigned long long)known->version, s->growth.spread.shards);
}

/* Another shard spreads stores by a newer document than the one that was told here. */
static void learn_spread(struct shard *s) {
    const struct growth *g = &s->growth;
    if (s->disk_full || !shard_turn_has_room(s)) return;
    struct shards_known known = {.version = g->heard.version, .joined_ms = g->joined_ms,
                                 .stores_shards = g->heard.shards};
    /* Which shards run was not heard: those that have asked by an older document go on hearing. */
    for (uint32_t p = 0; p < SHARDS_MAX; p++)
        if (shard_is_listening(s, p)) bit_set(known.active, p);
    log_known(s, &known);
}

uint32_t shard_learn(struct shard *s) {
    const struct shard_view *v = &s->view;
    if (atomic_exchange_explicit(&s->view_is_offered, false, memory_order_acquire)) {
        pthread_mutex_lock(&s->published_lock);
        s->view = s->view_offered;
        pthread_mutex_unlock(&s->published_lock);
    }
    if (s->options.id == SHARD_META) return 0;
    /* First what this shard is told itself: whether it is new is not heard from others. */
    bool first = s->growth.version == 0 && v->version > s->growth.learned_version;
    if (!first && s->growth.heard.version > s->growth.spread.version) learn_spread(s);
    if (v->version <= s->growth.learned_version) return 0;
    int64_t joined = joined_ms(s, v);
    if (!view_is_known(s, v, joined)) {
        if (s->disk_full || !shard_turn_has_room(s)) return 0;
        struct shards_known known = {.version = v->version, .joined_ms = joined,
                                     .stores_shards = v->stores_shards};
        if (s->options.id < v->epochs[0].shards_count)
            known.first_shards = v->epochs[0].shards_count;
        memcpy(known.active, v->active, sizeof known.active);
        log_known(s, &known);
    }
    s->growth.learned_version = v->version;
    s->growth.view_joined_ms = joined;
    return 1;
}

/* Whether all pauses are known here. Who has heard of a newer spread than it was told of does not
 * know yet since when it belongs to the epochs, and so whether it has to ask: not before a document
 * that is as new has told. */
static bool knows_boards(const struct growth *g) {
    if (g->needs_boards || g->boards_awaited > 0) return false;
    return g->learned_version >= g->version || g->view_joined_ms == 0 ||
           g->view_joined_ms == g->joined_ms;
}

uint16_t shard_growth_answer(const struct shard *s, const struct command *c, uint32_t slot) {
    const struct growth *g = &s->growth;
    if (g->version == 0 && s->view.version == 0) return RESULT_OK;
    if (shard_command_kind(c->kind) == ACTOR_ORDER) {
        if (s->view.version != 0 &&
            routing_shard_of_key(s->view.epochs, s->view.epochs_count, &c->subject) !=
                s->options.id)
            return RESULT_NOT_READY; /* somebody's list of epochs is older than another's */
        return c->kind != COMMAND_PLACE || knows_boards(g) ? RESULT_OK : RESULT_NOT_READY;
    }
    if (c->store.store.size < 1 || c->store.store.size > ID_TEXT_BYTES_MAX) return RESULT_OK;
    const struct actor *a = shard_actor(s, slot);
    if (shard_store_home(s, c->store.store) != s->options.id) return RESULT_NOT_READY;
    if (a && a->flags & ACTOR_RETIRED) return RESULT_NOT_READY;
    if ((!g->needs_stores && g->stores_awaited == 0) || (a && a->flags & ACTOR_ARRIVED))
        return RESULT_OK;
    /* It was here all the time, or it may be on its way. */
    bool stayed = g->spread.before != 0 &&
                  routing_shard_of_store(g->spread.before, c->store.store) == s->options.id;
    return stayed ? RESULT_OK : RESULT_NOT_READY;
}

/* -- the leader: the work ---------------------------------------------------------------------- */

static void send_talk(struct shard *s, uint32_t to, uint8_t kind, uint8_t what, uint64_t asked) {
    uint8_t bytes[STORE_TALK_BYTES_MAX];
    const struct store_message_head head = {.kind = kind, .what = what,
                                            .version = s->growth.spread.version,
                                            .shards = s->growth.spread.shards, .asked = asked};
    uint32_t size = store_message_encode_head(&head, NULL, 0, bytes, sizeof bytes);
    require(size > 0);
    shard_turn_begin(s);
    shard_message_add(s, to, bytes_of(bytes, size));
}

/* All of them in one entry: either all are asked or none. */
static void ask_all(struct shard *s, uint8_t what) {
    uint64_t asked = what == STORE_ASK_BOARDS ? s->growth.version : s->growth.spread.version;
    for (uint32_t p = 0; p < SHARDS_MAX; p++)
        if (may_have_stores(s, p, what)) send_talk(s, p, STORE_MESSAGE_ASKED, what, asked);
}

static void answer_stores(struct shard *s) {
    for (uint32_t p = 0; p < s->outbox.peers_count; p++) {
        const struct outbox_peer *peer = &s->outbox.peers[p];
        if (peer->owes & STORE_ASK_STORES && peer->stores_asked <= s->growth.spread.version)
            send_talk(s, p, STORE_MESSAGE_DONE, STORE_ASK_STORES, peer->stores_asked);
    }
}

/* What is being gathered to be sent: stores to move, or board notes. */
struct gathered {
    struct store_news *items;    /* views of blocks in the table */
    uint32_t *homes;
    uint32_t count, bytes;
};

static bool is_to_move(const struct shard *s, const struct actor *a, uint32_t *home) {
    struct store_view view;
    if (!a || a->kind != ACTOR_STORE || a->version == 0 || a->flags & ACTOR_RETIRED) return false;
    store_view(a, &view);
    *home = shard_store_home(s, view.id);
    return *home != s->options.id;
}

/* Each of them leaves with the event that is added; those of one home together. */
static void move_gathered(struct shard *s, struct gathered *g) {
    const struct store_message_head head = {.kind = STORE_MESSAGE_MOVED,
                                            .version = s->growth.spread.version,
                                            .shards = s->growth.spread.shards};
    struct store_news *picked = s->news_picked + MOVE_STORES_MAX;
    shard_turn_begin(s);
    for (uint32_t i = 0; i < g->count; i++) {
        uint32_t to = g->homes[i], count = 0;
        if (to == s->options.id) continue; /* it went with one before */
        for (uint32_t k = i; k < g->count; k++) {
            if (g->homes[k] != to) continue;
            picked[count++] = g->items[k];
            g->homes[k] = s->options.id;
        }
        uint32_t size = store_message_encode_head(&head, picked, count, s->message_buffer,
                                                  SHARD_MESSAGE_BYTES_MAX);
        require(size > 0);
        shard_message_add(s, to, bytes_of(s->message_buffer, size));
    }
}

static uint32_t move_stores(struct shard *s) {
    struct growth *g = &s->growth;
    uint32_t homes[MOVE_STORES_MAX];
    struct gathered out = {s->news_picked, homes, 0, 0};
    uint32_t n = g->store_slot ? g->store_slot : 1, end = n + SCAN_SLOTS;
    /* What moves has to arrive: the memory of both sides and of the way there is bounded. */
    if (s->outbox.messages_waiting >= MOVE_MESSAGES_WAITING_MAX) return 0;
    for (; n < end && n < s->table.slots_used && out.count < MOVE_STORES_MAX &&
           out.bytes < MOVE_BYTES_MAX / 2; n++) {
        const struct actor *a = actor_table_slot(&s->table, n)->block;
        struct store_view view;
        if (!is_to_move(s, a, &homes[out.count])) continue;
        store_view(a, &view);
        out.items[out.count++] = (struct store_news){.store = view.id,
                                                     .block = bytes_of(a, a->bytes)};
        out.bytes += a->bytes + ID_TEXT_BYTES_MAX;
    }
    if (out.count > 0) move_gathered(s, &out);
    g->settled = n >= s->table.slots_used;
    g->store_slot = g->settled ? 0 : n;
    return 1;
}

/* A note that this shard answers for: that of a store which lives here, or did until lately. */
static bool is_own_note(const struct shard *s, const struct actor *a, struct store_news *item) {
    const struct store_spread *spread = &s->growth.spread;
    if (!a || a->kind != ACTOR_BOARD || a->version == 0) return false;
    struct store_view view;
    store_view(a, &view);
    bool own = routing_shard_of_store(spread->shards, view.id) == s->options.id ||
               (spread->before != 0 &&
                routing_shard_of_store(spread->before, view.id) == s->options.id);
    *item = (struct store_news){.store = view.id, .paused = view.paused,
                                .version = store_note_version(a)};
    return own;
}

static void tell_begin(struct shard *s) {
    struct growth *g = &s->growth;
    memset(g->told, 0, sizeof g->told);
    for (uint32_t p = 0; p < s->outbox.peers_count; p++)
        if (s->outbox.peers[p].owes & STORE_ASK_BOARDS) bit_set(g->told, p);
    g->board_slot = 1;
}

/* Tells all who have asked of the notes, some at a time, and then that these were all. */
static uint32_t tell_boards(struct shard *s) {
    struct growth *g = &s->growth;
    if (g->board_slot == 0) tell_begin(s);
    if (s->outbox.messages_waiting >= MOVE_MESSAGES_WAITING_MAX + SHARDS_MAX) return 0;
    uint32_t limit = TURN_STATUS_BYTES_MAX / (STATUS_BYTES * g->boards_owed), count = 0;
    if (limit > BOARD_ITEMS_MAX) limit = BOARD_ITEMS_MAX;
    if (limit == 0) limit = 1;
    uint32_t n = g->board_slot, end = n + SCAN_SLOTS;
    for (; n < end && n < s->table.slots_used && count < limit; n++)
        if (is_own_note(s, actor_table_slot(&s->table, n)->block, &s->news_picked[count])) count++;
    bool over = n >= s->table.slots_used;
    uint32_t bytes = count == 0 ? 0
                                : store_message_encode(STORE_MESSAGE_STATUS, s->news_picked, count,
                                                       s->message_buffer, SHARD_MESSAGE_BYTES_MAX);
    shard_turn_begin(s);
    for (uint32_t p = 0; p < s->outbox.peers_count; p++) {
        if (!bit_of(g->told, p)) continue;
        if (bytes > 0) shard_message_add(s, p, bytes_of(s->message_buffer, bytes));
        if (over)
            send_talk(s, p, STORE_MESSAGE_DONE, STORE_ASK_BOARDS, s->outbox.peers[p].boards_asked);
    }
    g->board_slot = over ? 0 : n;
    return 1;
}

uint32_t shard_grow(struct shard *s) {
    struct growth *g = &s->growth;
    uint32_t done = 0;
    if (g->spread.version == 0 || s->disk_full || !shard_turn_has_room(s)) return 0;
    if (g->heard.version > g->spread.version) return 1; /* first that */
    if (g->needs_boards) ask_all(s, STORE_ASK_BOARDS);
    if (g->needs_stores) ask_all(s, STORE_ASK_STORES);
    if (!g->settled && shard_turn_has_room(s)) done += move_stores(s);
    if (g->settled && g->stores_owed > 0 && shard_turn_has_room(s)) answer_stores(s);
    if (g->boards_owed > 0 && shard_turn_has_room(s)) done += tell_boards(s);
    return done;
}
