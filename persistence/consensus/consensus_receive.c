/* Messages of peers on their way into the library, through the receive filters (rules R and E). */
#include <stdlib.h>

#include "persistence/consensus/consensus_private.h"

/* Reply address of every message: the servers know each other by id only. */
static const char consensus_peer_address[] = "peer";

static struct raft_message consensus_incoming(const struct consensus_message *m) {
    struct raft_message in;
    memset(&in, 0, sizeof in);
    in.type = (enum raft_message_type)m->kind;
    in.server_id = m->from;
    in.server_address = consensus_peer_address;
    return in;
}

static void consensus_feed(struct consensus *c, struct raft_message *message,
                           struct record *const *sources, struct consensus_update *update) {
    struct raft_event event = consensus_event(c, RAFT_RECEIVE);
    event.receive.message = message;
    consensus_step(c, &event, sources, update);
}

/* R1: the uncommitted configuration is committed: tell the library before it sees the next one. */
static void consensus_confirm_configuration(struct consensus *c, struct consensus_update *update) {
    struct raft_event event = consensus_event(c, RAFT_CONFIGURATION);
    event.configuration.index = c->raft.configuration_uncommitted_index;
    consensus_copy(&c->raft.configuration, &event.configuration.conf);
    consensus_step(c, &event, NULL, update);
}

/* One part of an append. True when the follower's log holds its last entry now. */
static bool consensus_receive_part(struct consensus *c, const struct consensus_message *m,
                                   uint32_t count, struct consensus_update *update) {
    struct raft_message in = consensus_incoming(m);
    struct raft_append_entries *a = &in.append_entries;
    struct raft_entry *entries = consensus_scratch(c, count > 0 ? count : 1);
    void *batch = NULL;
    if (count > 0) {
        /* All entries of a message share one batch, which the library frees when it does not take
         * them. It is a dummy: the payloads lie in our records. */
        batch = raft_malloc(8);
        require(batch != NULL);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct record *r = m->records[i];
        entries[i].term = r->header.term;
        entries[i].type = (enum raft_entry_type)r->header.type;
        entries[i].buf = (struct raft_buffer){r->payload, r->header.payload_bytes};
        entries[i].batch = batch;
    }
    a->version = m->version;
    a->term = m->term;
    a->prev_log_index = m->previous_index;
    a->prev_log_term = m->previous_term;
    a->leader_commit = consensus_rule_r5_commit(c, m->commit_index, m->previous_index + count);
    a->entries = count > 0 ? entries : NULL;
    a->n_entries = count;
    if (consensus_rule_r1_second_change(c, a)) consensus_confirm_configuration(c, update);
    struct record *before = c->records_last;
    consensus_feed(c, &in, m->records, update);
    if (count == 0) return false;
    struct record *after = c->records_last;
    if (after != before) {
        /* Taken: the batch is ours again, and each new record has one more owner. */
        raft_free(batch);
        for (struct record *r = before != NULL ? before->next : update->records; r != NULL;
             r = r->next) {
            record_hold(r);
        }
    }
    return consensus_term_of(c, m->previous_index + count) == m->records[count - 1]->header.term;
}

static bool consensus_append_is_whole(const struct consensus_message *m) {
    if (m->records_count > 0 && m->records == NULL) return false;
    if ((m->previous_index == 0) != (m->previous_term == 0)) return false;
    uint64_t term = m->previous_term > 0 ? m->previous_term : 1;
    for (uint32_t i = 0; i < m->records_count; i++) {
        const struct record_header *h = &m->records[i]->header;
        if (h->index != m->previous_index + 1 + i || h->term < term || h->term > m->term) {
            return false;
        }
        if (h->type < RECORD_EVENTS || h->type > RECORD_CONFIGURATION) return false;
        struct raft_configuration configuration;
        if (h->type == RECORD_CONFIGURATION) {
            if (!consensus_decode(m->records[i]->payload, h->payload_bytes, &configuration)) {
                return false;
            }
            raft_configuration_close(&configuration);
        }
        term = h->term;
    }
    return true;
}

static void consensus_receive_append(struct consensus *c, const struct consensus_message *message,
                                     struct consensus_update *update) {
    struct consensus_message m = *message;
    if (!consensus_append_is_whole(&m)) return;
    /* One leader a term: another one of our own term is no server of this group. */
    if (c->raft.state == RAFT_LEADER && m.term == raft_current_term(&c->raft)) return;
    consensus_rule_r2_cut(c, &m);
    for (;;) {
        uint32_t part = (uint32_t)consensus_rule_r1_part(c, m.records, m.records_count);
        if (!consensus_receive_part(c, &m, part, update) || part == m.records_count) return;
        m.previous_index += part;
        m.previous_term = m.records[part - 1]->header.term;
        m.records += part;
        m.records_count -= part;
    }
}

static void consensus_receive_vote(struct consensus *c, const struct consensus_message *m,
                                   struct consensus_update *update) {
    struct raft_message in = consensus_incoming(m);
    in.request_vote.version = m->version;
    in.request_vote.term = m->term;
    in.request_vote.candidate_id = m->from;
    in.request_vote.last_log_index = m->last_index;
    in.request_vote.last_log_term = m->last_term;
    in.request_vote.disrupt_leader = m->disrupt_leader;
    in.request_vote.pre_vote = m->pre_vote;
    consensus_rule_e4_forget_leader(c);
    struct raft_server *lent = consensus_rule_e3_standby_votes(c);
    consensus_feed(c, &in, NULL, update);
    if (lent != NULL) lent->role = RAFT_STANDBY;
}

static void consensus_feed_append_result(struct consensus *c, const struct consensus_message *m,
                                         struct consensus_update *update) {
    struct raft_message in = consensus_incoming(m);
    in.append_entries_result.version = m->version;
    in.append_entries_result.term = m->term;
    in.append_entries_result.rejected = m->rejected;
    in.append_entries_result.last_log_index = m->last_index;
    in.append_entries_result.features = m->features;
    in.append_entries_result.capacity = m->capacity;
    consensus_feed(c, &in, NULL, update);
}

/* A server may not lose what it has acknowledged. One whose directory is an older copy has, or
 * whose disk forgot what was synced: it refuses what this leader knows it to have, each time it is
 * asked. A few such refusals are late ones (R3), and an acknowledgement ends them. */
static void consensus_note_lacking(struct consensus *c, const struct consensus_message *m) {
    raft_index match = 0;
    struct consensus_peer *peer = consensus_peer(c, m->from);
    if (peer == NULL || c->raft.state != RAFT_LEADER || m->term != raft_current_term(&c->raft) ||
        raft_match_index(&c->raft, m->from, &match) != 0) {
        return;
    }
    if (m->rejected == 0) {
        peer->lacking_term = 0;
    } else if (m->rejected <= match && m->last_index < match) {
        if (peer->lacking_term != m->term) {
            peer->lacking_since_ms = c->now_ms;
            peer->lacking_refusals = 0;
        }
        peer->lacking_term = m->term;
        peer->lacking_ms = c->now_ms;
        peer->lacking_refusals++;
    }
}

static void consensus_receive_append_result(struct consensus *c,
                                            const struct consensus_message *message,
                                            struct consensus_update *update) {
    struct consensus_message m = *message;
    /* The library counts it as had: a peer that claims more than there is would move the commit
     * index behind the end of the log. */
    if (m.term == consensus_term(c) && m.rejected == 0 && m.last_index > consensus_last_index(c))
        return;
    consensus_note_lacking(c, &m);
    if (consensus_rule_r3_stale_rejection(c, &m)) return;
    consensus_rule_r3_late_hint(c, &m);
    uint32_t messages_before = c->messages_count;
    consensus_feed_append_result(c, &m, update);
    if (consensus_rule_r6_snapshot_refused(c, &m, messages_before)) {
        consensus_feed_append_result(c, &m, update);
    }
}

static void consensus_receive_vote_result(struct consensus *c, const struct consensus_message *m,
                                          struct consensus_update *update) {
    struct raft_message in = consensus_incoming(m);
    if (consensus_rule_r4_vote_result_late(c, m)) return;
    in.request_vote_result.version = m->version;
    in.request_vote_result.term = m->term;
    in.request_vote_result.vote_granted = m->granted;
    in.request_vote_result.pre_vote = m->pre_vote;
    in.request_vote_result.features = m->features;
    in.request_vote_result.capacity = m->capacity;
    consensus_feed(c, &in, NULL, update);
}

static void consensus_receive_timeout_now(struct consensus *c, const struct consensus_message *m,
                                          struct consensus_update *update) {
    struct raft_message in = consensus_incoming(m);
    in.timeout_now.version = m->version;
    in.timeout_now.term = m->term;
    in.timeout_now.last_log_index = m->last_index;
    in.timeout_now.last_log_term = m->last_term;
    consensus_feed(c, &in, NULL, update);
}

void consensus_receive(struct consensus *c, const struct consensus_message *message, int64_t now_ms,
                       struct consensus_update *update) {
    require(c->started);
    consensus_begin(c, now_ms, update);
    /* While a snapshot is being installed all messages are lost: the switch is short. */
    bool ours = message->to == c->raft.id && message->from != 0 && message->from != c->raft.id;
    if (ours && message->term != 0 && !c->raft.snapshot.installing) {
        consensus_peer_heard(c, message->from);
        switch (message->kind) {
        case CONSENSUS_APPEND:
            consensus_receive_append(c, message, update);
            break;
        case CONSENSUS_VOTE:
            consensus_receive_vote(c, message, update);
            break;
        case CONSENSUS_APPEND_RESULT:
            consensus_receive_append_result(c, message, update);
            break;
        case CONSENSUS_VOTE_RESULT:
            consensus_receive_vote_result(c, message, update);
            break;
        case CONSENSUS_TIMEOUT_NOW:
            consensus_receive_timeout_now(c, message, update);
            break;
        case CONSENSUS_PING:
            consensus_receive_ping(c, message);
            break;
        case CONSENSUS_PONG:
            consensus_receive_pong(c, message);
            break;
        default:
            break; /* INSTALL_SNAPSHOT goes a way of its own; others are dropped */
        }
    }
    consensus_end(c, update);
}
