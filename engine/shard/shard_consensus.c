/* What consensus says -> what storage and peers do; what is committed -> the replies that waited
 * for it. */
#include "engine/shard/shard_internal.h"

enum { COMMITS_STAND_MS = 500 }; /* a machine that has too much to do pauses for less */

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

/* Gives the answer. */
static void shard_release_part(struct shard *s, struct request_part *part) {
    struct request *request = part->request;
    bool history = part_has_history(part);
    /* The others may have committed what this disk has not got yet. */
    if (history && !s->alone && part->gate_index > consensus_durable_index(s->consensus)) {
        part->next = s->undurable;
        s->undurable = part;
        return;
    }
    s->rate_commands += part->count;
    mailbox_consumed(&s->mailbox, part->count, part->bytes);
    if (!history) {
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

void shard_release_undurable(struct shard *s) {
    struct request_part *first = request_part_reversed(s->undurable);
    s->undurable = NULL;
    while (first) {
        struct request_part *part = first;
        first = part->next;
        part->next = NULL;
        shard_release_part(s, part);
    }
}

static void part_await_commit(struct shard *s, struct request_part *part) {
#ifdef JUMUN_DEBUG_CHECKS
    if (s->replies_early) part->gate_index = 0;
#endif
    if (part->gate_index <= s->commit_index) {
        shard_release_part(s, part);
        return;
    }
    struct limbo_entry *entry = shard_limbo(s, part->gate_index);
    part->next = entry->parts;
    entry->parts = part;
}

/* A leader that is none any more, and does not know it yet, has an old state to show: what it shows
 * waits until a majority has said that it still leads. The commit of an entry that was submitted
 * after the decision says the same. */
static bool part_needs_read(const struct shard *s, const struct request_part *part) {
#ifdef JUMUN_DEBUG_CHECKS
    if (s->reads_alone) return false;
#endif
    if (s->alone || s->phase != SHARD_SERVING) return false;
    return s->turn.submitted == 0 || part->gate_index < s->turn.submitted;
}

void shard_gate_part(struct shard *s, struct request_part *part) {
    if (!part_needs_read(s, part)) {
        part_await_commit(s, part);
        return;
    }
    uint64_t round = s->turn.read_round;
    if (round == 0) {
        struct consensus_update update = {0};
        round = consensus_read(s->consensus, s->mono_ms, &update);
        if (round == 0) round = UINT64_MAX; /* the lead is lost: answered with all the others */
        shard_take_update(s, &update);
        s->turn.read_round = round;
    }
    part->gate_read = round;
    if (round <= s->reads_confirmed) {
        part_await_commit(s, part);
        return;
    }
    part->next = NULL;
    if (s->reads_last) s->reads_last->next = part;
    else s->reads = part;
    s->reads_last = part;
}

static void release_reads(struct shard *s) {
    struct request_part *part;
    while ((part = s->reads) && part->gate_read <= s->reads_confirmed) {
        s->reads = part->next;
        if (!s->reads) s->reads_last = NULL;
        part->next = NULL;
        part_await_commit(s, part);
    }
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
        shard_release_part(s, part);
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

/* For other threads, before anybody is answered. While a peer's state is installed nothing is
 * durable; what was stays true. */
static void note_settled(struct shard *s, uint64_t commit_index) {
    uint64_t durable = consensus_durable_index(s->consensus);
    uint64_t index = durable < commit_index ? durable : commit_index;
    if (index <= s->settled.index) return;
    uint64_t term = consensus_term_of(s->consensus, index);
    if (term == 0) return;
    pthread_mutex_lock(&s->published_lock);
    s->settled.index = index;
    s->settled.term = term;
    pthread_mutex_unlock(&s->published_lock);
}

/* What this replica has decided is committed only as long as it leads, in the term in which it
 * decided: a new leader may have put something else in the same place. */
static void take_commit(struct shard *s, const struct consensus_update *u) {
    require(u->commit_index >= s->commit_index);
    note_settled(s, u->commit_index);
    if (u->commit_index > atomic_load_explicit(&s->commit_published, memory_order_relaxed)) {
        /* By the clock of this round, which began before: nothing seems younger than it is. */
        commit_times_note(&s->commit_times, u->commit_index, s->now_ms);
        atomic_store_explicit(&s->commit_published, u->commit_index, memory_order_release);
    }
    if (s->phase != SHARD_SERVING || s->deposed) {
        s->commit_index = u->commit_index;
        return;
    }
    while (s->commit_index < u->commit_index) {
        s->commit_index++;
        limbo_commit(s, s->commit_index);
    }
    if (u->reads_confirmed > s->reads_confirmed) {
        s->reads_confirmed = u->reads_confirmed;
        release_reads(s);
    }
}

/* Whether nothing is committed although something waits for it: the group may need whoever lags. */
static bool commits_stand_still(struct shard *s) {
    uint64_t waiting = consensus_last_index(s->consensus);
    if (waiting == s->commit_index || s->commit_index != s->commit_seen) s->commit_ms = s->mono_ms;
    s->commit_seen = s->commit_index;
    return s->mono_ms - s->commit_ms >= COMMITS_STAND_MS;
}

/* A follower that is far behind what the others have committed without it keeps nobody waiting. */
static bool is_for_a_far_one(const struct shard *s, const struct consensus_message *m) {
    return m->kind == CONSENSUS_APPEND && m->records_count > 0 &&
           m->previous_index + FOLLOWER_FAR_ENTRIES <= m->commit_index &&
           m->previous_index + m->records_count <= consensus_durable_index(s->consensus);
}

/* It is sent what it lacks from the log, at the pace that the peers keep to: from memory the last
 * stretch of its way would go out in one burst, in front of running traffic. What consensus has cut
 * by its size is one again. */
static void send_messages(struct shard *s, const struct consensus_update *u) {
    struct peers *peers = s->options.peers;
    bool paced = !commits_stand_still(s);
    for (uint32_t i = 0; i < u->messages_count; i++) {
        struct consensus_message m = u->messages[i];
        bool far = paced && is_for_a_far_one(s, &m);
        if (far) m.records = NULL;
        for (; far && i + 1 < u->messages_count; i++) {
            const struct consensus_message *next = &u->messages[i + 1];
            uint64_t end = m.previous_index + m.records_count;
            if (next->to != m.to || next->previous_index != end || !is_for_a_far_one(s, next))
                break;
            m.records_count += next->records_count;
        }
        peers->send(peers, s->options.id, s->options.storage, &m);
    }
}

void shard_take_update(struct shard *s, const struct consensus_update *u) {
    struct storage *storage = s->options.storage;
    if (u->vote_changed) storage->ops->save_vote(storage, u->term, u->voted_for);
    if (u->records) {
        uint64_t sequence = storage->ops->append(storage, u->records);
        require(sequence == s->appends_before + u->batch);
    }
    if (s->options.peers) send_messages(s, u);
    if (u->role_changed) s->stats.role = u->role;
    s->ready = u->ready;
    s->consensus_timeout_ms = u->timeout_ms;
    if (s->phase == SHARD_SERVING && (u->role != CONSENSUS_LEADER || u->term != s->serving_term))
        s->deposed = true;
    take_commit(s, u);
}
