/* What jumund does instead of serving: waiting for a cluster (--cluster-wait). */
#ifndef JUMUN_NODE_NODE_WAITING_H
#define JUMUN_NODE_NODE_WAITING_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/node/config.h"

/* Whether the directory belongs to a cluster that a document describes: then there is nothing to
 * wait for. */
bool node_is_adopted(const struct config *config);

/* Whether a crash has cut its adoption short behind the step that makes it one of the cluster's
 * nodes: node_wait() finishes it at once. */
bool node_is_nearly_adopted(const struct config *config);

/* Listens until the node is taken into a cluster: EXIT_DONE with *adopted, and node_start() makes
 * it serve, at the address that it waited at (port 0 in config->listen has become a number);
 * EXIT_DONE without, when `stopped` said so; or another exit code with a sentence in error. */
int node_wait(struct config *config, bool (*stopped)(void *arg), void *arg, bool *adopted,
              char *error, size_t error_bytes);

#endif
