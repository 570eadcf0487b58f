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
struct consensus_message;

enum consensus_role { CONSENSUS_FOLLOWER = 1, CONSENSUS_CANDIDATE = 2, CONSENSUS_LEADER = 3 };

struct consensus_options {
    uint64_t id;                       /* this server, > 0 */
    const char *address;               /* opaque; copied */
    uint32_t election_timeout_ms, heartbeat_ms;
    uint32_t seed;                     /* for raft's random timeouts */
};

/* What is durable, for start. Entries: the records after the marker, and as many of those before it
 * as followers may still be sent from the log (first_index <= marker_index + 1, without a gap, up
 * to the marker at least). Right after an install: the marker and no entries. */
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
    bool of_cluster;                               /* the group has several voters: a state in which
                                                      this server is the only one, the newest
                                                      configuration being lost, is refused (rule
                                                      M3) */
    int64_t now_ms;
};

/* What to do after a step, in this order: save term and vote (synced) if `vote_changed`; append
 * `records` (the caller takes over one reference each); send messages; look at role and commit. */
struct consensus_update {
    bool vote_changed;  uint64_t term, voted_for;
    struct record *records;            /* linked by next; NULL = none. Index and term are set. An
                                          index <= the last one handed out truncates from there.
                                          One update's records are ONE append (one durable step). */
    uint64_t batch;                    /* number of this batch of records: 1, 2, ...; 0 = none.
                                          storage.append() counts the same when each one is appended
                                          in order to a storage opened for this instance. */
    const struct consensus_message *messages; uint32_t messages_count; /* valid until the next call;
                                          records in them are borrowed */
    bool role_changed;  uint8_t role;
    bool ready;                        /* leader, and the barrier of its own term is committed */
    uint64_t commit_index;             /* apply up to here */
    uint64_t reads_confirmed;          /* rounds of consensus_read() confirmed so far */
    int64_t timeout_ms;                /* call consensus_tick() no later than this (monotonic) */
};

/* Writes the first record (index 1, term 1, RECORD_CONFIGURATION) of a new group with these voters.
 * NULL without memory. The caller makes it durable on every voter, with term 1 and vote 0. */
struct record *consensus_bootstrap_record(const uint64_t *ids, const char *const *addresses,
                                          uint32_t count);

struct consensus *consensus_new(const struct consensus_options *options);
void consensus_free(struct consensus *c);

/* Exactly once. A one-voter group's term is bumped before START (rule M3): `start` is the state as
 * on disk; the update carries the new vote (`vote_changed`), and the caller makes it durable
 * (storage.save_vote) before it appends the update's records or does anything else. The records are
 * the barrier of the new term (rule L1); `ready` follows once it is committed. A crash before the
 * vote is durable leaves everything as it was.
 * A server that joins a group starts with all zero. -1 with a sentence when the stored state cannot
 * be what a server of this group left behind; the instance is then only good for
 * consensus_free(). */
int consensus_start(struct consensus *c, const struct consensus_start *start,
                    struct consensus_update *update, char *error, size_t error_bytes);

/* Offers records made by this leader (type and payload set, linked by next; index and term are
 * filled). On 0 they are the log's and come back in update->records (same pointers, same order; one
 * reference each). On -1 (not leader, not ready) nothing changed and they stay the caller's. */
int consensus_submit(struct consensus *c, struct record *records, int64_t now_ms,
                     struct consensus_update *update);

/* Records up to `index` are durable. Only for a log that was never truncated since start (that of a
 * one-voter group never is): afterwards an index alone does not say which record of that index is
 * meant, and consensus_persisted_batch() has to be used. */
void consensus_persisted(struct consensus *c, uint64_t index, int64_t now_ms,
                         struct consensus_update *update);

/* All batches up to and including number `batch` are durable. Records of them that were truncated
 * in the meantime are not counted. */
void consensus_persisted_batch(struct consensus *c, uint64_t batch, int64_t now_ms,
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
/* The least index behind which a follower can go on: what it is sent from the log may begin there;
 * what lies in front is forgotten. 0 = nothing is. */
uint64_t consensus_reach(const struct consensus *c);
uint8_t consensus_role(const struct consensus *c);
/* Index of the configuration record that is in the log and not known to be committed; 0 = none. */
uint64_t consensus_open_change(const struct consensus *c);

uint64_t consensus_leader(const struct consensus *c);     /* server id; 0 = not known */
uint64_t consensus_transferee(const struct consensus *c); /* to whom the lead is being handed;
                                                             0 = nobody. Submits are refused then */
/* Highest index up to which this server's own log is durable and holds what it shall hold. */
uint64_t consensus_durable_index(const struct consensus *c);
/* The record at `index` if it is still in memory (newest ones of a group with peers); else NULL.
 * Borrowed until the next call that changes anything. */
const struct record *consensus_record(const struct consensus *c, uint64_t index);

/* The newest configuration committed at or below the last configuration_committed() call, encoded;
 * for checkpoints. Valid until the next call that changes it. */
const uint8_t *consensus_committed_configuration(const struct consensus *c, uint64_t *index,
                                                 uint32_t *bytes);

/* -- peers ---------------------------------------------------------------------------------------
 * A message between two servers of a group: this room's own copy of the fields, so that whoever
 * carries it needs no <raft.h>. The envelope on the wire adds group and incarnation; `version` and
 * `features` travel exactly as they are. Loss, duplication and reorder are harmless. */
enum consensus_message_kind {
    CONSENSUS_APPEND = 1,
    CONSENSUS_APPEND_RESULT = 2,
    CONSENSUS_VOTE = 3,
    CONSENSUS_VOTE_RESULT = 4,
    CONSENSUS_INSTALL_SNAPSHOT = 5, /* out only: this follower needs a snapshot. One at or above
                                       previous_index will do, behind which the log still is;
                                       last_index is the newest there is. Repeated, so de-duplicate
                                       per peer. Ignored when received. */
    CONSENSUS_TIMEOUT_NOW = 6,
    CONSENSUS_PING = 7,             /* of a read round: last_index = the round's number */
    CONSENSUS_PONG = 8
};

struct consensus_message {
    uint8_t kind;                  /* enum consensus_message_kind */
    uint8_t version;
    uint16_t features, capacity;   /* results */
    bool granted, pre_vote, disrupt_leader; /* votes and their results */
    uint64_t from, to;             /* server ids */
    uint64_t term;
    uint64_t last_index, last_term; /* votes, snapshots, timeout now; last_index: append results */
    uint64_t rejected;             /* append results: the refused previous_index; 0 = accepted */
    uint64_t configuration_index;  /* snapshots */
    uint64_t previous_index;       /* appends; snapshots */
    uint64_t previous_term, commit_index; /* appends */
    struct record *const *records; /* appends: the entries behind previous_index. NULL with a count:
                                      they are no longer in memory; the sender's log has them. Who
                                      reads them later must not trust the log to be what it was: a
                                      newer leader may have replaced its end. If previous_index >
                                      commit_index, the record at previous_index is read in the same
                                      transaction, and has previous_term, or nothing is sent */
    uint32_t records_count;
};

/* A message came in. The records of an append belong to the receiver alone (decoded for it): each
 * one that is new is taken with a reference of its own and comes back in update->records. Malformed
 * messages (`from` zero, gaps in the records, unknown kind) are dropped, and so are those to
 * another server: an earlier replica of this group on the same node had another id. */
void consensus_receive(struct consensus *c, const struct consensus_message *message, int64_t now_ms,
                       struct consensus_update *update);

/* A message that came from elsewhere, in one block of memory: the records array behind it, one
 * reference of each record held. Those of fields->records are held once more; where that is NULL,
 * the array is empty, and whoever decodes fills it (cast `records`) with references of its own.
 * NULL without memory. Any thread. */
struct consensus_message *consensus_message_new(const struct consensus_message *fields,
                                                uint32_t records_count);
void consensus_message_free(struct consensus_message *message); /* NULL is fine */

/* -- linearizable reads --------------------------------------------------------------------------
 * Begins a round (or joins the one that has not been sent yet) and returns its number, > 0: what
 * this leader had committed when it was asked is still the newest once update->reads_confirmed has
 * reached the number. Each voter is asked whether it still is in this leader's term (kinds PING and
 * PONG, see docs/consensus.md); a majority, itself included, must say so. With one voter it is
 * confirmed at once. 0 when not leader or not ready. Numbers of one instance only grow. A round is
 * dropped with the role or the term that it was begun in: the caller forgets its reads then, for a
 * later round of a later term would seem to confirm them. */
uint64_t consensus_read(struct consensus *c, int64_t now_ms, struct consensus_update *update);

/* -- snapshots -----------------------------------------------------------------------------------
 * What a snapshot is: a state that reflects everything up to `index`. */
struct consensus_snapshot {
    uint64_t index, term;              /* of the marker */
    uint64_t configuration_index;
    const uint8_t *configuration; uint32_t configuration_bytes;
};

/* A complete and checked snapshot of server `from`, which led in `leader_term`, lies ready. 0: the
 * caller switches to it durably (a changed vote first; the state is replaced, the log starts anew
 * at index + 1), and then calls consensus_installed(). In between: ticks, queries, reports of
 * batches that were on their way (they count no more); messages are dropped. 1: not wanted (older
 * than what is committed here, or than the term): throw it away; the update may hold the
 * acknowledgement that ends the leader's asking. No checkpoint of one's own may be under way. */
int consensus_install(struct consensus *c, uint64_t from, uint64_t leader_term,
                      const struct consensus_snapshot *snapshot, int64_t now_ms,
                      struct consensus_update *update);
void consensus_installed(struct consensus *c, int64_t now_ms, struct consensus_update *update);

/* The configuration that counts for a marker at `index`: the newest committed at or below it.
 * False when that is not known any more (older than the last checkpoint). Valid until the next
 * call that changes it. */
bool consensus_marker_configuration(const struct consensus *c, uint64_t index,
                                    uint64_t *configuration_index, const uint8_t **configuration,
                                    uint32_t *bytes);

/* -- the group as this server sees it ---------------------------------------------------------- */
enum { CONSENSUS_SERVERS_MAX = 9 };    /* voters and those that are being added */
enum { CONSENSUS_LACKS_MS = 5000, CONSENSUS_LACKS_REFUSALS = 10 };
enum consensus_server_role { CONSENSUS_STANDBY = 1, CONSENSUS_VOTER = 2 };
struct consensus_group {
    uint64_t leader;                   /* server id; 0 = unknown */
    uint32_t count;
    struct consensus_server {
        uint64_t id;
        uint64_t match_index;          /* at the leader: what it is known to have; else 0 */
        uint8_t role;                  /* enum consensus_server_role */
        bool recent;                   /* at the leader: heard of within an election timeout */
        bool lacks;                    /* at the leader: it has refused for CONSENSUS_LACKS_MS, and
                                          so often, what it acknowledged to this very leader: it has
                                          lost that, and what it helped to decide may hang on fewer
                                          than a majority now */
    } servers[CONSENSUS_SERVERS_MAX];  /* newest configuration, committed or not */
};
void consensus_group(const struct consensus *c, int64_t now_ms, struct consensus_group *group);

/* A server id names a replica for life: the node in the low half, in the high half how many times
 * that node had a replica of this group before (a removed id never returns, rule M8). */
static inline uint64_t consensus_server_id(uint32_t node, uint32_t incarnation) {
    return (uint64_t)incarnation << 32 | node;
}
static inline uint32_t consensus_server_node(uint64_t id) { return (uint32_t)id; }
static inline uint32_t consensus_server_incarnation(uint64_t id) { return (uint32_t)(id >> 32); }

/* One membership change: see rules M1 to M9. Removed ids never return. */
enum consensus_change { CONSENSUS_ADD_STANDBY = 1, CONSENSUS_PROMOTE = 2, CONSENSUS_REMOVE = 3 };

/* Submits a change of ONE server at the leader. 0, or -1 with the rule that forbids it as a
 * sentence in error (then nothing changed). `address` only for ADD_STANDBY. */
int consensus_change(struct consensus *c, uint8_t change, uint64_t id, const char *address,
                     int64_t now_ms, struct consensus_update *update, char *error,
                     size_t error_bytes);

/* Hands leadership to another voter (rule T1): 0 when begun, -1 with a sentence when the target has
 * not got the whole log yet (stop submitting and ask again) or is not a voter. */
int consensus_transfer(struct consensus *c, uint64_t id, int64_t now_ms,
                       struct consensus_update *update, char *error, size_t error_bytes);

/* The rules that a test can take out, to show what they are for. Only with debug checks. */
enum consensus_rule {
    CONSENSUS_RULE_R1 = 1, CONSENSUS_RULE_R2 = 2, CONSENSUS_RULE_R3 = 4, CONSENSUS_RULE_R4 = 8,
    CONSENSUS_RULE_E1 = 16, CONSENSUS_RULE_E2 = 32, CONSENSUS_RULE_E3 = 64, CONSENSUS_RULE_E4 = 128,
    CONSENSUS_RULE_L1 = 256, CONSENSUS_RULE_M3 = 512, CONSENSUS_RULE_TRUNCATED = 1024,
    CONSENSUS_RULE_CLAMP = 2048, CONSENSUS_RULE_R5 = 4096, CONSENSUS_RULE_R6 = 8192,
    CONSENSUS_RULE_Q1 = 16384, CONSENSUS_RULE_Q2 = 32768, CONSENSUS_RULE_M1 = 1 << 16,
    CONSENSUS_RULE_M4 = 1 << 17, CONSENSUS_RULE_M6 = 1 << 18, CONSENSUS_RULE_M7 = 1 << 19,
    CONSENSUS_RULE_T1 = 1 << 20, CONSENSUS_RULE_E5 = 1 << 21,
    CONSENSUS_RULE_R7 = 1 << 22
};
#ifdef JUMUN_DEBUG_CHECKS
void consensus_rules_off(struct consensus *c, uint32_t rules);
#endif

#endif
