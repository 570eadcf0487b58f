/* The batcher: one lane per shard (and one for commands to the node itself) that gathers the calls
 * of all threads into messages.
 *
 *   callers --push--> incoming --+
 *                                v                     slots (messages in flight)
 *   retries (not yet due) --> ready ----one message---> [slot] --reply--> finished --+
 *        ^                     ^  \                                                  |
 *        |                     |   blocked by a busy order (per bucket)              |
 *        +---------------------+--------------------------------<--------------------+
 *
 * When: with no message in flight, what is ready leaves at once. Otherwise it waits until a message
 * comes back, until a whole batch has gathered, or for LANE_TICK_NS. Where messages leave before
 * they are full, the next one need not wait for an answer either: it leaves LANE_PACE_NS after the
 * last one, so that waiting does not grow with the round trip. Whoever pushes sees to that; the
 * client's clock does for the last ones of a burst (lane_on_pace).
 *
 * Order: a call for an order whose earlier call is still open (sent, or waiting for its retry) is
 * kept back, unless it goes into the very same message. So what one thread submits for one order is
 * decided in the order of submission, retries included. Orders share buckets by hash: a collision
 * costs a wait, never an error.
 *
 * Submissions of callbacks are gathered on the callbacks' thread and pushed together once all of
 * the message's callbacks have run (see struct gathering).
 *
 * Who works: whoever comes first takes the lane's role and works for all that come meanwhile
 * (lane_run); nobody waits for it. All fields under "role" belong to the role's holder. Pushing is
 * lock-free. */
#ifndef JUMUN_SDK_BATCHER_H
#define JUMUN_SDK_BATCHER_H

#include <pthread.h>

#include "clients/sdk/call.h"
#include "clients/sdk/command_encode.h"
#include "clients/sdk/drain_rate.h"
#include "clients/sdk/node_list.h"
#include "clients/sdk/token_set.h"
#include "engine/limits.h"

enum {
    LANE_BUCKETS = 32768,         /* a power of two */
    LANE_MESSAGES_MAX = 64,
    LANE_GATHER_YIELDS = 16,      /* a sender gives way so often to callers that just woke */
    LANE_FEW_COMMANDS = 256,      /* so few may wait however long they take */
    LANE_RETRY_AFTER_MS_MAX = 60000,
    GATHERING_LANES_MAX = 16,     /* more lanes at once are pushed early */
    LANE_COMMANDS_BYTES_MAX =     /* of one message */
        REQUEST_BYTES_MAX - COMMAND_ENCODE_HEAD_BYTES - COMMAND_ENCODE_TAIL_BYTES
};
_Static_assert(COMMAND_BYTES_MAX <= LANE_COMMANDS_BYTES_MAX, "any command fits a message");
#define LANE_TICK_NS 5000000LL
#define LANE_PACE_NS 2000000LL
#define LANE_GATHER_NS 100000LL
#define GATHERING_NS 1000000LL
/* No answer for so long: the shard may be led elsewhere by now, so the map is asked again. */
#define LANE_SUSPECT_NS 200000000LL

enum slot_state { SLOT_FREE, SLOT_IN_FLIGHT, SLOT_ENDING };

struct lane;

/* One message in flight. */
struct slot {
    pthread_mutex_t mutex;     /* state, calls, and the exchange's begin against its abort */
    enum slot_state state;
    struct lane *lane;
    struct endpoint *endpoint; /* where it went */
    const struct cluster_mark *cluster; /* that it named; NULL = none */
    struct exchange exchange;
    int64_t begun_ns;          /* LANE_SUSPECT_NS later its endpoint is suspected */
    bool suspected;            /* and was */
    int64_t attempt_deadline_ns;
    int64_t first_deadline_ns; /* the earliest of its calls */
    uint32_t count;
    struct call **calls;       /* by position; NULL = ended before the reply came */
    uint32_t *orders;          /* by position: bucket to release, or CALL_NO_ORDER */
    struct call_list retries;  /* set by the ending, taken by the role */
    uint32_t woken;            /* waiting callers that the reply woke */
    struct slot *next;         /* list of finished, or of free slots */
};

/* The open calls of the orders that hash here: at most one message's, as others are blocked. Small,
 * for each call in flight touches one. */
struct lane_bucket {
    uint16_t held;             /* calls sent and not ended */
    uint16_t flying : 15;      /* of these: in flight now */
    uint16_t blocks : 1;       /* calls wait for these in the lane's `blocked` */
    uint16_t retrying;         /* of those held: in the lane's `retries` */
    uint8_t slot;              /* whose message they fly in */
};
_Static_assert(BATCH_COMMANDS_MAX < 1 << 15, "a bucket counts a message's calls in 15 bits");
_Static_assert(LANE_MESSAGES_MAX <= UINT8_MAX, "a bucket names a slot in 8 bits");

/* The cluster that a client works with, as its messages name it. Never changed, only replaced, and
 * kept until the client is closed. */
struct cluster_mark {
    struct cluster_mark *older;
    char id[CLUSTER_ID_BYTES];
    uint8_t tail[COMMAND_ENCODE_TAIL_BYTES];
};

/* What all lanes of a client share; see client.c. */
struct lane_shared {
    jumun_options options;     /* with all defaults filled in */
    struct call_pool pool;
    struct node_list nodes;    /* any routes any command; the way round a broken endpoint */
    /* The answer of `from` said where the lane's shard is led from. Any thread; from the call on
     * the lane sends there. */
    void (*redirect)(void *arg, struct lane *lane, const struct endpoint *from,
                     const void *address, uint32_t bytes);
    void *redirect_arg;
    struct cluster_mark *_Atomic cluster; /* NULL = not known yet */
    struct token_set written;  /* what commands have reached: for reading one's own writes */
    atomic_bool closing;
    int64_t settle_until_ns;   /* of the close, see exchange_settle(); written before lanes end */
    atomic_bool map_wanted;    /* an answer said that the shard map is out of date */
    atomic_bool clocks_differ; /* the node refuses our deadlines: send none */
    _Alignas(64) atomic_int returning; /* callers woken just now, who may be back at once */
    _Alignas(64) atomic_ulong retries, timeouts, circuit_opened, queue_full;
    /* Threads inside the library, but for those that only wait for their answer. */
    struct {
        _Alignas(64) atomic_uint count;
    } inside[CALL_POOL_STRIPES];
};

/* Within the callback of a call that was answered: by whom. NULL = it ended without an answer. */
struct endpoint *lane_answered_by(void);

/* Marks the calling thread as inside; false: the client is being closed. Any thread. */
bool lane_shared_enter(struct lane_shared *shared);
void lane_shared_leave(struct lane_shared *shared);

struct lane {
    struct lane_shared *shared;
    struct endpoint *_Atomic endpoint; /* NULL = whichever node serves */
    uint32_t shard;            /* whose lane it is */
    bool of_cluster;           /* false: its commands are for whichever node there is */

    _Alignas(64) struct call *_Atomic incoming; /* newest first */
    atomic_uint waiting;       /* pushed and not in flight: for the queue's bound */
    _Alignas(64) atomic_uint in_flight; /* messages; changed by the role only */
    _Alignas(64) atomic_uint role;      /* 0 = free, else how many asked for work */
    struct slot *_Atomic finished;
    atomic_bool tick;          /* expire, take due retries, send what waits */
    /* From when on one more message may leave that is not full, clock_mono_ns(); written by the
     * role. INT64_MAX: the last one was full, the next ones will be. */
    _Atomic int64_t pace_ns;

    /* role */
    struct call_list ready;
    struct call_list retries;  /* by no order: due_ns decides */
    uint32_t blocked_count;
    int64_t first_deadline_ns; /* no call in these lists or blocked has an earlier one */
    struct slot *free_slots;
    struct slot *slots;
    uint32_t slots_count, batch_max;
    struct lane_bucket *buckets;
    struct call_list *blocked; /* by bucket */
    bool gather;

    /* written by the role, read by anybody */
    atomic_ulong stat_commands, stat_messages, stat_replies, stat_ended;
    atomic_uint stat_in_flight_commands;
    struct drain_rate drain;   /* looked at by the client's clock */
};

/* NULL for lack of memory. */
struct lane *lane_new(struct lane_shared *shared, struct endpoint *endpoint);
/* shared->closing is set and no thread is inside the library any more, but for threads of nng:
 * waits for those, ends all calls with JUMUN_CLOSED, frees. */
void lane_delete(struct lane *lane);

/* Whether the queue has room for a call with this patience: neither as many calls wait as may, nor
 * would those before it take more than half of its patience, at the rate of late. False counts as
 * refused. Any thread. */
bool lane_has_room(struct lane *lane, uint32_t patience_ms);
/* After how many milliseconds there should be room; 0 = there is now. Any thread. */
uint32_t lane_retry_after_ms(const struct lane *lane, uint32_t patience_ms);

/* Whether a circuit lets a call in. Any thread. */
bool lane_admit(struct lane *lane, int64_t now_ns);

/* Hands a call over, which was admitted. `order_hash` is any hash of the order, or CALL_NO_ORDER.
 * Any thread. */
void lane_push(struct lane *lane, struct call *call, uint32_t order_hash);
/* The same for a call that another thread submitted: it is not gathered with what the calling
 * thread's callbacks submit, so that its submitter's next call cannot overtake it. */
void lane_push_now(struct lane *lane, struct call *call, uint32_t order_hash);

/* What the callbacks of one message submit, until all of them have run: one push for each lane
 * instead of one for each command, which would be several locked instructions, and new calls are
 * those that the message's ended ones leave, which the cache still has. While it is open, its
 * thread counts as inside the library. */
struct gathering {
    struct lane_shared *shared;
    struct call_recycler *recycler;
    struct gathering *outer;   /* of a message that ended in the middle of another's end */
    int64_t begun_ns;          /* clock_coarse_ns() of the oldest kept */
    uint32_t lanes_count;
    struct { struct lane *lane; struct call *newest, *oldest; uint32_t count; }
        lanes[GATHERING_LANES_MAX];
};

/* Opens one for the calling thread; false: the client is being closed, nothing is gathered. */
bool gathering_begin(struct gathering *g, struct lane_shared *shared,
                     struct call_recycler *recycler);
/* Pushes what callbacks of long ago have submitted: slow ones keep nobody waiting. */
void gathering_look(struct gathering *g, int64_t now_ns);
/* Pushes all that is kept, and closes it. */
void gathering_end(struct gathering *g);
/* The one that the calling thread has open for this client; NULL = none. */
struct gathering *gathering_of(const struct lane_shared *shared);

/* Does whatever there is to do, unless somebody is at it. Any thread. */
void lane_run(struct lane *lane);

/* Between two ticks: sends what waits and may leave by now. True: a message has been in flight for
 * LANE_PACE_NS and longer, so it is worth looking that often. */
bool lane_on_pace(struct lane *lane);

/* Every LANE_TICK_NS: attempts and calls that have run out of time. True if anything is open. */
bool lane_on_tick(struct lane *lane, int64_t now_ns);

#endif
