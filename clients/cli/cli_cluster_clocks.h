/* Nodes whose clocks differ, by what the nodes of a cluster say of each other. */
#ifndef JUMUN_CLI_CLI_CLUSTER_CLOCKS_H
#define JUMUN_CLI_CLI_CLUSTER_CLOCKS_H

#include "clients/cli/cli_cluster_there.h"

/* Whether the clock of the member at position `at` is the one that is wrong: of those that tell of
 * it and itself more than half find it so. `statuses` and `there` by position in the document. */
bool cluster_clock_fault(const struct cluster_document *d, const struct cluster_status *statuses,
                         const struct cluster_there *there, uint32_t at, char *out, size_t bytes);

/* Whether two clocks differ: for where no member's is the wrong one, as with two nodes. */
bool cluster_clocks_differ(const struct cluster_document *d, const struct cluster_status *statuses,
                           const struct cluster_there *there, char *out, size_t bytes);

#endif
