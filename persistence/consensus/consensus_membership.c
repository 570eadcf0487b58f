/* Membership changes and hand-over of leadership, at the leader.
 *
 * What the library would accept is not safe (M1-M3) or stops the group (M4-M7), so every change is
 * checked here first. Replacing a server (M9): planned = add, promote, remove; a dead one = remove
 * first, then add and promote. M8: removed ids never return; whoever forms groups gives new ids. */
#include <stdio.h>

#include "persistence/consensus/consensus_private.h"

static int consensus_forbid(char *error, size_t error_bytes, const char *sentence) {
    snprintf(error, error_bytes, "%s", sentence);
    return -1;
}

/* M1 (safety): no change before a record of the own term is committed, none while one is open: else
 * two voter sets without a common member can both count a majority. */
static const char *consensus_rule_m1_not_yet(const struct consensus *c) {
    if (c->raft.state != RAFT_LEADER) return "this server does not lead the group";
    if (!consensus_rule(c, CONSENSUS_RULE_M1)) return NULL;
    if (c->barrier_index == 0 || c->commit_index < c->barrier_index) {
        return "the barrier of this term is not committed yet (M1)";
    }
    if (c->raft.configuration_uncommitted_index != 0) return "another change is open (M1)";
    return NULL;
}

/* Bounds what a marker may still ask for (limits.h). */
static const char *consensus_waits_for_checkpoint(const struct consensus *c) {
    if (c->configurations_count < CONSENSUS_CONFIGURATIONS_MAX) return NULL;
    return "too many changes since the last checkpoint: the next one waits for it";
}

/* M7 (liveness): every other voter has the last change; the one exception is the removal of exactly
 * one that lags (it may be dead). */
static const char *consensus_rule_m7_laggards(const struct consensus *c, uint8_t change,
                                              uint64_t id) {
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        raft_index match = 0;
        if (s->role != RAFT_VOTER || s->id == c->raft.id) continue;
        if (change == CONSENSUS_REMOVE && s->id == id) continue;
        require(raft_match_index(&c->raft, s->id, &match) == 0);
        if (match < c->raft.configuration_committed_index && consensus_rule(c, CONSENSUS_RULE_M7)) {
            return "a voter has not got the last change yet (M7)";
        }
    }
    return NULL;
}

/* M2 (safety): one server at a time, built from what is in force, appended at the end, never a
 * swap: with the same number of servers the library keeps the progress of the old one for the new.
 */
static const char *consensus_rule_m2_next(const struct consensus *c, uint8_t change, uint64_t id,
                                          const char *address, struct raft_configuration *next) {
    const struct raft_configuration *now = &c->raft.configuration;
    const struct raft_server *server = consensus_server(now, id);
    raft_index match = 0;
    raft_configuration_init(next);
    switch (change) {
    case CONSENSUS_ADD_STANDBY:
        if (id == 0 || address == NULL || server != NULL) return "this server is a member already";
        if (now->n == CONSENSUS_SERVERS_MAX) return "the group has as many servers as it may have";
        consensus_copy(now, next);
        if (raft_configuration_add(next, id, address, RAFT_STANDBY) == 0) return NULL;
        raft_configuration_close(next);
        return "this address is in use";
    case CONSENSUS_PROMOTE:
        /* M6: added as a standby, promoted when it has the log; no catch-up by the library. At
         * least it has to know that it is a member: in a short log "nearly all" may be nothing, and
         * a voter without a configuration neither votes nor campaigns. */
        if (server == NULL || server->role != RAFT_STANDBY) return "this server is not a standby";
        if (consensus_voters(now) >= REPLICAS_MAX) return "the group has as many voters as it may";
        require(raft_match_index(&c->raft, id, &match) == 0);
        if ((match + CONSENSUS_INFLIGHT_ENTRIES < consensus_last_index(c) ||
             match < c->raft.configuration_committed_index) &&
            consensus_rule(c, CONSENSUS_RULE_M6)) {
            return "this server has not got enough of the log yet (M6)";
        }
        consensus_copy(now, next);
        for (unsigned i = 0; i < next->n; i++) {
            if (next->servers[i].id == id) next->servers[i].role = RAFT_VOTER;
        }
        return NULL;
    case CONSENSUS_REMOVE:
        if (server == NULL) return "this server is not a member";
        /* M4 (liveness): a leader hands over before it goes. */
        if (id == c->raft.id && consensus_rule(c, CONSENSUS_RULE_M4))
            return "the leader cannot remove itself: transfer first (M4)";
        for (unsigned i = 0; i < now->n; i++) {
            const struct raft_server *s = &now->servers[i];
            if (s->id == id) continue;
            require(raft_configuration_add(next, s->id, s->address, s->role) == 0);
        }
        return NULL;
    default:
        return "unknown change"; /* M5: there is no demotion and no spare */
    }
}

/* M3 (safety): a group never has one voter and others beside it, and never shrinks to one. */
static const char *consensus_rule_m3_voters(const struct consensus *c,
                                            const struct raft_configuration *next) {
    if (!consensus_rule(c, CONSENSUS_RULE_M3)) return NULL;
    if (consensus_voters(&c->raft.configuration) < 2 || consensus_voters(next) < 2) {
        return "a group with one voter cannot change, nor shrink to one: form it anew (M3)";
    }
    return NULL;
}

static const char *consensus_submit_change(struct consensus *c,
                                           const struct raft_configuration *next,
                                           struct consensus_update *update) {
    struct raft_buffer encoded;
    require(raft_configuration_encode(next, &encoded) == 0);
    struct record *record = record_new((uint32_t)encoded.len);
    require(record != NULL);
    memcpy(record->payload, encoded.base, encoded.len);
    record->header.payload_bytes = (uint32_t)encoded.len;
    record->header.type = RECORD_CONFIGURATION;
    raft_free(encoded.base);
    require(consensus_rule_g2_change_alone(record));
    struct raft_entry *entry = consensus_scratch(c, 1);
    entry->term = raft_current_term(&c->raft);
    entry->type = RAFT_CHANGE;
    entry->buf = (struct raft_buffer){record->payload, record->header.payload_bytes};
    entry->batch = record;
    struct raft_event event = consensus_event(c, RAFT_SUBMIT);
    event.submit.entries = entry;
    event.submit.n = 1;
    if (consensus_step(c, &event, &record, update) == 0) return NULL;
    record_release(record);
    return "the library refuses the change";
}

int consensus_change(struct consensus *c, uint8_t change, uint64_t id, const char *address,
                     int64_t now_ms, struct consensus_update *update, char *error,
                     size_t error_bytes) {
    require(c->started);
    consensus_begin(c, now_ms, update);
    struct raft_configuration next;
    int rv = -1;
    const char *why = consensus_rule_m1_not_yet(c);
    if (why == NULL) why = consensus_waits_for_checkpoint(c);
    if (why == NULL && raft_transferee(&c->raft) != 0) why = "leadership is being handed over";
    if (why == NULL && (why = consensus_rule_m2_next(c, change, id, address, &next)) == NULL) {
        why = consensus_rule_m3_voters(c, &next);
        if (why == NULL) why = consensus_rule_m7_laggards(c, change, id);
        if (why == NULL) why = consensus_submit_change(c, &next, update);
        rv = why == NULL ? 0 : -1;
        raft_configuration_close(&next);
    }
    consensus_end(c, update);
    return rv == 0 ? 0 : consensus_forbid(error, error_bytes, why);
}

/* T1 (liveness): only to a voter that has everything: else the library sends its one TimeoutNow too
 * early, the target ignores it, and writes stay blocked for an election timeout. */
static const char *consensus_rule_t1_target(const struct consensus *c, uint64_t id) {
    if (c->raft.state != RAFT_LEADER) return "this server does not lead the group";
    const struct raft_server *server = consensus_server(&c->raft.configuration, id);
    if (server == NULL || server->role != RAFT_VOTER || id == c->raft.id) {
        return "the target is not another voter";
    }
    raft_index match = 0;
    require(raft_match_index(&c->raft, id, &match) == 0);
    if (match != consensus_last_index(c) && consensus_rule(c, CONSENSUS_RULE_T1))
        return "the target has not got the whole log yet (T1)";
    return NULL;
}

int consensus_transfer(struct consensus *c, uint64_t id, int64_t now_ms,
                       struct consensus_update *update, char *error, size_t error_bytes) {
    require(c->started);
    consensus_begin(c, now_ms, update);
    int rv = -1;
    const char *why = consensus_rule_t1_target(c, id);
    if (why == NULL) {
        struct raft_event event = consensus_event(c, RAFT_TRANSFER);
        event.transfer.server_id = id;
        rv = consensus_step(c, &event, NULL, update) == 0 ? 0 : -1;
        if (rv != 0) why = "leadership is being handed over already";
    }
    consensus_end(c, update);
    return rv == 0 ? 0 : consensus_forbid(error, error_bytes, why);
}
