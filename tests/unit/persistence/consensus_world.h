/* A server around consensus.h for its tests: a log and a vote that survive a crash, writes that are
 * queued and become durable one batch at a time, and a list of what it wanted to send. */
#ifndef JUMUN_TEST_CONSENSUS_WORLD_H
#define JUMUN_TEST_CONSENSUS_WORLD_H

#include "persistence/consensus.h"

enum { WORLD_LOG_MAX = 4096, WORLD_QUEUE_MAX = 512, WORLD_OUT_MAX = 256, WORLD_SERVERS_MAX = 32 };

struct world_batch {
    uint64_t number;
    uint32_t count;
    struct record *records[256];
};

/* A stored state as it travels to a follower that lags. */
struct world_snapshot {
    uint64_t from, leader_term;
    uint64_t index, term, configuration_index;
    uint8_t configuration[512];
    uint32_t configuration_bytes;
    uint64_t state; /* what the state machine came to at `index` */
};

struct world_sent { /* a copy of a message, with records of its own */
    struct consensus_message m;
    struct record **records;
};

struct world_server {
    uint64_t id;
    struct consensus *c; /* NULL = down */
    uint32_t rules_off, seed;
    bool forgets_votes; /* canary: the vote never reaches the disk */
    bool of_cluster;    /* see struct consensus_start */
    /* survives a crash */
    uint64_t term, voted_for, durable_count; /* log[i] has index i + 1 ... */
    uint64_t log_first;                      /* ... from this index on: NULL before */
    struct record *log[WORLD_LOG_MAX];
    uint64_t marker_index, marker_term, configuration_index;
    uint8_t configuration[512];
    uint32_t configuration_bytes;
    uint64_t marker_state;
    uint32_t start_trailing; /* so many records before the marker are told at start, too */
    /* does not */
    struct world_batch *queue;
    uint32_t queue_head, queue_count;
    uint64_t commit_index, applied_index;
    bool ready;
    uint8_t role;
    int64_t timeout_ms;
    uint64_t state[WORLD_LOG_MAX + 1]; /* [i]: a hash over all records applied up to index i */
    uint64_t reads_confirmed;
    uint32_t barriers; /* barrier records handed out since start */
    struct world_sent out[WORLD_OUT_MAX];
    uint32_t out_count;
};

/* A new group's server with the bootstrap record durable. The configuration holds `ids`. */
void world_bootstrap(struct world_server *s, uint64_t id, const uint64_t *ids, uint32_t count);
/* A server that joins: nothing stored. */
void world_join(struct world_server *s, uint64_t id);
void world_start(struct world_server *s, int64_t now_ms);
void world_crash(struct world_server *s); /* loses what is queued */
void world_free(struct world_server *s);

/* Takes over an update: vote, records (queued), messages (copied), the rest (noted). */
void world_take(struct world_server *s, const struct consensus_update *update);
/* The oldest queued batch becomes durable, and consensus is told. False = nothing queued. */
bool world_persist(struct world_server *s, int64_t now_ms);
/* All of them; and configurations at or below the commit index are applied. */
void world_settle(struct world_server *s, int64_t now_ms);
/* Feeds committed, durable configuration records to consensus. */
void world_apply(struct world_server *s, int64_t now_ms);
void world_checkpoint(struct world_server *s, uint64_t index, uint32_t trailing, int64_t now_ms);
/* The marker's state as a transfer would take it; false without a marker. */
bool world_export(const struct world_server *s, uint64_t leader_term, struct world_snapshot *out);
/* Where the process ends during an install. */
enum { WORLD_INSTALL_WHOLE = 0, WORLD_CRASH_BEFORE_SWITCH = 1, WORLD_CRASH_AFTER_SWITCH = 2 };
/* False = it was not wanted. Crashed servers are down afterwards. */
bool world_install(struct world_server *s, const struct world_snapshot *snapshot, int crash_at,
                   int64_t now_ms);
uint64_t world_read(struct world_server *s, int64_t now_ms);
uint64_t world_record_hash(const struct record *r);
uint64_t world_next_state(uint64_t state, const struct record *r);
const char *world_address(uint64_t id);
void world_tick(struct world_server *s, int64_t now_ms);

/* A record with `text`; -1 / index from submit. */
struct record *world_record(uint64_t term, uint64_t index, uint16_t type, const char *text);
int world_submit(struct world_server *s, uint32_t count, int64_t now_ms);
void world_receive(struct world_server *s, const struct consensus_message *m, int64_t now_ms);
const struct world_sent *world_last_sent(const struct world_server *s, uint64_t to, uint8_t kind);
void world_clear_out(struct world_server *s);
void world_sent_free(struct world_sent *sent);
struct world_sent world_sent_copy(const struct consensus_message *m);

/* Runs `body(arg)` in a child; true if it ended by abort(). */
bool world_aborts(void (*body)(void *arg), void *arg);

#endif
