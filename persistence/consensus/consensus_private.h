/* What the files of this room share. Nobody else includes it. */
#ifndef JUMUN_PERSISTENCE_CONSENSUS_PRIVATE_H
#define JUMUN_PERSISTENCE_CONSENSUS_PRIVATE_H

#include <assert.h>

#include <raft.h>

#include "engine/base/check.h"
#include "engine/limits.h"
#include "persistence/consensus.h"

/* The rules lean on public fields of struct raft and on faults of exactly this version. */
static_assert(RAFT_VERSION_NUMBER == 2201, "the seam rules are proven for libraft 0.22.1 only");
static_assert((int)RAFT_COMMAND == RECORD_EVENTS && (int)RAFT_BARRIER == RECORD_BARRIER &&
                  (int)RAFT_CHANGE == RECORD_CONFIGURATION,
              "record types are raft's entry types");
static_assert((int)RAFT_APPEND_ENTRIES == CONSENSUS_APPEND &&
                  (int)RAFT_APPEND_ENTRIES_RESULT == CONSENSUS_APPEND_RESULT &&
                  (int)RAFT_REQUEST_VOTE == CONSENSUS_VOTE &&
                  (int)RAFT_REQUEST_VOTE_RESULT == CONSENSUS_VOTE_RESULT &&
                  (int)RAFT_INSTALL_SNAPSHOT == CONSENSUS_INSTALL_SNAPSHOT &&
                  (int)RAFT_TIMEOUT_NOW == CONSENSUS_TIMEOUT_NOW,
              "message kinds are raft's");

/* A batch of records on its way to the disk. `valid_to` sinks when a later batch truncates. */
struct consensus_batch {
    uint64_t number;
    uint64_t valid_to; /* highest index of it that still stands; 0 = none */
};

/* A configuration that is known to be committed, encoded as in its record. */
struct consensus_configuration {
    uint64_t index;
    uint32_t bytes;
    uint8_t *data; /* owned */
};

/* What is remembered of another member of the group. */
struct consensus_peer {
    uint64_t id; /* 0 = free */
    int64_t heard_ms;
    bool heard;
    uint64_t answered;       /* number of the newest read round that it answered in time */
    uint64_t snapshot_index; /* R6: of the snapshot that the library asked it to install last ... */
    uint64_t snapshot_term;  /* ... and the term in which: another one begins without asking */
    uint64_t lacking_term;   /* it refuses what it acknowledged in this term; 0 = it does not */
    int64_t lacking_since_ms, lacking_ms; /* it did so first, and last */
    uint32_t lacking_refusals;
};

/* Rounds of reads: at most one on its way and one being gathered. */
struct consensus_reads {
    uint64_t number;         /* the last one handed out */
    uint64_t sent, gathered; /* numbers; 0 = none */
    uint64_t confirmed;
    uint64_t term; /* that `sent` and `gathered` belong to */
    int64_t sent_ms;
};

/* The newest records, for peers: entry i has index first + i. One reference each. */
struct consensus_tail {
    struct record **records; /* ring */
    uint64_t first;          /* index of the oldest one; 0 = empty */
    uint32_t head, count, capacity;
    uint64_t bytes;
};

struct consensus {
    struct raft raft;
    bool started;
    int64_t now_ms; /* the last time given to raft: it must never go back */
    uint32_t rules_off;
    unsigned short state;   /* raft's after the last call */
    uint64_t barrier_index; /* L1: of the newest own barrier; 0 = none */
    uint64_t barrier_term;
    uint64_t commit_index; /* as told in the last update */

    struct consensus_batch *batches; /* ring: queued and not yet durable */
    uint32_t batches_head, batches_count, batches_capacity;
    uint64_t batch_number;
    bool truncated; /* an index alone is ambiguous from now on */

    struct consensus_configuration *configurations; /* committed ones, oldest first; all at or above
                                                       the last checkpoint's and one below it */
    uint32_t configurations_count, configurations_capacity;

    struct consensus_peer peers[CONSENSUS_SERVERS_MAX];
    struct consensus_reads reads;
    struct raft_snapshot_metadata installing; /* while the library's flag of that name is set */

    struct consensus_tail tail;
    struct raft_entry *entries; /* scratch of submit and receive */
    struct record **sources;    /* the records behind them, of submit */
    uint32_t entries_capacity;

    struct consensus_message *messages; /* of the last update */
    uint32_t messages_count, messages_capacity;
    struct record **message_records; /* what their `records` point into */
    uint32_t message_records_count, message_records_capacity;
    struct record *records_last; /* end of the update's list */
};

/* -- consensus_update.c: one step, and what comes out of it ------------------------------------ */

/* Begins a call: an empty update, time moved on. */
void consensus_begin(struct consensus *c, int64_t now_ms, struct consensus_update *update);

/* One raft_step() with everything that it asks for gathered into the update. `sources[i]` is the
 * record behind entry i of the event (NULL = the event has no entries). Returns raft's refusal of a
 * SUBMIT or TRANSFER; aborts on any other error. */
int consensus_step(struct consensus *c, struct raft_event *event, struct record *const *sources,
                   struct consensus_update *update);

/* Ends a call: role, barrier (L1), readiness, commit index, timeout. */
void consensus_end(struct consensus *c, struct consensus_update *update);

struct raft_event consensus_event(const struct consensus *c, enum raft_event_type type);
struct raft_entry *consensus_scratch(struct consensus *c, uint32_t count);
const struct record *consensus_tail_at(const struct consensus *c, uint64_t index);
void consensus_tail_clear(struct consensus *c);
struct consensus_message *consensus_add_message(struct consensus *c);

/* -- consensus.c ------------------------------------------------------------------------------- */

bool consensus_is_ready(const struct consensus *c);

/* -- consensus_reads.c ------------------------------------------------------------------------- */

void consensus_reads_expire(struct consensus *c);
void consensus_reads_tick(struct consensus *c);
int64_t consensus_reads_timeout(const struct consensus *c, int64_t timeout_ms);
void consensus_receive_ping(struct consensus *c, const struct consensus_message *ping);
void consensus_receive_pong(struct consensus *c, const struct consensus_message *pong);

/* -- consensus_snapshot.c ---------------------------------------------------------------------- */

struct consensus_peer *consensus_peer(struct consensus *c, uint64_t id);
void consensus_peer_heard(struct consensus *c, uint64_t id);

/* -- consensus_configuration.c ----------------------------------------------------------------- */

bool consensus_decode(const void *data, size_t bytes, struct raft_configuration *configuration);
void consensus_copy(const struct raft_configuration *from, struct raft_configuration *to);
uint32_t consensus_voters(const struct raft_configuration *configuration);
const struct raft_server *consensus_server(const struct raft_configuration *configuration,
                                           uint64_t id);
void consensus_note_committed(struct consensus *c, uint64_t index, const void *data,
                              uint32_t bytes);
const struct consensus_configuration *consensus_configuration_at(const struct consensus *c,
                                                                 uint64_t index);
void consensus_forget_configurations(struct consensus *c, uint64_t upto_index);
void consensus_forget_all_configurations(struct consensus *c);

/* -- consensus_rules.c: the rules, one function each ------------------------------------------- */

static inline bool consensus_rule(const struct consensus *c, uint32_t rule) {
    return (c->rules_off & rule) == 0;
}

bool consensus_rule_g2_change_alone(const struct record *records);
size_t consensus_rule_r1_part(const struct consensus *c, struct record *const *records,
                              size_t count);
bool consensus_rule_r1_second_change(const struct consensus *c,
                                     const struct raft_append_entries *part);
void consensus_rule_r2_cut(const struct consensus *c, struct consensus_message *append);
bool consensus_rule_r3_stale_rejection(const struct consensus *c,
                                       const struct consensus_message *m);
bool consensus_rule_r4_vote_result_late(const struct consensus *c,
                                        const struct consensus_message *m);
uint64_t consensus_rule_r5_commit(const struct consensus *c, uint64_t commit_index, uint64_t last);
void consensus_rule_r7_old_term(const struct consensus *c, const struct raft_event *event,
                                struct raft_message *answer);
void consensus_rule_r6_snapshot_asked(struct consensus *c, const struct consensus_message *out);
bool consensus_rule_r6_snapshot_refused(struct consensus *c, struct consensus_message *m,
                                        uint32_t messages_before);
void consensus_rule_r3_late_hint(const struct consensus *c, struct consensus_message *m);
bool consensus_rule_q1_majority_answered(struct consensus *c);
bool consensus_rule_q2_same_term(const struct consensus *c, const struct consensus_message *ping);
void consensus_rule_e1_refusal_term(const struct consensus *c, struct consensus_message *out);
void consensus_rule_e2_candidate_retry(struct consensus *c);
struct raft_server *consensus_rule_e3_standby_votes(struct consensus *c);
void consensus_rule_e4_forget_leader(struct consensus *c);
void consensus_rule_e5_new_term_no_leader(struct consensus *c, const struct raft_event *event,
                                          uint64_t term_before);
bool consensus_rule_l1_barrier_due(const struct consensus *c);
bool consensus_rule_m3_lone_voter(const struct consensus *c,
                                  const struct raft_configuration *configuration);
bool consensus_rule_m3_forgot(const struct consensus *c, const struct consensus_start *start,
                              const struct raft_configuration *configuration);
uint64_t consensus_rule_4_durable(struct consensus *c, uint64_t batch);
void consensus_rule_4_truncated(struct consensus *c, uint64_t first);
void consensus_rule_4_truncated_all(struct consensus *c);
int64_t consensus_rule_clamp_timeout(const struct consensus *c, uint64_t timeout);

#endif
