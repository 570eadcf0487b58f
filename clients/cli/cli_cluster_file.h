/* A cluster that is as a file says (jumund --cluster FILE) has no document, and nothing of `jumun
 * cluster` can change it. Its nodes' STATUS tells who they are and which replicas they have. */
#ifndef JUMUN_CLI_CLI_CLUSTER_FILE_H
#define JUMUN_CLI_CLI_CLUSTER_FILE_H

#include "clients/cli/cli_cluster.h"

#define CLUSTER_FILE_TEXT                                                                          \
    "this cluster is as the file of its nodes says (jumund --cluster FILE): it has no document "   \
    "that jumun cluster could change"

/* Whether the node at the address is one of such a cluster. */
bool cluster_is_of_file(struct cli *cli, const char *address);

/* What can be told of such a cluster, when a node of --endpoint belongs to one; else NULL. There
 * are no addresses for other nodes in it, no preferred leaders (0), and no servers of a shard of
 * which no node that answers has a replica. Good until the next call. */
const struct cluster_known *cluster_file_read(struct cli *cli);

#endif
