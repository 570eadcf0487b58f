/* What the tests of the cluster document share: one document, commands by name, and every event
 * applied a second time to a block of its own, which must come out the same. */
#ifndef JUMUN_TESTS_CLUSTER_WORLD_H
#define JUMUN_TESTS_CLUSTER_WORLD_H

#include "actors/cluster/cluster_layout.h"

enum { CLUSTER_WORLD_NOW = 1000000000 };

struct cluster_world {
    struct actor *cluster;       /* NULL = not formed */
    struct actor *replayed;      /* the same from the events alone */
    int64_t now_ms;
    uint64_t index;
    uint32_t id_last;
    uint8_t event_kind;          /* of the last command; 0 = none */
};

void cluster_world_init(struct cluster_world *w);
void cluster_world_fini(struct cluster_world *w);

/* The document; the world is formed. */
const struct cluster_document *cluster_world_document(const struct cluster_world *w);

/* A command with an id of its own. */
struct command cluster_world_command(struct cluster_world *w, uint8_t kind);

/* Decides and applies, checks all that must always hold, and returns the decision. */
struct decision cluster_world_run(struct cluster_world *w, const struct command *command);

/* A form command over nodes 1 .. count, with addresses by number; lists live until the next one. */
struct command cluster_world_form(struct cluster_world *w, uint32_t nodes, uint32_t shards,
                                  uint32_t replicas);
/* Runs it; it has to succeed. */
void cluster_world_formed(struct cluster_world *w, uint32_t nodes, uint32_t shards,
                          uint32_t replicas);

/* The addresses of node number n; they live until the program ends. */
struct bytes cluster_world_peer(uint32_t n);
struct bytes cluster_world_client(uint32_t n);

#endif
