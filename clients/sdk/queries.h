/* The reading side of the library: what jumun_queries_open() makes.
 *
 *   callers --push--> ready --one message--> [volley] --reply--> answers
 *                      ^  ^                     | |  \
 *                      |  +---- later (due) <---+ |   second request (hedge), to another replica
 *                      +--- another replica <-----+
 *
 * When: with no message in flight, what is ready leaves at once; otherwise when one comes back,
 * when a whole batch has gathered, or after VOLLEY_GATHER_NS. Only queries that demand the same go
 * into one message, as the demand is the message's.
 *
 * One lock guards all of it and is held for a few hundred nanoseconds at a time: never while a
 * callback runs, a reply is read or memory is copied. The clock's thread wakes when something is
 * due: a second request, a retry, a ping, the end of an attempt or of a query. */
#ifndef JUMUN_SDK_QUERIES_H
#define JUMUN_SDK_QUERIES_H

#include <pthread.h>

#include "clients/sdk/replica_set.h"
#include "clients/sdk/stale_cache.h"
#include "clients/sdk/token_set.h"

enum {
    QUERY_MESSAGES_MAX = 64,
    VOLLEY_ATTEMPTS = 2,
    HEDGE_CREDIT_MAX = 10,         /* second requests in a row; a tenth is earned per message */
    VOLLEY_SKIPPED_MAX = 256       /* queries of another demand that a message looks past */
};
#define VOLLEY_GATHER_NS 1000000LL
#define PING_EVERY_NS 250000000LL
#define PING_TIMEOUT_NS 1000000000LL
/* No connection to any replica for so long: they are gone, not just restarting. */
#define REPLICAS_GONE_NS 200000000LL
/* Without queries for so long nothing is measured any more. */
#define QUERIES_IDLE_NS 5000000000LL
/* A message that has been away so long gets its second request whatever the share of those is. */
#define HEDGE_LATE_NS 100000000LL
#define QUERY_LAG_RETRY_NS 2000000LL

/* One query on its way. In one list, or in one volley; whoever ends it frees it, or, when a caller
 * waits, wakes that one, who does. */
struct query_call {
    struct query_call *next;
    jumun_answer_callback callback;    /* NULL = a caller waits */
    void *arg;
    jumun_answer *answer;              /* of the waiting caller: NULL = no memory */
    _Atomic uint32_t ended;            /* a futex */
    int64_t deadline_ns, wait_until_ns, due_ns;
    jumun_token *at_least;             /* behind the bytes */
    uint32_t at_least_count;
    int64_t max_age_ms;                /* -1 = any */
    uint32_t tried;                    /* replicas that failed it in this round */
    uint32_t attempts;                 /* rounds */
    int refused_code;                  /* the last retryable refusal; 0 = none */
    char refused_detail[sizeof ((jumun_answer *)0)->detail]; /* its sentence, or "" */
    bool any_state, strict, no_stale;
    bool alone;                        /* its answer did not fit beside others' */
    bool relaxed;                      /* the demand was given up */
    bool passed_partial;               /* an answer that lacked something was passed over once */
    uint16_t kind;                     /* jumun_query_kind */
    uint32_t size;
    uint8_t bytes[];                   /* the encoded query */
};

struct query_list {
    struct query_call *head, *tail;
    uint32_t count;
};

enum attempt_state { ATTEMPT_NONE = 0, ATTEMPT_OPEN, ATTEMPT_LOST, ATTEMPT_ENDING };

struct volley;

/* One request to one replica. */
struct attempt {
    struct exchange exchange;
    struct volley *volley;
    struct replica *replica;
    enum attempt_state state;      /* lost: its reply counts no more */
    int64_t begun_ns, deadline_ns;
};

/* One message of queries, in flight to one or two replicas. */
struct volley {
    jumun_queries *queries;
    struct volley *next;           /* of the free ones */
    struct attempt attempts[VOLLEY_ATTEMPTS];
    struct query_call **calls;     /* by position; NULL = ended before the reply came */
    uint32_t count;
    bool in_flight;                /* nobody has ended it yet */
    uint32_t asked;                /* replicas */
    uint32_t wait_ms;
    int64_t begun_ns, first_deadline_ns, hedge_ns; /* INT64_MAX = no second request */
    uint32_t demanded_count;
    jumun_token demanded[SHARDS_MAX];
    int64_t max_age_ms;
    uint8_t *bytes;                /* the message, for a second request */
    size_t bytes_count, bytes_capacity;
};

struct jumun_queries {
    jumun_query_options options;   /* with all defaults filled in */
    struct replica_set replicas;
    struct token_set seen;         /* what answers have reflected */
    struct stale_cache *stale;     /* NULL = none */
    struct watch_hub *_Atomic hub; /* NULL until the first watch; watch_hub.c */
    pthread_mutex_t hub_lock;      /* of those that make it */

    pthread_mutex_t lock;          /* all that follows */
    pthread_cond_t wake;
    pthread_t clock;
    bool closing;
    struct query_list ready, later;
    int64_t lists_due_ns;          /* no query in them is due or over any sooner */
    uint32_t in_flight;            /* volleys */
    struct volley *volleys, *free_volleys;
    uint32_t volleys_count;
    int64_t clock_due_ns;          /* when the clock wakes by itself */
    int64_t active_ns;             /* when the last query came */
    int64_t none_up_ns;            /* since when no replica is connected; 0 = one is */
    int64_t p95_ns;                /* of messages */
    double hedge_credit;           /* second requests that may be sent */
    uint32_t forgotten;            /* how often what answers left was forgotten */
    atomic_ulong stat_queries, stat_messages, stat_retries, stat_hedges, stat_hedges_won,
        stat_timeouts, stat_stale, stat_lagging;
};

/* -- query_call.c ------------------------------------------------------------------------------ */

void query_list_append(struct query_list *list, struct query_call *call);
struct query_call *query_list_pop(struct query_list *list);

/* NULL with *code (and *fault, a sentence or NULL) when it cannot be made. */
struct query_call *query_call_new(jumun_queries *q, const jumun_query *query, int64_t now_ns,
                                  int *code, const char **fault);
/* Ends it: its callback runs, or its caller may go on. Without the lock. */
void query_call_end(struct query_call *call, const jumun_answer *answer);
/* Ends it without a replica's answer: with the one kept, if there is one that may be given, else
 * with the code. Without the lock. */
void query_call_end_without(jumun_queries *q, struct query_call *call, int code, int64_t now_ns);
/* With the one kept, or not at all: false. */
bool query_call_end_stale(jumun_queries *q, struct query_call *call, int64_t now_ns);
/* The same as query_call_end_without() for a list. */
void query_list_end_without(jumun_queries *q, struct query_list *list, int code, int64_t now_ns);
/* How it ends when its time is over. */
int query_call_code_of_giving_up(const struct query_call *call);
/* Whether an answer is kept that may be given to it. */
bool query_call_has_stale(jumun_queries *q, const struct query_call *call, int64_t now_ns);
void query_call_await(struct query_call *call);

/* -- volley.c: with the lock held, but for volleys_init, volleys_fini -------------------------- */

bool volleys_init(jumun_queries *q);
void volleys_fini(jumun_queries *q);
/* Sends what may leave now. Calls that cannot be asked for now go to `over` (with the code of
 * *over_code), for the caller to end without the lock. */
void volleys_pump(jumun_queries *q, bool tick, int64_t now_ns, struct query_list *over,
                  int *over_code);
/* Puts a query into `ready`, or into `later` when it is not due yet. */
void queries_enqueue(jumun_queries *q, struct query_call *call, int64_t now_ns);
/* Second requests, ends of attempts, and calls whose time is over (into `over`). */
void volleys_on_tick(jumun_queries *q, int64_t now_ns, struct query_list *over);
/* Gives up what is on its way to replicas of the mask: it is asked elsewhere. */
void volleys_leave(jumun_queries *q, uint32_t mask);
/* When something is due next; INT64_MAX = nothing. */
int64_t volleys_due_ns(const jumun_queries *q);
/* Somebody changed what is due. */
void queries_wake(jumun_queries *q, int64_t due_ns);

/* -- volley_end.c ------------------------------------------------------------------------------ */

/* The end of an attempt: a thread of nng. */
void attempt_on_end(void *arg, enum exchange_end end, const void *data, size_t bytes);

/* -- query_ping.c ------------------------------------------------------------------------------ */

bool replica_ping_init(struct replica *replica);
void replica_ping_fini(struct replica *replica);
/* Begins pings that are due and gives up those that are late. With the lock. Returns when the next
 * one is due. */
int64_t replicas_ping(jumun_queries *q, int64_t now_ns);
/* Finds out which replicas are of another cluster, when one has `told`, or the session has come to
 * know its own. What is on its way to such a one is asked elsewhere, and what its answers left here
 * is forgotten; so is all, when the cluster that is asked is another one than before. With the
 * lock. */
void replicas_judge(jumun_queries *q, bool told);
/* Forgets what answers left here: some were of another cluster. With the lock. */
void replicas_forget(jumun_queries *q);

#endif
