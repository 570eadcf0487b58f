/* The rules that make raft_step() of libraft 0.22.1 safe to build on, one function each.
 *
 *   G  general            R  what may reach the library      E  elections
 *   L  leaders            M  membership (consensus_membership.c)   T  transfer (there too)
 *
 * Each comment says what happens without it. docs/consensus.md has the faults they stand for. */
#include <stdlib.h>

#include "persistence/consensus/consensus_private.h"

/* G2 (safety): a configuration record is alone in its SUBMIT. When a later change of a batch is
 * refused, the library keeps the earlier entries in its trail without ever handing them out. */
bool consensus_rule_g2_change_alone(const struct record *records) {
    for (const struct record *r = records; r != NULL; r = r->next) {
        if (r->header.type == RECORD_CONFIGURATION) return r == records && r->next == NULL;
    }
    return true;
}

/* R1 (safety): how many of these records go into one message to the library: a configuration record
 * is alone, everything before it goes first. The library takes the index of the first new entry for
 * that of the change: a change further back rolls back to an ancient voter set later. */
size_t consensus_rule_r1_part(const struct consensus *c, struct record *const *records,
                              size_t count) {
    if (!consensus_rule(c, CONSENSUS_RULE_R1)) return count;
    if (count > 0 && records[0]->header.type == RECORD_CONFIGURATION) return 1;
    size_t n = 0;
    while (n < count && records[n]->header.type != RECORD_CONFIGURATION) n++;
    return n;
}

/* R1, second half: a new change while an older one is uncommitted here proves that the older one is
 * committed (one at a time), which the library has to be told first, else it forgets it. */
bool consensus_rule_r1_second_change(const struct consensus *c,
                                     const struct raft_append_entries *part) {
    uint64_t uncommitted = c->raft.configuration_uncommitted_index;
    if (!consensus_rule(c, CONSENSUS_RULE_R1) || uncommitted == 0 || part->n_entries == 0 ||
        part->entries[0].type != RAFT_CHANGE) {
        return false;
    }
    uint64_t index = part->prev_log_index + 1;
    return uncommitted < index && consensus_term_of(c, uncommitted) != 0 &&
           part->term >= raft_current_term(&c->raft) &&
           consensus_term_of(c, part->prev_log_index) == part->prev_log_term &&
           consensus_term_of(c, index) != part->entries[0].term;
}

/* R2 (safety): a late append from before our snapshot is cut to what lies behind it. The library
 * would find no local term for compacted entries and order the log to be rewritten from there. */
void consensus_rule_r2_cut(const struct consensus *c, struct consensus_message *append) {
    uint64_t snapshot = c->raft.trail.snapshot.index;
    if (!consensus_rule(c, CONSENSUS_RULE_R2) || append->previous_index >= snapshot) return;
    uint64_t cut = snapshot - append->previous_index;
    if (cut > append->records_count) cut = append->records_count;
    if (cut > 0) append->records += cut;
    append->records_count -= (uint32_t)cut;
    append->previous_index = snapshot;
    append->previous_term = c->raft.trail.snapshot.term;
}

/* R3 (liveness): a leader drops a late or duplicate rejection of something that the follower has
 * acknowledged since: the library would set next below match, and send that follower nothing but
 * heartbeats for ever. */
bool consensus_rule_r3_stale_rejection(const struct consensus *c,
                                       const struct consensus_message *m) {
    raft_index match = 0;
    return consensus_rule(c, CONSENSUS_RULE_R3) && c->raft.state == RAFT_LEADER &&
           m->term == raft_current_term(&c->raft) && m->rejected > 0 &&
           raft_match_index(&c->raft, m->from, &match) == 0 && m->rejected <= match;
}

/* R4: vote results are only for candidates. The library reads candidate fields in any state, which
 * are other fields of a union then: whether it bumps the term depends on a heap address. */
bool consensus_rule_r4_vote_result_late(const struct consensus *c,
                                        const struct consensus_message *m) {
    return consensus_rule(c, CONSENSUS_RULE_R4) && m->kind == CONSENSUS_VOTE_RESULT &&
           c->raft.state != RAFT_CANDIDATE;
}

/* R5: the commit index that may reach the library with an append that ends at `last`. A late append
 * that ends below what is known to be committed, but carries a newer commit index, would move the
 * library's commit index back to its end. */
uint64_t consensus_rule_r5_commit(const struct consensus *c, uint64_t commit_index, uint64_t last) {
    if (!consensus_rule(c, CONSENSUS_RULE_R5)) return commit_index;
    return last > raft_commit_index(&c->raft) ? commit_index : 0;
}

/* R3, second half: what a follower has acknowledged it still has, whatever a late rejection that
 * names a higher index hints at. The library needs next above match, and checks it only in a build
 * with assertions. */
void consensus_rule_r3_late_hint(const struct consensus *c, struct consensus_message *m) {
    raft_index match = 0;
    if (!consensus_rule(c, CONSENSUS_RULE_R3) || c->raft.state != RAFT_LEADER ||
        m->term != raft_current_term(&c->raft) || m->rejected == 0 ||
        raft_match_index(&c->raft, m->from, &match) != 0) {
        return;
    }
    if (m->last_index < match) m->last_index = match; /* below `rejected`: R3 drops the others */
}

/* R6 (liveness): a leader that has asked a follower to install the snapshot at S, and has taken a
 * newer one since, anchors its heartbeats at the newer one; the refusals name that, and the library
 * ignores them as stale, because they do not name S: it asks no more, for as long as the timeout of
 * an install is. A refusal that the library left without an answer is told again as one of S: it
 * asks again, for the newer one. */
void consensus_rule_r6_snapshot_asked(struct consensus *c, const struct consensus_message *out) {
    struct consensus_peer *peer = consensus_peer(c, out->to);
    if (peer == NULL) return;
    peer->snapshot_index = out->last_index;
    peer->snapshot_term = out->term;
}

bool consensus_rule_r6_snapshot_refused(struct consensus *c, struct consensus_message *m,
                                        uint32_t messages_before) {
    if (!consensus_rule(c, CONSENSUS_RULE_R6) || c->raft.state != RAFT_LEADER ||
        m->term != raft_current_term(&c->raft) || m->rejected == 0) {
        return false;
    }
    /* In another state than that of an install the library takes it as it is: each refusal that it
     * takes, it answers at once. */
    for (uint32_t i = messages_before; i < c->messages_count; i++) {
        if (c->messages[i].to == m->from) return false;
    }
    raft_index match = 0;
    struct consensus_peer *peer = consensus_peer(c, m->from);
    if (peer == NULL || raft_match_index(&c->raft, m->from, &match) != 0) return false;
    uint64_t asked = peer->snapshot_term == m->term ? peer->snapshot_index : 0;
    if (asked <= match || m->rejected <= asked) return false;
    if (m->rejected != c->raft.trail.snapshot.index) return false;
    m->rejected = asked;
    if (m->last_index >= asked) m->last_index = asked - 1;
    return true;
}

/* R7 (safety): what answers a leader of a term that is over says only so. The library leaves its
 * last index to chance: to one that has come to lead the newer term meanwhile, a refusal of what
 * begins at 0 looks like an acknowledgement of that index. */
void consensus_rule_r7_old_term(const struct consensus *c, const struct raft_event *event,
                                struct raft_message *answer) {
    if (event->type != RAFT_RECEIVE || answer->type != RAFT_APPEND_ENTRIES_RESULT) return;
    const struct raft_message *asked = event->receive.message;
    uint64_t term = UINT64_MAX;
    if (asked->type == RAFT_APPEND_ENTRIES) term = asked->append_entries.term;
    if (asked->type == RAFT_INSTALL_SNAPSHOT) term = asked->install_snapshot.term;
    if (!consensus_rule(c, CONSENSUS_RULE_R7) || term >= raft_current_term(&c->raft)) return;
    struct raft_append_entries_result *result = &answer->append_entries_result;
    uint64_t last = raft_last_index((struct raft *)(uintptr_t)&c->raft);
    if (result->rejected == 0) last = 0;
    else if (last >= result->rejected) last = result->rejected - 1;
    result->last_log_index = last;
}

/* E1 (liveness): a pre-vote refused because of its low term is answered by the library with that
 * low term; a server with the longer log and the lower term would never learn, and nobody ever
 * lead. */
void consensus_rule_e1_refusal_term(const struct consensus *c, struct consensus_message *out) {
    if (consensus_rule(c, CONSENSUS_RULE_E1) && out->pre_vote && !out->granted &&
        out->term < raft_current_term(&c->raft)) {
        out->term = raft_current_term(&c->raft);
    }
}

/* E2 (liveness): a candidate whose time is up starts over with a pre-vote and without the licence
 * to depose a leader. The library keeps both as they were: an isolated target of a transfer would
 * depose every leader for ever. */
void consensus_rule_e2_candidate_retry(struct consensus *c) {
    struct raft *raft = &c->raft;
    if (!consensus_rule(c, CONSENSUS_RULE_E2) || raft->state != RAFT_CANDIDATE ||
        (raft_time)c->now_ms < raft_timeout(raft)) {
        return;
    }
    raft->candidate_state.in_pre_vote = raft->pre_vote;
    raft->candidate_state.disrupt_leader = false;
}

/* E3 (liveness): a standby that does not know yet that it was promoted must be able to vote (Raft
 * thesis, chapter 4), else one failure can stop a group of four. Returns the server whose role was
 * lent, to be set back after the step; NULL = none. */
struct raft_server *consensus_rule_e3_standby_votes(struct consensus *c) {
    if (!consensus_rule(c, CONSENSUS_RULE_E3)) return NULL;
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        struct raft_server *s = &c->raft.configuration.servers[i];
        if (s->id != c->raft.id || s->role != RAFT_STANDBY) continue;
        s->role = RAFT_VOTER;
        return s;
    }
    return NULL;
}

/* E4: a follower refuses votes while it remembers a leader, which the library only clears when the
 * follower's own timer runs out. A leader not heard for an election timeout is forgotten at the
 * next vote request: failover is as fast as the first timer. */
void consensus_rule_e4_forget_leader(struct consensus *c) {
    struct raft *raft = &c->raft;
    if (!consensus_rule(c, CONSENSUS_RULE_E4) || raft->state != RAFT_FOLLOWER) return;
    if ((raft_time)c->now_ms - raft->election_timer_start >= raft->election_timeout) {
        raft->follower_state.current_leader.id = 0;
    }
}

/* E5: a follower whose term grows by anything but its new leader's own message has no leader yet;
 * the library goes on naming the one of the old term. Who leads is told with the term, and of one
 * term only the first name is believed: a wrong one would lead other shards astray until the next
 * term. Called after each step with the term before it. */
void consensus_rule_e5_new_term_no_leader(struct consensus *c, const struct raft_event *event,
                                          uint64_t term_before) {
    struct raft *raft = &c->raft;
    if (!consensus_rule(c, CONSENSUS_RULE_E5) || raft->state != RAFT_FOLLOWER) return;
    if (raft_current_term(raft) == term_before) return;
    if (event->type == RAFT_RECEIVE && (event->receive.message->type == RAFT_APPEND_ENTRIES ||
                                        event->receive.message->type == RAFT_INSTALL_SNAPSHOT)) {
        return;
    }
    raft->follower_state.current_leader.id = 0;
}

/* L1 (safety): every leader's first record is a barrier of its own term, whether or not the library
 * thinks that it needs one; clients and configuration changes wait until it is committed. Without
 * it, two configurations of two terms can both count themselves committed. */
bool consensus_rule_l1_barrier_due(const struct consensus *c) {
    return consensus_rule(c, CONSENSUS_RULE_L1) && c->raft.state == RAFT_LEADER &&
           c->barrier_term != raft_current_term(&c->raft);
}

/* M3 (safety): the library makes a sole voter the leader without a new term, also after a restart:
 * two leaders of one term, and two records of one index and term. So its term is bumped before it
 * starts. */
bool consensus_rule_m3_lone_voter(const struct consensus *c,
                                  const struct raft_configuration *configuration) {
    const struct raft_server *self = consensus_server(configuration, c->raft.id);
    return consensus_rule(c, CONSENSUS_RULE_M3) && self != NULL && self->role == RAFT_VOTER &&
           consensus_voters(configuration) == 1;
}

/* M3 (safety): a group of a cluster has several voters. One that remembers itself alone has lost
 * its newest configuration (the log of a node that was alone goes on in its group's), and would
 * lead and commit beside those that have it. Who joins later is sent that log from its beginning
 * and may be stopped in the midst of it: it remembers another one alone, and leads nobody. */
bool consensus_rule_m3_forgot(const struct consensus *c, const struct consensus_start *start,
                              const struct raft_configuration *configuration) {
    return start->of_cluster && consensus_rule_m3_lone_voter(c, configuration);
}

/* Persisted records: batches up to number `batch` are durable. Returns the index to be reported, 0
 * = nothing new. Never early, and never a record that was truncated in the meantime: the library
 * would acknowledge what is not there. */
uint64_t consensus_rule_4_durable(struct consensus *c, uint64_t batch) {
    uint64_t index = 0;
    while (c->batches_count > 0 && c->batches[c->batches_head].number <= batch) {
        uint64_t valid_to = c->batches[c->batches_head].valid_to;
        if (valid_to > index) index = valid_to;
        c->batches_head = (c->batches_head + 1) % c->batches_capacity;
        c->batches_count--;
    }
    if (c->raft.snapshot.installing || index <= c->raft.last_stored) return 0;
    return index;
}

/* A new batch begins at `first`: nothing queued at or behind it counts any more. */
void consensus_rule_4_truncated(struct consensus *c, uint64_t first) {
    if (!consensus_rule(c, CONSENSUS_RULE_TRUNCATED)) return;
    for (uint32_t i = 0; i < c->batches_count; i++) {
        struct consensus_batch *b = &c->batches[(c->batches_head + i) % c->batches_capacity];
        if (b->valid_to < first) continue;
        b->valid_to = first - 1;
        c->truncated = true;
    }
}

/* A snapshot takes the place of the whole log. */
void consensus_rule_4_truncated_all(struct consensus *c) {
    for (uint32_t i = 0; i < c->batches_count; i++) {
        c->batches[(c->batches_head + i) % c->batches_capacity].valid_to = 0;
    }
    c->truncated = true;
}

/* Q1 (safety): a round of reads is confirmed by a majority of voters that answered it, this leader
 * included. Alone, a leader cut off from the others serves what a newer one has overwritten. */
bool consensus_rule_q1_majority_answered(struct consensus *c) {
    uint32_t voters = 0, answered = 0;
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        if (s->role != RAFT_VOTER) continue;
        voters++;
        const struct consensus_peer *peer = consensus_peer(c, s->id);
        answered += s->id == c->raft.id || (peer != NULL && peer->answered == c->reads.sent);
    }
    return answered > voters / 2 || !consensus_rule(c, CONSENSUS_RULE_Q1);
}

/* Q2 (safety): a ping is answered only in its own term. A server in a higher one may have elected
 * somebody else; one in a lower one has not been heard of by this leader's election. */
bool consensus_rule_q2_same_term(const struct consensus *c, const struct consensus_message *ping) {
    return ping->term == raft_current_term(&c->raft) || !consensus_rule(c, CONSENSUS_RULE_Q2);
}

/* The library's timeout may lie in the past and stay there: without the clamp the caller spins. */
int64_t consensus_rule_clamp_timeout(const struct consensus *c, uint64_t timeout) {
    if (!consensus_rule(c, CONSENSUS_RULE_CLAMP)) return (int64_t)timeout;
    return (int64_t)timeout > c->now_ms ? (int64_t)timeout : c->now_ms + 1;
}
