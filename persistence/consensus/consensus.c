/* Life cycle and the calls of a server: start, submit, persisted, tick, checkpoint. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "persistence/consensus/consensus_private.h"

enum { CONSENSUS_INSTALL_TIMEOUT_MS = 600000 };

struct consensus *consensus_new(const struct consensus_options *options) {
    require(options->id > 0 && options->address != NULL);
    require(options->election_timeout_ms > 0 && options->heartbeat_ms > 0 &&
            options->heartbeat_ms < options->election_timeout_ms);
    /* Zeroed: raft_init() does not set the random state nor the timers. */
    struct consensus *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    if (raft_init(&c->raft, NULL, NULL, options->id, options->address) != 0) {
        free(c);
        return NULL;
    }
    /* The default tracer formats into static buffers, even when it is off. */
    c->raft.tracer = NULL;
    raft_seed(&c->raft, options->seed);
    raft_set_election_timeout(&c->raft, options->election_timeout_ms);
    raft_set_heartbeat_timeout(&c->raft, options->heartbeat_ms);
    raft_set_pre_vote(&c->raft, true);
    raft_set_max_inflight_entries(&c->raft, CONSENSUS_INFLIGHT_ENTRIES);
    raft_set_install_snapshot_timeout(&c->raft, CONSENSUS_INSTALL_TIMEOUT_MS);
    c->state = RAFT_FOLLOWER;
    return c;
}

void consensus_free(struct consensus *c) {
    if (c == NULL) return;
    struct consensus_update nothing;
    consensus_begin(c, c->now_ms, &nothing);
    raft_close(&c->raft, NULL);
    raft_configuration_close(&c->installing.configuration);
    consensus_tail_clear(c);
    consensus_forget_all_configurations(c);
    free(c->configurations);
    free(c->batches);
    free(c->entries);
    free(c->sources);
    free(c->messages);
    free(c->message_records);
    free(c);
}

#ifdef JUMUN_DEBUG_CHECKS
void consensus_rules_off(struct consensus *c, uint32_t rules) {
    c->rules_off = rules;
}
#endif

/* -- start ------------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int consensus_refuse(char *error, size_t error_bytes,
                                                                  const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, error_bytes, format, arguments);
    va_end(arguments);
    return -1;
}

/* The library checks none of this in a release build: it would go on with a corrupt state. */
static int consensus_check_start(const struct consensus_start *s, char *error, size_t error_bytes) {
    unsigned long long first = s->first_index, marker = s->marker_index;
    if (s->term == 0 && (s->voted_for || s->marker_index || s->entries_count)) {
        return consensus_refuse(error, error_bytes, "the log holds records but no term is stored");
    }
    if (s->marker_index != 0 && s->marker_term == 0) {
        return consensus_refuse(error, error_bytes, "the marker at %llu has no term", marker);
    }
    if (s->marker_term > s->term) {
        return consensus_refuse(error, error_bytes, "the marker at %llu is of a later term",
                                marker);
    }
    if (s->marker_index != 0 && s->configuration_index > s->marker_index) {
        return consensus_refuse(error, error_bytes, "the marker at %llu has a later configuration",
                                marker);
    }
    if (s->entries_count > UINT32_MAX) {
        return consensus_refuse(error, error_bytes, "more than 2^32 records behind the marker");
    }
    if (s->entries_count == 0) return 0;
    if (s->first_index == 0 || s->first_index > s->marker_index + 1) {
        return consensus_refuse(error, error_bytes,
                                "the log begins at %llu, but the marker is at %llu", first, marker);
    }
    if (s->first_index + s->entries_count - 1 < s->marker_index) {
        return consensus_refuse(error, error_bytes, "the log ends below its marker at %llu",
                                marker);
    }
    if (s->marker_index == 0 && s->entries[0].type != RECORD_CONFIGURATION) {
        return consensus_refuse(error, error_bytes, "record 1 is not a configuration");
    }
    uint64_t term = 1;
    if (s->marker_index >= s->first_index &&
        s->entries[s->marker_index - s->first_index].term != s->marker_term) {
        return consensus_refuse(error, error_bytes, "record %llu is not the marker's", marker);
    }
    for (uint64_t i = 0; i < s->entries_count; i++) {
        const struct consensus_entry *e = &s->entries[i];
        unsigned long long index = first + i;
        if (e->term < term || e->term > s->term) {
            return consensus_refuse(error, error_bytes, "record %llu has term %llu out of order",
                                    index, (unsigned long long)e->term);
        }
        if (e->type < RECORD_EVENTS || e->type > RECORD_CONFIGURATION) {
            return consensus_refuse(error, error_bytes, "record %llu has unknown type %u", index,
                                    e->type);
        }
        term = e->term;
    }
    return 0;
}

/* The configuration that START will work with: the newest one stored, committed or not. */
static int consensus_newest_configuration(const struct consensus_start *s,
                                          struct raft_configuration *configuration, char *error,
                                          size_t error_bytes) {
    const void *data = s->configuration_bytes > 0 ? s->configuration : NULL;
    size_t bytes = s->configuration_bytes;
    for (uint64_t i = s->entries_count; i > 0; i--) {
        const struct consensus_entry *e = &s->entries[i - 1];
        if (e->type != RECORD_CONFIGURATION || s->first_index + i - 1 <= s->configuration_index) {
            continue;
        }
        data = e->payload;
        bytes = e->payload_bytes;
        break;
    }
    raft_configuration_init(configuration);
    if (data == NULL) {
        if (s->marker_index == 0) return 0;
        return consensus_refuse(error, error_bytes, "no configuration is stored");
    }
    if (!consensus_decode(data, bytes, configuration)) {
        return consensus_refuse(error, error_bytes, "the stored configuration is malformed");
    }
    if (configuration->n > 1 && consensus_voters(configuration) < 2) {
        raft_configuration_close(configuration);
        return consensus_refuse(error, error_bytes,
                                "the group has one voter and other servers: not allowed (M3)");
    }
    return 0;
}

static int consensus_feed_start(struct consensus *c, const struct consensus_start *s, uint64_t term,
                                uint64_t voted_for, struct consensus_update *update) {
    struct raft_event event = consensus_event(c, RAFT_START);
    struct raft_snapshot_metadata metadata;
    event.start.term = term;
    event.start.voted_for = voted_for;
    event.start.start_index = s->entries_count > 0 ? s->first_index : s->marker_index + 1;
    if (s->marker_index != 0) {
        memset(&metadata, 0, sizeof metadata);
        metadata.index = s->marker_index;
        metadata.term = s->marker_term;
        metadata.configuration_index = s->configuration_index;
        require(
            consensus_decode(s->configuration, s->configuration_bytes, &metadata.configuration));
        event.start.metadata = &metadata; /* the configuration is the library's from here */
    }
    struct raft_entry *entries = NULL;
    if (s->entries_count > 0) {
        entries = calloc(s->entries_count, sizeof *entries);
        require(entries != NULL);
        for (uint64_t i = 0; i < s->entries_count; i++) {
            entries[i].term = s->entries[i].term;
            entries[i].type = (enum raft_entry_type)s->entries[i].type;
            if (entries[i].type != RAFT_CHANGE) continue;
            entries[i].buf.base = (void *)(uintptr_t)s->entries[i].payload;
            entries[i].buf.len = s->entries[i].payload_bytes;
        }
    }
    event.start.entries = entries;
    event.start.n_entries = (unsigned)s->entries_count;
    consensus_step(c, &event, NULL, update);
    free(entries);
    return 0;
}

int consensus_start(struct consensus *c, const struct consensus_start *s,
                    struct consensus_update *update, char *error, size_t error_bytes) {
    require(!c->started);
    consensus_begin(c, s->now_ms, update);
    if (consensus_check_start(s, error, error_bytes) != 0) return -1;
    struct raft_configuration newest, stored;
    if (consensus_newest_configuration(s, &newest, error, error_bytes) != 0) return -1;
    bool lone = consensus_rule_m3_lone_voter(c, &newest);
    bool forgot = consensus_rule_m3_forgot(c, s, &newest);
    raft_configuration_close(&newest);
    if (forgot) {
        return consensus_refuse(error, error_bytes,
                                "in its newest configuration it is the one voter, but its group "
                                "has more: what they agreed on is lost here, and it could lead "
                                "alone (M3). Put back what its directory lacks, or replace the "
                                "node");
    }
    if (s->marker_index != 0) {
        if (!consensus_decode(s->configuration, s->configuration_bytes, &stored)) {
            return consensus_refuse(error, error_bytes, "the marker's configuration is malformed");
        }
        raft_configuration_close(&stored);
    }
    c->started = true;
    if (s->marker_index != 0) {
        consensus_note_committed(c, s->configuration_index, s->configuration,
                                 s->configuration_bytes);
    } else if (s->entries_count > 0) {
        consensus_note_committed(c, 1, s->entries[0].payload, s->entries[0].payload_bytes);
    }
    uint64_t term = s->term, voted_for = s->voted_for;
    if (lone) {
        term++;
        voted_for = c->raft.id;
        update->vote_changed = true;
    }
    consensus_feed_start(c, s, term, voted_for, update);
    consensus_end(c, update);
    return 0;
}

/* -- work -------------------------------------------------------------------------------------- */

bool consensus_is_ready(const struct consensus *c) {
    return c->raft.state == RAFT_LEADER &&
           (!consensus_rule(c, CONSENSUS_RULE_L1) ||
            (c->barrier_index != 0 && c->commit_index >= c->barrier_index));
}

int consensus_submit(struct consensus *c, struct record *records, int64_t now_ms,
                     struct consensus_update *update) {
    require(c->started && records != NULL);
    consensus_begin(c, now_ms, update);
    /* Configurations go through consensus_change(): G2 holds because there is none here. */
    require(consensus_rule_g2_change_alone(records) &&
            records->header.type != RECORD_CONFIGURATION);
    int rv = -1;
    if (consensus_is_ready(c)) {
        uint32_t count = 0;
        for (struct record *r = records; r != NULL; r = r->next) count++;
        struct raft_entry *entries = consensus_scratch(c, count);
        uint32_t n = 0;
        for (struct record *r = records; r != NULL; r = r->next, n++) {
            c->sources[n] = r;
            entries[n].term = raft_current_term(&c->raft);
            entries[n].type = (enum raft_entry_type)r->header.type;
            entries[n].buf = (struct raft_buffer){r->payload, r->header.payload_bytes};
            entries[n].batch = r; /* never freed by the library at a leader; must not be NULL */
        }
        struct raft_event event = consensus_event(c, RAFT_SUBMIT);
        event.submit.entries = entries;
        event.submit.n = count;
        rv = consensus_step(c, &event, c->sources, update) == 0 ? 0 : -1;
    }
    consensus_end(c, update);
    return rv;
}

static void consensus_feed_persisted(struct consensus *c, uint64_t index,
                                     struct consensus_update *update) {
    if (index == 0) return;
    struct raft_event event = consensus_event(c, RAFT_PERSISTED_ENTRIES);
    event.persisted_entries.index = index;
    consensus_step(c, &event, NULL, update);
}

void consensus_persisted_batch(struct consensus *c, uint64_t batch, int64_t now_ms,
                               struct consensus_update *update) {
    require(c->started && batch <= c->batch_number);
    consensus_begin(c, now_ms, update);
    consensus_feed_persisted(c, consensus_rule_4_durable(c, batch), update);
    consensus_end(c, update);
}

void consensus_persisted(struct consensus *c, uint64_t index, int64_t now_ms,
                         struct consensus_update *update) {
    require(c->started && !c->truncated && index <= consensus_last_index(c));
    consensus_begin(c, now_ms, update);
    uint64_t batch = 0;
    for (uint32_t i = 0; i < c->batches_count; i++) {
        const struct consensus_batch *b = &c->batches[(c->batches_head + i) % c->batches_capacity];
        if (b->valid_to > index) break;
        batch = b->number;
    }
    consensus_feed_persisted(c, consensus_rule_4_durable(c, batch), update);
    consensus_end(c, update);
}

void consensus_tick(struct consensus *c, int64_t now_ms, struct consensus_update *update) {
    require(c->started);
    consensus_begin(c, now_ms, update);
    consensus_rule_e2_candidate_retry(c);
    struct raft_event event = consensus_event(c, RAFT_TIMEOUT);
    consensus_step(c, &event, NULL, update);
    consensus_reads_tick(c);
    consensus_end(c, update);
}

void consensus_checkpointed(struct consensus *c, uint64_t index, uint32_t trailing, int64_t now_ms,
                            struct consensus_update *update) {
    require(c->started && index <= c->commit_index);
    consensus_begin(c, now_ms, update);
    const struct consensus_configuration *at = consensus_configuration_at(c, index);
    /* The library must be asked only for what it can do: a release build of it checks nothing. */
    if (index > c->raft.trail.snapshot.index && index <= c->raft.last_stored &&
        !c->raft.snapshot.installing && consensus_term_of(c, index) != 0 && at != NULL) {
        struct raft_event event = consensus_event(c, RAFT_SNAPSHOT);
        event.snapshot.trailing = trailing;
        event.snapshot.metadata.index = index;
        event.snapshot.metadata.term = consensus_term_of(c, index);
        event.snapshot.metadata.configuration_index = at->index;
        require(consensus_decode(at->data, at->bytes, &event.snapshot.metadata.configuration));
        consensus_step(c, &event, NULL, update);
        consensus_forget_configurations(c, index);
    }
    consensus_end(c, update);
}

void consensus_configuration_committed(struct consensus *c, const struct record_header *record,
                                       const void *payload, int64_t now_ms,
                                       struct consensus_update *update) {
    require(c->started && record->type == RECORD_CONFIGURATION);
    require(record->index <= c->commit_index);
    consensus_begin(c, now_ms, update);
    const struct consensus_configuration *newest = NULL;
    if (c->configurations_count > 0) newest = &c->configurations[c->configurations_count - 1];
    if (newest == NULL || record->index > newest->index) {
        consensus_note_committed(c, record->index, payload, record->payload_bytes);
    }
    struct raft_event event = consensus_event(c, RAFT_CONFIGURATION);
    event.configuration.index = record->index;
    require(consensus_decode(payload, record->payload_bytes, &event.configuration.conf));
    consensus_step(c, &event, NULL, update);
    consensus_end(c, update);
}

/* -- questions --------------------------------------------------------------------------------- */

uint64_t consensus_last_index(const struct consensus *c) {
    return raft_last_index((struct raft *)(uintptr_t)&c->raft);
}

uint64_t consensus_term(const struct consensus *c) {
    return raft_current_term(&c->raft);
}

uint8_t consensus_role(const struct consensus *c) {
    return (uint8_t)c->raft.state;
}

uint64_t consensus_leader(const struct consensus *c) {
    raft_id id = 0;
    const char *address = NULL;
    raft_leader((struct raft *)(uintptr_t)&c->raft, &id, &address);
    return id;
}

uint64_t consensus_transferee(const struct consensus *c) {
    return raft_transferee(&c->raft);
}

uint64_t consensus_durable_index(const struct consensus *c) {
    return c->raft.last_stored;
}

const struct record *consensus_record(const struct consensus *c, uint64_t index) {
    return consensus_tail_at(c, index);
}

/* The library asks for a snapshot as new as its own; what it goes on from is the follower's answer.
 * A large state is on its way for longer than two checkpoints are apart: were the newest one asked
 * for each time, none would ever arrive. */
uint64_t consensus_reach(const struct consensus *c) {
    const struct raft_trail *trail = &c->raft.trail;
    return trail->offset + 1 < trail->snapshot.index ? trail->offset + 1 : trail->snapshot.index;
}

uint64_t consensus_open_change(const struct consensus *c) {
    return c->raft.configuration_uncommitted_index;
}

/* The trail is a ring of (last index, term) pairs, one per change of term. */
uint64_t consensus_term_of(const struct consensus *c, uint64_t index) {
    const struct raft_trail *trail = &c->raft.trail;
    if (index == 0) return 0;
    if (index > trail->offset) {
        for (unsigned i = trail->front; i != trail->back; i = (i + 1) % trail->size) {
            if (trail->records[i].index >= index) return trail->records[i].term;
        }
    }
    return index == trail->snapshot.index ? trail->snapshot.term : 0;
}
