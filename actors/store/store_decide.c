#define XXH_INLINE_ALL
#include <xxhash.h>

#include "actors/store/store_layout.h"

struct id128 store_key(struct bytes id, bool board) {
    XXH128_canonical_t canonical;
    struct id128 key;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(id.data, id.size, board ? 1 : 0));
    memcpy(key.bytes, canonical.digest, sizeof key.bytes);
    return key;
}

static uint16_t store_check_shape(const struct command *command) {
    if (command->malformed != 0) return command->malformed;
    if (command->kind < COMMAND_STORE_PAUSE || command->kind > COMMAND_STORE_GET) {
        return RESULT_UNKNOWN_COMMAND;
    }
    if (command->store.store.size < 1) return RESULT_FIELD_MISSING;
    if (command->store.store.size > ID_TEXT_BYTES_MAX) return RESULT_TEXT_TOO_LONG;
    if (command->kind == COMMAND_STORE_GET) return RESULT_OK;
    if (command->kind == COMMAND_STORE_PAUSE && command->store.reason.size > REASON_BYTES_MAX) {
        return RESULT_TEXT_TOO_LONG;
    }
    return id128_is_zero(&command->id) ? RESULT_COMMAND_ID_MISSING : RESULT_OK;
}

static bool store_find_command(const struct store *store, const struct id128 *id,
                               struct store_command_record *record) {
    uint32_t at = store_commands_at(store);
    for (uint32_t i = 0; i < store->commands_count; i++, at += (uint32_t)sizeof *record) {
        memcpy(record, store_at(store, at), sizeof *record);
        if (id128_equal(&record->id, id)) return true;
    }
    return false;
}

static uint16_t store_check_switch(const struct store *store, const struct command *command) {
    bool pause = command->kind == COMMAND_STORE_PAUSE;
    uint32_t version = store ? store->actor.version : 0;
    bool paused = store && store->actor.state == STORE_IS_PAUSED;
    if (command->expected_version != 0 && command->expected_version != version) {
        return RESULT_VERSION_CONFLICT;
    }
    if (!store && !pause) return RESULT_STORE_NOT_FOUND;
    if (pause && paused) return RESULT_STORE_ALREADY_PAUSED;
    return !pause && !paused ? RESULT_STORE_NOT_PAUSED : RESULT_OK;
}

static struct event *store_add_event(const struct actor *actor, uint8_t kind, uint8_t state_after,
                                     const struct command *cause, struct event_sink *sink,
                                     uint32_t payload_bytes) {
    struct event *event =
        event_sink_add(sink, kind, STORE_EVENT_SCHEMA, payload_bytes, &cause->trace);
    event->state_before = actor ? actor->state : 0;
    event->state_after = state_after;
    event->version = (actor ? actor->version : 0) + 1;
    event->cause_kind = cause->kind;
    event->prev_index = actor ? actor->last_index : 0;
    event->subject = cause->subject;
    event->cause = cause->id;
    return event;
}

static void store_switch(const struct actor *actor, const struct command *command,
                         struct event_sink *sink) {
    bool pause = command->kind == COMMAND_STORE_PAUSE;
    struct bytes id = command->store.store;
    struct bytes reason = pause ? command->store.reason : (struct bytes){NULL, 0};
    struct event *event = store_add_event(
        actor, pause ? EVENT_STORE_PAUSED : EVENT_STORE_RESUMED,
        pause ? STORE_IS_PAUSED : STORE_RUNNING, command, sink,
        (uint32_t)sizeof(struct store_switched) + id.size + reason.size);
    struct store_switched *switched = (struct store_switched *)(event + 1);
    switched->id_bytes = (uint8_t)id.size;
    switched->reason_bytes = (uint16_t)reason.size;
    memcpy(switched + 1, id.data, id.size);
    if (reason.size != 0) memcpy((uint8_t *)(switched + 1) + id.size, reason.data, reason.size);
}

struct decision store_decide(const struct actor *actor, const struct command *command,
                             const struct decide_context *context, struct event_sink *sink) {
    const struct store *store = actor ? store_of(actor) : NULL;
    uint32_t version = actor ? actor->version : 0;
    struct store_command_record record;
    uint16_t code = store_check_shape(command);
    if (code != RESULT_OK) return (struct decision){code, false, version};
    if (command->kind == COMMAND_STORE_GET) {
        return (struct decision){store ? RESULT_OK : RESULT_STORE_NOT_FOUND, false, version};
    }
    if (store && store_find_command(store, &command->id, &record)) {
        bool same = record.kind == command->kind;
        return (struct decision){same ? RESULT_OK : RESULT_COMMAND_ID_REUSED, same,
                                 same ? record.version : version};
    }
    code = store_check_switch(store, command);
    if (code != RESULT_OK) return (struct decision){code, false, version};
    store_switch(actor, command, sink);
    return (struct decision){RESULT_OK, false, version + 1};
}
