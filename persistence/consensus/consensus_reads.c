/* Linearizable reads: the library has no read index, and a lease would be unsafe (a restarted
 * follower forgets its leader, a transfer overrides it). So the leader asks.
 *
 * A round is sent after all reads in it were asked for. When a majority of voters says after that
 * moment that it still is in this leader's term, no later leader can have been elected before it
 * (each later election moved a majority to a higher term, and two majorities of neighbouring
 * configurations meet), so nobody else can have committed anything before the reads began. What
 * this leader had committed then is the newest: its own barrier was committed (L1). */
#include "persistence/consensus/consensus_private.h"

static void consensus_reads_ask(struct consensus *c) {
    c->reads.sent_ms = c->now_ms;
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        if (s->id == c->raft.id || s->role != RAFT_VOTER) continue;
        const struct consensus_peer *peer = consensus_peer(c, s->id);
        if (peer != NULL && peer->answered == c->reads.sent) continue;
        struct consensus_message *m = consensus_add_message(c);
        m->kind = CONSENSUS_PING;
        m->from = c->raft.id;
        m->to = s->id;
        m->term = raft_current_term(&c->raft);
        m->last_index = c->reads.sent;
    }
}

/* Confirms what a majority has answered, and sends what was gathered meanwhile. */
static void consensus_reads_advance(struct consensus *c) {
    while (c->reads.sent != 0 && consensus_rule_q1_majority_answered(c)) {
        c->reads.confirmed = c->reads.sent;
        c->reads.sent = c->reads.gathered;
        c->reads.gathered = 0;
        if (c->reads.sent != 0) consensus_reads_ask(c);
    }
}

uint64_t consensus_read(struct consensus *c, int64_t now_ms, struct consensus_update *update) {
    require(c->started);
    consensus_begin(c, now_ms, update);
    uint64_t number = 0;
    if (consensus_is_ready(c)) {
        consensus_reads_expire(c);
        if (c->reads.sent == 0) {
            c->reads.term = raft_current_term(&c->raft);
            c->reads.sent = number = ++c->reads.number;
            consensus_reads_ask(c);
        } else {
            if (c->reads.gathered == 0) c->reads.gathered = ++c->reads.number;
            number = c->reads.gathered;
        }
        consensus_reads_advance(c);
    }
    consensus_end(c, update);
    return number;
}

/* A round belongs to the term that it was begun in. */
void consensus_reads_expire(struct consensus *c) {
    if (c->raft.state == RAFT_LEADER && c->reads.term == raft_current_term(&c->raft)) return;
    c->reads.sent = c->reads.gathered = 0;
}

/* Asks those again that have not answered: once a heartbeat, as long as this server leads. */
void consensus_reads_tick(struct consensus *c) {
    consensus_reads_expire(c);
    if (c->reads.sent == 0) return;
    if (c->now_ms >= c->reads.sent_ms + c->raft.heartbeat_timeout) consensus_reads_ask(c);
    consensus_reads_advance(c); /* the configuration may have changed */
}

int64_t consensus_reads_timeout(const struct consensus *c, int64_t timeout_ms) {
    int64_t again_ms = c->reads.sent_ms + c->raft.heartbeat_timeout;
    return c->reads.sent != 0 && again_ms < timeout_ms ? again_ms : timeout_ms;
}

void consensus_receive_ping(struct consensus *c, const struct consensus_message *ping) {
    if (!consensus_rule_q2_same_term(c, ping)) return;
    struct consensus_message *m = consensus_add_message(c);
    m->kind = CONSENSUS_PONG;
    m->from = c->raft.id;
    m->to = ping->from;
    m->term = ping->term;
    m->last_index = ping->last_index;
}

void consensus_receive_pong(struct consensus *c, const struct consensus_message *pong) {
    consensus_reads_expire(c);
    if (c->reads.sent == 0 || pong->last_index != c->reads.sent || pong->term != c->reads.term) {
        return;
    }
    struct consensus_peer *peer = consensus_peer(c, pong->from);
    if (peer == NULL) return;
    peer->answered = pong->last_index;
    consensus_reads_advance(c);
}
