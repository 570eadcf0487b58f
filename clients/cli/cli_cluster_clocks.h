/* Nodes whose clocks differ, by what the nodes of a cluster say of each other. */
#ifndef JUMUN_CLI_CLI_CLUSTER_CLOCKS_H
#define JUMUN_CLI_CLI_CLUSTER_CLOCKS_H

#include "clients/cli/cli_cluster_there.h"

/* Whether the clock of the member at position `at` is the one that is wrong: more than half of the
 * others that tell of it find it so. Of two nodes each is. `statuses` and `there` by position in
 * the document. */
bool cluster_clock_fault(const struct cluster_document *d, const struct cluster_status *statuses,
                         const struct cluster_there *there, uint32_t at, char *out, size_t bytes);

#endif
