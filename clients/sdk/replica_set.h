/* The replicas that a jumun_queries knows, how fast each answers, and which one to turn to.
 *
 * Speed is measured by pings, which all take the same work; a ping that has no answer yet counts
 * as long as it has been away, so that a replica that hangs is left within milliseconds. All fields
 * but those of the endpoint belong to the holder of the queries' lock. */
#ifndef JUMUN_SDK_REPLICA_SET_H
#define JUMUN_SDK_REPLICA_SET_H

#include "clients/sdk/endpoint.h"
#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"

enum { REPLICAS_KNOWN_MAX = 16 };

struct queries;

struct replica {
    jumun_queries *queries;
    struct endpoint *endpoint;
    struct exchange ping;
    bool pinging;
    bool map_known;                /* where it notifies, since its connection stands */
    bool map_asked;                /* the ping on its way asks for that */
    int64_t ping_begun_ns, ping_due_ns;
    int64_t latency_ns;            /* smoothed; 0 = not measured yet */
    uint32_t number;               /* its bit in masks */
    enum endpoint_peer peer;       /* as pings told since the connection came: a node is asked
                                      nothing but whether it is one still */
    char cluster[CLUSTER_ID_BYTES];/* that it follows, as it told last; "" = it has not */
    bool cluster_known;            /* told since its connection stands */
    bool foreign;                  /* of another cluster than the set: it is asked nothing but
                                      whether it still is */
    uint64_t messages, failures;
};

struct replica_set {
    char cluster[CLUSTER_ID_BYTES];/* whose orders are asked for; "" = not known yet */
    struct replica replicas[REPLICAS_KNOWN_MAX];
    uint32_t count;
    jumun_options breaker;         /* what endpoints take from it: circuit_*, tls_* */
};

static inline bool replica_is_good(const struct replica *r) {
    return peer_may_be_replica(r->peer) && !r->foreign &&
           connection_is_up(&r->endpoint->connection) &&
           circuit_breaker_is_closed(&r->endpoint->breaker);
}

/* The one to ask among the good ones that are not in the mask `without`; NULL = none is left. */
struct replica *replica_set_pick(struct replica_set *set, jumun_choice choice, uint32_t without,
                                 int64_t now_ns);

bool replica_set_any_good(const struct replica_set *set);
bool replica_set_any_up(const struct replica_set *set); /* but those of another cluster */
/* Whether nobody is to be asked now: the circuits of all are open, but of those that are nodes,
 * feeds or of another cluster, as they told on the connection that stands. */
bool replica_set_all_open(const struct replica_set *set);
/* Whether nodes, or their feeds, answer at all their addresses. */
bool replica_set_has_none(const struct replica_set *set);
/* One where a feed answers; NULL = none is known to. */
const struct replica *replica_set_feed(const struct replica_set *set);
/* Whether all of them are of another cluster, or no replicas. */
bool replica_set_all_foreign(const struct replica_set *set);
/* One that is of another cluster; NULL = none is known to be. */
const struct replica *replica_set_foreign(const struct replica_set *set);

/* Looks at what the replicas have told. `session` is the cluster that the session writes to; "" =
 * there is none: then it is that of the replica that told first, as long as one is of it. Returns
 * the mask of those that turned out to be of another one just now. */
uint32_t replica_set_judge(struct replica_set *set, const char *session);

#endif
