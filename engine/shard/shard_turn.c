/* One turn: the commands that wait are decided one after the other, each on the state that the one
 * before it left, and all their events become one log entry. */
#include "engine/shard/shard_internal.h"

/* The sink is larger than an entry may become, so that the held commands of the last place and the
 * turn's messages always find room. */
enum { TURN_RETRY_MS = 50 };

bool shard_turn_has_room(const struct shard *s) {
    const struct turn *t = &s->turn;
    /* While the disk is full only reads are decided, and what was decided before is told again:
     * neither adds anything to the limbo. */
    if (!s->disk_full &&
        (s->limbo_entries >= LIMBO_ENTRIES_MAX || s->limbo_bytes >= LIMBO_BYTES_MAX))
        return false;
    if (!t->open) return true;
    return t->commands < TURN_COMMANDS_MAX && shard_news_has_room(s) &&
           t->sink.size + EVENT_BYTES_MAX <= ENTRY_BYTES_MAX;
}

void shard_turn_begin(struct shard *s) {
    struct turn *t = &s->turn;
    if (t->open) return;
    t->open = true;
    t->index = consensus_last_index(s->consensus) + 1;
    t->time_ms = s->now_ms > s->last_time_ms ? s->now_ms : s->last_time_ms;
    t->sink = (struct event_sink){
        .data = s->entry_buffer + sizeof(struct entry_header),
        .capacity = ENTRY_BYTES_MAX + EVENT_BYTES_MAX,
    };
    t->commands = 0;
    t->acks_count = 0;
    s->stats.turns++;
}

static struct record *turn_record(struct shard *s) {
    struct turn *t = &s->turn;
    uint32_t bytes = t->sink.size + (uint32_t)sizeof(struct entry_header);
    struct record *record = record_new(bytes);
    require(record != NULL); /* decided and applied: a restart recovers, nothing was acknowledged */
    *(struct entry_header *)(void *)s->entry_buffer = (struct entry_header){
        .time_ms = t->time_ms, .shard = s->options.id, .events_count = t->sink.events_count};
    memcpy(record->payload, s->entry_buffer, bytes);
    record->header.payload_bytes = bytes;
    record->header.type = RECORD_EVENTS;
    return record;
}

static void turn_submit(struct shard *s) {
    struct turn *t = &s->turn;
    struct record *record = turn_record(s);
    uint32_t bytes = record->header.payload_bytes;
    struct limbo_entry *entry = shard_limbo(s, t->index);
    require(entry->parts == NULL && entry->bytes == 0);
    require(t->index - s->commit_index < LIMBO_RING);
    entry->bytes = bytes;
    s->limbo_entries++;
    s->limbo_bytes += bytes;
    struct message_ack *acks = entry->acks;
    uint32_t capacity = entry->acks_capacity;
    entry->acks = t->acks;
    entry->acks_count = t->acks_count;
    entry->acks_capacity = t->acks_capacity;
    t->acks = acks;
    t->acks_capacity = capacity;
    t->acks_count = 0;

    s->applied_index = t->index;
    s->last_time_ms = t->time_ms;
    s->stats.entries++;
    s->stats.entry_bytes += bytes;
    struct consensus_update update = {0};
    int submitted = consensus_submit(s->consensus, record, s->mono_ms, &update);
    require(submitted == 0);
    require(update.records && update.records->header.index == t->index);
    shard_take_update(s, &update);
}

static void shard_turn_end(struct shard *s) {
    struct turn *t = &s->turn;
    if (!t->open) return;
    shard_news_finish(s);
    t->open = false;
    struct request_part *parts = t->parts;
    t->parts = NULL;
    t->submitted = t->read_round = 0;
    if (t->sink.events_count > 0) {
        turn_submit(s);
        t->submitted = t->index;
    }
    struct request_part *first = request_part_reversed(parts);
    while (first) {
        struct request_part *part = first;
        first = part->next;
        part->next = NULL;
        shard_gate_part(s, part);
    }
    t->submitted = t->read_round = 0;
}

static void shard_result_done(struct shard *s, struct request_part *part) {
    require(part->left > 0);
    if (--part->left > 0) return;
    part->next = s->turn.parts;
    s->turn.parts = part;
}

/* Applies what was decided behind `mark`. Without memory it is undone, and nothing has happened. */
static bool turn_apply(struct shard *s, enum actor_kind kind, uint32_t *slot, uint32_t mark) {
    struct event_sink *sink = &s->turn.sink;
    if (sink->size == mark) return true;
    uint32_t bytes = sink->size - mark;
    if (!shard_make_room(s, kind, slot, sink->data + mark, bytes)) return false;
    struct slot *sl = actor_table_slot(&s->table, *slot);
    if (kind == ACTOR_ORDER && !shard_news_reserve_order(s, sl->block)) return false;
    struct apply_context context = {s->turn.index, s->turn.time_ms};
    uint32_t offset = 0;
    const struct event *e;
    while ((e = event_next(sink->data + mark, bytes, &offset))) {
        struct event *logged = (struct event *)(void *)(sink->data + mark + offset - e->bytes);
        logged->state_before = sl->block->version ? sl->block->state : 0;
        bool was_open = sl->block->flags & ACTOR_OPEN;
        shard_apply_event(s, *slot, logged, &context);
        bool is_open = sl->block->flags & ACTOR_OPEN;
        if (kind == ACTOR_ORDER && was_open != is_open)
            shard_news_add_order(s, sl->block, is_open);
    }
    require(offset == bytes);
    return true;
}

static struct decision undo(struct shard *s, uint32_t mark, uint32_t events, uint16_t code,
                            uint32_t version) {
    s->turn.sink.size = mark;
    s->turn.sink.events_count = events;
    return (struct decision){.code = code, .version = version};
}

/* Asks the rules; what they would change is in the sink, and nothing is applied. */
static struct decision ask_actor(struct shard *s, const struct command *command,
                                 enum actor_kind kind, const struct actor *a) {
    struct turn *t = &s->turn;
    struct decide_context context = {.index = t->index, .now_ms = t->time_ms,
                                     .level = s->view.level};
    if (command->kind == COMMAND_PLACE)
        context.store_paused = shard_store_is_paused(s, command->place.store);
    return kind == ACTOR_ORDER   ? order_decide(a, command, &context, &t->sink)
           : kind == ACTOR_STORE ? store_decide(a, command, &context, &t->sink)
                                 : cluster_decide(a, command, &context, &t->sink);
}

/* No new command is taken now, for `refusal`. But what was acted on under this id before is told,
 * and waits until it is durable: "nothing was changed" would be a lie as soon as it is. */
static struct decision decide_unless_new(struct shard *s, const struct command *command,
                                         uint32_t slot, uint16_t refusal) {
    uint32_t mark = s->turn.sink.size, events = s->turn.sink.events_count;
    const struct actor *a = shard_actor(s, slot);
    if (!a) return (struct decision){.code = refusal};
    struct decision d = ask_actor(s, command, shard_command_kind(command->kind), a);
    return d.repeated && s->turn.sink.size == mark ? d : undo(s, mark, events, refusal, 0);
}

/* What was made for a command that lacks memory after all: left there, it would count as an order
 * or a store that there never was. */
static void give_back(struct shard *s, uint32_t slot) {
    if (slot != SLOT_NONE) actor_table_remove(&s->table, slot);
}

static struct decision decide_once(struct shard *s, const struct command *command,
                                   enum actor_kind kind, uint32_t *slot) {
    struct turn *t = &s->turn;
    uint32_t mark = t->sink.size, events = t->sink.events_count;
    const struct actor *a = shard_actor(s, *slot);
    uint32_t version = a ? a->version : 0;
    struct decision d = ask_actor(s, command, kind, a);
    if (t->sink.size == mark) return d;
    if (kind == ACTOR_STORE && !a && s->table.count[ACTOR_STORE] >= STORES_PER_SHARD_MAX)
        return undo(s, mark, events, RESULT_STORES_LIMIT_REACHED, 0);
    uint16_t code = RESULT_OK;
    uint32_t had = *slot, made = SLOT_NONE;
    if (command->kind == COMMAND_PLACE)
        code = shard_news_reserve(s, command->place.store, false, &made);
    if (kind == ACTOR_STORE) code = shard_news_reserve(s, command->store.store, true, &made);
    if (code == RESULT_OK && !turn_apply(s, kind, slot, mark)) code = RESULT_OUT_OF_MEMORY;
    if (code == RESULT_OK) return d;
    give_back(s, made);
    if (had == SLOT_NONE) {
        give_back(s, *slot);
        *slot = SLOT_NONE;
    }
    return undo(s, mark, events, code, version);
}

/* What overtook the place of an order is decided as soon as it is placed, oldest first, in the same
 * entry. (Before any other command too: memory may have lacked at the place itself.) */
static void resolve_held(struct shard *s, uint32_t *slot) {
    for (uint32_t i = 0; i < ORDER_HELD_MAX; i++) {
        const struct actor *a = shard_actor(s, *slot);
        if (!a || a->state == ORDER_AWAITED || order_held_count(a) == 0) return;
        struct command held = {.kind = COMMAND_RESOLVE_HELD, .subject = a->key};
        if (decide_once(s, &held, ACTOR_ORDER, slot).code == RESULT_OUT_OF_MEMORY) return;
    }
}

/* Decides `command` for its order's slot (SLOT_NONE = there is none); applies and logs. */
static struct decision shard_decide(struct shard *s, const struct command *command, uint32_t slot,
                                    uint32_t *slot_after) {
    enum actor_kind kind = shard_command_kind(command->kind);
    if (kind == ACTOR_ORDER) resolve_held(s, &slot);
    struct decision d = decide_once(s, command, kind, &slot);
    if (command->kind == COMMAND_PLACE) resolve_held(s, &slot);
    if (kind == ACTOR_STORE && d.code == RESULT_OK && !d.repeated &&
        command->kind != COMMAND_STORE_GET)
        shard_news_add_status(s, command->store.store, command->kind == COMMAND_STORE_PAUSE,
                              d.version);
    *slot_after = slot;
    return d;
}

static void read_value(struct shard *s, const struct command *command, const struct actor *a,
                       struct request_part *part, struct result *r) {
    if (command->kind == COMMAND_HISTORY) {
        r->value_kind = RESULT_VALUE_HISTORY;
        return;
    }
    /* What no reply could carry is not copied: many large orders in one message would fill the
     * memory. */
    if (part->value_bytes + a->bytes > REPLY_VALUES_BYTES_MAX) {
        r->code = RESULT_MESSAGE_TOO_LARGE;
        return;
    }
    part->value_bytes += a->bytes;
    r->value = shard_memory_fails(&s->memory) ? NULL : malloc(a->bytes);
    if (!r->value) {
        *r = (struct result){.code = RESULT_OUT_OF_MEMORY, .shard = s->options.id,
                             .retry_after_ms = TURN_RETRY_MS};
        return;
    }
    memcpy(r->value, a, a->bytes);
    r->value_bytes = a->bytes;
    r->value_kind = command->kind == COMMAND_STORE_GET     ? RESULT_VALUE_STORE
                    : command->kind == COMMAND_CLUSTER_GET ? RESULT_VALUE_CLUSTER
                                                           : RESULT_VALUE_ORDER;
}

/* Whatever the id: no attempt of these bytes can have been acted on here. */
static uint16_t early_answer(const struct shard *s, const struct command *command) {
    if (command->malformed) return command->malformed;
    /* The meta group has the cluster document and nothing else. */
    if (command_is_for_cluster(command->kind) != (s->options.id == SHARD_META))
        return RESULT_WRONG_SHARD;
    return RESULT_OK;
}

static bool is_put_off(uint16_t code) {
    return code >= RESULT_OVERLOADED && code <= RESULT_OUT_OF_MEMORY &&
           code != RESULT_DEADLINE_PASSED;
}

/* What stands before it in its message, of the same order, was told to come again: so is this, or
 * it would overtake that. (A full disk is nobody's to wait for, and reads go on.) */
static uint16_t answer_like_before(const struct request_part *part, uint32_t position) {
    const struct request *request = part->request;
    if (!part->put_off) return RESULT_OK;
    for (uint32_t i = 0; i < part->count; i++) {
        uint32_t before = request_part_position(part, i);
        if (before == position) break;
        uint16_t code = request->results[before].code;
        if (is_put_off(code) && code != RESULT_DISK_FULL &&
            id128_equal(&request->commands[before].subject, &request->commands[position].subject))
            return code;
    }
    return RESULT_OK;
}

/* Another shard has taken nothing of late, and the own disk is too slow, or stands still, for what
 * is sent to it to leave memory. */
static bool outbox_is_full(const struct shard *s) {
    return s->outbox.unstored >= OUTBOX_MESSAGES_MAX ||
           s->outbox.unstored_bytes >= OUTBOX_BYTES_MAX;
}

/* Why no new command is taken now, from what can be known without its actor. */
static uint16_t refusal_now(const struct shard *s, const struct request_part *part,
                            uint32_t position) {
    const struct request *request = part->request;
    if (s->draining) return RESULT_SHUTTING_DOWN;
    if (request->deadline_ms && s->now_ms > request->deadline_ms) return RESULT_DEADLINE_PASSED;
    if (!command_is_read(request->commands[position].kind)) {
        if (s->disk_full) return RESULT_DISK_FULL;
        if (outbox_is_full(s)) return RESULT_OVERLOADED;
    }
    return answer_like_before(part, position);
}

/* `refusal`: what a command gets that was not acted on before; RESULT_OK = it is decided. */
static void turn_decide(struct shard *s, struct request_part *part, uint32_t position,
                        uint32_t slot, uint16_t refusal) {
    const struct command *command = &part->request->commands[position];
    struct result *r = &part->request->results[position];
    bool reads = command_is_read(command->kind);
    struct decision d = refusal != RESULT_OK ? decide_unless_new(s, command, slot, refusal)
                                             : shard_decide(s, command, slot, &slot);
    const struct actor *a = shard_actor(s, slot);
    r->code = d.code;
    if (refusal != RESULT_OK && !d.repeated) return; /* it shows nothing, and waits for nothing */
    uint64_t shows = a ? a->last_index : 0;
    /* It would wait for as long as there is no room: nothing is lost by asking again. */
    if (reads && s->disk_full && shows > s->commit_index) {
        r->code = RESULT_DISK_FULL;
        return;
    }
    r->version = d.version;
    r->flags = d.repeated ? RESULT_FLAG_REPEATED : 0;
    r->index = shows;
    /* A pause that is not committed yet is not shown either. */
    if (d.code == RESULT_STORE_PAUSED) {
        uint64_t noted = shard_store_noted_at(s, command->place.store);
        if (noted > shows) shows = noted;
    }
    if (part->gate_index < shows) part->gate_index = shows;
    if (d.code == RESULT_OK && reads) read_value(s, command, a, part, r);
}

/* Whether the command now waits for its order to be loaded, or has its answer (*code) for lack of
 * room for that. What is decided and not durable is in memory: only a full disk, which may last for
 * days, has an order loaded to look for a command that is not taken anyway. */
static bool turn_load(struct shard *s, struct request_part *part, uint32_t position,
                      bool was_parked, uint32_t *slot, uint16_t refusal, uint16_t *code) {
    const struct command *command = &part->request->commands[position];
    enum actor_kind kind = shard_command_kind(command->kind);
    *slot = actor_table_find(&s->table, (uint8_t)kind, &command->subject);
    bool loading =
        *slot != SLOT_NONE && (actor_table_slot(&s->table, *slot)->flags & SLOT_LOADING);
    bool load = *slot == SLOT_NONE && kind == ACTOR_ORDER && !was_parked &&
                shard_may_be_stored(s, &command->subject);
    if (!load && !loading) return false;
    if (refusal != RESULT_OK && refusal != RESULT_DISK_FULL) {
        *code = refusal;
        return false;
    }
    if (load) *slot = shard_start_load(s, &command->subject);
    if (*slot != SLOT_NONE && shard_park(s, *slot, part, position)) return true;
    *code = RESULT_OVERLOADED;
    return false;
}

/* Fills the result of one command, unless it has to wait for its order to be loaded. */
static void turn_command(struct shard *s, struct request_part *part, uint32_t position,
                         bool was_parked) {
    const struct command *command = &part->request->commands[position];
    struct result *r = &part->request->results[position];
    uint32_t slot = SLOT_NONE;
    *r = (struct result){.shard = s->options.id};
    s->turn.commands++;
    r->code = early_answer(s, command);
    uint16_t refusal = r->code == RESULT_OK ? refusal_now(s, part, position) : RESULT_OK;
    if (refusal != RESULT_OK && command_is_read(command->kind)) r->code = refusal;
    if (r->code == RESULT_OK) {
        if (turn_load(s, part, position, was_parked, &slot, refusal, &r->code)) return;
    }
    if (r->code == RESULT_OK) {
        uint16_t growth = shard_growth_answer(s, command, slot);
        bool order = shard_command_kind(command->kind) == ACTOR_ORDER;
        /* A store that moves is not asked for what it remembers: that moves too. */
        if (growth != RESULT_OK && (!order || command_is_read(command->kind))) r->code = growth;
        else turn_decide(s, part, position, slot, refusal != RESULT_OK ? refusal : growth);
    }
    /* No waiting brings back a deadline that has passed. */
    if (is_put_off(r->code)) {
        part->put_off = true;
        r->retry_after_ms = TURN_RETRY_MS;
    }
    shard_count_result(s, command, r);
    shard_result_done(s, part);
}

/* Runs the commands that waited for their order, oldest first, before anything newer of the same
 * orders can come from the mailbox: while one is left, the slot stays "loading" and later ones
 * queue up behind it. */
static uint32_t shard_run_loaded(struct shard *s) {
    uint32_t done = 0, taken = 0;
    while (taken < s->loaded_count && shard_turn_has_room(s)) {
        uint32_t number = s->loaded[taken];
        struct slot *slot = actor_table_slot(&s->table, number);
        while (slot->next != 0 && shard_turn_has_room(s)) {
            shard_turn_begin(s);
            struct parked parked = shard_unpark(s, slot);
            slot->flags &= ~(uint32_t)SLOT_LOADING;
            turn_command(s, parked.part, parked.position, true);
            if (slot->next != 0) slot->flags |= SLOT_LOADING;
            done++;
        }
        if (slot->next != 0) break;
        slot->flags &= ~(uint32_t)SLOT_LOADING;
        if (slot->block->version == 0) actor_table_remove(&s->table, number); /* was never stored */
        taken++;
    }
    if (taken == 0) return done;
    memmove(s->loaded, s->loaded + taken, (s->loaded_count - taken) * sizeof *s->loaded);
    s->loaded_count -= taken;
    return done;
}

static uint32_t turn_timers(struct shard *s) {
    uint32_t fired = 0, slot;
    int64_t due;
    while (s->timers_stale == 0 && (due = timer_heap_first(&s->timers, &slot)) != 0 &&
           due <= s->now_ms && !s->disk_full && shard_turn_has_room(s)) {
        shard_turn_begin(s);
        const struct actor *a = actor_table_slot(&s->table, slot)->block;
        uint32_t version = a->version;
        struct command command = {.kind = COMMAND_TIMER_DUE, .subject = a->key};
        struct decision d = shard_decide(s, &command, slot, &slot);
        s->turn.commands++;
        if (d.code == RESULT_OUT_OF_MEMORY) break; /* tried again in the next round */
        /* A deadline that is due and changes nothing would fire for ever. (It need not move: what
         * an order waits for next may be due in the same millisecond.) */
        require(d.code == RESULT_OK && shard_actor(s, slot)->version > version);
        fired++;
    }
    s->stats.timers_fired += fired;
    return fired;
}

static void prefetch_orders(struct shard *s, const struct request_part *part, uint32_t from) {
    const struct id128 *keys[ACTOR_TABLE_PREFETCH_MAX];
    const struct slot *slots[ACTOR_TABLE_PREFETCH_MAX];
    uint32_t count = 0;
    for (uint32_t i = from; i < part->count && count < ACTOR_TABLE_PREFETCH_MAX; i++)
        keys[count++] = &part->request->commands[request_part_position(part, i)].subject;
    actor_table_prefetch(&s->table, keys, count, slots);
    timer_heap_prefetch(&s->timers, slots, count);
}

static uint32_t turn_mailbox(struct shard *s) {
    uint32_t done = 0;
    struct request_part *part;
    while (shard_turn_has_room(s) && (part = mailbox_peek(&s->mailbox))) {
        shard_turn_begin(s);
        if (part->left == 0) { /* the first look at it */
            part->left = part->count;
            part->gate_index = 0;
        }
        /* A part is decided in one go when it fits, and that is what a turn is sized for; a part
         * that does not fit any more goes on in the next turn where it stopped. */
        uint32_t i = s->part_position;
        for (; i < part->count && shard_turn_has_room(s); i++) {
            if (i % ACTOR_TABLE_PREFETCH_MAX == 0) prefetch_orders(s, part, i);
            uint32_t position = request_part_position(part, i);
            bool last = i + 1 == part->count;
            if (last) {
                mailbox_take(&s->mailbox);
                s->part_position = 0;
            }
            turn_command(s, part, position, false);
            done++;
            if (last) {
                part = NULL;
                break;
            }
        }
        if (part) {
            s->part_position = i;
            break;
        }
    }
    return done;
}

/* While an entry is being written the next one would only wait behind it: what comes meanwhile
 * gathers into one entry, one write at each replica and one message to each peer, instead of many.
 * A majority that is faster than the own disk is not waited for, and a slow network holds nothing
 * up here; nor does a disk that stands still, for there are reads to answer. */
static bool turn_gathers(struct shard *s) {
    uint64_t written = consensus_durable_index(s->consensus);
    if (written < s->commit_index) written = s->commit_index;
    if (s->alone || s->disk_full || s->applied_index <= written) {
        s->gathering_since_ms = 0;
        return false;
    }
    if (s->gathering_since_ms == 0) s->gathering_since_ms = s->mono_ms;
    if (s->mono_ms - s->gathering_since_ms < TURN_GATHER_MS_MAX) return true;
    s->gathering_since_ms = s->mono_ms;
    return false;
}

/* What has nothing to do with commands. As a rule it finds room behind them; while these fill each
 * turn it comes first in every other one. */
static uint32_t turn_others(struct shard *s) {
    uint32_t done = shard_messages(s);
    return done + shard_grow(s);
}

uint32_t shard_turns(struct shard *s) {
    if (s->phase != SHARD_SERVING) return 0;
    if (s->steward.target != 0 || consensus_transferee(s->consensus) != 0) return 0;
    if (turn_gathers(s)) return 0;
    uint32_t done = shard_learn(s);
    done += shard_set_stale_timers(s);
    done += shard_run_loaded(s);
    done += turn_timers(s);
    bool others_first = s->crowded;
    if (others_first) done += turn_others(s);
    uint32_t commands = turn_mailbox(s);
    s->crowded = !others_first && commands > 0 && !shard_turn_has_room(s);
    if (!others_first) done += turn_others(s);
    shard_turn_end(s);
    return done + commands;
}
