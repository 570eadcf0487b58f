/* What consensus says -> what storage does; what is committed -> the replies that waited for it. */
#include "engine/shard/shard_internal.h"

struct limbo_entry *shard_limbo(struct shard *s, uint64_t index) {
    return &s->limbo[index & (LIMBO_RING - 1)];
}

static bool part_has_history(const struct request_part *part) {
    for (uint32_t i = 0; i < part->count; i++) {
        const struct result *r = &part->request->results[request_part_position(part, i)];
        if (r->value_kind == RESULT_VALUE_HISTORY) return true;
    }
    return false;
}

static void part_release(struct shard *s, struct request_part *part) {
    struct request *request = part->request;
    s->rate_commands += part->count;
    mailbox_consumed(&s->mailbox, part->count, part->bytes);
    if (!part_has_history(part)) {
        request_part_done(part);
        return;
    }
    if (s->options.read_history) {
        if (s->options.read_history(s->options.read_history_arg, s, part)) return;
    }
    for (uint32_t i = 0; i < part->count; i++) {
        uint32_t position = request_part_position(part, i);
        struct result *r = &request->results[position];
        if (r->value_kind != RESULT_VALUE_HISTORY) continue;
        if (s->options.read_history) {
            *r = (struct result){.code = RESULT_OVERLOADED, .shard = s->options.id,
                                 .retry_after_ms = 100};
        } else {
            history_read(s->options.storage, part, position);
        }
    }
    request_part_done(part);
}

/* Everything in `part` is decided. It is answered once its newest effect is committed: at once for
 * what touched nothing uncommitted. */
void shard_gate_part(struct shard *s, struct request_part *part) {
#ifdef JUMUN_DEBUG_CHECKS
    if (s->replies_early) part->gate_index = 0;
#endif
    if (part->gate_index <= s->commit_index) {
        part_release(s, part);
        return;
    }
    struct limbo_entry *entry = shard_limbo(s, part->gate_index);
    part->next = entry->parts;
    entry->parts = part;
}

static void limbo_commit(struct shard *s, uint64_t index) {
    struct limbo_entry *entry = shard_limbo(s, index);
    /* First decided, first answered. */
    struct request_part *first = request_part_reversed(entry->parts);
    entry->parts = NULL;
    while (first) {
        struct request_part *part = first;
        first = part->next;
        part->next = NULL;
        part_release(s, part);
    }
    for (uint32_t i = 0; i < entry->acks_count; i++)
        s->options.courier->acknowledge(s->options.courier, s->options.id, entry->acks[i].peer,
                                        entry->acks[i].sequence);
    entry->acks_count = 0;
    if (entry->bytes) {
        s->limbo_entries--;
        s->limbo_bytes -= entry->bytes;
        entry->bytes = 0;
    }
}

void shard_take_update(struct shard *s, const struct consensus_update *u) {
    if (u->vote_changed) {
        s->options.storage->ops->save_vote(s->options.storage, u->term, u->voted_for);
    }
    if (u->records) s->options.storage->ops->append(s->options.storage, u->records);
    if (u->role_changed) {
        s->stats.role = u->role;
        /* With one voter the role is never lost while the process lives. A leader that loses its
         * term forgets its memory: that comes with the code that lets it have peers. */
        require(implies(s->phase == SHARD_SERVING, u->role == CONSENSUS_LEADER));
    }
    if (u->ready) s->ready = true;
    s->consensus_timeout_ms = u->timeout_ms;
    require(u->commit_index >= s->commit_index);
    while (s->commit_index < u->commit_index) {
        s->commit_index++;
        limbo_commit(s, s->commit_index);
    }
    if (s->commit_index > atomic_load_explicit(&s->commit_published, memory_order_relaxed))
        atomic_store_explicit(&s->commit_published, s->commit_index, memory_order_release);
}
