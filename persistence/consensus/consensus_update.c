/* One raft_step() and everything that comes out of it (rule G1: flags, order, memory).
 *
 * The memory rules here are those of libraft 0.22.1; later versions differ, and only this file and
 * consensus_receive.c would have to change. */
#include <stdio.h>
#include <stdlib.h>

#include "persistence/consensus/consensus_private.h"

struct raft_event consensus_event(const struct consensus *c, enum raft_event_type type) {
    struct raft_event event;
    memset(&event, 0, sizeof event);
    event.time = (raft_time)c->now_ms;
    event.type = type;
    return event;
}

struct raft_entry *consensus_scratch(struct consensus *c, uint32_t count) {
    if (count > c->entries_capacity) {
        uint32_t capacity = count < 64 ? 64 : 2 * count;
        free(c->entries);
        free(c->sources);
        c->entries = calloc(capacity, sizeof *c->entries);
        c->sources = calloc(capacity, sizeof(struct record *));
        require(c->entries != NULL && c->sources != NULL);
        c->entries_capacity = capacity;
    }
    memset(c->entries, 0, count * sizeof *c->entries);
    return c->entries;
}

/* -- the tail: newest records, for peers ------------------------------------------------------- */

static void consensus_tail_drop_oldest(struct consensus_tail *tail) {
    struct record *oldest = tail->records[tail->head];
    tail->bytes -= oldest->header.payload_bytes;
    record_release(oldest);
    tail->head = (tail->head + 1) % tail->capacity;
    tail->count--;
    tail->first = tail->count > 0 ? tail->first + 1 : 0;
}

static void consensus_tail_grow(struct consensus_tail *tail) {
    uint32_t capacity = tail->capacity ? 2 * tail->capacity : CONSENSUS_TAIL_ENTRIES_MAX;
    struct record **grown = calloc(capacity, sizeof(struct record *));
    require(grown != NULL);
    for (uint32_t i = 0; i < tail->count; i++) {
        grown[i] = tail->records[(tail->head + i) % tail->capacity];
    }
    free(tail->records);
    tail->records = grown;
    tail->capacity = capacity;
    tail->head = 0;
}

static void consensus_tail_drop_newest(struct consensus_tail *tail) {
    uint32_t at = (tail->head + tail->count - 1) % tail->capacity;
    tail->bytes -= tail->records[at]->header.payload_bytes;
    record_release(tail->records[at]);
    tail->count--;
    if (tail->count == 0) tail->first = 0;
}

void consensus_tail_clear(struct consensus *c) {
    while (c->tail.count > 0) consensus_tail_drop_newest(&c->tail);
    free(c->tail.records);
    c->tail.records = NULL;
    c->tail.capacity = 0;
}

const struct record *consensus_tail_at(const struct consensus *c, uint64_t index) {
    const struct consensus_tail *tail = &c->tail;
    if (tail->count == 0 || index < tail->first || index >= tail->first + tail->count) return NULL;
    return tail->records[(tail->head + (index - tail->first)) % tail->capacity];
}

static void consensus_tail_add(struct consensus *c, struct record *record) {
    struct consensus_tail *tail = &c->tail;
    uint64_t index = record->header.index;
    /* A server alone never sends: it keeps nothing. */
    if (c->raft.configuration.n < 2) {
        while (tail->count > 0) consensus_tail_drop_newest(tail);
        return;
    }
    while (tail->count > 0 && tail->first + tail->count > index) consensus_tail_drop_newest(tail);
    if (tail->count > 0 && tail->first + tail->count != index) {
        while (tail->count > 0) consensus_tail_drop_newest(tail);
    }
    /* What is not durable cannot be read from the log: it stays, whatever the bounds say. */
    while (tail->count > 0 && tail->first <= c->raft.last_stored &&
           (tail->count >= CONSENSUS_TAIL_ENTRIES_MAX || tail->bytes > CONSENSUS_TAIL_BYTES_MAX)) {
        consensus_tail_drop_oldest(tail);
    }
    if (tail->count == tail->capacity) consensus_tail_grow(tail);
    if (tail->count == 0) {
        tail->first = index;
        tail->head = 0;
    }
    record_hold(record);
    tail->records[(tail->head + tail->count++) % tail->capacity] = record;
    tail->bytes += record->header.payload_bytes;
}

/* -- entries ----------------------------------------------------------------------------------- */

/* The election's no-op is written by the library itself; its memory becomes ours. */
static struct record *consensus_library_barrier(struct raft_entry *entry) {
    require(entry->type == RAFT_BARRIER && entry->batch != NULL);
    struct record *record = record_new((uint32_t)entry->buf.len);
    require(record != NULL);
    memcpy(record->payload, entry->buf.base, entry->buf.len);
    record->header.payload_bytes = (uint32_t)entry->buf.len;
    record->header.type = RECORD_BARRIER;
    raft_free(entry->batch);
    return record;
}

static void consensus_take_records(struct consensus *c, const struct raft_update *out,
                                   struct record *const *sources, struct consensus_update *update) {
    struct raft *raft = &c->raft;
    bool own_barrier = out->entries.batch == &raft->barrier;
    uint64_t index = out->entries.index;
    size_t skipped = own_barrier ? 0 : (size_t)(out->entries.batch - c->entries);
    /* Applied records cannot be taken back: whoever orders that has broken safety. */
    require(index > c->commit_index);
    if (update->records == NULL) {
        consensus_rule_4_truncated(c, index);
        update->batch = ++c->batch_number;
    } else {
        require(index == c->records_last->header.index + 1);
    }
    for (unsigned i = 0; i < out->entries.n; i++, index++) {
        struct raft_entry *entry = &out->entries.batch[i];
        struct record *record =
            own_barrier ? consensus_library_barrier(entry) : sources[skipped + i];
        record->header.index = index;
        record->header.term = entry->term;
        record->header.format = RECORD_FORMAT;
        record->next = NULL;
        if (update->records == NULL) {
            update->records = record;
        } else {
            c->records_last->next = record;
        }
        c->records_last = record;
        if (record->header.type == RECORD_BARRIER && raft->state == RAFT_LEADER) {
            c->barrier_index = index;
            c->barrier_term = entry->term;
        }
        consensus_tail_add(c, record);
    }
}

/* -- messages ---------------------------------------------------------------------------------- */

struct consensus_message *consensus_add_message(struct consensus *c) {
    if (c->messages_count == c->messages_capacity) {
        uint32_t capacity = c->messages_capacity ? 2 * c->messages_capacity : 16;
        c->messages = realloc(c->messages, capacity * sizeof *c->messages);
        require(c->messages != NULL);
        c->messages_capacity = capacity;
    }
    struct consensus_message *m = &c->messages[c->messages_count++];
    memset(m, 0, sizeof *m);
    return m;
}

static void consensus_add_message_record(struct consensus *c, const struct record *record) {
    if (c->message_records_count == c->message_records_capacity) {
        uint32_t capacity = c->message_records_capacity ? 2 * c->message_records_capacity : 64;
        c->message_records = realloc(c->message_records, capacity * sizeof *c->message_records);
        require(c->message_records != NULL);
        c->message_records_capacity = capacity;
    }
    struct record *held = (struct record *)(uintptr_t)record;
    record_hold(held);
    c->message_records[c->message_records_count++] = held;
}

/* Appends are bounded by entries in the library and by bytes here: what is too much goes into
 * messages of its own, each chained to the one before. */
static void consensus_send_append(struct consensus *c, const struct raft_message *m) {
    const struct raft_append_entries *a = &m->append_entries;
    uint64_t previous_index = a->prev_log_index, previous_term = a->prev_log_term;
    unsigned left = a->n_entries;
    do {
        struct consensus_message *out = consensus_add_message(c);
        out->kind = CONSENSUS_APPEND;
        out->version = a->version;
        out->from = c->raft.id;
        out->to = m->server_id;
        out->term = a->term;
        out->previous_index = previous_index;
        out->previous_term = previous_term;
        out->commit_index = a->leader_commit;
        uint64_t bytes = 0;
        const struct record *record = NULL;
        while (left > 0 && (record = consensus_tail_at(c, previous_index + 1)) != NULL) {
            bytes += record->header.payload_bytes;
            if (out->records_count > 0 && bytes > CONSENSUS_MESSAGE_BYTES_MAX) break;
            consensus_add_message_record(c, record);
            out->records = c->message_records; /* its place is set by consensus_end() */
            out->records_count++;
            previous_index++;
            previous_term = record->header.term;
            left--;
        }
        if (left > 0 && record == NULL) {
            /* Not in memory, so it is durable: the caller reads it from its log. The tail has no
             * holes: only the oldest of these can be missing. */
            require(out->records_count == 0);
            uint32_t missing = left;
            if (c->tail.count > 0 && c->tail.first <= previous_index + left) {
                missing = (uint32_t)(c->tail.first - previous_index - 1);
            }
            require(missing > 0 && previous_index + missing <= c->raft.last_stored);
            out->records_count = missing;
            previous_index += missing;
            previous_term = consensus_term_of(c, previous_index);
            left -= missing;
        }
    } while (left > 0);
}

static void consensus_send(struct consensus *c, const struct raft_message *m) {
    /* A follower that forgot its leader (E4) still answers to its address. */
    if (m->server_id == 0) return;
    if (m->type == RAFT_APPEND_ENTRIES) {
        consensus_send_append(c, m);
        return;
    }
    struct consensus_message *out = consensus_add_message(c);
    out->kind = (uint8_t)m->type;
    out->from = c->raft.id;
    out->to = m->server_id;
    switch (m->type) {
    case RAFT_APPEND_ENTRIES_RESULT:
        out->version = m->append_entries_result.version;
        out->term = m->append_entries_result.term;
        out->rejected = m->append_entries_result.rejected;
        out->last_index = m->append_entries_result.last_log_index;
        out->features = m->append_entries_result.features;
        out->capacity = m->append_entries_result.capacity;
        break;
    case RAFT_REQUEST_VOTE:
        out->version = m->request_vote.version;
        out->term = m->request_vote.term;
        out->last_index = m->request_vote.last_log_index;
        out->last_term = m->request_vote.last_log_term;
        out->disrupt_leader = m->request_vote.disrupt_leader;
        out->pre_vote = m->request_vote.pre_vote;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        out->version = m->request_vote_result.version;
        out->term = m->request_vote_result.term;
        out->granted = m->request_vote_result.vote_granted;
        out->pre_vote = m->request_vote_result.pre_vote;
        out->features = m->request_vote_result.features;
        out->capacity = m->request_vote_result.capacity;
        consensus_rule_e1_refusal_term(c, out);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        out->version = m->install_snapshot.version;
        out->term = m->install_snapshot.term;
        out->last_index = m->install_snapshot.last_index;
        out->last_term = m->install_snapshot.last_term;
        out->configuration_index = m->install_snapshot.conf_index;
        out->previous_index = consensus_reach(c);
        consensus_rule_r6_snapshot_asked(c, out);
        break;
    case RAFT_TIMEOUT_NOW:
        out->version = m->timeout_now.version;
        out->term = m->timeout_now.term;
        out->last_index = m->timeout_now.last_log_index;
        out->last_term = m->timeout_now.last_log_term;
        break;
    default:
        impossible("raft sends a message of unknown type");
    }
}

/* -- the call ---------------------------------------------------------------------------------- */

void consensus_begin(struct consensus *c, int64_t now_ms, struct consensus_update *update) {
    memset(update, 0, sizeof *update);
    if (now_ms > c->now_ms) c->now_ms = now_ms;
    for (uint32_t i = 0; i < c->message_records_count; i++) record_release(c->message_records[i]);
    c->message_records_count = 0;
    c->messages_count = 0;
    c->records_last = NULL;
}

static bool consensus_refusal_is_normal(const struct raft_event *event, int rv) {
    if (event->type == RAFT_SUBMIT) {
        return rv == RAFT_NOTLEADER || rv == RAFT_CANTCHANGE || rv == RAFT_NOSPACE ||
               rv == RAFT_MALFORMED;
    }
    if (event->type == RAFT_TRANSFER) {
        return rv == RAFT_NOTLEADER || rv == RAFT_BADID || rv == RAFT_NOTFOUND;
    }
    return false;
}

int consensus_step(struct consensus *c, struct raft_event *event, struct record *const *sources,
                   struct consensus_update *update) {
    struct raft_update out;
    memset(&out, 0, sizeof out);
    uint64_t term_before = raft_current_term(&c->raft);
    int rv = raft_step(&c->raft, event, &out);
    if (rv != 0) {
        if (consensus_refusal_is_normal(event, rv)) return rv;
        fprintf(stderr, "jumun: raft_step() failed on event %d: %s: %s\n", (int)event->type,
                raft_strerror(rv), raft_errmsg(&c->raft));
        impossible("raft cannot go on; a restart recovers from what is durable");
    }
    consensus_rule_e5_new_term_no_leader(c, event, term_before);
    if (out.flags & ((RAFT_UPDATE_CURRENT_TERM) | (RAFT_UPDATE_VOTED_FOR))) {
        update->vote_changed = true;
    }
    if (out.flags & (RAFT_UPDATE_ENTRIES)) consensus_take_records(c, &out, sources, update);
    if (out.flags & (RAFT_UPDATE_SNAPSHOT)) {
        require(event->type == RAFT_RECEIVE && out.snapshot.chunk.base == NULL);
        c->installing = out.snapshot.metadata; /* with its configuration, until it is installed */
    }
    if (out.flags & (RAFT_UPDATE_MESSAGES)) {
        for (unsigned i = 0; i < out.messages.n; i++) {
            consensus_rule_r7_old_term(c, event, &out.messages.batch[i]);
            consensus_send(c, &out.messages.batch[i]);
        }
    }
    if (c->raft.state != RAFT_LEADER) c->barrier_index = c->barrier_term = 0;
    return 0;
}

/* L1: a new leader's first own record. Clients wait until it is committed. */
static void consensus_submit_barrier(struct consensus *c, struct consensus_update *update) {
    struct record *record = record_new(8);
    require(record != NULL);
    memset(record->payload, 0, 8);
    record->header.payload_bytes = 8;
    record->header.type = RECORD_BARRIER;
    struct raft_entry *entry = consensus_scratch(c, 1);
    entry->term = raft_current_term(&c->raft);
    entry->type = RAFT_BARRIER;
    entry->buf = (struct raft_buffer){record->payload, 8};
    entry->batch = record;
    struct raft_event event = consensus_event(c, RAFT_SUBMIT);
    event.submit.entries = entry;
    event.submit.n = 1;
    require(consensus_step(c, &event, &record, update) == 0);
}

void consensus_end(struct consensus *c, struct consensus_update *update) {
    struct raft *raft = &c->raft;
    if (consensus_rule_l1_barrier_due(c)) consensus_submit_barrier(c, update);
    update->term = raft_current_term(raft);
    update->voted_for = raft_voted_for(raft);
    update->role_changed = raft->state != c->state;
    c->state = raft->state;
    update->role = (uint8_t)raft->state;
    require(raft_commit_index(raft) >= c->commit_index);
    c->commit_index = raft_commit_index(raft);
    update->commit_index = c->commit_index;
    update->ready = consensus_is_ready(c);
    consensus_reads_expire(c);
    update->reads_confirmed = c->reads.confirmed;
    update->timeout_ms =
        consensus_rule_clamp_timeout(c, consensus_reads_timeout(c, (int64_t)raft_timeout(raft)));
    uint32_t at = 0;
    for (uint32_t i = 0; i < c->messages_count; i++) {
        struct consensus_message *m = &c->messages[i];
        if (m->records == NULL) continue;
        m->records = c->message_records + at;
        at += m->records_count;
    }
    require(at == c->message_records_count);
    if (update->records != NULL) {
        if (c->batches_count == c->batches_capacity) {
            uint32_t capacity = c->batches_capacity ? 2 * c->batches_capacity : 64;
            struct consensus_batch *grown = calloc(capacity, sizeof *grown);
            require(grown != NULL);
            for (uint32_t i = 0; i < c->batches_count; i++) {
                grown[i] = c->batches[(c->batches_head + i) % c->batches_capacity];
            }
            free(c->batches);
            c->batches = grown;
            c->batches_head = 0;
            c->batches_capacity = capacity;
        }
        c->batches[(c->batches_head + c->batches_count++) % c->batches_capacity] =
            (struct consensus_batch){update->batch, c->records_last->header.index};
    }
    update->messages = c->messages;
    update->messages_count = c->messages_count;
}
