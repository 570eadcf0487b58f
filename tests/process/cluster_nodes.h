/* Several real jumund that form one cluster; see cluster_links.h for what lies between them.
 *
 * Node numbers are 1 .. nodes_count. One thread at a time. Every wait is bounded; what is waited
 * for in vain ends the test with the nodes' logs. */
#ifndef JUMUN_TESTS_CLUSTER_NODES_H
#define JUMUN_TESTS_CLUSTER_NODES_H

#include "tests/process/cluster_links.h"
#include "tests/process/node_process.h"

#define CLUSTER_ID "00112233445566778899aabbccddeeff"
enum { CLUSTER_SHARDS_MAX = 16, CLUSTER_WAIT_SECONDS_MAX = 60 };

struct cluster {
    struct node_process nodes[LINKS_NODES_MAX + 1]; /* by number; 0 is unused */
    bool frozen[LINKS_NODES_MAX + 1];               /* SIGSTOP: not asked for its status */
    char files[LINKS_NODES_MAX + 1][600], numbers[LINKS_NODES_MAX + 1][8];
    char endpoints[LINKS_NODES_MAX * LINKS_ENDPOINT_BYTES]; /* of all, as jumun_open() takes them */
    int nodes_count, shards;
    struct links *links;
    const char *directory;
};

/* Names everything inside `directory` and writes the nodes' cluster files; starts nothing. */
void cluster_init(struct cluster *c, const char *program, const char *directory, int shards,
                  struct links *links);

/* Adds an option for all nodes. */
void cluster_add_option(struct cluster *c, const char *option, const char *value);

/* Starts all nodes and waits until each shard has a leader that serves. */
void cluster_start(struct cluster *c);
/* SIGTERM to all at once; ends the test unless each exits with 0. */
void cluster_stop(struct cluster *c);
void cluster_kill(struct cluster *c);

/* What a node says of one of its replicas. */
struct cluster_replica {
    bool answered, leads, disk_full; /* leads: as leader, and ready to serve */
    int leader_node;
    uint64_t term, applied_index, commit_index;
};

/* Asks a running node that is not frozen; `answered` is false for others. */
void cluster_ask(struct cluster *c, int node, struct cluster_replica *replicas);

/* Waits for the node that leads a shard and serves. `but` is not looked at (0 = all are). */
int cluster_await_leader(struct cluster *c, int shard, int but);

/* Waits until the node has applied all that is committed now in each shard. */
void cluster_await_caught_up(struct cluster *c, int node);

void cluster_freeze(struct cluster *c, int node);
void cluster_thaw(struct cluster *c, int node);

_Noreturn void cluster_fail(struct cluster *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
