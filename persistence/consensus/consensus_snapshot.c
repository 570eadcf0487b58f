/* Snapshots of a leader at a follower that lags behind its log, and what is remembered per peer.
 *
 * The library knows nothing of chunks: the transfer goes beside it, and it hears of a snapshot only
 * once that lies complete and checked beside the state. Until the switch is durable nothing has
 * happened: a crash before it starts from the old state, after it from the snapshot and no log. */
#include <stdlib.h>

#include "persistence/consensus/consensus_private.h"

/* False: not a snapshot of a leader of this group, or one whose time is over. */
static bool consensus_install_is_sane(const struct consensus *c, uint64_t from,
                                      uint64_t leader_term, const struct consensus_snapshot *s) {
    if (from == 0 || from == c->raft.id) return false;
    if (s->index == 0 || s->term == 0 || s->term > leader_term) return false;
    if (s->configuration_index == 0 || s->configuration_index > s->index) return false;
    if (leader_term < raft_current_term(&c->raft)) return false;
    /* What is committed here and the snapshot must agree, else it is of another group. */
    uint64_t known = s->index <= c->commit_index ? consensus_term_of(c, s->index) : 0;
    if (known != 0 && known != s->term) return false;
    /* One leader a term. */
    return c->raft.state != RAFT_LEADER || leader_term > raft_current_term(&c->raft);
}

int consensus_install(struct consensus *c, uint64_t from, uint64_t leader_term,
                      const struct consensus_snapshot *snapshot, int64_t now_ms,
                      struct consensus_update *update) {
    require(c->started && !c->raft.snapshot.installing);
    consensus_begin(c, now_ms, update);
    struct raft_configuration configuration;
    if (consensus_install_is_sane(c, from, leader_term, snapshot) &&
        consensus_decode(snapshot->configuration, snapshot->configuration_bytes, &configuration)) {
        struct raft_message in;
        memset(&in, 0, sizeof in);
        in.type = RAFT_INSTALL_SNAPSHOT;
        in.server_id = from;
        in.server_address = "peer";
        in.install_snapshot.term = leader_term;
        in.install_snapshot.last_index = snapshot->index;
        in.install_snapshot.last_term = snapshot->term;
        in.install_snapshot.conf_index = snapshot->configuration_index;
        in.install_snapshot.conf = configuration; /* the library's from here */
        struct raft_event event = consensus_event(c, RAFT_RECEIVE);
        event.receive.message = &in;
        /* What is committed here is in every snapshot at or above it: the library answers such a
         * one with an acknowledgement and asks for nothing. */
        bool wanted = snapshot->index > raft_commit_index(&c->raft);
        consensus_step(c, &event, NULL, update);
        require(wanted || !c->raft.snapshot.installing);
    }
    int rv = 1;
    if (c->raft.snapshot.installing) {
        rv = 0;
        consensus_rule_4_truncated_all(c);
        consensus_tail_clear(c);
        consensus_forget_all_configurations(c);
        consensus_note_committed(c, snapshot->configuration_index, snapshot->configuration,
                                 snapshot->configuration_bytes);
    }
    consensus_end(c, update);
    return rv;
}

void consensus_installed(struct consensus *c, int64_t now_ms, struct consensus_update *update) {
    require(c->started && c->raft.snapshot.installing);
    consensus_begin(c, now_ms, update);
    struct raft_event event = consensus_event(c, RAFT_PERSISTED_SNAPSHOT);
    event.persisted_snapshot.metadata = c->installing; /* its configuration moves to the library */
    event.persisted_snapshot.last = true;
    memset(&c->installing, 0, sizeof c->installing);
    consensus_step(c, &event, NULL, update);
    consensus_end(c, update);
}

/* -- peers ------------------------------------------------------------------------------------- */

/* What is remembered of a member; NULL = not a member of the newest configuration. */
struct consensus_peer *consensus_peer(struct consensus *c, uint64_t id) {
    struct consensus_peer *slot = NULL;
    if (id == c->raft.id || consensus_server(&c->raft.configuration, id) == NULL) return NULL;
    for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++) {
        struct consensus_peer *peer = &c->peers[i];
        if (peer->id == id) return peer;
        if (slot == NULL &&
            (peer->id == 0 || consensus_server(&c->raft.configuration, peer->id) == NULL)) {
            slot = peer;
        }
    }
    require(slot != NULL); /* a configuration has at most so many servers */
    *slot = (struct consensus_peer){.id = id};
    return slot;
}

void consensus_peer_heard(struct consensus *c, uint64_t id) {
    struct consensus_peer *peer = consensus_peer(c, id);
    if (peer == NULL) return;
    peer->heard = true;
    peer->heard_ms = c->now_ms;
}

void consensus_group(const struct consensus *c, int64_t now_ms, struct consensus_group *group) {
    const struct raft *raft = &c->raft;
    memset(group, 0, sizeof *group);
    if (raft->state == RAFT_LEADER) group->leader = raft->id;
    if (raft->state == RAFT_FOLLOWER) group->leader = raft->follower_state.current_leader.id;
    group->count = raft->configuration.n;
    for (uint32_t i = 0; i < group->count; i++) {
        const struct raft_server *s = &raft->configuration.servers[i];
        struct consensus_server *out = &group->servers[i];
        out->id = s->id;
        out->role = s->role == RAFT_VOTER ? CONSENSUS_VOTER : CONSENSUS_STANDBY;
        if (raft->state != RAFT_LEADER) continue;
        raft_index match = 0;
        require(raft_match_index(raft, s->id, &match) == 0);
        out->match_index = match;
        out->recent = s->id == raft->id;
        for (uint32_t j = 0; j < CONSENSUS_SERVERS_MAX; j++) {
            const struct consensus_peer *peer = &c->peers[j];
            if (peer->id != s->id || !peer->heard) continue;
            out->recent = now_ms - peer->heard_ms <= (int64_t)raft->election_timeout;
            out->lacks = peer->lacking_term == raft_current_term(raft) &&
                         peer->lacking_refusals >= CONSENSUS_LACKS_REFUSALS &&
                         peer->lacking_ms - peer->lacking_since_ms >= CONSENSUS_LACKS_MS;
        }
    }
}
