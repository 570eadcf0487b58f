/* The deterministic simulator, first ring: the real shards of one node, their storage simulated, in
 * one thread under a virtual clock and one seed.
 *
 *   sim.c          command line, one run, many runs
 *   sim_options.c  swarm testing: each seed draws its own subset and weights of faults
 *   sim_node.c     shards, disks, courier, clock; crash and restart; time moves on
 *   workload.c     clients: what they ask for, retries, overtaking commands
 *   auditor.c      judges each reply, knowing only what was asked and what is durable
 *   audit_log.c    judges each log record as it becomes durable, and keeps the model of all orders
 *   audit_end.c    judges the quiet end: model against every order and store
 *
 * The auditor shares no code with the shard nor with the order rules: it knows the log's format,
 * the commands that were sent, and what must follow. */
#ifndef JUMUN_SIM_H
#define JUMUN_SIM_H

#include "actors/command.h"
#include "engine/base/check.h"
#include "engine/base/prng.h"
#include "engine/shard/shard.h"
#include "tests/world/storage_memory.h"

enum {
    SIM_SHARDS_MAX = 4,
    SIM_STORES = 6,
    SIM_BATCH_MAX = 8,
    SIM_LINES_MAX = 4,
    SIM_REFERENCES = 4,
    SIM_COMMANDS_MAX = 200000,
    SIM_ORDERS_MAX = 50000
};

enum sim_exit { SIM_OK = 0, SIM_CRASH = 127, SIM_LIVENESS = 128, SIM_CORRECTNESS = 129 };

/* Planted faults: each must be caught. */
#define SIM_CANARIES(X)                                                                            \
    X(NONE, "none")                                                                                \
    X(ACKS_EARLY, "acks-early")               /* storage reports what is not durable */            \
    X(GATE_OPEN, "gate-open")                 /* the shard replies before the commit */            \
    X(MESSAGE_TWICE, "message-twice")         /* a message is delivered again as the next one */   \
    X(REPLAY_SKIPS, "replay-skips")           /* recovery misses one log entry */                  \
    X(LOSES_CHECKPOINTS, "loses-checkpoints") /* snapshots said to be durable are not */           \
    X(NEW_IDS, "new-ids")                     /* retries reach the shard under an id of their own */

enum sim_canary {
#define X(name, text) SIM_CANARY_##name,
    SIM_CANARIES(X)
#undef X
};

/* Drawn per seed. Chances are per 10,000: of each step, message, or operation. */
struct sim_options {
    uint64_t seed;
    double hours; /* simulated time of the hostile phase; 0 = `steps` alone */
    uint32_t steps;
    uint32_t shards_count;
    enum sim_canary canary;
    bool verbose;
    /* the node */
    uint32_t mailbox_commands_max;
    uint64_t memory_bytes_max;
    int64_t checkpoint_age_ms, resend_after_ms, retention_ms;
    /* disks */
    int64_t append_ms_max, checkpoint_ms_max, load_ms_max;
    uint32_t torn_percent, crash_per_step, crash_in_per_step, full_per_step, slow_per_step,
        stuck_per_step, no_memory_per_step;
    int64_t down_ms_max;
    /* courier */
    uint32_t message_loss, message_double, message_delay;
    int64_t message_delay_ms_max;
    /* time */
    uint32_t jump_per_step, clock_back_per_restart;
    int64_t jump_ms_max, gap_ms_max;
    /* clients */
    uint32_t reply_loss, retry, overtake, store_switch, read, deadline, new_order;
};

struct sim_totals {
    uint64_t runs, simulated_ms, steps, commands, replies, acknowledged, refused, unknown, retries,
        repeated, reads, records, events, timers, messages, messages_lost, messages_doubled,
        crashes, crashes_inside, restarts, fulls, stucks, slows, jumps, no_memory, lost_appends,
        survived_appends, torn_records, checkpoints, orders, reply_losses, damaged,
        crashes_starting;
};

/* A command that a client has made: it lives to the end of the run. */
struct sim_command {
    struct command c;
    uint64_t number;
    uint32_t order; /* index of its order; UINT32_MAX = a store's */
    uint32_t store;
    uint32_t open, unknown;  /* attempts under way; attempts that a crash is swallowing */
    bool unsure;             /* the client does not know what became of it, and asks again */
    bool sent, acknowledged; /* acknowledged: OK or HELD, by an event of its own */
    bool told_first;         /* ... by an answer that is not a repetition */
    uint16_t code;           /* of the first acknowledgement */
    uint32_t version;
    /* what the log says */
    uint64_t acted_index;    /* entry of its event; 0 = none */
    uint64_t resolved_index; /* held: entry of its resolution, which gives it another answer */
    uint32_t resolved_version;
    uint16_t resolved_code;
    uint32_t acted_version;
    uint16_t acted_kind;
    uint64_t switch_number; /* stores: how many switches the log held with this one */
    uint32_t reference;     /* pay: which part */
    char text[64];
    struct order_line lines[SIM_LINES_MAX];
    struct line_cancellation cuts[SIM_LINES_MAX];
};

struct audit_step {
    uint64_t index;
    uint32_t version;
    uint8_t kind, state;
};

/* An order: what the client plans for it, and what the log says of it. */
struct sim_order {
    struct id128 key;
    uint32_t number, store, shard;
    uint8_t fulfilment, timing;
    int64_t quantity, price, total, born_ms;
    bool place_sent;
    uint64_t place_command;        /* number of the first place */
    uint32_t acknowledged_version; /* highest that a client was told */
    /* the log */
    uint32_t version;
    uint8_t state;
    uint64_t last_index;
    bool retired, held_expired;
    uint32_t placed, expired, completed, held_expired_version;
    int64_t placed_ms, step_deadline_ms, end_deadline_ms, held_deadline_ms;
    int64_t captured[SIM_REFERENCES]; /* by reference: amount once captured */
    int64_t refunded;
    struct audit_step *steps;
    uint32_t steps_count, steps_capacity;
};

struct audit_hashes {
    uint64_t *items;
    uint64_t count, capacity;
};

/* What the auditor knows of one shard's log. */
struct audit_shard {
    uint64_t last, term;
    int64_t time_ms;
    uint64_t sent_scanned;                    /* records looked through for MESSAGE_SENT */
    struct audit_hashes records;              /* [index - 1] */
    struct audit_hashes sent[SIM_SHARDS_MAX]; /* payloads, by destination: [sequence - 1] */
    struct audit_hashes seen[SIM_SHARDS_MAX]; /* by source */
};

struct sim_store {
    char id[16];
    uint32_t shard;
    struct id128 key;
    uint32_t version; /* by the newest switch in the log */
    bool paused;
    uint64_t switches; /* events in the log */
};

struct sim;

struct sim_request {
    struct request request;
    struct sim_request *previous, *next; /* open ones */
    struct sim *sim;
    struct command commands[SIM_BATCH_MAX];
    struct result results[SIM_BATCH_MAX];
    struct sim_command *origin[SIM_BATCH_MAX];
    uint32_t
        known_version[SIM_BATCH_MAX]; /* of the order, when it was asked: reads must reflect it */
    bool acted_before[SIM_BATCH_MAX]; /* its event was durable when it was asked (again) */
    uint32_t count;
    struct request_part parts[SIM_SHARDS_MAX];
    uint32_t positions[SIM_SHARDS_MAX][SIM_BATCH_MAX];
    int64_t sent_ms;
    void (*seen)(struct sim *sim, struct sim_request *request,
                 uint32_t i); /* of a probe; or NULL */
};

struct sim_flight {
    int64_t due_ms;
    uint32_t from, to, bytes;
    uint64_t sequence;
    bool acknowledgement;
    uint8_t *payload;
};

struct sim {
    struct courier courier; /* first: the shards' view */
    struct sim_options options;
    struct sim_totals totals;
    struct prng prng;
    int64_t mono_ms, unix_ms;
    bool calm, up, dying;
    int64_t restart_ms;
    struct storage_memory *disks[SIM_SHARDS_MAX];
    struct shard *shards[SIM_SHARDS_MAX];
    int64_t shard_due_ms[SIM_SHARDS_MAX];
    int64_t full_until_ms[SIM_SHARDS_MAX], slow_until_ms[SIM_SHARDS_MAX];
    struct sim_flight *flights;
    uint32_t flights_count, flights_capacity;
    struct sim_request *open;
    uint32_t open_count;
    struct sim_command **commands;
    uint64_t commands_count;
    struct sim_order *orders;
    uint32_t orders_count;
    struct sim_store stores[SIM_STORES];
    struct audit_shard audit[SIM_SHARDS_MAX];
    bool doubled_one; /* canary MESSAGE_TWICE has struck */
    enum sim_exit verdict;
    char fault[512];
};

/* Keeps the first fault only. */
__attribute__((format(printf, 3, 4))) void sim_fail(struct sim *sim, enum sim_exit verdict,
                                                    const char *format, ...);

void sim_options_draw(struct sim_options *options, uint64_t seed);
void sim_options_print(const struct sim_options *options);

/* -- sim_node.c */
void node_init(struct sim *sim);
void node_fini(struct sim *sim);
void node_crash(struct sim *sim);
bool node_start(struct sim *sim);
/* Starts one shard on its disk, with nobody beside it. shards[i] stays NULL when it refuses. */
void node_open_one(struct sim *sim, uint32_t shard, char *error, size_t error_bytes);
void node_run(struct sim *sim, int64_t for_ms); /* moves time on */
void node_jump(struct sim *sim, int64_t by_ms); /* time passes while nothing runs */
void node_inject(struct sim *sim);              /* faults, by chance */
void node_calm(struct sim *sim);
void node_offer(struct sim *sim, struct sim_request *request);

/* -- workload.c */
void workload_init(struct sim *sim);
void workload_fini(struct sim *sim);
void workload_step(struct sim *sim);
void workload_retry_some(struct sim *sim); /* calm: unknown outcomes are asked for again */
struct sim_command *workload_command(struct sim *sim, uint8_t kind, uint32_t order, uint32_t store);
uint32_t workload_new_order(struct sim *sim, uint32_t store);
void workload_send(struct sim *sim, struct sim_command *const *commands, uint32_t count,
                   void (*seen)(struct sim *sim, struct sim_request *request, uint32_t i));
uint32_t sim_shard_of(const struct sim *sim, const struct sim_command *command);

/* -- auditor.c */
void auditor_reply(struct sim *sim, struct sim_request *request, bool lost);
void auditor_unknown(struct sim *sim, struct sim_request *request);
void auditor_crashed(struct sim *sim); /* after the logs were audited */
void audit_free(struct sim *sim);

/* -- audit_log.c */
void audit_log(struct sim *sim, uint32_t shard);         /* what became durable since */
void audit_after_crash(struct sim *sim, uint32_t shard); /* nothing durable has changed */
const struct audit_step *audit_step_of(const struct sim_order *order, uint32_t version);
struct sim_command *audit_command(struct sim *sim, const struct id128 *id);

/* -- audit_end.c */
void audit_end(struct sim *sim);

#endif
