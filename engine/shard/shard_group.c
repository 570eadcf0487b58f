/* The group around this replica: messages of its peers, who leads, a peer's state that takes the
 * place of the own one. */
#include <inttypes.h>
#include <stdio.h>

#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

/* Of one round: heartbeats must not wait behind a flood. */
enum { RECEIVE_MESSAGES_MAX = 256, RECEIVE_BYTES_MAX = 8 << 20, INSTALL_RETRY_MS = 200 };

static void peers_take(struct shard *s) {
    struct peer_message *m = atomic_exchange_explicit(&s->peers_top, NULL, memory_order_acquire);
    struct peer_message *first = NULL, *last = m;
    while (m) {
        struct peer_message *next = m->next;
        m->next = first;
        first = m;
        m = next;
    }
    if (!first) return;
    if (s->peers_last) s->peers_last->next = first;
    else s->peers = first;
    s->peers_last = last;
}

uint32_t shard_receive(struct shard *s) {
    if (!s->options.peers) return 0;
    uint32_t done = 0, bytes = 0;
    peers_take(s);
    while (s->peers && done < RECEIVE_MESSAGES_MAX && bytes < RECEIVE_BYTES_MAX) {
        struct peer_message *m = s->peers;
        s->peers = m->next;
        if (!s->peers) s->peers_last = NULL;
        atomic_fetch_sub_explicit(&s->peers_count, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&s->peers_bytes, m->bytes, memory_order_relaxed);
        bytes += m->bytes;
        done++;
        if (m->message->kind == CONSENSUS_TIMEOUT_NOW)
            shard_note_giver(s, m->message->from, m->message->term);
        /* One that is asked to lead before it has replayed its log would lead and not serve: the
         * giver's hand-over runs out of time, and it goes on. */
        bool too_early =
            m->message->kind == CONSENSUS_TIMEOUT_NOW && s->phase == SHARD_RECOVERING;
        if (s->phase != SHARD_INSTALLING && !too_early) {
            struct consensus_update update = {0};
            consensus_receive(s->consensus, m->message, s->mono_ms, &update);
            shard_take_update(s, &update);
        }
        consensus_message_free(m->message);
        free(m);
    }
    return done;
}

void shard_look_at_group(struct shard *s) {
    struct consensus_group group;
    if (!s->options.peers) {
        s->alone = true;
        return;
    }
    consensus_group(s->consensus, s->mono_ms, &group);
    s->alone = group.count == 1 && group.servers[0].id == s->options.server_id;
}

/* A change of this leader's own, which no replay will meet. */
void shard_commit_configuration(struct shard *s) {
    uint64_t open = consensus_open_change(s->consensus);
    if (open == 0 || open > s->commit_index || s->phase != SHARD_SERVING || s->deposed) return;
    struct record *record =
        (struct record *)(uintptr_t)consensus_record(s->consensus, open);
    require(record && record->header.type == RECORD_CONFIGURATION);
    record_hold(record);
    struct consensus_update update = {0};
    consensus_configuration_committed(s->consensus, &record->header, record->payload, s->mono_ms,
                                      &update);
    record_release(record);
    shard_take_update(s, &update);
    shard_look_at_group(s);
}

uint32_t shard_leader_node(const struct shard *s) {
    uint64_t leader = consensus_leader(s->consensus);
    return leader == s->options.server_id ? 0 : consensus_server_node(leader);
}

void shard_tell_leader(struct shard *s) {
    if (!s->options.peers) return;
    uint64_t term = consensus_term(s->consensus), leader = consensus_leader(s->consensus);
    bool ready = s->phase == SHARD_SERVING && !s->deposed && !s->failed;
    if (term == s->told.term && leader == s->told.leader && ready == s->told.ready) return;
    s->told.term = term;
    s->told.leader = leader;
    s->told.ready = ready;
    s->published_ms = 0;
    s->unpublished = true; /* also where nothing is done in this round */
    s->options.peers->leader(s->options.peers, s->options.id, term, leader, ready);
}

/* -- a peer's state ---------------------------------------------------------------------------- */

static void snapshot_forget(struct shard *s) {
    remove(s->snapshot.path); /* gone already when it was installed */
    atomic_store_explicit(&s->snapshot_state, SNAPSHOT_NONE, memory_order_release);
}

/* True when consensus wants it; the state has to be replaced then, whatever comes. */
static bool snapshot_take_on(struct shard *s) {
    const struct storage_meta *m = &s->snapshot.meta;
    struct consensus_snapshot snapshot = {
        .index = m->applied_index, .term = m->applied_term,
        .configuration_index = m->configuration_index, .configuration = m->configuration,
        .configuration_bytes = m->configuration_bytes};
    struct consensus_update update = {0};
    uint64_t committed = s->commit_index;
    int unwanted = consensus_install(s->consensus, s->snapshot.from, s->snapshot.leader_term,
                                     &snapshot, s->mono_ms, &update);
    shard_take_update(s, &update);
    if (unwanted) return false;
    s->phase = SHARD_INSTALLING;
    s->install_committed = committed;
    s->install_since_ms = s->install_retry_ms = s->mono_ms;
    return true;
}

/* False: it waits, for room on the disk or for memory. */
static bool snapshot_replaces_state(struct shard *s) {
    struct storage *storage = s->options.storage;
    char error[256] = "";
    if (!s->install_stored &&
        storage->ops->install_state(storage, s->snapshot.path, s->install_committed, error,
                                    sizeof error) != 0) {
        if (s->install_retry_ms == s->install_since_ms)
            log_warn("shard %u: the state of node %u waits to be installed: %s", s->options.id,
                     consensus_server_node(s->snapshot.from), error);
        s->install_retry_ms = s->mono_ms + INSTALL_RETRY_MS;
        return false;
    }
    s->install_stored = true;
    if (shard_forget(s) && shard_load_state(s, error, sizeof error)) {
        s->install_stored = false;
        return true;
    }
    if (s->no_memory) {
        log_warn("shard %u: no memory for the state of node %u: it tries again", s->options.id,
                 consensus_server_node(s->snapshot.from));
        s->install_retry_ms = s->mono_ms + SHARD_NO_MEMORY_RETRY_MS;
    } else {
        log_error("shard %u: the state of node %u: %s", s->options.id,
                  consensus_server_node(s->snapshot.from), error);
        shard_fail(s);
    }
    return false;
}

static void snapshot_install(struct shard *s) {
    if (!snapshot_replaces_state(s)) return;
    struct consensus_update update = {0};
    consensus_installed(s->consensus, s->mono_ms, &update);
    shard_take_update(s, &update);
    shard_look_at_group(s);
    log_info("shard %u: goes on from the state of node %u at entry %" PRIu64, s->options.id,
             consensus_server_node(s->snapshot.from), s->applied_index);
    s->stats.snapshots_installed++;
    snapshot_forget(s);
}

uint32_t shard_install(struct shard *s) {
    if (atomic_load_explicit(&s->snapshot_state, memory_order_acquire) != SNAPSHOT_OFFERED)
        return 0;
    /* A leader has no use for it; when it is one no more it forgets first. */
    if (s->phase == SHARD_SERVING) {
        if (s->snapshot.leader_term <= s->serving_term) snapshot_forget(s);
        return 0;
    }
    if (!shard_storage_is_quiet(s)) return 0;
    if (s->phase != SHARD_INSTALLING && !snapshot_take_on(s)) {
        snapshot_forget(s);
        return 1;
    }
    if (s->mono_ms < s->install_retry_ms) return 0;
    snapshot_install(s);
    return 1;
}
