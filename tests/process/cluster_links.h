/* The links between the nodes of a cluster on this machine, which a test can cut, one way too, and
 * slow down. Made in one of two ways; the tests are the same:
 *
 *   namespaces   each node in a network namespace of its own, a veth pair between any two; a cut
 *                link sends its frames to an address that nobody has (silence, as in a real cut).
 *                Needs the right to make namespaces and the program `ip`; nothing of it outlives
 *                the test. A delay needs the kernel's netem as well.
 *   proxy        all nodes on loopback; a thread of the test carries what one node sends to another
 *                one. A cut link is held: connections stay, nothing passes.
 *
 * Place 0 is the test itself with its clients, which reach every node; places 1.. are the nodes.
 * One thread at a time. Errors end the test. */
#ifndef JUMUN_TESTS_CLUSTER_LINKS_H
#define JUMUN_TESTS_CLUSTER_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LINKS_NODES_MAX = 5, LINKS_ENDPOINT_BYTES = 64 };

struct links;

/* The two ways. Both leave all links whole and undelayed. */
struct links_ways {
    const char *name;
    /* NULL when this machine does not allow it; `reason` says why. Before the first thread. */
    struct links *(*open)(int nodes, int shards, char *reason, size_t reason_bytes);
    void (*close)(struct links *links);
    /* Descriptor of the namespace in which a node runs; 0 = none. Stays the links'. */
    int (*network)(const struct links *links, int node);
    /* How node `from` has to call node `to` for what nodes say to each other. */
    void (*peer_endpoint)(const struct links *links, int from, int to, char *endpoint);
    void (*client_endpoint)(const struct links *links, int node, char *endpoint);
    void (*set_cut)(struct links *links, int from, int to, bool is_cut);
    /* Every message from a node to another one takes so long. False when that cannot be done. */
    bool (*set_delay)(struct links *links, int64_t delay_us);
};

extern const struct links_ways links_namespaces, links_proxy;

struct links { const struct links_ways *ways; int nodes; };

/* `name` "namespaces" or "proxy"; NULL = JUMUN_TEST_LINKS, or the first one that works. Prints
 * which one it is. Before the first thread. */
struct links *links_open(const char *name, int nodes, int shards);

/* Both ways between `node` and each other node that is not in `with` (bit n = node n). */
void links_part(struct links *links, int node, uint32_t with, bool is_cut);
void links_heal(struct links *links);

#endif
