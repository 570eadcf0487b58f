#include "actors/store/store_layout.h"

static struct store *store_open(struct actor *actor, uint8_t kind, const void *id,
                                uint8_t id_bytes) {
    struct store *store = (struct store *)(void *)actor;
    if (actor->bytes != 0) {
        require(actor->kind == kind);
        return store;
    }
    actor->bytes = (uint32_t)sizeof *store + id_bytes;
    actor->kind = kind;
    actor->schema = STORE_SCHEMA;
    actor->state = STORE_RUNNING;
    actor->key = store_key(bytes_of(id, id_bytes), kind == ACTOR_BOARD);
    store->id_bytes = id_bytes;
    memcpy(store + 1, id, id_bytes);
    return store;
}

bool store_spread_adopt(struct store_spread *spread, uint64_t version, uint32_t shards) {
    if (version <= spread->version || shards == 0) return false;
    bool changed = spread->shards != shards;
    if (changed) spread->before = spread->shards;
    spread->version = version;
    spread->shards = shards;
    return changed;
}

static void store_set_reason(struct store *store, const void *reason, uint16_t bytes) {
    uint8_t *at = (uint8_t *)store + store_reason_at(store);
    uint32_t records = store->actor.bytes - store_commands_at(store);
    memmove(at + bytes, at + store->reason_bytes, records);
    if (bytes != 0) memcpy(at, reason, bytes);
    store->actor.bytes = store->actor.bytes - store->reason_bytes + bytes;
    store->reason_bytes = bytes;
}

static void store_remember(struct store *store, const struct event *event) {
    struct store_command_record record = {
        .id = event->cause, .version = event->version, .kind = (uint8_t)event->cause_kind};
    uint8_t *first = (uint8_t *)store + store_commands_at(store);
    if (store->commands_count == STORE_COMMANDS_MAX) {
        memmove(first, first + sizeof record, (STORE_COMMANDS_MAX - 1) * sizeof record);
        memcpy(first + (STORE_COMMANDS_MAX - 1) * sizeof record, &record, sizeof record);
        return;
    }
    memcpy(first + store->commands_count * sizeof record, &record, sizeof record);
    store->commands_count++;
    store->actor.bytes += (uint32_t)sizeof record;
}

static void store_apply_head(struct store *store, uint8_t state,
                             const struct apply_context *context) {
    store->actor.state = state;
    store->actor.version++;
    store->actor.last_index = context->index;
    require(store->actor.bytes == store_bytes_of_sections(store));
}

uint32_t store_bytes_after(const struct actor *actor, const struct event *event) {
    uint32_t before = actor && actor->bytes != 0 ? actor->bytes : (uint32_t)sizeof(struct store);
    return before + event_payload_bytes(event) + (uint32_t)sizeof(struct store_command_record);
}

void store_apply(struct actor *actor, const struct event *event,
                 const struct apply_context *context) {
    require(event->version == actor->version + 1);
    require(event->kind == EVENT_STORE_PAUSED || event->kind == EVENT_STORE_RESUMED);
    const struct store_switched *switched = event_payload(event);
    const uint8_t *id = (const uint8_t *)(switched + 1);
    struct store *store = store_open(actor, ACTOR_STORE, id, switched->id_bytes);
    store_set_reason(store, id + switched->id_bytes, switched->reason_bytes);
    store_remember(store, event);
    store_apply_head(store, event->state_after, context);
}

uint32_t store_news_bytes(const struct actor *actor, const struct store_news *item) {
    if (item->block.size)
        return item->block.size + (actor && actor->bytes != 0 ? actor->bytes : 0);
    return actor && actor->bytes != 0 ? actor->bytes
                                      : (uint32_t)sizeof(struct store) + item->store.size;
}

/* Version of the newest command that the store has acted on; 0 = none. */
static uint32_t store_switched_at(const struct store *store) {
    struct store_command_record last;
    if (store->commands_count == 0) return 0;
    memcpy(&last,
           store_at(store, store_bytes_of_sections(store) - (uint32_t)sizeof last), sizeof last);
    return last.version;
}

/* The store comes with its past; here is what was counted since it was expected. Both have acted on
 * commands only if one of them moved again while it was on its way: then the newer switch counts,
 * as it does on the boards, with the commands that led to it. */
static void store_apply_moved(struct actor *actor, const struct store_news *item,
                              const struct apply_context *context) {
    _Alignas(8) uint8_t block[STORE_BLOCK_BYTES_MAX];
    struct store *moved = (struct store *)(void *)block, *here = (struct store *)(void *)actor;
    require(item->block.size <= sizeof block);
    memcpy(block, item->block.data, item->block.size);
    require(store_is_well_formed(block, item->block.size));
    if (actor->bytes == 0) {
        memcpy(actor, block, item->block.size);
    } else {
        require(actor->kind == ACTOR_STORE);
        moved->open_orders += here->open_orders;
        moved->placed_orders += here->placed_orders;
        uint32_t version = moved->actor.version + actor->version;
        if (store_switched_at(here) <= store_switched_at(moved))
            memcpy(here, moved, moved->actor.bytes);
        here->open_orders = moved->open_orders;
        here->placed_orders = moved->placed_orders;
        actor->version = version;
    }
    actor->flags = ACTOR_ARRIVED;
    store_apply_head(here, actor->state, context);
}

void store_apply_news(struct actor *actor, uint8_t message_kind, const struct store_news *item,
                      const struct apply_context *context) {
    require(item->store.size >= 1 && item->store.size <= ID_TEXT_BYTES_MAX);
    if (message_kind == STORE_MESSAGE_MOVED) {
        store_apply_moved(actor, item, context);
        return;
    }
    bool is_status = message_kind == STORE_MESSAGE_STATUS;
    require(is_status || message_kind == STORE_MESSAGE_COUNTS);
    bool is_new = actor->bytes == 0;
    struct store *store = store_open(actor, is_status ? ACTOR_BOARD : ACTOR_STORE,
                                     item->store.data, (uint8_t)item->store.size);
    if (!is_status) {
        store->open_orders += item->open_change;
        store->placed_orders += item->placed;
        store_apply_head(store, actor->state, context);
        return;
    }
    if (!is_new && item->version <= store->store_version) return;
    store->store_version = item->version;
    store_apply_head(store, item->paused ? STORE_IS_PAUSED : STORE_RUNNING, context);
}

uint32_t store_note_version(const struct actor *note) {
    require(note->kind == ACTOR_BOARD);
    return store_of(note)->store_version;
}

void store_view(const struct actor *actor, struct store_view *view) {
    const struct store *store = store_of(actor);
    *view = (struct store_view){
        .id = bytes_of(store + 1, store->id_bytes),
        .paused = actor->state == STORE_IS_PAUSED,
        .pause_reason = bytes_of(store_at(store, store_reason_at(store)), store->reason_bytes),
        .open_orders = store->open_orders,
        .placed_orders = store->placed_orders,
        .version = actor->version,
        .last_index = actor->last_index};
}

bool store_is_well_formed(const void *block, uint32_t bytes) {
    const struct store *store = block;
    if (!block || bytes < sizeof *store || ((uintptr_t)block & 7u) != 0) return false;
    const struct actor *actor = &store->actor;
    return actor->bytes == bytes && (actor->kind == ACTOR_STORE || actor->kind == ACTOR_BOARD) &&
           actor->schema == STORE_SCHEMA && actor->state >= STORE_RUNNING &&
           actor->state <= STORE_IS_PAUSED && store->id_bytes >= 1 &&
           store->id_bytes <= ID_TEXT_BYTES_MAX && store->reason_bytes <= REASON_BYTES_MAX &&
           store->commands_count <= STORE_COMMANDS_MAX && store_bytes_of_sections(store) == bytes;
}

bool store_event_is_well_formed(const struct event *event) {
    if (!event_is_whole(event) || event->bytes > EVENT_BYTES_MAX ||
        event_payload_bytes(event) < 8 || event->schema != STORE_EVENT_SCHEMA ||
        event->version == 0 || event->state_after < STORE_RUNNING ||
        event->state_after > STORE_IS_PAUSED) {
        return false;
    }
    if (event->kind != EVENT_STORE_PAUSED && event->kind != EVENT_STORE_RESUMED) return false;
    const struct store_switched *switched = event_payload(event);
    uint32_t whole = (uint32_t)sizeof *switched + switched->id_bytes + switched->reason_bytes;
    return switched->id_bytes >= 1 && switched->id_bytes <= ID_TEXT_BYTES_MAX &&
           switched->reason_bytes <= REASON_BYTES_MAX &&
           event_payload_bytes(event) == ((whole + 7u) & ~7u);
}
