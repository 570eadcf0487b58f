/* A leader that loses its term forgets its memory: what waits is answered, what the storage has
 * under way is awaited, and then the replica recovers by the code that runs at the start. What it
 * had decided may be committed by the next leader, or vanish. */
#include <inttypes.h>

#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

enum { LEADER_UNKNOWN_RETRY_MS = 20 };

static void refuse_command(struct shard *s, struct request_part *part, uint32_t position,
                           uint16_t code) {
    struct result *r = &part->request->results[position];
    *r = (struct result){.code = code, .shard = s->options.id};
    if (code == RESULT_NOT_LEADER) {
        r->leader_node = shard_leader_node(s);
        r->retry_after_ms = r->leader_node ? 0 : LEADER_UNKNOWN_RETRY_MS;
    }
    shard_count_result(s, &part->request->commands[position], r);
}

uint32_t shard_refuse_mailbox(struct shard *s, uint16_t code,
                              void (*finish)(struct shard *s, struct request_part *part)) {
    uint32_t done = 0;
    struct request_part *part;
    while ((part = mailbox_take(&s->mailbox))) {
        /* What it has decided of a part before stands, or is judged by `finish`. */
        uint32_t from = s->part_position, count = part->count;
        s->part_position = 0;
        if (from == 0) {
            part->left = part->count;
            part->gate_index = 0;
        }
        done += count - from;
        for (uint32_t i = from; i < count; i++) {
            refuse_command(s, part, request_part_position(part, i), code);
            if (--part->left == 0) finish(s, part);
        }
    }
    return done;
}

/* -- what waits when the lead is lost ---------------------------------------------------------- */

/* Decided and not known to be committed: nobody here can say what becomes of it. What only shows
 * something changed nothing, and can be asked anew; what was refused for its form stays refused. */
static void lose_result(struct shard *s, const struct command *command, struct result *r) {
    bool form = r->code != RESULT_OK && r->code != RESULT_HELD &&
                r->code < RESULT_ORDER_NOT_FOUND && r->index == 0;
    if (form) return;
    bool acted = !command_is_read(command->kind) && r->code <= RESULT_HELD;
    free(r->value);
    *r = (struct result){.code = acted ? RESULT_LEADERSHIP_LOST : RESULT_NOT_LEADER,
                         .shard = s->options.id, .leader_node = shard_leader_node(s)};
    r->retry_after_ms = r->leader_node ? 0 : LEADER_UNKNOWN_RETRY_MS;
    if (command->uncounted) return;
    s->stats.refused++;
    s->stats.refused_by_code[r->code]++;
}

static void part_lost(struct shard *s, struct request_part *part) {
    for (uint32_t i = 0; i < part->count; i++) {
        uint32_t position = request_part_position(part, i);
        lose_result(s, &part->request->commands[position], &part->request->results[position]);
    }
    mailbox_consumed(&s->mailbox, part->count, part->bytes);
    request_part_done(part);
}

static void parts_lost(struct shard *s, struct request_part **list) {
    struct request_part *first = *list;
    *list = NULL;
    while (first) {
        struct request_part *part = first;
        first = part->next;
        part->next = NULL;
        part_lost(s, part);
    }
}

void shard_answer_lost(struct shard *s) {
    require(!s->turn.open && !s->turn.parts);
    for (uint32_t p = 1; p <= PARKED_COMMANDS_MAX && s->parked_count > 0; p++) {
        struct request_part *part = s->parked[p].part;
        if (!part) continue;
        refuse_command(s, part, s->parked[p].position, RESULT_NOT_LEADER);
        s->parked[p].part = NULL;
        s->parked_count--;
        if (--part->left == 0) part_lost(s, part);
    }
    require(s->parked_count == 0);
    shard_init_parked(s);
    s->loaded_count = 0;
    shard_refuse_mailbox(s, RESULT_NOT_LEADER, part_lost);
    parts_lost(s, &s->reads);
    s->reads_last = NULL;
    s->undurable = request_part_reversed(s->undurable);
    parts_lost(s, &s->undurable);
    /* Oldest first. */
    uint64_t from = s->applied_index < LIMBO_RING ? 0 : s->applied_index - LIMBO_RING;
    for (uint64_t index = from + 1; index <= from + LIMBO_RING; index++) {
        struct limbo_entry *entry = shard_limbo(s, index);
        entry->parts = request_part_reversed(entry->parts);
        parts_lost(s, &entry->parts);
        entry->acks_count = 0;
        entry->bytes = 0;
    }
    s->limbo_entries = 0;
    s->limbo_bytes = 0;
}

/* -- forgetting -------------------------------------------------------------------------------- */

bool shard_storage_is_quiet(const struct shard *s) {
    return s->checkpoint.phase != CHECKPOINT_WRITING && s->loads_waiting == 0 &&
           !s->timers_loading;
}

static void forget_checkpoint(struct shard *s) {
    struct checkpoint_work *w = &s->checkpoint;
    require(w->phase != CHECKPOINT_WRITING);
    w->data.items_count = 0;
    w->data.blocks_bytes = 0;
    w->data.cursors_count = 0;
    w->copy_index = 0;
    w->phase = CHECKPOINT_IDLE;
    s->dirty.head = s->dirty.count = 0;
    s->dirty_stores_count = 0;
}

bool shard_forget(struct shard *s) {
    require(shard_storage_is_quiet(s) && s->limbo_entries == 0 && s->parked_count == 0);
    require(s->turn.news.count == 0 && s->turn.news.status_count == 0);
    forget_checkpoint(s);
    timer_heap_fini(&s->timers);
    actor_table_fini(&s->table);
    s->no_memory = !actor_table_init(&s->table, &s->memory);
    timer_heap_init(&s->timers, &s->table);
    outbox_forget(&s->outbox);
    s->growth = (struct growth){0};
    s->checkpoint_acknowledged = s->outbox.acknowledged;
    shard_free_queues(s);
    s->loaded_count = 0;
    s->visitors_head = s->visitors_count = 0;
    s->clock_hand = 0;
    s->timers_lag = false;
    s->timers_stale = 0;
    s->unloaded_birth_max_ms = 0;
    s->timers_loaded_to_ms = s->timers_from_ms = 0;
    s->paused_stores = 0;
    s->last_time_ms = 0;
    s->stores_index = s->replay_index = 0;
    memset(s->totals, 0, sizeof s->totals);
    s->deposed = false;
    return !s->no_memory;
}

static uint32_t forget_and_load(struct shard *s) {
    char error[256] = "";
    if (shard_forget(s) && shard_load_state(s, error, sizeof error)) return 1;
    if (s->no_memory) {
        log_warn("shard %u: no memory to recover: it tries again", s->options.id);
        shard_forget_after(s, SHARD_NO_MEMORY_RETRY_MS);
    } else {
        log_error("shard %u: %s", s->options.id, error);
        shard_fail(s);
    }
    return 1;
}

/* What was decided is forgotten once the storage reads and writes nothing for it any more. */
void shard_forget_after(struct shard *s, int64_t ms) {
    s->phase = SHARD_FORGETTING;
    s->forget_ms = s->mono_ms + ms;
}

uint32_t shard_check_role(struct shard *s) {
    if (s->phase == SHARD_SERVING && s->deposed) {
        char leader[24] = "nobody known yet";
        if (shard_leader_node(s) != 0) snprintf(leader, sizeof leader, "node %u",
                                                shard_leader_node(s));
        log_info("shard %u: it does not lead any more: term %" PRIu64 ", led by %s",
                 s->options.id, consensus_term(s->consensus), leader);
        shard_answer_lost(s);
        shard_forget_after(s, 0);
        s->published_ms = 0;
    }
    if (s->phase != SHARD_FORGETTING || s->mono_ms < s->forget_ms || !shard_storage_is_quiet(s))
        return 0;
    return forget_and_load(s);
}
