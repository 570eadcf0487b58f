/* Consensus: an I/O-free seam. Something happened goes in; records to persist, messages to send,
 * term, vote, role and commit index come out. No callback, thread, clock, disk or socket inside.
 * Implemented over libraft 0.22.1's raft_step() in persistence/consensus/, the only room that knows
 * <raft.h>. Every rule that makes raft_step() safe (letters G, R, E, L, M, T in the comments there)
 * is one named function of that room.
 *
 * One instance belongs to one thread; instances are independent. `now_ms` is monotonic. An error
 * that raft_step() must not have (RAFT_SHUTDOWN and the like) aborts the process. */
#ifndef JUMUN_PERSISTENCE_CONSENSUS_H
#define JUMUN_PERSISTENCE_CONSENSUS_H

#include <stdbool.h>

#include "persistence/record.h"

struct consensus;

enum consensus_role { CONSENSUS_FOLLOWER = 1, CONSENSUS_CANDIDATE = 2, CONSENSUS_LEADER = 3 };

struct consensus_options {
    uint64_t id;                       /* this server, > 0 */
    const char *address;               /* opaque; copied */
    uint32_t election_timeout_ms, heartbeat_ms;
    uint32_t seed;                     /* for raft's random timeouts */
};

/* What is durable, for start. Entries: the records after the marker. */
struct consensus_start {
    uint64_t term, voted_for;
    uint64_t marker_index, marker_term;            /* applied marker; 0 = none */
    uint64_t configuration_index;
    const uint8_t *configuration; uint32_t configuration_bytes;
    uint64_t first_index;                          /* index of entries[0] */
    const struct consensus_entry { uint64_t term; uint16_t type; const void *payload;
                                   uint32_t payload_bytes; } *entries; /* payload only needed for
                                                                          RECORD_CONFIGURATION */
    uint64_t entries_count;
    int64_t now_ms;
};

/* What to do after a step, in this order: save term and vote (synced) if `vote_changed`; append
 * `records` (the caller takes over one reference each); send messages; look at role and commit. */
struct consensus_update {
    bool vote_changed;  uint64_t term, voted_for;
    struct record *records;            /* linked by next; NULL = none. Index and term are set. An
                                          index <= the last one handed out truncates from there. */
    bool role_changed;  uint8_t role;
    bool ready;                        /* leader, and the barrier of its own term is committed */
    uint64_t commit_index;             /* apply up to here */
    int64_t timeout_ms;                /* call consensus_tick() no later than this (monotonic) */
};

/* Writes the first record (index 1, term 1, RECORD_CONFIGURATION) of a new group with these voters.
 * NULL without memory. The caller makes it durable on every voter, with term 1 and vote 0. */
struct record *consensus_bootstrap_record(const uint64_t *ids, const char *const *addresses,
                                          uint32_t count);

struct consensus *consensus_new(const struct consensus_options *options);
void consensus_free(struct consensus *c);

/* Exactly once. A one-voter group's term is bumped before START (rule M3): `start` is the state as
 * on disk; the update carries the new vote, which must be durable before anything else happens. */
int consensus_start(struct consensus *c, const struct consensus_start *start,
                    struct consensus_update *update, char *error, size_t error_bytes);

/* Offers records made by this leader (type and payload set, linked by next; index and term are
 * filled). On 0 they are the log's and come back in update->records (same pointers, same order; one
 * reference each). On -1 (not leader, not ready) nothing changed and they stay the caller's. */
int consensus_submit(struct consensus *c, struct record *records, int64_t now_ms,
                     struct consensus_update *update);

/* Records up to `index` are durable, and were not truncated since. See rule section 4. */
void consensus_persisted(struct consensus *c, uint64_t index, int64_t now_ms,
                         struct consensus_update *update);

/* The clock reached the last update's timeout. Early calls are harmless. */
void consensus_tick(struct consensus *c, int64_t now_ms, struct consensus_update *update);

/* All records at or below `index` are applied and the state that reflects them is durable
 * (checkpoint marker). Everything but `trailing` entries may be forgotten. */
void consensus_checkpointed(struct consensus *c, uint64_t index, uint32_t trailing, int64_t now_ms,
                            struct consensus_update *update);

/* The caller applied a RECORD_CONFIGURATION that the commit index has passed. In order. */
void consensus_configuration_committed(struct consensus *c, const struct record_header *record,
                                       const void *payload, int64_t now_ms,
                                       struct consensus_update *update);

uint64_t consensus_last_index(const struct consensus *c);
uint64_t consensus_term(const struct consensus *c);
uint64_t consensus_term_of(const struct consensus *c, uint64_t index); /* 0 = not known any more */
uint8_t consensus_role(const struct consensus *c);

/* The newest configuration committed at or below the last configuration_committed() call, encoded;
 * for checkpoints. Valid until the next call that changes it. */
const uint8_t *consensus_committed_configuration(const struct consensus *c, uint64_t *index,
                                                 uint32_t *bytes);

#endif
