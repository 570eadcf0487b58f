/* Replicas of a cluster that are damaged on their nodes' disks, as these nodes say themselves. */
#ifndef JUMUN_CLI_CLI_CLUSTER_DAMAGE_H
#define JUMUN_CLI_CLI_CLUSTER_DAMAGE_H

#include "clients/cli/cli_cluster_there.h"

/* Whether the replica of the shard on the member, both by their positions in the document, is
 * damaged: a sentence with what to do. `statuses` and `there` by position of the member. */
bool cluster_damage_fault(const struct cluster_document *d, const struct cluster_status *statuses,
                          const struct cluster_there *there, uint32_t node_at, uint32_t shard_at,
                          char *out, size_t bytes);

#endif
