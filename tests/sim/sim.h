/* The deterministic simulator: the real shards of a whole cluster (or of one node), with simulated
 * disks, network and clocks, in one thread under one seed.
 *
 *   sim.c           command line, one run, many runs
 *   sim_options.c   swarm testing: each seed draws its own subset and weights of faults
 *   sim_replica.c   one replica of one shard: its disk, its life, its rounds of work
 *   sim_node.c      nodes: start, crash, freeze; time moves on
 *   sim_network.c   what travels between nodes and clients: courier, peers, hellos, requests
 *   sim_transfer.c  snapshots on their way to a replica that the log does not reach
 *   sim_operator.c  where each group shall be: moves, replacements, drained nodes, lost disks
 *   sim_upgrade.c   nodes of two versions, and the step from one level to the next
 *   sim_faults.c    what goes wrong, by chance; and the calm after it
 *   workload.c      clients: what they ask for, retries, overtaking commands
 *   client.c        whom they ask: leaders, hints, time-outs
 *   auditor.c       judges each reply, knowing only what was asked and what is committed
 *   audit_group.c   judges each group: majorities, one leader a term, equal logs, equal states
 *   audit_log.c     judges each record as it is committed, and keeps the model of all orders
 *   audit_end.c     judges the quiet end: model against every order and store
 *
 * The auditor shares no code with the shard nor with the order rules: it knows the log's format,
 * the commands that were sent, and what must follow.
 *
 * A run with one node is a group of one, as a node alone is; it has its own faults (memory, drained
 * and damaged ends) that a cluster's run leaves out. */
#ifndef JUMUN_SIM_H
#define JUMUN_SIM_H

#include "actors/command.h"
#include "actors/event.h"
#include "engine/base/check.h"
#include "engine/base/prng.h"
#include "engine/shard/shard.h"
#include "engine/wire/routing.h"
#include "tests/world/network.h"
#include "tests/world/storage_memory.h"

enum {
    SIM_NODES_MAX = 8,
    SIM_CLIENT = SIM_NODES_MAX, /* endpoint of the network */
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
    X(NEW_IDS, "new-ids")                     /* retries reach the shard under ids of their own */ \
    X(JOURNAL_FORGOTTEN, "journal-forgotten") /* a restart does not look into the journal */       \
    X(JOURNAL_EARLY, "journal-early")         /* it is told too early that the log follows */      \
    X(JOURNAL_TRUSTS, "journal-trusts")       /* a torn frame of the journal is believed */        \
    /* of a cluster */                                                                             \
    X(VOTES_FORGOTTEN, "votes-forgotten")     /* a restart does not know whom it voted for */      \
    X(TAIL_KEPT, "tail-kept")                 /* what a new leader truncated survives on disk */   \
    X(READS_ALONE, "reads-alone")             /* a leader asks nobody whether it still leads */    \
    X(STALE_PERSISTED, "stale-persisted")     /* truncated entries count as durable */             \
    X(NO_BARRIER, "no-barrier")               /* rule L1 off */                                    \
    X(LEVEL_IGNORED, "level-ignored")         /* logs are written as the newest program can */

enum sim_canary {
#define X(name, text) SIM_CANARY_##name,
    SIM_CANARIES(X)
#undef X
};

/* Drawn per seed. Chances are per 10,000: of each step, message, or operation.
 * X(type, name) */
#define SIM_OPTIONS(X)                                                                             \
    X(uint32_t, nodes)      /* 1 = a node alone */                                                 \
    X(uint32_t, voters)     /* replicas of each group at first: 1, 3, 5 */                         \
    X(uint32_t, shards_count) /* in the end */                                                     \
    X(uint32_t, first_shards) /* at first: the others come by growth, in an epoch of their own */  \
    X(uint32_t, grow_step)    /* the step at which it grows */                                     \
    X(uint32_t, upgrade_step) /* from then on nodes are upgraded for good; 0 = one version */      \
    X(uint32_t, move_step)    /* the step at which stores begin to move, if it has grown */        \
    X(uint32_t, steps)                                                                             \
    /* the nodes */                                                                                \
    X(uint32_t, mailbox_commands_max)                                                              \
    X(uint64_t, memory_bytes_max)                                                                  \
    X(int64_t, checkpoint_age_ms)                                                                  \
    X(int64_t, resend_after_ms)                                                                    \
    X(uint32_t, outbox_window) /* what is beyond it leaves memory; 0 = as in a node */             \
    X(int64_t, retention_ms)                                                                       \
    X(uint32_t, trailing_entries)                                                                  \
    /* disks */                                                                                    \
    X(int64_t, append_ms_max)                                                                      \
    X(int64_t, checkpoint_ms_max)                                                                  \
    X(int64_t, load_ms_max)                                                                        \
    X(uint32_t, torn_percent)                                                                      \
    X(uint32_t, journal_blocks) /* of 4096 bytes; 0 = no journal in front of the log */            \
    X(int64_t, late_ms_max)     /* the log is so far behind it */                                  \
    X(uint32_t, crash_per_step)                                                                    \
    X(uint32_t, crash_in_per_step)                                                                 \
    X(uint32_t, crash_all_per_step) /* every node at once */                                       \
    X(uint32_t, full_per_step)                                                                     \
    X(uint32_t, slow_per_step)                                                                     \
    X(uint32_t, stuck_per_step)                                                                    \
    X(uint32_t, no_memory_per_step)                                                                \
    X(uint32_t, rot_per_step)  /* one bit of one replica's log or state turns round */             \
    X(uint32_t, wipe_per_step) /* a node loses its disk */                                         \
    X(int64_t, down_ms_max)                                                                        \
    /* between shards */                                                                           \
    X(uint32_t, message_loss)                                                                      \
    X(uint32_t, message_double)                                                                    \
    X(uint32_t, message_delay)                                                                     \
    X(int64_t, message_delay_ms_max)                                                               \
    /* between nodes */                                                                            \
    X(uint32_t, net_loss)                                                                          \
    X(uint32_t, net_double)                                                                        \
    X(uint32_t, net_late)                                                                          \
    X(int64_t, net_latency_ms_max)                                                                 \
    X(int64_t, net_late_ms_max)                                                                    \
    X(uint32_t, cut_per_step)     /* a node, a link, one direction, or the cluster in two */       \
    X(uint32_t, freeze_per_step)  /* as by SIGSTOP */                                              \
    X(uint32_t, stop_per_step)    /* as by SIGTERM: drained first */                               \
    X(int64_t, cut_ms_max)                                                                         \
    /* the operator */                                                                             \
    X(uint32_t, move_per_step)                                                                     \
    X(uint32_t, transfer_per_step)                                                                 \
    /* time */                                                                                     \
    X(uint32_t, jump_per_step)                                                                     \
    X(uint32_t, clock_back_per_restart)                                                            \
    X(uint32_t, skew_per_step)                                                                     \
    X(int64_t, skew_ms_max)                                                                        \
    X(int64_t, jump_ms_max)                                                                        \
    X(int64_t, gap_ms_max)                                                                         \
    /* clients */                                                                                  \
    X(uint32_t, reply_loss)                                                                        \
    X(uint32_t, retry)                                                                             \
    X(uint32_t, overtake)                                                                          \
    X(uint32_t, store_switch)                                                                      \
    X(uint32_t, read)                                                                              \
    X(uint32_t, deadline)                                                                          \
    X(uint32_t, new_order)                                                                         \
    X(uint32_t, astray)         /* asks any node */                                                \
    X(uint32_t, fresh_read)     /* of what was acknowledged last, where it was led before */       \
    X(int64_t, patience_ms)     /* then it asks again, perhaps another node */

struct sim_options {
    uint64_t seed;
    double hours; /* simulated time of the hostile phase; 0 = `steps` alone */
    enum sim_canary canary;
    bool verbose;
#define X(type, name) type name;
    SIM_OPTIONS(X)
#undef X
};

/* Counted over a run. X(name, what the report calls it) */
#define SIM_TOTALS(X)                                                                              \
    X(runs, "runs")                                                                                \
    X(simulated_ms, "ms")                                                                          \
    X(jumped_ms, "ms")                                                                             \
    X(steps, "steps")                                                                              \
    X(commands, "commands")                                                                        \
    X(replies, "replies")                                                                          \
    X(acknowledged, "acknowledged")                                                                \
    X(refused, "refused")                                                                          \
    X(not_leader, "not leader")                                                                    \
    X(leadership_lost, "leadership lost")                                                          \
    X(unknown, "unknown")                                                                          \
    X(retries, "retries")                                                                          \
    X(repeated, "repeated")                                                                        \
    X(reads, "reads")                                                                              \
    X(orders, "orders")                                                                            \
    X(records, "records")                                                                          \
    X(events, "events")                                                                            \
    X(timers, "by deadlines")                                                                      \
    X(checkpoints, "checkpoints")                                                                  \
    X(messages, "messages")                                                                        \
    X(elections, "elections")                                                                      \
    X(configurations, "configuration changes")                                                     \
    X(placements, "placements")                                                                    \
    X(stores_moved, "moves of stores")                                                             \
    X(grown, "growths")                                                                            \
    X(upgraded, "nodes upgraded")                                                                  \
    X(raised, "levels raised")                                                                     \
    X(snapshots, "snapshots sent")                                                                 \
    X(installs, "snapshots installed")                                                             \
    X(filled, "records filled into gaps")                                                          \
    X(crashes, "crashes")                                                                          \
    X(crashes_inside, "crashes inside a storage operation")                                        \
    X(crashes_starting, "crashes while starting")                                                  \
    X(crashes_all, "crashes of all nodes")                                                         \
    X(restarts, "restarts")                                                                        \
    X(lost_appends, "writes lost")                                                                 \
    X(survived_appends, "writes survived")                                                         \
    X(torn_records, "writes torn")                                                                 \
    X(frames, "frames of the journal")                                                             \
    X(rounds, "rounds of it")                                                                      \
    X(torn_frames, "frames torn")                                                                  \
    X(replayed, "records out of the journal")                                                      \
    X(damaged_journals, "journals damaged")                                                        \
    X(fulls, "full disks")                                                                         \
    X(slows, "slow disks")                                                                         \
    X(stucks, "stuck disks")                                                                       \
    X(damaged, "bits turned")                                                                      \
    X(wiped, "disks lost")                                                                         \
    X(replaced, "replicas given up")                                                               \
    X(no_memory, "without memory")                                                                 \
    X(messages_lost, "shard messages lost")                                                        \
    X(messages_doubled, "shard messages doubled")                                                  \
    X(net_sent, "packets")                                                                         \
    X(net_lost, "packets lost")                                                                    \
    X(net_doubled, "packets doubled")                                                              \
    X(net_late, "packets late")                                                                    \
    X(net_cut, "packets on a cut link")                                                            \
    X(cuts, "partitions")                                                                          \
    X(freezes, "freezes")                                                                          \
    X(stops, "stops")                                                                              \
    X(skews, "clock skews")                                                                        \
    X(jumps, "clock jumps")                                                                        \
    X(reply_losses, "replies lost")

struct sim_totals {
#define X(name, text) uint64_t name;
    SIM_TOTALS(X)
#undef X
};

/* A command that a client has made: it lives to the end of the run. */
struct sim_command {
    struct command c;
    uint64_t number;
    uint32_t order; /* index of its order; UINT32_MAX = a store's */
    uint32_t store;
    uint32_t open, unknown;  /* attempts under way; attempts that a crash is swallowing */
    bool unsure;             /* the client does not know what became of it, and asks again */
    uint64_t denied_last;    /* a node alone: the last entry it had decided when it told an attempt
                                that nothing was changed; 0 = it never did */
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

/* A configuration of a group that is committed. */
struct audit_configuration {
    uint64_t index;
    uint32_t count;
    uint64_t servers[CONSENSUS_SERVERS_MAX];
    bool voter[CONSENSUS_SERVERS_MAX];
};

/* What the auditor knows of one group's log: its committed part, which all replicas agree on. */
struct audit_shard {
    uint64_t last, term;
    int64_t time_ms;
    struct audit_hashes records;              /* [index - 1] */
    struct audit_hashes leaders;              /* [term]: server id, 0 = none seen */
    struct audit_hashes sent[SIM_SHARDS_MAX]; /* payloads, by destination: [sequence - 1] */
    struct audit_hashes seen[SIM_SHARDS_MAX]; /* by source */
    struct audit_configuration configuration; /* the newest */
    uint64_t newer_index; /* first entry that the version before cannot read; 0 = none */
};

struct sim_store {
    char id[16];
    struct id128 key;
    uint32_t version; /* by the newest switch in the log */
    uint32_t acknowledged_version;
    bool paused;
    uint64_t switches; /* events in the log */
};

struct sim;

struct sim_request {
    struct request request;
    struct sim_request *previous, *next; /* open ones */
    struct sim *sim;
    uint32_t node;  /* that it was sent to */
    bool there;     /* it has arrived; else it is on its way */
    bool given_up;  /* the client has lost patience */
    struct command commands[SIM_BATCH_MAX];
    struct result results[SIM_BATCH_MAX];
    struct sim_command *origin[SIM_BATCH_MAX];
    uint32_t
        known_version[SIM_BATCH_MAX]; /* of the order, when it was asked: reads must reflect it */
    bool acted_before[SIM_BATCH_MAX]; /* its event was committed when it was asked (again) */
    uint32_t count;
    struct request_part parts[SIM_SHARDS_MAX];
    uint32_t positions[SIM_SHARDS_MAX][SIM_BATCH_MAX];
    int64_t sent_ms;
    void (*seen)(struct sim *sim, struct sim_request *request,
                 uint32_t i); /* of a probe; or NULL */
};

/* One replica of one group, from its first start to the day when it is given up or removed. */
struct sim_replica {
    struct sim_replica *next;    /* of those given up */
    struct sim *sim;
    uint32_t group, node;
    uint64_t server_id;
    bool first;                  /* one of those that the group was founded with */
    bool rotten;                 /* a bit of what it stores has been turned round */
    struct storage_memory *disk;
    struct shard *shard;         /* NULL = not running */
    struct storage *storage;     /* its handle of the disk, while it runs */
    bool woken;
    int64_t due_ms;              /* next round */
    int64_t full_until_ms, slow_until_ms;
    int64_t fill_ms;             /* when to look for gaps next */
    uint64_t placed_version;     /* newest placement that it was told */
    int64_t place_ms;            /* when it is told the next one */
    uint64_t agreed;             /* up to here its log was compared with the others' */
    bool was_member;
    int64_t remove_ms;           /* when it is taken away; 0 = not yet known */
    uint64_t told;               /* the version of the view that it goes by */
    int64_t tell_ms;             /* when it is told of a newer one */
};

struct sim_node {
    struct courier courier; /* first: the shards' view */
    struct peers peers;
    struct sim *sim;
    uint32_t number;        /* 0-based; the node's own number is one more */
    bool up, dying;
    uint8_t version; /* of its program; see sim_upgrade.c */
    int64_t restart_ms, frozen_until_ms, hello_ms;
    int64_t stop_ms;        /* it drains, and ends then at the latest; 0 = it does not */
    int64_t skew_ms;        /* of its wall clock */
    struct sim_replica *replicas[SIM_SHARDS_MAX]; /* NULL = it has none of that group */
    struct sim_route {
        uint64_t term;
        uint32_t node;      /* SIM_NODES_MAX = nobody known */
        bool ready;
    } routes[SIM_SHARDS_MAX];
};

/* Where the operator wants a group to be. */
struct sim_group {
    struct shard_placement placement;
    uint32_t incarnations[SIM_NODES_MAX];
    uint32_t lost;          /* replicas given up since the placement was last reached */
    struct sim_replica *given_up; /* kept for the judge: what they had when they went */
};

/* A snapshot on its way. */
struct sim_transfer {
    struct sim_transfer *next;
    uint32_t group, from, to; /* nodes */
    uint64_t from_server, to_server, leader_term;
    char path[64];            /* "" = not exported yet */
    uint32_t pieces, arrived; /* in order */
    bool in_flight, again;    /* again: it has arrived once, and is offered a second time */
    int64_t due_ms;           /* when the next piece is sent (again) */
    uint64_t number;
};

struct sim {
    struct sim_options options;
    struct sim_totals totals;
    struct prng prng;
    int64_t mono_ms, unix_ms;
    bool calm, upgrading;
    uint32_t shards; /* groups that there are by now */
    struct shard_view view; /* what the cluster document would say of the shards */
    struct network *network; /* NULL with one node */
    struct storage_memory_files *files;
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_group groups[SIM_SHARDS_MAX];
    struct sim_flight *flights; /* between shards of one node */
    uint32_t flights_count, flights_capacity;
    struct sim_transfer *transfers;
    uint64_t transfers_count;
    struct sim_request *open;
    uint32_t open_count;
    uint32_t believed[SIM_SHARDS_MAX]; /* by the clients: node that leads */
    uint32_t led[SIM_SHARDS_MAX], led_before[SIM_SHARDS_MAX]; /* node that acknowledged last, and
                                                                 the one before it */
    uint32_t fresh_order; /* acknowledged last */
    bool fresh;           /* and just now */
    struct sim_command **commands;
    uint64_t commands_count;
    struct sim_order *orders;
    uint32_t orders_count;
    struct sim_store stores[SIM_STORES];
    struct audit_shard audit[SIM_SHARDS_MAX];
    bool doubled_one; /* canary MESSAGE_TWICE has struck */
    bool undecided;   /* a node alone has died, and does not serve again yet */
    bool probed;      /* the probe under way was answered */
    uint64_t settled; /* entries of all logs when everything had settled */
    bool probe_again; /* since then there were others, and the answer may be from before them */
    enum sim_exit verdict;
    char fault[512];
};

/* Between two shards of one node. */
struct sim_flight {
    int64_t due_ms;
    uint32_t node, from, to, bytes;
    uint64_t sequence;
    bool acknowledgement;
    uint8_t *payload;
};

extern const char *const sim_commit; /* that it was built from */

/* Keeps the first fault only. */
__attribute__((format(printf, 3, 4))) void sim_fail(struct sim *sim, enum sim_exit verdict,
                                                    const char *format, ...);

static inline bool sim_chance(struct sim *sim, uint32_t of_10000) {
    return of_10000 > 0 && prng_chance(&sim->prng, of_10000, 10000);
}
static inline bool sim_is_cluster(const struct sim *sim) { return sim->options.nodes > 1; }

void sim_options_draw(struct sim_options *options, uint64_t seed, uint32_t nodes);
void sim_options_print(const struct sim_options *options);
bool sim_options_set(struct sim_options *options, const char *name_and_value); /* "name=value" */

/* -- sim_replica.c */
struct sim_replica *replica_new(struct sim *sim, uint32_t group, uint32_t node, uint64_t server_id,
                                bool first);
void replica_free(struct sim_replica *replica); /* its disk with it; it must not be running */
/* Starts it on its disk. False: it died while it started, or it refuses (`error` says why). */
bool replica_open(struct sim_replica *replica, char *error, size_t error_bytes);
void replica_close(struct sim_replica *replica); /* after storage_memory_crash() */
void replica_disk_work(struct sim_replica *replica);
/* Fills a little of a gap in its history, as the node's backfill does (sim_fill.c). */
void replica_fill(struct sim_replica *replica);
void replica_work(struct sim_replica *replica);
bool replica_has_failed(const struct sim_replica *replica); /* damaged: it serves nothing */
bool replica_serves(const struct sim_replica *replica);
/* The replica that leads its group and takes commands; NULL = none does. */
struct sim_replica *group_leader(const struct sim *sim, uint32_t group);

/* -- sim_node.c */
void sim_init(struct sim *sim);
void sim_fini(struct sim *sim);
bool node_start(struct sim_node *node);
void node_crash(struct sim_node *node);
bool node_open(struct sim_node *node, struct sim_replica *replica); /* false: the node has died */
void sim_crash_all(struct sim *sim);
bool node_is_dead(const struct sim_node *node); /* it died in the midst of something */
bool node_is_frozen(const struct sim_node *node);
void node_stop(struct sim_node *node, int64_t within_ms); /* as it should be stopped */
bool sim_all_up(const struct sim *sim);
void sim_run(struct sim *sim, int64_t for_ms);  /* moves time on */
void sim_jump(struct sim *sim, int64_t by_ms);  /* time passes while nothing runs */
static inline int64_t node_unix_ms(const struct sim_node *node) {
    return node->sim->unix_ms + node->skew_ms;
}

/* -- sim_network.c */
void network_init(struct sim *sim);
void network_node_init(struct sim_node *node);
void network_hellos(struct sim *sim);   /* each node tells the others now and then what it leads */
int64_t network_hellos_next_ms(const struct sim *sim);
void courier_deliver(struct sim *sim);  /* within nodes */
int64_t courier_next_ms(const struct sim *sim);
void courier_drop(struct sim *sim, uint32_t node);
void network_send_request(struct sim *sim, struct sim_request *request);
void network_send_piece(struct sim *sim, const struct sim_transfer *transfer);

/* -- sim_transfer.c */
void transfer_ask(struct sim_node *node, uint32_t group, const struct consensus_message *message);
void transfer_arrived(struct sim *sim, uint64_t number, uint32_t piece);
void transfer_piece_lost(struct sim *sim, uint64_t number);
void transfers_work(struct sim *sim);
void transfers_drop(struct sim *sim, uint32_t node); /* it has died; SIM_NODES_MAX = all */
int64_t transfers_next_ms(const struct sim *sim);

/* -- sim_operator.c */
void operator_init(struct sim *sim);
void operator_inject(struct sim *sim); /* by chance: somebody wants it otherwise */
void operator_work(struct sim *sim);
void operator_move_stores(struct sim *sim); /* once, when it has grown: to all shards */
void operator_grow(struct sim *sim); /* once: new groups, and an epoch from a moment soon to come */
int64_t operator_next_ms(const struct sim *sim);
/* The replica is damaged or its disk is gone: it never comes back, another takes its place. */
void operator_replace(struct sim *sim, struct sim_replica *replica);
bool operator_is_content(const struct sim *sim); /* every group is where it shall be */
bool operator_may_lose_one(const struct sim *sim, uint32_t group);

/* Each replica hears of the view's newer version at a time of its own. */
void operator_tell_later(struct sim *sim);

/* -- sim_upgrade.c */
void upgrade_node_starts(struct sim_node *node); /* as which version */
void upgrade_begin(struct sim *sim);  /* for good: node after node, then the level */
void upgrade_work(struct sim *sim);
bool upgrade_is_done(const struct sim *sim);
void upgrade_see(struct sim *sim, uint32_t group, uint64_t index, const struct event *event);
void upgrade_judge(struct sim_replica *replica); /* can it read what it holds? */

/* -- sim_faults.c */
void faults_inject(struct sim *sim); /* by chance */
void faults_calm(struct sim *sim);   /* everything heals */

/* -- workload.c */
void workload_init(struct sim *sim);
void workload_fini(struct sim *sim);
void workload_step(struct sim *sim);
void workload_retry_some(struct sim *sim); /* calm: unknown outcomes are asked for again */
struct sim_command *workload_command(struct sim *sim, uint8_t kind, uint32_t order, uint32_t store);
uint32_t workload_new_order(struct sim *sim, uint32_t store);
uint32_t sim_shard_of(const struct sim *sim, const struct sim_command *command);
/* By the spread of stores that there was at first, or by the one that there is now. */
bool sim_is_home(const struct sim *sim, const struct sim_store *store, uint32_t shard);

/* -- client.c */
void client_send(struct sim *sim, struct sim_command *const *commands, uint32_t count,
                 void (*seen)(struct sim *sim, struct sim_request *request, uint32_t i));
void client_request_arrived(struct sim_request *request); /* at its node */
void client_request_lost(struct sim_request *request);    /* on the way: nothing was done */
void client_node_died(struct sim_node *node);             /* what it had is of unknown fate */
void client_patience(struct sim *sim);

/* -- auditor.c */
void auditor_reply(struct sim *sim, struct sim_request *request, bool lost);
void auditor_unknown(struct sim *sim, struct sim_request *request);
void auditor_crashed(struct sim *sim); /* a node alone: all that it had is committed now */

/* -- audit_group.c */
void audit_replica(struct sim_replica *replica);       /* after each round of its work */
void audit_after_crash(struct sim_replica *replica);   /* nothing durable has changed */
void audit_equal_states(struct sim *sim, uint32_t group);
void audit_free(struct sim *sim);
void hashes_add(struct audit_hashes *hashes, uint64_t hash);

/* -- audit_log.c */
void audit_record(struct sim *sim, uint32_t shard, const struct record_header *record,
                  const void *payload); /* it is committed, and the next */
const struct audit_step *audit_step_of(const struct sim_order *order, uint32_t version);

/* -- audit_end.c */
void audit_end(struct sim *sim);

#endif
