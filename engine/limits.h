/* Every bound of the engine, in one place, with the relations that must hold between them.
 *
 * A limit that is exceeded is an answer to the caller (see actors/result_codes.h), never a wait and
 * never a crash. Units stand last in each name. */
#ifndef JUMUN_LIMITS_H
#define JUMUN_LIMITS_H

#include <assert.h>
#include <stdint.h>

/* -- text and numbers of one order -------------------------------------------------------- */
#define ID_TEXT_BYTES_MAX 64          /* customer, store, rider, group, payment reference, sku */
#define LINE_NAME_BYTES_MAX 128       /* what a person reads on the kitchen ticket */
#define EXTERNAL_REF_BYTES_MAX 64     /* the caller's own order number */
#define REASON_BYTES_MAX 256          /* reject, cancel, refund */
#define NOTE_BYTES_MAX 1024           /* annotate */
#define ATTRIBUTES_BYTES_MAX 4096     /* the caller's msgpack, kept as it came */
#define ORDER_LINES_MAX 2048          /* real baskets reach 1,114 */
#define ORDER_PAYMENTS_MAX 16         /* parts: vouchers and cards mix */
#define ORDER_COMMANDS_MAX 4096       /* command ids an order remembers for its whole life */
#define ORDER_HELD_MAX 8              /* commands that overtook their place */
#define ORDER_QUANTITY_MAX 1000000000 /* of one line; real data has 80,995 */
#define PREPARATION_MINUTES_MAX 1440  /* a kitchen's promise: a day */
#define ORDER_MONEY_MAX 1000000000000000LL /* minor units; every sum of limits stays below 2^63 */

/* -- time ---------------------------------------------------------------------------------- */
#define KEY_FUTURE_MS_MAX 60000LL              /* a key may be born this far ahead of the node */
#define KEY_PAST_MS_MAX (31LL * 86400000LL)    /* and this far behind: an order lives 30 days */
#define TIMEOUT_MS_MAX (30LL * 86400000LL)     /* any deadline that a command can set */
#define RETENTION_MS (30LL * 86400000LL)       /* an ended order is kept this long */
#define HELD_DEADLINE_MS (10LL * 60000LL)      /* a held command waits this long for its place */
#define REFUND_DEADLINE_MS (15LL * 60000LL)    /* money owed back is refunded by the engine then */
#define PAYMENT_DEADLINE_MS (15LL * 60000LL)   /* default: placed -> paid */
#define ACCEPTANCE_DEADLINE_MS (10LL * 60000LL)       /* default: paid -> accepted */
#define AUTO_COMPLETE_DELIVERY_MS (3LL * 3600000LL)   /* default: delivered -> completed */
#define AUTO_COMPLETE_PARCEL_MS (7LL * 86400000LL)

/* -- messages ------------------------------------------------------------------------------ */
#define MESSAGE_BYTES_MAX (4u << 20)  /* one nng message, either direction */
#define REQUEST_BYTES_MAX (MESSAGE_BYTES_MAX - 4) /* nng counts the number in front of it, too */
/* What the values of one part may weigh before they are encoded: more could not be sent. */
#define REPLY_VALUES_BYTES_MAX (2 * MESSAGE_BYTES_MAX)
#define BATCH_COMMANDS_MAX 1024       /* commands in one message */
#define COMMAND_BYTES_MAX (1u << 20)  /* one encoded command */
#define WIRE_ARENA_BYTES_MAX (64u << 20) /* what one message may take decoded */
#define HISTORY_EVENTS_MAX 1024       /* newest events that one history answer carries */

/* -- the shard ------------------------------------------------------------------------------ */
#define SHARDS_MAX 256
#define SHARD_META 65535u             /* the group that keeps the cluster document */
#define MAILBOX_COMMANDS_MAX 65536    /* default bound of waiting commands per shard */
#define MAILBOX_BYTES_MAX (64u << 20)
#define MAILBOX_WAIT_MS_MAX 25        /* under lasting load no more is taken than it answers in */
#define TURN_COMMANDS_MAX 2048        /* commands decided in one turn = one log entry */
#define ENTRY_BYTES_MAX (2u << 20)    /* one log entry's payload */
#define EVENT_BYTES_MAX (1u << 20)    /* one event with its header */
#define LIMBO_ENTRIES_MAX 64          /* decided and not yet durable: beyond it a turn waits */
#define TURN_GATHER_MS_MAX 20LL       /* commands wait so long for an entry that is being written */
#define LIMBO_BYTES_MAX (16u << 20)
#define PARKED_COMMANDS_MAX 16384     /* commands waiting for their order to be loaded */
#define STORES_PER_SHARD_MAX 1000000
#define SHARD_MESSAGE_BYTES_MAX (256u << 10) /* one message between shards */
#define INBOX_MESSAGES_MAX 4096       /* messages and acknowledgements waiting per shard */
#define MESSAGE_LINGER_MS 4LL         /* how long a message waits for others to travel with */
#define OUTBOX_MESSAGES_MAX 65536     /* sent to all peers and in no checkpoint: beyond it commands
                                         are refused. From an eighth of it on one is made */
#define OUTBOX_BYTES_MAX (64u << 20)  /* ... and their payloads */
#define OUTBOX_WINDOW_MESSAGES 256    /* to one peer, on their way: hides a commit, and what is sent
                                         again after a loss stays small. So many stay in memory */
#define OUTBOX_WINDOW_BYTES (256u << 10) /* ... and so much of it */
#define ACTOR_BYTES_MAX (2u << 20)    /* one actor's block */

/* -- the group ------------------------------------------------------------------------------- */
#define CONSENSUS_INBOX_MESSAGES_MAX 4096 /* messages of peers waiting at a shard */
#define CONSENSUS_INBOX_BYTES_MAX (64u << 20)
/* What a restarted replica knows of the log in front of its marker: so far a follower may lag
 * without needing the whole state. 40 bytes each while it starts. */
#define START_TRAILING_ENTRIES_MAX (1u << 18)
#define FOLLOW_BYTES_PER_ROUND (512u << 10) /* applied at a time by a replica with peers ... */
#define FOLLOW_LOADS_PER_ROUND 256u    /* ... or so many orders read from the disk for it */
#define FOLLOWER_FAR_ENTRIES 64u       /* behind what is committed without it: it is not hurried */
#define NODES_MAX 64                  /* of a cluster */
#define CLUSTER_ID_BYTES 33           /* of a cluster's id as text: 32 hex digits and NUL */
#define ANCESTORS_MAX 8               /* lost clusters that one that went on without them knows */
/* An epoch is announced so long before it begins: keys may be born KEY_FUTURE_MS_MAX ahead of the
 * clock, and none of its keys may be routed by the list without it; the rest is for the list to get
 * to every node. For the same reason it cannot be called off any later. */
#define CLUSTER_EPOCH_AHEAD_MS_MIN (KEY_FUTURE_MS_MAX + 10000LL)
/* After this long no order can be placed under a key of an epoch that has ended. */
#define CLUSTER_SHARD_LIFETIME_MS (KEY_PAST_MS_MAX + KEY_FUTURE_MS_MAX)
#define REPLICAS_MAX 7                /* voters of a group */
#define PEER_QUEUE_MESSAGES 256       /* to one node, sent and not yet taken by the connection */
#define PEER_HELLO_MS 200             /* a node says hello this often, and when something changes */
#define PEER_SILENT_MS 1500           /* not heard for so long: nobody is sent there */
#define PEER_REDIAL_MS 1000           /* a silent node is dialled anew this often */
#define CATCH_UP_BYTES_PER_SECOND (32u << 20) /* default bound of what followers are sent from
                                                 the log */
#define SNAPSHOT_MESSAGE_BYTES_MAX (2u << 20) /* a piece of a stored state on its way */

/* -- the node ------------------------------------------------------------------------------- */
#define HISTORY_PARTS_MAX 1024        /* parts that wait for their histories to be read */
#define INGRESS_CONTEXTS_MAX 65536    /* messages in the node at a time, per endpoint */
#define INGRESS_CONTEXTS_DEFAULT 1024
#define INGRESS_CONTEXTS_SPARE 64     /* of these: kept to answer OVERLOADED when all others wait */
#define REPLY_WAIT_MS 10000           /* a reply waits so long for its client to read ... */
#define REPLY_WAIT_SHORT_MS 1000      /* ... where so many of that connection wait already: */
#define REPLY_SHARE(contexts) (((contexts) + 3) / 4)
#define REPLY_PEERS 1024              /* connections told apart by that */
#define FORWARDS_MAX 4096             /* messages on their way to the leaders of other nodes */
#define STATUS_BYTES_MAX (2u << 20) /* one STATUS or SHARD_MAP answer */
#define EPOCHS_MAX 64
#define ENDPOINT_BYTES_MAX 256        /* one nng address */

/* -- the feed and the queries --------------------------------------------------------------- */
#define FEED_BATCH_BYTES_MAX (2u << 20) /* payload of one answer; a larger entry comes alone */
#define FEED_MOMENTS_MAX 32           /* times of commit that a batch tells */
#define FEED_WAIT_MS_MAX 10000        /* a pull that finds nothing waits so long at most */
#define FEED_FAR_ENTRIES 1024           /* a reader further back is catching up ... */
#define FEED_FAR_MS 1000              /* ... and nobody hurries for so long after it */
#define FEED_GATHER_BYTES_PER_MS 6144  /* where a shard writes more, a pull waits for more ... */
#define FEED_GATHER_MS 4              /* ... at most so long ... */
#define FEED_GATHER_SPAN_MS 20        /* ... as told by the rate over at least so long */
#define FEED_CONTEXTS 256             /* requests in the feed of a node at a time */
#define FEED_REPLIES_BYTES_MAX (64u << 20) /* answers that consumers have not taken yet */
#define QUERY_BATCH_MAX 1024          /* queries in one message */
#define QUERY_KEYS_MAX 1024           /* keys of one MULTI_GET */
#define QUERY_FIELDS_MAX 64           /* fields that one query asks for */
#define QUERY_ROWS_MAX 1000           /* rows of one page */
#define QUERY_ROWS_DEFAULT 100
#define QUERY_TOKENS_MAX 1024         /* positions in one message */
#define QUERY_WAIT_MS_MAX 60000       /* a query waits so long at most */
#define QUERY_CURSOR_BYTES_MAX 511    /* a row's key, as LMDB bounds it */

/* -- a stored state on its way to another replica -------------------------------------------- */
#define SNAPSHOT_CHUNK_BYTES_MAX (1u << 20)
#define SNAPSHOT_WINDOW_CHUNKS 8      /* sent and not acknowledged */
#define SNAPSHOT_BYTES_PER_SECOND (32ULL << 20) /* of one transfer: a quarter of a 1 Gbit/s line */
#define SNAPSHOT_FILE_BYTES_MAX (1ULL << 42)
#define SNAPSHOT_RETRY_MS 1000        /* without an answer the header goes out again, then after */
#define SNAPSHOT_RETRY_MS_MAX 8000    /* ... twice as long each time, up to this */
#define SNAPSHOT_REST_MS 10000        /* between a transfer that is done or failed and the next */
#define SNAPSHOT_IDLE_MS 60000        /* neither asked for nor answered: given up */
#define SNAPSHOT_SYNC_BYTES (32u << 20) /* written before the receiver waits for its disk */

/* -- the log -------------------------------------------------------------------------------- */
#define LOG_BATCH_BYTES_MAX (8u << 20)     /* one LMDB transaction of the log writer */
#define JOURNAL_BYTES (16u << 20)          /* of a log's journal; ... */
#define JOURNAL_FRAME_BYTES_MAX (4u << 20) /* ... one commit in it */
#define LOG_APPLY_BYTES (2u << 20)     /* journalled records go into the log when so many wait */
#define LOG_APPLY_MS 100                   /* ... or the first of them has waited so long */
#define LOG_CACHED_BYTES (32ULL << 20) /* newest part of a log's file that stays in memory; ... */
#define LOG_LET_GO_BYTES (4ULL << 20)  /* ... what lies before it leaves so much at a time */
#define STATE_LET_GO_BYTES (16ULL << 20) /* so much more of a state, and a tool lets it go */
#define SEGMENT_BYTES_MAX (4ULL << 30)     /* a log segment is closed at this size ... */
#define SEGMENT_MS_MAX 86400000LL          /* ... or at this age */
#define TRAIL_ENTRIES_MAX (1u << 31)       /* known of the log in front of the marker */
#define TRAIL_BYTES (1ULL << 30)           /* of it; more if the stored state is larger */
#define TRAIL_AGES_MAX 64                  /* moments at which its length is noted */
#define CONSENSUS_TAIL_BYTES_MAX (32u << 20)   /* newest records kept in memory for peers ... */
#define CONSENSUS_TAIL_ENTRIES_MAX 4096u       /* ... or so many, whichever is reached first */
#define CONSENSUS_MESSAGE_BYTES_MAX (1u << 20) /* payload of one append to a peer, or one record */
#define CONSENSUS_MESSAGE_RECORDS_MAX 1024u /* ... and their number */
#define CONSENSUS_CONFIGURATIONS_MAX 64u   /* then a leader changes no more before a checkpoint */
#define CONSENSUS_INFLIGHT_ENTRIES 256u        /* unacknowledged entries per peer */
#define CHECKPOINT_BYTES_MAX (2u << 20)    /* one background state transaction: short, for the log
                                              shares the disk */
/* What one may come to: a last order over the line, and all stores and board notes that changed,
 * which are of one moment and so cannot be spread over several. */
#define CHECKPOINT_BLOCKS_BYTES_MAX (2u << 30)
#define CHECKPOINT_AGE_MS 2000LL           /* a dirty actor is left to settle this long ... */
#define CHECKPOINT_LEADER_AGES 5           /* ... so many times as long with heirs ... */
#define CHECKPOINT_FOLLOWER_AGES 15        /* ... and where others lead */

#define LOG_SEGMENTS_OPEN_MAX 16           /* closed segments kept open for readers */
#define LOG_READ_RECORDS_MAX 256           /* one read transaction ends after so many records ... */
#define LOG_READ_BYTES_MAX (1u << 20)      /* ... or bytes: a long reader stops page reuse */
#define STORAGE_READERS_MAX 510            /* reader slots of one LMDB environment */
#define STORAGE_CHECKPOINTS_MAX 64         /* checkpoints handed over and not yet taken back */
#define STORAGE_LOADS_MAX 32768            /* loads asked for and not yet taken back */
#define STORAGE_ROOM_FLOOR_BYTES (64u << 20) /* appends wait below this much free disk ... */
#define STORAGE_GAPS_MAX 32                /* gaps that a log remembers; then the oldest two join */
#define STORAGE_EXPORT_BYTES (4u << 20)    /* one transaction of an exported state */
#define STORAGE_EXPORT_SYNC_BYTES (32u << 20) /* of it, written before the export waits for disk */
#define STORAGE_ROOM_RETRY_MS 200          /* ... and look again after this long */
/* What lies on the disk is read back, each thing once in a period. */
#define SCRUB_PERIOD_MS (7LL * 86400000LL) /* default */
#define SCRUB_PERIOD_MS_MAX (3650LL * 86400000LL)
#define SCRUB_BYTES_PER_SECOND (16ULL << 20)      /* bound: a round may take longer for it ... */
#define SCRUB_BYTES_PER_SECOND_MIN (256ULL << 10) /* ... and no less: a short log is soon read */
#define SCRUB_PIECE_BYTES (1ULL << 20)     /* read at a time ... */
#define SCRUB_VIEW_BYTES (256ULL << 10)    /* ... of a state, in one read transaction */

/* -- relations ------------------------------------------------------------------------------ */
/* A turn stops taking commands once less than one largest event is free, so an entry must hold at
 * least two of them, else a single command could find no room for ever. */
static_assert(ENTRY_BYTES_MAX >= 2 * EVENT_BYTES_MAX, "an entry holds any one command's events");
/* The largest place: 2,048 lines of (sku + name + 32) bytes, plus attributes, texts and header. */
static_assert(ORDER_LINES_MAX * (ID_TEXT_BYTES_MAX + LINE_NAME_BYTES_MAX + 32) +
                      ATTRIBUTES_BYTES_MAX + ORDER_PAYMENTS_MAX * 256 + 4096 <= EVENT_BYTES_MAX,
              "the largest place fits one event");
static_assert(ENTRY_BYTES_MAX <= LOG_BATCH_BYTES_MAX, "a largest entry fits one log transaction");
static_assert(JOURNAL_FRAME_BYTES_MAX <= JOURNAL_BYTES / 4, "a frame is a small part of a journal");
static_assert(ENTRY_BYTES_MAX + 4096 <= JOURNAL_FRAME_BYTES_MAX, "a largest entry fits a frame");
static_assert(JOURNAL_FRAME_BYTES_MAX <= LOG_BATCH_BYTES_MAX, "a frame fits one log transaction");
/* Parked commands wait for at most as many actors; the rest of the room is for listed timers. */
static_assert(STORAGE_LOADS_MAX >= 2 * PARKED_COMMANDS_MAX, "every parked command can have a load");
/* What one log and one state transaction may still write once the floor is seen. */
static_assert(STORAGE_ROOM_FLOOR_BYTES >= 2 * (LOG_BATCH_BYTES_MAX + CHECKPOINT_BYTES_MAX),
              "the floor leaves room for what is under way");
static_assert(SCRUB_VIEW_BYTES <= SCRUB_PIECE_BYTES, "a view is short");
static_assert(CHECKPOINT_BYTES_MAX + ACTOR_BYTES_MAX + 2048ULL * STORES_PER_SHARD_MAX <=
                  CHECKPOINT_BLOCKS_BYTES_MAX,
              "all stores of a shard fit one checkpoint");
/* 80 bytes on the wire for the smallest event of 56: its heads, index and time. */
static_assert((ENTRY_BYTES_MAX / 56) * 80 + 4096 <= MESSAGE_BYTES_MAX, "an entry fits an answer");
static_assert(FEED_BATCH_BYTES_MAX >= ENTRY_BYTES_MAX, "one entry always fits");
static_assert(COMMAND_BYTES_MAX <= MESSAGE_BYTES_MAX, "a largest command fits a message");
static_assert(INGRESS_CONTEXTS_DEFAULT > 2 * INGRESS_CONTEXTS_SPARE, "most contexts do work");
static_assert(INGRESS_CONTEXTS_DEFAULT - REPLY_SHARE(INGRESS_CONTEXTS_DEFAULT) >
                  2 * INGRESS_CONTEXTS_SPARE,
              "one connection's unread replies leave room for others");
static_assert(REPLY_WAIT_SHORT_MS < REPLY_WAIT_MS, "what is short is shorter");
static_assert((SHARDS_MAX + NODES_MAX) * ENDPOINT_BYTES_MAX * 2 <= STATUS_BYTES_MAX,
              "the map fits its answer");
static_assert(STATUS_BYTES_MAX + 1024 <= MESSAGE_BYTES_MAX, "a status fits a message");
static_assert(BATCH_COMMANDS_MAX <= TURN_COMMANDS_MAX, "a largest message fits one turn");
/* 2,048 items of a store id, two integers and msgpack's heads. */
static_assert(2048 * (ID_TEXT_BYTES_MAX + 24) + 16 <= SHARD_MESSAGE_BYTES_MAX,
              "a largest message of store news fits");
static_assert(LIMBO_BYTES_MAX >= 2 * ENTRY_BYTES_MAX, "the limbo holds two largest entries");
static_assert(CONSENSUS_MESSAGE_RECORDS_MAX >= CONSENSUS_INFLIGHT_ENTRIES,
              "what the library sends at a time fits a message");
static_assert(CONSENSUS_MESSAGE_BYTES_MAX + ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX,
              "a largest append fits a message");
static_assert(CONSENSUS_TAIL_ENTRIES_MAX >= CONSENSUS_INFLIGHT_ENTRIES + LIMBO_ENTRIES_MAX,
              "what is in flight to a peer is in memory");
/* Sum over lines of quantity * price is checked as 128 bit before it is stored; the stored sums of
 * at most 2^11 lines below ORDER_MONEY_MAX stay below 2^63. */
static_assert(ORDER_MONEY_MAX <= INT64_MAX / 4096, "sums of money cannot overflow");

#endif
