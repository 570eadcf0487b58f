/* The nodes that a client knows: those that it was opened with, and those that a shard map told.
 *
 * Any node takes any command and carries it to the leader of its shard, so one of them serves for
 * what has no better way: commands for the node itself, the first calls before there is a map, the
 * way round a shard's endpoint that is away. That one is kept while it answers. When it fails, is
 * mute, or does not know who leads, the next one takes over. */
#ifndef JUMUN_SDK_NODE_LIST_H
#define JUMUN_SDK_NODE_LIST_H

#include <pthread.h>

#include "clients/sdk/endpoint.h"
#include "clients/sdk/jumun.h"
#include "engine/limits.h"

#define NODE_MUTE_NS 1000000000LL

struct node_list {
    struct endpoint *_Atomic nodes[NODES_MAX]; /* for the client's life */
    atomic_uint count;
    atomic_uint current;
    pthread_mutex_t mutex;                     /* of those that add */
    const jumun_options *options;
    void (*on_change)(void *arg, bool up);
    void *arg;
};

void node_list_init(struct node_list *list, const jumun_options *options,
                    void (*on_change)(void *arg, bool up), void *arg);
/* No exchange may use any of them any more. */
void node_list_fini(struct node_list *list);

/* Adds each of the comma-separated addresses that it does not know yet. 0, or an nng error number
 * (ENOMEM of nng for lack of memory), with a sentence that names the address; those before it are
 * in. More than NODES_MAX are ignored. */
int node_list_add(struct node_list *list, const char *addresses, char *error,
                  size_t error_bytes);

/* The node to turn to now: the one that serves, if it is connected, of the client's cluster as far
 * as is known, its circuit closed and it is not mute; else the next one of which this is true,
 * which serves from then on; else one that is mute; else the one that serves. Never NULL once one
 * was added. Any thread. */
struct endpoint *node_list_pick(struct node_list *list);

/* `endpoint` left something without an answer: if it serves, the next one that is connected does
 * from now on. Any thread. */
void node_list_failed(struct node_list *list, const struct endpoint *endpoint);

/* `endpoint`, one of them or a shard's, has left a request without an answer for long, though it is
 * connected: it, and the nodes at the same host, are passed over for NODE_MUTE_NS, or until they
 * answer, as long as there is another one. A node that hangs closes no connection: each question to
 * it, who leads now, would cost more than an election. Any thread. */
void node_list_suspect(struct node_list *list, struct endpoint *endpoint, int64_t now_ns);

/* endpoint_clear_foreign() of all. Any thread. */
void node_list_clear_foreign(struct node_list *list);

/* Whether it is one of them. Any thread. */
bool node_list_has(struct node_list *list, const struct endpoint *endpoint);

/* Whether one of them may be a node, as far as is known: endpoint.peer. Replicas and feeds are
 * passed over as if they were not connected. Any thread. */
bool node_list_may_have_node(struct node_list *list);
/* Whether one of them has answered as a node. Any thread. */
bool node_list_knows_node(struct node_list *list);

/* endpoint_look() at each of them. */
void node_list_look(struct node_list *list, int64_t now_ns);

/* A connection came: each may be tried again. Any thread. */
void node_list_allow_probes(struct node_list *list);

#endif
